//! ALTER TABLE … ALTER COLUMN.

use super::constraints::{Pending, columns_used, has_subquery, is_unique, parse_expression};
use super::context::DdlContext;
use super::create_table::{column_type, default_text};
use super::drop::remove_sequence;
use super::names::{ident, quote_ident};
use super::rewrite::{self, NewValue};
use super::rows;
use super::sequence::owned_sequence;
use crate::catalog::descriptor::*;
use sqlparser::ast::{self, AlterColumnOperation, DataType, Expr, GeneratedAs, Ident};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use types::row::same_storage;
use types::{Error, Result, SqlState, SqlType};

pub(super) async fn alter_column(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    position: usize,
    operation: &AlterColumnOperation,
) -> Result<()> {
    let mut changed = (**table).clone();
    let column = &mut changed.columns[position];
    match operation {
        AlterColumnOperation::SetNotNull => {
            if column.not_null {
                return Ok(());
            }
            column.not_null = true;
            rows::check_not_null(d, table, &[position]).await?;
        }
        AlterColumnOperation::DropNotNull => {
            if table
                .primary_key
                .as_ref()
                .is_some_and(|key| key.columns.contains(&position))
            {
                return Err(Error::new(
                    SqlState::INVALID_TABLE_DEFINITION,
                    format!("column \"{}\" is in a primary key", column.name),
                ));
            }
            if column.identity.is_some() {
                return Err(Error::syntax(format!(
                    "column \"{}\" of relation \"{}\" is an identity column",
                    column.name, table.name
                )));
            }
            column.not_null = false;
        }
        AlterColumnOperation::SetDefault { value } => {
            refuse_generated(table, column)?;
            column.default = default_text(d, column, value)?;
        }
        AlterColumnOperation::DropDefault => {
            refuse_generated(table, column)?;
            column.default = None;
        }
        AlterColumnOperation::SetDataType {
            data_type, using, ..
        } => return set_data_type(d, table, position, data_type, using.as_ref()).await,
        AlterColumnOperation::AddGenerated {
            generated_as,
            sequence_options,
        } => {
            let kind = match generated_as {
                Some(GeneratedAs::ByDefault) => Identity::ByDefault,
                _ => Identity::Always,
            };
            let options = sequence_options.clone().unwrap_or_default();
            return add_identity(d, table, position, kind, &options).await;
        }
    }
    d.put_table(changed)?;
    Ok(())
}

fn refuse_generated(table: &Table, column: &Column) -> Result<()> {
    let what = if column.identity.is_some() {
        "an identity"
    } else if column.generated.is_some() {
        "a generated"
    } else {
        return Ok(());
    };
    Err(Error::syntax(format!(
        "column \"{}\" of relation \"{}\" is {what} column",
        column.name, table.name
    )))
}

/// `ALTER COLUMN … DROP IDENTITY`.
pub(super) async fn drop_identity(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    position: usize,
    if_exists: bool,
) -> Result<()> {
    let mut changed = (**table).clone();
    let column = &mut changed.columns[position];
    if column.identity.take().is_none() {
        let text = format!(
            "column \"{}\" of relation \"{}\" is not an identity column",
            column.name, table.name
        );
        if !if_exists {
            return Err(Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, text));
        }
        d.notice(format!("{text}, skipping"));
        return Ok(());
    }
    let sequence = column.owned_sequence.take();
    d.put_table(changed)?;
    if let Some(sequence) = sequence {
        let sequence = d.lock_sequence(sequence).await?;
        remove_sequence(d, &sequence).await?;
    }
    Ok(())
}

