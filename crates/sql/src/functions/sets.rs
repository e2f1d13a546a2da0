//! Set-returning functions of one column, as functions that return an array of all rows; the binder
//! takes it apart. They stand in the registry as `set NAME`.

use super::define::*;
use super::{Registry, Volatility};
use std::sync::Arc;
use types::{Array, Datum, Error, Jsonb, Result, SqlState, SqlType};

/// The registry name of a set-returning function.
pub fn set_function(name: &str) -> String {
    format!("set {name}")
}

pub(super) fn register(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Immutable);
    d.strict("set jsonb_array_elements(jsonb) jsonb[]", |_, args| {
        let document = jsonb(args, 0)?;
        let items = document.elements()?.iter().cloned();
        Ok(rows(SqlType::Jsonb, items.map(Datum::Jsonb)))
    });
    d.strict("set json_array_elements(json) json[]", |_, args| {
        let document = json_document(args)?;
        let items = array_of("json_array_elements", &document)?.iter();
        let shown = items.map(|item| Datum::Json(item.to_string().into()));
        Ok(rows(SqlType::Json, shown))
    });
    d.strict("set jsonb_array_elements_text(jsonb) text[]", |_, args| {
        Ok(texts_of(jsonb(args, 0)?.elements()?))
    });
    d.strict("set json_array_elements_text(json) text[]", |_, args| {
        let document = json_document(args)?;
        Ok(texts_of(array_of("json_array_elements_text", &document)?))
    });
    d.strict("set jsonb_object_keys(jsonb) text[]", |_, args| {
        let keys = jsonb(args, 0)?.object_keys()?;
        Ok(rows(SqlType::Text, keys.into_iter().map(Datum::Text)))
    });
    d.strict("set json_object_keys(json) text[]", |_, args| {
        let keys = match json_document(args)? {
            Jsonb::Object(members) => members.iter().map(|(key, _)| key.clone()).collect(),
            Jsonb::Array(_) => {
                return Err(invalid("cannot call json_object_keys on an array"));
            }
            _ => Vec::new(),
        };
        Ok(rows(SqlType::Text, keys.into_iter().map(Datum::Text)))
    });
    for signature in [
        "set jsonb_each key(jsonb) text[]",
        "set jsonb_each_text key(jsonb) text[]",
    ] {
        d.strict(signature, |_, args| {
            let document = jsonb(args, 0)?;
            let keys = members("jsonb_each", &document)?.iter();
            Ok(rows(
                SqlType::Text,
                keys.map(|(key, _)| Datum::Text(key.clone())),
            ))
        });
    }
    for signature in [
        "set json_each key(json) text[]",
        "set json_each_text key(json) text[]",
    ] {
        d.strict(signature, |_, args| {
            let document = json_document(args)?;
            let keys = members("json_each", &document)?.iter();
            Ok(rows(
                SqlType::Text,
                keys.map(|(key, _)| Datum::Text(key.clone())),
            ))
        });
    }
    d.strict("set jsonb_each value(jsonb) jsonb[]", |_, args| {
        let document = jsonb(args, 0)?;
        let values = members("jsonb_each", &document)?.iter();
        Ok(rows(
            SqlType::Jsonb,
            values.map(|(_, value)| Datum::Jsonb(value.clone())),
        ))
    });
    d.strict("set jsonb_each_text value(jsonb) text[]", |_, args| {
        let document = jsonb(args, 0)?;
        let values = members("jsonb_each_text", &document)?;
        Ok(text_array(values.iter().map(|(_, value)| value.as_text())))
    });
    d.strict("set json_each value(json) json[]", |_, args| {
        let document = json_document(args)?;
        let values = members("json_each", &document)?.iter();
        let shown = values.map(|(_, value)| Datum::Json(value.to_string().into()));
        Ok(rows(SqlType::Json, shown))
    });
    d.strict("set json_each_text value(json) text[]", |_, args| {
        let document = json_document(args)?;
        let values = members("json_each_text", &document)?;
        Ok(text_array(values.iter().map(|(_, value)| value.as_text())))
    });
    d.strict("set record texts(jsonb, text) text[]", |_, args| {
        let document = jsonb(args, 0)?;
        let field = field_of("jsonb_to_record", &document, text(args, 1)?)?;
        Ok(text_array([field.and_then(Jsonb::as_text)]))
    });
    d.strict("set record values(jsonb, text) jsonb[]", |_, args| {
        let document = jsonb(args, 0)?;
        let field = field_of("jsonb_to_record", &document, text(args, 1)?)?;
        Ok(rows(
            SqlType::Jsonb,
            std::iter::once(document_or_null(field)),
        ))
    });
    d.strict("set recordset texts(jsonb, text) text[]", |_, args| {
        let document = jsonb(args, 0)?;
        let mut found = Vec::new();
        for item in array_of("jsonb_to_recordset", &document)? {
            let field = field_of("jsonb_to_recordset", item, text(args, 1)?)?;
            found.push(field.and_then(Jsonb::as_text));
        }
        Ok(text_array(found))
    });
    d.strict("set recordset values(jsonb, text) jsonb[]", |_, args| {
        let document = jsonb(args, 0)?;
        let mut found = Vec::new();
        for item in array_of("jsonb_to_recordset", &document)? {
            found.push(document_or_null(field_of(
                "jsonb_to_recordset",
                item,
                text(args, 1)?,
            )?));
        }
        Ok(rows(SqlType::Jsonb, found.into_iter()))
    });
    for signature in [
        "set regexp_split_to_table(text, text) text[]",
        "set regexp_split_to_table(text, text, text) text[]",
    ] {
        d.strict(signature, |_, args| {
            super::regexp::split_array(args, "regexp_split_to_table")
        });
    }
    for signature in [
        "set string_to_table(text, text) text[]",
        "set string_to_table(text, text, text) text[]",
    ] {
        d.nullable(signature, |_, args| {
            super::text_format::string_to_array(args)
        });
    }
    for signature in [
        "set regexp_matches(text, text) text[]",
        "set regexp_matches(text, text, text) text[]",
        "set jsonb_path_query(jsonb, text) jsonb[]",
    ] {
        d.strict(signature, |_, _| {
            Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "this set-returning function is not supported yet",
            ))
        });
    }
}

