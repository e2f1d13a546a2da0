//! Between SQL values and Arrow.
//!
//! | SQL | Arrow |
//! | --- | --- |
//! | bool, int2/4/8, float4/8 | Boolean, Int16/32/64, Float32/64 |
//! | numeric(p ≤ 38, s) | Decimal128(p, s) |
//! | numeric(p ≤ 76, s) | Decimal256(p, s) |
//! | numeric, numeric(p > 76, s) | BinaryView, the stored form with scale, NaN and infinities |
//! | text, varchar, char, name, "char" | Utf8 |
//! | bytea | Binary |
//! | date, time, timestamp, timestamptz | Date32, Time64(µs), Timestamp(µs), Timestamp(µs, UTC) |
//! | interval | Interval(MonthDayNano) |
//! | uuid | FixedSizeBinary(16) |
//! | json | LargeUtf8 |
//! | jsonb | LargeBinary, the stored canonical form |
//! | oid, reg* | UInt32 |
//! | T[] | List(T) |
//! | unknown | Utf8; bare NULL is Null |
//!
//! The Arrow type alone tells the SQL type up to its modifier; field metadata [`TYPE_KEY`] keeps the
//! modifier and the distinctions that Arrow lacks (varchar(n), name, regclass …) for columns that
//! come straight from a table.

use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, BinaryViewArray, BinaryViewBuilder, BooleanArray,
    Date32Array, Decimal128Array, Decimal256Array, FixedSizeBinaryArray, FixedSizeBinaryBuilder,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray,
    LargeBinaryArray, LargeBinaryBuilder, LargeStringArray, LargeStringBuilder, ListArray,
    NullArray, StringArray, StringBuilder, StringViewArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{
    DataType, Field, IntervalMonthDayNano, IntervalUnit, TimeUnit, i256,
};
use datafusion::scalar::ScalarValue;
use num_bigint::BigInt;
use std::sync::Arc;
use types::{Datum, Error, Interval, Jsonb, Numeric, Result, SqlState, SqlType};

/// Field metadata key whose value is the [`types::SqlType`] as JSON.
pub const TYPE_KEY: &str = "phantom.type";

/// Digits of an Arrow Decimal128.
pub const DECIMAL128_PRECISION: u8 = 38;
/// Digits of an Arrow Decimal256, the widest numeric with a scale of its type.
pub const DECIMAL256_PRECISION: u8 = 76;
const NANOS_PER_MICRO: i64 = 1000;
/// Name of a list's element field, as Arrow's own builders call it.
const ITEM: &str = "item";
const UTC: &str = "UTC";

/// The Arrow type of a numeric with this precision and scale.
fn decimal_type(precision: u16, scale: i16) -> DataType {
    // Arrow wants 0 <= scale <= precision; PostgreSQL allows scales outside.
    let (precision, scale) = match scale {
        s if s < 0 => (i32::from(precision) - i32::from(s), 0),
        s => (i32::from(precision).max(i32::from(s)), i32::from(s)),
    };
    if precision <= i32::from(DECIMAL128_PRECISION) {
        DataType::Decimal128(precision as u8, scale as i8)
    } else if precision <= i32::from(DECIMAL256_PRECISION) {
        DataType::Decimal256(precision as u8, scale as i8)
    } else {
        DataType::BinaryView
    }
}

fn list_of(element: &SqlType) -> DataType {
    DataType::List(Arc::new(Field::new(ITEM, arrow_type(element), true)))
}

