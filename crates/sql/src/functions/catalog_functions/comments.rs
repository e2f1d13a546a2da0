//! COMMENT ON, read back.

use super::*;

pub(super) fn comments(to: &mut Register<'_>) {
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
