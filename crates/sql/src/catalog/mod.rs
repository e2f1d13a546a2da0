//! The catalog: what objects exist, as descriptors, and how names find them.
//!
//! [`Catalog`] is an immutable picture of all descriptors. The store's picture is shared by all
//! sessions; a transaction that runs DDL works on a copy of its own, which replaces the shared one
//! when it commits. Descriptors are `Arc`s, so a copy costs a pointer for each object.

pub mod descriptor;
pub mod ids;
pub mod sequences;
pub mod sharding;
pub mod shared;
pub mod store;

use descriptor::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{Error, Result, SqlState, Timestamp};

/// Anything that lives in a schema's relation namespace.
#[derive(Clone, Debug)]
pub enum Relation {
    Table(Arc<Table>),
    View(Arc<View>),
    Sequence(Arc<Sequence>),
    /// An index, with the table that it belongs to.
    Index(Arc<Table>, ObjectId),
}

impl Relation {
    pub fn oid(&self) -> ObjectId {
        match self {
            Relation::Table(t) => t.oid,
            Relation::View(v) => v.oid,
            Relation::Sequence(s) => s.oid,
            Relation::Index(_, oid) => *oid,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Catalog {
    roles: BTreeMap<ObjectId, Arc<Role>>,
    databases: BTreeMap<ObjectId, Arc<Database>>,
    schemas: BTreeMap<ObjectId, Arc<Schema>>,
    tables: BTreeMap<ObjectId, Arc<Table>>,
    views: BTreeMap<ObjectId, Arc<View>>,
    sequences: BTreeMap<ObjectId, Arc<Sequence>>,
    /// (schema, relation name) → the relation's object id; indexes map to their own id.
    relation_names: BTreeMap<(ObjectId, String), ObjectId>,
    /// Index object id → its table's.
    index_tables: BTreeMap<ObjectId, ObjectId>,
    /// Referenced table → referencing tables.
    referencing: BTreeMap<ObjectId, Vec<ObjectId>>,
    newest: Timestamp,
}

impl Catalog {
    /// The newest commit whose definitions are in here: a snapshot below it does not hold all that the
    /// picture promises, such as entries of an index.
    pub fn newest(&self) -> Timestamp {
        self.newest
    }

    /// Something in here was committed at the timestamp.
    pub fn note_commit(&mut self, at: Timestamp) {
        self.newest = self.newest.max(at);
    }

    /// Adds the descriptor, or replaces the one of the same object id.
    pub fn put(&mut self, descriptor: Descriptor) {
        self.remove(descriptor_oid(&descriptor));
        match descriptor {
            Descriptor::Role(role) => {
                self.roles.insert(role.oid, Arc::new(role));
            }
            Descriptor::Database(database) => {
                self.databases.insert(database.oid, Arc::new(database));
            }
            Descriptor::Schema(schema) => {
                self.schemas.insert(schema.oid, Arc::new(schema));
            }
            Descriptor::View(view) => {
                self.relation_names
                    .insert((view.schema, view.name.clone()), view.oid);
                self.views.insert(view.oid, Arc::new(view));
            }
            Descriptor::Sequence(sequence) => {
                self.relation_names
                    .insert((sequence.schema, sequence.name.clone()), sequence.oid);
                self.sequences.insert(sequence.oid, Arc::new(sequence));
            }
            Descriptor::Table(table) => {
                self.relation_names
                    .insert((table.schema, table.name.clone()), table.oid);
                for (name, oid) in table_index_names(&table) {
                    self.relation_names
                        .insert((table.schema, name.to_string()), oid);
                    self.index_tables.insert(oid, table.oid);
                }
                for key in &table.foreign_keys {
                    let from = self.referencing.entry(key.referenced_table).or_default();
                    if !from.contains(&table.oid) {
                        from.push(table.oid);
                    }
                }
                self.tables.insert(table.oid, Arc::new(table));
            }
        }
    }

    /// Removes an object of any kind; unknown ids are ignored.
    pub fn remove(&mut self, oid: ObjectId) {
        self.roles.remove(&oid);
        self.databases.remove(&oid);
        self.schemas.remove(&oid);
        if let Some(view) = self.views.remove(&oid) {
            self.relation_names
                .remove(&(view.schema, view.name.clone()));
        }
        if let Some(sequence) = self.sequences.remove(&oid) {
            self.relation_names
                .remove(&(sequence.schema, sequence.name.clone()));
        }
        if let Some(table) = self.tables.remove(&oid) {
            self.relation_names
                .remove(&(table.schema, table.name.clone()));
            for (name, index) in table_index_names(&table) {
                self.relation_names
                    .remove(&(table.schema, name.to_string()));
                self.index_tables.remove(&index);
            }
            for key in &table.foreign_keys {
                if let Some(from) = self.referencing.get_mut(&key.referenced_table) {
                    from.retain(|referencing| *referencing != oid);
                    if from.is_empty() {
                        self.referencing.remove(&key.referenced_table);
                    }
                }
            }
        }
    }

    /// The descriptor of any kind with this object id.
    pub fn descriptor(&self, oid: ObjectId) -> Option<Descriptor> {
        if let Some(table) = self.tables.get(&oid) {
            return Some(Descriptor::Table((**table).clone()));
        }
        if let Some(view) = self.views.get(&oid) {
            return Some(Descriptor::View((**view).clone()));
        }
        if let Some(sequence) = self.sequences.get(&oid) {
            return Some(Descriptor::Sequence((**sequence).clone()));
        }
        if let Some(schema) = self.schemas.get(&oid) {
            return Some(Descriptor::Schema((**schema).clone()));
        }
        if let Some(database) = self.databases.get(&oid) {
            return Some(Descriptor::Database((**database).clone()));
        }
        let role = self.roles.get(&oid)?;
        Some(Descriptor::Role((**role).clone()))
    }

    /// Of everything that has a descriptor.
    pub fn object_ids(&self) -> impl Iterator<Item = ObjectId> {
        let roles = self.roles.keys().chain(self.databases.keys());
        let spaces = roles.chain(self.schemas.keys());
        let relations = self.tables.keys().chain(self.views.keys());
        spaces
            .chain(relations)
            .chain(self.sequences.keys())
            .copied()
    }

    pub fn role(&self, oid: ObjectId) -> Option<&Arc<Role>> {
        self.roles.get(&oid)
    }

    pub fn role_by_name(&self, name: &str) -> Option<&Arc<Role>> {
        self.roles.values().find(|r| r.name == name)
    }

    pub fn roles(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.roles.values()
    }

    pub fn database(&self, oid: ObjectId) -> Option<&Arc<Database>> {
        self.databases.get(&oid)
    }

    pub fn database_by_name(&self, name: &str) -> Option<&Arc<Database>> {
        self.databases.values().find(|d| d.name == name)
    }

    pub fn databases(&self) -> impl Iterator<Item = &Arc<Database>> {
        self.databases.values()
    }

    pub fn schema(&self, oid: ObjectId) -> Option<&Arc<Schema>> {
        self.schemas.get(&oid)
    }

    pub fn schema_by_name(&self, database: ObjectId, name: &str) -> Option<&Arc<Schema>> {
        self.schemas
            .values()
            .find(|s| s.database == database && s.name == name)
    }

    pub fn schemas(&self, database: ObjectId) -> impl Iterator<Item = &Arc<Schema>> {
        self.schemas
            .values()
            .filter(move |s| s.database == database)
    }

    pub fn table(&self, oid: ObjectId) -> Option<&Arc<Table>> {
        self.tables.get(&oid)
    }

    pub fn view(&self, oid: ObjectId) -> Option<&Arc<View>> {
        self.views.get(&oid)
    }

    pub fn sequence(&self, oid: ObjectId) -> Option<&Arc<Sequence>> {
        self.sequences.get(&oid)
    }

    pub fn tables(&self, database: ObjectId) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.values().filter(move |t| t.database == database)
    }

    pub fn views(&self, database: ObjectId) -> impl Iterator<Item = &Arc<View>> {
        self.views.values().filter(move |v| v.database == database)
    }

    pub fn sequences(&self, database: ObjectId) -> impl Iterator<Item = &Arc<Sequence>> {
        self.sequences
            .values()
            .filter(move |s| s.database == database)
    }

    /// Tables with a foreign key to `table`.
    pub fn referencing_tables(&self, table: ObjectId) -> impl Iterator<Item = &Arc<Table>> {
        self.referencing
            .get(&table)
            .into_iter()
            .flatten()
            .filter_map(|oid| self.tables.get(oid))
    }

    /// The table that owns an index.
    pub fn table_of_index(&self, index: ObjectId) -> Option<&Arc<Table>> {
        self.index_tables
            .get(&index)
            .and_then(|table| self.tables.get(table))
    }

    pub fn relation_in(&self, schema: ObjectId, name: &str) -> Option<Relation> {
        let oid = *self.relation_names.get(&(schema, name.to_string()))?;
        self.relation(oid)
    }

    pub fn relation(&self, oid: ObjectId) -> Option<Relation> {
        if let Some(table) = self.tables.get(&oid) {
            return Some(Relation::Table(table.clone()));
        }
        if let Some(view) = self.views.get(&oid) {
            return Some(Relation::View(view.clone()));
        }
        if let Some(sequence) = self.sequences.get(&oid) {
            return Some(Relation::Sequence(sequence.clone()));
        }
        self.table_of_index(oid)
            .map(|table| Relation::Index(table.clone(), oid))
    }

    /// Names of all relations, indexes included, of a schema.
    pub fn relation_names(&self, schema: ObjectId) -> impl Iterator<Item = (&str, ObjectId)> {
        self.relation_names
            .range((schema, String::new())..)
            .take_while(move |((of, _), _)| *of == schema)
            .map(|((_, name), oid)| (name.as_str(), *oid))
    }

    /// Finds a relation by an optionally qualified name along the search path. Built-in schemas are
    /// not in here: `pg_catalog` and `information_schema` relations are virtual tables.
    pub fn resolve(
        &self,
        database: ObjectId,
        search_path: &[String],
        schema: Option<&str>,
        name: &str,
    ) -> Option<Relation> {
        match schema {
            Some(schema) => self.relation_in(self.schema_by_name(database, schema)?.oid, name),
            None => search_path.iter().find_map(|schema| {
                self.relation_in(self.schema_by_name(database, schema)?.oid, name)
            }),
        }
    }

    /// Like [`Catalog::resolve`], with PostgreSQL's error.
    pub fn require(
        &self,
        database: ObjectId,
        search_path: &[String],
        schema: Option<&str>,
        name: &str,
    ) -> Result<Relation> {
        self.resolve(database, search_path, schema, name)
            .ok_or_else(|| {
                let shown = match schema {
                    Some(schema) => format!("{schema}.{name}"),
                    None => name.to_string(),
                };
                Error::new(
                    SqlState::UNDEFINED_TABLE,
                    format!("relation \"{shown}\" does not exist"),
                )
            })
    }
}

pub fn descriptor_oid(descriptor: &Descriptor) -> ObjectId {
    match descriptor {
        Descriptor::Role(d) => d.oid,
        Descriptor::Database(d) => d.oid,
        Descriptor::Schema(d) => d.oid,
        Descriptor::Table(d) => d.oid,
        Descriptor::View(d) => d.oid,
        Descriptor::Sequence(d) => d.oid,
    }
}

/// Names and object ids of a table's indexes, the primary key's first.
pub fn table_index_names(table: &Table) -> impl Iterator<Item = (&str, ObjectId)> {
    let primary = table
        .primary_key
        .iter()
        .map(|key| (key.name.as_str(), key.oid));
    primary.chain(
        table
            .indexes
            .iter()
            .map(|index| (index.name.as_str(), index.oid)),
    )
}

impl Table {
    /// A constraint's name belongs to one of the table's keys, checks or foreign keys.
    pub fn has_constraint(&self, name: &str) -> bool {
        self.primary_key
            .as_ref()
            .is_some_and(|key| key.name == name)
            || self.checks.iter().any(|check| check.name == name)
            || self.foreign_keys.iter().any(|key| key.name == name)
            || self
                .indexes
                .iter()
                .any(|index| index.constraint_oid.is_some() && index.name == name)
    }

    /// Live columns with their positions.
    pub fn live_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.columns
            .iter()
            .enumerate()
            .filter(|(_, column)| !column.dropped)
    }

    pub fn column_position(&self, name: &str) -> Option<usize> {
        self.columns
            .iter()
            .position(|column| !column.dropped && column.name == name)
    }
}
