//! A cursor of DECLARE: rows that come once, and those that can be gone back to.
//!
//! Rows that were fetched stay in memory, so that FETCH PRIOR finds them. A cursor that says nothing of
//! SCROLL forgets them when they are too many ([`KEPT_ROWS`]) and goes on forward only; PostgreSQL
//! leaves open which of these can go back. One with SCROLL keeps all, up to [`SCROLL_ROWS`].

use crate::response::{ResultColumn, RowCursor, RowSet};
use crate::statement::FetchCount;
use std::sync::Arc;
use types::{Error, Result, Row, SqlState};

/// Rows that a cursor without SCROLL keeps to go back to: what an interactive user looks through.
const KEPT_ROWS: usize = 10_000;
/// Rows that a cursor with SCROLL may have passed over: they are all in memory.
const SCROLL_ROWS: usize = 10_000_000;

pub(super) struct Cursor {
    /// WITH HOLD: outlives its transaction.
    pub hold: bool,
    rows: RowCursor,
    scroll: Option<bool>,
    /// What came so far, if it can be gone back to.
    passed: Option<Vec<Row>>,
    /// The current row, from 1; 0 is before the first, one more than all is after the last.
    position: usize,
    /// How many rows came so far.
    came: usize,
    at_end: bool,
}

impl Cursor {
    pub fn new(set: RowSet, hold: bool, scroll: Option<bool>) -> Cursor {
        Cursor {
            hold,
            rows: RowCursor::new(set),
            scroll,
            passed: (scroll != Some(false)).then(Vec::new),
            position: 0,
            came: 0,
            at_end: false,
        }
    }

    pub fn columns(&self) -> &Arc<[ResultColumn]> {
        &self.rows.columns
    }

    /// Moves, and gives the rows on the way.
    pub async fn fetch(&mut self, count: FetchCount) -> Result<Vec<Row>> {
        match count {
            FetchCount::All => self.forward(usize::MAX).await,
            FetchCount::Rows(count) if count > 0 => {
                self.forward(usize::try_from(count).unwrap_or(usize::MAX))
                    .await
            }
            FetchCount::Rows(0) | FetchCount::Relative(0) => self.current(),
            FetchCount::Rows(count) => self.backward(magnitude(count)),
            FetchCount::BackwardAll => self.backward(usize::MAX),
            FetchCount::Relative(count) if count > 0 => {
                let skipped = magnitude(count) - 1;
                if self.forward(skipped).await?.len() < skipped {
                    self.forward(1).await?;
                    return Ok(Vec::new());
                }
                self.forward(1).await
            }
            FetchCount::Relative(count) => {
                let target = self.position.saturating_sub(magnitude(count));
                self.go_to(target).await
            }
            FetchCount::Absolute(count) if count >= 0 => self.go_to(magnitude(count)).await,
            FetchCount::Absolute(count) => {
                self.must_scroll()?;
                self.read(usize::MAX).await?;
                let target = (self.came + 1).saturating_sub(magnitude(count));
                self.go_to(target).await
            }
        }
    }

    async fn forward(&mut self, count: usize) -> Result<Vec<Row>> {
        let from = self.position.min(self.came);
        let until = from.saturating_add(count);
        let fresh = self.read(until).await?;
        let kept = match &self.passed {
            Some(passed) if from < passed.len() => passed[from..until.min(passed.len())].to_vec(),
            _ => fresh,
        };
        self.position = match self.at_end && until > self.came {
            true => self.came + 1,
            false => until.min(self.came),
        };
        self.forget_if_too_many();
        Ok(kept)
    }

    fn backward(&mut self, count: usize) -> Result<Vec<Row>> {
        let passed = self.must_scroll()?;
        let end = self.position.saturating_sub(1).min(passed.len());
        let start = end.saturating_sub(count);
        let rows = passed[start..end].iter().rev().cloned().collect();
        self.position = match count > end {
            true => 0,
            false => start + 1,
        };
        Ok(rows)
    }

    fn current(&mut self) -> Result<Vec<Row>> {
        let position = self.position;
        let passed = self.must_scroll()?;
        let row = position.checked_sub(1).and_then(|at| passed.get(at));
        Ok(row.cloned().into_iter().collect())
    }

    /// To the row with this number.
    async fn go_to(&mut self, target: usize) -> Result<Vec<Row>> {
        if target > self.position {
            let skipped = target - 1 - self.position;
            let before = self.position;
            self.forward(skipped).await?;
            if self.position < before + skipped || self.position > self.came {
                return Ok(Vec::new());
            }
            return self.forward(1).await;
        }
        self.must_scroll()?;
        self.position = target;
        self.current()
    }

    /// Reads on until `until` rows came. The rows that came are given only if they are not kept.
    async fn read(&mut self, until: usize) -> Result<Vec<Row>> {
        if until <= self.came {
            return Ok(Vec::new());
        }
        let wanted = until - self.came;
        let fresh = self.rows.take(wanted).await?;
        self.at_end |= fresh.len() < wanted;
        self.came += fresh.len();
        if self.scroll == Some(true) && self.came > SCROLL_ROWS {
            return Err(Error::new(
                SqlState::PROGRAM_LIMIT_EXCEEDED,
                format!("a cursor with SCROLL may have at most {SCROLL_ROWS} rows"),
            ));
        }
        match &mut self.passed {
            Some(passed) => {
                passed.extend(fresh);
                Ok(Vec::new())
            }
            None => Ok(fresh),
        }
    }

    fn forget_if_too_many(&mut self) {
        let many = self.passed.as_ref().is_some_and(|p| p.len() > KEPT_ROWS);
        // Rows that were gone back over are still to be given.
        if self.scroll.is_none() && many && self.position >= self.came {
            self.passed = None;
        }
    }

    fn must_scroll(&self) -> Result<&Vec<Row>> {
        self.passed.as_ref().ok_or_else(|| {
            Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                "cursor can only scan forward",
            )
            .hint("Declare it with SCROLL option to enable backward scan.")
        })
    }
}

fn magnitude(count: i64) -> usize {
    usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX)
}
