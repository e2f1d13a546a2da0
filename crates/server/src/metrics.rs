//! Metrics of the process and of its connections, in Prometheus' text form.

use membership::facts::NodeFacts;
use membership::service::State;
use metrics::{
    Counter, Gauge, counter, describe_counter, describe_gauge, describe_histogram, gauge,
};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use node::manager::Report;
use std::time::Instant;

/// Bounds of duration histograms, in seconds: from a cached point read to a long report.
const DURATION_BUCKETS: [f64; 13] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0,
];

/// Makes the process record metrics. Once per process, before anything takes a handle.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(&DURATION_BUCKETS)?
        .install_recorder()
}

/// Handles taken once, so that counting is an atomic addition.
pub struct WireMetrics {
    open: Gauge,
    opened: Counter,
    refused: Counter,
    statements: Counter,
}

impl Default for WireMetrics {
    fn default() -> Self {
        describe_gauge!("phantomdb_sql_connections", "Client sessions that are open");
        describe_counter!(
            "phantomdb_sql_connections_opened_total",
            "Client sessions since start"
        );
        describe_counter!(
            "phantomdb_sql_connections_refused_total",
            "Sessions refused because too many were open"
        );
        describe_counter!(
            "phantomdb_sql_statements_total",
            "Query and Execute messages since start"
        );
        WireMetrics {
            open: gauge!("phantomdb_sql_connections"),
            opened: counter!("phantomdb_sql_connections_opened_total"),
            refused: counter!("phantomdb_sql_connections_refused_total"),
            statements: counter!("phantomdb_sql_statements_total"),
        }
    }
}

impl WireMetrics {
    /// Counts a session as open for as long as the answer lives.
    pub fn connection_opened(&self) -> OpenConnection<'_> {
        self.opened.increment(1);
        self.open.increment(1.0);
        OpenConnection(self)
    }

    pub fn connection_refused(&self) {
        self.refused.increment(1);
    }

    #[inline]
    pub fn statement(&self) {
        self.statements.increment(1);
    }
}

pub struct OpenConnection<'a>(&'a WireMetrics);

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.open.decrement(1.0);
    }
}

/// How a node stands in its cluster, as it tells the others.
pub struct NodeMetrics {
    replicas: Gauge,
    leading: Gauge,
    leases: Gauge,
    draining: Gauge,
    store_bytes: Gauge,
    /// By state; of a node where the cluster manager runs.
    nodes: Vec<(State, Gauge)>,
}

impl Default for NodeMetrics {
    fn default() -> Self {
        describe_gauge!("phantomdb_raft_replicas", "Replicas on this node");
        describe_gauge!("phantomdb_raft_leaders", "Raft groups that this node leads");
        describe_gauge!("phantomdb_leases", "Shards whose lease this node holds");
        describe_gauge!(
            "phantomdb_node_draining",
            "1 while the node gives leases and sessions away"
        );
        describe_gauge!("phantomdb_store_bytes", "Bytes of the store on disk");
        describe_gauge!(
            "phantomdb_membership_nodes",
            "Nodes of the cluster by state; 0 where the cluster manager does not run"
        );
        describe_counter!(
            "phantomdb_membership_changes_total",
            "Changes of nodes' states, counted where the cluster manager runs"
        );
        describe_gauge!(
            "phantomdb_manager_in_charge",
            "1 while the cluster manager runs on this node"
        );
        describe_counter!(
            "phantomdb_manager_moves_total",
            "Moves of replicas and leases that have ended"
        );
        describe_histogram!(
            "phantomdb_manager_round_seconds",
            "Rounds of the cluster manager"
        );
        let nodes = State::ALL.map(|state| {
            (
                state,
                gauge!("phantomdb_membership_nodes", "state" => state.name()),
            )
        });
        NodeMetrics {
            replicas: gauge!("phantomdb_raft_replicas"),
            leading: gauge!("phantomdb_raft_leaders"),
            leases: gauge!("phantomdb_leases"),
            draining: gauge!("phantomdb_node_draining"),
            store_bytes: gauge!("phantomdb_store_bytes"),
            nodes: nodes.into(),
        }
    }
}

impl NodeMetrics {
    pub fn tell(&self, facts: &NodeFacts, report: &Report) {
        self.replicas.set(facts.replicas as f64);
        let leading = report.replicas.iter().filter(|replica| replica.leads);
        self.leading.set(leading.count() as f64);
        self.leases.set(facts.leases as f64);
        self.draining.set(f64::from(u8::from(facts.draining)));
        self.store_bytes.set(facts.used_bytes as f64);
        for (state, gauge) in &self.nodes {
            let nodes = report.judged.iter().filter(|(_, judged)| judged == state);
            gauge.set(nodes.count() as f64);
        }
    }
}

/// What the operating system knows of this process, read when metrics are asked for.
pub struct ProcessMetrics {
    started: Instant,
    uptime: Gauge,
    resident: Gauge,
    cpu: Gauge,
    open_files: Gauge,
    threads: Gauge,
}

impl ProcessMetrics {
    pub fn new(started: Instant) -> Self {
        describe_gauge!("process_uptime_seconds", "Seconds since start");
        describe_gauge!("process_resident_memory_bytes", "Resident memory in bytes");
        describe_gauge!(
            "process_cpu_seconds_total",
            "User and system CPU time in seconds"
        );
        describe_gauge!("process_open_fds", "Open file descriptors");
        describe_gauge!("process_threads", "Threads of the process");
        ProcessMetrics {
            started,
            uptime: gauge!("process_uptime_seconds"),
            resident: gauge!("process_resident_memory_bytes"),
            cpu: gauge!("process_cpu_seconds_total"),
            open_files: gauge!("process_open_fds"),
            threads: gauge!("process_threads"),
        }
    }

    pub fn update(&self) {
        self.uptime.set(self.started.elapsed().as_secs_f64());
        if let Some(stat) = ProcessStat::read() {
            self.resident.set(stat.resident_bytes as f64);
            self.cpu.set(stat.cpu_seconds);
            self.threads.set(stat.threads as f64);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.open_files.set(files.count() as f64);
        }
    }
}

/// From Linux' `/proc/self/stat`; elsewhere there is none.
#[derive(Debug, PartialEq)]
pub(crate) struct ProcessStat {
    pub(crate) cpu_seconds: f64,
    threads: u64,
    resident_bytes: u64,
}

/// The kernel's clock ticks per second in `/proc`; fixed at 100 for user space on Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// `/proc/self/stat` counts resident memory in pages.
const PAGE_BYTES: u64 = 4096;

impl ProcessStat {
    pub(crate) fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The program's name stands in brackets and may hold blanks.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(ProcessStat {
            cpu_seconds: (number(11)? + number(12)?) as f64 / TICKS_PER_SECOND,
            threads: number(17)?,
            resident_bytes: number(21)? * PAGE_BYTES,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_line() {
        let line = "42 (a b) c) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 7 0 100 1000000 \
                    256 18446744073709551615";
        assert_eq!(
            ProcessStat::parse(line),
            Some(ProcessStat {
                cpu_seconds: 2.0,
                threads: 7,
                resident_bytes: 256 * 4096
            })
        );
        assert_eq!(ProcessStat::parse("nonsense"), None);
    }
}
