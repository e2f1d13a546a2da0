//! Facts as bytes.
//!
//! ```text
//! version 1 │ field, length, value │ field, length, value │ … │ CRC-32
//! ```
//!
//! Nodes of different versions talk while a cluster is upgraded. So a field's number and meaning never
//! change; a field that is not known is stepped over, and one that is not there has its default. The version
//! changes only with this frame.

use super::{MAX_FACTS_BYTES, NodeFacts};
use bytes::Bytes;
use types::codec::{Reader, put_bytes, put_field, put_number_field, seal, unseal};
use types::locality::MAX_TIERS;
use types::{Locality, StoreId};

const VERSION: u8 = 1;

const STORE: u64 = 1;
const INCARNATION: u64 = 2;
const RPC_ADDRESS: u64 = 3;
const SQL_ADDRESS: u64 = 4;
const HTTP_ADDRESS: u64 = 5;
const LOCALITY: u64 = 6;
const PROGRAM_VERSION: u64 = 7;
const CAPACITY_BYTES: u64 = 8;
const USED_BYTES: u64 = 9;
const CORES: u64 = 10;
const DRAINING: u64 = 11;
const STARTED_AT_MICROS: u64 = 12;
const LEASES: u64 = 13;
const REPLICAS: u64 = 14;
const SESSIONS: u64 = 15;
const SLOW_SCORE: u64 = 16;

impl NodeFacts {
    /// A record of at most [`MAX_FACTS_BYTES`], or `None` if the texts in it are too long for that.
    pub fn encode(&self) -> Option<Bytes> {
        let mut record = vec![VERSION];
        for (name, number) in self.numbers() {
            if number != 0 {
                put_number_field(&mut record, name, number);
            }
        }
        for (name, text) in [
            (RPC_ADDRESS, &self.rpc_address),
            (SQL_ADDRESS, &self.sql_address),
            (HTTP_ADDRESS, &self.http_address),
            (PROGRAM_VERSION, &self.version),
        ] {
            if !text.is_empty() {
                put_field(&mut record, name, text.as_bytes());
            }
        }
        if !self.locality.0.is_empty() {
            put_field(&mut record, LOCALITY, &encode_locality(&self.locality));
        }
        seal(&mut record, 0);
        (record.len() <= MAX_FACTS_BYTES).then(|| record.into())
    }

    /// `None` if the bytes are damaged, or are of a frame that is not known.
    pub fn decode(record: &Bytes) -> Option<NodeFacts> {
        if record.len() > MAX_FACTS_BYTES {
            return None;
        }
        let mut reader = Reader::new(unseal(record)?);
        if reader.u8()? != VERSION {
            return None;
        }
        let mut facts = NodeFacts::default();
        while reader.left() > 0 {
            let (name, value) = reader.field()?;
            facts.read_field(name, value)?;
        }
        Some(facts)
    }

    fn numbers(&self) -> [(u64, u64); 11] {
        [
            (STORE, self.store.0),
            (INCARNATION, self.incarnation),
            (CAPACITY_BYTES, self.capacity_bytes),
            (USED_BYTES, self.used_bytes),
            (CORES, self.cores),
            (DRAINING, u64::from(self.draining)),
            (STARTED_AT_MICROS, self.started_at_micros.cast_unsigned()),
            (LEASES, self.leases),
            (REPLICAS, self.replicas),
            (SESSIONS, self.sessions),
            (SLOW_SCORE, self.slow_score),
        ]
    }

    fn read_field(&mut self, name: u64, mut value: Reader) -> Option<()> {
        match name {
            STORE => self.store = StoreId(value.rest_as_number()?),
            INCARNATION => self.incarnation = value.rest_as_number()?,
            RPC_ADDRESS => self.rpc_address = value.rest_as_text()?,
            SQL_ADDRESS => self.sql_address = value.rest_as_text()?,
            HTTP_ADDRESS => self.http_address = value.rest_as_text()?,
            LOCALITY => self.locality = decode_locality(value)?,
            PROGRAM_VERSION => self.version = value.rest_as_text()?,
            CAPACITY_BYTES => self.capacity_bytes = value.rest_as_number()?,
            USED_BYTES => self.used_bytes = value.rest_as_number()?,
            CORES => self.cores = value.rest_as_number()?,
            DRAINING => self.draining = value.rest_as_number()? != 0,
            STARTED_AT_MICROS => self.started_at_micros = value.rest_as_number()?.cast_signed(),
            LEASES => self.leases = value.rest_as_number()?,
            REPLICAS => self.replicas = value.rest_as_number()?,
            SESSIONS => self.sessions = value.rest_as_number()?,
            SLOW_SCORE => self.slow_score = value.rest_as_number()?,
            // Of a newer program.
            _ => {}
        }
        Some(())
    }
}

