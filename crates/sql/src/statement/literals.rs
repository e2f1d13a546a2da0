//! What PostgreSQL's lexer says of neighbouring literals (manual, section 4.1.2), and the SQL parser
//! does not know.
//!
//! String literals with white space between them that has a line's end are one literal; on one line
//! they are a syntax error. A number may not run into a word.

use crate::text::{Token, TokenKind, tokenize};
use types::{Error, Result};

/// The text with its parted literals joined; `None` if there are none.
pub(super) fn joined(text: &str) -> Result<Option<String>> {
    let tokens = tokenize(text)?;
    let mut cuts = Vec::new();
    for pair in tokens.windows(2) {
        let [first, second] = pair else { continue };
        let between = &text[first.range.end..second.range.start];
        if first.kind == TokenKind::Number && second.kind == TokenKind::Word && between.is_empty() {
            return Err(junk(text, first, second));
        }
        if !is_string(first) || !is_string(second) {
            continue;
        }
        if !continues(text, first, second, between) {
            let near = &text[second.range.clone()];
            return Err(Error::syntax(format!("syntax error at or near \"{near}\""))
                .position(position(text, second)));
        }
        cuts.push(first.range.end - 1..second.range.start + 1);
    }
    if cuts.is_empty() {
        return Ok(None);
    }
    let mut whole = String::with_capacity(text.len());
    let mut at = 0;
    for cut in cuts {
        whole.push_str(&text[at..cut.start]);
        at = cut.end;
    }
    whole.push_str(&text[at..]);
    Ok(Some(whole))
}

fn is_string(token: &Token) -> bool {
    matches!(token.kind, TokenKind::String | TokenKind::SpecialString)
}

/// Whether the second literal is the first one's continuation. It has no prefix of its own; a
/// comment to a line's end is white space, a block comment is not.
fn continues(text: &str, first: &Token, second: &Token, between: &str) -> bool {
    second.kind == TokenKind::String
        && !text[first.range.clone()].starts_with('$')
        && between.contains('\n')
        && between.lines().all(|line| {
            let line = line.trim_start();
            line.is_empty() || line.starts_with("--")
        })
}

fn junk(text: &str, number: &Token, word: &Token) -> Error {
    let near = &text[number.range.start..word.range.end];
    Error::syntax(format!(
        "trailing junk after numeric literal at or near \"{near}\""
    ))
    .position(position(text, number))
}

/// Where a token stands, in characters from 1.
pub(super) fn position(text: &str, token: &Token) -> u32 {
    text[..token.range.start].chars().count() as u32 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_over_lines_are_one() {
        let cases = [
            ("SELECT 'a'\n 'b'", "SELECT 'ab'"),
            ("SELECT E'a\\n' -- x\n 'b'\n'c'", "SELECT E'a\\nbc'"),
            ("SELECT 'it''s'\n'''x', 1", "SELECT 'it''s''x', 1"),
        ];
        for (text, whole) in cases {
            assert_eq!(joined(text).unwrap().as_deref(), Some(whole));
        }
        for text in [
            "SELECT 'a', 'b'",
            "SELECT 1 a, 1.5e3, 0x1F, t.a1",
            "INTERVAL '1' DAY",
        ] {
            assert_eq!(joined(text).unwrap(), None);
        }
    }

    #[test]
    fn literals_on_a_line_are_an_error() {
        for text in [
            "SELECT 'a' 'b'",
            "SELECT 'a' /* \n */ 'b'",
            "SELECT 'a'\n E'b'",
            "SELECT $$a$$\n'b'",
            "SELECT 1a",
        ] {
            assert!(joined(text).is_err(), "{text}");
        }
    }
}
