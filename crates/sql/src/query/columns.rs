//! Decoded columns of tables, kept in memory for the next scan.
//!
//! A scan of a whole table costs most of an analytic query: every row is fetched from the store and
//! taken apart. Most rows do not change between two such queries. So a scan leaves the pages that it
//! has decoded here, as *portions*: the rows of a span of keys as they were at one timestamp, one
//! Arrow array a column.
//!
//! **When a portion may be used.** It was read at C, a statement reads at R. If no commit between the
//! two wrote into its span ([`txn::kv::Shards::changes`]), its rows at R are its rows at C. Then it counts as
//! read at R too. Otherwise it is read again, alone: a write costs the next scan one page, not the table.
//! A transaction's own writes are not in the store: spans that have some are read past this cache.
//! What columns *mean* (type, value for rows older than the column) is compared too, because a
//! definition can change without a row being rewritten. A table that is rewritten gets new keys, and
//! so a new name here.
//!
//! **Bound.** Bytes of all portions. Above it the columns that were used longest ago go, but never for
//! more of the same scan: of a table that is too large a part stays. Queries that need memory
//! get it from here (`super::memory`).
//!
//! What is not here: spans of bounded scans, unless somebody read the whole table. Portions do not grow
//! together again when they lose rows, except those that lose all.

use super::facts::{Facts, statistics_of};
use super::scan::PAGE_ROWS;
use crate::catalog::descriptor::Table;
use crate::context::ReadView;
use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::common::ColumnStatistics;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use txn::kv::{Changes, Key, Span};
use types::{SqlType, Timestamp};

/// Columns that nobody has asked for may fill this part (1/n) of the cache.
const SPARE_SHARE: usize = 2;
/// Most of them that one scan decodes; more would slow it down noticeably.
const SPARE_COLUMNS: usize = 32;
/// Bookkeeping of a portion beside its keys and columns, in bytes.
const PORTION_BYTES: usize = 192;
/// Bookkeeping of one of its columns beside the array, in bytes.
const COLUMN_BYTES: usize = 256;

/// See the module. One per instance.
#[derive(Debug)]
pub struct ColumnCache {
    limit_bytes: usize,
    /// What the cache and the running queries may hold together.
    shared_bytes: usize,
    /// What the running queries hold.
    lent_bytes: AtomicUsize,
    /// The same as in the state, readable without the lock.
    bytes: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<u32, CachedTable>,
    bytes: usize,
    /// Counts scans, to know which was the first to use something.
    scans: u64,
}

#[derive(Debug, Default)]
struct CachedTable {
    /// In key order; they do not overlap.
    portions: Vec<Portion>,
    columns: BTreeMap<usize, Usage>,
    /// The last scan of it.
    used: u64,
}

/// What is known of a column over all portions.
#[derive(Debug, Default)]
struct Usage {
    /// The last scan of it.
    used: u64,
    /// `None`: portions have changed since.
    statistics: Option<ColumnStatistics>,
}

#[derive(Debug)]
struct Portion {
    span: Span,
    /// The newest timestamp for which the rows are known to be these.
    at: Timestamp,
    rows: usize,
    columns: BTreeMap<usize, Column>,
}

#[derive(Debug)]
struct Column {
    meaning: Meaning,
    array: ArrayRef,
    facts: Facts,
    bytes: usize,
}

/// What of a column's definition decides how stored rows are decoded.
#[derive(Clone, Debug, PartialEq)]
struct Meaning {
    sql_type: SqlType,
    missing: Option<String>,
}

impl Meaning {
    fn of(table: &Table, position: usize) -> Option<Meaning> {
        let column = table.columns.get(position).filter(|c| !c.dropped)?;
        Some(Meaning {
            sql_type: column.sql_type.clone(),
            missing: column.missing.clone(),
        })
    }
}

/// Where the rows of a part of a span are.
#[derive(Debug)]
pub(crate) enum Found {
    /// Here: the wanted columns in the order in which they were asked for. The rows may reach over the
    /// ends of the span that was asked for.
    Memory { rows: usize, arrays: Vec<ArrayRef> },
    /// In the store. There were about so many rows; `also` are columns that would be good to have
    /// here, if they cost little; `keep` says that this page may come here.
    Store {
        span: Span,
        rows: usize,
        also: Vec<usize>,
        keep: bool,
    },
    /// In the store, and nothing is known of them.
    Gap(Span),
}

