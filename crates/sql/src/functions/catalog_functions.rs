//! Functions over the catalog and the session (PostgreSQL manual, section 9.26): what `psql`, drivers
//! and ORMs call in their catalog queries.
//!
//! Sizes of relations are not known to a node's SQL layer yet: those functions return NULL.

use super::{ArgType, Evaluate, Registry, ReturnType, ScalarFunction, Volatility};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use crate::context::StatementContext;
use crate::ddl::quote_ident;
use crate::pg_catalog::definitions::{definition, definition_by_oid};
use crate::pg_catalog::relations::{PG_AUTHID, PG_CLASS, PG_DATABASE, PG_NAMESPACE, database};
use crate::pg_catalog::value::{array, optional_text, text};
use crate::pg_catalog::{deparse, names};
use types::{Datum, Error, Numeric, Result, SqlState, SqlType};

/// What `version()` says: the PostgreSQL release whose behaviour is followed, and the product's own.
pub const VERSION_TEXT: &str = concat!(
    "PostgreSQL 15.0 (PhantomDB ",
    env!("CARGO_PKG_VERSION"),
    ") on ",
    "rust",
    ", 64-bit"
);

/// Attributes of a relation that can be written to by UPDATE, INSERT and DELETE, as bits.
const UPDATABLE_EVENTS: i32 = (1 << 2) | (1 << 3) | (1 << 4);

use SqlType::{Bool, Int2, Int4, Int8, Name, Oid, Regclass, Text};

/// Puts the functions into the registry. Those that another module has already are left alone, so this
/// one comes last.
pub fn register(registry: &mut Registry) {
    let mut to = Register {
        registry,
        general: Vec::new(),
    };
    session(&mut to);
    visibility(&mut to);
    definitions(&mut to);
    comments(&mut to);
    sizes(&mut to);
    privileges(&mut to);
    lookups(&mut to);
    absent(&mut to);
}

struct Register<'a> {
    registry: &'a mut Registry,
    /// Names that this module may give overloads to.
    general: Vec<&'static str>,
}

impl Register<'_> {
    fn add(
        &mut self,
        name: &'static str,
        arguments: &[SqlType],
        returns: SqlType,
        evaluate: Evaluate,
    ) {
        self.add_with(name, arguments, returns, Volatility::Stable, evaluate);
    }

    fn immutable(
        &mut self,
        name: &'static str,
        arguments: &[SqlType],
        returns: SqlType,
        evaluate: Evaluate,
    ) {
        self.add_with(name, arguments, returns, Volatility::Immutable, evaluate);
    }

    fn add_with(
        &mut self,
        name: &'static str,
        arguments: &[SqlType],
        returns: SqlType,
        volatility: Volatility,
        evaluate: Evaluate,
    ) {
        if !self.general.contains(&name) {
            if !self.registry.overloads(name).is_empty() {
                return;
            }
            self.general.push(name);
        }
        self.registry.add(ScalarFunction {
            name,
            arguments: arguments.iter().cloned().map(ArgType::Exact).collect(),
            variadic: false,
            returns: ReturnType::Exact(returns),
            volatility,
            // All but format_type, which reads a NULL modifier as none.
            strict: name != "format_type",
            evaluate,
            kernel: None,
        });
    }
}

fn bad_call(name: &str) -> Error {
    Error::internal(format!("{name} was called with other types than declared"))
}

fn oid_at(args: &[Datum], at: usize) -> Result<u32> {
    match args.get(at) {
        Some(Datum::Oid(oid)) => Ok(*oid),
        _ => Err(bad_call("a catalog function")),
    }
}

fn text_at(args: &[Datum], at: usize) -> Result<&str> {
    match args.get(at) {
        Some(Datum::Text(value)) => Ok(value),
        _ => Err(bad_call("a catalog function")),
    }
}

fn int4_at(args: &[Datum], at: usize) -> Result<i32> {
    match args.get(at) {
        Some(Datum::Int4(value)) => Ok(*value),
        Some(Datum::Int2(value)) => Ok(i32::from(*value)),
        _ => Err(bad_call("a catalog function")),
    }
}

// ---- session ------------------------------------------------------------------------------------

