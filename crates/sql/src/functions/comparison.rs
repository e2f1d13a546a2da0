//! Comparison on datums, and LIKE.
//!
//! DataFusion compares columns of equal types itself; the direct executor asks [`compare`]. Both
//! follow [`types::compare`].

use super::Registry;
use super::arithmetic::{add, wrong_arguments};
use std::cmp::Ordering;
use types::{Datum, Error, Result, SqlState, SqlType};

/// The six comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
}

impl Comparison {
    pub fn holds(self, ordering: Ordering) -> bool {
        match self {
            Comparison::Eq => ordering == Ordering::Equal,
            Comparison::NotEq => ordering != Ordering::Equal,
            Comparison::Lt => ordering == Ordering::Less,
            Comparison::LtEq => ordering != Ordering::Greater,
            Comparison::Gt => ordering == Ordering::Greater,
            Comparison::GtEq => ordering != Ordering::Less,
        }
    }

    /// The same comparison with its sides exchanged.
    pub fn flipped(self) -> Comparison {
        match self {
            Comparison::Lt => Comparison::Gt,
            Comparison::LtEq => Comparison::GtEq,
            Comparison::Gt => Comparison::Lt,
            Comparison::GtEq => Comparison::LtEq,
            same => same,
        }
    }
}

/// SQL comparison: `None` if a side is NULL. `blank_padded` compares `char(n)`.
#[inline]
pub fn compare(a: &Datum, b: &Datum, blank_padded: bool) -> Option<Ordering> {
    match (a, b) {
        (Datum::Null, _) | (_, Datum::Null) => None,
        _ if blank_padded => Some(a.compare_typed(b, &SqlType::BPCHAR)),
        _ => Some(a.compare(b)),
    }
}

/// `IS NOT DISTINCT FROM`.
pub fn same(a: &Datum, b: &Datum, blank_padded: bool) -> bool {
    match (a.is_null(), b.is_null()) {
        (true, true) => true,
        (false, false) => compare(a, b, blank_padded) == Some(Ordering::Equal),
        _ => false,
    }
}

/// Whether `text` is LIKE `pattern`; `%` is any string, `_` any character, `escape` (none: no escape)
/// takes the next one literally.
pub fn like(text: &str, pattern: &str, escape: Option<char>) -> Result<bool> {
    let pattern = compile_like(pattern, escape)?;
    Ok(match_like(text, &pattern))
}

/// As [`like`] with letter case ignored.
pub fn ilike(text: &str, pattern: &str, escape: Option<char>) -> Result<bool> {
    let escape = escape.and_then(|c| c.to_lowercase().next());
    like(&text.to_lowercase(), &pattern.to_lowercase(), escape)
}

enum LikeToken {
    AnyString,
    AnyCharacter,
    Character(char),
}

fn compile_like(pattern: &str, escape: Option<char>) -> Result<Vec<LikeToken>> {
    let mut tokens = Vec::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        if Some(c) == escape {
            let literal = characters.next().ok_or_else(|| {
                Error::new(
                    SqlState::INVALID_ESCAPE_SEQUENCE,
                    "LIKE pattern must not end with escape character",
                )
            })?;
            tokens.push(LikeToken::Character(literal));
            continue;
        }
        match c {
            // A second % in a row adds nothing but work.
            '%' if matches!(tokens.last(), Some(LikeToken::AnyString)) => {}
            '%' => tokens.push(LikeToken::AnyString),
            '_' => tokens.push(LikeToken::AnyCharacter),
            c => tokens.push(LikeToken::Character(c)),
        }
    }
    Ok(tokens)
}

/// Goes back to the last % only, so the time is at most length × tokens.
fn match_like(text: &str, tokens: &[LikeToken]) -> bool {
    let mut at = text.chars();
    let mut token = 0;
    let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        match tokens.get(token) {
            Some(LikeToken::AnyString) => {
                token += 1;
                if token == tokens.len() {
                    return true;
                }
                retry = Some((token, at.clone()));
                continue;
            }
            Some(expected) => {
                let matched = match (expected, at.next()) {
                    (_, None) => return false,
                    (LikeToken::Character(want), Some(c)) => *want == c,
                    (_, Some(_)) => true,
                };
                if matched {
                    token += 1;
                    continue;
                }
            }
            None if at.as_str().is_empty() => return true,
            None => {}
        }
        match &mut retry {
            Some((from, rest)) => {
                if rest.next().is_none() {
                    return false;
                }
                token = *from;
                at = rest.clone();
            }
            None => return false,
        }
    }
}

fn like_operator(
    name: &'static str,
    args: &[Datum],
    matches: fn(&str, &str, Option<char>) -> Result<bool>,
    negated: bool,
) -> Result<Datum> {
    match args {
        [Datum::Text(text), Datum::Text(pattern)] => {
            Ok(Datum::Bool(matches(text, pattern, Some('\\'))? != negated))
        }
        _ => Err(wrong_arguments(name)),
    }
}

pub(super) fn register(registry: &mut Registry) {
    let text = [SqlType::Text, SqlType::Text];
    add(registry, "op ~~", &text, SqlType::Bool, |_, args| {
        like_operator("op ~~", args, like, false)
    });
    add(registry, "op !~~", &text, SqlType::Bool, |_, args| {
        like_operator("op !~~", args, like, true)
    });
    add(registry, "op ~~*", &text, SqlType::Bool, |_, args| {
        like_operator("op ~~*", args, ilike, false)
    });
    add(registry, "op !~~*", &text, SqlType::Bool, |_, args| {
        like_operator("op !~~*", args, ilike, true)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_patterns() {
        let yes = |t: &str, p: &str| assert!(like(t, p, Some('\\')).unwrap(), "{t} LIKE {p}");
        let no = |t: &str, p: &str| assert!(!like(t, p, Some('\\')).unwrap(), "{t} NOT LIKE {p}");
        yes("", "");
        yes("", "%");
        no("", "_");
        no("a", "");
        yes("abc", "a%c");
        yes("abcabc", "%bc");
        yes("aXbXc", "a%b%c");
        no("aXbX", "a%b%c");
        yes("a%c", "a\\%c");
        no("abc", "a\\%c");
        yes("äö", "_ö");
        yes("mississippi", "%iss%pi");
        no("mississippi", "%iss_pi");
        assert!(like("abc", "abc\\", Some('\\')).is_err());
        assert!(ilike("ABC", "a%C", Some('\\')).unwrap());
    }
}
