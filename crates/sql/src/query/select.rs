//! Binding of queries: the order of the clauses of a SELECT.
//!
//! Each clause has a module of its own; [`Binder::query`] leads through them.

use super::binder::{Binder, Bound};
use super::errors::from_datafusion;
use super::expressions::Site;
use super::grouping::check_grouped;
use super::ordering::SortKey;
use super::scope::{Scope, Typed};
use super::subexpressions::{collect, named_columns, replace};
use datafusion::common::{Column, UnnestOptions};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast;
use types::{Error, Result, SqlState};

impl Binder<'_> {
    pub fn query(&mut self, query: &ast::Query, parent: Option<&Scope<'_>>) -> Result<Bound> {
        let outer_tables = self.common_tables.len();
        let result = match &query.with {
            Some(with) => self
                .with(with, parent)
                .and_then(|()| self.query_body(query, parent)),
            None => self.query_body(query, parent),
        };
        self.common_tables.truncate(outer_tables);
        result
    }

    fn query_body(&mut self, query: &ast::Query, parent: Option<&Scope<'_>>) -> Result<Bound> {
        if query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
        {
            return Err(Error::syntax("syntax error in the query's last clauses"));
        }
        let order: &[ast::OrderByExpr] = match &query.order_by {
            None => &[],
            Some(order) => match &order.kind {
                ast::OrderByKind::Expressions(items) => items,
                ast::OrderByKind::All(_) => {
                    return Err(Error::syntax("syntax error at or near \"ALL\""));
                }
            },
        };
        let bound = match query.body.as_ref() {
            ast::SetExpr::Select(select) => self.select(select, order, parent, &query.locks)?,
            other => {
                if !query.locks.is_empty() {
                    return Err(Error::new(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "FOR UPDATE is not allowed with UNION/INTERSECT/EXCEPT",
                    ));
                }
                let bound = self.set_expr(other, parent)?;
                self.order_output(bound, order)?
            }
        };
        self.limit(bound, query, parent)
    }

    pub(super) fn select(
        &mut self,
        select: &ast::Select,
        order: &[ast::OrderByExpr],
        parent: Option<&Scope<'_>>,
        locks: &[ast::LockClause],
    ) -> Result<Bound> {
        refuse_foreign_clauses(select)?;
        let windows = self.windows.len();
        self.windows.extend(select.named_window.iter().cloned());
        let result = self.select_in(select, order, parent, locks);
        self.windows.truncate(windows);
        result
    }

    fn select_in(
        &mut self,
        select: &ast::Select,
        order: &[ast::OrderByExpr],
        parent: Option<&Scope<'_>>,
        locks: &[ast::LockClause],
    ) -> Result<Bound> {
        let (mut plan, scope) = self.from(&select.from, parent)?;
        if let Some(condition) = &select.selection {
            let filter = self.condition(condition, &Site::plain(&scope, "WHERE"), "WHERE")?;
            plan = LogicalPlanBuilder::from(plan)
                .filter(filter)
                .and_then(|b| b.build())
                .map_err(from_datafusion)?;
        }
        let mut items = self.items(&select.projection, &scope)?;
        let full = Site {
            scope: &scope,
            clause: "SELECT",
            aggregates: true,
            windows: true,
            sets: true,
        };
        let groups = self.groups(&select.group_by, &items, &scope)?;
        let mut having = match &select.having {
            Some(having) => Some(self.condition(
                having,
                &Site {
                    clause: "HAVING",
                    windows: false,
                    sets: false,
                    ..full
                },
                "HAVING",
            )?),
            None => None,
        };
        let mut keys = Vec::new();
        for item in order {
            keys.push(self.sort_key(&item.expr, &items, &full, "ORDER BY")?);
        }
        let distinct_on = match &select.distinct {
            Some(ast::Distinct::On(exprs)) => {
                let mut on = Vec::new();
                for expr in exprs {
                    on.push(self.sort_key(expr, &items, &full, "DISTINCT ON")?);
                }
                on
            }
            _ => Vec::new(),
        };
        let distinct = matches!(select.distinct, Some(ast::Distinct::Distinct));

        // Everything from here on works on the same list of expressions.
        let mut all: Vec<Expr> = items.iter().map(|i| i.value.expr.clone()).collect();
        for key in keys.iter().chain(&distinct_on) {
            if let SortKey::Extra(typed) = key {
                all.push(typed.expr.clone());
            }
        }
        let aggregates = collect(all.iter().chain(having.iter()), |e| {
            matches!(e, Expr::AggregateFunction(_))
        });
        if !groups.is_empty() || !aggregates.is_empty() || having.is_some() {
            let mut checked = all.clone();
            checked.extend(having.clone());
            let (grouped, map) = self.aggregate_plan(plan, groups, aggregates, &checked, &scope)?;
            plan = grouped;
            for expr in all.iter_mut().chain(having.iter_mut()) {
                *expr = replace(expr.clone(), &map)?;
                check_grouped(expr, &plan, &scope)?;
            }
            if let Some(having) = having {
                plan = LogicalPlanBuilder::from(plan)
                    .filter(having)
                    .and_then(|b| b.build())
                    .map_err(from_datafusion)?;
            }
        }
        let windows = collect(all.iter(), |e| matches!(e, Expr::WindowFunction(_)));
        if !windows.is_empty() {
            let (windows, map) = named_columns(windows);
            plan = LogicalPlanBuilder::window_plan(plan, windows).map_err(from_datafusion)?;
            for expr in &mut all {
                *expr = replace(expr.clone(), &map)?;
            }
        }
        let sets = collect(all.iter(), |e| matches!(e, Expr::Unnest(_)));
        if !sets.is_empty() {
            plan = self.unnest(plan, &sets, &mut all)?;
        }
        // Back to where they came from.
        let mut rest = all.into_iter();
        for item in &mut items {
            if let Some(expr) = rest.next() {
                item.value.expr = expr;
            }
        }
        let mut refill = |keys: Vec<SortKey>| -> Vec<SortKey> {
            keys.into_iter()
                .map(|key| match key {
                    SortKey::Extra(typed) => match rest.next() {
                        Some(expr) => SortKey::Extra(Typed::new(expr, typed.ty)),
                        None => SortKey::Extra(typed),
                    },
                    output => output,
                })
                .collect()
        };
        let keys = refill(keys);
        let distinct_on = refill(distinct_on);

        self.lock_clauses(locks, &scope, select)?;
        self.output(plan, items, keys, order, distinct, distinct_on)
    }

    /// Takes sets in the select list apart, all in step.
    fn unnest(
        &mut self,
        plan: LogicalPlan,
        sets: &[Expr],
        all: &mut [Expr],
    ) -> Result<LogicalPlan> {
        let mut exprs: Vec<Expr> = plan
            .schema()
            .columns()
            .into_iter()
            .map(Expr::Column)
            .collect();
        let mut names = Vec::new();
        let mut map = Vec::new();
        for set in sets {
            let Expr::Unnest(unnest) = set else { continue };
            let name = self.qualifier("set");
            exprs.push(unnest.expr.as_ref().clone().alias(name.clone()));
            map.push((
                set.clone(),
                Expr::Column(Column::new_unqualified(name.clone())),
            ));
            names.push(Column::new_unqualified(name));
        }
        for expr in all.iter_mut() {
            *expr = replace(expr.clone(), &map)?;
        }
        LogicalPlanBuilder::from(plan)
            .project(exprs)
            .and_then(|b| {
                b.unnest_columns_with_options(
                    names,
                    UnnestOptions::new().with_preserve_nulls(false),
                )
            })
            .and_then(|b| b.build())
            .map_err(from_datafusion)
    }
}

/// Parses one query, for text that the catalog holds.
pub(crate) fn parse_query(text: &str) -> Result<ast::Query> {
    let query = crate::statement::grammar::parse(text, |parser| parser.parse_query());
    Ok(*query.map_err(|error| Error::internal(format!("stored query: {error}")))?)
}

/// Clauses that other databases have.
fn refuse_foreign_clauses(select: &ast::Select) -> Result<()> {
    if select.into.is_some() {
        return Err(Error::unsupported("SELECT INTO"));
    }
    let foreign = select.top.is_some()
        || !select.lateral_views.is_empty()
        || select.prewhere.is_some()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty()
        || select.qualify.is_some()
        || select.value_table_mode.is_some()
        || select.exclude.is_some();
    if foreign {
        return Err(Error::syntax(
            "syntax error: the query has a clause of another dialect",
        ));
    }
    Ok(())
}
