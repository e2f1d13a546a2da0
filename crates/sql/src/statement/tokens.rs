//! A cursor over a statement's tokens, for the small grammars parsed by hand.

use crate::text::{Token, TokenKind, tokenize};
use types::{Error, Result};

pub struct Tokens<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub fn new(text: &'a str) -> Result<Self> {
        let mut tokens = tokenize(text)?;
        while tokens
            .last()
            .is_some_and(|token| &text[token.range.clone()] == ";")
        {
            tokens.pop();
        }
        Ok(Tokens {
            text,
            tokens,
            at: 0,
        })
    }

    pub fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn token(&self, ahead: usize) -> Option<(&Token, &'a str)> {
        let token = self.tokens.get(self.at + ahead)?;
        Some((token, &self.text[token.range.clone()]))
    }

    /// The next token's text, taken.
    pub fn next_text(&mut self) -> Option<String> {
        let text = self.token(0)?.1.to_string();
        self.at += 1;
        Some(text)
    }

    /// Whether these words come next, in any case.
    pub fn looking_at(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(ahead, word)| {
            self.token(ahead).is_some_and(|(token, text)| {
                token.kind == TokenKind::Word && text.eq_ignore_ascii_case(word)
            })
        })
    }

    /// Takes these words if they come next.
    pub fn eat(&mut self, words: &[&str]) -> bool {
        let found = self.looking_at(words);
        if found {
            self.at += words.len();
        }
        found
    }

    /// Takes the first of `choices` that comes next.
    pub fn eat_one_of(&mut self, choices: &[&str]) -> bool {
        choices.iter().any(|word| self.eat(&[word]))
    }

    pub fn expect(&mut self, words: &[&str]) -> Result<()> {
        if self.eat(words) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub fn looking_at_symbol(&self, symbol: &str) -> bool {
        self.token(0)
            .is_some_and(|(token, text)| token.kind == TokenKind::Symbol && text == symbol)
    }

    pub fn eat_symbol(&mut self, symbol: &str) -> bool {
        let found = self.looking_at_symbol(symbol);
        if found {
            self.at += 1;
        }
        found
    }

    pub fn expect_symbol(&mut self, symbol: &str) -> Result<()> {
        if self.eat_symbol(symbol) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub fn expect_end(&self) -> Result<()> {
        if self.at_end() {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    /// An identifier: folded to lower case unless quoted.
    pub fn identifier(&mut self) -> Result<String> {
        match self.try_identifier() {
            Some(name) => Ok(name),
            None => Err(self.unexpected()),
        }
    }

    pub fn try_identifier(&mut self) -> Option<String> {
        let (token, text) = self.token(0)?;
        let name = match token.kind {
            TokenKind::Word => text.to_lowercase(),
            TokenKind::QuotedIdentifier => text[1..text.len() - 1].replace("\"\"", "\""),
            _ => return None,
        };
        self.at += 1;
        Some(name)
    }

    /// `name` or `schema.name`.
    pub fn qualified_name(&mut self) -> Result<(Option<String>, String)> {
        let first = self.identifier()?;
        if self.eat_symbol(".") {
            return Ok((Some(first), self.identifier()?));
        }
        Ok((None, first))
    }

    pub fn try_string(&mut self) -> Result<Option<String>> {
        let Some((token, text)) = self.token(0) else {
            return Ok(None);
        };
        let value = match token.kind {
            TokenKind::String => text[1..text.len() - 1].replace("''", "'"),
            TokenKind::SpecialString => special_string(text)?,
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(value))
    }

    pub fn string(&mut self) -> Result<String> {
        match self.try_string()? {
            Some(value) => Ok(value),
            None => Err(self.unexpected()),
        }
    }

    /// A number with an optional sign, as written.
    pub fn try_number(&mut self) -> Option<String> {
        let signed = matches!(self.token(0), Some((_, "-" | "+")));
        let (token, text) = self.token(usize::from(signed))?;
        if token.kind != TokenKind::Number {
            return None;
        }
        let negative = matches!(self.token(0), Some((_, "-")));
        let number = format!("{}{text}", if negative { "-" } else { "" });
        self.at += 1 + usize::from(signed);
        Some(number)
    }

    /// All text from the next token on, taken.
    pub fn rest(&mut self) -> &'a str {
        let rest = self
            .token(0)
            .map_or("", |(token, _)| &self.text[token.range.start..]);
        self.at = self.tokens.len();
        rest
    }

    /// The text between the parenthesis that comes next and its partner, taken.
    pub fn parenthesised(&mut self) -> Result<&'a str> {
        self.expect_symbol("(")?;
        let start = self
            .token(0)
            .map_or(self.text.len(), |(token, _)| token.range.start);
        let mut depth = 1;
        while let Some((token, text)) = self.token(0) {
            let end = token.range.start;
            match text {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(&self.text[start..end]);
            }
        }
        Err(self.unexpected())
    }

    /// PostgreSQL's error for the token that comes next.
    pub fn unexpected(&self) -> Error {
        match self.token(0) {
            None => Error::syntax("syntax error at end of input"),
            Some((token, text)) => {
                let position = self.text[..token.range.start].chars().count() + 1;
                Error::syntax(format!("syntax error at or near \"{text}\""))
                    .position(position as u32)
            }
        }
    }
}

/// The value of `E'…'` or `$tag$…$tag$`.
fn special_string(text: &str) -> Result<String> {
    if let Some(body) = text.strip_prefix('$') {
        let tag = body.find('$').map_or(0, |end| end + 2);
        return Ok(text[tag..text.len() - tag].to_string());
    }
    if !text.starts_with(['e', 'E']) {
        return Err(Error::unsupported("this kind of string literal here"));
    }
    let body = &text[2..text.len() - 1];
    let mut value = String::with_capacity(body.len());
    let mut chars = body.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('t') => value.push('\t'),
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('b') => value.push('\u{8}'),
                Some('f') => value.push('\u{c}'),
                Some(other) => value.push(other),
                None => {}
            },
            '\'' => {
                chars.next_if_eq(&'\'');
                value.push('\'');
            }
            other => value.push(other),
        }
    }
    Ok(value)
}
