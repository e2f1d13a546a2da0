//! Which of several targets to use next: a node for a client's connection, a replica for a read.
//!
//! A [`LoadBalancer`] keeps what it has seen of each target: connections (or requests) in hand, the
//! latency of late, whether it is healthy and draining. A [`Policy`] chooses by that:
//!
//! | policy             | chooses                                                                   |
//! | ------------------ | ------------------------------------------------------------------------- |
//! | round robin        | each in turn                                                              |
//! | random             | any, each as likely                                                       |
//! | least connections  | the one with the fewest in hand; among equals, in turn                     |
//! | weighted           | in turn, each as often as its weight says, spread evenly                   |
//! | latency            | of two drawn at random the one that promises the sooner answer (the power of two choices): its latency times what it has in hand |
//!
//! Only available targets are chosen: healthy and not draining. If none is healthy, those that do not
//! drain are tried all the same: an opinion that everybody is dead is more likely wrong than right.
//!
//! Pure: time and dice are arguments.

use std::collections::BTreeMap;
use std::fmt::Debug;

/// How much one observed latency moves the average: about the last ten count.
const LATENCY_GAIN: f64 = 0.2;
/// Latency of a target that was never used, in seconds: low, so that it is tried soon.
const LATENCY_UNKNOWN_SECONDS: f64 = 1e-4;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    RoundRobin,
    Random,
    #[default]
    LeastConnections,
    Weighted,
    Latency,
}

/// What is known of a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// How many shares of the load it takes under [`Policy::Weighted`]. 0: none, unless nobody else is left.
    pub weight: u32,
    pub healthy: bool,
    /// It finishes what it has and takes nothing new.
    pub draining: bool,
    /// Connections or requests in hand.
    pub open: u64,
    /// All that it was ever chosen for.
    pub chosen: u64,
    pub failed: u64,
    /// A moving average, once there is one.
    pub latency_seconds: Option<f64>,
    /// Smooth weighted round robin: what it is owed.
    credit: i64,
}

impl Default for Target {
    fn default() -> Self {
        Target {
            weight: 1,
            healthy: true,
            draining: false,
            open: 0,
            chosen: 0,
            failed: 0,
            latency_seconds: None,
            credit: 0,
        }
    }
}

/// See the module. `K` names a target.
#[derive(Clone, Debug)]
pub struct LoadBalancer<K> {
    policy: Policy,
    targets: BTreeMap<K, Target>,
    /// The last one given in turn.
    last: Option<K>,
}

impl<K: Copy + Ord + Debug> LoadBalancer<K> {
    pub fn new(policy: Policy) -> Self {
        LoadBalancer {
            policy,
            targets: BTreeMap::new(),
            last: None,
        }
    }

    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Adds a target, or gives it another weight.
    pub fn put(&mut self, key: K, weight: u32) {
        self.targets.entry(key).or_default().weight = weight;
    }

    pub fn remove(&mut self, key: K) {
        self.targets.remove(&key);
    }

    pub fn set_healthy(&mut self, key: K, healthy: bool) {
        if let Some(target) = self.targets.get_mut(&key) {
            target.healthy = healthy;
        }
    }

    pub fn set_draining(&mut self, key: K, draining: bool) {
        if let Some(target) = self.targets.get_mut(&key) {
            target.draining = draining;
        }
    }

    pub fn targets(&self) -> &BTreeMap<K, Target> {
        &self.targets
    }

    /// Chooses a target that is not in `tried`, and counts it as in hand until [`LoadBalancer::done`]
    /// or [`LoadBalancer::release`].
    /// `None`: there is none left.
    pub fn choose(&mut self, tried: &[K], dice: impl FnMut() -> u64) -> Option<K> {
        let candidates = self.candidates(tried);
        let key = match self.policy {
            Policy::RoundRobin => self.in_turn(&candidates),
            Policy::Random => pick(&candidates, dice),
            Policy::LeastConnections => self.least_connections(&candidates),
            Policy::Weighted => self.weighted(&candidates),
            Policy::Latency => self.sooner_of_two(&candidates, dice),
        }?;
        let target = self.targets.get_mut(&key)?;
        target.open += 1;
        target.chosen += 1;
        self.last = Some(key);
        Some(key)
    }

    /// What was given to `key` has ended: with an answer after so long, or without one.
    pub fn done(&mut self, key: K, latency_seconds: Option<f64>) {
        match latency_seconds {
            None => self.failed(key),
            Some(latency_seconds) => self.observe(key, latency_seconds),
        }
        self.release(key);
    }

    /// `key` answered after so long. What it has in hand stays the same: the answer may be to somebody else's
    /// question, or the beginning of a long connection.
    pub fn observe(&mut self, key: K, latency_seconds: f64) {
        if let Some(target) = self.targets.get_mut(&key) {
            let old = target.latency_seconds.unwrap_or(latency_seconds);
            target.latency_seconds = Some(old + LATENCY_GAIN * (latency_seconds - old));
        }
    }

    /// Counts a failure of `key`.
    pub fn failed(&mut self, key: K) {
        if let Some(target) = self.targets.get_mut(&key) {
            target.failed += 1;
        }
    }

    /// `key` has one less in hand.
    pub fn release(&mut self, key: K) {
        if let Some(target) = self.targets.get_mut(&key) {
            target.open = target.open.saturating_sub(1);
        }
    }

    fn candidates(&self, tried: &[K]) -> Vec<K> {
        let usable = |want: fn(&Target) -> bool| -> Vec<K> {
            let all = self.targets.iter();
            all.filter(|(key, target)| want(target) && !tried.contains(key))
                .map(|(key, _)| *key)
                .collect()
        };
        let ranks: [fn(&Target) -> bool; 3] = [
            |target| target.healthy && !target.draining && target.weight > 0,
            |target| target.healthy && !target.draining,
            |target| !target.draining,
        ];
        let mut found = ranks.into_iter().map(usable);
        found.find(|list| !list.is_empty()).unwrap_or_default()
    }

