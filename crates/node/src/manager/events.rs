//! What happens to nodes, written down in order by whoever is in charge: the view `phantom.events`.
//!
//! Events are also how states outlive a manager. The next one restores what was written down last of each node, so
//! that its taking over is no news, and a node that was dead stays dead.

use super::Manager;
use super::system::{EventRow, NodeRow};
use super::wire::Report;
use crate::health::Fitness;
use membership::service::{Event, Intent, State};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use types::{Result, StoreId};

/// Events that wait to be written down while the system shard takes no writes. The oldest go first.
const PENDING_EVENTS: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    /// The number of the last event; `None` until it was read.
    last: Option<u64>,
    pending: VecDeque<EventRow>,
    /// Nodes that drain and have been without leases since they began to.
    drained: BTreeSet<StoreId>,
    /// Nodes that are not fit to lead.
    unfit: BTreeMap<StoreId, Fitness>,
    /// Damaged replicas that were told of: their nodes, and the detail that names them.
    damaged: BTreeSet<(u64, String)>,
}

/// A draining node holds no leases any more.
const DRAINED: &str = "drained";
/// A replica's rows are damaged; it will be copied again.
const DAMAGED: &str = "damaged";
/// Damaged replicas that are remembered as told. After more, one may be told of twice.
const DAMAGED_KEPT: usize = 1000;

impl EventLog {
    fn push(&mut self, row: EventRow) {
        if self.pending.len() == PENDING_EVENTS {
            self.pending.pop_front();
        }
        self.pending.push_back(row);
    }
}

impl Manager {
    /// This store has taken over: what its predecessors knew is known again.
    pub(super) async fn recall(&self, nodes: &[NodeRow]) -> Result<()> {
        if self.events.lock().last.is_some() {
            return Ok(());
        }
        let rows = self.rows.events(0).await?;
        let mut states: BTreeMap<StoreId, State> = BTreeMap::new();
        let mut log = EventLog {
            last: Some(rows.last().map_or(0, |row| row.number)),
            ..EventLog::default()
        };
        for row in &rows {
            let store = StoreId(row.store);
            match State::named(&row.event) {
                Some(state) => {
                    states.insert(store, state);
                    log.drained.remove(&store);
                }
                None if row.event == DRAINED => {
                    log.drained.insert(store);
                }
                None if row.event == DAMAGED => {
                    log.damaged.insert((row.store, row.detail.clone()));
                }
                None => {
                    if let Some(fitness) = Fitness::named(&row.event) {
                        log.unfit.insert(store, fitness);
                    }
                }
            }
        }
        let now = self.now_millis();
        let mut members = self.members.lock();
        for node in nodes {
            if let Some(state) = states.get(&node.store) {
                members.restore(node.store, node.intent, *state, now);
            }
        }
        drop(members);
        *self.events.lock() = log;
        Ok(())
    }

    /// Another store is in charge now.
    pub(super) fn hand_over_events(&self) {
        let mut log = self.events.lock();
        if log.last.is_some() {
            *log = EventLog::default();
            self.members.lock().clear();
        }
    }

    /// Nodes have changed their states.
    pub(super) fn note_changes(&self, events: &[Event], nodes: &[NodeRow]) {
        let mut log = self.events.lock();
        for event in events {
            let from = event.from.map_or("unknown", State::name);
            tracing::info!(store = %event.store, from, to = event.to.name(), "a node changed its state");
            self.metrics.state_changed(event.to.name());
            log.drained.remove(&event.store);
            let node = nodes.iter().find(|node| node.store == event.store);
            log.push(EventRow {
                number: 0,
                at: self.time.now(),
                store: event.store.0,
                event: event.to.name().to_owned(),
                detail: detail(event, node),
            });
        }
    }

    /// Nodes that hold no leases any more after they were asked to give them away.
    pub(super) fn note_drained(&self, nodes: &[NodeRow], holds_lease: &BTreeSet<StoreId>) {
        let mut log = self.events.lock();
        for node in nodes {
            let drains = matches!(node.intent, Intent::Drain | Intent::Decommission);
            if drains && !holds_lease.contains(&node.store) && log.drained.insert(node.store) {
                log.push(EventRow {
                    number: 0,
                    at: self.time.now(),
                    store: node.store.0,
                    event: DRAINED.to_owned(),
                    detail: "it holds no leases".to_owned(),
                });
            }
        }
    }

    /// Nodes that are unfit to lead, or fit again, and replicas that are damaged.
    pub(super) fn note_conditions<'r>(&self, reports: impl Iterator<Item = (StoreId, &'r Report)>) {
        let mut log = self.events.lock();
        let at = self.time.now();
        let row = |store: StoreId, event: &str, detail: String| EventRow {
            number: 0,
            at,
            store: store.0,
            event: event.to_owned(),
            detail,
        };
        for (store, report) in reports {
            let health = report.health;
            if log.unfit.get(&store).copied().unwrap_or_default() != health.fitness {
                log.unfit.insert(store, health.fitness);
                let detail = format!(
                    "a synced write takes {} ms, its clock is {} ms ahead",
                    health.sync_millis, health.clock_ahead_millis
                );
                log.push(row(store, health.fitness.name(), detail));
            }
            for replica in report.replicas.iter().filter(|replica| replica.damaged) {
                let shard = replica.descriptor.id.0;
                let detail = format!("replica {} of shard {shard}", replica.replica);
                if log.damaged.insert((store.0, detail.clone())) {
                    log.push(row(store, DAMAGED, detail));
                }
                if log.damaged.len() > DAMAGED_KEPT {
                    log.damaged.pop_first();
                }
            }
        }
    }

    /// Writes down what has happened; what cannot be written now, in the next round.
    pub(super) async fn write_events(&self) {
        loop {
            let row = {
                let mut log = self.events.lock();
                let Some(last) = log.last else {
                    return;
                };
                let Some(row) = log.pending.front_mut() else {
                    return;
                };
                row.number = last + 1;
                row.clone()
            };
            if let Err(error) = self.rows.put_event(&row).await {
                tracing::debug!(%error, "an event cannot be written down yet");
                return;
            }
            let mut log = self.events.lock();
            log.pending.pop_front();
            log.last = Some(row.number);
        }
    }
}

/// Why a node is in the state that it is in.
fn detail(event: &Event, node: Option<&NodeRow>) -> String {
    match (event.from, event.to) {
        (_, State::Joining) => match node {
            Some(node) => format!("a new node at {}", node.addresses.rpc),
            None => "a new node".to_owned(),
        },
        (Some(State::Joining), State::Live) => "it takes part".to_owned(),
        (Some(State::Suspect | State::Dead), State::Live) => "it is heard again".to_owned(),
        (Some(State::Draining | State::Decommissioning), State::Live) => {
            "it shall serve again".to_owned()
        }
        (_, State::Live) => "it serves".to_owned(),
        (_, State::Suspect) => "it does not answer".to_owned(),
        (_, State::Dead) => {
            "it has not answered for too long: what it holds is made good elsewhere".to_owned()
        }
        (_, State::Draining) => "it is to give its leases away and take no sessions".to_owned(),
        (_, State::Decommissioning) => "it is to give away all it holds, and leave".to_owned(),
        (_, State::Decommissioned) => "it holds nothing any more, and has left for good".to_owned(),
    }
}
