//! The program as its users meet it: a process with arguments, signals, ports and a folder.
//!
//! Every wait has a deadline and waits for a condition; nodes listen on ports that the system chooses
//! and end with the test that started them.

#![allow(
    clippy::disallowed_methods,
    reason = "tests run on the real clock and real sockets"
)]

mod cluster;
mod corruption;
mod full_disk;
mod lifecycle;
mod node;
mod operate;
mod proxy;
mod refusals;
mod repair;
