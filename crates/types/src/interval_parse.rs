//! Reading intervals: `1 day 02:03:04`, `1 year 2 mons ago`, `1-2`, `P1Y2M3DT4H5M6S`.

use crate::datetime::{MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND};
use crate::interval::{DAYS_PER_MONTH, Interval, MICROS_PER_DAY};
use crate::numeric::is_sql_space;
use crate::{Error, Result, SqlState};

/// Sums wide enough that no single field can overflow them.
#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    micros: i128,
}

/// A unit's size: so many months, days or microseconds.
#[derive(Clone, Copy)]
enum Unit {
    Months(i128),
    Days(i128),
    Micros(i128),
}

enum Refusal {
    Syntax,
    Range,
}

/// A number as written: sign, integer part, and the fraction as a float.
#[derive(Clone, Copy)]
struct Amount {
    negative: bool,
    whole: i128,
    fraction: f64,
}

fn unit(word: &str) -> Option<Unit> {
    Some(match word {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds"
        | "microsecon" => Unit::Micros(1),
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds"
        | "millisecon" => Unit::Micros(1000),
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Micros(MICROS_PER_SECOND as i128),
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Micros(MICROS_PER_MINUTE as i128),
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Micros(MICROS_PER_HOUR as i128),
        "d" | "day" | "days" => Unit::Days(1),
        "w" | "week" | "weeks" => Unit::Days(7),
        "mon" | "mons" | "month" | "months" => Unit::Months(1),
        "q" | "quarter" | "qtr" => return None,
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Months(12),
        "dec" | "decs" | "decade" | "decades" => Unit::Months(120),
        "c" | "cent" | "century" | "centuries" => Unit::Months(1200),
        "mil" | "mils" | "millennium" | "millennia" => Unit::Months(12_000),
        _ => return None,
    })
}

impl Sum {
    fn add(&mut self, amount: Amount, unit: Unit) {
        let sign = if amount.negative { -1 } else { 1 };
        let fraction = amount.fraction * sign as f64;
        let whole = amount.whole * sign;
        match unit {
            Unit::Micros(size) => {
                self.micros += whole * size + (fraction * size as f64).round_ties_even() as i128;
            }
            Unit::Days(size) => {
                self.days += whole * size;
                self.add_days(fraction * size as f64);
            }
            Unit::Months(1) => {
                self.months += whole;
                self.add_days(fraction * DAYS_PER_MONTH as f64);
            }
            Unit::Months(size) => {
                self.months += whole * size + (fraction * size as f64).round_ties_even() as i128;
            }
        }
    }

    /// Adds a fractional number of days: whole ones as days, the rest as time.
    fn add_days(&mut self, days: f64) {
        self.days += days.trunc() as i128;
        self.micros += (days.fract() * MICROS_PER_DAY as f64).round_ties_even() as i128;
    }

    fn finish(self, ago: bool) -> Result<Interval, Refusal> {
        let sign = if ago { -1 } else { 1 };
        Ok(Interval::new(
            i32::try_from(self.months * sign).map_err(|_| Refusal::Range)?,
            i32::try_from(self.days * sign).map_err(|_| Refusal::Range)?,
            i64::try_from(self.micros * sign).map_err(|_| Refusal::Range)?,
        ))
    }
}

/// Parses an interval. 22007 if malformed, 22015 if a field is out of range.
pub fn parse_interval(text: &str) -> Result<Interval> {
    let lower = text.trim_matches(is_sql_space).to_ascii_lowercase();
    let parsed = if lower.starts_with('p') {
        scan_iso(&lower)
    } else {
        scan(&lower)
    };
    parsed.map_err(|refusal| match refusal {
        Refusal::Syntax => Error::new(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type interval: \"{text}\""),
        ),
        Refusal::Range => Error::new(
            SqlState::INTERVAL_FIELD_OVERFLOW,
            format!("interval field value out of range: \"{text}\""),
        ),
    })
}

