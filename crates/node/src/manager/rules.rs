//! What tables ask of their shards: where shards begin, and how many copies they have.
//!
//! The rules are rows that SQL writes with the definitions ([`sharding::table_rule`]). Each round reads them and makes
//! what is missing, so whatever was broken off is done by the next one.

use super::Manager;
use super::rounds::Leaders;
use bytes::Bytes;
use cluster::view::ShardView;
use sharding::{Placement, ShardDescriptor, TableRules};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use types::key::BUCKET_PREFIX_LEN;

/// Shards that are split off for tables in one round: each is an entry of the log and a row.
const SPLITS_AT_ONCE: usize = 32;

impl Manager {
    /// Splits shards where tables want some to begin, beside the rounds. `false`: nothing is missing.
    pub(super) fn follow_rules(
        self: &Arc<Self>,
        rules: &TableRules,
        leaders: &Leaders<'_>,
    ) -> bool {
        let mut missing = rules.missing_splits(leaders.values().map(|(_, it)| &it.descriptor));
        if missing.is_empty() {
            return false;
        }
        missing.truncate(SPLITS_AT_ONCE);
        if self.splitting.swap(true, Ordering::Relaxed) {
            return true;
        }
        let manager = Arc::clone(self);
        let task = async move {
            for key in missing {
                if let Err(error) = manager
                    .order_split(&key, "a table begins shards here")
                    .await
                {
                    tracing::warn!(%error, "a shard that a table wants cannot be split off yet");
                    break;
                }
            }
            manager.splitting.store(false, Ordering::Relaxed);
            manager.wake.notify_one();
        };
        self.env.spawn.spawn("splits for tables", Box::pin(task));
        true
    }
}

/// How many copies a shard is to have now, in a cluster that keeps `default` of what asks for nothing and has so many
/// live stores. `None`: the shard asks for nothing.
pub(super) fn factor(
    rules: &TableRules,
    descriptor: &ShardDescriptor,
    shard: &ShardView,
    default: usize,
    live: usize,
) -> Option<usize> {
    let rule = rules.of_shard(&descriptor.start, descriptor.end.as_deref());
    let wanted = rule.replication_factor(default);
    let reached = shard.replicas.len();
    if wanted == default || wanted <= reached {
        return (wanted != default).then_some(wanted);
    }
    // An odd number of what there is, and never less than the shard has because stores are missing.
    let possible = wanted.min(live);
    let odd = match possible % 2 {
        0 => possible.saturating_sub(1),
        _ => possible,
    };
    Some(odd.max(reached).max(1))
}

/// By which key a shard ranks the stores: the first of its bucket, so that its parts stay together when it is split.
/// `None`: it does not.
pub(super) fn ranked_by(rules: &TableRules, descriptor: &ShardDescriptor) -> Option<Bytes> {
    let rule = rules.of_shard(&descriptor.start, descriptor.end.as_deref());
    if rule.placement != Placement::Ranked {
        return None;
    }
    let whole = descriptor.start.len().min(BUCKET_PREFIX_LEN);
    Some(descriptor.start.slice(..whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sharding::table_rule::rule_key;
    use sharding::{ShardId, TableRule};
    use types::StoreId;
    use types::key::{bucket_prefix, table_prefix};

    /// The factor of a shard of a table that asks for `asked`, with so many replicas and live stores, where the
    /// cluster keeps three copies.
    fn factor_of(asked: u8, replicas: u64, live: usize) -> Option<usize> {
        let rule = TableRule {
            separate: true,
            replication_factor: Some(asked),
            ..TableRule::default()
        };
        let mut rules = TableRules::default();
        let added = rules.add(&rule_key(500), rule.encode().into());
        added.expect("what was just written can be read");
        let descriptor = ShardDescriptor {
            id: ShardId(7),
            start: Bytes::copy_from_slice(&table_prefix(500)),
            end: Some(Bytes::copy_from_slice(&table_prefix(501))),
            replicas: Vec::new(),
            next_replica: 1,
            generation: 1,
        };
        let shard = ShardView {
            id: ShardId(7),
            replicas: (1..=replicas).map(StoreId).collect(),
            damaged: Vec::new(),
            lease: Some(StoreId(1)),
            bytes: 0,
            replication_factor: None,
            ranked_by: None,
            changing: false,
        };
        factor(&rules, &descriptor, &shard, 3, live)
    }

    #[test]
    fn copies_grow_by_odd_numbers_as_stores_come() {
        assert_eq!(factor_of(5, 3, 3), Some(3));
        assert_eq!(factor_of(5, 3, 4), Some(3));
        assert_eq!(factor_of(5, 3, 5), Some(5));
        assert_eq!(factor_of(5, 4, 5), Some(5), "on its way");
        assert_eq!(factor_of(7, 3, 6), Some(5));
    }

    #[test]
    fn missing_stores_lower_nothing_and_a_rule_does() {
        assert_eq!(factor_of(5, 5, 3), Some(5));
        assert_eq!(factor_of(7, 5, 2), Some(5));
        assert_eq!(factor_of(1, 3, 3), Some(1));
        assert_eq!(factor_of(3, 5, 5), None, "as the cluster's");
    }

    #[test]
    fn a_bucket_that_is_split_keeps_its_ranking() {
        let rule = TableRule {
            buckets: 4,
            placement: Placement::Ranked,
            ..TableRule::default()
        };
        let mut rules = TableRules::default();
        let added = rules.add(&rule_key(500), rule.encode().into());
        added.expect("what was just written can be read");
        let ranked_by = |start: &[u8], end: &[u8]| {
            let descriptor = ShardDescriptor {
                id: ShardId(7),
                start: Bytes::copy_from_slice(start),
                end: Some(Bytes::copy_from_slice(end)),
                replicas: Vec::new(),
                next_replica: 1,
                generation: 1,
            };
            super::ranked_by(&rules, &descriptor)
        };
        let (first, second) = (bucket_prefix(500, 1), bucket_prefix(500, 2));
        let inside = [&first[..], b"row"].concat();
        let of_first = Some(Bytes::copy_from_slice(&first));
        assert_eq!(ranked_by(&first, &inside), of_first);
        assert_eq!(ranked_by(&inside, &second), of_first);
        assert_eq!(ranked_by(&table_prefix(501), &table_prefix(502)), None);
    }
}
