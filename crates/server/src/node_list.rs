//! The nodes of a cluster as one of them tells them, to proxies that ask where nodes talk to each other
//! ([`question`]), and by `GET /nodes`.
//!
//! ```json
//! [{"id": 1, "sql": "10.0.0.1:5450", "http": "10.0.0.1:5452", "rpc": "10.0.0.1:5451",
//!   "state": "live", "draining": false, "sessions": 3, "weight": 1}]
//! ```

use bytes::Bytes;
use node::rpc::Part;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The kind of the call, among those of [`Part::Discovery`].
pub const QUESTION: u8 = Part::Discovery as u8 + 1;

/// What is asked of a node by its RPC address. Whoever may connect may ask.
pub fn question() -> Bytes {
    Bytes::from_static(&[QUESTION])
}

/// The answer: JSON; empty if that cannot be made.
pub fn answer(nodes: &[NodeEntry]) -> Bytes {
    serde_json::to_vec(nodes).unwrap_or_default().into()
}

/// Asked for the nodes each time somebody wants them.
pub type NodeList = Arc<dyn Fn() -> Vec<NodeEntry> + Send + Sync>;

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeEntry {
    pub id: u64,
    /// Where clients connect: `host:port`.
    pub sql: String,
    /// Where `/ready` is: `host:port`. None: the node has no HTTP.
    #[serde(default)]
    pub http: Option<String>,
    /// Where other nodes connect: `host:port`.
    #[serde(default)]
    pub rpc: Option<String>,
    pub state: NodeState,
    /// It finishes what it has and takes nothing new.
    #[serde(default)]
    pub draining: bool,
    /// Clients' sessions that are open on it.
    #[serde(default)]
    pub sessions: u64,
    /// Its share of new sessions where they are spread by weight.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

impl NodeEntry {
    /// A node of which only the address for clients is known.
    pub fn at(id: u64, sql: String, weight: u32) -> Self {
        NodeEntry {
            id,
            sql,
            http: None,
            rpc: None,
            state: NodeState::Live,
            draining: false,
            sessions: 0,
            weight,
        }
    }
}

/// What the cluster thinks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    Live,
    /// It has not been heard of for a while.
    Suspect,
    Dead,
    Draining,
    /// It gives away all that it has, to be removed for good.
    Decommissioning,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_makes_up_the_rest() {
        let text = r#"[{"id":1,"sql":"a:1","http":"a:2","rpc":"a:3","state":"live","draining":false,"sessions":3},
                       {"id":2,"sql":"b:1","state":"resting","more":[]}]"#;
        let nodes: Vec<NodeEntry> = serde_json::from_str(text).expect("a list");
        assert_eq!((nodes[0].sessions, nodes[0].weight), (3, 1));
        assert_eq!(
            (nodes[1].state, &nodes[1].http),
            (NodeState::Unknown, &None)
        );
        let again = serde_json::to_string(&nodes[0]).expect("JSON");
        assert_eq!(
            serde_json::from_str::<NodeEntry>(&again).expect("JSON"),
            nodes[0]
        );
    }
}
