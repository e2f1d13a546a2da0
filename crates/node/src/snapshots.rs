//! Copies of replicas: from a leader to a follower whose log cannot be brought up to date, and their removal.
//!
//! ```text
//!   leader's store                                  follower's store
//!   one engine snapshot: head and rows
//!      │── offer: replica, descriptor, index ──────►│  wanted? forgets its log and rows
//!      │── rows, a piece at a time ────────────────►│  writes them
//!      │── end: the head ──────────────────────────►│  the group takes the head: the copy counts
//!      ▼                                            ▼
//!   tells the group: arrived, or not: then it starts over
//! ```
//! Every step is a call, so a slow receiver slows the sender. A piece carries its number; one that was lost
//! with its connection is sent again, and the receiver passes over what it has.
//!
//! A damaged table is taken out of use while nothing is copied or removed (`snapshots/discard.rs`).
//!
//! Copies that arrive and removals never work on the same keys: an offer is refused while they are being
//! removed, and a removal begins only once the replica is gone from the store's loop.

mod discard;
mod receiver;
mod removal;
mod sender;
mod wire;

pub(crate) use receiver::Receiver;

use crate::inbox::Inbox;
use crate::registry::Registry;
use parking_lot::Mutex;
use sharding::{ShardDescriptor, ShardId};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use storage::Engine;
use types::env::{Env, Transport};

/// See the module. One per store.
pub(crate) struct Snapshots {
    engine: Arc<dyn Engine>,
    env: Env,
    transport: Arc<dyn Transport>,
    registry: Weak<Registry>,
    /// Spans whose rows are being removed.
    removing: Mutex<BTreeMap<ShardId, ShardDescriptor>>,
    /// Counts the beginnings and ends of discards: odd while one is going on.
    discards: AtomicU64,
    /// Copies on their way out: one at a time is as fast as the disk and the network are.
    sending: tokio::sync::Semaphore,
}

impl Snapshots {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        env: Env,
        transport: Arc<dyn Transport>,
        registry: &Arc<Registry>,
    ) -> Arc<Self> {
        Arc::new(Snapshots {
            engine,
            env,
            transport,
            registry: Arc::downgrade(registry),
            removing: Mutex::default(),
            discards: AtomicU64::new(0),
            sending: tokio::sync::Semaphore::new(1),
        })
    }

    fn with_inbox(&self, act: impl FnOnce(&Inbox)) {
        if let Some(registry) = self.registry.upgrade() {
            act(&registry.shared.inbox);
        }
    }

    /// The store is open, neither failed nor closing: background work goes on.
    fn is_open(&self) -> bool {
        self.registry
            .upgrade()
            .is_some_and(|registry| registry.shared.inbox.is_open())
    }
}
