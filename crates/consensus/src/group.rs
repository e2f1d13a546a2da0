//! One replica of one Raft group.
//!
//! # What it is
//! raft-rs's state machine over our [`LogStore`], without I/O. The driver's turn, always in this
//! order:
//!
//! ```text
//!  propose / step / campaign
//!        │
//!        ▼
//!  effects()  ──►  send `messages`; write `batch`; sync if `must_sync`
//!        │
//!        ▼
//!  persisted()  ──►  send its messages; apply its committed entries
//!        │
//!        ▼
//!  put_applied() into the batch that applies them, write it, then applied()
//! ```
//!
//! # What it guarantees
//! An entry is handed out as committed once, in order, after a quorum has it on disk. What was handed
//! out and not applied when the process died is handed out again by the next life of the replica.
//!
//! # What it does not do
//! It keeps no time: elections are started by [`Group::campaign`], when store liveness says so. One
//! voter alone wins at once.

use crate::log_store::{Applied, HardState, LogEntry, LogStore, Position, ReplicaId};
use crate::membership::{self, Change, Membership};
use crate::snapshot::Snapshot;
use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{Config, RawNode, SnapshotStatus, StateRole};
use std::collections::VecDeque;
use storage::WriteBatch;
use types::{Error, Result, Timestamp};

/// Bounds of the log that is kept after apply.
#[derive(Clone, Copy, Debug)]
pub struct GroupOptions {
    /// A follower that is farther behind than this gets a snapshot.
    pub log_entries: usize,
    /// The same in bytes. Also the memory of the log.
    pub log_bytes: u64,
}

impl Default for GroupOptions {
    fn default() -> Self {
        GroupOptions {
            log_entries: 4096,
            log_bytes: 4 << 20,
        }
    }
}

/// Truncation waits until the log is this much over its bounds (an eighth), so that it is done in
/// runs and not with every batch.
const TRUNCATION_SLACK: usize = 8;

/// What raft-rs may put into one message to a follower, in bytes.
const MESSAGE_BYTES: u64 = 1 << 20;
/// Messages in flight to one follower: enough for a turn of the driver's loop every two milliseconds over a round
/// trip of 60, and few enough MiB that a slow follower hears the leader's heartbeats in time.
const MESSAGES_IN_FLIGHT: usize = 32;
/// raft-rs wants more than its heartbeat ticks.
const ELECTION_TICKS: usize = 20;

/// What the driver must do now. See the module for the order.
#[derive(Debug, Default)]
pub struct Effects {
    /// To send at once.
    pub messages: Vec<Message>,
    /// Whether the batch has to be durable before [`Group::persisted`].
    pub must_sync: bool,
    /// The head of a snapshot that was stepped in. Its rows replace those of the shard in this batch.
    pub snapshot: Option<Snapshot>,
}

/// What [`Group::persisted`] found out.
#[derive(Debug, Default)]
pub struct Persisted {
    pub messages: Vec<Message>,
    pub committed: Vec<LogEntry>,
}

/// What a leader has not heard from a follower yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awaited {
    /// It has all of the log, and may not know how much of it is committed: it is told with the next entries, or by
    /// [`Group::ping`].
    Commit,
    /// It has not all of the log.
    Entries,
}

/// See the module.
pub struct Group {
    id: ReplicaId,
    node: RawNode<LogStore>,
    options: GroupOptions,
    /// Between `effects` and `persisted`.
    pending: Option<Pending>,
    /// Committed changes of the members that are not applied yet, by index.
    changes: VecDeque<(u64, Vec<Change>)>,
    /// The members after changes that raft-rs has applied and whose record is not written yet.
    unwritten_membership: Option<Membership>,
}

struct Pending {
    ready: raft::Ready,
    entries: Vec<Entry>,
    hard_state: Option<HardState>,
    committed: Vec<Entry>,
    snapshot: Option<Snapshot>,
}

