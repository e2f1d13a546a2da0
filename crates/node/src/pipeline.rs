//! Where committers and the log writer meet: the sequencer, the queue of proposals in timestamp
//! order, and the store's health, under one lock.
//!
//! The queue needs no limit of its own: each session has at most one commit in it, and what they
//! write is charged to the node's transaction memory until they are answered.

use crate::lock_manager::LockManager;
use crate::metrics::{Metrics, seconds};
use crate::table_changes::TableChanges;
use consensus::Command;
use futures::channel::oneshot;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use storage::gc::Tombstone;
use tokio::sync::watch;
use txn::kv::{Changes, CommitRequest, Span, TxnId};
use txn::{Footprint, Sequencer};
use types::{Error, Result, SqlState, Timestamp};

/// Commits in one write and sync. At more, the acknowledgement of the first waits for too many.
const BATCH_COMMITS: usize = 1024;
/// Bytes of their writes. A single larger commit goes alone.
const BATCH_BYTES: usize = 4 << 20;

/// What a committer waits for.
pub(crate) type Reply = oneshot::Receiver<Result<Timestamp>>;

struct Committer {
    txn: TxnId,
    reply: oneshot::Sender<Result<Timestamp>>,
    since_nanos: u64,
}

struct State {
    sequencer: Sequencer<Committer>,
    table_changes: TableChanges,
    queue: VecDeque<Command>,
    tombstones: Vec<Tombstone>,
    /// Set once: why no write will ever succeed again.
    failure: Option<Error>,
    /// No new commits; the writer ends once the queue is empty.
    closing: bool,
    writer_waits: bool,
}

/// What the writer is to do next.
#[derive(Debug, Default)]
pub struct Work {
    pub(crate) commands: Vec<Command>,
    pub(crate) tombstones: Vec<Tombstone>,
}

impl Work {
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.tombstones.is_empty()
    }
}

/// Which of the store's loops have ended, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    None,
    Writer,
    All,
}

pub(crate) struct Pipeline {
    state: Mutex<State>,
    waker: AtomicWaker,
    /// The sequencer's safe timestamp, readable without the lock.
    safe: AtomicU64,
    failed: watch::Sender<Option<Error>>,
    ended: watch::Sender<Ended>,
    locks: Arc<LockManager>,
    metrics: Arc<Metrics>,
}

/// How a SERIALIZABLE transaction stands before it has asked the disk.
pub(crate) enum Submit {
    Queued(Reply),
    /// Its snapshot is older than what is remembered here: the disk must be asked about commits up
    /// to this timestamp, then submit again.
    AskDisk(Timestamp, CommitRequest),
}

impl Pipeline {
    pub(crate) fn new(last: Timestamp, locks: Arc<LockManager>, metrics: Arc<Metrics>) -> Self {
        Pipeline {
            state: Mutex::new(State {
                sequencer: Sequencer::new(last),
                table_changes: TableChanges::new(last),
                queue: VecDeque::new(),
                tombstones: Vec::new(),
                failure: None,
                closing: false,
                writer_waits: false,
            }),
            waker: AtomicWaker::new(),
            safe: AtomicU64::new(last.0),
            failed: watch::Sender::new(None),
            ended: watch::Sender::new(Ended::None),
            locks,
            metrics,
        }
    }

    pub(crate) fn safe_timestamp(&self) -> Timestamp {
        Timestamp(self.safe.load(Ordering::SeqCst))
    }

    /// See [`txn::kv::Shards::changes`].
    pub(crate) fn changes(&self, span: &Span, after: Timestamp, upto: Timestamp) -> Changes {
        self.state.lock().table_changes.between(span, after, upto)
    }

    pub(crate) fn failed(&self) -> watch::Receiver<Option<Error>> {
        self.failed.subscribe()
    }

    pub(crate) fn ended(&self) -> watch::Receiver<Ended> {
        self.ended.subscribe()
    }

    /// Validates, gives the timestamp and queues, in one step. The disk has been asked about commits
    /// up to `checked`.
    pub(crate) fn submit(
        &self,
        request: CommitRequest,
        checked: Timestamp,
        wall_millis: u64,
        now_nanos: u64,
    ) -> Result<Submit> {
        let (reply, answer) = oneshot::channel();
        let footprint = Footprint::of(&request.writes);
        let mut state = self.state.lock();
        if let Some(failure) = &state.failure {
            return Err(refused(failure));
        }
        if state.closing {
            return Err(Error::new(
                SqlState::CANNOT_CONNECT_NOW,
                "the store is shutting down",
            ));
        }
        if !request.read_spans.is_empty() {
            if state.sequencer.remembers_since() > checked {
                return Ok(Submit::AskDisk(state.sequencer.safe_timestamp(), request));
            }
            self.validate(&state, &request.read_spans, checked)?;
        }
        let committer = Committer {
            txn: request.txn,
            reply,
            since_nanos: now_nanos,
        };
        let commit_ts = state.sequencer.begin(wall_millis, footprint, committer);
        // Before the commit can be visible: a reader that sees it must find it here.
        let keys = request.writes.iter().map(|(key, _)| key);
        state.table_changes.note(keys, commit_ts);
        // The safe timestamp does not move: it was below this commit's and stays so. But a store
        // without open commits says "the last one given", which is still the right answer.
        state.queue.push_back(Command {
            commit_ts,
            writes: request.writes,
        });
        let wake = std::mem::take(&mut state.writer_waits);
        drop(state);
        if wake {
            self.waker.wake();
        }
        Ok(Submit::Queued(answer))
    }

    fn validate(&self, state: &State, spans: &[Span], after: Timestamp) -> Result<()> {
        if state.sequencer.conflict(spans, after).is_some() {
            self.metrics.validation_failures.increment(1);
            return Err(not_serializable());
        }
        Ok(())
    }

