//! The cluster manager's rounds: see how everything stands, plan, and have the moves carried out.

use super::system::{MoveRow, NodeRow};
use super::wire::{Call, ReplicaReport, Reply, Report};
use super::{Manager, rules};
use crate::health::Fitness;
use crate::metrics::seconds;
use cluster::rebalance::{Move, Planned, Policy, plan_moves};
use cluster::view::{ClusterView, ShardView, StoreState, StoreView, Unfit};
use futures::future::{Either, join_all, select};
use membership::service::{Intent, State};
use sharding::TableRules;
use sharding::shard_map::FIRST_SHARD;
use sharding::{ShardId, ShardMap};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use types::{Result, StoreId};

/// How long a store may take to say how it stands.
const REPORT_PATIENCE: Duration = Duration::from_secs(1);
/// Plans know used space in steps of so many bytes: an idle store's journal grows, and that is no news.
const USED_UNIT: u64 = 64 << 20;
/// Every so many rounds each node looks up the others' addresses.
const REFRESH_ROUNDS: u32 = 5;

/// How stores stand, as they say.
type Reports = BTreeMap<StoreId, Arc<Report>>;
/// Replicas that say that they are damaged.
type Damaged = BTreeSet<(ShardId, u64)>;
/// The moves that are under way.
type Moving = BTreeMap<ShardId, Move>;
/// The replica that leads each shard, and the store it is on.
pub(super) type Leaders<'a> = BTreeMap<ShardId, (StoreId, &'a ReplicaReport)>;

/// What a plan is made of, beside the shards.
#[derive(PartialEq)]
pub(super) struct Settled {
    factor: usize,
    rules: TableRules,
    stores: BTreeMap<StoreId, StoreView>,
}

