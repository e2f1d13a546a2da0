//! Every type there and back through tokio-postgres, in binary.

use std::fmt::Debug;

use anyhow::{Context, Result, anyhow};
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeZone, Utc};
use tokio_postgres::Error;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use uuid::Uuid;

use super::binary_values::{Interval, Numeric};
use super::tokio_tour::same;
use crate::peer::{Session, describe};

pub async fn scalars(session: Session) -> Result<()> {
    there_and_back(&session, "bool", &some(&[true, false])).await?;
    there_and_back(&session, "int2", &some(&[0i16, i16::MIN, i16::MAX])).await?;
    there_and_back(&session, "int4", &some(&[0i32, i32::MIN, i32::MAX])).await?;
    there_and_back(&session, "int8", &some(&[0i64, i64::MIN, i64::MAX])).await?;
    there_and_back(
        &session,
        "float4",
        &some(&[0.1f32, f32::MIN, f32::INFINITY]),
    )
    .await?;
    there_and_back(
        &session,
        "float8",
        &some(&[0.1f64, f64::MAX, 5e-324, f64::NEG_INFINITY]),
    )
    .await?;
    let text: Vec<String> = ["", "q'uo\"te\\", "ünïcödé 🐘"].map(str::to_owned).to_vec();
    there_and_back(&session, "text", &some(&text)).await?;
    there_and_back(&session, "varchar(20)", &some(&text)).await?;
    there_and_back(&session, "char(5)", &some(&["abc  ".to_owned()])).await?;
    there_and_back(
        &session,
        "bytea",
        &some(&[vec![], (0..=255).collect::<Vec<u8>>()]),
    )
    .await?;
    there_and_back(&session, "uuid", &some(&[Uuid::from_u128(1), Uuid::max()])).await
}

pub async fn numeric_and_interval(session: Session) -> Result<()> {
    let numbers = [
        "0",
        "-1.50",
        "10000",
        "12345678901234567890.123456789012345678901234567890",
        "0.0000000000000001",
        "NaN",
    ];
    there_and_back(
        &session,
        "numeric",
        &some(&numbers.map(|n| Numeric(n.to_owned()))),
    )
    .await?;
    there_and_back(
        &session,
        "numeric(12,2)",
        &some(&[Numeric("1234567890.12".to_owned())]),
    )
    .await?;
    let intervals = [
        Interval {
            months: 14,
            days: 3,
            microseconds: 4_005_006,
        },
        Interval {
            months: -1,
            days: 40,
            microseconds: -1,
        },
    ];
    there_and_back(&session, "interval", &some(&intervals)).await
}

pub async fn times(session: Session) -> Result<()> {
    let day = |y, m, d| NaiveDate::from_ymd_opt(y, m, d).context("a day");
    there_and_back(
        &session,
        "date",
        &some(&[day(1, 1, 1)?, day(2026, 2, 28)?, day(9999, 12, 31)?]),
    )
    .await?;
    let stamps = [
        local("2026-11-24 15:30:00.123456")?,
        local("1969-12-31 23:59:59.999999")?,
    ];
    there_and_back(&session, "timestamp", &some(&stamps)).await?;
    let instants = stamps.map(|stamp| Utc.from_utc_datetime(&stamp));
    there_and_back(&session, "timestamptz", &some(&instants)).await
}

pub async fn documents(session: Session) -> Result<()> {
    let values: Vec<serde_json::Value> = [
        r#"{"a": [1, 2.5, null, true], "b": {"c": "ü"}}"#,
        "[]",
        r#""text""#,
        "5",
    ]
    .map(serde_json::from_str)
    .into_iter()
    .collect::<Result<_, _>>()?;
    there_and_back(&session, "json", &some(&values)).await?;
    there_and_back(&session, "jsonb", &some(&values)).await
}

pub async fn arrays(session: Session) -> Result<()> {
    there_and_back(
        &session,
        "int4[]",
        &some(&[vec![Some(1), None, Some(-3)], vec![]]),
    )
    .await?;
    let words = ["", "q\"u,o{te}", "NULL", "back\\slash"].map(|word| Some(word.to_owned()));
    let words: Vec<Option<String>> = words.into_iter().chain([None]).collect();
    there_and_back(&session, "text[]", &some(&[words])).await?;
    there_and_back(
        &session,
        "numeric[]",
        &some(&[vec![Some(Numeric("1.10".to_owned())), None]]),
    )
    .await?;
    let instant: DateTime<Utc> = Utc.from_utc_datetime(&local("2026-01-01 12:00:00")?);
    there_and_back(
        &session,
        "timestamptz[]",
        &some(&[vec![Some(instant), None]]),
    )
    .await?;
    there_and_back(
        &session,
        "uuid[]",
        &some(&[vec![Some(Uuid::from_u128(7)), None]]),
    )
    .await
}

/// Puts values into a table and reads them back through parameters and a scan.
async fn there_and_back<T>(session: &Session, sql_type: &str, values: &[Option<T>]) -> Result<()>
where
    T: ToSql + FromSqlOwned + Sync + Clone + PartialEq + Debug,
{
    let run = async {
        session
            .batch_execute("DROP TABLE IF EXISTS tour_value")
            .await?;
        session
            .batch_execute(&format!(
                "CREATE TABLE tour_value (id int PRIMARY KEY, v {sql_type})"
            ))
            .await?;
        for (id, value) in values.iter().enumerate() {
            session
                .execute(
                    "INSERT INTO tour_value VALUES ($1, $2)",
                    &[&(id as i32), value],
                )
                .await?;
        }
        let rows = session
            .query("SELECT v FROM tour_value ORDER BY id", &[])
            .await?;
        let found = rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<Vec<Option<T>>, Error>>()?;
        let echo = session
            .query_one(&format!("SELECT $1::{sql_type}"), &[&values[0]])
            .await?;
        Ok::<_, Error>((found, echo.try_get::<_, Option<T>>(0)?))
    };
    let (found, echo) = run
        .await
        .map_err(|error| anyhow!("{sql_type}: {}", describe(&error)))?;
    same(found.as_slice(), values).with_context(|| sql_type.to_owned())?;
    same(&echo, &values[0]).with_context(|| format!("{sql_type} as a parameter"))
}

fn some<T: Clone>(values: &[T]) -> Vec<Option<T>> {
    values.iter().cloned().map(Some).chain([None]).collect()
}

fn local(text: &str) -> Result<NaiveDateTime> {
    Ok(NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")?)
}
