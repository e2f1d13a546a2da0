//! A session: one client's conversation, from statement text to responses.
//!
//! The wire layer owns a [`Session`] and calls it message by message; it never sees transactions,
//! plans or the catalog. [`simple`] and [`extended`] are the two protocols, `run` carries out one
//! statement, [`transaction`] holds what is open between statements.
//!
//! # Life of a statement
//! 1. Text → [`Prepared`]: from the plan cache by normalised text, or parsed,
//!    analysed and compiled.
//! 2. `Session::execute_prepared`: a transaction is there or begins; the statement gets a snapshot
//!    and a [`StatementContext`].
//! 3. The direct executor answers at once, or DataFusion gives a stream of batches that owns its
//!    snapshot.
//! 4. Without a block the transaction commits before the response is given out.

mod analyser;
mod copy;
mod cursors;
mod explain;
pub mod extended;
pub mod prepared;
mod run;
pub mod settings;
pub(crate) mod settings_table;
pub mod shared;
pub mod simple;
pub mod transaction;
mod utility;

use crate::catalog::Catalog;
use crate::catalog::descriptor::ObjectId;
use crate::context::{ExprSettings, ReadView, StatementContext};
use crate::instance::Instance;
use crate::response::{Notice, RowCursor, TransactionStatus};
use extended::Portal;
use prepared::Prepared;
use shared::{Effects, SessionShared};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use transaction::{Active, BlockState};
use types::text::FormatContext;
use types::timezone::TimeZone;

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
    portals: BTreeMap<String, Portal>,
    cursors: BTreeMap<String, Cursor>,
    copy: Option<copy::CopyIn>,
    notices: Vec<Notice>,
    /// Copies of settings that every statement needs, and the version they were made from.
    expr_settings: Arc<ExprSettings>,
    lock_timeout: Option<Duration>,
    statement_timeout: Option<Duration>,
    settings_version: u64,
    /// See [`crate::plan_cache::PlanCache::space`].
    plan_space: u64,
    /// Made anew when the catalog changes.
    effects: Arc<Effects>,
}

/// A cursor of DECLARE.
struct Cursor {
    rows: RowCursor,
    /// WITH HOLD: outlives its transaction.
    hold: bool,
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
        let effects = Effects {
            shared: Arc::clone(&shared),
            catalog: instance.catalog.current(),
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
            portals: BTreeMap::new(),
            cursors: BTreeMap::new(),
            copy: None,
            notices: Vec::new(),
            expr_settings: Arc::new(expr_settings),
            lock_timeout: None,
            statement_timeout: None,
            settings_version: 0,
            plan_space: 0,
            effects: Arc::new(effects),
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

    /// ParameterStatus messages due since the last call.
    pub fn take_parameter_changes(&mut self) -> Vec<(String, String)> {
        self.shared.settings.lock().take_changed()
    }

    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Cancels what runs, from another task.
    pub fn cancel_token(&self) -> crate::context::CancelToken {
        self.shared.cancel.clone()
    }

    /// How long the client may stay silent now, and the error for when it does.
    pub fn idle_timeout(&self) -> Option<Duration> {
        let settings = self.shared.settings.lock();
        match self.status() {
            TransactionStatus::Idle => settings.timeout("idle_session_timeout"),
            _ => settings.timeout("idle_in_transaction_session_timeout"),
        }
    }

    /// How values are written as text.
    pub fn encode_context(&self) -> FormatContext {
        FormatContext {
            time_zone: TimeZone::parse(&self.expr_settings.time_zone).unwrap_or_default(),
            now: self.expr_settings.transaction_micros,
            object_names: Some(Arc::new(CatalogNames {
                catalog: self.catalog(),
                settings: Arc::clone(&self.expr_settings),
            })),
            ..FormatContext::default()
        }
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

    /// The catalog as this session sees it now.
    fn catalog(&self) -> Arc<Catalog> {
        match self
            .active
            .as_ref()
            .and_then(|active| active.working.as_ref())
        {
            Some(working) => Arc::clone(&working.catalog),
            None => self.instance.catalog.current(),
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
        self.shared
            .with_settings_quietly(|settings| settings.end_transaction(committed));
    }

    /// Takes over settings that have changed.
    fn refresh_settings(&mut self) {
        let version = self.shared.settings_version.load(Ordering::Acquire);
        if version == self.settings_version {
            return;
        }
        self.settings_version = version;
        let settings = self.shared.settings.lock();
        let search_path: Arc<[String]> = settings.search_path(&self.user).into();
        let copy = Arc::make_mut(&mut self.expr_settings);
        copy.time_zone = settings.get("timezone").unwrap_or_default().into();
        copy.application_name = settings.get("application_name").unwrap_or_default().into();
        copy.search_path = search_path;
        self.lock_timeout = settings.timeout("lock_timeout");
        self.statement_timeout = settings.timeout("statement_timeout");
        let path = &self.expr_settings.search_path;
        self.plan_space = self
            .instance
            .plans
            .space(self.database_oid, &self.user, path);
    }

    /// The surroundings of a statement that reads `view`.
    fn context(&mut self, view: ReadView) -> StatementContext {
        let catalog = self.catalog();
        if !Arc::ptr_eq(&catalog, &self.effects.catalog) {
            let shared = Arc::clone(&self.shared);
            self.effects = Arc::new(Effects {
                shared,
                catalog: Arc::clone(&catalog),
            });
        }
        StatementContext {
            view,
            catalog,
            settings: Arc::clone(&self.expr_settings),
            cancel: self.shared.cancel.clone(),
            env: self.instance.env.clone(),
            effects: Arc::clone(&self.effects) as _,
            lock_timeout_nanos: self.lock_timeout.map(|timeout| timeout.as_nanos() as u64),
            row_ids: Arc::clone(&self.instance.row_ids),
            parts: None,
        }
    }
}

/// Names of objects as the session's search path shows them.
#[derive(Debug)]
struct CatalogNames {
    catalog: Arc<Catalog>,
    settings: Arc<ExprSettings>,
}

impl types::ObjectNames for CatalogNames {
    fn show(&self, oid: u32, sql_type: &types::SqlType) -> String {
        crate::query::object_names::show(oid, sql_type, &self.catalog, &self.settings)
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
