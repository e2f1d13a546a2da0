//! The log of one group: in memory as raft-rs reads it, in the `raft` keyspace as it survives.
//!
//! Keys, big-endian so that entries of a group lie side by side in order:
//!
//! | key                          | record                                                   |
//! | ---------------------------- | -------------------------------------------------------- |
//! | `g` · group (8) · `a`        | applied: position and newest commit timestamp            |
//! | `g` · group (8) · `e` · index (8) | one entry                                           |
//! | `g` · group (8) · `h`        | hard state: term, vote, commit index, leader              |
//! | `g` · group (8) · `m`        | membership                                               |
//! | `g` · group (8) · `t`        | truncated: position of the last entry that is gone       |
//!
//! Each record starts with a version and ends with a CRC-32, verified when it is read. The entries
//! that are kept are also held in memory: the log is short, because it is truncated after apply.
//!
//! The commit index is written only while the log holds a change of members that is not applied. A
//! replica knows that what it applied was committed, and learns the rest from the leader or, alone, by
//! its own election. But a change of members counts from when it is applied: a replica that forgot that
//! one is committed would, after the next, stand for election among voters of two changes ago, and
//! their majority need not meet that of today's.

use crate::membership::Membership;
use crate::snapshot::Snapshot;
use bytes::Bytes;
use raft::eraftpb;
use raft::{GetEntriesContext, RaftState, StorageError};
use std::collections::VecDeque;
use std::ops::Bound;
use storage::{Engine, Keyspace, WriteBatch};
use types::Timestamp;
use types::codec::{Reader, put_varint, seal, unseal};

/// A group's name; equal to its shard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// A replica's name in its group. Never 0, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u64);

/// A place in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub index: u64,
    pub term: u64,
}

/// Where a new group's log begins, as if everything up to here had been truncated. Above 0, so that
/// a replica added later is sent a snapshot and not asked to replay from nothing.
pub const ORIGIN: Position = Position { index: 1, term: 1 };

/// What a replica must not forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: u64,
    /// Whom it voted for in this term; 0 for nobody.
    pub vote: u64,
    /// Entries up to here are committed, at least. See the module for when it is kept.
    pub commit: u64,
    /// Who leads this term; 0 for nobody known. Support that this store has promised to the leader's store
    /// binds its replica also after a restart, so it must know then who that is.
    pub leader: u64,
}

/// An entry that is committed, or to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub position: Position,
    /// Empty for the entry that opens a term. Of a change of members: what its proposer attached to it.
    pub data: Bytes,
    pub is_change: bool,
}

/// How far the state machine is, and the newest commit timestamp in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    pub position: Position,
    pub commit_ts: Timestamp,
}

const VERSION: u8 = 1;
const NORMAL: u8 = 0;
const CONF_CHANGE: u8 = 1;
const CONF_CHANGE_V2: u8 = 2;

/// What an entry costs beside its data, for the bound on the log's size.
const ENTRY_OVERHEAD_BYTES: u64 = 128;

/// See the module.
pub struct LogStore {
    group: GroupId,
    hard_state: HardState,
    membership: Membership,
    truncated: Position,
    entries: VecDeque<eraftpb::Entry>,
    bytes: u64,
    /// Index of the newest change of members in `entries`, or 0.
    last_change: u64,
    /// At least this is committed, because it is applied.
    applied: Applied,
}

impl LogStore {
    /// The log of a new group, and its records into `batch`.
    pub fn create(group: GroupId, membership: Membership, batch: &mut WriteBatch) -> Self {
        let hard_state = HardState {
            term: ORIGIN.term,
            commit: ORIGIN.index,
            ..HardState::default()
        };
        let applied = Applied {
            position: ORIGIN,
            commit_ts: Timestamp::ZERO,
        };
        Self::create_at(applied, hard_state, group, membership, batch)
    }

    /// The log of a group that is split off from another: the same on all its replicas, but for what one of them
    /// may have promised already. It begins with the rows that are there, the newest of them of `floor` at most.
    pub fn create_split_off(
        group: GroupId,
        membership: Membership,
        promised: HardState,
        floor: Timestamp,
        batch: &mut WriteBatch,
    ) -> Self {
        let hard_state = HardState {
            commit: ORIGIN.index,
            ..promised
        };
        let applied = Applied {
            position: ORIGIN,
            commit_ts: floor,
        };
        Self::create_at(applied, hard_state, group, membership, batch)
    }

