use super::*;
use std::time::Duration;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

type Log = Arc<Mutex<Vec<(NodeId, u64)>>>;

/// A task that notes its node and true time every millisecond of its own clock.
fn heartbeat(machines: &Machines, node: NodeId, log: &Log) {
    let (log, machines) = (Arc::clone(log), machines.clone());
    let env = machines.env(node);
    let clock = Arc::clone(&env.clock);
    env.spawn.spawn(
        "heartbeat",
        Box::pin(async move {
            loop {
                clock.sleep(Duration::from_millis(1)).await;
                log.lock().push((node, machines.now_nanos()));
            }
        }),
    );
}

fn run_until(executor: &mut Executor, nanos: u64) {
    while executor.machines().now_nanos() < nanos {
        executor.step_until(nanos);
    }
}

fn beats(log: &Log, node: NodeId) -> usize {
    log.lock().iter().filter(|(of, _)| *of == node).count()
}

/// Sets a flag when it is dropped, and tries to start a task.
struct Grave(Arc<Mutex<u32>>, Env);

impl Drop for Grave {
    fn drop(&mut self) {
        *self.0.lock() += 1;
        let graves = Arc::clone(&self.0);
        let late = async move { *graves.lock() += 100 };
        self.1.spawn.spawn("late", Box::pin(late));
    }
}

#[test]
fn a_killed_node_drops_its_tasks_and_its_next_life_starts_anew() {
    let mut executor = Executor::new(Dice::new(1));
    let machines = executor.machines().clone();
    let log = Log::default();
    heartbeat(&machines, A, &log);
    heartbeat(&machines, B, &log);
    let graves = Arc::new(Mutex::new(0));
    let grave = Grave(Arc::clone(&graves), machines.env(A));
    let old = machines.env(A);
    let holds = async move {
        let _grave = grave;
        std::future::pending::<()>().await;
    };
    old.spawn.spawn("holds", Box::pin(holds));
    run_until(&mut executor, 10_000_000);
    assert!(beats(&log, A) >= 8 && beats(&log, B) >= 8);

    let before = beats(&log, A);
    machines.kill(A);
    assert_eq!(*graves.lock(), 1, "what a task holds goes with it");
    heartbeat(&machines, B, &log);
    old.spawn.spawn("ghost", {
        let log = Arc::clone(&log);
        Box::pin(async move { log.lock().push((A, 0)) })
    });
    run_until(&mut executor, 20_000_000);
    assert_eq!(beats(&log, A), before, "a dead node does nothing");
    assert_eq!(*graves.lock(), 1, "also not while it dies");
    assert!(beats(&log, B) >= 25);

    heartbeat(&machines, A, &log);
    run_until(&mut executor, 30_000_000);
    assert!(beats(&log, A) >= before + 8);
}

#[test]
fn a_stopped_node_stands_still_while_time_goes_on() {
    let mut executor = Executor::new(Dice::new(2));
    let machines = executor.machines().clone();
    let log = Log::default();
    heartbeat(&machines, A, &log);
    heartbeat(&machines, B, &log);
    machines.stop(A, true);
    run_until(&mut executor, 10_000_000);
    assert_eq!((beats(&log, A), machines.runs(A)), (0, false));
    assert!(beats(&log, B) >= 8);
    machines.stop(A, false);
    run_until(&mut executor, 20_000_000);
    assert!(beats(&log, A) >= 8);
}

#[test]
fn a_call_that_blocks_ends_later_and_sees_the_later_clock() {
    let mut executor = Executor::new(Dice::new(3));
    let machines = executor.machines().clone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let env = machines.env(A);
    let (told, inside) = (Arc::clone(&seen), machines.clone());
    env.clone().spawn.spawn(
        "sync",
        Box::pin(async move {
            let before = env.clock.monotonic_nanos();
            inside.block(A, 2_000_000);
            told.lock().push(env.clock.monotonic_nanos() - before);
            env.clock.sleep(Duration::from_nanos(1)).await;
            told.lock().push(env.clock.monotonic_nanos() - before);
        }),
    );
    assert_eq!(executor.step(), Step::Polled(A));
    assert_eq!(*seen.lock(), [2_000_000]);
    assert!(machines.now_nanos() < 1_000_000, "others see no such time");
    let shown = |machines: &Machines| machines.env(A).clock.monotonic_nanos();
    assert!(machines.observe(|| shown(&machines)) < shown(&machines));
    run_until(&mut executor, 3_000_000);
    assert!(seen.lock()[1] >= 2_000_000 && seen.lock().len() == 2);
    assert!(machines.runs(A));
}

#[test]
fn clocks_differ_drift_and_jump() {
    let mut executor = Executor::new(Dice::new(4));
    let machines = executor.machines().clone();
    let log = Log::default();
    machines.set_clock(A, |clock, now| clock.set_drift(now, 100_000));
    machines.set_clock(B, |clock, now| clock.set_wall_error(now, -250_000));
    heartbeat(&machines, A, &log);
    heartbeat(&machines, B, &log);
    let (a, b) = (machines.env(A).clock, machines.env(B).clock);
    let start = (a.monotonic_nanos(), b.monotonic_nanos());
    assert_ne!(start.0, start.1);
    run_until(&mut executor, 1_000_000_000);
    let ran = (a.monotonic_nanos() - start.0, b.monotonic_nanos() - start.1);
    assert!(ran.0.abs_diff(1_100_000_000) < 100_000, "{ran:?}");
    assert!(ran.1.abs_diff(1_000_000_000) < 100_000, "{ran:?}");
    assert!(machines.wall_error_micros(A).abs_diff(100_000) < 100);
    assert_eq!(machines.wall_error_micros(B), -250_000);
    // Who has the quick clock is woken more often.
    assert!(beats(&log, A) > beats(&log, B) + 50);
    machines.set_clock(A, |clock, _| clock.jump(-5_000_000));
    assert!(a.monotonic_nanos() - start.0 >= ran.0);
    assert!(machines.wall_error_micros(A) < -4_800_000);
}

#[test]
fn a_seed_is_a_trace() {
    let trace = |seed| {
        let mut executor = Executor::new(Dice::new(seed));
        let log = Log::default();
        for node in [A, B, A, B] {
            heartbeat(executor.machines(), node, &log);
        }
        run_until(&mut executor, 50_000_000);
        (executor.trace_hash(), log.lock().clone())
    };
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5).0, trace(6).0);
}
