//! ALTER TABLE.
//!
//! The actions of one statement are applied one after the other to the table's descriptor; work on
//! rows (building, checking, rewriting) follows each action at once.

use super::alter_column;
use super::alter_sequence::move_name;
use super::constraints::{self, Added, Pending, columns_used, parse_expression};
use super::context::{DdlContext, wrong_kind};
use super::create_table::{check_generated, define_column, table_options};
use super::drop::{drop_orphaned_foreign_keys, drop_secondary_index, remove_sequence};
use super::names::{ident, no_column, object_name, simple_name};
use super::{index, namespace, rows, sequence};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use crate::catalog::store::NameKind;
use crate::functions::Volatility;
use datafusion::sql::sqlparser::ast::{
    self, AlterTableOperation, CreateTableOptions, DropBehavior, ObjectName, RenameTableNameKind,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::text::FormatContext;
use types::{Error, Result, SqlState};

pub(super) async fn alter_table(
    d: &mut DdlContext<'_>,
    alter: &ast::AlterTable,
) -> Result<&'static str> {
    let (schema, name) = object_name(d, &alter.name)?;
    let relation = match d.resolve(schema.as_deref(), &name) {
        Some(relation) => relation,
        None if alter.if_exists => {
            d.notice(format!("relation \"{name}\" does not exist, skipping"));
            return Ok("ALTER TABLE");
        }
        None => d.require(schema.as_deref(), &name)?,
    };
    match relation {
        Relation::Table(table) => {
            d.must_own(table.owner, "table", &name)?;
            for operation in &alter.operations {
                d.lock_table(table.oid).await?;
                apply(d, table.oid, operation).await?;
            }
            Ok("ALTER TABLE")
        }
        other => alter_other(d, &other, &name, &alter.operations).await,
    }
}

/// ALTER TABLE also renames and gives away relations of other kinds.
pub(super) async fn alter_other(
    d: &mut DdlContext<'_>,
    relation: &Relation,
    name: &str,
    operations: &[AlterTableOperation],
) -> Result<&'static str> {
    for operation in operations {
        match (relation, operation) {
            (Relation::View(view), AlterTableOperation::RenameTable { table_name }) => {
                let new = new_name(table_name)?;
                let mut changed = (*d.lock_view(view.oid).await?).clone();
                d.must_own(changed.owner, "view", name)?;
                d.rename_relation(changed.schema, &changed.name, &new, changed.oid)
                    .await?;
                refuse_viewed(d, changed.oid)?;
                changed.name = new;
                changed.version += 1;
                d.put(Descriptor::View(changed))?;
            }
            (Relation::View(view), AlterTableOperation::OwnerTo { new_owner }) => {
                let mut changed = (*d.lock_view(view.oid).await?).clone();
                d.must_own(changed.owner, "view", name)?;
                changed.owner = namespace::role_of(d, new_owner)?;
                d.put(Descriptor::View(changed))?;
            }
            (Relation::Sequence(sequence), AlterTableOperation::RenameTable { table_name }) => {
                let new = new_name(table_name)?;
                let mut changed = (*d.lock_sequence(sequence.oid).await?).clone();
                d.must_own(changed.owner, "sequence", name)?;
                d.rename_relation(changed.schema, &changed.name, &new, changed.oid)
                    .await?;
                changed.name = new;
                changed.version += 1;
                d.put(Descriptor::Sequence(changed))?;
            }
            (Relation::Sequence(sequence), AlterTableOperation::OwnerTo { new_owner }) => {
                let mut changed = (*d.lock_sequence(sequence.oid).await?).clone();
                d.must_own(changed.owner, "sequence", name)?;
                changed.owner = namespace::role_of(d, new_owner)?;
                d.put(Descriptor::Sequence(changed))?;
            }
            (Relation::Index(table, oid), AlterTableOperation::RenameTable { table_name }) => {
                let new = new_name(table_name)?;
                index::rename_index(d, table.oid, *oid, &new).await?;
            }
            // An index goes with its table.
            (Relation::Index(..), AlterTableOperation::OwnerTo { .. }) => {}
            _ => return Err(wrong_kind(name, "a table")),
        }
    }
    Ok("ALTER TABLE")
}

fn new_name(name: &RenameTableNameKind) -> Result<String> {
    let (RenameTableNameKind::As(name) | RenameTableNameKind::To(name)) = name;
    simple_name(name)
}

