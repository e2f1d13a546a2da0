//! Side by side with PostgreSQL, on the same disk, with the same client program.
//!
//! Both servers run during the whole task, but only one of them gets load at a time. Each workload
//! alternates A B A B … for the given number of rounds; the table holds the medians and their ratio, turned
//! so that above 1 always means that PhantomDB is better.

mod chart;
mod cluster;
mod copy_in;
mod ddl;
mod pgbench;
mod plan;
mod result;
mod tpch;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::peer::{Peer, Program, Server, cache_folder, connect, readable_by_all};
use crate::{progress, report};
use pgbench::At;
pub use pgbench::agreeing_sums;
use plan::{Kind, Workload};
use result::{Measured, Sample, Side};

/// Rest between two measurements, so that one server's last background work is over before the other's turn.
const REST: Duration = Duration::from_secs(1);

#[derive(clap::Subcommand)]
pub enum Against {
    /// PostgreSQL with its defaults and fsync on.
    Postgres(Args),
    /// Three nodes beside PostgreSQL with two synchronous standbys, and beside etcd.
    Cluster(cluster::Args),
}

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask bench postgres\n  \
    cargo xtask bench postgres --rounds 3 --seconds 10 --only select\n  \
    cargo xtask bench postgres --only analytics --binary target/release/phantomdb\n\n\
    Writes postgres.md and postgres.svg into the folder bench of cargo's target folder.")]
pub struct Args {
    /// How often each workload runs on each server; the medians need three.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long each pgbench run takes.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Run only the workloads whose name contains this text.
    #[arg(long)]
    only: Option<String>,
    /// A PhantomDB program to start instead of this workspace's release build.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The server in PhantomDB's place: `postgres` measures PostgreSQL against itself.
    #[arg(long, value_enum, default_value_t = Peer::Phantom)]
    peer: Peer,
    /// Put both data folders below this folder (default: the system's temporary folder).
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print the workloads and end.
    #[arg(long)]
    list: bool,
}

/// What every workload needs to know.
pub struct Bench {
    /// The folder of psql and pgbench.
    tools: PathBuf,
    seconds: u32,
    tpch: tpch::Results,
}

/// Measures; true if every workload ran and reached its floor.
pub async fn run(against: Against) -> Result<bool> {
    match against {
        Against::Postgres(args) => beside_postgres(args).await,
        Against::Cluster(args) => cluster::run(args).await,
    }
}

async fn beside_postgres(args: Args) -> Result<bool> {
    let workloads: Vec<Workload> = plan::workloads()
        .into_iter()
        .filter(|w| {
            args.only
                .as_deref()
                .is_none_or(|text| w.name.contains(text))
        })
        .collect();
    if args.list {
        workloads.iter().for_each(|w| println!("{}", w.name));
        return Ok(true);
    }
    anyhow::ensure!(
        !workloads.is_empty(),
        "no workload has that name; --list prints them"
    );

    let postgres = crate::peer::postgres_program()?;
    let phantom = args.peer.program(args.binary.as_deref())?;
    let folder = TempDir::new_in(args.dir.clone().map_or_else(cache_folder, Ok)?)?;
    readable_by_all(folder.path())?;
    let mut servers = Servers {
        postgres: Server::start(&postgres, &folder.path().join("postgres"))
            .await
            .context("PostgreSQL")?,
        phantom: Server::start(&phantom, &folder.path().join("phantom"))
            .await
            .context("PhantomDB")?,
    };
    let mut bench = Bench {
        tools: postgres.path().to_owned(),
        seconds: args.seconds,
        tpch: tpch::Results::default(),
    };
    let facts = facts(&args, &postgres, &phantom, &servers).await?;

    let bar = progress::bar(workloads.len() as u64 * u64::from(args.rounds) * 2, "bench");
    let mut measured = Vec::new();
    let mut prepared = Vec::new();
    for workload in workloads {
        let mut result = Measured::new(&workload);
        for side in Side::BOTH {
            let data = workload.kind.data();
            if !prepared.contains(&(data, side)) {
                bar.set_message(format!("preparing {} on {}", workload.name, side.name()));
                if let Err(error) = bench.prepare(&workload.kind, servers.of(side)).await {
                    result.broken(side, format!("{error:#}"));
                    continue;
                }
                prepared.push((data, side));
            }
        }
        for round in 1..=args.rounds {
            for side in Side::BOTH {
                bar.set_message(format!("{} on {}", workload.name, side.name()));
                if !result.is_broken(side) {
                    tokio::time::sleep(REST).await;
                    let sample = bench.measure(&workload.kind, side, servers.of(side)).await;
                    let shown = result.add(side, sample);
                    bar.suspend(|| {
                        println!(
                            "{} round {round} {:<10} {shown}",
                            workload.name,
                            side.name()
                        )
                    });
                }
                servers
                    .revive(side, &postgres, &phantom, folder.path())
                    .await?;
                bar.inc(1);
            }
        }
        measured.push(result);
    }
    bar.finish_and_clear();
    let sums = check_sums(&servers, &prepared).await;
    publish(&measured, &bench.tpch, &facts, &sums)?;
    let differing = bench.tpch.differing();
    servers.postgres.stop().context("stopping PostgreSQL")?;
    servers.phantom.stop().context("stopping PhantomDB")?;
    Ok(measured.iter().all(Measured::reaches_floor) && sums.is_ok() && differing.is_empty())
}

