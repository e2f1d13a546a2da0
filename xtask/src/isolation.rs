//! The Hermitage anomalies, run step by step over real connections.
//!
//! An anomaly is a little play for two or three sessions (see `anomalies`). Steps are given to their
//! sessions in order; a step that has not answered after a short while is taken to wait for a lock, and the
//! play goes on, so that a later COMMIT can let it pass. Afterwards a predicate over what the sessions saw
//! says whether the anomaly happened. The result is held against a table of what must be prevented at each
//! level, which is what PostgreSQL prevents; preventing more is fine.

mod anomalies;
mod stage;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::peer::{Target, TargetArgs, connect};
use crate::{progress, report};
use anomalies::{ANOMALIES, Anomaly};

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask isolation\n  \
    cargo xtask isolation --peer postgres\n  \
    cargo xtask isolation --dsn postgres://phantom@127.0.0.1:5450/phantom --only G2-item")]
pub struct Args {
    #[command(flatten)]
    target: TargetArgs,
    /// Run one anomaly only.
    #[arg(long)]
    only: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Level {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Level {
    const ALL: [Level; 3] = [
        Level::ReadCommitted,
        Level::RepeatableRead,
        Level::Serializable,
    ];

    fn sql(self) -> &'static str {
        match self {
            Level::ReadCommitted => "READ COMMITTED",
            Level::RepeatableRead => "REPEATABLE READ",
            Level::Serializable => "SERIALIZABLE",
        }
    }
}

/// Making the table anew takes longer only if an earlier play's session still holds it.
const PREPARE_LIMIT: Duration = Duration::from_secs(30);

/// What one play showed.
enum Verdict {
    Prevented,
    Happened,
    /// A step never returned.
    Hung,
}

/// Runs every anomaly at every level; true if nothing happened that had to be prevented.
pub async fn run(args: Args) -> Result<bool> {
    let target = Target::open(&args.target).await?;
    let chosen: Vec<&Anomaly> = ANOMALIES
        .iter()
        .filter(|a| args.only.as_deref().is_none_or(|name| name == a.name))
        .collect();
    anyhow::ensure!(!chosen.is_empty(), "no anomaly has that name");
    let bar = progress::bar((chosen.len() * Level::ALL.len()) as u64, "isolation");
    let mut table = report::table(&[
        "anomaly",
        "READ COMMITTED",
        "REPEATABLE READ",
        "SERIALIZABLE",
    ]);
    let mut violations = Vec::new();
    for anomaly in chosen {
        let mut row = vec![anomaly.name.to_owned()];
        for level in Level::ALL {
            bar.set_message(format!("{} at {}", anomaly.name, level.sql()));
            let verdict = play(target.dsn(), anomaly, level)
                .await
                .with_context(|| format!("{} at {}", anomaly.name, level.sql()))?;
            row.push(judge(anomaly, level, &verdict, &mut violations));
            bar.inc(1);
        }
        table.add_row(row);
    }
    bar.finish_and_clear();
    println!("{table}");
    println!(
        "Expected, as in PostgreSQL: prevented from the level on that the anomaly's row needs."
    );
    for violation in &violations {
        println!("VIOLATION {violation}");
    }
    println!(
        "{}",
        if violations.is_empty() {
            "isolation: ok"
        } else {
            "isolation: FAILED"
        }
    );
    Ok(violations.is_empty())
}

/// The cell of the table, and a violation if there is one.
fn judge(
    anomaly: &Anomaly,
    level: Level,
    verdict: &Verdict,
    violations: &mut Vec<String>,
) -> String {
    let must_prevent = level >= anomaly.prevented_from;
    match (verdict, must_prevent) {
        (Verdict::Prevented, true) => "prevented".to_owned(),
        (Verdict::Prevented, false) => "prevented (stronger)".to_owned(),
        (Verdict::Happened, false) => "allowed".to_owned(),
        (Verdict::Happened, true) => {
            violations.push(format!("{} happened at {}", anomaly.name, level.sql()));
            "HAPPENED".to_owned()
        }
        (Verdict::Hung, _) => {
            violations.push(format!("{} hung at {}", anomaly.name, level.sql()));
            "HUNG".to_owned()
        }
    }
}

async fn play(dsn: &str, anomaly: &Anomaly, level: Level) -> Result<Verdict> {
    let director = connect(dsn).await?;
    let prepare = director.batch_execute(
        "DROP TABLE IF EXISTS hermitage;
         CREATE TABLE hermitage (id int PRIMARY KEY, value int);
         INSERT INTO hermitage VALUES (1, 10), (2, 20);",
    );
    tokio::time::timeout(PREPARE_LIMIT, prepare)
        .await
        .context("the table is held by a transaction that should be over")?
        .map_err(|error| anyhow::anyhow!(crate::peer::describe(&error)))?;
    let script = stage::parse(anomaly.script)?;
    let Some(seen) = stage::perform(dsn, &script, level.sql(), &director).await? else {
        return Ok(Verdict::Hung);
    };
    Ok(if (anomaly.happened)(&seen) {
        Verdict::Happened
    } else {
        Verdict::Prevented
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anomaly(name: &str) -> &'static Anomaly {
        ANOMALIES
            .iter()
            .find(|a| a.name == name)
            .expect("the anomaly")
    }

    #[test]
    fn only_what_must_be_prevented_is_a_violation() {
        let mut violations = Vec::new();
        let happened = Verdict::Happened;
        judge(
            anomaly("P4"),
            Level::ReadCommitted,
            &happened,
            &mut violations,
        );
        judge(
            anomaly("G2"),
            Level::RepeatableRead,
            &happened,
            &mut violations,
        );
        judge(
            anomaly("G2"),
            Level::Serializable,
            &Verdict::Prevented,
            &mut violations,
        );
        assert!(violations.is_empty());
        judge(
            anomaly("G1c"),
            Level::ReadCommitted,
            &happened,
            &mut violations,
        );
        judge(
            anomaly("P4"),
            Level::Serializable,
            &happened,
            &mut violations,
        );
        judge(
            anomaly("G2"),
            Level::ReadCommitted,
            &Verdict::Hung,
            &mut violations,
        );
        assert_eq!(
            violations,
            [
                "G1c happened at READ COMMITTED",
                "P4 happened at SERIALIZABLE",
                "G2 hung at READ COMMITTED"
            ]
        );
    }

    #[test]
    fn fourteen_scripts_are_readable() {
        assert_eq!(ANOMALIES.len(), 14);
        for anomaly in ANOMALIES {
            assert!(stage::parse(anomaly.script).is_ok(), "{}", anomaly.name);
        }
    }
}
