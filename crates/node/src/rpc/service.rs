//! The answering end: requests of other nodes' gateways, carried out on this node's store.
//!
//! # Gateways that go away
//! A request for locks may wait for long. It ends early when its gateway says that nobody waits for it any more
//! ([`Notice::Leave`]), or when the connection to the gateway breaks ([`Service::connected`]).
//!
//! A release that is lost on the way would leave a lock behind for ever. So the service remembers which
//! transactions of which gateway hold locks here, and each gateway calls the roll of its live ones now and
//! then ([`Request::RollCall`], one at a time). A transaction that was here at one roll call already, and
//! is not named in the next, has ended: its gateway had noted it before it asked for its first lock, that was
//! before the first roll call was answered, and the second list was written after that.
//! A transaction whose commit has arrived is the shard's, and not remembered any longer.
//!
//! A gateway that stays out of reach for [`EXPEL_AFTER`] may be dead: the locks of its transactions are released
//! ([`Service::expel`]). If it is not, and comes back, those have lost what they stand on: whatever needs their locks is
//! refused.
//!
//! Pieces of commits ([`Request::Stage`]) are dropped when the connection to their gateway breaks, when the
//! transaction ends, and when a piece finds that the lease has gone: see `staged`.

use super::ANSWER_BYTES;
use super::opening;
use super::staged::{Staging, out_of_order};
use super::wire::{
    Notice, Outcome, Request, Response, Stamp, decode_notice, decode_request, encode_answer,
};
use crate::node_clock::NodeClock;
use crate::shard_server::{Answer, Failure, ShardServer};
use bytes::Bytes;
use futures::future::{AbortHandle, Abortable};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use sharding::ShardId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use txn::kv::{Key, ScanRequest, TxnId, Value};
use types::env::{BoxFuture, Clock};
use types::{Error, MaybeReady, SqlState, StoreId};

/// Rows of a page that is sent: what they cost beside keys and values (18 bytes each) stays below a
/// quarter of [`ANSWER_BYTES`].
const PAGE_ROWS: usize = 100_000;
/// Bytes of keys and values of a page that is sent.
const PAGE_BYTES: usize = ANSWER_BYTES - ANSWER_BYTES / 4;

/// How long a gateway may be out of reach before its sessions' locks are released: as long as a node may be silent
/// before others take its leases over.
pub const EXPEL_AFTER: Duration = Duration::from_secs(1);

/// See the module. One per node.
pub struct Service {
    shards: Arc<dyn ShardServer>,
    node: Arc<NodeClock>,
    clock: Arc<dyn Clock>,
    gateways: Mutex<BTreeMap<StoreId, Gateway>>,
    staging: Mutex<Staging>,
}

/// What another node's sessions have here.
#[derive(Default)]
struct Gateway {
    /// Lock requests that wait, by their names.
    waiting: FxHashMap<u64, AbortHandle>,
    /// Transactions that may hold locks; `true`: since before the last roll call.
    holding: FxHashMap<TxnId, bool>,
    /// The last of its transactions that has asked for a lock.
    newest: Option<TxnId>,
    /// That one when their locks were released.
    expelled: Option<TxnId>,
    connected: bool,
    /// How often the connection has broken.
    breaks: u64,
}

impl Gateway {
    /// It may hold locks from now on. `false`: those that it had were released.
    fn remember(&mut self, txn: TxnId) -> bool {
        if self.has_expelled(txn) {
            return false;
        }
        self.holding.entry(txn).or_insert(false);
        if self.newest.is_none_or(|newest| !is_followed(txn, newest)) {
            self.newest = Some(txn);
        }
        true
    }

    /// Whether the locks of the transaction were released, as far as it had any.
    fn has_expelled(&self, txn: TxnId) -> bool {
        self.expelled.is_some_and(|last| is_followed(txn, last))
    }
}

/// Whether a transaction is another one, or began before it in the same process, which numbers its own.
fn is_followed(txn: TxnId, by: TxnId) -> bool {
    let process = |txn: TxnId| txn.0 >> 64;
    process(txn) == process(by) && txn <= by
}

