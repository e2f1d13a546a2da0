//! A replica as sessions see it: its lease, the sequencer of its commits, and who waits for them.
//!
//! The store's loop owns the Raft group; this is what it shares with the tasks that read and commit. While the
//! lease is here, a commit is validated, given its timestamp and queued in one step under one lock. Why a lease is safe
//! stands in `leasing.rs`.

mod errors;
#[cfg(test)]
mod lapse_tests;
mod leasing;
mod reading;
mod splitting;

pub(crate) use errors::{lease_moved, not_serializable, unknown_outcome};
pub(crate) use splitting::not_split;

use crate::health::Health;
use crate::inbox::{Inbox, Proposal};
use crate::lock_manager::LockManager;
use crate::metrics::{Metrics, seconds};
use crate::node_clock::NodeClock;
use crate::read_leases::Demand;
use crate::shard_server::{Failure, LeaseId, Refusal};
use crate::sizes::Size;
use crate::table_changes::TableChanges;
use arc_swap::{ArcSwap, ArcSwapOption};
use consensus::{Command, Commit, CommitName, Finish, Part};
use errors::{no_quorum, refused, shutting_down};
use futures::channel::oneshot;
use parking_lot::{Mutex, RwLock};
use reading::{Holding, Offers};
use sharding::{ShardDescriptor, ShardId};
use splitting::Splitting;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use txn::kv::{Changes, Committed, Key, Span, TxnId, Value};
use txn::{Footprint, Sequencer};
use types::{Error, StoreId, Timestamp};

/// What a committer waits for.
pub(crate) type Reply = oneshot::Receiver<Result<Committed, Error>>;

struct Committer {
    txn: TxnId,
    catalog_before: Timestamp,
    reply: oneshot::Sender<Result<Committed, Error>>,
    since_nanos: u64,
}

/// What all replicas of a store share.
pub(crate) struct Shared {
    pub(crate) store: StoreId,
    pub(crate) inbox: Inbox,
    pub(crate) locks: Arc<LockManager>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) time: Arc<NodeClock>,
    /// The newest commit that is applied here, in any shard.
    pub(crate) newest_commit: AtomicU64,
    pub(crate) health: Health,
    /// Syncs of the log so far: how busy the store is.
    pub(crate) syncs: AtomicU64,
    /// Snapshots given so far of shards whose lease is elsewhere.
    pub(crate) read_lease_snapshots: AtomicU64,
    /// By how much clocks may differ, in milliseconds.
    pub(crate) offset_millis: u64,
}

impl Shared {
    /// Of a store that has just been opened.
    pub(crate) fn new(
        store: StoreId,
        locks: Arc<LockManager>,
        metrics: Arc<Metrics>,
        time: Arc<NodeClock>,
        offset_millis: u64,
    ) -> Self {
        Shared {
            store,
            inbox: Inbox::new(),
            locks,
            metrics,
            time,
            newest_commit: AtomicU64::new(0),
            health: Health::new(offset_millis),
            syncs: AtomicU64::new(0),
            read_lease_snapshots: AtomicU64::new(0),
            offset_millis,
        }
    }
}

struct State {
    lease: Option<LeaseId>,
    sequencer: Sequencer<Committer>,
    table_changes: TableChanges,
    /// Of the commits in the sequencer, the newest that writes the catalog.
    catalog_at: Timestamp,
    /// Commits of earlier leases whose fate is not known yet, by timestamp.
    orphans: BTreeMap<Timestamp, Committer>,
    /// Reads that wait for commits in flight below them, by timestamp.
    readers: BTreeMap<Timestamp, Vec<oneshot::Sender<()>>>,
    split: Option<Splitting>,
    /// It has never had the lease here.
    is_new: bool,
    /// Who waits for the lease of a shard that has just begun.
    waiting: Vec<oneshot::Sender<()>>,
    closed: Option<Closed>,
    offers: Offers,
    /// The lease was interrupted in this term, and until when it is waited for that it is confirmed.
    lapsed: Option<(LeaseId, Timestamp)>,
    /// Who waits for parts of large commits to be applied, and is told in which term they stand.
    parts: BTreeMap<(CommitName, u64), oneshot::Sender<u64>>,
}

/// What a commit writes.
pub(crate) enum Body {
    Whole(Vec<(Key, Option<Value>)>),
    /// All of it is in the log already.
    Parts(Box<InParts>),
}

