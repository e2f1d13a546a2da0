//! The SQL standard's information schema (PostgreSQL manual, chapter 37).

use super::attributes::default_shown;
use super::constraints::referenced_index;
use super::definitions::{RowBuilder, definitions};
use super::deparse;
use super::indexes::indexes;
use super::relations::{database, role_name, schema_name};
use super::value::{int4, optional_text, text};
use crate::catalog::descriptor::*;
use crate::context::StatementContext;
use std::sync::Arc;
use types::{Datum, Result, Row, SqlType};

const SCHEMA: &str = "information_schema";

fn yes_no(value: bool) -> Datum {
    text(if value { "YES" } else { "NO" })
}

fn catalog_name(ctx: &StatementContext) -> Datum {
    text(&ctx.settings.database)
}

pub fn catalog_name_rows(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new(SCHEMA, "information_schema_catalog_name")?;
    out.push(&[("catalog_name", catalog_name(ctx))])?;
    Ok(out.rows)
}

pub fn schemata(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new(SCHEMA, "schemata")?;
    let mut add = |name: &str, owner: Datum| {
        out.push(&[
            ("catalog_name", catalog_name(ctx)),
            ("schema_name", text(name)),
            ("schema_owner", owner),
        ])
    };
    let built_in = role_name(&ctx.catalog, crate::catalog::store::BOOTSTRAP_ROLE_OID);
    add("pg_catalog", built_in.clone())?;
    add("information_schema", built_in)?;
    for schema in ctx.catalog.schemas(database(ctx)) {
        add(&schema.name, role_name(&ctx.catalog, schema.owner))?;
    }
    Ok(out.rows)
}

pub fn tables(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new(SCHEMA, "tables")?;
    let mut add = |schema: &str, name: &str, view: bool| {
        out.push(&[
            ("table_catalog", catalog_name(ctx)),
            ("table_schema", text(schema)),
            ("table_name", text(name)),
            ("table_type", text(if view { "VIEW" } else { "BASE TABLE" })),
            ("is_insertable_into", yes_no(!view)),
            ("is_typed", yes_no(false)),
        ])
    };
    let database = database(ctx);
    for table in ctx.catalog.tables(database) {
        add(&schema_name(&ctx.catalog, table.schema), &table.name, false)?;
    }
    for view in ctx.catalog.views(database) {
        add(&schema_name(&ctx.catalog, view.schema), &view.name, true)?;
    }
    for definition in definitions() {
        add(definition.schema, definition.name, definition.kind == 'v')?;
    }
    Ok(out.rows)
}

/// What the standard says about a column's type.
fn type_facts(sql_type: &SqlType) -> Vec<(&'static str, Datum)> {
    let number = |value: i32| Datum::Int4(value);
    let mut facts = Vec::new();
    let shown = match sql_type {
        SqlType::Array(_) | SqlType::Int2Vector | SqlType::OidVector => "ARRAY".to_string(),
        other => match other.without_typmod() {
            SqlType::Char(_) => "character".to_string(),
            bare => bare.name(),
        },
    };
    facts.push(("data_type", text(&shown)));
    facts.push(("udt_schema", text("pg_catalog")));
    facts.push(("udt_name", text(&sql_type.internal_name())));
    match sql_type {
        SqlType::Varchar(Some(length)) | SqlType::Char(length) if *length > 0 => {
            let length = i32::try_from(*length).unwrap_or(i32::MAX);
            facts.push(("character_maximum_length", number(length)));
            facts.push(("character_octet_length", number(length.saturating_mul(4))));
        }
        SqlType::Text | SqlType::Varchar(None) => {
            facts.push(("character_octet_length", number(1 << 30)));
        }
        SqlType::Int2 => facts.extend(binary_number(16, Some(0))),
        SqlType::Int4 => facts.extend(binary_number(32, Some(0))),
        SqlType::Int8 => facts.extend(binary_number(64, Some(0))),
        SqlType::Float4 => facts.extend(binary_number(24, None)),
        SqlType::Float8 => facts.extend(binary_number(53, None)),
        SqlType::Numeric(modifier) => {
            facts.push(("numeric_precision_radix", number(10)));
            if let Some((precision, scale)) = modifier {
                facts.push(("numeric_precision", number(i32::from(*precision))));
                facts.push(("numeric_scale", number(i32::from(*scale))));
            }
        }
        SqlType::Date => facts.push(("datetime_precision", number(0))),
        SqlType::Time | SqlType::Timestamp | SqlType::TimestampTz | SqlType::Interval => {
            facts.push(("datetime_precision", number(6)));
        }
        _ => {}
    }
    facts
}

