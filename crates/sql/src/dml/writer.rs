//! Writing rows with their index entries, and the foreign keys around them.
//!
//! A change of one row is checked and buffered at once ([`Writer::insert`], [`Writer::update`],
//! [`Writer::delete`]). What foreign keys demand is queued and done by [`Writer::finish`] at the
//! statement's end, as PostgreSQL's after-row triggers do: rows that the statement itself brings count,
//! and actions (CASCADE, SET NULL, SET DEFAULT) may queue more. An INITIALLY DEFERRED constraint's
//! checks are handed to the caller for the end of the transaction.
//!
//! Invariant: a unique index entry is written or removed only under the `Update` lock of its key, a
//! row only under its row key's lock.

use super::prepared::{Incoming, Prepared, PreparedSet};
use super::violations;
use crate::catalog::descriptor::{ObjectId, ReferentialAction};
use crate::context::StatementContext;
use crate::direct::cursor::Reader;
use std::collections::VecDeque;
use std::sync::Arc;
use txn::kv::{Isolation, Key, LockMode, ScanRequest, Value};
use txn::{FreshBuilder, FreshRows, LockedRow, Transaction};
use types::{Datum, Error, Result, Row, SqlState, Timestamp};

/// Rows of a page when newer rows are looked for.
const NEWER_PAGE_ROWS: usize = 256;
/// Bytes of such a page.
const NEWER_PAGE_BYTES: usize = 1 << 20;
/// Rows from which on a batch pays: its set-up costs as much as a few rows.
const FRESH_ROWS_MIN: usize = 16;
/// A usual row with its key, in bytes, for the first guess of a batch's size.
const FRESH_ROW_BYTES: usize = 128;

/// A foreign key check that is due.
#[derive(Clone, Debug)]
pub enum Pending {
    /// The row must have a parent by its nth foreign key.
    Child {
        table: ObjectId,
        key: usize,
        row: Row,
    },
    /// Nothing may refer to `old` any more by the nth foreign key on the table, after its action.
    Parent {
        table: ObjectId,
        key: usize,
        old: Row,
        new: Option<Row>,
    },
}

/// The value a lock found, whichever way.
pub fn found(locked: LockedRow) -> Option<Value> {
    match locked {
        LockedRow::Skipped => None,
        LockedRow::Unchanged(value) | LockedRow::Changed(value) => value,
    }
}

/// Writes rows for one statement.
pub struct Writer<'a> {
    pub set: &'a PreparedSet,
    pub txn: &'a mut Transaction,
    pub ctx: &'a StatementContext,
    pending: VecDeque<Pending>,
    /// Checks that wait for the end of the transaction.
    pub deferred: Vec<Pending>,
}

fn values_at(row: &[Datum], positions: &[usize]) -> Vec<Datum> {
    positions
        .iter()
        .map(|position| row[*position].clone())
        .collect()
}

fn same_values(a: &[Datum], b: &[Datum], positions: &[usize]) -> bool {
    positions
        .iter()
        .all(|position| crate::functions::comparison::same(&a[*position], &b[*position], false))
}

