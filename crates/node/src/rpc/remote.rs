//! Another node's store, asked over the network.

use super::REQUEST_BYTES;
use super::staged::pieces;
use super::wire::{
    Notice, Patience, Request, Response, decode_answer, encode_notice, encode_request,
};
use crate::node_clock::NodeClock;
use crate::shard_server::{
    Answer, Failure, Granted, LeaseId, OpenAnswer, OpenRequest, ShardServer,
};
use bytes::Bytes;
use sharding::ShardId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use txn::kv::{
    CommitRequest, Committed, Key, LockMode, ScanPage, ScanRequest, TxnId, Value, WaitPolicy,
};
use types::env::{BoxFuture, CallError, Clock, Transport};
use types::{Error, MaybeReady, SqlState, StoreId, Timestamp};

/// See the module. One per peer.
///
/// A question that the peer never saw fails with [`Failure::Unreachable`]`(false)`, one whose answer was lost
/// with `true`. Releases of locks, and the leaving of queues, are messages without answer: one that is lost is
/// made up for by the next [`ShardServer::roll_call`].
pub struct RemoteShards {
    link: Arc<Link>,
    clock: Arc<dyn Clock>,
    /// Names of lock requests.
    calls: AtomicU64,
}

struct Link {
    transport: Arc<dyn Transport>,
    to: StoreId,
    node: Arc<NodeClock>,
}

impl RemoteShards {
    /// `clock`: the one that deadlines are in.
    pub fn new(
        transport: Arc<dyn Transport>,
        to: StoreId,
        node: Arc<NodeClock>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        RemoteShards {
            link: Arc::new(Link {
                transport,
                to,
                node,
            }),
            clock,
            calls: AtomicU64::new(1),
        }
    }

    /// `take`: the kind of response that answers this kind of request.
    fn ask<T: 'static>(&self, request: &Request, take: fn(Response) -> Option<T>) -> Answer<T> {
        self.ask_in_place(request, take, None)
    }

    fn ask_in_place<T: 'static>(
        &self,
        request: &Request,
        take: fn(Response) -> Option<T>,
        place: Option<Place>,
    ) -> Answer<T> {
        let call = match self.link.call(request) {
            Ok(call) => call,
            Err(failure) => return MaybeReady::ready(Err(failure)),
        };
        let link = Arc::clone(&self.link);
        MaybeReady::pending(async move {
            let answer = call.await;
            if let Some(place) = place {
                place.left();
            }
            link.take(answer?, take)
        })
    }

    /// For a request that may wait.
    fn place(&self) -> Place {
        Place {
            link: Arc::clone(&self.link),
            call: self.calls.fetch_add(1, Ordering::Relaxed),
            waiting: true,
        }
    }

    fn tell(&self, notice: &Notice) {
        let frame = encode_notice(notice);
        self.link.transport.send(self.link.to, frame);
    }
}

impl Link {
    fn call(&self, request: &Request) -> Result<Call, Failure> {
        let frame = encode_request(self.node.now(), request);
        if frame.len() > REQUEST_BYTES {
            return Err(Failure::Failed(too_large(frame.len())));
        }
        Ok(self.transport.call(self.to, frame))
    }

    /// All pieces of a commit but the last, one after the other. Nothing is committed by them.
    async fn stage(
        &self,
        shard: ShardId,
        txn: TxnId,
        pieces: Vec<Vec<(Key, Option<Value>)>>,
    ) -> Result<(), Failure> {
        for (number, writes) in (0..).zip(pieces) {
            let piece = Request::Stage {
                shard,
                txn,
                number,
                writes,
            };
            let answer = self.call(&piece)?.await;
            let answer = answer.map_err(|_| Failure::Unreachable(false))?;
            let staged = self.take(answer, done);
            staged.map_err(|failure| match failure {
                Failure::Unreachable(_) => Failure::Unreachable(false),
                failure => failure,
            })?;
        }
        Ok(())
    }

    fn take<T>(&self, answer: Bytes, take: fn(Response) -> Option<T>) -> Result<T, Failure> {
        let Some((stamp, outcome)) = decode_answer(answer) else {
            return Err(self.not_understood());
        };
        self.node.observe(stamp.now);
        self.node.catalog_changes_at(stamp.catalog_changed);
        take(outcome?).ok_or_else(|| self.not_understood())
    }

    /// What was asked may be done all the same.
    fn not_understood(&self) -> Failure {
        tracing::warn!(store = %self.to, "a store's answer is not one to what it was asked");
        Failure::Unreachable(true)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Failure::Unreachable(match error {
            CallError::Unsent(_) => false,
            CallError::Broken(_) => true,
        })
    }
}

/// An answer on its way.
type Call = BoxFuture<Result<Bytes, CallError>>;

fn done(response: Response) -> Option<()> {
    match response {
        Response::Done => Some(()),
        _ => None,
    }
}

fn committed(response: Response) -> Option<Committed> {
    match response {
        Response::Committed(committed) => Some(committed),
        _ => None,
    }
}

