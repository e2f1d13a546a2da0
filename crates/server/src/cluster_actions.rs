//! What the functions of schema `phantom` do: an operator's wishes, written down for the cluster manager.

use membership::service::Intent;
use node::Store;
use sql::cluster::ClusterActions;
use std::sync::{Arc, Weak};
use txn::kv::{Key, Span};
use types::env::BoxFuture;
use types::{Error, Result, SqlState, StoreId};

/// Acts through a node's store, which it does not keep alive.
pub struct Actions(Weak<Store>);

impl Actions {
    pub fn new(store: &Arc<Store>) -> Arc<Self> {
        Arc::new(Actions(Arc::downgrade(store)))
    }

    fn intend(&self, node: StoreId, intent: Intent) -> BoxFuture<Result<String>> {
        let store = self.0.upgrade();
        Box::pin(async move {
            let store = store.ok_or_else(|| {
                Error::new(SqlState::CANNOT_CONNECT_NOW, "the node is shutting down")
            })?;
            let row = store.intend(node, intent).await?.ok_or_else(|| {
                let message = format!("node {node} does not exist");
                Error::new(SqlState::UNDEFINED_OBJECT, message)
            })?;
            if row.intent != intent {
                let message = format!("node {node} has left the cluster for good");
                return Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    message,
                ));
            }
            Ok(match intent {
                Intent::Serve => format!("node {node} serves"),
                Intent::Drain => format!("node {node} is draining"),
                Intent::Decommission | Intent::Gone => {
                    format!("node {node} is being decommissioned")
                }
            })
        })
    }
}

/// What an operator asked for, in the list of moves.
const ASKED_FOR: &str = "phantom.split_shard was called";

impl Actions {
    fn store(&self) -> Result<Arc<Store>> {
        let gone = || Error::new(SqlState::CANNOT_CONNECT_NOW, "the node is shutting down");
        self.0.upgrade().ok_or_else(gone)
    }
}

impl ClusterActions for Actions {
    fn split_at(&self, at: Key) -> BoxFuture<Result<u64>> {
        let store = self.store();
        Box::pin(async move {
            let split = store?.split_at(at, ASKED_FOR).await?;
            if split.is_new {
                return Ok(split.shard.0);
            }
            let message = format!("shard {} begins there already", split.shard.0);
            Err(Error::new(SqlState::DUPLICATE_OBJECT, message))
        })
    }

    fn split_middle(&self, span: Span) -> BoxFuture<Result<u64>> {
        let store = self.store();
        Box::pin(async move {
            let store = store?;
            let split = store.split_middle(span.start, span.end, ASKED_FOR);
            Ok(split.await?.shard.0)
        })
    }

    fn drain_node(&self, node: StoreId) -> BoxFuture<Result<String>> {
        self.intend(node, Intent::Drain)
    }

    fn decommission_node(&self, node: StoreId) -> BoxFuture<Result<String>> {
        self.intend(node, Intent::Decommission)
    }

    fn cancel_node(&self, node: StoreId) -> BoxFuture<Result<String>> {
        self.intend(node, Intent::Serve)
    }
}
