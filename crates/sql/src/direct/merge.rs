//! Rows of several buckets as one row of keys: each bucket's are in order, and are merged by what stands
//! behind the bucket in their keys.

use super::cursor::{MAX_PAGE_ROWS, PAGE_BYTES, Reader, rest_of};
use crate::table_codec::{Spans, TableCodec};
use futures::future::try_join_all;
use std::collections::VecDeque;
use txn::kv::{Key, ScanPage, Span, Value};
use types::Result;

/// Rows of a bucket's first page, of those that a scan asks for.
const LEAST_PAGE_ROWS: usize = 16;

/// See the module.
pub(super) struct Merge {
    buckets: Vec<Bucket>,
    reverse: bool,
    page_rows: usize,
}

/// One bucket's rows.
struct Bucket {
    page: VecDeque<(Key, Value)>,
    /// What is not read yet.
    rest: Option<Span>,
}

impl Bucket {
    fn is_dry(&self) -> bool {
        self.page.is_empty() && self.rest.is_some()
    }

    fn take(&mut self, page: ScanPage, reverse: bool) {
        let span = self.rest.take();
        self.rest = span.and_then(|span| rest_of(span, page.resume, reverse));
        let rows = page.rows.into_iter();
        self.page = rows.map(|(key, value, _)| (key, value)).collect();
    }
}

impl Merge {
    /// `rows` is how many are asked for first, of all buckets together.
    pub(super) fn new(spans: Spans, reverse: bool, rows: usize) -> Self {
        let spans = spans.into_iter().filter(|span| span.start < span.end);
        let bucket = |span| Bucket {
            page: VecDeque::new(),
            rest: Some(span),
        };
        let buckets: Vec<Bucket> = spans.map(bucket).collect();
        let share = rows.div_ceil(buckets.len().max(1));
        Merge {
            buckets,
            reverse,
            page_rows: share.max(LEAST_PAGE_ROWS).min(rows.max(1)),
        }
    }

    /// The next row in order.
    pub(super) async fn next(
        &mut self,
        codec: &TableCodec,
        reader: &mut Reader<'_>,
    ) -> Result<Option<(Key, Value)>> {
        self.fill(reader).await?;
        let heads = self.buckets.iter().enumerate();
        let heads = heads.filter_map(|(at, bucket)| Some((at, &bucket.page.front()?.0)));
        let next = heads.min_by(|(_, a), (_, b)| {
            let order = codec.behind_prefix(a).cmp(codec.behind_prefix(b));
            match self.reverse {
                true => order.reverse(),
                false => order,
            }
        });
        let next = next.map(|(at, _)| at);
        Ok(next.and_then(|at| self.buckets[at].page.pop_front()))
    }

    /// Reads on in each bucket that has nothing at hand.
    async fn fill(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        if !self.buckets.iter().any(Bucket::is_dry) {
            return Ok(());
        }
        let (reverse, rows) = (self.reverse, self.page_rows);
        self.page_rows = (rows * 2).min(MAX_PAGE_ROWS);
        let dry = self.buckets.iter_mut().filter(|bucket| bucket.is_dry());
        match reader {
            Reader::View(view) => {
                let reads = dry.map(async |bucket| {
                    while let Some(span) = bucket.rest.clone().filter(|_| bucket.page.is_empty()) {
                        let page = view.scan(span, reverse, rows, PAGE_BYTES).await?;
                        bucket.take(page, reverse);
                    }
                    Ok(())
                });
                try_join_all(reads).await.map(drop)
            }
            Reader::Transaction(transaction) => {
                for bucket in dry {
                    while let Some(span) = bucket.rest.clone().filter(|_| bucket.page.is_empty()) {
                        let page = transaction.scan(span, reverse, rows, PAGE_BYTES).await?;
                        bucket.take(page, reverse);
                    }
                }
                Ok(())
            }
        }
    }

    /// What is not read yet.
    pub(super) fn into_spans(self) -> impl Iterator<Item = Span> {
        self.buckets.into_iter().filter_map(|bucket| bucket.rest)
    }
}
