//! What a statement asks for before it runs, and rows that come with their locks.
//!
//! At a lease holder on this node each question is answered at once, so they are asked one by one. On another node
//! each is an exchange, which costs more than its answer. So a statement that knows its first row says so when
//! it begins ([`Transaction::begin_with`]): its tables' locks, its snapshot and that row, locked if it is to be
//! changed, come in one exchange ([`crate::kv::Shards::open`]). The row is remembered until it is asked for, or
//! until the next snapshot.

use super::{NOTE_BYTES, Transaction};
use crate::kv::{
    Isolation, Key, LockMode, Opening, Point, ReadScope, Span, Value, Version, WaitPolicy,
};
use crate::newest::{judge, newest};
use smallvec::SmallVec;
use std::sync::Arc;
use types::{MaybeReady, Result, Timestamp};

/// What [`Transaction::lock_and_get`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockedRow {
    /// Another transaction holds the row and the policy was to skip.
    Skipped,
    /// The newest version is the one the statement's snapshot sees (or the transaction's own write).
    Unchanged(Option<Value>),
    /// READ COMMITTED only: the newest version was committed after the snapshot. The statement's
    /// condition must be evaluated again on it.
    Changed(Option<Value>),
}

/// A row that was read before it was asked for.
pub(super) struct Ahead {
    key: Key,
    /// As its newest version; `None`: as of the snapshot.
    lock: Option<LockMode>,
    version: Version,
}

/// Whether the span is that of this key alone.
fn is_row(span: &Span, key: &[u8]) -> bool {
    let (first, end) = (&span.start[..], &span.end[..]);
    first == key && end.split_last() == Some((&0, key))
}

impl Transaction {
    /// Begins a statement that locks `tables` in `KeyShare` and then reads within `scope` only, first of all `point`
    /// perhaps: as [`Transaction::lock`] for each and [`Transaction::begin_statement`] do. An error does not mean
    /// that nothing was locked.
    pub async fn begin_with(
        &mut self,
        tables: &[&[u8]],
        policy: WaitPolicy,
        scope: ReadScope<'_>,
        point: Option<Point<'_>>,
    ) -> Result<Timestamp> {
        if let Some(at) = self.open(tables, policy, scope, point).await? {
            return Ok(at);
        }
        for key in tables {
            self.lock(key, LockMode::KeyShare, policy).await?;
        }
        self.begin_statement(scope).await
    }

