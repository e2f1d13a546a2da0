//! An open fjall database with its four keyspaces.

use super::FjallOptions;
use crate::engine::{Damage, Error, Keyspace, Result, TableRef};
use crate::{journal_check, manifest_check};
use bytes::Bytes;
use fjall::Database;
use lsm_tree::AbstractTree;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Keyspaces beside fjall's own, which has number 0.
pub const KEYSPACES: usize = 4;
/// Numbers go by the order of creation.
pub const RAFT_NUMBER: u64 = 4;

/// fjall stops a writer at 4 memtables that wait for their flush, and slows it down at 20 runs in the
/// first level. One more of either may come between a look and the end of a commit.
const SEALED_MEMTABLES_MAX: usize = 3;
const L0_RUNS_MAX: usize = 18;
const KEYSPACES_IN_ORDER: [Keyspace; KEYSPACES] = [
    Keyspace::Data,
    Keyspace::History,
    Keyspace::Intents,
    Keyspace::Raft,
];
/// What `stat` counts blocks in.
const STAT_BLOCK_BYTES: u64 = 512;

pub struct Opened {
    pub data: fjall::Keyspace,
    pub history: fjall::Keyspace,
    pub intents: fjall::Keyspace,
    pub raft: fjall::Keyspace,
    pub database: Database,
    store: PathBuf,
}

impl Opened {
    pub fn open(store: &Path, options: &FjallOptions) -> Result<Self> {
        // Damaged metadata makes fjall panic in places.
        let opened = match catch_unwind(AssertUnwindSafe(|| Self::try_open(store, options))) {
            Ok(Ok(opened)) => opened.check_numbers(),
            Ok(Err(error)) => Err(map_error(error, &store.display().to_string(), true)),
            Err(_) => Err(Error::Corrupt(format!(
                "{}: the engine cannot read its files",
                store.display()
            ))),
        };
        match opened {
            Err(Error::Corrupt(what)) => {
                manifest_check::check_tables(store, KEYSPACES)?;
                Err(Error::Corrupt(what))
            }
            other => other,
        }
    }

