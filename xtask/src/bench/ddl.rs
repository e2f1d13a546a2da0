//! How long making and dropping tables takes.

use std::time::Instant;

use anyhow::{Result, anyhow};

use super::result::median;
use crate::peer::{Server, Session, connect, describe};

const TABLES_FOR_MEDIAN: usize = 100;
const MANY_TABLES: usize = 1000;

/// The median of CREATE TABLE, in milliseconds.
pub async fn create_table_ms(server: &Server) -> Result<f64> {
    let session = connect(&server.dsn()).await?;
    let mut times = Vec::new();
    for number in 0..TABLES_FOR_MEDIAN {
        let began = Instant::now();
        create(&session, number).await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    for number in 0..TABLES_FOR_MEDIAN {
        drop_table(&session, number).await?;
    }
    median(&times).ok_or_else(|| anyhow!("no sample"))
}

/// Seconds to make many tables one by one and drop them again.
pub async fn many_tables_seconds(server: &Server) -> Result<f64> {
    let session = connect(&server.dsn()).await?;
    let began = Instant::now();
    for number in 0..MANY_TABLES {
        create(&session, number).await?;
    }
    for number in 0..MANY_TABLES {
        drop_table(&session, number).await?;
    }
    Ok(began.elapsed().as_secs_f64())
}

async fn create(session: &Session, number: usize) -> Result<()> {
    let columns = "(id bigint PRIMARY KEY, name text NOT NULL, made timestamptz DEFAULT now())";
    run(
        session,
        &format!("CREATE TABLE bench_ddl_{number} {columns}"),
    )
    .await
}

async fn drop_table(session: &Session, number: usize) -> Result<()> {
    run(session, &format!("DROP TABLE bench_ddl_{number}")).await
}

async fn run(session: &Session, sql: &str) -> Result<()> {
    session
        .batch_execute(sql)
        .await
        .map_err(|error| anyhow!("{}: {sql}", describe(&error)))
}
