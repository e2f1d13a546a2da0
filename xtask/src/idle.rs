//! What a node costs while nobody asks it anything.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::peer::{
    Peer, Program, Server, cache_folder, children_of, cpu_seconds, readable_by_all,
    tied_to_this_task,
};
use crate::{progress, report};

/// The most CPU that an idle node may take, in percent of one core.
const CPU_LIMIT_PERCENT: f64 = 0.5;
/// The most memory that an idle node with the sample database may hold, in MiB.
const RSS_LIMIT_MIB: f64 = 150.0;
/// Rest after loading, so that flushes and compactions it caused are not counted as idling.
const SETTLE: Duration = Duration::from_secs(10);
/// Longest wait for a demo to end and clean up after its input has ended.
const DEMO_END: Duration = Duration::from_secs(20);
/// Between two looks whether the demo has ended.
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
    /// Which server to watch (PostgreSQL has no sample database).
    #[arg(long, value_enum, default_value_t = Peer::Phantom)]
    peer: Peer,
}

/// Watches an idle node; true if it stays within its limits.
pub async fn run(args: Args) -> Result<bool> {
    let program = args.peer.program(args.binary.as_deref())?;
    let folder = TempDir::new_in(cache_folder()?)?;
    readable_by_all(folder.path())?;
    let sample = offers_demo(&program)?;
    let idler = if sample {
        Idler::Demo(Demo::start(program.path())?)
    } else {
        Idler::Node(Server::start(&program, &folder.path().join("data")).await?)
    };

    progress::wait("settling", SETTLE).await;
    let before = cpu_seconds(idler.pid())?;
    let began = Instant::now();
    progress::wait("watching", Duration::from_secs(args.seconds)).await;
    let seconds = cpu_seconds(idler.pid())? - before;
    let cpu_percent = 100.0 * seconds / began.elapsed().as_secs_f64();
    let node_mib = rss_mib(&idler.node()?)?;
    let shell_mib = idler.shell().map(|pid| rss_mib(&[pid])).transpose()?;
    drop(idler);

    let mut table = report::table(&["figure", "measured", "limit", "verdict"]);
    let (cpu_good, rss_good) = (cpu_percent <= CPU_LIMIT_PERCENT, node_mib <= RSS_LIMIT_MIB);
    let mut row = |figure: &str, measured: String, limit: f64, good: bool| {
        let verdict = if good { "ok" } else { "ABOVE" };
        table.add_row([figure, &measured, &limit.to_string(), verdict]);
    };
    row(
        "CPU, % of a core",
        format!("{cpu_percent:.2}"),
        CPU_LIMIT_PERCENT,
        cpu_good,
    );
    row(
        "RSS of the node, MiB",
        format!("{node_mib:.0}"),
        RSS_LIMIT_MIB,
        rss_good,
    );
    if let Some(shell_mib) = shell_mib {
        table.add_row(["RSS of the shell, MiB", &format!("{shell_mib:.0}"), "", ""]);
        let both = format!("{:.0}", node_mib + shell_mib);
        table.add_row(["RSS of both, MiB", &both, "", ""]);
    }
    println!("{table}");
    let what = if sample {
        "a demo: node, sample database and waiting shell"
    } else {
        "an empty node"
    };
    println!("watched {what} for {} s", args.seconds);
    Ok(cpu_good && rss_good)
}

/// What is watched.
enum Idler {
    Demo(Demo),
    Node(Server),
}

impl Idler {
    fn pid(&self) -> u32 {
        match self {
            Idler::Demo(demo) => demo.child.id(),
            Idler::Node(server) => server.pid(),
        }
    }

    /// The node's processes: PhantomDB has one, which the demo's shell started; PostgreSQL has many.
    fn node(&self) -> Result<Vec<u32>> {
        let mut pids = children_of(self.pid());
        match self {
            Idler::Demo(_) => ensure!(pids.len() == 1, "the demo has no node"),
            Idler::Node(server) => pids.push(server.pid()),
        }
        Ok(pids)
    }

    fn shell(&self) -> Option<u32> {
        match self {
            Idler::Demo(demo) => Some(demo.child.id()),
            Idler::Node(_) => None,
        }
    }
}

/// Whether the program has the command that loads the sample database.
fn offers_demo(program: &Program) -> Result<bool> {
    match program {
        Program::Postgres { .. } => Ok(false),
        Program::Phantom { binary } => Ok(Command::new(binary)
            .args(["demo", "--help"])
            .output()?
            .status
            .success()),
    }
}

/// `phantomdb demo`, whose shell waits for input that never comes.
struct Demo {
    child: Child,
}

impl Demo {
    /// Starts it and waits until it prints how to connect, which it does when the data is loaded; on
    /// the standard error, since the output of a shell without terminal is for query results.
    fn start(binary: &Path) -> Result<Demo> {
        let mut command = tied_to_this_task(binary, "TERM");
        command
            .args(["demo", "--nodes", "1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut demo = Demo {
            child: command.spawn().context("phantomdb demo")?,
        };
        let output = demo.child.stderr.take().context("the demo has no output")?;
        let mut lines = BufReader::new(output).lines();
        let mut said = String::new();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| {
            said.push_str(&line);
            said.push('\n');
            line.contains("postgres://")
        });
        if !ready {
            bail!("the demo ended without a connection string:\n{said}");
        }
        // Whatever else it prints must not fill the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(demo)
    }
}

impl Drop for Demo {
    /// The end of its input is how a person leaves it; it then removes its folder by itself.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + DEMO_END;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(TICK);
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Resident memory of all the processes; what they share is counted once each.
pub fn rss_mib(pids: &[u32]) -> Result<f64> {
    let mut kib = 0.0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        kib += line.trim().trim_end_matches("kB").trim().parse::<f64>()?;
    }
    Ok(kib / 1024.0)
}
