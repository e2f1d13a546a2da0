//! What the functions of schema `phantom` do: an operator's wishes, written down for the cluster manager.

use membership::service::Intent;
use node::Store;
use sql::cluster::ClusterActions;
use std::sync::{Arc, Weak};
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

impl ClusterActions for Actions {
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
