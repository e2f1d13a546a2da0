//! The operators of `json` and `jsonb`.
//!
//! Limit: the parts that `->` takes out of a `json` value are written in `jsonb`'s canonical form, not
//! as the client wrote them.

use super::Registry;
use super::arithmetic::{add, wrong_arguments};
use std::sync::Arc;
use types::{Datum, Jsonb, Result, SqlType, json};

/// The elements of a `text[]`; a path with a NULL in it leads nowhere.
fn texts(datum: &Datum) -> Option<Vec<Arc<str>>> {
    let Datum::Array(array) = datum else {
        return None;
    };
    let text = |element: &Datum| match element {
        Datum::Text(text) => Some(text.clone()),
        _ => None,
    };
    array.elements.iter().map(text).collect()
}

/// The texts in an array, NULLs left out.
fn some_texts(datum: &Datum) -> Vec<Arc<str>> {
    let Datum::Array(array) = datum else {
        return Vec::new();
    };
    let text = |element: &Datum| match element {
        Datum::Text(text) => Some(text.clone()),
        _ => None,
    };
    array.elements.iter().filter_map(text).collect()
}

fn document(datum: &Datum) -> Result<Jsonb> {
    match datum {
        Datum::Jsonb(value) => Ok(value.clone()),
        Datum::Json(text) => json::parse(text),
        _ => Err(wrong_arguments("json operator")),
    }
}

/// A part as its own kind of JSON.
fn part(of: &Datum, value: Option<&Jsonb>) -> Datum {
    match (of, value) {
        (_, None) => Datum::Null,
        (Datum::Json(_), Some(value)) => Datum::Json(value.to_string().into()),
        (_, Some(value)) => Datum::Jsonb(value.clone()),
    }
}

fn part_text(value: Option<&Jsonb>) -> Datum {
    match value.and_then(Jsonb::as_text) {
        Some(text) => Datum::Text(text.into()),
        None => Datum::Null,
    }
}

fn step<'v>(value: &'v Jsonb, by: &Datum) -> Result<Option<&'v Jsonb>> {
    Ok(match by {
        Datum::Text(key) => value.get(key),
        Datum::Int4(index) => value.get_index(i64::from(*index)),
        _ => return Err(wrong_arguments("->")),
    })
}

fn arrow(args: &[Datum]) -> Result<Datum> {
    let [of, by] = args else {
        return Err(wrong_arguments("->"));
    };
    let value = document(of)?;
    Ok(part(of, step(&value, by)?))
}

fn arrow_text(args: &[Datum]) -> Result<Datum> {
    let [of, by] = args else {
        return Err(wrong_arguments("->>"));
    };
    let value = document(of)?;
    Ok(part_text(step(&value, by)?))
}

fn path(args: &[Datum]) -> Result<Datum> {
    let [of, path] = args else {
        return Err(wrong_arguments("#>"));
    };
    let value = document(of)?;
    Ok(part(of, texts(path).and_then(|path| value.get_path(&path))))
}

fn path_text(args: &[Datum]) -> Result<Datum> {
    let [of, path] = args else {
        return Err(wrong_arguments("#>>"));
    };
    let value = document(of)?;
    Ok(part_text(
        texts(path).and_then(|path| value.get_path(&path)),
    ))
}

fn two(args: &[Datum]) -> Result<(&Jsonb, &Jsonb)> {
    match args {
        [Datum::Jsonb(a), Datum::Jsonb(b)] => Ok((a, b)),
        _ => Err(wrong_arguments("jsonb operator")),
    }
}

fn with_second(args: &[Datum]) -> Result<(&Jsonb, &Datum)> {
    match args {
        [Datum::Jsonb(a), b] => Ok((a, b)),
        _ => Err(wrong_arguments("jsonb operator")),
    }
}

pub(super) fn register(registry: &mut Registry) {
    use SqlType::{Bool, Int4, Json, Jsonb as J, Text};
    let text_array = SqlType::array_of(Text);
    for kind in [Json, J] {
        for by in [Text, Int4] {
            let arguments = [kind.clone(), by];
            add(registry, "op ->", &arguments, kind.clone(), |_, args| {
                arrow(args)
            });
            add(registry, "op ->>", &arguments, Text, |_, args| {
                arrow_text(args)
            });
        }
        let arguments = [kind.clone(), text_array.clone()];
        add(registry, "op #>", &arguments, kind.clone(), |_, args| {
            path(args)
        });
        add(registry, "op #>>", &arguments, Text, |_, args| {
            path_text(args)
        });
    }
    add(registry, "op @>", &[J, J], Bool, |_, args| {
        let (a, b) = two(args)?;
        Ok(Datum::Bool(a.contains(b)))
    });
    add(registry, "op <@", &[J, J], Bool, |_, args| {
        let (a, b) = two(args)?;
        Ok(Datum::Bool(b.contains(a)))
    });
    add(registry, "op ||", &[J, J], J, |_, args| {
        let (a, b) = two(args)?;
        a.concat(b).map(Datum::Jsonb)
    });
    add(
        registry,
        "op ?",
        &[J, Text],
        Bool,
        |_, args| match with_second(args)? {
            (a, Datum::Text(key)) => Ok(Datum::Bool(a.exists(key))),
            _ => Err(wrong_arguments("op ?")),
        },
    );
    let with_keys = [J, text_array];
    add(registry, "op ?|", &with_keys, Bool, |_, args| {
        let (a, keys) = with_second(args)?;
        Ok(Datum::Bool(a.exists_any(&some_texts(keys))))
    });
    add(registry, "op ?&", &with_keys, Bool, |_, args| {
        let (a, keys) = with_second(args)?;
        Ok(Datum::Bool(a.exists_all(&some_texts(keys))))
    });
    add(
        registry,
        "op -",
        &[J, Text],
        J,
        |_, args| match with_second(args)? {
            (a, Datum::Text(key)) => a.delete_key(key).map(Datum::Jsonb),
            _ => Err(wrong_arguments("op -")),
        },
    );
    add(
        registry,
        "op -",
        &[J, Int4],
        J,
        |_, args| match with_second(args)? {
            (a, Datum::Int4(index)) => a.delete_index(i64::from(*index)).map(Datum::Jsonb),
            _ => Err(wrong_arguments("op -")),
        },
    );
    add(registry, "op -", &with_keys, J, |_, args| {
        let (a, keys) = with_second(args)?;
        a.delete_keys(&some_texts(keys)).map(Datum::Jsonb)
    });
    add(registry, "op #-", &with_keys, J, |_, args| {
        let (a, keys) = with_second(args)?;
        match texts(keys) {
            Some(path) => a.delete_path(&path).map(Datum::Jsonb),
            None => Ok(Datum::Jsonb(a.clone())),
        }
    });
}
