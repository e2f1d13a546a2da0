//! One machine of the cluster: its disk, and the process on it, if one runs.

use super::client::{Board, Gateway};
use super::strike::After;
use super::{LOOK_NANOS, World, operator};
use crate::checker::lease;
use crate::executor::NodeId;
use crate::faulty_engine::{FaultyEngine, Plan};
use crate::network::SimTransport;
use bytes::Bytes;
use consensus::{GroupId, LogStore, Membership};
use futures::future::{Either, select};
use membership::facts::{Directory, NodeFacts};
use membership::gossip::GossipDirectory;
use node::observe::{GroupView, Observer};
use node::rpc::Part;
use node::{Addresses, Identity, Store, manager};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use storage::{Engine, Keyspace, SimDisk};
use txn::Limits;
use types::env::{BoxFuture, Env, Peer, Transport};
use types::{Error, SqlState, StoreId};

/// A process that could not start, as its disk was full, tries again after this.
const RETRY_NANOS: u64 = 200_000_000;
/// The group of the first shard.
const FIRST_GROUP: GroupId = GroupId(1);

/// How long a process looks for a cluster before it looks up anew where nodes are.
const LOOK_UP: Duration = Duration::from_secs(2);

/// Where nodes are, as a directory of names knows it.
pub(super) type Names = Arc<Mutex<BTreeMap<NodeId, String>>>;

pub(super) struct Host {
    node: NodeId,
    disk: SimDisk,
    pub(super) address: String,
    moves: u64,
    pub(super) running: Option<Running>,
    /// It founds the cluster if it finds nothing on its disk.
    founds: bool,
    /// For how long it is away if it dies by itself.
    pub(super) away_nanos: u64,
    pub(super) lives: u64,
}

pub(super) struct Running {
    pub(super) engine: Arc<FaultyEngine>,
    /// Set once it serves.
    store: Option<Arc<Store>>,
    progress: Arc<Mutex<Progress>>,
    /// A clean shutdown has come to its end.
    shut_down: Arc<AtomicBool>,
}

/// How far a process is.
#[derive(Default)]
enum Progress {
    #[default]
    Starting,
    Serves(Arc<Store>),
    Failed(Error),
}

impl Host {
    pub(super) fn new(node: NodeId) -> Host {
        Host {
            node,
            disk: SimDisk::new(),
            address: format!("n{}", node.0),
            moves: 0,
            running: None,
            // The first one, and only on its first disk.
            founds: node == NodeId(1),
            away_nanos: 0,
            lives: 0,
        }
    }

    /// The members of a shard, as far as this disk knows; `None`: or if they change.
    fn members(&self, shard: GroupId) -> Option<Membership> {
        let log = LogStore::load(shard, &self.disk).ok()??;
        let members = log.membership();
        let settled = !members.is_joint() && members.learners.is_empty();
        settled.then(|| members.clone())
    }

    /// All versions of all rows. None of them is so old that a sweep removes it.
    fn contents(&self) -> BTreeMap<(Keyspace, Bytes), Bytes> {
        let snapshot = self.disk.snapshot();
        let all_of = |keyspace| {
            let all = (Bound::Unbounded, Bound::Unbounded);
            let rows = snapshot.scan(keyspace, all, false);
            rows.filter_map(move |row| row.ok().map(|(key, value)| ((keyspace, key), value)))
        };
        let rows = [Keyspace::Data, Keyspace::History].map(all_of);
        rows.into_iter().flatten().collect()
    }
}

