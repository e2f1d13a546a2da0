//! The tables as the server gives them after a restart.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow};

use super::model::{Effect, Item, State, Transaction};
use crate::peer::{Session, describe, sqlstate};

/// All tables as the server gives them by a scan of the primary key.
pub struct Tables {
    pub state: State,
    pub balances: BTreeMap<i32, i64>,
}

impl Tables {
    pub async fn read(session: &Session) -> Result<Tables> {
        let mut state = State::default();
        for row in rows(session, "SELECT txn_id, writer FROM marks ORDER BY txn_id").await? {
            state.marks.insert(row.get(0), row.get(1));
        }
        for row in rows(
            session,
            "SELECT txn_id, source, target, amount FROM transfers ORDER BY txn_id",
        )
        .await?
        {
            state
                .transfers
                .insert(row.get(0), (row.get(1), row.get(2), row.get(3)));
        }
        for row in rows(
            session,
            "SELECT id, code, bucket, txn_id FROM items ORDER BY id",
        )
        .await?
        {
            let item = Item {
                code: row.get(1),
                bucket: row.get(2),
            };
            state.items.insert(row.get(0), (item, row.get(3)));
        }
        for row in rows(
            session,
            "SELECT txn_id, seq FROM batches ORDER BY txn_id, seq",
        )
        .await?
        {
            *state.batches.entry(row.get(0)).or_default() += 1;
        }
        state.tables = made_tables(session).await?;
        let mut balances = BTreeMap::new();
        for row in rows(session, "SELECT id, balance FROM accounts ORDER BY id").await? {
            balances.insert(row.get(0), row.get(1));
        }
        Ok(Tables { state, balances })
    }

    /// Whether the transaction has happened, by the one thing that says so.
    pub fn shows(&self, transaction: &Transaction) -> bool {
        match &transaction.effect {
            Effect::InsertBatch { .. } => self.state.batches.contains_key(&transaction.id),
            Effect::DeleteBatch { of } => !self.state.batches.contains_key(of),
            _ => self.state.marks.contains_key(&transaction.id),
        }
    }

    /// Whether anything of the transaction is there.
    pub fn shows_any(&self, transaction: &Transaction) -> bool {
        let id = transaction.id;
        self.shows(transaction)
            || self.state.transfers.contains_key(&id)
            || self.state.tables.contains(&id)
            || self
                .state
                .items
                .values()
                .any(|(_, written_by)| *written_by == id)
    }

    /// Whether a part of the transaction is there and another is not.
    pub fn is_torn(&self, transaction: &Transaction) -> bool {
        let (id, state) = (transaction.id, &self.state);
        let marked = state.marks.contains_key(&id);
        match &transaction.effect {
            Effect::Transfer { .. } => marked != state.transfers.contains_key(&id),
            Effect::PutItem { id: item, .. } => {
                marked
                    != state
                        .items
                        .get(item)
                        .is_some_and(|(_, written_by)| *written_by == id)
            }
            Effect::DeleteItem { id: item } => marked == state.items.contains_key(item),
            Effect::InsertBatch { rows } => {
                state.batches.get(&id).is_some_and(|there| there != rows)
            }
            // How many rows it had is known to the model, which compares the count.
            Effect::DeleteBatch { .. } => false,
            Effect::CreateTable => marked != state.tables.contains(&id),
            Effect::DropTable { of } => marked == state.tables.contains(of),
        }
    }
}

/// The tables that transactions made, each with exactly the row that was put in with it.
async fn made_tables(session: &Session) -> Result<BTreeSet<i64>> {
    const UNDEFINED_TABLE: &str = "42P01";
    let sql =
        "SELECT table_name::text FROM information_schema.tables WHERE table_name LIKE 'made\\_%'";
    let mut made = BTreeSet::new();
    for row in rows(session, sql).await? {
        let name: String = row.get(0);
        let Some(id) = name
            .strip_prefix("made_")
            .and_then(|id| id.parse::<i64>().ok())
        else {
            continue;
        };
        match session.query(&format!("SELECT id FROM {name}"), &[]).await {
            Ok(rows) if rows.len() == 1 && rows[0].get::<_, i64>(0) == id => {
                made.insert(id);
            }
            Ok(_) => {} // Without its row the table is not what was made: it counts as missing.
            Err(error) if sqlstate(&error) == Some(UNDEFINED_TABLE) => {}
            Err(error) => return Err(anyhow!("{}: {name}", describe(&error))),
        }
    }
    Ok(made)
}

/// Runs a query; the error names it.
pub async fn rows(session: &Session, sql: &str) -> Result<Vec<tokio_postgres::Row>> {
    session
        .query(sql, &[])
        .await
        .map_err(|error| anyhow!("{}: {sql}", describe(&error)))
}
