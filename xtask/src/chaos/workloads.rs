//! The workloads: what their clients do, and in which tables.
//!
//! | workload | operations | what must hold |
//! | --- | --- | --- |
//! | register | read, write and compare-and-set of single rows | linearizable |
//! | set | insert of a number never used before; read of all | nothing acknowledged is missing, nothing failed is there |
//! | bank | transfers between accounts; read of all | the sum never changes, no account is below 0 |
//! | counter | add one and return; read | every value is returned once, and grows in real time |

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rand::Rng;
use rand::rngs::SmallRng;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, IsolationLevel, Row};

use super::client::Workload;
use crate::peer::Session;

/// Accounts of the bank, and what is on each of them at first.
pub const ACCOUNTS: i64 = 10;
pub const OPENING_BALANCE: i64 = 100;
/// The most that one transfer moves.
const LARGEST_TRANSFER: i64 = 20;
/// Registers that are in use at the same time.
const REGISTERS: i64 = 4;
/// After so many operations a register is left for a fresh one: the cost of checking grows with each.
const OPERATIONS_PER_REGISTER: i64 = 150;
/// How often a client of the set reads all instead of inserting: whole reads are long.
const SET_READ_PROBABILITY: f64 = 0.02;

/// The statements that make the tables.
pub fn tables() -> String {
    format!(
        "CREATE TABLE chaos_register (key bigint PRIMARY KEY, value bigint NOT NULL);\
         CREATE TABLE chaos_set (id bigint PRIMARY KEY);\
         CREATE TABLE chaos_bank (account bigint PRIMARY KEY, balance bigint NOT NULL);\
         CREATE TABLE chaos_counter (id bigint PRIMARY KEY, value bigint NOT NULL);\
         INSERT INTO chaos_counter VALUES (1, 0);\
         INSERT INTO chaos_bank SELECT i, {OPENING_BALANCE} FROM generate_series(0, {}) AS i;",
        ACCOUNTS - 1
    )
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Register {
    /// Nothing seen: no row.
    Read {
        key: i64,
        seen: Option<i64>,
    },
    Write {
        key: i64,
        value: i64,
    },
    /// Done, or not because another value was there; nothing: unknown.
    CompareAndSet {
        key: i64,
        from: i64,
        to: i64,
        done: Option<bool>,
    },
}

impl Register {
    pub fn key(&self) -> i64 {
        match self {
            Register::Read { key, .. }
            | Register::Write { key, .. }
            | Register::CompareAndSet { key, .. } => *key,
        }
    }
}

/// Clients of the registers. Written values are never used twice.
#[derive(Clone, Default)]
pub struct Registers {
    operations: Arc<AtomicI64>,
    values: Arc<AtomicI64>,
}

impl Workload for Registers {
    type Operation = Register;

    fn draw(&mut self, rng: &mut SmallRng) -> Register {
        let number = self.operations.fetch_add(1, Ordering::Relaxed);
        let key = number / (REGISTERS * OPERATIONS_PER_REGISTER) * REGISTERS + number % REGISTERS;
        let newest = self.values.load(Ordering::Relaxed);
        match rng.random_range(0..3) {
            0 => Register::Read { key, seen: None },
            1 => Register::Write {
                key,
                value: self.values.fetch_add(1, Ordering::Relaxed) + 1,
            },
            // One of the last values of any register: some of these hit.
            _ => Register::CompareAndSet {
                key,
                from: (newest - rng.random_range(0..2 * REGISTERS)).max(1),
                to: self.values.fetch_add(1, Ordering::Relaxed) + 1,
                done: None,
            },
        }
    }

    async fn perform(session: &mut Session, operation: &mut Register) -> Result<bool, Error> {
        let int = Type::INT8;
        match operation {
            Register::Read { key, seen } => {
                let sql = "SELECT value FROM chaos_register WHERE key = $1";
                let rows = session.query_typed(sql, &[(key, int)]).await?;
                *seen = rows.first().map(|row| row.get(0));
                Ok(true)
            }
            Register::Write { key, value } => {
                let sql = "INSERT INTO chaos_register VALUES ($1, $2) \
                    ON CONFLICT (key) DO UPDATE SET value = excluded.value";
                session
                    .query_typed(sql, &[(key, int.clone()), (value, int)])
                    .await?;
                Ok(true)
            }
            Register::CompareAndSet {
                key,
                from,
                to,
                done,
            } => {
                let sql = "UPDATE chaos_register SET value = $3 WHERE key = $1 AND value = $2 RETURNING value";
                let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
                    [(key, int.clone()), (from, int.clone()), (to, int)];
                *done = Some(!session.query_typed(sql, &parameters).await?.is_empty());
                Ok(true)
            }
        }
    }

    fn writes(operation: &Register) -> bool {
        match operation {
            Register::Read { .. } => false,
            Register::Write { .. } => true,
            Register::CompareAndSet { done, .. } => *done == Some(true),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    Insert(i64),
    Read(Vec<i64>),
}

/// Clients of the set.
#[derive(Clone, Default)]
pub struct Inserts {
    ids: Arc<AtomicI64>,
}

impl Workload for Inserts {
    type Operation = Set;

    fn draw(&mut self, rng: &mut SmallRng) -> Set {
        match rng.random_bool(SET_READ_PROBABILITY) {
            true => Set::Read(Vec::new()),
            false => Set::Insert(self.ids.fetch_add(1, Ordering::Relaxed)),
        }
    }

    async fn perform(session: &mut Session, operation: &mut Set) -> Result<bool, Error> {
        match operation {
            Set::Insert(id) => {
                let sql = "INSERT INTO chaos_set VALUES ($1)";
                session.query_typed(sql, &[(id, Type::INT8)]).await?;
            }
            Set::Read(ids) => {
                let rows = session.query_typed("SELECT id FROM chaos_set", &[]).await?;
                *ids = rows.iter().map(|row| row.get(0)).collect();
            }
        }
        Ok(true)
    }

    fn writes(operation: &Set) -> bool {
        matches!(operation, Set::Insert(_))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bank {
    Transfer {
        from: i64,
        to: i64,
        amount: i64,
    },
    /// Account and balance.
    Read(Vec<(i64, i64)>),
}

/// Clients of the bank.
#[derive(Clone, Default)]
pub struct Transfers;

impl Workload for Transfers {
    type Operation = Bank;

    fn draw(&mut self, rng: &mut SmallRng) -> Bank {
        if rng.random_bool(0.4) {
            return Bank::Read(Vec::new());
        }
        let from = rng.random_range(0..ACCOUNTS);
        Bank::Transfer {
            from,
            to: (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS,
            amount: rng.random_range(1..=LARGEST_TRANSFER),
        }
    }

    /// A transfer that would overdraw is rolled back: it failed.
    async fn perform(session: &mut Session, operation: &mut Bank) -> Result<bool, Error> {
        match operation {
            Bank::Read(balances) => {
                let sql = "SELECT account, balance FROM chaos_bank";
                let rows = session.query_typed(sql, &[]).await?;
                *balances = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
                Ok(true)
            }
            Bank::Transfer { from, to, amount } => {
                let int = Type::INT8;
                let transaction = session
                    .build_transaction()
                    .isolation_level(IsolationLevel::ReadCommitted)
                    .start()
                    .await?;
                let take = "UPDATE chaos_bank SET balance = balance - $2 \
                    WHERE account = $1 AND balance >= $2 RETURNING balance";
                let taken = transaction
                    .query_typed(take, &[(from, int.clone()), (amount, int.clone())])
                    .await?;
                if taken.is_empty() {
                    transaction.rollback().await?;
                    return Ok(false);
                }
                let give = "UPDATE chaos_bank SET balance = balance + $2 WHERE account = $1";
                transaction
                    .query_typed(give, &[(to, int.clone()), (amount, int)])
                    .await?;
                transaction.commit().await?;
                Ok(true)
            }
        }
    }

    fn writes(operation: &Bank) -> bool {
        matches!(operation, Bank::Transfer { .. })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counter {
    /// The value after the addition.
    Add {
        seen: i64,
    },
    Read {
        seen: i64,
    },
}

/// Clients of the counter.
#[derive(Clone, Default)]
pub struct Additions;

impl Workload for Additions {
    type Operation = Counter;

    fn draw(&mut self, rng: &mut SmallRng) -> Counter {
        match rng.random_bool(0.3) {
            true => Counter::Read { seen: 0 },
            false => Counter::Add { seen: 0 },
        }
    }

    async fn perform(session: &mut Session, operation: &mut Counter) -> Result<bool, Error> {
        let (sql, seen) = match operation {
            Counter::Add { seen } => (
                "UPDATE chaos_counter SET value = value + 1 WHERE id = 1 RETURNING value",
                seen,
            ),
            Counter::Read { seen } => ("SELECT value FROM chaos_counter WHERE id = 1", seen),
        };
        let rows: Vec<Row> = session.query_typed(sql, &[]).await?;
        // A missing row shows as a value that was never reached.
        *seen = rows.first().map_or(-1, |row| row.get(0));
        Ok(true)
    }

    fn writes(operation: &Counter) -> bool {
        matches!(operation, Counter::Add { .. })
    }
}
