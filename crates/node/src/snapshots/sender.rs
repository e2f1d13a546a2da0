//! The leader's end of a copy.

use super::Snapshots;
use super::wire::{Call, Row, decode_answer};
use crate::inbox::Request;
use crate::parts;
use crate::replica_record::{Presence, ReplicaRecord};
use bytes::Bytes;
use consensus::{GroupId, Message, ReplicaId, Snapshot, wire};
use sharding::ShardId;
use std::sync::Arc;
use std::time::Duration;
use storage::Keyspace;
use storage::mvcc::span_ranges;
use thiserror::Error;
use types::StoreId;
use types::env::CallError;

/// Bytes of rows in one call.
const PIECE_BYTES: usize = 1 << 20;
/// Copies may take so many bytes of the network in a second, so that statements go on beside them.
const BYTES_A_SECOND: u64 = 64 << 20;
/// How often a piece is sent again whose connection broke, and how long the sender waits before it.
const RETRIES: u32 = 10;
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Why a copy ends early. The group asks for another.
#[derive(Debug, Error)]
enum Ends {
    #[error("the receiver does not want it")]
    Unwanted,
    #[error("the replica is not whole")]
    Unfit,
    #[error("the receiver cannot be reached: {0:?}")]
    Lost(CallError),
    #[error(transparent)]
    Disk(#[from] storage::Error),
}

impl Snapshots {
    /// Starts to copy a replica to the store `to`, for the Raft message that carries its head.
    pub(crate) fn send(self: &Arc<Self>, shard: ShardId, to: StoreId, message: Message) {
        let snapshots = Arc::clone(self);
        let task = async move {
            let Ok(_turn) = snapshots.sending.acquire().await else {
                return;
            };
            let replica = ReplicaId(message.to);
            tracing::debug!(shard = shard.0, to = to.0, "a copy begins");
            let sent = snapshots.copy(shard, to, message).await;
            if let Err(Ends::Disk(storage::Error::Corrupt(what))) = &sent {
                let what = what.clone();
                snapshots.with_inbox(|inbox| inbox.request(Request::Damaged { shard, what }));
            }
            if let Err(why) = &sent {
                tracing::info!(shard = shard.0, to = to.0, %why, "a copy did not arrive");
            }
            tracing::debug!(shard = shard.0, to = to.0, "a copy has ended");
            snapshots.with_inbox(|inbox| {
                inbox.request(Request::SnapshotSent {
                    shard,
                    to: replica,
                    arrived: sent.is_ok(),
                });
            });
        };
        self.env.spawn.spawn("snapshot-sender", Box::pin(task));
    }

    async fn copy(&self, shard: ShardId, to: StoreId, mut message: Message) -> Result<(), Ends> {
        let snapshot = self.engine.snapshot();
        let head = Snapshot::read(GroupId(shard.0), &*snapshot)?;
        let record = ReplicaRecord::load(shard, &*snapshot)?.ok_or(Ends::Unwanted)?;
        if record.presence != Presence::Whole {
            return Err(Ends::Unfit);
        }
        head.replace_in(&mut message);
        let copy = self.env.rng.next_u64();
        let offer = Call::Offer {
            copy,
            replica: ReplicaId(message.to),
            descriptor: record.descriptor.clone(),
            index: head.applied.position.index,
        };
        self.call(to, &offer).await?;
        let mut pieces = 0;
        let mut rows: Vec<Row> = Vec::new();
        let mut bytes = 0;
        let descriptor = &record.descriptor;
        let ranges = span_ranges(&descriptor.start, descriptor.end.as_deref());
        let unfinished = (Keyspace::Raft, parts::range(shard, None));
        for (keyspace, range) in ranges.into_iter().chain([unfinished]) {
            for pair in snapshot.scan(keyspace, range, false) {
                let (key, value) = pair?;
                bytes += key.len() + value.len();
                rows.push((keyspace, key, value));
                if bytes >= PIECE_BYTES {
                    self.piece(to, copy, shard, pieces, std::mem::take(&mut rows))
                        .await?;
                    self.pace(bytes).await;
                    pieces += 1;
                    bytes = 0;
                }
            }
        }
        if !rows.is_empty() {
            self.piece(to, copy, shard, pieces, rows).await?;
            pieces += 1;
        }
        let mut encoded = Vec::new();
        wire::encode(&message, &mut encoded);
        let end = Call::End {
            copy,
            shard,
            pieces,
            head: Bytes::from(encoded),
        };
        self.call(to, &end).await
    }

    async fn piece(
        &self,
        to: StoreId,
        copy: u64,
        shard: ShardId,
        number: u64,
        rows: Vec<Row>,
    ) -> Result<(), Ends> {
        let piece = Call::Piece {
            copy,
            shard,
            number,
            rows,
        };
        self.call(to, &piece).await
    }

    /// Waits for as long as `bytes` may take.
    async fn pace(&self, bytes: usize) {
        let nanos = bytes as u64 * 1_000_000_000 / BYTES_A_SECOND;
        self.env.clock.sleep(Duration::from_nanos(nanos)).await;
    }

    /// Calls until there is an answer. Nothing harms when it is carried out twice.
    async fn call(&self, to: StoreId, call: &Call) -> Result<(), Ends> {
        let frame = call.encode();
        let mut tries = 0;
        loop {
            match self.transport.call(to, frame.clone()).await {
                Ok(answer) if decode_answer(&answer) => return Ok(()),
                Ok(_) => return Err(Ends::Unwanted),
                Err(error) if tries == RETRIES || !self.is_open() => {
                    return Err(Ends::Lost(error));
                }
                Err(_) => {
                    tries += 1;
                    self.env.clock.sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}
