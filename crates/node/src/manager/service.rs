//! What every node answers about the cluster.

use super::Manager;
use super::shards::Split;
use super::system::Addresses;
use super::wire::{Call, ReplicaReport, Reply, Report};
use crate::inbox::Request;
use crate::log_writer::Survey;
use crate::shard_server::Failure;
use bytes::Bytes;
use cluster::rebalance::Move;
use consensus::ReplicaId;
use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::stream::{self, StreamExt};
use membership::service::Intent;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use types::{Result, StoreId};

/// Leases that are handed over at a time: each waits for a round trip and a sync.
const HANDOVERS: usize = 64;
/// How long a node tries to read who belongs to the cluster before it answers without that.
const ROWS_PATIENCE: Duration = Duration::from_secs(1);

impl Manager {
    pub(crate) async fn call(self: Arc<Self>, from: Option<StoreId>, frame: Bytes) -> Bytes {
        let reply = match Call::decode(frame) {
            Some(call) => self.answer(from, call).await,
            None => Reply::Refused("the nodes' versions do not fit together".to_owned()),
        };
        reply.encode()
    }

    async fn answer(&self, from: Option<StoreId>, call: Call) -> Reply {
        let result = match call {
            Call::Join { cluster, addresses } => match self.refusal(cluster, &addresses) {
                Some(why) => return Reply::Refused(why),
                None => self.admit(&addresses).await,
            },
            Call::Directory => self.directory().await,
            // Only members may ask for more.
            _ if from.is_none() => return Reply::Refused("this node is no member".to_owned()),
            Call::Report { since, intent } => {
                if let Some(intent) = intent {
                    self.note_intent(intent);
                }
                Ok(Reply::Report(self.report(since).await))
            }
            Call::Split { at, why } => {
                return match self.order_split(&at, &why).await {
                    Ok(Split { shard, is_new }) => Reply::Split { shard, is_new },
                    Err(error) => Reply::Failed(Failure::Failed(error)),
                };
            }
            Call::SplitShard { shard, at, right } => {
                return match self.split_here(shard, at, right).await {
                    Ok(both) => Reply::Shards(both),
                    Err(failure) => Reply::Failed(failure),
                };
            }
            Call::Measure {
                shard,
                generation,
                start,
                end,
            } => {
                let part = self.measure_part(shard, generation, &start, &end);
                return match part.await {
                    Ok(measured) => Reply::Measured(measured),
                    Err(failure) => Reply::Failed(failure),
                };
            }
            Call::Map => Ok(Reply::Shards(self.known_shards())),
            Call::Move { step, generation } => {
                let carried_out = self.carry_out(step, generation).await;
                carried_out.map(|()| Reply::Done)
            }
            Call::Sum(sum) => self.sum_up(sum).await.map(Reply::Sum),
            Call::Differs { shard, replica } => {
                self.differs(shard, replica);
                Ok(Reply::Done)
            }
        };
        result.unwrap_or_else(|error| Reply::Refused(error.to_string()))
    }

    fn refusal(&self, cluster: Option<u128>, addresses: &Addresses) -> Option<String> {
        if cluster.is_some_and(|cluster| cluster != self.identity.cluster) {
            return Some(format!(
                "this node belongs to cluster {:032x}",
                self.identity.cluster
            ));
        }
        if addresses.rpc.is_empty() {
            return Some("a node must say under which address others reach it".to_owned());
        }
        None
    }

    async fn admit(&self, addresses: &Addresses) -> Result<Reply> {
        let store = self.rows.admit(addresses).await?;
        self.transport.learn(store, &addresses.rpc);
        self.wake.notify_one();
        Ok(Reply::Admitted {
            cluster: self.identity.cluster,
            store,
        })
    }

    async fn directory(&self) -> Result<Reply> {
        // Without a quorum they cannot be read; who asks knows some already then.
        let rows = pin!(self.rows.nodes());
        let nodes = match select(rows, self.env.clock.sleep(ROWS_PATIENCE)).await {
            Either::Left((rows, _)) => rows.unwrap_or_default(),
            Either::Right(_) => Vec::new(),
        };
        Ok(Reply::Directory {
            cluster: self.identity.cluster,
            store: self.identity.store,
            nodes,
            shards: self.gateway.router().map().shards().to_vec(),
        })
    }

    /// How this store stands, and its replicas as far as they have changed since a revision; 0: all.
    pub(crate) async fn report(&self, since: u64) -> Report {
        let (reply, answer) = oneshot::channel();
        let inbox = &self.registry.shared.inbox;
        inbox.request(Request::Survey { since, reply });
        // Without the loop: nothing new, which is true.
        let survey = answer.await.unwrap_or_else(|_| Survey {
            revision: since,
            ..Survey::default()
        });
        Report {
            store: self.identity.store.0,
            draining: self.is_draining(),
            judged: match self.is_in_charge() {
                true => self.members.lock().states().collect(),
                false => Vec::new(),
            },
            used_bytes: self.shards.engine.disk_bytes(),
            health: self.registry.shared.health.report(),
            revision: survey.revision,
            complete: survey.complete,
            replicas: survey.replicas,
            gone: survey.gone,
        }
    }

    /// It takes no new sessions.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || *self.intent.borrow() != Intent::Serve
    }

    pub(super) async fn carry_out(&self, step: Move, generation: u64) -> Result<()> {
        let mover = &self.mover;
        match step {
            Move::AddReplica { shard, to } => mover.add(shard, generation, to, None).await,
            Move::RemoveReplica { shard, from } => mover.remove(shard, generation, from).await,
            Move::MoveReplica { shard, from, to } => {
                mover.add(shard, generation, to, Some(from)).await
            }
            Move::TransferLease { shard, to } => self.mover.transfer_lease(shard, to).await,
        }
    }

    /// Hands all leases to other stores, where there are any.
    pub(crate) async fn give_up_leases(&self) {
        self.draining.store(true, Ordering::Relaxed);
        let replicas = self.report(0).await.replicas.into_iter();
        let leading = replicas.filter(|replica| replica.leads);
        let handed = stream::iter(leading).map(|replica| self.hand_over(replica));
        handed
            .buffer_unordered(HANDOVERS)
            .for_each(|()| std::future::ready(()))
            .await;
    }

    /// Hands the lease of one shard to the store whose replica is most up to date: it can lead at once.
    async fn hand_over(&self, replica: ReplicaReport) {
        let shard = replica.descriptor.id;
        let Ok(seen) = self.mover.inspect(shard).await else {
            return;
        };
        let others = seen.descriptor.replicas.iter();
        let others =
            others.filter(|r| r.store != self.identity.store && replica.voters.contains(&r.id));
        let matched = |id| seen.matched.get(&ReplicaId(id)).copied();
        if let Some(other) = others.max_by_key(|other| matched(other.id))
            && let Err(error) = self.mover.transfer_lease(shard, other.store).await
        {
            tracing::warn!(%error, shard = shard.0, "a lease is not handed over");
        }
    }
}
