//! WITH: common tables, also recursive ones.

use super::binder::{Binder, Bound, CommonTable, OutputColumn};
use super::coerce::{CastContext, can_cast};
use super::errors::from_datafusion;
use super::names::{fold, object_name};
use super::output_columns::rename;
use super::returned::changes_rows;
use super::scope::Scope;
use super::set_operations::unequal_columns;
use datafusion::common::Column;
use datafusion::common::metadata::FieldMetadata;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast;
use types::{Error, Result, SqlState, SqlType};

impl Binder<'_> {
    pub(super) fn with(&mut self, with: &ast::With, parent: Option<&Scope<'_>>) -> Result<()> {
        let first = self.common_tables.len();
        for cte in &with.cte_tables {
            let name = fold(&cte.alias.name);
            if self.common_tables[first..].iter().any(|t| t.name == name) {
                return Err(Error::new(
                    SqlState::DUPLICATE_ALIAS,
                    format!("WITH query name \"{name}\" specified more than once"),
                ));
            }
            let aliases: Vec<String> = cte.alias.columns.iter().map(|c| fold(&c.name)).collect();
            let recursive = with.recursive && mentions(&cte.query, &name);
            let bound = if changes_rows(&cte.query) {
                let mut bound = self.returned_rows(&name)?;
                rename(&mut bound.columns, &aliases, &name)?;
                bound
            } else if recursive {
                self.recursive_table(&name, &aliases, &cte.query, parent)?
            } else {
                let bound = self.deeper(|binder| binder.query(&cte.query, parent))?;
                let mut bound = self.settle_unknowns(bound)?;
                rename(&mut bound.columns, &aliases, &name)?;
                bound
            };
            self.common_tables.push(CommonTable { name, bound });
        }
        Ok(())
    }

    fn recursive_table(
        &mut self,
        name: &str,
        aliases: &[String],
        query: &ast::Query,
        parent: Option<&Scope<'_>>,
    ) -> Result<Bound> {
        let wrong_form = || {
            Error::new(
                SqlState::INVALID_RECURSION,
                format!(
                    "recursive query \"{name}\" does not have the form non-recursive-term UNION [ALL] recursive-term"
                ),
            )
        };
        if query.order_by.is_some() || query.limit_clause.is_some() || query.fetch.is_some() {
            return Err(Error::unsupported("ORDER BY or LIMIT in a recursive query"));
        }
        if query.with.is_some() {
            return Err(Error::unsupported("WITH inside a recursive query"));
        }
        let ast::SetExpr::SetOperation {
            op: ast::SetOperator::Union,
            set_quantifier,
            left,
            right,
        } = query.body.as_ref()
        else {
            return Err(wrong_form());
        };
        let distinct = !matches!(set_quantifier, ast::SetQuantifier::All);
        let start = self.deeper(|binder| binder.set_expr(left, parent))?;
        let mut start = self.settle_unknowns(start)?;
        rename(&mut start.columns, aliases, name)?;
        // The working table: the rows that the last round added.
        let working = self.qualifier(name);
        let schema = std::sync::Arc::new(datafusion::arrow::datatypes::Schema::new(
            start
                .columns
                .iter()
                .map(|c| crate::arrow_bridge::field(&c.internal, &c.ty, true))
                .collect::<Vec<_>>(),
        ));
        start.plan = self.labelled(start.plan, &start.columns)?;
        let table = datafusion::datasource::cte_worktable::CteWorkTable::new(&working, schema);
        let source = datafusion::datasource::provider_as_source(std::sync::Arc::new(table));
        let scan = LogicalPlanBuilder::scan(
            datafusion::common::TableReference::bare(working.clone()),
            source,
            None,
        )
        .and_then(|b| b.build())
        .map_err(from_datafusion)?;
        self.common_tables.push(CommonTable {
            name: name.to_string(),
            bound: Bound {
                plan: scan,
                columns: start.columns.clone(),
            },
        });
        let step = self.deeper(|binder| binder.set_expr(right, parent));
        self.common_tables.pop();
        let step = step?;
        if step.columns.len() != start.columns.len() {
            return Err(unequal_columns("UNION"));
        }
        for (index, (s, r)) in start.columns.iter().zip(&step.columns).enumerate() {
            if !can_cast(&r.ty, &s.ty, CastContext::Implicit) {
                return Err(Error::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "recursive query \"{name}\" column {} has type {} in non-recursive term but type {} overall",
                        index + 1,
                        s.ty.name(),
                        r.ty.name()
                    ),
                )
                .hint("Cast the output of the non-recursive term to the correct type."));
            }
        }
        let types: Vec<SqlType> = start.columns.iter().map(|c| c.ty.clone()).collect();
        let step = self.coerce_columns(step, &types)?;
        let mut step_columns = step.columns;
        for (column, ty) in step_columns.iter_mut().zip(&types) {
            column.ty = ty.clone();
        }
        let step_plan = self.labelled(step.plan, &step_columns)?;
        let plan = LogicalPlanBuilder::from(start.plan)
            .to_recursive_query(working, step_plan, distinct)
            .and_then(|b| b.build())
            .map_err(from_datafusion)?;
        Ok(Bound {
            plan,
            columns: start.columns,
        })
    }

    /// The plan with fields that all tell their SQL type, as both terms of a recursion must.
    fn labelled(&mut self, plan: LogicalPlan, columns: &[OutputColumn]) -> Result<LogicalPlan> {
        let exprs: Vec<Expr> = columns
            .iter()
            .map(|c| {
                let told = crate::arrow_bridge::field(&c.internal, &c.ty, true);
                Expr::Column(Column::new_unqualified(&c.internal)).alias_with_metadata(
                    c.internal.clone(),
                    Some(FieldMetadata::from(told.metadata().clone())),
                )
            })
            .collect();
        LogicalPlanBuilder::from(plan)
            .project(exprs)
            .and_then(|b| b.build())
            .map_err(from_datafusion)
    }
}

/// Whether a query names `table` anywhere in its FROM clauses.
fn mentions(query: &ast::Query, table: &str) -> bool {
    let mut found = false;
    let _ = ast::visit_relations(query, |name| {
        if object_name(name).as_slice() == [table.to_string()] {
            found = true;
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    found
}
