//! Statements of PostgreSQL that the SQL parser does not know, or knows in another dialect only.
//!
//! [`parse`] looks at the first words of a statement and leaves all that it does not recognise to
//! the SQL parser. [`for_parser`] writes some of those differently first.

mod relation;
mod rewrite;
mod role;
mod sequence;
mod words;

pub use rewrite::for_parser;

use super::alter_sequence::{AlterSequence, alter_sequence};
use super::context::{DdlContext, wrong_kind};
use super::names::{ident, no_column, object_name};
use super::role::{RoleChange, change_role, make_role};
use super::sequence::{CreateSequence, create_sequence};
use super::set_schema::set_schema;
use super::{alter_column, alter_table, namespace, sharding};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use crate::catalog::store::NameKind;
use relation::{alter_table_statement, alter_view_statement};
use role::{alter_database_statement, alter_role_statement, database_statement, role_statement};
use sequence::{alter_sequence_statement, create_sequence_statement};
use sqlparser::ast::{AlterTableOperation, DataType, Ident, ObjectName, Owner, SequenceOptions};
use sqlparser::tokenizer::Token;
use types::{Error, Result, SqlState};
use words::Words;

/// A parsed statement.
#[derive(Clone, Debug, PartialEq)]
pub enum ExtraStatement {
    CreateSequence {
        name: ObjectName,
        if_not_exists: bool,
        data_type: Option<DataType>,
        options: Vec<SequenceOptions>,
        owned_by: Option<ObjectName>,
    },
    AlterSequence(AlterSequence),
    /// `ALTER TABLE | VIEW … SET SCHEMA`.
    SetSchema {
        name: ObjectName,
        if_exists: bool,
        schema: Ident,
        tag: &'static str,
    },
    /// `ALTER VIEW … RENAME TO | OWNER TO`.
    AlterView {
        name: ObjectName,
        operation: AlterTableOperation,
    },
    DropIdentity {
        table: ObjectName,
        column: Ident,
        if_exists: bool,
    },
    /// Of a column: statistics target, storage, compression. They change nothing here.
    ColumnTuning {
        table: ObjectName,
    },
    CreateRole {
        name: Ident,
        change: RoleChange,
    },
    AlterRole {
        name: Ident,
        change: RoleChange,
    },
    CreateDatabase {
        name: Ident,
        owner: Option<Ident>,
    },
    AlterDatabase {
        name: Ident,
        rename: Option<Ident>,
        owner: Option<Ident>,
        /// `SET (…)`.
        options: Vec<(String, String)>,
    },
}

/// Reads one statement; `None` if the SQL parser is to read it.
pub fn parse(text: &str) -> Result<Option<ExtraStatement>> {
    // Cheap refusal: nothing but CREATE and ALTER is read here.
    let first = text
        .trim_start()
        .get(..6)
        .unwrap_or_default()
        .to_ascii_lowercase();
    if first != "create" && !first.starts_with("alter") {
        return Ok(None);
    }
    let Some(mut words) = Words::of(text) else {
        return Ok(None);
    };
    let found = statement(&mut words)?;
    if found.is_some() {
        words.accept_token(&Token::SemiColon);
        if let Some(token) = words.peek() {
            return Err(Error::syntax(format!(
                "syntax error at or near \"{token}\""
            )));
        }
    }
    Ok(found)
}

/// Runs a statement and returns its command tag.
pub async fn execute(statement: &ExtraStatement, d: &mut DdlContext<'_>) -> Result<String> {
    let tag = match statement {
        ExtraStatement::CreateSequence {
            name,
            if_not_exists,
            data_type,
            options,
            owned_by,
        } => {
            let request = CreateSequence {
                name,
                if_not_exists: *if_not_exists,
                data_type: data_type.as_ref(),
                options,
                owned_by: owned_by.as_ref(),
            };
            create_sequence(d, request).await?
        }
        ExtraStatement::AlterSequence(alter) => alter_sequence(d, alter).await?,
        ExtraStatement::SetSchema {
            name,
            if_exists,
            schema,
            tag,
        } => {
            set_schema(d, name, *if_exists, &ident(schema)).await?;
            tag
        }
        ExtraStatement::AlterView { name, operation } => {
            let (schema, view) = object_name(d, name)?;
            let relation = d.require(schema.as_deref(), &view)?;
            if !matches!(relation, Relation::View(_)) {
                return Err(wrong_kind(&view, "a view"));
            }
            let operations = std::slice::from_ref(operation);
            alter_table::alter_other(d, &relation, &view, operations).await?;
            "ALTER VIEW"
        }
        ExtraStatement::DropIdentity {
            table,
            column,
            if_exists,
        } => {
            let (schema, name) = object_name(d, table)?;
            let Relation::Table(table) = d.require(schema.as_deref(), &name)? else {
                return Err(wrong_kind(&name, "a table"));
            };
            d.must_own(table.owner, "table", &name)?;
            let table = d.lock_table(table.oid).await?;
            let column = ident(column);
            let position = table
                .column_position(&column)
                .ok_or_else(|| no_column(&name, &column))?;
            alter_column::drop_identity(d, &table, position, *if_exists).await?;
            "ALTER TABLE"
        }
        ExtraStatement::ColumnTuning { table } => {
            let (schema, name) = object_name(d, table)?;
            d.require(schema.as_deref(), &name)?;
            "ALTER TABLE"
        }
        ExtraStatement::CreateRole { name, change } => {
            make_role(d, ident(name), false, change.clone()).await?;
            "CREATE ROLE"
        }
        ExtraStatement::AlterRole { name, change } => {
            change_role(d, &ident(name), change.clone()).await?;
            "ALTER ROLE"
        }
        ExtraStatement::CreateDatabase { name, owner } => {
            let owner = owner
                .as_ref()
                .map(|owner| d.require_role(&ident(owner)))
                .transpose()?;
            namespace::make_database(d, ident(name), owner).await?;
            "CREATE DATABASE"
        }
        ExtraStatement::AlterDatabase {
            name,
            rename,
            owner,
            options,
        } => {
            let (rename, owner) = (rename.as_ref(), owner.as_ref());
            alter_database(d, &ident(name), rename, owner, options).await?;
            "ALTER DATABASE"
        }
    };
    Ok(tag.to_string())
}

