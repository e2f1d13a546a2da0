//! DROP of tables, views, indexes, sequences, schemas, roles and databases, with what depends on
//! them.

use super::context::{DdlContext, gone, is_built_in_schema, schema_missing, wrong_kind};
use super::names::{object_name, simple_name};
use super::{cleanup, rows};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use crate::catalog::store::{self, NameKind};
use crate::pg_catalog::deparse;
use sqlparser::ast::{self, ObjectName, ObjectType};
use std::collections::BTreeSet;
use std::sync::Arc;
use types::{Error, Result, SqlState};

/// What goes besides the objects that were named.
#[derive(Default)]
pub(super) struct Plan {
    tables: BTreeSet<ObjectId>,
    views: BTreeSet<ObjectId>,
    sequences: BTreeSet<ObjectId>,
    /// (referencing table, constraint name).
    foreign_keys: BTreeSet<(ObjectId, String)>,
    /// (table, column) whose default uses a dropped sequence.
    defaults: BTreeSet<(ObjectId, usize)>,
    /// What the user did not name, as `kind name`, in the order found.
    cascaded: Vec<String>,
    /// The same as PostgreSQL's detail lines.
    details: Vec<String>,
}

pub(super) async fn drop_objects(
    d: &mut DdlContext<'_>,
    kind: &ObjectType,
    if_exists: bool,
    names: &[ObjectName],
    cascade: bool,
) -> Result<&'static str> {
    match kind {
        ObjectType::Table => {
            drop_relations(d, "table", if_exists, names, cascade).await?;
            Ok("DROP TABLE")
        }
        ObjectType::View => {
            drop_relations(d, "view", if_exists, names, cascade).await?;
            Ok("DROP VIEW")
        }
        ObjectType::Sequence => {
            drop_relations(d, "sequence", if_exists, names, cascade).await?;
            Ok("DROP SEQUENCE")
        }
        ObjectType::MaterializedView => {
            missing_only(d, "materialized view", if_exists, names)?;
            Ok("DROP MATERIALIZED VIEW")
        }
        ObjectType::Type => {
            for name in names {
                let text = name.to_string();
                if !if_exists {
                    return Err(Error::new(
                        SqlState::UNDEFINED_OBJECT,
                        format!("type \"{text}\" does not exist"),
                    ));
                }
                d.notice(format!("type \"{text}\" does not exist, skipping"));
            }
            Ok("DROP TYPE")
        }
        ObjectType::Index => {
            for name in names {
                drop_index(d, name, if_exists, cascade).await?;
            }
            Ok("DROP INDEX")
        }
        ObjectType::Schema => {
            for name in names {
                drop_schema(d, &simple_name(name)?, if_exists, cascade).await?;
            }
            Ok("DROP SCHEMA")
        }
        ObjectType::Role | ObjectType::User => {
            for name in names {
                super::role::drop_role(d, &simple_name(name)?, if_exists).await?;
            }
            Ok("DROP ROLE")
        }
        ObjectType::Database => {
            for name in names {
                super::namespace::drop_database(d, &simple_name(name)?, if_exists).await?;
            }
            Ok("DROP DATABASE")
        }
        other => Err(Error::unsupported(format!("DROP {other}"))),
    }
}

/// For kinds of which none can exist.
fn missing_only(
    d: &mut DdlContext<'_>,
    kind: &str,
    if_exists: bool,
    names: &[ObjectName],
) -> Result<()> {
    for name in names {
        let (schema, name) = object_name(d, name)?;
        if d.resolve(schema.as_deref(), &name).is_some() {
            return Err(wrong_kind(&name, &format!("a {kind}")));
        }
        if !if_exists {
            return Err(missing(kind, &name));
        }
        d.notice(format!("{kind} \"{name}\" does not exist, skipping"));
    }
    Ok(())
}

fn missing(kind: &str, name: &str) -> Error {
    let state = match kind {
        "index" => SqlState::UNDEFINED_OBJECT,
        _ => SqlState::UNDEFINED_TABLE,
    };
    Error::new(state, format!("{kind} \"{name}\" does not exist"))
}

