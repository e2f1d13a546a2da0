//! Bodies are put together from their pieces.

use crate::rpc::frame::{Frame, FrameError, Kind};
use crate::rpc::limits::{MAX_BODY_BYTES, MAX_UNFINISHED_BODIES, MAX_UNFINISHED_BYTES};
use bytes::BytesMut;
use std::collections::BTreeMap;

/// The unfinished bodies of one connection. The pieces of one body are in order; those of different ones
/// (told apart by kind and id) may be mixed.
#[derive(Default)]
pub struct Pieces {
    unfinished: BTreeMap<(Kind, u64), BytesMut>,
    bytes: usize,
}

impl Pieces {
    /// The whole body, once the last piece is in.
    pub fn add(&mut self, frame: Frame) -> Result<Option<Frame>, FrameError> {
        let key = (frame.kind, frame.id);
        if !frame.more && !self.unfinished.contains_key(&key) {
            return Ok(Some(frame));
        }
        self.bytes += frame.body.len();
        if self.bytes > MAX_UNFINISHED_BYTES {
            return Err(FrameError::BodyTooLong(MAX_UNFINISHED_BYTES));
        }
        if self.unfinished.len() > MAX_UNFINISHED_BODIES {
            return Err(FrameError::TooManyBodies(MAX_UNFINISHED_BODIES));
        }
        let body = self.unfinished.entry(key).or_default();
        if body.len() + frame.body.len() > MAX_BODY_BYTES {
            return Err(FrameError::BodyTooLong(MAX_BODY_BYTES));
        }
        body.extend_from_slice(&frame.body);
        if frame.more {
            return Ok(None);
        }
        let whole = self.unfinished.remove(&key).unwrap_or_default();
        self.bytes -= whole.len();
        Ok(Some(Frame {
            body: whole.freeze(),
            ..frame
        }))
    }
}