    /// `None`: it takes several exchanges, or none.
    async fn open(
        &mut self,
        tables: &[&[u8]],
        policy: WaitPolicy,
        scope: ReadScope<'_>,
        point: Option<Point<'_>>,
    ) -> Result<Option<Timestamp>> {
        // At the other levels only the first statement takes a snapshot, and one of everything.
        let ReadScope::Spans(spans) = scope else {
            return Ok(None);
        };
        let shards = &self.shared.shards;
        if self.isolation != Isolation::ReadCommitted
            || !spans.iter().any(|span| shards.asks_for_points(span))
        {
            return Ok(None);
        }
        let missing = tables
            .iter()
            .copied()
            .filter(|key| !self.holds(key, LockMode::KeyShare));
        let tables: SmallVec<[&[u8]; 4]> = missing.collect();
        let is_own = |point: &Point<'_>| {
            let locked = point.lock.is_some_and(|mode| self.holds(point.key, mode));
            locked || self.buffer.get(point.key).is_some()
        };
        if let (Some(at), Some(Point { key, lock: None }), [span]) = (self.snapshot, point, spans)
            && tables.is_empty()
            && self.buffer.get(key).is_some()
            && is_row(span, key)
        {
            // All that it reads is its own. Any snapshot will do.
            self.statements = self.statements.saturating_add(1);
            self.ahead = None;
            self.note_scope(scope);
            return Ok(Some(at));
        }
        let point = point.filter(|point| !is_own(point));
        let row = point.and_then(|point| Some((point.key, point.lock?)));
        let locks: SmallVec<[(&[u8], LockMode); 5]> = tables
            .iter()
            .map(|key| (*key, LockMode::KeyShare))
            .chain(row)
            .collect();
        let new = locks
            .iter()
            .filter(|(key, _)| !self.locks.contains_key(*key));
        let bytes = new.map(|(key, _)| key.len() + NOTE_BYTES).sum();
        self.pay(bytes)?;
        self.begin_choice();
        let asked = self.shared.shards.open(&Opening {
            txn: self.id,
            tables: &tables,
            scope: Some(scope),
            point,
            policy,
        });
        // If this future is dropped, the locks may be granted all the same.
        for (key, _) in &locks {
            let held = self.locks.get(*key).copied().flatten();
            self.note_lock(key, held);
        }
        let Some(answer) = asked else {
            return Ok(None);
        };
        self.statements = self.statements.saturating_add(1);
        let (taken, found) = match answer.await {
            Ok(opened) => (Ok(opened.at), opened.point),
            Err(error) => (Err(error), None),
        };
        let at = self.end_choice(scope, taken)?;
        for (key, mode) in &locks {
            self.note_lock(key, Some(*mode));
        }
        self.ahead = point.zip(found).map(|(point, version)| Ahead {
            key: Key::copy_from_slice(point.key),
            lock: point.lock,
            version,
        });
        Ok(Some(at))
    }

    /// The row if it is known, locked in `lock` or stronger.
    pub(super) fn take_ahead(&mut self, key: &[u8], lock: Option<LockMode>) -> Option<Version> {
        let fits = |ahead: &mut Ahead| match lock {
            Some(mode) => ahead.key == key && ahead.lock >= Some(mode),
            None => ahead.key == key && ahead.lock.is_none(),
        };
        self.ahead.take_if(fits).map(|ahead| ahead.version)
    }

    fn holds(&self, key: &[u8], mode: LockMode) -> bool {
        let held = self.locks.get(key).copied().flatten();
        held.is_some_and(|held| held >= mode)
    }

    /// Locks a row, then reads its newest committed version (or the own write). Under REPEATABLE
    /// READ and SERIALIZABLE a version newer than the snapshot is 40001. READ COMMITTED needs no
    /// snapshot for it: before the first statement nothing counts as changed.
    pub fn lock_and_get(
        &mut self,
        key: &[u8],
        mode: LockMode,
        policy: WaitPolicy,
    ) -> MaybeReady<Result<LockedRow>> {
        let at = match (self.isolation, self.read_timestamp()) {
            (_, Ok(at)) => at,
            (Isolation::ReadCommitted, Err(_)) => Timestamp::MAX,
            (_, Err(error)) => return MaybeReady::ready(Err(error)),
        };
        let own = self.buffer.get(key).map(|value| value.cloned());
        // While the lock is held nobody else writes the row, but a rollback to a savepoint can
        // release it, and `KeyShare` lets others change what is not the key.
        if own.is_none()
            && let Err(error) = self.note_key(key)
        {
            return MaybeReady::ready(Err(error));
        }
        let fixed = self.isolation != Isolation::ReadCommitted;
        if own.is_none() {
            if let Some(known) = self.take_ahead(key, Some(mode)) {
                return MaybeReady::ready(judge(known, at, fixed));
            }
            match self.lock_with_row(key, mode, policy) {
                Ok(Some(row)) => {
                    return row.map(move |row| match row? {
                        Some(version) => judge(version, at, fixed),
                        None => Ok(LockedRow::Skipped),
                    });
                }
                Ok(None) => {}
                Err(error) => return MaybeReady::ready(Err(error)),
            }
        }
        let locked = self.lock(key, mode, policy);
        match locked {
            MaybeReady::Ready(Some(Ok(true))) => match own {
                Some(own) => MaybeReady::ready(Ok(LockedRow::Unchanged(own))),
                None => newest(&self.shared.shards, key, at, fixed),
            },
            MaybeReady::Ready(Some(Ok(false))) => MaybeReady::ready(Ok(LockedRow::Skipped)),
            MaybeReady::Ready(Some(Err(error))) => MaybeReady::ready(Err(error)),
            MaybeReady::Ready(None) => MaybeReady::Ready(None),
            MaybeReady::Pending(locked) => {
                let shards = Arc::clone(&self.shared.shards);
                let key = Key::copy_from_slice(key);
                MaybeReady::pending(async move {
                    if !locked.await? {
                        return Ok(LockedRow::Skipped);
                    }
                    match own {
                        Some(own) => Ok(LockedRow::Unchanged(own)),
                        None => newest(&shards, &key, at, fixed).await,
                    }
                })
            }
        }
    }

    /// `None` also if the lock is held: then there is nothing to be spared.
    fn lock_with_row(
        &mut self,
        key: &[u8],
        mode: LockMode,
        policy: WaitPolicy,
    ) -> Result<Option<MaybeReady<Result<Option<Version>>>>> {
        if self.holds(key, mode) {
            return Ok(None);
        }
        let asked = self.shared.shards.open(&Opening {
            txn: self.id,
            tables: &[],
            scope: None,
            point: Some(Point {
                key,
                lock: Some(mode),
            }),
            policy,
        });
        let Some(answer) = asked else {
            return Ok(None);
        };
        let known = self.locks.get(key).copied();
        if known.is_none() {
            self.pay(key.len() + NOTE_BYTES)?;
        }
        self.note_lock(key, known.flatten());
        Ok(Some(answer.map(|opened| Ok(opened?.point))))
    }
}
