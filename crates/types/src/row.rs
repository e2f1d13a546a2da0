//! The row encoding: any column can be read without decoding the others.
//!
//! ```text
//! row = version (1) · columns (2) · null bitmap · fixed part · end offsets · variable part
//! ```
//!
//! - `columns` is how many columns the table had when the row was written. A column that was added
//!   later is *absent* in older rows, and the reader puts its default in.
//! - The fixed part has a slot for every fixed-width column, also for NULLs, so that a column's place
//!   depends only on the columns before it.
//! - Each variable-width column has one end offset into the variable part: two bytes, or four if
//!   the version byte has its high bit set.
//! - `numeric(p, s)` with p ≤ 18 is a fixed 8-byte mantissa, with p ≤ 38 a 16-byte one: what Arrow's
//!   Decimal128 builder takes. Everything is little-endian.
//!
//! Whoever changes a column's type must rewrite the table unless [`same_storage`] says that the two
//! types are stored alike.

use crate::jsonb::Jsonb;
use crate::stored::{self, take_array};
use crate::{Array, Datum, Error, Interval, Numeric, Result, SqlType};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

const VERSION: u8 = 1;
const WIDE_OFFSETS: u8 = 0x80;
const HEADER_LEN: usize = 3;
/// The most columns a table may have, as in PostgreSQL.
pub const MAX_COLUMNS: usize = 1600;

/// Precision up to which a numeric's mantissa is stored in 8 bytes.
const NUMERIC_8_PRECISION: u16 = 18;
/// Precision up to which a numeric's mantissa is stored in 16 bytes.
const NUMERIC_16_PRECISION: u16 = 38;
/// The mantissas that stand for NaN: no value of the precision reaches them.
const NAN_8: i64 = i64::MIN;
const NAN_16: i128 = i128::MIN;

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// In the fixed part, at this offset.
    Fixed(u32),
    /// The nth variable-width column.
    Variable(u32),
}

/// The bytes a column takes in the fixed part; `None` if it is stored in the variable part.
fn fixed_width(sql_type: &SqlType) -> Option<usize> {
    Some(match sql_type {
        SqlType::Bool => 1,
        SqlType::Int2 => 2,
        SqlType::Int4 | SqlType::Float4 | SqlType::Date => 4,
        SqlType::Int8
        | SqlType::Float8
        | SqlType::Time
        | SqlType::Timestamp
        | SqlType::TimestampTz => 8,
        SqlType::Interval | SqlType::Uuid => 16,
        SqlType::Numeric(Some((precision, scale))) if *scale >= 0 => match precision {
            0..=NUMERIC_8_PRECISION if *scale <= *precision as i16 => 8,
            0..=NUMERIC_16_PRECISION if *scale <= *precision as i16 => 16,
            _ => return None,
        },
        _ if sql_type.is_oid() => 4,
        _ => return None,
    })
}

/// Whether rows written with a column of type `old` can be read with it being of type `new`.
pub fn same_storage(old: &SqlType, new: &SqlType) -> bool {
    if fixed_width(old) != fixed_width(new) {
        return false;
    }
    match (old, new) {
        (SqlType::Numeric(Some((_, a))), SqlType::Numeric(Some((_, b)))) => {
            fixed_width(old).is_none() || a == b
        }
        (SqlType::Array(a), SqlType::Array(b)) => a == b || (a.is_string() && b.is_string()),
        _ if old.is_string() => new.is_string(),
        _ if old.is_oid() => new.is_oid(),
        _ => old.same_base(new),
    }
}

/// Where each column of a table is in its rows. Made once per table version.
#[derive(Clone, Debug)]
pub struct RowLayout {
    types: Vec<SqlType>,
    slots: Vec<Slot>,
    /// Length of the fixed part of a row with the first n columns.
    fixed_len: Vec<u32>,
    /// Number of variable-width columns among the first n.
    variable_count: Vec<u32>,
}

