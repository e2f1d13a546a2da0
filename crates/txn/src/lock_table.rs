//! Row and table locks of one lease holder, in memory.
//!
//! # What it is
//! PostgreSQL's four row-lock modes with its conflict matrix (manual, section 13.3.2). A lock is a
//! key, a mode and a transaction; a key has *holders* and a queue of *waiters*.
//!
//! | held ↓ wanted → | KeyShare | Share | NoKeyUpdate | Update |
//! | --------------- | -------- | ----- | ----------- | ------ |
//! | KeyShare        |          |       |             | ✗      |
//! | Share           |          |       | ✗           | ✗      |
//! | NoKeyUpdate     |          | ✗     | ✗           | ✗      |
//! | Update          | ✗        | ✗     | ✗           | ✗      |
//!
//! Each mode conflicts with all that the mode before it conflicts with, so modes are ordered by
//! strength and a transaction holds one mode a key: the strongest that it was granted.
//!
//! # What it guarantees
//! - Two holders of a key never conflict.
//! - First come, first served: a waiter is granted once it is compatible with all holders and is
//!   the first of the queue. A newcomer never overtakes the queue, even when it is compatible with
//!   the holders, so writers do not starve behind a stream of readers. The one exception is a holder
//!   that strengthens its lock: it goes before all who hold nothing, because they wait for it anyway.
//! - A wait that would close a cycle is refused (40P01) when it begins, so each deadlock is found at
//!   once and costs exactly one transaction, the one whose wait closed it. A cycle can only be
//!   closed by a wait that begins: granting and releasing remove edges of the waits-for graph or
//!   lead them through the same transactions.
//!
//! # Batches
//! A bulk load locks its new keys by the batch ([`LockTable::acquire_fresh`]): nobody else holds or
//! wants one of them, so a sorted list is all that is kept. When another transaction asks for such a key,
//! the key becomes an ordinary lock of its holder first, and all rules above apply to it. Batches
//! are held until the end of the transaction.
//!
//! # What it does not do
//! It knows no clock, so deadlines (`lock_timeout`) are its caller's, by [`LockTable::cancel`].
//! It survives no crash: a transaction whose lease holder dies loses its locks and its writes,
//! which were only buffered.

use crate::kv::{self, LockMode, TxnId};
use crate::runs::Runs;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use types::{Error, Result, SqlState};

impl LockMode {
    /// Whether two transactions cannot hold these on one key at a time. Symmetric.
    pub fn conflicts_with(self, other: LockMode) -> bool {
        use LockMode::{KeyShare, NoKeyUpdate, Share, Update};
        match (self, other) {
            (Update, _) | (_, Update) => true,
            (NoKeyUpdate, KeyShare) | (KeyShare, NoKeyUpdate) => false,
            (NoKeyUpdate, _) | (_, NoKeyUpdate) => true,
            (KeyShare | Share, KeyShare | Share) => false,
        }
    }

    fn name(self) -> &'static str {
        match self {
            LockMode::KeyShare => "KEY SHARE",
            LockMode::Share => "SHARE",
            LockMode::NoKeyUpdate => "NO KEY UPDATE",
            LockMode::Update => "UPDATE",
        }
    }
}

/// A place in a queue. Unique in the life of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquire {
    Granted,
    /// Granted later: the ticket appears in what a release or a cancel returns.
    Wait(Ticket),
}

/// How much memory locks may take before they are refused (53200).
#[derive(Clone, Copy, Debug)]
pub struct LockLimits {
    /// Locks one transaction may hold. A million rows updated at once is more than a good
    /// transaction does, and takes about 150 MB here.
    pub locks_per_transaction: usize,
    /// Bytes of the whole table, keys and overhead.
    pub table_bytes: usize,
}

impl Default for LockLimits {
    fn default() -> Self {
        LockLimits {
            locks_per_transaction: 2_000_000,
            table_bytes: 512 << 20,
        }
    }
}

/// What a lock costs beside its key: two map slots, a holder, a reference count (measured order of
/// magnitude, for the limit only).
const LOCK_OVERHEAD_BYTES: usize = 144;
/// The same for a key in a batch, whose bytes belong to the write buffer.
const BATCHED_LOCK_BYTES: usize = 40;

type Key = Arc<[u8]>;

