//! One transaction, owned by one session.
//!
//! # Life
//! ```text
//!   begin ──► statements ──► commit ──► (the shard releases the locks)
//!                │  ▲
//!     savepoint  ▼  │ rollback_to          rollback or drop ──► locks released at once
//! ```
//!
//! # Reads
//! READ COMMITTED takes a new snapshot with every statement ([`Transaction::begin_statement`]); the
//! other two levels take one with the first. To read before that is an error of the caller's. A read sees the transaction's own buffered writes, then
//! its snapshot. SERIALIZABLE remembers which spans were read, and has them validated at commit.
//!
//! # Writes
//! Buffered here until commit; nobody else sees them. Whoever writes a key must have locked it (in
//! `NoKeyUpdate` or stronger): the lock keeps two writers apart, and [`Transaction::lock_and_get`]
//! reads the newest version under it, so an update is never lost. Two keys of one row (table and
//! index entries) are covered by the row's lock.
//!
//! # Many new rows
//! A bulk load locks and buffers a batch at a time ([`Transaction::lock_fresh`],
//! [`Transaction::put_fresh`]): the same locks, without a note for each. They are held until the end of
//! the transaction, so there are no batches while a savepoint is set.
//!
//! # Uniqueness
//! `lock_and_get(key, Update)` and finding nothing makes `key` the transaction's own to insert: a
//! second inserter of the same key waits, and then finds the first one's row.

mod ahead;

pub use ahead::LockedRow;

use crate::budget::Charge;
use crate::coordinator::Shared;
use crate::fresh::FreshRows;
use crate::kv::{
    CommitRequest, Committed, Isolation, Key, LockMode, ReadScope, ScanPage, ScanRequest, Span,
    TxnId, Value, WaitPolicy,
};
use crate::merge::merge;
use crate::read_set::ReadSet;
use crate::savepoint::{SavepointId, WriteBuffer, cost, fresh_cost};
use crate::snapshots::Slot;
use crate::writes::Overlay;
use ahead::Ahead;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use types::{Error, MaybeReady, Result, SqlState, Timestamp};

/// Memory of a remembered lock beside its key, or of a span that was read.
const NOTE_BYTES: usize = 96;
/// Batches of new rows refused in a row before a transaction goes row by row for good: its rows
/// exist already, or their order has nothing to do with their keys.
const FRESH_REFUSALS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Active,
    /// Committed or rolled back, or its commit is in the hands of the shard.
    Ended,
}

/// See the module.
pub struct Transaction {
    shared: Arc<Shared>,
    id: TxnId,
    isolation: Isolation,
    read_only: bool,
    state: State,
    /// Of the current statement; `None` before the first.
    snapshot: Option<Timestamp>,
    scoped: bool,
    /// What the snapshot may be read for, to notice whoever reads elsewhere.
    #[cfg(debug_assertions)]
    scope: Vec<Span>,
    /// Holds the history of the snapshot.
    slot: Option<Slot>,
    statements: u32,
    buffer: WriteBuffer,
    /// Keys locked, or queued for, with the mode known to be held.
    locks: FxHashMap<Key, Option<LockMode>>,
    /// The same keys in the order in which they were first asked for.
    lock_log: Vec<Key>,
    /// Batches of new keys that the shard would not lock, one after the other.
    fresh_refused: u32,
    fresh_locked: bool,
    reads: ReadSet,
    /// A row of the present statement that is known already.
    ahead: Option<Ahead>,
    charge: Charge,
}

impl Transaction {
    pub(crate) fn new(
        shared: Arc<Shared>,
        id: TxnId,
        isolation: Isolation,
        read_only: bool,
    ) -> Self {
        Transaction {
            shared,
            id,
            isolation,
            read_only,
            state: State::Active,
            snapshot: None,
            scoped: false,
            #[cfg(debug_assertions)]
            scope: Vec::new(),
            slot: None,
            statements: 0,
            buffer: WriteBuffer::default(),
            locks: FxHashMap::default(),
            lock_log: Vec::new(),
            fresh_refused: 0,
            fresh_locked: false,
            reads: ReadSet::default(),
            ahead: None,
            charge: Charge::default(),
        }
    }

