//! All engine rows of a span of user keys: for copying a shard, and for removing it.

use super::codec::history_start;
use crate::engine::{Damage, KeyRange, Keyspace};
use bytes::Bytes;
use std::ops::{Bound, RangeBounds};

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

/// Whether versions of the user keys in `start..end` may be among what is damaged.
pub fn is_damaged(start: &[u8], end: Option<&[u8]>, damage: &Damage) -> bool {
    span_ranges(start, end)
        .into_iter()
        .any(|(keyspace, range)| {
            let begins = match range.start_bound() {
                Bound::Included(first) => *first <= damage.last,
                Bound::Excluded(first) => *first < damage.last,
                Bound::Unbounded => true,
            };
            let ends = match range.end_bound() {
                Bound::Included(last) => *last >= damage.first,
                Bound::Excluded(last) => *last > damage.first,
                Bound::Unbounded => true,
            };
            keyspace == damage.table.keyspace && begins && ends
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, WriteBatch};
    use crate::{SimDisk, mvcc};
    use types::Timestamp;

    #[test]
    fn damage_concerns_the_spans_that_it_lies_in() {
        use crate::engine::TableRef;
        let damage = |keyspace, first: &'static [u8], last: &'static [u8]| Damage {
            table: TableRef {
                keyspace,
                number: 1,
                bytes: 1,
            },
            first: Bytes::from_static(first),
            last: Bytes::from_static(last),
            what: String::new(),
        };
        let data = damage(Keyspace::Data, b"d", b"f");
        assert!(is_damaged(b"", None, &data));
        assert!(is_damaged(b"f", None, &data));
        assert!(!is_damaged(b"f\0", None, &data));
        assert!(is_damaged(b"a", Some(b"d\0"), &data));
        assert!(!is_damaged(b"a", Some(b"d"), &data));
        assert!(!is_damaged(b"", None, &damage(Keyspace::Raft, b"d", b"f")));
        // A joining replica has no keys yet.
        assert!(!is_damaged(
            b"",
            Some(b""),
            &damage(Keyspace::Data, b"a", b"z")
        ));
    }

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
