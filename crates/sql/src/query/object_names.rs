//! `regclass` and its kin: object ids that are written and shown as names.

use crate::catalog::Catalog;
use crate::context::ExprSettings;
use types::{Datum, Error, Result, SqlState, SqlType};

/// Shown for object id 0, as PostgreSQL does.
const NO_OBJECT: &str = "-";

/// Reads a name, or a number, as an object id of the kind that `to` stands for.
pub fn parse(
    text: &str,
    to: &SqlType,
    catalog: &Catalog,
    settings: &ExprSettings,
) -> Result<Datum> {
    let text = text.trim();
    if text == NO_OBJECT {
        return Ok(Datum::Oid(0));
    }
    if text.bytes().all(|b| b.is_ascii_digit())
        && let Ok(oid) = text.parse::<u32>()
    {
        return Ok(Datum::Oid(oid));
    }
    let parts = split_name(text)?;
    let (schema, name) = match parts.as_slice() {
        [name] => (None, name.as_str()),
        [schema, name] => (Some(schema.as_str()), name.as_str()),
        _ => return Err(Error::syntax(format!("invalid name syntax: \"{text}\""))),
    };
    let database = catalog.database_by_name(&settings.database).map(|d| d.oid);
    let undefined =
        |state, kind: &str| Error::new(state, format!("{kind} \"{text}\" does not exist"));
    let oid = match to {
        SqlType::Regclass => {
            let built_in = schema.is_none_or(|s| s == "pg_catalog" || s == "information_schema");
            let virtual_oid = || {
                if !built_in {
                    return None;
                }
                let tables = crate::pg_catalog::virtual_tables();
                tables
                    .lookup(schema.unwrap_or("pg_catalog"), name)
                    .map(|t| t.oid)
            };
            let stored = database.and_then(|database| {
                catalog
                    .resolve(database, &settings.search_path, schema, name)
                    .map(|relation| relation.oid())
            });
            stored
                .or_else(virtual_oid)
                .ok_or_else(|| undefined(SqlState::UNDEFINED_TABLE, "relation"))?
        }
        SqlType::Regtype => SqlType::parse(text)?.oid(),
        SqlType::Regnamespace => match name {
            "pg_catalog" => crate::catalog::descriptor::PG_CATALOG_OID,
            "information_schema" => crate::catalog::descriptor::INFORMATION_SCHEMA_OID,
            _ => database
                .and_then(|database| catalog.schema_by_name(database, name))
                .map(|schema| schema.oid)
                .ok_or_else(|| undefined(SqlState::INVALID_SCHEMA_NAME, "schema"))?,
        },
        SqlType::Regrole => catalog
            .role_by_name(name)
            .map(|role| role.oid)
            .ok_or_else(|| undefined(SqlState::UNDEFINED_OBJECT, "role"))?,
        _ => return Err(undefined(SqlState::UNDEFINED_FUNCTION, "function")),
    };
    Ok(Datum::Oid(oid))
}

/// Shows an object id by the name of what it stands for, or as a number when there is nothing.
pub fn show(oid: u32, from: &SqlType, catalog: &Catalog, settings: &ExprSettings) -> String {
    if oid == 0 {
        return NO_OBJECT.into();
    }
    let name = match from {
        SqlType::Regclass => relation_name(oid, catalog, settings),
        SqlType::Regtype => SqlType::from_oid(oid).map(|t| t.name()),
        SqlType::Regnamespace => match oid {
            crate::catalog::descriptor::PG_CATALOG_OID => Some("pg_catalog".into()),
            crate::catalog::descriptor::INFORMATION_SCHEMA_OID => Some("information_schema".into()),
            _ => catalog.schema(oid).map(|s| quote(&s.name)),
        },
        SqlType::Regrole => catalog.role(oid).map(|r| quote(&r.name)),
        _ => None,
    };
    name.unwrap_or_else(|| oid.to_string())
}

/// The relation's name, with its schema if the search path does not find it.
fn relation_name(oid: u32, catalog: &Catalog, settings: &ExprSettings) -> Option<String> {
    use crate::catalog::Relation;
    let Some(relation) = catalog.relation(oid) else {
        let tables = crate::pg_catalog::virtual_tables();
        let table = tables.by_oid(oid)?;
        return Some(match table.schema {
            "pg_catalog" => table.name.to_string(),
            schema => format!("{schema}.{}", table.name),
        });
    };
    let (database, schema, name) = match &relation {
        Relation::Table(t) => (t.database, t.schema, t.name.clone()),
        Relation::View(v) => (v.database, v.schema, v.name.clone()),
        Relation::Sequence(s) => (s.database, s.schema, s.name.clone()),
        Relation::Index(t, index) => {
            let name = crate::catalog::table_index_names(t)
                .find(|(_, oid)| oid == index)
                .map(|(name, _)| name.to_string())?;
            (t.database, t.schema, name)
        }
    };
    let visible = catalog
        .resolve(database, &settings.search_path, None, &name)
        .is_some_and(|found| found.oid() == oid);
    if visible {
        return Some(quote(&name));
    }
    let schema = catalog.schema(schema)?;
    Some(format!("{}.{}", quote(&schema.name), quote(&name)))
}

/// An identifier, quoted if it needs to be.
pub fn quote(name: &str) -> String {
    let plain = name
        .bytes()
        .enumerate()
        .all(|(i, b)| b.is_ascii_lowercase() || b == b'_' || (i > 0 && b.is_ascii_digit()));
    if plain && !name.is_empty() {
        name.to_string()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// Splits `schema."Name"` into folded parts.
fn split_name(text: &str) -> Result<Vec<String>> {
    let bad = || {
        Error::new(
            SqlState::INVALID_NAME,
            format!("invalid name syntax: \"{text}\""),
        )
    };
    let mut parts = Vec::new();
    let mut current = String::new();
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                current.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut current)),
            c if quoted => current.push(c),
            c => current.extend(c.to_lowercase()),
        }
    }
    if quoted {
        return Err(bad());
    }
    parts.push(current);
    if parts.iter().any(String::is_empty) {
        return Err(bad());
    }
    Ok(parts)
}
