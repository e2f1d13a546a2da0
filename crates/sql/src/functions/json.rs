//! Functions of `json` and `jsonb`. The rules of `jsonb` are in [`types::jsonb_ops`].
//!
//! A part that is taken out of a `json` value is written in `jsonb`'s canonical form.

use super::define::*;
use super::operators::type_of_datum;
use super::{Registry, Volatility};
use crate::context::StatementContext;
use std::sync::Arc;
use types::{Array, Datum, Error, FormatContext, Jsonb, Result, SqlState};

pub(super) fn register(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Stable);
    building(&mut d);
    let mut d = Definitions::new(registry, Volatility::Immutable);
    looking(&mut d);
    changing(&mut d);
    paths(&mut d);
}

/// Either kind of JSON as a value.
fn document(args: &[Datum], index: usize) -> Result<Jsonb> {
    match args.get(index) {
        Some(Datum::Jsonb(value)) => Ok(value.clone()),
        Some(Datum::Json(text)) => types::json::parse(text),
        _ => jsonb(args, index),
    }
}

// ---- making -----------------------------------------------------------------------------------

/// Text of `json` as PostgreSQL writes what it builds: objects as `{"a" : 1, "b" : 2}`.
pub(super) struct JsonWriter<'a> {
    pub format: &'a FormatContext,
    pub out: Vec<u8>,
}

impl JsonWriter<'_> {
    pub fn value(&mut self, value: &Datum) -> Result<()> {
        match value {
            Datum::Json(text) => self.out.extend_from_slice(text.as_bytes()),
            Datum::Null => self.out.extend_from_slice(b"null"),
            Datum::Array(array) => self.array(array)?,
            // Numbers keep their digits; only what JSON has no number for is a string.
            Datum::Int2(_)
            | Datum::Int4(_)
            | Datum::Int8(_)
            | Datum::Float4(_)
            | Datum::Float8(_)
            | Datum::Numeric(_) => {
                let text = value.to_text(&type_of_datum(value), self.format);
                if text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
                    && !text.contains("Inf")
                {
                    self.out.extend_from_slice(text.as_bytes());
                } else {
                    types::json::write_string(&text, &mut self.out);
                }
            }
            other => {
                Jsonb::from_datum(other, &type_of_datum(other), self.format)?
                    .write_to(&mut self.out);
            }
        }
        Ok(())
    }

    pub fn key(&mut self, key: &Datum) -> Result<()> {
        types::json::write_string(&key_text(key, self.format)?, &mut self.out);
        Ok(())
    }

    fn array(&mut self, array: &Array) -> Result<()> {
        let lens: Vec<usize> = array
            .dims
            .iter()
            .map(|dim| dim.len.max(0) as usize)
            .collect();
        if lens.is_empty() {
            self.out.extend_from_slice(b"[]");
            return Ok(());
        }
        self.dimension(&lens, &mut array.elements.iter())
    }

    fn dimension<'e>(
        &mut self,
        lens: &[usize],
        elements: &mut impl Iterator<Item = &'e Datum>,
    ) -> Result<()> {
        let Some((len, inner)) = lens.split_first() else {
            return match elements.next() {
                Some(element) => self.value(element),
                None => Ok(()),
            };
        };
        self.out.push(b'[');
        for index in 0..*len {
            if index > 0 {
                self.out.push(b',');
            }
            self.dimension(inner, elements)?;
        }
        self.out.push(b']');
        Ok(())
    }

    pub fn finish(self) -> Datum {
        Datum::Json(String::from_utf8(self.out).unwrap_or_default().into())
    }
}

/// A member's name from any value.
pub(super) fn key_text(key: &Datum, format: &FormatContext) -> Result<String> {
    match key {
        Datum::Null => Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "argument of a JSON object's key must not be null",
        )),
        Datum::Array(_) | Datum::Json(_) | Datum::Jsonb(_) => Err(invalid(
            "key value must be scalar, not array, composite, or json",
        )),
        // `true`, not `t`.
        Datum::Bool(value) => Ok(value.to_string()),
        other => Ok(other.to_text(&type_of_datum(other), format)),
    }
}

pub(super) fn to_jsonb(value: &Datum, format: &FormatContext) -> Result<Jsonb> {
    Jsonb::from_datum(value, &type_of_datum(value), format)
}

