//! Transactions over a shard that is a map in memory and never makes anybody wait.

use crate::kv::*;
use crate::{Coordinator, Limits, LockTable, LockedRow, Transaction};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use types::env::{BoxFuture, Clock, Env, Rng, Spawn};
use types::{Error, MaybeReady, Result, SqlState, Timestamp};

#[derive(Default)]
struct Inner {
    versions: BTreeMap<Key, Vec<(Timestamp, Option<Value>)>>,
    now: u64,
    locks: LockTable,
    validated: Vec<Span>,
}

#[derive(Default)]
struct MapShards(Mutex<Inner>);

impl MapShards {
    fn visible(inner: &Inner, key: &[u8], at: Timestamp) -> Option<(Value, Timestamp)> {
        let versions = inner.versions.get(key)?;
        let (ts, value) = versions.iter().rev().find(|(ts, _)| *ts <= at)?;
        Some((value.clone()?, *ts))
    }
}

impl Shards for MapShards {
    fn read_timestamp(&self) -> Timestamp {
        Timestamp(self.0.lock().now)
    }

    fn get(&self, key: &[u8], at: Timestamp) -> MaybeReady<Result<Option<(Value, Timestamp)>>> {
        MaybeReady::ready(Ok(Self::visible(&self.0.lock(), key, at)))
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
            let Some((value, at)) = Self::visible(&inner, key, r.at) else {
                continue;
            };
            if page.rows.len() == r.limit {
                let last: Key = page.rows[page.rows.len() - 1].0.clone();
                page.resume = Some(if r.reverse {
                    last
                } else {
                    crate::read_set::successor(&last)
                });
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

    fn unlock(&self, txn: TxnId, keys: &[Key]) {
        self.0.lock().locks.release(txn, keys);
    }

    fn unlock_all(&self, txn: TxnId) {
        self.0.lock().locks.release_all(txn);
    }

    fn commit(&self, request: CommitRequest) -> MaybeReady<Result<Timestamp>> {
        let mut inner = self.0.lock();
        inner.locks.release_all(request.txn);
        inner.now += 1;
        let at = Timestamp(inner.now);
        inner.validated = request.read_spans;
        for (key, value) in request.writes {
            inner.versions.entry(key).or_default().push((at, value));
        }
        MaybeReady::ready(Ok(at))
    }
}

struct NoWorld;

impl Clock for NoWorld {
    fn wall_micros(&self) -> i64 {
        0
    }
    fn monotonic_nanos(&self) -> u64 {
        0
    }
    fn sleep(&self, _: Duration) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }
}

impl Rng for NoWorld {
    fn next_u64(&self) -> u64 {
        7
    }
}

impl Spawn for NoWorld {
    fn spawn(&self, _: &'static str, _: BoxFuture<()>) {}
}

fn coordinator_with(limits: Limits) -> (Coordinator, Arc<MapShards>) {
    let shards = Arc::new(MapShards::default());
    let env = Env {
        clock: Arc::new(NoWorld),
        rng: Arc::new(NoWorld),
        spawn: Arc::new(NoWorld),
    };
    (Coordinator::new(shards.clone(), env, limits), shards)
}

fn coordinator() -> (Coordinator, Arc<MapShards>) {
    coordinator_with(Limits::default())
}

fn now<T: Unpin>(answer: MaybeReady<T>) -> T {
    match answer {
        MaybeReady::Ready(Some(value)) => value,
        _ => panic!("this shard answers at once"),
    }
}

fn read(txn: &mut Transaction, key: &'static str) -> Option<String> {
    now(txn.get(key.as_bytes()))
        .expect("readable")
        .map(|value| String::from_utf8_lossy(&value).into_owned())
}

fn set(coordinator: &Coordinator, key: &'static str, value: Option<&'static str>) {
    let mut txn = coordinator.begin(Isolation::ReadCommitted, false);
    match value {
        Some(value) => txn.put(key, value).expect("writable"),
        None => txn.delete(key).expect("writable"),
    }
    now(txn.commit()).expect("committed");
}

const FOREVER: WaitPolicy = WaitPolicy::Wait {
    deadline_nanos: None,
};

#[test]
fn snapshots_by_isolation_level() {
    let (c, _) = coordinator();
    set(&c, "a", Some("1"));
    let mut committed = c.begin(Isolation::ReadCommitted, false);
    let mut repeatable = c.begin(Isolation::RepeatableRead, false);
    for txn in [&mut committed, &mut repeatable] {
        txn.begin_statement();
        assert_eq!(read(txn, "a").as_deref(), Some("1"));
    }
    set(&c, "a", Some("2"));
    // Within the statement both stay.
    assert_eq!(read(&mut committed, "a").as_deref(), Some("1"));
    committed.begin_statement();
    repeatable.begin_statement();
    assert_eq!(read(&mut committed, "a").as_deref(), Some("2"));
    assert_eq!(read(&mut repeatable, "a").as_deref(), Some("1"));
    assert!(!repeatable.restart_statement());
    assert!(committed.restart_statement());
}

#[test]
fn a_locked_row_is_read_anew() {
    let (c, _) = coordinator();
    set(&c, "a", Some("1"));
    let mut committed = c.begin(Isolation::ReadCommitted, false);
    let mut repeatable = c.begin(Isolation::RepeatableRead, false);
    committed.begin_statement();
    repeatable.begin_statement();
    set(&c, "a", Some("2"));
    let error = now(repeatable.lock_and_get(b"a", LockMode::Share, FOREVER)).unwrap_err();
    assert_eq!(error.state, SqlState::SERIALIZATION_FAILURE);
    assert_eq!(
        error.message,
        "could not serialize access due to concurrent update"
    );
    assert!(repeatable.restart_statement());
    let row = now(repeatable.lock_and_get(b"a", LockMode::Share, FOREVER));
    assert_eq!(row, Ok(LockedRow::Unchanged(Some("2".into()))));
    repeatable.rollback();
    let row = now(committed.lock_and_get(b"a", LockMode::Update, FOREVER));
    assert_eq!(row, Ok(LockedRow::Changed(Some("2".into()))));
    committed.put("a", "3").unwrap();
    let row = now(committed.lock_and_get(b"a", LockMode::Update, FOREVER));
    assert_eq!(row, Ok(LockedRow::Unchanged(Some("3".into()))));
    let mut other = c.begin(Isolation::ReadCommitted, false);
    let skipped = now(other.lock_and_get(b"a", LockMode::Share, WaitPolicy::SkipLocked));
    assert_eq!(skipped, Ok(LockedRow::Skipped));
    drop(committed);
    set(&c, "a", None);
    let row = now(other.lock_and_get(b"a", LockMode::Share, WaitPolicy::NoWait));
    assert_eq!(row, Ok(LockedRow::Changed(None)));
    let mut repeatable = c.begin(Isolation::RepeatableRead, false);
    repeatable.begin_statement();
    set(&c, "b", Some("1"));
    set(&c, "b", None);
    let error = now(repeatable.lock_and_get(b"b", LockMode::Share, FOREVER)).unwrap_err();
    assert_eq!(
        error.message,
        "could not serialize access due to concurrent delete"
    );
}

#[test]
fn savepoints_undo_writes_and_free_locks() {
    let (c, shards) = coordinator();
    let mut txn = c.begin(Isolation::ReadCommitted, false);
    txn.put("a", "1").unwrap();
    now(txn.lock(b"a", LockMode::Update, FOREVER)).unwrap();
    let outer = txn.savepoint();
    txn.put("a", "2").unwrap();
    txn.put("b", "2").unwrap();
    now(txn.lock(b"b", LockMode::Update, FOREVER)).unwrap();
    let inner = txn.savepoint();
    txn.delete("a").unwrap();
    txn.delete("b").unwrap();
    assert_eq!(read(&mut txn, "a"), None);
    txn.rollback_to(inner).unwrap();
    assert_eq!(read(&mut txn, "a").as_deref(), Some("2"));
    txn.release_savepoint(inner).unwrap();
    assert!(txn.rollback_to(inner).is_err());
    txn.rollback_to(outer).unwrap();
    txn.rollback_to(outer).unwrap();
    assert_eq!(read(&mut txn, "a").as_deref(), Some("1"));
    assert_eq!(read(&mut txn, "b"), None);
    assert_eq!(txn.writes_len(), 1);
    let id = txn.id();
    assert_eq!(shards.0.lock().locks.held(id, b"a"), Some(LockMode::Update));
    assert_eq!(shards.0.lock().locks.held(id, b"b"), None);
    drop(txn);
    assert!(shards.0.lock().locks.is_empty());
    assert_eq!(c.memory_used(), 0);
    assert!(c.snapshots().is_empty());
}

#[test]
fn memory_is_limited_and_overwriting_is_free() {
    let (c, _) = coordinator_with(Limits {
        transaction_bytes: 10_000,
        node_bytes: 1 << 20,
    });
    let mut txn = c.begin(Isolation::ReadCommitted, false);
    for _ in 0..1000 {
        txn.put("a", vec![0; 1000]).unwrap();
    }
    let savepoint = txn.savepoint();
    for _ in 0..100 {
        for _ in 0..5 {
            txn.put("a", vec![0; 1000]).unwrap();
        }
        txn.rollback_to(savepoint).unwrap();
    }
    txn.release_savepoint(savepoint).unwrap();
    let error = txn.put("b", vec![0; 9000]).unwrap_err();
    assert_eq!(error.state, SqlState::OUT_OF_MEMORY);
    assert_eq!(txn.writes_len(), 1);
    assert!(now(txn.commit()).is_ok());
    drop(txn);
    assert_eq!(c.memory_used(), 0);
}

#[test]
fn serializable_remembers_reads_of_others_rows_only() {
    let (c, shards) = coordinator();
    set(&c, "b", Some("1"));
    set(&c, "c", Some("1"));
    let mut txn = c.begin(Isolation::Serializable, false);
    txn.put("a", "1").unwrap();
    read(&mut txn, "a");
    read(&mut txn, "x");
    let all = Span {
        start: "b".into(),
        end: "d".into(),
    };
    let page = now(txn.scan(all, false, 1, usize::MAX)).unwrap();
    assert_eq!(page.rows.len(), 1);
    now(txn.commit()).unwrap();
    let spans = shards.0.lock().validated.clone();
    let expected: [(&[u8], &[u8]); 2] = [(b"b", b"b\0"), (b"x", b"x\0")];
    assert!(
        spans
            .iter()
            .map(|s| (&s.start[..], &s.end[..]))
            .eq(expected)
    );
    let mut reader = c.begin(Isolation::Serializable, true);
    assert_eq!(read(&mut reader, "a").as_deref(), Some("1"));
    assert_eq!(
        reader.put("z", "1").unwrap_err().state,
        SqlState::READ_ONLY_SQL_TRANSACTION
    );
    assert!(now(reader.commit()).is_ok());
}

proptest! {
    /// Pages of any size, in both directions, give what a map of the committed rows with the own
    /// writes laid over it holds.
    #[test]
    fn scans_merge_own_writes(
        committed in proptest::collection::btree_map(0..40u8, any::<u8>(), 0..30),
        own in proptest::collection::btree_map(0..40u8, any::<Option<u8>>(), 0..30),
        (low, high) in (0..40u8, 0..41u8),
        reverse in any::<bool>(),
        limit in 1..12usize,
    ) {
        let (c, _) = coordinator();
        let mut txn = c.begin(Isolation::ReadCommitted, false);
        for (key, value) in &committed {
            txn.put(vec![*key], vec![*value]).unwrap();
        }
        now(txn.commit()).unwrap();
        let mut txn = c.begin(Isolation::ReadCommitted, false);
        let mut model = committed.clone();
        for (key, value) in &own {
            match value {
                Some(value) => {
                    txn.put(vec![*key], vec![*value]).unwrap();
                    model.insert(*key, *value);
                }
                None => {
                    txn.delete(vec![*key]).unwrap();
                    model.remove(key);
                }
            }
        }
        let mut expected: Vec<(u8, u8)> = if low < high {
            model.range(low..high).map(|(k, v)| (*k, *v)).collect()
        } else {
            Vec::new()
        };
        if reverse {
            expected.reverse();
        }
        let mut span = Span { start: vec![low].into(), end: vec![high.max(low)].into() };
        let mut found = Vec::new();
        loop {
            let page = now(txn.scan(span.clone(), reverse, limit, 1 << 20)).unwrap();
            prop_assert!(page.rows.len() <= limit);
            prop_assert!(!page.rows.is_empty() || page.resume.is_none());
            found.extend(page.rows.iter().map(|(k, v, _)| (k[0], v[0])));
            match page.resume {
                Some(at) if reverse => span.end = at,
                Some(at) => span.start = at,
                None => break,
            }
        }
        prop_assert_eq!(found, expected);
    }
}
