//! What an object was made with, as SQL text.

use super::session::search_path;
use super::*;

pub(super) fn definitions(to: &mut Register<'_>) {
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
pub(super) fn format_type(oid: u32, modifier: Option<i32>) -> String {
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
    let all = crate::pg_catalog::indexes::indexes(table);
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
