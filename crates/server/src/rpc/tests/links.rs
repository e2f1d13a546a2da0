//! Messages and calls between nodes that let each other in.

use super::refusals::{Wire, hello};
use super::{DEADLINE, Event, NEVER, TestNode, broken, joining, pair, soon, store, unsent};
use crate::rpc::frame::Kind;
use crate::rpc::handshake::Knock;
use crate::rpc::limits::{Limits, PIECE_BYTES};
use crate::rpc::tests::{CLUSTER, Like};
use bytes::Bytes;
use futures::future::join_all;
use std::time::Duration;
use tokio::net::TcpListener;
use types::StoreId;
use types::env::{CallError, Transport};

/// A message that says its number, and is long now and then.
fn numbered(number: u32) -> Bytes {
    let mut body = number.to_be_bytes().to_vec();
    if number % 100 == 7 {
        body.resize(3 * PIECE_BYTES + 1, number as u8);
    }
    body.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_in_order() {
    let (one, mut two) = pair(store(1), store(2)).await;
    for number in 0..2000 {
        one.send(2, numbered(number));
    }
    for number in 0..2000 {
        let event = two.event().await;
        assert!(
            event == Event::Message(StoreId(1), numbered(number)),
            "{number} is missing"
        );
    }
    two.send(1, "and back");
    let mut one = one;
    assert_eq!(one.message().await, "and back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_gets_its_own_answer() {
    let (one, two) = pair(store(1), store(2)).await;
    // One that takes its time holds up nobody.
    let slow = tokio::spawn(one.transport.call(StoreId(2), "wait".into()));
    soon("the call arrives", two.core.waits.notified()).await;
    let calls = (0..200).map(|number| one.call(2, numbered(number)));
    for (number, answer) in join_all(calls).await.into_iter().enumerate() {
        assert!(answer.expect("an answer") == numbered(number as u32));
    }
    assert!(!slow.is_finished());
    two.core.go_on.notify_one();
    let slow = soon("the slow answer", slow).await.expect("no panic");
    assert_eq!(slow.expect("an answer"), "wait");
    assert_eq!(
        one.call(2, "who am I").await.expect("an answer"),
        "Some(StoreId(1))"
    );
    let long = Bytes::from(vec![3; 16 << 20]);
    let answer = one.call(2, long.clone()).await.expect("an answer");
    assert!(answer == long);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_cannot_be_answered_fails() {
    let (one, two) = pair(store(1), store(2)).await;
    let why = broken(one.call(2, "panic").await);
    assert!(why.contains("without an answer"), "{why}");
    assert_eq!(
        one.call(2, "still there").await.expect("an answer"),
        "still there"
    );
    let why = unsent(one.call(3, "anybody").await);
    assert!(why.contains("not known"), "{why}");
    let why = unsent(one.call(2, vec![0; (32 << 20) + 1]).await);
    assert!(why.contains("is the most"), "{why}");
    drop(two);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_fails_its_calls() {
    let (mut one, two) = pair(
        Like {
            limits: Limits {
                backoff_first: NEVER,
                backoff_longest: NEVER,
                ..Limits::default()
            },
            ..store(1)
        },
        store(2),
    )
    .await;
    let hanging = tokio::spawn(one.transport.call(StoreId(2), "wait".into()));
    soon("the call arrives", two.core.waits.notified()).await;
    two.stop_server().await;
    let hanging = soon("the call fails", hanging).await.expect("no panic");
    broken(hanging);
    assert_eq!(one.event().await, Event::Connected(StoreId(2), false));
    // Nothing waits for a connection that is not being made.
    one.send(2, "lost");
    unsent(one.call(2, "not now").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_address_is_tried_at_once() {
    let never = Limits {
        backoff_first: NEVER,
        backoff_longest: NEVER,
        ..Limits::default()
    };
    let patient = Like {
        limits: never,
        ..store(1)
    };
    let (mut one, two) = pair(patient.clone(), store(2)).await;
    two.stop_server().await;
    assert_eq!(one.event().await, Event::Connected(StoreId(2), false));
    let mut two = TestNode::start(Like {
        limits: never,
        ..store(2)
    })
    .await;
    one.learn(2, &two.address());
    assert_eq!(two.event().await, Event::Connected(StoreId(1), true));
    assert_eq!(one.event().await, Event::Connected(StoreId(2), true));
    one.send(2, "found");
    assert_eq!(two.message().await, "found");

    // Or the peer itself comes, and is called back where it says it is.
    two.stop_server().await;
    assert_eq!(one.event().await, Event::Connected(StoreId(2), false));
    let mut two = TestNode::start(store(2)).await;
    two.learn(1, &one.address());
    assert_eq!(two.event().await, Event::Connected(StoreId(1), true));
    one.send(2, "found again");
    assert_eq!(two.message().await, "found again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_was_away_is_found_again() {
    // A port that nobody listens on yet.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let one = TestNode::start(store(1)).await;
    one.learn(2, &address);
    let why = unsent(one.call(2, "early").await);
    assert!(why.contains("cannot connect"), "{why}");
    let listener = TcpListener::bind(&address).await.expect("the port again");
    let (me, setup) = one_store_setup(2, &address);
    let (tcp, _) = soon("it tries again", listener.accept())
        .await
        .expect("a socket");
    let knock = soon("a handshake", Knock::hear(&setup, &me, tcp)).await;
    let knock = knock.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(knock.peer.identity.store, Some(StoreId(1)));
}

fn one_store_setup(id: u64, address: &str) -> (crate::rpc::Identity, crate::rpc::Setup) {
    let me = crate::rpc::Identity {
        cluster: Some(CLUSTER),
        store: Some(StoreId(id)),
        address: address.to_string(),
    };
    let sender = tokio::sync::watch::Sender::new(me.clone());
    let offset = Duration::from_millis(500);
    let env = crate::env::real();
    (
        me,
        crate::rpc::Setup::new(sender.subscribe(), None, offset, env),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_the_queue_is_lost() {
    // It accepts, and says nothing: the attempt goes on, and what is sent waits for its end.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let limits = Limits {
        queue_items: 3,
        pending_calls: 2,
        handshake: DEADLINE / 2,
        ..Limits::default()
    };
    let one = TestNode::start(Like { limits, ..store(1) }).await;
    one.learn(2, &address);
    one.send(2, "first");
    one.send(2, "second");
    let mut waiting = one.transport.call(StoreId(2), "third".into());
    assert!(futures::poll!(&mut waiting).is_pending());
    let why = unsent(one.call(2, "fourth").await);
    assert!(why.contains("3 others wait already"), "{why}");
    // Gone with the connection; the call was never seen.
    drop(silent);
    unsent(soon("the attempt ends", waiting).await);

    // Also calls without an answer are bounded.
    let (one, two) = pair(Like { limits, ..store(1) }, store(2)).await;
    let calls: Vec<_> = (0..2)
        .map(|_| tokio::spawn(one.transport.call(StoreId(2), "wait".into())))
        .collect();
    for _ in 0..2 {
        soon("the calls arrive", two.core.waits.notified()).await;
    }
    let why = unsent(one.call(2, "one more").await);
    assert!(why.contains("2 calls wait"), "{why}");
    // Who gives up makes room.
    calls[0].abort();
    let answer = one.call_until(2, "now", Result::is_ok).await;
    assert_eq!(answer.expect("an answer"), "now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joining_node_gets_its_name() {
    let one = TestNode::start(store(1)).await;
    let mut new = TestNode::start(joining()).await;
    let answer = new.call_address(&one.address(), "who am I").await;
    assert_eq!(answer.expect("an answer"), "None");
    new.learn(1, &one.address());
    assert_eq!(new.call(1, "who am I").await.expect("an answer"), "None");
    new.me.send_modify(|me| {
        me.cluster = Some(CLUSTER);
        me.store = Some(StoreId(2));
    });
    let known = |outcome: &Result<Bytes, CallError>| {
        outcome
            .as_ref()
            .is_ok_and(|answer| answer == "Some(StoreId(2))")
    };
    new.call_until(1, "who am I", known)
        .await
        .expect("an answer");
    assert_eq!(new.event().await, Event::Connected(StoreId(1), true));
    one.send(2, "welcome");
    assert_eq!(new.message().await, "welcome");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_falls_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let limits = Limits {
        ping_every: Duration::from_millis(10),
        silence: Duration::from_millis(100),
        backoff_first: NEVER,
        ..Limits::default()
    };
    let one = TestNode::start(Like { limits, ..store(1) }).await;
    one.learn(2, &address);
    let (me, setup) = one_store_setup(2, &address);
    let (tcp, _) = soon("a socket", listener.accept()).await.expect("a socket");
    let knock = soon("a handshake", Knock::hear(&setup, &me, tcp)).await;
    let knock = knock.unwrap_or_else(|error| panic!("{error}"));
    let welcome = soon("consent", knock.welcome(&setup, &me)).await;
    let _unread = welcome.unwrap_or_else(|error| panic!("{error}"));
    let why = broken(one.call(2, "anybody").await);
    assert!(why.contains("silent"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_stays() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let limits = Limits {
        ping_every: Duration::from_millis(10),
        silence: Duration::from_secs(1),
        ..Limits::default()
    };
    let one = TestNode::start(Like { limits, ..store(1) }).await;
    one.learn(2, &address);
    let (stream, _) = soon("it dials", listener.accept()).await.expect("a socket");
    let mut wire = Wire::new(stream);
    assert_eq!(wire.next().await.expect("a frame").kind, Kind::Hello);
    wire.send(Kind::Welcome, &hello(2).encode()).await;
    assert_eq!(wire.next().await.expect("a frame").kind, Kind::Ready);
    // Twice the time in which a silent one is given up.
    for _ in 0..200 {
        assert_eq!(wire.next().await.expect("it stays").kind, Kind::Ping);
        wire.send(Kind::Pong, b"").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_end_with_their_transport() {
    let (one, two) = pair(store(1), store(2)).await;
    let TestNode {
        transport,
        stop,
        server,
        ..
    } = one;
    let hanging = tokio::spawn(transport.call(StoreId(2), "wait".into()));
    soon("the call arrives", two.core.waits.notified()).await;
    stop.send(true).expect("it runs");
    soon("the server ends", server).await.expect("no panic");
    drop(transport);
    let why = broken(soon("the call ends", hanging).await.expect("no panic"));
    assert!(why.contains("this node stops"), "{why}");
}