struct Waiter {
    ticket: Ticket,
    txn: TxnId,
    mode: LockMode,
    /// It holds a weaker lock on this key.
    upgrade: bool,
}

/// A transaction that held more locks than this makes the table give memory back when it ends.
const FEW_LOCKS: usize = 10_000;

#[derive(Default)]
struct Entry {
    holders: SmallVec<[(TxnId, LockMode); 1]>,
    queue: VecDeque<Waiter>,
}

impl Entry {
    fn held_by(&self, txn: TxnId) -> Option<usize> {
        self.holders.iter().position(|(holder, _)| *holder == txn)
    }

    fn compatible(&self, txn: TxnId, mode: LockMode) -> bool {
        self.holders
            .iter()
            .all(|(holder, held)| *holder == txn || !held.conflicts_with(mode))
    }

    /// Whether the lock can be had without waiting, and whether it strengthens a held one.
    fn admits(&self, txn: TxnId, mode: LockMode) -> (bool, bool) {
        let upgrade = self.held_by(txn).is_some();
        let free = (upgrade || self.queue.is_empty()) && self.compatible(txn, mode);
        (free, upgrade)
    }
}

/// The new keys that a transaction locked by the batch.
struct Batched {
    txn: TxnId,
    keys: Runs<Arc<[kv::Key]>>,
}

#[derive(Default)]
struct Held {
    keys: SmallVec<[Key; 2]>,
    waiting: SmallVec<[Ticket; 1]>,
}

/// See the module.
#[derive(Default)]
pub struct LockTable {
    keys: FxHashMap<Key, Entry>,
    transactions: FxHashMap<TxnId, Held>,
    waits: FxHashMap<Ticket, (TxnId, Key)>,
    /// Of each transaction that has some. Few: bulk loads.
    batched: Vec<Batched>,
    next_ticket: u64,
    bytes: usize,
    limits: LockLimits,
}

impl LockTable {
    pub fn new(limits: LockLimits) -> Self {
        LockTable {
            limits,
            ..LockTable::default()
        }
    }

    /// Takes or strengthens a lock, or queues for it. A deadlock is 40P01, a full table 53200;
    /// then nothing has changed.
    pub fn acquire(&mut self, txn: TxnId, key: &[u8], mode: LockMode) -> Result<Acquire> {
        if self.grant_at_once(txn, key, mode)? {
            return Ok(Acquire::Granted);
        }
        let Some((shared, entry)) = self.keys.get_key_value(key) else {
            return Err(Error::internal("a lock without a holder has a queue"));
        };
        let key = Arc::clone(shared);
        let upgrade = entry.held_by(txn).is_some();
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let waiter = Waiter {
            ticket,
            txn,
            mode,
            upgrade,
        };
        if let Some(entry) = self.keys.get_mut(&key) {
            if upgrade {
                let behind = entry.queue.partition_point(|w| w.upgrade);
                entry.queue.insert(behind, waiter);
            } else {
                entry.queue.push_back(waiter);
            }
        }
        self.waits.insert(ticket, (txn, Arc::clone(&key)));
        let held = self.transactions.entry(txn).or_default();
        held.waiting.push(ticket);
        if let Some(cycle) = self.find_cycle(txn) {
            // The requester is the victim. No other waiter can profit: it was the last in line of
            // its class, and those behind it (if it is an upgrade) are as they were before.
            self.cancel(ticket);
            return Err(deadlock(&cycle));
        }
        Ok(Acquire::Wait(ticket))
    }

    /// Like [`LockTable::acquire`], but `false` where that would wait.
    pub fn try_acquire(&mut self, txn: TxnId, key: &[u8], mode: LockMode) -> Result<bool> {
        self.grant_at_once(txn, key, mode)
    }

