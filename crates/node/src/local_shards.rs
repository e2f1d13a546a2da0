//! The shards whose lease is on this store, as coordinators see them.
//!
//! Reads run on the caller's task, straight on the engine: no queue, no hop. Locks are taken in the
//! `LockManager`. A commit is validated, sequenced and queued in one step,
//! and answered by the log writer.

use crate::lock_manager::LockManager;
use crate::pipeline::{Pipeline, Submit, not_serializable, unknown_outcome};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use storage::{Engine, mvcc};
use txn::kv::{
    Changes, CommitRequest, Key, LockMode, ScanPage, ScanRequest, Shards, Span, TxnId, Value,
    Visitor, WaitPolicy,
};
use types::env::Clock;
use types::{Error, MaybeReady, Result, SqlState, Timestamp};

/// PostgreSQL's `snapshot_too_old`.
const SNAPSHOT_TOO_OLD: SqlState = SqlState(*b"72000");

/// How often a SERIALIZABLE commit asks the disk again because others committed faster than it was
/// checked. Each time the part left to check is only what is new.
const VALIDATION_ATTEMPTS: usize = 8;

/// See the module.
pub struct LocalShards {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) locks: Arc<LockManager>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Reads below it are refused: their history may be gone.
    pub(crate) gc_threshold: AtomicU64,
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

    /// Damaged data stops the store: what else is damaged is unknown.
    fn checked<T>(&self, result: storage::Result<T>) -> Result<T> {
        result.map_err(|error| {
            let corrupt = matches!(error, storage::Error::Corrupt(_));
            let error = Error::from(error);
            if corrupt {
                self.pipeline.fail(error.clone());
            }
            error
        })
    }

    fn submit(&self, mut request: CommitRequest) -> Result<crate::pipeline::Reply> {
        // Before anything is proposed: what is in the log must be applicable.
        if let Some((key, _)) = request
            .writes
            .iter()
            .find(|(key, _)| key.is_empty() || key.len() > mvcc::MAX_KEY_BYTES)
        {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!(
                    "a key of {} bytes is outside of 1 to {} bytes",
                    key.len(),
                    mvcc::MAX_KEY_BYTES
                ),
            ));
        }
        let wall_millis = u64::try_from(self.clock.wall_micros() / 1000).unwrap_or(0);
        let mut checked = request.read_at;
        for _ in 0..VALIDATION_ATTEMPTS {
            let now = self.clock.monotonic_nanos();
            match self.pipeline.submit(request, checked, wall_millis, now)? {
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
                        if self.checked(changed)? {
                            return Err(not_serializable());
                        }
                    }
                    checked = upto;
                }
            }
        }
        Err(not_serializable())
    }
}

impl Shards for LocalShards {
    fn read_timestamp(&self) -> Timestamp {
        self.pipeline.safe_timestamp()
    }

    fn get(&self, key: &[u8], at: Timestamp) -> MaybeReady<Result<Option<(Value, Timestamp)>>> {
        MaybeReady::ready(
            self.readable(at)
                .and_then(|()| self.checked(mvcc::get(&*self.engine, key, at))),
        )
    }

    fn newest_version(&self, key: &[u8]) -> MaybeReady<Result<Option<Timestamp>>> {
        MaybeReady::ready(self.checked(mvcc::newest_version(&*self.engine, key)))
    }

    fn changes(&self, span: &Span, after: Timestamp, upto: Timestamp) -> Changes {
        self.pipeline.changes(span, after, upto)
    }

    fn scan(&self, request: ScanRequest) -> MaybeReady<Result<ScanPage>> {
        if let Err(error) = self.readable(request.at) {
            return MaybeReady::ready(Err(error));
        }
        if request.span.start >= request.span.end {
            return MaybeReady::ready(Ok(ScanPage::default()));
        }
        let page = mvcc::scan(
            &*self.engine.snapshot(),
            &request.span.start,
            &request.span.end,
            request.at,
            request.reverse,
            request.limit,
            request.limit_bytes,
        );
        MaybeReady::ready(self.checked(page).map(|page| ScanPage {
            rows: page.rows,
            resume: page.resume,
        }))
    }

    fn visit(&self, request: &ScanRequest, show: &mut Visitor<'_>) -> Option<Result<Option<Key>>> {
        if let Err(error) = self.readable(request.at) {
            return Some(Err(error));
        }
        if request.span.start >= request.span.end {
            return Some(Ok(None));
        }
        let mut failed = None;
        let resume = mvcc::visit(
            &*self.engine.snapshot(),
            &request.span.start,
            &request.span.end,
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
            Some(error) => Err(error),
            None => self.checked(resume),
        })
    }

    fn lock(
        &self,
        txn: TxnId,
        key: &[u8],
        mode: LockMode,
        policy: WaitPolicy,
    ) -> MaybeReady<Result<bool>> {
        self.locks.lock(txn, key, mode, policy)
    }

    fn lock_fresh(&self, txn: TxnId, keys: &Arc<[Key]>) -> MaybeReady<Result<bool>> {
        // Locks first: whoever wrote one of the keys has released it after that was applied.
        let fresh = self.locks.lock_fresh(txn, keys).and_then(|locked| {
            Ok(locked && self.checked(mvcc::none_written(&*self.engine.snapshot(), keys))?)
        });
        MaybeReady::ready(fresh)
    }

    fn unlock(&self, txn: TxnId, keys: &[Key]) {
        self.locks.unlock(txn, keys);
    }

    fn unlock_all(&self, txn: TxnId) {
        self.locks.unlock_all([txn]);
    }

    fn commit(&self, request: CommitRequest) -> MaybeReady<Result<Timestamp>> {
        let txn = request.txn;
        match self.submit(request) {
            Ok(reply) => MaybeReady::pending(async move {
                reply.await.unwrap_or_else(|_| {
                    Err(unknown_outcome(&Error::internal("the log writer is gone")))
                })
            }),
            Err(error) => {
                self.locks.unlock_all([txn]);
                MaybeReady::ready(Err(error))
            }
        }
    }
}
