//! Raft messages between nodes, in our own encoding.
//!
//! | field                                   | bytes |
//! | --------------------------------------- | ----- |
//! | type                                    | 1     |
//! | to, from, term, log term, index, commit, commit term, request snapshot, reject hint | varint each |
//! | priority                                | varint, zigzag |
//! | reject                                  | 1     |
//! | context                                 | length varint, bytes |
//! | entries                                 | count varint, then each: type 1, term and index varint, data and context as bytes |
//! | snapshot                                | 0, or 1 and: index, term varint, membership, data as bytes |
//!
//! A frame has no checksum of its own: the transport has one.

use crate::membership::Membership;
use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType, Snapshot};
use types::codec::{Reader, put_bytes, put_varint};

/// Messages that pass between replicas. The others of raft-rs are for its own use.
const TYPES: [MessageType; 12] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTransferLeader,
    MessageType::MsgTimeoutNow,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
    MessageType::MsgPropose,
];

const ENTRY_TYPES: [EntryType; 3] = [
    EntryType::EntryNormal,
    EntryType::EntryConfChange,
    EntryType::EntryConfChangeV2,
];

/// Appends `message`. `false`: it is of a kind that stays within a replica, and nothing is written.
pub fn encode(message: &Message, out: &mut Vec<u8>) -> bool {
    let Some(kind) = TYPES.iter().position(|t| *t == message.get_msg_type()) else {
        return false;
    };
    out.push(kind as u8);
    for number in [
        message.to,
        message.from,
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.request_snapshot,
        message.reject_hint,
        zigzag(message.priority),
    ] {
        put_varint(out, number);
    }
    out.push(u8::from(message.reject));
    put_bytes(out, &message.context);
    put_varint(out, message.get_entries().len() as u64);
    for entry in message.get_entries() {
        out.push(match entry.get_entry_type() {
            EntryType::EntryNormal => 0,
            EntryType::EntryConfChange => 1,
            EntryType::EntryConfChangeV2 => 2,
        });
        put_varint(out, entry.term);
        put_varint(out, entry.index);
        put_bytes(out, &entry.data);
        put_bytes(out, &entry.context);
    }
    let snapshot = message.get_snapshot();
    let meta = snapshot.get_metadata();
    out.push(u8::from(meta.index > 0));
    if meta.index > 0 {
        put_varint(out, meta.index);
        put_varint(out, meta.term);
        Membership::from_raft(meta.get_conf_state()).put(out);
        put_bytes(out, &snapshot.data);
    }
    true
}

/// The message at the front of `frame`, which it must fill. Entries share the frame's memory.
/// `None`: malformed.
pub fn decode(frame: Bytes) -> Option<Message> {
    let mut reader = Reader::new(frame);
    let message = read(&mut reader)?;
    (reader.left() == 0).then_some(message)
}

fn read(reader: &mut Reader) -> Option<Message> {
    let mut message = Message::default();
    message.set_msg_type(*TYPES.get(usize::from(reader.u8()?))?);
    message.to = reader.varint()?;
    message.from = reader.varint()?;
    message.term = reader.varint()?;
    message.log_term = reader.varint()?;
    message.index = reader.varint()?;
    message.commit = reader.varint()?;
    message.commit_term = reader.varint()?;
    message.request_snapshot = reader.varint()?;
    message.reject_hint = reader.varint()?;
    message.priority = unzigzag(reader.varint()?);
    message.reject = flag(reader)?;
    message.context = reader.bytes()?;
    let count = reader.varint()?;
    // An entry takes at least five bytes, so a wrong count cannot ask for much memory.
    let mut entries = Vec::with_capacity(usize::try_from(count).ok()?.min(reader.left() / 5));
    for _ in 0..count {
        let mut entry = Entry::default();
        entry.set_entry_type(*ENTRY_TYPES.get(usize::from(reader.u8()?))?);
        entry.term = reader.varint()?;
        entry.index = reader.varint()?;
        entry.data = reader.bytes()?;
        entry.context = reader.bytes()?;
        entries.push(entry);
    }
    message.set_entries(entries.into());
    if flag(reader)? {
        let mut snapshot = Snapshot::default();
        let meta = snapshot.mut_metadata();
        meta.index = reader.varint().filter(|index| *index > 0)?;
        meta.term = reader.varint()?;
        meta.set_conf_state(Membership::read(reader)?.to_raft());
        snapshot.data = reader.bytes()?;
        message.set_snapshot(snapshot);
    }
    Some(message)
}

