//! The tour through tokio-postgres, which sends and reads every value in binary.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use futures::{SinkExt, TryStreamExt, pin_mut};
use tokio_postgres::{Error, NoTls, SimpleQueryMessage};

use super::tokio_values::{arrays, documents, numeric_and_interval, scalars, times};
use super::{Step, note};
use crate::peer::{Session, connect, describe, sqlstate};

/// A step that takes longer has failed.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

pub async fn run(dsn: &str) -> Result<Vec<Step>> {
    let mut tour = Tour {
        dsn,
        steps: Vec::new(),
    };
    tour.step("connect", connects).await;
    tour.step("scalar types, binary", scalars).await;
    tour.step("numeric and interval, binary", numeric_and_interval)
        .await;
    tour.step("date and time, binary", times).await;
    tour.step("json and jsonb, binary", documents).await;
    tour.step("arrays with NULLs, binary", arrays).await;
    tour.step("text mode (simple protocol)", simple_protocol)
        .await;
    tour.step("prepared statements", prepared).await;
    tour.step("statements in flight at once", pipelined).await;
    tour.step(
        "error in a transaction, ROLLBACK, reuse",
        failed_transaction,
    )
    .await;
    tour.step("savepoints", savepoints).await;
    tour.step("portal with a row limit", portal).await;
    tour.step("COPY in and out (text)", |session| copy(session, "text"))
        .await;
    tour.step("COPY in and out (csv)", |session| copy(session, "csv"))
        .await;
    tour.step("cancel a running statement", cancel).await;
    tour.step("clean up", clean_up).await;
    Ok(tour.steps)
}

struct Tour<'a> {
    dsn: &'a str,
    steps: Vec<Step>,
}

impl Tour<'_> {
    async fn step<F: Future<Output = Result<()>>>(
        &mut self,
        name: &str,
        body: impl FnOnce(Session) -> F,
    ) {
        let outcome = match connect(self.dsn).await {
            Ok(session) => tokio::time::timeout(STEP_TIMEOUT, body(session))
                .await
                .unwrap_or_else(|_| Err(anyhow!("no end after {STEP_TIMEOUT:?}"))),
            Err(error) => Err(error),
        };
        let error = outcome
            .err()
            .map(|error| match error.downcast_ref::<Error>() {
                Some(inner) => format!("{error}: {}", describe(inner)),
                None => format!("{error:#}"),
            });
        self.steps.push(note(Step {
            step: name.to_owned(),
            ok: error.is_none(),
            optional: false,
            error,
        }));
    }
}

/// Fails unless the two are equal.
pub fn same<T: PartialEq + Debug>(found: T, expected: T) -> Result<()> {
    ensure!(found == expected, "expected {expected:?}, got {found:?}");
    Ok(())
}

/// Fails unless the statement failed with that SQLSTATE.
fn refused<T>(outcome: Result<T, Error>, expected: &str) -> Result<()> {
    match outcome {
        Ok(_) => Err(anyhow!("expected {expected}, but it went through")),
        Err(error) => same(sqlstate(&error), Some(expected)).context(describe(&error)),
    }
}

async fn connects(session: Session) -> Result<()> {
    same(
        session
            .query_one("SELECT 1", &[])
            .await?
            .try_get::<_, i32>(0)?,
        1,
    )
}

async fn simple_protocol(session: Session) -> Result<()> {
    session.batch_execute("SET TIME ZONE 'UTC'").await?;
    let sql = "SELECT true, 1::int2, 1.50::numeric, 'x'::char(3), '\\x00ff'::bytea, date '2026-02-28', \
        timestamptz '2026-01-01 12:00:00+02', interval '1 year 2 months 3 days 04:05:06.5', \
        '{\"b\":1,\"a\":[1, 2]}'::jsonb, ARRAY[1,NULL,3], ARRAY['a b','c\"d',NULL], NULL::text, 0.1::float8";
    let messages = session.simple_query(sql).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.context("no row")?;
    let found: Vec<Option<&str>> = (0..row.len()).map(|at| row.get(at)).collect();
    let expected = [
        "t",
        "1",
        "1.50",
        "x  ",
        "\\x00ff",
        "2026-02-28",
        "2026-01-01 10:00:00+00",
        "1 year 2 mons 3 days 04:05:06.5",
        "{\"a\": [1, 2], \"b\": 1}",
        "{1,NULL,3}",
        "{\"a b\",\"c\\\"d\",NULL}",
    ];
    let expected: Vec<Option<&str>> = expected
        .into_iter()
        .map(Some)
        .chain([None, Some("0.1")])
        .collect();
    same(found, expected)
}

async fn fresh_table(session: &Session) -> Result<(), Error> {
    session
        .batch_execute(
            "DROP TABLE IF EXISTS tour; CREATE TABLE tour (id int PRIMARY KEY, name text)",
        )
        .await
}

