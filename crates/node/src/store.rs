//! The storage side of one node: an engine with Raft groups upon it.
//!
//! Opening recovers: the groups' logs are read; replicas that are alone win their election, and entries that
//! were committed but not applied when the process died are applied, before anybody can read. So a store
//! that is open and alone holds everything it ever acknowledged. Replicas in larger groups find their
//! leader once peers can be reached.

use crate::gateway::{Gateway, PATIENCE};
use crate::gc::Collector;
use crate::identity::Identity;
use crate::inbox::{Ended, Inbox, Work};
use crate::liveness_record;
use crate::local_shards::LocalShards;
use crate::lock_manager::LockManager;
use crate::log_writer::{self, LogWriter, Parts, WriterOptions};
use crate::manager::{
    self, Addresses, ClusterState, EventRow, Manager, ManagerOptions, NodeRow, Report,
};
use crate::metrics::Metrics;
use crate::node_clock::NodeClock;
use crate::observe::{LeaseView, Observer};
use crate::parts::PartOptions;
use crate::peer::StorePeer;
use crate::read_leases;
use crate::registry::Registry;
use crate::replica::Shared;
use crate::replica_record::{Presence, ReplicaRecord};
use crate::rpc::RemoteShards;
use crate::scrub::{Scrub, ScrubOptions};
use crate::shard_server::ShardServer;
use crate::snapshots::Snapshots;
use bytes::Bytes;
use consensus::{GroupId, GroupOptions, LogStore, Membership, ReplicaId};
use membership::liveness::{self, Liveness};
use membership::service::Intent;
use parking_lot::Mutex;
use sharding::{Replica, ShardDescriptor, ShardMap};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use storage::{Engine, WriteBatch};
use tokio::sync::{broadcast, watch};
use txn::{Coordinator, Limits, LockLimits, Shards};
use types::env::{Env, Peer, Transport};
use types::{Error, Result, StoreId, Timestamp};

/// The first replica of the first shard.
const FIRST_REPLICA: ReplicaId = ReplicaId(1);

/// Some hundred KiB: the engine can flush memtables between two batches, on another core, and the
/// memory of one batch serves the next.
const BATCH_WRITES: usize = 2048;

/// Turns that opening a store takes, at most: one to win the elections, one to apply, and the same again for shards
/// that are split off by what is applied; twice, to be sure.
const RECOVERY_TURNS: usize = 8;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long superseded versions are kept: the age of the oldest snapshot that may be asked for.
    pub gc_ttl: Duration,
    /// Bounds of the Raft log that is kept after apply.
    pub log: GroupOptions,
    pub locks: LockLimits,
    pub liveness: liveness::Options,
    pub manager: ManagerOptions,
    pub scrub: ScrubOptions,
    pub read_leases: read_leases::Options,
    /// How long a shard may go without a quorum before calls fail that need it.
    pub unavailable_after: Duration,
    /// By how much the clocks of two nodes may differ.
    pub max_clock_offset: Duration,
    /// A commit of more than twice as many writes is applied in several batches of this many.
    pub batch_writes: usize,
    /// How large commits are cut into entries of the log.
    pub parts: PartOptions,
    /// A known bug, acknowledging what is not on disk, to prove that the simulator finds it.
    pub broken_skip_sync: bool,
    /// A known bug, commits that do not wait for holders of read leases, to prove that the simulator finds it.
    pub broken_skip_readers: bool,
    /// A known bug, leases that do not end earlier for the sake of clocks, to prove that the simulator finds it.
    pub broken_skip_offset: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            gc_ttl: Duration::from_secs(4 * 3600),
            log: GroupOptions::default(),
            locks: LockLimits::default(),
            liveness: liveness::Options::default(),
            manager: ManagerOptions::default(),
            scrub: ScrubOptions::default(),
            read_leases: read_leases::Options::default(),
            unavailable_after: PATIENCE,
            max_clock_offset: Duration::from_millis(500),
            batch_writes: BATCH_WRITES,
            parts: PartOptions::default(),
            broken_skip_sync: false,
            broken_skip_readers: false,
            broken_skip_offset: false,
        }
    }
}

