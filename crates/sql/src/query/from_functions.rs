//! Functions in FROM, with ordinality, over columns of the items to their left.

use super::binder::Binder;
use super::errors::from_datafusion;
use super::expressions::Site;
use super::from::{Factor, Left};
use super::from_tables::column_aliases;
use super::functions::FunctionUdf;
use super::names::fold;
use super::scope::{Relation, Scope, Typed, Visible};
use super::set_functions::SetColumns;
use datafusion::common::{Column, TableReference, UnnestOptions};
use datafusion::logical_expr::{Expr, JoinType, LogicalPlanBuilder};
use sqlparser::ast;
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
        let returns_set = super::set_functions::is_set_returning(name)
            || super::set_functions::is_record_function(name);
        let mut values = match self.record_columns(name, &mut bound, alias)? {
            Some(values) => values,
            None if returns_set => self.set_columns(name, bound)?,
            None => vec![(None, self.call(name, bound)?)],
        };
        let keep = returns_set && left.is_some() && kind == JoinType::Left;
        if keep {
            for (_, value) in &mut values {
                *value = unless_empty(value.clone());
            }
        }
        let uses_left = values.iter().any(|(_, value)| {
            let used = value.expr.column_refs();
            left.as_ref()
                .is_some_and(|l| used.iter().any(|c| l.plan.schema().has_column(c)))
        });
        let shown = alias.map_or_else(|| name.to_string(), |a| fold(&a.name));
        let qualifier = self.qualifier(&shown);
        let internal = |n: usize| format!("{qualifier}.{n}");
        let mut columns = Vec::with_capacity(values.len() + 1);
        let mut exprs = Vec::with_capacity(values.len() + 1);
        for (column, value) in &values {
            let element = match returns_set {
                true => value
                    .ty
                    .element_type()
                    .ok_or_else(|| Error::internal("a set that is no array"))?,
                false => value.ty.clone(),
            };
            exprs.push(value.expr.clone().alias(internal(columns.len())));
            // A column without a name of its own is called like the function's alias.
            columns.push((column.clone().unwrap_or_else(|| shown.clone()), element));
        }
        let scalar = columns.len() == 1;
        if ordinality {
            let numbers = match values.as_slice() {
                [(_, value), ..] if returns_set && (scalar || name != "unnest") => ordinals(value),
                _ if returns_set => {
                    return Err(Error::unsupported("WITH ORDINALITY of several arrays"));
                }
                _ => super::binder::literal(&Datum::Int8(1), &SqlType::Int8)?,
            };
            exprs.push(numbers.alias(internal(columns.len())));
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
            scalar,
        })?;
        Ok(Factor {
            plan,
            names,
            absorbed_left: uses_left,
        })
    }
}

impl Binder<'_> {
    /// The columns of `json_to_recordset` and its kin, which the alias defines: `AS t (a int, b text)`.
    fn record_columns(
        &mut self,
        name: &str,
        arguments: &mut Vec<Typed>,
        alias: Option<&ast::TableAlias>,
    ) -> Result<Option<SetColumns>> {
        if !super::set_functions::is_record_function(name) || arguments.len() != 1 {
            return Ok(None);
        }
        let definitions = alias.map_or(&[][..], |alias| alias.columns.as_slice());
        if definitions.is_empty() || definitions.iter().any(|c| c.data_type.is_none()) {
            return Err(Error::syntax(
                "a column definition list is required for functions returning \"record\"",
            ));
        }
        let document = arguments.remove(0);
        let document = self.coerce(document, &SqlType::Jsonb, true)?;
        let kind = match name.ends_with("set") {
            true => "recordset",
            false => "record",
        };
        let mut columns = Vec::with_capacity(definitions.len());
        for definition in definitions {
            let column = fold(&definition.name);
            let Some(data_type) = &definition.data_type else {
                continue;
            };
            let ty = SqlType::parse(&data_type.to_string())?;
            let documents = matches!(ty, SqlType::Json | SqlType::Jsonb);
            let what = if documents { "values" } else { "texts" };
            let key = Typed::new(
                super::binder::literal(&Datum::Text(column.as_str().into()), &SqlType::Text)?,
                SqlType::Text,
            );
            let function = crate::functions::sets::set_function(&format!("{kind} {what}"));
            let found = self.call(&function, vec![document.clone(), key])?;
            let found = self.coerce(found, &SqlType::Array(Box::new(ty)), true)?;
            columns.push((Some(column), found));
        }
        Ok(Some(columns))
    }
}

/// NULL for an array without elements, which Unnest keeps as a row when it is told to.
fn unless_empty(array: Typed) -> Typed {
    use crate::functions::{ArgType, ReturnType, ScalarFunction, Volatility};
    let function = ScalarFunction {
        name: "unless_empty",
        arguments: vec![ArgType::AnyArray],
        variadic: false,
        returns: ReturnType::SameAs(0),
        volatility: Volatility::Immutable,
        strict: true,
        evaluate: |_, arguments| match arguments {
            [Datum::Array(array)] if array.elements.is_empty() => Ok(Datum::Null),
            [array] => Ok(array.clone()),
            _ => Ok(Datum::Null),
        },
        kernel: None,
    };
    let ty = array.ty;
    let call = FunctionUdf::new(Arc::new(function), vec![ty.clone()], ty.clone());
    Typed::new(call.call(vec![array.expr]), ty)
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
