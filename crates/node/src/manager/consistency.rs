//! Whether all copies of a shard hold the same rows.
//!
//! Checksums of blocks find bytes that have changed on a disk. What a replica has applied wrongly, or a disk has
//! dropped without a word, has good checksums. So now and then the leader of a shard has all replicas sum their
//! rows up as of one moment:
//!
//! ```text
//!   leader                                            every voter
//!   a timestamp below which no commit is in flight
//!   the index that it has applied       ── sum up ──► waits until it has applied that much,
//!                                                     reads all rows as of the timestamp, slowly
//!   compares                            ◄─── sum ────
//!   a minority differs                  ── damaged ─► that replica is given up and copied again
//! ```
//! Rows that are deleted do not count: when their tombstones go is each store's own affair. Two copies that differ
//! are reported and left alone, since nobody knows which is right.

use super::Manager;
use super::wire::{Call, Reply};
use crate::inbox::{Ended, Request};
use crate::replica::Replica;
use bytes::Bytes;
use futures::future::{Either, join_all, select};
use sharding::ShardId;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use storage::mvcc;
use types::{Error, Result, SqlState, StoreId, Timestamp};
use xxhash_rust::xxh3::Xxh3;

/// Rows and bytes read at once: some milliseconds of work.
const PAGE_ROWS: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;
/// Between two pages: with the above, at most 50 MiB a second.
const PAGE_PAUSE: Duration = Duration::from_millis(20);
/// Between two looks whether a replica has applied enough.
const POLL: Duration = Duration::from_millis(50);
/// Looks until a replica that does not come so far is left out.
const LOOKS: u32 = 600;
/// Above every key: keys begin with the number of a table, and none has this one.
const LAST_KEY: [u8; 16] = [0xff; 16];

/// What a replica is to sum up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) shard: ShardId,
    pub(crate) generation: u64,
    /// As of when.
    pub(crate) at: Timestamp,
    /// What must have been applied.
    pub(crate) index: u64,
}

impl Manager {
    /// Until the store closes: compares the copies of all shards that this store leads, now and then.
    pub(crate) async fn check_now_and_then(self: Arc<Self>) {
        let pause = self.options.check;
        let mut ended = self.registry.shared.inbox.ended();
        loop {
            // Not all stores at the same time.
            let part = self.env.rng.next_u64() % 1000;
            let more = pause.mul_f64(part as f64 / 1000.0);
            let sleep = self.env.clock.sleep(pause + more);
            let stopped = pin!(ended.wait_for(|ended| *ended >= Ended::Writer));
            if let Either::Left(_) = select(stopped, sleep).await {
                return;
            }
            self.check_copies().await;
        }
    }

    /// Compares the copies of all shards that this store leads. Returns how many replicas were found to differ.
    pub(crate) async fn check_copies(&self) -> usize {
        let mut differ = 0;
        for replica in self.registry.all() {
            if replica.lease().is_none() || !replica.has_peers() || !self.is_open() {
                continue;
            }
            match self.check_shard(&replica).await {
                Ok(found) => differ += found,
                Err(error) => {
                    tracing::info!(%error, shard = replica.shard.0, "copies were not compared");
                }
            }
        }
        differ
    }

