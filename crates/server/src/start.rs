//! `phantomdb start`: one node from its folder to its last sync.
//!
//! ```text
//! config ─► folder locked, log replayed ─► SQL instance ─► listeners ─► one line: ready
//! SIGTERM, SIGINT ─► no more accepts ─► idle sessions told (57P01), statements finish (bounded)
//!                 ─► store synced ─► exit 0
//! store failed (a disk that lies or breaks) ─► the same, with the reason and exit 1
//! ```

use crate::cluster::{self, ClusterNode, Listening};
use crate::cluster_actions::Actions;
use crate::cluster_views::ClusterViews;
use crate::config::Config;
use crate::event_feed::EventFeed;
use crate::http::{self, Pages, Readiness};
use crate::listener;
use crate::metrics::{self, ProcessMetrics, WireMetrics};
use crate::phase::{self, Phase};
use crate::tls::{Tls, TlsError};
use crate::wire::{WireServer, is_loopback};
use membership::service::Intent;
use node::Store;
use sql::instance::{Instance, InstanceOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::{Engine, FjallEngine, FjallOptions, Keyspace};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore, watch};

/// Stack of a worker thread, in bytes. Plans are trees, walked by recursion; only pages that were
/// touched cost memory.
pub const WORKER_STACK_BYTES: usize = 8 << 20;

/// How long background work may take to notice the end, once all is synced.
const LEFTOVERS_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a node that stops may take to hand its leases over.
const LEASES_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks for a quorum.
const QUORUM_PAUSE: Duration = Duration::from_millis(200);

/// The role and the database that a fresh node has.
const DEFAULT_USER: &str = "phantom";
const DEFAULT_DATABASE: &str = "phantom";