/// The Arrow type that carries values of `sql_type`.
pub fn arrow_type(sql_type: &SqlType) -> DataType {
    match sql_type {
        SqlType::Bool => DataType::Boolean,
        SqlType::Int2 => DataType::Int16,
        SqlType::Int4 => DataType::Int32,
        SqlType::Int8 => DataType::Int64,
        SqlType::Float4 => DataType::Float32,
        SqlType::Float8 => DataType::Float64,
        SqlType::Numeric(None) => DataType::BinaryView,
        SqlType::Numeric(Some((precision, scale))) => decimal_type(*precision, *scale),
        SqlType::Text
        | SqlType::Varchar(_)
        | SqlType::Char(_)
        | SqlType::Name
        | SqlType::InternalChar
        | SqlType::Unknown
        | SqlType::Record => DataType::Utf8,
        SqlType::Bytea => DataType::Binary,
        SqlType::Date => DataType::Date32,
        SqlType::Time => DataType::Time64(TimeUnit::Microsecond),
        SqlType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        SqlType::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        SqlType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
        SqlType::Uuid => DataType::FixedSizeBinary(16),
        SqlType::Json => DataType::LargeUtf8,
        SqlType::Jsonb => DataType::LargeBinary,
        SqlType::Oid
        | SqlType::Regclass
        | SqlType::Regtype
        | SqlType::Regproc
        | SqlType::Regnamespace
        | SqlType::Regrole => DataType::UInt32,
        SqlType::Int2Vector => list_of(&SqlType::Int2),
        SqlType::OidVector => list_of(&SqlType::Oid),
        SqlType::Void => DataType::Null,
        SqlType::Array(element) => list_of(element),
    }
}

/// A field of the type's Arrow form that remembers the SQL type.
pub fn field(name: &str, sql_type: &SqlType, nullable: bool) -> Field {
    let plain = Field::new(name, arrow_type(sql_type), nullable);
    match serde_json::to_string(sql_type) {
        Ok(json) => plain.with_metadata([(TYPE_KEY.to_string(), json)].into()),
        Err(_) => plain,
    }
}

/// The SQL type of a field: as its metadata tells, else the nearest one to its Arrow type.
pub fn sql_type_of(field: &Field) -> SqlType {
    field
        .metadata()
        .get(TYPE_KEY)
        .and_then(|json| serde_json::from_str::<SqlType>(json).ok())
        // A plan step may have changed the type and kept the metadata.
        .filter(|told| arrow_type(told) == *field.data_type())
        .unwrap_or_else(|| sql_type_of_arrow(field.data_type()))
}

/// The SQL type nearest to an Arrow type.
pub fn sql_type_of_arrow(data_type: &DataType) -> SqlType {
    match data_type {
        DataType::Boolean => SqlType::Bool,
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => SqlType::Int2,
        DataType::Int32 | DataType::UInt16 => SqlType::Int4,
        DataType::Int64 | DataType::UInt64 => SqlType::Int8,
        DataType::UInt32 => SqlType::Oid,
        DataType::Float16 | DataType::Float32 => SqlType::Float4,
        DataType::Float64 => SqlType::Float8,
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => SqlType::Numeric(Some((u16::from(*p), i16::from(*s)))),
        DataType::BinaryView => SqlType::Numeric(None),
        DataType::Binary => SqlType::Bytea,
        DataType::Date32 | DataType::Date64 => SqlType::Date,
        DataType::Time32(_) | DataType::Time64(_) => SqlType::Time,
        DataType::Timestamp(_, None) => SqlType::Timestamp,
        DataType::Timestamp(_, Some(_)) => SqlType::TimestampTz,
        DataType::Interval(_) | DataType::Duration(_) => SqlType::Interval,
        DataType::FixedSizeBinary(16) => SqlType::Uuid,
        DataType::LargeUtf8 => SqlType::Json,
        DataType::LargeBinary => SqlType::Jsonb,
        DataType::List(item) | DataType::LargeList(item) => {
            SqlType::Array(Box::new(sql_type_of(item)))
        }
        _ => SqlType::Text,
    }
}

/// A typed NULL.
pub fn null_scalar(sql_type: &SqlType) -> ScalarValue {
    ScalarValue::try_from(&arrow_type(sql_type)).unwrap_or(ScalarValue::Null)
}

