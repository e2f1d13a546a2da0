//! Statements with data-modifying WITH queries, and changes of rows with WITH in front.
//!
//! The parts run in the order written, then the statement proper. All read the snapshot that the
//! statement began with, so that none sees what another does; what one hands to the next are the rows
//! of its RETURNING. A row is changed once: what a part has written, a later one passes over.

use super::{DmlPlan, DmlResult, plan_part};
use crate::catalog::descriptor::ObjectId;
use crate::context::{StatementContext, StatementParts};
use crate::query::planner::{AnalyzedQuery, Planner};
use crate::query::returned::{ReturnedRows, Surrounding, changes_rows};
use crate::query::{Runtime, names};
use crate::response::{ResultColumn, RowSet};
use sqlparser::ast;
use std::sync::Arc;
use txn::Transaction;
use types::{Datum, Error, Result, SqlType};

enum Main {
    Query(Box<AnalyzedQuery>),
    Change(Box<DmlPlan>),
}

pub struct WithPlan {
    pub parameter_types: Vec<SqlType>,
    pub columns: Option<Arc<[ResultColumn]>>,
    parts: Vec<DmlPlan>,
    main: Main,
}

/// Whether a query is planned by [`plan`]: it or one of its WITH queries changes rows.
pub fn is_change(query: &ast::Query) -> bool {
    let with = query.with.iter().flat_map(|with| &with.cte_tables);
    changes_rows(query) || with.into_iter().any(|cte| changes_rows(&cte.query))
}

pub fn plan(
    planner: &Planner<'_>,
    query: &ast::Query,
    declared: &[Option<SqlType>],
) -> Result<WithPlan> {
    let Some(with) = &query.with else {
        return Err(Error::internal("a change of rows as a query without WITH"));
    };
    let mut declared = declared.to_vec();
    let mut parts = Vec::new();
    let mut returned = Vec::new();
    let mut before = with.clone();
    before.cte_tables.clear();
    for cte in &with.cte_tables {
        if changes_rows(&cte.query) {
            let surrounding = Surrounding {
                with: Some(&before),
                returned: &returned,
            };
            let planner = within(planner, surrounding);
            let part = plan_body(&planner, &cte.query, &mut declared)?;
            let columns = part.returning.clone();
            parts.push(part);
            returned.push(ReturnedRows {
                name: names::fold(&cte.alias.name),
                columns,
            });
        }
        before.cte_tables.push(cte.clone());
    }
    let main = if changes_rows(query) {
        let surrounding = Surrounding {
            with: Some(with),
            returned: &returned,
        };
        let planner = within(planner, surrounding);
        Main::Change(Box::new(plan_body(&planner, query, &mut declared)?))
    } else {
        let surrounding = Surrounding {
            with: None,
            returned: &returned,
        };
        let analyzed = within(planner, surrounding).query(query, &declared)?;
        super::adopt(&mut declared, &analyzed.parameter_types);
        Main::Query(Box::new(analyzed))
    };
    let columns = match &main {
        Main::Query(query) => Some(query.columns.clone()),
        Main::Change(change) => change.returning.clone(),
    };
    let parameter_types = declared
        .into_iter()
        .map(|known| known.unwrap_or(SqlType::Text))
        .collect();
    Ok(WithPlan {
        parameter_types,
        columns,
        parts,
        main,
    })
}

fn within<'a>(planner: &Planner<'a>, surrounding: Surrounding<'a>) -> Planner<'a> {
    Planner {
        surrounding,
        ..*planner
    }
}

/// Plans the change that a query's body is.
fn plan_body(
    planner: &Planner<'_>,
    query: &ast::Query,
    declared: &mut Vec<Option<SqlType>>,
) -> Result<DmlPlan> {
    let own = query
        .with
        .as_ref()
        .filter(|_| planner.surrounding.with.is_none());
    debug_assert!(own.is_none(), "WITH stands around its statement");
    match query.body.as_ref() {
        ast::SetExpr::Insert(change)
        | ast::SetExpr::Update(change)
        | ast::SetExpr::Delete(change) => plan_part(planner, change, declared),
        _ => Err(Error::unsupported("MERGE")),
    }
}

impl WithPlan {
    /// The keys that are locked in KeyShare while rows of the targets are written.
    pub fn lock_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.changes().flat_map(DmlPlan::lock_keys)
    }

    /// Tables it depends on, with their versions.
    pub fn tables(&self) -> impl Iterator<Item = (ObjectId, u64)> {
        let queried = match &self.main {
            Main::Query(query) => &query.tables[..],
            Main::Change(_) => &[],
        };
        let changed = self.changes().flat_map(|change| &change.tables);
        changed.chain(queried).copied()
    }

    fn changes(&self) -> impl Iterator<Item = &DmlPlan> {
        let main = match &self.main {
            Main::Query(_) => None,
            Main::Change(change) => Some(change.as_ref()),
        };
        self.parts.iter().chain(main)
    }

    /// Runs all parts. An error leaves the transaction's writes as they were before.
    pub async fn execute(
        &self,
        txn: &mut Transaction,
        mut ctx: StatementContext,
        runtime: &Runtime,
        params: &[Datum],
    ) -> Result<DmlResult> {
        let parts = Arc::new(StatementParts::default());
        ctx.parts = Some(parts.clone());
        let savepoint = txn.savepoint();
        let result = self.run(txn, &ctx, &parts, runtime, params).await;
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
        parts: &StatementParts,
        runtime: &Runtime,
        params: &[Datum],
    ) -> Result<DmlResult> {
        let mut deferred = super::DeferredChecks::default();
        for part in &self.parts {
            let result = part.execute(txn, ctx, runtime, params).await?;
            deferred.append(result.deferred);
            parts.add_returned(result.rows);
        }
        let mut result = match &self.main {
            Main::Change(change) => change.execute(txn, ctx, runtime, params).await?,
            Main::Query(query) => {
                let set: RowSet = runtime.execute(query, params, ctx.clone()).await?;
                let rows = set.collect().await?;
                DmlResult {
                    affected: rows.len() as u64,
                    rows,
                    ..DmlResult::default()
                }
            }
        };
        deferred.append(std::mem::take(&mut result.deferred));
        result.deferred = deferred;
        Ok(result)
    }

    /// Lines as PostgreSQL's EXPLAIN would have them.
    pub fn explain(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Main::Query(_) = self.main {
            lines.push("Query".to_string());
        }
        for change in self.changes() {
            lines.extend(change.explain());
        }
        lines
    }
}
