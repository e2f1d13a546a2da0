//! The real disk: [`Engine`] over fjall, an LSM tree with a write-ahead journal.
//!
//! # A data folder
//!
//! ```text
//! LOCK            who has the folder open (folder_lock)
//! store/          fjall's folder: version, lock, <n>.jnl, keyspaces/0 … 4
//! store/frontier  up to which batch all is durable (frontier)
//! store.new/      a store being made; renamed to store/ when it is whole, removed if found
//! ```
//!
//! # A write
//!
//! [`FjallEngine::write`] numbers the batch, appends it to fjall's journal (in user memory, then the
//! page cache) and puts it into memtables; readers see it. [`FjallEngine::sync`] flushes the journal's
//! buffer and then calls `fdatasync` on the journal file itself, outside of fjall's journal lock, so
//! that writers go on while the disk works. `fdatasync` suffices: it also writes the file's size and
//! block map where reading the data needs them.
//!
//! When flushes or compactions lag behind, the writer waits, before fjall would make it wait.
//!
//! # What is checked
//!
//! - Before opening: journals (`journal_check`), lists of tables (`manifest_check`).
//! - After opening: that no synced batch is missing (`frontier`).
//! - On each read from disk: fjall compares the checksum of the block. [`FjallEngine::verify`] reads
//!   all table files and compares the checksum of each as a whole; [`Engine::check_table`] one of them.
//!   A damaged table is taken out of use by [`Engine::discard`], if somebody has its rows elsewhere.
//!
//! # A full disk
//!
//! fjall ends ("is poisoned") when one of its writes fails. `disk_space` refuses batches
//! before that. If a background flush or compaction should hit the limit all the same, reads go on and
//! writes fail with `DiskFull`; once space is back and no snapshot is open, the next write opens the
//! store again in place and checks that each acknowledged batch is there.

mod folder;
mod opened;
mod options;
mod snapshot;
#[cfg(test)]
mod tests;

pub use options::{CACHE_DEFAULT_BYTES, FjallOptions};

use crate::disk_space::DiskSpace;
use crate::engine::{Damage, Engine, Error, Keyspace, Result, Snapshot, TableRef, WriteBatch};
use crate::folder_lock::FolderLock;
use crate::frontier::Frontier;
use crate::journal_check::{self, MARK_KEY};
use bytes::Bytes;
use folder::{create, newest_journal, open_store, wait_until_closed};
use opened::Opened;
use parking_lot::{Mutex, RwLock};
use snapshot::{FjallSnapshot, NoSnapshot};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const STORE_FOLDER: &str = "store";
/// fjall's limit: a key's length is 16 bits in the journal.
const ENGINE_KEY_MAX_BYTES: usize = u16::MAX as usize;
/// A flush takes some 100 ms.
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);
/// What a memtable must hold to be worth a table of its own before it is full.
const FLUSH_LEAST_BYTES: u64 = 1 << 20;
/// Half of fjall's limit of 32 bits, so that no sum on the way overflows.
const ENGINE_VALUE_MAX_BYTES: usize = 1 << 31;

pub struct FjallEngine {
    options: FjallOptions,
    store: PathBuf,
    /// `None` only for the moment of reopening, under the write lock, and after that failed.
    opened: RwLock<Option<Arc<Opened>>>,
    space: DiskSpace,
    /// Serialises writers, so that numbers rise in journal order. Holds the bytes written since the
    /// last look at the backlog.
    writer: Mutex<u64>,
    /// Number of the newest batch in the journal and the memtables.
    committed: AtomicU64,
    /// Serialises syncs.
    syncer: Mutex<Syncer>,
    /// fjall takes no more writes, for lack of space.
    ended: AtomicBool,
    /// The failure after which nothing is known about the disk any more.
    failed: Mutex<Option<Error>>,
    _lock: FolderLock,
}

struct Syncer {
    frontier: Frontier,
    journal: u64,
    file: File,
}

