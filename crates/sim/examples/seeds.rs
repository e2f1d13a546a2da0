//! Runs many seeds of the cluster world and prints what happened in them.
//!
//! `cargo run --release -p sim --example seeds [count] [first] [nodes]`

use sim::cluster_world::{Options, minimise, run};
use std::collections::BTreeMap;
use std::process::ExitCode;

fn main() -> ExitCode {
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
