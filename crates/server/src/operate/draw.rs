//! Tables for a terminal.

use super::client::Rows;
use super::picture::{Cluster, Node};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::HumanBytes;
use std::fmt::Write;

/// What is shown of a node that does not answer.
const UNKNOWN: &str = "-";

pub fn nodes(nodes: &[Node]) -> String {
    let mut table = table(&[
        "node",
        "state",
        "sql address",
        "locality",
        "version",
        "replicas",
        "leases",
        "sessions",
        "used",
    ]);
    for node in nodes {
        table.add_row([
            node.id.to_string(),
            state(node),
            node.sql_address.clone(),
            or_unknown(&node.locality),
            or_unknown(&node.version),
            count(node.replicas),
            count(node.leases),
            count(node.sessions),
            bytes(node.used_bytes),
        ]);
    }
    right(&mut table, &[0, 5, 6, 7, 8]);
    format!("{table}\n")
}

/// The state, and what is wanted of the node if that is something else.
fn state(node: &Node) -> String {
    let silent = matches!(node.state.as_str(), "suspect" | "dead" | "joining");
    let mut shown = node.state.clone();
    if silent && matches!(node.wanted.as_str(), "drain" | "decommission") {
        let _ = write!(shown, " ({})", node.wanted);
    }
    if node.manages {
        shown.push_str(" *");
    }
    shown
}

pub fn node(node: &Node, moves: &Rows, events: &Rows) -> String {
    let mut facts = table(&["node", &node.id.to_string()]);
    for (name, value) in [
        ("state", state(node)),
        ("wanted", node.wanted.clone()),
        ("sql address", node.sql_address.clone()),
        ("rpc address", node.rpc_address.clone()),
        ("http address", or_unknown(&node.http_address)),
        ("locality", or_unknown(&node.locality)),
        ("version", or_unknown(&node.version)),
        ("replicas", count(node.replicas)),
        ("leases", count(node.leases)),
        ("sessions", count(node.sessions)),
        ("used", bytes(node.used_bytes)),
    ] {
        facts.add_row([name.to_owned(), value]);
    }
    let mut page = format!("{facts}\n");
    push(
        &mut page,
        "Moves under way",
        &["shard", "move", "reason", "begun"],
        moves,
    );
    push(&mut page, "Lately", &["time", "event", "detail"], events);
    page
}

pub fn cluster(cluster: &Cluster) -> String {
    let mut page = nodes(&cluster.nodes);
    if cluster.nodes.iter().any(|node| node.manages) {
        page.push_str("* the cluster manager runs there\n");
    }
    let _ = writeln!(
        page,
        "\n{} shards, {} copies each; {}",
        cluster.shards,
        cluster.copies,
        spread(&cluster.nodes)
    );
    let mut versions: Vec<&str> = cluster.nodes.iter().map(|n| n.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        let _ = writeln!(page, "several versions: {}", versions.join(", "));
    }
    match cluster.complaints().as_slice() {
        [] => page.push_str("all is well\n"),
        complaints => complaints.iter().for_each(|c| {
            let _ = writeln!(page, "! {c}");
        }),
    }
    if cluster.moves.is_empty() {
        page.push_str("the manager has nothing to move\n");
    }
    push(
        &mut page,
        "Moves under way",
        &["shard", "move", "reason", "begun"],
        &cluster.moves,
    );
    push(
        &mut page,
        "Lately",
        &["time", "node", "event", "detail"],
        &cluster.events,
    );
    page
}

/// How evenly replicas and leases lie on the nodes that serve.
fn spread(nodes: &[Node]) -> String {
    let serving = || nodes.iter().filter(|node| node.state == "live");
    let range = |of: fn(&Node) -> Option<u64>| {
        let (least, most) = (
            serving().filter_map(of).min(),
            serving().filter_map(of).max(),
        );
        match (least, most) {
            (Some(least), Some(most)) if least == most => least.to_string(),
            (Some(least), Some(most)) => format!("{least} to {most}"),
            _ => UNKNOWN.to_owned(),
        }
    };
    format!(
        "a live node has {} replicas and {} leases",
        range(|node| node.replicas),
        range(|node| node.leases)
    )
}

fn push(page: &mut String, title: &str, header: &[&str], rows: &Rows) {
    if rows.is_empty() {
        return;
    }
    let mut table = table(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| cell.clone().unwrap_or_default()));
    }
    let _ = write!(page, "\n{title}\n{table}\n");
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}

fn right(table: &mut Table, columns: &[usize]) {
    for at in columns {
        if let Some(column) = table.column_mut(*at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn count(number: Option<u64>) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), |number| number.to_string())
}

fn bytes(number: Option<u64>) -> String {
    number.map_or_else(
        || UNKNOWN.to_owned(),
        |number| HumanBytes(number).to_string(),
    )
}

fn or_unknown(text: &str) -> String {
    match text {
        "" => UNKNOWN.to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_node_shows_what_is_wanted_of_it_and_no_numbers() {
        let dead = Node {
            id: 3,
            state: "dead".to_owned(),
            wanted: "decommission".to_owned(),
            sql_address: "c:5450".to_owned(),
            ..Node::default()
        };
        let page = nodes(&[dead]);
        assert!(page.contains("dead (decommission)"), "{page}");
        assert!(page.contains("c:5450"), "{page}");
        assert!(page.contains(UNKNOWN), "{page}");
    }
}
