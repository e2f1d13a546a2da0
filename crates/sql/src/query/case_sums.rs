//! Sums over CASE whose branches are decimals of several scales.
//!
//! `sum(CASE WHEN … THEN price ELSE 0 END)` shows as many digits as the finest branch that a row took,
//! so the CASE is a numeric with scales of its values, and adding those up is slow. Here the sum is
//! made over decimals of the widest scale instead, and the finest scale taken is found beside it.

use super::aggregate_types::resolve;
use super::aggregates::Form;
use super::binder::{Binder, literal, numeric_literal_type};
use super::casts::{CastUdf, cast_expr};
use super::coerce::{numeric_shape, wider_numeric};
use super::functions::FunctionUdf;
use super::scope::Typed;
use crate::functions::{ArgType, ReturnType, ScalarFunction, Volatility};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::Case;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlType};

impl Binder<'_> {
    /// The sum of a CASE in this form; `None` if the argument is something else.
    pub(super) fn case_sum(
        &mut self,
        argument: &Typed,
        filter: Option<&Expr>,
        form: &Form<'_>,
    ) -> Result<Option<Typed>> {
        let Some((decimals, scales)) = in_decimals(argument)? else {
            return Ok(None);
        };
        let mut part = |name: &str, value: Typed| {
            let resolved = resolve(name, std::slice::from_ref(&value.ty), false)?;
            let filter = filter.cloned();
            self.aggregate_expr(resolved, vec![value], false, filter, Vec::new(), form)
        };
        let sum = part("sum", decimals)?;
        let scale = part("max", scales)?;
        let types = vec![sum.ty, scale.ty];
        let call = FunctionUdf::new(Arc::new(at_scale()), types, SqlType::Numeric(None));
        let expr = call.call(vec![sum.expr, scale.expr]);
        Ok(Some(Typed::new(expr, SqlType::Numeric(None))))
    }
}

/// A CASE over decimals of one scale, and the same CASE over the branches' own scales.
fn in_decimals(argument: &Typed) -> Result<Option<(Typed, Typed)>> {
    let (Expr::Case(case), SqlType::Numeric(None)) = (&argument.expr, &argument.ty) else {
        return Ok(None);
    };
    let results = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
    let Some(branches) = results
        .chain(case.else_expr.as_deref())
        .map(decimal_branch)
        .collect::<Option<Vec<_>>>()
    else {
        return Ok(None);
    };
    let mut known = branches.iter().flatten().map(|branch| branch.ty.clone());
    let Some(wide) = known
        .next()
        .map(|first| known.fold(first, |a, b| wider_numeric(&a, &b)))
    else {
        return Ok(None);
    };
    if numeric_shape(&wide).is_none() {
        return Ok(None);
    }
    let (mut decimals, mut scales) = (Vec::new(), Vec::new());
    for branch in branches {
        let scale = match &branch {
            Some(branch) => numeric_shape(&branch.ty).map_or(0, |shape| shape.1),
            None => 0,
        };
        match branch {
            Some(branch) => {
                decimals.push(cast_expr(branch.expr, &branch.ty, &wide, false));
                scales.push(literal(&Datum::Int4(scale), &SqlType::Int4)?);
            }
            None => {
                decimals.push(literal(&Datum::Null, &wide)?);
                scales.push(literal(&Datum::Null, &SqlType::Int4)?);
            }
        }
    }
    let with = |results: Vec<Expr>, ty: SqlType| {
        let mut results = results.into_iter();
        let conditions = case.when_then_expr.iter().map(|(when, _)| when.clone());
        let branches: Vec<_> = conditions.zip(results.by_ref().map(Box::new)).collect();
        Typed::new(
            Expr::Case(Case::new(
                case.expr.clone(),
                branches,
                results.next().map(Box::new),
            )),
            ty,
        )
    };
    Ok(Some((
        with(decimals, wide.clone()),
        with(scales, SqlType::Int4),
    )))
}

/// The decimal that a branch was before it got the CASE's type. `Some(None)` is NULL.
fn decimal_branch(branch: &Expr) -> Option<Option<Typed>> {
    match branch {
        Expr::Literal(value, _) if value.is_null() => Some(None),
        Expr::Literal(value, _) => {
            let any = SqlType::Numeric(None);
            match crate::arrow_bridge::datum_from_scalar(value, &any).ok()? {
                Datum::Numeric(number) => {
                    let ty = numeric_literal_type(&number)?;
                    let expr = literal(&Datum::Numeric(number), &ty).ok()?;
                    Some(Some(Typed::new(expr, ty)))
                }
                _ => None,
            }
        }
        Expr::ScalarFunction(call) => {
            let cast = CastUdf::of(&call.func)?;
            numeric_shape(&cast.from)?;
            let [argument] = call.args.as_slice() else {
                return None;
            };
            Some(Some(Typed::new(argument.clone(), cast.from.clone())))
        }
        _ => None,
    }
}

/// A numeric shown at a scale.
fn at_scale() -> ScalarFunction {
    ScalarFunction {
        name: "at_scale",
        arguments: vec![
            ArgType::Exact(SqlType::Numeric(None)),
            ArgType::Exact(SqlType::Int4),
        ],
        variadic: false,
        returns: ReturnType::Exact(SqlType::Numeric(None)),
        volatility: Volatility::Immutable,
        strict: true,
        evaluate: |_, arguments| match arguments {
            [Datum::Numeric(value), Datum::Int4(scale)] => Ok(Datum::Numeric(value.round(*scale))),
            _ => Err(Error::internal("at_scale of something else")),
        },
        kernel: None,
    }
}
