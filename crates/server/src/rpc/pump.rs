//! Moves frames between a socket and their owner, as one task for both directions.

use crate::rpc::frame::{Codec, Frame, Kind, MAX_FRAME_BYTES};
use crate::rpc::limits::{KEPT_BUFFER_BYTES, Limits, READ_BYTES};
use crate::rpc::metrics::Meter;
use crate::rpc::outbox::{Outbox, Part};
use crate::rpc::pieces::Pieces;
use bytes::{Buf, BytesMut};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

/// A read buffer with less room than this many bytes gets a new chunk.
const LEAST_ROOM_BYTES: usize = 4 << 10;

/// What a connection runs with.
pub struct Pump<'a, S> {
    stream: S,
    codec: Codec,
    outbox: &'a Outbox,
    meter: &'a Meter,
    /// Read, not yet decoded.
    input: BytesMut,
    pieces: Pieces,
    /// Encoded, not yet written.
    output: BytesMut,
    unflushed: bool,
    /// Others had their turn since something was queued: see [`Pump::fill`].
    waited: bool,
    batch: Vec<Part>,
    life: Life,
}

/// Whether the other side is alive.
struct Life {
    tick: Interval,
    /// The side that asks.
    asks: bool,
    heard: bool,
    said: bool,
    silent_ticks: u32,
    most_silent_ticks: u32,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Pump<'a, S> {
    /// `input` was read by the handshake already. One side of a connection `asks` for signs of life.
    pub fn new(
        stream: S,
        codec: Codec,
        input: BytesMut,
        outbox: &'a Outbox,
        meter: &'a Meter,
        limits: &Limits,
        asks: bool,
    ) -> Self {
        Pump {
            stream,
            codec,
            outbox,
            meter,
            input,
            pieces: Pieces::default(),
            output: BytesMut::new(),
            unflushed: false,
            waited: false,
            batch: Vec::new(),
            life: Life::new(limits, asks),
        }
    }

    /// Runs until the connection ends, and says why. Whole bodies are given to `receive`, which may end it.
    pub async fn run(
        mut self,
        mut receive: impl FnMut(Frame) -> Result<(), String> + Send,
    ) -> String {
        let ended: Result<(), String> = std::future::poll_fn(|cx| {
            // First, so that nothing that is queued from now on is missed.
            self.outbox.register(cx.waker());
            self.poll(cx, &mut receive)
        })
        .await;
        ended.err().unwrap_or_default()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        receive: &mut impl FnMut(Frame) -> Result<(), String>,
    ) -> Poll<Result<(), String>> {
        // What was buffered before the first read.
        self.decode(receive)?;
        loop {
            let wrote = self.write(cx)?.is_ready();
            let read = match self.read(cx)? {
                Poll::Ready(()) => true,
                Poll::Pending => false,
            };
            if read {
                self.decode(receive)?;
            }
            if !wrote && !read {
                break;
            }
        }
        while self.life.tick.poll_tick(cx).is_ready() {
            self.life.tick(self.outbox)?;
        }
        Poll::Pending
    }

    /// Ready if something was written: there may be more.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        if self.output.is_empty() {
            self.fill(cx)?;
        }
        if self.output.is_empty() {
            if self.unflushed {
                ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(|e| e.to_string())?;
                self.unflushed = false;
            }
            return Poll::Pending;
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output));
        let written = written.map_err(|error| error.to_string())?;
        if written == 0 {
            return Poll::Ready(Err("the peer takes no more bytes".to_string()));
        }
        self.output.advance(written);
        self.meter.sent_bytes.increment(written as u64);
        self.life.said = true;
        self.unflushed = true;
        if self.output.is_empty() && self.output.capacity() > KEPT_BUFFER_BYTES {
            self.output = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Encodes what waits. Whoever queues something wakes this task, which would run next and write that alone; so
    /// it first lets those run who are ready to: what they queue goes with the same write. Where nobody is ready that
    /// takes no time.
    fn fill(&mut self, cx: &Context<'_>) -> Result<(), String> {
        if !self.waited {
            if !self.outbox.is_empty()? {
                self.waited = true;
                cx.waker().wake_by_ref();
            }
            return Ok(());
        }
        self.waited = false;
        self.outbox.take(&mut self.batch)?;
        for part in self.batch.drain(..) {
            let Part {
                kind,
                more,
                id,
                body,
            } = part;
            self.codec.encode(kind, more, id, &body, &mut self.output);
            if !more {
                self.meter.sent(kind);
            }
        }
        Ok(())
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        if self.input.capacity() - self.input.len() < LEAST_ROOM_BYTES {
            self.input.reserve(READ_BYTES);
        }
        let read = pin!(self.stream.read_buf(&mut self.input));
        match ready!(read.poll(cx)) {
            Ok(0) => Poll::Ready(Err("the peer closed the connection".to_string())),
            Ok(bytes) => {
                self.meter.received_bytes.increment(bytes as u64);
                self.life.heard = true;
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(error.to_string())),
        }
    }

    fn decode(
        &mut self,
        receive: &mut impl FnMut(Frame) -> Result<(), String>,
    ) -> Result<(), String> {
        let broken = |error: crate::rpc::frame::FrameError| error.to_string();
        while let Some(frame) = self
            .codec
            .decode(&mut self.input, MAX_FRAME_BYTES)
            .map_err(broken)?
        {
            match frame.kind {
                Kind::Ping => self.outbox.push_control(Kind::Pong),
                Kind::Pong => {}
                Kind::Refused => {
                    let why = String::from_utf8_lossy(&frame.body);
                    return Err(format!("the peer ends the connection: {why}"));
                }
                Kind::Hello | Kind::Welcome | Kind::Ready => {
                    return Err("a second handshake on one connection".to_string());
                }
                _ => {
                    if let Some(whole) = self.pieces.add(frame).map_err(broken)? {
                        self.meter.received(whole.kind);
                        receive(whole)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Life {
    fn new(limits: &Limits, asks: bool) -> Self {
        let first = tokio::time::Instant::now() + limits.ping_every;
        let mut tick = interval_at(first, limits.ping_every);
        // A process that was stopped for a while counts one tick, and has time to hear the others.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ticks = limits.silence.as_nanos() / limits.ping_every.as_nanos().max(1);
        Life {
            tick,
            asks,
            heard: false,
            said: false,
            silent_ticks: 0,
            most_silent_ticks: u32::try_from(ticks).unwrap_or(u32::MAX).max(1),
        }
    }

    fn tick(&mut self, outbox: &Outbox) -> Result<(), String> {
        self.silent_ticks = if self.heard { 0 } else { self.silent_ticks + 1 };
        if self.silent_ticks > self.most_silent_ticks {
            let seconds = self.tick.period().as_secs_f64() * f64::from(self.silent_ticks);
            return Err(format!("the peer is silent for {seconds} s"));
        }
        if self.asks && !(self.heard && self.said) {
            outbox.push_control(Kind::Ping);
        }
        (self.heard, self.said) = (false, false);
        Ok(())
    }
}
