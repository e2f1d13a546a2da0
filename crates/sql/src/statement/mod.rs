//! A statement as the session runs it.
//!
//! Queries, changes and definitions are parsed by `sqlparser`. What steers the session (transactions,
//! settings, prepared statements, cursors, COPY, maintenance) is small and PostgreSQL-specific, and
//! has a parser of its own in `utility`.

mod copy;
mod cursor;
pub(crate) mod grammar;
mod literals;
mod rewrite;
pub mod tokens;
mod utility;

pub use copy::{CopyDirection, CopyKind, CopyOptions, CopySource, CopyStatement};
pub use cursor::{FetchCount, FetchStatement};
pub(crate) use rewrite::{MARK, OVERRIDING_SYSTEM, OVERRIDING_USER, SYMMETRIC};

use crate::text::tokenize;
use grammar::MAX_PARSE_DEPTH;
use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use tokens::Tokens;
use txn::kv::Isolation;
use types::{Error, Result};

#[derive(Clone, Debug)]
pub enum Statement {
    Empty,
    Query(Box<ast::Query>),
    /// INSERT, UPDATE, DELETE.
    Change(Box<ast::Statement>),
    /// A query or change whose WITH queries or body change rows.
    ChangeWith(Box<ast::Query>),
    /// CREATE, ALTER, DROP, TRUNCATE, COMMENT, GRANT …
    Define(Box<ast::Statement>),
    /// A definition in PostgreSQL's grammar that the SQL parser lacks.
    DefineExtra(Box<crate::ddl::extra::ExtraStatement>),
    CreateTableAs {
        table: Box<ast::CreateTable>,
        query: Box<ast::Query>,
        /// `false`: WITH NO DATA.
        with_data: bool,
    },
    Copy(Box<CopyStatement>),
    Explain {
        analyze: bool,
        verbose: bool,
        json: bool,
        statement: Box<Statement>,
    },
    Begin(TransactionModes),
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    Set {
        name: String,
        value: SetValue,
        local: bool,
    },
    SetTransaction {
        modes: TransactionModes,
        session: bool,
    },
    SetConstraints {
        deferred: bool,
    },
    Show(String),
    ShowAll,
    Reset(String),
    ResetAll,
    Discard(Discard),
    Prepare {
        name: String,
        types: Vec<String>,
        statement: String,
    },
    Execute {
        name: String,
        arguments: Vec<ast::Expr>,
    },
    /// `None`: all.
    Deallocate(Option<String>),
    Declare {
        name: String,
        hold: bool,
        /// SCROLL or NO SCROLL, if it says so.
        scroll: Option<bool>,
        query: Box<ast::Query>,
    },
    Fetch(FetchStatement),
    /// `None`: all.
    CloseCursor(Option<String>),
    /// VACUUM, ANALYZE, REINDEX, CLUSTER, CHECKPOINT: the tag, and relations that must exist.
    Maintenance {
        tag: &'static str,
        relations: Vec<(Option<String>, String)>,
    },
    LockTable {
        relations: Vec<(Option<String>, String)>,
        exclusive: bool,
        no_wait: bool,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionModes {
    pub isolation: Option<Isolation>,
    pub read_only: Option<bool>,
    /// Accepted; only means something to PostgreSQL's SERIALIZABLE READ ONLY.
    pub deferrable: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetValue {
    Default,
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    All,
    Plans,
    Sequences,
    Temporary,
}

impl Statement {
    /// Parses one statement; `text` holds no second one.
    pub fn parse(text: &str) -> Result<Statement> {
        let joined = literals::joined(text)?;
        let text = joined.as_deref().unwrap_or(text);
        let mut tokens = Tokens::new(text)?;
        if tokens.at_end() {
            return Ok(Statement::Empty);
        }
        if let Some(statement) = utility::parse(&mut tokens)? {
            return Ok(statement);
        }
        if let Some(definition) = crate::ddl::extra::parse(text)? {
            return Ok(Statement::DefineExtra(Box::new(definition)));
        }
        let rewritten = crate::ddl::extra::for_parser(text);
        let text = rewritten.as_deref().unwrap_or(text);
        let (text, with_data) = without_data_clause(text)?;
        let rewritten = rewrite::rewritten(text, &tokenize(text)?)?;
        let parsed = parse_with_grammar(rewritten.as_deref().unwrap_or(text))?;
        match classify(parsed)? {
            Statement::CreateTableAs { table, query, .. } => Ok(Statement::CreateTableAs {
                table,
                query,
                with_data: with_data.unwrap_or(true),
            }),
            _ if with_data.is_some() => Err(Error::syntax("syntax error at or near \"DATA\"")),
            other => Ok(other),
        }
    }

    /// The keyword PostgreSQL would name in errors such as 25006.
    pub fn command(&self) -> &'static str {
        match self {
            Statement::Query(_) => "SELECT",
            Statement::Change(change) => match change.as_ref() {
                ast::Statement::Insert(_) => "INSERT",
                ast::Statement::Update(_) => "UPDATE",
                _ => "DELETE",
            },
            Statement::ChangeWith(query) => match query.body.as_ref() {
                ast::SetExpr::Insert(_) => "INSERT",
                ast::SetExpr::Update(_) => "UPDATE",
                ast::SetExpr::Delete(_) => "DELETE",
                _ => "SELECT",
            },
            Statement::Define(_) | Statement::DefineExtra(_) | Statement::CreateTableAs { .. } => {
                "CREATE"
            }
            Statement::Copy(_) => "COPY",
            _ => "utility command",
        }
    }

    /// May run in a failed transaction block.
    pub fn ends_transaction(&self) -> bool {
        matches!(
            self,
            Statement::Commit { .. } | Statement::Rollback { .. } | Statement::RollbackTo(_)
        )
    }
}

fn classify(statement: ast::Statement) -> Result<Statement> {
    use ast::Statement as S;
    Ok(match statement {
        S::Query(query) if crate::dml::with::is_change(&query) => Statement::ChangeWith(query),
        S::Query(query) => Statement::Query(query),
        S::Insert(ref insert) if !insert.into => {
            let near = insert.table.to_string();
            return Err(Error::syntax(format!("syntax error at or near \"{near}\"")));
        }
        S::Insert(_) | S::Update(_) | S::Delete(_) => Statement::Change(Box::new(statement)),
        S::CreateTable(mut table) if table.query.is_some() => match table.query.take() {
            Some(query) => Statement::CreateTableAs {
                table: Box::new(table),
                query,
                with_data: true,
            },
            None => Statement::Define(Box::new(S::CreateTable(table))),
        },
        S::Merge(_) => return Err(Error::unsupported("MERGE")),
        S::Call(_) => return Err(Error::unsupported("CALL")),
        S::CreateFunction(_) => return Err(Error::unsupported("CREATE FUNCTION")),
        S::CreateProcedure { .. } => return Err(Error::unsupported("CREATE PROCEDURE")),
        S::CreateTrigger(_) => return Err(Error::unsupported("CREATE TRIGGER")),
        other => Statement::Define(Box::new(other)),
    })
}

/// A CREATE TABLE AS without its `WITH [NO] DATA`, and what that said.
fn without_data_clause(text: &str) -> Result<(&str, Option<bool>)> {
    let unchanged = (text, None);
    let start = text.trim_start().get(..6).unwrap_or_default();
    if !start.eq_ignore_ascii_case("create") {
        return Ok(unchanged);
    }
    let tokens = tokenize(text)?;
    let word = |back: usize| {
        let token = tokens.len().checked_sub(back).and_then(|at| tokens.get(at));
        token
            .map_or("", |token| &text[token.range.clone()])
            .to_ascii_lowercase()
    };
    let (length, with_data) = match (word(3).as_str(), word(2).as_str(), word(1).as_str()) {
        ("with", "no", "data") => (3, false),
        (_, "with", "data") => (2, true),
        _ => return Ok(unchanged),
    };
    let cut = tokens[tokens.len() - length].range.start;
    Ok((&text[..cut], Some(with_data)))
}

fn parse_with_grammar(text: &str) -> Result<ast::Statement> {
    let parsed = grammar::parse(text, |parser| {
        let statement = parser.parse_statement()?;
        parser.expect_token(&sqlparser::tokenizer::Token::EOF)?;
        Ok(statement)
    });
    parsed.map_err(|error| syntax_error(text, error))
}

/// A list of expressions, such as the arguments of EXECUTE.
pub(crate) fn parse_expressions(text: &str) -> Result<Vec<ast::Expr>> {
    grammar::parse(text, |parser| {
        parser.parse_comma_separated(Parser::parse_expr)
    })
    .map_err(|error| syntax_error(text, error))
}

pub(crate) fn parse_query(text: &str) -> Result<Box<ast::Query>> {
    match parse_with_grammar(text)? {
        ast::Statement::Query(query) => Ok(query),
        _ => Err(Error::syntax("a query is expected here")),
    }
}

/// `sqlparser` ends its messages with ` at Line: 1, Column: 8`: that becomes the position, and the
/// word there becomes PostgreSQL's `at or near`.
fn syntax_error(text: &str, error: ParserError) -> Error {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => {
            return Error::new(
                types::SqlState::STATEMENT_TOO_COMPLEX,
                "stack depth limit exceeded",
            )
            .hint(format!(
                "Nest expressions and subqueries less deep; at most {MAX_PARSE_DEPTH} levels are read."
            ));
        }
    };
    let Some((what, place)) = message.rsplit_once(" at Line: ") else {
        return Error::syntax(format!("syntax error: {message}"));
    };
    let numbers: Vec<usize> = place
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect();
    let &[line, column] = numbers.as_slice() else {
        return Error::syntax(format!("syntax error: {what}"));
    };
    let before: usize = text
        .split('\n')
        .take(line - 1)
        .map(|l| l.chars().count() + 1)
        .sum();
    let position = before + column;
    let rest: String = text.chars().skip(position.saturating_sub(1)).collect();
    let near = match Tokens::new(&rest) {
        Ok(mut tokens) => tokens.next_text().unwrap_or_default(),
        Err(_) => rest.clone(),
    };
    if near.is_empty() {
        return Error::syntax("syntax error at end of input").detail(what.to_string());
    }
    Error::syntax(format!("syntax error at or near \"{near}\""))
        .detail(what.to_string())
        .position(position as u32)
}

#[cfg(test)]
mod tests;
