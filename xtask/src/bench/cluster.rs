//! Three nodes beside what people replicate with today, on the same machine and disk.
//!
//! - PostgreSQL with two standbys, of which one must have synced before a commit is acknowledged
//!   (`synchronous_standby_names = 'ANY 1 (s1, s2)'`): the same promise as a quorum of three.
//! - etcd with three members, for single-row writes by key.
//!
//! Every side has three processes, syncs every commit on a majority, and shares the cores with its clients.
//! PostgreSQL's clients talk to the primary, the only one that takes writes; those of the other two spread over all
//! three. Only one side gets load at a time, and each workload alternates A B C A B C …

mod etcd;
mod grpc;
mod kv;
mod postgres;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::pgbench::{self, At, Mode, Run, Script};
use super::plan::{Target, Unit};
use super::result::{self, Measured, Sample, Side};
use super::{REST, chart};
use crate::cluster::{Cluster, Options, Scratch};
use crate::peer::{Program, connect, postgres_program};
use crate::{progress, report};
use etcd::EtcdTrio;
use postgres::PostgresTrio;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench cluster\n  \
    cargo xtask bench cluster --rounds 3 --seconds 10 --only tpc-b\n  \
    cargo xtask bench cluster --side postgres --side etcd --rounds 1 --seconds 5\n\n\
    Writes cluster.md and cluster.svg into the folder bench of cargo's target folder.")]
pub struct Args {
    #[command(flatten)]
    cluster: Options,
    /// How often each workload runs on each side; the medians need three.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long each run takes.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Run only the workloads whose name contains this text.
    #[arg(long)]
    only: Option<String>,
    /// Measure only these sides (default: all).
    #[arg(long = "side", value_enum)]
    sides: Vec<Contender>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Contender {
    Postgres,
    Etcd,
    Phantom,
}

impl Contender {
    fn side(self) -> Side {
        match self {
            Contender::Postgres => Side::Postgres,
            Contender::Etcd => Side::Etcd,
            Contender::Phantom => Side::Phantom,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Pgbench(Run),
    /// Single-row writes by key over this many connections.
    Upserts(u32),
}

impl Kind {
    fn name(self) -> String {
        match self {
            Kind::Pgbench(run) => run.name(),
            Kind::Upserts(connections) => format!("key-value upserts, {connections} connections"),
        }
    }

    fn peers(self) -> &'static [Side] {
        match self {
            Kind::Pgbench(_) => &[Side::Postgres],
            Kind::Upserts(_) => &[Side::Postgres, Side::Etcd],
        }
    }
}

fn workloads() -> Vec<Kind> {
    let prepared = |script, clients| {
        Kind::Pgbench(Run {
            script,
            mode: Mode::Prepared,
            clients,
        })
    };
    vec![
        prepared(Script::TpcB, 8),
        prepared(Script::TpcB, 32),
        prepared(Script::SelectOnly, 8),
        prepared(Script::SelectOnly, 32),
        Kind::Upserts(32),
    ]
}

/// Whoever was started.
struct Sides {
    postgres: Option<PostgresTrio>,
    etcd: Option<EtcdTrio>,
    phantom: Option<Cluster>,
    tools: Program,
}

/// Measures; true if every workload ran on every side.
pub async fn run(args: Args) -> Result<bool> {
    if cfg!(debug_assertions) {
        // The clients of the key-value workload are in this program and share the cores with the servers.
        return crate::again::built_with(&["--release"]);
    }
    let scratch = Scratch::open("bench-cluster", None)?;
    let outcome = measure_all(&args, &scratch).await;
    scratch.close(outcome, args.cluster.keep)
}

async fn measure_all(args: &Args, scratch: &Scratch) -> Result<bool> {
    let kinds: Vec<Kind> = workloads()
        .into_iter()
        .filter(|kind| {
            args.only
                .as_deref()
                .is_none_or(|text| kind.name().contains(text))
        })
        .collect();
    anyhow::ensure!(!kinds.is_empty(), "no workload has that name");
    let mut sides = Sides::start(args, &kinds, scratch).await?;
    let facts = sides.facts(args).await?;
    let bar = progress::bar(
        u64::from(args.rounds) * kinds.len() as u64 * sides.started().len() as u64,
        "bench",
    );
    let mut measured = Vec::new();
    let mut prepared = false;
    for kind in kinds {
        let mut results: Vec<Measured> = kind
            .peers()
            .iter()
            .map(|peer| Measured::against(*peer, &kind.name(), Unit::PerSecond, Target::None))
            .collect();
        if matches!(kind, Kind::Pgbench(_)) && !prepared {
            sides.prepare_pgbench(&bar)?;
            prepared = true;
        }
        for round in 1..=args.rounds {
            for side in sides.started() {
                if side != Side::Phantom && !kind.peers().contains(&side) {
                    bar.inc(1);
                    continue;
                }
                bar.set_message(format!("{} on {}", kind.name(), side.name()));
                tokio::time::sleep(REST).await;
                let sample = sides.measure(kind, side, args.seconds).await;
                let shown = note(&mut results, side, sample);
                bar.suspend(|| {
                    println!("{} round {round} {:<10} {shown}", kind.name(), side.name())
                });
                bar.inc(1);
            }
        }
        measured.extend(results);
    }
    bar.finish_and_clear();
    publish(&measured, &facts, sides.check_sums(prepared).await)
}

/// Gives the sample to every comparison that the side takes part in.
fn note(results: &mut [Measured], side: Side, sample: Result<Sample>) -> String {
    let mut shown = String::new();
    for result in results
        .iter_mut()
        .filter(|result| result.sides().contains(&side))
    {
        let copy = match &sample {
            Ok(sample) => Ok(*sample),
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        };
        shown = result.add(side, copy);
    }
    shown
}

impl Sides {
    async fn start(args: &Args, kinds: &[Kind], scratch: &Scratch) -> Result<Sides> {
        let wanted = |side: Side| {
            let asked = args.sides.is_empty() || args.sides.iter().any(|c| c.side() == side);
            let used =
                side == Side::Phantom || kinds.iter().any(|kind| kind.peers().contains(&side));
            asked && used
        };
        let tools = postgres_program()?;
        let folder = scratch.path();
        let mut sides = Sides {
            postgres: None,
            etcd: None,
            phantom: None,
            tools,
        };
        if wanted(Side::Postgres) {
            let trio = PostgresTrio::start(&sides.tools, folder).await;
            sides.postgres = Some(trio.context("PostgreSQL with standbys")?);
        }
        if wanted(Side::Etcd) {
            sides.etcd = Some(EtcdTrio::start(folder).await.context("etcd")?);
        }
        if wanted(Side::Phantom) {
            let mut options = args.cluster.clone();
            options.no_proxy = true;
            sides.phantom = Some(
                Cluster::start(&options, scratch)
                    .await
                    .context("PhantomDB")?,
            );
        }
        Ok(sides)
    }

