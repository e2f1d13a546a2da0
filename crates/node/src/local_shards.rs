//! The shards whose lease is on this store, as gateways see them.
//!
//! Reads run on the caller's task, straight on the engine: no queue, no hop. Locks are taken in the
//! `LockManager`. A commit is validated, sequenced and queued in one step,
//! and answered by the store's loop. A large one goes into the log part by part before that: `large`.

mod committing;
mod large;

use crate::lock_manager::LockManager;
use crate::node_clock::NodeClock;
use crate::parts::PartOptions;
use crate::read_leases;
use crate::registry::Registry;
use crate::replica::{Body, Replica, Request, lease_moved};
use crate::shard_server::{Answer, Failure, Granted, LeaseId, Refusal, ShardServer};
use committing::{COMMIT_PATIENCE, check_writes};
use futures::future::select;
use sharding::{ShardDescriptor, ShardId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use storage::{Engine, mvcc};
use txn::kv::{
    Changes, CommitRequest, Committed, Key, LockMode, ScanPage, ScanRequest, Span, TxnId, Value,
    Visitor, WaitPolicy,
};
use types::env::{Clock, Spawn};
use types::{Error, MaybeReady, Result, SqlState, StoreId, Timestamp};

/// PostgreSQL's `snapshot_too_old`.
const SNAPSHOT_TOO_OLD: SqlState = SqlState(*b"72000");

/// Neighbours that a refusal names at most. A map that lacks more is to be read anew.
const NEIGHBOURS: usize = 64;

/// How often is looked whether a lease that is over goes on: ten times within the round trip of a late heartbeat.
const LATE_PAUSE: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Clone)]
pub struct LocalShards {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) store: StoreId,
    pub(crate) registry: Arc<Registry>,
    pub(crate) locks: Arc<LockManager>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) time: Arc<NodeClock>,
    /// Reads below it are refused: their history may be gone.
    pub(crate) gc_threshold: Arc<AtomicU64>,
    pub(crate) spawn: Arc<dyn Spawn>,
    pub(crate) parts: PartOptions,
    pub(crate) read_leases: read_leases::Options,
}

/// Ready with what failed, or the value.
macro_rules! ready {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(failure) => return MaybeReady::ready(Err(failure)),
        }
    };
}

impl LocalShards {
    pub(crate) fn readable(&self, at: Timestamp) -> Result<()> {
        let threshold = Timestamp(self.gc_threshold.load(Ordering::Relaxed));
        if at < threshold {
            return Err(
                Error::new(SNAPSHOT_TOO_OLD, "snapshot too old").detail(format!(
                    "The snapshot is of {at}; history is kept since {threshold}."
                )),
            );
        }
        Ok(())
    }

    /// Moves all commits to come above `at`, where that is possible, and says up to where, at most `at`, no
    /// commit is in flight in any shard.
    pub(crate) fn settle(&self, at: Timestamp) -> Timestamp {
        let replicas = self.registry.all();
        let settled = replicas.iter().map(|replica| replica.settle(at));
        settled.fold(at, Timestamp::min)
    }

    fn replica(&self, shard: ShardId) -> std::result::Result<Arc<Replica>, Failure> {
        self.registry
            .get(shard)
            .ok_or(Failure::Refused(Refusal::NotLeaseHolder { hint: None }))
    }

    /// The replica, if its lease reaches to `at`, or nothing will be committed up to there. What it then answers as of
    /// `at` stays true for ever.
    fn holder(&self, shard: ShardId, at: Timestamp) -> std::result::Result<Arc<Replica>, Failure> {
        let replica = self.replica(shard)?;
        match answers(&replica, at) {
            true => Ok(replica),
            false => Err(replica.not_holder()),
        }
    }

    /// Whether the lease holds now: to be asked after the answer was made.
    fn holds_now(&self, replica: &Replica) -> std::result::Result<(), Failure> {
        let end = replica.lease_end();
        if end == Timestamp::MAX || self.time.peek() <= end {
            return Ok(());
        }
        Err(replica.not_holder())
    }

