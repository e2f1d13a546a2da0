//! Performs a script: gives each step to its session, and goes on when a step waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

use crate::peer::{Session, connect, describe};

/// A step that takes longer than this is taken to wait for a lock of another session.
const BLOCKED_AFTER: Duration = Duration::from_millis(300);
/// A step that has not returned by then, with nothing left to wait for, hangs.
const HUNG_AFTER: Duration = Duration::from_secs(15);

/// One line of a script.
pub struct Step {
    session: u8,
    label: Option<String>,
    sql: String,
}

/// What the sessions saw, for the anomaly's predicate.
#[derive(Default)]
pub struct Seen {
    answers: BTreeMap<String, Vec<(i32, i32)>>,
    committed: BTreeSet<u8>,
    finally: BTreeMap<i32, i32>,
}

impl Seen {
    /// Whether the session's transaction committed without any of its statements failing.
    pub fn committed(&self, session: u8) -> bool {
        self.committed.contains(&session)
    }

    /// The value that a labelled read saw in a row, or nothing if it failed or the row was not there.
    pub fn value(&self, label: &str, id: i32) -> Option<i32> {
        self.answers
            .get(label)?
            .iter()
            .find(|row| row.0 == id)
            .map(|row| row.1)
    }

    /// How many rows a labelled read saw.
    pub fn rows(&self, label: &str) -> usize {
        self.answers.get(label).map_or(0, Vec::len)
    }

    /// The value of a row after the play.
    pub fn finally(&self, id: i32) -> Option<i32> {
        self.finally.get(&id).copied()
    }
}

pub fn parse(script: &str) -> Result<Vec<Step>> {
    let lines = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    lines
        .map(|line| parse_line(line).with_context(|| format!("script line {line:?}")))
        .collect()
}

fn parse_line(line: &str) -> Result<Step> {
    let (session, rest) = line.split_once(' ').context("no session number")?;
    let (label, sql) = match rest.split_once(" = ") {
        // A label is one word; an equals sign inside SQL has SQL before it.
        Some((word, sql)) if !word.contains(' ') => (Some(word.to_owned()), sql),
        _ => (None, rest),
    };
    Ok(Step {
        session: session.parse()?,
        label,
        sql: sql.to_owned(),
    })
}

/// Runs the script at a level; nothing if a step hung. The director reads the table at the end.
pub async fn perform(
    dsn: &str,
    script: &[Step],
    level: &str,
    director: &Session,
) -> Result<Option<Seen>> {
    let mut actors: BTreeMap<u8, Actor> = BTreeMap::new();
    for session in script
        .iter()
        .map(|step| step.session)
        .collect::<BTreeSet<u8>>()
    {
        actors.insert(session, Actor::enter(dsn).await?);
    }
    let mut pending = Vec::new();
    for step in script {
        let Some(actor) = actors.get(&step.session) else {
            bail!("no actor for a step")
        };
        let sql = match step.sql.as_str() {
            "begin" => format!("BEGIN ISOLATION LEVEL {level}"),
            other => other.to_owned(),
        };
        let mut answer = actor.ask(sql)?;
        match timeout(BLOCKED_AFTER, &mut answer).await {
            Ok(answered) => pending.push((step, Waiting::Done(answered?))),
            Err(_) => pending.push((step, Waiting::For(answer))),
        }
    }

    let mut seen = Seen::default();
    let mut broken = BTreeSet::new();
    for (step, waiting) in pending {
        let answer = match waiting {
            Waiting::Done(answer) => answer,
            Waiting::For(answer) => match timeout(HUNG_AFTER, answer).await {
                Ok(answered) => answered?,
                Err(_) => return Ok(None),
            },
        };
        match answer {
            Ok(rows) => {
                if let Some(label) = &step.label {
                    seen.answers.insert(label.clone(), rows);
                }
                // COMMIT of a transaction that has failed answers without an error and rolls back.
                if step.sql == "commit" && !broken.contains(&step.session) {
                    seen.committed.insert(step.session);
                }
            }
            Err(message) => {
                expect_conflict(step, &message)?;
                broken.insert(step.session);
            }
        }
    }
    drop(actors);
    seen.finally = two_columns(director, "SELECT id, value FROM hermitage")
        .await
        .map_err(|message| anyhow!(message))?
        .into_iter()
        .collect();
    Ok(Some(seen))
}

/// Only a conflict may fail a step: a statement that the server does not know proves nothing.
fn expect_conflict(step: &Step, message: &str) -> Result<()> {
    const CONFLICTS: [&str; 4] = ["40001", "40P01", "25P02", "55P03"];
    if CONFLICTS.iter().any(|code| message.starts_with(code)) {
        return Ok(());
    }
    bail!(
        "session {} failed at {:?}: {message}",
        step.session,
        step.sql
    )
}

type Answer = Result<Vec<(i32, i32)>, String>;

enum Waiting {
    Done(Answer),
    For(oneshot::Receiver<Answer>),
}

/// A session that performs its statements one after the other.
struct Actor {
    steps: mpsc::UnboundedSender<(String, oneshot::Sender<Answer>)>,
}

impl Actor {
    async fn enter(dsn: &str) -> Result<Actor> {
        let session = connect(dsn).await?;
        let (steps, mut inbox) = mpsc::unbounded_channel::<(String, oneshot::Sender<Answer>)>();
        tokio::spawn(async move {
            while let Some((sql, reply)) = inbox.recv().await {
                let _ = reply.send(two_columns(&session, &sql).await);
            }
        });
        Ok(Actor { steps })
    }

    fn ask(&self, sql: String) -> Result<oneshot::Receiver<Answer>> {
        let (reply, answer) = oneshot::channel();
        self.steps
            .send((sql, reply))
            .map_err(|_| anyhow!("a session has ended"))?;
        Ok(answer)
    }
}

/// Runs a statement; rows of (id, value) if it has any.
async fn two_columns(session: &Session, sql: &str) -> Answer {
    let messages = session
        .simple_query(sql)
        .await
        .map_err(|error| describe(&error))?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((row.get(0)?.parse().ok()?, row.get(1)?.parse().ok()?))
        }
        _ => None,
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_word_before_the_statement() {
        let step =
            parse_line("2 late = select id from hermitage where id = 1").expect("it is a line");
        assert_eq!((step.session, step.label.as_deref()), (2, Some("late")));
        assert_eq!(step.sql, "select id from hermitage where id = 1");
        let step =
            parse_line("1 update hermitage set value = 11 where id = 1").expect("it is a line");
        assert_eq!(step.label, None);
        assert!(parse_line("begin").is_err());
    }
}
