//! A cluster in memory: stores whose leases move, whose shards split, and which fall silent on command; and a
//! world in which a pause takes no time.

use super::search::PATIENCE;
use crate::gateway::Gateway;
use crate::node_clock::NodeClock;
use crate::rpc::{RemoteShards, Service};
use crate::shard_server::{Answer, Failure, Granted, LeaseId, Refusal, ShardServer};
use bytes::Bytes;
use parking_lot::Mutex;
use sharding::{Replica, ShardDescriptor, ShardId, ShardMap};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use txn::LockTable;
use txn::kv::{
    Changes, CommitRequest, Committed, Key, LockMode, ScanPage, ScanRequest, Span, TxnId, Value,
    Visitor, WaitPolicy,
};
use types::env::{BoxFuture, CallError, Clock, Env, Rng, Spawn, Transport};
use types::{Error, MaybeReady, SqlState, StoreId, Timestamp};

/// Time passes only by sleeping, at once; tasks run while somebody waits in [`World::run`].
#[derive(Default)]
pub(crate) struct World {
    now_nanos: AtomicU64,
    dice: AtomicU64,
    tasks: Mutex<Vec<BoxFuture<()>>>,
}

impl World {
    pub(crate) fn env(self: &Arc<Self>) -> Env {
        Env {
            clock: Arc::new(Hands(Arc::clone(self))),
            rng: Arc::new(Hands(Arc::clone(self))),
            spawn: Arc::new(Hands(Arc::clone(self))),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.now_nanos.load(Ordering::Relaxed))
    }

    /// Runs `future` to its end, and the tasks beside it.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        futures::executor::block_on(poll_fn(|context| {
            let done = future.as_mut().poll(context);
            self.poll_tasks(context);
            match done {
                Poll::Ready(value) => Poll::Ready(value),
                // A task may have finished what it waits for.
                Poll::Pending => future.as_mut().poll(context),
            }
        }))
    }

    /// Runs the tasks as far as they come.
    pub(crate) fn settle(&self) {
        self.poll_tasks(&mut Context::from_waker(Waker::noop()));
    }

    fn poll_tasks(&self, context: &mut Context<'_>) {
        loop {
            let mut tasks = std::mem::take(&mut *self.tasks.lock());
            let before = tasks.len();
            tasks.retain_mut(|task| task.as_mut().poll(context).is_pending());
            let ended = before - tasks.len();
            let mut now = self.tasks.lock();
            let spawned = now.len();
            now.extend(tasks);
            if ended == 0 && spawned == 0 {
                return;
            }
        }
    }
}

struct Hands(Arc<World>);

impl Clock for Hands {
    fn wall_micros(&self) -> i64 {
        (self.monotonic_nanos() / 1000) as i64
    }

    fn monotonic_nanos(&self) -> u64 {
        self.0.now_nanos.load(Ordering::Relaxed)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let world = Arc::clone(&self.0);
        Box::pin(async move {
            let nanos = duration.as_nanos() as u64;
            world.now_nanos.fetch_add(nanos, Ordering::Relaxed);
        })
    }
}

impl Rng for Hands {
    fn next_u64(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        self.0.dice.fetch_add(step, Ordering::Relaxed) >> 7
    }
}

impl Spawn for Hands {
    fn spawn(&self, _: &'static str, task: BoxFuture<()>) {
        self.0.tasks.lock().push(task);
    }
}

type Versions = BTreeMap<Key, Vec<(Timestamp, Option<Value>)>>;

