//! `ALTER TABLE … ADD COLUMN`: the column, the values of rows that are there, then its constraints.

use super::alter_table::{current, settle};
use super::constraints::{self, Pending, parse_expression};
use super::context::DdlContext;
use super::create_table::{check_generated, define_column};
use super::names::ident;
use super::{rewrite, rows};
use crate::catalog::descriptor::*;
use crate::functions::Volatility;
use sqlparser::ast;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::text::FormatContext;
use types::{Error, Result, SqlState};

pub(super) async fn add_column(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    definition: &ast::ColumnDef,
    if_not_exists: bool,
) -> Result<()> {
    let name = ident(&definition.name);
    if table.column_position(&name).is_some() {
        let text = format!(
            "column \"{name}\" of relation \"{}\" already exists",
            table.name
        );
        if !if_not_exists {
            return Err(Error::new(SqlState::DUPLICATE_COLUMN, text));
        }
        d.notice_of(SqlState::DUPLICATE_COLUMN, format!("{text}, skipping"));
        return Ok(());
    }
    let mut changed = (**table).clone();
    let mut pending = Pending::default();
    let (position, rest) = define_column(d, &mut changed, definition, &mut pending).await?;
    check_generated(d, &changed)?;
    for created in std::mem::take(&mut pending.sequences) {
        d.put(Descriptor::Sequence(created))?;
    }
    // Keys and checks of the column come after its values.
    let filled = fill_column(d, table, changed, position).await?;
    for (name, option) in rest {
        let mut changed = (*current(d, filled.oid)?).clone();
        let before = current(d, filled.oid)?;
        let added = constraints::add_at_column(
            d,
            &mut changed,
            position,
            name.as_ref(),
            &option,
            &mut pending,
        )
        .await?;
        settle(d, &before, changed, vec![added]).await?;
    }
    Ok(())
}

/// Gives existing rows the new column's value: by remembering a constant, or by a rewrite.
async fn fill_column(
    d: &mut DdlContext<'_>,
    old: &Arc<Table>,
    mut changed: Table,
    position: usize,
) -> Result<Arc<Table>> {
    let column = changed.columns[position].clone();
    if rows::is_empty(d, old).await? {
        return d.put_table(changed);
    }
    let value = if let Some(sequence) = column.owned_sequence {
        rewrite::NewValue::Nextval(sequence)
    } else if let Some(text) = &column.generated {
        let shared = Arc::new(changed.clone());
        let found = d.analyser.expression(
            d.catalog,
            Some(&shared),
            &parse_expression(text)?,
            Some(&column.sql_type),
        )?;
        rewrite::NewValue::Of(found.expression)
    } else if let Some(text) = &column.default {
        let found = d.analyser.expression(
            d.catalog,
            None,
            &parse_expression(text)?,
            Some(&column.sql_type),
        )?;
        if found.volatility != Volatility::Volatile {
            let value = found.expression.evaluate(&[], d.statement)?;
            if value.is_null() && column.not_null {
                return Err(contains_nulls(&changed, &column.name));
            }
            changed.columns[position].missing = (!value.is_null())
                .then(|| value.to_text(&column.sql_type, &FormatContext::default()));
            return d.put_table(changed);
        }
        rewrite::NewValue::Of(found.expression)
    } else if column.not_null {
        return Err(contains_nulls(&changed, &column.name));
    } else {
        return d.put_table(changed);
    };
    changed.data_id = d.data_id_for(&changed).await?;
    for column in &mut changed.columns {
        column.missing = None;
    }
    let new = d.put_table(changed)?;
    rewrite::rewrite(d, old, &new, &BTreeMap::from([(position, value)])).await?;
    Ok(new)
}

fn contains_nulls(table: &Table, column: &str) -> Error {
    Error::new(
        SqlState::NOT_NULL_VIOLATION,
        format!(
            "column \"{column}\" of relation \"{}\" contains null values",
            table.name
        ),
    )
    .table(&table.name)
    .column(column)
}
