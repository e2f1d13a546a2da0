//! Where the proxy learns which nodes there are.

use crate::discovery::dns;
use crate::node_list::{self, NodeEntry};
use crate::proxy::http_client;
use crate::proxy::limits::{MAX_CLOCK_OFFSET, MAX_LIST_BYTES, MAX_NODES, SOURCE_TIMEOUT};
use crate::rpc::{Identity, RpcTls, RpcTransport, Setup};
use futures::future::BoxFuture;
use hyper::StatusCode;
use membership::discovery::JoinAddress;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;
use types::env::Transport;

/// Tells the nodes of now. An error is for the log: the proxy goes on with what it knows and asks again.
pub trait NodeSource: Send + Sync {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeEntry>, String>>;
}

/// Nodes that were given once and for all.
pub struct StaticNodes(Vec<NodeEntry>);

impl StaticNodes {
    /// From `host:port` or `host:port=weight`; they are numbered from 1.
    pub fn parse(addresses: &[String]) -> Result<Self, String> {
        let entry = |(at, text): (usize, &String)| {
            let (address, weight) = match text.split_once('=') {
                None => (text.as_str(), Some(1)),
                Some((address, weight)) => (address, weight.parse().ok()),
            };
            let weight = weight.ok_or_else(|| format!("`{text}`: a weight is a number"))?;
            check_address(address)?;
            Ok(NodeEntry::at(at as u64 + 1, address.to_string(), weight))
        };
        let entries = addresses.iter().enumerate().map(entry);
        entries.collect::<Result<_, String>>().map(StaticNodes)
    }
}

impl NodeSource for StaticNodes {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeEntry>, String>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

/// Asks the nodes themselves for the list, at the addresses where they talk to each other, as a node does that
/// joins. Knowing one of them is enough: the others are learned from its answer and asked when it is gone.
pub struct RpcNodes {
    given: Vec<JoinAddress>,
    known: Mutex<Known>,
    tls: Mutex<Option<RpcTls>>,
    /// Made by the first question: it belongs to the runtime.
    transport: OnceLock<Arc<dyn Transport>>,
    /// A proxy is of no cluster.
    me: watch::Sender<Identity>,
}

/// Asks the nodes for the list over HTTP: where a proxy shall have no certificate of a node.
pub struct HttpNodes {
    /// `host:port` of nodes' HTTP, as given.
    given: Vec<String>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Who answered last.
    last: Option<String>,
    learned: Vec<String>,
}

impl Known {
    /// Whom to ask, the best first.
    fn candidates(&self, given: Vec<String>) -> Vec<String> {
        let all = self.last.iter().chain(&given).chain(&self.learned);
        let mut candidates: Vec<String> = Vec::new();
        for address in all {
            if !candidates.contains(address) {
                candidates.push(address.clone());
            }
        }
        candidates
    }
}

/// Asks one after the other until somebody answers, who is remembered with the addresses of the others.
async fn ask_around<F>(
    known: &Mutex<Known>,
    given: Vec<String>,
    address_of: fn(&NodeEntry) -> Option<String>,
    ask: impl Fn(String) -> F,
) -> Result<Vec<NodeEntry>, String>
where
    F: Future<Output = Result<Vec<NodeEntry>, String>>,
{
    let candidates = known.lock().candidates(given);
    let mut failures = Vec::new();
    for address in candidates {
        let answer = tokio::time::timeout(SOURCE_TIMEOUT, ask(address.clone())).await;
        match answer {
            Ok(Ok(nodes)) => {
                *known.lock() = Known {
                    learned: nodes
                        .iter()
                        .filter_map(address_of)
                        .take(MAX_NODES)
                        .collect(),
                    last: Some(address),
                };
                return Ok(nodes);
            }
            Ok(Err(failure)) => failures.push(failure),
            Err(_) => failures.push(format!("{address}: no answer within {SOURCE_TIMEOUT:?}")),
        }
    }
    Err(failures.join("; "))
}

impl RpcNodes {
    pub fn new(given: Vec<JoinAddress>, tls: Option<RpcTls>) -> Self {
        RpcNodes {
            given,
            known: Mutex::default(),
            tls: Mutex::new(tls),
            transport: OnceLock::new(),
            me: watch::Sender::new(Identity {
                address: "a proxy".to_owned(),
                ..Identity::default()
            }),
        }
    }

    fn transport(&self) -> Arc<dyn Transport> {
        let made = self.transport.get_or_init(|| {
            let (me, tls) = (self.me.subscribe(), self.tls.lock().take());
            RpcTransport::new(Setup::new(me, tls, MAX_CLOCK_OFFSET, crate::env::real()))
        });
        Arc::clone(made)
    }

