//! What a commit replaces is told with it.

use super::{Cluster, Node, set};
use futures::future::join_all;
use std::ops::Bound;
use storage::{Engine, Keyspace};
use txn::Coordinator;
use txn::kv::{Isolation, ReadScope};
use types::Result;

async fn set_without_lock(c: &Coordinator, key: &str, value: &str) -> Result<()> {
    let mut txn = c.begin(Isolation::ReadCommitted, false);
    txn.begin_statement(ReadScope::All).await?;
    txn.put(key.as_bytes().to_vec(), value.to_owned())?;
    txn.commit().await.map(|_| ())
}

/// Old versions of the keys that begin so.
fn old_versions(node: &Node, prefix: &'static str) -> Vec<(bytes::Bytes, bytes::Bytes)> {
    let all = (Bound::Included(prefix.into()), Bound::Unbounded);
    let snapshot = node.disk.snapshot();
    let versions = snapshot.scan(Keyspace::History, all, false);
    let versions = versions.map(|version| version.expect("a sound disk"));
    versions
        .take_while(|(key, _)| key.starts_with(prefix.as_bytes()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_need_not_read_what_they_overwrite() {
    let cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    let holder = cluster.holder().await;
    let follower = (holder + 1) % 3;
    let writer = &cluster.nodes[holder].coordinator;
    set(writer, "key", "old".to_owned()).await.expect("a write");
    cluster.until_settled().await;
    let before = cluster.replica_on(follower).await;
    cluster.damage(follower, "key");
    set(writer, "key", "new".to_owned()).await.expect("a write");
    cluster.until_settled().await;
    let disk = &cluster.nodes[follower].disk;
    disk.set_faults(|faults| faults.bad = None);
    assert_eq!(cluster.replica_on(follower).await, before);
    let versions = cluster.nodes.iter().map(|node| old_versions(node, "key"));
    let versions: Vec<_> = versions.collect();
    assert_eq!(versions[0].len(), 1);
    assert_eq!([&versions[1], &versions[2]], [&versions[0]; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_version_is_lost_of_a_key_that_is_written_many_times_at_once() {
    const WRITES: usize = 200;
    let cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    let write = |number: usize| {
        let writer = &cluster.nodes[number % 3].coordinator;
        set_without_lock(writer, "key", "value")
    };
    let written = join_all((0..WRITES).map(write)).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
    cluster.until_settled().await;
    for node in &cluster.nodes {
        assert_eq!(old_versions(node, "key").len(), WRITES - 1);
    }
}
