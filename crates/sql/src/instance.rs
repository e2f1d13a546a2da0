//! One node's SQL side: what all its sessions share.

use crate::catalog::ids::{IdAllocator, RowIds};
use crate::catalog::sequences::Sequences;
use crate::catalog::shared::SharedCatalog;
use crate::catalog::store;
use crate::cluster::{ClusterActions, ClusterStatus};
use crate::context::ReadView;
use crate::ddl::cleanup;
use crate::functions::Registry;
use crate::pg_catalog::{VirtualTables, virtual_tables};
use crate::plan_cache::PlanCache;
use crate::query::Runtime;
use crate::session::settings::Settings;
use crate::session::shared::SessionShared;
use crate::session::{Identity, Session};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use txn::{Coordinator, Isolation, Limits, ReadScope};
use types::env::Env;
use types::{Error, Result, SqlState};

#[derive(Clone, Debug)]
pub struct InstanceOptions {
    /// Memory of queries: hash tables, sorts. Bytes.
    pub query_memory_bytes: usize,
    /// Of it, what decoded columns may keep between queries. Bytes; 0: none are kept.
    pub column_cache_bytes: usize,
    /// Memory of open transactions. Bytes.
    pub transaction_memory_bytes: usize,
    /// Threads a query is spread over.
    pub parallelism: usize,
}

impl Default for InstanceOptions {
    fn default() -> Self {
        InstanceOptions {
            query_memory_bytes: 1 << 30,
            column_cache_bytes: 256 << 20,
            transaction_memory_bytes: 3 << 29,
            parallelism: 2,
        }
    }
}

impl InstanceOptions {
    /// What the coordinator of this instance is to be limited to. One large load leaves a quarter to all others.
    pub fn transaction_limits(&self) -> Limits {
        Limits {
            transaction_bytes: self.transaction_memory_bytes / 4 * 3,
            node_bytes: self.transaction_memory_bytes,
        }
    }
}

/// What a client's start-up packet says.
#[derive(Clone, Debug, Default)]
pub struct StartupParams {
    pub user: String,
    /// Empty: the user's name.
    pub database: String,
    pub application_name: String,
    /// Other run-time parameters.
    pub options: Vec<(String, String)>,
    pub client_addr: Option<std::net::SocketAddr>,
}

pub struct Instance {
    pub coordinator: Coordinator,
    pub env: Env,
    pub catalog: SharedCatalog,
    pub registry: Arc<Registry>,
    pub virtual_tables: Arc<VirtualTables>,
    pub runtime: Runtime,
    pub sequences: Sequences,
    pub ids: IdAllocator,
    pub plans: PlanCache,
    pub row_ids: Arc<RowIds>,
    /// Set once by a node that belongs to a cluster.
    pub cluster: OnceLock<Arc<dyn ClusterStatus>>,
    /// The same.
    pub cluster_actions: OnceLock<Arc<dyn ClusterActions>>,
    sessions: Mutex<BTreeMap<i32, SessionEntry>>,
    next_pid: AtomicI32,
    /// Definitions since the cleaner last found nothing to do; 0: it does not run.
    cleanups: Arc<AtomicUsize>,
}

struct SessionEntry {
    secret: i32,
    shared: Arc<SessionShared>,
}

/// How a role may log in.
#[derive(Clone, Debug)]
pub struct RoleAuth {
    pub can_login: bool,
    /// SCRAM-SHA-256 verifier in PostgreSQL's text form.
    pub verifier: Option<String>,
}

impl Instance {
    /// Reads the catalog, or writes the first one.
    pub async fn open(
        coordinator: Coordinator,
        env: Env,
        options: InstanceOptions,
    ) -> Result<Arc<Instance>> {
        store::bootstrap(&coordinator).await?;
        let mut txn = coordinator.begin(Isolation::RepeatableRead, true);
        let at = txn.begin_statement(ReadScope::All).await?;
        let shards = Arc::clone(coordinator.shards());
        let view = ReadView {
            shards,
            at,
            overlay: None,
            reads: None,
            guard: None,
        };
        let catalog = store::load(&view).await?;
        txn.rollback();
        let registry = Arc::new(Registry::with_all());
        let instance = Arc::new(Instance {
            runtime: Runtime::new(
                options.query_memory_bytes,
                options.column_cache_bytes,
                options.parallelism,
            )?,
            virtual_tables: virtual_tables(),
            registry,
            catalog: SharedCatalog::new(catalog, at),
            sequences: Sequences::new(coordinator.clone()),
            ids: IdAllocator::new(coordinator.clone()),
            plans: PlanCache::default(),
            row_ids: Arc::new(RowIds::new(coordinator.clone())),
            cluster: OnceLock::new(),
            cluster_actions: OnceLock::new(),
            sessions: Mutex::default(),
            next_pid: AtomicI32::new(1),
            cleanups: Arc::default(),
            coordinator,
            env,
        });
        instance.after_definition();
        Ok(instance)
    }

