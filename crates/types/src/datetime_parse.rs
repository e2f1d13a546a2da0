//! Reading dates and times in the forms PostgreSQL accepts.

use crate::datetime::*;
use crate::interval::MICROS_PER_DAY;
use crate::numeric::is_sql_space;
use crate::timezone::{TimeZone, parse_offset};
use crate::{Error, Result, SqlState};

/// Which of an ambiguous date's numbers is which: the second half of `DateStyle`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DateOrder {
    #[default]
    Mdy,
    Dmy,
    Ymd,
}

/// What reading a time depends on besides the text.
#[derive(Clone, Copy)]
pub struct ParseContext<'a> {
    pub zone: &'a TimeZone,
    /// The transaction's start, for `now` and `today`.
    pub now: i64,
    pub order: DateOrder,
}

/// A word that stands for a whole value.
#[derive(Clone, Copy, PartialEq)]
enum Special {
    Infinity,
    NegInfinity,
    Epoch,
    Now,
    /// Midnight, this many days from today.
    Day(i64),
}

/// Why a text was refused.
enum Refusal {
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
struct Parsed {
    special: Option<Special>,
    date: Option<i64>,
    /// Microseconds since midnight.
    time: Option<i64>,
    zone: Option<TimeZone>,
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

fn scan(text: &str, order: DateOrder) -> Result<Parsed, Refusal> {
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

fn refuse(refusal: Refusal, text: &str, type_name: &str) -> Error {
    match refusal {
        Refusal::Syntax => Error::new(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type {type_name}: \"{text}\""),
        ),
        Refusal::Range => Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date/time field value out of range: \"{text}\""),
        ),
        Refusal::DateRange => Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date/time field value out of range: \"{text}\""),
        )
        .hint("Perhaps you need a different \"datestyle\" setting."),
        Refusal::Zone(name) => Error::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("time zone \"{name}\" not recognized"),
        ),
    }
}

pub fn parse_date(text: &str, ctx: ParseContext<'_>) -> Result<i32> {
    if let Some(days) = fast_date(text.as_bytes()) {
        return Ok(days as i32);
    }
    let parsed = scan(text, ctx.order).map_err(|r| refuse(r, text, "date"))?;
    let today = ctx.zone.to_local(ctx.now).div_euclid(MICROS_PER_DAY);
    let days = match (parsed.special, parsed.date) {
        (Some(Special::Infinity), None) => return Ok(DATE_INFINITY),
        (Some(Special::NegInfinity), None) => return Ok(DATE_NEG_INFINITY),
        (Some(Special::Epoch), None) => 0,
        (Some(Special::Now), None) => today,
        (Some(Special::Day(shift)), None) => today + shift,
        (None, Some(days)) => days,
        _ => return Err(refuse(Refusal::Syntax, text, "date")),
    };
    check_date(days).map_err(|_| {
        Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date out of range: \"{text}\""),
        )
    })
}

pub fn parse_time(text: &str, ctx: ParseContext<'_>) -> Result<i64> {
    const NAME: &str = "time";
    let parsed = scan(text, ctx.order).map_err(|r| refuse(r, text, NAME))?;
    match (parsed.special, parsed.time) {
        (Some(Special::Now), None) => Ok(ctx.zone.to_local(ctx.now).rem_euclid(MICROS_PER_DAY)),
        (None, Some(time)) => Ok(time),
        _ => Err(refuse(Refusal::Syntax, text, NAME)),
    }
}

/// Reads a timestamp without a zone; a zone in the text is ignored, as in PostgreSQL.
pub fn parse_timestamp(text: &str, ctx: ParseContext<'_>) -> Result<i64> {
    if let Some((micros, None)) = fast_timestamp(text.as_bytes()) {
        return Ok(micros);
    }
    let parsed = scan(text, ctx.order).map_err(|r| refuse(r, text, "timestamp"))?;
    let local_now = ctx.zone.to_local(ctx.now);
    combine(&parsed, local_now, text, "timestamp", |local| local)
}

