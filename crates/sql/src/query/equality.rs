//! SQL's equality and order for types where Arrow's are others.
//!
//! `1.5` and `1.50`, `1 day` and `24 hours`, `0.0` and `-0.0` are equal in SQL and differ in their
//! Arrow form. Bound plans compare them as if that were no matter, which suits the direct road, whose
//! datums compare as SQL does. For DataFusion this rule, the first of its analysis, puts
//! [`sort_key`] around such values wherever a plan compares:
//!
//! - operands of comparisons, IN lists and IN subqueries, join conditions (hash joins stay),
//! - keys of ORDER BY, PARTITION BY and of ORDER BY inside aggregates,
//! - arguments of DISTINCT aggregates,
//! - GROUP BY and DISTINCT: groups are made by key, and each shows the first of its values.
//!
//! Names and types of all plan steps stay as they were. A RANGE frame without distances becomes a
//! GROUPS frame, which is the same and asks nothing of the key's type.

use super::casts::CastUdf;
use super::key_function::{is_keyed, sort_key};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result};
use datafusion::functions_aggregate::first_last::first_value_udaf;
use datafusion::functions_aggregate::grouping::grouping_udaf;
use datafusion::logical_expr::expr::{
    AggregateFunction, Between, Case, InList, InSubquery, SetComparison, Sort, WindowFunction,
};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{grouping_set_to_exprlist, merge_schema};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Distinct, DistinctOn, Expr, ExprSchemable, GroupingSet, Join,
    LogicalPlan, Projection, Subquery, WindowFrame, WindowFrameBound, WindowFrameUnits, lit,
};
use datafusion::optimizer::analyzer::AnalyzerRule;
use std::sync::Arc;
use types::SqlType;

/// Digits of the decimal in which a RANGE frame with a distance measures numerics: half of a
/// Decimal256 before the point, half after it.
const RANGE_DECIMAL: (u16, i16) = (76, 38);

/// The rule.
#[derive(Debug)]
pub(crate) struct SqlEquality;

impl AnalyzerRule for SqlEquality {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| step(node).map(Transformed::yes))
            .map(|done| done.data)
    }

    fn name(&self) -> &str {
        "sql_equality"
    }
}

fn step(plan: LogicalPlan) -> Result<LogicalPlan> {
    let schema = input_schema(&plan);
    match plan {
        LogicalPlan::Distinct(Distinct::All(input)) => {
            if !input
                .schema()
                .fields()
                .iter()
                .any(|f| is_keyed(f.data_type()))
            {
                return Ok(LogicalPlan::Distinct(Distinct::All(input)));
            }
            let columns = input.schema().columns().into_iter().map(Expr::Column);
            let groups = Aggregate::try_new(input.clone(), columns.collect(), Vec::new())?;
            grouped(groups)
        }
        LogicalPlan::Distinct(Distinct::On(on)) => distinct_on(on, &schema),
        LogicalPlan::Aggregate(aggregate) => grouped(aggregate),
        LogicalPlan::Sort(mut sort) => {
            sort.expr = sort_keys(sort.expr, &schema)?;
            Ok(LogicalPlan::Sort(sort))
        }
        LogicalPlan::Join(join) => joined(join, &schema),
        other => expressions(other, &schema),
    }
}

/// What the expressions of a step refer to.
fn input_schema(plan: &LogicalPlan) -> DFSchema {
    match plan {
        LogicalPlan::TableScan(scan) => scan.projected_schema.as_ref().clone(),
        other => merge_schema(&other.inputs()),
    }
}

/// A step with comparisons in its expressions.
fn expressions(plan: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan> {
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(compared(expr, schema)?.update_data(|expr| name.restore(expr)))
    })
    .map(|done| done.data)
}

fn joined(join: Join, schema: &DFSchema) -> Result<LogicalPlan> {
    let (left, right) = (join.left.schema().clone(), join.right.schema().clone());
    let on = join
        .on
        .into_iter()
        .map(|(l, r)| {
            let l = keyed(compared(l, &left)?.data, &left);
            let r = keyed(compared(r, &right)?.data, &right);
            Ok((l, r))
        })
        .collect::<Result<Vec<_>>>()?;
    let filter = match join.filter {
        Some(filter) => Some(compared(filter, schema)?.data),
        None => None,
    };
    Ok(LogicalPlan::Join(Join { on, filter, ..join }))
}

fn distinct_on(on: DistinctOn, schema: &DFSchema) -> Result<LogicalPlan> {
    let keys = on
        .on_expr
        .into_iter()
        .map(|expr| Ok(keyed(compared(expr, schema)?.data, schema)))
        .collect::<Result<Vec<_>>>()?;
    let order = match on.sort_expr {
        Some(order) => Some(sort_keys(order, schema)?),
        None => None,
    };
    let on = DistinctOn::try_new(keys, on.select_expr, order, on.input)?;
    Ok(LogicalPlan::Distinct(Distinct::On(on)))
}