/// See the module. Dropping it stops its loops after what is queued; [`Store::shutdown`] waits.
pub struct Store {
    pub(crate) identity: Identity,
    pub(crate) shards: Arc<LocalShards>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) peer: Arc<StorePeer>,
    manager: Arc<Manager>,
    collector: Arc<Collector>,
    scrub_paused: Arc<AtomicBool>,
    pub(crate) env: Env,
}

/// Says that all loops have ended, once nobody has it any more.
struct Last(Arc<Registry>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.shared.inbox.set_ended(Ended::All);
    }
}

impl Store {
    /// Opens the store on this engine; on an empty one, founds a new cluster. Returns once all that
    /// was ever acknowledged by replicas that are alone can be read.
    pub fn open(
        engine: Arc<dyn Engine>,
        env: Env,
        transport: Arc<dyn Transport>,
        options: Options,
    ) -> Result<Arc<Self>> {
        if Identity::load(&*engine)?.is_none() {
            found(&*engine, &env)?;
        }
        Self::open_known(engine, env, transport, options)
    }

    /// Makes an empty engine the store of `identity`, in a cluster that exists already.
    pub fn join(engine: &dyn Engine, identity: Identity) -> Result<()> {
        let mut batch = WriteBatch::default();
        identity.put(&mut batch);
        engine.write(batch)?;
        engine.sync()?;
        Ok(())
    }

