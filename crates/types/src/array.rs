//! SQL arrays: any number of dimensions, each with its own lower bound.
//!
//! Text goes in and out in [`crate::array_text`]; this file has the value and its operators.

use crate::{Datum, Error, Result, SqlState, SqlType};
use smallvec::{SmallVec, smallvec};

/// The most dimensions an array may have, as in PostgreSQL.
pub const MAX_DIMENSIONS: usize = 6;
/// The most elements an array may have. PostgreSQL's bound is an allocation of 1 GB of pointers.
pub const MAX_ELEMENTS: usize = 134_217_727;

/// One dimension of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayDim {
    pub len: i32,
    pub lower_bound: i32,
}

impl ArrayDim {
    pub fn upper_bound(&self) -> i32 {
        self.lower_bound.saturating_add(self.len - 1)
    }
}

pub type ArrayDims = SmallVec<[ArrayDim; 1]>;

/// An array value. Elements are in row-major order; an empty array has no dimensions.
///
/// Invariant: the product of the dimensions' lengths is the number of elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub element_type: SqlType,
    pub dims: ArrayDims,
    pub elements: Vec<Datum>,
}

fn subscript_error(message: &str) -> Error {
    Error::new(SqlState::ARRAY_SUBSCRIPT_ERROR, message)
}

