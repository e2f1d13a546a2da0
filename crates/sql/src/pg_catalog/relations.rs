//! Catalogs of relations and what belongs to them: pg_class, pg_attribute, pg_index, pg_constraint …

use super::definitions::{RowBuilder, definitions};
use super::deparse;
use super::value::{bool, character, int2, int2_array, int2_vector, int4, oid, oid_vector, text};
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
const DEFAULT_COLLATION: u32 = 100;

pub fn database(ctx: &StatementContext) -> ObjectId {
    ctx.catalog
        .database_by_name(&ctx.settings.database)
        .map_or(0, |database| database.oid)
}

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
            .options
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
            ("relhastriggers", bool(!table.foreign_keys.is_empty())),
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
fn default_oid(table: ObjectId, position: usize) -> ObjectId {
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

fn action_code(action: ReferentialAction) -> Datum {
    character(match action {
        ReferentialAction::NoAction => 'a',
        ReferentialAction::Restrict => 'r',
        ReferentialAction::Cascade => 'c',
        ReferentialAction::SetNull => 'n',
        ReferentialAction::SetDefault => 'd',
    })
}

fn numbers(positions: &[usize]) -> Datum {
    int2_array(positions.iter().map(|position| (position + 1) as i16))
}

/// The index that makes a foreign key's referenced columns unique.
pub fn referenced_index(catalog: &Catalog, key: &ForeignKey) -> ObjectId {
    let Some(table) = catalog.table(key.referenced_table) else {
        return 0;
    };
    let same = |columns: &[usize]| {
        columns.len() == key.referenced_columns.len()
            && columns
                .iter()
                .all(|column| key.referenced_columns.contains(column))
    };
    if let Some(primary) = &table.primary_key
        && same(&primary.columns)
    {
        return primary.oid;
    }
    let found = table.indexes.iter().find(|index| {
        let columns: Option<Vec<usize>> = index
            .columns
            .iter()
            .map(|column| match column.key {
                IndexKey::Column(position) => Some(position),
                IndexKey::Expression(..) => None,
            })
            .collect();
        index.unique && index.predicate.is_none() && columns.is_some_and(|columns| same(&columns))
    });
    found.map_or(0, |index| index.oid)
}

pub fn pg_constraint(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_constraint")?;
    for table in ctx.catalog.tables(database(ctx)) {
        let mut add = |constraint: ObjectId,
                       name: &str,
                       kind: char,
                       more: &[(&'static str, Datum)]|
         -> Result<()> {
            let mut all = vec![
                ("oid", oid(constraint)),
                ("conname", text(name)),
                ("connamespace", oid(table.schema)),
                ("contype", character(kind)),
                ("conrelid", oid(table.oid)),
                ("convalidated", bool(true)),
                ("conislocal", bool(true)),
                ("connoinherit", bool(kind != 'c')),
                ("confupdtype", character(' ')),
                ("confdeltype", character(' ')),
                ("confmatchtype", character(' ')),
            ];
            all.extend_from_slice(more);
            out.push(&all)
        };
        if let Some(key) = &table.primary_key {
            add(
                key.constraint_oid,
                &key.name,
                'p',
                &[
                    ("conindid", oid(key.oid)),
                    ("conkey", numbers(&key.columns)),
                ],
            )?;
        }
        for index in &table.indexes {
            let Some(constraint) = index.constraint_oid else {
                continue;
            };
            let columns: Vec<usize> = index
                .columns
                .iter()
                .filter_map(|column| match column.key {
                    IndexKey::Column(position) => Some(position),
                    IndexKey::Expression(..) => None,
                })
                .collect();
            add(
                constraint,
                &index.name,
                'u',
                &[("conindid", oid(index.oid)), ("conkey", numbers(&columns))],
            )?;
        }
        for check in &table.checks {
            let used: Vec<usize> = match crate::ddl::parse_expression(&check.expression) {
                Ok(expression) => crate::ddl::columns_used(table, &expression)
                    .into_iter()
                    .collect(),
                Err(_) => Vec::new(),
            };
            add(
                check.oid,
                &check.name,
                'c',
                &[
                    ("convalidated", bool(!check.not_valid)),
                    ("conkey", numbers(&used)),
                    ("conbin", text(&deparse::parenthesised(&check.expression))),
                ],
            )?;
        }
        for key in &table.foreign_keys {
            add(
                key.oid,
                &key.name,
                'f',
                &[
                    ("condeferrable", bool(key.deferrable)),
                    ("condeferred", bool(key.initially_deferred)),
                    ("convalidated", bool(!key.not_valid)),
                    ("conindid", oid(referenced_index(&ctx.catalog, key))),
                    ("confrelid", oid(key.referenced_table)),
                    ("confupdtype", action_code(key.on_update)),
                    ("confdeltype", action_code(key.on_delete)),
                    (
                        "confmatchtype",
                        character(if key.match_full { 'f' } else { 's' }),
                    ),
                    ("conkey", numbers(&key.columns)),
                    ("confkey", numbers(&key.referenced_columns)),
                ],
            )?;
        }
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
