//! A replica as the store's loop drives it: its Raft group, what is proposed and committed, and on what its
//! lease stands.

mod ground;
#[cfg(test)]
mod tests;

use crate::manager::ReplicaReport;
use crate::prompt::Prompt;
use crate::read_leases::Granted;
use crate::replica::{Replica, lease_moved, not_split};
use crate::replica_record::{Presence, ReplicaRecord};
use bytes::Bytes;
use consensus::{
    Awaited, Command, Commit, CommitName, Finish, Group, LogEntry, Membership, Position, ReadLease,
    ReplicaId, Split, wire,
};
use ground::Ground;
use membership::liveness::Liveness;
use sharding::ShardDescriptor;
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use types::codec::Reader;
use types::{Error, Result, StoreId, Timestamp};

/// Why a replica is to be looked at although nothing happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeFor {
    Election,
    Transfer,
    /// Followers have not said that they have all entries.
    Answers,
    /// They have, and have not been told what is committed.
    News,
    Orphans,
    Handover,
    /// Entries wait for holders of read leases.
    Readers,
}

/// What a committed entry asks for.
#[derive(Debug)]
pub(crate) enum Effect {
    Write(Commit),
    Members(ShardDescriptor),
    Split(Box<Birth>),
    /// A part of a large commit, as it stands in the log: see [`crate::parts`].
    Part {
        name: CommitName,
        number: u64,
        record: Bytes,
    },
    Finish(Finish),
    Abandon(CommitName),
    ReadLease(ReadLease),
    /// A term begins: unfinished commits are void.
    Term,
}

impl Effect {
    /// Whether it is applied by itself, because it looks at what those before it have written.
    pub(crate) fn is_apart(&self) -> bool {
        match self {
            Effect::Write(_) | Effect::Members(_) | Effect::Split(_) => false,
            // The first one takes the place of earlier ones of the name.
            Effect::Part { number, .. } => *number == 0,
            // What follows it may have to wait.
            Effect::ReadLease(_) => true,
            Effect::Finish(_) | Effect::Abandon(_) | Effect::Term => true,
        }
    }
}

/// A shard that is split off from this one. See [`consensus::Split`].
#[derive(Clone, Debug)]
pub(crate) struct Birth {
    /// What stays of this shard.
    pub(crate) left: ShardDescriptor,
    pub(crate) right: ShardDescriptor,
    /// Of the entry.
    pub(crate) term: u64,
    pub(crate) leader: ReplicaId,
    pub(crate) membership: Membership,
    pub(crate) floor: Timestamp,
}

impl Birth {
    fn read(split: Split, term: u64) -> Option<Self> {
        let descriptor = |bytes: Bytes| {
            let mut reader = Reader::new(bytes);
            ShardDescriptor::read(&mut reader).filter(|_| reader.left() == 0)
        };
        Some(Birth {
            left: descriptor(split.left)?,
            right: descriptor(split.right)?,
            term,
            leader: split.leader,
            membership: split.membership,
            floor: split.floor,
        })
    }
}

/// See the module.
pub(crate) struct Member {
    pub(crate) group: Group,
    pub(crate) replica: Arc<Replica>,
    pub(crate) record: ReplicaRecord,
    /// Proposed here and not committed yet, so that they need not be decoded.
    pub(crate) proposed: VecDeque<(Position, Command)>,
    /// Committed and not applied yet, and the position up to which.
    pub(crate) committed: VecDeque<(Position, Effect)>,
    pub(crate) committed_to: Option<Position>,
    /// What the shard is as of the copy that is arriving.
    pub(crate) arriving: Option<ShardDescriptor>,
    pub(crate) commit_ts: Timestamp,
    /// Of the large commit that is being finished, how many parts are applied.
    pub(crate) finished_parts: u64,
    /// There may be parts of unfinished commits on the disk.
    pub(crate) has_parts: bool,
    /// Who may hold read leases.
    pub(crate) readers: Granted,
    pub(crate) ground: Option<Ground>,
    /// How often a majority's support was interrupted: see [`LeaseId::confirmed`].
    pub(crate) confirmed: u64,
    /// The last term whose leader was heard to lead no more.
    resigned: u64,
    /// Where replicas are that the descriptor does not know (yet).
    homes: BTreeMap<ReplicaId, StoreId>,
    /// When to stand for election, or to look whether answers are missing; monotonic nanoseconds.
    pub(crate) wake_at: Option<u64>,
    /// For what.
    pub(crate) wake_for: WakeFor,
    /// Elections lost or stuck in a row.
    pub(crate) attempts: u32,
    /// When `outline` last changed, as the store counts changes.
    pub(crate) revision: u64,
    pub(crate) outline_reported: Option<Outline>,
    /// How often it was tried to hand over because this store or replica should not lead.
    pub(crate) handovers: usize,
    /// Not again before this time: monotonic nanoseconds.
    pub(crate) hand_over_after: u64,
}