impl RowLayout {
    pub fn new(types: &[SqlType]) -> Self {
        let mut layout = RowLayout {
            types: types.to_vec(),
            slots: Vec::with_capacity(types.len()),
            fixed_len: vec![0],
            variable_count: vec![0],
        };
        let (mut fixed, mut variable) = (0u32, 0u32);
        for sql_type in types {
            match fixed_width(sql_type) {
                Some(width) => {
                    layout.slots.push(Slot::Fixed(fixed));
                    fixed += width as u32;
                }
                None => {
                    layout.slots.push(Slot::Variable(variable));
                    variable += 1;
                }
            }
            layout.fixed_len.push(fixed);
            layout.variable_count.push(variable);
        }
        layout
    }

    pub fn types(&self) -> &[SqlType] {
        &self.types
    }

    pub fn len(&self) -> usize {
        self.types.len()
    }

    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// Appends the encoding of `row`, which has one datum per column, each of its column's type.
    pub fn encode(&self, row: &[Datum], out: &mut Vec<u8>) -> Result<()> {
        if row.len() != self.types.len() || row.len() > MAX_COLUMNS {
            return Err(Error::internal(format!(
                "row has {} values for {} columns",
                row.len(),
                self.types.len()
            )));
        }
        let columns = row.len();
        let start = out.len();
        out.push(VERSION);
        out.extend_from_slice(&(columns as u16).to_le_bytes());
        let bitmap = out.len();
        out.resize(bitmap + columns.div_ceil(8), 0);
        let mut ends: SmallVec<[u32; 16]> = SmallVec::new();
        let variables = self.variable_count[columns] as usize;
        // Room for short offsets; if they do not suffice, the variable part moves up once.
        for (i, datum) in row.iter().enumerate() {
            if let Datum::Null = datum {
                out[bitmap + i / 8] |= 1 << (i % 8);
            }
            if let Slot::Fixed(_) = self.slots[i] {
                encode_fixed(datum, &self.types[i], out)?;
            }
        }
        let offsets = out.len();
        out.resize(offsets + variables * 2, 0);
        let variable_start = out.len();
        for (i, datum) in row.iter().enumerate() {
            if let Slot::Variable(_) = self.slots[i] {
                encode_variable(datum, &self.types[i], out)?;
                let end = u32::try_from(out.len() - variable_start).map_err(|_| {
                    Error::new(
                        crate::SqlState::PROGRAM_LIMIT_EXCEEDED,
                        "row is too big: 4 GiB is the limit",
                    )
                })?;
                ends.push(end);
            }
        }
        if ends.last().is_some_and(|end| *end > u32::from(u16::MAX)) {
            out[start] |= WIDE_OFFSETS;
            let extra = variables * 2;
            let len = out.len();
            out.resize(len + extra, 0);
            out.copy_within(variable_start..len, variable_start + extra);
            for (i, end) in ends.iter().enumerate() {
                out[offsets + i * 4..][..4].copy_from_slice(&end.to_le_bytes());
            }
        } else {
            for (i, end) in ends.iter().enumerate() {
                out[offsets + i * 2..][..2].copy_from_slice(&(*end as u16).to_le_bytes());
            }
        }
        Ok(())
    }
}

/// Encodes one row without a prepared layout.
pub fn encode(types: &[SqlType], row: &[Datum], out: &mut Vec<u8>) -> Result<()> {
    RowLayout::new(types).encode(row, out)
}

/// A stored row, with its columns still in bytes.
#[derive(Clone, Copy)]
pub struct RowView<'a> {
    layout: &'a RowLayout,
    columns: usize,
    bitmap: &'a [u8],
    fixed: &'a [u8],
    offsets: &'a [u8],
    wide: bool,
    variable: &'a [u8],
}

fn wrong_type(index: usize, sql_type: &SqlType) -> Error {
    Error::internal(format!(
        "column {index} of type {sql_type} read as another type"
    ))
}

