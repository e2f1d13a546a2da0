//! The follower's end of a copy.

use super::Snapshots;
use super::discard::Undisturbed;
use super::removal::remove_rows;
use super::wire::{Call, encode_answer};
use crate::inbox::Request;
use crate::replica_record::{Presence, ReplicaRecord};
use bytes::Bytes;
use consensus::{ReplicaId, wire};
use futures::channel::oneshot;
use parking_lot::Mutex;
use sharding::{ShardDescriptor, ShardId};
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::WriteBatch;
use types::StoreId;

/// A copy that arrives.
#[derive(Clone, Copy, Debug)]
struct Arriving {
    copy: u64,
    from: StoreId,
    /// Pieces that are written.
    pieces: u64,
    since: Undisturbed,
}

/// See the module.
pub(crate) struct Receiver {
    snapshots: Arc<Snapshots>,
    arriving: Mutex<BTreeMap<ShardId, Arriving>>,
}

impl Receiver {
    pub(crate) fn new(snapshots: Arc<Snapshots>) -> Self {
        Receiver {
            snapshots,
            arriving: Mutex::default(),
        }
    }

    pub(crate) async fn call(&self, from: StoreId, frame: Bytes) -> Bytes {
        let accepted = match Call::decode(frame) {
            Some(call) => self.carry_out(from, call).await,
            None => Ok(false),
        };
        if let Err(error) = &accepted {
            tracing::warn!(%error, from = from.0, "cannot take a copy");
        }
        encode_answer(accepted.unwrap_or(false))
    }

    async fn carry_out(&self, from: StoreId, call: Call) -> storage::Result<bool> {
        match call {
            Call::Offer {
                copy,
                replica,
                descriptor,
                index,
            } => self.offer(from, copy, replica, descriptor, index).await,
            Call::Piece {
                copy,
                shard,
                number,
                rows,
            } => {
                let Some(expected) = self.pieces(from, copy, shard) else {
                    return Ok(false);
                };
                if number < expected {
                    return Ok(true);
                }
                if number > expected {
                    return Ok(false);
                }
                let mut batch = WriteBatch::default();
                for (keyspace, key, value) in rows {
                    batch.put(keyspace, key, value);
                }
                self.snapshots.engine.write(batch)?;
                if let Some(arriving) = self.arriving.lock().get_mut(&shard) {
                    arriving.pieces = number + 1;
                }
                Ok(true)
            }
            Call::End {
                copy,
                shard,
                pieces,
                head,
            } => {
                if self.pieces(from, copy, shard) != Some(pieces) {
                    return Ok(false);
                }
                let Some(head) = wire::decode(head) else {
                    return Ok(false);
                };
                self.arriving.lock().remove(&shard);
                let answer = self.ask(|reply| Request::SnapshotArrived {
                    shard,
                    from,
                    head,
                    reply,
                });
                Ok(answer.await)
            }
        }
    }

    /// Pieces of this copy that are written, if it is the one that is arriving.
    fn pieces(&self, from: StoreId, copy: u64, shard: ShardId) -> Option<u64> {
        let arriving = self.arriving.lock().get(&shard).copied()?;
        let same = arriving.copy == copy && arriving.from == from;
        let whole = self.snapshots.undisturbed() == Some(arriving.since);
        (same && whole).then_some(arriving.pieces)
    }

    async fn offer(
        &self,
        from: StoreId,
        copy: u64,
        replica: ReplicaId,
        descriptor: ShardDescriptor,
        index: u64,
    ) -> storage::Result<bool> {
        let shard = descriptor.id;
        if self.pieces(from, copy, shard) == Some(0) {
            // Its answer was lost.
            return Ok(true);
        }
        if self.snapshots.overlaps_removal(&descriptor) {
            return Ok(false);
        }
        let Some(since) = self.snapshots.undisturbed() else {
            return Ok(false);
        };
        let record = ReplicaRecord {
            id: replica,
            presence: Presence::Partial,
            descriptor,
        };
        let wanted = self.ask(|reply| Request::PrepareSnapshot {
            record,
            index,
            reply,
        });
        // An earlier copy's pieces must not come between.
        self.arriving.lock().remove(&shard);
        let Some(cleared) = wanted.await else {
            return Ok(false);
        };
        let snapshots = &self.snapshots;
        let removed = remove_rows(&*snapshots.engine, &snapshots.env, &cleared).await;
        removed.inspect_err(|error| snapshots.note_damage(error))?;
        let arriving = Arriving {
            copy,
            from,
            pieces: 0,
            since,
        };
        self.arriving.lock().insert(shard, arriving);
        Ok(true)
    }

    /// Asks the loop; a loop that has ended wants nothing.
    async fn ask<T: Default>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> T {
        let (reply, answer) = oneshot::channel();
        self.snapshots
            .with_inbox(|inbox| inbox.request(request(reply)));
        answer.await.unwrap_or_default()
    }
}
