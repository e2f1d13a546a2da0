//! Functions of schema `phantom` that act on the cluster: who may call them, where, and how often they act.

use crate::gateways::{Client, World};
use sql::cluster::ClusterActions;
use std::sync::{Arc, Mutex};
use txn::kv::{Key, Span};
use types::env::BoxFuture;
use types::key::{FIRST_USER_TABLE_ID, split_index_prefix};
use types::{Result, StoreId};

/// Writes down what it is told to do.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, what: &str, node: StoreId) -> BoxFuture<Result<String>> {
        let note = format!("{what} {node}");
        self.0.lock().expect("no panic").push(note.clone());
        Box::pin(std::future::ready(Ok(note)))
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

impl ClusterActions for Notes {
    fn drain_node(&self, node: StoreId) -> BoxFuture<Result<String>> {
        self.note("drain", node)
    }

    fn decommission_node(&self, node: StoreId) -> BoxFuture<Result<String>> {
        self.note("decommission", node)
    }

    fn cancel_node(&self, node: StoreId) -> BoxFuture<Result<String>> {
        self.note("cancel", node)
    }

    fn split_at(&self, at: Key) -> BoxFuture<Result<u64>> {
        let (table, index, rest) = split_index_prefix(&at).expect("a key of a table");
        assert!(table >= FIRST_USER_TABLE_ID);
        let note = format!("split index {index} at {}", rest.escape_ascii());
        self.0.lock().expect("no panic").push(note);
        Box::pin(std::future::ready(Ok(7)))
    }

    fn split_middle(&self, span: Span) -> BoxFuture<Result<u64>> {
        assert!(span.start < span.end);
        let note = format!("split {} bytes of prefix", span.start.len());
        self.0.lock().expect("no panic").push(note);
        Box::pin(std::future::ready(Ok(8)))
    }
}

