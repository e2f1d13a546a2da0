//! One process per data folder.
//!
//! The lock is the operating system's (`flock`), so it ends with its process, however that ends. The
//! file's text only says who holds it; a text left by a dead process means nothing.

use crate::engine::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

const LOCK_FILE: &str = "LOCK";
/// More than any holder's line.
const HOLDER_BYTES: u64 = 512;

pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    pub fn acquire(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK_FILE);
        let failed = |error: std::io::Error| Error::Io(format!("{}: {error}", path.display()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.take(HOLDER_BYTES).read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process",
                    line => line,
                };
                return Err(Error::Locked(format!(
                    "{} is held by {holder}",
                    folder.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let host = rustix::system::uname();
        let holder = format!(
            "process {} on host {}\n",
            std::process::id(),
            host.nodename().to_string_lossy()
        );
        // A full disk must not keep a node from starting to read: the text is a courtesy.
        let written = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(holder.as_bytes()));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot name the holder in the lock file");
        }
        Ok(FolderLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOCK_FILE), "process 1 on host gone\n").unwrap();
        let first = FolderLock::acquire(folder.path()).unwrap();
        let Err(Error::Locked(message)) = FolderLock::acquire(folder.path()) else {
            panic!("locked twice");
        };
        assert!(
            message.contains(&format!("process {} on host", std::process::id())),
            "{message}"
        );
        drop(first);
        FolderLock::acquire(folder.path()).unwrap();
    }
}