    /// Reads as of `at` once no commit in flight can change what is read. `holds` is asked after that whether all of it
    /// was the shard's: a part may have been split off meanwhile, and somebody else commits there.
    fn read_at<T: Send + 'static>(
        &self,
        replica: Arc<Replica>,
        at: Timestamp,
        holds: impl FnOnce(&Replica) -> bool + Send + 'static,
        read: impl FnOnce(&dyn Engine) -> storage::Result<T> + Send + 'static,
    ) -> Answer<T> {
        if let Err(error) = self.readable(at) {
            return MaybeReady::ready(Err(error.into()));
        }
        match replica.raise(at) {
            None => {
                let found = ready!(self.registry.checked(&replica, read(&*self.engine)));
                let held = answers(&replica, at) && holds(&replica);
                MaybeReady::ready(self.if_held(&replica, held, found))
            }
            Some(settled) => {
                let shards = self.clone();
                MaybeReady::pending(async move {
                    if settled.await.is_err() {
                        // The lease went before it was settled.
                        return Err(Failure::Refused(Refusal::NotLeaseHolder { hint: None }));
                    }
                    let read = read(&*shards.engine);
                    let found = shards.registry.checked(&replica, read)?;
                    shards.if_held(&replica, holds(&replica), found)
                })
            }
        }
    }

    fn if_held<T>(
        &self,
        replica: &Replica,
        held: bool,
        found: T,
    ) -> std::result::Result<T, Failure> {
        match held {
            true => Ok(found),
            false => Err(self.mismatch(replica)),
        }
    }

    fn check_key(&self, replica: &Replica, key: &[u8]) -> std::result::Result<(), Failure> {
        self.if_held(replica, replica.holds_key(key), ())
    }

    /// The replica does not hold what was asked for: what it does hold, and who holds what follows.
    fn mismatch(&self, replica: &Replica) -> Failure {
        let mut newer = vec![(*replica.descriptor()).clone()];
        newer.extend(self.registry.to_the_right(&newer[0], NEIGHBOURS));
        Failure::Refused(Refusal::Mismatch { newer })
    }

    fn is_late(&self, replica: &Replica) -> bool {
        let now = self.time.peek();
        now > replica.lease_end() && (replica.lease_may_go_on(now) || replica.has_lapsed(now))
    }

    /// Returns once the lease holds again, or will not.
    async fn until_lease_goes_on(self, replica: Arc<Replica>) {
        while self.is_late(&replica) {
            self.clock.sleep(LATE_PAUSE).await;
        }
    }

    /// Whether the locks of `txn` under this lease stand.
    fn stands(
        &self,
        replica: &Replica,
        txn: TxnId,
        lease: LeaseId,
    ) -> std::result::Result<bool, Failure> {
        let held = replica.lease();
        let stands = held.is_some_and(|held| held.keeps_locks_of(lease));
        let locked = stands && self.locks.is_known(txn);
        self.holds_now(replica)?;
        Ok(locked)
    }

    /// Splits a shard whose lease is here before `at`. Returns once the split is applied.
    pub(crate) async fn split(
        &self,
        shard: ShardId,
        at: Key,
        right: ShardId,
    ) -> std::result::Result<(), Failure> {
        let replica = self.replica(shard)?;
        let begun = replica.begin_split(at, right, || self.time.now());
        let applied = begun.map_err(|failure| match failure {
            // Whoever asks here for a key of another shard has to learn of that one.
            Failure::Refused(Refusal::Mismatch { .. }) => self.mismatch(&replica),
            failure => failure,
        })?;
        let applied = applied.await.unwrap_or_else(|_| Err(lease_moved()));
        applied.map_err(Failure::from)
    }
}

/// Whether this replica can say what is there as of `at`. Asked again after the answer was made: a copy that goes
/// takes its rows along.
fn answers(replica: &Replica, at: Timestamp) -> bool {
    at <= replica.lease_end() || at <= replica.closed_at()
}

impl ShardServer for LocalShards {
    fn read_timestamp(&self, shards: &[(ShardId, u64)]) -> Answer<Timestamp> {
        let mut at = Timestamp::ZERO;
        // By read leases: of something above that, nobody here can say that it is the newest.
        let mut most = Timestamp::MAX;
        for (shard, generation) in shards {
            let replica = ready!(self.replica(*shard));
            if let Some((since, upto)) = replica.newest_by_read_lease(|| self.time.peek()) {
                at = at.max(since);
                most = most.min(upto);
            } else {
                at = match shards {
                    [_] => replica.safe_timestamp(),
                    // Above all commits of all of them; those in flight are waited for by whoever reads.
                    _ => at.max(self.time.now()),
                };
                ready!(self.holds_now(&replica));
            }
            let descriptor = replica.descriptor();
            if descriptor.generation != *generation {
                return MaybeReady::ready(Err(self.mismatch(&replica)));
            }
        }
        if most == Timestamp::MAX {
            return MaybeReady::ready(Ok(at));
        }
        match at <= most && self.readable(most).is_ok() {
            true => {
                let shared = &self.registry.shared;
                shared.metrics.read_lease_snapshots.increment(1);
                shared.read_lease_snapshots.fetch_add(1, Ordering::Relaxed);
                MaybeReady::ready(Ok(most))
            }
            // The lease holders know a newer one.
            false => MaybeReady::ready(Err(Failure::Refused(Refusal::NotLeaseHolder {
                hint: None,
            }))),
        }
    }

