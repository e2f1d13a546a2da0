//! Nodes that are drained and removed by `phantomdb node`, as an operator does it.

use crate::cluster::{number, rpc_of, start, until};
use crate::node::{DEADLINE, Node, last_words, program, start as start_alone, state};
use crate::proxy::Proxy;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output};

/// `phantomdb` with these words, asked of a node.
fn operate(node: &Node, words: &[&str]) -> Output {
    let url = format!("postgres://phantom@{}/phantom", node.sql);
    let mut command = Command::new(program());
    let output = command.args(words).args(["--url", &url]).output();
    output.expect("the program runs")
}

fn done(node: &Node, words: &[&str]) -> String {
    let output = operate(node, words);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words:?}: {output:?}");
    said
}

fn refused(node: &Node, words: &[&str]) -> String {
    let output = operate(node, words);
    assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a node tells of another on `/events`, until that is told.
fn events_until(node: &Node, wanted: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(node.http).expect("HTTP listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let request = "GET /events?after=0 HTTP/1.1\r\nHost: node\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a request");
    let lines = BufReader::new(stream)
        .lines()
        .map(|line| line.expect("a line"));
    let mut told = Vec::new();
    for line in lines.filter(|line| line.starts_with('{')) {
        let found = line.contains(wanted);
        told.push(line);
        if found {
            return told;
        }
    }
    panic!("the feed ended: {told:?}")
}

struct Cluster {
    _folder: tempfile::TempDir,
    places: Vec<PathBuf>,
    nodes: Vec<Node>,
}

impl Cluster {
    async fn of_three() -> Cluster {
        let folder = tempfile::tempdir().expect("a folder");
        let places: Vec<PathBuf> = (1..=4).map(|n| folder.path().join(n.to_string())).collect();
        let mut cluster = Cluster {
            _folder: folder,
            places,
            nodes: Vec::new(),
        };
        (0..3).for_each(|_| cluster.add());
        let client = cluster.nodes[0].connect().await;
        let voters = "SELECT count(*) FROM phantom.replicas WHERE role = 'voter'";
        until(&client, voters, 3).await;
        let done = "SELECT count(*) FROM phantom.moves WHERE state = 'done'";
        until(&client, done, 2).await;
        cluster
    }

    fn add(&mut self) {
        let join = self.nodes.first().map(rpc_of).unwrap_or_default();
        let place = &self.places[self.nodes.len()];
        self.nodes.push(start(place, "127.0.0.1:0", &join));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_sends_its_clients_away_until_it_serves_again() {
    let cluster = Cluster::of_three().await;
    let [first, second, _] = &cluster.nodes[..] else {
        panic!("three nodes");
    };
    let (_idle, idle_ends) = first.try_connect().await.expect("a session");
    let (busy, busy_ends) = first.try_connect().await.expect("a session");
    busy.batch_execute("BEGIN").await.expect("a transaction");
    let proxy = Proxy::start(&["--join", &rpc_of(second)]);
    proxy.wait_for_nodes(3);
    // It holds the lease, and the command reaches the cluster through it.
    done(first, &["node", "drain", "1", "--no-wait"]);
    assert_eq!(last_words(idle_ends).await, "57P01");
    busy.batch_execute("SELECT 1")
        .await
        .expect("its transaction goes on");
    busy.batch_execute("COMMIT").await.expect("and ends");
    assert_eq!(last_words(busy_ends).await, "57P01");
    let error = first.try_connect().await.expect_err("no new sessions");
    assert_eq!(state(&error), "57P03");
    let (status, body) = first.get("/ready");
    assert!(
        status.contains("503") && body.contains("draining"),
        "{status} {body}"
    );
    proxy.wait_for_nodes(2);
    let said = done(second, &["node", "drain", "1"]);
    assert!(said.contains("node 1 is drained"), "{said}");

    let client = second.connect().await;
    let held = "SELECT count(*) FROM phantom.leases WHERE node = 1";
    assert_eq!(number(&client, held).await, 0);
    until(
        &client,
        "SELECT replicas FROM phantom.nodes WHERE id = 1",
        1,
    )
    .await;
    let table = done(second, &["node", "ls"]);
    assert!(table.contains("draining"), "{table}");
    done(second, &["node", "cancel", "1"]);
    let live = "SELECT count(*) FROM phantom.nodes WHERE state = 'live'";
    until(&client, live, 3).await;
    first.connect().await;
    proxy.wait_for_nodes(3);
    let told = events_until(second, r#""node":1,"event":"drained""#);
    let draining = r#""node":1,"event":"draining""#;
    assert!(told.iter().any(|line| line.contains(draining)), "{told:?}");
    let events = "SELECT count(DISTINCT event) FROM phantom.events \
                  WHERE node = 1 AND event IN ('draining', 'drained', 'live')";
    until(&client, events, 3).await;
    let page = done(second, &["cluster", "status", "--check"]);
    assert!(page.contains("all is well"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_decommissioned_once_there_is_room_elsewhere() {
    let mut cluster = Cluster::of_three().await;
    let client = cluster.nodes[1].connect().await;
    client
        .batch_execute("CREATE TABLE t (id int4 PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
        .await
        .expect("rows");
    let why = refused(&cluster.nodes[1], &["node", "decommission", "1"]);
    assert!(
        why.contains("2 copies instead of 3") && why.contains("HINT"),
        "{why}"
    );
    let why = refused(&cluster.nodes[1], &["node", "decommission", "7"]);
    assert!(why.contains("node 7 does not exist"), "{why}");

    cluster.add();
    until(
        &client,
        "SELECT count(*) FROM phantom.nodes WHERE state = 'live'",
        4,
    )
    .await;
    let said = done(&cluster.nodes[1], &["node", "decommission", "1"]);
    assert!(said.contains("node 1 is decommissioned"), "{said}");
    let ended = cluster.nodes.remove(0).ended();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains("left its cluster"), "{ended:?}");
    assert_eq!(number(&client, "SELECT count(*) FROM t").await, 2);
    let voters = "SELECT count(*) FROM phantom.replicas WHERE role = 'voter' AND node > 1";
    until(&client, voters, 3).await;
    let page = done(&cluster.nodes[0], &["node", "status", "1"]);
    assert!(page.contains("decommissioned"), "{page}");

    // It is not taken back.
    let mut again = start_alone(&cluster.places[0]);
    again.args([
        "--rpc-addr",
        "127.0.0.1:0",
        "--join",
        &rpc_of(&cluster.nodes[0]),
    ]);
    let ended = match Node::run(again, &cluster.places[0]) {
        Ok(node) => node.ended(),
        Err(ended) => ended,
    };
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("removed from its cluster for good"),
        "{ended:?}"
    );
}
