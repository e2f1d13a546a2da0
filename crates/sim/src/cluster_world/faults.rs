//! What goes wrong in a run, and when: drawn from the seed before the run begins.

use super::World;
use crate::dice::Dice;
use crate::executor::NodeId;
use std::fmt;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

/// How wrong a wall clock may become, in microseconds: less than half of the bound on skew, since two clocks
/// may be wrong in opposite directions.
const CLOCK_ERROR_MICROS: u64 = 200_000;
/// Parts per million by which clocks of real machines run wrong.
const DRIFT_PPM: u64 = 200;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies, perhaps with its machine, and starts again after this many nanoseconds, perhaps at a
    /// new address.
    Crash {
        node: NodeId,
        machine: bool,
        away_nanos: u64,
        moves: bool,
    },
    /// The process dies at one of its next writes or syncs.
    CrashAtWrite {
        node: NodeId,
        write: u64,
        carried_out: bool,
        away_nanos: u64,
    },
    /// A clean shutdown and a start.
    Restart { node: NodeId },
    /// SIGSTOP, then SIGCONT.
    Stop { node: NodeId, nanos: u64 },
    /// One write or sync takes so long.
    Stall { node: NodeId, nanos: u64 },
    /// Nothing passes between two groups.
    Partition { left: Vec<NodeId>, nanos: u64 },
    /// Nothing passes in one direction.
    Cut {
        from: NodeId,
        to: NodeId,
        nanos: u64,
    },
    /// A connection breaks.
    Break { a: NodeId, b: NodeId },
    /// A direction is slow.
    Slow {
        from: NodeId,
        to: NodeId,
        latency_nanos: u64,
        nanos: u64,
    },
    /// A wall clock is wrong by this from now on, and runs at another rate.
    Clock {
        node: NodeId,
        error_micros: i64,
        drift_ppm: i32,
    },
    /// Writes find a full disk.
    Full { node: NodeId, nanos: u64 },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Draws the faults of a run: when, and what.
pub(super) fn draw(dice: &mut Dice, nodes: u32, until_nanos: u64) -> Vec<(u64, Fault)> {
    // Some runs are calm, so that faults meet a cluster that works; some are a storm.
    let pause = [3 * SECOND, SECOND, 300 * MILLI][dice.below(3) as usize];
    let mut faults = Vec::new();
    let mut at = SECOND;
    loop {
        at += dice.below(2 * pause);
        if at >= until_nanos {
            return faults;
        }
        faults.push((at, draw_one(dice, nodes)));
    }
}

fn draw_one(dice: &mut Dice, nodes: u32) -> Fault {
    let node = some_node(dice, nodes);
    let other =
        NodeId((node.0 - 1 + 1 + dice.below(u64::from(nodes.max(2)) - 1) as u32) % nodes + 1);
    // Mostly short, sometimes longer than anybody waits.
    let nanos = match dice.below(4) {
        0 => dice.below(10 * SECOND),
        1 => dice.below(3 * SECOND),
        _ => dice.below(800 * MILLI),
    };
    match dice.below(14) {
        0 | 1 => Fault::Crash {
            node,
            machine: dice.percent(50),
            away_nanos: nanos,
            moves: dice.percent(20),
        },
        2 => Fault::CrashAtWrite {
            node,
            write: dice.below(30),
            carried_out: dice.percent(50),
            away_nanos: nanos,
        },
        3 => Fault::Restart { node },
        4 | 5 => Fault::Stop { node, nanos },
        6 => Fault::Stall { node, nanos },
        7 | 8 => Fault::Partition {
            left: (1..=nodes)
                .map(NodeId)
                .filter(|_| dice.percent(50))
                .collect(),
            nanos,
        },
        9 => Fault::Cut {
            from: node,
            to: other,
            nanos,
        },
        10 => Fault::Break { a: node, b: other },
        11 => Fault::Slow {
            from: node,
            to: other,
            latency_nanos: MILLI + dice.below(400 * MILLI),
            nanos,
        },
        12 => Fault::Clock {
            node,
            error_micros: dice.below(2 * CLOCK_ERROR_MICROS) as i64 - CLOCK_ERROR_MICROS as i64,
            drift_ppm: dice.below(2 * DRIFT_PPM) as i32 - DRIFT_PPM as i32,
        },
        _ => Fault::Full { node, nanos },
    }
}

fn some_node(dice: &mut Dice, nodes: u32) -> NodeId {
    NodeId(1 + dice.below(u64::from(nodes)) as u32)
}

/// What ends a fault, or follows it.
#[derive(Clone, Debug)]
pub(super) enum After {
    Start(NodeId),
    Continue(NodeId),
    Heal(Vec<(NodeId, NodeId)>),
    Space(NodeId),
}

impl World {
    pub(super) fn strike(&mut self, fault: Fault) {
        let machines = self.executor.machines().clone();
        let now = machines.now_nanos();
        match fault {
            Fault::Crash {
                node,
                machine,
                away_nanos,
                moves,
            } => self.crash(node, machine, away_nanos, moves),
            Fault::CrashAtWrite {
                node,
                write,
                carried_out,
                away_nanos,
            } => {
                let host = self.host(node);
                host.away_nanos = away_nanos;
                if let Some(running) = &host.running {
                    running.engine.crash_in(write, carried_out);
                }
            }
            Fault::Restart { node } => self.begin_shutdown(node),
            Fault::Stop { node, nanos } => {
                if self.host(node).running.is_some() {
                    machines.stop(node, true);
                    self.later(now + nanos, After::Continue(node));
                }
            }
            Fault::Stall { node, nanos } => {
                if let Some(running) = &self.host(node).running {
                    running.engine.stall(nanos);
                }
            }
            Fault::Partition { left, nanos } => {
                let right: Vec<NodeId> = self.nodes().filter(|node| !left.contains(node)).collect();
                let pairs = left.iter().flat_map(|a| right.iter().map(|b| (*a, *b)));
                let cuts: Vec<_> = pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
                self.network.cut_groups(&left, &right);
                self.later(now + nanos, After::Heal(cuts));
            }
            Fault::Cut { from, to, nanos } => {
                self.network.cut(from, to);
                self.later(now + nanos, After::Heal(vec![(from, to)]));
            }
            Fault::Break { a, b } => self.network.break_between(a, b),
            Fault::Slow {
                from,
                to,
                latency_nanos,
                nanos,
            } => {
                let range = latency_nanos / 2..latency_nanos;
                self.network.slow_down(from, to, range);
                self.later(now + nanos, After::Heal(vec![(from, to)]));
            }
            Fault::Clock {
                node,
                error_micros,
                drift_ppm,
            } => machines.set_clock(node, |clock, now| {
                clock.set_wall_error(now, error_micros);
                clock.set_drift(now, drift_ppm);
            }),
            Fault::Full { node, nanos } => {
                if let Some(running) = &self.host(node).running {
                    running.engine.set_full(true);
                    self.later(now + nanos, After::Space(node));
                }
            }
        }
    }

    pub(super) fn follow(&mut self, after: After) {
        match after {
            After::Start(node) => self.start(node),
            After::Continue(node) => self.executor.machines().stop(node, false),
            After::Heal(cuts) => {
                for (from, to) in cuts {
                    self.network.heal(from, to);
                    self.network.speed_up(from, to);
                }
            }
            After::Space(node) => {
                if let Some(running) = &self.host(node).running {
                    running.engine.set_full(false);
                }
            }
        }
    }
}
