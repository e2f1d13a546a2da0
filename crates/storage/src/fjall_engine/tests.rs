//! The real disk in a temporary folder: restarts, locks, a full disk; damage and a mirror below.

use super::*;
use crate::engine::KeyRange;
use lsm_tree::AbstractTree;
use std::ops::Bound;

mod damage;
mod mirror;

const ALL: KeyRange = (Bound::Unbounded, Bound::Unbounded);

pub(super) fn small() -> FjallOptions {
    FjallOptions {
        cache_bytes: 1 << 20,
        journals_bytes: 64 << 20,
        reserve_bytes: Some(0),
        ..FjallOptions::default()
    }
}

fn put(key: &str, value: &str) -> WriteBatch {
    let mut batch = WriteBatch::default();
    batch.put(Keyspace::Data, key.to_owned(), value.to_owned());
    batch
}

#[test]
fn what_is_written_is_read_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    {
        let engine = FjallEngine::open(folder.path(), small()).unwrap();
        engine.write(put("a", "1")).unwrap();
        let snapshot = engine.snapshot();
        let mut batch = put("b", "2");
        batch.put(Keyspace::Raft, "b", "raft");
        batch.delete(Keyspace::Data, "a");
        engine.write(batch).unwrap();
        assert_eq!(snapshot.scan(Keyspace::Data, ALL, false).count(), 1);
        assert_eq!(snapshot.get(Keyspace::Data, b"a").unwrap().unwrap(), "1");
        assert_eq!(engine.get(Keyspace::Data, b"a").unwrap(), None);
        engine.sync().unwrap();
    }
    let engine = FjallEngine::open(folder.path(), small()).unwrap();
    assert_eq!(engine.get(Keyspace::Data, b"b").unwrap().unwrap(), "2");
    let rows: Vec<_> = engine
        .snapshot()
        .scan(Keyspace::Raft, ALL, true)
        .map(|pair| pair.unwrap())
        .collect();
    assert_eq!(
        rows,
        [(Bytes::from("b"), Bytes::from("raft"))],
        "the batch number is not shown"
    );
    assert!(engine.disk_bytes() > 0);
    engine.verify().unwrap();
}

#[test]
fn a_second_open_is_told_who_holds_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _engine = FjallEngine::open(folder.path(), small()).unwrap();
    let Err(Error::Locked(message)) = FjallEngine::open(folder.path(), small()) else {
        panic!("opened twice")
    };
    assert!(
        message.contains(&std::process::id().to_string()),
        "{message}"
    );
}

#[test]
fn a_half_made_store_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join(folder::NEW_STORE_FOLDER);
    std::fs::create_dir_all(new.join("keyspaces")).unwrap();
    FjallEngine::open(folder.path(), small())
        .unwrap()
        .write(put("a", "1"))
        .unwrap();
    assert!(!new.exists());
}

#[test]
fn a_full_disk_refuses_writes_until_space_returns() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(10 << 20));
    let asked = Arc::clone(&free);
    let options = FjallOptions {
        reserve_bytes: Some(4 << 20),
        free_bytes: Some(Arc::new(move || asked.load(Ordering::Relaxed))),
        ..small()
    };
    let engine = FjallEngine::open(folder.path(), options).unwrap();
    engine.write(put("a", "1")).unwrap();
    free.store(3 << 20, Ordering::Relaxed);
    let large = "x".repeat(1 << 20);
    let Err(Error::DiskFull(message)) = engine.write(put("b", &large)) else {
        panic!("wrote into the reserve")
    };
    assert!(message.contains("reserve"), "{message}");
    assert_eq!(engine.get(Keyspace::Data, b"a").unwrap().unwrap(), "1");
    engine.sync().unwrap();
    let mut deletes = WriteBatch::default();
    deletes.delete(Keyspace::Data, "a");
    engine.write(deletes).unwrap();
    free.store(20 << 20, Ordering::Relaxed);
    engine.write(put("b", &large)).unwrap();
    assert_eq!(
        engine.get(Keyspace::Data, b"b").unwrap().unwrap().len(),
        1 << 20
    );
}