/// Of a replica, what the cluster manager plans by: it is told when this changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    generation: u64,
    term: u64,
    leads: bool,
    has_lease: bool,
    changing: bool,
    damaged: bool,
}

impl Member {
    pub(crate) fn new(group: Group, replica: Arc<Replica>, record: ReplicaRecord) -> Self {
        let commit_ts = group.log().applied().commit_ts;
        Member {
            group,
            replica,
            record,
            proposed: VecDeque::new(),
            committed: VecDeque::new(),
            committed_to: None,
            arriving: None,
            commit_ts,
            finished_parts: 0,
            has_parts: false,
            readers: Granted::default(),
            ground: None,
            confirmed: 0,
            resigned: 0,
            homes: BTreeMap::new(),
            wake_at: None,
            wake_for: WakeFor::Election,
            attempts: 0,
            revision: 0,
            outline_reported: None,
            handovers: 0,
            hand_over_after: 0,
        }
    }

    pub(crate) fn home(&self, replica: ReplicaId) -> Option<StoreId> {
        let replicas = &self.record.descriptor.replicas;
        let known = replicas.iter().find(|known| known.id == replica.0);
        known
            .map(|known| known.store)
            .or_else(|| self.homes.get(&replica).copied())
    }

    pub(crate) fn met(&mut self, replica: ReplicaId, store: StoreId) {
        if self.home(replica).is_none() {
            self.homes.insert(replica, store);
        }
    }

    /// The store of the replica that leads, as far as known.
    pub(crate) fn leader_store(&self) -> Option<StoreId> {
        if self.resigned == self.group.term() {
            return None;
        }
        let leader = self.group.leader()?;
        if self.has_left(leader) {
            return None;
        }
        self.home(leader)
    }

    /// Whether that replica was removed, as far as is applied here. Names are given in order and once.
    fn has_left(&self, replica: ReplicaId) -> bool {
        let descriptor = &self.record.descriptor;
        let mut members = descriptor.replicas.iter();
        replica.0 < descriptor.next_replica && members.all(|member| member.id != replica.0)
    }

    /// Hears from a message whether the leader leads no more: whoever asks for votes for a later term than the one
    /// it led does not, and nobody leads one term twice. Its store may be as well as ever, so that support of it
    /// says nothing: it has started again, or could not write; and if entries that its followers have are lost to
    /// it, it will not be elected, so they must be free to stand. `true`: that is news.
    pub(crate) fn hears_resignation(&mut self, message: &consensus::Message) -> bool {
        let term = self.group.term();
        let resigns = matches!(wire::kind(message), wire::Kind::Vote { .. })
            && message.term > term
            && self.group.leader() == Some(ReplicaId(message.from))
            && message.from != self.record.id.0;
        resigns && std::mem::replace(&mut self.resigned, term) != term
    }

    pub(crate) fn is_alone(&self) -> bool {
        let membership = self.group.membership();
        !membership.is_joint() && membership.voters == [self.record.id]
    }

