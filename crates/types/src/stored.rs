//! Pieces of the stored forms: lengths, slices, numerics. Malformed bytes are XX001, never a panic.

use crate::numeric::Numeric;
use crate::{Error, Result};
use num_bigint::BigInt;

const NUMERIC_NAN: u8 = 0;
const NUMERIC_INFINITY: u8 = 1;
const NUMERIC_NEG_INFINITY: u8 = 2;
const NUMERIC_FINITE: u8 = 3;

fn truncated() -> Error {
    Error::corrupt("stored value ends too early")
}

/// Takes `len` bytes off the front.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(len).ok_or_else(truncated)?;
    *bytes = tail;
    Ok(head)
}

/// Takes `N` bytes off the front as an array.
pub(crate) fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk::<N>().ok_or_else(truncated)?;
    *bytes = tail;
    Ok(*head)
}

/// Little-endian base 128, seven bits a byte.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn take_varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Error::corrupt("stored length is too long"))
}

/// A kind byte, the scale, and the mantissa in the fewest two's complement bytes.
pub(crate) fn encode_numeric(value: &Numeric, out: &mut Vec<u8>) {
    if let Some((m, scale)) = value.to_i128_parts() {
        out.push(NUMERIC_FINITE);
        out.extend_from_slice(&scale.to_le_bytes());
        let bytes = m.to_le_bytes();
        // Leave out the bytes that only repeat the sign.
        let sign_bits = if m < 0 {
            m.leading_ones()
        } else {
            m.leading_zeros()
        };
        let needed = 16 - ((sign_bits as usize).saturating_sub(1)) / 8;
        out.extend_from_slice(&bytes[..needed.max(1)]);
    } else if let Some((m, scale)) = value.to_bigint_parts() {
        out.push(NUMERIC_FINITE);
        out.extend_from_slice(&scale.to_le_bytes());
        out.extend_from_slice(&m.to_signed_bytes_le());
    } else if value.is_nan() {
        out.push(NUMERIC_NAN);
    } else if value.signum() > 0 {
        out.push(NUMERIC_INFINITY);
    } else {
        out.push(NUMERIC_NEG_INFINITY);
    }
}

pub(crate) fn decode_numeric(mut bytes: &[u8]) -> Result<Numeric> {
    Ok(match take(&mut bytes, 1)?[0] {
        NUMERIC_NAN => Numeric::NAN,
        NUMERIC_INFINITY => Numeric::INFINITY,
        NUMERIC_NEG_INFINITY => Numeric::NEG_INFINITY,
        NUMERIC_FINITE => {
            let scale = u16::from_le_bytes(take_array(&mut bytes)?);
            if i32::from(scale) > crate::numeric::MAX_SCALE {
                return Err(Error::corrupt("stored numeric has too large a scale"));
            }
            if bytes.len() <= 16 {
                let negative = bytes.last().is_some_and(|b| *b >= 0x80);
                let mut wide = [if negative { 0xff } else { 0 }; 16];
                wide[..bytes.len()].copy_from_slice(bytes);
                Numeric::from_i128(i128::from_le_bytes(wide), scale)
            } else {
                Numeric::from_bigint(BigInt::from_signed_bytes_le(bytes), scale)
            }
        }
        _ => return Err(Error::corrupt("stored numeric has an unknown kind")),
    })
}
