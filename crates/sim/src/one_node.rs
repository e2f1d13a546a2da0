//! One node, some clients, crashes.
//!
//! A run is a series of lives. A life opens the store on what the last one left on the disk, compares
//! all of it with the model, then lets clients work until the process dies: at a random write or sync
//! (before or after the disk carried it out), or between two steps. Then the disk forgets a random part of
//! what was not synced. Some lives end by a clean shutdown, some meet a full disk. The wall clock jumps
//! between lives.
//!
//! Checked: every acknowledged transaction is there and every refused one is not; every other is whole or
//! absent, and stays so; balances are what the transfers make them; unique values have one owner; no
//! write skew under SERIALIZABLE; no read misses what was acknowledged before it; a snapshot is of
//! one moment and does not move.

use crate::dice::Dice;
use crate::executor::{Executor, NodeId, Step};
use crate::faulty_engine::{FaultyEngine, Plan};
use crate::model::Model;
use crate::workload::{Client, open_accounts};
use consensus::GroupOptions;
use futures::executor::block_on;
use node::parts::PartOptions;
use node::{Options, Store};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use storage::SimDisk;
use txn::kv::{Isolation, ReadScope, Span};
use txn::{Coordinator, Limits};
use types::SqlState;

/// Steps of the executor in one run.
pub const DEFAULT_STEPS: u64 = 20_000;
/// Steps of one life, at most.
const LIFE_STEPS: u64 = 3_000;
/// Clients of one life, at most.
const CLIENTS: u64 = 12;
/// The only machine.
const NODE: NodeId = NodeId(1);

/// What happened in a run that found nothing wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub seed: u64,
    /// Equal for two runs of one seed.
    pub trace_hash: u64,
    pub lives: u64,
    pub crashes: u64,
    pub torn_batches: u64,
    pub committed: u64,
    pub aborted: u64,
    pub undecided: u64,
    /// By SQLSTATE.
    pub errors: BTreeMap<String, u64>,
    pub virtual_nanos: u64,
}

/// What must not be, and the seed to see it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub seed: u64,
    pub life: u64,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, life {}: {}", self.seed, self.life, self.what)
    }
}

impl std::error::Error for Violation {}

/// A bug to put in, to prove that it is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bug {
    #[default]
    None,
    /// Acknowledges what is not on disk.
    SkipSync,
}

/// Runs the world of this seed for this many steps.
pub fn run(seed: u64, steps: u64) -> Result<Report, Violation> {
    run_with(seed, steps, Bug::None)
}

pub fn run_with(seed: u64, steps: u64, bug: Bug) -> Result<Report, Violation> {
    let mut dice = Dice::new(seed);
    let mut world = World {
        seed,
        bug,
        executor: Executor::new(dice.fork()),
        dice,
        disk: SimDisk::new(),
        model: Arc::default(),
        lives: 0,
        crashes: 0,
        torn_batches: 0,
        steps_left: steps,
    };
    while world.steps_left > 0 {
        world.lives += 1;
        world.life().map_err(|what| Violation {
            seed,
            life: world.lives,
            what,
        })?;
    }
    let model = world.model.lock();
    Ok(Report {
        seed: world.seed,
        trace_hash: model.hash,
        lives: world.lives,
        crashes: world.crashes,
        torn_batches: world.torn_batches,
        committed: model.committed,
        aborted: model.aborted,
        undecided: model.undecided,
        errors: model.errors.clone(),
        virtual_nanos: world.executor.machines().now_nanos(),
    })
}

struct World {
    seed: u64,
    bug: Bug,
    dice: Dice,
    executor: Executor,
    disk: SimDisk,
    model: Arc<Mutex<Model>>,
    lives: u64,
    crashes: u64,
    torn_batches: u64,
    steps_left: u64,
}

impl World {
    fn life(&mut self) -> Result<(), String> {
        // Up to ten seconds back or forth.
        let jump = self.dice.below(20_000_000) as i64 - 10_000_000;
        self.executor
            .machines()
            .set_clock(NODE, |clock, now| clock.set_wall_error(now, jump));
        let engine = Arc::new(FaultyEngine::new(self.disk.clone(), self.plan()));
        let options = self.options();
        let steps = self.dice.below(LIFE_STEPS).min(self.steps_left);
        self.steps_left -= steps.max(1).min(self.steps_left);

        let env = self.executor.machines().env(NODE);
        match node::testing::open_alone(engine.clone(), env, options) {
            Ok(store) => {
                self.check(&store)?;
                self.work(store, &engine, steps)?;
            }
            // Died, or no space, while it recovered.
            Err(_) if engine.crashed() => {}
            Err(error) if error.state == SqlState::DISK_FULL => {}
            Err(error) => return Err(format!("the store does not open: {error}")),
        }
        self.end_of_life();
        Ok(())
    }

    fn plan(&mut self) -> Plan {
        let dice = &mut self.dice;
        let full_from = dice.below(300);
        Plan {
            crash_at: dice.percent(70).then(|| {
                // Many die young, in recovery or just after.
                let most = if dice.percent(20) { 5 } else { 600 };
                dice.below(most)
            }),
            crash_after: dice.percent(50),
            full: if dice.percent(25) {
                full_from..full_from + dice.below(40)
            } else {
                0..0
            },
        }
    }

