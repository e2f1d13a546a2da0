//! Growing and shrinking under load: a node is added, takes its share, and is decommissioned again.
//!
//! A table of many rows, spread over shards, must hold the same rows at every stage; clients write into another one
//! all the time, as fast as they are answered, and nothing that was acknowledged may be lost.

mod chart;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::cluster::load::{self, Load, Log};
use crate::cluster::view::{self, Spread};
use crate::cluster::{Cluster, Options, Scratch, gaps};
use crate::peer::{Session, connect, describe};
use crate::report;

/// The table must have its shards within this.
const SHARDS_LIMIT: Duration = Duration::from_secs(60);
const SHARDS: &str = "SELECT count(*) FROM phantom.shards";
/// Replicas and leases must have evened out within this.
const EVEN_LIMIT: Duration = Duration::from_secs(300);
/// Pause between two looks at the spread.
const EVEN_POLL: Duration = Duration::from_millis(500);
/// Even enough: the node that carries most carries at most this many times what the one that carries least does.
const UNEVEN_RATIO: f64 = 1.3;
/// Where there is little to share, this many more is even, too: moving one would only turn it round.
const UNEVEN_COUNT: i64 = 2;
/// Writes a second below this share of those before the change are a dip.
const DIP_SHARE: f64 = 0.8;
/// The longest dip that is accepted, in seconds.
const LONGEST_DIP: u64 = 5;
/// A node that was decommissioned ends within this.
const ENDED_LIMIT: Duration = Duration::from_secs(30);
/// Rows are written and read in pieces of this many.
const PIECE: i64 = 1000;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask scale\n  \
    cargo xtask scale --shards 32 --rows 200000 --steady 20\n\n\
    Writes scale.md and scale.svg into the folder bench of cargo's target folder.")]
pub struct Args {
    #[command(flatten)]
    cluster: Options,
    /// Rows of the table that must not change.
    #[arg(long, default_value_t = 50_000)]
    rows: i64,
    /// Shards of that table; 1: it is not split.
    #[arg(long, default_value_t = 16)]
    shards: u32,
    /// Connections that write at the same time.
    #[arg(long, default_value_t = 16)]
    clients: u32,
    /// Writes a second over all clients; 0: as fast as they are answered.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Seconds of load before, between and after the changes.
    #[arg(long, default_value_t = 10)]
    steady: u64,
}

/// A moment that the chart marks.
pub struct Moment {
    pub name: &'static str,
    pub at_micros: u64,
}

/// Grows and shrinks; true if all rows are there at the end.
pub async fn run(args: Args) -> Result<bool> {
    let scratch = Scratch::open("scale", None)?;
    let outcome = grow_and_shrink(&args, &scratch).await;
    scratch.close(outcome, args.cluster.keep)
}

async fn grow_and_shrink(args: &Args, scratch: &Scratch) -> Result<bool> {
    let mut cluster = Cluster::start(&args.cluster, scratch).await?;
    let session = connect(&cluster.client_dsns()[0]).await?;
    fill(&session, args).await?;
    let before = checksum(&session, args).await?;
    let options = load::LoadOptions {
        clients: args.clients,
        rate: args.rate,
    };
    let load = Load::on(&cluster, &options).await?;
    let steady = Duration::from_secs(args.steady);
    let mut moments = Vec::new();
    let mut mark = |name, at_micros| moments.push(Moment { name, at_micros });

    tokio::time::sleep(steady).await;
    let changed_at = load.now();
    mark("node added", changed_at);
    let number = cluster.add_node().await?;
    let address = cluster.node(number).place.rpc_address();
    let id = view::node_id(&session, &address).await?;
    let took = wait_even(&session, cluster.len()).await?;
    mark("evened out", load.now());
    println!(
        "node {number} (id {id}) carries its share {:.1} s after it was added",
        took.as_secs_f64()
    );
    let grown = checksum(&session, args).await?;
    tokio::time::sleep(steady).await;

    mark("decommission", load.now());
    let began = Instant::now();
    cluster.command(&["node", "decommission", &id.to_string()])?;
    wait_empty(&session, id).await?;
    mark("empty", load.now());
    println!("decommissioned in {:.1} s", began.elapsed().as_secs_f64());
    // A node that has left ends by itself.
    cluster.node_mut(number).wait_ended(ENDED_LIMIT).await?;
    tokio::time::sleep(steady).await;

    let (log, acks) = load.stop().await?;
    let session = connect(&cluster.client_dsns()[0]).await?;
    let after = checksum(&session, args).await?;
    let mut violations = log.verify(&cluster.client_dsns()[0]).await?;
    for (stage, sum) in [("with the new node", grown), ("without it", after)] {
        if sum != before {
            violations.push(format!(
                "the rows differ {stage}: {sum:?}, at first {before:?}"
            ));
        }
    }
    let per_second = gaps::per_second(&acks);
    let dip = longest_dip(&per_second, changed_at / 1_000_000);
    publish(&log, &per_second, &moments, &violations, dip)?;
    Ok(violations.is_empty() && dip <= LONGEST_DIP)
}

