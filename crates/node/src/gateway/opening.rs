//! What a statement begins with, in one exchange.
//!
//! That goes where one other store is believed to hold the leases of all shards that are asked: the usual case at a
//! node without leases, as long as tables are small. If that store cannot answer for all of them, or is out of reach,
//! the steps are taken one by one, each with its own search ([`super::search`]). Locks that were granted on the way
//! are granted once more then, or are of a lease that has gone, which the commit finds out.

use super::asking::{Asked, Shared};
use super::commit::locks_lost;
use super::snapshot::{named, routes_in};
use super::touched::{LeaseMoved, Touch};
use crate::shard_server::{Answer, Failure, OpenAnswer, OpenRequest, Refusal, ShardServer};
use sharding::Route;
use smallvec::SmallVec;
use std::sync::Arc;
use txn::kv::{Key, LockMode, Opened, Opening, ReadScope, Span, TxnId, Value, Version, WaitPolicy};
use types::{Error, MaybeReady, Result, SqlState, StoreId, Timestamp};

/// A table's lock and a row's.
type Touches = SmallVec<[Touch; 2]>;

impl Shared {
    pub(super) fn get(
        self: &Arc<Self>,
        key: &[u8],
        at: Timestamp,
    ) -> MaybeReady<Result<Option<(Value, Timestamp)>>> {
        let router = self.router.load();
        let route = router.route(key);
        let elsewhere = route.holder != Some(self.store);
        if elsewhere
            && self.answers_here(&route, at)
            && let MaybeReady::Ready(Some(Ok(found))) = self.local.get(route.shard.id, key, at)
        {
            return MaybeReady::ready(Ok(found));
        }
        self.ask_holder(
            key,
            |server, shard| server.get(shard, key, at),
            move |key| {
                move |server: &dyn ShardServer, asked: &Asked| server.get(asked.shard.id, &key, at)
            },
        )
    }

    pub(super) fn newest_version(
        self: &Arc<Self>,
        key: &[u8],
    ) -> MaybeReady<Result<Option<Timestamp>>> {
        self.ask_holder(
            key,
            |server, shard| server.newest_version(shard, key),
            |key| {
                move |server: &dyn ShardServer, asked: &Asked| {
                    server.newest_version(asked.shard.id, &key)
                }
            },
        )
    }

    /// `None`: no single other store answers for all of it, as far as is known.
    pub(super) fn open(
        self: &Arc<Self>,
        opening: &Opening<'_>,
    ) -> Option<MaybeReady<Result<Opened>>> {
        let router = self.router.load();
        let row = opening.point.map(|point| router.route(point.key));
        let first = row.or_else(|| Some(router.route(opening.tables.first()?)))?;
        let store = first.holder.filter(|holder| *holder != self.store)?;
        let is_there = |route: &Route<'_>| route.holder == Some(store);
        let mut touches = Touches::new();
        let mut tables = Vec::with_capacity(opening.tables.len());
        for key in opening.tables {
            let route = router.route(key);
            if !is_there(&route) {
                return None;
            }
            touches.push(touch(store, &route));
            tables.push((route.shard.id, Key::copy_from_slice(key)));
        }
        let only_reads = touches.is_empty() && opening.point.is_none_or(|it| it.lock.is_none());
        let snapshot = match opening.scope {
            Some(scope) => {
                let routes = routes_in(&router, scope);
                if only_reads && routes.iter().all(|route| self.reads_here(route)) {
                    return None;
                }
                if !routes.iter().all(is_there) {
                    return None;
                }
                Some(named(&routes).into_vec())
            }
            None => None,
        };
        let point = opening.point.map(|point| {
            let route = router.route(point.key);
            if point.lock.is_some() {
                touches.push(touch(store, &route));
            }
            let key = Key::copy_from_slice(point.key);
            (route.shard.id, key, point.lock)
        });
        let request = OpenRequest {
            txn: opening.txn,
            tables,
            snapshot,
            point,
        };
        // Before it is asked, so that a roll call never misses it.
        for touch in &touches {
            self.note_asked(opening.txn, *touch);
        }
        let answer = self.server(store).open(&request, opening.policy)?;
        let scope = opening.scope.map(Scope::of);
        let policy = opening.policy;
        let shared = Arc::clone(self);
        Some(MaybeReady::pending(async move {
            match shared.opened(request.txn, answer, touches).await? {
                Some(opened) => Ok(opened),
                None => shared.open_step_by_step(request, scope, policy).await,
            }
        }))
    }

    /// `None`: the store has not done all of it.
    async fn opened(
        &self,
        txn: TxnId,
        answer: Answer<OpenAnswer>,
        touches: Touches,
    ) -> Result<Option<Opened>> {
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(Failure::Failed(error)) => return Err(error),
            Err(Failure::Refused(Refusal::Mismatch { newer })) => {
                self.learn(&newer);
                return Ok(None);
            }
            Err(Failure::Refused(_) | Failure::Unreachable(_)) => return Ok(None),
        };
        for (touch, lease) in touches.into_iter().zip(answer.leases) {
            let touch = Touch {
                lease: Some(lease),
                ..touch
            };
            match self.touched.note_if_live(txn, touch) {
                Some(Ok(())) => {}
                Some(Err(LeaseMoved)) => {
                    return Err(locks_lost("The lease of a shard has moved in between."));
                }
                None => {
                    self.server(touch.store).unlock_all(txn);
                    return Err(ended());
                }
            }
        }
        Ok(Some(answer.opened))
    }

    async fn open_step_by_step(
        self: Arc<Self>,
        request: OpenRequest,
        scope: Option<Scope>,
        policy: WaitPolicy,
    ) -> Result<Opened> {
        for (_, key) in &request.tables {
            self.lock(request.txn, key, LockMode::KeyShare, policy)
                .await?;
        }
        let mut opened = Opened::default();
        if let Some(scope) = scope {
            opened.at = self.read_timestamp(scope.borrowed()).await?;
        }
        let Some((_, key, lock)) = request.point else {
            return Ok(opened);
        };
        let mut at = opened.at;
        if let Some(mode) = lock {
            if !self.lock(request.txn, &key, mode, policy).await? {
                return Ok(opened);
            }
            at = Timestamp::MAX;
        }
        opened.point = Some(match self.get(&key, at).await? {
            Some((value, at)) => Version {
                value: Some(value),
                at: Some(at),
            },
            None if lock.is_some() => Version {
                value: None,
                at: self.newest_version(&key).await?,
            },
            None => Version::default(),
        });
        Ok(opened)
    }
}

/// A [`ReadScope`] that outlives its statement's call.
enum Scope {
    All,
    Spans(Vec<Span>),
}

impl Scope {
    fn of(scope: ReadScope<'_>) -> Self {
        match scope {
            ReadScope::All => Scope::All,
            ReadScope::Spans(spans) => Scope::Spans(spans.to_vec()),
        }
    }

    fn borrowed(&self) -> ReadScope<'_> {
        match self {
            Scope::All => ReadScope::All,
            Scope::Spans(spans) => ReadScope::Spans(spans),
        }
    }
}

fn touch(store: StoreId, route: &Route<'_>) -> Touch {
    Touch {
        store,
        shard: route.shard.id,
        span_since: route.span_since,
        lease: None,
    }
}

/// While it waited for locks.
pub(super) fn ended() -> Error {
    Error::new(
        SqlState::QUERY_CANCELED,
        "the transaction ended while it waited for a lock",
    )
}
