//! Reading and writing numerics.

use super::*;

impl Numeric {
    /// Parses PostgreSQL's input syntax. `None` if malformed or too wide.
    pub fn parse(text: &str) -> Option<Self> {
        Numeric::parse_sql(text).ok()
    }

    /// Parses PostgreSQL's input syntax with its errors: 22P02 malformed, 22003 too wide.
    pub fn parse_sql(text: &str) -> Result<Self> {
        let malformed = || {
            Error::new(
                SqlState::INVALID_TEXT_REPRESENTATION,
                format!("invalid input syntax for type numeric: \"{text}\""),
            )
        };
        let s = text.trim_matches(is_sql_space);
        let (negative, body) = match s.as_bytes().first() {
            Some(b'-') => (true, &s[1..]),
            Some(b'+') => (false, &s[1..]),
            _ => (false, s),
        };
        let bytes = body.as_bytes();
        let starts_number = matches!(bytes, [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..]);
        if !starts_number {
            if body.eq_ignore_ascii_case("nan") && s.len() == 3 {
                return Ok(Numeric::NAN);
            }
            if body.eq_ignore_ascii_case("infinity") || body.eq_ignore_ascii_case("inf") {
                return Ok(if negative {
                    Numeric::NEG_INFINITY
                } else {
                    Numeric::INFINITY
                });
            }
            return Err(malformed());
        }
        let mut mantissa: i128 = 0;
        let mut small = true;
        let mut scale: i64 = 0;
        let mut seen_point = false;
        let mut i = 0;
        while i < bytes.len() {
            match bytes[i] {
                d @ b'0'..=b'9' => {
                    if small {
                        match mantissa
                            .checked_mul(10)
                            .and_then(|m| m.checked_add(i128::from(d - b'0')))
                        {
                            Some(m) => mantissa = m,
                            None => small = false,
                        }
                    }
                    scale += i64::from(seen_point);
                }
                b'.' if !seen_point => seen_point = true,
                _ => break,
            }
            i += 1;
        }
        let digits_end = i;
        let mut exponent: i64 = 0;
        if i < bytes.len() {
            if !matches!(bytes[i], b'e' | b'E') {
                return Err(malformed());
            }
            let rest = &body[i + 1..];
            let unsigned = rest.strip_prefix(['+', '-']).unwrap_or(rest);
            if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
                return Err(malformed());
            }
            exponent = rest.parse().map_err(|_| overflow())?;
            // PostgreSQL's own guard: an exponent beyond this cannot name a representable value.
            if exponent.abs() > i64::from(i32::MAX / 2) {
                return Err(overflow());
            }
        }
        scale -= exponent;
        if small && (0..=i64::from(MAX_SCALE)).contains(&scale) {
            let m = if negative { -mantissa } else { mantissa };
            return Ok(Numeric::from_i128(m, scale as u16));
        }
        let mut digits: Vec<u8> = bytes[..digits_end]
            .iter()
            .copied()
            .filter(u8::is_ascii_digit)
            .collect();
        // Big integers are read in quadratic time: refuse or cut first what cannot be kept anyway.
        let zeros = digits.iter().take_while(|d| **d == b'0').count();
        digits.drain(..zeros.min(digits.len() - 1));
        if digits != b"0" && digits.len() as i64 - scale > MAX_INTEGER_DIGITS {
            return Err(overflow());
        }
        // One digit beyond the last that is kept decides the rounding.
        let spare = (scale - i64::from(MAX_SCALE) - 1).clamp(0, digits.len() as i64 - 1);
        digits.truncate(digits.len() - spare as usize);
        scale -= spare;
        let mut m = BigInt::parse_bytes(&digits, 10).ok_or_else(malformed)?;
        if negative {
            m = -m;
        }
        Numeric::from_bigint_scaled(m, scale)
    }

    /// Appends the text form.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Repr::NaN => out.extend_from_slice(b"NaN"),
            Repr::Infinity => out.extend_from_slice(b"Infinity"),
            Repr::NegInfinity => out.extend_from_slice(b"-Infinity"),
            Repr::Small { .. } => {
                let (m, scale) = self.to_i128_parts().unwrap_or((0, 0));
                if m < 0 {
                    out.push(b'-');
                }
                let mut buffer = itoa::Buffer::new();
                let digits = match u64::try_from(m.unsigned_abs()) {
                    Ok(short) => buffer.format(short),
                    Err(_) => buffer.format(m.unsigned_abs()),
                };
                push_with_point(digits.as_bytes(), usize::from(scale), out);
            }
            Repr::Big(b) => {
                if b.0.is_negative() {
                    out.push(b'-');
                }
                let digits = b.0.magnitude().to_str_radix(10);
                push_with_point(digits.as_bytes(), usize::from(b.1), out);
            }
        }
    }
}

fn push_with_point(digits: &[u8], scale: usize, out: &mut Vec<u8>) {
    if scale == 0 {
        out.extend_from_slice(digits);
    } else if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + scale - digits.len(), b'0');
        out.extend_from_slice(digits);
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::new();
        self.write_to(&mut text);
        f.pad(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
