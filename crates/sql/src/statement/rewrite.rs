//! Clauses of PostgreSQL's queries and changes that the SQL parser does not know, written as something
//! that it does.
//!
//! What has an equal in the parser's grammar is written as that: `USING >` as `DESC`, `TABLE t` as
//! `SELECT * FROM t`. The others become an identifier that begins with [`MARK`], in a place where the
//! binder looks for it: `ON CONFLICT (id) WHERE live` has one column called `MARK (id) WHERE live`.

use super::literals::position;
use crate::text::{Token, TokenKind};
use std::ops::Range;
use types::{Error, Result, SqlState};

/// Begins the names of what stands for a clause; no name that a user writes begins so.
pub(crate) const MARK: char = '\u{1}';
/// The column of an INSERT that stands for OVERRIDING SYSTEM VALUE.
pub(crate) const OVERRIDING_SYSTEM: &str = "\u{1}overriding system value";
/// The column of an INSERT that stands for OVERRIDING USER VALUE.
pub(crate) const OVERRIDING_USER: &str = "\u{1}overriding user value";
/// The function around the lower bound of BETWEEN SYMMETRIC.
pub(crate) const SYMMETRIC: &str = "\u{1}symmetric";

/// A statement's text with all clauses rewritten; `None` if there are none.
pub(super) fn rewritten(text: &str, tokens: &[Token]) -> Result<Option<String>> {
    let rewriter = Rewriter { text, tokens };
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for at in 0..tokens.len() {
        rewriter.look(at, &mut edits)?;
    }
    if edits.is_empty() {
        return Ok(None);
    }
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let mut whole = String::with_capacity(text.len() + 64);
    let mut done = 0;
    for (range, with) in edits {
        // What lies inside of a clause that is text already stays as it is.
        if range.start < done {
            continue;
        }
        whole.push_str(&text[done..range.start]);
        whole.push_str(&with);
        done = range.end;
    }
    whole.push_str(&text[done..]);
    Ok(Some(whole))
}

/// The text of a mark's clause, as a quoted identifier.
fn marked(clause: &str) -> String {
    format!("\"{MARK}{}\"", clause.replace('"', "\"\""))
}

struct Rewriter<'t> {
    text: &'t str,
    tokens: &'t [Token],
}

