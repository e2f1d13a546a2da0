//! The traits through which pure code and async flows reach the world.
//!
//! `server` implements them with real clocks, OS randomness and tokio; `sim` with virtual ones.
//! Nothing outside those two crates may tell time, roll dice, or start a task in another way.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub trait Clock: Send + Sync {
    /// Wall time: microseconds since the Unix epoch. May jump.
    fn wall_micros(&self) -> i64;

    /// Monotonic time: nanoseconds since an arbitrary start. Never goes back.
    fn monotonic_nanos(&self) -> u64;

    /// Completes once `duration` of monotonic time has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<()>;
}

pub trait Rng: Send + Sync {
    fn next_u64(&self) -> u64;
}

pub trait Spawn: Send + Sync {
    /// Runs `task` to its end beside the others.
    fn spawn(&self, name: &'static str, task: BoxFuture<()>);

    /// Runs `task` to its end on a thread of its own, which it may block (a disk sync). A host of
    /// one thread runs it beside the others.
    fn spawn_thread(&self, name: &'static str, task: BoxFuture<()>) {
        self.spawn(name, task);
    }
}

/// All of the world a node may touch, handed in by its host.
#[derive(Clone)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub spawn: Arc<dyn Spawn>,
}