pub(crate) struct State {
    pub(crate) shards: Vec<ShardDescriptor>,
    pub(crate) leases: BTreeMap<ShardId, (Option<StoreId>, LeaseId)>,
    /// Replicated to all stores, always.
    data: Versions,
    clocks: BTreeMap<StoreId, u64>,
    catalog_changed: Timestamp,
    locks: BTreeMap<(StoreId, ShardId, LeaseId), LockTable>,
    pub(crate) waiting: usize,
    wakers: Vec<Waker>,
    pub(crate) down: BTreeSet<StoreId>,
    /// Stores that do what they are asked, but whose answers get lost.
    pub(crate) mute: BTreeSet<StoreId>,
    /// Stores that don't hear notices.
    pub(crate) deaf: BTreeSet<StoreId>,
    /// Whether refusals name the lease holder.
    pub(crate) hints: bool,
    /// Calls that travelled as bytes.
    pub(crate) exchanges: usize,
    /// Who was asked what.
    pub(crate) log: Vec<(StoreId, &'static str)>,
}

/// Stores 1 to n, each with a replica of every shard; at first one shard, whose lease store 1 holds.
pub(crate) struct Cluster {
    pub(crate) state: Mutex<State>,
    pub(crate) world: Arc<World>,
    pub(crate) services: Mutex<BTreeMap<StoreId, Arc<Service>>>,
}

impl Cluster {
    pub(crate) fn new(stores: u64) -> Arc<Self> {
        let replica = |store| Replica {
            store: StoreId(store),
            id: store,
        };
        let one = ShardMap::single(replica(1)).shards()[0].clone();
        let shard = ShardDescriptor {
            replicas: (1..=stores).map(replica).collect(),
            ..one
        };
        let lease = LeaseId {
            term: 1,
            confirmed: 0,
        };
        let cluster = Arc::new(Cluster {
            state: Mutex::new(State {
                leases: BTreeMap::from([(shard.id, (Some(StoreId(1)), lease))]),
                shards: vec![shard],
                data: Versions::new(),
                // Their wall clocks have nothing to do with each other.
                clocks: (1..=stores)
                    .map(|store| (StoreId(store), store * 7919 % 5 * 1000))
                    .collect(),
                catalog_changed: Timestamp::ZERO,
                locks: BTreeMap::new(),
                waiting: 0,
                wakers: Vec::new(),
                down: BTreeSet::new(),
                mute: BTreeSet::new(),
                deaf: BTreeSet::new(),
                hints: true,
                exchanges: 0,
                log: Vec::new(),
            }),
            world: Arc::default(),
            services: Mutex::default(),
        });
        for store in (1..=stores).map(StoreId) {
            let server = Arc::new(FakeStore {
                me: store,
                far: false,
                cluster: Arc::clone(&cluster),
            });
            let node = cluster.node_clock();
            let service = Service::new(server, node, cluster.world.env().clock);
            cluster.services.lock().insert(store, service);
        }
        cluster
    }

    pub(crate) fn node_clock(&self) -> Arc<NodeClock> {
        Arc::new(NodeClock::new(self.world.env().clock, Timestamp::ZERO))
    }

    /// The gateway of a node that knows the map as it is now.
    pub(crate) fn gateway(self: &Arc<Self>, store: u64) -> Gateway {
        let cluster = Arc::clone(self);
        let connect = move |peer| cluster.server(peer, true);
        self.gateway_with(store, Box::new(connect), self.node_clock())
    }

    /// The same, whose calls to other stores travel as bytes.
    pub(crate) fn gateway_over_wire(self: &Arc<Self>, store: u64) -> Gateway {
        let cluster = Arc::clone(self);
        let node = self.node_clock();
        let connect = {
            let node = Arc::clone(&node);
            move |peer| -> Arc<dyn ShardServer> {
                Arc::new(cluster.remote(StoreId(store), peer, Arc::clone(&node)))
            }
        };
        self.gateway_with(store, Box::new(connect), node)
    }

    fn gateway_with(
        self: &Arc<Self>,
        store: u64,
        connect: super::Connect,
        node: Arc<NodeClock>,
    ) -> Gateway {
        let map = ShardMap::new(self.state.lock().shards.clone()).expect("all keys are covered");
        let local = self.server(StoreId(store), false);
        Gateway::new(
            StoreId(store),
            local,
            map,
            connect,
            node,
            self.world.env(),
            PATIENCE,
        )
    }

    pub(crate) fn remote(
        self: &Arc<Self>,
        from: StoreId,
        to: StoreId,
        node: Arc<NodeClock>,
    ) -> RemoteShards {
        let transport = Arc::new(Wire {
            from,
            cluster: Arc::clone(self),
        });
        RemoteShards::new(transport, to, node, self.world.env().clock)
    }

    pub(crate) fn server(self: &Arc<Self>, store: StoreId, far: bool) -> Arc<dyn ShardServer> {
        Arc::new(FakeStore {
            me: store,
            far,
            cluster: Arc::clone(self),
        })
    }

    /// The lease goes to `store`, or to nobody. Its locks are gone.
    pub(crate) fn move_lease(&self, shard: u64, store: Option<u64>) {
        let mut state = self.state.lock();
        let (old, lease) = state.leases[&ShardId(shard)];
        let lease = LeaseId {
            term: lease.term + 1,
            confirmed: 0,
        };
        let store = store.map(StoreId);
        state.leases.insert(ShardId(shard), (store, lease));
        // A new holder begins above all that the old one gave.
        let newest = state.clocks.values().copied().max().unwrap_or(0);
        if let Some(store) = store.filter(|store| old != Some(*store)) {
            state.clocks.insert(store, newest);
        }
    }

