//! Roles, passwords, GRANT and REVOKE.
//!
//! Privileges on objects are not kept yet: GRANT and REVOKE say so in a warning. Ownership and the
//! superuser attribute are enforced where DDL asks for them.

use super::context::DdlContext;
use super::names::{ident, simple_name};
use super::scram;
use crate::catalog::descriptor::*;
use crate::catalog::store::{self, BOOTSTRAP_ROLE_OID, NameKind};
use sqlparser::ast::{
    self, Action, AlterRoleOperation, Expr, GrantObjects, Ident, Password, Privileges, RoleOption,
    Value,
};
use types::{Error, Result, SqlState};

/// Attributes that a statement sets; what it does not say stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoleChange {
    pub superuser: Option<bool>,
    pub can_login: Option<bool>,
    pub create_database: Option<bool>,
    pub create_role: Option<bool>,
    /// `Some(None)` is `PASSWORD NULL`.
    pub password: Option<Option<String>>,
}

impl RoleChange {
    fn apply(self, d: &DdlContext<'_>, role: &mut Role) -> Result<()> {
        role.superuser = self.superuser.unwrap_or(role.superuser);
        role.can_login = self.can_login.unwrap_or(role.can_login);
        role.create_database = self.create_database.unwrap_or(role.create_database);
        role.create_role = self.create_role.unwrap_or(role.create_role);
        if let Some(password) = self.password {
            role.password = password.map(|text| stored_password(d, &text)).transpose()?;
        }
        Ok(())
    }
}

/// A password that is a verifier already is kept; others are turned into one.
fn stored_password(d: &DdlContext<'_>, text: &str) -> Result<String> {
    if scram::Verifier::parse(text).is_some() {
        return Ok(text.to_string());
    }
    let rng = &d.statement.env.rng;
    let mut salt = [0; scram::SALT_BYTES];
    salt[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
    salt[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
    scram::verifier(text, &salt, scram::ITERATIONS)
}

fn password_of(password: &Password) -> Result<Option<String>> {
    match password {
        Password::NullPassword => Ok(None),
        Password::Password(Expr::Value(value)) => match &value.value {
            Value::Null => Ok(None),
            other => other
                .clone()
                .into_string()
                .map(Some)
                .ok_or_else(|| Error::syntax("a password must be a string")),
        },
        Password::Password(_) => Err(Error::syntax("a password must be a string")),
    }
}

fn may_manage_roles(d: &DdlContext<'_>, superuser: bool) -> Result<()> {
    let own = d.catalog.role(d.owner());
    let allowed = own.is_some_and(|role| role.superuser || (role.create_role && !superuser));
    if allowed {
        return Ok(());
    }
    let message = if superuser {
        "must be superuser to create or alter superusers"
    } else {
        "permission denied to create role"
    };
    Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, message))
}

pub(super) async fn create_role(
    d: &mut DdlContext<'_>,
    create: &ast::CreateRole,
) -> Result<&'static str> {
    let memberships = [
        &create.in_role,
        &create.in_group,
        &create.role,
        &create.user,
        &create.admin,
    ];
    if memberships.iter().any(|list| !list.is_empty()) {
        return Err(Error::unsupported("role membership"));
    }
    let change = RoleChange {
        superuser: create.superuser,
        can_login: create.login,
        create_database: create.create_db,
        create_role: create.create_role,
        password: create.password.as_ref().map(password_of).transpose()?,
    };
    for name in &create.names {
        make_role(d, simple_name(name)?, create.if_not_exists, change.clone()).await?;
    }
    Ok("CREATE ROLE")
}

pub(super) async fn make_role(
    d: &mut DdlContext<'_>,
    name: String,
    if_not_exists: bool,
    change: RoleChange,
) -> Result<()> {
    may_manage_roles(d, change.superuser == Some(true))?;
    if name.starts_with("pg_") || matches!(name.as_str(), "public" | "none") {
        return Err(Error::new(
            SqlState::RESERVED_NAME,
            format!("role name \"{name}\" is reserved"),
        ));
    }
    if d.name_is_taken(NameKind::Role, 0, &name).await? {
        let taken = store::name_taken(NameKind::Role, &name);
        if !if_not_exists {
            return Err(taken);
        }
        d.notice_of(taken.state, format!("{}, skipping", taken.message));
        return Ok(());
    }
    let oid = d.ids.object_id().await?;
    let mut role = Role {
        oid,
        name: name.clone(),
        superuser: false,
        can_login: false,
        password: None,
        create_database: false,
        create_role: false,
        comment: None,
    };
    change.apply(d, &mut role)?;
    d.claim_name(NameKind::Role, 0, &name, oid).await?;
    d.put(Descriptor::Role(role))
}

pub(super) async fn alter_role(
    d: &mut DdlContext<'_>,
    name: &Ident,
    operation: &AlterRoleOperation,
) -> Result<&'static str> {
    let name = role_name(d, &ident(name));
    match operation {
        AlterRoleOperation::RenameRole { role_name } => {
            may_manage_roles(d, false)?;
            let new = ident(role_name);
            let oid = d.require_role(&name)?;
            d.claim_name(NameKind::Role, 0, &new, oid).await?;
            d.free_name(NameKind::Role, 0, &name).await?;
            let mut role = (*d.lock_role(oid).await?).clone();
            role.name = new;
            d.put(Descriptor::Role(role))?;
        }
        AlterRoleOperation::WithOptions { options } => {
            let mut change = RoleChange::default();
            for option in options {
                match option {
                    RoleOption::SuperUser(on) => change.superuser = Some(*on),
                    RoleOption::Login(on) => change.can_login = Some(*on),
                    RoleOption::CreateDB(on) => change.create_database = Some(*on),
                    RoleOption::CreateRole(on) => change.create_role = Some(*on),
                    RoleOption::Password(password) => {
                        change.password = Some(password_of(password)?);
                    }
                    RoleOption::Inherit(_) => {}
                    other => return Err(Error::unsupported(format!("role option {other}"))),
                }
            }
            change_role(d, &name, change).await?;
        }
        AlterRoleOperation::Set { .. } | AlterRoleOperation::Reset { .. } => {
            return Err(Error::unsupported("ALTER ROLE … SET"));
        }
        AlterRoleOperation::AddMember { .. } | AlterRoleOperation::DropMember { .. } => {
            return Err(Error::unsupported("role membership"));
        }
    }
    Ok("ALTER ROLE")
}

