//! What a leader's lease stands on, and what it allows.

use super::Member;
use crate::inbox::Proposal;
use crate::lease_ends::{Basis, LeaseEnds, Voters};
use crate::node_clock::NodeClock;
use crate::replica_record::Presence;
use crate::shard_server::LeaseId;
use bytes::Bytes;
use consensus::{Command, ReplicaId};
use membership::liveness::{Liveness, Spell};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use types::{StoreId, Timestamp};

/// How long a lease that was interrupted is waited for: some heartbeats.
const LAPSE_PATIENCE_MILLIS: u64 = 2_000;

/// What a leader's lease stands on.
///
/// A voter's support keeps it from helping to replace the leader only if the voter knows that this leader is who its
/// store supports: if it has acknowledged an entry of the term *after* its store gave the support. Before, it may
/// have voted for somebody else. So a voter counts once its log matches the leader's beyond where the leader's
/// log ended when the support was first heard of. For a supporter that has withdrawn all of that begins again: it
/// may have voted before it gave support once more. As long as a majority has not, nobody else was elected, and the
/// lease is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ground {
    pub(crate) term: u64,
    /// The entry that opened the term. Once it is applied, all that was ever committed is.
    pub(crate) index: u64,
    /// The lease is granted.
    pub(crate) granted: bool,
    /// Another replica was asked to take over. Whether it did is not known, so there is no lease in this
    /// term any more.
    pub(crate) given_away: bool,
    bound: BTreeMap<StoreId, Bound>,
}

/// When a supporter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    spell: Spell,
    /// Beyond which index the log of its replica must reach.
    beyond: u64,
}

impl Member {
    /// The stores of other voters that support this one, and in which spell.
    fn supporters(&self, liveness: &Liveness) -> Vec<(StoreId, Spell)> {
        let membership = self.group.membership();
        let voters = membership.voters.iter().chain(&membership.outgoing);
        let stores = voters.filter_map(|id| self.home(*id));
        stores
            .filter(|store| {
                let until = liveness.supported_by(*store);
                until.is_some_and(|until| until > Timestamp::ZERO)
            })
            .map(|store| (store, liveness.spell(store)))
            .collect()
    }

    /// Which of the voters are bound to this leader.
    fn basis(&self, ground: &Ground) -> Basis {
        let is_bound = |id: ReplicaId, store: StoreId| {
            if id == self.record.id {
                return Some((store, Spell::default()));
            }
            let bound = ground.bound.get(&store)?;
            let matched = self.group.matched(id)?;
            (matched > bound.beyond).then_some((store, bound.spell))
        };
        let of = |ids: &[ReplicaId]| -> Voters {
            let stores = ids.iter().filter_map(|id| is_bound(*id, self.home(*id)?));
            let mut bound: SmallVec<[(StoreId, Spell); 3]> = stores.collect();
            bound.sort_unstable();
            Voters {
                bound,
                count: ids.len(),
            }
        };
        let membership = self.group.membership();
        let mut basis = Basis::new();
        basis.push(of(&membership.voters));
        if membership.is_joint() {
            basis.push(of(&membership.outgoing));
        }
        basis
    }

