//! Read leases: nodes that answer by themselves, though the lease is elsewhere.

use super::{Cluster, DEADLINE, get, options, set, set_at_last};
use crate::read_leases;
use std::time::{Duration, Instant};
use types::StoreId;

/// Leases are given soon.
async fn start(size: u64) -> Cluster {
    let mut options = options();
    options.read_leases = read_leases::Options {
        reads: 4,
        quiet: Duration::from_millis(5),
        ..read_leases::Options::default()
    };
    let cluster = Cluster::start_with(size, options).await;
    cluster.until_settled().await;
    cluster
}

impl Cluster {
    /// Reads at this node until it answers by itself.
    async fn read_until_it_answers(&self, at: usize, key: &str, value: &str) {
        let node = &self.nodes[at];
        let before = node.store.read_lease_snapshots();
        let began = Instant::now();
        while node.store.read_lease_snapshots() == before {
            assert!(began.elapsed() < DEADLINE, "no read lease");
            let found = get(&node.coordinator, key).await.expect("a read");
            assert_eq!(found.as_deref(), Some(value));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_lease_answers_by_itself_and_never_what_is_old() {
    let cluster = start(3).await;
    let holder = cluster.holder().await;
    let readers = [(holder + 1) % 3, (holder + 2) % 3];
    for round in 0..20 {
        let value = round.to_string();
        // Whoever writes, and whoever answered by itself before.
        let writer = &cluster.nodes[round % 3].coordinator;
        set(writer, "key", value.clone()).await.expect("a write");
        for reader in readers {
            let found = get(&cluster.nodes[reader].coordinator, "key").await;
            assert_eq!(found.expect("a read").as_deref(), Some(&*value));
        }
        for reader in readers {
            cluster.read_until_it_answers(reader, "key", &value).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_lost_keeps_writers_waiting_until_its_lease_is_over() {
    let cluster = start(3).await;
    let holder = cluster.holder().await;
    let lost = (holder + 1) % 3;
    set(&cluster.nodes[holder].coordinator, "key", "old".to_owned())
        .await
        .expect("a write");
    cluster.read_until_it_answers(lost, "key", "old").await;
    cluster.cut_off(lost, true);
    let still = get(&cluster.nodes[lost].coordinator, "key").await;
    set_at_last(&cluster.nodes[holder].coordinator, "key", "new").await;
    // What it said before may be old, but from now on it knows that it knows nothing.
    assert!(still.is_err() || still.is_ok_and(|found| found.as_deref() == Some("old")));
    let found = get(&cluster.nodes[lost].coordinator, "key").await;
    assert!(found.is_err(), "{found:?}");
    cluster.cut_off(lost, false);
    let began = Instant::now();
    loop {
        match get(&cluster.nodes[lost].coordinator, "key").await {
            Ok(found) => break assert_eq!(found.as_deref(), Some("new")),
            Err(error) => assert!(began.elapsed() < DEADLINE, "{error}"),
        }
    }
}

/// Whoever leads next knows who may still answer.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_lease_holder_waits_for_readers_of_the_last_one() {
    let mut cluster = start(3).await;
    let holder = cluster.holder().await;
    let lost = cluster.name((holder + 1) % 3);
    set(&cluster.nodes[holder].coordinator, "key", "old".to_owned())
        .await
        .expect("a write");
    let at = |cluster: &Cluster, name: StoreId| {
        let mut nodes = 0..cluster.nodes.len();
        nodes.find(|at| cluster.name(*at) == name).expect("a node")
    };
    cluster
        .read_until_it_answers(at(&cluster, lost), "key", "old")
        .await;
    let (name, disk) = (cluster.name(holder), cluster.kill(holder).await);
    let (lost, other) = (at(&cluster, lost), 1 - at(&cluster, lost));
    cluster.cut_off(lost, true);
    // With the one that is back, the third has a quorum.
    let back = cluster.open(name, disk).await;
    cluster.nodes.push(back);
    for other in [other, 2] {
        cluster
            .network
            .cut(cluster.name(lost), cluster.name(other), true);
        cluster
            .network
            .cut(cluster.name(other), cluster.name(lost), true);
    }
    set_at_last(&cluster.nodes[other].coordinator, "key", "new").await;
    let found = get(&cluster.nodes[lost].coordinator, "key").await;
    assert!(found.is_err(), "{found:?}");
}
