//! Runs many seeds of the cluster world and prints what happened in them.
//!
//! `cargo run --release -p sim --example seeds [count] [first] [nodes]`; with `prove` instead of a count: which seed is
//! the first to show each bug that can be put in on purpose; with `show SEED [NODES]`: what the nodes of one seed say
//! of themselves meanwhile, by true time, as far as `RUST_LOG` asks for it.

use sim::cluster_world::{Bug, Options, minimise, prove, run};
use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Seeds that a bug may need until it is found.
const PROOF_SEEDS: u64 = 1000;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("prove") {
        return prove_all();
    }
    let show = std::env::args().nth(1).as_deref() == Some("show");
    let numbers = std::env::args().skip(1 + usize::from(show));
    let mut numbers = numbers.map(|text| text.parse::<u64>());
    let mut next = |default| numbers.next().and_then(Result::ok).unwrap_or(default);
    if show {
        return show_one(next(0), next(3));
    }
    let (count, first) = (next(100), next(0));
    let options = Options {
        nodes: u32::try_from(next(3)).unwrap_or(3),
        ..Options::default()
    };
    let (mut failed, mut steps, mut acknowledged) = (0, 0, 0);
    let mut effects = BTreeMap::<&str, u64>::new();
    for seed in first..first + count {
        match run(seed, &options) {
            Ok(report) => {
                steps += report.steps;
                acknowledged += report.acknowledged;
                for (what, count) in &report.effects {
                    *effects.entry(what).or_default() += count;
                }
                if count <= 5 {
                    println!("{report:#?}");
                }
            }
            Err(violation) => {
                failed += 1;
                match count <= 5 {
                    true => println!("{}", minimise(violation, &options)),
                    false => println!("{violation}"),
                }
            }
        }
    }
    for (what, count) in effects {
        println!("{count:>12} {what}");
    }
    println!("{count} seeds, {failed} failed; {steps} steps, {acknowledged} acknowledged");
    ExitCode::from(u8::from(failed > 0))
}

/// The moment of true time, and the node that says something.
struct Moment;

impl FormatTime for Moment {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        let (node, nanos) = sim::executor::running();
        write!(out, "{:>10.3} n{}", nanos as f64 / 1e6, node.0)
    }
}

fn show_one(seed: u64, nodes: u64) -> ExitCode {
    let asked = EnvFilter::try_from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(asked.unwrap_or_else(|_| EnvFilter::new("sim=info,node=debug")))
        .with_timer(Moment)
        .with_ansi(false)
        .init();
    let options = Options {
        nodes: u32::try_from(nodes).unwrap_or(3),
        ..Options::default()
    };
    match run(seed, &options) {
        Ok(report) => println!("{report:#?}"),
        Err(violation) => {
            println!("{violation}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn prove_all() -> ExitCode {
    let mut missed = 0;
    for bug in Bug::ALL {
        match prove(bug, 1..PROOF_SEEDS, &Options::default()) {
            Some(violation) => println!("{bug:?}: {violation}"),
            None => {
                missed += 1;
                println!("{bug:?}: not found in {PROOF_SEEDS} seeds");
            }
        }
    }
    ExitCode::from(missed)
}
