//! What the tables must hold, computed from the writers' logs alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What one transaction does, besides writing its mark.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Moves money and writes a row that says so.
    Transfer {
        from: i32,
        to: i32,
        amount: i64,
    },
    PutItem {
        id: i64,
        item: Item,
    },
    DeleteItem {
        id: i64,
    },
    /// One statement, several rows, no mark: its rows themselves say whether it is whole.
    InsertBatch {
        rows: i32,
    },
    /// One statement that deletes all rows of a batch, no mark.
    DeleteBatch {
        of: i64,
    },
    /// Makes a table with one row in it.
    CreateTable,
    DropTable {
        of: i64,
    },
}

impl Effect {
    /// Whether the transaction writes its id into `marks` too.
    pub fn is_marked(&self) -> bool {
        !matches!(
            self,
            Effect::InsertBatch { .. } | Effect::DeleteBatch { .. }
        )
    }
}

/// A row of `items`, without its key. The code is unique and derived from the transaction that wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub bucket: i32,
    pub code: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Acknowledged,
    /// Surely not done. `expected` tells conflicts from errors that the workload does not provoke.
    Failed {
        sqlstate: String,
        expected: bool,
        message: String,
    },
    Unknown,
}

/// A line of a writer's log.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub id: i64,
    pub writer: u32,
    pub effect: Effect,
    pub outcome: Outcome,
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "transaction {} of writer {}: {:?}: ",
            self.id, self.writer, self.effect
        )?;
        match &self.outcome {
            Outcome::Acknowledged => write!(f, "acknowledged"),
            Outcome::Unknown => write!(f, "unknown"),
            Outcome::Failed {
                sqlstate, message, ..
            } => write!(f, "failed with {sqlstate} {message}"),
        }
    }
}

/// Everything that the tables must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Transaction → its writer.
    pub marks: BTreeMap<i64, i32>,
    pub transfers: BTreeMap<i64, (i32, i32, i64)>,
    pub items: BTreeMap<i64, (Item, i64)>,
    /// Transaction → number of its rows.
    pub batches: BTreeMap<i64, i32>,
    pub tables: BTreeSet<i64>,
}

impl State {
    fn apply(&mut self, transaction: &Transaction) {
        let id = transaction.id;
        if transaction.effect.is_marked() {
            self.marks.insert(id, transaction.writer as i32);
        }
        match &transaction.effect {
            Effect::Transfer { from, to, amount } => {
                self.transfers.insert(id, (*from, *to, *amount));
            }
            Effect::PutItem { id: item_id, item } => {
                self.items.insert(*item_id, (item.clone(), id));
            }
            Effect::DeleteItem { id } => {
                self.items.remove(id);
            }
            Effect::InsertBatch { rows } => {
                self.batches.insert(id, *rows);
            }
            Effect::DeleteBatch { of } => {
                self.batches.remove(of);
            }
            Effect::CreateTable => {
                self.tables.insert(id);
            }
            Effect::DropTable { of } => {
                self.tables.remove(of);
            }
        }
    }
}

/// The rows that one writer owns, for choosing what to change next.
#[derive(Clone, Debug, Default)]
pub struct Owned {
    pub items: Vec<i64>,
    pub batches: Vec<i64>,
    pub tables: Vec<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub acknowledged: u64,
    pub failed: u64,
    pub unknown_present: u64,
    pub unknown_absent: u64,
}

/// The state after all settled transactions, and those of the last round that are still unknown.
#[derive(Clone, Debug, Default)]
pub struct Model {
    state: State,
    /// Which writer's rows: kept beside the state because the ids do not say it.
    owners: BTreeMap<i64, u32>,
    unknown: Vec<Transaction>,
    failed: Vec<Transaction>,
    last_acknowledged: Vec<Transaction>,
    counts: Counts,
}

impl Model {
    /// Takes one line of a log. A writer's lines come in the order in which it did them.
    pub fn log(&mut self, transaction: Transaction) {
        self.owners.insert(transaction.id, transaction.writer);
        if let Effect::PutItem { id, .. } = transaction.effect {
            self.owners.insert(id, transaction.writer);
        }
        match transaction.outcome {
            Outcome::Acknowledged => {
                self.counts.acknowledged += 1;
                self.state.apply(&transaction);
                self.last_acknowledged.push(transaction);
            }
            Outcome::Failed { .. } => {
                self.counts.failed += 1;
                self.failed.push(transaction);
            }
            Outcome::Unknown => self.unknown.push(transaction),
        }
    }

    /// Transactions whose outcome the next check has to find out.
    pub fn unknown(&self) -> &[Transaction] {
        &self.unknown
    }

    /// Transactions of the last round that were surely not done.
    pub fn failed(&self) -> &[Transaction] {
        &self.failed
    }

    /// Transactions of the last round that were acknowledged.
    pub fn acknowledged(&self) -> &[Transaction] {
        &self.last_acknowledged
    }

    /// Settles the unknown ones by what was found, and ends the round. A writer stops at its first unknown
    /// transaction, so none of its own came later, and other writers touch other rows.
    pub fn settle(&mut self, present: impl Fn(&Transaction) -> bool) {
        for transaction in std::mem::take(&mut self.unknown) {
            if present(&transaction) {
                self.counts.unknown_present += 1;
                self.state.apply(&transaction);
            } else {
                self.counts.unknown_absent += 1;
            }
        }
    }

    /// Forgets the lists of the round that has been checked.
    pub fn end_round(&mut self) {
        self.failed.clear();
        self.last_acknowledged.clear();
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn of_writer(&self, writer: u32) -> Owned {
        let mine = |id: &&i64| self.owners.get(*id) == Some(&writer);
        Owned {
            items: self.state.items.keys().filter(mine).copied().collect(),
            batches: self.state.batches.keys().filter(mine).copied().collect(),
            tables: self.state.tables.iter().filter(mine).copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(id: i64, outcome: Outcome) -> Transaction {
        Transaction {
            id,
            writer: 1,
            effect: Effect::InsertBatch { rows: 3 },
            outcome,
        }
    }

    #[test]
    fn an_unknown_transaction_enters_the_model_only_if_it_was_found() {
        let mut model = Model::default();
        model.log(batch(1, Outcome::Unknown));
        model.log(batch(2, Outcome::Unknown));
        model.log(batch(3, Outcome::Acknowledged));
        model.settle(|transaction| transaction.id == 1);
        assert_eq!(
            model.state().batches.keys().copied().collect::<Vec<_>>(),
            [1, 3]
        );
        assert_eq!(
            (
                model.counts().unknown_present,
                model.counts().unknown_absent
            ),
            (1, 1)
        );
    }
}