impl Group {
    pub fn new(id: ReplicaId, log: LogStore, options: GroupOptions) -> Result<Self> {
        let config = Config {
            id: id.0,
            applied: log.applied().position.index,
            max_size_per_msg: MESSAGE_BYTES,
            max_inflight_msgs: MESSAGES_IN_FLIGHT,
            pre_vote: true,
            check_quorum: false,
            // What is committed is told with the next entries, or when the driver pings. Otherwise each advance is a
            // message to every follower, and an answer.
            skip_bcast_commit: true,
            // It is never ticked, so these count nothing; but raft-rs draws from them.
            election_tick: ELECTION_TICKS,
            min_election_tick: ELECTION_TICKS,
            max_election_tick: ELECTION_TICKS + 1,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, log, &logger).map_err(broken)?;
        Ok(Group {
            id,
            node,
            options,
            pending: None,
            changes: VecDeque::new(),
            unwritten_membership: None,
        })
    }

    /// Stands for election. Alone it wins, with the next `persisted`. Who has no vote does nothing.
    pub fn campaign(&mut self) -> Result<()> {
        if !self.node.raft.promotable() {
            return Ok(());
        }
        self.node.campaign().map_err(broken)
    }

    /// Leads the present term without an election. Only for a group that was born with this replica as the leader
    /// of its first term, once, right after its birth: all members are born with their vote given to it, so no other
    /// can lead that term; and whoever restarts does not lead it again, since nobody does this then.
    pub fn lead_from_birth(&mut self) {
        let raft = &mut self.node.raft;
        if raft.state != StateRole::Follower || raft.vote != self.id.0 || !raft.promotable() {
            return;
        }
        // Becoming a candidate begins the next term, with a vote for oneself.
        raft.term -= 1;
        raft.become_candidate();
        raft.become_leader();
        raft.bcast_append();
    }

    /// What this replica must not forget: its term, and whom it voted for.
    pub fn promised(&self) -> HardState {
        self.node.store().hard_state()
    }

    /// Whether a change of the members is in the log and not applied, or joint.
    pub fn is_changing_members(&self) -> bool {
        self.node.raft.has_pending_conf() || self.membership().is_joint()
    }

    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Who leads this term, as far as this replica knows, also from before a restart.
    pub fn leader(&self) -> Option<ReplicaId> {
        Some(self.known_leader())
            .filter(|id| *id != 0)
            .map(ReplicaId)
    }

    fn known_leader(&self) -> u64 {
        let state = self.node.store().hard_state();
        match self.node.raft.leader_id {
            0 if state.term == self.term() => state.leader,
            id => id,
        }
    }

    /// Whether an election is going on here: then, and while messages are unanswered, it is ticked.
    pub fn is_candidate(&self) -> bool {
        matches!(
            self.node.raft.state,
            StateRole::Candidate | StateRole::PreCandidate
        )
    }

    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// Entries up to here are known to be on the disks of a quorum.
    pub fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// Learns from an earlier life of this replica what is committed, as far as the entries are here. That one may have
    /// been sent entries that it could not write, and what they were to take the place of is still here.
    pub fn learn_committed(&mut self, earlier: &Group) {
        let (theirs, ours) = (&earlier.node.raft.raft_log, &self.node.raft.raft_log);
        // raft-rs answers 0 for what a log does not have.
        let is_same = |index: &u64| match (theirs.term(*index), ours.term(*index)) {
            (Ok(their), Ok(our)) => their == our && our > 0,
            _ => false,
        };
        let most = theirs.committed.min(ours.last_index());
        // Where two logs have an entry of one term, all before it are the same.
        let known = (ours.committed..=most).rev().find(is_same);
        if let Some(known) = known {
            self.node.raft.raft_log.commit_to(known);
        }
    }

