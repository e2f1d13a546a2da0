//! The first words on a connection.
//!
//! ```text
//! dials                      answers
//!   │── TLS, both certificates ──│     if there are certificates
//!   │── Hello ──────────────────►│     judges: protocol, version, cluster, store
//!   │◄───────── Welcome, Refused │
//!   │ judges the same, and clocks over the time that Hello and Welcome took
//!   │── Ready, Refused ─────────►│     judges clocks over the time that Welcome and Ready took
//!   │◄═══════ frames ═══════════►│
//! ```
//!
//! A refusal goes to the other side as text, so that both logs say why.

use crate::rpc::Setup;
use crate::rpc::frame::{Codec, Frame, FrameError, Kind};
use crate::rpc::hello::{Hello, Identity, PROTOCOL, Purpose, Refusal, Version};
use crate::rpc::hello::{judge, judge_clock, judge_store};
use crate::rpc::limits::{LINGER, MAX_HANDSHAKE_FRAME_BYTES, UNSENT_BYTES, cut};
use crate::rpc::metrics;
use crate::rpc::tls::RpcTls;
use crate::wire::stream::Stream;
use bytes::{Bytes, BytesMut};
use std::future::Future;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use types::StoreId;

/// Why a connection did not come about.
#[derive(Debug, Error)]
pub enum HandshakeError {
    #[error("cannot connect: {0}")]
    Unreachable(std::io::Error),
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    #[error("refused by the other side: {0}")]
    RefusedByPeer(String),
    #[error("not the protocol of this program: {0}")]
    Nonsense(#[from] FrameError),
    #[error("the connection broke during the handshake: {0}")]
    Broken(std::io::Error),
    #[error("no handshake within {0:?}")]
    TimedOut(Duration),
    #[error("a newer connection of the same store took its place")]
    Superseded,
}

impl HandshakeError {
    /// Somebody said no. Else it is the network's fault, which passes.
    ///
    /// See also [`HandshakeError::passes_by_itself`].
    pub fn is_refusal(&self) -> bool {
        use HandshakeError::{Broken, Superseded, TimedOut, Unreachable};
        !matches!(self, Unreachable(_) | Broken(_) | TimedOut(_) | Superseded)
    }

    /// The other side is about to become who was expected.
    pub fn passes_by_itself(&self) -> bool {
        matches!(self, HandshakeError::Refused(Refusal::StillJoining { .. }))
    }
}

/// A connection on which both sides agreed.
pub struct Agreed {
    pub stream: Stream<TcpStream>,
    pub codec: Codec,
    /// Bytes that came behind the handshake.
    pub input: BytesMut,
    pub peer: Hello,
}

/// Connects to `address` as `me`, and demands the store `expected`, if any, at the other end.
pub async fn dial(
    setup: &Setup,
    me: &Identity,
    address: &str,
    purpose: Purpose,
    expected: Option<StoreId>,
) -> Result<Agreed, HandshakeError> {
    let dialled = async {
        let tcp = TcpStream::connect(address)
            .await
            .map_err(HandshakeError::Unreachable)?;
        tune(&tcp);
        let mut talk = Talk::dial(tcp, setup.tls.as_ref()).await?;
        let before = setup.env.clock.wall_micros();
        talk.send(Kind::Hello, &hello(me, purpose, before).encode())
            .await?;
        let welcome = talk.receive(Kind::Welcome).await?;
        let after = setup.env.clock.wall_micros();
        let judged = Hello::decode(welcome, &me.address).and_then(|theirs| {
            judge(me, Version::own(), &theirs)?;
            if let Some(expected) = expected {
                judge_store(expected, &theirs, address)?;
            }
            judge_clock(theirs.wall_micros, before, after, setup.max_clock_offset)?;
            Ok(theirs)
        });
        let peer = match judged {
            Ok(peer) => peer,
            Err(refusal) => return Err(talk.refuse(refusal).await),
        };
        let now = setup.env.clock.wall_micros();
        talk.send(Kind::Ready, &now.to_le_bytes()).await?;
        Ok(talk.agreed(peer))
    };
    within(setup, dialled).await
}

/// Bounds a handshake, and counts refusals.
pub async fn within<T>(
    setup: &Setup,
    handshake: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    let most = setup.limits.handshake;
    let result = match tokio::time::timeout(most, handshake).await {
        Ok(result) => result,
        Err(_) => Err(HandshakeError::TimedOut(most)),
    };
    if let Err(error) = &result
        && error.is_refusal()
    {
        metrics::refused();
    }
    result
}

/// A node that has said who it is, and waits for consent.
pub struct Knock {
    talk: Talk,
    pub peer: Hello,
}

impl Knock {
    /// Hears who connects, and judges it as far as that goes.
    pub async fn hear(
        setup: &Setup,
        me: &Identity,
        tcp: TcpStream,
    ) -> Result<Knock, HandshakeError> {
        tune(&tcp);
        let mut talk = Talk::accept(tcp, setup.tls.as_ref()).await?;
        let hello = talk.receive(Kind::Hello).await?;
        let judged = Hello::decode(hello, &me.address).and_then(|theirs| {
            judge(me, Version::own(), &theirs)?;
            Ok(theirs)
        });
        match judged {
            Ok(peer) => Ok(Knock { talk, peer }),
            Err(refusal) => Err(talk.refuse(refusal).await),
        }
    }

