//! The scan of a stored table inside a physical plan.
//!
//! Its rows come from the store, page by page, or from the pages that earlier scans have left in memory
//! ([`super::columns`]); each partition has some of both, in key order.

use super::columns::{ColumnCache, Page, page_span};
use super::decode::ColumnDecoder;
use super::errors::external;
use crate::catalog::descriptor::Table;
use crate::context::{ReadView, StatementContext};
use crate::table_codec::TableCodec;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, DataFusionError, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use txn::kv::Span;

/// Rows in a page of a scan: as many as DataFusion's batches have. Tests want many pages of few rows.
pub(crate) const PAGE_ROWS: usize = if cfg!(test) { 4 } else { 8192 };
/// Rows in the page of a portion that is read again: it splits when it has grown to more.
pub(crate) const GROWN_PAGE_ROWS: usize = PAGE_ROWS + PAGE_ROWS / 2;
/// Bytes of keys and values in a page: what a few scans at once may hold in memory each.
const PAGE_BYTES: usize = 4 << 20;
/// Bytes guessed for a text value where sizes of tables are compared.
const TEXT_WIDTH: usize = 24;
/// Scans of fewer rows are not worth a second partition.
const MIN_PARTITION_ROWS: usize = 2 * PAGE_ROWS;

/// Where some rows of a scan are.
#[derive(Clone, Debug)]
pub(crate) enum Segment {
    Memory(RecordBatch),
    Store {
        span: Span,
        /// Guessed.
        rows: Option<usize>,
        /// Most rows of a page.
        page_rows: usize,
        /// Columns that the cache would like to have too.
        also: Vec<usize>,
        /// The cache may have the pages.
        keep: bool,
    },
}

impl Segment {
    fn rows(&self) -> Option<usize> {
        match self {
            Segment::Memory(batch) => Some(batch.num_rows()),
            Segment::Store { rows, .. } => *rows,
        }
    }
}

/// Takes decoded pages to the cache.
pub(crate) struct Keeper {
    cache: Arc<ColumnCache>,
    /// The scan's name there.
    scan: u64,
    /// There is no room for more.
    full: AtomicBool,
}

impl Keeper {
    pub fn new(cache: Arc<ColumnCache>, scan: u64) -> Self {
        Keeper {
            cache,
            scan,
            full: AtomicBool::new(false),
        }
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    fn take(&self, table: &Table, view: &ReadView, page: Page) {
        if !self.cache.keep(table, self.scan, view, page) {
            self.full.store(true, Ordering::Relaxed);
        }
    }
}

/// What all partitions of a scan know.
pub(crate) struct Scan {
    pub table: Arc<Table>,
    pub codec: Arc<TableCodec>,
    pub schema: SchemaRef,
    /// Positions of the wanted columns in the stored row.
    pub columns: Vec<usize>,
    pub limit: Option<usize>,
    /// Conditions on the key narrow it.
    pub bounded: bool,
    /// How many of the table's buckets are read, and how many there are; `None`: it has none.
    pub buckets: Option<(u16, u16)>,
    pub context: Arc<StatementContext>,
    pub keeper: Option<Keeper>,
}

/// See the module.
#[derive(Clone)]
pub struct ScanExec {
    scan: Arc<Scan>,
    /// In key order, within and between the partitions, but for buckets: they follow each other.
    partitions: Vec<Arc<[Segment]>>,
    columns: Vec<ColumnStatistics>,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec({})", self.scan.table.name)
    }
}

impl ScanExec {
    /// Reads these segments, over at most so many partitions. `columns` has facts for each column of
    /// the scan, or is empty.
    pub(crate) fn new(
        scan: Scan,
        segments: Vec<Segment>,
        columns: Vec<ColumnStatistics>,
        partitions: usize,
    ) -> Self {
        let partitions = split(segments, partitions);
        ScanExec {
            properties: Arc::new(PlanProperties::new(
                EquivalenceProperties::new(scan.schema.clone()),
                Partitioning::UnknownPartitioning(partitions.len()),
                EmissionType::Incremental,
                Boundedness::Bounded,
            )),
            scan: Arc::new(scan),
            partitions,
            columns,
        }
    }

    fn statistics(&self, partitions: &[Arc<[Segment]>]) -> Statistics {
        let mut statistics = Statistics::new_unknown(&self.scan.schema);
        let segments = || partitions.iter().flat_map(|segments| segments.iter());
        let rows: Option<usize> = segments().map(Segment::rows).sum();
        let Some(rows) = rows else {
            return statistics;
        };
        let rows = rows.min(self.scan.limit.unwrap_or(rows));
        let fields = self.scan.schema.fields().iter();
        let width: usize = fields
            .map(|f| f.data_type().primitive_width().unwrap_or(TEXT_WIDTH))
            .sum();
        // Guesses all: they choose join orders, and answer nothing.
        statistics.num_rows = Precision::Inexact(rows);
        statistics.total_byte_size = Precision::Inexact(rows * width.max(1));
        if !self.columns.is_empty() {
            statistics.column_statistics = self.columns.clone();
        }
        statistics
    }

    fn is_in_memory(&self) -> bool {
        let mut segments = self.partitions.iter().flat_map(|segments| segments.iter());
        segments.all(|segment| matches!(segment, Segment::Memory(_)))
    }
}

