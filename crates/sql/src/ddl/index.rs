//! CREATE INDEX and ALTER INDEX.

use super::DdlContext;
use super::constraints::{
    MAX_KEY_COLUMNS, columns_used, has_subquery, must_be_orderable, take_index_id,
};
use super::context::{gone, wrong_kind};
use super::names::{
    INVALID_OBJECT_DEFINITION, choose_relation_name, ident, join_columns, object_name,
};
use super::rows;
use crate::catalog::descriptor::*;
use crate::catalog::store::{self, NameKind};
use crate::catalog::{Relation, table_index_names};
use crate::functions::Volatility;
use sqlparser::ast::{self, AlterIndexOperation, Expr, IndexType, ObjectName};
use std::collections::BTreeSet;
use std::sync::Arc;
use types::{Error, Result, SqlState, SqlType};

pub(super) async fn create_index(
    d: &mut DdlContext<'_>,
    create: &ast::CreateIndex,
) -> Result<&'static str> {
    let method = method(create.using.as_ref())?;
    let (schema, table_name) = object_name(d, &create.table_name)?;
    let table = match d.require(schema.as_deref(), &table_name)? {
        Relation::Table(table) => table,
        Relation::Index(..) | Relation::Sequence(_) | Relation::View(_) => {
            return Err(wrong_kind(&table_name, "a table"));
        }
    };
    d.must_own(table.owner, "table", &table.name)?;
    let table = d.lock_table(table.oid).await?;
    let mut changed = (*table).clone();
    let shared = Arc::clone(&table);
    let columns = index_columns(d, &shared, &create.columns)?;
    let predicate = match &create.predicate {
        Some(condition) => Some(predicate(d, &shared, condition)?),
        None => None,
    };
    let mut include = Vec::new();
    for column in &create.include {
        let name = ident(column);
        include.push(
            table
                .column_position(&name)
                .ok_or_else(|| missing_column(&name))?,
        );
    }
    let name = match &create.name {
        Some(name) => {
            let (given_schema, name) = object_name(d, name)?;
            if given_schema.is_some() {
                return Err(Error::syntax(format!(
                    "syntax error at or near \".\": an index goes into the schema of its table, \"{name}\""
                )));
            }
            if d.name_is_taken(NameKind::Relation, table.schema, &name)
                .await?
            {
                let taken = store::name_taken(NameKind::Relation, &name);
                if !create.if_not_exists {
                    return Err(taken);
                }
                d.notice_of(taken.state, format!("{}, skipping", taken.message));
                return Ok("CREATE INDEX");
            }
            name
        }
        None => automatic_name(d, &table, &columns),
    };
    let oid = d.ids.object_id().await?;
    d.claim_name(NameKind::Relation, table.schema, &name, oid)
        .await?;
    let id = take_index_id(&mut changed)?;
    changed.indexes.push(Index {
        oid,
        id,
        name,
        columns,
        unique: create.unique,
        nulls_not_distinct: create.nulls_distinct == Some(false),
        constraint_oid: None,
        predicate,
        method,
        include,
        comment: None,
    });
    let at = changed.indexes.len() - 1;
    let changed = d.put_table(changed)?;
    rows::build_index(d, &changed, at).await?;
    Ok("CREATE INDEX")
}

fn method(using: Option<&IndexType>) -> Result<String> {
    let name = match using {
        None | Some(IndexType::BTree) => return Ok("btree".into()),
        Some(IndexType::Hash) => "hash".into(),
        Some(IndexType::GIN) => "gin".into(),
        Some(IndexType::GiST) => "gist".into(),
        Some(IndexType::SPGiST) => "spgist".into(),
        Some(IndexType::BRIN) => "brin".into(),
        Some(IndexType::Bloom) => "bloom".into(),
        Some(IndexType::Custom(name)) => {
            let name = ident(name);
            if !matches!(name.as_str(), "hash" | "gin" | "gist" | "spgist" | "brin") {
                return Err(Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("access method \"{name}\" does not exist"),
                ));
            }
            name
        }
    };
    Err(Error::unsupported(format!("index access method {name}")))
}

fn missing_column(name: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_COLUMN,
        format!("column \"{name}\" does not exist"),
    )
}