    /// The log of a replica that joins a group: empty, and of no members, until it is sent a snapshot. It knows
    /// from the first on who leads the term in which it was called.
    pub fn create_joining(group: GroupId, term: u64, leader: u64, batch: &mut WriteBatch) -> Self {
        let hard_state = HardState {
            term,
            leader,
            ..HardState::default()
        };
        let applied = Applied {
            position: Position::default(),
            commit_ts: Timestamp::ZERO,
        };
        Self::create_at(applied, hard_state, group, Membership::default(), batch)
    }

    fn create_at(
        applied: Applied,
        hard_state: HardState,
        group: GroupId,
        membership: Membership,
        batch: &mut WriteBatch,
    ) -> Self {
        let store = LogStore {
            group,
            hard_state,
            membership,
            truncated: applied.position,
            entries: VecDeque::new(),
            bytes: 0,
            last_change: 0,
            applied,
        };
        store.put_hard_state(store.hard_state, batch);
        store.put_membership(&store.membership, batch);
        store.put_position(b't', store.truncated, batch);
        store.put_applied(store.applied, batch);
        store
    }

    /// Reads a group's records, or `None` if the disk has no such group.
    pub fn load(group: GroupId, engine: &dyn Engine) -> storage::Result<Option<Self>> {
        let get = |key: &Bytes| engine.get(Keyspace::Raft, key);
        let Some(hard_state) = read(get, key(group, b'h'), |r| {
            Some(HardState {
                term: r.u64()?,
                vote: r.u64()?,
                commit: r.u64()?,
                leader: r.u64()?,
            })
        })?
        else {
            return Ok(None);
        };
        let membership = required(get, key(group, b'm'), Membership::read)?;
        let truncated = required(get, key(group, b't'), read_position)?;
        let applied = required(get, key(group, b'a'), read_applied)?;
        let mut store = LogStore {
            group,
            hard_state,
            membership,
            truncated,
            entries: VecDeque::new(),
            bytes: 0,
            last_change: 0,
            applied,
        };
        let snapshot = engine.snapshot();
        let range = (
            Bound::Included(entry_key(group, truncated.index + 1)),
            Bound::Included(entry_key(group, u64::MAX)),
        );
        for pair in snapshot.scan(Keyspace::Raft, range, false) {
            let (key, record) = pair?;
            let entry = unseal(&record)
                .and_then(|body| read_entry(&mut Reader::new(body)))
                .ok_or_else(|| corrupt(&key))?;
            if entry.index != store.last().index + 1 || key != entry_key(group, entry.index) {
                return Err(corrupt(&key));
            }
            store.push(entry);
        }
        let known = applied.position.index.max(hard_state.commit);
        if applied.position.index < truncated.index || known > store.last().index {
            return Err(storage::Error::Corrupt(format!(
                "group {} is committed up to {known}, but its log goes from {} to {}",
                group.0,
                truncated.index,
                store.last().index
            )));
        }
        Ok(Some(store))
    }

    pub fn group(&self) -> GroupId {
        self.group
    }

    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// The members, as of what is applied.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Position of the last entry.
    pub fn last(&self) -> Position {
        self.entries
            .back()
            .map_or(self.truncated, |entry| Position {
                index: entry.index,
                term: entry.term,
            })
    }

    /// The position before the first entry that is kept.
    pub fn truncated(&self) -> Position {
        self.truncated
    }

