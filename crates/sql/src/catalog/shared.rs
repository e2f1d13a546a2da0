//! The instance's picture of the committed catalog.
//!
//! Other gateways change the catalog, too. **A statement uses a catalog that holds every definition
//! committed at or below its snapshot, and after it was granted a table's lock, every definition committed
//! before that.** The shards' answers say how new the catalog is
//! ([`Shards::catalog_changed`](txn::kv::Shards::catalog_changed)); this
//! picture knows as of when it is complete; a statement that finds it behind waits in
//! [`SharedCatalog::catch_up`]. As long as nobody defines anything that is one comparison.
//!
//! ```text
//!    as of A        local commits            somebody else's
//!  ─────┴────────────── B ── C ──────────────────── D ─────────►
//!   complete        published by their       found by reading what is
//!                   sessions: as of C        newer than C: as of D or later
//! ```
//!
//! A local commit moves the time on only if the commit before it that changed the catalog is in the
//! picture ([`Committed::catalog_before`]). Changes may arrive in any order: of two changes of one object
//! the later commit wins.

use super::descriptor::{Descriptor, ObjectId};
use super::{Catalog, descriptor_oid, store};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;
use txn::{Committed, Coordinator, Isolation, ReadScope};
use types::{Result, Timestamp};

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

    pub fn apply(self, catalog: &mut Catalog) {
        match self {
            CatalogChange::Put(descriptor) => catalog.put(descriptor),
            CatalogChange::Remove(oid) => catalog.remove(oid),
        }
    }
}

/// Shared by all sessions. Readers take an `Arc`; writers put their committed changes onto the
/// newest picture, whatever was published since they took theirs.
pub struct SharedCatalog {
    current: RwLock<Arc<Catalog>>,
    /// Counts publications.
    version: AtomicU64,
    /// Every definition committed at or below this timestamp is in `current`.
    as_of: AtomicU64,
    history: parking_lot::Mutex<History>,
    /// Held by the one who reads what others have changed.
    reading: tokio::sync::Mutex<()>,
    /// Transactions between the start of their commit and their publication.
    publishing: AtomicUsize,
    published: Notify,
}

/// What is known of the picture's changes.
#[derive(Default)]
struct History {
    changed_at: BTreeMap<ObjectId, Timestamp>,
    /// Local commits that are published, but not the one before them: `catalog_before` → `at`.
    early: BTreeMap<Timestamp, Timestamp>,
}

/// While it lives, [`SharedCatalog::catch_up`] waits for the publication.
pub struct Publishing<'a>(&'a SharedCatalog);

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.0.publishing.fetch_sub(1, Ordering::SeqCst);
        self.0.published.notify_waiters();
    }
}

impl SharedCatalog {
    /// `catalog` is complete as of the timestamp.
    pub fn new(catalog: Catalog, as_of: Timestamp) -> Self {
        SharedCatalog {
            current: RwLock::new(Arc::new(catalog)),
            version: AtomicU64::new(0),
            as_of: AtomicU64::new(as_of.0),
            history: parking_lot::Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            publishing: AtomicUsize::new(0),
            published: Notify::new(),
        }
    }

