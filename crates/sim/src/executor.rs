//! Tasks on one thread in virtual time.
//!
//! Each step polls one ready task, chosen by the dice, and takes some microseconds of virtual time.
//! If none is ready, time jumps to the next timer. Nothing else moves time.

use crate::dice::Dice;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use types::env::{BoxFuture, Clock, Env, Rng, Spawn};

/// Virtual time of one step, at most.
const STEP_NANOS: u64 = 20_000;

type TaskId = u64;

#[derive(Default)]
struct World {
    now_nanos: u64,
    wall_offset_micros: i64,
    next_id: u64,
    spawned: Vec<(TaskId, BoxFuture<()>)>,
    timers: BTreeMap<(u64, u64), Waker>,
    dice: Option<Dice>,
}

struct Shared {
    world: Mutex<World>,
    /// Apart from `world`: wakers come from anywhere, also from inside calls to it.
    ready: Mutex<BTreeSet<TaskId>>,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Polled(TaskId),
    /// Time jumped to a timer.
    Jumped,
    /// No task is ready and no timer is set.
    Idle,
}

/// See the module.
pub struct Executor {
    shared: Arc<Shared>,
    tasks: BTreeMap<TaskId, BoxFuture<()>>,
    dice: Dice,
}

impl Executor {
    pub fn new(mut dice: Dice) -> Self {
        let world = World {
            dice: Some(dice.fork()),
            ..World::default()
        };
        Executor {
            shared: Arc::new(Shared {
                world: Mutex::new(world),
                ready: Mutex::default(),
            }),
            tasks: BTreeMap::new(),
            dice,
        }
    }

    /// The world as nodes and clients see it.
    pub fn env(&self) -> Env {
        let world = Arc::new(VirtualWorld(Arc::clone(&self.shared)));
        Env {
            clock: world.clone(),
            rng: world.clone(),
            spawn: world,
        }
    }

    pub fn now_nanos(&self) -> u64 {
        self.shared.world.lock().now_nanos
    }

    /// Moves the wall clock, not the monotonic one; also backwards.
    pub fn set_wall_offset(&mut self, micros: i64) {
        self.shared.world.lock().wall_offset_micros = micros;
    }

    pub fn step(&mut self) -> Step {
        let spawned = std::mem::take(&mut self.shared.world.lock().spawned);
        for (id, task) in spawned {
            self.tasks.insert(id, task);
            self.shared.ready.lock().insert(id);
        }
        let chosen = {
            let mut ready = self.shared.ready.lock();
            let at = self.dice.below(ready.len() as u64) as usize;
            let chosen = ready.iter().nth(at).copied();
            if let Some(id) = chosen {
                ready.remove(&id);
            }
            chosen
        };
        let Some(id) = chosen else {
            return self.jump();
        };
        self.shared.world.lock().now_nanos += self.dice.below(STEP_NANOS);
        self.fire_timers();
        if let Some(mut task) = self.tasks.remove(&id) {
            let waker = Waker::from(Arc::new(TaskWaker {
                id,
                shared: Arc::clone(&self.shared),
            }));
            match task.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    self.tasks.insert(id, task);
                }
            }
        }
        Step::Polled(id)
    }

    /// Ends all tasks at once, wherever they are, as a crash does.
    pub fn kill_all(&mut self) {
        let tasks = std::mem::take(&mut self.tasks);
        drop(tasks);
        // What they did while they were dropped does not count either.
        let spawned = std::mem::take(&mut self.shared.world.lock().spawned);
        drop(spawned);
        self.shared.world.lock().timers.clear();
        self.shared.ready.lock().clear();
    }

    fn jump(&mut self) -> Step {
        let next = {
            let mut world = self.shared.world.lock();
            let next = world.timers.keys().next().map(|(at, _)| *at);
            if let Some(at) = next {
                world.now_nanos = world.now_nanos.max(at);
            }
            next
        };
        if next.is_none() {
            return Step::Idle;
        }
        self.fire_timers();
        Step::Jumped
    }

    fn fire_timers(&mut self) {
        let due: Vec<Waker> = {
            let mut world = self.shared.world.lock();
            let later = (world.now_nanos + 1, 0);
            let later = world.timers.split_off(&later);
            std::mem::replace(&mut world.timers, later)
                .into_values()
                .collect()
        };
        for waker in due {
            waker.wake();
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Tasks hold the world and the world holds tasks.
        self.kill_all();
    }
}

struct TaskWaker {
    id: TaskId,
    shared: Arc<Shared>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.shared.ready.lock().insert(self.id);
    }
}

struct VirtualWorld(Arc<Shared>);

impl Clock for VirtualWorld {
    fn wall_micros(&self) -> i64 {
        /// 2026-01-01T00:00:00Z.
        const START_MICROS: i64 = 1_767_225_600_000_000;
        let world = self.0.world.lock();
        START_MICROS + world.wall_offset_micros + (world.now_nanos / 1000) as i64
    }

    fn monotonic_nanos(&self) -> u64 {
        self.0.world.lock().now_nanos
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        let shared = Arc::clone(&self.0);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let until = self.monotonic_nanos().saturating_add(nanos);
        Box::pin(poll_fn(move |context| {
            let mut world = shared.world.lock();
            if world.now_nanos >= until {
                return Poll::Ready(());
            }
            world.next_id += 1;
            let key = (until, world.next_id);
            world.timers.insert(key, context.waker().clone());
            Poll::Pending
        }))
    }
}

impl Rng for VirtualWorld {
    fn next_u64(&self) -> u64 {
        let mut world = self.0.world.lock();
        world.dice.as_mut().map_or(0, Dice::next_u64)
    }
}

impl Spawn for VirtualWorld {
    fn spawn(&self, _name: &'static str, task: BoxFuture<()>) {
        let mut world = self.0.world.lock();
        world.next_id += 1;
        let id = world.next_id;
        world.spawned.push((id, task));
    }
}
