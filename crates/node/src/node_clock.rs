//! What a node knows of the cluster's time: its hybrid logical clock, and when the catalog changed last.
//!
//! Both travel with every question and answer between nodes. So whoever has heard of an event, over however
//! many nodes, gives later timestamps than its; and whoever has an answer from the system shard's lease
//! holder knows whether its copy of the catalog is old.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use types::Timestamp;
use types::env::Clock;

/// One per node. See the module.
pub struct NodeClock {
    wall: Arc<dyn Clock>,
    /// The highest timestamp given or seen.
    last: AtomicU64,
    catalog_changed: AtomicU64,
}

impl NodeClock {
    /// A clock that gives nothing at or below `last`.
    pub fn new(wall: Arc<dyn Clock>, last: Timestamp) -> Self {
        NodeClock {
            wall,
            last: AtomicU64::new(last.0),
            catalog_changed: AtomicU64::new(0),
        }
    }

    /// A timestamp above all that this clock has given or seen.
    pub fn now(&self) -> Timestamp {
        let millis = u64::try_from(self.wall.wall_micros() / 1000).unwrap_or(0);
        let wall = Timestamp::from_millis(millis);
        let mut last = self.last.load(Ordering::SeqCst);
        loop {
            let next = wall.max(Timestamp(last).next());
            match self
                .last
                .compare_exchange_weak(last, next.0, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) => return next,
                Err(newer) => last = newer,
            }
        }
    }

    /// What the wall clock shows, in milliseconds since 1970.
    pub(crate) fn wall_millis(&self) -> u64 {
        u64::try_from(self.wall.wall_micros() / 1000).unwrap_or(0)
    }

    /// What time it is, without taking a timestamp.
    pub fn peek(&self) -> Timestamp {
        let millis = u64::try_from(self.wall.wall_micros() / 1000).unwrap_or(0);
        Timestamp::from_millis(millis).max(Timestamp(self.last.load(Ordering::SeqCst)))
    }

    /// Another node's timestamp was seen: everything given later is above it.
    pub fn observe(&self, seen: Timestamp) {
        self.last.fetch_max(seen.0, Ordering::SeqCst);
    }

    /// See [`txn::kv::Shards::catalog_changed`].
    pub fn catalog_changed(&self) -> Timestamp {
        Timestamp(self.catalog_changed.load(Ordering::SeqCst))
    }

    /// A commit at `at` wrote the catalog.
    pub fn catalog_changes_at(&self, at: Timestamp) {
        self.catalog_changed.fetch_max(at.0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use txn::testing::still_env;

    #[test]
    fn is_above_the_wall_and_all_it_has_seen() {
        let clock = NodeClock::new(still_env(7_000_000, 0).clock, Timestamp(5));
        let first = clock.now();
        assert_eq!(first, Timestamp::from_millis(7_000));
        assert_eq!(clock.now(), first.next());
        clock.observe(Timestamp::from_millis(9_000));
        clock.observe(Timestamp::from_millis(8_000));
        assert_eq!(clock.now(), Timestamp::from_millis(9_000).next());

        clock.catalog_changes_at(Timestamp(40));
        clock.catalog_changes_at(Timestamp(30));
        assert_eq!(clock.catalog_changed(), Timestamp(40));
    }
}
