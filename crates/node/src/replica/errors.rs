//! What committers are told.

use sharding::ShardId;
use types::{Error, SqlState, StoreId};

pub(crate) fn not_serializable() -> Error {
    Error::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access due to read/write dependencies among transactions",
    )
    .hint("The transaction might succeed if retried.")
}

pub(crate) fn lease_moved() -> Error {
    Error::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access because the shard's lease has moved",
    )
    .detail("The locks of this transaction were in the memory of the node that held the lease.")
    .hint("The transaction might succeed if retried.")
}

pub(crate) fn unknown_outcome(cause: &Error) -> Error {
    Error::new(
        SqlState::STATEMENT_COMPLETION_UNKNOWN,
        "it is unknown whether the transaction is committed",
    )
    .detail(cause.message.clone())
}

pub(super) fn no_quorum(shard: ShardId, missing: &[StoreId]) -> Error {
    let mut message = format!("shard {} has no quorum", shard.0);
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        message += &format!("; nodes that cannot be reached: {}", names.join(", "));
    }
    Error::new(SqlState::CANNOT_CONNECT_NOW, message)
}

pub(super) fn shutting_down() -> Error {
    Error::new(SqlState::CANNOT_CONNECT_NOW, "the store is shutting down")
}

pub(super) fn refused(failure: &Error) -> Error {
    Error::new(
        SqlState::IO_ERROR,
        "the store refuses writes after a failure of its disk",
    )
    .detail(failure.message.clone())
    .hint("Restart the node once the disk is sound again.")
}