impl FjallEngine {
    /// Opens the store in `folder`, making both if need be.
    pub fn open(folder: impl AsRef<Path>, options: FjallOptions) -> Result<Self> {
        let folder =
            std::path::absolute(folder.as_ref()).map_err(|error| Error::Io(error.to_string()))?;
        std::fs::create_dir_all(&folder).map_err(|error| io(&folder, error))?;
        let lock = FolderLock::acquire(&folder)?;
        let store = folder.join(STORE_FOLDER);
        let exists = store.try_exists().map_err(|error| io(&store, error))?;
        if !exists {
            create(&folder, &store, &options)?;
        }
        let space = DiskSpace::new(&folder, options.reserve_bytes, options.free_bytes.clone())?;
        let (opened, mut frontier, batch) = open_store(&store, &options)?;
        // Whatever the journal holds now counts as durable from here on, so make it so.
        frontier.set_journals(None)?;
        let (journal, file) = newest_journal(&store)?;
        file.sync_all().map_err(|error| io(&store, error))?;
        frontier.advance(batch)?;
        Ok(FjallEngine {
            options,
            store,
            opened: RwLock::new(Some(Arc::new(opened))),
            space,
            writer: Mutex::new(0),
            committed: AtomicU64::new(batch),
            syncer: Mutex::new(Syncer {
                frontier,
                journal,
                file,
            }),
            ended: AtomicBool::new(false),
            failed: Mutex::new(None),
            _lock: lock,
        })
    }

    /// Renames the store in `folder`, which nobody may have open, and says where it is now. What is opened
    /// there next is new.
    pub fn set_aside(folder: impl AsRef<Path>) -> Result<PathBuf> {
        let folder = folder.as_ref();
        let _lock = FolderLock::acquire(folder)?;
        folder::set_aside(folder, &folder.join(STORE_FOLDER))
    }

    /// Reads all table files and compares their checksums. Names the first damaged file.
    pub fn verify(&self) -> Result<()> {
        self.opened()?.verify()
    }

    /// Has what waits in memtables written to tables, in the background. For an idle node: the memory is
    /// free for others, and a restart has little to replay.
    pub fn flush(&self) -> Result<()> {
        self.check_usable()?;
        let opened = self.opened()?;
        match opened.flush(FLUSH_LEAST_BYTES) {
            Ok(()) => Ok(()),
            Err(fjall::Error::Poisoned) => Err(self.poisoned()),
            Err(error) => Err(opened.map_error(error, None)),
        }
    }

    fn opened(&self) -> Result<Arc<Opened>> {
        let opened = self.opened.read();
        opened.clone().ok_or_else(|| self.failure())
    }

    fn failure(&self) -> Error {
        let failed = self.failed.lock().clone();
        failed
            .unwrap_or_else(|| Error::Io(format!("{}: the store is closed", self.store.display())))
    }

    /// Notes a failure after which the process must not go on writing.
    fn fail(&self, error: Error) -> Error {
        self.failed.lock().get_or_insert(error).clone()
    }

