//! Replicas of one group on disks that forget and a network that drops, repeats and reorders, while
//! the members change. Checked: one leader a term; the same entry at the same index for everybody,
//! forever; nothing acknowledged is lost; and once the faults stop, the group works.

use crate::log_store::{Applied, GroupId, LogStore, Position, ReplicaId};
use crate::{Awaited, Change, Group, GroupOptions, Membership, Snapshot, wire};
use bytes::Bytes;
use proptest::prelude::*;
use raft::eraftpb::{Message, MessageType};
use std::collections::BTreeMap;
use std::ops::Bound;
use storage::{Engine, Keyspace, SimDisk, WriteBatch};
use types::Timestamp;

const GROUP: GroupId = GroupId(1);
const REPLICAS: u64 = 5;
/// Enough for any of the disturbances to settle.
const PATIENCE_ROUNDS: usize = 200;

/// A replica's state machine is the list of commands, in the data keyspace, one row an index.
fn row(index: u64) -> Bytes {
    Bytes::copy_from_slice(&index.to_be_bytes())
}

fn rows(snapshot: &dyn storage::Snapshot) -> Vec<(Bytes, Bytes)> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let pairs = snapshot.scan(Keyspace::Data, all, false);
    pairs.collect::<storage::Result<_>>().expect("a sound disk")
}

/// A message, and the rows of the snapshot in it.
type Parcel = (Bytes, Vec<(Bytes, Bytes)>);

struct Host {
    id: ReplicaId,
    disk: SimDisk,
    group: Option<Group>,
}

impl Host {
    fn start(&mut self) {
        let options = GroupOptions {
            // Short, so that whoever falls behind needs a snapshot.
            log_entries: 6,
            log_bytes: 1 << 20,
        };
        self.group = LogStore::load(GROUP, &self.disk)
            .expect("a sound disk")
            .map(|log| Group::new(self.id, log, options).expect("a group"));
    }
}

struct World {
    hosts: Vec<Host>,
    flying: Vec<(ReplicaId, Parcel)>,
    leaders: BTreeMap<u64, ReplicaId>,
    /// What any replica has ever applied.
    history: BTreeMap<u64, Bytes>,
    proposed: u64,
}

impl World {
    fn new() -> Self {
        let hosts = (1..=REPLICAS).map(|id| {
            let mut host = Host {
                id: ReplicaId(id),
                disk: SimDisk::new(),
                group: None,
            };
            let mut batch = WriteBatch::default();
            if id <= 3 {
                let members = Membership::of_voters((1..=3).map(ReplicaId));
                LogStore::create(GROUP, members, &mut batch);
            } else {
                LogStore::create_joining(GROUP, 0, 0, &mut batch);
            }
            host.disk.write(batch).expect("write");
            host.disk.sync().expect("sync");
            host.start();
            host
        });
        World {
            hosts: hosts.collect(),
            flying: Vec::new(),
            leaders: BTreeMap::new(),
            history: BTreeMap::new(),
            proposed: 0,
        }
    }

    fn host(&mut self, id: u64) -> &mut Host {
        &mut self.hosts[id as usize - 1]
    }

    fn leader(&mut self) -> Option<&mut Group> {
        let groups = self.hosts.iter_mut().filter_map(|host| host.group.as_mut());
        groups
            .filter(|group| group.is_leader())
            .max_by_key(|group| group.term())
    }

    fn propose(&mut self) {
        let text = Bytes::from(format!("command {}", self.proposed));
        if self.leader().is_some_and(|l| l.propose([text]).is_some()) {
            self.proposed += 1;
        }
    }

    fn send(&mut self, from: ReplicaId, messages: Vec<Message>) {
        for mut message in messages {
            let mut parcel_rows = Vec::new();
            if message.get_msg_type() == MessageType::MsgSnapshot {
                let snapshot = self.host(from.0).disk.snapshot();
                let head = Snapshot::read(GROUP, &*snapshot).expect("a sound disk");
                head.replace_in(&mut message);
                parcel_rows = rows(&*snapshot);
            }
            let mut frame = Vec::new();
            assert!(wire::encode(&message, &mut frame), "{message:?}");
            let to = ReplicaId(message.to);
            self.flying.push((to, (Bytes::from(frame), parcel_rows)));
        }
    }

    fn deliver(&mut self, place: usize) {
        let (to, (frame, parcel_rows)) = self.flying.swap_remove(place);
        let message = wire::decode(frame).expect("our own frame");
        let from = ReplicaId(message.from);
        let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
        let host = self.host(to.0);
        if let Some(group) = &mut host.group {
            group.step(message);
            self.turn(to, parcel_rows);
        }
        if is_snapshot && let Some(group) = &mut self.host(from.0).group {
            group.snapshot_sent(to, true);
        }
    }

