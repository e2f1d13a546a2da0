//! The record of the liveness protocol on the store's disk.

use bytes::Bytes;
use membership::liveness::record::Record;
use storage::{Engine, Keyspace, WriteBatch};

const KEY: &[u8] = b"sliveness";

pub(crate) fn put(record: &Record, batch: &mut WriteBatch) {
    batch.put(Keyspace::Raft, Bytes::from_static(KEY), record.encode());
}

/// An empty one on a new store.
pub(crate) fn load(engine: &dyn Engine) -> storage::Result<Record> {
    let Some(record) = engine.get(Keyspace::Raft, KEY)? else {
        return Ok(Record::default());
    };
    Record::decode(&record).ok_or_else(|| {
        storage::Error::Corrupt("the record of the liveness protocol is damaged".to_owned())
    })
}
