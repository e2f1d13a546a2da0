//! Questions to a lease holder and its answers, in our own encoding.
//!
//! | frame    | bytes                                                                                   |
//! | -------- | --------------------------------------------------------------------------------------- |
//! | request  | kind 1, the asker's hybrid logical time 8, then the fields of [`Request`] in their order |
//! | answer   | the store's hybrid logical time 8, when the catalog changed last 8, outcome 1, its fields |
//! | notice   | kind 1, then the fields of [`Notice`] in their order                                     |
//!
//! Numbers are varints, timestamps 8 bytes little-endian, transactions 16 bytes, texts and keys a length and
//! their bytes, lists a count and their items, what may be missing 0 or 1 and the value. A frame has no
//! checksum of its own: the transport has one. A frame with bytes too few or too many is malformed as a whole.
//!
//! Deadlines are sent as the time that is left, because two nodes' monotonic clocks have nothing in common.
//!
//! A commit names its transaction, so a later version can ask a shard's new lease holder what became of it.

mod answer;
mod failure;
mod fields;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{Outcome, Response, Stamp, decode_answer, encode_answer};
pub(crate) use failure::{failure, put_failure};
pub use request::{
    Notice, Patience, Request, decode_notice, decode_request, encode_notice, encode_request,
};