async fn drop_relations(
    d: &mut DdlContext<'_>,
    kind: &str,
    if_exists: bool,
    names: &[ObjectName],
    cascade: bool,
) -> Result<()> {
    let mut plan = Plan::default();
    let mut first = None;
    let mut wanted = Vec::new();
    for name in names {
        let (schema, name) = object_name(d, name)?;
        let relation = match d.resolve(schema.as_deref(), &name) {
            Some(relation) => relation,
            None => {
                if let Some(schema) = schema.filter(|schema| is_built_in_schema(schema)) {
                    return Err(Error::new(
                        SqlState::INSUFFICIENT_PRIVILEGE,
                        format!("permission denied: \"{schema}.{name}\" is a system catalog"),
                    ));
                }
                if !if_exists {
                    return Err(missing(kind, &name));
                }
                d.notice(format!("{kind} \"{name}\" does not exist, skipping"));
                continue;
            }
        };
        let owner = match (&relation, kind) {
            (Relation::Table(table), "table") => table.owner,
            (Relation::View(view), "view") => view.owner,
            (Relation::Sequence(sequence), "sequence") => sequence.owner,
            (other, _) => return Err(wrong_kind_to_drop(&name, kind, other)),
        };
        d.must_own(owner, kind, &name)?;
        first.get_or_insert_with(|| format!("{kind} {name}"));
        wanted.push(relation);
    }
    // Named ones first, so that they do not count as cascaded.
    for relation in &wanted {
        match relation {
            Relation::Table(table) => {
                plan.tables.insert(table.oid);
            }
            Relation::View(view) => {
                plan.views.insert(view.oid);
            }
            Relation::Sequence(sequence) => {
                plan.sequences.insert(sequence.oid);
            }
            Relation::Index(..) => {}
        }
    }
    for relation in &wanted {
        match relation {
            Relation::Table(table) => {
                let table = d.lock_table(table.oid).await?;
                plan.depend_on_table(d, &table)?;
            }
            Relation::View(view) => plan.depend_on_relation(d, view.oid, &view.name),
            Relation::Sequence(sequence) => plan.depend_on_sequence(d, sequence)?,
            Relation::Index(..) => {}
        }
    }
    let what = first.unwrap_or_default();
    plan.execute(d, &what, cascade).await
}

fn wrong_kind_to_drop(name: &str, kind: &str, found: &Relation) -> Error {
    let hint = match found {
        Relation::Table(_) => "Use DROP TABLE to remove a table.",
        Relation::View(_) => "Use DROP VIEW to remove a view.",
        Relation::Sequence(_) => "Use DROP SEQUENCE to remove a sequence.",
        Relation::Index(..) => "Use DROP INDEX to remove an index.",
    };
    let article = if kind == "index" { "an" } else { "a" };
    wrong_kind(name, &format!("{article} {kind}")).hint(hint)
}

impl Plan {
    /// Finds what goes with a table: its sequences, foreign keys to it, views over it.
    fn depend_on_table(&mut self, d: &DdlContext<'_>, table: &Arc<Table>) -> Result<()> {
        for (_, column) in table.live_columns() {
            if let Some(sequence) = column.owned_sequence {
                self.sequences.insert(sequence);
            }
        }
        for sequence in d.catalog.sequences(table.database) {
            if sequence
                .owned_by
                .is_some_and(|(owner, _)| owner == table.oid)
            {
                self.sequences.insert(sequence.oid);
            }
        }
        let referencing: Vec<Arc<Table>> =
            d.catalog.referencing_tables(table.oid).cloned().collect();
        for other in referencing {
            if self.tables.contains(&other.oid) {
                continue;
            }
            for key in &other.foreign_keys {
                if key.referenced_table != table.oid {
                    continue;
                }
                if self.foreign_keys.insert((other.oid, key.name.clone())) {
                    let what = format!("constraint {} on table {}", key.name, other.name);
                    self.details
                        .push(format!("{what} depends on table {}", table.name));
                    self.cascaded.push(what);
                }
            }
        }
        self.depend_on_relation(d, table.oid, &format!("table {}", table.name));
        Ok(())
    }