    async fn check_shard(&self, replica: &Replica) -> Result<usize> {
        let at = self.time.now();
        let mut looks = 0;
        while replica.settle(at) < at {
            looks += 1;
            if looks > LOOKS {
                return Err(not_compared("commits stay in flight"));
            }
            self.env.clock.sleep(POLL).await;
        }
        let seen = self.mover.inspect(replica.shard).await?;
        let sum = Sum {
            shard: replica.shard,
            generation: seen.descriptor.generation,
            at,
            index: seen.applied,
        };
        let voters = seen.descriptor.replicas.iter();
        let voters = voters.filter(|r| {
            let id = consensus::ReplicaId(r.id);
            seen.membership.voters.contains(&id)
        });
        let asked = voters.map(|voter| async move {
            Some((voter.store, voter.id, self.ask_sum(voter.store, sum).await?))
        });
        let sums: Vec<(StoreId, u64, u64)> = join_all(asked).await.into_iter().flatten().collect();
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, _, sum) in &sums {
            *counts.entry(*sum).or_default() += 1;
        }
        if counts.len() <= 1 {
            return Ok(0);
        }
        let Some((right, _)) = counts.iter().find(|(_, count)| **count * 2 > sums.len()) else {
            tracing::error!(
                shard = sum.shard.0,
                ?sums,
                "copies differ, and none has a majority"
            );
            return Ok(0);
        };
        let wrong = sums.iter().filter(|(_, _, found)| found != right);
        let mut told = 0;
        for (store, id, _) in wrong {
            tracing::error!(shard = sum.shard.0, store = store.0, at = %at, "a copy differs from the others");
            self.tell_differs(*store, sum.shard, *id).await;
            told += 1;
        }
        Ok(told)
    }

    async fn ask_sum(&self, store: StoreId, sum: Sum) -> Option<u64> {
        if store == self.identity.store {
            return self.sum_up(sum).await.ok();
        }
        let call = self.transport.call(store, Call::Sum(sum).encode());
        match Reply::decode(call.await.ok()?)? {
            Reply::Sum(sum) => Some(sum),
            _ => None,
        }
    }

    async fn tell_differs(&self, store: StoreId, shard: ShardId, replica: u64) {
        if store == self.identity.store {
            return self.differs(shard, replica);
        }
        let call = Call::Differs { shard, replica };
        if let Err(error) = self.transport.call(store, call.encode()).await {
            // The next comparison finds it again.
            tracing::warn!(
                ?error,
                store = store.0,
                "a store does not hear that its copy differs"
            );
        }
    }

    /// This store's replica is not what the others are.
    pub(super) fn differs(&self, shard: ShardId, replica: u64) {
        let what = "its rows differ from those of a majority".to_owned();
        let inbox = &self.registry.shared.inbox;
        inbox.request(Request::Differs {
            shard,
            replica,
            what,
        });
    }

    /// The sum of all rows of this store's replica as of a moment.
    pub(super) async fn sum_up(&self, sum: Sum) -> Result<u64> {
        let replica = self.registry.get(sum.shard);
        let replica = replica.ok_or_else(|| not_compared("the replica is gone"))?;
        let mut looks = 0;
        let descriptor = loop {
            let seen = self.mover.inspect_any(sum.shard).await?;
            if !seen.whole || seen.descriptor.generation != sum.generation {
                return Err(not_compared("the replica is another now"));
            }
            if seen.applied >= sum.index {
                break seen.descriptor;
            }
            looks += 1;
            if looks > LOOKS {
                return Err(not_compared("the replica is too far behind"));
            }
            self.env.clock.sleep(POLL).await;
        };
        let end = descriptor.end.clone();
        let end = end.unwrap_or_else(|| Bytes::from_static(&LAST_KEY));
        let mut start = descriptor.start.clone();
        let mut hash = Xxh3::new();
        loop {
            let page = {
                let snapshot = self.shards.engine.snapshot();
                let (rows, bytes) = (PAGE_ROWS, PAGE_BYTES);
                mvcc::scan(&*snapshot, &start, &end, sum.at, false, rows, bytes)
            };
            let page = self.registry.checked(&replica, page);
            let page = page.map_err(|_| not_compared("a row cannot be read"))?;
            for (key, value, at) in &page.rows {
                hash.update(&(key.len() as u64).to_le_bytes());
                hash.update(key);
                hash.update(&at.0.to_le_bytes());
                hash.update(&(value.len() as u64).to_le_bytes());
                hash.update(value);
            }
            match page.resume {
                Some(resume) => start = resume,
                None => break,
            }
            self.env.clock.sleep(PAGE_PAUSE).await;
        }
        let seen = self.mover.inspect_any(sum.shard).await?;
        if !seen.whole || seen.descriptor.generation != sum.generation {
            return Err(not_compared("the replica has changed meanwhile"));
        }
        self.shards.readable(sum.at)?;
        Ok(hash.digest())
    }
}

fn not_compared(why: &str) -> Error {
    let message = format!("the copies of the shard cannot be compared: {why}");
    Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
}
