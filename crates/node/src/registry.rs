//! The replicas of a store, as its sessions and its loop share them.

use crate::inbox::{Ended, Request};
use crate::observe::Observer;
use crate::replica::{Closed, Replica, Shared};
use crate::shard_server::{Failure, Refusal};
use bytes::Bytes;
use parking_lot::RwLock;
use sharding::{ShardDescriptor, ShardId};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;
use types::Error;

/// See the module.
pub(crate) struct Registry {
    pub(crate) shared: Arc<Shared>,
    pub(crate) observer: OnceLock<Arc<dyn Observer>>,
    /// Somebody has met damaged bytes: where else are some?
    pub(crate) damage_seen: Notify,
    replicas: RwLock<BTreeMap<ShardId, Arc<Replica>>>,
}

impl Registry {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Registry {
            shared,
            observer: OnceLock::new(),
            damage_seen: Notify::new(),
            replicas: RwLock::default(),
        }
    }

    pub(crate) fn get(&self, shard: ShardId) -> Option<Arc<Replica>> {
        self.replicas.read().get(&shard).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Replica>> {
        self.replicas.read().values().cloned().collect()
    }

    /// The replica that holds all of these keys.
    pub(crate) fn holding(&self, first: &[u8], last: &[u8]) -> Option<Arc<Replica>> {
        let replicas = self.replicas.read();
        let holds = |replica: &&Arc<Replica>| replica.holds_key(first) && replica.holds_key(last);
        replicas.values().find(holds).cloned()
    }

    /// The shards that follow `shard` without a gap, as far as there are replicas of them here, at most `most`.
    pub(crate) fn to_the_right(
        &self,
        shard: &ShardDescriptor,
        most: usize,
    ) -> Vec<ShardDescriptor> {
        let mut by_start: BTreeMap<Bytes, Arc<ShardDescriptor>> = BTreeMap::new();
        for replica in self.replicas.read().values() {
            let descriptor = replica.descriptor();
            by_start.insert(descriptor.start.clone(), descriptor);
        }
        let mut found = Vec::new();
        let mut end = shard.end.clone();
        while found.len() < most
            && let Some(next) = end.and_then(|end| by_start.get(&end))
        {
            end = next.end.clone();
            found.push((**next).clone());
        }
        found
    }

    pub(crate) fn add(&self, replica: Arc<Replica>) {
        self.replicas.write().insert(replica.shard, replica);
    }

    pub(crate) fn remove(&self, shard: ShardId) {
        self.replicas.write().remove(&shard);
    }

    /// The value, or why the replica does not serve it. Damaged bytes are never served: if others have copies of
    /// the shard, one of them is to be asked instead, and this one is given up. The only copy stops the store:
    /// what else is damaged is unknown.
    pub(crate) fn checked<T>(
        &self,
        replica: &Replica,
        result: storage::Result<T>,
    ) -> Result<T, Failure> {
        match result {
            Ok(value) => Ok(value),
            Err(storage::Error::Corrupt(what)) if replica.has_peers() => {
                self.give_up(replica, what);
                Err(Failure::Refused(Refusal::NotLeaseHolder { hint: None }))
            }
            Err(error) => {
                let corrupt = matches!(error, storage::Error::Corrupt(_));
                let error = Error::from(error);
                if corrupt {
                    self.fail(&error);
                }
                Err(error.into())
            }
        }
    }

    fn give_up(&self, replica: &Replica, what: String) {
        if replica.is_given_up() {
            return;
        }
        let shard = replica.shard;
        self.shared.inbox.request(Request::Damaged { shard, what });
        self.damage_seen.notify_one();
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
