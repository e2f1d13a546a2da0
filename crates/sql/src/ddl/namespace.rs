//! Schemas, databases and extensions.

use super::context::{DdlContext, is_built_in_schema, schema_missing};
use super::names::{ident, simple_name};
use crate::catalog::descriptor::*;
use crate::catalog::store::{self, NameKind};
use sqlparser::ast::{self, AlterSchemaOperation, Owner, SchemaName};
use types::{Error, Result, SqlState};

/// Extensions whose functions are built in, with the version shown.
pub const BUILT_IN_EXTENSIONS: [(&str, &str); 1] = [("plpgsql", "1.0")];
/// Extensions of which the commonly used functions are built in: creating one is a no-op.
const ACCEPTED_EXTENSIONS: [&str; 2] = ["pgcrypto", "uuid-ossp"];

pub(super) async fn create_schema(
    d: &mut DdlContext<'_>,
    name: &SchemaName,
    if_not_exists: bool,
) -> Result<&'static str> {
    let (name, owner) = match name {
        SchemaName::Simple(name) => (simple_name(name)?, d.owner()),
        SchemaName::UnnamedAuthorization(role) => {
            let role = ident(role);
            let owner = d.require_role(&role)?;
            (role, owner)
        }
        SchemaName::NamedAuthorization(name, role) => {
            (simple_name(name)?, d.require_role(&ident(role))?)
        }
    };
    check_schema_name(&name)?;
    if d.name_is_taken(NameKind::Schema, d.database, &name).await? {
        let taken = store::name_taken(NameKind::Schema, &name);
        if !if_not_exists {
            return Err(taken);
        }
        d.notice_of(taken.state, format!("{}, skipping", taken.message));
        return Ok("CREATE SCHEMA");
    }
    let oid = d.ids.object_id().await?;
    d.claim_name(NameKind::Schema, d.database, &name, oid)
        .await?;
    d.put(Descriptor::Schema(Schema {
        oid,
        database: d.database,
        name,
        owner,
        comment: None,
    }))?;
    Ok("CREATE SCHEMA")
}

fn check_schema_name(name: &str) -> Result<()> {
    if is_built_in_schema(name) {
        return Err(store::name_taken(NameKind::Schema, name));
    }
    if name.starts_with("pg_") {
        return Err(Error::new(
            SqlState::RESERVED_NAME,
            format!("unacceptable schema name \"{name}\""),
        )
        .detail("The prefix \"pg_\" is reserved for system schemas."));
    }
    Ok(())
}

pub(super) fn role_of(d: &DdlContext<'_>, owner: &Owner) -> Result<ObjectId> {
    match owner {
        Owner::Ident(name) => {
            let name = ident(name);
            match name.as_str() {
                "current_user" | "current_role" => Ok(d.owner()),
                "session_user" => d.require_role(&d.statement.settings.session_user),
                _ => d.require_role(&name),
            }
        }
        Owner::CurrentRole | Owner::CurrentUser => Ok(d.owner()),
        Owner::SessionUser => d.require_role(&d.statement.settings.session_user),
    }
}

pub(super) async fn alter_schema(
    d: &mut DdlContext<'_>,
    alter: &ast::AlterSchema,
) -> Result<&'static str> {
    let name = simple_name(&alter.name)?;
    let Some(schema) = d.catalog.schema_by_name(d.database, &name).cloned() else {
        if !alter.if_exists {
            return Err(schema_missing(&name));
        }
        d.notice(format!("schema \"{name}\" does not exist, skipping"));
        return Ok("ALTER SCHEMA");
    };
    d.must_own(schema.owner, "schema", &name)?;
    let schema = d.lock_schema(schema.oid).await?;
    let mut changed = (*schema).clone();
    for operation in &alter.operations {
        match operation {
            AlterSchemaOperation::Rename { name } => {
                let new = simple_name(name)?;
                check_schema_name(&new)?;
                refuse_views_in(d, &schema)?;
                d.claim_name(NameKind::Schema, d.database, &new, schema.oid)
                    .await?;
                d.free_name(NameKind::Schema, d.database, &schema.name)
                    .await?;
                changed.name = new;
            }
            AlterSchemaOperation::OwnerTo { owner } => changed.owner = role_of(d, owner)?,
            other => return Err(Error::unsupported(format!("ALTER SCHEMA {other}"))),
        }
    }
    d.put(Descriptor::Schema(changed))?;
    Ok("ALTER SCHEMA")
}

/// Views name what they use by schema, so such a schema cannot be renamed yet.
fn refuse_views_in(d: &DdlContext<'_>, schema: &Schema) -> Result<()> {
    let used = |oid: &ObjectId| {
        d.catalog
            .table(*oid)
            .is_some_and(|table| table.schema == schema.oid)
            || d.catalog
                .view(*oid)
                .is_some_and(|view| view.schema == schema.oid)
    };
    if d.catalog
        .views(schema.database)
        .any(|view| view.depends_on.iter().any(used))
    {
        return Err(Error::unsupported(
            "renaming a schema whose relations are used by views",
        ));
    }
    Ok(())
}

