//! Follows a conversation by the headers of its frames, without copying it.
//!
//! A message is a type byte, a length of four bytes that counts itself, and a body (PostgreSQL manual,
//! "Message Formats"). [`Frames`] cuts one direction's bytes, in whatever pieces they come, into [`Piece`]s of
//! messages. [`Watch`] follows both directions and knows what the proxy needs to know:
//!
//! - whether the session is idle: outside of a transaction, and no message of the client is unanswered;
//! - whether what the node said so far ends with a whole message, so that another can follow;
//! - the session's key for cancel requests (BackendKeyData).
//!
//! How many answers are owed: each Query, Sync and FunctionCall is answered by one ReadyForQuery, except
//! that a node which copies in ignores Syncs, so at CopyInResponse the count begins anew. Where that is not
//! exact, a session counts as busy: it is left alone then.

use crate::proxy::limits::MAX_CANCEL_KEY_BYTES;

const HEADER_BYTES: usize = 5;

/// A part of a message, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    pub tag: u8,
    pub body: &'a [u8],
    /// It is the message's beginning.
    pub first: bool,
    /// It is the message's end.
    pub last: bool,
}

/// One direction of a conversation. See the module.
#[derive(Debug, Default)]
pub struct Frames {
    header: [u8; HEADER_BYTES],
    /// As many bytes of the open message's header have come.
    have: usize,
    /// As many bytes of its body have come.
    seen: usize,
    /// As many are still to come.
    left: usize,
    /// A length that cannot be: nothing after it has a meaning.
    broken: bool,
}

impl Frames {
    /// Takes the next piece off `bytes`. None: they are used up.
    #[inline]
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        if bytes.is_empty() || self.broken {
            return None;
        }
        let first = self.have < HEADER_BYTES;
        if first && !self.take_header(bytes) {
            return None;
        }
        let (body, rest) = bytes.split_at(self.left.min(bytes.len()));
        *bytes = rest;
        self.left -= body.len();
        self.seen += body.len();
        let last = self.left == 0;
        if last {
            self.have = 0;
        }
        Some(Piece {
            tag: self.header[0],
            body,
            first,
            last,
        })
    }

    /// Whether the header is whole now.
    #[inline]
    fn take_header(&mut self, bytes: &mut &[u8]) -> bool {
        let take = (HEADER_BYTES - self.have).min(bytes.len());
        let (head, rest) = bytes.split_at(take);
        self.header[self.have..self.have + take].copy_from_slice(head);
        self.have += take;
        *bytes = rest;
        if self.have < HEADER_BYTES {
            return false;
        }
        let [_, length @ ..] = self.header;
        match (u32::from_be_bytes(length) as usize).checked_sub(4) {
            Some(left) => (self.left, self.seen) = (left, 0),
            None => self.broken = true,
        }
        !self.broken
    }

    /// As many bytes of an unfinished message have come. None: nothing is known any more.
    pub fn unfinished(&self) -> Option<usize> {
        match (self.broken, self.have) {
            (true, _) => None,
            (false, 0) => Some(0),
            (false, HEADER_BYTES) => Some(HEADER_BYTES + self.seen),
            (false, have) => Some(have),
        }
    }
}

/// Both directions of a conversation. See the module.
#[derive(Debug, Default)]
pub struct Watch {
    from_client: Frames,
    from_node: Frames,
    /// The conversation is encrypted from end to end: nothing of it is known.
    opaque: bool,
    /// ReadyForQuery messages that the client waits for.
    owed: u32,
    /// The session has been ready once: it is past authentication.
    started: bool,
    idle: bool,
    /// The body of BackendKeyData, as far as it has come.
    key: Vec<u8>,
    key_is_whole: bool,
    /// The type of the last whole message of the node.
    last_said: u8,
    /// The client has said that it leaves.
    terminated: bool,
}

impl Watch {
    /// Of a conversation that cannot be read.
    pub fn opaque() -> Self {
        Watch {
            opaque: true,
            ..Watch::default()
        }
    }

    /// The client has sent this.
    #[inline]
    pub fn client_sent(&mut self, mut bytes: &[u8]) {
        self.idle = false;
        if self.opaque {
            return;
        }
        while let Some(piece) = self.from_client.next(&mut bytes) {
            if piece.first {
                match piece.tag {
                    b'Q' | b'S' | b'F' => self.owed = self.owed.saturating_add(1),
                    b'X' => self.terminated = true,
                    _ => {}
                }
            }
        }
    }

    /// The node has sent this.
    #[inline]
    pub fn node_sent(&mut self, mut bytes: &[u8]) {
        if self.opaque {
            return;
        }
        while let Some(piece) = self.from_node.next(&mut bytes) {
            match piece.tag {
                b'Z' => self.ready(piece),
                // CopyInResponse, CopyBothResponse.
                b'G' | b'W' if piece.last => self.owed = 0,
                b'K' if !self.started => self.key_part(piece),
                _ => {}
            }
            if piece.last {
                self.last_said = piece.tag;
            }
        }
    }

    /// ReadyForQuery: one byte of body, the state of the transaction.
    fn ready(&mut self, piece: Piece<'_>) {
        let Some(status) = piece.body.first() else {
            return;
        };
        if self.started {
            self.owed = self.owed.saturating_sub(1);
        }
        // The first one ends the startup, which no counted message began.
        self.started = true;
        self.idle = *status == b'I' && self.owed == 0;
    }

    fn key_part(&mut self, piece: Piece<'_>) {
        if piece.first {
            self.key.clear();
        }
        if self.key.len() + piece.body.len() <= MAX_CANCEL_KEY_BYTES {
            self.key.extend_from_slice(piece.body);
            self.key_is_whole = piece.last;
        }
    }

    /// The session's process id and secret, once.
    pub fn take_key(&mut self) -> Option<Box<[u8]>> {
        let whole = std::mem::take(&mut self.key_is_whole);
        whole.then(|| std::mem::take(&mut self.key).into_boxed_slice())
    }

    /// Outside of a transaction, and nothing is asked.
    pub fn is_idle(&self) -> bool {
        self.idle && self.from_node.unfinished() == Some(0)
    }

    /// As many bytes of an unfinished message has the node sent. None: nothing is known of that.
    pub fn unfinished(&self) -> Option<usize> {
        self.from_node.unfinished().filter(|_| !self.opaque)
    }

    /// The node's last message was an error: what it had to say at its end, it has said.
    pub fn ended_in_error(&self) -> bool {
        self.last_said == b'E'
    }

    /// The client has said that it leaves.
    pub fn is_terminated(&self) -> bool {
        self.terminated
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