impl<'a> RowView<'a> {
    /// Checks the row's frame; XX001 if it does not hold what it says.
    #[inline]
    pub fn new(bytes: &'a [u8], layout: &'a RowLayout) -> Result<RowView<'a>> {
        let bad = || Error::corrupt("malformed row");
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or_else(bad)?;
        let wide = header[0] & WIDE_OFFSETS != 0;
        let columns = usize::from(u16::from_le_bytes([header[1], header[2]]));
        if header[0] & !WIDE_OFFSETS != VERSION || columns > layout.types.len() {
            return Err(bad());
        }
        let (bitmap, rest) = rest.split_at_checked(columns.div_ceil(8)).ok_or_else(bad)?;
        let (fixed, rest) = rest
            .split_at_checked(layout.fixed_len[columns] as usize)
            .ok_or_else(bad)?;
        let width = if wide { 4 } else { 2 };
        let (offsets, variable) = rest
            .split_at_checked(layout.variable_count[columns] as usize * width)
            .ok_or_else(bad)?;
        Ok(RowView {
            layout,
            columns,
            bitmap,
            fixed,
            offsets,
            wide,
            variable,
        })
    }

    /// Columns of the layout, absent ones included.
    pub fn len(&self) -> usize {
        self.layout.types.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The column was added to the table after this row was written.
    #[inline]
    pub fn is_absent(&self, i: usize) -> bool {
        i >= self.columns
    }

    /// NULL is stored in the column. Absent columns are not NULL.
    #[inline]
    pub fn is_null(&self, i: usize) -> bool {
        self.bitmap
            .get(i / 8)
            .is_some_and(|byte| byte & (1 << (i % 8)) != 0)
    }

    #[inline]
    fn fixed_bytes<const N: usize>(&self, i: usize) -> Result<[u8; N]> {
        match self.layout.slots.get(i) {
            Some(Slot::Fixed(offset)) if i < self.columns => self
                .fixed
                .get(*offset as usize..)
                .and_then(|b| b.first_chunk::<N>())
                .copied()
                .ok_or_else(|| Error::corrupt("malformed row")),
            _ => Err(Error::internal(format!("column {i} has no fixed slot"))),
        }
    }

    /// The bytes of a variable-width column.
    #[inline]
    pub fn bytes(&self, i: usize) -> Result<&'a [u8]> {
        let bad = || Error::corrupt("malformed row");
        match self.layout.slots.get(i) {
            Some(Slot::Variable(n)) if i < self.columns => {
                let n = *n as usize;
                let end = self.offset(n).ok_or_else(bad)?;
                let start = if n == 0 {
                    0
                } else {
                    self.offset(n - 1).ok_or_else(bad)?
                };
                self.variable.get(start..end).ok_or_else(bad)
            }
            _ => Err(Error::internal(format!("column {i} has no variable slot"))),
        }
    }

    #[inline]
    fn offset(&self, n: usize) -> Option<usize> {
        if self.wide {
            let raw = self.offsets.get(n * 4..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*raw) as usize)
        } else {
            let raw = self.offsets.get(n * 2..)?.first_chunk::<2>()?;
            Some(usize::from(u16::from_le_bytes(*raw)))
        }
    }

    // The typed getters read a column that is neither NULL nor absent: ask first.

    #[inline]
    pub fn bool(&self, i: usize) -> Result<bool> {
        Ok(self.fixed_bytes::<1>(i)?[0] != 0)
    }

    #[inline]
    pub fn i16(&self, i: usize) -> Result<i16> {
        Ok(i16::from_le_bytes(self.fixed_bytes(i)?))
    }

    /// `int4` and `date`.
    #[inline]
    pub fn i32(&self, i: usize) -> Result<i32> {
        Ok(i32::from_le_bytes(self.fixed_bytes(i)?))
    }

    /// `int8`, `time`, `timestamp`, `timestamptz`, and the mantissa of a short numeric.
    #[inline]
    pub fn i64(&self, i: usize) -> Result<i64> {
        Ok(i64::from_le_bytes(self.fixed_bytes(i)?))
    }

    /// `oid` and its kin.
    #[inline]
    pub fn oid(&self, i: usize) -> Result<u32> {
        Ok(u32::from_le_bytes(self.fixed_bytes(i)?))
    }

    #[inline]
    pub fn f32(&self, i: usize) -> Result<f32> {
        Ok(f32::from_le_bytes(self.fixed_bytes(i)?))
    }

    #[inline]
    pub fn f64(&self, i: usize) -> Result<f64> {
        Ok(f64::from_le_bytes(self.fixed_bytes(i)?))
    }

    #[inline]
    pub fn uuid(&self, i: usize) -> Result<[u8; 16]> {
        self.fixed_bytes(i)
    }

    pub fn interval(&self, i: usize) -> Result<Interval> {
        Ok(interval_from(self.fixed_bytes(i)?))
    }

    /// Text, varchar, char(n), json.
    #[inline]
    pub fn str(&self, i: usize) -> Result<&'a str> {
        std::str::from_utf8(self.bytes(i)?)
            .map_err(|_| Error::corrupt("stored text is not valid UTF-8"))
    }

    /// The mantissa of a `numeric(p ≤ 38, s)` at the type's scale; `None` for NaN.
    #[inline]
    pub fn decimal128(&self, i: usize) -> Result<Option<i128>> {
        let sql_type = self.sql_type(i)?;
        match (sql_type, fixed_width(sql_type)) {
            (SqlType::Numeric(_), Some(8)) => {
                let m = self.i64(i)?;
                Ok((m != NAN_8).then_some(i128::from(m)))
            }
            (SqlType::Numeric(_), Some(_)) => {
                let m = i128::from_le_bytes(self.fixed_bytes(i)?);
                Ok((m != NAN_16).then_some(m))
            }
            _ => Err(wrong_type(i, sql_type)),
        }
    }

    fn sql_type(&self, i: usize) -> Result<&'a SqlType> {
        self.layout
            .types
            .get(i)
            .ok_or_else(|| Error::internal(format!("row has no column {i}")))
    }

    /// The value of a column; NULL also for absent ones, so ask [`RowView::is_absent`] first where
    /// the difference matters.
    pub fn datum(&self, i: usize) -> Result<Datum> {
        let sql_type = self.sql_type(i)?;
        if self.is_absent(i) || self.is_null(i) {
            return Ok(Datum::Null);
        }
        match self.layout.slots[i] {
            Slot::Fixed(offset) => {
                let mut bytes = self
                    .fixed
                    .get(offset as usize..)
                    .ok_or_else(|| Error::corrupt("malformed row"))?;
                decode_fixed(&mut bytes, sql_type)
            }
            Slot::Variable(_) => decode_variable(self.bytes(i)?, sql_type),
        }
    }

    /// All columns, absent ones as NULL.
    pub fn to_row(&self) -> Result<Vec<Datum>> {
        let mut row = Vec::with_capacity(self.len());
        for i in 0..self.len() {
            row.push(self.datum(i)?);
        }
        Ok(row)
    }
}

