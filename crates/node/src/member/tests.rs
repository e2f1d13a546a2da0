//! Three members of a group, without the loop around them: whom support binds.

use super::*;
use crate::lease_ends::LeaseEnds;
use crate::lock_manager::LockManager;
use crate::metrics::Metrics;
use crate::node_clock::NodeClock;
use crate::replica::Shared;
use consensus::log_store::Applied;
use consensus::{Change, GroupId, GroupOptions, LogStore, Message};
use membership::liveness::record::Record;
use membership::liveness::{Effects, Epoch, Kind, Message as Heartbeat, Options, Support};
use sharding::{Replica as Place, ShardMap};
use storage::{Engine, SimDisk, WriteBatch};
use txn::testing::still_env;

const NOW: Timestamp = Timestamp(1000 << 16);

/// The replica of store N is named N.
struct Node {
    store: StoreId,
    disk: SimDisk,
    member: Member,
    liveness: Liveness,
    clock: Arc<NodeClock>,
}

fn three() -> [Node; 3] {
    [1, 2, 3].map(Node::new)
}

impl Node {
    fn new(name: u64) -> Node {
        let store = StoreId(name);
        let place = |name| Place {
            store: StoreId(name),
            id: name,
        };
        let mut descriptor = ShardMap::single(place(1)).shards()[0].clone();
        descriptor.replicas = [1, 2, 3].map(place).to_vec();
        descriptor.next_replica = 4;
        let disk = SimDisk::new();
        let mut batch = WriteBatch::default();
        let voters = [1, 2, 3].map(ReplicaId);
        let id = GroupId(descriptor.id.0);
        LogStore::create(id, Membership::of_voters(voters), &mut batch);
        disk.write(batch).expect("a sound disk");
        let log = LogStore::load(id, &disk).expect("a sound disk");
        let log = log.expect("it was made");
        let group = Group::new(ReplicaId(name), log, GroupOptions::default()).expect("a group");

        let env = still_env(1_000_000, 0);
        let metrics = Arc::new(Metrics::new());
        let wall = || Arc::clone(&env.clock);
        let locks = LockManager::new(Default::default(), wall(), Arc::clone(&metrics));
        let clock = Arc::new(NodeClock::new(wall(), Timestamp::ZERO));
        let shared = Shared::new(store, Arc::new(locks), metrics, Arc::clone(&clock), 100);
        let replica = Arc::new(Replica::new(descriptor.clone(), Arc::new(shared)));
        let record = ReplicaRecord {
            id: ReplicaId(name),
            presence: Presence::Whole,
            descriptor,
        };
        Node {
            store,
            disk,
            member: Member::new(group, replica, record),
            liveness: Liveness::new(store, Record::default(), Options::default(), NOW),
            clock,
        }
    }

    fn persist(&mut self, effects: Effects) {
        if let Some(record) = effects.record {
            self.liveness.persisted(record);
        }
    }

    fn hears(&mut self, from: u64, kind: Kind, epoch: u64, until: u64) {
        let heartbeat = Heartbeat {
            from: StoreId(from),
            to: self.store,
            kind,
            support: Support {
                epoch: Epoch(epoch),
                expiry: Timestamp::from_millis(until),
            },
        };
        let effects = self.liveness.step(NOW, [heartbeat]);
        self.persist(effects);
    }

    /// Writes, and applies what may be applied. Returns what it says.
    fn drive(&mut self) -> Vec<Message> {
        let mut said = Vec::new();
        let member = &mut self.member;
        loop {
            if member.group.has_effects() {
                let mut batch = WriteBatch::default();
                said.extend(member.group.effects(&mut batch).messages);
                self.disk.write(batch).expect("a sound disk");
                let persisted = member.group.persisted().expect("readable entries");
                said.extend(persisted.messages);
                for entry in persisted.committed {
                    let taken = member.take_committed(entry, &mut Vec::new());
                    taken.expect("it is whole");
                }
            } else if member.has_to_apply(NOW) {
                member.committed.clear();
                let applied = Applied {
                    position: member.committed_to.take().expect("it is committed"),
                    commit_ts: Timestamp::ZERO,
                };
                let record = member
                    .group
                    .put_applied(applied, &mut WriteBatch::default());
                member.group.applied(record.expect("in order"));
            } else {
                return said;
            }
        }
    }

    fn admits(&self, message: &Message) -> bool {
        let from = StoreId(message.from);
        let member = &self.member;
        member.admits(self.store, from, message, &self.liveness, NOW)
    }

    fn campaign(&mut self) -> Vec<Message> {
        self.member.group.campaign().expect("it has a vote");
        self.drive()
    }

    /// Takes those of the messages that are for this one and that it admits. Returns what it says to them.
    fn takes(&mut self, messages: &[Message]) -> Vec<Message> {
        for message in messages {
            if message.to == self.store.0 && self.admits(message) {
                self.member.group.step(message.clone());
            }
        }
        self.drive()
    }
}

