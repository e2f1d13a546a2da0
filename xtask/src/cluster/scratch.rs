//! The folder of a run: data folders, logs, and what is left of them when something fails.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::peer::{cache_folder, readable_by_all};

/// A folder that goes with the run, unless the run fails: then the logs stay.
pub struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// A new folder below `dir`, or below the folder of downloads and caches.
    pub fn open(task: &str, dir: Option<PathBuf>) -> Result<Scratch> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{task}-"))
            .tempdir_in(dir.map_or_else(cache_folder, Ok)?)?;
        readable_by_all(folder.path())?;
        Ok(Scratch { folder })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Removes the folder if the outcome is good. Else says where the logs are, and removes the data folders
    /// unless they are to be kept.
    pub fn close(self, outcome: Result<bool>, keep_data: bool) -> Result<bool> {
        if matches!(outcome, Ok(true)) {
            return outcome;
        }
        let folder = self.folder.keep();
        if !keep_data {
            for entry in fs::read_dir(&folder)?.flatten() {
                if entry.path().is_dir() {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
        println!("logs: {}", folder.display());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_leaves_its_logs_and_a_good_one_nothing() {
        for (passed, left) in [(true, false), (false, true)] {
            let scratch = Scratch::open("scratch-test", None).expect("a folder");
            let folder = scratch.path().to_owned();
            fs::write(folder.join("node1.log"), "ready").expect("a log");
            fs::create_dir(folder.join("node1")).expect("a data folder");
            let outcome = scratch.close(Ok(passed), false).expect("it closes");
            assert_eq!(outcome, passed);
            assert_eq!(folder.join("node1.log").exists(), left);
            assert!(!folder.join("node1").exists());
            let _ = fs::remove_dir_all(folder);
        }
    }
}
