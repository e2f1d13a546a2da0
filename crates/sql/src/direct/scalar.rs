//! Compiled expressions: what an analysed DataFusion expression means, on datums.

use super::physical::PhysicalScalar;
use crate::functions::ScalarFunction;
use crate::functions::comparison::Comparison;
use crate::query::casts::CastUdf;
use datafusion::common::{Column, DFSchema};
use std::sync::Arc;
use types::Datum;

/// What the columns of an expression refer to.
pub struct Input<'a> {
    pub schema: &'a DFSchema,
    /// Place in the executor's row of each column of the schema; `None`: the same place.
    pub places: Option<&'a [usize]>,
}

impl Input<'_> {
    pub(super) fn place(&self, column: &Column) -> Option<usize> {
        let index = self.schema.maybe_index_of_column(column)?;
        match self.places {
            Some(places) => places.get(index).copied(),
            None => Some(index),
        }
    }
}

/// Three-valued truth tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    Null,
    True,
    False,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LikeKind {
    Sensitive,
    Insensitive,
}

/// A compiled expression.
#[derive(Clone)]
pub enum Scalar {
    Column(usize),
    Constant(Datum),
    /// A parameter, from zero.
    Parameter(usize),
    Compare {
        comparison: Comparison,
        blank_padded: bool,
        left: Box<Scalar>,
        right: Box<Scalar>,
    },
    /// `IS [NOT] DISTINCT FROM`.
    Distinct {
        distinct: bool,
        blank_padded: bool,
        left: Box<Scalar>,
        right: Box<Scalar>,
    },
    And(Vec<Scalar>),
    Or(Vec<Scalar>),
    Not(Box<Scalar>),
    /// `IS [NOT] NULL | TRUE | FALSE`.
    Is {
        truth: Truth,
        negated: bool,
        operand: Box<Scalar>,
    },
    InList {
        negated: bool,
        blank_padded: bool,
        operand: Box<Scalar>,
        list: Vec<Scalar>,
    },
    Between {
        negated: bool,
        blank_padded: bool,
        operand: Box<Scalar>,
        low: Box<Scalar>,
        high: Box<Scalar>,
    },
    Like {
        kind: LikeKind,
        negated: bool,
        escape: Option<char>,
        text: Box<Scalar>,
        pattern: Box<Scalar>,
    },
    Case {
        operand: Option<Box<Scalar>>,
        blank_padded: bool,
        branches: Vec<(Scalar, Scalar)>,
        otherwise: Option<Box<Scalar>>,
    },
    Coalesce(Vec<Scalar>),
    NullIf(Box<Scalar>, Box<Scalar>),
    Cast {
        operand: Box<Scalar>,
        cast: Arc<CastUdf>,
    },
    Call {
        function: Arc<ScalarFunction>,
        arguments: Vec<Scalar>,
    },
    /// By DataFusion, on a batch of one row.
    Physical(Arc<PhysicalScalar>),
}

impl Scalar {
    /// Whether the value is the same for all rows.
    pub fn is_row_independent(&self) -> bool {
        !self.any(&mut |node| matches!(node, Scalar::Column(_) | Scalar::Physical(_)))
    }

    /// Whether calls of the expression may give different values, or do more than give one.
    pub fn is_volatile(&self) -> bool {
        self.any(&mut |node| match node {
            Scalar::Call { function, .. } => {
                function.volatility == crate::functions::Volatility::Volatile
            }
            Scalar::Physical(physical) => physical.is_volatile(),
            _ => false,
        })
    }

    /// Places of the row that the expression reads.
    pub fn collect_columns(&self, out: &mut Vec<usize>) {
        self.any(&mut |node| {
            match node {
                Scalar::Column(place) => out.push(*place),
                Scalar::Physical(physical) => out.extend_from_slice(physical.places()),
                _ => {}
            }
            false
        });
    }

    fn any(&self, test: &mut dyn FnMut(&Scalar) -> bool) -> bool {
        if test(self) {
            return true;
        }
        match self {
            Scalar::Column(_)
            | Scalar::Constant(_)
            | Scalar::Parameter(_)
            | Scalar::Physical(_) => false,
            Scalar::Compare { left, right, .. } | Scalar::Distinct { left, right, .. } => {
                left.any(test) || right.any(test)
            }
            Scalar::NullIf(left, right) => left.any(test) || right.any(test),
            Scalar::And(list) | Scalar::Or(list) | Scalar::Coalesce(list) => {
                list.iter().any(|item| item.any(test))
            }
            Scalar::Not(operand) | Scalar::Is { operand, .. } | Scalar::Cast { operand, .. } => {
                operand.any(test)
            }
            Scalar::InList { operand, list, .. } => {
                operand.any(test) || list.iter().any(|item| item.any(test))
            }
            Scalar::Between {
                operand, low, high, ..
            } => operand.any(test) || low.any(test) || high.any(test),
            Scalar::Like { text, pattern, .. } => text.any(test) || pattern.any(test),
            Scalar::Case {
                operand,
                branches,
                otherwise,
                ..
            } => {
                operand.iter().any(|item| item.any(test))
                    || branches.iter().any(|(a, b)| a.any(test) || b.any(test))
                    || otherwise.iter().any(|item| item.any(test))
            }
            Scalar::Call { arguments, .. } => arguments.iter().any(|item| item.any(test)),
        }
    }
}
