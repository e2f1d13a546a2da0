//! Literals lifted out of statement text, so that `… WHERE id = 7` and `… WHERE id = 8` share a plan.
//!
//! A literal becomes a parameter only where a parameter means the same: not in ORDER BY or GROUP BY
//! (where `1` is an ordinal), not as a type modifier (`numeric(10,2)`), not in `DATE '…'`, not after
//! LIMIT or OFFSET. Those stay in the text and so in the cache key. Statements other than
//! SELECT, INSERT, UPDATE and DELETE, and such with parameters of their own, are left as they are.

use super::lexer::{Token, TokenKind, tokenize};
use types::{Datum, Numeric, Result, SqlType};

/// A lifted literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// A number, with PostgreSQL's type for it: int4, int8 or numeric.
    Number(Datum, SqlType),
    /// A string, of unknown type until the plan decides.
    Text(String),
}

/// Statement text with `$n` for each literal.
#[derive(Debug, PartialEq)]
pub struct Normalised {
    /// Cache key: white space and comments folded, numbers marked with their type.
    pub key: String,
    pub literals: Vec<Literal>,
}

/// More literals than this are not lifted: long multi-row INSERTs are parsed as they are.
const MAX_LITERALS: usize = 256;

/// `None` when nothing may be lifted from this text (or it holds several statements).
pub fn normalise(sql: &str) -> Result<Option<Normalised>> {
    let mut tokens = tokenize(sql)?;
    while tokens.last().is_some_and(|t| text(sql, t) == ";") {
        tokens.pop();
    }
    let Some(first) = tokens.first() else {
        return Ok(None);
    };
    let verb = text(sql, first);
    if !["select", "insert", "update", "delete"]
        .iter()
        .any(|v| verb.eq_ignore_ascii_case(v))
    {
        return Ok(None);
    }
    let mut key = String::with_capacity(sql.len() + 16);
    let mut literals = Vec::new();
    let mut ordinals_mean_columns = false;
    for (index, token) in tokens.iter().enumerate() {
        let word = text(sql, token);
        let before = index.checked_sub(1).map(|i| &tokens[i]);
        let liftable = !ordinals_mean_columns && may_be_parameter(sql, &tokens, index);
        let joined = before.is_some_and(|b| b.range.end == token.range.start);
        // Literals that follow one another, and a number that runs into a word, are the parser's.
        let runs_on = before.is_some_and(|b| match b.kind {
            TokenKind::String => token.kind == TokenKind::String,
            TokenKind::Number => joined && token.kind == TokenKind::Word,
            _ => false,
        });
        if runs_on {
            return Ok(None);
        }
        if !joined && index > 0 {
            key.push(' ');
        }
        match token.kind {
            TokenKind::Symbol if word == ";" => return Ok(None),
            TokenKind::Parameter | TokenKind::SpecialString => return Ok(None),
            TokenKind::Number if liftable => match number(word) {
                Some((value, sql_type, mark)) => {
                    literals.push(Literal::Number(value, sql_type));
                    push_parameter(&mut key, literals.len(), mark);
                }
                None => key.push_str(word),
            },
            TokenKind::String if liftable => {
                literals.push(Literal::Text(word[1..word.len() - 1].replace("''", "'")));
                push_parameter(&mut key, literals.len(), "");
            }
            TokenKind::Word => {
                if word.eq_ignore_ascii_case("by") {
                    ordinals_mean_columns = true;
                } else if ends_by_clause(word) {
                    ordinals_mean_columns = false;
                }
                key.push_str(word);
            }
            _ => key.push_str(word),
        }
        if literals.len() > MAX_LITERALS {
            return Ok(None);
        }
    }
    Ok(Some(Normalised { key, literals }))
}

fn text<'a>(sql: &'a str, token: &Token) -> &'a str {
    &sql[token.range.clone()]
}

/// Comments are white space to the parser, so the type mark may ride in one.
fn push_parameter(key: &mut String, number: usize, mark: &str) {
    key.push('$');
    key.push_str(&number.to_string());
    key.push_str(mark);
}

fn ends_by_clause(word: &str) -> bool {
    [
        "limit",
        "offset",
        "having",
        "returning",
        "union",
        "from",
        "where",
        "rows",
        "range",
    ]
    .iter()
    .any(|end| word.eq_ignore_ascii_case(end))
}

