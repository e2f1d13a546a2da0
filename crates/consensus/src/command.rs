//! What an entry of a shard's log says.
//!
//! | field         | bytes                                                        |
//! | ------------- | ------------------------------------------------------------ |
//! | version       | 1, now 1                                                     |
//! | commit_ts     | 8, little-endian                                             |
//! | count         | varint                                                       |
//! | writes        | each: key length varint, key, then 0, or value length + 1 as varint and the value |
//! | checksum      | 4, CRC-32 of all before                                      |
//!
//! A replica that meets a version or a shape that it does not know must stop: skipping a command would
//! make it differ from the others.

use bytes::Bytes;
use types::codec::{CHECKSUM_BYTES, Reader, put_varint, seal, unseal};
use types::{Error, Result, Timestamp};

const VERSION: u8 = 1;

/// One transaction's writes in one shard, all at one timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub commit_ts: Timestamp,
    /// Sorted by key, one per key; `None` deletes.
    pub writes: Vec<(Bytes, Option<Bytes>)>,
}

impl Command {
    pub fn encode(&self) -> Vec<u8> {
        let payload: usize = self
            .writes
            .iter()
            .map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len) + 6)
            .sum();
        let mut out = Vec::with_capacity(payload + 16 + CHECKSUM_BYTES);
        out.push(VERSION);
        out.extend_from_slice(&self.commit_ts.0.to_le_bytes());
        put_varint(&mut out, self.writes.len() as u64);
        for (key, value) in &self.writes {
            put_varint(&mut out, key.len() as u64);
            out.extend_from_slice(key);
            match value {
                None => out.push(0),
                Some(value) => {
                    put_varint(&mut out, value.len() as u64 + 1);
                    out.extend_from_slice(value);
                }
            }
        }
        seal(&mut out, 0);
        out
    }

    /// Keys and values share the memory of `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        let body = unseal(bytes)
            .ok_or_else(|| Error::corrupt("a command's checksum does not match its bytes"))?;
        let mut reader = Reader::new(body);
        match reader.u8() {
            Some(VERSION) => {}
            Some(version) => {
                return Err(Error::corrupt(format!(
                    "a command has version {version}, known is {VERSION}"
                )));
            }
            None => return Err(malformed()),
        }
        Self::read(&mut reader).ok_or_else(malformed)
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        let commit_ts = Timestamp(reader.u64()?);
        let count = reader.varint()?;
        // Each write takes at least two bytes, so a wrong count cannot ask for much memory.
        let mut writes = Vec::with_capacity(usize::try_from(count).ok()?.min(reader.left() / 2));
        for _ in 0..count {
            let key = reader.bytes()?;
            let value = reader.optional_bytes()?;
            writes.push((key, value));
        }
        (reader.left() == 0).then_some(Command { commit_ts, writes })
    }
}

fn malformed() -> Error {
    Error::corrupt("a command's bytes are not those of a command")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(
            ts in any::<u64>(),
            writes in proptest::collection::vec((bytes(40), proptest::option::of(bytes(300))), 0..20),
        ) {
            let command = Command { commit_ts: Timestamp(ts), writes };
            let encoded = Bytes::from(command.encode());
            prop_assert_eq!(Command::decode(&encoded), Ok(command));
        }

        #[test]
        fn any_change_of_a_byte_is_noticed(
            writes in proptest::collection::vec((bytes(10), proptest::option::of(bytes(10))), 0..5),
            at in any::<prop::sample::Index>(),
            change in 1..=255u8,
        ) {
            let command = Command { commit_ts: Timestamp(7), writes };
            let mut encoded = command.encode();
            let at = at.index(encoded.len());
            encoded[at] ^= change;
            prop_assert!(Command::decode(&Bytes::from(encoded)).is_err());
        }

        #[test]
        fn random_bytes_never_panic(mut raw in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Command::decode(&Bytes::from(raw.clone()));
            raw.insert(0, VERSION);
            seal(&mut raw, 0);
            let _ = Command::decode(&Bytes::from(raw));
        }
    }
}
