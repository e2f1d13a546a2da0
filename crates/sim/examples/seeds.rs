//! Runs many seeds of the one-node world and prints what happened in them.
//!
//! `cargo run --release -p sim --example seeds [count] [first] [steps]`

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut next = |default| numbers.next().and_then(Result::ok).unwrap_or(default);
    let (count, first) = (next(100), next(0));
    let steps = next(sim::one_node::DEFAULT_STEPS);
    let mut failed = 0;
    let mut total = (0, 0, 0, 0, 0);
    for seed in first..first + count {
        match sim::one_node::run(seed, steps) {
            Ok(report) => {
                total.0 += report.committed;
                total.1 += report.aborted;
                total.2 += report.undecided;
                total.3 += report.crashes;
                total.4 += report.torn_batches;
                if count <= 5 {
                    println!("{report:#?}");
                }
            }
            Err(violation) => {
                failed += 1;
                println!("{violation}");
            }
        }
    }
    println!(
        "{count} seeds, {failed} failed; {} commits, {} refused, {} undecided, {} crashes, {} torn batches",
        total.0, total.1, total.2, total.3, total.4
    );
    ExitCode::from(u8::from(failed > 0))
}
