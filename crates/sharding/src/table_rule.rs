//! What the cluster is to do for the keys of one table: where shards are to begin, how many copies there are
//! to be, and where they should lie.
//!
//! SQL writes a rule in the same transaction as the table's definition, in the system shard, for each table that
//! asks for something (a strategy with buckets, split points, a replication factor of its own or of its
//! database); the cluster manager reads them all and makes what is missing. So nothing is lost when either
//! crashes, and a rule that was changed is followed from then on, whatever was done before.
//!
//! Rows that share a shard share its copies: a shard gets the highest factor that any table in it asks for, and
//! never less than the cluster's own. Only a shard that lies within one table follows that table alone.

use crate::shard_map::ShardDescriptor;
use crate::strategy::Placement;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use types::codec::{Reader, put_field, put_number_field};
use types::key::{bucket_prefix, index_prefix, split_index_prefix, table_prefix};

/// The system's table of rules.
const RULES_TABLE_ID: u32 = 6;
const RULES_INDEX_ID: u16 = 1;

const VERSION: u8 = 1;
const BUCKETS: u64 = 1;
const SPLIT_AT: u64 = 2;
const SEPARATE: u64 = 3;
const PLACEMENT: u64 = 4;
const FACTOR: u64 = 5;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableRule {
    /// How many buckets stand in its keys; 0: none.
    pub buckets: u16,
    /// Keys before which shards are to begin, besides the buckets.
    pub split_at: Vec<Bytes>,
    /// It does not share shards with other tables.
    pub separate: bool,
    pub placement: Placement,
    /// Copies of each of its shards; `None`: as many as the cluster has of others.
    pub replication_factor: Option<u8>,
}

impl TableRule {
    /// Whether it asks for nothing: then it need not be written.
    pub fn is_empty(&self) -> bool {
        *self == TableRule::default()
    }

    /// The first key of each shard that the table is to have, and the first key behind the table.
    fn wanted_splits(&self, table: u32) -> impl Iterator<Item = Bytes> {
        let alone = self.separate || self.buckets > 0 || !self.split_at.is_empty();
        let ends = [Some(table), table.checked_add(1)];
        let ends = ends.into_iter().flatten().filter(move |_| alone);
        let ends = ends.map(|id| Bytes::copy_from_slice(&table_prefix(id)));
        let buckets = (1..self.buckets).map(move |bucket| bucket_prefix(table, bucket));
        let buckets = buckets.map(|prefix| Bytes::copy_from_slice(&prefix));
        ends.chain(buckets).chain(self.split_at.iter().cloned())
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_number_field(&mut out, BUCKETS, self.buckets.into());
        for key in &self.split_at {
            put_field(&mut out, SPLIT_AT, key);
        }
        put_number_field(&mut out, SEPARATE, self.separate.into());
        let ranked = self.placement == Placement::Ranked;
        put_number_field(&mut out, PLACEMENT, ranked.into());
        if let Some(factor) = self.replication_factor {
            put_number_field(&mut out, FACTOR, factor.into());
        }
        out
    }

    /// `None`: malformed.
    pub fn decode(bytes: Bytes) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return None;
        }
        let mut rule = TableRule::default();
        while reader.left() > 0 {
            let (name, mut value) = reader.field()?;
            match name {
                BUCKETS => rule.buckets = value.rest_as_number()?.try_into().ok()?,
                SPLIT_AT => rule.split_at.push(value.take(value.left())?),
                SEPARATE => rule.separate = value.rest_as_number()? != 0,
                PLACEMENT => {
                    rule.placement = match value.rest_as_number()? {
                        0 => Placement::Balanced,
                        _ => Placement::Ranked,
                    }
                }
                FACTOR => rule.replication_factor = Some(value.rest_as_number()?.try_into().ok()?),
                _ => {}
            }
        }
        Some(rule)
    }
}

/// The key of a table's rule.
pub fn rule_key(table: u32) -> Vec<u8> {
    let mut key = index_prefix(RULES_TABLE_ID, RULES_INDEX_ID).to_vec();
    key.extend_from_slice(&table.to_be_bytes());
    key
}

