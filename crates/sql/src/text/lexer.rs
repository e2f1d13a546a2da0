//! PostgreSQL's lexical structure (manual, section 4.1), as far as statement boundaries and literals
//! need it. The grammar proper is `sqlparser`'s.

use std::ops::Range;
use types::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Keyword or unquoted identifier.
    Word,
    QuotedIdentifier,
    Number,
    /// `'…'`
    String,
    /// `E'…'`, `B'…'`, `X'…'`, `U&'…'`, `$tag$…$tag$`.
    SpecialString,
    /// `$1`
    Parameter,
    /// One character of punctuation or operator.
    Symbol,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    pub range: Range<usize>,
}

/// All tokens without white space and comments.
pub fn tokenize(sql: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::with_capacity(sql.len() / 4 + 4);
    let mut lexer = Lexer {
        bytes: sql.as_bytes(),
        at: 0,
    };
    while let Some(token) = lexer.next_token()? {
        tokens.push(token);
    }
    Ok(tokens)
}

struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word_part(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn next_token(&mut self) -> Result<Option<Token>> {
        self.skip_blank()?;
        let start = self.at;
        let Some(&first) = self.bytes.get(start) else {
            return Ok(None);
        };
        let kind = match first {
            b'\'' => {
                self.at += 1;
                self.skip_quoted(b'\'', false, "string")?;
                TokenKind::String
            }
            b'"' => {
                self.at += 1;
                self.skip_quoted(b'"', false, "identifier")?;
                TokenKind::QuotedIdentifier
            }
            b'$' if self.peek(1).is_ascii_digit() => {
                self.at += 1;
                self.skip_while(|byte| byte.is_ascii_digit());
                TokenKind::Parameter
            }
            b'$' if self.skip_dollar_string()? => TokenKind::SpecialString,
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_ascii_digit() => self.number(),
            _ if is_word_start(first) => self.word_or_prefixed_string(first)?,
            _ => {
                self.at += 1;
                TokenKind::Symbol
            }
        };
        Ok(Some(Token {
            kind,
            range: start..self.at,
        }))
    }

    fn skip_while(&mut self, matches: impl Fn(u8) -> bool) {
        while self.bytes.get(self.at).is_some_and(|byte| matches(*byte)) {
            self.at += 1;
        }
    }

    fn skip_blank(&mut self) -> Result<()> {
        loop {
            self.skip_while(|byte| byte.is_ascii_whitespace());
            if self.peek(0) == b'-' && self.peek(1) == b'-' {
                self.skip_while(|byte| byte != b'\n');
            } else if self.peek(0) == b'/' && self.peek(1) == b'*' {
                self.skip_block_comment()?;
            } else {
                return Ok(());
            }
        }
    }

    /// Block comments nest.
    fn skip_block_comment(&mut self) -> Result<()> {
        let start = self.at;
        let mut depth = 0;
        while self.at < self.bytes.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                _ => self.at += 1,
            }
        }
        Err(self.unterminated("/* comment", start))
    }

    /// From after the opening quote to after the closing one; doubled quotes stay inside.
    fn skip_quoted(&mut self, quote: u8, backslash_escapes: bool, what: &str) -> Result<()> {
        let start = self.at;
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            if byte == b'\\' && backslash_escapes {
                self.at += 1;
            } else if byte == quote {
                if self.peek(0) == quote {
                    self.at += 1;
                } else {
                    return Ok(());
                }
            }
        }
        Err(self.unterminated(&format!("quoted {what}"), start))
    }

    fn skip_dollar_string(&mut self) -> Result<bool> {
        let start = self.at;
        let mut end = start + 1;
        while self
            .bytes
            .get(end)
            .is_some_and(|byte| is_word_part(*byte) && *byte != b'$')
        {
            end += 1;
        }
        if self.bytes.get(end) != Some(&b'$') {
            return Ok(false);
        }
        let tag = &self.bytes[start..=end];
        let body = &self.bytes[end + 1..];
        match body.windows(tag.len()).position(|window| window == tag) {
            Some(length) => {
                self.at = end + 1 + length + tag.len();
                Ok(true)
            }
            None => Err(self.unterminated("dollar-quoted string", start)),
        }
    }

    fn number(&mut self) -> TokenKind {
        let hexadecimal = self.peek(0) == b'0' && matches!(self.peek(1), b'x' | b'o' | b'b');
        if hexadecimal {
            self.at += 2;
            self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            return TokenKind::Number;
        }
        let digits = |byte: u8| byte.is_ascii_digit() || byte == b'_';
        self.skip_while(digits);
        if self.peek(0) == b'.' && self.peek(1) != b'.' {
            self.at += 1;
            self.skip_while(digits);
        }
        if matches!(self.peek(0), b'e' | b'E') {
            let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if self.peek(1 + sign).is_ascii_digit() {
                self.at += 1 + sign;
                self.skip_while(digits);
            }
        }
        TokenKind::Number
    }

    fn word_or_prefixed_string(&mut self, first: u8) -> Result<TokenKind> {
        let prefixed = match first.to_ascii_lowercase() {
            b'e' | b'b' | b'x' | b'n' if self.peek(1) == b'\'' => Some(2),
            b'u' if self.peek(1) == b'&' && self.peek(2) == b'\'' => Some(3),
            _ => None,
        };
        if let Some(length) = prefixed {
            self.at += length;
            self.skip_quoted(b'\'', first.eq_ignore_ascii_case(&b'e'), "string")?;
            return Ok(TokenKind::SpecialString);
        }
        self.skip_while(is_word_part);
        Ok(TokenKind::Word)
    }

    fn unterminated(&self, what: &str, at: usize) -> Error {
        let rest = String::from_utf8_lossy(&self.bytes[at.saturating_sub(1)..]).into_owned();
        let position = String::from_utf8_lossy(&self.bytes[..at])
            .chars()
            .count()
            .max(1);
        Error::syntax(format!("unterminated {what} at or near \"{rest}\""))
            .position(position as u32)
    }
}
