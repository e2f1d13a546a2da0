//! Taking a text apart into a date, a time of day and a zone, in any order.

use super::DateOrder;
use crate::datetime::*;
use crate::interval::MICROS_PER_DAY;
use crate::numeric::is_sql_space;
use crate::timezone::{TimeZone, parse_offset};

/// A word that stands for a whole value.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Special {
    Infinity,
    NegInfinity,
    Epoch,
    Now,
    /// Midnight, this many days from today.
    Day(i64),
}

/// Why a text was refused.
pub(super) enum Refusal {
    /// 22007
    Syntax,
    /// 22008
    Range,
    /// 22008, and the order of the date's fields may be to blame
    DateRange,
    /// 22023
    Zone(String),
}

#[derive(Default)]
pub(super) struct Parsed {
    pub(super) special: Option<Special>,
    pub(super) date: Option<i64>,
    /// Microseconds since midnight.
    pub(super) time: Option<i64>,
    pub(super) zone: Option<TimeZone>,
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const DAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];

fn month_number(word: &str) -> Option<u32> {
    let known =
        |name: &str| word == name || word == &name[..3] || (word == "sept" && name == "september");
    MONTHS.iter().position(|n| known(n)).map(|p| p as u32 + 1)
}

fn is_day_name(word: &str) -> bool {
    DAYS.iter().any(|n| word == *n || word == &n[..3])
        || matches!(word, "tues" | "wednes" | "weds" | "thur" | "thurs")
}

/// The text being read, in lower case.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(&keep) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn digits(&mut self) -> &'a str {
        self.take_while(|b| b.is_ascii_digit())
    }

    fn eat(&mut self, byte: u8) -> bool {
        let hit = self.peek() == Some(byte);
        self.at += usize::from(hit);
        hit
    }
}

fn number(digits: &str) -> Result<i64, Refusal> {
    digits.parse().map_err(|_| Refusal::Range)
}

/// The date's fields as they come in.
#[derive(Default)]
struct DateFields {
    year: Option<(i64, usize)>,
    month: Option<u32>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    julian: Option<i64>,
    bc: bool,
    /// Numbers met before their meaning was known.
    loose: Vec<(i64, usize)>,
}

impl DateFields {
    fn any(&self) -> bool {
        self.year.is_some()
            || self.month.is_some()
            || self.day.is_some()
            || self.julian.is_some()
            || self.day_of_year.is_some()
    }

    fn resolve(mut self) -> Result<Option<i64>, Refusal> {
        if let Some(julian) = self.julian {
            return Ok(Some(julian - i64::from(JULIAN_UNIX_EPOCH)));
        }
        // "Jan 8, 1999" and its like: a day has up to two digits and comes first if both do.
        for (value, width) in std::mem::take(&mut self.loose) {
            if width <= 2 && self.day.is_none() {
                self.day = Some(value);
            } else if self.year.is_none() {
                self.year = Some((value, width));
            } else if self.day.is_none() {
                self.day = Some(value);
            } else {
                return Err(Refusal::Syntax);
            }
        }
        if !self.any() {
            return Ok(None);
        }
        let (mut year, width) = self.year.ok_or(Refusal::Syntax)?;
        if self.bc {
            if year < 1 {
                return Err(Refusal::Range);
            }
            year = 1 - year;
        } else if width <= 2 {
            year += if year < 70 { 2000 } else { 1900 };
        } else if year < 1 {
            return Err(Refusal::Range);
        }
        if year > 5_874_897 {
            return Err(Refusal::Range);
        }
        if let Some(day) = self.day_of_year {
            if !(1..=365 + i64::from(is_leap_year(year))).contains(&day) {
                return Err(Refusal::Range);
            }
            return Ok(Some(days_from_civil(year, 1, 1) + day - 1));
        }
        let month = self.month.ok_or(Refusal::Syntax)?;
        let day = self.day.ok_or(Refusal::Syntax)?;
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(Refusal::DateRange);
        }
        if day > i64::from(days_in_month(year, month)) {
            return Err(Refusal::Range);
        }
        Ok(Some(days_from_civil(year, month, day as u32)))
    }
}

/// Reads `h:mm[:ss[.ffffff]]` after its hours.
fn scan_time(hours: &str, s: &mut Scanner<'_>) -> Result<i64, Refusal> {
    let field = |digits: &str| {
        if digits.is_empty() {
            Err(Refusal::Syntax)
        } else {
            number(digits)
        }
    };
    let hour = number(hours)?;
    s.eat(b':');
    let minute = field(s.digits())?;
    let mut second = 0;
    let mut micros = 0;
    if s.eat(b':') {
        second = field(s.digits())?;
        if s.eat(b'.') {
            micros = fraction_micros(s.digits());
        }
    }
    clock(hour, minute, second, micros)
}

fn clock(hour: i64, minute: i64, second: i64, micros: i64) -> Result<i64, Refusal> {
    if hour > 24 || minute > 59 || second > 60 {
        return Err(Refusal::Range);
    }
    let total =
        hour * MICROS_PER_HOUR + minute * MICROS_PER_MINUTE + second * MICROS_PER_SECOND + micros;
    if total > MICROS_PER_DAY {
        return Err(Refusal::Range);
    }
    Ok(total)
}

