//! Reads the tables after a restart and holds them against the model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use anyhow::Result;
use comfy_table::Table;

use super::model::{Effect, Item, Model, State};
use super::tables::{Tables, rows};
use super::workload::{ACCOUNTS, BUCKETS, OPENING_BALANCE, branch_of};
use crate::peer::Session;
use crate::report;

/// How many codes are looked up one by one through the unique index in each check.
const LOOKUPS: usize = 200;

/// The kinds of violation, which are also the rows of the table of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    LostAcknowledged,
    FailedPresent,
    TornUnknown,
    StateDiffers,
    BalanceDiffers,
    IndexDisagrees,
    SnapshotTorn,
    UnexpectedError,
}

impl Finding {
    const ALL: [(Finding, &str); 8] = [
        (
            Finding::LostAcknowledged,
            "every acknowledged transaction is there",
        ),
        (Finding::FailedPresent, "no failed transaction is there"),
        (
            Finding::TornUnknown,
            "every unknown transaction is whole or absent",
        ),
        (
            Finding::StateDiffers,
            "the tables hold what the log says, row by row",
        ),
        (
            Finding::BalanceDiffers,
            "balances and their sum agree with the transfers",
        ),
        (Finding::IndexDisagrees, "every index agrees with its table"),
        (
            Finding::SnapshotTorn,
            "every snapshot under load holds all the money",
        ),
        (
            Finding::UnexpectedError,
            "no error that the workload does not provoke",
        ),
    ];
}

/// How often each check was made, and what it found.
#[derive(Default)]
pub struct Findings {
    made: BTreeMap<Finding, u64>,
    violations: Vec<String>,
    kinds: BTreeSet<Finding>,
}

impl Findings {
    pub fn add(&mut self, kind: Finding, details: String) {
        self.kinds.insert(kind);
        self.violations.push(format!("{kind:?}: {details}"));
    }

    pub fn check(&mut self, kind: Finding, good: bool, details: impl FnOnce() -> String) {
        *self.made.entry(kind).or_default() += 1;
        if !good {
            self.add(kind, details());
        }
    }

    /// Counts comparisons that were made elsewhere and found nothing.
    pub fn count(&mut self, kind: Finding, comparisons: u64) {
        *self.made.entry(kind).or_default() += comparisons;
    }

    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    pub fn found(&self, kind: Finding) -> bool {
        self.kinds.contains(&kind)
    }

    pub fn table(&self) -> Table {
        let mut table = report::table(&["check", "comparisons", "verdict"]);
        for (kind, name) in Finding::ALL {
            let made = self.made.get(&kind).copied().unwrap_or(0);
            let verdict = if self.found(kind) { "VIOLATED" } else { "ok" };
            table.add_row([name.to_owned(), made.to_string(), verdict.to_owned()]);
        }
        table
    }
}

/// Finds out about the unknown transactions, takes those that are there into the model, and checks all.
pub async fn settle_and_check(
    session: &Session,
    model: &mut Model,
    round: u64,
    findings: &mut Findings,
) -> Result<()> {
    let found = Tables::read(session).await?;
    for transaction in model.unknown() {
        findings.check(Finding::TornUnknown, !found.is_torn(transaction), || {
            format!("round {round}: {transaction}: only a part of it is there")
        });
    }
    model.settle(|transaction| found.shows(transaction));
    check(session, model, &found, findings).await?;
    model.end_round();
    Ok(())
}

/// Checks the tables as they are now against a settled model.
pub async fn check_again(session: &Session, model: &Model) -> Result<Findings> {
    let mut findings = Findings::default();
    let found = Tables::read(session).await?;
    check(session, model, &found, &mut findings).await?;
    Ok(findings)
}

async fn check(
    session: &Session,
    model: &Model,
    found: &Tables,
    findings: &mut Findings,
) -> Result<()> {
    for transaction in model.acknowledged() {
        // A later transaction of the same writer may have undone it: then its mark alone is looked for.
        let there = match &transaction.effect {
            Effect::InsertBatch { .. } => {
                !model.state().batches.contains_key(&transaction.id) || found.shows(transaction)
            }
            _ => found.shows(transaction),
        };
        findings.check(Finding::LostAcknowledged, there, || transaction.to_string());
    }
    for transaction in model.failed() {
        let undone = matches!(transaction.effect, Effect::DeleteBatch { .. })
            || !found.shows_any(transaction);
        findings.check(Finding::FailedPresent, undone, || transaction.to_string());
    }
    let expected = model.state();
    compare("marks", &expected.marks, &found.state.marks, findings);
    compare(
        "transfers",
        &expected.transfers,
        &found.state.transfers,
        findings,
    );
    compare("items", &expected.items, &found.state.items, findings);
    compare("batches", &expected.batches, &found.state.batches, findings);
    let made = |state: &State| {
        state
            .tables
            .iter()
            .map(|id| (*id, ()))
            .collect::<BTreeMap<_, _>>()
    };
    compare(
        "made tables",
        &made(expected),
        &made(&found.state),
        findings,
    );
    check_balances(found, findings);
    check_indexes(session, found, findings).await
}