    /// The entries that are kept: where, and what they say.
    pub fn kept_entries(&self) -> impl Iterator<Item = (Position, &Bytes)> {
        self.entries.iter().map(|entry| {
            let position = Position {
                index: entry.index,
                term: entry.term,
            };
            (position, &entry.data)
        })
    }

    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the kept entries, in memory as on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records of what is to be appended, replacing what is there from the first of them on.
    pub(crate) fn put_entries(&self, entries: &[eraftpb::Entry], batch: &mut WriteBatch) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        debug_assert!(first.index > self.truncated.index);
        for entry in entries {
            batch.put(
                Keyspace::Raft,
                entry_key(self.group, entry.index),
                encode_entry(entry),
            );
        }
        for stale in last.index + 1..=self.last().index {
            batch.delete(Keyspace::Raft, entry_key(self.group, stale));
        }
    }

    pub(crate) fn put_hard_state(&self, state: HardState, batch: &mut WriteBatch) {
        let mut record = vec![VERSION];
        record.extend_from_slice(&state.term.to_le_bytes());
        record.extend_from_slice(&state.vote.to_le_bytes());
        record.extend_from_slice(&state.commit.to_le_bytes());
        record.extend_from_slice(&state.leader.to_le_bytes());
        seal(&mut record, 0);
        batch.put(Keyspace::Raft, key(self.group, b'h'), record);
    }

    pub(crate) fn put_applied(&self, applied: Applied, batch: &mut WriteBatch) {
        let mut record = vec![VERSION];
        put_position_fields(applied.position, &mut record);
        record.extend_from_slice(&applied.commit_ts.0.to_le_bytes());
        seal(&mut record, 0);
        batch.put(Keyspace::Raft, key(self.group, b'a'), record);
    }

    /// Removes entries up to `upto` from the records.
    pub(crate) fn put_truncation(&self, upto: Position, batch: &mut WriteBatch) {
        for index in self.truncated.index + 1..=upto.index {
            batch.delete(Keyspace::Raft, entry_key(self.group, index));
        }
        self.put_position(b't', upto, batch);
    }

    fn put_position(&self, kind: u8, position: Position, batch: &mut WriteBatch) {
        let mut record = vec![VERSION];
        put_position_fields(position, &mut record);
        seal(&mut record, 0);
        batch.put(Keyspace::Raft, key(self.group, kind), record);
    }

    pub(crate) fn put_membership(&self, membership: &Membership, batch: &mut WriteBatch) {
        let mut record = vec![VERSION];
        membership.put(&mut record);
        seal(&mut record, 0);
        batch.put(Keyspace::Raft, key(self.group, b'm'), record);
    }

    /// Replaces the whole log by a snapshot's position.
    pub(crate) fn put_snapshot(&self, snapshot: &Snapshot, batch: &mut WriteBatch) {
        for index in self.truncated.index + 1..=self.last().index {
            batch.delete(Keyspace::Raft, entry_key(self.group, index));
        }
        self.put_position(b't', snapshot.applied.position, batch);
        self.put_applied(snapshot.applied, batch);
        self.put_membership(&snapshot.membership, batch);
    }

    /// Makes the log that of a replica that has just joined, but for what it has promised: its term and vote.
    pub fn put_reset(&self, batch: &mut WriteBatch) {
        for index in self.truncated.index + 1..=self.last().index {
            batch.delete(Keyspace::Raft, entry_key(self.group, index));
        }
        let hard_state = HardState {
            commit: 0,
            ..self.hard_state
        };
        self.put_hard_state(hard_state, batch);
        self.put_membership(&Membership::default(), batch);
        self.put_position(b't', Position::default(), batch);
        let nothing = Applied {
            position: Position::default(),
            commit_ts: Timestamp::ZERO,
        };
        self.put_applied(nothing, batch);
    }

    /// Removes all records of a replica that has left its group.
    pub fn put_removal(&self, batch: &mut WriteBatch) {
        for index in self.truncated.index + 1..=self.last().index {
            batch.delete(Keyspace::Raft, entry_key(self.group, index));
        }
        for kind in [b'a', b'h', b'm', b't'] {
            batch.delete(Keyspace::Raft, key(self.group, kind));
        }
    }

    /// Removes entries that an earlier replica has left, whose removal a crash has undone.
    pub fn remove_remains(
        group: GroupId,
        engine: &dyn Engine,
        batch: &mut WriteBatch,
    ) -> storage::Result<()> {
        let range = (
            Bound::Included(entry_key(group, 0)),
            Bound::Included(entry_key(group, u64::MAX)),
        );
        for pair in engine.snapshot().scan(Keyspace::Raft, range, false) {
            batch.delete(Keyspace::Raft, pair?.0);
        }
        Ok(())
    }

    // The records above were written: memory follows.

    pub(crate) fn appended(&mut self, entries: Vec<eraftpb::Entry>) {
        let Some(first) = entries.first() else {
            return;
        };
        while self.last().index >= first.index
            && let Some(stale) = self.entries.pop_back()
        {
            self.bytes -= entry_bytes(&stale);
        }
        assert_eq!(self.last().index + 1, first.index, "a gap in the log");
        entries.into_iter().for_each(|entry| self.push(entry));
    }

    fn push(&mut self, entry: eraftpb::Entry) {
        self.bytes += entry_bytes(&entry);
        if is_change(&entry) {
            self.last_change = entry.index;
        }
        self.entries.push_back(entry);
    }

    /// Whether a change of members will not be applied yet once these are appended.
    pub(crate) fn has_change_to_apply(&self, appended: &[eraftpb::Entry]) -> bool {
        self.last_change > self.applied.position.index || appended.iter().any(is_change)
    }

    pub(crate) fn hard_state_written(&mut self, state: HardState) {
        self.hard_state = state;
    }

    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    pub(crate) fn applied_written(&mut self, applied: Applied) {
        self.applied = applied;
    }

    pub(crate) fn membership_written(&mut self, membership: Membership) {
        self.membership = membership;
    }

    pub(crate) fn snapshot_written(&mut self, snapshot: Snapshot) {
        self.entries.clear();
        self.bytes = 0;
        self.truncated = snapshot.applied.position;
        self.applied = snapshot.applied;
        self.membership = snapshot.membership;
    }

    pub(crate) fn truncation_written(&mut self, upto: Position) {
        while let Some(first) = self.entries.front()
            && first.index <= upto.index
        {
            self.bytes -= entry_bytes(first);
            self.entries.pop_front();
        }
        self.truncated = upto;
    }

    /// The position up to which entries must go so that at most these many and bytes stay; never
    /// beyond `applied`.
    pub(crate) fn truncation_for(
        &self,
        applied: Position,
        most_entries: usize,
        most_bytes: u64,
    ) -> Option<Position> {
        let mut entries = self.entries.len();
        let mut bytes = self.bytes;
        let mut upto = None;
        for entry in &self.entries {
            if entry.index > applied.index || (entries <= most_entries && bytes <= most_bytes) {
                break;
            }
            entries -= 1;
            bytes -= entry_bytes(entry);
            upto = Some(Position {
                index: entry.index,
                term: entry.term,
            });
        }
        upto
    }

    fn place(&self, index: u64) -> Option<usize> {
        let place = index.checked_sub(self.truncated.index + 1)?;
        usize::try_from(place)
            .ok()
            .filter(|at| *at < self.entries.len())
    }
}

