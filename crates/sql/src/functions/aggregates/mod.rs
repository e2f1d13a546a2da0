//! Our own aggregates: those that DataFusion lacks or gives another meaning.

use datafusion::logical_expr::AggregateUDF;
use std::sync::Arc;
use types::{Result, SqlType};

/// An aggregate chosen for the types of a call.
pub struct OwnAggregate {
    pub udaf: Arc<AggregateUDF>,
    /// What each argument is to be converted to.
    pub arguments: Vec<SqlType>,
    pub returns: SqlType,
}

/// Whether `name` is one of ours.
pub fn is_own(_name: &str) -> bool {
    false
}

/// Our aggregate for a call; `None` leaves the name to DataFusion's.
pub fn resolve(_name: &str, _arguments: &[SqlType]) -> Result<Option<OwnAggregate>> {
    Ok(None)
}
