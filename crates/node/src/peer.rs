//! What peers send, sorted: the host hands everything in here.

use crate::identity::Identity;
use crate::inbox::Request;
use crate::local_shards::LocalShards;
use crate::manager::Manager;
use crate::outbox;
use crate::registry::Registry;
use crate::rpc::{EXPEL_AFTER, Part, Service};
use crate::snapshots::{Receiver, Snapshots};
use bytes::{Buf, Bytes};
use std::sync::Arc;
use std::time::Duration;
use types::env::{BoxFuture, Env, Peer};
use types::{StoreId, Timestamp};

/// See the module.
pub(crate) struct StorePeer {
    identity: Identity,
    registry: Arc<Registry>,
    kv: Arc<Service>,
    snapshots: Arc<Receiver>,
    manager: Arc<Manager>,
    max_clock_offset: Duration,
    env: Env,
}

impl StorePeer {
    pub(crate) fn new(
        identity: Identity,
        shards: Arc<LocalShards>,
        registry: Arc<Registry>,
        snapshots: Arc<Snapshots>,
        manager: Arc<Manager>,
        max_clock_offset: Duration,
        env: Env,
    ) -> Self {
        let time = Arc::clone(&shards.time);
        let clock = Arc::clone(&shards.clock);
        StorePeer {
            identity,
            registry,
            kv: Service::new(shards, time, clock),
            snapshots: Arc::new(Receiver::new(snapshots)),
            manager,
            max_clock_offset,
            env,
        }
    }

    fn raft(&self, from: StoreId, body: Bytes) {
        let Some(received) = outbox::read(from, self.identity.store, body) else {
            tracing::warn!(store = %from, "a store sent messages that are none");
            return;
        };
        let shared = &self.registry.shared;
        let sender = received.sender;
        let own = shared.time.wall_millis();
        shared
            .health
            .heard(from, sender.sync_millis, sender.wall_millis, own);
        if !self.is_credible(sender.time) {
            tracing::warn!(store = %from, "the clock of a store is too far ahead; its messages are dropped");
            return;
        }
        shared.time.observe(sender.time);
        if !received.liveness.is_empty() {
            shared.inbox.deliver_liveness(received.liveness);
        }
        if !received.messages.is_empty() {
            shared.inbox.deliver(from, received.messages);
        }
    }

    /// Unless the peer comes back soon, nobody waits any longer for what its sessions have locked here.
    fn expel_later(&self, peer: StoreId, breaks: u64) {
        let kv = Arc::downgrade(&self.kv);
        let wait = self.env.clock.sleep(EXPEL_AFTER);
        let expel = async move {
            wait.await;
            if let Some(kv) = kv.upgrade() {
                kv.expel(peer, breaks);
            }
        };
        self.env.spawn.spawn("expel", Box::pin(expel));
    }

    /// A clock that is far ahead must not drag all others with it.
    fn is_credible(&self, time: Timestamp) -> bool {
        let offset = u64::try_from(self.max_clock_offset.as_millis()).unwrap_or(u64::MAX);
        let now = self.registry.shared.time.peek();
        time.millis() <= now.millis().saturating_add(offset)
    }
}

impl Peer for StorePeer {
    fn message(&self, from: StoreId, message: Bytes) {
        match Part::of(&message) {
            Some(Part::Raft) => {
                let mut body = message;
                body.advance(1);
                self.raft(from, body);
            }
            Some(Part::Kv) => self.kv.message(from, message),
            _ => {}
        }
    }

    fn call(&self, from: Option<StoreId>, request: Bytes) -> BoxFuture<Bytes> {
        match (Part::of(&request), from) {
            (Some(Part::Kv), _) => self.kv.call(from, request),
            (Some(Part::Snapshot), Some(from)) => {
                let snapshots = Arc::clone(&self.snapshots);
                Box::pin(async move { snapshots.call(from, request).await })
            }
            (Some(Part::Manager), _) => {
                let manager = Arc::clone(&self.manager);
                Box::pin(manager.call(from, request))
            }
            _ => Box::pin(std::future::ready(Bytes::new())),
        }
    }

    fn connected(&self, peer: StoreId, connected: bool) {
        let breaks = self.kv.connected(peer, connected);
        if !connected {
            self.registry.shared.health.lost(peer);
            self.expel_later(peer, breaks);
        }
        let inbox = &self.registry.shared.inbox;
        inbox.request(Request::Connected { peer, connected });
    }
}
