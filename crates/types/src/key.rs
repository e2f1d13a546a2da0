//! Order-preserving keys: the bytes of two keys compare as their columns do in SQL.
//!
//! ```text
//! key    = table (u32) index (u16) column*
//!        | table (u32) 0000 bucket (u16) index (u16) column*      of a table whose rows are put in buckets
//! column = 00                 NULL that sorts first
//!        | 01 value           a value; inverted bytes if the column is descending
//!        | 02                 NULL that sorts last
//! ```
//!
//! Each value's encoding ends by itself, so columns can be joined without a separator: numbers have a
//! fixed width, text and bytes end with 00 (00 and 01 inside are escaped as 01 01 and 01 02).
//!
//! | type | bytes |
//! | --- | --- |
//! | integers, dates, times | big-endian, sign bit flipped |
//! | floats | sign bit flipped, or all bits if negative; -0 is 0, NaN is one value above infinity |
//! | numeric | class, decimal exponent, pairs of digits without trailing zeros |
//! | interval | its length by 30-day months |
//! | arrays | marked elements, end mark, shape |
//! | jsonb | PostgreSQL's order of kinds, counts before members |
//!
//! Values that are equal in SQL have one encoding (`1.0` and `1.00`, `1 mon` and `30 days`), so a key
//! gives back an equal value, not always the same one: the row keeps the original.

use crate::jsonb::MAX_DEPTH;
use crate::numeric::big_pow10;
use crate::{Array, Datum, Error, Interval, Jsonb, Numeric, Result, SqlType};
use bytes::Bytes;
use num_bigint::BigInt;
use num_traits::Signed;
use smallvec::SmallVec;
use std::sync::Arc;

const NULL_FIRST: u8 = 0x00;
const VALUE: u8 = 0x01;
const NULL_LAST: u8 = 0x02;

const TEXT_END: u8 = 0x00;
const ESCAPE: u8 = 0x01;

const ARRAY_END: u8 = 0x00;
const ARRAY_VALUE: u8 = 0x01;
const ARRAY_NULL: u8 = 0x02;

/// A prefix of a table's or index's keys.
pub const INDEX_PREFIX_LEN: usize = 6;
/// In place of an index: a bucket follows, and then the index. No index has this id.
pub const BUCKETS_INDEX_ID: u16 = 0;
/// A prefix of a bucket's keys.
pub const BUCKET_PREFIX_LEN: usize = INDEX_PREFIX_LEN + 2;
/// A prefix of an index's keys within a bucket.
pub const BUCKET_INDEX_PREFIX_LEN: usize = BUCKET_PREFIX_LEN + 2;
/// Tables from this id on have shards of their own from the start. They lie behind all others, so that those
/// stay neighbours of each other and of the catalog.
pub const FIRST_SEPARATE_TABLE_ID: u32 = 1 << 31;
/// Tables below this id are the system's: descriptors, names, counters, sequences, locks of tables. So
/// all keys that gateways must agree on are one span from the start of the key space
/// (up to [`table_prefix`] of this id), which is never split: the system shard.
pub const FIRST_USER_TABLE_ID: u32 = 100;
/// The table of descriptors, which is what gateways keep a copy of: the catalog's span.
pub const CATALOG_TABLE_ID: u32 = 1;
/// The most dimensions an array may have, as in PostgreSQL.
const MAX_DIMENSIONS: usize = crate::array::MAX_DIMENSIONS;

/// The prefix of all keys of a table.
pub fn table_prefix(table_id: u32) -> [u8; 4] {
    table_id.to_be_bytes()
}

/// The prefix of all keys of one index of a table.
pub fn index_prefix(table_id: u32, index_id: u16) -> [u8; INDEX_PREFIX_LEN] {
    let [a, b, c, d] = table_id.to_be_bytes();
    let [e, f] = index_id.to_be_bytes();
    [a, b, c, d, e, f]
}