/// First key of all rules, and the key behind the last.
pub fn rules_span() -> (Bytes, Bytes) {
    let of = |index| Bytes::copy_from_slice(&index_prefix(RULES_TABLE_ID, index));
    (of(RULES_INDEX_ID), of(RULES_INDEX_ID + 1))
}

/// The rules of all tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableRules(BTreeMap<u32, TableRule>);

/// What holds for one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardRule {
    /// The highest that a table in it asks for.
    factor: Option<u8>,
    /// The shard lies within one table.
    alone: bool,
    pub placement: Placement,
}

impl ShardRule {
    /// How many copies the shard is to have in a cluster that keeps `default` of what asks for nothing.
    pub fn replication_factor(&self, default: usize) -> usize {
        match self.factor {
            Some(factor) if self.alone => factor.into(),
            Some(factor) => default.max(factor.into()),
            None => default,
        }
    }
}

impl TableRules {
    /// Takes a row of the rules' span. `None`: malformed.
    pub fn add(&mut self, key: &[u8], value: Bytes) -> Option<()> {
        let (_, _, table) = split_index_prefix(key)?;
        let table = u32::from_be_bytes(table.try_into().ok()?);
        self.0.insert(table, TableRule::decode(value)?);
        Some(())
    }

    /// Keys at which no shard begins, and one is to begin: in order.
    pub fn missing_splits<'s>(
        &self,
        shards: impl IntoIterator<Item = &'s ShardDescriptor>,
    ) -> Vec<Bytes> {
        let begun: BTreeSet<&Bytes> = shards.into_iter().map(|shard| &shard.start).collect();
        let wanted = self.0.iter().flat_map(|(id, rule)| rule.wanted_splits(*id));
        let missing: BTreeSet<Bytes> = wanted.filter(|key| !begun.contains(key)).collect();
        missing.into_iter().collect()
    }

    /// What holds for the shard of these keys; no end: to the last key.
    pub fn of_shard(&self, start: &[u8], end: Option<&[u8]>) -> ShardRule {
        let first = table_at(start);
        let within = |(id, _): &(&u32, &TableRule)| {
            let first_key = table_prefix(**id);
            end.is_none_or(|end| first_key.as_slice() < end)
        };
        let mut rule = ShardRule::default();
        for (id, table) in self.0.range(first..).take_while(within) {
            rule.factor = rule.factor.max(table.replication_factor);
            let begins = start >= table_prefix(*id).as_slice();
            let behind = id.checked_add(1).map(table_prefix);
            let ends = match (&behind, end) {
                (None, _) => true,
                (Some(behind), Some(end)) => end <= behind.as_slice(),
                (Some(_), None) => false,
            };
            rule.alone = begins && ends;
            if rule.alone {
                rule.placement = table.placement;
            }
        }
        rule
    }
}

