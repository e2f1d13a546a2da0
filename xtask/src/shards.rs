//! What many shards cost: while nobody asks them anything, and when all nodes start again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::{Cluster, Options, Scratch};
use crate::idle::rss_mib;
use crate::peer::{Session, connect, cpu_seconds, describe};
use crate::{progress, report};

/// Most of a core that each idle node may take, in percent.
const CPU_LIMIT_PERCENT: f64 = 2.0;
/// Longest time from starting all nodes until every shard answers at every node.
const RESTART_LIMIT: Duration = Duration::from_secs(30);
/// Rest before the nodes are watched: flushes and moves that the splits caused are over.
const SETTLE: Duration = Duration::from_secs(15);
/// Longest wait until every shard has its replicas.
const REPLICAS_LIMIT: Duration = Duration::from_secs(600);
/// Longest wait for the nodes to serve again, after which it has failed.
const RESTART_PATIENCE: Duration = Duration::from_secs(180);
/// Pause between two looks at a state that is waited for.
const POLL: Duration = Duration::from_millis(200);
/// The table that is split has one row per shard, with these keys apart.
const STRIDE: i64 = 10;

const CREATE: &str = "CREATE TABLE many (id bigint PRIMARY KEY, v text)";
const FILL: &str =
    "INSERT INTO many SELECT g * 10, 'row ' || g FROM generate_series(0, $1::bigint - 1) AS g";
const SPLIT: &str = "SELECT phantom.split_shard('many', $1::bigint)";
const SHARDS: &str = "SELECT count(*) FROM phantom.shards";
const REPLICAS: &str = "SELECT count(*) FROM phantom.replicas";
const LEASES: &str = "SELECT count(*) FROM phantom.leases";
/// Reads every shard.
const SUM: &str = "SELECT count(*), sum(id)::bigint FROM many";

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask shards\n  \
    cargo xtask shards --shards 1000 --seconds 10\n  \
    cargo xtask shards --nodes 1")]