    /// Locks `keys` (ascending, all different) in `Update` mode if nobody holds or wants any of them,
    /// this transaction included. `false`: nothing has changed.
    pub fn acquire_fresh(&mut self, txn: TxnId, keys: &Arc<[kv::Key]>) -> Result<bool> {
        let known = if self.keys.len() < keys.len() {
            let mut known = self.keys.keys();
            known.any(|key| keys.binary_search_by(|k| k[..].cmp(key)).is_ok())
        } else {
            keys.iter().any(|key| self.keys.contains_key(&key[..]))
        };
        if known || self.batched.iter().any(|b| b.keys.holds_any(keys)) {
            return Ok(false);
        }
        let place = self.batched.iter().position(|batched| batched.txn == txn);
        let held = place.map_or(0, |place| self.batched[place].keys.len())
            + self.transactions.get(&txn).map_or(0, |h| h.keys.len());
        let bytes = keys.len() * BATCHED_LOCK_BYTES;
        if held + keys.len() > self.limits.locks_per_transaction
            || self.bytes + bytes > self.limits.table_bytes
        {
            return Err(out_of_locks());
        }
        let place = place.unwrap_or_else(|| {
            self.batched.push(Batched {
                txn,
                keys: Runs::default(),
            });
            self.batched.len() - 1
        });
        let added = self.batched[place].keys.add(Arc::clone(keys)).is_ok();
        if added {
            self.bytes += bytes;
        }
        Ok(added)
    }

    /// Leaves the queue. Returns who is granted because of it. No effect on a granted ticket.
    pub fn cancel(&mut self, ticket: Ticket) -> Vec<Ticket> {
        let mut granted = Vec::new();
        let Some((txn, key)) = self.waits.remove(&ticket) else {
            return granted;
        };
        if let Some(held) = self.transactions.get_mut(&txn) {
            held.waiting.retain(|waiting| *waiting != ticket);
            if held.waiting.is_empty() && held.keys.is_empty() {
                self.transactions.remove(&txn);
            }
        }
        if let Some(entry) = self.keys.get_mut(&key) {
            entry.queue.retain(|waiter| waiter.ticket != ticket);
        }
        self.advance(&key, &mut granted);
        granted
    }

    /// Releases these locks of `txn`, but for those it holds in a batch. Returns who is granted because of it.
    pub fn release(&mut self, txn: TxnId, keys: &[impl AsRef<[u8]>]) -> Vec<Ticket> {
        let mut granted = Vec::new();
        let Some(held) = self.transactions.get_mut(&txn) else {
            return granted;
        };
        let batched = self.batched.iter().find(|batched| batched.txn == txn);
        let stays = |key: &Key| batched.is_some_and(|batched| batched.keys.find(key).is_some());
        let mut released: SmallVec<[Key; 2]> = SmallVec::new();
        if keys.len() <= 4 {
            held.keys.retain(|key| {
                let keep = stays(key) || !keys.iter().any(|gone| gone.as_ref() == &key[..]);
                if !keep {
                    released.push(Arc::clone(key));
                }
                keep
            });
        } else {
            let gone: FxHashSet<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
            held.keys.retain(|key| {
                let keep = stays(key) || !gone.contains(&key[..]);
                if !keep {
                    released.push(Arc::clone(key));
                }
                keep
            });
        }
        if held.keys.is_empty() && held.waiting.is_empty() {
            self.transactions.remove(&txn);
        }
        for key in released {
            self.drop_holder(txn, &key, &mut granted);
        }
        granted
    }

    /// Releases all locks of `txn` and leaves all its queues. Returns who is granted because of it.
    pub fn release_all(&mut self, txn: TxnId) -> Vec<Ticket> {
        let mut granted = Vec::new();
        if let Some(place) = self.batched.iter().position(|batched| batched.txn == txn) {
            let batched = self.batched.swap_remove(place);
            self.bytes -= batched.keys.len() * BATCHED_LOCK_BYTES;
        }
        let Some(held) = self.transactions.remove(&txn) else {
            return granted;
        };
        for ticket in held.waiting {
            if let Some((_, key)) = self.waits.remove(&ticket) {
                if let Some(entry) = self.keys.get_mut(&key) {
                    entry.queue.retain(|waiter| waiter.ticket != ticket);
                }
                self.advance(&key, &mut granted);
            }
        }
        let many = held.keys.len() > FEW_LOCKS;
        for key in held.keys {
            self.drop_holder(txn, &key, &mut granted);
        }
        if many {
            self.keys.shrink_to(FEW_LOCKS);
        }
        granted
    }

    /// The mode in which `txn` holds `key`.
    /// Whether the transaction holds or waits for any lock.
    pub fn is_known(&self, txn: TxnId) -> bool {
        self.transactions.contains_key(&txn) || self.batched.iter().any(|batch| batch.txn == txn)
    }

