//! The cluster as a person wants to see it, from any node.

use super::Manager;
use super::system::{MoveRow, NodeRow};
use super::wire::Report;
use membership::service::{Intent, State};
use sharding::{ShardDescriptor, TableRules};
use std::collections::BTreeMap;
use types::{Result, StoreId};

/// See the module.
#[derive(Clone, Debug)]
pub struct ClusterState {
    pub nodes: Vec<(NodeRow, State)>,
    /// Of the stores that have answered.
    pub reports: BTreeMap<StoreId, Report>,
    pub moves: Vec<MoveRow>,
    /// Who is in charge, if anybody has said so.
    pub manager: Option<StoreId>,
    /// Copies of each shard that asks for nothing.
    factor: usize,
    rules: TableRules,
}

impl ClusterState {
    /// How many copies a shard is to have: as its tables ask, or as the cluster keeps of others. Nodes may be missing
    /// for it yet.
    pub fn wanted_replicas(&self, shard: &ShardDescriptor) -> usize {
        let rule = self.rules.of_shard(&shard.start, shard.end.as_deref());
        rule.replication_factor(self.factor)
    }
}

impl Manager {
    /// Asks everybody now.
    pub(crate) async fn status(&self) -> Result<ClusterState> {
        let nodes = self.rows.nodes().await?;
        let reports = self.reports(&nodes, &BTreeMap::new(), false).await;
        let manager = reports.iter().find(|(_, report)| !report.judged.is_empty());
        let judged: BTreeMap<StoreId, State> = manager
            .into_iter()
            .flat_map(|(_, report)| report.judged.iter().copied())
            .collect();
        let state = |node: &NodeRow| {
            let heard = reports.contains_key(&node.store);
            match node.intent {
                // Decided since the manager's last round.
                Intent::Drain if heard => State::Draining,
                Intent::Decommission if heard => State::Decommissioning,
                Intent::Serve | Intent::Drain | Intent::Decommission
                    if judged.contains_key(&node.store) =>
                {
                    judged[&node.store]
                }
                Intent::Gone => State::Decommissioned,
                // How long it has been silent is the manager's to know.
                _ if !heard => State::Suspect,
                Intent::Serve => State::Live,
                Intent::Drain => State::Draining,
                Intent::Decommission => State::Decommissioning,
            }
        };
        let manager = manager.map(|(store, _)| *store);
        let nodes = nodes.into_iter().map(|node| {
            let state = state(&node);
            (node, state)
        });
        Ok(ClusterState {
            nodes: nodes.collect(),
            reports,
            manager,
            moves: self.rows.moves().await?,
            factor: self.rows.replication_factor().await?,
            rules: self.rows.rules().await?,
        })
    }
}
