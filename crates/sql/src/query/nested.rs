//! Subqueries in expressions that DataFusion cannot turn into joins.
//!
//! DataFusion runs `EXISTS` and `IN` in WHERE, and correlated scalar subqueries that are aggregates
//! over equality with the outer row. This pass over an analysed plan rewrites all others:
//!
//! - a correlated scalar subquery without aggregate becomes `array_agg` of its rows, and
//!   [`SingleRow`] takes the one element or raises 21000;
//! - `EXISTS` outside WHERE becomes `count(*) > 0`;
//! - what is left becomes a [`NestedQuery`], which runs once for each distinct outer row, in a
//!   projection below the step that needs it.

use super::comparisons::array_comparison;
use super::errors::from_datafusion;
use super::expressions::binary_expr;
use super::functions::FunctionUdf;
use super::nested_function::{ListOf, NestedQuery, Shape, SingleRow, Slot};
use super::quantified::subquery_of;
use crate::arrow_bridge::{field, sql_type_of};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result as DfResult, TableReference, UnnestOptions};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, Projection,
    Subquery, check_subquery_expr,
};
use datafusion::optimizer::decorrelate::PullUpCorrelatedExpr;
use datafusion::scalar::ScalarValue;
use std::collections::BTreeSet;
use std::sync::Arc;
use types::{Result, SqlType};

