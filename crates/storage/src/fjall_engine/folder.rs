//! Making, checking and opening the folder of a store.

use super::opened::{self, Opened};
use super::{FjallOptions, io};
use crate::engine::{Error, Keyspace, Result};
use crate::frontier::Frontier;
use crate::journal_check::{self, MARK_KEY};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const NEW_STORE_FOLDER: &str = "store.new";
/// Together 5 s: closing takes microseconds, unless the disk itself hangs.
const CLOSE_TRIES: usize = 1000;
const CLOSE_PAUSE: Duration = Duration::from_millis(5);
/// Damaged stores that are kept beside the one in use: whoever has so many has another problem.
const SET_ASIDE_MOST: u32 = 10;

/// Makes a store beside its place and moves it there whole, so that no half-made one is ever found.
pub fn create(folder: &Path, store: &Path, options: &FjallOptions) -> Result<()> {
    let new = folder.join(NEW_STORE_FOLDER);
    match std::fs::remove_dir_all(&new) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(&new, error)),
    }
    std::fs::create_dir(&new).map_err(|error| io(&new, error))?;
    Frontier::create(&new)?;
    drop(Opened::open(&new, options)?);
    let sync = |path: &Path| {
        File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(|error| io(path, error))
    };
    sync(&new)?;
    std::fs::rename(&new, store).map_err(|error| io(store, error))?;
    sync(folder)
}

/// Renames a store to `<its name>.damaged-N`, and returns that place.
pub fn set_aside(folder: &Path, store: &Path) -> Result<PathBuf> {
    for number in 1..=SET_ASIDE_MOST {
        let mut name = store.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        let aside = PathBuf::from(name);
        if aside.try_exists().map_err(|error| io(&aside, error))? {
            continue;
        }
        std::fs::rename(store, &aside).map_err(|error| io(store, error))?;
        File::open(folder)
            .and_then(|file| file.sync_all())
            .map_err(|error| io(folder, error))?;
        return Ok(aside);
    }
    Err(Error::Io(format!(
        "{}: {SET_ASIDE_MOST} damaged stores lie beside it already",
        store.display()
    )))
}

/// Checks and opens a store; returns the number of its newest batch.
pub fn open_store(store: &Path, options: &FjallOptions) -> Result<(Opened, Frontier, u64)> {
    let frontier = Frontier::open(store)?;
    let note = frontier.note();
    crate::manifest_check::check(store, opened::KEYSPACES)?;
    let report = journal_check::check(store, opened::RAFT_NUMBER, note.durable, note.journals)?;
    let opened = Opened::open(store, options)?;
    let found = match opened.raft.get(MARK_KEY) {
        Ok(None) => 0,
        Ok(Some(number)) => match <[u8; 8]>::try_from(&number[..]) {
            Ok(number) => u64::from_be_bytes(number),
            Err(_) => {
                return Err(Error::Corrupt(format!(
                    "{}: bad batch number",
                    store.display()
                )));
            }
        },
        Err(error) => return Err(opened.map_error(error, Some(Keyspace::Raft))),
    };
    if found < note.durable || report.last_batch.is_some_and(|last| last != found) {
        let what = report
            .cut
            .unwrap_or_else(|| format!("{}: a journal lost its end", store.display()));
        return Err(Error::Corrupt(format!(
            "{what}; batch {found} is the last, {} was synced",
            note.durable
        )));
    }
    Ok((opened, frontier, found))
}

/// A background thread of fjall may hold the journal, with bytes still to flush, for a moment longer
/// than the database. Waits until this process has no journal open.
pub fn wait_until_closed(store: &Path) -> Result<()> {
    for _ in 0..CLOSE_TRIES {
        let descriptors = std::fs::read_dir("/proc/self/fd").map_err(|error| io(store, error))?;
        let is_open = descriptors
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .any(|target| {
                target.starts_with(store)
                    && target
                        .extension()
                        .is_some_and(|extension| extension == "jnl")
            });
        if !is_open {
            return Ok(());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "a real disk on a real thread, once after a full disk"
        )]
        std::thread::sleep(CLOSE_PAUSE);
    }
    Err(Error::Io(format!(
        "{}: the engine does not close its journal",
        store.display()
    )))
}

pub fn newest_journal(store: &Path) -> Result<(u64, File)> {
    match journal_check::journals(store)?.pop() {
        Some((number, path)) => Ok((number, File::open(&path).map_err(|error| io(&path, error))?)),
        None => Err(Error::Corrupt(format!(
            "{}: all journal files are missing",
            store.display()
        ))),
    }
}
