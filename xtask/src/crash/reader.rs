//! A reader under load: whatever the writers are in the middle of, one snapshot always holds all the money.

use anyhow::{Result, bail};
use tokio::sync::watch;
use tokio_postgres::Error;

use super::workload::{ACCOUNTS, OPENING_BALANCE};
use crate::peer::{Session, describe, sqlstate, try_connect};

/// What a reader has seen.
#[derive(Default)]
pub struct Seen {
    /// Sums that were read.
    pub sums: u64,
    /// Descriptions of wrong ones.
    pub wrong: Vec<String>,
}

/// Reads until the server is gone or the stop is called.
pub async fn run(dsn: String, stop: watch::Receiver<bool>) -> Result<Seen> {
    let mut seen = Seen::default();
    // The kill may come before the connection is there.
    let Ok(session) = try_connect(&dsn).await else {
        return Ok(seen);
    };
    let total = i64::from(ACCOUNTS) * OPENING_BALANCE;
    while !*stop.borrow() {
        match sums_of_one_snapshot(&session).await {
            Ok(sums) => {
                seen.sums += 1;
                // By a scan, by the index of branches, and once more at the end of the same snapshot.
                if sums != [total; 3] {
                    seen.wrong.push(format!(
                        "one snapshot held {sums:?}, not three times {total}"
                    ));
                }
            }
            Err(error) if error.is_closed() || sqlstate(&error).is_none() => break,
            Err(error) => match sqlstate(&error) {
                // A server may refuse a snapshot, or be going away; anything else is not to be expected.
                Some("40001" | "57P01" | "57P02" | "57P03") => {
                    let _ = session.batch_execute("ROLLBACK").await;
                }
                _ => bail!("the reader's query failed: {}", describe(&error)),
            },
        }
    }
    Ok(seen)
}

async fn sums_of_one_snapshot(session: &Session) -> Result<[i64; 3], Error> {
    const ALL: &str = "SELECT sum(balance)::bigint FROM accounts";
    const BY_BRANCH: &str =
        "SELECT sum(balance)::bigint FROM accounts WHERE branch BETWEEN 0 AND 9";
    session
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await?;
    let mut sums = [0; 3];
    for (sum, sql) in sums.iter_mut().zip([ALL, BY_BRANCH, ALL]) {
        *sum = session.query_one(sql, &[]).await?.try_get(0)?;
    }
    session.batch_execute("COMMIT").await?;
    Ok(sums)
}
