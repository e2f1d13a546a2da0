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

/// Where to go, and what to bring along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchCount {
    /// The next rows; with a negative number the previous ones, last first; 0 is the current row again.
    Rows(i64),
    All,
    BackwardAll,
    /// One row by its number from the start, or with a negative number from the end.
    Absolute(i64),
    /// One row by its distance from the current one.
    Relative(i64),
}

pub fn fetch(t: &mut Tokens<'_>, moves_only: bool) -> Result<FetchStatement> {
    let count = direction(t)?;
    t.eat_one_of(&["from", "in"]);
    Ok(FetchStatement {
        cursor: t.identifier()?,
        count,
        moves_only,
    })
}

fn direction(t: &mut Tokens<'_>) -> Result<FetchCount> {
    for (word, count) in [
        ("next", FetchCount::Rows(1)),
        ("prior", FetchCount::Rows(-1)),
        ("first", FetchCount::Absolute(1)),
        ("last", FetchCount::Absolute(-1)),
        ("all", FetchCount::All),
    ] {
        if t.eat(&[word]) {
            return Ok(count);
        }
    }
    if t.eat(&["absolute"]) {
        return required(t).map(FetchCount::Absolute);
    }
    if t.eat(&["relative"]) {
        return required(t).map(FetchCount::Relative);
    }
    let backward = t.eat(&["backward"]);
    let named = backward || t.eat(&["forward"]);
    if named && t.eat(&["all"]) {
        return Ok(match backward {
            true => FetchCount::BackwardAll,
            false => FetchCount::All,
        });
    }
    let count = match t.try_number() {
        Some(text) => number(&text)?,
        None => 1,
    };
    Ok(FetchCount::Rows(match backward {
        true => count.saturating_neg(),
        false => count,
    }))
}

fn required(t: &mut Tokens<'_>) -> Result<i64> {
    match t.try_number() {
        Some(text) => number(&text),
        None => Err(t.unexpected()),
    }
}

fn number(text: &str) -> Result<i64> {
    text.parse()
        .map_err(|_| Error::syntax(format!("syntax error at or near \"{text}\"")))
}
