//! Calls of functions that act on the cluster ([`crate::cluster::actions`]) inside plans.
//!
//! The optimiser may move, merge, repeat or drop what computes a value, and counts on rows it may evaluate
//! early. So a call is bound only where none of that can happen: in the select list of a query that is nothing
//! but one row.

use super::binder::Binder;
use super::errors::{external, from_datafusion};
use super::overload::{choose, undefined_function};
use super::scope::Typed;
use super::statement::Statement;
use crate::arrow_bridge::{array_from_datums, arrow_type, datum_at, field};
use crate::cluster::actions::Action;
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl,
    Signature, Volatility,
};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use types::{Error, Result, SqlType};

/// One call, with the types of its arguments.
struct ActionUdf {
    action: &'static Action,
    argument_types: Vec<SqlType>,
    returns: SqlType,
    signature: Signature,
}

impl Binder<'_> {
    /// `phantom.name(…)`.
    pub(super) fn action(
        &mut self,
        action: &'static Action,
        arguments: Vec<Typed>,
    ) -> Result<Typed> {
        let types: Vec<SqlType> = arguments.iter().map(|a| a.ty.clone()).collect();
        let chosen = choose(std::slice::from_ref(&action.function), &types, false)?
            .ok_or_else(|| undefined_function(&action.full_name, &types))?;
        let returns = chosen.returns.clone();
        let (bound, argument_types) = self.arguments(arguments, chosen.arguments)?;
        self.saw_volatility(action.function.volatility);
        self.acts = Some(action);
        let function: Arc<dyn AsyncScalarUDFImpl> = Arc::new(ActionUdf {
            action,
            signature: Signature::any(bound.len(), Volatility::Volatile),
            argument_types,
            returns: returns.clone(),
        });
        let call = Arc::new(AsyncScalarUDF::new(function).into_scalar_udf()).call(bound);
        Ok(Typed::new(call, returns))
    }
}

/// Refuses a plan in which calls stand elsewhere than in the select list of a query of one row.
pub(super) fn check_places(plan: &LogicalPlan, acts: &Action) -> Result<()> {
    let mut elsewhere = false;
    plan.apply_with_subqueries(|node| {
        let is_root = std::ptr::eq(node, plan);
        node.apply_expressions(|expr| {
            elsewhere |= match is_root && is_one_row(node) {
                true => !is_plain(expr)?,
                false => has_call(expr)?,
            };
            Ok(TreeNodeRecursion::Continue)
        })
    })
    .map_err(from_datafusion)?;
    match elsewhere {
        true => Err(misplaced(acts)),
        false => Ok(()),
    }
}

/// What is said of a call that might act twice, or when it should not.
pub(super) fn misplaced(acts: &Action) -> Error {
    Error::unsupported(format!("{} in this place", acts.full_name)).hint(
        "It acts, so it stands by itself: SELECT phantom.name(...), without FROM, WHERE and CASE.",
    )
}

fn is_one_row(node: &LogicalPlan) -> bool {
    let LogicalPlan::Projection(projection) = node else {
        return false;
    };
    matches!(&*projection.input, LogicalPlan::EmptyRelation(empty) if empty.produce_one_row)
}

/// Whether all that is in an expression is evaluated, once for each row.
fn is_plain(expr: &Expr) -> DfResult<bool> {
    match expr {
        Expr::Alias(alias) => is_plain(&alias.expr),
        Expr::Cast(cast) => is_plain(&cast.expr),
        Expr::TryCast(cast) => is_plain(&cast.expr),
        Expr::ScalarFunction(function) => {
            let plain = function.args.iter().map(is_plain);
            plain
                .collect::<DfResult<Vec<_>>>()
                .map(|all| !all.contains(&false))
        }
        other => has_call(other).map(|found| !found),
    }
}

fn has_call(expr: &Expr) -> DfResult<bool> {
    expr.exists(|expr| {
        Ok(match expr {
            Expr::ScalarFunction(function) => Action::of_full_name(function.func.name()).is_some(),
            _ => false,
        })
    })
}

impl fmt::Debug for ActionUdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.action.full_name, self.argument_types)
    }
}

impl PartialEq for ActionUdf {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.action, other.action) && self.argument_types == other.argument_types
    }
}

impl Eq for ActionUdf {}

impl Hash for ActionUdf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.action.full_name.hash(state);
        self.argument_types.hash(state);
    }
}

impl ScalarUDFImpl for ActionUdf {
    fn name(&self) -> &str {
        &self.action.full_name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(arrow_type(&self.returns))
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(field(
            self.action.function.name,
            &self.returns,
            true,
        )))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(external(misplaced(self.action)))
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for ActionUdf {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let context = Arc::clone(Statement::of(&args.config_options)?);
        let rows = args.number_rows;
        let arrays = args.args.into_iter().map(|value| value.into_array(rows));
        let arrays = arrays.collect::<DfResult<Vec<_>>>()?;
        let mut results = Vec::with_capacity(rows);
        for row in 0..rows {
            let values = arrays.iter().zip(&self.argument_types);
            let values = values.map(|(array, sql_type)| datum_at(array, row, sql_type));
            let values = values.collect::<Result<Vec<_>>>().map_err(external)?;
            results.push(
                self.action
                    .run(&context, values, &self.argument_types)
                    .await
                    .map_err(external)?,
            );
        }
        let shown = array_from_datums(results.iter(), &self.returns).map_err(external)?;
        Ok(ColumnarValue::Array(shown))
    }
}
