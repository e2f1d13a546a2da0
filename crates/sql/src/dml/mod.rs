//! INSERT, UPDATE and DELETE.
//!
//! [`plan`] analyses a statement once; the [`DmlPlan`] runs any number of times with other parameters.
//! Rows are found by the direct road when the statement's condition is one of its own table, else by
//! a DataFusion query that gives the rows' identities and what is to be written (`change`). All
//! writing goes through [`writer::Writer`].
//!
//! A statement is atomic: what it wrote is undone when it fails half-way, and the locks it took are
//! released.
//!
//! # READ COMMITTED
//! A row found at the snapshot is locked, and its newest version is judged again by the statement's
//! condition. If the rows came from a query, the condition is the query: when a locked row is newer
//! than the snapshot, the query is run again on a new snapshot with the locks kept, at most
//! [`MAX_RESTARTS`] times.

mod change;
mod describe;
mod insert;
pub mod prepared;
mod returning;
mod row_query;
mod violations;
pub mod with;
pub mod writer;

#[cfg(test)]
mod tests;

use crate::catalog::Relation;
use crate::catalog::descriptor::{ObjectId, Table};
use crate::context::StatementContext;
use crate::query::Runtime;
use crate::query::names;
use crate::query::planner::Planner;
use crate::response::ResultColumn;
use prepared::{Prepared, PreparedSet};
use returning::Returning;
use sqlparser::ast;
use std::sync::Arc;
use txn::Transaction;
use txn::kv::LockMode;
use types::{Datum, Error, Result, Row, SqlState, SqlType};
pub use writer::Pending;
use writer::Writer;

/// How often a statement is run again because its rows changed under it. Each time it holds the locks of
/// all rows found before, so that only rows new to it can make it start once more.
pub const MAX_RESTARTS: usize = 16;

/// What a statement did.
#[derive(Debug, Default)]
pub struct DmlResult {
    pub affected: u64,
    /// What RETURNING gives.
    pub rows: Vec<Row>,
    /// Written rows, and what they were joined to, whose RETURNING takes queries: it is made last.
    unreturned: Vec<(Row, Row)>,
    /// Foreign keys to be looked at before commit: [`run_deferred_checks`].
    pub deferred: DeferredChecks,
}

/// Checks of INITIALLY DEFERRED constraints, in the order in which they arose.
#[derive(Clone, Default)]
pub struct DeferredChecks {
    checks: Vec<(Arc<PreparedSet>, Vec<Pending>)>,
}

impl std::fmt::Debug for DeferredChecks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} deferred checks", self.checks.len())
    }
}

impl DeferredChecks {
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    pub fn append(&mut self, mut other: DeferredChecks) {
        self.checks.append(&mut other.checks);
    }
}

/// Runs before COMMIT; the transaction must be rolled back if it fails.
pub async fn run_deferred_checks(
    checks: DeferredChecks,
    txn: &mut Transaction,
    ctx: &StatementContext,
) -> Result<()> {
    for (set, pending) in checks.checks {
        Writer::new(&set, txn, ctx).run_deferred(pending).await?;
    }
    Ok(())
}

enum Work {
    Insert(insert::Insert),
    Change(change::Change),
}

/// An analysed INSERT, UPDATE or DELETE.
pub struct DmlPlan {
    pub parameter_types: Vec<SqlType>,
    /// The columns that RETURNING gives.
    pub returning: Option<Arc<[ResultColumn]>>,
    /// Tables it depends on, with their versions.
    pub tables: Vec<(ObjectId, u64)>,
    /// `INSERT`, `UPDATE` or `DELETE`.
    pub command: &'static str,
    set: Arc<PreparedSet>,
    target: Arc<Prepared>,
    work: Work,
    returned: Option<Returning>,
}

/// Analyses an INSERT, UPDATE or DELETE. `declared` are the parameter types that the client gave.
pub fn plan(
    planner: &Planner<'_>,
    statement: &ast::Statement,
    declared: &[Option<SqlType>],
) -> Result<DmlPlan> {
    plan_part(planner, statement, &mut declared.to_vec())
}

/// [`plan`] of a part of a larger statement: parameter types that it finds are added to `declared`.
fn plan_part(
    planner: &Planner<'_>,
    statement: &ast::Statement,
    declared: &mut Vec<Option<SqlType>>,
) -> Result<DmlPlan> {
    match statement {
        ast::Statement::Insert(insert) => insert::plan(planner, insert, declared),
        ast::Statement::Update(update) => change::plan_update(planner, update, declared),
        ast::Statement::Delete(delete) => change::plan_delete(planner, delete, declared),
        other => Err(Error::internal(format!("not a change of rows: {other}"))),
    }
}

