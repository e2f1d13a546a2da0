//! Whatever happens to leases and shards, a gateway's answers are those of one map in memory.

use super::fakes::Cluster;
use crate::gateway::Gateway;
use proptest::prelude::*;
use std::sync::Arc;
use txn::kv::{
    CommitRequest, Key, LockMode, ReadScope, ScanRequest, Shards, Span, TxnId, Value, WaitPolicy,
};
use txn::testing::MapShards;
use types::{MaybeReady, SqlState, Timestamp};

const STORES: u64 = 3;

/// Keys and borders are single letters.
#[derive(Clone, Debug)]
enum Step {
    Commit {
        at: u64,
        key: u8,
        delete: bool,
    },
    Get {
        at: u64,
        key: u8,
    },
    Snapshot {
        at: u64,
    },
    GetOld {
        at: u64,
        key: u8,
        back: usize,
    },
    Scan {
        at: u64,
        start: u8,
        end: u8,
        reverse: bool,
        limit: usize,
    },
    MoveLease {
        shard: usize,
        to: Option<u64>,
    },
    Split {
        before: u8,
    },
}

fn letter() -> impl Strategy<Value = u8> {
    b'a'..=b'l'
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 1..=STORES;
    prop_oneof![
        4 => (at(), letter(), any::<bool>())
            .prop_map(|(at, key, delete)| Step::Commit { at, key, delete }),
        4 => (at(), letter()).prop_map(|(at, key)| Step::Get { at, key }),
        1 => at().prop_map(|at| Step::Snapshot { at }),
        2 => (at(), letter(), 0usize..5).prop_map(|(at, key, back)| Step::GetOld { at, key, back }),
        3 => (at(), letter(), letter(), any::<bool>(), 1usize..5).prop_map(
            |(at, start, end, reverse, limit)| Step::Scan { at, start, end, reverse, limit }
        ),
        2 => (0usize..6, proptest::option::weighted(0.9, at()))
            .prop_map(|(shard, to)| Step::MoveLease { shard, to }),
        1 => letter().prop_map(|before| Step::Split { before }),
    ]
}

fn key(letter: u8) -> Key {
    Key::copy_from_slice(&[letter])
}

fn span(start: u8, end: u8) -> Span {
    Span {
        start: key(start),
        end: key(end),
    }
}

/// A cluster and a map to which the same is done.
struct Both {
    cluster: Arc<Cluster>,
    gateways: Vec<Gateway>,
    model: MapShards,
    /// Timestamps of the cluster and of the model that see the same.
    snapshots: Vec<(Timestamp, Timestamp)>,
    steps: u128,
}

impl Both {
    fn new(over_wire: bool) -> Self {
        let cluster = Cluster::new(STORES);
        let gateway = |store| match over_wire {
            true => cluster.gateway_over_wire(store),
            false => cluster.gateway(store),
        };
        Both {
            gateways: (1..=STORES).map(gateway).collect(),
            cluster,
            model: MapShards::default(),
            snapshots: Vec::new(),
            steps: 0,
        }
    }

    fn at(&self, store: u64) -> &Gateway {
        &self.gateways[store as usize - 1]
    }

    fn wait<T: Unpin>(&self, answer: MaybeReady<T>) -> T {
        self.cluster.world.run(answer)
    }

    /// Every shard has a lease holder again.
    fn elect(&self) {
        let vacant: Vec<u64> = {
            let state = self.cluster.state.lock();
            let leases = state.leases.iter();
            let vacant = leases.filter(|(_, (holder, _))| holder.is_none());
            vacant.map(|(shard, _)| shard.0).collect()
        };
        for shard in vacant {
            self.cluster.move_lease(shard, Some(1 + shard % STORES));
        }
    }

    fn snapshot(&self, at: u64, scope: ReadScope<'_>) -> (Timestamp, Timestamp) {
        let here = self.wait(self.at(at).read_timestamp(scope));
        let there = self.wait(self.model.read_timestamp(ReadScope::All));
        (here.expect("answered"), there.expect("answered"))
    }

    fn value(&self, shards: &dyn Shards, letter: u8, at: Timestamp) -> Option<Value> {
        let found = self.wait(shards.get(&key(letter), at));
        found.expect("readable").map(|(value, _)| value)
    }

