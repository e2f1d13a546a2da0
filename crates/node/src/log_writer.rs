//! The one loop that writes a store's log.
//!
//! # A turn
//! ```text
//!   queue ──► propose all ──► one batch of log entries ──► ONE sync ──► apply, one batch ──► acknowledge
//!                                  │                          │            (not synced)
//!                            disk full: refused          fails: the store stops
//! ```
//! A large commit is applied in several batches, and the position goes with the last one. Readers see
//! the parts only when the commit is acknowledged, since its timestamp is above all theirs; after a crash in
//! between, the log applies the whole again, which changes nothing where it is applied already.
//!
//! While a turn syncs, further commits queue up; the next turn takes all of them (*group commit*). One
//! commit alone waits for one sync and nothing else. The applied batch is not synced by itself: the engine
//! keeps the order of batches over a crash, and what is lost of it is replayed from the log.
//!
//! # Failure
//! - The disk is full before the log entries are written: those commits are refused (53100), as if they
//!   had never been proposed, and the store goes on.
//! - The disk is full when they are applied: they are committed, so they must not be refused. Space was
//!   set aside for them, so this takes something else that fills the disk. The writer keeps them and tries
//!   again until there is space; meanwhile it refuses new ones.
//! - Any other failure to write or sync: what is on disk is unknown, and so is the outcome of the commits
//!   in hand (40003). The store stops writing for good.
//!
//! # Shape
//! [`LogWriter`] is a state machine without threads or time: [`LogWriter::turn`]. `run` is its driver, an
//! ordinary future: the server gives it a thread of its own, where the sync may block; the
//! simulator polls it beside all others.

use crate::metrics::{Metrics, seconds};
use crate::pipeline::{Pipeline, Work};
use bytes::Bytes;
use consensus::log_store::Applied;
use consensus::{Command, Group, GroupId, GroupOptions, LogEntry, LogStore, Position, ReplicaId};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use storage::gc::{Tombstone, remove_tombstones};
use storage::mvcc::{self, Applier};
use storage::{Engine, WriteBatch};
use types::env::Clock;
use types::{Error, Result, Timestamp};

/// How long the writer waits before it tries again to apply on a full disk.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(200);

/// What a turn came to.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// Durable and applied, in timestamp order.
    pub done: Vec<Timestamp>,
    /// Never written, and why.
    pub refused: Option<(Vec<Timestamp>, Error)>,
    /// Something is committed that could not be applied yet. Turn again later.
    pub blocked: bool,
    /// The store must stop.
    pub failure: Option<Error>,
}

/// See the module.
pub struct LogWriter {
    engine: Arc<dyn Engine>,
    group: Group,
    group_id: GroupId,
    replica: ReplicaId,
    options: GroupOptions,
    /// Proposed here and not committed yet, so that they need not be decoded.
    proposed: VecDeque<(Position, Command)>,
    /// Committed and not applied yet, and the position up to which.
    committed: Vec<Command>,
    committed_to: Option<Position>,
    commit_ts: Timestamp,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// See `Options::batch_writes`.
    batch_writes: usize,
    /// A known bug, to prove that the simulator finds it.
    skip_sync: bool,
}

enum AppendError {
    /// Nothing is written.
    Refused(storage::Error),
    Failed(Error),
}

impl LogWriter {
    pub(crate) fn open(
        engine: Arc<dyn Engine>,
        group_id: GroupId,
        replica: ReplicaId,
        options: GroupOptions,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let log = load(&*engine, group_id)?;
        let commit_ts = log.applied().commit_ts;
        Ok(LogWriter {
            engine,
            group: Group::new(replica, log, options)?,
            group_id,
            replica,
            options,
            proposed: VecDeque::new(),
            committed: Vec::new(),
            committed_to: None,
            commit_ts,
            clock,
            metrics,
            batch_writes: usize::MAX,
            skip_sync: false,
        })
    }

    pub(crate) fn apply_in_batches_of(&mut self, writes: usize) {
        self.batch_writes = writes.max(1);
    }

    pub(crate) fn skip_sync(&mut self) {
        self.skip_sync = true;
    }

    /// The newest commit timestamp that is applied.
    pub fn commit_ts(&self) -> Timestamp {
        self.commit_ts
    }

    /// A whole turn: writes, syncs and applies. Without work: finishes what is left of earlier turns,
    /// and wins the election if this replica does not lead yet.
    pub fn turn(&mut self, work: Work) -> Outcome {
        let mut outcome = Outcome::default();
        self.write(work, &mut outcome);
        self.apply(&mut outcome);
        outcome
    }