    fn reads_here(&self, shard: ShardId) -> bool {
        let replica = self.registry.get(shard);
        replica.is_some_and(|replica| replica.has_read_lease(self.time.peek()))
    }

    fn closed_at(&self, shard: ShardId) -> Timestamp {
        let replica = self.registry.get(shard);
        replica.map_or(Timestamp::ZERO, |replica| replica.closed_at())
    }

    fn asked_by(&self, gateway: StoreId, shards: &[(ShardId, u64)]) {
        for (shard, _) in shards {
            if let Some(replica) = self.registry.get(*shard) {
                replica.asked_by(gateway, &self.read_leases, || self.time.now());
            }
        }
    }

    fn get(&self, shard: ShardId, key: &[u8], at: Timestamp) -> Answer<Option<(Value, Timestamp)>> {
        let replica = ready!(self.replica(shard));
        if at == Timestamp::MAX {
            let newest = mvcc::get(&*self.engine, key, at);
            let newest = self.registry.checked(&replica, newest);
            ready!(self.holds_now(&replica));
            ready!(self.check_key(&replica, key));
            return MaybeReady::ready(newest);
        }
        if !answers(&replica, at) {
            return MaybeReady::ready(Err(replica.not_holder()));
        }
        if at <= replica.settled_at() {
            ready!(self.readable(at).map_err(Failure::from));
            let read = mvcc::get(&*self.engine, key, at);
            let held = answers(&replica, at) && replica.holds_key(key);
            ready!(self.if_held(&replica, held, ()));
            return MaybeReady::ready(self.registry.checked(&replica, read));
        }
        let key = Key::copy_from_slice(key);
        let asked = key.clone();
        let holds = move |replica: &Replica| replica.holds_key(&asked);
        self.read_at(replica, at, holds, move |engine| {
            mvcc::get(engine, &key, at)
        })
    }

    fn newest_version(&self, shard: ShardId, key: &[u8]) -> Answer<Option<Timestamp>> {
        let replica = ready!(self.replica(shard));
        if self.is_late(&replica) {
            // Nobody else would know better. A piece of a large commit asks this, too, and is not refused for a moment.
            let (shards, key) = (self.clone(), Key::copy_from_slice(key));
            return MaybeReady::pending(async move {
                shards.clone().until_lease_goes_on(replica).await;
                shards.newest_version(shard, &key).await
            });
        }
        let newest = mvcc::newest_version(&*self.engine, key);
        let newest = self.registry.checked(&replica, newest);
        ready!(self.holds_now(&replica));
        ready!(self.check_key(&replica, key));
        MaybeReady::ready(newest)
    }

    fn scan(&self, shard: ShardId, request: ScanRequest) -> Answer<ScanPage> {
        if request.span.start >= request.span.end {
            return MaybeReady::ready(Ok(ScanPage::default()));
        }
        let replica = ready!(self.holder(shard, request.at));
        let span = request.span.clone();
        let holds = move |replica: &Replica| replica.holds_span(&span.start, &span.end);
        if !holds(&replica) {
            return MaybeReady::ready(Err(self.mismatch(&replica)));
        }
        self.read_at(replica, request.at, holds, move |engine| {
            let page = mvcc::scan(
                &*engine.snapshot(),
                &request.span.start,
                &request.span.end,
                request.at,
                request.reverse,
                request.limit,
                request.limit_bytes,
            )?;
            Ok(ScanPage {
                rows: page.rows,
                resume: page.resume,
            })
        })
    }

    fn visit(
        &self,
        shard: ShardId,
        request: &ScanRequest,
        show: &mut Visitor<'_>,
    ) -> Option<std::result::Result<Option<Key>, Failure>> {
        let span = &request.span;
        if span.start >= span.end {
            return Some(Ok(None));
        }
        let replica = match self.holder(shard, request.at) {
            Ok(replica) => replica,
            Err(failure) => return Some(Err(failure)),
        };
        if let Err(error) = self.readable(request.at) {
            return Some(Err(error.into()));
        }
        // What must be waited for is not shown.
        if replica.raise(request.at).is_some() {
            return None;
        }
        let snapshot = self.engine.snapshot();
        // After the snapshot was taken: what another shard commits there is not in it.
        if !answers(&replica, request.at) || !replica.holds_span(&span.start, &span.end) {
            return Some(Err(self.mismatch(&replica)));
        }
        let mut failed = None;
        let resume = mvcc::visit(
            &*snapshot,
            &span.start,
            &span.end,
            request.at,
            request.reverse,
            request.limit,
            request.limit_bytes,
            &mut |key, value| {
                failed = show(key, value).err();
                failed.is_none()
            },
        );
        Some(match failed {
            Some(error) => Err(error.into()),
            None => self.registry.checked(&replica, resume),
        })
    }

