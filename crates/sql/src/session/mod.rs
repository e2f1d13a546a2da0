//! A session: one client's conversation, from statement text to responses.
//!
//! The wire layer owns a [`Session`] and calls it message by message; it never sees transactions,
//! plans or the catalog. [`simple`] and [`extended`] are the two protocols, `run` carries out one
//! statement, `retry` does so again where that helps, [`transaction`] holds what is open between statements.
//!
//! # Life of a statement
//! 1. Text → [`Prepared`]: from the plan cache by normalised text, or parsed,
//!    analysed and compiled.
//! 2. `Session::execute_prepared`: a transaction is there or begins; the statement gets a snapshot
//!    and a `StatementContext`.
//! 3. The direct executor answers at once, or DataFusion gives a stream of batches that owns its
//!    snapshot.
//! 4. Without a block the transaction commits before the response is given out.

mod analyser;
mod copy;
mod cursors;
mod explain;
pub mod extended;
mod kept;
mod portals;
pub mod prepared;
mod retry;
mod run;
mod scroll;
pub mod settings;
pub(crate) mod settings_table;
pub mod shared;
pub mod simple;
pub mod transaction;
mod utility;

use crate::catalog::descriptor::ObjectId;
use crate::context::{ExprSettings, SessionContext};
use crate::instance::Instance;
use crate::response::{Notice, TransactionStatus};
use kept::Kept;
use portals::Portals;
use prepared::Prepared;
use shared::{Effects, SessionShared};
use std::collections::BTreeMap;
use std::sync::Arc;
use transaction::{Active, BlockState};

pub use simple::SimpleQuery;

pub struct Session {
    instance: Arc<Instance>,
    shared: Arc<SessionShared>,
    pid: i32,
    secret: i32,
    user: Arc<str>,
    database_oid: ObjectId,
    active: Option<Box<Active>>,
    statements: BTreeMap<String, Arc<Prepared>>,
    portals: Portals,
    cursors: BTreeMap<String, scroll::Cursor>,
    copy: Option<copy::CopyIn>,
    notices: Vec<Notice>,
    expr_settings: Arc<ExprSettings>,
    /// See [`crate::plan_cache::PlanCache::space`].
    plan_space: u64,
    kept: Kept,
}

impl Session {
    pub(crate) fn new(
        instance: Arc<Instance>,
        shared: Arc<SessionShared>,
        identity: Identity,
    ) -> Self {
        let expr_settings = ExprSettings {
            time_zone: "UTC".into(),
            user: Arc::clone(&identity.user),
            session_user: Arc::clone(&identity.user),
            database: Arc::clone(&identity.database),
            search_path: Arc::new([]),
            application_name: "".into(),
            backend_pid: identity.pid,
            transaction_micros: 0,
            statement_micros: 0,
        };
        let catalog = instance.catalog.current();
        let context = SessionContext {
            effects: Arc::new(Effects {
                shared: Arc::clone(&shared),
                catalog: Arc::clone(&catalog),
            }),
            catalog,
            cancel: shared.cancel.clone(),
            env: instance.env.clone(),
            lock_timeout_nanos: None,
            row_ids: Arc::clone(&instance.row_ids),
        };
        let mut session = Session {
            instance,
            shared,
            pid: identity.pid,
            secret: identity.secret,
            user: identity.user,
            database_oid: identity.database_oid,
            active: None,
            statements: BTreeMap::new(),
            portals: Portals::default(),
            cursors: BTreeMap::new(),
            copy: None,
            notices: Vec::new(),
            expr_settings: Arc::new(expr_settings),
            plan_space: 0,
            kept: Kept::new(context),
        };
        session.refresh_settings();
        session
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The other half of the key of cancel requests.
    pub fn secret(&self) -> i32 {
        self.secret
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    /// For ReadyForQuery.
    pub fn status(&self) -> TransactionStatus {
        match self.active.as_ref().map(|active| active.state) {
            None | Some(BlockState::Implicit) => TransactionStatus::Idle,
            Some(BlockState::Block) => TransactionStatus::InBlock,
            Some(BlockState::Failed) => TransactionStatus::Failed,
        }
    }

    /// ParameterStatus messages at the end of start-up.
    pub fn startup_parameters(&self) -> Vec<(String, String)> {
        let mut all = self.shared.settings.lock().reported();
        all.push(("session_authorization".to_string(), self.user.to_string()));
        all
    }

    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Cancels what runs, from another task.
    pub fn cancel_token(&self) -> crate::context::CancelToken {
        self.shared.cancel.clone()
    }

    /// The wire layer failed while it streamed rows: the transaction is as after any error.
    pub fn fail(&mut self) {
        match &mut self.active {
            Some(active) if active.state == BlockState::Block => {
                active.become_state(BlockState::Failed);
            }
            Some(active) if active.state == BlockState::Implicit => self.abort(),
            _ => {}
        }
    }

    /// Rolls back whatever is open.
    fn abort(&mut self) {
        if let Some(mut active) = self.active.take() {
            active.txn.rollback();
        }
        self.after_transaction(false);
    }

    fn after_transaction(&mut self, committed: bool) {
        self.portals.clear();
        if !self.cursors.is_empty() {
            self.cursors.retain(|_, cursor| cursor.hold);
        }
        self.end_settings(committed);
    }

    fn end_settings(&self, committed: bool) {
        self.shared
            .with_settings_quietly(|settings| settings.end_transaction(committed));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.instance.forget(self.pid);
    }
}

/// Who a session is.
pub(crate) struct Identity {
    pub pid: i32,
    pub secret: i32,
    pub user: Arc<str>,
    pub database: Arc<str>,
    pub database_oid: ObjectId,
}