/// The answer to a scan's question.
pub(crate) struct Lookup {
    /// All of the span, in key order.
    pub parts: Vec<Found>,
    /// One per wanted column, or none at all.
    pub statistics: Vec<ColumnStatistics>,
    /// Names the scan for [`ColumnCache::keep`].
    pub scan: u64,
}

/// A page of rows that a scan has decoded.
pub(crate) struct Page {
    pub span: Span,
    pub rows: usize,
    pub columns: Vec<(usize, ArrayRef)>,
}

impl ColumnCache {
    /// At most `limit_bytes`, and with the queries at most `shared_bytes`.
    pub fn new(limit_bytes: usize, shared_bytes: usize) -> Self {
        ColumnCache {
            limit_bytes,
            shared_bytes,
            lent_bytes: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            state: Mutex::default(),
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The running queries hold so much now: gives way to them.
    pub fn lend(&self, bytes: usize) {
        self.lent_bytes.store(bytes, Ordering::Relaxed);
        if self.bytes() > self.limit() {
            let mut state = self.state.lock();
            state.shrink(self.limit(), u64::MAX);
            self.bytes.store(state.bytes, Ordering::Relaxed);
        }
    }

    fn limit(&self) -> usize {
        let lent = self.lent_bytes.load(Ordering::Relaxed);
        self.limit_bytes.min(self.shared_bytes.saturating_sub(lent))
    }

    /// Where the columns at these positions are for `view`, over a span of the table's rows.
    pub(crate) fn find(
        &self,
        table: &Table,
        positions: &[usize],
        span: &Span,
        view: &ReadView,
    ) -> Lookup {
        let mut state = self.state.lock();
        state.scans += 1;
        let scan = state.scans;
        let unknown = Lookup {
            parts: vec![Found::Gap(span.clone())],
            statistics: Vec::new(),
            scan,
        };
        let Some(cached) = state.tables.get_mut(&table.data_id) else {
            drop(state);
            // From now on the shards remember what changes in the table.
            view.shards.changes(span, view.at, view.at);
            return unknown;
        };
        cached.used = scan;
        for position in positions {
            cached.columns.entry(*position).or_default().used = scan;
        }
        let range = cached.overlapping(span);
        let Some(changed) = cached.changed(range.clone(), view) else {
            if cached.portions[range].iter().all(|p| p.at <= view.at) {
                state.forget(table.data_id);
                self.bytes.store(state.bytes, Ordering::Relaxed);
            }
            return unknown;
        };
        let wanted: Option<Vec<Meaning>> =
            positions.iter().map(|p| Meaning::of(table, *p)).collect();
        let Some(wanted) = wanted else {
            return unknown;
        };
        let wanted: Vec<(usize, Meaning)> = positions.iter().copied().zip(wanted).collect();
        let spare = match self.bytes() < self.limit() / SPARE_SHARE {
            true => cached.spare_columns(table),
            false => Vec::new(),
        };
        let mut parts = Vec::with_capacity(range.len() + 1);
        let mut reached = span.start.clone();
        let mut mergeable = false;
        for (portion, changed) in cached.portions[range].iter_mut().zip(changed) {
            if reached < portion.span.start {
                parts.push(Found::Gap(Span {
                    start: reached,
                    end: portion.span.start.clone(),
                }));
            }
            reached = portion.span.end.clone();
            if !changed {
                portion.at = portion.at.max(view.at);
            }
            let own = view.has_own_writes(&portion.span);
            let arrays = match changed || own {
                true => None,
                false => portion.arrays(&wanted),
            };
            if let Some(arrays) = arrays {
                let rows = portion.rows;
                parts.push(Found::Memory { rows, arrays });
                mergeable = false;
                continue;
            }
            let part = Span {
                start: portion.span.start.clone().max(span.start.clone()),
                end: portion.span.end.clone().min(span.end.clone()),
            };
            let also = match changed {
                true => portion.columns.keys().copied().collect(),
                false => spare.clone(),
            };
            let also = also.into_iter().filter(|p| !positions.contains(p));
            let keep = !own && part == portion.span && (!changed || portion.at <= view.at);
            let store = Found::Store {
                span: part,
                rows: portion.rows,
                also: also.collect(),
                keep,
            };
            // Small portions that have changed become one.
            let merged = changed && mergeable && parts.last_mut().is_some_and(|p| p.merge(&store));
            if !merged {
                parts.push(store);
            }
            mergeable = changed && keep;
        }
        if reached < span.end {
            parts.push(Found::Gap(Span {
                start: reached,
                end: span.end.clone(),
            }));
        }
        let statistics = positions.iter().map(|p| cached.statistics(*p)).collect();
        Lookup {
            parts,
            statistics,
            scan,
        }
    }

    /// Takes a page that a scan has read at `view`, without own writes. False: there is no room for
    /// more of this scan.
    pub(crate) fn keep(&self, table: &Table, scan: u64, view: &ReadView, page: Page) -> bool {
        let mut columns = BTreeMap::new();
        let mut bytes = PORTION_BYTES + page.span.start.len() + page.span.end.len();
        for (position, mut array) in page.columns {
            let Some(meaning) = Meaning::of(table, position) else {
                continue;
            };
            array.shrink_to_fit();
            let column = Column {
                meaning,
                facts: Facts::of(array.as_ref()),
                bytes: COLUMN_BYTES + array.get_buffer_memory_size(),
                array,
            };
            bytes += column.bytes;
            columns.insert(position, column);
        }
        if bytes > self.limit() {
            return false;
        }
        let portion = Portion {
            span: page.span,
            at: view.at,
            rows: page.rows,
            columns,
        };
        let mut state = self.state.lock();
        let fits = state.put(table.data_id, scan, portion, view, self.limit());
        self.bytes.store(state.bytes, Ordering::Relaxed);
        fits
    }
}

impl Found {
    /// Takes a span of the store behind this one in, if both together are a page.
    fn merge(&mut self, next: &Found) -> bool {
        let (
            Found::Store {
                span,
                rows,
                also,
                keep,
            },
            Found::Store {
                span: next_span,
                rows: next_rows,
                also: next_also,
                keep: next_keep,
            },
        ) = (self, next)
        else {
            return false;
        };
        if span.end != next_span.start || *rows + next_rows > PAGE_ROWS || keep != next_keep {
            return false;
        }
        span.end = next_span.end.clone();
        *rows += next_rows;
        let new = next_also.iter().filter(|position| !also.contains(position));
        let new: Vec<usize> = new.copied().collect();
        also.extend(new);
        true
    }
}

impl Portion {
    fn bytes(&self) -> usize {
        let columns: usize = self.columns.values().map(|column| column.bytes).sum();
        PORTION_BYTES + self.span.start.len() + self.span.end.len() + columns
    }

    fn arrays(&self, wanted: &[(usize, Meaning)]) -> Option<Vec<ArrayRef>> {
        let arrays = wanted.iter().map(|(position, meaning)| {
            let column = self.columns.get(position)?;
            (column.meaning == *meaning).then(|| column.array.clone())
        });
        arrays.collect()
    }

    /// Whether a commit at `commit` lies between this portion and a read at `at`.
    fn is_parted(&self, commit: Timestamp, at: Timestamp) -> bool {
        self.at.min(at) < commit && commit <= self.at.max(at)
    }
}

impl CachedTable {
    /// Places of the portions that share keys with a span.
    fn overlapping(&self, span: &Span) -> Range<usize> {
        let from = self.portions.partition_point(|p| p.span.end <= span.start);
        let to = self.portions.partition_point(|p| p.span.start < span.end);
        from..to.max(from)
    }

    /// The portion behind this place becomes a part of the one there, if it has no rows: where rows are
    /// deleted from one end, no portions pile up. Returns the bytes that it frees.
    fn absorb_empty(&mut self, place: usize) -> usize {
        let [before, empty, ..] = &mut self.portions[place..] else {
            return 0;
        };
        let fits = before.span.end == empty.span.start && before.at == empty.at;
        if empty.rows > 0 || !fits {
            return 0;
        }
        let bytes = before.bytes() + empty.bytes();
        before.span.end = empty.span.end.clone();
        let left = before.bytes();
        self.portions.remove(place + 1);
        bytes - left
    }

    /// For each of these portions whether a commit lies between it and `view`. `None`: not known.
    fn changed(&self, range: Range<usize>, view: &ReadView) -> Option<Vec<bool>> {
        let portions = &self.portions[range];
        let mut changed = vec![false; portions.len()];
        let (Some(first), Some(last)) = (portions.first(), portions.last()) else {
            return Some(changed);
        };
        // Whole portions, also where the scan wants a part of them.
        let span = Span {
            start: first.span.start.clone(),
            end: last.span.end.clone(),
        };
        let times = portions.iter().map(|portion| portion.at);
        let after = times.clone().fold(view.at, Timestamp::min);
        let upto = times.fold(view.at, Timestamp::max);
        if after == upto {
            return Some(changed);
        }
        let Changes::Keys(keys) = view.shards.changes(&span, after, upto) else {
            return None;
        };
        for (commit, key) in keys {
            let place = portions.partition_point(|p| p.span.end <= key);
            if let Some(portion) = portions.get(place)
                && portion.span.start <= key
                && portion.is_parted(commit, view.at)
            {
                changed[place] = true;
            }
        }
        Some(changed)
    }

    /// Columns that no scan has asked for yet. Whoever reads a table for a second set of columns will
    /// want a third, and most of a row's cost is to fetch it.
    fn spare_columns(&self, table: &Table) -> Vec<usize> {
        let columns = table.live_columns().map(|(position, _)| position);
        let columns = columns.filter(|position| !self.columns.contains_key(position));
        columns.take(SPARE_COLUMNS).collect()
    }

    fn statistics(&mut self, position: usize) -> ColumnStatistics {
        let usage = self.columns.entry(position).or_default();
        let portions = self.portions.iter();
        let facts = portions.filter_map(|p| p.columns.get(&position).map(|c| &c.facts));
        let statistics = usage.statistics.get_or_insert_with(|| statistics_of(facts));
        statistics.clone()
    }
}

impl State {
    fn forget(&mut self, table: u32) {
        if let Some(cached) = self.tables.remove(&table) {
            let freed: usize = cached.portions.iter().map(Portion::bytes).sum();
            self.bytes -= freed;
        }
    }

    /// Adds a portion read at `view`, if what is here is not newer. False: there is no room.
    fn put(
        &mut self,
        table: u32,
        scan: u64,
        mut portion: Portion,
        view: &ReadView,
        limit: usize,
    ) -> bool {
        let cached = self.tables.entry(table).or_default();
        cached.used = cached.used.max(scan);
        let range = cached.overlapping(&portion.span);
        let same = range.len() == 1 && cached.portions[range.start].span == portion.span;
        if same && cached.changed(range.clone(), view) == Some(vec![false]) {
            // The same rows, so the columns that are here stay.
            let old = &mut cached.portions[range.start];
            if old.rows == portion.rows {
                portion.at = portion.at.max(old.at);
                for (position, column) in std::mem::take(&mut old.columns) {
                    self.bytes -= column.bytes;
                    portion.columns.entry(position).or_insert(column);
                }
            }
        }
        if cached.portions[range.clone()]
            .iter()
            .any(|p| p.at > portion.at)
        {
            return true;
        }
        for position in portion.columns.keys() {
            cached.columns.entry(*position).or_default().statistics = None;
        }
        let span = portion.span.clone();
        self.bytes += portion.bytes();
        let place = range.start;
        let removed = cached.portions.splice(range, [portion]);
        self.bytes -= removed.map(|portion| portion.bytes()).sum::<usize>();
        if place > 0 {
            self.bytes -= cached.absorb_empty(place - 1);
        }
        if self.bytes <= limit || self.shrink(limit, scan) {
            return true;
        }
        if let Some(cached) = self.tables.get_mut(&table) {
            let range = cached.overlapping(&span);
            let removed = cached.portions.drain(range);
            self.bytes -= removed.map(|portion| portion.bytes()).sum::<usize>();
        }
        false
    }

    /// Drops what was used longest ago, and before `scan`, until the limit is kept. Whether it is.
    fn shrink(&mut self, limit: usize, scan: u64) -> bool {
        while self.bytes > limit {
            let columns = self.tables.iter().flat_map(|(table, cached)| {
                let columns = cached.columns.iter();
                let columns =
                    columns.map(|(position, usage)| (usage.used, *table, Some(*position)));
                let bare = cached
                    .columns
                    .is_empty()
                    .then_some((cached.used, *table, None));
                columns.chain(bare)
            });
            let oldest = columns.filter(|(used, ..)| *used < scan).min();
            let Some((_, table, position)) = oldest else {
                return false;
            };
            match position {
                Some(position) => self.forget_column(table, position),
                None => self.forget(table),
            }
        }
        true
    }

    fn forget_column(&mut self, table: u32, position: usize) {
        let Some(cached) = self.tables.get_mut(&table) else {
            return;
        };
        cached.columns.remove(&position);
        for portion in &mut cached.portions {
            if let Some(column) = portion.columns.remove(&position) {
                self.bytes -= column.bytes;
            }
        }
    }
}

/// The span of a page that was read from the start of `span`, and ended before `resume` if at all.
pub(crate) fn page_span(span: &Span, resume: Option<&Key>) -> Span {
    let end = resume.map_or(&span.end, |resume| resume.min(&span.end));
    Span {
        start: span.start.clone(),
        end: end.clone(),
    }
}
