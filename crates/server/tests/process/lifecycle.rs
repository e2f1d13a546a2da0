//! From the ready line to the last session.

use crate::node::{DEADLINE, Node, eventually, last_words, state};
use std::time::Instant;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, NoTls};

const STATEMENTS: &str = "phantomdb_sql_statements_total";

#[tokio::test(flavor = "multi_thread")]
async fn says_one_line_answers_http_and_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path());
    let client = node.connect().await;
    client.batch_execute("SELECT 1").await.expect("an answer");

    let (status, body) = node.get("/health");
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("HTTP/1.1 200 OK", "ok\n")
    );
    let (status, body) = node.get("/ready");
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("HTTP/1.1 200 OK", "ready\n")
    );
    assert_eq!(node.metric(STATEMENTS), 1.0);
    assert_eq!(node.metric("phantomdb_sql_connections"), 1.0);
    assert!(node.get("/elsewhere").0.contains("404"));

    node.signal("TERM");
    let ended = node.ended();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!((ended.more_stdout.len(), ended.stderr.as_str()), (0, ""));
}

/// Starts a statement on another task and waits until it is under way.
fn run(node: &Node, client: Client, sql: &'static str) -> JoinHandle<(Result<(), Error>, Client)> {
    let before = node.metric(STATEMENTS);
    let statement = tokio::spawn(async move {
        let result = client.batch_execute(sql).await;
        (result, client)
    });
    eventually("the statement begins", || {
        (node.metric(STATEMENTS) > before).then_some(())
    });
    statement
}

#[tokio::test(flavor = "multi_thread")]
async fn drains_on_sigterm() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path());
    let (worker, worker_connection) = node.try_connect().await.expect("a session");
    let (_idle, idle_connection) = node.try_connect().await.expect("a session");
    // One by one: a query string of several statements is one transaction.
    for sql in [
        "CREATE TABLE t (a int)",
        "INSERT INTO t VALUES (1)",
        "BEGIN",
        "INSERT INTO t VALUES (2)",
    ] {
        worker.batch_execute(sql).await.expect("a statement");
    }
    let statement = run(&node, worker, "SELECT pg_sleep(2)");

    node.signal("TERM");
    assert_eq!(last_words(idle_connection).await, "57P01");
    let error = node.try_connect().await.expect_err("no new sessions");
    assert_eq!((state(&error), statement.is_finished()), ("57P03", false));
    let (slept, worker) = statement.await.expect("no panic");
    slept.expect("the running statement finishes");
    assert_eq!(last_words(worker_connection).await, "57P01");
    drop(worker);
    let ended = node.ended();
    assert!(ended.status.success(), "{ended:?}");

    let node = Node::start(folder.path());
    let rows = node.connect().await.query("SELECT a FROM t", &[]).await;
    let values: Vec<i32> = rows.expect("rows").iter().map(|row| row.get(0)).collect();
    assert_eq!(values, [1], "what was committed, and nothing else");
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_request_stops_a_statement() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::start(folder.path());
    let sleeper = node.connect().await;
    let token = sleeper.cancel_token();
    let statement = run(&node, sleeper, "SELECT pg_sleep(3600)");
    // A request that comes before the statement has begun is for nothing, so it is made again.
    let began = Instant::now();
    while !statement.is_finished() {
        assert!(began.elapsed() < DEADLINE, "it is not cancelled");
        token.cancel_query(NoTls).await.expect("a cancel request");
    }
    let (slept, sleeper) = statement.await.expect("no panic");
    assert_eq!(state(&slept.expect_err("it was cancelled")), "57014");
    sleeper
        .batch_execute("SELECT 1")
        .await
        .expect("the session goes on");
    node.stop();
}
