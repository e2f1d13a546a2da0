//! Proves the check: damages the data inside a transaction that is rolled back, and sees it noticed.

use anyhow::{Context, Result, anyhow};

use super::check::{Finding, check_again};
use super::model::{Model, Outcome, Transaction};
use crate::peer::{Session, describe};
use crate::report;

/// One way of damaging the data, with the check that has to notice.
struct Forgery {
    name: &'static str,
    sql: String,
    /// A change of what the clients are said to have seen, instead of the data.
    log: Option<Transaction>,
    noticed_by: Finding,
}

/// True if every forgery was noticed by the check that is there for it.
pub async fn run(session: &Session, model: &Model) -> Result<bool> {
    let mut table = report::table(&["forgery", "must be noticed by", "noticed"]);
    let mut all = true;
    for forgery in forgeries(model)? {
        let mut damaged = model.clone();
        if let Some(transaction) = forgery.log {
            damaged.log(transaction);
        }
        batch(session, "BEGIN").await?;
        batch(session, &forgery.sql).await?;
        let findings = check_again(session, &damaged).await?;
        batch(session, "ROLLBACK").await?;
        let noticed = findings.found(forgery.noticed_by);
        all &= noticed;
        table.add_row([
            forgery.name.to_owned(),
            format!("{:?}", forgery.noticed_by),
            (if noticed { "yes" } else { "NO" }).to_owned(),
        ]);
    }
    println!("{table}");
    println!(
        "{}",
        if all {
            "self-test: ok"
        } else {
            "self-test: FAILED"
        }
    );
    Ok(all)
}

fn forgeries(model: &Model) -> Result<Vec<Forgery>> {
    let state = model.state();
    let (transfer, _) = state
        .transfers
        .first_key_value()
        .context("the load made no transfer")?;
    let (item, _) = state
        .items
        .first_key_value()
        .context("the load made no item")?;
    let (batch, _) = state
        .batches
        .first_key_value()
        .context("the load made no batch")?;
    let next = state.marks.keys().max().copied().unwrap_or(0) + 1_000_000;
    let transaction = |outcome| Transaction {
        id: next,
        writer: 0,
        effect: super::model::Effect::Transfer {
            from: 1,
            to: 2,
            amount: 3,
        },
        outcome,
    };
    let refused = Outcome::Failed {
        sqlstate: "40001".to_owned(),
        expected: true,
        message: String::new(),
    };
    let data = |name, sql, noticed_by| Forgery {
        name,
        sql,
        log: None,
        noticed_by,
    };
    Ok(vec![
        Forgery {
            name: "an acknowledgement of a transaction that never was",
            sql: "SELECT 1".to_owned(),
            log: Some(transaction(Outcome::Acknowledged)),
            noticed_by: Finding::LostAcknowledged,
        },
        Forgery {
            name: "a failed transaction that is there",
            sql: format!("INSERT INTO marks VALUES ({next}, 0)"),
            log: Some(transaction(refused)),
            noticed_by: Finding::FailedPresent,
        },
        data(
            "a lost mark",
            format!("DELETE FROM marks WHERE txn_id = {transfer}"),
            Finding::StateDiffers,
        ),
        data(
            "a transfer without its row",
            format!("DELETE FROM transfers WHERE txn_id = {transfer}"),
            Finding::BalanceDiffers,
        ),
        data(
            "a coin from nowhere",
            "UPDATE accounts SET balance = balance + 1 WHERE id = 7".to_owned(),
            Finding::BalanceDiffers,
        ),
        data(
            "an old version of a row",
            format!("UPDATE items SET bucket = bucket + 1 WHERE id = {item}"),
            Finding::StateDiffers,
        ),
        data(
            "a batch that misses a row",
            format!("DELETE FROM batches WHERE txn_id = {batch} AND seq = 0"),
            Finding::StateDiffers,
        ),
        data(
            "an account in the wrong branch",
            "UPDATE accounts SET branch = 3 WHERE id = 4".to_owned(),
            Finding::IndexDisagrees,
        ),
    ])
}

async fn batch(session: &Session, sql: &str) -> Result<()> {
    session
        .batch_execute(sql)
        .await
        .map_err(|error| anyhow!("{}: {sql}", describe(&error)))
}
