//! Constraint errors in PostgreSQL's words.

use super::prepared::Prepared;
use crate::catalog::descriptor::ForeignKey;
use crate::context::StatementContext;
use crate::query::casts::format_context;
use types::{Datum, Error, SqlState, SqlType};

/// How much of a value a message shows, in bytes.
const SHOWN_VALUE_BYTES: usize = 64;

fn at(error: Error, prepared: &Prepared) -> Error {
    error
        .schema(prepared.schema_name.clone())
        .table(prepared.table.name.clone())
}

fn shown(value: &Datum, sql_type: &SqlType, ctx: &StatementContext) -> String {
    if value.is_null() {
        return "null".into();
    }
    value.to_text(sql_type, &format_context(&ctx.settings))
}

/// `Failing row contains (1, null).`
fn failing_row(prepared: &Prepared, row: &[Datum], ctx: &StatementContext) -> String {
    let values: Vec<String> = prepared
        .live
        .iter()
        .map(|position| {
            let column = &prepared.table.columns[*position];
            let mut text = shown(&row[*position], &column.sql_type, ctx);
            if text.len() > SHOWN_VALUE_BYTES {
                let mut end = SHOWN_VALUE_BYTES;
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                text.truncate(end);
                text.push_str("...");
            }
            text
        })
        .collect();
    format!("Failing row contains ({}).", values.join(", "))
}

pub fn not_null(
    prepared: &Prepared,
    position: usize,
    row: &[Datum],
    ctx: &StatementContext,
) -> Error {
    let column = &prepared.table.columns[position].name;
    let error = Error::new(
        SqlState::NOT_NULL_VIOLATION,
        format!(
            "null value in column \"{column}\" of relation \"{}\" violates not-null constraint",
            prepared.table.name
        ),
    );
    at(error, prepared)
        .detail(failing_row(prepared, row, ctx))
        .column(column.clone())
}

pub fn check(prepared: &Prepared, name: &str, row: &[Datum], ctx: &StatementContext) -> Error {
    let error = Error::new(
        SqlState::CHECK_VIOLATION,
        format!(
            "new row for relation \"{}\" violates check constraint \"{name}\"",
            prepared.table.name
        ),
    );
    at(error, prepared)
        .detail(failing_row(prepared, row, ctx))
        .constraint(name)
}

/// `(a, b)=(1, x)`
fn key_text(names: &[String], values: &[(Datum, SqlType)], ctx: &StatementContext) -> String {
    let values: Vec<String> = values
        .iter()
        .map(|(value, sql_type)| shown(value, sql_type, ctx))
        .collect();
    format!("({})=({})", names.join(", "), values.join(", "))
}

/// 23505 for an index; `None` is the primary key.
pub fn unique(
    prepared: &Prepared,
    index: Option<usize>,
    values: &[Datum],
    ctx: &StatementContext,
) -> Error {
    use crate::catalog::descriptor::IndexKey;
    let table = &prepared.table;
    let named = |position: &usize| {
        let column = &table.columns[*position];
        (column.name.clone(), column.sql_type.clone())
    };
    let (name, columns): (&str, Vec<(String, SqlType)>) = match index {
        Some(index) => {
            let index = &table.indexes[index];
            let columns = index.columns.iter().map(|column| match &column.key {
                IndexKey::Column(position) => named(position),
                IndexKey::Expression(text, sql_type) => (text.clone(), sql_type.clone()),
            });
            (&index.name, columns.collect())
        }
        None => match &table.primary_key {
            Some(key) => (&key.name, key.columns.iter().map(named).collect()),
            None => ("", Vec::new()),
        },
    };
    let (names, types): (Vec<String>, Vec<SqlType>) = columns.into_iter().unzip();
    let values: Vec<(Datum, SqlType)> = values.iter().cloned().zip(types).collect();
    let error = Error::new(
        SqlState::UNIQUE_VIOLATION,
        format!("duplicate key value violates unique constraint \"{name}\""),
    );
    at(error, prepared)
        .detail(format!(
            "Key {} already exists.",
            key_text(&names, &values, ctx)
        ))
        .constraint(name)
}

fn columns_of(
    table: &crate::catalog::descriptor::Table,
    positions: &[usize],
    values: &[Datum],
) -> (Vec<String>, Vec<(Datum, SqlType)>) {
    positions
        .iter()
        .zip(values)
        .map(|(position, value)| {
            let column = &table.columns[*position];
            (
                column.name.clone(),
                (value.clone(), column.sql_type.clone()),
            )
        })
        .unzip()
}

/// 23503: a row points nowhere.
pub fn missing_parent(
    child: &Prepared,
    key: &ForeignKey,
    parent_name: &str,
    values: &[Datum],
    ctx: &StatementContext,
) -> Error {
    let (names, values) = columns_of(&child.table, &key.columns, values);
    let error = Error::new(
        SqlState::FOREIGN_KEY_VIOLATION,
        format!(
            "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
            child.table.name, key.name
        ),
    );
    at(error, child)
        .detail(format!(
            "Key {} is not present in table \"{parent_name}\".",
            key_text(&names, &values, ctx)
        ))
        .constraint(key.name.clone())
}

/// 23503: MATCH FULL with some NULLs.
pub fn partly_null(child: &Prepared, key: &ForeignKey) -> Error {
    let error = Error::new(
        SqlState::FOREIGN_KEY_VIOLATION,
        format!(
            "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
            child.table.name, key.name
        ),
    );
    at(error, child)
        .detail("MATCH FULL does not allow mixing of null and nonnull key values.")
        .constraint(key.name.clone())
}

/// 23503, or 23001 where the key says RESTRICT: other rows point to a row that goes.
pub fn still_referenced(
    parent: &Prepared,
    key: &ForeignKey,
    child: &crate::catalog::descriptor::Table,
    values: &[Datum],
    restrict: bool,
    ctx: &StatementContext,
) -> Error {
    let (names, values) = columns_of(&parent.table, &key.referenced_columns, values);
    let (state, setting) = if restrict {
        (SqlState::RESTRICT_VIOLATION, "RESTRICT setting of ")
    } else {
        (SqlState::FOREIGN_KEY_VIOLATION, "")
    };
    Error::new(
        state,
        format!(
            "update or delete on table \"{}\" violates {setting}foreign key constraint \"{}\" on table \"{}\"",
            parent.table.name, key.name, child.name
        ),
    )
    .detail(format!(
        "Key {} is still referenced from table \"{}\".",
        key_text(&names, &values, ctx),
        child.name
    ))
    .schema(parent.schema_name.clone())
    .table(child.name.clone())
    .constraint(key.name.clone())
}
