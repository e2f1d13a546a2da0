//! SQL text as the shell needs to see it: where statements end, what is a string or a comment.

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Space,
    Comment,
    /// A keyword or an unquoted name.
    Word,
    /// A name in double quotes.
    Quoted,
    /// Any form of string literal.
    String,
    Number,
    Semicolon,
    Symbol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    /// Where `text` starts, in bytes.
    pub start: usize,
    /// A string, quoted name or block comment that ends before its closing mark is not closed.
    pub closed: bool,
}

pub fn tokens(text: &str) -> Tokens<'_> {
    Tokens { text, at: 0 }
}

pub struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = &self.text[self.at..];
        let first = rest.chars().next()?;
        let (kind, len, closed) = scan(rest, first);
        let token = Token {
            kind,
            text: &rest[..len],
            start: self.at,
            closed,
        };
        self.at += len;
        Some(token)
    }
}

fn scan(rest: &str, first: char) -> (Kind, usize, bool) {
    let run = |of: fn(char) -> bool| rest.find(|c| !of(c)).unwrap_or(rest.len());
    match first {
        c if c.is_whitespace() => (Kind::Space, run(char::is_whitespace), true),
        '-' if rest.starts_with("--") => {
            (Kind::Comment, rest.find('\n').unwrap_or(rest.len()), true)
        }
        '/' if rest.starts_with("/*") => {
            let (len, closed) = block_comment(rest);
            (Kind::Comment, len, closed)
        }
        '\'' => {
            let (len, closed) = quoted(rest, 0, '\'', false);
            (Kind::String, len, closed)
        }
        'e' | 'E' if rest[1..].starts_with('\'') => {
            let (len, closed) = quoted(rest, 1, '\'', true);
            (Kind::String, len, closed)
        }
        '"' => {
            let (len, closed) = quoted(rest, 0, '"', false);
            (Kind::Quoted, len, closed)
        }
        '$' => match dollar_quoted(rest) {
            Some((len, closed)) => (Kind::String, len, closed),
            None => (Kind::Symbol, 1, true),
        },
        ';' => (Kind::Semicolon, 1, true),
        c if c.is_ascii_digit() => {
            let len = run(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
            (Kind::Number, len, true)
        }
        c if c.is_alphabetic() || c == '_' => {
            let len = run(|c| c.is_alphanumeric() || c == '_' || c == '$');
            (Kind::Word, len, true)
        }
        c => (Kind::Symbol, c.len_utf8(), true),
    }
}

/// Length up to the closing mark; a doubled mark does not close.
fn quoted(text: &str, open: usize, mark: char, backslash: bool) -> (usize, bool) {
    let mut chars = text[open + 1..].char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if backslash && c == '\\' {
            chars.next();
        } else if c == mark {
            if chars.peek().is_some_and(|(_, next)| *next == mark) {
                chars.next();
            } else {
                return (open + 1 + at + 1, true);
            }
        }
    }
    (text.len(), false)
}

/// Block comments nest.
fn block_comment(text: &str) -> (usize, bool) {
    let mut depth = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return (at, true);
            }
        } else {
            at += 1;
        }
    }
    (text.len(), false)
}

/// `$tag$ … $tag$`; `None` if the dollar opens nothing, as in `$1`.
fn dollar_quoted(text: &str) -> Option<(usize, bool)> {
    let tag_len = text[1..].find(|c: char| !(c.is_alphanumeric() || c == '_'))? + 1;
    if !text[tag_len..].starts_with('$') || text[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let tag = &text[..=tag_len];
    Some(match text[tag.len()..].find(tag) {
        Some(end) => (tag.len() + end + tag.len(), true),
        None => (text.len(), false),
    })
}

/// A statement of a longer text, without its semicolon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    pub text: &'a str,
    /// Where the text goes on after it, in bytes.
    pub end: usize,
}

/// Cuts off the first statement that is ended by a semicolon.
pub fn next_statement(text: &str) -> Option<Statement<'_>> {
    let semicolon = tokens(text).find(|token| token.kind == Kind::Semicolon)?;
    Some(Statement {
        text: text[..semicolon.start].trim(),
        end: semicolon.start + 1,
    })
}

/// Nothing but blanks and comments.
pub fn is_blank(text: &str) -> bool {
    tokens(text).all(|token| matches!(token.kind, Kind::Space | Kind::Comment) && token.closed)
}

/// The first words, in upper case: what kind of statement it is.
pub fn leading_words(text: &str, count: usize) -> Vec<String> {
    tokens(text)
        .filter(|token| !matches!(token.kind, Kind::Space | Kind::Comment))
        .take_while(|token| token.kind == Kind::Word)
        .take(count)
        .map(|token| token.text.to_ascii_uppercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> (Vec<&str>, &str) {
        let mut found = Vec::new();
        let mut rest = text;
        while let Some(statement) = next_statement(rest) {
            found.push(statement.text);
            rest = &rest[statement.end..];
        }
        (found, rest)
    }

    #[test]
    fn finds_where_statements_end() {
        assert_eq!(split("select 1; select 2"), (vec!["select 1"], " select 2"));
        assert_eq!(split("select ';'';';"), (vec!["select ';'';'"], ""));
        assert_eq!(split("select E'\\';';"), (vec!["select E'\\';'"], ""));
        assert_eq!(
            split("select $a$;$b$;$a$;"),
            (vec!["select $a$;$b$;$a$"], "")
        );
        assert_eq!(split("select $1;"), (vec!["select $1"], ""));
        assert_eq!(
            split("-- ;\n/* ; /* */ ; */;"),
            (vec!["-- ;\n/* ; /* */ ; */"], "")
        );
        assert_eq!(split("select \";\" "), (vec![], "select \";\" "));
        assert_eq!(split("select 'open;"), (vec![], "select 'open;"));
    }

    #[test]
    fn knows_blank_text_and_first_words() {
        assert!(is_blank(" -- nothing\n /* at all */"));
        assert!(!is_blank("/* open"));
        assert_eq!(
            leading_words("/* x */ create Table t", 2),
            ["CREATE", "TABLE"]
        );
    }

    proptest! {
        #[test]
        fn tokens_cover_any_text(text in "[ -~é\\n]{0,60}") {
            let whole: String = tokens(&text).map(|token| token.text).collect();
            prop_assert_eq!(whole, text);
        }
    }
}