/// One value as DataFusion's scalar, of the exact Arrow type of `sql_type`.
pub fn scalar_value(datum: &Datum, sql_type: &SqlType) -> Result<ScalarValue> {
    Ok(match (datum, sql_type) {
        (Datum::Null, _) => null_scalar(sql_type),
        (Datum::Bool(v), SqlType::Bool) => ScalarValue::Boolean(Some(*v)),
        (Datum::Int2(v), SqlType::Int2) => ScalarValue::Int16(Some(*v)),
        (Datum::Int4(v), SqlType::Int4) => ScalarValue::Int32(Some(*v)),
        (Datum::Int8(v), SqlType::Int8) => ScalarValue::Int64(Some(*v)),
        (Datum::Float4(v), SqlType::Float4) => ScalarValue::Float32(Some(*v)),
        (Datum::Float8(v), SqlType::Float8) => ScalarValue::Float64(Some(*v)),
        (Datum::Text(v), _) if arrow_type(sql_type) == DataType::Utf8 => {
            ScalarValue::Utf8(Some(v.to_string()))
        }
        (Datum::Date(v), SqlType::Date) => ScalarValue::Date32(Some(*v)),
        _ => {
            let array = array_from_datums(std::iter::once(datum), sql_type)?;
            ScalarValue::try_from_array(&array, 0)
                .map_err(|e| Error::internal(format!("scalar of {datum:?}: {e}")))?
        }
    })
}

/// The value of a scalar that carries `sql_type`.
pub fn datum_from_scalar(scalar: &ScalarValue, sql_type: &SqlType) -> Result<Datum> {
    if scalar.is_null() {
        return Ok(Datum::Null);
    }
    let array = scalar
        .to_array()
        .map_err(|e| Error::internal(format!("array of {scalar:?}: {e}")))?;
    datum_at(&array, 0, sql_type)
}

fn unexpected(array: &dyn Array, sql_type: &SqlType) -> Error {
    Error::internal(format!(
        "a column of Arrow type {} came back for {sql_type:?}",
        array.data_type()
    ))
}

fn cast_ref<'a, T: 'static>(array: &'a dyn Array, sql_type: &SqlType) -> Result<&'a T> {
    array
        .as_any()
        .downcast_ref::<T>()
        .ok_or_else(|| unexpected(array, sql_type))
}

/// The value at `row`, as a value of `sql_type`.
pub fn datum_at(array: &dyn Array, row: usize, sql_type: &SqlType) -> Result<Datum> {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return Ok(Datum::Null);
    }
    Ok(match sql_type {
        SqlType::Bool => Datum::Bool(cast_ref::<BooleanArray>(array, sql_type)?.value(row)),
        SqlType::Int2 => Datum::Int2(integer_at(array, row, sql_type)? as i16),
        SqlType::Int4 => Datum::Int4(integer_at(array, row, sql_type)? as i32),
        SqlType::Int8 => Datum::Int8(integer_at(array, row, sql_type)?),
        SqlType::Float4 => Datum::Float4(cast_ref::<Float32Array>(array, sql_type)?.value(row)),
        SqlType::Float8 => Datum::Float8(cast_ref::<Float64Array>(array, sql_type)?.value(row)),
        SqlType::Numeric(_) => Datum::Numeric(numeric_at(array, row, sql_type)?),
        SqlType::Text
        | SqlType::Varchar(_)
        | SqlType::Char(_)
        | SqlType::Name
        | SqlType::InternalChar
        | SqlType::Unknown
        | SqlType::Record => Datum::Text(text_at(array, row, sql_type)?.into()),
        SqlType::Bytea => Datum::Bytea(bytes::Bytes::copy_from_slice(bytes_at(
            array, row, sql_type,
        )?)),
        SqlType::Date => Datum::Date(cast_ref::<Date32Array>(array, sql_type)?.value(row)),
        SqlType::Time => {
            Datum::Time(cast_ref::<Time64MicrosecondArray>(array, sql_type)?.value(row))
        }
        SqlType::Timestamp => {
            Datum::Timestamp(cast_ref::<TimestampMicrosecondArray>(array, sql_type)?.value(row))
        }
        SqlType::TimestampTz => {
            Datum::TimestampTz(cast_ref::<TimestampMicrosecondArray>(array, sql_type)?.value(row))
        }
        SqlType::Interval => {
            let v = cast_ref::<IntervalMonthDayNanoArray>(array, sql_type)?.value(row);
            Datum::Interval(Interval::new(
                v.months,
                v.days,
                v.nanoseconds / NANOS_PER_MICRO,
            ))
        }
        SqlType::Uuid => {
            let raw = cast_ref::<FixedSizeBinaryArray>(array, sql_type)?.value(row);
            Datum::Uuid(raw.try_into().map_err(|_| unexpected(array, sql_type))?)
        }
        SqlType::Json => Datum::Json(text_at(array, row, sql_type)?.into()),
        SqlType::Jsonb => Datum::Jsonb(Jsonb::decode(bytes_at(array, row, sql_type)?)?),
        SqlType::Oid
        | SqlType::Regclass
        | SqlType::Regtype
        | SqlType::Regproc
        | SqlType::Regnamespace
        | SqlType::Regrole => Datum::Oid(cast_ref::<UInt32Array>(array, sql_type)?.value(row)),
        SqlType::Void => Datum::Null,
        SqlType::Int2Vector => list_at(array, row, &SqlType::Int2, sql_type, 0)?,
        SqlType::OidVector => list_at(array, row, &SqlType::Oid, sql_type, 0)?,
        SqlType::Array(element) => list_at(array, row, element, sql_type, 1)?,
    })
}

