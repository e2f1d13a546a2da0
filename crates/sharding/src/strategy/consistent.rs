//! Consistent hashing: buckets are equal pieces of the circle of hashes, and stores take pieces.
//!
//! The circle is all 2^64 hashes. A row's bucket is the piece that its hash lies on. Which stores hold a piece is
//! for [`super::ranking`] to say, from the piece and the stores that there are and from nothing else: when a
//! store joins, it takes its share of the pieces and no other piece moves; when one leaves, only its pieces do.

use super::{Placement, ShardingStrategy, hash_of};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Consistent {
    buckets: u16,
}

impl Consistent {
    /// At least one bucket. Some times as many as there will be stores, or their shares are uneven.
    pub fn new(buckets: u16) -> Self {
        Consistent {
            buckets: buckets.max(1),
        }
    }
}

impl ShardingStrategy for Consistent {
    fn name(&self) -> &'static str {
        "consistent"
    }

    fn buckets(&self) -> u16 {
        self.buckets
    }

    fn bucket_of(&self, columns: &[u8]) -> u16 {
        let position = u128::from(hash_of(columns)) * u128::from(self.buckets);
        (position >> 64) as u16
    }

    fn placement(&self) -> Placement {
        Placement::Ranked
    }
}