/// The prefix of all keys of one bucket of a table: its rows and its index entries, so that they lie in one
/// shard.
pub fn bucket_prefix(table_id: u32, bucket: u16) -> [u8; BUCKET_PREFIX_LEN] {
    let [a, b, c, d, e, f] = index_prefix(table_id, BUCKETS_INDEX_ID);
    let [g, h] = bucket.to_be_bytes();
    [a, b, c, d, e, f, g, h]
}

/// The prefix of all keys of one index within a bucket.
pub fn bucket_index_prefix(
    table_id: u32,
    bucket: u16,
    index_id: u16,
) -> [u8; BUCKET_INDEX_PREFIX_LEN] {
    let [a, b, c, d, e, f, g, h] = bucket_prefix(table_id, bucket);
    let [i, j] = index_id.to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j]
}

/// The table and index that a key belongs to, and the rest of it.
pub fn split_index_prefix(key: &[u8]) -> Option<(u32, u16, &[u8])> {
    let (table, rest) = key.split_first_chunk::<4>()?;
    let (index, rest) = rest.split_first_chunk::<2>()?;
    Some((u32::from_be_bytes(*table), u16::from_be_bytes(*index), rest))
}

/// Whether a commit that writes this key changes the catalog.
pub fn is_catalog_key(key: &[u8]) -> bool {
    key.starts_with(&table_prefix(CATALOG_TABLE_ID))
}

/// The first key above all keys that start with `prefix`; `None` if there is none.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// Appends one column.
pub fn encode(out: &mut Vec<u8>, datum: &Datum, descending: bool, nulls_first: bool) {
    if let Datum::Null = datum {
        out.push(if nulls_first { NULL_FIRST } else { NULL_LAST });
        return;
    }
    out.push(VALUE);
    let start = out.len();
    encode_value(out, datum);
    if descending {
        for byte in &mut out[start..] {
            *byte = !*byte;
        }
    }
}

/// Takes one column of type `sql_type` off the front of `bytes`.
pub fn decode(bytes: &mut &[u8], sql_type: &SqlType, descending: bool) -> Result<Datum> {
    let mut reader = Reader {
        bytes,
        mask: if descending { 0xff } else { 0 },
    };
    let (tag, rest) = reader.bytes.split_first().ok_or_else(truncated)?;
    *reader.bytes = rest;
    match *tag {
        NULL_FIRST | NULL_LAST => Ok(Datum::Null),
        VALUE => decode_value(&mut reader, sql_type),
        _ => Err(malformed()),
    }
}

/// Skips one column without making a value of it.
pub fn skip(bytes: &mut &[u8], sql_type: &SqlType, descending: bool) -> Result<()> {
    decode(bytes, sql_type, descending).map(|_| ())
}

fn truncated() -> Error {
    Error::corrupt("key ends too early")
}

fn malformed() -> Error {
    Error::corrupt("malformed key")
}

