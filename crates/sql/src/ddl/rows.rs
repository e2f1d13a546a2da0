//! Going through a table's rows within the DDL transaction: to build an index, to check a
//! constraint, to rewrite (`rewrite`).
//!
//! Everything written here is buffered by the transaction, so a build is bounded by the
//! transaction's memory limit (53200 beyond it).

use super::DdlContext;
use super::analysis::{Analysed, RowExpression};
use super::constraints::parse_expression;
use super::new_rows::NewRows;
use crate::catalog::descriptor::*;
use crate::context::{ReadView, StatementContext};
use crate::table_codec::{Access, TableCodec};
use std::collections::VecDeque;
use std::sync::Arc;
use txn::kv::{Key, Span};
use types::{Datum, Error, Result, Row, SqlState, SqlType};

/// Rows of one page: enough to hide a page's fixed cost, which is a round trip at a node that does not hold the
/// lease, few enough to notice a cancel soon.
const PAGE_ROWS: usize = 10_000;
const PAGE_BYTES: usize = 4 << 20;

/// A cursor over the rows of a locked table as they are now, own writes included: whoever held the lock
/// before may have written some after the transaction's snapshot.
pub(super) struct Rows {
    codec: TableCodec,
    /// What is not read yet.
    spans: VecDeque<Span>,
    view: ReadView,
}

impl Rows {
    pub async fn open(d: &DdlContext<'_>, table: &Arc<Table>) -> Result<Self> {
        let codec = TableCodec::new(Arc::clone(table))?;
        let spans = codec.spans(Access::Primary).into_iter().collect();
        let view = d.newest_view().await?;
        Ok(Rows { codec, spans, view })
    }

    /// The next page; empty at the end.
    pub async fn next(&mut self, ctx: &StatementContext) -> Result<Vec<(Key, Row)>> {
        let mut out = Vec::new();
        while out.is_empty() {
            let Some(span) = self.spans.pop_front() else {
                break;
            };
            ctx.cancel.check()?;
            let page = self
                .view
                .scan(span.clone(), false, PAGE_ROWS, PAGE_BYTES)
                .await?;
            out.reserve(page.rows.len());
            for (key, value, _) in page.rows {
                out.push((key, self.codec.decode_whole_row(&value)?));
            }
            if let Some(start) = page.resume {
                self.spans.push_front(Span {
                    start,
                    end: span.end,
                });
            }
        }
        Ok(out)
    }
}

