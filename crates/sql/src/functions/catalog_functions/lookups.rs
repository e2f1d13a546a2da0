//! From names to object ids.

use super::session::search_path;
use super::*;

pub(super) fn lookups(to: &mut Register<'_>) {
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