fn compare<V: PartialEq + Debug>(
    table: &str,
    expected: &BTreeMap<i64, V>,
    found: &BTreeMap<i64, V>,
    findings: &mut Findings,
) {
    let keys: BTreeSet<&i64> = expected.keys().chain(found.keys()).collect();
    for key in keys {
        let (expected, found) = (expected.get(key), found.get(key));
        findings.check(Finding::StateDiffers, expected == found, || {
            format!("{table} {key}: expected {expected:?}, found {found:?}")
        });
    }
}

fn check_balances(found: &Tables, findings: &mut Findings) {
    let mut expected: BTreeMap<i32, i64> = (0..ACCOUNTS).map(|id| (id, OPENING_BALANCE)).collect();
    for (from, to, amount) in found.state.transfers.values() {
        *expected.entry(*from).or_default() -= amount;
        *expected.entry(*to).or_default() += amount;
    }
    findings.check(Finding::BalanceDiffers, expected == found.balances, || {
        let differing: Vec<_> = expected
            .iter()
            .filter(|(id, balance)| found.balances.get(id) != Some(balance))
            .map(|(id, balance)| format!("{id}: {balance} not {:?}", found.balances.get(id)))
            .collect();
        format!(
            "accounts differ from the sum of transfers: {}",
            differing.join(", ")
        )
    });
    let sum: i64 = found.balances.values().sum();
    let total = i64::from(ACCOUNTS) * OPENING_BALANCE;
    findings.check(Finding::BalanceDiffers, sum == total, || {
        format!("sum {sum}, not {total}")
    });
}

/// Makes the session's lookups go through indexes: PostgreSQL would scan small tables. A server that knows
/// no such setting chooses by itself.
pub async fn prefer_indexes(session: &Session) {
    let _ = session.batch_execute("SET enable_seqscan = off").await;
}

/// Asks through each secondary index and compares with what the scan of the table gave.
async fn check_indexes(session: &Session, found: &Tables, findings: &mut Findings) -> Result<()> {
    let mut agree = |name: String, by_table: BTreeSet<i64>, by_index: BTreeSet<i64>| {
        findings.check(Finding::IndexDisagrees, by_table == by_index, || {
            let only_table: Vec<_> = by_table.difference(&by_index).take(5).collect();
            let only_index: Vec<_> = by_index.difference(&by_table).take(5).collect();
            format!("{name}: only in the table {only_table:?}, only in the index {only_index:?}")
        });
    };
    let items = |wanted: &dyn Fn(&Item) -> bool| -> BTreeSet<i64> {
        found
            .state
            .items
            .iter()
            .filter(|(_, (item, _))| wanted(item))
            .map(|(id, _)| *id)
            .collect()
    };
    for bucket in 0..BUCKETS {
        let by_index = ids(
            session,
            &format!("SELECT id FROM items WHERE bucket = {bucket}"),
        )
        .await?;
        agree(
            format!("items_bucket = {bucket}"),
            items(&|item| item.bucket == bucket),
            by_index,
        );
    }
    let (low, high) = (BUCKETS / 4, BUCKETS / 2);
    let sql =
        format!("SELECT id FROM items WHERE bucket >= {low} AND bucket < {high} ORDER BY bucket");
    let by_index = ids(session, &sql).await?;
    agree(
        "items_bucket range".to_owned(),
        items(&|item| (low..high).contains(&item.bucket)),
        by_index,
    );
    let by_index = ids(
        session,
        "SELECT id FROM items WHERE code >= '4' AND code < 'a' ORDER BY code",
    )
    .await?;
    agree(
        "items_code range".to_owned(),
        items(&|item| ("4".."a").contains(&item.code.as_str())),
        by_index,
    );
    for (id, (item, _)) in found.state.items.iter().take(LOOKUPS) {
        let by_index = ids(
            session,
            &format!("SELECT id FROM items WHERE code = '{}'", item.code),
        )
        .await?;
        agree(
            format!("items_code = {}", item.code),
            BTreeSet::from([*id]),
            by_index,
        );
    }
    let writers: BTreeSet<i32> = found.state.marks.values().copied().collect();
    for writer in writers {
        let by_table = found
            .state
            .marks
            .iter()
            .filter(|(_, w)| **w == writer)
            .map(|(id, _)| *id)
            .collect();
        let by_index = ids(
            session,
            &format!("SELECT txn_id FROM marks WHERE writer = {writer}"),
        )
        .await?;
        agree(format!("marks_writer = {writer}"), by_table, by_index);
    }
    for branch in 0..10 {
        let by_table = (0..ACCOUNTS)
            .filter(|id| branch_of(*id) == branch)
            .map(i64::from)
            .collect();
        let sql = format!("SELECT id::bigint FROM accounts WHERE branch = {branch}");
        agree(
            format!("accounts_branch = {branch}"),
            by_table,
            ids(session, &sql).await?,
        );
    }
    Ok(())
}

async fn ids(session: &Session, sql: &str) -> Result<BTreeSet<i64>> {
    Ok(rows(session, sql)
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect())
}
