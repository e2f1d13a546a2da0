//! `ALTER TABLE | VIEW … SET SCHEMA`.

use super::alter_sequence::move_name;
use super::context::{DdlContext, wrong_kind};
use super::names::object_name;
use super::rename::refuse_viewed;
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use sqlparser::ast::ObjectName;
use std::sync::Arc;
use types::Result;

/// `ALTER TABLE … SET SCHEMA`, with the table's indexes and owned sequences.
pub(super) async fn set_schema(
    d: &mut DdlContext<'_>,
    name: &ObjectName,
    if_exists: bool,
    schema: &str,
) -> Result<&'static str> {
    let (old_schema, name) = object_name(d, name)?;
    let relation = match d.resolve(old_schema.as_deref(), &name) {
        Some(relation) => relation,
        None if if_exists => {
            d.notice(format!("relation \"{name}\" does not exist, skipping"));
            return Ok("ALTER TABLE");
        }
        None => d.require(old_schema.as_deref(), &name)?,
    };
    let schema = d.creation_schema(Some(schema)).await?;
    match relation {
        Relation::Table(table) => {
            d.must_own(table.owner, "table", &name)?;
            let table = d.lock_table(table.oid).await?;
            if table.schema == schema.oid {
                return Ok("ALTER TABLE");
            }
            refuse_viewed(d, table.oid)?;
            move_name(d, table.schema, schema.oid, &table.name, table.oid).await?;
            for (index, oid) in crate::catalog::table_index_names(&table) {
                move_name(d, table.schema, schema.oid, index, oid).await?;
            }
            let mut changed = (*table).clone();
            changed.schema = schema.oid;
            d.put_table(changed)?;
            let owned: Vec<Arc<Sequence>> = d
                .catalog
                .sequences(table.database)
                .filter(|s| s.owned_by.is_some_and(|(owner, _)| owner == table.oid))
                .cloned()
                .collect();
            for sequence in owned {
                let sequence = d.lock_sequence(sequence.oid).await?;
                move_name(d, sequence.schema, schema.oid, &sequence.name, sequence.oid).await?;
                let mut changed = (*sequence).clone();
                changed.schema = schema.oid;
                changed.version += 1;
                d.put(Descriptor::Sequence(changed))?;
            }
        }
        Relation::View(view) => {
            d.must_own(view.owner, "view", &name)?;
            let view = d.lock_view(view.oid).await?;
            refuse_viewed(d, view.oid)?;
            move_name(d, view.schema, schema.oid, &view.name, view.oid).await?;
            let mut changed = (*view).clone();
            changed.schema = schema.oid;
            changed.version += 1;
            d.put(Descriptor::View(changed))?;
        }
        _ => return Err(wrong_kind(&name, "a table")),
    }
    Ok("ALTER TABLE")
}
