//! Functions of text.

use super::define::*;
use super::{Registry, Volatility};
use types::{Datum, Error, Result, SqlState};

/// Characters that `trim` removes when none are named.
const BLANK: &str = " ";

pub(super) fn register(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Immutable);
    lengths(&mut d);
    cases(&mut d);
    parts(&mut d);
    trims(&mut d);
    changes(&mut d);
    codes(&mut d);
}

fn count(n: usize) -> Result<Datum> {
    Ok(Datum::Int4(n as i32))
}

fn lengths(d: &mut Definitions<'_>) {
    for name in [
        "length(text) int4",
        "char_length(text) int4",
        "character_length(text) int4",
    ] {
        d.strict(name, |_, args| count(text(args, 0)?.chars().count()));
    }
    // Trailing blanks of char(n) do not count.
    for name in [
        "length(bpchar) int4",
        "char_length(bpchar) int4",
        "character_length(bpchar) int4",
    ] {
        d.strict(name, |_, args| {
            count(text(args, 0)?.trim_end_matches(' ').chars().count())
        });
    }
    d.strict("octet_length(text) int4", |_, args| {
        count(text(args, 0)?.len())
    });
    d.strict("octet_length(bpchar) int4", |_, args| {
        count(text(args, 0)?.len())
    });
    d.strict("bit_length(text) int4", |_, args| {
        count(text(args, 0)?.len() * 8)
    });
}

fn cases(d: &mut Definitions<'_>) {
    d.strict("lower(text) text", |_, args| {
        text_datum(map_case(text(args, 0)?, false))
    });
    d.strict("upper(text) text", |_, args| {
        text_datum(map_case(text(args, 0)?, true))
    });
    d.strict("initcap(text) text", |_, args| {
        let mut inside = false;
        let mut out = String::new();
        for c in text(args, 0)?.chars() {
            out.push(one_case(c, !inside));
            inside = c.is_alphanumeric();
        }
        text_datum(out)
    });
    d.strict("casefold(text) text", |_, args| {
        text_datum(text(args, 0)?.to_lowercase())
    });
}

/// Simple case mapping, one character for one, as C libraries do it.
fn one_case(c: char, upper: bool) -> char {
    fn single(mut mapped: impl Iterator<Item = char>, c: char) -> char {
        match (mapped.next(), mapped.next()) {
            (Some(one), None) => one,
            _ => c,
        }
    }
    if upper {
        single(c.to_uppercase(), c)
    } else {
        single(c.to_lowercase(), c)
    }
}

fn map_case(text: &str, upper: bool) -> String {
    match (text.is_ascii(), upper) {
        (true, true) => text.to_ascii_uppercase(),
        (true, false) => text.to_ascii_lowercase(),
        (false, _) => text.chars().map(|c| one_case(c, upper)).collect(),
    }
}

/// Characters `start..` (one-based, may be before the text), at most `length` of them.
pub(super) fn substring(text: &str, start: i32, length: Option<i32>) -> Result<&str> {
    let start = i64::from(start);
    let end = match length {
        Some(length) if length < 0 => {
            return Err(Error::new(
                SqlState::SUBSTRING_ERROR,
                "negative substring length not allowed",
            ));
        }
        Some(length) => start + i64::from(length),
        None => i64::MAX,
    };
    let from = start.max(1);
    let taken = usize::try_from(end.saturating_sub(from)).unwrap_or(0);
    let skipped = usize::try_from(from - 1).unwrap_or(0);
    if text.is_ascii() {
        let from = skipped.min(text.len());
        return Ok(&text[from..from.saturating_add(taken).min(text.len())]);
    }
    let rest = skip_characters(text, skipped);
    Ok(&rest[..rest.len() - skip_characters(rest, taken).len()])
}

fn skip_characters(text: &str, n: usize) -> &str {
    text.char_indices().nth(n).map_or("", |(at, _)| &text[at..])
}

/// How many characters a signed count keeps: a negative one counts from the other end.
fn kept(text: &str, n: i32) -> usize {
    match usize::try_from(n) {
        Ok(n) => n,
        Err(_) => text
            .chars()
            .count()
            .saturating_sub(n.unsigned_abs() as usize),
    }
}

fn position(text: &str, part: &str) -> Result<Datum> {
    count(
        text.find(part)
            .map_or(0, |at| text[..at].chars().count() + 1),
    )
}

