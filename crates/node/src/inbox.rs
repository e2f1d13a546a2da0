//! Where everybody meets the store's loop: proposals, messages from peers and requests, under one lock, and the
//! store's health.
//!
//! Proposals need no limit of their own: each session has at most one in it, and what they write is charged to
//! its node's transaction memory until they are answered. Requests need none either: who makes one waits for its
//! answer, or tells of one peer or one copy. Messages have one; those above it are lost, as a network loses
//! them.

use crate::log_writer::Survey;
use crate::outbox::Addressed;
use crate::replica_record::ReplicaRecord;
use crate::shard_server::LeaseId;
use bytes::Bytes;
use consensus::{Change, Command, Membership, Message, ReplicaId};
use futures::channel::oneshot;
use futures::task::AtomicWaker;
use membership::liveness;
use parking_lot::Mutex;
use sharding::{ShardDescriptor, ShardId};
use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll};
use storage::Damage;
use storage::gc::Tombstone;
use tokio::sync::watch;
use types::{Error, StoreId};

/// Commits in one write and sync. At more, the acknowledgement of the first waits for too many.
const BATCH_COMMITS: usize = 1024;
/// Bytes of their writes. A single larger commit goes alone.
const BATCH_BYTES: usize = 4 << 20;
/// Messages that wait for the loop: some seconds of a busy store's.
const MESSAGES_WAITING: usize = 65_536;

/// Something that is asked of the loop.
#[derive(Debug)]
pub(crate) enum Request {
    /// Hand the lease of a shard over.
    TransferLease { shard: ShardId, to: StoreId },
    /// Change who is in the group; `descriptor` says it in terms of stores. Answered once it is proposed.
    ChangeMembers {
        shard: ShardId,
        changes: Vec<Change>,
        descriptor: ShardDescriptor,
        reply: oneshot::Sender<types::Result<()>>,
    },
    /// How the replicas of this store stand that have changed since.
    Survey {
        since: u64,
        reply: oneshot::Sender<Survey>,
    },
    /// How a shard stands, as far as this store knows.
    Inspect {
        shard: ShardId,
        reply: oneshot::Sender<types::Result<Inspection>>,
    },
    /// A row of a shard could not be read: its block is damaged.
    Damaged { shard: ShardId, what: String },
    /// This replica's rows are not those of the others.
    Differs {
        shard: ShardId,
        replica: u64,
        what: String,
    },
    /// A damaged table is about to be taken out of use: all replicas with keys in it are damaged. Answered once
    /// that is durable; `false`: it cannot be done now.
    DamagedTable {
        damage: Damage,
        reply: oneshot::Sender<bool>,
    },
    /// Messages to and from a peer pass again, or no more.
    Connected { peer: StoreId, connected: bool },
    /// The stream of a snapshot has ended.
    SnapshotSent {
        shard: ShardId,
        to: ReplicaId,
        arrived: bool,
    },
    /// A snapshot is offered: make room for it. Answered with the shard whose rows must go first, or `None`: it must
    /// not come.
    PrepareSnapshot {
        record: ReplicaRecord,
        index: u64,
        reply: oneshot::Sender<Option<ShardDescriptor>>,
    },
    /// All rows of a snapshot are in place; its head follows.
    SnapshotArrived {
        shard: ShardId,
        from: StoreId,
        head: Message,
        reply: oneshot::Sender<bool>,
    },
}

/// What the loop knows of a shard.
#[derive(Clone, Debug)]
pub(crate) struct Inspection {
    pub(crate) leads: bool,
    pub(crate) descriptor: ShardDescriptor,
    pub(crate) membership: Membership,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    /// Its rows are all there, and sound as far as known.
    pub(crate) whole: bool,
    /// How far the leader knows each replica's log to match its own.
    pub(crate) matched: BTreeMap<ReplicaId, u64>,
}

/// A command on its way into a shard's log.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) shard: ShardId,
    /// The lease under which it was sequenced. Under another one it would come too late.
    pub(crate) lease: LeaseId,
    pub(crate) command: Command,
}

/// What the loop is to do next.
#[derive(Debug, Default)]
pub struct Work {
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) tombstones: Vec<Tombstone>,
    pub(crate) messages: Vec<(StoreId, Addressed)>,
    pub(crate) liveness: Vec<liveness::Message>,
    pub(crate) requests: Vec<Request>,
}

impl Work {
    pub fn is_empty(&self) -> bool {
        self.proposals.is_empty()
            && self.tombstones.is_empty()
            && self.messages.is_empty()
            && self.liveness.is_empty()
            && self.requests.is_empty()
    }
}

