//! Rewriting a table: all of its rows in another layout, under other keys.

use super::DdlContext;
use super::analysis::RowExpression;
use super::new_rows::NewRows;
use super::rows::{Rows, build_index, key_text};
use crate::catalog::descriptor::*;
use crate::table_codec::TableCodec;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{Datum, Error, Result, Row, SqlState, SqlType};

/// How a rewrite fills one column.
pub(super) enum NewValue {
    /// An expression over the old row.
    Of(Box<dyn RowExpression>),
    /// The next value of a sequence, for each row.
    Nextval(ObjectId),
}

/// Moves all rows of `old` to `new`'s layout, keys and data id, with some columns replaced, and
/// builds all indexes of `new`, which is in the catalog already. The old rows wait for deletion.
pub(super) async fn rewrite(
    d: &mut DdlContext<'_>,
    old: &Arc<Table>,
    new: &Arc<Table>,
    replaced: &BTreeMap<usize, NewValue>,
) -> Result<()> {
    let codec = TableCodec::new(Arc::clone(new))?;
    let mut rows = Rows::open(d, old).await?;
    loop {
        let page = rows.next(d.statement).await?;
        if page.is_empty() {
            break;
        }
        let mut moved = NewRows::with_capacity(page.len());
        let mut new_rows = Vec::with_capacity(page.len());
        let mut failed = None;
        for (old_key, old_row) in &page {
            let row = match new_row(d, new, old_row, replaced).await {
                Ok(row) => row,
                Err(error) => {
                    // The rows before it may be wrong, too.
                    failed = Some(error);
                    break;
                }
            };
            let key = if codec.has_primary_key() {
                codec.row_key(&row)
            } else if old.primary_key.is_none() {
                // The hidden row id stays.
                codec.row_key_of_suffix(codec.row_suffix(old_key))
            } else {
                codec.row_id_key(d.statement.row_ids.take(1).await?)
            };
            moved.add(&key, codec.has_primary_key(), |out| {
                codec.layout().encode(&row, out)
            })?;
            new_rows.push(row);
        }
        if let Some(number) = moved.put(d.txn)?
            && let Some(primary) = &new.primary_key
        {
            return Err(duplicate_primary(new, primary, &new_rows[number]));
        }
        if let Some(error) = failed {
            return Err(error);
        }
    }
    for at in 0..new.indexes.len() {
        build_index(d, new, at).await?;
    }
    super::cleanup::mark(d.txn, old.data_id)
}

/// A row in the new layout.
async fn new_row(
    d: &DdlContext<'_>,
    new: &Table,
    old_row: &Row,
    replaced: &BTreeMap<usize, NewValue>,
) -> Result<Row> {
    let mut row = old_row.clone();
    row.resize(new.columns.len(), Datum::Null);
    for (position, value) in replaced {
        row[*position] = match value {
            NewValue::Of(expression) => expression.evaluate(old_row, d.statement)?,
            NewValue::Nextval(sequence) => integer_datum(
                d.statement.effects.nextval(*sequence).await?,
                &new.columns[*position].sql_type,
            ),
        };
    }
    for (position, column) in new.live_columns() {
        if column.not_null && row[position].is_null() {
            return Err(Error::new(
                SqlState::NOT_NULL_VIOLATION,
                format!(
                    "column \"{}\" of relation \"{}\" contains null values",
                    column.name, new.name
                ),
            )
            .table(&new.name)
            .column(&column.name));
        }
    }
    Ok(row)
}

fn integer_datum(value: i64, sql_type: &SqlType) -> Datum {
    match sql_type {
        SqlType::Int2 => Datum::Int2(value as i16),
        SqlType::Int4 => Datum::Int4(value as i32),
        _ => Datum::Int8(value),
    }
}

fn duplicate_primary(table: &Table, primary: &PrimaryKey, row: &[Datum]) -> Error {
    let columns: Vec<IndexColumn> = primary
        .columns
        .iter()
        .map(|position| IndexColumn {
            key: IndexKey::Column(*position),
            descending: false,
            nulls_first: false,
        })
        .collect();
    let values: Vec<Datum> = primary.columns.iter().map(|at| row[*at].clone()).collect();
    Error::new(
        SqlState::UNIQUE_VIOLATION,
        format!("could not create unique index \"{}\"", primary.name),
    )
    .detail(format!(
        "Key {} is duplicated.",
        key_text(table, &columns, &values)
    ))
    .table(&table.name)
    .constraint(&primary.name)
}
