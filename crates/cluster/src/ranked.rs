//! Where the replicas of shards lie whose stores are ranked (`sharding = 'consistent'`).
//!
//! Each shard ranks the stores by its first key and theirs names ([`sharding::strategy::ranking`]), and takes the
//! first of them that lie as far apart as can be: distance counts before rank. So a store that comes takes its share
//! of the replicas, one that goes leaves its own to the others, and nothing else moves.
//!
//! Chance does not share out evenly, least of all a few shards among a few stores. So the stores with most are
//! relieved by those with least until none has more than [`MOST_UNEVEN`] times what another has, each time by the
//! shard that ranks the new store highest. These corrections are few, and the only other replicas that a change of
//! the stores may move.
//!
//! **It depends on the keys and the stores alone**, and not on where replicas are now: so whoever follows it arrives,
//! and does not move again. All stores count whose replicas count as copies, also those that are suspect or slow for
//! the moment: they are given nothing, and what they have waits for them.

use crate::view::{ClusterView, ShardView};
use bytes::Bytes;
use sharding::ShardId;
use sharding::strategy::ranking;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use types::StoreId;

/// Stores that hold this many times what another one does are relieved. Below the 1.3 that a cluster of even stores is
/// held to, since other shards add their own unevenness.
const MOST_UNEVEN: f64 = 1.25;
/// Distances that differ by less are one distance, summed up in another order.
const SAME_DISTANCE: f64 = f64::EPSILON * 8.0;

/// The stores of each ranked shard, the first in its ranking first.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<ShardId, Place>);

#[derive(Debug)]
struct Place {
    ranking: Vec<StoreId>,
    /// In the order in which they were taken.
    wanted: Vec<StoreId>,
}

impl Places {
    /// The places in a cluster whose shards have so many copies.
    pub(crate) fn of(view: &ClusterView, copies: impl Fn(&ShardView) -> usize) -> Places {
        let stores = view.stores.values();
        let stores: Vec<StoreId> = stores
            .filter(|store| store.state.holds_replicas())
            .map(|store| store.id)
            .collect();
        let ranked = view.shards.iter().filter_map(|shard| {
            let key: &Bytes = shard.ranked_by.as_ref()?;
            let ranking = ranking(key, stores.iter().copied());
            let wanted = first_far_apart(view, &ranking, copies(shard));
            Some((shard.id, Place { ranking, wanted }))
        });
        let mut places = Places(ranked.collect());
        if !places.0.is_empty() {
            places.even_out(view, &stores);
        }
        places
    }

    /// Where the shard's replicas should lie; `None`: its stores are not ranked.
    pub(crate) fn wanted(&self, shard: ShardId) -> Option<&[StoreId]> {
        self.0.get(&shard).map(|place| &place.wanted[..])
    }

    pub(crate) fn is_wanted(&self, shard: ShardId, store: StoreId) -> bool {
        self.wanted(shard)
            .is_some_and(|wanted| wanted.contains(&store))
    }

    /// Each step lowers the sum of the squares of the counts, so it ends.
    fn even_out(&mut self, view: &ClusterView, stores: &[StoreId]) {
        let mut counts: BTreeMap<StoreId, usize> = stores.iter().map(|s| (*s, 0)).collect();
        for store in self.0.values().flat_map(|place| &place.wanted) {
            counts.entry(*store).and_modify(|count| *count += 1);
        }
        while let Some((shard, from, to)) = self.correction(view, &counts) {
            if let Some(place) = self.0.get_mut(&shard) {
                let taken = place.wanted.iter_mut().find(|store| **store == from);
                taken.into_iter().for_each(|store| *store = to);
            }
            counts.entry(from).and_modify(|count| *count -= 1);
            counts.entry(to).and_modify(|count| *count += 1);
        }
    }

    /// What relieves one of two stores that differ too much, the most different first.
    fn correction(
        &self,
        view: &ClusterView,
        counts: &BTreeMap<StoreId, usize>,
    ) -> Option<(ShardId, StoreId, StoreId)> {
        let pairs = counts
            .iter()
            .flat_map(|from| counts.iter().map(move |to| (from, to)));
        let mut uneven: Vec<_> = pairs
            .filter(|((_, many), (_, few))| {
                **many >= **few + 2 && **many as f64 > **few as f64 * MOST_UNEVEN
            })
            .map(|((from, many), (to, few))| (Reverse(many - few), *from, *to))
            .collect();
        uneven.sort_unstable();
        uneven.into_iter().find_map(|(_, from, to)| {
            let shard = self.best_exchange(view, from, to)?;
            Some((shard, from, to))
        })
    }

    /// Of the shards that can have `to` in place of `from` and lie as far apart, the one that ranks it highest.
    fn best_exchange(&self, view: &ClusterView, from: StoreId, to: StoreId) -> Option<ShardId> {
        let able = self.0.iter().filter(|(_, place)| {
            let wanted = &place.wanted;
            if !wanted.contains(&from) || wanted.contains(&to) {
                return false;
            }
            let after = wanted.iter().map(|store| match *store == from {
                true => to,
                false => *store,
            });
            let after: Vec<StoreId> = after.collect();
            view.spread(&after) >= view.spread(wanted) - SAME_DISTANCE
        });
        let rank = |place: &Place| place.ranking.iter().position(|store| *store == to);
        let best = able.min_by_key(|(shard, place)| (rank(place), **shard));
        best.map(|(shard, _)| *shard)
    }
}

/// So many stores, each as far from those before it as can be, and among equals the first of the ranking.
fn first_far_apart(view: &ClusterView, ranking: &[StoreId], copies: usize) -> Vec<StoreId> {
    let mut left = ranking.to_vec();
    let mut taken: Vec<StoreId> = Vec::new();
    while taken.len() < copies && !left.is_empty() {
        let (mut best, mut farthest) = (0, f64::NEG_INFINITY);
        for (at, store) in left.iter().enumerate() {
            let with = [&taken[..], &[*store]].concat();
            let spread = view.spread(&with);
            if spread > farthest + SAME_DISTANCE {
                (best, farthest) = (at, spread);
            }
        }
        taken.push(left.remove(best));
    }
    taken
}

#[cfg(test)]
#[path = "ranked_tests.rs"]
mod tests;
