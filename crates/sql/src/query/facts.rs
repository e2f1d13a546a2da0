//! Least and greatest values of decoded columns: what join orders are chosen by.
//!
//! Nothing may answer a query from them, so none says that it is exact.

use datafusion::arrow::array::{Array, ArrowPrimitiveType, AsArray};
use datafusion::arrow::compute::{max, min};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue};

/// Of one array.
#[derive(Debug)]
pub(crate) struct Facts {
    nulls: usize,
    /// `None` for types that are costly to compare, and for arrays without values.
    bounds: Option<(ScalarValue, ScalarValue)>,
}

impl Facts {
    pub fn of(array: &dyn Array) -> Facts {
        Facts {
            nulls: array.null_count(),
            bounds: bounds(array),
        }
    }
}

/// Of a column, from those of its arrays.
pub(crate) fn statistics_of<'f>(arrays: impl Iterator<Item = &'f Facts>) -> ColumnStatistics {
    let mut nulls = 0;
    let mut bounds: Option<(&ScalarValue, &ScalarValue)> = None;
    for facts in arrays {
        nulls += facts.nulls;
        let Some((least, greatest)) = &facts.bounds else {
            continue;
        };
        bounds = Some(match bounds {
            None => (least, greatest),
            Some((low, high)) => (
                if least < low { least } else { low },
                if greatest > high { greatest } else { high },
            ),
        });
    }
    let mut statistics = ColumnStatistics::new_unknown();
    statistics.null_count = Precision::Inexact(nulls);
    if let Some((least, greatest)) = bounds {
        statistics.min_value = Precision::Inexact(least.clone());
        statistics.max_value = Precision::Inexact(greatest.clone());
    }
    statistics
}

fn bounds(array: &dyn Array) -> Option<(ScalarValue, ScalarValue)> {
    fn of<T: ArrowPrimitiveType>(
        array: &dyn Array,
        scalar: impl Fn(T::Native) -> ScalarValue,
    ) -> Option<(ScalarValue, ScalarValue)> {
        let array = array.as_primitive_opt::<T>()?;
        Some((scalar(min(array)?), scalar(max(array)?)))
    }
    match array.data_type() {
        DataType::Int16 => of::<Int16Type>(array, |v| ScalarValue::Int16(Some(v))),
        DataType::Int32 => of::<Int32Type>(array, |v| ScalarValue::Int32(Some(v))),
        DataType::Int64 => of::<Int64Type>(array, |v| ScalarValue::Int64(Some(v))),
        DataType::Date32 => of::<Date32Type>(array, |v| ScalarValue::Date32(Some(v))),
        DataType::Decimal128(precision, scale) => of::<Decimal128Type>(array, |v| {
            ScalarValue::Decimal128(Some(v), *precision, *scale)
        }),
        DataType::Timestamp(_, zone) => of::<TimestampMicrosecondType>(array, |v| {
            ScalarValue::TimestampMicrosecond(Some(v), zone.clone())
        }),
        _ => None,
    }
}
