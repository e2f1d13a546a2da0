//! Read leases: how replicas that do not lead answer what is newest.
//!
//! Where a shard is read much and written little, each question of another node's session to the lease holder is a
//! round trip for an answer that has not changed. So the lease holder lets others answer:
//!
//! ```text
//!   lease holder                                log                          another replica
//!   questions from store 2, no commit   ──►  [read lease: 2, until T]  ──►  applied: answers by itself
//!   for a while, none in flight                                              │
//!   a commit                            ──►  [commit]                  ──►  appended: answers no more,
//!   applied here only once store 2 has it, or T is over                      then acknowledged
//! ```
//!
//! # Why it is safe
//! **What a holder answers is the newest.** A read lease is an entry of the log, so whoever has applied it has all
//! commits before it. None was in flight when it was proposed, so all of them are at or below its `since`, and
//! everything committed later is above its `at`. Whatever comes after it in the log ends the lease of a replica
//! before that replica acknowledges the entry. A leader makes no entry visible after a read lease before each holder
//! has acknowledged one that follows the lease, or the lease's time is over (`Granted::hold_back`). So as long as
//! a holder answers, nothing newer was shown to anybody.
//!
//! **Any later leader knows.** It has every committed entry, and so each read lease that somebody may hold. Before it
//! has a lease of its own, the entry that opens its term must be applied, which waits for the holders like any other.
//! What it may have forgotten by a restart, or never saw because it began with a copy, it takes to be granted to all
//! (`Member::assume_readers`). A shard that is split off inherits the leases of the one it was part of.
//!
//! **Holders are members.** Members change only while nobody holds a read lease, so those that a replica knows are all
//! that there can be.
//!
//! **Time.** A lease ends at `until` on the leader's clock, and earlier by the bound on clocks on its holder's. It
//! is short: a holder that is lost keeps writers waiting no longer than that, once.
//!
//! Reads at or below `at` can be answered by whoever has applied the lease for ever, as by any lease holder: nothing
//! will be committed there.
//!
//! # Renewal
//! When half of the time is over, a holder lets one question pass to the lease holder, which takes it for a wish to
//! go on. Who reads no more lets the lease end; a silent shard sends nothing.

use consensus::{Group, ReplicaId};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::time::Duration;
use types::{StoreId, Timestamp};

/// When a shard is read much and written little.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Questions of a store since the last commit, after which it may answer by itself.
    pub reads: u32,
    /// How long ago the last commit must be.
    pub quiet: Duration,
    /// How long a holder answers, unless it goes on; the bound on clocks comes on top of it.
    pub life: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            // Some milliseconds of a busy session: then a lease's entry costs less than it saves.
            reads: 64,
            quiet: Duration::from_millis(50),
            // A lost holder keeps writers waiting for no longer than the loss of the lease holder would.
            life: Duration::from_millis(700),
        }
    }
}

/// Who asks for a shard at its lease holder.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    /// Counted since this commit.
    after: Timestamp,
    stores: SmallVec<[Asker; 4]>,
}

#[derive(Debug)]
struct Asker {
    store: StoreId,
    reads: u32,
    /// It was given a lease since the last commit: the next question is a wish to go on.
    holds: bool,
    /// It has asked since the last lease.
    asked: bool,
}

impl Demand {
    /// A store has asked; `newest`: the last commit. Whether it should be given a lease.
    pub(crate) fn asked(&mut self, store: StoreId, newest: Timestamp, enough: u32) -> bool {
        if self.after != newest {
            self.after = newest;
            self.stores.clear();
        }
        let known = self.stores.iter().position(|asker| asker.store == store);
        let at = known.unwrap_or_else(|| {
            self.stores.push(Asker {
                store,
                reads: 0,
                holds: false,
                asked: false,
            });
            self.stores.len() - 1
        });
        let asker = &mut self.stores[at];
        asker.reads = asker.reads.saturating_add(1);
        asker.asked = true;
        asker.holds || asker.reads >= enough
    }

    /// Who is to hold the next lease: whoever has asked enough, and holders that have asked since their last one, or
    /// are in the first half of it still.
    pub(crate) fn take(&mut self, enough: u32) -> SmallVec<[StoreId; 4]> {
        let mut holders = SmallVec::new();
        for asker in &mut self.stores {
            let goes_on = asker.holds || asker.reads >= enough;
            if goes_on {
                holders.push(asker.store);
                asker.reads = 0;
            }
            asker.holds = goes_on && asker.asked;
            asker.asked = false;
        }
        holders
    }
}

/// Who may hold read leases of a shard, as its log says. Of a replica in the loop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Granted {
    holders: BTreeMap<ReplicaId, Grant>,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    /// The lease's entry is not after this one.
    index: u64,
    until: Timestamp,
}

impl Granted {
    /// A read lease is applied.
    pub(crate) fn grant(&mut self, holders: &[ReplicaId], index: u64, until: Timestamp) {
        for holder in holders {
            let grant = self
                .holders
                .entry(*holder)
                .or_insert(Grant { index, until });
            // One of an earlier leader may end later.
            *grant = Grant {
                index,
                until: until.max(grant.until),
            };
        }
    }

    /// The same replicas under other names, and with another log.
    pub(crate) fn renamed(
        &self,
        index: u64,
        rename: impl Fn(ReplicaId) -> Option<ReplicaId>,
    ) -> Self {
        let renamed = self.holders.iter().filter_map(|(holder, grant)| {
            let grant = Grant { index, ..*grant };
            Some((rename(*holder)?, grant))
        });
        Granted {
            holders: renamed.collect(),
        }
    }

    /// Whether an entry after all read leases must not be applied yet by this group's leader. Followers show nothing
    /// to anybody, so they need not wait.
    pub(crate) fn hold_back(&mut self, group: &Group, now: Timestamp) -> bool {
        self.holders.retain(|holder, grant| {
            let ended = group.matched(*holder).is_some_and(|at| at > grant.index);
            now <= grant.until && !ended
        });
        group.is_leader() && !self.holders.is_empty()
    }

    /// Of the last lease's entry, or one that follows it.
    pub(crate) fn last_index(&self) -> Option<u64> {
        self.holders.values().map(|grant| grant.index).max()
    }

    /// When the last of them is over.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        self.holders.values().map(|grant| grant.until).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_much_is_given_a_lease_and_keeps_it_while_it_asks() {
        let (one, other) = (StoreId(2), StoreId(3));
        let mut demand = Demand::default();
        let at = Timestamp(7);
        assert!(!demand.asked(one, at, 3));
        assert!(!demand.asked(other, at, 3));
        assert!(!demand.asked(one, at, 3));
        assert!(demand.asked(one, at, 3), "the third question");
        assert_eq!(demand.take(3)[..], [one]);
        // Both go on asking: the one for renewal, the other for the first time.
        assert!(demand.asked(one, at, 3));
        assert!(!demand.asked(other, at, 3));
        assert!(demand.asked(other, at, 3));
        assert_eq!(demand.take(3)[..], [one, other]);
        // Only the other goes on.
        assert!(demand.asked(other, at, 3));
        assert_eq!(demand.take(3)[..], [one, other], "it may be about to ask");
        assert!(demand.asked(other, at, 3));
        assert_eq!(demand.take(3)[..], [other]);
    }

    #[test]
    fn a_commit_begins_the_count_anew() {
        let mut demand = Demand::default();
        assert!(!demand.asked(StoreId(2), Timestamp(7), 2));
        assert!(demand.asked(StoreId(2), Timestamp(7), 2));
        assert!(!demand.asked(StoreId(2), Timestamp(8), 2));
        assert!(demand.take(2).is_empty());
    }
}
