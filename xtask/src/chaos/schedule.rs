//! Which fault strikes when: a list drawn from a seed.
//!
//! Faults last some seconds, and between them the cluster has some seconds to recover. Sometimes two come together.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

/// Load without faults at the beginning.
const LEAD_MILLIS: u64 = 3000;
const FAULT_MILLIS: std::ops::RangeInclusive<u64> = 3000..=8000;
const REST_MILLIS: std::ops::RangeInclusive<u64> = 2000..=6000;
/// How often a second fault comes with the first.
const SECOND_PROBABILITY: f64 = 0.2;
const LOSS_PERCENT: std::ops::RangeInclusive<u32> = 10..=40;
const DELAY_MILLIS: std::ops::RangeInclusive<u32> = 20..=200;
/// Jumps of a clock that a cluster must stand without losing its order.
const SMALL_JUMP_MILLIS: std::ops::RangeInclusive<i64> = -200..=200;
/// Jumps that a cluster must notice.
const LARGE_JUMP_MILLIS: std::ops::RangeInclusive<i64> = -60_000..=60_000;

/// The kinds of fault, as they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// `kill -9` of one node.
    Kill,
    /// `kill -9` of all nodes at once.
    KillAll,
    /// SIGTERM of one node.
    Stop,
    /// SIGSTOP of one node.
    Pause,
    /// One node is cut off from the others.
    CutOne,
    /// The node with most leases is cut off from the others.
    CutHolder,
    /// The nodes fall into two groups.
    CutHalves,
    /// One node hears the others and is not heard, or the other way round.
    OneWay,
    /// Every node reaches a majority, and no two the same one.
    Ring,
    /// Packets are lost.
    Loss,
    /// Packets are late and overtake each other.
    Delay,
    /// What one node sends goes through a thin pipe.
    Slow,
    /// The disk of the last node is full.
    DiskFull,
    /// A clock jumps a little.
    Clock,
    /// A clock jumps far.
    ClockFar,
}

impl Kind {
    /// The name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or(String::new(), |value| value.get_name().to_owned())
    }

    pub fn needs_namespaces(self) -> bool {
        use Kind::{CutHalves, CutHolder, CutOne, Delay, Loss, OneWay, Ring, Slow};
        matches!(
            self,
            CutOne | CutHolder | CutHalves | OneWay | Ring | Loss | Delay | Slow
        )
    }

    pub fn needs_clocks(self) -> bool {
        matches!(self, Kind::Clock | Kind::ClockFar)
    }

    /// The smallest cluster that the fault makes sense in.
    fn nodes(self) -> usize {
        match self {
            Kind::Ring => 4,
            kind if kind.needs_namespaces() => 2,
            _ => 1,
        }
    }
}

/// A fault with its particulars. Nodes are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill(usize),
    KillAll,
    Stop(usize),
    Pause(usize),
    CutOne(usize),
    CutHolder,
    CutHalves(Vec<usize>),
    /// Nothing of the node is heard.
    Mute(usize),
    /// The node hears nothing.
    Deaf(usize),
    Ring,
    Loss(u32),
    Delay(u32),
    Slow(usize),
    DiskFull(usize),
    Clock {
        node: usize,
        millis: i64,
    },
}

impl Fault {
    /// The node that may end by itself because of this fault.
    pub fn may_end(&self) -> Option<usize> {
        match self {
            Fault::DiskFull(node) => Some(*node),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill(node) => write!(out, "kill -9 of node {node}"),
            Fault::KillAll => write!(out, "kill -9 of all nodes"),
            Fault::Stop(node) => write!(out, "SIGTERM of node {node}"),
            Fault::Pause(node) => write!(out, "SIGSTOP of node {node}"),
            Fault::CutOne(node) => write!(out, "node {node} cut off"),
            Fault::CutHolder => write!(out, "the lease holder cut off"),
            Fault::CutHalves(group) => write!(out, "nodes {group:?} parted from the others"),
            Fault::Mute(node) => write!(out, "node {node} is not heard"),
            Fault::Deaf(node) => write!(out, "node {node} hears nothing"),
            Fault::Ring => write!(out, "ring of majorities"),
            Fault::Loss(percent) => write!(out, "{percent} % of packets lost"),
            Fault::Delay(millis) => write!(out, "packets {millis} to {} ms late", 2 * millis),
            Fault::Slow(node) => write!(out, "thin pipe out of node {node}"),
            Fault::DiskFull(node) => write!(out, "disk of node {node} full"),
            Fault::Clock { node, millis } => write!(out, "clock of node {node} {millis:+} ms"),
        }
    }
}