    fn changes(&self, shard: ShardId, span: &Span, after: Timestamp, upto: Timestamp) -> Changes {
        match self.registry.get(shard) {
            Some(replica) => {
                let changes = match upto <= replica.lease_end() {
                    true => replica.changes(span, after, upto),
                    false => replica.changes_by_read_lease(after, upto),
                };
                match replica.holds_span(&span.start, &span.end) {
                    true => changes,
                    false => Changes::Unknown,
                }
            }
            None => Changes::Unknown,
        }
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
        let replica = ready!(self.replica(shard));
        ready!(self.check_key(&replica, key));
        let Some(lease) = replica.lease() else {
            return MaybeReady::ready(Err(replica.not_holder()));
        };
        let locked = self.locks.lock(txn, key, mode, policy);
        // A lock that is granted under a lease that is over already is found out at the commit.
        locked.map(move |granted| match granted {
            Ok(granted) => Ok(Granted { granted, lease }),
            Err(error) => Err(error.into()),
        })
    }

    fn lock_fresh(
        &self,
        shard: ShardId,
        _gateway: StoreId,
        txn: TxnId,
        keys: &Arc<[Key]>,
    ) -> Answer<Granted> {
        let replica = ready!(self.replica(shard));
        if let (Some(first), Some(last)) = (keys.first(), keys.last()) {
            ready!(self.check_key(&replica, first));
            ready!(self.check_key(&replica, last));
        }
        let Some(lease) = replica.lease() else {
            return MaybeReady::ready(Err(replica.not_holder()));
        };
        // Locks first: whoever wrote one of the keys has released it after that was applied.
        let locked = ready!(self.locks.lock_fresh(txn, keys).map_err(Failure::from));
        if !locked {
            let granted = false;
            return MaybeReady::ready(Ok(Granted { granted, lease }));
        }
        let fresh = mvcc::none_written(&*self.engine.snapshot(), keys);
        let fresh = self.registry.checked(&replica, fresh);
        if matches!(fresh, Err(Failure::Refused(_))) {
            // Nothing was done.
            self.locks.unlock(txn, keys);
        }
        MaybeReady::ready(fresh.map(|granted| Granted { granted, lease }))
    }

    fn unlock(&self, _shard: ShardId, txn: TxnId, keys: &[Key]) {
        self.locks.unlock(txn, keys);
    }

    fn unlock_all(&self, txn: TxnId) {
        self.locks.unlock_all([txn]);
    }

    fn descriptor(&self, shard: ShardId) -> Option<ShardDescriptor> {
        let replica = self.registry.get(shard)?;
        Some((*replica.descriptor()).clone())
    }

    fn still_locked(&self, shard: ShardId, txn: TxnId, lease: LeaseId) -> Answer<bool> {
        let replica = ready!(self.replica(shard));
        if let Some(begun) = replica.await_lease() {
            let (shards, timeout) = (self.clone(), self.clock.sleep(COMMIT_PATIENCE));
            return MaybeReady::pending(async move {
                // Whatever came first.
                select(begun, timeout).await;
                shards.stands(&replica, txn, lease)
            });
        }
        if self.is_late(&replica) {
            let shards = self.clone();
            return MaybeReady::pending(async move {
                shards
                    .clone()
                    .until_lease_goes_on(Arc::clone(&replica))
                    .await;
                shards.stands(&replica, txn, lease)
            });
        }
        MaybeReady::ready(self.stands(&replica, txn, lease))
    }

    fn commit(
        &self,
        shard: ShardId,
        gateway: StoreId,
        request: CommitRequest,
        locked_under: Option<LeaseId>,
    ) -> Answer<Committed> {
        let txn = request.txn;
        let replica = ready!(self.replica(shard));
        // The locks of a gateway that was given up are released; its commit may arrive all the same.
        if gateway != self.store && locked_under.is_some() && !self.locks.is_known(txn) {
            return MaybeReady::ready(Err(lease_moved().into()));
        }
        if self.parts.is_large(&request.writes) {
            return self.commit_in_parts(replica, request, locked_under);
        }
        let submitted = check_writes(&request.writes).and_then(|()| {
            let request = Request {
                txn,
                read_at: request.read_at,
                read_spans: request.read_spans,
                body: Body::Whole(request.writes),
            };
            self.submit_to_heir(shard, request, locked_under)
        });
        self.outcome(shard, txn, locked_under, submitted)
    }
}