    /// Tombstones to look at again in the writer's order.
    pub(crate) fn submit_tombstones(&self, tombstones: Vec<Tombstone>) {
        let mut state = self.state.lock();
        if state.failure.is_none() && !state.closing {
            state.tombstones.extend(tombstones);
            let wake = std::mem::take(&mut state.writer_waits);
            drop(state);
            if wake {
                self.waker.wake();
            }
        }
    }

    /// The next batch; waits for one. `None`: the store closes and everything is done.
    pub(crate) async fn next_work(&self) -> Option<Work> {
        poll_fn(|context| {
            let mut state = self.state.lock();
            let work = state.take_work();
            if !work.is_empty() {
                return Poll::Ready(Some(work));
            }
            if state.closing || state.failure.is_some() {
                return Poll::Ready(None);
            }
            state.writer_waits = true;
            self.waker.register(context.waker());
            Poll::Pending
        })
        .await
    }

    /// The next batch, perhaps empty, without waiting.
    pub(crate) fn take_work(&self) -> Work {
        self.state.lock().take_work()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    /// These commits are durable and applied: acknowledges in timestamp order.
    pub(crate) fn complete(&self, commits: &[Timestamp], now_nanos: u64) {
        let mut acknowledged = Vec::with_capacity(commits.len());
        {
            let mut state = self.state.lock();
            for at in commits {
                acknowledged.extend(state.sequencer.complete(*at));
            }
            self.publish(&state);
        }
        self.acknowledge(acknowledged, now_nanos);
    }

    /// These commits were never written.
    pub(crate) fn refuse(&self, commits: &[Timestamp], error: &Error, now_nanos: u64) {
        let mut aborted = Vec::with_capacity(commits.len());
        let mut acknowledged = Vec::new();
        {
            let mut state = self.state.lock();
            for at in commits {
                let (committer, others) = state.sequencer.abort(*at);
                aborted.extend(committer);
                acknowledged.extend(others);
            }
            self.publish(&state);
        }
        self.locks.unlock_all(aborted.iter().map(|c| c.txn));
        for committer in aborted {
            let _ = committer.reply.send(Err(error.clone()));
        }
        self.acknowledge(acknowledged, now_nanos);
    }

    /// The outcome of all open commits is unknown, and no write will ever succeed again.
    pub(crate) fn fail(&self, error: Error) {
        let open = {
            let mut state = self.state.lock();
            if state.failure.is_some() {
                return;
            }
            tracing::error!(%error, "the store has failed; it refuses all writes from now on");
            state.failure = Some(error.clone());
            state.queue.clear();
            state.sequencer.abandon()
        };
        self.failed.send_replace(Some(error.clone()));
        self.answer_unknown(open, &error);
        self.waker.wake();
    }

    /// Lets the writer end once it has done what is queued.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.waker.wake();
    }

    /// The writer is gone. What it leaves open is unknown, and nothing more will be written.
    pub(crate) fn writer_ended(&self) {
        let closing = self.is_closing();
        let gone = Error::internal("the log writer has ended");
        if closing {
            let open = self.state.lock().sequencer.abandon();
            self.answer_unknown(open, &gone);
        } else {
            self.fail(gone);
        }
        self.ended.send_replace(Ended::Writer);
    }

    /// The collector is gone, too: no loop holds the engine any more.
    pub(crate) fn collector_ended(&self) {
        self.ended.send_replace(Ended::All);
    }

    fn answer_unknown(&self, open: Vec<Committer>, cause: &Error) {
        self.locks.unlock_all(open.iter().map(|c| c.txn));
        for committer in open {
            let _ = committer.reply.send(Err(unknown_outcome(cause)));
        }
    }

    fn publish(&self, state: &State) {
        let safe = state.sequencer.safe_timestamp();
        self.safe.store(safe.0, Ordering::SeqCst);
    }

    fn acknowledge(&self, acknowledged: Vec<(Timestamp, Committer)>, now_nanos: u64) {
        // Locks first: the next transaction in a queue can start while the reply travels.
        self.locks
            .unlock_all(acknowledged.iter().map(|(_, committer)| committer.txn));
        self.metrics.commits.increment(acknowledged.len() as u64);
        for (at, committer) in acknowledged {
            let waited = now_nanos.saturating_sub(committer.since_nanos);
            self.metrics.commit_seconds.record(seconds(waited));
            // A session that is gone has committed all the same.
            let _ = committer.reply.send(Ok(at));
        }
    }
}

impl State {
    fn take_work(&mut self) -> Work {
        let mut commits = 0;
        let mut bytes = 0;
        for command in &self.queue {
            let size: usize = command
                .writes
                .iter()
                .map(|(key, value)| key.len() + value.as_ref().map_or(0, |value| value.len()))
                .sum();
            if commits == BATCH_COMMITS || (commits > 0 && bytes + size > BATCH_BYTES) {
                break;
            }
            commits += 1;
            bytes += size;
        }
        Work {
            commands: self.queue.drain(..commits).collect(),
            tombstones: std::mem::take(&mut self.tombstones),
        }
    }
}

pub(crate) fn not_serializable() -> Error {
    Error::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access due to read/write dependencies among transactions",
    )
    .hint("The transaction might succeed if retried.")
}

pub(crate) fn unknown_outcome(cause: &Error) -> Error {
    Error::new(
        SqlState::STATEMENT_COMPLETION_UNKNOWN,
        "it is unknown whether the transaction is committed",
    )
    .detail(cause.message.clone())
}

fn refused(failure: &Error) -> Error {
    Error::new(
        SqlState::IO_ERROR,
        "the store refuses writes after a failure of its disk",
    )
    .detail(failure.message.clone())
    .hint("Restart the node once the disk is sound again.")
}