    /// Brings the catalog up to what the shards' answers have told of.
    pub(crate) async fn catch_up(&self) -> Result<()> {
        self.catalog.catch_up(&self.coordinator).await
    }

    /// Brings the catalog up to now: definitions acknowledged before this call are in it, whichever
    /// gateway they were made at.
    pub(crate) async fn see_definitions(&self) -> Result<()> {
        let definitions = ReadScope::Spans(&[]);
        self.coordinator.read_timestamp(definitions).await?;
        self.catch_up().await
    }

    /// Makes a session for an authenticated role.
    pub async fn connect(self: &Arc<Self>, params: StartupParams) -> Result<Session> {
        self.see_definitions().await?;
        let catalog = self.catalog.current();
        let role = catalog
            .role_by_name(&params.user)
            .filter(|role| role.can_login);
        if role.is_none() {
            return Err(Error::new(
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                format!("role \"{}\" does not exist or may not log in", params.user),
            ));
        }
        let name = match params.database.is_empty() {
            true => params.user.clone(),
            false => params.database,
        };
        let database = catalog.database_by_name(&name).ok_or_else(|| {
            Error::new(
                SqlState::INVALID_CATALOG_NAME,
                format!("database \"{name}\" does not exist"),
            )
        })?;
        let mut settings = Settings::default();
        settings.set_startup("application_name", &params.application_name)?;
        for (name, value) in &params.options {
            settings.set_startup(name, value)?;
        }
        let identity = Identity {
            pid: self.next_pid.fetch_add(1, Ordering::Relaxed),
            secret: self.env.rng.next_u64() as i32,
            user: params.user.into(),
            database: name.into(),
            database_oid: database.oid,
        };
        let shared = Arc::new(SessionShared::new(self, settings));
        let entry = SessionEntry {
            secret: identity.secret,
            shared: Arc::clone(&shared),
        };
        self.sessions.lock().insert(identity.pid, entry);
        Ok(Session::new(Arc::clone(self), shared, identity))
    }

    /// What SCRAM needs to know of a role; `None` if there is none of that name.
    pub async fn role_password(&self, user: &str) -> Result<Option<RoleAuth>> {
        self.see_definitions().await?;
        let catalog = self.catalog.current();
        let role = catalog.role_by_name(user);
        Ok(role.map(|role| RoleAuth {
            can_login: role.can_login,
            verifier: role.password.clone(),
        }))
    }

    /// Whether anybody can log in with a password: without, only a trusted network may be served.
    pub fn has_login_with_password(&self) -> bool {
        self.catalog
            .current()
            .roles()
            .any(|role| role.can_login && role.password.is_some())
    }

    /// A cancel request: ignored unless the secret is right.
    pub fn cancel(&self, pid: i32, secret: i32) {
        let sessions = self.sessions.lock();
        if let Some(entry) = sessions.get(&pid).filter(|entry| entry.secret == secret) {
            entry.shared.cancel.cancel(false);
        }
    }

    pub fn session_count(&self) -> usize {
        self.sessions.lock().len()
    }

    pub(crate) fn forget(&self, pid: i32) {
        self.sessions.lock().remove(&pid);
    }

    /// After a definition was published: rows of dropped and truncated tables are deleted beside.
    pub(crate) fn after_definition(&self) {
        if self.cleanups.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        let coordinator = self.coordinator.clone();
        let clock = Arc::clone(&self.env.clock);
        let cleanups = Arc::clone(&self.cleanups);
        let task = async move {
            let began_nanos = clock.monotonic_nanos();
            let mut position = cleanup::Position::default();
            let mut seen = cleanups.load(Ordering::Acquire);
            loop {
                match cleanup::delete_dropped(&coordinator, &mut position).await {
                    Ok(Some(rows)) => {
                        let since = clock.monotonic_nanos().saturating_sub(began_nanos);
                        let since = Duration::from_nanos(since);
                        clock.sleep(cleanup::pause_after(rows, since)).await;
                    }
                    done => {
                        if let Err(error) = done {
                            tracing::warn!("rows of dropped tables are left for later: {error}");
                        }
                        let ended =
                            cleanups.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Acquire);
                        match ended {
                            Ok(_) => return,
                            // More was dropped meanwhile.
                            Err(now) => seen = now,
                        }
                    }
                }
            }
        };
        self.env.spawn.spawn("cleanup", Box::pin(task));
    }
}
