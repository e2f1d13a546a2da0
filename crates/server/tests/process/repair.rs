//! Damage to one node of three is mended from the others.

use crate::cluster::{at_last, insert_at_last, number, rpc_of, start, start_with, until};
use crate::node::{Node, eventually};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use tokio_postgres::Client;

/// Together 25 MB: more than the engine keeps in memory, so that some are in a table.
const ROWS: i64 = 4000;
const ROWS_AT_A_TIME: i64 = 1000;
const RIGHT: &str = "SELECT count(*) FROM t WHERE v = repeat(md5(id::text), 200)";
const REMOVED: &str = "SELECT count(*) FROM phantom.moves
    WHERE reason = 'remove: store 3 is dead' AND state = 'done'";
const WHOLE: &str = "SELECT count(*) FROM phantom.replicas WHERE role = 'voter'";

fn places(folder: &Path) -> [PathBuf; 3] {
    [1, 2, 3].map(|n| folder.join(n.to_string()))
}

/// An address that can be listened on again and again: not one of those that the system gives to connections, or a
/// peer that looks for the node takes it meanwhile.
fn free_address() -> String {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let mut ports = first..32_000;
    let port = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    format!("127.0.0.1:{}", port.expect("a free port"))
}

/// Three nodes that have all data, and where the third listens for others.
async fn three(places: &[PathBuf; 3]) -> ([Node; 3], String) {
    let first = start(&places[0], "127.0.0.1:0", "");
    let join = rpc_of(&first);
    let rpc = free_address();
    let second = start(&places[1], "127.0.0.1:0", &join);
    let third = start(&places[2], &rpc, &join);
    let client = first.connect().await;
    until(&client, WHOLE, 3).await;
    let done = "SELECT count(*) FROM phantom.moves WHERE state = 'done'";
    until(&client, done, 2).await;
    ([first, second, third], rpc)
}

async fn fill(client: &Client) {
    let table = "CREATE TABLE t (id int8 PRIMARY KEY, v text NOT NULL)";
    client.batch_execute(table).await.expect("a table");
    for last in (ROWS_AT_A_TIME..=ROWS).step_by(ROWS_AT_A_TIME as usize) {
        let first = last - ROWS_AT_A_TIME + 1;
        let rows = format!(
            "INSERT INTO t SELECT n, repeat(md5(n::text), 200)
             FROM generate_series({first}, {last}) AS n ON CONFLICT DO NOTHING"
        );
        at_last(async || client.execute(&rows, &[]).await).await;
    }
}

/// The largest file of rows, once the node has written one.
fn table_of(folder: &Path) -> PathBuf {
    let tables = folder.join("data/store/keyspaces/1/tables");
    eventually("the rows are in a table", || {
        let files = fs::read_dir(&tables).ok()?.flatten();
        let files = files.filter_map(|file| Some((file.metadata().ok()?.len(), file.path())));
        let (bytes, path) = files.max()?;
        (bytes > 500_000).then_some(path)
    })
}

/// Flips a byte where it is, under the running node.
fn flip(file: &Path) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().read(true).write(true).open(file);
    let file = file.expect("a file");
    let at = file.metadata().expect("a file").len() / 3;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 0x20], at).expect("a byte");
}

async fn replica_on(client: &Client, node: i64) -> i64 {
    let query = format!("SELECT id FROM phantom.replicas WHERE node = {node}");
    number(client, &query).await
}