/// Groups by key, and above them a projection that has the columns of `aggregate` again.
fn grouped(aggregate: Aggregate) -> Result<LogicalPlan> {
    let Aggregate {
        input,
        group_expr,
        aggr_expr,
        schema: shown,
        ..
    } = aggregate;
    let schema = input.schema().clone();
    let names = NamePreserver::new_for_projection();
    let preserved = |expr: Expr| -> Result<Expr> {
        let name = names.save(&expr);
        Ok(name.restore(compared(expr, &schema)?.data))
    };
    let mut aggregates = aggr_expr
        .into_iter()
        .map(preserved)
        .collect::<Result<Vec<_>>>()?;
    let groups: Vec<Expr> = grouping_set_to_exprlist(&group_expr)?
        .into_iter()
        .cloned()
        .collect();
    if !groups.iter().any(|g| is_keyed_expr(g, &schema)) {
        let groups = group_expr
            .into_iter()
            .map(preserved)
            .collect::<Result<Vec<_>>>()?;
        let aggregate = Aggregate::try_new(input, groups, aggregates)?;
        return Ok(LogicalPlan::Aggregate(aggregate));
    }
    let has_sets = matches!(group_expr.first(), Some(Expr::GroupingSet(_)));
    let shown_aggregates = aggregates.len();
    // Where the columns of each keyed group are among the aggregates.
    let mut carried: Vec<Option<usize>> = Vec::with_capacity(groups.len());
    for group in &groups {
        if !is_keyed_expr(group, &schema) {
            carried.push(None);
            continue;
        }
        carried.push(Some(aggregates.len()));
        let at = aggregates.len();
        let first = first_value_udaf().call(vec![group.clone()]);
        aggregates.push(first.alias(format!("first#{at}")));
        if has_sets {
            let absent = grouping_udaf().call(vec![group_key(group.clone(), &schema)?]);
            aggregates.push(absent.alias(format!("grouping#{at}")));
        }
    }
    let keys = group_expr
        .into_iter()
        .map(|group| group_key(group, &schema))
        .collect::<Result<Vec<_>>>()?;
    let aggregate = Aggregate::try_new(input, keys, aggregates)?;
    let columns = aggregate.schema.columns();
    let first_aggregate = groups.len() + usize::from(has_sets);
    let mut outputs = Vec::with_capacity(first_aggregate + shown_aggregates);
    for (at, (qualifier, field)) in shown.iter().enumerate() {
        let column = |index: usize| Expr::Column(columns[index].clone());
        let value = match carried.get(at).copied().flatten() {
            None => column(at),
            Some(carrier) => {
                let first = column(first_aggregate + carrier);
                if has_sets {
                    // A column that the row's grouping set lacks is NULL.
                    let present = column(first_aggregate + carrier + 1).eq(lit(0));
                    let branches = vec![(Box::new(present), Box::new(first))];
                    Expr::Case(Case::new(None, branches, None))
                } else {
                    first
                }
            }
        };
        let same = value == Expr::Column(Column::new(qualifier.cloned(), field.name()));
        outputs.push(if same {
            value
        } else {
            value.alias_qualified(qualifier.cloned(), field.name())
        });
    }
    let input = Arc::new(LogicalPlan::Aggregate(aggregate));
    Ok(LogicalPlan::Projection(Projection::try_new(
        outputs, input,
    )?))
}

/// A GROUP BY item over keys.
fn group_key(group: Expr, schema: &DFSchemaRef) -> Result<Expr> {
    let list = |exprs: Vec<Expr>| -> Result<Vec<Expr>> {
        exprs
            .into_iter()
            .map(|expr| Ok(keyed(compared(expr, schema)?.data, schema)))
            .collect()
    };
    Ok(match group {
        Expr::GroupingSet(GroupingSet::Rollup(exprs)) => {
            Expr::GroupingSet(GroupingSet::Rollup(list(exprs)?))
        }
        Expr::GroupingSet(GroupingSet::Cube(exprs)) => {
            Expr::GroupingSet(GroupingSet::Cube(list(exprs)?))
        }
        Expr::GroupingSet(GroupingSet::GroupingSets(sets)) => Expr::GroupingSet(
            GroupingSet::GroupingSets(sets.into_iter().map(list).collect::<Result<_>>()?),
        ),
        plain => keyed(compared(plain, schema)?.data, schema),
    })
}

fn is_keyed_expr(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|ty| is_keyed(&ty))
}

/// The value's key if its type has one of its own.
fn keyed(expr: Expr, schema: &DFSchema) -> Expr {
    if is_keyed_expr(&expr, schema) {
        sort_key(expr)
    } else {
        expr
    }
}

fn sort_keys(order: Vec<Sort>, schema: &DFSchema) -> Result<Vec<Sort>> {
    order
        .into_iter()
        .map(|sort| {
            let expr = keyed(compared(sort.expr, schema)?.data, schema);
            Ok(Sort { expr, ..sort })
        })
        .collect()
}

