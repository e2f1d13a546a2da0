//! The clients: each runs transactions one after the other, notes what it was told, and checks what it
//! sees.

use crate::dice::Dice;
use crate::model::{
    ACCOUNTS, Effect, Fate, Model, OPENING_BALANCE, PAIRS, account_key, duty_key, marker_key,
    unique_key,
};
use bytes::Bytes;
use node::Store;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use txn::kv::{Isolation, LockMode, ReadScope, Span, WaitPolicy};
use txn::{Coordinator, FreshBuilder, LockedRow, Transaction};
use types::env::{Clock, Env};
use types::{Error, Result, SqlState};

/// What one client has.
pub(crate) struct Client {
    pub(crate) store: Arc<Store>,
    pub(crate) coordinator: Coordinator,
    pub(crate) model: Arc<Mutex<Model>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dice: Dice,
}

impl Client {
    pub(crate) async fn run(mut self) {
        loop {
            let result = match self.dice.below(20) {
                0..8 => self.transfer().await,
                8..11 => self.unique().await,
                11..14 => self.duty().await,
                14..16 => self.read_acknowledged().await,
                16..18 => self.read_balances().await,
                18 => self.collect_garbage().await,
                _ => {
                    self.pause(5_000_000).await;
                    Ok(())
                }
            };
            if let Err(error) = result {
                self.judge(&error);
                // A failed store answers at once, for ever; time must go on.
                self.pause(500_000).await;
            }
        }
    }

    async fn pause(&mut self, most_nanos: u64) {
        let nanos = self.dice.below(most_nanos);
        self.clock.sleep(Duration::from_nanos(nanos)).await;
    }

    /// Sometimes holds what it holds for a while, so that others have to wait.
    async fn dawdle(&mut self) {
        if self.dice.percent(40) {
            self.pause(400_000).await;
        }
    }

    /// Errors that may happen; all others are a bug.
    fn judge(&self, error: &Error) {
        const EXPECTED: [SqlState; 8] = [
            SqlState::SERIALIZATION_FAILURE,
            SqlState::DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::DISK_FULL,
            SqlState::IO_ERROR,
            SqlState::STATEMENT_COMPLETION_UNKNOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::UNIQUE_VIOLATION,
        ];
        let mut model = self.model.lock();
        *model
            .errors
            .entry(error.state.as_str().to_owned())
            .or_default() += 1;
        if !EXPECTED.contains(&error.state) {
            model.violate(format!("a client got an unexpected error: {error}"));
        }
    }

    async fn begin(&mut self) -> Result<Transaction> {
        let isolation = match self.dice.below(3) {
            0 => Isolation::ReadCommitted,
            1 => Isolation::RepeatableRead,
            _ => Isolation::Serializable,
        };
        let mut txn = self.coordinator.begin(isolation, false);
        txn.begin_statement(ReadScope::All).await?;
        Ok(txn)
    }

    fn policy(&mut self) -> WaitPolicy {
        match self.dice.below(4) {
            0 => WaitPolicy::NoWait,
            1 => WaitPolicy::Wait {
                deadline_nanos: Some(self.clock.monotonic_nanos() + self.dice.below(3_000_000)),
            },
            _ => WaitPolicy::Wait {
                deadline_nanos: None,
            },
        }
    }

    /// Locks a row and reads it. `None`: not there.
    async fn locked(&mut self, txn: &mut Transaction, key: &str) -> Result<Option<String>> {
        let mode = if self.dice.percent(50) {
            LockMode::NoKeyUpdate
        } else {
            LockMode::Update
        };
        let policy = self.policy();
        match txn.lock_and_get(key.as_bytes(), mode, policy).await? {
            LockedRow::Skipped => Err(Error::internal("nothing was to be skipped")),
            LockedRow::Unchanged(value) | LockedRow::Changed(value) => Ok(value.map(text)),
        }
    }

    /// Adds the marker, commits, and notes the answer.
    async fn commit(&mut self, mut txn: Transaction, effect: Effect) -> Result<()> {
        let encoded = effect.encode();
        let id = self.model.lock().attempt(effect);
        txn.put(marker_key(id), encoded)?;
        self.finish(txn, id).await
    }

