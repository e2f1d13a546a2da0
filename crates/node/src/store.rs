//! The storage side of one node: an engine with a Raft group upon it.
//!
//! Opening recovers: the group's log is read, the replica wins its election, and entries that were
//! committed but not applied when the process died are applied, before anybody can read. So a store
//! that is open holds everything it ever acknowledged.

use crate::gc::Collector;
use crate::identity::Identity;
use crate::local_shards::LocalShards;
use crate::lock_manager::LockManager;
use crate::log_writer::{self, LogWriter};
use crate::metrics::Metrics;
use crate::pipeline::{Ended, Pipeline, Work};
use consensus::{GroupId, GroupOptions, LogStore, Membership, ReplicaId};
use parking_lot::Mutex;
use sharding::shard_map::FIRST_SHARD;
use sharding::{Replica, Router, ShardMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use storage::{Engine, WriteBatch};
use tokio::sync::watch;
use txn::{Coordinator, Limits, LockLimits, Shards};
use types::env::Env;
use types::{Error, Result, Timestamp};

/// The first replica of the first shard.
const FIRST_REPLICA: ReplicaId = ReplicaId(1);

/// Some hundred KiB: the engine can flush memtables between two batches, on another core, and the
/// memory of one batch serves the next.
const BATCH_WRITES: usize = 2048;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long superseded versions are kept: the age of the oldest snapshot that may be asked for.
    pub gc_ttl: Duration,
    /// Bounds of the Raft log that is kept after apply.
    pub log: GroupOptions,
    pub locks: LockLimits,
    /// A commit of more than twice as many writes is applied in several batches of this many.
    pub batch_writes: usize,
    /// A known bug, acknowledging what is not on disk, to prove that the simulator finds it.
    pub broken_skip_sync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            gc_ttl: Duration::from_secs(4 * 3600),
            log: GroupOptions::default(),
            locks: LockLimits::default(),
            batch_writes: BATCH_WRITES,
            broken_skip_sync: false,
        }
    }
}

/// See the module. Dropping it stops its loops after what is queued; [`Store::shutdown`] waits.
pub struct Store {
    identity: Identity,
    router: Router,
    shards: Arc<LocalShards>,
    collector: Arc<Collector>,
    env: Env,
}

impl Store {
    /// Opens the store on this engine; on an empty one, founds a new cluster. Returns once all that
    /// was ever acknowledged can be read.
    pub fn open(engine: Arc<dyn Engine>, env: Env, options: Options) -> Result<Arc<Self>> {
        let group = GroupId(FIRST_SHARD.0);
        let identity = match Identity::load(&*engine)? {
            Some(identity) => identity,
            None => found(&*engine, &env, group)?,
        };
        let metrics = Arc::new(Metrics::new());
        let mut writer = LogWriter::open(
            Arc::clone(&engine),
            group,
            FIRST_REPLICA,
            options.log,
            Arc::clone(&env.clock),
            Arc::clone(&metrics),
        )?;
        writer.apply_in_batches_of(options.batch_writes);
        if options.broken_skip_sync {
            writer.skip_sync();
        }
        recover(&mut writer)?;

        let locks = Arc::new(LockManager::new(
            options.locks,
            Arc::clone(&env.clock),
            Arc::clone(&metrics),
        ));
        let pipeline = Arc::new(Pipeline::new(
            writer.commit_ts(),
            Arc::clone(&locks),
            Arc::clone(&metrics),
        ));
        let shards = Arc::new(LocalShards {
            engine,
            pipeline: Arc::clone(&pipeline),
            locks,
            clock: Arc::clone(&env.clock),
            gc_threshold: AtomicU64::new(0),
        });
        let collector = Arc::new(Collector {
            shards: Arc::clone(&shards),
            gc_ttl: options.gc_ttl,
            snapshots: Mutex::default(),
            metrics,
        });
        env.spawn.spawn_thread(
            "log-writer",
            Box::pin(log_writer::run(
                writer,
                Arc::clone(&pipeline),
                Arc::clone(&env.clock),
            )),
        );
        env.spawn.spawn("gc", {
            let collector = Arc::clone(&collector);
            Box::pin(async move {
                collector.run(pipeline.ended()).await;
                drop(collector);
                pipeline.collector_ended();
            })
        });
        Ok(Arc::new(Store {
            identity,
            router: Router::new(ShardMap::single(Replica {
                store: identity.store,
                id: FIRST_REPLICA.0,
            })),
            shards,
            collector,
            env,
        }))
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The seam for coordinators made elsewhere. Garbage collection does not know their snapshots;
    /// use [`Store::coordinator`] for those that must outlive `gc_ttl`.
    pub fn shards(&self) -> Arc<dyn Shards> {
        Arc::clone(&self.shards) as Arc<dyn Shards>
    }

    /// A gateway's coordinator, whose open snapshots garbage collection respects.
    pub fn coordinator(&self, limits: Limits) -> Coordinator {
        let coordinator = Coordinator::new(self.shards(), self.env.clone(), limits);
        self.collector
            .snapshots
            .lock()
            .push(coordinator.snapshots());
        coordinator
    }

    /// Becomes `Some` when the store has failed: reads go on, no write will succeed any more.
    pub fn failed(&self) -> watch::Receiver<Option<Error>> {
        self.shards.pipeline.failed()
    }

    pub fn read_timestamp(&self) -> Timestamp {
        self.shards.pipeline.safe_timestamp()
    }

    /// Keys locked, and transactions that wait for a lock.
    pub fn lock_counts(&self) -> (usize, usize) {
        self.shards.locks.counts()
    }

    pub fn disk_bytes(&self) -> u64 {
        self.shards.engine.disk_bytes()
    }

    /// One sweep of history now. Returns its threshold.
    pub async fn collect_garbage(&self) -> Result<Timestamp> {
        self.collector.sweep(&self.shards.pipeline.ended()).await
    }

    /// Refuses new commits, finishes those in hand, syncs, and stops the loops. Once this store and
    /// its coordinators are dropped, the engine can be opened again.
    pub async fn shutdown(&self) {
        let mut ended = self.shards.pipeline.ended();
        self.shards.pipeline.close();
        // Fails only if the sender is gone, and this store holds it.
        let _ = ended.wait_for(|ended| *ended == Ended::All).await;
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shards.pipeline.close();
    }
}

fn found(engine: &dyn Engine, env: &Env, group: GroupId) -> Result<Identity> {
    let identity = Identity::found(&*env.rng);
    let membership = Membership::of_voters([FIRST_REPLICA]);
    let mut batch = WriteBatch::default();
    identity.put(&mut batch);
    LogStore::create(group, membership, &mut batch);
    engine.write(batch)?;
    engine.sync()?;
    Ok(identity)
}

/// The election, and the entries that were not applied. A full disk delays neither: a store that
/// cannot finish its recovery cannot serve reads either, so it says so and does not open.
fn recover(writer: &mut LogWriter) -> Result<()> {
    let outcome = writer.turn(Work::default());
    if let Some(error) = outcome.failure {
        return Err(error);
    }
    if let Some((_, error)) = outcome.refused {
        return Err(error);
    }
    if outcome.blocked {
        let error = storage::Error::DiskFull("no space to finish the recovery".to_owned());
        return Err(error.into());
    }
    Ok(())
}
