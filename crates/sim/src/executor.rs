//! Tasks of many nodes on one thread, in virtual time.
//!
//! ```text
//!   ready tasks ──(dice)──► poll one ──► 0 to 20 µs pass ──► timers that are due wake tasks
//!        │ none is ready
//!        └──► time jumps to the next timer
//! ```
//!
//! Nothing else moves time. All nodes share it, but each has a [`NodeClock`] of its own, which is wrong in
//! its own way, and dice of its own.
//!
//! A node can be *killed*: its tasks and what they hold are dropped wherever they are, and what its earlier
//! lives left behind can start no task any more. It can be *stopped*, as by SIGSTOP: it is not polled while
//! time goes on. And it can be *blocked*, as by a disk that does not answer: that is what a call of
//! [`Machines::block`] from inside a poll does. The rest of that poll belongs to the time after the block, so
//! the node's clock shows that time already, and what it sends leaves then.

use crate::dice::Dice;
use parking_lot::{Mutex, MutexGuard};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use types::env::{BoxFuture, Env};

mod clock;
mod view;

pub use clock::NodeClock;
use view::NodeView;

/// Virtual time of one step, at most.
const STEP_NANOS: u64 = 20_000;
/// A node's monotonic clock starts anywhere below this: a day.
const UPTIME_NANOS: u64 = 86_400_000_000_000;

/// A machine of the simulated world; a node keeps it over all of its lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A task of this node ran.
    Polled(NodeId),
    /// Time jumped to a timer.
    Jumped,
    /// Nothing is ready before the limit, and time stands there.
    Reached,
    /// No task is ready and no timer is set.
    Idle,
}

/// One task. Its future is gone once it has ended or its node was killed.
struct Task {
    id: u64,
    node: NodeId,
    queued: AtomicBool,
    future: Mutex<Option<BoxFuture<()>>>,
    shared: Arc<Shared>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let shared = Arc::clone(&self.shared);
            shared.ready.lock().push(self);
        }
    }
}

enum Timer {
    Wake(Waker),
    /// A block ends.
    Release(NodeId),
}

struct Machine {
    life: u64,
    stopped: bool,
    blocked_until_nanos: u64,
    clock: NodeClock,
    dice: Dice,
    /// Woken while it was stopped or blocked.
    held: Vec<Arc<Task>>,
}

impl Machine {
    fn runs(&self, now_nanos: u64) -> bool {
        !self.stopped && self.blocked_until_nanos <= now_nanos
    }
}

struct World {
    now_nanos: u64,
    next_id: u64,
    machines: Vec<Machine>,
    tasks: BTreeMap<(NodeId, u64), Arc<Task>>,
    timers: BTreeMap<(u64, u64), Timer>,
    dice: Dice,
    /// Clocks show the true moment also on a node that is blocked.
    observing: bool,
}

impl World {
    fn machine(&mut self, node: NodeId) -> &mut Machine {
        let place = node.0 as usize;
        while self.machines.len() <= place {
            let mut dice = self.dice.fork();
            let clock = NodeClock::new(dice.below(UPTIME_NANOS));
            self.machines.push(Machine {
                life: 0,
                stopped: false,
                blocked_until_nanos: 0,
                clock,
                dice,
                held: Vec::new(),
            });
        }
        &mut self.machines[place]
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The moment that the code of `node` which runs now belongs to.
    fn moment(&mut self, node: NodeId) -> u64 {
        let (now, observing) = (self.now_nanos, self.observing);
        match observing {
            true => now,
            false => now.max(self.machine(node).blocked_until_nanos),
        }
    }

    fn due(&mut self) -> Vec<Timer> {
        let now = self.now_nanos;
        let mut due = Vec::new();
        while let Some(first) = self.timers.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        due
    }
}

struct Shared {
    world: Mutex<World>,
    /// Apart from `world`: wakers come from anywhere, also from inside calls to it.
    ready: Mutex<Vec<Arc<Task>>>,
}

thread_local! {
    static RUNNING: Cell<(NodeId, u64)> = const { Cell::new((NodeId(0), 0)) };
}

/// Whose task ran last on this thread, and when by true time: for whoever notes what nodes say of themselves.
pub fn running() -> (NodeId, u64) {
    RUNNING.get()
}

/// See the module.
pub struct Executor {
    machines: Machines,
    dice: Dice,
    trace_hash: u64,
}

impl Executor {
    pub fn new(mut dice: Dice) -> Self {
        let world = World {
            now_nanos: 0,
            next_id: 0,
            machines: Vec::new(),
            tasks: BTreeMap::new(),
            timers: BTreeMap::new(),
            dice: dice.fork(),
            observing: false,
        };
        Executor {
            machines: Machines(Arc::new(Shared {
                world: Mutex::new(world),
                ready: Mutex::default(),
            })),
            dice,
            trace_hash: 0,
        }
    }

