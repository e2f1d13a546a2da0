//! Binding of predicates with a syntax of their own: IS, BETWEEN, IN (list), LIKE.

use super::binder::{Binder, unnested};
use super::coerce::{common_type, wider_numeric};
use super::expressions::{Site, balanced, binary_expr};
use super::names::object_name;
use super::scope::Typed;
use crate::statement::SYMMETRIC;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;
use sqlparser::ast;
use types::{Datum, Result, SqlType};

impl Binder<'_> {
    pub fn null_test(
        &mut self,
        inner: &ast::Expr,
        negated: bool,
        site: &Site<'_>,
    ) -> Result<Typed> {
        if let ast::Expr::Tuple(items) = unnested(inner) {
            let mut tests = Vec::new();
            for item in items {
                tests.push(self.null_test(item, negated, site)?.expr);
            }
            return Ok(Typed::new(balanced(tests, Operator::And), SqlType::Bool));
        }
        let value = self.settled_expr(inner, site)?.expr;
        let expr = if negated {
            Expr::IsNotNull(Box::new(value))
        } else {
            Expr::IsNull(Box::new(value))
        };
        Ok(Typed::new(expr, SqlType::Bool))
    }

    pub fn truth_test(
        &mut self,
        inner: &ast::Expr,
        site: &Site<'_>,
        test: fn(Box<Expr>) -> Expr,
    ) -> Result<Typed> {
        let value = self.condition(inner, site, "IS")?;
        Ok(Typed::new(test(Box::new(value)), SqlType::Bool))
    }

    pub fn between(
        &mut self,
        value: &ast::Expr,
        negated: bool,
        low: &ast::Expr,
        high: &ast::Expr,
        site: &Site<'_>,
    ) -> Result<Typed> {
        let value = self.expr(value, site)?;
        let symmetric = symmetric_bound(low);
        let low = self.expr(symmetric.unwrap_or(low), site)?;
        let high = self.expr(high, site)?;
        let mut inside = self.within(value.clone(), low.clone(), high.clone())?;
        if symmetric.is_some() {
            let turned = self.within(value, high, low)?;
            inside = binary_expr(inside, Operator::Or, turned);
        }
        let expr = if negated {
            Expr::Not(Box::new(inside))
        } else {
            inside
        };
        Ok(Typed::new(expr, SqlType::Bool))
    }

    fn within(&mut self, value: Typed, low: Typed, high: Typed) -> Result<Expr> {
        let from = self.compare(value.clone(), Operator::GtEq, low)?;
        let to = self.compare(value, Operator::LtEq, high)?;
        Ok(binary_expr(from.expr, Operator::And, to.expr))
    }

    pub fn in_list(
        &mut self,
        value: &ast::Expr,
        list: &[ast::Expr],
        negated: bool,
        site: &Site<'_>,
    ) -> Result<Typed> {
        if let ast::Expr::Tuple(_) = unnested(value) {
            let mut tests = Vec::new();
            for item in list {
                tests.push(
                    self.row_or_scalar_comparison(value, Operator::Eq, item, site)?
                        .expr,
                );
            }
            let any = balanced(tests, Operator::Or);
            let expr = if negated {
                Expr::Not(Box::new(any))
            } else {
                any
            };
            return Ok(Typed::new(expr, SqlType::Bool));
        }
        let value = self.expr(value, site)?;
        let mut items = Vec::with_capacity(list.len());
        for item in list {
            items.push(self.expr(item, site)?);
        }
        let types = || std::iter::once(&value.ty).chain(items.iter().map(|i| &i.ty));
        let common = match common_type(types(), "IN") {
            // Only worth counts here, so numerics of several scales take the widest.
            Ok(SqlType::Numeric(_)) => types()
                .filter(|ty| !matches!(ty, SqlType::Unknown))
                .cloned()
                .reduce(|a, b| wider_numeric(&a, &b))
                .unwrap_or(SqlType::Numeric(None)),
            Ok(common) if common.is_orderable() && !too_long(&common, &items) => common,
            // No one type: compare item by item, as PostgreSQL does.
            _ => {
                let mut tests = Vec::new();
                for item in items {
                    tests.push(self.compare(value.clone(), Operator::Eq, item)?.expr);
                }
                let any = balanced(tests, Operator::Or);
                let expr = if negated {
                    Expr::Not(Box::new(any))
                } else {
                    any
                };
                return Ok(Typed::new(expr, SqlType::Bool));
            }
        };
        let value = self.coerce(value, &common, false)?;
        let mut bound = Vec::with_capacity(items.len());
        for item in items {
            bound.push(self.coerce_exactly(item, &value.ty)?);
        }
        let expr = Expr::InList(InList {
            expr: Box::new(value.expr),
            list: bound,
            negated,
        });
        Ok(Typed::new(expr, SqlType::Bool))
    }

    pub fn like(
        &mut self,
        value: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::ValueWithSpan>,
        negated: bool,
        case_insensitive: bool,
        site: &Site<'_>,
    ) -> Result<Typed> {
        let value = self.expr(value, site)?;
        let pattern = self.expr(pattern, site)?;
        self.like_typed(value, pattern, escape, negated, case_insensitive)
    }

    pub fn like_typed(
        &mut self,
        value: Typed,
        mut pattern: Typed,
        escape: Option<&ast::ValueWithSpan>,
        negated: bool,
        case_insensitive: bool,
    ) -> Result<Typed> {
        let symbol = match (negated, case_insensitive) {
            (false, false) => "~~",
            (true, false) => "!~~",
            (false, true) => "~~*",
            (true, true) => "!~~*",
        };
        let mut default_escape = true;
        if let Some(escape) = escape {
            let escape = self.value(&escape.value)?;
            default_escape = matches!(&escape.expr,
                Expr::Literal(ScalarValue::Utf8(Some(text)), _) if text == "\\");
            if !default_escape {
                pattern = self.call("like_escape", vec![pattern, escape])?;
            }
        }
        let text = |t: &SqlType| t.is_string() || matches!(t, SqlType::Unknown);
        if default_escape && text(&value.ty) && text(&pattern.ty) {
            // LIKE sees the blanks of a char(n).
            let value = match value.ty {
                SqlType::Char(_) => value,
                _ => self.coerce(value, &SqlType::Text, false)?,
            };
            let pattern = self.coerce(pattern, &SqlType::Text, false)?;
            let expr = Expr::Like(Like {
                negated,
                expr: Box::new(value.expr),
                pattern: Box::new(pattern.expr),
                escape_char: None,
                case_insensitive,
            });
            return Ok(Typed::new(expr, SqlType::Bool));
        }
        self.operator(symbol, value, pattern)
    }
}

/// Whether an item of an IN list is longer than the `char(n)` it is compared with.
fn too_long(common: &SqlType, items: &[Typed]) -> bool {
    let SqlType::Char(n) = common else {
        return false;
    };
    items
        .iter()
        .any(|item| match super::binder::constant(item) {
            Some(Datum::Text(text)) => text.trim_end_matches(' ').chars().count() > *n as usize,
            Some(_) => false,
            None => true,
        })
}

/// The lower bound of BETWEEN SYMMETRIC.
fn symmetric_bound(low: &ast::Expr) -> Option<&ast::Expr> {
    let ast::Expr::Function(call) = low else {
        return None;
    };
    let ast::FunctionArguments::List(list) = &call.args else {
        return None;
    };
    match (object_name(&call.name).as_slice(), list.args.as_slice()) {
        ([name], [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(bound))])
            if name == SYMMETRIC =>
        {
            Some(bound)
        }
        _ => None,
    }
}
