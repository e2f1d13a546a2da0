//! The cluster as its views show it.

use super::client::{Client, Rows};

/// Events that are shown of a node.
const SHOWN_EVENTS: usize = 10;

/// One row of `phantom.nodes`. None: the node does not answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    pub id: u64,
    pub state: String,
    /// What the cluster wants of it: serve, drain, decommission, gone.
    pub wanted: String,
    pub sql_address: String,
    pub rpc_address: String,
    pub http_address: String,
    pub locality: String,
    pub version: String,
    pub replicas: Option<u64>,
    pub leases: Option<u64>,
    pub used_bytes: Option<u64>,
    pub sessions: Option<u64>,
    pub manages: bool,
}

const NODES: &str = "SELECT id, state, wanted, sql_address, rpc_address, http_address, locality, version, \
                     replicas, leases, used_bytes, sessions, manages FROM phantom.nodes ORDER BY id";

pub async fn nodes(client: &mut Client) -> Result<Vec<Node>, String> {
    Ok(client
        .query(NODES)
        .await?
        .iter()
        .map(|row| read(row))
        .collect())
}

fn read(row: &[Option<String>]) -> Node {
    let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
    let number = |at: usize| row.get(at)?.as_ref()?.parse().ok();
    Node {
        id: number(0).unwrap_or(0),
        state: text(1),
        wanted: text(2),
        sql_address: text(3),
        rpc_address: text(4),
        http_address: text(5),
        locality: text(6),
        version: text(7),
        replicas: number(8),
        leases: number(9),
        used_bytes: number(10),
        sessions: number(11),
        manages: text(12) == "t",
    }
}

/// Moves under way that concern a node, and what happened to it lately, the newest first.
pub async fn about(client: &mut Client, node: u64) -> Result<(Rows, Rows), String> {
    let moves = client.query(MOVES_UNDER_WAY).await?;
    let names = format!("store {node}");
    let concerns = |row: &Vec<Option<String>>| {
        let mut texts = row.iter().flatten();
        texts.any(|text| {
            text.split(['.', ',', ':'])
                .any(|part| ends_with_word(part, &names))
        })
    };
    let moves = moves.into_iter().filter(concerns).collect();
    let events = format!(
        "SELECT date_trunc('second', time), event, detail FROM phantom.events WHERE node = {node} \
         ORDER BY id DESC LIMIT {SHOWN_EVENTS}"
    );
    Ok((moves, client.query(&events).await?))
}

/// Whether `words` stands in the text with no further digit after it.
fn ends_with_word(text: &str, words: &str) -> bool {
    text.match_indices(words).any(|(at, found)| {
        let rest = &text[at + found.len()..];
        !rest.starts_with(|c: char| c.is_ascii_digit())
    })
}

const MOVES_UNDER_WAY: &str = "SELECT shard, move, reason, date_trunc('second', begun) FROM phantom.moves \
                               WHERE state = 'running' ORDER BY id";

/// All of it.
#[derive(Debug, Default)]
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub shards: u64,
    /// Shards that nobody holds the lease of.
    pub without_lease: u64,
    /// Shards with fewer voting copies than the most that any has.
    pub short: u64,
    /// Copies of most shards.
    pub copies: u64,
    pub moves: Rows,
    pub events: Rows,
}

/// Shards, those without a lease, the most copies, and the shards with fewer.
const SHARDS: &str = "WITH counted AS (SELECT shard, count(*) AS copies FROM phantom.replicas r \
                      JOIN phantom.nodes n ON n.id = r.node \
                      WHERE role = 'voter' AND n.state NOT IN ('dead', 'suspect') GROUP BY shard), \
                      most AS (SELECT max(copies) AS copies FROM counted) \
                      SELECT count(*), count(*) FILTER (WHERE l.shard IS NULL), max(most.copies), \
                      count(*) FILTER (WHERE c.copies < most.copies) \
                      FROM counted c CROSS JOIN most LEFT JOIN phantom.leases l ON l.shard = c.shard";

pub async fn cluster(client: &mut Client) -> Result<Cluster, String> {
    let shards = client.query(SHARDS).await?;
    let number = |at: usize| {
        let cell = shards.first().and_then(|row| row.get(at)?.as_ref());
        cell.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let events = format!(
        "SELECT date_trunc('second', time), node, event, detail FROM phantom.events \
         ORDER BY id DESC LIMIT {SHOWN_EVENTS}"
    );
    Ok(Cluster {
        shards: number(0),
        without_lease: number(1),
        copies: number(2),
        short: number(3),
        nodes: nodes(client).await?,
        moves: client.query(MOVES_UNDER_WAY).await?,
        events: client.query(&events).await?,
    })
}

impl Cluster {
    /// What is not as it should be.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for state in ["suspect", "dead"] {
            let nodes = self.nodes.iter().filter(|node| node.state == state);
            let nodes: Vec<String> = nodes.map(|node| node.id.to_string()).collect();
            if !nodes.is_empty() {
                complaints.push(format!("{state}: node {}", nodes.join(", ")));
            }
        }
        if self.short > 0 {
            complaints.push(format!(
                "{} shards have fewer than {} live copies",
                self.short, self.copies
            ));
        }
        if self.without_lease > 0 {
            complaints.push(format!(
                "{} shards have no lease holder",
                self.without_lease
            ));
        }
        let members = self
            .nodes
            .iter()
            .filter(|node| node.wanted != "gone")
            .count() as u64;
        if self.copies < members.min(WANTED_COPIES) {
            complaints.push(format!(
                "shards have {} live copies, and {} nodes could hold {}",
                self.copies,
                members,
                members.min(WANTED_COPIES)
            ));
        }
        complaints
    }
}

/// Copies that a cluster aims at by itself.
const WANTED_COPIES: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, state: &str) -> Node {
        Node {
            id,
            state: state.to_owned(),
            wanted: "serve".to_owned(),
            ..Node::default()
        }
    }

    #[test]
    fn a_cluster_complains_of_nodes_that_are_silent_and_shards_that_are_short() {
        let mut cluster = Cluster {
            nodes: vec![node(1, "live"), node(2, "live"), node(3, "draining")],
            shards: 4,
            copies: 3,
            ..Cluster::default()
        };
        assert!(cluster.complaints().is_empty());
        cluster.nodes[1].state = "suspect".to_owned();
        cluster.short = 2;
        let expected = ["suspect: node 2", "2 shards have fewer than 3 live copies"];
        assert_eq!(cluster.complaints(), expected);
        // All shards are short alike.
        (cluster.short, cluster.copies) = (0, 2);
        assert!(cluster.complaints()[1].contains("2 live copies"));
    }

    #[test]
    fn a_number_is_not_the_beginning_of_a_longer_one() {
        assert!(ends_with_word("add a replica on store 1", "store 1"));
        assert!(!ends_with_word("add a replica on store 12", "store 1"));
        assert!(ends_with_word("from store 12 to store 1", "store 1"));
    }
}
