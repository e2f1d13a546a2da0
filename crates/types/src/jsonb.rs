//! `jsonb`: a parsed JSON value in PostgreSQL's canonical form.

use crate::numeric::Numeric;
use std::sync::Arc;

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

impl PartialEq for Jsonb {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Jsonb::Null, Jsonb::Null) => true,
            (Jsonb::Bool(a), Jsonb::Bool(b)) => a == b,
            (Jsonb::Number(a), Jsonb::Number(b)) => a == b,
            (Jsonb::String(a), Jsonb::String(b)) => a == b,
            (Jsonb::Array(a), Jsonb::Array(b)) => a == b,
            (Jsonb::Object(a), Jsonb::Object(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Jsonb {}