fn too_large(bytes: usize) -> Error {
    Error::new(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        "the request is too large to be sent to another node",
    )
    .detail(format!(
        "It has {bytes} bytes, the limit is {REQUEST_BYTES} bytes."
    ))
    .hint("Write smaller rows, or connect to the node that holds the shard's lease.")
}

/// A place in a lock's queue at the other end, left when dropped before there was an answer.
struct Place {
    link: Arc<Link>,
    call: u64,
    waiting: bool,
}

impl Place {
    fn left(mut self) {
        self.waiting = false;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.waiting {
            let notice = encode_notice(&Notice::Leave { call: self.call });
            self.link.transport.send(self.link.to, notice);
        }
    }
}

impl ShardServer for RemoteShards {
    fn read_timestamp(&self, shards: &[(ShardId, u64)]) -> Answer<Timestamp> {
        let request = Request::ReadTimestamp {
            shards: shards.to_vec(),
        };
        self.ask(&request, |response| match response {
            Response::Timestamp(at) => Some(at),
            _ => None,
        })
    }

    fn get(&self, shard: ShardId, key: &[u8], at: Timestamp) -> Answer<Option<(Value, Timestamp)>> {
        let key = Key::copy_from_slice(key);
        self.ask(
            &Request::Get { shard, key, at },
            |response| match response {
                Response::Version(version) => Some(version),
                _ => None,
            },
        )
    }

    fn newest_version(&self, shard: ShardId, key: &[u8]) -> Answer<Option<Timestamp>> {
        let key = Key::copy_from_slice(key);
        let request = Request::NewestVersion { shard, key };
        self.ask(&request, |response| match response {
            Response::Newest(at) => Some(at),
            _ => None,
        })
    }

    fn scan(&self, shard: ShardId, request: ScanRequest) -> Answer<ScanPage> {
        let request = Request::Scan { shard, request };
        self.ask(&request, |response| match response {
            Response::Page(page) => Some(page),
            _ => None,
        })
    }

    fn lock(
        &self,
        shard: ShardId,
        _gateway: StoreId,
        txn: TxnId,
        key: &[u8],
        mode: LockMode,
        policy: WaitPolicy,
    ) -> Answer<Granted> {
        let place = self.place();
        let request = Request::Lock {
            call: place.call,
            shard,
            txn,
            key: Key::copy_from_slice(key),
            mode,
            patience: Patience::of(policy, self.clock.monotonic_nanos()),
        };
        self.ask_in_place(&request, granted, Some(place))
    }

    fn lock_fresh(
        &self,
        shard: ShardId,
        _gateway: StoreId,
        txn: TxnId,
        keys: &Arc<[Key]>,
    ) -> Answer<Granted> {
        let keys = Arc::clone(keys);
        self.ask(&Request::LockFresh { shard, txn, keys }, granted)
    }

    fn open(&self, request: &OpenRequest, policy: WaitPolicy) -> Option<Answer<OpenAnswer>> {
        let place = self.place();
        let request = Request::Open {
            call: place.call,
            request: request.clone(),
            patience: Patience::of(policy, self.clock.monotonic_nanos()),
        };
        let take = |response| match response {
            Response::Opened(answer) => Some(answer),
            _ => None,
        };
        Some(self.ask_in_place(&request, take, Some(place)))
    }

    fn unlock(&self, shard: ShardId, txn: TxnId, keys: &[Key]) {
        let keys = keys.to_vec();
        self.tell(&Notice::Unlock { shard, txn, keys });
    }

    fn unlock_all(&self, txn: TxnId) {
        self.tell(&Notice::UnlockAll { txn });
    }

    fn still_locked(&self, shard: ShardId, txn: TxnId, lease: LeaseId) -> Answer<bool> {
        let request = Request::StillLocked { shard, txn, lease };
        self.ask(&request, |response| match response {
            Response::Confirmed(confirmed) => Some(confirmed),
            _ => None,
        })
    }

    fn roll_call(&self, _gateway: StoreId, live: &[TxnId]) -> Answer<()> {
        let live = live.to_vec();
        self.ask(&Request::RollCall { live }, done)
    }

    fn commit(
        &self,
        shard: ShardId,
        _gateway: StoreId,
        request: CommitRequest,
        locked_under: Option<LeaseId>,
    ) -> Answer<Committed> {
        let (txn, mut request) = (request.txn, request);
        let mut pieces = pieces(std::mem::take(&mut request.writes));
        request.writes = pieces.pop().unwrap_or_default();
        let request = Request::Commit {
            shard,
            request,
            locked_under,
            staged: pieces.len() as u64,
        };
        if pieces.is_empty() {
            return self.ask(&request, committed);
        }
        let link = Arc::clone(&self.link);
        MaybeReady::pending(async move {
            if let Err(failure) = link.stage(shard, txn, pieces).await {
                // What was staged may go. Its locks go with it: they would be released next.
                let notice = encode_notice(&Notice::UnlockAll { txn });
                link.transport.send(link.to, notice);
                return Err(failure);
            }
            let answer = link.call(&request)?.await;
            link.take(answer?, committed)
        })
    }
}

fn granted(response: Response) -> Option<Granted> {
    match response {
        Response::Granted(granted) => Some(granted),
        _ => None,
    }
}