impl raft::Storage for LogStore {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let hard_state = eraftpb::HardState {
            term: self.hard_state.term,
            vote: self.hard_state.vote,
            commit: self.hard_state.commit.max(self.applied.position.index),
            ..eraftpb::HardState::default()
        };
        Ok(RaftState::new(hard_state, self.membership.to_raft()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low <= self.truncated.index {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last().index + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let most = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0;
        let mut found = Vec::new();
        for index in low..high {
            let place = self.place(index).ok_or(StorageError::Unavailable)?;
            let entry = &self.entries[place];
            bytes += entry_bytes(entry);
            if bytes > most && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated.index {
            return Ok(self.truncated.term);
        }
        if index < self.truncated.index {
            return Err(StorageError::Compacted.into());
        }
        let place = self.place(index).ok_or(StorageError::Unavailable)?;
        Ok(self.entries[place].term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().index)
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<eraftpb::Snapshot> {
        if self.applied.position.index < request_index {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        Ok(Snapshot {
            applied: self.applied,
            membership: self.membership.clone(),
        }
        .to_raft())
    }
}

fn is_change(entry: &eraftpb::Entry) -> bool {
    entry.get_entry_type() != eraftpb::EntryType::EntryNormal
}

fn entry_bytes(entry: &eraftpb::Entry) -> u64 {
    (entry.data.len() + entry.context.len()) as u64 + ENTRY_OVERHEAD_BYTES
}

fn key(group: GroupId, kind: u8) -> Bytes {
    let mut key = [0; 10];
    key[0] = b'g';
    key[1..9].copy_from_slice(&group.0.to_be_bytes());
    key[9] = kind;
    Bytes::copy_from_slice(&key)
}

fn entry_key(group: GroupId, index: u64) -> Bytes {
    let mut key = [0; 18];
    key[0] = b'g';
    key[1..9].copy_from_slice(&group.0.to_be_bytes());
    key[9] = b'e';
    key[10..].copy_from_slice(&index.to_be_bytes());
    Bytes::copy_from_slice(&key)
}

fn put_position_fields(position: Position, record: &mut Vec<u8>) {
    record.extend_from_slice(&position.index.to_le_bytes());
    record.extend_from_slice(&position.term.to_le_bytes());
}

fn encode_entry(entry: &eraftpb::Entry) -> Vec<u8> {
    let mut record = Vec::with_capacity(entry.data.len() + entry.context.len() + 40);
    record.push(VERSION);
    record.push(match entry.get_entry_type() {
        eraftpb::EntryType::EntryNormal => NORMAL,
        eraftpb::EntryType::EntryConfChange => CONF_CHANGE,
        eraftpb::EntryType::EntryConfChangeV2 => CONF_CHANGE_V2,
    });
    record.extend_from_slice(&entry.index.to_le_bytes());
    record.extend_from_slice(&entry.term.to_le_bytes());
    put_varint(&mut record, entry.context.len() as u64);
    record.extend_from_slice(&entry.context);
    put_varint(&mut record, entry.data.len() as u64);
    record.extend_from_slice(&entry.data);
    seal(&mut record, 0);
    record
}

fn read_entry(reader: &mut Reader) -> Option<eraftpb::Entry> {
    if reader.u8()? != VERSION {
        return None;
    }
    let mut entry = eraftpb::Entry::default();
    entry.set_entry_type(match reader.u8()? {
        NORMAL => eraftpb::EntryType::EntryNormal,
        CONF_CHANGE => eraftpb::EntryType::EntryConfChange,
        CONF_CHANGE_V2 => eraftpb::EntryType::EntryConfChangeV2,
        _ => return None,
    });
    entry.index = reader.u64()?;
    entry.term = reader.u64()?;
    entry.context = reader.bytes()?;
    entry.data = reader.bytes()?;
    (reader.left() == 0).then_some(entry)
}

fn read_position(reader: &mut Reader) -> Option<Position> {
    Some(Position {
        index: reader.u64()?,
        term: reader.u64()?,
    })
}

/// The applied state and the members, as of an engine snapshot.
pub(crate) fn read_head(
    group: GroupId,
    snapshot: &dyn storage::Snapshot,
) -> storage::Result<(Applied, Membership)> {
    let get = |key: &Bytes| snapshot.get(Keyspace::Raft, key);
    let applied = required(get, key(group, b'a'), read_applied)?;
    let membership = required(get, key(group, b'm'), Membership::read)?;
    Ok((applied, membership))
}

fn read_applied(reader: &mut Reader) -> Option<Applied> {
    Some(Applied {
        position: read_position(reader)?,
        commit_ts: Timestamp(reader.u64()?),
    })
}

fn read<T>(
    get: impl FnOnce(&Bytes) -> storage::Result<Option<Bytes>>,
    key: Bytes,
    fields: impl FnOnce(&mut Reader) -> Option<T>,
) -> storage::Result<Option<T>> {
    let Some(record) = get(&key)? else {
        return Ok(None);
    };
    let body = unseal(&record).ok_or_else(|| corrupt(&key))?;
    let mut reader = Reader::new(body);
    if reader.u8() != Some(VERSION) {
        return Err(corrupt(&key));
    }
    let value = fields(&mut reader).filter(|_| reader.left() == 0);
    value.map(Some).ok_or_else(|| corrupt(&key))
}

fn required<T>(
    get: impl FnOnce(&Bytes) -> storage::Result<Option<Bytes>>,
    key: Bytes,
    fields: impl FnOnce(&mut Reader) -> Option<T>,
) -> storage::Result<T> {
    read(get, key.clone(), fields)?.ok_or_else(|| corrupt(&key))
}

fn corrupt(key: &Bytes) -> storage::Error {
    storage::Error::Corrupt(format!(
        "the record {} of the raft log is missing or damaged",
        key.escape_ascii()
    ))
}