async fn alter_database(
    d: &mut DdlContext<'_>,
    name: &str,
    rename: Option<&Ident>,
    owner: Option<&Ident>,
    options: &[(String, String)],
) -> Result<()> {
    let found = d.catalog.database_by_name(name).map(|found| found.oid);
    let oid = found.ok_or_else(|| namespace::database_missing(name))?;
    let mut database = (*d.lock_database(oid).await?).clone();
    d.must_own(database.owner, "database", name)?;
    if let Some(new) = rename {
        if oid == d.database {
            return Err(Error::unsupported("renaming the current database"));
        }
        let new = ident(new);
        d.claim_name(NameKind::Database, 0, &new, oid).await?;
        d.free_name(NameKind::Database, 0, name).await?;
        database.name = new;
    }
    if let Some(owner) = owner {
        database.owner = namespace::role_of(d, &Owner::Ident(owner.clone()))?;
    }
    for (option, value) in options {
        if option != sharding::REPLICATION_FACTOR {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("unrecognized parameter \"{option}\""),
            )
            .hint("A database has the parameter replication_factor."));
        }
        database.replication_factor = sharding::replication_factor(value)?;
    }
    d.put(Descriptor::Database(database))?;
    if !options.is_empty() {
        // Its tables ask for the same, but for those that have a factor of their own.
        let tables: Vec<ObjectId> = d.catalog.tables(oid).map(|table| table.oid).collect();
        for table in tables {
            if let Some(table) = d.lock_definition(table).await? {
                d.rewrite_rule(&table)?;
            }
        }
    }
    Ok(())
}

fn statement(words: &mut Words) -> Result<Option<ExtraStatement>> {
    if words.accept("create sequence") {
        return create_sequence_statement(words).map(Some);
    }
    if words.accept("alter sequence") {
        return alter_sequence_statement(words).map(Some);
    }
    if words.accept("create user") || words.accept("create role") {
        let login = words.is_word(1, "user");
        return role_statement(words, login).map(Some);
    }
    if words.accept("alter user") || words.accept("alter role") {
        return alter_role_statement(words);
    }
    if words.accept("create database") {
        return database_statement(words).map(Some);
    }
    if words.accept("alter database") {
        return alter_database_statement(words).map(Some);
    }
    if words.accept("alter view") {
        return alter_view_statement(words);
    }
    if words.accept("alter table") {
        return alter_table_statement(words);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pg_dump_writes() {
        let text = "CREATE SEQUENCE public.s AS integer START WITH 5 INCREMENT BY -1 \
                    NO MINVALUE NO MAXVALUE CACHE 1;";
        match parse(text) {
            Ok(Some(ExtraStatement::CreateSequence { name, options, .. })) => {
                assert_eq!(name.to_string(), "public.s");
                assert_eq!(options.len(), 5);
            }
            other => panic!("{other:?}"),
        }
        match parse("ALTER SEQUENCE s OWNED BY public.t.id") {
            Ok(Some(ExtraStatement::AlterSequence(alter))) => {
                assert_eq!(alter.owned_by.unwrap().to_string(), "public.t.id");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_are_put_in_order() {
        assert_eq!(
            for_parser(
                "create unlogged table t (a int generated always as identity \
                        (start with 10 increment by -5) , b text default 'It''s')"
            )
            .as_deref(),
            Some(
                "create table t ( a int generated always as identity \
                 ( increment by - 5 start with 10 ) , b text default 'It''s' )"
            )
        );
        assert_eq!(for_parser("create table t (a int)"), None);
        assert_eq!(for_parser("select identity from t"), None);
    }

    #[test]
    fn restarts() {
        let restart = |text: &str| match parse(text) {
            Ok(Some(ExtraStatement::AlterSequence(alter))) => alter.restart,
            other => panic!("{other:?}"),
        };
        assert_eq!(restart("alter sequence s restart"), Some(None));
        assert_eq!(restart("alter sequence s restart with -3"), Some(Some(-3)));
        assert_eq!(restart("alter sequence s restart 7;"), Some(Some(7)));
        assert_eq!(restart("alter sequence s increment 2"), None);
    }

    #[test]
    fn roles_and_passwords() {
        match parse("CREATE USER u WITH PASSWORD 'x' CREATEDB") {
            Ok(Some(ExtraStatement::CreateRole { change, .. })) => {
                assert_eq!(change.can_login, Some(true));
                assert_eq!(change.password, Some(Some("x".into())));
                assert_eq!(change.create_database, Some(true));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_rest_is_left_to_the_parser() {
        for text in [
            "SELECT 1",
            "create table t (a int)",
            "alter table t add column b int",
            "alter table t alter column b set not null",
            "create",
            "alter",
            "",
        ] {
            assert_eq!(parse(text), Ok(None), "{text}");
        }
        assert!(parse("alter sequence s frobnicate").is_err());
    }
}
