//! Single-row writes by key: the same loop against SQL and etcd.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Statement;

use super::grpc::Channel;
use crate::bench::pgbench::At;
use crate::bench::result::Sample;
use crate::peer::{Session, connect, describe};

/// Different keys; many enough that two clients rarely meet, few enough that all of them are in memory.
const KEYS: u32 = 10_000;
/// Bytes of a value.
const VALUE_BYTES: usize = 128;
/// A write that takes longer has failed, and the run with it.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

const CREATE: &str =
    "CREATE TABLE IF NOT EXISTS bench_kv (key text PRIMARY KEY, value text NOT NULL)";
const UPSERT: &str = "INSERT INTO bench_kv (key, value) VALUES ($1, $2) \
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/// Whom the clients write to; they spread over the addresses.
pub enum Clients {
    Sql(Vec<String>),
    Etcd(Vec<SocketAddr>),
}

/// One connection.
enum Writer {
    Sql(Session, Statement),
    Etcd(Channel),
}

/// Writes for some time over so many connections; the sample is in writes a second.
pub async fn run(clients: &Clients, connections: u32, time: Duration, at: &At) -> Result<Sample> {
    if let Clients::Sql(dsns) = clients {
        let session = connect(dsns.first().context("no address")?).await?;
        session
            .batch_execute(CREATE)
            .await
            .map_err(|error| anyhow!("{}: {CREATE}", describe(&error)))?;
    }
    let mut writers = Vec::new();
    for number in 0..connections as usize {
        writers.push(Writer::open(clients, number).await?);
    }
    let cpu_before = at.cpu_seconds()?;
    let began = Instant::now();
    let tasks: Vec<_> = writers
        .into_iter()
        .enumerate()
        .map(|(number, writer)| tokio::spawn(writer.write_until(began + time, number as u64)))
        .collect();
    let mut writes = 0;
    for task in tasks {
        writes += task.await??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let server_cpu = at.cpu_seconds()? - cpu_before;
    Ok(Sample {
        value: writes as f64 / seconds,
        server_cpu_micros: Some(server_cpu * 1e6 / writes.max(1) as f64),
    })
}

impl Writer {
    async fn open(clients: &Clients, number: usize) -> Result<Writer> {
        match clients {
            Clients::Sql(dsns) => {
                let session = connect(&dsns[number % dsns.len()]).await?;
                let upsert = session
                    .prepare(UPSERT)
                    .await
                    .map_err(|error| anyhow!("{}: {UPSERT}", describe(&error)))?;
                Ok(Writer::Sql(session, upsert))
            }
            Clients::Etcd(endpoints) => {
                let channel = Channel::connect(endpoints[number % endpoints.len()]).await?;
                Ok(Writer::Etcd(channel))
            }
        }
    }

    async fn write_until(self, deadline: Instant, seed: u64) -> Result<u64> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut value = "v".repeat(VALUE_BYTES);
        let mut writes = 0;
        while Instant::now() < deadline {
            let key = format!("key-{:08}", rng.random_range(0..KEYS));
            value.replace_range(..8, &format!("{:08}", writes % 100_000_000));
            tokio::time::timeout(WRITE_LIMIT, self.write(&key, &value))
                .await
                .context("a write took too long")??;
            writes += 1;
        }
        Ok(writes)
    }

    async fn write(&self, key: &str, value: &str) -> Result<()> {
        match self {
            Writer::Sql(session, upsert) => {
                session
                    .execute(upsert, &[&key, &value])
                    .await
                    .map_err(|error| anyhow!(describe(&error)))?;
                Ok(())
            }
            Writer::Etcd(channel) => channel.put(key.as_bytes(), value.as_bytes()).await,
        }
    }
}
