//! The states of [`super::folded`]: sums, extremes and spreads with PostgreSQL's results.

use super::folded::FoldKind;
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use types::{Datum, Error, Interval, Numeric, Result};

#[derive(Debug)]
pub(super) enum Fold {
    Numeric(NumericSum),
    Interval { sum: Interval, count: u64 },
    Extreme(Extreme),
    Spread(Spread),
}

impl Fold {
    /// `moving`: rows will be taken out again, oldest first.
    pub fn new(kind: FoldKind, moving: bool) -> Fold {
        let extreme = |wanted| {
            Fold::Extreme(Extreme {
                wanted,
                best: Datum::Null,
                window: moving.then(VecDeque::new),
            })
        };
        match kind {
            FoldKind::NumericSum => Fold::Numeric(NumericSum::default()),
            FoldKind::IntervalSum => Fold::Interval {
                sum: Interval::new(0, 0, 0),
                count: 0,
            },
            FoldKind::Least => extreme(Ordering::Less),
            FoldKind::Greatest => extreme(Ordering::Greater),
            FoldKind::Spread { root, sample } => Fold::Spread(Spread {
                root,
                sample,
                ..Spread::default()
            }),
        }
    }

    /// Takes in a value that is not NULL.
    pub fn add(&mut self, value: Datum) -> Result<()> {
        match self {
            Fold::Numeric(sum) => sum.add(&number(&value)?),
            Fold::Interval { sum, count } => {
                *sum = sum.checked_add(&length(&value)?)?;
                *count += 1;
                Ok(())
            }
            Fold::Extreme(extreme) => {
                extreme.add(value);
                Ok(())
            }
            Fold::Spread(spread) => spread.add(&number(&value)?),
        }
    }

    /// Takes out a value that was taken in, oldest first.
    pub fn remove(&mut self, value: &Datum) -> Result<()> {
        match self {
            Fold::Numeric(sum) => sum.remove(&number(value)?),
            Fold::Interval { sum, count } => {
                *sum = sum.checked_sub(&length(value)?)?;
                *count = count.saturating_sub(1);
                Ok(())
            }
            Fold::Extreme(extreme) => {
                extreme.remove_oldest();
                Ok(())
            }
            Fold::Spread(spread) => spread.remove(&number(value)?),
        }
    }

    /// Joins the state of another part of the group.
    pub fn merge(&mut self, state: &[Datum]) -> Result<()> {
        match (self, state) {
            (Fold::Spread(spread), [Datum::Int8(count), sum, squares]) => {
                spread.merge(*count as u64, &number(sum)?, &number(squares)?)
            }
            (_, [Datum::Null]) => Ok(()),
            // A part's result counts as one value.
            (fold, [part]) => fold.add(part.clone()),
            _ => Err(Error::internal("a state of another aggregate")),
        }
    }

    pub fn state(&self) -> Result<Vec<Datum>> {
        Ok(match self {
            Fold::Spread(spread) => vec![
                Datum::Int8(spread.sum.count as i64),
                Datum::Numeric(spread.sum.total()?),
                Datum::Numeric(spread.squares.total()?),
            ],
            _ => vec![self.finish()?],
        })
    }

    /// The result over what is in.
    pub fn finish(&self) -> Result<Datum> {
        Ok(match self {
            Fold::Numeric(sum) if sum.count == 0 => Datum::Null,
            Fold::Numeric(sum) => Datum::Numeric(sum.total()?),
            Fold::Interval { count: 0, .. } => Datum::Null,
            Fold::Interval { sum, .. } => Datum::Interval(*sum),
            Fold::Extreme(extreme) => extreme.finish(),
            Fold::Spread(spread) => spread.finish()?,
        })
    }

    /// Bytes on the heap, about.
    pub fn memory_size(&self) -> usize {
        match self {
            Fold::Extreme(extreme) => {
                extreme.best.memory_size()
                    + extreme
                        .window
                        .iter()
                        .flatten()
                        .map(Datum::memory_size)
                        .sum::<usize>()
            }
            _ => size_of::<Numeric>(),
        }
    }
}

