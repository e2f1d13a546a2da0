//! FETCH and MOVE.

use super::tokens::Tokens;
use types::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchStatement {
    pub cursor: String,
    pub count: FetchCount,
    /// MOVE: rows are passed over, not sent.
    pub moves_only: bool,
}

/// Forward only: a cursor here streams, it cannot go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchCount {
    Rows(u64),
    All,
}

pub fn fetch(t: &mut Tokens<'_>, moves_only: bool) -> Result<FetchStatement> {
    let count = if t.eat(&["next"]) {
        FetchCount::Rows(1)
    } else if t.eat(&["all"]) || t.eat(&["forward", "all"]) {
        FetchCount::All
    } else if t.eat(&["forward"]) {
        match t.try_number() {
            Some(number) => rows(&number)?,
            None => FetchCount::Rows(1),
        }
    } else if let Some(number) = t.try_number() {
        rows(&number)?
    } else {
        for direction in ["prior", "first", "last", "absolute", "relative", "backward"] {
            if t.looking_at(&[direction]) {
                return Err(backwards());
            }
        }
        FetchCount::Rows(1)
    };
    t.eat_one_of(&["from", "in"]);
    Ok(FetchStatement {
        cursor: t.identifier()?,
        count,
        moves_only,
    })
}

fn rows(number: &str) -> Result<FetchCount> {
    match number.parse::<i64>() {
        Ok(count) => u64::try_from(count)
            .map(FetchCount::Rows)
            .map_err(|_| backwards()),
        Err(_) => Err(Error::syntax(format!(
            "syntax error at or near \"{number}\""
        ))),
    }
}

fn backwards() -> Error {
    Error::unsupported("fetching backwards from a cursor")
}
