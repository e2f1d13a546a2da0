//! Clients that write all the time, and remember what was acknowledged.
//!
//! Each client has one connection and inserts `(client, sequence)` at its share of the rate. A sequence is tried
//! once: it is acknowledged, failed (surely not done) or unknown, and then the next one follows, on a new
//! connection if the old one broke. So at the end the table must hold every acknowledged row, no failed one, and
//! any of the unknown ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::gaps::Ack;
use super::outcome::{Doubt, Trouble};
use super::{Cluster, Scratch};
use crate::peer::{Session, connect, describe, try_connect};

/// A statement without an answer for this long is unknown, and its connection given up.
const STATEMENT_LIMIT: Duration = Duration::from_secs(10);
/// As for statements: connecting through a proxy to a dead node must not stop a client for ever.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Rest after a refused connection.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// Longest wait for the clients to end: one statement and one connection.
const STOP_LIMIT: Duration = Duration::from_secs(20);

const CREATE: &str = "CREATE TABLE IF NOT EXISTS cluster_load \
    (client int NOT NULL, sequence bigint NOT NULL, PRIMARY KEY (client, sequence))";
const INSERT: &str = "INSERT INTO cluster_load (client, sequence) VALUES ($1, $2)";
const READ: &str = "SELECT client, sequence FROM cluster_load";

/// How many violations are printed.
const SHOWN_VIOLATIONS: usize = 20;

/// The options by which a task's user chooses how hard the clients write.
#[derive(clap::Args, Clone, Debug)]
pub struct LoadOptions {
    /// Connections that write at the same time.
    #[arg(long, default_value_t = 8)]
    pub clients: u32,
    /// Writes a second, over all clients; 0: as fast as they are answered.
    #[arg(long, default_value_t = 200)]
    pub rate: u32,
}

/// Starts a cluster, and the clients that write into it.
pub async fn cluster_under_load(
    options: &super::Options,
    load: &LoadOptions,
    scratch: &Scratch,
) -> Result<(Cluster, Load)> {
    let cluster = Cluster::start(options, scratch).await?;
    let load = Load::on(&cluster, load).await?;
    Ok((cluster, load))
}

/// The lines that tell of violations.
pub fn shown_violations(violations: &[String]) -> String {
    let shown = violations.iter().take(SHOWN_VIOLATIONS);
    shown.map(|line| format!("VIOLATION {line}\n")).collect()
}

/// How hard the clients write.
#[derive(Clone, Debug)]
pub struct Plan {
    pub clients: u32,
    /// Writes a second over all clients; nothing: as fast as they are answered.
    pub rate: Option<u32>,
    /// Client n begins with address n, and goes on to the next one when its connection breaks.
    pub dsns: Vec<String>,
}

/// What happened to the writes.
#[derive(Clone, Debug, Default)]
pub struct Log {
    acked: BTreeSet<(u32, i64)>,
    failed: BTreeSet<(u32, i64)>,
    unknown: BTreeSet<(u32, i64)>,
    /// How often each SQLSTATE, or breaking connection, ended a write.
    pub troubles: BTreeMap<String, u64>,
    /// Statements that were refused on a connection that stayed.
    pub refused: u64,
    /// Connections that broke, or ended in order.
    pub resets: u64,
    /// Attempts to connect that failed.
    pub unconnected: u64,
}

impl Log {
    pub fn acknowledged(&self) -> usize {
        self.acked.len()
    }

    pub fn failed(&self) -> usize {
        self.failed.len()
    }

    pub fn unknown(&self) -> usize {
        self.unknown.len()
    }

    fn merge(&mut self, other: Log) {
        self.acked.extend(other.acked);
        self.failed.extend(other.failed);
        self.unknown.extend(other.unknown);
        for (kind, count) in other.troubles {
            *self.troubles.entry(kind).or_default() += count;
        }
        self.refused += other.refused;
        self.resets += other.resets;
        self.unconnected += other.unconnected;
    }

    /// Reads the table and compares; one line for each violation.
    pub async fn verify(&self, dsn: &str) -> Result<Vec<String>> {
        let session = connect(dsn).await?;
        let rows = session
            .query(READ, &[])
            .await
            .map_err(|error| anyhow!("{}: {READ}", describe(&error)))?;
        let found: Vec<(u32, i64)> = rows
            .iter()
            .map(|row| (row.get::<_, i32>(0) as u32, row.get(1)))
            .collect();
        Ok(self.compare(&found))
    }

    fn compare(&self, found: &[(u32, i64)]) -> Vec<String> {
        let there: BTreeSet<(u32, i64)> = found.iter().copied().collect();
        let mut violations = Vec::new();
        if there.len() < found.len() {
            violations.push(format!(
                "{} rows are there twice",
                found.len() - there.len()
            ));
        }
        for lost in self.acked.difference(&there) {
            violations.push(format!(
                "acknowledged and lost: client {}, sequence {}",
                lost.0, lost.1
            ));
        }
        for risen in self.failed.intersection(&there) {
            violations.push(format!(
                "failed and there: client {}, sequence {}",
                risen.0, risen.1
            ));
        }
        for stranger in &there {
            if ![&self.acked, &self.failed, &self.unknown]
                .iter()
                .any(|set| set.contains(stranger))
            {
                violations.push(format!(
                    "never written: client {}, sequence {}",
                    stranger.0, stranger.1
                ));
            }
        }
        violations
    }
}

/// Running clients.
pub struct Load {
    clients: Vec<JoinHandle<Log>>,
    stop: watch::Sender<bool>,
    acks: Arc<Acks>,
    count: u32,
}

/// What the clients share.
struct Acks {
    began: Instant,
    list: Mutex<Vec<Ack>>,
}