fn integer_at(array: &dyn Array, row: usize, sql_type: &SqlType) -> Result<i64> {
    Ok(match array.data_type() {
        DataType::Int64 => cast_ref::<Int64Array>(array, sql_type)?.value(row),
        DataType::Int32 => cast_ref::<Int32Array>(array, sql_type)?.value(row).into(),
        DataType::Int16 => cast_ref::<Int16Array>(array, sql_type)?.value(row).into(),
        // Some of DataFusion's functions count in unsigned numbers.
        DataType::UInt64 => i64::try_from(cast_ref::<UInt64Array>(array, sql_type)?.value(row))
            .map_err(|_| out_of_range("bigint"))?,
        DataType::UInt32 => cast_ref::<UInt32Array>(array, sql_type)?.value(row).into(),
        _ => return Err(unexpected(array, sql_type)),
    })
}

fn out_of_range(name: &str) -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("{name} out of range"),
    )
}

fn text_at<'a>(array: &'a dyn Array, row: usize, sql_type: &SqlType) -> Result<&'a str> {
    Ok(match array.data_type() {
        DataType::Utf8 => cast_ref::<StringArray>(array, sql_type)?.value(row),
        DataType::Utf8View => cast_ref::<StringViewArray>(array, sql_type)?.value(row),
        DataType::LargeUtf8 => cast_ref::<LargeStringArray>(array, sql_type)?.value(row),
        _ => return Err(unexpected(array, sql_type)),
    })
}

fn bytes_at<'a>(array: &'a dyn Array, row: usize, sql_type: &SqlType) -> Result<&'a [u8]> {
    Ok(match array.data_type() {
        DataType::Binary => cast_ref::<BinaryArray>(array, sql_type)?.value(row),
        DataType::BinaryView => cast_ref::<BinaryViewArray>(array, sql_type)?.value(row),
        DataType::LargeBinary => cast_ref::<LargeBinaryArray>(array, sql_type)?.value(row),
        _ => return Err(unexpected(array, sql_type)),
    })
}

/// The scale comes from the Arrow type: a plan may have given the numeric a finer one than declared.
fn numeric_at(array: &dyn Array, row: usize, sql_type: &SqlType) -> Result<Numeric> {
    match array.data_type() {
        DataType::Decimal128(_, scale) => {
            let v = cast_ref::<Decimal128Array>(array, sql_type)?.value(row);
            Ok(Numeric::from_i128(v, *scale as u16))
        }
        DataType::Decimal256(_, scale) => {
            let v = cast_ref::<Decimal256Array>(array, sql_type)?.value(row);
            Ok(match v.to_i128() {
                Some(small) => Numeric::from_i128(small, *scale as u16),
                None => Numeric::from_bigint(
                    BigInt::from_signed_bytes_le(&v.to_le_bytes()),
                    *scale as u16,
                ),
            })
        }
        DataType::BinaryView => {
            Numeric::decode(cast_ref::<BinaryViewArray>(array, sql_type)?.value(row))
        }
        DataType::Int64 | DataType::Int32 | DataType::Int16 => {
            Ok(Numeric::from(integer_at(array, row, sql_type)?))
        }
        _ => Err(unexpected(array, sql_type)),
    }
}

