//! Who serves a key: the shard from the map, and the replica that is believed to hold its lease.
//!
//! What is missing: guesses about remote lease holders and their correction. As long as a shard has
//! one replica, that one holds the lease.

use crate::shard_map::{Replica, ShardDescriptor, ShardMap};
use types::StoreId;

#[derive(Clone, Debug)]
pub struct Router {
    map: ShardMap,
}

impl Router {
    pub fn new(map: ShardMap) -> Self {
        Router { map }
    }

    pub fn map(&self) -> &ShardMap {
        &self.map
    }

    /// The shard that holds `key`, and the replica to ask first.
    pub fn route(&self, key: &[u8]) -> (&ShardDescriptor, Option<Replica>) {
        let shard = self.map.lookup(key);
        (shard, shard.replicas.first().copied())
    }

    /// Whether `store` serves all keys of the span itself.
    pub fn is_local(&self, store: StoreId, start: &[u8], end: &[u8]) -> bool {
        self.map.overlapping(start, end).all(|shard| {
            shard
                .replicas
                .first()
                .is_some_and(|replica| replica.store == store)
        })
    }
}
