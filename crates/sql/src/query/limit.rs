//! LIMIT, OFFSET and FETCH.

use super::binder::{Binder, Bound};
use super::coerce::{CastContext, can_cast};
use super::errors::from_datafusion;
use super::expressions::Site;
use super::scope::Scope;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::functions_window::expr_fn::{rank, row_number};
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, lit};
use sqlparser::ast;
use types::{Datum, Error, Result, SqlState, SqlType};

impl Binder<'_> {
    pub(super) fn limit(
        &mut self,
        bound: Bound,
        query: &ast::Query,
        parent: Option<&Scope<'_>>,
    ) -> Result<Bound> {
        let (mut limit, offset) = match &query.limit_clause {
            None => (None, None),
            Some(ast::LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) => {
                if !limit_by.is_empty() {
                    return Err(Error::syntax("syntax error at or near \"BY\""));
                }
                (limit.as_ref(), offset.as_ref().map(|o| &o.value))
            }
            Some(ast::LimitClause::OffsetCommaLimit { .. }) => {
                return Err(Error::syntax("LIMIT #,# syntax is not supported")
                    .hint("Use separate LIMIT and OFFSET clauses."));
            }
        };
        let one = ast::Expr::Value(ast::Value::Number("1".into(), false).into());
        if let Some(fetch) = &query.fetch {
            if fetch.percent {
                return Err(Error::syntax("syntax error at or near \"PERCENT\""));
            }
            limit = Some(fetch.quantity.as_ref().unwrap_or(&one));
        }
        if limit.is_none() && offset.is_none() {
            return Ok(bound);
        }
        let skip = self.row_count(offset, "OFFSET", parent)?;
        let fetch = self.row_count(limit, "LIMIT", parent)?;
        if skip.is_none() && fetch.is_none() {
            return Ok(bound);
        }
        if query.fetch.as_ref().is_some_and(|fetch| fetch.with_ties) {
            let plan = with_ties(bound.plan, skip, fetch)?;
            return Ok(Bound { plan, ..bound });
        }
        let plan = LogicalPlanBuilder::from(bound.plan)
            .limit_by_expr(skip, fetch)
            .and_then(|b| b.build())
            .map_err(from_datafusion)?;
        Ok(Bound { plan, ..bound })
    }

    fn row_count(
        &mut self,
        expr: Option<&ast::Expr>,
        clause: &'static str,
        parent: Option<&Scope<'_>>,
    ) -> Result<Option<Expr>> {
        let Some(expr) = expr else { return Ok(None) };
        let scope = Scope::nested_in(parent);
        let typed = self.expr(expr, &Site::plain(&scope, clause))?;
        if !can_cast(&typed.ty, &SqlType::Int8, CastContext::Assignment) {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "argument of {clause} must be type bigint, not type {}",
                    typed.ty.bare_name()
                ),
            ));
        }
        let typed = self.coerce(typed, &SqlType::Int8, false)?;
        match super::binder::constant(&typed) {
            Some(Datum::Null) => Ok(None),
            Some(Datum::Int8(n)) if n < 0 => Err(negative_row_count(clause)),
            _ => Ok(Some(typed.expr)),
        }
    }
}

fn negative_row_count(clause: &str) -> Error {
    let state = match clause {
        "OFFSET" => SqlState::INVALID_ROW_COUNT_IN_OFFSET,
        _ => SqlState::INVALID_ROW_COUNT_IN_LIMIT,
    };
    Error::new(state, format!("{clause} must not be negative"))
}

/// The rows after the first `skip` whose rank is within the limit: the rank of the last one's equals is
/// the same as its own.
fn with_ties(plan: LogicalPlan, skip: Option<Expr>, fetch: Option<Expr>) -> Result<LogicalPlan> {
    let shown: Vec<Expr> = plan
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    let (sort, projection) = match plan {
        LogicalPlan::Sort(sort) => (sort, None),
        LogicalPlan::Projection(projection) => match projection.input.as_ref() {
            LogicalPlan::Sort(sort) => (sort.clone(), Some(projection.expr)),
            _ => return Err(unordered()),
        },
        _ => return Err(unordered()),
    };
    let over = |function: Expr| {
        let built = function.order_by(sort.expr.clone()).build();
        built.map_err(from_datafusion)
    };
    let (number, rank) = (over(row_number())?, over(rank())?);
    let position = |function: &Expr| {
        let column = Expr::Column(Column::new_unqualified(function.schema_name().to_string()));
        datafusion::logical_expr::cast(column, DataType::Int64)
    };
    let skip = skip.unwrap_or_else(|| lit(0i64));
    let mut wanted = position(&number).gt(skip.clone());
    if let Some(fetch) = fetch {
        wanted = wanted.and(position(&rank).lt_eq(skip + fetch));
    }
    LogicalPlanBuilder::window_plan(sort.input.as_ref().clone(), vec![number, rank])
        .and_then(|plan| LogicalPlanBuilder::from(plan).filter(wanted))
        .and_then(|b| b.sort(sort.expr))
        .and_then(|b| b.project(projection.unwrap_or(shown)))
        .and_then(|b| b.build())
        .map_err(from_datafusion)
}

fn unordered() -> Error {
    Error::syntax("WITH TIES cannot be specified without ORDER BY clause")
}
