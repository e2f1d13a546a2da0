//! Nodes that die, hang, and come back.

use super::{Nodes, Proxy, place};
use crate::node::{Connection, DEADLINE, eventually, last_words, state};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// A session on each of two nodes: of the first, of the second.
async fn one_on_each(proxy: &Proxy, nodes: &Nodes) -> [(Client, Connection); 2] {
    let one = proxy.node.try_connect().await.expect("a session");
    let other = proxy.node.try_connect().await.expect("a session");
    match place(&one.0, nodes).await {
        0 => [one, other],
        _ => [other, one],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_ends_its_sessions_and_no_others() {
    let mut nodes = Nodes::start(2);
    let proxy = Proxy::of(&nodes);
    let [(_lost, lost_connection), (kept, _)] = one_on_each(&proxy, &nodes).await;
    nodes.nodes[0].signal("KILL");
    assert_eq!(last_words(lost_connection).await, "08006");
    // At once, before any probe has noticed: nobody sees an error.
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(proxy.node.connect().await);
    }
    kept.batch_execute("SELECT 1").await.expect("it lives on");
    let survivor = nodes.nodes.pop().expect("two nodes");
    assert_eq!(survivor.metric(super::SESSIONS), 7.0);
    proxy.wait_for_nodes(1);
    let failures = r#"phantomdb_proxy_failures_total{node="1"}"#;
    assert!(proxy.node.metric(failures) >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_is_noticed_and_comes_back() {
    let nodes = Nodes::start(2);
    let list = nodes.list();
    let proxy = Proxy::joining(&list);
    proxy.wait_for_nodes(2);
    let [(_lost, lost_connection), (kept, _)] = one_on_each(&proxy, &nodes).await;
    nodes.nodes[0].pause().await;
    let began = Instant::now();
    // Its kernel still accepts: only the missing answers tell.
    let client = proxy.node.connect().await;
    client.batch_execute("SELECT 1").await.expect("an answer");
    assert_eq!(last_words(lost_connection).await, "08006");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    kept.batch_execute("SELECT 1").await.expect("it lives on");
    nodes.nodes[0].signal("CONT");
    proxy.wait_for_nodes(2);
    // It has fewer sessions than the other.
    let back = proxy.node.connect().await;
    assert_eq!(place(&back, &nodes).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_node_the_client_is_told() {
    let mut nodes = Nodes::start(1);
    let proxy = Proxy::of(&nodes);
    proxy.wait_for_nodes(1);
    nodes.nodes.pop().expect("a node").stop();
    let refused = tokio::time::timeout(DEADLINE, proxy.node.try_connect()).await;
    let error = refused
        .expect("it does not wait for ever")
        .expect_err("no node");
    assert_eq!(state(&error), "57P03");
    let error = error.as_db_error().expect("the proxy's words");
    assert_eq!(error.message(), "no node of the cluster can be reached");
    assert!(
        error.hint().is_some_and(|hint| hint.contains("/stats")),
        "{error:?}"
    );
    eventually("the proxy is not ready", || {
        proxy.node.get("/ready").0.contains("503").then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_refuses_the_client_is_told() {
    let nodes = Nodes::start(2);
    let proxy = Proxy::of(&nodes);
    let url = format!("postgres://phantom@{}/elsewhere", proxy.node.sql);
    let refused = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
    let error = refused.err().expect("there is no such database");
    assert_eq!(state(&error), "3D000");
}