#[derive(Debug, Error)]
pub enum StartError {
    #[error("cannot use the data folder {folder}: {source}{hint}")]
    Storage {
        folder: String,
        source: storage::Error,
        hint: &'static str,
    },
    #[error("cannot open the database: {0}")]
    Open(types::Error),
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Exposed(String),
    #[error("the node stops because its store failed: {0}")]
    StoreFailed(types::Error),
    #[error("TLS between nodes: {0}")]
    RpcTls(#[from] crate::rpc::tls::RpcTlsError),
    #[error("{0}")]
    Cluster(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// Runs a node until it is told to stop.
pub fn run(config: Config) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("phantom")
        .thread_stack_size(WORKER_STACK_BYTES)
        .enable_all()
        .build()?;
    // On a worker, since the main thread's stack is not ours to size.
    let node = runtime.spawn(run_node(config));
    let result = runtime.block_on(node);
    runtime.shutdown_timeout(LEFTOVERS_TIMEOUT);
    match result {
        Ok(result) => result,
        Err(panic) => Err(StartError::Open(types::Error::internal(panic.to_string()))),
    }
}

async fn run_node(config: Config) -> Result<(), StartError> {
    let started = Instant::now();
    // Before anything that can take long, so that a signal during it is not lost.
    let mut stop = StopSignals::listen(config.until_stdin_ends)?;
    let prometheus = metrics::install()?;
    let tls = match &config.tls {
        Some((certificate, key)) => Some(Tls::load(certificate, key)?),
        None => None,
    };
    for address in exposed_addresses(&config) {
        if tls.is_none() && !config.insecure {
            return Err(StartError::Exposed(exposed(
                address,
                "TLS is not configured",
            )));
        }
    }
    let secured = config.certs_dir.is_some();
    if let Some(why) = crate::rpc::exposed(config.rpc_addr, secured, config.insecure) {
        return Err(StartError::Exposed(why));
    }
    // Ports first: a second node on the same ports fails before it waits for anything.
    let sql_listener = bind(config.sql_addr).await?;
    let http_listener = match config.http_addr {
        Some(address) => Some(bind(address).await?),
        None => None,
    };

    let rpc_listener = bind_rpc(&config).await?;
    let sql_addr = sql_listener.local_addr()?;
    let http_addr = match &http_listener {
        Some(listener) => Some(listener.local_addr()?),
        None => None,
    };
    let listening = Listening {
        rpc: rpc_listener,
        sql: sql_addr,
        http: http_addr,
    };
    let (end_rpc, rpc_ends) = watch::channel(false);
    let opened = tokio::select! {
        opened = open(&config, listening, rpc_ends) => opened,
        // While it searches or waits for a quorum there is nothing to lose.
        () = stop.received() => return Ok(()),
    };
    let (node, instance) = opened?;
    let store = Arc::clone(&node.store);
    if let Some(address) = exposed_addresses(&config).next()
        && !config.insecure
        && !instance.has_login_with_password()
    {
        store.shutdown().await;
        return Err(StartError::Exposed(exposed(
            address,
            "no role has a password",
        )));
    }
    let server = Arc::new(WireServer {
        instance: Arc::clone(&instance),
        tls,
        insecure: config.insecure,
        max_message_bytes: config.max_message_bytes,
        slots: Arc::new(Semaphore::new(config.max_connections)),
        metrics: WireMetrics::default(),
    });
    let (drain, draining) = watch::channel(false);
    let (phase, phases) = watch::channel(Phase::Serving);
    let phase = Arc::new(phase);
    tokio::spawn(follow_intent(store.intent(), Arc::clone(&phase)));
    node.tell_facts(Arc::downgrade(&instance));
    let http = http_listener.map(|listener| {
        let ready = readiness(&store, phases.clone());
        let pages = Pages {
            prometheus,
            process: ProcessMetrics::new(started),
            ready,
            refresh: None,
            nodes: Some(node.list()),
            events: Some(EventFeed::new(&store)),
            stats: None,
        };
        serve_http(listener, pages, draining.clone())
    });
    let sql = tokio::spawn(listener::serve(sql_listener, server, phases));
    let registered = tokio::spawn(store.take_part(node.addresses.clone()));
    announce(sql_addr, http_addr);

    let failed = tokio::select! {
        () = stop.received() => None,
        error = store_failure(&store) => Some(StartError::StoreFailed(error)),
        why = left_cluster(registered, store.intent()) => why,
    };
    let _ = phase.send(Phase::Stopping);
    let _ = drain.send(true);
    // So that nobody has to notice that this node is gone.
    let _ = tokio::time::timeout(LEASES_TIMEOUT, store.give_up_leases()).await;
    tokio::select! {
        _ = sql => {}
        // A second signal: at once, as after a crash.
        () = stop.received() => return Ok(()),
    }
    if let Some(http) = http {
        http.abort();
    }
    store.shutdown().await;
    let _ = end_rpc.send(true);
    match failed {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// Sessions follow what the cluster wants of the node.
async fn follow_intent(mut intent: watch::Receiver<Intent>, phase: Arc<watch::Sender<Phase>>) {
    loop {
        let wanted = *intent.borrow_and_update();
        phase::leave(&phase, wanted != Intent::Serve);
        if intent.changed().await.is_err() {
            return;
        }
    }
}

/// Opens the store. If it is `replace`d when damaged, damage that peers cannot mend is looked for first: in the
/// Raft logs. Rows are repaired while the node runs.
fn open_engine(
    folder: &Path,
    options: FjallOptions,
    replace: bool,
) -> storage::Result<FjallEngine> {
    let opened = FjallEngine::open(folder, options.clone());
    if !replace {
        return opened;
    }
    let opened = opened.and_then(|engine| {
        for table in engine.tables() {
            if table.keyspace == Keyspace::Raft
                && let Some(damage) = engine.check_table(table)?
            {
                return Err(storage::Error::Corrupt(damage.what));
            }
        }
        Ok(engine)
    });
    let Err(storage::Error::Corrupt(what)) = opened else {
        return opened;
    };
    let aside = FjallEngine::set_aside(folder)?;
    eprintln!(
        "the store is damaged ({what}); it is set aside as {}, and this node begins as a new one",
        aside.display()
    );
    FjallEngine::open(folder, options)
}

fn hint_of(source: &storage::Error) -> &'static str {
    match source {
        storage::Error::Corrupt(_) => {
            "\nHint: if other nodes have copies of its data, start it with --join ADDRS \
             --replace-damaged-store: it becomes a new node, and is given copies."
        }
        _ => "",
    }
}

async fn open(
    config: &Config,
    listening: Listening,
    stop: watch::Receiver<bool>,
) -> Result<(ClusterNode, Arc<Instance>), StartError> {
    let env = crate::env::real();
    let options = FjallOptions {
        cache_bytes: config.cache_bytes,
        ..FjallOptions::default()
    };
    let (folder, replace) = (config.data.clone(), config.replace_damaged_store);
    // Replays the journal: blocks for as long as that takes.
    let opened = tokio::task::spawn_blocking(move || open_engine(&folder, options, replace)).await;
    let engine = match opened {
        Ok(opened) => opened.map_err(|source| StartError::Storage {
            folder: config.data.display().to_string(),
            hint: hint_of(&source),
            source,
        })?,
        Err(panic) => return Err(StartError::Open(types::Error::internal(panic.to_string()))),
    };
    let engine = Arc::new(engine);
    tokio::spawn(crate::memory::give_back_when_idle(Arc::downgrade(&engine)));
    let node = cluster::open(config, engine, &env, listening, stop).await?;
    let options = InstanceOptions {
        query_memory_bytes: config.query_memory_bytes(),
        column_cache_bytes: config.column_cache_bytes(),
        transaction_memory_bytes: config.transaction_memory_bytes(),
        parallelism: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let coordinator = node.store.coordinator(options.transaction_limits());
    let mut told = false;
    loop {
        let opened = Instance::open(coordinator.clone(), env.clone(), options.clone()).await;
        match opened {
            Ok(instance) => {
                // Only here, so it is not set already.
                let _ = instance
                    .cluster
                    .set(ClusterViews::new(&node.store, &node.directory));
                let _ = instance.cluster_actions.set(Actions::new(&node.store));
                return Ok((node, instance));
            }
            // Too few nodes are up, or two founded the catalog at once.
            Err(error) if is_temporary(&error) => {
                if !std::mem::replace(&mut told, true) {
                    eprintln!("waiting for more nodes of the cluster: {error}");
                }
                tokio::time::sleep(QUORUM_PAUSE).await;
            }
            Err(error) => return Err(StartError::Open(error)),
        }
    }
}

fn is_temporary(error: &types::Error) -> bool {
    error.is_retryable()
        || matches!(
            error.state,
            types::SqlState::CANNOT_CONNECT_NOW | types::SqlState::STATEMENT_COMPLETION_UNKNOWN
        )
}

/// Completes when the cluster has removed this node for good. It was there when that happened: that is how it should
/// end. It comes back after that: an error.
async fn left_cluster(
    registered: tokio::task::JoinHandle<bool>,
    mut intent: watch::Receiver<Intent>,
) -> Option<StartError> {
    match registered.await {
        Ok(true) => {
            if intent
                .wait_for(|intent| *intent == Intent::Gone)
                .await
                .is_ok()
            {
                eprintln!("this node has left its cluster for good: the others have its data");
                return None;
            }
        }
        Ok(false) => {
            let why = "this node was removed from its cluster for good: the others have its data. To use the \
                       machine again, start with an empty data folder";
            return Some(StartError::Cluster(why.to_owned()));
        }
        Err(_) => {}
    }
    std::future::pending().await
}

/// The port for other nodes. If nobody asked for one, another will do when it is taken: nodes tell each other
/// theirs.
async fn bind_rpc(config: &Config) -> Result<TcpListener, StartError> {
    match bind(config.rpc_addr).await {
        Err(_) if !config.rpc_addr_is_given => bind(SocketAddr::new(config.rpc_addr.ip(), 0)).await,
        bound => bound,
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })
}

fn serve_http(
    listener: TcpListener,
    pages: Pages,
    stop: watch::Receiver<bool>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = http::serve(listener, pages, stop).await {
            tracing::error!(%error, "HTTP ended");
        }
    })
}

fn readiness(store: &Arc<Store>, phase: watch::Receiver<Phase>) -> Readiness {
    let failed = store.failed();
    Arc::new(move || {
        if let Some(error) = &*failed.borrow() {
            return Err(error.to_string());
        }
        match *phase.borrow() {
            Phase::Serving => Ok(()),
            Phase::Leaving => Err("draining".to_string()),
            Phase::Stopping => Err("stopping".to_string()),
        }
    })
}

/// Completes when no write can succeed any more.
async fn store_failure(store: &Store) -> types::Error {
    let mut failed = store.failed();
    let error = match failed.wait_for(Option::is_some).await {
        Ok(error) => error.clone(),
        Err(_) => None,
    };
    error.unwrap_or_else(|| types::Error::internal("the store's log writer ended"))
}

fn announce(sql: SocketAddr, http: Option<SocketAddr>) {
    let host = reachable(sql);
    let http = http.map_or(String::new(), |http| {
        format!(" (http://{}/metrics)", reachable(http))
    });
    let mut stdout = std::io::stdout();
    // Nobody may be reading; that is no reason to stop.
    let _ = writeln!(
        stdout,
        "PhantomDB {} is ready: postgres://{DEFAULT_USER}@{host}/{DEFAULT_DATABASE}{http}",
        env!("CARGO_PKG_VERSION")
    );
    let _ = stdout.flush();
}

/// An address to connect to: a node that listens on all interfaces is on the loopback one too.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, v6.port()).into()
        }
        other => other,
    }
}

