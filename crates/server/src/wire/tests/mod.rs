//! The protocol with raw bytes over a pipe in memory, down to a store on a simulated disk.

mod auth;
mod client;
mod extended;
mod garbage;
mod simple;

use crate::metrics::WireMetrics;
use crate::phase::Phase;
use crate::wire::WireServer;
use crate::wire::limits::MAX_MESSAGE_BYTES;
use client::Client;
use node::Store;
use node::testing::open_alone;
use sql::instance::{Instance, InstanceOptions};
use std::sync::Arc;
use storage::SimDisk;
use tokio::sync::{Semaphore, watch};

/// Sessions that a test's node takes.
const SLOTS: usize = 3;

/// A node for one test.
struct Node {
    server: Arc<WireServer>,
    phase: watch::Sender<Phase>,
    _store: Arc<Store>,
}

impl Node {
    async fn new() -> Node {
        let env = crate::env::real();
        let disk = Arc::new(SimDisk::new());
        let store = open_alone(disk, env.clone(), node::Options::default()).expect("a store");
        let options = InstanceOptions::default();
        let coordinator = store.coordinator(options.transaction_limits());
        let instance = Instance::open(coordinator, env, options)
            .await
            .expect("an instance");
        let server = WireServer {
            instance,
            tls: None,
            insecure: false,
            max_message_bytes: MAX_MESSAGE_BYTES,
            slots: Arc::new(Semaphore::new(SLOTS)),
            metrics: WireMetrics::default(),
        };
        Node {
            server: Arc::new(server),
            phase: watch::channel(Phase::Serving).0,
            _store: store,
        }
    }

    /// A connection that has said nothing yet.
    fn connect(&self) -> Client {
        Client::connect(Arc::clone(&self.server), self.phase.subscribe())
    }

    /// A connection that is ready for queries.
    async fn session(&self) -> Client {
        let mut client = self.connect();
        client.startup("phantom", "phantom").await;
        let greeting = client.until_ready().await;
        assert_eq!(
            greeting.last().map(String::as_str),
            Some("Z I"),
            "{greeting:?}"
        );
        client
    }
}
