//! Runs the fuzz targets, each for some minutes, and reports what they found.
//!
//! The targets link the whole database, so they are a program of their own (`fuzz/`), which this task
//! builds and starts. A process that an input ends (an overflowed stack, too much time or memory) leaves
//! that input behind; the next process goes on after it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use indicatif::ProgressBar;

use crate::peer::workspace_folder;
use crate::{progress, report};

#[derive(clap::Args, Clone)]
#[command(after_help = "Examples:\n  cargo xtask fuzz --minutes 5\n  \
    cargo xtask fuzz --target sql --seed 42 --first 1000\n  \
    cargo xtask fuzz --target sql --replay target/fuzz/sql-process-died-0")]
pub struct Args {
    /// What gets the inputs (default: all, one after the other).
    #[arg(long)]
    target: Option<Target>,
    /// Minutes for each target.
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// All inputs follow from it (default: from the clock; it is printed).
    #[arg(long)]
    seed: Option<u64>,
    /// Index of the first input.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Build with optimisation: more inputs a second, no check of overflows.
    #[arg(long)]
    release: bool,
    /// Run this saved input and nothing else.
    #[arg(long, requires = "target")]
    replay: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    /// A connection: startup, both protocols, COPY.
    Wire,
    /// A statement's text: parsed, bound, planned and run.
    Sql,
    /// Stored keys, rows and commands, and values as clients send them.
    Decode,
}

impl Target {
    fn as_str(self) -> &'static str {
        match self {
            Target::Wire => "wire",
            Target::Sql => "sql",
            Target::Decode => "decode",
        }
    }
}

/// Exit codes of the worker, see `fuzz/src/worker.rs`.
const EXIT_HANG: i32 = 71;
const EXIT_MEMORY: i32 = 72;
const EXIT_TIRED: i32 = 73;

/// A target that ends so many processes needs mending before more of its inputs tell anything.
const MAX_DEATHS: usize = 25;

/// Bytes of a dead process's last words that are shown.
const LAST_WORDS_BYTES: usize = 300;

/// What one target has done.
#[derive(Default)]
struct Outcome {
    inputs: u64,
    /// What is wrong, by what it looks like, with the file that holds the input.
    found: BTreeMap<String, (PathBuf, String)>,
    deaths: usize,
}

/// Runs the targets; true if nothing was found.
pub fn run(args: Args) -> Result<bool> {
    let program = build(args.release)?;
    if let (Some(target), Some(file)) = (args.target, &args.replay) {
        let status = Command::new(program)
            .args(["replay", target.as_str()])
            .arg(file)
            .status()?;
        return Ok(status.success());
    }
    let seed = args.seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(1, |since| since.as_secs())
    });
    let targets = match args.target {
        Some(target) => vec![target],
        None => Target::value_variants().to_vec(),
    };
    let folder = target_folder()?.join("fuzz");
    println!(
        "seed {seed}, inputs that do wrong go to {}",
        folder.display()
    );
    let mut table = report::table(&["target", "seed", "inputs", "found"]);
    let mut findings = Vec::new();
    for target in targets {
        let time = Duration::from_secs_f64(args.minutes * 60.0);
        let outcome = fuzz(&program, &folder, target, seed, args.first, time)?;
        table.add_row([
            target.as_str().to_owned(),
            seed.to_string(),
            outcome.inputs.to_string(),
            outcome.found.len().to_string(),
        ]);
        findings.extend(outcome.found.into_values());
    }
    println!("{table}");
    for (file, what) in &findings {
        println!("{}\n    {what}", file.display());
    }
    println!(
        "{}",
        if findings.is_empty() {
            "fuzz: ok"
        } else {
            "fuzz: FAILED"
        }
    );
    Ok(findings.is_empty())
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace_folder());
    cargo
}

fn build(release: bool) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--locked", "--package", "fuzz"]);
    if release {
        command.arg("--release");
    }
    ensure!(
        command.status().context("cannot run cargo")?.success(),
        "the build failed"
    );
    let profile = if release { "release" } else { "debug" };
    Ok(target_folder()?.join(profile).join("fuzz"))
}

/// Where cargo puts what it builds.
fn target_folder() -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cannot run cargo")?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    Ok(metadata.target_directory)
}

fn fuzz(
    program: &Path,
    folder: &Path,
    target: Target,
    seed: u64,
    first: u64,
    time: Duration,
) -> Result<Outcome> {
    let folder = folder.join(target.as_str());
    fs::create_dir_all(&folder)?;
    let end = Instant::now() + time;
    let bar = progress::bar(time.as_secs(), target.as_str());
    let mut outcome = Outcome::default();
    let mut index = first;
    while Instant::now() < end && outcome.deaths < MAX_DEATHS {
        let left = end.saturating_duration_since(Instant::now());
        let mut worker = Command::new(program)
            .args(["run", target.as_str(), "--seed", &seed.to_string()])
            .args(["--first", &index.to_string()])
            .args(["--seconds", &left.as_secs().max(1).to_string()])
            .arg("--folder")
            .arg(&folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::from(fs::File::create(folder.join("stderr"))?))
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        index = listen(&mut worker, &mut outcome, index, &bar, time, end)?;
        let status = worker.wait()?;
        let why = match status.code() {
            Some(0) => break,
            Some(EXIT_TIRED) => continue,
            Some(EXIT_HANG) => "takes too long".to_owned(),
            Some(EXIT_MEMORY) => "takes too much memory".to_owned(),
            _ => format!("the process died: {status}"),
        };
        index = bury(&folder, &mut outcome, &why)?;
    }
    outcome.inputs = index - first;
    bar.finish_and_clear();
    Ok(outcome)
}

/// Reads what a worker says until it ends. Returns the index it came to.
fn listen(
    worker: &mut Child,
    outcome: &mut Outcome,
    mut index: u64,
    bar: &ProgressBar,
    time: Duration,
    end: Instant,
) -> Result<u64> {
    let stdout = worker.stdout.take().context("stdout is piped")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if let Some(at) = line.strip_prefix("at ") {
            index = at.parse().context("the worker counts")?;
        } else if let Some(found) = line.strip_prefix("found ") {
            let mut parts = found.splitn(3, '\t');
            if let (Some(key), Some(file), Some(what)) = (parts.next(), parts.next(), parts.next())
            {
                let entry = (PathBuf::from(file), what.to_owned());
                outcome.found.entry(key.to_owned()).or_insert(entry);
            }
        }
        let left = end.saturating_duration_since(Instant::now());
        bar.set_position(time.saturating_sub(left).as_secs());
        bar.set_message(format!("{index} inputs, {} found", outcome.found.len()));
    }
    Ok(index)
}

/// Keeps the input that ended a process. Returns the index after it.
fn bury(folder: &Path, outcome: &mut Outcome, why: &str) -> Result<u64> {
    let current = fs::read(folder.join("current"))?;
    let (index, input) = current
        .split_first_chunk::<8>()
        .context("the worker died before its first input")?;
    let file = folder.join(format!("process-died-{}", outcome.deaths));
    fs::write(&file, input)?;
    let mut words = Vec::new();
    fs::File::open(folder.join("stderr"))?.read_to_end(&mut words)?;
    let last = &words[words.len().saturating_sub(LAST_WORDS_BYTES)..];
    let what = format!(
        "{why}. {}",
        String::from_utf8_lossy(last).replace('\n', " ")
    );
    outcome
        .found
        .insert(format!("died {}", outcome.deaths), (file, what));
    outcome.deaths += 1;
    Ok(u64::from_le_bytes(*index) + 1)
}
