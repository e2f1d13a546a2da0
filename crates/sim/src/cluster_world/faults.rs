//! What goes wrong in a run, and when: drawn from the seed before the run begins.

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
    /// One write or sync, or one sync, takes so long.
    Stall {
        node: NodeId,
        sync: bool,
        nanos: u64,
    },
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
    /// The machine's disk is gone. Its process comes back on an empty one, as a new node, and somebody has the cluster
    /// give up the old one. Only while every other node has all that there is: two such losses at once are
    /// more than three copies survive.
    LoseDisk { node: NodeId, away_nanos: u64 },
    /// Nothing passes between whoever holds some shard's lease then and the others; or nothing from it, or nothing
    /// to it.
    IsolateHolder { way: Way, nanos: u64 },
    /// Somebody asks a node to have a shard begin at this key.
    Split { node: NodeId, at: String },
    /// What a direction carries between groups arrives twice, late, or after what was sent later. A good transport
    /// does not do that; nodes bear it all the same.
    Unruly {
        from: NodeId,
        to: NodeId,
        nanos: u64,
    },
}

/// Which way a cut goes, seen from the node that is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Both,
    Out,
    In,
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
    // Most runs begin with several shards; in all, more may follow.
    if dice.percent(70) {
        for _ in 0..=dice.below(4) {
            faults.push((dice.below(SECOND), draw_split(dice, nodes)));
        }
        faults.sort_by_key(|(at, _)| *at);
    }
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
    match dice.below(21) {
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
        6 => Fault::Stall {
            node,
            sync: dice.percent(50),
            nanos,
        },
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
        13 => Fault::Full { node, nanos },
        14 | 15 => Fault::LoseDisk {
            node,
            away_nanos: nanos,
        },
        16 | 17 => Fault::IsolateHolder {
            way: [Way::Both, Way::Out, Way::In][dice.below(3) as usize],
            nanos,
        },
        18 | 19 => draw_split(dice, nodes),
        _ => Fault::Unruly {
            from: node,
            to: other,
            nanos,
        },
    }
}

/// Anywhere but between accounts: transactions write rows of one shard only.
fn draw_split(dice: &mut Dice, nodes: u32) -> Fault {
    let at = match dice.below(8) {
        0 => "account/".to_owned(),
        1 => "counter".to_owned(),
        2 => "member/".to_owned(),
        3 => "register/".to_owned(),
        4 => format!("register/{}", dice.below(4)),
        _ => format!("member/{:08}", dice.below(400)),
    };
    Fault::Split {
        node: some_node(dice, nodes),
        at,
    }
}

fn some_node(dice: &mut Dice, nodes: u32) -> NodeId {
    NodeId(1 + dice.below(u64::from(nodes)) as u32)
}
