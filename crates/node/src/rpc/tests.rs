//! Both ends together, over a network in memory.

use crate::gateway::fakes::Cluster;
use crate::node_clock::NodeClock;
use crate::rpc::{Part, RemoteShards, wire};
use crate::shard_server::{Failure, Granted, LeaseId, Refusal, ShardServer};
use bytes::Bytes;
use futures::executor::block_on;
use sharding::ShardId;
use std::sync::Arc;
use txn::kv::{CommitRequest, Key, LockMode, ScanRequest, Span, TxnId, WaitPolicy};
use types::{MaybeReady, SqlState, StoreId, Timestamp};

const ONE: ShardId = ShardId(1);
const HERE: StoreId = StoreId(2);
const THERE: StoreId = StoreId(1);
const T1: TxnId = TxnId(1);
const T2: TxnId = TxnId(2);
const FOREVER: WaitPolicy = WaitPolicy::Wait {
    deadline_nanos: None,
};

/// Store 1 of a cluster, as node 2 asks it.
struct Two {
    cluster: Arc<Cluster>,
    node: Arc<NodeClock>,
    remote: RemoteShards,
}

impl Two {
    fn new() -> Self {
        let cluster = Cluster::new(2);
        let node = cluster.node_clock();
        let remote = cluster.remote(HERE, THERE, Arc::clone(&node));
        Two {
            cluster,
            node,
            remote,
        }
    }

    fn wait<T: Unpin>(&self, answer: MaybeReady<T>) -> T {
        self.cluster.world.run(answer)
    }

    fn lock(&self, txn: TxnId, policy: WaitPolicy) -> MaybeReady<Result<Granted, Failure>> {
        let mode = LockMode::Update;
        self.remote.lock(ONE, HERE, txn, b"k", mode, policy)
    }

    /// The request is at the store, and waits.
    fn is_waiting(&self, answer: &mut MaybeReady<Result<Granted, Failure>>) -> bool {
        let pending = block_on(async { futures::poll!(answer) }).is_pending();
        pending && self.cluster.state.lock().waiting == 1
    }
}

fn write(txn: TxnId, key: &[u8]) -> CommitRequest {
    CommitRequest {
        txn,
        read_at: Timestamp::ZERO,
        read_spans: Vec::new(),
        writes: vec![(Key::copy_from_slice(key), Some(Bytes::from_static(b"v")))],
    }
}

#[test]
fn every_call_comes_back_with_its_answer() {
    let two = Two::new();
    let remote = &two.remote;
    let granted = two.wait(two.lock(T1, FOREVER)).expect("free");
    assert!(granted.granted);
    let lease = granted.lease;
    assert_eq!(two.wait(remote.still_locked(ONE, T1, lease)), Ok(true));
    let skipped = two.wait(two.lock(T2, WaitPolicy::SkipLocked));
    assert_eq!(skipped.map(|skipped| skipped.granted), Ok(false));
    let committed = two.wait(remote.commit(ONE, HERE, write(T1, b"k"), Some(lease)));
    let committed = committed.expect("committed");
    let at = two.wait(remote.read_timestamp(&[(ONE, 1)])).expect("held");
    assert!(at >= committed.at);
    let version = Some((Bytes::from_static(b"v"), committed.at));
    assert_eq!(two.wait(remote.get(ONE, b"k", at)), Ok(version));
    assert_eq!(
        two.wait(remote.newest_version(ONE, b"k")),
        Ok(Some(committed.at))
    );
    let scan = ScanRequest {
        span: Span {
            start: Key::new(),
            end: Key::from_static(b"z"),
        },
        at,
        reverse: true,
        limit: 10,
        limit_bytes: usize::MAX,
    };
    let page = two.wait(remote.scan(ONE, scan)).expect("a page");
    assert_eq!((page.rows.len(), page.resume), (1, None));
    let fresh: Arc<[Key]> = vec![Key::from_static(b"m")].into();
    let fresh = two.wait(remote.lock_fresh(ONE, HERE, T2, &fresh));
    assert!(fresh.expect("answered").granted);
    remote.unlock_all(T2);
    assert!(two.wait(two.lock(T2, FOREVER)).expect("free").granted);
    remote.unlock(ONE, T2, &[Key::from_static(b"k")]);
    assert_eq!(two.cluster.locked(), 0);
}