/// What a message is to its receiver's driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A candidate asks for a vote, or whether it would get it. `invited`: the leader itself has asked it to
    /// take over.
    Vote {
        invited: bool,
    },
    /// The head of a snapshot.
    Snapshot,
    /// A leader speaks.
    Lead,
    Other,
}

pub fn kind(message: &Message) -> Kind {
    match message.get_msg_type() {
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => Kind::Vote {
            invited: message.context[..] == raft::CAMPAIGN_TRANSFER[..],
        },
        MessageType::MsgSnapshot => Kind::Snapshot,
        MessageType::MsgAppend | MessageType::MsgHeartbeat => Kind::Lead,
        _ => Kind::Other,
    }
}

/// Whether the message is nothing but entries for a follower.
pub fn brings_entries(message: &Message) -> bool {
    message.get_msg_type() == MessageType::MsgAppend && !message.get_entries().is_empty()
}

/// Makes one message of two that bring a follower entries, where those of `next` follow on `first`'s. Otherwise gives
/// `next` back.
pub fn join(first: &mut Message, mut next: Message) -> Option<Message> {
    let last = first.get_entries().last();
    let last = last.map(|entry| (entry.index, entry.term));
    let follows = (first.to, first.from, first.term) == (next.to, next.from, next.term)
        && last == Some((next.index, next.log_term));
    if !follows {
        return Some(next);
    }
    first.mut_entries().extend(next.take_entries());
    (first.commit, first.commit_term) = (next.commit, next.commit_term);
    None
}

/// Whether the message tells a follower to take over from its leader at once.
pub fn is_invitation(message: &Message) -> bool {
    message.get_msg_type() == MessageType::MsgTimeoutNow
}

fn flag(reader: &mut Reader) -> Option<bool> {
    match reader.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_store::ReplicaId;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..30).prop_map(Bytes::from)
    }

    fn entry() -> impl Strategy<Value = Entry> {
        (
            0..ENTRY_TYPES.len(),
            any::<u64>(),
            any::<u64>(),
            bytes(),
            bytes(),
        )
            .prop_map(|(kind, term, index, data, context)| {
                let mut entry = Entry::default();
                entry.set_entry_type(ENTRY_TYPES[kind]);
                entry.term = term;
                entry.index = index;
                entry.data = data;
                entry.context = context;
                entry
            })
    }

    fn snapshot() -> impl Strategy<Value = Snapshot> {
        let ids = || proptest::collection::vec(any::<u64>().prop_map(ReplicaId), 0..4);
        let members = (ids(), ids(), ids(), ids(), any::<bool>());
        (1..u64::MAX, any::<u64>(), members, bytes()).prop_map(|(index, term, members, data)| {
            let (voters, learners, outgoing, learners_next, auto_leave) = members;
            let membership = Membership {
                voters,
                learners,
                outgoing,
                learners_next,
                auto_leave,
            };
            let mut snapshot = Snapshot {
                data,
                ..Snapshot::default()
            };
            let meta = snapshot.mut_metadata();
            meta.index = index;
            meta.term = term;
            meta.set_conf_state(membership.to_raft());
            snapshot
        })
    }

    prop_compose! {
        fn message()(
            kind in 0..TYPES.len(),
            numbers in proptest::array::uniform9(any::<u64>()),
            priority in any::<i64>(),
            reject in any::<bool>(),
            context in bytes(),
            entries in proptest::collection::vec(entry(), 0..4),
            snapshot in proptest::option::of(snapshot()),
        ) -> Message {
            let mut message = Message::default();
            message.set_msg_type(TYPES[kind]);
            [
                message.to,
                message.from,
                message.term,
                message.log_term,
                message.index,
                message.commit,
                message.commit_term,
                message.request_snapshot,
                message.reject_hint,
            ] = numbers;
            message.priority = priority;
            message.reject = reject;
            message.context = context;
            message.set_entries(entries.into());
            if let Some(snapshot) = snapshot {
                message.set_snapshot(snapshot);
            }
            message
        }
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(message in message()) {
            let mut frame = Vec::new();
            prop_assert!(encode(&message, &mut frame));
            prop_assert_eq!(decode(Bytes::from(frame)), Some(message));
        }

        #[test]
        fn any_bytes_can_be_decoded(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Bytes::from(frame));
        }

        #[test]
        fn a_cut_frame_is_malformed(message in message(), cut in 1usize..50) {
            let mut frame = Vec::new();
            encode(&message, &mut frame);
            frame.truncate(frame.len().saturating_sub(cut));
            prop_assert_eq!(decode(Bytes::from(frame)), None);
        }
    }
}
