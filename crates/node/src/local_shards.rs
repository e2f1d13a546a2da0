//! The shards whose lease is on this store, as gateways see them.
//!
//! Reads run on the caller's task, straight on the engine: no queue, no hop. Locks are taken in the
//! `LockManager`. A commit is validated, sequenced and queued in one step,
//! and answered by the store's loop. A large one goes into the log part by part before that: `large`.

mod large;

use crate::lock_manager::LockManager;
use crate::node_clock::NodeClock;
use crate::parts::PartOptions;
use crate::registry::Registry;
use crate::replica::{
    Body, Replica, Reply, Request, Submit, lease_moved, not_serializable, unknown_outcome,
};
use crate::shard_server::{Answer, Failure, Granted, LeaseId, Refusal, ShardServer};
use sharding::ShardId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use storage::{Engine, mvcc};
use txn::kv::{
    Changes, CommitRequest, Committed, Key, LockMode, ScanPage, ScanRequest, Span, TxnId, Value,
    Visitor, WaitPolicy,
};
use types::env::{Clock, Spawn};
use types::{Error, MaybeReady, Result, SqlState, StoreId, Timestamp};

/// PostgreSQL's `snapshot_too_old`.
const SNAPSHOT_TOO_OLD: SqlState = SqlState(*b"72000");

/// How often a SERIALIZABLE commit asks the disk again because others committed faster than it was
/// checked. Each time the part left to check is only what is new.
const VALIDATION_ATTEMPTS: usize = 8;

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
}

impl LocalShards {
    fn readable(&self, at: Timestamp) -> Result<()> {
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

    /// The replica, if its lease reaches to `at`. What it then answers as of `at` stays true for ever.
    fn holder(&self, shard: ShardId, at: Timestamp) -> std::result::Result<Arc<Replica>, Failure> {
        let replica = self.replica(shard)?;
        if at > replica.lease_end() {
            return Err(replica.not_holder());
        }
        Ok(replica)
    }

    /// Whether the lease holds now: to be asked after the answer was made.
    fn holds_now(&self, replica: &Replica) -> std::result::Result<(), Failure> {
        let end = replica.lease_end();
        if end == Timestamp::MAX || self.time.peek() <= end {
            return Ok(());
        }
        Err(replica.not_holder())
    }

    /// Reads as of `at` once no commit in flight can change what is read.
    fn read_at<T: Send + 'static>(
        &self,
        replica: Arc<Replica>,
        at: Timestamp,
        read: impl FnOnce(&dyn Engine) -> storage::Result<T> + Send + 'static,
    ) -> Answer<T> {
        if let Err(error) = self.readable(at) {
            return MaybeReady::ready(Err(error.into()));
        }
        match replica.raise(at) {
            None => MaybeReady::ready(self.registry.checked(&replica, read(&*self.engine))),
            Some(settled) => {
                let engine = Arc::clone(&self.engine);
                let registry = Arc::clone(&self.registry);
                MaybeReady::pending(async move {
                    if settled.await.is_err() {
                        // The lease went before it was settled.
                        return Err(Failure::Refused(Refusal::NotLeaseHolder { hint: None }));
                    }
                    registry.checked(&replica, read(&*engine))
                })
            }
        }
    }

    fn submit(
        &self,
        replica: &Replica,
        mut request: Request,
        locked_under: Option<LeaseId>,
    ) -> std::result::Result<Reply, Failure> {
        let mut checked = request.read_at;
        for _ in 0..VALIDATION_ATTEMPTS {
            let now = self.clock.monotonic_nanos();
            let submitted =
                replica.submit(request, locked_under, checked, || self.time.now(), now)?;
            match submitted {
                Submit::Queued(reply) => return Ok(reply),
                Submit::AskDisk(upto, same) => {
                    request = same;
                    let snapshot = self.engine.snapshot();
                    for span in &request.read_spans {
                        let changed = mvcc::span_changed_since(
                            &*snapshot,
                            &span.start,
                            &span.end,
                            request.read_at,
                        );
                        if self.registry.checked(replica, changed)? {
                            return Err(not_serializable().into());
                        }
                    }
                    checked = upto;
                }
            }
        }
        Err(not_serializable().into())
    }

    /// Waits for the outcome of what was submitted, or says why it was not.
    fn outcome(
        &self,
        txn: TxnId,
        submitted: std::result::Result<Reply, Failure>,
    ) -> Answer<Committed> {
        match submitted {
            Ok(reply) => MaybeReady::pending(async move {
                let outcome = reply.await.unwrap_or_else(|_| {
                    let gone = Error::internal("the store's loop is gone");
                    Err(unknown_outcome(&gone))
                });
                outcome.map_err(Failure::from)
            }),
            Err(failure) => {
                if matches!(failure, Failure::Failed(_)) {
                    self.locks.unlock_all([txn]);
                }
                MaybeReady::ready(Err(failure))
            }
        }
    }
}

