//! Statement text, before any parser: tokens, statement boundaries, and literals lifted out.

pub mod lexer;
pub mod normalise;
mod place;

pub use lexer::{Token, TokenKind, tokenize};
pub use normalise::{Literal, Normalised, normalise};
pub use place::located;

use std::ops::Range;
use types::Result;

/// The non-empty statements of a query string, as byte ranges without the `;`.
pub fn split_statements(sql: &str) -> Result<Vec<Range<usize>>> {
    let mut statements = Vec::new();
    let mut current: Option<Range<usize>> = None;
    for token in tokenize(sql)? {
        if token.kind == TokenKind::Symbol && &sql[token.range.clone()] == ";" {
            statements.extend(current.take());
        } else {
            let start = current
                .as_ref()
                .map_or(token.range.start, |range| range.start);
            current = Some(start..token.range.end);
        }
    }
    statements.extend(current);
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_outside_of_quotes_and_comments() {
        let sql = "select ';'; -- a;b\n /* c; /* d; */ */ select $x$;$x$ ;; select \";\"";
        let parts: Vec<&str> = split_statements(sql)
            .unwrap()
            .into_iter()
            .map(|range| &sql[range])
            .collect();
        assert_eq!(parts, ["select ';'", "select $x$;$x$", "select \";\""]);
    }

    #[test]
    fn unterminated_quotes_are_syntax_errors() {
        for sql in ["select 'a", "select \"a", "select $$a", "/* a"] {
            let error = split_statements(sql).unwrap_err();
            assert_eq!(error.state, types::SqlState::SYNTAX_ERROR, "{sql}");
        }
    }
}