fn list_at(
    array: &dyn Array,
    row: usize,
    element: &SqlType,
    sql_type: &SqlType,
    lower_bound: i32,
) -> Result<Datum> {
    let items = cast_ref::<ListArray>(array, sql_type)?.value(row);
    let elements = (0..items.len())
        .map(|i| datum_at(&items, i, element))
        .collect::<Result<Vec<_>>>()?;
    let mut value = types::Array::from_elements(element.clone(), elements);
    for dim in &mut value.dims {
        dim.lower_bound = lower_bound;
    }
    Ok(Datum::Array(Arc::new(value)))
}

/// A numeric as the mantissa of a decimal with this scale, rounded to it.
pub fn decimal256_mantissa(value: &Numeric, scale: i8) -> Result<i256> {
    let not_here = || {
        Error::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            "value overflows numeric format",
        )
    };
    if !value.is_finite() {
        return Err(Error::unsupported(
            "NaN or infinite numeric in this kind of query",
        ));
    }
    let rounded;
    let value = if i32::from(value.scale()) > i32::from(scale) {
        rounded = value.round(i32::from(scale));
        &rounded
    } else {
        value
    };
    let (mantissa, own_scale) = value.to_bigint_parts().ok_or_else(not_here)?;
    let missing = (scale as u16).saturating_sub(own_scale);
    let scaled = mantissa * BigInt::from(10).pow(u32::from(missing));
    if scaled.magnitude().to_string().len() > usize::from(DECIMAL256_PRECISION) {
        return Err(not_here());
    }
    let mut bytes = scaled.to_signed_bytes_le();
    let fill = if scaled.sign() == num_bigint::Sign::Minus {
        0xff
    } else {
        0
    };
    bytes.resize(32, fill);
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| not_here())?;
    Ok(i256::from_le_bytes(bytes))
}

/// A numeric as the mantissa of a Decimal128 with this scale, rounded to it.
pub fn decimal128_mantissa(value: &Numeric, precision: u8, scale: i8) -> Result<i128> {
    if !value.is_finite() {
        return Err(Error::unsupported(
            "NaN or infinite numeric in this kind of query",
        ));
    }
    let mantissa = match value.to_i128_at_scale(scale as u16) {
        Some(mantissa) => Some(mantissa),
        None => value.round(i32::from(scale)).to_i128_at_scale(scale as u16),
    };
    mantissa
        .filter(|m| m.unsigned_abs() < 10u128.pow(u32::from(precision)))
        .ok_or_else(|| {
            Error::new(
                SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                "numeric field overflow",
            )
        })
}

