//! `jsonb`: a parsed JSON value in PostgreSQL's canonical form.
//!
//! Numbers keep their scale (`1.50` stays `1.50`), an object's keys are unique (the last one written
//! wins) and sorted by length, then by bytes. Text goes in and out in [`crate::json`]; the operators
//! are in [`crate::jsonb_ops`].

use crate::numeric::Numeric;
use crate::{Error, Result};
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// How deep arrays and objects may nest, in levels. The recursive walks over a value stay well within
/// a 2 MiB stack at this depth, also in debug builds; PostgreSQL's own bound is its stack.
pub const MAX_DEPTH: usize = 256;

/// A JSON value. Containers are shared, so taking a part out copies a pointer.
///
/// Invariant: an object's keys are unique and sorted by length, then bytes. Build objects with
/// [`Jsonb::object`], which keeps it.
#[derive(Clone, Debug)]
pub enum Jsonb {
    Null,
    Bool(bool),
    Number(Numeric),
    String(Arc<str>),
    Array(Arc<[Jsonb]>),
    Object(Arc<[(Arc<str>, Jsonb)]>),
}

/// The order of an object's keys.
pub fn compare_keys(a: &str, b: &str) -> Ordering {
    a.len()
        .cmp(&b.len())
        .then_with(|| a.as_bytes().cmp(b.as_bytes()))
}

impl Jsonb {
    /// An object of `pairs` in any order; of equal keys the last wins.
    pub fn object(mut pairs: Vec<(Arc<str>, Jsonb)>) -> Jsonb {
        let in_order = pairs
            .windows(2)
            .all(|w| compare_keys(&w[0].0, &w[1].0) == Ordering::Less);
        if !in_order {
            // The sort is stable: among equal keys the last written stays last, and is kept.
            pairs.sort_by(|a, b| compare_keys(&a.0, &b.0));
            pairs.reverse();
            pairs.dedup_by(|a, b| a.0 == b.0);
            pairs.reverse();
        }
        Jsonb::Object(pairs.into())
    }

    pub fn array(items: Vec<Jsonb>) -> Jsonb {
        Jsonb::Array(items.into())
    }

    pub fn string(text: &str) -> Jsonb {
        Jsonb::String(text.into())
    }

    pub fn is_scalar(&self) -> bool {
        !matches!(self, Jsonb::Array(_) | Jsonb::Object(_))
    }

    /// Bytes the value takes in memory, roughly.
    pub fn memory_size(&self) -> usize {
        let heap = match self {
            Jsonb::String(s) => s.len(),
            Jsonb::Array(items) => items.iter().map(Jsonb::memory_size).sum(),
            Jsonb::Object(pairs) => pairs
                .iter()
                .map(|(k, v)| size_of::<Arc<str>>() + k.len() + v.memory_size())
                .sum(),
            _ => 0,
        };
        size_of::<Jsonb>() + heap
    }

    fn rank(&self) -> u8 {
        match self {
            Jsonb::Null => 0,
            Jsonb::String(_) => 1,
            Jsonb::Number(_) => 2,
            Jsonb::Bool(_) => 3,
            Jsonb::Array(_) => 4,
            Jsonb::Object(_) => 5,
        }
    }

    fn is_empty_array(&self) -> bool {
        matches!(self, Jsonb::Array(items) if items.is_empty())
    }

