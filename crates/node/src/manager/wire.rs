//! What nodes ask each other beside data: to be let in, how their shards stand, to move one.

use super::consistency::Sum;
use super::system::{Addresses, NodeRow, intent_number, intent_of};
use crate::health::HealthReport;
use crate::rpc::Part;
use crate::rpc::wire::{failure, put_failure};
use crate::shard_server::Failure;
use crate::sizes::Measured;
use bytes::Bytes;
use cluster::rebalance::Move;
use membership::service::{Intent, State};
use sharding::{ShardDescriptor, ShardId};
use types::codec::{Reader, put_bytes, put_optional_bytes, put_varint};
use types::{StoreId, Timestamp};

const JOIN: u8 = Part::Manager as u8;
const DIRECTORY: u8 = Part::Manager as u8 + 1;
const REPORT: u8 = Part::Manager as u8 + 2;
const MOVE: u8 = Part::Manager as u8 + 3;
const SPLIT: u8 = Part::Manager as u8 + 4;
const SPLIT_SHARD: u8 = Part::Manager as u8 + 5;
const MAP: u8 = Part::Manager as u8 + 6;
const SUM: u8 = Part::Manager as u8 + 7;
const DIFFERS: u8 = Part::Manager as u8 + 8;
const MEASURE: u8 = Part::Manager as u8 + 9;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    /// A node without a name wants to become a member.
    Join {
        /// Of the cluster that it was told to join, if it knows.
        cluster: Option<u128>,
        addresses: Addresses,
    },
    /// Who belongs to the cluster, and the shards as the asked node knows them.
    Directory,
    /// How the asked store stands, and those of its replicas that have changed since a revision; 0: all. Whoever
    /// is in charge says with it what the cluster wants of the store.
    Report { since: u64, intent: Option<Intent> },
    /// Carry out a move of a shard that the asked store leads, if that has still the generation by which it was
    /// decided. Answered when it is done.
    Move { step: Move, generation: u64 },
    /// The asked node is the manager: it shall see to it that a shard begins at this key.
    Split { at: Bytes, why: String },
    /// Split a shard that the asked store leads.
    SplitShard {
        shard: ShardId,
        at: Bytes,
        right: ShardId,
    },
    /// The shards as the asked node knows them.
    Map,
    /// Sum up the rows of the asked store's replica.
    Sum(Sum),
    /// The asked store's replica of this name differs from the others.
    Differs { shard: ShardId, replica: u64 },
    /// How large a part of a shard is that the asked store leads, as long as its generation is this.
    Measure {
        shard: ShardId,
        generation: u64,
        start: Bytes,
        end: Bytes,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Admitted {
        cluster: u128,
        store: StoreId,
    },
    Directory {
        cluster: u128,
        store: StoreId,
        nodes: Vec<NodeRow>,
        shards: Vec<ShardDescriptor>,
    },
    Report(Report),
    Sum(u64),
    Done,
    /// Why not.
    Refused(String),
    /// A shard begins at the key.
    Split {
        shard: ShardId,
        is_new: bool,
    },
    /// Some shards, or all.
    Shards(Vec<ShardDescriptor>),
    /// Why not, for a program.
    Failed(Failure),
    Measured(Measured),
}

/// How a store stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub store: u64,
    pub draining: bool,
    pub used_bytes: u64,
    pub health: HealthReport,
    /// Up to which change of its replicas this tells.
    pub revision: u64,
    /// `replicas` are all that there are; otherwise those that have changed.
    pub complete: bool,
    /// By shard, ascending.
    pub replicas: Vec<ReplicaReport>,
    /// Shards of which there was a replica, if not complete.
    pub gone: Vec<ShardId>,
    /// The states of all nodes, by a store that is in charge; by another, nothing.
    pub judged: Vec<(StoreId, State)>,
}

/// How one of its replicas stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaReport {
    pub descriptor: ShardDescriptor,
    pub replica: u64,
    /// It leads its group.
    pub leads: bool,
    /// It holds the lease, and the lease's time is not over.
    pub holds_lease: bool,
    pub term: u64,
    pub applied: u64,
    pub log_entries: u64,
    /// Of the leader only: replicas that vote.
    pub voters: Vec<u64>,
    /// A change of the members is under way.
    pub changing: bool,
    /// Of keys and values, about. `None`: not measured yet.
    pub bytes: Option<u64>,
    /// Its rows are not to be read: it is to be removed and copied again.
    pub damaged: bool,
}

