//! Do the shards cover all keys, each exactly once?
//!
//! Replicas of a shard may know descriptors of different age; the newest one of each shard counts. So this is
//! asked when a cluster is at rest, or of one node's map at any time.

use super::{Broken, Checked, Result};
use sharding::{ShardDescriptor, ShardMap};
use std::collections::BTreeMap;

/// Takes the descriptors of all replicas. Counts `descriptors` and `shards`.
pub fn check(descriptors: &[ShardDescriptor]) -> Result {
    let mut newest = BTreeMap::new();
    for descriptor in descriptors {
        let known = newest.entry(descriptor.id).or_insert(descriptor);
        if known.generation < descriptor.generation {
            *known = descriptor;
        } else if known.generation == descriptor.generation && *known != descriptor {
            let what = format!("two descriptors of one generation: {known:?} and {descriptor:?}");
            return Err(Broken::new("shard map", what));
        }
    }
    let shards: Vec<ShardDescriptor> = newest.into_values().cloned().collect();
    let count = shards.len() as u64;
    match ShardMap::new(shards) {
        Ok(_) => Ok(Checked::new([
            ("descriptors", descriptors.len() as u64),
            ("shards", count),
        ])),
        Err(invalid) => Err(Broken::new("shard map", invalid.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sharding::{Replica, ShardId};
    use types::StoreId;

    #[test]
    fn shards_touch_and_do_not_overlap() {
        let replica = Replica {
            store: StoreId(1),
            id: 1,
        };
        let whole = ShardMap::single(replica).lookup(b"").clone();
        let (left, right) = whole.split("m".into(), ShardId(2)).unwrap();
        // One replica has not heard of the split.
        let checked = check(&[whole.clone(), left.clone(), right.clone(), right.clone()]).unwrap();
        assert_eq!(checked.to_string(), "4 descriptors, 2 shards");
        assert!(check(std::slice::from_ref(&left)).is_err());
        assert!(check(&[whole, right.clone()]).is_err());
        let mut moved = right.clone();
        moved.start = "k".into();
        let both = check(&[left, right, moved]).unwrap_err();
        assert!(both.explanation.contains("one generation"));
    }
}
