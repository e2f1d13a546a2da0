//! Reading the text forms of single types, with PostgreSQL's errors.

use crate::numeric::is_sql_space;
use crate::{Error, Result, SqlState};

/// 22P02 `invalid input syntax for type integer: "x"`.
pub(crate) fn invalid_syntax(type_name: &str, text: &str) -> Error {
    Error::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

pub(super) fn out_of_range(type_name: &str, text: &str) -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("value \"{text}\" is out of range for type {type_name}"),
    )
}

/// Why an integer's text was refused.
enum IntegerRefusal {
    Syntax,
    Range,
}

fn parse_integer(text: &str) -> Result<i64, IntegerRefusal> {
    let trimmed = text.trim_matches(is_sql_space).as_bytes();
    let (negative, digits) = match trimmed {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(IntegerRefusal::Syntax);
    }
    // Negative numbers reach one further: build them downwards.
    let mut value = 0i64;
    for digit in digits {
        let d = i64::from(digit - b'0');
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_sub(d))
            .ok_or(IntegerRefusal::Range)?;
    }
    if negative {
        Ok(value)
    } else {
        value.checked_neg().ok_or(IntegerRefusal::Range)
    }
}

pub(super) fn read_integer<T: TryFrom<i64>>(text: &str, type_name: &str) -> Result<T> {
    match parse_integer(text) {
        Ok(wide) => T::try_from(wide).map_err(|_| out_of_range(type_name, text)),
        Err(IntegerRefusal::Range) => Err(out_of_range(type_name, text)),
        Err(IntegerRefusal::Syntax) => Err(invalid_syntax(type_name, text)),
    }
}

pub(super) fn read_oid(text: &str) -> Result<u32> {
    match parse_integer(text) {
        // Negative numbers wrap, as C's `strtoul` has them.
        Ok(wide) if wide >= i64::from(i32::MIN) && wide <= i64::from(u32::MAX) => Ok(wide as u32),
        Ok(_) | Err(IntegerRefusal::Range) => Err(out_of_range("oid", text)),
        Err(IntegerRefusal::Syntax) => Err(invalid_syntax("oid", text)),
    }
}

pub(super) fn read_bool(text: &str) -> Result<bool> {
    let lower = text.trim_matches(is_sql_space).to_ascii_lowercase();
    // Any unambiguous prefix of the words will do.
    let starts = |word: &str| !lower.is_empty() && word.starts_with(&lower);
    if starts("true") || starts("yes") || lower == "on" || lower == "1" {
        Ok(true)
    } else if starts("false") || starts("no") || lower == "off" || lower == "of" || lower == "0" {
        Ok(false)
    } else {
        Err(invalid_syntax("boolean", text))
    }
}

/// A float's special words, in any case; `None` leaves it to the number parser.
fn float_word(trimmed: &str) -> Option<f64> {
    let (negative, body) = match trimmed.as_bytes().first()? {
        b'-' => (true, &trimmed[1..]),
        b'+' => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    if body.eq_ignore_ascii_case("infinity") || body.eq_ignore_ascii_case("inf") {
        return Some(if negative {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        });
    }
    trimmed.eq_ignore_ascii_case("nan").then_some(f64::NAN)
}

/// The syntax that `strtod` takes, less hexadecimals.
fn is_float_syntax(trimmed: &str) -> bool {
    trimmed
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'))
        && trimmed.bytes().any(|b| b.is_ascii_digit())
}

fn float_overflow(type_name: &str, text: &str) -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("\"{text}\" is out of range for type {type_name}"),
    )
}

fn has_nonzero_digit(trimmed: &str) -> bool {
    trimmed
        .split(['e', 'E'])
        .next()
        .is_some_and(|mantissa| mantissa.bytes().any(|b| (b'1'..=b'9').contains(&b)))
}

pub(super) fn read_f64(text: &str) -> Result<f64> {
    const NAME: &str = "double precision";
    let trimmed = text.trim_matches(is_sql_space);
    if let Some(word) = float_word(trimmed) {
        return Ok(word);
    }
    if !is_float_syntax(trimmed) {
        return Err(invalid_syntax(NAME, text));
    }
    let value: f64 = trimmed.parse().map_err(|_| invalid_syntax(NAME, text))?;
    if value.is_infinite() || (value == 0.0 && has_nonzero_digit(trimmed)) {
        return Err(float_overflow(NAME, trimmed));
    }
    Ok(value)
}

pub(super) fn read_f32(text: &str) -> Result<f32> {
    const NAME: &str = "real";
    let trimmed = text.trim_matches(is_sql_space);
    if let Some(word) = float_word(trimmed) {
        return Ok(word as f32);
    }
    if !is_float_syntax(trimmed) {
        return Err(invalid_syntax(NAME, text));
    }
    let value: f32 = trimmed.parse().map_err(|_| invalid_syntax(NAME, text))?;
    if value.is_infinite() || (value == 0.0 && has_nonzero_digit(trimmed)) {
        return Err(float_overflow(NAME, trimmed));
    }
    Ok(value)
}

pub(super) fn read_uuid(text: &str) -> Result<[u8; 16]> {
    let refuse = || invalid_syntax("uuid", text);
    let body = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(refuse)?,
        None => text,
    };
    let mut out = [0u8; 16];
    let mut nibbles = 0;
    let bytes = body.as_bytes();
    for (i, &byte) in bytes.iter().enumerate() {
        if byte == b'-' {
            // A hyphen may follow any group of four digits, but not end the text.
            let misplaced = nibbles == 0 || nibbles % 4 != 0 || i + 1 == bytes.len();
            if misplaced || bytes[i - 1] == b'-' {
                return Err(refuse());
            }
            continue;
        }
        let nibble = char::from(byte).to_digit(16).ok_or_else(refuse)? as u8;
        if nibbles == 32 {
            return Err(refuse());
        }
        out[nibbles / 2] = (out[nibbles / 2] << 4) | nibble;
        nibbles += 1;
    }
    if nibbles != 32 {
        return Err(refuse());
    }
    Ok(out)
}

/// Reads both input forms of `bytea`: `\x` and hex digits, or octal escapes.
pub fn read_bytea(text: &str) -> Result<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        return read_hex(hex);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] != b'\\' {
            out.push(bytes[i]);
            i += 1;
            continue;
        }
        match &bytes[i + 1..] {
            [b'\\', ..] => {
                out.push(b'\\');
                i += 2;
            }
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                out.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                i += 4;
            }
            _ => {
                return Err(Error::new(
                    SqlState::INVALID_TEXT_REPRESENTATION,
                    "invalid input syntax for type bytea",
                ));
            }
        }
    }
    Ok(out)
}

fn read_hex(hex: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(hex.len() / 2);
    let mut chars = hex.chars().filter(|c| !is_sql_space(*c));
    let digit = |c: char| {
        c.to_digit(16).ok_or_else(|| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("invalid hexadecimal digit: \"{c}\""),
            )
        })
    };
    while let Some(high) = chars.next() {
        let high = digit(high)?;
        let low = chars.next().ok_or_else(|| {
            Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "invalid hexadecimal data: odd number of digits",
            )
        })?;
        out.push((high * 16 + digit(low)?) as u8);
    }
    Ok(out)
}
