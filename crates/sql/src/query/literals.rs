//! Binding of literals: numbers, strings, intervals.

use super::binder::{Binder, literal, numeric_literal_type, unnested};
use super::expressions::Site;
use super::scope::Typed;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;
use sqlparser::ast;
use types::{Datum, Error, Numeric, Result, SqlType};

impl Binder<'_> {
    pub fn value(&mut self, value: &ast::Value) -> Result<Typed> {
        use ast::Value as V;
        Ok(match value {
            V::Number(text, _) => number(text)?,
            V::Boolean(v) => Typed::new(literal(&Datum::Bool(*v), &SqlType::Bool)?, SqlType::Bool),
            V::Null => Typed::new(Expr::Literal(ScalarValue::Null, None), SqlType::Unknown),
            V::Placeholder(text) => return self.parameter(text),
            V::HexStringLiteral(_) | V::SingleQuotedByteStringLiteral(_) => {
                return Err(Error::unsupported("bit string literal"));
            }
            other => match string_value(other) {
                Some(text) => unknown_text(text),
                None => return Err(Error::unsupported(format!("the literal {other}"))),
            },
        })
    }

    pub fn interval(&mut self, interval: &ast::Interval, site: &Site<'_>) -> Result<Typed> {
        let text = match unnested(&interval.value) {
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Number(text, _) => text.clone(),
                other => string_value(other)
                    .ok_or_else(|| Error::syntax("an interval literal was expected"))?
                    .to_string(),
            },
            other => {
                let value = self.expr(other, site)?;
                return self.coerce(value, &SqlType::Interval, true);
            }
        };
        if let Some(first) = &interval.leading_field {
            let last = interval.last_field.as_ref().unwrap_or(first);
            let (first, last) = (first.to_string(), last.to_string());
            let value = types::interval_parse::parse_interval_in(&text, &first, &last)?;
            let literal = literal(&Datum::Interval(value), &SqlType::Interval)?;
            return Ok(Typed::new(literal, SqlType::Interval));
        }
        self.coerce(unknown_text(&text), &SqlType::Interval, true)
    }
}

pub(crate) fn unknown_text(text: &str) -> Typed {
    Typed::new(
        Expr::Literal(ScalarValue::Utf8(Some(text.to_string())), None),
        SqlType::Unknown,
    )
}

pub(crate) fn text_literal(text: &str) -> Typed {
    Typed::new(
        Expr::Literal(ScalarValue::Utf8(Some(text.to_string())), None),
        SqlType::Text,
    )
}

pub(crate) fn string_value(value: &ast::Value) -> Option<&str> {
    match value {
        ast::Value::SingleQuotedString(text)
        | ast::Value::EscapedStringLiteral(text)
        | ast::Value::UnicodeStringLiteral(text)
        | ast::Value::NationalStringLiteral(text) => Some(text),
        ast::Value::DollarQuotedString(quoted) => Some(&quoted.value),
        _ => None,
    }
}

/// A number as PostgreSQL types it: int4, int8, else numeric.
fn number(text: &str) -> Result<Typed> {
    let text: String = text.chars().filter(|c| *c != '_').collect();
    if text.bytes().all(|b| b.is_ascii_digit()) {
        if let Ok(v) = text.parse::<i32>() {
            return Ok(Typed::new(
                literal(&Datum::Int4(v), &SqlType::Int4)?,
                SqlType::Int4,
            ));
        }
        if let Ok(v) = text.parse::<i64>() {
            return Ok(Typed::new(
                literal(&Datum::Int8(v), &SqlType::Int8)?,
                SqlType::Int8,
            ));
        }
    }
    let value = Numeric::parse(&text)
        .ok_or_else(|| Error::syntax(format!("syntax error at or near \"{text}\"")))?;
    let ty = numeric_literal_type(&value).unwrap_or(SqlType::Numeric(None));
    Ok(Typed::new(literal(&Datum::Numeric(value), &ty)?, ty))
}
