//! What is asked.

use super::fields::*;
use crate::shard_server::{LeaseId, OpenRequest};
use bytes::Bytes;
use sharding::ShardId;
use std::sync::Arc;
use txn::kv::{CommitRequest, Key, LockMode, ScanRequest, TxnId, Value, WaitPolicy};
use types::Timestamp;
use types::codec::{Reader, put_bytes, put_varint};

// The first bytes of requests and notices, within `Part::Kv`.
const READ_TIMESTAMP: u8 = 0x30;
const GET: u8 = 0x31;
const NEWEST_VERSION: u8 = 0x32;
const SCAN: u8 = 0x33;
const LOCK: u8 = 0x34;
const LOCK_FRESH: u8 = 0x35;
const STILL_LOCKED: u8 = 0x36;
const COMMIT: u8 = 0x37;
const ROLL_CALL: u8 = 0x38;
const STAGE: u8 = 0x39;
const COMMIT_STAGED: u8 = 0x3a;
const OPEN: u8 = 0x3b;
const UNLOCK: u8 = 0x3c;
const UNLOCK_ALL: u8 = 0x3d;
const LEAVE: u8 = 0x3e;

const MODES: [LockMode; 4] = [
    LockMode::KeyShare,
    LockMode::Share,
    LockMode::NoKeyUpdate,
    LockMode::Update,
];

/// [`WaitPolicy`] with the time that is left in place of an instant of the asker's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Wait { left_nanos: Option<u64> },
    NoWait,
    SkipLocked,
}

impl Patience {
    pub fn of(policy: WaitPolicy, now_nanos: u64) -> Self {
        match policy {
            WaitPolicy::Wait { deadline_nanos } => Patience::Wait {
                left_nanos: deadline_nanos.map(|deadline| deadline.saturating_sub(now_nanos)),
            },
            WaitPolicy::NoWait => Patience::NoWait,
            WaitPolicy::SkipLocked => Patience::SkipLocked,
        }
    }

    pub fn policy(self, now_nanos: u64) -> WaitPolicy {
        match self {
            Patience::Wait { left_nanos } => WaitPolicy::Wait {
                deadline_nanos: left_nanos.map(|left| now_nanos.saturating_add(left)),
            },
            Patience::NoWait => WaitPolicy::NoWait,
            Patience::SkipLocked => WaitPolicy::SkipLocked,
        }
    }
}

/// A call of [`crate::shard_server::ShardServer`]. The gateway is the node that sends it.
#[derive(Debug)]
pub enum Request {
    ReadTimestamp {
        shards: Vec<(ShardId, u64)>,
    },
    Get {
        shard: ShardId,
        key: Key,
        at: Timestamp,
    },
    NewestVersion {
        shard: ShardId,
        key: Key,
    },
    Scan {
        shard: ShardId,
        request: ScanRequest,
    },
    Lock {
        /// Names this request among those of its gateway: see [`Notice::Leave`].
        call: u64,
        shard: ShardId,
        txn: TxnId,
        key: Key,
        mode: LockMode,
        patience: Patience,
    },
    LockFresh {
        shard: ShardId,
        txn: TxnId,
        keys: Arc<[Key]>,
    },
    StillLocked {
        shard: ShardId,
        txn: TxnId,
        lease: LeaseId,
    },
    Commit {
        shard: ShardId,
        request: CommitRequest,
        locked_under: Option<LeaseId>,
        /// How many pieces of it were staged before: their writes come before those of `request`.
        staged: u64,
    },
    /// A piece of a commit that is too large for one request: kept until the commit comes.
    Stage {
        shard: ShardId,
        txn: TxnId,
        /// Counts the pieces from 0; the first one takes the place of all that was staged before.
        number: u64,
        writes: Vec<(Key, Option<Value>)>,
    },
    RollCall {
        live: Vec<TxnId>,
    },
    Open {
        /// As in [`Request::Lock`].
        call: u64,
        request: OpenRequest,
        patience: Patience,
    },
}