/// Parses `interval 'text' first TO last`: numbers without units are of these fields, and what is
/// finer than the last one is cut off.
pub fn parse_interval_in(text: &str, first: &str, last: &str) -> Result<Interval> {
    let (first, last) = (first.to_ascii_lowercase(), last.to_ascii_lowercase());
    let words: Vec<&str> = text.split(is_sql_space).filter(|w| !w.is_empty()).collect();
    let bare = |word: &&str| word.parse::<f64>().is_ok();
    let colons = text.matches(':').count();
    let spelled = match words.as_slice() {
        [one] if bare(one) => format!("{one} {last}"),
        [days, rest] if bare(days) && bare(rest) => format!("{days} days {rest} {last}"),
        // `minute to second` reads its two numbers as such.
        [one] if colons == 1 && first == "minute" => {
            let (sign, clock) = match one.strip_prefix('-') {
                Some(clock) => ("-", clock),
                None => ("", *one),
            };
            format!("{sign}00:{clock}")
        }
        _ => text.to_string(),
    };
    let whole = parse_interval(&spelled)?;
    let cut = |size: i64| whole.micros / size * size;
    Ok(match last.as_str() {
        "year" => Interval::new(whole.months / 12 * 12, 0, 0),
        "month" => Interval::new(whole.months, 0, 0),
        "day" => Interval::new(whole.months, whole.days, 0),
        "hour" => Interval::new(whole.months, whole.days, cut(MICROS_PER_HOUR)),
        "minute" => Interval::new(whole.months, whole.days, cut(MICROS_PER_MINUTE)),
        _ => whole,
    })
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self
            .peek()
            .is_some_and(|b| is_sql_space(char::from(b)) || b == b',' || b == b'@')
        {
            self.at += 1;
        }
    }

    fn take(&mut self, keep: impl Fn(u8) -> bool) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(&keep) {
            self.at += 1;
        }
        std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or("")
    }

    fn digits(&mut self) -> &'a str {
        self.take(|b| b.is_ascii_digit())
    }

    fn sign(&mut self) -> Option<bool> {
        match self.peek() {
            Some(b'-') => {
                self.at += 1;
                Some(true)
            }
            Some(b'+') => {
                self.at += 1;
                Some(false)
            }
            _ => None,
        }
    }

    /// `12`, `12.5`, `.5`, with the sign already taken.
    fn amount(&mut self, negative: bool) -> Result<Amount, Refusal> {
        let whole = self.digits();
        let mut fraction = 0.0;
        let mut digits = whole.len();
        if self.peek() == Some(b'.') {
            self.at += 1;
            let after = self.digits();
            digits += after.len();
            if !after.is_empty() {
                fraction = format!("0.{after}").parse().map_err(|_| Refusal::Syntax)?;
            }
        }
        if digits == 0 {
            return Err(Refusal::Syntax);
        }
        Ok(Amount {
            negative,
            whole: whole_number(whole)?,
            fraction,
        })
    }
}

fn whole_number(digits: &str) -> Result<i128, Refusal> {
    if digits.is_empty() {
        return Ok(0);
    }
    digits
        .parse::<i64>()
        .map(i128::from)
        .map_err(|_| Refusal::Range)
}

fn scan(lower: &str) -> Result<Interval, Refusal> {
    let mut s = Scanner {
        bytes: lower.as_bytes(),
        at: 0,
    };
    let mut sum = Sum::default();
    let mut ago = false;
    let mut fields = 0;
    loop {
        s.skip_space();
        let Some(byte) = s.peek() else { break };
        if byte.is_ascii_alphabetic() {
            if s.take(|b| b.is_ascii_alphabetic()) != "ago" || fields == 0 || ago {
                return Err(Refusal::Syntax);
            }
            ago = true;
            continue;
        }
        if ago {
            return Err(Refusal::Syntax);
        }
        fields += 1;
        let negative = s.sign().unwrap_or(false);
        let amount = s.amount(negative)?;
        match s.peek() {
            Some(b':') => scan_clock(amount, &mut s, &mut sum)?,
            Some(b'-') if amount.fraction == 0.0 => {
                // The SQL standard's years-months.
                s.at += 1;
                let months = s.digits();
                if months.is_empty() {
                    return Err(Refusal::Syntax);
                }
                let months = whole_number(months)?;
                if months > 11 {
                    return Err(Refusal::Range);
                }
                sum.add(amount, Unit::Months(12));
                sum.months += if negative { -months } else { months };
            }
            _ => {
                s.skip_space();
                if s.peek().is_some_and(|b| b.is_ascii_alphabetic()) {
                    let before = s.at;
                    let word = s.take(|b| b.is_ascii_alphabetic());
                    if word == "ago" {
                        s.at = before;
                        sum.add(amount, Unit::Micros(MICROS_PER_SECOND as i128));
                    } else {
                        sum.add(amount, unit(word).ok_or(Refusal::Syntax)?);
                    }
                } else if is_clock(&s) {
                    // A number right before a time is days.
                    sum.add(amount, Unit::Days(1));
                } else if s.peek().is_none() {
                    sum.add(amount, Unit::Micros(MICROS_PER_SECOND as i128));
                } else {
                    return Err(Refusal::Syntax);
                }
            }
        }
    }
    if fields == 0 {
        return Err(Refusal::Syntax);
    }
    sum.finish(ago)
}

