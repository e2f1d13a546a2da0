//! A page of committed rows with the transaction's own writes merged in.

use crate::kv::{Key, ScanPage, Value};
use crate::read_set::successor;
use types::Timestamp;

/// The timestamp of a transaction's own writes, which have none yet.
pub const OWN_WRITE: Timestamp = Timestamp::MAX;

/// Merges `own` (in scan order, `None` deletes) into `page`. `own_last` is the last of `own` if the
/// buffer has more behind it. The result covers what both cover, and may be empty with a `resume`.
pub(crate) fn merge(
    own: Vec<(Key, Option<Value>)>,
    own_last: Option<Key>,
    page: ScanPage,
    reverse: bool,
    limit: usize,
    limit_bytes: usize,
) -> ScanPage {
    if own.is_empty() {
        return page;
    }
    let own_resume = own_last.map(|last| if reverse { last } else { successor(&last) });
    let resume = match (own_resume, page.resume) {
        (Some(a), Some(b)) => Some(if reverse { a.max(b) } else { a.min(b) }),
        (a, b) => a.or(b),
    };
    let covered = |key: &Key| match &resume {
        Some(bound) if reverse => key >= bound,
        Some(bound) => key < bound,
        None => true,
    };
    let before = |a: &Key, b: &Key| if reverse { a > b } else { a < b };

    let mut rows = Vec::with_capacity(page.rows.len());
    let mut bytes = 0;
    let mut own = own.into_iter().filter(|(key, _)| covered(key)).peekable();
    let mut committed = page
        .rows
        .into_iter()
        .filter(|(key, _, _)| covered(key))
        .peekable();
    loop {
        let take_own = match (own.peek(), committed.peek()) {
            (None, None) => break,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((mine, _)), Some((theirs, _, _))) => !before(theirs, mine),
        };
        if !rows.is_empty() && (rows.len() >= limit || bytes >= limit_bytes) {
            let last = rows.last().map(|(key, _, _): &(Key, _, _)| key.clone());
            let resume = last.map(|last| if reverse { last } else { successor(&last) });
            return ScanPage { rows, resume };
        }
        let row = if take_own {
            let Some((key, value)) = own.next() else {
                break;
            };
            if committed
                .peek()
                .is_some_and(|(theirs, _, _)| *theirs == key)
            {
                committed.next();
            }
            value.map(|value| (key, value, OWN_WRITE))
        } else {
            committed.next()
        };
        if let Some(row) = row {
            bytes += row.0.len() + row.1.len();
            rows.push(row);
        }
    }
    ScanPage { rows, resume }
}