fn pairs(args: &[Datum]) -> Result<impl Iterator<Item = (usize, &Datum, &Datum)>> {
    if !args.len().is_multiple_of(2) {
        return Err(invalid("argument list must have even number of elements").hint(
            "The arguments of jsonb_build_object() must consist of alternating keys and values.",
        ));
    }
    Ok(args
        .chunks_exact(2)
        .enumerate()
        .map(|(at, pair)| (at, &pair[0], &pair[1])))
}

fn null_key(at: usize) -> Error {
    invalid(format!("argument {}: key must not be null", at * 2 + 1))
}

fn building(d: &mut Definitions<'_>) {
    d.strict("op json key(any) text", |context, args| {
        text_datum(key_text(&args[0], &format_context(context))?)
    });
    d.strict("to_json(anyelement) json", |context, args| {
        json_of(context, &args[0])
    });
    d.strict("to_jsonb(anyelement) jsonb", |context, args| {
        to_jsonb(&args[0], &format_context(context)).map(Datum::Jsonb)
    });
    d.strict("array_to_json(anyarray) json", |context, args| {
        json_of(context, &args[0])
    });
    d.strict("array_to_json(anyarray, bool) json", |context, args| {
        if boolean(args, 1)? {
            return Err(Error::unsupported("line feeds in array_to_json"));
        }
        json_of(context, &args[0])
    });
    d.nullable("json_build_array(variadic any) json", |context, args| {
        let format = format_context(context);
        let mut writer = JsonWriter {
            format: &format,
            out: b"[".to_vec(),
        };
        for (index, value) in args.iter().enumerate() {
            if index > 0 {
                writer.out.extend_from_slice(b", ");
            }
            writer.value(value)?;
        }
        writer.out.push(b']');
        Ok(writer.finish())
    });
    d.nullable("json_build_object(variadic any) json", |context, args| {
        let format = format_context(context);
        let mut writer = JsonWriter {
            format: &format,
            out: b"{".to_vec(),
        };
        for (at, key, value) in pairs(args)? {
            if key.is_null() {
                return Err(Error::new(
                    SqlState::NULL_VALUE_NOT_ALLOWED,
                    "null value not allowed for object key",
                ));
            }
            if at > 0 {
                writer.out.extend_from_slice(b", ");
            }
            writer.key(key)?;
            writer.out.extend_from_slice(b" : ");
            writer.value(value)?;
        }
        writer.out.push(b'}');
        Ok(writer.finish())
    });
    d.nullable("jsonb_build_array(variadic any) jsonb", |context, args| {
        let format = format_context(context);
        let items: Result<Vec<Jsonb>> = args.iter().map(|arg| to_jsonb(arg, &format)).collect();
        Ok(Datum::Jsonb(Jsonb::array(items?)))
    });
    d.nullable("jsonb_build_object(variadic any) jsonb", |context, args| {
        let format = format_context(context);
        let mut members = Vec::with_capacity(args.len() / 2);
        for (at, key, value) in pairs(args)? {
            if key.is_null() {
                return Err(null_key(at));
            }
            let key: Arc<str> = key_text(key, &format)?.into();
            members.push((key, to_jsonb(value, &format)?));
        }
        Ok(Datum::Jsonb(Jsonb::object(members)))
    });
    d.strict("jsonb_object(text[]) jsonb", |_, args| {
        Ok(Datum::Jsonb(Jsonb::object(object_of_array(args)?)))
    });
    d.strict("jsonb_object(text[], text[]) jsonb", |_, args| {
        Ok(Datum::Jsonb(Jsonb::object(object_of_arrays(args)?)))
    });
    d.strict("json_object(text[]) json", |_, args| {
        Ok(json_object(object_of_array(args)?))
    });
    d.strict("json_object(text[], text[]) json", |_, args| {
        Ok(json_object(object_of_arrays(args)?))
    });
}

fn json_of(context: &StatementContext, value: &Datum) -> Result<Datum> {
    let format = format_context(context);
    let mut writer = JsonWriter {
        format: &format,
        out: Vec::new(),
    };
    writer.value(value)?;
    Ok(writer.finish())
}