/// An expression whose comparisons are made by keys.
fn compared(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if op.supports_propagation() => {
                if !(is_keyed_expr(&left, schema) || is_keyed_expr(&right, schema)) {
                    return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr {
                        left,
                        op,
                        right,
                    })));
                }
                let (left, right) = (keyed(*left, schema), keyed(*right, schema));
                Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(
                    Box::new(left),
                    op,
                    Box::new(right),
                )))
            }
            Expr::InList(list) if is_keyed_expr(&list.expr, schema) => {
                let items = list.list.into_iter().map(|item| keyed(item, schema));
                Transformed::yes(Expr::InList(InList {
                    expr: Box::new(keyed(*list.expr, schema)),
                    list: items.collect(),
                    negated: list.negated,
                }))
            }
            Expr::Between(between) if is_keyed_expr(&between.expr, schema) => {
                Transformed::yes(Expr::Between(Between {
                    expr: Box::new(keyed(*between.expr, schema)),
                    negated: between.negated,
                    low: Box::new(keyed(*between.low, schema)),
                    high: Box::new(keyed(*between.high, schema)),
                }))
            }
            Expr::InSubquery(membership) if is_keyed_expr(&membership.expr, schema) => {
                Transformed::yes(Expr::InSubquery(InSubquery {
                    expr: Box::new(keyed(*membership.expr, schema)),
                    subquery: keys_of_rows(membership.subquery)?,
                    negated: membership.negated,
                }))
            }
            Expr::SetComparison(comparison) if is_keyed_expr(&comparison.expr, schema) => {
                Transformed::yes(Expr::SetComparison(SetComparison {
                    expr: Box::new(keyed(*comparison.expr, schema)),
                    subquery: keys_of_rows(comparison.subquery)?,
                    ..comparison
                }))
            }
            Expr::AggregateFunction(call) => aggregate_call(call, schema)?,
            Expr::WindowFunction(call) => {
                Transformed::yes(Expr::WindowFunction(Box::new(window_call(*call, schema)?)))
            }
            other => Transformed::no(other),
        })
    })
}

fn aggregate_call(mut call: AggregateFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let params = &mut call.params;
    params.order_by = sort_keys(std::mem::take(&mut params.order_by), schema)?;
    if params.distinct || call.func.name() == "grouping" {
        let arguments = std::mem::take(&mut params.args);
        params.args = arguments.into_iter().map(|a| keyed(a, schema)).collect();
    }
    Ok(Transformed::yes(Expr::AggregateFunction(call)))
}

fn window_call(mut call: WindowFunction, schema: &DFSchema) -> Result<WindowFunction> {
    let params = &mut call.params;
    let partitions = std::mem::take(&mut params.partition_by);
    params.partition_by = partitions.into_iter().map(|p| keyed(p, schema)).collect();
    let frame = &params.window_frame;
    let has_distance = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(offset) | WindowFrameBound::Following(offset) => {
            !offset.is_null()
        }
        WindowFrameBound::CurrentRow => false,
    };
    let ranges = frame.units == WindowFrameUnits::Range;
    let distances = has_distance(&frame.start_bound) || has_distance(&frame.end_bound);
    if ranges && distances {
        // The column itself is measured; only numerics take another form.
        for sort in &mut params.order_by {
            if sort.expr.get_type(schema)? == DataType::BinaryView {
                let (precision, scale) = RANGE_DECIMAL;
                let decimal = SqlType::Numeric(Some((precision, scale)));
                let cast = CastUdf::new(SqlType::Numeric(None), decimal, false);
                sort.expr = cast.call(std::mem::take(&mut sort.expr));
            }
        }
        return Ok(call);
    }
    params.order_by = sort_keys(std::mem::take(&mut params.order_by), schema)?;
    let unranged = match params.order_by.first() {
        Some(first) => matches!(
            first.expr.get_type(schema)?,
            DataType::Binary | DataType::FixedSizeBinary(_)
        ),
        None => false,
    };
    if ranges && unranged {
        params.window_frame = WindowFrame::new_bounds(
            WindowFrameUnits::Groups,
            frame.start_bound.clone(),
            frame.end_bound.clone(),
        );
    }
    Ok(call)
}

/// A subquery of one column that gives the keys of its values.
fn keys_of_rows(subquery: Subquery) -> Result<Subquery> {
    let plan = subquery.subquery.as_ref();
    let outputs = plan
        .schema()
        .iter()
        .map(|(qualifier, field)| {
            let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
            if is_keyed(field.data_type()) {
                sort_key(column).alias_qualified(qualifier.cloned(), field.name())
            } else {
                column
            }
        })
        .collect();
    let keys = Projection::try_new(outputs, subquery.subquery.clone())?;
    Ok(Subquery {
        subquery: Arc::new(LogicalPlan::Projection(keys)),
        ..subquery
    })
}
