//! A network in virtual time between the nodes of an [`Executor`](crate::Executor).
//!
//! ```text
//!   node a                                                   node b
//!   SimTransport::send ──► connection (a, b) ──► inbox of b ──► Peer::message
//!                │            │  cut: held until it heals, or until somebody notices
//!                │            └─ broken: what is under way is lost, calls fail, both are told
//!                └─ no connection: lost
//! ```
//!
//! Between two nodes there is at most one connection, as one TCP stream in either direction: what is sent on
//! it arrives once and in order, or is lost with the connection. Calls and their answers overtake each other.
//! Nodes that have learnt each other's address dial again and again until there is a connection.
//!
//! What can go wrong: links are slow; a direction is cut, so that bytes wait, and after a while the connection
//! breaks; a connection breaks at once; a node is gone, which its peers learn at once (a process died) or
//! after a while (a machine lost power). Some of what was under way on a broken connection arrives all the
//! same, perhaps after the first messages of the next one, as bytes in a receiver's buffer do. Nothing
//! arrives twice, but on a direction that was made *unruly*: there, messages that say how something stands (of
//! groups, and of gossip), and that nodes therefore bear to hear late or again, do so.
//!
//! All chances are drawn from one seed.

use crate::dice::Dice;
use crate::executor::{Machines, NodeId};
use bytes::Bytes;
use futures::channel::oneshot;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;
use types::StoreId;
use types::env::{CallError, Peer};

mod connection;
mod faults;
mod inbox;
#[cfg(test)]
mod tests;
mod transport;

use connection::{Connection, Event, Pair};
use inbox::Delivery;
pub use transport::SimTransport;

/// The network's own work belongs to no node.
pub const OUTSIDE: NodeId = NodeId(0);

/// How a healthy network behaves, and how quickly its users notice that it does not.
#[derive(Clone, Debug)]
pub struct Options {
    /// One way, in nanoseconds.
    pub latency_nanos: Range<u64>,
    /// From the moment that bytes stop to pass until a side gives the connection up, in nanoseconds.
    pub notice_nanos: Range<u64>,
    /// Between two attempts to connect, in nanoseconds.
    pub redial_nanos: Range<u64>,
    /// Percent of what was under way on a broken connection that arrives all the same.
    pub straggler_percent: u64,
    /// The same where neither a machine nor a cable is gone: what a process has sent is in its kernel's hands.
    pub sent_percent: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            latency_nanos: 50_000..500_000,
            notice_nanos: 500_000_000..3_000_000_000,
            redial_nanos: 10_000_000..300_000_000,
            straggler_percent: 20,
            sent_percent: 60,
        }
    }
}

/// What passed, and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub messages_sent: u64,
    pub messages_arrived: u64,
    /// On an unruly direction.
    pub messages_twice: u64,
    /// After some that were sent later: on an unruly direction, or as stragglers of a connection that broke.
    pub messages_late: u64,
    pub calls_sent: u64,
    pub calls_failed: u64,
    pub connections_made: u64,
    pub connections_broken: u64,
}

/// See the module. Clones are the same network.
#[derive(Clone)]
pub struct Network {
    machines: Machines,
    state: Arc<Mutex<State>>,
}

struct State {
    options: Options,
    dice: Dice,
    next_id: u64,
    hosts: BTreeMap<NodeId, Host>,
    connections: BTreeMap<Pair, Connection>,
    /// Directions in which no byte passes.
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Directions that are slower than others: their own latencies.
    slow: BTreeMap<(NodeId, NodeId), Range<u64>>,
    /// Directions on which messages arrive late, and twice.
    unruly: BTreeSet<(NodeId, NodeId)>,
    events: BTreeMap<(u64, u64), Event>,
    /// Of the task that carries out events.
    waker: Option<Waker>,
    stats: Stats,
}

/// A running process on the network.
struct Host {
    life: u64,
    address: String,
    /// Since it serves.
    named: Option<(StoreId, Arc<dyn Peer>)>,
    /// Addresses that it has learnt.
    known: BTreeMap<StoreId, String>,
    inbox: BTreeMap<(u64, u64), Delivery>,
    waker: Option<Waker>,
    calls: BTreeMap<u64, PendingCall>,
}

impl Host {
    fn name(&self) -> Option<StoreId> {
        self.named.as_ref().map(|(name, _)| *name)
    }
}