    pub(crate) fn split(&self, at: &str, right: u64) {
        let mut state = self.state.lock();
        let place = state
            .shards
            .partition_point(|s| s.start[..] <= *at.as_bytes())
            - 1;
        let right = ShardId(right);
        let at = Bytes::copy_from_slice(at.as_bytes());
        let Some((left, new)) = state.shards[place].split(at, right) else {
            return;
        };
        let lease = state.leases[&left.id];
        state.leases.insert(right, lease);
        state.shards[place] = left;
        state.shards.insert(place + 1, new);
    }

    /// Who was asked what since the last time.
    pub(crate) fn asked(&self) -> Vec<(u64, &'static str)> {
        let log = std::mem::take(&mut self.state.lock().log);
        log.into_iter()
            .map(|(store, what)| (store.0, what))
            .collect()
    }

    /// How many keys are locked under the present leases.
    pub(crate) fn locked(&self) -> usize {
        let state = self.state.lock();
        let tables = state.locks.iter();
        let present = tables.filter(|((store, shard, lease), _)| {
            state.leases.get(shard) == Some(&(Some(*store), *lease))
        });
        present.map(|(_, table)| table.len()).sum()
    }
}

impl State {
    /// The shard, if `me` holds its lease.
    fn held(&self, me: StoreId, shard: ShardId) -> Result<(ShardDescriptor, LeaseId), Failure> {
        let known = self.shards.iter().find(|known| known.id == shard);
        let Some(known) = known else {
            return Err(self.mismatch());
        };
        match self.leases[&shard] {
            (Some(holder), lease) if holder == me => Ok((known.clone(), lease)),
            (holder, _) => Err(Failure::Refused(Refusal::NotLeaseHolder {
                hint: holder.filter(|_| self.hints),
            })),
        }
    }

    fn mismatch(&self) -> Failure {
        Failure::Refused(Refusal::Mismatch {
            newer: self.shards.clone(),
        })
    }

    fn holds(&self, me: StoreId, shard: ShardId, key: &[u8]) -> Result<LeaseId, Failure> {
        let (known, lease) = self.held(me, shard)?;
        match known.holds(key) {
            true => Ok(lease),
            false => Err(self.mismatch()),
        }
    }

    fn visible(&self, key: &[u8], at: Timestamp) -> Option<(Value, Timestamp)> {
        let versions = self.data.get(key)?;
        let (ts, value) = versions.iter().rev().find(|(ts, _)| *ts <= at)?;
        Some((value.clone()?, *ts))
    }

    fn observe(&mut self, me: StoreId, seen: Timestamp) {
        let clock = self.clocks.entry(me).or_default();
        if seen != Timestamp::MAX {
            *clock = (*clock).max(seen.0);
        }
    }

    fn unlock_all(&mut self, me: StoreId, txn: TxnId) {
        for ((store, _, _), table) in &mut self.locks {
            if *store == me {
                table.release_all(txn);
            }
        }
        self.wake();
    }

    fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    fn scan(&self, known: &ShardDescriptor, r: &ScanRequest) -> Result<ScanPage, Failure> {
        let inside =
            r.span.start >= known.start && known.end.as_ref().is_none_or(|end| r.span.end <= *end);
        if !inside {
            return Err(self.mismatch());
        }
        let range = self.data.range(r.span.start.clone()..r.span.end.clone());
        let mut keys: Vec<&Key> = range.map(|(key, _)| key).collect();
        if r.reverse {
            keys.reverse();
        }
        let mut page = ScanPage::default();
        for key in keys {
            let Some((value, at)) = self.visible(key, r.at) else {
                continue;
            };
            if page.rows.len() == r.limit {
                let last = &page.rows[page.rows.len() - 1].0;
                page.resume = Some(match r.reverse {
                    true => last.clone(),
                    false => [&last[..], b"\0"].concat().into(),
                });
                break;
            }
            page.rows.push((key.clone(), value, at));
        }
        Ok(page)
    }
}

/// One store, as its own node sees it, or `far`, over a network.
pub(crate) struct FakeStore {
    me: StoreId,
    far: bool,
    cluster: Arc<Cluster>,
}

impl FakeStore {
    fn answer<T: Send + 'static>(
        &self,
        what: &'static str,
        answer: impl FnOnce(&mut State, StoreId) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<T> {
        let (me, cluster, far) = (self.me, Arc::clone(&self.cluster), self.far);
        let answer = move || {
            let mut state = cluster.state.lock();
            state.log.push((me, what));
            if far && state.down.contains(&me) {
                return Err(Failure::Unreachable(false));
            }
            let answer = answer(&mut state, me);
            match far && state.mute.contains(&me) {
                true => Err(Failure::Unreachable(true)),
                false => answer,
            }
        };
        match far {
            true => MaybeReady::pending(async move { answer() }),
            false => MaybeReady::ready(answer()),
        }
    }

