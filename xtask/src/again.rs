//! Tasks that must be built another way than `cargo xtask` is: cargo is called once more, with the same arguments.

use std::env;
use std::process::Command;

use anyhow::{Context, Result};

/// Runs this command again, built with some options of cargo; true if it said so.
pub fn built_with(options: &[&str]) -> Result<bool> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let status = cargo
        .args(["run", "--quiet", "--package", "xtask"])
        .args(options)
        .arg("--")
        .args(env::args_os().skip(1))
        .status()
        .context("cannot run cargo")?;
    Ok(status.success())
}
