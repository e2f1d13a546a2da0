//! What people ask for: to drain a node, to decommission it, to have it serve again.
//!
//! Before a wish is written down, everything is asked for what would stand in its way, so that an operator learns it
//! at once and not from a node that never gets done. A wish that was accepted is carried out in rounds: the manager
//! plans moves for it like for everything else. Two wishes at the same moment may each be fine by themselves and not
//! together; then the later node waits for a place, and nothing is lost.

use super::status::ClusterState;
use super::system::NodeRow;
use super::{Manager, ReplicaReport};
use membership::service::{Intent, State};
use sharding::{ShardDescriptor, ShardMap};
use std::collections::{BTreeMap, BTreeSet};
use types::{Error, Result, SqlState, StoreId};

impl Manager {
    /// Says what the cluster wants of a node; the manager sees to it. `None`: there is no such node. 55000 with all
    /// reasons if it cannot be done.
    pub(crate) async fn intend(&self, store: StoreId, intent: Intent) -> Result<Option<NodeRow>> {
        let state = self.status().await?;
        let Some((row, _)) = state.nodes.iter().find(|(row, _)| row.store == store) else {
            return Ok(None);
        };
        if row.intent == intent {
            return Ok(Some(row.clone()));
        }
        let look = Preflight {
            state: &state,
            factor: self.rows.replication_factor().await?,
            map: &self.all_shards(&state),
            node: store,
        };
        look.check(row.intent, intent)?;
        let row = self.rows.intend(store, intent).await?;
        self.wake.notify_one();
        Ok(row)
    }
}

impl Manager {
    /// All shards there are: as their leaders say, or as this node's gateway knows them if some have no leader.
    fn all_shards(&self, state: &ClusterState) -> Vec<ShardDescriptor> {
        let replicas = state.reports.values().flat_map(|r| &r.replicas);
        let led = leaders(replicas);
        let led = led.values().map(|leader| leader.descriptor.clone());
        match ShardMap::new(led.collect()) {
            Ok(map) => map.shards().to_vec(),
            Err(_) => self.gateway.router().map().shards().to_vec(),
        }
    }
}

/// The leader of each shard that has one, by the highest term.
fn leaders<'a>(
    replicas: impl Iterator<Item = &'a ReplicaReport>,
) -> BTreeMap<u64, &'a ReplicaReport> {
    let mut leaders: BTreeMap<u64, &ReplicaReport> = BTreeMap::new();
    for replica in replicas.filter(|replica| replica.leads) {
        let known = leaders.entry(replica.descriptor.id.0).or_insert(replica);
        if known.term < replica.term {
            *known = replica;
        }
    }
    leaders
}

/// A look at what a wish would come to.
struct Preflight<'a> {
    state: &'a ClusterState,
    /// Copies that each shard shall have.
    factor: usize,
    /// All shards there are.
    map: &'a [ShardDescriptor],
    node: StoreId,
}

