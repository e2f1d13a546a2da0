//! What a DDL statement works with.

use super::analysis::Analyser;
use crate::catalog::descriptor::*;
use crate::catalog::ids::IdAllocator;
use crate::catalog::shared::CatalogChange;
use crate::catalog::store::{self, NameKind};
use crate::catalog::{Catalog, Relation, descriptor_oid};
use crate::context::{ReadView, StatementContext};
use crate::response::Notice;
use crate::table_codec::table_lock_key;
use sharding::table_rule::rule_key;
use std::collections::BTreeMap;
use std::sync::Arc;
use txn::Transaction;
use txn::kv::{LockMode, ReadScope, WaitPolicy};
use types::key::FIRST_SEPARATE_TABLE_ID;
use types::{Error, Result, SqlState};

/// A statement's surroundings. See [`super`] for how its parts play together.
pub struct DdlContext<'a> {
    pub txn: &'a mut Transaction,
    /// The transaction's working copy.
    pub catalog: &'a mut Arc<Catalog>,
    /// The last change of each object in this transaction, to be published at commit.
    pub changes: &'a mut BTreeMap<ObjectId, CatalogChange>,
    pub database: ObjectId,
    /// Settings, clock and snapshot for expressions that are evaluated on rows.
    pub statement: &'a StatementContext,
    pub notices: &'a mut Vec<Notice>,
    pub ids: &'a IdAllocator,
    pub analyser: &'a dyn Analyser,
    /// From `lock_timeout`.
    pub wait: WaitPolicy,
}