    fn in_turn(&self, candidates: &[K]) -> Option<K> {
        let next = candidates.iter().find(|key| Some(**key) > self.last);
        next.or(candidates.first()).copied()
    }

    fn least_connections(&self, candidates: &[K]) -> Option<K> {
        let open = |key: &K| self.targets.get(key).map_or(0, |target| target.open);
        let least = candidates.iter().map(open).min()?;
        let mut equals = candidates.to_vec();
        equals.retain(|key| open(key) == least);
        self.in_turn(&equals)
    }

    /// Smooth weighted round robin: each is owed its weight every time, and who is owed most pays all.
    fn weighted(&mut self, candidates: &[K]) -> Option<K> {
        let mut total = 0;
        let mut best: Option<(i64, K)> = None;
        for key in candidates {
            let Some(target) = self.targets.get_mut(key) else {
                continue;
            };
            // Of targets without weight, tried because nobody else is left, each counts the same.
            let weight = i64::from(target.weight.max(1));
            total += weight;
            target.credit += weight;
            if best.is_none_or(|(credit, _)| target.credit > credit) {
                best = Some((target.credit, *key));
            }
        }
        let (_, key) = best?;
        if let Some(target) = self.targets.get_mut(&key) {
            target.credit -= total;
        }
        Some(key)
    }

    fn sooner_of_two(&self, candidates: &[K], mut dice: impl FnMut() -> u64) -> Option<K> {
        let first = pick(candidates, &mut dice)?;
        let others: Vec<K> = candidates.iter().copied().filter(|k| *k != first).collect();
        let Some(second) = pick(&others, dice) else {
            return Some(first);
        };
        let promise = |key: &K| {
            let target = self.targets.get(key).copied().unwrap_or_default();
            let latency = target.latency_seconds.unwrap_or(LATENCY_UNKNOWN_SECONDS);
            latency * (target.open + 1) as f64
        };
        Some(match promise(&second) < promise(&first) {
            true => second,
            false => first,
        })
    }
}

fn pick<K: Copy>(candidates: &[K], mut dice: impl FnMut() -> u64) -> Option<K> {
    let count = u64::try_from(candidates.len()).ok().filter(|n| *n > 0)?;
    candidates.get((dice() % count) as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancer(policy: Policy) -> LoadBalancer<u8> {
        let mut balancer = LoadBalancer::new(policy);
        [1, 2, 3].iter().for_each(|key| balancer.put(*key, 1));
        balancer
    }

    /// A generator (splitmix64).
    fn dice(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }

    fn chosen(balancer: &mut LoadBalancer<u8>, times: usize) -> Vec<u8> {
        let mut dice = dice(7);
        let mut choose = || balancer.choose(&[], &mut dice).expect("a target");
        (0..times).map(|_| choose()).collect()
    }

    #[test]
    fn round_robin_gives_each_its_turn() {
        let mut balancer = balancer(Policy::RoundRobin);
        assert_eq!(chosen(&mut balancer, 5), [1, 2, 3, 1, 2]);
        balancer.remove(3);
        assert_eq!(chosen(&mut balancer, 2), [1, 2]);
    }

    #[test]
    fn random_gives_each_about_as_much() {
        let mut balancer = balancer(Policy::Random);
        chosen(&mut balancer, 3000);
        for (key, target) in balancer.targets() {
            assert!((900..1100).contains(&target.chosen), "{key}: {target:?}");
        }
    }

    #[test]
    fn least_connections_fills_up_who_has_the_fewest() {
        let mut balancer = balancer(Policy::LeastConnections);
        chosen(&mut balancer, 6);
        balancer.done(2, Some(0.001));
        balancer.done(2, Some(0.001));
        assert_eq!(chosen(&mut balancer, 2), [2, 2]);
        let open: Vec<u64> = balancer.targets().values().map(|t| t.open).collect();
        assert_eq!(open, [2, 2, 2]);
    }

    #[test]
    fn weights_are_kept_and_spread() {
        let mut balancer = balancer(Policy::Weighted);
        balancer.put(1, 5);
        assert_eq!(chosen(&mut balancer, 7), [1, 1, 2, 1, 3, 1, 1]);
    }

    #[test]
    fn the_slow_get_little() {
        let mut balancer = balancer(Policy::Latency);
        let mut dice = dice(11);
        for _ in 0..900 {
            let key = balancer.choose(&[], &mut dice).expect("a target");
            balancer.done(key, Some(if key == 2 { 0.050 } else { 0.001 }));
        }
        let share = |key| balancer.targets()[&key].chosen;
        assert!(share(2) < 20, "{}", share(2));
        assert!(share(1) > 350 && share(3) > 350);
    }

    #[test]
    fn the_sick_and_the_draining_are_left_out_while_others_are_there() {
        for policy in [
            Policy::RoundRobin,
            Policy::Random,
            Policy::LeastConnections,
            Policy::Weighted,
            Policy::Latency,
        ] {
            let mut balancer = balancer(policy);
            balancer.set_healthy(1, false);
            balancer.set_draining(2, true);
            assert_eq!(chosen(&mut balancer, 3), [3, 3, 3], "{policy:?}");
            // Nobody else is left: who is said to be sick is tried, who drains is not.
            let mut dice = dice(1);
            assert_eq!(balancer.choose(&[3], &mut dice), Some(1));
            assert_eq!(balancer.choose(&[3, 1], &mut dice), None);
        }
    }
}
