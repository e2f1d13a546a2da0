//! The one loop that writes a store's log, for all of its replicas.
//!
//! # A turn
//! ```text
//!   inbox ──► propose, step ──► one batch: entries, votes, promises ──► ONE sync ──► apply, one batch ──► acknowledge
//!                                  │     └─► messages that need no sync      └─► messages     (not synced)
//!                            disk full: refused                    fails: the store stops
//! ```
//! A commit of many writes is applied in several batches, and the position goes with the last one. Readers see
//! them only when the commit is acknowledged, since its timestamp is above all theirs; after a crash in
//! between, the log applies the whole again, which changes nothing where it is applied already. One of many
//! bytes is cut into parts before it comes into the log: [`crate::parts`].
//!
//! While a turn syncs, further commits and messages queue up; the next turn takes all of them (*group
//! commit*). One commit alone waits for one sync and nothing else. The applied batch is not synced by itself:
//! the engine keeps the order of batches over a crash, and what is lost of it is replayed from the log.
//!
//! # Failure
//! - The disk is full before the log entries are written: those commits are refused (53100), as if they
//!   had never been proposed, and the store goes on. Its replicas of the groups in that batch begin
//!   again from what is on disk, so a leader among them leads no more.
//! - The disk is full when they are applied: they are committed, so they must not be refused. Space was
//!   set aside for them, so this takes something else that fills the disk. The loop keeps them and tries
//!   again until there is space; meanwhile it refuses new ones.
//! - Any other failure to write or sync: what is on disk is unknown, and so is the outcome of the commits
//!   in hand (40003). The store stops writing for good.
//!
//! # Time
//! A group of one voter needs none. Otherwise the liveness protocol is ticked when it asks for it, replicas
//! without a leader whom their store supports stand for election after a random moment, and leaders ask
//! again when answers are missing. A group in which nothing happens is not touched.
//!
//! # Shape
//! [`LogWriter`] is a state machine without threads or time: [`LogWriter::turn`]. `run` is its driver, an
//! ordinary future: the server gives it a thread of its own, where the sync may block; the
//! simulator polls it beside all others.

mod apply;
mod births;
mod damage;
mod driver;
mod handover;
mod replaced;
mod requests;
mod show;
mod survey;
mod timers;
mod writing;

pub(crate) use driver::run;
pub(crate) use survey::Survey;

use crate::health::Fitness;
use crate::inbox::{Proposal, Work};
use crate::lease_ends::LeaseEnds;
use crate::member::{Member, commit_of};
use crate::metrics::Metrics;
use crate::node_clock::NodeClock;
use crate::outbox::{Addressed, Outbox};
use crate::parts;
use crate::prompt::Prompt;
use crate::registry::Registry;
use crate::replica::Replica;
use crate::replica_record::{Presence, ReplicaRecord};
use crate::snapshots::Snapshots;
use bytes::Bytes;
use consensus::{Command, Group, GroupId, GroupOptions, LogStore, Position, ReplicaId, wire};
use membership::liveness::{self, Liveness};
use replaced::say_what_is_replaced;
use sharding::ShardId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use storage::gc::{Tombstone, remove_tombstones};
use storage::{Engine, WriteBatch};
use survey::Revisions;
use types::env::{Env, Transport};
use types::{Error, Result, SqlState, StoreId, Timestamp};

/// Messages for replicas that are not there yet, kept for one turn: those of a split of a busy store's shards.
const EARLY_MESSAGES: usize = 256;

/// What a turn came to.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// Something is committed that could not be applied yet. Turn again later.
    pub blocked: bool,
    /// The store must stop.
    pub failure: Option<Error>,
}

/// See the module.
pub struct LogWriter {
    engine: Arc<dyn Engine>,
    store: StoreId,
    members: BTreeMap<ShardId, Member>,
    /// Replicas with something to do in this turn.
    touched: BTreeSet<ShardId>,
    /// When replicas are to be looked at, though nothing happens to them: monotonic nanoseconds.
    wakes: BTreeSet<(u64, ShardId)>,
    liveness: Liveness,
    lease_ends: LeaseEnds,
    /// See [`LogWriter::is_awake`].
    wakes_at: Timestamp,
    /// Effects of the liveness protocol that are to be written and sent.
    support: liveness::Effects,
    clock: Arc<NodeClock>,
    env: Env,
    transport: Arc<dyn Transport>,
    outbox: Outbox,
    prompt: Prompt,
    connected: BTreeSet<StoreId>,
    /// As of the last turn.
    fitness: Fitness,
    revisions: Revisions,
    /// Messages for replicas that a split may have brought to life when the next turn begins.
    early: Vec<(StoreId, Addressed)>,
    /// Replicas that this store once had.
    former: BTreeMap<ShardId, ReplicaId>,
    registry: Arc<Registry>,
    snapshots: Arc<Snapshots>,
    options: WriterOptions,
    metrics: Arc<Metrics>,
    /// Nobody waits for anything else yet: all that is committed is applied at once.
    recovering: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct WriterOptions {
    pub(crate) log: GroupOptions,
    /// See `Options::batch_writes`.
    pub(crate) batch_writes: usize,
    /// By how much clocks may differ, in milliseconds.
    pub(crate) offset_millis: u64,
    /// How long read leases live, in milliseconds.
    pub(crate) read_lease_millis: u64,
    /// Commits whose fate is not known for so long are answered as of unknown outcome.
    pub(crate) patience: Duration,
    /// A known bug, to prove that the simulator finds it.
    pub(crate) skip_sync: bool,
    /// Another one.
    pub(crate) skip_readers: bool,
}

/// What the loop works with.
pub(crate) struct Parts {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) store: StoreId,
    pub(crate) liveness: Liveness,
    pub(crate) wakes_at: Timestamp,
    pub(crate) clock: Arc<NodeClock>,
    pub(crate) env: Env,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) options: WriterOptions,
    pub(crate) metrics: Arc<Metrics>,
}