impl Manager {
    /// Until the store closes.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut rounds = 0u32;
        while self.is_open() {
            let in_charge = self.is_in_charge();
            self.metrics.in_charge.set(f64::from(u8::from(in_charge)));
            if in_charge {
                let began = self.env.clock.monotonic_nanos();
                if let Err(error) = self.round().await {
                    tracing::debug!(%error, "a round of the cluster manager failed");
                }
                let took = self.env.clock.monotonic_nanos().saturating_sub(began);
                self.metrics.round_seconds.record(seconds(took));
            } else {
                *self.last_move.lock() = None;
                *self.noted.lock() = None;
                *self.settled.lock() = None;
                self.known.lock().clear();
                self.hand_over_events();
            }
            if rounds.is_multiple_of(REFRESH_ROUNDS)
                && let Ok(nodes) = self.rows.nodes().await
            {
                self.meet(&nodes);
                self.hear_of_own_intent(&nodes);
            }
            rounds = rounds.wrapping_add(1);
            let woken = pin!(self.wake.notified());
            select(woken, self.env.clock.sleep(self.options.round)).await;
        }
    }

    /// Whether this store holds the lease of the system shard.
    pub(super) fn is_in_charge(&self) -> bool {
        let system = self.registry.get(FIRST_SHARD);
        system.is_some_and(|replica| self.time.peek() <= replica.lease_end())
    }

    fn hear_of_own_intent(&self, nodes: &[NodeRow]) {
        let own = nodes.iter().find(|node| node.store == self.identity.store);
        if let Some(own) = own {
            self.note_intent(own.intent);
        }
    }

    /// Learns the addresses of other nodes, and remembers them for the next start.
    pub(super) fn meet(&self, nodes: &[NodeRow]) {
        let others: BTreeMap<StoreId, String> = nodes
            .iter()
            .filter(|node| node.store != self.identity.store && node.intent != Intent::Gone)
            .map(|node| (node.store, node.addresses.rpc.clone()))
            .collect();
        // A row that says what it said before may be older than what the node itself, or gossip, has said since.
        let before = std::mem::replace(&mut *self.met.lock(), others.clone());
        for (store, address) in &others {
            if before.get(store) != Some(address) {
                self.transport.learn(*store, address);
            }
        }
        if let Err(error) = super::joining::remember_peers(&*self.shards.engine, &others) {
            tracing::warn!(%error, "the addresses of the other nodes cannot be noted");
        }
    }

    async fn round(self: &Arc<Self>) -> Result<()> {
        let nodes = self.rows.nodes().await?;
        self.meet(&nodes);
        self.hear_of_own_intent(&nodes);
        self.recall(&nodes).await?;
        // What ends while the stores are asked counts as under way: not all answers tell of it.
        let mut moving = self.moving.lock().clone();
        let (reports, news) = self.hear(&nodes).await;
        moving.extend(self.moving.lock().iter());
        let states = self.judge(&nodes, &reports);
        self.write_events().await;
        let stores = self.stores(&nodes, &reports, &states);
        let factor = self.factor(&stores).await?;
        let settled = Settled {
            factor,
            rules: self.rows.rules().await?,
            stores,
        };
        let is_settled = self.settled.lock().as_ref() == Some(&settled);
        if is_settled && !news && moving.is_empty() {
            return Ok(());
        }
        *self.settled.lock() = None;
        let leaders = leaders(&reports);
        self.note_shards(&leaders).await?;
        let holders = leaders.values().filter(|(_, replica)| replica.holds_lease);
        self.note_drained(&nodes, &holders.map(|(store, _)| *store).collect());
        self.note_conditions(reports.iter().map(|(store, report)| (*store, &**report)));
        self.write_events().await;
        let mut view = view(&settled.stores, &leaders, &damaged(&reports), &moving);
        let live = view.stores.values();
        let live = live.filter(|store| store.state.takes_replicas()).count();
        for shard in &mut view.shards {
            if let Some((_, leader)) = leaders.get(&shard.id) {
                let rules = &settled.rules;
                shard.replication_factor =
                    rules::factor(rules, &leader.descriptor, shard, factor, live);
                shard.ranked_by = rules::ranked_by(rules, &leader.descriptor);
            }
        }
        let policy = Policy {
            replication_factor: factor,
            ..Policy::default()
        };
        let plan = plan_moves(&view, &policy);
        // A shard that was being moved had no say in the plan.
        let mut none = plan.is_empty() && !view.shards.iter().any(|shard| shard.changing);
        for planned in plan {
            self.start(planned, &leaders).await?;
        }
        none &= !self.follow_rules(&settled.rules, &leaders);
        moving.extend(self.moving.lock().iter());
        for planned in left_over(&leaders, &moving) {
            none = false;
            self.start(planned, &leaders).await?;
        }
        self.bid_farewell(&nodes, &reports, &leaders).await?;
        if none {
            *self.settled.lock() = Some(settled);
        }
        Ok(())
    }

    /// How all stores that answer stand, and whether any of their replicas stands otherwise than before.
    async fn hear(&self, nodes: &[NodeRow]) -> (Reports, bool) {
        let revisions: BTreeMap<StoreId, u64> = {
            let known = self.known.lock();
            let known = known.iter();
            known
                .map(|(store, report)| (*store, report.revision))
                .collect()
        };
        let answers = self.reports(nodes, &revisions, true).await;
        let mut known = self.known.lock();
        let mut news = known.keys().any(|store| !answers.contains_key(store));
        known.retain(|store, _| answers.contains_key(store));
        for (store, answer) in answers {
            let report = known.entry(store).or_default();
            news |= Arc::make_mut(report).update(answer);
        }
        (known.clone(), news)
    }

    /// Asks all stores, each for what has changed since a revision. `tell`: this store is in charge, and tells
    /// each what is wanted of it.
    pub(super) async fn reports(
        &self,
        nodes: &[NodeRow],
        since: &BTreeMap<StoreId, u64>,
        tell: bool,
    ) -> BTreeMap<StoreId, Report> {
        let asked = nodes.iter().filter(|node| node.intent != Intent::Gone);
        let asked = asked.map(|node| async {
            let since = since.get(&node.store).copied().unwrap_or(0);
            if node.store == self.identity.store {
                return Some((node.store, self.report(since).await));
            }
            let intent = tell.then_some(node.intent);
            let report = self.ask(node.store, Call::Report { since, intent }).await?;
            Some((node.store, report))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn ask(&self, store: StoreId, call: Call) -> Option<Report> {
        let call = self.transport.call(store, call.encode());
        match select(call, self.env.clock.sleep(REPORT_PATIENCE)).await {
            Either::Left((Ok(answer), _)) => match Reply::decode(answer) {
                Some(Reply::Report(report)) => Some(report),
                _ => None,
            },
            _ => None,
        }
    }

    fn judge(&self, nodes: &[NodeRow], reports: &Reports) -> BTreeMap<StoreId, State> {
        let now = self.now_millis();
        let mut members = self.members.lock();
        let mut events = Vec::new();
        // Who has just answered was not silent.
        for store in reports.keys() {
            events.extend(members.heard(*store, now));
        }
        for node in nodes {
            events.extend(members.decided(node.store, node.intent, now));
        }
        for store in displaced(nodes, |store| reports.contains_key(&store)) {
            events.extend(members.displaced(store, now));
        }
        events.extend(members.tick(now));
        self.note_changes(&events, nodes);
        members.states().collect()
    }

    fn stores(
        &self,
        nodes: &[NodeRow],
        reports: &Reports,
        states: &BTreeMap<StoreId, State>,
    ) -> BTreeMap<StoreId, StoreView> {
        let stores = nodes.iter().filter_map(|node| {
            let state = match states.get(&node.store)? {
                State::Live => StoreState::Live,
                State::Joining | State::Suspect => StoreState::Suspect,
                State::Dead => StoreState::Dead,
                State::Draining => StoreState::Draining,
                State::Decommissioning => StoreState::Decommissioning,
                State::Decommissioned => return None,
            };
            let report = reports.get(&node.store);
            let view = StoreView {
                id: node.store,
                state,
                // What a newer program may say and this one does not understand, counts as nowhere.
                locality: node.addresses.locality.parse().unwrap_or_default(),
                disk_bytes: u64::MAX,
                used_bytes: report.map_or(0, |report| report.used_bytes / USED_UNIT * USED_UNIT),
                unfit: match report.map(|report| report.health.fitness) {
                    Some(Fitness::Slow) => Some(Unfit::Slow),
                    Some(Fitness::ClockOff) => Some(Unfit::ClockOff),
                    Some(Fitness::Fit) | None => None,
                },
            };
            Some((node.store, view))
        });
        stores.collect()
    }

    /// It grows by itself once there are as many nodes, and is never lowered because some are missing.
    async fn factor(&self, stores: &BTreeMap<StoreId, StoreView>) -> Result<usize> {
        let reached = self.rows.replication_factor().await?;
        let wanted = self.options.replication_factor;
        let live = stores.values();
        let live = live.filter(|store| store.state.takes_replicas()).count();
        if reached < wanted && live >= wanted {
            self.rows.set_replication_factor(wanted).await?;
            return Ok(wanted);
        }
        Ok(reached)
    }

    async fn start(self: &Arc<Self>, planned: Planned, leaders: &Leaders<'_>) -> Result<()> {
        let shard = planned.step.shard();
        let Some((leader, led)) = leaders.get(&shard).copied() else {
            return Ok(());
        };
        let generation = led.descriptor.generation;
        let mut row = MoveRow {
            number: self.next_move().await?,
            shard: shard.0,
            what: describe(&planned.step),
            reason: planned.reason,
            state: "running".to_owned(),
            begun: self.time.now(),
            ended: None,
        };
        tracing::info!(
            shard = shard.0,
            what = row.what,
            reason = row.reason,
            "a move begins"
        );
        self.rows.put_move(&row).await?;
        self.moving.lock().insert(shard, planned.step);
        let manager = Arc::clone(self);
        let task = async move {
            let result = manager
                .have_carried_out(leader, planned.step, generation)
                .await;
            manager.moving.lock().remove(&shard);
            row.state = result.err().unwrap_or_else(|| "done".to_owned());
            row.ended = Some(manager.time.now());
            let done = row.state == "done";
            manager.metrics.move_ended(done);
            tracing::info!(
                shard = shard.0,
                what = row.what,
                state = row.state,
                "a move has ended"
            );
            if let Err(error) = manager.rows.put_move(&row).await {
                tracing::warn!(%error, "the end of a move cannot be noted");
            }
            // What failed is tried again in the next round, not at once.
            if done {
                manager.wake.notify_one();
            }
        };
        self.env.spawn.spawn("move", Box::pin(task));
        Ok(())
    }

    async fn have_carried_out(
        &self,
        leader: StoreId,
        step: Move,
        generation: u64,
    ) -> std::result::Result<(), String> {
        if leader == self.identity.store {
            let carried_out = self.carry_out(step, generation).await;
            return carried_out.map_err(|e| e.to_string());
        }
        let call = Call::Move { step, generation }.encode();
        match self.transport.call(leader, call).await {
            Ok(answer) => match Reply::decode(answer) {
                Some(Reply::Done) => Ok(()),
                Some(Reply::Refused(why)) => Err(why),
                _ => Err("the answer makes no sense".to_owned()),
            },
            Err(error) => Err(format!("store {leader} cannot be reached: {error:?}")),
        }
    }

    pub(super) async fn next_move(&self) -> Result<u64> {
        if self.last_move.lock().is_none() {
            let moves = self.rows.moves().await?;
            let last = moves.iter().map(|row| row.number).max().unwrap_or(0);
            self.last_move.lock().get_or_insert(last);
        }
        let mut last = self.last_move.lock();
        let next = last.unwrap_or(0) + 1;
        *last = Some(next);
        Ok(next)
    }

    /// A node that was to leave and holds nothing any more has left. Whether it holds nothing is known only if every
    /// shard has a leader that says so, no replica says otherwise, and none is being moved.
    async fn bid_farewell(
        &self,
        nodes: &[NodeRow],
        reports: &Reports,
        leaders: &Leaders<'_>,
    ) -> Result<()> {
        let leaving = nodes
            .iter()
            .filter(|node| node.intent == Intent::Decommission);
        let leaving: Vec<StoreId> = leaving.map(|node| node.store).collect();
        let moving = !self.moving.lock().is_empty();
        if leaving.is_empty() || moving || !are_all_settled(leaders) {
            return Ok(());
        }
        let replicas = reports.values().flat_map(|report| &report.replicas);
        let holders = replicas.flat_map(|replica| &replica.descriptor.replicas);
        let holders: BTreeSet<StoreId> = holders.map(|replica| replica.store).collect();
        for store in leaving {
            if holders.contains(&store) {
                continue;
            }
            self.rows.intend(store, Intent::Gone).await?;
            // So that it need not find out by itself. It may not run at all.
            let intent = Some(Intent::Gone);
            if store == self.identity.store {
                self.note_intent(Intent::Gone);
            } else {
                self.ask(store, Call::Report { since: 0, intent }).await;
            }
            self.wake.notify_one();
        }
        Ok(())
    }
}

/// Replicas that do not vote although nobody is about to make them: of moves that were broken off.
fn left_over(leaders: &Leaders<'_>, moving: &Moving) -> Vec<Planned> {
    let quiet = leaders.values().filter(|(_, leader)| {
        leader.holds_lease && !leader.changing && !moving.contains_key(&leader.descriptor.id)
    });
    let left = quiet.flat_map(|(_, leader)| {
        let learners = leader.descriptor.replicas.iter();
        learners
            .filter(|replica| !leader.voters.contains(&replica.id))
            .map(|replica| Planned {
                step: Move::RemoveReplica {
                    shard: leader.descriptor.id,
                    from: replica.store,
                },
                reason: "it was left over by a move that did not end".to_owned(),
            })
    });
    left.collect()
}

fn view(
    stores: &BTreeMap<StoreId, StoreView>,
    leaders: &Leaders<'_>,
    damaged: &Damaged,
    moving: &Moving,
) -> ClusterView {
    let shards = leaders.values().map(|(store, leader)| {
        let voters = &leader.voters;
        let replicas = leader.descriptor.replicas.iter();
        let mut shard = ShardView {
            id: leader.descriptor.id,
            replicas: replicas
                .filter(|replica| voters.contains(&replica.id))
                .map(|replica| replica.store)
                .collect(),
            damaged: leader
                .descriptor
                .replicas
                .iter()
                .filter(|replica| damaged.contains(&(leader.descriptor.id, replica.id)))
                .map(|replica| replica.store)
                .collect(),
            // Also while support is late: it goes last, and nobody tells when support is back.
            lease: Some(*store),
            bytes: 0,
            replication_factor: None,
            ranked_by: None,
            changing: leader.changing,
        };
        if let Some(step) = moving.get(&shard.id) {
            shard.undergoes(*step);
        }
        shard
    });
    ClusterView {
        stores: stores.clone(),
        shards: shards.collect(),
    }
}

/// Whether the leaders' shards are all that there are, and no members are being changed.
fn are_all_settled(leaders: &Leaders<'_>) -> bool {
    let shards = leaders
        .values()
        .map(|(_, leader)| leader.descriptor.clone());
    let whole = ShardMap::new(shards.collect()).is_ok();
    whole && leaders.values().all(|(_, leader)| !leader.changing)
}

/// The leader of every shard that has one, by the highest term.
fn leaders(reports: &Reports) -> Leaders<'_> {
    let mut leaders = Leaders::new();
    for (store, report) in reports {
        for replica in report.replicas.iter().filter(|replica| replica.leads) {
            let known = leaders.get(&replica.descriptor.id);
            if known.is_none_or(|(_, other)| other.term < replica.term) {
                leaders.insert(replica.descriptor.id, (*store, replica));
            }
        }
    }
    leaders
}

/// Silent stores at whose addresses newer ones answer: their processes are not there any more.
fn displaced(nodes: &[NodeRow], answers: impl Fn(StoreId) -> bool) -> Vec<StoreId> {
    let mut newest: BTreeMap<&str, StoreId> = BTreeMap::new();
    for node in nodes.iter().filter(|node| answers(node.store)) {
        let at = newest.entry(&node.addresses.rpc).or_insert(node.store);
        *at = node.store.max(*at);
    }
    let silent = nodes.iter().filter(|node| !answers(node.store));
    let displaced = silent.filter(|node| {
        let by = newest.get(&*node.addresses.rpc);
        by.is_some_and(|newer| *newer > node.store)
    });
    displaced.map(|node| node.store).collect()
}

/// All replicas that say so of themselves.
fn damaged(reports: &Reports) -> Damaged {
    let replicas = reports.values().flat_map(|report| &report.replicas);
    replicas
        .filter(|replica| replica.damaged)
        .map(|replica| (replica.descriptor.id, replica.replica))
        .collect()
}

fn describe(step: &Move) -> String {
    match step {
        Move::AddReplica { to, .. } => format!("add a replica on store {to}"),
        Move::RemoveReplica { from, .. } => format!("remove the replica on store {from}"),
        Move::MoveReplica { from, to, .. } => {
            format!("move the replica on store {from} to store {to}")
        }
        Move::TransferLease { to, .. } => format!("hand the lease to store {to}"),
    }
}