/// An interval in Arrow's form.
pub fn arrow_interval(value: &Interval) -> Result<IntervalMonthDayNano> {
    let nanos = value
        .micros
        .checked_mul(NANOS_PER_MICRO)
        .ok_or_else(|| Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range"))?;
    Ok(IntervalMonthDayNano::new(value.months, value.days, nanos))
}

fn misfit(datum: &Datum, sql_type: &SqlType) -> Error {
    Error::internal(format!("value {datum:?} in a column of type {sql_type:?}"))
}

macro_rules! primitive_column {
    ($data:expr, $sql_type:expr, $array:ty, $($pattern:pat => $value:expr),+) => {{
        let values = $data
            .map(|datum| match datum {
                Datum::Null => Ok(None),
                $($pattern => Ok(Some($value)),)+
                other => Err(misfit(other, $sql_type)),
            })
            .collect::<Result<Vec<_>>>()?;
        Arc::new(<$array>::from(values)) as ArrayRef
    }};
}

/// A column of values, each NULL or of `sql_type`.
pub fn array_from_datums<'a>(
    data: impl Iterator<Item = &'a Datum>,
    sql_type: &SqlType,
) -> Result<ArrayRef> {
    Ok(match sql_type {
        SqlType::Bool => primitive_column!(data, sql_type, BooleanArray, Datum::Bool(v) => *v),
        SqlType::Int2 => primitive_column!(data, sql_type, Int16Array, Datum::Int2(v) => *v),
        SqlType::Int4 => primitive_column!(data, sql_type, Int32Array,
            Datum::Int4(v) => *v, Datum::Int2(v) => i32::from(*v)),
        SqlType::Int8 => primitive_column!(data, sql_type, Int64Array,
            Datum::Int8(v) => *v, Datum::Int4(v) => i64::from(*v), Datum::Int2(v) => i64::from(*v)),
        SqlType::Float4 => primitive_column!(data, sql_type, Float32Array, Datum::Float4(v) => *v),
        SqlType::Float8 => primitive_column!(data, sql_type, Float64Array,
            Datum::Float8(v) => *v, Datum::Float4(v) => f64::from(*v)),
        SqlType::Numeric(_) => numeric_column(data, sql_type)?,
        SqlType::Text
        | SqlType::Varchar(_)
        | SqlType::Char(_)
        | SqlType::Name
        | SqlType::InternalChar
        | SqlType::Unknown
        | SqlType::Record => {
            let mut builder = StringBuilder::new();
            for datum in data {
                match datum {
                    Datum::Null => builder.append_null(),
                    Datum::Text(v) => builder.append_value(v),
                    other => return Err(misfit(other, sql_type)),
                }
            }
            Arc::new(builder.finish())
        }
        SqlType::Bytea => {
            let mut builder = BinaryBuilder::new();
            for datum in data {
                match datum {
                    Datum::Null => builder.append_null(),
                    Datum::Bytea(v) => builder.append_value(v),
                    other => return Err(misfit(other, sql_type)),
                }
            }
            Arc::new(builder.finish())
        }
        SqlType::Date => primitive_column!(data, sql_type, Date32Array, Datum::Date(v) => *v),
        SqlType::Time => {
            primitive_column!(data, sql_type, Time64MicrosecondArray, Datum::Time(v) => *v)
        }
        SqlType::Timestamp => {
            primitive_column!(data, sql_type, TimestampMicrosecondArray, Datum::Timestamp(v) => *v)
        }
        SqlType::TimestampTz => {
            let values = data
                .map(|datum| match datum {
                    Datum::Null => Ok(None),
                    Datum::TimestampTz(v) => Ok(Some(*v)),
                    other => Err(misfit(other, sql_type)),
                })
                .collect::<Result<Vec<_>>>()?;
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone(UTC))
        }
        SqlType::Interval => {
            let values = data
                .map(|datum| match datum {
                    Datum::Null => Ok(None),
                    Datum::Interval(v) => arrow_interval(v).map(Some),
                    other => Err(misfit(other, sql_type)),
                })
                .collect::<Result<Vec<_>>>()?;
            Arc::new(IntervalMonthDayNanoArray::from(values))
        }
        SqlType::Uuid => {
            let mut builder = FixedSizeBinaryBuilder::new(16);
            for datum in data {
                match datum {
                    Datum::Null => builder.append_null(),
                    Datum::Uuid(v) => builder
                        .append_value(v)
                        .map_err(|e| Error::internal(e.to_string()))?,
                    other => return Err(misfit(other, sql_type)),
                }
            }
            Arc::new(builder.finish())
        }
        SqlType::Json => {
            let mut builder = LargeStringBuilder::new();
            for datum in data {
                match datum {
                    Datum::Null => builder.append_null(),
                    Datum::Json(v) => builder.append_value(v),
                    other => return Err(misfit(other, sql_type)),
                }
            }
            Arc::new(builder.finish())
        }
        SqlType::Jsonb => {
            let mut builder = LargeBinaryBuilder::new();
            let mut bytes = Vec::new();
            for datum in data {
                match datum {
                    Datum::Null => builder.append_null(),
                    Datum::Jsonb(v) => {
                        bytes.clear();
                        v.encode(&mut bytes);
                        builder.append_value(&bytes);
                    }
                    other => return Err(misfit(other, sql_type)),
                }
            }
            Arc::new(builder.finish())
        }
        SqlType::Oid
        | SqlType::Regclass
        | SqlType::Regtype
        | SqlType::Regproc
        | SqlType::Regnamespace
        | SqlType::Regrole => {
            primitive_column!(data, sql_type, UInt32Array, Datum::Oid(v) => *v)
        }
        SqlType::Void => Arc::new(NullArray::new(data.count())),
        SqlType::Int2Vector => list_column(data, &SqlType::Int2, sql_type)?,
        SqlType::OidVector => list_column(data, &SqlType::Oid, sql_type)?,
        SqlType::Array(element) => list_column(data, element, sql_type)?,
    })
}

