//! What a session keeps ready for its next statement: copies of settings, the catalog, how values are
//! read and written. Statements look at it several times each; it is made anew only when what it was
//! made from has changed, which a version number tells.

use super::shared::Effects;
use super::{Session, TransactionStatus};
use crate::catalog::Catalog;
use crate::context::{ExprSettings, ReadView, SessionContext, StatementContext};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use txn::kv::Isolation;
use types::text::FormatContext;
use types::timezone::TimeZone;

/// See the module.
pub(super) struct Kept {
    /// Version of the settings that the copies are of.
    settings_version: u64,
    /// The same for [`Session::take_parameter_changes`].
    reported_version: u64,
    /// Version of the committed catalog when `context` was made; `None` if that has a working copy.
    catalog_version: Option<u64>,
    context: Arc<SessionContext>,
    format: Arc<FormatContext>,
    pub lock_timeout: Option<Duration>,
    pub statement_timeout: Option<Duration>,
    idle_session_timeout: Option<Duration>,
    idle_in_transaction_timeout: Option<Duration>,
    pub default_isolation: Isolation,
    pub default_read_only: bool,
}

impl Kept {
    pub fn new(context: SessionContext) -> Kept {
        Kept {
            settings_version: 0,
            reported_version: 0,
            catalog_version: None,
            context: Arc::new(context),
            format: Arc::default(),
            lock_timeout: None,
            statement_timeout: None,
            idle_session_timeout: None,
            idle_in_transaction_timeout: None,
            default_isolation: Isolation::default(),
            default_read_only: false,
        }
    }
}

impl Session {
    /// ParameterStatus messages due since the last call.
    pub fn take_parameter_changes(&mut self) -> Vec<(String, String)> {
        let version = self.shared.settings_version.load(Ordering::Acquire);
        if version == self.kept.reported_version {
            return Vec::new();
        }
        self.kept.reported_version = version;
        self.shared.settings.lock().take_changed()
    }

    /// How long the client may stay silent now, and the error for when it does.
    pub fn idle_timeout(&mut self) -> Option<Duration> {
        self.refresh_settings();
        match self.status() {
            TransactionStatus::Idle => self.kept.idle_session_timeout,
            _ => self.kept.idle_in_transaction_timeout,
        }
    }

    /// How values are read and written as text.
    pub fn format_context(&self) -> &Arc<FormatContext> {
        &self.kept.format
    }

    /// The catalog as this session sees it now.
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        match self.working_catalog() {
            Some(working) => Arc::clone(working),
            None => self.instance.catalog.current(),
        }
    }

    /// Whether the session's catalog is still this one. Cheaper than [`Session::catalog`]: no counter
    /// that all sessions share is touched.
    pub(super) fn sees_catalog(&self, catalog: &Arc<Catalog>) -> bool {
        match self.working_catalog() {
            Some(working) => Arc::ptr_eq(working, catalog),
            None if self.is_context_current() => Arc::ptr_eq(&self.kept.context.catalog, catalog),
            None => Arc::ptr_eq(&self.instance.catalog.current(), catalog),
        }
    }

    fn working_catalog(&self) -> Option<&Arc<Catalog>> {
        let active = self.active.as_ref()?;
        active.working.as_ref().map(|working| &working.catalog)
    }

    fn is_context_current(&self) -> bool {
        match self.working_catalog() {
            Some(working) => Arc::ptr_eq(working, &self.kept.context.catalog),
            None => self.kept.catalog_version == Some(self.instance.catalog.version()),
        }
    }

    /// Takes over settings that have changed.
    pub(super) fn refresh_settings(&mut self) {
        let version = self.shared.settings_version.load(Ordering::Acquire);
        if version == self.kept.settings_version {
            return;
        }
        let settings = self.shared.settings.lock();
        let copy = Arc::make_mut(&mut self.expr_settings);
        copy.time_zone = settings.get("timezone").unwrap_or_default().into();
        copy.application_name = settings.get("application_name").unwrap_or_default().into();
        copy.search_path = settings.search_path(&self.user).into();
        let kept = &mut self.kept;
        kept.settings_version = version;
        kept.lock_timeout = settings.timeout("lock_timeout");
        kept.statement_timeout = settings.timeout("statement_timeout");
        kept.idle_session_timeout = settings.timeout("idle_session_timeout");
        kept.idle_in_transaction_timeout = settings.timeout("idle_in_transaction_session_timeout");
        kept.default_isolation = settings.default_isolation();
        kept.default_read_only = settings.flag("default_transaction_read_only");
        drop(settings);
        self.plan_space = self.instance.plans.space(
            self.database_oid,
            &self.user,
            &self.expr_settings.search_path,
        );
        self.make_context();
    }

    /// The surroundings of a statement that reads `view`.
    pub(super) fn context(&mut self, view: ReadView) -> StatementContext {
        if !self.is_context_current() {
            self.make_context();
        }
        StatementContext {
            view,
            settings: Arc::clone(&self.expr_settings),
            session: Arc::clone(&self.kept.context),
            read_only: self.is_read_only(),
            parts: None,
        }
    }

    fn make_context(&mut self) {
        // Before the catalog itself: a publication in between is noticed then.
        let version = self.instance.catalog.version();
        let catalog = self.catalog();
        self.kept.catalog_version = self.working_catalog().is_none().then_some(version);
        self.kept.format = Arc::new(FormatContext {
            time_zone: TimeZone::parse(&self.expr_settings.time_zone).unwrap_or_default(),
            now: self.expr_settings.transaction_micros,
            object_names: Some(Arc::new(CatalogNames {
                catalog: Arc::clone(&catalog),
                settings: ExprSettings::clone(&self.expr_settings),
            })),
            ..FormatContext::default()
        });
        let lock_timeout = self.kept.lock_timeout;
        self.kept.context = Arc::new(SessionContext {
            effects: Arc::new(Effects {
                shared: Arc::clone(&self.shared),
                catalog: Arc::clone(&catalog),
            }),
            catalog,
            cancel: self.shared.cancel.clone(),
            env: self.instance.env.clone(),
            lock_timeout_nanos: lock_timeout.map(|timeout| timeout.as_nanos() as u64),
            row_ids: Arc::clone(&self.instance.row_ids),
        });
    }

    /// Sets what `now()` answers, and `now` as input.
    pub(super) fn set_transaction_time(&mut self, micros: i64) {
        Arc::make_mut(&mut self.expr_settings).transaction_micros = micros;
        Arc::make_mut(&mut self.kept.format).now = micros;
    }
}

/// Names of objects as the session's search path shows them.
#[derive(Debug)]
struct CatalogNames {
    catalog: Arc<Catalog>,
    settings: ExprSettings,
}

impl types::ObjectNames for CatalogNames {
    fn show(&self, oid: u32, sql_type: &types::SqlType) -> String {
        crate::query::object_names::show(oid, sql_type, &self.catalog, &self.settings)
    }
}