#[test]
fn refusals_and_errors_come_back_whole() {
    let two = Two::new();
    two.wait(two.lock(T1, FOREVER)).expect("free");
    let failure = two
        .wait(two.lock(T2, WaitPolicy::NoWait))
        .expect_err("held");
    assert!(
        matches!(failure, Failure::Failed(error) if error.state == SqlState::LOCK_NOT_AVAILABLE)
    );

    two.cluster.split("g", 2);
    let failure = two.wait(two.lock(T2, FOREVER)).expect_err("split");
    let newer = two.cluster.state.lock().shards.clone();
    assert_eq!(failure, Failure::Refused(Refusal::Mismatch { newer }));

    two.cluster.move_lease(1, Some(2));
    let failure = two.wait(two.remote.newest_version(ONE, b"a"));
    let hint = Some(StoreId(2));
    assert_eq!(
        failure,
        Err(Failure::Refused(Refusal::NotLeaseHolder { hint }))
    );
}

#[test]
fn locks_of_a_refused_commit_whose_gateway_says_no_more_are_released() {
    let two = Two::new();
    let granted = two.wait(two.lock(T1, FOREVER)).expect("free");
    two.cluster.split("g", 2);
    let commit = write(T1, b"k");
    let refused = two.wait(two.remote.commit(ONE, HERE, commit, Some(granted.lease)));
    assert!(matches!(refused, Err(Failure::Refused(_))));
    assert_eq!(two.cluster.locked(), 1);
    for _ in 0..2 {
        two.wait(two.remote.roll_call(HERE, &[])).expect("answered");
    }
    assert_eq!(two.cluster.locked(), 0);
}

#[test]
fn a_gateway_that_stays_out_of_reach_loses_its_locks_and_what_stands_on_them() {
    let two = Two::new();
    let granted = two.wait(two.lock(T1, FOREVER)).expect("free");
    let service = two.cluster.services.lock()[&THERE].clone();
    let first = service.connected(HERE, false);
    service.connected(HERE, true);
    service.expel(HERE, first);
    assert_eq!(two.cluster.locked(), 1, "it came back in time");
    let second = service.connected(HERE, false);
    service.expel(HERE, first);
    assert_eq!(
        two.cluster.locked(),
        1,
        "it has been away for a moment only"
    );
    service.expel(HERE, second);
    assert_eq!(two.cluster.locked(), 0);

    // It was well, and does not know.
    service.connected(HERE, true);
    let ended = |failure| matches!(failure, Failure::Failed(error) if error.state == SqlState::SERIALIZATION_FAILURE);
    let (remote, lease) = (&two.remote, granted.lease);
    let committed = two.wait(remote.commit(ONE, HERE, write(T1, b"k"), Some(lease)));
    assert!(ended(committed.expect_err("its lock is gone")));
    assert!(ended(
        two.wait(remote.still_locked(ONE, T1, lease))
            .expect_err("gone")
    ));
    assert!(ended(two.wait(two.lock(T1, FOREVER)).expect_err("gone")));
    // The next transaction is as good as any.
    let granted = two.wait(two.lock(T2, FOREVER)).expect("free");
    let committed = two.wait(remote.commit(ONE, HERE, write(T2, b"k"), Some(granted.lease)));
    assert!(committed.is_ok());
}

#[test]
fn a_store_out_of_reach_is_told_from_one_whose_answer_is_lost() {
    let two = Two::new();
    two.cluster.state.lock().down.insert(THERE);
    let unsent = two.wait(two.remote.newest_version(ONE, b"k"));
    assert_eq!(unsent, Err(Failure::Unreachable(false)));
    two.cluster.state.lock().down.clear();
    two.cluster.state.lock().mute.insert(THERE);
    let broken = two.wait(two.remote.newest_version(ONE, b"k"));
    assert_eq!(broken, Err(Failure::Unreachable(true)));
}

#[test]
fn a_lock_given_up_at_one_end_is_given_up_at_the_other() {
    let two = Two::new();
    two.wait(two.lock(T1, FOREVER)).expect("free");
    let mut waiting = two.lock(T2, FOREVER);
    assert!(two.is_waiting(&mut waiting));
    // The message ends the service's future, which its host drops: here it is the same one.
    drop(waiting);
    assert_eq!(two.cluster.state.lock().waiting, 0);
}

