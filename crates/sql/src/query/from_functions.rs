//! Functions in FROM, with ordinality, over columns of the items to their left.

use super::binder::Binder;
use super::errors::from_datafusion;
use super::expressions::Site;
use super::from::{Factor, Left};
use super::from_tables::column_aliases;
use super::functions::FunctionUdf;
use super::names::fold;
use super::scope::{Relation, Scope, Typed, Visible};
use datafusion::common::{Column, TableReference, UnnestOptions};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlType};

impl Binder<'_> {
    #[expect(clippy::too_many_arguments, reason = "the parts of one FROM item")]
    pub(super) fn function_factor(
        &mut self,
        name: &str,
        arguments: &[&ast::Expr],
        ordinality: bool,
        alias: Option<&ast::TableAlias>,
        parent: Option<&Scope<'_>>,
        left: Option<Left<'_>>,
        kind: JoinType,
    ) -> Result<Factor> {
        let empty = Scope::nested_in(parent);
        let scope = left.as_ref().map_or(&empty, |l| l.scope);
        let site = Site::plain(scope, "functions in FROM");
        let mut bound = Vec::new();
        for argument in arguments {
            bound.push(self.expr(argument, &site)?);
        }
        let returns_set = super::set_functions::is_set_returning(name);
        let value = if returns_set {
            self.set_array(name, bound)?
        } else {
            self.call(name, bound)?
        };
        let uses_left = value
            .expr
            .column_refs()
            .iter()
            .any(|c| left.as_ref().is_some_and(|l| l.plan.schema().has_column(c)));
        let shown = alias.map_or_else(|| name.to_string(), |a| fold(&a.name));
        let qualifier = self.qualifier(&shown);
        let element = if returns_set {
            value
                .ty
                .element_type()
                .ok_or_else(|| Error::internal("a set that is no array"))?
        } else {
            value.ty.clone()
        };
        // A function's only column is called like its alias.
        let mut columns = vec![(shown.clone(), element)];
        let internal = |n: usize| format!("{qualifier}.{n}");
        let mut exprs = vec![value.expr.clone().alias(internal(0))];
        if ordinality {
            let numbers = if returns_set {
                ordinals(&value)
            } else {
                super::binder::literal(&Datum::Int8(1), &SqlType::Int8)?
            };
            exprs.push(numbers.alias(internal(1)));
            columns.push(("ordinality".into(), SqlType::Int8));
        }
        let base = match (&left, uses_left) {
            (Some(left), true) => {
                let mut all: Vec<Expr> = left
                    .plan
                    .schema()
                    .columns()
                    .into_iter()
                    .map(Expr::Column)
                    .collect();
                all.append(&mut exprs);
                exprs = all;
                LogicalPlanBuilder::from(left.plan.clone())
            }
            _ => LogicalPlanBuilder::empty(true),
        };
        let mut builder = base.project(exprs).map_err(from_datafusion)?;
        if returns_set {
            let sets = (0..columns.len())
                .map(|n| Column::new_unqualified(internal(n)))
                .collect();
            let keep = uses_left && kind == JoinType::Left;
            builder = builder
                .unnest_columns_with_options(sets, UnnestOptions::new().with_preserve_nulls(keep))
                .map_err(from_datafusion)?;
        }
        let relation = TableReference::bare(qualifier.clone());
        if !uses_left {
            builder = builder.alias(relation.clone()).map_err(from_datafusion)?;
        }
        let plan = builder.build().map_err(from_datafusion)?;
        let aliases = column_aliases(alias, &shown, columns.len())?;
        let columns = columns
            .into_iter()
            .enumerate()
            .map(|(i, (name, ty))| {
                let column = if uses_left {
                    Column::new_unqualified(internal(i))
                } else {
                    Column::new(Some(relation.clone()), internal(i))
                };
                Visible {
                    name: aliases.get(i).cloned().unwrap_or(name),
                    value: Typed::new(Expr::Column(column), ty),
                    table: 0,
                    attribute: 0,
                }
            })
            .collect();
        let mut names = Scope::default();
        names.add(Relation {
            alias: shown,
            schema: None,
            columns,
            source: None,
        })?;
        Ok(Factor {
            plan,
            names,
            absorbed_left: uses_left,
        })
    }
}

/// `{1, …, n}` for an array of n elements.
fn ordinals(array: &Typed) -> Expr {
    use crate::functions::{ArgType, ReturnType, ScalarFunction, Volatility};
    let function = ScalarFunction {
        name: "ordinality",
        arguments: vec![ArgType::AnyArray],
        variadic: false,
        returns: ReturnType::Exact(SqlType::Array(Box::new(SqlType::Int8))),
        volatility: Volatility::Immutable,
        strict: true,
        evaluate: |_, arguments| match arguments {
            [Datum::Array(array)] => {
                let numbers = (1..=array.elements.len() as i64).map(Datum::Int8).collect();
                Ok(Datum::Array(Arc::new(types::Array::from_elements(
                    SqlType::Int8,
                    numbers,
                ))))
            }
            _ => Ok(Datum::Null),
        },
        kernel: None,
    };
    let ty = SqlType::Array(Box::new(SqlType::Int8));
    FunctionUdf::new(Arc::new(function), vec![array.ty.clone()], ty).call(vec![array.expr.clone()])
}

pub(super) fn plain_arguments(arguments: &[ast::FunctionArg]) -> Result<Vec<&ast::Expr>> {
    arguments
        .iter()
        .map(|argument| match argument {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Ok(expr),
            _ => Err(Error::unsupported("named arguments")),
        })
        .collect()
}
