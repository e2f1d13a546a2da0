//! Is a history of reads, writes and compare-and-sets linearizable, key by key?
//!
//! *Linearizable*: every operation can be given a moment between its begin and its end so that, in the order
//! of these moments, a single register would have given the same answers. An operation of unknown outcome may
//! have its moment at any time after its begin, or none.
//!
//! The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with Lowe's cache of
//! visited states ("Testing for linearizability", 2017): take an operation that no other one has ended before,
//! try it on the register, go on; step back when stuck; never visit the same set of operations with the same
//! register twice. Keys are independent of each other, so each is checked alone. The worst case is
//! exponential, so the search is bounded by [`Limits`]; what it could not decide is counted, never passed.
//!
//! A failing history is made small before it is shown (`register/shrink.rs`).

use super::{Broken, Checked, Interval, Result};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

mod search;
mod shrink;
#[cfg(test)]
mod tests;

/// What a register holds; `None` before the first write.
pub type Value = Option<u64>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Gave this.
    Read(Value),
    Write(Value),
    /// Was to set `to` if the register held `from`. `done`: it did so; `None`: unknown.
    CompareAndSet {
        from: Value,
        to: Value,
        done: Option<bool>,
    },
}

/// An operation of a client. Operations that certainly had no effect and gave no answer are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub client: u64,
    pub key: u64,
    pub interval: Interval,
    pub action: Action,
}

impl Operation {
    fn is_known(&self) -> bool {
        self.interval.end.is_some()
    }

    /// The register after this operation, if it can have this answer on `value`.
    fn apply(&self, value: Value) -> Option<Value> {
        match self.action {
            Action::Read(seen) => (!self.is_known() || seen == value).then_some(value),
            Action::Write(to) => Some(to),
            Action::CompareAndSet { from, to, done } => {
                let applies = from == value;
                let fits = done.is_none_or(|done| done == applies);
                fits.then_some(if applies { to } else { value })
            }
        }
    }
}

struct Shown(Value);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("nothing"),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} {} ", self.client, self.interval)?;
        match self.action {
            Action::Read(value) => write!(f, "read {}", Shown(value)),
            Action::Write(value) => write!(f, "wrote {}", Shown(value)),
            Action::CompareAndSet { from, to, done } => {
                let done = match done {
                    Some(true) => "done",
                    Some(false) => "not done",
                    None => "unknown",
                };
                write!(f, "set {} if {}: {done}", Shown(to), Shown(from))
            }
        }
    }
}

/// Bounds of the search.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// States visited for one key. One takes about (operations of the key / 8 + 100) bytes.
    pub states: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { states: 2_000_000 }
    }
}

enum Verdict {
    Linearizable,
    NotLinearizable,
    Undecided,
}

/// Checks every key, all of which hold nothing at first.
///
/// Counts `keys`, `operations`, those `unknown`, and `keys undecided`.
pub fn check(history: &[Operation], limits: Limits) -> Result {
    let mut keys: BTreeMap<u64, Vec<Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(operation.key).or_default().push(*operation);
    }
    let mut undecided = 0;
    for (key, operations) in &keys {
        match search::search(operations, limits) {
            Verdict::Linearizable => {}
            Verdict::Undecided => undecided += 1,
            Verdict::NotLinearizable => return Err(explain(*key, operations, limits)),
        }
    }
    let unknown = history.iter().filter(|op| !op.is_known()).count();
    Ok(Checked::new([
        ("keys", keys.len() as u64),
        ("operations", history.len() as u64),
        ("unknown", unknown as u64),
        ("keys undecided", undecided),
    ]))
}

fn explain(key: u64, operations: &[Operation], limits: Limits) -> Broken {
    let mut fewest = shrink::shrink(operations.to_vec(), limits);
    fewest.sort_by_key(|op| (op.interval.begin, op.interval.end));
    let mut text = format!("on key {key}, these cannot have happened in any order:");
    for operation in &fewest {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {operation}");
    }
    Broken::new("linearizability", text)
}
