//! What an entry of a shard's log says.
//!
//! | kind      | byte | then                                                                   |
//! | --------- | ---- | ---------------------------------------------------------------------- |
//! | commit    | 1    | commit_ts (8), count, writes: key, then 0, or value length + 1 and the value |
//! | split     | 2    | floor (8), leader, membership, left descriptor, right descriptor       |
//! | part      | 3    | name (16), number, count, writes as in a commit                        |
//! | finish    | 4    | name (16), term, parts, commit_ts (8)                                  |
//! | abandon   | 5    | name (16)                                                              |
//! | read lease| 6    | since (8), at (8), until (8), catalog (8), count, holders              |
//! | commit over | 7  | as a commit, each write followed by what it replaces                   |
//!
//! A large commit is a part after the other, numbered from 0, and a finish, all in one term. Parts change nothing that
//! anybody can read; the finish makes all of them visible at once. What is unfinished is void after an abandon, after
//! another part 0 of the same name, and in later terms: a finish counts only in the term it names.
//!
//! What a write replaces is 0 if it is not said, 1 for nothing, or value length + 2, timestamp (8), value.
//!
//! A read lease changes no data: it says which replicas may answer reads, until when, or until the next entry.
//!
//! Numbers of fixed width are little-endian, all others and all lengths are varints. A CRC-32 of all before
//! ends every command. A new shape of a kind gets a new byte.
//!
//! A replica that meets a kind or a shape that it does not know must stop: skipping a command would
//! make it differ from the others.

use crate::log_store::ReplicaId;
use crate::membership::Membership;
use bytes::Bytes;
use types::codec::{CHECKSUM_BYTES, Reader, put_bytes, put_varint, seal, unseal};
use types::{Error, Result, Timestamp};

const COMMIT: u8 = 1;
const SPLIT: u8 = 2;
const PART: u8 = 3;
const FINISH: u8 = 4;
const ABANDON: u8 = 5;
const READ_LEASE: u8 = 6;
const COMMIT_OVER: u8 = 7;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Commit(Commit),
    Split(Box<Split>),
    Part(Part),
    Finish(Finish),
    Abandon(CommitName),
    ReadLease(ReadLease),
}

/// Replicas that do not lead, and may answer what is newest: see [`Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadLease {
    /// Nothing was committed above this, up to `at`.
    pub since: Timestamp,
    /// Whatever is committed later is above this.
    pub at: Timestamp,
    /// When the lease ends by itself, by the clock of whoever leads then.
    pub until: Timestamp,
    /// What was committed up to `at` and wrote the catalog is not above this. ZERO: the shard is not the catalog's.
    pub catalog: Timestamp,
    pub holders: Vec<ReplicaId>,
}

/// Tells the large commits of a shard apart that are under way: their transaction's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitName(pub u128);

/// Some of a large commit's writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: CommitName,
    pub number: u64,
    /// As those of a commit, above those of the parts before.
    pub writes: Vec<(Bytes, Option<Bytes>)>,
}

/// A large commit is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    pub name: CommitName,
    /// Of the entries of all parts.
    pub term: u64,
    pub parts: u64,
    pub commit_ts: Timestamp,
}

/// One transaction's writes in one shard, all at one timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub commit_ts: Timestamp,
    /// Sorted by key, one per key; `None` deletes.
    pub writes: Vec<(Bytes, Option<Bytes>)>,
    /// What each of them replaces, in their order; empty if of none of them is said.
    pub replaced: Vec<Replaced>,
}

/// What stands under a key just before a commit writes it, so that no replica has to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// It has to be looked up.
    Unsaid,
    /// Nothing, or it is deleted.
    Nothing,
    /// This value, committed then.
    Version(Timestamp, Bytes),
}

