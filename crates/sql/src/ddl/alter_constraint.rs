//! `ALTER TABLE … RENAME | VALIDATE | DROP CONSTRAINT`.

use super::context::DdlContext;
use super::drop::{drop_orphaned_foreign_keys, drop_secondary_index};
use super::{index, rewrite, rows};
use crate::catalog::descriptor::*;
use crate::catalog::store::NameKind;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{Error, Result, SqlState};

pub(super) async fn rename_constraint(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    old: &str,
    new: String,
) -> Result<()> {
    let mut changed = (**table).clone();
    if changed.has_constraint(&new) {
        return Err(Error::new(
            SqlState::DUPLICATE_OBJECT,
            format!(
                "constraint \"{new}\" for relation \"{}\" already exists",
                table.name
            ),
        ));
    }
    if let Some(key) = &table.primary_key
        && key.name == old
    {
        return index::rename_index(d, table.oid, key.oid, &new).await;
    }
    if let Some(index) = table
        .indexes
        .iter()
        .find(|index| index.constraint_oid.is_some() && index.name == old)
    {
        return index::rename_index(d, table.oid, index.oid, &new).await;
    }
    if let Some(check) = changed.checks.iter_mut().find(|check| check.name == old) {
        check.name = new;
    } else if let Some(key) = changed.foreign_keys.iter_mut().find(|key| key.name == old) {
        key.name = new;
    } else {
        return Err(no_constraint(table, old, "table"));
    }
    d.put_table(changed)?;
    Ok(())
}

pub(super) async fn validate_constraint(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    name: &str,
) -> Result<()> {
    let mut changed = (**table).clone();
    if let Some(check) = changed.checks.iter_mut().find(|check| check.name == name) {
        check.not_valid = false;
        let check = check.clone();
        rows::check_rows(d, table, &check).await?;
    } else if let Some(key) = changed.foreign_keys.iter_mut().find(|key| key.name == name) {
        key.not_valid = false;
        let key = key.clone();
        rows::check_foreign_key(d, table, &key).await?;
    } else if table.has_constraint(name) {
        return Err(Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!(
                "constraint \"{name}\" of relation \"{}\" is not a foreign key or check constraint",
                table.name
            ),
        ));
    } else {
        return Err(no_constraint(table, name, "relation"));
    }
    d.put_table(changed)?;
    Ok(())
}

pub(super) async fn drop_constraint(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    name: &str,
    if_exists: bool,
    cascade: bool,
) -> Result<()> {
    let mut changed = (**table).clone();
    if let Some(key) = &table.primary_key
        && key.name == name
    {
        changed.primary_key = None;
        let what = format!("constraint {name} on table {}", table.name);
        drop_orphaned_foreign_keys(d, &mut changed, &what, cascade).await?;
        d.free_name(NameKind::Relation, table.schema, name).await?;
        let rekey = !rows::is_empty(d, table).await?;
        if rekey {
            changed.data_id = d.data_id_for(&changed).await?;
            for column in &mut changed.columns {
                column.missing = None;
            }
        }
        let new = d.put_table(changed)?;
        if rekey {
            rewrite::rewrite(d, table, &new, &BTreeMap::new()).await?;
        }
        return Ok(());
    }
    if let Some(index) = table
        .indexes
        .iter()
        .find(|index| index.constraint_oid.is_some() && index.name == name)
    {
        return drop_secondary_index(d, table.oid, index.oid, cascade).await;
    }
    let before = changed.checks.len() + changed.foreign_keys.len();
    changed.checks.retain(|check| check.name != name);
    changed.foreign_keys.retain(|key| key.name != name);
    if changed.checks.len() + changed.foreign_keys.len() == before {
        let missing = no_constraint(table, name, "relation");
        if !if_exists {
            return Err(missing);
        }
        d.notice(format!("{}, skipping", missing.message));
        return Ok(());
    }
    d.put_table(changed)?;
    Ok(())
}

fn no_constraint(table: &Table, name: &str, what: &str) -> Error {
    let message = match what {
        "table" => format!(
            "constraint \"{name}\" for table \"{}\" does not exist",
            table.name
        ),
        _ => format!(
            "constraint \"{name}\" of relation \"{}\" does not exist",
            table.name
        ),
    };
    Error::new(SqlState::UNDEFINED_OBJECT, message)
}
