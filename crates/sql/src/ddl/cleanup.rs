//! Deleting the rows of dropped, truncated and rewritten tables.
//!
//! DDL leaves such rows where they are and writes, in its own transaction, a row that names their data
//! id. So a crash at any moment loses neither the rows of a table that is still there nor the
//! knowledge that a span is to be deleted. [`delete_dropped`] is run in the background by the
//! instance, after a commit that marked something and at start.
//!
//! Nobody waits for it, since the space is free again only once the old versions are collected, hours later; but who
//! has just loaded a table (a primary key that is added to it rewrites it) is about to use it. So it begins slowly:
//! [`pause_after`].
//!
//! Readers on older snapshots are not disturbed: the deletions are ordinary versions, and the store's
//! garbage collection reclaims the space once nobody can see the rows.

use crate::catalog::store::{dropped_data_id, dropped_span_key, dropped_spans, span_of};
use std::time::Duration;
use txn::kv::{Key, LockMode, ReadScope, WaitPolicy};
use txn::{Coordinator, Isolation, Transaction};
use types::{Error, Result, key};

/// Rows deleted by one transaction: bounds its memory and the size of its log entry.
const DELETE_ROWS: usize = 1000;
const DELETE_BYTES: usize = 1 << 20;

/// Marks all rows under a data id as waiting for deletion once this transaction commits.
pub(super) fn mark(txn: &mut Transaction, data_id: u32) -> Result<()> {
    txn.put(dropped_span_key(data_id), Vec::new())
}

/// Where the last batch ended, so that the next does not walk over what is deleted already. Only a
/// hint: a new one starts at the first row.
#[derive(Default)]
pub struct Position {
    data_id: u32,
    next: Option<Key>,
}

/// A cleaner is slow for so long, and thorough afterwards.
const SLOW_TIME: Duration = Duration::from_secs(600);
/// For each row, which costs about 20 microseconds on each replica.
const SLOW_PAUSE: Duration = Duration::from_micros(1000);
const PAUSE: Duration = Duration::from_micros(30);

/// How long to rest after a batch of so many rows, `since` after the cleaner's begin.
pub fn pause_after(rows: u32, since: Duration) -> Duration {
    match since < SLOW_TIME {
        true => SLOW_PAUSE * rows,
        false => PAUSE * rows,
    }
}

/// Deletes one batch of rows that wait for deletion. Returns how many; `None` when nothing waits any more.
pub async fn delete_dropped(
    coordinator: &Coordinator,
    position: &mut Position,
) -> Result<Option<u32>> {
    let mut txn = coordinator.begin(Isolation::ReadCommitted, false);
    txn.begin_statement(ReadScope::All).await?;
    let page = txn.scan(dropped_spans(), false, 1, DELETE_BYTES).await?;
    let Some((mark, _, _)) = page.rows.into_iter().next() else {
        return Ok(None);
    };
    let data_id = dropped_data_id(&mark)
        .ok_or_else(|| Error::corrupt("a row that marks a dropped table is not readable"))?;
    let policy = WaitPolicy::Wait {
        deadline_nanos: None,
    };
    // One cleaner at a time per span; nobody else writes to a dropped span.
    txn.lock(&mark, LockMode::Update, policy).await?;
    let mut span = span_of(&key::table_prefix(data_id));
    if position.data_id == data_id
        && let Some(next) = position.next.take()
    {
        span.start = next;
    }
    let end = span.end.clone();
    // A page is of one shard, and so is what this transaction writes: the mark goes when no rows are left.
    let rows = txn.scan(span, false, DELETE_ROWS, DELETE_BYTES).await?;
    let finished = rows.rows.is_empty() && rows.resume.is_none();
    *position = Position {
        data_id,
        next: Some(rows.resume.unwrap_or(end)),
    };
    let mut deleted = 0;
    for (key, _, _) in rows.rows {
        txn.delete(key)?;
        deleted += 1;
    }
    if finished {
        txn.delete(mark)?;
    }
    txn.commit().await?;
    Ok(Some(deleted))
}
