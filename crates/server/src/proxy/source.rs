//! Where the proxy learns which nodes there are.

use crate::node_list::NodeEntry;
use crate::proxy::http_client;
use crate::proxy::limits::{MAX_LIST_BYTES, MAX_NODES, SOURCE_TIMEOUT};
use futures::future::BoxFuture;
use hyper::StatusCode;
use parking_lot::Mutex;

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

/// Asks the nodes themselves for the list, over HTTP. Knowing one of them is enough: the others are learned
/// from its answer and asked when it is gone.
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

impl HttpNodes {
    pub fn new(addresses: &[String]) -> Result<Self, String> {
        addresses.iter().try_for_each(|a| check_address(a))?;
        Ok(HttpNodes {
            given: addresses.to_vec(),
            known: Mutex::default(),
        })
    }

    /// Whom to ask, the best first.
    fn candidates(&self) -> Vec<String> {
        let known = self.known.lock();
        let all = known.last.iter().chain(&self.given).chain(&known.learned);
        let mut candidates: Vec<String> = Vec::new();
        for address in all {
            if !candidates.contains(address) {
                candidates.push(address.clone());
            }
        }
        candidates
    }

    fn remember(&self, answered: String, nodes: &[NodeEntry]) {
        let http = nodes.iter().filter_map(|node| node.http.clone());
        *self.known.lock() = Known {
            last: Some(answered),
            learned: http.take(MAX_NODES).collect(),
        };
    }

    async fn ask(address: &str) -> Result<Vec<NodeEntry>, String> {
        let answer = http_client::get(address, "/nodes", MAX_LIST_BYTES);
        let (status, body) = tokio::time::timeout(SOURCE_TIMEOUT, answer)
            .await
            .map_err(|_| format!("{address}: no answer within {SOURCE_TIMEOUT:?}"))?
            .map_err(|error| format!("{address}: {error}"))?;
        if status != StatusCode::OK {
            return Err(format!("{address}/nodes: {status}"));
        }
        serde_json::from_slice(&body).map_err(|error| format!("{address}/nodes: {error}"))
    }
}

impl NodeSource for HttpNodes {
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<NodeEntry>, String>> {
        Box::pin(async {
            let mut failures = Vec::new();
            for address in self.candidates() {
                match HttpNodes::ask(&address).await {
                    Ok(nodes) => {
                        self.remember(address, &nodes);
                        return Ok(nodes);
                    }
                    Err(failure) => failures.push(failure),
                }
            }
            Err(failures.join("; "))
        })
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
    use axum::Router;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::net::TcpListener;

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
        assert_eq!(
            source.candidates(),
            [first.to_string(), nobody, second.to_string()]
        );
    }

    #[tokio::test]
    async fn what_is_no_list_is_an_error_that_says_who() {
        let address = serve("hello".to_string()).await.to_string();
        let source = HttpNodes::new(std::slice::from_ref(&address)).expect("an address");
        let error = source.nodes().await.expect_err("no JSON");
        assert!(error.contains(&address), "{error}");
    }
}
