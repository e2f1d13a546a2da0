//! Checks of a stopped store's small files, which the LSM engine trusts too much.
//!
//! It reads the list of tables without comparing its checksum, and a keyspace folder without its
//! `current` file it takes for one that was never finished and deletes. Both would end in missing
//! data without an error, so they are looked at first.

use crate::engine::{Error, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_128;

/// Folder of keyspace `n`: `keyspaces/n`. Number 0 is the engine's own.
const KEYSPACES_FOLDER: &str = "keyspaces";
const CURRENT_FILE: &str = "current";
/// Version number, XXH3-128 of that version's file, type of checksum.
const CURRENT_BYTES: usize = 8 + 16 + 1;
const VERSION_FILE: &str = "version";
const VERSION_CONTENT: [u8; 4] = *b"FJL\x03";

/// All files that must exist do, and the lists of tables are what was written.
pub fn check(store: &Path, keyspaces: usize) -> Result<()> {
    let version = read(&store.join(VERSION_FILE))?;
    if version != VERSION_CONTENT {
        return Err(corrupt(&store.join(VERSION_FILE), "unexpected content"));
    }
    for number in 0..=keyspaces {
        let folder = store.join(KEYSPACES_FOLDER).join(number.to_string());
        let path = folder.join(CURRENT_FILE);
        let current = read(&path)?;
        let (Some(version), Some(checksum), CURRENT_BYTES, Some(0)) = (
            current.first_chunk::<8>(),
            current.get(8..).and_then(|rest| rest.first_chunk::<16>()),
            current.len(),
            current.last(),
        ) else {
            return Err(corrupt(&path, "unexpected content"));
        };
        let list = folder.join(format!("v{}", u64::from_le_bytes(*version)));
        if xxh3_128(&read(&list)?) != u128::from_le_bytes(*checksum) {
            return Err(corrupt(
                &list,
                &format!("its checksum is not the one in {}", path.display()),
            ));
        }
    }
    let folder = store.join(KEYSPACES_FOLDER);
    let entries = fs::read_dir(&folder)
        .map_err(|error| Error::Io(format!("{}: {error}", folder.display())))?;
    for entry in entries {
        let path = entry
            .map_err(|error| Error::Io(format!("{}: {error}", folder.display())))?
            .path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse::<usize>().ok());
        if number.is_none_or(|number| number > keyspaces) {
            return Err(corrupt(&path, "does not belong here"));
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => corrupt(path, "is missing"),
        _ => Error::Io(format!("{}: {error}", path.display())),
    })
}

fn corrupt(path: &Path, what: &str) -> Error {
    Error::Corrupt(format!("{}: {what}", path.display()))
}