fn parts(d: &mut Definitions<'_>) {
    for name in ["substr(text, int4) text", "substring(text, int4) text"] {
        d.vectorised(
            name,
            |_, args| text_datum(substring(text(args, 0)?, int4(args, 1)?, None)?),
            super::kernels::substring_of_text,
        );
    }
    for name in [
        "substr(text, int4, int4) text",
        "substring(text, int4, int4) text",
    ] {
        d.vectorised(
            name,
            |_, args| {
                let length = Some(int4(args, 2)?);
                text_datum(substring(text(args, 0)?, int4(args, 1)?, length)?)
            },
            super::kernels::substring_of_text,
        );
    }
    d.strict("left(text, int4) text", |_, args| {
        let text = text(args, 0)?;
        let rest = skip_characters(text, kept(text, int4(args, 1)?));
        text_datum(&text[..text.len() - rest.len()])
    });
    d.strict("right(text, int4) text", |_, args| {
        let text = text(args, 0)?;
        let skipped = text
            .chars()
            .count()
            .saturating_sub(kept(text, int4(args, 1)?));
        text_datum(skip_characters(text, skipped))
    });
    // `position(part IN text)` calls it with the text first.
    for name in ["strpos(text, text) int4", "position(text, text) int4"] {
        d.strict(name, |_, args| position(text(args, 0)?, text(args, 1)?));
    }
    d.strict("starts_with(text, text) bool", |_, args| {
        Ok(Datum::Bool(text(args, 0)?.starts_with(text(args, 1)?)))
    });
    d.strict("split_part(text, text, int4) text", |_, args| {
        split_part(text(args, 0)?, text(args, 1)?, int4(args, 2)?)
    });
    d.strict("overlay(text, text, int4) text", |_, args| {
        let length = text(args, 1)?.chars().count() as i32;
        overlay(text(args, 0)?, text(args, 1)?, int4(args, 2)?, length)
    });
    d.strict("overlay(text, text, int4, int4) text", |_, args| {
        overlay(
            text(args, 0)?,
            text(args, 1)?,
            int4(args, 2)?,
            int4(args, 3)?,
        )
    });
}

fn split_part(text: &str, delimiter: &str, field: i32) -> Result<Datum> {
    if field == 0 {
        return Err(invalid("field position must not be zero"));
    }
    if text.is_empty() {
        return text_datum("");
    }
    if delimiter.is_empty() {
        return text_datum(if field == 1 || field == -1 { text } else { "" });
    }
    let n = field.unsigned_abs() as usize - 1;
    let part = if field > 0 {
        text.split(delimiter).nth(n)
    } else {
        text.rsplit(delimiter).nth(n)
    };
    text_datum(part.unwrap_or(""))
}

fn overlay(text: &str, new: &str, start: i32, length: i32) -> Result<Datum> {
    if start <= 0 {
        return Err(Error::new(
            SqlState::SUBSTRING_ERROR,
            "negative substring length not allowed",
        ));
    }
    let end = start
        .checked_add(length)
        .ok_or_else(super::arithmetic::integer_out_of_range)?;
    let head = substring(text, 1, Some(start - 1))?;
    let tail = substring(text, end, None)?;
    text_datum(format!("{head}{new}{tail}"))
}

fn trims(d: &mut Definitions<'_>) {
    fn left<'a>(text: &'a str, set: &str) -> &'a str {
        text.trim_start_matches(|c| set.contains(c))
    }
    fn right<'a>(text: &'a str, set: &str) -> &'a str {
        text.trim_end_matches(|c| set.contains(c))
    }
    d.strict("ltrim(text) text", |_, args| {
        text_datum(left(text(args, 0)?, BLANK))
    });
    d.strict("rtrim(text) text", |_, args| {
        text_datum(right(text(args, 0)?, BLANK))
    });
    d.strict("btrim(text) text", |_, args| {
        text_datum(left(right(text(args, 0)?, BLANK), BLANK))
    });
    d.strict("ltrim(text, text) text", |_, args| {
        text_datum(left(text(args, 0)?, text(args, 1)?))
    });
    d.strict("rtrim(text, text) text", |_, args| {
        text_datum(right(text(args, 0)?, text(args, 1)?))
    });
    d.strict("btrim(text, text) text", |_, args| {
        let set = text(args, 1)?;
        text_datum(left(right(text(args, 0)?, set), set))
    });
    for name in ["lpad(text, int4) text", "rpad(text, int4) text"] {
        if name.starts_with('l') {
            d.strict(name, |_, args| {
                pad(text(args, 0)?, int4(args, 1)?, BLANK, true)
            });
        } else {
            d.strict(name, |_, args| {
                pad(text(args, 0)?, int4(args, 1)?, BLANK, false)
            });
        }
    }
    d.strict("lpad(text, int4, text) text", |_, args| {
        pad(text(args, 0)?, int4(args, 1)?, text(args, 2)?, true)
    });
    d.strict("rpad(text, int4, text) text", |_, args| {
        pad(text(args, 0)?, int4(args, 1)?, text(args, 2)?, false)
    });
}

