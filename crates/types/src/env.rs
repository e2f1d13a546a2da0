//! The traits through which pure code and async flows reach the world.
//!
//! `server` implements them with real clocks, OS randomness and tokio; `sim` with virtual ones.
//! Nothing outside those two crates may tell time, roll dice, or start a task in another way.

use crate::StoreId;
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub trait Clock: Send + Sync {
    /// Wall time: microseconds since the Unix epoch. May jump.
    fn wall_micros(&self) -> i64;

    /// Monotonic time: nanoseconds since an arbitrary start. Never goes back.
    fn monotonic_nanos(&self) -> u64;

    /// Completes once `duration` of monotonic time has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<()>;
}

pub trait Rng: Send + Sync {
    fn next_u64(&self) -> u64;
}

pub trait Spawn: Send + Sync {
    /// Runs `task` to its end beside the others.
    fn spawn(&self, name: &'static str, task: BoxFuture<()>);

    /// Runs `task` to its end on a thread of its own, which it may block (a disk sync). A host of
    /// one thread runs it beside the others.
    fn spawn_thread(&self, name: &'static str, task: BoxFuture<()>) {
        self.spawn(name, task);
    }
}

/// The network as a node sees it. Peers are known by their stores' names; the host finds their addresses
/// ([`Transport::learn`]) and keeps connections to them.
pub trait Transport: Send + Sync {
    /// Hands a message over. It arrives once, after those handed over before it, or it is lost: the peer is
    /// not known or not reachable, the connection breaks, too much waits already.
    fn send(&self, to: StoreId, message: Bytes);

    /// The same for a short message that may overtake others: it does not wait behind long ones.
    fn send_ahead(&self, to: StoreId, message: Bytes) {
        self.send(to, message);
    }

    /// Asks a peer, and waits for its answer for as long as the connection lives.
    fn call(&self, to: StoreId, request: Bytes) -> BoxFuture<Result<Bytes, CallError>>;

    /// The same of whoever listens at `address`: for a node that has no peers yet.
    fn call_address(&self, address: &str, request: Bytes) -> BoxFuture<Result<Bytes, CallError>>;

    /// Where a peer is from now on.
    fn learn(&self, peer: StoreId, address: &str);
}

/// A call without answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The peer never saw it.
    Unsent(String),
    /// The peer may have carried it out.
    Broken(String),
}

/// The network of a node that has no peers.
pub struct NoTransport;

impl Transport for NoTransport {
    fn send(&self, _to: StoreId, _message: Bytes) {}

    fn call(&self, _to: StoreId, _request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        let alone = CallError::Unsent("this node has no peers".to_owned());
        Box::pin(std::future::ready(Err(alone)))
    }

    fn call_address(&self, _address: &str, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        self.call(StoreId(0), request)
    }

    fn learn(&self, _peer: StoreId, _address: &str) {}
}

/// A node as its peers see it: the host hands in what they send. Must not block.
pub trait Peer: Send + Sync {
    fn message(&self, from: StoreId, message: Bytes);

    /// `from` is nobody while the asking node has no name yet.
    fn call(&self, from: Option<StoreId>, request: Bytes) -> BoxFuture<Bytes>;

    /// Messages to `peer` and from it pass again, or are lost from now on.
    fn connected(&self, peer: StoreId, connected: bool);
}

/// All of the world a node may touch, handed in by its host.
#[derive(Clone)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub spawn: Arc<dyn Spawn>,
}
