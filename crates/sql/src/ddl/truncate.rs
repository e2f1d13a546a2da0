//! TRUNCATE: the table goes on under a new data id; the old rows wait for deletion.

use super::context::{DdlContext, wrong_kind};
use super::names::object_name;
use super::{alter_sequence, cleanup};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use sqlparser::ast::{self, CascadeOption, TruncateIdentityOption};
use std::collections::BTreeSet;
use types::{Error, Result, SqlState};

pub(super) async fn truncate(
    d: &mut DdlContext<'_>,
    truncate: &ast::Truncate,
) -> Result<&'static str> {
    let cascade = truncate.cascade == Some(CascadeOption::Cascade);
    let restart = truncate.identity == Some(TruncateIdentityOption::Restart);
    let mut tables = Vec::new();
    for target in &truncate.table_names {
        let (schema, name) = object_name(d, &target.name)?;
        match d.require(schema.as_deref(), &name)? {
            Relation::Table(table) => {
                d.must_own(table.owner, "table", &name)?;
                if !tables.contains(&table.oid) {
                    tables.push(table.oid);
                }
            }
            _ => return Err(wrong_kind(&name, "a table")),
        }
    }
    include_referencing(d, &mut tables, cascade)?;
    // In one order, so that two truncations do not wait for each other.
    let order: BTreeSet<ObjectId> = tables.into_iter().collect();
    for oid in order {
        let table = d.lock_table(oid).await?;
        let mut changed = (*table).clone();
        changed.data_id = d.data_id_for(&changed).await?;
        for column in &mut changed.columns {
            column.missing = None;
        }
        cleanup::mark(d.txn, table.data_id)?;
        d.put_table(changed)?;
        if restart {
            let owned: Vec<ObjectId> = d
                .catalog
                .sequences(table.database)
                .filter(|sequence| sequence.owned_by.is_some_and(|(owner, _)| owner == oid))
                .map(|sequence| sequence.oid)
                .collect();
            for sequence in owned {
                alter_sequence::restart(d, sequence, None).await?;
            }
        }
    }
    Ok("TRUNCATE TABLE")
}

/// Tables that refer to a truncated one must be truncated too.
fn include_referencing(
    d: &mut DdlContext<'_>,
    tables: &mut Vec<ObjectId>,
    cascade: bool,
) -> Result<()> {
    let mut at = 0;
    while at < tables.len() {
        let oid = tables[at];
        at += 1;
        let others: Vec<(ObjectId, String)> = d
            .catalog
            .referencing_tables(oid)
            .map(|other| (other.oid, other.name.clone()))
            .collect();
        for (other, name) in others {
            if tables.contains(&other) {
                continue;
            }
            if !cascade {
                let referenced = d
                    .catalog
                    .table(oid)
                    .map(|table| table.name.clone())
                    .unwrap_or_default();
                return Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "cannot truncate a table referenced in a foreign key constraint",
                )
                .detail(format!("Table \"{name}\" references \"{referenced}\"."))
                .hint(format!(
                    "Truncate table \"{name}\" at the same time, or use TRUNCATE ... CASCADE."
                )));
            }
            d.notice(format!("truncate cascades to table \"{name}\""));
            tables.push(other);
        }
    }
    Ok(())
}
