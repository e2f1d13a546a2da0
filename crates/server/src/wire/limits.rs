//! Limits of one client connection. Each is a number with a unit and a reason.

use std::time::Duration;

/// Longest startup packet, in bytes: what PostgreSQL accepts (`MAX_STARTUP_PACKET_LENGTH`).
pub const MAX_STARTUP_BYTES: usize = 10_000;

/// Longest password or SASL message, in bytes. PostgreSQL allows 65,535.
pub const MAX_AUTH_BYTES: usize = 65_535;

/// Longest message of the kinds that carry no statement text, parameters or data (Sync, Close,
/// Describe, Execute …), in bytes. PostgreSQL's own bound.
pub const MAX_SMALL_MESSAGE_BYTES: usize = 10_000;

/// Default for the longest Query, Parse, Bind or CopyData message, in bytes. PostgreSQL's bound is
/// 1 GiB; a quarter keeps one client from filling a small machine's memory.
pub const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// First size of a connection's read buffer, in bytes: several point statements.
pub const READ_BUFFER_BYTES: usize = 8 << 10;

/// Bytes asked of the socket at once while a long message arrives.
pub const READ_CHUNK_BYTES: usize = 64 << 10;

/// A read or write buffer that grew beyond this many bytes is given back once it is empty, so that
/// a thousand idle connections do not each keep the memory of their largest message.
pub const KEPT_BUFFER_BYTES: usize = 64 << 10;

/// Answers are sent once this many bytes wait, and the rows' source is not asked for more until the
/// socket took them: the back-pressure of a slow client.
pub const FLUSH_BYTES: usize = 64 << 10;

/// Most bytes a client may send ahead while its statement runs, before the socket is left unread.
pub const MAX_READ_AHEAD_BYTES: usize = 1 << 20;

/// CopyData messages are handed on in pieces of about this many bytes: psql sends one per line.
pub const COPY_BATCH_BYTES: usize = 64 << 10;

/// Time from accept to a finished authentication. PostgreSQL's `authentication_timeout`.
pub const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection that is about to close waits for its last message to leave.
pub const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
