//! Whether this store is fit to lead: its disk and its clock beside those of its peers.
//!
//! What is measured comes along with what happens anyway: the loop's syncs, and every parcel of a peer, which tells
//! what the peer's clock showed and how long its syncs take. A store that is unfit hands its leases over, is given
//! none, and stands for election only after the others have had time to. It stays a member and goes on with
//! everything else, and is fit again by itself.

use membership::{ClockOffsets, SlowScore};
use metrics::gauge;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use types::StoreId;
use types::codec::{Reader, put_varint};

/// What a store is fit for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Fitness {
    #[default]
    Fit,
    /// Its disk is slow, and those of others are not.
    Slow,
    /// Its clock is off by most of what clocks may differ.
    ClockOff,
}

impl Fitness {
    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Fitness::Fit => "good",
            Fitness::Slow => "slow disk",
            Fitness::ClockOff => "clock is off",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        let mut all = [Fitness::Fit, Fitness::Slow, Fitness::ClockOff].into_iter();
        all.find(|fitness| fitness.name() == name)
    }
}

/// How healthy a store says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthReport {
    pub fitness: Fitness,
    /// What a synced write takes of late.
    pub sync_millis: u64,
    /// By how much its clock is ahead of most others.
    pub clock_ahead_millis: i64,
}

struct State {
    disk: SlowScore,
    clock: ClockOffsets,
}

/// See the module.
pub(crate) struct Health {
    state: Mutex<State>,
    fitness: AtomicU8,
}

impl Health {
    /// `bound_millis`: by how much clocks may differ.
    pub(crate) fn new(bound_millis: u64) -> Self {
        Health {
            state: Mutex::new(State {
                disk: SlowScore::default(),
                clock: ClockOffsets::new(bound_millis),
            }),
            fitness: AtomicU8::new(Fitness::Fit as u8),
        }
    }

    pub(crate) fn synced(&self, nanos: u64) {
        self.change(|state| state.disk.synced(nanos as f64 / 1e6));
    }

    /// A peer's parcel: how long its syncs take, what its clock showed, and what this one's does, in milliseconds.
    pub(crate) fn heard(&self, peer: StoreId, sync_millis: u64, theirs: u64, own: u64) {
        let signed = |millis| i64::try_from(millis).unwrap_or(i64::MAX);
        self.change(|state| {
            state.disk.heard(peer, sync_millis as f64);
            state.clock.heard(peer, signed(theirs), signed(own));
        });
    }

    pub(crate) fn lost(&self, peer: StoreId) {
        self.change(|state| {
            state.disk.lost(peer);
            state.clock.lost(peer);
        });
    }

    /// What a synced write takes of late.
    pub(crate) fn sync_millis(&self) -> u64 {
        self.state.lock().disk.millis() as u64
    }

    pub(crate) fn fitness(&self) -> Fitness {
        match self.fitness.load(Ordering::Relaxed) {
            1 => Fitness::Slow,
            2 => Fitness::ClockOff,
            _ => Fitness::Fit,
        }
    }

    pub(crate) fn report(&self) -> HealthReport {
        let report = report(&self.state.lock());
        gauge!("phantomdb_disk_sync_average_seconds").set(report.sync_millis as f64 / 1e3);
        gauge!("phantomdb_clock_ahead_seconds").set(report.clock_ahead_millis as f64 / 1e3);
        gauge!("phantomdb_unfit").set(f64::from(u8::from(report.fitness != Fitness::Fit)));
        report
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let now = fitness(&state);
        if self.fitness.swap(now as u8, Ordering::Relaxed) == now as u8 {
            return;
        }
        let report = report(&state);
        drop(state);
        let (sync_millis, ahead_millis) = (report.sync_millis, report.clock_ahead_millis);
        match now {
            Fitness::Fit => tracing::warn!("this store is fit to hold leases again"),
            Fitness::Slow => {
                tracing::warn!(sync_millis, "the disk is slow; leases are handed over");
            }
            Fitness::ClockOff => {
                tracing::warn!(ahead_millis, "the clock is off; leases are handed over");
            }
        }
    }
}

fn fitness(state: &State) -> Fitness {
    match (state.clock.is_off(), state.disk.is_slow()) {
        (true, _) => Fitness::ClockOff,
        (false, true) => Fitness::Slow,
        (false, false) => Fitness::Fit,
    }
}

fn report(state: &State) -> HealthReport {
    HealthReport {
        fitness: fitness(state),
        sync_millis: state.disk.millis() as u64,
        clock_ahead_millis: state.clock.millis(),
    }
}

impl HealthReport {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(self.fitness as u8);
        put_varint(out, self.sync_millis);
        put_varint(out, self.clock_ahead_millis.unsigned_abs());
        out.push(u8::from(self.clock_ahead_millis < 0));
    }

    pub(crate) fn read(reader: &mut Reader) -> Option<Self> {
        Some(HealthReport {
            fitness: match reader.u8()? {
                0 => Fitness::Fit,
                1 => Fitness::Slow,
                2 => Fitness::ClockOff,
                _ => return None,
            },
            sync_millis: reader.varint()?,
            clock_ahead_millis: {
                let millis = i64::try_from(reader.varint()?).ok()?;
                if reader.u8()? == 1 { -millis } else { millis }
            },
        })
    }
}