fn index_columns(
    d: &DdlContext<'_>,
    table: &Arc<Table>,
    given: &[ast::IndexColumn],
) -> Result<Vec<IndexColumn>> {
    if given.len() > MAX_KEY_COLUMNS {
        return Err(Error::new(
            SqlState::TOO_MANY_COLUMNS,
            format!("cannot use more than {MAX_KEY_COLUMNS} columns in an index"),
        ));
    }
    let mut out = Vec::with_capacity(given.len());
    for column in given {
        if let Some(class) = &column.operator_class {
            let class = class.to_string().to_ascii_lowercase();
            // In collation C the pattern classes order like the default ones.
            if !class.ends_with("_ops") {
                return Err(Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!(
                        "operator class \"{class}\" does not exist for access method \"btree\""
                    ),
                ));
            }
        }
        let mut expr = &column.column.expr;
        while let Expr::Nested(inner) = expr {
            expr = inner;
        }
        let key = match expr {
            Expr::Identifier(name) => {
                let name = ident(name);
                let position = table
                    .column_position(&name)
                    .ok_or_else(|| missing_column(&name))?;
                must_be_orderable(&table.columns[position].sql_type)?;
                IndexKey::Column(position)
            }
            expression => {
                if has_subquery(expression) {
                    return Err(Error::new(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "cannot use subquery in index expression",
                    ));
                }
                let found = d
                    .analyser
                    .expression(d.catalog, Some(table), expression, None)?;
                if found.volatility != Volatility::Immutable {
                    return Err(Error::new(
                        INVALID_OBJECT_DEFINITION,
                        "functions in index expression must be marked IMMUTABLE",
                    ));
                }
                let sql_type = match found.sql_type {
                    SqlType::Unknown => SqlType::Text,
                    known => known,
                };
                must_be_orderable(&sql_type)?;
                IndexKey::Expression(expression.to_string(), sql_type)
            }
        };
        let descending = column.column.options.asc == Some(false);
        out.push(IndexColumn {
            key,
            descending,
            nulls_first: column.column.options.nulls_first.unwrap_or(descending),
        });
    }
    Ok(out)
}

fn predicate(d: &DdlContext<'_>, table: &Arc<Table>, condition: &Expr) -> Result<String> {
    if has_subquery(condition) {
        return Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "cannot use subquery in index predicate",
        ));
    }
    let found = d
        .analyser
        .expression(d.catalog, Some(table), condition, Some(&SqlType::Bool))?;
    if found.volatility != Volatility::Immutable {
        return Err(Error::new(
            INVALID_OBJECT_DEFINITION,
            "functions in index predicate must be marked IMMUTABLE",
        ));
    }
    Ok(condition.to_string())
}

/// `table_column_…_idx`; an expression is called by its function, or `expr`.
fn automatic_name(d: &DdlContext<'_>, table: &Table, columns: &[IndexColumn]) -> String {
    let mut names: Vec<String> = Vec::new();
    for column in columns {
        let base = match &column.key {
            IndexKey::Column(position) => table.columns[*position].name.clone(),
            IndexKey::Expression(text, _) => match text.split_once('(') {
                Some((function, _))
                    if !function.is_empty()
                        && function
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || b == b'_') =>
                {
                    function.to_ascii_lowercase()
                }
                _ => "expr".into(),
            },
        };
        let mut name = base.clone();
        let mut suffix = 1;
        while names.contains(&name) {
            name = format!("{base}{suffix}");
            suffix += 1;
        }
        names.push(name);
    }
    let joined = join_columns(names.iter().map(String::as_str));
    choose_relation_name(
        d,
        table.schema,
        &table.name,
        Some(&joined),
        "idx",
        &BTreeSet::new(),
    )
}

pub(super) async fn alter_index(
    d: &mut DdlContext<'_>,
    name: &ObjectName,
    operation: &AlterIndexOperation,
) -> Result<&'static str> {
    let AlterIndexOperation::RenameIndex { index_name } = operation;
    let (schema, name) = object_name(d, name)?;
    let Relation::Index(table, oid) = d.require(schema.as_deref(), &name)? else {
        return Err(wrong_kind(&name, "an index"));
    };
    let (_, new) = object_name(d, index_name)?;
    rename_index(d, table.oid, oid, &new).await?;
    Ok("ALTER INDEX")
}

/// Renames an index, and with it the constraint that it serves.
pub(super) async fn rename_index(
    d: &mut DdlContext<'_>,
    table: ObjectId,
    oid: ObjectId,
    new: &str,
) -> Result<()> {
    let table = d.lock_table(table).await?;
    d.must_own(table.owner, "table", &table.name)?;
    let Some(old) = table_index_names(&table)
        .find(|(_, index)| *index == oid)
        .map(|(name, _)| name.to_string())
    else {
        // Dropped while the table's lock was waited for.
        return Err(gone(oid));
    };
    d.rename_relation(table.schema, &old, new, oid).await?;
    let mut changed = (*table).clone();
    if let Some(key) = changed.primary_key.as_mut().filter(|key| key.oid == oid) {
        key.name = new.to_string();
    }
    if let Some(index) = changed.indexes.iter_mut().find(|index| index.oid == oid) {
        index.name = new.to_string();
    }
    d.put_table(changed)?;
    Ok(())
}

/// Columns that an index needs: its own, those of its expressions and of its predicate.
pub(super) fn columns_needed(table: &Table, index: &Index) -> Result<BTreeSet<usize>> {
    let mut out: BTreeSet<usize> = index.include.iter().copied().collect();
    for column in &index.columns {
        match &column.key {
            IndexKey::Column(position) => {
                out.insert(*position);
            }
            IndexKey::Expression(text, _) => {
                out.extend(columns_used(
                    table,
                    &super::constraints::parse_expression(text)?,
                ));
            }
        }
    }
    if let Some(text) = &index.predicate {
        out.extend(columns_used(
            table,
            &super::constraints::parse_expression(text)?,
        ));
    }
    Ok(out)
}
