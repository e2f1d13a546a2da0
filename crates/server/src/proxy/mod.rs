//! `phantomdb proxy`: one address in front of a cluster.
//!
//! ```text
//! client ─► opening ─► connect ─────────────────► session ─► close
//!             │          │  a Fleet chooses, nodes    │  relay copies, frames watches
//!             │          │  that refuse are left out  │
//!             └─► cancel request ─► the key's node    └─ condition of the node ◄─┐
//!                                                                                │
//! source (the list of nodes) ─► Fleet ◄─ probe (/ready, every half second) ──────┘
//! ```
//!
//! - [`source`] tells which nodes there are, [`probe`] whether each answers; [`health`] makes one opinion of it
//!   and [`fleet`] chooses by it.
//! - [`opening`] reads a client's first packets, [`connect`] finds a node that takes it, [`session`] leads it
//!   from there to its end, with [`relay`] to copy bytes and [`frames`] to know where in the conversation it is.
//! - [`cancel`] sends cancel requests where they belong, [`node_tls`] dials nodes, [`stats`] shows what is counted.
//!
//! A client sees no error as long as any node takes it. A session lives and dies with its node: it is never
//! carried over to another one. Where a node drains, its sessions are ended outside of transactions, so that the
//! pool of a driver opens them again elsewhere; where one dies, its sessions are told so if their streams are at
//! the end of a message.
//!
//! TLS of clients ends here (`--tls-cert`), or at the nodes (`--tls-passthrough`). In the second case nothing of a
//! conversation can be read: such sessions are not moved when a node drains, and their cancel requests go to all
//! nodes.
//!
//! Invariant: a client of another machine never reaches a node that takes it for a local one
//! ([`connect::may_carry`]).
//!
//! Not here: pooling of connections, spreading of a session's statements over nodes, the client's address for
//! the node (it sees the proxy's).

pub mod cancel;
pub mod connect;
pub mod fleet;
pub mod frames;
pub mod health;
pub mod http_client;
pub mod limits;
mod listener;
pub mod node_tls;
pub mod opening;
pub mod options;
pub mod probe;
pub mod relay;
pub mod session;
pub mod source;
pub mod stats;

use crate::cli::ProxyArgs;
use crate::http::{self, Pages};
use crate::metrics::{self, ProcessMetrics};
use crate::proxy::cancel::CancelKeys;
use crate::proxy::fleet::Fleet;
use crate::proxy::limits::SOURCE_INTERVAL;
use crate::proxy::node_tls::NodeTls;
use crate::proxy::opening::Encryption;
use crate::proxy::options::{ClientTls, Options};
use crate::proxy::source::NodeSource;
use crate::start::{StopSignals, reachable};
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};

/// What all clients of the proxy share.
pub struct Proxy {
    pub fleet: Arc<Fleet>,
    pub keys: Arc<CancelKeys>,
    pub node_tls: NodeTls,
    pub client_tls: ClientTls,
    /// Everybody may come in and is carried everywhere.
    pub insecure: bool,
    /// One permit per session.
    pub slots: Arc<Semaphore>,
    pub stopping: watch::Receiver<bool>,
}

impl Proxy {
    /// What a client that asks for TLS is told.
    fn encryption(&self) -> Encryption<'_> {
        match &self.client_tls {
            ClientTls::None => Encryption::None,
            ClientTls::Here(tls) => Encryption::Here(&tls.acceptor),
            ClientTls::Nodes => Encryption::Nodes,
        }
    }
}

/// How long tasks may take to notice the end.
const LEFTOVERS_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the proxy until it is told to stop.
pub fn run(args: &ProxyArgs) -> Result<ExitCode, String> {
    crate::logging::install(&args.log)?;
    let options = Options::new(args)?;
    options::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("proxy")
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let result = runtime.block_on(run_proxy(options));
    runtime.shutdown_timeout(LEFTOVERS_TIMEOUT);
    result.map(|()| ExitCode::SUCCESS)
}

