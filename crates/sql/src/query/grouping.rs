//! GROUP BY: keys, grouping sets, and what may stand above the grouped rows.

use super::binder::{Binder, unnested};
use super::errors::from_datafusion;
use super::expressions::Site;
use super::names::fold;
use super::ordering::ordinal;
use super::scope::Scope;
use super::select_list::Item;
use super::subexpressions::{collect, mentions_column, named_columns};
use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::{Expr, GroupingSet, LogicalPlan, LogicalPlanBuilder};
use datafusion::scalar::ScalarValue;
use sqlparser::ast;
use types::{Error, Result, SqlState};

impl Binder<'_> {
    pub(super) fn groups(
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
    pub(super) fn aggregate_plan(
        &mut self,
        plan: LogicalPlan,
        mut groups: Vec<Expr>,
        mut aggregates: Vec<Expr>,
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
        check_grouping_calls(&aggregates, &map)?;
        if groups.is_empty() && aggregates.is_empty() {
            // HAVING alone makes one group, which the plan needs something to know of.
            let one = Expr::Literal(ScalarValue::Int64(Some(1)), None);
            aggregates.push(count_udaf().call(vec![one]));
        }
        let (aggregates, names) = named_columns(aggregates);
        map.extend(names);
        let plan = LogicalPlanBuilder::from(plan)
            .aggregate(groups, aggregates)
            .and_then(|b| b.build())
            .map_err(from_datafusion)?;
        Ok((plan, map))
    }
}

/// GROUPING asks about grouped expressions only.
fn check_grouping_calls(aggregates: &[Expr], groups: &[(Expr, Expr)]) -> Result<()> {
    let grouped = |argument: &Expr| groups.iter().any(|(group, _)| group == argument);
    for aggregate in aggregates {
        if let Expr::AggregateFunction(call) = aggregate
            && call.func.name() == "grouping"
            && !call.params.args.iter().all(grouped)
        {
            return Err(Error::new(
                SqlState::GROUPING_ERROR,
                "arguments to GROUPING must be grouping expressions of the associated query level",
            ));
        }
    }
    Ok(())
}

/// After grouping only grouped columns are left; 42803 names the first other one.
pub(super) fn check_grouped(expr: &Expr, plan: &LogicalPlan, scope: &Scope<'_>) -> Result<()> {
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
