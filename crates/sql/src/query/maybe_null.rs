//! `maybe_null(value)`: the value, as something that may be NULL.
//!
//! A scalar subquery that finds no row is NULL, even if its column never is. DataFusion takes the
//! column's word for it, and then cannot put the NULL anywhere. So the column is made one that may be
//! NULL; the function does nothing else.

use super::quantified::subquery_of;
use crate::query::errors::from_datafusion;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Subquery, Volatility,
};
use std::sync::Arc;

/// The subquery of one column, NULL when it has no row.
pub(crate) fn may_be_empty(subquery: Subquery) -> types::Result<Subquery> {
    let plan = subquery.subquery.as_ref();
    let (qualifier, field) = plan.schema().qualified_field(0);
    if field.is_nullable() || always_has_a_row(plan) {
        return Ok(subquery);
    }
    let column = Expr::Column((qualifier, field).into());
    let value = ScalarUDF::new_from_impl(MaybeNull::default()).call(vec![column]);
    let value = value.alias_qualified(qualifier.cloned(), field.name());
    let plan = LogicalPlanBuilder::from(plan.clone())
        .project([value])
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)?;
    Ok(subquery_of(plan))
}

fn always_has_a_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => always_has_a_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => always_has_a_row(&alias.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(empty) => empty.produce_one_row,
        _ => false,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MaybeNull {
    signature: Signature,
}

impl Default for MaybeNull {
    fn default() -> Self {
        MaybeNull {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for MaybeNull {
    fn name(&self) -> &str {
        "maybe_null"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DfResult<DataType> {
        Ok(arguments.first().cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let field = args.arg_fields[0].as_ref().clone();
        Ok(Arc::new(field.with_nullable(true)))
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Ok(args.args.swap_remove(0))
    }
}
