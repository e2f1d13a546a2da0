//! Transactions as a session on a gateway runs them.

use super::history::{ACCOUNTS, OPENING_BALANCE};
use crate::dice::Dice;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use txn::kv::{Isolation, LockMode, Point, ReadScope, Span, WaitPolicy};
use txn::{Coordinator, LockedRow, Transaction};
use types::env::Clock;
use types::{Error, Result};

const COUNTER: &str = "counter";
/// Locked by some who change rows, as a table is.
const TABLE: &[u8] = b"table";

/// See the module.
pub(super) struct Session {
    pub(super) coordinator: Coordinator,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) dice: Dice,
}

/// What a compare-and-set found and did.
pub(super) struct Compared {
    pub(super) done: bool,
}

impl Session {
    async fn begin(&mut self, read_only: bool) -> Result<Transaction> {
        let isolation = self.isolation();
        self.begin_at(isolation, read_only).await
    }

    fn isolation(&mut self) -> Isolation {
        match self.dice.below(3) {
            0 => Isolation::ReadCommitted,
            1 => Isolation::RepeatableRead,
            _ => Isolation::Serializable,
        }
    }

    async fn begin_at(&mut self, isolation: Isolation, read_only: bool) -> Result<Transaction> {
        let mut txn = self.coordinator.begin(isolation, read_only);
        txn.begin_statement(ReadScope::All).await?;
        Ok(txn)
    }

    /// Sometimes holds what it holds for a while, so that others have to wait.
    async fn dawdle(&mut self) {
        if self.dice.percent(20) {
            let nanos = self.dice.below(20_000_000);
            self.clock.sleep(Duration::from_nanos(nanos)).await;
        }
    }

    async fn locked(&mut self, txn: &mut Transaction, key: &str) -> Result<Option<u64>> {
        let policy = match self.dice.below(4) {
            0 => WaitPolicy::NoWait,
            _ => WaitPolicy::Wait {
                deadline_nanos: Some(self.clock.monotonic_nanos() + 2_000_000_000),
            },
        };
        let mode = match self.dice.percent(50) {
            true => LockMode::NoKeyUpdate,
            false => LockMode::Update,
        };
        if self.dice.percent(50) {
            self.open(txn, &[TABLE], key, Some(mode), policy).await?;
        }
        match txn.lock_and_get(key.as_bytes(), mode, policy).await? {
            LockedRow::Skipped => Err(Error::internal("nothing was to be skipped")),
            LockedRow::Unchanged(value) | LockedRow::Changed(value) => number(value),
        }
    }

    /// Begins a statement that says which row it is about.
    async fn open(
        &mut self,
        txn: &mut Transaction,
        tables: &[&[u8]],
        key: &str,
        lock: Option<LockMode>,
        policy: WaitPolicy,
    ) -> Result<()> {
        let span = Span {
            start: Bytes::copy_from_slice(key.as_bytes()),
            end: format!("{key}\0").into(),
        };
        let key = key.as_bytes();
        let point = Some(Point { key, lock });
        let scope = ReadScope::Spans(&[span]);
        txn.begin_with(tables, policy, scope, point).await?;
        Ok(())
    }

    pub(super) async fn read_register(&mut self, key: u64) -> Result<Option<u64>> {
        let read_only = self.dice.percent(50);
        let isolation = self.isolation();
        let mut txn = self.coordinator.begin(isolation, read_only);
        let key = register_key(key);
        // Of all shards, of one row's, or one after the other.
        let manner = self.dice.below(4);
        if manner < 2 {
            txn.begin_statement(ReadScope::All).await?;
        }
        if manner > 0 {
            let policy = WaitPolicy::NoWait;
            self.open(&mut txn, &[], &key, None, policy).await?;
        }
        let value = number(txn.get(key.as_bytes()).await?)?;
        // Some reads are made sure by a commit, as SERIALIZABLE wants it.
        if !read_only {
            txn.commit().await?;
        }
        Ok(value)
    }

    pub(super) async fn write_register(&mut self, key: u64, value: u64) -> Result<()> {
        let key = register_key(key);
        let mut txn = self.begin(false).await?;
        self.locked(&mut txn, &key).await?;
        self.dawdle().await;
        txn.put(key, value.to_string())?;
        txn.commit().await?;
        Ok(())
    }

    pub(super) async fn compare_and_set(
        &mut self,
        key: u64,
        from: Option<u64>,
        to: u64,
    ) -> Result<Compared> {
        let key = register_key(key);
        let mut txn = self.begin(false).await?;
        let value = self.locked(&mut txn, &key).await?;
        self.dawdle().await;
        let done = value == from;
        if done {
            txn.put(key, to.to_string())?;
        }
        txn.commit().await?;
        Ok(Compared { done })
    }