fn session(to: &mut Register<'_>) {
    to.add("version", &[], Text, |_, _| Ok(text(VERSION_TEXT)));
    for name in ["current_database", "current_catalog"] {
        to.add(name, &[], Name, |ctx, _| Ok(text(&ctx.settings.database)));
    }
    for name in ["current_user", "current_role", "user"] {
        to.add(name, &[], Name, |ctx, _| Ok(text(&ctx.settings.user)));
    }
    to.add("session_user", &[], Name, |ctx, _| {
        Ok(text(&ctx.settings.session_user))
    });
    to.add("current_schema", &[], Name, |ctx, _| {
        Ok(optional_text(search_path(ctx).first().map(|s| s.as_str())))
    });
    to.add(
        "current_schemas",
        &[Bool],
        SqlType::array_of(Name),
        |ctx, args| {
            let mut out = Vec::new();
            if args.first() == Some(&Datum::Bool(true)) {
                out.push(text("pg_catalog"));
            }
            out.extend(search_path(ctx).iter().map(|schema| text(schema)));
            Ok(array(Name, out))
        },
    );
    to.add("pg_backend_pid", &[], Int4, |ctx, _| {
        Ok(Datum::Int4(ctx.settings.backend_pid))
    });
    to.add("pg_is_in_recovery", &[], Bool, |_, _| {
        Ok(Datum::Bool(false))
    });
    to.add("pg_is_wal_replay_paused", &[], Bool, |_, _| {
        Ok(Datum::Bool(false))
    });
    to.add("pg_my_temp_schema", &[], Oid, |_, _| Ok(Datum::Oid(0)));
    to.add("pg_is_other_temp_schema", &[Oid], Bool, |_, _| {
        Ok(Datum::Bool(false))
    });
    to.add("pg_client_encoding", &[], Name, |_, _| Ok(text("UTF8")));
    to.add("getdatabaseencoding", &[], Name, |_, _| Ok(text("UTF8")));
    to.immutable("pg_encoding_to_char", &[Int4], Name, |_, args| {
        Ok(text(match int4_at(args, 0)? {
            0 => "SQL_ASCII",
            6 => "UTF8",
            8 => "LATIN1",
            _ => "",
        }))
    });
    to.immutable("pg_char_to_encoding", &[Name], Int4, |_, args| {
        let name = text_at(args, 0)?
            .to_ascii_lowercase()
            .replace(['-', '_'], "");
        Ok(Datum::Int4(match name.as_str() {
            "sqlascii" => 0,
            "utf8" | "unicode" => 6,
            "latin1" | "iso88591" => 8,
            _ => -1,
        }))
    });
}

/// The schemas of the search path that exist.
fn search_path(ctx: &StatementContext) -> Vec<String> {
    let database = database(ctx);
    ctx.settings
        .search_path
        .iter()
        .map(|name| match name.as_str() {
            "$user" => ctx.settings.user.to_string(),
            other => other.to_string(),
        })
        .filter(|name| {
            matches!(name.as_str(), "pg_catalog" | "information_schema")
                || ctx.catalog.schema_by_name(database, name).is_some()
        })
        .collect()
}

// ---- visibility ---------------------------------------------------------------------------------

fn visibility(to: &mut Register<'_>) {
    to.add("pg_table_is_visible", &[Oid], Bool, |ctx, args| {
        relation_is_visible(ctx, oid_at(args, 0)?)
    });
    to.add("pg_type_is_visible", &[Oid], Bool, |_, args| {
        Ok(Datum::Bool(SqlType::from_oid(oid_at(args, 0)?).is_some()))
    });
    // What these are about is all in pg_catalog.
    for name in [
        "pg_function_is_visible",
        "pg_operator_is_visible",
        "pg_opclass_is_visible",
        "pg_opfamily_is_visible",
        "pg_collation_is_visible",
        "pg_conversion_is_visible",
        "pg_statistics_obj_is_visible",
        "pg_ts_config_is_visible",
        "pg_ts_dict_is_visible",
        "pg_ts_parser_is_visible",
        "pg_ts_template_is_visible",
    ] {
        to.add(name, &[Oid], Bool, |_, _| Ok(Datum::Bool(true)));
    }
}

