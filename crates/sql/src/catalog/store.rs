//! The catalog's rows: where descriptors, names and counters are kept.
//!
//! System rows are ordinary MVCC rows, so DDL commits and rolls back like any other write. Their
//! key prefixes use data ids below [`FIRST_USER_DATA_ID`]:
//!
//! | data id | key | value |
//! | --- | --- | --- |
//! | 1 | object id | the [`Descriptor`] as JSON |
//! | 2 | counter | the next free number |
//! | 3 | sequence's object id, generation | [`super::sequences`] state |
//! | 4 | data id | empty: rows under this data id are waiting to be deleted |
//! | 5 | namespace, name | the object id that has the name |
//! | 6 | data id | what the table asks of its shards: [`sharding::TableRule`] |
//!
//! A name row is what keeps two transactions from making the same name: whoever creates, renames or
//! drops an object locks its name row first and reads the newest version under the lock. In the same
//! way, whoever changes an object locks and reads its descriptor row ([`refresh`]), so a change
//! always builds on the newest committed one, however old the transaction's picture is.

use super::Catalog;
use super::descriptor::*;
use super::shared::CatalogChange;
use crate::context::ReadView;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use txn::kv::{LockMode, ScanRequest, Shards, Span, WaitPolicy};
use txn::{Coordinator, Isolation, LockedRow, Transaction};
use types::{Error, Result, SqlState, Timestamp, key};

/// Data ids below this belong to the system.
pub const FIRST_USER_DATA_ID: u32 = key::FIRST_USER_TABLE_ID;

const DESCRIPTORS: u32 = key::CATALOG_TABLE_ID;
const COUNTERS: u32 = 2;
const SEQUENCES: u32 = 3;
const DROPPED_SPANS: u32 = 4;
const NAMES: u32 = 5;

/// Rows in one page when the catalog is read; bounds the memory of a page, not of the catalog.
const PAGE_ROWS: usize = 1000;
const PAGE_BYTES: usize = 1 << 20;

/// Object id of the owner of built-in objects.
pub const BOOTSTRAP_ROLE_OID: ObjectId = 10;
const POSTGRES_ROLE_OID: ObjectId = 9;
const TEMPLATE1_OID: ObjectId = 1;
const TEMPLATE0_OID: ObjectId = 4;
const POSTGRES_DATABASE_OID: ObjectId = 5;
const DEFAULT_DATABASE_OID: ObjectId = 6;
/// Object id of `public` in the default database.
pub const PUBLIC_SCHEMA_OID: ObjectId = 2200;

fn system_key(data_id: u32, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(key::INDEX_PREFIX_LEN + rest.len());
    key.extend_from_slice(&key::index_prefix(data_id, PRIMARY_INDEX_ID));
    key.extend_from_slice(rest);
    key
}

pub fn descriptor_key(oid: ObjectId) -> Vec<u8> {
    system_key(DESCRIPTORS, &oid.to_be_bytes())
}

pub(super) fn counter_key(counter: u8) -> Vec<u8> {
    system_key(COUNTERS, &[counter])
}

/// The state row of one generation of a sequence.
pub fn sequence_key(oid: ObjectId, generation: u32) -> Vec<u8> {
    let mut rest = [0; 8];
    rest[..4].copy_from_slice(&oid.to_be_bytes());
    rest[4..].copy_from_slice(&generation.to_be_bytes());
    system_key(SEQUENCES, &rest)
}

pub fn dropped_span_key(data_id: u32) -> Vec<u8> {
    system_key(DROPPED_SPANS, &data_id.to_be_bytes())
}

/// All keys of the rows of [`dropped_span_key`].
pub fn dropped_spans() -> Span {
    span_of(&key::table_prefix(DROPPED_SPANS))
}

/// The data id that a key of [`dropped_spans`] names.
pub fn dropped_data_id(row_key: &[u8]) -> Option<u32> {
    let (_, _, rest) = key::split_index_prefix(row_key)?;
    Some(u32::from_be_bytes(rest.try_into().ok()?))
}

/// Kinds of names that must be unique within a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// Parent: 0.
    Role = 1,
    /// Parent: 0.
    Database = 2,
    /// Parent: the database.
    Schema = 3,
    /// Tables, indexes, views and sequences. Parent: the schema.
    Relation = 4,
}

pub fn name_key(kind: NameKind, parent: ObjectId, name: &str) -> Vec<u8> {
    let mut rest = Vec::with_capacity(5 + name.len());
    rest.push(kind as u8);
    rest.extend_from_slice(&parent.to_be_bytes());
    rest.extend_from_slice(name.as_bytes());
    system_key(NAMES, &rest)
}

