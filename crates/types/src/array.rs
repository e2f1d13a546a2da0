//! SQL arrays: any number of dimensions, each with its own lower bound.

use crate::{Datum, SqlType};
use smallvec::SmallVec;

/// One dimension of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayDim {
    pub len: i32,
    pub lower_bound: i32,
}

/// An array value. Elements are in row-major order; an empty array has no dimensions.
///
/// Invariant: the product of the dimensions' lengths is the number of elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub element_type: SqlType,
    pub dims: SmallVec<[ArrayDim; 1]>,
    pub elements: Vec<Datum>,
}

impl Array {
    /// A one-dimensional array with lower bound 1.
    pub fn from_elements(element_type: SqlType, elements: Vec<Datum>) -> Self {
        let mut dims = SmallVec::new();
        if !elements.is_empty() {
            dims.push(ArrayDim {
                len: elements.len() as i32,
                lower_bound: 1,
            });
        }
        Array {
            element_type,
            dims,
            elements,
        }
    }
}