fn relation_is_visible(ctx: &StatementContext, oid: u32) -> Result<Datum> {
    if let Some(built_in) = definition_by_oid(oid) {
        let visible = built_in.schema == "pg_catalog"
            || ctx
                .settings
                .search_path
                .iter()
                .any(|s| s == built_in.schema);
        return Ok(Datum::Bool(visible));
    }
    let Some((database, _, name)) = relation_place(ctx, oid) else {
        return Ok(Datum::Null);
    };
    let found = ctx
        .catalog
        .resolve(database, &search_path(ctx), None, &name);
    Ok(Datum::Bool(found.is_some_and(|found| found.oid() == oid)))
}

/// Database, schema and name of a relation.
fn relation_place(ctx: &StatementContext, oid: u32) -> Option<(ObjectId, ObjectId, String)> {
    Some(match ctx.catalog.relation(oid)? {
        Relation::Table(table) => (table.database, table.schema, table.name.clone()),
        Relation::View(view) => (view.database, view.schema, view.name.clone()),
        Relation::Sequence(found) => (found.database, found.schema, found.name.clone()),
        Relation::Index(table, oid) => {
            let mut all = crate::catalog::table_index_names(&table);
            let name = all.find(|(_, index)| *index == oid)?.0.to_string();
            (table.database, table.schema, name)
        }
    })
}

// ---- definitions --------------------------------------------------------------------------------

fn definitions(to: &mut Register<'_>) {
    to.add("format_type", &[Oid, Int4], Text, |_, args| {
        let Some(Datum::Oid(oid)) = args.first() else {
            return Ok(Datum::Null);
        };
        let modifier = match args.get(1) {
            Some(Datum::Int4(modifier)) => Some(*modifier),
            _ => None,
        };
        Ok(text(&format_type(*oid, modifier)))
    });
    // The stored text of an expression is shown as it is.
    to.add("pg_get_expr", &[Text, Oid], Text, |_, args| {
        Ok(args[0].clone())
    });
    to.add("pg_get_expr", &[Text, Oid, Bool], Text, |_, args| {
        Ok(args[0].clone())
    });
    to.add("pg_get_constraintdef", &[Oid], Text, constraint_definition);
    to.add(
        "pg_get_constraintdef",
        &[Oid, Bool],
        Text,
        constraint_definition,
    );
    to.add("pg_get_indexdef", &[Oid], Text, index_definition);
    to.add(
        "pg_get_indexdef",
        &[Oid, Int4, Bool],
        Text,
        index_definition,
    );
    to.add("pg_get_viewdef", &[Oid], Text, view_definition);
    to.add("pg_get_viewdef", &[Oid, Bool], Text, view_definition);
    to.add("pg_get_viewdef", &[Oid, Int4], Text, view_definition);
    to.add("pg_get_userbyid", &[Oid], Name, |ctx, args| {
        let oid = oid_at(args, 0)?;
        Ok(match ctx.catalog.role(oid) {
            Some(role) => text(&role.name),
            None => text(&format!("unknown (OID={oid})")),
        })
    });
    to.add(
        "pg_get_serial_sequence",
        &[Text, Text],
        Text,
        serial_sequence,
    );
    to.add(
        "pg_relation_is_publishable",
        &[Regclass],
        Bool,
        |ctx, args| {
            let table = ctx.catalog.table(oid_at(args, 0)?);
            Ok(Datum::Bool(table.is_some()))
        },
    );
    to.add(
        "pg_relation_is_updatable",
        &[Regclass, Bool],
        Int4,
        |ctx, args| {
            let table = ctx.catalog.table(oid_at(args, 0)?);
            Ok(Datum::Int4(table.map_or(0, |_| UPDATABLE_EVENTS)))
        },
    );
    to.add(
        "pg_column_is_updatable",
        &[Regclass, Int2, Bool],
        Bool,
        |ctx, args| {
            let table = ctx.catalog.table(oid_at(args, 0)?);
            Ok(Datum::Bool(table.is_some()))
        },
    );
    to.immutable("quote_ident", &[Text], Text, |_, args| {
        Ok(text(&quote_ident(text_at(args, 0)?)))
    });
}

