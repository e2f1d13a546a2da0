//! Takes connections of other nodes.

use crate::rpc::frame::{Frame, Kind};
use crate::rpc::handshake::{Agreed, HandshakeError, Knock, within};
use crate::rpc::hello::Purpose;
use crate::rpc::limits::{ACCEPT_PAUSE, MAX_ACCEPTED, MAX_PEERS, MAX_SERVED_CALLS};
use crate::rpc::metrics::Meter;
use crate::rpc::outbox::Outbox;
use crate::rpc::pump::Pump;
use crate::rpc::quiet::Quiet;
use crate::rpc::transport::RpcTransport;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::task::JoinSet;
use types::StoreId;
use types::env::Peer;

/// The listening side.
pub struct RpcServer {
    transport: Arc<RpcTransport>,
    peer: Arc<dyn Peer>,
    seats: Seats,
    complaints: Quiet,
}

impl RpcServer {
    /// Hands what arrives at `listener` to `peer`, until `stop` turns true. Then all connections end.
    pub async fn serve(
        listener: TcpListener,
        transport: Arc<RpcTransport>,
        peer: Arc<dyn Peer>,
        mut stop: watch::Receiver<bool>,
    ) {
        transport.presence.listen(Arc::clone(&peer));
        let server = Arc::new(RpcServer {
            transport,
            peer,
            seats: Seats::default(),
            complaints: Quiet::default(),
        });
        // Dropped with this function, and the connections with it.
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept(), if connections.len() < MAX_ACCEPTED => accepted,
            };
            match accepted {
                Ok((tcp, from)) => {
                    let server = Arc::clone(&server);
                    connections.spawn(async move { server.connection(tcp, from).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection of another node could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, from: SocketAddr) {
        let admitted = within(&self.transport.setup, self.admit(tcp)).await;
        let (agreed, seat) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => return self.complain(from, &error),
        };
        let identity = agreed.peer.identity.clone();
        let carried = self.carry(agreed, seat.is_some());
        let Some(mut seat) = seat else {
            carried.await;
            return;
        };
        let store = seat.store;
        tracing::info!(peer = %store, %from, "a node connected");
        self.transport.heard(store, &identity.address);
        self.transport.presence.back(store, true);
        // Told also if this task is dropped.
        let _gone = Gone(&self.transport, store);
        let why = tokio::select! {
            biased;
            () = seat.claimed() => "it connected anew".to_string(),
            why = carried => why,
        };
        tracing::info!(peer = %store, %from, why, "the connection of a node ends");
    }

    /// The handshake. A link's sender has its seat from before the Welcome on: what it sends can't be
    /// mixed with what it sent on a connection before.
    async fn admit(&self, tcp: TcpStream) -> Result<(Agreed, Option<Seat>), HandshakeError> {
        let setup = &self.transport.setup;
        let me = setup.me.borrow().clone();
        let knock = Knock::hear(setup, &me, tcp).await?;
        let seat = match (knock.peer.purpose, knock.peer.identity.store) {
            (Purpose::Link, Some(store)) => {
                let seat = self.seats.claim(store).await;
                Some(seat.ok_or(HandshakeError::Superseded)?)
            }
            _ => None,
        };
        Ok((knock.welcome(setup, &me).await?, seat))
    }

    fn complain(&self, from: SocketAddr, error: &HandshakeError) {
        // A node without a name is called by one that others have told of it already: it has one soon.
        let is_joining = self.transport.setup.me.borrow().store.is_none();
        let passes = is_joining && matches!(error, HandshakeError::RefusedByPeer(_));
        let error = error.to_string();
        if !passes && self.complaints.breaks(&error) {
            tracing::warn!(%from, error, "a connection to this node's RPC address failed");
        } else {
            tracing::debug!(%from, error, "a connection to this node's RPC address failed");
        }
    }

    /// Runs a connection until it ends, and says why. Only a link `has_seat`, and brings messages.
    async fn carry(&self, agreed: Agreed, has_seat: bool) -> String {
        let Agreed {
            stream,
            codec,
            input,
            peer,
        } = agreed;
        let store = peer.identity.store;
        let setup = &self.transport.setup;
        let outbox = Arc::new(Outbox::new(setup.limits));
        let meter = Meter::new(store);
        let served = Served {
            peer: Arc::clone(&self.peer),
            outbox: Arc::clone(&outbox),
            calls: Arc::default(),
        };
        let pump = Pump::new(stream, codec, input, &outbox, &meter, &setup.limits, false);
        let why = pump
            .run(|Frame { kind, id, body, .. }| {
                match (kind, store) {
                    (Kind::Message, Some(from)) if has_seat => self.peer.message(from, body),
                    // Of a node without a name: nobody could answer.
                    (Kind::Message, _) => {}
                    (Kind::Request, _) => served.begin(store, id, body),
                    _ => return Err(format!("{kind:?} on a connection that the peer made")),
                }
                Ok(())
            })
            .await;
        outbox.close(&why);
        why
    }
}

/// The calls of one connection.
struct Served {
    peer: Arc<dyn Peer>,
    outbox: Arc<Outbox>,
    /// How many are being carried out.
    calls: Arc<AtomicUsize>,
}

impl Served {
    /// Starts a call as a task of its own. It goes on if the connection breaks.
    fn begin(&self, from: Option<StoreId>, id: u64, request: Bytes) {
        if self.calls.fetch_add(1, Ordering::Relaxed) >= MAX_SERVED_CALLS {
            self.calls.fetch_sub(1, Ordering::Relaxed);
            let why = "the node has too many calls to carry out";
            self.outbox.push_reason(Kind::TurnedAway, id, why);
            return;
        }
        let mut call = Call {
            outbox: Arc::clone(&self.outbox),
            calls: Arc::clone(&self.calls),
            id,
            answered: false,
        };
        let peer = Arc::clone(&self.peer);
        tokio::spawn(async move {
            let answer = peer.call(from, request).await;
            call.answered = true;
            call.outbox.push_outcome(Kind::Answer, id, answer);
        });
    }
}

/// A call that is being carried out. One that panics is a failure to its caller.
struct Call {
    outbox: Arc<Outbox>,
    calls: Arc<AtomicUsize>,
    id: u64,
    answered: bool,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
        if !self.answered {
            let why = "the call ended without an answer";
            self.outbox.push_reason(Kind::Failed, self.id, why);
        }
    }
}

/// A peer whose connection is about to end.
struct Gone<'a>(&'a RpcTransport, StoreId);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.presence.back(self.1, false);
    }
}

