//! Bytes that mean nothing: whatever a client sends, no task panics and the node goes on.

use super::Node;
use super::client::{bind, describe, execute, frame, parse, query, sync};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn conversation() -> Vec<u8> {
    [
        parse("s", "SELECT $1::int, 'x'"),
        bind("p", "s", &[Some("5")], 1),
        describe(b'P', "p"),
        execute("p", 1),
        sync(),
        query("SELECT 1"),
        query("CREATE TABLE IF NOT EXISTS g (a int)"),
        query("COPY g FROM STDIN"),
        frame(b'd', b"1\n"),
        frame(b'c', &[]),
        sync(),
    ]
    .concat()
}

/// A conversation with some of its bytes changed, cut out or doubled.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0u8..4);
    prop::collection::vec(change, 1..8).prop_map(|changes| {
        let mut bytes = conversation();
        for (at, value, how) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = value,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, value),
                _ => {
                    bytes.remove(at);
                }
            }
        }
        bytes
    })
}

/// Sends bytes on a connection, after a startup or instead of it, and waits for its end.
async fn survives(node: &Node, started: bool, bytes: Vec<u8>) {
    let mut client = node.connect();
    if started {
        client.startup("phantom", "phantom").await;
    }
    let (mut reader, mut writer) = tokio::io::split(client.stream);
    let write = async {
        // The other side may close first.
        let _ = writer.write_all(&bytes).await;
        let _ = writer.shutdown().await;
    };
    let read = async {
        let mut answers = Vec::new();
        let _ = reader.read_to_end(&mut answers).await;
        answers
    };
    let ((), answers) = tokio::join!(write, read);
    client
        .task
        .await
        .expect("no panic outside of the conversation");
    let internal = answers.windows(7).any(|bytes| bytes == b"CXX000\0");
    assert!(!internal, "a bug: {}", String::from_utf8_lossy(&answers));
}

#[test]
fn no_bytes_cause_a_panic() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let node = runtime.block_on(Node::new());
    let mut runner = TestRunner::new(Config::with_cases(150));
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let bytes = prop_oneof![
        (Just(true), damaged()),
        (any::<bool>(), noise),
        (Just(false), damaged()),
    ];
    runner
        .run(&bytes, |(started, bytes)| {
            runtime.block_on(survives(&node, started, bytes));
            Ok(())
        })
        .expect("all bytes are survived");
    runtime.block_on(async {
        let mut client = node.session().await;
        assert_eq!(client.ask(&[query("SELECT 1 AS one")]).await[1], "D 1");
    });
}