impl Preflight<'_> {
    fn check(&self, now: Intent, wanted: Intent) -> Result<()> {
        let node = self.node;
        if now == Intent::Gone {
            return Err(refusal(format!("node {node} has left the cluster for good")).hint(
                "To use its machine again, start it with an empty data folder: it gets another number.",
            ));
        }
        match wanted {
            Intent::Drain => self.check_drain(),
            Intent::Decommission => self.check_decommission(),
            Intent::Serve | Intent::Gone => Ok(()),
        }
    }

    fn check_drain(&self) -> Result<()> {
        let node = self.node;
        let title = format!("node {node} cannot be drained");
        if !self.state.reports.contains_key(&node) {
            return Err(refusal(title)
                .detail("It does not answer: it holds no leases and has no sessions.")
                .hint("To remove it for good, decommission it."));
        }
        if self.takers().is_empty() {
            return Err(refusal(title)
                .detail("No other live node is there to take its leases and its clients.")
                .hint("Add a node, start one again, or cancel the draining of another."));
        }
        let stuck = self.leads().filter(|shard| {
            let voters = &shard.voters;
            let mut replicas = shard.descriptor.replicas.iter();
            !replicas.any(|r| voters.contains(&r.id) && self.takers().contains(&r.store))
        });
        let stuck: Vec<u64> = stuck.map(|shard| shard.descriptor.id.0).collect();
        match stuck.first() {
            None => Ok(()),
            Some(first) => Err(refusal(title)
                .detail(format!(
                    "Nobody else can lead {} of its shards (shard {first} first): no other live node has a copy.",
                    stuck.len()
                ))
                .hint("Decommission it instead, or add nodes: copies are made once there are enough.")),
        }
    }

    fn check_decommission(&self) -> Result<()> {
        let leaders = leaders(self.state.reports.values().flat_map(|r| &r.replicas));
        let takers = self.takers();
        let (mut lost, mut short): (Vec<String>, Vec<u64>) = (Vec::new(), Vec::new());
        let mut fewest = usize::MAX;
        for shard in self.map {
            let leader = leaders.get(&shard.id.0);
            let shard = leader.map_or(shard, |leader| &leader.descriptor);
            if !shard.replicas.iter().any(|r| r.store == self.node) {
                continue;
            }
            if leader.is_none() {
                lost.push(self.describe_lost(shard));
                continue;
            }
            let stores: BTreeSet<StoreId> = shard.replicas.iter().map(|r| r.store).collect();
            let good = stores.iter().filter(|store| self.keeps(**store)).count();
            let places = takers.iter().filter(|store| !stores.contains(store));
            let copies = good + places.count();
            if copies < self.factor {
                short.push(shard.id.0);
                fewest = fewest.min(copies);
            }
        }
        let title = format!("node {} cannot be decommissioned", self.node);
        if !lost.is_empty() {
            return Err(refusal(title).detail(lost.join("\n")).hint(
                "Start the nodes again that hold the other copies, and this one if it does not run.",
            ));
        }
        let Some(first) = short.first() else {
            return Ok(());
        };
        let live = takers.len();
        Err(refusal(title)
            .detail(format!(
                "{} shards (shard {first} first) would have {fewest} copies instead of {}: \
                 without it, {live} live nodes take copies.",
                short.len(),
                self.factor
            ))
            .hint(
                "Add a node first (phantomdb start --join ...), start one again, or cancel the draining of another.",
            ))
    }

    fn describe_lost(&self, shard: &ShardDescriptor) -> String {
        let all = shard.replicas.len();
        let others = shard.replicas.iter().map(|replica| replica.store);
        let others: Vec<String> = others
            .filter(|store| *store != self.node && self.state.reports.contains_key(store))
            .map(|store| store.to_string())
            .collect();
        let others = match others.as_slice() {
            [] => "no other live node has one".to_owned(),
            others => format!(
                "of its {all} copies the others that live are on {}",
                others.join(", ")
            ),
        };
        let which = shard.id.0;
        format!("Shard {which} has no leader, so this node may hold its last copy: {others}.")
    }

    /// Live nodes beside this one that take leases, copies and clients.
    fn takers(&self) -> BTreeSet<StoreId> {
        let nodes = self.state.nodes.iter();
        let takers = nodes.filter(|(row, _)| {
            let heard = self.state.reports.contains_key(&row.store);
            row.store != self.node && row.intent == Intent::Serve && heard
        });
        takers.map(|(row, _)| row.store).collect()
    }

    /// Whether copies on a store go on counting.
    fn keeps(&self, store: StoreId) -> bool {
        let mut nodes = self.state.nodes.iter();
        store != self.node
            && nodes.any(|(row, state)| {
                let stays = matches!(row.intent, Intent::Serve | Intent::Drain);
                row.store == store && stays && *state != State::Dead
            })
    }

    /// The replicas by which this node leads.
    fn leads(&self) -> impl Iterator<Item = &ReplicaReport> {
        let report = self.state.reports.get(&self.node);
        let replicas = report.into_iter().flat_map(|report| &report.replicas);
        replicas.filter(|replica| replica.leads)
    }
}

fn refusal(why: String) -> Error {
    Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, why)
}