impl DmlPlan {
    /// Runs the statement. An error leaves the transaction's writes as they were before.
    pub async fn execute(
        &self,
        txn: &mut Transaction,
        ctx: &StatementContext,
        runtime: &Runtime,
        params: &[Datum],
    ) -> Result<DmlResult> {
        if txn.is_read_only() {
            return Err(Error::new(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                format!("cannot execute {} in a read-only transaction", self.command),
            ));
        }
        let savepoint = txn.savepoint();
        let result = self.run(txn, ctx, runtime, params).await;
        if result.is_err() {
            txn.rollback_to(savepoint)?;
        }
        txn.release_savepoint(savepoint)?;
        result
    }

    async fn run(
        &self,
        txn: &mut Transaction,
        ctx: &StatementContext,
        runtime: &Runtime,
        params: &[Datum],
    ) -> Result<DmlResult> {
        let policy = ctx.wait_policy();
        txn.lock(&self.target.lock_key, LockMode::KeyShare, policy)
            .await?;
        let mut writer = Writer::new(&self.set, txn, ctx);
        let mut result = match &self.work {
            Work::Insert(insert) => insert.run(self, &mut writer, runtime, params).await?,
            Work::Change(change) => change.run(self, &mut writer, runtime, params).await?,
        };
        writer.finish().await?;
        let deferred = std::mem::take(&mut writer.deferred);
        if !deferred.is_empty() {
            result.deferred.checks.push((self.set.clone(), deferred));
        }
        if let Some(returned) = &self.returned {
            for (row, joined) in std::mem::take(&mut result.unreturned) {
                ctx.cancel.check()?;
                let row = returned.queried_row(&row, &joined, params, ctx, runtime);
                result.rows.push(row.await?);
            }
        }
        Ok(result)
    }

    /// Adds what RETURNING gives for a written row.
    fn give(
        &self,
        result: &mut DmlResult,
        row: &[Datum],
        joined: &[Datum],
        params: &[Datum],
        ctx: &StatementContext,
    ) -> Result<()> {
        result.affected += 1;
        if let Some(returned) = &self.returned {
            if returned.takes_queries() {
                result.unreturned.push((row.to_vec(), joined.to_vec()));
                return Ok(());
            }
            result.rows.push(returned.row(row, joined, params, ctx)?);
        }
        Ok(())
    }

    fn new(
        command: &'static str,
        declared: Vec<Option<SqlType>>,
        set: PreparedSet,
        target: Arc<Prepared>,
        work: Work,
        returned: Option<Returning>,
        mut tables: Vec<(ObjectId, u64)>,
    ) -> DmlPlan {
        for (oid, version) in set.versions() {
            if !tables.iter().any(|(known, _)| *known == oid) {
                tables.push((oid, version));
            }
        }
        DmlPlan {
            parameter_types: declared
                .into_iter()
                .map(|known| known.unwrap_or(SqlType::Text))
                .collect(),
            returning: returned.as_ref().map(|r| r.columns.clone().into()),
            tables,
            command,
            set: Arc::new(set),
            target,
            work,
            returned,
        }
    }
}

/// Writes whole rows into one table: COPY.
pub struct TableWriter {
    set: Arc<PreparedSet>,
    target: Arc<Prepared>,
}

impl TableWriter {
    pub fn new(planner: &Planner<'_>, table: &Arc<Table>) -> Result<TableWriter> {
        let set = PreparedSet::new(planner, table)?;
        let target = set.get(table.oid)?.clone();
        Ok(TableWriter {
            set: Arc::new(set),
            target,
        })
    }

    pub fn prepared(&self) -> &Prepared {
        &self.target
    }

