//! JSON text: the validating parser and the canonical output of `jsonb`.
//!
//! One parser serves both types. For `json` it only checks; for `jsonb` it builds the value.

use crate::jsonb::{Jsonb, MAX_DEPTH};
use crate::numeric::Numeric;
use crate::{Error, Result, SqlState};
use std::sync::Arc;

/// Longest text quoted in an error's context.
const SHOWN_TOKEN_CHARS: usize = 100;

/// Checks that `text` is one JSON value. 22P02 with PostgreSQL's detail if not.
pub fn validate(text: &str) -> Result<()> {
    Parser::new(text).document(false).map(|_| ())
}

/// Parses `text` into a `jsonb` value.
pub fn parse(text: &str) -> Result<Jsonb> {
    Parser::new(text).document(true)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    type_name: &'static str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Parser {
            text,
            at: 0,
            type_name: "json",
        }
    }

    fn document(&mut self, build: bool) -> Result<Jsonb> {
        let value = self.value(MAX_DEPTH, build)?;
        self.skip_space();
        if self.at < self.text.len() {
            let token = self.token();
            return Err(self.invalid(format!("Expected end of input, but found \"{token}\".")));
        }
        Ok(value)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn invalid(&self, detail: impl Into<String>) -> Error {
        Error::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!("invalid input syntax for type {}", self.type_name),
        )
        .detail(detail)
    }

    /// The token at the current place, as errors show it.
    fn token(&self) -> &'a str {
        let rest = &self.text[self.at..];
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+');
        let end = match rest.chars().next() {
            Some('"') => {
                let inner = &rest[1..];
                inner.find('"').map_or(rest.len(), |p| p + 2)
            }
            Some(c) if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            Some(c) => c.len_utf8(),
            None => 0,
        };
        match rest[..end].char_indices().nth(SHOWN_TOKEN_CHARS) {
            Some((cut, _)) => &rest[..cut],
            None => &rest[..end],
        }
    }

    fn expected(&self, what: &str) -> Error {
        if self.at >= self.text.len() {
            self.invalid("The input string ended unexpectedly.")
        } else {
            self.invalid(format!("Expected {what}, but found \"{}\".", self.token()))
        }
    }

    fn value(&mut self, depth: usize, build: bool) -> Result<Jsonb> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => {
                let text = self.string(build)?;
                Ok(Jsonb::String(text.into()))
            }
            Some(b'{') => self.object(self.deeper(depth)?, build),
            Some(b'[') => self.array(self.deeper(depth)?, build),
            Some(b'-' | b'0'..=b'9') => self.number(build),
            Some(b't') if self.word("true") => Ok(Jsonb::Bool(true)),
            Some(b'f') if self.word("false") => Ok(Jsonb::Bool(false)),
            Some(b'n') if self.word("null") => Ok(Jsonb::Null),
            Some(b) if b.is_ascii_alphabetic() || b >= 0x80 => {
                Err(self.invalid(format!("Token \"{}\" is invalid.", self.token())))
            }
            _ => Err(self.expected("JSON value")),
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize> {
        depth.checked_sub(1).ok_or_else(|| {
            Error::new(
                SqlState::STATEMENT_TOO_COMPLEX,
                format!("json value nests more than {MAX_DEPTH} levels deep"),
            )
        })
    }

    fn word(&mut self, word: &str) -> bool {
        let hit = self.token() == word;
        if hit {
            self.at += word.len();
        }
        hit
    }

    fn number(&mut self, build: bool) -> Result<Jsonb> {
        let start = self.at;
        let bad = |p: &mut Self| {
            p.at = start;
            Err(p.invalid(format!("Token \"{}\" is invalid.", p.token())))
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.skip_digits(),
            _ => return bad(self),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
                return bad(self);
            }
            self.skip_digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
                return bad(self);
            }
            self.skip_digits();
        }
        // A letter or digit glued to the number makes one bad token of both.
        if self
            .peek()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_')
        {
            return bad(self);
        }
        if !build {
            return Ok(Jsonb::Null);
        }
        Numeric::parse_sql(&self.text[start..self.at]).map(Jsonb::Number)
    }

    fn skip_digits(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn array(&mut self, depth: usize, build: bool) -> Result<Jsonb> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Jsonb::array(items));
        }
        loop {
            let item = self.value(depth, build)?;
            if build {
                items.push(item);
            }
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Jsonb::array(items));
                }
                _ => return Err(self.expected("\",\" or \"]\"")),
            }
        }
    }

    fn object(&mut self, depth: usize, build: bool) -> Result<Jsonb> {
        self.at += 1;
        let mut pairs: Vec<(Arc<str>, Jsonb)> = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Jsonb::object(pairs));
        }
        let mut first = true;
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.expected(if first { "string or \"}\"" } else { "string" }));
            }
            first = false;
            let key = self.string(build)?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.expected("\":\""));
            }
            self.at += 1;
            let value = self.value(depth, build)?;
            if build {
                pairs.push((key.into(), value));
            }
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Jsonb::object(pairs));
                }
                _ => return Err(self.expected("\",\" or \"}\"")),
            }
        }
    }

    fn string(&mut self, build: bool) -> Result<String> {
        let open = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let plain = self.text.as_bytes()[self.at..]
                .iter()
                .position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f));
            let Some(plain) = plain else {
                self.at = open;
                return Err(self.invalid(format!("Token \"{}\" is invalid.", self.token())));
            };
            if build {
                out.push_str(&self.text[self.at..self.at + plain]);
            }
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    let c = self.escape(build)?;
                    if build {
                        out.push(c);
                    }
                }
                Some(control) => {
                    return Err(self.invalid(format!(
                        "Character with value 0x{control:02x} must be escaped."
                    )));
                }
                None => return Err(self.invalid("The input string ended unexpectedly.")),
            }
        }
    }

    fn escape(&mut self, build: bool) -> Result<char> {
        self.at += 1;
        let c = self.text[self.at..].chars().next();
        self.at += c.map_or(0, char::len_utf8);
        Ok(match c {
            Some('"') => '"',
            Some('\\') => '\\',
            Some('/') => '/',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => return self.unicode_escape(build),
            Some(other) => {
                return Err(self.invalid(format!("Escape sequence \"\\{other}\" is invalid.")));
            }
            None => return Err(self.invalid("The input string ended unexpectedly.")),
        })
    }

    fn hex4(&mut self) -> Result<u32> {
        let hex = self
            .text
            .as_bytes()
            .get(self.at..self.at + 4)
            .filter(|h| h.iter().all(u8::is_ascii_hexdigit))
            .ok_or_else(|| self.invalid("\"\\u\" must be followed by four hexadecimal digits."))?;
        self.at += 4;
        Ok(hex
            .iter()
            .fold(0, |v, h| v * 16 + char::from(*h).to_digit(16).unwrap_or(0)))
    }

    fn unicode_escape(&mut self, build: bool) -> Result<char> {
        let first = self.hex4()?;
        let code = match first {
            0xD800..=0xDBFF => {
                if !self.text[self.at..].starts_with("\\u") {
                    return Err(self.low_surrogate_missing());
                }
                self.at += 2;
                let second = self.hex4()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(self.low_surrogate_missing());
                }
                0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            0xDC00..=0xDFFF => return Err(self.low_surrogate_missing()),
            0 if build => {
                return Err(Error::new(
                    SqlState::UNTRANSLATABLE_CHARACTER,
                    "unsupported Unicode escape sequence",
                )
                .detail("\\u0000 cannot be converted to text."));
            }
            other => other,
        };
        char::from_u32(code).ok_or_else(|| self.low_surrogate_missing())
    }

    fn low_surrogate_missing(&self) -> Error {
        self.invalid("Unicode low surrogate must follow a high surrogate.")
    }
}