    fn check_usable(&self) -> Result<()> {
        match &*self.failed.lock() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// fjall takes no more writes. For lack of space that is not the end, for anything else it is.
    fn poisoned(&self) -> Error {
        if self.ended.load(Ordering::Relaxed) || self.space.was_short() {
            self.ended.store(true, Ordering::Relaxed);
            return Error::DiskFull(format!(
                "{}: a background write found no space",
                self.store.display()
            ));
        }
        // A compaction that meets a damaged block ends fjall, too: then say which file it was.
        let damaged = self.opened().and_then(|opened| opened.verify()).err();
        self.fail(match damaged {
            Some(Error::Corrupt(what)) => Error::Corrupt(what),
            _ => Error::Io(format!(
                "{}: a background write failed",
                self.store.display()
            )),
        })
    }

    fn commit(&self, batch: WriteBatch) -> Result<()> {
        let number = self.committed.load(Ordering::Relaxed) + 1;
        let opened = self.opened()?;
        let mut target =
            fjall::OwnedWriteBatch::with_capacity(opened.database.clone(), batch.ops.len() + 1);
        for (keyspace, key, value) in batch.ops {
            let keyspace = opened.keyspace(keyspace);
            match value {
                Some(value) => target.insert(keyspace, key, value),
                None => target.remove(keyspace, key),
            }
        }
        target.insert(&opened.raft, MARK_KEY, number.to_be_bytes().as_slice());
        match target.commit() {
            Ok(()) => {
                self.committed.store(number, Ordering::Release);
                Ok(())
            }
            Err(fjall::Error::Poisoned) => Err(self.poisoned()),
            Err(error) => Err(match opened.map_error(error, None) {
                // The journal itself met the full disk. What it holds is found out on reopening.
                full @ Error::DiskFull(_) => {
                    self.ended.store(true, Ordering::Relaxed);
                    full
                }
                other => self.fail(other),
            }),
        }
    }

    /// Waits while flushes or compactions lag behind. fjall would wait too, inside of a commit, but for
    /// ever if its background threads have ended.
    fn wait_for_backlog(&self) -> Result<()> {
        loop {
            let opened = self.opened()?;
            if !opened.is_backlogged() {
                return Ok(());
            }
            match opened.database.persist(fjall::PersistMode::Buffer) {
                Ok(()) => {}
                Err(fjall::Error::Poisoned) => return Err(self.poisoned()),
                Err(error) => return Err(self.fail(opened.map_error(error, None))),
            }
            drop(opened);
            #[expect(
                clippy::disallowed_methods,
                reason = "a real disk on the log-writer's own thread"
            )]
            std::thread::sleep(BACKLOG_PAUSE);
        }
    }

    /// Opens the store again after a lack of space ended it. Returns whether it is usable now.
    fn reopen(&self) -> Result<bool> {
        if !self.space.has_reserve() {
            return Ok(false);
        }
        let mut syncer = self.syncer.lock();
        let mut slot = self.opened.write();
        let Some(opened) = slot.take() else {
            return Err(self.failure());
        };
        let opened = match Arc::try_unwrap(opened) {
            Ok(opened) => opened,
            Err(shared) => {
                // A snapshot still reads from the old one.
                *slot = Some(shared);
                return Ok(false);
            }
        };
        tracing::warn!(store = %self.store.display(), "space is back: opening the store again");
        drop(opened);
        syncer.file = File::open(&self.store).map_err(|error| self.fail(io(&self.store, error)))?;
        wait_until_closed(&self.store).map_err(|error| self.fail(error))?;
        let reopened =
            open_store(&self.store, &self.options).and_then(|(opened, frontier, batch)| {
                let committed = self.committed.load(Ordering::Acquire);
                if batch != committed {
                    return Err(Error::Io(format!(
                        "{}: {batch} of {committed} batches are left after a lack of space",
                        self.store.display()
                    )));
                }
                let (journal, file) = newest_journal(&self.store)?;
                Ok((
                    opened,
                    Syncer {
                        frontier,
                        journal,
                        file,
                    },
                ))
            });
        match reopened {
            Ok((opened, new_syncer)) => {
                *syncer = new_syncer;
                *slot = Some(Arc::new(opened));
                self.ended.store(false, Ordering::Relaxed);
                self.space.forget();
                Ok(true)
            }
            Err(error) => Err(self.fail(error)),
        }
    }
}

