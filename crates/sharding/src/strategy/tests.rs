use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use types::key::{bucket_prefix, encode};
use types::{Datum, StoreId};

fn encoded(value: &Datum) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, value, false, false);
    out
}

fn id(number: i64) -> Vec<u8> {
    encoded(&Datum::Int8(number))
}

fn text(value: &str) -> Vec<u8> {
    encoded(&Datum::Text(value.into()))
}

fn regions() -> Directory {
    let groups = [vec![text("de"), text("fr")], vec![text("us")]];
    Directory::new(groups).expect("no value twice")
}

/// How many of these rows each bucket has.
fn counts(strategy: &dyn ShardingStrategy, ids: impl Iterator<Item = i64>) -> Vec<u32> {
    let mut counts = vec![0; usize::from(strategy.buckets())];
    ids.for_each(|number| counts[usize::from(strategy.bucket_of(&id(number)))] += 1);
    counts
}

#[test]
fn ids_that_grow_go_everywhere() {
    let strategies: [&dyn ShardingStrategy; 2] = [&Hash::new(16), &Consistent::new(16)];
    for strategy in strategies {
        for count in counts(strategy, 1..=16_000) {
            // Of 1000 expected; five standard deviations are 153.
            assert!((847..=1153).contains(&count), "{strategy:?}: {count}");
        }
    }
}

/// Rows that were written are looked for where the same program of tomorrow says they are.
#[test]
fn a_bucket_never_changes() {
    let of = |strategy: &dyn ShardingStrategy| -> Vec<u16> {
        (1..=8).map(|n| strategy.bucket_of(&id(n))).collect()
    };
    assert_eq!(of(&Hash::new(16)), [14, 11, 13, 9, 15, 10, 3, 9]);
    assert_eq!(of(&Consistent::new(16)), [8, 13, 6, 8, 6, 10, 7, 1]);
    assert_eq!(of(&Range), [0; 8]);
}

#[test]
fn a_directory_knows_its_values() {
    let regions = regions();
    let of = |value: &str| regions.bucket_of(&text(value));
    assert_eq!(regions.buckets(), 3);
    assert_eq!([of("de"), of("fr"), of("us")], [1, 1, 2]);
    assert_eq!(of("jp"), 0, "in no group");
    let twice = Directory::new([vec![text("de")], vec![text("de")]]);
    assert!(twice.is_none());
    let many = (0..i64::from(MAX_BUCKETS)).map(|n| vec![id(n)]);
    assert!(Directory::new(many).is_none(), "one more with the others'");
}

fn any_strategy() -> impl Strategy<Value = Box<dyn ShardingStrategy>> {
    prop_oneof![
        Just(()).prop_map(|()| Box::new(Range) as Box<dyn ShardingStrategy>),
        (1..=MAX_BUCKETS).prop_map(|n| Box::new(Hash::new(n)) as _),
        (1..=MAX_BUCKETS).prop_map(|n| Box::new(Consistent::new(n)) as _),
        Just(()).prop_map(|()| Box::new(regions()) as _),
    ]
}

/// The stores that hold each of so many buckets, `copies` each.
fn placed(buckets: u16, stores: u64, copies: usize) -> BTreeMap<u16, Vec<StoreId>> {
    let stores = || (1..=stores).map(StoreId);
    let of = |bucket| {
        let mut ranked = ranking(&bucket_prefix(1 << 31, bucket), stores());
        ranked.truncate(copies);
        (bucket, ranked)
    };
    (0..buckets).map(of).collect()
}

#[test]
fn ranked_buckets_are_spread_over_the_stores() {
    let mut counts: BTreeMap<StoreId, u32> = BTreeMap::new();
    for store in placed(256, 4, 1).into_values().flatten() {
        *counts.entry(store).or_default() += 1;
    }
    // Of 64 expected; four standard deviations are 28.
    assert_eq!(counts.len(), 4);
    let even = counts.values().all(|count| (36..=92).contains(count));
    assert!(even, "{counts:?}");
}

proptest! {
    #[test]
    fn every_row_has_one_bucket(strategy in any_strategy(), row in any::<Vec<u8>>()) {
        let bucket = strategy.bucket_of(&row);
        prop_assert!(bucket < strategy.buckets());
        prop_assert_eq!(strategy.bucket_of(&row), bucket);
        prop_assert_eq!(strategy.route(Some(&row)), bucket..bucket + 1);
        prop_assert!(strategy.route(None).contains(&bucket));
        prop_assert!(!strategy.keeps_order() || strategy.buckets() == 1);
    }

    /// Equal values of SQL have one bucket, however they are written.
    #[test]
    fn equal_values_have_one_bucket(strategy in any_strategy(), n in any::<i32>(), zeros in 0u16..9) {
        let numeric = |scale: u16| {
            let digits = i128::from(n) * 10i128.pow(u32::from(scale));
            encoded(&Datum::Numeric(types::Numeric::from_i128(digits, scale)))
        };
        prop_assert_eq!(strategy.bucket_of(&numeric(0)), strategy.bucket_of(&numeric(zeros)));
    }

    /// A store that joins takes about its share, and nothing moves between the others.
    #[test]
    fn a_store_that_joins_moves_its_share_only(stores in 1u64..12, copies in 1usize..4) {
        let buckets = 256;
        let (before, after) = (placed(buckets, stores, copies), placed(buckets, stores + 1, copies));
        let newcomer = StoreId(stores + 1);
        let mut moved = 0;
        for (bucket, now) in &after {
            let were = &before[bucket];
            let mut stayed = now.clone();
            stayed.retain(|store| *store != newcomer);
            prop_assert!(stayed.iter().all(|store| were.contains(store)), "{were:?} {now:?}");
            moved += usize::from(now.contains(&newcomer));
        }
        let share = (copies as f64 / (stores + 1) as f64).min(1.0);
        let expected = f64::from(buckets) * share;
        // Four standard deviations of so many independent draws.
        let most = expected + 4.0 * (expected * (1.0 - share)).sqrt();
        prop_assert!(moved as f64 <= most, "{moved} of {buckets}, not above {most}");
    }
}
