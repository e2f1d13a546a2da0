//! Names: reading them from statements, and choosing them for what has none, as PostgreSQL does.

use super::DdlContext;
use crate::catalog::descriptor::{ObjectId, Table};
use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use std::collections::BTreeSet;
use types::{Error, Result, SqlState};

/// 42P17 `invalid_object_definition`.
pub(super) const INVALID_OBJECT_DEFINITION: SqlState = SqlState(*b"42P17");

/// The longest identifier in bytes: NAMEDATALEN − 1.
pub(super) const MAX_NAME_BYTES: usize = 63;

/// An identifier as the catalog keeps it: folded to lower case unless quoted, cut to the limit.
pub(super) fn ident(ident: &Ident) -> String {
    let folded = match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    };
    truncated(folded, MAX_NAME_BYTES)
}

fn truncated(mut name: String, limit: usize) -> String {
    if name.len() > limit {
        let end = (0..=limit).rev().find(|at| name.is_char_boundary(*at));
        name.truncate(end.unwrap_or(0));
    }
    name
}

/// `[database.][schema.]name`; the database must be the current one.
pub(super) fn object_name(
    d: &DdlContext<'_>,
    name: &ObjectName,
) -> Result<(Option<String>, String)> {
    let mut parts = Vec::with_capacity(name.0.len());
    for part in &name.0 {
        match part {
            ObjectNamePart::Identifier(part) => parts.push(ident(part)),
            ObjectNamePart::Function(_) => {
                return Err(Error::syntax(format!("invalid name: {name}")));
            }
        }
    }
    match parts.as_slice() {
        [name] => Ok((None, name.clone())),
        [schema, name] => Ok((Some(schema.clone()), name.clone())),
        [database, schema, name] => {
            if **database != *d.statement.settings.database {
                return Err(Error::unsupported(format!(
                    "cross-database reference to \"{database}.{schema}.{name}\""
                )));
            }
            Ok((Some(schema.clone()), name.clone()))
        }
        _ => Err(Error::syntax(format!(
            "improper qualified name (too many dotted names): {name}"
        ))),
    }
}

/// A name of one part: of a role, a schema, a database.
pub(super) fn simple_name(name: &ObjectName) -> Result<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(part)] => Ok(ident(part)),
        _ => Err(Error::syntax(format!("improper name: {name}"))),
    }
}

/// `table_column_label`, with the longer of the first two cut until all fits (PostgreSQL's
/// `makeObjectName`).
pub(super) fn make_object_name(first: &str, second: Option<&str>, label: &str) -> String {
    let overhead = 1 + label.len() + usize::from(second.is_some());
    let room = MAX_NAME_BYTES.saturating_sub(overhead);
    let mut first_len = first.len();
    let mut second_len = second.map_or(0, str::len);
    while first_len + second_len > room {
        if first_len > second_len {
            first_len -= 1;
        } else {
            second_len -= 1;
        }
    }
    let mut out = truncated(first.to_string(), first_len);
    if let Some(second) = second {
        out.push('_');
        out.push_str(&truncated(second.to_string(), second_len));
    }
    out.push('_');
    out.push_str(label);
    out
}

/// The part of an index's or constraint's name that its columns make.
pub(super) fn join_columns<'a>(columns: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for column in columns {
        if !out.is_empty() {
            out.push('_');
        }
        out.push_str(column);
        if out.len() >= MAX_NAME_BYTES {
            break;
        }
    }
    truncated(out, MAX_NAME_BYTES)
}

/// Appends 1, 2, … to the label until the name is free.
fn choose(
    first: &str,
    second: Option<&str>,
    label: &str,
    mut taken: impl FnMut(&str) -> bool,
) -> String {
    let mut name = make_object_name(first, second, label);
    let mut suffix = 1;
    while taken(&name) {
        name = make_object_name(first, second, &format!("{label}{suffix}"));
        suffix += 1;
    }
    name
}

/// A free name for a relation: an index or a sequence. `pending` are names that the statement will
/// give but has not yet.
pub(super) fn choose_relation_name(
    d: &DdlContext<'_>,
    schema: ObjectId,
    first: &str,
    second: Option<&str>,
    label: &str,
    pending: &BTreeSet<String>,
) -> String {
    choose(first, second, label, |name| {
        pending.contains(name) || d.catalog.relation_in(schema, name).is_some()
    })
}

/// A free name for a constraint: one that no other constraint of the schema has.
pub(super) fn choose_constraint_name(
    d: &DdlContext<'_>,
    table: &Table,
    second: Option<&str>,
    label: &str,
) -> String {
    choose(&table.name, second, label, |name| {
        table.has_constraint(name)
            || d.catalog
                .tables(table.database)
                .any(|other| other.schema == table.schema && other.has_constraint(name))
    })
}

/// PostgreSQL's error for an unknown column.
pub(super) fn no_column(table: &str, column: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_COLUMN,
        format!("column \"{column}\" of relation \"{table}\" does not exist"),
    )
}

/// Quotes an identifier where SQL needs it.
pub fn quote_ident(name: &str) -> String {
    let plain = !name.is_empty()
        && name
            .bytes()
            .enumerate()
            .all(|(at, b)| b.is_ascii_lowercase() || b == b'_' || (at > 0 && b.is_ascii_digit()));
    if plain && !crate::pg_catalog::keywords::must_be_quoted(name) {
        name.to_string()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_names_fit() {
        assert_eq!(make_object_name("t", Some("a"), "key"), "t_a_key");
        assert_eq!(make_object_name("t", None, "pkey"), "t_pkey");
        let long = "x".repeat(60);
        let name = make_object_name(&long, Some("column"), "idx");
        assert_eq!(name.len(), MAX_NAME_BYTES);
        assert!(name.ends_with("_column_idx"));
        assert_eq!(join_columns(["a", "b"]), "a_b");
    }

    #[test]
    fn quoting() {
        assert_eq!(quote_ident("abc_1"), "abc_1");
        assert_eq!(quote_ident("Abc"), "\"Abc\"");
        assert_eq!(quote_ident("select"), "\"select\"");
        assert_eq!(quote_ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_ident("1a"), "\"1a\"");
    }
}