    /// Inserts rows that have values for the columns at `columns`; the others take their defaults.
    pub async fn insert(
        &self,
        txn: &mut Transaction,
        ctx: &StatementContext,
        columns: &[usize],
        rows: Vec<Row>,
    ) -> Result<DmlResult> {
        let policy = ctx.wait_policy();
        txn.lock(&self.target.lock_key, LockMode::KeyShare, policy)
            .await?;
        let missing: Vec<usize> = self.defaulted(columns);
        let mut result = DmlResult::default();
        let mut writer = Writer::new(&self.set, txn, ctx);
        result.affected = rows.len() as u64;
        let width = self.target.table.columns.len();
        let rows = if columns.iter().copied().eq(0..width) {
            rows
        } else {
            let mut whole = Vec::with_capacity(rows.len());
            for given in rows {
                let mut row = vec![Datum::Null; width];
                for (position, value) in columns.iter().zip(given) {
                    row[*position] = value;
                }
                for position in &missing {
                    row[*position] = self.target.default_value(*position, ctx).await?;
                }
                whole.push(row);
            }
            whole
        };
        writer.insert_all(&self.target, rows).await?;
        writer.finish().await?;
        let deferred = std::mem::take(&mut writer.deferred);
        if !deferred.is_empty() {
            result.deferred.checks.push((self.set.clone(), deferred));
        }
        Ok(result)
    }

    /// Inserts one whole row, by position, with all its defaults in place.
    pub async fn insert_row(
        &self,
        txn: &mut Transaction,
        ctx: &StatementContext,
        row: Row,
    ) -> Result<()> {
        let mut writer = Writer::new(&self.set, txn, ctx);
        writer.insert(&self.target, row).await?;
        writer.finish().await
    }

    fn defaulted(&self, given: &[usize]) -> Vec<usize> {
        defaulted(&self.target, given)
    }
}

/// Live columns that a statement does not give and that have a default.
fn defaulted(target: &Prepared, given: &[usize]) -> Vec<usize> {
    let has_default =
        |position: &usize| !matches!(target.defaults[*position], prepared::ColumnDefault::Null);
    let missing = target.live.iter().filter(|p| !given.contains(p));
    missing.filter(|p| has_default(p)).copied().collect()
}

/// The target as a FROM item, by its full name: a WITH query may have the same one.
fn target_factor(
    planner: &Planner<'_>,
    table: &Table,
    name: &ast::ObjectName,
    alias: Option<&ast::Ident>,
) -> ast::TableFactor {
    let schema = planner.catalog.schema(table.schema);
    let (Some(_), Some(schema), 1) = (planner.surrounding.with, schema, name.0.len()) else {
        return insert::table_factor(name, alias);
    };
    let quoted = |name: &str| ast::Ident::with_quote('"', name);
    let full = ast::ObjectName::from(vec![quoted(&schema.name), quoted(&table.name)]);
    let own = quoted(&table.name);
    insert::table_factor(&full, Some(alias.unwrap_or(&own)))
}

/// The table that a statement changes.
fn target_table(planner: &Planner<'_>, name: &ast::ObjectName, verb: &str) -> Result<Arc<Table>> {
    let parts = names::object_name(name);
    let (schema, relation) = match parts.as_slice() {
        [relation] => (None, relation.as_str()),
        [schema, relation] => (Some(schema.as_str()), relation.as_str()),
        [_, schema, relation] => (Some(schema.as_str()), relation.as_str()),
        _ => return Err(Error::syntax(format!("improper relation name: {name}"))),
    };
    let path = &planner.settings.search_path;
    match planner
        .catalog
        .require(planner.database, path, schema, relation)?
    {
        Relation::Table(table) => Ok(table),
        Relation::View(_) => Err(Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("cannot {verb} view \"{relation}\""),
        )),
        Relation::Sequence(_) => Err(Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("cannot change sequence \"{relation}\""),
        )),
        Relation::Index(..) => Err(Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("cannot open relation \"{relation}\""),
        )),
    }
}

/// A column that a statement names as a target.
fn target_column(table: &Table, name: &ast::ObjectName) -> Result<usize> {
    let parts = names::object_name(name);
    let Some(column) = parts.first() else {
        return Err(Error::internal("a column without name"));
    };
    if parts.len() > 1 && table.column_position(column).is_some() {
        return Err(Error::unsupported("assignment to a part of a column"));
    }
    table.column_position(column).ok_or_else(|| {
        Error::new(
            SqlState::UNDEFINED_COLUMN,
            format!(
                "column \"{column}\" of relation \"{}\" does not exist",
                table.name
            ),
        )
    })
}

fn is_default(expr: &ast::Expr) -> bool {
    match expr {
        ast::Expr::Identifier(name) => {
            name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default")
        }
        _ => false,
    }
}

/// Parameter types that a query has found, where nothing was known before.
fn adopt(declared: &mut Vec<Option<SqlType>>, found: &[SqlType]) {
    if declared.len() < found.len() {
        declared.resize(found.len(), None);
    }
    for (known, found) in declared.iter_mut().zip(found) {
        known.get_or_insert_with(|| found.clone());
    }
}
