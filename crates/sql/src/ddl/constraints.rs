//! Constraints: reading them into a table's descriptor.

use super::DdlContext;
use super::names::{
    choose_constraint_name, choose_relation_name, ident, join_columns, object_name,
};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use crate::catalog::store::NameKind;
use crate::statement::grammar;
use sqlparser::ast::{
    self, ColumnOption, ConstraintCharacteristics, ConstraintReferenceMatchKind, DeferrableInitial,
    Expr, Ident, NullsDistinctOption, TableConstraint,
};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use types::{Error, Result, SqlState, SqlType};

/// The most columns in a key, as in PostgreSQL.
pub(super) const MAX_KEY_COLUMNS: usize = 32;

/// What a statement has made besides the table, not yet in the catalog.
#[derive(Default)]
pub(super) struct Pending {
    pub names: BTreeSet<String>,
    pub sequences: Vec<Sequence>,
}

/// What a new constraint asks of the rows that are there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Added {
    /// The table has got a primary key: rows move to new keys.
    PrimaryKey,
    /// The index at this place in [`Table::indexes`] must be built.
    Index(usize),
    /// The check at this place must hold.
    Check(usize),
    /// The foreign key at this place must hold.
    ForeignKey(usize),
}

/// Adds a table constraint to `table`, which the caller writes.
pub(super) async fn add(
    d: &mut DdlContext<'_>,
    table: &mut Table,
    constraint: &TableConstraint,
    not_valid: bool,
    pending: &mut Pending,
) -> Result<Added> {
    match constraint {
        TableConstraint::PrimaryKey(key) => {
            let columns = key_columns(&key.columns)?;
            refuse_deferrable(key.characteristics.as_ref(), "DEFERRABLE PRIMARY KEY")?;
            add_primary_key(d, table, key.name.as_ref(), &columns, pending).await
        }
        TableConstraint::Unique(key) => {
            let columns = key_columns(&key.columns)?;
            refuse_deferrable(key.characteristics.as_ref(), "DEFERRABLE UNIQUE")?;
            let nulls_not_distinct = key.nulls_distinct == NullsDistinctOption::NotDistinct;
            add_unique(
                d,
                table,
                key.name.as_ref(),
                &columns,
                nulls_not_distinct,
                pending,
            )
            .await
        }
        TableConstraint::Check(check) => {
            add_check(d, table, check.name.as_ref(), &check.expr, not_valid).await
        }
        TableConstraint::ForeignKey(key) => {
            let columns: Vec<String> = key.columns.iter().map(ident).collect();
            add_foreign_key(d, table, key, &columns, not_valid).await
        }
        TableConstraint::PrimaryKeyUsingIndex(_) | TableConstraint::UniqueUsingIndex(_) => {
            Err(Error::unsupported("ADD CONSTRAINT USING INDEX"))
        }
        TableConstraint::Index(_) | TableConstraint::FulltextOrSpatial(_) => Err(Error::syntax(
            format!("syntax error at or near \"{constraint}\""),
        )),
    }
}

/// Adds a constraint that is written at a column.
pub(super) async fn add_at_column(
    d: &mut DdlContext<'_>,
    table: &mut Table,
    position: usize,
    name: Option<&Ident>,
    option: &ColumnOption,
    pending: &mut Pending,
) -> Result<Added> {
    let column = vec![table.columns[position].name.clone()];
    match option {
        ColumnOption::PrimaryKey(key) => {
            refuse_deferrable(key.characteristics.as_ref(), "DEFERRABLE PRIMARY KEY")?;
            add_primary_key(d, table, name, &column, pending).await
        }
        ColumnOption::Unique(key) => {
            refuse_deferrable(key.characteristics.as_ref(), "DEFERRABLE UNIQUE")?;
            let nulls_not_distinct = key.nulls_distinct == NullsDistinctOption::NotDistinct;
            add_unique(d, table, name, &column, nulls_not_distinct, pending).await
        }
        ColumnOption::Check(check) => {
            let name = name.or(check.name.as_ref());
            add_check(d, table, name, &check.expr, false).await
        }
        ColumnOption::ForeignKey(key) => {
            let mut key = key.clone();
            if key.name.is_none() {
                key.name = name.cloned();
            }
            add_foreign_key(d, table, &key, &column, false).await
        }
        other => Err(Error::unsupported(format!("column option {other}"))),
    }
}

fn refuse_deferrable(given: Option<&ConstraintCharacteristics>, what: &str) -> Result<()> {
    match given {
        Some(given) if given.deferrable == Some(true) => Err(Error::unsupported(what)),
        _ => Ok(()),
    }
}

