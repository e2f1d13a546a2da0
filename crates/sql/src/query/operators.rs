//! Binding of operators and comparisons.

use super::binder::{Binder, unnested};
use super::coerce::{comparison_type, numeric_of, numeric_shape};
use super::expressions::{Site, balanced, binary_expr, is_comparison};
use super::overload::{choose, undefined_operator};
use super::scope::Typed;
use crate::functions::operator_function;
use datafusion::logical_expr::{Expr, Operator};
use sqlparser::ast;
use types::{Error, Result, SqlState, SqlType};

impl Binder<'_> {
    pub fn binary(
        &mut self,
        left: &ast::Expr,
        op: &ast::BinaryOperator,
        right: &ast::Expr,
        site: &Site<'_>,
    ) -> Result<Typed> {
        if let Some(operator) = is_comparison(op) {
            return self.row_or_scalar_comparison(left, operator, right, site);
        }
        let symbol = operator_symbol(op)?;
        let left = self.expr(left, site)?;
        let right = self.expr(right, site)?;
        match symbol.as_str() {
            "~~" => self.like_typed(left, right, None, false, false),
            "!~~" => self.like_typed(left, right, None, true, false),
            "~~*" => self.like_typed(left, right, None, false, true),
            "!~~*" => self.like_typed(left, right, None, true, true),
            _ => self.operator(&symbol, left, right),
        }
    }

    /// `left op right`, where both sides may be row values.
    pub fn row_or_scalar_comparison(
        &mut self,
        left: &ast::Expr,
        operator: Operator,
        right: &ast::Expr,
        site: &Site<'_>,
    ) -> Result<Typed> {
        let (ast::Expr::Tuple(left), ast::Expr::Tuple(right)) = (unnested(left), unnested(right))
        else {
            let (left, right) = (self.expr(left, site)?, self.expr(right, site)?);
            return self.compare(left, operator, right);
        };
        if left.len() != right.len() {
            return Err(Error::syntax(
                "unequal number of entries in row expressions",
            ));
        }
        let mut pairs = Vec::new();
        for (l, r) in left.iter().zip(right) {
            pairs.push((self.expr(l, site)?, self.expr(r, site)?));
        }
        let expr = self.row_comparison(&pairs, operator)?;
        Ok(Typed::new(expr, SqlType::Bool))
    }

    fn row_comparison(&mut self, pairs: &[(Typed, Typed)], operator: Operator) -> Result<Expr> {
        let each = |binder: &mut Self, operator| {
            pairs
                .iter()
                .map(|(l, r)| Ok(binder.compare(l.clone(), operator, r.clone())?.expr))
                .collect::<Result<Vec<_>>>()
        };
        Ok(match operator {
            Operator::Eq => balanced(each(self, Operator::Eq)?, Operator::And),
            Operator::NotEq => balanced(each(self, Operator::NotEq)?, Operator::Or),
            _ => {
                // Lexicographic: the first pair decides unless it is equal.
                let strict = match operator {
                    Operator::LtEq => Operator::Lt,
                    Operator::GtEq => Operator::Gt,
                    other => other,
                };
                let (last, earlier) = pairs
                    .split_last()
                    .ok_or_else(|| Error::syntax("an empty row"))?;
                let mut expr = self.compare(last.0.clone(), operator, last.1.clone())?.expr;
                for (l, r) in earlier.iter().rev() {
                    let less = self.compare(l.clone(), strict, r.clone())?.expr;
                    let equal = self.compare(l.clone(), Operator::Eq, r.clone())?.expr;
                    expr = binary_expr(less, Operator::Or, binary_expr(equal, Operator::And, expr));
                }
                expr
            }
        })
    }

    /// A comparison whose sides get one type.
    pub fn compare(&mut self, left: Typed, operator: Operator, right: Typed) -> Result<Typed> {
        let symbol = || match operator {
            Operator::NotEq => "<>".to_string(),
            Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => "=".to_string(),
            other => other.to_string(),
        };
        let common = comparison_type(&left.ty, &right.ty)
            .ok_or_else(|| undefined_operator(&symbol(), Some(&left.ty), &right.ty))?;
        let common = match common {
            SqlType::Char(_) => padded_type(&left, &right),
            other => other,
        };
        let left = self.coerce(left, &common, false)?;
        let right = self.coerce(right, &common, false)?;
        let (left, right) = self.same_decimal(left, right);
        Ok(Typed::new(
            binary_expr(left.expr, operator, right.expr),
            SqlType::Bool,
        ))
    }

    /// Arrow compares decimals of one precision and scale only.
    fn same_decimal(&mut self, left: Typed, right: Typed) -> (Typed, Typed) {
        if left.ty == right.ty || !matches!(left.ty, SqlType::Numeric(_)) {
            return (left, right);
        }
        let wide = super::coerce::wider_numeric(&left.ty, &right.ty);
        let widen = |typed: Typed| {
            let expr = match super::binder::constant(&typed)
                .and_then(|value| super::binder::literal(&value, &wide).ok())
            {
                Some(expr) => expr,
                None => super::casts::cast_expr(typed.expr, &typed.ty, &wide, false),
            };
            Typed::new(expr, wide.clone())
        };
        (widen(left), widen(right))
    }

    pub fn unary(
        &mut self,
        op: &ast::UnaryOperator,
        expr: &ast::Expr,
        site: &Site<'_>,
    ) -> Result<Typed> {
        use ast::UnaryOperator as U;
        let symbol = match op {
            U::Not => {
                let value = self.condition(expr, site, "NOT")?;
                return Ok(Typed::new(Expr::Not(Box::new(value)), SqlType::Bool));
            }
            U::Minus => {
                // The least integers are written as a minus and a number too big without it.
                if let ast::Expr::Value(value) = unnested(expr)
                    && let ast::Value::Number(text, long) = &value.value
                {
                    let negative = ast::Value::Number(format!("-{text}"), *long);
                    if let Ok(typed) = self.negative_number(&negative) {
                        return Ok(typed);
                    }
                }
                // PostgreSQL's minus binds tighter than `^`, the parser's does not.
                if let Some(moved) = minus_into_power(expr) {
                    return self.expr(&moved, site);
                }
                "-"
            }
            U::Plus => "+",
            U::BitwiseNot => "~",
            U::PGAbs => "@",
            U::PGSquareRoot => "|/",
            U::PGCubeRoot => "||/",
            other => return Err(Error::unsupported(format!("operator {other}"))),
        };
        let value = self.expr(expr, site)?;
        let name = format!("op {symbol}u");
        let registry = self.planner.registry.clone();
        let chosen = choose(
            registry.overloads(&name),
            std::slice::from_ref(&value.ty),
            true,
        )?
        .ok_or_else(|| undefined_operator(symbol, None, &value.ty))?;
        let returns = match (&chosen.returns, chosen.arguments.first()) {
            (SqlType::Numeric(None), Some(argument)) => argument.clone(),
            (other, _) => other.clone(),
        };
        let typed = self.invoke(
            chosen.function,
            chosen.arguments.clone(),
            returns,
            vec![value],
        )?;
        Ok(typed)
    }

    /// A negative literal; errors where the number without its sign would be of another type.
    fn negative_number(&mut self, value: &ast::Value) -> Result<Typed> {
        let ast::Value::Number(text, _) = value else {
            return Err(Error::internal("not a number"));
        };
        use types::{Datum, Numeric};
        let text: String = text.chars().filter(|c| *c != '_').collect();
        let make =
            |datum: Datum, ty: SqlType| Ok(Typed::new(super::binder::literal(&datum, &ty)?, ty));
        let digits = text.trim_start_matches('-');
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            if digits.parse::<i32>().is_ok()
                && let Ok(v) = text.parse::<i32>()
            {
                return make(Datum::Int4(v), SqlType::Int4);
            }
            if let Ok(v) = text.parse::<i64>() {
                return make(Datum::Int8(v), SqlType::Int8);
            }
        }
        let number = Numeric::parse(&text).ok_or_else(|| Error::syntax("a bad number"))?;
        let ty = super::binder::numeric_literal_type(&number).unwrap_or(SqlType::Numeric(None));
        make(Datum::Numeric(number), ty)
    }

    /// `anynonarray || text` and the reverse: the other side is taken by its text form.
    fn texts_for_concatenation(&mut self, left: Typed, right: Typed) -> Result<(Typed, Typed)> {
        let text = |t: &SqlType| t.is_string();
        let other = |t: &SqlType| {
            !t.is_string() && !t.is_array() && !matches!(t, SqlType::Jsonb | SqlType::Bytea)
        };
        Ok(if text(&left.ty) && other(&right.ty) {
            (left, self.coerce(right, &SqlType::Text, true)?)
        } else if other(&left.ty) && text(&right.ty) {
            (self.coerce(left, &SqlType::Text, true)?, right)
        } else {
            (left, right)
        })
    }

    /// An operator of the registry.
    pub fn operator(&mut self, symbol: &str, left: Typed, right: Typed) -> Result<Typed> {
        let (left, right) = if symbol == "||" {
            self.texts_for_concatenation(left, right)?
        } else {
            (left, right)
        };
        let name = operator_function(symbol);
        let registry = self.planner.registry.clone();
        let types = [left.ty.clone(), right.ty.clone()];
        let chosen = choose(registry.overloads(&name), &types, true)?
            .ok_or_else(|| undefined_operator(symbol, Some(&left.ty), &right.ty))?;
        let returns = match (&chosen.returns, chosen.arguments.as_slice()) {
            (SqlType::Numeric(None), [l, r]) => numeric_result(symbol, l, r),
            (other, _) => other.clone(),
        };
        self.invoke(
            chosen.function,
            chosen.arguments.clone(),
            returns,
            vec![left, right],
        )
    }
}

