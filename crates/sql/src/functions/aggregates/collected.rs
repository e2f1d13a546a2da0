//! An aggregate that keeps the rows of its group until the end.
//!
//! The state is a list for each argument and for each ORDER BY expression of the call. A merge joins
//! lists; the order is made once, over all rows, when the result is asked for.

use super::kind::{Arguments, Kind};
use crate::arrow_bridge::{
    array_from_datums, arrow_type, datum_at, scalar_value, sql_type_of_arrow,
};
use crate::query::errors::external;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use types::compare::DatumKey;
use types::{Datum, SqlType};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Collected {
    name: String,
    kind: Kind,
    arguments: Vec<SqlType>,
    returns: SqlType,
    /// Each value counts once. DataFusion is not told, because it would tell equal values apart.
    distinct: bool,
    signature: Signature,
}

impl Collected {
    pub fn new(
        name: &str,
        kind: Kind,
        arguments: Vec<SqlType>,
        returns: SqlType,
        distinct: bool,
    ) -> Self {
        Collected {
            name: name.into(),
            kind,
            distinct,
            signature: Signature::any(arguments.len(), Volatility::Immutable),
            arguments,
            returns,
        }
    }
}

fn list_field(name: String, data_type: DataType) -> FieldRef {
    let item = Field::new("item", data_type, true);
    Arc::new(Field::new(name, DataType::List(Arc::new(item)), true))
}

impl AggregateUDFImpl for Collected {
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
        let arguments = self.arguments.iter().map(arrow_type);
        let orderings = args.ordering_fields.iter().map(|f| f.data_type().clone());
        Ok(arguments
            .chain(orderings)
            .enumerate()
            .map(|(at, data_type)| {
                list_field(format_state_name(args.name, &format!("{at}")), data_type)
            })
            .collect())
    }

    /// The accumulator sorts; order in the input is of no use to it.
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::SoftRequirement
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        _beneficial_ordering: bool,
    ) -> DfResult<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        let mut types = self.arguments.clone();
        let mut arrow_types: Vec<DataType> = types.iter().map(arrow_type).collect();
        for order in args.order_bys {
            let data_type = order.expr.data_type(args.schema)?;
            types.push(sql_type_of_arrow(&data_type));
            arrow_types.push(data_type);
        }
        Ok(Box::new(Rows {
            kind: self.kind,
            argument_count: self.arguments.len(),
            returns: self.returns.clone(),
            types,
            arrow_types,
            order: args.order_bys.iter().map(|order| order.options).collect(),
            distinct: self.distinct,
            rows: Vec::new(),
            bytes: 0,
        }))
    }
}

#[derive(Debug)]
struct Rows {
    kind: Kind,
    argument_count: usize,
    returns: SqlType,
    /// Of the arguments, then of the ORDER BY expressions.
    types: Vec<SqlType>,
    arrow_types: Vec<DataType>,
    order: Vec<SortOptions>,
    distinct: bool,
    /// Arguments, then the values of the ORDER BY expressions.
    rows: Vec<Vec<Datum>>,
    bytes: usize,
}

impl Rows {
    fn push(&mut self, row: Vec<Datum>) {
        let arguments = &row[..self.argument_count];
        if self.kind.passes_over_nulls() && arguments.iter().any(Datum::is_null) {
            return;
        }
        // One value is enough for `any_value`.
        if self.kind == Kind::Any && self.order.is_empty() && !self.rows.is_empty() {
            return;
        }
        self.bytes += row.iter().map(Datum::memory_size).sum::<usize>() + size_of::<Vec<Datum>>();
        self.rows.push(row);
    }

    fn in_order(&self, a: &[Datum], b: &[Datum]) -> Ordering {
        let count = self.argument_count;
        for (at, options) in self.order.iter().enumerate() {
            let (a, b) = (&a[count + at], &b[count + at]);
            let ordering = match (a.is_null(), b.is_null()) {
                (true, true) => Ordering::Equal,
                (true, false) if options.nulls_first => Ordering::Less,
                (true, false) => Ordering::Greater,
                (false, true) if options.nulls_first => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) if options.descending => b.compare(a),
                (false, false) => a.compare(b),
            };
            if ordering != Ordering::Equal {
                return ordering;
            }
        }
        Ordering::Equal
    }

    /// The rows as the result sees them: in order, and each once under DISTINCT.
    fn ordered(&self) -> Vec<Arguments> {
        let mut rows: Vec<&Vec<Datum>> = self.rows.iter().collect();
        if self.distinct {
            let mut seen = BTreeSet::new();
            rows.retain(|row| seen.insert(DatumKey(comparable(&row[self.argument_count - 1]))));
            rows.sort_by_cached_key(|row| DatumKey(comparable(&row[self.argument_count - 1])));
        }
        rows.sort_by(|a, b| self.in_order(a, b));
        rows.into_iter()
            .map(|row| row[..self.argument_count].to_vec())
            .collect()
    }
}

/// `json` has no order of its own; under DISTINCT it is compared as `jsonb`.
fn comparable(value: &Datum) -> Datum {
    match value {
        Datum::Json(text) => types::json::parse(text).map_or_else(|_| value.clone(), Datum::Jsonb),
        other => other.clone(),
    }
}

impl Accumulator for Rows {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let count = values.first().map_or(0, |array| array.len());
        for row in 0..count {
            let mut datums = Vec::with_capacity(values.len());
            for (array, sql_type) in values.iter().zip(&self.types) {
                datums.push(datum_at(array, row, sql_type).map_err(external)?);
            }
            self.push(datums);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let groups = states.first().map_or(0, |array| array.len());
        for group in 0..groups {
            let mut columns = Vec::with_capacity(states.len());
            for state in states {
                let lists = state
                    .as_list_opt::<i32>()
                    .ok_or_else(|| DataFusionError::Internal("a state that is no list".into()))?;
                columns.push(lists.value(group));
            }
            self.update_batch(&columns)?;
        }
        Ok(())
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let mut states = Vec::with_capacity(self.types.len());
        for (at, sql_type) in self.types.iter().enumerate() {
            let values = self.rows.iter().map(|row| &row[at]);
            let mut items = array_from_datums(values, sql_type).map_err(external)?;
            if items.data_type() != &self.arrow_types[at] {
                items = datafusion::arrow::compute::cast(&items, &self.arrow_types[at])?;
            }
            let item = Arc::new(Field::new("item", self.arrow_types[at].clone(), true));
            let offsets = datafusion::arrow::buffer::OffsetBuffer::from_lengths([items.len()]);
            let list = datafusion::arrow::array::ListArray::try_new(item, offsets, items, None)?;
            states.push(ScalarValue::List(Arc::new(list)));
        }
        Ok(states)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let result = self
            .kind
            .finish(&self.ordered(), &self.returns)
            .map_err(external)?;
        scalar_value(&result, &self.returns).map_err(external)
    }

    fn size(&self) -> usize {
        size_of::<Rows>() + self.bytes
    }
}
