//! What the proxy counts of each node, as metrics and as a table for people.

use crate::proxy::fleet::{Fleet, Row};
use crate::proxy::health::Condition;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::HumanBytes;
use metrics::{
    Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const OPEN: &str = "phantomdb_proxy_sessions";
const TOTAL: &str = "phantomdb_proxy_sessions_total";
const FAILED: &str = "phantomdb_proxy_failures_total";
const UP: &str = "phantomdb_proxy_node_up";
const BYTES: &str = "phantomdb_proxy_bytes_total";
const CONNECT: &str = "phantomdb_proxy_connect_seconds";

/// Says what the metrics mean. Once per process.
pub fn describe() {
    describe_gauge!(OPEN, "Clients' sessions on a node through this proxy");
    describe_counter!(TOTAL, "Sessions that were tried on a node since start");
    describe_counter!(
        FAILED,
        "Sessions that a node could not be reached for or refused"
    );
    describe_gauge!(UP, "1 if the node gets new sessions");
    describe_counter!(BYTES, "Bytes carried to and from a node");
    describe_histogram!(
        CONNECT,
        "Seconds from the choice of a node to its first answer"
    );
}

/// What one node's sessions carry. Counting is an atomic addition.
pub struct Traffic {
    to_node: AtomicU64,
    from_node: AtomicU64,
    connects: AtomicU64,
    connect_micros: AtomicU64,
    connect: Histogram,
}

impl Traffic {
    pub fn new(node: u64) -> Self {
        Traffic {
            to_node: AtomicU64::new(0),
            from_node: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            connect_micros: AtomicU64::new(0),
            connect: histogram!(CONNECT, "node" => node.to_string()),
        }
    }

    #[inline]
    pub fn sent(&self, bytes: usize) {
        self.to_node.fetch_add(bytes as u64, Relaxed);
    }

    #[inline]
    pub fn received(&self, bytes: usize) {
        self.from_node.fetch_add(bytes as u64, Relaxed);
    }

    /// A connection came through after so long.
    pub fn connected(&self, after: Duration) {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.connects.fetch_add(1, Relaxed);
        self.connect_micros.fetch_add(micros, Relaxed);
        self.connect.record(after.as_secs_f64());
    }

    /// The average.
    fn connect_latency(&self) -> Option<Duration> {
        let micros = self.connect_micros.load(Relaxed);
        let average = micros.checked_div(self.connects.load(Relaxed))?;
        Some(Duration::from_micros(average))
    }
}

/// Brings the metrics that are not counted as things happen up to date.
pub fn publish(fleet: &Fleet) {
    for Row {
        node,
        target,
        condition,
    } in fleet.rows()
    {
        let label = || ("node", node.id.to_string());
        gauge!(OPEN, &[label()]).set(target.open as f64);
        counter!(TOTAL, &[label()]).absolute(target.chosen);
        counter!(FAILED, &[label()]).absolute(target.failed);
        let up = target.healthy && condition == Condition::Serving;
        gauge!(UP, &[label()]).set(f64::from(u8::from(up)));
        let bytes = |direction: &'static str, count: &AtomicU64| {
            let labels = [label(), ("direction", direction.to_string())];
            counter!(BYTES, &labels).absolute(count.load(Relaxed));
        };
        bytes("to", &node.traffic.to_node);
        bytes("from", &node.traffic.from_node);
    }
}

/// All nodes, one a line.
pub fn table(fleet: &Fleet) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "node", "address", "state", "open", "total", "failed", "sent", "received", "connect",
    ]);
    for row in fleet.rows() {
        table.add_row(cells(&row));
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n")
}

fn cells(row: &Row) -> [String; 9] {
    let Row {
        node,
        target,
        condition,
    } = row;
    let traffic = &node.traffic;
    let connect = traffic.connect_latency();
    [
        node.id.to_string(),
        node.sql.clone(),
        state(*condition, target.healthy).to_string(),
        target.open.to_string(),
        target.chosen.to_string(),
        target.failed.to_string(),
        HumanBytes(traffic.to_node.load(Relaxed)).to_string(),
        HumanBytes(traffic.from_node.load(Relaxed)).to_string(),
        connect.map_or("-".to_string(), |latency| format!("{latency:.1?}")),
    ]
}

fn state(condition: Condition, healthy: bool) -> &'static str {
    match (condition, healthy) {
        (Condition::Serving, true) => "up",
        (Condition::Serving, false) => "not ready",
        (Condition::Draining, _) => "draining",
        (Condition::Dead, _) => "dead",
        (Condition::Removed, _) => "removed",
    }
}