impl Rewriter<'_> {
    fn word(&self, at: usize) -> Option<&str> {
        let token = self.tokens.get(at)?;
        (token.kind == TokenKind::Word).then(|| &self.text[token.range.clone()])
    }

    fn is(&self, at: usize, word: &str) -> bool {
        self.word(at).is_some_and(|w| w.eq_ignore_ascii_case(word))
    }

    fn are(&self, at: usize, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(n, word)| self.is(at + n, word))
    }

    fn is_symbol(&self, at: usize, symbol: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| {
            token.kind == TokenKind::Symbol && &self.text[token.range.clone()] == symbol
        })
    }

    fn is_name(&self, at: usize) -> bool {
        let kind = self.tokens.get(at).map(|token| token.kind);
        matches!(kind, Some(TokenKind::Word | TokenKind::QuotedIdentifier))
    }

    /// The text from one token to before another.
    fn range(&self, from: usize, to: usize) -> Range<usize> {
        self.tokens[from].range.start..self.tokens[to - 1].range.end
    }

    /// The token after the parenthesis that closes the one at `open`.
    fn after_partner(&self, open: usize) -> Option<usize> {
        let mut depth = 0usize;
        for at in open..self.tokens.len() {
            if self.is_symbol(at, "(") {
                depth += 1;
            } else if self.is_symbol(at, ")") {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
        }
        None
    }

    fn look(&self, at: usize, edits: &mut Vec<(Range<usize>, String)>) -> Result<()> {
        let token = &self.tokens[at];
        if token.kind == TokenKind::SpecialString {
            return self.string(at, edits);
        }
        let Some(word) = self.word(at) else {
            return Ok(());
        };
        match word.to_ascii_lowercase().as_str() {
            "overriding" => self.overriding(at, edits),
            "conflict" if at > 0 && self.is(at - 1, "on") && self.is_symbol(at + 1, "(") => {
                self.conflict(at + 1, edits);
            }
            "using" => self.using(at, edits),
            "between" if self.is(at + 1, "symmetric") => self.symmetric(at + 1, edits),
            "into" => self.table_source(at + 1, edits),
            "like" if at > 0 && self.is(0, "create") && self.word(1).is_some() => {
                self.like_options(at, edits);
            }
            "from" if self.is(at + 1, "where") || self.is(at + 1, "group") => {
                let near = self.word(at + 1).unwrap_or_default();
                return Err(Error::syntax(format!("syntax error at or near \"{near}\""))
                    .position(position(self.text, &self.tokens[at + 1])));
            }
            _ => {}
        }
        Ok(())
    }

    /// `OVERRIDING SYSTEM | USER VALUE`: a column more.
    fn overriding(&self, at: usize, edits: &mut Vec<(Range<usize>, String)>) {
        let mark = if self.are(at + 1, &["system", "value"]) {
            OVERRIDING_SYSTEM
        } else if self.are(at + 1, &["user", "value"]) {
            OVERRIDING_USER
        } else {
            return;
        };
        let clause = self.range(at, at + 3);
        if at > 0 && self.is_symbol(at - 1, ")") {
            edits.push((self.tokens[at - 1].range.clone(), format!(", \"{mark}\")")));
            edits.push((clause, String::new()));
        } else {
            edits.push((clause, format!("(\"{mark}\")")));
        }
    }

    /// `ON CONFLICT (…) WHERE …`, and targets that are more than columns.
    fn conflict(&self, open: usize, edits: &mut Vec<(Range<usize>, String)>) {
        let Some(after) = self.after_partner(open) else {
            return;
        };
        let columns = &self.tokens[open + 1..after - 1];
        let plain = columns
            .iter()
            .enumerate()
            .all(|(n, token)| match token.kind {
                TokenKind::Word | TokenKind::QuotedIdentifier => n % 2 == 0,
                _ => n % 2 == 1 && &self.text[token.range.clone()] == ",",
            });
        let mut end = after;
        if self.is(after, "where") {
            let mut depth = 0i32;
            while end < self.tokens.len() && !(depth == 0 && self.is(end, "do")) {
                depth += i32::from(self.is_symbol(end, "(")) - i32::from(self.is_symbol(end, ")"));
                end += 1;
            }
        } else if plain {
            return;
        }
        let clause = &self.text[self.range(open, end)];
        edits.push((self.range(open, end), format!("({})", marked(clause))));
    }

    /// `ORDER BY … USING < | >`.
    fn using(&self, at: usize, edits: &mut Vec<(Range<usize>, String)>) {
        for (symbol, order) in [("<", "ASC"), (">", "DESC")] {
            if self.is_symbol(at + 1, symbol) {
                edits.push((self.range(at, at + 2), order.into()));
            }
        }
    }

    /// `BETWEEN SYMMETRIC low AND high`: the low bound inside of a call.
    fn symmetric(&self, at: usize, edits: &mut Vec<(Range<usize>, String)>) {
        let mut depth = 0i32;
        for end in at + 1..self.tokens.len() {
            if depth == 0 && self.is(end, "and") {
                edits.push((self.tokens[at].range.clone(), format!("\"{SYMMETRIC}\"(")));
                let end = self.tokens[end].range.start;
                edits.push((end..end, ") ".into()));
                return;
            }
            depth += i32::from(self.is_symbol(end, "(")) - i32::from(self.is_symbol(end, ")"));
        }
    }

    /// `INSERT INTO t [(…)] TABLE u`.
    fn table_source(&self, name: usize, edits: &mut Vec<(Range<usize>, String)>) {
        let mut at = name;
        if !self.is_name(at) {
            return;
        }
        at += 1;
        while self.is_symbol(at, ".") && self.is_name(at + 1) {
            at += 2;
        }
        if self.is(at, "as") {
            at += 2;
        }
        if self.is_symbol(at, "(") {
            match self.after_partner(at) {
                Some(after) => at = after,
                None => return,
            }
        }
        if self.is(at, "table") && self.is_name(at + 1) {
            edits.push((self.tokens[at].range.clone(), "SELECT * FROM".into()));
        }
    }

    /// `CREATE TABLE … (LIKE t INCLUDING …, …)`: a column whose name is the clause.
    fn like_options(&self, at: usize, edits: &mut Vec<(Range<usize>, String)>) {
        let begins = self.is_symbol(at - 1, "(") || self.is_symbol(at - 1, ",");
        let is_table = (1..4).any(|n| self.is(n, "table"));
        if !begins || !is_table || !self.is_name(at + 1) {
            return;
        }
        let mut end = at + 2;
        while self.is_symbol(end, ".") && self.is_name(end + 1) {
            end += 2;
        }
        while self.is(end, "including") || self.is(end, "excluding") {
            end += 2;
        }
        if self.is_symbol(end, ")") || self.is_symbol(end, ",") {
            let clause = &self.text[self.range(at, end)];
            edits.push((self.range(at, end), format!("{} int", marked(clause))));
        }
    }

    /// `U&'…' [UESCAPE 'c']` becomes a plain literal; bad escapes of `E'…'` are found here.
    fn string(&self, at: usize, edits: &mut Vec<(Range<usize>, String)>) -> Result<()> {
        let text = &self.text[self.tokens[at].range.clone()];
        if text.starts_with(['e', 'E']) {
            return check_escapes(&text[2..text.len() - 1]);
        }
        if !text.starts_with(['u', 'U']) {
            return Ok(());
        }
        let mut escape = '\\';
        let mut end = at + 1;
        if self.is(end, "uescape") {
            let given = self
                .tokens
                .get(end + 1)
                .map(|t| &self.text[t.range.clone()]);
            let mut inner = given.unwrap_or_default().trim_matches('\'').chars();
            match (inner.next(), inner.next()) {
                (Some(c), None) if !c.is_ascii_hexdigit() && !"+'\"".contains(c) => escape = c,
                _ => return Err(Error::syntax("invalid Unicode escape character")),
            }
            end += 2;
        }
        let value = unicode_text(&text[3..text.len() - 1].replace("''", "'"), escape)?;
        edits.push((
            self.range(at, end),
            format!("'{}'", value.replace('\'', "''")),
        ));
        Ok(())
    }
}