/// The plain column names of a key.
fn key_columns(columns: &[ast::IndexColumn]) -> Result<Vec<String>> {
    columns
        .iter()
        .map(|column| match &column.column.expr {
            Expr::Identifier(name) => Ok(ident(name)),
            other => Err(Error::syntax(format!(
                "syntax error at or near \"{other}\""
            ))),
        })
        .collect()
}

fn positions(table: &Table, columns: &[String], what: &str) -> Result<Vec<usize>> {
    if columns.len() > MAX_KEY_COLUMNS {
        return Err(Error::new(
            SqlState::TOO_MANY_COLUMNS,
            format!("cannot use more than {MAX_KEY_COLUMNS} columns in an index"),
        ));
    }
    let mut out = Vec::with_capacity(columns.len());
    for name in columns {
        let position = table.column_position(name).ok_or_else(|| {
            Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" named in key does not exist"),
            )
        })?;
        if out.contains(&position) {
            return Err(Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{name}\" appears twice in {what} constraint"),
            ));
        }
        must_be_orderable(&table.columns[position].sql_type)?;
        out.push(position);
    }
    Ok(out)
}

/// Only types with an order can be in a key.
pub(super) fn must_be_orderable(sql_type: &SqlType) -> Result<()> {
    if sql_type.is_orderable() {
        return Ok(());
    }
    Err(Error::new(
        SqlState::UNDEFINED_OBJECT,
        format!(
            "data type {} has no default operator class for access method \"btree\"",
            sql_type.bare_name()
        ),
    )
    .hint(
        "You must specify an operator class for the index or define a default operator class \
         for the data type.",
    ))
}

fn refuse_duplicate(table: &Table, name: &str) -> Result<()> {
    if table.has_constraint(name) {
        return Err(Error::new(
            SqlState::DUPLICATE_OBJECT,
            format!(
                "constraint \"{name}\" for relation \"{}\" already exists",
                table.name
            ),
        ));
    }
    Ok(())
}

async fn add_primary_key(
    d: &mut DdlContext<'_>,
    table: &mut Table,
    name: Option<&Ident>,
    columns: &[String],
    pending: &mut Pending,
) -> Result<Added> {
    if table.primary_key.is_some() {
        return Err(Error::new(
            SqlState::INVALID_TABLE_DEFINITION,
            format!(
                "multiple primary keys for table \"{}\" are not allowed",
                table.name
            ),
        ));
    }
    let columns = positions(table, columns, "primary key")?;
    let name = match name {
        Some(name) => ident(name),
        None => choose_relation_name(d, table.schema, &table.name, None, "pkey", &pending.names),
    };
    let oid = d.ids.object_id().await?;
    d.claim_name(NameKind::Relation, table.schema, &name, oid)
        .await?;
    refuse_duplicate(table, &name)?;
    pending.names.insert(name.clone());
    for column in &columns {
        table.columns[*column].not_null = true;
    }
    table.primary_key = Some(PrimaryKey {
        oid,
        constraint_oid: d.ids.object_id().await?,
        name,
        columns,
    });
    Ok(Added::PrimaryKey)
}

async fn add_unique(
    d: &mut DdlContext<'_>,
    table: &mut Table,
    name: Option<&Ident>,
    columns: &[String],
    nulls_not_distinct: bool,
    pending: &mut Pending,
) -> Result<Added> {
    let positions = positions(table, columns, "unique")?;
    let name = match name {
        Some(name) => ident(name),
        None => {
            let joined = join_columns(columns.iter().map(String::as_str));
            choose_relation_name(
                d,
                table.schema,
                &table.name,
                Some(&joined),
                "key",
                &pending.names,
            )
        }
    };
    let oid = d.ids.object_id().await?;
    d.claim_name(NameKind::Relation, table.schema, &name, oid)
        .await?;
    refuse_duplicate(table, &name)?;
    pending.names.insert(name.clone());
    let id = take_index_id(table)?;
    table.indexes.push(Index {
        oid,
        id,
        name,
        columns: positions
            .into_iter()
            .map(|position| IndexColumn {
                key: IndexKey::Column(position),
                descending: false,
                nulls_first: false,
            })
            .collect(),
        unique: true,
        nulls_not_distinct,
        constraint_oid: Some(d.ids.object_id().await?),
        predicate: None,
        method: "btree".into(),
        include: Vec::new(),
        comment: None,
    });
    Ok(Added::Index(table.indexes.len() - 1))
}

