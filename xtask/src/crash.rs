//! The crash test: writers through the wire, `kill -9` at random moments, restart, check.
//!
//! Every transaction is logged as the client saw it:
//!
//! | outcome | meaning | after a restart |
//! | --- | --- | --- |
//! | acknowledged | the server answered COMMIT with success | all its effects are there |
//! | failed | the server refused it, or the connection broke before COMMIT was sent | none is there |
//! | unknown | the connection broke after COMMIT was sent | all or none: the check finds out which |
//!
//! A transaction is never retried. One writer owns each row (except accounts, whose changes commute), so the
//! log alone says what every table must hold: `model` computes it, `check` reads the tables and compares.
//! An unknown transaction that the check has once found must stay found: it enters the model.
//!
//! Meanwhile a reader sums the accounts again and again: every snapshot must hold all the money.
//!
//! The harness proves itself: `--peer postgres` must pass, and `--self-test` damages the data behind the
//! model's back and passes only if the check notices every time.

mod check;
mod model;
mod reader;
mod selftest;
mod tables;
mod workload;
mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::peer::{Peer, Program, Server, cache_folder, connect, readable_by_all};
use crate::{progress, report};
use check::{Finding, Findings};
use model::{Model, Outcome, Transaction};
use workload::{Ids, Load};

/// The kill comes this long after the writers have started, in milliseconds.
const KILL_AFTER_MS: std::ops::RangeInclusive<u64> = 50..=1500;
/// In one round of five the server is killed once more while it recovers, this long after its start.
const KILL_IN_RECOVERY_MS: std::ops::RangeInclusive<u64> = 1..=100;
const RECOVERY_KILL_PROBABILITY: f64 = 0.2;
/// Longest wait for writers and reader to notice that the server is gone.
const WRITERS_END: Duration = Duration::from_secs(20);
/// Longest check of one round: it reads every table once and looks a few hundred keys up.
const CHECK_END: Duration = Duration::from_secs(180);
/// How many violations are printed in full.
const SHOWN_VIOLATIONS: usize = 20;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask crash --rounds 100\n  \
    cargo xtask crash --rounds 20 --seed 42 --binary target/release/phantomdb\n  \
    cargo xtask crash --rounds 5 --peer postgres\n  \
    cargo xtask crash --self-test --peer postgres")]
pub struct Args {
    /// How many times the server is killed.
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// Seed of the workload and the moments of the kills (timing itself is not repeatable).
    #[arg(long)]
    seed: Option<u64>,
    /// Connections that write at the same time.
    #[arg(long, default_value_t = 8)]
    writers: u32,
    /// Which server to test.
    #[arg(long, value_enum, default_value_t = Peer::Phantom)]
    peer: Peer,
    /// A PhantomDB program to start instead of this workspace's release build.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Keep the data folder of a run that found a violation (its path is printed).
    #[arg(long)]
    keep: bool,
    /// Damage the data behind the model's back and see that the check notices.
    #[arg(long)]
    self_test: bool,
}

/// Kills and checks; true if no violation was found.
pub async fn run(args: Args) -> Result<bool> {
    let seed = args
        .seed
        .unwrap_or_else(|| SmallRng::from_os_rng().random());
    let program = args.peer.program(args.binary.as_deref())?;
    let folder = TempDir::new_in(cache_folder()?)?;
    readable_by_all(folder.path())?;
    println!(
        "crash: seed {seed}, {} rounds, {} writers, {}",
        args.rounds,
        args.writers,
        program.path().display()
    );

    let mut test = CrashTest {
        data: folder.path().join("data"),
        program,
        rng: SmallRng::seed_from_u64(seed),
        seed,
        model: Model::default(),
        ids: Ids::default(),
        findings: Findings::default(),
        restart_ms: Histogram::new(3)?,
        refused: BTreeMap::new(),
        recovery_kills: 0,
    };
    let passed = if args.self_test {
        test.self_test(args.writers).await
    } else {
        test.rounds(&args).await
    }
    .with_context(|| format!("crash test, seed {seed}"))?;
    if !passed && args.keep {
        println!("data kept in {}", folder.keep().display());
    }
    Ok(passed)
}

struct CrashTest {
    program: Program,
    data: PathBuf,
    rng: SmallRng,
    seed: u64,
    model: Model,
    ids: Ids,
    findings: Findings,
    restart_ms: Histogram<u64>,
    /// How often each SQLSTATE refused a transaction.
    refused: BTreeMap<String, u64>,
    recovery_kills: u64,
}

