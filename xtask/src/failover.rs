//! How long writes stop when a node is lost.
//!
//! Some clients write all the time. Each round takes one node away, waits until every client has been answered
//! again, measures the gap from outside, brings the node back and waits until it has caught up. At the end every
//! acknowledged write must be there.
//!
//! Two gaps are told: over all clients together (how long the database took no write at all), and the longest of a
//! single client (how long somebody waited).

mod chart;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::cluster::gaps;
use crate::cluster::load::{self, Load, Log, cluster_under_load};
use crate::cluster::{Cluster, Ground, Options, Scratch, view};
use crate::peer::connect;
use crate::{progress, report};

/// Every client must have been answered again after this long; else the round has failed.
const BACK_LIMIT: Duration = Duration::from_secs(60);
/// The node must have caught up again after this long.
const HEALTHY_LIMIT: Duration = Duration::from_secs(120);
/// Steady load before a node is taken away, and after all clients are served again.
const STEADY: Duration = Duration::from_secs(2);
/// So many answers to each client, and it counts as served again.
const SERVED_TIMES: usize = 3;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask failover --rounds 30\n  \
    cargo xtask failover --rounds 5 --fault cut --network namespaces\n  \
    cargo xtask failover --rounds 3 --nodes 1 --no-proxy\n  \
    cargo xtask failover --rounds 3 --nodes 1 --peer postgres\n\n\
    Writes failover.md and failover.svg into the folder bench of cargo's target folder.")]
pub struct Args {
    #[command(flatten)]
    cluster: Options,
    /// How many times a node is taken away.
    #[arg(long, default_value_t = 30)]
    rounds: u32,
    /// How it is taken away.
    #[arg(long, value_enum, default_value_t = Fault::Kill)]
    fault: Fault,
    #[command(flatten)]
    load: load::LoadOptions,
    /// The most that the gap over all clients may be at its 99th percentile, in milliseconds.
    #[arg(long)]
    limit_ms: Option<u64>,
    /// Begin no further round after this long.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fault {
    /// `kill -9`.
    Kill,
    /// SIGTERM, without a drain before it.
    Stop,
    /// SIGSTOP: its connections stay open and nobody answers.
    Pause,
    /// Its links to the other nodes are cut; clients still reach it (needs `--network namespaces`).
    Cut,
}

/// What one round showed.
pub struct Round {
    victim: usize,
    held_leases: Option<usize>,
    gap_millis: u64,
    client_gap_millis: u64,
    caught_up: Duration,
}

/// Measures; true if no acknowledged write is lost and all rounds ended well.
pub async fn run(args: Args) -> Result<bool> {
    anyhow::ensure!(
        args.fault != Fault::Cut || args.cluster.network == Ground::Namespaces,
        "links can be cut with --network namespaces only"
    );
    let scratch = Scratch::open("failover", None)?;
    let outcome = measure(&args, &scratch).await;
    scratch.close(outcome, args.cluster.keep)
}