impl Call {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Call::Join { cluster, addresses } => {
                out.push(JOIN);
                put_cluster(&mut out, cluster.unwrap_or(0));
                addresses.put(&mut out);
            }
            Call::Directory => out.push(DIRECTORY),
            Call::Report { since, intent } => {
                out.push(REPORT);
                put_varint(&mut out, *since);
                out.push(intent.map_or(0, |intent| intent_number(intent) + 1));
            }
            Call::Move { step, generation } => {
                out.push(MOVE);
                let (kind, shard, from, to) = match step {
                    Move::AddReplica { shard, to } => (0, shard, None, Some(to)),
                    Move::RemoveReplica { shard, from } => (1, shard, Some(from), None),
                    Move::MoveReplica { shard, from, to } => (2, shard, Some(from), Some(to)),
                    Move::TransferLease { shard, to } => (3, shard, None, Some(to)),
                };
                out.push(kind);
                put_varint(&mut out, shard.0);
                put_varint(&mut out, from.map_or(0, |store| store.0));
                put_varint(&mut out, to.map_or(0, |store| store.0));
                put_varint(&mut out, *generation);
            }
            Call::Map => out.push(MAP),
            Call::Measure {
                shard,
                generation,
                start,
                end,
            } => {
                out.push(MEASURE);
                put_varint(&mut out, shard.0);
                put_varint(&mut out, *generation);
                put_bytes(&mut out, start);
                put_bytes(&mut out, end);
            }
            Call::Split { at, why } => {
                out.push(SPLIT);
                put_bytes(&mut out, at);
                put_bytes(&mut out, why.as_bytes());
            }
            Call::SplitShard { shard, at, right } => {
                out.push(SPLIT_SHARD);
                put_varint(&mut out, shard.0);
                put_bytes(&mut out, at);
                put_varint(&mut out, right.0);
            }
            Call::Sum(sum) => {
                out.push(SUM);
                for number in [sum.shard.0, sum.generation, sum.at.0, sum.index] {
                    put_varint(&mut out, number);
                }
            }
            Call::Differs { shard, replica } => {
                out.push(DIFFERS);
                put_varint(&mut out, shard.0);
                put_varint(&mut out, *replica);
            }
        }
        out.into()
    }

    /// `None`: malformed, or of a newer version.
    pub(crate) fn decode(frame: Bytes) -> Option<Self> {
        let mut reader = Reader::new(frame);
        let call = match reader.u8()? {
            JOIN => Call::Join {
                cluster: Some(read_cluster(&mut reader)?).filter(|id| *id != 0),
                addresses: Addresses::read(&mut reader)?,
            },
            DIRECTORY => Call::Directory,
            REPORT => Call::Report {
                since: reader.varint()?,
                intent: match reader.u8()?.checked_sub(1) {
                    Some(number) => Some(intent_of(number)?),
                    None => None,
                },
            },
            MOVE => {
                let kind = reader.u8()?;
                let shard = ShardId(reader.varint()?);
                let from = StoreId(reader.varint()?);
                let to = StoreId(reader.varint()?);
                let step = match kind {
                    0 => Move::AddReplica { shard, to },
                    1 => Move::RemoveReplica { shard, from },
                    2 => Move::MoveReplica { shard, from, to },
                    3 => Move::TransferLease { shard, to },
                    _ => return None,
                };
                let generation = reader.varint()?;
                Call::Move { step, generation }
            }
            MAP => Call::Map,
            MEASURE => Call::Measure {
                shard: ShardId(reader.varint()?),
                generation: reader.varint()?,
                start: reader.bytes()?,
                end: reader.bytes()?,
            },
            SPLIT => Call::Split {
                at: reader.bytes()?,
                why: String::from_utf8(reader.bytes()?.to_vec()).ok()?,
            },
            SPLIT_SHARD => Call::SplitShard {
                shard: ShardId(reader.varint()?),
                at: reader.bytes()?,
                right: ShardId(reader.varint()?),
            },
            SUM => Call::Sum(Sum {
                shard: ShardId(reader.varint()?),
                generation: reader.varint()?,
                at: Timestamp(reader.varint()?),
                index: reader.varint()?,
            }),
            DIFFERS => Call::Differs {
                shard: ShardId(reader.varint()?),
                replica: reader.varint()?,
            },
            _ => return None,
        };
        (reader.left() == 0).then_some(call)
    }
}

