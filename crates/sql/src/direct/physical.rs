//! Expressions that only DataFusion can evaluate, one row at a time.

use crate::arrow_bridge::{array_from_datums, datum_at, scalar_value, sql_type_of};
use crate::context::StatementContext;
use crate::query::errors::from_datafusion;
use crate::query::statement::Statement;
use datafusion::arrow::array::{ArrayRef, RecordBatchOptions};
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::physical_expr::create_physical_expr;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlType};

/// An expression for DataFusion, with the columns it reads.
pub struct PhysicalScalar {
    expr: Expr,
    /// Only the columns read.
    schema: DFSchema,
    types: Vec<SqlType>,
    /// Their places in the executor's row.
    places: Vec<usize>,
    result: SqlType,
    volatile: bool,
}

impl PhysicalScalar {
    /// `None` if the expression needs more than one row.
    pub fn new(expr: &Expr, schema: &DFSchema, places: Option<&[usize]>) -> Option<PhysicalScalar> {
        let mut single_row = true;
        let mut columns: Vec<Column> = Vec::new();
        expr.apply(|node| {
            match node {
                Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::ScalarSubquery(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Unnest(_)
                | Expr::GroupingSet(_) => single_row = false,
                Expr::ScalarFunction(call) if crate::query::runs_a_query(&call.func) => {
                    single_row = false;
                }
                Expr::Column(column) if !columns.contains(column) => columns.push(column.clone()),
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })
        .ok()?;
        if !single_row {
            return None;
        }
        let mut fields = Vec::new();
        let mut own_places = Vec::new();
        for column in &columns {
            let index = schema.maybe_index_of_column(column)?;
            let (qualifier, field) = schema.qualified_field(index);
            fields.push((qualifier.cloned(), field.clone()));
            own_places.push(match places {
                Some(places) => *places.get(index)?,
                None => index,
            });
        }
        let types = fields.iter().map(|(_, field)| sql_type_of(field)).collect();
        let narrow = DFSchema::new_with_metadata(fields, Default::default()).ok()?;
        let (_, field) = expr.to_field(schema).ok()?;
        Some(PhysicalScalar {
            result: sql_type_of(&field),
            volatile: expr.is_volatile(),
            expr: expr.clone(),
            schema: narrow,
            types,
            places: own_places,
        })
    }

    pub fn places(&self) -> &[usize] {
        &self.places
    }

    pub fn is_volatile(&self) -> bool {
        self.volatile
    }

    pub fn eval(&self, row: &[Datum], params: &[Datum], ctx: &StatementContext) -> Result<Datum> {
        let bound = with_parameters(self.expr.clone(), params)?;
        let mut options = ConfigOptions::new();
        let statement = Statement::new(Arc::new(ctx.clone()), None);
        options.extensions.insert(statement);
        let options = Arc::new(options);
        let mut props = ExecutionProps::new();
        props.config_options = Some(options);
        let physical = create_physical_expr(
            &bound,
            &self.schema,
            &props,
            &PhysicalPlanningContext::default(),
        )
        .map_err(from_datafusion)?;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.places.len());
        for (place, sql_type) in self.places.iter().zip(&self.types) {
            let value = row
                .get(*place)
                .ok_or_else(|| Error::internal(format!("row has no column {place}")))?;
            arrays.push(array_from_datums(std::iter::once(value), sql_type)?);
        }
        let schema = Arc::new(Schema::clone(self.schema.as_arrow()));
        let one_row = RecordBatchOptions::new().with_row_count(Some(1));
        let batch = RecordBatch::try_new_with_options(schema, arrays, &one_row)
            .map_err(|error| Error::internal(error.to_string()))?;
        let value = physical.evaluate(&batch).map_err(from_datafusion)?;
        let array = value.into_array(1).map_err(from_datafusion)?;
        datum_at(array.as_ref(), 0, &self.result)
    }
}

/// The expression with literals in the place of its parameters.
fn with_parameters(expr: Expr, params: &[Datum]) -> Result<Expr> {
    let replaced = expr.transform(|node| {
        let Expr::Placeholder(placeholder) = &node else {
            return Ok(Transformed::no(node));
        };
        let broken = || DataFusionError::Internal(format!("parameter {}", placeholder.id));
        let number: usize = placeholder
            .id
            .strip_prefix('$')
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(broken)?;
        let datum = number.checked_sub(1).and_then(|n| params.get(n));
        let datum = datum.ok_or_else(broken)?;
        let value = match &placeholder.field {
            Some(field) => scalar_value(datum, &sql_type_of(field))
                .map_err(|error| DataFusionError::External(Box::new(error)))?,
            None if datum.is_null() => ScalarValue::Null,
            None => return Err(broken()),
        };
        Ok(Transformed::yes(Expr::Literal(value, None)))
    });
    replaced.map(|t| t.data).map_err(from_datafusion)
}
