//! What a run of applied entries makes of a shard's descriptor, and the shards that are split off from it.
//!
//! A split is written in one batch with the position of its entry: this replica's record with fewer keys, and the
//! record and the log of the right shard's replica. All of it follows from the entry alone, so it is the same on all
//! stores. The rows stay where they are.

use super::LogWriter;
use crate::member::{Birth, Effect};
use crate::replica_record::{Presence, ReplicaRecord};
use consensus::{GroupId, HardState, LogStore, ReplicaId};
use sharding::{ShardDescriptor, ShardId};
use storage::WriteBatch;
use types::StoreId;

/// See the module.
pub(super) struct Changed {
    pub(super) descriptor: ShardDescriptor,
    pub(super) births: Vec<Birth>,
}

/// `None`: the descriptor stays.
///
/// A split or a change of members says what the descriptor is after it. If another change came first, a split
/// does not fit any more and does nothing, and a change of members takes the span from what is there.
pub(super) fn changed<'e>(
    before: &ShardDescriptor,
    effects: impl Iterator<Item = &'e Effect>,
) -> Option<Changed> {
    let mut births = Vec::new();
    let mut now: Option<ShardDescriptor> = None;
    for effect in effects {
        let known = now.as_ref().unwrap_or(before);
        match effect {
            Effect::Members(members) => {
                now = Some(ShardDescriptor {
                    start: known.start.clone(),
                    end: known.end.clone(),
                    generation: members.generation.max(known.generation + 1),
                    ..members.clone()
                });
            }
            Effect::Split(birth) => {
                let whole = known.split(birth.right.start.clone(), birth.right.id);
                if whole.is_some_and(|parts| parts == (birth.left.clone(), birth.right.clone())) {
                    now = Some(birth.left.clone());
                    births.push((**birth).clone());
                }
            }
            Effect::Write(_)
            | Effect::Part { .. }
            | Effect::Finish(_)
            | Effect::Abandon(_)
            | Effect::ReadLease(_)
            | Effect::Term => {}
        }
    }
    now.map(|descriptor| Changed { descriptor, births })
}

impl Birth {
    /// What all replicas of the right group have promised when they are born.
    fn promised(&self) -> HardState {
        HardState {
            term: self.term,
            vote: self.leader.0,
            commit: 0,
            leader: self.leader.0,
        }
    }

    fn record(&self, store: StoreId, presence: Presence) -> Option<ReplicaRecord> {
        let replica = self.right.replica_on(store)?;
        Some(ReplicaRecord {
            id: ReplicaId(replica.id),
            presence,
            descriptor: self.right.clone(),
        })
    }
}

/// What becomes of the rows of a shard that is split off, on this store.
enum Fate {
    /// They are its replica's from now on, which has promised this before.
    Born(ReplicaRecord, HardState),
    /// Its replica has left the group since, before it was here.
    Left(ReplicaRecord),
    /// Another one of its replicas will be sent a copy.
    Replaced,
}

impl LogWriter {
    fn fate(&self, parent: ShardId, birth: &Birth) -> Fate {
        let shard = birth.right.id;
        let parent = self.members.get(&parent);
        let presence = match parent.map(|parent| parent.record.presence) {
            // The rows are no better under another name.
            Some(Presence::Damaged) => Presence::Damaged,
            _ => Presence::Whole,
        };
        let Some(record) = birth.record(self.store, presence) else {
            return Fate::Replaced;
        };
        let leaving = || ReplicaRecord {
            presence: Presence::Leaving,
            ..record.clone()
        };
        match self.members.get(&shard) {
            // A leader has called it into being before; it has no rows, but perhaps a vote to remember.
            Some(member)
                if member.record.id == record.id && member.record.presence == Presence::Partial =>
            {
                let known = member.group.promised();
                let promised = match known.term > birth.term {
                    true => known,
                    false => birth.promised(),
                };
                Fate::Born(record, promised)
            }
            Some(_) => Fate::Replaced,
            None if self.former.get(&shard).is_some_and(|id| *id >= record.id) => {
                Fate::Left(leaving())
            }
            None => Fate::Born(record, birth.promised()),
        }
    }

    pub(super) fn put_births(&self, parent: ShardId, births: &[Birth], batch: &mut WriteBatch) {
        for birth in births {
            match self.fate(parent, birth) {
                Fate::Born(record, promised) => {
                    record.put(batch);
                    let group = GroupId(birth.right.id.0);
                    let members = birth.membership.clone();
                    LogStore::create_split_off(group, members, promised, birth.floor, batch);
                }
                Fate::Left(record) => record.put(batch),
                Fate::Replaced => {}
            }
        }
    }

    /// The records are written: the replica of the right shard begins. If the left one, which is `parent`, leads the
    /// term in which the split was proposed, it leads the right one at once.
    pub(super) fn bring_to_life(&mut self, parent: ShardId, birth: &Birth) -> storage::Result<()> {
        let shard = birth.right.id;
        let record = match self.fate(parent, birth) {
            Fate::Born(record, _) => record,
            Fate::Left(record) => {
                self.snapshots.remove_rows(record);
                return Ok(());
            }
            Fate::Replaced => return Ok(()),
        };
        let leads = self.members.get(&parent).is_some_and(|parent| {
            parent.group.is_leader()
                && parent.group.term() == birth.term
                && parent.record.id == birth.leader
                && record.id == birth.leader
                && record.presence == Presence::Whole
        });
        if leads && let Some(parent) = self.members.get_mut(&parent) {
            // What the right shard's leader has to say now is understood where it is known that the split is committed.
            parent.group.ping();
        }
        let confirmed = self.members.get(&parent).map(|parent| parent.confirmed);
        let readers = self.members.get(&parent).map(|parent| {
            let home = |id: ReplicaId| parent.home(id);
            let named = |store| birth.right.replica_on(store).map(|it| ReplicaId(it.id));
            let index = consensus::ORIGIN.index;
            parent.readers.renamed(index, |id| named(home(id)?))
        });
        let half = self.members.get(&parent).and_then(|parent| {
            // A guess, until one of them is written so much that it is measured.
            let half = parent.replica.size.estimate()? / 2;
            parent.replica.size.set(half);
            Some(half)
        });
        self.forget_wake(shard);
        let opened = self.open_member(record);
        opened.map_err(|error| storage::Error::Corrupt(error.to_string()))?;
        if let Some(member) = self.members.get_mut(&shard) {
            if let Some(half) = half {
                member.replica.size.set(half);
            }
            member.readers = readers.unwrap_or_default();
            if leads {
                member.group.lead_from_birth();
                // Locks that were taken under the left lease hold under the right one.
                member.confirmed = confirmed.unwrap_or_default();
            }
            member.replica.set_leader(member.leader_store());
            tracing::info!(
                shard = shard.0,
                parent = parent.0,
                leads,
                "a shard is split off"
            );
        }
        Ok(())
    }
}
