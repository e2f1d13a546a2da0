//! DataRow messages from either shape of rows, written straight into the output buffer.

use crate::wire::backend::Output;
use datafusion::arrow::array::{Array, Int32Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::array::{BinaryArray, Float64Array};
use sql::arrow_bridge;
use sql::response::ResultColumn;
use types::text::FormatContext;
use types::{Datum, Error, Result, SqlState, SqlType};

/// Text and binary as a client's format codes name them.
const TEXT: i16 = 0;
const BINARY: i16 = 1;

/// A length that marks NULL.
const NULL_LENGTH: [u8; 4] = (-1i32).to_be_bytes();

/// Expands the format codes of a Bind message to one per column.
pub fn expand_formats(codes: &[i16], columns: usize) -> Result<Vec<i16>> {
    if let Some(bad) = codes.iter().find(|code| !matches!(**code, TEXT | BINARY)) {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("unsupported format code: {bad}"),
        ));
    }
    match codes {
        [] => Ok(vec![TEXT; columns]),
        [one] => Ok(vec![*one; columns]),
        many if many.len() == columns => Ok(many.to_vec()),
        many => Err(Error::new(
            SqlState::PROTOCOL_VIOLATION,
            format!(
                "bind message has {} result formats but query has {columns} columns",
                many.len()
            ),
        )),
    }
}

/// Encodes the rows of one result.
pub struct RowEncoder<'a> {
    columns: &'a [ResultColumn],
    /// One per column, or none: all text.
    formats: &'a [i16],
    context: &'a FormatContext,
}

impl<'a> RowEncoder<'a> {
    pub fn new(
        columns: &'a [ResultColumn],
        formats: &'a [i16],
        context: &'a FormatContext,
    ) -> Self {
        RowEncoder {
            columns,
            formats,
            context,
        }
    }

    fn is_binary(&self, column: usize) -> bool {
        self.formats.get(column) == Some(&BINARY)
    }

    pub fn row(&self, row: &[Datum], output: &mut Output) -> Result<()> {
        if row.len() != self.columns.len() {
            return Err(wrong_width(row.len(), self.columns.len()));
        }
        output.begin(b'D');
        let body = output.body();
        body.extend_from_slice(&(row.len() as u16).to_be_bytes());
        for (at, (datum, column)) in row.iter().zip(self.columns).enumerate() {
            self.put_datum(datum, &column.sql_type, self.is_binary(at), body);
        }
        output.end();
        Ok(())
    }

    #[inline]
    fn put_datum(&self, datum: &Datum, sql_type: &SqlType, binary: bool, body: &mut Vec<u8>) {
        if matches!(datum, Datum::Null) {
            body.extend_from_slice(&NULL_LENGTH);
            return;
        }
        put_sized(body, |body| {
            if binary {
                datum.write_binary(sql_type, body);
            } else {
                datum.write_text(sql_type, self.context, body);
            }
        });
    }

    /// One row of a batch.
    pub fn batch_row(&self, batch: &BatchView<'_>, row: usize, output: &mut Output) -> Result<()> {
        output.begin(b'D');
        let body = output.body();
        body.extend_from_slice(&(self.columns.len() as u16).to_be_bytes());
        for (at, cells) in batch.0.iter().enumerate() {
            let sql_type = &self.columns[at].sql_type;
            let binary = self.is_binary(at);
            let datum = match cells {
                Cells::Text(array) if array.is_null(row) => Datum::Null,
                Cells::Text(array) => {
                    // Text is the same in both formats.
                    put_sized(body, |body| {
                        body.extend_from_slice(array.value(row).as_bytes());
                    });
                    continue;
                }
                Cells::Bytes(array) if !array.is_null(row) && binary => {
                    put_sized(body, |body| body.extend_from_slice(array.value(row)));
                    continue;
                }
                Cells::Int4(array) if !array.is_null(row) => Datum::Int4(array.value(row)),
                Cells::Int8(array) if !array.is_null(row) => Datum::Int8(array.value(row)),
                Cells::Float8(array) if !array.is_null(row) => Datum::Float8(array.value(row)),
                Cells::Int4(_) | Cells::Int8(_) | Cells::Float8(_) => Datum::Null,
                Cells::Bytes(array) => arrow_bridge::datum_at(*array, row, sql_type)?,
                Cells::Other(array) => arrow_bridge::datum_at(*array, row, sql_type)?,
            };
            self.put_datum(&datum, sql_type, binary, body);
        }
        output.end();
        Ok(())
    }
}

#[inline]
fn put_sized(body: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = body.len();
    body.extend_from_slice(&[0; 4]);
    write(body);
    let len = (body.len() - start - 4) as u32;
    body[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

fn wrong_width(got: usize, expected: usize) -> Error {
    Error::internal(format!("a row has {got} values for {expected} columns"))
}

/// A batch's columns, downcast once instead of once per cell.
pub struct BatchView<'a>(Vec<Cells<'a>>);

enum Cells<'a> {
    Int4(&'a Int32Array),
    Int8(&'a Int64Array),
    Float8(&'a Float64Array),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Other(&'a dyn Array),
}

impl<'a> BatchView<'a> {
    pub fn new(batch: &'a RecordBatch, columns: &[ResultColumn]) -> Result<Self> {
        if batch.num_columns() != columns.len() {
            return Err(wrong_width(batch.num_columns(), columns.len()));
        }
        let cells = batch
            .columns()
            .iter()
            .zip(columns)
            .map(|(array, column)| cells(array.as_ref(), &column.sql_type))
            .collect();
        Ok(BatchView(cells))
    }
}

fn cells<'a>(array: &'a dyn Array, sql_type: &SqlType) -> Cells<'a> {
    let any = array.as_any();
    let found = match sql_type {
        SqlType::Int4 => any.downcast_ref().map(Cells::Int4),
        SqlType::Int8 => any.downcast_ref().map(Cells::Int8),
        SqlType::Float8 => any.downcast_ref().map(Cells::Float8),
        sql_type if sql_type.is_string() && *sql_type != SqlType::InternalChar => {
            any.downcast_ref().map(Cells::Text)
        }
        SqlType::Bytea => any.downcast_ref().map(Cells::Bytes),
        _ => None,
    };
    found.unwrap_or(Cells::Other(array))
}
