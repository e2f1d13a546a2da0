//! The session's transaction: none, one for a statement or pipeline, or a block.
//!
//! ```text
//!            statement                BEGIN
//!   Idle ───────────────► Implicit ─────────► Block ──error──► Failed
//!    ▲                       │                  │                 │
//!    └──── end of statement, ┘                  │ COMMIT,         │ ROLLBACK,
//!    │     Sync, or error                       │ ROLLBACK        │ COMMIT (as ROLLBACK)
//!    └──────────────────────────────────────────┴─────────────────┘
//!                                     ROLLBACK TO: Failed ──► Block
//! ```

use super::settings::SettingsMark;
use crate::catalog::Catalog;
use crate::catalog::descriptor::ObjectId;
use crate::catalog::shared::{CatalogChange, SharedCatalog};
use crate::dml::DeferredChecks;
use crate::instance::Instance;
use std::collections::BTreeMap;
use std::sync::Arc;
use txn::{SavepointId, Transaction};
use types::{Error, Result, SqlState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// Ends by itself.
    Implicit,
    Block,
    Failed,
}

impl BlockState {
    pub fn can_become(self, next: BlockState) -> bool {
        use BlockState::*;
        matches!(
            (self, next),
            (Implicit, Block) | (Block, Failed) | (Failed, Block)
        )
    }
}

/// A transaction with what it did to the catalog.
pub struct Active {
    pub txn: Transaction,
    pub state: BlockState,
    /// Unix microseconds at its start: `now()`.
    pub started_micros: i64,
    /// The catalog as this transaction sees it, once it has changed it.
    pub working: Option<Working>,
    /// Foreign keys to be looked at before commit.
    pub deferred: DeferredChecks,
    savepoints: Vec<Savepoint>,
}

#[derive(Clone)]
pub struct Working {
    pub catalog: Arc<Catalog>,
    pub changes: BTreeMap<ObjectId, CatalogChange>,
    /// Of the committed catalog that the changes were put onto.
    pub version: u64,
}

impl Working {
    /// A copy of what is committed.
    pub fn new(shared: &SharedCatalog) -> Working {
        // Before the catalog itself: a publication in between is noticed then.
        let version = shared.version();
        Working {
            catalog: shared.current(),
            changes: BTreeMap::new(),
            version,
        }
    }

    /// Puts the changes onto what others have committed meanwhile.
    pub fn catch_up(&mut self, shared: &SharedCatalog) {
        if self.version == shared.version() {
            return;
        }
        let newest = Working::new(shared);
        let mut catalog = (*newest.catalog).clone();
        for change in self.changes.values() {
            change.clone().apply(&mut catalog);
        }
        self.catalog = Arc::new(catalog);
        self.version = newest.version;
    }
}

struct Savepoint {
    name: String,
    id: SavepointId,
    working: Option<Working>,
    deferred: DeferredChecks,
    settings: SettingsMark,
}

impl Active {
    pub fn new(txn: Transaction, state: BlockState, started_micros: i64) -> Self {
        Active {
            txn,
            state,
            started_micros,
            working: None,
            deferred: DeferredChecks::default(),
            savepoints: Vec::new(),
        }
    }

    pub fn become_state(&mut self, next: BlockState) {
        assert!(self.state.can_become(next), "{:?} → {next:?}", self.state);
        self.state = next;
    }

    /// A point to which a failed statement is undone.
    pub fn mark(&mut self) -> Mark {
        Mark {
            id: self.txn.savepoint(),
            working: self.working.clone(),
        }
    }

    pub fn keep(&mut self, mark: Mark) -> Result<()> {
        self.txn.release_savepoint(mark.id)
    }

    pub fn undo_to(&mut self, mark: Mark) -> Result<()> {
        self.txn.rollback_to(mark.id)?;
        self.txn.release_savepoint(mark.id)?;
        self.working = mark.working;
        Ok(())
    }

    pub fn set_savepoint(&mut self, name: String, settings: SettingsMark) {
        let id = self.txn.savepoint();
        let working = self.working.clone();
        let deferred = self.deferred.clone();
        self.savepoints.push(Savepoint {
            name,
            id,
            working,
            deferred,
            settings,
        });
    }

    pub fn release_savepoint(&mut self, name: &str) -> Result<()> {
        let at = self.find(name)?;
        let savepoint = self.savepoints.drain(at..).next();
        savepoint.map_or(Ok(()), |savepoint| self.txn.release_savepoint(savepoint.id))
    }

    /// Undoes all since the savepoint, which stays; a failed block is well again. Settings are left to
    /// the caller.
    pub fn rollback_to_savepoint(&mut self, name: &str) -> Result<SettingsMark> {
        let at = self.find(name)?;
        self.savepoints.truncate(at + 1);
        let savepoint = &self.savepoints[at];
        self.txn.rollback_to(savepoint.id)?;
        self.working = savepoint.working.clone();
        self.deferred = savepoint.deferred.clone();
        let settings = savepoint.settings.clone();
        if self.state == BlockState::Failed {
            self.become_state(BlockState::Block);
        }
        Ok(settings)
    }

    /// Commits, and makes the changed catalog everybody's before the locks on its objects matter.
    pub async fn commit(mut self, instance: &Instance) -> Result<()> {
        let Some(working) = self.working.take() else {
            return self.txn.commit().await.map(|_| ());
        };
        let changes: Vec<CatalogChange> = working.changes.into_values().collect();
        let pending = instance.catalog.begin_publishing();
        let committed = self.txn.commit().await?;
        instance.catalog.publish(changes, committed);
        drop(pending);
        instance.after_definition();
        Ok(())
    }

    fn find(&self, name: &str) -> Result<usize> {
        self.savepoints
            .iter()
            .rposition(|savepoint| savepoint.name == name)
            .ok_or_else(|| {
                Error::new(
                    SqlState::INVALID_SAVEPOINT_SPECIFICATION,
                    format!("savepoint \"{name}\" does not exist"),
                )
            })
    }
}

/// See [`Active::mark`].
pub struct Mark {
    id: SavepointId,
    working: Option<Working>,
}
