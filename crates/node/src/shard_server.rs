//! What a store answers for the shards whose leases it holds.
//!
//! [`ShardServer`] is implemented twice: by the store itself, where most answers are ready at once, and over
//! the network for every other store. The gateway ([`txn::kv::Shards`]) picks the one to ask and follows what
//! a [`Refusal`] teaches.

use sharding::{ShardDescriptor, ShardId};
use std::sync::Arc;
use txn::kv::{
    Changes, CommitRequest, Committed, Key, LockMode, Opened, ScanPage, ScanRequest, Span, TxnId,
    Value, Visitor, WaitPolicy,
};
use types::{Error, MaybeReady, StoreId, Timestamp};

/// A lease: the term in which its holder leads the shard's group, and how often that leader had to confirm
/// it after its support was interrupted. Locks live in the holder's memory, so they are worth nothing under the lease of
/// another term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId {
    pub term: u64,
    pub confirmed: u64,
}

impl LeaseId {
    /// Whether locks of `earlier` stand under this lease. Nobody else has held one in between: who had been elected
    /// would have led a later term, in which a majority would not have confirmed this one.
    pub fn keeps_locks_of(self, earlier: LeaseId) -> bool {
        self.term == earlier.term
    }
}

/// Why a store does not answer for a shard. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody else holds the lease, `hint` perhaps, or nobody right now.
    NotLeaseHolder { hint: Option<StoreId> },
    /// The asked keys are not those of the shard: these descriptors are newer than what the asker knows.
    Mismatch { newer: Vec<ShardDescriptor> },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    Refused(Refusal),
    /// The store that was asked is out of reach. `true`: it may have carried out what was asked.
    Unreachable(bool),
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Failed(error)
    }
}

pub type Answer<T> = MaybeReady<Result<T, Failure>>;

/// A lock request's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// `false` only under [`WaitPolicy::SkipLocked`].
    pub granted: bool,
    /// Under which lease.
    pub lease: LeaseId,
}

/// What a statement begins with, in this order: see [`txn::kv::Opening`]. Each key comes with its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    pub txn: TxnId,
    pub tables: Vec<(ShardId, Key)>,
    /// Of which shards a snapshot is wanted: as for [`ShardServer::read_timestamp`].
    pub snapshot: Option<Vec<(ShardId, u64)>>,
    pub point: Option<(ShardId, Key, Option<LockMode>)>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenAnswer {
    /// Under which leases the tables were locked, then the point, if it was.
    pub leases: Vec<LeaseId>,
    pub opened: Opened,
}

/// See the module. Every call names the shard; `gateway` is the store whose session asks, so that its locks
/// can be released when that store is lost.
pub trait ShardServer: Send + Sync {
    /// A timestamp whose snapshot of these shards holds every commit acknowledged before this call. Each
    /// shard comes with the generation in which the asker knows it: if the shard has changed since, the
    /// answer is [`Refusal::Mismatch`], because a part of its keys may be another's now, whose commits
    /// nobody would ask for.
    fn read_timestamp(&self, shards: &[(ShardId, u64)]) -> Answer<Timestamp>;

    /// Whether this store answers now for the shard, though its lease is elsewhere, as of a timestamp that it gives
    /// ([`crate::read_leases`]). Others know by their calls only.
    fn reads_here(&self, _shard: ShardId) -> bool {
        false
    }

    /// Up to where this store answers for the shard, whoever holds its lease.
    fn closed_at(&self, _shard: ShardId) -> Timestamp {
        Timestamp::ZERO
    }

    /// Sessions of another store have asked here for a snapshot of these shards.
    fn asked_by(&self, _gateway: StoreId, _shards: &[(ShardId, u64)]) {}

    fn get(&self, shard: ShardId, key: &[u8], at: Timestamp) -> Answer<Option<(Value, Timestamp)>>;

    fn newest_version(&self, shard: ShardId, key: &[u8]) -> Answer<Option<Timestamp>>;

    /// The span lies within the shard.
    fn scan(&self, shard: ShardId, request: ScanRequest) -> Answer<ScanPage>;

    /// See [`txn::kv::Shards::visit`]; the span lies within the shard. `None`, and every refusal: nothing
    /// was shown.
    fn visit(
        &self,
        _shard: ShardId,
        _request: &ScanRequest,
        _show: &mut Visitor<'_>,
    ) -> Option<Result<Option<Key>, Failure>> {
        None
    }

    /// See [`txn::kv::Shards::changes`]; the span lies within the shard. Unknown unless this store has held
    /// the lease for the whole time.
    fn changes(
        &self,
        _shard: ShardId,
        _span: &Span,
        _after: Timestamp,
        _upto: Timestamp,
    ) -> Changes {
        Changes::Unknown
    }

    /// Dropping a pending future leaves the queue.
    fn lock(
        &self,
        shard: ShardId,
        gateway: StoreId,
        txn: TxnId,
        key: &[u8],
        mode: LockMode,
        policy: WaitPolicy,
    ) -> Answer<Granted>;

    fn lock_fresh(
        &self,
        shard: ShardId,
        gateway: StoreId,
        txn: TxnId,
        keys: &Arc<[Key]>,
    ) -> Answer<Granted>;

    /// All of it in one exchange. A failure does not mean that nothing was locked. `None`: this store is no
    /// farther away for that; take the steps one by one.
    fn open(&self, _request: &OpenRequest, _policy: WaitPolicy) -> Option<Answer<OpenAnswer>> {
        None
    }

    fn unlock(&self, shard: ShardId, txn: TxnId, keys: &[Key]);

    /// All locks of `txn` in all shards of this store.
    fn unlock_all(&self, txn: TxnId);

    /// Whether the locks that `txn` was granted in the shard under this lease still stand: the store holds
    /// the shard's lease, in the same term.
    fn still_locked(&self, shard: ShardId, txn: TxnId, lease: LeaseId) -> Answer<bool>;

    /// What this store's own replica of the shard says who has one. Others know by their calls only.
    fn descriptor(&self, _shard: ShardId) -> Option<ShardDescriptor> {
        None
    }

    /// These are all transactions of `gateway` that may hold locks at this store. Those that are not among
    /// them, and were there at the roll call before already, have ended: their releases were lost on the
    /// way. Nothing is lost between a store and its own sessions.
    fn roll_call(&self, _gateway: StoreId, _live: &[TxnId]) -> Answer<()> {
        MaybeReady::ready(Ok(()))
    }

    /// `locked_under`: the lease that all locks of this transaction in the shard were granted under, if it has
    /// any. In another term they are gone, and the answer is 40001.
    ///
    /// Once the outcome is known (no refusal: then nothing was done), the store releases all locks of the
    /// transaction in all its shards, whether or not anybody waits for the answer still.
    fn commit(
        &self,
        shard: ShardId,
        gateway: StoreId,
        request: CommitRequest,
        locked_under: Option<LeaseId>,
    ) -> Answer<Committed>;
}