impl Reply {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Reply::Admitted { cluster, store } => {
                out.push(0);
                put_cluster(&mut out, *cluster);
                put_varint(&mut out, store.0);
            }
            Reply::Directory {
                cluster,
                store,
                nodes,
                shards,
            } => {
                out.push(1);
                put_cluster(&mut out, *cluster);
                put_varint(&mut out, store.0);
                put_varint(&mut out, nodes.len() as u64);
                nodes.iter().for_each(|node| node.put(&mut out));
                put_varint(&mut out, shards.len() as u64);
                shards.iter().for_each(|shard| shard.put(&mut out));
            }
            Reply::Report(report) => {
                out.push(2);
                report.put(&mut out);
            }
            Reply::Sum(sum) => {
                out.push(8);
                put_varint(&mut out, *sum);
            }
            Reply::Done => out.push(3),
            Reply::Refused(why) => {
                out.push(4);
                put_bytes(&mut out, why.as_bytes());
            }
            Reply::Split { shard, is_new } => {
                out.push(5);
                put_varint(&mut out, shard.0);
                out.push(u8::from(*is_new));
            }
            Reply::Shards(shards) => {
                out.push(6);
                put_varint(&mut out, shards.len() as u64);
                shards.iter().for_each(|shard| shard.put(&mut out));
            }
            Reply::Failed(failure) => {
                out.push(7);
                put_failure(&mut out, failure);
            }
            Reply::Measured(measured) => {
                out.push(9);
                put_varint(&mut out, measured.bytes);
                put_optional_bytes(&mut out, measured.middle.as_deref());
            }
        }
        out.into()
    }

    pub(crate) fn decode(frame: Bytes) -> Option<Self> {
        let mut reader = Reader::new(frame);
        let reply = match reader.u8()? {
            0 => Reply::Admitted {
                cluster: read_cluster(&mut reader)?,
                store: StoreId(reader.varint()?),
            },
            1 => Reply::Directory {
                cluster: read_cluster(&mut reader)?,
                store: StoreId(reader.varint()?),
                nodes: many(&mut reader, NodeRow::read)?,
                shards: many(&mut reader, ShardDescriptor::read)?,
            },
            2 => Reply::Report(Report::read(&mut reader)?),
            3 => Reply::Done,
            4 => Reply::Refused(String::from_utf8(reader.bytes()?.to_vec()).ok()?),
            5 => Reply::Split {
                shard: ShardId(reader.varint()?),
                is_new: reader.u8()? == 1,
            },
            8 => Reply::Sum(reader.varint()?),
            6 => Reply::Shards(many(&mut reader, ShardDescriptor::read)?),
            7 => {
                let kind = reader.u8()?;
                Reply::Failed(failure(&mut reader, kind)?)
            }
            9 => Reply::Measured(Measured {
                bytes: reader.varint()?,
                middle: reader.optional_bytes()?,
            }),
            _ => return None,
        };
        (reader.left() == 0).then_some(reply)
    }
}

