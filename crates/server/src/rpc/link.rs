//! The one connection that this node makes to a peer, made again whenever it breaks.
//!
//! ```text
//!            ┌─────────── a new address, a new name of this node ────────┐
//!            ▼                                                           │
//!  dialling ──► up ──► broken: what waits is lost, calls fail ──► waiting┤
//!     └── failed ─────────────────▲                                  └───┴─► dialling
//! ```
//!
//! While dialling, the outbox takes things in already; while waiting, it takes nothing.

use crate::rpc::Setup;
use crate::rpc::calls::Calls;
use crate::rpc::handshake::{self, Agreed, HandshakeError};
use crate::rpc::hello::{Identity, Purpose};
use crate::rpc::limits::Limits;
use crate::rpc::metrics::Meter;
use crate::rpc::outbox::Outbox;
use crate::rpc::presence::Presence;
use crate::rpc::pump::Pump;
use crate::rpc::quiet::Quiet;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use types::StoreId;
use types::env::{BoxFuture, CallError, Rng};

pub struct Link {
    peer: StoreId,
    limits: Limits,
    outbox: Outbox,
    calls: Arc<Calls>,
    meter: Arc<Meter>,
    target: watch::Sender<Target>,
    complaints: Quiet,
}

/// Where the peer is.
struct Target {
    address: String,
    /// Grows with each sign that the peer is there: no need to wait before the next attempt.
    signs: u64,
}

/// Why an attempt or a connection ended.
enum End {
    Broken(String),
    Failed(HandshakeError),
    /// This node has a better idea of where the peer is, or of what itself is called.
    Outdated(String),
}

impl Link {
    pub fn new(peer: StoreId, address: &str, limits: Limits) -> Self {
        Link {
            peer,
            limits,
            outbox: Outbox::new(limits),
            calls: Arc::default(),
            meter: Arc::new(Meter::new(Some(peer))),
            target: watch::Sender::new(Target {
                address: address.to_string(),
                signs: 0,
            }),
            complaints: Quiet::default(),
        }
    }

    pub fn send(&self, message: Bytes) {
        self.sent(self.outbox.push_message(message));
    }

    pub fn send_ahead(&self, message: Bytes) {
        self.sent(self.outbox.push_ahead(message));
    }

    fn sent(&self, queued: Result<(), String>) {
        if let Err(why) = queued {
            self.meter.lost_messages.increment(1);
            tracing::trace!(peer = %self.peer, why, "a message is lost");
        }
    }

    pub fn call(self: Arc<Self>, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        Box::pin(async move {
            let calls = Arc::clone(&self.calls);
            let (meter, most) = (Arc::clone(&self.meter), self.limits.pending_calls);
            calls.call(&self.outbox, meter, most, request).await
        })
    }

    /// Where the peer is from now on. A connection to another place ends.
    pub fn aim(&self, address: &str) {
        self.target.send_if_modified(|target| {
            let moved = target.address != address;
            if moved {
                target.address = address.to_string();
            }
            moved
        });
    }

    /// The peer was heard of, at this address.
    pub fn sign(&self, address: &str) {
        self.target.send_modify(|target| {
            target.address = address.to_string();
            target.signs += 1;
        });
    }

    /// Loses what waits, and fails the calls.
    pub fn break_off(&self, why: &str) {
        let unsent = self.outbox.close(why);
        self.calls.fail(&unsent, why);
    }

    /// Keeps the connection until the task is dropped.
    pub async fn run(self: Arc<Self>, setup: Arc<Setup>, presence: Arc<Presence>) {
        let mut target = self.target.subscribe();
        let mut me = setup.me.clone();
        let mut backoff = Backoff::new(&self.limits);
        loop {
            let address = target.borrow_and_update().address.clone();
            let identity = me.borrow_and_update().clone();
            self.outbox.open();
            let end = tokio::select! {
                biased;
                end = outdated(&mut target, &address, &mut me) => end,
                end = self.attempt(&setup, &presence, &identity, &address, &mut backoff) => end,
            };
            // The attempt may have been dropped in the middle of a connection.
            presence.there(self.peer, false);
            self.ended(&address, &end);
            if matches!(end, End::Outdated(_)) {
                continue;
            }
            tokio::select! {
                biased;
                // Whatever changed, it is a reason to try again now.
                _ = target.changed() => {}
                () = changed(&mut me) => {}
                () = tokio::time::sleep(backoff.next(&*setup.env.rng)) => {}
            }
        }
    }

