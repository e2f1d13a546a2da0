//! The real world: wall and monotonic clock, the operating system's randomness, tokio's tasks.

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use types::env::{BoxFuture, Clock, Env, Rng, Spawn};

/// The environment of a real node. Call within a tokio runtime: tasks are spawned on it.
pub fn real() -> Env {
    Env {
        clock: Arc::new(RealClock {
            start: Instant::now(),
        }),
        rng: Arc::new(RealRng::default()),
        spawn: Arc::new(TokioSpawn {
            runtime: tokio::runtime::Handle::current(),
        }),
    }
}

struct RealClock {
    start: Instant,
}

impl Clock for RealClock {
    fn wall_micros(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        }
    }

    fn monotonic_nanos(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A fast generator seeded by the operating system. Not for secrets that outlive a session.
struct RealRng(Mutex<SmallRng>);

impl Default for RealRng {
    fn default() -> Self {
        RealRng(Mutex::new(SmallRng::from_os_rng()))
    }
}

impl Rng for RealRng {
    fn next_u64(&self) -> u64 {
        self.0.lock().next_u64()
    }
}

struct TokioSpawn {
    runtime: tokio::runtime::Handle,
}

impl Spawn for TokioSpawn {
    fn spawn(&self, name: &'static str, task: BoxFuture<()>) {
        tracing::debug!(task = name, "spawned");
        self.runtime.spawn(task);
    }

    fn spawn_thread(&self, name: &'static str, task: BoxFuture<()>) {
        let runtime = self.runtime.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_string())
            .spawn(move || runtime.block_on(task));
        if let Err(error) = thread {
            // The task is lost with its thread; a node that can't start it must not go on.
            panic!("the operating system refused a thread for {name}: {error}");
        }
    }
}