#[test]
fn the_service_ends_waiting_requests_of_a_gateway_that_left_or_is_cut_off() {
    let two = Two::new();
    two.wait(two.lock(T1, FOREVER)).expect("free");
    let service = two.cluster.services.lock()[&THERE].clone();
    let request = |call| {
        wire::encode_request(
            Timestamp(1),
            &wire::Request::Lock {
                call,
                shard: ONE,
                txn: T2,
                key: Key::from_static(b"k"),
                mode: LockMode::Update,
                patience: wire::Patience::Wait { left_nanos: None },
            },
        )
    };
    let left = |call| {
        let notice = wire::encode_notice(&wire::Notice::Leave { call });
        service.message(HERE, notice);
    };
    let others = |call| {
        service.message(
            StoreId(9),
            wire::encode_notice(&wire::Notice::Leave { call }),
        )
    };
    let cut_off = |_| {
        service.connected(HERE, false);
    };
    let lost = |_| service.expel(HERE, service.connected(HERE, false));
    let ends: [&dyn Fn(u64); 3] = [&left, &cut_off, &lost];
    for (call, end) in (7..).zip(ends) {
        let mut answer = service.call(Some(HERE), request(call));
        assert!(block_on(async { futures::poll!(&mut answer) }).is_pending());
        assert_eq!(two.cluster.state.lock().waiting, 1);
        left(call + 1);
        others(call);
        service.connected(HERE, true);
        assert!(block_on(async { futures::poll!(&mut answer) }).is_pending());
        end(call);
        let (_, outcome) = wire::decode_answer(block_on(answer)).expect("an answer");
        assert!(matches!(outcome, Err(Failure::Failed(_))));
        assert_eq!(two.cluster.state.lock().waiting, 0);
    }
    // Who does not come back loses its locks, too.
    assert_eq!(two.cluster.locked(), 0);
}

#[test]
fn clocks_and_changes_of_the_catalog_travel_along() {
    let two = Two::new();
    let far = Timestamp::from_millis(5_000_000);
    two.node.observe(far);
    assert_eq!(two.node.catalog_changed(), Timestamp::ZERO);
    let service = two.cluster.services.lock()[&THERE].clone();
    service.node().catalog_changes_at(Timestamp(77));
    two.wait(two.remote.newest_version(ONE, b"k"))
        .expect("an answer");
    assert!(service.node().now() > far);
    assert_eq!(two.node.catalog_changed(), Timestamp(77));

    let later = Timestamp::from_millis(9_000_000);
    service.node().observe(later);
    two.wait(two.remote.newest_version(ONE, b"k"))
        .expect("an answer");
    assert!(two.node.now() > later);
}

#[test]
fn what_is_no_request_is_answered_with_an_error() {
    let two = Two::new();
    let service = two.cluster.services.lock()[&THERE].clone();
    let sound = wire::encode_request(Timestamp(1), &wire::Request::RollCall { live: vec![] });
    for (from, frame) in [
        (Some(HERE), Bytes::new()),
        (Some(HERE), Bytes::from_static(b"\x3fjunk")),
        // A node without a name has no transactions.
        (None, sound),
    ] {
        let answer = block_on(service.call(from, frame));
        let (_, outcome) = wire::decode_answer(answer).expect("an answer");
        assert!(matches!(outcome, Err(Failure::Failed(_))));
    }
    service.message(HERE, Bytes::from_static(b"junk"));
}

#[test]
fn a_request_that_is_too_large_is_not_sent() {
    let two = Two::new();
    let mut request = write(T1, b"k");
    request.writes[0].1 = Some(vec![0; super::REQUEST_BYTES].into());
    two.cluster.asked();
    let failure = two.wait(
        two.remote
            .commit(ONE, HERE, request, Some(LeaseId::default())),
    );
    assert!(
        matches!(failure, Err(Failure::Failed(error)) if error.state == SqlState::PROGRAM_LIMIT_EXCEEDED)
    );
    assert_eq!(two.cluster.asked(), []);
}

/// Rows of a MiB each.
fn large(txn: TxnId, rows: u8) -> CommitRequest {
    let row = |row: u8| {
        (
            Key::copy_from_slice(&[row]),
            Some(vec![row; 1 << 20].into()),
        )
    };
    CommitRequest {
        writes: (0..rows).map(row).collect(),
        ..write(txn, b"k")
    }
}

