//! The workloads, with what they have to reach.

use super::pgbench::{self, Mode, Run, Script};

/// What a figure is, and so which of two is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    PerSecond,
    Seconds,
    Milliseconds,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::PerSecond => "/s",
            Unit::Seconds => "s",
            Unit::Milliseconds => "ms",
        }
    }

    pub fn more_is_better(self) -> bool {
        self == Unit::PerSecond
    }
}

/// What a workload has to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// As a multiple of PostgreSQL: at least the floor; the goal is what the work aims at.
    Ratio { floor: f64, goal: f64 },
    /// The most that PhantomDB's own figure may be.
    AtMost(f64),
    /// Shown, not judged.
    None,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Pgbench { run: Run, latency: bool },
    CopyIn,
    Analytics,
    CreateTable,
    ManyTables,
}

impl Kind {
    /// The name of the data that has to be there first.
    pub fn data(&self) -> &'static str {
        match self {
            Kind::Pgbench { .. } => pgbench::DATA,
            Kind::CopyIn => "copy",
            Kind::Analytics => "tpch",
            Kind::CreateTable | Kind::ManyTables => "none",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Workload {
    pub name: String,
    pub kind: Kind,
    pub unit: Unit,
    pub target: Target,
}

pub fn workloads() -> Vec<Workload> {
    use Mode::{Prepared, Simple};
    use Script::{SelectOnly, SimpleUpdate, TpcB};
    let reads = |floor| Target::Ratio { floor, goal: 1.3 };
    let writes = Target::Ratio {
        floor: 0.8,
        goal: 1.0,
    };
    let rates = [
        (SelectOnly, Prepared, 8, reads(0.7)),
        (SelectOnly, Prepared, 32, reads(0.7)),
        (SelectOnly, Simple, 8, reads(0.8)),
        (SelectOnly, Simple, 32, reads(0.8)),
        (TpcB, Prepared, 8, writes),
        (TpcB, Prepared, 32, writes),
        (SimpleUpdate, Prepared, 8, Target::None),
    ];
    let latencies = [
        (SelectOnly, Prepared, 1, Target::None),
        (TpcB, Prepared, 1, Target::None),
    ];
    let pgbench = |(script, mode, clients, target), latency: bool| {
        let run = Run {
            script,
            mode,
            clients,
        };
        let (name, unit) = match latency {
            false => (run.name(), Unit::PerSecond),
            true => (format!("{}, latency", run.name()), Unit::Milliseconds),
        };
        Workload {
            name,
            kind: Kind::Pgbench { run, latency },
            unit,
            target,
        }
    };
    let other = |name: &str, kind, unit, target| Workload {
        name: name.to_owned(),
        kind,
        unit,
        target,
    };
    let mut all: Vec<Workload> = rates.into_iter().map(|rate| pgbench(rate, false)).collect();
    all.extend(latencies.into_iter().map(|latency| pgbench(latency, true)));
    all.push(other(
        "copy in of 1 M rows",
        Kind::CopyIn,
        Unit::Seconds,
        Target::Ratio {
            floor: 0.5,
            goal: 1.0,
        },
    ));
    all.push(other(
        "analytics, 22 queries",
        Kind::Analytics,
        Unit::Seconds,
        Target::Ratio {
            floor: 2.0,
            goal: 3.0,
        },
    ));
    all.push(other(
        "create table, median",
        Kind::CreateTable,
        Unit::Milliseconds,
        Target::AtMost(5.0),
    ));
    all.push(other(
        "1,000 tables made, dropped",
        Kind::ManyTables,
        Unit::Seconds,
        Target::AtMost(20.0),
    ));
    all
}
