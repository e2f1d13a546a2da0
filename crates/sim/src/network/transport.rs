//! A node's access to the network.

use super::connection::pair;
use super::inbox::Call;
use super::{Delivery, Network, NodeId, PendingCall, State};
use bytes::Bytes;
use futures::channel::oneshot;
use std::sync::Arc;
use types::StoreId;
use types::env::{BoxFuture, CallError, Peer, Transport};

/// The network as one life of a node sees it.
pub struct SimTransport {
    pub(super) network: Network,
    pub(super) node: NodeId,
    pub(super) life: u64,
}

impl SimTransport {
    /// Takes messages from now on, under this name.
    pub fn serve(&self, name: StoreId, peer: Arc<dyn Peer>) {
        if self.network.machines.life(self.node) == self.life {
            self.network.serve(self.node, name, peer);
        }
    }

    /// Puts a call on its way; `sent` says what became of that.
    fn start_call(
        &self,
        to: NodeId,
        over_connection: bool,
        request: Bytes,
    ) -> oneshot::Receiver<Result<Bytes, CallError>> {
        let (answer, answered) = oneshot::channel();
        let mut state = self.network.lock();
        state.stats.calls_sent += 1;
        let generation = match over_connection {
            true => state.generation(self.node, to),
            false => None,
        };
        let id = state.next_id();
        let call = Delivery::Call(Call {
            sender: self.node,
            sender_life: self.life,
            from: state.hosts.get(&self.node).and_then(|host| host.name()),
            generation,
            id,
            request,
        });
        let unsent = match over_connection {
            true => !self.network.send_in_order(&mut state, self.node, to, call),
            false => !self.send_to_address(&mut state, to, call),
        };
        if unsent {
            state.stats.calls_failed += 1;
            let why = CallError::Unsent("no connection".to_owned());
            // The receiver is in this function.
            let _ = answer.send(Err(why));
        } else if let Some(host) = state.hosts.get_mut(&self.node) {
            let pending = PendingCall {
                to,
                generation,
                answer,
            };
            host.calls.insert(id, pending);
        }
        answered
    }

    fn send_to_address(&self, state: &mut State, to: NodeId, call: Delivery) -> bool {
        if state.is_cut_somehow(self.node, to) || !state.hosts.contains_key(&to) {
            return false;
        }
        let latency = state.latency(self.node, to);
        let at = self.network.machines.moment_nanos(self.node) + latency;
        self.network.put(state, to, at, call);
        true
    }
}

async fn answer(answered: oneshot::Receiver<Result<Bytes, CallError>>) -> Result<Bytes, CallError> {
    match answered.await {
        Ok(answer) => answer,
        Err(oneshot::Canceled) => Err(CallError::Broken("the process is gone".to_owned())),
    }
}

fn nowhere(why: &str) -> BoxFuture<Result<Bytes, CallError>> {
    let error = CallError::Unsent(why.to_owned());
    Box::pin(std::future::ready(Err(error)))
}

impl Transport for SimTransport {
    fn send(&self, to: StoreId, message: Bytes) {
        let mut state = self.network.lock();
        if !state.lives(self.node, self.life) {
            return;
        }
        state.stats.messages_sent += 1;
        let from = state.hosts.get(&self.node).and_then(|host| host.name());
        let (Some(from), Some(to)) = (from, state.node_named(to)) else {
            return;
        };
        if let Some(generation) = state.generation(self.node, to) {
            let message = Delivery::Message {
                sender: self.node,
                from,
                generation,
                message,
            };
            self.network
                .send_in_order(&mut state, self.node, to, message);
        }
    }

    fn call(&self, to: StoreId, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        let found = {
            let state = self.network.lock();
            let lives = state.lives(self.node, self.life);
            lives.then(|| state.node_named(to)).flatten()
        };
        match found {
            Some(to) => Box::pin(answer(self.start_call(to, true, request))),
            None => nowhere("the peer is not known"),
        }
    }

    fn call_address(&self, address: &str, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        let found = {
            let state = self.network.lock();
            let lives = state.lives(self.node, self.life);
            let mut hosts = state.hosts.iter();
            let found = hosts.find(|(_, host)| host.address == address);
            found.map(|(node, _)| *node).filter(|_| lives)
        };
        match found {
            Some(to) => Box::pin(answer(self.start_call(to, false, request))),
            None => nowhere("nobody listens there"),
        }
    }

    fn learn(&self, peer: StoreId, address: &str) {
        let mut state = self.network.lock();
        if !state.lives(self.node, self.life) {
            return;
        }
        if let Some(host) = state.hosts.get_mut(&self.node) {
            host.known.insert(peer, address.to_owned());
        }
        if let Some(other) = state.node_named(peer) {
            self.network.dial(&mut state, self.node, other);
        }
    }
}

impl State {
    /// Which connection between two nodes the next message goes over.
    pub(super) fn generation(&self, a: NodeId, b: NodeId) -> Option<u64> {
        let connection = self.connections.get(&pair(a, b))?;
        Some(connection.generation)
    }
}
