//! PostgreSQL's wire protocol, version 3.0 (PostgreSQL manual, "Frontend/Backend Protocol").
//!
//! A connection is one task with one read buffer and one write buffer ([`io::Io`]):
//!
//! ```text
//! accept ─► startup ─► (TLS) ─► (SCRAM) ─► session ─► conversation ─► close
//!              └─► cancel request ─► close
//! ```
//!
//! - [`input`] cuts the bytes into frames, [`frontend`] decodes a frame without copying.
//! - [`backend`] writes messages straight into the write buffer, [`rows`] the DataRows.
//! - [`startup`], [`scram`] and [`connection`] lead to a session; `conversation` and `copy`
//!   talk about statements.
//!
//! The loop is generic over its transport, so tests run it over a pipe in memory.
//!
//! Invariant: bytes from a client never cause a panic. A malformed body is 08P01 and the
//! conversation goes on; a frame that has no end is 08P01 and the connection closes.
//! Invariant: the write buffer never holds part of a message outside of an encoder.
//!
//! Not spoken: protocol 2, GSSAPI encryption, the function call message, replication.

pub mod backend;
pub mod connection;
mod conversation;
mod copy;
pub mod frontend;
pub mod input;
pub mod io;
pub mod limits;
pub mod rows;
pub mod scram;
mod server;
pub mod startup;
pub mod stream;
#[cfg(test)]
mod tests;

pub use server::{WireServer, is_loopback};
