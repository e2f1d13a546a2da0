//! Frames: how bytes on a connection between nodes are cut.
//!
//! ```text
//! length u32 │ crc u32 │ kind u8 │ id u64 │ body
//!            │         └──── length bytes ──────
//!            └─ CRC-32 of those bytes; 0 under TLS, which has a stronger check of its own
//! ```
//!
//! Numbers are little-endian. The highest bit of `kind` says that more pieces of the same body follow.

use crate::rpc::limits::PIECE_BYTES;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// `length` and `crc`.
const PREFIX_BYTES: usize = 8;
/// `kind` and `id`.
const HEADER_BYTES: usize = 9;
const MORE: u8 = 0x80;

/// The longest `length` of a frame with a piece of a body.
pub const MAX_FRAME_BYTES: usize = HEADER_BYTES + PIECE_BYTES;

/// What a TLS record of a handshake or an alert begins with: the other side speaks TLS, and we don't.
const TLS_RECORDS: [u8; 2] = [0x15, 0x16];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Who dials, and what for.
    Hello = 1,
    /// Who answers.
    Welcome = 2,
    /// The dialling side agrees.
    Ready = 3,
    /// No, with the reason as text.
    Refused = 4,
    Message = 5,
    Request = 6,
    Answer = 7,
    /// The request was not carried out; the reason as text.
    TurnedAway = 8,
    /// The request has no answer, and may have been carried out; the reason as text.
    Failed = 9,
    Ping = 10,
    Pong = 11,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Hello,
            2 => Kind::Welcome,
            3 => Kind::Ready,
            4 => Kind::Refused,
            5 => Kind::Message,
            6 => Kind::Request,
            7 => Kind::Answer,
            8 => Kind::TurnedAway,
            9 => Kind::Failed,
            10 => Kind::Ping,
            11 => Kind::Pong,
            _ => return None,
        })
    }
}

/// One frame, or a whole body once its pieces are together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    /// Further pieces follow.
    pub more: bool,
    /// Which call; 0 for what is no call.
    pub id: u64,
    pub body: Bytes,
}

/// Bytes that are no frame. The connection cannot go on: where the next frame begins is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("the other side speaks TLS, and this node has no certificates")]
    Tls,
    #[error("a frame of {length} bytes, where {longest} is the most")]
    TooLong { length: usize, longest: usize },
    #[error("a frame of {0} bytes is too short")]
    TooShort(usize),
    #[error("a frame was damaged on its way (CRC-32)")]
    Damaged,
    #[error("a frame of unknown kind {0}")]
    UnknownKind(u8),
    #[error("pieces of bodies that are longer than {0} bytes")]
    BodyTooLong(usize),
    #[error("pieces of more than {0} bodies at a time")]
    TooManyBodies(usize),
}

/// Writes and reads frames.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    /// Off under TLS.
    pub checksums: bool,
}

impl Codec {
    /// Appends a frame. `body` has at most [`PIECE_BYTES`].
    pub fn encode(self, kind: Kind, more: bool, id: u64, body: &[u8], out: &mut BytesMut) {
        assert!(body.len() <= PIECE_BYTES, "bodies are cut into pieces");
        out.reserve(PREFIX_BYTES + HEADER_BYTES + body.len());
        let start = out.len();
        out.put_u32_le((HEADER_BYTES + body.len()) as u32);
        out.put_u32_le(0);
        out.put_u8(kind as u8 | if more { MORE } else { 0 });
        out.put_u64_le(id);
        out.put_slice(body);
        if self.checksums {
            let crc = crc32fast::hash(&out[start + PREFIX_BYTES..]);
            out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        }
    }

    /// Takes the next frame off `input`, or nothing while it is incomplete. `longest` bounds `length`.
    pub fn decode(self, input: &mut BytesMut, longest: usize) -> Result<Option<Frame>, FrameError> {
        let Some(&length) = input.first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(length) as usize;
        if length > longest {
            // A TLS record: its type, the version 3.x.
            if TLS_RECORDS.contains(&input[0]) && input[1] == 3 && self.checksums {
                return Err(FrameError::Tls);
            }
            return Err(FrameError::TooLong { length, longest });
        }
        if length < HEADER_BYTES {
            return Err(FrameError::TooShort(length));
        }
        if input.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        let mut frame = input.split_to(PREFIX_BYTES + length).freeze();
        frame.advance(4);
        let crc = frame.get_u32_le();
        if self.checksums && crc != crc32fast::hash(&frame) {
            return Err(FrameError::Damaged);
        }
        let kind = frame.get_u8();
        let id = frame.get_u64_le();
        Ok(Some(Frame {
            kind: Kind::from_byte(kind & !MORE).ok_or(FrameError::UnknownKind(kind & !MORE))?,
            more: kind & MORE != 0,
            id,
            body: frame,
        }))
    }
}