    /// How far the leader knows that a follower's log matches its own. `None`: not a leader, or nobody
    /// of that name.
    pub fn matched(&self, replica: ReplicaId) -> Option<u64> {
        if !self.is_leader() {
            return None;
        }
        let progress = self.node.raft.prs().get(replica.0)?;
        Some(progress.matched)
    }

    /// What the leader has yet to hear from a follower. `None` also where this replica does not lead.
    pub fn awaited(&self, replica: ReplicaId) -> Option<Awaited> {
        if !self.is_leader() {
            return None;
        }
        let raft = &self.node.raft;
        let Some(progress) = raft.prs().get(replica.0) else {
            return Some(Awaited::Entries);
        };
        if progress.matched < raft.raft_log.last_index() {
            return Some(Awaited::Entries);
        }
        (progress.committed_index < raft.raft_log.committed).then_some(Awaited::Commit)
    }

    /// Whether a majority of the voters other than this leader know that the entry is committed. `false` also where
    /// this replica does not lead.
    pub fn is_known_to_others(&self, index: u64) -> bool {
        let progress = self.node.raft.prs();
        let voters = self.membership().voters.iter();
        let others: Vec<&ReplicaId> = voters.filter(|id| **id != self.id).collect();
        let knows = |id: &&&ReplicaId| {
            let progress = progress.get(id.0);
            progress.is_some_and(|progress| progress.committed_index >= index)
        };
        self.is_leader() && others.iter().filter(knows).count() > others.len() / 2
    }

    pub fn log(&self) -> &LogStore {
        self.node.store()
    }