/// Makes the table and its rows. A statement writes into one shard, so each piece of the rows has a part of its own.
async fn fill(session: &Session, args: &Args) -> Result<()> {
    let split = match args.shards {
        0 | 1 => String::new(),
        shards => format!(" WITH (sharding = 'hash', shards = {shards}, shard_by = 'part')"),
    };
    let create = format!(
        "CREATE TABLE scale_rows (part int, id bigint, value bigint NOT NULL, filler text NOT NULL, \
         PRIMARY KEY (part, id)){split}"
    );
    session
        .batch_execute(&create)
        .await
        .map_err(|error| anyhow!("{}: {create}", describe(&error)))?;
    wait_shards(session, args.shards.into()).await?;
    for part in 0..parts(args) {
        let first = part * PIECE;
        let last = (first + PIECE).min(args.rows) - 1;
        let insert = format!(
            "INSERT INTO scale_rows SELECT {part}, i, i * 7919 % 1000003, repeat('x', 100) \
             FROM generate_series({first}, {last}) AS i"
        );
        session
            .batch_execute(&insert)
            .await
            .map_err(|error| anyhow!("{}: {insert}", describe(&error)))?;
    }
    Ok(())
}

fn parts(args: &Args) -> i64 {
    (args.rows + PIECE - 1) / PIECE
}

/// The shards of a new table come into being a moment after it.
async fn wait_shards(session: &Session, least: i64) -> Result<()> {
    let began = Instant::now();
    loop {
        let shards: i64 = session.query_one(SHARDS, &[]).await?.get(0);
        if shards >= least {
            return Ok(());
        }
        if began.elapsed() > SHARDS_LIMIT {
            bail!("{shards} shards instead of {least} after {SHARDS_LIMIT:?}");
        }
        tokio::time::sleep(EVEN_POLL).await;
    }
}

/// Number of rows and a hash over all of them, part by part in the order of their keys.
async fn checksum(session: &Session, args: &Args) -> Result<(u64, u64)> {
    let sql = "SELECT id, value, filler FROM scale_rows WHERE part = $1 ORDER BY id";
    let page = session.prepare(sql).await.context("the checksum")?;
    let (mut count, mut hasher) = (0, DefaultHasher::new());
    for part in 0..parts(args) {
        let part = part as i32;
        let rows = session
            .query(&page, &[&part])
            .await
            .map_err(|error| anyhow!("{}: {sql}", describe(&error)))?;
        for row in &rows {
            let (id, value, filler) = (
                row.get::<_, i64>(0),
                row.get::<_, i64>(1),
                row.get::<_, String>(2),
            );
            (part, id, value, filler).hash(&mut hasher);
            count += 1;
        }
    }
    Ok((count, hasher.finish()))
}

async fn wait_even(session: &Session, nodes: usize) -> Result<Duration> {
    let began = Instant::now();
    loop {
        let spread = view::spread(session)
            .await?
            .context("no views phantom.replicas and phantom.leases")?;
        if is_even(&spread, nodes) {
            return Ok(began.elapsed());
        }
        if began.elapsed() > EVEN_LIMIT {
            bail!("not even after {EVEN_LIMIT:?}: {spread:?}");
        }
        tokio::time::sleep(EVEN_POLL).await;
    }
}