fn number(value: &Datum) -> Result<Numeric> {
    Ok(match value {
        Datum::Numeric(v) => v.clone(),
        Datum::Int2(v) => Numeric::from(i64::from(*v)),
        Datum::Int4(v) => Numeric::from(i64::from(*v)),
        Datum::Int8(v) => Numeric::from(*v),
        _ => {
            return Err(Error::internal(
                "an aggregate of numbers over something else",
            ));
        }
    })
}

fn length(value: &Datum) -> Result<Interval> {
    match value {
        Datum::Interval(v) => Ok(*v),
        _ => Err(Error::internal("a sum of intervals over something else")),
    }
}

/// A sum that shows as many digits as the finest of its summands.
#[derive(Debug)]
pub(super) struct NumericSum {
    count: u64,
    finite: Numeric,
    /// How many finite summands there are of each scale.
    scales: BTreeMap<u16, u64>,
    nans: u64,
    infinities: u64,
    negative_infinities: u64,
}

impl Default for NumericSum {
    fn default() -> Self {
        NumericSum {
            count: 0,
            finite: Numeric::ZERO,
            scales: BTreeMap::new(),
            nans: 0,
            infinities: 0,
            negative_infinities: 0,
        }
    }
}

impl NumericSum {
    fn special(&mut self, value: &Numeric) -> &mut u64 {
        if value.is_nan() {
            &mut self.nans
        } else if value.signum() > 0 {
            &mut self.infinities
        } else {
            &mut self.negative_infinities
        }
    }

    fn add(&mut self, value: &Numeric) -> Result<()> {
        self.count += 1;
        if value.is_finite() {
            self.finite = self.finite.add(value)?;
            *self.scales.entry(value.scale()).or_default() += 1;
        } else {
            *self.special(value) += 1;
        }
        Ok(())
    }

    fn remove(&mut self, value: &Numeric) -> Result<()> {
        self.count = self.count.saturating_sub(1);
        if !value.is_finite() {
            let special = self.special(value);
            *special = special.saturating_sub(1);
            return Ok(());
        }
        self.finite = self.finite.sub(value)?;
        if let Some(left) = self.scales.get_mut(&value.scale()) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.scales.remove(&value.scale());
            }
        }
        Ok(())
    }

    fn is_finite(&self) -> bool {
        self.nans + self.infinities + self.negative_infinities == 0
    }

    fn total(&self) -> Result<Numeric> {
        Ok(
            match (self.nans, self.infinities, self.negative_infinities) {
                (0, 0, 0) => {
                    let scale = self.scales.keys().next_back().copied().unwrap_or(0);
                    self.finite.round(i32::from(scale))
                }
                (0, _, 0) => Numeric::INFINITY,
                (0, 0, _) => Numeric::NEG_INFINITY,
                _ => Numeric::NAN,
            },
        )
    }
}

/// The least or greatest value; of equal ones the last.
#[derive(Debug)]
pub(super) struct Extreme {
    wanted: Ordering,
    best: Datum,
    /// The frame's values, if rows leave again.
    window: Option<VecDeque<Datum>>,
}

impl Extreme {
    fn better(&self, value: &Datum, best: &Datum) -> bool {
        let ordering = value.compare(best);
        best.is_null() || ordering == self.wanted || ordering == Ordering::Equal
    }

    fn add(&mut self, value: Datum) {
        match &mut self.window {
            Some(window) => window.push_back(value),
            None => {
                if self.better(&value, &self.best) {
                    self.best = value;
                }
            }
        }
    }

    fn remove_oldest(&mut self) {
        if let Some(window) = &mut self.window {
            window.pop_front();
        }
    }

    fn finish(&self) -> Datum {
        match &self.window {
            None => self.best.clone(),
            Some(window) => {
                let mut best = &Datum::Null;
                for value in window {
                    if self.better(value, best) {
                        best = value;
                    }
                }
                best.clone()
            }
        }
    }
}

/// Variance and standard deviation of exact numbers, as PostgreSQL's `numeric_stddev_internal`.
#[derive(Debug, Default)]
pub(super) struct Spread {
    root: bool,
    sample: bool,
    sum: NumericSum,
    squares: NumericSum,
}

