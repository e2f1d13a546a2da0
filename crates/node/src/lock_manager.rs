//! The lock table, shared by sessions that wait.
//!
//! One mutex guards the whole table, because finding a deadlock needs the whole graph; it is held for
//! a few hundred nanoseconds at a time. A waiter sleeps on a channel of its own until its ticket is
//! granted, its deadline passes, or it is dropped, which leaves the queue.

use crate::metrics::Metrics;
use futures::channel::oneshot;
use futures::future::{Either, select};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::Duration;
use txn::kv::{Key, LockMode, TxnId, WaitPolicy};
use txn::{Acquire, LockLimits, LockTable, Ticket};
use types::env::Clock;
use types::{Error, MaybeReady, Result, SqlState};

pub(crate) struct LockManager {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

struct State {
    table: LockTable,
    waiters: FxHashMap<Ticket, oneshot::Sender<()>>,
}

impl State {
    fn wake(&mut self, granted: Vec<Ticket>) {
        for ticket in granted {
            if let Some(waiter) = self.waiters.remove(&ticket) {
                // A waiter that is gone has its lock released with its transaction.
                let _ = waiter.send(());
            }
        }
    }
}

impl LockManager {
    pub(crate) fn new(limits: LockLimits, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        LockManager {
            state: Mutex::new(State {
                table: LockTable::new(limits),
                waiters: FxHashMap::default(),
            }),
            clock,
            metrics,
        }
    }

    pub(crate) fn lock(
        self: &Arc<Self>,
        txn: TxnId,
        key: &[u8],
        mode: LockMode,
        policy: WaitPolicy,
    ) -> MaybeReady<Result<bool>> {
        let mut state = self.state.lock();
        let deadline_nanos = match policy {
            WaitPolicy::Wait { deadline_nanos } => deadline_nanos,
            WaitPolicy::SkipLocked => {
                return MaybeReady::ready(state.table.try_acquire(txn, key, mode));
            }
            WaitPolicy::NoWait => {
                return MaybeReady::ready(match state.table.try_acquire(txn, key, mode) {
                    Ok(false) => Err(not_available("could not obtain lock on row")),
                    granted => granted,
                });
            }
        };
        let ticket = match state.table.acquire(txn, key, mode) {
            Ok(Acquire::Granted) => return MaybeReady::ready(Ok(true)),
            Ok(Acquire::Wait(ticket)) => ticket,
            Err(error) => {
                if error.state == SqlState::DEADLOCK_DETECTED {
                    self.metrics.deadlocks.increment(1);
                }
                return MaybeReady::ready(Err(error));
            }
        };
        let (waiter, granted) = oneshot::channel();
        state.waiters.insert(ticket, waiter);
        drop(state);
        self.metrics.lock_waits.increment(1);
        self.metrics.locks_waiting.increment(1);
        let place = Place {
            manager: Arc::clone(self),
            ticket,
        };
        MaybeReady::pending(async move {
            let answer = match deadline_nanos {
                None => granted.await,
                Some(deadline) => {
                    let clock = &place.manager.clock;
                    let left = deadline.saturating_sub(clock.monotonic_nanos());
                    let timeout = clock.sleep(Duration::from_nanos(left));
                    match select(granted, timeout).await {
                        Either::Left((answer, _)) => answer,
                        Either::Right(((), _)) => {
                            return Err(not_available("canceling statement due to lock timeout"));
                        }
                    }
                }
            };
            // The sender goes away without a word only if the transaction was ended meanwhile.
            answer.map(|()| true).map_err(|_| {
                Error::new(
                    SqlState::QUERY_CANCELED,
                    "the transaction ended while it waited for a lock",
                )
            })
        })
    }

    /// See `Shards::lock_fresh`; whether the keys were ever written is the caller's question.
    pub(crate) fn lock_fresh(&self, txn: TxnId, keys: &Arc<[Key]>) -> Result<bool> {
        self.state.lock().table.acquire_fresh(txn, keys)
    }

    pub(crate) fn unlock(&self, txn: TxnId, keys: &[Key]) {
        let mut state = self.state.lock();
        let granted = state.table.release(txn, keys);
        state.wake(granted);
    }

    pub(crate) fn unlock_all(&self, transactions: impl IntoIterator<Item = TxnId>) {
        let mut state = self.state.lock();
        for txn in transactions {
            let granted = state.table.release_all(txn);
            state.wake(granted);
        }
    }

    /// Whether the transaction holds or waits for any lock here.
    pub(crate) fn is_known(&self, txn: TxnId) -> bool {
        self.state.lock().table.is_known(txn)
    }

    /// Keys locked, and waiters.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.table.len(), state.table.waiting())
    }
}

/// A place in a queue, left when dropped.
struct Place {
    manager: Arc<LockManager>,
    ticket: Ticket,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.manager.metrics.locks_waiting.decrement(1);
        let mut state = self.manager.state.lock();
        state.waiters.remove(&self.ticket);
        let granted = state.table.cancel(self.ticket);
        state.wake(granted);
    }
}

fn not_available(message: &str) -> Error {
    Error::new(SqlState::LOCK_NOT_AVAILABLE, message)
}
