//! The same random commits, reads and sweeps against `mvcc` and against a map of all versions.

use super::*;
use crate::engine::WriteBatch;
use crate::gc::{Sweep, remove_tombstones};
use crate::sim_disk::SimDisk;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// All versions of all keys, forever.
#[derive(Default)]
struct Model(BTreeMap<Vec<u8>, BTreeMap<u64, Option<Vec<u8>>>>);

impl Model {
    fn get(&self, key: &[u8], at: u64) -> Option<(Vec<u8>, u64)> {
        let (ts, value) = self.0.get(key)?.range(..=at).next_back()?;
        value.clone().map(|value| (value, *ts))
    }

    fn write(&mut self, key: &[u8], value: Option<Vec<u8>>, ts: u64) {
        let versions = self.0.entry(key.to_vec()).or_default();
        if value.is_some() || versions.values().next_back().is_some_and(Option::is_some) {
            versions.insert(ts, value);
        }
    }
}

type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

#[derive(Clone, Debug)]
enum Step {
    /// Some commits, applied in one batch.
    Commits(Vec<Writes>),
    ReplayLast,
    Read {
        back: u64,
    },
    Sweep {
        keep: u64,
        budget: usize,
    },
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(
        prop_oneof![Just(0u8), Just(1), Just(0xff), Just(b'a')],
        0..4,
    )
}

fn commit() -> impl Strategy<Value = Writes> {
    let write = (
        key(),
        proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), 0..4)),
    );
    proptest::collection::btree_map(key(), write.prop_map(|(_, value)| value), 1..4)
        .prop_map(|writes| writes.into_iter().collect())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(commit(), 1..4).prop_map(Step::Commits),
        1 => Just(Step::ReplayLast),
        3 => (0u64..30).prop_map(|back| Step::Read { back }),
        1 => (0u64..12, 1usize..6).prop_map(|(keep, budget)| Step::Sweep { keep, budget }),
    ]
}

