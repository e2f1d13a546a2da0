//! The replicas of a store, as its sessions and its loop share them.

use crate::inbox::Ended;
use crate::observe::Observer;
use crate::replica::{Closed, Replica, Shared};
use parking_lot::RwLock;
use sharding::ShardId;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use types::Error;

/// See the module.
pub(crate) struct Registry {
    pub(crate) shared: Arc<Shared>,
    pub(crate) observer: OnceLock<Arc<dyn Observer>>,
    replicas: RwLock<BTreeMap<ShardId, Arc<Replica>>>,
}

impl Registry {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Registry {
            shared,
            observer: OnceLock::new(),
            replicas: RwLock::default(),
        }
    }

    pub(crate) fn get(&self, shard: ShardId) -> Option<Arc<Replica>> {
        self.replicas.read().get(&shard).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Replica>> {
        self.replicas.read().values().cloned().collect()
    }

    pub(crate) fn add(&self, replica: Arc<Replica>) {
        self.replicas.write().insert(replica.shard, replica);
    }

    pub(crate) fn remove(&self, shard: ShardId) {
        self.replicas.write().remove(&shard);
    }

    /// Damage or a broken disk: no write will ever succeed again, and what is open is unknown.
    pub(crate) fn fail(&self, error: &Error) {
        if self.shared.inbox.fail(error) {
            for replica in self.all() {
                replica.close(Closed::Failed(error.clone()));
            }
        }
    }

    /// No new commits; those in hand are finished.
    pub(crate) fn close(&self) {
        for replica in self.all() {
            replica.close(Closed::Closing);
        }
        self.shared.inbox.close();
    }

    pub(crate) fn loop_ended(&self) {
        if !self.shared.inbox.is_closing() {
            self.fail(&Error::internal("the store's loop has ended"));
        }
        for replica in self.all() {
            replica.loop_ended();
        }
        self.shared.inbox.set_ended(Ended::Writer);
    }
}