async fn world() -> (World, Notes) {
    let world = World::new().await;
    let notes = Notes::default();
    for gateway in &world.gateways {
        let set = gateway.cluster_actions.set(Arc::new(notes.clone()));
        assert!(set.is_ok(), "a new gateway has none");
    }
    (world, notes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_acts_once_each_time_it_runs() {
    let (world, notes) = world().await;
    let mut client = world.client(0).await;
    for (sql, shown, noted) in [
        ("SELECT phantom.drain_node(2)", "drain 2", "drain 2"),
        // The same text is not answered from memory.
        ("SELECT phantom.drain_node(2)", "drain 2", "drain 2"),
        (
            "SELECT phantom.decommission_node(1 + 2)",
            "decommission 3",
            "decommission 3",
        ),
        (
            "SELECT 'did: ' || phantom.cancel_node('4')",
            "did: cancel 4",
            "cancel 4",
        ),
        (
            "SELECT phantom.drain_node(5) AS a, 1 AS b",
            "drain 5|1",
            "drain 5",
        ),
    ] {
        assert_eq!(client.ok(sql).await, [shown], "{sql}");
        assert_eq!(notes.take(), [noted], "{sql}");
    }
    assert_eq!(client.ok("SELECT phantom.drain_node(NULL)").await, ["null"]);
    client.ok("EXPLAIN SELECT phantom.drain_node(2)").await;
    assert!(notes.take().is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_call_acts_each_time_it_is_executed() {
    let (world, notes) = world().await;
    let mut client = world.client(0).await;
    let session = &mut client.session;
    let parsed = session
        .parse("s", "SELECT phantom.drain_node($1)", &[])
        .await;
    parsed.expect("it can be prepared");
    let described = session.describe_statement("s").await;
    described.expect("it can be described");
    assert!(notes.take().is_empty(), "nothing has run yet");
    for node in ["7", "8"] {
        let value = Some(bytes::Bytes::from_static(node.as_bytes()));
        let session = &mut client.session;
        session
            .bind("", "s", &[], &[value], &[])
            .await
            .expect("it can be bound");
        let execution = session.execute("", 0, false).await.expect("it runs");
        client
            .read(execution.response)
            .await
            .expect("it gives a row");
        client.session.sync().await.expect("it ends");
    }
    assert_eq!(notes.take(), ["drain 7", "drain 8"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_superuser_acts_and_not_in_a_read_only_transaction() {
    let (world, notes) = world().await;
    let mut client = world.client(0).await;
    client.ok("CREATE ROLE guest LOGIN").await;
    let mut guest = Client::new(&world.gateways[0], "guest")
        .await
        .expect("the role exists");
    assert_eq!(guest.fails("SELECT phantom.drain_node(2)").await, "42501");
    client.ok("BEGIN READ ONLY").await;
    assert_eq!(client.fails("SELECT phantom.drain_node(2)").await, "25006");
    client.ok("ROLLBACK").await;
    assert!(notes.take().is_empty());
    // It is no part of the transaction.
    client
        .ok("BEGIN; SELECT phantom.drain_node(2); ROLLBACK")
        .await;
    assert_eq!(notes.take(), ["drain 2"]);
    assert_eq!(client.fails("SELECT phantom.drain_node(-1)").await, "22023");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_stands_where_it_acts_once_for_certain() {
    let (world, notes) = world().await;
    let mut client = world.client(0).await;
    client
        .ok("CREATE TABLE t (a int PRIMARY KEY, b text)")
        .await;
    client.ok("INSERT INTO t VALUES (1, 'x'), (2, 'y')").await;
    for sql in [
        "SELECT phantom.drain_node(a) FROM t",
        "SELECT phantom.drain_node(a) FROM t ORDER BY a LIMIT 1",
        "SELECT 1 WHERE phantom.drain_node(2) IS NOT NULL",
        "SELECT 1 FROM t WHERE phantom.drain_node(2) = 'x'",
        "SELECT CASE WHEN false THEN phantom.drain_node(2) END",
        "SELECT coalesce('x', phantom.drain_node(2))",
        "WITH w AS (SELECT phantom.drain_node(2)) SELECT * FROM w, w v",
        "SELECT * FROM (SELECT phantom.drain_node(2)) s",
        "SELECT (SELECT phantom.drain_node(2))",
        "SELECT phantom.drain_node(2) UNION ALL SELECT phantom.drain_node(3)",
        "SELECT count(phantom.drain_node(2))",
        "INSERT INTO t VALUES (3, phantom.drain_node(2))",
        "UPDATE t SET b = phantom.drain_node(2)",
        "DELETE FROM t WHERE b = phantom.drain_node(2)",
        "VALUES (phantom.drain_node(2))",
    ] {
        assert_eq!(client.fails(sql).await, "0A000", "{sql}");
    }
    for sql in [
        "SELECT drain_node(2)",
        "SELECT pg_catalog.drain_node(2)",
        "SELECT phantom.drain_node()",
        "SELECT phantom.drain_node(2, 3)",
        "SELECT phantom.drain_shard(2)",
    ] {
        assert_eq!(client.fails(sql).await, "42883", "{sql}");
    }
    assert!(notes.take().is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_cluster_there_is_nobody_to_act() {
    let world = World::new().await;
    let mut client = world.client(0).await;
    assert_eq!(client.fails("SELECT phantom.drain_node(2)").await, "55000");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_split_at_a_row_or_in_the_middle_of_a_table() {
    let (world, notes) = world().await;
    let mut client = world.client(0).await;
    client.ok("CREATE SCHEMA other").await;
    client
        .ok("CREATE TABLE t (a int8, b text, PRIMARY KEY (a, b))")
        .await;
    client.ok("CREATE TABLE other.u (a int4)").await;
    client
        .ok("CREATE TABLE h (a int8 PRIMARY KEY, b int4) WITH (sharding = 'hash', shards = 4)")
        .await;
    client.ok("CREATE VIEW v AS SELECT 1 AS one").await;
    for (sql, shown, noted) in [
        (
            "SELECT phantom.split_shard('t', 1, 'x')",
            "7",
            "split index 1 at \\x01\\x80\\x00\\x00\\x00\\x00\\x00\\x00\\x01\\x01x\\x00",
        ),
        // The first columns of the key are enough, of whatever type.
        (
            "SELECT phantom.split_shard('public.t', '2')",
            "7",
            "split index 1 at \\x01\\x80\\x00\\x00\\x00\\x00\\x00\\x00\\x02",
        ),
        (
            "SELECT phantom.split_shard('t')",
            "8",
            "split 4 bytes of prefix",
        ),
        (
            "SELECT phantom.split_shard('other.u')",
            "8",
            "split 4 bytes of prefix",
        ),
    ] {
        assert_eq!(client.ok(sql).await, [shown], "{sql}");
        assert_eq!(notes.take(), [noted], "{sql}");
    }
    client.ok("SELECT phantom.split_shard('h', 3)").await;
    assert_eq!(notes.take().len(), 1);
    for (sql, state) in [
        ("SELECT phantom.split_shard('nowhere')", "42P01"),
        // It is not on the search path.
        ("SELECT phantom.split_shard('u')", "42P01"),
        ("SELECT phantom.split_shard('v')", "42809"),
        ("SELECT phantom.split_shard('other.u', 1)", "22023"),
        ("SELECT phantom.split_shard('t', 1, 'x', 2)", "22023"),
        ("SELECT phantom.split_shard('t', 'many')", "22P02"),
    ] {
        assert_eq!(client.fails(sql).await, state, "{sql}");
    }
    assert!(notes.take().is_empty());
    world.end().await;
}
