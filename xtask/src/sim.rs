//! Runs the simulator over many seeds.
//!
//! Each seed is run in two worlds: one node over a disk that forgets, and a cluster on a network that breaks. The
//! simulator links the whole database, and only its release build is quick enough for a thousand seeds. So it
//! is behind the feature `sim`: without it this task calls cargo for a release build with it, and all other
//! tasks stay small.

use anyhow::Result;

#[cfg(feature = "sim")]
mod many;
#[cfg(feature = "sim")]
mod worlds;

#[derive(clap::Args, Clone)]
#[command(after_help = "Examples:\n  cargo xtask sim --seeds 1000\n  \
    cargo xtask sim --world cluster --first 4711 --seeds 1\n  \
    cargo xtask sim --seeds 100000 --minutes 60 --nodes 5\n  \
    cargo xtask sim --prove --seeds 600")]
pub struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed; the others follow it.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Run only this world: one-node or cluster.
    #[arg(long)]
    world: Option<World>,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    nodes: u32,
    /// Steps of one run of the one-node world (default: the simulator's own).
    #[arg(long)]
    steps: Option<u64>,
    /// Begin no further seed after this long.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// One seed of so many runs twice, and both runs must leave the same trace.
    #[arg(long, default_value_t = 20)]
    twice_every: u64,
    /// Instead: put bugs in on purpose, one at a time, and see that each is found within so many seeds.
    #[arg(long)]
    prove: bool,
    /// Seeds at the same time (default: one per core).
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    OneNode,
    Cluster,
}

impl World {
    fn name(self) -> &'static str {
        match self {
            World::OneNode => "one-node",
            World::Cluster => "cluster",
        }
    }
}

#[cfg(not(feature = "sim"))]
pub fn run(args: Args) -> Result<bool> {
    use anyhow::Context;

    let mut cargo =
        std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "run",
        "--release",
        "--package",
        "xtask",
        "--features",
        "sim",
        "--",
        "sim",
    ]);
    for (flag, value) in [
        ("--seeds", Some(args.seeds)),
        ("--first", Some(args.first)),
        ("--nodes", Some(u64::from(args.nodes))),
        ("--steps", args.steps),
        ("--minutes", Some(args.minutes)),
        ("--twice-every", Some(args.twice_every)),
        ("--jobs", args.jobs.map(|jobs| jobs as u64)),
    ] {
        if let Some(value) = value {
            cargo.args([flag, &value.to_string()]);
        }
    }
    if args.prove {
        cargo.arg("--prove");
    }
    if let Some(world) = args.world {
        cargo.args(["--world", world.name()]);
    }
    let status = cargo
        .current_dir(crate::peer::workspace_folder())
        .status()
        .context("cannot run cargo")?;
    Ok(status.success())
}

#[cfg(feature = "sim")]
pub fn run(args: Args) -> Result<bool> {
    if args.prove {
        return Ok(worlds::prove(&args));
    }
    many::run(args)
}