/// A call that waits for its answer.
struct PendingCall {
    to: NodeId,
    /// The connection it went over; `None` for calls to an address.
    generation: Option<u64>,
    answer: oneshot::Sender<Result<Bytes, CallError>>,
}

impl PendingCall {
    fn broke(self, why: &str) {
        // The asker may have gone away.
        let _ = self.answer.send(Err(CallError::Broken(why.to_owned())));
    }
}

impl Network {
    pub fn new(machines: Machines, dice: Dice, options: Options) -> Self {
        let network = Network {
            machines,
            state: Arc::new(Mutex::new(State {
                options,
                dice,
                next_id: 0,
                hosts: BTreeMap::new(),
                connections: BTreeMap::new(),
                cuts: BTreeSet::new(),
                slow: BTreeMap::new(),
                unruly: BTreeSet::new(),
                events: BTreeMap::new(),
                waker: None,
                stats: Stats::default(),
            })),
        };
        let env = network.machines.env(OUTSIDE);
        env.spawn
            .spawn("network", Box::pin(network.clone().carry_out_events()));
        network
    }

    /// A process of `node` has started, reachable at `address` as soon as it serves.
    pub fn start(&self, node: NodeId, address: &str) -> Arc<SimTransport> {
        let life = self.machines.life(node);
        self.lock().hosts.insert(
            node,
            Host {
                life,
                address: address.to_owned(),
                named: None,
                known: BTreeMap::new(),
                inbox: BTreeMap::new(),
                waker: None,
                calls: BTreeMap::new(),
            },
        );
        let env = self.machines.env(node);
        env.spawn
            .spawn("network", Box::pin(self.clone().hand_in(node, life)));
        Arc::new(SimTransport {
            network: self.clone(),
            node,
            life,
        })
    }

    /// The process of `node` takes messages from now on, under this name.
    pub fn serve(&self, node: NodeId, name: StoreId, peer: Arc<dyn Peer>) {
        let mut state = self.lock();
        if let Some(host) = state.hosts.get_mut(&node) {
            host.named = Some((name, peer));
        }
        let others: Vec<NodeId> = state.hosts.keys().copied().collect();
        for other in others {
            self.dial(&mut state, node, other);
        }
    }

    pub fn stats(&self) -> Stats {
        self.lock().stats
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Calls back at that time.
    fn schedule(&self, state: &mut State, at_nanos: u64, event: Event) {
        let id = state.next_id();
        state.events.insert((at_nanos, id), event);
        if let Some(waker) = &state.waker {
            self.machines.wake_at(at_nanos, waker.clone());
        }
    }

    /// Puts something into a node's inbox.
    fn put(&self, state: &mut State, node: NodeId, at_nanos: u64, delivery: Delivery) {
        let id = state.next_id();
        if let Some(host) = state.hosts.get_mut(&node) {
            host.inbox.insert((at_nanos, id), delivery);
            if let Some(waker) = &host.waker {
                self.machines.wake_at(at_nanos, waker.clone());
            }
        }
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn draw(&mut self, range: &Range<u64>) -> u64 {
        range.start + self.dice.below(range.end.saturating_sub(range.start))
    }

    fn latency(&mut self, from: NodeId, to: NodeId) -> u64 {
        let slow = self.slow.get(&(from, to)).cloned();
        let range = slow.unwrap_or_else(|| self.options.latency_nanos.clone());
        self.draw(&range)
    }

    fn notice(&mut self) -> u64 {
        let range = self.options.notice_nanos.clone();
        self.draw(&range)
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.contains(&(from, to))
    }

    fn is_cut_somehow(&self, a: NodeId, b: NodeId) -> bool {
        self.is_cut(a, b) || self.is_cut(b, a)
    }

    fn lives(&self, node: NodeId, life: u64) -> bool {
        self.hosts.get(&node).is_some_and(|host| host.life == life)
    }

    /// The node that serves under this name, if any does.
    fn node_named(&self, name: StoreId) -> Option<NodeId> {
        let mut hosts = self.hosts.iter();
        let found = hosts.find(|(_, host)| host.name() == Some(name));
        found.map(|(node, _)| *node)
    }
}

/// Messages that wait while a direction is cut.
type Held = VecDeque<Delivery>;
