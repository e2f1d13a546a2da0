//! The lease of a replica: when it begins, is interrupted, and ends.
//!
//! # Why a lease is safe
//! The loop grants a lease and extends it (`member.rs`, `lease_ends.rs`). No timestamp above the lease's end is ever given to a
//! commit, and whoever holds the next lease gives only higher ones. So a read at or below both the end of the
//! lease and the safe timestamp sees all that can ever be committed below it, whenever it runs and whoever
//! holds the lease meanwhile. Only the question "what is the newest?" needs the lease to be valid at the
//! moment: it looks at the clock after it has looked at the data.

use super::{Offers, Replica, State};
use crate::lease_ends::LeaseEnd;
use crate::shard_server::LeaseId;
use crate::table_changes::TableChanges;
use parking_lot::MutexGuard;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use txn::Sequencer;
use types::Timestamp;

impl Replica {
    pub(crate) fn lease_end(&self) -> Timestamp {
        Timestamp(self.lease_end.load().load(Ordering::SeqCst))
    }

    /// Whether support can still move the end of a lease that is over at `now`. By the bound on clocks it lasts longer
    /// than the lease that stands on it, and until it ends nobody else leads. So a heartbeat that is late on a busy
    /// machine, and with it the lease for a moment, costs no lock.
    pub(crate) fn lease_may_go_on(&self, now: Timestamp) -> bool {
        now.minus_millis(self.shared.offset_millis) <= self.lease_end()
    }

    /// The lease that is held here, whether or not its time is over.
    pub(crate) fn lease(&self) -> Option<LeaseId> {
        self.state.lock().lease
    }

    /// A lease begins: all that was ever acknowledged is applied, and `start` is above it.
    pub(crate) fn grant(&self, lease: LeaseId, start: Timestamp, end: LeaseEnd) {
        let mut state = self.state.lock();
        state.put_aside();
        state.end_waits();
        state.is_new = false;
        state.lease = Some(lease);
        state.sequencer = Sequencer::new(start);
        state.table_changes = TableChanges::new(start);
        state.catalog_at = Timestamp::ZERO;
        state.offers = Offers::default();
        self.newest.store(start.0, Ordering::Relaxed);
        if self.descriptor.read().start.is_empty() {
            // What was committed before may have changed the catalog; readers find out once.
            state.catalog_at = start;
            self.shared.time.catalog_changes_at(start);
        }
        self.publish(&state);
        self.lease_end.store(end.0);
    }

    /// The lease that is held ends there from now on.
    pub(crate) fn extend(&self, end: LeaseEnd) {
        if !Arc::ptr_eq(&self.lease_end.load(), &end.0) {
            self.lease_end.store(end.0);
        }
    }

    /// The lease is over before its time. Commits in flight stay open until their fate is known.
    pub(crate) fn revoke(&self) {
        let mut state = self.end_lease();
        state.lapsed = None;
        state.parts.clear();
    }

    /// The same for the moment: the leader leads on, and may be confirmed in its term before `until`. Locks stand then,
    /// and so do parts of large commits.
    pub(crate) fn lapse(&self, until: Timestamp) {
        let lease = self.lease();
        let mut state = self.end_lease();
        if let Some(lease) = lease {
            state.lapsed = Some((lease, until));
        }
    }

    fn end_lease(&self) -> MutexGuard<'_, State> {
        self.lease_end.store(Arc::default());
        self.stop_reading();
        let mut state = self.state.lock();
        state.end_waits();
        state.offers = Offers::default();
        if state.lease.take().is_some() {
            state.is_new = false;
            state.put_aside();
            // Who waits for the commits below asks somebody else.
            state.readers.clear();
        }
        state
    }

    /// Whether the lease was interrupted not long ago, and may be confirmed yet.
    pub(crate) fn has_lapsed(&self, now: Timestamp) -> bool {
        self.state.lock().has_lapsed(now)
    }
}

impl State {
    /// The lease that is held, or was interrupted.
    pub(super) fn last_lease(&self) -> Option<LeaseId> {
        self.lease.or(self.lapsed.map(|(lease, _)| lease))
    }

    pub(super) fn has_lapsed(&self, now: Timestamp) -> bool {
        self.lapsed.is_some_and(|(_, until)| now <= until)
    }

    /// Whether what was begun under this lease can go on, or may once the lease is confirmed.
    pub(super) fn leads_on(&self, lease: LeaseId) -> bool {
        let last = self.last_lease();
        last.is_some_and(|last| last.keeps_locks_of(lease))
    }
}