impl LogWriter {
    /// Opens all replicas of the store.
    pub(crate) fn open(with: Parts) -> Result<Self> {
        let started = with.clock.now();
        let mut writer = LogWriter {
            engine: with.engine,
            store: with.store,
            members: BTreeMap::new(),
            touched: BTreeSet::new(),
            wakes: BTreeSet::new(),
            liveness: with.liveness,
            lease_ends: LeaseEnds::new(with.options.offset_millis),
            wakes_at: with.wakes_at,
            support: liveness::Effects::default(),
            clock: with.clock,
            env: with.env,
            transport: with.transport,
            outbox: Outbox::default(),
            prompt: Prompt::default(),
            connected: BTreeSet::new(),
            fitness: Fitness::Fit,
            revisions: Revisions::new(started.0),
            early: Vec::new(),
            former: BTreeMap::new(),
            registry: with.registry,
            snapshots: with.snapshots,
            options: with.options,
            metrics: with.metrics,
            recovering: true,
        };
        for record in ReplicaRecord::load_all(&*writer.engine)? {
            let shard = record.descriptor.id;
            match record.presence {
                Presence::Whole | Presence::Partial => writer.open_member(record)?,
                Presence::Damaged => {
                    writer.registry.damage_seen.notify_one();
                    writer.open_member(record)?;
                }
                Presence::Leaving => {
                    writer.former.insert(shard, record.id);
                    writer.snapshots.remove_rows(record);
                }
                Presence::Gone => {
                    writer.former.insert(shard, record.id);
                }
            }
        }
        let until = writer.read_leases_end();
        for member in writer.members.values_mut() {
            member.assume_readers(until);
        }
        Ok(writer)
    }

    /// When the last read lease is over that was offered until now.
    fn read_leases_end(&self) -> Timestamp {
        let now = self.clock.peek().max(self.wakes_at);
        // Whoever offered one may have been ahead of this clock, and whoever holds it may be behind.
        let options = &self.options;
        now.plus_millis(2 * options.offset_millis + options.read_lease_millis)
    }

    fn open_member(&mut self, record: ReplicaRecord) -> Result<()> {
        let shard = record.descriptor.id;
        let group = self.load_group(&record)?;
        self.clock.observe(group.log().applied().commit_ts);
        let replica = Arc::new(Replica::new(
            record.descriptor.clone(),
            Arc::clone(&self.registry.shared),
        ));
        self.registry.add(Arc::clone(&replica));
        let mut member = Member::new(group, replica, record);
        member.has_parts = parts::exist(shard, &*self.engine.snapshot())?;
        self.members.insert(shard, member);
        self.ask_for_support(shard);
        self.touched.insert(shard);
        Ok(())
    }

    fn load_group(&self, record: &ReplicaRecord) -> Result<Group> {
        let id = GroupId(record.descriptor.id.0);
        let log = LogStore::load(id, &*self.engine)?.ok_or_else(|| {
            Error::corrupt(format!("the store has no records of its group {}", id.0))
        })?;
        Group::new(record.id, log, self.options.log)
    }

    /// Support is asked of every store that shares a shard with this one.
    fn ask_for_support(&mut self, shard: ShardId) {
        if let Some(member) = self.members.get(&shard) {
            for replica in &member.record.descriptor.replicas {
                self.liveness.ask(replica.store);
            }
        }
    }

    /// Whether all replicas of one voter lead, and all that was committed is applied.
    pub(crate) fn is_recovered(&self) -> bool {
        self.members.values().all(|member| {
            member.committed_to.is_none()
                && (!member.is_alone()
                    || member.ground.as_ref().is_some_and(|ground| ground.granted))
        })
    }