    fn options(&mut self) -> Options {
        let gc_ttl = Duration::from_micros(self.dice.below(20_000));
        let log_entries = 1 + self.dice.below(64) as usize;
        Options {
            gc_ttl,
            log: GroupOptions {
                log_entries,
                log_bytes: 1 << 20,
            },
            parts: small_parts(log_entries),
            broken_skip_sync: self.bug == Bug::SkipSync,
            // So small that most commits are applied in several batches.
            batch_writes: if self.dice.percent(50) {
                1 + self.dice.below(3) as usize
            } else {
                Options::default().batch_writes
            },
            ..Options::default()
        }
    }

    /// Clients work until the process dies or the life is over.
    fn work(&mut self, store: Arc<Store>, engine: &FaultyEngine, steps: u64) -> Result<(), String> {
        let env = self.executor.machines().env(NODE);
        let coordinator = store.coordinator(Limits::default());
        let opening = coordinator.clone();
        let clients: Vec<Client> = (0..=self.dice.below(CLIENTS))
            .map(|_| Client {
                store: Arc::clone(&store),
                coordinator: coordinator.clone(),
                model: Arc::clone(&self.model),
                clock: Arc::clone(&env.clock),
                dice: self.dice.fork(),
            })
            .collect();
        let inside = env.clone();
        env.spawn.spawn(
            "clients",
            Box::pin(async move {
                if open_accounts(&opening, &inside).await.is_ok() {
                    for client in clients {
                        inside.spawn.spawn("client", Box::pin(client.run()));
                    }
                }
            }),
        );
        for _ in 0..steps {
            self.step()?;
            if engine.crashed() {
                return Ok(());
            }
        }
        if self.dice.percent(30) {
            return self.shut_down(store, engine);
        }
        Ok(())
    }

    fn shut_down(&mut self, store: Arc<Store>, engine: &FaultyEngine) -> Result<(), String> {
        /// A full disk may delay the end by some pauses of the writer.
        const MOST_STEPS: u64 = 20_000;
        let done = Arc::new(Mutex::new(false));
        let told = Arc::clone(&done);
        self.executor.machines().env(NODE).spawn.spawn(
            "shutdown",
            Box::pin(async move {
                store.shutdown().await;
                *told.lock() = true;
            }),
        );
        for _ in 0..MOST_STEPS {
            self.step()?;
            if *done.lock() || engine.crashed() {
                return Ok(());
            }
        }
        Err("the store does not shut down".to_owned())
    }

    fn step(&mut self) -> Result<(), String> {
        let step = self.executor.step();
        let mut model = self.model.lock();
        model.note(u64::from(step == Step::Idle), self.executor.trace_hash());
        model.violation.take().map_or(Ok(()), Err)
    }

    fn end_of_life(&mut self) {
        self.executor.machines().kill(NODE);
        let report = self.disk.crash(|| self.dice.next_u64());
        self.crashes += 1;
        self.torn_batches += u64::from(report.torn);
        let mut model = self.model.lock();
        model.note(6, report.batches_lost as u64);
    }

    /// Reads everything and compares it with the model.
    fn check(&mut self, store: &Store) -> Result<(), String> {
        let coordinator = store.coordinator(Limits::default());
        let rows = self.read_all(&coordinator)?;
        self.model.lock().check_restarted(&rows)
    }

    fn read_all(&mut self, coordinator: &Coordinator) -> Result<BTreeMap<String, String>, String> {
        let limit = 1 + self.dice.below(100) as usize;
        let mut txn = coordinator.begin(Isolation::RepeatableRead, true);
        let unreadable = |error| format!("the restarted store is unreadable: {error}");
        block_on(txn.begin_statement(ReadScope::All)).map_err(unreadable)?;
        let mut span = Span {
            start: "a".into(),
            end: "z".into(),
        };
        let mut rows = BTreeMap::new();
        loop {
            let page = block_on(txn.scan(span.clone(), false, limit, 1 << 20));
            let page = page.map_err(unreadable)?;
            for (key, value, _) in page.rows {
                rows.insert(
                    String::from_utf8_lossy(&key).into_owned(),
                    String::from_utf8_lossy(&value).into_owned(),
                );
            }
            match page.resume {
                Some(at) => span.start = at,
                None => return Ok(rows),
            }
        }
    }
}

/// In half of the worlds, parts so small that most commits are cut: told by a number that was drawn already.
pub(crate) fn small_parts(drawn: usize) -> PartOptions {
    match drawn % 2 {
        0 => PartOptions {
            whole_bytes: 60,
            part_bytes: 1 + drawn / 2,
        },
        _ => PartOptions::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: u64 = 12_000;

    #[test]
    fn thirty_seeds() {
        let mut total = (0, 0, 0);
        for seed in 0..30 {
            match run(seed, STEPS) {
                Ok(report) => {
                    total.0 += report.committed;
                    total.1 += report.crashes;
                    total.2 += report.torn_batches;
                }
                Err(violation) => panic!("{violation}"),
            }
        }
        // The world is not empty.
        assert!(total.0 > 1000 && total.1 > 100 && total.2 > 10, "{total:?}");
    }

    #[test]
    fn one_seed_is_one_trace() {
        for seed in [1, 77] {
            assert_eq!(run(seed, STEPS), run(seed, STEPS));
        }
    }

    #[test]
    fn a_commit_that_is_not_synced_is_caught() {
        let caught = (0..10).filter_map(|seed| run_with(seed, STEPS, Bug::SkipSync).err());
        let caught: Vec<Violation> = caught.collect();
        assert!(
            caught.len() >= 5,
            "only {} of 10 seeds notice",
            caught.len()
        );
        assert!(
            caught.iter().any(|v| v.what.contains("is lost")),
            "{caught:?}"
        );
    }
}
