//! A clean drain under load: the node hands its leases and clients over before it ends, and no statement fails.

use std::time::Duration;

use anyhow::Result;

use crate::cluster::gaps;
use crate::cluster::load::{self, cluster_under_load};
use crate::cluster::{Options, Scratch, view};
use crate::peer::connect;
use crate::{progress, report};

/// After the drained node's return the cluster must be healthy within this.
const HEALTHY_LIMIT: Duration = Duration::from_secs(120);
/// Steady load before and after each drain.
const STEADY: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask drain\n  cargo xtask drain --rate 500 --clients 32"
)]
pub struct Args {
    #[command(flatten)]
    cluster: Options,
    #[command(flatten)]
    load: load::LoadOptions,
}

/// Drains every node once; true if no statement failed and no acknowledged write is lost.
pub async fn run(args: Args) -> Result<bool> {
    let scratch = Scratch::open("drain", None)?;
    let outcome = drain_all(&args, &scratch).await;
    scratch.close(outcome, args.cluster.keep)
}

async fn drain_all(args: &Args, scratch: &Scratch) -> Result<bool> {
    let (mut cluster, load) = cluster_under_load(&args.cluster, &args.load, scratch).await?;
    let bar = progress::bar(cluster.len() as u64, "drain");
    let mut table = report::table(&["node", "drain, s", "gap over all clients, ms"]);
    for number in cluster.numbers() {
        tokio::time::sleep(STEADY).await;
        let began = load.now();
        let id = {
            let session = connect(&cluster.client_dsns()[0]).await?;
            view::node_id(&session, &cluster.node(number).place.rpc_address()).await?
        };
        cluster.command(&["node", "drain", &id.to_string()])?;
        let drained = load.now();
        cluster.node_mut(number).stop()?;
        tokio::time::sleep(STEADY).await;
        let gap = gaps::of_all(&load.acks(), began..load.now()) / 1000;
        table.add_row([
            number.to_string(),
            format!("{:.1}", (drained - began) as f64 / 1e6),
            gap.to_string(),
        ]);
        cluster.restart(number).await?;
        cluster.wait_healthy(HEALTHY_LIMIT).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (log, _) = load.stop().await?;
    let violations = log.verify(&cluster.client_dsns()[0]).await?;
    println!("{table}");
    println!(
        "{} writes acknowledged; {} statements refused, {} connections reset, {} attempts to connect failed; {} violations",
        log.acknowledged(),
        log.refused,
        log.resets,
        log.unconnected,
        violations.len()
    );
    for (kind, count) in &log.troubles {
        println!("{count} writes ended with: {kind}");
    }
    print!("{}", load::shown_violations(&violations));
    Ok(violations.is_empty() && log.refused == 0)
}
