//! `to_char` and `to_number` for numbers: templates such as `9,990.00`, `S999`, `FM99V99`.

use crate::{Error, Numeric, Result, SqlState};
use num_bigint::BigInt;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    /// A digit's place; `zero` keeps it where the number has none.
    Digit {
        zero: bool,
    },
    Point,
    Group,
    Sign(SignKind),
    Currency,
    Ordinal {
        upper: bool,
    },
    Literal(char),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SignKind {
    /// `S`: anchored to the number.
    Anchored,
    /// `MI`: minus or blank.
    Minus,
    /// `PL`: plus or blank.
    Plus,
    /// `SG`: plus or minus, in place.
    InPlace,
}

#[derive(Default)]
struct Template {
    nodes: Vec<Node>,
    fill: bool,
    brackets: bool,
    roman: Option<bool>,
    exponent: bool,
    /// Digits after `V`: the number is multiplied by ten to this power.
    shift: Option<usize>,
    integer_places: usize,
    fraction_places: usize,
}

/// Width of the Roman numerals' column.
const ROMAN_WIDTH: usize = 15;

fn syntax(message: &str) -> Error {
    Error::new(SqlState::SYNTAX_ERROR, message.to_string())
}

fn parse(text: &str) -> Result<Template> {
    let mut t = Template::default();
    let mut rest = text;
    let mut after_point = false;
    while let Some(c) = rest.chars().next() {
        let starts = |p: &str| {
            rest.get(..p.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(p))
        };
        let (len, node) = if starts("FM") {
            t.fill = true;
            (2, None)
        } else if starts("EEEE") {
            t.exponent = true;
            (4, None)
        } else if starts("SG") {
            (2, Some(Node::Sign(SignKind::InPlace)))
        } else if starts("MI") {
            (2, Some(Node::Sign(SignKind::Minus)))
        } else if starts("PL") {
            (2, Some(Node::Sign(SignKind::Plus)))
        } else if starts("PR") {
            t.brackets = true;
            (2, None)
        } else if starts("RN") {
            t.roman = Some(rest.starts_with('R'));
            (2, None)
        } else if starts("TH") {
            let upper = rest.starts_with('T');
            (2, Some(Node::Ordinal { upper }))
        } else {
            match c {
                '9' | '0' => {
                    if let Some(shift) = &mut t.shift {
                        *shift += 1;
                        t.integer_places += 1;
                    } else if after_point {
                        t.fraction_places += 1;
                    } else {
                        t.integer_places += 1;
                    }
                    (1, Some(Node::Digit { zero: c == '0' }))
                }
                '.' | 'D' | 'd' => {
                    if after_point {
                        return Err(syntax("multiple decimal points"));
                    }
                    if t.shift.is_some() {
                        return Err(syntax("cannot use \"V\" and decimal point together"));
                    }
                    after_point = true;
                    (1, Some(Node::Point))
                }
                ',' | 'G' | 'g' => (1, Some(Node::Group)),
                'S' | 's' => (1, Some(Node::Sign(SignKind::Anchored))),
                'L' | 'l' => (1, Some(Node::Currency)),
                'V' | 'v' => {
                    if after_point {
                        return Err(syntax("cannot use \"V\" and decimal point together"));
                    }
                    t.shift = Some(0);
                    (1, None)
                }
                '"' => {
                    let inner = &rest[1..];
                    let end = inner.find('"').unwrap_or(inner.len());
                    t.nodes.extend(inner[..end].chars().map(Node::Literal));
                    rest = inner.get(end + 1..).unwrap_or("");
                    continue;
                }
                other => (other.len_utf8(), Some(Node::Literal(other))),
            }
        };
        t.nodes.extend(node);
        rest = &rest[len..];
    }
    Ok(t)
}

