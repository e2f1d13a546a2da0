//! Nodes that must not talk: the reason is known on both sides.

use super::{CLUSTER, Like, TestNode, joining, soon, store, unsent};
use crate::rpc::frame::{Codec, Frame, Kind};
use crate::rpc::hello::{Hello, Identity, PROTOCOL, Purpose, Version};
use crate::rpc::limits::MAX_HANDSHAKE_FRAME_BYTES;
use bytes::BytesMut;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use types::StoreId;

const PLAIN: Codec = Codec { checksums: true };

/// The other end of a node's connection, frame by frame.
pub struct Wire(TcpStream, BytesMut);

impl Wire {
    pub fn new(stream: TcpStream) -> Wire {
        Wire(stream, BytesMut::new())
    }

    async fn connect(address: &str) -> Wire {
        Wire::new(TcpStream::connect(address).await.expect("it listens"))
    }

    pub async fn send(&mut self, kind: Kind, body: &[u8]) {
        let mut out = BytesMut::new();
        PLAIN.encode(kind, false, 0, body, &mut out);
        self.0.write_all(&out).await.expect("it is open");
    }

    /// The next frame; nothing at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = PLAIN.decode(&mut self.1, MAX_HANDSHAKE_FRAME_BYTES);
            if let Some(frame) = frame.expect("a frame") {
                return Some(frame);
            }
            let read = soon("bytes", self.0.read_buf(&mut self.1)).await;
            if read.expect("no reset") == 0 {
                return None;
            }
        }
    }

    /// The text of a refusal, after which nothing comes.
    async fn refusal(&mut self) -> String {
        let frame = self.next().await.expect("a last word");
        assert_eq!(frame.kind, Kind::Refused);
        assert_eq!(self.next().await, None);
        String::from_utf8(frame.body.to_vec()).expect("text")
    }
}

/// What store `id` says, with the right clock.
pub fn hello(id: u64) -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: Version::own(),
        purpose: Purpose::Link,
        identity: Identity {
            cluster: Some(CLUSTER),
            store: Some(StoreId(id)),
            address: "127.0.0.1:1".to_string(),
        },
        wall_micros: crate::env::real().clock.wall_micros(),
    }
}

/// What a node says to a caller and what the caller's own link says, for the same pair.
async fn both_reasons(one: Like, two: Like) -> [String; 2] {
    let two = TestNode::start(two).await;
    let mut wire = Wire::connect(&two.address()).await;
    let mut said = hello(one.store.unwrap_or(0));
    said.identity.cluster = one.cluster;
    said.identity.store = one.store.map(StoreId);
    wire.send(Kind::Hello, &said.encode()).await;
    let told = wire.refusal().await;
    let one = TestNode::start(one).await;
    let why = unsent(one.call_address(&two.address(), "hello").await);
    assert!(why.contains("refused by the other side"), "{why}");
    [told, why]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster() {
    let other = Like {
        cluster: Some(0xbad),
        ..store(2)
    };
    for why in both_reasons(store(1), other).await {
        assert!(why.contains("different clusters"), "{why}");
        assert!(why.contains("bad") && why.contains("c0ffee"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_folder() {
    for why in both_reasons(store(1), store(1)).await {
        assert!(why.contains("both sides are store 1"), "{why}");
    }
    // A node that calls its own address is told the same.
    let one = TestNode::start(store(1)).await;
    let why = unsent(one.call_address(&one.address(), "me").await);
    assert!(why.contains("a node called itself"), "{why}");
    // Before it has a name, it answers itself.
    let new = TestNode::start(joining()).await;
    let answer = new.call_address(&new.address(), "who am I").await;
    assert_eq!(answer.expect("an answer"), "None");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off() {
    let right = TestNode::start(store(1)).await;
    let fast = TestNode::start(Like {
        clock_shift: Duration::from_secs(60),
        ..store(2)
    })
    .await;
    // The dialling side notices, whichever is wrong, and its link says so to callers.
    right.learn(2, &fast.address());
    let why = unsent(right.call(2, "what time is it").await);
    assert!(
        why.contains("ms apart") && why.contains("(500 ms)"),
        "{why}"
    );
    fast.learn(1, &right.address());
    let why = unsent(fast.call(1, "what time is it").await);
    assert!(why.contains("ms apart"), "{why}");

    // The other side is told.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    right.learn(3, &address);
    let (stream, _) = soon("it dials", listener.accept()).await.expect("a socket");
    let mut wire = Wire::new(stream);
    assert_eq!(wire.next().await.expect("a frame").kind, Kind::Hello);
    let mut late = hello(3);
    late.wall_micros -= 3_600_000_000;
    wire.send(Kind::Welcome, &late.encode()).await;
    let why = wire.refusal().await;
    assert!(why.contains("ms apart"), "{why}");

    // And the answering side looks for itself.
    let mut wire = Wire::connect(&right.address()).await;
    wire.send(Kind::Hello, &hello(4).encode()).await;
    assert_eq!(wire.next().await.expect("a frame").kind, Kind::Welcome);
    let late = hello(4).wall_micros - 3_600_000_000;
    wire.send(Kind::Ready, &late.to_le_bytes()).await;
    let why = wire.refusal().await;
    assert!(why.contains("ms apart"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_are_too_far_apart() {
    let node = TestNode::start(store(1)).await;
    let mut wire = Wire::connect(&node.address()).await;
    let mut new = hello(2);
    new.version.major += 2;
    wire.send(Kind::Hello, &new.encode()).await;
    let why = wire.refusal().await;
    assert!(why.contains("one major version at a time"), "{why}");

    let mut wire = Wire::connect(&node.address()).await;
    let mut new = hello(2);
    new.protocol = 7;
    wire.send(Kind::Hello, &new.encode()).await;
    let why = wire.refusal().await;
    assert!(why.contains("protocol version 7 is unknown"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_else_at_the_address() {
    let one = TestNode::start(store(1)).await;
    let two = TestNode::start(store(2)).await;
    one.learn(3, &two.address());
    let why = unsent(one.call(3, "are you three").await);
    assert!(why.contains("store 2 where store 3 was expected"), "{why}");
    let new = TestNode::start(joining()).await;
    one.learn(4, &new.address());
    let why = unsent(one.call(4, "are you four").await);
    assert!(why.contains("joining where store 4 was expected"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_connection_takes_the_seat() {
    let node = TestNode::start(store(1)).await;
    let mut wires = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::connect(&node.address()).await;
        wire.send(Kind::Hello, &hello(2).encode()).await;
        // The one before is closed by the time the new one is welcome.
        assert_eq!(wire.next().await.expect("a frame").kind, Kind::Welcome);
        let now = hello(2).wall_micros;
        wire.send(Kind::Ready, &now.to_le_bytes()).await;
        wire.send(Kind::Ping, b"").await;
        assert_eq!(wire.next().await.expect("a frame").kind, Kind::Pong);
        wires.push(wire);
    }
    assert_eq!(wires[0].next().await, None);
    wires[1].send(Kind::Ping, b"").await;
    assert_eq!(wires[1].next().await.expect("a frame").kind, Kind::Pong);
}
