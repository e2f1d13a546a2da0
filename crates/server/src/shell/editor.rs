//! Line editing: completion, colours, and statements over several lines.

use crate::shell::keywords::KEYWORDS;
use crate::shell::lexer::{self, Kind};
use parking_lot::Mutex;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// Statements remembered between shells.
const HISTORY_ENTRIES: usize = 5_000;

/// Longest text that is coloured while it is typed: a pasted script is not.
const COLOURED_BYTES: usize = 10_000;

const KEYWORD: &str = "\x1b[1;34m";
const STRING: &str = "\x1b[32m";
const NUMBER: &str = "\x1b[36m";
const COMMENT: &str = "\x1b[2m";
const PROMPT: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

/// Names of the database's objects, refreshed as they change.
pub type Names = Arc<Mutex<BTreeSet<String>>>;

pub type SqlEditor = Editor<SqlHelper, FileHistory>;

pub fn editor(names: Names) -> rustyline::Result<SqlEditor> {
    let config = Config::builder()
        .max_history_size(HISTORY_ENTRIES)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .auto_add_history(false)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(SqlHelper { names }));
    Ok(editor)
}

/// Where the history is kept.
pub fn history_file() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    Some(PathBuf::from(home).join(".phantomdb_history"))
}

pub struct SqlHelper {
    names: Names,
}

impl Helper for SqlHelper {}

impl Hinter for SqlHelper {
    type Hint = String;
}

impl Validator for SqlHelper {
    /// A statement goes on until its semicolon; a backslash command is one line.
    fn validate(&self, ctx: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(ctx.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

fn is_complete(input: &str) -> bool {
    if input.trim_start().starts_with('\\') || lexer::is_blank(input) {
        return true;
    }
    if matches!(input.trim(), "exit" | "quit" | "help") {
        return true;
    }
    let mut rest = input;
    let mut any = false;
    while let Some(statement) = lexer::next_statement(rest) {
        any = true;
        rest = &rest[statement.end..];
    }
    any && lexer::is_blank(rest)
}

impl Completer for SqlHelper {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(self.candidates(&line[..pos]))
    }
}

impl SqlHelper {
    fn candidates(&self, before: &str) -> (usize, Vec<Pair>) {
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(0, |at| {
                at + before[at..].chars().next().map_or(1, char::len_utf8)
            });
        let word = &before[start..];
        if word.is_empty() {
            return (start, Vec::new());
        }
        let lower = word.to_lowercase();
        let names = self.names.lock();
        let mut found: Vec<String> = names
            .range(lower.clone()..)
            .take_while(|name| name.starts_with(&lower))
            .cloned()
            .collect();
        // A keyword follows the case it is typed in.
        let upper = word.to_uppercase();
        let keywords = KEYWORDS.iter().filter(|k| k.starts_with(&upper));
        found.extend(keywords.map(|keyword| {
            if word == lower {
                keyword.to_lowercase()
            } else {
                (*keyword).to_string()
            }
        }));
        found.dedup();
        let pairs = found.into_iter().map(|text| Pair {
            display: text.clone(),
            replacement: text,
        });
        (start, pairs.collect())
    }
}

impl Highlighter for SqlHelper {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if line.len() > COLOURED_BYTES || line.starts_with('\\') {
            return Cow::Borrowed(line);
        }
        Cow::Owned(coloured(line))
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        Cow::Owned(format!("{PROMPT}{prompt}{RESET}"))
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        kind != CmdKind::MoveCursor
    }
}

fn coloured(line: &str) -> String {
    let mut out = String::with_capacity(line.len() * 2);
    for token in lexer::tokens(line) {
        let colour = match token.kind {
            Kind::Word if is_keyword(token.text) => KEYWORD,
            Kind::String => STRING,
            Kind::Number => NUMBER,
            Kind::Comment => COMMENT,
            _ => "",
        };
        out.push_str(colour);
        out.push_str(token.text);
        if !colour.is_empty() {
            out.push_str(RESET);
        }
    }
    out
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS
        .binary_search(&word.to_ascii_uppercase().as_str())
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completes_names_and_keywords() {
        let names = BTreeSet::from(["orders".to_string(), "order_items".to_string()]);
        let helper = SqlHelper {
            names: Arc::new(Mutex::new(names)),
        };
        let words = |before: &str| -> Vec<String> {
            helper
                .candidates(before)
                .1
                .into_iter()
                .map(|p| p.replacement)
                .collect()
        };
        assert_eq!(
            words("select * from ord"),
            ["order_items", "orders", "order"]
        );
        assert_eq!(words("SEL"), ["SELECT"]);
        assert!(words("select ").is_empty());
    }

    #[test]
    fn knows_when_a_statement_is_complete() {
        for whole in [
            "select 1;",
            "\\dt",
            "",
            "-- note",
            "select 1; -- end",
            "quit",
        ] {
            assert!(is_complete(whole), "{whole}");
        }
        for part in ["select 1", "select ';", "select 1; select", "/* open"] {
            assert!(!is_complete(part), "{part}");
        }
    }

    #[test]
    fn keywords_are_sorted_for_search() {
        assert!(KEYWORDS.is_sorted());
    }
}
