//! What each of our aggregates makes of the rows of a group.

use super::fold::Fold;
use super::folded::FoldKind;
use crate::functions::json::JsonWriter;
use std::sync::Arc;
use types::{Datum, Error, FormatContext, Jsonb, Result, SqlState, SqlType};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    JsonArray,
    JsonbArray,
    JsonObject,
    JsonbObject,
    Any,
    CountPairs,
    Mode,
    Discrete,
    Continuous,
    Array,
    Sum(FoldKind),
}

/// A row of a group: the call's arguments.
pub(super) type Arguments = Vec<Datum>;

impl Kind {
    /// Whether a row with a NULL argument counts for nothing.
    pub fn passes_over_nulls(self) -> bool {
        !matches!(
            self,
            Kind::JsonArray | Kind::JsonbArray | Kind::JsonObject | Kind::JsonbObject | Kind::Array
        )
    }

    /// The result, of type `returns`, over the rows in their order.
    pub fn finish(self, rows: &[Arguments], returns: &SqlType) -> Result<Datum> {
        if self == Kind::CountPairs {
            return Ok(Datum::Int8(rows.len() as i64));
        }
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(Datum::Null);
        };
        match self {
            Kind::JsonArray => json_array(rows),
            Kind::JsonbArray => {
                let items: Result<Vec<Jsonb>> = rows.iter().map(|row| member(row, 0)).collect();
                Ok(Datum::Jsonb(Jsonb::array(items?)))
            }
            Kind::JsonObject => json_object(rows),
            Kind::JsonbObject => {
                let mut members = Vec::with_capacity(rows.len());
                for row in rows {
                    members.push((key(row)?, member(row, 1)?));
                }
                Ok(Datum::Jsonb(Jsonb::object(members)))
            }
            Kind::Any => value(first, 0),
            Kind::Mode => mode(rows),
            Kind::Discrete => {
                let fraction = fraction(first)?;
                let at = (fraction * rows.len() as f64).ceil() as usize;
                value(rows.get(at.max(1) - 1).unwrap_or(last), 1)
            }
            Kind::Continuous => continuous(rows, fraction(first)?),
            Kind::Array => {
                let element = returns
                    .element_type()
                    .ok_or_else(|| Error::internal("array_agg of no array"))?;
                let items: Result<Vec<Datum>> = rows.iter().map(|row| value(row, 0)).collect();
                Ok(Datum::Array(Arc::new(types::Array::from_elements(
                    element, items?,
                ))))
            }
            Kind::Sum(kind) => {
                let mut sum = Fold::new(kind, false);
                for row in rows {
                    sum.add(value(row, 0)?)?;
                }
                sum.finish()
            }
            Kind::CountPairs => Ok(Datum::Null),
        }
    }
}

fn value(row: &Arguments, index: usize) -> Result<Datum> {
    row.get(index)
        .cloned()
        .ok_or_else(|| Error::internal("an aggregate without its argument"))
}

/// A `jsonb` argument; SQL's NULL is JSON's.
fn member(row: &Arguments, index: usize) -> Result<Jsonb> {
    match value(row, index)? {
        Datum::Null => Ok(Jsonb::Null),
        Datum::Jsonb(value) => Ok(value),
        _ => Err(Error::internal("an aggregate of jsonb over something else")),
    }
}

fn key(row: &Arguments) -> Result<Arc<str>> {
    match value(row, 0)? {
        Datum::Text(key) => Ok(key),
        _ => Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "field name must not be null",
        )),
    }
}

fn json_array(rows: &[Arguments]) -> Result<Datum> {
    let format = FormatContext::default();
    let mut writer = JsonWriter {
        format: &format,
        out: b"[".to_vec(),
    };
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            writer.out.extend_from_slice(b", ");
        }
        writer.value(&value(row, 0)?)?;
    }
    writer.out.push(b']');
    Ok(writer.finish())
}

fn json_object(rows: &[Arguments]) -> Result<Datum> {
    let format = FormatContext::default();
    let mut writer = JsonWriter {
        format: &format,
        out: b"{ ".to_vec(),
    };
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            writer.out.extend_from_slice(b", ");
        }
        let key = key(row).map_err(|_| null_key())?;
        writer.key(&Datum::Text(key))?;
        writer.out.extend_from_slice(b" : ");
        writer.value(&value(row, 1)?)?;
    }
    writer.out.extend_from_slice(b" }");
    Ok(writer.finish())
}