impl Report {
    /// Takes in what an answer to a question since this report's revision says. `false`: no replica stands
    /// otherwise than before.
    pub(super) fn update(&mut self, newer: Report) -> bool {
        let changed = newer.complete || !newer.replicas.is_empty() || !newer.gone.is_empty();
        let before = std::mem::take(&mut self.replicas);
        let changes = newer.replicas;
        *self = Report {
            replicas: before,
            ..newer
        };
        if self.complete {
            self.replicas = changes;
            return true;
        }
        let place = |replicas: &[ReplicaReport], shard: ShardId| {
            replicas.binary_search_by_key(&shard, |replica| replica.descriptor.id)
        };
        for shard in std::mem::take(&mut self.gone) {
            if let Ok(place) = place(&self.replicas, shard) {
                self.replicas.remove(place);
            }
        }
        for change in changes {
            match place(&self.replicas, change.descriptor.id) {
                Ok(place) => self.replicas[place] = change,
                Err(place) => self.replicas.insert(place, change),
            }
        }
        self.complete = true;
        changed
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.store);
        out.push(u8::from(self.draining));
        put_varint(out, self.used_bytes);
        self.health.put(out);
        put_varint(out, self.revision);
        out.push(u8::from(self.complete));
        put_varint(out, self.gone.len() as u64);
        self.gone.iter().for_each(|shard| put_varint(out, shard.0));
        put_varint(out, self.judged.len() as u64);
        for (store, state) in &self.judged {
            put_varint(out, store.0);
            put_bytes(out, state.name().as_bytes());
        }
        put_varint(out, self.replicas.len() as u64);
        for replica in &self.replicas {
            replica.descriptor.put(out);
            put_varint(out, replica.replica);
            let flags = [
                replica.leads,
                replica.holds_lease,
                replica.changing,
                replica.damaged,
            ];
            flags.iter().for_each(|flag| out.push(u8::from(*flag)));
            put_varint(out, replica.term);
            put_varint(out, replica.applied);
            put_varint(out, replica.log_entries);
            put_varint(out, replica.voters.len() as u64);
            replica.voters.iter().for_each(|id| put_varint(out, *id));
            put_varint(
                out,
                replica.bytes.map_or(0, |bytes| bytes.saturating_add(1)),
            );
        }
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        Some(Report {
            store: reader.varint()?,
            draining: reader.u8()? == 1,
            used_bytes: reader.varint()?,
            health: HealthReport::read(reader)?,
            revision: reader.varint()?,
            complete: reader.u8()? == 1,
            gone: many(reader, |reader| reader.varint().map(ShardId))?,
            judged: many(reader, |reader| {
                let store = StoreId(reader.varint()?);
                let state = State::named(std::str::from_utf8(&reader.bytes()?).ok()?)?;
                Some((store, state))
            })?,
            replicas: many(reader, |reader| {
                let descriptor = ShardDescriptor::read(reader)?;
                let replica = reader.varint()?;
                let leads = reader.u8()? == 1;
                let holds_lease = reader.u8()? == 1;
                let changing = reader.u8()? == 1;
                let damaged = reader.u8()? == 1;
                Some(ReplicaReport {
                    descriptor,
                    replica,
                    leads,
                    holds_lease,
                    changing,
                    damaged,
                    term: reader.varint()?,
                    applied: reader.varint()?,
                    log_entries: reader.varint()?,
                    voters: many(reader, Reader::varint)?,
                    bytes: reader.varint()?.checked_sub(1),
                })
            })?,
        })
    }
}

fn many<T>(reader: &mut Reader, read: impl Fn(&mut Reader) -> Option<T>) -> Option<Vec<T>> {
    let count = reader.varint()?;
    (0..count).map(|_| read(reader)).collect()
}

fn put_cluster(out: &mut Vec<u8>, cluster: u128) {
    out.extend_from_slice(&cluster.to_le_bytes());
}