/// The type's SQL name: with its modifier, or, without one, as in error messages.
fn format_type(oid: u32, modifier: Option<i32>) -> String {
    if oid == 0 {
        return "-".into();
    }
    let found = SqlType::from_oid_typmod(oid, modifier.unwrap_or(-1));
    match found {
        Some(found) if modifier.is_none() => found.bare_name(),
        Some(found) => found.name(),
        None => {
            let pseudo = match oid {
                2276 => "\"any\"",
                2277 => "anyarray",
                2283 => "anyelement",
                2776 => "anynonarray",
                3500 => "anyenum",
                3831 => "anyrange",
                2275 => "cstring",
                2281 => "internal",
                2279 => "trigger",
                28 => "xid",
                29 => "cid",
                27 => "tid",
                194 => "pg_node_tree",
                1033 => "aclitem",
                1034 => "aclitem[]",
                1263 => "cstring[]",
                _ => "???",
            };
            pseudo.into()
        }
    }
}

fn constraint_definition(ctx: &StatementContext, args: &[Datum]) -> Result<Datum> {
    let oid = oid_at(args, 0)?;
    let shown = deparse::table_of_constraint(&ctx.catalog, database(ctx), oid)
        .and_then(|t| deparse::constraint_definition(&ctx.catalog, &ctx.settings, t, oid));
    Ok(optional_text(shown.as_deref()))
}

fn index_definition(ctx: &StatementContext, args: &[Datum]) -> Result<Datum> {
    let oid = oid_at(args, 0)?;
    let Some(table) = ctx.catalog.table_of_index(oid) else {
        return Ok(Datum::Null);
    };
    let number = match args.get(1) {
        Some(_) => int4_at(args, 1)?,
        None => 0,
    };
    if number == 0 {
        let shown = deparse::index_definition(&ctx.catalog, table, oid);
        return Ok(optional_text(shown.as_deref()));
    }
    let all = crate::pg_catalog::relations::indexes(table);
    let shown = all.iter().find(|index| index.oid == oid).and_then(|index| {
        let at = usize::try_from(number - 1).ok()?;
        Some(deparse::index_column(table, index.columns.get(at)?))
    });
    Ok(text(&shown.unwrap_or_default()))
}

fn view_definition(ctx: &StatementContext, args: &[Datum]) -> Result<Datum> {
    let view = ctx.catalog.view(oid_at(args, 0)?);
    Ok(match view {
        Some(view) => text(&format!(" {};", view.query)),
        None => Datum::Null,
    })
}

/// `pg_get_serial_sequence(table, column)`: the first is read as SQL, the second as it is.
fn serial_sequence(ctx: &StatementContext, args: &[Datum]) -> Result<Datum> {
    let (schema, name) = names::split_qualified(text_at(args, 0)?)?;
    let column = text_at(args, 1)?;
    let found = ctx
        .catalog
        .require(database(ctx), &search_path(ctx), schema.as_deref(), &name)?;
    let Relation::Table(table) = found else {
        return Ok(Datum::Null);
    };
    let position = table.column_position(column).ok_or_else(|| {
        Error::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{column}\" of relation \"{name}\" does not exist"),
        )
    })?;
    let owned = table.columns[position].owned_sequence.or_else(|| {
        let mut all = ctx.catalog.sequences(table.database);
        all.find(|sequence| sequence.owned_by == Some((table.oid, position)))
            .map(|sequence| sequence.oid)
    });
    let Some(sequence) = owned.and_then(|oid| ctx.catalog.sequence(oid)) else {
        return Ok(Datum::Null);
    };
    let schema = crate::pg_catalog::relations::schema_name(&ctx.catalog, sequence.schema);
    Ok(text(&format!(
        "{}.{}",
        quote_ident(&schema),
        quote_ident(&sequence.name)
    )))
}

// ---- comments -----------------------------------------------------------------------------------

