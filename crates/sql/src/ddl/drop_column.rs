//! `ALTER TABLE … DROP COLUMN`, with the indexes and constraints that used the column. The column
//! stays in the descriptor as dropped, for rows keep its place.

use super::alter_table::current;
use super::constraints::{columns_used, parse_expression};
use super::context::DdlContext;
use super::drop::{drop_orphaned_foreign_keys, remove_sequence};
use super::names::no_column;
use super::rename::mentions;
use super::{index, rewrite, rows};
use crate::catalog::descriptor::*;
use crate::catalog::store::NameKind;
use std::collections::BTreeMap;
use types::{Error, Result, SqlState};

pub(super) async fn drop_column(
    d: &mut DdlContext<'_>,
    oid: ObjectId,
    name: &str,
    if_exists: bool,
    cascade: bool,
) -> Result<()> {
    let table = current(d, oid)?;
    let Some(position) = table.column_position(name) else {
        if !if_exists {
            return Err(no_column(&table.name, name));
        }
        d.notice(format!(
            "column \"{name}\" of relation \"{}\" does not exist, skipping",
            table.name
        ));
        return Ok(());
    };
    let what = format!("column {name} of table {}", table.name);
    for view in d.catalog.views(table.database) {
        if view.depends_on.contains(&oid) && mentions(&view.query, name) {
            return Err(Error::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop {what} because other objects depend on it"),
            )
            .detail(format!("view {} depends on {what}", view.name))
            .hint("Drop the view first."));
        }
    }
    // Generated columns of others need it.
    for (other, column) in table.live_columns() {
        if let Some(text) = &column.generated
            && other != position
            && columns_used(&table, &parse_expression(text)?).contains(&position)
        {
            return Err(Error::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop {what} because other objects depend on it"),
            )
            .detail(format!(
                "column {} of table {} depends on {what}",
                column.name, table.name
            )));
        }
    }
    let mut changed = (*table).clone();
    let primary = changed
        .primary_key
        .as_ref()
        .filter(|key| key.columns.contains(&position))
        .cloned();
    let mut gone = Vec::new();
    for index in &table.indexes {
        if index::columns_needed(&table, index)?.contains(&position) {
            gone.push(index.clone());
        }
    }
    changed
        .indexes
        .retain(|index| gone.iter().all(|other| other.oid != index.oid));
    let mut checks = Vec::new();
    for check in &table.checks {
        if !columns_used(&table, &parse_expression(&check.expression)?).contains(&position) {
            checks.push(check.clone());
        }
    }
    changed.checks = checks;
    changed
        .foreign_keys
        .retain(|key| !key.columns.contains(&position));
    if primary.is_some() {
        changed.primary_key = None;
    }
    drop_orphaned_foreign_keys(d, &mut changed, &what, cascade).await?;
    for index in &gone {
        d.free_name(NameKind::Relation, table.schema, &index.name)
            .await?;
    }
    if let Some(key) = &primary {
        d.free_name(NameKind::Relation, table.schema, &key.name)
            .await?;
    }
    let sequence = changed.columns[position].owned_sequence.take();
    let column = &mut changed.columns[position];
    column.dropped = true;
    // PostgreSQL's name for what is left; no user column can have it twice.
    column.name = format!("........pg.dropped.{}........", position + 1);
    column.not_null = false;
    column.default = None;
    column.identity = None;
    column.generated = None;
    column.missing = None;
    column.comment = None;
    let rekey = primary.is_some() && !rows::is_empty(d, &table).await?;
    if rekey {
        changed.data_id = d.data_id_for(&changed).await?;
        for column in &mut changed.columns {
            column.missing = None;
        }
    } else {
        for index in &gone {
            rows::delete_index_entries(d, &table, index).await?;
        }
    }
    let new = d.put_table(changed)?;
    if rekey {
        rewrite::rewrite(d, &table, &new, &BTreeMap::new()).await?;
    }
    if let Some(sequence) = sequence {
        let sequence = d.lock_sequence(sequence).await?;
        remove_sequence(d, &sequence).await?;
    }
    Ok(())
}
