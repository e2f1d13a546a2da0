//! Commits.
//!
//! All writes of a transaction must lie in one shard, whose lease holder then commits them in one step. The
//! transaction may hold locks elsewhere (a table's, in the system shard; a referenced row's): those stores
//! are asked just before the commit whether the locks still stand, and told of the end after it.
//!
//! # What the question is worth
//! A lock stands as long as the lease under which it was granted. If the lease is still the same when it is
//! asked for, no conflicting lock can have been granted until then, under this lease or another. What
//! remains is the way from that answer to the commit: if the other shard's lease moves, *and* its new holder
//! grants a conflicting lock, *and* that transaction commits, all while one request travels, then both
//! commit. A lease outlives its last confirmation by seconds, and a store that this one no longer reaches keeps its
//! locks for a second (`rpc::service`), so that takes a request which is delayed for as long. A bound on the commit's timestamp, the end of the foreign lease, would close the gap.
//!
//! # Unknown outcomes
//! **Guarantee:** if the connection to the lease holder breaks after the request may have arrived, the answer is
//! 40003, and nothing is tried again: the commit may be done or not. Every other error means that it
//! is not done. A commit names its transaction, so a later version can ask the shard's new lease holder what
//! became of it.
//!
//! # Who waits
//! A commit with a part on another node runs as a task of its own, so that a session which goes away leaves
//! no locks behind and frees none before the outcome is known. One that is all local needs no task: the
//! store takes the same care.

use super::asking::{Asked, Shared, Target};
use super::search::Search;
use super::touched::{Touch, Touches, stores};
use crate::shard_server::{Answer, Failure, LeaseId, Refusal};
use futures::channel::oneshot;
use futures::future::join_all;
use sharding::{Route, Router, ShardDescriptor, ShardId};
use smallvec::SmallVec;
use std::sync::Arc;
use txn::kv::{CommitRequest, Committed, Span, TxnId};
use types::{Error, MaybeReady, Result, SqlState, StoreId};

/// Locks are gone without the transaction's doing.
pub(super) fn locks_lost(detail: impl Into<String>) -> Error {
    Error::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access: the transaction has lost its locks",
    )
    .detail(detail)
    .hint("The transaction might succeed if retried.")
}

fn unknown_outcome(detail: impl Into<String>) -> Error {
    Error::new(
        SqlState::STATEMENT_COMPLETION_UNKNOWN,
        "it is unknown whether the transaction is committed",
    )
    .detail(detail)
}

/// Where a commit goes.
struct Plan<'r> {
    route: Route<'r>,
    /// Where the locks in the written shard are, if there are any.
    locked: Option<(StoreId, LeaseId)>,
    /// The locks in other shards.
    elsewhere: Elsewhere,
}

type Elsewhere = SmallVec<[(Touch, LeaseId); 2]>;

impl Shared {
    pub(super) fn commit(
        self: &Arc<Self>,
        request: CommitRequest,
    ) -> MaybeReady<Result<Committed>> {
        let txn = request.txn;
        let touches = self.touched.of(txn);
        let router = self.router.load();
        let plan = match plan(&router, &request, &touches) {
            Ok(plan) => plan,
            Err(error) => {
                self.unlock_all(txn);
                return MaybeReady::ready(Err(error));
            }
        };
        let shard = plan.route.shard.id;
        let elsewhere = |touch: &Touch| touch.store != self.store || touch.shard != shard;
        if plan.route.holder != Some(self.store) || touches.iter().any(elsewhere) {
            return self.commit_as_task(request, touches);
        }
        // The locks go with the commit.
        self.touched.take(txn);
        let lease = plan.locked.map(|(_, lease)| lease);
        // With locks a refusal is final, without it another store is asked.
        let kept = lease.is_none().then(|| copy(&request));
        match self.local.commit(shard, self.store, request, lease) {
            MaybeReady::Ready(Some(Ok(committed))) => MaybeReady::ready(Ok(committed)),
            MaybeReady::Ready(Some(Err(Failure::Failed(error)))) => MaybeReady::ready(Err(error)),
            answer => {
                let asked = Asked::new(self.store, &plan.route);
                let end = Arc::clone(self).follow(txn, asked, answer, kept);
                MaybeReady::pending(end)
            }
        }
    }

