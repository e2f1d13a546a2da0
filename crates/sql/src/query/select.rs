//! Binding of queries: SELECT with all its clauses, set operations, VALUES, WITH.

use super::aggregates::sort;
use super::binder::{Binder, Bound, CommonTable, OutputColumn, unnested};
use super::casts::cast_expr;
use super::coerce::{CastContext, can_cast, common_type};
use super::errors::from_datafusion;
use super::expressions::Site;
use super::names::{fold, object_name, output_name};
use super::planner::{LockStrength, LockWait, Locking};
use super::scope::{Scope, Typed};
use crate::functions::Volatility;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, UnnestOptions};
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast;
use std::collections::BTreeSet;
use types::{Datum, Error, Result, SqlState, SqlType};

/// One select item, bound.
struct Item {
    value: Typed,
    name: String,
    table: u32,
    attribute: i16,
    declared_modifier: bool,
}

/// A sort key: an output column, or an expression of its own.
enum SortKey {
    Output(usize),
    Extra(Typed),
}

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

    fn limit(
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
            if fetch.with_ties {
                return Err(Error::unsupported("FETCH FIRST … WITH TIES"));
            }
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

    // ---- WITH -------------------------------------------------------------------------------

    fn with(&mut self, with: &ast::With, parent: Option<&Scope<'_>>) -> Result<()> {
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
            let bound = if recursive {
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

    // ---- set operations and VALUES ----------------------------------------------------------

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
            _ => Err(Error::unsupported("a data-modifying statement in WITH")),
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
                return Err(Error::unsupported(format!("{word} ALL")));
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
                let value = self.coerce(value, &column.ty, false)?;
                converted.push(cast_expr(value.expr, &value.ty, &column.ty, false));
            }
            exprs.push(converted);
        }
        let plan = LogicalPlanBuilder::values(exprs)
            .and_then(|b| b.build())
            .map_err(from_datafusion)?;
        Ok(Bound { plan, columns })
    }

    /// ORDER BY over a set operation or VALUES: output columns by name or position.
    fn order_output(&mut self, bound: Bound, order: &[ast::OrderByExpr]) -> Result<Bound> {
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

    // ---- types of output columns ------------------------------------------------------------

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

    // ---- SELECT -----------------------------------------------------------------------------

    fn select(
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
            let map = named_columns(&windows);
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

    fn items(&mut self, projection: &[ast::SelectItem], scope: &Scope<'_>) -> Result<Vec<Item>> {
        let site = Site {
            scope,
            clause: "SELECT",
            aggregates: true,
            windows: true,
            sets: true,
        };
        let mut items = Vec::new();
        for item in projection {
            match item {
                ast::SelectItem::UnnamedExpr(expr) => {
                    let name = output_name(expr);
                    items.push(self.item(expr, name, &site)?);
                }
                ast::SelectItem::ExprWithAlias { expr, alias } => {
                    items.push(self.item(expr, fold(alias), &site)?);
                }
                ast::SelectItem::Wildcard(options) => {
                    refuse_wildcard_options(options)?;
                    if scope.relations.is_empty() {
                        return Err(Error::syntax(
                            "SELECT * with no tables specified is not valid",
                        ));
                    }
                    items.extend(scope.visible.iter().map(item_of));
                }
                ast::SelectItem::QualifiedWildcard(kind, options) => {
                    refuse_wildcard_options(options)?;
                    let ast::SelectItemQualifiedWildcardKind::ObjectName(name) = kind else {
                        return Err(Error::unsupported("expansion of a composite value"));
                    };
                    let names = object_name(name);
                    let (schema, relation) = match names.as_slice() {
                        [relation] => (None, relation),
                        [schema, relation] => (Some(schema.as_str()), relation),
                        _ => return Err(Error::syntax("improper qualified name")),
                    };
                    let mut level = Some(scope);
                    let mut found = None;
                    if let Some(scope) = level.take() {
                        found = scope.find_relation(schema, relation);
                    }
                    let found = found.ok_or_else(|| {
                        Error::new(
                            SqlState::UNDEFINED_TABLE,
                            format!(
                                "missing FROM-clause entry for table \"{}\"",
                                names.join(".")
                            ),
                        )
                    })?;
                    items.extend(found.columns.iter().map(item_of));
                }
                other => return Err(Error::unsupported(format!("the select item {other}"))),
            }
        }
        Ok(items)
    }

    fn item(&mut self, expr: &ast::Expr, name: String, site: &Site<'_>) -> Result<Item> {
        let value = self.expr(expr, site)?;
        // A plain column brings its origin along.
        let origin = match &value.expr {
            Expr::Column(_) => site
                .scope
                .relations
                .iter()
                .flat_map(|r| &r.columns)
                .find(|v| v.value.expr == value.expr)
                .map(|v| (v.table, v.attribute)),
            _ => None,
        };
        let declared_modifier = matches!(unnested(expr), ast::Expr::Cast { .. })
            || matches!(&value.expr, Expr::Column(_));
        let (table, attribute) = origin.unwrap_or((0, 0));
        Ok(Item {
            value,
            name,
            table,
            attribute,
            declared_modifier,
        })
    }

    /// ORDER BY and DISTINCT ON take positions and output names before expressions.
    fn sort_key(
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
            .position(|i| i.value.expr == typed.expr && !is_volatile(&typed.expr))
        {
            return Ok(SortKey::Output(index));
        }
        Ok(SortKey::Extra(typed))
    }

    fn groups(
        &mut self,
        group_by: &ast::GroupByExpr,
        items: &[Item],
        scope: &Scope<'_>,
    ) -> Result<Vec<Expr>> {
        let ast::GroupByExpr::Expressions(exprs, modifiers) = group_by else {
            return Err(Error::syntax("syntax error at or near \"ALL\""));
        };
        if !modifiers.is_empty() {
            return Err(Error::syntax("syntax error in GROUP BY"));
        }
        let mut groups = Vec::new();
        for expr in exprs {
            match expr {
                ast::Expr::Rollup(sets) => {
                    let sets = self.group_sets(sets, items, scope)?;
                    groups.push(Expr::GroupingSet(rollup(sets)));
                }
                ast::Expr::Cube(sets) => {
                    let sets = self.group_sets(sets, items, scope)?;
                    if sets.iter().all(|s| s.len() == 1) {
                        groups.push(Expr::GroupingSet(GroupingSet::Cube(
                            sets.into_iter().flatten().collect(),
                        )));
                    } else {
                        return Err(Error::unsupported("CUBE of composite columns"));
                    }
                }
                ast::Expr::GroupingSets(sets) => {
                    let sets = self.group_sets(sets, items, scope)?;
                    groups.push(Expr::GroupingSet(GroupingSet::GroupingSets(sets)));
                }
                ast::Expr::Tuple(parts) => {
                    for part in parts {
                        groups.push(self.group(part, items, scope)?);
                    }
                }
                other => groups.push(self.group(other, items, scope)?),
            }
        }
        let mut unique: Vec<Expr> = Vec::new();
        for group in groups {
            if !unique.contains(&group) {
                unique.push(group);
            }
        }
        Ok(unique)
    }

    fn group_sets(
        &mut self,
        sets: &[Vec<ast::Expr>],
        items: &[Item],
        scope: &Scope<'_>,
    ) -> Result<Vec<Vec<Expr>>> {
        sets.iter()
            .map(|set| {
                set.iter()
                    .map(|expr| self.group(expr, items, scope))
                    .collect()
            })
            .collect()
    }

    fn group(&mut self, expr: &ast::Expr, items: &[Item], scope: &Scope<'_>) -> Result<Expr> {
        let from_item = |item: &Item| -> Result<Expr> {
            if !collect(std::iter::once(&item.value.expr), |e| {
                matches!(e, Expr::AggregateFunction(_))
            })
            .is_empty()
            {
                return Err(Error::new(
                    SqlState::GROUPING_ERROR,
                    "aggregate functions are not allowed in GROUP BY",
                ));
            }
            Ok(item.value.expr.clone())
        };
        match unnested(expr) {
            ast::Expr::Value(value) => {
                if let Some(index) = ordinal(&value.value, items.len(), "GROUP BY")? {
                    return from_item(&items[index]);
                }
            }
            // Input columns come before output names here.
            ast::Expr::Identifier(identifier) => {
                let name = fold(identifier);
                let is_input = scope.visible.iter().any(|v| v.name == name);
                if !is_input && let Some(item) = items.iter().find(|i| i.name == name) {
                    return from_item(item);
                }
            }
            _ => {}
        }
        Ok(self
            .settled_expr(expr, &Site::plain(scope, "GROUP BY"))?
            .expr)
    }

    /// The Aggregate step, and what each grouped or aggregated expression is called above it.
    fn aggregate_plan(
        &mut self,
        plan: LogicalPlan,
        mut groups: Vec<Expr>,
        aggregates: Vec<Expr>,
        used: &[Expr],
        scope: &Scope<'_>,
    ) -> Result<(LogicalPlan, Vec<(Expr, Expr)>)> {
        // Grouping by a primary key determines the table's other columns.
        for relation in &scope.relations {
            let Some(table) = &relation.source else {
                continue;
            };
            let Some(key) = &table.primary_key else {
                continue;
            };
            let grouped = |name: &str| {
                relation
                    .columns
                    .iter()
                    .any(|c| c.name == name && groups.contains(&c.value.expr))
            };
            let whole_key = key.columns.iter().all(|position| {
                table
                    .columns
                    .get(*position)
                    .is_some_and(|c| grouped(&c.name))
            });
            if whole_key && !groups.iter().any(|g| matches!(g, Expr::GroupingSet(_))) {
                let dependent: Vec<Expr> = relation
                    .columns
                    .iter()
                    .map(|c| c.value.expr.clone())
                    .filter(|c| !groups.contains(c) && used.iter().any(|u| mentions_column(u, c)))
                    .collect();
                groups.extend(dependent);
            }
        }
        let plain: Vec<Expr> = groups
            .iter()
            .flat_map(|g| match g {
                Expr::GroupingSet(set) => set.distinct_expr().into_iter().cloned().collect(),
                other => vec![other.clone()],
            })
            .collect();
        let mut map: Vec<(Expr, Expr)> = plain
            .into_iter()
            .map(|g| {
                let above = match &g {
                    Expr::Column(_) => g.clone(),
                    other => Expr::Column(Column::new_unqualified(other.schema_name().to_string())),
                };
                (g, above)
            })
            .collect();
        map.extend(named_columns(&aggregates));
        let plan = LogicalPlanBuilder::from(plan)
            .aggregate(groups, aggregates)
            .and_then(|b| b.build())
            .map_err(from_datafusion)?;
        Ok((plan, map))
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

    /// Projection, DISTINCT and ORDER BY.
    fn output(
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
                if !super::coerce::plain_comparison(&column.ty)
                    && matches!(column.ty, SqlType::Json)
                {
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

    fn lock_clauses(
        &mut self,
        locks: &[ast::LockClause],
        scope: &Scope<'_>,
        select: &ast::Select,
    ) -> Result<()> {
        if locks.is_empty() {
            return Ok(());
        }
        let grouped = !matches!(&select.group_by,
            ast::GroupByExpr::Expressions(e, _) if e.is_empty())
            || select.having.is_some();
        if grouped || select.distinct.is_some() {
            let what = if grouped { "GROUP BY" } else { "DISTINCT" };
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("FOR UPDATE is not allowed with {what} clause"),
            ));
        }
        for lock in locks {
            let strength = match lock.lock_type {
                ast::LockType::Share => LockStrength::Share,
                ast::LockType::Update => LockStrength::Update,
            };
            let wait = match lock.nonblock {
                None => LockWait::Block,
                Some(ast::NonBlock::Nowait) => LockWait::NoWait,
                Some(ast::NonBlock::SkipLocked) => LockWait::SkipLocked,
            };
            let tables = match &lock.of {
                None => scope
                    .relations
                    .iter()
                    .filter_map(|r| r.source.as_ref().map(|t| t.oid))
                    .collect(),
                Some(of) => {
                    let name = object_name(of).pop().unwrap_or_default();
                    let relation = scope.find_relation(None, &name).ok_or_else(|| {
                        Error::new(
                            SqlState::UNDEFINED_TABLE,
                            format!(
                                "relation \"{name}\" in FOR UPDATE clause not found in FROM clause"
                            ),
                        )
                    })?;
                    let table = relation.source.as_ref().ok_or_else(|| {
                        Error::unsupported("FOR UPDATE of something that is not a table")
                    })?;
                    vec![table.oid]
                }
            };
            self.saw_volatility(Volatility::Volatile);
            self.locking.push(Locking {
                strength,
                wait,
                tables,
            });
        }
        Ok(())
    }
}

// ---- helpers ------------------------------------------------------------------------------------

fn negative_row_count(clause: &str) -> Error {
    let state = match clause {
        "OFFSET" => SqlState::INVALID_ROW_COUNT_IN_OFFSET,
        _ => SqlState::INVALID_ROW_COUNT_IN_LIMIT,
    };
    Error::new(state, format!("{clause} must not be negative"))
}

fn unequal_columns(word: &str) -> Error {
    Error::syntax(format!(
        "each {word} query must have the same number of columns"
    ))
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

fn item_of(visible: &super::scope::Visible) -> Item {
    Item {
        value: visible.value.clone(),
        name: visible.name.clone(),
        table: visible.table,
        attribute: visible.attribute,
        declared_modifier: true,
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

/// A position in ORDER BY or GROUP BY. `None` if the value is no integer.
fn ordinal(value: &ast::Value, count: usize, clause: &str) -> Result<Option<usize>> {
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

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// All distinct subexpressions that fit, outermost first; subqueries are not entered.
fn collect<'e>(exprs: impl Iterator<Item = &'e Expr>, fits: impl Fn(&Expr) -> bool) -> Vec<Expr> {
    let mut found: Vec<Expr> = Vec::new();
    for expr in exprs {
        let walked = expr.apply(|e| {
            if fits(e) {
                if !found.contains(e) {
                    found.push(e.clone());
                }
                return Ok(TreeNodeRecursion::Jump);
            }
            Ok(TreeNodeRecursion::Continue)
        });
        debug_assert!(walked.is_ok(), "the walk itself cannot fail");
    }
    found
}

fn mentions_column(expr: &Expr, column: &Expr) -> bool {
    expr.exists(|e| Ok(e == column)).unwrap_or(false)
}

fn is_volatile(expr: &Expr) -> bool {
    expr.is_volatile()
}

/// What aggregate and window expressions are called above their step.
fn named_columns(exprs: &[Expr]) -> Vec<(Expr, Expr)> {
    exprs
        .iter()
        .map(|e| {
            let name = e.schema_name().to_string();
            (e.clone(), Expr::Column(Column::new_unqualified(name)))
        })
        .collect()
}

/// Replaces whole subexpressions, outermost first.
fn replace(expr: Expr, map: &[(Expr, Expr)]) -> Result<Expr> {
    expr.transform_down(|e| {
        Ok(match map.iter().find(|(from, _)| *from == e) {
            Some((_, to)) => Transformed::new(to.clone(), true, TreeNodeRecursion::Jump),
            None => Transformed::no(e),
        })
    })
    .map(|t| t.data)
    .map_err(from_datafusion)
}

/// After grouping only grouped columns are left; 42803 names the first other one.
fn check_grouped(expr: &Expr, plan: &LogicalPlan, scope: &Scope<'_>) -> Result<()> {
    let mut offender = None;
    let walked = expr.apply(|e| {
        if let Expr::Column(column) = e
            && !plan.schema().has_column(column)
        {
            offender = Some(column.clone());
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the walk itself cannot fail");
    match offender {
        None => Ok(()),
        Some(column) => {
            let shown = scope
                .relations
                .iter()
                .find_map(|r| {
                    r.columns
                        .iter()
                        .find(|c| c.value.expr == Expr::Column(column.clone()))
                        .map(|c| format!("{}.{}", r.alias, c.name))
                })
                .unwrap_or(column.name);
            Err(Error::new(
                SqlState::GROUPING_ERROR,
                format!(
                    "column \"{shown}\" must appear in the GROUP BY clause or be used in an aggregate function"
                ),
            ))
        }
    }
}

fn rollup(sets: Vec<Vec<Expr>>) -> GroupingSet {
    if sets.iter().all(|s| s.len() == 1) {
        return GroupingSet::Rollup(sets.into_iter().flatten().collect());
    }
    // Composite steps: spell the prefixes out.
    let prefixes = (0..=sets.len())
        .rev()
        .map(|n| sets[..n].iter().flatten().cloned().collect())
        .collect();
    GroupingSet::GroupingSets(prefixes)
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

/// Parses one query, for text that the catalog holds.
pub(crate) fn parse_query(text: &str) -> Result<ast::Query> {
    let dialect = datafusion::sql::sqlparser::dialect::PostgreSqlDialect {};
    let statements = datafusion::sql::sqlparser::parser::Parser::parse_sql(&dialect, text)
        .map_err(|e| Error::syntax(e.to_string()))?;
    match statements.into_iter().next() {
        Some(ast::Statement::Query(query)) => Ok(*query),
        _ => Err(Error::internal("stored text is not a query")),
    }
}

fn refuse_wildcard_options(options: &ast::WildcardAdditionalOptions) -> Result<()> {
    if options.opt_ilike.is_some()
        || options.opt_exclude.is_some()
        || options.opt_except.is_some()
        || options.opt_replace.is_some()
        || options.opt_rename.is_some()
    {
        return Err(Error::syntax("syntax error after \"*\""));
    }
    Ok(())
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