    fn open_known(
        engine: Arc<dyn Engine>,
        env: Env,
        transport: Arc<dyn Transport>,
        options: Options,
    ) -> Result<Arc<Self>> {
        let identity = Identity::load(&*engine)?
            .ok_or_else(|| Error::corrupt("the store does not know which one it is"))?;
        let metrics = Arc::new(Metrics::new());
        let promises = liveness_record::load(&*engine)?;
        let wakes_at = promises.clock_floor();
        let time = Arc::new(NodeClock::new(Arc::clone(&env.clock), Timestamp::ZERO));
        let begins_at = time.now().max(wakes_at);
        let offset = options.max_clock_offset.as_millis();
        let offset_millis = u64::try_from(offset).unwrap_or(u64::MAX);
        let asking = liveness::Options {
            offset_millis,
            ..options.liveness
        };
        let liveness = Liveness::new(identity.store, promises, asking, begins_at);
        let locks = Arc::new(LockManager::new(
            options.locks,
            Arc::clone(&env.clock),
            Arc::clone(&metrics),
        ));
        let registry = Arc::new(Registry::new(Arc::new(Shared::new(
            identity.store,
            Arc::clone(&locks),
            Arc::clone(&metrics),
            Arc::clone(&time),
            offset_millis,
        ))));
        let snapshots = Snapshots::new(
            Arc::clone(&engine),
            env.clone(),
            Arc::clone(&transport),
            &registry,
        );
        let mut writer = LogWriter::open(Parts {
            engine: Arc::clone(&engine),
            store: identity.store,
            liveness,
            wakes_at,
            clock: Arc::clone(&time),
            env: env.clone(),
            transport: Arc::clone(&transport),
            registry: Arc::clone(&registry),
            snapshots: Arc::clone(&snapshots),
            options: WriterOptions {
                log: options.log,
                batch_writes: options.batch_writes.max(1),
                patience: options.unavailable_after,
                offset_millis: match options.broken_skip_offset {
                    true => 0,
                    false => offset_millis,
                },
                read_lease_millis: options.read_leases.life.as_millis() as u64,
                skip_sync: options.broken_skip_sync,
                skip_readers: options.broken_skip_readers,
            },
            metrics: Arc::clone(&metrics),
        })?;
        recover(&mut writer)?;

        let shards = Arc::new(LocalShards {
            engine: Arc::clone(&engine),
            store: identity.store,
            registry: Arc::clone(&registry),
            locks,
            clock: Arc::clone(&env.clock),
            time: Arc::clone(&time),
            gc_threshold: Arc::default(),
            spawn: Arc::clone(&env.spawn),
            parts: options.parts,
            read_leases: options.read_leases,
        });
        let scrub_paused = Arc::new(AtomicBool::new(false));
        let scrub = Scrub {
            engine,
            registry: Arc::clone(&registry),
            snapshots: Arc::clone(&snapshots),
            clock: Arc::clone(&env.clock),
            options: options.scrub,
            paused: Arc::clone(&scrub_paused),
            metrics: Arc::clone(&metrics),
        };
        let collector = Arc::new(Collector {
            shards: Arc::clone(&shards),
            gc_ttl: options.gc_ttl,
            snapshots: Mutex::default(),
            metrics,
        });
        let gateway = open_gateway(&env, &shards, &transport, options.unavailable_after);
        let own: Arc<dyn Shards> = Arc::clone(&gateway) as Arc<dyn Shards>;
        let manager = Arc::new(Manager::new(manager::Parts {
            identity,
            options: options.manager,
            registry: Arc::clone(&registry),
            shards: Arc::clone(&shards),
            gateway: Arc::clone(&gateway),
            coordinator: Coordinator::new(own, env.clone(), Limits::default()),
            transport,
            env: env.clone(),
        }));
        gateway.read_map_from({
            let manager = Arc::downgrade(&manager);
            Box::new(move || {
                let manager = Weak::clone(&manager);
                Box::pin(async move {
                    match manager.upgrade() {
                        Some(manager) => manager.ask_for_map().await,
                        None => Vec::new(),
                    }
                })
            })
        });
        let peer = Arc::new(StorePeer::new(
            identity,
            Arc::clone(&shards),
            Arc::clone(&registry),
            snapshots,
            Arc::clone(&manager),
            options.max_clock_offset,
            env.clone(),
        ));
        env.spawn.spawn_thread(
            "log-writer",
            Box::pin(log_writer::run(writer, Arc::clone(&registry))),
        );
        let last = Arc::new(Last(Arc::clone(&registry)));
        env.spawn.spawn_thread("scrub", {
            let (ended, last) = (registry.shared.inbox.ended(), Arc::clone(&last));
            Box::pin(async move {
                scrub.run(ended).await;
                drop(last);
            })
        });
        env.spawn.spawn("gc", {
            let collector = Arc::clone(&collector);
            Box::pin(async move {
                collector.run(registry.shared.inbox.ended()).await;
                drop((collector, registry));
                drop(last);
            })
        });
        Ok(Arc::new(Store {
            identity,
            shards,
            gateway,
            peer,
            manager,
            collector,
            scrub_paused,
            env,
        }))
    }

    /// Which store an engine is of. `None`: it is new.
    pub fn identity_in(engine: &dyn Engine) -> Result<Option<Identity>> {
        Ok(Identity::load(engine)?)
    }

    /// Hands all leases to other stores, where there are any, so that a stop is not noticed.
    pub async fn give_up_leases(&self) {
        self.manager.give_up_leases().await;
    }