    pub(super) async fn insert(&mut self, member: u64) -> Result<()> {
        let key = member_key(member);
        let mut txn = self.begin(false).await?;
        if self.dice.percent(50) {
            self.locked(&mut txn, &key).await?;
        }
        txn.put(key, member.to_string())?;
        txn.commit().await?;
        Ok(())
    }

    pub(super) async fn remove(&mut self, member: u64) -> Result<()> {
        let key = member_key(member);
        let mut txn = self.begin(false).await?;
        self.locked(&mut txn, &key).await?;
        txn.delete(key)?;
        txn.commit().await?;
        Ok(())
    }

    pub(super) async fn members(&mut self) -> Result<BTreeSet<u64>> {
        let mut txn = self.begin(true).await?;
        let rows = self.scan(&mut txn, "member/", "member0").await?;
        Ok(rows.into_iter().map(|(_, value)| value as u64).collect())
    }

    /// Opens the accounts, unless that is done.
    pub(super) async fn open_accounts(&mut self) -> Result<()> {
        let mut txn = self.begin_at(Isolation::Serializable, false).await?;
        if txn.get(account_key(0).as_bytes()).await?.is_some() {
            return Ok(());
        }
        for account in 0..ACCOUNTS {
            txn.put(account_key(account), OPENING_BALANCE.to_string())?;
        }
        txn.commit().await?;
        Ok(())
    }

    pub(super) async fn transfer(&mut self, from: u64, to: u64, amount: i64) -> Result<()> {
        let mut txn = self.begin(false).await?;
        let mut balances = [0; 2];
        for (balance, account) in balances.iter_mut().zip([from, to]) {
            let found = self.locked(&mut txn, &account_key(account)).await?;
            let found = found.ok_or_else(|| Error::internal("an account is missing"))?;
            *balance = found as i64;
            self.dawdle().await;
        }
        txn.put(account_key(from), (balances[0] - amount).to_string())?;
        txn.put(account_key(to), (balances[1] + amount).to_string())?;
        txn.commit().await?;
        Ok(())
    }

    pub(super) async fn balances(&mut self) -> Result<BTreeMap<u64, i64>> {
        let mut txn = self.begin_at(Isolation::RepeatableRead, true).await?;
        let rows = self.scan(&mut txn, "account/", "account0").await?;
        let number = |key: &[u8]| {
            let text = String::from_utf8_lossy(key);
            text.trim_start_matches("account/")
                .parse()
                .unwrap_or(u64::MAX)
        };
        Ok(rows
            .into_iter()
            .map(|(key, balance)| (number(&key), balance))
            .collect())
    }

    /// Returns the value after it.
    pub(super) async fn increment(&mut self) -> Result<u64> {
        let mut txn = self.begin(false).await?;
        let value = self.locked(&mut txn, COUNTER).await?.unwrap_or(0) + 1;
        self.dawdle().await;
        txn.put(COUNTER, value.to_string())?;
        txn.commit().await?;
        Ok(value)
    }

    pub(super) async fn read_counter(&mut self) -> Result<u64> {
        let mut txn = self.begin(true).await?;
        let value = number(txn.get(COUNTER.as_bytes()).await?)?;
        Ok(value.unwrap_or(0))
    }

    /// All rows of a span, page by page, of one snapshot.
    async fn scan(
        &mut self,
        txn: &mut Transaction,
        start: &'static str,
        end: &'static str,
    ) -> Result<Vec<(Bytes, i64)>> {
        let mut span = Span {
            start: start.into(),
            end: end.into(),
        };
        let limit = 1 + self.dice.below(30) as usize;
        let mut rows = Vec::new();
        loop {
            let page = txn.scan(span.clone(), false, limit, 1 << 20).await?;
            for (key, value, _) in page.rows {
                let number = signed(&value)?;
                rows.push((key, number));
            }
            match page.resume {
                Some(at) => span.start = at,
                None => return Ok(rows),
            }
            self.dawdle().await;
        }
    }
}

fn register_key(key: u64) -> String {
    format!("register/{key}")
}

fn member_key(member: u64) -> String {
    format!("member/{member:08}")
}

fn account_key(account: u64) -> String {
    format!("account/{account}")
}

/// Values may be negative: balances go through here as their bits.
fn number(value: Option<Bytes>) -> Result<Option<u64>> {
    value
        .map(|value| signed(&value).map(|n| n as u64))
        .transpose()
}

fn signed(value: &[u8]) -> Result<i64> {
    let text = String::from_utf8_lossy(value);
    text.parse()
        .map_err(|_| Error::internal(format!("a value that nobody wrote: {text:?}")))
}