/// Some faults, and when they begin and end, in milliseconds of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub begin: u64,
    pub end: u64,
    pub faults: Vec<(Kind, Fault)>,
}

/// The steps of a run; all of them end before it does.
pub fn draw(rng: &mut SmallRng, time: Duration, nodes: usize, kinds: &[Kind]) -> Vec<Step> {
    let kinds: Vec<Kind> = kinds
        .iter()
        .copied()
        .filter(|kind| kind.nodes() <= nodes)
        .collect();
    let mut steps = Vec::new();
    let mut begin = LEAD_MILLIS;
    while !kinds.is_empty() {
        let end = begin + rng.random_range(FAULT_MILLIS);
        if end > time.as_millis() as u64 {
            break;
        }
        let mut faults = Vec::new();
        let count = if rng.random_bool(SECOND_PROBABILITY) {
            2
        } else {
            1
        };
        for kind in kinds.choose_multiple(rng, count) {
            faults.push((*kind, fault(rng, *kind, nodes)));
        }
        steps.push(Step { begin, end, faults });
        begin = end + rng.random_range(REST_MILLIS);
    }
    steps
}

fn fault(rng: &mut SmallRng, kind: Kind, nodes: usize) -> Fault {
    let node = rng.random_range(1..=nodes);
    match kind {
        Kind::Kill => Fault::Kill(node),
        Kind::KillAll => Fault::KillAll,
        Kind::Stop => Fault::Stop(node),
        Kind::Pause => Fault::Pause(node),
        Kind::CutOne => Fault::CutOne(node),
        Kind::CutHolder => Fault::CutHolder,
        Kind::CutHalves => {
            let all: Vec<usize> = (1..=nodes).collect();
            let size = rng.random_range(1..=(nodes / 2).max(1));
            let mut group: Vec<usize> = all.choose_multiple(rng, size).copied().collect();
            group.sort_unstable();
            Fault::CutHalves(group)
        }
        Kind::OneWay if rng.random_bool(0.5) => Fault::Mute(node),
        Kind::OneWay => Fault::Deaf(node),
        Kind::Ring => Fault::Ring,
        Kind::Loss => Fault::Loss(rng.random_range(LOSS_PERCENT)),
        Kind::Delay => Fault::Delay(rng.random_range(DELAY_MILLIS)),
        Kind::Slow => Fault::Slow(node),
        Kind::DiskFull => Fault::DiskFull(nodes),
        Kind::Clock | Kind::ClockFar => {
            let range = match kind {
                Kind::Clock => SMALL_JUMP_MILLIS,
                _ => LARGE_JUMP_MILLIS,
            };
            Fault::Clock {
                node,
                millis: rng.random_range(range),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn drawn(seed: u64, nodes: usize) -> Vec<Step> {
        let mut rng = SmallRng::seed_from_u64(seed);
        draw(
            &mut rng,
            Duration::from_secs(600),
            nodes,
            Kind::value_variants(),
        )
    }

    #[test]
    fn the_same_seed_draws_the_same_schedule() {
        assert_eq!(drawn(7, 3), drawn(7, 3));
        assert_ne!(drawn(7, 3), drawn(8, 3));
    }

    #[test]
    fn steps_do_not_overlap_and_end_in_time() {
        let steps = drawn(1, 5);
        assert!(steps.len() > 30);
        assert!(steps.windows(2).all(|pair| pair[0].end < pair[1].begin));
        assert!(
            steps
                .iter()
                .all(|step| step.begin < step.end && step.end <= 600_000)
        );
    }

    #[test]
    fn a_small_cluster_gets_no_ring_and_a_large_one_every_kind() {
        let kinds = |steps: Vec<Step>| -> std::collections::BTreeSet<Kind> {
            steps
                .into_iter()
                .flat_map(|step| step.faults)
                .map(|(kind, _)| kind)
                .collect()
        };
        assert!((1..20).all(|seed| !kinds(drawn(seed, 3)).contains(&Kind::Ring)));
        let all: std::collections::BTreeSet<Kind> =
            (1..20).flat_map(|seed| kinds(drawn(seed, 5))).collect();
        assert_eq!(all.len(), Kind::value_variants().len());
    }

    #[test]
    fn a_minority_is_never_more_than_half() {
        for step in (1..20).flat_map(|seed| drawn(seed, 5)) {
            for (_, fault) in step.faults {
                if let Fault::CutHalves(group) = fault {
                    assert!((1..=2).contains(&group.len()), "{group:?}");
                }
            }
        }
    }
}