/// The shard becomes two: its own group goes on as the left one, the right one's is born.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Above all commits that the shard made of keys that go to the right.
    pub floor: Timestamp,
    /// The replica that proposed this as the leader: the right group is born as if this one led the entry's term.
    pub leader: ReplicaId,
    /// The right group's members. Not joint.
    pub membership: Membership,
    /// What the two shards are; encoded by whoever knows what a shard is.
    pub left: Bytes,
    pub right: Bytes,
}

impl Command {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = match self {
            Command::Commit(commit) => commit.encode(),
            Command::Split(split) => split.encode(),
            Command::Part(part) => part.encode(),
            Command::Finish(finish) => finish.encode(),
            Command::Abandon(name) => {
                let mut out = vec![ABANDON];
                name.put(&mut out);
                out
            }
            Command::ReadLease(lease) => lease.encode(),
        };
        seal(&mut out, 0);
        out
    }

    /// Keys and values share the memory of `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        let body = unseal(bytes)
            .ok_or_else(|| Error::corrupt("a command's checksum does not match its bytes"))?;
        let mut reader = Reader::new(body);
        let command = match reader.u8() {
            Some(COMMIT) => Commit::read(&mut reader).map(Command::Commit),
            Some(SPLIT) => Split::read(&mut reader).map(|split| Command::Split(Box::new(split))),
            Some(PART) => Part::read(&mut reader).map(Command::Part),
            Some(FINISH) => Finish::read(&mut reader).map(Command::Finish),
            Some(ABANDON) => CommitName::read(&mut reader).map(Command::Abandon),
            Some(READ_LEASE) => ReadLease::read(&mut reader).map(Command::ReadLease),
            Some(COMMIT_OVER) => Commit::read_over(&mut reader).map(Command::Commit),
            Some(kind) => {
                return Err(Error::corrupt(format!(
                    "a command is of kind {kind}, which this program does not know"
                )));
            }
            None => None,
        };
        command
            .filter(|_| reader.left() == 0)
            .ok_or_else(|| Error::corrupt("a command's bytes are not those of a command"))
    }
}

impl CommitName {
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        let low = u128::from(reader.u64()?);
        let high = u128::from(reader.u64()?);
        Some(CommitName(high << 64 | low))
    }
}

impl Part {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(room(&self.writes) + 32);
        out.push(PART);
        self.name.put(&mut out);
        put_varint(&mut out, self.number);
        put_writes(&mut out, &self.writes);
        out
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        Some(Part {
            name: CommitName::read(reader)?,
            number: reader.varint()?,
            writes: read_writes(reader)?,
        })
    }
}

impl Finish {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![FINISH];
        self.name.put(&mut out);
        put_varint(&mut out, self.term);
        put_varint(&mut out, self.parts);
        out.extend_from_slice(&self.commit_ts.0.to_le_bytes());
        out
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        Some(Finish {
            name: CommitName::read(reader)?,
            term: reader.varint()?,
            parts: reader.varint()?,
            commit_ts: Timestamp(reader.u64()?),
        })
    }
}

impl ReadLease {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![READ_LEASE];
        for timestamp in [self.since, self.at, self.until, self.catalog] {
            out.extend_from_slice(&timestamp.0.to_le_bytes());
        }
        put_varint(&mut out, self.holders.len() as u64);
        for holder in &self.holders {
            put_varint(&mut out, holder.0);
        }
        out
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        let [since, at, until, catalog] = [(); 4].map(|()| reader.u64().map(Timestamp));
        let count = usize::try_from(reader.varint()?).ok()?;
        let holders = (0..count).map(|_| reader.varint().map(ReplicaId));
        Some(ReadLease {
            since: since?,
            at: at?,
            until: until?,
            catalog: catalog?,
            // Of a wrong count the first one that is missing ends it.
            holders: holders.collect::<Option<_>>()?,
        })
    }
}

