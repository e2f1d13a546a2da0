use super::*;
use crate::log_store::{GroupId, ORIGIN};
use storage::{Engine, SimDisk};
use types::Timestamp;

const GROUP: GroupId = GroupId(1);
const ME: ReplicaId = ReplicaId(1);

struct Replica {
    disk: SimDisk,
    group: Group,
    applied: Vec<(u64, Bytes)>,
}

fn found(disk: &SimDisk) {
    let mut batch = WriteBatch::default();
    let membership = Membership::of_voters([ME]);
    LogStore::create(GROUP, membership, &mut batch);
    disk.write(batch).unwrap();
    disk.sync().unwrap();
}

fn open(disk: &SimDisk, options: GroupOptions) -> Replica {
    let log = LogStore::load(GROUP, disk).unwrap().expect("founded");
    Replica {
        disk: disk.clone(),
        group: Group::new(ME, log, options).unwrap(),
        applied: Vec::new(),
    }
}

impl Replica {
    /// Writes and syncs until silent; applies if asked to.
    fn drive(&mut self, apply: bool) {
        while self.group.has_effects() {
            let mut batch = WriteBatch::default();
            let effects = self.group.effects(&mut batch);
            assert!(effects.messages.is_empty());
            self.disk.write(batch).unwrap();
            if effects.must_sync {
                self.disk.sync().unwrap();
            }
            let committed = self.group.persisted().expect("readable entries").committed;
            let Some(last) = committed.last().map(|entry| entry.position) else {
                continue;
            };
            for entry in committed {
                self.applied.push((entry.position.index, entry.data));
            }
            if apply {
                let mut batch = WriteBatch::default();
                let applied = Applied {
                    position: last,
                    commit_ts: Timestamp(last.index),
                };
                let record = self.group.put_applied(applied, &mut batch).unwrap();
                self.disk.write(batch).unwrap();
                self.group.applied(record);
            }
        }
    }