/// All keys that start with `prefix`.
pub fn span_of(prefix: &[u8]) -> Span {
    let end = key::prefix_end(prefix).unwrap_or_else(|| vec![0xff; prefix.len() + 1]);
    Span {
        start: Bytes::copy_from_slice(prefix),
        end: end.into(),
    }
}

/// Writes the descriptor's row. The caller holds its lock, or has just given it its object id.
pub fn write(txn: &mut Transaction, descriptor: &Descriptor) -> Result<()> {
    let json = serde_json::to_vec(descriptor)
        .map_err(|error| Error::internal(format!("descriptor cannot be written: {error}")))?;
    txn.put(descriptor_key(super::descriptor_oid(descriptor)), json)
}

pub fn delete(txn: &mut Transaction, oid: ObjectId) -> Result<()> {
    txn.delete(descriptor_key(oid))
}

fn decode(bytes: &[u8]) -> Result<Descriptor> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::corrupt(format!("descriptor cannot be read: {error}")))
}

/// An object's descriptor as it was.
pub async fn read(
    shards: &Arc<dyn Shards>,
    oid: ObjectId,
    at: Timestamp,
) -> Result<Option<Descriptor>> {
    let found = shards.get(&descriptor_key(oid), at).await?;
    found.map(|(bytes, _)| decode(&bytes)).transpose()
}

/// Locks an object's descriptor and returns its newest committed state (or the transaction's own):
/// `None` if it was dropped meanwhile.
pub async fn refresh(
    txn: &mut Transaction,
    oid: ObjectId,
    mode: LockMode,
    policy: WaitPolicy,
) -> Result<Option<Descriptor>> {
    match txn.lock_and_get(&descriptor_key(oid), mode, policy).await? {
        LockedRow::Unchanged(value) | LockedRow::Changed(value) => {
            value.map(|bytes| decode(&bytes)).transpose()
        }
        LockedRow::Skipped => Ok(None),
    }
}

/// Locks a name and tells which object has it.
pub async fn lock_name(
    txn: &mut Transaction,
    key: &[u8],
    policy: WaitPolicy,
) -> Result<Option<ObjectId>> {
    match txn.lock_and_get(key, LockMode::Update, policy).await? {
        LockedRow::Unchanged(Some(value)) | LockedRow::Changed(Some(value)) => {
            let bytes: [u8; 4] = value
                .as_ref()
                .try_into()
                .map_err(|_| Error::corrupt("a name row does not hold an object id"))?;
            Ok(Some(ObjectId::from_be_bytes(bytes)))
        }
        _ => Ok(None),
    }
}

/// Gives a name, which the caller has locked, to an object.
pub fn write_name(txn: &mut Transaction, key: Vec<u8>, oid: ObjectId) -> Result<()> {
    txn.put(key, oid.to_be_bytes().to_vec())
}

/// The whole catalog as of a view.
pub async fn load(view: &ReadView) -> Result<Catalog> {
    let mut catalog = Catalog::default();
    let mut span = span_of(&key::table_prefix(DESCRIPTORS));
    loop {
        let page = view
            .scan(span.clone(), false, PAGE_ROWS, PAGE_BYTES)
            .await?;
        for (_, value, committed_at) in page.rows {
            catalog.put(decode(&value)?);
            catalog.note_commit(committed_at);
        }
        match page.resume {
            Some(resume) => span.start = resume,
            None => return Ok(catalog),
        }
    }
}

/// How the catalog at `at` differs from a picture that holds every definition committed at or below
/// `as_of`, each change with the timestamp of its commit (of a removal: some timestamp after it).
pub async fn changes(
    shards: &Arc<dyn Shards>,
    picture: &Catalog,
    as_of: Timestamp,
    at: Timestamp,
) -> Result<Vec<(CatalogChange, Timestamp)>> {
    let mut changes = Vec::new();
    let mut gone: BTreeSet<ObjectId> = picture.object_ids().collect();
    let mut span = span_of(&key::table_prefix(DESCRIPTORS));
    loop {
        let page = shards.scan(ScanRequest {
            span: span.clone(),
            at,
            reverse: false,
            limit: PAGE_ROWS,
            limit_bytes: PAGE_BYTES,
        });
        let page = page.await?;
        for (key, value, committed_at) in page.rows {
            gone.remove(&described(&key)?);
            if committed_at > as_of {
                changes.push((CatalogChange::Put(decode(&value)?), committed_at));
            }
        }
        match page.resume {
            Some(resume) => span.start = resume,
            None => break,
        }
    }
    changes.extend(gone.into_iter().map(|oid| (CatalogChange::Remove(oid), at)));
    Ok(changes)
}