impl Engine for FjallEngine {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        let opened = self.opened.read();
        let Some(opened) = &*opened else {
            return Err(self.failure());
        };
        match opened.keyspace(keyspace).get(key) {
            Ok(value) => Ok(value.map(Bytes::from)),
            Err(error) => Err(opened.map_error(error, Some(keyspace))),
        }
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        match self.opened() {
            Ok(opened) => {
                let snapshot = opened.database.snapshot();
                Box::new(FjallSnapshot { opened, snapshot })
            }
            Err(error) => Box::new(NoSnapshot(error)),
        }
    }

    fn write(&self, batch: WriteBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        check_sizes(&batch)?;
        let mut unchecked_bytes = self.writer.lock();
        self.check_usable()?;
        self.space.admit(&batch)?;
        if self.ended.load(Ordering::Relaxed) && !self.reopen()? {
            return Err(Error::DiskFull(format!(
                "{}: a background write found no space; writes resume once readers of the past are done",
                self.store.display()
            )));
        }
        *unchecked_bytes += batch.bytes();
        if *unchecked_bytes >= self.options.backlog_check_bytes() {
            *unchecked_bytes = 0;
            self.wait_for_backlog()?;
        }
        self.commit(batch)
    }

    fn sync(&self) -> Result<()> {
        let mut syncer = self.syncer.lock();
        self.check_usable()?;
        let batch = self.committed.load(Ordering::Acquire);
        match self.opened()?.database.persist(fjall::PersistMode::Buffer) {
            Ok(()) => {}
            Err(fjall::Error::Poisoned) => return Err(self.poisoned()),
            Err(error) => {
                return Err(match self.opened()?.map_error(error, None) {
                    full @ Error::DiskFull(_) => {
                        self.ended.store(true, Ordering::Relaxed);
                        full
                    }
                    other => self.fail(other),
                });
            }
        }
        // fjall may have gone on to a newer journal; it synced the older one before.
        loop {
            let path = self.store.join(format!("{}.jnl", syncer.journal + 1));
            if !path
                .try_exists()
                .map_err(|error| self.fail(io(&path, error)))?
            {
                break;
            }
            syncer.file = File::open(&path).map_err(|error| self.fail(io(&path, error)))?;
            syncer.journal += 1;
        }
        // After a failed fsync the kernel may have dropped the pages: never try again.
        syncer
            .file
            .sync_data()
            .map_err(|error| self.fail(io(&self.store, error)))?;
        syncer
            .frontier
            .advance(batch)
            .map_err(|error| self.fail(error))
    }

    fn disk_bytes(&self) -> u64 {
        self.opened().map_or(0, |opened| opened.disk_bytes())
    }

    fn tables(&self) -> Vec<TableRef> {
        self.opened()
            .map_or_else(|_| Vec::new(), |opened| opened.tables())
    }

    fn check_table(&self, table: TableRef) -> Result<Option<Damage>> {
        self.opened()?.check_table(table)
    }

    fn discard(&self, damage: &Damage) -> Result<bool> {
        self.check_usable()?;
        self.opened()?.discard(damage)
    }
}

impl Drop for FjallEngine {
    /// A clean stop: all batches durable, and a note of which journals there are.
    fn drop(&mut self) {
        if self.failed.lock().is_some() {
            return;
        }
        if let Err(error) = self.sync() {
            tracing::error!(%error, "cannot sync while closing the store");
            return;
        }
        let is_last = match self.opened.write().take() {
            Some(opened) => Arc::try_unwrap(opened).map(drop).is_ok(),
            None => false,
        };
        // A snapshot that is still alive keeps the background threads going, and they may rotate.
        if !is_last {
            return;
        }
        let noted = journal_check::journals(&self.store).and_then(|journals| {
            let ends = journals
                .first()
                .zip(journals.last())
                .map(|(first, last)| (first.0, last.0));
            self.syncer.lock().frontier.set_journals(ends)
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "cannot note a clean stop");
        }
    }
}

fn check_sizes(batch: &WriteBatch) -> Result<()> {
    for (_, key, value) in &batch.ops {
        let value = value.as_ref().map_or(0, |value| value.len());
        if key.is_empty() || key.len() > ENGINE_KEY_MAX_BYTES || value > ENGINE_VALUE_MAX_BYTES {
            return Err(Error::Io(format!(
                "cannot store a key of {} and a value of {value} bytes",
                key.len()
            )));
        }
    }
    Ok(())
}

fn io(path: &Path, error: std::io::Error) -> Error {
    let what = format!("{}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Error::DiskFull(what)
        }
        _ => Error::Io(what),
    }
}
