//! The columns that a query shows: their names in the plan, and their types when the context decides them.

use super::binder::{Binder, Bound, OutputColumn};
use super::casts::cast_expr;
use super::errors::from_datafusion;
use super::scope::Typed;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use types::{Error, Result, SqlState, SqlType};

impl Binder<'_> {
    pub fn settle_unknowns(&mut self, bound: Bound) -> Result<Bound> {
        if !bound
            .columns
            .iter()
            .any(|c| matches!(c.ty, SqlType::Unknown))
        {
            return Ok(bound);
        }
        let types: Vec<SqlType> = bound
            .columns
            .iter()
            .map(|c| match &c.ty {
                SqlType::Unknown => SqlType::Text,
                other => other.clone(),
            })
            .collect();
        self.coerce_columns(bound, &types)
    }

    /// The same query with its columns converted, literals and parameters at their source.
    pub fn coerce_columns(&mut self, bound: Bound, types: &[SqlType]) -> Result<Bound> {
        if bound.columns.iter().zip(types).all(|(c, t)| c.ty == *t) {
            return Ok(bound);
        }
        let mut exprs = Vec::with_capacity(types.len());
        let mut columns = bound.columns;
        for (index, (column, ty)) in columns.iter_mut().zip(types).enumerate() {
            let value = Expr::Column(Column::new_unqualified(&column.internal));
            let source = match (&column.ty, &bound.plan) {
                (SqlType::Unknown, LogicalPlan::Projection(projection)) => {
                    match projection.expr.get(index).map(unaliased) {
                        Some(literal @ (Expr::Literal(..) | Expr::Placeholder(_))) => {
                            literal.clone()
                        }
                        _ => value,
                    }
                }
                _ => value,
            };
            let typed = self.coerce(Typed::new(source, column.ty.clone()), ty, false)?;
            let expr = cast_expr(typed.expr, &typed.ty, ty, false);
            exprs.push(expr.alias(column.internal.clone()));
            if column.ty != *ty {
                column.declared_modifier = false;
            }
            column.ty = ty.clone();
        }
        let plan = LogicalPlanBuilder::from(bound.plan)
            .project(exprs)
            .and_then(|b| b.build())
            .map_err(from_datafusion)?;
        Ok(Bound { plan, columns })
    }
}

pub(crate) fn output(name: String, ty: SqlType) -> OutputColumn {
    OutputColumn {
        internal: name.clone(),
        name,
        ty,
        declared_modifier: false,
        table: 0,
        attribute: 0,
    }
}

/// Gives output columns the names of an alias list, which may be shorter.
pub(crate) fn rename(columns: &mut [OutputColumn], aliases: &[String], table: &str) -> Result<()> {
    if aliases.len() > columns.len() {
        return Err(Error::new(
            SqlState::INVALID_COLUMN_REFERENCE,
            format!(
                "table \"{table}\" has {} columns available but {} columns specified",
                columns.len(),
                aliases.len()
            ),
        ));
    }
    for (column, alias) in columns.iter_mut().zip(aliases) {
        column.name.clone_from(alias);
    }
    Ok(())
}

/// The plan with unqualified columns of the given names.
pub(crate) fn unqualified(plan: LogicalPlan, columns: &[OutputColumn]) -> Result<LogicalPlan> {
    let same = plan
        .schema()
        .iter()
        .zip(columns)
        .all(|((qualifier, field), column)| {
            qualifier.is_none() && *field.name() == column.internal
        });
    if same {
        return Ok(plan);
    }
    let exprs: Vec<Expr> = plan
        .schema()
        .columns()
        .into_iter()
        .zip(columns)
        .map(|(from, to)| Expr::Column(from).alias(to.internal.clone()))
        .collect();
    LogicalPlanBuilder::from(plan)
        .project(exprs)
        .and_then(|b| b.build())
        .map_err(from_datafusion)
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}
