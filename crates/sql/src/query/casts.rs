//! Conversions between SQL types inside plans.
//!
//! Where Arrow's own cast means the same (integers widening, integers into decimals) the plan has an
//! ordinary DataFusion cast, which its optimiser understands. Every other conversion is a
//! [`CastUdf`], whose rows are converted one by one with PostgreSQL's rules.

use super::coerce::{CastContext, numeric_shape};
use super::errors::external;
use super::statement::Statement;
use crate::arrow_bridge::{
    array_from_datums, arrow_type, datum_at, field, scalar_value, sql_type_of_arrow,
};
use crate::context::{ExprSettings, StatementContext};
use datafusion::arrow::array::{ArrayRef, AsArray, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Date32Type, FieldRef};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use types::text::FormatContext;
use types::{Datum, Result, SqlType, TimeZone};

/// What reading and writing text depends on, from a statement's settings.
pub fn format_context(settings: &ExprSettings) -> FormatContext {
    FormatContext {
        time_zone: TimeZone::parse(&settings.time_zone).unwrap_or_default(),
        now: settings.transaction_micros,
        ..FormatContext::default()
    }
}

/// A conversion that is not Arrow's.
#[derive(Clone, Debug)]
pub struct CastUdf {
    pub from: SqlType,
    pub to: SqlType,
    /// Written by the user: `varchar(n)` cuts instead of failing.
    pub explicit: bool,
    name: String,
    signature: Signature,
}

impl PartialEq for CastUdf {
    fn eq(&self, other: &Self) -> bool {
        self.from == other.from && self.to == other.to && self.explicit == other.explicit
    }
}

impl Eq for CastUdf {}

impl Hash for CastUdf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.from.hash(state);
        self.to.hash(state);
        self.explicit.hash(state);
    }
}

/// Whether the two types have the same values in the same Arrow form, so that nothing is to be done.
fn is_relabelling(from: &SqlType, to: &SqlType) -> bool {
    if from == to {
        return true;
    }
    match (from, to) {
        (_, SqlType::Text | SqlType::Varchar(None)) => {
            matches!(from, SqlType::Text | SqlType::Varchar(_) | SqlType::Name)
        }
        _ if from.is_oid() && to.is_oid() => true,
        // A numeric that is too wide for a decimal is carried as one without bounds.
        (SqlType::Numeric(Some(_)), SqlType::Numeric(None)) => numeric_shape(from).is_none(),
        _ => false,
    }
}

/// Digits that a double holds exactly, and the largest exact power of ten: the quotient of two such
/// numbers is the nearest double.
const EXACT_DIGITS: i32 = 15;
const EXACT_POWER: i32 = 22;

/// Whether Arrow's cast gives PostgreSQL's result and cannot fail.
fn is_arrow_cast(from: &SqlType, to: &SqlType) -> bool {
    use SqlType as T;
    match (from, to) {
        (T::Int2, T::Int4 | T::Int8 | T::Float4 | T::Float8) => true,
        (T::Int4, T::Int8 | T::Float8 | T::Float4) => true,
        (T::Int8, T::Float8 | T::Float4) => true,
        (T::Float4, T::Float8) => true,
        (T::Int2 | T::Int4 | T::Int8, T::Numeric(_)) => {
            let digits = numeric_shape(from).map_or(0, |shape| shape.0);
            numeric_shape(to).is_some_and(|(precision, scale)| precision - scale >= digits)
        }
        (T::Numeric(Some(_)), T::Numeric(Some(_))) => {
            match (numeric_shape(from), numeric_shape(to)) {
                (Some((fp, fs)), Some((tp, ts))) => ts >= fs && tp - ts >= fp - fs,
                _ => false,
            }
        }
        (T::Numeric(_), T::Float8) => numeric_shape(from)
            .is_some_and(|(precision, scale)| precision <= EXACT_DIGITS && scale <= EXACT_POWER),
        _ => false,
    }
}

/// `expr` of type `from`, converted to `to`.
pub fn cast_expr(expr: Expr, from: &SqlType, to: &SqlType, explicit: bool) -> Expr {
    if is_relabelling(from, to) {
        return expr;
    }
    if is_arrow_cast(from, to) {
        let data_type = arrow_type(to);
        if sql_type_of_arrow(&data_type) == *to {
            // Without a field of its own the cast is as nullable as what it casts. A field makes the
            // physical cast nullable and the logical one not, which DataFusion refuses below an aggregate.
            return Expr::Cast(Cast::new(Box::new(expr), data_type));
        }
        let target: FieldRef = Arc::new(field("", to, true));
        return Expr::Cast(Cast::new_from_field(Box::new(expr), target));
    }
    CastUdf::new(from.clone(), to.clone(), explicit).call(expr)
}