impl Commit {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(room(&self.writes) + replaced_room(&self.replaced) + 16);
        out.push(match self.replaced.is_empty() {
            true => COMMIT,
            false => COMMIT_OVER,
        });
        out.extend_from_slice(&self.commit_ts.0.to_le_bytes());
        if self.replaced.is_empty() {
            put_writes(&mut out, &self.writes);
            return out;
        }
        put_varint(&mut out, self.writes.len() as u64);
        for (write, replaced) in self.writes.iter().zip(&self.replaced) {
            put_write(&mut out, write);
            replaced.put(&mut out);
        }
        out
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        Some(Commit {
            commit_ts: Timestamp(reader.u64()?),
            writes: read_writes(reader)?,
            replaced: Vec::new(),
        })
    }

    fn read_over(reader: &mut Reader) -> Option<Self> {
        let commit_ts = Timestamp(reader.u64()?);
        let count = reader.varint()?;
        // Each takes at least three bytes, so a wrong count cannot ask for much memory.
        let most = usize::try_from(count).ok()?.min(reader.left() / 3);
        let (mut writes, mut replaced) = (Vec::with_capacity(most), Vec::with_capacity(most));
        for _ in 0..count {
            writes.push((reader.bytes()?, reader.optional_bytes()?));
            replaced.push(Replaced::read(reader)?);
        }
        Some(Commit {
            commit_ts,
            writes,
            replaced,
        })
    }
}

impl Replaced {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Replaced::Unsaid => out.push(0),
            Replaced::Nothing => out.push(1),
            Replaced::Version(timestamp, value) => {
                put_varint(out, value.len() as u64 + 2);
                out.extend_from_slice(&timestamp.0.to_le_bytes());
                out.extend_from_slice(value);
            }
        }
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        Some(match reader.varint()? {
            0 => Replaced::Unsaid,
            1 => Replaced::Nothing,
            length => {
                let timestamp = Timestamp(reader.u64()?);
                Replaced::Version(timestamp, reader.take(usize::try_from(length - 2).ok()?)?)
            }
        })
    }
}

/// About how many bytes the writes and the checksum take.
fn room(writes: &[(Bytes, Option<Bytes>)]) -> usize {
    let payload = writes
        .iter()
        .map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len) + 6);
    payload.sum::<usize>() + CHECKSUM_BYTES
}

fn replaced_room(replaced: &[Replaced]) -> usize {
    let room = |replaced: &Replaced| match replaced {
        Replaced::Unsaid | Replaced::Nothing => 1,
        Replaced::Version(_, value) => value.len() + 12,
    };
    replaced.iter().map(room).sum()
}

fn put_writes(out: &mut Vec<u8>, writes: &[(Bytes, Option<Bytes>)]) {
    put_varint(out, writes.len() as u64);
    writes.iter().for_each(|write| put_write(out, write));
}

fn put_write(out: &mut Vec<u8>, (key, value): &(Bytes, Option<Bytes>)) {
    put_varint(out, key.len() as u64);
    out.extend_from_slice(key);
    match value {
        None => out.push(0),
        Some(value) => {
            put_varint(out, value.len() as u64 + 1);
            out.extend_from_slice(value);
        }
    }
}

fn read_writes(reader: &mut Reader) -> Option<Vec<(Bytes, Option<Bytes>)>> {
    let count = reader.varint()?;
    // Each write takes at least two bytes, so a wrong count cannot ask for much memory.
    let mut writes = Vec::with_capacity(usize::try_from(count).ok()?.min(reader.left() / 2));
    for _ in 0..count {
        let key = reader.bytes()?;
        let value = reader.optional_bytes()?;
        writes.push((key, value));
    }
    Some(writes)
}

