//! The part of a session that functions may touch while a statement runs, from whatever thread.

use super::settings::Settings;
use crate::catalog::Catalog;
use crate::catalog::descriptor::ObjectId;
use crate::cluster::{ClusterActions, ClusterStatus};
use crate::context::{CancelToken, SessionEffects};
use crate::instance::Instance;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use types::{Error, MaybeReady, Result, SqlState};

pub struct SessionShared {
    pub(super) instance: Weak<Instance>,
    pub cancel: CancelToken,
    pub settings: Mutex<Settings>,
    /// Counts changes of `settings`, so that copies made of them know when they are stale.
    pub(super) settings_version: AtomicU64,
    sequences: Mutex<SequenceValues>,
}

/// What `currval` and `lastval` answer.
#[derive(Default)]
struct SequenceValues {
    current: BTreeMap<ObjectId, i64>,
    last: Option<ObjectId>,
}

impl SessionShared {
    pub(crate) fn new(instance: &Arc<Instance>, settings: Settings) -> Self {
        SessionShared {
            instance: Arc::downgrade(instance),
            cancel: CancelToken::default(),
            settings: Mutex::new(settings),
            settings_version: AtomicU64::new(1),
            sequences: Mutex::default(),
        }
    }

    /// Changes settings.
    pub(super) fn with_settings<T>(&self, change: impl FnOnce(&mut Settings) -> T) -> T {
        let result = change(&mut self.settings.lock());
        self.settings_version.fetch_add(1, Ordering::Release);
        result
    }

    /// Like [`SessionShared::with_settings`], for a change that mostly changes nothing: the version
    /// counts up only if something did.
    pub(super) fn with_settings_quietly(&self, change: impl FnOnce(&mut Settings) -> bool) {
        if change(&mut self.settings.lock()) {
            self.settings_version.fetch_add(1, Ordering::Release);
        }
    }

    pub(super) fn forget_sequences(&self) {
        *self.sequences.lock() = SequenceValues::default();
    }

    fn instance(&self) -> Result<Arc<Instance>> {
        self.instance.upgrade().ok_or_else(|| {
            Error::new(
                SqlState::ADMIN_SHUTDOWN,
                "the database system is shutting down",
            )
        })
    }

    fn remember(&self, sequence: ObjectId, value: i64) {
        let mut sequences = self.sequences.lock();
        sequences.current.insert(sequence, value);
        sequences.last = Some(sequence);
    }
}

/// A shared session as the functions of one statement see it.
pub(super) struct Effects {
    pub shared: Arc<SessionShared>,
    /// As the statement sees it: a sequence may be of this transaction.
    pub catalog: Arc<Catalog>,
}

impl SessionEffects for Effects {
    fn cluster(&self) -> Option<Arc<dyn ClusterStatus>> {
        self.shared.instance().ok()?.cluster.get().cloned()
    }

    fn cluster_actions(&self) -> Option<Arc<dyn ClusterActions>> {
        self.shared.instance().ok()?.cluster_actions.get().cloned()
    }

    fn nextval(&self, sequence: ObjectId) -> MaybeReady<Result<i64>> {
        let shared = Arc::clone(&self.shared);
        let next = shared.instance().and_then(|instance| {
            let descriptor = self.catalog.sequence(sequence).ok_or_else(no_sequence)?;
            Ok(instance.sequences.nextval(descriptor))
        });
        match next {
            Err(error) => MaybeReady::ready(Err(error)),
            Ok(MaybeReady::Ready(value)) => {
                if let Some(Ok(value)) = &value {
                    shared.remember(sequence, *value);
                }
                MaybeReady::Ready(value)
            }
            Ok(MaybeReady::Pending(value)) => MaybeReady::pending(async move {
                let value = value.await?;
                shared.remember(sequence, value);
                Ok(value)
            }),
        }
    }

    fn currval(&self, sequence: ObjectId) -> Result<i64> {
        self.shared
            .sequences
            .lock()
            .current
            .get(&sequence)
            .copied()
            .ok_or_else(|| {
                let name = self
                    .catalog
                    .sequence(sequence)
                    .map_or("", |found| found.name.as_str());
                Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("currval of sequence \"{name}\" is not yet defined in this session"),
                )
            })
    }

    fn lastval(&self) -> Result<i64> {
        let sequences = self.shared.sequences.lock();
        let last = sequences.last.and_then(|last| sequences.current.get(&last));
        last.copied().ok_or_else(|| {
            Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "lastval is not yet defined in this session",
            )
        })
    }

    fn setval(&self, sequence: ObjectId, value: i64, is_called: bool) -> MaybeReady<Result<i64>> {
        let set = self.shared.instance().and_then(|instance| {
            let descriptor = self.catalog.sequence(sequence).ok_or_else(no_sequence)?;
            Ok(instance.sequences.setval(descriptor, value, is_called))
        });
        if is_called {
            self.shared.remember(sequence, value);
        }
        set.unwrap_or_else(|error| MaybeReady::ready(Err(error)))
    }

    fn sequence_state(&self, sequence: ObjectId) -> Option<(i64, bool)> {
        let instance = self.shared.instance().ok()?;
        instance
            .sequences
            .known_state(self.catalog.sequence(sequence)?)
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.shared.settings.lock().get(name)
    }

    fn shown_setting(&self, name: &str) -> Option<String> {
        self.shared.settings.lock().shown(name)
    }

    fn set_setting(&self, name: &str, value: &str, local: bool) -> Result<String> {
        self.shared.with_settings(|settings| {
            settings.assign(name, value, local)?;
            settings.show(name)
        })
    }
}

fn no_sequence() -> Error {
    Error::new(SqlState::UNDEFINED_TABLE, "the sequence does not exist")
}