impl Spread {
    fn add(&mut self, value: &Numeric) -> Result<()> {
        self.sum.add(value)?;
        self.squares.add(&value.mul(value)?)
    }

    fn remove(&mut self, value: &Numeric) -> Result<()> {
        self.sum.remove(value)?;
        self.squares.remove(&value.mul(value)?)
    }

    fn merge(&mut self, count: u64, sum: &Numeric, squares: &Numeric) -> Result<()> {
        if count > 0 {
            self.sum.add(sum)?;
            self.squares.add(squares)?;
            self.sum.count += count - 1;
        }
        Ok(())
    }

    fn finish(&self) -> Result<Datum> {
        let count = self.sum.count;
        if count < 1 + u64::from(self.sample) {
            return Ok(Datum::Null);
        }
        if !self.sum.is_finite() {
            return Ok(Datum::Numeric(Numeric::NAN));
        }
        let whole = |n: u64| Numeric::from_i128(i128::from(n), 0);
        let sum = self.sum.total()?;
        let over = whole(count)
            .mul(&self.squares.total()?)?
            .sub(&sum.mul(&sum)?)?;
        if over.signum() <= 0 {
            return Ok(Datum::Numeric(Numeric::ZERO));
        }
        let under = whole(count).mul(&whole(count - u64::from(self.sample)))?;
        let variance = over.div(&under)?;
        Ok(Datum::Numeric(if self.root {
            variance.sqrt_to_scale(variance.scale())?
        } else {
            variance
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(text: &str) -> Datum {
        Datum::Numeric(Numeric::parse(text).expect("a numeric"))
    }

    fn shown(fold: &Fold) -> String {
        match fold.finish().expect("a result") {
            Datum::Numeric(v) => v.to_string(),
            Datum::Null => "NULL".into(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_sum_has_the_finest_scale_that_is_in() {
        let mut sum = Fold::new(FoldKind::NumericSum, true);
        assert_eq!(shown(&sum), "NULL");
        for text in ["1.50", "2.5", "1e30"] {
            sum.add(numeric(text)).expect("a sum");
        }
        assert_eq!(shown(&sum), "1000000000000000000000000000004.00");
        sum.remove(&numeric("1.50")).expect("a sum");
        assert_eq!(shown(&sum), "1000000000000000000000000000002.5");
        sum.add(numeric("NaN")).expect("a sum");
        assert_eq!(shown(&sum), "NaN");
        sum.remove(&numeric("2.5")).expect("a sum");
        sum.remove(&numeric("NaN")).expect("a sum");
        assert_eq!(shown(&sum), "1000000000000000000000000000000");
    }

    #[test]
    fn spreads_are_postgresqls() {
        let spread = |root, sample, parts: &[&[i32]]| {
            let mut whole = Fold::new(FoldKind::Spread { root, sample }, false);
            for part in parts {
                let mut fold = Fold::new(FoldKind::Spread { root, sample }, false);
                for v in *part {
                    fold.add(Datum::Int4(*v)).expect("a value");
                }
                whole
                    .merge(&fold.state().expect("a state"))
                    .expect("a part");
            }
            shown(&whole)
        };
        let parts: &[&[i32]] = &[&[1, 2], &[], &[3, 5, 2]];
        assert_eq!(spread(true, true, parts), "1.5165750888103101");
        assert_eq!(spread(false, true, parts), "2.3000000000000000");
        assert_eq!(spread(true, false, parts), "1.3564659966250536");
        assert_eq!(spread(false, false, parts), "1.8400000000000000");
        assert_eq!(spread(false, true, &[&[7]]), "NULL");
        assert_eq!(spread(false, false, &[&[7]]), "0");
    }

    #[test]
    fn moving_extremes_forget() {
        let mut least = Fold::new(FoldKind::Least, true);
        for text in ["1", "1.0", "2"] {
            least.add(numeric(text)).expect("a value");
        }
        assert_eq!(shown(&least), "1.0");
        least.remove(&numeric("1")).expect("a value");
        least.remove(&numeric("1.0")).expect("a value");
        assert_eq!(shown(&least), "2");
    }
}
