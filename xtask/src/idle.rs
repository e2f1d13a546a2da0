//! What a node costs while nobody asks it anything.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::peer::{Peer, Server, StatField, cache_folder, readable_by_all, stat_field};
use crate::{progress, report};

/// The most CPU that an idle node may take, in percent of one core.
const CPU_LIMIT_PERCENT: f64 = 0.5;
/// The most memory that an idle node with the sample database may hold, in MiB.
const RSS_LIMIT_MIB: f64 = 150.0;
/// Rest after loading, so that flushes and compactions it caused are not counted as idling.
const SETTLE: Duration = Duration::from_secs(10);
/// Parts of a second in which the progress bar moves.
const TICK: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask idle\n  cargo xtask idle --binary target/release/phantomdb --seconds 60"
)]
pub struct Args {
    /// A PhantomDB program to start instead of this workspace's release build.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// How long to watch, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Which server to watch (PostgreSQL has no sample database; only its first process is counted).
    #[arg(long, value_enum, default_value_t = Peer::Phantom)]
    peer: Peer,
}

/// Watches an idle node; true if it stays within its limits.
pub async fn run(args: Args) -> Result<bool> {
    let folder = TempDir::new_in(cache_folder()?)?;
    readable_by_all(folder.path())?;
    let program = args.peer.program(args.binary.as_deref())?;
    let server = Server::start(&program, &folder.path().join("data")).await?;
    let sample = args.peer == Peer::Phantom && load_sample(&program, &server)?;

    wait("settling", SETTLE).await;
    let before = cpu_ticks(server.pid())?;
    let began = Instant::now();
    wait("watching", Duration::from_secs(args.seconds)).await;
    let seconds = (cpu_ticks(server.pid())? - before) as f64 / ticks_per_second()?;
    let cpu_percent = 100.0 * seconds / began.elapsed().as_secs_f64();
    let rss_mib = rss_mib(server.pid())?;
    server.discard();

    let mut table = report::table(&["figure", "measured", "limit", "verdict"]);
    let verdict = |good: bool| if good { "ok" } else { "ABOVE" };
    let (cpu_good, rss_good) = (cpu_percent <= CPU_LIMIT_PERCENT, rss_mib <= RSS_LIMIT_MIB);
    table.add_row([
        "CPU, % of a core".to_owned(),
        format!("{cpu_percent:.2}"),
        format!("{CPU_LIMIT_PERCENT}"),
        verdict(cpu_good).to_owned(),
    ]);
    table.add_row([
        "RSS, MiB".to_owned(),
        format!("{rss_mib:.0}"),
        format!("{RSS_LIMIT_MIB}"),
        verdict(rss_good).to_owned(),
    ]);
    println!("{table}");
    println!(
        "sample database: {}",
        if sample { "loaded" } else { "not loaded" }
    );
    Ok(cpu_good && rss_good)
}

/// Loads the web shop through the program's own command, if this version has it.
fn load_sample(program: &crate::peer::Program, server: &Server) -> Result<bool> {
    let help = Command::new(program.path())
        .args(["load-sample", "--help"])
        .output()?;
    if !help.status.success() {
        return Ok(false);
    }
    let loaded = Command::new(program.path())
        .arg("load-sample")
        .arg(server.dsn())
        .output()?;
    if !loaded.status.success() {
        bail!(
            "load-sample failed: {}",
            String::from_utf8_lossy(&loaded.stderr)
        );
    }
    Ok(true)
}

async fn wait(what: &str, time: Duration) {
    let ticks = time.as_millis() / TICK.as_millis();
    let bar = progress::bar(ticks as u64, what);
    for _ in 0..ticks {
        tokio::time::sleep(TICK).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
}

fn cpu_ticks(pid: u32) -> Result<u64> {
    let user = stat_field(pid, StatField::UserTicks).context("the process is gone")?;
    let system = stat_field(pid, StatField::SystemTicks).context("the process is gone")?;
    Ok(user + system)
}

fn ticks_per_second() -> Result<f64> {
    let output = Command::new("getconf").arg("CLK_TCK").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

fn rss_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