fn null_key() -> Error {
    Error::new(
        SqlState::NULL_VALUE_NOT_ALLOWED,
        "null value not allowed for object key",
    )
}

/// The most frequent value, the first of them in order. Rows are sorted.
fn mode(rows: &[Arguments]) -> Result<Datum> {
    let mut best = (0, 0);
    let mut start = 0;
    for end in 1..=rows.len() {
        let same = end < rows.len() && value(&rows[end], 0)?.sql_eq(&value(&rows[start], 0)?);
        if !same {
            if end - start > best.0 {
                best = (end - start, start);
            }
            start = end;
        }
    }
    value(&rows[best.1], 0)
}

fn fraction(row: &Arguments) -> Result<f64> {
    match value(row, 0)? {
        Datum::Float8(fraction) if (0.0..=1.0).contains(&fraction) => Ok(fraction),
        Datum::Float8(fraction) => Err(Error::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("percentile value {fraction} is not between 0 and 1"),
        )),
        _ => Err(Error::internal("a percentile without its fraction")),
    }
}

/// Between the two nearest of the sorted rows.
fn continuous(rows: &[Arguments], fraction: f64) -> Result<Datum> {
    let place = fraction * (rows.len() - 1) as f64;
    let (low, high) = (place.floor(), place.ceil());
    let part = place - low;
    let low = value(&rows[low as usize], 1)?;
    let high = value(&rows[high as usize], 1)?;
    match (&low, &high) {
        _ if part == 0.0 => Ok(low),
        (Datum::Float8(low), Datum::Float8(high)) => Ok(Datum::Float8(low + part * (high - low))),
        (Datum::Interval(low), Datum::Interval(high)) => {
            let step = high.checked_sub(low)?.checked_mul(part)?;
            step.checked_add(low).map(Datum::Interval)
        }
        _ => Err(Error::internal("a percentile of something else")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[f64]) -> Vec<Arguments> {
        values.iter().map(|v| vec![Datum::Float8(*v)]).collect()
    }

    fn with_fraction(fraction: f64, values: &[f64]) -> Vec<Arguments> {
        let row = |v: &f64| vec![Datum::Float8(fraction), Datum::Float8(*v)];
        values.iter().map(row).collect()
    }

    #[test]
    fn ordered_sets() {
        let values = [1.0, 2.0, 3.0, 4.0];
        let median = Kind::Continuous.finish(&with_fraction(0.5, &values), &SqlType::Text);
        assert_eq!(median, Ok(Datum::Float8(2.5)));
        let median = Kind::Discrete.finish(&with_fraction(0.5, &values), &SqlType::Text);
        assert_eq!(median, Ok(Datum::Float8(2.0)));
        let least = Kind::Discrete.finish(&with_fraction(0.0, &values), &SqlType::Text);
        assert_eq!(least, Ok(Datum::Float8(1.0)));
        let error = Kind::Discrete.finish(&with_fraction(2.0, &values), &SqlType::Text);
        assert!(error.is_err());
        let mode = Kind::Mode.finish(&column(&[1.0, 2.0, 2.0, 3.0, 3.0]), &SqlType::Text);
        assert_eq!(mode, Ok(Datum::Float8(2.0)));
        assert_eq!(Kind::Mode.finish(&[], &SqlType::Text), Ok(Datum::Null));
    }

    #[test]
    fn documents() {
        let json = |text: &str| Datum::Json(text.into());
        let rows = vec![vec![json("1")], vec![Datum::Null], vec![json("\"x\"")]];
        assert_eq!(
            Kind::JsonArray.finish(&rows, &SqlType::Text),
            Ok(json("[1, null, \"x\"]"))
        );
        let rows = vec![
            vec![Datum::from("a"), json("1")],
            vec![Datum::from("b"), Datum::Null],
        ];
        let object = Kind::JsonObject.finish(&rows, &SqlType::Text);
        assert_eq!(object, Ok(json("{ \"a\" : 1, \"b\" : null }")));
        assert_eq!(
            Kind::JsonObject.finish(&[], &SqlType::Text),
            Ok(Datum::Null)
        );
    }
}
