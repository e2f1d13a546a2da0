//! Whether a name without schema finds an object.

use super::session::search_path;
use super::*;

pub(super) fn visibility(to: &mut Register<'_>) {
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
pub(super) fn relation_place(
    ctx: &StatementContext,
    oid: u32,
) -> Option<(ObjectId, ObjectId, String)> {
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