fn roman(value: i64, upper: bool) -> Option<String> {
    const STEPS: [(i64, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    if !(1..=3999).contains(&value) {
        return None;
    }
    let mut left = value;
    let mut out = String::new();
    for (size, letters) in STEPS {
        while left >= size {
            out.push_str(letters);
            left -= size;
        }
    }
    Some(if upper { out } else { out.to_ascii_lowercase() })
}

fn ordinal(digits: &str, upper: bool) -> String {
    let tail: u32 = digits[digits.len().saturating_sub(2)..]
        .parse()
        .unwrap_or(0);
    let suffix = match (tail, tail % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    if upper {
        suffix.to_ascii_uppercase()
    } else {
        suffix.into()
    }
}

fn scientific(value: &Numeric, t: &Template) -> String {
    let digits = value
        .to_bigint_parts()
        .map_or_else(String::new, |(m, _)| m.magnitude().to_str_radix(10));
    if value.is_zero() || digits.is_empty() {
        let zero = format!("{:.*e}", t.fraction_places, 0.0);
        return format!(
            " {}+00",
            zero.trim_end_matches('0').trim_end_matches('e').to_owned() + "e"
        );
    }
    let mut exponent = digits.len() as i64 - 1 - i64::from(value.scale());
    // The leading digits, rounded; 9.99 may become 10.0.
    let (m, _) = value.to_bigint_parts().unwrap_or_default();
    let lead = Numeric::from_bigint(BigInt::from(m.magnitude().clone()), 0);
    let drop = digits.len() as i64 - 1 - t.fraction_places as i64;
    let kept = if drop > 0 {
        lead.round(-(drop as i32)).to_string()
    } else {
        format!("{lead}{}", "0".repeat((-drop) as usize))
    };
    let mut kept = kept;
    if drop > 0 {
        if kept.len() > digits.len() {
            exponent += 1;
        }
        kept.truncate(1 + t.fraction_places);
    }
    let (head, tail) = kept.split_at(1);
    let sign = if value.signum() < 0 { '-' } else { ' ' };
    let point = if t.fraction_places > 0 { "." } else { "" };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    let text = format!(
        "{sign}{head}{point}{tail}e{exponent_sign}{:02}",
        exponent.abs()
    );
    if t.fill {
        text.trim_start().to_string()
    } else {
        text
    }
}

/// `to_char(number, template)`.
pub fn number_to_char(value: &Numeric, template: &str) -> Result<String> {
    let t = parse(template)?;
    if let Some(upper) = t.roman {
        let text = value.to_i64().and_then(|v| roman(v, upper));
        return Ok(match text {
            Some(text) if t.fill => text,
            Some(text) => format!("{text:>ROMAN_WIDTH$}"),
            None => "#".repeat(ROMAN_WIDTH),
        });
    }
    if t.exponent {
        return Ok(scientific(value, &t));
    }
    let shifted = match t.shift {
        Some(places) => value.mul(&Numeric::from(10i64).power(&Numeric::from(places as i64))?)?,
        None => value.clone(),
    };
    let rounded = shifted.round(t.fraction_places.min(1000) as i32);
    let negative = rounded.signum() < 0 && !rounded.is_zero();
    let text = rounded.abs().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let keeps_zero = t
        .nodes
        .iter()
        .take_while(|n| **n != Node::Point)
        .any(|n| matches!(n, Node::Digit { zero: true }));
    let whole = if whole == "0" && t.fraction_places > 0 && !keeps_zero {
        ""
    } else {
        whole
    };
    Ok(lay_out(&t, negative, whole, fraction))
}

/// Puts the digits into the template's places.
fn lay_out(t: &Template, negative: bool, whole: &str, fraction: &str) -> String {
    let overflow = whole.len() > t.integer_places;
    let first_digit = t.integer_places.saturating_sub(whole.len());
    let mut out = String::new();
    // Where the sign goes if it is anchored: right before the first digit.
    let mut anchor = None;
    let mut place = 0;
    let mut fraction_place = 0;
    let mut in_fraction = false;
    let mut zero_filled = false;
    // With FM, zeros at the end of the fraction are shown only up to the last `0` of the template.
    let kept_fraction = if t.fill {
        let needed = fraction.trim_end_matches('0').len();
        let mut places = 0;
        let mut last_zero = 0;
        for node in t.nodes.iter().skip_while(|n| **n != Node::Point) {
            if let Node::Digit { zero } = node {
                places += 1;
                if *zero {
                    last_zero = places;
                }
            }
        }
        needed.max(last_zero)
    } else {
        t.fraction_places
    };
    let suffix_anchor = {
        let sign = t
            .nodes
            .iter()
            .position(|n| *n == Node::Sign(SignKind::Anchored));
        let digit = t
            .nodes
            .iter()
            .position(|n| matches!(n, Node::Digit { .. } | Node::Point));
        matches!((sign, digit), (Some(s), Some(d)) if s > d)
    };
    let mut has_sign = false;
    for node in &t.nodes {
        match *node {
            Node::Digit { zero } if !in_fraction => {
                zero_filled |= zero;
                if overflow {
                    anchor.get_or_insert(out.len());
                    out.push('#');
                } else if place >= first_digit {
                    anchor.get_or_insert(out.len());
                    out.push_str(&whole[place - first_digit..place - first_digit + 1]);
                } else if zero_filled {
                    anchor.get_or_insert(out.len());
                    out.push('0');
                } else if !t.fill {
                    out.push(' ');
                }
                place += 1;
            }
            Node::Digit { .. } => {
                if overflow {
                    out.push('#');
                } else if fraction_place < kept_fraction {
                    out.push_str(
                        fraction
                            .get(fraction_place..fraction_place + 1)
                            .unwrap_or("0"),
                    );
                }
                fraction_place += 1;
            }
            Node::Point => {
                in_fraction = true;
                anchor.get_or_insert(out.len());
                out.push('.');
            }
            Node::Group => {
                if anchor.is_some() {
                    out.push(if overflow { '#' } else { ',' });
                } else if !t.fill {
                    out.push(' ');
                }
            }
            Node::Sign(kind) => {
                has_sign = true;
                match kind {
                    SignKind::Anchored if suffix_anchor => {
                        out.push(if negative { '-' } else { '+' })
                    }
                    SignKind::Anchored => {}
                    SignKind::Minus if negative => out.push('-'),
                    SignKind::Plus if !negative => out.push('+'),
                    SignKind::Minus | SignKind::Plus if t.fill => {}
                    SignKind::Minus | SignKind::Plus => out.push(' '),
                    SignKind::InPlace => out.push(if negative { '-' } else { '+' }),
                }
            }
            Node::Currency => {
                if !t.fill {
                    out.push(' ');
                }
            }
            Node::Ordinal { upper } => {
                if !negative && fraction.is_empty() {
                    out.push_str(&ordinal(whole, upper));
                }
            }
            Node::Literal(c) => out.push(c),
        }
    }
    let anchor = anchor.unwrap_or(out.len());
    let only_plus = t.nodes.contains(&Node::Sign(SignKind::Plus))
        && !t
            .nodes
            .iter()
            .any(|n| matches!(n, Node::Sign(k) if *k != SignKind::Plus));
    if t.brackets {
        if negative {
            out.insert(anchor, '<');
            out.push('>');
        } else if !t.fill {
            out.insert(anchor, ' ');
            out.push(' ');
        }
    } else if t.nodes.contains(&Node::Sign(SignKind::Anchored)) {
        if !suffix_anchor {
            out.insert(anchor, if negative { '-' } else { '+' });
        }
    } else if !has_sign || only_plus {
        if negative {
            out.insert(anchor, '-');
        } else if !t.fill {
            out.insert(anchor, ' ');
        }
    }
    out
}

/// `to_number(text, template)`.
pub fn to_number(text: &str, template: &str) -> Result<Numeric> {
    let t = parse(template)?;
    if t.exponent || t.roman.is_some() {
        return Err(Error::unsupported("EEEE and RN in to_number"));
    }
    let mut digits = String::new();
    let mut negative = false;
    let mut seen_point = false;
    for c in text.trim().chars() {
        match c {
            '0'..='9' => digits.push(c),
            '.' if !seen_point && t.nodes.contains(&Node::Point) => {
                seen_point = true;
                digits.push('.');
            }
            '-' | '<' => negative = true,
            _ => {}
        }
    }
    if !digits.contains(|c: char| c.is_ascii_digit()) {
        return Err(crate::text::invalid_syntax("numeric", text));
    }
    let value = Numeric::parse_sql(digits.trim_end_matches('.'))?;
    let value = if negative { value.negate() } else { value };
    match t.shift {
        Some(places) => value.div(&Numeric::from(10i64).power(&Numeric::from(places as i64))?),
        None => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        for (value, template, expected) in [
            ("-0.1", "99.99", "  -.10"),
            ("-0.1", "FM9.99", "-.1"),
            ("0.1", "0.9", " 0.1"),
            ("12", "9990999.9", "    0012.0"),
            ("12", "FM9990999.9", "0012."),
            ("485", "999", " 485"),
            ("-485", "999", "-485"),
            ("485", "9 9 9", " 4 8 5"),
            ("1485", "9,999", " 1,485"),
            ("1485", "9G999", " 1,485"),
            ("485", "9,999", "   485"),
            ("148.5", "999.999", " 148.500"),
            ("148.5", "FM999.999", "148.5"),
            ("148.5", "FM999.990", "148.500"),
            ("3148.5", "9G999D999", " 3,148.500"),
            ("-485", "999S", "485-"),
            ("-485", "999MI", "485-"),
            ("485", "999MI", "485 "),
            ("485", "FM999MI", "485"),
            ("485", "PL999", "+ 485"),
            ("485", "SG999", "+485"),
            ("-485", "9SG99", "4-85"),
            ("-485", "999PR", "<485>"),
            ("482", "999th", " 482nd"),
            ("485", "\"Good number:\"999", "Good number: 485"),
            ("12", "99V999", " 12000"),
            ("12.45", "99V9", " 125"),
            ("0.0004859", "9.99EEEE", " 4.86e-04"),
            ("1234", "999", " ###"),
            ("0", "9", " 0"),
            ("-12", "S9999", "  -12"),
            ("5.2", "FMRN", "V"),
            ("485", "RN", "        CDLXXXV"),
            ("1234567.891", "FM9,999,999.00", "1,234,567.89"),
            ("42", "FM$999", "$42"),
        ] {
            let n = Numeric::parse(value).unwrap();
            assert_eq!(
                number_to_char(&n, template).as_deref(),
                Ok(expected),
                "{value} {template}"
            );
        }
    }

    #[test]
    fn reading() {
        assert_eq!(
            to_number("12,454.8-", "99G999D9S")
                .map(|n| n.to_string())
                .as_deref(),
            Ok("-12454.8")
        );
        assert!(to_number("x", "9").is_err());
    }
}