async fn apply(
    d: &mut DdlContext<'_>,
    oid: ObjectId,
    operation: &AlterTableOperation,
) -> Result<()> {
    let table = current(d, oid)?;
    match operation {
        AlterTableOperation::AddColumn {
            if_not_exists,
            column_def,
            ..
        } => add_column(d, &table, column_def, *if_not_exists).await,
        AlterTableOperation::DropColumn {
            column_names,
            if_exists,
            drop_behavior,
            ..
        } => {
            let cascade = *drop_behavior == Some(DropBehavior::Cascade);
            for name in column_names {
                drop_column(d, oid, &ident(name), *if_exists, cascade).await?;
            }
            Ok(())
        }
        AlterTableOperation::RenameColumn {
            old_column_name,
            new_column_name,
        } => rename_column(d, &table, &ident(old_column_name), ident(new_column_name)),
        AlterTableOperation::RenameTable { table_name } => {
            let new = new_name(table_name)?;
            d.rename_relation(table.schema, &table.name, &new, oid)
                .await?;
            refuse_viewed(d, oid)?;
            let mut changed = (*table).clone();
            changed.name = new;
            d.put_table(changed)?;
            Ok(())
        }
        AlterTableOperation::RenameConstraint { old_name, new_name } => {
            rename_constraint(d, &table, &ident(old_name), ident(new_name)).await
        }
        AlterTableOperation::AlterColumn { column_name, op } => {
            let name = ident(column_name);
            let position = table
                .column_position(&name)
                .ok_or_else(|| no_column(&table.name, &name))?;
            alter_column::alter_column(d, &table, position, op).await
        }
        AlterTableOperation::AddConstraint {
            constraint,
            not_valid,
        } => {
            let mut changed = (*table).clone();
            let mut pending = Pending::default();
            let added =
                constraints::add(d, &mut changed, constraint, *not_valid, &mut pending).await?;
            settle(d, &table, changed, vec![added]).await
        }
        AlterTableOperation::ValidateConstraint { name } => {
            validate_constraint(d, &table, &ident(name)).await
        }
        AlterTableOperation::DropConstraint {
            if_exists,
            name,
            drop_behavior,
        } => {
            let cascade = *drop_behavior == Some(DropBehavior::Cascade);
            drop_constraint(d, &table, &ident(name), *if_exists, cascade).await
        }
        AlterTableOperation::OwnerTo { new_owner } => {
            let mut changed = (*table).clone();
            changed.owner = namespace::role_of(d, new_owner)?;
            d.put_table(changed)?;
            Ok(())
        }
        AlterTableOperation::SetOptionsParens { options } => {
            let (options, _) = table_options(&CreateTableOptions::With(options.clone()))?;
            let mut changed = (*table).clone();
            for (key, value) in options {
                changed.options.retain(|(known, _)| *known != key);
                changed.options.push((key, value));
            }
            d.put_table(changed)?;
            Ok(())
        }
        AlterTableOperation::ReplicaIdentity { .. } => Ok(()),
        other => {
            let text = other.to_string();
            let words: Vec<&str> = text.split_whitespace().take(3).collect();
            Err(Error::unsupported(format!(
                "ALTER TABLE {}",
                words.join(" ")
            )))
        }
    }
}

fn current(d: &DdlContext<'_>, oid: ObjectId) -> Result<Arc<Table>> {
    d.catalog
        .table(oid)
        .cloned()
        .ok_or_else(|| Error::internal("a locked table is not in the working copy"))
}

/// Writes the changed table, then does what its new constraints ask of the rows.
async fn settle(
    d: &mut DdlContext<'_>,
    old: &Arc<Table>,
    mut changed: Table,
    added: Vec<Added>,
) -> Result<()> {
    let empty = rows::is_empty(d.txn, old).await?;
    let rekey = added.contains(&Added::PrimaryKey);
    if rekey && !empty {
        changed.data_id = d.ids.data_id().await?;
        for column in &mut changed.columns {
            column.missing = None;
        }
    }
    let new = d.put_table(changed)?;
    if empty {
        return Ok(());
    }
    if rekey {
        rows::rewrite(d, old, &new, &BTreeMap::new()).await?;
    }
    for what in added {
        match what {
            Added::PrimaryKey => {}
            // A rewrite has built all indexes.
            Added::Index(_) if rekey => {}
            Added::Index(at) => rows::build_index(d, &new, at).await?,
            Added::Check(at) => {
                let check = new.checks[at].clone();
                if !check.not_valid {
                    rows::check_rows(d, &new, &check).await?;
                }
            }
            Added::ForeignKey(at) => {
                let key = new.foreign_keys[at].clone();
                if !key.not_valid {
                    rows::check_foreign_key(d, &new, &key).await?;
                }
            }
        }
    }
    Ok(())
}

