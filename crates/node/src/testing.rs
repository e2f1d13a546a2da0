//! A real [`Env`] on tokio and a store in memory, for tests of the layers above and for examples.
#![expect(
    clippy::disallowed_methods,
    reason = "the real world for tests and examples; a server brings its own"
)]

use crate::store::{Options, Store};
use rand::TryRngCore;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use storage::SimDisk;
use types::Result;
use types::env::{BoxFuture, Clock, Env, Rng, Spawn};

/// Real time, OS randomness, the current tokio runtime, threads.
pub fn real_env() -> Env {
    let world = Arc::new(RealWorld {
        start: Instant::now(),
        runtime: tokio::runtime::Handle::current(),
    });
    Env {
        clock: world.clone(),
        rng: world.clone(),
        spawn: world,
    }
}

/// A store whose disk is memory. Must be called inside a tokio runtime.
pub fn memory_store() -> Result<Arc<Store>> {
    Store::open(Arc::new(SimDisk::new()), real_env(), Options::default())
}

struct RealWorld {
    start: Instant,
    runtime: tokio::runtime::Handle,
}

impl Clock for RealWorld {
    fn wall_micros(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_micros() as i64)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let runtime = self.runtime.clone();
        Box::pin(async move {
            // A timer belongs to a runtime; the caller may run on a thread of its own.
            let mut timer = {
                let _inside = runtime.enter();
                Box::pin(tokio::time::sleep(duration))
            };
            std::future::poll_fn(|context| timer.as_mut().poll(context)).await;
        })
    }
}

impl Rng for RealWorld {
    fn next_u64(&self) -> u64 {
        rand::rngs::OsRng.try_next_u64().unwrap_or(0)
    }
}

impl Spawn for RealWorld {
    fn spawn(&self, _name: &'static str, task: BoxFuture<()>) {
        self.runtime.spawn(task);
    }

    fn spawn_thread(&self, name: &'static str, task: BoxFuture<()>) {
        let thread = std::thread::Builder::new().name(name.to_owned());
        if let Err(error) = thread.spawn(move || futures::executor::block_on(task)) {
            tracing::error!(%error, "no thread for {name}");
        }
    }
}