/// Before anything is proposed: what is in the log must be applicable.
fn check_writes(
    replica: &Replica,
    writes: &[(Key, Option<Value>)],
) -> std::result::Result<(), Failure> {
    let unfit = |key: &Key| key.is_empty() || key.len() > mvcc::MAX_KEY_BYTES;
    if let Some((key, _)) = writes.iter().find(|(key, _)| unfit(key)) {
        return Err(Error::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            format!(
                "a key of {} bytes is outside of 1 to {} bytes",
                key.len(),
                mvcc::MAX_KEY_BYTES
            ),
        )
        .into());
    }
    if let (Some((first, _)), Some((last, _))) = (writes.first(), writes.last()) {
        replica.check_key(first)?;
        replica.check_key(last)?;
    }
    Ok(())
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

impl ShardServer for LocalShards {
    fn read_timestamp(&self, shards: &[(ShardId, u64)]) -> Answer<Timestamp> {
        let mut at = Timestamp::ZERO;
        for (shard, generation) in shards {
            let replica = ready!(self.replica(*shard));
            at = match shards {
                [_] => replica.safe_timestamp(),
                // Above all commits of all of them; those in flight are waited for by whoever reads.
                _ => at.max(self.time.now()),
            };
            ready!(self.holds_now(&replica));
            let descriptor = replica.descriptor();
            if descriptor.generation != *generation {
                return MaybeReady::ready(Err(Failure::Refused(Refusal::Mismatch {
                    newer: vec![(*descriptor).clone()],
                })));
            }
        }
        MaybeReady::ready(Ok(at))
    }

    fn get(&self, shard: ShardId, key: &[u8], at: Timestamp) -> Answer<Option<(Value, Timestamp)>> {
        let replica = ready!(self.replica(shard));
        ready!(replica.check_key(key));
        if at == Timestamp::MAX {
            let newest = mvcc::get(&*self.engine, key, at);
            let newest = self.registry.checked(&replica, newest);
            ready!(self.holds_now(&replica));
            return MaybeReady::ready(newest);
        }
        if at > replica.lease_end() {
            return MaybeReady::ready(Err(replica.not_holder()));
        }
        if at <= replica.safe_timestamp() {
            ready!(self.readable(at).map_err(Failure::from));
            let read = mvcc::get(&*self.engine, key, at);
            return MaybeReady::ready(self.registry.checked(&replica, read));
        }
        let key = Key::copy_from_slice(key);
        self.read_at(replica, at, move |engine| mvcc::get(engine, &key, at))
    }

    fn newest_version(&self, shard: ShardId, key: &[u8]) -> Answer<Option<Timestamp>> {
        let replica = ready!(self.replica(shard));
        ready!(replica.check_key(key));
        let newest = mvcc::newest_version(&*self.engine, key);
        let newest = self.registry.checked(&replica, newest);
        ready!(self.holds_now(&replica));
        MaybeReady::ready(newest)
    }

    fn scan(&self, shard: ShardId, request: ScanRequest) -> Answer<ScanPage> {
        if request.span.start >= request.span.end {
            return MaybeReady::ready(Ok(ScanPage::default()));
        }
        let replica = ready!(self.holder(shard, request.at));
        ready!(replica.check_span(&request.span.start, &request.span.end));
        self.read_at(replica, request.at, move |engine| {
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
        if let Err(failure) = replica.check_span(&span.start, &span.end) {
            return Some(Err(failure));
        }
        if let Err(error) = self.readable(request.at) {
            return Some(Err(error.into()));
        }
        // What must be waited for is not shown.
        if replica.raise(request.at).is_some() {
            return None;
        }
        let mut failed = None;
        let resume = mvcc::visit(
            &*self.engine.snapshot(),
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
            Some(replica) if upto <= replica.lease_end() => replica.changes(span, after, upto),
            _ => Changes::Unknown,
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
        ready!(replica.check_key(key));
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
            ready!(replica.check_key(first));
            ready!(replica.check_key(last));
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

    fn still_locked(&self, shard: ShardId, txn: TxnId, lease: LeaseId) -> Answer<bool> {
        let replica = ready!(self.replica(shard));
        let locked = replica.lease() == Some(lease) && self.locks.is_known(txn);
        ready!(self.holds_now(&replica));
        MaybeReady::ready(Ok(locked))
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
        let submitted = check_writes(&replica, &request.writes).and_then(|()| {
            let request = Request {
                txn,
                read_at: request.read_at,
                read_spans: request.read_spans,
                body: Body::Whole(request.writes),
            };
            self.submit(&replica, request, locked_under)
        });
        self.outcome(txn, submitted)
    }
}