/// Index ids of a table are not used twice, for old entries may still wait for deletion.
pub(super) fn take_index_id(table: &mut Table) -> Result<u16> {
    let id = table.next_index_id;
    table.next_index_id = id.checked_add(1).ok_or_else(|| {
        Error::new(
            SqlState::PROGRAM_LIMIT_EXCEEDED,
            format!("table \"{}\" has had too many indexes", table.name),
        )
    })?;
    Ok(id)
}

async fn add_check(
    d: &mut DdlContext<'_>,
    table: &mut Table,
    name: Option<&Ident>,
    expr: &Expr,
    not_valid: bool,
) -> Result<Added> {
    if has_subquery(expr) {
        return Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "cannot use subquery in check constraint",
        ));
    }
    let name = match name {
        Some(name) => ident(name),
        None => {
            let used = columns_used(table, expr);
            let only = match used.iter().collect::<Vec<_>>().as_slice() {
                [only] => Some(table.columns[**only].name.clone()),
                _ => None,
            };
            choose_constraint_name(d, table, only.as_deref(), "check")
        }
    };
    refuse_duplicate(table, &name)?;
    let shared = Arc::new(table.clone());
    let found = d
        .analyser
        .expression(d.catalog, Some(&shared), expr, None)?;
    if !matches!(found.sql_type, SqlType::Bool | SqlType::Unknown) {
        return Err(Error::new(
            SqlState::DATATYPE_MISMATCH,
            format!(
                "argument of CHECK must be type boolean, not type {}",
                found.sql_type.bare_name()
            ),
        ));
    }
    table.checks.push(Check {
        oid: d.ids.object_id().await?,
        name,
        expression: expr.to_string(),
        not_valid,
    });
    Ok(Added::Check(table.checks.len() - 1))
}

async fn add_foreign_key(
    d: &mut DdlContext<'_>,
    table: &mut Table,
    key: &ast::ForeignKeyConstraint,
    columns: &[String],
    not_valid: bool,
) -> Result<Added> {
    if key.match_kind == Some(ConstraintReferenceMatchKind::Partial) {
        return Err(Error::unsupported("MATCH PARTIAL"));
    }
    let mut positions = Vec::with_capacity(columns.len());
    for name in columns {
        positions.push(table.column_position(name).ok_or_else(|| {
            Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" referenced in foreign key constraint does not exist"),
            )
        })?);
    }
    let referenced = referenced_table(d, table, &key.foreign_table).await?;
    let referenced_columns = referenced_columns(&referenced, &key.referred_columns)?;
    if referenced_columns.len() != positions.len() {
        return Err(Error::new(
            SqlState::INVALID_FOREIGN_KEY,
            "number of referencing and referenced columns for foreign key disagree",
        ));
    }
    if !key.referred_columns.is_empty() && !is_unique(&referenced, &referenced_columns) {
        return Err(Error::new(
            SqlState::INVALID_FOREIGN_KEY,
            format!(
                "there is no unique constraint matching given keys for referenced table \"{}\"",
                referenced.name
            ),
        ));
    }
    let name = match &key.name {
        Some(name) => ident(name),
        None => {
            let joined = join_columns(columns.iter().map(String::as_str));
            choose_constraint_name(d, table, Some(&joined), "fkey")
        }
    };
    refuse_duplicate(table, &name)?;
    for (from, to) in positions.iter().zip(&referenced_columns) {
        let (from, to) = (&table.columns[*from], &referenced.columns[*to]);
        if !keys_compare(&from.sql_type, &to.sql_type) {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!("foreign key constraint \"{name}\" cannot be implemented"),
            )
            .detail(format!(
                "Key columns \"{}\" and \"{}\" are of incompatible types: {} and {}.",
                from.name,
                to.name,
                from.sql_type.bare_name(),
                to.sql_type.bare_name()
            )));
        }
    }
    let (deferrable, initially_deferred) = deferral(key.characteristics.as_ref());
    table.foreign_keys.push(ForeignKey {
        oid: d.ids.object_id().await?,
        name,
        columns: positions,
        referenced_table: referenced.oid,
        referenced_columns,
        on_delete: action(key.on_delete),
        on_update: action(key.on_update),
        deferrable,
        initially_deferred,
        match_full: key.match_kind == Some(ConstraintReferenceMatchKind::Full),
        not_valid,
    });
    Ok(Added::ForeignKey(table.foreign_keys.len() - 1))
}

