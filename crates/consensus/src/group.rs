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
use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{Config, RawNode, StateRole};
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
/// Messages in flight to one follower.
const MESSAGES_IN_FLIGHT: usize = 256;

/// A state of the state machine that a replica can start from, instead of the log before it. Its
/// content is streamed by the driver from an engine snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub position: Position,
    pub commit_ts: Timestamp,
}

/// What the driver must do now. See the module for the order.
#[derive(Debug, Default)]
pub struct Effects {
    /// To send at once.
    pub messages: Vec<Message>,
    /// Whether the batch has to be durable before [`Group::persisted`].
    pub must_sync: bool,
    /// A snapshot that the leader sent, to install before anything else.
    pub snapshot: Option<Snapshot>,
}

/// What [`Group::persisted`] found out.
#[derive(Debug, Default)]
pub struct Persisted {
    pub messages: Vec<Message>,
    pub committed: Vec<LogEntry>,
}

/// See the module.
pub struct Group {
    id: ReplicaId,
    node: RawNode<LogStore>,
    options: GroupOptions,
    /// Between `effects` and `persisted`.
    pending: Option<Pending>,
}

struct Pending {
    ready: raft::Ready,
    entries: Vec<Entry>,
    hard_state: Option<HardState>,
    committed: Vec<Entry>,
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
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, log, &logger).map_err(broken)?;
        Ok(Group {
            id,
            node,
            options,
            pending: None,
        })
    }

    /// Stands for election. Alone it wins, with the next `persisted`.
    pub fn campaign(&mut self) -> Result<()> {
        self.node.campaign().map_err(broken)
    }

    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    pub fn term(&self) -> u64 {
        self.node.raft.term
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

    /// A message from another replica. Malformed or stale ones are dropped by raft-rs.
    pub fn step(&mut self, message: Message) {
        let _ = self.node.step(message);
    }

    pub fn has_effects(&self) -> bool {
        self.node.has_ready()
    }

    /// What to do now; records to write go into `batch`. Each call must be followed by `persisted`.
    pub fn effects(&mut self, batch: &mut WriteBatch) -> Effects {
        assert!(self.pending.is_none(), "effects of a group taken twice");
        let mut ready = self.node.ready();
        let mut effects = Effects {
            messages: ready.take_messages(),
            must_sync: ready.must_sync(),
            snapshot: None,
        };
        let meta = ready.snapshot().get_metadata();
        if meta.index > 0 {
            effects.snapshot = Some(Snapshot {
                position: Position {
                    index: meta.index,
                    term: meta.term,
                },
                commit_ts: Timestamp::ZERO,
            });
        }
        let log = self.node.store();
        let hard_state = ready
            .hs()
            .map(|state| HardState {
                term: state.term,
                vote: state.vote,
            })
            .filter(|state| *state != log.hard_state());
        if let Some(state) = hard_state {
            log.put_hard_state(state, batch);
        }
        let entries = ready.take_entries();
        log.put_entries(&entries, batch);
        let committed = ready.take_committed_entries();
        self.pending = Some(Pending {
            ready,
            entries,
            hard_state,
            committed,
        });
        effects
    }

    /// The batch of the last `effects` is written, and durable if that was asked for.
    pub fn persisted(&mut self) -> Persisted {
        let Some(mut pending) = self.pending.take() else {
            return Persisted::default();
        };
        let log = self.node.mut_store();
        log.appended(pending.entries);
        if let Some(state) = pending.hard_state {
            log.hard_state_written(state);
        }
        let mut messages = pending.ready.take_persisted_messages();
        let mut light = self.node.advance_append(pending.ready);
        messages.extend(light.take_messages());
        let committed = pending
            .committed
            .into_iter()
            .chain(light.take_committed_entries());
        Persisted {
            messages,
            committed: committed
                .map(|entry| {
                    debug_assert_eq!(entry.get_entry_type(), EntryType::EntryNormal);
                    LogEntry {
                        position: Position {
                            index: entry.index,
                            term: entry.term,
                        },
                        data: entry.data,
                    }
                })
                .collect(),
        }
    }

    /// Puts the applied state into the batch that applies, together with the truncation of the log
    /// if it is over its bounds. After the batch is written the return value goes to `applied`.
    pub fn put_applied(&self, applied: Applied, batch: &mut WriteBatch) -> AppliedRecord {
        let log = self.node.store();
        log.put_applied(applied, batch);
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
        AppliedRecord { applied, truncated }
    }

    pub fn applied(&mut self, record: AppliedRecord) {
        let index = record.applied.position.index;
        let log = self.node.mut_store();
        log.applied_written(record.applied);
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

fn broken(error: raft::Error) -> Error {
    Error::internal(format!("raft: {error}"))
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
