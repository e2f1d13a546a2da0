//! The store over a disk in memory, with real threads and time.
#![expect(
    clippy::disallowed_methods,
    reason = "tests with real threads; those in virtual time are in `sim`"
)]

use crate::store::{Options, Store};
use crate::testing::{open_alone, real_env};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use storage::{FjallEngine, FjallOptions, SimDisk};
use txn::kv::{Isolation, LockMode, ReadScope, Span, WaitPolicy};
use txn::{Coordinator, Limits, LockedRow, Transaction};
use types::{Result, SqlState};

const FOREVER: WaitPolicy = WaitPolicy::Wait {
    deadline_nanos: None,
};

fn open_with(disk: &SimDisk, options: Options) -> (Arc<Store>, Coordinator) {
    let store = open_alone(Arc::new(disk.clone()), real_env(), options).expect("the store opens");
    let coordinator = store.coordinator(Limits::default());
    (store, coordinator)
}

fn open(disk: &SimDisk) -> (Arc<Store>, Coordinator) {
    open_with(disk, Options::default())
}

/// In its first statement.
async fn begun(c: &Coordinator, isolation: Isolation) -> Transaction {
    let mut txn = c.begin(isolation, false);
    let snapshot = txn.begin_statement(ReadScope::All).await;
    snapshot.expect("a snapshot");
    txn
}

async fn read(txn: &mut Transaction, key: &str) -> Option<String> {
    let value = txn.get(key.as_bytes()).await.expect("readable");
    value.map(|value| String::from_utf8_lossy(&value).into_owned())
}

async fn set(c: &Coordinator, key: &'static str, value: &'static str) -> Result<()> {
    let mut txn = c.begin(Isolation::ReadCommitted, false);
    txn.lock(key.as_bytes(), LockMode::Update, FOREVER).await?;
    txn.put(key, value)?;
    txn.commit().await.map(|_| ())
}

async fn get(c: &Coordinator, key: &str) -> Option<String> {
    read(&mut begun(c, Isolation::ReadCommitted).await, key).await
}

#[tokio::test]
async fn commits_are_read_and_survive_a_restart() {
    let disk = SimDisk::new();
    let (store, c) = open(&disk);
    let identity = store.identity();
    set(&c, "a", "1").await.unwrap();
    set(&c, "b", "2").await.unwrap();
    assert_eq!(get(&c, "a").await.as_deref(), Some("1"));
    let old = c.read_timestamp(ReadScope::All).await.unwrap();
    set(&c, "a", "3").await.unwrap();
    let at_old = store.shards().get(b"a", old).await.unwrap();
    assert_eq!(at_old.map(|(value, _)| value), Some("1".into()));
    store.shutdown().await;
    assert_eq!(
        set(&c, "a", "4").await.unwrap_err().state,
        SqlState::CANNOT_CONNECT_NOW
    );
    drop((store, c));
    disk.crash(|| 0);
    let (store, c) = open(&disk);
    assert_eq!(store.identity(), identity);
    assert!(c.read_timestamp(ReadScope::All).await.unwrap() > old);
    let mut txn = begun(&c, Isolation::ReadCommitted).await;
    let all = Span {
        start: "a".into(),
        end: "z".into(),
    };
    let rows = txn.scan(all, false, 10, 1000).await.unwrap().rows;
    let rows: Vec<(Bytes, Bytes)> = rows.into_iter().map(|(k, v, _)| (k, v)).collect();
    assert_eq!(rows, [("a".into(), "3".into()), ("b".into(), "2".into())]);
}

