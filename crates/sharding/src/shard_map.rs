//! Which shard holds a key.
//!
//! A *shard* is a contiguous span of keys with its own Raft group. The shards of a map cover all keys
//! without gap or overlap. A descriptor's *generation* rises with every change of its span or
//! replicas, so of two descriptors of a shard the one with the higher generation is the newer.
//!
//! A new cluster has one shard that holds everything. Shards are split and merged; what a map knows of
//! others' shards may be old, and is corrected by descriptors that come with their answers:
//! [`ShardMap::learn`].

use bytes::Bytes;
use thiserror::Error;
use types::StoreId;
use types::codec::{Reader, put_bytes, put_optional_bytes, put_varint};

/// A shard's name in its cluster, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u64);

/// The shard that holds all keys of a new cluster.
pub const FIRST_SHARD: ShardId = ShardId(1);

/// A shard's copy on a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    pub store: StoreId,
    /// The replica's name in the Raft group.
    pub id: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardDescriptor {
    pub id: ShardId,
    /// First key.
    pub start: Bytes,
    /// The key after the last; `None` for the last shard, which has no end.
    pub end: Option<Bytes>,
    pub replicas: Vec<Replica>,
    /// The name of the next replica: above all that were ever given.
    pub next_replica: u64,
    pub generation: u64,
}

impl ShardDescriptor {
    /// Appends all fields.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id.0);
        put_bytes(out, &self.start);
        put_optional_bytes(out, self.end.as_deref());
        put_varint(out, self.replicas.len() as u64);
        for replica in &self.replicas {
            put_varint(out, replica.store.0);
            put_varint(out, replica.id);
        }
        put_varint(out, self.next_replica);
        put_varint(out, self.generation);
    }

    /// What [`ShardDescriptor::put`] wrote. `None`: malformed.
    pub fn read(reader: &mut Reader) -> Option<Self> {
        let id = ShardId(reader.varint()?);
        let start = reader.bytes()?;
        let end = reader.optional_bytes()?;
        let count = reader.varint()?;
        let replica = |reader: &mut Reader| {
            Some(Replica {
                store: StoreId(reader.varint()?),
                id: reader.varint()?,
            })
        };
        let replicas = (0..count)
            .map(|_| replica(reader))
            .collect::<Option<Vec<_>>>()?;
        Some(ShardDescriptor {
            id,
            start,
            end,
            replicas,
            next_replica: reader.varint()?,
            generation: reader.varint()?,
        })
    }

    /// It has no keys, as a replica that waits for its first copy.
    fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    pub fn replica_on(&self, store: StoreId) -> Option<Replica> {
        self.replicas.iter().find(|r| r.store == store).copied()
    }

    /// The two shards that this one becomes when it is split before `at`: the left keeps the name.
    /// `None`: `at` is not inside of it.
    pub fn split(&self, at: Bytes, right: ShardId) -> Option<(ShardDescriptor, ShardDescriptor)> {
        if at <= self.start || !self.holds(&at) {
            return None;
        }
        let generation = self.generation + 1;
        let left = ShardDescriptor {
            end: Some(at.clone()),
            generation,
            ..self.clone()
        };
        let right = ShardDescriptor {
            id: right,
            start: at,
            generation,
            ..self.clone()
        };
        Some((left, right))
    }

    /// The shard that this one and the one to its right become. `None`: they do not touch, or do not lie on
    /// the same stores.
    pub fn merge(&self, right: &ShardDescriptor) -> Option<ShardDescriptor> {
        let stores = |shard: &ShardDescriptor| {
            let mut stores: Vec<StoreId> = shard.replicas.iter().map(|r| r.store).collect();
            stores.sort_unstable();
            stores
        };
        if self.end.as_ref() != Some(&right.start) || stores(self) != stores(right) {
            return None;
        }
        Some(ShardDescriptor {
            end: right.end.clone(),
            generation: self.generation.max(right.generation) + 1,
            ..self.clone()
        })
    }

    /// Whether a key may lie in both.
    pub fn overlaps(&self, other: &ShardDescriptor) -> bool {
        let before = |a: &ShardDescriptor, b: &ShardDescriptor| {
            a.end.as_ref().is_some_and(|end| *end <= b.start)
        };
        !before(self, other) && !before(other, self)
    }

    pub fn holds(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }
}

/// What makes a list of descriptors no map.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidMap {
    #[error("a shard map needs at least one shard")]
    Empty,
    #[error("the first shard does not start at the first key")]
    NoBeginning,
    #[error("between shard {0:?} and shard {1:?} there is a gap or an overlap")]
    Gap(ShardId, ShardId),
    #[error("the last shard has an end")]
    NoEnd,
}

