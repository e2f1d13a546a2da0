//! Process ids, signals and `/proc`, by files and small programs (no `unsafe`).

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A command that the kernel ends with `signal` when the thread that starts it ends.
pub fn tied_to_this_task(program: &Path, signal: &str) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if setpriv.exists() {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", signal, "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// A command that is ended when it takes longer: a server that hangs must not hang the task. Its exit code is
/// then [`OUT_OF_TIME`].
pub fn within(limit: Duration, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command
        .arg("--kill-after=5")
        .arg(limit.as_secs().to_string())
        .arg(program);
    command
}

/// What coreutils' `timeout` exits with.
pub const OUT_OF_TIME: i32 = 124;

/// Sends a signal; a process that has ended already is not an error.
pub fn signal(name: &str, pids: &[u32]) {
    if pids.is_empty() {
        return;
    }
    let _ = Command::new("kill")
        .arg(format!("-{name}"))
        .args(pids.iter().map(u32::to_string))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// The ids of the direct children of a process.
pub fn children_of(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| stat_field(*pid, StatField::Parent) == Some(u64::from(parent)))
        .collect()
}

/// Waits until none of the processes runs any more.
pub fn wait_gone(pids: &[u32], timeout: Duration) {
    let deadline = Instant::now() + timeout;
    while Instant::now() < deadline && pids.iter().any(|pid| runs(*pid)) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A process that is there and not only waiting to be reaped.
pub fn runs(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !matches!(after_name(&stat).next(), Some("Z" | "X") | None),
        Err(_) => false,
    }
}

/// Fields of `/proc/PID/stat`, counted from the one after the program's name (see proc(5)).
#[derive(Clone, Copy)]
enum StatField {
    Parent = 1,
    UserTicks = 11,
    SystemTicks = 12,
    /// Of children that have ended and were waited for.
    ChildrenUserTicks = 13,
    ChildrenSystemTicks = 14,
}

fn stat_field(pid: u32, field: StatField) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    after_name(&stat).nth(field as usize)?.parse().ok()
}

/// CPU seconds of a process and its direct children so far, ended ones included.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    use StatField::{ChildrenSystemTicks, ChildrenUserTicks, SystemTicks, UserTicks};
    let own = [UserTicks, SystemTicks];
    let ended = [ChildrenUserTicks, ChildrenSystemTicks];
    let sum = |pid: u32, fields: &[StatField]| -> Option<u64> {
        fields.iter().map(|field| stat_field(pid, *field)).sum()
    };
    let of_process = sum(pid, &own)
        .zip(sum(pid, &ended))
        .context("the process is gone")?;
    // A child that ends meanwhile is not counted; it moves to the ended ones for the next reading.
    let of_children: u64 = children_of(pid)
        .into_iter()
        .filter_map(|child| sum(child, &own))
        .sum();
    Ok((of_process.0 + of_process.1 + of_children) as f64 / ticks_per_second()?)
}

fn ticks_per_second() -> Result<f64> {
    let output = Command::new("getconf").arg("CLK_TCK").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

/// The program's name stands in parentheses and may hold spaces, so the split begins behind it.
fn after_name(stat: &str) -> std::str::SplitWhitespace<'_> {
    stat.rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
}
