//! Bytes of strangers.

use super::{CLUSTER, TestNode, soon, store};
use crate::rpc::frame::{Codec, Kind, MAX_FRAME_BYTES};
use crate::rpc::hello::{Hello, Identity, PROTOCOL, Purpose, Version};
use bytes::BytesMut;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use types::StoreId;

/// Sends bytes, and waits for the other side to close. A reset is a close, too.
async fn until_closed(node: &TestNode, bytes: &[u8]) {
    let mut stream = TcpStream::connect(node.address())
        .await
        .expect("it listens");
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut rest = Vec::new();
    let _ = soon("it closes", stream.read_to_end(&mut rest)).await;
}

/// A handshake that is agreed to.
fn handshake() -> BytesMut {
    let wall_micros = crate::env::real().clock.wall_micros();
    let hello = Hello {
        protocol: PROTOCOL,
        version: Version::own(),
        purpose: Purpose::Link,
        identity: Identity {
            cluster: Some(CLUSTER),
            store: Some(StoreId(2)),
            address: "127.0.0.1:1".to_string(),
        },
        wall_micros,
    };
    let mut out = BytesMut::new();
    let codec = Codec { checksums: true };
    codec.encode(Kind::Hello, false, 0, &hello.encode(), &mut out);
    codec.encode(Kind::Ready, false, 0, &wall_micros.to_le_bytes(), &mut out);
    out
}

/// Frames that are well made, but not what a peer sends.
fn out_of_place() -> impl Strategy<Value = Vec<u8>> {
    let kinds = vec![
        Kind::Hello,
        Kind::Answer,
        Kind::Refused,
        Kind::Message,
        Kind::Request,
        Kind::Pong,
    ];
    let frame = (
        prop::sample::select(kinds),
        any::<bool>(),
        0..3_u64,
        any::<Vec<u8>>(),
    );
    prop::collection::vec(frame, 0..6).prop_map(|frames| {
        let mut out = BytesMut::new();
        for (kind, more, id, body) in frames {
            Codec { checksums: true }.encode(kind, more, id, &body, &mut out);
        }
        out.to_vec()
    })
}

#[test]
fn closes_the_connection_and_nothing_else() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // For what is made outside of its tasks.
    let _entered = runtime.enter();
    let (node, friend) = runtime.block_on(async {
        let node = TestNode::start(store(1)).await;
        let friend = TestNode::start(store(3)).await;
        friend.learn(1, &node.address());
        friend
            .call_until(1, "hello", Result::is_ok)
            .await
            .expect("an answer");
        (node, friend)
    });
    let garbage = prop_oneof![any::<Vec<u8>>(), out_of_place()];
    let config = ProptestConfig::with_cases(64);
    proptest!(config, |(bytes in garbage, agreed: bool)| {
        let mut sent = if agreed { handshake() } else { BytesMut::new() };
        sent.extend_from_slice(&bytes);
        runtime.block_on(until_closed(&node, &sent));
        let answer = runtime.block_on(friend.call(1, "still there"));
        prop_assert_eq!(answer.expect("the friend's connection stands"), "still there");
    });
    // The sender stays; the node closes by itself.
    for (agreed, length) in [
        (false, u32::MAX),
        (false, 5000),
        (true, MAX_FRAME_BYTES as u32 + 1),
        (true, 0),
    ] {
        runtime.block_on(async {
            let mut stream = TcpStream::connect(node.address())
                .await
                .expect("it listens");
            let mut sent = if agreed { handshake() } else { BytesMut::new() };
            sent.extend_from_slice(&length.to_le_bytes());
            stream.write_all(&sent).await.expect("it is open");
            let mut rest = Vec::new();
            let _ = soon("it closes", stream.read_to_end(&mut rest)).await;
        });
    }
    let answer = runtime.block_on(friend.call(1, "still there"));
    assert_eq!(answer.expect("an answer"), "still there");
}
