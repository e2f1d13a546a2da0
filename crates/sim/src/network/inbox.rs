//! What has arrived at a node, or is about to, and the task of the node that hands it to its peer. As it is a
//! task of the node, a stopped node takes nothing in.

use super::{Network, NodeId};
use bytes::Bytes;
use node::rpc::Part;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use types::StoreId;
use types::env::{CallError, Env, Peer};

/// Something for a node.
pub(super) enum Delivery {
    Message {
        sender: NodeId,
        from: StoreId,
        generation: u64,
        message: Bytes,
    },
    Call(Call),
    Answer {
        sender: NodeId,
        generation: Option<u64>,
        call: u64,
        answer: Result<Bytes, CallError>,
    },
    /// Messages to this store and from it pass, or pass no more.
    Connected(StoreId, bool),
}

pub(super) struct Call {
    pub(super) sender: NodeId,
    pub(super) sender_life: u64,
    pub(super) from: Option<StoreId>,
    /// `None`: it goes to an address.
    pub(super) generation: Option<u64>,
    pub(super) id: u64,
    pub(super) request: Bytes,
}

impl Delivery {
    pub(super) fn came_over(&self, other: NodeId, connection: u64) -> bool {
        let (sender, generation) = match self {
            Delivery::Message {
                sender, generation, ..
            } => (*sender, Some(*generation)),
            Delivery::Call(call) => (call.sender, call.generation),
            Delivery::Answer {
                sender, generation, ..
            } => (*sender, *generation),
            Delivery::Connected(..) => return false,
        };
        sender == other && generation == Some(connection)
    }

    /// Whether it may arrive although its connection broke.
    pub(super) fn outlives_connection(&self) -> bool {
        matches!(self, Delivery::Message { .. } | Delivery::Call(_))
    }

    /// Whether its receiver bears it twice, and after what was sent later: it says how something stands.
    pub(super) fn is_harmless_anywhere(&self) -> bool {
        match self {
            Delivery::Message { message, .. } => {
                matches!(Part::of(message), Some(Part::Raft | Part::Gossip))
            }
            _ => false,
        }
    }

    /// The same once more.
    pub(super) fn again(&self) -> Option<Delivery> {
        match self {
            Delivery::Message {
                sender,
                from,
                generation,
                message,
            } => Some(Delivery::Message {
                sender: *sender,
                from: *from,
                generation: *generation,
                message: message.clone(),
            }),
            _ => None,
        }
    }

    /// Calls and answers overtake each other, messages do not.
    pub(super) fn keeps_order(&self) -> bool {
        matches!(self, Delivery::Message { .. })
    }
}

/// Something for a node, and who takes it, if the process serves already.
type Arrived = (Option<Arc<dyn Peer>>, Delivery);

impl Network {
    /// Runs for as long as the process does.
    pub(super) async fn hand_in(self, node: NodeId, life: u64) {
        let env = self.machines.env(node);
        while let Some((peer, delivery)) = poll_fn(|context| self.next(node, life, context)).await {
            self.deliver(node, &env, peer, delivery);
        }
    }

    /// What has arrived, in its order. `None`: the process is gone.
    fn next(&self, node: NodeId, life: u64, context: &Context<'_>) -> Poll<Option<Arrived>> {
        let mut state = self.lock();
        if !state.lives(node, life) {
            return Poll::Ready(None);
        }
        let Some(host) = state.hosts.get_mut(&node) else {
            return Poll::Ready(None);
        };
        if host.waker.is_none() {
            host.waker = Some(context.waker().clone());
            for (at, _) in host.inbox.keys() {
                self.machines.wake_at(*at, context.waker().clone());
            }
        }
        match host.inbox.first_entry() {
            Some(first) if first.key().0 <= self.machines.moment_nanos(node) => {
                let delivery = first.remove();
                let peer = host.named.as_ref().map(|(_, peer)| Arc::clone(peer));
                if matches!(delivery, Delivery::Message { .. }) {
                    state.stats.messages_arrived += 1;
                }
                Poll::Ready(Some((peer, delivery)))
            }
            _ => Poll::Pending,
        }
    }

    fn deliver(&self, node: NodeId, env: &Env, peer: Option<Arc<dyn Peer>>, delivery: Delivery) {
        match (peer, delivery) {
            (_, Delivery::Answer { call, answer, .. }) => {
                let mut state = self.lock();
                let host = state.hosts.get_mut(&node);
                let call = host.and_then(|host| host.calls.remove(&call));
                drop(state);
                if let Some(call) = call {
                    // The asker may have gone away.
                    let _ = call.answer.send(answer);
                }
            }
            (Some(peer), Delivery::Message { from, message, .. }) => peer.message(from, message),
            (Some(peer), Delivery::Connected(store, up)) => peer.connected(store, up),
            (Some(peer), Delivery::Call(call)) => {
                let network = self.clone();
                env.spawn.spawn(
                    "call",
                    Box::pin(async move {
                        let answer = peer.call(call.from, call.request.clone()).await;
                        network.answer(node, &call, Ok(answer));
                    }),
                );
            }
            (None, Delivery::Call(call)) => {
                let refused = CallError::Unsent("nobody listens there".to_owned());
                self.answer(node, &call, Err(refused));
            }
            (None, _) => {}
        }
    }

    fn answer(&self, node: NodeId, call: &Call, answer: Result<Bytes, CallError>) {
        let mut state = self.lock();
        // An answer to an earlier life of the asker goes nowhere.
        if !state.lives(call.sender, call.sender_life) {
            return;
        }
        let delivery = Delivery::Answer {
            sender: node,
            generation: call.generation,
            call: call.id,
            answer,
        };
        match call.generation {
            Some(generation) => {
                if state.generation(node, call.sender) == Some(generation) {
                    self.send_in_order(&mut state, node, call.sender, delivery);
                }
            }
            None if state.is_cut_somehow(node, call.sender) => {}
            None => {
                let latency = state.latency(node, call.sender);
                let at = self.machines.moment_nanos(node) + latency;
                self.put(&mut state, call.sender, at, delivery);
            }
        }
    }
}