    /// Brings the lease in line with the group and with who supports this store. `true`: an entry was proposed
    /// that binds supporters.
    pub(crate) fn update_lease(
        &mut self,
        liveness: &Liveness,
        ends: &mut LeaseEnds,
        clock: &NodeClock,
    ) -> bool {
        if !self.group.is_leader() || self.record.presence == Presence::Damaged {
            if self.ground.take().is_some() {
                self.replica.revoke();
            }
            return false;
        }
        let term = self.group.term();
        let alone = self.is_alone();
        let last = self.group.last_index();
        let mut ground = match self.ground.take() {
            Some(ground) if ground.term == term => ground,
            former => {
                if former.is_some() && !alone {
                    // Deposed and elected again since the last look; others may have led in between.
                    self.replica.revoke();
                }
                // Who supports this store already is bound by the entry that opens the term.
                let supporters = self.supporters(liveness).into_iter();
                let beyond = last - 1;
                Ground {
                    term,
                    index: last,
                    granted: false,
                    given_away: false,
                    bound: supporters
                        .map(|(store, spell)| (store, Bound { spell, beyond }))
                        .collect(),
                }
            }
        };
        if ground.given_away {
            self.ground = Some(ground);
            return false;
        }
        let known = ground.bound.len();
        let still = |store: &StoreId, bound: &Bound| liveness.spell(*store) == bound.spell;
        ground.bound.retain(|store, bound| still(store, bound));
        let lost_some = ground.bound.len() < known;
        if lost_some && !alone && !self.basis(&ground).iter().all(Voters::is_majority) {
            // Between the one who withdrew and the others, somebody else may have been elected. If not, a majority
            // will be bound once more, in this term.
            self.replica
                .lapse(clock.peek().plus_millis(LAPSE_PATIENCE_MILLIS));
            self.confirmed += 1;
            ground.granted = false;
            // What is in flight is below the timestamps that are given then.
            ground.index = last;
        }
        let mut proposed = false;
        if !alone {
            let supporters = self.supporters(liveness).into_iter();
            let new: Vec<(StoreId, Spell)> = supporters
                .filter(|(store, _)| !ground.bound.contains_key(store))
                .collect();
            if !new.is_empty() && self.group.propose([Bytes::new()]).is_some() {
                let beyond = last;
                let new = new.into_iter();
                ground
                    .bound
                    .extend(new.map(|(store, spell)| (store, Bound { spell, beyond })));
                proposed = true;
            }
        }
        let end = match alone {
            true => ends.forever(),
            false => ends.on(self.basis(&ground), liveness),
        };
        let lease = LeaseId {
            term,
            confirmed: self.confirmed,
        };
        let held = self.replica.lease();
        // A group of one voter has nobody else who could have held the lease meanwhile.
        if held == Some(lease) || (held.is_some() && alone) {
            self.replica.extend(end);
            ground.granted = true;
        } else if self.group.log().applied().position.index >= ground.index {
            self.replica.grant(lease, clock.now(), end);
            ground.granted = true;
        }
        self.ground = Some(ground);
        proposed
    }

    /// Ends a lease that is over. Who supports this store again by now must be bound anew before there is another one.
    pub(crate) fn give_lease_up(&mut self) {
        if let Some(ground) = &mut self.ground {
            ground.granted = false;
            ground.bound.clear();
            ground.index = self.group.last_index();
        }
        self.confirmed += 1;
        self.replica.revoke();
    }

    /// Whether what was sequenced under this lease may go into the log now. After another replica has led, it
    /// would be below what that one committed.
    pub(crate) fn takes(&self, proposal: &Proposal) -> bool {
        if !self.group.is_leader() || self.group.is_transferring() {
            return false;
        }
        let lease = proposal.lease;
        // Parts have no timestamp.
        let is_part = matches!(proposal.command, Command::Part(_) | Command::Abandon(_));
        let stands = self.ground.as_ref().is_some_and(|ground| {
            let is_held = ground.granted && self.confirmed == lease.confirmed;
            !ground.given_away
                && ground.term == self.group.term()
                && ground.term == lease.term
                && (is_held || is_part)
        });
        stands || self.is_alone()
    }

    /// Whether the lease's time is over for good, and somebody waits for what was begun under it. A heartbeat that
    /// is late on a busy machine is no reason to give anything up.
    pub(crate) fn has_lease_in_vain(&self, now: Timestamp) -> bool {
        let ground = self.ground.as_ref();
        let granted = ground.is_some_and(|ground| ground.granted && !ground.given_away);
        let over = !self.is_alone() && !self.replica.lease_may_go_on(now);
        granted && over && self.replica.has_waiting()
    }
}