    /// How many snapshots this store has given of shards whose lease is elsewhere.
    pub fn read_lease_snapshots(&self) -> u64 {
        let shared = &self.shards.registry.shared;
        shared.read_lease_snapshots.load(Ordering::Relaxed)
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Finds the other nodes: those it knew when it stopped, and whoever answers at `targets`. Returns once
    /// it knows which shards there are; a store that has all of them, at once.
    pub async fn find_cluster(&self, targets: &[String]) -> Result<()> {
        self.manager.find_cluster(targets).await
    }

    /// Takes part in the cluster: tells it the node's addresses, and manages it when it is this store's turn.
    /// The answer is `false` if the node was removed from the cluster for good and must stop.
    pub fn take_part(&self, addresses: Addresses) -> impl Future<Output = bool> + use<> {
        self.gateway.start();
        let manager = Arc::clone(&self.manager);
        self.env
            .spawn
            .spawn("cluster-manager", Box::pin(Arc::clone(&manager).run()));
        let checks = Arc::clone(&manager).check_now_and_then();
        self.env.spawn.spawn("copies-check", Box::pin(checks));
        let sizes = Arc::clone(&manager).split_large_shards();
        self.env.spawn.spawn("shard-sizes", Box::pin(sizes));
        manager.register(addresses)
    }

    /// How the cluster stands, asked now.
    pub async fn cluster_state(&self) -> Result<ClusterState> {
        self.manager.status().await
    }

    /// What the cluster wants of this node.
    pub fn intent(&self) -> watch::Receiver<Intent> {
        self.manager.intent()
    }

    /// This node gives up its leases and takes no new sessions.
    pub fn is_draining(&self) -> bool {
        self.manager.is_draining()
    }

    /// Changes of nodes' states, as the cluster manager sees them while it runs on this store.
    pub fn subscribe(&self) -> broadcast::Receiver<membership::service::Event> {
        self.manager.subscribe()
    }

    /// Stores that have left the cluster for good.
    pub fn gone(&self) -> BTreeSet<StoreId> {
        self.manager.gone()
    }

    /// What has happened to the cluster's nodes since the event with this number, the oldest first.
    pub async fn events(&self, after: u64) -> Result<Vec<EventRow>> {
        self.manager.events(after).await
    }

    /// Has a node drained, decommissioned, or serve again. `None`: there is no such node. An error with all
    /// reasons if it cannot be done.
    pub async fn intend(&self, node: StoreId, intent: Intent) -> Result<Option<NodeRow>> {
        self.manager.intend(node, intent).await
    }

    /// Sees to it that a shard begins at `at`: splits the one that holds it, wherever its lease is. `why` is shown in
    /// the list of moves. A key of the system's tables is 22023; 55000 and 57P03: not now.
    pub async fn split_at(&self, at: Bytes, why: &str) -> Result<manager::Split> {
        self.manager.split_at(at, why).await
    }

    /// Splits the shard in which the middle of the keys from `start` to below `end` lies, in the middle of what it has of
    /// them. 22023: there are not two. Otherwise as [`Store::split_at`].
    pub async fn split_middle(
        &self,
        start: Bytes,
        end: Bytes,
        why: &str,
    ) -> Result<manager::Split> {
        self.manager.split_middle(start, end, why).await
    }

    /// The shards and their lease holders, as this node believes them to be.
    pub fn router(&self) -> Arc<sharding::Router> {
        self.gateway.router()
    }

    /// The shards, as the cluster's rows say.
    pub async fn map(&self) -> Result<Vec<ShardDescriptor>> {
        self.manager.rows_of_shards().await
    }

    /// How this store and its replicas stand.
    pub async fn report(&self) -> Report {
        self.manager.report(0).await
    }

    /// What the host hands in that peers send.
    pub fn peer(&self) -> Arc<dyn Peer> {
        Arc::clone(&self.peer) as Arc<dyn Peer>
    }

    #[cfg(test)]
    pub(crate) fn manager(&self) -> &Manager {
        &self.manager
    }

    /// The seam for coordinators made elsewhere. Garbage collection does not know their snapshots;
    /// use [`Store::coordinator`] for those that must outlive `gc_ttl`.
    pub fn shards(&self) -> Arc<dyn Shards> {
        Arc::clone(&self.gateway) as Arc<dyn Shards>
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
        self.inbox().failed()
    }

    fn inbox(&self) -> &Inbox {
        &self.shards.registry.shared.inbox
    }

    /// From now on the observer is shown the groups of this store. Only the first one is.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        // A second one is refused, as promised.
        let _ = self.shards.registry.observer.set(observer);
    }

    /// The leases of this store, those among them whose time is over, too.
    pub fn leases(&self) -> Vec<LeaseView> {
        let now = self.shards.time.peek();
        let replicas = self.shards.registry.all().into_iter();
        let held = replicas.filter_map(|replica| Some((replica.lease()?, replica)));
        held.map(|(lease, replica)| LeaseView {
            shard: replica.shard,
            term: lease.term,
            is_valid: now <= replica.lease_end(),
        })
        .collect()
    }

