//! The `regexp_…` functions and `substring(… from pattern)`, over [`super::pattern`].

use super::define::*;
use super::pattern::compile;
use super::{Registry, Volatility};
use regex::{Captures, Regex};
use std::sync::Arc;
use types::{Datum, Error, Result, SqlState};

pub(super) fn register(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Immutable);
    replacing(&mut d);
    matching(&mut d);
    counting(&mut d);
    sql_patterns(&mut d);
}

/// What PostgreSQL's flag letters ask for.
struct Flags {
    global: bool,
    /// In the letters of the `regex` crate.
    inline: String,
}

impl Flags {
    fn none() -> Flags {
        Flags {
            global: false,
            inline: "s".into(),
        }
    }

    fn parse(text: &str) -> Result<Flags> {
        let (mut global, mut ignore_case, mut expanded) = (false, false, false);
        // Whether `.` passes over newlines, and whether `^` and `$` match at them.
        let (mut dot, mut lines) = (true, false);
        for flag in text.chars() {
            match flag {
                'g' => global = true,
                'i' => ignore_case = true,
                'c' => ignore_case = false,
                'x' => expanded = true,
                't' => expanded = false,
                's' => (dot, lines) = (true, false),
                'n' | 'm' => (dot, lines) = (false, true),
                'p' => (dot, lines) = (false, false),
                'w' => (dot, lines) = (true, true),
                'e' => {}
                'q' | 'b' => {
                    return Err(Error::unsupported(format!(
                        "regular expression option \"{flag}\""
                    )));
                }
                other => {
                    return Err(invalid(format!(
                        "invalid regular expression option: \"{other}\""
                    )));
                }
            }
        }
        let mut inline = String::new();
        for (set, letter) in [
            (dot, 's'),
            (lines, 'm'),
            (ignore_case, 'i'),
            (expanded, 'x'),
        ] {
            if set {
                inline.push(letter);
            }
        }
        Ok(Flags { global, inline })
    }

    /// For functions that know no `g`.
    fn without_global(text: &str, function: &str) -> Result<Flags> {
        let flags = Flags::parse(text)?;
        if flags.global {
            return Err(invalid(format!(
                "{function}() does not support the \"global\" option"
            )));
        }
        Ok(flags)
    }

    fn compile(&self, pattern: &str) -> Result<Regex> {
        compile(pattern, &self.inline)
    }
}

/// The flags at `index`, when the call has them.
fn flags(args: &[Datum], index: usize, function: &str) -> Result<Flags> {
    if args.len() <= index {
        return Ok(Flags::none());
    }
    Flags::without_global(text(args, index)?, function)
}

/// Byte place of a one-based character position.
fn start_place(args: &[Datum], index: usize) -> Result<usize> {
    if args.len() <= index {
        return Ok(0);
    }
    let start = int4(args, index)?;
    if start < 1 {
        return Err(bad_argument("start", start));
    }
    let text = text(args, 0)?;
    Ok(text
        .char_indices()
        .nth(start as usize - 1)
        .map_or(text.len(), |(at, _)| at))
}

fn bad_argument(name: &str, value: i32) -> Error {
    invalid(format!("invalid value for parameter \"{name}\": {value}"))
}

fn number_at(args: &[Datum], index: usize, name: &str, default: i32, least: i32) -> Result<i32> {
    if args.len() <= index {
        return Ok(default);
    }
    match int4(args, index)? {
        value if value < least => Err(bad_argument(name, value)),
        value => Ok(value),
    }
}

/// A position past the end has no match, not even an empty one.
fn beyond(args: &[Datum], index: usize) -> Result<bool> {
    if args.len() <= index {
        return Ok(false);
    }
    Ok(int4(args, index)? as usize > text(args, 0)?.chars().count() + 1)
}

// ---- regexp_replace ---------------------------------------------------------------------------

