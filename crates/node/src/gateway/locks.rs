//! Locks: asked of the lease holder, remembered here.

use super::asking::{Asked, Shared, Target};
use super::commit::locks_lost;
use super::opening::ended;
use super::touched::{LeaseMoved, Touch, stores};
use crate::shard_server::{Answer, Failure, Granted, LeaseId, ShardServer};
use sharding::ShardId;
use std::collections::BTreeMap;
use std::sync::Arc;
use txn::kv::{Key, LockMode, TxnId, WaitPolicy};
use types::{MaybeReady, Result, StoreId};

/// A lock request, of one key or of fresh ones.
#[derive(Clone)]
enum Wanted {
    Key(Key, LockMode, WaitPolicy),
    Fresh(Arc<[Key]>),
}

impl Wanted {
    fn ask(
        &self,
        server: &dyn ShardServer,
        shard: ShardId,
        gateway: StoreId,
        txn: TxnId,
    ) -> Answer<Granted> {
        match self {
            Wanted::Key(key, mode, policy) => server.lock(shard, gateway, txn, key, *mode, *policy),
            Wanted::Fresh(keys) => server.lock_fresh(shard, gateway, txn, keys),
        }
    }
}

impl Shared {
    pub(super) fn lock(
        self: &Arc<Self>,
        txn: TxnId,
        key: &[u8],
        mode: LockMode,
        policy: WaitPolicy,
    ) -> MaybeReady<Result<bool>> {
        let ask = |server: &dyn ShardServer, shard| {
            server.lock(shard, self.store, txn, key, mode, policy)
        };
        let wanted = || Wanted::Key(Key::copy_from_slice(key), mode, policy);
        self.lock_at_holder(txn, key, ask, wanted)
    }

    /// `false` also if the keys lie in several shards: then they are locked one by one.
    pub(super) fn lock_fresh(
        self: &Arc<Self>,
        txn: TxnId,
        keys: &Arc<[Key]>,
    ) -> MaybeReady<Result<bool>> {
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
            return MaybeReady::ready(Ok(true));
        };
        if !self.router.load().route(first).shard.holds(last) {
            return MaybeReady::ready(Ok(false));
        }
        let ask = |server: &dyn ShardServer, shard| server.lock_fresh(shard, self.store, txn, keys);
        let wanted = || Wanted::Fresh(Arc::clone(keys));
        self.lock_at_holder(txn, first, ask, wanted)
    }

    fn lock_at_holder(
        self: &Arc<Self>,
        txn: TxnId,
        key: &[u8],
        ask: impl FnOnce(&dyn ShardServer, ShardId) -> Answer<Granted>,
        wanted: impl FnOnce() -> Wanted,
    ) -> MaybeReady<Result<bool>> {
        let router = self.router.load();
        let route = router.route(key);
        let mut begun = None;
        if let Some(store) = route.holder {
            let mut touch = Touch {
                store,
                shard: route.shard.id,
                span_since: route.span_since,
                lease: None,
            };
            let answer = if store == self.store {
                match ask(&*self.local, route.shard.id) {
                    MaybeReady::Ready(Some(Ok(granted))) => {
                        // Of fresh keys some may be locked all the same.
                        touch.lease = granted.granted.then_some(granted.lease);
                        let noted = self.touched.note(txn, touch);
                        return MaybeReady::ready(noted_as(noted, granted.granted));
                    }
                    MaybeReady::Ready(Some(Err(Failure::Failed(error)))) => {
                        return MaybeReady::ready(Err(error));
                    }
                    answer => {
                        self.note_asked(txn, touch);
                        answer
                    }
                }
            } else {
                // Before it is asked, so that a roll call never misses it.
                self.note_asked(txn, touch);
                ask(&*self.server(store), route.shard.id)
            };
            begun = Some((Asked::new(store, &route), answer));
        }
        let key = Key::copy_from_slice(key);
        let lock = Arc::clone(self).lock_slowly(txn, key, wanted(), begun);
        MaybeReady::pending(lock)
    }

    async fn lock_slowly(
        self: Arc<Self>,
        txn: TxnId,
        key: Key,
        wanted: Wanted,
        begun: Option<(Asked, Answer<Granted>)>,
    ) -> Result<bool> {
        let begun = begun.map(|(asked, answer)| (asked.clone(), with(asked, answer)));
        let ask = {
            let shared = Arc::clone(&self);
            move |server: &dyn ShardServer, asked: &Asked| {
                shared.note_asked(txn, touch_of(asked, None));
                let shard = asked.shard.id;
                if let Wanted::Fresh(keys) = &wanted
                    && !keys.iter().all(|key| asked.shard.holds(key))
                {
                    // The shard was split: one by one, then.
                    let refused = Granted {
                        granted: false,
                        lease: LeaseId::default(),
                    };
                    return with(asked.clone(), MaybeReady::ready(Ok(refused)));
                }
                let answer = wanted.ask(server, shard, shared.store, txn);
                with(asked.clone(), answer)
            }
        };
        let asking = Arc::clone(&self).ask(Target::At(key), begun, ask);
        let (asked, granted) = asking.await?;
        if !granted.granted {
            return Ok(false);
        }
        let touch = touch_of(&asked, Some(granted.lease));
        match self.touched.note_if_live(txn, touch) {
            Some(noted) => noted_as(noted, true),
            None => {
                self.server(asked.store).unlock_all(txn);
                Err(ended())
            }
        }
    }

    /// Whatever becomes of the request, the store must hear of the transaction's end.
    pub(super) fn note_asked(&self, txn: TxnId, touch: Touch) {
        if touch.store != self.store {
            self.debts.owe(touch.store);
        }
        // Without a lease there is nothing to contradict.
        let _ = self.touched.note(txn, touch);
    }

    /// Some locks of the transaction, which goes on.
    pub(super) fn unlock(&self, txn: TxnId, keys: &[Key]) {
        let router = self.router.load();
        let mut by_shard: BTreeMap<ShardId, Vec<Key>> = BTreeMap::new();
        for key in keys {
            let shard = router.route(key).shard.id;
            by_shard.entry(shard).or_default().push(key.clone());
        }
        let touches = self.touched.of(txn);
        for (shard, keys) in by_shard {
            let had = |touch: &&Touch| {
                // The shard may have been split off since the lock was granted.
                touch.shard == shard
                    || router
                        .shard(shard)
                        .is_some_and(|r| r.was_part_of(touch.shard))
            };
            for touch in touches.iter().filter(had) {
                if touch.store == self.store {
                    self.local.unlock(shard, txn, &keys);
                } else {
                    self.server(touch.store).unlock(shard, txn, &keys);
                }
            }
        }
    }

    pub(super) fn unlock_all(&self, txn: TxnId) {
        let touches = self.touched.take(txn);
        for store in stores(&touches) {
            if store == self.store {
                self.local.unlock_all(txn);
            } else {
                self.server(store).unlock_all(txn);
            }
        }
    }
}

fn with(asked: Asked, answer: Answer<Granted>) -> Answer<(Asked, Granted)> {
    answer.map(move |granted| Ok((asked, granted?)))
}

fn touch_of(asked: &Asked, lease: Option<LeaseId>) -> Touch {
    Touch {
        store: asked.store,
        shard: asked.shard.id,
        span_since: asked.span_since,
        lease,
    }
}

fn noted_as(noted: Result<(), LeaseMoved>, granted: bool) -> Result<bool> {
    match noted {
        Ok(()) => Ok(granted),
        Err(LeaseMoved) => Err(locks_lost("The lease of a shard has moved in between.")),
    }
}