pub(super) async fn create_database(
    d: &mut DdlContext<'_>,
    name: &ast::ObjectName,
    if_not_exists: bool,
) -> Result<&'static str> {
    let name = simple_name(name)?;
    if d.name_is_taken(NameKind::Database, 0, &name).await? {
        let taken = store::name_taken(NameKind::Database, &name);
        if !if_not_exists {
            return Err(taken);
        }
        d.notice_of(taken.state, format!("{}, skipping", taken.message));
        return Ok("CREATE DATABASE");
    }
    make_database(d, name, None).await?;
    Ok("CREATE DATABASE")
}

/// Makes a database with its `public` schema.
pub(super) async fn make_database(
    d: &mut DdlContext<'_>,
    name: String,
    owner: Option<ObjectId>,
) -> Result<()> {
    let may = d
        .catalog
        .role(d.owner())
        .is_some_and(|role| role.superuser || role.create_database);
    if !may {
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            "permission denied to create database",
        ));
    }
    let owner = owner.unwrap_or_else(|| d.owner());
    let oid = d.ids.object_id().await?;
    d.claim_name(NameKind::Database, 0, &name, oid).await?;
    d.put(Descriptor::Database(Database {
        oid,
        name,
        owner,
        comment: None,
        template: false,
        replication_factor: None,
    }))?;
    let schema = d.ids.object_id().await?;
    d.claim_name(NameKind::Schema, oid, "public", schema)
        .await?;
    d.put(Descriptor::Schema(Schema {
        oid: schema,
        database: oid,
        name: "public".into(),
        owner,
        comment: Some("standard public schema".into()),
    }))
}

/// Drops a database with everything in it. That nobody is connected to it is the session's to check.
pub(super) async fn drop_database(
    d: &mut DdlContext<'_>,
    name: &str,
    if_exists: bool,
) -> Result<()> {
    let Some(database) = d.catalog.database_by_name(name).cloned() else {
        if !if_exists {
            return Err(database_missing(name));
        }
        d.notice(format!("database \"{name}\" does not exist, skipping"));
        return Ok(());
    };
    if database.oid == d.database {
        return Err(Error::new(
            SqlState::OBJECT_IN_USE,
            "cannot drop the currently open database",
        ));
    }
    if database.template {
        return Err(Error::new(
            SqlState::WRONG_OBJECT_TYPE,
            "cannot drop a template database",
        ));
    }
    d.must_own(database.owner, "database", name)?;
    d.lock_database(database.oid).await?;
    let tables: Vec<ObjectId> = d.catalog.tables(database.oid).map(|t| t.oid).collect();
    for oid in tables {
        let table = d.lock_table(oid).await?;
        for key in store::names_of(&Descriptor::Table((*table).clone())) {
            d.txn.delete(key)?;
        }
        super::cleanup::mark(d.txn, table.data_id)?;
        d.remove(oid)?;
    }
    let views: Vec<_> = d.catalog.views(database.oid).cloned().collect();
    for view in views {
        d.txn
            .delete(store::name_key(NameKind::Relation, view.schema, &view.name))?;
        d.remove(view.oid)?;
    }
    let sequences: Vec<_> = d.catalog.sequences(database.oid).cloned().collect();
    for sequence in sequences {
        super::drop::remove_sequence(d, &sequence).await?;
    }
    let schemas: Vec<_> = d.catalog.schemas(database.oid).cloned().collect();
    for schema in schemas {
        d.free_name(NameKind::Schema, database.oid, &schema.name)
            .await?;
        d.remove(schema.oid)?;
    }
    d.free_name(NameKind::Database, 0, name).await?;
    d.remove(database.oid)
}

pub(super) fn database_missing(name: &str) -> Error {
    Error::new(
        SqlState::INVALID_CATALOG_NAME,
        format!("database \"{name}\" does not exist"),
    )
}

pub(super) fn create_extension(
    d: &mut DdlContext<'_>,
    create: &ast::CreateExtension,
) -> Result<&'static str> {
    let name = ident(&create.name);
    if BUILT_IN_EXTENSIONS.iter().any(|(known, _)| *known == name) {
        let text = format!("extension \"{name}\" already exists");
        if !create.if_not_exists {
            return Err(Error::new(SqlState::DUPLICATE_OBJECT, text));
        }
        d.notice_of(SqlState::DUPLICATE_OBJECT, format!("{text}, skipping"));
        return Ok("CREATE EXTENSION");
    }
    if ACCEPTED_EXTENSIONS.contains(&name.as_str()) {
        return Ok("CREATE EXTENSION");
    }
    Err(Error::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("extension \"{name}\" is not available"),
    ))
}

pub(super) fn drop_extension(
    d: &mut DdlContext<'_>,
    drop: &ast::DropExtension,
) -> Result<&'static str> {
    for name in &drop.names {
        let name = ident(name);
        if ACCEPTED_EXTENSIONS.contains(&name.as_str()) {
            continue;
        }
        if BUILT_IN_EXTENSIONS.iter().any(|(known, _)| *known == name) {
            return Err(Error::new(
                SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                format!(
                    "cannot drop extension {name} because it is required by the database system"
                ),
            ));
        }
        let text = format!("extension \"{name}\" does not exist");
        if !drop.if_exists {
            return Err(Error::new(SqlState::UNDEFINED_OBJECT, text));
        }
        d.notice(format!("{text}, skipping"));
    }
    Ok("DROP EXTENSION")
}