async fn measure(args: &Args, scratch: &Scratch) -> Result<bool> {
    let (mut cluster, load) = cluster_under_load(&args.cluster, &args.load, scratch).await?;
    let began = Instant::now();
    let bar = progress::bar(args.rounds.into(), "failover");
    let mut rounds = Vec::new();
    for number in 0..args.rounds {
        if began.elapsed() > Duration::from_secs(args.minutes * 60) {
            println!("the time is over after {number} rounds");
            break;
        }
        let round = one_round(args.fault, &mut cluster, &load, number)
            .await
            .with_context(|| format!("round {}", number + 1))?;
        bar.suspend(|| println!("{}", round.shown(number)));
        rounds.push(round);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (log, _) = load.stop().await?;
    let violations = log.verify(&cluster.client_dsns()[0]).await?;
    publish(args, &rounds, &log, &violations)?;
    let p99 = report::percentile(&gaps_of(&rounds), 0.99);
    let within = args.limit_ms.is_none_or(|limit| p99 <= limit);
    Ok(violations.is_empty() && within && !rounds.is_empty())
}

async fn one_round(fault: Fault, cluster: &mut Cluster, load: &Load, number: u32) -> Result<Round> {
    tokio::time::sleep(STEADY).await;
    let (victim, held_leases) = choose(cluster, number).await?;
    let began = load.now();
    take_away(fault, cluster, victim)?;
    // A cluster of one has nobody else to serve the clients.
    let alone = cluster.len() == 1;
    if alone {
        bring_back(fault, cluster, victim).await?;
    }
    let served = load.wait_all_served(began, SERVED_TIMES, BACK_LIMIT).await;
    anyhow::ensure!(
        served,
        "node {victim} was taken away, and after {BACK_LIMIT:?} some client still had no answer"
    );
    tokio::time::sleep(STEADY).await;
    let (acks, ended) = (load.acks(), load.now());
    if !alone {
        bring_back(fault, cluster, victim).await?;
    }
    let caught_up = cluster.wait_healthy(HEALTHY_LIMIT).await?;
    Ok(Round {
        victim,
        held_leases,
        gap_millis: gaps::of_all(&acks, began..ended) / 1000,
        client_gap_millis: gaps::of_worst_client(&acks, load.clients(), began..ended) / 1000,
        caught_up,
    })
}

/// In every other round the node with most leases, else each node in turn; with the leases it holds.
async fn choose(cluster: &Cluster, number: u32) -> Result<(usize, Option<usize>)> {
    let session = connect(&cluster.client_dsns()[0]).await?;
    let leases = view::leases(&session).await?;
    let held = |node: usize| {
        let address = cluster.node(node).place.rpc_address();
        let leases = leases.as_ref()?.iter();
        Some(leases.filter(|lease| lease.address == address).count())
    };
    let in_turn = (number / 2) as usize % cluster.len() + 1;
    let victim = match number % 2 {
        0 => cluster
            .numbers()
            .max_by_key(|node| held(*node))
            .unwrap_or(in_turn),
        _ => in_turn,
    };
    let victim = if leases.is_none() {
        number as usize % cluster.len() + 1
    } else {
        victim
    };
    Ok((victim, held(victim)))
}

fn take_away(fault: Fault, cluster: &mut Cluster, victim: usize) -> Result<()> {
    let others: Vec<usize> = cluster.numbers().filter(|node| *node != victim).collect();
    match fault {
        Fault::Kill => cluster.node_mut(victim).kill(),
        Fault::Stop => cluster.node_mut(victim).stop(),
        Fault::Pause => {
            cluster.node_mut(victim).pause();
            Ok(())
        }
        Fault::Cut => cluster
            .namespaces()
            .context("no namespaces")?
            .part(&[victim], &others),
    }
}

async fn bring_back(fault: Fault, cluster: &mut Cluster, victim: usize) -> Result<()> {
    match fault {
        Fault::Kill | Fault::Stop => cluster.restart(victim).await,
        Fault::Pause => {
            cluster.node_mut(victim).resume();
            Ok(())
        }
        Fault::Cut => cluster.namespaces().context("no namespaces")?.heal(),
    }
}

impl Round {
    fn shown(&self, number: u32) -> String {
        let held = self
            .held_leases
            .map_or(String::new(), |held| format!(" with {held} leases"));
        format!(
            "round {}: node {}{held}: gap {} ms, of one client {} ms, caught up {:.1} s after its return",
            number + 1,
            self.victim,
            self.gap_millis,
            self.client_gap_millis,
            self.caught_up.as_secs_f64()
        )
    }
}

fn gaps_of(rounds: &[Round]) -> Vec<u64> {
    rounds.iter().map(|round| round.gap_millis).collect()
}

fn publish(args: &Args, rounds: &[Round], log: &Log, violations: &[String]) -> Result<()> {
    let client_gaps: Vec<u64> = rounds.iter().map(|round| round.client_gap_millis).collect();
    let of_holders: Vec<u64> = rounds
        .iter()
        .filter(|round| round.held_leases.is_some_and(|held| held > 0))
        .map(|round| round.gap_millis)
        .collect();
    let mut table = report::table(&["write gap, ms", "rounds", "p50", "p99", "max"]);
    for (name, gaps) in [
        ("over all clients", gaps_of(rounds)),
        ("over all clients, lease holders only", of_holders),
        ("of the client that waited longest", client_gaps),
    ] {
        if !gaps.is_empty() {
            let shown = |share| report::percentile(&gaps, share).to_string();
            let rounds = gaps.len().to_string();
            table.add_row([name.to_owned(), rounds, shown(0.5), shown(0.99), shown(1.0)]);
        }
    }
    let mut page = format!(
        "# Failover\n\n- {} nodes, fault: {:?}; {} clients, {} writes/s\n- {} writes acknowledged, {} failed, {} unknown; {} connections broke\n",
        args.cluster.nodes,
        args.fault,
        args.load.clients,
        args.load.rate,
        log.acknowledged(),
        log.failed(),
        log.unknown(),
        log.resets
    );
    for (kind, count) in &log.troubles {
        page.push_str(&format!("- {count} writes ended with: {kind}\n"));
    }
    page.push_str(&format!("- violations: {}\n\n{table}\n", violations.len()));
    page.push_str(&load::shown_violations(violations));
    report::publish("failover", &page, &chart::svg(rounds, args.limit_ms))
}