/// Whether `hh:` comes next.
fn is_clock(s: &Scanner<'_>) -> bool {
    let rest = &s.bytes[s.at..];
    let rest = rest
        .strip_prefix(b"-")
        .or_else(|| rest.strip_prefix(b"+"))
        .unwrap_or(rest);
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    digits > 0 && rest.get(digits) == Some(&b':')
}

/// `hh:mm[:ss[.f]]` or `mm:ss.f`, after its first number.
fn scan_clock(first: Amount, s: &mut Scanner<'_>, sum: &mut Sum) -> Result<(), Refusal> {
    if first.fraction != 0.0 {
        return Err(Refusal::Syntax);
    }
    s.at += 1;
    let second = s.amount(false)?;
    let (hours, minutes, seconds) = if s.peek() == Some(b':') {
        if second.fraction != 0.0 {
            return Err(Refusal::Syntax);
        }
        s.at += 1;
        (first.whole, second.whole, s.amount(false)?)
    } else if second.fraction != 0.0 {
        (0, first.whole, second)
    } else {
        let zero = Amount {
            negative: false,
            whole: 0,
            fraction: 0.0,
        };
        (first.whole, second.whole, zero)
    };
    if minutes > 59 || seconds.whole > 60 {
        return Err(Refusal::Range);
    }
    let micros = hours * i128::from(MICROS_PER_HOUR)
        + minutes * i128::from(MICROS_PER_MINUTE)
        + seconds.whole * i128::from(MICROS_PER_SECOND)
        + (seconds.fraction * 1e6).round_ties_even() as i128;
    sum.micros += if first.negative { -micros } else { micros };
    Ok(())
}

