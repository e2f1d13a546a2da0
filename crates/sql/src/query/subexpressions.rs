//! Finding and replacing subexpressions of bound expressions.

use super::errors::from_datafusion;
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Expr;
use std::collections::BTreeSet;
use types::Result;

/// All distinct subexpressions that fit, outermost first; subqueries are not entered.
pub(super) fn collect<'e>(
    exprs: impl Iterator<Item = &'e Expr>,
    fits: impl Fn(&Expr) -> bool,
) -> Vec<Expr> {
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

pub(super) fn mentions_column(expr: &Expr, column: &Expr) -> bool {
    expr.exists(|e| Ok(e == column)).unwrap_or(false)
}

/// Aggregate or window expressions as their step computes them, and what each is called above it.
///
/// DataFusion leaves casts out of names, so that two expressions may share one: the later gets another.
pub(super) fn named_columns(exprs: Vec<Expr>) -> (Vec<Expr>, Vec<(Expr, Expr)>) {
    let mut taken = BTreeSet::new();
    let mut computed = Vec::with_capacity(exprs.len());
    let mut map = Vec::with_capacity(exprs.len());
    for expr in exprs {
        let own = expr.schema_name().to_string();
        let mut name = own.clone();
        while !taken.insert(name.clone()) {
            name = format!("{own}#{}", taken.len());
        }
        computed.push(if name == own {
            expr.clone()
        } else {
            expr.clone().alias(&name)
        });
        map.push((expr, Expr::Column(Column::new_unqualified(name))));
    }
    (computed, map)
}

/// Replaces whole subexpressions, outermost first.
pub(super) fn replace(expr: Expr, map: &[(Expr, Expr)]) -> Result<Expr> {
    expr.transform_down(|e| {
        Ok(match map.iter().find(|(from, _)| *from == e) {
            Some((_, to)) => Transformed::new(to.clone(), true, TreeNodeRecursion::Jump),
            None => Transformed::no(e),
        })
    })
    .map(|t| t.data)
    .map_err(from_datafusion)
}
