//! How sessions are spread, and what is told of it.

use super::{Nodes, Proxy, place};
use crate::node::eventually;
use tokio_postgres::Client;

async fn connect(proxy: &Proxy, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(proxy.node.connect().await);
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn every_policy_spreads_sessions_its_way() {
    let nodes = Nodes::start(2);
    let (first, second) = (nodes.nodes[0].sql, nodes.nodes[1].sql);
    let weighted = format!("{first}=3,{second}");
    for (policy, addresses, expected) in [
        ("least-connections", nodes.addresses(), Some([6.0, 6.0])),
        ("round-robin", nodes.addresses(), Some([6.0, 6.0])),
        ("weighted", weighted, Some([9.0, 3.0])),
        ("random", nodes.addresses(), None),
        ("latency", nodes.addresses(), None),
    ] {
        let proxy = Proxy::start(&["--nodes", &addresses, "--policy", policy]);
        let clients = connect(&proxy, 12).await;
        let sessions = nodes.sessions();
        match expected {
            Some(expected) => assert_eq!(sessions, expected, "{policy}"),
            None => assert_eq!(sessions.iter().sum::<f64>(), 12.0, "{policy}"),
        }
        for client in &clients {
            client.batch_execute("SELECT 1").await.expect("an answer");
        }
        drop(clients);
        eventually("the sessions have ended", || {
            (nodes.sessions() == [0.0, 0.0]).then_some(())
        });
        proxy.node.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_answers_and_long_questions_come_through() {
    let nodes = Nodes::start(1);
    let proxy = Proxy::of(&nodes);
    let client = proxy.node.connect().await;
    let long = "x".repeat(3_000_000);
    let row = client.query_one("SELECT $1::text || 'y'", &[&long]).await;
    let answer: String = row.expect("an answer").get(0);
    assert_eq!(answer.len(), long.len() + 1);
    let rows = client
        .query("SELECT generate_series(1, 50000) AS n", &[])
        .await;
    let numbers: Vec<i32> = rows.expect("rows").iter().map(|row| row.get(0)).collect();
    assert!(numbers.iter().copied().eq(1..=50_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_what_it_counts() {
    let nodes = Nodes::start(2);
    let list = nodes.list();
    let proxy = Proxy::joining(&list);
    proxy.wait_for_nodes(2);
    let clients = connect(&proxy, 4).await;
    let at = place(&clients[0], &nodes).await;
    let metric = |name: &str, labels: &str| proxy.node.metric(&format!("{name}{{{labels}}}"));
    for node in [r#"node="1""#, r#"node="2""#] {
        assert_eq!(metric("phantomdb_proxy_sessions", node), 2.0);
        assert_eq!(metric("phantomdb_proxy_sessions_total", node), 2.0);
        assert_eq!(metric("phantomdb_proxy_failures_total", node), 0.0);
        assert_eq!(metric("phantomdb_proxy_node_up", node), 1.0);
        assert_eq!(metric("phantomdb_proxy_connect_seconds_count", node), 2.0);
    }
    let bytes = |node: usize| {
        let labels = format!(r#"node="{}",direction="to""#, node + 1);
        metric("phantomdb_proxy_bytes_total", &labels)
    };
    let (asked, other) = (bytes(at), bytes(1 - at));
    clients[0]
        .batch_execute("SELECT 1")
        .await
        .expect("an answer");
    // Query, its length, the text and its end.
    assert_eq!((bytes(at) - asked, bytes(1 - at) - other), (14.0, 0.0));

    let (_, table) = proxy.node.get("/stats");
    for node in &nodes.nodes {
        assert!(table.contains(&node.sql.to_string()), "{table}");
    }
    assert_eq!(proxy.node.get("/ready").1, "ready\n");
    proxy.node.signal("USR1");
    let lines = proxy.node.said(6);
    assert!(lines[1].contains("address"), "{lines:?}");
    drop(clients);
    eventually("the sessions have ended", || {
        (metric("phantomdb_proxy_sessions", r#"node="1""#) == 0.0).then_some(())
    });
    proxy.node.stop();
}
