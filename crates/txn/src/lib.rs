//! Transactions.
pub mod kv;
