//! Cancel requests reach the node that they are for.

use super::{Nodes, Proxy, place, statements};
use crate::node::{DEADLINE, eventually, state};
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::{CancelToken, Client, Error, NoTls};

/// Starts a long statement and waits until it is under way.
fn sleep(client: Client, nodes: &Nodes) -> JoinHandle<(Result<(), Error>, Client)> {
    let before = statements(nodes);
    let statement = tokio::spawn(async move {
        let result = client.batch_execute("SELECT pg_sleep(3600)").await;
        (result, client)
    });
    eventually("the statement begins", || {
        (statements(nodes) != before).then_some(())
    });
    statement
}

/// Asks until the statement ends. A request that comes before the statement has begun is for nothing.
async fn cancel<T>(token: &CancelToken, proxy: &Proxy, statement: &JoinHandle<T>) {
    let began = Instant::now();
    while !statement.is_finished() {
        assert!(began.elapsed() < DEADLINE, "it is not cancelled");
        let stream = TcpStream::connect(proxy.node.sql)
            .await
            .expect("the proxy listens");
        token
            .cancel_query_raw(stream, NoTls)
            .await
            .expect("a cancel request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_stops_its_own_statement_only() {
    let nodes = Nodes::start(2);
    let proxy = Proxy::of(&nodes);
    let (one, other) = (proxy.node.connect().await, proxy.node.connect().await);
    assert_ne!(place(&one, &nodes).await, place(&other, &nodes).await);
    let tokens = [one.cancel_token(), other.cancel_token()];
    let (one, other) = (sleep(one, &nodes), sleep(other, &nodes));
    cancel(&tokens[1], &proxy, &other).await;
    let (slept, other) = other.await.expect("no panic");
    assert_eq!(state(&slept.expect_err("it was cancelled")), "57014");
    other
        .batch_execute("SELECT 1")
        .await
        .expect("the session goes on");
    assert!(!one.is_finished());
    cancel(&tokens[0], &proxy, &one).await;
    let (slept, _one) = one.await.expect("no panic");
    assert_eq!(state(&slept.expect_err("it was cancelled")), "57014");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_another_proxy_is_found_too() {
    let nodes = Nodes::start(2);
    let (proxy, elsewhere) = (Proxy::of(&nodes), Proxy::of(&nodes));
    let client = elsewhere.node.connect().await;
    let token = client.cancel_token();
    let statement = sleep(client, &nodes);
    cancel(&token, &proxy, &statement).await;
    let (slept, _client) = statement.await.expect("no panic");
    assert_eq!(state(&slept.expect_err("it was cancelled")), "57014");
}
