//! Read timestamps.
//!
//! A commit gets its timestamp from the hybrid logical clock of its shard's lease holder and is acknowledged
//! later. So if a lease holder is asked for its clock after that, the answer is above the commit's timestamp; and
//! a new lease holder begins above all that the old one gave. Asking the lease holders of all shards of the
//! scope, and taking the highest answer, therefore gives a snapshot that holds every commit acknowledged
//! before the question, by whomever and wherever: real-time order, whatever the nodes' wall clocks show.
//!
//! The timestamp is nobody's estimate, so there is no window of uncertainty around it in which a read
//! would have to guess. What it may be is above the clock of some shard's lease holder: every question
//! carries its asker's clock, which has seen the timestamp, so the lease holder's commits from then on get
//! higher ones, and a read waits for those that already have a lower one and are not applied yet.
//! So a snapshot is fixed in a shard from the first read on; until then a commit that nothing connects with
//! the asker may still slip below it, and is then seen as if it had been before.
//!
//! Each shard is named with the generation in which this node knows it. If a part of its keys went to another
//! shard since, the answer would say nothing about that part, so it is refused instead, and the newer
//! shards are asked.

use super::asking::{Asked, Shared, Target};
use crate::shard_server::{Answer, Failure, ShardServer};
use futures::future::try_join_all;
use sharding::{Route, Router, ShardId};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use txn::kv::{Key, ReadScope};
use types::{MaybeReady, Result, StoreId, Timestamp, key};

/// Shards in a scope that need no memory of their own.
type Few<T> = SmallVec<[T; 4]>;

impl Shared {
    pub(super) fn read_timestamp(
        self: &Arc<Self>,
        scope: ReadScope<'_>,
    ) -> MaybeReady<Result<Timestamp>> {
        let router = self.router.load();
        let routes = routes_in(&router, scope);
        let named = named(&routes);
        let local = |route: &Route<'_>| self.reads_here(route);
        if !routes.iter().all(local) {
            return MaybeReady::pending(Arc::clone(self).ask_stores(groups(self, &routes)));
        }
        match self.local.read_timestamp(&named) {
            MaybeReady::Ready(Some(Ok(at))) => MaybeReady::ready(Ok(at)),
            MaybeReady::Ready(Some(Err(Failure::Failed(error)))) => MaybeReady::ready(Err(error)),
            answer => {
                let shards = routes.iter().map(|r| Asked::new(self.store, r)).collect();
                MaybeReady::pending(Arc::clone(self).ask_stores(vec![Group { shards, answer }]))
            }
        }
    }

    /// Whether this store is believed to say what is newest.
    pub(super) fn reads_here(&self, route: &Route<'_>) -> bool {
        route.holder == Some(self.store) || self.local.reads_here(route.shard.id)
    }

    /// Whether this store is believed to answer as of `at`.
    pub(super) fn answers_here(&self, route: &Route<'_>, at: Timestamp) -> bool {
        route.holder == Some(self.store) || at <= self.local.closed_at(route.shard.id)
    }

    /// All at once; the highest answer.
    async fn ask_stores(self: Arc<Self>, groups: Vec<Group>) -> Result<Timestamp> {
        let asked = groups.into_iter().map(|group| self.ask_store(group));
        let answers = try_join_all(asked).await?;
        Ok(answers.into_iter().max().unwrap_or(Timestamp::ZERO))
    }

    async fn ask_store(self: &Arc<Self>, group: Group) -> Result<Timestamp> {
        match group.answer.await {
            Ok(at) => return Ok(at),
            Err(Failure::Failed(error)) => return Err(error),
            Err(Failure::Refused(_) | Failure::Unreachable(_)) => {}
        }
        // Which of the shards it was about is not known; that happens after moves only.
        let asked = group.shards.into_iter().map(|shard| self.ask_span(shard));
        let answers = try_join_all(asked).await?;
        Ok(answers.into_iter().max().unwrap_or(Timestamp::ZERO))
    }

    /// Asks for all keys that were the shard's, whichever shards they are in by now.
    async fn ask_span(self: &Arc<Self>, shard: Asked) -> Result<Timestamp> {
        let mut newest = Timestamp::ZERO;
        let mut next = shard.shard.start;
        loop {
            let ask =
                |server: &dyn ShardServer, asked: &Asked| -> Answer<(Timestamp, Option<Key>)> {
                    let end = asked.shard.end.clone();
                    let named = [(asked.shard.id, asked.shard.generation)];
                    let answer = server.read_timestamp(&named);
                    answer.map(move |at| Ok((at?, end)))
                };
            let asking = Arc::clone(self).ask(Target::At(next), None, ask);
            let (at, end) = asking.await?;
            newest = newest.max(at);
            let ends_before = |end: &Key| shard.shard.end.as_ref().is_none_or(|last| end < last);
            match end.filter(ends_before) {
                Some(end) => next = end,
                None => return Ok(newest),
            }
        }
    }
}

/// The shards that one store was asked about.
struct Group {
    shards: Vec<Asked>,
    answer: Answer<Timestamp>,
}

/// Asks each store about the shards whose leases it is believed to hold. Shards without any replica known are
/// asked for one by one, by a group that failed already.
fn groups(shared: &Shared, routes: &[Route<'_>]) -> Vec<Group> {
    let mut by_store: BTreeMap<Option<StoreId>, Vec<&Route<'_>>> = BTreeMap::new();
    for route in routes {
        by_store.entry(route.holder).or_default().push(route);
    }
    let group = |(holder, routes): (Option<StoreId>, Vec<&Route<'_>>)| {
        let store = holder.unwrap_or(shared.store);
        let named: Few<(ShardId, u64)> = routes.iter().copied().map(name).collect();
        Group {
            answer: match holder {
                Some(store) => shared.server(store).read_timestamp(&named),
                None => MaybeReady::ready(Err(Failure::Unreachable(false))),
            },
            shards: routes.iter().map(|r| Asked::new(store, r)).collect(),
        }
    };
    by_store.into_iter().map(group).collect()
}

/// The shards of the scope, each once. The catalog's is always one of them.
pub(super) fn routes_in<'r>(router: &'r Router, scope: ReadScope<'_>) -> Few<Route<'r>> {
    let ReadScope::Spans(spans) = scope else {
        return router.overlapping(&[], None).collect();
    };
    let catalog = router.route(&key::table_prefix(key::CATALOG_TABLE_ID));
    let mut routes: Few<Route<'r>> = SmallVec::from_slice(&[catalog]);
    for span in spans {
        for route in router.overlapping(&span.start, Some(&span.end)) {
            // Most statements are about one shard.
            if routes.last().is_none_or(|last| name(last) != name(&route)) {
                routes.push(route);
            }
        }
    }
    if routes.len() > 1 {
        routes.sort_unstable_by_key(name);
        routes.dedup_by_key(|route| name(route));
    }
    routes
}

/// The shards as their stores are asked for them.
pub(super) fn named(routes: &[Route<'_>]) -> Few<(ShardId, u64)> {
    routes.iter().map(name).collect()
}

/// Of a shard that was split the map may hold two parts, of different age: see [`sharding::ShardMap::learn`].
fn name(route: &Route<'_>) -> (ShardId, u64) {
    (route.shard.id, route.shard.generation)
}