/// Microseconds of the digits after a point, rounded to the nearest.
pub(crate) fn fraction_micros(digits: &str) -> i64 {
    let mut value = 0;
    for i in 0..6 {
        value = value * 10 + digits.as_bytes().get(i).map_or(0, |d| i64::from(d - b'0'));
    }
    value + i64::from(digits.as_bytes().get(6).is_some_and(|d| *d >= b'5'))
}

/// Reads the rest of a date whose first number is `first`.
fn scan_date(
    first: &str,
    s: &mut Scanner<'_>,
    order: DateOrder,
    fields: &mut DateFields,
) -> Result<(), Refusal> {
    let separator = s.peek().ok_or(Refusal::Syntax)?;
    s.at += 1;
    let n1 = (number(first)?, first.len());
    if s.peek().is_some_and(|b| b.is_ascii_alphabetic()) {
        let word = s.take_while(|b| b.is_ascii_alphabetic());
        fields.month = Some(month_number(word).ok_or(Refusal::Syntax)?);
        if !s.eat(separator) {
            return Err(Refusal::Syntax);
        }
        let third = s.digits();
        if third.is_empty() {
            return Err(Refusal::Syntax);
        }
        let n3 = (number(third)?, third.len());
        if n1.1 > 2 || (order == DateOrder::Ymd && n3.1 <= 2) {
            fields.year = Some(n1);
            fields.day = Some(n3.0);
        } else {
            fields.day = Some(n1.0);
            fields.year = Some(n3);
        }
        return Ok(());
    }
    let second = s.digits();
    if second.is_empty() {
        return Err(Refusal::Syntax);
    }
    let n2 = (number(second)?, second.len());
    if !s.eat(separator) {
        if second.len() == 3 && first.len() >= 3 {
            fields.year = Some(n1);
            fields.day_of_year = Some(n2.0);
            return Ok(());
        }
        return Err(Refusal::Syntax);
    }
    if s.peek().is_some_and(|b| b.is_ascii_alphabetic()) {
        return Err(Refusal::Syntax);
    }
    let third = s.digits();
    if third.is_empty() {
        return Err(Refusal::Syntax);
    }
    let n3 = (number(third)?, third.len());
    let (year, month, day) = if n1.1 > 2 {
        (n1, n2.0, n3.0)
    } else {
        match order {
            DateOrder::Mdy => (n3, n1.0, n2.0),
            DateOrder::Dmy => (n3, n2.0, n1.0),
            DateOrder::Ymd => (n1, n2.0, n3.0),
        }
    };
    fields.year = Some(year);
    fields.month = Some(u32::try_from(month).map_err(|_| Refusal::DateRange)?);
    fields.day = Some(day);
    Ok(())
}

/// A number that stands alone: a packed date or time, or a field whose meaning comes later.
fn scan_bare_number(
    digits: &str,
    s: &mut Scanner<'_>,
    fields: &mut DateFields,
    time: &mut Option<i64>,
    after_t: bool,
) -> Result<(), Refusal> {
    let n = number(digits)?;
    let have_date = fields.any() && fields.month.is_some() && fields.day.is_some();
    match digits.len() {
        6 | 4 | 2
            if (have_date || after_t)
                && time.is_none()
                && fields.loose.is_empty()
                && fields.year.is_some() =>
        {
            let (h, m, sec) = match digits.len() {
                6 => (n / 10_000, n / 100 % 100, n % 100),
                4 => (n / 100, n % 100, 0),
                _ if after_t => (n, 0, 0),
                _ => return Err(Refusal::Syntax),
            };
            let micros = if digits.len() == 6 && s.eat(b'.') {
                fraction_micros(s.digits())
            } else {
                0
            };
            *time = Some(clock(h, m, sec, micros)?);
        }
        8 if !fields.any() => {
            fields.year = Some((n / 10_000, 4));
            fields.month = Some((n / 100 % 100) as u32);
            fields.day = Some(n % 100);
        }
        6 if !fields.any() => {
            fields.year = Some((n / 10_000, 2));
            fields.month = Some((n / 100 % 100) as u32);
            fields.day = Some(n % 100);
        }
        _ => fields.loose.push((n, digits.len())),
    }
    Ok(())
}