/// Fills or cuts to `length` characters.
fn pad(text: &str, length: i32, fill: &str, left: bool) -> Result<Datum> {
    let length = usize::try_from(length).unwrap_or(0);
    check_length(length)?;
    let own = text.chars().count();
    if own >= length {
        return text_datum(substring(text, 1, Some(length as i32))?);
    }
    let added: String = fill.chars().cycle().take(length - own).collect();
    check_length(added.len() + text.len())?;
    text_datum(if left {
        added + text
    } else {
        text.to_string() + &added
    })
}

fn changes(d: &mut Definitions<'_>) {
    d.strict("replace(text, text, text) text", |_, args| {
        let from = text(args, 1)?;
        if from.is_empty() {
            return Ok(args[0].clone());
        }
        text_datum(text(args, 0)?.replace(from, text(args, 2)?))
    });
    d.strict("translate(text, text, text) text", |_, args| {
        let to: Vec<char> = text(args, 2)?.chars().collect();
        let from: Vec<char> = text(args, 1)?.chars().collect();
        let mapped =
            text(args, 0)?
                .chars()
                .filter_map(|c| match from.iter().position(|f| *f == c) {
                    Some(at) => to.get(at).copied(),
                    None => Some(c),
                });
        text_datum(mapped.collect::<String>())
    });
    d.strict("reverse(text) text", |_, args| {
        text_datum(text(args, 0)?.chars().rev().collect::<String>())
    });
    d.strict("repeat(text, int4) text", |_, args| {
        let text = text(args, 0)?;
        let times = usize::try_from(int4(args, 1)?).unwrap_or(0);
        check_length(text.len().saturating_mul(times))?;
        text_datum(text.repeat(times))
    });
}

fn codes(d: &mut Definitions<'_>) {
    d.strict("ascii(text) int4", |_, args| {
        Ok(Datum::Int4(
            text(args, 0)?.chars().next().map_or(0, |c| c as i32),
        ))
    });
    d.strict("chr(int4) text", |_, args| {
        let code = int4(args, 0)?;
        let limit = |message: String| Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message);
        match u32::try_from(code) {
            Err(_) => Err(invalid("character number must be positive")),
            Ok(0) => Err(limit("null character not permitted".into())),
            Ok(code) if code > 0x10_ffff => Err(limit(format!(
                "requested character too large for encoding: {code}"
            ))),
            Ok(code) => match char::from_u32(code) {
                Some(c) => text_datum(c.to_string()),
                None => Err(limit(format!(
                    "requested character not valid for encoding: {code}"
                ))),
            },
        }
    });
    d.strict("to_hex(int4) text", |_, args| {
        text_datum(format!("{:x}", int4(args, 0)?))
    });
    d.strict("to_hex(int8) text", |_, args| {
        text_datum(format!("{:x}", int8(args, 0)?))
    });
    d.strict("to_oct(int4) text", |_, args| {
        text_datum(format!("{:o}", int4(args, 0)?))
    });
    d.strict("to_oct(int8) text", |_, args| {
        text_datum(format!("{:o}", int8(args, 0)?))
    });
    d.strict("to_bin(int4) text", |_, args| {
        text_datum(format!("{:b}", int4(args, 0)?))
    });
    d.strict("to_bin(int8) text", |_, args| {
        text_datum(format!("{:b}", int8(args, 0)?))
    });
    d.strict("unistr(text) text", |_, args| {
        text_datum(unistr(text(args, 0)?)?)
    });
}

/// Reads `\XXXX`, `\+XXXXXX`, `\uXXXX` and `\UXXXXXXXX`.
fn unistr(text: &str) -> Result<String> {
    let refuse = || Error::syntax("invalid Unicode escape");
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let (prefix, digits) = match escape.as_bytes().first() {
            Some(b'\\') => {
                out.push('\\');
                rest = &escape[1..];
                continue;
            }
            Some(b'+') => (1, 6),
            Some(b'u') => (1, 4),
            Some(b'U') => (1, 8),
            _ => (0, 4),
        };
        let number = escape.get(prefix..prefix + digits).ok_or_else(refuse)?;
        if !number.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        let code = u32::from_str_radix(number, 16).map_err(|_| refuse())?;
        out.push(
            char::from_u32(code)
                .ok_or_else(|| invalid(format!("invalid Unicode code point: {code:04X}")))?,
        );
        rest = &escape[prefix + digits..];
    }
    out.push_str(rest);
    Ok(out)
}