impl World {
    /// Starts the process of a node, unless it runs.
    pub(super) fn start(&mut self, node: NodeId) {
        if self.host(node).running.is_some() {
            return;
        }
        let machines = self.executor.machines().clone();
        let network = self.network.clone();
        let targets = Arc::clone(&self.names);
        let options = self.options;
        let board = Arc::clone(&self.board);
        let host = self.host(node);
        host.lives += 1;
        let engine = FaultyEngine::new(host.disk.clone(), Plan::default());
        let engine = Arc::new(engine.on(machines.clone(), node));
        let progress = Arc::new(Mutex::new(Progress::Starting));
        let process = Process {
            node,
            engine: engine.clone(),
            env: machines.env(node),
            transport: network.start(node, &host.address),
            address: host.address.clone(),
            targets,
            founds: host.founds,
            options,
            board,
        };
        let env = process.env.clone();
        let told = Arc::clone(&progress);
        env.spawn.spawn(
            "process",
            Box::pin(async move {
                let end = process.start().await;
                *told.lock() = match end {
                    Ok(store) => Progress::Serves(store),
                    Err(error) => Progress::Failed(error),
                };
            }),
        );
        host.running = Some(Running {
            engine,
            store: None,
            progress,
            shut_down: Arc::default(),
        });
    }

    /// Whether all nodes serve, and each shard has a voter on each and no other member.
    pub(super) fn is_formed(&self) -> bool {
        let serve = self
            .hosts
            .iter()
            .all(|host| host.running.as_ref().is_some_and(Running::serves));
        let first = [FIRST_GROUP].into_iter();
        let mut shards = first.chain(self.watch.shards.iter().copied().map(GroupId));
        serve && shards.all(|shard| self.is_whole(shard))
    }

    fn is_whole(&self, shard: GroupId) -> bool {
        let members = self.hosts[0].members(shard);
        let voters = members.as_ref().map_or(0, |members| members.voters.len());
        voters == self.hosts.len() && self.hosts.iter().all(|host| host.members(shard) == members)
    }

    /// The process dies, `machine`: and with it all that it had not synced.
    /// `false`: there is none.
    pub(super) fn crash(
        &mut self,
        node: NodeId,
        machine: bool,
        away_nanos: u64,
        moves: bool,
    ) -> bool {
        let Some(running) = self.host(node).running.take() else {
            return false;
        };
        running.engine.kill();
        self.watch.ended(node);
        self.board.lock().gateways.remove(&node);
        self.network.end(node, machine);
        self.executor.machines().kill(node);
        drop(running);
        let mut dice = self.dice.fork();
        let host = self.host(node);
        host.disk.crash(|| dice.next_u64());
        if moves {
            host.moves += 1;
            host.address = format!("n{}.{}", node.0, host.moves);
            let address = host.address.clone();
            self.names.lock().insert(node, address);
        }
        let at = self.now() + away_nanos;
        self.later(at, After::Start(node));
        true
    }

    /// The machine dies, and what comes back has an empty disk.
    pub(super) fn lose_disk(&mut self, node: NodeId, away_nanos: u64) {
        self.crash(node, true, away_nanos, false);
        let host = self.host(node);
        let disk = std::mem::replace(&mut host.disk, SimDisk::new());
        host.founds = false;
        if let Ok(Some(lost)) = Store::identity_in(&disk) {
            let board = Arc::clone(&self.board);
            operator::give_up(
                lost.store,
                board,
                self.executor.machines(),
                self.dice.fork(),
            );
        }
    }

    /// Who holds some shard's lease.
    pub(super) fn holder(&mut self) -> Option<NodeId> {
        let mut claims = self.executor.machines().observe(|| self.claims());
        claims.retain(|claim| claim.lease_valid);
        let place = self.dice.below(claims.len() as u64) as usize;
        claims.get(place).map(|claim| NodeId(claim.node as u32))
    }

    /// `false`: it does not serve.
    pub(super) fn begin_shutdown(&mut self, node: NodeId) -> bool {
        let env = self.executor.machines().env(node);
        if let Some(running) = &self.host(node).running
            && let Some(store) = &running.store
        {
            let (store, done) = (Arc::clone(store), Arc::clone(&running.shut_down));
            env.spawn.spawn(
                "shutdown",
                Box::pin(async move {
                    store.give_up_leases().await;
                    store.shutdown().await;
                    done.store(true, Ordering::Relaxed);
                }),
            );
            return true;
        }
        false
    }

