//! The follower's end of a copy.
//!
//! Room is made for one copy of a shard at a time. Of two at once the later one may be whole and in use while the other
//! still removes rows, or is told to begin and writes its older ones.

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
use std::collections::{BTreeMap, BTreeSet};
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
    /// Shards for whose copies room is being made.
    preparing: Mutex<BTreeSet<ShardId>>,
}

/// Room is being made for a copy of this shard, until this is dropped.
struct Preparing<'r>(&'r Receiver, ShardId);

impl Drop for Preparing<'_> {
    fn drop(&mut self) {
        self.0.preparing.lock().remove(&self.1);
    }
}

impl Receiver {
    pub(crate) fn new(snapshots: Arc<Snapshots>) -> Self {
        Receiver {
            snapshots,
            arriving: Mutex::default(),
            preparing: Mutex::default(),
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
        if !self.preparing.lock().insert(shard) {
            return Ok(false);
        }
        let _preparing = Preparing(self, shard);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock_manager::LockManager;
    use crate::metrics::Metrics;
    use crate::node_clock::NodeClock;
    use crate::registry::Registry;
    use crate::replica::Shared;
    use crate::testing::real_env;
    use futures::future::{Either, join, select};
    use sharding::{Replica, ShardMap};
    use std::future::poll_fn;
    use std::pin::pin;
    use storage::{Engine, Keyspace, SimDisk};
    use types::Timestamp;
    use types::env::NoTransport;

    fn registry(env: &types::env::Env) -> Arc<Registry> {
        let metrics = Arc::new(Metrics::new());
        let clock = Arc::clone(&env.clock);
        let locks = LockManager::new(Default::default(), Arc::clone(&clock), Arc::clone(&metrics));
        let time = Arc::new(NodeClock::new(clock, Timestamp::ZERO));
        let shared = Shared::new(StoreId(3), Arc::new(locks), metrics, time, 500);
        Arc::new(Registry::new(Arc::new(shared)))
    }

    /// A loop that wants every copy.
    async fn want_all(registry: &Registry) {
        let inbox = &registry.shared.inbox;
        while let Some(work) = poll_fn(|context| inbox.poll_work(context)).await {
            for request in work.requests {
                if let Request::PrepareSnapshot { record, reply, .. } = request {
                    let _ = reply.send(Some(record.descriptor));
                }
            }
        }
    }

    #[tokio::test]
    async fn while_room_is_made_for_a_copy_another_one_is_not_wanted() {
        let env = real_env();
        let disk = SimDisk::new();
        let mut batch = WriteBatch::default();
        batch.put(Keyspace::Data, Bytes::from_static(b"k"), "old");
        disk.write(batch).expect("a write");
        let registry = registry(&env);
        let engine: Arc<dyn Engine> = Arc::new(disk.clone());
        let snapshots = Snapshots::new(engine, env, Arc::new(NoTransport), &registry);
        let receiver = Receiver::new(snapshots);
        let descriptor = ShardMap::single(Replica {
            store: StoreId(1),
            id: 1,
        })
        .shards()[0]
            .clone();
        let offer = |copy| Call::Offer {
            copy,
            replica: ReplicaId(3),
            descriptor: descriptor.clone(),
            index: 10,
        };
        let piece = |copy, value: &'static str| Call::Piece {
            copy,
            shard: descriptor.id,
            number: 0,
            rows: vec![(Keyspace::Data, Bytes::from_static(b"k"), value.into())],
        };
        let story = async {
            // There is a row to remove, which takes a pause.
            let first = receiver.carry_out(StoreId(1), offer(1));
            let second = receiver.carry_out(StoreId(2), offer(2));
            assert!(matches!(join(first, second).await, (Ok(true), Ok(false))));
            let written = receiver.carry_out(StoreId(1), piece(1, "first")).await;
            assert!(matches!(written, Ok(true)));
            // Once there is room the next offer takes the place of the copy that arrives.
            let third = receiver.carry_out(StoreId(2), offer(3)).await;
            assert!(matches!(third, Ok(true)));
            assert_eq!(disk.get(Keyspace::Data, b"k").expect("a read"), None);
            let late = receiver.carry_out(StoreId(1), piece(1, "late")).await;
            assert!(matches!(late, Ok(false)));
        };
        match select(pin!(story), pin!(want_all(&registry))).await {
            Either::Left(((), _)) => {}
            Either::Right(_) => panic!("the loop has ended"),
        }
    }
}
