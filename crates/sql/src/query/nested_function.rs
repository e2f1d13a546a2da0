//! Subqueries that run once for every row.
//!
//! A [`NestedQuery`] is a function whose arguments are what its query takes from the row around it:
//! outer columns and parameters. It runs the query for each distinct combination of them in a batch.
//! Slow next to a join, so [`super::nested`] makes one only where DataFusion knows no join.

use super::errors::external;
use super::functions::broken;
use super::statement::Statement;
use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, BooleanArray, ListArray, RecordBatch, StructArray, new_empty_array,
    new_null_array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DataFusionError, Result as DfResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Subquery, TypeSignature, Volatility,
};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use rustc_hash::FxHashMap;
use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use types::{Error, SqlState};

/// What a query takes from outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    Outer(Column),
    /// `$n`.
    Parameter(String),
}

/// What the rows of a query are made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// The one row's value; NULL without rows, 21000 with more than one.
    Value,
    /// Whether there is a row.
    Exists,
    /// All rows' values.
    Array,
    /// All rows, as a struct with an array for each column.
    Rows,
}

/// A query as a function of what it takes from outside.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct NestedQuery {
    plan: Arc<LogicalPlan>,
    slots: Vec<Slot>,
    shape: Shape,
    returns: FieldRef,
    signature: Signature,
}

impl fmt::Debug for NestedQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nested query ({:?})", self.shape)
    }
}

impl NestedQuery {
    /// The call of a query: `arguments` fill its `slots`.
    pub fn call(
        plan: Arc<LogicalPlan>,
        slots: Vec<Slot>,
        arguments: Vec<Expr>,
        shape: Shape,
        returns: FieldRef,
    ) -> Expr {
        // Volatile, so that no rule moves or copies the call.
        let signature = Signature::one_of(
            vec![TypeSignature::Nullary, TypeSignature::VariadicAny],
            Volatility::Volatile,
        );
        let function = NestedQuery {
            plan,
            slots,
            shape,
            returns,
            signature,
        };
        let function: Arc<dyn AsyncScalarUDFImpl> = Arc::new(function);
        Arc::new(AsyncScalarUDF::new(function).into_scalar_udf()).call(arguments)
    }

    /// Whether a function is one of ours.
    pub fn is(udf: &ScalarUDF) -> bool {
        udf.inner().downcast_ref::<AsyncScalarUDF>().is_some()
    }

    /// Runs the query for one combination of arguments.
    async fn run(&self, state: &SessionState, values: &[ScalarValue]) -> DfResult<ArrayRef> {
        let plan = fill(self.plan.as_ref().clone(), &self.slots, values)?;
        let plan = state.create_physical_plan(&plan).await?;
        let mut batches = execute_stream(plan, state.task_ctx())?;
        if self.shape == Shape::Rows {
            return self.lists(batches).await;
        }
        let mut parts: Vec<ArrayRef> = Vec::new();
        let mut rows = 0;
        while let Some(batch) = batches.next().await {
            let batch: RecordBatch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            rows += batch.num_rows();
            match self.shape {
                Shape::Exists => break,
                Shape::Value if rows > 1 => return Err(external(many_rows())),
                Shape::Value | Shape::Array | Shape::Rows => parts.push(batch.column(0).clone()),
            }
        }
        Ok(match self.shape {
            Shape::Exists => Arc::new(BooleanArray::from(vec![rows > 0])),
            Shape::Value => match parts.into_iter().next() {
                Some(value) => value,
                None => new_null_array(self.returns.data_type(), 1),
            },
            Shape::Array | Shape::Rows => {
                let DataType::List(item) = self.returns.data_type() else {
                    return Err(broken("a nested array that is no list"));
                };
                let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
                let values = match parts.is_empty() {
                    true => new_empty_array(item.data_type()),
                    false => concat(&parts)?,
                };
                let lengths = OffsetBuffer::from_lengths([values.len()]);
                Arc::new(ListArray::try_new(item.clone(), lengths, values, None)?)
            }
        })
    }
}

