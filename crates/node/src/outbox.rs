//! Messages for peers, gathered over a turn of the store's loop and sent as one parcel a peer.
//!
//! | field                | bytes                                                          |
//! | -------------------- | -------------------------------------------------------------- |
//! | part                 | [`Part::Raft`]                                                 |
//! | time                 | varint: the sender's clock, a hybrid timestamp                 |
//! | wall                 | varint: the sender's wall clock, milliseconds                  |
//! | sync                 | varint: what a synced write takes the sender, milliseconds     |
//! | liveness             | count varint, then each: kind 1, epoch varint, expiry varint   |
//! | messages, to the end | each: shard varint, first key or none, length varint, message (`consensus::wire`) |
//!
//! # Who hears later
//! A commit waits for a majority. Entries go at once to as many followers as that takes (`crate::prompt`), and to the
//! others some milliseconds later, together: each parcel costs its receiver a turn of its loop and a sync, however many
//! entries it brings.
//!
//! The shard's first key goes with what a leader says to a replica of which it has heard nothing yet: see
//! [`Addressed::start`].

use crate::rpc::Part;
use bytes::Bytes;
use consensus::{Message, wire};
use membership::liveness::{self, Epoch, Kind, Support};
use sharding::ShardId;
use std::collections::BTreeMap;
use types::codec::{Reader, put_bytes, put_optional_bytes, put_varint};
use types::env::Transport;
use types::{StoreId, Timestamp};

/// A parcel is sent when it has grown to so many bytes.
const PARCEL_BYTES: usize = 1 << 20;

/// Support does not wait behind more than so many bytes of messages: it goes ahead of them, in a parcel of its own.
const AHEAD_OF_BYTES: usize = 64 << 10;

/// Entries for a follower that is not waited for are sent when the first has waited for so long, in nanoseconds: some
/// turns of a busy loop, and little to wait when one of those fails that are waited for.
const LATER_NANOS: u64 = 10_000_000;

/// Or when there are so many bytes of them.
const LATER_BYTES: usize = 64 << 10;

/// What one peer is sent.
#[derive(Debug, Default)]
struct Parcel {
    liveness: Vec<liveness::Message>,
    messages: Vec<u8>,
}

/// What a peer is sent later.
#[derive(Debug)]
struct Later {
    due_nanos: u64,
    bytes: usize,
    messages: Vec<(ShardId, Message)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    parcels: BTreeMap<StoreId, Parcel>,
    later: BTreeMap<StoreId, Later>,
}

impl Outbox {
    pub(crate) fn liveness(&mut self, message: liveness::Message) {
        let parcel = self.parcels.entry(message.to).or_default();
        parcel.liveness.push(message);
    }

    /// Keeps a message that brings entries for a while. The answer is that of [`Outbox::raft`].
    pub(crate) fn later(
        &mut self,
        to: StoreId,
        shard: ShardId,
        message: Message,
        now_nanos: u64,
    ) -> bool {
        let later = self.later.entry(to).or_insert_with(|| Later {
            due_nanos: now_nanos + LATER_NANOS,
            bytes: 0,
            messages: Vec::new(),
        });
        let entries = message.get_entries().iter();
        later.bytes += entries.map(|entry| entry.data.len()).sum::<usize>();
        let mut earlier = later.messages.iter_mut().rev();
        let next = match earlier.find(|(known, _)| *known == shard) {
            Some((_, earlier)) => wire::join(earlier, message),
            None => Some(message),
        };
        later.messages.extend(next.map(|message| (shard, message)));
        later.bytes >= LATER_BYTES && self.catch_up(to)
    }

