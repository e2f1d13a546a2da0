//! The same random operations on the real and on the simulated disk give the same answers.

use super::*;
use crate::sim_disk::SimDisk;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, Vec<u8>, Option<Vec<u8>>)>),
    Snapshot,
    Read {
        keyspace: u8,
        from: Vec<u8>,
        to: Vec<u8>,
        reverse: bool,
    },
    Flush,
    Restart,
}

const KEYSPACES: [Keyspace; 4] = [
    Keyspace::Data,
    Keyspace::History,
    Keyspace::Intents,
    Keyspace::Raft,
];

fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff)], 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    let value = proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), 0..40));
    let op = (0u8..4, key(), value);
    prop_oneof![
        6 => proptest::collection::vec(op, 1..6).prop_map(Step::Write),
        1 => Just(Step::Snapshot),
        3 => (0u8..4, key(), key(), any::<bool>())
            .prop_map(|(keyspace, from, to, reverse)| Step::Read { keyspace, from, to, reverse }),
        1 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ]
}

/// Two engines, and pairs of snapshots of them.
struct Mirror {
    folder: tempfile::TempDir,
    real: Option<FjallEngine>,
    simulated: SimDisk,
    snapshots: Vec<(Box<dyn Snapshot>, Box<dyn Snapshot>)>,
}

impl Mirror {
    fn real(&self) -> &FjallEngine {
        self.real.as_ref().unwrap()
    }

    fn check(&self, keyspace: Keyspace, range: &KeyRange, reverse: bool) {
        let rows = |snapshot: &dyn Snapshot| -> Vec<(Bytes, Bytes)> {
            snapshot
                .scan(keyspace, range.clone(), reverse)
                .map(|pair| pair.unwrap())
                .collect()
        };
        for (real, simulated) in &self.snapshots {
            assert_eq!(rows(&**real), rows(&**simulated));
        }
        let now = self.simulated.snapshot();
        assert_eq!(rows(&*self.real().snapshot()), rows(&*now));
        for (key, value) in rows(&*now) {
            assert_eq!(self.real().get(keyspace, &key).unwrap(), Some(value));
        }
        // It need not be there.
        if let Bound::Included(key) = &range.0 {
            let found = self.simulated.get(keyspace, key).unwrap();
            assert_eq!(self.real().get(keyspace, key).unwrap(), found);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(ops) => {
                let mut batch = WriteBatch::default();
                for (keyspace, key, value) in ops {
                    batch.ops.push((
                        KEYSPACES[keyspace as usize],
                        key.into(),
                        value.map(Bytes::from),
                    ));
                }
                self.real().write(batch.clone()).unwrap();
                self.simulated.write(batch).unwrap();
            }
            Step::Snapshot => self
                .snapshots
                .push((self.real().snapshot(), self.simulated.snapshot())),
            Step::Read {
                keyspace,
                from,
                to,
                reverse,
            } => {
                let range = (Bound::Included(from.into()), Bound::Excluded(to.into()));
                self.check(KEYSPACES[keyspace as usize], &range, reverse);
            }
            Step::Flush => {
                for keyspace in KEYSPACES {
                    self.real()
                        .opened()
                        .unwrap()
                        .keyspace(keyspace)
                        .rotate_memtable_and_wait()
                        .unwrap();
                }
            }
            Step::Restart => {
                self.snapshots.clear();
                self.real = None;
                self.real = Some(FjallEngine::open(self.folder.path(), small()).unwrap());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn real_and_simulated_disk_agree(steps in proptest::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let real = Some(FjallEngine::open(folder.path(), small()).unwrap());
        let mut mirror = Mirror { folder, real, simulated: SimDisk::new(), snapshots: Vec::new() };
        for step in steps {
            mirror.step(step);
        }
        for keyspace in KEYSPACES {
            mirror.check(keyspace, &ALL, false);
            mirror.check(keyspace, &ALL, true);
        }
    }
}
