//! Carries bytes between a client and its node, both ways on one task.
//!
//! Each direction has one buffer: it is filled by one read, shown to the [`Watch`], and written out before the
//! next read. So whoever is slow holds back who is fast, and what has been read has been sent on.

use crate::proxy::cancel::{CancelKeys, KeyGuard};
use crate::proxy::fleet::Node;
use crate::proxy::frames::Watch;
use crate::proxy::limits::RELAY_BUFFER_BYTES;
use crate::wire::stream::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Why the relay stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The client has closed its side; the node knows and may still talk. Told once.
    ClientClosed,
    /// The client cannot be talked to.
    ClientGone,
    /// The node has closed, or the connection to it broke.
    NodeGone,
    /// The session is idle, as was asked for.
    Idle,
}

/// See the module.
pub struct Relay<'a> {
    client: &'a mut Stream<TcpStream>,
    node: &'a mut Stream<TcpStream>,
    to_node: Direction,
    to_client: Direction,
    pub watch: Watch,
    owner: &'a Arc<Node>,
    keys: &'a Arc<CancelKeys>,
    /// The session's key is known while this lives.
    key: Option<KeyGuard>,
}

impl<'a> Relay<'a> {
    /// `from_client` and `from_node` have been read already. `node` is a connection to `owner`.
    pub fn new(
        (client, from_client): (&'a mut Stream<TcpStream>, Vec<u8>),
        (node, from_node): (&'a mut Stream<TcpStream>, Vec<u8>),
        watch: Watch,
        owner: &'a Arc<Node>,
        keys: &'a Arc<CancelKeys>,
    ) -> Self {
        let mut relay = Relay {
            client,
            node,
            to_node: Direction::default(),
            to_client: Direction::default(),
            watch,
            owner,
            keys,
            key: None,
        };
        relay.watch.client_sent(&from_client);
        owner.traffic.sent(from_client.len());
        heard(&mut relay.watch, owner, keys, &mut relay.key, &from_node);
        relay.to_node = Direction {
            passes_end: true,
            ..Direction::holding(from_client)
        };
        relay.to_client = Direction::holding(from_node);
        relay
    }

    /// Carries on until something happens. `stop_when_idle`: that the session is idle is such a thing. Dropping
    /// the future loses nothing.
    pub async fn run(&mut self, stop_when_idle: bool) -> Event {
        poll_fn(|cx| self.poll(cx, stop_when_idle)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>, stop_when_idle: bool) -> Poll<Event> {
        let (watch, owner) = (&mut self.watch, self.owner);
        if !self.to_node.is_over {
            let carried = self.to_node.poll(cx, self.client, self.node, |bytes| {
                watch.client_sent(bytes);
                owner.traffic.sent(bytes.len());
            });
            match carried {
                Poll::Pending => {}
                Poll::Ready(Outcome::Finished) => return Poll::Ready(Event::ClientClosed),
                Poll::Ready(Outcome::SourceBroke) => return Poll::Ready(Event::ClientGone),
                // Why it does not listen any more the node may have said; that is still to be read.
                Poll::Ready(Outcome::TargetBroke) => {}
            }
        }
        let carried = self.to_client.poll(cx, self.node, self.client, |bytes| {
            heard(watch, owner, self.keys, &mut self.key, bytes);
        });
        match carried {
            Poll::Ready(Outcome::Finished | Outcome::SourceBroke) => Poll::Ready(Event::NodeGone),
            Poll::Ready(Outcome::TargetBroke) => Poll::Ready(Event::ClientGone),
            Poll::Pending if stop_when_idle && self.is_idle() => Poll::Ready(Event::Idle),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_idle(&self) -> bool {
        self.watch.is_idle() && self.to_node.is_empty() && self.to_client.is_empty()
    }

    /// What is left to say to the client so that its stream ends with a whole message: bytes that were read
    /// and not sent. None: half of a message has been sent already, or nothing is known of messages.
    pub fn remainder(&self) -> Option<&[u8]> {
        let unfinished = self.watch.unfinished()?;
        let unsent = self.to_client.unsent();
        unsent.get(..unsent.len().checked_sub(unfinished)?)
    }
}

/// Takes note of what a node has sent, before its client can act on it.
fn heard(
    watch: &mut Watch,
    owner: &Arc<Node>,
    keys: &Arc<CancelKeys>,
    guard: &mut Option<KeyGuard>,
    bytes: &[u8],
) {
    watch.node_sent(bytes);
    owner.traffic.received(bytes.len());
    if let Some(key) = watch.take_key() {
        *guard = Some(keys.remember(key, Arc::clone(owner)));
    }
}

/// What came of one direction.
enum Outcome {
    /// All that the source had to say has been delivered.
    Finished,
    SourceBroke,
    TargetBroke,
}

#[derive(Default)]
struct Direction {
    buffer: Vec<u8>,
    /// Of the buffer, what waits to be sent.
    start: usize,
    end: usize,
    /// Sent bytes may wait in the target's encryption.
    unflushed: bool,
    source_ended: bool,
    /// The target is told that the source has ended. The client is not: there may be last words for it.
    passes_end: bool,
    /// Nothing more can be carried.
    is_over: bool,
}

impl Direction {
    /// `waiting` is to be sent first.
    fn holding(mut waiting: Vec<u8>) -> Self {
        let end = waiting.len();
        waiting.resize(end.max(RELAY_BUFFER_BYTES), 0);
        Direction {
            buffer: waiting,
            end,
            ..Direction::default()
        }
    }

    fn unsent(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn is_empty(&self) -> bool {
        self.start == self.end && !self.unflushed
    }

    /// Carries as much as can be carried now. Ready: it is over.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream<TcpStream>,
        target: &mut Stream<TcpStream>,
        mut seen: impl FnMut(&[u8]),
    ) -> Poll<Outcome> {
        loop {
            if ready!(self.poll_send(cx, target)).is_err() {
                return self.over(Outcome::TargetBroke);
            }
            if self.source_ended {
                if self.passes_end {
                    // A target that is gone needs no end.
                    let _ = ready!(Pin::new(target).poll_shutdown(cx));
                }
                return self.over(Outcome::Finished);
            }
            let mut buffer = ReadBuf::new(&mut self.buffer);
            if ready!(Pin::new(&mut *source).poll_read(cx, &mut buffer)).is_err() {
                return self.over(Outcome::SourceBroke);
            }
            let read = buffer.filled();
            (self.start, self.end) = (0, read.len());
            self.source_ended = read.is_empty();
            seen(read);
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut Stream<TcpStream>,
    ) -> Poll<Result<(), ()>> {
        while self.start < self.end {
            let waiting = &self.buffer[self.start..self.end];
            match ready!(Pin::new(&mut *target).poll_write(cx, waiting)) {
                Ok(sent) if sent > 0 => self.start += sent,
                Ok(_) | Err(_) => return Poll::Ready(Err(())),
            }
            self.unflushed = target.is_encrypted();
        }
        if self.unflushed {
            if ready!(Pin::new(target).poll_flush(cx)).is_err() {
                return Poll::Ready(Err(()));
            }
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn over(&mut self, outcome: Outcome) -> Poll<Outcome> {
        self.is_over = true;
        Poll::Ready(outcome)
    }
}