async fn add_column(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    definition: &ast::ColumnDef,
    if_not_exists: bool,
) -> Result<()> {
    let name = ident(&definition.name);
    if table.column_position(&name).is_some() {
        let text = format!(
            "column \"{name}\" of relation \"{}\" already exists",
            table.name
        );
        if !if_not_exists {
            return Err(Error::new(SqlState::DUPLICATE_COLUMN, text));
        }
        d.notice_of(SqlState::DUPLICATE_COLUMN, format!("{text}, skipping"));
        return Ok(());
    }
    let mut changed = (**table).clone();
    let mut pending = Pending::default();
    let (position, rest) = define_column(d, &mut changed, definition, &mut pending).await?;
    check_generated(d, &changed)?;
    for created in std::mem::take(&mut pending.sequences) {
        d.put(Descriptor::Sequence(created))?;
    }
    // Keys and checks of the column come after its values.
    let filled = fill_column(d, table, changed, position).await?;
    for (name, option) in rest {
        let mut changed = (*current(d, filled.oid)?).clone();
        let before = current(d, filled.oid)?;
        let added = constraints::add_at_column(
            d,
            &mut changed,
            position,
            name.as_ref(),
            &option,
            &mut pending,
        )
        .await?;
        settle(d, &before, changed, vec![added]).await?;
    }
    Ok(())
}

/// Gives existing rows the new column's value: by remembering a constant, or by a rewrite.
async fn fill_column(
    d: &mut DdlContext<'_>,
    old: &Arc<Table>,
    mut changed: Table,
    position: usize,
) -> Result<Arc<Table>> {
    let column = changed.columns[position].clone();
    if rows::is_empty(d.txn, old).await? {
        return d.put_table(changed);
    }
    let value = if let Some(sequence) = column.owned_sequence {
        rows::NewValue::Nextval(sequence)
    } else if let Some(text) = &column.generated {
        let shared = Arc::new(changed.clone());
        let found = d.analyser.expression(
            d.catalog,
            Some(&shared),
            &parse_expression(text)?,
            Some(&column.sql_type),
        )?;
        rows::NewValue::Of(found.expression)
    } else if let Some(text) = &column.default {
        let found = d.analyser.expression(
            d.catalog,
            None,
            &parse_expression(text)?,
            Some(&column.sql_type),
        )?;
        if found.volatility != Volatility::Volatile {
            let value = found.expression.evaluate(&[], d.statement)?;
            if value.is_null() && column.not_null {
                return Err(contains_nulls(&changed, &column.name));
            }
            changed.columns[position].missing = (!value.is_null())
                .then(|| value.to_text(&column.sql_type, &FormatContext::default()));
            return d.put_table(changed);
        }
        rows::NewValue::Of(found.expression)
    } else if column.not_null {
        return Err(contains_nulls(&changed, &column.name));
    } else {
        return d.put_table(changed);
    };
    changed.data_id = d.ids.data_id().await?;
    for column in &mut changed.columns {
        column.missing = None;
    }
    let new = d.put_table(changed)?;
    rows::rewrite(d, old, &new, &BTreeMap::from([(position, value)])).await?;
    Ok(new)
}

fn contains_nulls(table: &Table, column: &str) -> Error {
    Error::new(
        SqlState::NOT_NULL_VIOLATION,
        format!(
            "column \"{column}\" of relation \"{}\" contains null values",
            table.name
        ),
    )
    .table(&table.name)
    .column(column)
}

