//! What a running statement may know: its snapshot, its catalog, its clock reading, its settings.

use crate::catalog::Catalog;
use crate::catalog::ids::RowIds;
use crate::cluster::{ClusterActions, ClusterStatus};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use txn::kv::{Key, ScanPage, ScanRequest, Shards, Span, Value};
use types::{Error, MaybeReady, Result, Row, SqlState, Timestamp};

/// A read-only view of the database at one timestamp, with the transaction's own writes on top.
/// Cheap to clone; outlives the statement that made it, so rows can stream from it.
#[derive(Clone)]
pub struct ReadView {
    pub shards: Arc<dyn Shards>,
    pub at: Timestamp,
    /// Shared by all views of one statement; `None` when the transaction wrote nothing.
    pub overlay: Option<txn::Overlay>,
    /// Spans read, for SERIALIZABLE; `None` at other levels.
    pub reads: Option<Arc<parking_lot::Mutex<Vec<Span>>>>,
    /// Keeps the snapshot's versions from being collected.
    pub guard: Option<Arc<dyn Send + Sync>>,
}

impl ReadView {
    pub fn get(&self, key: &[u8]) -> MaybeReady<Result<Option<Value>>> {
        if let Some(reads) = &self.reads {
            let start = Bytes::copy_from_slice(key);
            let mut end = Vec::with_capacity(key.len() + 1);
            end.extend_from_slice(key);
            end.push(0);
            reads.lock().push(Span {
                start,
                end: end.into(),
            });
        }
        if let Some(own) = self.overlay.as_ref().and_then(|o| o.get(key)) {
            return MaybeReady::ready(Ok(own));
        }
        match self.shards.get(key, self.at) {
            MaybeReady::Ready(result) => {
                MaybeReady::Ready(result.map(|r| r.map(|found| found.map(|(value, _)| value))))
            }
            MaybeReady::Pending(future) => MaybeReady::pending(async move {
                future.await.map(|found| found.map(|(value, _)| value))
            }),
        }
    }

    /// Whether the transaction's own writes change what a span holds.
    pub fn has_own_writes(&self, span: &Span) -> bool {
        self.overlay.as_ref().is_some_and(|own| own.touches(span))
    }

    /// The statement knows what a span holds without asking the shards.
    pub fn note_read(&self, span: &Span) {
        if let Some(reads) = &self.reads {
            reads.lock().push(span.clone());
        }
    }

    /// Shows the values of one page of rows, own writes merged in, in key order. Returns where the next
    /// page begins.
    pub async fn visit(
        &self,
        span: &Span,
        limit: usize,
        limit_bytes: usize,
        show: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
    ) -> Result<Option<Key>> {
        if !self.has_own_writes(span) {
            let request = ScanRequest {
                span: span.clone(),
                at: self.at,
                reverse: false,
                limit,
                limit_bytes,
            };
            if let Some(resume) = self.shards.visit(&request, &mut |_, value| show(value)) {
                self.note_read(span);
                return resume;
            }
        }
        let page = self.scan(span.clone(), false, limit, limit_bytes).await?;
        for (_, value, _) in &page.rows {
            show(value)?;
        }
        Ok(page.resume)
    }

    /// One page of committed rows with own writes merged in. Follow `resume` for the next.
    pub async fn scan(
        &self,
        span: Span,
        reverse: bool,
        limit: usize,
        limit_bytes: usize,
    ) -> Result<ScanPage> {
        if let Some(reads) = &self.reads {
            reads.lock().push(span.clone());
        }
        let mut span = span;
        loop {
            let page = self
                .shards
                .scan(ScanRequest {
                    span: span.clone(),
                    at: self.at,
                    reverse,
                    limit,
                    limit_bytes,
                })
                .await?;
            let page = match &self.overlay {
                Some(own) => own.merge(page, &span, reverse, limit, limit_bytes),
                None => page,
            };
            match &page.resume {
                // All rows of the page were deleted by this transaction: the next one, then.
                Some(resume) if page.rows.is_empty() && reverse => span.end = resume.clone(),
                Some(resume) if page.rows.is_empty() => span.start = resume.clone(),
                _ => return Ok(page),
            }
        }
    }
}

/// Set by a cancel request or `statement_timeout`; long loops look at it.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<CancelState>);

#[derive(Default)]
struct CancelState {
    canceled: AtomicBool,
    by_timeout: AtomicBool,
    notify: tokio::sync::Notify,
}

impl CancelToken {
    pub fn cancel(&self, by_timeout: bool) {
        self.0.by_timeout.store(by_timeout, Ordering::Relaxed);
        self.0.canceled.store(true, Ordering::Release);
        self.0.notify.notify_waiters();
    }

    /// Forgets an earlier cancellation: a new statement begins.
    pub fn reset(&self) {
        if self.is_canceled() {
            self.0.canceled.store(false, Ordering::Release);
        }
    }

    pub fn is_canceled(&self) -> bool {
        self.0.canceled.load(Ordering::Acquire)
    }

    pub fn check(&self) -> Result<()> {
        if self.is_canceled() {
            Err(self.error())
        } else {
            Ok(())
        }
    }