    fn propose(&mut self, texts: &[&'static str]) -> Option<Position> {
        self.group
            .propose(texts.iter().map(|text| Bytes::from_static(text.as_bytes())))
    }

    fn data(&self) -> Vec<&[u8]> {
        self.applied.iter().map(|(_, data)| &data[..]).collect()
    }
}

#[test]
fn one_voter_elects_itself_and_commits() {
    let disk = SimDisk::new();
    assert!(LogStore::load(GROUP, &disk).unwrap().is_none());
    found(&disk);
    let mut replica = open(&disk, GroupOptions::default());
    assert_eq!(replica.propose(&["too early"]), None);
    replica.group.campaign().unwrap();
    assert!(replica.group.is_leader());
    let first = replica.propose(&["a", "b"]);
    let term = ORIGIN.term + 1;
    let index = ORIGIN.index + 2;
    assert_eq!(first, Some(Position { index, term }));
    replica.drive(true);
    assert_eq!(replica.data(), [&b""[..], b"a", b"b"]);
    replica.propose(&["c"]);
    replica.drive(true);
    assert_eq!(replica.data(), [&b""[..], b"a", b"b", b"c"]);
}

#[test]
fn what_is_synced_but_not_applied_comes_again() {
    let disk = SimDisk::new();
    found(&disk);
    let mut replica = open(&disk, GroupOptions::default());
    replica.group.campaign().unwrap();
    replica.propose(&["a"]);
    replica.drive(true);
    replica.propose(&["b", "c"]);
    replica.drive(false);
    drop(replica);
    disk.sync().unwrap();
    let mut replica = open(&disk, GroupOptions::default());
    assert_eq!(replica.group.log().applied().commit_ts, Timestamp(3));
    replica.group.campaign().unwrap();
    replica.drive(true);
    assert_eq!(replica.data(), [&b"b"[..], b"c", b""]);
    drop(replica);
    let mut replica = open(&disk, GroupOptions::default());
    replica.group.campaign().unwrap();
    replica.drive(true);
    assert_eq!(replica.data(), [&b""[..]]);
    assert_eq!(replica.group.term(), ORIGIN.term + 3);
}

#[test]
fn the_log_stays_bounded() {
    let disk = SimDisk::new();
    found(&disk);
    let options = GroupOptions {
        log_entries: 16,
        log_bytes: 1 << 20,
    };
    let mut replica = open(&disk, options);
    replica.group.campaign().unwrap();
    for _ in 0..500 {
        replica.propose(&["x", "y"]);
        replica.drive(true);
        assert!(replica.group.log().entry_count() <= 20);
    }
    let (count, bytes) = (
        replica.group.log().entry_count(),
        replica.group.log().bytes(),
    );
    drop(replica);
    let replica = open(&disk, options);
    assert_eq!(replica.group.log().entry_count(), count);
    assert_eq!(replica.group.log().bytes(), bytes);
}

#[test]
fn a_damaged_record_is_noticed() {
    let disk = SimDisk::new();
    found(&disk);
    let mut replica = open(&disk, GroupOptions::default());
    replica.group.campaign().unwrap();
    replica.propose(&["a", "b"]);
    replica.drive(false);
    let snapshot = disk.snapshot();
    let everything = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let records: Vec<(Bytes, Bytes)> = snapshot
        .scan(storage::Keyspace::Raft, everything, false)
        .map(|pair| pair.unwrap())
        .collect();
    assert!(records.len() >= 7);
    for (key, record) in records {
        for at in 0..record.len() {
            let mut damaged = record.to_vec();
            damaged[at] ^= 0x40;
            let mut batch = WriteBatch::default();
            batch.put(storage::Keyspace::Raft, key.clone(), damaged);
            disk.write(batch).unwrap();
            let loaded = LogStore::load(GROUP, &disk);
            assert!(matches!(loaded, Err(storage::Error::Corrupt(_))));
        }
        let mut batch = WriteBatch::default();
        batch.put(storage::Keyspace::Raft, key, record);
        disk.write(batch).unwrap();
    }
    assert!(LogStore::load(GROUP, &disk).unwrap().is_some());
}

#[test]
fn a_new_replica_does_not_take_the_entries_of_an_earlier_one_for_its_own() {
    let disk = SimDisk::new();
    found(&disk);
    let mut replica = open(&disk, GroupOptions::default());
    replica.group.campaign().unwrap();
    replica.drive(true);
    replica.group.propose([Bytes::from_static(b"one")]).unwrap();
    replica.drive(true);

    // It left, and the removal of its log was lost.
    let join = |clean: bool| {
        let mut batch = WriteBatch::default();
        if clean {
            LogStore::remove_remains(GROUP, &disk, &mut batch).unwrap();
        }
        LogStore::create_joining(GROUP, 3, 2, &mut batch);
        disk.write(batch).unwrap();
        LogStore::load(GROUP, &disk)
    };
    assert!(join(false).is_err());
    let log = join(true).unwrap().expect("joins");
    assert_eq!(log.entry_count(), 0);
}

/// What the leader, replica 2, sends: these entries behind `previous`, and that entries up to `commit` are committed.
fn append(term: u64, previous: Position, data: &[&'static str], commit: u64) -> Message {
    let mut message = Message::default();
    message.set_msg_type(MessageType::MsgAppend);
    (message.from, message.to, message.term) = (2, ME.0, term);
    (message.index, message.log_term, message.commit) = (previous.index, previous.term, commit);
    let entries = (previous.index + 1..).zip(data).map(|(index, data)| Entry {
        index,
        term,
        data: Bytes::from_static(data.as_bytes()),
        ..Entry::default()
    });
    message.set_entries(entries.collect::<Vec<_>>().into());
    message
}

#[test]
fn entries_that_others_were_to_replace_are_not_committed_because_those_are() {
    let disk = SimDisk::new();
    let mut batch = WriteBatch::default();
    let membership = Membership::of_voters([ME, ReplicaId(2), ReplicaId(3)]);
    LogStore::create(GROUP, membership, &mut batch);
    disk.write(batch).unwrap();
    let mut replica = open(&disk, GroupOptions::default());
    let write = |replica: &mut Replica| {
        let mut batch = WriteBatch::default();
        replica.group.effects(&mut batch);
        replica.disk.write(batch).unwrap();
        replica.group.persisted().unwrap();
    };
    replica
        .group
        .step(append(2, ORIGIN, &["a", "void"], ORIGIN.index));
    write(&mut replica);
    let first = ORIGIN.index + 1;

    // The next leader has another second entry, and it is committed; the disk is full.
    let previous = Position {
        index: first,
        term: 2,
    };
    let message = append(3, previous, &["b"], first + 1);
    replica.group.step(message);
    replica.group.effects(&mut WriteBatch::default());
    assert_eq!(replica.group.committed(), first + 1);
    let mut again = open(&disk, GroupOptions::default());
    again.group.learn_committed(&replica.group);
    assert_eq!(again.group.committed(), first);

    // Had it been written, it would be known.
    let mut replica = again;
    replica.group.step(append(3, previous, &["b"], first + 1));
    write(&mut replica);
    let mut again = open(&disk, GroupOptions::default());
    again.group.learn_committed(&replica.group);
    assert_eq!(again.group.committed(), first + 1);
}
