//! What a call between two nodes costs: latency of one caller, throughput of many, CPU of both ends.
//!
//! ```text
//! cargo run --release -p server --example rpc_cost [-- CERTS_DIR]
//! ```
//!
//! Two nodes of one process talk over a loopback socket, under TLS if there is a folder of certificates.

#![allow(
    clippy::disallowed_methods,
    reason = "it measures real time, on real sockets"
)]

use bytes::Bytes;
use server::rpc::{Identity, RpcServer, RpcTls, RpcTransport, Setup};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use types::StoreId;
use types::env::{BoxFuture, Peer, Transport};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BODY: [u8; 100] = [7; 100];
const SECONDS: Duration = Duration::from_secs(5);
const CALLERS: [usize; 3] = [1, 64, 512];

/// Answers with what it is asked.
struct Echo;

impl Peer for Echo {
    fn message(&self, _from: StoreId, _message: Bytes) {}

    fn call(&self, _from: Option<StoreId>, request: Bytes) -> BoxFuture<Bytes> {
        Box::pin(std::future::ready(request))
    }

    fn connected(&self, _peer: StoreId, _connected: bool) {}
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let tls = std::env::args()
        .nth(1)
        .map(|folder| RpcTls::load(Path::new(&folder)).unwrap_or_else(|error| panic!("{error}")));
    let (stop, stopping) = watch::channel(false);
    let (one, _) = node(1, tls.clone(), stopping.clone()).await;
    let (_two, address) = node(2, tls, stopping).await;
    one.learn(StoreId(2), &address);
    println!("callers  calls/s  mean µs  CPU µs/call");
    for callers in CALLERS {
        measure(&one, callers).await;
    }
    drop(stop);
}

async fn node(
    id: u64,
    tls: Option<RpcTls>,
    stop: watch::Receiver<bool>,
) -> (Arc<RpcTransport>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let me = watch::Sender::new(Identity {
        cluster: Some(1),
        store: Some(StoreId(id)),
        address: address.clone(),
    });
    let env = server::env::real();
    let setup = Setup::new(me.subscribe(), tls, Duration::from_millis(500), env);
    let transport = RpcTransport::new(setup);
    let serving = RpcServer::serve(listener, Arc::clone(&transport), Arc::new(Echo), stop);
    tokio::spawn(serving);
    (transport, address)
}

async fn measure(transport: &Arc<RpcTransport>, callers: usize) {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let transport = Arc::clone(transport);
            tokio::spawn(async move {
                let mut calls = 0_u64;
                while began.elapsed() < SECONDS {
                    let answer = transport.call(StoreId(2), Bytes::from_static(&BODY)).await;
                    assert_eq!(answer.expect("an answer").len(), BODY.len());
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let mut calls = 0;
    for task in tasks {
        calls += task.await.expect("no panic");
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let calls = calls as f64;
    let mean = seconds * callers as f64 / calls * 1e6;
    println!(
        "{callers:>7}  {:>7.0}  {mean:>7.1}  {:>11.2}",
        calls / seconds,
        cpu / calls * 1e6
    );
}

/// User and system time of this process, from Linux' `/proc/self/stat` in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(')').expect("the kernel's shape");
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}