    fn drop_message(&mut self, place: usize) {
        let (to, (frame, _)) = self.flying.swap_remove(place);
        let message = wire::decode(frame).expect("our own frame");
        if let Some(group) = &mut self.host(message.from).group {
            match message.get_msg_type() {
                MessageType::MsgSnapshot => group.snapshot_sent(to, false),
                _ => group.unreachable(to),
            }
        }
    }

    /// Writes, syncs, sends and applies until the replica is silent.
    fn turn(&mut self, id: ReplicaId, mut parcel_rows: Vec<(Bytes, Bytes)>) {
        loop {
            let host = self.host(id.0);
            let disk = host.disk.clone();
            let Some(group) = host.group.as_mut().filter(|group| group.has_effects()) else {
                return;
            };
            let mut batch = WriteBatch::default();
            let effects = group.effects(&mut batch);
            if effects.snapshot.is_some() {
                for (key, _) in rows(&*disk.snapshot()) {
                    batch.delete(Keyspace::Data, key);
                }
                for (key, value) in std::mem::take(&mut parcel_rows) {
                    batch.put(Keyspace::Data, key, value);
                }
            }
            disk.write(batch).expect("write");
            if effects.must_sync || effects.snapshot.is_some() {
                disk.sync().expect("sync");
            }
            let persisted = group.persisted().expect("readable entries");
            let mut batch = WriteBatch::default();
            for entry in &persisted.committed {
                batch.put(
                    Keyspace::Data,
                    row(entry.position.index),
                    entry.data.clone(),
                );
            }
            if let Some(last) = persisted.committed.last() {
                let applied = Applied {
                    position: last.position,
                    commit_ts: Timestamp(last.position.index),
                };
                let record = group.put_applied(applied, &mut batch).expect("applies");
                disk.write(batch).expect("write");
                group.applied(record);
            }
            let leads = group.is_leader().then(|| group.term());
            for entry in persisted.committed {
                let Position { index, .. } = entry.position;
                let before = self.history.entry(index).or_insert(entry.data.clone());
                assert_eq!(*before, entry.data, "two commands at index {index}");
            }
            if let Some(term) = leads {
                let leader = *self.leaders.entry(term).or_insert(id);
                assert_eq!(leader, id, "two leaders in term {term}");
            }
            let messages = effects.messages.into_iter().chain(persisted.messages);
            self.send(id, messages.collect());
        }
    }

    fn turn_all(&mut self) {
        for id in 1..=REPLICAS {
            self.turn(ReplicaId(id), Vec::new());
        }
    }

    fn kill(&mut self, id: u64, dice: u64) {
        let host = self.host(id);
        host.group = None;
        let mut dice = dice | 1;
        host.disk.crash(|| {
            dice = dice
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            dice >> 7
        });
    }

    /// All hosts run and all messages arrive, until a new command has come to every member.
    fn settle(&mut self) {
        for host in self.hosts.iter_mut().filter(|host| host.group.is_none()) {
            host.start();
        }
        let mut marker = None;
        for round in 0..PATIENCE_ROUNDS {
            self.turn_all();
            while !self.flying.is_empty() {
                self.deliver(0);
            }
            let settled = marker.is_some_and(|index| self.all_members_have(index));
            if settled {
                return;
            }
            if self.leader().is_none() || round % 40 == 39 {
                let id = 1 + (round as u64 / 7) % REPLICAS;
                if let Some(group) = &mut self.host(id).group {
                    let _ = group.campaign();
                }
            } else if let Some(leader) = self.leader() {
                leader.ping();
                leader.abort_transfer();
                if marker.is_none_or(|index| !self.history.contains_key(&index)) {
                    let text = Bytes::from_static(b"the end");
                    let at = self.leader().and_then(|leader| leader.propose([text]));
                    marker = at.map(|at| at.index);
                }
            }
        }
        panic!("the group did not recover");
    }

    fn all_members_have(&mut self, index: u64) -> bool {
        let Some(leader) = self.leader() else {
            return false;
        };
        let members = leader.membership().clone();
        let applied = |host: &Host| {
            let group = host.group.as_ref();
            group.is_some_and(|group| group.log().applied().position.index >= index)
        };
        self.hosts
            .iter()
            .filter(|host| members.contains(host.id))
            .all(applied)
    }
}

impl World {
    /// What is under way arrives; what is sent thereupon is under way then.
    fn deliver_round(&mut self) {
        for parcel in std::mem::take(&mut self.flying) {
            self.flying.push(parcel);
            self.deliver(self.flying.len() - 1);
        }
    }

    fn deliver_all(&mut self) {
        self.turn_all();
        while !self.flying.is_empty() {
            self.deliver_round();
        }
    }