    /// A whole turn: writes, syncs, sends and applies. Without work: finishes what is left of earlier turns.
    pub fn turn(&mut self, work: Work) -> Outcome {
        let mut outcome = Outcome::default();
        self.write(work, &mut outcome);
        self.apply(&mut outcome);
        outcome
    }

    /// The first half of a turn: what is proposed is written and synced, or refused.
    fn write(&mut self, work: Work, outcome: &mut Outcome) {
        if self.is_behind() {
            // Left by an earlier turn, on a full disk.
            self.apply(outcome);
            if outcome.blocked {
                let error = storage::Error::DiskFull("no space to apply commits".to_owned());
                self.refuse(&work.proposals, &error.into());
                // Messages are sent again. What is asked or told here is not.
                self.handle_all(work.requests, outcome);
                return;
            }
        }
        if outcome.failure.is_some() {
            return;
        }
        self.look_at_health();
        if let Err(error) = self.remove_tombstones(&work.tombstones) {
            outcome.failure = Some(error.into());
            return;
        }
        if self.is_awake() {
            self.take_liveness(work.liveness);
            for (from, early) in std::mem::take(&mut self.early) {
                self.step(from, early, true);
            }
            for (from, message) in work.messages {
                self.step(from, message, false);
            }
        }
        self.handle_all(work.requests, outcome);
        if outcome.failure.is_some() {
            return;
        }
        self.stand_for_elections();
        let now = self.env.clock.monotonic_nanos();
        self.outbox.take_due(now);
        self.propose(work.proposals);
        if let Err(error) = self.write_effects() {
            outcome.failure = Some(error);
        }
    }

    fn is_behind(&mut self) -> bool {
        let now = self.clock.peek();
        let mut touched = self.touched.iter();
        touched.any(|shard| {
            let member = self.members.get_mut(shard);
            member.is_some_and(|member| member.has_to_apply(now))
        })
    }

    /// Whether the clock has passed all that an earlier life of this store has asked for or acted at. Before,
    /// it neither speaks nor listens: a clock that was set forward instead would be ahead of its peers' by
    /// more than they may differ, and leases stand on that.
    fn is_awake(&self) -> bool {
        self.clock.peek() >= self.wakes_at
    }

    fn take_liveness(&mut self, messages: Vec<liveness::Message>) {
        let now = self.clock.peek();
        let due = self.liveness.next_wake().is_some_and(|at| at <= now);
        if messages.is_empty() && !due {
            return;
        }
        let mut effects = self.liveness.step(now, messages);
        if due {
            // After the messages: what they extend is not withdrawn.
            let ticked = self.liveness.tick(self.clock.now());
            effects.messages.extend(ticked.messages);
            effects.record = ticked.record;
        }
        self.support.messages.extend(effects.messages);
        self.support.record = effects.record;
    }

    /// `again`: the message came too early once already.
    fn step(&mut self, from: StoreId, addressed: Addressed, again: bool) {
        let now = self.clock.peek();
        let lead = wire::kind(&addressed.message) == wire::Kind::Lead;
        let (shard, to) = (addressed.shard, ReplicaId(addressed.message.to));
        if lead && self.is_unknown(shard, to) {
            if self.will_be_born(&addressed) {
                // The entry that splits the shard off may be in this very turn. If not, the message comes again.
                if !again && self.early.len() < EARLY_MESSAGES {
                    self.early.push((from, addressed));
                }
                return;
            }
            // It joins the group; the answer will be that it has nothing yet.
            let (term, leader) = (addressed.message.term, addressed.message.from);
            if let Err(error) = self.create_joining(shard, to, term, leader) {
                tracing::warn!(%error, shard = shard.0, "cannot make a replica");
            }
        }
        let Some(member) = self.members.get_mut(&shard) else {
            return;
        };
        let message = addressed.message;
        member.met(ReplicaId(message.from), from);
        if member.hears_resignation(&message) {
            self.touched.insert(shard);
        }
        if member.admits(self.store, from, &message, &self.liveness, now) {
            if wire::is_invitation(&message) {
                tracing::info!(shard = shard.0, from = from.0, "takes over a lease");
            }
            let committed = member.group.committed();
            member.group.step(message);
            if member.group.is_leader() && member.group.committed() > committed {
                self.prompt.decided(from);
            }
            self.touched.insert(shard);
        }
    }

    /// Whether another replica here holds the keys of a shard that this store does not know: the shard was split off
    /// from that one's, and its replica here is born when the split is applied here. It would be in its way to be
    /// called into being without rows.
    fn will_be_born(&self, addressed: &Addressed) -> bool {
        addressed.start.as_ref().is_some_and(|start| {
            let mut others = self.members.values();
            others.any(|other| other.record.descriptor.holds(start))
        })
    }

