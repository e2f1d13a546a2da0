//! What waits to be written to one connection.
//!
//! Four lanes share the socket. Short messages that may overtake others go first. Messages keep their order among
//! themselves, so a long one holds up those behind it. Requests and answers of at most a piece keep theirs. Longer ones are sent piece by piece in
//! turn. Each write takes from all lanes, so none waits for another one to be empty.

use crate::rpc::frame::Kind;
use crate::rpc::limits::{Limits, MAX_BODY_BYTES, PIECE_BYTES, WRITE_BYTES, cut};
use bytes::Bytes;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::task::Waker;

/// Signs of life that may wait: one of each kind, and some that crossed.
const MAX_CONTROL: usize = 8;

/// The id of messages that go ahead. That of all others is 0.
const AHEAD: u64 = 1;

/// A frame that is about to be written.
#[derive(Debug)]
pub struct Part {
    pub kind: Kind,
    pub more: bool,
    pub id: u64,
    pub body: Bytes,
}

/// A bounded queue between many senders and the one task that writes. It takes things only while it is
/// open; whoever opens it has a connection, or is about to.
pub struct Outbox {
    queue: Mutex<Queue>,
    writer: AtomicWaker,
    limits: Limits,
}

#[derive(Default)]
struct Queue {
    /// Why nothing can be sent now.
    closed: Option<String>,
    control: VecDeque<Kind>,
    ahead: VecDeque<Bytes>,
    messages: Messages,
    calls: VecDeque<Part>,
    long: VecDeque<Long>,
    /// Of all lanes, not yet written.
    bytes: usize,
    items: usize,
}

#[derive(Default)]
struct Messages {
    waiting: VecDeque<Bytes>,
    /// How much of the first one is written.
    offset: usize,
}

/// A request or an answer of several pieces.
struct Long {
    kind: Kind,
    id: u64,
    body: Bytes,
    offset: usize,
}

impl Outbox {
    pub fn new(limits: Limits) -> Self {
        Outbox {
            queue: Mutex::default(),
            writer: AtomicWaker::new(),
            limits,
        }
    }

    /// Takes things from now on, as a new one does.
    pub fn open(&self) {
        self.queue.lock().closed = None;
    }

    /// Forgets what waits. The answer names the requests of which not a byte was written.
    pub fn close(&self, why: &str) -> Vec<u64> {
        let mut queue = self.queue.lock();
        let short = queue.calls.iter().map(|part| (part.kind, part.id));
        let long = queue.long.iter().filter(|long| long.offset == 0);
        let unsent = short
            .chain(long.map(|long| (long.kind, long.id)))
            .filter(|(kind, _)| *kind == Kind::Request)
            .map(|(_, id)| id)
            .collect();
        queue.shut(why);
        unsent
    }

    /// Queues a message behind the others, or says why it is lost.
    pub fn push_message(&self, message: Bytes) -> Result<(), String> {
        self.push(message, |queue, message| {
            queue.messages.waiting.push_back(message);
        })
    }

    /// Queues a message before all others, if it is short; those keep their order among themselves.
    pub fn push_ahead(&self, message: Bytes) -> Result<(), String> {
        if message.len() > PIECE_BYTES {
            return self.push_message(message);
        }
        self.push(message, |queue, message| queue.ahead.push_back(message))
    }

    /// Queues a request, or says why it is not sent.
    pub fn push_request(&self, id: u64, request: Bytes) -> Result<(), String> {
        self.push(request, |queue, body| {
            queue.push_call(Kind::Request, id, body);
        })
    }

    fn push(&self, body: Bytes, add: impl FnOnce(&mut Queue, Bytes)) -> Result<(), String> {
        if body.len() > MAX_BODY_BYTES {
            let length = body.len();
            return Err(format!(
                "{length} bytes, where {MAX_BODY_BYTES} is the most"
            ));
        }
        let mut queue = self.queue.lock();
        if let Some(why) = &queue.closed {
            return Err(why.clone());
        }
        let full = queue.items >= self.limits.queue_items
            || queue.bytes + body.len() > self.limits.queue_bytes;
        if full {
            let (items, bytes) = (queue.items, queue.bytes);
            return Err(format!("{items} others wait already, {bytes} bytes"));
        }
        queue.items += 1;
        queue.bytes += body.len();
        add(&mut queue, body);
        drop(queue);
        self.writer.wake();
        Ok(())
    }

    /// Queues what became of a request: `Answer`, `TurnedAway` or `Failed`. An answer that does not fit is
    /// a failure to the caller; a peer that leaves thousands of answers unread loses the connection.
    pub fn push_outcome(&self, kind: Kind, id: u64, body: Bytes) {
        let mut queue = self.queue.lock();
        if queue.closed.is_some() {
            return;
        }
        let (kind, body) = if body.len() > MAX_BODY_BYTES {
            let why = format!(
                "the answer has {} bytes, {MAX_BODY_BYTES} is the most",
                body.len()
            );
            (Kind::Failed, why.into())
        } else if queue.bytes + body.len() > self.limits.queue_bytes && queue.bytes > 0 {
            (
                Kind::Failed,
                Bytes::from_static(b"too many answers wait to be sent"),
            )
        } else {
            (kind, body)
        };
        if queue.items >= self.limits.queue_items {
            queue.shut("the peer does not take its answers");
        } else {
            queue.items += 1;
            queue.bytes += body.len();
            queue.push_call(kind, id, body);
        }
        drop(queue);
        self.writer.wake();
    }