    pub fn held(&self, txn: TxnId, key: &[u8]) -> Option<LockMode> {
        if self.batch_holder(key) == Some(txn) {
            return Some(LockMode::Update);
        }
        let entry = self.keys.get(key)?;
        Some(entry.holders[entry.held_by(txn)?].1)
    }

    /// Keys that are locked or queued for.
    pub fn len(&self) -> usize {
        let batched = self.batched.iter().map(|batched| batched.keys.len());
        self.keys.len() + batched.sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.batched.is_empty()
    }

    /// Waiters in all queues.
    pub fn waiting(&self) -> usize {
        self.waits.len()
    }

    fn batch_holder(&self, key: &[u8]) -> Option<TxnId> {
        let holds = |batched: &&Batched| batched.keys.find(key).is_some();
        Some(self.batched.iter().find(holds)?.txn)
    }

    /// Makes a key that is locked in a batch an ordinary lock, so that it can be waited for.
    fn single_out(&mut self, key: &[u8]) {
        let Some(txn) = self.batch_holder(key) else {
            return;
        };
        let shared: Key = match self.keys.get_key_value(key) {
            Some((shared, _)) => Arc::clone(shared),
            None => Arc::from(key),
        };
        let entry = self.keys.entry(Arc::clone(&shared)).or_default();
        if entry.held_by(txn).is_none() {
            entry.holders.push((txn, LockMode::Update));
            self.bytes += key.len() + LOCK_OVERHEAD_BYTES;
            self.transactions.entry(txn).or_default().keys.push(shared);
        }
    }

    fn grant_at_once(&mut self, txn: TxnId, key: &[u8], mode: LockMode) -> Result<bool> {
        if !self.batched.is_empty() {
            self.single_out(key);
        }
        if let Some(entry) = self.keys.get_mut(key) {
            if let Some(at) = entry.held_by(txn)
                && entry.holders[at].1 >= mode
            {
                return Ok(true);
            }
            let (free, upgrade) = entry.admits(txn, mode);
            if !free {
                return Ok(false);
            }
            if upgrade {
                set_mode(entry, txn, mode);
                return Ok(true);
            }
        }
        let held = self.transactions.entry(txn).or_default();
        if held.keys.len() >= self.limits.locks_per_transaction {
            return Err(out_of_locks());
        }
        let bytes = key.len() + LOCK_OVERHEAD_BYTES;
        if self.bytes + bytes > self.limits.table_bytes {
            if held.keys.is_empty() && held.waiting.is_empty() {
                self.transactions.remove(&txn);
            }
            return Err(out_of_locks());
        }
        self.bytes += bytes;
        let shared: Key = match self.keys.get_key_value(key) {
            Some((shared, _)) => Arc::clone(shared),
            None => Arc::from(key),
        };
        held.keys.push(Arc::clone(&shared));
        let entry = self.keys.entry(shared).or_default();
        entry.holders.push((txn, mode));
        Ok(true)
    }

    fn drop_holder(&mut self, txn: TxnId, key: &Key, granted: &mut Vec<Ticket>) {
        let Some(entry) = self.keys.get_mut(key) else {
            return;
        };
        if let Some(at) = entry.held_by(txn) {
            entry.holders.swap_remove(at);
            self.bytes -= key.len() + LOCK_OVERHEAD_BYTES;
        }
        // A strengthening that still waits holds nothing now; its place in the queue is kept.
        for waiter in entry.queue.iter_mut().filter(|waiter| waiter.txn == txn) {
            waiter.upgrade = false;
        }
        self.advance(key, granted);
    }

    /// Grants from the front of the queue what the holders allow; forgets an unused key.
    fn advance(&mut self, key: &Key, granted: &mut Vec<Ticket>) {
        let Some(entry) = self.keys.get_mut(key) else {
            return;
        };
        while let Some(first) = entry.queue.front() {
            if !entry.compatible(first.txn, first.mode) {
                break;
            }
            let Some(waiter) = entry.queue.pop_front() else {
                break;
            };
            self.waits.remove(&waiter.ticket);
            let held = self.transactions.entry(waiter.txn).or_default();
            held.waiting.retain(|ticket| *ticket != waiter.ticket);
            if entry.held_by(waiter.txn).is_some() {
                set_mode(entry, waiter.txn, waiter.mode);
            } else {
                entry.holders.push((waiter.txn, waiter.mode));
                held.keys.push(Arc::clone(key));
                // The limit is checked where waiting begins; those few above it are let through.
                self.bytes += key.len() + LOCK_OVERHEAD_BYTES;
            }
            granted.push(waiter.ticket);
        }
        if entry.holders.is_empty() && entry.queue.is_empty() {
            self.keys.remove(key);
        }
    }

