//! Removes history that nobody can read any more.
//!
//! The *threshold* is the oldest timestamp that can still be read: now minus `gc_ttl`, but never above the
//! oldest open snapshot, nor above the safe timestamp. Versions that were superseded at or below it
//! are removed. Reads below it are refused.
//!
//! A sweep goes through `history` in small steps with pauses, so that it takes a few percent of a core
//! and the disk's time at most. Between sweeps the task sleeps, a minute at least; if nothing was
//! committed since the last sweep began there is nothing to find, and it sleeps on.

use crate::inbox::Ended;
use crate::local_shards::LocalShards;
use crate::metrics::Metrics;
use futures::future::{Either, select};
use parking_lot::Mutex;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use storage::gc::Sweep;
use tokio::sync::watch;
use txn::ActiveSnapshots;
use types::{Result, SqlState, Timestamp};

/// Entries of `history` looked at in one step: a few milliseconds of work.
const STEP_ENTRIES: usize = 2000;
/// Between two steps.
const STEP_PAUSE: Duration = Duration::from_millis(20);
/// Between two sweeps, at least; also a sixteenth of `gc_ttl`, if that is longer.
const SWEEP_PAUSE: Duration = Duration::from_secs(60);

pub(crate) struct Collector {
    pub(crate) shards: Arc<LocalShards>,
    pub(crate) gc_ttl: Duration,
    /// Of all gateways in this process.
    pub(crate) snapshots: Mutex<Vec<Arc<ActiveSnapshots>>>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Collector {
    /// Until `ended` says that the store has stopped.
    pub(crate) async fn run(&self, mut ended: watch::Receiver<Ended>) {
        let pause = SWEEP_PAUSE.max(self.gc_ttl / 16);
        let mut swept = Timestamp::ZERO;
        loop {
            {
                let sleep = self.shards.clock.sleep(pause);
                let stopped = pin!(ended.wait_for(|ended| *ended >= Ended::Writer));
                if let Either::Left(_) = select(stopped, sleep).await {
                    return;
                }
            }
            let registry = &self.shards.registry;
            let shared = &registry.shared;
            let newest = Timestamp(shared.newest_commit.load(Ordering::SeqCst));
            if newest == swept {
                continue;
            }
            match self.sweep(&ended).await {
                // What was superseded within the last `gc_ttl` is still to be found.
                Ok(threshold) if threshold >= newest => swept = newest,
                Ok(_) => {}
                Err(error) => {
                    if error.state == SqlState::DATA_CORRUPTED {
                        registry.damage_seen.notify_one();
                    }
                    tracing::warn!(%error, "a sweep of history failed");
                }
            }
        }
    }

    /// One pass. Returns its threshold.
    pub(crate) async fn sweep(&self, ended: &watch::Receiver<Ended>) -> Result<Timestamp> {
        let threshold = self.raise_threshold();
        let mut sweep = Sweep::default();
        loop {
            let step = sweep.step(&*self.shards.engine, threshold, STEP_ENTRIES)?;
            if !step.batch.is_empty() {
                match self.shards.engine.write(step.batch) {
                    // A full disk cannot take deletions either; the next sweep tries again.
                    Err(storage::Error::DiskFull(_)) => return Ok(threshold),
                    result => result?,
                }
            }
            if !step.tombstones.is_empty() {
                self.shards
                    .registry
                    .shared
                    .inbox
                    .tombstones(step.tombstones);
            }
            self.metrics
                .gc_versions
                .increment(step.progress.versions_removed);
            self.metrics.gc_bytes.increment(step.progress.bytes);
            if step.progress.done || *ended.borrow() >= Ended::Writer {
                return Ok(threshold);
            }
            self.shards.clock.sleep(STEP_PAUSE).await;
        }
    }

    fn raise_threshold(&self) -> Timestamp {
        let now_millis = u64::try_from(self.shards.clock.wall_micros() / 1000).unwrap_or(0);
        let ttl_millis = u64::try_from(self.gc_ttl.as_millis()).unwrap_or(u64::MAX);
        let old = Timestamp::from_millis(now_millis.saturating_sub(ttl_millis));
        // The bound first, then the snapshots: who opens one later reads at or above the bound.
        let safe = self.shards.settle(old.min(self.shards.time.peek()));
        let snapshots = self.snapshots.lock();
        let oldest = snapshots.iter().filter_map(|active| active.oldest()).min();
        let threshold = old.min(safe).min(oldest.unwrap_or(Timestamp::MAX));
        let before = self
            .shards
            .gc_threshold
            .fetch_max(threshold.0, Ordering::SeqCst);
        Timestamp(before.max(threshold.0))
    }
}
