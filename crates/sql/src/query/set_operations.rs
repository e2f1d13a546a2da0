//! UNION, INTERSECT and EXCEPT, VALUES, and the order of their rows.

use super::aggregates::sort;
use super::binder::{Binder, Bound, OutputColumn, unnested};
use super::coerce::common_type;
use super::errors::from_datafusion;
use super::expressions::Site;
use super::names::fold;
use super::ordering::ordinal;
use super::output_columns::{output, unqualified};
use super::scope::{Scope, Typed};
use super::select::parse_query;
use datafusion::common::Column;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast;
use types::{Error, Result, SqlState};

impl Binder<'_> {
    pub fn set_expr(&mut self, body: &ast::SetExpr, parent: Option<&Scope<'_>>) -> Result<Bound> {
        match body {
            ast::SetExpr::Select(select) => self.select(select, &[], parent, &[]),
            ast::SetExpr::Query(query) => self.deeper(|binder| binder.query(query, parent)),
            ast::SetExpr::SetOperation {
                op,
                set_quantifier,
                left,
                right,
            } => {
                let left = self.deeper(|binder| binder.set_expr(left, parent))?;
                let right = self.deeper(|binder| binder.set_expr(right, parent))?;
                self.set_operation(*op, *set_quantifier, left, right)
            }
            ast::SetExpr::Values(values) => self.values(values, parent),
            ast::SetExpr::Table(table) => {
                let name = table.table_name.clone().unwrap_or_default();
                let text = match &table.schema_name {
                    Some(schema) => format!("SELECT * FROM {schema}.{name}"),
                    None => format!("SELECT * FROM {name}"),
                };
                let query = parse_query(&text)?;
                self.deeper(|binder| binder.query(&query, parent))
            }
            _ => Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "WITH clause containing a data-modifying statement must be at the top level",
            )),
        }
    }

    fn set_operation(
        &mut self,
        op: ast::SetOperator,
        quantifier: ast::SetQuantifier,
        left: Bound,
        right: Bound,
    ) -> Result<Bound> {
        let word = match op {
            ast::SetOperator::Union => "UNION",
            ast::SetOperator::Intersect => "INTERSECT",
            ast::SetOperator::Except | ast::SetOperator::Minus => "EXCEPT",
        };
        let all = match quantifier {
            ast::SetQuantifier::All => true,
            ast::SetQuantifier::Distinct | ast::SetQuantifier::None => false,
            _ => return Err(Error::unsupported(format!("{word} BY NAME"))),
        };
        if left.columns.len() != right.columns.len() {
            return Err(unequal_columns(word));
        }
        let mut common = Vec::with_capacity(left.columns.len());
        for (l, r) in left.columns.iter().zip(&right.columns) {
            common.push(common_type([&l.ty, &r.ty], word)?);
        }
        let left = self.coerce_columns(left, &common)?;
        let right = self.coerce_columns(right, &common)?;
        let builder = LogicalPlanBuilder::from(left.plan.clone());
        let plan = match (op, all) {
            (ast::SetOperator::Union, true) => builder.union(right.plan).and_then(|b| b.build()),
            (ast::SetOperator::Union, false) => {
                builder.union_distinct(right.plan).and_then(|b| b.build())
            }
            (_, true) => {
                let left_plan = numbered(left.plan, &left.columns)?;
                let right_plan = numbered(right.plan, &right.columns)?;
                let met = match op {
                    ast::SetOperator::Intersect => {
                        LogicalPlanBuilder::intersect(left_plan, right_plan, false)
                    }
                    _ => LogicalPlanBuilder::except(left_plan, right_plan, false),
                };
                met.and_then(|plan| {
                    let mut shown = plan.schema().columns();
                    shown.truncate(left.columns.len());
                    LogicalPlanBuilder::from(plan)
                        .project(shown.into_iter().map(Expr::Column))
                        .and_then(|b| b.build())
                })
            }
            (ast::SetOperator::Intersect, false) => {
                LogicalPlanBuilder::intersect(left.plan, right.plan, false)
            }
            (_, false) => LogicalPlanBuilder::except(left.plan, right.plan, false),
        }
        .map_err(from_datafusion)?;
        let mut columns = left.columns;
        for column in &mut columns {
            column.table = 0;
            column.attribute = 0;
        }
        let plan = unqualified(plan, &columns)?;
        Ok(Bound { plan, columns })
    }

    fn values(&mut self, values: &ast::Values, parent: Option<&Scope<'_>>) -> Result<Bound> {
        let scope = Scope::nested_in(parent);
        let site = Site::plain(&scope, "VALUES");
        let mut rows: Vec<Vec<Typed>> = Vec::with_capacity(values.rows.len());
        for row in &values.rows {
            let mut bound = Vec::new();
            for expr in &row.content {
                bound.push(self.expr(expr, &site)?);
            }
            if rows.first().is_some_and(|first| first.len() != bound.len()) {
                return Err(Error::syntax("VALUES lists must all be the same length"));
            }
            rows.push(bound);
        }
        let width = rows.first().map_or(0, Vec::len);
        let mut columns = Vec::with_capacity(width);
        for index in 0..width {
            let ty = common_type(rows.iter().map(|row| &row[index].ty), "VALUES")?;
            columns.push(output(format!("column{}", index + 1), ty));
        }
        let mut exprs = Vec::with_capacity(rows.len());
        for row in rows {
            let mut converted = Vec::with_capacity(width);
            for (value, column) in row.into_iter().zip(&columns) {
                converted.push(self.coerce_exactly(value, &column.ty)?);
            }
            exprs.push(converted);
        }
        let plan = LogicalPlanBuilder::values(exprs)
            .and_then(|b| b.build())
            .map_err(from_datafusion)?;
        Ok(Bound { plan, columns })
    }

    /// ORDER BY over a set operation or VALUES: output columns by name or position.
    pub(super) fn order_output(
        &mut self,
        bound: Bound,
        order: &[ast::OrderByExpr],
    ) -> Result<Bound> {
        if order.is_empty() {
            return Ok(bound);
        }
        let bound = self.settle_unknowns(bound)?;
        let mut sorts = Vec::with_capacity(order.len());
        for item in order {
            let index = match unnested(&item.expr) {
                ast::Expr::Value(value) => ordinal(&value.value, bound.columns.len(), "ORDER BY")?,
                ast::Expr::Identifier(identifier) => {
                    let name = fold(identifier);
                    bound.columns.iter().position(|c| c.name == name)
                }
                _ => None,
            };
            let Some(index) = index else {
                return match unnested(&item.expr) {
                    ast::Expr::Identifier(identifier) => Err(Error::new(
                        SqlState::UNDEFINED_COLUMN,
                        format!("column \"{}\" does not exist", fold(identifier)),
                    )),
                    _ => Err(Error::new(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                    )
                    .detail("Only result column names can be used, not expressions or functions.")
                    .hint("Add the expression/function to every SELECT, or move the UNION into a FROM clause.")),
                };
            };
            let column = &bound.columns[index];
            let value = Expr::Column(Column::new_unqualified(&column.internal));
            sorts.push(sort(Typed::new(value, column.ty.clone()), &item.options)?);
        }
        let plan = LogicalPlanBuilder::from(bound.plan)
            .sort(sorts)
            .and_then(|b| b.build())
            .map_err(from_datafusion)?;
        Ok(Bound { plan, ..bound })
    }
}

pub(super) fn unequal_columns(word: &str) -> Error {
    Error::syntax(format!(
        "each {word} query must have the same number of columns"
    ))
}

/// The rows with a number among their equals, by which INTERSECT ALL and EXCEPT ALL pair them.
fn numbered(plan: LogicalPlan, columns: &[OutputColumn]) -> Result<LogicalPlan> {
    let plan = unqualified(plan, columns)?;
    let shown: Vec<Expr> = plan
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    let number = row_number()
        .partition_by(shown.clone())
        .build()
        .map_err(from_datafusion)?;
    let mut all = shown;
    all.push(Expr::Column(Column::new_unqualified(number.schema_name().to_string())).alias("row#"));
    LogicalPlanBuilder::window_plan(plan, vec![number])
        .and_then(|plan| LogicalPlanBuilder::from(plan).project(all))
        .and_then(|b| b.build())
        .map_err(from_datafusion)
}