    fn started(&self) -> Vec<Side> {
        let all = [
            (Side::Postgres, self.postgres.is_some()),
            (Side::Etcd, self.etcd.is_some()),
            (Side::Phantom, self.phantom.is_some()),
        ];
        all.into_iter()
            .filter(|(_, there)| *there)
            .map(|(side, _)| side)
            .collect()
    }

    /// Where SQL clients of a side connect, and the processes behind it.
    fn at(&self, side: Side) -> Result<At> {
        match side {
            Side::Postgres => Ok(self.postgres.as_ref().context("not started")?.at()),
            Side::Phantom => {
                let cluster = self.phantom.as_ref().context("not started")?;
                Ok(At {
                    dsn: many_hosts(&cluster.node_dsns()),
                    pids: cluster
                        .numbers()
                        .filter_map(|n| cluster.node(n).pid())
                        .collect(),
                })
            }
            Side::Etcd => anyhow::bail!("etcd speaks no SQL"),
        }
    }

    fn prepare_pgbench(&self, bar: &indicatif::ProgressBar) -> Result<()> {
        for side in self.started() {
            if side != Side::Etcd {
                bar.set_message(format!("loading pgbench's tables on {}", side.name()));
                let at = self.at(side)?;
                pgbench::prepare(self.tools.path(), &at.dsn)
                    .with_context(|| side.name().to_owned())?;
            }
        }
        Ok(())
    }