/// What needs no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Unlock {
        shard: ShardId,
        txn: TxnId,
        keys: Vec<Key>,
    },
    UnlockAll {
        txn: TxnId,
    },
    /// Nobody waits any more for what this [`Request::Lock`] or [`Request::Open`] asked for.
    Leave {
        call: u64,
    },
}

/// `now`: the asker's hybrid logical time.
pub fn encode_request(now: Timestamp, request: &Request) -> Bytes {
    let mut out = Vec::with_capacity(room(request));
    out.push(kind(request));
    put_timestamp(&mut out, now);
    put_request(&mut out, request);
    out.into()
}

/// Keys and values share the frame's memory. `None`: malformed.
pub fn decode_request(frame: Bytes) -> Option<(Timestamp, Request)> {
    let mut reader = Reader::new(frame);
    let kind = reader.u8()?;
    let now = timestamp(&mut reader)?;
    let request = read_request(&mut reader, kind)?;
    (reader.left() == 0).then_some((now, request))
}

fn kind(request: &Request) -> u8 {
    match request {
        Request::ReadTimestamp { .. } => READ_TIMESTAMP,
        Request::Get { .. } => GET,
        Request::NewestVersion { .. } => NEWEST_VERSION,
        Request::Scan { .. } => SCAN,
        Request::Lock { .. } => LOCK,
        Request::LockFresh { .. } => LOCK_FRESH,
        Request::StillLocked { .. } => STILL_LOCKED,
        Request::Commit { staged: 0, .. } => COMMIT,
        Request::Commit { .. } => COMMIT_STAGED,
        Request::Stage { .. } => STAGE,
        Request::RollCall { .. } => ROLL_CALL,
        Request::Open { .. } => OPEN,
    }
}

/// About how many bytes the frame takes, so that a large one is not copied while it grows.
fn room(request: &Request) -> usize {
    let keys = |keys: &[Key]| keys.iter().map(|key| key.len() + 4).sum();
    let written = |writes: &[(Key, Option<Value>)]| {
        let bytes = |(key, value): &(Key, Option<Value>)| {
            key.len() + value.as_ref().map_or(0, Bytes::len) + 8
        };
        writes.iter().map(bytes).sum()
    };
    let variable: usize = match request {
        Request::Commit { request, .. } => written(&request.writes),
        Request::Stage { writes, .. } => written(writes),
        Request::LockFresh { keys: fresh, .. } => keys(fresh),
        Request::RollCall { live } => live.len() * 16,
        Request::Get { key, .. } | Request::Lock { key, .. } => key.len(),
        _ => 0,
    };
    variable + 64
}

fn put_request(out: &mut Vec<u8>, request: &Request) {
    match request {
        Request::ReadTimestamp { shards } => put_named(out, shards),
        Request::Get { shard, key, at } => {
            put_varint(out, shard.0);
            put_bytes(out, key);
            put_timestamp(out, *at);
        }
        Request::NewestVersion { shard, key } => {
            put_varint(out, shard.0);
            put_bytes(out, key);
        }
        Request::Scan { shard, request } => {
            put_varint(out, shard.0);
            put_scan(out, request);
        }
        Request::Lock {
            call,
            shard,
            txn,
            key,
            mode,
            patience,
        } => {
            put_varint(out, *call);
            put_varint(out, shard.0);
            put_txn(out, *txn);
            put_bytes(out, key);
            put_mode(out, *mode);
            put_patience(out, *patience);
        }
        Request::LockFresh { shard, txn, keys } => {
            put_varint(out, shard.0);
            put_txn(out, *txn);
            put_keys(out, keys);
        }
        Request::StillLocked { shard, txn, lease } => {
            put_varint(out, shard.0);
            put_txn(out, *txn);
            put_lease(out, *lease);
        }
        Request::Commit {
            shard,
            request,
            locked_under,
            staged,
        } => {
            put_varint(out, shard.0);
            put_commit(out, request);
            put_option(out, *locked_under, put_lease);
            if *staged > 0 {
                put_varint(out, *staged);
            }
        }
        Request::Stage {
            shard,
            txn,
            number,
            writes,
        } => {
            put_varint(out, shard.0);
            put_txn(out, *txn);
            put_varint(out, *number);
            put_writes(out, writes);
        }
        Request::RollCall { live } => {
            put_varint(out, live.len() as u64);
            for txn in live {
                put_txn(out, *txn);
            }
        }
        Request::Open {
            call,
            request,
            patience,
        } => {
            put_varint(out, *call);
            put_open(out, request);
            put_patience(out, *patience);
        }
    }
}

