//! A rolling restart under load: each node in turn is stopped politely and started again.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::gaps;
use crate::cluster::load::{self, cluster_under_load};
use crate::cluster::{Options, Scratch};
use crate::{progress, report};

/// After a node's restart the cluster must be healthy within this.
const HEALTHY_LIMIT: Duration = Duration::from_secs(120);
/// Steady load between two restarts.
const STEADY: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask rolling\n  \
    cargo xtask rolling --times 3 --rate 500\n  \
    cargo xtask rolling --nodes 1 --no-proxy")]
pub struct Args {
    #[command(flatten)]
    cluster: Options,
    /// How often each node is restarted.
    #[arg(long, default_value_t = 1)]
    times: u32,
    #[command(flatten)]
    load: load::LoadOptions,
    /// The longest time without any acknowledged write that is accepted, in milliseconds.
    #[arg(long)]
    limit_ms: Option<u64>,
}

/// Restarts; true if no acknowledged write is lost.
pub async fn run(args: Args) -> Result<bool> {
    let scratch = Scratch::open("rolling", None)?;
    let outcome = restart_all(&args, &scratch).await;
    scratch.close(outcome, args.cluster.keep)
}

async fn restart_all(args: &Args, scratch: &Scratch) -> Result<bool> {
    let (mut cluster, load) = cluster_under_load(&args.cluster, &args.load, scratch).await?;
    let bar = progress::bar(u64::from(args.times) * cluster.len() as u64, "rolling");
    let mut table = report::table(&[
        "node",
        "gap over all clients, ms",
        "longest of one client, ms",
    ]);
    let mut longest = 0;
    for _ in 0..args.times {
        for number in cluster.numbers() {
            tokio::time::sleep(STEADY).await;
            let began = load.now();
            cluster.node_mut(number).stop()?;
            cluster.restart(number).await?;
            cluster
                .wait_healthy(HEALTHY_LIMIT)
                .await
                .with_context(|| format!("after the restart of node {number}"))?;
            tokio::time::sleep(STEADY).await;
            let (acks, window) = (load.acks(), began..load.now());
            let all = gaps::of_all(&acks, window.clone()) / 1000;
            let client = gaps::of_worst_client(&acks, load.clients(), window) / 1000;
            table.add_row([number.to_string(), all.to_string(), client.to_string()]);
            longest = longest.max(all);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let (log, _) = load.stop().await?;
    let violations = log.verify(&cluster.client_dsns()[0]).await?;
    println!("{table}");
    println!(
        "{} writes acknowledged, {} failed, {} unknown; {} connections broke; longest gap {longest} ms; {} violations",
        log.acknowledged(),
        log.failed(),
        log.unknown(),
        log.resets,
        violations.len()
    );
    print!("{}", load::shown_violations(&violations));
    Ok(violations.is_empty() && args.limit_ms.is_none_or(|limit| longest <= limit))
}
