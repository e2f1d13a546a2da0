//! How a node becomes a member, and finds the others again when it restarts.

use super::Manager;
use super::system::{Addresses, nodes_here};
use super::wire::{Call, Reply};
use crate::identity::Identity;
use bytes::Bytes;
use futures::future::{self, Either, join_all, select};
use membership::service::Intent;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use storage::{Engine, Keyspace, WriteBatch};
use thiserror::Error;
use types::codec::{Reader, put_bytes, put_varint, seal, unseal};
use types::env::{BoxFuture, CallError, Env, Transport};
use types::{Result, StoreId};

const PEERS_KEY: &[u8] = b"speers";
/// Between two rounds of asking everybody.
const PAUSE: Duration = Duration::from_millis(250);
/// How long an address may take to answer: longer than it takes a node there to see that it cannot read the
/// system shard.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// Why a node is not let in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JoinError {
    #[error("{address} refuses this node: {reason}")]
    Refused { address: String, reason: String },
}

/// Asks one address after the other to be let in, until one does or refuses. `say` is told what is waited for,
/// once it takes longer.
pub async fn join(
    transport: &dyn Transport,
    env: &Env,
    targets: &[String],
    addresses: &Addresses,
    say: &(dyn Fn(&str) + Sync),
) -> std::result::Result<Identity, JoinError> {
    let call = Call::Join {
        cluster: None,
        addresses: addresses.clone(),
    };
    let mut rounds = 0;
    loop {
        for target in targets {
            let answer = transport.call_address(target, call.encode()).await;
            match answer.map(Reply::decode) {
                Ok(Some(Reply::Admitted { cluster, store })) => {
                    return Ok(Identity { cluster, store });
                }
                Ok(Some(Reply::Refused(reason))) if !is_temporary(&reason) => {
                    return Err(JoinError::Refused {
                        address: target.clone(),
                        reason,
                    });
                }
                Ok(other) if rounds == 8 => say(&format!("{target} answers {other:?}")),
                Err(error) if rounds == 8 => say(&format!("{target}: {error:?}")),
                _ => {}
            }
        }
        rounds += 1;
        env.clock.sleep(PAUSE).await;
    }
}

/// The cluster has no quorum or no space right now, or others were faster.
fn is_temporary(reason: &str) -> bool {
    ["57P03", "40001", "40003", "53100"]
        .iter()
        .any(|s| reason.contains(s))
}