async fn drop_column(
    d: &mut DdlContext<'_>,
    oid: ObjectId,
    name: &str,
    if_exists: bool,
    cascade: bool,
) -> Result<()> {
    let table = current(d, oid)?;
    let Some(position) = table.column_position(name) else {
        if !if_exists {
            return Err(no_column(&table.name, name));
        }
        d.notice(format!(
            "column \"{name}\" of relation \"{}\" does not exist, skipping",
            table.name
        ));
        return Ok(());
    };
    let what = format!("column {name} of table {}", table.name);
    for view in d.catalog.views(table.database) {
        if view.depends_on.contains(&oid) && mentions(&view.query, name) {
            return Err(Error::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop {what} because other objects depend on it"),
            )
            .detail(format!("view {} depends on {what}", view.name))
            .hint("Drop the view first."));
        }
    }
    // Generated columns of others need it.
    for (other, column) in table.live_columns() {
        if let Some(text) = &column.generated
            && other != position
            && columns_used(&table, &parse_expression(text)?).contains(&position)
        {
            return Err(Error::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop {what} because other objects depend on it"),
            )
            .detail(format!(
                "column {} of table {} depends on {what}",
                column.name, table.name
            )));
        }
    }
    let mut changed = (*table).clone();
    let primary = changed
        .primary_key
        .as_ref()
        .filter(|key| key.columns.contains(&position))
        .cloned();
    let mut gone = Vec::new();
    for index in &table.indexes {
        if index::columns_needed(&table, index)?.contains(&position) {
            gone.push(index.clone());
        }
    }
    changed
        .indexes
        .retain(|index| gone.iter().all(|other| other.oid != index.oid));
    let mut checks = Vec::new();
    for check in &table.checks {
        if !columns_used(&table, &parse_expression(&check.expression)?).contains(&position) {
            checks.push(check.clone());
        }
    }
    changed.checks = checks;
    changed
        .foreign_keys
        .retain(|key| !key.columns.contains(&position));
    if primary.is_some() {
        changed.primary_key = None;
    }
    drop_orphaned_foreign_keys(d, &mut changed, &what, cascade).await?;
    for index in &gone {
        d.free_name(NameKind::Relation, table.schema, &index.name)
            .await?;
    }
    if let Some(key) = &primary {
        d.free_name(NameKind::Relation, table.schema, &key.name)
            .await?;
    }
    let sequence = changed.columns[position].owned_sequence.take();
    let column = &mut changed.columns[position];
    column.dropped = true;
    // PostgreSQL's name for what is left; no user column can have it twice.
    column.name = format!("........pg.dropped.{}........", position + 1);
    column.not_null = false;
    column.default = None;
    column.identity = None;
    column.generated = None;
    column.missing = None;
    column.comment = None;
    let rekey = primary.is_some() && !rows::is_empty(d.txn, &table).await?;
    if rekey {
        changed.data_id = d.ids.data_id().await?;
        for column in &mut changed.columns {
            column.missing = None;
        }
    } else {
        for index in &gone {
            rows::delete_index_entries(d, &table, index).await?;
        }
    }
    let new = d.put_table(changed)?;
    if rekey {
        rows::rewrite(d, &table, &new, &BTreeMap::new()).await?;
    }
    if let Some(sequence) = sequence {
        let sequence = d.lock_sequence(sequence).await?;
        remove_sequence(d, &sequence).await?;
    }
    Ok(())
}

/// Whether a view's text has the word in it. Errs on the safe side.
fn mentions(text: &str, word: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .any(|part| part.eq_ignore_ascii_case(word))
        || text.contains('*')
}

fn rename_column(d: &mut DdlContext<'_>, table: &Arc<Table>, old: &str, new: String) -> Result<()> {
    let position = table.column_position(old).ok_or_else(|| {
        Error::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{old}\" does not exist"),
        )
    })?;
    if table.column_position(&new).is_some() {
        return Err(Error::new(
            SqlState::DUPLICATE_COLUMN,
            format!(
                "column \"{new}\" of relation \"{}\" already exists",
                table.name
            ),
        ));
    }
    let used =
        |view: &Arc<View>| view.depends_on.contains(&table.oid) && mentions(&view.query, old);
    if d.catalog.views(table.database).any(used) {
        return Err(Error::unsupported("renaming a column that a view uses"));
    }
    let mut changed = (**table).clone();
    changed.columns[position].name.clone_from(&new);
    let rename = |text: &str| alter_column::rename_in(text, old, &new);
    for column in &mut changed.columns {
        if let Some(text) = &mut column.generated {
            *text = rename(text)?;
        }
    }
    for check in &mut changed.checks {
        check.expression = rename(&check.expression)?;
    }
    for index in &mut changed.indexes {
        if let Some(text) = &mut index.predicate {
            *text = rename(text)?;
        }
        for column in &mut index.columns {
            if let IndexKey::Expression(text, _) = &mut column.key {
                *text = rename(text)?;
            }
        }
    }
    d.put_table(changed)?;
    Ok(())
}

