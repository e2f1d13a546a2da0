//! What every node answers about the cluster.

use super::Manager;
use super::system::Addresses;
use super::wire::{Call, Reply, Report};
use crate::inbox::Request;
use bytes::Bytes;
use cluster::rebalance::Move;
use consensus::ReplicaId;
use futures::channel::oneshot;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use types::{Result, StoreId};

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
            Call::Report => Ok(Reply::Report(self.report().await)),
            Call::Move(step) => self.carry_out(step).await.map(|()| Reply::Done),
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
        Ok(Reply::Directory {
            cluster: self.identity.cluster,
            store: self.identity.store,
            // Without a quorum they cannot be read; who asks knows some already then.
            nodes: self.rows.nodes().await.unwrap_or_default(),
            shards: self.gateway.router().map().shards().to_vec(),
        })
    }

    /// How this store stands.
    pub(crate) async fn report(&self) -> Report {
        let (reply, answer) = oneshot::channel();
        let inbox = &self.registry.shared.inbox;
        inbox.request(Request::Survey { reply });
        Report {
            store: self.identity.store.0,
            draining: self.draining.load(Ordering::Relaxed),
            used_bytes: self.shards.engine.disk_bytes(),
            replicas: answer.await.unwrap_or_default(),
        }
    }

    pub(super) async fn carry_out(&self, step: Move) -> Result<()> {
        match step {
            Move::AddReplica { shard, to } => self.mover.add(shard, to, None).await,
            Move::RemoveReplica { shard, from } => self.mover.remove(shard, from).await,
            Move::MoveReplica { shard, from, to } => self.mover.add(shard, to, Some(from)).await,
            Move::TransferLease { shard, to } => self.mover.transfer_lease(shard, to).await,
        }
    }

    /// Hands all leases to other stores, where there are any.
    pub(crate) async fn give_up_leases(&self) {
        self.draining.store(true, Ordering::Relaxed);
        let me = self.identity.store;
        for replica in self.report().await.replicas {
            if !replica.leads {
                continue;
            }
            let shard = replica.descriptor.id;
            let Ok(seen) = self.mover.inspect(shard).await else {
                continue;
            };
            // Who is up to date can lead at once.
            let others = seen.descriptor.replicas.iter();
            let others = others.filter(|r| r.store != me && replica.voters.contains(&r.id));
            let matched = |id| seen.matched.get(&ReplicaId(id)).copied();
            if let Some(other) = others.max_by_key(|other| matched(other.id))
                && let Err(error) = self.mover.transfer_lease(shard, other.store).await
            {
                tracing::warn!(%error, shard = shard.0, "a lease is not handed over");
            }
        }
    }
}
