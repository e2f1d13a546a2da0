//! Carries out changes of a shard's members and of its lease, on the store that leads it.
//!
//! A replica is added in steps, each of which the group must have applied before the next is proposed:
//!
//! ```text
//!   learner added ──► it has the log (perhaps by a snapshot) ──► it votes ──► another one leaves
//! ```
//! So a shard never counts on a replica that is not up to date. A sequence that ends half way (its store dies,
//! or leads no more) leaves a learner behind, which the next plan either promotes or removes, or a voter too many.
//!
//! Whoever leaves does so in a step of its own. Were it the same step in which another one becomes a voter, the members
//! would be joint for a moment, and the outgoing ones would have to agree to its end: among them the one that has
//! just gone, and without it perhaps too few.
//!
//! Whoever leads does not leave. When the others know that it is gone, they are free to elect another one, and so it must
//! not hold a lease by then: a leader that finds itself removed was elected with that entry in its log, and has no lease
//! before it has applied it.

use crate::inbox::{Inspection, Request};
use crate::registry::Registry;
use consensus::{Change, ReplicaId};
use futures::channel::oneshot;
use sharding::{Replica, ShardDescriptor, ShardId};
use std::sync::Arc;
use std::time::Duration;
use types::env::Clock;
use types::{Error, Result, SqlState, StoreId};

/// Between two looks at how far the group is.
const POLL: Duration = Duration::from_millis(20);
/// A step that takes longer than this without progress has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// A lease that has not moved in this time does not: the handover is given up after a second. Whoever waits longer
/// keeps the shard from what may be more urgent.
const LEASE_PATIENCE: Duration = Duration::from_secs(3);
/// How often a step is begun that others come between.
const TRIES: u32 = 10;
/// Entries that a learner may lack when it becomes a voter: what it gets with the next messages.
const CAUGHT_UP_ENTRIES: u64 = 64;

/// See the module.
pub(crate) struct Mover {
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    store: StoreId,
}

impl Mover {
    pub(crate) fn new(registry: Arc<Registry>, clock: Arc<dyn Clock>, store: StoreId) -> Self {
        Mover {
            registry,
            clock,
            store,
        }
    }

