//! A node's clock: it started at its own time, runs a little too fast or too slow, and jumps.

/// True wall time at the start of the world: 2026-01-01T00:00:00Z.
const START_MICROS: i64 = 1_767_225_600_000_000;
const MILLION: i128 = 1_000_000;

/// See the module. All of its times are asked for with the true virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeClock {
    offset_micros: i64,
    /// Parts per million by which it runs too fast.
    drift_ppm: i32,
    /// Since when it runs like that: true time, and what the monotonic clock showed.
    since_nanos: u64,
    since_monotonic: u64,
    start_monotonic: u64,
}

impl NodeClock {
    /// A clock that is right; its monotonic time starts here.
    pub fn new(start_monotonic: u64) -> Self {
        NodeClock {
            offset_micros: 0,
            drift_ppm: 0,
            since_nanos: 0,
            since_monotonic: start_monotonic,
            start_monotonic,
        }
    }

    /// Changes its rate from now on.
    pub fn set_drift(&mut self, now_nanos: u64, ppm: i32) {
        self.since_monotonic = self.monotonic_nanos(now_nanos);
        self.since_nanos = now_nanos;
        self.drift_ppm = ppm;
    }

    /// Moves the wall clock, not the monotonic one; also backwards.
    pub fn jump(&mut self, micros: i64) {
        self.offset_micros += micros;
    }

    /// Makes the wall clock be wrong by this much now.
    pub fn set_wall_error(&mut self, now_nanos: u64, micros: i64) {
        let error = self.wall_micros(now_nanos) - true_wall_micros(now_nanos);
        self.offset_micros += micros - error;
    }

    pub fn monotonic_nanos(&self, now_nanos: u64) -> u64 {
        let passed = i128::from(now_nanos.saturating_sub(self.since_nanos));
        let shown = passed + passed * i128::from(self.drift_ppm) / MILLION;
        self.since_monotonic + u64::try_from(shown).unwrap_or(u64::MAX / 2)
    }

    pub fn wall_micros(&self, now_nanos: u64) -> i64 {
        let ran = self.monotonic_nanos(now_nanos) - self.start_monotonic;
        START_MICROS + self.offset_micros + (ran / 1000) as i64
    }

    /// True nanoseconds that pass while this clock shows `nanos`, rounded up.
    pub fn true_nanos(&self, nanos: u64) -> u64 {
        let rate = MILLION + i128::from(self.drift_ppm);
        let real = (i128::from(nanos) * MILLION + rate - 1) / rate.max(1);
        u64::try_from(real).unwrap_or(u64::MAX)
    }
}

pub fn true_wall_micros(now_nanos: u64) -> i64 {
    START_MICROS + (now_nanos / 1000) as i64
}
