//! What of the liveness protocol is on disk.

use super::{Epoch, Support};
use bytes::Bytes;
use std::collections::BTreeMap;
use types::codec::{Reader, put_varint, seal, unseal};
use types::{StoreId, Timestamp};

const VERSION: u8 = 1;

/// A store's promises and requests. An empty one is that of a new store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The epoch in which this store asks for support.
    pub epoch: Epoch,
    /// The latest expiry that was ever asked for.
    pub requested: Timestamp,
    /// The latest clock reading at which support was withdrawn.
    pub withdrawn: Timestamp,
    /// What this store has promised to others. A withdrawn promise has expiry zero and the epoch from
    /// which on a new one may be given.
    pub given: BTreeMap<StoreId, Support>,
}

impl Record {
    /// Below this the clock of a restarted store must not run. It has acted at `withdrawn`; and until
    /// `requested` others may keep promises to its earlier life, on which that life may have served.
    pub fn clock_floor(&self) -> Timestamp {
        self.requested.max(self.withdrawn)
    }

    /// As it is kept on disk.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.epoch.0);
        put_varint(&mut out, self.requested.0);
        put_varint(&mut out, self.withdrawn.0);
        put_varint(&mut out, self.given.len() as u64);
        for (store, support) in &self.given {
            put_varint(&mut out, store.0);
            put_varint(&mut out, support.epoch.0);
            put_varint(&mut out, support.expiry.0);
        }
        seal(&mut out, 0);
        out
    }

    /// `None`: damaged.
    pub fn decode(record: &Bytes) -> Option<Self> {
        let mut reader = Reader::new(unseal(record)?);
        if reader.u8()? != VERSION {
            return None;
        }
        let epoch = Epoch(reader.varint()?);
        let requested = Timestamp(reader.varint()?);
        let withdrawn = Timestamp(reader.varint()?);
        let count = reader.varint()?;
        let given = |reader: &mut Reader| {
            let store = StoreId(reader.varint()?);
            let support = Support {
                epoch: Epoch(reader.varint()?),
                expiry: Timestamp(reader.varint()?),
            };
            Some((store, support))
        };
        let given = (0..count).map(|_| given(&mut reader));
        let given = given.collect::<Option<BTreeMap<_, _>>>()?;
        (reader.left() == 0).then_some(Record {
            epoch,
            requested,
            withdrawn,
            given,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn comes_back_as_it_was(
            numbers in any::<(u64, u64, u64)>(),
            given in proptest::collection::btree_map(any::<u64>(), any::<(u64, u64)>(), 0..5),
        ) {
            let support = |(epoch, expiry)| Support { epoch: Epoch(epoch), expiry: Timestamp(expiry) };
            let record = Record {
                epoch: Epoch(numbers.0),
                requested: Timestamp(numbers.1),
                withdrawn: Timestamp(numbers.2),
                given: given.into_iter().map(|(id, s)| (StoreId(id), support(s))).collect(),
            };
            let encoded = Bytes::from(record.encode());
            prop_assert_eq!(Record::decode(&encoded), Some(record));
        }

        #[test]
        fn any_bytes_can_be_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Record::decode(&Bytes::from(bytes));
        }
    }
}