fn encode_value(out: &mut Vec<u8>, datum: &Datum) {
    match datum {
        // The caller marks NULLs; inside arrays and jsonb they have their own marks.
        Datum::Null => {}
        Datum::Bool(v) => out.push(u8::from(*v)),
        Datum::Int2(v) => out.extend_from_slice(&((*v as u16) ^ 0x8000).to_be_bytes()),
        Datum::Int4(v) | Datum::Date(v) => {
            out.extend_from_slice(&((*v as u32) ^ 0x8000_0000).to_be_bytes());
        }
        Datum::Int8(v) | Datum::Time(v) | Datum::Timestamp(v) | Datum::TimestampTz(v) => {
            out.extend_from_slice(&((*v as u64) ^ (1 << 63)).to_be_bytes());
        }
        Datum::Oid(v) => out.extend_from_slice(&v.to_be_bytes()),
        Datum::Float4(v) => {
            let bits = if v.is_nan() {
                f32::NAN.to_bits() & 0x7fff_ffff
            } else {
                (*v + 0.0).to_bits()
            };
            let ordered = if bits >> 31 == 1 {
                !bits
            } else {
                bits ^ (1 << 31)
            };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        Datum::Float8(v) => {
            let bits = if v.is_nan() {
                f64::NAN.to_bits() & (u64::MAX >> 1)
            } else {
                (*v + 0.0).to_bits()
            };
            let ordered = if bits >> 63 == 1 {
                !bits
            } else {
                bits ^ (1 << 63)
            };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        Datum::Numeric(v) => encode_numeric(out, v),
        Datum::Text(v) | Datum::Json(v) => encode_bytes(out, v.as_bytes()),
        Datum::Bytea(v) => encode_bytes(out, v),
        Datum::Interval(v) => {
            let ordered = (v.comparable_micros() as u128) ^ (1 << 127);
            // |length| < 2^73: ten bytes hold it, the sign bit moved to their top.
            let bytes = ordered.to_be_bytes();
            let top = bytes[0] & 0x80;
            out.push(top | (bytes[6] & 0x7f));
            out.extend_from_slice(&bytes[7..]);
        }
        Datum::Uuid(v) => out.extend_from_slice(v),
        Datum::Jsonb(v) => encode_jsonb(out, v, true),
        Datum::Array(v) => encode_array(out, v),
    }
}

fn encode_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.iter().all(|b| *b > ESCAPE) {
        out.extend_from_slice(bytes);
    } else {
        for &byte in bytes {
            if byte <= ESCAPE {
                out.push(ESCAPE);
                out.push(byte + 1);
            } else {
                out.push(byte);
            }
        }
    }
    out.push(TEXT_END);
}

const CLASS_NEG_INFINITY: u8 = 0;
const CLASS_NEGATIVE: u8 = 1;
const CLASS_ZERO: u8 = 2;
const CLASS_POSITIVE: u8 = 3;
const CLASS_INFINITY: u8 = 4;
const CLASS_NAN: u8 = 5;
/// Makes decimal exponents (-16383 to 131072) positive in three bytes.
const EXPONENT_BIAS: i64 = 1 << 22;

fn encode_numeric(out: &mut Vec<u8>, value: &Numeric) {
    if !value.is_finite() {
        out.push(if value.is_nan() {
            CLASS_NAN
        } else if value.signum() > 0 {
            CLASS_INFINITY
        } else {
            CLASS_NEG_INFINITY
        });
        return;
    }
    if value.is_zero() {
        out.push(CLASS_ZERO);
        return;
    }
    let negative = value.signum() < 0;
    out.push(if negative {
        CLASS_NEGATIVE
    } else {
        CLASS_POSITIVE
    });
    let start = out.len();
    let mut small = itoa::Buffer::new();
    let big;
    let digits = match value.to_i128_parts() {
        Some((m, _)) => small.format(m.unsigned_abs()),
        None => {
            big = value
                .to_bigint_parts()
                .map(|(m, _)| m.magnitude().to_str_radix(10))
                .unwrap_or_default();
            big.as_str()
        }
    };
    let exponent = digits.len() as i64 - i64::from(value.scale()) + EXPONENT_BIAS;
    out.extend_from_slice(&(exponent as u32).to_be_bytes()[1..]);
    for pair in digits.trim_end_matches('0').as_bytes().chunks(2) {
        let high = (pair[0] - b'0') * 10;
        let low = pair.get(1).map_or(0, |d| d - b'0');
        out.push(high + low + 1);
    }
    out.push(0);
    if negative {
        for byte in &mut out[start..] {
            *byte = !*byte;
        }
    }
}

fn encode_array(out: &mut Vec<u8>, array: &Array) {
    for element in &array.elements {
        if element.is_null() {
            out.push(ARRAY_NULL);
        } else {
            out.push(ARRAY_VALUE);
            encode_value(out, element);
        }
    }
    out.push(ARRAY_END);
    out.push(array.dims.len() as u8);
    for dim in &array.dims {
        out.extend_from_slice(&dim.len.to_be_bytes());
    }
    for dim in &array.dims {
        out.extend_from_slice(&((dim.lower_bound as u32) ^ 0x8000_0000).to_be_bytes());
    }
}

const JSON_EMPTY_TOP_ARRAY: u8 = 1;
const JSON_NULL: u8 = 2;
const JSON_STRING: u8 = 3;
const JSON_NUMBER: u8 = 4;
const JSON_FALSE: u8 = 5;
const JSON_TRUE: u8 = 6;
const JSON_ARRAY: u8 = 7;
const JSON_OBJECT: u8 = 8;

fn encode_jsonb(out: &mut Vec<u8>, value: &Jsonb, top: bool) {
    match value {
        Jsonb::Null => out.push(JSON_NULL),
        Jsonb::String(s) => {
            out.push(JSON_STRING);
            encode_bytes(out, s.as_bytes());
        }
        Jsonb::Number(n) => {
            out.push(JSON_NUMBER);
            encode_numeric(out, n);
        }
        Jsonb::Bool(false) => out.push(JSON_FALSE),
        Jsonb::Bool(true) => out.push(JSON_TRUE),
        Jsonb::Array(items) if top && items.is_empty() => out.push(JSON_EMPTY_TOP_ARRAY),
        Jsonb::Array(items) => {
            out.push(JSON_ARRAY);
            out.extend_from_slice(&(items.len() as u32).to_be_bytes());
            for item in items.iter() {
                encode_jsonb(out, item, false);
            }
        }
        Jsonb::Object(pairs) => {
            out.push(JSON_OBJECT);
            out.extend_from_slice(&(pairs.len() as u32).to_be_bytes());
            for (key, item) in pairs.iter() {
                encode_bytes(out, key.as_bytes());
                encode_jsonb(out, item, false);
            }
        }
    }
}

/// Reads ascending bytes out of ascending or descending ones.
struct Reader<'a, 'b> {
    bytes: &'a mut &'b [u8],
    mask: u8,
}

impl Reader<'_, '_> {
    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.bytes.split_first().ok_or_else(truncated)?;
        *self.bytes = rest;
        Ok(first ^ self.mask)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or_else(truncated)?;
        let mut out = *head;
        *self.bytes = rest;
        if self.mask != 0 {
            for byte in &mut out {
                *byte ^= self.mask;
            }
        }
        Ok(out)
    }

    fn escaped(&mut self) -> Result<Vec<u8>> {
        let end = TEXT_END ^ self.mask;
        let stop = self
            .bytes
            .iter()
            .position(|b| *b == end)
            .ok_or_else(truncated)?;
        let raw = &self.bytes[..stop];
        let escape = ESCAPE ^ self.mask;
        let out = if raw.contains(&escape) {
            let mut out = Vec::with_capacity(raw.len());
            let mut i = 0;
            while i < raw.len() {
                let byte = raw[i] ^ self.mask;
                if byte == ESCAPE {
                    i += 1;
                    match raw.get(i).map(|b| b ^ self.mask) {
                        Some(escaped @ (1 | 2)) => out.push(escaped - 1),
                        _ => return Err(malformed()),
                    }
                } else {
                    out.push(byte);
                }
                i += 1;
            }
            out
        } else {
            raw.iter().map(|b| b ^ self.mask).collect()
        };
        *self.bytes = &self.bytes[stop + 1..];
        Ok(out)
    }

    fn text(&mut self) -> Result<Arc<str>> {
        // Borrow where nothing has to be undone: one copy instead of two.
        if self.mask == 0 {
            let stop = self
                .bytes
                .iter()
                .position(|b| *b <= ESCAPE)
                .ok_or_else(truncated)?;
            if self.bytes[stop] == TEXT_END {
                let text = std::str::from_utf8(&self.bytes[..stop]).map_err(|_| malformed())?;
                let text = Arc::from(text);
                *self.bytes = &self.bytes[stop + 1..];
                return Ok(text);
            }
        }
        let raw = self.escaped()?;
        Ok(String::from_utf8(raw).map_err(|_| malformed())?.into())
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok((self.u32()? ^ 0x8000_0000) as i32)
    }

    fn i64(&mut self) -> Result<i64> {
        Ok((u64::from_be_bytes(self.fixed()?) ^ (1 << 63)) as i64)
    }
}