/// 22025 for `\u` and `\U` without their four or eight digits.
fn check_escapes(body: &str) -> Result<()> {
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            continue;
        }
        let digits = match chars.next() {
            Some('u') => 4,
            Some('U') => 8,
            _ => continue,
        };
        let found = chars.as_str().chars().take(digits);
        if found.filter(char::is_ascii_hexdigit).count() < digits {
            return Err(
                Error::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid Unicode escape")
                    .hint("Unicode escapes must be \\uXXXX or \\UXXXXXXXX."),
            );
        }
    }
    Ok(())
}

/// The characters of `U&'…'`: `\XXXX`, `\+XXXXXX` and the escape doubled.
fn unicode_text(body: &str, escape: char) -> Result<String> {
    let invalid = || {
        Error::syntax("invalid Unicode escape").hint("Unicode escapes must be \\XXXX or \\+XXXXXX.")
    };
    let mut value = String::with_capacity(body.len());
    let mut units: Vec<u16> = Vec::new();
    let mut rest = body;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != escape {
            value.push(c);
            continue;
        }
        if rest.starts_with(escape) {
            value.push(escape);
            rest = &rest[escape.len_utf8()..];
            continue;
        }
        let (skip, length) = if rest.starts_with('+') {
            (1, 6)
        } else {
            (0, 4)
        };
        let digits = rest.get(skip..skip + length).ok_or_else(invalid)?;
        let code = u32::from_str_radix(digits, 16).map_err(|_| invalid())?;
        rest = &rest[skip + length..];
        // Two escapes may be the halves of one character.
        match (u16::try_from(code), char::from_u32(code)) {
            (Ok(unit), None) => {
                units.push(unit);
                if units.len() == 2 {
                    value.push_str(&String::from_utf16(&units).map_err(|_| invalid())?);
                    units.clear();
                }
            }
            (_, Some(found)) if code != 0 && units.is_empty() => value.push(found),
            _ => return Err(invalid()),
        }
    }
    if units.is_empty() {
        Ok(value)
    } else {
        Err(invalid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokenize;

    fn rewrite(text: &str) -> String {
        let tokens = tokenize(text).unwrap();
        rewritten(text, &tokens)
            .unwrap()
            .unwrap_or_else(|| text.to_string())
    }

    #[test]
    fn clauses_become_what_the_parser_knows() {
        let cases = [
            (
                "SELECT 1 ORDER BY a USING >, b USING <",
                "SELECT 1 ORDER BY a DESC, b ASC",
            ),
            (
                "INSERT INTO a.t (x) TABLE u",
                "INSERT INTO a.t (x) SELECT * FROM u",
            ),
            (
                "INSERT INTO t OVERRIDING USER VALUE VALUES (1)",
                "INSERT INTO t (\"\u{1}overriding user value\") VALUES (1)",
            ),
            (
                "INSERT INTO t (a) OVERRIDING SYSTEM VALUE VALUES (1)",
                "INSERT INTO t (a, \"\u{1}overriding system value\")  VALUES (1)",
            ),
            (
                "ON CONFLICT (a) WHERE (b > 1) DO NOTHING",
                "ON CONFLICT (\"\u{1}(a) WHERE (b > 1)\") DO NOTHING",
            ),
            (
                "ON CONFLICT (a, \"b\") DO NOTHING",
                "ON CONFLICT (a, \"b\") DO NOTHING",
            ),
            (
                "ON CONFLICT (lower(\"A\")) DO NOTHING",
                "ON CONFLICT (\"\u{1}(lower(\"\"A\"\"))\") DO NOTHING",
            ),
            (
                "SELECT x BETWEEN SYMMETRIC (1) AND 2",
                "SELECT x BETWEEN \"\u{1}symmetric\"( (1) ) AND 2",
            ),
            (
                "CREATE TABLE a (LIKE b INCLUDING ALL, c int)",
                "CREATE TABLE a (\"\u{1}LIKE b INCLUDING ALL\" int, c int)",
            ),
            ("SELECT U&'d!0061t!+000061' UESCAPE '!'", "SELECT 'data'"),
            (
                "SELECT a LIKE b, 'x' FROM t JOIN u USING (id)",
                "SELECT a LIKE b, 'x' FROM t JOIN u USING (id)",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(rewrite(text), expected);
        }
    }
}
