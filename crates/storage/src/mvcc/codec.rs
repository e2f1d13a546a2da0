//! The bytes of versions: see the essay of [`crate::mvcc`].

use crate::engine::{Error, KeyRange, Result};
use bytes::Bytes;
use std::ops::Bound;
use types::Timestamp;

/// Longest user key, in bytes. An engine key holds at most 65,535 bytes and a history key may need
/// two bytes for each byte of the user key, and ten more.
pub const MAX_KEY_BYTES: usize = 32_000;

const TAG_TOMBSTONE: u8 = 0;
const TAG_VALUE: u8 = 1;
/// Timestamp and tag before the value, in both keyspaces.
const HEADER_BYTES: usize = 9;
const TIMESTAMP_BYTES: usize = 8;
const ESCAPED_ZERO: [u8; 2] = [0x00, 0xff];
const TERMINATOR: [u8; 2] = [0x00, 0x01];

/// What `data` holds for a user key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Version {
    pub timestamp: Timestamp,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
}

impl Version {
    pub fn into_pair(self) -> Option<(Bytes, Timestamp)> {
        let timestamp = self.timestamp;
        self.value.map(|value| (value, timestamp))
    }
}

/// What `history` holds for one old version.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HistoryEntry {
    pub superseded_at: Timestamp,
    pub superseded_by_tombstone: bool,
    pub value: Bytes,
}

pub(crate) fn encode_value(timestamp: Timestamp, value: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(version_len(value));
    put_value(&mut out, timestamp, value);
    Bytes::from(out)
}

/// Appends [`encode_value`], which is [`version_len`] bytes.
pub(crate) fn put_value(out: &mut Vec<u8>, timestamp: Timestamp, value: &[u8]) {
    out.extend_from_slice(&timestamp.0.to_be_bytes());
    out.push(TAG_VALUE);
    out.extend_from_slice(value);
}

pub(crate) fn version_len(value: &[u8]) -> usize {
    HEADER_BYTES + value.len()
}

pub(crate) fn encode_tombstone(timestamp: Timestamp) -> Bytes {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(&timestamp.0.to_be_bytes());
    out.push(TAG_TOMBSTONE);
    Bytes::from(out)
}

pub(crate) fn version_timestamp(key: &[u8], raw: &[u8]) -> Result<Timestamp> {
    match (
        raw.first_chunk::<TIMESTAMP_BYTES>(),
        raw.get(TIMESTAMP_BYTES),
    ) {
        (Some(timestamp), Some(&(TAG_VALUE | TAG_TOMBSTONE))) => {
            Ok(Timestamp(u64::from_be_bytes(*timestamp)))
        }
        _ => Err(undecodable("data", key)),
    }
}

/// What a version in `data` is to a read.
pub(crate) enum Present<'v> {
    Value(&'v [u8]),
    Deleted,
    /// Too new: the read must look into `history`.
    Newer,
}

/// Like [`decode_version`], without sharing the memory.
#[inline]
pub(crate) fn present_value<'v>(key: &[u8], raw: &'v [u8], at: Timestamp) -> Result<Present<'v>> {
    if version_timestamp(key, raw)? > at {
        return Ok(Present::Newer);
    }
    Ok(match raw[TIMESTAMP_BYTES] == TAG_VALUE {
        true => Present::Value(&raw[HEADER_BYTES..]),
        false => Present::Deleted,
    })
}

/// Shares `raw`'s memory with the value.
pub(crate) fn decode_version(key: &[u8], raw: Bytes) -> Result<Version> {
    let timestamp = version_timestamp(key, &raw)?;
    let value = (raw[TIMESTAMP_BYTES] == TAG_VALUE).then(|| raw.slice(HEADER_BYTES..));
    Ok(Version { timestamp, value })
}

pub(crate) fn history_key(key: &[u8], timestamp: Timestamp) -> Bytes {
    let mut out = escape(key);
    out.extend_from_slice(&(!timestamp.0).to_be_bytes());
    Bytes::from(out)
}

/// All old versions of `key` with timestamps not above `at`, newest first.
/// Where the history of the keys from `key` on begins.
pub(crate) fn history_start(key: &[u8]) -> Bytes {
    Bytes::from(escape(key))
}

