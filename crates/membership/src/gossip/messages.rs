//! What nodes say to each other.
//!
//! ```text
//! version 1 │ kind │ cluster, 16 bytes │ count │ store, incarnation, version [, length, facts] │ …
//! ```
//!
//! The transport has a checksum, and so has each record of facts.

use super::{MAX_STORES, Stamp};
use bytes::Bytes;
use std::collections::BTreeMap;
use types::StoreId;
use types::codec::{Reader, put_bytes, put_varint};

const VERSION: u8 = 1;

const DIGEST: u8 = 1;
const REQUEST: u8 = 2;
const DELTA: u8 = 3;

#[derive(Debug, PartialEq)]
pub(super) struct Message {
    pub cluster: u128,
    pub body: Body,
}

#[derive(Debug, PartialEq)]
pub(super) enum Body {
    /// All that the sender knows.
    Digest(BTreeMap<StoreId, Stamp>),
    /// Stores of which the sender wants what is newer.
    Request(BTreeMap<StoreId, Stamp>),
    Delta(Vec<Entry>),
}

#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub store: StoreId,
    pub stamp: Stamp,
    /// Facts, as their owner has written them.
    pub encoded: Bytes,
}

impl Message {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        match &self.body {
            Body::Digest(stamps) => self.put_stamps(&mut out, DIGEST, stamps),
            Body::Request(stamps) => self.put_stamps(&mut out, REQUEST, stamps),
            Body::Delta(entries) => {
                self.put_head(&mut out, DELTA, entries.len());
                for entry in entries {
                    put_stamp(&mut out, entry.store, entry.stamp);
                    put_bytes(&mut out, &entry.encoded);
                }
            }
        }
        out.into()
    }

    fn put_stamps(&self, out: &mut Vec<u8>, kind: u8, stamps: &BTreeMap<StoreId, Stamp>) {
        self.put_head(out, kind, stamps.len());
        for (store, stamp) in stamps {
            put_stamp(out, *store, *stamp);
        }
    }

    fn put_head(&self, out: &mut Vec<u8>, kind: u8, count: usize) {
        out.push(kind);
        out.extend_from_slice(&self.cluster.to_le_bytes());
        put_varint(out, count as u64);
    }

    /// `None` if it is no such message, or has more in it than any node sends.
    pub(super) fn decode(message: &Bytes) -> Option<Message> {
        let mut reader = Reader::new(message.clone());
        if reader.u8()? != VERSION {
            return None;
        }
        let kind = reader.u8()?;
        let cluster = u128::from_le_bytes(reader.take(16)?.as_ref().try_into().ok()?);
        let count = usize::try_from(reader.varint()?).ok()?;
        if count > MAX_STORES {
            return None;
        }
        let body = match kind {
            DIGEST => Body::Digest(stamps(&mut reader, count)?),
            REQUEST => Body::Request(stamps(&mut reader, count)?),
            DELTA => Body::Delta(entries(&mut reader, count)?),
            _ => return None,
        };
        (reader.left() == 0).then_some(Message { cluster, body })
    }
}

fn put_stamp(out: &mut Vec<u8>, store: StoreId, stamp: Stamp) {
    put_varint(out, store.0);
    put_varint(out, stamp.incarnation);
    put_varint(out, stamp.version);
}

fn stamp(reader: &mut Reader) -> Option<(StoreId, Stamp)> {
    let store = StoreId(reader.varint()?);
    let incarnation = reader.varint()?;
    // A version that could not be counted on from is no version.
    let version = reader.varint().filter(|version| *version < u64::MAX)?;
    let stamp = Stamp {
        incarnation,
        version,
    };
    Some((store, stamp))
}

fn stamps(reader: &mut Reader, count: usize) -> Option<BTreeMap<StoreId, Stamp>> {
    (0..count).map(|_| stamp(reader)).collect()
}

fn entries(reader: &mut Reader, count: usize) -> Option<Vec<Entry>> {
    let mut entry = || {
        let (store, stamp) = stamp(reader)?;
        let encoded = reader.bytes()?;
        Some(Entry {
            store,
            stamp,
            encoded,
        })
    };
    (0..count).map(|_| entry()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamped() -> impl Strategy<Value = (StoreId, Stamp)> {
        (any::<u64>(), any::<u64>(), 0..u64::MAX).prop_map(|(store, incarnation, version)| {
            let stamp = Stamp {
                incarnation,
                version,
            };
            (StoreId(store), stamp)
        })
    }

    fn body() -> impl Strategy<Value = Body> {
        let stamps = || {
            proptest::collection::btree_map(any::<u64>().prop_map(StoreId), stamped(), 0..5)
                .prop_map(|map| map.into_values().collect::<BTreeMap<_, _>>())
        };
        let bytes = proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
        let entry = (stamped(), bytes).prop_map(|((store, stamp), encoded)| Entry {
            store,
            stamp,
            encoded,
        });
        prop_oneof![
            stamps().prop_map(Body::Digest),
            stamps().prop_map(Body::Request),
            proptest::collection::vec(entry, 0..5).prop_map(Body::Delta),
        ]
    }

    proptest! {
        #[test]
        fn come_back_as_they_were(cluster in any::<u128>(), body in body()) {
            let message = Message { cluster, body };
            prop_assert_eq!(Message::decode(&message.encode()), Some(message));
        }

        #[test]
        fn any_bytes_decode_without_panic(kind in 0..5u8, bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            Message::decode(&Bytes::from(bytes.clone()));
            let mut message = vec![VERSION, kind];
            message.extend_from_slice(&[0; 16]);
            message.extend_from_slice(&bytes);
            Message::decode(&message.into());
        }
    }
}
