//! The read side of a connection: bytes from the socket, cut into frames.

use crate::wire::frontend::{self, Frame};
use crate::wire::limits::{
    KEPT_BUFFER_BYTES, MAX_SMALL_MESSAGE_BYTES, READ_BUFFER_BYTES, READ_CHUNK_BYTES,
};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};
use types::{Error, Result, SqlState};

/// A frame's header: type byte and length.
const HEADER_BYTES: usize = 5;
/// A whole Sync.
const SYNC: [u8; HEADER_BYTES] = [b'S', 0, 0, 0, 4];

pub struct Input {
    buffer: BytesMut,
    /// Longest message of the kinds that carry data, in bytes.
    max_message_bytes: usize,
    /// The client closed its side.
    at_end: bool,
}

impl Input {
    pub fn new(max_message_bytes: usize) -> Self {
        Input {
            buffer: BytesMut::with_capacity(READ_BUFFER_BYTES),
            max_message_bytes,
            at_end: false,
        }
    }

    /// Bytes received and not yet taken.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// All that was received and not yet taken.
    pub fn take_rest(&mut self) -> BytesMut {
        self.buffer.split()
    }

    /// Whether the client has closed its side of the connection.
    pub fn at_end(&self) -> bool {
        self.at_end
    }

    /// Waits for more bytes. `false`: the client is gone. Dropping the future loses nothing.
    pub async fn fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<bool> {
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BUFFER_BYTES {
            self.buffer = BytesMut::with_capacity(READ_BUFFER_BYTES);
        }
        if self.buffer.capacity() - self.buffer.len() < READ_BUFFER_BYTES / 2 {
            let more = if self.buffer.len() > READ_BUFFER_BYTES {
                READ_CHUNK_BYTES
            } else {
                READ_BUFFER_BYTES
            };
            self.buffer.reserve(more);
        }
        let read = stream.read_buf(&mut self.buffer).await;
        self.at_end |= !matches!(read, Ok(1..));
        Ok(read? > 0)
    }

    /// The next whole frame of an established connection, if it is here.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            // A type byte that cannot be is told at once, not when four more have come.
            return match self.buffer.first() {
                Some(tag) if !frontend::is_known(*tag) => Err(frontend::invalid_type(*tag)),
                _ => Ok(None),
            };
        };
        let [tag, length @ ..] = *header;
        if !frontend::is_known(tag) {
            return Err(frontend::invalid_type(tag));
        }
        let limit = if frontend::may_be_long(tag) {
            self.max_message_bytes
        } else {
            MAX_SMALL_MESSAGE_BYTES
        };
        Ok(self
            .take(1, u32::from_be_bytes(length), limit)?
            .map(|body| Frame { tag, body }))
    }

    /// Whether the next frame is here, and is Sync. `false`: perhaps it is on its way.
    pub fn sync_is_next(&self) -> bool {
        self.buffer.starts_with(&SYNC)
    }

    /// The next password or SASL message, if it is here.
    pub fn next_auth(&mut self, limit: usize) -> Result<Option<Bytes>> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [tag, length @ ..] = *header;
        if tag != b'p' {
            return Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                format!("expected password response, got message type {tag}"),
            ));
        }
        self.take(1, u32::from_be_bytes(length), limit)
    }

    /// The next packet without a type byte: those of the startup phase.
    pub fn next_startup(&mut self, limit: usize) -> Result<Option<Bytes>> {
        let Some(length) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length);
        if length < 8 || length as usize > limit {
            return Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                "invalid length of startup packet",
            ));
        }
        self.take(0, length, limit)
    }

    /// Takes a frame whose length field (which counts itself) stands at `prefix`.
    fn take(&mut self, prefix: usize, length: u32, limit: usize) -> Result<Option<Bytes>> {
        let length = length as usize;
        if length < 4 || length > limit {
            return Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "invalid message length {length}: this message may have 4 to {limit} bytes"
                ),
            ));
        }
        if self.buffer.len() < prefix + length {
            return Ok(None);
        }
        self.buffer.advance(prefix + 4);
        Ok(Some(self.buffer.split_to(length - 4).freeze()))
    }
}
