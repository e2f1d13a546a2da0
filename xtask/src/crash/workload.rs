//! The tables, and what a writer does next.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Result, anyhow};
use rand::Rng;
use rand::rngs::SmallRng;

use super::model::{Effect, Item, Owned};
use crate::peer::{Session, describe};

pub const ACCOUNTS: i32 = 100;
pub const OPENING_BALANCE: i64 = 1000;
/// Values of the indexed column of `items`: few, so that each index entry list is long.
pub const BUCKETS: i32 = 16;
/// A writer deletes rather than inserts beyond these, so that the tables stay small enough to read whole.
const ITEMS_PER_WRITER: usize = 300;
const BATCHES_PER_WRITER: usize = 100;
const TABLES_PER_WRITER: usize = 3;
const BATCH_ROWS: std::ops::RangeInclusive<i32> = 2..=20;

/// Makes the tables and opens the accounts.
pub async fn create_tables(session: &Session) -> Result<()> {
    let tables = [
        "CREATE TABLE accounts (id int PRIMARY KEY, branch int NOT NULL, balance bigint NOT NULL)",
        "CREATE INDEX accounts_branch ON accounts (branch)",
        "CREATE TABLE transfers (txn_id bigint PRIMARY KEY, source int NOT NULL, target int NOT NULL, amount bigint NOT NULL)",
        "CREATE TABLE marks (txn_id bigint PRIMARY KEY, writer int NOT NULL)",
        "CREATE INDEX marks_writer ON marks (writer)",
        "CREATE TABLE items (id bigint PRIMARY KEY, code text NOT NULL UNIQUE, bucket int NOT NULL, txn_id bigint NOT NULL)",
        "CREATE INDEX items_bucket ON items (bucket)",
        "CREATE TABLE batches (txn_id bigint, seq int, filler text NOT NULL, PRIMARY KEY (txn_id, seq))",
    ];
    for sql in tables {
        run(session, sql).await?;
    }
    let rows: Vec<String> = (0..ACCOUNTS)
        .map(|id| format!("({id}, {}, {OPENING_BALANCE})", branch_of(id)))
        .collect();
    run(
        session,
        &format!("INSERT INTO accounts VALUES {}", rows.join(", ")),
    )
    .await
}

pub fn branch_of(account: i32) -> i32 {
    account % 10
}

async fn run(session: &Session, sql: &str) -> Result<()> {
    session
        .batch_execute(sql)
        .await
        .map_err(|error| anyhow!("{}: {sql}", describe(&error)))
}

/// Ids that no two transactions share.
#[derive(Clone, Default)]
pub struct Ids(Arc<AtomicI64>);

impl Ids {
    pub fn next(&self) -> i64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// How a transaction is spoken to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// BEGIN, statements and COMMIT one by one.
    StepByStep { serializable: bool },
    /// One message that holds BEGIN … COMMIT.
    OneMessage,
    /// One statement without BEGIN.
    Alone,
}

/// What is planned, before it has an outcome.
#[derive(Clone, Debug)]
pub struct Plan {
    pub id: i64,
    pub effect: Effect,
    pub manner: Manner,
    pub statements: Vec<String>,
    /// The transaction is made to fail: by a duplicate key or by ROLLBACK.
    pub doomed: Option<Doom>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    DuplicateKey,
    Rollback,
}

/// One writer's choices.
pub struct Load {
    pub writer: u32,
    rng: SmallRng,
    ids: Ids,
    owned: Owned,
}

impl Load {
    pub fn new(writer: u32, rng: SmallRng, ids: Ids, owned: Owned) -> Load {
        Load {
            writer,
            rng,
            ids,
            owned,
        }
    }

    pub fn next(&mut self) -> Plan {
        let id = self.ids.next();
        let effect = self.choose(id);
        let manner = match &effect {
            effect if !effect.is_marked() => Manner::Alone,
            _ => match self.rng.random_range(0..10) {
                0..=2 => Manner::OneMessage,
                3..=4 => Manner::StepByStep { serializable: true },
                _ => Manner::StepByStep {
                    serializable: false,
                },
            },
        };
        let mut statements = self.statements(id, &effect, manner);
        let doomed = match (&manner, self.rng.random_range(0..25)) {
            (Manner::StepByStep { .. }, 0) => Some(Doom::Rollback),
            (Manner::StepByStep { .. }, 1) => {
                // Account 0 exists always, so its key cannot be inserted again.
                statements.push("INSERT INTO accounts VALUES (0, 0, 0)".to_owned());
                Some(Doom::DuplicateKey)
            }
            _ => None,
        };
        Plan {
            id,
            effect,
            manner,
            statements,
            doomed,
        }
    }

