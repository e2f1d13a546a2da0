//! The end of a SELECT: projection, DISTINCT and DISTINCT ON, ORDER BY.

use super::aggregates::sort;
use super::binder::{Binder, Bound, OutputColumn, unnested};
use super::errors::from_datafusion;
use super::expressions::Site;
use super::names::fold;
use super::scope::Typed;
use super::select_list::Item;
use datafusion::common::Column;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast;
use std::collections::BTreeSet;
use types::{Error, Result, SqlState, SqlType};

/// A sort key: an output column, or an expression of its own.
pub(super) enum SortKey {
    Output(usize),
    Extra(Typed),
}

impl Binder<'_> {
    /// ORDER BY and DISTINCT ON take positions and output names before expressions.
    pub(super) fn sort_key(
        &mut self,
        expr: &ast::Expr,
        items: &[Item],
        site: &Site<'_>,
        clause: &'static str,
    ) -> Result<SortKey> {
        match unnested(expr) {
            ast::Expr::Value(value) => {
                if let Some(index) = ordinal(&value.value, items.len(), clause)? {
                    return Ok(SortKey::Output(index));
                }
            }
            ast::Expr::Identifier(identifier) => {
                let name = fold(identifier);
                let mut matching = items.iter().enumerate().filter(|(_, i)| i.name == name);
                if let Some((index, first)) = matching.next() {
                    if matching.any(|(_, other)| other.value.expr != first.value.expr) {
                        return Err(Error::new(
                            SqlState::AMBIGUOUS_COLUMN,
                            format!("{clause} \"{name}\" is ambiguous"),
                        ));
                    }
                    return Ok(SortKey::Output(index));
                }
            }
            _ => {}
        }
        let typed = self.expr(expr, &Site { clause, ..*site })?;
        let typed = self.settle(typed)?;
        if let Some(index) = items
            .iter()
            .position(|i| i.value.expr == typed.expr && !typed.expr.is_volatile())
        {
            return Ok(SortKey::Output(index));
        }
        Ok(SortKey::Extra(typed))
    }

    /// Projection, DISTINCT and ORDER BY.
    pub(super) fn output(
        &mut self,
        plan: LogicalPlan,
        items: Vec<Item>,
        keys: Vec<SortKey>,
        order: &[ast::OrderByExpr],
        distinct: bool,
        distinct_on: Vec<SortKey>,
    ) -> Result<Bound> {
        let mut taken = BTreeSet::new();
        let mut columns = Vec::with_capacity(items.len());
        let mut exprs = Vec::with_capacity(items.len());
        for item in items {
            let mut internal = if self.unique_outputs {
                self.qualifier(&format!("{}#", item.name))
            } else {
                item.name.clone()
            };
            let mut suffix = 1;
            while !taken.insert(internal.clone()) {
                suffix += 1;
                internal = format!("{}#{suffix}", item.name);
            }
            exprs.push(item.value.expr.alias(internal.clone()));
            columns.push(OutputColumn {
                name: item.name,
                internal,
                ty: item.value.ty,
                declared_modifier: item.declared_modifier,
                table: item.table,
                attribute: item.attribute,
            });
        }
        if exprs.is_empty() {
            // PostgreSQL allows an empty select list; the plan needs something to count.
            return Err(Error::unsupported("a select list without columns"));
        }
        let mut extra = Vec::new();
        let mut sorts: Vec<Sort> = Vec::new();
        let mut place = |key: &SortKey, extra: &mut Vec<Expr>| -> Typed {
            match key {
                SortKey::Output(index) => {
                    let column = &columns[*index];
                    Typed::new(
                        Expr::Column(Column::new_unqualified(&column.internal)),
                        column.ty.clone(),
                    )
                }
                SortKey::Extra(typed) => {
                    let mut name = format!("sort#{}", extra.len() + 1);
                    while !taken.insert(name.clone()) {
                        name.push('#');
                    }
                    extra.push(typed.expr.clone().alias(name.clone()));
                    Typed::new(
                        Expr::Column(Column::new_unqualified(name)),
                        typed.ty.clone(),
                    )
                }
            }
        };
        for (key, item) in keys.iter().zip(order) {
            let typed = place(key, &mut extra);
            sorts.push(sort(typed, &item.options)?);
        }
        if distinct && !extra.is_empty() {
            return Err(Error::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
            ));
        }
        let mut on = Vec::new();
        for key in &distinct_on {
            on.push(place(key, &mut extra).expr);
        }
        let hidden = !extra.is_empty();
        exprs.extend(extra);
        let mut builder = LogicalPlanBuilder::from(plan)
            .project(exprs)
            .map_err(from_datafusion)?;
        if distinct {
            for column in &columns {
                if matches!(column.ty, SqlType::Json) {
                    return Err(Error::new(
                        SqlState::UNDEFINED_FUNCTION,
                        format!(
                            "could not identify an equality operator for type {}",
                            column.ty.bare_name()
                        ),
                    ));
                }
            }
            builder = builder.distinct().map_err(from_datafusion)?;
        }
        if !on.is_empty() {
            // The ON expressions must lead the order.
            let leading = sorts.iter().take(on.len()).all(|s| on.contains(&s.expr));
            if !leading {
                return Err(Error::new(
                    SqlState::INVALID_COLUMN_REFERENCE,
                    "SELECT DISTINCT ON expressions must match initial ORDER BY expressions",
                ));
            }
            let outputs: Vec<Expr> = builder
                .schema()
                .columns()
                .into_iter()
                .map(Expr::Column)
                .collect();
            let by = (!sorts.is_empty()).then(|| sorts.clone());
            let plan = builder
                .distinct_on(on, outputs.clone(), None)
                .map_err(from_datafusion)
                .and_then(|b| b.build().map_err(from_datafusion))?;
            let plan = match (plan, by) {
                (LogicalPlan::Distinct(datafusion::logical_expr::Distinct::On(on)), Some(by)) => {
                    let on = on.with_sort_expr(by).map_err(from_datafusion)?;
                    LogicalPlan::Distinct(datafusion::logical_expr::Distinct::On(on))
                }
                (plan, _) => plan,
            };
            builder = LogicalPlanBuilder::from(plan);
        }
        if !sorts.is_empty() {
            builder = builder.sort(sorts).map_err(from_datafusion)?;
        }
        if hidden {
            let shown: Vec<Expr> = columns
                .iter()
                .map(|c| Expr::Column(Column::new_unqualified(&c.internal)))
                .collect();
            builder = builder.project(shown).map_err(from_datafusion)?;
        }
        let plan = builder.build().map_err(from_datafusion)?;
        Ok(Bound { plan, columns })
    }
}

/// A position in ORDER BY or GROUP BY. `None` if the value is no integer.
pub(super) fn ordinal(value: &ast::Value, count: usize, clause: &str) -> Result<Option<usize>> {
    match value {
        ast::Value::Number(text, _) => match text.parse::<usize>() {
            Ok(position) if (1..=count).contains(&position) => Ok(Some(position - 1)),
            _ if text.bytes().all(|b| b.is_ascii_digit()) => Err(Error::new(
                SqlState::INVALID_COLUMN_REFERENCE,
                format!("{clause} position {text} is not in select list"),
            )),
            _ => Err(Error::syntax(format!("non-integer constant in {clause}"))),
        },
        ast::Value::SingleQuotedString(_) | ast::Value::Boolean(_) => {
            Err(Error::syntax(format!("non-integer constant in {clause}")))
        }
        _ => Ok(None),
    }
}