fn decode_value(reader: &mut Reader<'_, '_>, sql_type: &SqlType) -> Result<Datum> {
    Ok(match sql_type {
        SqlType::Bool => Datum::Bool(match reader.byte()? {
            0 => false,
            1 => true,
            _ => return Err(malformed()),
        }),
        SqlType::Int2 => Datum::Int2((u16::from_be_bytes(reader.fixed()?) ^ 0x8000) as i16),
        SqlType::Int4 => Datum::Int4(reader.i32()?),
        SqlType::Int8 => Datum::Int8(reader.i64()?),
        SqlType::Float4 => {
            let bits = reader.u32()?;
            let raw = if bits >> 31 == 1 {
                bits ^ (1 << 31)
            } else {
                !bits
            };
            Datum::Float4(f32::from_bits(raw))
        }
        SqlType::Float8 => {
            let bits = u64::from_be_bytes(reader.fixed()?);
            let raw = if bits >> 63 == 1 {
                bits ^ (1 << 63)
            } else {
                !bits
            };
            Datum::Float8(f64::from_bits(raw))
        }
        SqlType::Numeric(_) => Datum::Numeric(decode_numeric(reader)?),
        SqlType::Text
        | SqlType::Varchar(_)
        | SqlType::Char(_)
        | SqlType::Name
        | SqlType::InternalChar
        | SqlType::Unknown => Datum::Text(reader.text()?),
        SqlType::Bytea => Datum::Bytea(Bytes::from(reader.escaped()?)),
        SqlType::Date => Datum::Date(reader.i32()?),
        SqlType::Time => Datum::Time(reader.i64()?),
        SqlType::Timestamp => Datum::Timestamp(reader.i64()?),
        SqlType::TimestampTz => Datum::TimestampTz(reader.i64()?),
        SqlType::Interval => Datum::Interval(decode_interval(reader)?),
        SqlType::Uuid => Datum::Uuid(reader.fixed()?),
        SqlType::Json => Datum::Json(reader.text()?),
        SqlType::Jsonb => Datum::Jsonb(decode_jsonb(reader, MAX_DEPTH + 1)?),
        SqlType::Oid
        | SqlType::Regclass
        | SqlType::Regtype
        | SqlType::Regproc
        | SqlType::Regnamespace
        | SqlType::Regrole => Datum::Oid(reader.u32()?),
        SqlType::Int2Vector | SqlType::OidVector | SqlType::Array(_) => {
            let element = sql_type.element_type().ok_or_else(malformed)?;
            if element.is_array() {
                return Err(malformed());
            }
            Datum::Array(Arc::new(decode_array(reader, element)?))
        }
        SqlType::Void | SqlType::Record => {
            return Err(Error::internal(format!(
                "type {sql_type} cannot be part of a key"
            )));
        }
    })
}

