use super::*;
use crate::view::StoreState;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::VecDeque;
use types::Locality;

fn store(id: u64, zone: &str) -> StoreView {
    StoreView {
        id: StoreId(id),
        state: StoreState::Live,
        locality: Locality(vec![("zone".to_owned(), zone.to_owned())]),
        disk_bytes: 1 << 40,
        used_bytes: 0,
        unfit: None,
    }
}

fn shard(id: u64, replicas: &[u64]) -> ShardView {
    ShardView {
        id: ShardId(id),
        replicas: replicas.iter().copied().map(StoreId).collect(),
        damaged: Vec::new(),
        lease: replicas.first().copied().map(StoreId),
        bytes: 1 << 20,
        replication_factor: None,
        ranked_by: None,
        changing: false,
    }
}

/// A shard whose stores are ranked.
fn ranked(id: u64, replicas: &[u64]) -> ShardView {
    ShardView {
        ranked_by: Some(Bytes::copy_from_slice(&id.to_be_bytes())),
        ..shard(id, replicas)
    }
}

fn view(stores: Vec<StoreView>, shards: Vec<ShardView>) -> ClusterView {
    ClusterView {
        stores: stores.into_iter().map(|store| (store.id, store)).collect(),
        shards,
    }
}

/// Carries a plan out.
fn apply(view: &mut ClusterView, moves: &[Planned], policy: &Policy) {
    for planned in moves {
        let good_of = |view: &ClusterView, shard: &ShardView| {
            let stores = shard.replicas.iter();
            let sound = stores.filter(|s| !shard.damaged.contains(s));
            sound.filter(|s| view.state(**s).holds_replicas()).count()
        };
        let id = planned.step.shard();
        let place = view.shards.iter().position(|shard| shard.id == id);
        let place = place.expect("a shard of the view");
        let good_before = good_of(view, &view.shards[place]);
        let shard = &mut view.shards[place];
        match planned.step {
            Move::AddReplica { to, .. } => {
                assert!(!shard.replicas.contains(&to));
                shard.replicas.push(to);
                shard.lease = shard.lease.or(Some(to));
            }
            Move::RemoveReplica { from, .. } => {
                assert_ne!(shard.lease, Some(from));
                shard.replicas.retain(|store| *store != from);
                shard.damaged.retain(|store| *store != from);
            }
            Move::MoveReplica { from, to, .. } => {
                assert_ne!(shard.lease, Some(from));
                assert!(!shard.replicas.contains(&to));
                shard.replicas.retain(|store| *store != from);
                shard.replicas.push(to);
            }
            Move::TransferLease { to, .. } => {
                assert!(shard.replicas.contains(&to));
                shard.lease = Some(to);
            }
        }
        let good_after = good_of(view, &view.shards[place]);
        assert!(
            good_after >= good_before.min(policy.replication_factor),
            "{planned:?} leaves {good_after} of {good_before}"
        );
    }
}

/// Plans and carries out until there is nothing left to do. Returns all moves.
fn run(view: &mut ClusterView, policy: &Policy) -> Vec<Planned> {
    let mut all = Vec::new();
    let most_rounds = 50 + 20 * view.shards.len();
    for _ in 0..most_rounds {
        let moves = plan_moves(view, policy);
        if moves.is_empty() {
            return all;
        }
        apply(view, &moves, policy);
        all.extend(moves);
    }
    panic!(
        "no rest after {most_rounds} rounds: {:?}",
        &all[all.len() - 5..]
    );
}