impl Manager {
    /// Learns where the others are and which shards there are: from what is remembered, and from whoever
    /// answers among them and at `targets`. Returns once the map is known.
    pub(crate) async fn find_cluster(&self, targets: &[String]) -> Result<()> {
        let peers = remembered_peers(&*self.shards.engine)?;
        for (store, address) in &peers {
            self.transport.learn(*store, address);
        }
        let addresses: BTreeSet<&String> = peers.values().chain(targets).collect();
        *self.targets.lock() = addresses.into_iter().cloned().collect();
        if self.targets.lock().is_empty() {
            return Ok(());
        }
        while !self.knows_the_map() && self.is_open() {
            self.ask_around().await;
            if !self.knows_the_map() {
                self.env.clock.sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Asks at all addresses at which others were, or may be, and the stores that have replicas of shards as this one:
    /// they may have moved since, and have found this one.
    async fn ask_around(&self) {
        let mut targets = self.targets.lock().clone();
        // Of those who have moved since this one started, its own copy of the system shard may know.
        let known = nodes_here(&*self.shards.engine).unwrap_or_default();
        let others = known
            .into_iter()
            .filter(|it| it.store != self.identity.store);
        targets.extend(others.map(|node| node.addresses.rpc));
        targets.sort_unstable();
        targets.dedup();
        let ask = |address| {
            self.transport
                .call_address(address, Call::Directory.encode())
        };
        let by_address = targets
            .iter()
            .map(|address| self.ask_one(Some(address), ask(address)));
        let replicas = self.registry.all();
        let stores: BTreeSet<StoreId> = replicas
            .iter()
            .flat_map(|replica| replica.descriptor().replicas.clone())
            .map(|replica| replica.store)
            .filter(|store| *store != self.identity.store)
            .collect();
        let ask = |store| self.transport.call(store, Call::Directory.encode());
        let by_store = stores
            .into_iter()
            .map(|store| self.ask_one(None, ask(store)));
        future::join(join_all(by_address), join_all(by_store)).await;
    }

    async fn ask_one(
        &self,
        address: Option<&str>,
        call: BoxFuture<std::result::Result<Bytes, CallError>>,
    ) {
        let patience = self.env.clock.sleep(ANSWER_PATIENCE);
        if let Either::Left((Ok(answer), _)) = select(call, patience).await {
            self.take_directory(address, answer);
        }
    }

    /// `address`: where the answer came from, if that is news.
    fn take_directory(&self, address: Option<&str>, answer: Bytes) {
        let Some(Reply::Directory {
            cluster,
            store,
            nodes,
            shards,
        }) = Reply::decode(answer)
        else {
            return;
        };
        if cluster != self.identity.cluster {
            return;
        }
        // The answer may be of a time before some have moved; that this one answers here is true now.
        self.meet(&nodes);
        if let Some(address) = address
            && store != self.identity.store
        {
            self.transport.learn(store, address);
        }
        self.gateway.learn(&shards);
    }

    fn knows_the_map(&self) -> bool {
        let router = self.gateway.router();
        let shards = router.map().shards();
        shards.iter().all(|shard| shard.generation > 0)
    }

    /// Writes this node's addresses into the system shard, as soon as that is possible. `false`: the node was
    /// removed from the cluster for good.
    pub(crate) async fn register(self: Arc<Self>, addresses: Addresses) -> bool {
        while self.is_open() {
            match self.rows.register(self.identity.store, &addresses).await {
                Ok(Some(row)) => {
                    self.note_intent(row.intent);
                    return row.intent != Intent::Gone;
                }
                Ok(None) => return false,
                Err(error) => {
                    tracing::debug!(%error, "the node's addresses are not registered yet");
                    // All may have moved while all were away: then nobody is where anybody remembers.
                    self.ask_around().await;
                    self.env.clock.sleep(PAUSE).await;
                }
            }
        }
        true
    }
}

/// Notes where the other nodes are, if that has changed.
pub(super) fn remember_peers(
    engine: &dyn Engine,
    peers: &BTreeMap<StoreId, String>,
) -> storage::Result<()> {
    let mut record = Vec::new();
    put_varint(&mut record, peers.len() as u64);
    for (store, address) in peers {
        put_varint(&mut record, store.0);
        put_bytes(&mut record, address.as_bytes());
    }
    seal(&mut record, 0);
    let known = engine.get(Keyspace::Raft, PEERS_KEY)?;
    if known.is_some_and(|known| known == record) || peers.is_empty() {
        return Ok(());
    }
    let mut batch = WriteBatch::default();
    batch.put(Keyspace::Raft, Bytes::from_static(PEERS_KEY), record);
    engine.write(batch)
}

fn remembered_peers(engine: &dyn Engine) -> storage::Result<BTreeMap<StoreId, String>> {
    let Some(record) = engine.get(Keyspace::Raft, PEERS_KEY)? else {
        return Ok(BTreeMap::new());
    };
    let damaged = || {
        storage::Error::Corrupt("the record of the other nodes' addresses is damaged".to_owned())
    };
    let read = |reader: &mut Reader| {
        let store = StoreId(reader.varint()?);
        let address = String::from_utf8(reader.bytes()?.to_vec()).ok()?;
        Some((store, address))
    };
    let mut reader = Reader::new(unseal(&record).ok_or_else(damaged)?);
    let count = reader.varint().ok_or_else(damaged)?;
    (0..count)
        .map(|_| read(&mut reader))
        .collect::<Option<_>>()
        .ok_or_else(damaged)
}