type Members = Vec<(Arc<str>, Jsonb)>;

fn json_object(members: Members) -> Datum {
    let mut out = b"{".to_vec();
    for (at, (key, value)) in members.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        types::json::write_string(key, &mut out);
        out.extend_from_slice(b" : ");
        value.write_to(&mut out);
    }
    out.push(b'}');
    Datum::Json(String::from_utf8(out).unwrap_or_default().into())
}

fn member(key: Option<String>, value: Option<String>) -> Result<(Arc<str>, Jsonb)> {
    let key = key.ok_or_else(|| {
        Error::new(
            SqlState::NULL_VALUE_NOT_ALLOWED,
            "null value not allowed for object key",
        )
    })?;
    let value = value.map_or(Jsonb::Null, |value| Jsonb::string(&value));
    Ok((key.into(), value))
}

fn wrong_subscripts(message: &str) -> Error {
    Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message)
}

fn object_of_array(args: &[Datum]) -> Result<Members> {
    let dims = array(args, 0)?.dims.clone();
    match dims.as_slice() {
        [] => return Ok(Vec::new()),
        [only] if only.len % 2 != 0 => {
            return Err(wrong_subscripts("array must have even number of elements"));
        }
        [_] => {}
        [_, pair] if pair.len == 2 => {}
        [_, _] => return Err(wrong_subscripts("array must have two columns")),
        _ => return Err(wrong_subscripts("wrong number of array subscripts")),
    }
    let mut items = texts(args, 0)?.into_iter();
    let mut members = Vec::new();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        members.push(member(key, value)?);
    }
    Ok(members)
}

fn object_of_arrays(args: &[Datum]) -> Result<Members> {
    let (keys, values) = (texts(args, 0)?, texts(args, 1)?);
    if keys.len() != values.len() {
        return Err(wrong_subscripts("mismatched array dimensions"));
    }
    keys.into_iter()
        .zip(values)
        .map(|(key, value)| member(key, value))
        .collect()
}

// ---- looking into -----------------------------------------------------------------------------

fn looking(d: &mut Definitions<'_>) {
    for signature in ["json_typeof(json) text", "jsonb_typeof(jsonb) text"] {
        d.strict(signature, |_, args| {
            text_datum(document(args, 0)?.type_name())
        });
    }
    for signature in [
        "json_array_length(json) int4",
        "jsonb_array_length(jsonb) int4",
    ] {
        d.strict(signature, |_, args| {
            document(args, 0)?.array_length().map(Datum::Int4)
        });
    }
    d.strict(
        "jsonb_extract_path(jsonb, variadic text) jsonb",
        |_, args| Ok(at_path(args)?.map_or(Datum::Null, Datum::Jsonb)),
    );
    d.strict("json_extract_path(json, variadic text) json", |_, args| {
        Ok(at_path(args)?.map_or(Datum::Null, |found| Datum::Json(found.to_string().into())))
    });
    for signature in [
        "jsonb_extract_path_text(jsonb, variadic text) text",
        "json_extract_path_text(json, variadic text) text",
    ] {
        d.strict(signature, |_, args| {
            let found = at_path(args)?.and_then(|found| found.as_text());
            Ok(found.map_or(Datum::Null, |text| Datum::Text(text.into())))
        });
    }
    d.strict("jsonb_exists(jsonb, text) bool", |_, args| {
        Ok(Datum::Bool(jsonb(args, 0)?.exists(text(args, 1)?)))
    });
    d.strict("jsonb_contains(jsonb, jsonb) bool", |_, args| {
        Ok(Datum::Bool(jsonb(args, 0)?.contains(&jsonb(args, 1)?)))
    });
}

fn at_path(args: &[Datum]) -> Result<Option<Jsonb>> {
    let whole = document(args, 0)?;
    let path: Vec<&str> = args[1..].iter().filter_map(Datum::as_str).collect();
    Ok(whole.get_path(&path).cloned())
}

// ---- changing ---------------------------------------------------------------------------------

/// The steps of a path; NULL among them is an error.
fn path_at(args: &[Datum], index: usize) -> Result<Vec<String>> {
    texts(args, index)?
        .into_iter()
        .enumerate()
        .map(|(at, step)| {
            step.ok_or_else(|| {
                Error::new(
                    SqlState::NULL_VALUE_NOT_ALLOWED,
                    format!("path element at position {} is null", at + 1),
                )
            })
        })
        .collect()
}

