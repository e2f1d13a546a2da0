//! Commits at their shard's lease holder: validated, sequenced and queued in one step, or once what is in their way is
//! over.

use super::LocalShards;
use crate::lock_manager::LockManager;
use crate::replica::{Body, Replica, Reply, Request, Submit, not_serializable, unknown_outcome};
use crate::shard_server::{Answer, Failure, LeaseId, Refusal};
use futures::future::{Either, FutureExt, select};
use sharding::ShardId;
use std::sync::Arc;
use std::time::Duration;
use storage::mvcc;
use txn::kv::{Committed, Key, TxnId, Value};
use types::env::BoxFuture;
use types::{Error, MaybeReady, SqlState};

/// How often a SERIALIZABLE commit asks the disk again because others committed faster than it was
/// checked. Each time the part left to check is only what is new.
const VALIDATION_ATTEMPTS: usize = 8;

/// How long a commit, or the question whether its locks stand, waits for a split of the shard, or for a lease that was
/// interrupted: for a round of the log, or two. It is an error afterwards, not a hang, because the shard may have lost
/// its quorum just then.
pub(super) const COMMIT_PATIENCE: Duration = Duration::from_secs(2);

impl LocalShards {
    /// Submits a commit to the shard, or to the one on this store that its keys went to in a split. There the lease is
    /// the same, as the locks are (see `replica/splitting.rs`), so that nobody notices. What is in the shard's log in
    /// parts stays there.
    pub(super) fn submit_to_heir(
        &self,
        shard: ShardId,
        request: Request,
        locked_under: Option<LeaseId>,
    ) -> std::result::Result<Submitted, Failure> {
        let replica = self.replica(shard)?;
        let request = match self.submit(&replica, request, locked_under)? {
            Ok(submitted) => return Ok(submitted),
            Err(elsewhere) => elsewhere,
        };
        let whole = matches!(request.body, Body::Whole(_));
        let written = request.ends().filter(|_| whole);
        let heir = written.and_then(|(first, last)| self.registry.holding(first, last));
        let submitted = match heir {
            Some(heir) => self.submit(&heir, request, locked_under)?,
            None => Err(request),
        };
        submitted.map_err(|_| self.mismatch(&replica))
    }

    /// A commit that waits for a split, or for the lease, to its end.
    async fn commit_after_wait(
        self,
        shard: ShardId,
        mut request: Request,
        locked_under: Option<LeaseId>,
        mut wait: BoxFuture<()>,
    ) -> std::result::Result<Committed, Failure> {
        let deadline = self.clock.monotonic_nanos() + COMMIT_PATIENCE.as_nanos() as u64;
        let locks = Unlock(&self.locks, Some(request.txn));
        let in_parts = match &request.body {
            Body::Parts(parts) => Some(parts.name),
            Body::Whole(_) => None,
        };
        let given_up = |failure| {
            if let (Some(name), Ok(replica)) = (in_parts, self.replica(shard)) {
                replica.abandon_parts(name);
            }
            Err(failure)
        };
        loop {
            let left = deadline.saturating_sub(self.clock.monotonic_nanos());
            let timeout = self.clock.sleep(Duration::from_nanos(left));
            if let Either::Right(_) = select(wait, timeout).await {
                return given_up(Failure::Refused(Refusal::NotLeaseHolder { hint: None }));
            }
            match self.submit_to_heir(shard, request, locked_under) {
                Ok(Submitted::Queued(reply)) => {
                    locks.leave();
                    return outcome(reply).await;
                }
                Ok(Submitted::Wait(again, same)) => (wait, request) = (again, same),
                Err(failure) => return given_up(failure),
            }
        }
    }

    /// `Err`: not all of its keys are the shard's.
    fn submit(
        &self,
        replica: &Arc<Replica>,
        mut request: Request,
        locked_under: Option<LeaseId>,
    ) -> std::result::Result<std::result::Result<Submitted, Request>, Failure> {
        let mut checked = request.read_at;
        for _ in 0..VALIDATION_ATTEMPTS {
            let now = self.clock.monotonic_nanos();
            let submitted =
                replica.submit(request, locked_under, checked, || self.time.now(), now)?;
            match submitted {
                Submit::Queued(reply) => return Ok(Ok(Submitted::Queued(reply))),
                Submit::Wait(wait, same) => {
                    return Ok(Ok(Submitted::Wait(Box::pin(wait.map(drop)), same)));
                }
                Submit::Late(same) => {
                    let wait = self.clone().until_lease_goes_on(Arc::clone(replica));
                    return Ok(Ok(Submitted::Wait(Box::pin(wait), same)));
                }
                Submit::Elsewhere(same) => return Ok(Err(same)),
                Submit::AskDisk(upto, same) => {
                    request = same;
                    let snapshot = self.engine.snapshot();
                    for span in &request.read_spans {
                        let changed = mvcc::span_changed_since(
                            &*snapshot,
                            &span.start,
                            &span.end,
                            request.read_at,
                        );
                        if self.registry.checked(replica, changed)? {
                            return Err(not_serializable().into());
                        }
                    }
                    checked = upto;
                }
            }
        }
        Err(not_serializable().into())
    }

    /// Waits for the outcome of what was submitted, or says why it was not.
    pub(super) fn outcome(
        &self,
        shard: ShardId,
        txn: TxnId,
        locked_under: Option<LeaseId>,
        submitted: std::result::Result<Submitted, Failure>,
    ) -> Answer<Committed> {
        match submitted {
            Ok(Submitted::Queued(reply)) => MaybeReady::pending(outcome(reply)),
            Ok(Submitted::Wait(wait, request)) => {
                let shards = self.clone();
                let committed = shards.commit_after_wait(shard, request, locked_under, wait);
                MaybeReady::pending(committed)
            }
            Err(failure) => {
                if matches!(failure, Failure::Failed(_)) {
                    self.locks.unlock_all([txn]);
                }
                MaybeReady::ready(Err(failure))
            }
        }
    }
}

/// Before anything is proposed: what is in the log must be applicable.
pub(super) fn check_writes(writes: &[(Key, Option<Value>)]) -> std::result::Result<(), Failure> {
    let unfit = |key: &Key| key.is_empty() || key.len() > mvcc::MAX_KEY_BYTES;
    if let Some((key, _)) = writes.iter().find(|(key, _)| unfit(key)) {
        return Err(Error::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            format!(
                "a key of {} bytes is outside of 1 to {} bytes",
                key.len(),
                mvcc::MAX_KEY_BYTES
            ),
        )
        .into());
    }
    Ok(())
}

/// Releases the locks of a commit that is given up before it was queued, also when nobody waits for it any more.
pub(super) struct Unlock<'l>(&'l LockManager, Option<TxnId>);

impl Unlock<'_> {
    /// They go with the commit.
    fn leave(mut self) {
        self.1 = None;
    }
}

impl Drop for Unlock<'_> {
    fn drop(&mut self) {
        self.0.unlock_all(self.1.take());
    }
}

/// What became of a commit that was submitted.
pub(super) enum Submitted {
    Queued(Reply),
    /// Again, after this.
    Wait(BoxFuture<()>, Request),
}

async fn outcome(reply: Reply) -> std::result::Result<Committed, Failure> {
    let outcome = reply.await.unwrap_or_else(|_| {
        let gone = Error::internal("the store's loop is gone");
        Err(unknown_outcome(&gone))
    });
    outcome.map_err(Failure::from)
}