async fn set_data_type(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    position: usize,
    data_type: &DataType,
    using: Option<&Expr>,
) -> Result<()> {
    let old = &table.columns[position];
    let sql_type = column_type(&old.name, data_type)?;
    if old.generated.is_some() && using.is_some() {
        return Err(Error::new(
            SqlState::INVALID_COLUMN_DEFINITION,
            "cannot specify USING when altering type of generated column",
        ));
    }
    let used_by_view = d
        .catalog
        .views(table.database)
        .any(|view| view.depends_on.contains(&table.oid));
    if used_by_view {
        return Err(Error::unsupported(
            "altering the type of a column of a table that a view uses",
        )
        .detail("Drop the view, alter the column, and create the view again."));
    }
    let mut changed = (**table).clone();
    let column = &mut changed.columns[position];
    column.sql_type = sql_type.clone();
    if let Some(text) = &column.default {
        let value = parse_expression(text)?;
        let probe = column.clone();
        column.default = default_text(d, &probe, &value).map_err(|_| {
            Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "default for column \"{}\" cannot be cast automatically to type {}",
                    probe.name,
                    sql_type.bare_name()
                ),
            )
        })?;
    }
    if column.identity.is_some() && !sql_type.is_integer() {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "identity column type must be smallint, integer, or bigint",
        ));
    }
    check_foreign_keys(d, table, position, &old.sql_type, &sql_type)?;
    recheck_expressions(d, &mut changed, position)?;
    let only_wider = using.is_none() && is_widening(&old.sql_type, &sql_type);
    let in_place = only_wider && same_storage(&old.sql_type, &sql_type);
    if in_place || rows::is_empty(d, table).await? {
        d.put_table(changed)?;
        return Ok(());
    }
    let source = match using {
        Some(expression) => {
            if has_subquery(expression) {
                return Err(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "cannot use subquery in transform expression",
                ));
            }
            expression.clone()
        }
        None => Expr::Identifier(Ident::with_quote('"', &old.name)),
    };
    let found = d
        .analyser
        .expression(d.catalog, Some(table), &source, Some(&sql_type))
        .map_err(|error| match error.state {
            SqlState::DATATYPE_MISMATCH | SqlState::CANNOT_COERCE if using.is_none() => {
                let name = quote_ident(&old.name);
                Error::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!(
                        "column \"{}\" cannot be cast automatically to type {}",
                        old.name,
                        sql_type.bare_name()
                    ),
                )
                .hint(format!(
                    "You might need to specify \"USING {name}::{}\".",
                    sql_type.name()
                ))
            }
            _ => error,
        })?;
    changed.data_id = d.data_id_for(&changed).await?;
    for column in &mut changed.columns {
        column.missing = None;
    }
    let new = d.put_table(changed)?;
    let replaced = BTreeMap::from([(position, NewValue::Of(found.expression))]);
    rewrite::rewrite(d, table, &new, &replaced).await
}

/// Types between which every value stays what it is, so rows need no look.
fn is_widening(old: &SqlType, new: &SqlType) -> bool {
    match (old, new) {
        _ if old == new => true,
        (SqlType::Varchar(_) | SqlType::Text, SqlType::Text | SqlType::Varchar(None)) => true,
        (SqlType::Varchar(Some(a)), SqlType::Varchar(Some(b))) => a <= b,
        (SqlType::Numeric(_), SqlType::Numeric(None)) => true,
        (SqlType::Numeric(Some((p, s))), SqlType::Numeric(Some((q, t)))) => s == t && p <= q,
        _ => false,
    }
}

/// A key column may only change within what the other side compares with.
fn check_foreign_keys(
    d: &DdlContext<'_>,
    table: &Table,
    position: usize,
    old: &SqlType,
    new: &SqlType,
) -> Result<()> {
    if old.same_base(new) || (old.is_integer() && new.is_integer()) {
        return Ok(());
    }
    let own = table
        .foreign_keys
        .iter()
        .any(|key| key.columns.contains(&position));
    let of_others = d.catalog.referencing_tables(table.oid).any(|other| {
        other.foreign_keys.iter().any(|key| {
            key.referenced_table == table.oid
                && key.referenced_columns.contains(&position)
                && is_unique(table, &key.referenced_columns)
        })
    });
    if own || of_others {
        return Err(Error::unsupported(
            "changing the type of a column in a foreign key",
        ));
    }
    Ok(())
}

