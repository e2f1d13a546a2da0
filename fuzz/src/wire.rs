//! A connection: the input's bytes, then the client's end. With a startup packet before them, or,
//! when the first byte is odd, without.

use crate::Target;
use crate::complaints;
use crate::world::{World, on_worker, runtime};
use server::metrics::WireMetrics;
use server::phase::Phase;
use server::wire::limits::MAX_MESSAGE_BYTES;
use server::wire::{WireServer, connection};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

/// Connections on one node, before it is made anew.
const INPUTS_PER_WORLD: u32 = 2_000;

/// The pipe's buffer, in bytes: small, so that messages arrive in pieces.
const PIPE_BYTES: usize = 512;

/// Sessions at the same time; there is one, and those that have not ended yet.
const SLOTS: usize = 8;

/// Answers kept to look for XX000 in, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

pub struct WireTarget {
    runtime: Runtime,
    node: Option<(World, Arc<WireServer>)>,
    inputs: u32,
}

impl WireTarget {
    pub fn new() -> io::Result<Self> {
        Ok(WireTarget {
            runtime: runtime()?,
            node: None,
            inputs: 0,
        })
    }

    fn server(&mut self) -> Option<Arc<WireServer>> {
        if self.node.is_none() || self.inputs >= INPUTS_PER_WORLD {
            let old = self.node.take();
            self.node = on_worker(&self.runtime, async move {
                if let Some((old, _)) = old {
                    old.end().await;
                }
                let world = World::new().await.ok()?;
                let server = Arc::new(WireServer {
                    instance: Arc::clone(&world.instance),
                    tls: None,
                    insecure: false,
                    max_message_bytes: MAX_MESSAGE_BYTES,
                    slots: Arc::new(Semaphore::new(SLOTS)),
                    metrics: WireMetrics::default(),
                });
                Some((world, server))
            })
            .flatten();
            self.inputs = 0;
        }
        self.inputs += 1;
        self.node.as_ref().map(|(_, server)| Arc::clone(server))
    }
}

impl Target for WireTarget {
    fn run(&mut self, input: &[u8]) {
        let Some((how, bytes)) = input.split_first() else {
            return;
        };
        let mut sent = Vec::new();
        if how % 2 == 0 {
            sent.extend_from_slice(&startup());
        }
        sent.extend_from_slice(bytes);
        if let Some(server) = self.server() {
            let answer = on_worker(&self.runtime, talk(server, sent));
            look_for_bugs(&answer.unwrap_or_default());
        }
    }
}

/// Sends the bytes, closes, and waits for the other side to close too.
async fn talk(server: Arc<WireServer>, bytes: Vec<u8>) -> Vec<u8> {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let (_phase, phase) = watch::channel(Phase::Serving);
    let task = tokio::spawn(connection::serve(theirs, None, server, phase));
    let (mut reader, mut writer) = tokio::io::split(ours);
    let write = async {
        // The other side may close first.
        let _ = writer.write_all(&bytes).await;
        let _ = writer.shutdown().await;
    };
    let read = async {
        let mut answer = Vec::new();
        let mut piece = vec![0; PIPE_BYTES];
        while let Ok(count @ 1..) = reader.read(&mut piece).await {
            if answer.len() < MAX_ANSWER_BYTES {
                answer.extend_from_slice(&piece[..count]);
            }
        }
        answer
    };
    let ((), answer) = tokio::join!(write, read);
    // A panic in it is among the complaints already.
    let _ = task.await;
    answer
}

/// An ErrorResponse of SQLSTATE XX000. Rows may hold the text too, so the field before it is asked for.
fn look_for_bugs(answer: &[u8]) {
    const FIELDS: &[u8] = b"\0CXX000\0M";
    if let Some(at) = answer.windows(FIELDS.len()).position(|w| w == FIELDS) {
        let message = &answer[at + FIELDS.len()..];
        let end = message
            .iter()
            .position(|b| *b == 0)
            .unwrap_or(message.len());
        complaints::internal_error(&String::from_utf8_lossy(&message[..end]));
    }
}

/// A StartupMessage of protocol 3.0, with timeouts as those of the SQL target.
pub fn startup() -> Vec<u8> {
    let mut body = 0x0003_0000_u32.to_be_bytes().to_vec();
    for text in [
        "user",
        "phantom",
        "options",
        "-c statement_timeout=2s -c lock_timeout=2s",
        "",
    ] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    let mut packet = (body.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend_from_slice(&body);
    packet
}