    /// The same with a text that says why there is no answer.
    pub fn push_reason(&self, kind: Kind, id: u64, why: &str) {
        self.push_outcome(kind, id, Bytes::copy_from_slice(cut(why).as_bytes()));
    }

    /// Queues a sign of life.
    pub fn push_control(&self, kind: Kind) {
        let mut queue = self.queue.lock();
        if queue.control.len() < MAX_CONTROL {
            queue.control.push_back(kind);
        }
        drop(queue);
        self.writer.wake();
    }

    /// Whom to wake when something is queued.
    pub fn register(&self, waker: &Waker) {
        self.writer.register(waker);
    }

    /// Whether nothing waits, or why nothing can be sent.
    pub fn is_empty(&self) -> Result<bool, String> {
        let queue = self.queue.lock();
        match &queue.closed {
            Some(why) => Err(why.clone()),
            None => Ok(queue.items == 0 && queue.control.is_empty()),
        }
    }

    /// Moves what is to be written next, about [`WRITE_BYTES`], to `batch`.
    pub fn take(&self, batch: &mut Vec<Part>) -> Result<(), String> {
        let mut queue = self.queue.lock();
        match &queue.closed {
            Some(why) => Err(why.clone()),
            None => {
                queue.take(batch);
                Ok(())
            }
        }
    }
}

impl Queue {
    fn push_call(&mut self, kind: Kind, id: u64, body: Bytes) {
        if body.len() <= PIECE_BYTES {
            let more = false;
            self.calls.push_back(Part {
                kind,
                more,
                id,
                body,
            });
        } else {
            let offset = 0;
            self.long.push_back(Long {
                kind,
                id,
                body,
                offset,
            });
        }
    }

    fn shut(&mut self, why: &str) {
        self.closed = Some(why.to_string());
        self.control.clear();
        self.ahead.clear();
        self.messages = Messages::default();
        self.calls.clear();
        self.long.clear();
        (self.bytes, self.items) = (0, 0);
    }

    fn take(&mut self, batch: &mut Vec<Part>) {
        let control = self.control.drain(..).map(|kind| Part {
            kind,
            more: false,
            id: 0,
            body: Bytes::new(),
        });
        batch.extend(control);
        let mut taken = 0;
        while taken < WRITE_BYTES / 4
            && let Some(body) = self.ahead.pop_front()
        {
            // Whole, and not a piece of the message that is being written: another id.
            let part = Part {
                kind: Kind::Message,
                more: false,
                id: AHEAD,
                body,
            };
            taken += self.note(part, batch);
        }
        while taken < WRITE_BYTES / 4
            && let Some(part) = self.messages.next()
        {
            taken += self.note(part, batch);
        }
        let messages = taken;
        while taken - messages < WRITE_BYTES / 4
            && let Some(part) = self.calls.pop_front()
        {
            taken += self.note(part, batch);
        }
        // Half of the room at least is for the long ones, a piece of each in turn.
        while taken < WRITE_BYTES
            && let Some(mut long) = self.long.pop_front()
        {
            let part = long.next();
            if part.more {
                self.long.push_back(long);
            }
            taken += self.note(part, batch);
        }
    }

    /// Counts a part as gone. Answers its length.
    fn note(&mut self, part: Part, batch: &mut Vec<Part>) -> usize {
        let length = part.body.len();
        self.bytes -= length;
        self.items -= usize::from(!part.more);
        batch.push(part);
        // Many empty ones cost as well.
        length + 32
    }
}

impl Messages {
    fn next(&mut self) -> Option<Part> {
        let first = self.waiting.front()?;
        let (body, more) = piece(first, self.offset);
        if more {
            self.offset += body.len();
        } else {
            self.waiting.pop_front();
            self.offset = 0;
        }
        let kind = Kind::Message;
        Some(Part {
            kind,
            more,
            id: 0,
            body,
        })
    }
}

impl Long {
    fn next(&mut self) -> Part {
        let (body, more) = piece(&self.body, self.offset);
        self.offset += body.len();
        let (kind, id) = (self.kind, self.id);
        Part {
            kind,
            more,
            id,
            body,
        }
    }
}

