//! Logs go to stderr; stdout is for answers.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Switches logging on for the process. `filter` is a level or a `tracing` filter.
pub fn install(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter}: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(|error| error.to_string())
}