    /// A commit of this store's own, to its end.
    async fn follow(
        self: Arc<Self>,
        txn: TxnId,
        asked: Asked,
        answer: Answer<Committed>,
        kept: Option<CommitRequest>,
    ) -> Result<Committed> {
        let failure = match answer.await {
            Ok(committed) => return Ok(committed),
            Err(failure) => failure,
        };
        if let Failure::Refused(_) = failure {
            self.local.unlock_all(txn);
            self.learn_from(failure.clone(), &asked, &mut Search::new(self.patience))?;
            if let Some(request) = kept {
                return self.commit_as_task(request, Touches::new()).await;
            }
        }
        Err(final_error(failure, asked.shard.id))
    }

    fn commit_as_task(
        self: &Arc<Self>,
        request: CommitRequest,
        touches: Touches,
    ) -> MaybeReady<Result<Committed>> {
        let (sender, outcome) = oneshot::channel();
        let shared = Arc::clone(self);
        let task = async move {
            let txn = request.txn;
            let (outcome, owner) = shared.commit_somewhere(request, &touches).await;
            shared.touched.take(txn);
            for store in stores(&touches) {
                if Some(store) != owner {
                    shared.server(store).unlock_all(txn);
                }
            }
            // A session that is gone has committed all the same.
            let _ = sender.send(outcome);
        };
        self.env.spawn.spawn("commit", Box::pin(task));
        MaybeReady::pending(async move {
            outcome
                .await
                .unwrap_or_else(|_| Err(unknown_outcome("The node is shutting down.")))
        })
    }

    /// The outcome, and the store that releases the transaction's locks itself.
    async fn commit_somewhere(
        self: &Arc<Self>,
        request: CommitRequest,
        touches: &Touches,
    ) -> (Result<Committed>, Option<StoreId>) {
        let mut search = Search::new(self.patience);
        let mut request = Some(request);
        loop {
            let attempt = match self.attempt(&mut request, touches, &mut search).await {
                Ok(attempt) => attempt,
                Err(error) => return (Err(error), None),
            };
            let store = attempt.asked.store;
            let answer = self.server(store).commit(
                attempt.asked.shard.id,
                self.store,
                attempt.request,
                attempt.lease,
            );
            match answer.await {
                Ok(committed) => {
                    let router = self.router.load();
                    router.believe(attempt.asked.shard.id, store);
                    return (Ok(committed), Some(store));
                }
                Err(failure @ Failure::Unreachable(true)) => {
                    return (
                        Err(final_error(failure, attempt.asked.shard.id)),
                        Some(store),
                    );
                }
                Err(failure) if attempt.lease.is_some() => {
                    return (Err(final_error(failure, attempt.asked.shard.id)), None);
                }
                Err(failure) => {
                    if let Err(error) = self.learn_from(failure, &attempt.asked, &mut search) {
                        return (Err(error), None);
                    }
                }
            }
        }
    }

    /// What to send where next, with the locks in other shards confirmed. Takes the request if there is only one
    /// attempt, else a copy.
    async fn attempt(
        self: &Arc<Self>,
        kept: &mut Option<CommitRequest>,
        touches: &Touches,
        search: &mut Search,
    ) -> Result<Attempt> {
        loop {
            let Some(request) = kept.as_ref() else {
                return Err(Error::internal("a commit under locks was tried twice"));
            };
            let txn = request.txn;
            let key = request.writes.first().map(|(key, _)| key.clone());
            let (mut asked, locked, elsewhere) = {
                let router = self.router.load();
                let plan = plan(&router, request, touches)?;
                let store = plan.locked.map_or(self.store, |(store, _)| store);
                let asked = Asked::new(store, &plan.route);
                (asked, plan.locked, plan.elsewhere)
            };
            if locked.is_none() {
                let found = self
                    .find(&Target::At(key.unwrap_or_default()), search)
                    .await?;
                if found.shard != asked.shard {
                    // The map has changed meanwhile.
                    continue;
                }
                asked = found;
            }
            self.confirm(txn, &elsewhere).await?;
            let request = match locked {
                Some(_) => kept.take(),
                None => kept.as_ref().map(copy),
            };
            if let Some(request) = request {
                return Ok(Attempt {
                    asked,
                    request,
                    lease: locked.map(|(_, lease)| lease),
                });
            }
        }
    }

