//! The seam between transactions (at the gateway) and shards (at their lease holders).
//!
//! [`Shards`] is all a transaction coordinator can ask for. A shard's lease holder may be this
//! process, where most answers are ready at once, or another one. Every call therefore names its keys
//! and returns a [`MaybeReady`]. Several gateways may stand over the same shards.

use bytes::Bytes;
use std::sync::Arc;
use types::{MaybeReady, Result, Timestamp, key};

pub type Key = Bytes;
pub type Value = Bytes;

/// A half-open span of keys: `start <= key < end`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub start: Key,
    pub end: Key,
}

/// Whose commits a snapshot must hold: see [`Shards::read_timestamp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadScope<'a> {
    /// Everybody's: the snapshot may be read anywhere.
    All,
    /// Those that wrote into these spans, or into the catalog. No span: the catalog alone.
    Spans(&'a [Span]),
}

/// Is shown a row's key and value: see [`Shards::visit`].
pub type Visitor<'v> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'v;

/// What was written into a span in some time: see [`Shards::changes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// These keys, in the order of their commits.
    Keys(Vec<(Timestamp, Key)>),
    /// The shards do not remember that far back.
    Unknown,
}

/// A transaction's name, unique in the cluster for as long as its locks or records can live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId(pub u128);

impl std::fmt::Display for TxnId {
    /// Sixteen hexadecimal digits, enough to tell two live transactions apart in a message.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", (self.0 >> 64) as u64 ^ self.0 as u64)
    }
}

/// PostgreSQL's three levels. READ UNCOMMITTED is READ COMMITTED, as there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    #[default]
    ReadCommitted,
    /// Snapshot isolation.
    RepeatableRead,
    Serializable,
}

/// PostgreSQL's row lock strengths plus table-lock use: which modes exclude which is
/// [`LockMode::conflicts_with`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockMode {
    KeyShare,
    Share,
    NoKeyUpdate,
    Update,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitPolicy {
    /// Queue until granted, deadlock (40P01), or the deadline (55P03 for `lock_timeout`).
    Wait { deadline_nanos: Option<u64> },
    /// 55P03 at once.
    NoWait,
    /// `Ok(false)` at once.
    SkipLocked,
}

#[derive(Clone, Debug)]
pub struct ScanRequest {
    pub span: Span,
    pub at: Timestamp,
    pub reverse: bool,
    /// Most rows in the page.
    pub limit: usize,
    /// Most bytes of keys and values in the page; one row is always returned.
    pub limit_bytes: usize,
}

#[derive(Debug, Default)]
pub struct ScanPage {
    /// Key, value, and the timestamp at which the version was committed.
    pub rows: Vec<(Key, Value, Timestamp)>,
    /// Where to go on (as `start`, or as `end` when reversed); `None` at the span's end.
    pub resume: Option<Key>,
}

/// Everything a one-phase commit needs at the shard.
#[derive(Debug)]
pub struct CommitRequest {
    pub txn: TxnId,
    /// Snapshot of the reads, for validation under SERIALIZABLE.
    pub read_at: Timestamp,
    /// Spans read, when SERIALIZABLE: refused with 40001 if another transaction has committed a
    /// write into one of them after `read_at`.
    pub read_spans: Vec<Span>,
    /// Sorted, one entry per key; `None` deletes.
    pub writes: Vec<(Key, Option<Value>)>,
}

impl CommitRequest {
    /// See [`writes_catalog`].
    pub fn writes_catalog(&self) -> bool {
        writes_catalog(&self.writes)
    }
}

/// Whether any of these writes, sorted by key, is into the catalog's span ([`types::key::CATALOG_TABLE_ID`]).
pub fn writes_catalog(writes: &[(Key, Option<Value>)]) -> bool {
    let start = key::table_prefix(key::CATALOG_TABLE_ID);
    let first = writes.partition_point(|(key, _)| key[..] < start[..]);
    writes
        .get(first)
        .is_some_and(|(key, _)| key::is_catalog_key(key))
}

/// What a commit's answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub at: Timestamp,
    /// The newest commit before this one that wrote the catalog, or a timestamp between the two.
    /// ZERO: this one did not write it, or nobody did before. Whoever holds the catalog as of
    /// `catalog_before`, and adds what this commit wrote, holds it as of `at`.
    pub catalog_before: Timestamp,
}

/// A row that a statement reads, known before the statement runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point<'a> {
    pub key: &'a [u8],
    /// `None`: it is read at the statement's snapshot.
    pub lock: Option<LockMode>,
}