/// The table referred to, locked so that whoever deletes from it next knows of the new key; the table
/// itself while it is being made.
async fn referenced_table(
    d: &mut DdlContext<'_>,
    table: &Table,
    name: &ast::ObjectName,
) -> Result<Table> {
    let (schema, name) = object_name(d, name)?;
    let is_self = name == table.name
        && match &schema {
            Some(schema) => d
                .catalog
                .schema(table.schema)
                .is_some_and(|own| own.name == *schema),
            None => true,
        };
    if is_self {
        return Ok(table.clone());
    }
    match d.require(schema.as_deref(), &name)? {
        Relation::Table(found) if found.oid == table.oid => Ok(table.clone()),
        Relation::Table(found) => Ok((*d.lock_table(found.oid).await?).clone()),
        _ => Err(Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("referenced relation \"{name}\" is not a table"),
        )),
    }
}

fn referenced_columns(referenced: &Table, named: &[Ident]) -> Result<Vec<usize>> {
    if named.is_empty() {
        return match &referenced.primary_key {
            Some(key) => Ok(key.columns.clone()),
            None => Err(Error::new(
                SqlState::UNDEFINED_OBJECT,
                format!(
                    "there is no primary key for referenced table \"{}\"",
                    referenced.name
                ),
            )),
        };
    }
    named
        .iter()
        .map(|name| {
            let name = ident(name);
            referenced.column_position(&name).ok_or_else(|| {
                Error::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!(
                        "column \"{name}\" referenced in foreign key constraint does not exist"
                    ),
                )
            })
        })
        .collect()
}

/// Whether exactly these columns, in any order, are a primary key or have a full unique index.
pub(super) fn is_unique(table: &Table, columns: &[usize]) -> bool {
    let wanted: BTreeSet<usize> = columns.iter().copied().collect();
    let primary = table
        .primary_key
        .as_ref()
        .is_some_and(|key| key.columns.iter().copied().collect::<BTreeSet<_>>() == wanted);
    primary
        || table.indexes.iter().any(|index| {
            index.unique
                && index.predicate.is_none()
                && index_positions(index).is_some_and(|columns| {
                    columns.into_iter().collect::<BTreeSet<usize>>() == wanted
                })
        })
}

/// The positions of an index's columns; `None` if it has expressions.
pub(super) fn index_positions(index: &Index) -> Option<Vec<usize>> {
    index
        .columns
        .iter()
        .map(|column| match &column.key {
            IndexKey::Column(position) => Some(*position),
            IndexKey::Expression(..) => None,
        })
        .collect()
}

/// Types whose values can be looked up in each other's keys.
fn keys_compare(from: &SqlType, to: &SqlType) -> bool {
    let text = |t: &SqlType| matches!(t, SqlType::Text | SqlType::Varchar(_) | SqlType::Name);
    from.same_base(to) || (from.is_integer() && to.is_integer()) || (text(from) && text(to))
}

fn deferral(given: Option<&ConstraintCharacteristics>) -> (bool, bool) {
    let deferred = given.is_some_and(|given| given.initially == Some(DeferrableInitial::Deferred));
    let deferrable = given.and_then(|given| given.deferrable).unwrap_or(deferred);
    (deferrable, deferred)
}

fn action(given: Option<ast::ReferentialAction>) -> ReferentialAction {
    match given {
        None | Some(ast::ReferentialAction::NoAction) => ReferentialAction::NoAction,
        Some(ast::ReferentialAction::Restrict) => ReferentialAction::Restrict,
        Some(ast::ReferentialAction::Cascade) => ReferentialAction::Cascade,
        Some(ast::ReferentialAction::SetNull) => ReferentialAction::SetNull,
        Some(ast::ReferentialAction::SetDefault) => ReferentialAction::SetDefault,
    }
}

/// Reads back an expression that a descriptor keeps as text.
pub fn parse_expression(text: &str) -> Result<Expr> {
    grammar::parse(text, |parser| parser.parse_expr())
        .map_err(|error| Error::syntax(error.to_string()))
}

/// Positions of the table's columns that an expression names.
pub fn columns_used(table: &Table, expr: &Expr) -> BTreeSet<usize> {
    let mut used = BTreeSet::new();
    let _ = ast::visit_expressions(expr, |part| {
        let name = match part {
            Expr::Identifier(name) => Some(name),
            Expr::CompoundIdentifier(parts) => parts.last(),
            _ => None,
        };
        if let Some(position) = name.and_then(|name| table.column_position(&ident(name))) {
            used.insert(position);
        }
        ControlFlow::<()>::Continue(())
    });
    used
}

pub(super) fn has_subquery(expr: &Expr) -> bool {
    let found = ast::visit_expressions(expr, |part| match part {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}
