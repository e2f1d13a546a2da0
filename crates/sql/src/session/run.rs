//! Carrying out one statement.

use super::Session;
use super::prepared::{Plan, Prepared};
use super::retry::Place;
use super::transaction::{Active, BlockState};
use crate::catalog::descriptor::Descriptor;
use crate::catalog::store;
use crate::context::{ReadView, StatementContext};
use crate::dml;
use crate::response::{Response, ResultColumn, RowSet, RowSource, RowsTag};
use crate::statement::Statement;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use txn::kv::{Key, LockMode, Point, ReadScope, Span, WaitPolicy};
use types::{Datum, Error, Result, SqlState, Timestamp};

/// Times a statement is planned again because the catalog changed before it had its tables locked.
const MAX_REPLANS: usize = 10;

/// The one row that a statement is about.
struct PointKey {
    key: Key,
    lock: Option<LockMode>,
}

impl PointKey {
    fn point(&self) -> Point<'_> {
        Point {
            key: &self.key,
            lock: self.lock,
        }
    }

    fn span(&self) -> Span {
        let mut end = self.key.to_vec();
        end.push(0);
        Span {
            start: self.key.clone(),
            end: end.into(),
        }
    }
}

impl Session {
    /// One try of [`Session::execute_prepared`]. After an error the transaction may be open still.
    pub(super) async fn execute_once(
        &mut self,
        prepared: Arc<Prepared>,
        params: &[Datum],
        place: Place,
        deadline: Option<u64>,
    ) -> Result<Response> {
        let described = place.described.then(|| prepared.columns.clone()).flatten();
        let response = self.execute_inner(prepared, params, deadline).await?;
        if let (Response::Rows { set, .. }, Some(described)) = (&response, &described)
            && !same_types(&set.columns, described)
        {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cached plan must not change result type",
            ));
        }
        // COPY FROM goes on with its data.
        if place.last && !matches!(response, Response::CopyIn(_)) {
            self.end_implicit().await?;
        }
        Ok(response)
    }

    async fn execute_inner(
        &mut self,
        prepared: Arc<Prepared>,
        params: &[Datum],
        deadline: Option<u64>,
    ) -> Result<Response> {
        if self
            .active
            .as_ref()
            .is_some_and(|active| active.state == BlockState::Failed)
            && !prepared.statement.ends_transaction()
        {
            return Err(Error::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        let Some(deadline) = deadline else {
            return self.execute_cancelable(prepared, params).await;
        };
        let clock = &self.instance.env.clock;
        let left = deadline.saturating_sub(clock.monotonic_nanos());
        let timer = clock.sleep(Duration::from_nanos(left));
        let cancel = self.shared.cancel.clone();
        let run = self.execute_cancelable(prepared, params);
        futures::pin_mut!(run);
        match futures::future::select(run, timer).await {
            futures::future::Either::Left((result, _)) => result,
            futures::future::Either::Right((_, run)) => {
                cancel.cancel(true);
                run.await
            }
        }
    }

    /// Runs until done or canceled, whichever is first. What is dropped in the middle has only
    /// buffered writes and queued for locks, both undone by the end of the transaction.
    async fn execute_cancelable(
        &mut self,
        prepared: Arc<Prepared>,
        params: &[Datum],
    ) -> Result<Response> {
        let commits = prepared.statement.ends_transaction();
        let cancel = self.shared.cancel.clone();
        let run = self.dispatch(prepared, params);
        if commits {
            return run.await;
        }
        futures::pin_mut!(run);
        let canceled = cancel.canceled();
        futures::pin_mut!(canceled);
        match futures::future::select(run, canceled).await {
            futures::future::Either::Left((result, _)) => result,
            futures::future::Either::Right(_) => Err(cancel.error()),
        }
    }

    async fn dispatch(&mut self, prepared: Arc<Prepared>, params: &[Datum]) -> Result<Response> {
        match &prepared.plan {
            Plan::Query { .. } => self.run_query(prepared, params).await,
            Plan::Change(_) | Plan::With(_) => self.run_change(prepared, params).await,
            Plan::Other => self.run_other(&prepared).await,
        }
    }

    pub(super) async fn run_query(
        &mut self,
        prepared: Arc<Prepared>,
        params: &[Datum],
    ) -> Result<Response> {
        self.ensure_active();
        let (prepared, params) = self.begin_planned(prepared, params).await?;
        let params = &params[..];
        let Plan::Query { analyzed, direct } = &prepared.plan else {
            return Err(Error::internal("a query was planned as something else"));
        };
        if let Some(direct) = direct {
            let ctx = self.statement_context(false)?;
            let active = self.active_mut()?;
            if let Some(found) = direct.execute_in(&mut active.txn, &ctx, params).await? {
                let columns = Arc::clone(&analyzed.columns);
                let set = RowSet {
                    columns,
                    rows: RowSource::Ready(found),
                };
                return Ok(Response::Rows {
                    set,
                    tag: RowsTag::Counted("SELECT"),
                });
            }
        }
        if !analyzed.locking.is_empty() {
            return Err(
                Error::unsupported("FOR UPDATE or FOR SHARE in this kind of query")
                    .hint("Lock rows of one table by its primary key or an index."),
            );
        }
        let ctx = self.statement_context(true)?;
        let set = self
            .instance
            .runtime
            .execute(analyzed, params, ctx.clone())
            .await?;
        let rows = match self.needs_reads_noted() {
            // What is read must be known before the transaction goes on.
            true => RowSource::Ready(set.collect().await?),
            false => set.rows,
        };
        self.note_reads(&ctx)?;
        let columns = Arc::clone(&analyzed.columns);
        Ok(Response::Rows {
            set: RowSet { columns, rows },
            tag: RowsTag::Counted("SELECT"),
        })
    }

    pub(super) async fn run_change(
        &mut self,
        mut prepared: Arc<Prepared>,
        params: &[Datum],
    ) -> Result<Response> {
        self.ensure_active();
        self.refuse_if_read_only(prepared.statement.command())?;
        let mut params = Cow::Borrowed(params);
        for attempt in 0..MAX_REPLANS {
            (prepared, params) = self.current_with(prepared, params).await?;
            let lock_keys: SmallVec<[&[u8]; 4]> = match &prepared.plan {
                Plan::Change(plan) => plan.lock_keys().collect(),
                Plan::With(plan) => plan.lock_keys().collect(),
                _ => return Err(Error::internal("a change was planned as something else")),
            };
            // Definitions wait for writers: once the lock is held, the catalog cannot change
            // under the plan, but it may have before.
            let policy = self.wait_policy();
            if attempt == 0 {
                let row = self.point_of(&prepared, &params);
                let scope = ReadScope::Spans(prepared.spans());
                let row = row.as_ref().map(PointKey::point);
                let txn = &mut self.active_mut()?.txn;
                txn.begin_with(&lock_keys, policy, scope, row).await?;
                self.catch_up().await?;
            } else {
                let txn = &mut self.active_mut()?.txn;
                for key in lock_keys {
                    txn.lock(key, LockMode::KeyShare, policy).await?;
                }
                match txn.is_scoped() {
                    // The plan may be another one by now, and its tables, too.
                    true => {
                        self.restart_statement().await?;
                    }
                    false => self.catch_up().await?,
                }
            }
            if !self.is_current(&prepared) || !self.fits_snapshot(&prepared).await? {
                continue;
            }
            let ctx = self.statement_context(false)?;
            let instance = Arc::clone(&self.instance);
            let active = self.active_mut()?;
            let (txn, runtime) = (&mut active.txn, &instance.runtime);
            let mut result = match &prepared.plan {
                Plan::With(plan) => plan.execute(txn, ctx.clone(), runtime, &params).await?,
                Plan::Change(plan) => plan.execute(txn, &ctx, runtime, &params).await?,
                _ => return Err(Error::internal("a change was planned as something else")),
            };
            active.deferred.append(std::mem::take(&mut result.deferred));
            self.note_reads(&ctx)?;
            return Ok(change_response(&prepared, result));
        }
        Err(changed_too_often())
    }

    /// Takes the snapshot of a query, and gives its plan for that.
    async fn begin_planned<'p>(
        &mut self,
        mut prepared: Arc<Prepared>,
        params: &'p [Datum],
    ) -> Result<(Arc<Prepared>, Cow<'p, [Datum]>)> {
        let mut params = Cow::Borrowed(params);
        match self.point_of(&prepared, &params) {
            Some(row) => {
                let policy = self.wait_policy();
                let scope = [row.span()];
                let scope = ReadScope::Spans(&scope);
                let txn = &mut self.active_mut()?.txn;
                txn.begin_with(&[], policy, scope, Some(row.point()))
                    .await?;
                self.catch_up().await?;
            }
            None => self.begin_in(ReadScope::Spans(prepared.spans())).await?,
        }
        for _ in 0..MAX_REPLANS {
            let begun_for = Arc::clone(&prepared);
            (prepared, params) = self.current_with(prepared, params).await?;
            if !Arc::ptr_eq(&begun_for, &prepared) && self.active_mut()?.txn.is_scoped() {
                // Another plan, and perhaps other tables than the snapshot is for.
                self.restart_statement().await?;
                continue;
            }
            if self.fits_snapshot(&prepared).await? {
                return Ok((prepared, params));
            }
        }
        Err(changed_too_often())
    }

    /// Whether the snapshot holds what the plan's catalog promises: an index that was committed after it
    /// has no entries in it. `false`: the statement has a newer snapshot now. An error if it must keep
    /// the one it has, and a table of the plan was changed so since.
    async fn fits_snapshot(&mut self, prepared: &Prepared) -> Result<bool> {
        let snapshot = self.active_mut()?.txn.read_timestamp()?;
        if prepared.catalog().newest() <= snapshot {
            return Ok(true);
        }
        if self.restart_statement().await? {
            return Ok(false);
        }
        let shards = self.instance.coordinator.shards();
        for (oid, version) in prepared.tables() {
            let Some(table) = prepared.catalog().table(oid) else {
                continue;
            };
            // A table that was not there yet has no rows for this snapshot.
            let before = store::read(shards, oid, snapshot).await?;
            let Some(Descriptor::Table(before)) = before else {
                continue;
            };
            let known = |id: u16| before.indexes.iter().any(|index| index.id == id);
            let same_rows = before.data_id == table.data_id;
            let same = same_rows && table.indexes.iter().all(|index| known(index.id));
            if before.version != version && !same {
                return Err(Error::new(
                    SqlState::SERIALIZATION_FAILURE,
                    format!(
                        "could not serialize access due to concurrent definition of table \"{}\"",
                        table.name
                    ),
                ));
            }
        }
        Ok(true)
    }

    /// A transaction is open: the block's, or one for this statement or pipeline.
    pub(super) fn ensure_active(&mut self) {
        if self.active.is_none() {
            self.begin(BlockState::Implicit);
        }
    }

    pub(super) fn begin(&mut self, state: BlockState) {
        self.refresh_settings();
        let (isolation, read_only) = (self.kept.default_isolation, self.kept.default_read_only);
        let txn = self.instance.coordinator.begin(isolation, read_only);
        let started = self.expr_settings.statement_micros;
        self.set_transaction_time(started);
        self.active = Some(Box::new(Active::new(txn, state, started)));
    }

    pub(super) fn active_mut(&mut self) -> Result<&mut Active> {
        match &mut self.active {
            Some(active) => Ok(active),
            None => Err(Error::internal("no transaction is open")),
        }
    }

    /// Ends an implicit transaction; a block stays.
    pub(super) async fn end_implicit(&mut self) -> Result<()> {
        if self
            .active
            .as_ref()
            .is_some_and(|active| active.state == BlockState::Implicit)
        {
            self.commit_active().await?;
        }
        Ok(())
    }

    pub(super) async fn commit_active(&mut self) -> Result<()> {
        if let Err(error) = self.deferred_checks().await {
            self.abort();
            return Err(error);
        }
        let Some(active) = self.active.take() else {
            return Ok(());
        };
        let result = active.commit(&self.instance).await;
        self.after_transaction(result.is_ok());
        result
    }

    async fn deferred_checks(&mut self) -> Result<()> {
        let checks = std::mem::take(&mut self.active_mut()?.deferred);
        if checks.is_empty() {
            return Ok(());
        }
        self.begin_statement().await?;
        let ctx = self.statement_context(false)?;
        dml::run_deferred_checks(checks, &mut self.active_mut()?.txn, &ctx).await
    }

    /// Takes the statement's snapshot, and sees to it that the catalog holds all definitions that were
    /// committed before it was taken, or before the locks that the transaction holds were granted.
    pub(super) async fn begin_statement(&mut self) -> Result<()> {
        self.begin_in(ReadScope::All).await
    }

    /// The same for a statement that reads nothing outside of `scope`.
    async fn begin_in(&mut self, scope: ReadScope<'_>) -> Result<()> {
        let active = self.active_mut()?;
        active.txn.begin_statement(scope).await?;
        self.catch_up().await
    }

    /// The one row that a statement is about, where it helps to know.
    fn point_of(&mut self, prepared: &Prepared, params: &[Datum]) -> Option<PointKey> {
        if !prepared.is_direct() {
            return None;
        }
        let shards = self.instance.coordinator.shards();
        let asks = |span: &Span| shards.asks_for_points(span);
        if !prepared.spans().iter().any(asks) {
            return None;
        }
        // Nothing is read, so it does not matter when.
        let view = ReadView {
            shards: Arc::clone(shards),
            at: Timestamp::ZERO,
            overlay: None,
            reads: None,
            guard: None,
        };
        let ctx = self.context(view);
        let (key, lock) = match &prepared.plan {
            Plan::Query { direct, .. } => direct.as_ref()?.point(params, &ctx)?,
            Plan::Change(plan) => plan.point(params, &ctx)?,
            Plan::With(_) | Plan::Other => return None,
        };
        let key = key.into();
        Some(PointKey { key, lock })
    }

    /// The same for the statement's next attempt. `false`: earlier statements have used the snapshot, so
    /// it stays.
    async fn restart_statement(&mut self) -> Result<bool> {
        let restarted = self.active_mut()?.txn.restart_statement().await?;
        self.catch_up().await?;
        Ok(restarted)
    }

    /// Brings the catalog up to what the shards' answers have told of.
    async fn catch_up(&mut self) -> Result<()> {
        self.instance.catch_up().await?;
        if let Some(active) = &mut self.active
            && let Some(working) = &mut active.working
        {
            working.catch_up(&self.instance.catalog);
        }
        Ok(())
    }

    /// Brings the catalog up to now, for names that are looked up without a statement's snapshot.
    pub(super) async fn see_definitions(&mut self) -> Result<()> {
        self.instance.see_definitions().await?;
        self.catch_up().await
    }

    /// The surroundings of the statement that has begun. `streams`: the view may outlive the
    /// transaction, so it holds the snapshot itself.
    pub(super) fn statement_context(&mut self, streams: bool) -> Result<StatementContext> {
        let shards = Arc::clone(self.instance.coordinator.shards());
        let active = self.active_mut()?;
        let at = active.txn.read_timestamp()?;
        let reads = active
            .txn
            .notes_reads()
            .then(|| Arc::new(Mutex::new(Vec::new())));
        let guard: Option<Arc<dyn Send + Sync>> = match streams {
            true => Some(Arc::new(active.txn.hold_snapshot()?)),
            false => None,
        };
        let view = ReadView {
            shards,
            at,
            overlay: active.txn.overlay(),
            reads,
            guard,
        };
        Ok(self.context(view))
    }

    fn needs_reads_noted(&self) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| active.txn.notes_reads())
    }

    /// Tells the transaction what was read through the view.
    fn note_reads(&mut self, ctx: &StatementContext) -> Result<()> {
        let Some(reads) = &ctx.view.reads else {
            return Ok(());
        };
        let spans = std::mem::take(&mut *reads.lock());
        self.active_mut()?.txn.note_reads(spans)
    }

    pub(super) fn wait_policy(&self) -> WaitPolicy {
        let deadline_nanos = self.kept.lock_timeout.map(|timeout| {
            let now = self.instance.env.clock.monotonic_nanos();
            now.saturating_add(timeout.as_nanos() as u64)
        });
        WaitPolicy::Wait { deadline_nanos }
    }

    pub(super) fn is_read_only(&self) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| active.txn.is_read_only())
    }

    pub(super) fn refuse_if_read_only(&self, command: &str) -> Result<()> {
        if self.is_read_only() {
            return Err(Error::new(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                format!("cannot execute {command} in a read-only transaction"),
            ));
        }
        Ok(())
    }

    pub(super) fn begin_statement_clock(&mut self) {
        self.refresh_settings();
        self.shared.cancel.reset();
        let now = self.instance.env.clock.wall_micros();
        Arc::make_mut(&mut self.expr_settings).statement_micros = now;
        if self.active.is_none() {
            self.set_transaction_time(now);
        }
    }
}

