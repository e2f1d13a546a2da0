//! All engine rows of a span of user keys: for copying a shard, and for removing it.

use super::codec::history_start;
use crate::engine::{KeyRange, Keyspace};
use bytes::Bytes;
use std::ops::Bound;

/// Where the versions of the user keys in `start..end` lie (`None`: to the last key).
pub fn span_ranges(start: &[u8], end: Option<&[u8]>) -> [(Keyspace, KeyRange); 2] {
    let data_end = end.map_or(Bound::Unbounded, |end| {
        Bound::Excluded(Bytes::copy_from_slice(end))
    });
    let history_end = end.map_or(Bound::Unbounded, |end| Bound::Excluded(history_start(end)));
    [
        (
            Keyspace::Data,
            (Bound::Included(Bytes::copy_from_slice(start)), data_end),
        ),
        (
            Keyspace::History,
            (Bound::Included(history_start(start)), history_end),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, WriteBatch};
    use crate::{SimDisk, mvcc};
    use types::Timestamp;

    #[test]
    fn ranges_hold_the_versions_of_their_keys_and_no_others() {
        let disk = SimDisk::new();
        let keys: [&[u8]; 6] = [b"", b"a", b"a\0", b"a\0b", b"a\x01", b"b"];
        for (round, value) in ["old", "new"].iter().enumerate() {
            let mut batch = WriteBatch::default();
            let writes: Vec<_> = keys[1..]
                .iter()
                .map(|key| (Bytes::copy_from_slice(key), Some(Bytes::from(*value))))
                .collect();
            let at = Timestamp(10 + round as u64);
            mvcc::apply(&disk, &mut batch, &writes, at).expect("a sound disk");
            disk.write(batch).expect("a write");
        }
        let rows = |start: &[u8], end: Option<&[u8]>| -> [usize; 2] {
            let snapshot = disk.snapshot();
            span_ranges(start, end)
                .map(|(keyspace, range)| snapshot.scan(keyspace, range, false).count())
        };
        for (at, start) in keys.iter().enumerate() {
            let from = at.max(1);
            assert_eq!(rows(start, None), [keys.len() - from; 2]);
            for (to, end) in keys.iter().enumerate().skip(at) {
                assert_eq!(rows(start, Some(end)), [to.max(1) - from; 2], "{at} {to}");
            }
        }
    }
}