/// A large commit whose parts are applied.
pub(crate) struct InParts {
    pub(crate) name: CommitName,
    pub(crate) term: u64,
    pub(crate) parts: u64,
    pub(crate) footprint: Footprint,
    /// The first and the last key that it writes.
    pub(crate) ends: Option<(Key, Key)>,
    /// Which tables it writes.
    pub(crate) tables: Vec<u32>,
    pub(crate) writes_catalog: bool,
}

/// Why nothing can be committed any more.
#[derive(Clone, Debug)]
pub(crate) enum Closed {
    Failed(Error),
    Closing,
}

/// See the module.
pub(crate) struct Replica {
    pub(crate) shard: ShardId,
    descriptor: RwLock<Arc<ShardDescriptor>>,
    state: Mutex<State>,
    shared: Arc<Shared>,
    /// The sequencer's safe timestamp, readable without the lock.
    safe: AtomicU64,
    /// Where the lease ends, shared with leases that stand on the same stores; zero: no lease.
    lease_end: ArcSwap<AtomicU64>,
    /// The store whose replica leads, as far as known; 0: none.
    leader: AtomicU64,
    pub(crate) size: Size,
    /// Other stores have votes in the group, and so copies.
    peers: AtomicBool,
    /// A read has met damage here: that has been told.
    given_up: AtomicBool,
    /// The newest commit of this lease, or where the lease began.
    newest: AtomicU64,
    demand: Mutex<Demand>,
    /// See [`Replica::closed_at`].
    closed_at: AtomicU64,
    holding: ArcSwapOption<Holding>,
}

/// How a SERIALIZABLE transaction stands before it has asked the disk.
pub(crate) enum Submit {
    Queued(Reply),
    /// Its snapshot is older than what is remembered here: the disk must be asked about commits up
    /// to this timestamp, then submit again.
    AskDisk(Timestamp, Request),
    /// It writes keys that are about to become another shard's, or those of a shard that has just begun. To be
    /// submitted again once this is told or dropped.
    Wait(oneshot::Receiver<()>, Request),
    /// The lease under which its locks were taken is over or interrupted, and may go on yet: submit again soon.
    Late(Request),
    /// Not all of its keys are this shard's.
    Elsewhere(Request),
}

impl Request {
    /// The first and the last key that it writes.
    pub(crate) fn ends(&self) -> Option<(&Key, &Key)> {
        match &self.body {
            Body::Whole(writes) => Some((&writes.first()?.0, &writes.last()?.0)),
            Body::Parts(parts) => parts.ends.as_ref().map(|(first, last)| (first, last)),
        }
    }
}

/// A commit as a replica takes it: see [`txn::kv::CommitRequest`].
pub(crate) struct Request {
    pub(crate) txn: TxnId,
    pub(crate) read_at: Timestamp,
    pub(crate) read_spans: Vec<Span>,
    pub(crate) body: Body,
}

impl Replica {
    pub(crate) fn new(descriptor: ShardDescriptor, shared: Arc<Shared>) -> Self {
        Replica {
            shard: descriptor.id,
            descriptor: RwLock::new(Arc::new(descriptor)),
            state: Mutex::new(State {
                lease: None,
                sequencer: Sequencer::new(Timestamp::ZERO),
                table_changes: TableChanges::new(Timestamp::ZERO),
                catalog_at: Timestamp::ZERO,
                orphans: BTreeMap::new(),
                readers: BTreeMap::new(),
                split: None,
                is_new: true,
                waiting: Vec::new(),
                closed: None,
                offers: Offers::default(),
                lapsed: None,
                parts: BTreeMap::new(),
            }),
            shared,
            safe: AtomicU64::new(0),
            lease_end: ArcSwap::default(),
            leader: AtomicU64::new(0),
            size: Size::default(),
            peers: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            newest: AtomicU64::new(0),
            demand: Mutex::default(),
            closed_at: AtomicU64::new(0),
            holding: ArcSwapOption::empty(),
        }
    }

    pub(crate) fn set_peers(&self, peers: bool) {
        self.peers.store(peers, Ordering::Relaxed);
    }

    pub(crate) fn has_peers(&self) -> bool {
        self.peers.load(Ordering::Relaxed)
    }