/// The first table that may have keys from `start` on.
fn table_at(start: &[u8]) -> u32 {
    let mut id = [0; 4];
    for (to, byte) in id.iter_mut().zip(start) {
        *to = *byte;
    }
    u32::from_be_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard_map::ShardId;
    use proptest::prelude::*;

    fn rules(all: &[(u32, TableRule)]) -> TableRules {
        let mut rules = TableRules::default();
        for (table, rule) in all {
            let row = rules.add(&rule_key(*table), rule.encode().into());
            row.expect("what was just written can be read");
        }
        rules
    }

    fn shard(start: &[u8], end: Option<&[u8]>) -> ShardDescriptor {
        ShardDescriptor {
            id: ShardId(1),
            start: Bytes::copy_from_slice(start),
            end: end.map(Bytes::copy_from_slice),
            replicas: Vec::new(),
            next_replica: 1,
            generation: 1,
        }
    }

    /// Splits until nothing is missing; returns the shards' first keys.
    fn split_all(rules: &TableRules) -> Vec<Bytes> {
        let mut starts = vec![Bytes::new()];
        loop {
            let shards: Vec<_> = starts.iter().map(|start| shard(start, None)).collect();
            match rules.missing_splits(&shards).first() {
                None => break,
                Some(key) => starts.push(key.clone()),
            }
            starts.sort();
        }
        starts
    }

    #[test]
    fn a_bucketed_table_gets_a_shard_for_each_bucket_and_ends_by_itself() {
        let hash = TableRule {
            buckets: 3,
            ..TableRule::default()
        };
        let starts = split_all(&rules(&[(500, hash)]));
        let expected: [&[u8]; 5] = [
            &[],
            &table_prefix(500),
            &bucket_prefix(500, 1),
            &bucket_prefix(500, 2),
            &table_prefix(501),
        ];
        assert_eq!(starts, expected);
    }

    #[test]
    fn neighbours_share_their_border() {
        let separate = TableRule {
            separate: true,
            ..TableRule::default()
        };
        let all = rules(&[(500, separate.clone()), (501, separate)]);
        assert_eq!(split_all(&all).len(), 1 + 3);
    }

    #[test]
    fn the_highest_factor_in_a_shard_counts() {
        let of = |replication_factor| TableRule {
            replication_factor,
            ..TableRule::default()
        };
        let rules = rules(&[(500, of(Some(5))), (502, of(Some(1))), (503, of(None))]);
        let factor = |from: u32, to: Option<u32>| {
            let end = to.map(table_prefix);
            let rule = rules.of_shard(&table_prefix(from), end.as_ref().map(|end| &end[..]));
            rule.replication_factor(3)
        };
        assert_eq!(factor(500, Some(501)), 5);
        assert_eq!(factor(400, Some(600)), 5);
        assert_eq!(factor(400, None), 5);
        assert_eq!(
            factor(501, None),
            3,
            "what asks for one copy shares with others"
        );
        assert_eq!(factor(502, Some(503)), 1, "alone");
        assert_eq!(factor(503, Some(504)), 3);
        assert_eq!(factor(600, None), 3);
        let inside = rules.of_shard(&index_prefix(500, 1), Some(&index_prefix(500, 2)));
        assert_eq!(
            inside.replication_factor(3),
            5,
            "a part of a table is the table's"
        );
    }

    #[test]
    fn only_what_lies_within_one_table_is_placed_for_it() {
        let ranked = TableRule {
            buckets: 4,
            placement: Placement::Ranked,
            ..TableRule::default()
        };
        let rules = rules(&[(500, ranked)]);
        let of = |start: &[u8], end: &[u8]| rules.of_shard(start, Some(end)).placement;
        let bucket = |n| bucket_prefix(500, n);
        assert_eq!(of(&bucket(1), &bucket(2)), Placement::Ranked);
        assert_eq!(of(&bucket(3), &table_prefix(501)), Placement::Ranked);
        assert_eq!(of(&table_prefix(499), &bucket(1)), Placement::Balanced);
        assert_eq!(of(&bucket(3), &table_prefix(502)), Placement::Balanced);
    }

    fn any_rule() -> impl Strategy<Value = TableRule> {
        let keys = proptest::collection::vec(any::<Vec<u8>>().prop_map(Bytes::from), 0..4);
        let factor = proptest::option::of(any::<u8>());
        (any::<u16>(), keys, any::<bool>(), any::<bool>(), factor).prop_map(
            |(buckets, split_at, separate, ranked, replication_factor)| TableRule {
                buckets,
                split_at,
                separate,
                placement: match ranked {
                    true => Placement::Ranked,
                    false => Placement::Balanced,
                },
                replication_factor,
            },
        )
    }

    proptest! {
        #[test]
        fn rules_come_back(rule in any_rule()) {
            prop_assert_eq!(TableRule::decode(rule.encode().into()), Some(rule));
        }

        #[test]
        fn what_is_no_rule_is_refused(bytes in any::<Vec<u8>>()) {
            if let Some(rule) = TableRule::decode(bytes.into()) {
                prop_assert_eq!(TableRule::decode(rule.encode().into()), Some(rule));
            }
        }
    }
}