fn bytes(writes: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<(Bytes, Option<Bytes>)> {
    writes
        .iter()
        .map(|(key, value)| (Bytes::from(key.clone()), value.clone().map(Bytes::from)))
        .collect()
}

fn check_reads(disk: &SimDisk, model: &Model, at: u64) {
    let snapshot = disk.snapshot();
    let mut expected = Vec::new();
    for key in model.0.keys() {
        let found = model.get(key, at);
        let pair = found
            .clone()
            .map(|(value, ts)| (Bytes::from(value), Timestamp(ts)));
        assert_eq!(
            get(disk, key, Timestamp(at)).unwrap(),
            pair,
            "get {key:?} at {at}"
        );
        assert_eq!(get_at(&*snapshot, key, Timestamp(at)).unwrap(), pair);
        if let Some((value, ts)) = found {
            expected.push((Bytes::from(key.clone()), Bytes::from(value), Timestamp(ts)));
        }
    }
    for reverse in [false, true] {
        for limit in [1, 3, 1000] {
            let (mut start, mut end) = (Bytes::new(), Bytes::from_static(&[0xff; 8]));
            let mut rows = Vec::new();
            loop {
                let page = scan(
                    &*snapshot,
                    &start,
                    &end,
                    Timestamp(at),
                    reverse,
                    limit,
                    usize::MAX,
                )
                .unwrap();
                rows.extend(page.rows);
                match page.resume {
                    Some(key) if reverse => end = key,
                    Some(key) => start = key,
                    None => break,
                }
            }
            if reverse {
                rows.reverse();
            }
            assert_eq!(
                rows, expected,
                "scan at {at}, reverse {reverse}, limit {limit}"
            );
        }
    }
}

fn sweep(disk: &SimDisk, threshold: Timestamp, budget: usize) {
    let mut sweep = Sweep::default();
    loop {
        let step = sweep.step(disk, threshold, budget).unwrap();
        disk.write(step.batch).unwrap();
        let mut batch = WriteBatch::default();
        remove_tombstones(disk, &mut batch, &step.tombstones).unwrap();
        disk.write(batch).unwrap();
        if step.progress.done {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn mvcc_agrees_with_the_model(steps in proptest::collection::vec(step(), 1..25)) {
        let disk = SimDisk::new();
        let mut model = Model::default();
        let mut now = 1u64;
        let mut threshold = 0u64;
        let mut last: Vec<(u64, Writes)> = Vec::new();
        for step in steps {
            match step {
                Step::Commits(commits) => {
                    let mut batch = WriteBatch::default();
                    last.clear();
                    for writes in commits {
                        now += 2;
                        // Alone in its batch it may go the way of a large commit.
                        if batch.is_empty() && now % 4 == 1 {
                            let keys: Vec<Bytes> = writes.iter().map(|(key, _)| Bytes::from(key.clone())).collect();
                            let written = keys.iter().any(|key| newest_version(&disk, key).unwrap().is_some());
                            prop_assert_eq!(none_written(&*disk.snapshot(), &keys).unwrap(), !written);
                            apply_sorted(&disk, &mut batch, &bytes(&writes), Timestamp(now)).unwrap();
                        } else if now % 4 == 3 {
                            let mut applier = Applier::new(&disk, &mut batch);
                            for (key, value) in bytes(&writes) {
                                let replaced = model.get(&key, now).map(|(value, ts)| (Timestamp(ts), Bytes::from(value)));
                                let replaced = replaced.as_ref().map(|(ts, value)| (*ts, value));
                                applier.write_over(&key, value.as_ref(), Timestamp(now), replaced).unwrap();
                            }
                        } else {
                            apply(&disk, &mut batch, &bytes(&writes), Timestamp(now)).unwrap();
                        }
                        last.push((now, writes.clone()));
                        for (key, value) in writes {
                            model.write(&key, value, now);
                        }
                    }
                    let mut keys: Vec<_> = batch.ops.iter().map(|(keyspace, key, _)| (*keyspace, key.clone())).collect();
                    let count = keys.len();
                    keys.sort();
                    keys.dedup();
                    prop_assert_eq!(keys.len(), count, "a key stands twice in one batch");
                    disk.write(batch).unwrap();
                }
                Step::ReplayLast => {
                    for (ts, writes) in &last {
                        let mut batch = WriteBatch::default();
                        apply(&disk, &mut batch, &bytes(writes), Timestamp(*ts)).unwrap();
                        prop_assert!(batch.is_empty() || threshold >= *ts, "a replay changed something");
                        if threshold < *ts {
                            disk.write(batch).unwrap();
                        }
                    }
                }
                Step::Read { back } => check_reads(&disk, &model, now.saturating_sub(back).max(threshold)),
                Step::Sweep { keep, budget } => {
                    threshold = threshold.max(now.saturating_sub(keep));
                    sweep(&disk, Timestamp(threshold), budget);
                    check_reads(&disk, &model, threshold);
                    check_reads(&disk, &model, now);
                }
            }
        }
        for (key, versions) in &model.0 {
            if let Some((ts, _)) = versions.iter().next_back().filter(|(ts, _)| **ts > threshold) {
                prop_assert_eq!(newest_version(&disk, key).unwrap(), Some(Timestamp(*ts)));
                let mut end = key.clone();
                end.push(0);
                let snapshot = disk.snapshot();
                prop_assert!(span_changed_since(&*snapshot, key, &end, Timestamp(*ts - 1)).unwrap());
                prop_assert!(!span_changed_since(&*snapshot, key, &end, Timestamp(*ts)).unwrap());
            }
        }
        // Once everything is old, only the present is left.
        sweep(&disk, Timestamp(now + 1), 3);
        let snapshot = disk.snapshot();
        prop_assert_eq!(snapshot.scan(Keyspace::History, (Bound::Unbounded, Bound::Unbounded), false).count(), 0);
        let live = model.0.keys().filter(|key| model.get(key, now).is_some()).count();
        prop_assert_eq!(snapshot.scan(Keyspace::Data, (Bound::Unbounded, Bound::Unbounded), false).count(), live);
    }
}

#[test]
fn a_late_sweep_spares_a_key_that_came_back() {
    let disk = SimDisk::new();
    let key = Bytes::from_static(b"k");
    let commit = |value: Option<&'static str>, ts: u64| {
        let mut batch = WriteBatch::default();
        apply(
            &disk,
            &mut batch,
            &[(key.clone(), value.map(Bytes::from))],
            Timestamp(ts),
        )
        .unwrap();
        disk.write(batch).unwrap();
    };
    commit(Some("a"), 10);
    commit(None, 20);
    let step = Sweep::default().step(&disk, Timestamp(30), 10).unwrap();
    assert_eq!(step.tombstones.len(), 1);
    commit(Some("b"), 40);
    let mut batch = WriteBatch::default();
    remove_tombstones(&disk, &mut batch, &step.tombstones).unwrap();
    disk.write(batch).unwrap();
    assert_eq!(get(&disk, &key, Timestamp(50)).unwrap().unwrap().0, "b");
    assert_eq!(get(&disk, &key, Timestamp(30)).unwrap(), None);
}
