//! ALTER TABLE.
//!
//! The actions of one statement are applied one after the other to the table's descriptor; work on
//! rows (building, checking, rewriting) follows each action at once.

use super::add_column::add_column;
use super::alter_column;
use super::alter_constraint::{drop_constraint, rename_constraint, validate_constraint};
use super::constraints::{self, Added, Pending};
use super::context::{DdlContext, wrong_kind};
use super::create_table::table_options;
use super::drop_column::drop_column;
use super::names::{ident, no_column, object_name, simple_name};
use super::rename::{refuse_viewed, rename_column};
use super::{index, namespace, rewrite, rows, sharding};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use sqlparser::ast::{
    self, AlterTableOperation, CreateTableOptions, DropBehavior, RenameTableNameKind,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{Error, Result};

pub(super) async fn alter_table(
    d: &mut DdlContext<'_>,
    alter: &ast::AlterTable,
) -> Result<&'static str> {
    let (schema, name) = object_name(d, &alter.name)?;
    let relation = match d.resolve(schema.as_deref(), &name) {
        Some(relation) => relation,
        None if alter.if_exists => {
            d.notice(format!("relation \"{name}\" does not exist, skipping"));
            return Ok("ALTER TABLE");
        }
        None => d.require(schema.as_deref(), &name)?,
    };
    match relation {
        Relation::Table(table) => {
            d.must_own(table.owner, "table", &name)?;
            for operation in &alter.operations {
                d.lock_table(table.oid).await?;
                apply(d, table.oid, operation).await?;
            }
            Ok("ALTER TABLE")
        }
        other => alter_other(d, &other, &name, &alter.operations).await,
    }
}

/// ALTER TABLE also renames and gives away relations of other kinds.
pub(super) async fn alter_other(
    d: &mut DdlContext<'_>,
    relation: &Relation,
    name: &str,
    operations: &[AlterTableOperation],
) -> Result<&'static str> {
    for operation in operations {
        match (relation, operation) {
            (Relation::View(view), AlterTableOperation::RenameTable { table_name }) => {
                let new = new_name(table_name)?;
                let mut changed = (*d.lock_view(view.oid).await?).clone();
                d.must_own(changed.owner, "view", name)?;
                d.rename_relation(changed.schema, &changed.name, &new, changed.oid)
                    .await?;
                refuse_viewed(d, changed.oid)?;
                changed.name = new;
                changed.version += 1;
                d.put(Descriptor::View(changed))?;
            }
            (Relation::View(view), AlterTableOperation::OwnerTo { new_owner }) => {
                let mut changed = (*d.lock_view(view.oid).await?).clone();
                d.must_own(changed.owner, "view", name)?;
                changed.owner = namespace::role_of(d, new_owner)?;
                d.put(Descriptor::View(changed))?;
            }
            (Relation::Sequence(sequence), AlterTableOperation::RenameTable { table_name }) => {
                let new = new_name(table_name)?;
                let mut changed = (*d.lock_sequence(sequence.oid).await?).clone();
                d.must_own(changed.owner, "sequence", name)?;
                d.rename_relation(changed.schema, &changed.name, &new, changed.oid)
                    .await?;
                changed.name = new;
                changed.version += 1;
                d.put(Descriptor::Sequence(changed))?;
            }
            (Relation::Sequence(sequence), AlterTableOperation::OwnerTo { new_owner }) => {
                let mut changed = (*d.lock_sequence(sequence.oid).await?).clone();
                d.must_own(changed.owner, "sequence", name)?;
                changed.owner = namespace::role_of(d, new_owner)?;
                d.put(Descriptor::Sequence(changed))?;
            }
            (Relation::Index(table, oid), AlterTableOperation::RenameTable { table_name }) => {
                let new = new_name(table_name)?;
                index::rename_index(d, table.oid, *oid, &new).await?;
            }
            // An index goes with its table.
            (Relation::Index(..), AlterTableOperation::OwnerTo { .. }) => {}
            _ => return Err(wrong_kind(name, "a table")),
        }
    }
    Ok("ALTER TABLE")
}

fn new_name(name: &RenameTableNameKind) -> Result<String> {
    let (RenameTableNameKind::As(name) | RenameTableNameKind::To(name)) = name;
    simple_name(name)
}