fn comments(to: &mut Register<'_>) {
    to.add("obj_description", &[Oid, Name], Text, |ctx, args| {
        let class = match text_at(args, 1)? {
            "pg_class" => PG_CLASS,
            "pg_namespace" => PG_NAMESPACE,
            _ => return Ok(Datum::Null),
        };
        Ok(comment_of(ctx, oid_at(args, 0)?, class))
    });
    to.add("obj_description", &[Oid], Text, |ctx, args| {
        let oid = oid_at(args, 0)?;
        Ok(match comment_of(ctx, oid, PG_CLASS) {
            Datum::Null => comment_of(ctx, oid, PG_NAMESPACE),
            found => found,
        })
    });
    to.add("col_description", &[Oid, Int4], Text, |ctx, args| {
        let Some(table) = ctx.catalog.table(oid_at(args, 0)?) else {
            return Ok(Datum::Null);
        };
        let column = usize::try_from(int4_at(args, 1)? - 1)
            .ok()
            .and_then(|position| table.columns.get(position));
        Ok(optional_text(
            column.and_then(|column| column.comment.as_deref()),
        ))
    });
    to.add("shobj_description", &[Oid, Name], Text, |ctx, args| {
        let oid = oid_at(args, 0)?;
        let class = match text_at(args, 1)? {
            "pg_database" => PG_DATABASE,
            "pg_authid" => PG_AUTHID,
            _ => return Ok(Datum::Null),
        };
        Ok(comment_of(ctx, oid, class))
    });
}

fn comment_of(ctx: &StatementContext, oid: u32, class: u32) -> Datum {
    let catalog = &ctx.catalog;
    let found = match class {
        PG_NAMESPACE if oid == PG_CATALOG_OID => Some("system catalog schema"),
        PG_NAMESPACE => catalog.schema(oid).and_then(|s| s.comment.as_deref()),
        PG_DATABASE => catalog.database(oid).and_then(|d| d.comment.as_deref()),
        PG_AUTHID => catalog.role(oid).and_then(|r| r.comment.as_deref()),
        _ => {
            return match catalog.relation(oid) {
                Some(Relation::Table(table)) => optional_text(table.comment.as_deref()),
                Some(Relation::View(view)) => optional_text(view.comment.as_deref()),
                Some(Relation::Sequence(found)) => optional_text(found.comment.as_deref()),
                Some(Relation::Index(table, oid)) => {
                    let index = table.indexes.iter().find(|index| index.oid == oid);
                    optional_text(index.and_then(|index| index.comment.as_deref()))
                }
                None => Datum::Null,
            };
        }
    };
    optional_text(found)
}

// ---- sizes --------------------------------------------------------------------------------------

fn sizes(to: &mut Register<'_>) {
    for name in [
        "pg_relation_size",
        "pg_total_relation_size",
        "pg_table_size",
        "pg_indexes_size",
    ] {
        to.add(name, &[Regclass], Int8, |_, _| Ok(Datum::Null));
    }
    to.add("pg_relation_size", &[Regclass, Text], Int8, |_, _| {
        Ok(Datum::Null)
    });
    for name in ["pg_database_size", "pg_tablespace_size"] {
        to.add(name, &[Name], Int8, |_, _| Ok(Datum::Null));
        to.add(name, &[Oid], Int8, |_, _| Ok(Datum::Null));
    }
    to.immutable("pg_size_pretty", &[Int8], Text, |_, args| match &args[0] {
        Datum::Int8(bytes) => Ok(text(&size_pretty(*bytes))),
        _ => Err(bad_call("pg_size_pretty")),
    });
    to.immutable(
        "pg_size_pretty",
        &[SqlType::Numeric(None)],
        Text,
        |_, args| match &args[0] {
            Datum::Numeric(bytes) => {
                let bytes = Numeric::to_i64(&bytes.trunc(0)).ok_or_else(|| {
                    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range")
                })?;
                Ok(text(&size_pretty(bytes)))
            }
            _ => Err(bad_call("pg_size_pretty")),
        },
    );
}

/// Units grow by 1024 once ten of them are there; halves round up (PostgreSQL's rule).
fn size_pretty(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let limit: u64 = 10 * 1024;
    let negative = bytes < 0;
    let mut size = bytes.unsigned_abs();
    let sign = if negative { "-" } else { "" };
    if size < limit {
        return format!("{sign}{size} bytes");
    }
    // One bit more than the unit, so that the last step can round.
    size >>= 9;
    for (at, unit) in UNITS.iter().enumerate().skip(1) {
        if size < 2 * limit - 1 || at + 1 == UNITS.len() {
            return format!("{sign}{} {unit}", size.div_ceil(2));
        }
        size >>= 10;
    }
    format!("{sign}{size}")
}

