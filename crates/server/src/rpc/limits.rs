//! Limits of the network between nodes. Each is a number with a unit and a reason.

use std::time::Duration;

/// Longest body of a message, a request or an answer, in bytes: a chunk of a snapshot is some MiB.
pub const MAX_BODY_BYTES: usize = 32 << 20;

/// Bodies longer than this many bytes travel in pieces, so that a small one waits for a piece and not
/// for megabytes. At 1 Gbit/s a piece takes half a millisecond.
pub const PIECE_BYTES: usize = 64 << 10;

/// Longest frame before both sides have agreed to talk, in bytes: strangers get no memory.
pub const MAX_HANDSHAKE_FRAME_BYTES: usize = 4 << 10;

/// Most bytes of unfinished bodies that a connection keeps: two of the longest in each direction of
/// use, messages and calls.
pub const MAX_UNFINISHED_BYTES: usize = 4 * MAX_BODY_BYTES;

/// Most unfinished bodies of a connection: every call it may have going, in both roles.
pub const MAX_UNFINISHED_BODIES: usize = 2 * MAX_SERVED_CALLS;

/// Most bytes handed to the socket at once.
pub const WRITE_BYTES: usize = 256 << 10;

/// Bytes asked of the socket at once.
pub const READ_BYTES: usize = 64 << 10;

/// A write buffer that grew beyond this many bytes is given back once it is empty.
pub const KEPT_BUFFER_BYTES: usize = 64 << 10;

/// Most calls of one connection that the other side carries out at a time. More are turned away, so that
/// a flood costs the flooding node and not its victim's memory.
pub const MAX_SERVED_CALLS: usize = 4096;

/// Most peers with a connection. Beyond it addresses are not learned.
pub const MAX_PEERS: usize = 1024;

/// Most connections that others may have open here: each peer's, and calls of nodes that join.
pub const MAX_ACCEPTED: usize = 2 * MAX_PEERS;

/// Longest reason of a refusal or a failed call, in bytes; the rest is cut off.
pub const MAX_REASON_BYTES: usize = 1024;

/// Longest address in a handshake, in bytes: a DNS name has 253, a port five.
pub const MAX_ADDRESS_BYTES: usize = 300;

/// Bytes that the kernel may hold of what a connection has not sent yet. What is queued behind them can
/// still be overtaken by what is more urgent.
pub const UNSENT_BYTES: u32 = 128 << 10;

/// How long a side that refused waits for the other one to have read why.
pub const LINGER: Duration = Duration::from_millis(500);

/// The same complaint is logged once in this time; a peer that is refused comes back every second.
pub const REPEATED_LOG: Duration = Duration::from_secs(60);

/// After an accept failed for want of file descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a transport may keep and how long it waits. Tests make them small.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of bodies that may wait for one peer: two snapshot chunks of the longest kind, or a second
    /// of a fast network.
    pub queue_bytes: usize,
    /// Messages and requests that may wait for one peer.
    pub queue_items: usize,
    /// Calls of one peer that may wait for their answer.
    pub pending_calls: usize,
    /// From the first packet to the other side's consent. A peer that is off the network costs its callers this.
    pub handshake: Duration,
    /// After the first attempt that failed; doubles with each further one.
    pub backoff_first: Duration,
    /// Longest wait between two attempts: a peer that is back is found within this.
    pub backoff_longest: Duration,
    /// A side that heard nothing or said nothing for this long asks for a sign of life.
    pub ping_every: Duration,
    /// A connection that was silent for this long is dead. Longer than any pause of a healthy process.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            queue_bytes: 2 * MAX_BODY_BYTES,
            queue_items: 64 << 10,
            pending_calls: MAX_SERVED_CALLS,
            handshake: Duration::from_secs(3),
            backoff_first: Duration::from_millis(20),
            backoff_longest: Duration::from_secs(1),
            ping_every: Duration::from_secs(1),
            silence: Duration::from_secs(5),
        }
    }
}

/// A reason, not longer than [`MAX_REASON_BYTES`].
pub fn cut(why: &str) -> &str {
    let mut end = why.len().min(MAX_REASON_BYTES);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    &why[..end]
}