/// Checks, generated columns and index expressions over the column must still make sense.
fn recheck_expressions(d: &DdlContext<'_>, changed: &mut Table, position: usize) -> Result<()> {
    let shared = Arc::new(changed.clone());
    let uses = |text: &str| -> Result<Option<Expr>> {
        let expression = parse_expression(text)?;
        Ok(columns_used(&shared, &expression)
            .contains(&position)
            .then_some(expression))
    };
    for check in &shared.checks {
        if let Some(expression) = uses(&check.expression)? {
            d.analyser
                .expression(d.catalog, Some(&shared), &expression, Some(&SqlType::Bool))?;
        }
    }
    for (_, column) in shared.live_columns() {
        if let Some(text) = &column.generated
            && uses(text)?.is_some()
        {
            return Err(Error::new(
                SqlState::SYNTAX_ERROR,
                "cannot alter type of a column used by a generated column",
            )
            .detail(format!(
                "Column \"{}\" is used by generated column \"{}\".",
                shared.columns[position].name, column.name
            )));
        }
    }
    for index in &mut changed.indexes {
        for column in &mut index.columns {
            if let IndexKey::Expression(text, sql_type) = &mut column.key
                && let Some(expression) = uses(text)?
            {
                *sql_type = d
                    .analyser
                    .expression(d.catalog, Some(&shared), &expression, None)?
                    .sql_type;
            }
        }
    }
    Ok(())
}

/// The expression's text with one column renamed.
pub(super) fn rename_in(text: &str, old: &str, new: &str) -> Result<String> {
    let mut expression = parse_expression(text)?;
    let renamed = |name: &mut Ident| {
        if ident(name) == old {
            *name = if quote_ident(new) == new {
                Ident::new(new)
            } else {
                Ident::with_quote('"', new)
            };
        }
    };
    let _ = ast::visit_expressions_mut(&mut expression, |part| {
        match part {
            Expr::Identifier(name) => renamed(name),
            Expr::CompoundIdentifier(parts) => {
                if let Some(name) = parts.last_mut() {
                    renamed(name);
                }
            }
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    Ok(expression.to_string())
}

/// Makes a column an IDENTITY column.
async fn add_identity(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    position: usize,
    kind: Identity,
    options: &[ast::SequenceOptions],
) -> Result<()> {
    let column = &table.columns[position];
    let refuse = |message: String| {
        Err(Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            message,
        ))
    };
    if column.identity.is_some() {
        return refuse(format!(
            "column \"{}\" of relation \"{}\" is already an identity column",
            column.name, table.name
        ));
    }
    if column.default.is_some() {
        return refuse(format!(
            "column \"{}\" of relation \"{}\" already has a default value",
            column.name, table.name
        ));
    }
    if !column.not_null {
        return refuse(format!(
            "column \"{}\" of relation \"{}\" must be declared NOT NULL before identity can be added",
            column.name, table.name
        ));
    }
    if !column.sql_type.is_integer() {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "identity column type must be smallint, integer, or bigint",
        ));
    }
    let mut changed = (**table).clone();
    let mut pending = Pending::default();
    let sql_type = column.sql_type.clone();
    let oid = owned_sequence(d, &changed, position, sql_type, options, &mut pending).await?;
    changed.columns[position].identity = Some(kind);
    changed.columns[position].owned_sequence = Some(oid);
    for created in pending.sequences {
        d.put(Descriptor::Sequence(created))?;
    }
    d.put_table(changed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renames_only_columns() {
        assert_eq!(
            rename_in("a > 0 AND lower(b) = 'a'", "a", "New").unwrap(),
            "\"New\" > 0 AND lower(b) = 'a'"
        );
    }

    #[test]
    fn widening() {
        let varchar = |n| SqlType::Varchar(Some(n));
        assert!(is_widening(&varchar(5), &varchar(10)));
        assert!(!is_widening(&varchar(10), &varchar(5)));
        assert!(is_widening(&varchar(10), &SqlType::Text));
        assert!(!is_widening(&SqlType::Int4, &SqlType::Int8));
    }
}
