//! `CREATE TABLE … (LIKE source INCLUDING …)`: the clause spelt out as columns and constraints.

use super::DdlContext;
use super::context::wrong_kind;
use super::names::{object_name, quote_ident};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use crate::statement::MARK;
use crate::statement::grammar;
use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use std::sync::Arc;
use types::{Error, Result};

/// What stands after LIKE and its table.
#[derive(Clone, Copy, Default)]
struct Including {
    comments: bool,
    constraints: bool,
    defaults: bool,
    generated: bool,
    identity: bool,
    indexes: bool,
}

/// What is left to do once the table is there.
#[derive(Default)]
pub(super) struct Afterwards {
    /// Indexes that belong to no constraint.
    pub indexes: Vec<ast::CreateIndex>,
    pub column_comments: Vec<(String, String)>,
}

/// The statement with its LIKE clauses spelt out; `None` if it has none.
pub(super) fn expand(
    d: &DdlContext<'_>,
    create: &ast::CreateTable,
) -> Result<Option<(ast::CreateTable, Afterwards)>> {
    let clause = |column: &ast::ColumnDef| {
        let found = column.name.value.strip_prefix(MARK).map(str::to_string);
        found.filter(|_| column.name.quote_style.is_some())
    };
    if !create.columns.iter().any(|c| clause(c).is_some()) {
        return Ok(None);
    }
    let mut whole = create.clone();
    let mut after = Afterwards::default();
    let columns = std::mem::take(&mut whole.columns);
    for column in columns {
        let Some(clause) = clause(&column) else {
            whole.columns.push(column);
            continue;
        };
        let (source, including) = read(&clause)?;
        let (schema, name) = object_name(d, &source)?;
        let mut texts = Vec::new();
        match d.require(schema.as_deref(), &name)? {
            Relation::Table(table) => {
                for (_, column) in table.live_columns() {
                    texts.push(column_text(d, column, including)?);
                    if let Some(comment) = column.comment.as_ref().filter(|_| including.comments) {
                        let comment = (column.name.clone(), comment.clone());
                        after.column_comments.push(comment);
                    }
                }
                constraint_texts(&table, including, &mut texts);
                if including.indexes {
                    indexes(&table, &create.name, &mut after.indexes)?;
                }
            }
            Relation::View(view) => {
                for (name, sql_type) in &view.columns {
                    texts.push(format!("{} {}", quote_ident(name), sql_type.name()));
                }
            }
            _ => return Err(wrong_kind(&name, "a table or view")),
        }
        let text = format!("CREATE TABLE x ({})", texts.join(", "));
        if let ast::Statement::CreateTable(spelt) = parsed(&text)? {
            whole.columns.extend(spelt.columns);
            whole.constraints.extend(spelt.constraints);
        }
    }
    Ok(Some((whole, after)))
}

fn parsed(text: &str) -> Result<ast::Statement> {
    let broken = |error: String| Error::internal(format!("{text}: {error}"));
    let statements = grammar::parse(text, |parser| parser.parse_statements());
    let mut statements = statements.map_err(|error| broken(error.to_string()))?;
    statements.pop().ok_or_else(|| broken("nothing".into()))
}

/// `LIKE name [INCLUDING | EXCLUDING what]…`.
fn read(clause: &str) -> Result<(ast::ObjectName, Including)> {
    let syntax = |near: &str| Error::syntax(format!("syntax error at or near \"{near}\""));
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .try_with_sql(clause)
        .map_err(|_| syntax(clause))?;
    parser.next_token();
    let source = parser
        .parse_object_name(false)
        .map_err(|_| syntax(clause))?;
    let mut including = Including::default();
    loop {
        let word = parser.next_token().to_string().to_lowercase();
        let with = match word.as_str() {
            "including" => true,
            "excluding" => false,
            _ => return Ok((source, including)),
        };
        let what = parser.next_token().to_string().to_lowercase();
        match what.as_str() {
            "all" => {
                including = Including {
                    comments: with,
                    constraints: with,
                    defaults: with,
                    generated: with,
                    identity: with,
                    indexes: with,
                }
            }
            "comments" => including.comments = with,
            "constraints" => including.constraints = with,
            "defaults" => including.defaults = with,
            "generated" => including.generated = with,
            "identity" => including.identity = with,
            "indexes" => including.indexes = with,
            // They change nothing here.
            "compression" | "statistics" | "storage" => {}
            other => return Err(syntax(other)),
        }
    }
}

