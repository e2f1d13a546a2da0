//! Parts of large commits that are not finished: on disk, and of use to nobody yet.
//!
//! # Why
//! A commit of hundreds of MiB as one entry of the log would be in memory several times at every replica, would
//! hold up all that is behind it on its way, and would keep the store's loop from its heartbeats. So it is cut.
//! Its parts go through the log among other commits' entries; applying one writes it down here. The last entry
//! (`consensus::Finish`) gives the commit its timestamp. Applying that one reads the parts back, one in each
//! step of the store's loop, and makes their versions, which nobody reads before the commit is acknowledged;
//! the position in the log moves behind it with the last step. After a crash in between all of it is done
//! again, which changes nothing where it is done already.
//!
//! # What is never finished
//! All entries of a commit stand in one term. The first entry of a later term makes what is unfinished void, at every
//! replica at the same place of the log. So whatever happens to the leader, nothing stays behind for longer than
//! until the next one begins. A leader that gives up and goes on leading says so with `Command::Abandon`.
//!
//! # Where
//! In the `raft` keyspace: `p` · shard (8) · name (16) · number (8), big-endian, with the command as it stands in the log,
//! checksum and all. They belong to the shard's state as its rows do: a copy of the replica takes them along.

use bytes::Bytes;
use consensus::{Command, CommitName, Part};
use sharding::ShardId;
use std::ops::Bound;
use storage::engine::KeyRange;
use storage::{Engine, Keyspace, Snapshot, WriteBatch};
use txn::kv::{Key, Value};

const KIND: u8 = b'p';

type Write = (Key, Option<Value>);

/// How commits are cut.
#[derive(Clone, Copy, Debug)]
pub struct PartOptions {
    /// A commit of at most so many bytes is one entry.
    pub whole_bytes: usize,
    /// Bytes of keys and values in a part, about. One part is what a step of the store's loop applies: some
    /// milliseconds of work, between which heartbeats are answered.
    pub part_bytes: usize,
}

impl Default for PartOptions {
    fn default() -> Self {
        PartOptions {
            whole_bytes: 4 << 20,
            part_bytes: 1 << 20,
        }
    }
}

impl PartOptions {
    pub(crate) fn is_large(&self, writes: &[Write]) -> bool {
        let mut bytes = 0;
        writes.iter().any(|write| {
            bytes += write_bytes(write);
            bytes > self.whole_bytes
        })
    }

    /// Cuts the next part off. Empty: there is no more.
    pub(crate) fn next(&self, writes: &mut impl Iterator<Item = Write>) -> Vec<Write> {
        let mut part = Vec::new();
        let mut bytes = 0;
        while bytes < self.part_bytes
            && let Some(write) = writes.next()
        {
            bytes += write_bytes(&write);
            part.push(write);
        }
        part
    }
}

fn write_bytes((key, value): &Write) -> usize {
    // A little for each, so that very many tiny ones are not one part.
    key.len() + value.as_ref().map_or(0, Bytes::len) + 16
}

/// `record`: the part's command as it stands in the log.
pub(crate) fn put(
    shard: ShardId,
    name: CommitName,
    number: u64,
    record: Bytes,
    batch: &mut WriteBatch,
) {
    batch.put(Keyspace::Raft, key(shard, name, number), record);
}

pub(crate) fn load(
    shard: ShardId,
    name: CommitName,
    number: u64,
    engine: &dyn Engine,
) -> storage::Result<Part> {
    let key = key(shard, name, number);
    let record = engine.get(Keyspace::Raft, &key)?;
    let command = record.and_then(|record| Command::decode(&record).ok());
    match command {
        Some(Command::Part(part)) if part.name == name && part.number == number => Ok(part),
        _ => Err(storage::Error::Corrupt(format!(
            "the part {} of a commit is missing or damaged",
            key.escape_ascii()
        ))),
    }
}