fn read_request(reader: &mut Reader, kind: u8) -> Option<Request> {
    Some(match kind {
        READ_TIMESTAMP => Request::ReadTimestamp {
            shards: named(reader)?,
        },
        GET => Request::Get {
            shard: shard(reader)?,
            key: reader.bytes()?,
            at: timestamp(reader)?,
        },
        NEWEST_VERSION => Request::NewestVersion {
            shard: shard(reader)?,
            key: reader.bytes()?,
        },
        SCAN => Request::Scan {
            shard: shard(reader)?,
            request: scan(reader)?,
        },
        LOCK => Request::Lock {
            call: reader.varint()?,
            shard: shard(reader)?,
            txn: txn(reader)?,
            key: reader.bytes()?,
            mode: mode(reader)?,
            patience: patience(reader)?,
        },
        LOCK_FRESH => Request::LockFresh {
            shard: shard(reader)?,
            txn: txn(reader)?,
            keys: keys(reader)?.into(),
        },
        STILL_LOCKED => Request::StillLocked {
            shard: shard(reader)?,
            txn: txn(reader)?,
            lease: lease(reader)?,
        },
        COMMIT | COMMIT_STAGED => Request::Commit {
            shard: shard(reader)?,
            request: commit(reader)?,
            locked_under: option(reader, lease)?,
            staged: match kind {
                COMMIT_STAGED => reader.varint().filter(|staged| *staged > 0)?,
                _ => 0,
            },
        },
        STAGE => Request::Stage {
            shard: shard(reader)?,
            txn: txn(reader)?,
            number: reader.varint()?,
            writes: writes(reader)?,
        },
        ROLL_CALL => Request::RollCall {
            live: list(reader, 16, txn)?,
        },
        OPEN => Request::Open {
            call: reader.varint()?,
            request: open(reader)?,
            patience: patience(reader)?,
        },
        _ => return None,
    })
}

pub fn encode_notice(notice: &Notice) -> Bytes {
    let mut out = Vec::with_capacity(32);
    match notice {
        Notice::Unlock { shard, txn, keys } => {
            out.push(UNLOCK);
            put_varint(&mut out, shard.0);
            put_txn(&mut out, *txn);
            put_keys(&mut out, keys);
        }
        Notice::UnlockAll { txn } => {
            out.push(UNLOCK_ALL);
            put_txn(&mut out, *txn);
        }
        Notice::Leave { call } => {
            out.push(LEAVE);
            put_varint(&mut out, *call);
        }
    }
    out.into()
}

/// `None`: malformed.
pub fn decode_notice(frame: Bytes) -> Option<Notice> {
    let mut reader = Reader::new(frame);
    let notice = match reader.u8()? {
        UNLOCK => Notice::Unlock {
            shard: shard(&mut reader)?,
            txn: txn(&mut reader)?,
            keys: keys(&mut reader)?,
        },
        UNLOCK_ALL => Notice::UnlockAll {
            txn: txn(&mut reader)?,
        },
        LEAVE => Notice::Leave {
            call: reader.varint()?,
        },
        _ => return None,
    };
    (reader.left() == 0).then_some(notice)
}

fn put_named(out: &mut Vec<u8>, shards: &[(ShardId, u64)]) {
    put_varint(out, shards.len() as u64);
    for (shard, generation) in shards {
        put_varint(out, shard.0);
        put_varint(out, *generation);
    }
}

fn named(reader: &mut Reader) -> Option<Vec<(ShardId, u64)>> {
    list(reader, 2, |reader| Some((shard(reader)?, reader.varint()?)))
}