fn binary_number(bits: i32, scale: Option<i32>) -> Vec<(&'static str, Datum)> {
    let mut facts = vec![
        ("numeric_precision", Datum::Int4(bits)),
        ("numeric_precision_radix", Datum::Int4(2)),
    ];
    if let Some(scale) = scale {
        facts.push(("numeric_scale", Datum::Int4(scale)));
    }
    facts
}

pub fn columns(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new(SCHEMA, "columns")?;
    let mut add = |schema: &str,
                   table: &str,
                   number: usize,
                   name: &str,
                   sql_type: &SqlType,
                   more: Vec<(&'static str, Datum)>|
     -> Result<()> {
        let mut all = vec![
            ("table_catalog", catalog_name(ctx)),
            ("table_schema", text(schema)),
            ("table_name", text(table)),
            ("column_name", text(name)),
            ("ordinal_position", int4(number)),
            ("is_nullable", yes_no(true)),
            ("udt_catalog", catalog_name(ctx)),
            ("dtd_identifier", text(&number.to_string())),
            ("is_self_referencing", yes_no(false)),
            ("is_identity", yes_no(false)),
            ("identity_cycle", yes_no(false)),
            ("is_generated", text("NEVER")),
            ("is_updatable", yes_no(false)),
        ];
        all.extend(type_facts(sql_type));
        all.extend(more);
        out.push(&all)
    };
    let database = database(ctx);
    for table in ctx.catalog.tables(database) {
        let schema = schema_name(&ctx.catalog, table.schema);
        for (position, column) in table.live_columns() {
            let mut more = vec![
                ("is_nullable", yes_no(!column.not_null)),
                ("is_updatable", yes_no(true)),
            ];
            let shown = default_shown(ctx, column);
            if column.generated.is_some() {
                more.push(("is_generated", text("ALWAYS")));
                more.push(("generation_expression", optional_text(shown.as_deref())));
            } else {
                more.push(("column_default", optional_text(shown.as_deref())));
            }
            if let Some(identity) = column.identity {
                let kind = match identity {
                    Identity::Always => "ALWAYS",
                    Identity::ByDefault => "BY DEFAULT",
                };
                more.push(("is_identity", yes_no(true)));
                more.push(("identity_generation", text(kind)));
                let sequence = column.owned_sequence.and_then(|s| ctx.catalog.sequence(s));
                if let Some(sequence) = sequence {
                    let number = |value: i64| text(&value.to_string());
                    more.push(("identity_start", number(sequence.start)));
                    more.push(("identity_increment", number(sequence.increment)));
                    more.push(("identity_maximum", number(sequence.max)));
                    more.push(("identity_minimum", number(sequence.min)));
                    more.push(("identity_cycle", yes_no(sequence.cycle)));
                }
            }
            add(
                &schema,
                &table.name,
                position + 1,
                &column.name,
                &column.sql_type,
                more,
            )?;
        }
    }
    for view in ctx.catalog.views(database) {
        let schema = schema_name(&ctx.catalog, view.schema);
        for (at, (name, sql_type)) in view.columns.iter().enumerate() {
            add(&schema, &view.name, at + 1, name, sql_type, Vec::new())?;
        }
    }
    for definition in definitions() {
        for (at, column) in definition.columns.iter().enumerate() {
            let more = vec![("is_nullable", yes_no(!column.not_null))];
            add(
                definition.schema,
                definition.name,
                at + 1,
                column.name,
                &column.sql_type,
                more,
            )?;
        }
    }
    Ok(out.rows)
}

/// A constraint as the standard sees it.
struct Constraint<'a> {
    name: &'a str,
    kind: &'static str,
    columns: Vec<usize>,
    key: Option<&'a ForeignKey>,
}

fn constraints(table: &Table) -> Vec<Constraint<'_>> {
    let mut out = Vec::new();
    for index in indexes(table) {
        let constraint = index.primary || index.index.is_some_and(|i| i.constraint_oid.is_some());
        if !constraint {
            continue;
        }
        out.push(Constraint {
            name: index.name,
            kind: if index.primary {
                "PRIMARY KEY"
            } else {
                "UNIQUE"
            },
            columns: index
                .columns
                .iter()
                .filter_map(|column| match column.key {
                    IndexKey::Column(position) => Some(position),
                    IndexKey::Expression(..) => None,
                })
                .collect(),
            key: None,
        });
    }
    for key in &table.foreign_keys {
        out.push(Constraint {
            name: &key.name,
            kind: "FOREIGN KEY",
            columns: key.columns.clone(),
            key: Some(key),
        });
    }
    for check in &table.checks {
        out.push(Constraint {
            name: &check.name,
            kind: "CHECK",
            columns: Vec::new(),
            key: None,
        });
    }
    out
}