/// Removes all parts of a shard, or those of one name.
pub(crate) fn remove(
    shard: ShardId,
    name: Option<CommitName>,
    engine: &dyn Engine,
    batch: &mut WriteBatch,
) -> storage::Result<()> {
    let snapshot = engine.snapshot();
    for pair in snapshot.scan(Keyspace::Raft, range(shard, name), false) {
        batch.delete(Keyspace::Raft, pair?.0);
    }
    Ok(())
}

pub(crate) fn exist(shard: ShardId, snapshot: &dyn Snapshot) -> storage::Result<bool> {
    let mut parts = snapshot.scan(Keyspace::Raft, range(shard, None), false);
    parts.next().transpose().map(|part| part.is_some())
}

/// Where the parts of a shard lie, or those of one name.
pub(crate) fn range(shard: ShardId, name: Option<CommitName>) -> KeyRange {
    let names = name.map_or((CommitName(0), CommitName(u128::MAX)), |name| (name, name));
    (
        Bound::Included(key(shard, names.0, 0)),
        Bound::Included(key(shard, names.1, u64::MAX)),
    )
}

pub(crate) fn key(shard: ShardId, name: CommitName, number: u64) -> Bytes {
    let mut key = [0; 33];
    key[0] = KIND;
    key[1..9].copy_from_slice(&shard.0.to_be_bytes());
    key[9..25].copy_from_slice(&name.0.to_be_bytes());
    key[25..].copy_from_slice(&number.to_be_bytes());
    Bytes::copy_from_slice(&key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use storage::SimDisk;

    proptest! {
        #[test]
        fn parts_are_the_whole_in_its_order_and_none_is_much_too_long(
            lengths in proptest::collection::vec(0..3000usize, 0..40),
            part_bytes in 1..5000usize,
        ) {
            let options = PartOptions { whole_bytes: 0, part_bytes };
            let writes: Vec<Write> = (0u64..)
                .zip(lengths)
                .map(|(n, length)| {
                    let key = Key::copy_from_slice(&n.to_be_bytes());
                    (key, (length % 7 > 0).then(|| vec![1; length].into()))
                })
                .collect();
            prop_assert_eq!(options.is_large(&writes), !writes.is_empty());
            let mut left = writes.clone().into_iter();
            let mut whole = Vec::new();
            loop {
                let part = options.next(&mut left);
                let Some((last, others)) = part.split_last() else {
                    break;
                };
                prop_assert!(others.iter().map(write_bytes).sum::<usize>() < part_bytes);
                prop_assert!(write_bytes(last) > 0);
                whole.extend(part);
            }
            prop_assert_eq!(whole, writes);
        }
    }

    #[test]
    fn parts_are_found_by_shard_and_name_until_they_are_removed() {
        let disk = SimDisk::new();
        let write = |batch| disk.write(batch).expect("a write");
        let (one, two) = (ShardId(1), ShardId(2));
        let names = [CommitName(1), CommitName(u128::MAX)];
        let part = |name, number| Part {
            name,
            number,
            writes: vec![(Bytes::from_static(b"k"), None)],
        };
        for shard in [one, two] {
            for name in names {
                for number in [0, 1] {
                    let mut batch = WriteBatch::default();
                    let record = Command::Part(part(name, number)).encode();
                    put(shard, name, number, record.into(), &mut batch);
                    write(batch);
                }
            }
        }
        assert_eq!(load(one, names[1], 1, &disk), Ok(part(names[1], 1)));
        assert!(load(one, names[1], 2, &disk).is_err());

        let mut batch = WriteBatch::default();
        remove(one, Some(names[1]), &disk, &mut batch).expect("a sound disk");
        assert_eq!(batch.ops.len(), 2);
        write(batch);
        assert!(load(one, names[1], 1, &disk).is_err());
        assert_eq!(load(one, names[0], 1, &disk), Ok(part(names[0], 1)));
        let mut batch = WriteBatch::default();
        remove(one, None, &disk, &mut batch).expect("a sound disk");
        write(batch);
        let exist = |shard| exist(shard, &*disk.snapshot());
        assert_eq!((exist(one), exist(two)), (Ok(false), Ok(true)));
    }
}