    /// When the first of them are due: monotonic nanoseconds.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.later.values().map(|later| later.due_nanos).min()
    }

    /// Puts those that are due to what is sent.
    pub(crate) fn take_due(&mut self, now_nanos: u64) {
        while let Some((to, _)) = self.later.iter().find(|(_, it)| it.due_nanos <= now_nanos) {
            self.catch_up(*to);
        }
    }

    fn catch_up(&mut self, to: StoreId) -> bool {
        let later = self.later.remove(&to).into_iter();
        let messages = later.flat_map(|later| later.messages);
        messages.fold(false, |full, (shard, message)| {
            self.raft(to, shard, None, &message) || full
        })
    }

    /// `true`: the parcel is large enough to be sent now. For `start` see [`Addressed::start`].
    pub(crate) fn raft(
        &mut self,
        to: StoreId,
        shard: ShardId,
        start: Option<&Bytes>,
        message: &Message,
    ) -> bool {
        // Nothing overtakes what waits.
        self.catch_up(to);
        let mut encoded = Vec::new();
        if !wire::encode(message, &mut encoded) {
            return false;
        }
        let parcel = self.parcels.entry(to).or_default();
        put_varint(&mut parcel.messages, shard.0);
        put_optional_bytes(&mut parcel.messages, start.map(|start| &start[..]));
        put_bytes(&mut parcel.messages, &encoded);
        parcel.messages.len() >= PARCEL_BYTES
    }

    /// Sends all that has gathered.
    pub(crate) fn flush(&mut self, transport: &dyn Transport, sender: Sender) {
        for (to, mut parcel) in std::mem::take(&mut self.parcels) {
            if parcel.messages.len() > AHEAD_OF_BYTES && !parcel.liveness.is_empty() {
                let ahead = Parcel {
                    liveness: std::mem::take(&mut parcel.liveness),
                    messages: Vec::new(),
                };
                transport.send_ahead(to, ahead.encode(sender));
            }
            let only_support = parcel.messages.is_empty();
            let encoded = parcel.encode(sender);
            match only_support {
                true => transport.send_ahead(to, encoded),
                false => transport.send(to, encoded),
            }
        }
    }
}

impl Parcel {
    fn encode(self, sender: Sender) -> Bytes {
        let mut out = Vec::with_capacity(self.messages.len() + 32 * (1 + self.liveness.len()));
        out.push(Part::Raft as u8);
        put_varint(&mut out, sender.time.0);
        put_varint(&mut out, sender.wall_millis);
        put_varint(&mut out, sender.sync_millis);
        put_varint(&mut out, self.liveness.len() as u64);
        for message in self.liveness {
            out.push(match message.kind {
                Kind::Heartbeat => 0,
                Kind::Reply => 1,
            });
            put_varint(&mut out, message.support.epoch.0);
            put_varint(&mut out, message.support.expiry.0);
        }
        out.extend_from_slice(&self.messages);
        out.into()
    }
}

/// What a store says of itself with every parcel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sender {
    pub(crate) time: Timestamp,
    pub(crate) wall_millis: u64,
    pub(crate) sync_millis: u64,
}

/// A message for a replica.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Addressed {
    pub(crate) shard: ShardId,
    /// The shard's first key. If another replica of the receiver holds it, the shard was split off from that one's,
    /// which does not know yet: it will give birth to the replica that is meant.
    pub(crate) start: Option<Bytes>,
    pub(crate) message: Message,
}

/// What a peer has sent.
#[derive(Debug, PartialEq)]
pub(crate) struct Received {
    pub(crate) sender: Sender,
    pub(crate) liveness: Vec<liveness::Message>,
    pub(crate) messages: Vec<Addressed>,
}