    /// Finds views over a table or view, and views over those.
    fn depend_on_relation(&mut self, d: &DdlContext<'_>, oid: ObjectId, shown: &str) {
        let views: Vec<Arc<View>> = d.catalog.views(d.database).cloned().collect();
        for view in views {
            if view.depends_on.contains(&oid) && self.views.insert(view.oid) {
                self.details
                    .push(format!("view {} depends on {shown}", view.name));
                self.cascaded.push(format!("view {}", view.name));
                self.depend_on_relation(d, view.oid, &format!("view {}", view.name));
            }
        }
    }

    fn depend_on_sequence(&mut self, d: &DdlContext<'_>, sequence: &Sequence) -> Result<()> {
        let text = super::sequence::nextval_text(sequence.oid);
        for table in d.catalog.tables(sequence.database) {
            for (position, column) in table.live_columns() {
                if column.owned_sequence == Some(sequence.oid) && column.identity.is_some() {
                    return Err(Error::new(
                        SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                        format!(
                            "cannot drop sequence {} because column {} of table {} requires it",
                            sequence.name, column.name, table.name
                        ),
                    )
                    .hint(format!(
                        "You can drop column {} of table {} instead.",
                        column.name, table.name
                    )));
                }
                let used = column
                    .default
                    .as_ref()
                    .is_some_and(|d| d.to_ascii_lowercase().contains(&text));
                if used
                    && !self.tables.contains(&table.oid)
                    && self.defaults.insert((table.oid, position))
                {
                    let what = format!(
                        "default value for column {} of table {}",
                        column.name, table.name
                    );
                    self.details
                        .push(format!("{what} depends on sequence {}", sequence.name));
                    self.cascaded.push(what);
                }
            }
        }
        Ok(())
    }

