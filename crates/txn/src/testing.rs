//! A shard that is a map in memory, and a world in which nothing moves: for tests of transactions and
//! of the layers above.

use crate::LockTable;
use crate::kv::*;
use crate::read_set::successor;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use types::env::{BoxFuture, Clock, Env, Rng, Spawn};
use types::{Error, MaybeReady, Result, SqlState, Timestamp};

/// Answers every call at once: a lock that would have to be waited for is refused (55P03).
#[derive(Default)]
pub struct MapShards(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    versions: BTreeMap<Key, Vec<(Timestamp, Option<Value>)>>,
    now: u64,
    catalog_changed: Timestamp,
    locks: LockTable,
    validated: Vec<Span>,
}

impl MapShards {
    /// A shard in which these were committed at `at`.
    pub fn with_rows(rows: impl IntoIterator<Item = (Key, Value)>, at: Timestamp) -> MapShards {
        let rows = rows.into_iter();
        MapShards(Mutex::new(Inner {
            versions: rows
                .map(|(key, value)| (key, vec![(at, Some(value))]))
                .collect(),
            now: at.0,
            ..Inner::default()
        }))
    }

    /// The lock that a transaction holds on a key.
    pub fn held(&self, txn: TxnId, key: &[u8]) -> Option<LockMode> {
        self.0.lock().locks.held(txn, key)
    }

    pub fn is_unlocked(&self) -> bool {
        self.0.lock().locks.is_empty()
    }

    /// The spans that the last commit asked to have validated.
    pub fn validated(&self) -> Vec<Span> {
        self.0.lock().validated.clone()
    }
}

impl Inner {
    fn visible(&self, key: &[u8], at: Timestamp) -> Option<(Value, Timestamp)> {
        let versions = self.versions.get(key)?;
        let (ts, value) = versions.iter().rev().find(|(ts, _)| *ts <= at)?;
        Some((value.clone()?, *ts))
    }
}

impl Shards for MapShards {
    fn read_timestamp(&self, _: ReadScope<'_>) -> MaybeReady<Result<Timestamp>> {
        MaybeReady::ready(Ok(Timestamp(self.0.lock().now)))
    }

    fn catalog_changed(&self) -> Timestamp {
        self.0.lock().catalog_changed
    }

    fn get(&self, key: &[u8], at: Timestamp) -> MaybeReady<Result<Option<(Value, Timestamp)>>> {
        MaybeReady::ready(Ok(self.0.lock().visible(key, at)))
    }

    fn newest_version(&self, key: &[u8]) -> MaybeReady<Result<Option<Timestamp>>> {
        let inner = self.0.lock();
        let newest = inner.versions.get(key).and_then(|v| v.last());
        MaybeReady::ready(Ok(newest.map(|(at, _)| *at)))
    }

    fn scan(&self, r: ScanRequest) -> MaybeReady<Result<ScanPage>> {
        let inner = self.0.lock();
        let mut keys: Vec<&Key> = inner
            .versions
            .range(r.span.start.clone()..r.span.end.clone())
            .map(|(key, _)| key)
            .collect();
        if r.reverse {
            keys.reverse();
        }
        let mut page = ScanPage::default();
        for key in keys {
            let Some((value, at)) = inner.visible(key, r.at) else {
                continue;
            };
            if page.rows.len() == r.limit {
                let last: Key = page.rows[page.rows.len() - 1].0.clone();
                page.resume = Some(if r.reverse { last } else { successor(&last) });
                break;
            }
            page.rows.push((key.clone(), value, at));
        }
        MaybeReady::ready(Ok(page))
    }

    fn lock(
        &self,
        txn: TxnId,
        key: &[u8],
        mode: LockMode,
        policy: WaitPolicy,
    ) -> MaybeReady<Result<bool>> {
        let granted = self.0.lock().locks.try_acquire(txn, key, mode);
        MaybeReady::ready(match (granted, policy) {
            (Ok(false), WaitPolicy::Wait { .. } | WaitPolicy::NoWait) => Err(Error::new(
                SqlState::LOCK_NOT_AVAILABLE,
                "could not obtain lock",
            )),
            (granted, _) => granted,
        })
    }

    fn lock_fresh(&self, txn: TxnId, keys: &Arc<[Key]>) -> MaybeReady<Result<bool>> {
        let mut inner = self.0.lock();
        let locked = inner.locks.acquire_fresh(txn, keys);
        let written = keys.iter().any(|key| inner.versions.contains_key(key));
        MaybeReady::ready(locked.map(|locked| locked && !written))
    }

    fn unlock(&self, txn: TxnId, keys: &[Key]) {
        self.0.lock().locks.release(txn, keys);
    }

    fn unlock_all(&self, txn: TxnId) {
        self.0.lock().locks.release_all(txn);
    }

    fn commit(&self, request: CommitRequest) -> MaybeReady<Result<Committed>> {
        let mut inner = self.0.lock();
        inner.locks.release_all(request.txn);
        inner.now += 1;
        let at = Timestamp(inner.now);
        let catalog_before = match request.writes_catalog() {
            true => std::mem::replace(&mut inner.catalog_changed, at),
            false => Timestamp::ZERO,
        };
        inner.validated = request.read_spans;
        for (key, value) in request.writes {
            inner.versions.entry(key).or_default().push((at, value));
        }
        MaybeReady::ready(Ok(Committed { at, catalog_before }))
    }
}

/// A world in which it is always the same moment, the dice always fall the same way, and nothing that
/// is spawned runs.
pub fn still_env(wall_micros: i64, random: u64) -> Env {
    let world = Arc::new(StillWorld {
        wall_micros,
        random,
    });
    Env {
        clock: world.clone(),
        rng: world.clone(),
        spawn: world,
    }
}

struct StillWorld {
    wall_micros: i64,
    random: u64,
}

impl Clock for StillWorld {
    fn wall_micros(&self) -> i64 {
        self.wall_micros
    }
    fn monotonic_nanos(&self) -> u64 {
        0
    }
    fn sleep(&self, _: Duration) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }
}

impl Rng for StillWorld {
    fn next_u64(&self) -> u64 {
        self.random
    }
}

impl Spawn for StillWorld {
    fn spawn(&self, _: &'static str, _: BoxFuture<()>) {}
}