/// The next piece of a body, and whether others follow.
fn piece(body: &Bytes, offset: usize) -> (Bytes, bool) {
    let end = body.len().min(offset + PIECE_BYTES);
    (body.slice(offset..end), end < body.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::limits::MAX_BODY_BYTES;

    fn take(outbox: &Outbox) -> Vec<Part> {
        let mut batch = Vec::new();
        outbox.take(&mut batch).expect("it is open");
        batch
    }

    fn ids(parts: &[Part]) -> Vec<u64> {
        parts.iter().map(|part| part.id).collect()
    }

    #[test]
    fn a_small_call_does_not_wait_for_the_end_of_long_ones() {
        let outbox = Outbox::new(Limits::default());
        let long = Bytes::from(vec![7; 4 << 20]);
        outbox.push_request(1, long.clone()).expect("room");
        outbox.push_request(2, long).expect("room");
        let first = take(&outbox);
        assert_eq!(ids(&first), [1, 2, 1, 2], "in turn");
        assert!(first.iter().all(|part| part.more));
        outbox
            .push_request(3, Bytes::from_static(b"small"))
            .expect("room");
        let second = take(&outbox);
        assert_eq!(ids(&second)[..3], [3, 1, 2]);
        assert!(!second[0].more);
    }

    #[test]
    fn messages_stay_in_order_also_behind_a_long_one() {
        let outbox = Outbox::new(Limits::default());
        let long = Bytes::from(vec![7; 3 * PIECE_BYTES]);
        outbox.push_message(long).expect("room");
        outbox
            .push_message(Bytes::from_static(b"behind"))
            .expect("room");
        let mut parts = Vec::new();
        for _ in 0..4 {
            parts.extend(take(&outbox));
        }
        let more: Vec<bool> = parts.iter().map(|part| part.more).collect();
        assert_eq!(more, [true, true, false, false]);
        assert_eq!(parts[3].body, "behind");
    }

    #[test]
    fn what_goes_ahead_comes_between_the_pieces_of_a_long_message() {
        let outbox = Outbox::new(Limits::default());
        let long = Bytes::from(vec![7; WRITE_BYTES]);
        outbox.push_message(long.clone()).expect("room");
        let mut parts = take(&outbox);
        assert!(parts.iter().all(|part| part.more));
        outbox
            .push_ahead(Bytes::from_static(b"ahead"))
            .expect("room");
        let next = take(&outbox);
        assert_eq!(next[0].body, "ahead");
        parts.extend(next);
        while parts.last().is_some_and(|part| part.more) {
            parts.extend(take(&outbox));
        }
        // Both are whole at the other end.
        let mut pieces = crate::rpc::pieces::Pieces::default();
        let mut whole = Vec::new();
        for Part {
            kind,
            more,
            id,
            body,
        } in parts
        {
            let frame = crate::rpc::frame::Frame {
                kind,
                more,
                id,
                body,
            };
            whole.extend(pieces.add(frame).expect("sound frames"));
        }
        let bodies: Vec<Bytes> = whole.into_iter().map(|frame| frame.body).collect();
        assert_eq!(bodies, [Bytes::from_static(b"ahead"), long]);
    }

    #[test]
    fn it_is_bounded_and_has_room_again_after_a_write() {
        let outbox = Outbox::new(Limits {
            queue_bytes: 10,
            queue_items: 3,
            ..Limits::default()
        });
        let message = |text: &'static str| outbox.push_message(Bytes::from_static(text.as_bytes()));
        message("123456").expect("room");
        message("78901").expect_err("11 bytes");
        message("7890").expect("room");
        message("").expect("no bytes");
        message("").expect_err("the fourth");
        assert_eq!(take(&outbox).len(), 3);
        message("1234567890").expect("room again");
        let outbox = Outbox::new(Limits::default());
        let huge = Bytes::from(vec![0; MAX_BODY_BYTES + 1]);
        outbox
            .push_message(huge)
            .expect_err("over the longest body");
    }

    #[test]
    fn what_was_not_begun_is_unsent() {
        let outbox = Outbox::new(Limits::default());
        let long = Bytes::from(vec![7; WRITE_BYTES]);
        outbox.push_request(1, long.clone()).expect("room");
        take(&outbox);
        outbox.push_request(2, Bytes::new()).expect("room");
        outbox.push_request(3, long).expect("room");
        outbox.push_outcome(Kind::Answer, 4, Bytes::new());
        assert_eq!(outbox.close("gone"), [2, 3]);
        assert_eq!(
            outbox.push_request(5, Bytes::new()),
            Err("gone".to_string())
        );
        outbox.open();
        assert!(take(&outbox).is_empty(), "nothing of before");
    }

    #[test]
    fn answers_that_nobody_takes_end_the_connection() {
        let outbox = Outbox::new(Limits {
            queue_bytes: 10,
            queue_items: 3,
            ..Limits::default()
        });
        outbox.push_outcome(Kind::Answer, 1, Bytes::from_static(b"12345678"));
        outbox.push_outcome(Kind::Answer, 2, Bytes::from_static(b"12345678"));
        assert_eq!(take(&outbox)[1].kind, Kind::Failed);
        for id in 0..4 {
            outbox.push_outcome(Kind::Answer, id, Bytes::new());
        }
        let why = outbox.take(&mut Vec::new()).expect_err("closed");
        assert!(why.contains("does not take"), "{why}");
    }
}