impl DdlContext<'_> {
    pub(super) fn notice(&mut self, message: impl Into<String>) {
        self.notices.push(Notice {
            severity: "NOTICE",
            body: Error::new(SqlState::SUCCESSFUL_COMPLETION, message),
        });
    }

    pub(super) fn notice_of(&mut self, state: SqlState, message: impl Into<String>) {
        self.notices.push(Notice {
            severity: "NOTICE",
            body: Error::new(state, message),
        });
    }

    pub(super) fn warning(&mut self, state: SqlState, message: impl Into<String>) {
        self.notices.push(Notice {
            severity: "WARNING",
            body: Error::new(state, message),
        });
    }

    /// The object id of the current user; unknown users own nothing and pass as the bootstrap role.
    pub(super) fn owner(&self) -> ObjectId {
        self.catalog
            .role_by_name(&self.statement.settings.user)
            .map_or(store::BOOTSTRAP_ROLE_OID, |role| role.oid)
    }

    pub(super) fn is_superuser(&self) -> bool {
        self.catalog
            .role_by_name(&self.statement.settings.user)
            .is_some_and(|role| role.superuser)
    }

    pub(super) fn must_own(&self, owner: ObjectId, what: &str, name: &str) -> Result<()> {
        if self.is_superuser() || self.owner() == owner {
            return Ok(());
        }
        Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("must be owner of {what} {name}"),
        ))
    }

    // ---- writing ----------------------------------------------------------------------------

    /// Writes a descriptor and puts it into the working copy. The caller holds its lock or made it.
    pub(super) fn put(&mut self, descriptor: Descriptor) -> Result<()> {
        if let Descriptor::Table(table) = &descriptor {
            super::sharding::check(table)?;
            self.put_rule(table)?;
        }
        store::write(self.txn, &descriptor)?;
        let oid = descriptor_oid(&descriptor);
        Arc::make_mut(self.catalog).put(descriptor.clone());
        self.changes.insert(oid, CatalogChange::Put(descriptor));
        Ok(())
    }

    /// Counts the table's version up and writes it.
    pub(super) fn put_table(&mut self, mut table: Table) -> Result<Arc<Table>> {
        table.version += 1;
        let oid = table.oid;
        self.put(Descriptor::Table(table))?;
        self.catalog
            .table(oid)
            .cloned()
            .ok_or_else(|| Error::internal("a table vanished from the working copy"))
    }

    /// Writes what a table asks of its shards, and forgets what it asked under another data id.
    pub(super) fn put_rule(&mut self, table: &Table) -> Result<()> {
        let rule = table.rule(self.catalog)?;
        if let Some(before) = self.catalog.table(table.oid)
            && !before.rule(self.catalog)?.is_empty()
            && (before.data_id != table.data_id || rule.is_empty())
        {
            self.txn.delete(rule_key(before.data_id))?;
        }
        if !rule.is_empty() {
            self.txn.put(rule_key(table.data_id), rule.encode())?;
        }
        Ok(())
    }

    /// Writes the rule of a table whose database asks for something else than before.
    pub(super) fn rewrite_rule(&mut self, table: &Table) -> Result<()> {
        let rule = table.rule(self.catalog)?;
        match rule.is_empty() {
            true => self.txn.delete(rule_key(table.data_id)),
            false => self.txn.put(rule_key(table.data_id), rule.encode()),
        }
    }

    /// A new data id for a table's rows: behind all others if they are to have shards of their own.
    pub(super) async fn data_id_for(&self, table: &Table) -> Result<u32> {
        let id = self.ids.data_id().await?;
        let separate = !table.sharding.is_default() || table.replication_factor.is_some();
        Ok(match separate {
            true => id | FIRST_SEPARATE_TABLE_ID,
            false => id,
        })
    }

    pub(super) fn remove(&mut self, oid: ObjectId) -> Result<()> {
        if let Some(table) = self.catalog.table(oid)
            && !table.rule(self.catalog)?.is_empty()
        {
            self.txn.delete(rule_key(table.data_id))?;
        }
        store::delete(self.txn, oid)?;
        Arc::make_mut(self.catalog).remove(oid);
        self.changes.insert(oid, CatalogChange::Remove(oid));
        Ok(())
    }

    // ---- names ------------------------------------------------------------------------------

    /// Locks a name and says whether an object has it, also one that this transaction's picture does
    /// not show yet.
    pub(super) async fn name_is_taken(
        &mut self,
        kind: NameKind,
        parent: ObjectId,
        name: &str,
    ) -> Result<bool> {
        let key = store::name_key(kind, parent, name);
        Ok(store::lock_name(self.txn, &key, self.wait).await?.is_some())
    }

    /// Gives a name to an object; PostgreSQL's error if it is taken.
    pub(super) async fn claim_name(
        &mut self,
        kind: NameKind,
        parent: ObjectId,
        name: &str,
        oid: ObjectId,
    ) -> Result<()> {
        if self.name_is_taken(kind, parent, name).await? {
            return Err(store::name_taken(kind, name));
        }
        store::write_name(self.txn, store::name_key(kind, parent, name), oid)
    }

    pub(super) async fn free_name(
        &mut self,
        kind: NameKind,
        parent: ObjectId,
        name: &str,
    ) -> Result<()> {
        let key = store::name_key(kind, parent, name);
        store::lock_name(self.txn, &key, self.wait).await?;
        self.txn.delete(key)
    }

    pub(super) async fn rename_relation(
        &mut self,
        schema: ObjectId,
        old: &str,
        new: &str,
        oid: ObjectId,
    ) -> Result<()> {
        self.claim_name(NameKind::Relation, schema, new, oid)
            .await?;
        self.free_name(NameKind::Relation, schema, old).await
    }

    // ---- locking and refreshing -------------------------------------------------------------

    /// Locks an object and brings the working copy to its newest state.
    async fn refresh(&mut self, oid: ObjectId, mode: LockMode) -> Result<bool> {
        let found = store::refresh(self.txn, oid, mode, self.wait).await?;
        match found {
            Some(descriptor) => {
                if self.catalog.descriptor(oid).as_ref() != Some(&descriptor) {
                    Arc::make_mut(self.catalog).put(descriptor);
                }
                Ok(true)
            }
            None => {
                Arc::make_mut(self.catalog).remove(oid);
                Ok(false)
            }
        }
    }

    /// Locks a table against everything and returns its newest descriptor.
    pub(super) async fn lock_table(&mut self, oid: ObjectId) -> Result<Arc<Table>> {
        self.txn
            .lock(&table_lock_key(oid), LockMode::Update, self.wait)
            .await?;
        self.refresh(oid, LockMode::Update).await?;
        self.catalog.table(oid).cloned().ok_or_else(|| gone(oid))
    }

    /// Keeps a table from being changed or dropped while something that refers to it is made.
    pub(super) async fn hold_table(&mut self, oid: ObjectId) -> Result<Arc<Table>> {
        self.refresh(oid, LockMode::Share).await?;
        self.catalog.table(oid).cloned().ok_or_else(|| gone(oid))
    }

    pub(super) async fn lock_sequence(&mut self, oid: ObjectId) -> Result<Arc<Sequence>> {
        self.refresh(oid, LockMode::Update).await?;
        self.catalog.sequence(oid).cloned().ok_or_else(|| gone(oid))
    }

    pub(super) async fn lock_view(&mut self, oid: ObjectId) -> Result<Arc<View>> {
        self.refresh(oid, LockMode::Update).await?;
        self.catalog.view(oid).cloned().ok_or_else(|| gone(oid))
    }

    pub(super) async fn lock_schema(&mut self, oid: ObjectId) -> Result<Arc<Schema>> {
        self.refresh(oid, LockMode::Update).await?;
        self.catalog.schema(oid).cloned().ok_or_else(|| gone(oid))
    }

    pub(super) async fn lock_role(&mut self, oid: ObjectId) -> Result<Arc<Role>> {
        self.refresh(oid, LockMode::Update).await?;
        self.catalog.role(oid).cloned().ok_or_else(|| gone(oid))
    }

    /// Keeps the definition of a table from being changed, not its rows.
    pub(super) async fn lock_definition(&mut self, oid: ObjectId) -> Result<Option<Arc<Table>>> {
        self.refresh(oid, LockMode::Update).await?;
        Ok(self.catalog.table(oid).cloned())
    }

    /// Keeps the current database as it is while something is made in it.
    pub(super) async fn hold_database(&mut self) -> Result<()> {
        match self.catalog.database(self.database) {
            Some(_) => self
                .refresh(self.database, LockMode::KeyShare)
                .await
                .map(drop),
            None => Ok(()),
        }
    }

    pub(super) async fn lock_database(&mut self, oid: ObjectId) -> Result<Arc<Database>> {
        self.refresh(oid, LockMode::Update).await?;
        self.catalog.database(oid).cloned().ok_or_else(|| gone(oid))
    }

    /// What is committed now with the own writes on top, whatever the transaction's snapshot: for rows of
    /// tables that are locked.
    pub(super) async fn newest_view(&self) -> Result<ReadView> {
        let shards = Arc::clone(&self.statement.view.shards);
        let at = shards.read_timestamp(ReadScope::All).await?;
        Ok(ReadView {
            shards,
            at,
            overlay: self.txn.overlay(),
            reads: None,
            // The transaction's own snapshot is older, and holds what it sees.
            guard: None,
        })
    }

    // ---- resolving --------------------------------------------------------------------------

    /// The schema in which a new object of this name goes, kept from being dropped meanwhile.
    pub(super) async fn creation_schema(&mut self, schema: Option<&str>) -> Result<Arc<Schema>> {
        let found = match schema {
            Some(name) => self.require_schema(name)?,
            None => {
                let path = self.statement.settings.search_path.clone();
                let user = self.statement.settings.user.clone();
                path.iter()
                    .map(|name| {
                        if name == "$user" {
                            &user
                        } else {
                            name.as_str()
                        }
                    })
                    .find_map(|name| self.catalog.schema_by_name(self.database, name).cloned())
                    .ok_or_else(|| {
                        Error::new(
                            SqlState::INVALID_SCHEMA_NAME,
                            "no schema has been selected to create in",
                        )
                    })?
            }
        };
        self.refresh(found.oid, LockMode::KeyShare).await?;
        self.catalog
            .schema(found.oid)
            .cloned()
            .ok_or_else(|| schema_missing(&found.name))
    }

    pub(super) fn require_schema(&self, name: &str) -> Result<Arc<Schema>> {
        if let Some(schema) = self.catalog.schema_by_name(self.database, name) {
            return Ok(Arc::clone(schema));
        }
        if is_built_in_schema(name) {
            return Err(Error::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("permission denied: \"{name}\" is a system catalog"),
            ));
        }
        Err(schema_missing(name))
    }

    pub(super) fn resolve(&self, schema: Option<&str>, name: &str) -> Option<Relation> {
        self.catalog.resolve(
            self.database,
            &self.statement.settings.search_path,
            schema,
            name,
        )
    }

    pub(super) fn require(&self, schema: Option<&str>, name: &str) -> Result<Relation> {
        self.catalog.require(
            self.database,
            &self.statement.settings.search_path,
            schema,
            name,
        )
    }

    pub(super) fn require_role(&self, name: &str) -> Result<ObjectId> {
        self.catalog
            .role_by_name(name)
            .map(|role| role.oid)
            .ok_or_else(|| {
                Error::new(
                    SqlState::UNDEFINED_OBJECT,
                    format!("role \"{name}\" does not exist"),
                )
            })
    }
}

pub(super) fn is_built_in_schema(name: &str) -> bool {
    matches!(name, "pg_catalog" | "information_schema" | "phantom")
}

pub(super) fn schema_missing(name: &str) -> Error {
    Error::new(
        SqlState::INVALID_SCHEMA_NAME,
        format!("schema \"{name}\" does not exist"),
    )
}

/// An object that another transaction dropped between resolving its name and locking it.
pub(super) fn gone(oid: ObjectId) -> Error {
    Error::new(
        SqlState::UNDEFINED_TABLE,
        format!("relation with OID {oid} does not exist"),
    )
}

/// PostgreSQL's 42809 for a relation of another kind than the statement names.
pub(super) fn wrong_kind(name: &str, kind: &str) -> Error {
    Error::new(
        SqlState::WRONG_OBJECT_TYPE,
        format!("\"{name}\" is not {kind}"),
    )
}