fn exposed_addresses(config: &Config) -> impl Iterator<Item = SocketAddr> {
    [Some(config.sql_addr), config.http_addr]
        .into_iter()
        .flatten()
        .filter(|address| !is_loopback(address.ip()))
}

fn exposed(address: SocketAddr, lack: &str) -> String {
    format!(
        "refusing to listen on {address}, which other machines can reach: {lack}.\n\
         Hint: start on 127.0.0.1, CREATE ROLE … LOGIN PASSWORD '…' there, then start with \
         --tls-cert and --tls-key. Or give --insecure to let everybody in without a password."
    )
}

/// What tells a process to stop.
pub(crate) struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    stdin_ended: Arc<Notify>,
}

impl StopSignals {
    pub(crate) fn listen(watch_stdin: bool) -> std::io::Result<Self> {
        let stdin_ended = Arc::new(Notify::new());
        if watch_stdin {
            let ended = Arc::clone(&stdin_ended);
            // A thread of its own: one of the runtime's would keep the process from ending.
            std::thread::Builder::new()
                .name("stdin".to_string())
                .spawn(move || {
                    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                    ended.notify_one();
                })?;
        }
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            stdin_ended,
        })
    }

    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = self.stdin_ended.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_addresses_are_announced_as_loopback() {
        let shown = |text: &str| reachable(text.parse().expect("an address")).to_string();
        assert_eq!(shown("0.0.0.0:5450"), "127.0.0.1:5450");
        assert_eq!(shown("[::]:5450"), "[::1]:5450");
        assert_eq!(shown("10.0.0.1:5450"), "10.0.0.1:5450");
    }
}
