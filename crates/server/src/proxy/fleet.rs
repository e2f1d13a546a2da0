//! The nodes that the proxy knows, and the choice among them.
//!
//! [`Fleet::update`] takes the list of nodes, [`Fleet::probed`] what the probes found; [`Fleet::choose`] gives a
//! node for a client as a [`Lease`], which counts for as long as it lives. What happens to a node reaches its
//! sessions through [`Node::condition`].

use crate::node_list::NodeEntry;
use crate::proxy::health::{Condition, Health, Probe};
use crate::proxy::limits::{FORGET_AFTER, MAX_NODES};
use crate::proxy::stats::Traffic;
use parking_lot::Mutex;
use sharding::load_balancer::{LoadBalancer, Policy, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use types::env::Rng;

/// One node at one address.
pub struct Node {
    /// Its name here. A node that comes back at another address is another [`Node`].
    key: u64,
    pub id: u64,
    pub sql: String,
    pub http: Option<String>,
    pub traffic: Traffic,
    condition: watch::Sender<Condition>,
    /// A look at it is due.
    pub look: Notify,
}

impl Node {
    /// Follows what becomes of it.
    pub fn condition(&self) -> watch::Receiver<Condition> {
        self.condition.subscribe()
    }

    fn is_at(&self, entry: &NodeEntry) -> bool {
        self.id == entry.id && self.sql == entry.sql && self.http == entry.http
    }
}

/// See the module.
pub struct Fleet {
    inner: Mutex<Inner>,
    rng: Arc<dyn Rng>,
}

struct Inner {
    balancer: LoadBalancer<u64>,
    members: BTreeMap<u64, Member>,
    next_key: u64,
}

struct Member {
    node: Arc<Node>,
    health: Health,
    /// When the list last named it.
    named: Instant,
}

/// What a table of the nodes shows of one.
pub struct Row {
    pub node: Arc<Node>,
    pub target: Target,
    pub condition: Condition,
}

impl Fleet {
    pub fn new(policy: Policy, rng: Arc<dyn Rng>) -> Arc<Self> {
        Arc::new(Fleet {
            inner: Mutex::new(Inner {
                balancer: LoadBalancer::new(policy),
                members: BTreeMap::new(),
                next_key: 0,
            }),
            rng,
        })
    }

    /// Takes a new list. Returns the nodes that were not known, for somebody to look after.
    pub fn update(&self, entries: &[NodeEntry], now: Instant) -> Vec<Arc<Node>> {
        if entries.is_empty() {
            // Whoever answers is a node: a list without any tells nothing.
            return Vec::new();
        }
        let mut inner = self.inner.lock();
        let mut added = Vec::new();
        let mut named = BTreeSet::new();
        for entry in entries.iter().take(MAX_NODES) {
            if named.insert(entry.id) {
                added.extend(inner.take(entry, now));
            }
        }
        inner.forget(now, &named);
        added
    }

    /// Chooses a node that is not in `tried`.
    pub fn choose(self: &Arc<Self>, tried: &[u64]) -> Option<Lease> {
        let mut inner = self.inner.lock();
        let key = inner.balancer.choose(tried, || self.rng.next_u64())?;
        let node = Arc::clone(&inner.members.get(&key)?.node);
        drop(inner);
        Some(Lease {
            fleet: Arc::clone(self),
            node,
        })
    }

    /// What a look at the node found, and how long it took to answer. Whether it is still one of the fleet.
    pub fn probed(&self, node: &Node, probe: Probe, latency: Option<Duration>) -> bool {
        let mut inner = self.inner.lock();
        if let Some(latency) = latency {
            inner.balancer.observe(node.key, latency.as_secs_f64());
        }
        inner.change(node.key, |health| health.probed(probe));
        inner.members.contains_key(&node.key)
    }

    /// Whether a session of `node` would find another one that wants it.
    pub fn has_other(&self, node: &Node) -> bool {
        let inner = self.inner.lock();
        let mut others = inner.members.iter().filter(|(key, _)| **key != node.key);
        others.any(|(_, member)| member.health.takes_sessions() && !member.health.drains())
    }

    /// Whether any node wants sessions.
    pub fn takes_sessions(&self) -> bool {
        let inner = self.inner.lock();
        let mut healths = inner.members.values().map(|member| &member.health);
        healths.any(|health| health.takes_sessions() && !health.drains())
    }

    pub fn nodes(&self) -> Vec<Arc<Node>> {
        let inner = self.inner.lock();
        let nodes = inner.members.values().map(|member| &member.node);
        nodes.cloned().collect()
    }

    /// All nodes with what is counted of them, by number.
    pub fn rows(&self) -> Vec<Row> {
        let inner = self.inner.lock();
        let mut rows: Vec<Row> = Vec::new();
        for (key, member) in &inner.members {
            rows.push(Row {
                node: Arc::clone(&member.node),
                target: inner
                    .balancer
                    .targets()
                    .get(key)
                    .copied()
                    .unwrap_or_default(),
                condition: member.health.condition(),
            });
        }
        rows.sort_by_key(|row| row.node.id);
        rows
    }
}

impl Inner {
    /// The node of the entry if it was not known.
    fn take(&mut self, entry: &NodeEntry, now: Instant) -> Option<Arc<Node>> {
        let same_id = self.members.values_mut().find(|m| m.node.id == entry.id);
        if let Some(member) = same_id {
            let (key, same) = (member.node.key, member.node.is_at(entry));
            if same {
                member.named = now;
                if member.health.told(entry.state, entry.draining) {
                    member.node.look.notify_one();
                }
                self.balancer.put(key, entry.weight);
                self.apply(key);
                return None;
            }
            self.remove(key);
        }
        Some(self.add(entry, now))
    }

    fn add(&mut self, entry: &NodeEntry, now: Instant) -> Arc<Node> {
        let key = self.next_key;
        self.next_key += 1;
        let node = Arc::new(Node {
            key,
            id: entry.id,
            sql: entry.sql.clone(),
            http: entry.http.clone(),
            traffic: Traffic::new(entry.id),
            condition: watch::channel(Condition::Serving).0,
            look: Notify::new(),
        });
        let member = Member {
            node: Arc::clone(&node),
            health: Health::new(entry.state, entry.draining),
            named: now,
        };
        self.members.insert(key, member);
        self.balancer.put(key, entry.weight);
        self.apply(key);
        node
    }

    /// Drops who was not named: at once if it is dead, else after a while.
    fn forget(&mut self, now: Instant, named: &BTreeSet<u64>) {
        let gone = |member: &&Member| {
            let overdue = now.saturating_duration_since(member.named) >= FORGET_AFTER;
            let dead = member.health.condition() == Condition::Dead;
            !named.contains(&member.node.id) && (overdue || dead)
        };
        let gone: Vec<u64> = self
            .members
            .values()
            .filter(gone)
            .map(|m| m.node.key)
            .collect();
        gone.into_iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: u64) {
        self.balancer.remove(key);
        if let Some(member) = self.members.remove(&key) {
            member.node.condition.send_if_modified(|old| {
                // Sessions of a dead node must hear of that.
                let changed = *old != Condition::Dead;
                if changed {
                    *old = Condition::Removed;
                }
                changed
            });
        }
    }

    fn change(&mut self, key: u64, change: impl FnOnce(&mut Health)) {
        if let Some(member) = self.members.get_mut(&key) {
            change(&mut member.health);
            self.apply(key);
        }
    }

    /// Carries a node's health to who acts on it.
    fn apply(&mut self, key: u64) {
        let Some(member) = self.members.get(&key) else {
            return;
        };
        self.balancer
            .set_healthy(key, member.health.takes_sessions());
        self.balancer.set_draining(key, member.health.drains());
        let condition = member.health.condition();
        member.node.condition.send_if_modified(|old| {
            let changed = *old != condition;
            *old = condition;
            changed
        });
    }
}

/// A node that a client was given: one in hand until it is dropped.
pub struct Lease {
    fleet: Arc<Fleet>,
    node: Arc<Node>,
}

impl Lease {
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Names the node among those tried.
    pub fn key(&self) -> u64 {
        self.node.key
    }

    /// The connection came through.
    pub fn answered(&self) {
        let mut inner = self.fleet.inner.lock();
        inner.change(self.node.key, Health::answered);
    }

    /// It did not. `unwell`: the node is not to be chosen until it has answered a probe.
    pub fn failed(&self, unwell: bool) {
        let mut inner = self.fleet.inner.lock();
        inner.balancer.failed(self.node.key);
        if unwell {
            inner.change(self.node.key, Health::refused);
            self.node.look.notify_one();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.fleet.inner.lock().balancer.release(self.node.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_list::NodeState;
    use crate::proxy::limits::PROBES_UNTIL_DEAD;

    struct Dice;

    impl Rng for Dice {
        fn next_u64(&self) -> u64 {
            0
        }
    }

    fn entry(id: u64) -> NodeEntry {
        NodeEntry::at(id, format!("node{id}:1"), 1)
    }

    fn fleet(now: Instant) -> (Arc<Fleet>, Vec<Arc<Node>>) {
        let fleet = Fleet::new(Policy::LeastConnections, Arc::new(Dice));
        let nodes = fleet.update(&[entry(1), entry(2)], now);
        (fleet, nodes)
    }

    fn die(fleet: &Fleet, node: &Node) {
        for _ in 0..PROBES_UNTIL_DEAD {
            assert!(fleet.probed(node, Probe::Silent, None));
        }
    }

    fn chosen(fleet: &Arc<Fleet>) -> Option<u64> {
        fleet.choose(&[]).map(|lease| lease.node().id)
    }

    #[test]
    fn leases_count_while_they_live() {
        let (fleet, _) = fleet(Instant::now());
        let first = fleet.choose(&[]).expect("a node");
        let second = fleet.choose(&[]).expect("a node");
        assert_eq!((first.node().id, second.node().id), (1, 2));
        let open = || {
            fleet
                .rows()
                .iter()
                .map(|row| row.target.open)
                .collect::<Vec<_>>()
        };
        assert_eq!(open(), [1, 1]);
        drop(first);
        assert_eq!(open(), [0, 1]);
        assert_eq!(chosen(&fleet), Some(1));
        second.failed(true);
        drop(second);
        assert_eq!((chosen(&fleet), chosen(&fleet)), (Some(1), Some(1)));
        assert_eq!(fleet.rows()[1].target.failed, 1);
    }

    #[test]
    fn a_drain_reaches_the_sessions() {
        let now = Instant::now();
        let (fleet, nodes) = fleet(now);
        let condition = nodes[0].condition();
        let draining = NodeEntry {
            draining: true,
            ..entry(1)
        };
        assert!(fleet.update(&[draining, entry(2)], now).is_empty());
        assert_eq!(*condition.borrow(), Condition::Draining);
        assert!(fleet.has_other(&nodes[0]) && !fleet.has_other(&nodes[1]));
        assert_eq!((chosen(&fleet), chosen(&fleet)), (Some(2), Some(2)));
        // The other one dies: the draining one is no refuge.
        die(&fleet, &nodes[1]);
        assert_eq!(*nodes[1].condition().borrow(), Condition::Dead);
        assert!(!fleet.has_other(&nodes[0]) && !fleet.takes_sessions());
        assert_eq!(chosen(&fleet), Some(2));
    }

    #[test]
    fn a_node_that_is_not_named_goes_at_once_if_it_is_dead_and_later_if_not() {
        let now = Instant::now();
        let (fleet, nodes) = fleet(now);
        fleet.update(&[], now + 2 * FORGET_AFTER);
        assert_eq!(fleet.nodes().len(), 2, "an empty list says nothing");
        fleet.update(&[entry(1)], now + FORGET_AFTER / 2);
        assert_eq!(fleet.nodes().len(), 2);
        die(&fleet, &nodes[1]);
        fleet.update(&[entry(1)], now + FORGET_AFTER / 2);
        assert_eq!(*nodes[1].condition().borrow(), Condition::Dead);
        assert!(
            !fleet.probed(&nodes[1], Probe::Ready, None),
            "nobody looks after it"
        );
        fleet.update(&[entry(2)], now + 2 * FORGET_AFTER);
        assert_eq!(*nodes[0].condition().borrow(), Condition::Removed);
        assert_eq!(chosen(&fleet), Some(2));
    }

    #[test]
    fn a_node_at_another_address_is_another_one() {
        let now = Instant::now();
        let (fleet, nodes) = fleet(now);
        let old = fleet.choose(&[]).expect("a node");
        let moved = NodeEntry {
            sql: "elsewhere:1".to_string(),
            ..entry(1)
        };
        let added = fleet.update(&[moved, entry(2)], now);
        assert_eq!(added.len(), 1);
        assert_eq!(*nodes[0].condition().borrow(), Condition::Removed);
        drop(old);
        let open: Vec<u64> = fleet.rows().iter().map(|row| row.target.open).collect();
        assert_eq!(open, [0, 0]);
    }

    #[test]
    fn weights_and_states_come_from_the_list() {
        let now = Instant::now();
        let fleet = Fleet::new(Policy::Weighted, Arc::new(Dice));
        let heavy = NodeEntry::at(1, "a:1".to_string(), 3);
        let suspect = NodeEntry {
            state: NodeState::Suspect,
            ..entry(3)
        };
        fleet.update(&[heavy, entry(2), suspect], now);
        let chosen: Vec<Option<u64>> = (0..8).map(|_| chosen(&fleet)).collect();
        let times = |id| chosen.iter().filter(|c| **c == Some(id)).count();
        assert_eq!((times(1), times(2), times(3)), (6, 2, 0));
    }
}
