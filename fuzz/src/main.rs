//! One process of a fuzzing run. `cargo xtask fuzz` starts it, again and again.

use clap::{Parser, Subcommand};
use fuzz::TargetName;
use fuzz::worker::{self, Run};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run inputs made from a seed.
    Run {
        target: TargetName,
        #[arg(long)]
        seed: u64,
        /// Index of the first input.
        #[arg(long, default_value_t = 0)]
        first: u64,
        #[arg(long)]
        seconds: u64,
        /// Where inputs that did something wrong are saved.
        #[arg(long)]
        folder: PathBuf,
    },
    /// Run saved inputs.
    Replay {
        target: TargetName,
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let ended = match Cli::parse().task {
        Task::Run {
            target,
            seed,
            first,
            seconds,
            folder,
        } => worker::run(&Run {
            target,
            seed,
            first,
            time: Duration::from_secs(seconds),
            folder,
        }),
        Task::Replay { target, files } => {
            worker::replay(target, &files).map(|good| i32::from(!good))
        }
    };
    match ended {
        // Without waiting for threads: an input may have left one that does not end.
        Ok(code) => std::process::exit(code),
        Err(error) => {
            eprintln!("fuzz: {error}");
            ExitCode::from(2)
        }
    }
}
