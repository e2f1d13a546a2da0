//! COPY (manual, "COPY"): with the options of today and of the days before 9.0.

use super::parse_query;
use super::tokens::Tokens;
use sqlparser::ast;
use types::{Error, Result, SqlState};

#[derive(Clone, Debug)]
pub struct CopyStatement {
    pub source: CopySource,
    pub direction: CopyDirection,
    pub options: CopyOptions,
}

#[derive(Clone, Debug)]
pub enum CopySource {
    Table {
        schema: Option<String>,
        table: String,
        columns: Vec<String>,
    },
    Query(Box<ast::Query>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyDirection {
    /// FROM STDIN.
    In,
    /// TO STDOUT.
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyKind {
    Text,
    Csv,
    Binary,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    pub kind: CopyKind,
    pub delimiter: u8,
    pub null: String,
    pub header: bool,
    pub quote: u8,
    pub escape: u8,
    pub force_quote: Vec<String>,
    pub force_quote_all: bool,
    pub force_not_null: Vec<String>,
    pub force_null: Vec<String>,
}

pub fn parse(t: &mut Tokens<'_>) -> Result<CopyStatement> {
    t.eat(&["binary"]);
    let source = if t.looking_at_symbol("(") {
        CopySource::Query(parse_query(t.parenthesised()?)?)
    } else {
        let (schema, table) = t.qualified_name()?;
        let mut columns = Vec::new();
        if t.eat_symbol("(") {
            columns = names(t)?;
        }
        CopySource::Table {
            schema,
            table,
            columns,
        }
    };
    let direction = if t.eat(&["from"]) {
        CopyDirection::In
    } else {
        t.expect(&["to"])?;
        CopyDirection::Out
    };
    let console = if direction == CopyDirection::In {
        "stdin"
    } else {
        "stdout"
    };
    if !t.eat(&[console]) {
        if t.try_string()?.is_some() || t.looking_at(&["program"]) {
            return Err(Error::unsupported("COPY with a file on the server")
                .hint("Use COPY … FROM STDIN or psql's \\copy."));
        }
        return Err(t.unexpected());
    }
    let options = options(t)?;
    if matches!(source, CopySource::Query(_)) && direction == CopyDirection::In {
        return Err(Error::syntax("syntax error at or near \"FROM\""));
    }
    Ok(CopyStatement {
        source,
        direction,
        options,
    })
}

/// The rest of `(a, b)`.
fn names(t: &mut Tokens<'_>) -> Result<Vec<String>> {
    let mut names = vec![t.identifier()?];
    while t.eat_symbol(",") {
        names.push(t.identifier()?);
    }
    t.expect_symbol(")")?;
    Ok(names)
}

#[derive(Default)]
struct Given {
    kind: Option<CopyKind>,
    delimiter: Option<String>,
    null: Option<String>,
    header: bool,
    quote: Option<String>,
    escape: Option<String>,
    force_quote: Vec<String>,
    force_quote_all: bool,
    force_not_null: Vec<String>,
    force_null: Vec<String>,
}

fn options(t: &mut Tokens<'_>) -> Result<CopyOptions> {
    let mut given = Given::default();
    t.eat(&["with"]);
    if t.eat_symbol("(") {
        loop {
            modern_option(t, &mut given)?;
            if !t.eat_symbol(",") {
                break;
            }
        }
        t.expect_symbol(")")?;
    } else {
        while !t.at_end() && !t.looking_at(&["where"]) {
            legacy_option(t, &mut given)?;
        }
    }
    if t.looking_at(&["where"]) {
        return Err(Error::unsupported("COPY … WHERE"));
    }
    given.finish()
}

fn modern_option(t: &mut Tokens<'_>, given: &mut Given) -> Result<()> {
    match t.identifier()?.as_str() {
        "format" => {
            let name = match t.try_string()? {
                Some(name) => name,
                None => t.identifier()?,
            };
            given.kind = Some(match name.as_str() {
                "text" => CopyKind::Text,
                "csv" => CopyKind::Csv,
                "binary" => CopyKind::Binary,
                other => return Err(invalid(format!("COPY format \"{other}\" not recognized"))),
            });
        }
        "freeze" => drop(flag(t)),
        "delimiter" => given.delimiter = Some(t.string()?),
        "null" => given.null = Some(t.string()?),
        "header" => given.header = t.eat(&["match"]) || flag(t),
        "quote" => given.quote = Some(t.string()?),
        "escape" => given.escape = Some(t.string()?),
        "force_quote" if t.eat_symbol("*") => given.force_quote_all = true,
        "force_quote" => given.force_quote = column_list(t)?,
        "force_not_null" => given.force_not_null = column_list(t)?,
        "force_null" => given.force_null = column_list(t)?,
        "encoding" => encoding(t)?,
        other => return Err(Error::syntax(format!("option \"{other}\" not recognized"))),
    }
    Ok(())
}

fn legacy_option(t: &mut Tokens<'_>, given: &mut Given) -> Result<()> {
    if t.eat(&["csv"]) {
        given.kind = Some(CopyKind::Csv);
    } else if t.eat(&["binary"]) {
        given.kind = Some(CopyKind::Binary);
    } else if t.eat(&["freeze"]) {
    } else if t.eat(&["header"]) {
        given.header = true;
    } else if t.eat(&["delimiter"]) || t.eat(&["delimiters"]) {
        t.eat(&["as"]);
        given.delimiter = Some(t.string()?);
    } else if t.eat(&["null"]) {
        t.eat(&["as"]);
        given.null = Some(t.string()?);
    } else if t.eat(&["quote"]) {
        t.eat(&["as"]);
        given.quote = Some(t.string()?);
    } else if t.eat(&["escape"]) {
        t.eat(&["as"]);
        given.escape = Some(t.string()?);
    } else if t.eat(&["force", "quote"]) {
        if t.eat_symbol("*") {
            given.force_quote_all = true;
        } else {
            given.force_quote = bare_list(t)?;
        }
    } else if t.eat(&["force", "not", "null"]) {
        given.force_not_null = bare_list(t)?;
    } else if t.eat(&["encoding"]) {
        encoding(t)?;
    } else {
        return Err(t.unexpected());
    }
    Ok(())
}

fn encoding(t: &mut Tokens<'_>) -> Result<()> {
    let name = t.string()?;
    if ["utf8", "utf-8", "unicode"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
    {
        Ok(())
    } else {
        Err(Error::unsupported(format!("COPY in encoding \"{name}\"")))
    }
}

fn flag(t: &mut Tokens<'_>) -> bool {
    if t.eat_one_of(&["off", "false"]) || t.try_number().as_deref() == Some("0") {
        return false;
    }
    t.eat_one_of(&["on", "true"]);
    true
}

fn column_list(t: &mut Tokens<'_>) -> Result<Vec<String>> {
    t.expect_symbol("(")?;
    names(t)
}

fn bare_list(t: &mut Tokens<'_>) -> Result<Vec<String>> {
    let mut names = vec![t.identifier()?];
    while t.eat_symbol(",") {
        names.push(t.identifier()?);
    }
    Ok(names)
}

fn invalid(message: String) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

impl Given {
    fn finish(self) -> Result<CopyOptions> {
        let kind = self.kind.unwrap_or(CopyKind::Text);
        let csv = kind == CopyKind::Csv;
        if kind == CopyKind::Binary && (self.delimiter.is_some() || self.null.is_some()) {
            return Err(Error::syntax(
                "cannot specify DELIMITER or NULL in BINARY mode",
            ));
        }
        if !csv && (self.quote.is_some() || self.escape.is_some()) {
            return Err(Error::unsupported(
                "COPY quote or escape outside of CSV mode",
            ));
        }
        let default_delimiter = if csv { "," } else { "\t" };
        let delimiter = one_byte(
            "delimiter",
            self.delimiter.as_deref().unwrap_or(default_delimiter),
        )?;
        if delimiter == b'\n' || delimiter == b'\r' {
            return Err(invalid(
                "COPY delimiter cannot be newline or carriage return".into(),
            ));
        }
        let quote = one_byte("quote", self.quote.as_deref().unwrap_or("\""))?;
        if csv && quote == delimiter {
            return Err(invalid("COPY delimiter and quote must be different".into()));
        }
        let escape = match &self.escape {
            Some(escape) => one_byte("escape", escape)?,
            None => quote,
        };
        Ok(CopyOptions {
            kind,
            delimiter,
            null: self
                .null
                .unwrap_or_else(|| if csv { String::new() } else { "\\N".into() }),
            header: self.header,
            quote,
            escape,
            force_quote: self.force_quote,
            force_quote_all: self.force_quote_all,
            force_not_null: self.force_not_null,
            force_null: self.force_null,
        })
    }
}

fn one_byte(what: &str, text: &str) -> Result<u8> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(invalid(format!(
            "COPY {what} must be a single one-byte character"
        ))),
    }
}
