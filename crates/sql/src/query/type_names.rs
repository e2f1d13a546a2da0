//! Type names in statements as SQL types.

use sqlparser::ast;
use types::{Error, Result, SqlType};

/// The SQL type that a statement names.
pub fn sql_type(data_type: &ast::DataType) -> Result<SqlType> {
    use ast::DataType as D;
    Ok(match data_type {
        D::Array(definition) => match definition {
            ast::ArrayElemTypeDef::SquareBracket(inner, _)
            | ast::ArrayElemTypeDef::AngleBracket(inner)
            | ast::ArrayElemTypeDef::Parenthesis(inner) => match sql_type(inner)? {
                already @ SqlType::Array(_) => already,
                element => SqlType::Array(Box::new(element)),
            },
            ast::ArrayElemTypeDef::None => {
                return Err(Error::unsupported("array type without an element type"));
            }
        },
        D::Custom(name, modifiers) => {
            let parts = super::names::object_name(name);
            let quoted = name.0.last().is_some_and(
                |p| matches!(p, ast::ObjectNamePart::Identifier(i) if i.quote_style.is_some()),
            );
            let mut text = parts.last().cloned().unwrap_or_default();
            if quoted && text == "char" {
                text = "\"char\"".into();
            }
            let modifiers = modifiers
                .iter()
                .map(|m| {
                    m.trim().parse::<i64>().map_err(|_| {
                        Error::new(
                            types::SqlState::INVALID_PARAMETER_VALUE,
                            format!("invalid type modifier \"{m}\""),
                        )
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            if parts.len() > 1 && parts.first().is_some_and(|s| s != "pg_catalog") {
                return Err(Error::new(
                    types::SqlState::UNDEFINED_OBJECT,
                    format!("type \"{}\" does not exist", parts.join(".")),
                ));
            }
            SqlType::from_name(&text, &modifiers)?
        }
        D::Regclass => SqlType::Regclass,
        D::JSON => SqlType::Json,
        D::JSONB => SqlType::Jsonb,
        D::Interval { .. } => SqlType::Interval,
        other => SqlType::parse(&other.to_string())?,
    })
}