impl Split {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![SPLIT];
        out.extend_from_slice(&self.floor.0.to_le_bytes());
        put_varint(&mut out, self.leader.0);
        self.membership.put(&mut out);
        put_bytes(&mut out, &self.left);
        put_bytes(&mut out, &self.right);
        out
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        Some(Split {
            floor: Timestamp(reader.u64()?),
            leader: ReplicaId(reader.varint()?),
            membership: Membership::read(reader)?,
            left: reader.bytes()?,
            right: reader.bytes()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
    }

    fn commit(writes: usize, value: usize) -> impl Strategy<Value = Command> {
        let write = (bytes(40), proptest::option::of(bytes(value)));
        let writes = proptest::collection::vec((write, replaced(value)), 0..writes);
        (any::<u64>(), writes, any::<bool>()).prop_map(|(ts, writes, over)| {
            let (writes, mut replaced): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
            replaced.retain(|_| over);
            Command::Commit(Commit {
                commit_ts: Timestamp(ts),
                writes,
                replaced,
            })
        })
    }

    fn replaced(value: usize) -> impl Strategy<Value = Replaced> {
        let version = (any::<u64>(), bytes(value));
        prop_oneof![
            Just(Replaced::Unsaid),
            Just(Replaced::Nothing),
            version.prop_map(|(ts, value)| Replaced::Version(Timestamp(ts), value)),
        ]
    }

    fn split() -> impl Strategy<Value = Command> {
        let ids = || proptest::collection::vec(any::<u64>().prop_map(ReplicaId), 0..4);
        (
            any::<u64>(),
            any::<u64>(),
            ids(),
            ids(),
            bytes(60),
            bytes(60),
        )
            .prop_map(|(floor, leader, voters, learners, left, right)| {
                Command::Split(Box::new(Split {
                    floor: Timestamp(floor),
                    leader: ReplicaId(leader),
                    membership: Membership {
                        voters,
                        learners,
                        ..Membership::default()
                    },
                    left,
                    right,
                }))
            })
    }

    fn name() -> impl Strategy<Value = CommitName> {
        any::<u128>().prop_map(CommitName)
    }

    fn part() -> impl Strategy<Value = Command> {
        (name(), any::<u64>(), commit(20, 300)).prop_map(|(name, number, commit)| {
            let Command::Commit(commit) = commit else {
                unreachable!("commits are made above");
            };
            let writes = commit.writes;
            Command::Part(Part {
                name,
                number,
                writes,
            })
        })
    }

    fn finish() -> impl Strategy<Value = Command> {
        (name(), any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(name, term, parts, ts)| {
            Command::Finish(Finish {
                name,
                term,
                parts,
                commit_ts: Timestamp(ts),
            })
        })
    }

    fn read_lease() -> impl Strategy<Value = Command> {
        let holders = proptest::collection::vec(any::<u64>(), 0..4);
        (any::<[u64; 4]>(), holders).prop_map(|(times, holders)| {
            let [since, at, until, catalog] = times.map(Timestamp);
            Command::ReadLease(ReadLease {
                since,
                at,
                until,
                catalog,
                holders: holders.into_iter().map(ReplicaId).collect(),
            })
        })
    }

    fn command() -> impl Strategy<Value = Command> {
        prop_oneof![
            commit(20, 300),
            split(),
            part(),
            finish(),
            name().prop_map(Command::Abandon),
            read_lease(),
        ]
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(command in command()) {
            let encoded = Bytes::from(command.encode());
            prop_assert_eq!(Command::decode(&encoded), Ok(command));
        }

        #[test]
        fn any_change_of_a_byte_is_noticed(
            command in prop_oneof![commit(5, 10), split(), finish(), read_lease()],
            at in any::<prop::sample::Index>(),
            change in 1..=255u8,
        ) {
            let mut encoded = command.encode();
            let at = at.index(encoded.len());
            encoded[at] ^= change;
            prop_assert!(Command::decode(&Bytes::from(encoded)).is_err());
        }

        #[test]
        fn random_bytes_never_panic(
            kind in 0..9u8,
            mut raw in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = Command::decode(&Bytes::from(raw.clone()));
            raw.insert(0, kind);
            seal(&mut raw, 0);
            let _ = Command::decode(&Bytes::from(raw));
        }
    }
}