async fn until_replaced(client: &Client, node: i64, before: i64) {
    let query = format!(
        "SELECT count(*) FROM phantom.replicas WHERE node = {node} AND role = 'voter' AND id > {before}"
    );
    until(client, &query, 1).await;
    until(client, WHOLE, 3).await;
    until(
        client,
        "SELECT count(DISTINCT applied) FROM phantom.replicas",
        1,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_at_the_lease_holder_or_a_follower_is_mended() {
    let folder = tempfile::tempdir().expect("a folder");
    let places = places(folder.path());
    let (nodes, _) = three(&places).await;
    let client = nodes[2].connect().await;
    fill(&client).await;
    let tables = places.each_ref().map(|place| table_of(place));

    // The lease holder: who reads is answered by another.
    let holder = number(&client, "SELECT node FROM phantom.leases").await;
    let before = replica_on(&client, holder).await;
    flip(&tables[holder as usize - 1]);
    assert_eq!(number(&client, RIGHT).await, ROWS);
    until_replaced(&client, holder, before).await;
    for node in &nodes {
        assert_eq!(number(&node.connect().await, RIGHT).await, ROWS);
    }
    let node = &nodes[holder as usize - 1];
    assert!(node.metric("phantomdb_damaged_tables_total") >= 1.0);

    // A follower: it meets the damage when it applies what replaces the rows.
    let now = number(&client, "SELECT node FROM phantom.leases").await;
    let mut others = (1..=3).filter(|node| ![now, holder].contains(node));
    let follower = others.next().expect("three nodes");
    let before = replica_on(&client, follower).await;
    flip(&tables[follower as usize - 1]);
    let update = "UPDATE t SET v = 'short'";
    at_last(async || client.execute(update, &[]).await).await;
    until_replaced(&client, follower, before).await;
    let right = "SELECT count(*) FROM t WHERE v = 'short'";
    for node in &nodes {
        assert_eq!(number(&node.connect().await, right).await, ROWS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_folder_is_gone_comes_back_as_a_new_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let places = places(folder.path());
    let ([first, second, third], rpc) = three(&places).await;
    let join = rpc_of(&first);
    let client = first.connect().await;
    client
        .batch_execute("CREATE TABLE t (id int8 PRIMARY KEY, v text NOT NULL)")
        .await
        .expect("a table");
    insert_row(&client, 1).await;
    drop(third);
    fs::remove_dir_all(places[2].join("data")).expect("a folder");

    // At the same address: the old one is not waited for.
    let third = start(&places[2], &rpc, &join);
    let there = third.connect().await;
    let live = "SELECT count(*) FROM phantom.nodes WHERE state = 'live'";
    until(&client, live, 3).await;
    until(
        &there,
        "SELECT count(*) FROM phantom.replicas WHERE node = 4 AND role = 'voter'",
        1,
    )
    .await;
    until(&there, REMOVED, 1).await;
    until(&there, WHOLE, 3).await;
    assert_eq!(number(&there, RIGHT).await, 1);

    // It is as good as the one that it has taken the place of.
    drop(second);
    insert_row(&client, 2).await;
    assert_eq!(number(&there, RIGHT).await, 2);
}

async fn insert_row(client: &Client, id: i64) {
    at_last(async || {
        let sql =
            "INSERT INTO t VALUES ($1, repeat(md5($1::int8::text), 200)) ON CONFLICT DO NOTHING";
        client.execute(sql, &[&id]).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_opened_is_replaced_when_told_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let places = places(folder.path());
    let ([first, second, third], rpc) = three(&places).await;
    let join = rpc_of(&first);
    let client = first.connect().await;
    client
        .batch_execute("CREATE TABLE t (id int4 PRIMARY KEY)")
        .await
        .expect("a table");
    insert_at_last(&client, 1).await;
    third.stop();
    let list = places[2].join("data/store/keyspaces/4/current");
    flip(&list);

    let ended = crate::cluster::run(&places[2], &rpc, &join, &[]).err();
    let ended = ended.expect("it is damaged");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("--replace-damaged-store"),
        "{ended:?}"
    );
    let third = start_with(&places[2], &rpc, &join, &["--replace-damaged-store"]);
    assert!(places[2].join("data/store.damaged-1").is_dir());
    let there = third.connect().await;
    until(
        &there,
        "SELECT count(*) FROM phantom.replicas WHERE node = 4 AND role = 'voter'",
        1,
    )
    .await;
    // Until then the lost replica still counts as a voter.
    until(&there, REMOVED, 1).await;
    drop(second);
    insert_at_last(&client, 2).await;
    assert_eq!(number(&there, "SELECT count(*) FROM t").await, 2);
}
