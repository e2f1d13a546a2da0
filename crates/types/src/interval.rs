//! SQL intervals: months, days and microseconds kept apart, as PostgreSQL keeps them.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// A span of time. The three parts are independent: a month has no fixed number of days, a day no
/// fixed number of hours. Comparison uses 30-day months and 24-hour days, so `1 mon` = `30 days`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

/// Microseconds of a 24-hour day.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;
/// Days of a month wherever a month must be compared or turned into days.
pub const DAYS_PER_MONTH: i64 = 30;

impl Interval {
    pub const fn new(months: i32, days: i32, micros: i64) -> Self {
        Interval {
            months,
            days,
            micros,
        }
    }

    /// The length in microseconds by which intervals are ordered.
    pub fn comparable_micros(&self) -> i128 {
        let days = i128::from(self.months) * i128::from(DAYS_PER_MONTH) + i128::from(self.days);
        days * i128::from(MICROS_PER_DAY) + i128::from(self.micros)
    }
}

impl PartialEq for Interval {
    fn eq(&self, other: &Self) -> bool {
        self.comparable_micros() == other.comparable_micros()
    }
}

impl Eq for Interval {}

impl Ord for Interval {
    fn cmp(&self, other: &Self) -> Ordering {
        self.comparable_micros().cmp(&other.comparable_micros())
    }
}

impl PartialOrd for Interval {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Interval {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.comparable_micros().hash(state);
    }
}