/// A store has one seat: its newest connection. The one before leaves it before the new one is welcomed, so
/// messages of two connections are never mixed.
#[derive(Default)]
struct Seats(Mutex<BTreeMap<StoreId, Arc<Chair>>>);

struct Chair {
    /// The number of the newest claim.
    newest: watch::Sender<u64>,
    taken: Arc<tokio::sync::Mutex<()>>,
}

struct Seat {
    store: StoreId,
    claim: u64,
    newest: watch::Receiver<u64>,
    _taken: OwnedMutexGuard<()>,
}

impl Seats {
    /// Nothing, if a yet newer connection was faster or there are too many stores.
    async fn claim(&self, store: StoreId) -> Option<Seat> {
        let chair = {
            let mut chairs = self.0.lock();
            if chairs.len() >= MAX_PEERS && !chairs.contains_key(&store) {
                return None;
            }
            Arc::clone(chairs.entry(store).or_insert_with(|| {
                Arc::new(Chair {
                    newest: watch::Sender::new(0),
                    taken: Arc::default(),
                })
            }))
        };
        let mut claim = 0;
        chair.newest.send_modify(|newest| {
            *newest += 1;
            claim = *newest;
        });
        let newest = chair.newest.subscribe();
        let _taken = Arc::clone(&chair.taken).lock_owned().await;
        let seat = Seat {
            store,
            claim,
            newest,
            _taken,
        };
        let is_newest = *seat.newest.borrow() == claim;
        is_newest.then_some(seat)
    }
}

impl Seat {
    /// Completes when a newer connection wants it. The chair is never dropped before its server.
    async fn claimed(&mut self) {
        let claim = self.claim;
        let _ = self.newest.wait_for(|newest| *newest != claim).await;
    }
}