fn json_document(args: &[Datum]) -> Result<Jsonb> {
    types::json::parse(text(args, 0)?)
}

fn array_of<'a>(function: &str, document: &'a Jsonb) -> Result<&'a [Jsonb]> {
    match document {
        Jsonb::Array(items) => Ok(items),
        Jsonb::Object(_) => Err(invalid(format!("cannot call {function} on a non-array"))),
        _ => Err(invalid(format!("cannot call {function} on a scalar"))),
    }
}

fn members<'a>(function: &str, document: &'a Jsonb) -> Result<&'a [(Arc<str>, Jsonb)]> {
    match document {
        Jsonb::Object(members) => Ok(members),
        Jsonb::Array(_) => Err(invalid(format!("cannot call {function} on an array"))),
        _ => Err(invalid(format!("cannot call {function} on a scalar"))),
    }
}

fn field_of<'a>(function: &str, document: &'a Jsonb, key: &str) -> Result<Option<&'a Jsonb>> {
    let found = members(function, document)?
        .iter()
        .find(|(own, _)| own.as_ref() == key);
    Ok(found.map(|(_, value)| value))
}

fn document_or_null(field: Option<&Jsonb>) -> Datum {
    field.map_or(Datum::Null, |value| Datum::Jsonb(value.clone()))
}

fn rows(element: SqlType, items: impl Iterator<Item = Datum>) -> Datum {
    Datum::Array(Arc::new(Array::from_elements(element, items.collect())))
}

fn texts_of(items: &[Jsonb]) -> Datum {
    text_array(items.iter().map(Jsonb::as_text))
}
