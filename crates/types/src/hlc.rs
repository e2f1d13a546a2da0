//! Hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014).
//!
//! A timestamp is 48 bits of Unix milliseconds and 16 bits of logic in one `u64`. It orders events
//! that touched each other, stays close to wall time, and never goes back, even when the wall does.

use std::fmt;

/// 48 bits of Unix milliseconds, 16 bits of logic. `Timestamp::ZERO` is before everything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    pub const ZERO: Timestamp = Timestamp(0);
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    pub fn from_millis(millis: u64) -> Self {
        Timestamp(millis << 16)
    }

    /// Unix milliseconds.
    pub fn millis(self) -> u64 {
        self.0 >> 16
    }

    pub fn logic(self) -> u16 {
        self.0 as u16
    }

    pub fn next(self) -> Self {
        Timestamp(self.0 + 1)
    }

    /// The instant just before this one; `ZERO` stays `ZERO`.
    pub fn prev(self) -> Self {
        Timestamp(self.0.saturating_sub(1))
    }

    pub fn plus_millis(self, millis: u64) -> Self {
        Timestamp(self.0.saturating_add(millis << 16))
    }

    pub fn minus_millis(self, millis: u64) -> Self {
        Timestamp(self.0.saturating_sub(millis << 16))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis(), self.logic())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The clock's state. Wall time is an argument, so the simulator can own it.
#[derive(Debug, Default)]
pub struct Hlc {
    last: Timestamp,
}

impl Hlc {
    /// A timestamp above all that this clock has given or seen.
    pub fn now(&mut self, wall_millis: u64) -> Timestamp {
        self.last = Timestamp::from_millis(wall_millis).max(self.last.next());
        self.last
    }

    /// Another node's (or the log's) timestamp was seen: everything given later is above it.
    pub fn observe(&mut self, seen: Timestamp) {
        self.last = self.last.max(seen);
    }

    /// The highest timestamp given or seen.
    pub fn last(&self) -> Timestamp {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_back() {
        let mut clock = Hlc::default();
        let a = clock.now(1000);
        let b = clock.now(900);
        let c = clock.now(1001);
        assert!(a < b && b < c);
        assert_eq!(c, Timestamp::from_millis(1001));
        clock.observe(Timestamp::from_millis(5000));
        assert!(clock.now(1002) > Timestamp::from_millis(5000));
    }
}
