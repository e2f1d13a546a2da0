//! Runs the simulator over many seeds.
//!
//! The simulator links the whole database, and only its release build is quick enough for a thousand seeds.
//! So it is behind the feature `sim`: without it this task calls cargo for a release build with it, and all
//! other tasks stay small.

use anyhow::Result;

#[derive(clap::Args, Clone)]
#[command(after_help = "Examples:\n  cargo xtask sim --seeds 1000\n  \
    cargo xtask sim --first 4711 --seeds 1\n  \
    cargo xtask sim --seeds 100000 --minutes 60 --steps 100000")]
pub struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed; the others follow it.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Steps of one run (default: the simulator's own).
    #[arg(long)]
    steps: Option<u64>,
    /// Begin no further seed after this long.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// One seed of so many runs twice, and both runs must leave the same trace.
    #[arg(long, default_value_t = 20)]
    twice_every: u64,
    /// Seeds at the same time (default: one per core).
    #[arg(long)]
    jobs: Option<usize>,
}

#[cfg(not(feature = "sim"))]
pub fn run(args: Args) -> Result<bool> {
    use anyhow::Context;

    let mut cargo =
        std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "run",
        "--release",
        "--package",
        "xtask",
        "--features",
        "sim",
        "--",
        "sim",
    ]);
    for (flag, value) in [
        ("--seeds", Some(args.seeds)),
        ("--first", Some(args.first)),
        ("--steps", args.steps),
        ("--minutes", Some(args.minutes)),
        ("--twice-every", Some(args.twice_every)),
        ("--jobs", args.jobs.map(|jobs| jobs as u64)),
    ] {
        if let Some(value) = value {
            cargo.args([flag, &value.to_string()]);
        }
    }
    let status = cargo
        .current_dir(crate::peer::workspace_folder())
        .status()
        .context("cannot run cargo")?;
    Ok(status.success())
}

#[cfg(feature = "sim")]
pub fn run(args: Args) -> Result<bool> {
    many::run(args)
}

#[cfg(feature = "sim")]
mod many {
    use std::collections::BTreeMap;
    use std::panic::catch_unwind;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use ::sim::one_node::{self, Report};
    use anyhow::Result;

    use super::Args;
    use crate::{progress, report};

    /// How many violations are printed.
    const SHOWN_VIOLATIONS: usize = 20;

    /// What all seeds together have shown.
    #[derive(Default)]
    struct Sum {
        runs: u64,
        twice: u64,
        lives: u64,
        crashes: u64,
        torn_batches: u64,
        committed: u64,
        aborted: u64,
        undecided: u64,
        errors: BTreeMap<String, u64>,
        violations: Vec<String>,
    }

    impl Sum {
        fn add(&mut self, report: Report) {
            self.runs += 1;
            self.lives += report.lives;
            self.crashes += report.crashes;
            self.torn_batches += report.torn_batches;
            self.committed += report.committed;
            self.aborted += report.aborted;
            self.undecided += report.undecided;
            for (sqlstate, count) in report.errors {
                *self.errors.entry(sqlstate).or_default() += count;
            }
        }
    }

    /// Runs the seeds; true if none showed a violation.
    pub fn run(args: Args) -> Result<bool> {
        let steps = args.steps.unwrap_or(one_node::DEFAULT_STEPS);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let end = args.first.saturating_add(args.seeds);
        let began = Instant::now();
        let time_box = Duration::from_secs(args.minutes * 60);
        let next = AtomicU64::new(args.first);
        let sum = Mutex::new(Sum::default());
        let bar = progress::bar(args.seeds, "sim");
        std::thread::scope(|scope| {
            for _ in 0..args.jobs.unwrap_or(cores) {
                scope.spawn(|| {
                    while began.elapsed() < time_box {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            break;
                        }
                        let twice = args.twice_every > 0 && seed.is_multiple_of(args.twice_every);
                        let outcome = once(seed, steps, twice);
                        let mut sum = sum
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner);
                        sum.twice += u64::from(twice);
                        match outcome {
                            Ok(report) => sum.add(report),
                            Err(violation) => sum.violations.push(violation),
                        }
                        bar.set_message(format!("{} violations", sum.violations.len()));
                        bar.inc(1);
                    }
                });
            }
        });
        bar.finish_and_clear();
        let sum = sum
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        print(&sum, &args, began.elapsed());
        Ok(sum.violations.is_empty())
    }

    /// One seed, or the same seed twice. A panic is a violation too.
    fn once(seed: u64, steps: u64, twice: bool) -> Result<Report, String> {
        let run = || {
            catch_unwind(|| one_node::run(seed, steps))
                .unwrap_or_else(|_| {
                    Err(one_node::Violation {
                        seed,
                        life: 0,
                        what: "it panicked".to_owned(),
                    })
                })
                .map_err(|violation| violation.to_string())
        };
        let report = run()?;
        if twice {
            let again = run()?;
            if again.trace_hash != report.trace_hash {
                return Err(format!(
                    "seed {seed}: two runs differ: trace {:016x}, then {:016x}",
                    report.trace_hash, again.trace_hash
                ));
            }
        }
        Ok(report)
    }

    fn print(sum: &Sum, args: &Args, elapsed: Duration) {
        let done = sum.runs + sum.violations.len() as u64;
        let mut table = report::table(&["figure", "value"]);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row(
            "seeds",
            format!("{done} of {}, from {}", args.seeds, args.first),
        );
        row("seeds run twice, same trace asked", sum.twice.to_string());
        row("lives of the node", sum.lives.to_string());
        row("crashes", sum.crashes.to_string());
        row("torn batches", sum.torn_batches.to_string());
        row("transactions committed", sum.committed.to_string());
        row("transactions aborted", sum.aborted.to_string());
        row("transactions undecided", sum.undecided.to_string());
        for (sqlstate, count) in &sum.errors {
            row(&format!("errors {sqlstate}"), count.to_string());
        }
        row("seconds", format!("{:.0}", elapsed.as_secs_f64()));
        println!("{table}");
        for violation in sum.violations.iter().take(SHOWN_VIOLATIONS) {
            println!("VIOLATION {violation}");
        }
        if done < args.seeds {
            println!(
                "the time of {} minutes was over before all seeds had run",
                args.minutes
            );
        }
        println!(
            "{}",
            if sum.violations.is_empty() {
                "sim: ok"
            } else {
                "sim: FAILED"
            }
        );
    }
}