    /// To be held from before the commit of a changed catalog until after its publication.
    pub fn begin_publishing(&self) -> Publishing<'_> {
        self.publishing.fetch_add(1, Ordering::SeqCst);
        Publishing(self)
    }

    /// Every definition committed at or below it is in the picture.
    pub fn as_of(&self) -> Timestamp {
        Timestamp(self.as_of.load(Ordering::Acquire))
    }

    /// Waits until the picture holds all that the shards' answers until now have told of: what sessions
    /// of this instance have committed comes by itself, the rest is read.
    pub async fn catch_up(&self, coordinator: &Coordinator) -> Result<()> {
        let changed = coordinator.shards().catalog_changed();
        if changed <= self.as_of() {
            return Ok(());
        }
        Box::pin(self.wait_or_read(coordinator, changed)).await
    }

    async fn wait_or_read(&self, coordinator: &Coordinator, changed: Timestamp) -> Result<()> {
        self.published_until(changed).await;
        if changed <= self.as_of() {
            return Ok(());
        }
        let _reading = self.reading.lock().await;
        let as_of = self.as_of();
        if changed <= as_of {
            return Ok(());
        }
        let mut txn = coordinator.begin(Isolation::ReadCommitted, true);
        let at = txn.begin_statement(ReadScope::Spans(&[])).await?;
        let changes = store::changes(coordinator.shards(), &self.current(), as_of, at).await?;
        self.take_over(changes, (Timestamp::ZERO, at));
        Ok(())
    }

    /// Waits until the picture reaches the timestamp, or no publication is under way any more.
    async fn published_until(&self, changed: Timestamp) {
        while self.publishing.load(Ordering::SeqCst) > 0 {
            let published = self.published.notified();
            if self.publishing.load(Ordering::SeqCst) == 0 || changed <= self.as_of() {
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

    /// Applies what a transaction of this instance has committed.
    pub fn publish(&self, changes: Vec<CatalogChange>, committed: Committed) {
        if changes.is_empty() {
            return;
        }
        let changes = changes.into_iter().map(|change| (change, committed.at));
        self.take_over(changes.collect(), (committed.catalog_before, committed.at));
    }

    /// Applies changes, each with the timestamp of its commit. With them a picture that is complete as of
    /// the first of the two timestamps is complete as of the second.
    fn take_over(
        &self,
        changes: Vec<(CatalogChange, Timestamp)>,
        (before, at): (Timestamp, Timestamp),
    ) {
        let mut history = self.history.lock();
        if !changes.is_empty() {
            let mut next = (*self.current()).clone();
            for (change, committed_at) in changes {
                next.note_commit(committed_at);
                if history.is_newest(change.oid(), committed_at) {
                    change.apply(&mut next);
                }
            }
            *self.current.write() = Arc::new(next);
            self.version.fetch_add(1, Ordering::Release);
            history.forget_the_oldest();
        }
        history.early.insert(before, at);
        // After the picture itself.
        let as_of = history.reached(self.as_of());
        self.as_of.store(as_of.0, Ordering::Release);
    }
}

impl History {
    /// Whether a change is not older than the one of the object that is in the picture; then it is noted
    /// in its place.
    fn is_newest(&mut self, oid: ObjectId, committed_at: Timestamp) -> bool {
        let last = self.changed_at.entry(oid).or_insert(committed_at);
        let newest = *last <= committed_at;
        *last = committed_at.max(*last);
        newest
    }

    /// How far a picture that was complete as of `as_of` reaches with what is published.
    fn reached(&mut self, mut as_of: Timestamp) -> Timestamp {
        while let Some(next) = self.early.first_entry()
            && *next.key() <= as_of
        {
            as_of = as_of.max(next.remove());
        }
        as_of
    }

    fn forget_the_oldest(&mut self) {
        if self.changed_at.len() > REMEMBERED_CHANGES {
            let mut times: Vec<Timestamp> = self.changed_at.values().copied().collect();
            times.sort_unstable();
            let keep_from = times[times.len() / 2];
            self.changed_at.retain(|_, at| *at >= keep_from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::descriptor::Schema;
    use txn::testing::{MapShards, still_env};
    use txn::{Limits, Shards};

    fn schema(oid: ObjectId, name: &str) -> Descriptor {
        Descriptor::Schema(Schema {
            oid,
            database: 5,
            name: name.into(),
            owner: 10,
            comment: None,
        })
    }

    fn committed(before: u64, at: u64) -> Committed {
        Committed {
            at: Timestamp(at),
            catalog_before: Timestamp(before),
        }
    }

    #[test]
    fn publications_merge_and_the_later_commit_wins() {
        let shared = SharedCatalog::new(Catalog::default(), Timestamp(8));
        let put = |oid, name| vec![CatalogChange::Put(schema(oid, name))];
        shared.publish(put(1, "a"), committed(9, 10));
        // What was committed at 9 is missing yet.
        assert_eq!(shared.as_of(), Timestamp(8));
        shared.publish(put(2, "b"), committed(8, 9));
        assert_eq!(shared.as_of(), Timestamp(10));
        assert_eq!(shared.current().schemas(5).count(), 2);
        // A drop committed at 12 is published before the rename committed at 11.
        shared.publish(vec![CatalogChange::Remove(1)], committed(11, 12));
        shared.publish(put(1, "c"), committed(10, 11));
        assert!(shared.current().schema(1).is_none());
        assert!(shared.current().schema_by_name(5, "b").is_some());
        assert_eq!(shared.as_of(), Timestamp(12));
    }

    #[tokio::test]
    async fn what_others_have_committed_is_read() {
        let shards = Arc::new(MapShards::default());
        let coordinator = Coordinator::new(shards.clone(), still_env(0, 7), Limits::default());
        let commit = async |changes: &[(ObjectId, Option<&str>)]| {
            let mut txn = coordinator.begin(Isolation::ReadCommitted, false);
            for (oid, name) in changes {
                match name {
                    Some(name) => store::write(&mut txn, &schema(*oid, name)).unwrap(),
                    None => store::delete(&mut txn, *oid).unwrap(),
                }
            }
            txn.commit().await.unwrap()
        };
        let shared = SharedCatalog::new(Catalog::default(), Timestamp::ZERO);
        commit(&[(1, Some("a")), (2, Some("b"))]).await;
        shared.catch_up(&coordinator).await.unwrap();
        assert_eq!(shared.current().schemas(5).count(), 2);
        assert_eq!(shared.as_of(), shards.catalog_changed());
        let version = shared.version();
        shared.catch_up(&coordinator).await.unwrap();
        assert_eq!(shared.version(), version);
        // Somebody else's change lies between two of ours.
        commit(&[(1, None), (3, Some("c"))]).await;
        let ours = commit(&[(4, Some("d"))]).await;
        shared.publish(vec![CatalogChange::Put(schema(4, "d"))], ours);
        assert!(shared.as_of() < shards.catalog_changed());
        shared.catch_up(&coordinator).await.unwrap();
        let current = shared.current();
        let mut names: Vec<_> = current.schemas(5).map(|s| s.name.clone()).collect();
        names.sort();
        assert_eq!(names, ["b", "c", "d"]);
        assert_eq!(shared.as_of(), shards.catalog_changed());
    }

    #[tokio::test]
    async fn a_local_publication_is_waited_for() {
        let shards = Arc::new(MapShards::default());
        let coordinator = Coordinator::new(shards, still_env(0, 7), Limits::default());
        let shared = SharedCatalog::new(Catalog::default(), Timestamp::ZERO);
        let publishing = shared.begin_publishing();
        let mut txn = coordinator.begin(Isolation::ReadCommitted, false);
        store::write(&mut txn, &schema(1, "a")).unwrap();
        let committed = txn.commit().await.unwrap();
        let waiting = shared.catch_up(&coordinator);
        futures::pin_mut!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        shared.publish(vec![CatalogChange::Put(schema(1, "a"))], committed);
        drop(publishing);
        waiting.await.unwrap();
        assert_eq!((shared.version(), shared.as_of()), (1, committed.at));
    }
}
