//! Catalogs of relations and what belongs to them: pg_class, pg_attribute, pg_index, pg_constraint …

use super::definitions::{RowBuilder, definitions};
use super::indexes::indexes;
use super::value::{bool, character, int2, oid, text};
use crate::catalog::descriptor::*;
use crate::catalog::{Catalog, table_index_names};
use crate::context::StatementContext;
use std::sync::Arc;
use types::{Datum, Result, Row, SqlType};

/// Object ids of access methods in pg_am.
const HEAP: u32 = 2;
const BTREE: u32 = 403;
/// Object ids of catalogs, for `classid` columns.
pub const PG_CLASS: u32 = 1259;
pub const PG_TYPE: u32 = 1247;
pub const PG_NAMESPACE: u32 = 2615;
pub const PG_DATABASE: u32 = 1262;
pub const PG_AUTHID: u32 = 1260;
pub const PG_CONSTRAINT: u32 = 2606;
pub const PG_ATTRDEF: u32 = 2604;
/// The default collation.
pub const DEFAULT_COLLATION: u32 = 100;

pub fn database(ctx: &StatementContext) -> ObjectId {
    ctx.catalog
        .database_by_name(&ctx.settings.database)
        .map_or(0, |database| database.oid)
}

fn schema_oid(name: &str) -> ObjectId {
    match name {
        "pg_catalog" => PG_CATALOG_OID,
        _ => INFORMATION_SCHEMA_OID,
    }
}

pub fn pg_class(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_class")?;
    let database = database(ctx);
    let mut add = |values: &[(&str, Datum)]| -> Result<()> {
        let mut all = vec![
            ("reltuples", Datum::Float4(-1.0)),
            ("relpersistence", character('p')),
            ("relispopulated", bool(true)),
            ("relreplident", character('n')),
        ];
        all.extend_from_slice(values);
        out.push(&all)
    };
    for table in ctx.catalog.tables(database) {
        let options: Vec<Datum> = table
            .shown_options()
            .iter()
            .map(|(key, value)| text(&format!("{key}={value}")))
            .collect();
        let options = if options.is_empty() {
            Datum::Null
        } else {
            super::value::array(SqlType::Text, options)
        };
        add(&[
            ("oid", oid(table.oid)),
            ("relname", text(&table.name)),
            ("relnamespace", oid(table.schema)),
            ("relowner", oid(table.owner)),
            ("relam", oid(HEAP)),
            ("relfilenode", oid(table.data_id)),
            ("relkind", character('r')),
            (
                "relpersistence",
                character(if table.unlogged { 'u' } else { 'p' }),
            ),
            ("relnatts", int2(table.columns.len())),
            ("relchecks", int2(table.checks.len())),
            (
                "relhasindex",
                bool(table_index_names(table).next().is_some()),
            ),
            // On both sides of a foreign key: psql looks for references only then.
            (
                "relhastriggers",
                bool(
                    !table.foreign_keys.is_empty()
                        || ctx.catalog.referencing_tables(table.oid).next().is_some(),
                ),
            ),
            ("relreplident", character('d')),
            ("reloptions", options),
        ])?;
        for index in indexes(table) {
            add(&[
                ("oid", oid(index.oid)),
                ("relname", text(index.name)),
                ("relnamespace", oid(table.schema)),
                ("relowner", oid(table.owner)),
                ("relam", oid(BTREE)),
                ("relfilenode", oid(index.oid)),
                ("relkind", character('i')),
                ("relnatts", int2(index.columns.len())),
            ])?;
        }
    }
    for view in ctx.catalog.views(database) {
        add(&[
            ("oid", oid(view.oid)),
            ("relname", text(&view.name)),
            ("relnamespace", oid(view.schema)),
            ("relowner", oid(view.owner)),
            ("relkind", character('v')),
            ("relnatts", int2(view.columns.len())),
            ("relhasrules", bool(true)),
        ])?;
    }
    for sequence in ctx.catalog.sequences(database) {
        add(&[
            ("oid", oid(sequence.oid)),
            ("relname", text(&sequence.name)),
            ("relnamespace", oid(sequence.schema)),
            ("relowner", oid(sequence.owner)),
            ("relfilenode", oid(sequence.oid)),
            ("relkind", character('S')),
            ("relnatts", int2(3)),
        ])?;
    }
    for definition in definitions() {
        add(&[
            ("oid", oid(definition.oid)),
            ("relname", text(definition.name)),
            ("relnamespace", oid(schema_oid(definition.schema))),
            ("relowner", oid(crate::catalog::store::BOOTSTRAP_ROLE_OID)),
            ("relam", oid(if definition.kind == 'r' { HEAP } else { 0 })),
            ("relkind", character(definition.kind)),
            ("relnatts", int2(definition.columns.len())),
        ])?;
    }
    Ok(out.rows)
}

pub fn pg_sequence(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_sequence")?;
    for sequence in ctx.catalog.sequences(database(ctx)) {
        out.push(&[
            ("seqrelid", oid(sequence.oid)),
            ("seqtypid", oid(sequence.sql_type.oid())),
            ("seqstart", Datum::Int8(sequence.start)),
            ("seqincrement", Datum::Int8(sequence.increment)),
            ("seqmax", Datum::Int8(sequence.max)),
            ("seqmin", Datum::Int8(sequence.min)),
            ("seqcache", Datum::Int8(sequence.cache)),
            ("seqcycle", bool(sequence.cycle)),
        ])?;
    }
    Ok(out.rows)
}

/// Name of a schema of the catalog or a built-in one.
pub fn schema_name(catalog: &Catalog, oid: ObjectId) -> Arc<str> {
    match oid {
        PG_CATALOG_OID => "pg_catalog".into(),
        INFORMATION_SCHEMA_OID => "information_schema".into(),
        _ => catalog
            .schema(oid)
            .map_or_else(|| "".into(), |schema| schema.name.as_str().into()),
    }
}

pub fn role_name(catalog: &Catalog, oid: ObjectId) -> Datum {
    catalog
        .role(oid)
        .map_or(Datum::Null, |role| text(&role.name))
}
