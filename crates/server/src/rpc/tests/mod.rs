//! Transports of several nodes in one process, over sockets of this machine.

mod frames;
mod garbage;
mod links;
mod refusals;
mod secure;

use crate::rpc::limits::Limits;
use crate::rpc::{Identity, RpcServer, RpcTls, RpcTransport, Setup};
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use types::StoreId;
use types::env::{BoxFuture, CallError, Clock, Peer, Transport};

/// For everything that happens at once on a quiet machine; a busy one may take its time.
const DEADLINE: Duration = Duration::from_secs(60);

const CLUSTER: u128 = 0xc0ffee;

/// A backoff that no test lives to see.
const NEVER: Duration = Duration::from_secs(3600);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(done) => done,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}

#[derive(Debug, PartialEq)]
enum Event {
    Message(StoreId, Bytes),
    Connected(StoreId, bool),
}

/// A node's core that notes what it is told.
struct Core {
    events: mpsc::UnboundedSender<Event>,
    /// Lets calls of `wait` go on.
    go_on: Arc<Notify>,
    /// Told when a call of `wait` has come.
    waits: Arc<Notify>,
}

impl Peer for Core {
    fn message(&self, from: StoreId, message: Bytes) {
        let _ = self.events.send(Event::Message(from, message));
    }

    fn call(&self, from: Option<StoreId>, request: Bytes) -> BoxFuture<Bytes> {
        let (go_on, waits) = (Arc::clone(&self.go_on), Arc::clone(&self.waits));
        Box::pin(async move {
            match &request[..] {
                b"who am I" => format!("{from:?}").into(),
                b"panic" => panic!("as the test asked"),
                b"wait" => {
                    waits.notify_one();
                    go_on.notified().await;
                    request
                }
                _ => request,
            }
        })
    }

    fn connected(&self, peer: StoreId, connected: bool) {
        let _ = self.events.send(Event::Connected(peer, connected));
    }
}

/// The real clock, and how far it is off.
struct ShiftedClock(Arc<dyn Clock>, AtomicI64);

impl Clock for ShiftedClock {
    fn wall_micros(&self) -> i64 {
        self.0.wall_micros() + self.1.load(Ordering::Relaxed)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.0.monotonic_nanos()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        self.0.sleep(duration)
    }
}

/// What a test's node is like.
#[derive(Clone)]
struct Like {
    cluster: Option<u128>,
    store: Option<u64>,
    tls: Option<RpcTls>,
    clock_shift: Duration,
    limits: Limits,
}

fn store(id: u64) -> Like {
    Like {
        cluster: Some(CLUSTER),
        store: Some(id),
        tls: None,
        clock_shift: Duration::ZERO,
        limits: Limits::default(),
    }
}

fn joining() -> Like {
    Like {
        cluster: None,
        store: None,
        ..store(0)
    }
}

struct TestNode {
    me: watch::Sender<Identity>,
    transport: Arc<RpcTransport>,
    core: Arc<Core>,
    events: mpsc::UnboundedReceiver<Event>,
    stop: watch::Sender<bool>,
    server: tokio::task::JoinHandle<()>,
}

impl TestNode {
    async fn start(like: Like) -> TestNode {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let me = watch::Sender::new(Identity {
            cluster: like.cluster,
            store: like.store.map(StoreId),
            address,
        });
        let mut env = crate::env::real();
        let shift = i64::try_from(like.clock_shift.as_micros()).expect("a small shift");
        env.clock = Arc::new(ShiftedClock(env.clock, AtomicI64::new(shift)));
        let mut setup = Setup::new(me.subscribe(), like.tls, Duration::from_millis(500), env);
        setup.limits = like.limits;
        let transport = RpcTransport::new(setup);
        let (sender, events) = mpsc::unbounded_channel();
        let core = Arc::new(Core {
            events: sender,
            go_on: Arc::default(),
            waits: Arc::default(),
        });
        let (stop, stopping) = watch::channel(false);
        let peer: Arc<dyn Peer> = Arc::clone(&core) as Arc<dyn Peer>;
        let serving = RpcServer::serve(listener, Arc::clone(&transport), peer, stopping);
        TestNode {
            me,
            transport,
            core,
            events,
            stop,
            server: tokio::spawn(serving),
        }
    }

    fn address(&self) -> String {
        self.me.borrow().address.clone()
    }

    fn learn(&self, id: u64, address: &str) {
        self.transport.learn(StoreId(id), address);
    }

    fn send(&self, to: u64, message: impl Into<Bytes>) {
        self.transport.send(StoreId(to), message.into());
    }

    async fn call(&self, to: u64, request: impl Into<Bytes>) -> Result<Bytes, CallError> {
        let call = self.transport.call(StoreId(to), request.into());
        soon("a call's outcome", call).await
    }

    async fn call_address(&self, to: &str, request: &'static str) -> Result<Bytes, CallError> {
        let call = self.transport.call_address(to, request.into());
        soon("a call's outcome", call).await
    }

    /// Calls until the outcome is as wanted.
    async fn call_until(
        &self,
        to: u64,
        request: &'static str,
        wanted: impl Fn(&Result<Bytes, CallError>) -> bool,
    ) -> Result<Bytes, CallError> {
        let mut last = None;
        let calls = async {
            loop {
                let outcome = self.transport.call(StoreId(to), request.into()).await;
                if wanted(&outcome) {
                    return outcome;
                }
                last = Some(outcome);
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(DEADLINE, calls).await {
            Ok(outcome) => outcome,
            Err(_) => panic!("the last outcome was {last:?}"),
        }
    }

    async fn event(&mut self) -> Event {
        soon("an event", self.events.recv())
            .await
            .expect("the node runs")
    }

    async fn message(&mut self) -> Bytes {
        loop {
            if let Event::Message(_, message) = self.event().await {
                return message;
            }
        }
    }

    /// Ends the listening side, and all connections of others.
    async fn stop_server(self) {
        self.stop.send(true).expect("it runs");
        soon("the server ends", self.server)
            .await
            .expect("without a panic");
    }
}

/// Two nodes that know each other, connected.
async fn pair(one: Like, two: Like) -> (TestNode, TestNode) {
    let mut one = TestNode::start(one).await;
    let mut two = TestNode::start(two).await;
    // The second learns of the first from its handshake.
    one.learn(2, &two.address());
    assert_eq!(one.event().await, Event::Connected(StoreId(2), true));
    assert_eq!(two.event().await, Event::Connected(StoreId(1), true));
    (one, two)
}

fn unsent(outcome: Result<Bytes, CallError>) -> String {
    match outcome {
        Err(CallError::Unsent(why)) => why,
        other => panic!("not unsent: {other:?}"),
    }
}

fn broken(outcome: Result<Bytes, CallError>) -> String {
    match outcome {
        Err(CallError::Broken(why)) => why,
        other => panic!("not broken: {other:?}"),
    }
}