async fn apply(
    d: &mut DdlContext<'_>,
    oid: ObjectId,
    operation: &AlterTableOperation,
) -> Result<()> {
    let table = current(d, oid)?;
    match operation {
        AlterTableOperation::AddColumn {
            if_not_exists,
            column_def,
            ..
        } => add_column(d, &table, column_def, *if_not_exists).await,
        AlterTableOperation::DropColumn {
            column_names,
            if_exists,
            drop_behavior,
            ..
        } => {
            let cascade = *drop_behavior == Some(DropBehavior::Cascade);
            for name in column_names {
                drop_column(d, oid, &ident(name), *if_exists, cascade).await?;
            }
            Ok(())
        }
        AlterTableOperation::RenameColumn {
            old_column_name,
            new_column_name,
        } => rename_column(d, &table, &ident(old_column_name), ident(new_column_name)),
        AlterTableOperation::RenameTable { table_name } => {
            let new = new_name(table_name)?;
            d.rename_relation(table.schema, &table.name, &new, oid)
                .await?;
            refuse_viewed(d, oid)?;
            let mut changed = (*table).clone();
            changed.name = new;
            d.put_table(changed)?;
            Ok(())
        }
        AlterTableOperation::RenameConstraint { old_name, new_name } => {
            rename_constraint(d, &table, &ident(old_name), ident(new_name)).await
        }
        AlterTableOperation::AlterColumn { column_name, op } => {
            let name = ident(column_name);
            let position = table
                .column_position(&name)
                .ok_or_else(|| no_column(&table.name, &name))?;
            alter_column::alter_column(d, &table, position, op).await
        }
        AlterTableOperation::AddConstraint {
            constraint,
            not_valid,
        } => {
            let mut changed = (*table).clone();
            let mut pending = Pending::default();
            let added =
                constraints::add(d, &mut changed, constraint, *not_valid, &mut pending).await?;
            settle(d, &table, changed, vec![added]).await
        }
        AlterTableOperation::ValidateConstraint { name } => {
            validate_constraint(d, &table, &ident(name)).await
        }
        AlterTableOperation::DropConstraint {
            if_exists,
            name,
            drop_behavior,
        } => {
            let cascade = *drop_behavior == Some(DropBehavior::Cascade);
            drop_constraint(d, &table, &ident(name), *if_exists, cascade).await
        }
        AlterTableOperation::OwnerTo { new_owner } => {
            let mut changed = (*table).clone();
            changed.owner = namespace::role_of(d, new_owner)?;
            d.put_table(changed)?;
            Ok(())
        }
        AlterTableOperation::SetOptionsParens { options } => {
            let (options, _) = table_options(&CreateTableOptions::With(options.clone()))?;
            let mut changed = (*table).clone();
            for (key, value) in options {
                if sharding::change_option(&mut changed, &key, &value)? {
                    continue;
                }
                changed.options.retain(|(known, _)| *known != key);
                changed.options.push((key, value));
            }
            d.put_table(changed)?;
            Ok(())
        }
        AlterTableOperation::ReplicaIdentity { .. } => Ok(()),
        other => {
            let text = other.to_string();
            let words: Vec<&str> = text.split_whitespace().take(3).collect();
            Err(Error::unsupported(format!(
                "ALTER TABLE {}",
                words.join(" ")
            )))
        }
    }
}

pub(super) fn current(d: &DdlContext<'_>, oid: ObjectId) -> Result<Arc<Table>> {
    d.catalog
        .table(oid)
        .cloned()
        .ok_or_else(|| Error::internal("a locked table is not in the working copy"))
}

/// Writes the changed table, then does what its new constraints ask of the rows.
pub(super) async fn settle(
    d: &mut DdlContext<'_>,
    old: &Arc<Table>,
    mut changed: Table,
    added: Vec<Added>,
) -> Result<()> {
    let empty = rows::is_empty(d, old).await?;
    let rekey = added.contains(&Added::PrimaryKey);
    if rekey && !empty {
        changed.data_id = d.data_id_for(&changed).await?;
        for column in &mut changed.columns {
            column.missing = None;
        }
    }
    let new = d.put_table(changed)?;
    if empty {
        return Ok(());
    }
    if rekey {
        rewrite::rewrite(d, old, &new, &BTreeMap::new()).await?;
    }
    for what in added {
        match what {
            Added::PrimaryKey => {}
            // A rewrite has built all indexes.
            Added::Index(_) if rekey => {}
            Added::Index(at) => rows::build_index(d, &new, at).await?,
            Added::Check(at) => {
                let check = new.checks[at].clone();
                if !check.not_valid {
                    rows::check_rows(d, &new, &check).await?;
                }
            }
            Added::ForeignKey(at) => {
                let key = new.foreign_keys[at].clone();
                if !key.not_valid {
                    rows::check_foreign_key(d, &new, &key).await?;
                }
            }
        }
    }
    Ok(())
}