    pub fn id(&self) -> TxnId {
        self.id
    }

    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// `SET TRANSACTION READ ONLY | READ WRITE`.
    pub fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// `SET TRANSACTION ISOLATION LEVEL`: only before the first statement (25001).
    pub fn set_isolation(&mut self, isolation: Isolation) -> Result<()> {
        if self.snapshot.is_some() && isolation != self.isolation {
            return Err(Error::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "SET TRANSACTION ISOLATION LEVEL must be called before any query",
            ));
        }
        self.isolation = isolation;
        Ok(())
    }

    /// READ COMMITTED: takes a new snapshot, for a statement that reads within `scope` only. Else:
    /// takes one of everything, once.
    pub async fn begin_statement(&mut self, scope: ReadScope<'_>) -> Result<Timestamp> {
        self.statements = self.statements.saturating_add(1);
        match (self.isolation, self.snapshot) {
            (Isolation::ReadCommitted, _) => self.take_snapshot(scope).await,
            (_, Some(at)) => Ok(at),
            (_, None) => self.take_snapshot(ReadScope::All).await,
        }
    }

    /// Raises the snapshot to now so that the current statement can be run again, with what it wrote
    /// undone by the caller (a savepoint). `false` if earlier statements are bound to the snapshot:
    /// then the error must surface.
    pub async fn restart_statement(&mut self) -> Result<bool> {
        if self.isolation != Isolation::ReadCommitted {
            if self.statements > 1 {
                return Ok(false);
            }
            self.reads.clear();
        }
        self.take_snapshot(ReadScope::All).await?;
        Ok(true)
    }

    /// The statement's snapshot is for a part of the keys only: see [`Transaction::begin_statement`].
    pub fn is_scoped(&self) -> bool {
        self.scoped
    }

    /// The snapshot of the current statement.
    pub fn read_timestamp(&self) -> Result<Timestamp> {
        self.snapshot
            .ok_or_else(|| Error::internal("a transaction reads before its first statement"))
    }

    pub fn get(&mut self, key: &[u8]) -> MaybeReady<Result<Option<Value>>> {
        let at = match self.read_timestamp() {
            Ok(at) => at,
            Err(error) => return MaybeReady::ready(Err(error)),
        };
        if let Some(own) = self.buffer.get(key) {
            return MaybeReady::ready(Ok(own.cloned()));
        }
        #[cfg(debug_assertions)]
        self.assert_in_scope(key, key);
        if let Err(error) = self.note_key(key) {
            return MaybeReady::ready(Err(error));
        }
        if let Some(known) = self.take_ahead(key, None) {
            return MaybeReady::ready(Ok(known.value));
        }
        self.shared
            .shards
            .get(key, at)
            .map(|found| found.map(|version| version.map(|(value, _)| value)))
    }

    /// A page of the span, own writes merged in ([`crate::OWN_WRITE`] as their timestamp). `resume`
    /// says where to go on, as the next `start` or, reversed, as the next `end`.
    pub fn scan(
        &mut self,
        mut span: Span,
        reverse: bool,
        limit: usize,
        limit_bytes: usize,
    ) -> MaybeReady<Result<ScanPage>> {
        let at = match self.read_timestamp() {
            Ok(at) => at,
            Err(error) => return MaybeReady::ready(Err(error)),
        };
        #[cfg(debug_assertions)]
        self.assert_in_scope(&span.start, &span.end);
        loop {
            let (own, own_last) = self.buffer.page(&span, reverse, limit, limit_bytes);
            let request = ScanRequest {
                span: span.clone(),
                at,
                reverse,
                limit,
                limit_bytes,
            };
            let page = match self.shared.shards.scan(request) {
                MaybeReady::Ready(Some(Ok(page))) => page,
                MaybeReady::Ready(other) => return MaybeReady::Ready(other),
                MaybeReady::Pending(page) => {
                    // How far the page will reach is not known yet, so all of it counts as read.
                    if let Err(error) = self.note_scan(span) {
                        return MaybeReady::ready(Err(error));
                    }
                    return MaybeReady::pending(async move {
                        let page = page.await?;
                        Ok(merge(own, own_last, page, reverse, limit, limit_bytes))
                    });
                }
            };
            let page = merge(own, own_last, page, reverse, limit, limit_bytes);
            let mut seen = span.clone();
            if let Some(resume) = &page.resume {
                if reverse {
                    seen.start = resume.clone();
                    span.end = resume.clone();
                } else {
                    seen.end = resume.clone();
                    span.start = resume.clone();
                }
            }
            if let Err(error) = self.note_scan(seen) {
                return MaybeReady::ready(Err(error));
            }
            // All rows of the page were deleted by this transaction: the next one, then.
            if page.rows.is_empty() && page.resume.is_some() {
                continue;
            }
            return MaybeReady::ready(Ok(page));
        }
    }

    /// Buffers a write. The key must be covered by a lock of this transaction (see the module).
    pub fn put(&mut self, key: impl Into<Key>, value: impl Into<Value>) -> Result<()> {
        self.write(key.into(), Some(value.into()))
    }

    /// Buffers a deletion. As [`Transaction::put`].
    pub fn delete(&mut self, key: impl Into<Key>) -> Result<()> {
        self.write(key.into(), None)
    }

    /// Takes or strengthens a lock. `Ok(false)` only under [`WaitPolicy::SkipLocked`].
    ///
    /// A table is locked by its own key: statements that write rows take `KeyShare`, which all may
    /// hold at once; `CREATE INDEX` takes `Share` against `NoKeyUpdate`; DDL takes `Update`.
    pub fn lock(
        &mut self,
        key: &[u8],
        mode: LockMode,
        policy: WaitPolicy,
    ) -> MaybeReady<Result<bool>> {
        let known = self.locks.get(key).copied();
        if let Some(Some(held)) = known
            && held >= mode
        {
            return MaybeReady::ready(Ok(true));
        }
        if known.is_none()
            && let Err(error) = self.pay(key.len() + NOTE_BYTES)
        {
            return MaybeReady::ready(Err(error));
        }
        let answer = self.shared.shards.lock(self.id, key, mode, policy);
        let held = match &answer {
            MaybeReady::Ready(Some(Ok(true))) => Some(mode),
            MaybeReady::Ready(_) => return answer,
            // Perhaps granted later, perhaps not; the next call for it asks the shard again.
            MaybeReady::Pending(_) => known.flatten(),
        };
        self.note_lock(key, held);
        answer
    }

    /// That the key is locked, or asked for. Its memory is paid for.
    fn note_lock(&mut self, key: &[u8], held: Option<LockMode>) {
        match self.locks.get_mut(key) {
            Some(note) => *note = held,
            None => {
                let key = Key::copy_from_slice(key);
                self.lock_log.push(key.clone());
                self.locks.insert(key, held);
            }
        }
    }

    /// Whether batches of new rows are worth a try.
    pub fn takes_fresh(&self) -> bool {
        !self.read_only
            && !self.validates()
            && !self.buffer.has_savepoints()
            && self.fresh_refused < FRESH_REFUSALS
    }

    /// Whether none of these rows, of one insertion, was written by this transaction before, and
    /// then locks the keys of those in `unique` for insertion. `false`: insert them row by row, which
    /// waits where another transaction is in the way, and finds rows that are there already.
    pub fn lock_fresh(&mut self, rows: &[FreshRows], unique: &[bool]) -> MaybeReady<Result<bool>> {
        if !self.takes_fresh() || rows.iter().any(|rows| self.buffer.holds_any(rows.keys())) {
            return MaybeReady::ready(Ok(false));
        }
        let mut answers = Vec::new();
        for (rows, _) in rows.iter().zip(unique).filter(|(_, unique)| **unique) {
            self.fresh_locked = true;
            match self.shared.shards.lock_fresh(self.id, rows.keys()) {
                MaybeReady::Ready(Some(Ok(true))) => {}
                MaybeReady::Ready(Some(Ok(false))) => {
                    self.fresh_refused += 1;
                    return MaybeReady::ready(Ok(false));
                }
                MaybeReady::Ready(other) => return MaybeReady::Ready(other),
                MaybeReady::Pending(answer) => answers.push(answer),
            }
        }
        if answers.is_empty() {
            self.fresh_refused = 0;
            return MaybeReady::ready(Ok(true));
        }
        MaybeReady::pending(async move {
            for answer in answers {
                if !answer.await? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Buffers new rows, after [`Transaction::lock_fresh`] said `true`.
    pub fn put_fresh(&mut self, rows: FreshRows) -> Result<()> {
        self.pay(fresh_cost(&rows))?;
        self.buffer.put_fresh(rows);
        Ok(())
    }

    /// Whether this transaction itself has written a value under the key. Asks nobody.
    pub fn has_written(&self, key: &[u8]) -> bool {
        self.buffer.get(key).is_some_and(|value| value.is_some())
    }

    /// Buffers rows of a table or index that this transaction has made: nobody else knows of it, so none of its keys
    /// was written by others, and no lock of theirs is needed. `false`: nothing is done, because this transaction has
    /// written one of the keys before; then write them one by one.
    pub fn put_own(&mut self, rows: FreshRows) -> Result<bool> {
        if self.buffer.holds_any(rows.keys()) {
            return Ok(false);
        }
        if self.read_only {
            return Err(read_only());
        }
        self.pay(fresh_cost(&rows))?;
        self.buffer.put_fresh(rows);
        Ok(true)
    }

    pub fn savepoint(&mut self) -> SavepointId {
        self.buffer.savepoint(self.lock_log.len())
    }

    /// Forgets the savepoint and those after it; what was done since stays.
    pub fn release_savepoint(&mut self, savepoint: SavepointId) -> Result<()> {
        let freed = self.buffer.release(savepoint).ok_or_else(no_savepoint)?;
        self.charge.remove(freed);
        Ok(())
    }

    /// Undoes what was written since, and releases the locks first taken since. The savepoint
    /// stays set. A lock that was strengthened since keeps its strength.
    pub fn rollback_to(&mut self, savepoint: SavepointId) -> Result<()> {
        self.ahead = None;
        let undone = self.buffer.rollback_to(savepoint);
        let (locks, freed) = undone.ok_or_else(no_savepoint)?;
        self.charge.remove(freed);
        if locks < self.lock_log.len() {
            let released = self.lock_log.split_off(locks);
            for key in &released {
                self.locks.remove(key);
                self.charge.remove(key.len() + NOTE_BYTES);
            }
            self.shared.shards.unlock(self.id, &released);
        }
        Ok(())
    }

    pub fn has_writes(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Buffered writes, by key.
    pub fn writes_len(&self) -> usize {
        self.buffer.len()
    }

    /// The buffered writes as they are now, for a view that outlives this borrow; `None` if there
    /// are none.
    pub fn overlay(&self) -> Option<Overlay> {
        (!self.buffer.is_empty()).then(|| self.buffer.share())
    }

    /// Whether spans read through a view must be told to [`Transaction::note_reads`].
    pub fn notes_reads(&self) -> bool {
        self.validates()
    }

    /// Spans that were read through a view of this transaction's snapshot.
    pub fn note_reads(&mut self, spans: Vec<Span>) -> Result<()> {
        for span in spans {
            self.note_scan(span)?;
        }
        Ok(())
    }

    /// Keeps what the current snapshot sees from being collected, also after this transaction.
    pub fn hold_snapshot(&mut self) -> Result<SnapshotGuard> {
        let at = self.read_timestamp()?;
        let slot = self.shared.snapshots.enter(self.id.0 as u64);
        self.shared.snapshots.choose(&slot, at);
        Ok(SnapshotGuard {
            shared: Arc::clone(&self.shared),
            slot: Some(slot),
        })
    }

    /// Commits, durably and visibly to all who begin afterwards. Without writes there is nothing to
    /// do but release locks. The transaction has ended, whatever the outcome.
    pub fn commit(&mut self) -> MaybeReady<Result<Committed>> {
        if self.state == State::Ended {
            return MaybeReady::ready(Err(Error::internal("the transaction has ended already")));
        }
        if self.buffer.is_empty() {
            let at = self.snapshot.unwrap_or(Timestamp::ZERO);
            self.rollback();
            return MaybeReady::ready(Ok(Committed {
                at,
                catalog_before: Timestamp::ZERO,
            }));
        }
        let request = CommitRequest {
            txn: self.id,
            // Without a snapshot nothing was read that would have to be validated.
            read_at: self.snapshot.unwrap_or(Timestamp::ZERO),
            read_spans: std::mem::take(&mut self.reads).into_spans(),
            writes: self.buffer.take(),
        };
        // From here on the locks are the shard's. The memory stays charged until the session lets
        // go of the transaction.
        self.state = State::Ended;
        self.leave_snapshot();
        self.shared.shards.commit(request)
    }

    /// Forgets all writes and releases all locks. Harmless after the end.
    pub fn rollback(&mut self) {
        if self.state == State::Active {
            self.state = State::Ended;
            if !self.lock_log.is_empty() || self.fresh_locked {
                self.shared.shards.unlock_all(self.id);
                self.locks = FxHashMap::default();
                self.lock_log = Vec::new();
            }
            self.leave_snapshot();
        }
        // Everything that takes memory is charged.
        if self.charge.is_taken() {
            self.buffer.clear();
            self.reads.clear();
            self.charge.clear(&self.shared.budget);
        }
    }

    fn write(&mut self, key: Key, value: Option<Value>) -> Result<()> {
        if self.read_only {
            return Err(read_only());
        }
        self.pay(cost(&key, value.as_deref()))?;
        let freed = self.buffer.put(key, value);
        self.charge.remove(freed);
        Ok(())
    }

    /// Whether reads must be remembered. Not for a read-only transaction: it runs at the instant of
    /// its snapshot.
    fn validates(&self) -> bool {
        self.isolation == Isolation::Serializable && !self.read_only
    }

    fn note_key(&mut self, key: &[u8]) -> Result<()> {
        if self.validates() {
            self.pay(2 * key.len() + NOTE_BYTES)?;
            self.reads.add_key(key);
        }
        Ok(())
    }

    fn note_scan(&mut self, span: Span) -> Result<()> {
        if self.validates() {
            self.pay(span.start.len() + span.end.len() + NOTE_BYTES)?;
            self.reads.add(span);
        }
        Ok(())
    }

    /// Outside of its scope a snapshot may lack commits that were acknowledged before it.
    #[cfg(debug_assertions)]
    fn assert_in_scope(&self, start: &[u8], end: &[u8]) {
        let is_inside = |span: &Span| &span.start[..] <= start && end <= &span.end[..];
        let system = types::key::table_prefix(types::key::FIRST_USER_TABLE_ID);
        assert!(
            !self.scoped || start < &system[..] || self.scope.iter().any(is_inside),
            "a read at {start:?} is outside of its statement's scope"
        );
    }

    fn pay(&mut self, bytes: usize) -> Result<()> {
        let limit = self.shared.limits.transaction_bytes;
        self.charge.add(&self.shared.budget, limit, bytes)
    }

    /// Dropped while it waits, or refused: the snapshot stays what it was.
    async fn take_snapshot(&mut self, scope: ReadScope<'_>) -> Result<Timestamp> {
        self.begin_choice();
        let taken = self.shared.shards.read_timestamp(scope).await;
        self.end_choice(scope, taken)
    }

    /// A new snapshot is about to be asked for.
    fn begin_choice(&mut self) {
        self.ahead = None;
        let snapshots = &self.shared.snapshots;
        match &self.slot {
            Some(slot) => snapshots.begin_choice(slot),
            None => self.slot = Some(snapshots.enter(self.id.0 as u64)),
        }
    }

    fn end_choice(&mut self, scope: ReadScope<'_>, taken: Result<Timestamp>) -> Result<Timestamp> {
        let chosen = match &taken {
            Ok(at) => Some(*at),
            Err(_) => self.snapshot,
        };
        match (&self.slot, chosen) {
            (Some(slot), Some(at)) => self.shared.snapshots.choose(slot, at),
            _ => self.leave_snapshot(),
        }
        if let Ok(at) = taken {
            self.snapshot = Some(at);
            self.note_scope(scope);
        }
        taken
    }

    fn note_scope(&mut self, scope: ReadScope<'_>) {
        self.scoped = matches!(scope, ReadScope::Spans(_));
        #[cfg(debug_assertions)]
        if let ReadScope::Spans(spans) = scope {
            self.scope = spans.to_vec();
        }
    }

    fn leave_snapshot(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.shared.snapshots.leave(slot);
        }
    }
}

/// See [`Transaction::hold_snapshot`].
pub struct SnapshotGuard {
    shared: Arc<Shared>,
    slot: Option<Slot>,
}

impl Drop for SnapshotGuard {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.shared.snapshots.leave(slot);
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.rollback();
    }
}

fn read_only() -> Error {
    Error::new(
        SqlState::READ_ONLY_SQL_TRANSACTION,
        "cannot write in a read-only transaction",
    )
}

fn no_savepoint() -> Error {
    Error::new(
        SqlState::INVALID_SAVEPOINT_SPECIFICATION,
        "savepoint does not exist",
    )
}
