//! Descriptors: the durable definition of each catalog object.
//!
//! A descriptor is one MVCC row of the system table, keyed by object id and stored as JSON, so DDL
//! is as transactional as any other write. Each has its own version: changing one object does not
//! disturb plans over another.

use super::sharding::Sharding;
use serde::{Deserialize, Serialize};
use types::SqlType;

/// An object's id in the catalog, PostgreSQL's `oid`.
pub type ObjectId = u32;

/// Object ids below this belong to built-in objects, as in PostgreSQL.
pub const FIRST_USER_OBJECT_ID: ObjectId = 16384;

pub const DEFAULT_DATABASE: &str = "phantom";
pub const SUPERUSER: &str = "phantom";

/// Built-in schemas; `public` is an ordinary row of each database.
pub const PG_CATALOG_OID: ObjectId = 11;
pub const INFORMATION_SCHEMA_OID: ObjectId = 13;

/// Tables keep their rows under the key prefix of this index; secondary indexes count up from it.
pub const PRIMARY_INDEX_ID: u16 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Descriptor {
    Role(Role),
    Database(Database),
    Schema(Schema),
    Table(Table),
    View(View),
    Sequence(Sequence),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Role {
    pub oid: ObjectId,
    pub name: String,
    pub superuser: bool,
    pub can_login: bool,
    /// SCRAM-SHA-256 verifier, in PostgreSQL's text form; none: no password login.
    pub password: Option<String>,
    #[serde(default)]
    pub create_database: bool,
    #[serde(default)]
    pub create_role: bool,
    #[serde(default)]
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Database {
    pub oid: ObjectId,
    pub name: String,
    pub owner: ObjectId,
    pub comment: Option<String>,
    /// Templates are shown but not connected to.
    #[serde(default)]
    pub template: bool,
    /// Copies of the shards of its tables; `None`: as the cluster says.
    #[serde(default)]
    pub replication_factor: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    pub oid: ObjectId,
    pub database: ObjectId,
    pub name: String,
    pub owner: ObjectId,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub oid: ObjectId,
    pub database: ObjectId,
    pub schema: ObjectId,
    pub name: String,
    pub owner: ObjectId,
    /// Counts changes of this descriptor; cached plans remember it.
    pub version: u64,
    /// Key prefix of its rows. A new one is given by TRUNCATE.
    pub data_id: u32,
    /// In PostgreSQL's attribute order, dropped ones included: position + 1 = `attnum`, and position =
    /// place in the stored row.
    pub columns: Vec<Column>,
    /// Columns of the primary key as positions, in key order. Without one, rows are keyed by a
    /// hidden 8-byte row id which no column shows.
    pub primary_key: Option<PrimaryKey>,
    pub indexes: Vec<Index>,
    pub checks: Vec<Check>,
    /// Foreign keys of which this table is the referencing side.
    pub foreign_keys: Vec<ForeignKey>,
    pub next_index_id: u16,
    pub comment: Option<String>,
    /// `WITH (…)` options as given, but for those that have a field here.
    pub options: Vec<(String, String)>,
    /// How its rows are spread over shards. Given once and for all: it is in every key.
    #[serde(default)]
    pub sharding: Sharding,
    /// Copies of its shards; `None`: as the database says.
    #[serde(default)]
    pub replication_factor: Option<u8>,
    /// UNLOGGED, as given; such tables are as durable as others.
    #[serde(default)]
    pub unlogged: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub sql_type: SqlType,
    pub not_null: bool,
    /// SQL text of the DEFAULT expression.
    pub default: Option<String>,
    pub identity: Option<Identity>,
    /// SQL text of `GENERATED ALWAYS AS (…) STORED`.
    pub generated: Option<String>,
    /// For rows stored before the column was added: its value in text format.
    pub missing: Option<String>,
    pub dropped: bool,
    /// The sequence that SERIAL or IDENTITY made for it.
    pub owned_sequence: Option<ObjectId>,
    pub comment: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    Always,
    ByDefault,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrimaryKey {
    /// Object id of the index `\d` shows.
    pub oid: ObjectId,
    /// Object id of the constraint.
    pub constraint_oid: ObjectId,
    pub name: String,
    pub columns: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    pub oid: ObjectId,
    pub id: u16,
    pub name: String,
    pub columns: Vec<IndexColumn>,
    pub unique: bool,
    pub nulls_not_distinct: bool,
    /// Set when made by a UNIQUE constraint rather than CREATE UNIQUE INDEX.
    pub constraint_oid: Option<ObjectId>,
    /// SQL text of a partial index's predicate.
    pub predicate: Option<String>,
    /// `btree`, as given.
    pub method: String,
    /// Positions of INCLUDE columns; shown, not stored in the index.
    #[serde(default)]
    pub include: Vec<usize>,
    #[serde(default)]
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexColumn {
    pub key: IndexKey,
    pub descending: bool,
    pub nulls_first: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum IndexKey {
    /// A column's position.
    Column(usize),
    /// SQL text of an expression and its type.
    Expression(String, SqlType),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub oid: ObjectId,
    pub name: String,
    /// SQL text of the condition.
    pub expression: String,
    /// Added NOT VALID: older rows may break it.
    #[serde(default)]
    pub not_valid: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForeignKey {
    pub oid: ObjectId,
    pub name: String,
    /// Positions in this table.
    pub columns: Vec<usize>,
    pub referenced_table: ObjectId,
    /// Positions in the referenced table.
    pub referenced_columns: Vec<usize>,
    pub on_delete: ReferentialAction,
    pub on_update: ReferentialAction,
    /// DEFERRABLE constraints are checked at commit when INITIALLY DEFERRED.
    pub deferrable: bool,
    pub initially_deferred: bool,
    /// MATCH FULL; else MATCH SIMPLE.
    #[serde(default)]
    pub match_full: bool,
    /// Added NOT VALID: older rows may break it.
    #[serde(default)]
    pub not_valid: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReferentialAction {
    NoAction,
    Restrict,
    Cascade,
    SetNull,
    SetDefault,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub oid: ObjectId,
    pub database: ObjectId,
    pub schema: ObjectId,
    pub name: String,
    pub owner: ObjectId,
    pub version: u64,
    /// Name and type of each output column.
    pub columns: Vec<(String, SqlType)>,
    /// SQL text of the query, relations qualified by their schemas.
    pub query: String,
    /// Tables and views that the query names.
    #[serde(default)]
    pub depends_on: Vec<ObjectId>,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sequence {
    pub oid: ObjectId,
    pub database: ObjectId,
    pub schema: ObjectId,
    pub name: String,
    pub owner: ObjectId,
    pub version: u64,
    pub sql_type: SqlType,
    pub start: i64,
    pub increment: i64,
    pub min: i64,
    pub max: i64,
    pub cache: i64,
    pub cycle: bool,
    /// Table and column position that own it: dropped with them.
    pub owned_by: Option<(ObjectId, usize)>,
    #[serde(default)]
    pub comment: Option<String>,
    /// Counts restarts: each has its own state row, so a restart is as transactional as the
    /// descriptor.
    #[serde(default)]
    pub generation: u32,
    /// First value of this generation, when it is not `start`.
    #[serde(default)]
    pub restart: Option<i64>,
}

impl Column {
    /// A nullable column with no default.
    pub fn new(name: impl Into<String>, sql_type: SqlType) -> Self {
        Column {
            name: name.into(),
            sql_type,
            not_null: false,
            default: None,
            identity: None,
            generated: None,
            missing: None,
            dropped: false,
            owned_sequence: None,
            comment: None,
        }
    }
}
