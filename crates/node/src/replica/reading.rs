//! Read leases as sessions see them: see [`crate::read_leases`].

use super::Replica;
use crate::inbox::Proposal;
use crate::read_leases::Options;
use consensus::{Command, ReadLease, ReplicaId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use txn::kv::Changes;
use types::{StoreId, Timestamp};

/// Read leases that a lease holder offers in the life of one, at most.
const OFFERS_PER_LIFE: u64 = 4;

/// What the lease holder has offered.
#[derive(Default)]
pub(super) struct Offers {
    /// One is on its way through the log.
    under_way: bool,
    /// When the last one was made.
    last: Timestamp,
    /// None before this: members are about to change.
    withheld_until: Timestamp,
}

/// A read lease that is held here.
pub(super) struct Holding {
    /// Of its entry. Any later one ends it.
    index: u64,
    since: Timestamp,
    at: Timestamp,
    /// By the own clock.
    ends: Timestamp,
    /// When a question is to pass, so that it goes on.
    renew: Timestamp,
    /// A question has passed, so that the lease goes on.
    asked: AtomicBool,
}

impl Replica {
    /// The lease holder here was asked for a snapshot by another store's session: it may be time to let that store
    /// answer by itself.
    pub(crate) fn asked_by(
        &self,
        store: StoreId,
        options: &Options,
        now: impl FnOnce() -> Timestamp,
    ) {
        let newest = Timestamp(self.newest.load(Ordering::Relaxed));
        let wanted = self.demand.lock().asked(store, newest, options.reads);
        if wanted {
            self.offer_read_lease(options, now);
        }
    }

    fn offer_read_lease(&self, options: &Options, now: impl FnOnce() -> Timestamp) {
        let mut state = self.state.lock();
        let Some(lease) = state.lease else {
            return;
        };
        let is_busy = state.sequencer.in_flight() > 0 || !state.orphans.is_empty();
        if is_busy || state.offers.under_way || state.closed.is_some() || state.split.is_some() {
            return;
        }
        let at = now();
        let since = Timestamp(self.newest.load(Ordering::Relaxed));
        let life = options.life.as_millis() as u64;
        let quiet = at.minus_millis(options.quiet.as_millis() as u64) >= since;
        // A holder that goes on asking all the same (its copy is damaged, say) must not fill the log.
        let again = at.minus_millis(life / OFFERS_PER_LIFE) >= state.offers.last;
        if !quiet || !again || at < state.offers.withheld_until || at > self.lease_end() {
            return;
        }
        let descriptor = self.descriptor();
        let stores = self.demand.lock().take(options.reads);
        let holders = stores
            .iter()
            .filter_map(|store| descriptor.replica_on(*store));
        let holders: Vec<ReplicaId> = holders.map(|replica| ReplicaId(replica.id)).collect();
        state.offers.last = at;
        if holders.is_empty() {
            return;
        }
        // Whatever is committed from now on is above it.
        self.observe(&mut state, at);
        state.offers.under_way = true;
        self.shared.inbox.propose(Proposal {
            shard: self.shard,
            lease,
            command: Command::ReadLease(ReadLease {
                since,
                at,
                until: at.plus_millis(life + self.shared.offset_millis),
                catalog: state.catalog_at,
                holders,
            }),
        });
    }

    /// No read lease is offered before `until`. `false`: one is on its way already.
    pub(crate) fn withhold_read_leases(&self, until: Timestamp) -> bool {
        let mut state = self.state.lock();
        state.offers.withheld_until = until;
        !state.offers.under_way
    }

    /// A read lease is applied here; `index`: its entry's. `holds`: it is given to this replica, and there is no later
    /// entry in its log.
    pub(crate) fn read_lease_applied(&self, lease: &ReadLease, index: u64, holds: bool) {
        self.state.lock().offers.under_way = false;
        tracing::debug!(
            shard = self.shard.0,
            index,
            holds,
            holders = ?lease.holders,
            at = %lease.at,
            "a read lease begins"
        );
        self.shared.time.observe(lease.at);
        self.shared.time.catalog_changes_at(lease.catalog);
        self.closed_at.store(lease.at.0, Ordering::SeqCst);
        if !holds {
            return;
        }
        let ends = lease.until.minus_millis(self.shared.offset_millis);
        let half = ends.millis().saturating_sub(lease.at.millis()) / 2;
        self.holding.store(Some(Arc::new(Holding {
            index,
            since: lease.since,
            at: lease.at,
            ends,
            renew: ends.minus_millis(half),
            asked: AtomicBool::new(false),
        })));
    }

    /// The read lease on its way did not come into the log.
    pub(crate) fn read_lease_lost(&self) {
        self.state.lock().offers.under_way = false;
    }

    /// The log reaches to `last`, and that is about to be acknowledged.
    pub(crate) fn end_read_lease(&self, last: u64) {
        let holding = self.holding.load();
        if holding.as_ref().is_some_and(|it| it.index < last) {
            self.holding.store(None);
        }
    }

    /// Up to where all can be read here, whoever holds the lease.
    pub(crate) fn closed_at(&self) -> Timestamp {
        Timestamp(self.closed_at.load(Ordering::SeqCst))
    }

    /// Whether what is newest may be answered here at `now` though the lease is elsewhere. Once it is half over, one
    /// question passes to the lease holder.
    pub(crate) fn has_read_lease(&self, now: Timestamp) -> bool {
        let holding = self.holding.load();
        holding.as_ref().is_some_and(|it| {
            now <= it.ends && (now <= it.renew || it.asked.swap(true, Ordering::Relaxed))
        })
    }

    /// Between these two timestamps nothing is committed and nothing will be, and nothing above them is by `now`.
    pub(crate) fn newest_by_read_lease(
        &self,
        now: impl FnOnce() -> Timestamp,
    ) -> Option<(Timestamp, Timestamp)> {
        let holding = self.holding.load();
        let held = holding.as_ref()?;
        (now() <= held.ends).then_some((held.since, held.at))
    }

    /// See [`txn::kv::Shards::changes`].
    pub(crate) fn changes_by_read_lease(&self, after: Timestamp, upto: Timestamp) -> Changes {
        let holding = self.holding.load();
        match holding.as_ref() {
            Some(held) if after >= held.since && upto <= held.at => Changes::Keys(Vec::new()),
            _ => Changes::Unknown,
        }
    }

    /// What is here is about to go, or worth nothing.
    pub(super) fn stop_reading(&self) {
        self.holding.store(None);
        self.closed_at.store(0, Ordering::SeqCst);
    }
}
