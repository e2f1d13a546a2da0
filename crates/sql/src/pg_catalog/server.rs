//! Catalogs of what is not a relation: schemas, databases, roles, settings, sessions; and the
//! readable views over the catalogs (pg_tables, pg_indexes, pg_sequences …).

use super::definitions::{RowBuilder, definitions};
use super::deparse;
use super::indexes::indexes;
use super::relations::{PG_AUTHID, PG_DATABASE, database, role_name, schema_name};
use super::value::{array, bool, character, oid, optional_text, text};
use crate::catalog::descriptor::*;
use crate::catalog::store::BOOTSTRAP_ROLE_OID;
use crate::context::StatementContext;
use crate::session::settings_table;
use types::{Datum, Result, Row, SqlType};

/// UTF8 in PostgreSQL's list of encodings.
pub const UTF8: i32 = 6;
const DEFAULT_TABLESPACE: u32 = 1663;
const PLPGSQL_EXTENSION: u32 = 13562;

pub fn pg_namespace(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_namespace")?;
    let built_in = [
        (PG_CATALOG_OID, "pg_catalog"),
        (INFORMATION_SCHEMA_OID, "information_schema"),
    ];
    for (id, name) in built_in {
        out.push(&[
            ("oid", oid(id)),
            ("nspname", text(name)),
            ("nspowner", oid(BOOTSTRAP_ROLE_OID)),
        ])?;
    }
    for schema in ctx.catalog.schemas(database(ctx)) {
        out.push(&[
            ("oid", oid(schema.oid)),
            ("nspname", text(&schema.name)),
            ("nspowner", oid(schema.owner)),
        ])?;
    }
    Ok(out.rows)
}

pub fn pg_database(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_database")?;
    for database in ctx.catalog.databases() {
        out.push(&[
            ("oid", oid(database.oid)),
            ("datname", text(&database.name)),
            ("datdba", oid(database.owner)),
            ("encoding", Datum::Int4(UTF8)),
            ("datlocprovider", character('c')),
            ("datistemplate", bool(database.template)),
            ("datallowconn", bool(!database.template)),
            ("datconnlimit", Datum::Int4(-1)),
            ("dattablespace", oid(DEFAULT_TABLESPACE)),
            ("datcollate", text("C")),
            ("datctype", text("C")),
        ])?;
    }
    Ok(out.rows)
}

/// Attributes under the names of pg_authid; pg_roles has them too.
fn role_rows(ctx: &StatementContext, table: &str) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", table)?;
    let superuser = ctx
        .catalog
        .role_by_name(&ctx.settings.user)
        .is_some_and(|role| role.superuser);
    for role in ctx.catalog.roles() {
        let password = match (table, &role.password) {
            ("pg_roles", _) => text("********"),
            (_, Some(verifier)) if superuser => text(verifier),
            _ => Datum::Null,
        };
        out.push(&[
            ("oid", oid(role.oid)),
            ("rolname", text(&role.name)),
            ("rolsuper", bool(role.superuser)),
            ("rolinherit", bool(true)),
            ("rolcreaterole", bool(role.superuser || role.create_role)),
            ("rolcreatedb", bool(role.superuser || role.create_database)),
            ("rolcanlogin", bool(role.can_login)),
            ("rolreplication", bool(false)),
            ("rolbypassrls", bool(role.superuser)),
            ("rolconnlimit", Datum::Int4(-1)),
            ("rolpassword", password),
        ])?;
    }
    Ok(out.rows)
}

pub fn pg_roles(ctx: &StatementContext) -> Result<Vec<Row>> {
    role_rows(ctx, "pg_roles")
}

pub fn pg_authid(ctx: &StatementContext) -> Result<Vec<Row>> {
    role_rows(ctx, "pg_authid")
}

fn user_rows(ctx: &StatementContext, table: &str) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", table)?;
    for role in ctx.catalog.roles().filter(|role| role.can_login) {
        out.push(&[
            ("usename", text(&role.name)),
            ("usesysid", oid(role.oid)),
            ("usecreatedb", bool(role.superuser || role.create_database)),
            ("usesuper", bool(role.superuser)),
            ("userepl", bool(false)),
            ("usebypassrls", bool(role.superuser)),
            (
                "passwd",
                if table == "pg_user" {
                    text("********")
                } else {
                    Datum::Null
                },
            ),
        ])?;
    }
    Ok(out.rows)
}