async fn run_proxy(options: Options) -> Result<(), String> {
    let started = Instant::now();
    let mut stop = StopSignals::listen(options.until_stdin_ends).map_err(|e| e.to_string())?;
    let prometheus = metrics::install().map_err(|error| format!("metrics: {error}"))?;
    stats::describe();
    let listener = bind(options.listen).await?;
    let http_listener = match options.http_addr {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let fleet = Fleet::new(options.policy, crate::env::real().rng);
    // So that the first client finds nodes, if there are any.
    refresh(&*options.source, &fleet).await;
    tokio::spawn(follow(options.source, Arc::clone(&fleet)));
    let asked = signal(SignalKind::user_defined1()).map_err(|error| error.to_string())?;
    tokio::spawn(print_on_signal(asked, Arc::clone(&fleet)));

    let (stop_sender, stopping) = watch::channel(false);
    let local = |listener: &TcpListener| listener.local_addr().map_err(|e| e.to_string());
    let http_addr = http_listener.as_ref().map(local).transpose()?;
    if let Some(listener) = http_listener {
        let pages = pages(&fleet, prometheus, started, stopping.clone());
        tokio::spawn(http::serve(listener, pages, stopping.clone()));
    }
    let addr = local(&listener)?;
    let proxy = Arc::new(Proxy {
        fleet,
        keys: Arc::default(),
        node_tls: options.node_tls,
        client_tls: options.client_tls,
        insecure: options.insecure,
        slots: Arc::new(Semaphore::new(options.max_sessions)),
        stopping: stopping.clone(),
    });
    let sessions = tokio::spawn(listener::serve(listener, proxy, options.max_sessions));
    announce(addr, http_addr);

    stop.received().await;
    let _ = stop_sender.send(true);
    tokio::select! {
        _ = sessions => {}
        // A second signal: at once.
        () = stop.received() => {}
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))
}

/// Asks for the list of nodes over and over.
async fn follow(source: Arc<dyn NodeSource>, fleet: Arc<Fleet>) {
    loop {
        tokio::time::sleep(SOURCE_INTERVAL).await;
        refresh(&*source, &fleet).await;
    }
}

async fn refresh(source: &dyn NodeSource, fleet: &Arc<Fleet>) {
    match source.nodes().await {
        Ok(entries) => {
            for node in fleet.update(&entries, Instant::now()) {
                tracing::info!(node = node.id, address = %node.sql, "a node");
                tokio::spawn(probe::look_after(Arc::clone(fleet), node));
            }
        }
        Err(error) => tracing::warn!(%error, "no list of the nodes"),
    }
}

/// SIGUSR1 prints the table of nodes.
async fn print_on_signal(mut asked: Signal, fleet: Arc<Fleet>) {
    while asked.recv().await.is_some() {
        say(&stats::table(&fleet));
    }
}

fn pages(
    fleet: &Arc<Fleet>,
    prometheus: metrics_exporter_prometheus::PrometheusHandle,
    started: Instant,
    stopping: watch::Receiver<bool>,
) -> Pages {
    let (ready, refreshed, shown) = (Arc::clone(fleet), Arc::clone(fleet), Arc::clone(fleet));
    Pages {
        prometheus,
        process: ProcessMetrics::new(started),
        ready: Arc::new(move || match (*stopping.borrow(), ready.takes_sessions()) {
            (true, _) => Err("stopping".to_string()),
            (false, false) => Err("no node takes sessions".to_string()),
            (false, true) => Ok(()),
        }),
        refresh: Some(Arc::new(move || stats::publish(&refreshed))),
        nodes: None,
        events: None,
        stats: Some(Arc::new(move || stats::table(&shown))),
    }
}

fn announce(addr: SocketAddr, http: Option<SocketAddr>) {
    let http = http.map_or(String::new(), |http| {
        format!(" (http://{}/stats)", reachable(http))
    });
    say(&format!(
        "PhantomDB {} proxy is ready: postgres://phantom@{}/phantom{http}\n",
        env!("CARGO_PKG_VERSION"),
        reachable(addr)
    ));
}

/// Nobody may be reading; that is no reason to stop.
fn say(text: &str) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}
