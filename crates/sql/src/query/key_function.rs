//! `sort_key(value)`: what stands for a value where DataFusion compares, groups, hashes or sorts.
//!
//! Two values that are equal in SQL have one key, and keys sort as the values do. Floats keep their
//! Arrow type, with one zero and one NaN; every other type takes the bytes of [`types::key`].

use super::errors::external;
use crate::arrow_bridge::{datum_at, sql_type_of_arrow};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, Float32Array, Float64Array,
};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use types::{Datum, SqlType};

/// Bytes of a key guessed per row, to size buffers.
const KEY_GUESS: usize = 12;

/// Whether values of this Arrow form may be equal in SQL without being equal in Arrow.
pub(crate) fn is_keyed(data_type: &DataType) -> bool {
    matches!(
        data_type,
        // numeric with scales of its values; jsonb
        DataType::BinaryView
            | DataType::LargeBinary
            | DataType::Float32
            | DataType::Float64
            | DataType::Interval(_)
            | DataType::List(_)
    )
}

/// `sort_key(expr)`, or the literal's key if that is a literal too.
pub(crate) fn sort_key(expr: Expr) -> Expr {
    match &expr {
        Expr::Literal(ScalarValue::Float64(Some(v)), metadata) => Expr::Literal(
            ScalarValue::Float64(Some(one_zero_f64(*v))),
            metadata.clone(),
        ),
        Expr::Literal(ScalarValue::Float32(Some(v)), metadata) => Expr::Literal(
            ScalarValue::Float32(Some(one_zero_f32(*v))),
            metadata.clone(),
        ),
        _ => ScalarUDF::new_from_impl(SortKeyUdf::default()).call(vec![expr]),
    }
}

/// The argument of a call of `sort_key`.
pub(crate) fn keyed_argument(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::ScalarFunction(call) if call.func.inner().downcast_ref::<SortKeyUdf>().is_some() => {
            call.args.first()
        }
        _ => None,
    }
}

/// A value equal to the one that a constant key was made from.
pub(crate) fn value_of_key(key: &ScalarValue, sql_type: &SqlType) -> Option<Datum> {
    match key {
        ScalarValue::Binary(Some(bytes)) => {
            types::key::decode(&mut bytes.as_slice(), sql_type, false).ok()
        }
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SortKeyUdf {
    signature: Signature,
}

impl Default for SortKeyUdf {
    fn default() -> Self {
        SortKeyUdf {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for SortKeyUdf {
    fn name(&self) -> &str {
        "sort_key"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DfResult<DataType> {
        Ok(match arguments {
            [float @ (DataType::Float32 | DataType::Float64)] => float.clone(),
            _ => DataType::Binary,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        match args.args.first() {
            Some(ColumnarValue::Array(array)) => Ok(ColumnarValue::Array(keys_of(array)?)),
            Some(ColumnarValue::Scalar(scalar)) => {
                let keys = keys_of(&scalar.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                    &keys, 0,
                )?))
            }
            None => Err(super::functions::broken("sort_key of nothing")),
        }
    }
}

fn keys_of(array: &ArrayRef) -> DfResult<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Float64 => {
            let keys: Float64Array = array.as_primitive::<Float64Type>().unary(one_zero_f64);
            std::sync::Arc::new(keys)
        }
        DataType::Float32 => {
            let keys: Float32Array = array.as_primitive::<Float32Type>().unary(one_zero_f32);
            std::sync::Arc::new(keys)
        }
        data_type => {
            let sql_type = sql_type_of_arrow(data_type);
            let rows = array.len();
            let mut keys = BinaryBuilder::with_capacity(rows, rows * KEY_GUESS);
            let mut bytes = Vec::new();
            for row in 0..rows {
                match datum_at(array, row, &sql_type).map_err(external)? {
                    Datum::Null => keys.append_null(),
                    value => {
                        bytes.clear();
                        types::key::encode(&mut bytes, &value, false, false);
                        keys.append_value(&bytes);
                    }
                }
            }
            std::sync::Arc::new(keys.finish())
        }
    })
}

fn one_zero_f64(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else {
        value + 0.0
    }
}

fn one_zero_f32(value: f32) -> f32 {
    if value.is_nan() {
        f32::NAN
    } else {
        value + 0.0
    }
}
