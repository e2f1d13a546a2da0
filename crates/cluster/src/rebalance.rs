//! Which replicas and leases should lie elsewhere, and why.
//!
//! [`plan_moves`] is pure: a view in, moves with their reasons out, the same for the same view. The manager
//! asks again once they are done; a plan is a few steps in the right direction and never a whole journey.
//!
//! What it looks for, the more urgent first:
//!
//! | reason          | when                                                     | move                       |
//! | --------------- | -------------------------------------------------------- | -------------------------- |
//! | lease           | its holder drains, is slow, has a wrong clock or is gone from the members    | lease to another replica   |
//! | repair          | a shard has fewer good replicas than it should            | add one; the shard with the fewest first |
//! | damaged         | a replica is damaged, and there is no other store for a new one | remove it, so that it is copied again |
//! | remove          | more replicas than it should, or one that is no good while enough others are | remove one |
//! | ranked          | the shard ranks another store higher (`ranked.rs`)  | move one, or first its lease |
//! | spread          | another store would put the replicas farther apart        | move one                   |
//! | balance         | one store has clearly more replicas than another          | move one                   |
//! | lease balance   | one store has clearly more leases than another            | lease to another replica   |
//!
//! **It never makes things worse.** A replica is removed only while the good ones that stay are enough
//! for the replication factor, so a move adds before it removes; a damaged one also if those that stay have
//! a majority of live ones. The factor is the policy's and is
//! never lowered because stores are missing.
//!
//! **It ends.** A ranked shard goes where its keys and the stores say, wherever it is, and is left out of what follows. Each move of a balance lowers the sum of squares of the counts, each move of a spread
//! raises the spread, and the counts are not balanced at the cost of spread: so a view that does not
//! change from outside comes to rest. The property test runs it there.

use crate::ranked::Places;
use crate::view::{ClusterView, ShardView, StoreState, StoreView, Unfit};
use sharding::ShardId;
use sharding::shard_map::FIRST_SHARD;
use std::collections::{BTreeMap, BTreeSet};
use types::StoreId;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Copies of each shard, if there are as many stores.
    pub replication_factor: usize,
    /// Moves in one plan: what may be copied at a time.
    pub most_moves: usize,
    /// Counts on two stores may differ by so many before one is moved; at least 2, or a single shard
    /// would wander.
    pub tolerance: usize,
    /// A store fuller than this share of its disk is given nothing.
    pub most_full: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            replication_factor: 3,
            most_moves: 16,
            tolerance: 2,
            most_full: 0.9,
        }
    }
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Move {
    AddReplica {
        shard: ShardId,
        to: StoreId,
    },
    RemoveReplica {
        shard: ShardId,
        from: StoreId,
    },
    /// Adds, then removes, as one joint change of the members.
    MoveReplica {
        shard: ShardId,
        from: StoreId,
        to: StoreId,
    },
    TransferLease {
        shard: ShardId,
        to: StoreId,
    },
}

impl ShardView {
    /// A move of it is under way. It counts as done, or the next plan would share out once more what this one does.
    pub fn undergoes(&mut self, step: Move) {
        self.changing = true;
        match step {
            Move::AddReplica { to, .. } => self.gains(to),
            Move::RemoveReplica { from, .. } => self.loses(from),
            Move::MoveReplica { from, to, .. } => {
                self.gains(to);
                self.loses(from);
            }
            Move::TransferLease { to, .. } => self.lease = Some(to),
        }
    }

    fn gains(&mut self, to: StoreId) {
        if !self.replicas.contains(&to) {
            self.replicas.push(to);
        }
    }

    fn loses(&mut self, from: StoreId) {
        self.replicas.retain(|store| *store != from);
    }
}

impl Move {
    pub fn shard(&self) -> ShardId {
        match self {
            Move::AddReplica { shard, .. }
            | Move::RemoveReplica { shard, .. }
            | Move::MoveReplica { shard, .. }
            | Move::TransferLease { shard, .. } => *shard,
        }
    }
}

/// A step and why it is made, as `phantom.moves` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub step: Move,
    pub reason: String,
}