#[test]
fn a_large_commit_goes_in_pieces_and_is_done_as_one() {
    let two = Two::new();
    let lease = two.wait(two.lock(T1, FOREVER)).expect("free").lease;
    two.cluster.asked();
    let committed = two.wait(two.remote.commit(ONE, HERE, large(T1, 40), Some(lease)));
    let at = committed.expect("committed").at;
    let mut asked = two.cluster.asked();
    assert_eq!(asked.pop(), Some((THERE.0, "commit")));
    assert!(asked.len() > 8, "{asked:?}");
    assert!(asked.iter().all(|(_, what)| *what == "newest_version"));
    for row in 0..40 {
        let version = two
            .wait(two.remote.get(ONE, &[row], at))
            .expect("an answer");
        assert_eq!(version.map(|(value, at)| (value[0], at)), Some((row, at)));
    }
    let service = two.cluster.services.lock()[&THERE].clone();
    assert_eq!((service.staged_bytes(), two.cluster.locked()), (0, 0));
}

#[test]
fn a_large_commit_that_cannot_be_sent_whole_is_not_done() {
    let two = Two::new();
    let commit = |lease| two.remote.commit(ONE, HERE, large(T1, 40), lease);
    two.cluster.state.lock().down.insert(THERE);
    assert_eq!(two.wait(commit(None)), Err(Failure::Unreachable(false)));
    two.cluster.state.lock().down.clear();
    // What is lost is the answer to a piece.
    two.cluster.state.lock().mute.insert(THERE);
    assert_eq!(two.wait(commit(None)), Err(Failure::Unreachable(false)));
    two.cluster.state.lock().mute.clear();
    // Who does not hold the lease does not take the first piece.
    two.cluster.move_lease(1, Some(2));
    two.cluster.asked();
    let hint = Some(StoreId(2));
    let refused = Err(Failure::Refused(Refusal::NotLeaseHolder { hint }));
    assert_eq!(two.wait(commit(None)), refused);
    let asked = [(THERE.0, "newest_version"), (THERE.0, "unlock_all")];
    assert_eq!(two.cluster.asked(), asked);
    let service = two.cluster.services.lock()[&THERE].clone();
    assert_eq!(service.staged_bytes(), 0);
}

#[test]
fn pieces_of_a_gateway_that_is_cut_off_or_gives_up_are_dropped() {
    let two = Two::new();
    let service = two.cluster.services.lock()[&THERE].clone();
    let call = |request: &wire::Request| {
        let frame = wire::encode_request(Timestamp(1), request);
        let answer = block_on(service.call(Some(HERE), frame));
        wire::decode_answer(answer).expect("an answer").1
    };
    let stage = |number| {
        call(&wire::Request::Stage {
            shard: ONE,
            txn: T1,
            number,
            writes: large(T1, 2).writes,
        })
    };
    let cut_off = || {
        service.connected(HERE, false);
    };
    let lost = || service.expel(HERE, service.connected(HERE, false));
    let ended = || {
        service.message(
            HERE,
            wire::encode_notice(&wire::Notice::UnlockAll { txn: T1 }),
        )
    };
    let moved = || {
        two.cluster.move_lease(1, Some(2));
        assert!(matches!(stage(1), Err(Failure::Refused(_))));
        two.cluster.move_lease(1, Some(1));
    };
    let ends: [&dyn Fn(); 4] = [&cut_off, &lost, &ended, &moved];
    for end in ends {
        assert!(stage(0).is_ok());
        assert!(service.staged_bytes() > 0);
        end();
        assert_eq!(service.staged_bytes(), 0);
        let answer = call(&wire::Request::Commit {
            shard: ONE,
            request: write(T1, b"k"),
            locked_under: None,
            staged: 1,
        });
        let Err(Failure::Failed(error)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(error.state, SqlState::SERIALIZATION_FAILURE);
        let written = two.wait(two.remote.newest_version(ONE, b"k"));
        assert_eq!(written, Ok(None));
    }
}

#[test]
fn the_first_byte_says_whose_a_frame_is() {
    let request = wire::encode_request(Timestamp(1), &wire::Request::RollCall { live: vec![] });
    let notice = wire::encode_notice(&wire::Notice::UnlockAll { txn: T1 });
    assert_eq!(Part::of(&request), Some(Part::Kv));
    assert_eq!(Part::of(&notice), Some(Part::Kv));
    assert_eq!(Part::of(&[0x1f]), Some(Part::Raft));
    assert_eq!(Part::of(&[0xff]), None);
    assert_eq!(Part::of(&[]), None);
}
