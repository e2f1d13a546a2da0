//! The rows of the views in schema `phantom`.

use membership::facts::{Directory, Nodes};
use membership::gossip::GossipDirectory;
use membership::service::Intent;
use node::Store;
use node::manager::{ClusterState, EventRow, ReplicaReport};
use sql::cluster::{ClusterStatus, View};
use std::sync::{Arc, Weak};
use types::env::BoxFuture;
use types::{Datum, Error, Result, Row, SqlState, StoreId, Timestamp};

/// Asks the nodes. It does not keep the store alive.
pub struct ClusterViews {
    store: Weak<Store>,
    directory: Arc<dyn Directory>,
}

impl ClusterViews {
    pub fn new(store: &Arc<Store>, directory: &Arc<GossipDirectory>) -> Arc<Self> {
        Arc::new(ClusterViews {
            store: Arc::downgrade(store),
            directory: Arc::clone(directory) as Arc<dyn Directory>,
        })
    }
}

impl ClusterStatus for ClusterViews {
    fn rows(&self, view: View) -> BoxFuture<Result<Vec<Row>>> {
        let store = self.store.upgrade();
        let facts = self.directory.nodes();
        Box::pin(async move {
            let store = store.ok_or_else(|| {
                Error::new(SqlState::CANNOT_CONNECT_NOW, "the node is shutting down")
            })?;
            if view == View::Events {
                return Ok(events(&store.events(0).await?));
            }
            let state = store.cluster_state().await?;
            Ok(match view {
                View::Events => Vec::new(),
                View::Nodes => nodes(&state, &facts),
                View::Shards => shards(&state),
                View::Replicas => replicas(&state),
                View::Leases => leases(&state),
                View::Moves => moves(&state),
            })
        })
    }
}

fn all(state: &ClusterState) -> impl Iterator<Item = (StoreId, &ReplicaReport)> {
    let reports = state.reports.iter();
    reports.flat_map(|(store, report)| report.replicas.iter().map(|replica| (*store, replica)))
}

fn events(events: &[EventRow]) -> Vec<Row> {
    let rows = events.iter().map(|event| {
        vec![
            number(event.number),
            instant(event.at),
            number(event.store),
            text(&event.event),
            text(&event.detail),
        ]
    });
    rows.collect()
}

fn nodes(state: &ClusterState, facts: &Nodes) -> Vec<Row> {
    let rows = state.nodes.iter().map(|(node, now)| {
        let report = state.reports.get(&node.store);
        // Hearsay, so of nodes that answer only.
        let facts = report.and_then(|_| facts.get(&node.store));
        let count = |keep: fn(&&ReplicaReport) -> bool| match report {
            Some(report) => number(report.replicas.iter().filter(keep).count() as u64),
            None => Datum::Null,
        };
        vec![
            number(node.store.0),
            text(now.name()),
            text(&node.addresses.sql),
            text(&node.addresses.rpc),
            text(&node.addresses.http),
            text(&node.addresses.locality),
            text(&node.addresses.version),
            count(|_| true),
            count(|replica| replica.holds_lease),
            report.map_or(Datum::Null, |report| number(report.used_bytes)),
            facts.map_or(Datum::Null, |facts| number(facts.sessions)),
            text(match node.intent {
                Intent::Serve => "serve",
                Intent::Drain => "drain",
                Intent::Decommission => "decommission",
                Intent::Gone => "gone",
            }),
            Datum::Bool(state.manager == Some(node.store)),
            report.map_or(Datum::Null, |report| text(report.health.fitness.name())),
            report.map_or(Datum::Null, |report| number(report.health.sync_millis)),
            report.map_or(Datum::Null, |report| {
                Datum::Int8(report.health.clock_ahead_millis)
            }),
        ]
    });
    rows.collect()
}

fn shards(state: &ClusterState) -> Vec<Row> {
    let leaders = all(state).filter(|(_, replica)| replica.leads);
    let rows = leaders.map(|(store, leader)| {
        let shard = &leader.descriptor;
        let stores = shard.replicas.iter().map(|r| r.store.to_string());
        vec![
            number(shard.id.0),
            text(&hex(&shard.start)),
            shard
                .end
                .as_ref()
                .map_or(Datum::Null, |end| text(&hex(end))),
            number(shard.generation),
            text(&stores.collect::<Vec<_>>().join(",")),
            match leader.holds_lease {
                true => number(store.0),
                false => Datum::Null,
            },
            leader.bytes.map_or(Datum::Null, number),
            number(state.wanted_replicas(shard) as u64),
        ]
    });
    rows.collect()
}

fn replicas(state: &ClusterState) -> Vec<Row> {
    let rows = all(state).map(|(store, replica)| {
        let role = match replica.voters.contains(&replica.replica) {
            _ if replica.damaged => "damaged",
            true => "voter",
            false => "learner",
        };
        vec![
            number(replica.descriptor.id.0),
            number(store.0),
            number(replica.replica),
            text(role),
            Datum::Bool(replica.leads),
            number(replica.term),
            number(replica.applied),
            number(replica.log_entries),
        ]
    });
    rows.collect()
}

fn leases(state: &ClusterState) -> Vec<Row> {
    let holders = all(state).filter(|(_, replica)| replica.holds_lease);
    let rows = holders.map(|(store, replica)| {
        vec![
            number(replica.descriptor.id.0),
            number(store.0),
            number(replica.term),
        ]
    });
    rows.collect()
}

fn moves(state: &ClusterState) -> Vec<Row> {
    let rows = state.moves.iter().map(|row| {
        vec![
            number(row.number),
            number(row.shard),
            text(&row.what),
            text(&row.reason),
            text(&row.state),
            instant(row.begun),
            row.ended.map_or(Datum::Null, instant),
        ]
    });
    rows.collect()
}

fn number(value: u64) -> Datum {
    Datum::Int8(i64::try_from(value).unwrap_or(i64::MAX))
}

fn instant(at: Timestamp) -> Datum {
    Datum::TimestampTz(i64::try_from(at.millis() * 1000).unwrap_or(i64::MAX))
}

fn text(value: &str) -> Datum {
    Datum::Text(value.into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