fn numeric_column<'a>(
    data: impl Iterator<Item = &'a Datum>,
    sql_type: &SqlType,
) -> Result<ArrayRef> {
    let shaped = |e: datafusion::arrow::error::ArrowError| Error::internal(e.to_string());
    match arrow_type(sql_type) {
        DataType::Decimal128(precision, scale) => {
            let values = data
                .map(|datum| match datum {
                    Datum::Null => Ok(None),
                    Datum::Numeric(v) => decimal128_mantissa(v, precision, scale).map(Some),
                    other => Err(misfit(other, sql_type)),
                })
                .collect::<Result<Vec<_>>>()?;
            let array = Decimal128Array::from(values)
                .with_precision_and_scale(precision, scale)
                .map_err(shaped)?;
            Ok(Arc::new(array))
        }
        DataType::Decimal256(precision, scale) => {
            let values = data
                .map(|datum| match datum {
                    Datum::Null => Ok(None),
                    Datum::Numeric(v) => decimal256_mantissa(v, scale).map(Some),
                    other => Err(misfit(other, sql_type)),
                })
                .collect::<Result<Vec<_>>>()?;
            let array = Decimal256Array::from(values)
                .with_precision_and_scale(precision, scale)
                .map_err(shaped)?;
            Ok(Arc::new(array))
        }
        _ => {
            let mut builder = BinaryViewBuilder::new();
            let mut bytes = Vec::new();
            for datum in data {
                match datum {
                    Datum::Null => builder.append_null(),
                    Datum::Numeric(v) => {
                        bytes.clear();
                        v.encode(&mut bytes);
                        builder.append_value(&bytes);
                    }
                    other => return Err(misfit(other, sql_type)),
                }
            }
            Ok(Arc::new(builder.finish()))
        }
    }
}