    /// Fills in what the leader alone knows of a split that it is about to propose. An error: not now.
    pub(crate) fn complete(&self, split: &mut Split) -> Result<()> {
        let refused = |why| Err(not_split(self.replica.shard, why));
        if self.group.is_changing_members() {
            return refused("its members are changing");
        }
        if self.is_splitting() {
            return refused("it is being split already");
        }
        let birth = Birth::read(split.clone(), 0);
        let descriptor = &self.record.descriptor;
        if birth.is_none_or(|birth| birth.left.generation != descriptor.generation + 1) {
            return refused("its descriptor has changed meanwhile");
        }
        split.leader = self.record.id;
        split.membership = self.group.membership().clone();
        Ok(())
    }

    /// Whether a split of this leader is in the log and not applied.
    pub(crate) fn is_splitting(&self) -> bool {
        let mut proposed = self.proposed.iter();
        proposed.any(|(_, command)| matches!(command, Command::Split(_)))
            || self
                .committed
                .iter()
                .any(|(_, effect)| matches!(effect, Effect::Split(_)))
    }

    /// Whether a message may be handed to the group. A vote against a leader whose store this one supports
    /// would break the promise that its lease stands on.
    pub(crate) fn admits(
        &self,
        me: StoreId,
        from: StoreId,
        message: &consensus::Message,
        liveness: &Liveness,
        now: Timestamp,
    ) -> bool {
        if message.to != self.record.id.0 || self.record.presence == Presence::Leaving {
            return false;
        }
        match wire::kind(message) {
            wire::Kind::Vote { invited: true } => true,
            wire::Kind::Vote { invited: false } => match self.leader_store() {
                Some(leader) if leader == me && self.group.is_leader() => {
                    !self.is_alone() && now > self.replica.lease_end()
                }
                leader => leader == Some(from) || !self.is_bound(me, liveness),
            },
            // The rows that belong to it are streamed apart.
            wire::Kind::Snapshot => false,
            wire::Kind::Lead => true,
            // Answers to what this replica once asked. One of a later term would take from it whom it follows, and
            // so leave it free to vote.
            wire::Kind::Other => message.term <= self.group.term() || !self.is_bound(me, liveness),
        }
    }

    /// Whether this replica follows somebody whom its store supports. An earlier life of this very replica is nobody.
    fn is_bound(&self, me: StoreId, liveness: &Liveness) -> bool {
        let leader = self.leader_store();
        leader.is_some_and(|leader| leader != me && liveness.supports(leader).is_some())
    }

    /// Whether this replica should lead, because nobody else does whom its store supports.
    pub(crate) fn should_campaign(&self, me: StoreId, liveness: &Liveness) -> bool {
        if self.group.is_leader()
            || self.record.presence != Presence::Whole
            || !self.group.membership().voters.contains(&self.record.id)
        {
            return false;
        }
        !self.is_bound(me, liveness)
    }

    /// What a committed entry asks for, and proposals that it has taken the place of.
    pub(crate) fn take_committed(
        &mut self,
        entry: LogEntry,
        lost: &mut Vec<Timestamp>,
    ) -> Result<()> {
        let position = entry.position;
        let before = self
            .committed_to
            .unwrap_or(self.group.log().applied().position);
        self.committed_to = Some(position);
        let mut own = None;
        while let Some((proposed, _)) = self.proposed.front()
            && proposed.index <= position.index
            && let Some((proposed, command)) = self.proposed.pop_front()
        {
            if proposed == position {
                own = Some(command);
            } else {
                if let Command::Split(_) = command {
                    self.replica.split_failed(&lease_moved());
                }
                lost.extend(commit_of(&command));
            }
        }
        if position.term > before.term && self.has_parts {
            self.has_parts = false;
            self.committed.push_back((before, Effect::Term));
        }
        if entry.data.is_empty() {
            return Ok(());
        }
        let effect = if entry.is_change {
            let mut reader = Reader::new(entry.data);
            let descriptor = ShardDescriptor::read(&mut reader)
                .ok_or_else(|| Error::corrupt("a shard's descriptor in its log is damaged"))?;
            Effect::Members(descriptor)
        } else {
            let command = match own {
                Some(command) => command,
                None => Command::decode(&entry.data)?,
            };
            match self.effect_of(command, entry.data, position)? {
                Ok(effect) => effect,
                Err(void) => {
                    lost.push(void);
                    return Ok(());
                }
            }
        };
        self.committed.push_back((position, effect));
        Ok(())
    }