/// Moves end one by one, and each end is a reason to plan anew.
#[test]
fn moves_under_way_count_as_done() {
    let stores = (1..=4).map(|id| store(id, "")).collect();
    let shards = (1..=16).map(|id| shard(id, &[1, 2, 3])).collect();
    let (mut view, policy) = (view(stores, shards), Policy::default());
    let mut under_way: VecDeque<Planned> = VecDeque::new();
    let mut all = Vec::new();
    loop {
        let mut seen = view.clone();
        for planned in &under_way {
            let shard = seen.shards.iter_mut();
            let shard = shard.filter(|shard| shard.id == planned.step.shard());
            shard.for_each(|shard| shard.undergoes(planned.step));
        }
        under_way.extend(plan_moves(&seen, &policy));
        let Some(ended) = under_way.pop_front() else {
            break;
        };
        apply(&mut view, std::slice::from_ref(&ended), &policy);
        all.push(ended);
        // One of the replicas of each shard, and its lease.
        assert!(all.len() <= 16 + 16, "{all:#?}");
    }
    for store in (1..=4).map(StoreId) {
        let replicas = view.shards.iter().filter(|s| s.replicas.contains(&store));
        assert!((11..=13).contains(&replicas.count()), "{store}");
    }
}

#[test]
fn a_dead_store_is_made_good_and_then_forgotten() {
    let stores = (1..=4).map(|id| store(id, &format!("z{id}"))).collect();
    let mut view = view(stores, vec![shard(1, &[1, 2, 3])]);
    assert!(plan_moves(&view, &Policy::default()).is_empty());
    view.stores.get_mut(&StoreId(3)).expect("a store").state = StoreState::Dead;
    let moves = run(&mut view, &Policy::default());
    let said: Vec<&str> = moves.iter().map(|m| m.reason.as_str()).collect();
    assert_eq!(
        said,
        [
            "repair: 2 of 3 replicas are good",
            "remove: store 3 is dead"
        ]
    );
    assert_eq!(view.shards[0].replicas, [1, 2, 4].map(StoreId));
}

#[test]
fn the_factor_is_not_lowered_because_stores_are_missing() {
    let mut stores: Vec<StoreView> = (1..=3).map(|id| store(id, "z")).collect();
    stores[2].state = StoreState::Dead;
    let mut view = view(stores, vec![shard(1, &[1, 2, 3])]);
    assert!(run(&mut view, &Policy::default()).is_empty());
    assert_eq!(view.shards[0].replicas.len(), 3);
}

#[test]
fn a_damaged_replica_is_copied_again_where_it_was_or_first_elsewhere() {
    let said = |stores: u64, dead: Option<u64>| {
        let stores = (1..=stores).map(|id| store(id, "z")).collect();
        let mut view = view(stores, vec![shard(1, &[1, 2, 3])]);
        view.shards[0].damaged = vec![StoreId(3)];
        if let Some(dead) = dead {
            view.stores.get_mut(&StoreId(dead)).expect("a store").state = StoreState::Suspect;
        }
        let moves = run(&mut view, &Policy::default());
        moves.into_iter().map(|m| m.reason).collect::<Vec<_>>()
    };
    assert_eq!(
        said(3, None),
        [
            "damaged: the replica on store 3 is to be copied again",
            "repair: 2 of 3 replicas are good"
        ]
    );
    assert_eq!(
        said(4, None),
        [
            "repair: 2 of 3 replicas are good",
            "remove: the replica on store 3 is damaged"
        ]
    );
    // Its vote is needed.
    assert_eq!(said(3, Some(2)), [] as [String; 0]);
}

#[test]
fn a_damaged_holder_keeps_its_replica_until_its_lease_has_moved() {
    let stores = (1..=3).map(|id| store(id, "z")).collect();
    let mut view = view(stores, vec![shard(1, &[1, 2, 3])]);
    view.shards[0].damaged = vec![StoreId(1)];
    assert!(plan_moves(&view, &Policy::default()).is_empty());
    view.shards[0].lease = Some(StoreId(2));
    let moves = run(&mut view, &Policy::default());
    assert_eq!(moves.len(), 2, "{moves:?}");
    assert_eq!(view.shards[0].replicas, [2, 3, 1].map(StoreId));
}

#[test]
fn one_store_alone_grows_to_three_copies_as_stores_come() {
    let mut view = view(vec![store(1, "z1")], vec![shard(1, &[1])]);
    assert!(run(&mut view, &Policy::default()).is_empty());
    view.stores.insert(StoreId(2), store(2, "z2"));
    run(&mut view, &Policy::default());
    view.stores.insert(StoreId(3), store(3, "z3"));
    run(&mut view, &Policy::default());
    assert_eq!(view.shards[0].replicas, [1, 2, 3].map(StoreId));
}