    /// The machines, for whoever acts on them from inside or outside.
    pub fn machines(&self) -> &Machines {
        &self.machines
    }

    /// Which tasks ran in which order at which times, as one number: equal for two runs of one seed.
    pub fn trace_hash(&self) -> u64 {
        self.trace_hash
    }

    pub fn step(&mut self) -> Step {
        self.step_until(u64::MAX)
    }

    /// One step; time does not jump beyond `limit_nanos`.
    pub fn step_until(&mut self, limit_nanos: u64) -> Step {
        loop {
            let task = self.choose();
            let Some(task) = task else {
                return self.jump(limit_nanos);
            };
            if let Some(step) = self.run(task) {
                return step;
            }
        }
    }

    /// The same task in whatever order the ready ones were woken: some of those who wake several at once do
    /// that in an order of their own chance.
    fn choose(&mut self) -> Option<Arc<Task>> {
        let mut ready = self.machines.0.ready.lock();
        let draw = self.dice.next_u64();
        let lots = ready
            .iter()
            .map(|task| Dice::new(draw ^ task.id).next_u64());
        let (at, _) = lots.enumerate().min_by_key(|(_, lot)| *lot)?;
        Some(ready.swap_remove(at))
    }

    /// `None`: the task is not to run now.
    fn run(&mut self, task: Arc<Task>) -> Option<Step> {
        let mut future = task.future.lock();
        future.as_ref()?;
        let due = {
            let mut world = self.machines.world();
            let now = world.now_nanos;
            let machine = world.machine(task.node);
            if !machine.runs(now) {
                machine.held.push(Arc::clone(&task));
                return None;
            }
            world.now_nanos += self.dice.below(STEP_NANOS);
            self.trace_hash = mix(self.trace_hash, task.id);
            self.trace_hash = mix(self.trace_hash, world.now_nanos);
            world.due()
        };
        self.machines.fire(due);
        RUNNING.set((task.node, self.machines.now_nanos()));
        task.queued.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task));
        let running = future.as_mut()?;
        if let Poll::Ready(()) = running.as_mut().poll(&mut Context::from_waker(&waker)) {
            let ended = future.take();
            self.machines.world().tasks.remove(&(task.node, task.id));
            drop(future);
            drop(ended);
        }
        Some(Step::Polled(task.node))
    }

    fn jump(&mut self, limit_nanos: u64) -> Step {
        let due = {
            let mut world = self.machines.world();
            match world.timers.keys().next().map(|(at, _)| *at) {
                Some(at) if at <= limit_nanos => {
                    world.now_nanos = world.now_nanos.max(at);
                    world.due()
                }
                None if limit_nanos == u64::MAX => return Step::Idle,
                _ => {
                    world.now_nanos = world.now_nanos.max(limit_nanos);
                    return Step::Reached;
                }
            }
        };
        self.machines.fire(due);
        Step::Jumped
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Tasks hold the world and the world holds tasks.
        let machines = self.machines.world().machines.len() as u32;
        for node in 0..machines {
            self.machines.kill(NodeId(node));
        }
        let timers = std::mem::take(&mut self.machines.world().timers);
        let ready = std::mem::take(&mut *self.machines.0.ready.lock());
        drop((timers, ready));
    }
}

/// The machines, as disks, the network and whoever breaks them see them. Clones are the same machines.
#[derive(Clone)]
pub struct Machines(Arc<Shared>);

