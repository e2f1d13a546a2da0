//! The instance's picture of the committed catalog.

use super::descriptor::{Descriptor, ObjectId};
use super::{Catalog, descriptor_oid};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;
use types::Timestamp;

/// Objects whose last change is remembered, to tell a late publication from a newer one. A
/// publication is late by moments; thousands of others do not fit in between.
const REMEMBERED_CHANGES: usize = 16_384;

/// What one transaction did to an object in the end.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are Put, so a box would save nothing"
)]
pub enum CatalogChange {
    Put(Descriptor),
    Remove(ObjectId),
}

impl CatalogChange {
    pub fn oid(&self) -> ObjectId {
        match self {
            CatalogChange::Put(descriptor) => descriptor_oid(descriptor),
            CatalogChange::Remove(oid) => *oid,
        }
    }
}

/// Shared by all sessions. Readers take an `Arc`; writers put their committed changes onto the
/// newest picture, whatever was published since they took theirs.
pub struct SharedCatalog {
    current: RwLock<Arc<Catalog>>,
    /// Counts publications.
    version: AtomicU64,
    changed_at: parking_lot::Mutex<BTreeMap<ObjectId, Timestamp>>,
    /// Transactions between the start of their commit and their publication.
    publishing: AtomicUsize,
    published: Notify,
}

/// While it lives, [`SharedCatalog::settled`] waits.
pub struct Publishing<'a>(&'a SharedCatalog);

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.0.publishing.fetch_sub(1, Ordering::SeqCst);
        self.0.published.notify_waiters();
    }
}

impl SharedCatalog {
    pub fn new(catalog: Catalog) -> Self {
        SharedCatalog {
            current: RwLock::new(Arc::new(catalog)),
            version: AtomicU64::new(0),
            changed_at: parking_lot::Mutex::default(),
            publishing: AtomicUsize::new(0),
            published: Notify::new(),
        }
    }

    /// To be held from before the commit of a changed catalog until after its publication.
    pub fn begin_publishing(&self) -> Publishing<'_> {
        self.publishing.fetch_add(1, Ordering::SeqCst);
        Publishing(self)
    }

    /// Waits until each commit that has released its locks is published. Who has just been granted
    /// a table's lock calls this before looking at the catalog.
    pub async fn settled(&self) {
        while self.publishing.load(Ordering::SeqCst) > 0 {
            let published = self.published.notified();
            if self.publishing.load(Ordering::SeqCst) == 0 {
                return;
            }
            published.await;
        }
    }

    pub fn current(&self) -> Arc<Catalog> {
        Arc::clone(&self.current.read())
    }

    /// As long as it stays, so does [`SharedCatalog::current`]. Read it first, then the catalog.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Applies what a transaction committed at `committed_at`. Two transactions that changed one
    /// object may arrive here in either order: the later commit wins.
    pub fn publish(&self, changes: Vec<CatalogChange>, committed_at: Timestamp) {
        if changes.is_empty() {
            return;
        }
        let mut changed_at = self.changed_at.lock();
        let mut next = (*self.current()).clone();
        for change in changes {
            let oid = change.oid();
            let last = changed_at.entry(oid).or_insert(committed_at);
            if *last > committed_at {
                continue;
            }
            *last = committed_at;
            match change {
                CatalogChange::Put(descriptor) => next.put(descriptor),
                CatalogChange::Remove(oid) => next.remove(oid),
            }
        }
        *self.current.write() = Arc::new(next);
        self.version.fetch_add(1, Ordering::Release);
        if changed_at.len() > REMEMBERED_CHANGES {
            let mut times: Vec<Timestamp> = changed_at.values().copied().collect();
            times.sort_unstable();
            let keep_from = times[times.len() / 2];
            changed_at.retain(|_, at| *at >= keep_from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::descriptor::Schema;

    fn schema(oid: ObjectId, name: &str) -> Descriptor {
        Descriptor::Schema(Schema {
            oid,
            database: 5,
            name: name.into(),
            owner: 10,
            comment: None,
        })
    }

    #[test]
    fn publications_merge_and_the_later_commit_wins() {
        let shared = SharedCatalog::new(Catalog::default());
        shared.publish(vec![CatalogChange::Put(schema(1, "a"))], Timestamp(10));
        shared.publish(vec![CatalogChange::Put(schema(2, "b"))], Timestamp(9));
        assert_eq!(shared.current().schemas(5).count(), 2);
        // A drop committed at 12 is published before the rename committed at 11.
        shared.publish(vec![CatalogChange::Remove(1)], Timestamp(12));
        shared.publish(vec![CatalogChange::Put(schema(1, "c"))], Timestamp(11));
        assert!(shared.current().schema(1).is_none());
        assert!(shared.current().schema_by_name(5, "b").is_some());
    }
}
