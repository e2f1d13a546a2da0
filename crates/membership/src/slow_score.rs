//! How slow a store's disk is, against those of its peers.
//!
//! Each synced write is a probe: an idle store makes some every second, since heartbeats carry one. Their times are
//! averaged, the newest counting most, and every store tells its peers what its average is. A store is *slow* while
//! its average is both long for anybody and several times that of half of its peers. Where all are slow, because
//! their machine or their load is, nobody is: leases that move would help nobody.
//!
//! A disk that hangs altogether is no matter of scores: its store loses its support by itself.

use std::collections::BTreeMap;
use types::StoreId;

/// What the newest probe counts; of those before, each counts this much less. Ten probes, about three seconds of an
/// idle store's, make all but 3 % of the average.
const NEWEST: f64 = 0.3;
/// Below it nobody is slow, in milliseconds: commits still go through in a third of a second, and a lease that moves
/// costs as much.
const SLOW_MILLIS: f64 = 300.0;
/// So many times as slow as half of the peers are. Disks of one kind differ by less.
const SLOW_TIMES: f64 = 4.0;
/// A slow store is so until both are below this part, so that it does not come and go.
const WELL_AGAIN: f64 = 0.5;

/// See the module.
#[derive(Debug, Default)]
pub struct SlowScore {
    own: f64,
    peers: BTreeMap<StoreId, f64>,
    slow: bool,
}

impl SlowScore {
    /// A synced write took so many milliseconds.
    pub fn synced(&mut self, millis: f64) {
        self.own += NEWEST * (millis - self.own);
        self.judge();
    }

    /// A peer's average, in milliseconds.
    pub fn heard(&mut self, peer: StoreId, millis: f64) {
        self.peers.insert(peer, millis);
        self.judge();
    }

    /// A peer is out of reach: it is no measure.
    pub fn lost(&mut self, peer: StoreId) {
        self.peers.remove(&peer);
        self.judge();
    }

    /// The average of this store's synced writes, in milliseconds.
    pub fn millis(&self) -> f64 {
        self.own
    }

    /// Whether leases should be elsewhere, and others be elected.
    pub fn is_slow(&self) -> bool {
        self.slow
    }

    fn judge(&mut self) {
        let mut peers: Vec<f64> = self.peers.values().copied().collect();
        peers.sort_unstable_by(f64::total_cmp);
        let part = if self.slow { WELL_AGAIN } else { 1.0 };
        // Half of them, and at least one, are as fast as this.
        self.slow = peers
            .get(peers.len().saturating_sub(1) / 2)
            .is_some_and(|peer| self.own >= (SLOW_MILLIS * part).max(peer * SLOW_TIMES * part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StoreId = StoreId(1);
    const B: StoreId = StoreId(2);

    fn sync(score: &mut SlowScore, millis: f64, times: usize) -> bool {
        (0..times).for_each(|_| score.synced(millis));
        score.is_slow()
    }

    #[test]
    fn one_slow_disk_is_slow_until_it_is_clearly_well_again() {
        let mut score = SlowScore::default();
        score.heard(A, 2.0);
        score.heard(B, 3.0);
        assert!(!sync(&mut score, 5.0, 100));
        assert!(!sync(&mut score, 500.0, 1), "one sync alone is an accident");
        assert!(sync(&mut score, 500.0, 9));
        assert!(sync(&mut score, 200.0, 20), "not yet");
        assert!(!sync(&mut score, 5.0, 10));
    }

    #[test]
    fn a_disk_that_hung_for_long_is_not_trusted_at_once() {
        let mut score = SlowScore::default();
        score.heard(A, 2.0);
        assert!(sync(&mut score, 5000.0, 1));
        assert!(sync(&mut score, 2.0, 3));
        assert!(!sync(&mut score, 2.0, 10));
    }

    #[test]
    fn where_all_are_slow_or_alone_nobody_is() {
        let mut score = SlowScore::default();
        assert!(!sync(&mut score, 900.0, 50), "alone");
        score.heard(A, 800.0);
        score.heard(B, 700.0);
        assert!(!score.is_slow());
        score.heard(A, 2.0);
        assert!(score.is_slow(), "one that is faster is enough of two");
        score.lost(A);
        assert!(!score.is_slow());
    }
}
