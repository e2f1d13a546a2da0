//! DataFusion's errors as PostgreSQL's.
//!
//! The binder reports what is wrong with a statement itself, so what comes out of DataFusion is a
//! run-time fault: one of our own errors on its way through, an Arrow kernel's complaint, a full
//! memory pool, or something DataFusion cannot plan.

use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use types::{Error, SqlState};

/// Wraps one of our errors so that it passes through DataFusion unharmed.
pub fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// What a client should see for `error`.
pub fn from_datafusion(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(own) => *own,
            Err(inner) => match inner.downcast::<DataFusionError>() {
                Ok(nested) => from_datafusion(*nested),
                Err(other) => Error::internal(other.to_string()),
            },
        },
        DataFusionError::ArrowError(arrow, _) => from_arrow(*arrow),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            from_datafusion(*inner)
        }
        DataFusionError::Shared(shared) => from_shared(&shared),
        DataFusionError::Collection(mut all) if !all.is_empty() => {
            from_datafusion(all.swap_remove(0))
        }
        other => from_shared(&other),
    }
}

/// The same for an error that several consumers share.
fn from_shared(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(own) => own.clone(),
            None => match inner.downcast_ref::<DataFusionError>() {
                Some(nested) => from_shared(nested),
                None => Error::internal(inner.to_string()),
            },
        },
        DataFusionError::ArrowError(arrow, _) => from_arrow_ref(arrow),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            from_shared(inner)
        }
        DataFusionError::Shared(shared) => from_shared(shared),
        DataFusionError::Collection(all) => match all.first() {
            Some(first) => from_shared(first),
            None => Error::internal("an empty collection of errors"),
        },
        DataFusionError::ResourcesExhausted(detail) => {
            Error::new(SqlState::OUT_OF_MEMORY, "out of memory").detail(detail.clone())
        }
        DataFusionError::NotImplemented(what) => Error::unsupported(what),
        DataFusionError::Plan(what) => Error::unsupported(format!("this kind of query ({what})")),
        DataFusionError::Execution(what) => from_execution_text(what),
        DataFusionError::IoError(error) => Error::new(SqlState::IO_ERROR, error.to_string()),
        other => Error::internal(other.to_string()),
    }
}

fn from_execution_text(text: &str) -> Error {
    if text.contains("returned more than one row") || text.contains("more than one row") {
        return Error::new(
            SqlState::CARDINALITY_VIOLATION,
            "more than one row returned by a subquery used as an expression",
        );
    }
    Error::internal(text.to_string())
}

fn from_arrow(error: ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(inner) => match inner.downcast::<DataFusionError>() {
            Ok(nested) => from_datafusion(*nested),
            Err(inner) => match inner.downcast::<Error>() {
                Ok(own) => *own,
                Err(other) => Error::internal(other.to_string()),
            },
        },
        other => from_arrow_ref(&other),
    }
}

fn from_arrow_ref(error: &ArrowError) -> Error {
    match error {
        ArrowError::DivideByZero => division_by_zero(),
        ArrowError::ArithmeticOverflow(_) => {
            Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range")
        }
        ArrowError::CastError(text) | ArrowError::ComputeError(text)
            if text.contains("overflow") || text.contains("Can't cast") =>
        {
            Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range")
                .detail(text.clone())
        }
        ArrowError::ExternalError(inner) => match inner.downcast_ref::<Error>() {
            Some(own) => own.clone(),
            None => match inner.downcast_ref::<DataFusionError>() {
                Some(nested) => from_shared(nested),
                None => Error::internal(inner.to_string()),
            },
        },
        ArrowError::NotYetImplemented(what) => Error::unsupported(what),
        ArrowError::MemoryError(what) => {
            Error::new(SqlState::OUT_OF_MEMORY, "out of memory").detail(what.clone())
        }
        other => Error::internal(other.to_string()),
    }
}

pub fn division_by_zero() -> Error {
    Error::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_errors_pass_through() {
        let own = Error::new(SqlState::INVALID_TEXT_REPRESENTATION, "no");
        let wrapped = DataFusionError::Shared(std::sync::Arc::new(DataFusionError::Context(
            "while".into(),
            Box::new(external(own.clone())),
        )));
        assert_eq!(from_datafusion(wrapped), own);
        let arrow = DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        assert_eq!(from_datafusion(arrow).state, SqlState::DIVISION_BY_ZERO);
        let memory = DataFusionError::ResourcesExhausted("pool".into());
        assert_eq!(from_datafusion(memory).state, SqlState::OUT_OF_MEMORY);
    }
}
