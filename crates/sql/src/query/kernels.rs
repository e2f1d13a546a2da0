//! Vectorised arithmetic: the operators that analytic queries spend their time in.
//!
//! Each kernel first brings both sides to the result's Arrow type (integers widen, decimals take the
//! wider representation) and then uses Arrow's checked kernels. The results are those of the
//! operators' `Datum` functions; only the error texts are made here again.

use super::errors::division_by_zero;
use super::functions::FunctionUdf;
use crate::arrow_bridge::arrow_type;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Datum as ArrowDatum, Scalar};
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Float32Type, Float64Type,
};
use datafusion::arrow::error::ArrowError;
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;
use std::sync::Arc;
use types::{Error, Result, SqlState, SqlType};

pub(crate) type Builtin = fn(&[ColumnarValue], &SqlType) -> Result<ColumnarValue>;

/// The kernel for a call, if it is arithmetic over types that have one.
pub(crate) fn builtin(call: &FunctionUdf) -> Option<Builtin> {
    let [left, right] = call.argument_types.as_slice() else {
        return None;
    };
    if !(left.is_numeric() && right.is_numeric() && call.return_type.is_numeric()) {
        return None;
    }
    let has_no_kernel = |t: &SqlType| arrow_type(t) == DataType::BinaryView;
    if [left, right, &call.return_type]
        .into_iter()
        .any(has_no_kernel)
    {
        return None;
    }
    Some(match call.function.name {
        "op +" => |args, to| binary(args, to, numeric::add),
        "op -" => |args, to| binary(args, to, numeric::sub),
        "op *" => multiply,
        "op /" if !matches!(call.return_type, SqlType::Numeric(_)) => divide,
        "op %" if call.return_type.is_integer() => |args, to| binary(args, to, numeric::rem),
        _ => return None,
    })
}

const STRICT_CAST: CastOptions<'static> = CastOptions {
    safe: false,
    format_options: datafusion::arrow::util::display::FormatOptions::new(),
};

/// `array` as `to`, 22003 where it does not fit.
pub(crate) fn as_type(array: ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array);
    }
    // A result at the right scale only needs its declared precision changed.
    match (array.data_type(), to) {
        (DataType::Decimal128(_, from), DataType::Decimal128(precision, scale))
            if from == scale =>
        {
            let same = array.as_primitive::<Decimal128Type>().clone();
            return match same.with_precision_and_scale(*precision, *scale) {
                Ok(array) => Ok(Arc::new(array)),
                Err(e) => Err(Error::internal(e.to_string())),
            };
        }
        (DataType::Decimal256(_, from), DataType::Decimal256(precision, scale))
            if from == scale =>
        {
            let same = array.as_primitive::<Decimal256Type>().clone();
            return match same.with_precision_and_scale(*precision, *scale) {
                Ok(array) => Ok(Arc::new(array)),
                Err(e) => Err(Error::internal(e.to_string())),
            };
        }
        _ => {}
    }
    cast_with_options(&array, to, &STRICT_CAST).map_err(|_| out_of_range_of(to))
}

fn out_of_range_of(data_type: &DataType) -> Error {
    let text = match data_type {
        DataType::Int16 => "smallint out of range",
        DataType::Int32 => "integer out of range",
        DataType::Int64 => "bigint out of range",
        DataType::Float32 | DataType::Float64 => "value out of range: overflow",
        DataType::Decimal128(..) | DataType::Decimal256(..) => "value overflows numeric format",
        _ => "value out of range",
    };
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, text)
}

/// A column, or one value for all rows.
enum Side {
    Column(ArrayRef),
    Constant(Scalar<ArrayRef>),
}

impl Side {
    fn of(value: &ColumnarValue, to: &DataType) -> Result<Side> {
        match value {
            ColumnarValue::Array(array) => Ok(Side::Column(as_type(array.clone(), to)?)),
            ColumnarValue::Scalar(scalar) => {
                let array = scalar
                    .to_array()
                    .map_err(|e| Error::internal(e.to_string()))?;
                Ok(Side::Constant(Scalar::new(as_type(array, to)?)))
            }
        }
    }

    fn datum(&self) -> &dyn ArrowDatum {
        match self {
            Side::Column(array) => array,
            Side::Constant(scalar) => scalar,
        }
    }