/// Name and value of each tier, one after the other.
fn encode_locality(locality: &Locality) -> Vec<u8> {
    let mut tiers = Vec::new();
    for (key, value) in &locality.0 {
        put_bytes(&mut tiers, key.as_bytes());
        put_bytes(&mut tiers, value.as_bytes());
    }
    tiers
}

fn decode_locality(mut tiers: Reader) -> Option<Locality> {
    let mut locality = Locality::default();
    while tiers.left() > 0 && locality.0.len() < MAX_TIERS {
        let mut word = || String::from_utf8(tiers.bytes()?.to_vec()).ok();
        locality.0.push((word()?, word()?));
    }
    (tiers.left() == 0).then_some(locality)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn locality() -> impl Strategy<Value = Locality> {
        proptest::collection::vec((".{0,8}", ".{0,8}"), 0..4).prop_map(Locality)
    }

    prop_compose! {
        fn facts()(
            numbers in proptest::array::uniform9(any::<u64>()),
            texts in proptest::array::uniform4(".{0,30}"),
            locality in locality(),
            draining in any::<bool>(),
            started_at_micros in any::<i64>(),
        ) -> NodeFacts {
            let [store, incarnation, capacity_bytes, used_bytes, cores, leases, replicas, sessions, slow_score] =
                numbers;
            let [rpc_address, sql_address, http_address, version] = texts;
            NodeFacts {
                store: StoreId(store),
                incarnation,
                rpc_address,
                sql_address,
                http_address,
                locality,
                version,
                capacity_bytes,
                used_bytes,
                cores,
                draining,
                started_at_micros,
                leases,
                replicas,
                sessions,
                slow_score,
            }
        }
    }

    /// The same record with more fields in it, as a newer program would write it.
    fn with_fields(record: &Bytes, fields: &[(u64, Vec<u8>)]) -> Bytes {
        let mut newer = unseal(record).expect("a good record").to_vec();
        for (name, value) in fields {
            put_field(&mut newer, *name, value);
        }
        seal(&mut newer, 0);
        newer.into()
    }

    proptest! {
        #[test]
        fn come_back_as_they_were(facts in facts()) {
            let record = facts.encode().expect("short texts");
            prop_assert_eq!(NodeFacts::decode(&record), Some(facts));
        }

        #[test]
        fn fields_of_newer_programs_are_stepped_over(
            facts in facts(),
            fields in proptest::collection::vec(
                (SLOW_SCORE + 1.., proptest::collection::vec(any::<u8>(), 0..40)), 1..4),
        ) {
            let record = facts.encode().expect("short texts");
            prop_assert_eq!(NodeFacts::decode(&with_fields(&record, &fields)), Some(facts));
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            NodeFacts::decode(&Bytes::from(bytes.clone()));
            // The same behind a good version and a good checksum.
            let mut record = vec![VERSION];
            record.extend_from_slice(&bytes);
            seal(&mut record, 0);
            NodeFacts::decode(&record.into());
        }

        #[test]
        fn a_flipped_bit_is_found(facts in facts(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut record = facts.encode().expect("short texts").to_vec();
            let at = at.index(record.len());
            record[at] ^= 1u8 << bit;
            prop_assert_eq!(NodeFacts::decode(&record.into()), None);
        }
    }

    #[test]
    fn facts_of_an_older_program_lack_fields() {
        let mut record = vec![VERSION];
        put_number_field(&mut record, STORE, 3);
        put_field(&mut record, RPC_ADDRESS, b"a:5451");
        seal(&mut record, 0);
        let expected = NodeFacts {
            store: StoreId(3),
            rpc_address: "a:5451".to_owned(),
            ..NodeFacts::default()
        };
        assert_eq!(NodeFacts::decode(&record.into()), Some(expected));
    }

    #[test]
    fn what_is_too_long_is_not_told() {
        let facts = NodeFacts {
            version: "1".repeat(MAX_FACTS_BYTES),
            ..NodeFacts::default()
        };
        assert_eq!(facts.encode(), None);
    }
}
