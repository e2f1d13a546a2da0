//! Connections: how they come up, break, and carry messages.

use super::{Delivery, Held, Network, NodeId, State};
use std::future::poll_fn;
use std::task::Poll;
use types::StoreId;

/// Two nodes, the lower one first.
pub(super) type Pair = (NodeId, NodeId);

/// Messages that wait on one direction of a connection, at most; more are lost, as the trait allows.
const HELD_MESSAGES: usize = 10_000;

/// Of the messages on an unruly direction: how many arrive twice, and how many late.
const UNRULY_PERCENT: u64 = 20;
/// By how much, at most.
const UNRULY_NANOS: u64 = 2_000_000_000;

/// The connection of a pair, past or present. Sides are those of the [`Pair`].
#[derive(Default)]
pub(super) struct Connection {
    /// Counts the connections of this pair.
    pub(super) generation: u64,
    /// Bytes pass, or wait for a cut to heal.
    pub(super) alive: bool,
    /// What each side believes.
    pub(super) up: [bool; 2],
    /// Who the sides are, by name.
    names: Option<[StoreId; 2]>,
    /// An attempt is under way.
    dialing: bool,
    /// When the last message to each side arrives.
    last_arrival: [u64; 2],
    /// What waits for the direction to each side to heal.
    pub(super) held: [Held; 2],
}

/// What happens to connections at a time.
pub(super) enum Event {
    /// An attempt of the pair to connect comes to its end.
    Dial(Pair),
    /// Nothing has passed for a while: if that is still so, a connection of this generation breaks.
    Silence(Pair, u64),
    /// The node, one of the pair, notices that this generation is gone.
    Notice(Pair, NodeId, u64),
    /// A call to an address gets no answer any more.
    FailCall(NodeId, u64),
}

pub(super) fn pair(a: NodeId, b: NodeId) -> Pair {
    (a.min(b), a.max(b))
}

/// Which side of its pair a node is.
pub(super) fn side(pair: Pair, node: NodeId) -> usize {
    usize::from(node == pair.1)
}

