//! Nodes that drain, and a proxy that stops: nobody is interrupted in a transaction.

use super::{Nodes, Proxy, place};
use crate::node::{Connection, DEADLINE, eventually, last_words, state};
use tokio_postgres::Client;

/// A session in a transaction and an idle one on each of two nodes.
struct Four {
    /// By node.
    busy: [(Client, Connection); 2],
    idle: [(Client, Connection); 2],
}

async fn pair(proxy: &Proxy, nodes: &Nodes) -> [(Client, Connection); 2] {
    let one = proxy.node.try_connect().await.expect("a session");
    let other = proxy.node.try_connect().await.expect("a session");
    match place(&one.0, nodes).await {
        0 => [one, other],
        _ => [other, one],
    }
}

async fn four(proxy: &Proxy, nodes: &Nodes) -> Four {
    let busy = pair(proxy, nodes).await;
    for (client, _) in &busy {
        client
            .batch_execute("CREATE TABLE t (a int)")
            .await
            .expect("a table");
        client.batch_execute("BEGIN").await.expect("a transaction");
        client
            .batch_execute("INSERT INTO t VALUES (1)")
            .await
            .expect("a row");
    }
    Four {
        busy,
        idle: pair(proxy, nodes).await,
    }
}

async fn commits(client: &Client) {
    client
        .batch_execute("INSERT INTO t VALUES (2)")
        .await
        .expect("a row");
    client.batch_execute("COMMIT").await.expect("a commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_leave_a_draining_node_between_transactions() {
    let nodes = Nodes::start(2);
    let list = nodes.list();
    let proxy = Proxy::joining(&list);
    proxy.wait_for_nodes(2);
    let Four {
        busy: [(first, first_end), (second, _)],
        idle: [(_idle, idle_end), (other, _)],
    } = four(&proxy, &nodes).await;
    list.set(&nodes, &[0]);
    assert_eq!(last_words(idle_end).await, "57P01");
    assert_eq!(nodes.sessions()[1], 2.0, "the other node's sessions stay");
    let newcomer = proxy.node.connect().await;
    assert_eq!(place(&newcomer, &nodes).await, 1);
    commits(&first).await;
    assert_eq!(last_words(first_end).await, "57P01");
    commits(&second).await;
    other
        .batch_execute("SELECT 1")
        .await
        .expect("nothing has happened to it");
    eventually("the draining node has no sessions", || {
        (nodes.sessions()[0] == 0.0).then_some(())
    });
    // It is back in use.
    list.set(&nodes, &[]);
    proxy.wait_for_nodes(2);
    let back = proxy.node.connect().await;
    assert_eq!(place(&back, &nodes).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_with_nowhere_to_go_stay() {
    let nodes = Nodes::start(2);
    let list = nodes.list();
    let proxy = Proxy::joining(&list);
    proxy.wait_for_nodes(2);
    let [(first, first_end), (second, _)] = pair(&proxy, &nodes).await;
    list.set(&nodes, &[0, 1]);
    eventually("the proxy knows of the drain", || {
        let (_, table) = proxy.node.get("/stats");
        (table.matches("draining").count() == 2).then_some(())
    });
    for client in [&first, &second] {
        client.batch_execute("SELECT 1").await.expect("it stays");
    }
    // Now there is a place for one of them.
    list.set(&nodes, &[0]);
    assert_eq!(last_words(first_end).await, "57P01");
    second.batch_execute("SELECT 1").await.expect("it stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_is_passed_over() {
    let nodes = Nodes::start(2);
    let proxy = Proxy::of(&nodes);
    let Four {
        busy: [(first, first_end), _second],
        idle: [(_idle, idle_end), _other],
    } = four(&proxy, &nodes).await;
    let before = super::statements(&nodes);
    let slept = tokio::spawn(async move { first.batch_execute("SELECT pg_sleep(2)").await });
    eventually("it sleeps", || {
        (super::statements(&nodes) != before).then_some(())
    });
    nodes.nodes[0].signal("TERM");
    // The node says so itself.
    assert_eq!(last_words(idle_end).await, "57P01");
    // It refuses newcomers now (57P03), which they do not see.
    for _ in 0..4 {
        let client = proxy.node.connect().await;
        client.batch_execute("SELECT 1").await.expect("an answer");
    }
    slept
        .await
        .expect("no panic")
        .expect("what runs may finish");
    assert_eq!(last_words(first_end).await, "57P01");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_stops_waits_for_transactions() {
    let nodes = Nodes::start(2);
    let proxy = Proxy::of(&nodes);
    let Four {
        busy: [(first, first_end), (second, second_end)],
        idle: [(_idle, idle_end), (_other, other_end)],
    } = four(&proxy, &nodes).await;
    proxy.node.signal("TERM");
    assert_eq!(last_words(idle_end).await, "57P01");
    assert_eq!(last_words(other_end).await, "57P01");
    let error = proxy.node.try_connect().await.expect_err("no new sessions");
    assert_eq!(state(&error), "57P03");
    for (client, end) in [(first, first_end), (second, second_end)] {
        commits(&client).await;
        assert_eq!(last_words(end).await, "57P01");
    }
    let ended = proxy.node.ended();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stderr, "");
    let direct = tokio::time::timeout(DEADLINE, nodes.nodes[0].connect()).await;
    let rows = direct.expect("in time").query("SELECT a FROM t", &[]).await;
    assert_eq!(rows.expect("rows").len(), 2, "the commit is there");
}
