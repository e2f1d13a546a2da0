//! Data definition: statements that change the catalog.
//!
//! # How a change is made
//! A DDL statement runs inside the session's transaction on a working copy of the catalog
//! ([`DdlContext::catalog`]). Each change is written as rows through the transaction and put into the
//! copy, so later statements see it; the session publishes [`DdlContext::changes`] once the
//! transaction has committed ([`crate::catalog::shared::SharedCatalog::publish`]). Rollback drops
//! the copy: nothing else is to be undone.
//!
//! # What keeps two changes apart
//! - A name is locked and read in its newest version before it is given or freed
//!   ([`crate::catalog::store`]).
//! - An object's descriptor is locked and read in its newest version before it is changed
//!   (`DdlContext::lock_table` and its like), so an old working copy never overwrites a newer
//!   descriptor.
//! - A table that is changed is also locked by its table key, which every writer of rows holds in
//!   `KeyShare`: a change waits for open transactions that wrote to the table, and they for it.
//!
//! # What it does with rows
//! Building an index, checking a new constraint and rewriting a table go through the rows in pages
//! within the transaction (`rows`), so their size is bounded by the transaction's memory limit.
//! A dropped or truncated table's rows stay behind under a data id that a durable row marks as
//! waiting for deletion; [`cleanup`] deletes them in bounded transactions.

mod add_column;
mod alter_column;
mod alter_constraint;
mod alter_sequence;
mod alter_table;
pub mod analysis;
pub mod cleanup;
mod comment;
mod constraints;
mod context;
mod create_table;
mod drop;
mod drop_column;
pub mod extra;
mod index;
mod like;
mod names;
mod namespace;
mod new_rows;
mod rename;
mod rewrite;
mod role;
mod rows;
pub mod scram;
mod sequence;
mod set_schema;
mod sharding;
#[cfg(test)]
mod tests;
mod truncate;
mod view;

pub use constraints::{columns_used, parse_expression};
pub use context::DdlContext;
pub use names::quote_ident;
pub use namespace::BUILT_IN_EXTENSIONS;

use sqlparser::ast::{self, Statement};
use types::{Error, Result};

/// Whether [`execute`] takes the statement.
pub fn is_ddl(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::CreateTable(_)
            | Statement::CreateIndex(_)
            | Statement::CreateView(_)
            | Statement::CreateSchema { .. }
            | Statement::CreateDatabase { .. }
            | Statement::CreateSequence { .. }
            | Statement::CreateRole(_)
            | Statement::CreateUser(_)
            | Statement::CreateExtension(_)
            | Statement::CreateDomain(_)
            | Statement::CreateType { .. }
            | Statement::CreateFunction(_)
            | Statement::CreateProcedure { .. }
            | Statement::CreateTrigger(_)
            | Statement::CreatePolicy(_)
            | Statement::CreateServer(_)
            | Statement::CreateOperator(_)
            | Statement::AlterTable(_)
            | Statement::AlterIndex { .. }
            | Statement::AlterView { .. }
            | Statement::AlterSchema(_)
            | Statement::AlterRole { .. }
            | Statement::AlterUser(_)
            | Statement::AlterType(_)
            | Statement::AlterPolicy(_)
            | Statement::Drop { .. }
            | Statement::DropExtension(_)
            | Statement::DropFunction(_)
            | Statement::DropTrigger(_)
            | Statement::DropDomain(_)
            | Statement::Truncate(_)
            | Statement::Comment { .. }
            | Statement::Grant(_)
            | Statement::Revoke(_)
    )
}

