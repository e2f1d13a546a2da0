//! Reading the rows of an access path.

use super::merge::Merge;
use crate::context::ReadView;
use crate::table_codec::{Access, Spans, TableCodec};
use smallvec::smallvec;
use std::collections::VecDeque;
use std::sync::Arc;
use txn::Transaction;
use txn::kv::{Key, Span, Value};
use types::Result;

/// Rows in the first page of a scan; each further page is twice as long.
const FIRST_PAGE_ROWS: usize = 64;
/// Most rows in a page.
pub(super) const MAX_PAGE_ROWS: usize = 1024;
/// Most bytes in a page.
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// Where rows are read: a snapshot, or a transaction with its own writes.
pub enum Reader<'a> {
    View(&'a ReadView),
    Transaction(&'a mut Transaction),
}

impl Reader<'_> {
    pub async fn get(&mut self, key: &[u8]) -> Result<Option<Value>> {
        match self {
            Reader::View(view) => view.get(key).await,
            Reader::Transaction(transaction) => transaction.get(key).await,
        }
    }

    async fn scan(&mut self, span: Span, reverse: bool, rows: usize) -> Result<txn::kv::ScanPage> {
        match self {
            Reader::View(view) => view.scan(span, reverse, rows, PAGE_BYTES).await,
            Reader::Transaction(transaction) => {
                transaction.scan(span, reverse, rows, PAGE_BYTES).await
            }
        }
    }
}

pub(super) enum Target {
    Key(Vec<u8>),
    Span(Span),
    /// Of several buckets, in the order of what stands behind the bucket.
    Merged(Spans),
}

/// What is left of a span after a page that ended at `resume`.
pub(super) fn rest_of(span: Span, resume: Option<Key>, reverse: bool) -> Option<Span> {
    let resume = resume?;
    Some(match reverse {
        true => Span {
            start: span.start,
            end: resume,
        },
        false => Span {
            start: resume,
            end: span.end,
        },
    })
}

/// Rows of an access path, one after the other.
pub struct Cursor {
    codec: Arc<TableCodec>,
    access: Access,
    reverse: bool,
    points: VecDeque<Target>,
    /// The part of the current span that is not read yet.
    span: Option<Span>,
    /// Buckets that are being read together.
    merge: Option<Merge>,
    page: std::vec::IntoIter<(Key, Value, types::Timestamp)>,
    page_rows: usize,
    read: usize,
}

impl Cursor {
    /// Over nothing yet. `rows` is how many rows will be asked for, if known.
    pub(super) fn new(
        codec: Arc<TableCodec>,
        access: Access,
        reverse: bool,
        rows: Option<usize>,
    ) -> Cursor {
        Cursor {
            codec,
            access,
            reverse,
            points: VecDeque::new(),
            span: None,
            merge: None,
            page: Vec::new().into_iter(),
            page_rows: rows.map_or(FIRST_PAGE_ROWS, |rows| rows.clamp(1, MAX_PAGE_ROWS)),
            read: 0,
        }
    }

    /// Adds keys behind those that are there.
    pub(super) fn push(&mut self, target: Target) {
        self.points.push_back(target);
    }

    /// Adds spans, one after the other, but for those that are empty.
    pub(super) fn push_spans(&mut self, spans: Spans) {
        let spans = spans.into_iter().filter(|span| span.start < span.end);
        self.points.extend(spans.map(Target::Span));
    }

    /// Key and value of the next row.
    pub async fn next(&mut self, reader: &mut Reader<'_>) -> Result<Option<(Key, Value)>> {
        loop {
            if let Some((key, value, _)) = self.page.next() {
                self.read += 1;
                match self.access {
                    Access::Primary => return Ok(Some((key, value))),
                    Access::Secondary(_) => match self.row_of(&value, reader).await? {
                        Some(found) => return Ok(Some(found)),
                        None => continue,
                    },
                }
            }
            if let Some(span) = self.span.take() {
                let mut page = reader
                    .scan(span.clone(), self.reverse, self.page_rows)
                    .await?;
                self.page_rows = (self.page_rows * 2).clamp(FIRST_PAGE_ROWS, MAX_PAGE_ROWS);
                self.span = rest_of(span, page.resume.take(), self.reverse);
                self.page = page.rows.into_iter();
                continue;
            }
            if let Some(merge) = &mut self.merge {
                let next = merge.next(&self.codec, reader).await?;
                let Some((key, value)) = next else {
                    self.merge = None;
                    continue;
                };
                self.read += 1;
                match self.access {
                    Access::Primary => return Ok(Some((key, value))),
                    Access::Secondary(_) => match self.row_of(&value, reader).await? {
                        Some(found) => return Ok(Some(found)),
                        None => continue,
                    },
                }
            }
            match self.points.pop_front() {
                None => return Ok(None),
                Some(Target::Span(span)) => self.span = Some(span),
                Some(Target::Merged(spans)) => {
                    self.merge = Some(Merge::new(spans, self.reverse, self.page_rows));
                }
                Some(Target::Key(key)) => {
                    let Some(value) = reader.get(&key).await? else {
                        continue;
                    };
                    self.read += 1;
                    match self.access {
                        Access::Primary => return Ok(Some((key.into(), value))),
                        Access::Secondary(_) => {
                            if let Some(found) = self.row_of(&value, reader).await? {
                                return Ok(Some(found));
                            }
                        }
                    }
                }
            }
        }
    }

    /// The spans that are not read yet, keys included.
    pub fn into_spans(self) -> impl Iterator<Item = Span> {
        let merging = self.merge.into_iter().flat_map(Merge::into_spans);
        merging.chain(self.points.into_iter().flat_map(|target| match target {
            Target::Span(span) => smallvec![span],
            Target::Merged(spans) => spans,
            Target::Key(key) => {
                let mut end = key.clone();
                end.push(0);
                smallvec![Span {
                    start: key.into(),
                    end: end.into(),
                }]
            }
        }))
    }

    /// Rows and index entries read so far.
    pub fn rows_read(&self) -> usize {
        self.read
    }

    async fn row_of(
        &self,
        suffix: &Value,
        reader: &mut Reader<'_>,
    ) -> Result<Option<(Key, Value)>> {
        let key = self.codec.row_key_of_suffix(suffix);
        Ok(reader.get(&key).await?.map(|row| (key.into(), row)))
    }
}
