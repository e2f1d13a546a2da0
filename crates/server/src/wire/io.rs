//! A connection's stream with its two buffers.

use crate::wire::backend::Output;
use crate::wire::input::Input;
use crate::wire::limits::{LAST_WORDS_TIMEOUT, MAX_READ_AHEAD_BYTES};
use crate::wire::stream::{Stream, Transport};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// The client is gone: nobody to report to.
#[derive(Debug)]
pub struct Gone;

pub struct Io<S> {
    pub stream: Stream<S>,
    pub input: Input,
    pub output: Output,
}

impl<S: Transport> Io<S> {
    /// Waits for more input. `false`: the client closed its side.
    pub async fn fill(&mut self) -> Result<bool, Gone> {
        self.input.fill(&mut self.stream).await.map_err(|_| Gone)
    }

    /// Sends all that waits.
    pub async fn flush(&mut self) -> Result<(), Gone> {
        if self.output.is_empty() {
            return Ok(());
        }
        let sent = self.stream.write_all(self.output.bytes()).await;
        self.output.clear();
        sent.map_err(|_| Gone)?;
        if self.stream.is_encrypted() {
            self.stream.flush().await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Sends what waits, within a bound, and closes.
    pub async fn close(&mut self) {
        let last_words = async {
            let _ = self.flush().await;
            let _ = self.stream.shutdown().await;
        };
        let _ = tokio::time::timeout(LAST_WORDS_TIMEOUT, last_words).await;
    }

    /// Runs a statement's work and, should it have to wait, looks after the socket meanwhile: sends
    /// answers the client already waits for, reads ahead within a limit, and calls `on_gone` once
    /// when the client has closed the connection.
    pub async fn run<T>(&mut self, on_gone: impl Fn(), work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            self.poll_awaited(cx);
            if self.poll_read_ahead(cx) {
                on_gone();
            }
            Poll::Pending
        })
        .await
    }

    fn poll_awaited(&mut self, cx: &mut Context<'_>) {
        while !self.output.awaited().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, self.output.awaited()) {
                Poll::Ready(Ok(sent)) if sent > 0 => self.output.advance(sent),
                // An error shows again when the rest is sent.
                Poll::Ready(_) | Poll::Pending => return,
            }
        }
        if self.stream.is_encrypted() {
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
    }

    /// Whether the client turned out to be gone just now.
    fn poll_read_ahead(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.input.at_end() && self.input.len() < MAX_READ_AHEAD_BYTES {
            let filled = pin!(self.input.fill(&mut self.stream)).poll(cx);
            match filled {
                Poll::Pending => return false,
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(_) => return true,
            }
        }
        false
    }
}