/// Reads an instant: in the text's zone, or else in the context's.
pub fn parse_timestamptz(text: &str, ctx: ParseContext<'_>) -> Result<i64> {
    const NAME: &str = "timestamp with time zone";
    if let Some((local, zone)) = fast_timestamp(text.as_bytes()) {
        return Ok(match zone {
            Some(east) => local - i64::from(east) * MICROS_PER_SECOND,
            None => ctx.zone.to_utc(local),
        });
    }
    let parsed = scan(text, ctx.order).map_err(|r| refuse(r, text, NAME))?;
    let zone = parsed.zone.clone().unwrap_or_else(|| ctx.zone.clone());
    if parsed.special == Some(Special::Now) {
        return Ok(ctx.now);
    }
    if parsed.special == Some(Special::Epoch) {
        return Ok(0);
    }
    let local_now = zone.to_local(ctx.now);
    combine(&parsed, local_now, text, NAME, |local| zone.to_utc(local))
}

fn combine(
    parsed: &Parsed,
    local_now: i64,
    text: &str,
    type_name: &str,
    convert: impl Fn(i64) -> i64,
) -> Result<i64> {
    let days = match (parsed.special, parsed.date) {
        (Some(Special::Infinity), None) => return Ok(TIMESTAMP_INFINITY),
        (Some(Special::NegInfinity), None) => return Ok(TIMESTAMP_NEG_INFINITY),
        (Some(Special::Epoch), None) => return Ok(0),
        (Some(Special::Now), None) => return Ok(local_now),
        (Some(Special::Day(shift)), None) => local_now.div_euclid(MICROS_PER_DAY) + shift,
        (None, Some(days)) => days,
        _ => return Err(refuse(Refusal::Syntax, text, type_name)),
    };
    let out_of_range = || {
        Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("timestamp out of range: \"{text}\""),
        )
    };
    let local = days
        .checked_mul(MICROS_PER_DAY)
        .and_then(|d| d.checked_add(parsed.time.unwrap_or(0)))
        .ok_or_else(out_of_range)?;
    check_timestamp(convert(local)).map_err(|_| out_of_range())
}

// ---- the common forms, without the scanner --------------------------------------------------

fn two(b: &[u8]) -> Option<i64> {
    match b {
        [x @ b'0'..=b'9', y @ b'0'..=b'9'] => Some(i64::from(x - b'0') * 10 + i64::from(y - b'0')),
        _ => None,
    }
}

/// `YYYY-MM-DD` and nothing else. Anything odd is left to the scanner, which knows the errors.
fn fast_date(b: &[u8]) -> Option<i64> {
    if b.len() != 10 || b[4] != b'-' || b[7] != b'-' {
        return None;
    }
    let year = two(&b[..2])? * 100 + two(&b[2..4])?;
    let (month, day) = (two(&b[5..7])?, two(&b[8..])?);
    let valid = year > 0
        && (1..=12).contains(&month)
        && day >= 1
        && day <= i64::from(days_in_month(year, month as u32));
    valid.then(|| days_from_civil(year, month as u32, day as u32))
}

