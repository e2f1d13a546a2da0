//! Transactions over a shard that is a map in memory and never makes anybody wait.

use crate::kv::*;
use crate::testing::{MapShards, still_env};
use crate::{Coordinator, FreshBuilder, FreshRows, Limits, LockedRow, Transaction};
use proptest::prelude::*;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use types::{SqlState, Timestamp};

fn coordinator_with(limits: Limits) -> (Coordinator, Arc<MapShards>) {
    let shards = Arc::new(MapShards::default());
    let env = still_env(0, 7);
    (Coordinator::new(shards.clone(), env, limits), shards)
}

fn coordinator() -> (Coordinator, Arc<MapShards>) {
    coordinator_with(Limits::default())
}

fn now<T>(answer: impl Future<Output = T>) -> T {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("this shard answers at once"),
    }
}

fn begin(txn: &mut Transaction) {
    now(txn.begin_statement(ReadScope::All)).expect("a snapshot");
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
        begin(txn);
        assert_eq!(read(txn, "a").as_deref(), Some("1"));
    }
    set(&c, "a", Some("2"));
    // Within the statement both stay.
    assert_eq!(read(&mut committed, "a").as_deref(), Some("1"));
    begin(&mut committed);
    begin(&mut repeatable);
    assert_eq!(read(&mut committed, "a").as_deref(), Some("2"));
    assert_eq!(read(&mut repeatable, "a").as_deref(), Some("1"));
    assert_eq!(now(repeatable.restart_statement()), Ok(false));
    assert_eq!(now(committed.restart_statement()), Ok(true));
}