/// See the module.
pub fn plan_moves(view: &ClusterView, policy: &Policy) -> Vec<Planned> {
    let mut plan = Plan::new(view, policy);
    plan.leases_to_give_up();
    plan.repairs();
    plan.damaged();
    plan.removals();
    plan.ranked();
    plan.spread();
    plan.balance();
    plan.lease_balance();
    plan.moves
}

fn copies(shard: &ShardView, policy: &Policy) -> usize {
    let own = shard.replication_factor;
    own.unwrap_or(policy.replication_factor)
}

struct Plan<'a> {
    view: &'a ClusterView,
    policy: &'a Policy,
    /// Replicas and leases on each store that may have some, with the planned moves done.
    replicas: BTreeMap<StoreId, usize>,
    leases: BTreeMap<StoreId, usize>,
    bytes: BTreeMap<StoreId, u64>,
    places: Places,
    /// A shard is moved once in a plan.
    touched: BTreeSet<ShardId>,
    moves: Vec<Planned>,
}

impl<'a> Plan<'a> {
    fn new(view: &'a ClusterView, policy: &'a Policy) -> Self {
        let none = |want: fn(&StoreView) -> bool| {
            let stores = view.stores.values().filter(move |store| want(store));
            stores.map(|store| (store.id, 0)).collect()
        };
        let mut replicas: BTreeMap<StoreId, usize> = none(|store| store.state.holds_replicas());
        let mut leases: BTreeMap<StoreId, usize> =
            none(|store| store.state.may_lead() && store.unfit.is_none());
        for shard in &view.shards {
            for store in &shard.replicas {
                replicas.entry(*store).and_modify(|count| *count += 1);
            }
            if let Some(store) = shard.lease {
                leases.entry(store).and_modify(|count| *count += 1);
            }
        }
        let changing = view.shards.iter().filter(|shard| shard.changing);
        let used = view
            .stores
            .values()
            .map(|store| (store.id, store.used_bytes));
        Plan {
            view,
            policy,
            replicas,
            leases,
            bytes: used.collect(),
            places: Places::of(view, |shard| copies(shard, policy)),
            touched: changing.map(|shard| shard.id).collect(),
            moves: Vec::new(),
        }
    }

    /// How many copies the shard is to have.
    fn factor(&self, shard: &ShardView) -> usize {
        copies(shard, self.policy)
    }

    fn is_full(&self) -> bool {
        self.moves.len() >= self.policy.most_moves
    }

