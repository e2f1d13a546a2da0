//! A session.

pub mod settings;
mod settings_table;