fn column_text(d: &DdlContext<'_>, column: &Column, including: Including) -> Result<String> {
    let mut text = format!("{} {}", quote_ident(&column.name), column.sql_type.name());
    if column.not_null {
        text.push_str(" NOT NULL");
    }
    if let Some(default) = column.default.as_ref().filter(|_| including.defaults) {
        text.push_str(&format!(" DEFAULT {default}"));
    }
    if let Some(value) = column.generated.as_ref().filter(|_| including.generated) {
        text.push_str(&format!(" GENERATED ALWAYS AS ({value}) STORED"));
    }
    if let Some(identity) = column.identity.filter(|_| including.identity) {
        let kind = match identity {
            Identity::Always => "ALWAYS",
            Identity::ByDefault => "BY DEFAULT",
        };
        text.push_str(&format!(" GENERATED {kind} AS IDENTITY"));
        let sequence = column
            .owned_sequence
            .and_then(|oid| d.catalog.sequence(oid).cloned());
        if let Some(s) = sequence {
            let cycle = if s.cycle { " CYCLE" } else { "" };
            text.push_str(&format!(
                " (INCREMENT BY {} MINVALUE {} MAXVALUE {} START WITH {} CACHE {}{cycle})",
                s.increment, s.min, s.max, s.start, s.cache
            ));
        }
    }
    Ok(text)
}

fn column_list(table: &Table, positions: &[usize]) -> String {
    let names = positions
        .iter()
        .map(|p| quote_ident(&table.columns[*p].name));
    names.collect::<Vec<_>>().join(", ")
}

fn constraint_texts(table: &Table, including: Including, texts: &mut Vec<String>) {
    if including.constraints {
        for check in &table.checks {
            let name = quote_ident(&check.name);
            texts.push(format!("CONSTRAINT {name} CHECK ({})", check.expression));
        }
    }
    if !including.indexes {
        return;
    }
    if let Some(key) = &table.primary_key {
        texts.push(format!(
            "PRIMARY KEY ({})",
            column_list(table, &key.columns)
        ));
    }
    for index in table.indexes.iter().filter(|i| i.constraint_oid.is_some()) {
        let positions = index.columns.iter().filter_map(|column| match column.key {
            IndexKey::Column(position) => Some(position),
            IndexKey::Expression(..) => None,
        });
        let nulls = if index.nulls_not_distinct {
            " NULLS NOT DISTINCT"
        } else {
            ""
        };
        let columns = column_list(table, &positions.collect::<Vec<_>>());
        texts.push(format!("UNIQUE{nulls} ({columns})"));
    }
}

fn indexes(
    table: &Arc<Table>,
    target: &ast::ObjectName,
    found: &mut Vec<ast::CreateIndex>,
) -> Result<()> {
    for index in table.indexes.iter().filter(|i| i.constraint_oid.is_none()) {
        let keys = index.columns.iter().map(|column| {
            let key = match &column.key {
                IndexKey::Column(position) => quote_ident(&table.columns[*position].name),
                IndexKey::Expression(text, _) => format!("({text})"),
            };
            let order = if column.descending { "DESC" } else { "ASC" };
            let nulls = if column.nulls_first { "FIRST" } else { "LAST" };
            format!("{key} {order} NULLS {nulls}")
        });
        let keys = keys.collect::<Vec<_>>().join(", ");
        let unique = if index.unique { "UNIQUE " } else { "" };
        let mut text = format!("CREATE {unique}INDEX ON {target} ({keys})");
        if !index.include.is_empty() {
            text.push_str(&format!(
                " INCLUDE ({})",
                column_list(table, &index.include)
            ));
        }
        if index.nulls_not_distinct {
            text.push_str(" NULLS NOT DISTINCT");
        }
        if let Some(predicate) = &index.predicate {
            text.push_str(&format!(" WHERE {predicate}"));
        }
        if let ast::Statement::CreateIndex(create) = parsed(&text)? {
            found.push(create);
        }
    }
    Ok(())
}

/// Gives columns the comments of those they were made like.
pub(super) fn set_comments(table: &mut Table, comments: Vec<(String, String)>) {
    for (name, comment) in comments {
        if let Some(position) = table.column_position(&name) {
            table.columns[position].comment = Some(comment);
        }
    }
}