/// Runs one statement and returns its command tag. `CREATE TABLE AS` is
/// [`create_table_as`], for the session has the rows.
pub async fn execute(statement: &Statement, d: &mut DdlContext<'_>) -> Result<String> {
    let tag = match statement {
        Statement::CreateTable(create) => create_table::create_table(d, create).await?,
        Statement::CreateIndex(create) => index::create_index(d, create).await?,
        Statement::CreateView(create) => view::create_view(d, create).await?,
        Statement::AlterView { .. } => return Err(Error::unsupported("ALTER VIEW AS")),
        Statement::CreateSchema {
            schema_name,
            if_not_exists,
            ..
        } => namespace::create_schema(d, schema_name, *if_not_exists).await?,
        Statement::AlterSchema(alter) => namespace::alter_schema(d, alter).await?,
        Statement::CreateDatabase {
            db_name,
            if_not_exists,
            ..
        } => namespace::create_database(d, db_name, *if_not_exists).await?,
        Statement::CreateSequence {
            temporary,
            if_not_exists,
            name,
            data_type,
            sequence_options,
            owned_by,
        } => {
            if *temporary {
                return Err(Error::unsupported("CREATE TEMPORARY SEQUENCE"));
            }
            let request = sequence::CreateSequence {
                name,
                if_not_exists: *if_not_exists,
                data_type: data_type.as_ref(),
                options: sequence_options,
                owned_by: owned_by.as_ref(),
            };
            sequence::create_sequence(d, request).await?
        }
        Statement::CreateRole(create) => role::create_role(d, create).await?,
        Statement::AlterRole { name, operation } => role::alter_role(d, name, operation).await?,
        Statement::CreateUser(_) => {
            return Err(Error::syntax(
                "CREATE USER options could not be read; use CREATE ROLE … LOGIN",
            ));
        }
        Statement::AlterUser(alter) => role::alter_user(d, alter).await?,
        Statement::AlterTable(alter) => alter_table::alter_table(d, alter).await?,
        Statement::AlterIndex { name, operation } => index::alter_index(d, name, operation).await?,
        Statement::Drop {
            object_type,
            if_exists,
            names,
            cascade,
            ..
        } => drop::drop_objects(d, object_type, *if_exists, names, *cascade).await?,
        Statement::Truncate(truncate) => truncate::truncate(d, truncate).await?,
        Statement::Comment {
            object_type,
            object_name,
            comment,
            if_exists: _,
        } => comment::comment_on(d, object_type, object_name, comment.as_deref()).await?,
        Statement::CreateExtension(create) => namespace::create_extension(d, create)?,
        Statement::DropExtension(drop) => namespace::drop_extension(d, drop)?,
        Statement::Grant(grant) => role::grant(d, grant)?,
        Statement::Revoke(revoke) => role::revoke(d, revoke)?,
        Statement::CreateDomain(_) => return Err(Error::unsupported("CREATE DOMAIN")),
        Statement::CreateType { .. } => return Err(Error::unsupported("CREATE TYPE")),
        Statement::AlterType(_) => return Err(Error::unsupported("ALTER TYPE")),
        Statement::CreateFunction(_) => return Err(Error::unsupported("CREATE FUNCTION")),
        Statement::CreateProcedure { .. } => return Err(Error::unsupported("CREATE PROCEDURE")),
        Statement::CreateTrigger(_) => return Err(Error::unsupported("CREATE TRIGGER")),
        Statement::CreatePolicy(_) => return Err(Error::unsupported("CREATE POLICY")),
        Statement::CreateServer(_) => return Err(Error::unsupported("CREATE SERVER")),
        Statement::CreateOperator(_) => return Err(Error::unsupported("CREATE OPERATOR")),
        Statement::AlterPolicy(_) => return Err(Error::unsupported("ALTER POLICY")),
        Statement::DropFunction(drop) => drop::drop_function(d, drop)?,
        Statement::DropTrigger(drop) => drop::drop_trigger(d, drop)?,
        Statement::DropDomain(_) => return Err(Error::unsupported("DROP DOMAIN")),
        other => {
            let text = other.to_string();
            let words: Vec<&str> = text.split_whitespace().take(2).collect();
            return Err(Error::unsupported(words.join(" ")));
        }
    };
    Ok(tag.to_string())
}

/// `CREATE TABLE name AS query`: makes the table for rows of these columns and returns its object id,
/// or `None` if it exists and `IF NOT EXISTS` was said. The session then inserts the rows.
pub async fn create_table_as(
    create: &ast::CreateTable,
    columns: &[crate::response::ResultColumn],
    d: &mut DdlContext<'_>,
) -> Result<Option<crate::catalog::descriptor::ObjectId>> {
    create_table::create_table_as(d, create, columns).await
}