    /// Whether it was given up before; from now on it is.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn descriptor(&self) -> Arc<ShardDescriptor> {
        Arc::clone(&self.descriptor.read())
    }

    pub(crate) fn set_descriptor(&self, descriptor: ShardDescriptor) {
        *self.descriptor.write() = Arc::new(descriptor);
    }

    pub(crate) fn set_leader(&self, leader: Option<StoreId>) {
        self.leader
            .store(leader.map_or(0, |store| store.0), Ordering::Relaxed);
    }

    pub(crate) fn leader(&self) -> Option<StoreId> {
        Some(self.leader.load(Ordering::Relaxed))
            .filter(|store| *store != 0)
            .map(StoreId)
    }

    pub(crate) fn safe_timestamp(&self) -> Timestamp {
        Timestamp(self.safe.load(Ordering::SeqCst))
    }

    /// Up to where no commit is in flight, nor will be.
    pub(crate) fn settled_at(&self) -> Timestamp {
        self.safe_timestamp().max(self.closed_at())
    }

    pub(crate) fn not_holder(&self) -> Failure {
        Failure::Refused(Refusal::NotLeaseHolder {
            hint: self.leader(),
        })
    }

    /// Moves all later commits above `at`, and waits for those in flight below it. `None`: no need to.
    pub(crate) fn raise(&self, at: Timestamp) -> Option<oneshot::Receiver<()>> {
        if at <= self.settled_at() {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        if state.lease.is_none() {
            // It went just now: nobody will ever send.
            return Some(receiver);
        }
        self.observe(&mut state, at);
        if state.sequencer.safe_timestamp() >= at {
            return None;
        }
        state.readers.entry(at).or_default().push(sender);
        Some(receiver)
    }

    /// Moves all later commits above `at`. Up to the answer no commit is in flight here.
    pub(crate) fn settle(&self, at: Timestamp) -> Timestamp {
        let mut state = self.state.lock();
        if state.lease.is_none() {
            return Timestamp::MAX;
        }
        self.observe(&mut state, at);
        state.sequencer.safe_timestamp()
    }

    fn observe(&self, state: &mut State, at: Timestamp) {
        self.shared.time.observe(at);
        state.sequencer.observe(at);
        self.publish(state);
    }

    /// See [`txn::kv::Shards::changes`].
    pub(crate) fn changes(&self, span: &Span, after: Timestamp, upto: Timestamp) -> Changes {
        let mut state = self.state.lock();
        if state.lease.is_none() {
            return Changes::Unknown;
        }
        state.table_changes.between(span, after, upto)
    }

    /// Queues a part of a large commit. What is returned completes once it is applied, and fails if it was
    /// not put into the log or if nobody knows.
    pub(crate) fn stage(
        &self,
        part: Part,
        lease: LeaseId,
    ) -> Result<oneshot::Receiver<u64>, Failure> {
        let (sender, applied) = oneshot::channel();
        let mut state = self.state.lock();
        state.check_open()?;
        if !state.leads_on(lease) {
            return Err(lease_moved().into());
        }
        state.parts.insert((part.name, part.number), sender);
        self.shared.inbox.propose(Proposal {
            shard: self.shard,
            lease,
            command: Command::Part(part),
        });
        Ok(applied)
    }

    /// A large commit will not be finished: what is in the log of it may go.
    pub(crate) fn abandon_parts(&self, name: CommitName) {
        let mut state = self.state.lock();
        state.parts.retain(|(of, _), _| *of != name);
        if let (Some(lease), None) = (state.last_lease(), &state.closed) {
            self.shared.inbox.propose(Proposal {
                shard: self.shard,
                lease,
                command: Command::Abandon(name),
            });
        }
    }

    pub(crate) fn part_done(&self, name: CommitName, number: u64, term: u64) {
        if let Some(waiting) = self.state.lock().parts.remove(&(name, number)) {
            let _ = waiting.send(term);
        }
    }

    pub(crate) fn part_lost(&self, name: CommitName, number: u64) {
        self.state.lock().parts.remove(&(name, number));
    }

    /// Validates, gives the timestamp and queues, in one step. The disk has been asked about commits
    /// up to `checked`.
    pub(crate) fn submit(
        &self,
        mut request: Request,
        locked_under: Option<LeaseId>,
        checked: Timestamp,
        now: impl FnOnce() -> Timestamp,
        now_nanos: u64,
    ) -> Result<Submit, Failure> {
        let (reply, answer) = oneshot::channel();
        let (whole, writes_catalog) = match &request.body {
            Body::Whole(writes) => (Some(Footprint::of(writes)), txn::kv::writes_catalog(writes)),
            Body::Parts(parts) => (None, parts.writes_catalog),
        };
        let mut state = self.state.lock();
        state.check_open()?;
        if !self.holds_commit(&request) {
            return Ok(Submit::Elsewhere(request));
        }
        let Some(lease) = state.lease else {
            if locked_under.is_some_and(|under| state.leads_on(under)) {
                return Ok(Submit::Late(request));
            }
            return match self.wait_for_lease(&mut state) {
                Some(wait) => Ok(Submit::Wait(wait, request)),
                None => Err(self.not_holder()),
            };
        };
        if let Some(wait) = state.must_wait(&request) {
            return Ok(Submit::Wait(wait, request));
        }
        if locked_under.is_some_and(|under| !lease.keeps_locks_of(under)) {
            return Err(lease_moved().into());
        }
        if !request.read_spans.is_empty() {
            if state.sequencer.remembers_since() > checked {
                return Ok(Submit::AskDisk(state.sequencer.safe_timestamp(), request));
            }
            let conflict = state.sequencer.conflict(&request.read_spans, checked);
            if conflict.is_some() {
                self.shared.metrics.validation_failures.increment(1);
                return Err(not_serializable().into());
            }
        }
        let at = now();
        if at > self.lease_end() {
            // Whoever has no locks here may as well ask elsewhere.
            let may_go_on = self.lease_may_go_on(at) || state.has_lapsed(at);
            return match locked_under.is_some() && may_go_on {
                true => Ok(Submit::Late(request)),
                false => Err(self.not_holder()),
            };
        }
        let mut catalog_before = Timestamp::ZERO;
        if writes_catalog {
            catalog_before = std::mem::replace(&mut state.catalog_at, at);
        }
        let committer = Committer {
            txn: request.txn,
            catalog_before,
            reply,
            since_nanos: now_nanos,
        };
        let footprint = match &mut request.body {
            Body::Parts(parts) => Some(std::mem::take(&mut parts.footprint)),
            Body::Whole(_) => whole,
        };
        let footprint = footprint.unwrap_or_default();
        self.newest.store(at.0, Ordering::Relaxed);
        state.sequencer.begin(at, footprint, committer);
        // Before the commit can be visible: a reader that sees it must find it here.
        let command = match request.body {
            Body::Whole(writes) => {
                let keys = writes.iter().map(|(key, _)| key);
                state.table_changes.note(keys, at);
                Command::Commit(Commit {
                    commit_ts: at,
                    writes,
                    replaced: Vec::new(),
                })
            }
            Body::Parts(parts) => {
                state.table_changes.note_tables(&parts.tables, at);
                Command::Finish(Finish {
                    name: parts.name,
                    term: parts.term,
                    parts: parts.parts,
                    commit_ts: at,
                })
            }
        };
        // The safe timestamp does not move: it was below this commit's and stays so. But a store
        // without open commits says "the last one given", which is still the right answer.
        self.shared.inbox.propose(Proposal {
            shard: self.shard,
            lease,
            command,
        });
        Ok(Submit::Queued(answer))
    }

    /// These commits are durable and applied: acknowledges in timestamp order.
    pub(crate) fn complete(&self, commits: &[Timestamp], now_nanos: u64) {
        let mut acknowledged = Vec::with_capacity(commits.len());
        {
            let mut state = self.state.lock();
            for at in commits {
                match state.orphans.remove(at) {
                    Some(committer) => acknowledged.push((*at, committer)),
                    None => acknowledged.extend(state.sequencer.complete(*at)),
                }
            }
            for (at, committer) in &acknowledged {
                if committer.catalog_before > Timestamp::ZERO {
                    self.shared.time.catalog_changes_at(*at);
                }
            }
            self.publish(&state);
            state.wake_readers();
        }
        self.acknowledge(acknowledged, now_nanos);
    }

    /// These commits were never written, or will never be committed.
    pub(crate) fn refuse(&self, commits: &[Timestamp], error: &Error, now_nanos: u64) {
        let mut aborted = Vec::with_capacity(commits.len());
        let mut acknowledged = Vec::new();
        {
            let mut state = self.state.lock();
            for at in commits {
                if let Some(committer) = state.orphans.remove(at) {
                    aborted.push(committer);
                    continue;
                }
                let (committer, others) = state.sequencer.abort(*at);
                aborted.extend(committer);
                acknowledged.extend(others);
            }
            self.publish(&state);
            state.wake_readers();
        }
        self.shared.locks.unlock_all(aborted.iter().map(|c| c.txn));
        for committer in aborted {
            let _ = committer.reply.send(Err(error.clone()));
        }
        self.acknowledge(acknowledged, now_nanos);
    }

    /// Commits of earlier leases that were proposed before `before_nanos` are answered: nobody knows how
    /// they end, but of those that are committed and only have to be applied. `missing`: the stores that cannot be
    /// reached.
    pub(crate) fn give_up_orphans(
        &self,
        before_nanos: u64,
        committed: impl Fn(Timestamp) -> bool,
        missing: impl FnOnce() -> Vec<StoreId>,
    ) {
        let mut given_up = Vec::new();
        {
            let mut state = self.state.lock();
            let old: Vec<Timestamp> = state
                .orphans
                .iter()
                .filter(|(at, committer)| committer.since_nanos < before_nanos && !committed(**at))
                .map(|(at, _)| *at)
                .collect();
            for at in old {
                given_up.extend(state.orphans.remove(&at));
            }
        }
        if !given_up.is_empty() {
            self.answer_unknown(given_up, &no_quorum(self.shard, &missing()));
        }
    }

    /// Whether anybody waits for commits in flight.
    pub(crate) fn has_waiting(&self) -> bool {
        let state = self.state.lock();
        !state.orphans.is_empty()
            || !state.readers.is_empty()
            || !state.parts.is_empty()
            || state.sequencer.in_flight() > 0
    }

    /// Refuses new commits from now on. With a failure, the outcome of the open ones is unknown.
    pub(crate) fn close(&self, closed: Closed) {
        let open = {
            let mut state = self.state.lock();
            let open = match &closed {
                Closed::Failed(_) => {
                    state.end_waits();
                    state.abandon()
                }
                Closed::Closing => Vec::new(),
            };
            state.closed = Some(closed.clone());
            open
        };
        if let Closed::Failed(error) = &closed {
            self.answer_unknown(open, error);
        }
    }

    /// The loop is gone: what it leaves open is unknown.
    pub(crate) fn loop_ended(&self) {
        self.stop_reading();
        let open = {
            let mut state = self.state.lock();
            state.closed.get_or_insert(Closed::Closing);
            state.end_waits();
            state.readers.clear();
            state.abandon()
        };
        self.answer_unknown(open, &Error::internal("the store's loop has ended"));
    }

    fn answer_unknown(&self, open: Vec<Committer>, cause: &Error) {
        self.shared.locks.unlock_all(open.iter().map(|c| c.txn));
        for committer in open {
            let _ = committer.reply.send(Err(unknown_outcome(cause)));
        }
    }

    fn publish(&self, state: &State) {
        let safe = state.sequencer.safe_timestamp();
        self.safe.store(safe.0, Ordering::SeqCst);
    }

    fn acknowledge(&self, acknowledged: Vec<(Timestamp, Committer)>, now_nanos: u64) {
        let shared = &self.shared;
        // Locks first: the next transaction in a queue can start while the reply travels.
        shared
            .locks
            .unlock_all(acknowledged.iter().map(|(_, committer)| committer.txn));
        shared.metrics.commits.increment(acknowledged.len() as u64);
        for (at, committer) in acknowledged {
            let waited = now_nanos.saturating_sub(committer.since_nanos);
            shared.metrics.commit_seconds.record(seconds(waited));
            // A session that is gone has committed all the same.
            let _ = committer.reply.send(Ok(Committed {
                at,
                catalog_before: committer.catalog_before,
            }));
        }
    }
}

impl State {
    fn check_open(&self) -> Result<(), Failure> {
        match &self.closed {
            Some(Closed::Failed(error)) => Err(refused(error).into()),
            Some(Closed::Closing) => Err(shutting_down().into()),
            None => Ok(()),
        }
    }

    /// Keeps the open commits of a lease that ends.
    fn put_aside(&mut self) {
        let open = self.sequencer.abandon();
        self.orphans.extend(open);
    }

    fn abandon(&mut self) -> Vec<Committer> {
        self.put_aside();
        self.parts.clear();
        std::mem::take(&mut self.orphans).into_values().collect()
    }

    fn wake_readers(&mut self) {
        let safe = self.sequencer.safe_timestamp();
        while let Some(first) = self.readers.first_entry()
            && *first.key() <= safe
        {
            for reader in first.remove() {
                let _ = reader.send(());
            }
        }
    }
}
