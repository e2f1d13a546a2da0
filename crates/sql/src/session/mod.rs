//! A session.

pub mod settings;
pub(crate) mod settings_table;
