//! The grammar of CREATE and ALTER ROLE, USER and DATABASE.

use super::ExtraStatement;
use super::words::Words;
use crate::ddl::role::RoleChange;
use sqlparser::tokenizer::Token;
use types::{Error, Result};

pub(super) fn role_statement(words: &mut Words, login: bool) -> Result<ExtraStatement> {
    let name = words.ident()?;
    let change = RoleChange {
        can_login: Some(login),
        ..RoleChange::default()
    };
    let change = role_attributes(words, change)?;
    Ok(ExtraStatement::CreateRole { name, change })
}

pub(super) fn alter_role_statement(words: &mut Words) -> Result<Option<ExtraStatement>> {
    let name = words.ident()?;
    // Renames and settings are in the parser's own grammar under ALTER ROLE.
    for other in ["rename", "set", "reset", "in"] {
        if words.is_word(words.at, other) {
            return Ok(None);
        }
    }
    let change = role_attributes(words, RoleChange::default())?;
    Ok(Some(ExtraStatement::AlterRole { name, change }))
}

/// Role attributes up to the end of the statement.
fn role_attributes(words: &mut Words, mut change: RoleChange) -> Result<RoleChange> {
    words.accept("with");
    while let Some(token) = words.peek() {
        if *token == Token::SemiColon {
            break;
        }
        if words.accept("superuser") {
            change.superuser = Some(true);
        } else if words.accept("nosuperuser") {
            change.superuser = Some(false);
        } else if words.accept("login") {
            change.can_login = Some(true);
        } else if words.accept("nologin") {
            change.can_login = Some(false);
        } else if words.accept("createdb") {
            change.create_database = Some(true);
        } else if words.accept("nocreatedb") {
            change.create_database = Some(false);
        } else if words.accept("createrole") {
            change.create_role = Some(true);
        } else if words.accept("nocreaterole") {
            change.create_role = Some(false);
        } else if words.accept("password null") {
            change.password = Some(None);
        } else if words.accept("encrypted password") || words.accept("password") {
            change.password = Some(Some(words.string()?));
        } else if words.accept("inherit")
            || words.accept("noinherit")
            || words.accept("noreplication")
            || words.accept("nobypassrls")
        {
            // What every role has here anyway.
        } else if words.accept("connection limit") {
            words.number()?;
            return Err(Error::unsupported("CONNECTION LIMIT of a role"));
        } else if words.accept("valid until") {
            words.string()?;
            return Err(Error::unsupported("VALID UNTIL of a role"));
        } else {
            let word = words.ident()?.value.to_lowercase();
            return match word.as_str() {
                "replication" | "bypassrls" | "in" | "role" | "user" | "admin" | "sysid" => {
                    Err(Error::unsupported(format!("role option {word}")))
                }
                _ => Err(Error::syntax(format!(
                    "unrecognized role option \"{word}\""
                ))),
            };
        }
    }
    Ok(change)
}

pub(super) fn database_statement(words: &mut Words) -> Result<ExtraStatement> {
    let name = words.ident()?;
    words.accept("with");
    let mut owner = None;
    while let Some(token) = words.peek() {
        if *token == Token::SemiColon {
            break;
        }
        let option = words.ident()?.value.to_lowercase();
        words.accept_token(&Token::Eq);
        match option.as_str() {
            "owner" => owner = Some(words.ident()?),
            "connection" => {
                words.expect("limit")?;
                words.accept_token(&Token::Eq);
                words.number()?;
            }
            "encoding" => {
                let encoding = match words.string() {
                    Ok(text) => text,
                    Err(_) => words.ident()?.value,
                };
                if !matches!(
                    encoding.to_ascii_lowercase().as_str(),
                    "utf8" | "utf-8" | "default"
                ) {
                    return Err(Error::unsupported(format!("encoding {encoding}")));
                }
            }
            "template" | "locale" | "lc_collate" | "lc_ctype" | "tablespace" | "strategy"
            | "locale_provider" | "icu_locale" | "allow_connections" | "is_template" => {
                // There is one collation, C, and an empty template.
                if words.string().is_err() {
                    words.ident()?;
                }
            }
            _ => {
                return Err(Error::syntax(format!("option \"{option}\" not recognized")));
            }
        }
    }
    Ok(ExtraStatement::CreateDatabase { name, owner })
}

pub(super) fn alter_database_statement(words: &mut Words) -> Result<ExtraStatement> {
    let name = words.ident()?;
    let (mut rename, mut owner, mut options) = (None, None, Vec::new());
    if words.accept("rename to") {
        rename = Some(words.ident()?);
    } else if words.accept("owner to") {
        owner = Some(words.ident()?);
    } else if words.accept("set") && words.accept_token(&Token::LParen) {
        options = parenthesised_options(words)?;
    } else {
        return Err(Error::unsupported("ALTER DATABASE … SET"));
    }
    Ok(ExtraStatement::AlterDatabase {
        name,
        rename,
        owner,
        options,
    })
}

/// `name = value, …)`, the values as text.
fn parenthesised_options(words: &mut Words) -> Result<Vec<(String, String)>> {
    let mut options = Vec::new();
    loop {
        let name = words.ident()?.value.to_lowercase();
        if !words.accept_token(&Token::Eq) {
            return Err(words.unexpected());
        }
        let value = match words.string() {
            Ok(text) => text,
            Err(_) => match words.number() {
                Ok(number) => number.to_string(),
                Err(_) => words.ident()?.value,
            },
        };
        options.push((name, value));
        if words.accept_token(&Token::RParen) {
            return Ok(options);
        }
        if !words.accept_token(&Token::Comma) {
            return Err(words.unexpected());
        }
    }
}