impl NestedQuery {
    /// All rows as one struct of arrays; the arrays are NULL without rows.
    async fn lists(&self, mut batches: SendableRecordBatchStream) -> DfResult<ArrayRef> {
        let DataType::Struct(fields) = self.returns.data_type() else {
            return Err(broken("nested rows that are no struct"));
        };
        let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::new(); fields.len()];
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            for (part, column) in parts.iter_mut().zip(batch.columns()) {
                part.push(column.clone());
            }
        }
        let mut lists: Vec<ArrayRef> = Vec::with_capacity(fields.len());
        for (field, part) in fields.iter().zip(parts) {
            let DataType::List(item) = field.data_type() else {
                return Err(broken("nested rows without arrays"));
            };
            let part: Vec<&dyn Array> = part.iter().map(AsRef::as_ref).collect();
            if part.iter().all(|part| part.is_empty()) {
                lists.push(new_null_array(field.data_type(), 1));
                continue;
            }
            let values =
                super::kernels::as_type(concat(&part)?, item.data_type()).map_err(external)?;
            let lengths = OffsetBuffer::from_lengths([values.len()]);
            lists.push(Arc::new(ListArray::try_new(
                item.clone(),
                lengths,
                values,
                None,
            )?));
        }
        Ok(Arc::new(StructArray::try_new(fields.clone(), lists, None)?))
    }
}

/// One column's array out of [`Shape::Rows`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListOf {
    column: usize,
    returns: FieldRef,
    signature: Signature,
}

impl ListOf {
    pub fn call(rows: Expr, column: usize, returns: FieldRef) -> Expr {
        let function = ListOf {
            column,
            returns,
            signature: Signature::any(1, Volatility::Immutable),
        };
        ScalarUDF::new_from_impl(function).call(vec![rows])
    }
}

impl ScalarUDFImpl for ListOf {
    fn name(&self) -> &str {
        "list of"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(self.returns.data_type().clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let value = args.args.into_iter().next();
        let array = value
            .ok_or_else(|| broken("a list of nothing"))?
            .into_array(rows)?;
        let parts = array
            .as_any()
            .downcast_ref::<StructArray>()
            .filter(|parts| self.column < parts.num_columns())
            .ok_or_else(|| broken("a list of something that is no struct"))?;
        Ok(ColumnarValue::Array(parts.column(self.column).clone()))
    }
}

/// 21000, as PostgreSQL words it.
pub(crate) fn many_rows() -> Error {
    Error::new(
        SqlState::CARDINALITY_VIOLATION,
        "more than one row returned by a subquery used as an expression",
    )
}

impl ScalarUDFImpl for NestedQuery {
    fn name(&self) -> &str {
        "nested query"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(self.returns.data_type().clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(external(Error::unsupported("a subquery in this place")))
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for NestedQuery {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let options = args.config_options;
        let context = Statement::of(&options)?;
        let state = Template::state(&options)?;
        let rows = args.number_rows;
        let arguments = args
            .args
            .into_iter()
            .map(|value| value.into_array(rows))
            .collect::<DfResult<Vec<_>>>()?;
        let mut known: FxHashMap<Vec<ScalarValue>, u64> = FxHashMap::default();
        let mut results: Vec<ArrayRef> = Vec::new();
        let mut indices = Vec::with_capacity(rows);
        for row in 0..rows {
            let values = arguments
                .iter()
                .map(|array| ScalarValue::try_from_array(array, row))
                .collect::<DfResult<Vec<_>>>()?;
            if let Some(index) = known.get(&values) {
                indices.push(*index);
                continue;
            }
            context.cancel.check().map_err(external)?;
            let result = self.run(&state, &values).await?;
            let result =
                super::kernels::as_type(result, self.returns.data_type()).map_err(external)?;
            let index = results.len() as u64;
            results.push(result);
            known.insert(values, index);
            indices.push(index);
        }
        if results.is_empty() {
            return Ok(ColumnarValue::Array(new_empty_array(
                self.returns.data_type(),
            )));
        }
        let results: Vec<&dyn Array> = results.iter().map(AsRef::as_ref).collect();
        let results = concat(&results)?;
        let indices = datafusion::arrow::array::UInt64Array::from(indices);
        Ok(ColumnarValue::Array(take(&results, &indices, None)?))
    }
}

/// The plan with values in its slots.
fn fill(plan: LogicalPlan, slots: &[Slot], values: &[ScalarValue]) -> DfResult<LogicalPlan> {
    let value_of = |slot: &Slot| {
        let position = slots.iter().position(|s| s == slot)?;
        values.get(position).cloned()
    };
    plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let filled = expr.transform_up(|e| fill_expr(e, &value_of))?;
            Ok(filled.update_data(|e| name.restore(e)))
        })
    })
    .map(|filled| filled.data)
}

