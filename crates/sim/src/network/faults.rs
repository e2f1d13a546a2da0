//! What the world does to its network.

use super::connection::{Event, pair};
use super::{Network, NodeId, State};
use std::ops::Range;

impl Network {
    /// The process of `node` has died, or its machine lost power (`silent`): then its peers do not notice at
    /// once. It is on the network again after [`Network::start`].
    pub fn end(&self, node: NodeId, silent: bool) {
        let mut state = self.lock();
        let Some(host) = state.hosts.remove(&node) else {
            return;
        };
        let others: Vec<NodeId> = state.hosts.keys().copied().collect();
        for other in &others {
            self.break_connection(&mut state, pair(node, *other), silent);
            if let Some(connection) = state.connections.get_mut(&pair(node, *other)) {
                connection.up[super::connection::side(pair(node, *other), node)] = false;
            }
        }
        for other in others {
            self.fail_address_calls(&mut state, other, node, silent);
        }
        drop(state);
        // Its peer may reach for the network when it is dropped.
        drop(host);
    }

    /// The present connection of two nodes breaks, and both notice at once.
    pub fn break_between(&self, a: NodeId, b: NodeId) {
        let mut state = self.lock();
        self.break_connection(&mut state, pair(a, b), false);
    }

    /// No byte passes from one node to another.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        let mut state = self.lock();
        if !state.cuts.insert((from, to)) {
            return;
        }
        let pair = pair(from, to);
        if let Some(generation) = state.connections.get(&pair).map(|c| c.generation) {
            let at = self.machines.now_nanos() + state.notice();
            self.schedule(&mut state, at, Event::Silence(pair, generation));
        }
        self.fail_address_calls(&mut state, from, to, true);
        self.fail_address_calls(&mut state, to, from, true);
    }

    /// No byte passes between the groups.
    pub fn cut_groups(&self, left: &[NodeId], right: &[NodeId]) {
        for a in left {
            for b in right {
                self.cut(*a, *b);
                self.cut(*b, *a);
            }
        }
    }

    pub fn heal(&self, from: NodeId, to: NodeId) {
        let mut state = self.lock();
        if state.cuts.remove(&(from, to)) {
            self.release_held(&mut state, from, to);
        }
    }

    /// All cuts heal, and all links are as quick as by default and keep order.
    pub fn heal_all(&self) {
        let cuts = self.lock().cuts.clone();
        for (from, to) in cuts {
            self.heal(from, to);
        }
        let mut state = self.lock();
        state.slow.clear();
        state.unruly.clear();
    }

    /// From now on what goes from one node to another takes that many nanoseconds.
    pub fn slow_down(&self, from: NodeId, to: NodeId, latency_nanos: Range<u64>) {
        self.lock().slow.insert((from, to), latency_nanos);
    }

    /// The direction is as quick as by default.
    pub fn speed_up(&self, from: NodeId, to: NodeId) {
        self.lock().slow.remove(&(from, to));
    }

    /// Whether messages from one node to another arrive late, and twice.
    pub fn set_unruly(&self, from: NodeId, to: NodeId, unruly: bool) {
        let mut state = self.lock();
        match unruly {
            true => state.unruly.insert((from, to)),
            false => state.unruly.remove(&(from, to)),
        };
    }

    fn fail_address_calls(&self, state: &mut State, asker: NodeId, to: NodeId, silent: bool) {
        let calls = state.hosts.get(&asker).map(|host| &host.calls);
        let calls = calls.into_iter().flatten();
        let waiting: Vec<u64> = calls
            .filter(|(_, call)| call.to == to && call.generation.is_none())
            .map(|(id, _)| *id)
            .collect();
        for call in waiting {
            let delay = match silent {
                true => state.notice(),
                false => state.latency(to, asker),
            };
            let at = self.machines.now_nanos() + delay;
            self.schedule(state, at, Event::FailCall(asker, call));
        }
    }
}
