//! No buckets: keys in the order of the primary key.

use super::ShardingStrategy;

/// See the module. All of the table is one bucket, which does not stand in the keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range;

impl ShardingStrategy for Range {
    fn name(&self) -> &'static str {
        "range"
    }

    fn buckets(&self) -> u16 {
        1
    }

    fn bucket_of(&self, _columns: &[u8]) -> u16 {
        0
    }

    fn keeps_order(&self) -> bool {
        true
    }
}
