//! The chaos test: clients work, faults strike, and what the clients saw must be possible.
//!
//! A seed draws the schedule of faults (`schedule`) and what each client does (`workloads`). The clients are bound to
//! the nodes and the proxy in turn and note every operation with its begin and its end (`history`). When the time is
//! over all faults end, the cluster must be healthy again within a bound, everything is read once more through every
//! address, and the checkers of the simulator judge the histories (`check`).
//!
//! The same seed strikes with the same faults at the same moments; what the clients and nodes make of it depends on
//! the machine.
//!
//! The checkers come with the simulator, which links the whole database. So they are behind the feature `sim`; without
//! it this task calls cargo once more with it, and all other tasks stay small.

#[cfg(feature = "sim")]
mod check;
mod client;
mod history;
mod injector;
mod run;
mod schedule;
mod workloads;

use anyhow::Result;

use crate::cluster::Options;
use schedule::Kind;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask chaos --minutes 10\n  \
    cargo xtask chaos --minutes 5 --nodes 5 --network namespaces\n  \
    cargo xtask chaos --minutes 2 --seed 42 --faults kill,pause\n  \
    cargo xtask chaos --minutes 1 --nodes 1 --peer postgres --faults kill\n\n\
    Namespaces need root and Debian's packages iproute2 and nftables, clocks the package faketime.\n\
    The schedule is written below the folder chaos of cargo's target folder.")]
pub struct Args {
    #[command(flatten)]
    cluster: Options,
    /// How long faults strike.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// Draws the schedule and the operations.
    #[arg(long)]
    seed: Option<u64>,
    /// The kinds of fault (default: all that this ground offers, but no far jumps of clocks).
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Kind>,
    /// Clients of each of the four workloads.
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// Operations a second of each client.
    #[arg(long, default_value_t = 20)]
    rate: u32,
}

/// Runs; true if the histories are possible, the cluster came back, and no node ended without a reason.
pub async fn run(args: Args) -> Result<bool> {
    match cfg!(feature = "sim") {
        true => run::run(args).await,
        false => crate::again::built_with(&["--features", "sim"]),
    }
}

/// Stands in for the checkers in a build that does not run the test itself.
#[cfg(not(feature = "sim"))]
mod check {
    pub fn all(_: &super::run::Histories) -> anyhow::Result<Vec<super::run::Verdict>> {
        anyhow::bail!("this build has no checkers (feature sim)")
    }
}