/// `YYYY-MM-DD hh:mm:ss[.ffffff][Z|+hh|+hh:mm]`: local microseconds and seconds east.
fn fast_timestamp(b: &[u8]) -> Option<(i64, Option<i32>)> {
    if b.len() < 19 || !matches!(b[10], b' ' | b'T') || b[13] != b':' || b[16] != b':' {
        return None;
    }
    let days = fast_date(&b[..10])?;
    let (hour, minute, second) = (two(&b[11..13])?, two(&b[14..16])?, two(&b[17..19])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = &b[19..];
    let mut micros = 0;
    if let Some(after) = rest.strip_prefix(b".") {
        let end = after
            .iter()
            .position(|c| !c.is_ascii_digit())
            .unwrap_or(after.len());
        if end == 0 || end > 6 {
            return None;
        }
        micros = fraction_micros(std::str::from_utf8(&after[..end]).ok()?);
        rest = &after[end..];
    }
    let zone = match rest {
        [] => None,
        b"Z" => Some(0),
        _ => Some(parse_offset(std::str::from_utf8(rest).ok()?)?),
    };
    let time =
        hour * MICROS_PER_HOUR + minute * MICROS_PER_MINUTE + second * MICROS_PER_SECOND + micros;
    Some((days * MICROS_PER_DAY + time, zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ctx(zone: &TimeZone) -> ParseContext<'_> {
        ParseContext {
            zone,
            now: 1_700_000_000_000_000,
            order: DateOrder::Mdy,
        }
    }

    fn date(text: &str) -> Result<String> {
        let mut out = Vec::new();
        write_date(parse_date(text, ctx(&TimeZone::Utc))?, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    fn instant(text: &str, zone: &str) -> Result<String> {
        let zone = TimeZone::parse(zone)?;
        let mut out = Vec::new();
        write_timestamptz(parse_timestamptz(text, ctx(&zone))?, &zone, &mut out);
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn dates() {
        for (text, shown) in [
            ("1999-01-08", "1999-01-08"),
            ("January 8, 1999", "1999-01-08"),
            ("Jan 8, 1999", "1999-01-08"),
            ("1/8/1999", "1999-01-08"),
            ("1/18/1999", "1999-01-18"),
            ("01/02/03", "2003-01-02"),
            ("1999-Jan-08", "1999-01-08"),
            ("Jan-08-1999", "1999-01-08"),
            ("08-Jan-1999", "1999-01-08"),
            ("8 January 1999", "1999-01-08"),
            ("19990108", "1999-01-08"),
            ("990108", "1999-01-08"),
            ("1999.008", "1999-01-08"),
            ("J2451187", "1999-01-08"),
            ("January 8, 99 BC", "0099-01-08 BC"),
            ("0044-03-15 BC", "0044-03-15 BC"),
            ("infinity", "infinity"),
            ("-infinity", "-infinity"),
            ("epoch", "1970-01-01"),
            ("today", "2023-11-14"),
            ("tomorrow", "2023-11-15"),
            (" 2024-02-29 ", "2024-02-29"),
            ("2024-02-29 23:59", "2024-02-29"),
        ] {
            assert_eq!(date(text).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn refused_dates() {
        let state = |text: &str| date(text).map_err(|e| (e.state, e.message));
        assert_eq!(
            state("2023-02-29"),
            Err((
                SqlState::DATETIME_FIELD_OVERFLOW,
                "date/time field value out of range: \"2023-02-29\"".into()
            ))
        );
        assert_eq!(
            state("x"),
            Err((
                SqlState::INVALID_DATETIME_FORMAT,
                "invalid input syntax for type date: \"x\"".into()
            ))
        );
        for text in [
            "",
            "2023-",
            "12:00",
            "2023-13-01",
            "é",
            "1-2-3-4",
            "2023-01-01 25:00",
        ] {
            assert!(date(text).is_err(), "{text}");
        }
    }

    #[test]
    fn instants() {
        for (text, zone, shown) in [
            (
                "2024-07-03 12:00:00",
                "Europe/Berlin",
                "2024-07-03 12:00:00+02",
            ),
            (
                "2024-07-03T10:00:00Z",
                "Europe/Berlin",
                "2024-07-03 12:00:00+02",
            ),
            ("2024-07-03 10:00:00+00", "UTC", "2024-07-03 10:00:00+00"),
            (
                "2024-07-03 10:00:00.123456-07:30",
                "UTC",
                "2024-07-03 17:30:00.123456+00",
            ),
            (
                "2024-07-03 10:00:00 America/New_York",
                "UTC",
                "2024-07-03 14:00:00+00",
            ),
            ("2024-07-03 10:00 PST", "UTC", "2024-07-03 18:00:00+00"),
            ("20240703T101112", "UTC", "2024-07-03 10:11:12+00"),
            ("Wed Jul 03 10:00:00 2024", "UTC", "2024-07-03 10:00:00+00"),
            ("2024-07-03 04:05 PM", "UTC", "2024-07-03 16:05:00+00"),
            ("2024-07-03 24:00:00", "UTC", "2024-07-04 00:00:00+00"),
            ("2024-07-03", "UTC", "2024-07-03 00:00:00+00"),
            ("now", "UTC", "2023-11-14 22:13:20+00"),
            // In the gap the offset before it holds; in the overlap the one after.
            (
                "2024-03-31 02:30:00",
                "Europe/Berlin",
                "2024-03-31 03:30:00+02",
            ),
            (
                "2024-10-27 02:30:00",
                "Europe/Berlin",
                "2024-10-27 02:30:00+01",
            ),
            (
                "2024-07-03 10:00:00.1234567",
                "UTC",
                "2024-07-03 10:00:00.123457+00",
            ),
        ] {
            assert_eq!(instant(text, zone).as_deref(), Ok(shown), "{text}");
        }
    }
}