    async fn attempt(
        &self,
        setup: &Setup,
        presence: &Presence,
        me: &Identity,
        address: &str,
        backoff: &mut Backoff,
    ) -> End {
        let dialled = handshake::dial(setup, me, address, Purpose::Link, Some(self.peer)).await;
        let agreed = match dialled {
            Ok(agreed) => agreed,
            Err(error) => return End::Failed(error),
        };
        tracing::info!(peer = %self.peer, address, "connected to a node");
        self.complaints.forget();
        self.meter.connections.increment(1);
        presence.there(self.peer, true);
        let since = Instant::now();
        let why = carry_calls(agreed, &self.outbox, &self.calls, &self.meter, &self.limits).await;
        if since.elapsed() >= self.limits.backoff_longest {
            backoff.reset();
        }
        End::Broken(why)
    }

    fn ended(&self, address: &str, end: &End) {
        let (peer, why) = match end {
            End::Broken(why) | End::Outdated(why) => {
                tracing::info!(peer = %self.peer, address, why, "the connection to a node ends");
                self.break_off(why);
                return;
            }
            End::Failed(error) if error.passes_by_itself() => {
                tracing::debug!(peer = %self.peer, address, %error, "no connection to a node yet");
                self.break_off(&error.to_string());
                return;
            }
            End::Failed(error) => (self.peer, error.to_string()),
        };
        self.break_off(&why);
        if self.complaints.breaks(&why) {
            tracing::warn!(%peer, address, why, "no connection to a node");
        }
    }
}

/// Runs a connection on which this side calls, until it ends.
pub async fn carry_calls(
    agreed: Agreed,
    outbox: &Outbox,
    calls: &Calls,
    meter: &Meter,
    limits: &Limits,
) -> String {
    let Agreed {
        stream,
        codec,
        input,
        ..
    } = agreed;
    let pump = Pump::new(stream, codec, input, outbox, meter, limits, true);
    pump.run(|frame| {
        use crate::rpc::frame::Kind::{Answer, Failed, TurnedAway};
        match frame.kind {
            Answer | TurnedAway | Failed => {
                calls.finish(frame.kind, frame.id, frame.body);
                Ok(())
            }
            other => Err(format!("{other:?} on a connection that this node made")),
        }
    })
    .await
}

/// Completes when a connection to `address` under the name of before should be another one.
async fn outdated(
    target: &mut watch::Receiver<Target>,
    address: &str,
    me: &mut watch::Receiver<Identity>,
) -> End {
    let moved = async {
        let moved = target.wait_for(|target| target.address != address).await;
        moved.map(|target| target.address.clone()).ok()
    };
    let why = tokio::select! {
        biased;
        Some(address) = moved => format!("the peer is at {address} now"),
        () = changed(me) => "this node has a new name".to_string(),
    };
    End::Outdated(why)
}

/// Completes at the next change; never, if there can't be one.
async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Waits that grow, each with some chance in it, so that nodes do not come back in step.
struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    fn new(limits: &Limits) -> Self {
        Backoff {
            first: limits.backoff_first,
            longest: limits.backoff_longest,
            next: limits.backoff_first,
        }
    }

    fn reset(&mut self) {
        self.next = self.first;
    }

    /// Between half of the wait and the whole.
    fn next(&mut self, rng: &dyn Rng) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
        let share = (rng.next_u64() >> 32) as f64 / f64::from(u32::MAX);
        whole.mul_f64(0.5 + share / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest() {
        struct Highest;
        impl Rng for Highest {
            fn next_u64(&self) -> u64 {
                u64::MAX
            }
        }
        struct Lowest;
        impl Rng for Lowest {
            fn next_u64(&self) -> u64 {
                0
            }
        }
        let mut backoff = Backoff::new(&Limits {
            backoff_first: Duration::from_millis(20),
            backoff_longest: Duration::from_millis(70),
            ..Limits::default()
        });
        let mut waits: Vec<u128> = (0..4).map(|_| backoff.next(&Highest).as_millis()).collect();
        backoff.reset();
        waits.push(backoff.next(&Lowest).as_millis());
        assert_eq!(waits, [20, 40, 70, 70, 10]);
    }
}
