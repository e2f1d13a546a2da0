//! One run of the chaos test.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::{self, Shared, Workload};
use super::history::{Notes, Outcome, Record, Stage};
use super::injector::Injector;
use super::schedule::{self, Kind, Step};
use super::workloads::{
    self, Additions, Bank, Counter, Inserts, Register, Registers, Set, Transfers,
};
use super::{Args, check};
use crate::cluster::{Cluster, Ground, Scratch, gaps};
use crate::peer::{connect, describe, target_folder};
use crate::{progress, report};

/// After the last fault the cluster must be healthy within this.
const HEALTHY_LIMIT: Duration = Duration::from_secs(60);
/// Load after that, so that the end is not a moment without operations.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// Longest wait for the clients to end.
const CLIENTS_END: Duration = Duration::from_secs(30);
/// How often it is looked whether a node has ended by itself.
const WATCH_PERIOD: Duration = Duration::from_millis(200);
/// Longest last look at one table through one address.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// How many anomalies are printed.
const SHOWN_ANOMALIES: usize = 20;

/// Everything that the clients have noted.
pub struct Histories {
    pub register: Arc<Shared<Register>>,
    pub set: Arc<Shared<Set>>,
    pub bank: Arc<Shared<Bank>>,
    pub counter: Arc<Shared<Counter>>,
}

/// What a checker says of a workload: what it has checked, or which rule is broken.
pub struct Verdict {
    pub workload: &'static str,
    pub checked: Result<String, String>,
}

/// Runs; true if the histories are possible, the cluster came back, and no node ended without a reason.
pub async fn run(args: Args) -> Result<bool> {
    let seed = args
        .seed
        .unwrap_or_else(|| SmallRng::from_os_rng().random_range(0..1 << 32));
    let scratch = Scratch::open("chaos", None)?;
    println!("chaos: seed {seed}");
    let mut chaos = Chaos::new(&args, seed)?;
    let outcome = chaos.run(&scratch).await;
    if !matches!(outcome, Ok(true)) {
        println!("repeat: {}", repeat(&args, seed));
    }
    scratch.close(outcome, args.cluster.keep)
}

/// The command that runs the same again.
fn repeat(args: &Args, seed: u64) -> String {
    let mut command = format!(
        "cargo xtask chaos --minutes {} --seed {seed} --nodes {}",
        args.minutes, args.cluster.nodes
    );
    if args.cluster.network == Ground::Namespaces {
        command.push_str(" --network namespaces");
    }
    if !args.faults.is_empty() {
        let names: Vec<String> = args.faults.iter().map(|kind| kind.name()).collect();
        command.push_str(&format!(" --faults {}", names.join(",")));
    }
    command
}

/// The kinds of fault that were asked for, or all that the ground offers.
fn kinds(args: &Args) -> Result<Vec<Kind>> {
    let offered =
        |kind: &Kind| !kind.needs_namespaces() || args.cluster.network == Ground::Namespaces;
    if let Some(kind) = args.faults.iter().find(|kind| !offered(kind)) {
        return Err(anyhow!("{} needs --network namespaces", kind.name()));
    }
    if !args.faults.is_empty() {
        return Ok(args.faults.clone());
    }
    let all = Kind::value_variants().iter().copied();
    Ok(all
        .filter(|kind| offered(kind) && *kind != Kind::ClockFar)
        .collect())
}

struct Chaos<'a> {
    args: &'a Args,
    seed: u64,
    kinds: Vec<Kind>,
    rng: SmallRng,
    stage: Arc<Stage>,
    acks: Arc<Notes<u64>>,
    troubles: Arc<Notes<String>>,
    struck: BTreeMap<Kind, u64>,
    anomalies: Vec<String>,
    log: File,
}