/// Whether a client that was told of some columns can read the others.
fn same_types(a: &Arc<[ResultColumn]>, b: &Arc<[ResultColumn]>) -> bool {
    let (ours, theirs) = (a.iter(), b.iter().map(|column| &column.sql_type));
    Arc::ptr_eq(a, b) || ours.map(|column| &column.sql_type).eq(theirs)
}

fn changed_too_often() -> Error {
    Error::new(
        SqlState::SERIALIZATION_FAILURE,
        "the tables of this statement are being changed too often",
    )
}

fn change_response(prepared: &Prepared, result: dml::DmlResult) -> Response {
    let insert = prepared.statement.command() == "INSERT";
    match &prepared.columns {
        Some(columns) => {
            let tag = match prepared.statement.command() {
                "INSERT" => RowsTag::Insert,
                command => RowsTag::Counted(command),
            };
            let rows = RowSource::Ready(result.rows);
            Response::Rows {
                set: RowSet {
                    columns: Arc::clone(columns),
                    rows,
                },
                tag,
            }
        }
        None if insert => Response::Complete(format!("INSERT 0 {}", result.affected)),
        None => {
            let command = prepared.statement.command();
            Response::Complete(format!("{command} {}", result.affected))
        }
    }
}

impl Statement {
    /// Is carried out by a plan.
    pub(super) fn is_planned(&self) -> bool {
        matches!(
            self,
            Statement::Query(_) | Statement::Change(_) | Statement::ChangeWith(_)
        )
    }

    /// Is carried out from its syntax, and looks names up before its snapshot is taken.
    pub(super) fn looks_names_up(&self) -> bool {
        matches!(
            self,
            Statement::Execute { .. }
                | Statement::Declare { .. }
                | Statement::Copy(_)
                | Statement::Explain { .. }
                | Statement::Maintenance { .. }
                | Statement::LockTable { .. }
                | Statement::CreateTableAs { .. }
        )
    }

    /// May not run inside of a transaction block.
    pub(super) fn prevents_block(&self) -> Option<&'static str> {
        match self {
            Statement::Maintenance { tag: "VACUUM", .. } => Some("VACUUM"),
            Statement::Discard(crate::statement::Discard::All) => Some("DISCARD ALL"),
            _ => None,
        }
    }
}
