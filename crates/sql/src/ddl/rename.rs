//! New names for columns and relations, and what may not get one because a view names it.

use super::alter_column;
use super::context::DdlContext;
use crate::catalog::descriptor::*;
use std::sync::Arc;
use types::{Error, Result, SqlState};

pub(super) fn rename_column(
    d: &mut DdlContext<'_>,
    table: &Arc<Table>,
    old: &str,
    new: String,
) -> Result<()> {
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

/// Whether a view's text has the word in it. Errs on the safe side.
pub(super) fn mentions(text: &str, word: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .any(|part| part.eq_ignore_ascii_case(word))
        || text.contains('*')
}

/// Views name relations as `schema.name`, so such a relation keeps its name for now.
pub(super) fn refuse_viewed(d: &DdlContext<'_>, oid: ObjectId) -> Result<()> {
    if d.catalog
        .views(d.database)
        .any(|view| view.depends_on.contains(&oid))
    {
        return Err(Error::unsupported("renaming a relation that a view uses"));
    }
    Ok(())
}