    /// Names are looked up each time: who is behind them may change.
    async fn resolved(&self) -> Vec<String> {
        let mut found = Vec::new();
        for address in &self.given {
            match dns::resolve(address).await {
                Ok(addresses) => found.extend(addresses),
                Err(error) => tracing::warn!(%error, "a name that leads to no node"),
            }
        }
        found
    }
}

impl NodeSource for RpcNodes {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeEntry>, String>> {
        Box::pin(async {
            let (given, transport) = (self.resolved().await, self.transport());
            ask_around(
                &self.known,
                given,
                |node| node.rpc.clone(),
                |address| {
                    let call = transport.call_address(&address, node_list::question());
                    async move {
                        let answer = call.await.map_err(|error| format!("{error:?}"))?;
                        serde_json::from_slice(&answer)
                            .map_err(|error| format!("{address}: {error}"))
                    }
                },
            )
            .await
        })
    }
}

impl HttpNodes {
    pub fn new(addresses: &[String]) -> Result<Self, String> {
        addresses.iter().try_for_each(|a| check_address(a))?;
        Ok(HttpNodes {
            given: addresses.to_vec(),
            known: Mutex::default(),
        })
    }

    async fn ask(address: String) -> Result<Vec<NodeEntry>, String> {
        let answer = http_client::get(&address, "/nodes", MAX_LIST_BYTES);
        let (status, body) = answer
            .await
            .map_err(|error| format!("{address}: {error}"))?;
        if status != StatusCode::OK {
            return Err(format!("{address}/nodes: {status}"));
        }
        serde_json::from_slice(&body).map_err(|error| format!("{address}/nodes: {error}"))
    }
}

impl NodeSource for HttpNodes {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeEntry>, String>> {
        let given = self.given.clone();
        Box::pin(ask_around(
            &self.known,
            given,
            |node| node.http.clone(),
            HttpNodes::ask,
        ))
    }
}

fn check_address(text: &str) -> Result<(), String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(()),
        _ => Err(format!(
            "`{text}` is not an address like db1.example.com:5450"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_list::NodeState;
    use crate::rpc::RpcServer;
    use axum::Router;
    use axum::routing::get;
    use bytes::Bytes;
    use std::net::SocketAddr;
    use tokio::net::TcpListener;
    use types::StoreId;
    use types::env::Peer;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_string()).collect()
    }

    #[tokio::test]
    async fn static_nodes_are_numbered_and_weighed() {
        let source = StaticNodes::parse(&texts(&["a:1", "[::1]:2=5"])).expect("addresses");
        let nodes = source.nodes().await.expect("a list");
        let shown: Vec<(u64, &str, u32)> = nodes
            .iter()
            .map(|n| (n.id, n.sql.as_str(), n.weight))
            .collect();
        assert_eq!(shown, [(1, "a:1", 1), (2, "[::1]:2", 5)]);
        for wrong in ["a", ":1", "a:99999", "a:1=much", ""] {
            assert!(StaticNodes::parse(&texts(&[wrong])).is_err(), "{wrong}");
        }
    }

    /// A node's HTTP with nothing but its list.
    async fn serve(body: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/nodes", get(move || async move { body }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    #[tokio::test]
    async fn one_node_that_answers_is_enough_to_find_the_others() {
        let second = serve("[]".to_string()).await;
        let entry = NodeEntry {
            http: Some(second.to_string()),
            state: NodeState::Suspect,
            ..NodeEntry::at(7, "a:1".to_string(), 1)
        };
        let first = serve(serde_json::to_string(std::slice::from_ref(&entry)).expect("JSON")).await;
        // Nobody listens at the first address given.
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let nobody = closed.local_addr().expect("an address").to_string();
        drop(closed);
        let source = HttpNodes::new(&[nobody.clone(), first.to_string()]).expect("addresses");
        assert_eq!(source.nodes().await, Ok(vec![entry]));
        let candidates = source.known.lock().candidates(source.given.clone());
        assert_eq!(candidates, [first.to_string(), nobody, second.to_string()]);
    }

    #[tokio::test]
    async fn what_is_no_list_is_an_error_that_says_who() {
        let address = serve("hello".to_string()).await.to_string();
        let source = HttpNodes::new(std::slice::from_ref(&address)).expect("an address");
        let error = source.nodes().await.expect_err("no JSON");
        assert!(error.contains(&address), "{error}");
    }

    /// A node that answers nothing but the question for the nodes.
    struct Teller(Vec<NodeEntry>);

    impl Peer for Teller {
        fn message(&self, _from: StoreId, _message: Bytes) {}

        fn call(&self, _from: Option<StoreId>, request: Bytes) -> types::env::BoxFuture<Bytes> {
            let known = request == node_list::question();
            let answer = node_list::answer(&self.0);
            Box::pin(async move { if known { answer } else { Bytes::new() } })
        }

        fn connected(&self, _peer: StoreId, _connected: bool) {}
    }

    #[tokio::test]
    async fn nodes_are_found_where_they_talk_to_each_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let entry = NodeEntry {
            rpc: Some(address.clone()),
            ..NodeEntry::at(7, "a:1".to_string(), 1)
        };
        let me = watch::Sender::new(Identity {
            cluster: Some(5),
            store: Some(StoreId(7)),
            address: address.clone(),
        });
        let setup = Setup::new(me.subscribe(), None, MAX_CLOCK_OFFSET, crate::env::real());
        let (_stop, stopping) = watch::channel(false);
        tokio::spawn(RpcServer::serve(
            listener,
            RpcTransport::new(setup),
            Arc::new(Teller(vec![entry.clone()])),
            stopping,
        ));
        let source = RpcNodes::new(vec![address.parse().expect("an address")], None);
        assert_eq!(source.nodes().await, Ok(vec![entry]));
    }
}
