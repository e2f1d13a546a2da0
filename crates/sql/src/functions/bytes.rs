//! Functions of `bytea`, encodings and digests.

use super::define::*;
use super::{Registry, Volatility};
use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose::STANDARD};
use sha2::Digest;
use types::{Datum, Error, Result, SqlState};

/// Characters of a line of `encode(…, 'base64')`.
const BASE64_LINE: usize = 76;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

pub(super) fn register(registry: &mut Registry) {
    let mut d = Definitions::new(registry, Volatility::Immutable);
    digests(&mut d);
    encodings(&mut d);
    lengths_and_parts(&mut d);
    single_bytes(&mut d);
    d.strict("bit_count(bytea) int8", |_, args| {
        let ones = |b: &u8| i64::from(b.count_ones());
        Ok(Datum::Int8(bytea(args, 0)?.iter().map(ones).sum()))
    });
}

fn bytes_datum(bytes: impl Into<bytes::Bytes>) -> Result<Datum> {
    Ok(Datum::Bytea(bytes.into()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

fn digests(d: &mut Definitions<'_>) {
    d.strict("md5(text) text", |_, args| {
        text_datum(hex(&md5::Md5::digest(text(args, 0)?.as_bytes())))
    });
    d.strict("md5(bytea) text", |_, args| {
        text_datum(hex(&md5::Md5::digest(bytea(args, 0)?)))
    });
    d.strict("sha224(bytea) bytea", |_, args| {
        bytes_datum(sha2::Sha224::digest(bytea(args, 0)?).to_vec())
    });
    d.strict("sha256(bytea) bytea", |_, args| {
        bytes_datum(sha2::Sha256::digest(bytea(args, 0)?).to_vec())
    });
    d.strict("sha384(bytea) bytea", |_, args| {
        bytes_datum(sha2::Sha384::digest(bytea(args, 0)?).to_vec())
    });
    d.strict("sha512(bytea) bytea", |_, args| {
        bytes_datum(sha2::Sha512::digest(bytea(args, 0)?).to_vec())
    });
}

fn encodings(d: &mut Definitions<'_>) {
    d.strict("encode(bytea, text) text", |_, args| {
        text_datum(encode(&bytea(args, 0)?, text(args, 1)?)?)
    });
    d.strict("decode(text, text) bytea", |_, args| {
        bytes_datum(decode(text(args, 0)?, text(args, 1)?)?)
    });
    d.strict("convert_from(bytea, name) text", |_, args| {
        utf8_only(text(args, 1)?)?;
        text_datum(utf8(&bytea(args, 0)?)?)
    });
    d.strict("convert_to(text, name) bytea", |_, args| {
        utf8_only(text(args, 1)?)?;
        bytes_datum(text(args, 0)?.as_bytes().to_vec())
    });
}

fn utf8_only(encoding: &str) -> Result<()> {
    let plain: String = encoding
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect();
    if matches!(plain.to_ascii_lowercase().as_str(), "utf8" | "unicode") {
        Ok(())
    } else {
        Err(Error::unsupported(format!("encoding \"{encoding}\"")))
    }
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
        .ok_or_else(|| {
            let at = std::str::from_utf8(bytes)
                .map_or_else(|e| e.valid_up_to(), |t| t.find('\0').unwrap_or(0));
            let shown: Vec<String> = bytes[at..]
                .iter()
                .take(1)
                .map(|b| format!("0x{b:02x}"))
                .collect();
            Error::new(
                SqlState::CHARACTER_NOT_IN_REPERTOIRE,
                format!(
                    "invalid byte sequence for encoding \"UTF8\": {}",
                    shown.join(" ")
                ),
            )
        })
}

fn unknown_encoding(format: &str) -> Error {
    invalid(format!("unrecognized encoding: \"{format}\""))
}

fn encode(bytes: &[u8], format: &str) -> Result<String> {
    match format.to_ascii_lowercase().as_str() {
        "hex" => Ok(hex(bytes)),
        "base64" => {
            let plain = STANDARD.encode(bytes);
            let mut out = String::with_capacity(plain.len() + plain.len() / BASE64_LINE);
            for (i, c) in plain.chars().enumerate() {
                if i > 0 && i % BASE64_LINE == 0 {
                    out.push('\n');
                }
                out.push(c);
            }
            Ok(out)
        }
        "escape" => {
            let mut out = String::new();
            for byte in bytes {
                match byte {
                    b'\\' => out.push_str("\\\\"),
                    0 | 0x80.. => out.push_str(&format!("\\{byte:03o}")),
                    _ => out.push(char::from(*byte)),
                }
            }
            Ok(out)
        }
        _ => Err(unknown_encoding(format)),
    }
}

fn decode(text: &str, format: &str) -> Result<Vec<u8>> {
    match format.to_ascii_lowercase().as_str() {
        "hex" => types::text::read_bytea(&format!("\\x{text}")),
        "base64" => {
            let plain: Vec<u8> = text
                .bytes()
                .filter(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
                .collect();
            LENIENT.decode(&plain).map_err(|error| match error {
                base64::DecodeError::InvalidByte(at, _) => {
                    let odd = text
                        .chars()
                        .filter(|c| !matches!(c, ' ' | '\t' | '\n' | '\r'))
                        .nth(at)
                        .unwrap_or('=');
                    if odd == '=' {
                        invalid("unexpected \"=\" while decoding base64 sequence")
                    } else {
                        invalid(format!(
                            "invalid symbol \"{odd}\" found while decoding base64 sequence"
                        ))
                    }
                }
                _ => invalid("invalid base64 end sequence").hint(
                    "Input data is missing padding, is truncated, or is otherwise corrupted.",
                ),
            })
        }
        "escape" => {
            // The same reading as of a bytea literal, where a leading `\x` has no meaning.
            if text.starts_with("\\x") {
                return Err(Error::new(
                    SqlState::INVALID_TEXT_REPRESENTATION,
                    "invalid input syntax for type bytea",
                ));
            }
            types::text::read_bytea(text)
        }
        _ => Err(unknown_encoding(format)),
    }
}

fn lengths_and_parts(d: &mut Definitions<'_>) {
    for name in ["length(bytea) int4", "octet_length(bytea) int4"] {
        d.strict(name, |_, args| {
            Ok(Datum::Int4(bytea(args, 0)?.len() as i32))
        });
    }
    d.strict("bit_length(bytea) int4", |_, args| {
        Ok(Datum::Int4(bytea(args, 0)?.len() as i32 * 8))
    });
    d.strict("length(bytea, name) int4", |_, args| {
        utf8_only(text(args, 1)?)?;
        Ok(Datum::Int4(utf8(&bytea(args, 0)?)?.chars().count() as i32))
    });
    for name in ["substr(bytea, int4) bytea", "substring(bytea, int4) bytea"] {
        d.strict(name, |_, args| {
            slice(&bytea(args, 0)?, int4(args, 1)?, None)
        });
    }
    for name in [
        "substr(bytea, int4, int4) bytea",
        "substring(bytea, int4, int4) bytea",
    ] {
        d.strict(name, |_, args| {
            slice(&bytea(args, 0)?, int4(args, 1)?, Some(int4(args, 2)?))
        });
    }
    for name in ["position(bytea, bytea) int4", "strpos(bytea, bytea) int4"] {
        d.strict(name, |_, args| {
            let (whole, part) = (bytea(args, 0)?, bytea(args, 1)?);
            let at = match part.len() {
                0 => 1,
                n => whole
                    .windows(n)
                    .position(|w| w == part)
                    .map_or(0, |at| at + 1),
            };
            Ok(Datum::Int4(at as i32))
        });
    }
    d.strict("reverse(bytea) bytea", |_, args| {
        bytes_datum(bytea(args, 0)?.iter().rev().copied().collect::<Vec<u8>>())
    });
    d.strict("btrim(bytea, bytea) bytea", |_, args| {
        let (bytes, set) = (bytea(args, 0)?, bytea(args, 1)?);
        let start = bytes.iter().take_while(|b| set.contains(b)).count();
        let end = bytes[start..]
            .iter()
            .rev()
            .take_while(|b| set.contains(b))
            .count();
        bytes_datum(bytes.slice(start..bytes.len() - end))
    });
}

fn slice(bytes: &bytes::Bytes, start: i32, length: Option<i32>) -> Result<Datum> {
    let start = i64::from(start);
    let end = match length {
        Some(n) if n < 0 => {
            return Err(Error::new(
                SqlState::SUBSTRING_ERROR,
                "negative substring length not allowed",
            ));
        }
        Some(n) => start + i64::from(n),
        None => i64::MAX,
    };
    let len = bytes.len() as i64;
    let from = (start.max(1) - 1).min(len);
    let to = (end.max(1) - 1).clamp(from, len);
    bytes_datum(bytes.slice(from as usize..to as usize))
}

fn index_error(index: i64, len: i64) -> Error {
    Error::new(
        SqlState::ARRAY_SUBSCRIPT_ERROR,
        format!("index {index} out of valid range, 0..{}", len - 1),
    )
}

fn place(index: i64, len: usize) -> Result<usize> {
    usize::try_from(index)
        .ok()
        .filter(|i| *i < len)
        .ok_or_else(|| index_error(index, len as i64))
}

fn single_bytes(d: &mut Definitions<'_>) {
    d.strict("get_byte(bytea, int4) int4", |_, args| {
        let bytes = bytea(args, 0)?;
        let at = place(int4(args, 1)?.into(), bytes.len())?;
        Ok(Datum::Int4(bytes[at].into()))
    });
    d.strict("set_byte(bytea, int4, int4) bytea", |_, args| {
        let mut bytes = bytea(args, 0)?.to_vec();
        let at = place(int4(args, 1)?.into(), bytes.len())?;
        bytes[at] = int4(args, 2)? as u8;
        bytes_datum(bytes)
    });
    d.strict("get_bit(bytea, int8) int4", |_, args| {
        let bytes = bytea(args, 0)?;
        let at = place(int8(args, 1)?, bytes.len() * 8)?;
        Ok(Datum::Int4((bytes[at / 8] >> (at % 8) & 1).into()))
    });
    d.strict("set_bit(bytea, int8, int4) bytea", |_, args| {
        let mut bytes = bytea(args, 0)?.to_vec();
        let at = place(int8(args, 1)?, bytes.len() * 8)?;
        let mask = 1u8 << (at % 8);
        match int4(args, 2)? {
            0 => bytes[at / 8] &= !mask,
            1 => bytes[at / 8] |= mask,
            _ => return Err(invalid("new bit must be 0 or 1")),
        }
        bytes_datum(bytes)
    });
}
