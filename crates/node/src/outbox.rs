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

/// What one peer is sent.
#[derive(Debug, Default)]
struct Parcel {
    liveness: Vec<liveness::Message>,
    messages: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    parcels: BTreeMap<StoreId, Parcel>,
}

impl Outbox {
    pub(crate) fn liveness(&mut self, message: liveness::Message) {
        let parcel = self.parcels.entry(message.to).or_default();
        parcel.liveness.push(message);
    }

    /// `true`: the parcel is large enough to be sent now. For `start` see [`Addressed::start`].
    pub(crate) fn raft(
        &mut self,
        to: StoreId,
        shard: ShardId,
        start: Option<&Bytes>,
        message: &Message,
    ) -> bool {
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