fn put_open(out: &mut Vec<u8>, request: &OpenRequest) {
    put_txn(out, request.txn);
    put_varint(out, request.tables.len() as u64);
    for (shard, key) in &request.tables {
        put_varint(out, shard.0);
        put_bytes(out, key);
    }
    put_option(out, request.snapshot.as_deref(), put_named);
    put_option(out, request.point.as_ref(), |out, (shard, key, lock)| {
        put_varint(out, shard.0);
        put_bytes(out, key);
        put_option(out, *lock, put_mode);
    });
}

fn open(reader: &mut Reader) -> Option<OpenRequest> {
    Some(OpenRequest {
        txn: txn(reader)?,
        tables: list(reader, 2, |reader| Some((shard(reader)?, reader.bytes()?)))?,
        snapshot: option(reader, named)?,
        point: option(reader, |reader| {
            Some((shard(reader)?, reader.bytes()?, option(reader, mode)?))
        })?,
    })
}

fn put_scan(out: &mut Vec<u8>, request: &ScanRequest) {
    put_span(out, &request.span);
    put_timestamp(out, request.at);
    out.push(u8::from(request.reverse));
    put_varint(out, request.limit as u64);
    put_varint(out, request.limit_bytes as u64);
}

fn scan(reader: &mut Reader) -> Option<ScanRequest> {
    Some(ScanRequest {
        span: span(reader)?,
        at: timestamp(reader)?,
        reverse: flag(reader)?,
        limit: size(reader)?,
        limit_bytes: size(reader)?,
    })
}

fn put_commit(out: &mut Vec<u8>, request: &CommitRequest) {
    put_txn(out, request.txn);
    put_timestamp(out, request.read_at);
    put_varint(out, request.read_spans.len() as u64);
    for span in &request.read_spans {
        put_span(out, span);
    }
    put_writes(out, &request.writes);
}

fn put_writes(out: &mut Vec<u8>, writes: &[(Key, Option<Value>)]) {
    put_varint(out, writes.len() as u64);
    for (key, value) in writes {
        put_bytes(out, key);
        put_option(out, value.as_deref(), put_value);
    }
}

fn put_value(out: &mut Vec<u8>, value: &[u8]) {
    put_bytes(out, value);
}

fn commit(reader: &mut Reader) -> Option<CommitRequest> {
    Some(CommitRequest {
        txn: txn(reader)?,
        read_at: timestamp(reader)?,
        read_spans: list(reader, 2, span)?,
        writes: writes(reader)?,
    })
}

fn writes(reader: &mut Reader) -> Option<Vec<(Key, Option<Value>)>> {
    list(reader, 2, |reader| {
        Some((reader.bytes()?, option(reader, Reader::bytes)?))
    })
}

fn put_mode(out: &mut Vec<u8>, mode: LockMode) {
    out.push(match mode {
        LockMode::KeyShare => 0,
        LockMode::Share => 1,
        LockMode::NoKeyUpdate => 2,
        LockMode::Update => 3,
    });
}

fn mode(reader: &mut Reader) -> Option<LockMode> {
    MODES.get(usize::from(reader.u8()?)).copied()
}

fn put_patience(out: &mut Vec<u8>, patience: Patience) {
    match patience {
        Patience::Wait { left_nanos: None } => out.push(0),
        Patience::Wait {
            left_nanos: Some(left),
        } => {
            out.push(1);
            put_varint(out, left);
        }
        Patience::NoWait => out.push(2),
        Patience::SkipLocked => out.push(3),
    }
}

fn patience(reader: &mut Reader) -> Option<Patience> {
    Some(match reader.u8()? {
        0 => Patience::Wait { left_nanos: None },
        1 => Patience::Wait {
            left_nanos: Some(reader.varint()?),
        },
        2 => Patience::NoWait,
        3 => Patience::SkipLocked,
        _ => return None,
    })
}

pub(super) fn put_lease(out: &mut Vec<u8>, lease: LeaseId) {
    put_varint(out, lease.term);
    put_varint(out, lease.confirmed);
}

pub(super) fn lease(reader: &mut Reader) -> Option<LeaseId> {
    Some(LeaseId {
        term: reader.varint()?,
        confirmed: reader.varint()?,
    })
}