// ---- output ---------------------------------------------------------------------------------

/// Appends `text` as a JSON string with its quotes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut done = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            8 => b"\\b",
            12 => b"\\f",
            0..=0x1f => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[done..i]);
        if escape.is_empty() {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            out.extend_from_slice(escape);
        }
        done = i + 1;
    }
    out.extend_from_slice(&bytes[done..]);
    out.push(b'"');
}

impl Jsonb {
    /// Appends the canonical text: `{"a": 1, "b": [1, 2]}`.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Jsonb::Null => out.extend_from_slice(b"null"),
            Jsonb::Bool(true) => out.extend_from_slice(b"true"),
            Jsonb::Bool(false) => out.extend_from_slice(b"false"),
            Jsonb::Number(n) => n.write_to(out),
            Jsonb::String(s) => write_string(s, out),
            Jsonb::Array(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.extend_from_slice(b", ");
                    }
                    item.write_to(out);
                }
                out.push(b']');
            }
            Jsonb::Object(pairs) => {
                out.push(b'{');
                for (i, (key, value)) in pairs.iter().enumerate() {
                    if i > 0 {
                        out.extend_from_slice(b", ");
                    }
                    write_string(key, out);
                    out.extend_from_slice(b": ");
                    value.write_to(out);
                }
                out.push(b'}');
            }
        }
    }

    /// `jsonb_pretty`: four spaces a level, one member a line.
    pub fn pretty(&self) -> String {
        let mut out = Vec::new();
        self.write_pretty(0, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn write_pretty(&self, level: usize, out: &mut Vec<u8>) {
        let line = |level: usize, out: &mut Vec<u8>| {
            out.push(b'\n');
            out.resize(out.len() + level * 4, b' ');
        };
        match self {
            Jsonb::Array(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    line(level + 1, out);
                    item.write_pretty(level + 1, out);
                }
                line(level, out);
                out.push(b']');
            }
            Jsonb::Object(pairs) => {
                out.push(b'{');
                for (i, (key, value)) in pairs.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    line(level + 1, out);
                    write_string(key, out);
                    out.extend_from_slice(b": ");
                    value.write_pretty(level + 1, out);
                }
                line(level, out);
                out.push(b'}');
            }
            scalar => scalar.write_to(out),
        }
    }
}