fn changing(d: &mut Definitions<'_>) {
    for signature in [
        "jsonb_set(jsonb, text[], jsonb) jsonb",
        "jsonb_set(jsonb, text[], jsonb, bool) jsonb",
    ] {
        d.strict(signature, |_, args| {
            let create = args.len() < 4 || boolean(args, 3)?;
            jsonb(args, 0)?
                .set(&path_at(args, 1)?, &jsonb(args, 2)?, create)
                .map(Datum::Jsonb)
        });
    }
    for signature in [
        "jsonb_set_lax(jsonb, text[], jsonb) jsonb",
        "jsonb_set_lax(jsonb, text[], jsonb, bool) jsonb",
        "jsonb_set_lax(jsonb, text[], jsonb, bool, text) jsonb",
    ] {
        d.nullable(signature, |_, args| set_lax(args));
    }
    for signature in [
        "jsonb_insert(jsonb, text[], jsonb) jsonb",
        "jsonb_insert(jsonb, text[], jsonb, bool) jsonb",
    ] {
        d.strict(signature, |_, args| {
            let after = args.len() > 3 && boolean(args, 3)?;
            jsonb(args, 0)?
                .insert(&path_at(args, 1)?, &jsonb(args, 2)?, after)
                .map(Datum::Jsonb)
        });
    }
    d.strict("jsonb_strip_nulls(jsonb) jsonb", |_, args| {
        Ok(Datum::Jsonb(jsonb(args, 0)?.strip_nulls()))
    });
    d.strict("json_strip_nulls(json) json", |_, args| {
        let mut out = Vec::new();
        write_compact(&document(args, 0)?.strip_nulls(), &mut out);
        Ok(Datum::Json(
            String::from_utf8(out).unwrap_or_default().into(),
        ))
    });
    d.strict("jsonb_pretty(jsonb) text", |_, args| {
        text_datum(jsonb(args, 0)?.pretty())
    });
}

/// JSON with no space in it.
fn write_compact(value: &Jsonb, out: &mut Vec<u8>) {
    match value {
        Jsonb::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_compact(item, out);
            }
            out.push(b']');
        }
        Jsonb::Object(members) => {
            out.push(b'{');
            for (at, (key, item)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                types::json::write_string(key, out);
                out.push(b':');
                write_compact(item, out);
            }
            out.push(b'}');
        }
        scalar => scalar.write_to(out),
    }
}

fn set_lax(args: &[Datum]) -> Result<Datum> {
    if args[0].is_null() || args[1].is_null() || args.get(3).is_some_and(Datum::is_null) {
        return Ok(Datum::Null);
    }
    let create = args.len() < 4 || boolean(args, 3)?;
    let (target, path) = (jsonb(args, 0)?, path_at(args, 1)?);
    if !args[2].is_null() {
        return target
            .set(&path, &jsonb(args, 2)?, create)
            .map(Datum::Jsonb);
    }
    let treatment = match args.get(4) {
        None => "use_json_null",
        Some(treatment) => treatment.as_str().unwrap_or(""),
    };
    match treatment {
        "use_json_null" => target.set(&path, &Jsonb::Null, create).map(Datum::Jsonb),
        "return_target" => Ok(Datum::Jsonb(target)),
        "delete_key" => target.delete_path(&path).map(Datum::Jsonb),
        "raise_exception" => Err(Error::new(
            SqlState::NULL_VALUE_NOT_ALLOWED,
            "JSON value must not be null",
        )),
        _ => Err(invalid(
            "null_value_treatment must be \"delete_key\", \"return_target\", \"use_json_null\", or \"raise_exception\"",
        )),
    }
}

fn paths(d: &mut Definitions<'_>) {
    for signature in [
        "jsonb_path_exists(jsonb, text) bool",
        "jsonb_path_match(jsonb, text) bool",
        "jsonb_path_query_array(jsonb, text) jsonb",
        "jsonb_path_query_first(jsonb, text) jsonb",
    ] {
        d.strict(signature, |_, _| Err(Error::unsupported("SQL/JSON path")));
    }
}
