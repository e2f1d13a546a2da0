//! Looks at a node from time to time: whether it answers here and now.
//!
//! `/ready` tells most: the node's runtime answers and its store works. Where that has no answer, or the node
//! has no HTTP, its SQL port is asked whether it does TLS, the shortest exchange of the protocol.
//!
//! | `/ready`      | SQL port | the node is                                                                  |
//! | ------------- | -------- | ---------------------------------------------------------------------------- |
//! | 200           |          | ready                                                                        |
//! | another code  |          | not ready                                                                    |
//! | no answer     | answers  | not ready; but ready if `/ready` has never answered: it may be out of reach  |
//! | no answer     | silent   | silent                                                                       |

use crate::proxy::fleet::{Fleet, Node};
use crate::proxy::health::Probe;
use crate::proxy::http_client;
use crate::proxy::limits::{MAX_PROBE_BYTES, PROBE_GAP, PROBE_INTERVAL, PROBE_TIMEOUT};
use crate::proxy::node_tls::{dial_plain, ssl_request};
use hyper::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// Looks at the node until it is no longer one of the fleet.
pub async fn look_after(fleet: Arc<Fleet>, node: Arc<Node>) {
    let mut looker = Looker::default();
    loop {
        let began = Instant::now();
        let (probe, latency) = looker.look(&node).await;
        if probe == Probe::Silent {
            tracing::debug!(node = node.id, "no answer to a probe");
        }
        if !fleet.probed(&node, probe, latency) {
            return;
        }
        tokio::time::sleep(PROBE_GAP).await;
        // Sooner if somebody asks for it.
        let _ = tokio::time::timeout_at(began + PROBE_INTERVAL, node.look.notified()).await;
    }
}

#[derive(Default)]
struct Looker {
    /// `/ready` has answered before.
    http_has_answered: bool,
    /// It did not the last time: the SQL port is asked beside it, not after it, so that a look at a dead node
    /// takes no longer than one timeout.
    in_doubt: bool,
}

impl Looker {
    async fn look(&mut self, node: &Node) -> (Probe, Option<Duration>) {
        let Some(http) = &node.http else {
            let latency = sql_answers(&node.sql).await;
            let probe = latency.map_or(Probe::Silent, |_| Probe::Ready);
            return (probe, latency);
        };
        let (ready, mut sql) = if self.in_doubt {
            tokio::join!(is_ready(http), sql_answers(&node.sql))
        } else {
            (is_ready(http).await, None)
        };
        if ready.is_none() && !self.in_doubt {
            sql = sql_answers(&node.sql).await;
        }
        self.in_doubt = ready.is_none();
        self.http_has_answered |= ready.is_some();
        match (ready, sql) {
            (Some((true, latency)), _) => (Probe::Ready, Some(latency)),
            (Some((false, _)), _) => (Probe::NotReady, None),
            (None, Some(latency)) if !self.http_has_answered => (Probe::Ready, Some(latency)),
            (None, Some(_)) => (Probe::NotReady, None),
            (None, None) => (Probe::Silent, None),
        }
    }
}

/// Whether the node says that it is ready, and after how long.
async fn is_ready(http: &str) -> Option<(bool, Duration)> {
    let began = Instant::now();
    let answer = http_client::get(http, "/ready", MAX_PROBE_BYTES);
    let answer = tokio::time::timeout(PROBE_TIMEOUT, answer).await.ok()?;
    let (status, _) = answer.ok()?;
    Some((status == StatusCode::OK, began.elapsed()))
}

/// After how long the SQL port answers, if it does.
async fn sql_answers(sql: &str) -> Option<Duration> {
    let began = Instant::now();
    let asked = async {
        let mut stream = dial_plain(sql).await?;
        stream.write_all(&ssl_request()).await?;
        stream.read_u8().await
    };
    let answer = tokio::time::timeout(PROBE_TIMEOUT, asked).await.ok()?;
    answer.ok().map(|_| began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_list::NodeEntry;
    use axum::Router;
    use axum::routing::get;
    use sharding::Policy;
    use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    /// A node's HTTP whose `/ready` answers with the code of now.
    async fn http(code: &Arc<AtomicU16>) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let code = Arc::clone(code);
        let ready =
            move || async move { StatusCode::from_u16(code.load(Relaxed)).expect("a code") };
        let router = Router::new().route("/ready", get(ready));
        let server = async move {
            let _ = axum::serve(listener, router).await;
        };
        (address, tokio::spawn(server))
    }

    /// A node's SQL port that does no TLS.
    async fn sql() -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let server = async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut packet = [0; 8];
                let _ = stream.read_exact(&mut packet).await;
                assert_eq!(packet, ssl_request());
                let _ = stream.write_all(b"N").await;
            }
        };
        (address, tokio::spawn(server))
    }

    fn node(sql: &str, http: Option<&str>) -> Arc<Node> {
        let entry = NodeEntry {
            http: http.map(str::to_string),
            ..NodeEntry::at(1, sql.to_string(), 1)
        };
        let fleet = Fleet::new(Policy::Random, crate::env::real().rng);
        let mut nodes = fleet.update(&[entry], std::time::Instant::now());
        nodes.pop().expect("a new node")
    }

    /// Ends a server and waits until its port is closed.
    async fn close(server: JoinHandle<()>) {
        server.abort();
        let _ = server.await;
    }

    #[tokio::test]
    async fn ready_not_ready_and_silent() {
        let code = Arc::new(AtomicU16::new(200));
        let (http, http_server) = http(&code).await;
        let (sql, sql_server) = sql().await;
        let node = node(&sql, Some(&http));
        let mut looker = Looker::default();
        assert_eq!(looker.look(&node).await.0, Probe::Ready);
        code.store(503, Relaxed);
        assert_eq!(looker.look(&node).await.0, Probe::NotReady);
        // As a node that drains: it has closed HTTP and still talks to its sessions.
        close(http_server).await;
        assert_eq!(looker.look(&node).await.0, Probe::NotReady);
        close(sql_server).await;
        assert_eq!(looker.look(&node).await.0, Probe::Silent);
    }

    #[tokio::test]
    async fn without_http_the_sql_port_counts() {
        let (sql, sql_server) = sql().await;
        let unreachable = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let http = unreachable.local_addr().expect("an address").to_string();
        drop(unreachable);
        let (without, elsewhere) = (node(&sql, None), node(&sql, Some(&http)));
        for node in [&without, &elsewhere] {
            let (probe, latency) = Looker::default().look(node).await;
            assert_eq!((probe, latency.is_some()), (Probe::Ready, true));
        }
        close(sql_server).await;
        for node in [&without, &elsewhere] {
            assert_eq!(Looker::default().look(node).await.0, Probe::Silent);
        }
    }
}