#[test]
fn a_draining_store_gives_up_its_leases_only() {
    let stores = (1..=3).map(|id| store(id, "z")).collect();
    let shards = (1..=6).map(|id| shard(id, &[1, 2, 3])).collect();
    let mut view = view(stores, shards);
    run(&mut view, &Policy::default());
    view.stores.get_mut(&StoreId(1)).expect("a store").state = StoreState::Draining;
    run(&mut view, &Policy::default());
    let leases = |store| {
        let shards = view.shards.iter();
        shards.filter(|s| s.lease == Some(StoreId(store))).count()
    };
    assert_eq!([leases(1), leases(2), leases(3)], [0, 3, 3]);
    assert!(view.shards.iter().all(|s| s.replicas.len() == 3));
}

#[test]
fn replicas_lie_in_different_zones_where_they_can() {
    let stores = vec![
        store(1, "a"),
        store(2, "a"),
        store(3, "a"),
        store(4, "b"),
        store(5, "c"),
    ];
    let mut view = view(stores, vec![shard(1, &[1, 2, 3])]);
    run(&mut view, &Policy::default());
    assert_eq!(view.shards[0].replicas, [1, 4, 5].map(StoreId));
}

#[test]
fn a_full_disk_is_given_nothing() {
    let mut stores: Vec<StoreView> = (1..=4).map(|id| store(id, "z")).collect();
    stores[3].used_bytes = stores[3].disk_bytes / 100 * 95;
    let mut view = view(stores, vec![shard(1, &[1, 2])]);
    run(&mut view, &Policy::default());
    assert_eq!(view.shards[0].replicas, [1, 2, 3].map(StoreId));
}

#[test]
fn a_new_store_takes_what_ranks_it_and_nothing_else_moves() {
    let stores = (1..=3).map(|id| store(id, "z")).collect();
    let shards = (2..34).map(|id| ranked(id, &[1, 2, 3])).collect();
    let mut view = view(stores, shards);
    let policy = Policy::default();
    run(&mut view, &policy);
    view.stores.insert(StoreId(4), store(4, "z"));
    let moves = run(&mut view, &policy);
    let copied = moves.iter().filter_map(|planned| match planned.step {
        Move::MoveReplica { from, to, .. } => Some((from, to, &planned.reason)),
        _ => None,
    });
    let copied: Vec<_> = copied.collect();
    // A quarter of 96; a few are corrections.
    assert!((20..=28).contains(&copied.len()), "{copied:?}");
    for (from, to, reason) in copied {
        assert_eq!(to, StoreId(4));
        let expected = format!("ranked: store 4 comes before store {from} for its keys");
        assert_eq!(*reason, expected);
    }

    // It goes again, and all is as before.
    let places = Places::of(&view, |_| 3);
    let wanted = |shard: &ShardView| -> BTreeSet<StoreId> {
        let wanted = places.wanted(shard.id).expect("it is ranked");
        wanted.iter().copied().collect()
    };
    for shard in &view.shards {
        let on: BTreeSet<StoreId> = shard.replicas.iter().copied().collect();
        assert_eq!(on, wanted(shard));
    }
    view.stores.get_mut(&StoreId(4)).expect("a store").state = StoreState::Decommissioning;
    run(&mut view, &policy);
    assert!(view.shards.iter().all(|shard| {
        let on: BTreeSet<StoreId> = shard.replicas.iter().copied().collect();
        on == BTreeSet::from([1, 2, 3].map(StoreId))
    }));
}

#[test]
fn a_holder_that_makes_room_hands_its_lease_over_first() {
    // The shard lies on all but the store that it ranks first.
    let stores: Vec<StoreView> = (1..=4).map(|id| store(id, "z")).collect();
    let mut view = view(stores, vec![ranked(2, &[])]);
    let wanted = Places::of(&view, |_| 3);
    let wanted = wanted.wanted(ShardId(2)).expect("it is ranked").to_vec();
    let unwanted = (1..=4).map(StoreId).find(|store| !wanted.contains(store));
    let unwanted = unwanted.expect("three of four are wanted");
    view.shards[0].replicas = vec![unwanted, wanted[1], wanted[2]];
    view.shards[0].lease = Some(unwanted);
    let moves = run(&mut view, &Policy::default());
    let said: Vec<String> = moves.iter().map(|m| m.reason.clone()).collect();
    let first = wanted[0];
    assert_eq!(
        said,
        [
            format!("ranked: store {unwanted} makes room for store {first}"),
            format!("ranked: store {first} comes before store {unwanted} for its keys"),
        ]
    );
}