fn list_column<'a>(
    data: impl Iterator<Item = &'a Datum>,
    element: &SqlType,
    sql_type: &SqlType,
) -> Result<ArrayRef> {
    let mut items: Vec<&Datum> = Vec::new();
    let mut lengths = Vec::new();
    let mut valid = Vec::new();
    for datum in data {
        match datum {
            Datum::Null => {
                lengths.push(0);
                valid.push(false);
            }
            Datum::Array(value) => {
                if value.dims.len() > 1 {
                    return Err(Error::unsupported(
                        "multidimensional array in this kind of query",
                    ));
                }
                lengths.push(value.elements.len());
                valid.push(true);
                items.extend(value.elements.iter());
            }
            other => return Err(misfit(other, sql_type)),
        }
    }
    let values = array_from_datums(items.into_iter(), element)?;
    let item_field = Arc::new(Field::new(ITEM, arrow_type(element), true));
    let list = ListArray::try_new(
        item_field,
        OffsetBuffer::from_lengths(lengths),
        values,
        Some(NullBuffer::from(valid)),
    )
    .map_err(|e| Error::internal(e.to_string()))?;
    Ok(Arc::new(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(sql_type: SqlType, values: Vec<Datum>) {
        let array = array_from_datums(values.iter(), &sql_type).expect("array");
        assert_eq!(array.data_type(), &arrow_type(&sql_type));
        for (row, value) in values.iter().enumerate() {
            assert_eq!(&datum_at(&array, row, &sql_type).expect("datum"), value);
            let scalar = scalar_value(value, &sql_type).expect("scalar");
            assert_eq!(scalar.data_type(), arrow_type(&sql_type));
            assert_eq!(
                &datum_from_scalar(&scalar, &sql_type).expect("datum"),
                value
            );
        }
    }

    fn numeric(text: &str) -> Datum {
        Datum::Numeric(Numeric::parse(text).expect("numeric"))
    }

    #[test]
    fn all_types_return() {
        there_and_back(SqlType::Bool, vec![Datum::Bool(true), Datum::Null]);
        there_and_back(SqlType::Int2, vec![Datum::Int2(-3), Datum::Null]);
        there_and_back(SqlType::Int4, vec![Datum::Int4(7)]);
        there_and_back(SqlType::Int8, vec![Datum::Int8(i64::MIN)]);
        there_and_back(SqlType::Float8, vec![Datum::Float8(1.5)]);
        there_and_back(SqlType::Text, vec![Datum::Text("ä".into()), Datum::Null]);
        there_and_back(SqlType::Bytea, vec![Datum::Bytea(vec![0, 255].into())]);
        there_and_back(SqlType::Date, vec![Datum::Date(i32::MAX)]);
        there_and_back(SqlType::Time, vec![Datum::Time(1)]);
        there_and_back(SqlType::Timestamp, vec![Datum::Timestamp(-1)]);
        there_and_back(SqlType::TimestampTz, vec![Datum::TimestampTz(i64::MAX)]);
        there_and_back(
            SqlType::Interval,
            vec![Datum::Interval(Interval::new(1, -2, 3)), Datum::Null],
        );
        there_and_back(SqlType::Uuid, vec![Datum::Uuid([7; 16]), Datum::Null]);
        there_and_back(SqlType::Json, vec![Datum::Json("{ }".into())]);
        there_and_back(
            SqlType::Jsonb,
            vec![Datum::Jsonb(Jsonb::Bool(true)), Datum::Null],
        );
        there_and_back(SqlType::Regclass, vec![Datum::Oid(16384)]);
    }

    #[test]
    fn numerics_keep_their_scale_when_it_is_declared() {
        there_and_back(
            SqlType::Numeric(Some((10, 2))),
            vec![numeric("1.50"), numeric("-0.01"), Datum::Null],
        );
        there_and_back(SqlType::Numeric(Some((50, 3))), vec![numeric("7.000")]);
        let declared = SqlType::Numeric(Some((10, 2)));
        assert!(array_from_datums([Datum::Numeric(Numeric::NAN)].iter(), &declared).is_err());
    }

    #[test]
    fn numerics_without_a_type_s_scale_keep_their_own() {
        let any = SqlType::Numeric(None);
        let texts = ["1.50", "0.000", "-1e200", "NaN", "Infinity", "-Infinity"];
        let values: Vec<Datum> = texts.iter().map(|text| numeric(text)).collect();
        let array = array_from_datums(values.iter(), &any).expect("array");
        for (row, text) in texts.iter().enumerate() {
            let Ok(Datum::Numeric(back)) = datum_at(&array, row, &any) else {
                panic!("not a numeric");
            };
            let wanted = Numeric::parse(text).expect("numeric");
            assert_eq!(back.to_string(), wanted.to_string());
        }
    }

    #[test]
    fn arrays_return() {
        let array = |elements| {
            Datum::Array(Arc::new(types::Array::from_elements(
                SqlType::Int4,
                elements,
            )))
        };
        there_and_back(
            SqlType::Array(Box::new(SqlType::Int4)),
            vec![
                array(vec![Datum::Int4(1), Datum::Null]),
                Datum::Null,
                array(vec![]),
            ],
        );
    }

    #[test]
    fn fields_remember_modifiers() {
        let varchar = SqlType::Varchar(Some(3));
        assert_eq!(sql_type_of(&field("a", &varchar, true)), varchar);
        assert_eq!(
            sql_type_of(&Field::new("a", DataType::Int32, true)),
            SqlType::Int4
        );
    }
}
