//! What a store measures. Handles are made once; recording is a few nanoseconds.

use ::metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

pub(crate) struct Metrics {
    /// Commits acknowledged.
    pub(crate) commits: Counter,
    /// From the call of commit to its acknowledgement.
    pub(crate) commit_seconds: Histogram,
    /// Commits in one write and sync.
    pub(crate) batch_commits: Histogram,
    pub(crate) batch_bytes: Histogram,
    pub(crate) syncs: Counter,
    pub(crate) sync_seconds: Histogram,
    pub(crate) apply_seconds: Histogram,
    pub(crate) applied_index: Gauge,
    pub(crate) log_bytes: Gauge,
    pub(crate) validation_failures: Counter,
    /// Snapshots of shards whose lease is elsewhere.
    pub(crate) read_lease_snapshots: Counter,
    pub(crate) locks_waiting: Gauge,
    pub(crate) lock_waits: Counter,
    pub(crate) deadlocks: Counter,
    pub(crate) gc_versions: Counter,
    pub(crate) gc_bytes: Counter,
    /// Bytes of tables whose checksums were compared.
    pub(crate) scrub_bytes: Counter,
    /// Damaged tables that were taken out of use.
    pub(crate) damaged_tables: Counter,
    /// Replicas that had rows in them.
    pub(crate) damaged_replicas: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Metrics {
            commits: counter!("phantomdb_commits_total"),
            commit_seconds: histogram!("phantomdb_commit_seconds"),
            batch_commits: histogram!("phantomdb_log_batch_commits"),
            batch_bytes: histogram!("phantomdb_log_batch_bytes"),
            syncs: counter!("phantomdb_log_syncs_total"),
            sync_seconds: histogram!("phantomdb_log_sync_seconds"),
            apply_seconds: histogram!("phantomdb_apply_seconds"),
            applied_index: gauge!("phantomdb_applied_index"),
            log_bytes: gauge!("phantomdb_log_bytes"),
            validation_failures: counter!("phantomdb_serialization_failures_total"),
            read_lease_snapshots: counter!("phantomdb_read_lease_snapshots_total"),
            locks_waiting: gauge!("phantomdb_locks_waiting"),
            lock_waits: counter!("phantomdb_lock_waits_total"),
            deadlocks: counter!("phantomdb_deadlocks_total"),
            gc_versions: counter!("phantomdb_gc_versions_total"),
            gc_bytes: counter!("phantomdb_gc_bytes_total"),
            scrub_bytes: counter!("phantomdb_scrub_bytes_total"),
            damaged_tables: counter!("phantomdb_damaged_tables_total"),
            damaged_replicas: counter!("phantomdb_damaged_replicas_total"),
        }
    }
}

/// What the cluster manager measures. All nodes have it; it moves where the manager runs.
pub(crate) struct ManagerMetrics {
    /// 1 while it runs on this node.
    pub(crate) in_charge: Gauge,
    /// One look at all nodes, and what follows from it.
    pub(crate) round_seconds: Histogram,
    moves_done: Counter,
    moves_failed: Counter,
}

impl ManagerMetrics {
    pub(crate) fn new() -> Self {
        let moves =
            |outcome: &'static str| counter!("phantomdb_manager_moves_total", "outcome" => outcome);
        ManagerMetrics {
            in_charge: gauge!("phantomdb_manager_in_charge"),
            round_seconds: histogram!("phantomdb_manager_round_seconds"),
            moves_done: moves("done"),
            moves_failed: moves("failed"),
        }
    }

    pub(crate) fn move_ended(&self, done: bool) {
        match done {
            true => self.moves_done.increment(1),
            false => self.moves_failed.increment(1),
        }
    }

    /// A node is in another state: rare, so no handle is kept.
    pub(crate) fn state_changed(&self, to: &'static str) {
        counter!("phantomdb_membership_changes_total", "to" => to).increment(1);
    }
}

pub(crate) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
