//! Reads all that is on the disk, slowly, so that rot is found before it is needed.
//!
//! Followers are never read by clients, and what is seldom read is never compared with its checksum. So every
//! store goes over its own tables, leader or not: one table after the other, with pauses that hold it to a rate,
//! and not while the store is busy. When somebody meets damage, all tables are checked at once, since rot seldom
//! comes alone and all of it must be out of use before replicas are copied again.
//!
//! Journals are not checked here: they are replayed, and compared, with each start.

use crate::inbox::Ended;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::snapshots::Snapshots;
use futures::future::{Either, select};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use storage::{Damage, Engine, Keyspace};
use tokio::sync::watch;
use types::Error;
use types::env::Clock;

/// Syncs of the log in a second from which on the store is busy: a tenth of what a disk of 2 ms a sync does.
const BUSY_SYNCS_A_SECOND: u64 = 50;
/// How long a busy store is left alone, between two looks at it.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
/// A store that is always busy is scrubbed all the same, after so many looks for each table.
const BUSY_LOOKS: u32 = 60;
/// How often a damaged table is tried to be taken out of use: a compaction may have it, or the disk be full.
const DISCARD_TRIES: u32 = 10;
const DISCARD_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub struct ScrubOptions {
    /// Bytes that are read in a second, on average. 0: only after damage was met. 4 MiB are a hundredth of what a
    /// slow disk reads, and 350 GiB in a day.
    pub bytes_a_second: u64,
    /// From the end of a pass to the beginning of the next.
    pub pause: Duration,
}

impl Default for ScrubOptions {
    fn default() -> Self {
        ScrubOptions {
            bytes_a_second: 4 << 20,
            pause: Duration::from_secs(6 * 3600),
        }
    }
}

/// See the module. One per store.
pub(crate) struct Scrub {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: ScrubOptions,
    pub(crate) paused: Arc<AtomicBool>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Why a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    Time,
    Damage,
    Stop,
}

impl Scrub {
    /// Until `ended` says that the store has stopped.
    pub(crate) async fn run(self, mut ended: watch::Receiver<Ended>) {
        loop {
            let mut woken = self.wait(self.options.pause, &mut ended).await;
            if woken == Woken::Time && self.options.bytes_a_second > 0 {
                woken = self.pass(&mut ended).await;
            }
            if woken == Woken::Damage {
                self.look_for_damage().await;
            }
            if woken == Woken::Stop {
                return;
            }
        }
    }

    async fn wait(&self, pause: Duration, ended: &mut watch::Receiver<Ended>) -> Woken {
        let stopped = pin!(ended.wait_for(|ended| *ended >= Ended::Writer));
        let seen = pin!(self.registry.damage_seen.notified());
        match select(stopped, select(seen, self.clock.sleep(pause))).await {
            Either::Left(_) => Woken::Stop,
            Either::Right((Either::Left(_), _)) => Woken::Damage,
            Either::Right((Either::Right(_), _)) => Woken::Time,
        }
    }

    /// All tables, slowly.
    async fn pass(&self, ended: &mut watch::Receiver<Ended>) -> Woken {
        for table in self.engine.tables() {
            let mut looks = 0;
            let mut syncs = self.syncs();
            loop {
                let pause = match looks {
                    0 => Duration::from_nanos(
                        table.bytes.saturating_mul(1_000_000_000) / self.options.bytes_a_second,
                    ),
                    _ => BUSY_PAUSE,
                };
                let before = self.clock.monotonic_nanos();
                let woken = self.wait(pause, ended).await;
                if woken != Woken::Time {
                    return woken;
                }
                let seconds = (self.clock.monotonic_nanos() - before) / 1_000_000_000 + 1;
                let done = self.syncs();
                let busy = (done - syncs) / seconds > BUSY_SYNCS_A_SECOND && looks < BUSY_LOOKS;
                syncs = done;
                looks += 1;
                if !busy && !self.paused.load(Ordering::Relaxed) {
                    break;
                }
            }
            match self.engine.check_table(table) {
                Ok(None) => {}
                Ok(Some(damage)) => {
                    self.found(damage).await;
                    return Woken::Damage;
                }
                Err(error) => tracing::warn!(%error, "a table cannot be checked"),
            }
            self.metrics.scrub_bytes.increment(table.bytes);
        }
        Woken::Time
    }

    fn syncs(&self) -> u64 {
        self.registry.shared.syncs.load(Ordering::Relaxed)
    }

    /// All tables, at once.
    async fn look_for_damage(&self) {
        for table in self.engine.tables() {
            match self.engine.check_table(table) {
                Ok(None) => {}
                Ok(Some(damage)) => self.found(damage).await,
                Err(error) => tracing::warn!(%error, "a table cannot be checked"),
            }
            self.metrics.scrub_bytes.increment(table.bytes);
        }
    }

    async fn found(&self, damage: Damage) {
        let what = &damage.what;
        if !matches!(damage.table.keyspace, Keyspace::Data | Keyspace::History) {
            // Logs and votes are this store's own; nobody has copies of them.
            let error = storage::Error::Corrupt(what.clone());
            self.registry.fail(&Error::from(error));
            return;
        }
        for _ in 0..DISCARD_TRIES {
            match self.snapshots.discard(&damage).await {
                Ok(true) => {
                    tracing::warn!(what, "a damaged table is out of use");
                    self.metrics.damaged_tables.increment(1);
                    return;
                }
                Ok(false) if !self.registry.shared.inbox.is_open() => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, what, "a damaged table stays in use"),
            }
            self.clock.sleep(DISCARD_PAUSE).await;
        }
        tracing::error!(what, "a damaged table cannot be taken out of use");
    }
}