    fn is_constant(&self) -> bool {
        matches!(self, Side::Constant(_))
    }
}

type ArrowKernel = fn(&dyn ArrowDatum, &dyn ArrowDatum) -> Result<ArrayRef, ArrowError>;

/// The type both sides take: the result's, with each decimal's own scale kept.
fn operand_type(value: &ColumnarValue, result: &DataType) -> DataType {
    let own = value.data_type();
    match (result, own) {
        (DataType::Decimal128(..), DataType::Decimal128(p, s)) => DataType::Decimal128(p, s),
        (DataType::Decimal256(..), DataType::Decimal128(p, s) | DataType::Decimal256(p, s)) => {
            DataType::Decimal256(p, s)
        }
        (DataType::Decimal128(..), DataType::Int16) => DataType::Decimal128(5, 0),
        (DataType::Decimal128(..), DataType::Int32) => DataType::Decimal128(10, 0),
        (DataType::Decimal128(..), DataType::Int64) => DataType::Decimal128(19, 0),
        (DataType::Decimal256(..), DataType::Int16) => DataType::Decimal256(5, 0),
        (DataType::Decimal256(..), DataType::Int32) => DataType::Decimal256(10, 0),
        (DataType::Decimal256(..), DataType::Int64) => DataType::Decimal256(19, 0),
        _ => result.clone(),
    }
}

fn sides(args: &[ColumnarValue], to: &DataType) -> Result<(Side, Side)> {
    let [left, right] = args else {
        return Err(Error::internal("a binary operator without two operands"));
    };
    Ok((
        Side::of(left, &operand_type(left, to))?,
        Side::of(right, &operand_type(right, to))?,
    ))
}

fn binary(args: &[ColumnarValue], to: &SqlType, kernel: ArrowKernel) -> Result<ColumnarValue> {
    let to = arrow_type(to);
    let (left, right) = sides(args, &to)?;
    finish(&left, &right, &to, kernel)
}

fn finish(left: &Side, right: &Side, to: &DataType, kernel: ArrowKernel) -> Result<ColumnarValue> {
    let result = kernel(left.datum(), right.datum()).map_err(|error| match error {
        ArrowError::DivideByZero => division_by_zero(),
        ArrowError::ArithmeticOverflow(_) => out_of_range_of(to),
        other => Error::internal(other.to_string()),
    })?;
    let result = as_type(result, to)?;
    if left.is_constant() && right.is_constant() {
        let scalar =
            ScalarValue::try_from_array(&result, 0).map_err(|e| Error::internal(e.to_string()))?;
        Ok(ColumnarValue::Scalar(scalar))
    } else {
        Ok(ColumnarValue::Array(result))
    }
}

fn multiply(args: &[ColumnarValue], to: &SqlType) -> Result<ColumnarValue> {
    binary(args, to, numeric::mul)
}

/// Integer division truncates and float division by zero is an error.
fn divide(args: &[ColumnarValue], to: &SqlType) -> Result<ColumnarValue> {
    let to = arrow_type(to);
    let (left, right) = sides(args, &to)?;
    let (divisor, _) = right.datum().get();
    let zero = match &to {
        DataType::Float64 => divisor
            .as_primitive::<Float64Type>()
            .iter()
            .any(|v| v == Some(0.0)),
        DataType::Float32 => divisor
            .as_primitive::<Float32Type>()
            .iter()
            .any(|v| v == Some(0.0)),
        // Arrow's integer kernel looks itself.
        _ => false,
    };
    if zero {
        // A NULL dividend is NULL even over zero: let the rows decide.
        let (dividend, _) = left.datum().get();
        if dividend.null_count() == 0 {
            return Err(division_by_zero());
        }
        let rows = divisor.len().max(dividend.len());
        for row in 0..rows {
            let l = if left.is_constant() { 0 } else { row };
            let r = if right.is_constant() { 0 } else { row };
            let is_zero = match &to {
                DataType::Float64 => divisor.as_primitive::<Float64Type>().value(r) == 0.0,
                _ => divisor.as_primitive::<Float32Type>().value(r) == 0.0,
            };
            if is_zero && divisor.is_valid(r) && dividend.is_valid(l) {
                return Err(division_by_zero());
            }
        }
    }
    finish(&left, &right, &to, numeric::div)
}