fn replacing(d: &mut Definitions<'_>) {
    d.strict("regexp_replace(text, text, text) text", |_, args| {
        replace(args, &Flags::none(), 0, 1)
    });
    d.strict("regexp_replace(text, text, text, text) text", |_, args| {
        let letters = text(args, 3)?;
        if let Some(digit) = letters.chars().next().filter(char::is_ascii_digit) {
            return Err(
                invalid(format!("invalid regular expression option: \"{digit}\"")).hint(
                    "If you meant to use regexp_replace() with a start parameter, cast the fourth argument to integer explicitly.",
                ),
            );
        }
        let flags = Flags::parse(letters)?;
        let nth = if flags.global { 0 } else { 1 };
        replace(args, &flags, 0, nth)
    });
    d.strict("regexp_replace(text, text, text, int4) text", |_, args| {
        replace(args, &Flags::none(), start_place(args, 3)?, 1)
    });
    d.strict(
        "regexp_replace(text, text, text, int4, int4) text",
        |_, args| {
            let nth = number_at(args, 4, "n", 1, 0)?;
            replace(args, &Flags::none(), start_place(args, 3)?, nth)
        },
    );
    d.strict(
        "regexp_replace(text, text, text, int4, int4, text) text",
        |_, args| {
            let nth = number_at(args, 4, "n", 1, 0)?;
            replace(
                args,
                &Flags::parse(text(args, 5)?)?,
                start_place(args, 3)?,
                nth,
            )
        },
    );
}

/// Replaces the nth match at or after `start`; all of them when `nth` is 0.
fn replace(args: &[Datum], flags: &Flags, start: usize, nth: i32) -> Result<Datum> {
    let (source, with) = (text(args, 0)?, text(args, 2)?);
    let regex = flags.compile(text(args, 1)?)?;
    let mut out = String::with_capacity(source.len());
    let mut copied = 0;
    for (index, captures) in matches_from(&regex, source, start).enumerate() {
        if nth > 0 && (index as i32) < nth - 1 {
            continue;
        }
        let whole = whole(&captures);
        out.push_str(&source[copied..whole.0]);
        expand(with, &captures, &mut out);
        copied = whole.1;
        check_length(out.len())?;
        if nth > 0 {
            break;
        }
    }
    out.push_str(&source[copied..]);
    text_datum(out)
}

fn whole(captures: &Captures<'_>) -> (usize, usize) {
    captures.get(0).map_or((0, 0), |m| (m.start(), m.end()))
}

/// All matches that begin at or after `start`, without overlap.
fn matches_from<'r, 't>(
    regex: &'r Regex,
    text: &'t str,
    start: usize,
) -> impl Iterator<Item = Captures<'t>> + use<'r, 't> {
    let mut at = Some(start);
    let mut last_end = None;
    std::iter::from_fn(move || {
        loop {
            let from = at.filter(|from| *from <= text.len())?;
            let captures = regex.captures_at(text, from)?;
            let (begin, end) = whole(&captures);
            // After an empty match the search goes on one character later.
            at = if end == begin {
                Some(end + text[end..].chars().next().map_or(1, char::len_utf8))
            } else {
                Some(end)
            };
            if begin == end && last_end == Some(end) {
                continue;
            }
            last_end = Some(end);
            return Some(captures);
        }
    })
}