pub fn pg_user(ctx: &StatementContext) -> Result<Vec<Row>> {
    user_rows(ctx, "pg_user")
}

pub fn pg_shadow(ctx: &StatementContext) -> Result<Vec<Row>> {
    user_rows(ctx, "pg_shadow")
}

pub fn pg_shdescription(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_shdescription")?;
    let databases = ctx
        .catalog
        .databases()
        .map(|database| (database.oid, PG_DATABASE, &database.comment));
    let roles = ctx
        .catalog
        .roles()
        .map(|role| (role.oid, PG_AUTHID, &role.comment));
    for (object, class, comment) in databases.chain(roles) {
        if let Some(comment) = comment {
            out.push(&[
                ("objoid", oid(object)),
                ("classoid", oid(class)),
                ("description", text(comment)),
            ])?;
        }
    }
    Ok(out.rows)
}

pub fn pg_extension(_: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_extension")?;
    for (name, version) in crate::ddl::BUILT_IN_EXTENSIONS {
        out.push(&[
            ("oid", oid(PLPGSQL_EXTENSION)),
            ("extname", text(name)),
            ("extowner", oid(BOOTSTRAP_ROLE_OID)),
            ("extnamespace", oid(PG_CATALOG_OID)),
            ("extversion", text(version)),
        ])?;
    }
    Ok(out.rows)
}

pub fn pg_settings(ctx: &StatementContext) -> Result<Vec<Row>> {
    use settings_table::Kind;
    let mut out = RowBuilder::new("pg_catalog", "pg_settings")?;
    for definition in settings_table::definitions() {
        let value = ctx
            .effects
            .setting(definition.name)
            .unwrap_or_else(|| definition.default.to_string());
        let (kind, unit, values) = match definition.kind {
            Kind::Bool => ("bool", None, Datum::Null),
            Kind::Integer(..) => ("integer", None, Datum::Null),
            Kind::Milliseconds => ("integer", Some("ms"), Datum::Null),
            Kind::Real => ("real", None, Datum::Null),
            Kind::Enum(words) => {
                let words = words.iter().map(|word| text(word)).collect();
                ("enum", None, array(SqlType::Text, words))
            }
            Kind::Text | Kind::TimeZone | Kind::DateStyle | Kind::Fixed => {
                ("string", None, Datum::Null)
            }
        };
        let context = if matches!(definition.kind, Kind::Fixed) {
            "internal"
        } else {
            "user"
        };
        let changed = value != definition.default;
        out.push(&[
            ("name", text(settings_table::display_name(definition.name))),
            ("setting", text(&value)),
            ("unit", optional_text(unit)),
            ("context", text(context)),
            ("vartype", text(kind)),
            ("source", text(if changed { "session" } else { "default" })),
            ("enumvals", values),
            ("boot_val", text(definition.default)),
            ("reset_val", text(definition.default)),
            ("pending_restart", bool(false)),
        ])?;
    }
    out.rows.sort_by(|a, b| a[0].compare(&b[0]));
    Ok(out.rows)
}

/// The sessions of this node.
pub fn pg_stat_activity(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_stat_activity")?;
    let database = database(ctx);
    let user = ctx
        .catalog
        .role_by_name(&ctx.settings.user)
        .map_or(Datum::Null, |role| oid(role.oid));
    out.push(&[
        ("datid", oid(database)),
        ("datname", text(&ctx.settings.database)),
        ("pid", Datum::Int4(ctx.settings.backend_pid)),
        ("usesysid", user),
        ("usename", text(&ctx.settings.user)),
        ("application_name", text(&ctx.settings.application_name)),
        (
            "xact_start",
            Datum::TimestampTz(ctx.settings.transaction_micros),
        ),
        (
            "query_start",
            Datum::TimestampTz(ctx.settings.statement_micros),
        ),
        ("state", text("active")),
        ("backend_type", text("client backend")),
    ])?;
    Ok(out.rows)
}

