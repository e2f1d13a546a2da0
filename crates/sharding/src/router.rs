//! Who serves a key: the shard from the map, and the store that is believed to hold its lease.
//!
//! Both may be out of date. A guess about a lease holder is corrected in place ([`Router::believe`]) by what
//! answers teach, the map by making a new router of this one ([`Router::learn`]): so whoever routes needs no
//! lock. A guess that was corrected in an old router meanwhile is lost, and will be corrected again.

use crate::shard_map::{InvalidMap, ShardDescriptor, ShardId, ShardMap};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use types::StoreId;

/// In place of a store: there is no guess.
const NOBODY: u64 = u64::MAX;

/// Former spans of a shard's keys that are remembered: splits of one shard in the time of a transaction.
const LINE: usize = 8;

/// A span that a shard once had: its name, and the generation since when it had it.
type Former = (ShardId, u64);

#[derive(Debug)]
pub struct Router {
    map: ShardMap,
    /// One per shard of the map, in its order.
    entries: Vec<Entry>,
    places: BTreeMap<ShardId, usize>,
}

#[derive(Debug)]
struct Entry {
    holder: AtomicU64,
    span_since: u64,
    /// The spans that the keys of this shard were parts of before, the newest last.
    line: Arc<[Former]>,
}

/// What a router says of a key or a shard.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    pub shard: &'a ShardDescriptor,
    /// The store to ask first; `None` if not even a replica is known.
    pub holder: Option<StoreId>,
    /// The oldest known generation in which the shard had the span that it has now.
    pub span_since: u64,
    line: &'a [Former],
}

impl Route<'_> {
    /// Whether the keys of this shard are known to have been another's before.
    pub fn was_part_of(&self, other: ShardId) -> bool {
        self.line.iter().any(|(shard, _)| *shard == other)
    }
}

impl Router {
    pub fn new(map: ShardMap) -> Self {
        Router::with(map, |shard| Entry {
            holder: AtomicU64::new(NOBODY),
            span_since: shard.generation,
            line: Arc::default(),
        })
    }

    fn with(map: ShardMap, entry: impl FnMut(&ShardDescriptor) -> Entry) -> Self {
        let entries = map.shards().iter().map(entry).collect();
        let mut places: BTreeMap<ShardId, usize> = BTreeMap::new();
        for (place, shard) in map.shards().iter().enumerate() {
            // Of a shard that was split there may also be an older part: see `ShardMap::learn`.
            let known = places.entry(shard.id).or_insert(place);
            if map.shards()[*known].generation < shard.generation {
                *known = place;
            }
        }
        Router {
            map,
            entries,
            places,
        }
    }

    pub fn map(&self) -> &ShardMap {
        &self.map
    }