    /// `Err(Err)`: the entry is of no effect, and the commit of this timestamp is not done.
    fn effect_of(
        &mut self,
        command: Command,
        record: Bytes,
        position: Position,
    ) -> Result<std::result::Result<Effect, Timestamp>> {
        Ok(Ok(match command {
            Command::Commit(commit) => Effect::Write(commit),
            Command::Split(split) => {
                let birth = Birth::read(*split, position.term)
                    .ok_or_else(|| Error::corrupt("a shard's split in its log is damaged"))?;
                Effect::Split(Box::new(birth))
            }
            Command::Part(part) => {
                self.has_parts = true;
                Effect::Part {
                    name: part.name,
                    number: part.number,
                    record,
                }
            }
            // Its parts were of an earlier term.
            Command::Finish(finish) if finish.term != position.term => {
                return Ok(Err(finish.commit_ts));
            }
            Command::Finish(finish) => Effect::Finish(finish),
            Command::Abandon(name) => Effect::Abandon(name),
            Command::ReadLease(lease) => Effect::ReadLease(lease),
        }))
    }

    /// Nobody knows which read leases were granted until now: they may be anybody's, until `until`.
    pub(crate) fn assume_readers(&mut self, until: Timestamp) {
        let others = self.record.descriptor.replicas.iter();
        let others = others.map(|replica| ReplicaId(replica.id));
        let others: Vec<ReplicaId> = others.filter(|id| *id != self.record.id).collect();
        self.readers = Granted::default();
        let last = self.group.last_index();
        self.readers.grant(&others, last, until);
    }

    /// Whether there is something to apply that may be applied now.
    pub(crate) fn has_to_apply(&mut self, now: Timestamp) -> bool {
        self.committed_to.is_some()
            && !self.readers.hold_back(&self.group, now)
            && !self.leaves_others_behind()
    }

    /// Whether what is committed removes this very leader, and too few of the others know. Only it can tell them that
    /// they do not need its vote any more: were it to leave first, and another of the former members be dead, they
    /// would wait for both.
    fn leaves_others_behind(&self) -> bool {
        let leaves = |effect: &Effect| match effect {
            Effect::Members(descriptor) => {
                let mut replicas = descriptor.replicas.iter();
                replicas.all(|replica| replica.id != self.record.id.0)
            }
            _ => false,
        };
        self.group.is_leader()
            && self.group.is_changing_members()
            && self.committed.iter().any(|(position, effect)| {
                leaves(effect) && !self.group.is_known_to_others(position.index)
            })
    }

    /// Whether a commit is known to be committed here, and not applied yet: of a large one that takes some time.
    pub(crate) fn is_committed(&self, at: Timestamp) -> bool {
        self.committed.iter().any(|(_, effect)| match effect {
            Effect::Write(commit) => commit.commit_ts == at,
            Effect::Finish(finish) => finish.commit_ts == at,
            _ => false,
        })
    }

    /// How much longer committed entries may have to wait for holders of read leases.
    pub(crate) fn waits_for_readers(&mut self, now: Timestamp) -> Option<Duration> {
        self.committed_to?;
        if !self.readers.hold_back(&self.group, now) {
            return None;
        }
        let millis = self.readers.until()?.millis().saturating_sub(now.millis());
        // One more: at that very moment it is not over.
        Some(Duration::from_millis(millis + 1))
    }

