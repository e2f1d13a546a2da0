//! Where leases end.
//!
//! A lease ends where the support of its leader's voters ends. Many shards have their voters on the same stores, so
//! their leases end together: they share one cell that says when ([`LeaseEnd`]). A heartbeat moves the cells, of
//! which there are as many as sets of stores, and touches no shard.
//!
//! Ends only rise while nobody on whom they stand withdraws. Who gives support again is another spell, and so another
//! cell: the cells of the spell before end.

use membership::liveness::{Liveness, Spell, Standing};
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
    /// The stores of those that are bound to the leader, ascending, and by which spell of support.
    pub(crate) bound: SmallVec<[(StoreId, Spell); 3]>,
    pub(crate) count: usize,
}

impl Voters {
    pub(crate) fn is_majority(&self) -> bool {
        self.bound.len() > self.count / 2
    }
}

/// On what a lease stands: its group's voters, and beside them the outgoing ones while they change.
pub(crate) type Basis = SmallVec<[Voters; 1]>;

/// See the module.
pub(crate) struct LeaseEnds {
    /// By how much clocks may differ, in milliseconds.
    offset_millis: u64,
    ends: BTreeMap<Basis, LeaseEnd>,
    forever: LeaseEnd,
    /// Who supported whom when the shards were last looked at.
    seen: Option<Standing>,
}

impl LeaseEnds {
    pub(crate) fn new(offset_millis: u64) -> Self {
        LeaseEnds {
            offset_millis,
            ends: BTreeMap::new(),
            forever: LeaseEnd::new(Timestamp::MAX),
            seen: None,
        }
    }

    /// Of groups of one voter.
    pub(crate) fn forever(&self) -> LeaseEnd {
        self.forever.clone()
    }

    /// Of leases that stand on `basis`, whose spells are the present ones.
    pub(crate) fn on(&mut self, basis: Basis, liveness: &Liveness) -> LeaseEnd {
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
        let offset_millis = self.offset_millis;
        self.ends.retain(|basis, end| {
            let bound = basis.iter().flat_map(|voters| &voters.bound);
            let mut bound = bound.copied();
            let stands = bound.all(|(store, spell)| liveness.spell(store) == spell);
            end.set(match stands {
                true => supported_until(basis, liveness, offset_millis),
                false => Timestamp::ZERO,
            });
            stands && end.is_shared()
        });
        let standing = Some(liveness.standing());
        let changed = self.seen != standing;
        self.seen = standing;
        changed
    }
}

/// Until when a majority of each set is bound, less what the supporters' clocks may be ahead of this one.
fn supported_until(basis: &Basis, liveness: &Liveness, offset_millis: u64) -> Timestamp {
    let until = basis.iter().map(|voters| {
        let stores: SmallVec<[StoreId; 3]> = voters.bound.iter().map(|(store, _)| *store).collect();
        let until = liveness.supported_by_majority(&stores, voters.count);
        until.unwrap_or_default()
    });
    let until = until.min().unwrap_or_default();
    until.minus_millis(offset_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use membership::liveness::record::Record;
    use membership::liveness::{Epoch, Kind, Message, Options, Support};

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
        liveness.step(
            millis(1000),
            [Message {
                from: StoreId(from),
                to: ME,
                kind: Kind::Reply,
                support: Support { epoch, expiry },
            }],
        );
    }

    /// All of these stores, in the present spell of each.
    fn all_of(liveness: &Liveness, stores: &[u64]) -> Basis {
        let bound = stores.iter().map(|store| {
            let store = StoreId(*store);
            (store, liveness.spell(store))
        });
        Basis::from_iter([Voters {
            bound: bound.collect(),
            count: 3,
        }])
    }

    fn show(end: &LeaseEnd) -> u64 {
        end.0.load(Ordering::SeqCst) >> 16
    }

    #[test]
    fn leases_on_the_same_stores_move_together_and_end_with_a_supporters_spell() {
        let mut liveness = asking();
        let epoch = liveness.epoch();
        promise(&mut liveness, 2, epoch, millis(1900));
        let mut ends = LeaseEnds::new(100);
        assert!(ends.refresh(&liveness), "a supporter is news");
        let both = all_of(&liveness, &[1, 2]);
        let (one, other) = (ends.on(both.clone(), &liveness), ends.on(both, &liveness));
        let alone = ends.on(all_of(&liveness, &[1]), &liveness);
        assert_eq!((show(&one), show(&other), show(&alone)), (1800, 1800, 0));

        promise(&mut liveness, 2, epoch, millis(1950));
        assert!(!ends.refresh(&liveness), "more of the same is none");
        assert_eq!((show(&one), show(&other)), (1850, 1850));

        promise(&mut liveness, 2, Epoch(epoch.0 + 1), Timestamp::ZERO);
        assert!(ends.refresh(&liveness));
        assert_eq!(show(&one), 0);
        // What it promises then is nothing to leases that stood on it before.
        promise(&mut liveness, 2, Epoch(epoch.0 + 1), millis(3000));
        ends.refresh(&liveness);
        assert_eq!(show(&one), 0);
        let anew = ends.on(all_of(&liveness, &[1, 2]), &liveness);
        assert_eq!(show(&anew), 1900);
    }

    #[test]
    fn a_lease_outlives_the_withdrawal_of_one_of_three() {
        let mut liveness = asking();
        let epoch = liveness.epoch();
        promise(&mut liveness, 2, epoch, millis(1900));
        promise(&mut liveness, 3, epoch, millis(1900));
        let mut ends = LeaseEnds::new(100);
        let end = ends.on(all_of(&liveness, &[1, 2]), &liveness);
        // Store 3 withdraws, and store 2 promises in the next epoch before its promise of the old one is over.
        promise(&mut liveness, 3, Epoch(epoch.0 + 1), Timestamp::ZERO);
        ends.refresh(&liveness);
        assert_eq!(show(&end), 1800);
        promise(&mut liveness, 2, Epoch(epoch.0 + 1), millis(1990));
        ends.refresh(&liveness);
        assert_eq!(show(&end), 1890);
    }
}