fn interval_from(raw: [u8; 16]) -> Interval {
    let mut bytes = &raw[..];
    let mut next4 = || take_array::<4>(&mut bytes).unwrap_or_default();
    let (months, days) = (i32::from_le_bytes(next4()), i32::from_le_bytes(next4()));
    let micros = i64::from_le_bytes(take_array(&mut bytes).unwrap_or_default());
    Interval::new(months, days, micros)
}

fn mismatch(datum: &Datum, sql_type: &SqlType) -> Error {
    Error::internal(format!(
        "value {datum:?} does not fit a column of type {sql_type}"
    ))
}

/// Appends a fixed slot; zeros for NULL.
fn encode_fixed(datum: &Datum, sql_type: &SqlType, out: &mut Vec<u8>) -> Result<()> {
    match (datum, sql_type) {
        (Datum::Int4(v), SqlType::Int4) | (Datum::Date(v), SqlType::Date) => {
            out.extend_from_slice(&v.to_le_bytes());
        }
        (Datum::Int8(v), SqlType::Int8)
        | (Datum::Time(v), SqlType::Time)
        | (Datum::Timestamp(v), SqlType::Timestamp)
        | (Datum::TimestampTz(v), SqlType::TimestampTz) => {
            out.extend_from_slice(&v.to_le_bytes());
        }
        (Datum::Null, _) => {
            out.resize(out.len() + fixed_width(sql_type).unwrap_or(0), 0);
        }
        (Datum::Bool(v), SqlType::Bool) => out.push(u8::from(*v)),
        (Datum::Int2(v), SqlType::Int2) => out.extend_from_slice(&v.to_le_bytes()),
        (Datum::Oid(v), t) if t.is_oid() => out.extend_from_slice(&v.to_le_bytes()),
        (Datum::Float4(v), SqlType::Float4) => out.extend_from_slice(&v.to_le_bytes()),
        (Datum::Float8(v), SqlType::Float8) => out.extend_from_slice(&v.to_le_bytes()),
        (Datum::Interval(v), SqlType::Interval) => {
            out.extend_from_slice(&v.months.to_le_bytes());
            out.extend_from_slice(&v.days.to_le_bytes());
            out.extend_from_slice(&v.micros.to_le_bytes());
        }
        (Datum::Uuid(v), SqlType::Uuid) => out.extend_from_slice(v),
        (Datum::Numeric(v), SqlType::Numeric(Some((_, scale)))) => {
            let mantissa = v.to_i128_at_scale(*scale as u16);
            let exact = |m: i128| Numeric::from_i128(m, *scale as u16) == *v;
            match (mantissa, fixed_width(sql_type)) {
                (None, Some(8)) if v.is_nan() => out.extend_from_slice(&NAN_8.to_le_bytes()),
                (None, _) if v.is_nan() => out.extend_from_slice(&NAN_16.to_le_bytes()),
                (Some(m), Some(8)) if v.scale() <= *scale as u16 || exact(m) => {
                    let short = i64::try_from(m).map_err(|_| mismatch(datum, sql_type))?;
                    out.extend_from_slice(&short.to_le_bytes());
                }
                (Some(m), Some(_)) if v.scale() <= *scale as u16 || exact(m) => {
                    out.extend_from_slice(&m.to_le_bytes());
                }
                _ => return Err(mismatch(datum, sql_type)),
            }
        }
        _ => return Err(mismatch(datum, sql_type)),
    }
    Ok(())
}