    async fn finish(&mut self, mut txn: Transaction, id: u64) -> Result<()> {
        let answer = txn.commit().await;
        let readable = self.coordinator.read_timestamp(ReadScope::All).await;
        let mut model = self.model.lock();
        match &answer {
            Ok(committed) => {
                model.decide(id, Fate::Committed);
                model.note(3, committed.at.0);
                if readable.is_ok_and(|readable| readable < committed.at) {
                    model.violate(format!("{id} is acknowledged before it can be read"));
                }
            }
            Err(error) if error.state == SqlState::STATEMENT_COMPLETION_UNKNOWN => {
                model.decide(id, Fate::Open);
            }
            Err(_) => model.decide(id, Fate::Aborted),
        }
        answer.map(|_| ())
    }

    async fn transfer(&mut self) -> Result<()> {
        let from = self.dice.below(ACCOUNTS);
        let to = (from + 1 + self.dice.below(ACCOUNTS - 1)) % ACCOUNTS;
        let amount = self.dice.below(50) as i64;
        let mut txn = self.begin().await?;
        let left = self.locked(&mut txn, &account_key(from)).await?;
        if self.dice.percent(20) {
            // What is undone must leave no trace.
            let savepoint = txn.savepoint();
            txn.put(account_key(to), "0")?;
            txn.put(account_key(from), "0")?;
            txn.rollback_to(savepoint)?;
        }
        self.dawdle().await;
        let right = self.locked(&mut txn, &account_key(to)).await?;
        let (Some(left), Some(right)) = (number(left), number(right)) else {
            return Err(Error::internal("an account is missing"));
        };
        txn.put(account_key(from), (left - amount).to_string())?;
        txn.put(account_key(to), (right + amount).to_string())?;
        if self.dice.percent(10) {
            return Ok(());
        }
        self.commit(txn, Effect::Transfer { from, to, amount })
            .await
    }

    async fn unique(&mut self) -> Result<()> {
        let value = self.dice.below(400);
        let key = unique_key(value);
        let mut txn = self.begin().await?;
        if self.dice.percent(50)
            && let Some(id) = self.insert_batch(&mut txn, value).await?
        {
            self.dawdle().await;
            return self.finish(txn, id).await;
        }
        let taken = self.locked(&mut txn, &key).await?.is_some();
        self.dawdle().await;
        if taken {
            return Err(Error::new(SqlState::UNIQUE_VIOLATION, "duplicate key"));
        }
        let effect = Effect::Unique { value };
        let encoded = effect.encode();
        let id = self.model.lock().attempt(effect);
        txn.put(key, id.to_string())?;
        txn.put(marker_key(id), encoded)?;
        self.finish(txn, id).await
    }

    /// Takes the value as bulk loads do, with the marker in the same batch. `None`: somebody has it, or
    /// had it.
    async fn insert_batch(&mut self, txn: &mut Transaction, value: u64) -> Result<Option<u64>> {
        let effect = Effect::Unique { value };
        let encoded = effect.encode();
        let id = self.model.lock().attempt(effect);
        let mut rows = FreshBuilder::default();
        for (key, value) in [
            (unique_key(value), id.to_string()),
            (marker_key(id), encoded),
        ] {
            rows.bytes().extend_from_slice(key.as_bytes());
            rows.end_key();
            rows.bytes().extend_from_slice(value.as_bytes());
            rows.end_value();
        }
        let rows: Vec<_> = rows.finish().into_iter().collect();
        let locked = txn.lock_fresh(&rows, &[true]).await;
        if !matches!(locked, Ok(true)) {
            self.model.lock().decide(id, Fate::Aborted);
        }
        if !locked? {
            return Ok(None);
        }
        for rows in rows {
            txn.put_fresh(rows)?;
        }
        Ok(Some(id))
    }

