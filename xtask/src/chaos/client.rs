//! A client of a workload: bound to one address, one operation after the other, none of them tried again.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_postgres::Error;

use super::history::{History, Notes, Outcome, Record, Stage};
use crate::cluster::outcome::{Doubt, Trouble};
use crate::peer::{Session, try_connect};

/// An operation without an answer for this long is unknown.
const OPERATION_LIMIT: Duration = Duration::from_secs(8);
/// An address that lets nobody in for this long is tried again.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Rest after a refused connection.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// What a kind of client does.
pub trait Workload: Send + 'static {
    type Operation: Clone + Send + 'static;

    /// The next operation.
    fn draw(&mut self, rng: &mut SmallRng) -> Self::Operation;

    /// Performs it and notes in it what was seen; false if it surely had no effect.
    fn perform(
        session: &mut Session,
        operation: &mut Self::Operation,
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Whether it changes anything, so that being done is a sign of a writable database.
    fn writes(operation: &Self::Operation) -> bool;
}

/// What all clients of one workload share.
pub struct Shared<T> {
    pub stage: Arc<Stage>,
    pub history: History<T>,
    /// When writes were acknowledged, in nanoseconds of the stage; of all workloads.
    pub acks: Arc<Notes<u64>>,
    /// What went wrong; of all workloads.
    pub troubles: Arc<Notes<String>>,
}

/// Works until it is stopped.
pub async fn run<W: Workload>(
    mut workload: W,
    mut rng: SmallRng,
    dsn: String,
    pause: Duration,
    shared: Arc<Shared<W::Operation>>,
    stopped: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut process = shared.stage.new_process();
    let mut connection: Option<Session> = None;
    while !*stopped.borrow() {
        ticks.tick().await;
        let Some(session) = &mut connection else {
            connection = open(&dsn).await;
            continue;
        };
        let mut operation = workload.draw(&mut rng);
        let begin = shared.stage.nanos();
        let performed = W::perform(session, &mut operation);
        let (outcome, trouble) = match tokio::time::timeout(OPERATION_LIMIT, performed).await {
            Ok(Ok(true)) => (Outcome::Done, None),
            Ok(Ok(false)) => (Outcome::Failed, None),
            Ok(Err(error)) => judged(Trouble::of(&error)),
            Err(_) => judged(Trouble::timeout()),
        };
        let end = shared.stage.nanos();
        if outcome == Outcome::Done && W::writes(&operation) {
            shared.acks.add(end);
        }
        shared.history.add(Record {
            process,
            begin,
            end: (outcome != Outcome::Unknown).then_some(end),
            operation,
            outcome,
        });
        if outcome == Outcome::Unknown {
            process = shared.stage.new_process();
        }
        if let Some(trouble) = trouble {
            shared.troubles.add(trouble.kind());
            // A transaction may be left open on the connection, so it is given up in any case.
            connection = None;
        }
    }
}

fn judged(trouble: Trouble) -> (Outcome, Option<Trouble>) {
    let outcome = match trouble.doubt {
        Doubt::Failed => Outcome::Failed,
        Doubt::Unknown => Outcome::Unknown,
    };
    (outcome, Some(trouble))
}

async fn open(dsn: &str) -> Option<Session> {
    match tokio::time::timeout(CONNECT_LIMIT, try_connect(dsn)).await {
        Ok(Ok(session)) => Some(session),
        _ => {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            None
        }
    }
}