    /// Of replicas 2 and 3, those from which the leader has yet to hear.
    fn awaited(&mut self) -> Vec<u64> {
        let leader = self.leader().expect("somebody leads");
        let all = (2..=3).filter(|id| leader.awaited(ReplicaId(*id)).is_some());
        all.collect()
    }
}

#[test]
fn a_leader_awaits_that_followers_know_what_is_committed() {
    let mut world = World::new();
    let first = world.host(1).group.as_mut().expect("runs");
    first.campaign().expect("campaigns");
    world.deliver_all();
    world.leader().expect("it leads").ping();
    world.deliver_all();
    assert_eq!(world.awaited(), []);

    world.propose();
    world.turn_all();
    let leader = world.leader().expect("it leads");
    assert_eq!(leader.awaited(ReplicaId(2)), Some(Awaited::Entries));
    world.deliver_all();
    let leader = world.leader().expect("it leads");
    let last = leader.last_index();
    assert_eq!(leader.committed(), last);
    // They have the entry, and are told that it is committed when there is more to tell.
    assert_eq!(leader.awaited(ReplicaId(2)), Some(Awaited::Commit));
    assert_eq!(world.awaited(), [2, 3]);
    let group = world.host(2).group.as_ref().expect("runs");
    assert_eq!((group.last_index(), group.committed()), (last, last - 1));
    world.leader().expect("it leads").ping();
    world.deliver_all();
    assert_eq!(world.awaited(), []);
    let group = world.host(2).group.as_ref().expect("runs");
    assert_eq!(group.committed(), last);

    // Whoever starts again may have forgotten it.
    let leader = world.leader().expect("it leads");
    leader.reconnected(ReplicaId(2));
    assert_eq!(world.awaited(), [2]);
    world.deliver_all();
    assert_eq!(world.awaited(), []);
}

#[derive(Clone, Debug)]
enum Step {
    Deliver(usize),
    Drop(usize),
    Repeat(usize),
    Propose,
    Campaign(u64),
    Transfer(u64),
    Ping(u64),
    Kill(u64, u64),
    Start(u64),
    Members(Vec<(u8, u64)>),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 1..=REPLICAS;
    prop_oneof![
        40 => any::<usize>().prop_map(Step::Deliver),
        2 => any::<usize>().prop_map(Step::Drop),
        2 => any::<usize>().prop_map(Step::Repeat),
        12 => Just(Step::Propose),
        2 => id().prop_map(Step::Campaign),
        1 => id().prop_map(Step::Transfer),
        3 => id().prop_map(Step::Ping),
        1 => (id(), any::<u64>()).prop_map(|(id, dice)| Step::Kill(id, dice)),
        2 => id().prop_map(Step::Start),
        1 => proptest::collection::vec((0u8..3, id()), 1..3).prop_map(Step::Members),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn replicas_agree(steps in proptest::collection::vec(step(), 1..600)) {
        let mut world = World::new();
        world.host(1).group.as_mut().expect("runs").campaign().expect("campaigns");
        world.turn_all();
        for step in steps {
            let flying = world.flying.len();
            match step {
                Step::Deliver(_) | Step::Drop(_) | Step::Repeat(_) if flying == 0 => {}
                Step::Deliver(place) => world.deliver(place % flying),
                Step::Drop(place) => world.drop_message(place % flying),
                Step::Repeat(place) => {
                    let parcel = world.flying[place % flying].clone();
                    world.flying.push(parcel);
                }
                Step::Propose => world.propose(),
                Step::Campaign(id) => {
                    if let Some(group) = &mut world.host(id).group {
                        let _ = group.campaign();
                    }
                }
                Step::Transfer(to) => {
                    if let Some(leader) = world.leader() {
                        leader.transfer_leader(ReplicaId(to));
                    }
                }
                Step::Ping(id) => {
                    if let Some(group) = &mut world.host(id).group {
                        group.ping();
                        group.abort_transfer();
                    }
                }
                Step::Kill(id, dice) => world.kill(id, dice),
                Step::Start(id) => {
                    if world.host(id).group.is_none() {
                        world.host(id).start();
                    }
                }
                Step::Members(changes) => {
                    let changes: Vec<Change> = changes
                        .into_iter()
                        .map(|(kind, id)| match (kind, ReplicaId(id)) {
                            (0, id) => Change::AddVoter(id),
                            (1, id) => Change::AddLearner(id),
                            (_, id) => Change::Remove(id),
                        })
                        .collect();
                    if let Some(leader) = world.leader() {
                        leader.propose_membership(&changes, b"");
                    }
                }
            }
            world.turn_all();
        }
        world.settle();
    }
}