async fn prepared(session: Session) -> Result<()> {
    fresh_table(&session).await?;
    let put = session.prepare("INSERT INTO tour VALUES ($1, $2)").await?;
    same(
        put.params().iter().map(|t| t.name()).collect::<Vec<_>>(),
        vec!["int4", "text"],
    )?;
    for id in 0..100i32 {
        session.execute(&put, &[&id, &format!("name {id}")]).await?;
    }
    let get = session
        .prepare("SELECT id, name FROM tour WHERE id = $1")
        .await?;
    same(
        get.columns().iter().map(|c| c.name()).collect::<Vec<_>>(),
        vec!["id", "name"],
    )?;
    for id in 0..100i32 {
        let row = session.query_one(&get, &[&id]).await?;
        same(row.try_get::<_, String>(1)?, format!("name {id}"))?;
    }
    Ok(())
}

async fn pipelined(session: Session) -> Result<()> {
    let statement = session.prepare("SELECT $1::int + 1").await?;
    let queries = (0..200i32).map(|n| {
        let (session, statement) = (&session, &statement);
        async move {
            session
                .query_one(statement, &[&n])
                .await?
                .try_get::<_, i32>(0)
        }
    });
    let found = futures::future::try_join_all(queries).await?;
    same(found, (1..=200).collect())
}

async fn failed_transaction(mut session: Session) -> Result<()> {
    let transaction = session.transaction().await?;
    transaction
        .execute("INSERT INTO tour VALUES (2000, 'lost')", &[])
        .await?;
    let Err(error) = transaction
        .execute("INSERT INTO tour VALUES (0, 'twice')", &[])
        .await
    else {
        return Err(anyhow!("a duplicate key went in"));
    };
    let db = error.as_db_error().context("no error of the server")?;
    same(
        (db.code().code(), db.constraint(), db.table()),
        ("23505", Some("tour_pkey"), Some("tour")),
    )?;
    refused(transaction.query("SELECT 1", &[]).await, "25P02")?;
    transaction.rollback().await?;
    same(
        session
            .query("SELECT 1 FROM tour WHERE id = 2000", &[])
            .await?
            .len(),
        0,
    )
}

async fn savepoints(mut session: Session) -> Result<()> {
    let mut transaction = session.transaction().await?;
    transaction
        .execute("INSERT INTO tour VALUES (3000, 'kept')", &[])
        .await?;
    let inner = transaction.transaction().await?;
    inner
        .execute("INSERT INTO tour VALUES (3001, 'undone')", &[])
        .await?;
    refused(inner.query("SELECT 1 / 0", &[]).await, "22012")?;
    inner.rollback().await?;
    let named = transaction.savepoint("named").await?;
    named
        .execute("INSERT INTO tour VALUES (3002, 'kept too')", &[])
        .await?;
    named.commit().await?;
    transaction.commit().await?;
    let rows = session
        .query("SELECT id FROM tour WHERE id >= 3000 ORDER BY id", &[])
        .await?;
    same(
        rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>(),
        vec![3000, 3002],
    )
}

async fn portal(mut session: Session) -> Result<()> {
    let transaction = session.transaction().await?;
    let portal = transaction
        .bind("SELECT id FROM tour WHERE id < $1 ORDER BY id", &[&100i32])
        .await?;
    let mut sizes = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 30).await?;
        sizes.push(rows.len());
        if rows.len() < 30 {
            break;
        }
    }
    same(sizes, vec![30, 30, 30, 10])
}

async fn copy(session: Session, format: &str) -> Result<()> {
    session
        .batch_execute("DROP TABLE IF EXISTS tour_copy")
        .await?;
    session
        .batch_execute("CREATE TABLE tour_copy (id int PRIMARY KEY, v text)")
        .await?;
    let separator = if format == "csv" { ',' } else { '\t' };
    let text: String = (0..10_000)
        .map(|id| format!("{id}{separator}value {id}\n"))
        .collect();
    let sink = session
        .copy_in(&format!("COPY tour_copy FROM STDIN (FORMAT {format})"))
        .await?;
    pin_mut!(sink);
    for chunk in text.as_bytes().chunks(1000) {
        sink.send(Bytes::copy_from_slice(chunk)).await?;
    }
    same(sink.finish().await?, 10_000)?;
    let sql = format!("COPY (SELECT * FROM tour_copy ORDER BY id) TO STDOUT (FORMAT {format})");
    let chunks: Vec<Bytes> = session.copy_out(&sql).await?.try_collect().await?;
    ensure!(
        chunks.concat() == text.as_bytes(),
        "what came out is not what went in"
    );
    Ok(())
}

async fn cancel(session: Session) -> Result<()> {
    let token = session.cancel_token();
    let canceller = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await
    };
    let (outcome, cancelled) = tokio::join!(session.query("SELECT pg_sleep(20)", &[]), canceller);
    cancelled?;
    refused(outcome, "57014")?;
    connects(session).await
}

async fn clean_up(session: Session) -> Result<()> {
    session
        .batch_execute("DROP TABLE IF EXISTS tour, tour_copy, tour_value")
        .await?;
    Ok(())
}