pub struct Args {
    #[command(flatten)]
    cluster: Options,
    /// How many shards.
    #[arg(long, default_value_t = 10_000)]
    shards: u32,
    /// How long to watch the idle nodes, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

/// Splits a table, watches, and restarts; true if all stays within its limits.
pub async fn run(args: Args) -> Result<bool> {
    let scratch = Scratch::open("shards", None)?;
    let outcome = measure(&args, &scratch).await;
    scratch.close(outcome, args.cluster.keep)
}

async fn measure(args: &Args, scratch: &Scratch) -> Result<bool> {
    ensure!(args.shards > 0, "--shards must be 1 or more");
    let options = Options {
        no_proxy: true,
        ..args.cluster.clone()
    };
    let mut cluster = Cluster::start(&options, scratch).await?;
    let session = connect(&cluster.node(1).dsn()).await?;
    let rows = i64::from(args.shards);
    execute(&session, CREATE, None).await?;
    execute(&session, FILL, Some(rows)).await?;
    let pids = pids(&cluster)?;
    let before: Vec<f64> = memory(&pids)?;
    let splitting = split(&session, rows).await?;
    let copies = copies(&session, cluster.len() as i64).await?;
    wait_for_replicas(&session, rows, copies).await?;
    progress::wait("settling", SETTLE).await;

    let (cpu, after) = watch(&pids, args.seconds).await?;
    let expected = (rows, STRIDE * rows * (rows - 1) / 2);
    let restart = restart(&mut cluster, expected).await?;

    let mut table = report::table(&["node", "CPU, % of a core", "RSS, MiB", "KiB a shard"]);
    for (place, (cpu, after)) in cpu.iter().zip(&after).enumerate() {
        let shard_kib = (after - before[place]).max(0.0) * 1024.0 / rows as f64;
        table.add_row([
            (place + 1).to_string(),
            format!("{cpu:.2}"),
            format!("{after:.0}"),
            format!("{shard_kib:.1}"),
        ]);
    }
    println!("{table}");
    let worst = cpu.iter().copied().fold(0.0, f64::max);
    println!(
        "{rows} splits in {:.1} s ({:.1} ms each); serving again {:.1} s after all nodes were started",
        splitting.as_secs_f64(),
        splitting.as_secs_f64() * 1000.0 / rows as f64,
        restart.as_secs_f64(),
    );
    println!(
        "limits: CPU {CPU_LIMIT_PERCENT} % of a core each, restart {} s",
        RESTART_LIMIT.as_secs()
    );
    Ok(worst <= CPU_LIMIT_PERCENT && restart <= RESTART_LIMIT)
}

/// Splits the table before every row but the first.
async fn split(session: &Session, rows: i64) -> Result<Duration> {
    let began = Instant::now();
    let bar = progress::bar(rows as u64, "splitting");
    // From the last to the first: what is split off is small and stays as it is.
    for row in (1..rows).rev() {
        execute(session, SPLIT, Some(row * STRIDE)).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(began.elapsed())
}

async fn execute(session: &Session, statement: &str, parameter: Option<i64>) -> Result<()> {
    let done = match &parameter {
        Some(parameter) => session.query(statement, &[parameter]).await.map(drop),
        None => session.batch_execute(statement).await,
    };
    done.map_err(|error| anyhow::anyhow!("{statement}: {}", describe(&error)))
}

async fn count(session: &Session, query: &str) -> Result<i64> {
    let row = session.query_one(query, &[]).await;
    let row = row.map_err(|error| anyhow::anyhow!("{query}: {}", describe(&error)))?;
    Ok(row.get(0))
}

/// Copies of a shard in a cluster of so many nodes.
async fn copies(session: &Session, nodes: i64) -> Result<i64> {
    let shards = count(session, SHARDS).await?;
    let replicas = count(session, REPLICAS).await?;
    Ok((replicas / shards.max(1)).clamp(1, nodes))
}

async fn wait_for_replicas(session: &Session, rows: i64, copies: i64) -> Result<()> {
    let began = Instant::now();
    let bar = progress::bar((rows * copies) as u64, "replicas");
    loop {
        let replicas = count(session, REPLICAS).await?;
        let leases = count(session, LEASES).await?;
        bar.set_position(replicas as u64);
        if replicas >= rows * copies && leases >= rows {
            bar.finish_and_clear();
            return Ok(());
        }
        if began.elapsed() > REPLICAS_LIMIT {
            bail!("{replicas} replicas and {leases} leases of {rows} shards");
        }
        tokio::time::sleep(POLL).await;
    }
}

fn pids(cluster: &Cluster) -> Result<Vec<u32>> {
    let pids = cluster.numbers().map(|number| {
        let pid = cluster.node(number).pid();
        pid.with_context(|| format!("node {number} does not run"))
    });
    pids.collect()
}

fn memory(pids: &[u32]) -> Result<Vec<f64>> {
    pids.iter().map(|pid| rss_mib(&[*pid])).collect()
}

/// Of each node: percent of a core, and resident memory at the end in MiB.
async fn watch(pids: &[u32], seconds: u64) -> Result<(Vec<f64>, Vec<f64>)> {
    let used =
        |pids: &[u32]| -> Result<Vec<f64>> { pids.iter().map(|pid| cpu_seconds(*pid)).collect() };
    let before = used(pids)?;
    let began = Instant::now();
    progress::wait("watching", Duration::from_secs(seconds)).await;
    let took = began.elapsed().as_secs_f64();
    let after = used(pids)?;
    let cpu = before
        .iter()
        .zip(after)
        .map(|(before, after)| 100.0 * (after - before) / took);
    Ok((cpu.collect(), memory(pids)?))
}

/// Stops all nodes, starts them again, and gives the time until each has read all shards.
async fn restart(cluster: &mut Cluster, expected: (i64, i64)) -> Result<Duration> {
    for number in cluster.numbers() {
        cluster.node_mut(number).stop()?;
    }
    let began = Instant::now();
    for number in cluster.numbers() {
        cluster.respawn(number)?;
    }
    let bar = progress::bar(cluster.len() as u64, "starting again");
    for number in cluster.numbers() {
        let dsn = cluster.node(number).dsn();
        loop {
            match read_all(&dsn).await {
                Ok(found) if found == expected => break,
                Ok(found) => bail!("node {number} reads {found:?} instead of {expected:?}"),
                Err(error) if began.elapsed() > RESTART_PATIENCE => {
                    return Err(error).with_context(|| format!("node {number} after its restart"));
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(began.elapsed())
}

async fn read_all(dsn: &str) -> Result<(i64, i64)> {
    let session = connect(dsn).await?;
    let row = session.query_one(SUM, &[]).await;
    let row = row.map_err(|error| anyhow::anyhow!(describe(&error)))?;
    Ok((row.get(0), row.get(1)))
}