/// Whether a locked table has any row.
pub(super) async fn is_empty(d: &DdlContext<'_>, table: &Arc<Table>) -> Result<bool> {
    let spans = TableCodec::new(Arc::clone(table))?.spans(Access::Primary);
    let view = d.newest_view().await?;
    for span in spans {
        let page = view.scan(span, false, 1, PAGE_BYTES).await?;
        if !page.rows.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The expressions of one index, ready to be evaluated.
pub(super) struct IndexExpressions {
    /// For each of the index's columns; none for plain columns.
    keys: Vec<Option<Box<dyn RowExpression>>>,
    predicate: Option<Box<dyn RowExpression>>,
}

impl IndexExpressions {
    pub fn new(d: &DdlContext<'_>, table: &Arc<Table>, index: &Index) -> Result<Self> {
        let analyse = |text: &str, target: Option<&SqlType>| -> Result<Analysed> {
            d.analyser
                .expression(d.catalog, Some(table), &parse_expression(text)?, target)
        };
        let mut keys = Vec::with_capacity(index.columns.len());
        for column in &index.columns {
            keys.push(match &column.key {
                IndexKey::Column(_) => None,
                IndexKey::Expression(text, sql_type) => {
                    Some(analyse(text, Some(sql_type))?.expression)
                }
            });
        }
        let predicate = match &index.predicate {
            Some(text) => Some(analyse(text, Some(&SqlType::Bool))?.expression),
            None => None,
        };
        Ok(IndexExpressions { keys, predicate })
    }

    /// The row's key values; `None` if the predicate leaves it out.
    fn values(&self, index: &Index, row: &[Datum], ctx: &StatementContext) -> Result<Option<Row>> {
        if let Some(predicate) = &self.predicate
            && predicate.evaluate(row, ctx)? != Datum::Bool(true)
        {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(self.keys.len());
        for (column, expression) in index.columns.iter().zip(&self.keys) {
            values.push(match (&column.key, expression) {
                (_, Some(expression)) => expression.evaluate(row, ctx)?,
                (IndexKey::Column(position), None) => row[*position].clone(),
                (IndexKey::Expression(..), None) => Datum::Null,
            });
        }
        Ok(Some(values))
    }
}

/// Writes the entries of an index for all rows of a table that is in the catalog with it.
pub(super) async fn build_index(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    at: usize,
) -> Result<()> {
    let mut rows = Rows::open(d, table).await?;
    let mut page = rows.next(d.statement).await?;
    if page.is_empty() {
        return Ok(());
    }
    let codec = TableCodec::new(Arc::clone(table))?;
    let index = &table.indexes[at];
    let expressions = IndexExpressions::new(d, table, index)?;
    while !page.is_empty() {
        let mut entries = NewRows::with_capacity(page.len());
        let mut indexed = Vec::with_capacity(page.len());
        for (row_key, row) in &page {
            let Some(values) = expressions.values(index, row, d.statement)? else {
                continue;
            };
            let entry = codec.index_key(at, &values, row_key);
            entries.add(&entry.key, entry.unique, |out| {
                out.extend_from_slice(codec.row_suffix(row_key));
                Ok(())
            })?;
            indexed.push(values);
        }
        if let Some(number) = entries.put(d.txn)? {
            return Err(duplicate(table, index, &indexed[number])?);
        }
        page = rows.next(d.statement).await?;
    }
    Ok(())
}

/// Marks the index's entries as gone: they are deleted in this transaction.
pub(super) async fn delete_index_entries(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    index: &Index,
) -> Result<()> {
    let Some(at) = table
        .indexes
        .iter()
        .position(|known| known.oid == index.oid)
    else {
        return Ok(());
    };
    let view = d.newest_view().await?;
    for mut span in TableCodec::new(Arc::clone(table))?.spans(Access::Secondary(at)) {
        loop {
            d.statement.cancel.check()?;
            let page = view
                .scan(span.clone(), false, PAGE_ROWS, PAGE_BYTES)
                .await?;
            for (key, _, _) in page.rows {
                d.txn.delete(key)?;
            }
            match page.resume {
                Some(resume) => span.start = resume,
                None => break,
            }
        }
    }
    Ok(())
}

fn duplicate(table: &Table, index: &Index, values: &[Datum]) -> Result<Error> {
    Ok(Error::new(
        SqlState::UNIQUE_VIOLATION,
        format!("could not create unique index \"{}\"", index.name),
    )
    .detail(format!(
        "Key {} is duplicated.",
        key_text(table, &index.columns, values)
    ))
    .table(&table.name)
    .constraint(&index.name))
}

/// `(a, b)=(1, x)`.
pub(super) fn key_text(table: &Table, columns: &[IndexColumn], values: &[Datum]) -> String {
    let mut names = Vec::new();
    let mut shown = Vec::new();
    for (column, value) in columns.iter().zip(values) {
        match &column.key {
            IndexKey::Column(position) => {
                let column = &table.columns[*position];
                names.push(column.name.clone());
                shown.push(text_of(value, &column.sql_type));
            }
            IndexKey::Expression(text, sql_type) => {
                names.push(text.clone());
                shown.push(text_of(value, sql_type));
            }
        }
    }
    format!("({})=({})", names.join(", "), shown.join(", "))
}

pub(super) fn text_of(value: &Datum, sql_type: &SqlType) -> String {
    match value {
        Datum::Null => "null".into(),
        value => value.to_text(sql_type, &types::text::FormatContext::default()),
    }
}

/// Checks that no row has NULL in the column (23502).
pub(super) async fn check_not_null(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    columns: &[usize],
) -> Result<()> {
    let mut rows = Rows::open(d, table).await?;
    loop {
        let page = rows.next(d.statement).await?;
        if page.is_empty() {
            return Ok(());
        }
        for (_, row) in &page {
            for position in columns {
                if row[*position].is_null() {
                    let column = &table.columns[*position].name;
                    return Err(Error::new(
                        SqlState::NOT_NULL_VIOLATION,
                        format!(
                            "column \"{column}\" of relation \"{}\" contains null values",
                            table.name
                        ),
                    )
                    .table(&table.name)
                    .column(column));
                }
            }
        }
    }
}

/// Checks that no row makes the condition false (23514).
pub(super) async fn check_rows(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    check: &Check,
) -> Result<()> {
    let mut rows = Rows::open(d, table).await?;
    let mut page = rows.next(d.statement).await?;
    if page.is_empty() {
        return Ok(());
    }
    let condition = d
        .analyser
        .expression(
            d.catalog,
            Some(table),
            &parse_expression(&check.expression)?,
            Some(&SqlType::Bool),
        )?
        .expression;
    while !page.is_empty() {
        for (_, row) in &page {
            if condition.evaluate(row, d.statement)? == Datum::Bool(false) {
                return Err(Error::new(
                    SqlState::CHECK_VIOLATION,
                    format!(
                        "check constraint \"{}\" of relation \"{}\" is violated by some row",
                        check.name, table.name
                    ),
                )
                .table(&table.name)
                .constraint(&check.name));
            }
        }
        page = rows.next(d.statement).await?;
    }
    Ok(())
}

/// Checks that each row's foreign key finds its referenced row (23503).
pub(super) async fn check_foreign_key(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    key: &ForeignKey,
) -> Result<()> {
    let mut rows = Rows::open(d, table).await?;
    let mut page = rows.next(d.statement).await?;
    if page.is_empty() {
        return Ok(());
    }
    let referenced = d
        .catalog
        .table(key.referenced_table)
        .cloned()
        .ok_or_else(|| Error::internal("a referenced table is not in the catalog"))?;
    let codec = TableCodec::new(Arc::clone(&referenced))?;
    let (access, order) = lookup(&referenced, key)?;
    let view = d.newest_view().await?;
    while !page.is_empty() {
        for (_, row) in &page {
            let nulls = key.columns.iter().filter(|at| row[**at].is_null()).count();
            if nulls == key.columns.len() || (nulls > 0 && !key.match_full) {
                continue;
            }
            let found = nulls == 0 && {
                let mut values = Vec::with_capacity(order.len());
                for (from, to) in &order {
                    let to_type = &referenced.columns[*to].sql_type;
                    values.push(as_key_type(&row[key.columns[*from]], to_type));
                }
                // An integer that the referenced type cannot hold is not there.
                match values.into_iter().collect::<Option<Vec<Datum>>>() {
                    Some(values) => match codec.point(access, &values) {
                        Some(point) => view.get(&point).await?.is_some(),
                        None => false,
                    },
                    None => false,
                }
            };
            if !found {
                return Err(missing_reference(table, &referenced, key, row));
            }
        }
        page = rows.next(d.statement).await?;
    }
    Ok(())
}

/// The access path that finds referenced rows, and for each of its columns: the place in the
/// foreign key and the column's position.
fn lookup(referenced: &Table, key: &ForeignKey) -> Result<(Access, Vec<(usize, usize)>)> {
    let order_of = |columns: &[usize]| -> Option<Vec<(usize, usize)>> {
        if columns.len() != key.referenced_columns.len() {
            return None;
        }
        columns
            .iter()
            .map(|column| {
                let at = key.referenced_columns.iter().position(|c| c == column)?;
                Some((at, *column))
            })
            .collect()
    };
    if let Some(primary) = &referenced.primary_key
        && let Some(order) = order_of(&primary.columns)
    {
        return Ok((Access::Primary, order));
    }
    for (at, index) in referenced.indexes.iter().enumerate() {
        if index.unique
            && index.predicate.is_none()
            && let Some(columns) = super::constraints::index_positions(index)
            && let Some(order) = order_of(&columns)
        {
            return Ok((Access::Secondary(at), order));
        }
    }
    Err(Error::internal(
        "a foreign key's referenced columns have no index",
    ))
}

/// An integer in the width of another integer type; other values as they are.
fn as_key_type(value: &Datum, sql_type: &SqlType) -> Option<Datum> {
    let wide = match value {
        Datum::Int2(n) => i64::from(*n),
        Datum::Int4(n) => i64::from(*n),
        Datum::Int8(n) => *n,
        other => return Some(other.clone()),
    };
    match sql_type {
        SqlType::Int2 => i16::try_from(wide).ok().map(Datum::Int2),
        SqlType::Int4 => i32::try_from(wide).ok().map(Datum::Int4),
        _ => Some(Datum::Int8(wide)),
    }
}

fn missing_reference(table: &Table, referenced: &Table, key: &ForeignKey, row: &Row) -> Error {
    let names: Vec<&str> = key
        .columns
        .iter()
        .map(|at| table.columns[*at].name.as_str())
        .collect();
    let values: Vec<String> = key
        .columns
        .iter()
        .map(|at| text_of(&row[*at], &table.columns[*at].sql_type))
        .collect();
    Error::new(
        SqlState::FOREIGN_KEY_VIOLATION,
        format!(
            "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
            table.name, key.name
        ),
    )
    .detail(format!(
        "Key ({})=({}) is not present in table \"{}\".",
        names.join(", "),
        values.join(", "),
        referenced.name
    ))
    .table(&table.name)
    .constraint(&key.name)
}
