//! Reads from one moment of the real disk.

use super::opened::Opened;
use crate::engine::{Error, KeyRange, Keyspace, Pairs, Result, Snapshot};
use crate::journal_check::MARK_KEY;
use crate::sim_disk::is_empty_range;
use bytes::Bytes;
use fjall::Readable;
use std::sync::Arc;

pub struct FjallSnapshot {
    pub snapshot: fjall::Snapshot,
    pub opened: Arc<Opened>,
}

impl Snapshot for FjallSnapshot {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>> {
        match self.snapshot.get(self.opened.keyspace(keyspace), key) {
            Ok(value) => Ok(value.map(Bytes::from)),
            Err(error) => Err(self.opened.map_error(error, Some(keyspace))),
        }
    }

    fn scan(&self, keyspace: Keyspace, range: KeyRange, reverse: bool) -> Pairs<'_> {
        if is_empty_range(&range) {
            return Box::new(std::iter::empty());
        }
        let rows = self.snapshot.range(self.opened.keyspace(keyspace), range);
        let pair = move |guard: fjall::Guard| match guard.into_inner() {
            Ok((key, value)) => Ok((Bytes::from(key), Bytes::from(value))),
            Err(error) => Err(self.opened.map_error(error, Some(keyspace))),
        };
        let shown = move |pair: &Result<(Bytes, Bytes)>| {
            keyspace != Keyspace::Raft || !matches!(pair, Ok((key, _)) if key == MARK_KEY)
        };
        if reverse {
            Box::new(rows.rev().map(pair).filter(shown))
        } else {
            Box::new(rows.map(pair).filter(shown))
        }
    }
}

/// Stands in when the store could not be opened again.
pub struct NoSnapshot(pub Error);

impl Snapshot for NoSnapshot {
    fn get(&self, _: Keyspace, _: &[u8]) -> Result<Option<Bytes>> {
        Err(self.0.clone())
    }

    fn scan(&self, _: Keyspace, _: KeyRange, _: bool) -> Pairs<'_> {
        Box::new(std::iter::once(Err(self.0.clone())))
    }
}