impl<'a> Chaos<'a> {
    fn new(args: &'a Args, seed: u64) -> Result<Chaos<'a>> {
        let folder = target_folder().join("chaos");
        fs::create_dir_all(&folder)?;
        let log = folder.join(format!("{seed}.log"));
        println!("schedule: {}", log.display());
        Ok(Chaos {
            args,
            seed,
            kinds: kinds(args)?,
            rng: SmallRng::seed_from_u64(seed),
            stage: Arc::default(),
            acks: Arc::default(),
            troubles: Arc::default(),
            struck: BTreeMap::new(),
            anomalies: Vec::new(),
            log: File::create(log)?,
        })
    }

    async fn run(&mut self, scratch: &Scratch) -> Result<bool> {
        let time = Duration::from_secs(self.args.minutes * 60);
        let steps = schedule::draw(&mut self.rng, time, self.args.cluster.nodes, &self.kinds);
        let cluster = Cluster::prepare(&self.args.cluster, scratch)?;
        let mut injector = Injector::equip(cluster, &self.kinds)?;
        injector.cluster.start_all().await?;
        let addresses = injector.cluster.all_dsns();
        create_tables(&addresses[0]).await?;

        self.stage = Arc::default();
        let (stop, stopped) = watch::channel(false);
        let mut clients = Vec::new();
        let histories = self.start_clients(&addresses, &stopped, &mut clients);
        self.strike(&mut injector, &steps).await?;
        let healthy = injector.cluster.wait_healthy(HEALTHY_LIMIT).await;
        let healthy_after = match healthy {
            Ok(after) => Some(after),
            Err(error) => {
                self.anomaly(format!("after the last fault: {error:#}"));
                None
            }
        };
        tokio::time::sleep(AFTERWARDS).await;
        let _ = stop.send(true);
        for client in clients {
            tokio::time::timeout(CLIENTS_END, client)
                .await
                .context("a client does not end")??;
        }
        let ended = self.stage.nanos();
        self.read_all(&addresses, &histories).await;
        let checked = self.judge(&histories, scratch)?;
        self.print(&histories, &checked, ended, healthy_after);
        Ok(self.anomalies.is_empty())
    }

    fn start_clients(
        &mut self,
        addresses: &[String],
        stopped: &watch::Receiver<bool>,
        clients: &mut Vec<JoinHandle<()>>,
    ) -> Histories {
        Histories {
            register: self.start(Registers::default(), addresses, stopped, clients),
            set: self.start(Inserts::default(), addresses, stopped, clients),
            bank: self.start(Transfers, addresses, stopped, clients),
            counter: self.start(Additions, addresses, stopped, clients),
        }
    }

    fn start<W: Workload + Clone>(
        &mut self,
        workload: W,
        addresses: &[String],
        stopped: &watch::Receiver<bool>,
        clients: &mut Vec<JoinHandle<()>>,
    ) -> Arc<Shared<W::Operation>> {
        let shared = Arc::new(Shared {
            stage: Arc::clone(&self.stage),
            history: Notes::default(),
            acks: Arc::clone(&self.acks),
            troubles: Arc::clone(&self.troubles),
        });
        for number in 0..self.args.clients {
            clients.push(tokio::spawn(client::run(
                workload.clone(),
                SmallRng::seed_from_u64(self.rng.random()),
                addresses[number % addresses.len()].clone(),
                Duration::from_secs(1) / self.args.rate.max(1),
                Arc::clone(&shared),
                stopped.clone(),
            )));
        }
        shared
    }

    /// Lets the faults strike at their moments.
    async fn strike(&mut self, injector: &mut Injector, steps: &[Step]) -> Result<()> {
        let bar = progress::bar(steps.len() as u64, "chaos");
        for step in steps {
            self.watch_until(injector, step.begin, None).await?;
            for (kind, fault) in &step.faults {
                self.say(&format!("begin: {fault}"));
                injector
                    .begin(fault)
                    .await
                    .with_context(|| fault.to_string())?;
                *self.struck.entry(*kind).or_default() += 1;
            }
            let may_end = step.faults.iter().find_map(|(_, fault)| fault.may_end());
            self.watch_until(injector, step.end, may_end).await?;
            injector.heal()?;
            self.say("all faults end");
            bar.inc(1);
            bar.set_message(format!("{} anomalies", self.anomalies.len()));
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Waits until a moment of the run, and notes which nodes end by themselves meanwhile.
    async fn watch_until(
        &mut self,
        injector: &mut Injector,
        millis: u64,
        may_end: Option<usize>,
    ) -> Result<()> {
        loop {
            for number in injector.cluster.numbers() {
                let Some(end) = injector.cluster.node_mut(number).ended_by_itself() else {
                    continue;
                };
                self.say(&format!("node {number} ended by itself"));
                if may_end != Some(number) {
                    self.anomaly(end);
                    injector.cluster.respawn(number)?;
                }
            }
            let now = self.stage.nanos() / 1_000_000;
            if now >= millis {
                return Ok(());
            }
            tokio::time::sleep(WATCH_PERIOD.min(Duration::from_millis(millis - now))).await;
        }
    }

    fn say(&mut self, what: &str) {
        let seconds = self.stage.nanos() as f64 / 1e9;
        let _ = writeln!(self.log, "{seconds:9.3} {what}");
    }

    fn anomaly(&mut self, what: String) {
        self.say(&format!("ANOMALY {what}"));
        self.anomalies.push(what);
    }

    /// Reads every table once more through every address, as operations of their own.
    async fn read_all(&mut self, addresses: &[String], histories: &Histories) {
        let keys: std::collections::BTreeSet<i64> = histories
            .register
            .history
            .all()
            .iter()
            .map(|record| record.operation.key())
            .collect();
        for dsn in addresses {
            let registers = keys.iter().map(|key| Register::Read {
                key: *key,
                seen: None,
            });
            let done = self
                .look::<Registers>(dsn, registers, &histories.register)
                .await
                && self
                    .look::<Inserts>(dsn, [Set::Read(Vec::new())], &histories.set)
                    .await
                && self
                    .look::<Transfers>(dsn, [Bank::Read(Vec::new())], &histories.bank)
                    .await
                && self
                    .look::<Additions>(dsn, [Counter::Read { seen: 0 }], &histories.counter)
                    .await;
            if !done {
                self.anomaly(format!("{dsn} does not answer at the end"));
            }
        }
    }

    /// Performs reads one after the other; false if one of them is not answered.
    async fn look<W: Workload>(
        &self,
        dsn: &str,
        operations: impl IntoIterator<Item = W::Operation>,
        shared: &Shared<W::Operation>,
    ) -> bool {
        let process = self.stage.new_process();
        let Ok(mut session) = connect(dsn).await else {
            return false;
        };
        for mut operation in operations {
            let begin = self.stage.nanos();
            let performed = W::perform(&mut session, &mut operation);
            let answered = tokio::time::timeout(READ_LIMIT, performed).await;
            if !matches!(answered, Ok(Ok(true))) {
                return false;
            }
            shared.history.add(Record {
                process,
                begin,
                end: Some(self.stage.nanos()),
                operation,
                outcome: Outcome::Done,
            });
        }
        true
    }

    /// Lets the checkers judge; gives what they have checked, workload by workload.
    fn judge(
        &mut self,
        histories: &Histories,
        scratch: &Scratch,
    ) -> Result<Vec<(&'static str, String)>> {
        let mut checked = Vec::new();
        for verdict in check::all(histories)? {
            match verdict.checked {
                Ok(counts) => checked.push((verdict.workload, counts)),
                Err(broken) => {
                    checked.push((verdict.workload, "VIOLATED".to_owned()));
                    self.anomaly(format!("{}: {broken}", verdict.workload));
                }
            }
        }
        if !self.anomalies.is_empty() {
            let folder = scratch.path();
            dump(
                &histories.register.history.all(),
                &folder.join("register.history"),
            )?;
            dump(&histories.set.history.all(), &folder.join("set.history"))?;
            dump(&histories.bank.history.all(), &folder.join("bank.history"))?;
            dump(
                &histories.counter.history.all(),
                &folder.join("counter.history"),
            )?;
        }
        Ok(checked)
    }

    fn print(
        &self,
        histories: &Histories,
        checked: &[(&str, String)],
        ended: u64,
        healthy_after: Option<Duration>,
    ) {
        let mut faults = report::table(&["fault", "times"]);
        for kind in &self.kinds {
            let times = self.struck.get(kind).copied().unwrap_or(0);
            faults.add_row([kind.name(), times.to_string()]);
        }
        println!("{faults}");
        let counts = [
            count(&histories.register.history.all()),
            count(&histories.set.history.all()),
            count(&histories.bank.history.all()),
            count(&histories.counter.history.all()),
        ];
        let mut operations = report::table(&["workload", "done", "failed", "unknown", "checked"]);
        for ((name, checked), counts) in checked.iter().zip(counts) {
            let [done, failed, unknown] = counts.map(|count| count.to_string());
            operations.add_row([*name, &done, &failed, &unknown, checked]);
        }
        println!("{operations}");
        let mut troubles: BTreeMap<String, u64> = BTreeMap::new();
        for trouble in self.troubles.all() {
            *troubles.entry(trouble).or_default() += 1;
        }
        for (trouble, count) in troubles {
            println!("{count} operations ended with: {trouble}");
        }
        let times = self.acks.all().into_iter().map(|nanos| nanos / 1000);
        println!(
            "longest time without an acknowledged write: {} ms",
            gaps::longest(times, 0..ended / 1000) / 1000
        );
        match healthy_after {
            Some(after) => println!("healthy {:.1} s after the last fault", after.as_secs_f64()),
            None => println!("not healthy at the end"),
        }
        println!("seed {}", self.seed);
        for anomaly in self.anomalies.iter().take(SHOWN_ANOMALIES) {
            println!("ANOMALY (seed {}) {anomaly}", self.seed);
        }
        println!(
            "chaos: {}",
            if self.anomalies.is_empty() {
                "ok"
            } else {
                "FAILED"
            }
        );
    }
}

async fn create_tables(dsn: &str) -> Result<()> {
    let session = connect(dsn).await?;
    session
        .batch_execute(&workloads::tables())
        .await
        .map_err(|error| anyhow!("the tables: {}", describe(&error)))
}

/// Done, failed, unknown.
fn count<T>(records: &[Record<T>]) -> [usize; 3] {
    [Outcome::Done, Outcome::Failed, Outcome::Unknown].map(|outcome| {
        records
            .iter()
            .filter(|record| record.outcome == outcome)
            .count()
    })
}

fn dump<T: Debug>(records: &[Record<T>], file: &std::path::Path) -> Result<()> {
    let mut out = std::io::BufWriter::new(File::create(file)?);
    for record in records {
        writeln!(out, "{record:?}")?;
    }
    Ok(out.flush()?)
}