pub fn table_constraints(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new(SCHEMA, "table_constraints")?;
    for table in ctx.catalog.tables(database(ctx)) {
        let schema = text(&schema_name(&ctx.catalog, table.schema));
        for constraint in constraints(table) {
            out.push(&[
                ("constraint_catalog", catalog_name(ctx)),
                ("constraint_schema", schema.clone()),
                ("constraint_name", text(constraint.name)),
                ("table_catalog", catalog_name(ctx)),
                ("table_schema", schema.clone()),
                ("table_name", text(&table.name)),
                ("constraint_type", text(constraint.kind)),
                (
                    "is_deferrable",
                    yes_no(constraint.key.is_some_and(|key| key.deferrable)),
                ),
                (
                    "initially_deferred",
                    yes_no(constraint.key.is_some_and(|key| key.initially_deferred)),
                ),
                ("enforced", yes_no(true)),
            ])?;
        }
    }
    Ok(out.rows)
}

pub fn key_column_usage(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new(SCHEMA, "key_column_usage")?;
    for table in ctx.catalog.tables(database(ctx)) {
        let schema = text(&schema_name(&ctx.catalog, table.schema));
        for constraint in constraints(table) {
            for (at, position) in constraint.columns.iter().enumerate() {
                let within = match constraint.key {
                    Some(_) => int4(at + 1),
                    None => Datum::Null,
                };
                out.push(&[
                    ("constraint_catalog", catalog_name(ctx)),
                    ("constraint_schema", schema.clone()),
                    ("constraint_name", text(constraint.name)),
                    ("table_catalog", catalog_name(ctx)),
                    ("table_schema", schema.clone()),
                    ("table_name", text(&table.name)),
                    ("column_name", text(&table.columns[*position].name)),
                    ("ordinal_position", int4(at + 1)),
                    ("position_in_unique_constraint", within),
                ])?;
            }
        }
    }
    Ok(out.rows)
}

/// The columns a constraint is about: of a foreign key, the referenced ones.
fn used_columns(
    ctx: &StatementContext,
    table: &Arc<Table>,
    constraint: &Constraint<'_>,
) -> Option<(Arc<Table>, Vec<usize>)> {
    if let Some(key) = constraint.key {
        let referenced = ctx.catalog.table(key.referenced_table)?;
        return Some((referenced.clone(), key.referenced_columns.clone()));
    }
    if constraint.kind == "CHECK" {
        let check = table.checks.iter().find(|c| c.name == constraint.name)?;
        let expression = crate::ddl::parse_expression(&check.expression).ok()?;
        let used = crate::ddl::columns_used(table, &expression);
        return Some((table.clone(), used.into_iter().collect()));
    }
    Some((table.clone(), constraint.columns.clone()))
}

pub fn constraint_column_usage(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new(SCHEMA, "constraint_column_usage")?;
    for table in ctx.catalog.tables(database(ctx)) {
        for constraint in constraints(table) {
            let Some((used, positions)) = used_columns(ctx, table, &constraint) else {
                continue;
            };
            for position in positions {
                out.push(&[
                    ("table_catalog", catalog_name(ctx)),
                    (
                        "table_schema",
                        text(&schema_name(&ctx.catalog, used.schema)),
                    ),
                    ("table_name", text(&used.name)),
                    ("column_name", text(&used.columns[position].name)),
                    ("constraint_catalog", catalog_name(ctx)),
                    (
                        "constraint_schema",
                        text(&schema_name(&ctx.catalog, table.schema)),
                    ),
                    ("constraint_name", text(constraint.name)),
                ])?;
            }
        }
    }
    Ok(out.rows)
}

pub fn constraint_table_usage(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new(SCHEMA, "constraint_table_usage")?;
    for table in ctx.catalog.tables(database(ctx)) {
        for constraint in constraints(table) {
            let Some((used, _)) = used_columns(ctx, table, &constraint) else {
                continue;
            };
            out.push(&[
                ("table_catalog", catalog_name(ctx)),
                (
                    "table_schema",
                    text(&schema_name(&ctx.catalog, used.schema)),
                ),
                ("table_name", text(&used.name)),
                ("constraint_catalog", catalog_name(ctx)),
                (
                    "constraint_schema",
                    text(&schema_name(&ctx.catalog, table.schema)),
                ),
                ("constraint_name", text(constraint.name)),
            ])?;
        }
    }
    Ok(out.rows)
}