impl Service {
    /// `clock`: the one that `shards` takes deadlines in.
    pub fn new(
        shards: Arc<dyn ShardServer>,
        node: Arc<NodeClock>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Service {
            shards,
            node,
            clock,
            gateways: Mutex::default(),
            staging: Mutex::default(),
        })
    }

    /// Answers a call of [`super::Part::Kv`], for [`types::env::Peer::call`]. Who may wait has
    /// its place when this returns, so that it can be left.
    pub fn call(self: &Arc<Self>, from: Option<StoreId>, frame: Bytes) -> BoxFuture<Bytes> {
        let (Some(from), Some((now, request))) = (from, decode_request(frame)) else {
            return Box::pin(std::future::ready(self.answer(&Err(malformed()))));
        };
        self.node.observe(now);
        let service = Arc::clone(self);
        if matches!(request, Request::Lock { .. } | Request::Open { .. }) {
            let outcome = service.carry_out(from, request);
            return Box::pin(async move { service.answer(&outcome.await) });
        }
        Box::pin(async move {
            let outcome = service.carry_out(from, request).await;
            service.answer(&outcome)
        })
    }

    /// Takes in a message of [`super::Part::Kv`], for [`types::env::Peer::message`]. What it does not understand, it
    /// passes over.
    pub fn message(&self, from: StoreId, frame: Bytes) {
        match decode_notice(frame) {
            Some(Notice::Unlock { shard, txn, keys }) => self.shards.unlock(shard, txn, &keys),
            Some(Notice::UnlockAll { txn }) => {
                self.forget(from, txn);
                self.staging.lock().drop_pieces(from, txn);
                self.shards.unlock_all(txn);
            }
            Some(Notice::Leave { call }) => self.leave(from, call),
            None => tracing::warn!(store = %from, "a store sent a message that is none"),
        }
    }

    /// For [`types::env::Peer::connected`]: the requests of a gateway that is out of reach wait for
    /// nobody. Its locks stay for a while: its sessions may be well, and come back. Returns how often the connection
    /// has broken, for [`Service::expel`].
    pub fn connected(&self, peer: StoreId, connected: bool) -> u64 {
        let mut gateways = self.gateways.lock();
        let gateway = gateways.entry(peer).or_default();
        gateway.connected = connected;
        if connected {
            return gateway.breaks;
        }
        gateway.breaks += 1;
        let breaks = gateway.breaks;
        let waiting = std::mem::take(&mut gateway.waiting);
        drop(gateways);
        self.staging.lock().drop_gateway(peer);
        for handle in waiting.values() {
            handle.abort();
        }
        breaks
    }

    /// Releases what the sessions of a gateway have here that has not come back since its connection broke the
    /// `breaks`th time.
    pub fn expel(&self, peer: StoreId, breaks: u64) {
        let mut ended: Vec<TxnId> = {
            let mut gateways = self.gateways.lock();
            let gateway = gateways.get_mut(&peer);
            let Some(gateway) = gateway.filter(|it| !it.connected && it.breaks == breaks) else {
                return;
            };
            gateway.expelled = gateway.newest;
            std::mem::take(&mut gateway.holding).into_keys().collect()
        };
        ended.sort_unstable();
        for txn in ended {
            self.shards.unlock_all(txn);
        }
    }

    #[cfg(test)]
    pub(crate) fn staged_bytes(&self) -> usize {
        self.staging.lock().bytes()
    }

    #[cfg(test)]
    pub(crate) fn node(&self) -> &NodeClock {
        &self.node
    }

    fn answer(&self, outcome: &Outcome) -> Bytes {
        // The clock first: nothing that it gave before was taken back since.
        let stamp = Stamp {
            now: self.node.now(),
            catalog_changed: self.node.catalog_changed(),
        };
        encode_answer(stamp, outcome)
    }

    fn carry_out(self: &Arc<Self>, from: StoreId, request: Request) -> MaybeReady<Outcome> {
        let shards = &*self.shards;
        match request {
            Request::ReadTimestamp { shards: of } => {
                shards.asked_by(from, &of);
                respond(shards.read_timestamp(&of), Response::Timestamp)
            }
            Request::Get { shard, key, at } => {
                respond(shards.get(shard, &key, at), Response::Version)
            }
            Request::NewestVersion { shard, key } => {
                respond(shards.newest_version(shard, &key), Response::Newest)
            }
            Request::Scan { shard, request } => {
                let request = ScanRequest {
                    limit: request.limit.min(PAGE_ROWS),
                    limit_bytes: request.limit_bytes.min(PAGE_BYTES),
                    ..request
                };
                respond(shards.scan(shard, request), Response::Page)
            }
            Request::Lock {
                call,
                shard,
                txn,
                key,
                mode,
                patience,
            } => {
                if !self.remember(from, txn) {
                    return expelled();
                }
                let policy = patience.policy(self.clock.monotonic_nanos());
                let answer = shards.lock(shard, from, txn, &key, mode, policy);
                self.wait(from, call, respond(answer, Response::Granted))
            }
            Request::LockFresh { shard, txn, keys } => {
                if !self.remember(from, txn) {
                    return expelled();
                }
                respond(
                    shards.lock_fresh(shard, from, txn, &keys),
                    Response::Granted,
                )
            }
            Request::StillLocked { shard, txn, lease } => {
                if self.has_expelled(from, txn) {
                    return expelled();
                }
                respond(shards.still_locked(shard, txn, lease), Response::Confirmed)
            }
            Request::Commit {
                shard,
                mut request,
                locked_under,
                staged,
            } => {
                let stand = self.forget(from, request.txn);
                if locked_under.is_some() && !stand {
                    return expelled();
                }
                if staged > 0 {
                    let pieces = self.staging.lock().take(from, request.txn, staged);
                    let Some(mut writes) = pieces else {
                        shards.unlock_all(request.txn);
                        return MaybeReady::ready(Err(out_of_order().into()));
                    };
                    writes.append(&mut request.writes);
                    request.writes = writes;
                }
                let txn = request.txn;
                let answer = shards.commit(shard, from, request, locked_under);
                let service = Arc::clone(self);
                respond(answer, Response::Committed).map(move |outcome| {
                    if let Err(Failure::Refused(_)) = &outcome {
                        // Nothing was done. Its locks are here yet, and its gateway may never say that it has ended.
                        if !service.remember(from, txn) {
                            service.shards.unlock_all(txn);
                        }
                    }
                    outcome
                })
            }
            Request::Stage {
                shard,
                txn,
                number,
                writes,
            } => self.stage(from, shard, txn, number, writes),
            Request::Open {
                call,
                request,
                patience,
            } => {
                let locks_row = matches!(request.point, Some((_, _, Some(_))));
                if locks_row || !request.tables.is_empty() {
                    if !self.remember(from, request.txn) {
                        return expelled();
                    }
                } else if let Some(of) = &request.snapshot {
                    shards.asked_by(from, of);
                }
                let policy = patience.policy(self.clock.monotonic_nanos());
                let opening = opening::open(Arc::clone(&self.shards), from, request, policy);
                self.wait(from, call, MaybeReady::pending(opening))
            }
            Request::RollCall { live } => {
                self.roll_call(from, live);
                MaybeReady::ready(Ok(Response::Done))
            }
        }
    }

    /// Keeps a piece of a commit, if this store could commit it now.
    fn stage(
        self: &Arc<Self>,
        from: StoreId,
        shard: ShardId,
        txn: TxnId,
        number: u64,
        writes: Vec<(Key, Option<Value>)>,
    ) -> MaybeReady<Outcome> {
        let Some(first) = writes.first().map(|(key, _)| key.clone()) else {
            return MaybeReady::ready(Err(malformed()));
        };
        let now = self.clock.monotonic_nanos();
        let added = self.staging.lock().add(from, txn, number, writes, now);
        if let Err(error) = added {
            return MaybeReady::ready(Err(error.into()));
        }
        let service = Arc::clone(self);
        // It is the lease holder's answer that counts, whatever it is.
        let asked = self.shards.newest_version(shard, &first);
        asked.map(move |answer| match answer {
            Ok(_) => Ok(Response::Done),
            Err(failure) => {
                service.staging.lock().drop_pieces(from, txn);
                Err(failure)
            }
        })
    }

    /// An outcome that its gateway may give up.
    fn wait(
        self: &Arc<Self>,
        from: StoreId,
        call: u64,
        outcome: MaybeReady<Outcome>,
    ) -> MaybeReady<Outcome> {
        let MaybeReady::Pending(outcome) = outcome else {
            return outcome;
        };
        let (handle, registration) = AbortHandle::new_pair();
        let mut gateways = self.gateways.lock();
        let waiting = &mut gateways.entry(from).or_default().waiting;
        waiting.insert(call, handle.clone());
        drop(gateways);
        let place = Place {
            service: Arc::clone(self),
            from,
            call,
            handle,
        };
        let outcome = Abortable::new(outcome, registration);
        MaybeReady::pending(async move {
            let outcome = outcome.await.unwrap_or_else(|_| Err(given_up()));
            drop(place);
            outcome
        })
    }

    fn leave(&self, from: StoreId, call: u64) {
        if let Some(gateway) = self.gateways.lock().get_mut(&from)
            && let Some(handle) = gateway.waiting.remove(&call)
        {
            handle.abort();
        }
    }

    /// See [`Gateway::remember`].
    fn remember(&self, from: StoreId, txn: TxnId) -> bool {
        let mut gateways = self.gateways.lock();
        gateways.entry(from).or_default().remember(txn)
    }

    /// Its locks are somebody else's care from now on. `false`: they were released.
    fn forget(&self, from: StoreId, txn: TxnId) -> bool {
        let mut gateways = self.gateways.lock();
        gateways.get_mut(&from).is_none_or(|gateway| {
            gateway.holding.remove(&txn);
            !gateway.has_expelled(txn)
        })
    }

    fn has_expelled(&self, from: StoreId, txn: TxnId) -> bool {
        let gateways = self.gateways.lock();
        let gateway = gateways.get(&from);
        gateway.is_some_and(|gateway| gateway.has_expelled(txn))
    }

    fn roll_call(&self, from: StoreId, live: Vec<TxnId>) {
        let live: FxHashSet<TxnId> = live.into_iter().collect();
        let mut ended = Vec::new();
        if let Some(gateway) = self.gateways.lock().get_mut(&from) {
            gateway.holding.retain(|txn, seen| {
                let stays = !*seen || live.contains(txn);
                if !stays {
                    ended.push(*txn);
                }
                *seen = true;
                stays
            });
        }
        ended.sort_unstable();
        for txn in ended {
            self.shards.unlock_all(txn);
        }
    }
}

/// A waiting request's entry, removed when its call is over, however it ends.
struct Place {
    service: Arc<Service>,
    from: StoreId,
    call: u64,
    handle: AbortHandle,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whoever aborts has removed it, and a gateway that came back may use the name again.
        if !self.handle.is_aborted()
            && let Some(gateway) = self.service.gateways.lock().get_mut(&self.from)
        {
            gateway.waiting.remove(&self.call);
        }
    }
}

fn expelled() -> MaybeReady<Outcome> {
    let error = Error::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access because the node was out of reach, and its locks were released",
    );
    let error = error.hint("The transaction might succeed if retried.");
    MaybeReady::ready(Err(error.into()))
}

fn respond<T: 'static>(answer: Answer<T>, response: fn(T) -> Response) -> MaybeReady<Outcome> {
    answer.map(move |result| result.map(response))
}

fn malformed() -> Failure {
    Failure::Failed(Error::new(
        SqlState::PROTOCOL_VIOLATION,
        "a node does not understand what another one asks",
    ))
}

/// Nobody reads it.
fn given_up() -> Failure {
    Failure::Failed(Error::new(
        SqlState::QUERY_CANCELED,
        "the request was given up",
    ))
}