/// Words after which a literal is an ordinary expression. After any other word (`date '…'`,
/// `limit 5`, `interval '…'`) it stays.
const EXPRESSION_FOLLOWS: [&str; 21] = [
    "select",
    "and",
    "or",
    "not",
    "like",
    "ilike",
    "between",
    "then",
    "else",
    "when",
    "case",
    "values",
    "where",
    "returning",
    "in",
    "on",
    "distinct",
    "all",
    "having",
    "escape",
    "set",
];

fn may_be_parameter(sql: &str, tokens: &[Token], index: usize) -> bool {
    let Some(before) = index.checked_sub(1).map(|i| &tokens[i]) else {
        return false;
    };
    match before.kind {
        TokenKind::Word => EXPRESSION_FOLLOWS
            .iter()
            .any(|word| text(sql, before).eq_ignore_ascii_case(word)),
        TokenKind::Symbol => match text(sql, before) {
            "(" | "," => !inside_type_modifier(sql, tokens, index),
            "[" | "." | ":" => false,
            _ => true,
        },
        _ => false,
    }
}

/// `x::numeric(10,2)` or `cast(x as varchar(5))`: the innermost open parenthesis belongs to a type.
fn inside_type_modifier(sql: &str, tokens: &[Token], index: usize) -> bool {
    let mut depth = 0usize;
    for open in (0..index).rev() {
        match text(sql, &tokens[open]) {
            ")" => depth += 1,
            "(" if depth > 0 => depth -= 1,
            "(" => {
                let Some(before) = open.checked_sub(2) else {
                    return false;
                };
                let is_name = tokens[open - 1].kind == TokenKind::Word;
                let lead = text(sql, &tokens[before]);
                return is_name
                    && (lead == ":"
                        || lead == "."
                        || lead.eq_ignore_ascii_case("as")
                        || lead.eq_ignore_ascii_case("character"));
            }
            _ => {}
        }
    }
    false
}

fn number(word: &str) -> Option<(Datum, SqlType, &'static str)> {
    if let Ok(value) = word.parse::<i32>() {
        return Some((Datum::Int4(value), SqlType::Int4, "/*i4*/"));
    }
    if let Ok(value) = word.parse::<i64>() {
        return Some((Datum::Int8(value), SqlType::Int8, "/*i8*/"));
    }
    let value = Numeric::parse(word)?;
    Some((Datum::Numeric(value), SqlType::Numeric(None), "/*n*/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sql: &str) -> String {
        normalise(sql)
            .unwrap()
            .map_or_else(|| "-".into(), |n| n.key)
    }

    #[test]
    fn lifts_where_a_parameter_means_the_same() {
        let cases = [
            (
                "SELECT a FROM t WHERE id = 7;",
                "SELECT a FROM t WHERE id = $1/*i4*/",
            ),
            (
                "UPDATE t SET a = a + -3 WHERE id = 'x'",
                "UPDATE t SET a = a + -$1/*i4*/ WHERE id = $2",
            ),
            (
                "INSERT INTO t VALUES (1, 'it''s')",
                "INSERT INTO t VALUES ($1/*i4*/, $2)",
            ),
            (
                "SELECT 1 FROM t ORDER BY 1, 2 LIMIT 3",
                "SELECT $1/*i4*/ FROM t ORDER BY 1, 2 LIMIT 3",
            ),
            (
                "SELECT a::numeric(10,2) FROM t",
                "SELECT a::numeric(10,2) FROM t",
            ),
            ("SELECT date '2020-01-01'", "SELECT date '2020-01-01'"),
            (
                "SELECT f(1, 5000000000, 1.5)",
                "SELECT f($1/*i4*/, $2/*i8*/, $3/*n*/)",
            ),
            ("SELECT $1", "-"),
            ("SELECT 1; SELECT 2", "-"),
            ("BEGIN", "-"),
        ];
        for (sql, expected) in cases {
            assert_eq!(key(sql), expected, "{sql}");
        }
    }

    #[test]
    fn keeps_the_values() {
        let n = normalise("select 'a''b', 2").unwrap().unwrap();
        assert_eq!(
            n.literals,
            [
                Literal::Text("a'b".into()),
                Literal::Number(Datum::Int4(2), SqlType::Int4)
            ]
        );
    }
}