    async fn execute(self, d: &mut DdlContext<'_>, what: &str, cascade: bool) -> Result<()> {
        if !self.cascaded.is_empty() {
            if !cascade {
                return Err(Error::new(
                    SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                    format!("cannot drop {what} because other objects depend on it"),
                )
                .detail(self.details.join("\n"))
                .hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            cascade_notice(d, &self.cascaded);
        }
        for (table, name) in &self.foreign_keys {
            let table = d.lock_table(*table).await?;
            let mut changed = (*table).clone();
            changed.foreign_keys.retain(|key| key.name != *name);
            d.put_table(changed)?;
        }
        for (table, position) in &self.defaults {
            let table = d.lock_table(*table).await?;
            let mut changed = (*table).clone();
            changed.columns[*position].default = None;
            changed.columns[*position].owned_sequence = None;
            d.put_table(changed)?;
        }
        for oid in &self.views {
            let view = d.lock_view(*oid).await?;
            d.free_name(NameKind::Relation, view.schema, &view.name)
                .await?;
            d.remove(*oid)?;
        }
        for oid in &self.tables {
            let table = d.lock_table(*oid).await?;
            for key in store::names_of(&Descriptor::Table((*table).clone())) {
                store::lock_name(d.txn, &key, d.wait).await?;
                d.txn.delete(key)?;
            }
            cleanup::mark(d.txn, table.data_id)?;
            d.remove(*oid)?;
        }
        for oid in &self.sequences {
            let Some(sequence) = d.catalog.sequence(*oid).cloned() else {
                continue;
            };
            let sequence = d.lock_sequence(sequence.oid).await?;
            // A column that owned it without a default keeps no link to it.
            let owner = sequence
                .owned_by
                .filter(|(table, _)| !self.tables.contains(table));
            if let Some((table, position)) = owner
                && let Some(table) = d.catalog.table(table).cloned()
                && table.columns.get(position).and_then(|c| c.owned_sequence) == Some(*oid)
            {
                let table = d.lock_table(table.oid).await?;
                let mut changed = (*table).clone();
                changed.columns[position].owned_sequence = None;
                d.put_table(changed)?;
            }
            remove_sequence(d, &sequence).await?;
        }
        Ok(())
    }
}

/// Removes a sequence with its state.
pub(super) async fn remove_sequence(d: &mut DdlContext<'_>, sequence: &Sequence) -> Result<()> {
    d.free_name(NameKind::Relation, sequence.schema, &sequence.name)
        .await?;
    d.remove(sequence.oid)?;
    super::alter_sequence::delete_state(d, sequence).await
}

/// `drop cascades to …`, as PostgreSQL counts.
fn cascade_notice(d: &mut DdlContext<'_>, cascaded: &[String]) {
    match cascaded {
        [] => {}
        [one] => d.notice(format!("drop cascades to {one}")),
        many => {
            let list: Vec<String> = many
                .iter()
                .map(|what| format!("drop cascades to {what}"))
                .collect();
            d.notices.push(crate::response::Notice {
                severity: "NOTICE",
                body: Error::new(
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("drop cascades to {} other objects", many.len()),
                )
                .detail(list.join("\n")),
            });
        }
    }
}

async fn drop_index(
    d: &mut DdlContext<'_>,
    name: &ObjectName,
    if_exists: bool,
    cascade: bool,
) -> Result<()> {
    let (schema, name) = object_name(d, name)?;
    let (table, oid) = match d.resolve(schema.as_deref(), &name) {
        Some(Relation::Index(table, oid)) => (table, oid),
        Some(other) => return Err(wrong_kind_to_drop(&name, "index", &other)),
        None if if_exists => {
            d.notice(format!("index \"{name}\" does not exist, skipping"));
            return Ok(());
        }
        None => return Err(missing("index", &name)),
    };
    d.must_own(table.owner, "index", &name)?;
    let table = d.lock_table(table.oid).await?;
    let constraint = table.primary_key.as_ref().is_some_and(|key| key.oid == oid)
        || table
            .indexes
            .iter()
            .any(|index| index.oid == oid && index.constraint_oid.is_some());
    if constraint {
        let what = format!("constraint {name} on table {}", table.name);
        return Err(Error::new(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop index {name} because {what} requires it"),
        )
        .hint(format!("You can drop {what} instead.")));
    }
    drop_secondary_index(d, table.oid, oid, cascade).await
}

/// Drops an index that is not the primary key's, and with `cascade` foreign keys that need it.
pub(super) async fn drop_secondary_index(
    d: &mut DdlContext<'_>,
    table: ObjectId,
    oid: ObjectId,
    cascade: bool,
) -> Result<()> {
    let table = d.lock_table(table).await?;
    let Some(at) = table.indexes.iter().position(|index| index.oid == oid) else {
        // Dropped while the table's lock was waited for.
        return Err(gone(oid));
    };
    let index = table.indexes[at].clone();
    let mut changed = (*table).clone();
    changed.indexes.remove(at);
    drop_orphaned_foreign_keys(d, &mut changed, &format!("index {}", index.name), cascade).await?;
    d.free_name(NameKind::Relation, table.schema, &index.name)
        .await?;
    rows::delete_index_entries(d, &table, &index).await?;
    d.put_table(changed)?;
    Ok(())
}

/// After a key of `changed` has gone: foreign keys that have nothing left to refer to.
pub(super) async fn drop_orphaned_foreign_keys(
    d: &mut DdlContext<'_>,
    changed: &mut Table,
    what: &str,
    cascade: bool,
) -> Result<()> {
    let mut orphans = Vec::new();
    let others: Vec<Arc<Table>> = d.catalog.referencing_tables(changed.oid).cloned().collect();
    for other in others {
        for key in &other.foreign_keys {
            if key.referenced_table == changed.oid
                && !super::constraints::is_unique(changed, &key.referenced_columns)
            {
                orphans.push((other.oid, other.name.clone(), key.name.clone()));
            }
        }
    }
    if orphans.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = orphans
        .iter()
        .map(|(_, table, key)| format!("constraint {key} on table {table}"))
        .collect();
    if !cascade {
        let detail: Vec<String> = shown
            .iter()
            .map(|dependent| format!("{dependent} depends on {what}"))
            .collect();
        return Err(Error::new(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop {what} because other objects depend on it"),
        )
        .detail(detail.join("\n"))
        .hint("Use DROP ... CASCADE to drop the dependent objects too."));
    }
    cascade_notice(d, &shown);
    for (table, _, name) in orphans {
        if table == changed.oid {
            changed.foreign_keys.retain(|key| key.name != name);
            continue;
        }
        let table = d.lock_table(table).await?;
        let mut other = (*table).clone();
        other.foreign_keys.retain(|key| key.name != name);
        d.put_table(other)?;
    }
    Ok(())
}

/// A relation's name as messages show it: with its schema unless the search path finds it.
fn shown(d: &DdlContext<'_>, schema: ObjectId, name: &str, oid: ObjectId) -> String {
    let settings = &d.statement.settings;
    deparse::shown_name(d.catalog, settings, d.database, schema, name, oid)
}

async fn drop_schema(
    d: &mut DdlContext<'_>,
    name: &str,
    if_exists: bool,
    cascade: bool,
) -> Result<()> {
    let Some(schema) = d.catalog.schema_by_name(d.database, name).cloned() else {
        if is_built_in_schema(name) {
            return Err(Error::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop schema {name} because it is required by the database system"),
            ));
        }
        if !if_exists {
            return Err(schema_missing(name));
        }
        d.notice(format!("schema \"{name}\" does not exist, skipping"));
        return Ok(());
    };
    d.must_own(schema.owner, "schema", name)?;
    let schema = d.lock_schema(schema.oid).await?;
    let mut plan = Plan::default();
    let tables: Vec<Arc<Table>> = d
        .catalog
        .tables(d.database)
        .filter(|table| table.schema == schema.oid)
        .cloned()
        .collect();
    for table in &tables {
        let shown = shown(d, schema.oid, &table.name, table.oid);
        plan.tables.insert(table.oid);
        plan.cascaded.push(format!("table {shown}"));
        plan.details
            .push(format!("table {shown} depends on schema {name}"));
    }
    for view in d.catalog.views(d.database) {
        if view.schema == schema.oid && plan.views.insert(view.oid) {
            let shown = shown(d, schema.oid, &view.name, view.oid);
            plan.cascaded.push(format!("view {shown}"));
            plan.details
                .push(format!("view {shown} depends on schema {name}"));
        }
    }
    for table in &tables {
        plan.depend_on_table(d, table)?;
    }
    let sequences: Vec<Arc<Sequence>> = d
        .catalog
        .sequences(d.database)
        .filter(|sequence| sequence.schema == schema.oid)
        .cloned()
        .collect();
    for sequence in &sequences {
        if plan.sequences.insert(sequence.oid) {
            plan.cascaded.push(format!("sequence {}", sequence.name));
            plan.details.push(format!(
                "sequence {} depends on schema {name}",
                sequence.name
            ));
            plan.depend_on_sequence(d, sequence)?;
        }
    }
    plan.execute(d, &format!("schema {name}"), cascade).await?;
    d.free_name(NameKind::Schema, d.database, name).await?;
    d.remove(schema.oid)
}

pub(super) fn drop_function(
    d: &mut DdlContext<'_>,
    drop: &ast::DropFunction,
) -> Result<&'static str> {
    for function in &drop.func_desc {
        let text = function.to_string();
        if !drop.if_exists {
            return Err(Error::new(
                SqlState::UNDEFINED_FUNCTION,
                format!("function {text} does not exist"),
            ));
        }
        d.notice(format!("function {text} does not exist, skipping"));
    }
    Ok("DROP FUNCTION")
}

pub(super) fn drop_trigger(
    d: &mut DdlContext<'_>,
    drop: &ast::DropTrigger,
) -> Result<&'static str> {
    let name = simple_name(&drop.trigger_name)?;
    let table = drop
        .table_name
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let text = format!("trigger \"{name}\" for relation \"{table}\" does not exist");
    if !drop.if_exists {
        return Err(Error::new(SqlState::UNDEFINED_OBJECT, text));
    }
    d.notice(format!("{text}, skipping"));
    Ok("DROP TRIGGER")
}