fn read_cluster(reader: &mut Reader) -> Option<u128> {
    let low = reader.u64()?;
    let high = reader.u64()?;
    Some(u128::from(high) << 64 | u128::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Fitness;
    use proptest::prelude::*;
    use sharding::{Replica, ShardMap};

    fn descriptor() -> ShardDescriptor {
        let replica = Replica {
            store: StoreId(3),
            id: 9,
        };
        ShardMap::single(replica).shards()[0].clone()
    }

    #[test]
    fn calls_and_replies_come_back_as_they_were() {
        let addresses = Addresses {
            rpc: "a:1".to_owned(),
            sql: "b:2".to_owned(),
            http: String::new(),
            locality: "region=eu".to_owned(),
            version: "0.1.0".to_owned(),
        };
        let (shard, from, to) = (ShardId(7), StoreId(1), StoreId(2));
        let moved = |step| Call::Move {
            step,
            generation: 300,
        };
        for call in [
            Call::Join {
                cluster: Some(u128::MAX - 5),
                addresses: addresses.clone(),
            },
            Call::Directory,
            Call::Report {
                since: 1 << 60,
                intent: None,
            },
            Call::Report {
                since: 0,
                intent: Some(Intent::Gone),
            },
            moved(Move::AddReplica { shard, to }),
            moved(Move::RemoveReplica { shard, from }),
            moved(Move::MoveReplica { shard, from, to }),
            moved(Move::TransferLease { shard, to }),
            Call::Split {
                at: Bytes::from_static(b"m"),
                why: "asked for".to_owned(),
            },
            Call::Map,
            Call::Measure {
                shard,
                generation: 6,
                start: Bytes::new(),
                end: Bytes::from_static(b"z"),
            },
            Call::SplitShard {
                shard,
                at: Bytes::from_static(b"m"),
                right: ShardId(900),
            },
            Call::Sum(Sum {
                shard,
                generation: 3,
                at: Timestamp(1 << 60),
                index: 9,
            }),
            Call::Differs { shard, replica: 8 },
        ] {
            assert_eq!(Call::decode(call.encode()), Some(call));
        }
        let report = Report {
            store: 5,
            draining: true,
            used_bytes: 1 << 40,
            health: HealthReport {
                fitness: Fitness::ClockOff,
                sync_millis: 3,
                clock_ahead_millis: -420,
            },
            revision: 1 << 61,
            complete: false,
            gone: vec![ShardId(3)],
            judged: vec![(StoreId(1), State::Live), (StoreId(2), State::Dead)],
            replicas: vec![ReplicaReport {
                descriptor: descriptor(),
                replica: 9,
                leads: true,
                holds_lease: false,
                term: 4,
                applied: 77,
                log_entries: 3,
                voters: vec![9, 10],
                changing: true,
                damaged: true,
                bytes: Some(1 << 33),
            }],
        };
        let node = NodeRow {
            store: StoreId(5),
            intent: Intent::Decommission,
            addresses,
        };
        for reply in [
            Reply::Admitted {
                cluster: 8 << 100,
                store: StoreId(4),
            },
            Reply::Directory {
                cluster: 1,
                store: StoreId(5),
                nodes: vec![node],
                shards: vec![descriptor()],
            },
            Reply::Report(report),
            Reply::Sum(u64::MAX),
            Reply::Done,
            Reply::Refused("no".to_owned()),
            Reply::Split {
                shard,
                is_new: true,
            },
            Reply::Shards(vec![descriptor(), descriptor()]),
            Reply::Failed(Failure::Failed(types::Error::internal("no").hint("yes"))),
            Reply::Failed(Failure::Unreachable(true)),
            Reply::Measured(Measured {
                bytes: 1 << 40,
                middle: Some(Bytes::from_static(b"m")),
            }),
        ] {
            assert_eq!(Reply::decode(reply.encode()), Some(reply));
        }
    }

    #[test]
    fn a_report_takes_in_what_has_changed() {
        let replica = |shard: u64, term| ReplicaReport {
            descriptor: ShardDescriptor {
                id: ShardId(shard),
                ..descriptor()
            },
            replica: 9,
            leads: true,
            holds_lease: true,
            term,
            applied: 0,
            log_entries: 0,
            voters: vec![9],
            changing: false,
            damaged: false,
            bytes: None,
        };
        let answer = |revision, complete, replicas, gone| Report {
            revision,
            complete,
            replicas,
            gone,
            ..Report::default()
        };
        let mut known = Report::default();
        let all = vec![replica(1, 1), replica(3, 1), replica(5, 1)];
        assert!(known.update(answer(10, true, all.clone(), vec![])));
        assert!(!known.update(answer(10, false, vec![], vec![])));
        assert_eq!(known.replicas, all);
        let changes = vec![replica(2, 1), replica(5, 2)];
        assert!(known.update(answer(13, false, changes, vec![ShardId(3)])));
        let now = vec![replica(1, 1), replica(2, 1), replica(5, 2)];
        assert_eq!((known.revision, &known.replicas), (13, &now));
        // Its store began anew.
        assert!(known.update(answer(20, true, vec![replica(1, 3)], vec![])));
        assert_eq!(known.replicas, [replica(1, 3)]);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_decoded(frame in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Call::decode(Bytes::from(frame.clone()));
            let _ = Reply::decode(Bytes::from(frame));
        }
    }
}
