//! Aggregates that keep one small state per group and take rows in, and out again for moving frames.

use super::fold::Fold;
use crate::arrow_bridge::{arrow_type, datum_at, scalar_value};
use crate::query::errors::external;
use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;
use std::sync::Arc;
use types::SqlType;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Folded {
    name: String,
    kind: FoldKind,
    argument: SqlType,
    returns: SqlType,
    signature: Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FoldKind {
    NumericSum,
    IntervalSum,
    Least,
    Greatest,
    /// Variance, or its root; of a sample, or of a population.
    Spread {
        root: bool,
        sample: bool,
    },
}

impl Folded {
    pub fn new(name: &str, kind: FoldKind, argument: SqlType, returns: SqlType) -> Self {
        Folded {
            name: name.into(),
            kind,
            argument,
            returns,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }

    fn folder(&self, moving: bool) -> Box<dyn Accumulator> {
        Box::new(Folder {
            fold: Fold::new(self.kind, moving),
            argument: self.argument.clone(),
            state_types: self.state_types(),
            returns: self.returns.clone(),
        })
    }

    fn state_types(&self) -> Vec<SqlType> {
        match self.kind {
            FoldKind::Spread { .. } => vec![
                SqlType::Int8,
                SqlType::Numeric(None),
                SqlType::Numeric(None),
            ],
            _ => vec![self.returns.clone()],
        }
    }
}

impl AggregateUDFImpl for Folded {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(arrow_type(&self.returns))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        Ok(self
            .state_types()
            .iter()
            .enumerate()
            .map(|(at, ty)| {
                let name = format_state_name(args.name, &format!("{at}"));
                Arc::new(Field::new(name, arrow_type(ty), true))
            })
            .collect())
    }

    fn accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(self.folder(false))
    }

    fn create_sliding_accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(self.folder(true))
    }
}

#[derive(Debug)]
struct Folder {
    fold: Fold,
    argument: SqlType,
    state_types: Vec<SqlType>,
    returns: SqlType,
}

impl Accumulator for Folder {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let Some(array) = values.first() else {
            return Ok(());
        };
        for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
            let value = datum_at(array, row, &self.argument).map_err(external)?;
            self.fold.add(value).map_err(external)?;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let Some(array) = values.first() else {
            return Ok(());
        };
        for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
            let value = datum_at(array, row, &self.argument).map_err(external)?;
            self.fold.remove(&value).map_err(external)?;
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let rows = states.first().map_or(0, |array| array.len());
        for row in 0..rows {
            let mut state = Vec::with_capacity(states.len());
            for (array, ty) in states.iter().zip(&self.state_types) {
                state.push(datum_at(array, row, ty).map_err(external)?);
            }
            self.fold.merge(&state).map_err(external)?;
        }
        Ok(())
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let state = self.fold.state().map_err(external)?;
        state
            .iter()
            .zip(&self.state_types)
            .map(|(value, ty)| scalar_value(value, ty).map_err(external))
            .collect()
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let result = self.fold.finish().map_err(external)?;
        scalar_value(&result, &self.returns).map_err(external)
    }

    fn size(&self) -> usize {
        size_of::<Folder>() + self.fold.memory_size()
    }
}