impl Network {
    /// Runs for ever.
    pub(super) async fn carry_out_events(self) {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.waker.is_none() {
                state.waker = Some(context.waker().clone());
                for (at, _) in state.events.keys() {
                    self.machines.wake_at(*at, context.waker().clone());
                }
            }
            let now = self.machines.now_nanos();
            while let Some(first) = state.events.first_entry()
                && first.key().0 <= now
            {
                let event = first.remove();
                self.carry_out(&mut state, event);
            }
            Poll::Pending
        })
        .await
    }

    fn carry_out(&self, state: &mut State, event: Event) {
        match event {
            Event::Dial(pair) => self.dialed(state, pair),
            Event::Silence(pair, generation) => {
                let connection = state.connections.get(&pair);
                let same = connection.is_some_and(|c| c.alive && c.generation == generation);
                if same && state.is_cut_somehow(pair.0, pair.1) {
                    self.break_connection(state, pair, true);
                }
            }
            Event::Notice(pair, node, generation) => {
                let connection = state.connections.get(&pair);
                if connection.is_some_and(|c| c.generation == generation) {
                    self.notice(state, pair, node);
                }
            }
            Event::FailCall(node, call) => {
                let host = state.hosts.get_mut(&node);
                if let Some(call) = host.and_then(|host| host.calls.remove(&call)) {
                    state.stats.calls_failed += 1;
                    call.broke("no answer");
                }
            }
        }
    }

    /// Starts an attempt to connect two nodes, unless one is under way or not needed.
    pub(super) fn dial(&self, state: &mut State, a: NodeId, b: NodeId) {
        if a == b || !(knows(state, a, b) || knows(state, b, a)) {
            return;
        }
        let pair = pair(a, b);
        let connection = state.connections.entry(pair).or_default();
        if connection.dialing || (connection.alive && connection.up == [true; 2]) {
            return;
        }
        connection.dialing = true;
        let delay = state.latency(a, b) + state.latency(b, a);
        let at = self.machines.now_nanos() + delay;
        self.schedule(state, at, Event::Dial(pair));
    }

    fn dialed(&self, state: &mut State, pair: Pair) {
        let (a, b) = pair;
        if let Some(connection) = state.connections.get_mut(&pair) {
            connection.dialing = false;
            if connection.alive {
                return;
            }
        }
        if !(knows(state, a, b) || knows(state, b, a)) {
            return;
        }
        let names = [a, b].map(|node| state.hosts.get(&node).and_then(|host| host.name()));
        let (Some(name_a), Some(name_b)) = (names[0], names[1]) else {
            return self.redial(state, pair);
        };
        if state.is_cut_somehow(a, b) {
            return self.redial(state, pair);
        }
        // A side that has not noticed yet that the last one broke is told now.
        for node in [a, b] {
            self.notice(state, pair, node);
        }
        let now = self.machines.now_nanos();
        let connection = state.connections.entry(pair).or_default();
        connection.generation += 1;
        connection.alive = true;
        connection.up = [true; 2];
        connection.names = Some([name_a, name_b]);
        connection.last_arrival = [now; 2];
        state.stats.connections_made += 1;
        self.put(state, a, now, Delivery::Connected(name_b, true));
        self.put(state, b, now, Delivery::Connected(name_a, true));
    }

    fn redial(&self, state: &mut State, pair: Pair) {
        if let Some(connection) = state.connections.get_mut(&pair) {
            connection.dialing = true;
        }
        let pause = state.options.redial_nanos.clone();
        let at = self.machines.now_nanos() + state.draw(&pause);
        self.schedule(state, at, Event::Dial(pair));
    }

    /// Ends the present connection of a pair. `silent`: each side notices on its own, later.
    pub(super) fn break_connection(&self, state: &mut State, pair: Pair, silent: bool) {
        let Some(connection) = state.connections.get_mut(&pair) else {
            return;
        };
        if !std::mem::take(&mut connection.alive) {
            return;
        }
        let generation = connection.generation;
        connection.held = Default::default();
        state.stats.connections_broken += 1;
        let now = self.machines.now_nanos();
        for (node, other) in [pair, (pair.1, pair.0)] {
            self.lose_most(state, node, other, generation, silent);
            let delay = match silent {
                true => state.notice(),
                false => state.latency(other, node),
            };
            self.schedule(state, now + delay, Event::Notice(pair, node, generation));
        }
    }

    /// Drops what is under way to `node` on this connection, but for the stragglers.
    fn lose_most(
        &self,
        state: &mut State,
        node: NodeId,
        other: NodeId,
        generation: u64,
        silent: bool,
    ) {
        let chance = match silent {
            true => state.options.straggler_percent,
            false => state.options.sent_percent,
        };
        let pause = state.options.redial_nanos.clone();
        let now = self.machines.now_nanos();
        let Some(host) = state.hosts.get_mut(&node) else {
            return;
        };
        let is_lost =
            |_: &(u64, u64), delivery: &mut Delivery| delivery.came_over(other, generation);
        let under_way: Vec<_> = host.inbox.extract_if(.., is_lost).collect();
        // In their order, with one delay for all: they wait in one buffer.
        let delay = state.draw(&pause);
        for ((arrival, _), delivery) in under_way {
            if state.dice.percent(chance) && delivery.outlives_connection() {
                let at = arrival.max(now) + delay;
                state.stats.messages_late += 1;
                self.put(state, node, at, delivery);
            }
        }
    }

    /// A side gives up a connection that is gone: it is told, its calls fail, and it dials anew.
    fn notice(&self, state: &mut State, pair: Pair, node: NodeId) {
        let other = if node == pair.0 { pair.1 } else { pair.0 };
        let Some(connection) = state.connections.get_mut(&pair) else {
            return;
        };
        if connection.alive || !std::mem::take(&mut connection.up[side(pair, node)]) {
            return;
        }
        let (generation, names) = (connection.generation, connection.names);
        let Some(host) = state.hosts.get_mut(&node) else {
            return;
        };
        let broken = host.calls.extract_if(.., |_, call| {
            call.to == other && call.generation == Some(generation)
        });
        let broken: Vec<_> = broken.collect();
        state.stats.calls_failed += broken.len() as u64;
        for (_, call) in broken {
            call.broke("the connection broke");
        }
        if let Some(names) = names {
            let now = self.machines.now_nanos();
            let name = names[side(pair, other)];
            self.put(state, node, now, Delivery::Connected(name, false));
        }
        self.dial(state, node, other);
    }

    /// Sends on the connection from one node to another, in order. `false`: there is none.
    pub(super) fn send_in_order(
        &self,
        state: &mut State,
        from: NodeId,
        to: NodeId,
        delivery: Delivery,
    ) -> bool {
        let pair = pair(from, to);
        let cut = state.is_cut(from, to);
        let latency = state.latency(from, to);
        let Some(connection) = state.connections.get_mut(&pair) else {
            return false;
        };
        if !connection.up[side(pair, from)] {
            return false;
        }
        if !connection.alive {
            // The sender does not know yet.
            return true;
        }
        let to_side = side(pair, to);
        if cut || !connection.held[to_side].is_empty() {
            if connection.held[to_side].len() < HELD_MESSAGES {
                connection.held[to_side].push_back(delivery);
            }
            return true;
        }
        let arrival = self.machines.moment_nanos(from) + latency;
        if state.unruly.contains(&(from, to)) && delivery.is_harmless_anywhere() {
            return self.send_unruly(state, to, arrival, delivery);
        }
        let Some(connection) = state.connections.get_mut(&pair) else {
            return false;
        };
        let arrival = match delivery.keeps_order() {
            true => {
                let arrival = arrival.max(connection.last_arrival[to_side]);
                connection.last_arrival[to_side] = arrival;
                arrival
            }
            false => arrival,
        };
        self.put(state, to, arrival, delivery);
        true
    }

    fn send_unruly(&self, state: &mut State, to: NodeId, arrival: u64, delivery: Delivery) -> bool {
        if state.dice.percent(UNRULY_PERCENT)
            && let Some(again) = delivery.again()
        {
            let at = arrival + state.dice.below(UNRULY_NANOS);
            state.stats.messages_twice += 1;
            self.put(state, to, at, again);
        }
        let late = match state.dice.percent(UNRULY_PERCENT) {
            true => state.dice.below(UNRULY_NANOS),
            false => 0,
        };
        state.stats.messages_late += u64::from(late > 0);
        self.put(state, to, arrival + late, delivery);
        true
    }

    /// A direction passes bytes again: what waited goes on its way.
    pub(super) fn release_held(&self, state: &mut State, from: NodeId, to: NodeId) {
        let pair = pair(from, to);
        let Some(connection) = state.connections.get_mut(&pair) else {
            return;
        };
        let held = std::mem::take(&mut connection.held[side(pair, to)]);
        for delivery in held {
            self.send_in_order(state, from, to, delivery);
        }
    }
}

/// Whether `a` can dial `b`: it has learnt where `b` listens now.
fn knows(state: &State, a: NodeId, b: NodeId) -> bool {
    let (Some(a), Some(b)) = (state.hosts.get(&a), state.hosts.get(&b)) else {
        return false;
    };
    let name = b.name();
    name.is_some_and(|name| a.known.get(&name) == Some(&b.address))
}
