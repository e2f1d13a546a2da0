//! Writing the text forms of single types.

const HEX: &[u8; 16] = b"0123456789abcdef";

pub(super) fn write_bytea_hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(2 + bytes.len() * 2);
    out.extend_from_slice(b"\\x");
    for byte in bytes {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

pub(super) fn write_bytea_escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x20..=0x7e => out.push(byte),
            _ => out.extend_from_slice(&[
                b'\\',
                b'0' + (byte >> 6),
                b'0' + (byte >> 3 & 7),
                b'0' + (byte & 7),
            ]),
        }
    }
}

pub(crate) fn write_uuid(bytes: &[u8; 16], out: &mut Vec<u8>) {
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

/// Decimal exponents from which on PostgreSQL writes `1e+15` and below which `1e-05`.
const PLAIN_EXPONENTS: std::ops::Range<i32> = -4..15;
const PLAIN_EXPONENTS_F32: std::ops::Range<i32> = -4..6;

/// Appends a float as PostgreSQL prints it: the shortest digits that read back the same.
pub fn write_f64(value: f64, out: &mut Vec<u8>) {
    if !value.is_finite() {
        return write_non_finite(value, out);
    }
    write_shortest(
        ryu::Buffer::new().format_finite(value),
        PLAIN_EXPONENTS,
        out,
    );
}

pub fn write_f32(value: f32, out: &mut Vec<u8>) {
    if !value.is_finite() {
        return write_non_finite(f64::from(value), out);
    }
    write_shortest(
        ryu::Buffer::new().format_finite(value),
        PLAIN_EXPONENTS_F32,
        out,
    );
}

fn write_non_finite(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(if value.is_nan() {
        b"NaN"
    } else if value > 0.0 {
        b"Infinity"
    } else {
        b"-Infinity"
    });
}

/// Turns the shortest digits in any layout (`1.5`, `1e20`, `1.5e-7`) into PostgreSQL's layout.
fn write_shortest(shortest: &str, plain: std::ops::Range<i32>, out: &mut Vec<u8>) {
    let unsigned = match shortest.strip_prefix('-') {
        Some(rest) => {
            out.push(b'-');
            rest
        }
        None => shortest,
    };
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // Shortest doubles have 17 digits; the plain layouts add zeros that are not digits.
    let mut digits = [0u8; 40];
    let mut len = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if len < digits.len() {
            digits[len] = byte;
            len += 1;
        }
    }
    let leading = digits[..len].iter().take_while(|d| **d == b'0').count();
    if leading == len {
        return out.push(b'0');
    }
    let end = len
        - digits[..len]
            .iter()
            .rev()
            .take_while(|d| **d == b'0')
            .count();
    let significant = &digits[leading..end];
    let exponent = exponent.parse::<i32>().unwrap_or(0) + whole.len() as i32 - 1 - leading as i32;
    if !plain.contains(&exponent) {
        out.push(significant[0]);
        if significant.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&significant[1..]);
        }
        out.push(b'e');
        out.push(if exponent < 0 { b'-' } else { b'+' });
        let magnitude = exponent.unsigned_abs();
        if magnitude < 10 {
            out.push(b'0');
        }
        out.extend_from_slice(itoa::Buffer::new().format(magnitude).as_bytes());
    } else if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (-exponent - 1) as usize, b'0');
        out.extend_from_slice(significant);
    } else {
        let point = exponent as usize + 1;
        if significant.len() <= point {
            out.extend_from_slice(significant);
            out.resize(out.len() + point - significant.len(), b'0');
        } else {
            out.extend_from_slice(&significant[..point]);
            out.push(b'.');
            out.extend_from_slice(&significant[point..]);
        }
    }
}