impl Load {
    /// Starts clients that write into a cluster.
    pub async fn on(cluster: &Cluster, options: &LoadOptions) -> Result<Load> {
        let plan = Plan {
            clients: options.clients,
            rate: (options.rate > 0).then_some(options.rate),
            dsns: cluster.client_dsns(),
        };
        Load::start(&plan).await
    }

    /// Makes the table and starts the clients.
    pub async fn start(plan: &Plan) -> Result<Load> {
        let first = plan.dsns.first().context("nobody to connect to")?;
        let session = connect(first).await?;
        session
            .batch_execute(CREATE)
            .await
            .map_err(|error| anyhow!("{}: {CREATE}", describe(&error)))?;
        let (stop, stopped) = watch::channel(false);
        let acks = Arc::new(Acks {
            began: Instant::now(),
            list: Mutex::default(),
        });
        let clients = (0..plan.clients).map(|number| {
            let client = Client {
                number,
                plan: plan.clone(),
                acks: Arc::clone(&acks),
                stopped: stopped.clone(),
                log: Log::default(),
                turn: number as usize,
            };
            tokio::spawn(client.run())
        });
        Ok(Load {
            clients: clients.collect(),
            stop,
            acks,
            count: plan.clients,
        })
    }

    /// Microseconds since the load began.
    pub fn now(&self) -> u64 {
        self.acks.began.elapsed().as_micros() as u64
    }

    pub fn clients(&self) -> u32 {
        self.count
    }

    /// The acknowledgements so far.
    pub fn acks(&self) -> Vec<Ack> {
        self.acks.lock().clone()
    }

    /// Waits until every client has been acknowledged at least `times` times after a moment; false if not in time.
    pub async fn wait_all_served(&self, after: u64, times: usize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let mut served = vec![0; self.count as usize];
            for ack in self.acks.lock().iter().rev() {
                if ack.at_micros <= after {
                    break;
                }
                served[ack.client as usize] += 1;
            }
            if served.iter().all(|count| *count >= times) {
                return true;
            }
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the clients and gives what they saw.
    pub async fn stop(self) -> Result<(Log, Vec<Ack>)> {
        let _ = self.stop.send(true);
        let mut log = Log::default();
        for client in self.clients {
            let of_client = tokio::time::timeout(STOP_LIMIT, client)
                .await
                .context("a client of the load does not end")??;
            log.merge(of_client);
        }
        let acks = self.acks.lock().clone();
        Ok((log, acks))
    }
}

impl Acks {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Ack>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Client {
    number: u32,
    plan: Plan,
    acks: Arc<Acks>,
    stopped: watch::Receiver<bool>,
    log: Log,
    /// Which address comes next.
    turn: usize,
}

impl Client {
    async fn run(mut self) -> Log {
        let mut ticks = self.plan.rate.map(|rate| {
            let period = Duration::from_secs(self.plan.clients.into()) / rate;
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        let mut connection = None;
        let mut sequence = 0;
        while !*self.stopped.borrow() {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            if connection.is_none() {
                connection = self.connect().await;
            }
            if let Some((session, insert)) = &connection {
                sequence += 1;
                if self.write(session, insert, sequence).await {
                    connection = None;
                }
            }
        }
        self.log
    }

    async fn connect(&mut self) -> Option<(Session, Statement)> {
        let dsn = &self.plan.dsns[self.turn % self.plan.dsns.len()];
        self.turn += 1;
        let attempt = async {
            let session = try_connect(dsn).await?;
            let insert = session.prepare(INSERT).await?;
            Ok::<_, tokio_postgres::Error>((session, insert))
        };
        match tokio::time::timeout(CONNECT_LIMIT, attempt).await {
            Ok(Ok(connected)) => Some(connected),
            _ => {
                self.log.unconnected += 1;
                tokio::time::sleep(RECONNECT_PAUSE).await;
                None
            }
        }
    }

    /// Writes one row; true if the connection is of no use any more.
    async fn write(&mut self, session: &Session, insert: &Statement, sequence: i64) -> bool {
        let client = self.number as i32;
        let key = (self.number, sequence);
        let parameters: [&(dyn ToSql + Sync); 2] = [&client, &sequence];
        let statement = session.execute(insert, &parameters);
        let trouble = match tokio::time::timeout(STATEMENT_LIMIT, statement).await {
            Ok(Ok(_)) => {
                let at_micros = self.acks.began.elapsed().as_micros() as u64;
                self.acks.lock().push(Ack {
                    at_micros,
                    client: self.number,
                });
                self.log.acked.insert(key);
                return false;
            }
            Ok(Err(error)) => Trouble::of(&error),
            Err(_) => Trouble::timeout(),
        };
        match trouble.doubt {
            Doubt::Failed => self.log.failed.insert(key),
            Doubt::Unknown => self.log.unknown.insert(key),
        };
        *self.log.troubles.entry(trouble.kind()).or_default() += 1;
        match trouble.broken {
            true => self.log.resets += 1,
            false => self.log.refused += 1,
        }
        trouble.broken || session.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_held_against_the_log() {
        let log = Log {
            acked: BTreeSet::from([(0, 1), (0, 2)]),
            failed: BTreeSet::from([(1, 1)]),
            unknown: BTreeSet::from([(1, 2), (1, 3)]),
            ..Log::default()
        };
        assert_eq!(log.compare(&[(0, 1), (0, 2), (1, 3)]), Vec::<String>::new());
        let found = log.compare(&[(0, 1), (0, 1), (1, 1), (7, 7)]);
        for word in [
            "twice",
            "lost: client 0, sequence 2",
            "failed and there",
            "never written",
        ] {
            assert!(
                found.iter().any(|line| line.contains(word)),
                "{word}: {found:?}"
            );
        }
        assert_eq!(found.len(), 4);
    }
}