/// The `char(n)` in which two sides compare: trailing blanks do not count, so both are padded to the
/// longer one's length.
fn padded_type(left: &Typed, right: &Typed) -> SqlType {
    let length = |typed: &Typed| match (&typed.ty, super::binder::constant(typed)) {
        (SqlType::Char(n), _) => *n,
        (_, Some(types::Datum::Text(text))) => text.trim_end_matches(' ').chars().count() as u32,
        _ => 0,
    };
    SqlType::Char(length(left).max(length(right)))
}

/// The bounds of an arithmetic result over numerics, which follow from those of the operands.
fn numeric_result(symbol: &str, left: &SqlType, right: &SqlType) -> SqlType {
    let (Some((lp, ls)), Some((rp, rs))) = (numeric_shape(left), numeric_shape(right)) else {
        return SqlType::Numeric(None);
    };
    match symbol {
        "+" | "-" => {
            let scale = ls.max(rs);
            numeric_of((lp - ls).max(rp - rs) + 1 + scale, scale)
        }
        "*" => numeric_of(lp + rp, ls + rs),
        "%" => {
            let scale = ls.max(rs);
            numeric_of((lp - ls).max(rp - rs) + scale, scale)
        }
        _ => SqlType::Numeric(None),
    }
}

fn operator_symbol(op: &ast::BinaryOperator) -> Result<String> {
    use ast::BinaryOperator as B;
    Ok(match op {
        // `^` is exclusive or elsewhere, and so the parser calls it.
        B::BitwiseXor | B::PGExp => "^".into(),
        B::PGBitwiseXor => "#".into(),
        B::StringConcat => "||".into(),
        B::PGCustomBinaryOperator(parts) => match parts.as_slice() {
            [schema, symbol] if schema == "pg_catalog" => symbol.clone(),
            [symbol] => symbol.clone(),
            _ => {
                return Err(Error::new(
                    SqlState::UNDEFINED_FUNCTION,
                    format!("operator does not exist: {op}"),
                ));
            }
        },
        other => other.to_string(),
    })
}

/// `-(a ^ b)` written without parentheses means `(-a) ^ b`, also when `a` is itself a power.
fn minus_into_power(expr: &ast::Expr) -> Option<ast::Expr> {
    let ast::Expr::BinaryOp { left, op, right } = expr else {
        return None;
    };
    if !matches!(
        op,
        ast::BinaryOperator::PGExp | ast::BinaryOperator::BitwiseXor
    ) {
        return None;
    }
    let left = minus_into_power(left).unwrap_or_else(|| ast::Expr::UnaryOp {
        op: ast::UnaryOperator::Minus,
        expr: left.clone(),
    });
    Some(ast::Expr::BinaryOp {
        left: Box::new(left),
        op: op.clone(),
        right: right.clone(),
    })
}
