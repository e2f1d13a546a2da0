//! Shards that have grown too large, and splits in the middle.
//!
//! Every store looks at the shards that it leads, once in some seconds, in one loop for all. One that has been written
//! so much that it may be too large is measured, as is each once after the start; one that is too large is split in its
//! middle, by way of the manager.
//! A cluster of one node splits nothing by itself: there is no other node to which a part could move.

use super::Manager;
use super::shards::Split;
use super::wire::{Call, Reply};
use crate::shard_server::{Failure, Refusal};
use crate::sizes::{Measured, measure};
use bytes::Bytes;
use sharding::ShardId;
use std::sync::Arc;
use std::time::Duration;
use types::key::{FIRST_USER_TABLE_ID, table_prefix};
use types::{Error, Result, SqlState};

/// Between two steps of a measurement that nobody waits for: it takes a tenth of a core at most.
const STEP_PAUSE: Duration = Duration::from_millis(20);
/// Between two tries to measure a span.
const PAUSE: Duration = Duration::from_millis(50);
/// How often the shards of a span are asked for while they change.
const TRIES: usize = 20;

impl Manager {
    /// Until the store closes.
    pub(crate) async fn split_large_shards(self: Arc<Self>) {
        let most = self.options.shard_max_bytes;
        while self.is_open() && most > 0 {
            self.env.clock.sleep(self.options.size_round).await;
            if self.met.lock().is_empty() {
                continue;
            }
            for replica in self.registry.all() {
                let leads = replica.lease_end() >= self.time.peek();
                if !leads || replica.size.estimate().is_some_and(|bytes| bytes <= most) {
                    continue;
                }
                if let Err(error) = self.split_if_large(replica.shard, most).await {
                    tracing::warn!(%error, shard = replica.shard.0, "a large shard is not split yet");
                }
            }
        }
    }

    async fn split_if_large(&self, shard: ShardId, most: u64) -> Result<()> {
        let Some(replica) = self.registry.get(shard) else {
            return Ok(());
        };
        let descriptor = replica.descriptor();
        let (start, end) = (&descriptor.start, descriptor.end.as_deref());
        let found = self.measure(start, end, STEP_PAUSE).await?;
        replica.size.set(found.bytes);
        if found.bytes <= most {
            return Ok(());
        }
        if let Some(middle) = found.middle {
            let why = format!(
                "shard {} has {} MiB, more than {} MiB",
                shard.0,
                found.bytes >> 20,
                most >> 20
            );
            self.split_at(middle, &why).await?;
        }
        Ok(())
    }

    /// What of these keys is on this store. The middle is never among the system's tables.
    async fn measure(&self, start: &[u8], end: Option<&[u8]>, pause: Duration) -> Result<Measured> {
        let first = table_prefix(FIRST_USER_TABLE_ID);
        let start = start.max(&first[..]);
        if end.is_some_and(|end| end <= start) {
            return Ok(Measured::default());
        }
        let measured = measure(&*self.shards.engine, &*self.env.clock, start, end, pause);
        Ok(measured.await?)
    }

    /// Splits the shard in which the middle of a span lies, in the middle of the span's part in it. From any node.
    /// 22023: there are not two keys.
    pub(crate) async fn split_middle(&self, start: Bytes, end: Bytes, why: &str) -> Result<Split> {
        for _ in 0..TRIES {
            match self.middle(&start, &end).await {
                Ok(Some(middle)) => return self.split_at(middle, why).await,
                Ok(None) => return Err(nothing_to_split()),
                Err(Failure::Failed(error)) => return Err(error),
                // Its shards have changed.
                Err(_) => self.env.clock.sleep(PAUSE).await,
            }
        }
        Err(nothing_to_split())
    }

    async fn middle(
        &self,
        start: &Bytes,
        end: &Bytes,
    ) -> std::result::Result<Option<Bytes>, Failure> {
        let router = self.gateway.router();
        let mut parts = Vec::new();
        for route in router.overlapping(start, Some(end)) {
            let from = route.shard.start.clone().max(start.clone());
            let to = route.shard.end.iter().chain([end]).min().cloned();
            let to = to.unwrap_or_else(|| end.clone());
            let store = route.holder.ok_or(Failure::Unreachable(false))?;
            let (shard, generation) = (route.shard.id, route.shard.generation);
            let part = match store == self.identity.store {
                true => self.measure_part(shard, generation, &from, &to).await?,
                false => {
                    let call = Call::Measure {
                        shard,
                        generation,
                        start: from,
                        end: to,
                    };
                    match self.ask_store(store, &call).await {
                        Ok(Reply::Measured(measured)) => measured,
                        Ok(_) => return Err(Failure::Unreachable(false)),
                        Err(failure) => {
                            self.learn_from(&failure, shard, store);
                            return Err(failure);
                        }
                    }
                }
            };
            parts.push(part);
        }
        let half = parts.iter().map(|part| part.bytes).sum::<u64>() / 2;
        let mut below = 0;
        let in_the_middle = parts.iter().find(|part| {
            below += part.bytes;
            below >= half && part.middle.is_some()
        });
        let any = || parts.iter().max_by_key(|part| part.bytes);
        let chosen = in_the_middle.or_else(any);
        Ok(chosen.and_then(|part| part.middle.clone()))
    }

    fn learn_from(&self, failure: &Failure, shard: ShardId, store: types::StoreId) {
        match failure {
            Failure::Refused(Refusal::Mismatch { newer }) => {
                self.gateway.learn(newer);
            }
            Failure::Refused(Refusal::NotLeaseHolder { hint: Some(hint) }) => {
                self.gateway.router().believe(shard, *hint);
            }
            _ => self.gateway.router().doubt(shard, store),
        }
    }

    /// The lease holder's part.
    pub(super) async fn measure_part(
        &self,
        shard: ShardId,
        generation: u64,
        start: &[u8],
        end: &[u8],
    ) -> std::result::Result<Measured, Failure> {
        let replica = self.registry.get(shard);
        let replica = replica.filter(|replica| replica.lease_end() >= self.time.peek());
        let replica = replica.ok_or(Failure::Refused(Refusal::NotLeaseHolder { hint: None }))?;
        if replica.descriptor().generation != generation {
            let mut newer = vec![(*replica.descriptor()).clone()];
            newer.extend(self.registry.to_the_right(&newer[0], 64));
            return Err(Failure::Refused(Refusal::Mismatch { newer }));
        }
        let measured = self.measure(start, Some(end), Duration::ZERO).await;
        measured.map_err(Failure::Failed)
    }
}

fn nothing_to_split() -> Error {
    Error::new(
        SqlState::INVALID_PARAMETER_VALUE,
        "there is nothing to split",
    )
    .hint("A shard is split between two rows.")
}
