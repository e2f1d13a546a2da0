//! A real [`Env`] on tokio and a store in memory, for tests of the layers above and for examples.
#![expect(
    clippy::disallowed_methods,
    reason = "the real world for tests and examples; a server brings its own"
)]

use crate::store::{Options, Store};
use bytes::Bytes;
use parking_lot::Mutex;
use rand::TryRngCore;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use storage::{Engine, SimDisk};
use types::StoreId;
use types::env::{BoxFuture, CallError, Clock, Env, NoTransport, Peer, Rng, Spawn, Transport};

/// Real time, OS randomness, the current tokio runtime, threads.
pub fn real_env() -> Env {
    let world = Arc::new(RealWorld {
        start: Instant::now(),
        runtime: tokio::runtime::Handle::current(),
    });
    Env {
        clock: world.clone(),
        rng: world.clone(),
        spawn: world,
    }
}

/// A store whose disk is memory. Must be called inside a tokio runtime.
pub fn memory_store() -> types::Result<Arc<Store>> {
    open_alone(Arc::new(SimDisk::new()), real_env(), Options::default())
}

/// A store without peers.
pub fn open_alone(
    engine: Arc<dyn Engine>,
    env: Env,
    options: Options,
) -> types::Result<Arc<Store>> {
    Store::open(engine, env, Arc::new(NoTransport), options)
}

struct RealWorld {
    start: Instant,
    runtime: tokio::runtime::Handle,
}

impl Clock for RealWorld {
    fn wall_micros(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_micros() as i64)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let runtime = self.runtime.clone();
        Box::pin(async move {
            // A timer belongs to a runtime; the caller may run on a thread of its own.
            let mut timer = {
                let _inside = runtime.enter();
                Box::pin(tokio::time::sleep(duration))
            };
            std::future::poll_fn(|context| timer.as_mut().poll(context)).await;
        })
    }
}

impl Rng for RealWorld {
    fn next_u64(&self) -> u64 {
        rand::rngs::OsRng.try_next_u64().unwrap_or(0)
    }
}

impl Spawn for RealWorld {
    fn spawn(&self, _name: &'static str, task: BoxFuture<()>) {
        self.runtime.spawn(task);
    }

    fn spawn_thread(&self, name: &'static str, task: BoxFuture<()>) {
        let thread = std::thread::Builder::new().name(name.to_owned());
        if let Err(error) = thread.spawn(move || futures::executor::block_on(task)) {
            tracing::error!(%error, "no thread for {name}");
        }
    }
}

/// A network in memory that delivers at once, and can be cut.
#[derive(Default)]
pub struct MemoryNetwork {
    nodes: Mutex<Nodes>,
}

#[derive(Default)]
struct Nodes {
    peers: BTreeMap<StoreId, Arc<dyn Peer>>,
    addresses: BTreeMap<String, StoreId>,
    /// No messages pass from the first to the second.
    cut: BTreeSet<(StoreId, StoreId)>,
    /// Which connections will be cut, after how many calls of how many bytes at least.
    fuses: BTreeMap<(StoreId, StoreId), (usize, usize)>,
}

impl MemoryNetwork {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What `store` sends with.
    pub fn transport(self: &Arc<Self>, store: StoreId) -> Arc<dyn Transport> {
        Arc::new(MemoryTransport {
            network: Arc::clone(self),
            store,
        })
    }

    /// A node listens at `address`, and has a connection to all others.
    pub fn add(&self, store: StoreId, address: &str, peer: Arc<dyn Peer>) {
        let others: Vec<_> = {
            let mut nodes = self.nodes.lock();
            nodes.addresses.insert(address.to_owned(), store);
            let others = nodes.peers.clone();
            nodes.peers.insert(store, Arc::clone(&peer));
            others.into_iter().filter(|(id, _)| *id != store).collect()
        };
        for (id, other) in others {
            peer.connected(id, true);
            other.connected(store, true);
        }
    }

    /// A node is gone.
    pub fn remove(&self, store: StoreId) {
        let others: Vec<_> = {
            let mut nodes = self.nodes.lock();
            nodes.peers.remove(&store);
            nodes.peers.values().cloned().collect()
        };
        for other in others {
            other.connected(store, false);
        }
    }

    /// Cuts or mends one direction of a connection.
    pub fn cut(&self, from: StoreId, to: StoreId, cut: bool) {
        let mut nodes = self.nodes.lock();
        match cut {
            true => nodes.cut.insert((from, to)),
            false => nodes.cut.remove(&(from, to)),
        };
    }

    /// Cuts a connection in one direction as soon as `calls` of at least `bytes` have passed.
    pub fn cut_after(&self, from: StoreId, to: StoreId, calls: usize, bytes: usize) {
        self.nodes.lock().fuses.insert((from, to), (calls, bytes));
    }

    fn count_call(&self, from: StoreId, to: StoreId, bytes: usize) {
        let mut nodes = self.nodes.lock();
        let Some((left, least)) = nodes.fuses.get_mut(&(from, to)) else {
            return;
        };
        if bytes < *least {
            return;
        }
        if *left > 0 {
            *left -= 1;
            return;
        }
        nodes.fuses.remove(&(from, to));
        nodes.cut.insert((from, to));
    }

    fn reach(&self, from: StoreId, to: StoreId) -> Option<Arc<dyn Peer>> {
        let nodes = self.nodes.lock();
        let passes = !nodes.cut.contains(&(from, to));
        passes.then(|| nodes.peers.get(&to).cloned()).flatten()
    }
}

struct MemoryTransport {
    network: Arc<MemoryNetwork>,
    store: StoreId,
}

fn unreachable() -> CallError {
    CallError::Unsent("no such node".to_owned())
}

impl Transport for MemoryTransport {
    fn send(&self, to: StoreId, message: Bytes) {
        if let Some(peer) = self.network.reach(self.store, to) {
            peer.message(self.store, message);
        }
    }

    fn call(&self, to: StoreId, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        self.network.count_call(self.store, to, request.len());
        match self.network.reach(self.store, to) {
            Some(peer) => {
                let answer = peer.call(Some(self.store), request);
                Box::pin(async move { Ok(answer.await) })
            }
            None => Box::pin(std::future::ready(Err(unreachable()))),
        }
    }

    fn call_address(&self, address: &str, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        let nodes = self.network.nodes.lock();
        let store = nodes.addresses.get(address).copied();
        let peer = store.and_then(|store| nodes.peers.get(&store).cloned());
        drop(nodes);
        match peer {
            Some(peer) => {
                let answer = peer.call(None, request);
                Box::pin(async move { Ok(answer.await) })
            }
            None => Box::pin(std::future::ready(Err(unreachable()))),
        }
    }

    fn learn(&self, _peer: StoreId, _address: &str) {}
}
