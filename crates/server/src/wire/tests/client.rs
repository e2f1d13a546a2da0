//! A client of bytes: writes frames, reads answers as short lines of text.

use crate::phase::Phase;
use crate::wire::{WireServer, connection};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

/// Room of the pipe: small, so that back-pressure is met.
const PIPE_BYTES: usize = 16 << 10;

pub struct Client {
    pub stream: DuplexStream,
    pub task: tokio::task::JoinHandle<()>,
}

/// A frame with its type byte and length.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn text(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|t| t.bytes().chain([0])).collect()
}

pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &text(&[sql]))
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    let mut body = text(&[name, sql]);
    body.extend_from_slice(&[0, 0]);
    frame(b'P', &body)
}

/// Text parameters; results in `format`.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>], format: i16) -> Vec<u8> {
    let mut body = text(&[portal, statement]);
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(&(parameters.len() as u16).to_be_bytes());
    for parameter in parameters {
        match parameter {
            Some(value) => {
                body.extend_from_slice(&(value.len() as u32).to_be_bytes());
                body.extend_from_slice(value.as_bytes());
            }
            None => body.extend_from_slice(&(-1i32).to_be_bytes()),
        }
    }
    body.extend_from_slice(&[0, 1]);
    body.extend_from_slice(&format.to_be_bytes());
    frame(b'B', &body)
}

pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(text(&[name]));
    frame(b'D', &body)
}

pub fn close(kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(text(&[name]));
    frame(b'C', &body)
}

pub fn execute(portal: &str, max_rows: i32) -> Vec<u8> {
    let mut body = text(&[portal]);
    body.extend_from_slice(&max_rows.to_be_bytes());
    frame(b'E', &body)
}

pub fn sync() -> Vec<u8> {
    frame(b'S', &[])
}

pub fn flush() -> Vec<u8> {
    frame(b'H', &[])
}

/// A packet of the startup phase.
pub fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

impl Client {
    pub fn connect(server: Arc<WireServer>, phase: watch::Receiver<Phase>) -> Client {
        let (stream, other) = tokio::io::duplex(PIPE_BYTES);
        let task = tokio::spawn(connection::serve(other, None, server, phase));
        Client { stream, task }
    }

    pub async fn startup(&mut self, user: &str, database: &str) {
        let mut body = text(&["user", user, "database", database]);
        body.push(0);
        self.send(&[packet(0x30000, &body)]).await;
    }

    pub async fn send(&mut self, frames: &[Vec<u8>]) {
        self.stream
            .write_all(&frames.concat())
            .await
            .expect("the pipe is open");
    }

    /// The next answer, or `closed`.
    pub async fn answer(&mut self) -> String {
        let Ok(tag) = self.stream.read_u8().await else {
            return "closed".to_string();
        };
        let length = self.stream.read_u32().await.expect("a length") as usize;
        let mut body = vec![0; length - 4];
        self.stream
            .read_exact(&mut body)
            .await
            .expect("a whole message");
        shown(tag, &body)
    }

    pub async fn answers(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(self.answer().await);
        }
        all
    }

    /// Answers up to and with ReadyForQuery, or the end.
    pub async fn until_ready(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let answer = self.answer().await;
            let last = answer.starts_with("Z ") || answer == "closed";
            all.push(answer);
            if last {
                return all;
            }
        }
    }

    /// Sends frames and returns all answers up to ReadyForQuery.
    pub async fn ask(&mut self, frames: &[Vec<u8>]) -> Vec<String> {
        self.send(frames).await;
        self.until_ready().await
    }
}

/// An answer in a few words: its type byte and what matters in it.
fn shown(tag: u8, body: &[u8]) -> String {
    let detail = match tag {
        b'C' | b'S' => body
            .split(|b| *b == 0)
            .map(lossy)
            .collect::<Vec<_>>()
            .join(" "),
        b'Z' => lossy(body),
        b'D' => values(body).join("|"),
        b'T' => names(body).join("|"),
        b't' => format!("{} parameters", body[1]),
        b'E' | b'N' => error(body),
        b'd' => lossy(body),
        b'R' | b'G' | b'H' => format!("{:?}", body.first_chunk::<4>().unwrap_or(&[0; 4])),
        _ => String::new(),
    };
    format!("{} {detail}", char::from(tag))
        .trim_end_matches(' ')
        .to_string()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn values(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut values = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        match usize::try_from(i32::from_be_bytes(*length)) {
            Ok(length) => {
                let (value, tail) = tail.split_at(length);
                let printable = value.iter().all(|b| (32..127).contains(b));
                values.push(if printable {
                    lossy(value)
                } else {
                    format!("{value:?}")
                });
                rest = tail;
            }
            Err(_) => {
                values.push("NULL".to_string());
                rest = tail;
            }
        }
    }
    values
}

/// Column names with their types' ids and formats.
fn names(body: &[u8]) -> Vec<String> {
    let mut rest = &body[2..];
    let mut names = Vec::new();
    while let Some(end) = rest.iter().position(|b| *b == 0) {
        let name = lossy(&rest[..end]);
        let fields = &rest[end + 1..];
        let oid = u32::from_be_bytes([fields[6], fields[7], fields[8], fields[9]]);
        names.push(format!("{name}:{oid}:{}", fields[17]));
        rest = &fields[18..];
    }
    names
}

/// Severity, state and message.
fn error(body: &[u8]) -> String {
    let field = |code: u8| {
        body.split(|b| *b == 0)
            .find(|field| field.first() == Some(&code))
            .map_or(String::new(), |field| lossy(&field[1..]))
    };
    format!("{} {} {}", field(b'V'), field(b'C'), field(b'M'))
}
