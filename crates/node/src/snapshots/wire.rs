//! What passes between the two ends of a copy.

use crate::rpc::Part;
use bytes::Bytes;
use consensus::ReplicaId;
use sharding::{ShardDescriptor, ShardId};
use storage::Keyspace;
use types::codec::{Reader, put_bytes, put_varint};

const OFFER: u8 = Part::Snapshot as u8;
const PIECE: u8 = Part::Snapshot as u8 + 1;
const END: u8 = Part::Snapshot as u8 + 2;

pub(super) type Row = (Keyspace, Bytes, Bytes);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    Offer {
        /// Tells this copy from others of the same shard.
        copy: u64,
        replica: ReplicaId,
        descriptor: ShardDescriptor,
        index: u64,
    },
    Piece {
        copy: u64,
        shard: ShardId,
        /// From 0 on.
        number: u64,
        rows: Vec<Row>,
    },
    End {
        copy: u64,
        shard: ShardId,
        /// How many pieces there were.
        pieces: u64,
        /// The Raft message with the snapshot's head.
        head: Bytes,
    },
}

impl Call {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Call::Offer {
                copy,
                replica,
                descriptor,
                index,
            } => {
                out.push(OFFER);
                put_varint(&mut out, *copy);
                put_varint(&mut out, replica.0);
                descriptor.put(&mut out);
                put_varint(&mut out, *index);
            }
            Call::Piece {
                copy,
                shard,
                number,
                rows,
            } => {
                out.push(PIECE);
                put_varint(&mut out, *copy);
                put_varint(&mut out, shard.0);
                put_varint(&mut out, *number);
                for (keyspace, key, value) in rows {
                    out.push(match keyspace {
                        Keyspace::Data => 0,
                        Keyspace::History => 1,
                        // Parts of commits that are not finished.
                        Keyspace::Raft => 2,
                        Keyspace::Intents => 3,
                    });
                    put_bytes(&mut out, key);
                    put_bytes(&mut out, value);
                }
            }
            Call::End {
                copy,
                shard,
                pieces,
                head,
            } => {
                out.push(END);
                put_varint(&mut out, *copy);
                put_varint(&mut out, shard.0);
                put_varint(&mut out, *pieces);
                out.extend_from_slice(head);
            }
        }
        out.into()
    }

    /// `None`: malformed.
    pub(super) fn decode(frame: Bytes) -> Option<Self> {
        let mut reader = Reader::new(frame);
        let kind = reader.u8()?;
        let copy = reader.varint()?;
        let call = match kind {
            OFFER => Call::Offer {
                copy,
                replica: ReplicaId(reader.varint()?),
                descriptor: ShardDescriptor::read(&mut reader)?,
                index: reader.varint()?,
            },
            PIECE => {
                let shard = ShardId(reader.varint()?);
                let number = reader.varint()?;
                let mut rows = Vec::new();
                while reader.left() > 0 {
                    let keyspace = match reader.u8()? {
                        0 => Keyspace::Data,
                        1 => Keyspace::History,
                        2 => Keyspace::Raft,
                        3 => Keyspace::Intents,
                        _ => return None,
                    };
                    rows.push((keyspace, reader.bytes()?, reader.bytes()?));
                }
                Call::Piece {
                    copy,
                    shard,
                    number,
                    rows,
                }
            }
            END => Call::End {
                copy,
                shard: ShardId(reader.varint()?),
                pieces: reader.varint()?,
                head: reader.take(reader.left())?,
            },
            _ => return None,
        };
        (reader.left() == 0).then_some(call)
    }
}

/// Whether the receiver goes on.
pub(super) fn encode_answer(accepted: bool) -> Bytes {
    Bytes::from_static(if accepted { &[1] } else { &[0] })
}

pub(super) fn decode_answer(answer: &[u8]) -> bool {
    answer == [1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sharding::Replica;
    use types::StoreId;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    fn descriptor() -> impl Strategy<Value = ShardDescriptor> {
        let replicas = proptest::collection::vec((any::<u64>(), any::<u64>()), 0..4);
        let end = proptest::option::of(bytes());
        (any::<u64>(), bytes(), end, replicas, any::<(u64, u64)>()).prop_map(
            |(id, start, end, replicas, (next_replica, generation))| ShardDescriptor {
                id: ShardId(id),
                start,
                end,
                replicas: replicas
                    .into_iter()
                    .map(|(store, id)| Replica {
                        store: StoreId(store),
                        id,
                    })
                    .collect(),
                next_replica,
                generation,
            },
        )
    }

    fn call() -> impl Strategy<Value = Call> {
        let keyspace = prop_oneof![
            Just(Keyspace::Data),
            Just(Keyspace::History),
            Just(Keyspace::Raft),
            Just(Keyspace::Intents)
        ];
        let rows = proptest::collection::vec((keyspace, bytes(), bytes()), 0..5);
        prop_oneof![
            (any::<(u64, u64, u64)>(), descriptor()).prop_map(
                |((copy, replica, index), descriptor)| Call::Offer {
                    copy,
                    replica: ReplicaId(replica),
                    descriptor,
                    index,
                }
            ),
            (any::<(u64, u64, u64)>(), rows).prop_map(|((copy, shard, number), rows)| {
                Call::Piece {
                    copy,
                    shard: ShardId(shard),
                    number,
                    rows,
                }
            }),
            (any::<(u64, u64, u64)>(), bytes()).prop_map(|((copy, shard, pieces), head)| {
                Call::End {
                    copy,
                    shard: ShardId(shard),
                    pieces,
                    head,
                }
            }),
        ]
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(call in call()) {
            prop_assert_eq!(Call::decode(call.encode()), Some(call));
        }

        #[test]
        fn any_bytes_can_be_decoded(frame in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Call::decode(Bytes::from(frame));
        }
    }
}