    /// The first half of a turn: what is proposed is written and synced, or refused.
    fn write(&mut self, work: Work, outcome: &mut Outcome) {
        let timestamps: Vec<Timestamp> = work.commands.iter().map(|c| c.commit_ts).collect();
        if self.committed_to.is_some() {
            // Left by an earlier turn, on a full disk.
            self.apply(outcome);
            if outcome.blocked {
                let error = storage::Error::DiskFull("no space to apply commits".to_owned());
                outcome.refused = Some((timestamps, error.into()));
                return;
            }
        }
        if outcome.failure.is_some() {
            return;
        }
        if let Err(error) = self.remove_tombstones(&work.tombstones) {
            outcome.failure = Some(error.into());
            return;
        }
        match self.append(work.commands) {
            Ok(()) => {}
            Err(AppendError::Failed(error)) => outcome.failure = Some(error),
            Err(AppendError::Refused(error)) => {
                outcome.refused = Some((timestamps, error.into()));
                if let Err(error) = self.start_anew() {
                    outcome.failure = Some(error);
                }
            }
        }
    }

    /// Proposes, and carries out what the group asks for until it is silent.
    fn append(&mut self, commands: Vec<Command>) -> std::result::Result<(), AppendError> {
        if !self.group.is_leader() {
            self.group.campaign().map_err(AppendError::Failed)?;
        }
        if !commands.is_empty() {
            let count = commands.len();
            let encoded: Vec<Bytes> = commands.iter().map(|c| c.encode().into()).collect();
            let bytes: usize = encoded.iter().map(Bytes::len).sum();
            let first = self.group.propose(encoded).ok_or_else(|| {
                AppendError::Failed(Error::internal("a group of one voter does not lead itself"))
            })?;
            let positions = (first.index..).map(|index| Position {
                index,
                term: first.term,
            });
            self.proposed.extend(positions.zip(commands));
            self.metrics.batch_commits.record(count as f64);
            self.metrics.batch_bytes.record(bytes as f64);
        }
        let mut written = false;
        while self.group.has_effects() {
            let mut batch = WriteBatch::default();
            let effects = self.group.effects(&mut batch);
            debug_assert!(effects.messages.is_empty() && effects.snapshot.is_none());
            if !batch.is_empty() {
                // Applying writes about as much again.
                batch.promised_bytes = batch.bytes();
                self.engine.write(batch).map_err(|error| match error {
                    storage::Error::DiskFull(_) if !written => AppendError::Refused(error),
                    error => AppendError::Failed(error.into()),
                })?;
                written = true;
            }
            if effects.must_sync && !self.skip_sync {
                self.sync().map_err(AppendError::Failed)?;
            }
            let persisted = self.group.persisted();
            for entry in persisted.committed {
                self.committed_to = Some(entry.position);
                if let Some(command) = self.command_of(entry).map_err(AppendError::Failed)? {
                    self.committed.push(command);
                }
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        let started = self.clock.monotonic_nanos();
        // Whatever a failed sync says of its reason: nobody knows what is on disk now.
        self.engine.sync()?;
        let took = self.clock.monotonic_nanos().saturating_sub(started);
        self.metrics.syncs.increment(1);
        self.metrics.sync_seconds.record(seconds(took));
        Ok(())
    }

    fn command_of(&mut self, entry: LogEntry) -> Result<Option<Command>> {
        while let Some((position, command)) = self.proposed.pop_front() {
            if position == entry.position {
                return Ok(Some(command));
            }
            if position.index > entry.position.index {
                self.proposed.push_front((position, command));
                break;
            }
        }
        if entry.data.is_empty() {
            return Ok(None);
        }
        Command::decode(&entry.data).map(Some)
    }

    /// The second half: applies all that is committed, then the applied position in one batch with
    /// the last of it.
    fn apply(&mut self, outcome: &mut Outcome) {
        if outcome.blocked || outcome.failure.is_some() {
            return;
        }
        let Some(position) = self.committed_to else {
            return;
        };
        let started = self.clock.monotonic_nanos();
        match self.write_applied(position) {
            Ok(()) => {}
            Err(storage::Error::DiskFull(_)) => {
                outcome.blocked = true;
                return;
            }
            Err(error) => {
                outcome.failure = Some(error.into());
                return;
            }
        }
        self.committed_to = None;
        outcome
            .done
            .extend(self.committed.drain(..).map(|command| command.commit_ts));
        let took = self.clock.monotonic_nanos().saturating_sub(started);
        self.metrics.apply_seconds.record(seconds(took));
        self.metrics.applied_index.set(position.index as f64);
        self.metrics.log_bytes.set(self.group.log().bytes() as f64);
    }

    fn write_applied(&mut self, position: Position) -> storage::Result<()> {
        let mut batch = WriteBatch::default();
        let small = self.batch_writes.saturating_mul(2);
        let is_large = |command: &Command| command.writes.len() > small;
        for group in self.committed.chunk_by(|a, b| !is_large(a) && !is_large(b)) {
            match group {
                [command] if is_large(command) => {
                    for part in command.writes.chunks(self.batch_writes) {
                        if !batch.is_empty() {
                            self.write_promised(std::mem::take(&mut batch))?;
                        }
                        mvcc::apply_sorted(&*self.engine, &mut batch, part, command.commit_ts)?;
                    }
                }
                _ => {
                    let mut applier = Applier::new(&*self.engine, &mut batch);
                    for command in group {
                        for (key, value) in &command.writes {
                            applier.write(key, value.as_ref(), command.commit_ts)?;
                        }
                    }
                }
            }
        }
        let newest = self.committed.last().map(|command| command.commit_ts);
        let commit_ts = self.commit_ts.max(newest.unwrap_or_default());
        let applied = Applied {
            position,
            commit_ts,
        };
        let record = self.group.put_applied(applied, &mut batch)?;
        self.write_promised(batch)?;
        self.group.applied(record);
        self.commit_ts = commit_ts;
        Ok(())
    }

    /// Writes effects of log entries: of what is committed, so a part of the disk is kept for it.
    fn write_promised(&self, mut batch: WriteBatch) -> storage::Result<()> {
        batch.keeps_promise = true;
        self.engine.write(batch)
    }

    /// In a batch of their own, before later writes of the same keys.
    fn remove_tombstones(&mut self, tombstones: &[Tombstone]) -> storage::Result<()> {
        if tombstones.is_empty() {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        let removed = remove_tombstones(&*self.engine, &mut batch, tombstones)?;
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

    /// Forgets proposals whose entries could not be written.
    fn start_anew(&mut self) -> Result<()> {
        self.proposed.clear();
        let log = load(&*self.engine, self.group_id)?;
        self.group = Group::new(self.replica, log, self.options)?;
        Ok(())
    }
}

fn load(engine: &dyn Engine, group: GroupId) -> Result<LogStore> {
    LogStore::load(group, engine)?
        .ok_or_else(|| Error::corrupt(format!("the store has no records of its group {}", group.0)))
}

/// Drives the writer until the store closes or fails.
pub(crate) async fn run(mut writer: LogWriter, pipeline: Arc<Pipeline>, clock: Arc<dyn Clock>) {
    let end = End(Arc::clone(&pipeline));
    while let Some(work) = pipeline.next_work().await {
        let mut blocked = turn(&mut writer, work, &pipeline, &*clock).await;
        while blocked && !pipeline.is_closing() {
            clock.sleep(FULL_DISK_PAUSE).await;
            let work = pipeline.take_work();
            blocked = turn(&mut writer, work, &pipeline, &*clock).await;
        }
    }
    // Nothing new was acknowledged since the last sync, but a clean stop saves the replay.
    if let Err(error) = writer.engine.sync() {
        tracing::warn!(%error, "the last sync of the store failed");
    }
    // The engine first: who waits for the end may want to open it again.
    drop(writer);
    drop(end);
}

/// Says that the writer is gone, also if a broken assertion ends it: nobody may wait for ever.
struct End(Arc<Pipeline>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.writer_ended();
    }
}

/// One turn, and tells the committers. Returns whether the writer is blocked.
async fn turn(writer: &mut LogWriter, work: Work, pipeline: &Pipeline, clock: &dyn Clock) -> bool {
    let mut outcome = Outcome::default();
    writer.write(work, &mut outcome);
    breathe().await;
    writer.apply(&mut outcome);
    breathe().await;
    let now = clock.monotonic_nanos();
    if !outcome.done.is_empty() {
        pipeline.complete(&outcome.done, now);
    }
    if let Some((commits, error)) = outcome.refused {
        pipeline.refuse(&commits, &error, now);
    }
    if let Some(error) = outcome.failure {
        pipeline.fail(error);
    }
    outcome.blocked
}

/// Lets others run between the parts of a turn, where there is one thread for all; on a thread of its
/// own it costs some nanoseconds. The sessions of a real node run there, too, so the simulator must.
async fn breathe() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
