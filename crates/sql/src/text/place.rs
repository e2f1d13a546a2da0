//! Where in a statement an error is.
//!
//! Analysis works on a syntax tree whose nodes have no places. But PostgreSQL's messages quote the name
//! that is wrong, and where that name stands only once in the statement its place is certain.

use super::lexer::{Token, TokenKind, tokenize};
use types::{Error, SqlState};

/// The error with its position in `sql`, if it can be told.
pub fn located(error: Error, sql: &str) -> Error {
    if error.fields.position.is_some() {
        return error;
    }
    match wrong_name(&error).and_then(|name| position_of(&name, sql)) {
        Some(position) => error.position(position),
        None => error,
    }
}

/// The parts of the name that a message complains about.
fn wrong_name(error: &Error) -> Option<Vec<String>> {
    let message = error.message.as_str();
    let name = match error.state {
        SqlState::UNDEFINED_FUNCTION => message.strip_prefix("function ")?.split('(').next()?,
        SqlState::UNDEFINED_COLUMN => {
            let rest = message.strip_prefix("column ")?;
            rest.split_once(" does not exist")
                .or_else(|| rest.split_once(" of relation "))?
                .0
        }
        SqlState::AMBIGUOUS_COLUMN => message
            .strip_prefix("column reference ")?
            .strip_suffix(" is ambiguous")?,
        SqlState::UNDEFINED_TABLE => message.split('"').nth(1)?,
        SqlState::UNDEFINED_OBJECT => message.strip_prefix("type ")?.split('"').nth(1)?,
        _ => return None,
    };
    let parts = name.split('.').map(|p| p.trim_matches('"').to_string());
    Some(parts.collect())
}

/// The one-based character position of a dotted name that occurs once.
fn position_of(name: &[String], sql: &str) -> Option<u32> {
    let tokens = tokenize(sql).ok()?;
    let mut found = None;
    for start in 0..tokens.len() {
        if starts_name(&tokens, start, name, sql) {
            if found.is_some() {
                return None;
            }
            found = Some(tokens.get(start)?.range.start);
        }
    }
    let characters = sql.get(..found?)?.chars().count();
    u32::try_from(characters + 1).ok()
}

fn starts_name(tokens: &[Token], start: usize, name: &[String], sql: &str) -> bool {
    let text = |index: usize| tokens.get(index).and_then(|t| sql.get(t.range.clone()));
    name.iter().enumerate().all(|(index, part)| {
        let place = start + 2 * index;
        let dotted = index == 0 || text(place - 1) == Some(".");
        let same = match (tokens.get(place).map(|t| t.kind), text(place)) {
            (Some(TokenKind::Word), Some(word)) => word.to_lowercase() == *part,
            (Some(TokenKind::QuotedIdentifier), Some(quoted)) => {
                quoted.trim_matches('"').replace("\"\"", "\"") == *part
            }
            _ => false,
        };
        dotted && same
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(state: SqlState, message: &str, sql: &str) -> Option<u32> {
        located(Error::new(state, message), sql).fields.position
    }

    #[test]
    fn a_name_that_stands_once_is_found() {
        let column = SqlState::UNDEFINED_COLUMN;
        let message = "column \"nothing\" does not exist";
        assert_eq!(place(column, message, "SELECT nothing FROM t"), Some(8));
        assert_eq!(
            place(column, message, "SELECT 'nothing', é, NOTHING"),
            Some(22)
        );
        assert_eq!(place(column, message, "SELECT nothing, nothing"), None);
        let qualified = "column t.x does not exist";
        assert_eq!(place(column, qualified, "SELECT x, t . x FROM t"), Some(11));
        assert_eq!(
            place(
                SqlState::UNDEFINED_TABLE,
                "relation \"a.b\" does not exist",
                "SELECT 1 FROM a.\"b\""
            ),
            Some(15)
        );
        assert_eq!(
            place(
                SqlState::UNDEFINED_FUNCTION,
                "function f(integer) does not exist",
                "SELECT f(1)"
            ),
            Some(8)
        );
    }
}