    /// Appends commands to the leader's log, all or none. Returns the position of the first; the
    /// others follow. `None`: this replica does not lead.
    pub fn propose(&mut self, commands: impl IntoIterator<Item = Bytes>) -> Option<Position> {
        if !self.is_leader() {
            return None;
        }
        let entries: Vec<Entry> = commands
            .into_iter()
            .map(|data| Entry {
                data,
                ..Entry::default()
            })
            .collect();
        let first = Position {
            index: self.node.raft.raft_log.last_index() + 1,
            term: self.term(),
        };
        if entries.is_empty() {
            return Some(first);
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.id.0;
        message.set_entries(entries.into());
        self.node.raft.step(message).ok()?;
        Some(first)
    }

    /// Proposes a change of the members; more than one at a time is made jointly. Whoever applies it is given
    /// `attached` as the entry's data. `None`: this replica does not lead, an earlier change is not finished
    /// yet, or the changes make no sense together.
    pub fn propose_membership(&mut self, changes: &[Change], attached: &[u8]) -> Option<Position> {
        if !self.is_leader() || self.is_changing_members() || !self.membership().allows(changes) {
            return None;
        }
        let at = Position {
            index: self.node.raft.raft_log.last_index() + 1,
            term: self.term(),
        };
        let context = membership::encode_changes(changes, attached);
        let change = membership::to_raft(changes);
        self.node.propose_conf_change(context, change).ok()?;
        Some(at)
    }

    /// The members, as of what is applied here.
    pub fn membership(&self) -> &Membership {
        self.node.store().membership()
    }

    /// Asks the leader to hand over to `to`, once that one has the whole log.
    pub fn transfer_leader(&mut self, to: ReplicaId) {
        self.node.transfer_leader(to.0);
    }

    /// Forgets a handover that did not come about. Proposals are taken again; whether the other replica was
    /// elected meanwhile is not known, so a lease must not be used any more in this term.
    pub fn abort_transfer(&mut self) {
        self.node.raft.abort_leader_transfer();
    }

    /// Whether a handover is going on.
    pub fn is_transferring(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }

    /// Gives up leading without a successor.
    pub fn step_down(&mut self) {
        if self.is_leader() {
            let term = self.term();
            self.node.raft.become_follower(term, raft::INVALID_ID);
        }
    }

    /// Index of the last entry of the log, committed or not.
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// Makes the leader probe its followers, when answers are missing.
    pub fn ping(&mut self) {
        self.node.ping();
    }

    /// The connection to a follower came back: the leader probes. The follower may have started again, and what it had
    /// heard to be committed need not have been on its disk.
    pub fn reconnected(&mut self, replica: ReplicaId) {
        if let Some(progress) = self.node.raft.mut_prs().get_mut(replica.0) {
            progress.committed_index = 0;
        }
        self.node.ping();
    }

    /// Messages to this replica are being lost: stop sending ahead.
    pub fn unreachable(&mut self, replica: ReplicaId) {
        self.node.report_unreachable(replica.0);
    }

    /// The stream of a snapshot to this replica has ended.
    pub fn snapshot_sent(&mut self, to: ReplicaId, arrived: bool) {
        let status = match arrived {
            true => SnapshotStatus::Finish,
            false => SnapshotStatus::Failure,
        };
        self.node.report_snapshot(to.0, status);
    }

    /// A message from another replica. Malformed or stale ones are dropped by raft-rs.
    pub fn step(&mut self, mut message: Message) {
        if message.get_msg_type() == MessageType::MsgHeartbeat {
            // A leader says how much of what was acknowledged here is committed. A log that was forgotten to
            // make room for a snapshot does not reach that far, and raft-rs would end the process.
            message.commit = message.commit.min(self.last_index());
        }
        let _ = self.node.step(message);
    }

    /// Whether effects were taken whose writing is not reported yet.
    pub fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    pub fn has_effects(&self) -> bool {
        self.node.has_ready()
    }

    /// What to do now; records to write go into `batch`. Each call must be followed by `persisted`.
    pub fn effects(&mut self, batch: &mut WriteBatch) -> Effects {
        assert!(self.pending.is_none(), "effects of a group taken twice");
        let mut ready = self.node.ready();
        let effects = Effects {
            messages: ready.take_messages(),
            must_sync: ready.must_sync(),
            snapshot: Snapshot::from_raft(ready.snapshot()),
        };
        let log = self.node.store();
        if let Some(snapshot) = &effects.snapshot {
            log.put_snapshot(snapshot, batch);
        }
        let entries = ready.take_entries();
        log.put_entries(&entries, batch);
        let keeps_commit = log.has_change_to_apply(&entries);
        let hard_state = ready
            .hs()
            .map(|state| HardState {
                term: state.term,
                vote: state.vote,
                commit: match keeps_commit {
                    true => state.commit,
                    false => log.hard_state().commit,
                },
                leader: self.known_leader(),
            })
            .or_else(|| self.leader_to_note(&entries))
            .filter(|state| *state != log.hard_state());
        if let Some(state) = hard_state {
            log.put_hard_state(state, batch);
        }
        let committed = ready.take_committed_entries();
        self.pending = Some(Pending {
            ready,
            entries,
            hard_state,
            committed,
            snapshot: effects.snapshot.clone(),
        });
        effects
    }

    /// Whoever keeps an entry of a term must not forget who leads it.
    fn leader_to_note(&self, appended: &[Entry]) -> Option<HardState> {
        (!appended.is_empty()).then(|| HardState {
            leader: self.known_leader(),
            ..self.node.store().hard_state()
        })
    }

    /// The batch of the last `effects` is written, and durable if that was asked for.
    pub fn persisted(&mut self) -> Result<Persisted> {
        let Some(mut pending) = self.pending.take() else {
            return Ok(Persisted::default());
        };
        let log = self.node.mut_store();
        let installed = pending.snapshot.map(|snapshot| {
            let index = snapshot.applied.position.index;
            log.snapshot_written(snapshot);
            index
        });
        log.appended(pending.entries);
        if let Some(state) = pending.hard_state {
            log.hard_state_written(state);
        }
        let mut messages = pending.ready.take_persisted_messages();
        let mut light = self.node.advance_append(pending.ready);
        messages.extend(light.take_messages());
        if let Some(index) = installed {
            self.changes.clear();
            self.unwritten_membership = None;
            self.node.advance_apply_to(index);
        }
        let committed = pending
            .committed
            .into_iter()
            .chain(light.take_committed_entries())
            .collect::<Vec<_>>();
        let committed = committed
            .into_iter()
            .map(|entry| self.committed_entry(entry))
            .collect::<Result<_>>()?;
        Ok(Persisted {
            messages,
            committed,
        })
    }

    fn committed_entry(&mut self, entry: Entry) -> Result<LogEntry> {
        let position = Position {
            index: entry.index,
            term: entry.term,
        };
        let is_change = entry.get_entry_type() != EntryType::EntryNormal;
        let data = if is_change {
            let (changes, attached) = membership::decode_changes(entry.context)
                .ok_or_else(|| Error::corrupt("a change of members cannot be read"))?;
            self.changes.push_back((entry.index, changes));
            attached
        } else {
            entry.data
        };
        Ok(LogEntry {
            position,
            data,
            is_change,
        })
    }

    /// Puts the applied state into the batch that applies, together with the truncation of the log
    /// if it is over its bounds. After the batch is written the return value goes to `applied`.
    pub fn put_applied(
        &mut self,
        applied: Applied,
        batch: &mut WriteBatch,
    ) -> storage::Result<AppliedRecord> {
        self.change_members(applied.position.index)?;
        let log = self.node.store();
        log.put_applied(applied, batch);
        if let Some(membership) = &self.unwritten_membership {
            log.put_membership(membership, batch);
        }
        let over = log.entry_count()
            > self.options.log_entries + self.options.log_entries / TRUNCATION_SLACK
            || log.bytes()
                > self.options.log_bytes + self.options.log_bytes / TRUNCATION_SLACK as u64;
        let truncated = over
            .then(|| {
                log.truncation_for(
                    applied.position,
                    self.options.log_entries,
                    self.options.log_bytes,
                )
            })
            .flatten();
        if let Some(upto) = truncated {
            log.put_truncation(upto, batch);
        }
        Ok(AppliedRecord { applied, truncated })
    }

    fn change_members(&mut self, upto: u64) -> storage::Result<()> {
        let wrong = |why: String| storage::Error::Corrupt(format!("a change of members: {why}"));
        while let Some((_, changes)) = self.changes.pop_front_if(|(index, _)| *index <= upto) {
            let change = membership::to_raft(&changes);
            let state = self.node.apply_conf_change(&change);
            let state = state.map_err(|error| wrong(error.to_string()))?;
            self.unwritten_membership = Some(Membership::from_raft(&state));
            if !self.node.raft.promotable() {
                // raft-rs cannot lead a group that it is no member of; and who has no vote should not.
                self.step_down();
            }
        }
        Ok(())
    }

    pub fn applied(&mut self, record: AppliedRecord) {
        let index = record.applied.position.index;
        let log = self.node.mut_store();
        log.applied_written(record.applied);
        if let Some(membership) = self.unwritten_membership.take() {
            log.membership_written(membership);
        }
        // raft-rs first: it may look at terms of entries up to the applied one.
        self.node.advance_apply_to(index);
        if let Some(upto) = record.truncated {
            self.node.mut_store().truncation_written(upto);
        }
    }
}

/// What was put into a batch by [`Group::put_applied`].
#[derive(Clone, Copy, Debug)]
pub struct AppliedRecord {
    applied: Applied,
    truncated: Option<Position>,
}

impl AppliedRecord {
    pub fn position(&self) -> Position {
        self.applied.position
    }

    /// The newest commit timestamp that is applied with it.
    pub fn commit_ts(&self) -> Timestamp {
        self.applied.commit_ts
    }
}

fn broken(error: raft::Error) -> Error {
    Error::internal(format!("raft: {error}"))
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