    fn hears(&self) -> bool {
        let state = self.cluster.state.lock();
        !(self.far && (state.down.contains(&self.me) || state.deaf.contains(&self.me)))
    }
}

/// Waits until the lock is free.
struct Waiting {
    cluster: Arc<Cluster>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.cluster.state.lock().waiting -= 1;
    }
}

impl ShardServer for FakeStore {
    fn descriptor(&self, shard: ShardId) -> Option<ShardDescriptor> {
        let state = self.cluster.state.lock();
        let known = state.shards.iter().find(|known| known.id == shard);
        known.filter(|_| !self.far).cloned()
    }

    fn read_timestamp(&self, shards: &[(ShardId, u64)]) -> Answer<Timestamp> {
        let shards = shards.to_vec();
        self.answer("read_timestamp", move |state, me| {
            for (shard, generation) in shards {
                if state.held(me, shard)?.0.generation != generation {
                    return Err(state.mismatch());
                }
            }
            Ok(Timestamp(state.clocks[&me]))
        })
    }

    fn get(&self, shard: ShardId, key: &[u8], at: Timestamp) -> Answer<Option<(Value, Timestamp)>> {
        let key = Key::copy_from_slice(key);
        self.answer("get", move |state, me| {
            state.holds(me, shard, &key)?;
            state.observe(me, at);
            Ok(state.visible(&key, at))
        })
    }

    fn newest_version(&self, shard: ShardId, key: &[u8]) -> Answer<Option<Timestamp>> {
        let key = Key::copy_from_slice(key);
        self.answer("newest_version", move |state, me| {
            state.holds(me, shard, &key)?;
            let versions = state.data.get(&key);
            Ok(versions.and_then(|versions| versions.last()).map(|v| v.0))
        })
    }

    fn scan(&self, shard: ShardId, request: ScanRequest) -> Answer<ScanPage> {
        self.answer("scan", move |state, me| {
            let (known, _) = state.held(me, shard)?;
            state.observe(me, request.at);
            state.scan(&known, &request)
        })
    }

    fn visit(
        &self,
        shard: ShardId,
        request: &ScanRequest,
        show: &mut Visitor<'_>,
    ) -> Option<Result<Option<Key>, Failure>> {
        let state = self.cluster.state.lock();
        let page = match state.held(self.me, shard) {
            Ok((known, _)) => state.scan(&known, request),
            Err(failure) => Err(failure),
        };
        Some(page.and_then(|page| {
            for (key, value, _) in &page.rows {
                show(key, value)?;
            }
            Ok(page.resume)
        }))
    }

    fn changes(&self, shard: ShardId, span: &Span, after: Timestamp, upto: Timestamp) -> Changes {
        let state = self.cluster.state.lock();
        if state.held(self.me, shard).is_err() {
            return Changes::Unknown;
        }
        let mut changes = Vec::new();
        for (key, versions) in state.data.range(span.start.clone()..span.end.clone()) {
            let times = versions.iter().map(|(at, _)| *at);
            let new = times.filter(|at| *at > after && *at <= upto);
            changes.extend(new.map(|at| (at, key.clone())));
        }
        changes.sort();
        Changes::Keys(changes)
    }

    fn lock(
        &self,
        shard: ShardId,
        _gateway: StoreId,
        txn: TxnId,
        key: &[u8],
        mode: LockMode,
        policy: WaitPolicy,
    ) -> Answer<Granted> {
        let key = Key::copy_from_slice(key);
        let me = self.me;
        let acquire = move |state: &mut State| {
            let lease = state.holds(me, shard, &key)?;
            let table = state.locks.entry((me, shard, lease)).or_default();
            let granted = table.try_acquire(txn, &key, mode)?;
            Ok::<_, Failure>(Granted { granted, lease })
        };
        let first = self.answer("lock", {
            let acquire = acquire.clone();
            move |state, _| acquire(state)
        });
        match policy {
            WaitPolicy::SkipLocked => first,
            WaitPolicy::NoWait => first.map(|granted| match granted? {
                granted if granted.granted => Ok(granted),
                _ => Err(Failure::Failed(Error::new(
                    SqlState::LOCK_NOT_AVAILABLE,
                    "could not obtain lock on row",
                ))),
            }),
            WaitPolicy::Wait { .. } => {
                if let MaybeReady::Ready(Some(Ok(Granted { granted: true, .. }) | Err(_))) = first {
                    return first;
                }
                let cluster = Arc::clone(&self.cluster);
                MaybeReady::pending(async move {
                    let granted = first.await?;
                    if granted.granted {
                        return Ok(granted);
                    }
                    cluster.state.lock().waiting += 1;
                    let place = Waiting {
                        cluster: Arc::clone(&cluster),
                    };
                    poll_fn(move |context| {
                        let mut state = place.cluster.state.lock();
                        match acquire(&mut state) {
                            Ok(Granted { granted: false, .. }) => {
                                state.wakers.push(context.waker().clone());
                                Poll::Pending
                            }
                            done => Poll::Ready(done),
                        }
                    })
                    .await
                })
            }
        }
    }

