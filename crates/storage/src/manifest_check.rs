//! Checks of a stopped store's small files, which the LSM engine trusts too much.
//!
//! It reads the list of tables without comparing its checksum, and a keyspace folder without its
//! `current` file it takes for one that was never finished and deletes. Both would end in missing
//! data without an error, so they are looked at first.

use crate::engine::{Error, Result};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Folder of keyspace `n`: `keyspaces/n`. Number 0 is the engine's own.
const KEYSPACES_FOLDER: &str = "keyspaces";
const TABLES_FOLDER: &str = "tables";
const READ_BYTES: usize = 256 << 10;
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
        table_list(&store.join(KEYSPACES_FOLDER).join(number.to_string()))?;
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

/// Compares the whole checksum of each table file. Slow, so only to name the damaged file of a store
/// that the engine cannot open.
pub fn check_tables(store: &Path, keyspaces: usize) -> Result<()> {
    for number in 0..=keyspaces {
        let folder = store.join(KEYSPACES_FOLDER).join(number.to_string());
        for (table, expected) in read_table_list(&table_list(&folder)?)? {
            check_table(
                &folder.join(TABLES_FOLDER).join(table.to_string()),
                expected,
            )?;
        }
    }
    Ok(())
}

/// Compares the checksum of a table file as a whole.
pub fn check_table(path: &Path, expected: u128) -> Result<()> {
    match checksum(path) {
        Ok(found) if found == expected => Ok(()),
        Ok(_) => Err(corrupt(path, "bad checksum")),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(corrupt(path, "is missing")),
        Err(error) => Err(io(path, error)),
    }
}

/// The file that lists the tables of a keyspace; its checksum is right.
fn table_list(folder: &Path) -> Result<PathBuf> {
    let path = folder.join(CURRENT_FILE);
    let current = read(&path)?;
    let (Some(version), Some(expected), CURRENT_BYTES, Some(0)) = (
        current.first_chunk::<8>(),
        current.get(8..).and_then(|rest| rest.first_chunk::<16>()),
        current.len(),
        current.last(),
    ) else {
        return Err(corrupt(&path, "unexpected content"));
    };
    let list = folder.join(format!("v{}", u64::from_le_bytes(*version)));
    if xxh3_128(&read(&list)?) != u128::from_le_bytes(*expected) {
        return Err(corrupt(
            &list,
            &format!("its checksum is not the one in {}", path.display()),
        ));
    }
    Ok(list)
}

/// Numbers and checksums of the tables in a list: levels (count u8) of runs (count u8) of tables
/// (count u32, then each: number u64, type of checksum u8, checksum u128, sequence number u64).
fn read_table_list(list: &Path) -> Result<Vec<(u64, u128)>> {
    let unreadable = || corrupt(list, "unreadable");
    let archive = sfa::Reader::new(list).map_err(|_| unreadable())?;
    let section = archive.toc().section(b"tables").ok_or_else(unreadable)?;
    let mut bytes = Vec::new();
    section
        .reader(list)
        .and_then(|mut reader| reader.read_to_end(&mut bytes))
        .map_err(|error| io(list, error))?;
    let mut rest = &bytes[..];
    let mut tables = Vec::new();
    for _ in 0..take::<1>(&mut rest).ok_or_else(unreadable)?[0] {
        for _ in 0..take::<1>(&mut rest).ok_or_else(unreadable)?[0] {
            for _ in 0..u32::from_le_bytes(take(&mut rest).ok_or_else(unreadable)?) {
                let number = u64::from_le_bytes(take(&mut rest).ok_or_else(unreadable)?);
                take::<1>(&mut rest).ok_or_else(unreadable)?;
                let checksum = u128::from_le_bytes(take(&mut rest).ok_or_else(unreadable)?);
                take::<8>(&mut rest).ok_or_else(unreadable)?;
                tables.push((number, checksum));
            }
        }
    }
    Ok(tables)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

fn checksum(path: &Path) -> std::io::Result<u128> {
    let mut file = File::open(path)?;
    let mut hash = Xxh3::new();
    let mut piece = vec![0; READ_BYTES];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(hash.digest128());
        }
        hash.update(&piece[..read]);
    }
}

fn io(path: &Path, error: std::io::Error) -> Error {
    Error::Io(format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => corrupt(path, "is missing"),
        _ => io(path, error),
    })
}

fn corrupt(path: &Path, what: &str) -> Error {
    Error::Corrupt(format!("{}: {what}", path.display()))
}