#[tokio::test]
async fn a_crash_before_apply_is_replayed_from_the_log() {
    let disk = SimDisk::new();
    let (store, c) = open(&disk);
    for _ in 0..20 {
        set(&c, "a", "1").await.unwrap();
        set(&c, "b", "2").await.unwrap();
    }
    drop((store, c));
    // Everything that was not synced is lost, so at least the last apply.
    disk.crash(|| 0);
    let (_store, c) = open(&disk);
    assert_eq!(get(&c, "b").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_waiter_gets_the_lock_and_the_newest_row() {
    let (_store, c) = open(&SimDisk::new());
    set(&c, "a", "1").await.unwrap();
    let mut first = c.begin(Isolation::ReadCommitted, false);
    first
        .lock(b"a", LockMode::NoKeyUpdate, FOREVER)
        .await
        .unwrap();
    first.put("a", "2").unwrap();
    let mut second = begun(&c, Isolation::ReadCommitted).await;
    let waiting = second.lock_and_get(b"a", LockMode::NoKeyUpdate, FOREVER);
    let mut third = c.begin(Isolation::ReadCommitted, false);
    let error = third.lock(b"a", LockMode::Share, WaitPolicy::NoWait).await;
    assert_eq!(error.unwrap_err().state, SqlState::LOCK_NOT_AVAILABLE);
    let skipped = third
        .lock(b"a", LockMode::Share, WaitPolicy::SkipLocked)
        .await;
    assert_eq!(skipped, Ok(false));
    let soon = WaitPolicy::Wait {
        deadline_nanos: Some(0),
    };
    let error = third.lock(b"a", LockMode::Share, soon).await.unwrap_err();
    assert_eq!(error.message, "canceling statement due to lock timeout");
    first.commit().await.unwrap();
    assert_eq!(waiting.await, Ok(LockedRow::Changed(Some("2".into()))));
}

#[tokio::test]
async fn a_dropped_transaction_frees_its_locks_and_a_deadlock_is_found() {
    let (store, c) = open(&SimDisk::new());
    let mut a = c.begin(Isolation::ReadCommitted, false);
    let mut b = c.begin(Isolation::ReadCommitted, false);
    a.lock(b"a", LockMode::Update, FOREVER).await.unwrap();
    b.lock(b"b", LockMode::Update, FOREVER).await.unwrap();
    let waiting = a.lock(b"b", LockMode::Update, FOREVER);
    let error = b.lock(b"a", LockMode::Update, FOREVER).await.unwrap_err();
    assert_eq!(error.state, SqlState::DEADLOCK_DETECTED);
    drop(b);
    assert_eq!(waiting.await, Ok(true));
    drop(a);
    assert_eq!(store.lock_counts(), (0, 0));
}

#[tokio::test]
async fn write_skew_is_refused_under_serializable_only() {
    for (isolation, refused) in [
        (Isolation::RepeatableRead, false),
        (Isolation::Serializable, true),
    ] {
        let (_store, c) = open(&SimDisk::new());
        let mut a = begun(&c, isolation).await;
        let mut b = begun(&c, isolation).await;
        read(&mut a, "x").await;
        read(&mut b, "y").await;
        a.put("y", "1").unwrap();
        b.put("x", "1").unwrap();
        a.commit().await.unwrap();
        let second = b.commit().await;
        assert_eq!(second.is_err(), refused);
        if let Err(error) = second {
            assert_eq!(error.state, SqlState::SERIALIZATION_FAILURE);
        }
    }
}

#[tokio::test]
async fn validation_of_an_old_snapshot_asks_the_disk() {
    let (_store, c) = open(&SimDisk::new());
    let mut clean = begun(&c, Isolation::Serializable).await;
    let mut stale = begun(&c, Isolation::Serializable).await;
    read(&mut clean, "unwritten").await;
    read(&mut stale, "k0").await;
    set(&c, "k0", "1").await.unwrap();
    for n in 0..5000u32 {
        let mut txn = c.begin(Isolation::ReadCommitted, false);
        txn.put(format!("k{}", n % 7 + 1), "x").unwrap();
        txn.commit().await.unwrap();
    }
    clean.put("clean", "1").unwrap();
    stale.put("stale", "1").unwrap();
    clean.commit().await.unwrap();
    assert!(stale.commit().await.is_err());
}

#[tokio::test]
async fn a_failed_sync_stops_the_store_but_not_reads() {
    let disk = SimDisk::new();
    let (store, c) = open(&disk);
    set(&c, "a", "1").await.unwrap();
    disk.set_faults(|faults| faults.fail_next_sync = true);
    let error = set(&c, "a", "2").await.unwrap_err();
    assert_eq!(error.state, SqlState::STATEMENT_COMPLETION_UNKNOWN);
    let mut failed = store.failed();
    assert!(failed.wait_for(Option::is_some).await.is_ok());
    assert_eq!(get(&c, "a").await.as_deref(), Some("1"));
    let error = set(&c, "b", "2").await.unwrap_err();
    assert_eq!(error.state, SqlState::IO_ERROR);
    store.shutdown().await;
}

#[tokio::test]
async fn a_full_disk_refuses_commits_until_there_is_space() {
    let disk = SimDisk::new();
    let (store, c) = open(&disk);
    set(&c, "a", "1").await.unwrap();
    disk.set_faults(|faults| faults.full_after_bytes = Some(0));
    for _ in 0..3 {
        let error = set(&c, "a", "2").await.unwrap_err();
        assert_eq!(error.state, SqlState::DISK_FULL);
        assert_eq!(get(&c, "a").await.as_deref(), Some("1"));
    }
    disk.set_faults(|faults| faults.full_after_bytes = None);
    set(&c, "a", "3").await.unwrap();
    assert_eq!(get(&c, "a").await.as_deref(), Some("3"));
    assert!(store.failed().borrow().is_none());
    assert_eq!(store.lock_counts(), (0, 0));
}

#[tokio::test]
async fn garbage_collection_respects_open_snapshots() {
    let options = Options {
        gc_ttl: Duration::ZERO,
        ..Options::default()
    };
    let (store, c) = open_with(&SimDisk::new(), options);
    set(&c, "a", "1").await.unwrap();
    set(&c, "b", "1").await.unwrap();
    let before = c.read_timestamp(ReadScope::All).await.unwrap();
    let mut old = begun(&c, Isolation::RepeatableRead).await;
    set(&c, "a", "2").await.unwrap();
    let mut txn = c.begin(Isolation::ReadCommitted, false);
    txn.delete("b").unwrap();
    txn.commit().await.unwrap();
    drop(txn);
    store.collect_garbage().await.unwrap();
    assert_eq!(read(&mut old, "a").await.as_deref(), Some("1"));
    assert_eq!(read(&mut old, "b").await.as_deref(), Some("1"));
    drop(old);
    // The threshold counts whole milliseconds. The tombstone goes in the writer's order, so it is
    // gone once a later commit is done.
    for attempt in 0.. {
        store.collect_garbage().await.unwrap();
        set(&c, "z", "1").await.unwrap();
        if store.shards().newest_version(b"b").await.unwrap().is_none() {
            break;
        }
        assert!(attempt < 1000);
    }
    let error = store.shards().get(b"a", before).await.unwrap_err();
    assert_eq!(error.message, "snapshot too old");
    assert_eq!(get(&c, "a").await.as_deref(), Some("2"));
    assert_eq!(get(&c, "b").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_are_never_lost() {
    let (_store, c) = open(&SimDisk::new());
    set(&c, "n", "0").await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let c = c.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    let mut txn = begun(&c, Isolation::ReadCommitted).await;
                    let row = txn.lock_and_get(b"n", LockMode::NoKeyUpdate, FOREVER).await;
                    let (LockedRow::Changed(value) | LockedRow::Unchanged(value)) = row.unwrap()
                    else {
                        panic!("nothing is skipped");
                    };
                    let text = String::from_utf8(value.unwrap().to_vec()).unwrap();
                    let next = text.parse::<u64>().unwrap() + 1;
                    txn.put("n", next.to_string()).unwrap();
                    let at = txn.commit().await.unwrap().at;
                    assert!(c.read_timestamp(ReadScope::All).await.unwrap() >= at);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(get(&c, "n").await.as_deref(), Some("400"));
}

#[tokio::test]
async fn a_key_that_no_engine_takes_fails_its_own_commit_only() {
    let (store, c) = open(&SimDisk::new());
    for length in [0, 40_000] {
        let mut txn = c.begin(Isolation::ReadCommitted, false);
        txn.put(vec![b'x'; length], "1").unwrap();
        let error = txn.commit().await.unwrap_err();
        assert_eq!(error.state, SqlState::PROGRAM_LIMIT_EXCEEDED);
    }
    set(&c, "a", "1").await.unwrap();
    assert!(store.failed().borrow().is_none());
}

#[tokio::test]
async fn the_real_disk_can_be_opened_again_after_a_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let mut identity = None;
    for round in ["0", "1", "2"] {
        let engine = FjallEngine::open(folder.path(), FjallOptions::default()).unwrap();
        let store = open_alone(Arc::new(engine), real_env(), Options::default()).unwrap();
        let c = store.coordinator(Limits::default());
        assert_eq!(*identity.get_or_insert(store.identity()), store.identity());
        let before = get(&c, "n").await;
        assert_eq!(before.is_some(), round != "0");
        for _ in 0..10 {
            set(&c, "n", round).await.unwrap();
        }
        assert_eq!(get(&c, "n").await.as_deref(), Some(round));
        store.shutdown().await;
    }
}
