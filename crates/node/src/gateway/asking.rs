//! Finding the lease holder of a key, and following what refusals teach.

use super::roll_call::Debts;
use super::search::{Next, Search};
use super::touched::Touched;
use crate::node_clock::NodeClock;
use crate::shard_server::{Answer, Failure, Refusal, ShardServer};
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use sharding::{Route, Router, ShardDescriptor, ShardId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use txn::kv::Key;
use types::env::{BoxFuture, Env};
use types::{Error, MaybeReady, Result, SqlState, StoreId};

/// Makes a [`ShardServer`] of another store's name.
pub type Connect = Box<dyn Fn(StoreId) -> Arc<dyn ShardServer> + Send + Sync>;

/// Asks the cluster which shards there are; older descriptors among the answers do no harm.
pub type MapSource = Box<dyn Fn() -> BoxFuture<Vec<ShardDescriptor>> + Send + Sync>;

/// Between two such questions of a node.
const MAP_PAUSE: Duration = Duration::from_millis(250);
/// Rounds of asking all replicas that are known, after which others may know more.
const PATIENT_ROUNDS: u32 = 4;

/// What a gateway's calls share.
pub(super) struct Shared {
    /// This node's.
    pub(super) store: StoreId,
    pub(super) local: Arc<dyn ShardServer>,
    pub(super) router: ArcSwap<Router>,
    /// Held by whoever makes a new router of the present one.
    learning: Mutex<()>,
    pub(super) map_source: OnceLock<MapSource>,
    /// When the map was asked for last, in monotonic nanoseconds.
    map_read: AtomicU64,
    connect: Connect,
    peers: RwLock<BTreeMap<StoreId, Arc<dyn ShardServer>>>,
    pub(super) touched: Touched,
    pub(super) debts: Debts,
    pub(super) node: Arc<NodeClock>,
    pub(super) env: Env,
    /// How long a shard may go without a lease holder before calls fail.
    pub(super) patience: Duration,
}

/// Which shard is meant, as the map changes.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// The one that holds this key.
    At(Key),
    /// The one that holds the keys just below this key.
    Before(Key),
}

impl Target {
    pub(super) fn route<'r>(&self, router: &'r Router) -> Route<'r> {
        match self {
            Target::At(key) => router.route(key),
            Target::Before(key) => router.route_before(key),
        }
    }
}

/// Whom a question goes to.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) store: StoreId,
    pub(super) shard: ShardDescriptor,
    pub(super) span_since: u64,
}

impl Asked {
    pub(super) fn new(store: StoreId, route: &Route<'_>) -> Self {
        Asked {
            store,
            shard: route.shard.clone(),
            span_since: route.span_since,
        }
    }
}

impl Shared {
    pub(super) fn new(
        store: StoreId,
        local: Arc<dyn ShardServer>,
        router: Router,
        connect: Connect,
        node: Arc<NodeClock>,
        env: Env,
        patience: Duration,
    ) -> Self {
        Shared {
            store,
            local,
            router: ArcSwap::from_pointee(router),
            learning: Mutex::default(),
            map_source: OnceLock::new(),
            map_read: AtomicU64::new(0),
            connect,
            peers: RwLock::default(),
            touched: Touched::default(),
            debts: Debts::default(),
            node,
            env,
            patience,
        }
    }

    pub(super) fn server(&self, store: StoreId) -> Arc<dyn ShardServer> {
        if store == self.store {
            return Arc::clone(&self.local);
        }
        if let Some(peer) = self.peers.read().get(&store) {
            return Arc::clone(peer);
        }
        let mut peers = self.peers.write();
        let peer = peers.entry(store).or_insert_with(|| (self.connect)(store));
        Arc::clone(peer)
    }

    /// Takes in newer descriptors. `false`: nothing new, or not enough to cover all keys.
    pub(super) fn learn(&self, newer: &[ShardDescriptor]) -> bool {
        let _learning = self.learning.lock();
        match self.router.load().learn(newer) {
            Ok(Some(router)) => {
                self.router.store(Arc::new(router));
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(%error, "a part of the shard map is still missing");
                false
            }
        }
    }

    /// Asks the store that is believed to hold the lease of `key`'s shard, with `ask`. An answer that is
    /// there at once is passed on as it is; else `again` makes what asks whomever the search leads to.
    pub(super) fn ask_holder<T, A>(
        self: &Arc<Self>,
        key: &[u8],
        ask: impl FnOnce(&dyn ShardServer, ShardId) -> Answer<T>,
        again: impl FnOnce(Key) -> A,
    ) -> MaybeReady<Result<T>>
    where
        T: Send + Unpin + 'static,
        A: FnMut(&dyn ShardServer, &Asked) -> Answer<T> + Send + 'static,
    {
        let router = self.router.load();
        let route = router.route(key);
        let mut begun = None;
        if let Some(holder) = route.holder {
            let answer = if holder == self.store {
                match ask(&*self.local, route.shard.id) {
                    MaybeReady::Ready(Some(Ok(value))) => return MaybeReady::ready(Ok(value)),
                    MaybeReady::Ready(Some(Err(Failure::Failed(error)))) => {
                        return MaybeReady::ready(Err(error));
                    }
                    answer => answer,
                }
            } else {
                ask(&*self.server(holder), route.shard.id)
            };
            begun = Some((Asked::new(holder, &route), answer));
        }
        let key = Key::copy_from_slice(key);
        let ask = again(key.clone());
        MaybeReady::pending(Arc::clone(self).ask(Target::At(key), begun, ask))
    }