/// ISO 8601: `P1Y2M3W4DT5H6M7.8S` and the alternative `P0001-02-03T04:05:06`.
fn scan_iso(lower: &str) -> Result<Interval, Refusal> {
    let mut s = Scanner {
        bytes: lower.as_bytes(),
        at: 1,
    };
    let mut sum = Sum::default();
    let mut in_time = false;
    let mut fields = 0;
    while let Some(byte) = s.peek() {
        if byte == b't' {
            if in_time {
                return Err(Refusal::Syntax);
            }
            in_time = true;
            s.at += 1;
            continue;
        }
        let negative = s.sign().unwrap_or(false);
        let amount = s.amount(negative)?;
        fields += 1;
        let designator = s.peek();
        s.at += 1;
        let unit = match (in_time, designator) {
            (false, Some(b'y')) => Unit::Months(12),
            (false, Some(b'm')) => Unit::Months(1),
            (false, Some(b'w')) => Unit::Days(7),
            (false, Some(b'd')) => Unit::Days(1),
            (true, Some(b'h')) => Unit::Micros(MICROS_PER_HOUR as i128),
            (true, Some(b'm')) => Unit::Micros(MICROS_PER_MINUTE as i128),
            (true, Some(b's')) => Unit::Micros(MICROS_PER_SECOND as i128),
            (false, Some(b'-')) if fields == 1 => {
                sum.add(amount, Unit::Months(12));
                sum.add(s.amount(false)?, Unit::Months(1));
                if s.peek() == Some(b'-') {
                    s.at += 1;
                    sum.add(s.amount(false)?, Unit::Days(1));
                }
                continue;
            }
            (true, Some(b':')) => {
                s.at -= 1;
                scan_clock(amount, &mut s, &mut sum)?;
                continue;
            }
            _ => return Err(Refusal::Syntax),
        };
        sum.add(amount, unit);
    }
    if fields == 0 {
        return Err(Refusal::Syntax);
    }
    sum.finish(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_forms() {
        for (text, shown) in [
            ("1 day 02:03:04", "1 day 02:03:04"),
            ("1 year 2 mons", "1 year 2 mons"),
            ("-1 days", "-1 days"),
            ("1 day ago", "-1 days"),
            ("P1DT2H", "1 day 02:00:00"),
            ("P1Y2M3DT4H5M6.5S", "1 year 2 mons 3 days 04:05:06.5"),
            ("P0001-02-03T04:05:06", "1 year 2 mons 3 days 04:05:06"),
            ("1-2", "1 year 2 mons"),
            ("1 2:03:04", "1 day 02:03:04"),
            ("-1 day +02:03:00", "-1 days +02:03:00"),
            ("1 mon -1 day", "1 mon -1 days"),
            ("@ 1 hour 30 min", "01:30:00"),
            ("1.5 days", "1 day 12:00:00"),
            ("1.5 months", "1 mon 15 days"),
            ("1.5 years", "1 year 6 mons"),
            ("2 weeks", "14 days"),
            ("30", "00:00:30"),
            ("1.5", "00:00:01.5"),
            ("100 hours", "100:00:00"),
            ("0", "00:00:00"),
            ("-00:00:01.5", "-00:00:01.5"),
            ("1h30m", "01:30:00"),
            ("500 ms", "00:00:00.5"),
            ("1 decade", "10 years"),
        ] {
            assert_eq!(
                parse_interval(text).map(|i| i.to_string()).as_deref(),
                Ok(shown),
                "{text}"
            );
        }
        for text in ["", "x", "1 foo", "1 day day", "ago", "P", "1:2:3:4", "P1X"] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_interval("99999999999 years").map_err(|e| e.state),
            Err(SqlState::INTERVAL_FIELD_OVERFLOW)
        );
    }

    #[test]
    fn fields_of_a_literal() {
        for (text, first, last, shown) in [
            ("5", "minute", "minute", "00:05:00"),
            ("2", "year", "year", "2 years"),
            ("1 2", "DAY", "HOUR", "1 day 02:00:00"),
            ("1 2:03:04", "day", "minute", "1 day 02:03:00"),
            ("1-2", "year", "month", "1 year 2 mons"),
            ("1:02", "minute", "second", "00:01:02"),
            ("1 year 2 days", "year", "year", "1 year"),
        ] {
            let found = parse_interval_in(text, first, last).map(|i| i.to_string());
            assert_eq!(found.as_deref(), Ok(shown), "{text} {first} to {last}");
        }
    }

    #[test]
    fn month_is_thirty_days() {
        assert_eq!(parse_interval("1 mon").ok(), parse_interval("30 days").ok());
        assert!(parse_interval("1 mon").ok() > parse_interval("29 days 23:00").ok());
    }

    #[test]
    fn justify() {
        let shown = |text: &str| {
            parse_interval(text)
                .and_then(|i| i.justify_interval())
                .map(|i| i.to_string())
        };
        assert_eq!(shown("1 mon -1 hour").as_deref(), Ok("29 days 23:00:00"));
        assert_eq!(
            shown("35 days 25:00:00").as_deref(),
            Ok("1 mon 6 days 01:00:00")
        );
    }

    #[test]
    fn multiply_and_divide() {
        let i = parse_interval("1 mon 1 day").unwrap();
        assert_eq!(
            i.checked_mul(1.5).map(|i| i.to_string()).as_deref(),
            Ok("1 mon 16 days 12:00:00")
        );
        let i = parse_interval("1 day").unwrap();
        assert_eq!(
            i.checked_div(3.0).map(|i| i.to_string()).as_deref(),
            Ok("08:00:00")
        );
    }
}