    fn lock_fresh(
        &self,
        shard: ShardId,
        _gateway: StoreId,
        txn: TxnId,
        keys: &Arc<[Key]>,
    ) -> Answer<Granted> {
        let keys = Arc::clone(keys);
        self.answer("lock_fresh", move |state, me| {
            let (known, lease) = state.held(me, shard)?;
            if !keys.iter().all(|key| known.holds(key)) {
                return Err(state.mismatch());
            }
            let written = keys.iter().any(|key| state.data.contains_key(key));
            let table = state.locks.entry((me, shard, lease)).or_default();
            let granted = table.acquire_fresh(txn, &keys)? && !written;
            Ok(Granted { granted, lease })
        })
    }

    fn unlock(&self, shard: ShardId, txn: TxnId, keys: &[Key]) {
        if !self.hears() {
            return;
        }
        let mut state = self.cluster.state.lock();
        state.log.push((self.me, "unlock"));
        for ((store, of, _), table) in &mut state.locks {
            if *store == self.me && *of == shard {
                table.release(txn, keys);
            }
        }
        state.wake();
    }

    fn unlock_all(&self, txn: TxnId) {
        if !self.hears() {
            return;
        }
        let mut state = self.cluster.state.lock();
        state.log.push((self.me, "unlock_all"));
        state.unlock_all(self.me, txn);
    }

    fn still_locked(&self, shard: ShardId, _txn: TxnId, lease: LeaseId) -> Answer<bool> {
        self.answer("still_locked", move |state, me| {
            Ok(state.held(me, shard).is_ok_and(|(_, now)| now == lease))
        })
    }

    fn commit(
        &self,
        shard: ShardId,
        _gateway: StoreId,
        request: CommitRequest,
        locked_under: Option<LeaseId>,
    ) -> Answer<Committed> {
        self.answer("commit", move |state, me| {
            let (known, lease) = state.held(me, shard)?;
            if !request.writes.iter().all(|(key, _)| known.holds(key)) {
                return Err(state.mismatch());
            }
            state.unlock_all(me, request.txn);
            if locked_under.is_some_and(|under| under != lease) {
                return Err(Failure::Failed(super::commit::locks_lost("They moved.")));
            }
            state.observe(me, Timestamp(state.clocks[&me] + 1));
            let at = Timestamp(state.clocks[&me]);
            let catalog_before = match request.writes_catalog() {
                true => std::mem::replace(&mut state.catalog_changed, at),
                false => Timestamp::ZERO,
            };
            for (key, value) in request.writes {
                state.data.entry(key).or_default().push((at, value));
            }
            Ok(Committed { at, catalog_before })
        })
    }
}

/// A network on which stores that are down are cut off.
pub(crate) struct Wire {
    from: StoreId,
    cluster: Arc<Cluster>,
}

impl Transport for Wire {
    fn send(&self, to: StoreId, message: Bytes) {
        let lost = {
            let state = self.cluster.state.lock();
            state.down.contains(&to) || state.deaf.contains(&to)
        };
        let service = self.cluster.services.lock().get(&to).cloned();
        if let Some(service) = service.filter(|_| !lost) {
            service.message(self.from, message);
        }
    }

    fn call(&self, to: StoreId, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        {
            let mut state = self.cluster.state.lock();
            state.exchanges += 1;
            if state.down.contains(&to) {
                return Box::pin(async { Err(CallError::Unsent("down".to_owned())) });
            }
        }
        let service = self.cluster.services.lock()[&to].clone();
        let answer = service.call(Some(self.from), request);
        let cluster = Arc::clone(&self.cluster);
        Box::pin(async move {
            let answer = answer.await;
            match cluster.state.lock().mute.contains(&to) {
                true => Err(CallError::Broken("mute".to_owned())),
                false => Ok(answer),
            }
        })
    }

    fn call_address(&self, _: &str, _: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        Box::pin(async { Err(CallError::Unsent("stores are called by name".to_owned())) })
    }

    fn learn(&self, _: StoreId, _: &str) {}
}