/// Reads a parcel without its kind. `None`: malformed.
pub(crate) fn read(from: StoreId, to: StoreId, body: Bytes) -> Option<Received> {
    let mut reader = Reader::new(body);
    let sender = Sender {
        time: Timestamp(reader.varint()?),
        wall_millis: reader.varint()?,
        sync_millis: reader.varint()?,
    };
    let count = reader.varint()?;
    let mut liveness = Vec::new();
    for _ in 0..count {
        liveness.push(liveness::Message {
            from,
            to,
            kind: match reader.u8()? {
                0 => Kind::Heartbeat,
                1 => Kind::Reply,
                _ => return None,
            },
            support: Support {
                epoch: Epoch(reader.varint()?),
                expiry: Timestamp(reader.varint()?),
            },
        });
    }
    let mut messages = Vec::new();
    while reader.left() > 0 {
        messages.push(Addressed {
            shard: ShardId(reader.varint()?),
            start: reader.optional_bytes()?,
            message: wire::decode(reader.bytes()?)?,
        });
    }
    Some(Received {
        sender,
        liveness,
        messages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use types::env::{BoxFuture, CallError, NoTransport};

    const ME: StoreId = StoreId(1);
    const SHARD: ShardId = ShardId(7);
    const SENDER: Sender = Sender {
        time: Timestamp(1),
        wall_millis: 1,
        sync_millis: 1,
    };

    #[derive(Default)]
    struct Sent(Mutex<Vec<(StoreId, Received)>>);

    impl Transport for Sent {
        fn send(&self, to: StoreId, mut message: Bytes) {
            let body = message.split_off(1);
            let received = read(ME, to, body).expect("it is well formed");
            self.0.lock().push((to, received));
        }

        fn send_ahead(&self, to: StoreId, message: Bytes) {
            self.send(to, message);
        }

        fn call(&self, to: StoreId, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
            NoTransport.call(to, request)
        }

        fn call_address(&self, to: &str, request: Bytes) -> BoxFuture<Result<Bytes, CallError>> {
            NoTransport.call_address(to, request)
        }

        fn learn(&self, _: StoreId, _: &str) {}
    }

    /// Brings replica 3 one entry of term 4, the term of the one before it.
    fn bringing(index: u64, bytes: usize) -> Message {
        let mut out = vec![0];
        for number in [3, 1, 4, 4, index - 1, 0, 0, 0, 0, 0] {
            put_varint(&mut out, number);
        }
        out.push(0);
        put_bytes(&mut out, &[]);
        put_varint(&mut out, 1);
        out.push(0);
        put_varint(&mut out, 4);
        put_varint(&mut out, index);
        put_bytes(&mut out, &vec![0; bytes]);
        put_bytes(&mut out, &[]);
        out.push(0);
        let message = wire::decode(out.into()).expect("it is well formed");
        assert!(wire::brings_entries(&message));
        message
    }

    /// What each message that is sent brings: its first and last entry.
    fn flush(outbox: &mut Outbox, now_nanos: u64) -> Vec<(StoreId, Vec<(u64, u64)>)> {
        let sent = Sent::default();
        outbox.take_due(now_nanos);
        outbox.flush(&sent, SENDER);
        let brings = |addressed: Addressed| {
            let entries = addressed.message.get_entries().to_vec();
            let ends = entries.first().zip(entries.last());
            ends.map_or((0, 0), |(first, last)| (first.index, last.index))
        };
        let sent = sent.0.into_inner().into_iter();
        sent.map(|(to, received)| (to, received.messages.into_iter().map(brings).collect()))
            .collect()
    }

    #[test]
    fn what_is_sent_later_goes_together_and_is_overtaken_by_nothing() {
        let (now, near, far) = (1_000_000_000, StoreId(2), StoreId(3));
        let bring = |index| bringing(index, 10);
        let mut outbox = Outbox::default();
        for index in 5..8 {
            outbox.raft(near, SHARD, None, &bring(index));
            outbox.later(far, SHARD, bring(index), now + index);
        }
        let at_once = vec![(5, 5), (6, 6), (7, 7)];
        assert_eq!(flush(&mut outbox, now), [(near, at_once)]);
        let due = outbox.next_due().expect("there is something");
        assert_eq!(flush(&mut outbox, due), [(far, vec![(5, 7)])]);
        assert_eq!(outbox.next_due(), None);

        // One is missing in between: they are not one message.
        outbox.later(far, SHARD, bring(8), now);
        outbox.later(far, SHARD, bring(10), now);
        // Whatever else is said does not go first.
        outbox.raft(far, SHARD, None, &bring(11));
        let in_order = vec![(8, 8), (10, 10), (11, 11)];
        assert_eq!(flush(&mut outbox, now), [(far, in_order)]);

        // Much is not kept waiting.
        let large = bringing(12, LATER_BYTES);
        outbox.later(far, SHARD, large, now);
        assert_eq!(flush(&mut outbox, now), [(far, vec![(12, 12)])]);
    }
}