fn fill_expr(
    expr: Expr,
    value_of: &impl Fn(&Slot) -> Option<ScalarValue>,
) -> DfResult<Transformed<Expr>> {
    let value = match &expr {
        Expr::OuterReferenceColumn(_, column) => value_of(&Slot::Outer(column.clone())),
        Expr::Placeholder(parameter) => value_of(&Slot::Parameter(parameter.id.clone())),
        _ => None,
    };
    if let Some(value) = value {
        return Ok(Transformed::yes(Expr::Literal(value, None)));
    }
    // What a subquery takes from outside is less now.
    let renew = |subquery: Subquery| Subquery {
        outer_ref_columns: super::nested::free_references(&subquery.subquery),
        ..subquery
    };
    Ok(match expr {
        Expr::ScalarSubquery(subquery) => Transformed::yes(Expr::ScalarSubquery(renew(subquery))),
        Expr::Exists(mut exists) => {
            exists.subquery = renew(exists.subquery);
            Transformed::yes(Expr::Exists(exists))
        }
        Expr::InSubquery(mut within) => {
            within.subquery = renew(within.subquery);
            Transformed::yes(Expr::InSubquery(within))
        }
        Expr::SetComparison(mut comparison) => {
            comparison.subquery = renew(comparison.subquery);
            Transformed::yes(Expr::SetComparison(comparison))
        }
        other => Transformed::no(other),
    })
}

/// The session state that nested queries' own states are made from.
#[derive(Clone)]
pub(crate) struct Template(pub Arc<SessionState>);

impl Template {
    /// A state for nested queries of the statement that `options` belong to. They run on one thread:
    /// most are tiny.
    fn state(options: &ConfigOptions) -> DfResult<SessionState> {
        let template = options
            .extensions
            .get::<Template>()
            .ok_or_else(|| DataFusionError::Internal("plan runs outside a statement".into()))?;
        let config = SessionConfig::from(options.clone()).with_target_partitions(1);
        let mut state = SessionStateBuilder::new_from_existing(template.0.as_ref().clone())
            .with_config(config)
            .build();
        state.mark_start_execution();
        Ok(state)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template")
    }
}

impl ConfigExtension for Template {
    const PREFIX: &'static str = "phantom_template";
}

impl ExtensionOptions for Template {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _value: &str) -> DfResult<()> {
        Err(DataFusionError::Configuration(format!(
            "phantom_template.{key} cannot be set"
        )))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

/// `array_agg` of a subquery's rows as the value of its one row: NULL without rows, 21000 with more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SingleRow {
    returns: FieldRef,
    signature: Signature,
}

impl Hash for SingleRow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.returns.hash(state);
    }
}

impl SingleRow {
    pub fn call(rows: Expr, returns: FieldRef) -> Expr {
        let function = SingleRow {
            returns,
            signature: Signature::any(1, Volatility::Immutable),
        };
        ScalarUDF::new_from_impl(function).call(vec![rows])
    }
}

impl ScalarUDFImpl for SingleRow {
    fn name(&self) -> &str {
        "single row"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(self.returns.data_type().clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let [value]: [ColumnarValue; 1] = args
            .args
            .try_into()
            .map_err(|_| broken("single row of several arguments"))?;
        let array = value.into_array(rows)?;
        if array.data_type() == &DataType::Null {
            return Ok(ColumnarValue::Array(new_null_array(
                self.returns.data_type(),
                array.len(),
            )));
        }
        let list = array
            .as_any()
            .downcast_ref::<ListArray>()
            .ok_or_else(|| broken("single row of something that is no list"))?;
        let mut indices = Vec::with_capacity(list.len());
        for row in 0..list.len() {
            let length = if list.is_null(row) {
                0
            } else {
                list.value_length(row)
            };
            if length > 1 {
                return Err(external(many_rows()));
            }
            let first = list.value_offsets().get(row).copied().unwrap_or_default();
            indices.push((length == 1).then_some(first as u64));
        }
        let indices = datafusion::arrow::array::UInt64Array::from(indices);
        let values = take(list.values(), &indices, None)?;
        let values = super::kernels::as_type(values, self.returns.data_type()).map_err(external)?;
        Ok(ColumnarValue::Array(values))
    }
}