    async fn measure(&mut self, kind: Kind, side: Side, seconds: u32) -> Result<Sample> {
        let connections = match kind {
            Kind::Pgbench(run) => {
                let figures = pgbench::run(self.tools.path(), &self.at(side)?, run, seconds)?;
                return Ok(Sample {
                    value: figures.tps,
                    server_cpu_micros: Some(figures.server_cpu_micros),
                });
            }
            Kind::Upserts(connections) => connections,
        };
        let (clients, pids) = match side {
            Side::Etcd => {
                let trio = self.etcd.as_ref().context("not started")?;
                (kv::Clients::Etcd(trio.endpoints()), trio.pids())
            }
            Side::Postgres => {
                let at = self.at(side)?;
                (kv::Clients::Sql(vec![at.dsn]), at.pids)
            }
            Side::Phantom => {
                let cluster = self.phantom.as_ref().context("not started")?;
                (kv::Clients::Sql(cluster.node_dsns()), self.at(side)?.pids)
            }
        };
        let at = At {
            dsn: String::new(),
            pids,
        };
        kv::run(
            &clients,
            connections,
            Duration::from_secs(seconds.into()),
            &at,
        )
        .await
    }

    /// After TPC-B the sums of accounts, tellers, branches and history must agree.
    async fn check_sums(&self, prepared: bool) -> Result<String> {
        let mut lines = Vec::new();
        for side in self.started() {
            if prepared && side != Side::Etcd {
                let dsn = match (&self.phantom, side) {
                    (Some(cluster), Side::Phantom) => cluster.node(1).dsn(),
                    _ => self.at(side)?.dsn,
                };
                let sums = pgbench::agreeing_sums(&connect(&dsn).await?).await;
                lines.push(format!(
                    "{}: {}",
                    side.name(),
                    sums.with_context(|| side.name().to_owned())?
                ));
            }
        }
        Ok(lines.join("\n"))
    }

    async fn facts(&self, args: &Args) -> Result<Vec<String>> {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let mut facts = vec![format!(
            "{cores} cores for clients and servers together; {} rounds, {} s a run, medians; every commit synced on a majority of three",
            args.rounds, args.seconds
        )];
        if let Some(trio) = &self.postgres {
            facts.push(trio.facts(&self.tools).await?);
        }
        if self.etcd.is_some() {
            facts.push(format!(
                "etcd: {}, its defaults; gRPC over one connection a client",
                etcd::version()?
            ));
        }
        if let Some(cluster) = &self.phantom {
            facts.push(format!(
                "PhantomDB: {}, its defaults, {} nodes",
                cluster.version()?,
                cluster.len()
            ));
        }
        Ok(facts)
    }
}

/// One address for libpq that names all hosts; each connection picks one at random.
fn many_hosts(dsns: &[String]) -> String {
    let mut hosts = Vec::new();
    let (mut user, mut database) = ("", "");
    for dsn in dsns {
        let rest = dsn.strip_prefix("postgres://").unwrap_or(dsn);
        if let Some(((name, host), db)) = rest
            .split_once('/')
            .and_then(|(at, db)| Some((at.split_once('@')?, db)))
        {
            (user, database) = (name, db);
            hosts.push(host);
        }
    }
    format!(
        "postgres://{user}@{}/{database}?load_balance_hosts=random",
        hosts.join(",")
    )
}

fn publish(measured: &[Measured], facts: &[String], sums: Result<String>) -> Result<bool> {
    let mut page = String::from("# Three nodes beside PostgreSQL with standbys, and etcd\n\n");
    page.extend(facts.iter().map(|fact| format!("- {fact}\n")));
    page.push_str("- a ratio above 1 means that PhantomDB is better\n");
    page.push_str(&format!("\n{}\n", result::table(measured)));
    if let Some(cpu) = result::cpu_table(measured) {
        page.push_str(&format!("\n{cpu}\n"));
    }
    let sums_agree = sums.is_ok();
    match sums {
        Ok(lines) => page.push_str(&format!("\n{lines}\n")),
        Err(error) => page.push_str(&format!("\nAFTER TPC-B THE SUMS DO NOT AGREE: {error:#}\n")),
    }
    let failures: Vec<String> = measured.iter().flat_map(Measured::failures).collect();
    for failure in &failures {
        page.push_str(&format!("\nFAILED {failure}\n"));
    }
    report::publish(
        "cluster",
        &page,
        &chart::svg("Three nodes: PhantomDB / others", measured, facts),
    )?;
    Ok(failures.is_empty() && sums_agree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libpq_gets_all_hosts_in_one_address() {
        let dsns = [
            "postgres://u@127.0.0.1:1/d".to_owned(),
            "postgres://u@127.0.0.1:2/d".to_owned(),
        ];
        assert_eq!(
            many_hosts(&dsns),
            "postgres://u@127.0.0.1:1,127.0.0.1:2/d?load_balance_hosts=random"
        );
    }
}