    pub fn error(&self) -> Error {
        let why = if self.0.by_timeout.load(Ordering::Relaxed) {
            "canceling statement due to statement timeout"
        } else {
            "canceling statement due to user request"
        };
        Error::new(SqlState::QUERY_CANCELED, why)
    }

    /// Completes when canceled.
    pub async fn canceled(&self) {
        loop {
            let notified = self.0.notify.notified();
            if self.is_canceled() {
                return;
            }
            notified.await;
        }
    }
}

/// Settings that change what expressions mean. A copy per statement.
#[derive(Clone, Debug)]
pub struct ExprSettings {
    /// IANA name, or an offset as `SET TIME ZONE` takes.
    pub time_zone: Arc<str>,
    pub user: Arc<str>,
    pub session_user: Arc<str>,
    pub database: Arc<str>,
    /// Schemas searched for unqualified names, `pg_catalog` implied first.
    pub search_path: Arc<[String]>,
    pub application_name: Arc<str>,
    pub backend_pid: i32,
    /// Unix microseconds: `now()` and `statement_timestamp()`.
    pub transaction_micros: i64,
    pub statement_micros: i64,
}

/// A statement's surroundings, for both roads and all functions.
#[derive(Clone)]
pub struct StatementContext {
    pub view: ReadView,
    pub settings: Arc<ExprSettings>,
    pub session: Arc<SessionContext>,
    /// The transaction may change nothing.
    pub read_only: bool,
    /// Of a statement of several changes: what the parts tell each other.
    pub parts: Option<Arc<StatementParts>>,
}

impl std::ops::Deref for StatementContext {
    type Target = SessionContext;

    fn deref(&self) -> &SessionContext {
        &self.session
    }
}

/// What stays from one statement of a session to the next. Most of it belongs to the instance: it is
/// behind a pointer of the session's own, so that statements on different cores do not fight over
/// the counters of shared ones.
pub struct SessionContext {
    pub catalog: Arc<Catalog>,
    pub cancel: CancelToken,
    pub env: types::env::Env,
    /// Functions with effects on the session or the store: sequences, advisory locks, `set_config`.
    pub effects: Arc<dyn SessionEffects>,
    /// `lock_timeout`: how long one lock may be waited for.
    pub lock_timeout_nanos: Option<u64>,
    /// Hands out the hidden ids of rows without primary key; one per instance.
    pub row_ids: Arc<RowIds>,
}

/// What the parts of one statement tell each other (`dml::with`).
#[derive(Default)]
pub struct StatementParts {
    returned: parking_lot::Mutex<Vec<Arc<Vec<Row>>>>,
    written: parking_lot::Mutex<BTreeSet<Key>>,
}

impl StatementParts {
    /// The rows that the part with this number returned; `None` if it has not run.
    pub fn returned(&self, part: usize) -> Option<Arc<Vec<Row>>> {
        self.returned.lock().get(part).cloned()
    }

    pub fn add_returned(&self, rows: Vec<Row>) {
        self.returned.lock().push(Arc::new(rows));
    }

    /// Notes that a row was written. `false` if the statement has written it before.
    pub fn write(&self, key: &Key) -> bool {
        self.written.lock().insert(key.clone())
    }
}

impl SessionContext {
    /// How to wait for a lock from now on.
    pub fn wait_policy(&self) -> txn::kv::WaitPolicy {
        let deadline_nanos = self
            .lock_timeout_nanos
            .map(|nanos| self.env.clock.monotonic_nanos().saturating_add(nanos));
        txn::kv::WaitPolicy::Wait { deadline_nanos }
    }
}

/// Effects a function call may have beyond its value. Called from either road, possibly on another
/// thread than the session's: implementations synchronise themselves.
pub trait SessionEffects: Send + Sync {
    fn nextval(&self, sequence: crate::catalog::descriptor::ObjectId) -> MaybeReady<Result<i64>>;
    fn currval(&self, sequence: crate::catalog::descriptor::ObjectId) -> Result<i64>;
    fn lastval(&self) -> Result<i64>;
    fn setval(
        &self,
        sequence: crate::catalog::descriptor::ObjectId,
        value: i64,
        is_called: bool,
    ) -> MaybeReady<Result<i64>>;
    /// A sequence's last value and whether it was given, when the instance has it in memory.
    fn sequence_state(
        &self,
        _sequence: crate::catalog::descriptor::ObjectId,
    ) -> Option<(i64, bool)> {
        None
    }
    /// Who knows the cluster, if there is one.
    fn cluster(&self) -> Option<Arc<dyn ClusterStatus>> {
        None
    }
    /// Who acts on the cluster, if there is one.
    fn cluster_actions(&self) -> Option<Arc<dyn ClusterActions>> {
        None
    }
    /// `current_setting`; `None` when unknown.
    fn setting(&self, name: &str) -> Option<String>;

    /// The same as SHOW prints it, times with a unit.
    fn shown_setting(&self, name: &str) -> Option<String> {
        self.setting(name)
    }
    /// `set_config`.
    fn set_setting(&self, name: &str, value: &str, local: bool) -> Result<String>;
}