    fn try_open(store: &Path, options: &FjallOptions) -> fjall::Result<Self> {
        let database = Database::builder(store)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journals_bytes)
            .worker_threads(options.workers)
            .manual_journal_persist(true)
            .journal_compression(fjall::CompressionType::None)
            .open()?;
        Ok(Opened {
            data: database.keyspace("data", || options.data())?,
            history: database.keyspace("history", || options.history())?,
            intents: database.keyspace("intents", || options.intents())?,
            raft: database.keyspace("raft", || options.raft())?,
            database,
            store: store.to_owned(),
        })
    }

    /// A keyspace with another number was made anew because the old one could not be found.
    fn check_numbers(self) -> Result<Self> {
        let numbers =
            [&self.data, &self.history, &self.intents, &self.raft].map(|keyspace| keyspace.id());
        if numbers == [1, 2, 3, RAFT_NUMBER] {
            return Ok(self);
        }
        Err(Error::Corrupt(format!(
            "{}: keyspaces are missing, found {numbers:?}",
            self.store.display()
        )))
    }

    pub fn keyspace(&self, keyspace: Keyspace) -> &fjall::Keyspace {
        match keyspace {
            Keyspace::Data => &self.data,
            Keyspace::History => &self.history,
            Keyspace::Intents => &self.intents,
            Keyspace::Raft => &self.raft,
        }
    }

    /// Whether writers should wait: one step before fjall itself would stop them.
    pub fn is_backlogged(&self) -> bool {
        [&self.data, &self.history, &self.intents, &self.raft]
            .into_iter()
            .any(|keyspace| {
                keyspace.sealed_memtable_count() >= SEALED_MEMTABLES_MAX
                    || keyspace.tree.l0_run_count() >= L0_RUNS_MAX
            })
    }

    /// Closes memtables that hold at least so many bytes; a background thread writes them to tables.
    pub fn flush(&self, least_bytes: u64) -> fjall::Result<()> {
        for keyspace in [&self.data, &self.history, &self.intents, &self.raft] {
            if keyspace.tree.active_memtable().size() >= least_bytes {
                keyspace.rotate_memtable()?;
            }
        }
        Ok(())
    }

    /// Names the damaged file if there is one.
    pub fn map_error(&self, error: fjall::Error, keyspace: Option<Keyspace>) -> Error {
        let place = match keyspace {
            Some(keyspace) => self.keyspace(keyspace).path().display().to_string(),
            None => self.store.display().to_string(),
        };
        match map_error(error, &place, keyspace.is_some()) {
            Error::Corrupt(what) => {
                match keyspace.map(|keyspace| verify(self.keyspace(keyspace))) {
                    Some(Err(Error::Corrupt(named))) => Error::Corrupt(named),
                    _ => Error::Corrupt(what),
                }
            }
            other => other,
        }
    }

    pub fn verify(&self) -> Result<()> {
        [&self.data, &self.history, &self.intents, &self.raft]
            .into_iter()
            .try_for_each(verify)
    }

    pub fn tables(&self) -> Vec<TableRef> {
        let keyspaces = KEYSPACES_IN_ORDER.into_iter();
        let tables = keyspaces.flat_map(|keyspace| {
            let version = self.keyspace(keyspace).tree.current_version();
            let tables = version.iter_tables().map(|table| TableRef {
                keyspace,
                number: table.id(),
                bytes: table.metadata.file_size,
            });
            tables.collect::<Vec<_>>()
        });
        tables.collect()
    }

    /// See [`crate::Engine::check_table`]. The version held here keeps the file meanwhile.
    pub fn check_table(&self, table: TableRef) -> Result<Option<Damage>> {
        let version = self.keyspace(table.keyspace).tree.current_version();
        let Some(found) = version.iter_tables().find(|t| t.id() == table.number) else {
            return Ok(None);
        };
        match manifest_check::check_table(&found.path, found.checksum().into_u128()) {
            Ok(()) => Ok(None),
            Err(Error::Corrupt(what)) => Ok(Some(Damage {
                table,
                first: Bytes::copy_from_slice(found.metadata.key_range.min()),
                last: Bytes::copy_from_slice(found.metadata.key_range.max()),
                what,
            })),
            Err(other) => Err(other),
        }
    }

    /// See [`crate::Engine::discard`]. Waits for compactions, which may be reading the table.
    pub fn discard(&self, damage: &Damage) -> Result<bool> {
        let keyspace = self.keyspace(damage.table.keyspace);
        let range = damage.first.as_ref()..=damage.last.as_ref();
        let dropped = keyspace.tree.drop_range::<&[u8], _>(range);
        dropped
            .map_err(|error| map_error(error.into(), &self.store.display().to_string(), true))?;
        let version = keyspace.tree.current_version();
        let is_left = version.iter_tables().any(|t| t.id() == damage.table.number);
        Ok(!is_left)
    }

    /// Bytes that files really take: journals are made long and filled later.
    pub fn disk_bytes(&self) -> u64 {
        let tables = [&self.data, &self.history, &self.intents, &self.raft]
            .map(|keyspace| keyspace.disk_space());
        let journals = journal_check::journals(&self.store).unwrap_or_default();
        let journals = journals.iter().filter_map(|(_, path)| path.metadata().ok());
        tables.iter().sum::<u64>()
            + journals
                .map(|metadata| metadata.blocks() * STAT_BLOCK_BYTES)
                .sum::<u64>()
    }
}

/// Compares the checksum of each table file of a keyspace. The version held here keeps its tables.
fn verify(keyspace: &fjall::Keyspace) -> Result<()> {
    let version = keyspace.tree.current_version();
    version.iter_tables().try_for_each(|table| {
        manifest_check::check_table(&table.path, table.checksum().into_u128())
    })
}

/// `reading`: the failure came up while reading, so a file that ends too early is damage.
fn map_error(error: fjall::Error, place: &str, reading: bool) -> Error {
    let what = format!("{place}: {error}");
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(lsm_tree::Error::Io(error)) => {
            match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::DiskFull(what),
                ErrorKind::UnexpectedEof
                | ErrorKind::NotFound
                | ErrorKind::InvalidData
                | ErrorKind::InvalidInput
                    if reading =>
                {
                    Error::Corrupt(what)
                }
                _ => Error::Io(what),
            }
        }
        fjall::Error::Poisoned | fjall::Error::KeyspaceDeleted => Error::Io(what),
        fjall::Error::Locked => Error::Locked(what),
        _ => Error::Corrupt(what),
    }
}
