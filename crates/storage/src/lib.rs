//! Storage: an ordered key-value engine, and multi-version data upon it.
pub mod engine;
