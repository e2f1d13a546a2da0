//! Who votes in a group, and how that changes.
//!
//! A change of several replicas at once goes through a *joint* membership, in which both the outgoing
//! and the incoming voters must agree; raft-rs leaves it by itself as soon as it is committed.

use crate::log_store::ReplicaId;
use bytes::Bytes;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};
use types::codec::{Reader, put_varint};

/// The members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    pub voters: Vec<ReplicaId>,
    /// They receive the log and do not vote.
    pub learners: Vec<ReplicaId>,
    /// Voters of the membership that is being left; empty unless joint.
    pub outgoing: Vec<ReplicaId>,
    /// Outgoing voters that stay as learners.
    pub learners_next: Vec<ReplicaId>,
    /// Joint, and to be left without being asked.
    pub auto_leave: bool,
}

impl Membership {
    pub fn of_voters(voters: impl IntoIterator<Item = ReplicaId>) -> Self {
        Membership {
            voters: voters.into_iter().collect(),
            ..Membership::default()
        }
    }

    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the replica takes part in any way.
    pub fn contains(&self, replica: ReplicaId) -> bool {
        [
            &self.voters,
            &self.learners,
            &self.outgoing,
            &self.learners_next,
        ]
        .iter()
        .any(|part| part.contains(&replica))
    }

    /// Whether these changes, made at once, name each replica once and leave somebody to vote. What is
    /// committed must be applicable, so this is asked before it is proposed.
    pub(crate) fn allows(&self, changes: &[Change]) -> bool {
        let mut named: Vec<ReplicaId> = changes.iter().map(Change::replica).collect();
        named.sort_unstable();
        named.dedup();
        let stays = |voter: &&ReplicaId| !named.contains(voter);
        let added = |change: &&Change| matches!(change, Change::AddVoter(_));
        let voters =
            self.voters.iter().filter(stays).count() + changes.iter().filter(added).count();
        !changes.is_empty() && named.len() == changes.len() && voters > 0
    }

    pub(crate) fn from_raft(state: &ConfState) -> Self {
        let ids = |part: &[u64]| part.iter().copied().map(ReplicaId).collect();
        Membership {
            voters: ids(state.get_voters()),
            learners: ids(state.get_learners()),
            outgoing: ids(state.get_voters_outgoing()),
            learners_next: ids(state.get_learners_next()),
            auto_leave: state.auto_leave,
        }
    }

    pub(crate) fn to_raft(&self) -> ConfState {
        let ids = |part: &[ReplicaId]| part.iter().map(|id| id.0).collect();
        let mut state = ConfState::default();
        state.set_voters(ids(&self.voters));
        state.set_learners(ids(&self.learners));
        state.set_voters_outgoing(ids(&self.outgoing));
        state.set_learners_next(ids(&self.learners_next));
        state.auto_leave = self.auto_leave;
        state
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for part in [
            &self.voters,
            &self.learners,
            &self.outgoing,
            &self.learners_next,
        ] {
            put_varint(out, part.len() as u64);
            part.iter().for_each(|id| put_varint(out, id.0));
        }
        out.push(u8::from(self.auto_leave));
    }

    pub(crate) fn read(reader: &mut Reader) -> Option<Self> {
        let part = |reader: &mut Reader| {
            let count = reader.varint()?;
            (0..count)
                .map(|_| reader.varint().map(ReplicaId))
                .collect::<Option<Vec<_>>>()
        };
        Some(Membership {
            voters: part(reader)?,
            learners: part(reader)?,
            outgoing: part(reader)?,
            learners_next: part(reader)?,
            auto_leave: match reader.u8()? {
                0 => false,
                1 => true,
                _ => return None,
            },
        })
    }
}

/// What becomes of one replica in a change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    AddVoter(ReplicaId),
    /// Also makes a learner of a voter.
    AddLearner(ReplicaId),
    Remove(ReplicaId),
}

impl Change {
    pub fn replica(&self) -> ReplicaId {
        match self {
            Change::AddVoter(id) | Change::AddLearner(id) | Change::Remove(id) => *id,
        }
    }
}

/// The changes as an entry's context carries them. raft-rs keeps protobuf in the entry's data, which is
/// never parsed here: a log that came over the network is read with our own code.
///
/// Behind them stands what the proposer attached.
pub(crate) fn encode_changes(changes: &[Change], attached: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + changes.len() * 2 + attached.len());
    put_varint(&mut out, changes.len() as u64);
    for change in changes {
        let (kind, id) = match change {
            Change::AddVoter(id) => (0, id),
            Change::AddLearner(id) => (1, id),
            Change::Remove(id) => (2, id),
        };
        out.push(kind);
        put_varint(&mut out, id.0);
    }
    out.extend_from_slice(attached);
    out
}

/// The changes and what was attached. `None`: not what [`encode_changes`] writes. Nothing at all leaves a joint
/// membership.
pub(crate) fn decode_changes(context: Bytes) -> Option<(Vec<Change>, Bytes)> {
    let mut reader = Reader::new(context);
    if reader.left() == 0 {
        return Some((Vec::new(), Bytes::new()));
    }
    let mut changes = Vec::new();
    for _ in 0..reader.varint()? {
        let kind = reader.u8()?;
        let id = ReplicaId(reader.varint()?);
        changes.push(match kind {
            0 => Change::AddVoter(id),
            1 => Change::AddLearner(id),
            2 => Change::Remove(id),
            _ => return None,
        });
    }
    let attached = reader.take(reader.left())?;
    Some((changes, attached))
}

pub(crate) fn to_raft(changes: &[Change]) -> ConfChangeV2 {
    let single = |change: &Change| {
        let (kind, id) = match change {
            Change::AddVoter(id) => (ConfChangeType::AddNode, id),
            Change::AddLearner(id) => (ConfChangeType::AddLearnerNode, id),
            Change::Remove(id) => (ConfChangeType::RemoveNode, id),
        };
        let mut single = ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = id.0;
        single
    };
    let mut change = ConfChangeV2::default();
    change.set_changes(changes.iter().map(single).collect());
    change
}