    /// Follows an acknowledged transaction, so that the next choice fits the data.
    pub fn acknowledged(&mut self, plan: &Plan) {
        let forget = |list: &mut Vec<i64>, gone: i64| list.retain(|id| *id != gone);
        match &plan.effect {
            Effect::Transfer { .. } => {}
            Effect::PutItem { id, .. } => {
                if !self.owned.items.contains(id) {
                    self.owned.items.push(*id);
                }
            }
            Effect::DeleteItem { id } => forget(&mut self.owned.items, *id),
            Effect::InsertBatch { .. } => self.owned.batches.push(plan.id),
            Effect::DeleteBatch { of } => forget(&mut self.owned.batches, *of),
            Effect::CreateTable => self.owned.tables.push(plan.id),
            Effect::DropTable { of } => forget(&mut self.owned.tables, *of),
        }
    }

    fn choose(&mut self, id: i64) -> Effect {
        match self.rng.random_range(0..100) {
            0..=39 => {
                let from = self.rng.random_range(0..ACCOUNTS);
                let to = (from + self.rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
                Effect::Transfer {
                    from,
                    to,
                    amount: self.rng.random_range(1..=10),
                }
            }
            40..=59 if self.owned.items.len() < ITEMS_PER_WRITER => Effect::PutItem {
                id,
                item: self.item(id),
            },
            40..=67 if !self.owned.items.is_empty() => {
                let changed = Self::pick(&mut self.rng, &self.owned.items);
                Effect::PutItem {
                    id: changed,
                    item: self.item(id),
                }
            }
            68..=77 if !self.owned.items.is_empty() => Effect::DeleteItem {
                id: Self::pick(&mut self.rng, &self.owned.items),
            },
            78..=90 if self.owned.batches.len() < BATCHES_PER_WRITER => Effect::InsertBatch {
                rows: self.rng.random_range(BATCH_ROWS),
            },
            78..=97 if !self.owned.batches.is_empty() => Effect::DeleteBatch {
                of: Self::pick(&mut self.rng, &self.owned.batches),
            },
            98 if self.owned.tables.len() < TABLES_PER_WRITER => Effect::CreateTable,
            99 if !self.owned.tables.is_empty() => Effect::DropTable {
                of: Self::pick(&mut self.rng, &self.owned.tables),
            },
            _ => Effect::InsertBatch {
                rows: self.rng.random_range(BATCH_ROWS),
            },
        }
    }

    fn item(&mut self, txn_id: i64) -> Item {
        // The leading letters spread the codes, so that neighbours in time are not neighbours in the index.
        let spread = self.rng.random_range(0..4096);
        Item {
            bucket: self.rng.random_range(0..BUCKETS),
            code: format!("{spread:03x}-{txn_id}"),
        }
    }

    fn pick(rng: &mut SmallRng, list: &[i64]) -> i64 {
        list[rng.random_range(0..list.len())]
    }

    fn statements(&mut self, id: i64, effect: &Effect, manner: Manner) -> Vec<String> {
        let mark = format!("INSERT INTO marks VALUES ({id}, {})", self.writer);
        match effect {
            Effect::Transfer { from, to, amount } => {
                // The smaller account first, mostly: the other order provokes deadlocks now and then.
                let mut moves = [(*from, -amount), (*to, *amount)];
                if self.rng.random_bool(0.95) {
                    moves.sort();
                }
                let mut statements: Vec<String> = moves
                    .iter()
                    .map(|(account, change)| {
                        format!("UPDATE accounts SET balance = balance + ({change}) WHERE id = {account}")
                    })
                    .collect();
                if manner != Manner::OneMessage && self.rng.random_bool(0.3) {
                    statements.insert(
                        0,
                        format!(
                            "SELECT balance FROM accounts WHERE id = {} FOR UPDATE",
                            moves[0].0
                        ),
                    );
                }
                statements.push(format!(
                    "INSERT INTO transfers VALUES ({id}, {from}, {to}, {amount})"
                ));
                statements.push(mark);
                statements
            }
            Effect::PutItem {
                id: item_id,
                item: Item { bucket, code },
            } => {
                let put = if *item_id == id {
                    format!("INSERT INTO items VALUES ({id}, '{code}', {bucket}, {id})")
                } else {
                    format!(
                        "UPDATE items SET code = '{code}', bucket = {bucket}, txn_id = {id} WHERE id = {item_id}"
                    )
                };
                vec![put, mark]
            }
            Effect::DeleteItem { id: item_id } => {
                vec![mark, format!("DELETE FROM items WHERE id = {item_id}")]
            }
            Effect::InsertBatch { rows } => {
                let values: Vec<String> = (0..*rows)
                    .map(|seq| format!("({id}, {seq}, 'filler of {id}')"))
                    .collect();
                vec![format!("INSERT INTO batches VALUES {}", values.join(", "))]
            }
            Effect::DeleteBatch { of } => vec![format!("DELETE FROM batches WHERE txn_id = {of}")],
            Effect::CreateTable => vec![
                mark,
                format!("CREATE TABLE made_{id} (id bigint PRIMARY KEY, note text)"),
                format!("INSERT INTO made_{id} VALUES ({id}, 'one row')"),
            ],
            Effect::DropTable { of } => vec![format!("DROP TABLE made_{of}"), mark],
        }
    }
}