/// Whether every node carries about the same.
fn is_even(spread: &BTreeMap<i64, Spread>, nodes: usize) -> bool {
    let even = |carried: fn(&Spread) -> i64| {
        // Who carries nothing is not among them.
        let idle = nodes.saturating_sub(spread.len());
        let all = || spread.values().map(carried).chain((0..idle).map(|_| 0));
        let (least, most) = (all().min().unwrap_or(0), all().max().unwrap_or(0));
        most - least <= UNEVEN_COUNT || most as f64 <= least as f64 * UNEVEN_RATIO
    };
    even(|of_node| of_node.replicas) && even(|of_node| of_node.leases)
}

/// The most seconds in a row, after the change, with fewer writes than a share of what was usual before it.
fn longest_dip(per_second: &[u64], changed_at: u64) -> u64 {
    let changed_at = (changed_at as usize).min(per_second.len());
    // The first second is one of connecting, the last one is cut off.
    let before = per_second.get(1..changed_at).unwrap_or_default();
    let usual = before.iter().sum::<u64>() as f64 / before.len().max(1) as f64;
    let after = &per_second[changed_at..];
    let after = &after[..after.len().saturating_sub(1)];
    let (mut longest, mut run) = (0, 0);
    for writes in after {
        run = match (*writes as f64) < usual * DIP_SHARE {
            true => run + 1,
            false => 0,
        };
        longest = longest.max(run);
    }
    longest
}

async fn wait_empty(session: &Session, id: i64) -> Result<()> {
    let began = Instant::now();
    loop {
        let spread = view::spread(session).await?.context("no views")?;
        let left = spread.get(&id).copied().unwrap_or_default();
        if left == Spread::default() {
            return Ok(());
        }
        if began.elapsed() > EVEN_LIMIT {
            bail!("node {id} still carries {left:?} after {EVEN_LIMIT:?}");
        }
        tokio::time::sleep(EVEN_POLL).await;
    }
}

fn publish(
    log: &Log,
    per_second: &[u64],
    moments: &[Moment],
    violations: &[String],
    dip: u64,
) -> Result<()> {
    let mut table = report::table(&["stage begins with", "at, s", "writes/s until the next"]);
    let starts: Vec<(&str, u64)> = std::iter::once(("the load", 0))
        .chain(
            moments
                .iter()
                .map(|moment| (moment.name, moment.at_micros / 1_000_000)),
        )
        .collect();
    for (number, (name, from)) in starts.iter().enumerate() {
        let to = starts
            .get(number + 1)
            .map_or(per_second.len() as u64, |next| next.1);
        let seconds = per_second
            .get(*from as usize..to as usize)
            .unwrap_or_default();
        let mean = seconds.iter().sum::<u64>() as f64 / seconds.len().max(1) as f64;
        table.add_row([(*name).to_owned(), from.to_string(), format!("{mean:.0}")]);
    }
    let mut page = format!(
        "# Scaling\n\n- {} writes acknowledged, {} failed, {} unknown\n- longest dip: {dip} s below {DIP_SHARE} of \
         the writes before\n- violations: {}\n\n{table}\n",
        log.acknowledged(),
        log.failed(),
        log.unknown(),
        violations.len()
    );
    page.push_str(&load::shown_violations(violations));
    report::publish("scale", &page, &chart::svg(per_second, moments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_node_that_carries_nothing_is_not_even() {
        let spread = |of: &[(i64, i64, i64)]| {
            let spread = |(id, replicas, leases): &(i64, i64, i64)| {
                (
                    *id,
                    Spread {
                        replicas: *replicas,
                        leases: *leases,
                    },
                )
            };
            of.iter().map(spread).collect::<BTreeMap<_, _>>()
        };
        let grown = spread(&[(1, 16, 6), (2, 16, 5), (3, 16, 5)]);
        assert!(is_even(&grown, 3));
        assert!(!is_even(&grown, 4), "the fourth carries nothing");
        assert!(is_even(
            &spread(&[(1, 12, 4), (2, 12, 4), (3, 12, 4), (4, 12, 4)]),
            4
        ));
        let dips = [50, 100, 100, 100, 70, 60, 90, 79, 100, 10];
        assert_eq!(longest_dip(&dips, 4), 2);
        assert!(!is_even(
            &spread(&[(1, 12, 9), (2, 12, 4), (3, 12, 3), (4, 12, 0)]),
            4
        ));
    }
}
