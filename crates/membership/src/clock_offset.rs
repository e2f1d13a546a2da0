//! By how much a store's clock differs from those of its peers.
//!
//! Every parcel tells what its sender's clock showed. On its way some time has passed, so it tells the least by
//! which the sender is ahead; of some parcels in a row the one that was fastest is the best estimate.
//!
//! Leases and timestamps stand on clocks that differ by no more than a bound. A store whose clock is off by most of
//! the bound against a majority of its peers, to the same side, is the one that is wrong. It gives up its leases
//! before the bound is broken, takes none, and goes on as a follower. It is well again once its clock is right.

use std::collections::{BTreeMap, VecDeque};
use types::StoreId;

/// Parcels of a peer that are looked at together: some seconds of an idle one's.
const WINDOW: usize = 8;
/// Percent of the bound at which a clock is off: what is left is for its drift until the leases are gone.
const OFF_PERCENT: i64 = 80;
/// Percent of the bound below which it is right again.
const RIGHT_PERCENT: i64 = 60;

/// See the module.
#[derive(Debug)]
pub struct ClockOffsets {
    bound_millis: i64,
    /// By how much each peer seemed to be ahead, in milliseconds.
    ahead: BTreeMap<StoreId, VecDeque<i64>>,
    off: bool,
}

impl ClockOffsets {
    /// `bound_millis`: by how much clocks may differ.
    pub fn new(bound_millis: u64) -> Self {
        ClockOffsets {
            bound_millis: i64::try_from(bound_millis).unwrap_or(i64::MAX / 100),
            ahead: BTreeMap::new(),
            off: false,
        }
    }

    /// A parcel: what the peer's clock showed when it left, and this store's when it came, in milliseconds.
    pub fn heard(&mut self, peer: StoreId, theirs: i64, own: i64) {
        let seen = self.ahead.entry(peer).or_default();
        if seen.len() == WINDOW {
            seen.pop_front();
        }
        seen.push_back(theirs.saturating_sub(own));
        self.judge();
    }

    pub fn lost(&mut self, peer: StoreId) {
        self.ahead.remove(&peer);
        self.judge();
    }

    /// By how much this clock is ahead of most others, in milliseconds: of the middle one.
    pub fn millis(&self) -> i64 {
        let mut all = self.estimates();
        all.sort_unstable();
        // Towards the side that is less off.
        let low = all.get(all.len().saturating_sub(1) / 2).copied();
        let high = all.get(all.len() / 2).copied();
        match (low, high) {
            (Some(low), Some(high)) if low.abs() <= high.abs() => low,
            (_, Some(high)) => high,
            _ => 0,
        }
    }

    /// Whether this clock is off against a majority.
    pub fn is_off(&self) -> bool {
        self.off
    }

    /// By how much this clock is ahead of each peer's.
    fn estimates(&self) -> Vec<i64> {
        let peers = self.ahead.values().filter(|seen| seen.len() == WINDOW);
        peers
            .filter_map(|seen| seen.iter().max().map(|ahead| -ahead))
            .collect()
    }

    fn judge(&mut self) {
        let percent = if self.off { RIGHT_PERCENT } else { OFF_PERCENT };
        let limit = self.bound_millis.saturating_mul(percent) / 100;
        let estimates = self.estimates();
        // Of all, this store among them: of two alone nobody knows which is wrong.
        let most = |count: usize| count * 2 > estimates.len() + 1;
        let ahead = estimates.iter().filter(|ahead| **ahead >= limit).count();
        let behind = estimates.iter().filter(|ahead| **ahead <= -limit).count();
        self.off = most(ahead) || most(behind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StoreId = StoreId(1);
    const B: StoreId = StoreId(2);

    /// Parcels of both peers, whose clocks are right, while this one is so far ahead; every other one is late.
    fn hear(offsets: &mut ClockOffsets, ahead: i64) -> bool {
        for number in 0..WINDOW as i64 {
            let late = (number % 2) * 2000;
            offsets.heard(A, 10_000, 10_000 + ahead + late + 3);
            offsets.heard(B, 10_000, 10_000 + ahead + late + 1);
        }
        offsets.is_off()
    }

    #[test]
    fn a_clock_that_jumps_is_off_until_it_is_right() {
        let mut offsets = ClockOffsets::new(500);
        assert!(!hear(&mut offsets, 0), "late parcels are no wrong clock");
        assert!(!hear(&mut offsets, 350));
        assert!(hear(&mut offsets, 420));
        assert_eq!(offsets.millis(), 421);
        assert!(hear(&mut offsets, 350), "not yet");
        assert!(!hear(&mut offsets, 250));
        assert!(hear(&mut offsets, -450));
        assert!(!hear(&mut offsets, 0));
    }

    #[test]
    fn one_wrong_peer_of_two_is_the_peers_fault() {
        let mut offsets = ClockOffsets::new(500);
        hear(&mut offsets, 0);
        for _ in 0..WINDOW {
            offsets.heard(B, 10_490, 10_000);
        }
        assert!(!offsets.is_off());
        assert!(offsets.millis().abs() < 10);
        offsets.lost(A);
        assert!(!offsets.is_off(), "of two, who is wrong?");
    }
}