impl CrashTest {
    async fn rounds(&mut self, args: &Args) -> Result<bool> {
        let mut server = Server::start(&self.program, &self.data).await?;
        workload::create_tables(&connect(&server.dsn()).await?).await?;
        let bar = progress::bar(args.rounds, "crash");
        for round in 0..args.rounds {
            self.load_and_kill(&mut server, args.writers, round).await?;
            server = self
                .restart()
                .await
                .with_context(|| format!("restart after round {round}"))?;
            let session = connect(&server.dsn()).await?;
            check::prefer_indexes(&session).await;
            let check =
                check::settle_and_check(&session, &mut self.model, round, &mut self.findings);
            tokio::time::timeout(CHECK_END, check)
                .await
                .with_context(|| {
                    format!("the check of round {round} did not end: a query hangs")
                })??;
            bar.set_message(format!("{} violations", self.findings.violations().len()));
            bar.inc(1);
            if !self.findings.violations().is_empty() {
                break;
            }
        }
        bar.finish_and_clear();
        server.stop().context("the polite stop at the end")?;
        self.print();
        Ok(self.findings.violations().is_empty())
    }

    async fn self_test(&mut self, writers: u32) -> Result<bool> {
        let mut server = Server::start(&self.program, &self.data).await?;
        workload::create_tables(&connect(&server.dsn()).await?).await?;
        self.load_and_kill(&mut server, writers, 0).await?;
        let server = self.restart().await?;
        let session = connect(&server.dsn()).await?;
        check::prefer_indexes(&session).await;
        check::settle_and_check(&session, &mut self.model, 0, &mut self.findings).await?;
        anyhow::ensure!(
            self.findings.violations().is_empty(),
            "the undamaged data must pass"
        );
        selftest::run(&session, &self.model).await
    }

    /// Lets the writers work until the kill, and takes their logs into the model.
    async fn load_and_kill(&mut self, server: &mut Server, writers: u32, round: u64) -> Result<()> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        for number in 0..writers {
            let load = Load::new(
                number,
                SmallRng::seed_from_u64(self.rng.random::<u64>()),
                self.ids.clone(),
                self.model.of_writer(number),
            );
            tasks.push(tokio::spawn(writer::run(
                server.dsn(),
                load,
                stopped.clone(),
            )));
        }
        let reader = tokio::spawn(reader::run(server.dsn(), stopped.clone()));
        let pause = Duration::from_millis(self.rng.random_range(KILL_AFTER_MS));
        tokio::time::sleep(pause).await;
        server.kill()?;
        let _ = stop.send(true);
        for task in tasks {
            let log = tokio::time::timeout(WRITERS_END, task)
                .await
                .with_context(|| {
                    format!("a writer did not notice the kill of round {round}")
                })???;
            self.take(log);
        }
        let seen = tokio::time::timeout(WRITERS_END, reader)
            .await
            .with_context(|| format!("the reader did not notice the kill of round {round}"))???;
        self.findings.count(Finding::SnapshotTorn, seen.sums);
        for wrong in seen.wrong {
            self.findings
                .add(Finding::SnapshotTorn, format!("round {round}: {wrong}"));
        }
        Ok(())
    }

    fn take(&mut self, log: Vec<Transaction>) {
        for transaction in log {
            if let Outcome::Failed {
                sqlstate, expected, ..
            } = &transaction.outcome
            {
                *self.refused.entry(sqlstate.clone()).or_default() += 1;
                self.findings
                    .check(Finding::UnexpectedError, *expected, || {
                        transaction.to_string()
                    });
            }
            self.model.log(transaction);
        }
    }

    /// Starts the server again, sometimes with one more kill while it recovers.
    async fn restart(&mut self) -> Result<Server> {
        if self.rng.random_bool(RECOVERY_KILL_PROBABILITY) {
            let mut doomed = Server::spawn(&self.program, &self.data)?;
            let pause = Duration::from_millis(self.rng.random_range(KILL_IN_RECOVERY_MS));
            tokio::time::sleep(pause).await;
            doomed.kill()?;
            self.recovery_kills += 1;
        }
        let began = Instant::now();
        let server = Server::start(&self.program, &self.data).await?;
        self.restart_ms.record(began.elapsed().as_millis() as u64)?;
        Ok(server)
    }

    fn print(&self) {
        let counts = self.model.counts();
        let mut figures = report::table(&["figure", "value"]);
        let mut row = |name: &str, value: String| {
            figures.add_row([name.to_owned(), value]);
        };
        row("transactions acknowledged", counts.acknowledged.to_string());
        row("transactions failed", counts.failed.to_string());
        row(
            "transactions unknown: found whole",
            counts.unknown_present.to_string(),
        );
        row(
            "transactions unknown: found absent",
            counts.unknown_absent.to_string(),
        );
        row("kills during recovery", self.recovery_kills.to_string());
        row(
            "restart p50, ms",
            self.restart_ms.value_at_quantile(0.5).to_string(),
        );
        row(
            "restart p99, ms",
            self.restart_ms.value_at_quantile(0.99).to_string(),
        );
        for (sqlstate, count) in &self.refused {
            row(&format!("refused with {sqlstate}"), count.to_string());
        }
        println!("{figures}");
        println!("{}", self.findings.table());
        for violation in self.findings.violations().iter().take(SHOWN_VIOLATIONS) {
            println!("VIOLATION (seed {}) {violation}", self.seed);
        }
        println!(
            "{}",
            if self.findings.violations().is_empty() {
                "crash: ok"
            } else {
                "crash: FAILED"
            }
        );
    }
}
