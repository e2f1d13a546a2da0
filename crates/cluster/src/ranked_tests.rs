use super::*;
use crate::view::{StoreState, StoreView};
use proptest::prelude::*;
use std::collections::BTreeSet;
use types::Locality;
use types::key::bucket_prefix;

const COPIES: usize = 3;

/// Stores in these zones, and so many ranked shards.
fn view(zones: &[u8], shards: u16) -> ClusterView {
    let stores = zones.iter().enumerate().map(|(at, zone)| {
        let id = StoreId(at as u64 + 1);
        let store = StoreView {
            id,
            state: StoreState::Live,
            locality: Locality(vec![("zone".to_owned(), zone.to_string())]),
            disk_bytes: u64::MAX,
            used_bytes: 0,
            unfit: None,
        };
        (id, store)
    });
    let shards = (0..shards).map(|bucket| ShardView {
        id: ShardId(u64::from(bucket) + 2),
        replicas: Vec::new(),
        damaged: Vec::new(),
        lease: None,
        bytes: 0,
        replication_factor: None,
        ranked_by: Some(Bytes::copy_from_slice(&bucket_prefix(1 << 31, bucket))),
        changing: false,
    });
    ClusterView {
        stores: stores.collect(),
        shards: shards.collect(),
    }
}

/// Shard and store of each replica.
fn placed(view: &ClusterView) -> BTreeSet<(ShardId, StoreId)> {
    let places = Places::of(view, |_| COPIES);
    let of_shard = |(shard, place): (&ShardId, &Place)| {
        let shard = *shard;
        let wanted = place.wanted.clone();
        wanted.into_iter().map(move |store| (shard, store))
    };
    places.0.iter().flat_map(of_shard).collect()
}

fn counts(view: &ClusterView, placed: &BTreeSet<(ShardId, StoreId)>) -> Vec<usize> {
    let of = |id: &StoreId| placed.iter().filter(|(_, store)| store == id).count();
    view.stores.keys().map(of).collect()
}

#[test]
fn sixteen_shards_lie_evenly_and_a_fourth_store_takes_little_more_than_its_share() {
    let three = placed(&view(&[0; 3], 16));
    assert_eq!(three.len(), 48);
    let four = view(&[0; 4], 16);
    let after = placed(&four);
    let counts = counts(&four, &after);
    assert!(
        counts.iter().all(|count| (11..=13).contains(count)),
        "{counts:?}"
    );
    let moved: Vec<_> = after.difference(&three).collect();
    assert!(
        moved.iter().all(|(_, store)| *store == StoreId(4)),
        "{moved:?}"
    );
}

#[test]
fn a_store_that_is_away_for_the_moment_keeps_its_places() {
    let all = view(&[0; 5], 32);
    for state in [StoreState::Suspect, StoreState::Draining] {
        let mut away = all.clone();
        away.stores.get_mut(&StoreId(2)).expect("a store").state = state;
        assert_eq!(placed(&away), placed(&all), "{state:?}");
    }
    let mut gone = all.clone();
    gone.stores.get_mut(&StoreId(2)).expect("a store").state = StoreState::Dead;
    assert!(placed(&gone).iter().all(|(_, store)| *store != StoreId(2)));
}

proptest! {
    #[test]
    fn replicas_lie_apart_and_stores_are_even(
        zones in proptest::collection::vec(0u8..4, 1..8),
        shards in 1u16..100,
    ) {
        let view = view(&zones, shards);
        let placed = placed(&view);
        prop_assert_eq!(&placed, &self::placed(&view), "the same for the same view");
        let distinct: BTreeSet<&u8> = zones.iter().collect();
        for shard in &view.shards {
            let stores = placed.iter().filter(|(id, _)| *id == shard.id);
            let stores: BTreeSet<StoreId> = stores.map(|(_, store)| *store).collect();
            prop_assert_eq!(stores.len(), COPIES.min(zones.len()));
            let of_stores: BTreeSet<&Locality> =
                stores.iter().map(|store| &view.stores[store].locality).collect();
            prop_assert_eq!(of_stores.len(), COPIES.min(distinct.len()), "{:?}", stores);
        }
        // In one zone, or each in its own, nothing stands against even counts.
        if distinct.len() == 1 || distinct.len() == zones.len() {
            let counts = counts(&view, &placed);
            let (least, most) = (counts.iter().min(), counts.iter().max());
            let (least, most) = (*least.expect("a store"), *most.expect("a store"));
            prop_assert!(
                most - least < 2 || most as f64 <= least as f64 * MOST_UNEVEN,
                "{:?}", counts
            );
        }
    }

    #[test]
    fn who_comes_takes_its_share_and_who_goes_leaves_its_own(stores in 3usize..8, shards in 16u16..200) {
        let few = placed(&view(&vec![0; stores], shards));
        let with_one_more = view(&vec![0; stores + 1], shards);
        let many = placed(&with_one_more);
        // The last count is the new store's. What the others exchange among each other is correction.
        let share = counts(&with_one_more, &many)[stores];
        // An eighth, and as far as counts are whole numbers one for each store.
        let correction = few.len() / 8 + stores + 1;
        for (after, before, at_least) in [(&many, &few, share), (&few, &many, share)] {
            let moved = after.difference(before).count();
            prop_assert!(moved >= at_least);
            prop_assert!(
                moved <= at_least + correction,
                "{} of {} moved, the share is {}", moved, few.len(), at_least
            );
        }
    }
}