/// The first leads, and the second follows it. Returns what is on its way to the third.
fn elect(one: &mut Node, two: &mut Node) -> Vec<Message> {
    let mut said = one.campaign();
    let mut lost = Vec::new();
    while !said.is_empty() {
        lost.extend(said.iter().filter(|m| m.to == 3).cloned());
        let answers = two.takes(&said);
        said = one.takes(&answers);
    }
    assert!(one.member.group.is_leader());
    assert_eq!(two.member.leader_store(), Some(one.store));
    lost
}

/// Found by the simulator: the third's disk had stalled while all three stood for election, and when it went on it knew
/// of nothing but old answers, which made it a candidate of a later term.
#[test]
fn an_old_answer_does_not_free_a_follower_from_a_leader_whom_its_store_supports() {
    let [mut one, mut two, mut three] = three();
    two.hears(1, Kind::Heartbeat, 1, 1900);

    // All ask whether they would be elected, and the third is slow from then on.
    let asked = three.campaign();
    let mut answers = one.takes(&asked);
    answers.extend(two.takes(&asked));
    let late = two.campaign();
    let lost = elect(&mut one, &mut two);
    assert!(two.member.is_bound(two.store, &two.liveness));
    let term = two.member.group.term();

    // One answer makes it a candidate, and the other one of the next term.
    let mut said = three.takes(&answers[..1]);
    said.extend(three.campaign());
    said.extend(three.takes(&answers[1..]));
    assert!(three.member.group.term() > term);
    said.extend(three.takes(&late));
    said.extend(three.takes(&lost));
    two.takes(&said);
    assert_eq!(two.member.group.term(), term);
    assert_eq!(two.member.leader_store(), Some(one.store));
    assert!(!two.member.should_campaign(two.store, &two.liveness));

    // Nothing holds it back any more.
    let effects = two.liveness.tick(Timestamp::from_millis(9000));
    two.persist(effects);
    two.takes(&said);
    assert!(two.member.group.term() > term);
    assert!(two.member.should_campaign(two.store, &two.liveness));
}

/// Found by the simulator: the lease went to a replica that was being removed, and of the others one was dead.
#[test]
fn a_leader_that_is_removed_leaves_when_the_others_know() {
    let [mut one, mut two, mut three] = three();
    elect(&mut one, &mut two);
    let mut descriptor = one.member.record.descriptor.clone();
    descriptor.replicas.retain(|replica| replica.id != 1);
    let mut attached = Vec::new();
    descriptor.put(&mut attached);
    let leave = [Change::Remove(ReplicaId(1))];
    let proposed = one.member.group.propose_membership(&leave, &attached);
    let at = proposed.expect("it leads").index;
    let applied = |node: &Node| node.member.group.log().applied().position.index >= at;

    let mut said = one.drive();
    for _ in 0..4 {
        // The third is cut off.
        let answers = two.takes(&said);
        said = one.takes(&answers);
        one.member.group.ping();
        said.extend(one.drive());
    }
    assert!(applied(&two));
    assert!(!applied(&one), "the third would need it");
    for _ in 0..4 {
        let mut answers = two.takes(&said);
        answers.extend(three.takes(&said));
        said = one.takes(&answers);
        one.member.group.ping();
        said.extend(one.drive());
    }
    assert!(applied(&three) && applied(&one));
    assert!(!one.member.group.is_leader());
}

#[test]
fn a_lease_that_was_given_up_stands_only_on_who_is_bound_after_that() {
    let [mut one, mut two, _] = three();
    one.liveness.ask(StoreId(2));
    let effects = one.liveness.tick(NOW);
    one.persist(effects);
    let epoch = one.liveness.epoch().0;
    elect(&mut one, &mut two);
    let mut ends = LeaseEnds::new(100);
    let mut look = |one: &mut Node| {
        ends.refresh(&one.liveness);
        let Node {
            member,
            liveness,
            clock,
            ..
        } = one;
        member.update_lease(liveness, &mut ends, clock);
        member.replica.lease_end().millis()
    };
    let hear_out = |one: &mut Node, two: &mut Node| {
        let said = one.drive();
        let answers = two.takes(&said);
        one.takes(&answers);
    };
    assert_eq!(look(&mut one), 0, "nobody supports it");
    one.hears(2, Kind::Reply, epoch, 1900);
    look(&mut one);
    hear_out(&mut one, &mut two);
    assert_eq!(look(&mut one), 1800);

    // The other store withdraws, may vote, and gives support anew before the leader has looked.
    one.hears(2, Kind::Reply, epoch + 1, 0);
    one.hears(2, Kind::Reply, epoch + 1, 1950);
    one.member.give_lease_up();
    assert_eq!(look(&mut one), 0);
    hear_out(&mut one, &mut two);
    assert_eq!(look(&mut one), 1850);
}
