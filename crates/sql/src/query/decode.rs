//! Stored rows into Arrow columns, without a detour through datums for the common types.

use crate::arrow_bridge::{array_from_datums, arrow_type};
use crate::catalog::descriptor::Table;
use datafusion::arrow::array::{
    ArrayRef, BinaryBuilder, BinaryViewBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, LargeBinaryBuilder,
    LargeStringBuilder, StringBuilder, TimestampMicrosecondBuilder, UInt32Builder,
};
use datafusion::arrow::datatypes::DataType;
use std::sync::Arc;
use types::text::FormatContext;
use types::{Datum, Error, Result, RowView, SqlType};

enum Builder {
    Bool(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal128(Decimal128Builder),
    Text(StringBuilder),
    Json(LargeStringBuilder),
    Bytes(BinaryBuilder),
    Jsonb(LargeBinaryBuilder),
    Numeric(BinaryViewBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Oid(UInt32Builder),
    /// Everything else, value by value.
    Datums(Vec<Datum>),
}

/// Collects one column of a page of rows.
pub(crate) struct ColumnDecoder {
    position: usize,
    sql_type: SqlType,
    builder: Builder,
    /// For rows older than the column.
    missing: Datum,
}

/// Bytes of text guessed per row, to size buffers.
const TEXT_GUESS: usize = 16;

impl ColumnDecoder {
    pub fn new(table: &Table, position: usize, rows: usize) -> Result<Self> {
        let column = table
            .columns
            .get(position)
            .ok_or_else(|| Error::internal("a scan of a column that the table lacks"))?;
        let sql_type = column.sql_type.clone();
        let missing = match &column.missing {
            Some(text) => Datum::parse_text(text, &sql_type, &FormatContext::default())?,
            None => Datum::Null,
        };
        let builder = match arrow_type(&sql_type) {
            DataType::Boolean => Builder::Bool(BooleanBuilder::with_capacity(rows)),
            DataType::Int16 => Builder::Int16(Int16Builder::with_capacity(rows)),
            DataType::Int32 => Builder::Int32(Int32Builder::with_capacity(rows)),
            DataType::Int64 => Builder::Int64(Int64Builder::with_capacity(rows)),
            DataType::Float32 => Builder::Float32(Float32Builder::with_capacity(rows)),
            DataType::Float64 => Builder::Float64(Float64Builder::with_capacity(rows)),
            data_type @ DataType::Decimal128(..) if is_fixed_decimal(&sql_type) => {
                Builder::Decimal128(
                    Decimal128Builder::with_capacity(rows).with_data_type(data_type),
                )
            }
            DataType::Utf8 if !matches!(sql_type, SqlType::InternalChar) => {
                Builder::Text(StringBuilder::with_capacity(rows, rows * TEXT_GUESS))
            }
            DataType::LargeUtf8 => {
                Builder::Json(LargeStringBuilder::with_capacity(rows, rows * TEXT_GUESS))
            }
            DataType::Binary => {
                Builder::Bytes(BinaryBuilder::with_capacity(rows, rows * TEXT_GUESS))
            }
            DataType::LargeBinary => {
                Builder::Jsonb(LargeBinaryBuilder::with_capacity(rows, rows * TEXT_GUESS))
            }
            DataType::BinaryView => Builder::Numeric(BinaryViewBuilder::with_capacity(rows)),
            DataType::Date32 => Builder::Date(Date32Builder::with_capacity(rows)),
            data_type @ DataType::Timestamp(..) => Builder::Timestamp(
                TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(data_type),
            ),
            DataType::UInt32 => Builder::Oid(UInt32Builder::with_capacity(rows)),
            _ => Builder::Datums(Vec::with_capacity(rows)),
        };
        Ok(ColumnDecoder {
            position,
            sql_type,
            builder,
            missing,
        })
    }

    /// Appends the row's value of this column.
    #[inline]
    pub fn push(&mut self, row: &RowView<'_>) -> Result<()> {
        let i = self.position;
        if row.is_absent(i) {
            let missing = self.missing.clone();
            return self.push_datum(missing);
        }
        if row.is_null(i) {
            self.push_null();
            return Ok(());
        }
        match &mut self.builder {
            Builder::Bool(b) => b.append_value(row.bool(i)?),
            Builder::Int16(b) => b.append_value(row.i16(i)?),
            Builder::Int32(b) => b.append_value(row.i32(i)?),
            Builder::Int64(b) => b.append_value(row.i64(i)?),
            Builder::Float32(b) => b.append_value(row.f32(i)?),
            Builder::Float64(b) => b.append_value(row.f64(i)?),
            Builder::Decimal128(b) => match row.decimal128(i)? {
                Some(mantissa) => b.append_value(mantissa),
                None => {
                    return Err(Error::unsupported(
                        "NaN or infinite numeric in this kind of query",
                    ));
                }
            },
            Builder::Text(b) => b.append_value(row.str(i)?),
            Builder::Json(b) => b.append_value(row.str(i)?),
            Builder::Bytes(b) => b.append_value(row.bytes(i)?),
            Builder::Jsonb(b) => b.append_value(row.bytes(i)?),
            Builder::Numeric(b) => b.append_value(row.bytes(i)?),
            Builder::Date(b) => b.append_value(row.i32(i)?),
            Builder::Timestamp(b) => b.append_value(row.i64(i)?),
            Builder::Oid(b) => b.append_value(row.oid(i)?),
            Builder::Datums(values) => values.push(row.datum(i)?),
        }
        Ok(())
    }

    fn push_null(&mut self) {
        match &mut self.builder {
            Builder::Bool(b) => b.append_null(),
            Builder::Int16(b) => b.append_null(),
            Builder::Int32(b) => b.append_null(),
            Builder::Int64(b) => b.append_null(),
            Builder::Float32(b) => b.append_null(),
            Builder::Float64(b) => b.append_null(),
            Builder::Decimal128(b) => b.append_null(),
            Builder::Text(b) => b.append_null(),
            Builder::Json(b) => b.append_null(),
            Builder::Bytes(b) => b.append_null(),
            Builder::Jsonb(b) => b.append_null(),
            Builder::Numeric(b) => b.append_null(),
            Builder::Date(b) => b.append_null(),
            Builder::Timestamp(b) => b.append_null(),
            Builder::Oid(b) => b.append_null(),
            Builder::Datums(values) => values.push(Datum::Null),
        }
    }

    fn push_datum(&mut self, datum: Datum) -> Result<()> {
        if matches!(datum, Datum::Null) {
            self.push_null();
            return Ok(());
        }
        match (&mut self.builder, datum) {
            (Builder::Bool(b), Datum::Bool(v)) => b.append_value(v),
            (Builder::Int16(b), Datum::Int2(v)) => b.append_value(v),
            (Builder::Int32(b), Datum::Int4(v)) => b.append_value(v),
            (Builder::Int64(b), Datum::Int8(v)) => b.append_value(v),
            (Builder::Float32(b), Datum::Float4(v)) => b.append_value(v),
            (Builder::Float64(b), Datum::Float8(v)) => b.append_value(v),
            (Builder::Decimal128(b), Datum::Numeric(v)) => {
                if let DataType::Decimal128(precision, scale) = arrow_type(&self.sql_type) {
                    b.append_value(crate::arrow_bridge::decimal128_mantissa(
                        &v, precision, scale,
                    )?);
                }
            }
            (Builder::Text(b), Datum::Text(v)) => b.append_value(&v),
            (Builder::Json(b), Datum::Json(v)) => b.append_value(&v),
            (Builder::Bytes(b), Datum::Bytea(v)) => b.append_value(&v),
            (Builder::Jsonb(b), Datum::Jsonb(v)) => {
                let mut bytes = Vec::new();
                v.encode(&mut bytes);
                b.append_value(&bytes);
            }
            (Builder::Numeric(b), Datum::Numeric(v)) => {
                let mut bytes = Vec::new();
                v.encode(&mut bytes);
                b.append_value(&bytes);
            }
            (Builder::Date(b), Datum::Date(v)) => b.append_value(v),
            (Builder::Timestamp(b), Datum::Timestamp(v) | Datum::TimestampTz(v)) => {
                b.append_value(v);
            }
            (Builder::Oid(b), Datum::Oid(v)) => b.append_value(v),
            (Builder::Datums(values), v) => values.push(v),
            (_, v) => {
                return Err(Error::internal(format!(
                    "{v:?} is no value of type {}",
                    self.sql_type
                )));
            }
        }
        Ok(())
    }

    pub fn finish(self) -> Result<ArrayRef> {
        Ok(match self.builder {
            Builder::Bool(mut b) => Arc::new(b.finish()),
            Builder::Int16(mut b) => Arc::new(b.finish()),
            Builder::Int32(mut b) => Arc::new(b.finish()),
            Builder::Int64(mut b) => Arc::new(b.finish()),
            Builder::Float32(mut b) => Arc::new(b.finish()),
            Builder::Float64(mut b) => Arc::new(b.finish()),
            Builder::Decimal128(mut b) => Arc::new(b.finish()),
            Builder::Text(mut b) => Arc::new(b.finish()),
            Builder::Json(mut b) => Arc::new(b.finish()),
            Builder::Bytes(mut b) => Arc::new(b.finish()),
            Builder::Jsonb(mut b) => Arc::new(b.finish()),
            Builder::Numeric(mut b) => Arc::new(b.finish()),
            Builder::Date(mut b) => Arc::new(b.finish()),
            Builder::Timestamp(mut b) => Arc::new(b.finish()),
            Builder::Oid(mut b) => Arc::new(b.finish()),
            Builder::Datums(values) => array_from_datums(values.iter(), &self.sql_type)?,
        })
    }
}

/// Numerics that rows hold as a plain mantissa at the Arrow type's scale.
fn is_fixed_decimal(sql_type: &SqlType) -> bool {
    matches!(sql_type, SqlType::Numeric(Some((p, s)))
        if *s >= 0 && *s <= *p as i16 && *p <= u16::from(crate::arrow_bridge::DECIMAL128_PRECISION))
}
