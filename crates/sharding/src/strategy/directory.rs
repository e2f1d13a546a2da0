//! Buckets by a list: which values belong to which group.

use super::ShardingStrategy;
use std::collections::BTreeMap;

/// The bucket of values that are in no group.
pub const OTHERS: u16 = 0;

/// See the module. Group *n* of the list is bucket *n* + 1; bucket 0 has all values that are in no group.
#[derive(Clone, Debug)]
pub struct Directory {
    buckets: u16,
    groups: BTreeMap<Vec<u8>, u16>,
}

impl Directory {
    /// The groups' values, encoded. `None`: a value is in two groups, or there are too many groups.
    pub fn new(groups: impl IntoIterator<Item = Vec<Vec<u8>>>) -> Option<Self> {
        let mut directory = Directory {
            buckets: OTHERS + 1,
            groups: BTreeMap::new(),
        };
        for values in groups {
            let bucket = directory.buckets;
            for value in values {
                let before = directory.groups.insert(value, bucket);
                if before.is_some_and(|other| other != bucket) {
                    return None;
                }
            }
            directory.buckets = bucket.checked_add(1)?;
        }
        (directory.buckets <= super::MAX_BUCKETS).then_some(directory)
    }
}

impl ShardingStrategy for Directory {
    fn name(&self) -> &'static str {
        "directory"
    }

    fn buckets(&self) -> u16 {
        self.buckets
    }

    fn bucket_of(&self, columns: &[u8]) -> u16 {
        self.groups.get(columns).copied().unwrap_or(OTHERS)
    }
}
