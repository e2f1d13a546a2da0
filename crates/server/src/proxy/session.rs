//! One client of the proxy, from accept to close.

use crate::proxy::Proxy;
use crate::proxy::connect::{Connected, FirstWords, Unreached, connect};
use crate::proxy::fleet::Node;
use crate::proxy::frames::Watch;
use crate::proxy::health::Condition;
use crate::proxy::limits::{
    CLIENT_KEEPALIVE_COUNT, CLIENT_KEEPALIVE_IDLE, CLIENT_KEEPALIVE_INTERVAL, CLOSE_TIMEOUT,
    DRAIN_RECHECK,
};
use crate::proxy::opening::{self, Client, Encryption, Opening};
use crate::proxy::relay::{Event, Relay};
use crate::wire::backend::{Output, Severity};
use crate::wire::input::Input;
use crate::wire::is_loopback;
use crate::wire::limits::{AUTHENTICATION_TIMEOUT, LAST_WORDS_TIMEOUT, MAX_STARTUP_BYTES};
use crate::wire::startup::Refusal;
use crate::wire::stream::Stream;
use socket2::{SockRef, TcpKeepalive};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use types::{Error, SqlState};

/// Terminate, as a client says it.
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// Serves one connection. Returns when it is closed.
pub async fn serve(stream: TcpStream, peer: SocketAddr, proxy: Arc<Proxy>) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%error, "a client's socket");
    }
    let input = Input::new(MAX_STARTUP_BYTES);
    let Some(opening) = open(stream, input, proxy.encryption(), &proxy).await else {
        return;
    };
    match opening {
        Opening::Closed => {}
        Opening::Cancel(_open, packet) => {
            // The client's connection is closed after the node's: then the request has been acted on.
            let nodes = proxy.fleet.nodes();
            proxy.keys.request(&packet, nodes, &proxy.node_tls).await;
        }
        Opening::Session(client) => session(client, peer, &proxy).await,
        Opening::NodesTls(stream, input) => hand_on(stream, input, peer, &proxy).await,
    }
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(CLIENT_KEEPALIVE_IDLE)
        .with_interval(CLIENT_KEEPALIVE_INTERVAL)
        .with_retries(CLIENT_KEEPALIVE_COUNT);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// None: it is over, and the client has been told why if there was a way to tell it.
async fn open(
    stream: TcpStream,
    input: Input,
    encryption: Encryption<'_>,
    proxy: &Proxy,
) -> Option<Opening> {
    let opened = tokio::select! {
        opened = opening::open(stream, input, encryption) => opened,
        () = patience(proxy) => return None,
    };
    match opened {
        Ok(opening) => Some(opening),
        Err(Refusal::Told(mut stream, error)) => {
            refuse(&mut stream, &error).await;
            None
        }
        Err(Refusal::Silent) => None,
    }
}

/// As long as a client may take for its first words: less once the proxy stops.
async fn patience(proxy: &Proxy) {
    let mut stopping = proxy.stopping.clone();
    let stopped = async {
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    let _ = tokio::time::timeout(AUTHENTICATION_TIMEOUT, stopped).await;
    if *proxy.stopping.borrow() {
        tokio::time::sleep(LAST_WORDS_TIMEOUT).await;
    }
}

/// A client that wants TLS, which is the nodes' to answer.
async fn hand_on(stream: TcpStream, input: Input, peer: SocketAddr, proxy: &Proxy) {
    let mut stream = Stream::Plain(stream);
    let Ok(slot) = admit(proxy) else {
        // There is no way to tell it: it waits for one byte.
        return;
    };
    let Ok(mut connected) = connect(proxy, peer, FirstWords::Tls).await else {
        return;
    };
    if connected.said == b"S" {
        let from_client = Vec::new();
        return converse(stream, from_client, &mut connected, Watch::opaque(), proxy).await;
    }
    // The node does no TLS. What the client does about that is another beginning.
    drop(connected);
    drop(slot);
    if stream.write_all(b"N").await.is_err() {
        return;
    }
    let Stream::Plain(stream) = stream else {
        return;
    };
    match open(stream, input, Encryption::None, proxy).await {
        Some(Opening::Session(client)) => session(client, peer, proxy).await,
        Some(Opening::Cancel(_open, packet)) => {
            let nodes = proxy.fleet.nodes();
            proxy.keys.request(&packet, nodes, &proxy.node_tls).await;
        }
        Some(Opening::NodesTls(..) | Opening::Closed) | None => {}
    }
}

async fn session(mut client: Client, peer: SocketAddr, proxy: &Proxy) {
    let _slot = match admit(proxy).and_then(|slot| {
        must_be_encrypted(&client.stream, peer, proxy)?;
        Ok(slot)
    }) {
        Ok(slot) => slot,
        Err(error) => return refuse(&mut client.stream, &error).await,
    };
    match connect(proxy, peer, FirstWords::Startup(&client.startup)).await {
        Ok(mut connected) => {
            converse(
                client.stream,
                client.rest,
                &mut connected,
                Watch::default(),
                proxy,
            )
            .await;
        }
        Err(Unreached::Said(said)) => close(&mut client.stream, &said).await,
        Err(Unreached::Error(error)) => refuse(&mut client.stream, &error).await,
    }
}

fn admit(proxy: &Proxy) -> Result<OwnedSemaphorePermit, Error> {
    if *proxy.stopping.borrow() {
        return Err(Error::new(
            SqlState::CANNOT_CONNECT_NOW,
            "the proxy is shutting down",
        ));
    }
    Arc::clone(&proxy.slots).try_acquire_owned().map_err(|_| {
        Error::new(
            SqlState::TOO_MANY_CONNECTIONS,
            "sorry, too many clients already",
        )
        .hint("Raise the proxy's --max-connections, or close idle connections.")
    })
}

/// The rule of a node, kept in front of it.
fn must_be_encrypted(
    stream: &Stream<TcpStream>,
    peer: SocketAddr,
    proxy: &Proxy,
) -> Result<(), Error> {
    let encrypts = matches!(proxy.encryption(), Encryption::Here(_));
    if stream.is_encrypted() || proxy.insecure || may_be_plain(encrypts, peer) {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        "connections from other machines must be encrypted",
    )
    .hint("Connect with sslmode=require."))
}