/// The plan with only subqueries that DataFusion can run.
pub(crate) fn settle(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut any = false;
    plan.apply_with_subqueries(|node| {
        any |= has_subquery(node);
        Ok(match any {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })
    .map_err(from_datafusion)?;
    if !any {
        return Ok(plan);
    }
    let mut names = 0;
    settle_plan(plan, &mut names).map_err(from_datafusion)
}

/// What a plan takes from the queries around it, each once.
pub(crate) fn free_references(plan: &LogicalPlan) -> Vec<Expr> {
    let mut own: BTreeSet<Column> = BTreeSet::new();
    let mut found: Vec<Expr> = Vec::new();
    let walked = plan.apply_with_subqueries(|node| {
        own.extend(node.schema().columns());
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                if matches!(e, Expr::OuterReferenceColumn(..)) && !found.contains(e) {
                    found.push(e.clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    debug_assert!(walked.is_ok(), "the walk itself cannot fail");
    found.retain(|e| matches!(e, Expr::OuterReferenceColumn(_, c) if !own.contains(c)));
    found
}

fn subquery_in(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery) => Some(subquery),
        Expr::Exists(exists) => Some(&exists.subquery),
        Expr::InSubquery(within) => Some(&within.subquery),
        Expr::SetComparison(comparison) => Some(&comparison.subquery),
        _ => None,
    }
}

fn contains_subquery(expr: &Expr) -> bool {
    expr.exists(|e| Ok(subquery_in(e).is_some()))
        .unwrap_or(false)
}

fn has_subquery(node: &LogicalPlan) -> bool {
    node.expressions().iter().any(contains_subquery)
}

fn settle_plan(plan: LogicalPlan, names: &mut usize) -> DfResult<LogicalPlan> {
    plan.transform_up(|node| {
        if has_subquery(&node) {
            settle_node(node, names).map(Transformed::yes)
        } else {
            Ok(Transformed::no(node))
        }
    })
    .data()
}

fn settle_node(node: LogicalPlan, names: &mut usize) -> DfResult<LogicalPlan> {
    let node = settle_inner(node, names)?;
    match node {
        LogicalPlan::Projection(projection) => settle_projection(projection),
        LogicalPlan::Filter(filter) => settle_filter(filter, names),
        LogicalPlan::Join(mut join) if join.join_type == JoinType::Inner => {
            let condition = join.filter.take();
            let plan = LogicalPlan::Join(join);
            match condition {
                Some(condition) => {
                    settle_filter(Filter::try_new(condition, Arc::new(plan))?, names)
                }
                None => Ok(plan),
            }
        }
        LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Sort(_) => {
            hoist(node, |_| false, names)
        }
        other => Ok(other),
    }
}

/// Settles the subqueries' own plans.
fn settle_inner(node: LogicalPlan, names: &mut usize) -> DfResult<LogicalPlan> {
    let preserver = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = preserver.save(&expr);
        let settled = expr.transform_up(|e| {
            let mut settled = |subquery: Subquery| -> DfResult<Subquery> {
                let plan = settle_plan(subquery.subquery.as_ref().clone(), names)?;
                Ok(Subquery {
                    outer_ref_columns: free_references(&plan),
                    subquery: Arc::new(plan),
                    spans: subquery.spans,
                })
            };
            Ok(match e {
                Expr::ScalarSubquery(subquery) => {
                    Transformed::yes(Expr::ScalarSubquery(settled(subquery)?))
                }
                Expr::Exists(mut exists) => {
                    exists.subquery = settled(exists.subquery)?;
                    Transformed::yes(Expr::Exists(exists))
                }
                Expr::InSubquery(mut within) => {
                    within.subquery = settled(within.subquery)?;
                    Transformed::yes(Expr::InSubquery(within))
                }
                Expr::SetComparison(mut comparison) => {
                    comparison.subquery = settled(comparison.subquery)?;
                    Transformed::yes(Expr::SetComparison(comparison))
                }
                other => Transformed::no(other),
            })
        })?;
        Ok(settled.update_data(|e| name.restore(e)))
    })
    .data()
}

fn settle_projection(projection: Projection) -> DfResult<LogicalPlan> {
    let node = LogicalPlan::Projection(projection.clone());
    let mut exprs = Vec::with_capacity(projection.expr.len());
    let preserver = NamePreserver::new_for_projection();
    for expr in projection.expr {
        let name = preserver.save(&expr);
        let expr = expr
            .transform_up(|e| {
                if subquery_in(&e).is_none() {
                    return Ok(Transformed::no(e));
                }
                Ok(match in_projection(&e, &node, projection.input.schema())? {
                    Some(other) => Transformed::yes(other),
                    None => Transformed::no(e),
                })
            })
            .data()?;
        exprs.push(name.restore(expr));
    }
    Projection::try_new(exprs, projection.input).map(LogicalPlan::Projection)
}

fn settle_filter(filter: Filter, names: &mut usize) -> DfResult<LogicalPlan> {
    let node = LogicalPlan::Filter(filter.clone());
    let native = |e: &Expr| runs_in_filter(e, &node);
    let (plain, nested): (Vec<Expr>, Vec<Expr>) = split_conjunction_owned(filter.predicate)
        .into_iter()
        .partition(|e| {
            !e.exists(|e| Ok(subquery_in(e).is_some() && !native(e)))
                .unwrap_or(false)
        });
    let mut plan = filter.input;
    if let Some(plain) = conjunction(plain) {
        plan = Arc::new(LogicalPlan::Filter(Filter::try_new(plain, plan)?));
    }
    match conjunction(nested) {
        None => Ok(Arc::unwrap_or_clone(plan)),
        Some(nested) => {
            let shown: Vec<Expr> = plan
                .schema()
                .columns()
                .into_iter()
                .map(Expr::Column)
                .collect();
            let filter = LogicalPlan::Filter(Filter::try_new(nested, plan)?);
            let filtered = hoist(filter, |_| false, names)?;
            Projection::try_new(shown, Arc::new(filtered)).map(LogicalPlan::Projection)
        }
    }
}

/// Computes the node's subqueries, but those to `keep`, in a projection below it.
fn hoist(
    node: LogicalPlan,
    keep: impl Fn(&Expr) -> bool,
    names: &mut usize,
) -> DfResult<LogicalPlan> {
    let [input] = node.inputs()[..] else {
        return Ok(node);
    };
    let input = input.clone();
    let mut below: Vec<Expr> = Vec::new();
    let mut known: Vec<(Expr, Expr)> = Vec::new();
    let preserver = NamePreserver::new(&node);
    let mut exprs = Vec::new();
    for expr in node.expressions() {
        let name = preserver.save(&expr);
        let expr = expr
            .transform_down(|e| {
                if subquery_in(&e).is_none() || keep(&e) {
                    return Ok(Transformed::no(e));
                }
                let column = match known.iter().find(|(from, _)| *from == e) {
                    Some((_, column)) => column.clone(),
                    None => {
                        *names += 1;
                        let alias = format!("nested#{names}");
                        let column = Expr::Column(Column::new_unqualified(alias.clone()));
                        below.push(e.clone().alias(alias));
                        known.push((e, column.clone()));
                        column
                    }
                };
                Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
            })
            .data()?;
        exprs.push(name.restore(expr));
    }
    if below.is_empty() {
        return Ok(node);
    }
    let mut all: Vec<Expr> = input
        .schema()
        .columns()
        .into_iter()
        .map(Expr::Column)
        .collect();
    all.extend(below);
    let input = settle_projection(Projection::try_new(all, Arc::new(input))?)?;
    node.with_new_exprs(exprs, vec![input])
}

/// Whether DataFusion runs this subquery in the filter `node`.
fn runs_in_filter(expr: &Expr, node: &LogicalPlan) -> bool {
    let Some(subquery) = subquery_in(expr) else {
        return true;
    };
    match expr {
        Expr::ScalarSubquery(_) => scalar_runs(expr, node),
        Expr::InSubquery(within) => {
            let output = subquery.subquery.head_output_expr().ok().flatten();
            let predicate = output.map(|o| binary_expr(*within.expr.clone(), Operator::Eq, o));
            predicate.is_some() && pulls_up(&subquery.subquery, predicate, false)
        }
        _ => pulls_up(&subquery.subquery, None, false),
    }
}

/// Whether DataFusion runs this scalar subquery in `node`.
fn scalar_runs(expr: &Expr, node: &LogicalPlan) -> bool {
    let Expr::ScalarSubquery(subquery) = expr else {
        return false;
    };
    subquery.outer_ref_columns.is_empty()
        || (check_subquery_expr(node, &subquery.subquery, expr).is_ok()
            && pulls_up(&subquery.subquery, None, true))
}

/// Whether the conditions on outer columns can be pulled up into a join.
fn pulls_up(plan: &LogicalPlan, predicate: Option<Expr>, scalar: bool) -> bool {
    // A subquery further in that reaches out beyond this one stays where it is.
    let mut reaches_out = false;
    let walked = plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                if let Some(inner) = subquery_in(e) {
                    let free = free_references(plan);
                    reaches_out |= free_references(&inner.subquery)
                        .iter()
                        .any(|r| free.contains(r));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    if walked.is_err() || reaches_out {
        return false;
    }
    let mut pull = PullUpCorrelatedExpr::new()
        .with_exists_sub_query(!scalar && predicate.is_none())
        .with_in_predicate_opt(predicate)
        .with_need_handle_count_bug(scalar);
    plan.clone().rewrite(&mut pull).is_ok() && pull.can_pull_up
}

/// What stands for a subquery in a projection; `None` if it may stay.
fn in_projection(expr: &Expr, node: &LogicalPlan, input: &DFSchema) -> DfResult<Option<Expr>> {
    Ok(Some(match expr {
        Expr::ScalarSubquery(subquery) => {
            if scalar_runs(expr, node) {
                return Ok(None);
            }
            let Some(returns) = first_field(&subquery.subquery) else {
                return Ok(None);
            };
            if let Some(joined) = rows_as_array(&subquery.subquery, node, &returns)? {
                return Ok(Some(joined));
            }
            nested(&subquery.subquery, Shape::Value, returns, input)
        }
        Expr::Exists(exists) => {
            let plan = exists.subquery.subquery.as_ref();
            let counted = counted(plan, node)?;
            let found = match counted {
                Some(counted) => counted,
                None => {
                    let one = LogicalPlanBuilder::from(plan.clone())
                        .limit(0, Some(1))?
                        .build()?;
                    let returns = Arc::new(field("exists", &SqlType::Bool, false));
                    nested(&Arc::new(one), Shape::Exists, returns, input)
                }
            };
            match exists.negated {
                true => Expr::Not(Box::new(found)),
                false => found,
            }
        }
        Expr::InSubquery(within) => {
            let value = within.expr.as_ref().clone();
            let any = with_rows(value, Operator::Eq, false, &within.subquery, input)?;
            match (any, within.negated) {
                (None, _) => return Ok(None),
                (Some(any), true) => Expr::Not(Box::new(any)),
                (Some(any), false) => any,
            }
        }
        Expr::SetComparison(comparison) => {
            let value = comparison.expr.as_ref().clone();
            let all = matches!(comparison.quantifier, SetQuantifier::All);
            match with_rows(value, comparison.op, all, &comparison.subquery, input)? {
                Some(holds) => holds,
                None => return Ok(None),
            }
        }
        _ => return Ok(None),
    }))
}

fn first_field(plan: &LogicalPlan) -> Option<FieldRef> {
    let field = plan.schema().fields().first()?;
    Some(Arc::new(field.as_ref().clone().with_nullable(true)))
}

/// The rows of a subquery as an array in a join, and the one of them out of it.
fn rows_as_array(
    plan: &LogicalPlan,
    node: &LogicalPlan,
    returns: &FieldRef,
) -> DfResult<Option<Expr>> {
    let Some(value) = plan.schema().columns().into_iter().next() else {
        return Ok(None);
    };
    let rows = super::aggregates::array_agg(Expr::Column(value), Vec::new());
    let plan = LogicalPlanBuilder::from(plan.clone())
        .aggregate(Vec::<Expr>::new(), vec![rows])?
        .build()?;
    let rows = Expr::ScalarSubquery(subquery_of(plan));
    Ok(scalar_runs(&rows, node).then(|| SingleRow::call(rows, returns.clone())))
}

/// `EXISTS` as a comparison of a count.
fn counted(plan: &LogicalPlan, node: &LogicalPlan) -> DfResult<Option<Expr>> {
    let one = Expr::Literal(ScalarValue::Int64(Some(1)), None);
    let mut builder = LogicalPlanBuilder::from(plan.clone());
    if free_references(plan).is_empty() {
        builder = builder.limit(0, Some(1))?;
    }
    let count = AggregateFunction::new_udf(count_udaf(), vec![one], false, None, Vec::new(), None);
    let plan = builder
        .aggregate(Vec::<Expr>::new(), vec![Expr::AggregateFunction(count)])?
        .build()?;
    let count = Expr::ScalarSubquery(subquery_of(plan));
    let zero = Expr::Literal(ScalarValue::Int64(Some(0)), None);
    Ok(scalar_runs(&count, node).then(|| binary_expr(count, Operator::Gt, zero)))
}

/// A value compared with any or all rows of a subquery.
fn with_rows(
    value: Expr,
    operator: Operator,
    all: bool,
    subquery: &Subquery,
    input: &DFSchema,
) -> DfResult<Option<Expr>> {
    let Some(element) = first_field(&subquery.subquery) else {
        return Ok(None);
    };
    let value_type = match value.to_field(input) {
        Ok((_, field)) => sql_type_of(&field),
        Err(_) => sql_type_of(&element),
    };
    let list = SqlType::Array(Box::new(sql_type_of(&element)));
    let returns = Arc::new(field("rows", &list, false));
    let rows = nested(&subquery.subquery, Shape::Array, returns, input);
    let function = array_comparison(operator, all);
    let call = FunctionUdf::new(Arc::new(function), vec![value_type, list], SqlType::Bool);
    Ok(Some(call.call(vec![value, rows])))
}

/// The call of a query that runs for each row of `input`.
fn nested(plan: &Arc<LogicalPlan>, shape: Shape, returns: FieldRef, input: &DFSchema) -> Expr {
    let mut slots = Vec::new();
    let mut arguments = Vec::new();
    for reference in free_references(plan) {
        if let Expr::OuterReferenceColumn(_, column) = &reference {
            slots.push(Slot::Outer(column.clone()));
            arguments.push(match input.has_column(column) {
                true => Expr::Column(column.clone()),
                false => reference,
            });
        }
    }
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                if let Expr::Placeholder(parameter) = e {
                    let slot = Slot::Parameter(parameter.id.clone());
                    if !slots.contains(&slot) {
                        slots.push(slot);
                        arguments.push(e.clone());
                    }
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    debug_assert!(walked.is_ok(), "the walk itself cannot fail");
    NestedQuery::call(plan.clone(), slots, arguments, shape, returns)
}

/// Whether DataFusion turns a lateral query into a join.
pub(super) fn joins_laterally(plan: &LogicalPlan) -> bool {
    let references = free_references(plan);
    references.is_empty() || (!has_subqueries(plan) && pulls_up(plan, None, true))
}

fn has_subqueries(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(has_subquery(node))).unwrap_or(true)
}

/// `left` and, beside each of its rows, those of a query that runs for it: all columns of the query's
/// rows come as arrays out of one call and are taken apart in step.
pub(super) fn rows_beside(
    left: LogicalPlan,
    query: &LogicalPlan,
    alias: &TableReference,
    keep: bool,
) -> DfResult<LogicalPlan> {
    let mut names = 0;
    let settled = settle_plan(query.clone(), &mut names)?;
    let lists: Vec<FieldRef> = settled
        .schema()
        .fields()
        .iter()
        .map(|own| {
            let list = SqlType::Array(Box::new(sql_type_of(own)));
            Arc::new(field(own.name(), &list, true))
        })
        .collect();
    let returns = DataType::Struct(lists.iter().cloned().collect());
    let returns = Arc::new(Field::new("rows", returns, false));
    let call = nested(&Arc::new(settled), Shape::Rows, returns, left.schema());
    let rows = format!("rows of {alias}");
    let shown = left.schema().columns().into_iter().map(Expr::Column);
    let mut all: Vec<Expr> = shown.clone().collect();
    all.push(call.alias(rows.clone()));
    let with_rows = LogicalPlanBuilder::from(left.clone())
        .project(all)?
        .build()?;
    let mut parts: Vec<Expr> = shown.clone().collect();
    let mut arrays = Vec::with_capacity(lists.len());
    for (number, list) in lists.iter().enumerate() {
        let rows = Expr::Column(Column::new_unqualified(rows.clone()));
        let name = format!("{rows} {}", list.name());
        parts.push(ListOf::call(rows, number, list.clone()).alias(name.clone()));
        arrays.push(Column::new_unqualified(name));
    }
    let mut named: Vec<Expr> = shown.collect();
    for (array, list) in arrays.iter().zip(&lists) {
        named.push(Expr::Column(array.clone()).alias_qualified(Some(alias.clone()), list.name()));
    }
    LogicalPlanBuilder::from(with_rows)
        .project(parts)?
        .unnest_columns_with_options(arrays, UnnestOptions::new().with_preserve_nulls(keep))?
        .project(named)?
        .build()
}