pub(super) fn scan(text: &str, order: DateOrder) -> Result<Parsed, Refusal> {
    let lower = text.trim_matches(is_sql_space).to_ascii_lowercase();
    if lower.is_empty() || !lower.is_ascii() {
        return Err(Refusal::Syntax);
    }
    let mut s = Scanner {
        text: &lower,
        at: 0,
    };
    let mut fields = DateFields::default();
    let mut parsed = Parsed::default();
    let mut meridiem: Option<bool> = None;
    let mut after_t = false;
    while let Some(byte) = s.peek() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => s.at += 1,
            b'0'..=b'9' => {
                let digits = s.digits();
                match s.peek() {
                    Some(b':') => {
                        if parsed.time.is_some() {
                            return Err(Refusal::Syntax);
                        }
                        parsed.time = Some(scan_time(digits, &mut s)?);
                    }
                    Some(b'-' | b'/') if !fields.any() => {
                        scan_date(digits, &mut s, order, &mut fields)?;
                    }
                    Some(b'.') if !fields.any() && !after_t => {
                        scan_date(digits, &mut s, order, &mut fields)?;
                    }
                    _ => scan_bare_number(digits, &mut s, &mut fields, &mut parsed.time, after_t)?,
                }
            }
            b'+' | b'-' => {
                if lower[s.at..].starts_with("-infinity") || lower[s.at..].starts_with("+infinity")
                {
                    parsed.special = Some(if byte == b'-' {
                        Special::NegInfinity
                    } else {
                        Special::Infinity
                    });
                    s.at += "-infinity".len();
                    continue;
                }
                // The second hyphen of `Jan-08-1999`.
                if byte == b'-'
                    && parsed.time.is_none()
                    && fields.month.is_some()
                    && fields.loose.len() == 1
                {
                    s.at += 1;
                    continue;
                }
                if parsed.time.is_none() || parsed.zone.is_some() {
                    return Err(Refusal::Syntax);
                }
                let start = s.at;
                s.at += 1;
                s.take_while(|b| b.is_ascii_digit() || b == b':');
                let east = parse_offset(&lower[start..s.at]).ok_or(Refusal::Syntax)?;
                parsed.zone = Some(TimeZone::Fixed(east));
            }
            b'a'..=b'z' => scan_word(
                &lower,
                &mut s,
                &mut fields,
                &mut parsed,
                &mut meridiem,
                &mut after_t,
            )?,
            _ => return Err(Refusal::Syntax),
        }
    }
    if let Some(pm) = meridiem {
        let time = parsed.time.ok_or(Refusal::Syntax)?;
        let hour = time / MICROS_PER_HOUR;
        if hour > 12 {
            return Err(Refusal::Range);
        }
        let base = time - hour * MICROS_PER_HOUR;
        let hour = hour % 12 + if pm { 12 } else { 0 };
        parsed.time = Some(base + hour * MICROS_PER_HOUR);
    }
    parsed.date = fields.resolve()?;
    if parsed.special.is_none() && parsed.date.is_none() && parsed.time.is_none() {
        return Err(Refusal::Syntax);
    }
    Ok(parsed)
}

fn scan_word(
    lower: &str,
    s: &mut Scanner<'_>,
    fields: &mut DateFields,
    parsed: &mut Parsed,
    meridiem: &mut Option<bool>,
    after_t: &mut bool,
) -> Result<(), Refusal> {
    // `J2451187` and the `T` before a packed or plain time.
    let next = s.peek_at(1);
    if next.is_some_and(|b| b.is_ascii_digit()) {
        match s.peek() {
            Some(b't') if fields.any() => {
                s.at += 1;
                *after_t = true;
                return Ok(());
            }
            Some(b'j') => {
                s.at += 1;
                fields.julian = Some(number(s.digits())?);
                return Ok(());
            }
            _ => {}
        }
    }
    let start = s.at;
    let word = s.take_while(|b| b.is_ascii_alphabetic());
    if let Some(month) = month_number(word) {
        // A number before the month's name is the day; it waits among the loose ones.
        if fields.month.is_some() {
            return Err(Refusal::Syntax);
        }
        fields.month = Some(month);
        s.eat(b'.');
        s.eat(b'-');
        return Ok(());
    }
    if is_day_name(word) {
        s.eat(b'.');
        return Ok(());
    }
    match word {
        "am" | "pm" => *meridiem = Some(word == "pm"),
        "bc" => fields.bc = true,
        "ad" => {}
        "t" if fields.any() => *after_t = true,
        "at" | "on" => {}
        "infinity" => parsed.special = Some(Special::Infinity),
        "epoch" => parsed.special = Some(Special::Epoch),
        "now" => parsed.special = Some(Special::Now),
        "today" => parsed.special = Some(Special::Day(0)),
        "tomorrow" => parsed.special = Some(Special::Day(1)),
        "yesterday" => parsed.special = Some(Special::Day(-1)),
        "allballs" => {
            parsed.time = Some(0);
            parsed.zone = Some(TimeZone::Utc);
        }
        _ => {
            s.at = start;
            let name = s.take_while(|b| !matches!(b, b' ' | b'\t' | b','));
            if parsed.time.is_none() && parsed.date.is_none() && !fields.any() {
                return Err(Refusal::Syntax);
            }
            // `America/New_York`, `pst`, or an abbreviation with an offset glued to it.
            match TimeZone::lookup(name) {
                Some(zone) if parsed.zone.is_none() => parsed.zone = Some(zone),
                Some(_) => return Err(Refusal::Syntax),
                None if name.contains('/') => {
                    return Err(Refusal::Zone(lower[start..s.at].to_string()));
                }
                None => return Err(Refusal::Syntax),
            }
        }
    }
    Ok(())
}