    /// Whether the locks in other shards still stand.
    async fn confirm(&self, txn: TxnId, elsewhere: &Elsewhere) -> Result<()> {
        let ask = |(touch, lease): &(Touch, LeaseId)| {
            let server = self.server(touch.store);
            server.still_locked(touch.shard, txn, *lease)
        };
        let answers = join_all(elsewhere.iter().map(ask)).await;
        for ((touch, _), answer) in elsewhere.iter().zip(answers) {
            match answer {
                Ok(true) => {}
                Ok(false) => return Err(final_error(lease_moved(), touch.shard)),
                Err(Failure::Unreachable(_)) => {
                    return Err(final_error(Failure::Unreachable(false), touch.shard));
                }
                Err(failure) => return Err(final_error(failure, touch.shard)),
            }
        }
        Ok(())
    }
}

struct Attempt {
    asked: Asked,
    request: CommitRequest,
    lease: Option<LeaseId>,
}

fn plan<'r>(router: &'r Router, request: &CommitRequest, touches: &Touches) -> Result<Plan<'r>> {
    let (Some((first, _)), Some((last, _))) = (request.writes.first(), request.writes.last())
    else {
        return Err(Error::internal("a commit without writes"));
    };
    let route = router.route(first);
    if !route.shard.holds(last) {
        return Err(several_shards(
            "transactions that write several shards are not supported yet",
        ));
    }
    if !request
        .read_spans
        .iter()
        .all(|span| lies_in(span, route.shard))
    {
        return Err(several_shards(
            "SERIALIZABLE transactions that read other shards than they write are not supported yet",
        ));
    }
    let mut plan = Plan {
        route,
        locked: None,
        elsewhere: Elsewhere::new(),
    };
    for touch in touches {
        let Some(lease) = touch.lease else {
            continue;
        };
        let same = router.shard(touch.shard);
        if same.is_some_and(|now| now.span_since == touch.span_since) {
            plan.count(*touch, lease)?;
            continue;
        }
        // The keys went to several shards, and the locks with them as long as the same store leads them under the
        // same lease: its answer will tell.
        let heirs = router.heirs(touch.shard, touch.span_since);
        if heirs.is_empty() {
            return Err(locks_lost(format!(
                "Shard {} was split or merged.",
                touch.shard.0
            )));
        }
        for heir in heirs {
            let shard = heir.shard.id;
            plan.count(Touch { shard, ..*touch }, lease)?;
        }
    }
    Ok(plan)
}

impl Plan<'_> {
    fn count(&mut self, touch: Touch, lease: LeaseId) -> Result<()> {
        if touch.shard != self.route.shard.id {
            self.elsewhere.push((touch, lease));
            return Ok(());
        }
        let (store, known) = *self.locked.get_or_insert((touch.store, lease));
        match store == touch.store && known.keeps_locks_of(lease) {
            true => Ok(()),
            false => Err(final_error(lease_moved(), touch.shard)),
        }
    }
}

fn lies_in(span: &Span, shard: &ShardDescriptor) -> bool {
    let ends_inside = shard.end.as_ref().is_none_or(|end| span.end <= *end);
    span.start >= shard.start && ends_inside
}

fn several_shards(message: &str) -> Error {
    Error::new(SqlState::FEATURE_NOT_SUPPORTED, message)
        .hint(
        "Split the transaction so that each part writes rows of one shard. Nodes that are started with --shard-max-bytes 0 \
         split no shard by themselves.",
    )
}

fn lease_moved() -> Failure {
    Failure::Refused(Refusal::NotLeaseHolder { hint: None })
}

/// The error of a commit that is not tried again.
fn final_error(failure: Failure, shard: ShardId) -> Error {
    match failure {
        Failure::Failed(error) => error,
        Failure::Unreachable(true) => unknown_outcome(format!(
            "The connection to the lease holder of shard {} broke before it answered.",
            shard.0
        )),
        Failure::Unreachable(false) => locks_lost(format!(
            "The store that held them in shard {} is out of reach.",
            shard.0
        )),
        Failure::Refused(_) => locks_lost(format!("The lease of shard {} has moved.", shard.0)),
    }
}

fn copy(request: &CommitRequest) -> CommitRequest {
    CommitRequest {
        txn: request.txn,
        read_at: request.read_at,
        read_spans: request.read_spans.clone(),
        writes: request.writes.clone(),
    }
}
