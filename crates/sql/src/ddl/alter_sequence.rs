//! ALTER SEQUENCE. Restarting begins a new generation of the sequence, so it commits and rolls back
//! with the transaction.

use super::context::{DdlContext, wrong_kind};
use super::names::{ident, object_name};
use super::sequence::{apply, check_bounds, owner_column, type_bounds};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use crate::catalog::store::sequence_key;
use sqlparser::ast::{DataType, Ident, ObjectName, SequenceOptions};
use txn::kv::LockMode;
use types::{Error, Result, SqlType};

/// The statement, which the SQL parser does not know: see [`super::extra`].
#[derive(Clone, Debug, PartialEq)]
pub struct AlterSequence {
    pub name: ObjectName,
    pub if_exists: bool,
    pub data_type: Option<DataType>,
    pub options: Vec<SequenceOptions>,
    /// `RESTART`, with or without a value.
    pub restart: Option<Option<i64>>,
    pub owned_by: Option<ObjectName>,
    pub owner: Option<Ident>,
    pub rename: Option<Ident>,
    pub schema: Option<Ident>,
}

pub(super) async fn alter_sequence(
    d: &mut DdlContext<'_>,
    alter: &AlterSequence,
) -> Result<&'static str> {
    let (schema, name) = object_name(d, &alter.name)?;
    let sequence = match d.resolve(schema.as_deref(), &name) {
        Some(Relation::Sequence(sequence)) => sequence,
        Some(_) => return Err(wrong_kind(&name, "a sequence")),
        None if alter.if_exists => {
            d.notice(format!("relation \"{name}\" does not exist, skipping"));
            return Ok("ALTER SEQUENCE");
        }
        None => {
            d.require(schema.as_deref(), &name)?;
            return Err(wrong_kind(&name, "a sequence"));
        }
    };
    d.must_own(sequence.owner, "sequence", &name)?;
    let sequence = d.lock_sequence(sequence.oid).await?;
    let mut changed = (*sequence).clone();
    if let Some(data_type) = &alter.data_type {
        change_type(&mut changed, SqlType::parse(&data_type.to_string())?)?;
    }
    apply(&mut changed, &alter.options, false)?;
    if let Some(column) = &alter.owned_by {
        changed.owned_by = owner_column(d, column, changed.schema)?;
    }
    if let Some(owner) = &alter.owner {
        changed.owner = d.require_role(&ident(owner))?;
    }
    if let Some(new) = &alter.rename {
        let new = ident(new);
        d.rename_relation(changed.schema, &changed.name, &new, changed.oid)
            .await?;
        changed.name = new;
    }
    if let Some(schema) = &alter.schema {
        let schema = d.creation_schema(Some(&ident(schema))).await?;
        move_name(d, changed.schema, schema.oid, &changed.name, changed.oid).await?;
        changed.schema = schema.oid;
    }
    changed.version += 1;
    d.put(Descriptor::Sequence(changed))?;
    if let Some(value) = alter.restart {
        restart(d, sequence.oid, value).await?;
    }
    Ok("ALTER SEQUENCE")
}

/// Moves a relation's name to another schema.
pub(super) async fn move_name(
    d: &mut DdlContext<'_>,
    from: ObjectId,
    to: ObjectId,
    name: &str,
    oid: ObjectId,
) -> Result<()> {
    use crate::catalog::store::NameKind;
    if from == to {
        return Ok(());
    }
    d.claim_name(NameKind::Relation, to, name, oid).await?;
    d.free_name(NameKind::Relation, from, name).await
}

/// Bounds that were the old type's own become the new type's.
fn change_type(sequence: &mut Sequence, sql_type: SqlType) -> Result<()> {
    let (old_min, old_max) = type_bounds(&sequence.sql_type)?;
    let (min, max) = type_bounds(&sql_type)?;
    if sequence.increment > 0 && sequence.max == old_max {
        sequence.max = max;
    }
    if sequence.increment < 0 && sequence.min == old_min {
        sequence.min = min;
    }
    sequence.sql_type = sql_type;
    Ok(())
}

/// Starts the sequence anew, at `value` or at its START value.
pub(super) async fn restart(
    d: &mut DdlContext<'_>,
    oid: ObjectId,
    value: Option<i64>,
) -> Result<()> {
    let sequence = d.lock_sequence(oid).await?;
    if let Some(value) = value {
        check_bounds(&sequence, "RESTART", value)?;
    }
    delete_state(d, &sequence).await?;
    let mut changed = (*sequence).clone();
    changed.generation = changed
        .generation
        .checked_add(1)
        .ok_or_else(|| Error::internal("a sequence was restarted too often"))?;
    changed.restart = value;
    changed.version += 1;
    d.put(Descriptor::Sequence(changed))
}

/// Deletes the state row of the sequence's generation.
pub(super) async fn delete_state(d: &mut DdlContext<'_>, sequence: &Sequence) -> Result<()> {
    let key = sequence_key(sequence.oid, sequence.generation);
    d.txn.lock(&key, LockMode::Update, d.wait).await?;
    d.txn.delete(key)
}
