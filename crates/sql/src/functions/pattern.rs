//! Regular expressions: `~` and its kin.
//!
//! PostgreSQL's advanced regular expressions are read as the `regex` crate's, with its word boundary
//! escapes translated. Back references and look-around are refused (0A000).

use super::Registry;
use super::arithmetic::{add, wrong_arguments};
use regex::Regex;
use std::cell::RefCell;
use types::{Datum, Error, Result, SqlState, SqlType};

/// Compiled expressions that a thread remembers.
const CACHED: usize = 32;
/// Bytes that one compiled expression may take.
const COMPILED_BYTES: usize = 1 << 20;

thread_local! {
    /// Most recently used last.
    static CACHE: RefCell<Vec<(String, Regex)>> = const { RefCell::new(Vec::new()) };
}

/// PostgreSQL's escapes in the other dialect.
fn translated(pattern: &str) -> String {
    let body = pattern.strip_prefix("***:").unwrap_or(pattern);
    if let Some(literal) = pattern.strip_prefix("***=") {
        return regex::escape(literal);
    }
    let mut out = String::with_capacity(body.len() + 8);
    let mut characters = body.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match characters.next() {
            Some('y') => out.push_str("\\b"),
            Some('Y') => out.push_str("\\B"),
            Some('m') => out.push_str("\\b{start}"),
            Some('M') => out.push_str("\\b{end}"),
            Some('Z') => out.push_str("\\z"),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

/// The compiled form of `pattern`, with the flags of the `regex` crate (`i`, `s`, …) in front.
pub fn compile(pattern: &str, flags: &str) -> Result<Regex> {
    let mut source = translated(pattern);
    if !flags.is_empty() {
        source = format!("(?{flags}){source}");
    }
    CACHE.with_borrow_mut(|cache| {
        if let Some(place) = cache.iter().rposition(|(known, _)| *known == source) {
            let hit = cache.remove(place);
            let compiled = hit.1.clone();
            cache.push(hit);
            return Ok(compiled);
        }
        let compiled = regex::RegexBuilder::new(&source)
            .size_limit(COMPILED_BYTES)
            .build()
            .map_err(|error| {
                let text = error.to_string();
                if text.contains("look-around") || text.contains("backreferences") {
                    return Error::unsupported(
                        "back reference or look-around in a regular expression",
                    );
                }
                let reason = text.lines().last().unwrap_or_default();
                let reason = reason.trim_start_matches("error: ");
                Error::new(
                    SqlState::INVALID_REGULAR_EXPRESSION,
                    format!("invalid regular expression: {reason}"),
                )
            })?;
        if cache.len() >= CACHED {
            cache.remove(0);
        }
        cache.push((source, compiled.clone()));
        Ok(compiled)
    })
}

fn matches(args: &[Datum], flags: &str, negated: bool) -> Result<Datum> {
    match args {
        [Datum::Text(text), Datum::Text(pattern)] => {
            let found = compile(pattern, flags)?.is_match(text);
            Ok(Datum::Bool(found != negated))
        }
        _ => Err(wrong_arguments("regular expression match")),
    }
}

pub(super) fn register(registry: &mut Registry) {
    // `.` matches a newline there.
    let text = [SqlType::Text, SqlType::Text];
    add(registry, "op ~", &text, SqlType::Bool, |_, args| {
        matches(args, "s", false)
    });
    add(registry, "op !~", &text, SqlType::Bool, |_, args| {
        matches(args, "s", true)
    });
    add(registry, "op ~*", &text, SqlType::Bool, |_, args| {
        matches(args, "si", false)
    });
    add(registry, "op !~*", &text, SqlType::Bool, |_, args| {
        matches(args, "si", true)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_postgres_does() {
        let yes = |text: &str, pattern: &str| compile(pattern, "s").unwrap().is_match(text);
        assert!(yes("orders", "^(orders)$"));
        assert!(!yes("orders2", "^(orders)$"));
        assert!(yes("one two", "\\mtwo\\M"));
        assert!(!yes("onetwo", "\\mtwo"));
        assert!(yes("a.b", "***=a.b") && !yes("axb", "***=a.b"));
        assert!(compile("ABC", "si").unwrap().is_match("xabcx"));
        let error = compile("a(", "s").unwrap_err();
        assert_eq!(error.state, SqlState::INVALID_REGULAR_EXPRESSION);
        assert_eq!(
            compile("(a)\\1", "s").unwrap_err().state,
            SqlState::FEATURE_NOT_SUPPORTED
        );
    }
}