/// Neighbouring segments stay together; each partition gets about as many rows.
fn split(segments: Vec<Segment>, partitions: usize) -> Vec<Arc<[Segment]>> {
    let rows: Option<usize> = segments.iter().map(Segment::rows).sum();
    let rows = rows.unwrap_or(0);
    let partitions = (rows / MIN_PARTITION_ROWS).clamp(1, partitions.max(1));
    let share = rows.div_ceil(partitions).max(1);
    let mut lists = vec![Vec::new(); partitions];
    let mut before = 0;
    for segment in segments {
        let place = (before / share).min(partitions - 1);
        before += segment.rows().unwrap_or(0);
        lists[place].push(segment);
    }
    lists.into_iter().map(Arc::from).collect()
}

impl Scan {
    /// The next page of `span`, of `most` rows and about `guess`, and what is left of the span.
    async fn page(
        &self,
        span: Span,
        most: usize,
        guess: Option<usize>,
        also: &[usize],
        keep: bool,
    ) -> types::Result<(RecordBatch, Option<Span>)> {
        let view = &self.context.view;
        let keeper = self.keeper.as_ref();
        let keeper = keeper.filter(|keeper| keep && !keeper.is_full());
        let guess = guess.unwrap_or(0).min(most);
        let decoder = |position: &usize| ColumnDecoder::new(&self.table, *position, guess);
        let decoders = self.columns.iter().map(decoder);
        let mut decoders = decoders.collect::<types::Result<Vec<_>>>()?;
        // Nobody has asked for these: one that cannot be decoded is nobody's error.
        let also = also.iter().filter(|_| keeper.is_some());
        let also = also.map(|position| (*position, decoder(position).ok()));
        let mut also: Vec<(usize, Option<ColumnDecoder>)> = also.collect();
        let mut rows = 0;
        let mut show = |value: &[u8]| {
            rows += 1;
            let row = self.codec.view(value)?;
            for decoder in &mut decoders {
                decoder.push(&row)?;
            }
            for (_, decoder) in &mut also {
                if decoder.as_mut().is_some_and(|d| d.push(&row).is_err()) {
                    *decoder = None;
                }
            }
            Ok(())
        };
        let resume = view.visit(&span, most, PAGE_BYTES, &mut show).await?;
        let arrays = decoders
            .into_iter()
            .map(ColumnDecoder::finish)
            .collect::<types::Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        if let Some(keeper) = keeper {
            let wanted = self.columns.iter().copied().zip(arrays.iter().cloned());
            let also = also.into_iter().filter_map(|(position, decoder)| {
                let array = decoder?.finish().ok()?;
                Some((position, array))
            });
            let page = Page {
                span: page_span(&span, resume.as_ref()),
                rows,
                columns: wanted.chain(also).collect(),
            };
            keeper.take(&self.table, view, page);
        }
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|e| types::Error::internal(e.to_string()))?;
        let resume = resume.filter(|resume| *resume < span.end);
        let rest = resume.map(|resume| Span {
            start: resume,
            end: span.end,
        });
        Ok((batch, rest))
    }
}

/// Where a partition's stream is.
struct Cursor {
    scan: Arc<Scan>,
    segments: Arc<[Segment]>,
    place: usize,
    /// What is left of the segment at `place`, if it was begun.
    rest: Option<Span>,
    /// Rows still wanted.
    wanted: usize,
}

impl Cursor {
    /// The next batch with rows in it.
    async fn next(&mut self) -> types::Result<Option<RecordBatch>> {
        while self.wanted > 0
            && let Some(segment) = self.segments.get(self.place)
        {
            self.scan.context.cancel.check()?;
            let batch = match segment {
                Segment::Memory(batch) => {
                    self.place += 1;
                    batch.slice(0, batch.num_rows().min(self.wanted))
                }
                Segment::Store {
                    span,
                    rows,
                    page_rows,
                    also,
                    keep,
                } => {
                    let span = self.rest.take().unwrap_or_else(|| span.clone());
                    let most = self.wanted.min(*page_rows);
                    let (batch, rest) = self.scan.page(span, most, *rows, also, *keep).await?;
                    if rest.is_none() {
                        self.place += 1;
                    }
                    self.rest = rest;
                    batch
                }
            };
            if batch.num_rows() > 0 {
                self.wanted -= batch.num_rows();
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scan: table={}", self.scan.table.name)?;
        if self.scan.bounded {
            write!(f, ", keys=bounded")?;
        }
        if let Some((read, all)) = self.scan.buckets {
            write!(f, ", buckets={read} of {all}")?;
        }
        if self.is_in_memory() {
            write!(f, ", from=memory")?;
        }
        if let Some(limit) = self.scan.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let partitions = match partition {
            None => &self.partitions[..],
            Some(place) => self.partitions.get(place..=place).unwrap_or_default(),
        };
        Ok(Arc::new(self.statistics(partitions)))
    }

    fn execute(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let unknown = || DataFusionError::Internal("a scan without this partition".into());
        let cursor = Cursor {
            scan: self.scan.clone(),
            segments: self.partitions.get(partition).ok_or_else(unknown)?.clone(),
            place: 0,
            rest: None,
            wanted: self.scan.limit.unwrap_or(usize::MAX),
        };
        let batches = futures::stream::try_unfold(cursor, |mut cursor| async move {
            let batch = cursor.next().await.map_err(external)?;
            Ok(batch.map(|batch| (batch, cursor)))
        });
        let schema = self.scan.schema.clone();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}