#[test]
fn a_promise_is_kept_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(6 << 20));
    let asked = Arc::clone(&free);
    let options = FjallOptions {
        reserve_bytes: Some(4 << 20),
        free_bytes: Some(Arc::new(move || asked.load(Ordering::Relaxed))),
        ..small()
    };
    let engine = FjallEngine::open(folder.path(), options).unwrap();
    let half = "x".repeat(1 << 19);
    let promising = |bytes| {
        let mut batch = put("entry", &half);
        batch.promised_bytes = bytes;
        batch
    };
    let refused = engine.write(promising(1 << 20));
    assert!(matches!(refused, Err(Error::DiskFull(_))), "no room for it");
    engine.write(promising(1 << 18)).unwrap();

    free.store(4 << 20, Ordering::Relaxed);
    let mut effects = put("row", &half);
    assert!(engine.write(effects.clone()).is_err(), "nobody promised it");
    effects.keeps_promise = true;
    engine.write(effects).unwrap();
}

/// Longest wait for a background thread.
const BACKGROUND: Duration = Duration::from_secs(30);

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a real disk with threads of its own, for which the test waits"
)]
fn a_flush_empties_the_memory_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(folder.path(), small()).unwrap();
    let value = "v".repeat(1000);
    for number in 0..2000 {
        engine.write(put(&format!("{number:04}"), &value)).unwrap();
    }
    let in_memory = || {
        let data = &engine.opened().unwrap().data;
        data.tree.active_memtable().size() + data.tree.sealed_memtable_count() as u64
    };
    assert!(in_memory() > 1 << 20);
    engine.flush().unwrap();
    let deadline = std::time::Instant::now() + BACKGROUND;
    while in_memory() > 0 {
        assert!(std::time::Instant::now() < deadline, "nothing is flushed");
        std::thread::yield_now();
    }
    assert_eq!(engine.opened().unwrap().data.table_count(), 1);
    engine.write(put("next", "1")).unwrap();
    engine.flush().unwrap();
    assert!(in_memory() > 0, "a table for one row is not worth it");
    drop(engine);
    let engine = FjallEngine::open(folder.path(), small()).unwrap();
    assert_eq!(
        engine.snapshot().scan(Keyspace::Data, ALL, false).count(),
        2001
    );
}

#[test]
fn oversized_keys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(folder.path(), small()).unwrap();
    assert!(engine.write(put(&"k".repeat(70_000), "v")).is_err());
    assert!(engine.write(put("", "v")).is_err());
    engine.write(put("k", "v")).unwrap();
}

#[test]
fn a_failed_background_write_ends_writing_but_not_reading() {
    let folder = tempfile::tempdir().unwrap();
    // Small memtables: all background threads fail soon, and writers must not wait for them.
    let options = FjallOptions {
        memtable_permille: 4,
        ..small()
    };
    let engine = FjallEngine::open(folder.path(), options).unwrap();
    engine.write(put("a", "1")).unwrap();
    engine.write(put("b", "1")).unwrap();
    engine.sync().unwrap();
    let tables = folder.path().join(STORE_FOLDER).join("keyspaces/1/tables");
    std::fs::remove_dir_all(tables).unwrap();
    engine.opened().unwrap().data.rotate_memtable().unwrap();
    // The flush fails in its own thread, some time during these writes.
    let value = "2".repeat(1000);
    let error = (0..1_000_000).find_map(|_| engine.write(put("b", &value)).err());
    assert!(
        matches!(&error, Some(Error::Io(what)) if what.contains("background")),
        "{error:?}"
    );
    assert!(matches!(engine.sync(), Err(Error::Io(_))));
    assert_eq!(engine.get(Keyspace::Data, b"a").unwrap().unwrap(), "1");
    assert_eq!(
        engine.snapshot().scan(Keyspace::Data, ALL, false).count(),
        2
    );
}