    /// The shard that holds `key`.
    pub fn route(&self, key: &[u8]) -> Route<'_> {
        let shards = self.map.shards();
        // The first shard starts at the empty key, which is at or below every key.
        self.at(shards.partition_point(|shard| &shard.start[..] <= key) - 1)
    }

    /// The shard that holds the keys just below `key`, which is not empty.
    pub fn route_before(&self, key: &[u8]) -> Route<'_> {
        let shards = self.map.shards();
        let after = shards.partition_point(|shard| &shard.start[..] < key);
        self.at(after.saturating_sub(1))
    }

    /// The shards that hold keys from `start` to below `end` (`None`: to the last), in key order.
    pub fn overlapping<'r, 'e>(
        &'r self,
        start: &[u8],
        end: Option<&'e [u8]>,
    ) -> impl Iterator<Item = Route<'r>> + use<'r, 'e> {
        let shards = self.map.shards();
        let first = shards.partition_point(|shard| &shard.start[..] <= start) - 1;
        (first..shards.len())
            .map(|place| self.at(place))
            .take_while(move |route| end.is_none_or(|end| &route.shard.start[..] < end))
    }

    pub fn shard(&self, id: ShardId) -> Option<Route<'_>> {
        self.places.get(&id).map(|place| self.at(*place))
    }

    /// The shards that hold the keys which `former` held since the generation `span_since`: itself, as long as it
    /// has the same span, else what it was split into, as far as is remembered.
    pub fn heirs(&self, former: ShardId, span_since: u64) -> Vec<Route<'_>> {
        if let Some(route) = self.shard(former)
            && route.span_since == span_since
        {
            return vec![route];
        }
        let heirs = (0..self.entries.len())
            .filter(|place| self.entries[*place].line.contains(&(former, span_since)));
        heirs.map(|place| self.at(place)).collect()
    }

    fn at(&self, place: usize) -> Route<'_> {
        let shard = &self.map.shards()[place];
        let entry = &self.entries[place];
        let holder = match entry.holder.load(Ordering::Relaxed) {
            NOBODY => shard.replicas.first().map(|replica| replica.store),
            store => Some(StoreId(store)),
        };
        Route {
            shard,
            holder,
            span_since: entry.span_since,
            line: &entry.line,
        }
    }

    /// `holder` is to be asked first for this shard from now on.
    pub fn believe(&self, id: ShardId, holder: StoreId) {
        if let Some(place) = self.places.get(&id) {
            let entry = &self.entries[*place];
            // Most answers confirm what is believed; reading it leaves the line shared.
            if entry.holder.load(Ordering::Relaxed) != holder.0 {
                entry.holder.store(holder.0, Ordering::Relaxed);
            }
        }
    }

    /// `holder` does not answer: if it is believed to hold the lease, the next replica is to be asked first.
    pub fn doubt(&self, id: ShardId, holder: StoreId) {
        let Some(route) = self.shard(id) else {
            return;
        };
        let replicas = &route.shard.replicas;
        if route.holder != Some(holder) || replicas.is_empty() {
            return;
        }
        let place = replicas.iter().position(|r| r.store == holder);
        let next = place.map_or(0, |place| (place + 1) % replicas.len());
        self.believe(id, replicas[next].store);
    }

    /// A router that knows these descriptors, too, and what this one believes. `None`: they tell nothing new.
    pub fn learn(&self, newer: &[ShardDescriptor]) -> Result<Option<Router>, InvalidMap> {
        let mut map = self.map.clone();
        map.learn(newer)?;
        if map == self.map {
            return Ok(None);
        }
        Ok(Some(Router::with(map, |shard| self.entry_of(shard))))
    }

    fn entry_of(&self, shard: &ShardDescriptor) -> Entry {
        let known = self.places.get(&shard.id).copied();
        let same_span = known.filter(|place| {
            let known = &self.map.shards()[*place];
            known.start == shard.start && known.end == shard.end
        });
        // A shard that was split off begins its life where the keys were before.
        let before = self.places.get(&self.route(&shard.start).shard.id).copied();
        let place = known.or(before);
        Entry {
            holder: AtomicU64::new(place.map_or(NOBODY, |place| {
                self.entries[place].holder.load(Ordering::Relaxed)
            })),
            span_since: same_span.map_or(shard.generation, |place| self.entries[place].span_since),
            line: match (same_span, before) {
                (Some(place), _) => Arc::clone(&self.entries[place].line),
                (None, Some(place)) => self.line_from(place, shard),
                (None, None) => Arc::default(),
            },
        }
    }

    /// The line of a shard whose keys were a part of the one at `place`. Nothing is known of keys that were not.
    fn line_from(&self, place: usize, shard: &ShardDescriptor) -> Arc<[Former]> {
        let (whole, entry) = (&self.map.shards()[place], &self.entries[place]);
        let ends_inside = match (&whole.end, &shard.end) {
            (None, _) => true,
            (Some(end), Some(part)) => part <= end,
            (Some(_), None) => false,
        };
        if !ends_inside {
            return Arc::default();
        }
        let former = entry.line.iter().copied();
        let line: Vec<Former> = former.chain([(whole.id, entry.span_since)]).collect();
        let forgotten = line.len().saturating_sub(LINE);
        line[forgotten..].into()
    }

    /// Whether `store` is believed to serve all keys of the span itself.
    pub fn is_local(&self, store: StoreId, start: &[u8], end: &[u8]) -> bool {
        self.overlapping(start, Some(end))
            .all(|route| route.holder == Some(store))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard_map::Replica;
    use bytes::Bytes;

    fn replicas(stores: [u64; 3]) -> Vec<Replica> {
        let replica = |store| Replica {
            store: StoreId(store),
            id: store,
        };
        stores.into_iter().map(replica).collect()
    }

    /// Two shards, [.., m) and [m, ..), each on stores 1, 2 and 3.
    fn router() -> Router {
        let one = ShardMap::single(replicas([1, 2, 3])[0]).shards()[0].clone();
        let one = ShardDescriptor {
            replicas: replicas([1, 2, 3]),
            ..one
        };
        let (left, right) = one
            .split(Bytes::from_static(b"m"), ShardId(2))
            .expect("m is inside");
        Router::new(ShardMap::new(vec![left, right]).expect("all keys are covered"))
    }

    #[test]
    fn finds_shards_from_both_ends() {
        let router = router();
        let id = |route: Route<'_>| route.shard.id.0;
        assert_eq!(id(router.route(b"")), 1);
        assert_eq!(id(router.route(b"m")), 2);
        assert_eq!(id(router.route_before(b"m")), 1);
        assert_eq!(id(router.route_before(b"m\0")), 2);
        let touched = |start: &[u8], end: Option<&[u8]>| -> Vec<u64> {
            router.overlapping(start, end).map(id).collect()
        };
        assert_eq!(touched(b"a", Some(b"m")), [1]);
        assert_eq!(touched(b"a", Some(b"m\0")), [1, 2]);
        assert_eq!(touched(b"a", None), [1, 2]);
        assert_eq!(touched(b"q", None), [2]);
    }

    #[test]
    fn what_is_believed_survives_what_is_learned() {
        let router = router();
        assert_eq!(router.route(b"x").holder, Some(StoreId(1)));
        router.believe(ShardId(2), StoreId(3));
        assert!(router.is_local(StoreId(3), b"n", b"z"));
        assert!(!router.is_local(StoreId(3), b"a", b"z"));

        let right = router.route(b"x").shard.clone();
        let moved = ShardDescriptor {
            replicas: replicas([2, 3, 4]),
            generation: right.generation + 1,
            ..right.clone()
        };
        let router = router
            .learn(std::slice::from_ref(&moved))
            .expect("a map")
            .expect("new");
        let route = router.route(b"x");
        assert_eq!(route.holder, Some(StoreId(3)));
        // Its replicas are others, its keys are not.
        assert_eq!(route.span_since, right.generation);
        assert!(router.learn(&[right]).expect("a map").is_none());

        let (left, right) = moved
            .split(Bytes::from_static(b"t"), ShardId(7))
            .expect("t is inside");
        let router = router.learn(&[left, right]).expect("a map").expect("new");
        for key in [b"n", b"x"] {
            let route = router.route(key);
            assert_eq!(route.holder, Some(StoreId(3)));
            assert_eq!(route.span_since, route.shard.generation);
        }
    }

    #[test]
    fn a_shard_that_was_split_has_heirs() {
        let router = router();
        let whole = router.route(b"x").shard.clone();
        let (left, right) = whole
            .split(Bytes::from_static(b"t"), ShardId(7))
            .expect("t");
        let ids = |router: &Router, id: u64, since: u64| -> Vec<u64> {
            let heirs = router.heirs(ShardId(id), since).into_iter();
            heirs.map(|route| route.shard.id.0).collect()
        };
        let once = router
            .learn(&[left.clone(), right.clone()])
            .expect("a map")
            .expect("new");
        assert_eq!(ids(&once, 2, whole.generation), [2, 7]);
        assert_eq!(ids(&once, 2, left.generation), [2]);
        assert_eq!(ids(&once, 7, right.generation), [7]);
        assert_eq!(ids(&once, 1, 2), [1]);
        assert_eq!(ids(&once, 1, 3), [0; 0]);

        let (middle, last) = right
            .split(Bytes::from_static(b"w"), ShardId(9))
            .expect("w");
        let twice = once.learn(&[middle, last]).expect("a map").expect("new");
        assert_eq!(ids(&twice, 2, whole.generation), [2, 7, 9]);
        assert_eq!(ids(&twice, 7, right.generation), [7, 9]);
        assert_eq!(ids(&twice, 2, left.generation), [2]);
    }

    #[test]
    fn a_store_that_does_not_answer_is_not_asked_first_again() {
        let router = router();
        router.doubt(ShardId(1), StoreId(2));
        assert_eq!(router.route(b"a").holder, Some(StoreId(1)));
        for next in [2, 3, 1] {
            let holder = router.route(b"a").holder.expect("a replica");
            router.doubt(ShardId(1), holder);
            assert_eq!(router.route(b"a").holder, Some(StoreId(next)));
        }
    }
}