// ---- privileges ---------------------------------------------------------------------------------

/// Privileges are not enforced, so everybody has them: the answer is `true` for what exists.
fn privileges(to: &mut Register<'_>) {
    let by_name: Evaluate = |ctx, args| {
        let (schema, name) = names::split_qualified(text_at(args, args.len() - 2)?)?;
        let built_in = definition(schema.as_deref().unwrap_or("pg_catalog"), &name).is_some();
        if !built_in {
            let path = search_path(ctx);
            ctx.catalog
                .require(database(ctx), &path, schema.as_deref(), &name)?;
        }
        Ok(Datum::Bool(true))
    };
    let by_oid: Evaluate = |ctx, args| {
        let oid = oid_at(args, args.len() - 2)?;
        let found = ctx.catalog.relation(oid).is_some() || definition_by_oid(oid).is_some();
        Ok(if found {
            Datum::Bool(true)
        } else {
            Datum::Null
        })
    };
    for name in [
        "has_table_privilege",
        "has_sequence_privilege",
        "has_any_column_privilege",
    ] {
        to.add(name, &[Text, Text], Bool, by_name);
        to.add(name, &[Oid, Text], Bool, by_oid);
        to.add(name, &[Name, Text, Text], Bool, by_name);
        to.add(name, &[Name, Oid, Text], Bool, by_oid);
        to.add(name, &[Oid, Text, Text], Bool, by_name);
        to.add(name, &[Oid, Oid, Text], Bool, by_oid);
    }
    let granted: Evaluate = |_, _| Ok(Datum::Bool(true));
    for name in [
        "has_schema_privilege",
        "has_database_privilege",
        "has_function_privilege",
        "has_language_privilege",
        "has_tablespace_privilege",
        "has_type_privilege",
        "has_foreign_data_wrapper_privilege",
        "has_server_privilege",
    ] {
        to.add(name, &[Text, Text], Bool, granted);
        to.add(name, &[Oid, Text], Bool, granted);
        to.add(name, &[Name, Text, Text], Bool, granted);
        to.add(name, &[Name, Oid, Text], Bool, granted);
        to.add(name, &[Oid, Text, Text], Bool, granted);
        to.add(name, &[Oid, Oid, Text], Bool, granted);
    }
    to.add("has_column_privilege", &[Text, Text, Text], Bool, granted);
    to.add("has_column_privilege", &[Oid, Text, Text], Bool, granted);
    to.add("has_column_privilege", &[Oid, Int2, Text], Bool, granted);
    // There is no membership: a role has its own and the superuser every other's.
    let has_role: Evaluate = |ctx, args| {
        let is_superuser = |name: &str| {
            ctx.catalog
                .role_by_name(name)
                .is_some_and(|role| role.superuser)
        };
        let role = match &args[args.len() - 2] {
            Datum::Text(name) => name.to_string(),
            Datum::Oid(oid) => match ctx.catalog.role(*oid) {
                Some(role) => role.name.clone(),
                None => return Ok(Datum::Null),
            },
            _ => return Err(bad_call("pg_has_role")),
        };
        let user = match args {
            [Datum::Text(user), _, _] => user.to_string(),
            [Datum::Oid(oid), _, _] => match ctx.catalog.role(*oid) {
                Some(role) => role.name.clone(),
                None => return Ok(Datum::Null),
            },
            _ => ctx.settings.user.to_string(),
        };
        Ok(Datum::Bool(user == role || is_superuser(&user)))
    };
    to.add("pg_has_role", &[Name, Text], Bool, has_role);
    to.add("pg_has_role", &[Oid, Text], Bool, has_role);
    to.add("pg_has_role", &[Name, Name, Text], Bool, has_role);
    to.add("pg_has_role", &[Name, Oid, Text], Bool, has_role);
    to.add("pg_has_role", &[Oid, Oid, Text], Bool, has_role);
    to.add("row_security_active", &[Oid], Bool, |_, _| {
        Ok(Datum::Bool(false))
    });
}

// ---- names to objects -----------------------------------------------------------------------------

