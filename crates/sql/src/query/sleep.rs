//! `pg_sleep`: a function that waits.

use super::errors::external;
use super::functions::broken;
use super::statement::Statement;
use crate::arrow_bridge::{datum_at, field, null_scalar};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;
use std::time::Duration;
use types::{Datum, Error, SqlType};

/// The longest sleep, in seconds: a century, which no clock overflows on.
const MAX_SLEEP_SECONDS: f64 = 3.2e9;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sleep {
    signature: Signature,
}

/// `pg_sleep(seconds)`.
pub(crate) fn sleep(seconds: Expr) -> Expr {
    let function: Arc<dyn AsyncScalarUDFImpl> = Arc::new(Sleep {
        signature: Signature::any(1, Volatility::Volatile),
    });
    Arc::new(AsyncScalarUDF::new(function).into_scalar_udf()).call(vec![seconds])
}

impl ScalarUDFImpl for Sleep {
    fn name(&self) -> &str {
        "pg_sleep"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Null)
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(field("pg_sleep", &SqlType::Void, true)))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(external(Error::unsupported("pg_sleep in this place")))
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Sleep {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let context = Statement::of(&args.config_options)?;
        let rows = args.number_rows;
        let [seconds]: [ColumnarValue; 1] = args
            .args
            .try_into()
            .map_err(|_| broken("pg_sleep takes one argument"))?;
        let seconds = seconds.into_array(rows)?;
        for row in 0..rows {
            if let Datum::Float8(seconds) =
                datum_at(&seconds, row, &SqlType::Float8).map_err(external)?
                && seconds > 0.0
            {
                let span = Duration::from_secs_f64(seconds.min(MAX_SLEEP_SECONDS));
                let slept = context.env.clock.sleep(span);
                let canceled = Box::pin(context.cancel.canceled());
                futures::future::select(slept, canceled).await;
                context.cancel.check().map_err(external)?;
            }
        }
        Ok(ColumnarValue::Scalar(null_scalar(&SqlType::Void)))
    }
}
