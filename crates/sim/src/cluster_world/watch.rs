//! Looks at all replicas and leases after each step.

use crate::checker::{Checked, lease, raft};
use crate::executor::NodeId;
use node::observe::GroupView;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// See the module.
#[derive(Default)]
pub(super) struct Watch {
    /// What stores have shown since the last look.
    pub(super) views: Arc<Mutex<Vec<(NodeId, GroupView)>>>,
    /// All shards that were ever shown.
    pub(super) shards: BTreeSet<u64>,
    raft: raft::Checker,
    leases: lease::Checker,
}

impl Watch {
    /// Takes what nodes have shown since the last look, and what they claim at this moment.
    pub(super) fn look(&mut self, at_nanos: u64, claims: &[lease::Claim]) -> Result<(), String> {
        let views = std::mem::take(&mut *self.views.lock());
        for (node, view) in views {
            self.shards.insert(view.shard.0);
            if !view.is_whole {
                self.raft.restarted(u64::from(node.0));
                continue;
            }
            let seen = observation(node, view);
            self.raft
                .observe(&seen)
                .map_err(|broken| broken.to_string())?;
        }
        let looked = self.leases.observe(at_nanos, claims);
        looked.map_err(|broken| broken.to_string())
    }

    /// The life of a node is over, and with it what its disk forgets.
    pub(super) fn ended(&mut self, node: NodeId) {
        self.views.lock().retain(|(of, _)| *of != node);
        self.raft.restarted(u64::from(node.0));
    }

    /// How the replicas stood at the last look.
    pub(super) fn describe(&self) -> String {
        self.raft.describe()
    }

    pub(super) fn checked(&self) -> [(&'static str, Checked); 2] {
        [
            ("raft", self.raft.checked()),
            ("leases", self.leases.checked()),
        ]
    }
}

fn observation(node: NodeId, view: GroupView) -> raft::Observation {
    let entries = view
        .log
        .into_iter()
        .map(|(position, checksum)| raft::Entry {
            index: position.index,
            term: position.term,
            checksum,
        });
    raft::Observation {
        node: u64::from(node.0),
        group: view.shard.0,
        term: view.term,
        is_leader: view.is_leader,
        before: (view.before.index, view.before.term),
        log: entries.collect(),
        commit: view.commit,
        applied: view.applied,
    }
}
