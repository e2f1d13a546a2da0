//! Three processes are one database, and any one of them may die.

use crate::node::{DEADLINE, Ended, Node, arguments, program, state};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(50);

pub fn start(folder: &Path, rpc: &str, join: &str) -> Node {
    start_with(folder, rpc, join, &[])
}

/// The same with more arguments.
pub fn start_with(folder: &Path, rpc: &str, join: &str, more: &[&str]) -> Node {
    run(folder, rpc, join, more).unwrap_or_else(|ended| panic!("no start: {ended:?}"))
}

pub fn run(folder: &Path, rpc: &str, join: &str, more: &[&str]) -> Result<Node, Ended> {
    std::fs::create_dir_all(folder).expect("a folder");
    let mut command = Command::new(program());
    command.arg("start").args(arguments(folder, "127.0.0.1:0"));
    command.args(["--rpc-addr", rpc]);
    if !join.is_empty() {
        command.args(["--join", join]);
    }
    command.args(more);
    Node::run(command, folder)
}

/// Where a node listens for others, as it tells proxies.
pub fn rpc_of(node: &Node) -> String {
    let (_, nodes) = node.get("/nodes");
    let (_, rest) = nodes.split_once("\"rpc\":\"").expect("its own entry");
    rest.split('"').next().expect("an address").to_owned()
}

pub async fn number(client: &Client, query: &str) -> i64 {
    let row = client.query_one(query, &[]).await;
    row.expect("an answer").get(0)
}

pub async fn until(client: &Client, query: &str, wanted: i64) {
    let began = Instant::now();
    while number(client, query).await != wanted {
        assert!(began.elapsed() < DEADLINE, "never {wanted}: {query}");
        tokio::time::sleep(POLL).await;
    }
}

/// What a client with a pool does: tries again after errors that say so.
pub async fn insert_at_last(client: &Client, id: i32) {
    let insert = "INSERT INTO t VALUES ($1) ON CONFLICT DO NOTHING";
    at_last(async || client.execute(insert, &[&id]).await).await;
}

pub async fn at_last(act: impl AsyncFn() -> Result<u64, tokio_postgres::Error>) {
    let began = Instant::now();
    loop {
        let Err(error) = act().await else {
            return;
        };
        let again = ["40001", "40003", "57P03"].contains(&state(&error));
        assert!(again && began.elapsed() < DEADLINE, "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_survive_the_loss_of_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let places = [1, 2, 3].map(|n| folder.path().join(n.to_string()));
    let first = start(&places[0], "127.0.0.1:0", "");
    let join = rpc_of(&first);
    let second = start(&places[1], "127.0.0.1:0", &join);
    let third = start(&places[2], "127.0.0.1:0", &join);

    let client = second.connect().await;
    until(
        &client,
        "SELECT count(*) FROM phantom.replicas WHERE role = 'voter' AND leads",
        1,
    )
    .await;
    until(&client, "SELECT count(*) FROM phantom.replicas", 3).await;
    until(
        &client,
        "SELECT count(*) FROM phantom.moves WHERE state = 'done'",
        2,
    )
    .await;
    client
        .batch_execute("CREATE TABLE t (id int4 PRIMARY KEY)")
        .await
        .expect("a table");
    insert_at_last(&client, 1).await;
    let other = third.connect().await;
    assert_eq!(number(&other, "SELECT count(*) FROM t").await, 1);

    // The first founded the cluster and holds the lease.
    assert_eq!(number(&other, "SELECT node FROM phantom.leases").await, 1);
    let rejoin = rpc_of(&second);
    drop(first);
    insert_at_last(&client, 2).await;
    assert_eq!(number(&other, "SELECT count(*) FROM t").await, 2);

    // It comes back somewhere else, and is one of three again.
    let first = start(&places[0], "127.0.0.1:0", &rejoin);
    let client = first.connect().await;
    assert_eq!(number(&client, "SELECT count(*) FROM t").await, 2);
    until(
        &client,
        "SELECT count(*) FROM phantom.nodes WHERE state = 'live'",
        3,
    )
    .await;
    drop(second);
    insert_at_last(&client, 3).await;
    assert_eq!(number(&client, "SELECT count(*) FROM t").await, 3);
}
