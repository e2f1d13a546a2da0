//! The cluster as a person wants to see it, from any node.

use super::Manager;
use super::system::{MoveRow, NodeRow};
use super::wire::Report;
use membership::service::{Intent, State};
use std::collections::BTreeMap;
use types::{Result, StoreId};

/// See the module.
#[derive(Clone, Debug)]
pub struct ClusterState {
    pub nodes: Vec<(NodeRow, State)>,
    /// Of the stores that have answered.
    pub reports: BTreeMap<StoreId, Report>,
    pub moves: Vec<MoveRow>,
}

impl Manager {
    /// Asks everybody now.
    pub(crate) async fn status(&self) -> Result<ClusterState> {
        let nodes = self.rows.nodes().await?;
        let reports = self.reports(&nodes, &BTreeMap::new()).await;
        let state = |node: &NodeRow| {
            let heard = reports.contains_key(&node.store);
            match node.intent {
                Intent::Gone => State::Decommissioned,
                // How long it has been silent is the manager's to know.
                _ if !heard => State::Suspect,
                Intent::Serve => State::Live,
                Intent::Drain => State::Draining,
                Intent::Decommission => State::Decommissioning,
            }
        };
        let nodes = nodes.into_iter().map(|node| {
            let state = state(&node);
            (node, state)
        });
        Ok(ClusterState {
            nodes: nodes.collect(),
            reports,
            moves: self.rows.moves().await?,
        })
    }

    /// Says what the cluster wants of a node; the manager sees to it. `None`: there is no such node.
    pub(crate) async fn intend(&self, store: StoreId, intent: Intent) -> Result<Option<NodeRow>> {
        let row = self.rows.intend(store, intent).await?;
        self.wake.notify_one();
        Ok(row)
    }
}
