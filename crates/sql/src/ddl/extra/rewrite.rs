//! Statements that the SQL parser takes once they are written a little differently.

use super::sequence::SequenceParts;
use super::words::Words;
use sqlparser::ast::SequenceOptions;
use sqlparser::tokenizer::Token;

/// Rewrites what the SQL parser takes only in part: `CREATE UNLOGGED TABLE`, and the options of an
/// identity column, which it wants in one order. `None` if there is nothing to rewrite.
pub fn for_parser(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let start = lower.trim_start();
    let may = start.starts_with("create unlogged")
        || (lower.contains("identity")
            && (start.starts_with("create") || start.starts_with("alter")));
    if !may {
        return None;
    }
    let mut words = Words::of(text)?;
    if words.is_word(1, "unlogged") {
        words.tokens.remove(1);
    }
    let mut at = 0;
    while at < words.tokens.len() {
        let opens =
            words.is_word(at, "identity") && words.tokens.get(at + 1) == Some(&Token::LParen);
        if opens
            && let Some(length) = words.tokens[at + 2..]
                .iter()
                .position(|t| *t == Token::RParen)
        {
            let options = words.tokens[at + 2..at + 2 + length].to_vec();
            let ordered = ordered_options(options)?;
            words.tokens.splice(at + 2..at + 2 + length, ordered);
        }
        at += 1;
    }
    let texts: Option<Vec<String>> = words.tokens.iter().map(token_text).collect();
    Some(texts?.join(" "))
}

/// A token as SQL text; `None` for kinds of strings that cannot be written back.
fn token_text(token: &Token) -> Option<String> {
    match token {
        Token::SingleQuotedString(text) => Some(format!("'{}'", text.replace('\'', "''"))),
        Token::Word(word) if word.quote_style == Some('"') => {
            Some(format!("\"{}\"", word.value.replace('"', "\"\"")))
        }
        Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::DollarQuotedString(_)
        | Token::HexStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::SingleQuotedByteStringLiteral(_) => None,
        other => Some(other.to_string()),
    }
}

/// Sequence options in the order INCREMENT, MINVALUE, MAXVALUE, START, CACHE, CYCLE.
fn ordered_options(tokens: Vec<Token>) -> Option<Vec<Token>> {
    let mut words = Words { tokens, at: 0 };
    let mut pieces: Vec<(usize, Vec<Token>)> = Vec::new();
    while words.peek().is_some() {
        let from = words.at;
        let mut part = SequenceParts::default();
        if !part.accept(&mut words).ok()? {
            return None;
        }
        let rank = match part.options.first()? {
            SequenceOptions::IncrementBy(..) => 0,
            SequenceOptions::MinValue(_) => 1,
            SequenceOptions::MaxValue(_) => 2,
            SequenceOptions::StartWith(..) => 3,
            SequenceOptions::Cache(_) => 4,
            SequenceOptions::Cycle(_) => 5,
        };
        pieces.push((rank, words.tokens[from..words.at].to_vec()));
    }
    pieces.sort_by_key(|(rank, _)| *rank);
    Some(pieces.into_iter().flat_map(|(_, piece)| piece).collect())
}