/// `CURRENT_USER` and the like as a role's name.
fn role_name(d: &DdlContext<'_>, name: &str) -> String {
    match name {
        "current_user" | "current_role" => d.statement.settings.user.to_string(),
        "session_user" => d.statement.settings.session_user.to_string(),
        other => other.to_string(),
    }
}

/// Everybody may change the own password; the rest needs the right to manage roles.
pub(super) async fn change_role(
    d: &mut DdlContext<'_>,
    name: &str,
    change: RoleChange,
) -> Result<()> {
    let name = role_name(d, name);
    let oid = d.require_role(&name)?;
    let only_password = RoleChange {
        password: change.password.clone(),
        ..RoleChange::default()
    } == change;
    let role = d.lock_role(oid).await?;
    if !(only_password && oid == d.owner()) {
        may_manage_roles(d, role.superuser || change.superuser == Some(true))?;
    }
    let mut role = (*role).clone();
    change.apply(d, &mut role)?;
    if oid == BOOTSTRAP_ROLE_OID && !role.superuser {
        return Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "the bootstrap user must have the SUPERUSER attribute",
        ));
    }
    d.put(Descriptor::Role(role))
}

pub(super) async fn alter_user(
    d: &mut DdlContext<'_>,
    alter: &ast::AlterUser,
) -> Result<&'static str> {
    let Some(password) = &alter.password else {
        return Err(Error::unsupported("this form of ALTER USER"));
    };
    let change = RoleChange {
        password: Some(password.password.clone()),
        ..RoleChange::default()
    };
    change_role(d, &ident(&alter.name), change).await?;
    Ok("ALTER ROLE")
}

pub(super) async fn drop_role(d: &mut DdlContext<'_>, name: &str, if_exists: bool) -> Result<()> {
    let Some(role) = d.catalog.role_by_name(name).cloned() else {
        let text = format!("role \"{name}\" does not exist");
        if !if_exists {
            return Err(Error::new(SqlState::UNDEFINED_OBJECT, text));
        }
        d.notice(format!("{text}, skipping"));
        return Ok(());
    };
    may_manage_roles(d, role.superuser)?;
    if role.oid == d.owner() {
        return Err(Error::new(
            SqlState::OBJECT_IN_USE,
            "current user cannot be dropped",
        ));
    }
    if role.oid == BOOTSTRAP_ROLE_OID {
        return Err(Error::new(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop role {name} because it is required by the database system"),
        ));
    }
    let mut owned = Vec::new();
    for database in d.catalog.databases() {
        if database.owner == role.oid {
            owned.push(format!("owner of database {}", database.name));
        }
        let schemas = d.catalog.schemas(database.oid);
        owned.extend(
            schemas
                .filter(|schema| schema.owner == role.oid)
                .map(|schema| format!("owner of schema {}", schema.name)),
        );
        let tables = d.catalog.tables(database.oid);
        owned.extend(
            tables
                .filter(|table| table.owner == role.oid)
                .map(|table| format!("owner of table {}", table.name)),
        );
    }
    if !owned.is_empty() {
        return Err(Error::new(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("role \"{name}\" cannot be dropped because some objects depend on it"),
        )
        .detail(owned.join("\n")));
    }
    d.lock_role(role.oid).await?;
    d.free_name(NameKind::Role, 0, name).await?;
    d.remove(role.oid)
}

fn no_effect(d: &mut DdlContext<'_>, command: &str) {
    d.warning(
        SqlState::WARNING,
        format!("{command} has no effect: privileges are not enforced yet"),
    );
}

/// Refuses role membership, and checks that the tables named are there.
fn check_grant(
    d: &DdlContext<'_>,
    privileges: &Privileges,
    objects: Option<&GrantObjects>,
) -> Result<()> {
    if let Privileges::Actions(actions) = privileges
        && (objects.is_none() || actions.iter().any(|a| matches!(a, Action::Role { .. })))
    {
        return Err(Error::unsupported("role membership"));
    }
    if let Some(GrantObjects::Tables(names)) = objects {
        for name in names {
            let (schema, name) = super::names::object_name(d, name)?;
            if schema
                .as_deref()
                .is_none_or(|schema| !super::context::is_built_in_schema(schema))
            {
                d.require(schema.as_deref(), &name)?;
            }
        }
    }
    Ok(())
}

pub(super) fn grant(d: &mut DdlContext<'_>, grant: &ast::Grant) -> Result<&'static str> {
    check_grant(d, &grant.privileges, grant.objects.as_ref())?;
    no_effect(d, "GRANT");
    Ok("GRANT")
}

pub(super) fn revoke(d: &mut DdlContext<'_>, revoke: &ast::Revoke) -> Result<&'static str> {
    check_grant(d, &revoke.privileges, revoke.objects.as_ref())?;
    no_effect(d, "REVOKE");
    Ok("REVOKE")
}