fn incompatible(detail: &str) -> Error {
    subscript_error("cannot concatenate incompatible arrays").detail(detail)
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

    /// An array of the given shape; 2202E if the elements do not fill it.
    pub fn with_dims(element_type: SqlType, dims: ArrayDims, elements: Vec<Datum>) -> Result<Self> {
        let product: i64 = dims.iter().map(|d| i64::from(d.len)).product();
        if elements.is_empty() {
            return Ok(Array {
                element_type,
                dims: SmallVec::new(),
                elements,
            });
        }
        if dims.is_empty() || dims.len() > MAX_DIMENSIONS || product != elements.len() as i64 {
            return Err(subscript_error("wrong number of array elements"));
        }
        Ok(Array {
            element_type,
            dims,
            elements,
        })
    }

    /// `ARRAY[a, b]` over arrays: one dimension more. All must have one shape.
    pub fn nest(element_type: SqlType, parts: &[&Array]) -> Result<Self> {
        let shape = |a: &Array| a.dims.iter().map(|d| d.len).collect::<Vec<_>>();
        let Some(first) = parts.first() else {
            return Ok(Array::from_elements(element_type, Vec::new()));
        };
        if parts.iter().any(|p| shape(p) != shape(first)) {
            return Err(subscript_error(
                "multidimensional arrays must have array expressions with matching dimensions",
            ));
        }
        if first.elements.is_empty() {
            return Ok(Array::from_elements(element_type, Vec::new()));
        }
        if first.dims.len() >= MAX_DIMENSIONS {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!(
                    "number of array dimensions ({}) exceeds the maximum allowed ({MAX_DIMENSIONS})",
                    first.dims.len() + 1
                ),
            ));
        }
        let mut dims: ArrayDims = smallvec![ArrayDim {
            len: parts.len() as i32,
            lower_bound: 1,
        }];
        dims.extend(first.dims.iter().copied());
        let elements = parts
            .iter()
            .flat_map(|p| p.elements.iter().cloned())
            .collect();
        Array::with_dims(element_type, dims, elements)
    }

    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// `array_length(a, dimension)`, counted from 1; `None` is NULL.
    pub fn length(&self, dimension: i32) -> Option<i32> {
        let index = usize::try_from(dimension).ok()?.checked_sub(1)?;
        self.dims.get(index).map(|d| d.len)
    }

    pub fn lower(&self, dimension: i32) -> Option<i32> {
        let index = usize::try_from(dimension).ok()?.checked_sub(1)?;
        self.dims.get(index).map(|d| d.lower_bound)
    }

    pub fn upper(&self, dimension: i32) -> Option<i32> {
        let index = usize::try_from(dimension).ok()?.checked_sub(1)?;
        self.dims.get(index).map(ArrayDim::upper_bound)
    }

    /// `array_dims(a)`: `[1:2][1:3]`.
    pub fn dims_text(&self) -> Option<String> {
        (!self.dims.is_empty()).then(|| {
            self.dims
                .iter()
                .map(|d| format!("[{}:{}]", d.lower_bound, d.upper_bound()))
                .collect()
        })
    }

    /// `a[i][j]…`; NULL outside the bounds or with the wrong number of subscripts.
    pub fn subscript(&self, subscripts: &[i32]) -> Datum {
        if subscripts.len() != self.dims.len() || subscripts.is_empty() {
            return Datum::Null;
        }
        let mut index = 0i64;
        for (dim, subscript) in self.dims.iter().zip(subscripts) {
            let offset = i64::from(*subscript) - i64::from(dim.lower_bound);
            if offset < 0 || offset >= i64::from(dim.len) {
                return Datum::Null;
            }
            index = index * i64::from(dim.len) + offset;
        }
        self.elements
            .get(index as usize)
            .cloned()
            .unwrap_or(Datum::Null)
    }

    /// `a[l:u][l:u]…`; a missing bound is the array's own. The result's lower bounds are 1.
    pub fn slice(&self, bounds: &[(Option<i32>, Option<i32>)]) -> Array {
        let empty = || Array::from_elements(self.element_type.clone(), Vec::new());
        if bounds.len() > self.dims.len() || self.is_empty() {
            return empty();
        }
        let mut ranges = Vec::with_capacity(self.dims.len());
        for (i, dim) in self.dims.iter().enumerate() {
            let (lower, upper) = bounds.get(i).copied().unwrap_or((None, None));
            let lower = lower.unwrap_or(dim.lower_bound).max(dim.lower_bound);
            let upper = upper.unwrap_or(dim.upper_bound()).min(dim.upper_bound());
            if lower > upper {
                return empty();
            }
            ranges.push((
                (lower - dim.lower_bound) as usize,
                (upper - dim.lower_bound) as usize,
            ));
        }
        let mut picked = vec![0usize];
        for (dim, (from, to)) in self.dims.iter().zip(&ranges) {
            picked = picked
                .iter()
                .flat_map(|base| (*from..=*to).map(move |i| base * dim.len as usize + i))
                .collect();
        }
        Array {
            element_type: self.element_type.clone(),
            dims: ranges
                .iter()
                .map(|(from, to)| ArrayDim {
                    len: (to - from + 1) as i32,
                    lower_bound: 1,
                })
                .collect(),
            elements: picked
                .into_iter()
                .filter_map(|i| self.elements.get(i).cloned())
                .collect(),
        }
    }

    /// `UPDATE … SET a[i] = v` on a one-dimensional array: grows it with NULLs where needed.
    pub fn assign(&self, subscripts: &[i32], value: Datum) -> Result<Array> {
        let mut result = self.clone();
        if self.is_empty() {
            result.dims = subscripts
                .iter()
                .map(|s| ArrayDim {
                    len: 1,
                    lower_bound: *s,
                })
                .collect();
            result.elements = vec![value];
            return Ok(result);
        }
        if subscripts.len() != self.dims.len() {
            return Err(subscript_error("wrong number of array subscripts"));
        }
        if let ([dim], [at]) = (&mut result.dims[..], subscripts) {
            let lower = i64::from(dim.lower_bound).min(i64::from(*at));
            let upper = i64::from(dim.upper_bound()).max(i64::from(*at));
            let len = upper - lower + 1;
            if len > MAX_ELEMENTS as i64 {
                return Err(too_large());
            }
            let grow_front = (i64::from(dim.lower_bound) - lower) as usize;
            result
                .elements
                .splice(0..0, std::iter::repeat_n(Datum::Null, grow_front));
            result.elements.resize(len as usize, Datum::Null);
            result.elements[(i64::from(*at) - lower) as usize] = value;
            *dim = ArrayDim {
                len: len as i32,
                lower_bound: lower as i32,
            };
            return Ok(result);
        }
        let mut index = 0usize;
        for (dim, subscript) in self.dims.iter().zip(subscripts) {
            let offset = i64::from(*subscript) - i64::from(dim.lower_bound);
            if offset < 0 || offset >= i64::from(dim.len) {
                return Err(subscript_error("array subscript out of range"));
            }
            index = index * dim.len as usize + offset as usize;
        }
        result.elements[index] = value;
        Ok(result)
    }

    /// `array_append`.
    pub fn append(&self, value: Datum) -> Result<Array> {
        if self.dims.len() > 1 {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "argument must be empty or one-dimensional array",
            ));
        }
        let mut result = self.clone();
        result.elements.push(value);
        match result.dims.first_mut() {
            Some(dim) => dim.len += 1,
            None => result.dims.push(ArrayDim {
                len: 1,
                lower_bound: 1,
            }),
        }
        Ok(result)
    }

    /// `array_prepend`; the lower bound stays.
    pub fn prepend(&self, value: Datum) -> Result<Array> {
        let mut result = self.append(Datum::Null)?;
        result.elements.rotate_right(1);
        result.elements[0] = value;
        Ok(result)
    }

    /// `a || b` of two arrays.
    pub fn concat(&self, other: &Array) -> Result<Array> {
        if other.is_empty() {
            return Ok(self.clone());
        }
        if self.is_empty() {
            return Ok(other.clone());
        }
        let (a, b) = (self.dims.len(), other.dims.len());
        let lens = |dims: &[ArrayDim]| dims.iter().map(|d| d.len).collect::<Vec<_>>();
        let added;
        let mut dims = if a == b {
            if lens(&self.dims[1..]) != lens(&other.dims[1..]) {
                return Err(incompatible(
                    "Arrays with differing element dimensions are not compatible for concatenation.",
                ));
            }
            added = other.dims[0].len;
            self.dims.clone()
        } else if a == b + 1 {
            if lens(&self.dims[1..]) != lens(&other.dims) {
                return Err(incompatible(
                    "Arrays with differing dimensions are not compatible for concatenation.",
                ));
            }
            added = 1;
            self.dims.clone()
        } else if b == a + 1 {
            if lens(&other.dims[1..]) != lens(&self.dims) {
                return Err(incompatible(
                    "Arrays with differing dimensions are not compatible for concatenation.",
                ));
            }
            added = 1;
            other.dims.clone()
        } else {
            return Err(incompatible(&format!(
                "Arrays of {a} and {b} dimensions are not compatible for concatenation."
            )));
        };
        if self.elements.len() + other.elements.len() > MAX_ELEMENTS {
            return Err(too_large());
        }
        dims[0].len = dims[0].len.checked_add(added).ok_or_else(too_large)?;
        let elements = self
            .elements
            .iter()
            .chain(&other.elements)
            .cloned()
            .collect();
        Ok(Array {
            element_type: self.element_type.clone(),
            dims,
            elements,
        })
    }

    /// `self @> other`: every element of `other` is in `self`. NULLs match nothing.
    pub fn contains(&self, other: &Array) -> bool {
        other
            .elements
            .iter()
            .all(|wanted| !wanted.is_null() && self.has(wanted))
    }

    /// `self && other`: they share an element.
    pub fn overlaps(&self, other: &Array) -> bool {
        other
            .elements
            .iter()
            .any(|wanted| !wanted.is_null() && self.has(wanted))
    }

    fn has(&self, wanted: &Datum) -> bool {
        self.elements
            .iter()
            .any(|e| !e.is_null() && e.sql_eq(wanted))
    }

    /// `array_position`: the subscript of the first element not distinct from `value`.
    pub fn position(&self, value: &Datum) -> Option<i32> {
        let lower = self.dims.first()?.lower_bound;
        let at = self.elements.iter().position(|e| e.sql_eq(value))?;
        Some(lower.saturating_add(at as i32))
    }

    /// `array_remove`.
    pub fn remove(&self, value: &Datum) -> Result<Array> {
        if self.dims.len() > 1 {
            return Err(Error::unsupported(
                "removing elements from multidimensional arrays",
            ));
        }
        let kept: Vec<Datum> = self
            .elements
            .iter()
            .filter(|e| !e.sql_eq(value))
            .cloned()
            .collect();
        let mut result = Array::from_elements(self.element_type.clone(), kept);
        if let (Some(new), Some(old)) = (result.dims.first_mut(), self.dims.first()) {
            new.lower_bound = old.lower_bound;
        }
        Ok(result)
    }

    /// `array_replace`.
    pub fn replace(&self, from: &Datum, to: &Datum) -> Array {
        let mut result = self.clone();
        for element in &mut result.elements {
            if element.sql_eq(from) {
                *element = to.clone();
            }
        }
        result
    }
}