    fn agree(&self, store: u64, letter: u8, (here, there): (Timestamp, Timestamp)) {
        assert_eq!(
            self.value(self.at(store), letter, here),
            self.value(&self.model, letter, there)
        );
    }

    fn rows(&self, shards: &dyn Shards, request: &ScanRequest) -> Vec<(Key, Value)> {
        let mut rest = request.span.clone();
        let mut rows = Vec::new();
        loop {
            let page = self.wait(shards.scan(ScanRequest {
                span: rest.clone(),
                at: request.at,
                reverse: request.reverse,
                limit: request.limit,
                limit_bytes: request.limit_bytes,
            }));
            let page = page.expect("readable");
            assert!(page.rows.len() <= request.limit);
            rows.extend(page.rows.into_iter().map(|(key, value, _)| (key, value)));
            match page.resume {
                None => return rows,
                Some(resume) if request.reverse => rest.end = resume,
                Some(resume) => rest.start = resume,
            }
        }
    }

    fn commit(&self, store: u64, letter: u8, delete: bool) {
        let txn = TxnId(self.steps);
        let gateway = self.at(store);
        let policy = WaitPolicy::NoWait;
        let locked = gateway.lock(txn, &key(letter), LockMode::Update, policy);
        assert_eq!(self.wait(locked), Ok(true));
        let value = (!delete).then(|| Value::from(self.steps.to_string()));
        let request = || CommitRequest {
            txn,
            read_at: Timestamp::ZERO,
            read_spans: Vec::new(),
            writes: vec![(key(letter), value.clone())],
        };
        match self.wait(gateway.commit(request())) {
            Ok(_) => {
                let done = self.wait(self.model.commit(request()));
                done.expect("the model commits");
            }
            // Of its own lock: the gateway may have learned of a split just now.
            Err(error) => assert_eq!(error.state, SqlState::SERIALIZATION_FAILURE),
        }
        assert_eq!(self.cluster.locked(), 0);
    }

    fn step(&mut self, step: Step) {
        self.steps += 1;
        match step {
            Step::Commit { at, key, delete } => self.commit(at, key, delete),
            Step::Get { at, key } => {
                let scope = [span(key, key + 1)];
                let snapshot = self.snapshot(at, ReadScope::Spans(&scope));
                self.agree(at, key, snapshot);
            }
            Step::Snapshot { at } => {
                let (here, there) = self.snapshot(at, ReadScope::All);
                // A later commit may still get a lower timestamp in a shard that was not read yet.
                let request = |at| ScanRequest {
                    span: span(0, u8::MAX),
                    at,
                    reverse: false,
                    limit: 3,
                    limit_bytes: 1 << 20,
                };
                assert_eq!(
                    self.rows(self.at(at), &request(here)),
                    self.rows(&self.model, &request(there))
                );
                self.snapshots.push((here, there));
            }
            Step::GetOld { at, key, back } => {
                if let Some(place) = self.snapshots.len().checked_sub(back + 1) {
                    self.agree(at, key, self.snapshots[place]);
                }
            }
            Step::Scan {
                at,
                start,
                end,
                reverse,
                limit,
            } => {
                let span = span(start.min(end), start.max(end));
                let scope = [span.clone()];
                let (here, there) = self.snapshot(at, ReadScope::Spans(&scope));
                let request = |at| ScanRequest {
                    span: span.clone(),
                    at,
                    reverse,
                    limit,
                    limit_bytes: 1 << 20,
                };
                assert_eq!(
                    self.rows(self.at(at), &request(here)),
                    self.rows(&self.model, &request(there))
                );
            }
            Step::MoveLease { shard, to } => {
                let shards = self.cluster.state.lock().shards.len();
                let id = self.cluster.state.lock().shards[shard % shards].id;
                self.cluster.move_lease(id.0, to);
            }
            Step::Split { before } => {
                let id = 100 + self.steps as u64;
                let before = char::from(before).to_string();
                self.cluster.split(&before, id);
            }
        }
        self.elect();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn answers_are_those_of_one_map(
        over_wire in any::<bool>(),
        hints in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut both = Both::new(over_wire);
        both.cluster.state.lock().hints = hints;
        for step in steps {
            both.step(step);
        }
    }
}
