//! Columns: pg_attribute and pg_attrdef.

use super::definitions::{RowBuilder, definitions};
use super::deparse;
use super::indexes::indexes;
use super::relations::{DEFAULT_COLLATION, database};
use super::value::{bool, character, int2, int4, oid, text};
use crate::catalog::descriptor::*;
use crate::context::StatementContext;
use types::{Datum, Result, Row, SqlType};

/// Columns of all types have these in common.
fn type_columns(sql_type: &SqlType) -> [(&'static str, Datum); 6] {
    let len = sql_type.typlen();
    let by_value = matches!(len, 1 | 2 | 4 | 8);
    let align = match len {
        1 => 'c',
        2 => 's',
        8 => 'd',
        _ => 'i',
    };
    let collation = if sql_type.is_string() && *sql_type != SqlType::InternalChar {
        DEFAULT_COLLATION
    } else {
        0
    };
    [
        ("atttypid", oid(sql_type.oid())),
        ("attlen", Datum::Int2(len)),
        ("attbyval", bool(by_value)),
        ("attalign", character(align)),
        ("attstorage", character(if len < 0 { 'x' } else { 'p' })),
        ("attcollation", oid(collation)),
    ]
}

pub fn pg_attribute(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_attribute")?;
    let database = database(ctx);
    let mut add = |relation: ObjectId,
                   number: usize,
                   name: &str,
                   sql_type: &SqlType,
                   more: &[(&'static str, Datum)]|
     -> Result<()> {
        let mut all = vec![
            ("attrelid", oid(relation)),
            ("attname", text(name)),
            ("attnum", int2(number)),
            ("attcacheoff", Datum::Int4(-1)),
            ("atttypmod", Datum::Int4(sql_type.typmod())),
            ("attstattarget", Datum::Int4(-1)),
            ("attndims", int4(usize::from(sql_type.is_array()))),
            ("attislocal", bool(true)),
        ];
        all.extend_from_slice(&type_columns(sql_type));
        all.extend_from_slice(more);
        out.push(&all)
    };
    for table in ctx.catalog.tables(database) {
        for (position, column) in table.columns.iter().enumerate() {
            let identity = match column.identity {
                Some(Identity::Always) => "a",
                Some(Identity::ByDefault) => "d",
                None => "",
            };
            let generated = if column.generated.is_some() { "s" } else { "" };
            let mut more = vec![
                ("attnotnull", bool(column.not_null)),
                (
                    "atthasdef",
                    bool(column.default.is_some() || column.generated.is_some()),
                ),
                ("atthasmissing", bool(column.missing.is_some())),
                ("attidentity", text(identity)),
                ("attgenerated", text(generated)),
                ("attisdropped", bool(column.dropped)),
            ];
            if column.dropped {
                more.push(("atttypid", oid(0)));
            }
            add(
                table.oid,
                position + 1,
                &column.name,
                &column.sql_type,
                &more,
            )?;
        }
        for index in indexes(table) {
            for (at, column) in index.columns.iter().enumerate() {
                let (name, sql_type) = match &column.key {
                    IndexKey::Column(position) => {
                        let column = &table.columns[*position];
                        (column.name.clone(), column.sql_type.clone())
                    }
                    IndexKey::Expression(text, sql_type) => {
                        let function = text.split('(').next().unwrap_or_default();
                        let named = text.contains('(') && !function.is_empty();
                        let name = if named { function } else { "expr" };
                        (name.to_lowercase(), sql_type.clone())
                    }
                };
                add(index.oid, at + 1, &name, &sql_type, &[])?;
            }
        }
    }
    for view in ctx.catalog.views(database) {
        for (at, (name, sql_type)) in view.columns.iter().enumerate() {
            add(view.oid, at + 1, name, sql_type, &[])?;
        }
    }
    for sequence in ctx.catalog.sequences(database) {
        let columns = [
            ("last_value", SqlType::Int8),
            ("log_cnt", SqlType::Int8),
            ("is_called", SqlType::Bool),
        ];
        for (at, (name, sql_type)) in columns.iter().enumerate() {
            let more = [("attnotnull", bool(true))];
            add(sequence.oid, at + 1, name, sql_type, &more)?;
        }
    }
    for definition in definitions() {
        for (at, column) in definition.columns.iter().enumerate() {
            let more = [("attnotnull", bool(column.not_null))];
            add(definition.oid, at + 1, column.name, &column.sql_type, &more)?;
        }
    }
    Ok(out.rows)
}

/// A default has no object id of its own: it gets its table's, moved out of the way of others.
pub fn default_oid(table: ObjectId, position: usize) -> ObjectId {
    table
        .wrapping_mul(types::row::MAX_COLUMNS as u32)
        .wrapping_add(position as u32)
        | 0x8000_0000
}

/// A column's DEFAULT or generation expression as it is shown.
pub fn default_shown(ctx: &StatementContext, column: &Column) -> Option<String> {
    if let Some(generated) = &column.generated {
        return Some(deparse::parenthesised(generated));
    }
    let text = column.default.as_ref()?;
    Some(deparse::default_text(
        &ctx.catalog,
        &ctx.settings,
        text,
        &column.sql_type,
    ))
}

pub fn pg_attrdef(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_attrdef")?;
    for table in ctx.catalog.tables(database(ctx)) {
        for (position, column) in table.live_columns() {
            if let Some(shown) = default_shown(ctx, column) {
                out.push(&[
                    ("oid", oid(default_oid(table.oid, position))),
                    ("adrelid", oid(table.oid)),
                    ("adnum", int2(position + 1)),
                    ("adbin", text(&shown)),
                ])?;
            }
        }
    }
    Ok(out.rows)
}