    /// Keys locked, and transactions that wait for a lock.
    pub fn lock_counts(&self) -> (usize, usize) {
        self.shards.locks.counts()
    }

    pub fn disk_bytes(&self) -> u64 {
        self.shards.engine.disk_bytes()
    }

    /// Compares all copies of the shards that this store leads, now. Returns how many replicas differ from most
    /// others; they are copied again.
    pub async fn check_copies(&self) -> usize {
        self.manager.check_copies().await
    }

    /// Stops and resumes the scrub. Damage that somebody meets is looked for all the same.
    pub fn pause_scrub(&self, paused: bool) {
        self.scrub_paused.store(paused, Ordering::Relaxed);
    }

    /// One sweep of history now. Returns its threshold.
    pub async fn collect_garbage(&self) -> Result<Timestamp> {
        self.collector.sweep(&self.inbox().ended()).await
    }

    /// Refuses new commits, finishes those in hand, syncs, and stops the loops. Once this store and
    /// its coordinators are dropped, the engine can be opened again.
    pub async fn shutdown(&self) {
        let mut ended = self.inbox().ended();
        self.shards.registry.close();
        // Fails only if the sender is gone, and this store holds it.
        let _ = ended.wait_for(|ended| *ended == Ended::All).await;
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shards.registry.close();
    }
}

/// The gateway, with the map that this store's replicas make if they make one.
fn open_gateway(
    env: &Env,
    shards: &Arc<LocalShards>,
    transport: &Arc<dyn Transport>,
    patience: Duration,
) -> Arc<Gateway> {
    let replicas = shards.registry.all();
    let descriptors = replicas
        .iter()
        .map(|replica| (*replica.descriptor()).clone());
    let map = ShardMap::new(descriptors.collect()).unwrap_or_else(|_| ShardMap::unknown());
    let connect = {
        let (transport, time) = (Arc::clone(transport), Arc::clone(&shards.time));
        let clock = Arc::clone(&env.clock);
        Box::new(move |to: StoreId| {
            let remote = RemoteShards::new(
                Arc::clone(&transport),
                to,
                Arc::clone(&time),
                Arc::clone(&clock),
            );
            Arc::new(remote) as Arc<dyn ShardServer>
        })
    };
    let local = Arc::clone(shards) as Arc<dyn ShardServer>;
    let time = Arc::clone(&shards.time);
    Arc::new(Gateway::new(
        shards.store,
        local,
        map,
        connect,
        time,
        env.clone(),
        patience,
    ))
}

/// A new cluster: one store, and on it the one replica of the one shard.
fn found(engine: &dyn Engine, env: &Env) -> Result<()> {
    let identity = Identity::found(&*env.rng);
    let map = ShardMap::single(Replica {
        store: identity.store,
        id: FIRST_REPLICA.0,
    });
    let mut batch = WriteBatch::default();
    identity.put(&mut batch);
    for shard in map.shards() {
        let membership = Membership::of_voters([FIRST_REPLICA]);
        LogStore::create(GroupId(shard.id.0), membership, &mut batch);
        ReplicaRecord {
            id: FIRST_REPLICA,
            presence: Presence::Whole,
            descriptor: shard.clone(),
        }
        .put(&mut batch);
    }
    engine.write(batch)?;
    engine.sync()?;
    Ok(())
}

/// The elections of replicas that are alone, and the entries that were not applied. A full disk delays neither:
/// a store that cannot finish its recovery cannot serve reads either, so it says so and does not open.
fn recover(writer: &mut LogWriter) -> Result<()> {
    for _ in 0..RECOVERY_TURNS {
        let outcome = writer.turn(Work::default());
        if let Some(error) = outcome.failure {
            return Err(error);
        }
        if outcome.blocked {
            let error = storage::Error::DiskFull("no space to finish the recovery".to_owned());
            return Err(error.into());
        }
        if writer.is_recovered() {
            return Ok(());
        }
    }
    Err(storage::Error::DiskFull("no space to open the log".to_owned()).into())
}
