//! What the layers above need of a disk: four ordered keyspaces, atomic batches, one sync.

use bytes::Bytes;
use std::fmt;
use std::ops::Bound;

/// The four keyspaces of a store (architecture, "Storage: current and history apart").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keyspace {
    /// user key → newest committed version.
    Data,
    /// (user key, descending timestamp) → an older version.
    History,
    /// Provisional writes of transactions over several shards.
    Intents,
    /// Log entries, hard state, applied index, shard descriptors, store identity.
    Raft,
}

/// What a caller can do about a storage failure.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// No space left: reads go on; writes may be tried again once space returns.
    DiskFull(String),
    /// Bytes on disk are not what was written. Names the file. The node must stop.
    Corrupt(String),
    /// Another process holds the folder. Says who.
    Locked(String),
    /// Any other failure of the disk. The node must stop: what was synced is unknown.
    Io(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::DiskFull(what) => write!(f, "no space left on device: {what}"),
            Error::Corrupt(what) => write!(f, "data corrupted: {what}"),
            Error::Locked(what) => write!(f, "data folder is in use: {what}"),
            Error::Io(what) => write!(f, "disk error: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for types::Error {
    fn from(error: Error) -> Self {
        use types::SqlState;
        let state = match &error {
            Error::DiskFull(_) => SqlState::DISK_FULL,
            Error::Corrupt(_) => SqlState::DATA_CORRUPTED,
            Error::Locked(_) | Error::Io(_) => SqlState::IO_ERROR,
        };
        types::Error::new(state, error.to_string())
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A set of puts and deletes that becomes visible, and after a crash is found, whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    pub ops: Vec<(Keyspace, Bytes, Option<Bytes>)>,
    /// Bytes that later batches must write because of this one, as the effects of log entries. An almost
    /// full disk refuses this one unless there is room for them, too.
    pub promised_bytes: u64,
    /// Does what an earlier batch promised: on an almost full disk it may use the reserve.
    pub keeps_promise: bool,
}

impl WriteBatch {
    pub fn put(&mut self, keyspace: Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push((keyspace, key.into(), Some(value.into())));
    }

    pub fn delete(&mut self, keyspace: Keyspace, key: impl Into<Bytes>) {
        self.ops.push((keyspace, key.into(), None));
    }

    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> u64 {
        let sizes = self
            .ops
            .iter()
            .map(|(_, key, value)| key.len() + value.as_ref().map_or(0, Bytes::len));
        sizes.sum::<usize>() as u64
    }
}

pub type KeyRange = (Bound<Bytes>, Bound<Bytes>);

/// Key and value pairs in key order (or its reverse).
pub type Pairs<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes)>> + Send + 'a>;

/// Reads from one moment: what is written afterwards is not seen.
pub trait Snapshot: Send + Sync {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>>;
    fn scan(&self, keyspace: Keyspace, range: KeyRange, reverse: bool) -> Pairs<'_>;
}

/// A store's disk. Implementations: `fjall` for real, `sim_disk` which forgets unsynced bytes.
pub trait Engine: Send + Sync + 'static {
    /// The newest value. Sees each batch whole or not at all only per key; use a snapshot across keys.
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>>;

    fn snapshot(&self) -> Box<dyn Snapshot>;

    /// Applies the batch atomically. Survives a process crash only once [`Engine::sync`] returned,
    /// and then so does every batch written before it.
    fn write(&self, batch: WriteBatch) -> Result<()>;

    /// Makes all batches written so far durable (one fsync).
    fn sync(&self) -> Result<()>;

    /// Bytes on disk, for metrics and limits.
    fn disk_bytes(&self) -> u64;

    /// The files of sorted rows that there are now. An engine that has none cannot be checked.
    fn tables(&self) -> Vec<TableRef> {
        Vec::new()
    }

    /// Reads a whole table and compares its checksum. `None`: it is sound, or there no more.
    fn check_table(&self, _table: TableRef) -> Result<Option<Damage>> {
        Ok(None)
    }

    /// Takes a damaged table out of use, and perhaps others whose keys all lie in its range. What is read
    /// of that range afterwards is worth nothing until all of it is removed and written anew. `false`: it
    /// cannot be done now.
    fn discard(&self, _damage: &Damage) -> Result<bool> {
        Ok(false)
    }
}

/// One file of sorted rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableRef {
    pub keyspace: Keyspace,
    pub number: u64,
    /// Of its blocks, about.
    pub bytes: u64,
}

/// A table whose bytes are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub table: TableRef,
    /// Its keys lie from here to there, both included: keys of the engine, not of users.
    pub first: Bytes,
    pub last: Bytes,
    /// Names the file.
    pub what: String,
}
