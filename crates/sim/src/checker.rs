//! What must be true of a database, checked against what its clients and nodes have seen.
//!
//! | Checker | Of what | What must hold |
//! | --- | --- | --- |
//! | [`register`] | reads, writes, compare-and-sets of keys | each key is linearizable |
//! | [`set`] | inserts, removals, reads of all members | nothing acknowledged is lost or comes back |
//! | [`bank`] | balances in snapshots | the sum never changes |
//! | [`counter`] | increments and reads | each acknowledged increment counts once, unknown ones at most once |
//! | [`raft`] | terms, logs and indexes of replicas | the five safety properties of Raft |
//! | [`lease`] | who thinks to hold a lease | one holder per shard and moment |
//! | [`coverage`] | descriptors of shards | the shards cover all keys, each once |
//!
//! All are pure: they take plain structs, and times only order what they are told. So the same checkers judge
//! simulated and real clusters. A checker that is content says what it has [`Checked`]; one that is not says
//! which [`Broken`] rule, with the fewest observations that show it.

use std::fmt;

pub mod bank;
pub mod counter;
pub mod coverage;
pub mod lease;
pub mod raft;
pub mod register;
pub mod set;

/// A moment on one clock that all observations of a history share, in nanoseconds.
pub type Nanos = u64;

/// When an operation ran, and what its client knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub begin: Nanos,
    /// When the answer came. `None`: the outcome is unknown, so it may take effect at any time after
    /// `begin`, or never.
    pub end: Option<Nanos>,
}

impl Interval {
    /// Whether this ended before the other began, so that everybody must see them in this order.
    pub fn is_before(&self, other: &Interval) -> bool {
        self.end.is_some_and(|end| end < other.begin)
    }
}

impl fmt::Display for Interval {
    /// In milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |nanos: Nanos| nanos as f64 / 1e6;
        match self.end {
            Some(end) => write!(f, "[{:.3} to {:.3} ms]", millis(self.begin), millis(end)),
            None => write!(f, "[{:.3} ms to an unknown end]", millis(self.begin)),
        }
    }
}

/// What a change turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    /// It will never take effect.
    Refused,
    /// It may have taken effect, or may still do so.
    Unknown,
}

/// A history in which every rule holds, and how much of it there was to check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub counts: Vec<(&'static str, u64)>,
}

impl Checked {
    fn new(counts: impl IntoIterator<Item = (&'static str, u64)>) -> Checked {
        Checked {
            counts: counts.into_iter().collect(),
        }
    }

    /// One of the counts; 0 if there is none of that name.
    pub fn count(&self, name: &str) -> u64 {
        let found = self.counts.iter().find(|(of, _)| *of == name);
        found.map_or(0, |(_, count)| *count)
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, count)) in self.counts.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{count} {name}")?;
        }
        Ok(())
    }
}

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub rule: &'static str,
    /// What was seen that cannot be, one observation a line.
    pub explanation: String,
}

impl Broken {
    fn new(rule: &'static str, explanation: impl Into<String>) -> Broken {
        Broken {
            rule,
            explanation: explanation.into(),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.explanation)
    }
}

impl std::error::Error for Broken {}

pub type Result<T = Checked> = std::result::Result<T, Broken>;
