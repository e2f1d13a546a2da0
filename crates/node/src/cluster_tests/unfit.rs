//! Nodes whose clock or disk is worse than those of the others: they go on, and lead nothing.

use super::*;
use crate::health::Fitness;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use storage::{Snapshot, WriteBatch};
use types::env::{BoxFuture, Clock, Env};

/// What is wrong with a node.
#[derive(Default)]
pub(super) struct Hurt {
    /// By how much its clock is ahead.
    ahead_millis: AtomicI64,
    /// How long each sync takes.
    sync_millis: AtomicU64,
}

struct WrongClock {
    right: Arc<dyn Clock>,
    hurt: Arc<Hurt>,
}

impl Clock for WrongClock {
    fn wall_micros(&self) -> i64 {
        self.right.wall_micros() + self.hurt.ahead_millis.load(Ordering::Relaxed) * 1000
    }

    fn monotonic_nanos(&self) -> u64 {
        self.right.monotonic_nanos()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        self.right.sleep(duration)
    }
}

pub(super) fn env(hurt: &Arc<Hurt>) -> Env {
    let env = real_env();
    let clock = WrongClock {
        right: Arc::clone(&env.clock),
        hurt: Arc::clone(hurt),
    };
    Env {
        clock: Arc::new(clock),
        ..env
    }
}

pub(super) struct SlowDisk {
    pub(super) disk: SimDisk,
    pub(super) hurt: Arc<Hurt>,
}

impl Engine for SlowDisk {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> storage::Result<Option<bytes::Bytes>> {
        self.disk.get(keyspace, key)
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        self.disk.snapshot()
    }

    fn write(&self, batch: WriteBatch) -> storage::Result<()> {
        self.disk.write(batch)
    }

    fn sync(&self) -> storage::Result<()> {
        let millis = self.hurt.sync_millis.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(millis));
        self.disk.sync()
    }

    fn disk_bytes(&self) -> u64 {
        self.disk.disk_bytes()
    }

    fn tables(&self) -> Vec<storage::TableRef> {
        self.disk.tables()
    }

    fn check_table(&self, table: storage::TableRef) -> storage::Result<Option<storage::Damage>> {
        self.disk.check_table(table)
    }

    fn discard(&self, damage: &storage::Damage) -> storage::Result<bool> {
        self.disk.discard(damage)
    }
}

impl Cluster {
    /// Waits until a node says that it is this fit, while others write.
    async fn until_fitness(&self, at: usize, wanted: Fitness) {
        let began = Instant::now();
        loop {
            set_at_last(&self.nodes[(at + 1) % 3].coordinator, "key", "value").await;
            let health = self.nodes[at].store.report().await.health;
            if health.fitness == wanted {
                return;
            }
            assert!(began.elapsed() < DEADLINE, "never {wanted:?}: {health:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_told(&self, at: usize, event: &str) {
        let began = Instant::now();
        loop {
            let events = self.nodes[(at + 1) % 3].store.events(0).await;
            let events = events.unwrap_or_default();
            let mut own = events.iter().filter(|row| row.store == self.name(at).0);
            if own.any(|row| row.event == event) {
                return;
            }
            assert!(began.elapsed() < DEADLINE, "no {event}: {events:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_lease_is_elsewhere(&self, at: usize) {
        let began = Instant::now();
        loop {
            let reports = self.reports().await;
            let mut holders = reports.iter().filter(|report| {
                let mut replicas = report.replicas.iter();
                replicas.any(|replica| replica.leads && replica.holds_lease)
            });
            let holder = holders.next().map(|report| StoreId(report.store));
            if holder.is_some_and(|holder| holder != self.name(at)) {
                return;
            }
            assert!(
                began.elapsed() < DEADLINE,
                "it keeps the lease: {reports:#?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_jumps_gives_its_leases_up_until_it_is_right() {
    let mut cluster = Cluster::start(0).await;
    cluster.options.max_clock_offset = Duration::from_millis(500);
    for _ in 0..3 {
        cluster.add().await;
    }
    cluster.until_settled().await;
    let holder = cluster.holder().await;
    let hurt = Arc::clone(&cluster.nodes[holder].hurt);
    hurt.ahead_millis.store(440, Ordering::Relaxed);
    cluster.until_fitness(holder, Fitness::ClockOff).await;
    cluster.until_lease_is_elsewhere(holder).await;
    // It serves its clients all the same.
    set_at_last(&cluster.nodes[holder].coordinator, "key", "here").await;
    let found = get(&cluster.nodes[holder].coordinator, "key").await;
    assert_eq!(found.expect("a read").as_deref(), Some("here"));
    assert!(cluster.nodes[holder].store.failed().borrow().is_none());
    for other in (0..3).filter(|other| *other != holder) {
        let health = cluster.nodes[other].store.report().await.health;
        assert_eq!(health.fitness, Fitness::Fit, "{health:?}");
    }
    hurt.ahead_millis.store(0, Ordering::Relaxed);
    cluster.until_fitness(holder, Fitness::Fit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_leave_a_node_whose_disk_is_slow() {
    let cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    let holder = cluster.holder().await;
    let hurt = Arc::clone(&cluster.nodes[holder].hurt);
    hurt.sync_millis.store(400, Ordering::Relaxed);
    cluster.until_fitness(holder, Fitness::Slow).await;
    cluster.until_lease_is_elsewhere(holder).await;
    cluster.until_told(holder, "slow disk").await;
    hurt.sync_millis.store(0, Ordering::Relaxed);
    cluster.until_fitness(holder, Fitness::Fit).await;
    cluster.until_told(holder, "good").await;
}