/// Which of the store's loops have ended, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    None,
    Writer,
    All,
}

#[derive(Default)]
struct State {
    proposals: VecDeque<Proposal>,
    rest: Work,
    /// Set once: why no write will ever succeed again.
    failure: Option<Error>,
    /// No new commits; the loop ends once the queue is empty.
    closing: bool,
    loop_waits: bool,
}

/// See the module.
pub(crate) struct Inbox {
    state: Mutex<State>,
    waker: AtomicWaker,
    failed: watch::Sender<Option<Error>>,
    ended: watch::Sender<Ended>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Inbox {
            state: Mutex::default(),
            waker: AtomicWaker::new(),
            failed: watch::Sender::new(None),
            ended: watch::Sender::new(Ended::None),
        }
    }

    pub(crate) fn failed(&self) -> watch::Receiver<Option<Error>> {
        self.failed.subscribe()
    }

    pub(crate) fn ended(&self) -> watch::Receiver<Ended> {
        self.ended.subscribe()
    }

    /// The order of a shard's proposals is that of these calls.
    pub(crate) fn propose(&self, proposal: Proposal) {
        self.put(|state| state.proposals.push_back(proposal));
    }

    pub(crate) fn request(&self, request: Request) {
        self.put(|state| state.rest.requests.push(request));
    }

    pub(crate) fn deliver(&self, from: StoreId, messages: Vec<Addressed>) {
        self.put(|state| {
            if state.rest.messages.len() < MESSAGES_WAITING {
                let messages = messages.into_iter().map(|message| (from, message));
                state.rest.messages.extend(messages);
            }
        });
    }

    pub(crate) fn deliver_liveness(&self, messages: Vec<liveness::Message>) {
        self.put(|state| {
            if state.rest.liveness.len() < MESSAGES_WAITING {
                state.rest.liveness.extend(messages);
            }
        });
    }

    /// Tombstones to look at again in the loop's order.
    pub(crate) fn tombstones(&self, tombstones: Vec<Tombstone>) {
        self.put(|state| state.rest.tombstones.extend(tombstones));
    }

    fn put(&self, put: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        put(&mut state);
        let wake = std::mem::take(&mut state.loop_waits);
        drop(state);
        if wake {
            self.waker.wake();
        }
    }

    /// The next work, `None` if the store closes and everything is done.
    pub(crate) fn poll_work(&self, context: &mut Context<'_>) -> Poll<Option<Work>> {
        let mut state = self.state.lock();
        let work = state.take_work();
        if !work.is_empty() {
            return Poll::Ready(Some(work));
        }
        if state.closing || state.failure.is_some() {
            return Poll::Ready(None);
        }
        state.loop_waits = true;
        self.waker.register(context.waker());
        Poll::Pending
    }

    /// The next work, perhaps none, without waiting.
    pub(crate) fn take_work(&self) -> Work {
        self.state.lock().take_work()
    }

    /// Neither failed nor closing.
    pub(crate) fn is_open(&self) -> bool {
        let state = self.state.lock();
        state.failure.is_none() && !state.closing
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    /// Lets the loop end once it has done what is queued.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.waker.wake();
    }

    /// No write will ever succeed again. `false`: that was known.
    pub(crate) fn fail(&self, error: &Error) -> bool {
        {
            let mut state = self.state.lock();
            if state.failure.is_some() {
                return false;
            }
            state.failure = Some(error.clone());
            state.proposals.clear();
        }
        tracing::error!(%error, "the store has failed; it refuses all writes from now on");
        self.failed.send_replace(Some(error.clone()));
        self.waker.wake();
        true
    }

    pub(crate) fn set_ended(&self, ended: Ended) {
        self.ended.send_replace(ended);
    }
}

fn written_bytes(writes: &[(Bytes, Option<Bytes>)]) -> usize {
    writes
        .iter()
        .map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len))
        .sum()
}

impl State {
    fn take_work(&mut self) -> Work {
        let mut commits = 0;
        let mut bytes = 0;
        for proposal in &self.proposals {
            let size = match &proposal.command {
                Command::Commit(commit) => written_bytes(&commit.writes),
                Command::Part(part) => written_bytes(&part.writes),
                Command::Split(_)
                | Command::Finish(_)
                | Command::Abandon(_)
                | Command::ReadLease(_) => 0,
            };
            if commits == BATCH_COMMITS || (commits > 0 && bytes + size > BATCH_BYTES) {
                break;
            }
            commits += 1;
            bytes += size;
        }
        let mut work = std::mem::take(&mut self.rest);
        work.proposals = self.proposals.drain(..commits).collect();
        work
    }
}