impl Machines {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock()
    }

    /// The world as the present life of `node` sees it.
    pub fn env(&self, node: NodeId) -> Env {
        let life = self.world().machine(node).life;
        let view = Arc::new(NodeView {
            shared: Arc::clone(&self.0),
            node,
            life,
        });
        Env {
            clock: view.clone(),
            rng: view.clone(),
            spawn: view,
        }
    }

    /// True time, which no node sees.
    pub fn now_nanos(&self) -> u64 {
        self.world().now_nanos
    }

    /// Counts the lives of a node.
    pub fn life(&self, node: NodeId) -> u64 {
        self.world().machine(node).life
    }

    /// Ends all tasks of a node at once, wherever they are, as a crash does.
    pub fn kill(&self, node: NodeId) {
        let tasks: Vec<Arc<Task>> = {
            let mut world = self.world();
            let machine = world.machine(node);
            // From here on, what the tasks do while they are dropped has no effect.
            machine.life += 1;
            machine.stopped = false;
            machine.blocked_until_nanos = 0;
            machine.held.clear();
            let ids: Vec<(NodeId, u64)> = world
                .tasks
                .range((node, 0)..=(node, u64::MAX))
                .map(|(id, _)| *id)
                .collect();
            ids.iter().filter_map(|id| world.tasks.remove(id)).collect()
        };
        for task in tasks {
            let future = task.future.lock().take();
            drop(future);
        }
    }

    /// As SIGSTOP, and with `false` as SIGCONT.
    pub fn stop(&self, node: NodeId, stopped: bool) {
        self.world().machine(node).stopped = stopped;
        if !stopped {
            self.release(node);
        }
    }

    /// The node hangs in a call for so long, from now on.
    pub fn block(&self, node: NodeId, nanos: u64) {
        let mut world = self.world();
        let until = world.moment(node).saturating_add(nanos);
        world.machine(node).blocked_until_nanos = until;
        let id = world.next_id();
        world.timers.insert((until, id), Timer::Release(node));
    }

    /// Whether the node is neither stopped nor blocked.
    pub fn runs(&self, node: NodeId) -> bool {
        let mut world = self.world();
        let now = world.now_nanos;
        world.machine(node).runs(now)
    }

    /// The moment that the code of `node` which runs now belongs to: later than now if it is blocked.
    pub fn moment_nanos(&self, node: NodeId) -> u64 {
        self.world().moment(node)
    }

    /// Wakes somebody at that time, or soon if it has passed.
    pub fn wake_at(&self, at_nanos: u64, waker: Waker) {
        let mut world = self.world();
        let id = world.next_id();
        world.timers.insert((at_nanos, id), Timer::Wake(waker));
    }

    /// Sets what is wrong with a node's clock.
    pub fn set_clock(&self, node: NodeId, change: impl FnOnce(&mut NodeClock, u64)) {
        let mut world = self.world();
        let now = world.now_nanos;
        change(&mut world.machine(node).clock, now);
    }

    /// How far a node's wall clock is ahead of the true time, in microseconds.
    pub fn wall_error_micros(&self, node: NodeId) -> i64 {
        let mut world = self.world();
        let now = world.now_nanos;
        world.machine(node).clock.wall_micros(now) - clock::true_wall_micros(now)
    }

    /// Looks at nodes from outside: their clocks show the present moment, also where a call blocks.
    pub fn observe<T>(&self, look: impl FnOnce() -> T) -> T {
        self.world().observing = true;
        let seen = look();
        self.world().observing = false;
        seen
    }

    fn fire(&self, due: Vec<Timer>) {
        for timer in due {
            match timer {
                Timer::Wake(waker) => waker.wake(),
                Timer::Release(node) => self.release(node),
            }
        }
    }

    fn release(&self, node: NodeId) {
        let held = {
            let mut world = self.world();
            let now = world.now_nanos;
            let machine = world.machine(node);
            match machine.runs(now) {
                true => std::mem::take(&mut machine.held),
                false => return,
            }
        };
        self.0.ready.lock().extend(held);
    }
}

/// Adds a number to a running hash (FNV-1a's step and a rotation).
pub(crate) fn mix(hash: u64, part: u64) -> u64 {
    (hash ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
}

#[cfg(test)]
mod tests;