fn too_large() -> Error {
    Error::new(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!("array size exceeds the maximum allowed ({MAX_ELEMENTS})"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(values: &[i32]) -> Array {
        Array::from_elements(
            SqlType::Int4,
            values.iter().map(|v| Datum::Int4(*v)).collect(),
        )
    }

    #[test]
    fn subscripts_and_slices() {
        let a = ints(&[1, 2, 3, 4]);
        assert_eq!(a.subscript(&[2]), Datum::Int4(2));
        assert_eq!(a.subscript(&[0]), Datum::Null);
        assert_eq!(a.slice(&[(Some(2), Some(3))]), ints(&[2, 3]));
        assert_eq!(a.slice(&[(Some(3), None)]), ints(&[3, 4]));
        assert!(a.slice(&[(Some(5), None)]).is_empty());
        let grid = Array::nest(SqlType::Int4, &[&ints(&[1, 2]), &ints(&[3, 4])]).unwrap();
        assert_eq!(grid.subscript(&[2, 1]), Datum::Int4(3));
        assert_eq!(
            grid.slice(&[(Some(1), Some(2)), (Some(2), Some(2))])
                .elements,
            ints(&[2, 4]).elements
        );
        assert_eq!(grid.dims_text().as_deref(), Some("[1:2][1:2]"));
    }

    #[test]
    fn joining() {
        assert_eq!(ints(&[1]).concat(&ints(&[2, 3])), Ok(ints(&[1, 2, 3])));
        assert_eq!(ints(&[1]).append(Datum::Int4(2)), Ok(ints(&[1, 2])));
        assert_eq!(ints(&[1]).prepend(Datum::Int4(0)), Ok(ints(&[0, 1])));
        let grid = Array::nest(SqlType::Int4, &[&ints(&[1, 2]), &ints(&[3, 4])]).unwrap();
        assert_eq!(grid.concat(&ints(&[5, 6])).unwrap().length(1), Some(3));
        assert!(grid.concat(&ints(&[5])).is_err());
    }

    #[test]
    fn membership() {
        assert!(ints(&[1, 2, 3]).contains(&ints(&[3, 1])));
        assert!(!ints(&[1]).contains(&ints(&[2])));
        assert!(ints(&[1, 2]).overlaps(&ints(&[2, 9])));
        assert_eq!(ints(&[5, 6]).position(&Datum::Int4(6)), Some(2));
        assert_eq!(ints(&[5, 6, 5]).remove(&Datum::Int4(5)), Ok(ints(&[6])));
    }

    #[test]
    fn assignment_grows() {
        let a = ints(&[1]).assign(&[3], Datum::Int4(3)).unwrap();
        assert_eq!(a.elements, [Datum::Int4(1), Datum::Null, Datum::Int4(3)]);
        let a = ints(&[1]).assign(&[-1], Datum::Int4(0)).unwrap();
        assert_eq!((a.dims[0].lower_bound, a.dims[0].len), (-1, 3));
    }
}