    fn propose(&mut self, proposals: Vec<Proposal>) {
        let mut by_shard: BTreeMap<ShardId, Vec<Command>> = BTreeMap::new();
        let mut late = Vec::new();
        for mut proposal in proposals {
            let member = self.members.get(&proposal.shard);
            let member = member.filter(|member| member.takes(&proposal));
            let Some(member) = member else {
                late.push(proposal);
                continue;
            };
            if let Command::Split(split) = &mut proposal.command
                && let Err(error) = member.complete(split)
            {
                member.replica.split_failed(&error);
                continue;
            }
            if matches!(proposal.command, Command::ReadLease(_))
                && member.group.is_changing_members()
            {
                member.replica.read_lease_lost();
                continue;
            }
            let commands = by_shard.entry(proposal.shard).or_default();
            commands.push(proposal.command);
        }
        self.refuse(&late, &leads_no_more());
        for (shard, mut commands) in by_shard {
            let Some(member) = self.members.get_mut(&shard) else {
                continue;
            };
            let most = self.options.batch_writes;
            say_what_is_replaced(member, &mut commands, &*self.engine, most);
            let encoded: Vec<Bytes> = commands.iter().map(|c| c.encode().into()).collect();
            let bytes: usize = encoded.iter().map(Bytes::len).sum();
            self.metrics.batch_commits.record(commands.len() as f64);
            self.metrics.batch_bytes.record(bytes as f64);
            let Some(first) = member.group.propose(encoded) else {
                let now = self.env.clock.monotonic_nanos();
                refuse(&member.replica, &commands, &leads_no_more(), now);
                continue;
            };
            let positions = (first.index..).map(|index| Position {
                index,
                term: first.term,
            });
            member.proposed.extend(positions.zip(commands));
            self.touched.insert(shard);
        }
    }

    fn refuse(&self, proposals: &[Proposal], error: &Error) {
        let now = self.env.clock.monotonic_nanos();
        for proposal in proposals {
            if let Some(replica) = self.registry.get(proposal.shard) {
                refuse(&replica, [&proposal.command], error, now);
            }
        }
    }

    /// In a batch of their own, before later writes of the same keys.
    fn remove_tombstones(&mut self, tombstones: &[Tombstone]) -> storage::Result<()> {
        if tombstones.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        let removed = match remove_tombstones(&*self.engine, &mut batch, tombstones) {
            // The next sweep finds them again; until then the damage is repaired.
            Err(storage::Error::Corrupt(_)) if self.has_peers() => {
                self.registry.damage_seen.notify_one();
                return Ok(());
            }
            removed => removed?,
        };
        match self.engine.write(batch) {
            // The next sweep finds them again.
            Err(storage::Error::DiskFull(_)) => {}
            result => {
                result?;
                self.metrics.gc_versions.increment(removed);
            }
        }
        Ok(())
    }

    /// Forgets what could not be written: the replicas concerned begin again from what is on disk.
    fn start_anew(&mut self, error: &Error) -> Result<()> {
        let now = self.env.clock.monotonic_nanos();
        self.support = liveness::Effects::default();
        for shard in self.touched.clone() {
            let Some(member) = self.members.get(&shard) else {
                continue;
            };
            if !member.group.has_pending() {
                continue;
            }
            let mut group = self.load_group(&member.record)?;
            let Some(member) = self.members.get_mut(&shard) else {
                continue;
            };
            let written = group.last_index();
            // It need not be told again.
            group.learn_committed(&member.group);
            member.group = group;
            member.ground = None;
            if !member.is_alone() {
                member.replica.revoke();
            }
            // What is written may be committed yet.
            let first_lost = member
                .proposed
                .partition_point(|(position, _)| position.index <= written);
            let lost = member.proposed.drain(first_lost..);
            let lost: Vec<Command> = lost.map(|(_, command)| command).collect();
            refuse(&member.replica, &lost, error, now);
            // What is committed and not applied is handed out again.
            member.committed.clear();
            member.committed_to = None;
            member.finished_parts = 0;
            member.has_parts = true;
        }
        Ok(())
    }
}

/// Tells whoever waits for these commands that they never came into the log.
fn refuse<'c>(
    replica: &Replica,
    commands: impl IntoIterator<Item = &'c Command>,
    error: &Error,
    now_nanos: u64,
) {
    let mut commits = Vec::new();
    for command in commands {
        commits.extend(commit_of(command));
        match command {
            Command::Part(part) => replica.part_lost(part.name, part.number),
            Command::Split(_) => replica.split_failed(error),
            Command::ReadLease(_) => replica.read_lease_lost(),
            _ => {}
        }
    }
    replica.refuse(&commits, error, now_nanos);
}

fn leads_no_more() -> Error {
    Error::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access because the shard's lease has moved",
    )
    .hint("The transaction might succeed if retried.")
}
