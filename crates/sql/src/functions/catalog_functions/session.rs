//! The session: version, database, role, settings, backend.

use super::*;

pub(super) fn session(to: &mut Register<'_>) {
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
pub(super) fn search_path(ctx: &StatementContext) -> Vec<String> {
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