    /// Notices that a process has died or ended by itself.
    pub(super) fn look_after(&mut self, node: NodeId) -> Result<(), String> {
        let views = Arc::clone(&self.watch.views);
        let host = self.host(node);
        let Some(running) = &mut host.running else {
            return Ok(());
        };
        let progress = std::mem::take(&mut *running.progress.lock());
        match progress {
            Progress::Starting => {}
            Progress::Serves(store) => {
                store.observe(Arc::new(Views(node, views)));
                running.store = Some(store);
            }
            Progress::Failed(error) if error.state == SqlState::DISK_FULL => {
                self.crash(node, false, RETRY_NANOS, false);
                return Ok(());
            }
            Progress::Failed(_) if running.engine.crashed() => {}
            Progress::Failed(error) => {
                return Err(format!("node {} does not start: {error}", node.0));
            }
        }
        if running.engine.crashed() {
            let away = host.away_nanos;
            let machine = self.dice.percent(50);
            self.crash(node, machine, away, false);
        } else if running.shut_down.load(Ordering::Relaxed) {
            self.crash(node, false, LOOK_NANOS, false);
        }
        Ok(())
    }

    /// The leases that nodes hold at this moment.
    pub(super) fn claims(&self) -> Vec<lease::Claim> {
        let mut claims = Vec::new();
        for host in &self.hosts {
            let store = host
                .running
                .as_ref()
                .and_then(|running| running.store.as_ref());
            for lease in store.into_iter().flat_map(|store| store.leases()) {
                claims.push(lease::Claim {
                    node: u64::from(host.node.0),
                    shard: lease.shard.0,
                    lease_valid: lease.is_valid,
                    may_serve: lease.is_valid,
                    term: lease.term,
                });
            }
        }
        claims
    }
}

impl Running {
    fn serves(&self) -> bool {
        self.store.is_some()
    }
}

/// Keeps what stores show until the world looks.
struct Views(NodeId, Arc<Mutex<Vec<(NodeId, GroupView)>>>);

impl Observer for Views {
    fn group(&self, view: GroupView) {
        self.1.lock().push((self.0, view));
    }
}

/// What a process needs to start.
struct Process {
    node: NodeId,
    engine: Arc<FaultyEngine>,
    env: Env,
    transport: Arc<SimTransport>,
    address: String,
    /// Where nodes are to be found, this one among them.
    targets: Names,
    founds: bool,
    options: node::Options,
    board: Arc<Mutex<Board>>,
}

impl Process {
    /// As the server does: joins, opens, finds the others, takes part.
    async fn start(self) -> types::Result<Arc<Store>> {
        let addresses = Addresses {
            rpc: self.address.clone(),
            ..Addresses::default()
        };
        if Store::identity_in(&*self.engine)?.is_none() && !self.founds {
            let identity = self.join(&addresses).await?;
            Store::join(&*self.engine, identity)?;
        }
        let (engine, env) = (self.engine.clone(), self.env.clone());
        let store = Store::open(engine, env, self.transport.clone(), self.options)?;
        let identity = store.identity();
        let directory = GossipDirectory::start(
            identity.cluster,
            identity.store,
            &self.env,
            Arc::clone(&self.transport) as Arc<dyn Transport>,
            Part::Gossip as u8,
        );
        let facts = NodeFacts {
            store: identity.store,
            incarnation: u64::try_from(self.env.clock.wall_micros()).unwrap_or(0),
            rpc_address: addresses.rpc.clone(),
            ..NodeFacts::default()
        };
        directory.publish(facts);
        let ears = Ears {
            store: store.peer(),
            directory,
        };
        self.transport.serve(identity.store, Arc::new(ears));
        store.find_cluster(&self.others()).await?;
        let taking_part = store.take_part(addresses);
        let stays = Box::pin(async move {
            taking_part.await;
        });
        self.env.spawn.spawn("taking-part", stays);
        let gateway = Gateway {
            coordinator: store.coordinator(Limits::default()),
            env: self.env.clone(),
            store: Arc::clone(&store),
        };
        self.board.lock().gateways.insert(self.node, gateway);
        Ok(store)
    }
}

