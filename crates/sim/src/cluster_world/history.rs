//! What all clients of a run were told, and whether that can be.

use crate::checker::{self, Interval, Outcome, bank, counter, register, set};
use crate::executor::mix;
use std::collections::BTreeMap;
use types::{Error, SqlState};

pub(super) const ACCOUNTS: u64 = 5;
pub(super) const OPENING_BALANCE: i64 = 100;

/// States of the search that decides whether a register is linearizable: some 10 MB.
const REGISTER_STATES: usize = 100_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) registers: Vec<register::Operation>,
    pub(super) set: set::History,
    pub(super) snapshots: Vec<bank::Snapshot>,
    pub(super) increments: Vec<counter::Increment>,
    pub(super) counter_reads: Vec<counter::Read>,
    pub(super) told: Told,
    /// An answer that no client may get.
    pub(super) unexpected: Option<String>,
}

/// How often clients were told what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
    /// By SQLSTATE.
    pub(super) errors: BTreeMap<String, u64>,
    /// Of all answers in their order.
    pub(super) hash: u64,
}

/// What became of an operation. `None`: the session broke, or the client waited no longer.
pub(super) type Answer<T> = Option<types::Result<T>>;

impl History {
    /// Notes an answer, and what it means for what was to be changed.
    pub(super) fn outcome<T>(&mut self, answer: &Answer<T>) -> Outcome {
        let outcome = match answer {
            Some(Ok(_)) => Outcome::Acknowledged,
            Some(Err(error)) => {
                self.note_error(error);
                match error.state == SqlState::STATEMENT_COMPLETION_UNKNOWN {
                    true => Outcome::Unknown,
                    false => Outcome::Refused,
                }
            }
            None => Outcome::Unknown,
        };
        let count = match outcome {
            Outcome::Acknowledged => &mut self.told.acknowledged,
            Outcome::Refused => &mut self.told.refused,
            Outcome::Unknown => &mut self.told.unknown,
        };
        *count += 1;
        self.told.hash = mix(self.told.hash, outcome as u64);
        outcome
    }

    fn note_error(&mut self, error: &Error) {
        let state = error.state.as_str();
        *self.told.errors.entry(state.to_owned()).or_default() += 1;
        // Internal errors, damaged data, and errors of a client that asks for nonsense.
        if ["XX", "42", "22"]
            .iter()
            .any(|class| state.starts_with(class))
        {
            let what = format!("a client got an unexpected error: {error}");
            self.unexpected.get_or_insert(what);
        }
    }

    /// The checks that need the whole history.
    pub(super) fn check(&self) -> checker::Result<Vec<(&'static str, checker::Checked)>> {
        let limits = register::Limits {
            states: REGISTER_STATES,
        };
        let bank = bank::Bank {
            accounts: ACCOUNTS,
            sum: ACCOUNTS as i64 * OPENING_BALANCE,
            overdraft: true,
        };
        Ok(vec![
            ("registers", register::check(&self.registers, limits)?),
            ("set", set::check(&self.set)?),
            ("bank", bank::check(bank, &self.snapshots)?),
            (
                "counter",
                counter::check(&self.increments, &self.counter_reads)?,
            ),
        ])
    }
}

/// The interval as its checkers want it: without end if the outcome is unknown.
pub(super) fn interval(begin: u64, end: u64, outcome: Outcome) -> Interval {
    Interval {
        begin,
        end: (outcome != Outcome::Unknown).then_some(end),
    }
}