fn action(action: ReferentialAction) -> Datum {
    text(match action {
        ReferentialAction::NoAction => "NO ACTION",
        ReferentialAction::Restrict => "RESTRICT",
        ReferentialAction::Cascade => "CASCADE",
        ReferentialAction::SetNull => "SET NULL",
        ReferentialAction::SetDefault => "SET DEFAULT",
    })
}

pub fn referential_constraints(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new(SCHEMA, "referential_constraints")?;
    for table in ctx.catalog.tables(database(ctx)) {
        let schema = text(&schema_name(&ctx.catalog, table.schema));
        for key in &table.foreign_keys {
            let index = referenced_index(&ctx.catalog, key);
            let referenced = ctx.catalog.table(key.referenced_table);
            let unique = referenced.and_then(|referenced| {
                let found = indexes(referenced).into_iter().find(|i| i.oid == index)?;
                let schema = schema_name(&ctx.catalog, referenced.schema);
                Some((text(&schema), text(found.name)))
            });
            let (unique_schema, unique_name) = unique.unwrap_or((Datum::Null, Datum::Null));
            out.push(&[
                ("constraint_catalog", catalog_name(ctx)),
                ("constraint_schema", schema.clone()),
                ("constraint_name", text(&key.name)),
                ("unique_constraint_catalog", catalog_name(ctx)),
                ("unique_constraint_schema", unique_schema),
                ("unique_constraint_name", unique_name),
                (
                    "match_option",
                    text(if key.match_full { "FULL" } else { "NONE" }),
                ),
                ("update_rule", action(key.on_update)),
                ("delete_rule", action(key.on_delete)),
            ])?;
        }
    }
    Ok(out.rows)
}

pub fn check_constraints(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new(SCHEMA, "check_constraints")?;
    for table in ctx.catalog.tables(database(ctx)) {
        let schema = text(&schema_name(&ctx.catalog, table.schema));
        for check in &table.checks {
            out.push(&[
                ("constraint_catalog", catalog_name(ctx)),
                ("constraint_schema", schema.clone()),
                ("constraint_name", text(&check.name)),
                (
                    "check_clause",
                    text(&format!("({})", deparse::parenthesised(&check.expression))),
                ),
            ])?;
        }
    }
    Ok(out.rows)
}

pub fn views(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new(SCHEMA, "views")?;
    for view in ctx.catalog.views(database(ctx)) {
        out.push(&[
            ("table_catalog", catalog_name(ctx)),
            (
                "table_schema",
                text(&schema_name(&ctx.catalog, view.schema)),
            ),
            ("table_name", text(&view.name)),
            ("view_definition", text(&format!(" {};", view.query))),
            ("check_option", text("NONE")),
            ("is_updatable", yes_no(false)),
            ("is_insertable_into", yes_no(false)),
            ("is_trigger_updatable", yes_no(false)),
            ("is_trigger_deletable", yes_no(false)),
            ("is_trigger_insertable_into", yes_no(false)),
        ])?;
    }
    Ok(out.rows)
}

pub fn sequences(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new(SCHEMA, "sequences")?;
    for sequence in ctx.catalog.sequences(database(ctx)) {
        let number = |value: i64| text(&value.to_string());
        let bits = match sequence.sql_type {
            SqlType::Int2 => 16,
            SqlType::Int4 => 32,
            _ => 64,
        };
        out.push(&[
            ("sequence_catalog", catalog_name(ctx)),
            (
                "sequence_schema",
                text(&schema_name(&ctx.catalog, sequence.schema)),
            ),
            ("sequence_name", text(&sequence.name)),
            ("data_type", text(&sequence.sql_type.name())),
            ("numeric_precision", Datum::Int4(bits)),
            ("numeric_precision_radix", Datum::Int4(2)),
            ("numeric_scale", Datum::Int4(0)),
            ("start_value", number(sequence.start)),
            ("minimum_value", number(sequence.min)),
            ("maximum_value", number(sequence.max)),
            ("increment", number(sequence.increment)),
            ("cycle_option", yes_no(sequence.cycle)),
        ])?;
    }
    Ok(out.rows)
}