/// Views name relations as `schema.name`, so such a relation keeps its name for now.
fn refuse_viewed(d: &DdlContext<'_>, oid: ObjectId) -> Result<()> {
    if d.catalog
        .views(d.database)
        .any(|view| view.depends_on.contains(&oid))
    {
        return Err(Error::unsupported("renaming a relation that a view uses"));
    }
    Ok(())
}

async fn rename_constraint(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    old: &str,
    new: String,
) -> Result<()> {
    let mut changed = (**table).clone();
    if changed.has_constraint(&new) {
        return Err(Error::new(
            SqlState::DUPLICATE_OBJECT,
            format!(
                "constraint \"{new}\" for relation \"{}\" already exists",
                table.name
            ),
        ));
    }
    if let Some(key) = &table.primary_key
        && key.name == old
    {
        return index::rename_index(d, table.oid, key.oid, &new).await;
    }
    if let Some(index) = table
        .indexes
        .iter()
        .find(|index| index.constraint_oid.is_some() && index.name == old)
    {
        return index::rename_index(d, table.oid, index.oid, &new).await;
    }
    if let Some(check) = changed.checks.iter_mut().find(|check| check.name == old) {
        check.name = new;
    } else if let Some(key) = changed.foreign_keys.iter_mut().find(|key| key.name == old) {
        key.name = new;
    } else {
        return Err(no_constraint(table, old, "table"));
    }
    d.put_table(changed)?;
    Ok(())
}

fn no_constraint(table: &Table, name: &str, what: &str) -> Error {
    let message = match what {
        "table" => format!(
            "constraint \"{name}\" for table \"{}\" does not exist",
            table.name
        ),
        _ => format!(
            "constraint \"{name}\" of relation \"{}\" does not exist",
            table.name
        ),
    };
    Error::new(SqlState::UNDEFINED_OBJECT, message)
}

async fn validate_constraint(d: &mut DdlContext<'_>, table: &Arc<Table>, name: &str) -> Result<()> {
    let mut changed = (**table).clone();
    if let Some(check) = changed.checks.iter_mut().find(|check| check.name == name) {
        check.not_valid = false;
        let check = check.clone();
        rows::check_rows(d, table, &check).await?;
    } else if let Some(key) = changed.foreign_keys.iter_mut().find(|key| key.name == name) {
        key.not_valid = false;
        let key = key.clone();
        rows::check_foreign_key(d, table, &key).await?;
    } else if table.has_constraint(name) {
        return Err(Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!(
                "constraint \"{name}\" of relation \"{}\" is not a foreign key or check constraint",
                table.name
            ),
        ));
    } else {
        return Err(no_constraint(table, name, "relation"));
    }
    d.put_table(changed)?;
    Ok(())
}

async fn drop_constraint(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    name: &str,
    if_exists: bool,
    cascade: bool,
) -> Result<()> {
    let mut changed = (**table).clone();
    if let Some(key) = &table.primary_key
        && key.name == name
    {
        changed.primary_key = None;
        let what = format!("constraint {name} on table {}", table.name);
        drop_orphaned_foreign_keys(d, &mut changed, &what, cascade).await?;
        d.free_name(NameKind::Relation, table.schema, name).await?;
        let rekey = !rows::is_empty(d.txn, table).await?;
        if rekey {
            changed.data_id = d.ids.data_id().await?;
            for column in &mut changed.columns {
                column.missing = None;
            }
        }
        let new = d.put_table(changed)?;
        if rekey {
            rows::rewrite(d, table, &new, &BTreeMap::new()).await?;
        }
        return Ok(());
    }
    if let Some(index) = table
        .indexes
        .iter()
        .find(|index| index.constraint_oid.is_some() && index.name == name)
    {
        return drop_secondary_index(d, table.oid, index.oid, cascade).await;
    }
    let before = changed.checks.len() + changed.foreign_keys.len();
    changed.checks.retain(|check| check.name != name);
    changed.foreign_keys.retain(|key| key.name != name);
    if changed.checks.len() + changed.foreign_keys.len() == before {
        let missing = no_constraint(table, name, "relation");
        if !if_exists {
            return Err(missing);
        }
        d.notice(format!("{}, skipping", missing.message));
        return Ok(());
    }
    d.put_table(changed)?;
    Ok(())
}

