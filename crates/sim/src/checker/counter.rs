//! Does every acknowledged increment of a counter count exactly once, and every unknown one at most once?
//!
//! All increments are by one, so a read is bounded: it shows at least the increments acknowledged before it
//! began, and at most those begun before it ended. Reads that do not overlap may not go back. An increment
//! that returns the new value takes that value for itself: two of the same value mean that one was lost.

use super::{Broken, Checked, Interval, Nanos, Outcome, Result};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Increment {
    pub interval: Interval,
    pub outcome: Outcome,
    /// The value after it, if the client was told.
    pub value: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    pub begin: Nanos,
    pub end: Nanos,
    pub value: u64,
}

impl Read {
    fn interval(&self) -> Interval {
        Interval {
            begin: self.begin,
            end: Some(self.end),
        }
    }
}

const RULE: &str = "counter";

/// Counts increments `acknowledged` and `unknown`, and `reads`. The counter starts at 0.
pub fn check(increments: &[Increment], reads: &[Read]) -> Result {
    let with = |outcome| increments.iter().filter(move |op| op.outcome == outcome);
    let acknowledged = with(Outcome::Acknowledged);
    let mut ends: Vec<Nanos> = acknowledged.filter_map(|op| op.interval.end).collect();
    ends.sort_unstable();
    let possible = increments
        .iter()
        .filter(|op| op.outcome != Outcome::Refused);
    let mut begins: Vec<Nanos> = possible.map(|op| op.interval.begin).collect();
    begins.sort_unstable();
    // An acknowledged increment that returned its value has read the counter, too.
    let told = with(Outcome::Acknowledged).filter_map(|op| {
        Some(Read {
            begin: op.interval.begin,
            end: op.interval.end?,
            value: op.value?,
        })
    });
    let mut seen: Vec<Read> = reads.iter().copied().chain(told).collect();
    for read in &seen {
        let least = ends.partition_point(|end| *end < read.begin) as u64;
        let most = begins.partition_point(|begin| *begin <= read.end) as u64;
        if read.value < least || read.value > most {
            let what = format!(
                "the read {} shows {}; {least} increments were acknowledged before it, and {most} had \
                 begun when it ended",
                read.interval(),
                read.value
            );
            return Err(Broken::new(RULE, what));
        }
    }
    check_order(&mut seen)?;
    check_values(increments)?;
    Ok(Checked::new([
        ("acknowledged", with(Outcome::Acknowledged).count() as u64),
        ("unknown", with(Outcome::Unknown).count() as u64),
        ("reads", reads.len() as u64),
    ]))
}

/// No read shows less than one that had ended before it began.
fn check_order(reads: &mut [Read]) -> Result<()> {
    let mut by_end = reads.to_vec();
    by_end.sort_by_key(|read| read.end);
    reads.sort_by_key(|read| read.begin);
    let mut ended = by_end.into_iter().peekable();
    let mut highest: Option<Read> = None;
    for read in reads.iter() {
        while let Some(earlier) = ended.next_if(|earlier| earlier.end < read.begin) {
            if highest.is_none_or(|known| known.value < earlier.value) {
                highest = Some(earlier);
            }
        }
        if let Some(earlier) = highest.filter(|earlier| earlier.value > read.value) {
            let what = format!(
                "the read {} shows {}, and the later one {} only {}",
                earlier.interval(),
                earlier.value,
                read.interval(),
                read.value
            );
            return Err(Broken::new(RULE, what));
        }
    }
    Ok(())
}

fn check_values(increments: &[Increment]) -> Result<()> {
    let mut values: BTreeMap<u64, &Increment> = BTreeMap::new();
    let acknowledged = increments
        .iter()
        .filter(|op| op.outcome == Outcome::Acknowledged);
    for increment in acknowledged {
        let Some(value) = increment.value else {
            continue;
        };
        if let Some(other) = values.insert(value, increment) {
            let what = format!(
                "the increments {} and {} both made it {value}: one of them is lost",
                other.interval, increment.interval
            );
            return Err(Broken::new(RULE, what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn increment(begin: u64, end: Option<u64>, value: Option<u64>) -> Increment {
        Increment {
            interval: Interval { begin, end },
            outcome: match end {
                Some(_) => Outcome::Acknowledged,
                None => Outcome::Unknown,
            },
            value,
        }
    }

    fn read(begin: u64, value: u64) -> Read {
        Read {
            begin,
            end: begin + 5,
            value,
        }
    }

    fn why(increments: &[Increment], reads: &[Read]) -> String {
        match check(increments, reads) {
            Ok(_) => String::new(),
            Err(broken) => broken.explanation,
        }
    }

    #[test]
    fn counts_are_exact() {
        let two = [
            increment(0, Some(10), None),
            increment(5, Some(15), None),
            increment(30, None, None),
        ];
        for reads in [
            &[read(2, 0), read(8, 1), read(9, 2), read(20, 2)][..],
            &[read(40, 2), read(50, 3), read(60, 3)],
        ] {
            assert_eq!(why(&two, reads), "");
        }
        assert!(why(&two, &[read(20, 1)]).contains("2 increments were acknowledged"));
        assert!(why(&two, &[read(20, 3)]).contains("shows 3"));
        assert!(why(&two, &[read(50, 4)]).contains("shows 4"));
        assert!(why(&two, &[read(50, 3), read(60, 2)]).contains("only 2"));
        let mut refused = increment(0, Some(10), None);
        refused.outcome = Outcome::Refused;
        assert!(why(&[refused], &[read(20, 1)]).contains("shows 1"));
    }

    #[test]
    fn values_that_were_told_are_reads_too() {
        let mut told = vec![
            increment(0, Some(10), Some(1)),
            increment(5, Some(15), Some(2)),
        ];
        assert_eq!(why(&told, &[read(20, 2)]), "");
        told[1].value = Some(1);
        assert!(why(&told, &[read(20, 2)]).contains("both made it 1"));
        told.push(increment(20, Some(30), Some(1)));
        assert!(why(&told, &[]).contains("shows 1"));
    }
}