    /// Asks one store after the other until one answers. For what may be asked twice.
    pub(super) async fn ask<T: Unpin>(
        self: Arc<Self>,
        target: Target,
        mut begun: Option<(Asked, Answer<T>)>,
        mut ask: impl FnMut(&dyn ShardServer, &Asked) -> Answer<T> + Send,
    ) -> Result<T> {
        let mut search = Search::new(self.patience);
        loop {
            let (asked, answer) = match begun.take() {
                Some(begun) => begun,
                None => {
                    let asked = self.find(&target, &mut search).await?;
                    let answer = ask(&*self.server(asked.store), &asked);
                    (asked, answer)
                }
            };
            match answer.await {
                Ok(value) => {
                    self.router.load().believe(asked.shard.id, asked.store);
                    return Ok(value);
                }
                Err(failure) => self.learn_from(failure, &asked, &mut search)?,
            }
        }
    }

    /// Whom to ask next, after a pause if all have been asked. An error: nobody answers for the shard.
    pub(super) async fn find(&self, target: &Target, search: &mut Search) -> Result<Asked> {
        loop {
            let is_lost = std::mem::take(&mut search.lost) || search.rounds() >= PATIENT_ROUNDS;
            if is_lost && self.read_map().await {
                search.learned();
            }
            let next = {
                let router = self.router.load();
                let route = target.route(&router);
                let now = self.env.clock.monotonic_nanos();
                match search.next(&route, now, self.env.rng.next_u64()) {
                    Next::Ask(store) => return Ok(Asked::new(store, &route)),
                    Next::Pause(pause) => Ok((pause, route.shard.id)),
                    Next::GiveUp => Err(no_lease_holder(
                        route.shard,
                        search.missing(),
                        self.patience,
                    )),
                }
            };
            let (pause, shard) = next?;
            // Replicas that this node was told of when it joined may all be gone by now; its own store has
            // heard of every change since.
            let own = self.local.descriptor(shard);
            if own.is_some_and(|own| self.learn(&[own])) {
                search.learned();
                continue;
            }
            self.env.clock.sleep(pause).await;
        }
    }

    /// Asks the cluster for its map. `false`: that tells nothing new.
    async fn read_map(&self) -> bool {
        let Some(source) = self.map_source.get() else {
            return false;
        };
        let now = self.env.clock.monotonic_nanos();
        let before = self.map_read.load(Ordering::Relaxed);
        let recent = now < before + MAP_PAUSE.as_nanos() as u64 && before > 0;
        let (relaxed, now) = (Ordering::Relaxed, now.max(1));
        let read = &self.map_read;
        if recent
            || read
                .compare_exchange(before, now, relaxed, relaxed)
                .is_err()
        {
            return false;
        }
        let shards = source().await;
        self.learn(&shards)
    }

    /// What a failure means for the search; an error ends it.
    pub(super) fn learn_from(
        &self,
        failure: Failure,
        asked: &Asked,
        search: &mut Search,
    ) -> Result<()> {
        let now = self.env.clock.monotonic_nanos();
        let reached = !matches!(failure, Failure::Unreachable(_));
        search.reached(asked.store, reached);
        match failure {
            Failure::Failed(error) => return Err(error),
            Failure::Unreachable(_) => {
                self.router.load().doubt(asked.shard.id, asked.store);
                search.failed(asked.store, None, now);
            }
            Failure::Refused(Refusal::NotLeaseHolder { hint }) => {
                let hint = hint.filter(|hint| *hint != asked.store);
                if let Some(hint) = hint {
                    self.router.load().believe(asked.shard.id, hint);
                }
                search.failed(asked.store, hint, now);
            }
            Failure::Refused(Refusal::Mismatch { newer }) => match self.learn(&newer) {
                true => search.learned(),
                // The store knows less than this node, or not enough.
                false => {
                    search.failed(asked.store, None, now);
                    search.lost = true;
                }
            },
        }
        Ok(())
    }
}

fn no_lease_holder(shard: &ShardDescriptor, missing: &[StoreId], patience: Duration) -> Error {
    let list = |stores: &mut dyn Iterator<Item = StoreId>| {
        let names: Vec<String> = stores.map(|store| store.to_string()).collect();
        names.join(", ")
    };
    let hint = match missing {
        [] => {
            "It will answer again once most of its replicas are up and reach each other.".to_owned()
        }
        missing => format!(
            "Nodes that cannot be reached: {}. It will answer again once most of its replicas are up \
             and reach each other.",
            list(&mut missing.iter().copied())
        ),
    };
    Error::new(
        SqlState::CANNOT_CONNECT_NOW,
        format!("shard {} has no lease holder", shard.id.0),
    )
    .detail(format!(
        "None of its replicas, on stores {}, has answered for it in {} seconds.",
        list(&mut shard.replicas.iter().map(|replica| replica.store)),
        patience.as_secs_f32()
    ))
    .hint(hint)
}
