//! Binding of subqueries in expressions, and of IN, ANY and ALL over a subquery or an array.

use super::binder::{Binder, literal, unnested};
use super::coerce::comparison_type;
use super::expressions::{Site, balanced, binary_expr, is_comparison};
use super::scope::{Scope, Typed};
use datafusion::common::Column;
use datafusion::logical_expr::expr::{
    Case, Exists, InList, InSubquery, SetComparison, SetQuantifier,
};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, Operator, Subquery};
use sqlparser::ast;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlState, SqlType};

/// A row value against the rows of a subquery.
pub(super) struct RowMatch {
    pub equal: Expr,
    /// A comparison with a row is NULL.
    pub unknown: Expr,
}

impl Binder<'_> {
    pub fn subquery(
        &mut self,
        query: &ast::Query,
        site: &Site<'_>,
    ) -> Result<(Subquery, Vec<SqlType>)> {
        let bound = self.expression_query(query, site.scope)?;
        let bound = self.settle_unknowns(bound)?;
        let types = bound.columns.iter().map(|c| c.ty.clone()).collect();
        Ok((subquery_of(bound.plan), types))
    }

    pub fn in_subquery(
        &mut self,
        value: &ast::Expr,
        query: &ast::Query,
        negated: bool,
        site: &Site<'_>,
    ) -> Result<Typed> {
        if let ast::Expr::Tuple(row) = unnested(value) {
            let any = self.row_in_subquery(row, query, site)?;
            let unknown = Expr::Case(Case::new(
                None,
                vec![(
                    Box::new(any.unknown),
                    Box::new(literal(&Datum::Null, &SqlType::Bool)?),
                )],
                Some(Box::new(literal(&Datum::Bool(false), &SqlType::Bool)?)),
            ));
            let holds = binary_expr(any.equal, Operator::Or, unknown);
            let expr = match negated {
                true => Expr::Not(Box::new(holds)),
                false => holds,
            };
            return Ok(Typed::new(expr, SqlType::Bool));
        }
        let value = self.expr(value, site)?;
        let bound = self.expression_query(query, site.scope)?;
        let [column] = bound.columns.as_slice() else {
            return Err(Error::syntax(if bound.columns.len() > 1 {
                "subquery has too many columns"
            } else {
                "subquery has too few columns"
            }));
        };
        let common = match comparison_type(&value.ty, &column.ty) {
            Some(common) => common,
            None => {
                return Err(super::overload::undefined_operator(
                    "=",
                    Some(&value.ty),
                    &column.ty,
                ));
            }
        };
        let bound = self.coerce_columns(bound, std::slice::from_ref(&common))?;
        let value = self.coerce_exactly(value, &common)?;
        let expr = Expr::InSubquery(InSubquery {
            expr: Box::new(value),
            subquery: subquery_of(bound.plan),
            negated,
        });
        Ok(Typed::new(expr, SqlType::Bool))
    }

    /// Whether a row of the subquery equals the row value, and whether one may.
    pub(super) fn row_in_subquery(
        &mut self,
        row: &[ast::Expr],
        query: &ast::Query,
        site: &Site<'_>,
    ) -> Result<RowMatch> {
        let bound = self.expression_query(query, site.scope)?;
        let bound = self.settle_unknowns(bound)?;
        if bound.columns.len() != row.len() {
            return Err(Error::syntax(match bound.columns.len() > row.len() {
                true => "subquery has too many columns",
                false => "subquery has too few columns",
            }));
        }
        // The row's parts are seen from inside of the subquery.
        let inside = Scope::nested_in(Some(site.scope));
        let within = Site::plain(&inside, site.clause);
        let mut tests = Vec::with_capacity(row.len());
        for (part, column) in row.iter().zip(&bound.columns) {
            let part = self.expr(part, &within)?;
            let value = Expr::Column(Column::new_unqualified(&column.internal));
            let value = Typed::new(value, column.ty.clone());
            tests.push(self.compare(part, Operator::Eq, value)?.expr);
        }
        let equal = balanced(tests, Operator::And);
        let plan = super::output_columns::unqualified(bound.plan, &bound.columns)?;
        let exists = |condition: Expr| {
            let plan = LogicalPlanBuilder::from(plan.clone())
                .filter(condition)
                .and_then(|b| b.build())
                .map_err(super::errors::from_datafusion)?;
            Ok::<_, Error>(Expr::Exists(Exists {
                subquery: subquery_of(plan),
                negated: false,
            }))
        };
        Ok(RowMatch {
            equal: exists(equal.clone())?,
            unknown: exists(Expr::IsNull(Box::new(equal)))?,
        })
    }

    pub fn quantified(
        &mut self,
        left: &ast::Expr,
        op: &ast::BinaryOperator,
        right: &ast::Expr,
        all: bool,
        site: &Site<'_>,
    ) -> Result<Typed> {
        if let ast::Expr::Subquery(query) = unnested(right) {
            let Some(operator) = is_comparison(op) else {
                return Err(Error::unsupported(format!("{op} ANY or ALL of a subquery")));
            };
            match (operator, all) {
                (Operator::Eq, false) => return self.in_subquery(left, query, false, site),
                (Operator::NotEq, true) => return self.in_subquery(left, query, true, site),
                _ => {}
            }
            let value = self.expr(left, site)?;
            let bound = self.expression_query(query, site.scope)?;
            let [column] = bound.columns.as_slice() else {
                return Err(Error::syntax("subquery has too many columns"));
            };
            let common = comparison_type(&value.ty, &column.ty).ok_or_else(|| {
                super::overload::undefined_operator(&op.to_string(), Some(&value.ty), &column.ty)
            })?;
            let bound = self.coerce_columns(bound, std::slice::from_ref(&common))?;
            let value = self.coerce_exactly(value, &common)?;
            let expr = Expr::SetComparison(SetComparison {
                expr: Box::new(value),
                subquery: subquery_of(bound.plan),
                op: operator,
                quantifier: if all {
                    SetQuantifier::All
                } else {
                    SetQuantifier::Any
                },
            });
            return Ok(Typed::new(expr, SqlType::Bool));
        }
        let value = self.expr(left, site)?;
        let list = self.expr(right, site)?;
        let element = match list.ty.element_type() {
            Some(element) => element,
            None if list.is_unknown() && value.is_unknown() => SqlType::Text,
            None if list.is_unknown() => value.ty.clone(),
            None => {
                return Err(Error::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    "op ANY/ALL (array) requires array on right side",
                ));
            }
        };
        if let Some(operator) = is_comparison(op) {
            let common = comparison_type(&value.ty, &element).ok_or_else(|| {
                super::overload::undefined_operator(&op.to_string(), Some(&value.ty), &element)
            })?;
            let value = self.coerce(value, &common, false)?;
            let list_type = SqlType::Array(Box::new(value.ty.clone()));
            let list = self.coerce(list, &list_type, false)?;
            return self.array_comparison(value, operator, list, all);
        }
        Err(Error::unsupported(format!("{op} ANY or ALL of an array")))
    }

    fn array_comparison(
        &mut self,
        value: Typed,
        operator: Operator,
        list: Typed,
        all: bool,
    ) -> Result<Typed> {
        // A constant list is what IN means, which DataFusion can hash and push down.
        if let Some(Datum::Array(array)) = super::binder::constant(&list)
            && ((operator == Operator::Eq && !all) || (operator == Operator::NotEq && all))
        {
            let mut items = Vec::with_capacity(array.elements.len());
            for element in &array.elements {
                items.push(literal(element, &value.ty)?);
            }
            let expr = Expr::InList(InList {
                expr: Box::new(value.expr),
                list: items,
                negated: all,
            });
            return Ok(Typed::new(expr, SqlType::Bool));
        }
        let function = super::comparisons::array_comparison(operator, all);
        let call = super::functions::FunctionUdf::new(
            Arc::new(function),
            vec![value.ty, list.ty],
            SqlType::Bool,
        );
        Ok(Typed::new(
            call.call(vec![value.expr, list.expr]),
            SqlType::Bool,
        ))
    }
}

/// A query as the subquery of an expression.
pub(crate) fn subquery_of(plan: datafusion::logical_expr::LogicalPlan) -> Subquery {
    let outer_ref_columns = plan.all_out_ref_exprs();
    Subquery {
        subquery: Arc::new(plan),
        outer_ref_columns,
        spans: Default::default(),
    }
}
