//! The network as this node's core uses it.

use crate::rpc::Setup;
use crate::rpc::calls::Calls;
use crate::rpc::handshake;
use crate::rpc::hello::Purpose;
use crate::rpc::limits::MAX_PEERS;
use crate::rpc::link::{Link, carry_calls};
use crate::rpc::metrics::{self, Meter};
use crate::rpc::outbox::Outbox;
use crate::rpc::presence::Presence;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use types::StoreId;
use types::env::{BoxFuture, CallError, Transport};

/// [`Transport`] over sockets. Its connections end with it.
pub struct RpcTransport {
    pub(crate) setup: Arc<Setup>,
    pub(crate) presence: Arc<Presence>,
    links: RwLock<BTreeMap<StoreId, Arc<Link>>>,
    /// A task for each link.
    tasks: Mutex<JoinSet<()>>,
    runtime: Handle,
    /// Of calls by address.
    meter: Arc<Meter>,
}

impl RpcTransport {
    /// Call within a tokio runtime: connections run on it.
    pub fn new(setup: Setup) -> Arc<RpcTransport> {
        metrics::describe();
        Arc::new(RpcTransport {
            setup: Arc::new(setup),
            presence: Arc::default(),
            links: RwLock::default(),
            tasks: Mutex::default(),
            runtime: Handle::current(),
            meter: Arc::new(Meter::new(None)),
        })
    }

    fn link(&self, peer: StoreId) -> Option<Arc<Link>> {
        self.links.read().get(&peer).cloned()
    }

    /// The peer itself says where it is: a good moment to connect to it.
    pub(crate) fn heard(&self, peer: StoreId, address: &str) {
        self.learn(peer, address);
        if let Some(link) = self.link(peer) {
            link.sign(address);
        }
    }
}

impl Transport for RpcTransport {
    fn send(&self, to: StoreId, message: Bytes) {
        match self.link(to) {
            Some(link) => link.send(message),
            None => tracing::trace!(peer = %to, "a message to nobody known is lost"),
        }
    }

    fn send_ahead(&self, to: StoreId, message: Bytes) {
        match self.link(to) {
            Some(link) => link.send_ahead(message),
            None => tracing::trace!(peer = %to, "a message to nobody known is lost"),
        }
    }

    fn call(&self, to: StoreId, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        match self.link(to) {
            Some(link) => link.call(request),
            None => {
                let why = format!("the address of node {to} is not known");
                Box::pin(std::future::ready(Err(CallError::Unsent(why))))
            }
        }
    }

    fn call_address(&self, address: &str, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
        let (setup, address) = (Arc::clone(&self.setup), address.to_string());
        let meter = Arc::clone(&self.meter);
        Box::pin(async move { call_once(&setup, &address, meter, request).await })
    }

    fn learn(&self, peer: StoreId, address: &str) {
        if self.setup.me.borrow().store == Some(peer) || address.is_empty() {
            return;
        }
        if let Some(link) = self.link(peer) {
            link.aim(address);
            return;
        }
        let mut links = self.links.write();
        if let Some(link) = links.get(&peer) {
            link.aim(address);
            return;
        }
        if links.len() >= MAX_PEERS {
            tracing::warn!(%peer, address, "more than {MAX_PEERS} peers: not connected");
            return;
        }
        let link = Arc::new(Link::new(peer, address, self.setup.limits));
        links.insert(peer, Arc::clone(&link));
        let running = link.run(Arc::clone(&self.setup), Arc::clone(&self.presence));
        self.tasks.lock().spawn_on(running, &self.runtime);
    }
}

impl Drop for RpcTransport {
    fn drop(&mut self) {
        self.tasks.get_mut().abort_all();
        for link in self.links.get_mut().values() {
            link.break_off("this node stops");
        }
    }
}

/// A connection for one call: a joining node makes few.
async fn call_once(
    setup: &Setup,
    address: &str,
    meter: Arc<Meter>,
    request: Bytes,
) -> Result<Bytes, CallError> {
    let me = setup.me.borrow().clone();
    let agreed = handshake::dial(setup, &me, address, Purpose::Call, None)
        .await
        .map_err(|error| CallError::Unsent(format!("{address}: {error}")))?;
    let outbox = Outbox::new(setup.limits);
    let calls = Arc::new(Calls::default());
    let call = Arc::clone(&calls).call(&outbox, Arc::clone(&meter), 1, request);
    let carried = async {
        let why = carry_calls(agreed, &outbox, &calls, &meter, &setup.limits).await;
        let unsent = outbox.close(&why);
        calls.fail(&unsent, &format!("{address}: {why}"));
        // The call knows by now.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = call => outcome,
        () = carried => unreachable!("it never completes"),
    }
}
