//! Direct queries: steps over the rows of one table, and running them.

use super::access::AccessPath;
use super::cursor::Reader;
use super::steps::{Step, limits, project, sort_tagged};
use crate::context::{ReadView, StatementContext};
use crate::query::planner::LockWait;
use crate::table_codec::TableCodec;
use txn::kv::{Key, LockMode, Value, WaitPolicy};
use txn::{LockedRow, Transaction};
use types::{Datum, Result, Row};

/// Rows a direct query may read before it leaves the statement to DataFusion, whose work per row is
/// less once it has started.
const MAX_ROWS_READ: usize = 4096;

/// How rows are to be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowLock {
    pub mode: LockMode,
    pub wait: LockWait,
}

/// The rows to start from.
#[expect(
    clippy::large_enum_variant,
    reason = "one per plan, and nearly all are the large one"
)]
pub(super) enum Source {
    /// One row of no columns: SELECT without FROM.
    OneRow,
    Table {
        path: AccessPath,
        /// Positions that the steps read.
        wanted: Vec<usize>,
    },
}

/// A compiled query. Shared by executions: parameters, settings and snapshot come with each.
pub struct DirectQuery {
    pub(super) source: Source,
    pub(super) steps: Vec<Step>,
    /// How many of the steps work row by row.
    pub(super) streaming: usize,
    /// The steps are one projection to these columns, and nothing else.
    pub(super) plain: Option<Vec<usize>>,
    pub(super) lock: Option<RowLock>,
    pub(super) may_leave: bool,
}

impl DirectQuery {
    /// The query locks rows, so it needs a transaction: [`DirectQuery::execute_in`].
    pub fn locks_rows(&self) -> bool {
        self.lock.is_some()
    }

    /// The key of the one row that it reads, and how it locks that. `None`: there is no such key, or none can be made of
    /// these parameters, or it does not wait for its lock.
    pub fn point(
        &self,
        params: &[Datum],
        ctx: &StatementContext,
    ) -> Option<(Vec<u8>, Option<LockMode>)> {
        let Source::Table { path, .. } = &self.source else {
            return None;
        };
        let waits = |lock: &RowLock| matches!(lock.wait, LockWait::Block);
        if !self.lock.as_ref().is_none_or(waits) {
            return None;
        }
        let mode = self.lock.as_ref().map(|lock| lock.mode);
        Some((path.point_ahead(params, ctx)?, mode))
    }

    /// Runs at a snapshot. `None`: more rows than this road is for; run the plan by DataFusion.
    pub async fn execute(
        &self,
        view: &ReadView,
        ctx: &StatementContext,
        params: &[Datum],
    ) -> Result<Option<Vec<Row>>> {
        self.run(&mut Reader::View(view), ctx, params).await
    }

    /// Runs inside a transaction, so that it sees its own writes.
    pub async fn execute_in(
        &self,
        transaction: &mut Transaction,
        ctx: &StatementContext,
        params: &[Datum],
    ) -> Result<Option<Vec<Row>>> {
        if let Some(lock) = self.lock {
            return self
                .run_locking(transaction, ctx, params, lock)
                .await
                .map(Some);
        }
        self.run(&mut Reader::Transaction(transaction), ctx, params)
            .await
    }

    async fn run(
        &self,
        reader: &mut Reader<'_>,
        ctx: &StatementContext,
        params: &[Datum],
    ) -> Result<Option<Vec<Row>>> {
        let Source::Table { path, .. } = &self.source else {
            return self.finish(vec![Vec::new()], 0, ctx, params).map(Some);
        };
        if let Some(key) = path.primary_point(params, ctx) {
            let found = match key? {
                Some(key) => reader.get(&key).await?,
                None => None,
            };
            let rows = match found {
                Some(value) => self.row(&value, path, ctx, params)?.into_iter().collect(),
                None => Vec::new(),
            };
            if self.streaming == self.steps.len() {
                return Ok(Some(rows));
            }
            return self.finish(rows, self.streaming, ctx, params).map(Some);
        }
        let enough = self.rows_needed(self.streaming, ctx, params)?;
        let exact = enough.filter(|_| path.residual.is_none() && self.only_projects());
        let mut cursor = path.open(params, ctx, exact)?;
        let mut rows = Vec::new();
        while enough.is_none_or(|enough| rows.len() < enough) {
            let Some((_, value)) = cursor.next(reader).await? else {
                break;
            };
            if let Some(row) = self.row(&value, path, ctx, params)? {
                rows.push(row);
            }
            if cursor.rows_read() % 256 == 0 {
                ctx.cancel.check()?;
                if self.may_leave && cursor.rows_read() >= MAX_ROWS_READ {
                    return Ok(None);
                }
            }
        }
        self.finish(rows, self.streaming, ctx, params).map(Some)
    }