fn decode_fixed(bytes: &mut &[u8], sql_type: &SqlType) -> Result<Datum> {
    Ok(match sql_type {
        SqlType::Bool => Datum::Bool(take_array::<1>(bytes)?[0] != 0),
        SqlType::Int2 => Datum::Int2(i16::from_le_bytes(take_array(bytes)?)),
        SqlType::Int4 => Datum::Int4(i32::from_le_bytes(take_array(bytes)?)),
        SqlType::Int8 => Datum::Int8(i64::from_le_bytes(take_array(bytes)?)),
        SqlType::Float4 => Datum::Float4(f32::from_le_bytes(take_array(bytes)?)),
        SqlType::Float8 => Datum::Float8(f64::from_le_bytes(take_array(bytes)?)),
        SqlType::Date => Datum::Date(i32::from_le_bytes(take_array(bytes)?)),
        SqlType::Time => Datum::Time(i64::from_le_bytes(take_array(bytes)?)),
        SqlType::Timestamp => Datum::Timestamp(i64::from_le_bytes(take_array(bytes)?)),
        SqlType::TimestampTz => Datum::TimestampTz(i64::from_le_bytes(take_array(bytes)?)),
        SqlType::Interval => Datum::Interval(interval_from(take_array(bytes)?)),
        SqlType::Uuid => Datum::Uuid(take_array(bytes)?),
        SqlType::Numeric(Some((_, scale))) => {
            let mantissa = if fixed_width(sql_type) == Some(8) {
                let m = i64::from_le_bytes(take_array(bytes)?);
                (m != NAN_8).then_some(i128::from(m))
            } else {
                let m = i128::from_le_bytes(take_array(bytes)?);
                (m != NAN_16).then_some(m)
            };
            Datum::Numeric(match mantissa {
                Some(m) => Numeric::from_i128(m, *scale as u16),
                None => Numeric::NAN,
            })
        }
        t if t.is_oid() => Datum::Oid(u32::from_le_bytes(take_array(bytes)?)),
        _ => {
            return Err(Error::internal(format!(
                "type {sql_type} has no fixed form"
            )));
        }
    })
}

