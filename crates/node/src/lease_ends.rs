//! Where leases end.
//!
//! A lease ends where the support of its leader's voters ends. Many shards have their voters on the same stores, so
//! their leases end together: they share one cell that says when ([`LeaseEnd`]). A heartbeat moves the cells, of
//! which there are as many as sets of stores, and touches no shard.
//!
//! Within an epoch ends only rise. A new epoch starts with new cells: what stood on promises of the old one ends.

use membership::liveness::{Epoch, Liveness, Standing};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use types::{StoreId, Timestamp};

/// When a lease ends. Its clones show the same cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeaseEnd(pub(crate) Arc<AtomicU64>);

impl LeaseEnd {
    pub(crate) fn new(at: Timestamp) -> Self {
        LeaseEnd(Arc::new(AtomicU64::new(at.0)))
    }

    fn set(&self, at: Timestamp) {
        self.0.store(at.0, Ordering::SeqCst);
    }

    fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// Some of a group's voters: a majority of them must stand behind the leader.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Voters {
    /// The stores of those that are bound to the leader, ascending.
    pub(crate) bound: SmallVec<[StoreId; 5]>,
    pub(crate) count: usize,
}

/// On what a lease stands: its group's voters, and beside them the outgoing ones while they change.
pub(crate) type Basis = SmallVec<[Voters; 1]>;

/// See the module.
pub(crate) struct LeaseEnds {
    /// By how much clocks may differ, in milliseconds.
    offset_millis: u64,
    epoch: Epoch,
    ends: BTreeMap<Basis, LeaseEnd>,
    forever: LeaseEnd,
    /// Who supported whom when the shards were last looked at.
    seen: Option<Standing>,
}

impl LeaseEnds {
    pub(crate) fn new(offset_millis: u64) -> Self {
        LeaseEnds {
            offset_millis,
            epoch: Epoch::default(),
            ends: BTreeMap::new(),
            forever: LeaseEnd::new(Timestamp::MAX),
            seen: None,
        }
    }

    /// Of groups of one voter.
    pub(crate) fn forever(&self) -> LeaseEnd {
        self.forever.clone()
    }

    /// Of leases that stand on `basis` in the present epoch.
    pub(crate) fn on(&mut self, basis: Basis, liveness: &Liveness) -> LeaseEnd {
        self.begin_epoch(liveness);
        let offset_millis = self.offset_millis;
        let end = self.ends.entry(basis);
        let end = end.or_insert_with_key(|basis| {
            LeaseEnd::new(supported_until(basis, liveness, offset_millis))
        });
        end.clone()
    }

    /// Moves the ends to where support ends now. `true`: who supports whom has changed since the last call, so that
    /// every shard must be looked at.
    pub(crate) fn refresh(&mut self, liveness: &Liveness) -> bool {
        self.begin_epoch(liveness);
        self.ends.retain(|_, end| end.is_shared());
        for (basis, end) in &self.ends {
            end.set(supported_until(basis, liveness, self.offset_millis));
        }
        let standing = Some(liveness.standing());
        let changed = self.seen != standing;
        self.seen = standing;
        changed
    }

    fn begin_epoch(&mut self, liveness: &Liveness) {
        if self.epoch != liveness.epoch() {
            self.epoch = liveness.epoch();
            for end in std::mem::take(&mut self.ends).values() {
                end.set(Timestamp::ZERO);
            }
        }
    }
}

/// Until when a majority of each set is bound, less what the supporters' clocks may be ahead of this one.
fn supported_until(basis: &Basis, liveness: &Liveness, offset_millis: u64) -> Timestamp {
    let until = basis.iter().map(|voters| {
        let until = liveness.supported_by_majority(&voters.bound, voters.count);
        until.unwrap_or_default()
    });
    let until = until.min().unwrap_or_default();
    until.minus_millis(offset_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use membership::liveness::record::Record;
    use membership::liveness::{Kind, Message, Options, Support};

    const ME: StoreId = StoreId(1);

    fn millis(millis: u64) -> Timestamp {
        Timestamp(millis << 16)
    }

    /// Store 1, which has asked stores 2 and 3 at 1 s.
    fn asking() -> Liveness {
        let mut liveness = Liveness::new(ME, Record::default(), Options::default(), millis(1000));
        liveness.ask(StoreId(2));
        liveness.ask(StoreId(3));
        let effects = liveness.tick(millis(1000));
        liveness.persisted(effects.record.expect("what is asked for is kept"));
        liveness
    }

    fn promise(liveness: &mut Liveness, from: u64, epoch: Epoch, expiry: Timestamp) {
        liveness.step([Message {
            from: StoreId(from),
            to: ME,
            kind: Kind::Reply,
            support: Support { epoch, expiry },
        }]);
    }

    fn all_of(stores: &[u64]) -> Basis {
        let bound = stores.iter().map(|store| StoreId(*store)).collect();
        Basis::from_iter([Voters { bound, count: 3 }])
    }

    #[test]
    fn leases_on_the_same_stores_move_together_and_end_with_the_epoch() {
        let mut liveness = asking();
        let epoch = liveness.epoch();
        let mut ends = LeaseEnds::new(100);
        let (one, other) = (
            ends.on(all_of(&[1, 2, 3]), &liveness),
            ends.on(all_of(&[1, 2, 3]), &liveness),
        );
        let half = ends.on(all_of(&[1]), &liveness);
        let show = |end: &LeaseEnd| end.0.load(Ordering::SeqCst) >> 16;
        assert_eq!((show(&one), show(&other), show(&half)), (0, 0, 0));

        promise(&mut liveness, 2, epoch, millis(1900));
        assert!(ends.refresh(&liveness), "a new supporter is news");
        assert_eq!((show(&one), show(&other), show(&half)), (1800, 1800, 0));

        promise(&mut liveness, 2, epoch, millis(1950));
        assert!(!ends.refresh(&liveness), "more of the same is none");
        assert_eq!(show(&one), 1850);

        promise(&mut liveness, 2, Epoch(epoch.0 + 1), Timestamp::ZERO);
        assert!(ends.refresh(&liveness));
        assert_eq!(show(&one), 0);
        // What is promised in the new epoch is nothing to leases of the old one.
        promise(&mut liveness, 2, Epoch(epoch.0 + 1), millis(3000));
        promise(&mut liveness, 3, Epoch(epoch.0 + 1), millis(3000));
        ends.refresh(&liveness);
        assert_eq!(show(&one), 0);
        let anew = ends.on(all_of(&[1, 2, 3]), &liveness);
        assert_eq!(show(&anew), 2900);
    }
}