    /// Gives the shard a replica on `to`, in the place of that on `from` if one is named. `planned`: the generation of
    /// the shard by which that was decided.
    pub(crate) async fn add(
        &self,
        shard: ShardId,
        planned: u64,
        to: StoreId,
        from: Option<StoreId>,
    ) -> Result<()> {
        self.check_plan(shard, planned, from).await?;
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_to_add(shard, to, from).await {
                // The shard was split meanwhile; what is done is found.
                Err(error) if error.is_retryable() && tries < TRIES => {
                    self.clock.sleep(POLL).await;
                }
                result => return result,
            }
        }
    }

    async fn try_to_add(&self, shard: ShardId, to: StoreId, from: Option<StoreId>) -> Result<()> {
        let seen = self.inspect(shard).await?;
        let replica = match seen.descriptor.replica_on(to) {
            // Left by an earlier attempt.
            Some(replica) => replica,
            None => self.add_learner(shard, to, &seen).await?,
        };
        let id = ReplicaId(replica.id);
        self.until_caught_up(shard, id).await?;
        let seen = self.inspect(shard).await?;
        if !seen.membership.voters.contains(&id) {
            let voter = Change::AddVoter(id);
            self.change(shard, vec![voter], seen.descriptor).await?;
        }
        match from {
            Some(from) => self.take_away(shard, from).await,
            None => Ok(()),
        }
    }

    /// Refuses what was decided before something else happened to the shard: a replica that was a learner then may be a
    /// voter now that the shard cannot do without.
    async fn check_plan(&self, shard: ShardId, planned: u64, from: Option<StoreId>) -> Result<()> {
        let seen = self.inspect(shard).await?;
        if seen.descriptor.generation != planned {
            return Err(not_now("its replicas have changed meanwhile".to_owned()));
        }
        if from == Some(self.store) {
            return Err(not_now("its leader goes last".to_owned()));
        }
        Ok(())
    }

    async fn add_learner(&self, shard: ShardId, to: StoreId, seen: &Inspection) -> Result<Replica> {
        let mut descriptor = seen.descriptor.clone();
        let replica = Replica {
            store: to,
            id: descriptor.next_replica,
        };
        descriptor.next_replica += 1;
        descriptor.replicas.push(replica);
        let learner = Change::AddLearner(ReplicaId(replica.id));
        self.change(shard, vec![learner], descriptor).await?;
        Ok(replica)
    }

    /// Removes the replica on `from`. `planned`: as of an addition.
    pub(crate) async fn remove(&self, shard: ShardId, planned: u64, from: StoreId) -> Result<()> {
        self.check_plan(shard, planned, Some(from)).await?;
        self.take_away(shard, from).await
    }

    async fn take_away(&self, shard: ShardId, from: StoreId) -> Result<()> {
        let mut descriptor = self.inspect(shard).await?.descriptor;
        let Some(leaver) = descriptor.replica_on(from) else {
            return Ok(());
        };
        descriptor.replicas.retain(|replica| *replica != leaver);
        let leave = Change::Remove(ReplicaId(leaver.id));
        self.change(shard, vec![leave], descriptor).await
    }

    /// Hands the lease to the replica on `to`, and waits until it leads.
    pub(crate) async fn transfer_lease(&self, shard: ShardId, to: StoreId) -> Result<()> {
        let request = Request::TransferLease { shard, to };
        self.registry.shared.inbox.request(request);
        let mut waited = Duration::ZERO;
        while self.registry.get(shard).and_then(|it| it.leader()) != Some(to) {
            if waited >= LEASE_PATIENCE {
                return Err(not_now(format!("store {to} does not take the lease")));
            }
            self.clock.sleep(POLL).await;
            waited += POLL;
        }
        Ok(())
    }

    /// Makes a change and waits until it is applied and, if it was joint, left.
    async fn change(
        &self,
        shard: ShardId,
        changes: Vec<Change>,
        mut descriptor: ShardDescriptor,
    ) -> Result<()> {
        descriptor.generation += 1;
        let generation = descriptor.generation;
        let (reply, answer) = oneshot::channel();
        self.registry.shared.inbox.request(Request::ChangeMembers {
            shard,
            changes,
            descriptor,
            reply,
        });
        answer.await.unwrap_or_else(|_| Err(gone()))?;
        let mut waited = Duration::ZERO;
        loop {
            let seen = self.inspect(shard).await?;
            if seen.descriptor.generation >= generation && !seen.membership.is_joint() {
                return Ok(());
            }
            self.pause(&mut waited, "its members change").await?;
        }
    }

    async fn until_caught_up(&self, shard: ShardId, id: ReplicaId) -> Result<()> {
        let mut waited = Duration::ZERO;
        let mut best = 0;
        loop {
            let seen = self.inspect(shard).await?;
            let matched = seen.matched.get(&id).copied().unwrap_or(0);
            if matched > 0 && matched + CAUGHT_UP_ENTRIES >= seen.committed {
                return Ok(());
            }
            if matched > best {
                best = matched;
                waited = Duration::ZERO;
            }
            self.pause(&mut waited, "its new replica has the log")
                .await?;
        }
    }

    async fn pause(&self, waited: &mut Duration, what: &str) -> Result<()> {
        if *waited >= PATIENCE {
            return Err(not_now(format!("it took too long until {what}")));
        }
        self.clock.sleep(POLL).await;
        *waited += POLL;
        Ok(())
    }

    /// How a shard that is led here stands.
    pub(crate) async fn inspect(&self, shard: ShardId) -> Result<Inspection> {
        let seen = self.inspect_any(shard).await?;
        if !seen.leads {
            return Err(not_now(format!("store {} does not lead it", self.store)));
        }
        Ok(seen)
    }

    /// The same of one that may be led elsewhere.
    pub(crate) async fn inspect_any(&self, shard: ShardId) -> Result<Inspection> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Inspect { shard, reply };
        self.registry.shared.inbox.request(request);
        answer.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn not_now(why: String) -> Error {
    Error::new(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("the shard's replicas cannot be moved: {why}"),
    )
}

fn gone() -> Error {
    Error::new(SqlState::CANNOT_CONNECT_NOW, "the store is shutting down")
}
