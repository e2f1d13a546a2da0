//! Developer tasks that speak to the database from outside, as any program would.
//!
//! Each task lives in a module of its own; `peer` knows how to start the servers they talk to. Nothing
//! here links against the database (only the feature `sim` does): a task sees the PostgreSQL wire protocol, a process id and a folder,
//! so every task can be pointed at a real PostgreSQL (`--peer postgres`) to prove the task itself.
#![allow(
    clippy::disallowed_methods,
    reason = "developer tasks measure real time and run real processes"
)]

mod again;
mod bench;
mod chaos;
mod clients;
mod cluster;
mod crash;
mod drain;
mod failover;
mod fuzz;
mod idle;
mod isolation;
mod peer;
mod progress;
mod report;
mod rolling;
mod scale;
mod shards;
mod sim;
mod slt;
mod svg;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, prove and measure PhantomDB.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Examples:\n  \
        cargo xtask crash --rounds 20\n  \
        cargo xtask crash --rounds 5 --peer postgres\n  \
        cargo xtask clients\n  \
        cargo xtask chaos --minutes 10\n  \
        cargo xtask failover --rounds 30\n  \
        cargo xtask rolling\n  \
        cargo xtask drain\n  \
        cargo xtask scale\n  \
        cargo xtask shards --shards 1000\n  \
        cargo xtask isolation --dsn postgres://phantom@127.0.0.1:5450/phantom\n  \
        cargo xtask sim --seeds 1000\n  \
        cargo xtask fuzz --minutes 5\n  \
        cargo xtask bench postgres --rounds 3 --seconds 10\n  \
        cargo xtask bench cluster --rounds 3 --seconds 10\n  \
        cargo xtask slt --file joins\n  \
        cargo xtask tidy"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Kill a loaded node at random moments and check what is left.
    Crash(crash::Args),
    /// Hurt a cluster in every way there is while clients work, and check what they saw.
    Chaos(chaos::Args),
    /// Measure how long writes stop when a node is lost.
    Failover(failover::Args),
    /// Restart every node in turn under load.
    Rolling(rolling::Args),
    /// Split a table into many shards, and measure what they cost when idle and at a restart.
    Shards(shards::Args),
    /// Drain every node in turn under load: no statement may fail.
    Drain(drain::Args),
    /// Add a node under load, and decommission it again.
    Scale(scale::Args),
    /// Run tours of psycopg 3, node-postgres, tokio-postgres, psql, pgbench and sysbench.
    Clients(clients::Args),
    /// Measure beside another database.
    #[command(subcommand)]
    Bench(bench::Against),
    /// Give damaged bytes to the wire protocol, the SQL entry and the decoders.
    Fuzz(fuzz::Args),
    /// Measure CPU and memory of a node that does nothing.
    Idle(idle::Args),
    /// Run the Hermitage anomalies at each isolation level.
    Isolation(isolation::Args),
    /// Run the simulator over many seeds.
    Sim(sim::Args),
    /// Run the `.slt` files over the wire, against PostgreSQL or PhantomDB.
    Slt(slt::Args),
    /// Check the shape of the workspace: dependency direction, paths, file sizes.
    Tidy,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The runtime is entered from the main thread on purpose: servers are started there and ask the
    // kernel to be ended with the thread that started them.
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the async runtime: {error}");
            return ExitCode::from(2);
        }
    };
    let outcome = runtime.block_on(async {
        // The task is dropped when it is interrupted, and with it go the processes, folders and network devices
        // that it has made.
        // The order matters: a task that never waits leaves the signals as they are.
        tokio::select! {
            biased;
            outcome = perform(cli.task) => outcome,
            signal = interrupted() => Err(anyhow::anyhow!("interrupted by {signal}")),
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn perform(task: Task) -> anyhow::Result<bool> {
    match task {
        Task::Crash(args) => crash::run(args).await,
        Task::Chaos(args) => chaos::run(args).await,
        Task::Failover(args) => failover::run(args).await,
        Task::Rolling(args) => rolling::run(args).await,
        Task::Drain(args) => drain::run(args).await,
        Task::Scale(args) => scale::run(args).await,
        Task::Shards(args) => shards::run(args).await,
        Task::Clients(args) => clients::run(args).await,
        Task::Bench(against) => bench::run(against).await,
        Task::Fuzz(args) => fuzz::run(args),
        Task::Idle(args) => idle::run(args).await,
        Task::Isolation(args) => isolation::run(args).await,
        Task::Sim(args) => sim::run(args),
        Task::Slt(args) => slt::run(args).await,
        Task::Tidy => tidy::run(),
    }
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};

    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
