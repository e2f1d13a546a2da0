//! Many seeds on all cores.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::worlds::{self, Outcome};
use super::{Args, World};
use crate::{progress, report};

/// How many violations are printed.
const SHOWN_VIOLATIONS: usize = 20;

/// What all seeds together have shown, by world.
#[derive(Default)]
struct Sum {
    runs: u64,
    twice: u64,
    /// Of all trace hashes, whatever the order of the runs.
    trace_hash: u64,
    counts: BTreeMap<String, u64>,
    violations: Vec<String>,
}

impl Sum {
    fn add(&mut self, outcome: Result<Outcome, String>, twice: bool) {
        self.runs += 1;
        self.twice += u64::from(twice);
        match outcome {
            Ok(outcome) => {
                self.trace_hash ^= outcome.trace_hash;
                for (name, count) in outcome.counts {
                    *self.counts.entry(name).or_default() += count;
                }
            }
            Err(violation) => self.violations.push(violation),
        }
    }
}

/// Runs the seeds; true if none showed a violation.
pub fn run(args: Args) -> Result<bool> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let end = args.first.saturating_add(args.seeds);
    let began = Instant::now();
    let time_box = Duration::from_secs(args.minutes * 60);
    let next = AtomicU64::new(args.first);
    let sums = Mutex::new(BTreeMap::<&str, Sum>::new());
    let bar = progress::bar(args.seeds, "sim");
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.unwrap_or(cores) {
            scope.spawn(|| {
                while began.elapsed() < time_box {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    for world in [World::OneNode, World::Cluster] {
                        if args.world.is_some_and(|only| only != world) {
                            continue;
                        }
                        let twice = args.twice_every > 0 && seed.is_multiple_of(args.twice_every);
                        let outcome = worlds::once(world, seed, &args, twice);
                        let mut sums = lock(&sums);
                        sums.entry(world.name()).or_default().add(outcome, twice);
                        let violations: usize = sums.values().map(|sum| sum.violations.len()).sum();
                        bar.set_message(format!("{violations} violations"));
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let sums = sums
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    for (world, sum) in &sums {
        print(world, sum, &args);
    }
    let done = sums.values().map(|sum| sum.runs).max().unwrap_or(0);
    println!("{done} seeds in {:.0} s", began.elapsed().as_secs_f64());
    if done < args.seeds {
        println!(
            "the time of {} minutes was over before all seeds had run",
            args.minutes
        );
    }
    let sound = sums.values().all(|sum| sum.violations.is_empty());
    println!("{}", if sound { "sim: ok" } else { "sim: FAILED" });
    Ok(sound)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn print(world: &str, sum: &Sum, args: &Args) {
    let mut table = report::table(&[world, "sum"]);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_owned(), value]);
    };
    row(
        "seeds",
        format!("{} of {}, from {}", sum.runs, args.seeds, args.first),
    );
    row("seeds run twice, same trace asked", sum.twice.to_string());
    for (name, count) in &sum.counts {
        row(name, count.to_string());
    }
    row("trace", format!("{:016x}", sum.trace_hash));
    println!("{table}");
    for violation in sum.violations.iter().take(SHOWN_VIOLATIONS) {
        println!("VIOLATION {violation}\n");
    }
    let more = sum.violations.len().saturating_sub(SHOWN_VIOLATIONS);
    if more > 0 {
        println!("and {more} more violations");
    }
}