    /// The order below the top level, where an empty array is not special.
    fn compare_nested(&self, other: &Jsonb) -> Ordering {
        match (self, other) {
            (Jsonb::Bool(a), Jsonb::Bool(b)) => a.cmp(b),
            (Jsonb::Number(a), Jsonb::Number(b)) => a.cmp(b),
            (Jsonb::String(a), Jsonb::String(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Jsonb::Array(a), Jsonb::Array(b)) => a.len().cmp(&b.len()).then_with(|| {
                a.iter()
                    .zip(b.iter())
                    .map(|(x, y)| x.compare_nested(y))
                    .find(|o| *o != Ordering::Equal)
                    .unwrap_or(Ordering::Equal)
            }),
            (Jsonb::Object(a), Jsonb::Object(b)) => a.len().cmp(&b.len()).then_with(|| {
                a.iter()
                    .zip(b.iter())
                    .map(|(x, y)| {
                        let keys = x.0.as_bytes().cmp(y.0.as_bytes());
                        keys.then_with(|| x.1.compare_nested(&y.1))
                    })
                    .find(|o| *o != Ordering::Equal)
                    .unwrap_or(Ordering::Equal)
            }),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// PostgreSQL's b-tree order: object > array > boolean > number > string > null, more elements
/// above fewer. An empty array at the top is below everything, as it is there for history's sake.
impl Ord for Jsonb {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.is_empty_array(), other.is_empty_array()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => self.compare_nested(other),
        }
    }
}

impl PartialOrd for Jsonb {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Jsonb {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Jsonb {}

impl Hash for Jsonb {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Jsonb::Null => {}
            Jsonb::Bool(v) => v.hash(state),
            Jsonb::Number(v) => v.hash(state),
            Jsonb::String(v) => v.hash(state),
            Jsonb::Array(items) => items.hash(state),
            Jsonb::Object(pairs) => pairs.hash(state),
        }
    }
}

// ---- the stored form ------------------------------------------------------------------------
//
// A tag byte, then: numbers and strings by length and bytes, containers by count and members. It is
// read front to back in one pass, with no parsing of digits or escapes.

const TAG_NULL: u8 = 0;
const TAG_FALSE: u8 = 1;
const TAG_TRUE: u8 = 2;
const TAG_NUMBER: u8 = 3;
const TAG_STRING: u8 = 4;
const TAG_ARRAY: u8 = 5;
const TAG_OBJECT: u8 = 6;

impl Jsonb {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Jsonb::Null => out.push(TAG_NULL),
            Jsonb::Bool(false) => out.push(TAG_FALSE),
            Jsonb::Bool(true) => out.push(TAG_TRUE),
            Jsonb::Number(n) => {
                out.push(TAG_NUMBER);
                let mut bytes = Vec::with_capacity(20);
                crate::stored::encode_numeric(n, &mut bytes);
                crate::stored::put_varint(bytes.len() as u64, out);
                out.extend_from_slice(&bytes);
            }
            Jsonb::String(s) => {
                out.push(TAG_STRING);
                put_text(s, out);
            }
            Jsonb::Array(items) => {
                out.push(TAG_ARRAY);
                crate::stored::put_varint(items.len() as u64, out);
                for item in items.iter() {
                    item.encode(out);
                }
            }
            Jsonb::Object(pairs) => {
                out.push(TAG_OBJECT);
                crate::stored::put_varint(pairs.len() as u64, out);
                for (key, value) in pairs.iter() {
                    put_text(key, out);
                    value.encode(out);
                }
            }
        }
    }

    /// Reads a whole stored form.
    pub fn decode(mut bytes: &[u8]) -> Result<Jsonb> {
        let value = decode_value(&mut bytes, MAX_DEPTH + 1)?;
        if bytes.is_empty() {
            Ok(value)
        } else {
            Err(corrupt())
        }
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    crate::stored::put_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn corrupt() -> Error {
    Error::corrupt("malformed stored jsonb value")
}

fn take_text(bytes: &mut &[u8]) -> Result<Arc<str>> {
    let len = crate::stored::take_varint(bytes)?;
    let raw = crate::stored::take(bytes, len as usize)?;
    Ok(std::str::from_utf8(raw).map_err(|_| corrupt())?.into())
}

fn decode_value(bytes: &mut &[u8], depth: usize) -> Result<Jsonb> {
    let depth = depth.checked_sub(1).ok_or_else(corrupt)?;
    let tag = crate::stored::take(bytes, 1)?[0];
    Ok(match tag {
        TAG_NULL => Jsonb::Null,
        TAG_FALSE => Jsonb::Bool(false),
        TAG_TRUE => Jsonb::Bool(true),
        TAG_NUMBER => {
            let len = crate::stored::take_varint(bytes)?;
            let raw = crate::stored::take(bytes, len as usize)?;
            Jsonb::Number(crate::stored::decode_numeric(raw)?)
        }
        TAG_STRING => Jsonb::String(take_text(bytes)?),
        TAG_ARRAY => {
            let count = crate::stored::take_varint(bytes)? as usize;
            // Every member takes a byte at least: a lying count cannot ask for more memory.
            let mut items = Vec::with_capacity(count.min(bytes.len()));
            for _ in 0..count {
                items.push(decode_value(bytes, depth)?);
            }
            Jsonb::Array(items.into())
        }
        TAG_OBJECT => {
            let count = crate::stored::take_varint(bytes)? as usize;
            let mut pairs = Vec::with_capacity(count.min(bytes.len() / 2));
            for _ in 0..count {
                let key = take_text(bytes)?;
                pairs.push((key, decode_value(bytes, depth)?));
            }
            // Sorts only if the bytes are not what `encode` wrote.
            Jsonb::object(pairs)
        }
        _ => return Err(corrupt()),
    })
}
