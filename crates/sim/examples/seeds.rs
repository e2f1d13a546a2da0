//! Runs many seeds of the cluster world and prints what happened in them.
//!
//! `cargo run --release -p sim --example seeds [count] [first] [nodes]`; with `prove` instead of a count: which seed is
//! the first to show each bug that can be put in on purpose.

use sim::cluster_world::{Bug, Options, minimise, prove, run};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Seeds that a bug may need until it is found.
const PROOF_SEEDS: u64 = 1000;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("prove") {
        return prove_all();
    }
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut next = |default| numbers.next().and_then(Result::ok).unwrap_or(default);
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
