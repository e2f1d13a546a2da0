//! Buckets by the remainder of a hash.

use super::{ShardingStrategy, hash_of};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Hash {
    buckets: u16,
}

impl Hash {
    /// At least one bucket.
    pub fn new(buckets: u16) -> Self {
        Hash {
            buckets: buckets.max(1),
        }
    }
}

impl ShardingStrategy for Hash {
    fn name(&self) -> &'static str {
        "hash"
    }

    fn buckets(&self) -> u16 {
        self.buckets
    }

    fn bucket_of(&self, columns: &[u8]) -> u16 {
        (hash_of(columns) % u64::from(self.buckets)) as u16
    }
}
