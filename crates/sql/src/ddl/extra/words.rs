//! A statement as words, and the small pieces that grammars are made of.

use crate::ddl::constraints::parse_expression;
use crate::statement::grammar;
use sqlparser::ast::{DataType, Expr, Ident, ObjectName, ObjectNamePart};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};
use types::{Error, Result};

/// The statement's tokens, without white space.
pub(super) struct Words {
    pub(super) tokens: Vec<Token>,
    pub(super) at: usize,
}

impl Words {
    /// `None` if the text is not made of SQL's tokens; the SQL parser then says what is wrong.
    pub(super) fn of(text: &str) -> Option<Words> {
        let dialect = PostgreSqlDialect {};
        let mut tokens = Tokenizer::new(&dialect, text).tokenize().ok()?;
        tokens.retain(|token| !matches!(token, Token::Whitespace(_)));
        Some(Words { tokens, at: 0 })
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn is_word(&self, at: usize, word: &str) -> bool {
        match self.tokens.get(at) {
            Some(Token::Word(found)) => {
                found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word)
            }
            _ => false,
        }
    }

    /// Takes these words if they are next.
    pub(super) fn accept(&mut self, words: &str) -> bool {
        let mut at = self.at;
        for word in words.split(' ') {
            if !self.is_word(at, word) {
                return false;
            }
            at += 1;
        }
        self.at = at;
        true
    }

    pub(super) fn accept_token(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        if found {
            self.at += 1;
        }
        found
    }

    pub(super) fn expect(&mut self, words: &str) -> Result<()> {
        if self.accept(words) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub(super) fn unexpected(&self) -> Error {
        match self.peek() {
            Some(token) => Error::syntax(format!("syntax error at or near \"{token}\"")),
            None => Error::syntax("syntax error at end of input"),
        }
    }

    pub(super) fn ident(&mut self) -> Result<Ident> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let found = match word.quote_style {
                    Some(quote) => Ident::with_quote(quote, word.value.clone()),
                    None => Ident::new(word.value.clone()),
                };
                self.at += 1;
                Ok(found)
            }
            _ => Err(self.unexpected()),
        }
    }

    pub(super) fn object_name(&mut self) -> Result<ObjectName> {
        let mut parts = vec![ObjectNamePart::Identifier(self.ident()?)];
        while self.accept_token(&Token::Period) {
            parts.push(ObjectNamePart::Identifier(self.ident()?));
        }
        Ok(ObjectName(parts))
    }

    pub(super) fn string(&mut self) -> Result<String> {
        match self.peek() {
            Some(Token::SingleQuotedString(text)) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.unexpected()),
        }
    }

    pub(super) fn number(&mut self) -> Result<Expr> {
        let mut text = String::new();
        if self.accept_token(&Token::Minus) {
            text.push('-');
        } else {
            self.accept_token(&Token::Plus);
        }
        match self.peek() {
            Some(Token::Number(digits, _)) => {
                text.push_str(digits);
                self.at += 1;
                parse_expression(&text)
            }
            _ => Err(self.unexpected()),
        }
    }

    pub(super) fn data_type(&mut self) -> Result<DataType> {
        let name = self.ident()?.value;
        grammar::parse(&name, |parser| parser.parse_data_type())
            .map_err(|error| Error::syntax(error.to_string()))
    }
}
