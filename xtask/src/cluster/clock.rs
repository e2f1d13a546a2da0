//! Clocks that jump, for one process at a time: libfaketime between the program and the C library.
//!
//! The library reads the offset from a file at each call, so that a running process can be moved. Only the wall
//! clock is moved; the monotonic clock goes on, as it does on a machine whose time is set.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::peer::Place;

/// Where Debian puts the library for programs with threads.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// The wall clock of one node.
#[derive(Clone, Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Puts the process that will be started at `place` under a clock of its own, which is right at first.
    pub fn install(place: &mut Place, file: &Path) -> Result<Clock> {
        let library = LIBRARIES
            .iter()
            .find(|path| Path::new(path).exists())
            .context("no libfaketime (apt-get install faketime)")?;
        let clock = Clock {
            file: file.to_owned(),
        };
        clock.set(0)?;
        for (name, value) in [
            ("LD_PRELOAD", *library),
            ("FAKETIME_TIMESTAMP_FILE", &file.to_string_lossy()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ] {
            place.environment.push((name.to_owned(), value.to_owned()));
        }
        Ok(clock)
    }

    /// Lets the clock differ from the machine's by that much from now on.
    pub fn set(&self, offset_millis: i64) -> Result<()> {
        // Written beside and moved, so that no reader sees half a number.
        let beside = self.file.with_extension("new");
        fs::write(&beside, format!("{:+.3}\n", offset_millis as f64 / 1000.0))?;
        fs::rename(&beside, &self.file)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_by_its_own_clock() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut place = Place::on_loopback([1, 2, 3]);
        let Ok(clock) = Clock::install(&mut place, &folder.path().join("clock")) else {
            return; // The library is not on this machine.
        };
        let seconds = || -> i64 {
            let mut command = place.command(Path::new("/bin/date"), "KILL");
            let output = command.arg("+%s").output().expect("date runs");
            String::from_utf8_lossy(&output.stdout)
                .trim()
                .parse()
                .expect("a number")
        };
        let before = seconds();
        clock.set(-100_000).expect("the clock is set");
        let moved = before - seconds();
        assert!((90..=100).contains(&moved), "moved by {moved} s");
    }
}
