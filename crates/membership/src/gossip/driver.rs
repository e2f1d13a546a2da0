//! Gossip in the world: a task that ticks, and a directory that others read.

use super::{Effects, Gossip};
use crate::facts::{Directory, NodeFacts, Nodes};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use types::StoreId;
use types::env::{Env, Rng, Transport};

/// Between two ticks: how long news wait at one node at most. Facts are told no more often than this.
pub const TICK: Duration = Duration::from_millis(500);

/// The facts of a cluster's nodes, as one of them knows them. See [`crate::gossip`].
///
/// Its host hands in what [`types::env::Peer`] hears: [`GossipDirectory::message`] and
/// [`GossipDirectory::connected`]. Its task ends once nobody holds it any more.
pub struct GossipDirectory {
    gossip: Mutex<Gossip>,
    nodes: watch::Sender<Nodes>,
    transport: Arc<dyn Transport>,
    rng: Arc<dyn Rng>,
    kind: u8,
}

impl GossipDirectory {
    /// Of store `me` of `cluster`. Each message begins with the byte `kind`, by which its receiver knows
    /// that it is gossip.
    pub fn start(
        cluster: u128,
        me: StoreId,
        env: &Env,
        transport: Arc<dyn Transport>,
        kind: u8,
    ) -> Arc<Self> {
        let directory = Arc::new(GossipDirectory {
            gossip: Mutex::new(Gossip::new(cluster, me)),
            nodes: watch::Sender::new(Nodes::default()),
            transport,
            rng: Arc::clone(&env.rng),
            kind,
        });
        let (weak, clock) = (Arc::downgrade(&directory), Arc::clone(&env.clock));
        let ticking = async move {
            loop {
                clock.sleep(TICK).await;
                let Some(directory) = Weak::upgrade(&weak) else {
                    return;
                };
                directory.tick();
            }
        };
        env.spawn.spawn("gossip", Box::pin(ticking));
        directory
    }

    /// A message of `from`, without the byte that says that it is gossip.
    pub fn message(&self, from: StoreId, body: &Bytes) {
        let mut gossip = self.gossip.lock();
        let effects = gossip.step(from, body);
        self.show(&effects);
        drop(gossip);
        self.carry_out(effects);
    }

    /// Messages to `peer` pass again, or are lost from now on.
    pub fn connected(&self, peer: StoreId, connected: bool) {
        let effects = self.gossip.lock().connected(peer, connected);
        self.carry_out(effects);
    }

    /// A store of this cluster, and where it is: gossip starts with those that are met so.
    pub fn meet(&self, peer: StoreId, rpc_address: &str) {
        self.transport.learn(peer, rpc_address);
        self.gossip.lock().meet(peer);
    }

    /// A store has left for good: its facts are gone, whoever may still tell of them.
    pub fn forget(&self, store: StoreId) {
        let mut gossip = self.gossip.lock();
        gossip.forget(store);
        self.nodes.send_if_modified(|nodes| {
            nodes.contains_key(&store) && Arc::make_mut(nodes).remove(&store).is_some()
        });
    }

    fn tick(&self) {
        let effects = self.gossip.lock().tick(&*self.rng);
        self.carry_out(effects);
    }

    /// Called under the lock of the gossip, so that older facts never come after newer ones.
    fn show(&self, effects: &Effects) {
        if !effects.heard.is_empty() {
            self.nodes.send_modify(|nodes| {
                let facts = effects
                    .heard
                    .iter()
                    .map(|facts| (facts.store, facts.clone()));
                Arc::make_mut(nodes).extend(facts);
            });
        }
    }

    fn carry_out(&self, effects: Effects) {
        for (store, address) in effects.moved {
            if !address.is_empty() {
                self.transport.learn(store, &address);
            }
        }
        for (peer, body) in effects.messages {
            let mut message = Vec::with_capacity(1 + body.len());
            message.push(self.kind);
            message.extend_from_slice(&body);
            self.transport.send(peer, message.into());
        }
    }
}

impl Directory for GossipDirectory {
    fn publish(&self, facts: NodeFacts) {
        let mut gossip = self.gossip.lock();
        gossip.publish(facts.clone());
        self.nodes.send_if_modified(|nodes| {
            let changed = nodes.get(&facts.store) != Some(&facts);
            if changed {
                Arc::make_mut(nodes).insert(facts.store, facts);
            }
            changed
        });
    }

    fn nodes(&self) -> Nodes {
        Arc::clone(&self.nodes.borrow())
    }

    fn changed(&self) -> watch::Receiver<Nodes> {
        self.nodes.subscribe()
    }
}