/// `ALTER TABLE … SET SCHEMA`, with the table's indexes and owned sequences.
pub(super) async fn set_schema(
    d: &mut DdlContext<'_>,
    name: &ObjectName,
    if_exists: bool,
    schema: &str,
) -> Result<&'static str> {
    let (old_schema, name) = object_name(d, name)?;
    let relation = match d.resolve(old_schema.as_deref(), &name) {
        Some(relation) => relation,
        None if if_exists => {
            d.notice(format!("relation \"{name}\" does not exist, skipping"));
            return Ok("ALTER TABLE");
        }
        None => d.require(old_schema.as_deref(), &name)?,
    };
    let schema = d.creation_schema(Some(schema)).await?;
    match relation {
        Relation::Table(table) => {
            d.must_own(table.owner, "table", &name)?;
            let table = d.lock_table(table.oid).await?;
            if table.schema == schema.oid {
                return Ok("ALTER TABLE");
            }
            refuse_viewed(d, table.oid)?;
            move_name(d, table.schema, schema.oid, &table.name, table.oid).await?;
            for (index, oid) in crate::catalog::table_index_names(&table) {
                move_name(d, table.schema, schema.oid, index, oid).await?;
            }
            let mut changed = (*table).clone();
            changed.schema = schema.oid;
            d.put_table(changed)?;
            let owned: Vec<Arc<Sequence>> = d
                .catalog
                .sequences(table.database)
                .filter(|s| s.owned_by.is_some_and(|(owner, _)| owner == table.oid))
                .cloned()
                .collect();
            for sequence in owned {
                let sequence = d.lock_sequence(sequence.oid).await?;
                move_name(d, sequence.schema, schema.oid, &sequence.name, sequence.oid).await?;
                let mut changed = (*sequence).clone();
                changed.schema = schema.oid;
                changed.version += 1;
                d.put(Descriptor::Sequence(changed))?;
            }
        }
        Relation::View(view) => {
            d.must_own(view.owner, "view", &name)?;
            let view = d.lock_view(view.oid).await?;
            refuse_viewed(d, view.oid)?;
            move_name(d, view.schema, schema.oid, &view.name, view.oid).await?;
            let mut changed = (*view).clone();
            changed.schema = schema.oid;
            changed.version += 1;
            d.put(Descriptor::View(changed))?;
        }
        _ => return Err(wrong_kind(&name, "a table")),
    }
    Ok("ALTER TABLE")
}

/// Makes a column an IDENTITY column.
pub(super) async fn add_identity(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    position: usize,
    kind: Identity,
    options: &[ast::SequenceOptions],
) -> Result<()> {
    let column = &table.columns[position];
    let refuse = |message: String| {
        Err(Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            message,
        ))
    };
    if column.identity.is_some() {
        return refuse(format!(
            "column \"{}\" of relation \"{}\" is already an identity column",
            column.name, table.name
        ));
    }
    if column.default.is_some() {
        return refuse(format!(
            "column \"{}\" of relation \"{}\" already has a default value",
            column.name, table.name
        ));
    }
    if !column.not_null {
        return refuse(format!(
            "column \"{}\" of relation \"{}\" must be declared NOT NULL before identity can be added",
            column.name, table.name
        ));
    }
    if !column.sql_type.is_integer() {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            "identity column type must be smallint, integer, or bigint",
        ));
    }
    let mut changed = (**table).clone();
    let mut pending = Pending::default();
    let sql_type = column.sql_type.clone();
    let oid =
        sequence::owned_sequence(d, &changed, position, sql_type, options, &mut pending).await?;
    changed.columns[position].identity = Some(kind);
    changed.columns[position].owned_sequence = Some(oid);
    for created in pending.sequences {
        d.put(Descriptor::Sequence(created))?;
    }
    d.put_table(changed)?;
    Ok(())
}
