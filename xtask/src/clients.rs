//! Tours of the drivers people use (psycopg 3, node-postgres, tokio-postgres) and of programs: psql, pgbench
//! and sysbench.
//!
//! Each driver has a script of steps (`xtask/clients/*`, and `tokio_tour` for Rust) that prints one line per
//! step. What the scripts need is installed into a scratch folder, never into the machine.

mod binary_values;
mod programs;
mod scratch;
mod tokio_tour;
mod tokio_values;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Deserialize;

use crate::peer::{Target, TargetArgs, within, workspace_folder};
use crate::report;
use scratch::Scratch;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask clients --keep\n  \
    cargo xtask clients --peer postgres\n  \
    cargo xtask clients --dsn postgres://phantom@127.0.0.1:5450/phantom --only psycopg")]
pub struct Args {
    #[command(flatten)]
    target: TargetArgs,
    /// Keep the scratch folder with the installed drivers for the next run.
    #[arg(long)]
    keep: bool,
    /// Run one driver only.
    #[arg(long, value_enum)]
    only: Option<Driver>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Driver {
    Psycopg,
    NodePostgres,
    TokioPostgres,
    Programs,
}

impl Driver {
    fn name(self) -> &'static str {
        match self {
            Driver::Psycopg => "psycopg 3",
            Driver::NodePostgres => "node-postgres",
            Driver::TokioPostgres => "tokio-postgres",
            Driver::Programs => "programs",
        }
    }
}

/// A tour's script that takes longer is ended.
const SCRIPT_LIMIT: Duration = Duration::from_secs(600);

/// One line of a tour.
#[derive(Debug, Deserialize)]
pub struct Step {
    pub step: String,
    pub ok: bool,
    /// What PostgreSQL can do but this milestone need not: counted apart.
    pub optional: bool,
    pub error: Option<String>,
}

/// Runs the tours; true if every step that is not optional went well.
pub async fn run(args: Args) -> Result<bool> {
    let target = Target::open(&args.target).await?;
    let scratch = Scratch::open(args.keep)?;
    let mut summary = report::table(&["driver", "ok", "failed", "optional ok", "optional failed"]);
    let mut passed = true;
    for driver in Driver::value_variants() {
        if args.only.is_some_and(|only| only != *driver) {
            continue;
        }
        println!("== {}", driver.name());
        let steps = match tour(*driver, &scratch, target.dsn()).await {
            Ok(steps) => steps,
            Err(error) => vec![note(Step {
                step: "the tour itself".to_owned(),
                ok: false,
                optional: false,
                error: Some(format!("{error:#}")),
            })],
        };
        let count = |ok: bool, optional: bool| {
            steps
                .iter()
                .filter(|step| step.ok == ok && step.optional == optional)
                .count()
        };
        passed &= count(false, false) == 0;
        let mut row = vec![driver.name().to_owned()];
        row.extend(
            [(true, false), (false, false), (true, true), (false, true)]
                .map(|(ok, optional)| count(ok, optional).to_string()),
        );
        summary.add_row(row);
    }
    println!("{summary}");
    println!(
        "{}",
        if passed {
            "clients: ok"
        } else {
            "clients: FAILED"
        }
    );
    Ok(passed)
}

async fn tour(driver: Driver, scratch: &Scratch, dsn: &str) -> Result<Vec<Step>> {
    let scripts = workspace_folder().join("xtask/clients");
    match driver {
        Driver::Psycopg => {
            let mut command = within(SCRIPT_LIMIT, scratch.python_with_psycopg()?);
            command.arg(scripts.join("psycopg_tour.py")).arg(dsn);
            script_steps(command)
        }
        Driver::NodePostgres => {
            let mut command = within(SCRIPT_LIMIT, "node");
            command.current_dir(scratch.folder_with_node_postgres()?);
            command.arg(scripts.join("node_tour.js")).arg(dsn);
            script_steps(command)
        }
        Driver::TokioPostgres => tokio_tour::run(dsn).await,
        Driver::Programs => programs::run(dsn).await,
    }
}

/// Runs a script and reads its lines as they come.
fn script_steps(mut command: Command) -> Result<Vec<Step>> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run the script")?;
    let output = child.stdout.take().context("the script has no output")?;
    let mut steps = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        match serde_json::from_str::<Step>(&line) {
            Ok(step) => steps.push(note(step)),
            Err(_) => println!("  {line}"),
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("the script ended with {status} after {} steps", steps.len());
    }
    Ok(steps)
}

/// Prints a step.
pub fn note(step: Step) -> Step {
    let verdict = match (step.ok, step.optional) {
        (true, _) => "ok",
        (false, true) => "not supported (optional)",
        (false, false) => "FAIL",
    };
    match &step.error {
        Some(error) => println!(
            "  {:<52} {verdict}: {}",
            step.step,
            error.replace('\n', " ")
        ),
        None => println!("  {:<52} {verdict}", step.step),
    }
    step
}
