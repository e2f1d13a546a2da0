//! Indexes: pg_index, and the primary key seen as one.

use super::definitions::RowBuilder;
use super::deparse;
use super::relations::{DEFAULT_COLLATION, database};
use super::value::{bool, int2, int2_vector, oid, oid_vector, text};
use crate::catalog::descriptor::*;
use crate::context::StatementContext;
use types::{Datum, Result, Row, SqlType};

/// An index as catalogs see it, the primary key's like any other.
pub struct IndexView<'a> {
    pub oid: ObjectId,
    pub name: &'a str,
    pub columns: Vec<IndexColumn>,
    pub unique: bool,
    pub primary: bool,
    pub index: Option<&'a Index>,
}

pub fn indexes(table: &Table) -> Vec<IndexView<'_>> {
    let mut out = Vec::with_capacity(table.indexes.len() + 1);
    if let Some(key) = &table.primary_key {
        let columns = key.columns.iter().map(|position| IndexColumn {
            key: IndexKey::Column(*position),
            descending: false,
            nulls_first: false,
        });
        out.push(IndexView {
            oid: key.oid,
            name: &key.name,
            columns: columns.collect(),
            unique: true,
            primary: true,
            index: None,
        });
    }
    for index in &table.indexes {
        out.push(IndexView {
            oid: index.oid,
            name: &index.name,
            columns: index.columns.clone(),
            unique: index.unique,
            primary: false,
            index: Some(index),
        });
    }
    out
}

/// The default B-tree operator class of a type.
fn operator_class(sql_type: &SqlType) -> u32 {
    match sql_type {
        SqlType::Bool => 10003,
        SqlType::Int2 => 1979,
        SqlType::Int4 => 1978,
        SqlType::Int8 => 3124,
        SqlType::Float4 => 10012,
        SqlType::Float8 => 3123,
        SqlType::Numeric(_) => 3125,
        SqlType::Char(_) => 10004,
        SqlType::Name => 10028,
        SqlType::InternalChar => 10007,
        SqlType::Bytea => 10006,
        SqlType::Date => 3122,
        SqlType::Time => 10038,
        SqlType::Timestamp => 3128,
        SqlType::TimestampTz => 3127,
        SqlType::Interval => 10022,
        SqlType::Uuid => 10065,
        SqlType::Jsonb => 10088,
        SqlType::Array(_) => 10000,
        t if t.is_oid() => 1981,
        _ => 3126,
    }
}

pub fn pg_index(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_index")?;
    for table in ctx.catalog.tables(database(ctx)) {
        for view in indexes(table) {
            let mut keys = Vec::new();
            let mut classes = Vec::new();
            let mut collations = Vec::new();
            let mut options = Vec::new();
            let mut expressions = Vec::new();
            for column in &view.columns {
                let sql_type = match &column.key {
                    IndexKey::Column(position) => {
                        keys.push((position + 1) as i16);
                        table.columns[*position].sql_type.clone()
                    }
                    IndexKey::Expression(text, sql_type) => {
                        keys.push(0);
                        expressions.push(text.clone());
                        sql_type.clone()
                    }
                };
                classes.push(operator_class(&sql_type));
                collations.push(if sql_type.is_string() {
                    DEFAULT_COLLATION
                } else {
                    0
                });
                options.push(i16::from(column.descending) | (i16::from(column.nulls_first) << 1));
            }
            let key_columns = keys.len();
            let include = view.index.map_or(&[][..], |index| &index.include);
            keys.extend(include.iter().map(|position| (position + 1) as i16));
            let predicate = view.index.and_then(|index| index.predicate.as_ref());
            let optional = |shown: Option<String>| shown.map_or(Datum::Null, |s| text(&s));
            out.push(&[
                ("indexrelid", oid(view.oid)),
                ("indrelid", oid(table.oid)),
                ("indnatts", int2(keys.len())),
                ("indnkeyatts", int2(key_columns)),
                ("indisunique", bool(view.unique)),
                (
                    "indnullsnotdistinct",
                    bool(view.index.is_some_and(|index| index.nulls_not_distinct)),
                ),
                ("indisprimary", bool(view.primary)),
                ("indimmediate", bool(true)),
                ("indisvalid", bool(true)),
                ("indisready", bool(true)),
                ("indislive", bool(true)),
                ("indkey", int2_vector(keys)),
                ("indcollation", oid_vector(collations)),
                ("indclass", oid_vector(classes)),
                ("indoption", int2_vector(options)),
                (
                    "indexprs",
                    optional((!expressions.is_empty()).then(|| expressions.join(", "))),
                ),
                (
                    "indpred",
                    optional(predicate.map(|text| deparse::parenthesised(text))),
                ),
            ])?;
        }
    }
    Ok(out.rows)
}
