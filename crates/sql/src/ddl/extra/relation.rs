//! The grammar of what the SQL parser leaves out of ALTER TABLE and ALTER VIEW.

use super::ExtraStatement;
use super::words::Words;
use sqlparser::ast::{AlterTableOperation, Owner, RenameTableNameKind};
use types::Result;

pub(super) fn alter_view_statement(words: &mut Words) -> Result<Option<ExtraStatement>> {
    let if_exists = words.accept("if exists");
    let name = words.object_name()?;
    if words.accept("set schema") {
        let schema = words.ident()?;
        let tag = "ALTER VIEW";
        return Ok(Some(ExtraStatement::SetSchema {
            name,
            if_exists,
            schema,
            tag,
        }));
    }
    let operation = if words.accept("rename to") {
        let new = words.object_name()?;
        AlterTableOperation::RenameTable {
            table_name: RenameTableNameKind::To(new),
        }
    } else if words.accept("owner to") {
        AlterTableOperation::OwnerTo {
            new_owner: Owner::Ident(words.ident()?),
        }
    } else {
        return Ok(None);
    };
    Ok(Some(ExtraStatement::AlterView { name, operation }))
}

pub(super) fn alter_table_statement(words: &mut Words) -> Result<Option<ExtraStatement>> {
    let if_exists = words.accept("if exists");
    words.accept("only");
    let Ok(name) = words.object_name() else {
        return Ok(None);
    };
    if words.accept("set schema") {
        let schema = words.ident()?;
        let tag = "ALTER TABLE";
        return Ok(Some(ExtraStatement::SetSchema {
            name,
            if_exists,
            schema,
            tag,
        }));
    }
    if !words.accept("alter") {
        return Ok(None);
    }
    words.accept("column");
    let Ok(column) = words.ident() else {
        return Ok(None);
    };
    if words.accept("drop identity") {
        let if_exists = words.accept("if exists");
        return Ok(Some(ExtraStatement::DropIdentity {
            table: name,
            column,
            if_exists,
        }));
    }
    for what in ["statistics", "storage", "compression"] {
        if words.accept(&format!("set {what}")) {
            if words.number().is_err() {
                words.ident()?;
            }
            return Ok(Some(ExtraStatement::ColumnTuning { table: name }));
        }
    }
    Ok(None)
}