/// The object whose descriptor's key this is.
fn described(row_key: &[u8]) -> Result<ObjectId> {
    let id = key::split_index_prefix(row_key).and_then(|(_, _, rest)| rest.try_into().ok());
    id.map(ObjectId::from_be_bytes)
        .ok_or_else(|| Error::corrupt("a descriptor's key is not readable"))
}

/// Writes the roles, databases and schemas that every store has; does nothing on a store that has
/// them.
pub async fn bootstrap(coordinator: &Coordinator) -> Result<()> {
    let policy = WaitPolicy::Wait {
        deadline_nanos: None,
    };
    let mut txn = coordinator.begin(Isolation::ReadCommitted, false);
    if refresh(&mut txn, BOOTSTRAP_ROLE_OID, LockMode::Update, policy)
        .await?
        .is_some()
    {
        txn.rollback();
        return Ok(());
    }
    for descriptor in built_in() {
        let oid = super::descriptor_oid(&descriptor);
        for key in names_of(&descriptor) {
            lock_name(&mut txn, &key, policy).await?;
            write_name(&mut txn, key, oid)?;
        }
        txn.lock(&descriptor_key(oid), LockMode::Update, policy)
            .await?;
        write(&mut txn, &descriptor)?;
    }
    txn.commit().await?;
    Ok(())
}

/// The name rows that belong to a descriptor, in a fixed order.
pub fn names_of(descriptor: &Descriptor) -> Vec<Vec<u8>> {
    match descriptor {
        Descriptor::Role(role) => vec![name_key(NameKind::Role, 0, &role.name)],
        Descriptor::Database(database) => vec![name_key(NameKind::Database, 0, &database.name)],
        Descriptor::Schema(schema) => {
            vec![name_key(NameKind::Schema, schema.database, &schema.name)]
        }
        Descriptor::View(view) => vec![name_key(NameKind::Relation, view.schema, &view.name)],
        Descriptor::Sequence(sequence) => {
            vec![name_key(
                NameKind::Relation,
                sequence.schema,
                &sequence.name,
            )]
        }
        Descriptor::Table(table) => {
            let mut keys = vec![name_key(NameKind::Relation, table.schema, &table.name)];
            for (name, _) in super::table_index_names(table) {
                keys.push(name_key(NameKind::Relation, table.schema, name));
            }
            keys
        }
    }
}

fn built_in() -> Vec<Descriptor> {
    let role = |oid, name: &str| {
        Descriptor::Role(Role {
            oid,
            name: name.into(),
            superuser: true,
            can_login: true,
            password: None,
            create_database: true,
            create_role: true,
            comment: None,
        })
    };
    let database = |oid, name: &str, template, comment: &str| {
        Descriptor::Database(Database {
            oid,
            name: name.into(),
            owner: BOOTSTRAP_ROLE_OID,
            comment: Some(comment.into()),
            template,
            replication_factor: None,
        })
    };
    let public = |oid, database| {
        Descriptor::Schema(Schema {
            oid,
            database,
            name: "public".into(),
            owner: BOOTSTRAP_ROLE_OID,
            comment: Some("standard public schema".into()),
        })
    };
    vec![
        role(BOOTSTRAP_ROLE_OID, SUPERUSER),
        role(POSTGRES_ROLE_OID, "postgres"),
        database(
            DEFAULT_DATABASE_OID,
            DEFAULT_DATABASE,
            false,
            "default database",
        ),
        database(
            POSTGRES_DATABASE_OID,
            "postgres",
            false,
            "default administrative connection database",
        ),
        database(
            TEMPLATE1_OID,
            "template1",
            true,
            "default template for new databases",
        ),
        database(
            TEMPLATE0_OID,
            "template0",
            true,
            "unmodifiable empty database",
        ),
        public(PUBLIC_SCHEMA_OID, DEFAULT_DATABASE_OID),
        public(PUBLIC_SCHEMA_OID + 1, POSTGRES_DATABASE_OID),
        public(PUBLIC_SCHEMA_OID + 2, TEMPLATE1_OID),
        public(PUBLIC_SCHEMA_OID + 3, TEMPLATE0_OID),
    ]
}

/// PostgreSQL's error for a name that is taken.
pub fn name_taken(kind: NameKind, name: &str) -> Error {
    let (state, what) = match kind {
        NameKind::Role => (SqlState::DUPLICATE_OBJECT, "role"),
        NameKind::Database => (SqlState::DUPLICATE_DATABASE, "database"),
        NameKind::Schema => (SqlState::DUPLICATE_SCHEMA, "schema"),
        NameKind::Relation => (SqlState::DUPLICATE_TABLE, "relation"),
    };
    Error::new(state, format!("{what} \"{name}\" already exists"))
}
