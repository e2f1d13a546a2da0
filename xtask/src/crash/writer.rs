//! One writer: does what its load says and logs what became of it.

use anyhow::Result;
use tokio::sync::watch;
use tokio_postgres::Error;

use super::model::{Outcome, Transaction};
use super::workload::{Doom, Load, Manner, Plan};
use crate::peer::{Session, describe, sqlstate, try_connect};

/// Errors that concurrent writers provoke by themselves.
const CONFLICTS: [&str; 3] = ["40001", "40P01", "55P03"];
/// The server says that it is going away; what it was doing is then open.
const GOING_AWAY: [&str; 5] = ["57P01", "57P02", "57P03", "08006", "40003"];
/// The name in the log of a break before COMMIT was sent.
const BROKEN_BEFORE_COMMIT: &str = "broken connection";

/// Works until the server is gone or the stop is called; returns the log.
pub async fn run(
    dsn: String,
    mut load: Load,
    stop: watch::Receiver<bool>,
) -> Result<Vec<Transaction>> {
    let mut log = Vec::new();
    // The kill may come before the connection is there.
    let Ok(session) = try_connect(&dsn).await else {
        return Ok(log);
    };
    while !*stop.borrow() {
        let plan = load.next();
        let outcome = perform(&session, &plan).await;
        let went_on = match &outcome {
            Outcome::Acknowledged => {
                load.acknowledged(&plan);
                true
            }
            Outcome::Failed { sqlstate, .. } => sqlstate != BROKEN_BEFORE_COMMIT,
            Outcome::Unknown => false,
        };
        log.push(Transaction {
            id: plan.id,
            writer: load.writer,
            effect: plan.effect,
            outcome,
        });
        if !went_on {
            break;
        }
    }
    Ok(log)
}

async fn perform(session: &Session, plan: &Plan) -> Outcome {
    match plan.manner {
        Manner::Alone => match session.execute(&plan.statements[0], &[]).await {
            Ok(_) => Outcome::Acknowledged,
            Err(error) => judge(&error, true, None),
        },
        Manner::OneMessage => {
            let text = format!("BEGIN; {}; COMMIT", plan.statements.join("; "));
            match session.batch_execute(&text).await {
                Ok(()) => Outcome::Acknowledged,
                Err(error) => roll_back(session, judge(&error, true, None)).await,
            }
        }
        Manner::StepByStep { serializable } => step_by_step(session, plan, serializable).await,
    }
}

async fn step_by_step(session: &Session, plan: &Plan, serializable: bool) -> Outcome {
    let begin = if serializable {
        "BEGIN ISOLATION LEVEL SERIALIZABLE"
    } else {
        "BEGIN"
    };
    if let Err(error) = session.batch_execute(begin).await {
        return judge(&error, false, None);
    }
    for statement in &plan.statements {
        // The extended protocol for statements, the simple one for BEGIN and COMMIT: both are exercised.
        if let Err(error) = session.execute(statement, &[]).await {
            return roll_back(session, judge(&error, false, plan.doomed)).await;
        }
    }
    if plan.doomed == Some(Doom::Rollback) {
        let given_up = Outcome::Failed {
            sqlstate: "rolled back".to_owned(),
            expected: true,
            message: String::new(),
        };
        return roll_back(session, given_up).await;
    }
    match session.batch_execute("COMMIT").await {
        Ok(()) => Outcome::Acknowledged,
        Err(error) => roll_back(session, judge(&error, true, None)).await,
    }
}

/// What an error says about the transaction. `committing`: COMMIT (or the only statement) was sent.
fn judge(error: &Error, committing: bool, doomed: Option<Doom>) -> Outcome {
    let message = describe(error);
    match sqlstate(error) {
        Some(code) if GOING_AWAY.contains(&code) && committing => Outcome::Unknown,
        Some(code) if GOING_AWAY.contains(&code) => Outcome::Failed {
            sqlstate: BROKEN_BEFORE_COMMIT.to_owned(),
            expected: true,
            message,
        },
        Some(code) => {
            let duplicate = doomed == Some(Doom::DuplicateKey) && code == "23505";
            Outcome::Failed {
                sqlstate: code.to_owned(),
                expected: duplicate || CONFLICTS.contains(&code),
                message,
            }
        }
        None if committing => Outcome::Unknown,
        None => Outcome::Failed {
            sqlstate: BROKEN_BEFORE_COMMIT.to_owned(),
            expected: true,
            message,
        },
    }
}

/// Leaves the transaction. If that fails the connection is broken, which the next statement will show.
async fn roll_back(session: &Session, outcome: Outcome) -> Outcome {
    if matches!(outcome, Outcome::Failed { .. }) {
        let _ = session.batch_execute("ROLLBACK").await;
    }
    outcome
}