/// The replacement's `\1` … `\9`, `\&` and `\\`.
fn expand(template: &str, captures: &Captures<'_>, out: &mut String) {
    let mut characters = template.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match characters.next() {
            Some('&') => out.push_str(captures.get(0).map_or("", |m| m.as_str())),
            Some(digit @ '1'..='9') => {
                let group = digit as usize - '0' as usize;
                out.push_str(captures.get(group).map_or("", |m| m.as_str()));
            }
            Some('\\') => out.push('\\'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
}

// ---- regexp_match and its kin -----------------------------------------------------------------

/// The groups of a match; the whole of it when the pattern has none.
fn groups(captures: &Captures<'_>) -> Datum {
    let group = |index: usize| captures.get(index).map(|m| m.as_str());
    if captures.len() == 1 {
        text_array([group(0)])
    } else {
        text_array((1..captures.len()).map(group))
    }
}

fn matching(d: &mut Definitions<'_>) {
    for signature in [
        "regexp_match(text, text) text[]",
        "regexp_match(text, text, text) text[]",
    ] {
        d.strict(signature, |_, args| {
            if args.len() > 2 && Flags::parse(text(args, 2)?)?.global {
                return Err(
                    invalid("regexp_match() does not support the \"global\" option")
                        .hint("Use the regexp_matches function instead."),
                );
            }
            let regex = flags(args, 2, "regexp_match")?.compile(text(args, 1)?)?;
            Ok(regex
                .captures(text(args, 0)?)
                .map_or(Datum::Null, |captures| groups(&captures)))
        });
    }
    for signature in [
        "regexp_like(text, text) bool",
        "regexp_like(text, text, text) bool",
    ] {
        d.strict(signature, |_, args| {
            let regex = flags(args, 2, "regexp_like")?.compile(text(args, 1)?)?;
            Ok(Datum::Bool(regex.is_match(text(args, 0)?)))
        });
    }
    for signature in [
        "regexp_split_to_array(text, text) text[]",
        "regexp_split_to_array(text, text, text) text[]",
    ] {
        d.strict(signature, |_, args| {
            split_array(args, "regexp_split_to_array")
        });
    }
    d.strict("substring(text, text) text", |_, args| {
        let regex = Flags::none().compile(text(args, 1)?)?;
        let found = regex.captures(text(args, 0)?).and_then(|captures| {
            let group = usize::from(captures.len() > 1);
            captures.get(group).map(|m| Arc::<str>::from(m.as_str()))
        });
        Ok(found.map_or(Datum::Null, Datum::Text))
    });
}

/// The parts between the matches of a pattern, as an array.
pub(super) fn split_array(args: &[Datum], function: &str) -> Result<Datum> {
    let regex = flags(args, 2, function)?.compile(text(args, 1)?)?;
    let parts = split(&regex, text(args, 0)?);
    Ok(text_array(parts.into_iter().map(Some)))
}

/// The text between matches; an empty match at either end, or right after a match, splits nothing.
fn split<'t>(regex: &Regex, text: &'t str) -> Vec<&'t str> {
    let mut parts = Vec::new();
    let mut copied = 0;
    for captures in matches_from(regex, text, 0) {
        let (begin, end) = whole(&captures);
        if begin == end && (begin == copied || begin == text.len()) {
            continue;
        }
        parts.push(&text[copied..begin]);
        copied = end;
    }
    parts.push(&text[copied..]);
    parts
}

// ---- regexp_count, regexp_instr, regexp_substr ------------------------------------------------

fn counting(d: &mut Definitions<'_>) {
    for signature in [
        "regexp_count(text, text) int4",
        "regexp_count(text, text, int4) int4",
        "regexp_count(text, text, int4, text) int4",
    ] {
        d.strict(signature, |_, args| {
            let start = start_place(args, 2)?;
            let regex = flags(args, 3, "regexp_count")?.compile(text(args, 1)?)?;
            if beyond(args, 2)? {
                return Ok(Datum::Int4(0));
            }
            let count = matches_from(&regex, text(args, 0)?, start).count();
            Ok(Datum::Int4(count as i32))
        });
    }
    for signature in [
        "regexp_instr(text, text) int4",
        "regexp_instr(text, text, int4) int4",
        "regexp_instr(text, text, int4, int4) int4",
        "regexp_instr(text, text, int4, int4, int4) int4",
        "regexp_instr(text, text, int4, int4, int4, text) int4",
        "regexp_instr(text, text, int4, int4, int4, text, int4) int4",
    ] {
        d.strict(signature, |_, args| {
            let end = number_at(args, 4, "endoption", 0, 0)?;
            if end > 1 {
                return Err(bad_argument("endoption", end));
            }
            let found = nth_group(args, 5, 6, "regexp_instr")?;
            Ok(Datum::Int4(found.map_or(0, |(begin, after)| {
                let at = if end == 1 { after } else { begin };
                args[0]
                    .as_str()
                    .map_or(0, |text| text[..at].chars().count() as i32 + 1)
            })))
        });
    }
    for signature in [
        "regexp_substr(text, text) text",
        "regexp_substr(text, text, int4) text",
        "regexp_substr(text, text, int4, int4) text",
        "regexp_substr(text, text, int4, int4, text) text",
        "regexp_substr(text, text, int4, int4, text, int4) text",
    ] {
        d.strict(signature, |_, args| {
            let found = nth_group(args, 4, 5, "regexp_substr")?;
            match found {
                Some((begin, end)) => text_datum(&text(args, 0)?[begin..end]),
                None => Ok(Datum::Null),
            }
        });
    }
}