    fn untouched(&self) -> Vec<&'a ShardView> {
        let shards = self.view.shards.iter();
        shards
            .filter(|shard| !self.touched.contains(&shard.id))
            .collect()
    }

    fn step(&mut self, step: Move, bytes: u64, reason: String) {
        if self.is_full() {
            return;
        }
        let mut add = |to: StoreId| {
            self.replicas.entry(to).and_modify(|count| *count += 1);
            self.bytes.entry(to).and_modify(|used| *used += bytes);
        };
        match step {
            Move::AddReplica { to, .. } => add(to),
            Move::MoveReplica { from, to, .. } => {
                add(to);
                self.replicas.entry(from).and_modify(|count| *count -= 1);
            }
            Move::RemoveReplica { from, .. } => {
                self.replicas.entry(from).and_modify(|count| *count -= 1);
            }
            Move::TransferLease { to, .. } => {
                self.leases.entry(to).and_modify(|count| *count += 1);
            }
        }
        self.touched.insert(step.shard());
        self.moves.push(Planned { step, reason });
    }

    fn is_good(&self, shard: &ShardView, store: StoreId) -> bool {
        self.view.state(store).holds_replicas() && !shard.damaged.contains(&store)
    }

    fn good(&self, shard: &ShardView) -> Vec<StoreId> {
        let stores = shard.replicas.iter().copied();
        stores.filter(|store| self.is_good(shard, *store)).collect()
    }

    fn count(&self, store: StoreId) -> usize {
        self.replicas.get(&store).copied().unwrap_or(0)
    }

    /// Stores that can take one more replica of the shard.
    fn targets(&self, shard: &ShardView) -> Vec<StoreId> {
        let can_take = |store: &&StoreView| {
            let used = self.bytes.get(&store.id).copied().unwrap_or(0) + shard.bytes;
            store.state.takes_replicas()
                && store.unfit.is_none()
                && !shard.replicas.contains(&store.id)
                && used as f64 <= store.disk_bytes as f64 * self.policy.most_full
        };
        let stores = self.view.stores.values().filter(can_take);
        stores.map(|store| store.id).collect()
    }

    /// Of the stores that can take one, the one that puts the replicas farthest apart together with
    /// `others`; among equals one that the shard's ranking names, and then the emptiest.
    fn best_target(&self, shard: &ShardView, others: &[StoreId]) -> Option<StoreId> {
        let with = |store: StoreId| [others, &[store]].concat();
        let is_wanted = |store| self.places.is_wanted(shard.id, store);
        self.targets(shard).into_iter().max_by(|a, b| {
            let spread = |store| self.view.spread(&with(store));
            spread(*a)
                .total_cmp(&spread(*b))
                .then_with(|| is_wanted(*a).cmp(&is_wanted(*b)))
                .then_with(|| self.count(*b).cmp(&self.count(*a)))
                .then_with(|| b.cmp(a))
        })
    }

    fn lease_target(&self, shard: &ShardView) -> Option<StoreId> {
        let mut able = shard.replicas.clone();
        able.retain(|store| self.leases.contains_key(store) && !shard.damaged.contains(store));
        able.into_iter()
            .min_by_key(|store| (self.leases.get(store).copied(), *store))
    }

    fn leases_to_give_up(&mut self) {
        for shard in self.untouched() {
            let Some(holder) = shard.lease else {
                continue;
            };
            let stays = self.leases.contains_key(&holder) && shard.replicas.contains(&holder);
            if !stays && let Some(to) = self.lease_target(shard) {
                let state = self.view.state(holder);
                let why = match self.view.stores.get(&holder) {
                    Some(StoreView {
                        unfit: Some(Unfit::Slow),
                        ..
                    }) => "is slow".to_owned(),
                    Some(StoreView {
                        unfit: Some(Unfit::ClockOff),
                        ..
                    }) => "has a clock that is off".to_owned(),
                    _ => format!("is {state:?}").to_lowercase(),
                };
                let reason = format!("lease: store {holder} {why}");
                let shard = shard.id;
                self.step(Move::TransferLease { shard, to }, 0, reason);
            }
        }
    }

    fn repairs(&mut self) {
        let mut short: Vec<(usize, &ShardView)> = self
            .untouched()
            .into_iter()
            .map(|shard| (self.good(shard).len(), shard))
            .filter(|(good, shard)| *good < self.factor(shard))
            .collect();
        short.sort_by_key(|(good, shard)| (*good, shard.id));
        for (good, shard) in short {
            if self.is_full() {
                return;
            }
            let others = self.good(shard);
            if let Some(to) = self.best_target(shard, &others) {
                let wanted = self.factor(shard);
                let reason = format!("repair: {good} of {wanted} replicas are good");
                let step = Move::AddReplica {
                    shard: shard.id,
                    to,
                };
                self.step(step, shard.bytes, reason);
            }
        }
    }

    /// A damaged replica makes room for its own new copy, once those that stay can do without it.
    fn damaged(&mut self) {
        for shard in self.untouched() {
            let holder = shard.lease;
            let mut damaged = shard.damaged.iter().copied();
            let from = damaged.find(|store| {
                shard.replicas.contains(store) && holder.is_some() && holder != Some(*store)
            });
            let Some(from) = from else {
                continue;
            };
            let stay = shard.replicas.len() - 1;
            let good = self.good(shard).into_iter();
            let live = good.filter(|store| self.view.state(*store) == StoreState::Live);
            let spared = live.count() * 2 > stay;
            if spared && self.good(shard).len() < self.factor(shard) {
                let reason = format!("damaged: the replica on store {from} is to be copied again");
                let shard = shard.id;
                self.step(Move::RemoveReplica { shard, from }, 0, reason);
            }
        }
    }

    fn removals(&mut self) {
        for shard in self.untouched() {
            if self.is_full() {
                return;
            }
            let good = self.good(shard);
            let bad = shard
                .replicas
                .iter()
                .find(|store| !self.is_good(shard, **store));
            let (from, reason) = if good.len() >= self.factor(shard)
                && let Some(bad) = bad
            {
                let reason = match shard.damaged.contains(bad) {
                    true => format!("remove: the replica on store {bad} is damaged"),
                    false => {
                        let state = format!("{:?}", self.view.state(*bad)).to_lowercase();
                        format!("remove: store {bad} is {state}")
                    }
                };
                (*bad, reason)
            } else if good.len() > self.factor(shard) {
                let without = |store: &StoreId| -> Vec<StoreId> {
                    good.iter()
                        .copied()
                        .filter(|other| other != store)
                        .collect()
                };
                // Not the holder of the lease; of the others the one that is missed least.
                let is_wanted = |store: &StoreId| self.places.is_wanted(shard.id, *store);
                let candidates = good.iter().filter(|store| Some(**store) != shard.lease);
                let Some(from) = candidates.max_by(|a, b| {
                    let spread = |store| self.view.spread(&without(store));
                    spread(a)
                        .total_cmp(&spread(b))
                        .then_with(|| is_wanted(b).cmp(&is_wanted(a)))
                        .then_with(|| self.count(**a).cmp(&self.count(**b)))
                        .then_with(|| a.cmp(b))
                }) else {
                    continue;
                };
                (
                    *from,
                    format!("remove: {} replicas are too many", good.len()),
                )
            } else {
                continue;
            };
            if shard.lease == Some(from) {
                // Its lease goes first.
                continue;
            }
            let shard = shard.id;
            self.step(Move::RemoveReplica { shard, from }, 0, reason);
        }
    }

    /// Complete shards without bad replicas, whose replicas may be moved for the better.
    fn settled(&self) -> Vec<&'a ShardView> {
        let mut shards = self.untouched();
        shards.retain(|shard| {
            let whole = shard.replicas.len() == self.factor(shard);
            whole && self.good(shard).len() == shard.replicas.len()
        });
        shards
    }

    /// Complete shards that lie elsewhere than their ranking says.
    fn ranked(&mut self) {
        for shard in self.settled() {
            if self.is_full() {
                return;
            }
            let wanted = self.places.wanted(shard.id).unwrap_or_default();
            let targets = self.targets(shard);
            let Some(to) = wanted.iter().copied().find(|store| targets.contains(store)) else {
                continue;
            };
            let is_wanted = |store: &&StoreId| wanted.contains(store);
            let unwanted = shard.replicas.iter().filter(|store| !is_wanted(store));
            let movable = unwanted
                .copied()
                .filter(|store| Some(*store) != shard.lease);
            let step = match movable.max_by_key(|store| (self.count(*store), *store)) {
                Some(from) => {
                    let reason =
                        format!("ranked: store {to} comes before store {from} for its keys");
                    let shard = shard.id;
                    Some((Move::MoveReplica { shard, from, to }, reason))
                }
                // All others are where they should be: the holder's lease goes first.
                None => self.lease_to_wanted(shard, to),
            };
            if let Some((step, reason)) = step {
                self.step(step, shard.bytes, reason);
            }
        }
    }

    /// Hands the lease of a shard whose holder is to make room for `to` to a replica that stays.
    fn lease_to_wanted(&self, shard: &ShardView, to: StoreId) -> Option<(Move, String)> {
        let holder = shard.lease?;
        let stays = |store: &StoreId| self.places.is_wanted(shard.id, *store);
        let able = shard.replicas.iter().copied().filter(stays);
        let able = able.filter(|store| self.leases.contains_key(store));
        let next = able.min_by_key(|store| (self.leases.get(store).copied(), *store))?;
        let reason = format!("ranked: store {holder} makes room for store {to}");
        let shard = shard.id;
        Some((Move::TransferLease { shard, to: next }, reason))
    }

    /// Complete shards that may lie anywhere.
    fn unranked(&self) -> Vec<&'a ShardView> {
        let mut shards = self.settled();
        shards.retain(|shard| shard.ranked_by.is_none());
        shards
    }

    /// The replica whose exchange against `to` leaves the shard's replicas farthest apart, and how far. Not
    /// the holder of the lease.
    fn exchange(&self, shard: &ShardView, to: StoreId) -> Option<(f64, StoreId)> {
        let movable = shard.replicas.iter().copied();
        let movable = movable.filter(|store| Some(*store) != shard.lease);
        let exchanged = movable.map(|from| {
            let mut after = shard.replicas.clone();
            after.retain(|store| *store != from);
            after.push(to);
            (self.view.spread(&after), from)
        });
        exchanged.max_by(|a, b| {
            let count = |(_, store): &(f64, StoreId)| self.count(*store);
            a.0.total_cmp(&b.0).then_with(|| count(a).cmp(&count(b)))
        })
    }

    fn spread(&mut self) {
        for shard in self.unranked() {
            if self.is_full() {
                return;
            }
            let now = self.view.spread(&shard.replicas);
            let options = self.targets(shard).into_iter().filter_map(|to| {
                let (spread, from) = self.exchange(shard, to)?;
                Some((spread, from, to))
            });
            let best = options.max_by(|a, b| {
                a.0.total_cmp(&b.0)
                    .then_with(|| self.count(b.2).cmp(&self.count(a.2)))
                    .then_with(|| b.2.cmp(&a.2))
            });
            if let Some((spread, from, to)) = best
                && spread > now + f64::EPSILON * 8.0
            {
                let reason = format!("spread: {now:.2} to {spread:.2}");
                let step = Move::MoveReplica {
                    shard: shard.id,
                    from,
                    to,
                };
                self.step(step, shard.bytes, reason);
            }
        }
    }

    fn balance(&mut self) {
        for shard in self.unranked() {
            if self.is_full() {
                return;
            }
            let now = self.view.spread(&shard.replicas);
            let mut best: Option<(usize, StoreId, StoreId)> = None;
            let targets = self.targets(shard);
            for from in shard.replicas.iter().filter(|s| Some(**s) != shard.lease) {
                for to in &targets {
                    let more = self.count(*from).saturating_sub(self.count(*to));
                    let mut after = shard.replicas.clone();
                    after.retain(|store| store != from);
                    after.push(*to);
                    let as_far_apart = self.view.spread(&after) >= now - f64::EPSILON * 8.0;
                    let better = best.is_none_or(|(most, ..)| more > most);
                    if more >= self.policy.tolerance.max(2) && as_far_apart && better {
                        best = Some((more, *from, *to));
                    }
                }
            }
            if let Some((_, from, to)) = best {
                let (many, few) = (self.count(from), self.count(to));
                let reason = format!("balance: {many} replicas on store {from}, {few} on {to}");
                let step = Move::MoveReplica {
                    shard: shard.id,
                    from,
                    to,
                };
                self.step(step, shard.bytes, reason);
            }
        }
    }

    fn lease_balance(&mut self) {
        let mut shards = self.untouched();
        // With its lease the cluster's manager changes, so it moves only if no other does as well.
        shards.sort_by_key(|shard| shard.id == FIRST_SHARD);
        for shard in shards {
            if self.is_full() {
                return;
            }
            let Some(holder) = shard
                .lease
                .filter(|holder| self.leases.contains_key(holder))
            else {
                continue;
            };
            let Some(to) = self.lease_target(shard).filter(|to| *to != holder) else {
                continue;
            };
            let (many, few) = (self.leases[&holder], self.leases[&to]);
            if many >= few + self.policy.tolerance.max(2) {
                let reason = format!("lease balance: {many} on store {holder}, {few} on {to}");
                self.leases.entry(holder).and_modify(|count| *count -= 1);
                let shard = shard.id;
                self.step(Move::TransferLease { shard, to }, 0, reason);
            }
        }
    }
}

#[cfg(test)]
#[path = "rebalance_tests.rs"]
mod tests;
