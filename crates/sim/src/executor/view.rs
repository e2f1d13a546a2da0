//! The world as one life of a node sees it.

use super::{NodeId, Shared, Task, Timer};
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;
use types::env::{BoxFuture, Clock, Rng, Spawn};

pub(super) struct NodeView {
    pub(super) shared: Arc<Shared>,
    pub(super) node: NodeId,
    pub(super) life: u64,
}

impl Clock for NodeView {
    fn wall_micros(&self) -> i64 {
        let mut world = self.shared.world.lock();
        let moment = world.moment(self.node);
        world.machine(self.node).clock.wall_micros(moment)
    }

    fn monotonic_nanos(&self) -> u64 {
        let mut world = self.shared.world.lock();
        let moment = world.moment(self.node);
        world.machine(self.node).clock.monotonic_nanos(moment)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Box::pin(Sleep {
            until_monotonic: self.monotonic_nanos().saturating_add(nanos),
            shared: Arc::clone(&self.shared),
            node: self.node,
            timer: None,
        })
    }
}

impl Rng for NodeView {
    fn next_u64(&self) -> u64 {
        self.shared.world.lock().machine(self.node).dice.next_u64()
    }
}

impl Spawn for NodeView {
    fn spawn(&self, _name: &'static str, task: BoxFuture<()>) {
        let task = {
            let mut world = self.shared.world.lock();
            if world.machine(self.node).life != self.life {
                // What a dead node starts is dropped, when nothing is locked.
                drop(world);
                return drop(task);
            }
            let id = world.next_id();
            let task = Arc::new(Task {
                id,
                node: self.node,
                queued: AtomicBool::new(true),
                future: Mutex::new(Some(task)),
                shared: Arc::clone(&self.shared),
            });
            world.tasks.insert((self.node, id), Arc::clone(&task));
            task
        };
        self.shared.ready.lock().push(task);
    }
}

/// Waits until the node's monotonic clock shows a time. Holds at most one timer, and takes it along.
struct Sleep {
    until_monotonic: u64,
    shared: Arc<Shared>,
    node: NodeId,
    timer: Option<(u64, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut world = this.shared.world.lock();
        let now = world.moment(this.node);
        let clock = world.machine(this.node).clock;
        let left = this
            .until_monotonic
            .saturating_sub(clock.monotonic_nanos(now));
        if left == 0 {
            return Poll::Ready(());
        }
        if let Some(key) = this.timer
            && let Some(Timer::Wake(waker)) = world.timers.get_mut(&key)
        {
            waker.clone_from(context.waker());
            return Poll::Pending;
        }
        let key = (now.saturating_add(clock.true_nanos(left)), world.next_id());
        world
            .timers
            .insert(key, Timer::Wake(context.waker().clone()));
        this.timer = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer {
            let timer = self.shared.world.lock().timers.remove(&key);
            drop(timer);
        }
    }
}