/// Appends a variable-width value; nothing for NULL.
fn encode_variable(datum: &Datum, sql_type: &SqlType, out: &mut Vec<u8>) -> Result<()> {
    match (datum, sql_type) {
        (Datum::Text(v), t) if t.is_string() => out.extend_from_slice(v.as_bytes()),
        (Datum::Null, _) => {}
        (Datum::Bytea(v), SqlType::Bytea) => out.extend_from_slice(v),
        (Datum::Json(v), SqlType::Json) => out.extend_from_slice(v.as_bytes()),
        (Datum::Jsonb(v), SqlType::Jsonb) => v.encode(out),
        (Datum::Numeric(v), SqlType::Numeric(_)) => stored::encode_numeric(v, out),
        (Datum::Array(v), t) if t.is_array() => encode_array(v, t, out)?,
        _ => return Err(mismatch(datum, sql_type)),
    }
    Ok(())
}

fn decode_variable(bytes: &[u8], sql_type: &SqlType) -> Result<Datum> {
    let text = || {
        std::str::from_utf8(bytes)
            .map(Arc::<str>::from)
            .map_err(|_| Error::corrupt("stored text is not valid UTF-8"))
    };
    Ok(match sql_type {
        t if t.is_string() => Datum::Text(text()?),
        SqlType::Bytea => Datum::Bytea(Bytes::copy_from_slice(bytes)),
        SqlType::Json => Datum::Json(text()?),
        SqlType::Jsonb => Datum::Jsonb(Jsonb::decode(bytes)?),
        SqlType::Numeric(_) => Datum::Numeric(stored::decode_numeric(bytes)?),
        t if t.is_array() => Datum::Array(Arc::new(decode_array(bytes, t)?)),
        _ => {
            return Err(Error::internal(format!(
                "type {sql_type} has no stored form"
            )));
        }
    })
}

/// Element length that stands for NULL.
const NULL_ELEMENT: u32 = u32::MAX;

fn encode_array(array: &Array, sql_type: &SqlType, out: &mut Vec<u8>) -> Result<()> {
    let element_type = sql_type
        .element_type()
        .ok_or_else(|| Error::internal("not an array type"))?;
    out.push(array.dims.len() as u8);
    for dim in &array.dims {
        out.extend_from_slice(&dim.len.to_le_bytes());
        out.extend_from_slice(&dim.lower_bound.to_le_bytes());
    }
    for element in &array.elements {
        let place = out.len();
        out.extend_from_slice(&NULL_ELEMENT.to_le_bytes());
        if element.is_null() {
            continue;
        }
        if fixed_width(&element_type).is_some() {
            encode_fixed(element, &element_type, out)?;
        } else {
            encode_variable(element, &element_type, out)?;
        }
        let len = u32::try_from(out.len() - place - 4)
            .map_err(|_| Error::internal("array element is too long"))?;
        out[place..place + 4].copy_from_slice(&len.to_le_bytes());
    }
    Ok(())
}

fn decode_array(mut bytes: &[u8], sql_type: &SqlType) -> Result<Array> {
    let bad = || Error::corrupt("malformed stored array");
    let element_type = sql_type.element_type().ok_or_else(bad)?;
    if element_type.is_array() {
        return Err(bad());
    }
    let count = usize::from(stored::take(&mut bytes, 1)?[0]);
    if count > crate::array::MAX_DIMENSIONS {
        return Err(bad());
    }
    let mut dims = SmallVec::new();
    let mut product = i64::from(count > 0);
    for _ in 0..count {
        let len = i32::from_le_bytes(take_array(&mut bytes)?);
        let lower_bound = i32::from_le_bytes(take_array(&mut bytes)?);
        if len < 1 {
            return Err(bad());
        }
        product = product.checked_mul(i64::from(len)).ok_or_else(bad)?;
        dims.push(crate::array::ArrayDim { len, lower_bound });
    }
    // Every element takes four bytes at least: a lying count cannot ask for more memory.
    if product > (bytes.len() / 4) as i64 {
        return Err(bad());
    }
    let mut elements = Vec::with_capacity(product as usize);
    for _ in 0..product {
        let len = u32::from_le_bytes(take_array(&mut bytes)?);
        if len == NULL_ELEMENT {
            elements.push(Datum::Null);
            continue;
        }
        let mut raw = stored::take(&mut bytes, len as usize)?;
        elements.push(if fixed_width(&element_type).is_some() {
            decode_fixed(&mut raw, &element_type)?
        } else {
            decode_variable(raw, &element_type)?
        });
    }
    Ok(Array {
        element_type,
        dims,
        elements,
    })
}