/// All shards of a cluster, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMap {
    /// Sorted by start.
    shards: Vec<ShardDescriptor>,
}

impl ShardMap {
    /// One shard with one replica that holds all keys.
    pub fn single(replica: Replica) -> Self {
        ShardMap {
            shards: vec![ShardDescriptor {
                id: FIRST_SHARD,
                start: Bytes::new(),
                end: None,
                next_replica: replica.id + 1,
                replicas: vec![replica],
                generation: 1,
            }],
        }
    }

    /// What a node knows before it has asked anybody: one shard without replicas, older than all others.
    pub fn unknown() -> Self {
        ShardMap {
            shards: vec![ShardDescriptor {
                id: FIRST_SHARD,
                start: Bytes::new(),
                end: None,
                replicas: Vec::new(),
                next_replica: 0,
                generation: 0,
            }],
        }
    }

    pub fn new(mut shards: Vec<ShardDescriptor>) -> Result<Self, InvalidMap> {
        shards.sort_by(|a, b| a.start.cmp(&b.start));
        let (Some(first), Some(last)) = (shards.first(), shards.last()) else {
            return Err(InvalidMap::Empty);
        };
        if !first.start.is_empty() {
            return Err(InvalidMap::NoBeginning);
        }
        if last.end.is_some() {
            return Err(InvalidMap::NoEnd);
        }
        for pair in shards.windows(2) {
            if pair[0].end.as_ref() != Some(&pair[1].start) {
                return Err(InvalidMap::Gap(pair[0].id, pair[1].id));
            }
        }
        Ok(ShardMap { shards })
    }

    /// The shard that holds `key`.
    pub fn lookup(&self, key: &[u8]) -> &ShardDescriptor {
        let after = self.shards.partition_point(|shard| &shard.start[..] <= key);
        // The first shard starts at the empty key, which is at or below every key.
        &self.shards[after - 1]
    }