impl Process {
    /// Where the other nodes are, by what a directory of names would say now.
    fn others(&self) -> Vec<String> {
        let targets = self.targets.lock();
        let others = targets.values().filter(|at| **at != self.address);
        others.cloned().collect()
    }

    async fn join(&self, addresses: &Addresses) -> types::Result<Identity> {
        loop {
            // They may move while this one waits.
            let others = self.others();
            let joined = pin!(manager::join(
                &*self.transport,
                &self.env,
                &others,
                addresses,
                &|_| {}
            ));
            match select(joined, self.env.clock.sleep(LOOK_UP)).await {
                Either::Left((joined, _)) => {
                    return joined.map_err(|refused| Error::internal(refused.to_string()));
                }
                Either::Right(_) => {}
            }
        }
    }
}

/// Hands what peers send to the store or to the gossip, as the server does.
struct Ears {
    store: Arc<dyn Peer>,
    directory: Arc<GossipDirectory>,
}

impl Peer for Ears {
    fn message(&self, from: StoreId, message: Bytes) {
        match Part::of(&message) {
            Some(Part::Gossip) => self.directory.message(from, &message.slice(1..)),
            _ => self.store.message(from, message),
        }
    }

    fn call(&self, from: Option<StoreId>, request: Bytes) -> BoxFuture<Bytes> {
        self.store.call(from, request)
    }

    fn connected(&self, peer: StoreId, connected: bool) {
        self.directory.connected(peer, connected);
        self.store.connected(peer, connected);
    }
}

/// Processes that do not serve, or whose stores have failed, one a line.
pub(super) fn troubles(hosts: &[Host]) -> String {
    let troubles = hosts.iter().filter_map(|host| {
        let node = host.node.0;
        match &host.running {
            None => Some(format!("  node {node} does not run")),
            Some(running) => match &running.store {
                None => Some(format!("  node {node} starts")),
                Some(store) => {
                    let failure = store.failed().borrow().clone();
                    failure.map(|error| format!("  node {node} has failed: {error}"))
                }
            },
        }
    });
    troubles.collect::<Vec<_>>().join("\n")
}

pub(super) fn contents_are_equal(hosts: &[Host]) -> bool {
    let mut contents = hosts.iter().map(Host::contents);
    let first = contents.next();
    contents.all(|other| Some(&other) == first.as_ref())
}

/// Rows that not all hosts have alike, the first few.
pub(super) fn differences(hosts: &[Host]) -> String {
    const SHOWN: usize = 5;
    let contents: Vec<_> = hosts.iter().map(Host::contents).collect();
    let mut keys: Vec<_> = contents.iter().flat_map(BTreeMap::keys).collect();
    keys.sort_unstable();
    keys.dedup();
    let differ = keys.into_iter().filter(|key| {
        let mut values = contents.iter().map(|rows| rows.get(*key));
        let first = values.next();
        values.any(|value| Some(value) != first)
    });
    let shown = differ.take(SHOWN).map(|key| {
        let values = hosts.iter().zip(&contents).map(|(host, rows)| {
            let value = rows.get(key).map(|v| v.escape_ascii().to_string());
            format!(
                "node {} {}",
                host.node.0,
                value.as_deref().unwrap_or("nothing")
            )
        });
        let values = values.collect::<Vec<_>>().join(", ");
        let (keyspace, key) = key;
        format!("  {keyspace:?} {}: {values}", key.escape_ascii())
    });
    shown.collect::<Vec<_>>().join("\n")
}