/// What a statement begins with, in this order: see [`Shards::open`].
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    pub txn: TxnId,
    /// Keys that are locked in [`LockMode::KeyShare`]: those of tables.
    pub tables: &'a [&'a [u8]],
    /// Of what a snapshot is taken, if one is.
    pub scope: Option<ReadScope<'a>>,
    /// Needs a lock where there is no scope.
    pub point: Option<Point<'a>>,
    /// How all of its locks are waited for. [`WaitPolicy::SkipLocked`]: the point's.
    pub policy: WaitPolicy,
}

/// A row: locked, as it is now; else as its statement's snapshot has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    pub value: Option<Value>,
    /// When it was committed. Of a locked row that was deleted: when that was.
    pub at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The snapshot; zero if none was wanted.
    pub at: Timestamp,
    /// `None`: there was no point, or it was skipped because another transaction holds it.
    pub point: Option<Version>,
}

/// The shards as a coordinator sees them.
pub trait Shards: Send + Sync + 'static {
    /// A timestamp whose snapshot holds every commit that was acknowledged before this call and wrote
    /// into the scope.
    fn read_timestamp(&self, scope: ReadScope<'_>) -> MaybeReady<Result<Timestamp>>;

    /// Whether it helps to say which one key of the span a statement is about, as far as is known here:
    /// because the span lies in several shards, or on another node.
    fn asks_for_points(&self, _span: &Span) -> bool {
        false
    }

    /// Takes locks, then a snapshot, then reads a row, in one exchange with the one other node that answers for all
    /// of it. `None`: that is not so; take the steps one by one. As with [`Shards::lock`], an error does not mean
    /// that nothing was locked.
    fn open(&self, _opening: &Opening<'_>) -> Option<MaybeReady<Result<Opened>>> {
        None
    }

    /// The newest commit known here that wrote the catalog. After an answer of
    /// [`Shards::read_timestamp`] it is not below any such commit in the snapshot; after an answer of
    /// [`Shards::lock`] for a key of the system shard, not below any that was committed before the lock
    /// was granted. It may be above all of them, not above what [`Shards::read_timestamp`] answers next.
    /// Asks nobody.
    fn catalog_changed(&self) -> Timestamp;

    /// The version of `key` visible at `at`, with its commit timestamp; tombstones are `None`.
    fn get(&self, key: &[u8], at: Timestamp) -> MaybeReady<Result<Option<(Value, Timestamp)>>>;

    /// The commit timestamp of the newest version or tombstone of `key`, however new.
    fn newest_version(&self, key: &[u8]) -> MaybeReady<Result<Option<Timestamp>>>;

    fn scan(&self, request: ScanRequest) -> MaybeReady<Result<ScanPage>>;

    /// Like [`Shards::scan`], but shows each row's key and value to `show` instead of collecting them, and
    /// returns the page's `resume`. An error of `show` ends it. `None`: these shards can't; scan.
    fn visit(
        &self,
        _request: &ScanRequest,
        _show: &mut Visitor<'_>,
    ) -> Option<Result<Option<Key>>> {
        None
    }

    /// What commits above `after` and not above `upto`, done or in flight, have written into a span,
    /// which lies within one index of one table.
    ///
    /// A commit that is given its timestamp after this call gets one above every
    /// [`Shards::read_timestamp`] given before it. So nothing written in a span between two snapshots
    /// means that both see the same rows there, now and later.
    fn changes(&self, _span: &Span, _after: Timestamp, _upto: Timestamp) -> Changes {
        Changes::Unknown
    }

    /// Takes or strengthens a lock for `txn`. `Ok(false)` only under `SkipLocked`.
    /// Dropping a pending future leaves the queue.
    fn lock(
        &self,
        txn: TxnId,
        key: &[u8],
        mode: LockMode,
        policy: WaitPolicy,
    ) -> MaybeReady<Result<bool>>;

    /// Locks `keys` (ascending, all different) in `Update` mode for rows that `txn` is about to
    /// insert, if that takes no waiting and none of them was ever written. `false`: they must be
    /// locked one by one; some may be locked already.
    fn lock_fresh(&self, _txn: TxnId, _keys: &Arc<[Key]>) -> MaybeReady<Result<bool>> {
        MaybeReady::ready(Ok(false))
    }

    /// Releases these locks (rollback to savepoint).
    fn unlock(&self, txn: TxnId, keys: &[Key]);

    /// Releases all locks of `txn` (end of transaction).
    fn unlock_all(&self, txn: TxnId);

    /// Commits durably, and returns once the commit is visible to [`Shards::read_timestamp`].
    /// An error of state 40003 means that the outcome is unknown.
    ///
    /// From this call on the shard owns the transaction's locks: it releases all of them once the
    /// outcome is known, whether or not anybody still waits for the future. (Otherwise a client
    /// that goes away would free its rows before its writes are visible.)
    fn commit(&self, request: CommitRequest) -> MaybeReady<Result<Committed>>;
}
