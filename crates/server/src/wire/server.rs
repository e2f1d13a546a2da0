//! What all connections of a node share.

use crate::metrics::WireMetrics;
use crate::tls::Tls;
use sql::instance::Instance;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::Semaphore;

pub struct WireServer {
    pub instance: Arc<Instance>,
    /// Offered to every client, demanded of those on other machines.
    pub tls: Option<Tls>,
    /// Everybody is who they say they are.
    pub insecure: bool,
    /// Longest message that carries a statement or data, in bytes.
    pub max_message_bytes: usize,
    /// One permit per session.
    pub slots: Arc<Semaphore>,
    pub metrics: WireMetrics,
}

impl WireServer {
    /// Whether the client needs no password. A pipe within the process counts as this machine.
    pub fn trusts(&self, peer: Option<SocketAddr>) -> bool {
        self.insecure || peer.is_none_or(|peer| is_loopback(peer.ip()))
    }
}

/// Whether the address is this machine's own, also when written as an IPv4 address within IPv6.
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}
