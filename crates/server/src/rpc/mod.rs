//! The network between nodes: [`types::env::Transport`] and [`types::env::Peer`] over TCP.
//!
//! A node makes one connection to each peer it knows of and takes one from each. What it sends and asks goes
//! over the one it made; answers come back on the same.
//!
//! ```text
//!  node A                                                      node B
//!  RpcTransport ─► Link ─ Outbox ─► Pump ═══ socket ═══► Pump ─► RpcServer ─► Peer
//!                   └── Calls ◄───────┘ answers          └── Outbox ◄── the call's task
//! ```
//!
//! - [`RpcTransport`] finds the peer's `link`, which dials, says who it is (`handshake`, `hello`), and dials
//!   again when the connection breaks: after a wait that grows, or at once if the peer is somewhere else now, or
//!   if it connected itself.
//! - An `outbox` holds what waits, up to a bound in bytes and in items. What does not fit is dropped (messages)
//!   or fails (calls). All that waits when the socket is free is written at once.
//! - A `pump` is the one task of a connection; it writes from the outbox and cuts what it reads into `frame`s.
//! - [`RpcServer`] gives messages to the [`Peer`](types::env::Peer) in its reading task, and each call to a task of its own.
//!
//! # What is promised
//!
//! - Messages to one peer arrive in the order in which they were handed over, each once, or are lost. That holds
//!   over reconnects: a peer ends the connection of before first, and then lets the new one in.
//! - A call that fails as [`Unsent`](types::env::CallError::Unsent) was not carried out.
//! - `connected` is told in the order of the changes. It is true while both connections of a pair stand.
//! - A connection on which nothing is heard for [`limits::Limits::silence`] is dead, and its calls fail.
//! - Bytes that are no frames, frames that are too long and damaged ones close their connection, and nothing else.
//!
//! # Large bodies
//!
//! Calls of more than [`limits::PIECE_BYTES`] travel in pieces, between which all else passes. Messages keep
//! their order, so a long message holds up the messages behind it (but no calls): send what is large by `call`, and
//! what must not wait by `send_ahead`.
//!
//! # Who is let in
//!
//! With certificates ([`tls`], made by `phantomdb cert`), both sides must prove to be nodes of the cluster's
//! authority. Without, only this machine is listened to ([`exposed`]), unless the operator says `--insecure`. Then both
//! say their protocol, version, cluster, store, address and clock, and either may refuse; the reason is logged by both.
//! A node that joins says no store. Once it has one, its connections are made anew under it.
//!
//! # How to use it
//!
//! ```text
//! let me = watch::Sender::new(Identity { cluster, store, address: "db1.example.com:5451".into() });
//! let tls = config.certs_dir.as_deref().map(RpcTls::load).transpose()?;
//! let transport = RpcTransport::new(Setup::new(me.subscribe(), tls, config.max_clock_offset, env));
//! let node = Node::open(…, Arc::clone(&transport) as Arc<dyn Transport>);   // an Arc<dyn Peer>
//! tokio::spawn(RpcServer::serve(listener, transport, node, stopping));
//! me.send_modify(|me| me.store = Some(StoreId(4)));                          // once it has joined
//! ```
//!
//! `call_address` works before the server runs; `connected` is told from when it runs.
//!
//! Not here: which addresses there are (discovery), compression, new certificates without a restart.

mod calls;
pub mod frame;
pub mod handshake;
pub mod hello;
pub mod limits;
mod link;
mod metrics;
pub mod outbox;
mod pieces;
mod presence;
mod pump;
mod quiet;
mod server;
#[cfg(test)]
mod tests;
pub mod tls;
mod transport;

pub use hello::Identity;
pub use server::RpcServer;
pub use tls::RpcTls;
pub use transport::RpcTransport;

use crate::wire::is_loopback;
use limits::Limits;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;
use types::env::Env;

/// What the network between nodes runs with.
pub struct Setup {
    /// What this node says of itself. A change makes its connections anew.
    pub me: watch::Receiver<Identity>,
    /// None: everything is in the clear, and everybody is a node.
    pub tls: Option<RpcTls>,
    /// How far the clock of another node may be off.
    pub max_clock_offset: Duration,
    pub env: Env,
    pub limits: Limits,
}

impl Setup {
    pub fn new(
        me: watch::Receiver<Identity>,
        tls: Option<RpcTls>,
        max_clock_offset: Duration,
        env: Env,
    ) -> Self {
        Setup {
            me,
            tls,
            max_clock_offset,
            env,
            limits: Limits::default(),
        }
    }
}

/// Why a node must not listen for others on `address`, if it must not: machines that can reach it could act as
/// nodes.
pub fn exposed(address: SocketAddr, has_certificates: bool, insecure: bool) -> Option<String> {
    if has_certificates || insecure || is_loopback(address.ip()) {
        return None;
    }
    Some(format!(
        "refusing to listen for other nodes on {address}, which other machines can reach: there are no certificates.\n\
         Hint: make them with `phantomdb cert create-ca` and `phantomdb cert create-node`, then start with \
         --certs-dir. Or give --insecure to let every machine act as a node of the cluster."
    ))
}

#[cfg(test)]
mod exposure {
    use super::exposed;

    #[test]
    fn without_certificates_only_this_machine_is_heard() {
        let judged = |address: &str, certificates, insecure| {
            exposed(address.parse().expect("an address"), certificates, insecure)
        };
        assert_eq!(judged("127.0.0.1:5451", false, false), None);
        assert_eq!(judged("[::1]:5451", false, false), None);
        assert_eq!(judged("0.0.0.0:5451", true, false), None);
        assert_eq!(judged("10.0.0.1:5451", false, true), None);
        for address in ["0.0.0.0:5451", "10.0.0.1:5451", "[::]:5451"] {
            let why = judged(address, false, false).expect("everybody could be a node");
            assert!(
                why.contains(address) && why.contains("--certs-dir"),
                "{why}"
            );
        }
    }
}