/// Whether a client at `peer` may talk in the clear to a proxy that does TLS or not.
fn may_be_plain(encrypts: bool, peer: SocketAddr) -> bool {
    !encrypts || is_loopback(peer.ip())
}

/// How a session came to its end.
#[derive(Debug)]
enum End {
    ClientGone,
    NodeGone,
    /// It was asked to leave: by the node's drain or the proxy's stop.
    Left,
}

async fn converse(
    mut client: Stream<TcpStream>,
    from_client: Vec<u8>,
    connected: &mut Connected,
    watch: Watch,
    proxy: &Proxy,
) {
    let node = Arc::clone(connected.lease.node());
    let from_node = std::mem::take(&mut connected.said);
    let mut relay = Relay::new(
        (&mut client, from_client),
        (&mut connected.stream, from_node),
        watch,
        &node,
        &proxy.keys,
    );
    let end = carry(&mut relay, &node, proxy).await;
    let words = last_words(&end, &relay, &node);
    drop(relay);
    if let End::Left = end {
        let _ = connected.stream.write_all(&TERMINATE).await;
    }
    if let Some(words) = words {
        close(&mut client, &words).await;
    }
    let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, connected.stream.shutdown()).await;
}

/// Carries bytes and heeds what becomes of the node and the proxy.
async fn carry(relay: &mut Relay<'_>, node: &Arc<Node>, proxy: &Proxy) -> End {
    let (mut condition, mut stopping) = (node.condition(), proxy.stopping.clone());
    let mut closing: Option<Instant> = None;
    loop {
        let now = *condition.borrow_and_update();
        if now == Condition::Dead {
            return End::NodeGone;
        }
        let stops = *stopping.borrow_and_update();
        let leaves = stops || now.is_leaving() && proxy.fleet.has_other(node);
        let stranded = now.is_leaving() && !leaves;
        let event = tokio::select! {
            biased;
            event = relay.run(leaves) => event,
            _ = condition.changed() => continue,
            Ok(()) = stopping.changed() => continue,
            () = tokio::time::sleep(DRAIN_RECHECK), if stranded => continue,
            () = until(closing), if closing.is_some() => return End::ClientGone,
        };
        match event {
            Event::ClientClosed => closing = Some(Instant::now() + CLOSE_TIMEOUT),
            Event::ClientGone => return End::ClientGone,
            // It has closed because its client has.
            Event::NodeGone if closing.is_some() => return End::ClientGone,
            Event::NodeGone => return End::NodeGone,
            Event::Idle => return End::Left,
        }
    }
}

async fn until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}

/// What the client is still to be told. None: nothing, the connection just closes.
fn last_words(end: &End, relay: &Relay<'_>, node: &Node) -> Option<Vec<u8>> {
    let error = match end {
        End::ClientGone => return None,
        End::Left => Error::new(
            SqlState::ADMIN_SHUTDOWN,
            "terminating connection due to administrator command",
        ),
        End::NodeGone if relay.watch.is_terminated() => return None,
        End::NodeGone => Error::new(
            SqlState::CONNECTION_FAILURE,
            format!("node {}, which served this session, has failed", node.id),
        )
        .hint("Connect again. If a COMMIT was under way, look whether it took effect."),
    };
    let mut words = relay.remainder()?.to_vec();
    // A node that drained has said so itself.
    if !(matches!(end, End::NodeGone) && relay.watch.ended_in_error()) {
        let mut output = Output::default();
        output.error(Severity::Fatal, &error);
        words.extend_from_slice(output.bytes());
    }
    Some(words)
}

async fn refuse(stream: &mut Stream<TcpStream>, error: &Error) {
    let mut output = Output::default();
    output.error(Severity::Fatal, error);
    close(stream, output.bytes()).await;
}

/// Says the last words, within a bound, and closes.
async fn close(stream: &mut Stream<TcpStream>, words: &[u8]) {
    let said = async {
        let _ = stream.write_all(words).await;
        let _ = stream.shutdown().await;
    };
    let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, said).await;
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