/// Where the group asked for lies in the nth match.
fn nth_group(
    args: &[Datum],
    flags_at: usize,
    group_at: usize,
    function: &str,
) -> Result<Option<(usize, usize)>> {
    let start = start_place(args, 2)?;
    let nth = number_at(args, 3, "n", 1, 1)?;
    let group = number_at(args, group_at, "subexpr", 0, 0)?;
    let regex = flags(args, flags_at, function)?.compile(text(args, 1)?)?;
    if beyond(args, 2)? {
        return Ok(None);
    }
    let captures = matches_from(&regex, text(args, 0)?, start).nth(nth as usize - 1);
    Ok(captures.and_then(|captures| captures.get(group as usize).map(|m| (m.start(), m.end()))))
}

// ---- SQL patterns -----------------------------------------------------------------------------

fn sql_patterns(d: &mut Definitions<'_>) {
    d.strict("similar_to_escape(text) text", |_, args| {
        text_datum(similar_to(text(args, 0)?, Some('\\'))?)
    });
    d.strict("similar_to_escape(text, text) text", |_, args| {
        text_datum(similar_to(
            text(args, 0)?,
            escape_character(text(args, 1)?)?,
        )?)
    });
    d.strict("like_escape(text, text) text", |_, args| {
        let escape = escape_character(text(args, 1)?)?;
        text_datum(like_escape(text(args, 0)?, escape))
    });
}

/// One character or none.
fn escape_character(text: &str) -> Result<Option<char>> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (first, None) => Ok(first),
        _ => Err(
            Error::new(SqlState::INVALID_ESCAPE_SEQUENCE, "invalid escape string")
                .hint("Escape string must be empty or one character."),
        ),
    }
}

/// A LIKE pattern with another escape character, rewritten to the backslash.
fn like_escape(pattern: &str, escape: Option<char>) -> String {
    let mut out = String::new();
    let mut escaped = false;
    for c in pattern.chars() {
        if Some(c) == escape && !escaped {
            out.push('\\');
            escaped = true;
        } else {
            if c == '\\' && escape != Some('\\') && !escaped {
                out.push('\\');
            }
            out.push(c);
            escaped = false;
        }
    }
    out
}

/// A SIMILAR TO pattern as a regular expression.
fn similar_to(pattern: &str, escape: Option<char>) -> Result<String> {
    let mut out = String::from("^(?:");
    let mut in_class = false;
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        if Some(c) == escape {
            match characters.next() {
                Some('"') => return Err(Error::unsupported("parts of SIMILAR patterns")),
                Some(next) if next.is_alphanumeric() => out.push(next),
                Some(next) => out.extend(['\\', next]),
                None => {
                    return Err(Error::new(
                        SqlState::INVALID_ESCAPE_SEQUENCE,
                        "invalid escape sequence",
                    ));
                }
            }
            continue;
        }
        match c {
            _ if in_class => {
                if c == '\\' {
                    out.push('\\');
                }
                out.push(c);
                in_class = c != ']';
            }
            '[' => {
                in_class = true;
                out.push('[');
            }
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '(' => out.push_str("(?:"),
            '\\' | '.' | '^' | '$' => out.extend(['\\', c]),
            other => out.push(other),
        }
    }
    out.push_str(")$");
    Ok(out)
}