impl std::fmt::Display for Jsonb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = Vec::new();
        self.write_to(&mut out);
        f.write_str(std::str::from_utf8(&out).map_err(|_| std::fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text() {
        for (text, shown) in [
            (r#"{"b":[1,2],"a":1}"#, r#"{"a": 1, "b": [1, 2]}"#),
            (r#"{"bb":1,"a":2,"bb":3}"#, r#"{"a": 2, "bb": 3}"#),
            ("[1.50, 1e3, -0.0]", "[1.50, 1000, 0.0]"),
            (r#" "a\u00e9\n\ud83d\ude00" "#, "\"aé\\n😀\""),
            ("null", "null"),
            ("[]", "[]"),
            ("{}", "{}"),
            (r#""\u0001""#, r#""\u0001""#),
        ] {
            assert_eq!(
                parse(text).map(|j| j.to_string()).as_deref(),
                Ok(shown),
                "{text}"
            );
        }
    }

    #[test]
    fn refusals_with_detail() {
        for (text, detail) in [
            ("", "The input string ended unexpectedly."),
            ("{", "The input string ended unexpectedly."),
            ("{\"a\"}", "Expected \":\", but found \"}\"."),
            ("[1,]", "Expected JSON value, but found \"]\"."),
            ("nul", "Token \"nul\" is invalid."),
            ("1 2", "Expected end of input, but found \"2\"."),
            ("01", "Token \"01\" is invalid."),
            ("\"a", "Token \"\"a\" is invalid."),
            ("{a:1}", "Expected string or \"}\", but found \"a\"."),
            (r#""\x""#, "Escape sequence \"\\x\" is invalid."),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.state, SqlState::INVALID_TEXT_REPRESENTATION);
            assert_eq!(error.fields.detail.as_deref(), Some(detail), "{text}");
            assert!(validate(text).is_err());
        }
        assert!(validate(r#""\u0000""#).is_ok());
        assert!(parse(r#""\u0000""#).is_err());
    }

    #[test]
    fn depth_is_limited() {
        let deep = "[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1);
        assert_eq!(
            parse(&deep).map_err(|e| e.state),
            Err(SqlState::STATEMENT_TOO_COMPLEX)
        );
        let fits = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
        let value = parse(&fits).unwrap();
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        assert_eq!(Jsonb::decode(&bytes), Ok(value));
    }

    #[test]
    fn pretty_print() {
        let shown = parse(r#"{"a":[1,{}],"b":"x"}"#).unwrap().pretty();
        assert_eq!(
            shown,
            "{\n    \"a\": [\n        1,\n        {\n        }\n    ],\n    \"b\": \"x\"\n}"
        );
    }
}