impl CastUdf {
    pub fn new(from: SqlType, to: SqlType, explicit: bool) -> Self {
        // The session's time zone, the clock or the catalog take part in some conversions.
        let stable = |t: &SqlType| {
            matches!(t, SqlType::TimestampTz) || t.is_oid() || {
                matches!(t.element_type(), Some(SqlType::TimestampTz))
            }
        };
        let reads_clock = from.is_string() && (to.is_datetime() || stable(&to));
        let volatility = if stable(&from) || stable(&to) || reads_clock {
            Volatility::Stable
        } else {
            Volatility::Immutable
        };
        CastUdf {
            name: format!("cast to {}", to.name()),
            from,
            to,
            explicit,
            signature: Signature::any(1, volatility),
        }
    }

    pub fn call(self, argument: Expr) -> Expr {
        ScalarUDF::new_from_impl(self).call(vec![argument])
    }

    /// The conversion in a call, if it is one.
    pub fn of(udf: &ScalarUDF) -> Option<&CastUdf> {
        udf.inner().downcast_ref::<CastUdf>()
    }

    /// Converts one value; what the direct road calls.
    pub fn convert(&self, value: &Datum, context: &StatementContext) -> Result<Datum> {
        let format = format_context(&context.settings);
        cast_datum(value, &self.from, &self.to, self.explicit, &format, context)
    }

    fn fast(&self, array: &ArrayRef) -> Option<ArrayRef> {
        match (&self.from, &self.to) {
            (SqlType::Date, SqlType::Timestamp) => {
                let days = array.as_primitive::<Date32Type>();
                let finite = days
                    .values()
                    .iter()
                    .all(|d| types::datetime::date_is_finite(*d));
                if !finite {
                    return None;
                }
                let micros: TimestampMicrosecondArray =
                    days.unary(|d| i64::from(d).wrapping_mul(types::interval::MICROS_PER_DAY));
                Some(Arc::new(micros))
            }
            (SqlType::Char(_), SqlType::Text | SqlType::Varchar(None)) => {
                let padded = array.as_string_opt::<i32>()?;
                let trimmed: StringArray = padded
                    .iter()
                    .map(|v| v.map(|text| text.trim_end_matches(' ')))
                    .collect();
                Some(Arc::new(trimmed))
            }
            _ => None,
        }
    }
}

impl ScalarUDFImpl for CastUdf {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(arrow_type(&self.to))
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(field(&self.name, &self.to, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        if args.args.iter().all(super::functions::is_all_null) {
            return Ok(ColumnarValue::Scalar(crate::arrow_bridge::null_scalar(
                &self.to,
            )));
        }
        let context = Statement::of(&args.config_options)?;
        let format = format_context(&context.settings);
        let cast = |value: &Datum| {
            cast_datum(value, &self.from, &self.to, self.explicit, &format, context)
                .map_err(external)
        };
        match args.args.first() {
            Some(ColumnarValue::Scalar(scalar)) => {
                let value =
                    crate::arrow_bridge::datum_from_scalar(scalar, &self.from).map_err(external)?;
                let result = scalar_value(&cast(&value)?, &self.to).map_err(external)?;
                Ok(ColumnarValue::Scalar(result))
            }
            Some(ColumnarValue::Array(array)) => {
                if let Some(result) = self.fast(array) {
                    return Ok(ColumnarValue::Array(result));
                }
                let mut results = Vec::with_capacity(array.len());
                for row in 0..array.len() {
                    let value = datum_at(array, row, &self.from).map_err(external)?;
                    results.push(cast(&value)?);
                }
                let result = array_from_datums(results.iter(), &self.to).map_err(external)?;
                Ok(ColumnarValue::Array(result))
            }
            None => Err(super::functions::broken("a cast without a value")),
        }
    }
}

/// One value converted with PostgreSQL's rules. Names of objects are looked up in the statement's
/// catalog.
pub fn cast_datum(
    value: &Datum,
    from: &SqlType,
    to: &SqlType,
    explicit: bool,
    format: &FormatContext,
    context: &StatementContext,
) -> Result<Datum> {
    match value {
        Datum::Null => Ok(Datum::Null),
        Datum::Text(text) if to.is_oid() && *to != SqlType::Oid => {
            super::object_names::parse(text, to, &context.catalog, &context.settings)
        }
        Datum::Oid(oid) if to.is_string() && *from != SqlType::Oid => {
            let text = super::object_names::show(*oid, from, &context.catalog, &context.settings);
            types::cast::cast(
                Datum::Text(text.into()),
                &SqlType::Text,
                to,
                cast_context(explicit),
                format,
            )
        }
        _ => {
            let from = if matches!(from, SqlType::Unknown) {
                &SqlType::Text
            } else {
                from
            };
            types::cast::cast(value.clone(), from, to, cast_context(explicit), format)
        }
    }
}

/// Implicit conversions that reach this point were allowed by the binder.
fn cast_context(explicit: bool) -> CastContext {
    if explicit {
        CastContext::Explicit
    } else {
        CastContext::Assignment
    }
}
