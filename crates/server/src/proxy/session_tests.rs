//! Sessions between a client of bytes and nodes that follow a script.

use super::*;
use crate::node_list::NodeEntry;
use crate::proxy::cancel::CancelKeys;
use crate::proxy::fleet::Fleet;
use crate::proxy::node_tls::{NodeTls, NodeTlsMode};
use crate::proxy::options::ClientTls;
use crate::wire::startup::CANCEL_REQUEST;
use sharding::Policy;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

/// For what happens at once on a quiet machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[tag][..], &length, body].concat()
}

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 8).to_be_bytes();
    [&length[..], &code.to_be_bytes(), body].concat()
}

fn startup() -> Vec<u8> {
    packet(0x30000, b"user\0ann\0\0")
}

/// AuthenticationOk, a key, ReadyForQuery.
fn greeting(key: &[u8]) -> Vec<u8> {
    [frame(b'R', &[0; 4]), frame(b'K', key), frame(b'Z', b"I")].concat()
}

fn error(code: &str) -> Vec<u8> {
    frame(b'E', format!("SFATAL\0C{code}\0Mno\0\0").as_bytes())
}

/// A node that answers every connection's first packet with the same words.
struct Scripted {
    address: String,
    /// The first packet of each connection, and whatever came after it.
    heard: mpsc::UnboundedReceiver<Vec<u8>>,
}

/// What a scripted node does after its words.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Closes,
    Listens,
}

async fn scripted(words: Vec<u8>, then: Then) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (tell, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (tell, words) = (tell.clone(), words.clone());
            tokio::spawn(async move {
                let length = stream.read_u32().await.expect("a packet");
                let mut first = length.to_be_bytes().to_vec();
                first.resize(length as usize, 0);
                stream.read_exact(&mut first[4..]).await.expect("a packet");
                let cancels = first[4..8] == CANCEL_REQUEST.to_be_bytes();
                let _ = tell.send(first);
                if cancels {
                    return;
                }
                stream.write_all(&words).await.expect("it listens");
                if then == Then::Listens {
                    let mut rest = Vec::new();
                    let _ = stream.read_to_end(&mut rest).await;
                    let _ = tell.send(rest);
                }
            });
        }
    });
    Scripted { address, heard }
}

impl Scripted {
    async fn hears(&mut self) -> Vec<u8> {
        let heard = tokio::time::timeout(DEADLINE, self.heard.recv()).await;
        heard.expect("in time").expect("the node lives")
    }
}

/// A proxy in front of scripted nodes, which are numbered from 1 and take turns.
struct Stage {
    proxy: Arc<Proxy>,
    entries: Vec<NodeEntry>,
    _stop: watch::Sender<bool>,
}

impl Stage {
    fn with(nodes: &[&Scripted]) -> Stage {
        let entry =
            |(at, node): (usize, &&Scripted)| NodeEntry::at(at as u64 + 1, node.address.clone(), 1);
        let entries: Vec<NodeEntry> = nodes.iter().enumerate().map(entry).collect();
        let fleet = Fleet::new(Policy::RoundRobin, crate::env::real().rng);
        fleet.update(&entries, std::time::Instant::now());
        let (stop, stopping) = watch::channel(false);
        let proxy = Arc::new(Proxy {
            fleet,
            keys: Arc::new(CancelKeys::default()),
            node_tls: NodeTls::new(NodeTlsMode::Auto, None).expect("no files"),
            client_tls: ClientTls::None,
            insecure: false,
            slots: Arc::new(Semaphore::new(2)),
            stopping,
        });
        Stage {
            proxy,
            entries,
            _stop: stop,
        }
    }

    /// A client that has sent these bytes.
    async fn client(&self, bytes: &[u8]) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut client = TcpStream::connect(address).await.expect("it listens");
        let (stream, peer) = listener.accept().await.expect("a client");
        tokio::spawn(serve(stream, peer, Arc::clone(&self.proxy)));
        client.write_all(bytes).await.expect("it listens");
        client
    }
}

/// All that is said to the client until its connection closes.
async fn until_closed(mut client: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let closed = tokio::time::timeout(DEADLINE, client.read_to_end(&mut said)).await;
    closed.expect("in time").expect("it closes properly");
    said
}

async fn expect(client: &mut TcpStream, words: &[u8]) {
    let mut said = vec![0; words.len()];
    let whole = tokio::time::timeout(DEADLINE, client.read_exact(&mut said)).await;
    whole.expect("in time").expect("that many bytes");
    assert_eq!(said, words);
}

/// Whether the bytes are one error with this SQLSTATE.
fn is_error(said: &[u8], code: &str) -> bool {
    let whole =
        said.len() > 5 && said[0] == b'E' && said[1..5] == (said.len() as u32 - 1).to_be_bytes();
    let code = format!("\0C{code}\0");
    whole && said.windows(code.len()).any(|part| part == code.as_bytes())
}

#[test]
fn clients_of_other_machines_use_the_tls_that_there_is() {
    let [near, far] = ["127.0.0.1:1", "10.0.0.7:1"].map(|a| a.parse().expect("an address"));
    assert!(may_be_plain(true, near) && !may_be_plain(true, far));
    // Without TLS here, the nodes see to it.
    assert!(may_be_plain(false, far));
}