pub(crate) fn history_bounds(key: &[u8], at: Timestamp) -> KeyRange {
    let mut end = escape(key);
    end.extend_from_slice(&[0xff; TIMESTAMP_BYTES]);
    (
        Bound::Included(history_key(key, at)),
        Bound::Included(Bytes::from(end)),
    )
}

pub(crate) fn decode_history_key(raw: &[u8]) -> Result<(Bytes, Timestamp)> {
    let damaged = || undecodable("history", raw);
    let (escaped, inverted) = raw
        .split_last_chunk::<TIMESTAMP_BYTES>()
        .ok_or_else(damaged)?;
    let escaped = escaped.strip_suffix(&TERMINATOR).ok_or_else(damaged)?;
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        key.push(byte);
        if byte == 0 && bytes.next() != Some(&ESCAPED_ZERO[1]) {
            return Err(damaged());
        }
    }
    Ok((Bytes::from(key), Timestamp(!u64::from_be_bytes(*inverted))))
}

pub(crate) fn history_value(superseded_at: Timestamp, by_tombstone: bool, value: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(HEADER_BYTES + value.len());
    out.extend_from_slice(&superseded_at.0.to_be_bytes());
    out.push(if by_tombstone {
        TAG_TOMBSTONE
    } else {
        TAG_VALUE
    });
    out.extend_from_slice(value);
    Bytes::from(out)
}

pub(crate) fn decode_history_value(history_key: &[u8], raw: Bytes) -> Result<HistoryEntry> {
    let superseded_at =
        version_timestamp(history_key, &raw).map_err(|_| undecodable("history", history_key))?;
    Ok(HistoryEntry {
        superseded_at,
        superseded_by_tombstone: raw[TIMESTAMP_BYTES] == TAG_TOMBSTONE,
        value: raw.slice(HEADER_BYTES..),
    })
}

fn escape(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 16);
    for &byte in key {
        if byte == 0 {
            out.extend_from_slice(&ESCAPED_ZERO);
        } else {
            out.push(byte);
        }
    }
    out.extend_from_slice(&TERMINATOR);
    out
}

fn undecodable(keyspace: &str, key: &[u8]) -> Error {
    Error::Corrupt(format!(
        "undecodable version in keyspace {keyspace} at key {key:02x?}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn small_key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()],
            0..6,
        )
    }

    proptest! {
        #[test]
        fn history_keys_sort_by_key_then_newest_first(
            a in small_key(), b in small_key(), x in any::<u64>(), y in any::<u64>()
        ) {
            let expected = a.cmp(&b).then(y.cmp(&x));
            let (left, right) = (history_key(&a, Timestamp(x)), history_key(&b, Timestamp(y)));
            prop_assert_eq!(left.cmp(&right), expected);
            let (key, timestamp) = decode_history_key(&left).unwrap();
            prop_assert_eq!((&key[..], timestamp), (&a[..], Timestamp(x)));
        }

        #[test]
        fn decoding_any_bytes_does_not_panic(raw in proptest::collection::vec(any::<u8>(), 0..24)) {
            let _ = decode_history_key(&raw);
            let _ = decode_version(b"k", Bytes::from(raw.clone()));
            let _ = decode_history_value(b"k", Bytes::from(raw));
        }
    }

    #[test]
    fn versions_round_trip() {
        let value = Version {
            timestamp: Timestamp(7),
            value: Some(Bytes::from_static(b"v")),
        };
        assert_eq!(
            decode_version(b"k", encode_value(Timestamp(7), b"v")).unwrap(),
            value
        );
        let tombstone = Version {
            timestamp: Timestamp(8),
            value: None,
        };
        assert_eq!(
            decode_version(b"k", encode_tombstone(Timestamp(8))).unwrap(),
            tombstone
        );
        let entry = decode_history_value(b"k", history_value(Timestamp(9), true, b"v")).unwrap();
        assert!(
            entry.superseded_by_tombstone
                && entry.superseded_at == Timestamp(9)
                && entry.value == "v"
        );
    }
}