impl Bench {
    /// Loads what the workload reads, once for all workloads that use the same data.
    async fn prepare(&mut self, kind: &Kind, server: &Server) -> Result<()> {
        match kind {
            Kind::Pgbench { .. } => pgbench::prepare(&self.tools, &server.dsn()),
            Kind::CopyIn => copy_in::prepare(),
            Kind::Analytics => tpch::load(&self.tools, server).await,
            Kind::CreateTable | Kind::ManyTables => Ok(()),
        }
    }

    async fn measure(&mut self, kind: &Kind, side: Side, server: &Server) -> Result<Sample> {
        let value = match kind {
            Kind::Pgbench { run, latency } => {
                let figures = pgbench::run(&self.tools, &At::of(server), *run, self.seconds)?;
                let value = if *latency {
                    figures.latency_ms
                } else {
                    figures.tps
                };
                return Ok(Sample {
                    value,
                    server_cpu_micros: Some(figures.server_cpu_micros),
                });
            }
            Kind::CopyIn => copy_in::measure(&self.tools, server).await?,
            Kind::Analytics => self.tpch.run_all(side, server).await?,
            Kind::CreateTable => ddl::create_table_ms(server).await?,
            Kind::ManyTables => ddl::many_tables_seconds(server).await?,
        };
        Ok(value.into())
    }
}

struct Servers {
    postgres: Server,
    phantom: Server,
}

impl Servers {
    fn of(&self, side: Side) -> &Server {
        match side {
            Side::Phantom => &self.phantom,
            _ => &self.postgres,
        }
    }

    /// Starts a server again that a workload has brought down, so that the rest can still be measured.
    async fn revive(
        &mut self,
        side: Side,
        postgres: &Program,
        phantom: &Program,
        folder: &Path,
    ) -> Result<()> {
        let (server, program, name) = match side {
            Side::Phantom => (&mut self.phantom, phantom, "phantom"),
            _ => (&mut self.postgres, postgres, "postgres"),
        };
        if !server.is_running() {
            println!(
                "{} ended by itself; starting it again\n{}",
                side.name(),
                server.log_tail()
            );
            *server = Server::start(program, &folder.join(name)).await?;
        }
        Ok(())
    }
}

/// After TPC-B the sums of accounts, tellers, branches and history must agree.
async fn check_sums(servers: &Servers, prepared: &[(&str, Side)]) -> Result<String> {
    let mut lines = Vec::new();
    for side in Side::BOTH {
        if prepared.contains(&(pgbench::DATA, side)) {
            let session = connect(&servers.of(side).dsn()).await?;
            let sums = pgbench::agreeing_sums(&session)
                .await
                .with_context(|| side.name().to_owned())?;
            lines.push(format!("{}: {sums}", side.name()));
        }
    }
    Ok(lines.join("\n"))
}

/// Versions and settings, as lines.
async fn facts(
    args: &Args,
    postgres: &Program,
    phantom: &Program,
    servers: &Servers,
) -> Result<Vec<String>> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut facts = vec![
        format!("PostgreSQL: {}, its defaults", postgres.version()?),
        format!("PhantomDB: {}, its defaults", phantom.version()?),
        format!(
            "client: psql and pgbench of that PostgreSQL; {cores} cores for client and server together"
        ),
        format!(
            "Linux {}; {} rounds, {} s a pgbench run, medians",
            kernel.trim(),
            args.rounds,
            args.seconds
        ),
    ];
    let session = connect(&servers.postgres.dsn()).await?;
    for names in [
        ["fsync", "synchronous_commit", "shared_buffers"],
        ["work_mem", "max_parallel_workers_per_gather", "jit"],
    ] {
        let mut settings = Vec::new();
        for name in names {
            let value: String = session
                .query_one(&format!("SHOW {name}"), &[])
                .await?
                .get(0);
            settings.push(format!("{name} = {value}"));
        }
        facts.push(format!("PostgreSQL: {}", settings.join(", ")));
    }
    Ok(facts)
}

/// Prints the tables, and writes them and the chart below cargo's target folder.
fn publish(
    measured: &[Measured],
    tpch: &tpch::Results,
    facts: &[String],
    sums: &Result<String>,
) -> Result<()> {
    let mut page = String::from("# PhantomDB beside PostgreSQL\n\n");
    page.extend(facts.iter().map(|fact| format!("- {fact}\n")));
    page.push_str("- a ratio above 1 means that PhantomDB is better, for every kind of figure\n");
    page.push_str(&format!("\n{}\n", result::table(measured)));
    if let Some(cpu) = result::cpu_table(measured) {
        page.push_str(&format!("\n{cpu}\n"));
    }
    if let Some(queries) = tpch.table() {
        page.push_str(&format!("\n## Analytic queries, seconds\n\n{queries}\n"));
    }
    match sums {
        Ok(lines) if lines.is_empty() => {}
        Ok(lines) => page.push_str(&format!("\n{lines}\n")),
        Err(error) => page.push_str(&format!("\nAFTER TPC-B THE SUMS DO NOT AGREE: {error:#}\n")),
    }
    for failure in measured
        .iter()
        .flat_map(Measured::failures)
        .chain(tpch.failures())
    {
        page.push_str(&format!("\nFAILED {failure}\n"));
    }
    report::publish(
        "postgres",
        &page,
        &chart::svg("PhantomDB / PostgreSQL", measured, facts),
    )
}
