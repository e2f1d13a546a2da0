//! What clients did and saw, by one monotonic clock.
//!
//! An operation is recorded when it begins and again when it ends. One whose end is unknown has no end: it may have
//! taken effect at any time after it began, or never. Its client goes on as a new process, because a process does one
//! thing after the other.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It had its effect, between its begin and its end.
    Done,
    /// It surely had none and never will.
    Failed,
    Unknown,
}

/// One operation of one process.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(feature = "sim"),
    expect(dead_code, reason = "the checkers read it, and come with the feature")
)]
pub struct Record<T> {
    pub process: u32,
    /// Nanoseconds since the history began.
    pub begin: u64,
    /// Nothing: unknown.
    pub end: Option<u64>,
    /// What was asked, and what was seen if it is done.
    pub operation: T,
    pub outcome: Outcome,
}

/// The clock and the numbers that all histories of a run share.
pub struct Stage {
    began: Instant,
    processes: AtomicU32,
}

impl Default for Stage {
    fn default() -> Stage {
        Stage {
            began: Instant::now(),
            processes: AtomicU32::new(0),
        }
    }
}

impl Stage {
    pub fn nanos(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    pub fn new_process(&self) -> u32 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }
}

/// What several clients note down, in the order of noting.
pub struct Notes<T>(Mutex<Vec<T>>);

/// The records of one workload, in the order of their ends.
pub type History<T> = Notes<Record<T>>;

impl<T> Default for Notes<T> {
    fn default() -> Notes<T> {
        Notes(Mutex::default())
    }
}

impl<T: Clone> Notes<T> {
    pub fn add(&self, note: T) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(note);
    }

    pub fn all(&self) -> Vec<T> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
