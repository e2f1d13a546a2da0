//! Reading many versions: rows of a key span as they were at one timestamp.

use super::{Present, decode_version, get_from_history, present_value};
use crate::engine::{KeyRange, Keyspace, Pairs, Result, Snapshot};
use bytes::Bytes;
use std::ops::Bound;
use types::Timestamp;

/// User key, value, commit timestamp.
pub type Row = (Bytes, Bytes, Timestamp);

/// Some rows of a span, and where to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub rows: Vec<Row>,
    /// Set when a limit ended the page: the `start` of the next page, or its `end` in reverse.
    pub resume: Option<Bytes>,
}

/// The rows of `[start, end)` visible at `at`, in key order or its reverse, at most `limit_rows`
/// of them; the page ends after the row that reaches `limit_bytes` of keys and values.
pub fn scan(
    snapshot: &dyn Snapshot,
    start: &[u8],
    end: &[u8],
    at: Timestamp,
    reverse: bool,
    limit_rows: usize,
    limit_bytes: usize,
) -> Result<Page> {
    let mut page = Page::default();
    let mut bytes = 0;
    if limit_rows == 0 {
        page.resume = Some(Bytes::copy_from_slice(if reverse { end } else { start }));
        return Ok(page);
    }
    for row in Rows::new(snapshot, start, end, at, reverse) {
        let row = row?;
        bytes += row.0.len() + row.1.len();
        page.rows.push(row);
        if page.rows.len() >= limit_rows || bytes >= limit_bytes {
            page.resume = page
                .rows
                .last()
                .map(|(key, _, _)| resume_after(key, reverse));
            break;
        }
    }
    Ok(page)
}

/// Shows what [`scan`] would collect, row by row, to `show`: key and value, until it says false or a
/// limit is reached. Returns where to go on. Nothing is copied or kept. What cannot be read ends the page
/// before it: an error means that nothing was shown.
#[expect(
    clippy::too_many_arguments,
    reason = "the same as scan's, and where the rows go"
)]
pub fn visit(
    snapshot: &dyn Snapshot,
    start: &[u8],
    end: &[u8],
    at: Timestamp,
    reverse: bool,
    limit_rows: usize,
    limit_bytes: usize,
    show: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<Option<Bytes>> {
    if limit_rows == 0 {
        return Ok(Some(Bytes::copy_from_slice(if reverse {
            end
        } else {
            start
        })));
    }
    let mut shown = None;
    let ended = visit_until(
        snapshot.scan(Keyspace::Data, range(start, end), reverse),
        |key| get_from_history(snapshot, key, at),
        at,
        (limit_rows, limit_bytes),
        &mut shown,
        show,
    );
    match (ended, shown) {
        (Ok(true), _) => Ok(None),
        // The next page begins with what failed.
        (Ok(false) | Err(_), Some(last)) => Ok(Some(resume_after(&last, reverse))),
        (Ok(false), None) => Ok(None),
        (Err(error), None) => Err(error),
    }
}

/// Whether it came to the end of the span; `shown` is the last key that was shown.
fn visit_until(
    pairs: Pairs<'_>,
    history: impl Fn(&[u8]) -> Result<Option<(Bytes, Timestamp)>>,
    at: Timestamp,
    (limit_rows, limit_bytes): (usize, usize),
    shown: &mut Option<Bytes>,
    show: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<bool> {
    let (mut rows, mut bytes) = (0, 0);
    for pair in pairs {
        let (key, raw) = pair?;
        let old;
        let value = match present_value(&key, &raw, at)? {
            Present::Value(value) => value,
            Present::Deleted => continue,
            Present::Newer => match history(&key)? {
                Some((value, _)) => {
                    old = value;
                    &old[..]
                }
                None => continue,
            },
        };
        rows += 1;
        bytes += key.len() + value.len();
        let goes_on = show(&key, value) && rows < limit_rows && bytes < limit_bytes;
        *shown = Some(key);
        if !goes_on {
            return Ok(false);
        }
    }
    Ok(true)
}

fn range(start: &[u8], end: &[u8]) -> KeyRange {
    (
        Bound::Included(Bytes::copy_from_slice(start)),
        Bound::Excluded(Bytes::copy_from_slice(end)),
    )
}

/// Going forward the next page starts just after `key`, in reverse it ends (exclusively) at it.
fn resume_after(key: &Bytes, reverse: bool) -> Bytes {
    if reverse {
        return key.clone();
    }
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Bytes::from(next)
}

/// The rows of a span one after the other, without keeping them.
pub struct Rows<'a> {
    snapshot: &'a dyn Snapshot,
    newest: Pairs<'a>,
    at: Timestamp,
}

impl<'a> Rows<'a> {
    pub fn new(
        snapshot: &'a dyn Snapshot,
        start: &[u8],
        end: &[u8],
        at: Timestamp,
        reverse: bool,
    ) -> Self {
        let range = range(start, end);
        Rows {
            snapshot,
            newest: snapshot.scan(Keyspace::Data, range, reverse),
            at,
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (key, raw) = match self.newest.next()? {
                Ok(pair) => pair,
                Err(error) => return Some(Err(error)),
            };
            let version = match decode_version(&key, raw) {
                Ok(version) => version,
                Err(error) => return Some(Err(error)),
            };
            if version.timestamp <= self.at {
                match version.value {
                    Some(value) => return Some(Ok((key, value, version.timestamp))),
                    None => continue,
                }
            }
            match get_from_history(self.snapshot, &key, self.at) {
                Ok(Some((value, timestamp))) => return Some(Ok((key, value, timestamp))),
                Ok(None) => continue,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