fn decode_numeric(reader: &mut Reader<'_, '_>) -> Result<Numeric> {
    let negative = match reader.byte()? {
        CLASS_NEG_INFINITY => return Ok(Numeric::NEG_INFINITY),
        CLASS_ZERO => return Ok(Numeric::ZERO),
        CLASS_INFINITY => return Ok(Numeric::INFINITY),
        CLASS_NAN => return Ok(Numeric::NAN),
        CLASS_NEGATIVE => true,
        CLASS_POSITIVE => false,
        _ => return Err(malformed()),
    };
    let flip = if negative { 0xff } else { 0 };
    let [a, b, c] = reader.fixed::<3>()?;
    let biased = u32::from_be_bytes([0, a ^ flip, b ^ flip, c ^ flip]);
    let exponent = i64::from(biased) - EXPONENT_BIAS;
    let mut digits: SmallVec<[u8; 40]> = SmallVec::new();
    loop {
        match reader.byte()? ^ flip {
            0 => break,
            pair @ 1..=100 => digits.extend_from_slice(&[(pair - 1) / 10, (pair - 1) % 10]),
            _ => return Err(malformed()),
        }
    }
    if digits.last() == Some(&0) {
        digits.pop();
    }
    let scale = digits.len() as i64 - exponent;
    let limits = -crate::numeric::MAX_INTEGER_DIGITS..=i64::from(crate::numeric::MAX_SCALE);
    if !limits.contains(&scale) {
        return Err(malformed());
    }
    let mut small: Option<i128> = Some(0);
    for digit in &digits {
        small = small
            .and_then(|m| m.checked_mul(10))
            .and_then(|m| m.checked_add(i128::from(*digit)));
    }
    let mut mantissa = match small {
        Some(m) if scale >= 0 => {
            return Ok(Numeric::from_i128(
                if negative { -m } else { m },
                scale as u16,
            ));
        }
        Some(m) => BigInt::from(m),
        None => BigInt::from_radix_be(num_bigint::Sign::Plus, &digits, 10).ok_or_else(malformed)?,
    };
    if negative {
        mantissa = -mantissa.abs();
    }
    if scale < 0 {
        mantissa *= big_pow10((-scale) as u32);
    }
    Ok(Numeric::from_bigint(mantissa, scale.max(0) as u16))
}