    /// Lets it in.
    pub async fn welcome(mut self, setup: &Setup, me: &Identity) -> Result<Agreed, HandshakeError> {
        let before = setup.env.clock.wall_micros();
        let welcome = hello(me, self.peer.purpose, before);
        self.talk.send(Kind::Welcome, &welcome.encode()).await?;
        let ready = self.talk.receive(Kind::Ready).await?;
        let after = setup.env.clock.wall_micros();
        let judged = match ready[..].try_into() {
            Ok(theirs) => {
                let theirs = i64::from_le_bytes(theirs);
                judge_clock(theirs, before, after, setup.max_clock_offset)
            }
            Err(_) => Err(Refusal::Malformed),
        };
        match judged {
            Ok(()) => Ok(self.talk.agreed(self.peer)),
            Err(refusal) => Err(self.talk.refuse(refusal).await),
        }
    }
}

fn hello(me: &Identity, purpose: Purpose, wall_micros: i64) -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: Version::own(),
        purpose,
        identity: me.clone(),
        wall_micros,
    }
}

/// Small frames leave at once, and not behind megabytes in the kernel's buffer.
fn tune(tcp: &TcpStream) {
    let socket = socket2::SockRef::from(tcp);
    let tuned = tcp
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_notsent_lowat(UNSENT_BYTES));
    if let Err(error) = tuned {
        tracing::debug!(%error, "a socket's options");
    }
}

/// Frames of a handshake, one at a time.
struct Talk {
    stream: Stream<TcpStream>,
    codec: Codec,
    input: BytesMut,
}

impl Talk {
    async fn dial(tcp: TcpStream, tls: Option<&RpcTls>) -> Result<Talk, HandshakeError> {
        let Some(tls) = tls else {
            return Ok(Talk::new(Stream::Plain(tcp)));
        };
        let stream = tls.connector.connect(RpcTls::name(), tcp).await;
        let stream = stream.map_err(HandshakeError::Tls)?;
        Ok(Talk::new(Stream::Tls(Box::new(stream.into()))))
    }

    async fn accept(tcp: TcpStream, tls: Option<&RpcTls>) -> Result<Talk, HandshakeError> {
        let Some(tls) = tls else {
            return Ok(Talk::new(Stream::Plain(tcp)));
        };
        match tls.acceptor.accept(tcp).into_fallible().await {
            Ok(stream) => Ok(Talk::new(Stream::Tls(Box::new(stream.into())))),
            Err((error, tcp)) => {
                linger(Stream::Plain(tcp)).await;
                Err(HandshakeError::Tls(error))
            }
        }
    }

    fn new(stream: Stream<TcpStream>) -> Talk {
        Talk {
            codec: Codec {
                checksums: !stream.is_encrypted(),
            },
            stream,
            input: BytesMut::new(),
        }
    }

    async fn send(&mut self, kind: Kind, body: &[u8]) -> Result<(), HandshakeError> {
        let mut output = BytesMut::new();
        self.codec.encode(kind, false, 0, body, &mut output);
        let sent = match self.stream.write_all(&output).await {
            Ok(()) => self.stream.flush().await,
            Err(error) => Err(error),
        };
        sent.map_err(|error| self.broken(error))
    }

    /// The body of the next frame, which must be of the given kind.
    async fn receive(&mut self, kind: Kind) -> Result<Bytes, HandshakeError> {
        let frame = self.next().await?;
        if frame.kind == kind && !frame.more {
            return Ok(frame.body);
        }
        if frame.kind == Kind::Refused {
            let why = String::from_utf8_lossy(&frame.body);
            return Err(HandshakeError::RefusedByPeer(cut(&why).to_string()));
        }
        Err(self.refuse(Refusal::Malformed).await)
    }

    async fn next(&mut self) -> Result<Frame, HandshakeError> {
        loop {
            // Only as many bytes as a handshake may have: what comes behind it may be long.
            match self
                .codec
                .decode(&mut self.input, MAX_HANDSHAKE_FRAME_BYTES)
            {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(error) => {
                    self.say_no(&error.to_string()).await;
                    return Err(error.into());
                }
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(self.broken(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    /// Tells the other side why not.
    async fn refuse(&mut self, refusal: Refusal) -> HandshakeError {
        self.say_no(&refusal.to_string()).await;
        refusal.into()
    }

    async fn say_no(&mut self, why: &str) {
        let mut output = BytesMut::new();
        let body = cut(why).as_bytes();
        self.codec
            .encode(Kind::Refused, false, 0, body, &mut output);
        if self.stream.write_all(&output).await.is_ok() {
            linger(&mut self.stream).await;
        }
    }

    /// Under TLS 1.3 the dialling side hears only now that its certificate was not accepted.
    fn broken(&self, error: std::io::Error) -> HandshakeError {
        let tls = self.stream.is_encrypted() && error.kind() == std::io::ErrorKind::InvalidData;
        if tls {
            return HandshakeError::Tls(error);
        }
        HandshakeError::Broken(error)
    }

    fn agreed(self, peer: Hello) -> Agreed {
        Agreed {
            stream: self.stream,
            codec: self.codec,
            input: self.input,
            peer,
        }
    }
}

/// Ends a connection such that the last words arrive: a socket that is closed with unread bytes takes back
/// what it has sent.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut rest = [0; MAX_HANDSHAKE_FRAME_BYTES];
    let ended = async {
        let _ = stream.shutdown().await;
        while let Ok(1..) = stream.read(&mut rest).await {}
    };
    let _ = tokio::time::timeout(LINGER, ended).await;
}
