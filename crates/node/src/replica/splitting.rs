//! A shard becomes two: what sessions see of it.
//!
//! ```text
//!   begin_split ──► queued behind all commits that were sequenced before; later ones that would write
//!        │          keys of the right shard wait
//!        ▼
//!   the loop takes it through the log; when it is applied here:
//!        the right replica is there, without a lease ──► split_done: this one holds less keys
//!        ▼
//!   the right group's first entry is committed: its lease begins
//! ```
//!
//! # Why it is safe
//! **No commit is applied on the wrong side.** A command of the left shard's log that comes after the split writes
//! keys of the left shard only: who was sequenced before the split is before it in the log, and who comes
//! after it waits here until the split is applied or known to be lost. A later leader sequences nothing before it has
//! applied all of the log.
//!
//! **The right shard's leader cannot be replaced while the left lease stands.** All replicas are born in
//! the term of the split's entry, with their vote given to the replica that proposed it, and know it as their leader.
//! So who supports its store neither votes against it nor stands for election, as for any other leader. A replica
//! that does not apply the split is made by a leader's message only, and knows that leader from its first record
//! on; a store on which an older replica of the left shard still holds the keys makes none at all. The new lease itself
//! is granted by the ordinary rule: once a majority has acknowledged an entry of the term.
//!
//! **The right lease gives no timestamp that is too low.** Two cases. The store that led the left shard leads the
//! right one: its clock is above every commit it gave and every read it served, and it serves none of these
//! keys under the left lease once the right replica may commit, because every read looks at the span again after it has
//! looked at the data. Another store leads it: then a majority has withdrawn its support of the first store, after
//! the end of all leases that stood on it, and the clocks in their votes say so.
//!
//! **Locks go along.** The lock table is the store's, and its keys stay where they are. A lock counts under the lease
//! that granted it: the right group's first lease has the same term and the same epoch as the left lease under which
//! it was split, and no other replica can have held one before. So the same `LeaseId` says that the same store has
//! guarded these keys all the time. If another store leads the right shard, the lease is another one, and the
//! commit is refused (40001).

use super::errors::shutting_down;
use super::{Replica, Request, State};
use crate::inbox::Proposal;
use crate::shard_server::{Failure, Refusal};
use consensus::{Command, Membership, ReplicaId, Split};
use futures::channel::oneshot;
use sharding::{ShardDescriptor, ShardId};
use std::sync::Arc;
use txn::kv::Key;
use types::{Error, Result, SqlState, Timestamp};

/// A split that is on its way through the log.
pub(super) struct Splitting {
    /// The first key of the right shard.
    at: Key,
    reply: oneshot::Sender<Result<()>>,
    /// Commits that wait for what becomes of it. Dropped: look again.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Replica {
    /// Whether `key` lies in this shard.
    pub(crate) fn holds_key(&self, key: &[u8]) -> bool {
        self.descriptor.read().holds(key)
    }

    /// Whether all keys from `start` to below `end` lie in this shard.
    pub(crate) fn holds_span(&self, start: &[u8], end: &[u8]) -> bool {
        let descriptor = self.descriptor.read();
        descriptor.holds(start) && descriptor.end.as_ref().is_none_or(|last| end <= &last[..])
    }

    /// Whether all that a commit writes and has to validate lies in this shard.
    pub(super) fn holds_commit(&self, request: &Request) -> bool {
        let descriptor = self.descriptor.read();
        let written = request.ends();
        let ends_inside = |end: &Key| descriptor.end.as_ref().is_none_or(|last| end <= last);
        written.is_none_or(|(first, last)| descriptor.holds(first) && descriptor.holds(last))
            && request
                .read_spans
                .iter()
                .all(|span| descriptor.holds(&span.start) && ends_inside(&span.end))
    }

    /// Queues the split of this shard before `at`; the new shard is called `right`. The answer comes once it is
    /// applied here or will not be; it is cancelled if nobody knows, because the lease has moved.
    pub(crate) fn begin_split(
        &self,
        at: Key,
        right: ShardId,
        now: impl FnOnce() -> Timestamp,
    ) -> std::result::Result<oneshot::Receiver<Result<()>>, Failure> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return Err(shutting_down().into());
        }
        let Some(lease) = state.lease else {
            return Err(self.not_holder());
        };
        if state.split.is_some() {
            return Err(not_split(self.shard, "it is being split already").into());
        }
        let Some((left, right)) = self.descriptor().split(at.clone(), right) else {
            return Err(Failure::Refused(Refusal::Mismatch {
                newer: vec![(*self.descriptor()).clone()],
            }));
        };
        let floor = now();
        if floor > self.lease_end() {
            return Err(self.not_holder());
        }
        state.split = Some(Splitting {
            at,
            reply,
            waiting: Vec::new(),
        });
        self.shared.inbox.propose(Proposal {
            shard: self.shard,
            lease,
            command: Command::Split(Box::new(Split {
                floor,
                // The loop knows them.
                leader: ReplicaId(0),
                membership: Membership::default(),
                left: encoded(&left),
                right: encoded(&right),
            })),
        });
        Ok(answer)
    }

    /// A split is applied: this is the left shard from now on. The right one must be there already.
    pub(crate) fn split_done(&self, left: ShardDescriptor) {
        let mut state = self.state.lock();
        *self.descriptor.write() = Arc::new(left);
        if let Some(splitting) = state.split.take() {
            let _ = splitting.reply.send(Ok(()));
        }
    }

    /// The split in hand was not made, or nobody knows.
    pub(crate) fn split_failed(&self, error: &Error) {
        let splitting = self.state.lock().split.take();
        if let Some(splitting) = splitting {
            let _ = splitting.reply.send(Err(error.clone()));
        }
    }

    /// If this replica has just begun and will have its first lease in a moment: until it is told, or dropped.
    pub(crate) fn await_lease(&self) -> Option<oneshot::Receiver<()>> {
        self.wait_for_lease(&mut self.state.lock())
    }

    pub(super) fn wait_for_lease(&self, state: &mut State) -> Option<oneshot::Receiver<()>> {
        let leads = self.leader() == Some(self.shared.store);
        if state.lease.is_some() || !state.is_new || !leads || state.closed.is_some() {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        state.waiting.push(sender);
        Some(receiver)
    }
}

impl State {
    /// If `request` has to wait for what becomes of a split: until the receiver is told, or dropped.
    pub(super) fn must_wait(&mut self, request: &Request) -> Option<oneshot::Receiver<()>> {
        let splitting = self.split.as_mut()?;
        let (_, last) = request.ends()?;
        if *last < splitting.at {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        splitting.waiting.push(sender);
        Some(receiver)
    }

    /// The lease has changed: who waits looks again, and nobody knows what becomes of a split.
    pub(super) fn end_waits(&mut self) {
        self.waiting.clear();
        self.split = None;
    }
}

pub(crate) fn encoded(descriptor: &ShardDescriptor) -> bytes::Bytes {
    let mut out = Vec::new();
    descriptor.put(&mut out);
    out.into()
}

pub(crate) fn not_split(shard: ShardId, why: &str) -> Error {
    Error::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("shard {} cannot be split now: {why}", shard.0),
    )
    .hint("Try again in a moment.")
}
