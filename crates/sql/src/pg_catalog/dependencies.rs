//! What hangs on relations: pg_description, pg_depend, pg_rewrite.

use super::attributes::default_oid;
use super::constraints::referenced_index;
use super::definitions::RowBuilder;
use super::indexes::indexes;
use super::relations::*;
use super::value::{bool, character, int4, oid, text};
use crate::catalog::descriptor::*;
use crate::context::StatementContext;
use types::{Result, Row};

pub fn pg_description(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_description")?;
    let database = database(ctx);
    let mut add = |object: ObjectId, class: u32, sub: usize, comment: &Option<String>| {
        let Some(comment) = comment else {
            return Ok(());
        };
        out.push(&[
            ("objoid", oid(object)),
            ("classoid", oid(class)),
            ("objsubid", int4(sub)),
            ("description", text(comment)),
        ])
    };
    for table in ctx.catalog.tables(database) {
        add(table.oid, PG_CLASS, 0, &table.comment)?;
        for (position, column) in table.live_columns() {
            add(table.oid, PG_CLASS, position + 1, &column.comment)?;
        }
        for index in &table.indexes {
            add(index.oid, PG_CLASS, 0, &index.comment)?;
        }
    }
    for view in ctx.catalog.views(database) {
        add(view.oid, PG_CLASS, 0, &view.comment)?;
    }
    for sequence in ctx.catalog.sequences(database) {
        add(sequence.oid, PG_CLASS, 0, &sequence.comment)?;
    }
    for schema in ctx.catalog.schemas(database) {
        add(schema.oid, PG_NAMESPACE, 0, &schema.comment)?;
    }
    let built_in = Some("system catalog schema".to_string());
    add(PG_CATALOG_OID, PG_NAMESPACE, 0, &built_in)?;
    Ok(out.rows)
}

/// The dependencies that reflection asks for: owned sequences, and constraints on other tables.
pub fn pg_depend(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_depend")?;
    let database = database(ctx);
    for sequence in ctx.catalog.sequences(database) {
        let Some((table, position)) = sequence.owned_by else {
            continue;
        };
        let identity = ctx
            .catalog
            .table(table)
            .and_then(|table| table.columns.get(position))
            .is_some_and(|column| column.identity.is_some());
        out.push(&[
            ("classid", oid(PG_CLASS)),
            ("objid", oid(sequence.oid)),
            ("refclassid", oid(PG_CLASS)),
            ("refobjid", oid(table)),
            ("refobjsubid", int4(position + 1)),
            ("deptype", character(if identity { 'i' } else { 'a' })),
        ])?;
    }
    for table in ctx.catalog.tables(database) {
        for (position, column) in table.live_columns() {
            if column.default.is_some() || column.generated.is_some() {
                out.push(&[
                    ("classid", oid(PG_ATTRDEF)),
                    ("objid", oid(default_oid(table.oid, position))),
                    ("refclassid", oid(PG_CLASS)),
                    ("refobjid", oid(table.oid)),
                    ("refobjsubid", int4(position + 1)),
                    ("deptype", character('a')),
                ])?;
            }
        }
        for index in indexes(table) {
            let constraint = match index.index {
                None => table.primary_key.as_ref().map(|key| key.constraint_oid),
                Some(index) => index.constraint_oid,
            };
            if let Some(constraint) = constraint {
                out.push(&[
                    ("classid", oid(PG_CLASS)),
                    ("objid", oid(index.oid)),
                    ("refclassid", oid(PG_CONSTRAINT)),
                    ("refobjid", oid(constraint)),
                    ("deptype", character('i')),
                ])?;
            }
        }
        for key in &table.foreign_keys {
            out.push(&[
                ("classid", oid(PG_CONSTRAINT)),
                ("objid", oid(key.oid)),
                ("refclassid", oid(PG_CLASS)),
                ("refobjid", oid(referenced_index(&ctx.catalog, key))),
                ("deptype", character('n')),
            ])?;
        }
    }
    Ok(out.rows)
}

/// A view's rewrite rule.
pub fn pg_rewrite(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_rewrite")?;
    for view in ctx.catalog.views(database(ctx)) {
        out.push(&[
            ("oid", oid(view.oid | 0x8000_0000)),
            ("rulename", text("_RETURN")),
            ("ev_class", oid(view.oid)),
            ("ev_type", character('1')),
            ("ev_enabled", character('O')),
            ("is_instead", bool(true)),
            ("ev_qual", text("<>")),
            ("ev_action", text(&view.query)),
        ])?;
    }
    Ok(out.rows)
}