fn decode_interval(reader: &mut Reader<'_, '_>) -> Result<Interval> {
    let raw = reader.fixed::<10>()?;
    let mut wide = [0u8; 16];
    wide[6..].copy_from_slice(&raw);
    let positive = raw[0] & 0x80 != 0;
    wide[6] &= 0x7f;
    if !positive {
        wide[..6].fill(0xff);
        wide[6] |= 0x80;
    }
    Interval::from_comparable_micros(i128::from_be_bytes(wide)).ok_or_else(malformed)
}

fn decode_array(reader: &mut Reader<'_, '_>, element_type: SqlType) -> Result<Array> {
    let mut elements = Vec::new();
    loop {
        match reader.byte()? {
            ARRAY_END => break,
            ARRAY_VALUE => elements.push(decode_value(reader, &element_type)?),
            ARRAY_NULL => elements.push(Datum::Null),
            _ => return Err(malformed()),
        }
    }
    let count = usize::from(reader.byte()?);
    if count > MAX_DIMENSIONS {
        return Err(malformed());
    }
    let mut dims = crate::array::ArrayDims::new();
    let mut product = i64::from(count > 0);
    for _ in 0..count {
        let len = reader.u32()? as i32;
        if len < 1 {
            return Err(malformed());
        }
        product = product.checked_mul(i64::from(len)).ok_or_else(malformed)?;
        dims.push(crate::array::ArrayDim {
            len,
            lower_bound: 0,
        });
    }
    for dim in &mut dims {
        dim.lower_bound = reader.i32()?;
    }
    if product != elements.len() as i64 {
        return Err(malformed());
    }
    Ok(Array {
        element_type,
        dims,
        elements,
    })
}

fn decode_jsonb(reader: &mut Reader<'_, '_>, depth: usize) -> Result<Jsonb> {
    let depth = depth.checked_sub(1).ok_or_else(malformed)?;
    Ok(match reader.byte()? {
        JSON_EMPTY_TOP_ARRAY => Jsonb::array(Vec::new()),
        JSON_NULL => Jsonb::Null,
        JSON_STRING => Jsonb::String(reader.text()?),
        JSON_NUMBER => Jsonb::Number(decode_numeric(reader)?),
        JSON_FALSE => Jsonb::Bool(false),
        JSON_TRUE => Jsonb::Bool(true),
        JSON_ARRAY => {
            let count = reader.u32()? as usize;
            let mut items = Vec::with_capacity(count.min(reader.bytes.len()));
            for _ in 0..count {
                items.push(decode_jsonb(reader, depth)?);
            }
            Jsonb::array(items)
        }
        JSON_OBJECT => {
            let count = reader.u32()? as usize;
            let mut pairs = Vec::with_capacity(count.min(reader.bytes.len()));
            for _ in 0..count {
                let key = reader.text()?;
                pairs.push((key, decode_jsonb(reader, depth)?));
            }
            Jsonb::object(pairs)
        }
        _ => return Err(malformed()),
    })
}
