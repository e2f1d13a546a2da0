//! Statements of PostgreSQL that the SQL parser does not know, or knows in another dialect only.
//!
//! [`parse`] looks at the first words of a statement and leaves all that it does not recognise to
//! the SQL parser.

use super::alter_sequence::{AlterSequence, alter_sequence};
use super::constraints::parse_expression;
use super::context::{DdlContext, wrong_kind};
use super::names::{ident, no_column, object_name};
use super::role::{self, RoleChange};
use super::sequence::{CreateSequence, create_sequence, integer};
use super::{alter_column, alter_table, namespace};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use crate::catalog::store::NameKind;
use datafusion::sql::sqlparser::ast::{
    AlterTableOperation, DataType, Expr, Ident, ObjectName, ObjectNamePart, Owner,
    RenameTableNameKind, SequenceOptions,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use types::{Error, Result};

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
    let dialect = PostgreSqlDialect {};
    let Ok(tokens) = Tokenizer::new(&dialect, text).tokenize() else {
        return Ok(None);
    };
    let mut words = Words {
        tokens: tokens
            .into_iter()
            .filter(|token| !matches!(token, Token::Whitespace(_)))
            .collect(),
        at: 0,
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

/// Rewrites what the SQL parser takes only in part: `CREATE UNLOGGED TABLE`, and the options of an
/// identity column, which it wants in one order. `None` if there is nothing to rewrite.
pub fn for_parser(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let start = lower.trim_start();
    let may = start.starts_with("create unlogged")
        || (lower.contains("identity")
            && (start.starts_with("create") || start.starts_with("alter")));
    if !may {
        return None;
    }
    let dialect = PostgreSqlDialect {};
    let mut tokens = Tokenizer::new(&dialect, text).tokenize().ok()?;
    tokens.retain(|token| !matches!(token, Token::Whitespace(_)));
    let mut words = Words { tokens, at: 0 };
    if words.is_word(1, "unlogged") {
        words.tokens.remove(1);
    }
    let mut at = 0;
    while at < words.tokens.len() {
        let opens =
            words.is_word(at, "identity") && words.tokens.get(at + 1) == Some(&Token::LParen);
        if opens
            && let Some(length) = words.tokens[at + 2..]
                .iter()
                .position(|t| *t == Token::RParen)
        {
            let options = words.tokens[at + 2..at + 2 + length].to_vec();
            let ordered = ordered_options(options)?;
            words.tokens.splice(at + 2..at + 2 + length, ordered);
        }
        at += 1;
    }
    let texts: Option<Vec<String>> = words.tokens.iter().map(token_text).collect();
    Some(texts?.join(" "))
}

/// A token as SQL text; `None` for kinds of strings that cannot be written back.
fn token_text(token: &Token) -> Option<String> {
    match token {
        Token::SingleQuotedString(text) => Some(format!("'{}'", text.replace('\'', "''"))),
        Token::Word(word) if word.quote_style == Some('"') => {
            Some(format!("\"{}\"", word.value.replace('"', "\"\"")))
        }
        Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::DollarQuotedString(_)
        | Token::HexStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::SingleQuotedByteStringLiteral(_) => None,
        other => Some(other.to_string()),
    }
}

/// Sequence options in the order INCREMENT, MINVALUE, MAXVALUE, START, CACHE, CYCLE.
fn ordered_options(tokens: Vec<Token>) -> Option<Vec<Token>> {
    let mut words = Words { tokens, at: 0 };
    let mut pieces: Vec<(usize, Vec<Token>)> = Vec::new();
    while words.peek().is_some() {
        let from = words.at;
        let mut part = SequenceParts::default();
        if !part.accept(&mut words).ok()? {
            return None;
        }
        let rank = match part.options.first()? {
            SequenceOptions::IncrementBy(..) => 0,
            SequenceOptions::MinValue(_) => 1,
            SequenceOptions::MaxValue(_) => 2,
            SequenceOptions::StartWith(..) => 3,
            SequenceOptions::Cache(_) => 4,
            SequenceOptions::Cycle(_) => 5,
        };
        pieces.push((rank, words.tokens[from..words.at].to_vec()));
    }
    pieces.sort_by_key(|(rank, _)| *rank);
    Some(pieces.into_iter().flat_map(|(_, piece)| piece).collect())
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
            alter_table::set_schema(d, name, *if_exists, &ident(schema)).await?;
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
            role::make_role(d, ident(name), false, change.clone()).await?;
            "CREATE ROLE"
        }
        ExtraStatement::AlterRole { name, change } => {
            role::change_role(d, &ident(name), change.clone()).await?;
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
        } => {
            alter_database(d, &ident(name), rename.as_ref(), owner.as_ref()).await?;
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
    d.put(Descriptor::Database(database))
}

/// The statement's tokens, without white space.
struct Words {
    tokens: Vec<Token>,
    at: usize,
}

impl Words {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        match self.tokens.get(at) {
            Some(Token::Word(found)) => {
                found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word)
            }
            _ => false,
        }
    }

    /// Takes these words if they are next.
    fn accept(&mut self, words: &str) -> bool {
        let mut at = self.at;
        for word in words.split(' ') {
            if !self.is_word(at, word) {
                return false;
            }
            at += 1;
        }
        self.at = at;
        true
    }

    fn accept_token(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, words: &str) -> Result<()> {
        if self.accept(words) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn unexpected(&self) -> Error {
        match self.peek() {
            Some(token) => Error::syntax(format!("syntax error at or near \"{token}\"")),
            None => Error::syntax("syntax error at end of input"),
        }
    }

    fn ident(&mut self) -> Result<Ident> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let found = match word.quote_style {
                    Some(quote) => Ident::with_quote(quote, word.value.clone()),
                    None => Ident::new(word.value.clone()),
                };
                self.at += 1;
                Ok(found)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn object_name(&mut self) -> Result<ObjectName> {
        let mut parts = vec![ObjectNamePart::Identifier(self.ident()?)];
        while self.accept_token(&Token::Period) {
            parts.push(ObjectNamePart::Identifier(self.ident()?));
        }
        Ok(ObjectName(parts))
    }

    fn string(&mut self) -> Result<String> {
        match self.peek() {
            Some(Token::SingleQuotedString(text)) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn number(&mut self) -> Result<Expr> {
        let mut text = String::new();
        if self.accept_token(&Token::Minus) {
            text.push('-');
        } else {
            self.accept_token(&Token::Plus);
        }
        match self.peek() {
            Some(Token::Number(digits, _)) => {
                text.push_str(digits);
                self.at += 1;
                parse_expression(&text)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn data_type(&mut self) -> Result<DataType> {
        let dialect = PostgreSqlDialect {};
        let name = self.ident()?.value;
        Parser::new(&dialect)
            .try_with_sql(&name)
            .and_then(|mut parser| parser.parse_data_type())
            .map_err(|error| Error::syntax(error.to_string()))
    }
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

fn create_sequence_statement(words: &mut Words) -> Result<ExtraStatement> {
    let if_not_exists = words.accept("if not exists");
    let name = words.object_name()?;
    let mut parts = SequenceParts::default();
    while let Some(token) = words.peek() {
        if *token == Token::SemiColon {
            break;
        }
        if !parts.accept(words)? {
            return Err(words.unexpected());
        }
    }
    Ok(ExtraStatement::CreateSequence {
        name,
        if_not_exists,
        data_type: parts.data_type,
        options: parts.options,
        owned_by: parts.owned_by,
    })
}

/// What CREATE and ALTER SEQUENCE share, in any order.
#[derive(Default)]
struct SequenceParts {
    data_type: Option<DataType>,
    options: Vec<SequenceOptions>,
    owned_by: Option<ObjectName>,
}

impl SequenceParts {
    fn accept(&mut self, words: &mut Words) -> Result<bool> {
        if words.accept("as") {
            self.data_type = Some(words.data_type()?);
        } else if words.accept("increment") {
            words.accept("by");
            let value = words.number()?;
            self.options.push(SequenceOptions::IncrementBy(value, true));
        } else if words.accept("no minvalue") {
            self.options.push(SequenceOptions::MinValue(None));
        } else if words.accept("minvalue") {
            let value = words.number()?;
            self.options.push(SequenceOptions::MinValue(Some(value)));
        } else if words.accept("no maxvalue") {
            self.options.push(SequenceOptions::MaxValue(None));
        } else if words.accept("maxvalue") {
            let value = words.number()?;
            self.options.push(SequenceOptions::MaxValue(Some(value)));
        } else if words.accept("start") {
            words.accept("with");
            let value = words.number()?;
            self.options.push(SequenceOptions::StartWith(value, true));
        } else if words.accept("cache") {
            let value = words.number()?;
            self.options.push(SequenceOptions::Cache(value));
        } else if words.accept("no cycle") {
            self.options.push(SequenceOptions::Cycle(true));
        } else if words.accept("cycle") {
            self.options.push(SequenceOptions::Cycle(false));
        } else if words.accept("owned by") {
            self.owned_by = Some(words.object_name()?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

fn alter_sequence_statement(words: &mut Words) -> Result<ExtraStatement> {
    let if_exists = words.accept("if exists");
    let mut alter = AlterSequence {
        name: words.object_name()?,
        if_exists,
        data_type: None,
        options: Vec::new(),
        restart: None,
        owned_by: None,
        owner: None,
        rename: None,
        schema: None,
    };
    let mut parts = SequenceParts::default();
    while let Some(token) = words.peek() {
        if *token == Token::SemiColon {
            break;
        }
        if words.accept("restart") {
            let with = words.accept("with");
            let value = matches!(
                words.peek(),
                Some(Token::Number(..) | Token::Minus | Token::Plus)
            );
            alter.restart = Some(if with || value {
                Some(integer(&words.number()?)?)
            } else {
                None
            });
        } else if words.accept("owner to") {
            alter.owner = Some(words.ident()?);
        } else if words.accept("rename to") {
            alter.rename = Some(words.ident()?);
        } else if words.accept("set schema") {
            alter.schema = Some(words.ident()?);
        } else if !parts.accept(words)? {
            return Err(words.unexpected());
        }
    }
    alter.data_type = parts.data_type;
    alter.options = parts.options;
    alter.owned_by = parts.owned_by;
    Ok(ExtraStatement::AlterSequence(alter))
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

fn role_statement(words: &mut Words, login: bool) -> Result<ExtraStatement> {
    let name = words.ident()?;
    let change = RoleChange {
        can_login: Some(login),
        ..RoleChange::default()
    };
    let change = role_attributes(words, change)?;
    Ok(ExtraStatement::CreateRole { name, change })
}

fn alter_role_statement(words: &mut Words) -> Result<Option<ExtraStatement>> {
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

fn database_statement(words: &mut Words) -> Result<ExtraStatement> {
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

fn alter_database_statement(words: &mut Words) -> Result<ExtraStatement> {
    let name = words.ident()?;
    let (mut rename, mut owner) = (None, None);
    if words.accept("rename to") {
        rename = Some(words.ident()?);
    } else if words.accept("owner to") {
        owner = Some(words.ident()?);
    } else {
        return Err(Error::unsupported("ALTER DATABASE … SET"));
    }
    Ok(ExtraStatement::AlterDatabase {
        name,
        rename,
        owner,
    })
}

fn alter_view_statement(words: &mut Words) -> Result<Option<ExtraStatement>> {
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

fn alter_table_statement(words: &mut Words) -> Result<Option<ExtraStatement>> {
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