    /// Locks row after row in the order of the result until LIMIT is met, as PostgreSQL does, so that
    /// rows beyond it stay free for others.
    async fn run_locking(
        &self,
        transaction: &mut Transaction,
        ctx: &StatementContext,
        params: &[Datum],
        lock: RowLock,
    ) -> Result<Vec<Row>> {
        let Source::Table { path, .. } = &self.source else {
            return Ok(Vec::new());
        };
        let mut rows = Vec::new();
        let Some(Step::Sort(keys)) = self.steps.get(self.streaming) else {
            let enough = self.rows_needed(self.streaming, ctx, params)?;
            let mut cursor = path.open(params, ctx, enough)?;
            while enough.is_none_or(|enough| rows.len() < enough) {
                let next = cursor.next(&mut Reader::Transaction(transaction)).await?;
                let Some((key, value)) = next else { break };
                if self.row(&value, path, ctx, params)?.is_some() {
                    let locked = self.lock_row(transaction, path, &key, ctx, params, lock);
                    rows.extend(locked.await?);
                }
            }
            return self.finish(rows, self.streaming, ctx, params);
        };
        let mut found = Vec::new();
        let mut cursor = path.open(params, ctx, None)?;
        while let Some((key, value)) = cursor.next(&mut Reader::Transaction(transaction)).await? {
            if let Some(row) = self.row(&value, path, ctx, params)? {
                found.push((key, row));
            }
            ctx.cancel.check()?;
        }
        let enough = self.rows_needed(self.streaming + 1, ctx, params)?;
        for (key, _) in sort_tagged(found, keys, params, ctx)? {
            if enough.is_some_and(|enough| rows.len() >= enough) {
                break;
            }
            let locked = self.lock_row(transaction, path, &key, ctx, params, lock);
            rows.extend(locked.await?);
        }
        self.finish(rows, self.streaming + 1, ctx, params)
    }

    /// Locks a row and gives its newest version through the streaming steps; `None` if it is to be
    /// skipped, gone, or no longer meets the condition.
    async fn lock_row(
        &self,
        transaction: &mut Transaction,
        path: &AccessPath,
        key: &Key,
        ctx: &StatementContext,
        params: &[Datum],
        lock: RowLock,
    ) -> Result<Option<Row>> {
        let policy = match lock.wait {
            LockWait::Block => ctx.wait_policy(),
            LockWait::NoWait => WaitPolicy::NoWait,
            LockWait::SkipLocked => WaitPolicy::SkipLocked,
        };
        let newest = match transaction.lock_and_get(key, lock.mode, policy).await? {
            LockedRow::Skipped => None,
            LockedRow::Unchanged(found) => found,
            LockedRow::Changed(Some(value)) if matches(path, &value, params, ctx)? => Some(value),
            LockedRow::Changed(_) => None,
        };
        match newest {
            Some(value) => self.row(&value, path, ctx, params),
            None => Ok(None),
        }
    }

    /// How many rows the step at `from` must be given, if a LIMIT comes next after steps that keep their
    /// number.
    fn rows_needed(
        &self,
        from: usize,
        ctx: &StatementContext,
        params: &[Datum],
    ) -> Result<Option<usize>> {
        let mut next = self.steps[from..].iter();
        match next.find(|step| !matches!(step, Step::Project(_))) {
            Some(Step::Limit { skip, fetch }) => {
                let (skip, fetch) = limits(skip.as_ref(), fetch.as_ref(), params, ctx)?;
                Ok(fetch.map(|fetch| fetch.saturating_add(skip)))
            }
            _ => Ok(None),
        }
    }

    fn only_projects(&self) -> bool {
        let streaming = &self.steps[..self.streaming];
        streaming
            .iter()
            .all(|step| matches!(step, Step::Project(_)))
    }

    /// A stored row through the residual condition and the streaming steps.
    fn row(
        &self,
        value: &Value,
        path: &AccessPath,
        ctx: &StatementContext,
        params: &[Datum],
    ) -> Result<Option<Row>> {
        if let Some(columns) = &self.plain {
            return path.codec.decode_row(value, columns).map(Some);
        }
        let Source::Table { wanted, .. } = &self.source else {
            return Ok(None);
        };
        let mut row = decode_wanted(&path.codec, value, wanted)?;
        if let Some(residual) = &path.residual
            && !residual.holds(&row, params, ctx)?
        {
            return Ok(None);
        }
        for step in &self.steps[..self.streaming] {
            match step {
                Step::Filter(condition) if !condition.holds(&row, params, ctx)? => {
                    return Ok(None);
                }
                Step::Project(columns) => row = project(columns, &row, params, ctx)?,
                _ => {}
            }
        }
        Ok(Some(row))
    }

    fn finish(
        &self,
        mut rows: Vec<Row>,
        done: usize,
        ctx: &StatementContext,
        params: &[Datum],
    ) -> Result<Vec<Row>> {
        for step in &self.steps[done..] {
            step.apply(&mut rows, params, ctx)?;
        }
        Ok(rows)
    }
}

/// A row by position with only these columns read; the others are NULL.
pub fn decode_wanted(codec: &TableCodec, value: &[u8], wanted: &[usize]) -> Result<Row> {
    let view = codec.view(value)?;
    let mut row = vec![Datum::Null; codec.table().columns.len()];
    for position in wanted {
        row[*position] = codec.column(&view, *position)?;
    }
    Ok(row)
}

/// Whether a stored row meets the path's whole condition.
pub fn matches(
    path: &AccessPath,
    value: &[u8],
    params: &[Datum],
    ctx: &StatementContext,
) -> Result<bool> {
    match &path.condition {
        None => Ok(true),
        Some(condition) => {
            let row = path.codec.decode_whole_row(value)?;
            condition.holds(&row, params, ctx)
        }
    }
}
