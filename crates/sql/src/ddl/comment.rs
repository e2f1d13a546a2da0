//! COMMENT ON.

use super::context::{DdlContext, wrong_kind};
use super::names::{no_column, object_name, simple_name};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use sqlparser::ast::{CommentObject, ObjectName};
use types::{Error, Result};

pub(super) async fn comment_on(
    d: &mut DdlContext<'_>,
    kind: &CommentObject,
    name: &ObjectName,
    comment: Option<&str>,
) -> Result<&'static str> {
    let comment = comment
        .filter(|text| !text.is_empty())
        .map(ToString::to_string);
    match kind {
        CommentObject::Table => {
            let (schema, name) = object_name(d, name)?;
            let Relation::Table(table) = d.require(schema.as_deref(), &name)? else {
                return Err(wrong_kind(&name, "a table"));
            };
            let mut changed = (*d.lock_table(table.oid).await?).clone();
            changed.comment = comment;
            d.put_table(changed)?;
        }
        CommentObject::Column => comment_on_column(d, name, comment).await?,
        CommentObject::View => {
            let (schema, name) = object_name(d, name)?;
            let Relation::View(view) = d.require(schema.as_deref(), &name)? else {
                return Err(wrong_kind(&name, "a view"));
            };
            let mut changed = (*d.lock_view(view.oid).await?).clone();
            changed.comment = comment;
            d.put(Descriptor::View(changed))?;
        }
        CommentObject::Sequence => {
            let (schema, name) = object_name(d, name)?;
            let Relation::Sequence(sequence) = d.require(schema.as_deref(), &name)? else {
                return Err(wrong_kind(&name, "a sequence"));
            };
            let mut changed = (*d.lock_sequence(sequence.oid).await?).clone();
            changed.comment = comment;
            d.put(Descriptor::Sequence(changed))?;
        }
        CommentObject::Index => {
            let (schema, name) = object_name(d, name)?;
            let Relation::Index(table, oid) = d.require(schema.as_deref(), &name)? else {
                return Err(wrong_kind(&name, "an index"));
            };
            let mut changed = (*d.lock_table(table.oid).await?).clone();
            match changed.indexes.iter_mut().find(|index| index.oid == oid) {
                Some(index) => index.comment = comment,
                None => return Err(Error::unsupported("COMMENT ON a primary key's index")),
            }
            d.put_table(changed)?;
        }
        CommentObject::Schema => {
            let schema = d.require_schema(&simple_name(name)?)?;
            let mut changed = (*d.lock_schema(schema.oid).await?).clone();
            changed.comment = comment;
            d.put(Descriptor::Schema(changed))?;
        }
        CommentObject::Database => {
            let name = simple_name(name)?;
            let found = d.catalog.database_by_name(&name).map(|found| found.oid);
            let oid = found.ok_or_else(|| super::namespace::database_missing(&name))?;
            let mut changed = (*d.lock_database(oid).await?).clone();
            changed.comment = comment;
            d.put(Descriptor::Database(changed))?;
        }
        CommentObject::Role | CommentObject::User => {
            let oid = d.require_role(&simple_name(name)?)?;
            let mut changed = (*d.lock_role(oid).await?).clone();
            changed.comment = comment;
            d.put(Descriptor::Role(changed))?;
        }
        // pg_dump comments on the extension that every database has.
        CommentObject::Extension => {}
        other => return Err(Error::unsupported(format!("COMMENT ON {other}"))),
    }
    Ok("COMMENT")
}

async fn comment_on_column(
    d: &mut DdlContext<'_>,
    name: &ObjectName,
    comment: Option<String>,
) -> Result<()> {
    let mut parts = name.0.clone();
    let Some(column) = parts.pop().filter(|_| !parts.is_empty()) else {
        return Err(Error::syntax("column name must be qualified"));
    };
    let column = simple_name(&ObjectName(vec![column]))?;
    let (schema, name) = object_name(d, &ObjectName(parts))?;
    match d.require(schema.as_deref(), &name)? {
        Relation::Table(table) => {
            let mut changed = (*d.lock_table(table.oid).await?).clone();
            let position = changed
                .column_position(&column)
                .ok_or_else(|| no_column(&name, &column))?;
            changed.columns[position].comment = comment;
            d.put_table(changed)?;
            Ok(())
        }
        Relation::View(_) => Err(Error::unsupported("COMMENT ON a view's column")),
        _ => Err(wrong_kind(&name, "a table or view")),
    }
}
