//! Registry functions as DataFusion functions.
//!
//! The binder resolves a call to one overload with fixed argument and result types, and wraps exactly
//! that in a [`FunctionUdf`]; the direct road takes the overload out again by downcast. Arguments
//! already have the overload's types when the call is built, so DataFusion has nothing to coerce.
//!
//! Evaluation, first that fits: a vectorised kernel of `kernels` for arithmetic, the overload's
//! own Arrow kernel, or row by row through its `Datum` function.

use super::errors::external;
use super::kernels;
use super::statement::Statement;
use crate::arrow_bridge::{array_from_datums, arrow_type, datum_at, null_scalar, scalar_value};
use crate::context::StatementContext;
use crate::functions::{ScalarFunction, Volatility};
use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility as DfVolatility,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use types::{Datum, Result, SqlType};

/// One overload of a registry function, bound to the types of a call.
#[derive(Clone)]
pub struct FunctionUdf {
    pub function: Arc<ScalarFunction>,
    pub argument_types: Vec<SqlType>,
    pub return_type: SqlType,
    signature: Signature,
}

impl std::fmt::Debug for FunctionUdf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({:?})", self.function.name, self.argument_types)
    }
}

impl PartialEq for FunctionUdf {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
            && self.argument_types == other.argument_types
            && self.return_type == other.return_type
            && self.function.arguments == other.function.arguments
    }
}

impl Eq for FunctionUdf {}

impl Hash for FunctionUdf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
        self.argument_types.hash(state);
        self.return_type.hash(state);
    }
}

pub(crate) fn datafusion_volatility(volatility: Volatility) -> DfVolatility {
    match volatility {
        Volatility::Immutable => DfVolatility::Immutable,
        Volatility::Stable => DfVolatility::Stable,
        Volatility::Volatile => DfVolatility::Volatile,
    }
}

impl FunctionUdf {
    pub fn new(
        function: Arc<ScalarFunction>,
        argument_types: Vec<SqlType>,
        return_type: SqlType,
    ) -> Self {
        let volatility = datafusion_volatility(function.volatility);
        // "Any number" begins at one argument for DataFusion; none is a case of its own.
        let arity = if argument_types.is_empty() {
            TypeSignature::Nullary
        } else {
            TypeSignature::VariadicAny
        };
        let signature = Signature::new(arity, volatility);
        FunctionUdf {
            function,
            argument_types,
            return_type,
            signature,
        }
    }

    /// The call as an expression.
    pub fn call(self, arguments: Vec<Expr>) -> Expr {
        ScalarUDF::new_from_impl(self).call(arguments)
    }

    /// The call inside `expr`, if it is one of ours.
    pub fn of(udf: &ScalarUDF) -> Option<&FunctionUdf> {
        udf.inner().downcast_ref::<FunctionUdf>()
    }

    fn evaluate_row(&self, context: &StatementContext, arguments: &[Datum]) -> Result<Datum> {
        if self.function.strict && arguments.iter().any(|a| matches!(a, Datum::Null)) {
            return Ok(Datum::Null);
        }
        (self.function.evaluate)(context, arguments)
    }

    /// A kernel's column in the Arrow form of the call's type.
    fn in_form(&self, array: ArrayRef) -> Result<ArrayRef> {
        let wanted = arrow_type(&self.return_type);
        let found = array.data_type();
        let bytes = DataType::BinaryView;
        if *found == wanted || !(wanted == bytes || *found == bytes) {
            return kernels::as_type(array, &wanted);
        }
        let values = (0..array.len())
            .map(|row| datum_at(&array, row, &self.return_type))
            .collect::<Result<Vec<_>>>()?;
        array_from_datums(values.iter(), &self.return_type)
    }

    fn evaluate_rows(
        &self,
        context: &StatementContext,
        arrays: &[ArrayRef],
        rows: usize,
    ) -> Result<ArrayRef> {
        let mut results = Vec::with_capacity(rows);
        let mut arguments = Vec::with_capacity(arrays.len());
        for row in 0..rows {
            if row % CANCEL_CHECK_ROWS == 0 {
                context.cancel.check()?;
            }
            arguments.clear();
            for (array, sql_type) in arrays.iter().zip(&self.argument_types) {
                arguments.push(datum_at(array, row, sql_type)?);
            }
            results.push(self.evaluate_row(context, &arguments)?);
        }
        array_from_datums(results.iter(), &self.return_type)
    }
}

/// Rows evaluated between two looks at the cancel token: some tens of microseconds.
const CANCEL_CHECK_ROWS: usize = 256;

impl ScalarUDFImpl for FunctionUdf {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(arrow_type(&self.return_type))
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(crate::arrow_bridge::field(
            self.function.name,
            &self.return_type,
            true,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        // DataFusion also probes expressions with NULLs while it plans, outside any statement.
        if self.function.strict && args.args.iter().any(is_all_null) {
            return Ok(ColumnarValue::Scalar(null_scalar(&self.return_type)));
        }
        let constant = self.function.volatility != Volatility::Volatile
            && args
                .args
                .iter()
                .all(|a| matches!(a, ColumnarValue::Scalar(_)));
        if let Some(kernel) = kernels::builtin(self) {
            return kernel(&args.args, &self.return_type).map_err(external);
        }
        let context = Statement::of(&args.config_options)?;
        let rows = if constant { 1 } else { args.number_rows };
        let arrays = args
            .args
            .into_iter()
            .map(|value| value.into_array(rows))
            .collect::<DfResult<Vec<_>>>()?;
        let result = match self.function.kernel {
            Some(kernel) => kernel(context, &arrays, rows).and_then(|array| self.in_form(array)),
            None => self.evaluate_rows(context, &arrays, rows),
        }
        .map_err(external)?;
        if constant {
            let datum = datum_at(&result, 0, &self.return_type).map_err(external)?;
            let scalar = scalar_value(&datum, &self.return_type).map_err(external)?;
            Ok(ColumnarValue::Scalar(scalar))
        } else {
            Ok(ColumnarValue::Array(result))
        }
    }
}

/// Whether a value is NULL in every row.
pub(crate) fn is_all_null(value: &ColumnarValue) -> bool {
    match value {
        ColumnarValue::Scalar(scalar) => scalar.is_null(),
        ColumnarValue::Array(array) => {
            !array.is_empty() && array.logical_null_count() == array.len()
        }
    }
}

/// An internal error of DataFusion's kind.
pub(crate) fn broken(what: impl Into<String>) -> DataFusionError {
    DataFusionError::Internal(what.into())
}