pub fn pg_tables(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_tables")?;
    for table in ctx.catalog.tables(database(ctx)) {
        out.push(&[
            ("schemaname", text(&schema_name(&ctx.catalog, table.schema))),
            ("tablename", text(&table.name)),
            ("tableowner", role_name(&ctx.catalog, table.owner)),
            ("hasindexes", bool(!indexes(table).is_empty())),
            ("hasrules", bool(false)),
            ("hastriggers", bool(!table.foreign_keys.is_empty())),
            ("rowsecurity", bool(false)),
        ])?;
    }
    for definition in definitions().iter().filter(|found| found.kind == 'r') {
        out.push(&[
            ("schemaname", text(definition.schema)),
            ("tablename", text(definition.name)),
            ("tableowner", role_name(&ctx.catalog, BOOTSTRAP_ROLE_OID)),
            ("hasindexes", bool(false)),
            ("hasrules", bool(false)),
            ("hastriggers", bool(false)),
            ("rowsecurity", bool(false)),
        ])?;
    }
    Ok(out.rows)
}

pub fn pg_indexes(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_indexes")?;
    for table in ctx.catalog.tables(database(ctx)) {
        for index in indexes(table) {
            let definition = deparse::index_definition(&ctx.catalog, table, index.oid);
            out.push(&[
                ("schemaname", text(&schema_name(&ctx.catalog, table.schema))),
                ("tablename", text(&table.name)),
                ("indexname", text(index.name)),
                ("indexdef", optional_text(definition.as_deref())),
            ])?;
        }
    }
    Ok(out.rows)
}

pub fn pg_views(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_views")?;
    for view in ctx.catalog.views(database(ctx)) {
        out.push(&[
            ("schemaname", text(&schema_name(&ctx.catalog, view.schema))),
            ("viewname", text(&view.name)),
            ("viewowner", role_name(&ctx.catalog, view.owner)),
            ("definition", text(&format!(" {};", view.query))),
        ])?;
    }
    Ok(out.rows)
}

pub fn pg_sequences(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_sequences")?;
    for sequence in ctx.catalog.sequences(database(ctx)) {
        let last = match ctx.effects.sequence_state(sequence.oid) {
            Some((last, true)) => Datum::Int8(last),
            _ => Datum::Null,
        };
        out.push(&[
            (
                "schemaname",
                text(&schema_name(&ctx.catalog, sequence.schema)),
            ),
            ("sequencename", text(&sequence.name)),
            ("sequenceowner", role_name(&ctx.catalog, sequence.owner)),
            ("data_type", oid(sequence.sql_type.oid())),
            ("start_value", Datum::Int8(sequence.start)),
            ("min_value", Datum::Int8(sequence.min)),
            ("max_value", Datum::Int8(sequence.max)),
            ("increment_by", Datum::Int8(sequence.increment)),
            ("cycle", bool(sequence.cycle)),
            ("cache_size", Datum::Int8(sequence.cache)),
            ("last_value", last),
        ])?;
    }
    Ok(out.rows)
}

fn table_statistics(ctx: &StatementContext, name: &str) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", name)?;
    for table in ctx.catalog.tables(database(ctx)) {
        out.push(&[
            ("relid", oid(table.oid)),
            ("schemaname", text(&schema_name(&ctx.catalog, table.schema))),
            ("relname", text(&table.name)),
        ])?;
    }
    Ok(out.rows)
}

/// Tables by name; what happens to their rows is not counted yet.
pub fn pg_stat_user_tables(ctx: &StatementContext) -> Result<Vec<Row>> {
    table_statistics(ctx, "pg_stat_user_tables")
}

pub fn pg_stat_all_tables(ctx: &StatementContext) -> Result<Vec<Row>> {
    table_statistics(ctx, "pg_stat_all_tables")
}

pub fn pg_timezone_names(_: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_timezone_names")?;
    for zone in chrono_tz::TZ_VARIANTS {
        out.push(&[("name", text(zone.name()))])?;
    }
    Ok(out.rows)
}
