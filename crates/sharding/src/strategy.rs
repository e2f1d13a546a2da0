//! Sharding strategies: how a table's rows are spread over shards.
//!
//! A shard is a span of keys, so to spread rows is to choose their keys. A strategy puts each row in one
//! *bucket*, by columns of its primary key alone; the bucket stands in the key before the primary key's
//! columns, and each bucket is a shard of its own from the start. What follows from that:
//!
//! - A row is found by its primary key: the bucket is a function of it. So primary keys stay unique.
//! - Index entries have the bucket of their row, so a row and its entries are written in one shard.
//! - Whoever knows the deciding columns' values looks into one bucket ([`ShardingStrategy::route`]), whoever does not
//!   looks into all; within a bucket keys are in the order of the primary key, so that the buckets' rows are
//!   merged where their order matters.
//!
//! | strategy     | the bucket of a row                               | good for |
//! | ------------ | ------------------------------------------------- | -------- |
//! | [`Range`]    | none: keys are in the order of the primary key    | scans of ranges, small tables; the default |
//! | [`struct@Hash`] | hash of the columns, modulo                       | ids that grow: writes go everywhere |
//! | [`Consistent`] | a piece of the circle of hashes                 | the same, and buckets move little when stores come and go: each bucket's place follows from the stores alone ([`ranking`]) |
//! | [`Directory`] | the group in which the column's value is listed  | regions, tenants: values that belong together |
//!
//! Strategies see *encoded* columns (`types::key`): values that are equal in SQL have one encoding, so they
//! have one bucket. What a strategy answers may never change, or rows would not be found again: tests
//! pin the hashes.
//!
//! Buckets are never split further or rehashed here: a table keeps the number of buckets that it was made
//! with. Shards that grow too large are split by key, within a bucket too.

mod consistent;
mod directory;
mod hash;
mod placement;
mod range;
#[cfg(test)]
mod tests;

pub use consistent::Consistent;
pub use directory::Directory;
pub use hash::Hash;
pub use placement::{Placement, ranking};
pub use range::Range;

use std::fmt::Debug;

/// Most buckets of a table: each is a shard, and a scan without the deciding columns reads them all.
pub const MAX_BUCKETS: u16 = 256;

/// See the module.
pub trait ShardingStrategy: Debug + Send + Sync {
    /// Its name in `WITH (sharding = …)`.
    fn name(&self) -> &'static str;

    /// How many buckets there are, at least one.
    fn buckets(&self) -> u16;

    /// The bucket of the row whose deciding columns have this encoding: below [`ShardingStrategy::buckets`].
    fn bucket_of(&self, columns: &[u8]) -> u16;

    /// Keys have no bucket in them: they are in the order of the primary key over the whole table.
    fn keeps_order(&self) -> bool {
        false
    }

    /// Where the buckets' shards should lie.
    fn placement(&self) -> Placement {
        Placement::Balanced
    }

    /// The buckets that may have the rows with these deciding columns; `None`: they are not known.
    fn route(&self, columns: Option<&[u8]>) -> std::ops::Range<u16> {
        match columns {
            Some(columns) => {
                let bucket = self.bucket_of(columns);
                bucket..bucket + 1
            }
            None => 0..self.buckets(),
        }
    }
}

/// The hash of encoded columns: XXH3, whose values are fixed by its specification.
pub(crate) fn hash_of(columns: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(columns)
}