    /// A path of waits from `start` back to itself.
    fn find_cycle(&self, start: TxnId) -> Option<Vec<Edge>> {
        if self.waits.len() < 2 {
            return None;
        }
        // How each transaction was reached: the edge that led to it.
        let mut reached: FxHashMap<TxnId, Edge> = FxHashMap::default();
        let mut expanded: FxHashSet<Ticket> = FxHashSet::default();
        let mut stack = vec![start];
        while let Some(txn) = stack.pop() {
            let Some(held) = self.transactions.get(&txn) else {
                continue;
            };
            for ticket in &held.waiting {
                let Some((_, key)) = self.waits.get(ticket) else {
                    continue;
                };
                let Some(entry) = self.keys.get(key) else {
                    continue;
                };
                let place = entry.queue.iter().position(|w| w.ticket == *ticket);
                // From the waiter to the front: it waits for who is before it, and so on. Each
                // waiter is walked once, however many of those behind it are reached.
                let mut place = place.unwrap_or(0);
                while let Some(waiter) = entry.queue.get(place) {
                    if !expanded.insert(waiter.ticket) {
                        break;
                    }
                    let ahead = place.checked_sub(1).and_then(|at| entry.queue.get(at));
                    let blockers = entry
                        .holders
                        .iter()
                        .filter(|(_, held)| held.conflicts_with(waiter.mode))
                        .map(|(holder, _)| *holder)
                        .chain(ahead.map(|ahead| ahead.txn))
                        .filter(|blocker| *blocker != waiter.txn);
                    for blocker in blockers {
                        let edge = Edge {
                            waiting: waiter.txn,
                            mode: waiter.mode,
                            key: Arc::clone(key),
                            blocking: blocker,
                        };
                        if blocker == start {
                            return Some(path(&reached, start, edge));
                        }
                        if let std::collections::hash_map::Entry::Vacant(new) =
                            reached.entry(blocker)
                        {
                            new.insert(edge);
                            stack.push(blocker);
                        }
                    }
                    if place == 0 {
                        break;
                    }
                    place -= 1;
                }
            }
        }
        None
    }
}

/// One wait of the waits-for graph.
struct Edge {
    waiting: TxnId,
    mode: LockMode,
    key: Key,
    blocking: TxnId,
}

fn path(reached: &FxHashMap<TxnId, Edge>, start: TxnId, last: Edge) -> Vec<Edge> {
    let mut at = last.waiting;
    let mut edges = vec![last];
    while at != start {
        let Some(edge) = reached.get(&at) else {
            break;
        };
        at = edge.waiting;
        edges.push(Edge {
            waiting: edge.waiting,
            mode: edge.mode,
            key: Arc::clone(&edge.key),
            blocking: edge.blocking,
        });
    }
    edges.reverse();
    edges
}

fn set_mode(entry: &mut Entry, txn: TxnId, mode: LockMode) {
    if let Some(at) = entry.held_by(txn) {
        let held = &mut entry.holders[at].1;
        *held = (*held).max(mode);
    }
}

fn deadlock(cycle: &[Edge]) -> Error {
    let lines: Vec<String> = cycle
        .iter()
        .map(|edge| {
            format!(
                "Transaction {} waits for {} lock on key {}; blocked by transaction {}.",
                edge.waiting,
                edge.mode.name(),
                edge.key.escape_ascii(),
                edge.blocking
            )
        })
        .collect();
    Error::new(SqlState::DEADLOCK_DETECTED, "deadlock detected").detail(lines.join("\n"))
}

fn out_of_locks() -> Error {
    Error::new(SqlState::OUT_OF_MEMORY, "out of memory for locks")
        .hint("Lock fewer rows in one transaction, or commit in smaller steps.")
}

#[cfg(test)]
#[path = "lock_table_tests.rs"]
mod tests;