#[test]
fn a_locked_row_is_read_anew() {
    let (c, _) = coordinator();
    set(&c, "a", Some("1"));
    let mut committed = c.begin(Isolation::ReadCommitted, false);
    let mut repeatable = c.begin(Isolation::RepeatableRead, false);
    begin(&mut committed);
    begin(&mut repeatable);
    set(&c, "a", Some("2"));
    let error = now(repeatable.lock_and_get(b"a", LockMode::Share, FOREVER)).unwrap_err();
    assert_eq!(error.state, SqlState::SERIALIZATION_FAILURE);
    assert_eq!(
        error.message,
        "could not serialize access due to concurrent update"
    );
    assert_eq!(now(repeatable.restart_statement()), Ok(true));
    let row = now(repeatable.lock_and_get(b"a", LockMode::Share, FOREVER));
    assert_eq!(row, Ok(LockedRow::Unchanged(Some("2".into()))));
    repeatable.rollback();
    let row = now(committed.lock_and_get(b"a", LockMode::Update, FOREVER));
    assert_eq!(row, Ok(LockedRow::Changed(Some("2".into()))));
    committed.put("a", "3").unwrap();
    let row = now(committed.lock_and_get(b"a", LockMode::Update, FOREVER));
    assert_eq!(row, Ok(LockedRow::Unchanged(Some("3".into()))));
    let mut other = c.begin(Isolation::ReadCommitted, false);
    begin(&mut other);
    let skipped = now(other.lock_and_get(b"a", LockMode::Share, WaitPolicy::SkipLocked));
    assert_eq!(skipped, Ok(LockedRow::Skipped));
    drop(committed);
    set(&c, "a", None);
    let row = now(other.lock_and_get(b"a", LockMode::Share, WaitPolicy::NoWait));
    assert_eq!(row, Ok(LockedRow::Changed(None)));
    // Without a snapshot there is nothing that it could have changed since.
    let mut early = c.begin(Isolation::ReadCommitted, false);
    let row = now(early.lock_and_get(b"a", LockMode::Share, FOREVER));
    assert_eq!(row, Ok(LockedRow::Unchanged(None)));
    let mut early = c.begin(Isolation::RepeatableRead, false);
    assert!(now(early.lock_and_get(b"a", LockMode::Share, FOREVER)).is_err());
    let mut repeatable = c.begin(Isolation::RepeatableRead, false);
    begin(&mut repeatable);
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
    assert!(now(txn.get(b"a")).is_err());
    begin(&mut txn);
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
    assert_eq!(shards.held(id, b"a"), Some(LockMode::Update));
    assert_eq!(shards.held(id, b"b"), None);
    drop(txn);
    assert!(shards.is_unlocked());
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
    begin(&mut txn);
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
    let spans = shards.validated();
    let expected: [(&[u8], &[u8]); 2] = [(b"b", b"b\0"), (b"x", b"x\0")];
    assert!(
        spans
            .iter()
            .map(|s| (&s.start[..], &s.end[..]))
            .eq(expected)
    );
    let mut reader = c.begin(Isolation::Serializable, true);
    begin(&mut reader);
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
        begin(&mut txn);
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

fn fresh(keys: &[&str]) -> Vec<FreshRows> {
    let mut builder = FreshBuilder::with_capacity(keys.len(), 64);
    for key in keys {
        builder.bytes().extend_from_slice(key.as_bytes());
        builder.end_key();
        builder.bytes().extend_from_slice(b"new");
        builder.end_value();
    }
    vec![builder.finish().expect("the keys differ")]
}

fn insert(txn: &mut Transaction, keys: &[&str]) -> bool {
    let rows = fresh(keys);
    let done = now(txn.lock_fresh(&rows, &[true])).expect("no limit is reached");
    if done {
        for rows in rows {
            txn.put_fresh(rows).expect("writable");
        }
    }
    done
}

#[test]
fn a_batch_of_new_rows_is_read_changed_and_committed() {
    let (c, shards) = coordinator();
    set(&c, "b", Some("old"));
    let mut txn = c.begin(Isolation::ReadCommitted, false);
    begin(&mut txn);
    assert!(insert(&mut txn, &["c", "a"]));
    assert!(insert(&mut txn, &["e", "d"]));
    // A key that is there, or was written by the transaction, is for the slow road.
    assert!(!insert(&mut txn, &["b", "f"]));
    assert!(!insert(&mut txn, &["e"]));
    let savepoint = txn.savepoint();
    assert!(!txn.takes_fresh());
    txn.delete("d").expect("writable");
    assert_eq!(read(&mut txn, "d"), None);
    txn.rollback_to(savepoint).expect("known");
    txn.release_savepoint(savepoint).expect("known");
    txn.delete("a").expect("writable");
    let overlay = txn.overlay().expect("something is written");
    assert_eq!(overlay.get(b"a"), Some(None));
    let span = Span {
        start: Key::from_static(b"a"),
        end: Key::from_static(b"e"),
    };
    assert!(overlay.touches(&span));
    let page = now(txn.scan(span, false, 10, usize::MAX)).expect("readable");
    let found: Vec<_> = page.rows.iter().map(|(key, ..)| &key[..]).collect();
    assert_eq!(found, [b"b", b"c", b"d"]);
    // Others wait for its keys until it ends.
    let mut other = c.begin(Isolation::ReadCommitted, false);
    let locked = now(other.lock(b"c", LockMode::KeyShare, WaitPolicy::SkipLocked));
    assert_eq!(locked, Ok(false));
    now(txn.commit()).expect("committed");
    let locked = now(other.lock(b"c", LockMode::KeyShare, WaitPolicy::SkipLocked));
    assert_eq!(locked, Ok(true));
    other.rollback();
    assert!(shards.is_unlocked());
    let mut txn = c.begin(Isolation::ReadCommitted, true);
    begin(&mut txn);
    assert_eq!(read(&mut txn, "e").as_deref(), Some("new"));
    assert_eq!(read(&mut txn, "a"), None);
}

#[test]
fn a_rollback_frees_batches() {
    let (c, shards) = coordinator();
    let mut txn = c.begin(Isolation::RepeatableRead, false);
    assert!(insert(&mut txn, &["a", "b"]));
    txn.rollback();
    assert!(shards.is_unlocked());
    assert_eq!(c.memory_used(), 0);
    let mut serializable = c.begin(Isolation::Serializable, false);
    assert!(!insert(&mut serializable, &["a", "b"]));
}

#[test]
fn a_commit_tells_what_it_follows_in_the_catalog() {
    let (c, shards) = coordinator();
    let commit = |table: u32| {
        let mut txn = c.begin(Isolation::ReadCommitted, false);
        let mut key = types::key::index_prefix(table, 1).to_vec();
        key.push(7);
        txn.put(key, "1").expect("writable");
        txn.put("zz", "1").expect("writable");
        now(txn.commit()).expect("committed")
    };
    let first = commit(types::key::CATALOG_TABLE_ID);
    assert_eq!(first.catalog_before, Timestamp::ZERO);
    let other = commit(types::key::CATALOG_TABLE_ID + 1);
    assert_eq!(other.catalog_before, Timestamp::ZERO);
    assert_eq!(shards.catalog_changed(), first.at);
    let second = commit(types::key::CATALOG_TABLE_ID);
    assert_eq!(second.catalog_before, first.at);
    assert_eq!(shards.catalog_changed(), second.at);
}

#[test]
fn rows_of_an_own_table_need_no_lock_and_are_undone_with_a_savepoint() {
    let (c, _) = coordinator();
    let mut txn = c.begin(Isolation::ReadCommitted, false);
    begin(&mut txn);
    let put = |txn: &mut Transaction, keys: &[&str]| {
        let rows = fresh(keys).remove(0);
        txn.put_own(rows).expect("writable")
    };
    assert!(put(&mut txn, &["a", "b"]));
    let used = c.memory_used();
    let savepoint = txn.savepoint();
    assert!(put(&mut txn, &["c", "d"]));
    assert!(!put(&mut txn, &["d", "e"]), "d is taken");
    assert!(txn.has_written(b"d") && !txn.has_written(b"e"));
    txn.put("c", "later").expect("writable");
    txn.delete("a").expect("writable");
    assert!(!txn.has_written(b"a"), "it is deleted");
    txn.rollback_to(savepoint).expect("it is set");
    assert!(txn.has_written(b"a") && !txn.has_written(b"c"));
    assert!(put(&mut txn, &["d", "e"]));
    txn.release_savepoint(savepoint).expect("it is set");
    assert!(c.memory_used() >= used);
    now(txn.commit()).expect("committed");
    let mut txn = c.begin(Isolation::ReadCommitted, true);
    begin(&mut txn);
    let found: Vec<bool> = ["a", "b", "c", "d", "e"]
        .map(|key| read(&mut txn, key).is_some())
        .to_vec();
    assert_eq!(found, [true, true, false, true, true]);
}
