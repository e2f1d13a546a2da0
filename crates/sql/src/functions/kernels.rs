//! Whole-column forms of the functions that analytic queries spend their time in. They give what the
//! `Datum` functions give; rows outside their fast path go through the same rules.

use super::strings::substring;
use crate::arrow_bridge::array_from_datums;
use crate::context::StatementContext;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Int32Array, PrimitiveArray, StringArray,
    StringBuilder,
};
use datafusion::arrow::datatypes::{DataType, Date32Type, Int32Type};
use std::sync::Arc;
use types::datetime::{civil_from_days, date_is_finite};
use types::extract::{Field, extract_date};
use types::{Datum, Error, Result, SqlType};

fn other_shape() -> Error {
    Error::internal("a column in another Arrow form than its type's")
}

fn strings(array: &ArrayRef) -> Result<&StringArray> {
    array.as_string_opt::<i32>().ok_or_else(other_shape)
}

fn integers(array: &ArrayRef) -> Result<&Int32Array> {
    array
        .as_primitive_opt::<Int32Type>()
        .ok_or_else(other_shape)
}

/// `extract(field, date)`.
pub(super) fn extract_from_date(
    _: &StatementContext,
    arrays: &[ArrayRef],
    rows: usize,
) -> Result<ArrayRef> {
    let [fields, dates] = arrays else {
        return Err(other_shape());
    };
    let fields = strings(fields)?;
    let dates = dates
        .as_primitive_opt::<Date32Type>()
        .ok_or_else(other_shape)?;
    let mut years: Vec<Option<i128>> = Vec::with_capacity(rows);
    for row in 0..rows {
        if fields.is_null(row) || dates.is_null(row) {
            years.push(None);
            continue;
        }
        let days = dates.value(row);
        let year = civil_from_days(i64::from(days)).0;
        let is_year = Field::parse(fields.value(row)) == Some(Field::Year);
        if !(is_year && date_is_finite(days) && year > 0) {
            return extract_any(fields, dates, rows);
        }
        years.push(Some(i128::from(year)));
    }
    let array = Decimal128Array::from(years).with_data_type(DataType::Decimal128(
        crate::arrow_bridge::DECIMAL128_PRECISION,
        0,
    ));
    Ok(Arc::new(array))
}

/// `extract` where not all rows ask for a year after Christ.
fn extract_any(
    fields: &StringArray,
    dates: &PrimitiveArray<Date32Type>,
    rows: usize,
) -> Result<ArrayRef> {
    let mut values = Vec::with_capacity(rows);
    for row in 0..rows {
        let known = fields.is_valid(row) && dates.is_valid(row);
        let value = if known {
            extract_date(fields.value(row), dates.value(row))?
        } else {
            None
        };
        values.push(value.map_or(Datum::Null, Datum::Numeric));
    }
    array_from_datums(values.iter(), &SqlType::Numeric(None))
}

/// `substring(text, start)` and `substring(text, start, length)`.
pub(super) fn substring_of_text(
    _: &StatementContext,
    arrays: &[ArrayRef],
    rows: usize,
) -> Result<ArrayRef> {
    let (texts, starts, lengths) = match arrays {
        [texts, starts] => (strings(texts)?, integers(starts)?, None),
        [texts, starts, lengths] => (strings(texts)?, integers(starts)?, Some(integers(lengths)?)),
        _ => return Err(other_shape()),
    };
    let mut out = StringBuilder::with_capacity(rows, texts.value_data().len());
    for row in 0..rows {
        let length_is_null = lengths.is_some_and(|lengths| lengths.is_null(row));
        if texts.is_null(row) || starts.is_null(row) || length_is_null {
            out.append_null();
            continue;
        }
        let length = lengths.map(|lengths| lengths.value(row));
        out.append_value(substring(texts.value(row), starts.value(row), length)?);
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrow_bridge::datum_at;
    use crate::functions::Registry;

    /// A kernel and its `Datum` function over the same rows.
    fn same(name: &str, types: &[SqlType], rows: &[Vec<Datum>]) {
        let registry = Registry::with_all();
        let context = crate::functions::truth::context();
        let chosen = crate::query::overload::choose(registry.overloads(name), types, false)
            .expect("one overload")
            .expect("an overload");
        let kernel = chosen.function.kernel.expect("a kernel");
        let arrays: Vec<ArrayRef> = types
            .iter()
            .enumerate()
            .map(|(at, ty)| array_from_datums(rows.iter().map(|row| &row[at]), ty).expect("array"))
            .collect();
        let result = kernel(&context, &arrays, rows.len()).expect("result");
        for (at, row) in rows.iter().enumerate() {
            let wanted = if row.iter().any(Datum::is_null) {
                Datum::Null
            } else {
                (chosen.function.evaluate)(&context, row).expect("value")
            };
            let found = datum_at(&result, at, &chosen.returns).expect("datum");
            assert!(
                found.is_null() && wanted.is_null() || found.sql_eq(&wanted),
                "{name} {row:?}: {found:?} and {wanted:?}"
            );
        }
    }

    #[test]
    fn kernels_answer_as_their_functions() {
        let dates = [-719_528, -1, 0, 19_800, i32::MAX, i32::MIN];
        let mut rows = vec![vec![Datum::from("year"), Datum::Null]];
        for field in ["year", "month", "epoch"] {
            rows.extend(dates.map(|days| vec![Datum::from(field), Datum::Date(days)]));
        }
        rows.retain(|row| row[0] != Datum::from("month") || row[1] != Datum::Date(i32::MAX));
        let finite =
            |row: &Vec<Datum>| !matches!(row[1], Datum::Date(i32::MAX) | Datum::Date(i32::MIN));
        rows.retain(finite);
        same("extract", &[SqlType::Text, SqlType::Date], &rows);
        let mut rows = vec![vec![Datum::Null, Datum::Int4(1), Datum::Int4(1)]];
        for text in ["", "abc", "héllo wörld"] {
            for (start, length) in [(-1, 3), (1, 2), (3, 0), (9, 100)] {
                rows.push(vec![text.into(), Datum::Int4(start), Datum::Int4(length)]);
            }
        }
        let types = [SqlType::Text, SqlType::Int4, SqlType::Int4];
        same("substring", &types, &rows);
    }
}