    async fn duty(&mut self) -> Result<()> {
        let pair = self.dice.below(PAIRS);
        let side = self.dice.below(2);
        let on = self.dice.percent(50);
        let mut txn = self.coordinator.begin(Isolation::Serializable, false);
        txn.begin_statement(ReadScope::All).await?;
        let other_on = if self.dice.percent(50) {
            let other = txn.get(duty_key(pair, 1 - side).as_bytes()).await?;
            other.map(text).is_none_or(|on| on == "1")
        } else {
            let span = Span {
                start: format!("duty/{pair}/").into(),
                end: format!("duty/{pair}0").into(),
            };
            let page = txn.scan(span, self.dice.percent(50), 10, 1 << 20).await?;
            let other = duty_key(pair, 1 - side);
            let row = page
                .rows
                .into_iter()
                .find(|(key, _, _)| *key == other.as_bytes());
            row.is_none_or(|(_, on, _)| text(on) == "1")
        };
        self.dawdle().await;
        if !on && !other_on {
            return Ok(());
        }
        let key = duty_key(pair, side);
        self.locked(&mut txn, &key).await?;
        txn.put(key, i64::from(on).to_string())?;
        self.commit(txn, Effect::Duty { pair, side, on }).await
    }

    /// What was acknowledged before a transaction began, it sees.
    async fn read_acknowledged(&mut self) -> Result<()> {
        let choice = self.dice.next_u64();
        let Some(id) = self.model.lock().some_committed(choice) else {
            return Ok(());
        };
        let mut txn = self.begin().await?;
        let found = txn.get(marker_key(id).as_bytes()).await?;
        if found.is_none() {
            let mut model = self.model.lock();
            model.violate(format!(
                "a stale read: acknowledged transaction {id} is not seen"
            ));
        }
        Ok(())
    }

    /// One snapshot is of one moment, and stays so while others commit and history is collected.
    async fn read_balances(&mut self) -> Result<()> {
        let mut txn = self.coordinator.begin(Isolation::RepeatableRead, true);
        txn.begin_statement(ReadScope::All).await?;
        let first = self.balances(&mut txn).await?;
        self.pause(2_000_000).await;
        let second = self.balances(&mut txn).await?;
        let mut model = self.model.lock();
        let sum: i64 = first.iter().sum();
        if sum != ACCOUNTS as i64 * OPENING_BALANCE {
            model.violate(format!("a snapshot with a sum of {sum}: {first:?}"));
        }
        if first != second {
            model.violate(format!("a snapshot moved from {first:?} to {second:?}"));
        }
        model.note(4, sum as u64);
        Ok(())
    }

    async fn balances(&mut self, txn: &mut Transaction) -> Result<Vec<i64>> {
        let mut span = Span {
            start: "account/".into(),
            end: "account0".into(),
        };
        let reverse = self.dice.percent(50);
        let limit = 1 + self.dice.below(ACCOUNTS) as usize;
        let mut found = Vec::new();
        loop {
            let page = txn.scan(span.clone(), reverse, limit, 1 << 20).await?;
            for (_, value, _) in page.rows {
                found.extend(number(Some(text(value))));
            }
            match page.resume {
                Some(at) if reverse => span.end = at,
                Some(at) => span.start = at,
                None => break,
            }
            if self.dice.percent(20) {
                self.pause(100_000).await;
            }
        }
        if reverse {
            found.reverse();
        }
        Ok(found)
    }

    async fn collect_garbage(&mut self) -> Result<()> {
        if self.dice.percent(30) {
            self.store.collect_garbage().await?;
        }
        Ok(())
    }
}

/// Opens the accounts, in one transaction.
pub(crate) async fn open_accounts(coordinator: &Coordinator, env: &Env) -> Result<()> {
    loop {
        let mut txn = coordinator.begin(Isolation::ReadCommitted, false);
        txn.begin_statement(ReadScope::All).await?;
        if txn.get(account_key(0).as_bytes()).await?.is_some() {
            return Ok(());
        }
        for account in 0..ACCOUNTS {
            txn.put(account_key(account), OPENING_BALANCE.to_string())?;
        }
        match txn.commit().await {
            Ok(_) => return Ok(()),
            Err(error) if error.state == SqlState::DISK_FULL => {
                env.clock.sleep(Duration::from_millis(1)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn text(value: Bytes) -> String {
    String::from_utf8_lossy(&value).into_owned()
}

fn number(text: Option<String>) -> Option<i64> {
    text?.parse().ok()
}
