//! One test binary for what no single crate can show.

#![allow(
    clippy::disallowed_methods,
    reason = "tests run on the real clock and real threads"
)]

mod actions;
mod gateways;
mod retries;
mod slt;
