//! What a store remembers of each of its replicas beside the Raft log: which part of the key space it is a
//! copy of, and whether the copy is whole.
//!
//! Keys in the `raft` keyspace: `d` · shard (8, big-endian).

use bytes::Bytes;
use consensus::ReplicaId;
use sharding::{ShardDescriptor, ShardId};
use std::ops::Bound;
use storage::{Engine, Keyspace, Snapshot, WriteBatch};
use types::codec::{Reader, put_varint, seal, unseal};

const VERSION: u8 = 1;
const KIND: u8 = b'd';

/// How much of a replica is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// All that it has applied.
    Whole,
    /// Nothing, or the part of a snapshot that has arrived: it can be neither read nor elected.
    Partial,
    /// Some of its rows were damaged. It votes and keeps its log, but applies nothing to its rows any more:
    /// it cannot be read, and is to be replaced by a new copy.
    Damaged,
    /// It has left the group, and its rows are being removed.
    Leaving,
    /// Only the record stays, so that a late message does not bring it back.
    Gone,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaRecord {
    pub id: ReplicaId,
    pub presence: Presence,
    pub descriptor: ShardDescriptor,
}

impl ReplicaRecord {
    pub fn put(&self, batch: &mut WriteBatch) {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.id.0);
        out.push(match self.presence {
            Presence::Whole => 0,
            Presence::Partial => 1,
            Presence::Leaving => 2,
            Presence::Gone => 3,
            Presence::Damaged => 4,
        });
        self.descriptor.put(&mut out);
        seal(&mut out, 0);
        batch.put(Keyspace::Raft, key(self.descriptor.id), out);
    }

    fn decode(record: &Bytes) -> Option<Self> {
        let mut reader = Reader::new(unseal(record)?);
        if reader.u8()? != VERSION {
            return None;
        }
        let record = ReplicaRecord {
            id: ReplicaId(reader.varint()?),
            presence: match reader.u8()? {
                0 => Presence::Whole,
                1 => Presence::Partial,
                2 => Presence::Leaving,
                3 => Presence::Gone,
                4 => Presence::Damaged,
                _ => return None,
            },
            descriptor: ShardDescriptor::read(&mut reader)?,
        };
        (reader.left() == 0).then_some(record)
    }

    /// The record of a shard's replica, as of an engine snapshot.
    pub fn load(shard: ShardId, from: &dyn Snapshot) -> storage::Result<Option<Self>> {
        let Some(record) = from.get(Keyspace::Raft, &key(shard))? else {
            return Ok(None);
        };
        let record = Self::decode(&record).ok_or_else(|| damaged(&key(shard)))?;
        Ok(Some(record))
    }

    /// The records of all replicas that this store has or had.
    pub fn load_all(engine: &dyn Engine) -> storage::Result<Vec<Self>> {
        let snapshot = engine.snapshot();
        let range = (
            Bound::Included(Bytes::from_static(&[KIND])),
            Bound::Excluded(Bytes::from_static(&[KIND + 1])),
        );
        let records = snapshot.scan(Keyspace::Raft, range, false);
        let records = records.map(|pair| {
            let (key, record) = pair?;
            Self::decode(&record).ok_or_else(|| damaged(&key))
        });
        records.collect()
    }
}

fn damaged(key: &Bytes) -> storage::Error {
    storage::Error::Corrupt(format!(
        "the record {} of a replica is damaged",
        key.escape_ascii()
    ))
}

fn key(shard: ShardId) -> Bytes {
    let mut key = [0; 9];
    key[0] = KIND;
    key[1..].copy_from_slice(&shard.0.to_be_bytes());
    Bytes::copy_from_slice(&key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sharding::{Replica, ShardMap};
    use storage::SimDisk;
    use types::StoreId;

    #[test]
    fn records_come_back_in_the_order_of_shards() {
        let disk = SimDisk::new();
        let whole = ShardMap::single(Replica {
            store: StoreId(7),
            id: 3,
        });
        let record = |shard, presence| ReplicaRecord {
            id: ReplicaId(3),
            presence,
            descriptor: ShardDescriptor {
                id: ShardId(shard),
                ..whole.shards()[0].clone()
            },
        };
        let records = [
            record(1, Presence::Whole),
            record(2, Presence::Partial),
            record(3, Presence::Damaged),
            record(300, Presence::Gone),
        ];
        let mut batch = WriteBatch::default();
        records
            .iter()
            .rev()
            .for_each(|record| record.put(&mut batch));
        batch.put(Keyspace::Raft, "e", "somebody else's");
        disk.write(batch).expect("a write");
        assert_eq!(ReplicaRecord::load_all(&disk), Ok(records.to_vec()));
    }
}
