//! Who may do what.

use super::session::search_path;
use super::*;

/// Privileges are not enforced, so everybody has them: the answer is `true` for what exists.
pub(super) fn privileges(to: &mut Register<'_>) {
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