#[tokio::test]
async fn a_node_that_refuses_is_passed_over_unseen() {
    for code in ["57P03", "53300"] {
        let mut refuses = scripted(error(code), Then::Closes).await;
        let mut takes = scripted(greeting(b"\0\0\0\x01aaaa"), Then::Listens).await;
        let stage = Stage::with(&[&refuses, &takes]);
        let mut client = stage.client(&startup()).await;
        expect(&mut client, &greeting(b"\0\0\0\x01aaaa")).await;
        assert_eq!(refuses.hears().await, startup());
        assert_eq!(takes.hears().await, startup());
        let failed: Vec<u64> = stage
            .proxy
            .fleet
            .rows()
            .iter()
            .map(|r| r.target.failed)
            .collect();
        assert_eq!(failed, [1, 0]);
    }
}

#[tokio::test]
async fn when_all_are_full_the_client_hears_a_nodes_own_words() {
    let full = scripted(error("53300"), Then::Closes).await;
    let stage = Stage::with(&[&full]);
    assert_eq!(
        until_closed(stage.client(&startup()).await).await,
        error("53300")
    );
}

#[tokio::test]
async fn the_proxys_own_limit_is_told() {
    let node = scripted(greeting(b"\0\0\0\x01aaaa"), Then::Listens).await;
    let stage = Stage::with(&[&node]);
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = stage.client(&startup()).await;
        expect(&mut client, &greeting(b"\0\0\0\x01aaaa")).await;
        open.push(client);
    }
    let said = until_closed(stage.client(&startup()).await).await;
    assert!(is_error(&said, "53300"), "{said:?}");
}

#[tokio::test]
async fn a_node_that_fails_is_told_of_between_messages_only() {
    let hello = greeting(b"\0\0\0\x01aaaa");
    let row = frame(b'D', b"\0\x01\0\0\0\x01x");
    let own_words = error("57P01");
    for (more, told) in [
        (&b""[..], Some("08006")),
        (&row[..7], None),
        // It has said so itself.
        (&own_words[..], Some("57P01")),
    ] {
        let node = scripted([&hello[..], more].concat(), Then::Closes).await;
        let stage = Stage::with(&[&node]);
        let said = until_closed(stage.client(&startup()).await).await;
        let rest = said.strip_prefix(&hello[..]).expect("the greeting");
        match told {
            Some(code) => assert!(is_error(rest, code), "{rest:?}"),
            None => assert_eq!(rest, more),
        }
    }
}

#[tokio::test]
async fn a_client_that_closes_is_heard_to_the_end() {
    let hello = greeting(b"\0\0\0\x01aaaa");
    let mut node = scripted(hello.clone(), Then::Listens).await;
    let stage = Stage::with(&[&node]);
    // The query comes with the startup packet, before anybody has answered.
    let query = frame(b'Q', b"SELECT 1\0");
    let mut client = stage.client(&[startup(), query.clone()].concat()).await;
    client.shutdown().await.expect("half of it");
    assert_eq!(
        until_closed(client).await,
        hello,
        "nobody is told of a failure"
    );
    assert_eq!((node.hears().await, node.hears().await), (startup(), query));
}

#[tokio::test]
async fn cancel_requests_go_to_the_keys_node_or_to_all() {
    // As long as protocol 3.2 allows.
    let long = [&b"\0\0\0\x01"[..], &[7; 256]].concat();
    let mut one = scripted(greeting(&long), Then::Listens).await;
    let mut other = scripted(greeting(b"\0\0\0\x01aaaa"), Then::Listens).await;
    let stage = Stage::with(&[&one, &other]);
    let mut client = stage.client(&startup()).await;
    expect(&mut client, &greeting(&long)).await;
    assert_eq!(one.hears().await, startup());

    let known = packet(CANCEL_REQUEST, &long);
    assert_eq!(until_closed(stage.client(&known).await).await, b"");
    assert_eq!(one.hears().await, known);
    let unknown = packet(CANCEL_REQUEST, b"\0\0\0\x09bbbb");
    assert_eq!(until_closed(stage.client(&unknown).await).await, b"");
    assert_eq!(
        (one.hears().await, other.hears().await),
        (unknown.clone(), unknown.clone())
    );

    // With the session its key is forgotten.
    drop(client);
    assert_eq!(one.hears().await, b"");
    let forgotten = async {
        while stage.proxy.fleet.rows()[0].target.open > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, forgotten)
        .await
        .expect("it ends");
    assert_eq!(until_closed(stage.client(&known).await).await, b"");
    assert_eq!(other.hears().await, known);
}

#[tokio::test]
async fn an_idle_session_leaves_a_draining_node_politely() {
    let hello = greeting(b"\0\0\0\x01aaaa");
    let mut drains = scripted(hello.clone(), Then::Listens).await;
    let stays = scripted(hello.clone(), Then::Listens).await;
    let stage = Stage::with(&[&drains, &stays]);
    let mut client = stage.client(&startup()).await;
    expect(&mut client, &hello).await;
    let mut entries = stage.entries.clone();
    entries[0].draining = true;
    stage
        .proxy
        .fleet
        .update(&entries, std::time::Instant::now());
    let said = until_closed(client).await;
    assert!(is_error(&said, "57P01"), "{said:?}");
    assert_eq!(drains.hears().await, startup());
    assert_eq!(drains.hears().await, TERMINATE);
}

#[tokio::test]
async fn what_is_no_startup_is_refused() {
    let stage = Stage::with(&[]);
    let said = until_closed(stage.client(b"GET / HTTP/1.1\r\n\r\n").await).await;
    assert!(is_error(&said, "08P01"), "{said:?}");
}
