//! Commits under locks of a lease that is interrupted.

use super::*;
use crate::lease_ends::LeaseEnd;
use sharding::{Replica as Place, ShardMap};
use txn::testing::still_env;
use types::SqlState;

const HELD: LeaseId = LeaseId {
    term: 4,
    confirmed: 0,
};
/// The same, confirmed after an interruption.
const CONFIRMED: LeaseId = LeaseId {
    term: 4,
    confirmed: 1,
};

fn millis(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A replica that was given `HELD` at 1 s, to 2 s.
fn holder() -> Replica {
    let clock = still_env(1_000_000, 0).clock;
    let metrics = Arc::new(Metrics::new());
    let locks = LockManager::new(Default::default(), Arc::clone(&clock), Arc::clone(&metrics));
    let time = Arc::new(NodeClock::new(clock, Timestamp::ZERO));
    let shared = Shared::new(StoreId(1), Arc::new(locks), metrics, time, 100);
    let place = Place {
        store: StoreId(1),
        id: 1,
    };
    let descriptor = ShardMap::single(place).shards()[0].clone();
    let replica = Replica::new(descriptor, Arc::new(shared));
    replica.grant(HELD, millis(1000), LeaseEnd::new(millis(2000)));
    replica
}

fn commit(replica: &Replica, at: u64) -> Result<Submit, Failure> {
    let request = Request {
        txn: TxnId(1),
        read_at: millis(1000),
        read_spans: Vec::new(),
        body: Body::Whole(vec![(Key::from_static(b"key"), None)]),
    };
    replica.submit(request, Some(HELD), millis(1000), || millis(at), 0)
}

#[test]
fn locks_stand_when_the_lease_is_confirmed_in_its_term() {
    let replica = holder();
    replica.lapse(millis(3500));
    assert!(matches!(commit(&replica, 1600), Ok(Submit::Late(_))));
    // It is the loop's again before a majority is bound.
    replica.grant(CONFIRMED, millis(1700), LeaseEnd::default());
    assert!(matches!(commit(&replica, 1800), Ok(Submit::Late(_))));
    replica.extend(LeaseEnd::new(millis(4000)));
    assert!(matches!(commit(&replica, 1900), Ok(Submit::Queued(_))));
}

#[test]
fn a_lease_that_is_not_confirmed_is_not_waited_for_longer_than_that() {
    let replica = holder();
    replica.lapse(millis(3500));
    replica.grant(CONFIRMED, millis(1700), LeaseEnd::default());
    assert!(matches!(commit(&replica, 3501), Err(Failure::Refused(_))));
}

#[test]
fn locks_are_gone_in_another_term() {
    let replica = holder();
    replica.lapse(millis(3500));
    replica.revoke();
    assert!(matches!(commit(&replica, 1600), Err(Failure::Refused(_))));
    let next = LeaseId {
        term: 6,
        confirmed: 1,
    };
    replica.grant(next, millis(1700), LeaseEnd::new(millis(4000)));
    let refused = commit(&replica, 1800);
    assert!(matches!(
        refused,
        Err(Failure::Failed(error)) if error.state == SqlState::SERIALIZATION_FAILURE
    ));
}

#[test]
fn parts_go_on_while_the_lease_is_interrupted() {
    let replica = holder();
    let part = |number| Part {
        name: CommitName(1),
        number,
        writes: Vec::new(),
    };
    let mut first = replica.stage(part(0), HELD).expect("held");
    replica.lapse(millis(3500));
    let mut second = replica.stage(part(1), HELD).expect("interrupted");
    replica.part_done(CommitName(1), 0, 4);
    replica.part_done(CommitName(1), 1, 4);
    assert_eq!(first.try_recv(), Ok(Some(4)));
    assert_eq!(second.try_recv(), Ok(Some(4)));
    let mut third = replica.stage(part(2), HELD).expect("interrupted");
    replica.revoke();
    assert!(third.try_recv().is_err());
    assert!(replica.stage(part(3), HELD).is_err());
}