    /// The shards that a span touches, in key order.
    pub fn overlapping<'a>(
        &'a self,
        start: &'a [u8],
        end: &'a [u8],
    ) -> impl Iterator<Item = &'a ShardDescriptor> {
        let first = self
            .shards
            .partition_point(|shard| &shard.start[..] <= start)
            - 1;
        self.shards[first..]
            .iter()
            .take_while(move |shard| &shard.start[..] < end)
    }

    /// Takes in newer descriptors, as an answer from a shard brings them. Older descriptors than known are passed
    /// over.
    ///
    /// Keys that are in none of them, although the shard that held them holds them no more, stay with what was
    /// known of that shard, as if it were two for the moment: whoever asks it for such a key is told more. So
    /// the map always covers all keys.
    pub fn learn(&mut self, newer: &[ShardDescriptor]) -> Result<(), InvalidMap> {
        let mut shards = self.shards.clone();
        for descriptor in newer.iter().filter(|shard| !shard.is_empty()) {
            let before = |known: &ShardDescriptor| {
                known.end.as_ref().is_some_and(|e| *e <= descriptor.start)
            };
            let begins =
                |known: &ShardDescriptor| descriptor.end.as_ref().is_none_or(|e| known.start < *e);
            let (first, last) = (
                shards.partition_point(before),
                shards.partition_point(begins),
            );
            let known = &shards[first..last];
            let is_old = |known: &ShardDescriptor| known.generation > descriptor.generation;
            if !known.iter().any(is_old) && known != std::slice::from_ref(descriptor) {
                shards.splice(first..last, [descriptor.clone()]);
            }
        }
        let mut covering = Vec::with_capacity(shards.len());
        let mut next = Some(Bytes::new());
        for shard in shards {
            if let Some(from) = next.filter(|from| *from < shard.start) {
                covering.extend(self.remains(&from, Some(&shard.start)));
            }
            next = shard.end.clone();
            covering.push(shard);
        }
        if let Some(from) = next {
            covering.extend(self.remains(&from, None));
        }
        *self = ShardMap::new(covering)?;
        Ok(())
    }

    /// What is known of the keys from `start` to below `end`.
    fn remains(&self, start: &Bytes, end: Option<&Bytes>) -> Vec<ShardDescriptor> {
        let before = |shard: &ShardDescriptor| shard.end.as_ref().is_some_and(|e| e <= start);
        let first = self.shards.partition_point(before);
        let begins = |shard: &&ShardDescriptor| end.is_none_or(|end| shard.start < *end);
        let touched = self.shards[first..].iter().take_while(begins);
        let parts = touched.map(|shard| {
            let ends = shard.end.iter().chain(end).min().cloned();
            ShardDescriptor {
                start: shard.start.clone().max(start.clone()),
                end: ends,
                ..shard.clone()
            }
        });
        parts.collect()
    }

    pub fn shards(&self) -> &[ShardDescriptor] {
        &self.shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: u64, start: &'static str, end: Option<&'static str>) -> ShardDescriptor {
        ShardDescriptor {
            id: ShardId(id),
            start: Bytes::from_static(start.as_bytes()),
            end: end.map(|end| Bytes::from_static(end.as_bytes())),
            replicas: Vec::new(),
            next_replica: 1,
            generation: 1,
        }
    }

    #[test]
    fn finds_the_shard_of_a_key_and_of_a_span() {
        let map = ShardMap::new(vec![
            shard(3, "p", None),
            shard(1, "", Some("g")),
            shard(2, "g", Some("p")),
        ])
        .expect("a map");
        for (key, id) in [
            ("", 1),
            ("f\u{7f}", 1),
            ("g", 2),
            ("o", 2),
            ("p", 3),
            ("z", 3),
        ] {
            let found = map.lookup(key.as_bytes());
            assert_eq!(found.id, ShardId(id), "{key}");
            assert!(found.holds(key.as_bytes()));
        }
        let touched = |start: &str, end: &str| -> Vec<u64> {
            map.overlapping(start.as_bytes(), end.as_bytes())
                .map(|shard| shard.id.0)
                .collect()
        };
        assert_eq!(touched("a", "g"), [1]);
        assert_eq!(touched("a", "h"), [1, 2]);
        assert_eq!(touched("q", "r"), [3]);
        assert_eq!(touched("", "\u{7f}"), [1, 2, 3]);
    }

    #[test]
    fn a_stale_map_learns_of_splits_and_merges() {
        let one = ShardMap::single(Replica {
            store: StoreId(1),
            id: 1,
        });
        let all = one.shards()[0].clone();
        let (left, right) = all
            .split(Bytes::from_static(b"m"), ShardId(2))
            .expect("a split");
        let (middle, last) = right
            .split(Bytes::from_static(b"t"), ShardId(3))
            .expect("a split");
        assert_eq!(right.split(Bytes::from_static(b"m"), ShardId(4)), None);
        assert_eq!(left.split(Bytes::from_static(b"z"), ShardId(4)), None);

        // A part of the truth: for the rest, the shard that held it is to be asked.
        let mut map = one.clone();
        map.learn(std::slice::from_ref(&left)).expect("a map");
        assert_eq!(map.lookup(b"a"), &left);
        let rest = map.lookup(b"n");
        assert_eq!((rest.id, rest.generation), (all.id, all.generation));
        assert_eq!((&rest.start, &rest.end), (&right.start, &right.end));
        map.learn(std::slice::from_ref(&last)).expect("a map");
        assert_eq!(map.lookup(b"s").id, all.id);
        map.learn(&[left.clone(), right.clone()])
            .expect("the keys are covered");
        assert_eq!(map.lookup(b"s").id, all.id);
        map.learn(&[middle.clone(), last.clone()])
            .expect("the keys are covered");
        assert_eq!(map.lookup(b"s").id, ShardId(2));
        assert_eq!(map.lookup(b"t").id, ShardId(3));

        // What is old teaches nothing.
        map.learn(&[all, right]).expect("nothing changes");
        assert_eq!(map.shards(), [left.clone(), middle.clone(), last.clone()]);

        assert_eq!(left.merge(&last), None);
        let merged = middle.merge(&last).expect("neighbours");
        let merged = left.merge(&merged).expect("neighbours");
        map.learn(std::slice::from_ref(&merged))
            .expect("the keys are covered");
        assert_eq!(map.shards(), [merged]);
    }

    #[test]
    fn refuses_gaps_and_overlaps() {
        use InvalidMap::*;
        assert_eq!(ShardMap::new(vec![]), Err(Empty));
        assert_eq!(ShardMap::new(vec![shard(1, "a", None)]), Err(NoBeginning));
        assert_eq!(ShardMap::new(vec![shard(1, "", Some("a"))]), Err(NoEnd));
        let gap = vec![shard(1, "", Some("a")), shard(2, "b", None)];
        assert_eq!(ShardMap::new(gap), Err(Gap(ShardId(1), ShardId(2))));
    }
}