    /// Whether a read lease is on its way through the log, or may be held by somebody. If so, and nothing follows it, an
    /// entry without effect is proposed, so that it ends.
    pub(crate) fn ends_read_leases(&mut self, now: Timestamp, pause_millis: u64) -> bool {
        let again = now.plus_millis(pause_millis);
        let unapplied =
            |(_, command): &(Position, Command)| matches!(command, Command::ReadLease(_));
        let unseen = |(_, effect): &(Position, Effect)| matches!(effect, Effect::ReadLease(_));
        let on_its_way = !self.replica.withhold_read_leases(again)
            || self.proposed.iter().any(unapplied)
            || self.committed.iter().any(unseen);
        let held = self.readers.hold_back(&self.group, now);
        if held && self.readers.last_index() == Some(self.group.last_index()) {
            self.group.propose([Bytes::new()]);
        }
        on_its_way || held
    }

    pub(crate) fn outline(&self) -> Outline {
        Outline {
            generation: self.record.descriptor.generation,
            term: self.group.term(),
            leads: self.group.is_leader(),
            has_lease: self
                .ground
                .as_ref()
                .is_some_and(|ground| ground.granted && !ground.given_away),
            changing: self.group.membership().is_joint(),
            damaged: self.record.presence == Presence::Damaged,
        }
    }

    pub(crate) fn report(&self, now: Timestamp) -> ReplicaReport {
        let log = self.group.log();
        let membership = self.group.membership();
        ReplicaReport {
            descriptor: self.record.descriptor.clone(),
            replica: self.record.id.0,
            leads: self.group.is_leader(),
            holds_lease: now <= self.replica.lease_end(),
            term: self.group.term(),
            applied: log.applied().position.index,
            log_entries: log.entry_count() as u64,
            voters: membership.voters.iter().map(|id| id.0).collect(),
            changing: membership.is_joint(),
            bytes: self.replica.size.estimate(),
            damaged: self.record.presence == Presence::Damaged,
        }
    }

    /// Whether commits of this leader do not wait for the follower there: others who are quicker make a majority with
    /// it. Holders of read leases are all waited for.
    pub(crate) fn can_do_without(&self, store: StoreId, prompt: &Prompt) -> bool {
        let membership = self.group.membership();
        let voters = &membership.voters;
        if !self.group.is_leader()
            || membership.is_joint()
            || !voters.contains(&self.record.id)
            || self.readers.until().is_some()
        {
            return false;
        }
        let stores: SmallVec<[StoreId; 5]> =
            voters.iter().filter_map(|id| self.home(*id)).collect();
        stores.contains(&store) && prompt.come_before(store, &stores, voters.len() / 2)
    }

    /// The stores of other voters that cannot be reached.
    pub(crate) fn missing(&self, me: StoreId, reachable: impl Fn(StoreId) -> bool) -> Vec<StoreId> {
        let voters = self.group.membership().voters.iter();
        let stores = voters.filter_map(|id| self.home(*id));
        stores
            .filter(|store| *store != me && !reachable(*store))
            .collect()
    }

    /// The most that this leader has yet to hear from any of those whose stores can be reached. A follower that does
    /// not know what is committed is behind until it hears more, and in a silent group there is no more.
    pub(crate) fn awaited(&self, reachable: impl Fn(StoreId) -> bool) -> Option<Awaited> {
        // Also of a group of one voter: it may have learners.
        if !self.group.is_leader() {
            return None;
        }
        let membership = self.group.membership();
        membership
            .voters
            .iter()
            .chain(&membership.learners)
            .chain(&membership.outgoing)
            .filter(|id| **id != self.record.id && self.home(**id).is_some_and(&reachable))
            .filter_map(|id| self.group.awaited(*id))
            .max()
    }
}

/// The timestamp under which whoever waits for this command is known, if it is a commit.
pub(crate) fn commit_of(command: &Command) -> Option<Timestamp> {
    match command {
        Command::Commit(commit) => Some(commit.commit_ts),
        Command::Finish(finish) => Some(finish.commit_ts),
        Command::Split(_) | Command::Part(_) | Command::Abandon(_) | Command::ReadLease(_) => None,
    }
}