fn lookups(to: &mut Register<'_>) {
    to.add("to_regclass", &[Text], Regclass, |ctx, args| {
        let (schema, name) = names::split_qualified(text_at(args, 0)?)?;
        let found = ctx
            .catalog
            .resolve(database(ctx), &search_path(ctx), schema.as_deref(), &name)
            .map(|found| found.oid())
            .or_else(|| {
                let schema = schema.as_deref().unwrap_or("pg_catalog");
                definition(schema, &name).map(|found| found.oid)
            });
        Ok(found.map_or(Datum::Null, Datum::Oid))
    });
    to.add("to_regtype", &[Text], SqlType::Regtype, |_, args| {
        let found = SqlType::parse(text_at(args, 0)?);
        Ok(found.map_or(Datum::Null, |found| Datum::Oid(found.oid())))
    });
    to.add(
        "to_regnamespace",
        &[Text],
        SqlType::Regnamespace,
        |ctx, args| {
            let (_, name) = names::split_qualified(text_at(args, 0)?)?;
            let found = match name.as_str() {
                "pg_catalog" => Some(PG_CATALOG_OID),
                "information_schema" => Some(INFORMATION_SCHEMA_OID),
                name => ctx
                    .catalog
                    .schema_by_name(database(ctx), name)
                    .map(|schema| schema.oid),
            };
            Ok(found.map_or(Datum::Null, Datum::Oid))
        },
    );
    to.add("to_regrole", &[Text], SqlType::Regrole, |ctx, args| {
        let (_, name) = names::split_qualified(text_at(args, 0)?)?;
        let found = ctx.catalog.role_by_name(&name);
        Ok(found.map_or(Datum::Null, |role| Datum::Oid(role.oid)))
    });
}

// ---- about what there is none of ------------------------------------------------------------------

/// Functions about kinds of objects that do not exist here: their answer is NULL.
fn absent(to: &mut Register<'_>) {
    let null: Evaluate = |_, _| Ok(Datum::Null);
    for name in [
        "pg_get_partkeydef",
        "pg_get_statisticsobjdef",
        "pg_get_statisticsobjdef_columns",
        "pg_get_functiondef",
        "pg_get_function_arguments",
        "pg_get_function_identity_arguments",
        "pg_get_function_result",
        "pg_get_function_sqlbody",
        "pg_get_triggerdef",
        "pg_get_ruledef",
        "pg_tablespace_location",
        "pg_relation_filepath",
    ] {
        to.add(name, &[Oid], Text, null);
    }
    to.add("pg_get_triggerdef", &[Oid, Bool], Text, null);
    to.add("pg_get_ruledef", &[Oid, Bool], Text, null);
    to.add("pg_partition_root", &[Regclass], Regclass, null);
    to.add("pg_get_replica_identity_index", &[Regclass], Regclass, null);
    for name in ["inet_server_addr", "inet_client_addr"] {
        to.add(name, &[], Text, null);
    }
    for name in ["inet_server_port", "inet_client_port"] {
        to.add(name, &[], Int4, null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_pretty() {
        for (bytes, shown) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (10_485_247, "10239 kB"),
            (10_485_248, "10 MB"),
            (-20_480, "-20 kB"),
            (1 << 40, "1024 GB"),
        ] {
            assert_eq!(size_pretty(bytes), shown, "{bytes}");
        }
    }

    #[test]
    fn types_are_formatted() {
        assert_eq!(format_type(23, Some(-1)), "integer");
        assert_eq!(format_type(1043, Some(14)), "character varying(10)");
        assert_eq!(format_type(1043, None), "character varying");
        assert_eq!(format_type(1042, None), "character");
        assert_eq!(format_type(1007, Some(-1)), "integer[]");
        assert_eq!(format_type(0, None), "-");
        assert_eq!(format_type(99_999, None), "???");
    }

    #[test]
    fn all_functions_are_there() {
        let mut registry = Registry::default();
        register(&mut registry);
        let names: Vec<&str> = registry.names().collect();
        for name in [
            "version",
            "format_type",
            "pg_table_is_visible",
            "has_table_privilege",
        ] {
            assert!(names.contains(&name), "{name}");
        }
    }
}
