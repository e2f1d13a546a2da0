//! From a client's first words to a node that has taken them.
//!
//! Nodes are tried one after the other until one answers with anything but a refusal; the client notices
//! nothing of the others. What was tried in vain is tried again, round by round, until [`REACH_TIMEOUT`].
//!
//! A node lets clients of its own machine in without a password, and takes the proxy for its client. So a
//! client of another machine is never carried to a node that sees the proxy at a loopback address
//! ([`may_carry`]), unless everybody is let in anyway.

use crate::proxy::Proxy;
use crate::proxy::fleet::Lease;
use crate::proxy::limits::{ANSWER_TIMEOUT, MAX_FIRST_ANSWER_BYTES, REACH_TIMEOUT, RETRY_PAUSE};
use crate::proxy::node_tls::{dial_plain, ssl_request};
use crate::wire::is_loopback;
use crate::wire::stream::Stream;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use types::{Error, SqlState};

/// A node that has taken a client.
pub struct Connected {
    pub lease: Lease,
    pub stream: Stream<TcpStream>,
    /// What it has said, for the client.
    pub said: Vec<u8>,
}

/// Why no node has.
pub enum Unreached {
    /// What a node said, for the client.
    Said(Vec<u8>),
    Error(Error),
}

/// What a client opens with.
#[derive(Clone, Copy)]
pub enum FirstWords<'a> {
    /// A StartupMessage.
    Startup(&'a [u8]),
    /// A request for TLS, which the node is to answer.
    Tls,
}