#[test]
fn the_system_shards_lease_stays_while_another_can_move() {
    let stores = (1..=3).map(|id| store(id, "z")).collect();
    let shards = (1..=6).map(|id| shard(id, &[1, 2, 3])).collect();
    let mut view = view(stores, shards);
    run(&mut view, &Policy::default());
    assert_eq!(view.shards[0].lease, Some(StoreId(1)));
}

fn any_view() -> impl Strategy<Value = ClusterView> {
    let state = prop_oneof![
        8 => Just(StoreState::Live),
        1 => Just(StoreState::Suspect),
        1 => Just(StoreState::Dead),
        1 => Just(StoreState::Draining),
        1 => Just(StoreState::Decommissioning),
    ];
    let stores = proptest::collection::vec((state, 0u8..4, proptest::bool::weighted(0.05)), 1..9);
    stores.prop_flat_map(|stores| {
        let count = stores.len();
        let stores: Vec<StoreView> = stores
            .into_iter()
            .enumerate()
            .map(|(at, (state, zone, slow))| StoreView {
                state,
                unfit: slow.then_some(Unfit::Slow),
                ..store(at as u64, &format!("z{zone}"))
            })
            .collect();
        let ids: Vec<u64> = (0..count as u64).collect();
        let replicas = proptest::sample::subsequence(ids, 1..=count.min(5));
        let shards = proptest::collection::vec(replicas.prop_shuffle(), 1..40);
        shards.prop_map(move |shards| {
            let shards = shards.iter().enumerate();
            view(
                stores.clone(),
                shards
                    .map(|(at, on)| match at % 3 {
                        0 => ranked(at as u64, on),
                        _ => shard(at as u64, on),
                    })
                    .collect(),
            )
        })
    })
}

proptest! {
    #[test]
    fn any_cluster_comes_to_a_good_rest(mut view in any_view()) {
        let policy = Policy::default();
        run(&mut view, &policy);
        let takers: Vec<StoreId> = view
            .stores
            .values()
            .filter(|store| store.state.takes_replicas() && store.unfit.is_none())
            .map(|store| store.id)
            .collect();
        for shard in &view.shards {
            let good = shard.replicas.iter().filter(|s| view.state(**s).holds_replicas());
            let good = good.count();
            let could = takers.iter().all(|store| shard.replicas.contains(store));
            prop_assert!(good >= policy.replication_factor || could, "{shard:?}");
        }
        // Whoever is ranked lies where its keys say, as soon as all stores can take a replica.
        let all_live = view.stores.len() == takers.len();
        let places = Places::of(&view, |_| policy.replication_factor);
        for shard in view.shards.iter().filter(|_| all_live) {
            let on: BTreeSet<StoreId> = shard.replicas.iter().copied().collect();
            if let Some(wanted) = places.wanted(shard.id) {
                prop_assert_eq!(on, wanted.iter().copied().collect(), "{:?}", shard);
            }
        }
        // In one zone nothing stands against even counts.
        let zones: std::collections::BTreeSet<&Locality> =
            view.stores.values().map(|store| &store.locality).collect();
        if zones.len() == 1 && all_live && takers.len() > policy.replication_factor {
            let count = |store: &StoreId| {
                view.shards.iter().filter(|s| s.replicas.contains(store)).count()
            };
            let counts: Vec<usize> = takers.iter().map(count).collect();
            let (least, most) = (counts.iter().min(), counts.iter().max());
            prop_assert!(most.unwrap() - least.unwrap() <= 2 * policy.tolerance, "{counts:?}");
        }
    }
}