impl<'a> Writer<'a> {
    pub fn new(
        set: &'a PreparedSet,
        txn: &'a mut Transaction,
        ctx: &'a StatementContext,
    ) -> Writer<'a> {
        Writer {
            set,
            txn,
            ctx,
            pending: VecDeque::new(),
            deferred: Vec::new(),
        }
    }

    async fn lock_and_get(&mut self, key: &[u8], mode: LockMode) -> Result<LockedRow> {
        self.txn
            .lock_and_get(key, mode, self.ctx.wait_policy())
            .await
    }

    /// A new row, complete but for its generated columns. Returns its key and itself.
    pub async fn insert(&mut self, prepared: &Prepared, mut row: Row) -> Result<(Key, Row)> {
        prepared.complete(&mut row, self.ctx)?;
        let key = if prepared.codec.has_primary_key() {
            let key = prepared.codec.row_key(&row);
            if found(self.lock_and_get(&key, LockMode::Update).await?).is_some() {
                return Err(self.duplicate_primary_key(prepared, &row));
            }
            key
        } else {
            prepared.codec.row_id_key(self.ctx.row_ids.take(1).await?)
        };
        let key = Key::from(key);
        let value = prepared.codec.encode_row(&row)?;
        self.txn.put(key.clone(), value)?;
        for index in 0..prepared.indexes.len() {
            self.insert_entry(prepared, index, &row, &key).await?;
        }
        self.queue_children(prepared, None, &row);
        Ok((key, row))
    }

    /// New rows, complete but for their generated columns.
    pub async fn insert_all(&mut self, prepared: &Prepared, mut rows: Vec<Row>) -> Result<()> {
        if rows.len() >= FRESH_ROWS_MIN
            && self.txn.takes_fresh()
            && self.insert_fresh(prepared, &mut rows).await?
        {
            return Ok(());
        }
        for row in rows {
            self.insert(prepared, row).await?;
        }
        Ok(())
    }

    /// Inserts all rows at once if nothing is in the way of any. Else, or if there is anything wrong
    /// with one of them, changes nothing and returns `false`: inserted one by one, the first that
    /// fails is the one whose error the client gets.
    async fn insert_fresh(&mut self, prepared: &Prepared, rows: &mut [Row]) -> Result<bool> {
        let first_id = match prepared.codec.has_primary_key() {
            true => None,
            false => Some(self.ctx.row_ids.take(rows.len()).await?),
        };
        let Some(batches) = self.fresh_batches(prepared, rows, first_id) else {
            return Ok(false);
        };
        let (batches, unique): (Vec<FreshRows>, Vec<bool>) = batches.into_iter().unzip();
        if !self.txn.lock_fresh(&batches, &unique).await? {
            return Ok(false);
        }
        for batch in batches {
            self.txn.put_fresh(batch)?;
        }
        if !prepared.outgoing.is_empty() {
            for row in rows {
                self.queue_children(prepared, None, row);
            }
        }
        Ok(true)
    }

    /// The rows and the entries of each index, and whether their keys must be locked. `first_id`: of
    /// rows without primary key.
    fn fresh_batches(
        &mut self,
        prepared: &Prepared,
        rows: &mut [Row],
        first_id: Option<i64>,
    ) -> Option<Vec<(FreshRows, bool)>> {
        let codec = &prepared.codec;
        let mut batches = Vec::with_capacity(1 + prepared.indexes.len());
        let mut batch = FreshBuilder::with_capacity(rows.len(), rows.len() * FRESH_ROW_BYTES);
        for (row, number) in rows.iter_mut().zip(0i64..) {
            prepared.complete(row, self.ctx).ok()?;
            match first_id {
                None => codec.put_row_key(row, batch.bytes()),
                Some(first) => {
                    let key = codec.row_id_key(first + number);
                    batch.bytes().extend_from_slice(&key);
                }
            }
            batch.end_key();
            codec.layout().encode(row, batch.bytes()).ok()?;
            batch.end_value();
        }
        for index in 0..prepared.indexes.len() {
            let mut entries = FreshBuilder::with_capacity(rows.len(), 0);
            let mut unique = false;
            for (number, row) in rows.iter().enumerate() {
                let key = batch.key(number);
                if let Some(entry) = prepared.index_entry(index, row, key, self.ctx).ok()? {
                    entries.bytes().extend_from_slice(&entry.key);
                    entries.end_key();
                    entries.bytes().extend_from_slice(codec.row_suffix(key));
                    entries.end_value();
                    unique |= entry.unique;
                }
            }
            if !entries.is_empty() {
                batches.push((entries.finish()?, unique));
            }
        }
        batches.push((batch.finish()?, codec.has_primary_key()));
        Some(batches)
    }

    /// Replaces the row at `key`, which is locked, by `new`. Returns the new key and row.
    pub async fn update(
        &mut self,
        prepared: &Prepared,
        key: &Key,
        old: &Row,
        mut new: Row,
    ) -> Result<(Key, Row)> {
        prepared.complete(&mut new, self.ctx)?;
        let mut new_key = key.clone();
        if let Some(primary) = &prepared.table.primary_key
            && !same_values(old, &new, &primary.columns)
        {
            new_key = prepared.codec.row_key(&new).into();
        }
        let moved = new_key != *key;
        if moved {
            if found(self.lock_and_get(&new_key, LockMode::Update).await?).is_some() {
                return Err(self.duplicate_primary_key(prepared, &new));
            }
            self.txn.delete(key.clone())?;
        }
        let value = prepared.codec.encode_row(&new)?;
        self.txn.put(new_key.clone(), value)?;
        for index in 0..prepared.indexes.len() {
            let before = prepared.index_entry(index, old, key, self.ctx)?;
            let after = prepared.index_entry(index, &new, &new_key, self.ctx)?;
            if !moved && before == after {
                continue;
            }
            if let Some(before) = before {
                if before.unique {
                    self.lock_and_get(&before.key, LockMode::Update).await?;
                }
                self.txn.delete(before.key)?;
            }
            if after.is_some() {
                self.insert_entry(prepared, index, &new, &new_key).await?;
            }
        }
        self.queue_children(prepared, Some(old), &new);
        for (number, incoming) in prepared.incoming.iter().enumerate() {
            if !same_values(old, &new, &incoming.key.referenced_columns) {
                self.pending.push_back(Pending::Parent {
                    table: prepared.table.oid,
                    key: number,
                    old: old.clone(),
                    new: Some(new.clone()),
                });
            }
        }
        Ok((new_key, new))
    }

    /// Removes the row at `key`, which is locked.
    pub async fn delete(&mut self, prepared: &Prepared, key: &Key, old: Row) -> Result<()> {
        self.txn.delete(key.clone())?;
        for index in 0..prepared.indexes.len() {
            if let Some(entry) = prepared.index_entry(index, &old, key, self.ctx)? {
                if entry.unique {
                    self.lock_and_get(&entry.key, LockMode::Update).await?;
                }
                self.txn.delete(entry.key)?;
            }
        }
        for number in 0..prepared.incoming.len() {
            self.pending.push_back(Pending::Parent {
                table: prepared.table.oid,
                key: number,
                old: old.clone(),
                new: None,
            });
        }
        Ok(())
    }

    async fn insert_entry(
        &mut self,
        prepared: &Prepared,
        index: usize,
        row: &Row,
        key: &Key,
    ) -> Result<()> {
        let Some(values) = prepared.index_values(index, row, self.ctx)? else {
            return Ok(());
        };
        let entry = prepared.codec.index_key(index, &values, key);
        if entry.unique && found(self.lock_and_get(&entry.key, LockMode::Update).await?).is_some() {
            return Err(violations::unique(prepared, Some(index), &values, self.ctx));
        }
        let suffix = Value::copy_from_slice(prepared.codec.row_suffix(key));
        self.txn.put(entry.key, suffix)
    }

    fn duplicate_primary_key(&self, prepared: &Prepared, row: &Row) -> Error {
        let columns = prepared.table.primary_key.as_ref();
        let values = columns.map_or_else(Vec::new, |key| values_at(row, &key.columns));
        violations::unique(prepared, None, &values, self.ctx)
    }

    fn queue_children(&mut self, prepared: &Prepared, old: Option<&Row>, new: &Row) {
        for (number, outgoing) in prepared.outgoing.iter().enumerate() {
            if let Some(old) = old
                && same_values(old, new, &outgoing.key.columns)
            {
                continue;
            }
            if outgoing
                .key
                .columns
                .iter()
                .all(|position| new[*position].is_null())
            {
                continue;
            }
            self.pending.push_back(Pending::Child {
                table: prepared.table.oid,
                key: number,
                row: new.clone(),
            });
        }
    }

    /// Does what foreign keys demand of the statement's changes.
    pub async fn finish(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.see_newest().await?;
        while let Some(pending) = self.pending.pop_front() {
            self.ctx.cancel.check()?;
            if self.is_deferred(&pending)? {
                self.deferred.push(pending);
            } else {
                self.settle(pending).await?;
            }
        }
        Ok(())
    }

    /// Runs checks that were deferred to the transaction's end.
    pub async fn run_deferred(&mut self, checks: Vec<Pending>) -> Result<()> {
        self.see_newest().await?;
        self.pending.extend(checks);
        while let Some(pending) = self.pending.pop_front() {
            self.settle(pending).await?;
        }
        Ok(())
    }

    /// Rows that refer to ours may have been committed while we waited for our lock.
    async fn see_newest(&mut self) -> Result<()> {
        if self.txn.isolation() == Isolation::ReadCommitted {
            self.txn.restart_statement().await?;
        }
        Ok(())
    }

    fn is_deferred(&self, pending: &Pending) -> Result<bool> {
        Ok(match pending {
            Pending::Child { table, key, .. } => {
                self.set.get(*table)?.outgoing[*key].key.initially_deferred
            }
            Pending::Parent {
                table, key, new, ..
            } => {
                let incoming = &self.set.get(*table)?.incoming[*key].key;
                let action = if new.is_some() {
                    incoming.on_update
                } else {
                    incoming.on_delete
                };
                incoming.initially_deferred && action == ReferentialAction::NoAction
            }
        })
    }

    async fn settle(&mut self, pending: Pending) -> Result<()> {
        match pending {
            Pending::Child { table, key, row } => {
                let prepared = self.set.get(table)?.clone();
                self.require_parent(&prepared, key, &row).await
            }
            Pending::Parent {
                table,
                key,
                old,
                new,
            } => {
                let prepared = self.set.get(table)?.clone();
                self.release_children(&prepared, key, old, new).await
            }
        }
    }

    async fn require_parent(&mut self, child: &Prepared, number: usize, row: &Row) -> Result<()> {
        let outgoing = &child.outgoing[number];
        let key = &outgoing.key;
        let values = values_at(row, &key.columns);
        if values.iter().any(Datum::is_null) {
            if key.match_full && !values.iter().all(Datum::is_null) {
                return Err(violations::partly_null(child, key));
            }
            return Ok(());
        }
        let point = outgoing.path.primary_point(&values, self.ctx);
        let present = match point {
            Some(point) => match point? {
                Some(point) => {
                    found(self.lock_and_get(&point, LockMode::KeyShare).await?).is_some()
                }
                None => false,
            },
            None => self.lock_match(&outgoing.path, &values).await?,
        };
        if present {
            return Ok(());
        }
        let name = &outgoing.parent.name;
        Err(violations::missing_parent(
            child, key, name, &values, self.ctx,
        ))
    }

    /// Finds a row that meets the path's condition, and keeps it from going away.
    async fn lock_match(
        &mut self,
        path: &crate::direct::AccessPath,
        values: &[Datum],
    ) -> Result<bool> {
        let mut cursor = path.open(values, self.ctx, Some(1))?;
        while let Some((key, _)) = cursor.next(&mut Reader::Transaction(self.txn)).await? {
            let locked = self.lock_and_get(&key, LockMode::KeyShare).await?;
            if let Some(value) = found(locked)
                && crate::direct::query::matches(path, &value, values, self.ctx)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn release_children(
        &mut self,
        parent: &Prepared,
        number: usize,
        old: Row,
        new: Option<Row>,
    ) -> Result<()> {
        let incoming = &parent.incoming[number];
        let values = values_at(&old, &incoming.key.referenced_columns);
        if values.iter().any(Datum::is_null) {
            return Ok(());
        }
        let action = match &new {
            Some(_) => incoming.key.on_update,
            None => incoming.key.on_delete,
        };
        self.refuse_newer(incoming, &values).await?;
        let children = self.children(incoming, &values).await?;
        if children.is_empty() {
            return Ok(());
        }
        match action {
            ReferentialAction::NoAction => {
                // Another row may have taken the key over.
                let child = self.set.get(incoming.child.oid)?.clone();
                let position = child
                    .outgoing
                    .iter()
                    .position(|o| o.key.oid == incoming.key.oid);
                if let Some(position) = position
                    && self
                        .lock_match(&child.outgoing[position].path, &values)
                        .await?
                {
                    return Ok(());
                }
                Err(self.still_referenced(parent, incoming, &values, false))
            }
            ReferentialAction::Restrict => {
                Err(self.still_referenced(parent, incoming, &values, true))
            }
            ReferentialAction::Cascade
            | ReferentialAction::SetNull
            | ReferentialAction::SetDefault => {
                let child = self.set.get(incoming.child.oid)?.clone();
                self.act_on_children(&child, incoming, action, &values, new.as_ref(), children)
                    .await
            }
        }
    }

    fn still_referenced(
        &self,
        parent: &Prepared,
        incoming: &Incoming,
        values: &[Datum],
        restrict: bool,
    ) -> Error {
        let (key, child) = (&incoming.key, &incoming.child);
        violations::still_referenced(parent, key, child, values, restrict, self.ctx)
    }

    async fn children(&mut self, incoming: &Incoming, values: &[Datum]) -> Result<Vec<Key>> {
        let path = &incoming.path;
        let mut cursor = path.open(values, self.ctx, None)?;
        let mut keys = Vec::new();
        while let Some((key, value)) = cursor.next(&mut Reader::Transaction(self.txn)).await? {
            if crate::direct::query::matches(path, &value, values, self.ctx)? {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Under a fixed snapshot, rows that came to refer to ours after it cannot be seen: 40001.
    async fn refuse_newer(&mut self, incoming: &Incoming, values: &[Datum]) -> Result<()> {
        if self.txn.isolation() == Isolation::ReadCommitted {
            return Ok(());
        }
        let at = self.txn.read_timestamp()?;
        for span in incoming.path.open(values, self.ctx, None)?.into_spans() {
            let mut span = Some(span);
            while let Some(next) = span.take() {
                let end = next.end.clone();
                let page = self
                    .ctx
                    .view
                    .shards
                    .scan(ScanRequest {
                        span: next,
                        at: Timestamp::MAX,
                        reverse: false,
                        limit: NEWER_PAGE_ROWS,
                        limit_bytes: NEWER_PAGE_BYTES,
                    })
                    .await?;
                if page.rows.iter().any(|(_, _, version)| *version > at) {
                    return Err(Error::new(
                        SqlState::SERIALIZATION_FAILURE,
                        "could not serialize access due to concurrent update",
                    ));
                }
                span = page.resume.map(|start| txn::Span { start, end });
            }
        }
        Ok(())
    }

    async fn act_on_children(
        &mut self,
        child: &Arc<Prepared>,
        incoming: &Incoming,
        action: ReferentialAction,
        values: &[Datum],
        new_parent: Option<&Row>,
        keys: Vec<Key>,
    ) -> Result<()> {
        for key in keys {
            let mode = LockMode::Update;
            let Some(value) = found(self.lock_and_get(&key, mode).await?) else {
                continue;
            };
            if !crate::direct::query::matches(&incoming.path, &value, values, self.ctx)? {
                continue;
            }
            let old = child.codec.decode_whole_row(&value)?;
            if action == ReferentialAction::Cascade && new_parent.is_none() {
                self.delete(child, &key, old).await?;
                continue;
            }
            let mut new = old.clone();
            for (number, position) in incoming.key.columns.iter().enumerate() {
                new[*position] = match (action, new_parent) {
                    (ReferentialAction::Cascade, Some(parent)) => {
                        parent[incoming.key.referenced_columns[number]].clone()
                    }
                    (ReferentialAction::SetDefault, _) => {
                        child.default_value(*position, self.ctx).await?
                    }
                    _ => Datum::Null,
                };
            }
            self.update(child, &key, &old, new).await?;
        }
        Ok(())
    }
}