/// Finds a node for a client.
pub async fn connect(
    proxy: &Proxy,
    peer: SocketAddr,
    words: FirstWords<'_>,
) -> Result<Connected, Unreached> {
    let deadline = Instant::now() + REACH_TIMEOUT;
    let mut last = None;
    loop {
        let mut round = Round::default();
        while Instant::now() < deadline
            && let Some(lease) = proxy.fleet.choose(&round.tried)
        {
            round.tried.push(lease.key());
            match attempt(proxy, lease, peer, words, deadline).await {
                Ok(connected) => return Ok(connected),
                Err(failure) => {
                    round.worth_another |= failure.passes();
                    last = Some(failure);
                }
            }
        }
        let hopeless = !round.tried.is_empty() && !round.worth_another;
        if hopeless || Instant::now() + RETRY_PAUSE >= deadline {
            return Err(last.map_or_else(|| unreached("no node is known or takes sessions"), told));
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Each node once.
#[derive(Default)]
struct Round {
    tried: Vec<u64>,
    /// One of the failures may pass.
    worth_another: bool,
}

enum Failure {
    /// No connection, or none that works.
    Broken(u64, io::Error),
    /// The node said that it cannot take anybody now.
    NotNow(Vec<u8>),
    /// The node said that it has too many sessions.
    Full(Vec<u8>),
    /// The node would not ask the client for a password.
    Forbidden,
}

impl Failure {
    fn passes(&self) -> bool {
        matches!(self, Failure::Broken(..) | Failure::NotNow(_))
    }
}

async fn attempt(
    proxy: &Proxy,
    lease: Lease,
    peer: SocketAddr,
    words: FirstWords<'_>,
    deadline: Instant,
) -> Result<Connected, Failure> {
    let began = Instant::now();
    let limit = (began + ANSWER_TIMEOUT).min(deadline);
    let outcome = match tokio::time::timeout_at(limit, talk(proxy, &lease, peer, words)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::Broken(
            lease.node().id,
            io::ErrorKind::TimedOut.into(),
        )),
    };
    match outcome {
        Ok((stream, said)) => {
            lease.node().traffic.connected(began.elapsed());
            lease.answered();
            Ok(Connected {
                lease,
                stream,
                said,
            })
        }
        Err(failure) => {
            if let Failure::Broken(node, error) = &failure {
                tracing::info!(node, %error, "a client could not be carried there");
            }
            lease.failed(failure.passes());
            Err(failure)
        }
    }
}

async fn talk(
    proxy: &Proxy,
    lease: &Lease,
    peer: SocketAddr,
    words: FirstWords<'_>,
) -> Result<(Stream<TcpStream>, Vec<u8>), Failure> {
    let node = lease.node();
    let broken = |error| Failure::Broken(node.id, error);
    let dialled = match words {
        FirstWords::Startup(_) => proxy.node_tls.dial(&node.sql).await,
        FirstWords::Tls => dial_plain(&node.sql).await.map(Stream::Plain),
    };
    let mut stream = dialled.map_err(broken)?;
    // The address that the node sees.
    let seen = socket(&stream).local_addr().map_err(broken)?;
    if !proxy.insecure && !may_carry(peer, seen) {
        return Err(Failure::Forbidden);
    }
    let said = match words {
        FirstWords::Startup(startup) => first_answer(&mut stream, startup).await,
        FirstWords::Tls => one_byte(&mut stream).await,
    };
    let said = said.map_err(broken)?;
    match refusal(&said) {
        Some(state) if state == SqlState::CANNOT_CONNECT_NOW.0 => Err(Failure::NotNow(said)),
        Some(state) if state == SqlState::TOO_MANY_CONNECTIONS.0 => Err(Failure::Full(said)),
        _ => Ok((stream, said)),
    }
}

/// Whether a client at `client` may be carried to a node that takes `seen` for its client.
pub fn may_carry(client: SocketAddr, seen: SocketAddr) -> bool {
    is_loopback(client.ip()) || !is_loopback(seen.ip())
}

pub fn socket(stream: &Stream<TcpStream>) -> &TcpStream {
    match stream {
        Stream::Plain(stream) => stream,
        Stream::Tls(stream) => stream.get_ref().0,
    }
}

async fn first_answer(stream: &mut Stream<TcpStream>, startup: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(startup).await?;
    stream.flush().await?;
    let mut said = Vec::with_capacity(1024);
    while !is_telling(&said) {
        if stream.read_buf(&mut said).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(said)
}

/// The answer to a request for TLS.
async fn one_byte(stream: &mut Stream<TcpStream>) -> io::Result<Vec<u8>> {
    stream.write_all(&ssl_request()).await?;
    match stream.read_u8().await? {
        answer @ (b'S' | b'N') => Ok(vec![answer]),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Whether enough has been said to tell a refusal from anything else.
fn is_telling(said: &[u8]) -> bool {
    said.len() >= MAX_FIRST_ANSWER_BYTES
        || matches!(first_that_counts(said), Some((tag, body)) if tag != b'E' || body.is_some())
}

/// SQLSTATE of the error that the answer consists in.
fn refusal(said: &[u8]) -> Option<[u8; 5]> {
    let (b'E', Some(body)) = first_that_counts(said)? else {
        return None;
    };
    let mut fields = body.split(|byte| *byte == 0);
    let code = fields.find_map(|field| field.strip_prefix(b"C"))?;
    code.try_into().ok()
}

/// The type of the first message that is neither a notice nor about the protocol's version, and its body if it
/// has come whole.
fn first_that_counts(mut said: &[u8]) -> Option<(u8, Option<&[u8]>)> {
    loop {
        let (header, rest) = said.split_first_chunk::<5>()?;
        let [tag, length @ ..] = *header;
        let length = (u32::from_be_bytes(length) as usize).saturating_sub(4);
        let body = rest.get(..length);
        match (tag, body) {
            (b'N' | b'v', Some(_)) => said = &rest[length..],
            (b'N' | b'v', None) => return None,
            _ => return Some((tag, body)),
        }
    }
}

fn told(failure: Failure) -> Unreached {
    match failure {
        Failure::NotNow(said) | Failure::Full(said) => Unreached::Said(said),
        Failure::Broken(node, error) => unreached(&format!("node {node}: {error}")),
        Failure::Forbidden => Unreached::Error(
            Error::new(
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                "clients of other machines are not carried to nodes of the proxy's machine",
            )
            .detail("Such a node takes the proxy for a local client and asks for no password.")
            .hint(
                "Give the nodes other addresses than loopback ones, or connect to a node. Or start the proxy \
                 with --insecure to let everybody in without a password.",
            ),
        ),
    }
}

fn unreached(detail: &str) -> Unreached {
    Unreached::Error(
        Error::new(
            SqlState::CANNOT_CONNECT_NOW,
            "no node of the cluster can be reached",
        )
        .detail(detail)
        .hint(format!(
            "The proxy tried for {REACH_TIMEOUT:?}. Its /stats page tells what it knows of the nodes."
        )),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::backend::{Output, Severity};

    fn answer(write: impl FnOnce(&mut Output)) -> Vec<u8> {
        let mut output = Output::default();
        write(&mut output);
        output.bytes().to_vec()
    }

    fn error(state: SqlState) -> impl FnOnce(&mut Output) {
        move |output| output.error(Severity::Fatal, &Error::new(state, "no"))
    }

    #[test]
    fn a_refusal_is_told_from_its_whole_message_only() {
        let said = answer(|output| {
            output.negotiate_protocol_version(0x30000, &[]);
            error(SqlState::CANNOT_CONNECT_NOW)(output);
        });
        for cut in 0..said.len() {
            assert!(!is_telling(&said[..cut]), "after {cut} bytes");
            assert_eq!(refusal(&said[..cut]), None);
        }
        assert!(is_telling(&said));
        assert_eq!(refusal(&said), Some(*b"57P03"));
    }

    #[test]
    fn anything_else_goes_to_the_client_at_once() {
        let said = answer(Output::authentication_ok);
        assert!(is_telling(&said[..5]));
        assert_eq!(refusal(&said), None);
        let said = answer(error(SqlState::INVALID_CATALOG_NAME));
        assert_eq!(refusal(&said), Some(*b"3D000"));
        // What has no end is not waited for.
        assert!(is_telling(&[b'N'; MAX_FIRST_ANSWER_BYTES]));
    }

    #[test]
    fn strangers_are_not_made_locals() {
        let at = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), 1);
        let (local, mapped, far, also_far) = (
            at("127.0.0.1"),
            at("::ffff:127.0.0.2"),
            at("10.0.0.7"),
            at("10.0.0.1"),
        );
        assert!(may_carry(local, local) && may_carry(mapped, local) && may_carry(local, far));
        assert!(may_carry(far, also_far));
        assert!(!may_carry(far, local) && !may_carry(far, mapped));
    }
}
