//! A disk that can be filled up: a small file system in memory, mounted as a node's data folder.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::peer::quietly;

/// Written at a time while the disk is filled, in bytes.
const FILL_STEP: usize = 1 << 20;
/// The last bytes are taken in small pieces, so that really nothing is left.
const LAST_STEP: usize = 1 << 12;

/// A mounted disk; it is unmounted when this is dropped, by then nobody may use it.
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts an empty disk of that size at a folder (needs root).
    pub fn mount(folder: &Path, mebibytes: u32) -> Result<SmallDisk> {
        fs::create_dir_all(folder)?;
        quietly(
            Command::new("mount")
                .args([
                    "-t",
                    "tmpfs",
                    "-o",
                    &format!("size={mebibytes}m"),
                    "phantomdb",
                ])
                .arg(folder),
        )
        .context("a small disk needs root")?;
        Ok(SmallDisk {
            folder: folder.to_owned(),
        })
    }

    /// Takes all the space that is left; gives how much it was.
    pub fn fill(&self) -> Result<u64> {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())?;
        let zeros = vec![0; FILL_STEP];
        let mut written = 0;
        for step in [FILL_STEP, LAST_STEP] {
            while ballast.write_all(&zeros[..step]).is_ok() {
                written += step as u64;
            }
        }
        Ok(written)
    }

    /// Gives the space back.
    pub fn empty(&self) -> Result<()> {
        match fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.folder)
            .status();
    }
}
