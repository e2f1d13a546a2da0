//! One seed in one world.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::sim::{cluster_world, one_node};

use super::{Args, World};

/// What a run that found nothing wrong has done.
pub struct Outcome {
    pub trace_hash: u64,
    pub counts: Vec<(String, u64)>,
}

/// One seed, or the same seed twice. A panic is a violation too. A violation ends with the command that shows
/// it again.
pub fn once(world: World, seed: u64, args: &Args, twice: bool) -> Result<Outcome, String> {
    let run = || {
        let run = AssertUnwindSafe(|| match world {
            World::OneNode => one(seed, args),
            World::Cluster => cluster(seed, args),
        });
        catch_unwind(run).unwrap_or_else(|_| Err(format!("seed {seed}: it panicked")))
    };
    let again = |what: String| format!("{what}\nto see it again: {}", command(world, seed, args));
    let outcome = run().map_err(again)?;
    if twice {
        let second = run().map_err(again)?;
        if second.trace_hash != outcome.trace_hash {
            return Err(again(format!(
                "seed {seed}: two runs differ: trace {:016x}, then {:016x}",
                outcome.trace_hash, second.trace_hash
            )));
        }
    }
    Ok(outcome)
}

fn command(world: World, seed: u64, args: &Args) -> String {
    let name = world.name();
    let mut command = format!("cargo xtask sim --world {name} --first {seed} --seeds 1");
    match (world, args.steps) {
        (World::OneNode, Some(steps)) => command += &format!(" --steps {steps}"),
        (World::OneNode, None) => {}
        (World::Cluster, _) => command += &format!(" --nodes {}", args.nodes),
    }
    // Also where only the second of two runs failed.
    command + " --twice-every 1"
}

fn one(seed: u64, args: &Args) -> Result<Outcome, String> {
    let steps = args.steps.unwrap_or(one_node::DEFAULT_STEPS);
    let report = one_node::run(seed, steps).map_err(|violation| violation.to_string())?;
    let mut counts = named([
        ("lives of the node", report.lives),
        ("crashes", report.crashes),
        ("torn batches", report.torn_batches),
        ("transactions committed", report.committed),
        ("transactions aborted", report.aborted),
        ("transactions undecided", report.undecided),
    ]);
    counts.extend(errors(report.errors));
    Ok(Outcome {
        trace_hash: report.trace_hash,
        counts,
    })
}

fn cluster(seed: u64, args: &Args) -> Result<Outcome, String> {
    let options = cluster_world::Options {
        nodes: args.nodes,
        ..cluster_world::Options::default()
    };
    let report = cluster_world::run(seed, &options).map_err(|violation| {
        match args.seeds {
            // Somebody looks at this one.
            1 => cluster_world::minimise(violation, &options).to_string(),
            _ => violation.to_string(),
        }
    })?;
    let mut counts = named([
        ("faults", report.faults),
        ("lives of nodes", report.lives),
        ("steps", report.steps),
        ("virtual seconds", report.virtual_nanos / 1_000_000_000),
        ("operations acknowledged", report.acknowledged),
        ("operations refused", report.refused),
        ("operations of unknown outcome", report.unknown),
        ("messages sent", report.network.messages_sent),
        ("messages arrived", report.network.messages_arrived),
        ("calls", report.network.calls_sent),
        ("connections broken", report.network.connections_broken),
        (
            "milliseconds to recover, all",
            report.recovery_nanos / 1_000_000,
        ),
    ]);
    let effects = report.effects.into_iter();
    counts.extend(effects.map(|(what, count)| (format!("faults: {what}"), count)));
    for (checker, checked) in report.checked {
        let checked = checked.counts.into_iter();
        counts.extend(checked.map(|(name, count)| (format!("checked {checker}: {name}"), count)));
    }
    counts.extend(errors(report.errors));
    Ok(Outcome {
        trace_hash: report.trace_hash,
        counts,
    })
}

/// Puts each bug in, and tells which seed finds it first. `false`: one is not found.
pub fn prove(args: &Args) -> bool {
    let options = cluster_world::Options {
        nodes: args.nodes,
        ..cluster_world::Options::default()
    };
    let seeds = args.first..args.first.saturating_add(args.seeds);
    let mut sound = true;
    for bug in cluster_world::Bug::ALL {
        match cluster_world::prove(bug, seeds.clone(), &options) {
            Some(violation) => println!("{bug:?} is found: {violation}\n"),
            None => {
                println!("{bug:?} is NOT FOUND in {} seeds\n", args.seeds);
                sound = false;
            }
        }
    }
    println!("{}", if sound { "sim: proven" } else { "sim: FAILED" });
    sound
}

fn named<const N: usize>(counts: [(&str, u64); N]) -> Vec<(String, u64)> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

fn errors(errors: std::collections::BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let errors = errors.into_iter();
    errors
        .map(|(sqlstate, count)| (format!("errors {sqlstate}"), count))
        .collect()
}
