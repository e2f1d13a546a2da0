//! The scan of a stored table inside a physical plan.
//!
//! Its rows come from the store, page by page and a partition per key span, or from the columns that
//! an earlier scan has left in memory ([`super::columns`]).

use super::columns::{ColumnCache, WholeColumns, bytes_of};
use super::decode::ColumnDecoder;
use super::errors::external;
use crate::catalog::descriptor::Table;
use crate::context::StatementContext;
use crate::table_codec::TableCodec;
use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::StreamExt;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use txn::kv::Span;

/// Rows in a page of a scan: as many as DataFusion's batches have.
pub(crate) const PAGE_ROWS: usize = 8192;
/// Bytes of keys and values in a page: what a few scans at once may hold in memory each.
const PAGE_BYTES: usize = 4 << 20;
/// Bytes guessed for a text value where sizes of tables are compared.
const TEXT_WIDTH: usize = 24;
/// Portions in memory with fewer rows together are not worth a second partition.
const MIN_PARTITION_ROWS: usize = 16_384;

/// Where a scan's rows are.
#[derive(Clone)]
enum Source {
    /// In the store: key spans, one a partition.
    Store {
        spans: Vec<Span>,
        /// Guessed from a probe.
        rows: Option<u64>,
        /// Conditions on the key narrow the spans.
        bounded: bool,
        /// Takes the columns for later scans, if this one reads the whole table.
        collector: Option<Arc<Collector>>,
    },
    /// In memory: batches, a list a partition.
    Memory {
        partitions: Vec<Arc<[RecordBatch]>>,
        statistics: Arc<Statistics>,
    },
}

/// What all scans know.
#[derive(Clone)]
pub(crate) struct Scan {
    pub table: Arc<Table>,
    pub codec: Arc<TableCodec>,
    pub schema: SchemaRef,
    /// Positions of the wanted columns in the stored row.
    pub columns: Vec<usize>,
    pub limit: Option<usize>,
    pub context: Arc<StatementContext>,
}

/// See the module.
#[derive(Clone)]
pub struct ScanExec {
    scan: Scan,
    source: Source,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec({})", self.scan.table.name)
    }
}

impl ScanExec {
    /// Reads key spans. `cache` takes the columns: only if the spans are the whole table.
    pub(crate) fn of_store(
        scan: Scan,
        spans: Vec<Span>,
        rows: Option<u64>,
        bounded: bool,
        cache: Option<Arc<ColumnCache>>,
    ) -> Self {
        let collector = cache.map(|cache| Arc::new(Collector::new(cache, spans.len())));
        ScanExec {
            properties: properties(&scan.schema, spans.len()),
            source: Source::Store {
                spans,
                rows,
                bounded,
                collector,
            },
            scan,
        }
    }

    /// Reads columns in memory, over at most so many partitions.
    pub(crate) fn of_memory(scan: Scan, found: WholeColumns, partitions: usize) -> Result<Self> {
        let mut batches = Vec::with_capacity(found.lengths.len());
        for (portion, rows) in found.lengths.iter().enumerate() {
            let arrays = found.columns.iter().filter_map(|c| c.get(portion).cloned());
            let options = RecordBatchOptions::new().with_row_count(Some(*rows));
            batches.push(RecordBatch::try_new_with_options(
                scan.schema.clone(),
                arrays.collect(),
                &options,
            )?);
        }
        let rows: usize = found.lengths.iter().sum();
        let bytes: usize = found.columns.iter().map(|column| bytes_of(column)).sum();
        let partitions = (rows / MIN_PARTITION_ROWS).clamp(1, partitions.max(1));
        let mut statistics = Statistics::new_unknown(&scan.schema);
        statistics.num_rows = Precision::Inexact(rows.min(scan.limit.unwrap_or(rows)));
        statistics.total_byte_size = Precision::Inexact(bytes.max(rows));
        statistics.column_statistics = found.statistics;
        Ok(ScanExec {
            properties: properties(&scan.schema, partitions),
            source: Source::Memory {
                partitions: split(batches, rows, partitions),
                statistics: Arc::new(statistics),
            },
            scan,
        })
    }
}

fn properties(schema: &SchemaRef, partitions: usize) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(schema.clone()),
        Partitioning::UnknownPartitioning(partitions),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

/// Neighbouring batches stay together; each partition gets about as many rows.
fn split(batches: Vec<RecordBatch>, rows: usize, partitions: usize) -> Vec<Arc<[RecordBatch]>> {
    let share = rows.div_ceil(partitions).max(1);
    let mut lists = vec![Vec::new(); partitions];
    let mut before = 0;
    for batch in batches {
        let place = (before / share).min(partitions - 1);
        before += batch.num_rows();
        lists[place].push(batch);
    }
    lists.into_iter().map(Arc::from).collect()
}

impl Scan {
    /// The next batch from `span`, and what is left of the span.
    async fn next_batch(
        &self,
        span: Span,
        wanted: usize,
    ) -> types::Result<(RecordBatch, Option<Span>)> {
        self.context.cancel.check()?;
        let page = self
            .context
            .view
            .scan(span.clone(), false, wanted.min(PAGE_ROWS), PAGE_BYTES)
            .await?;
        let mut decoders = self
            .columns
            .iter()
            .map(|position| ColumnDecoder::new(&self.table, *position, page.rows.len()))
            .collect::<types::Result<Vec<_>>>()?;
        for (_, value, _) in &page.rows {
            let row = self.codec.view(value)?;
            for decoder in &mut decoders {
                decoder.push(&row)?;
            }
        }
        let arrays = decoders
            .into_iter()
            .map(ColumnDecoder::finish)
            .collect::<types::Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(page.rows.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|e| types::Error::internal(e.to_string()))?;
        let rest = page.resume.map(|resume| Span {
            start: resume,
            end: span.end,
        });
        Ok((batch, rest))
    }

    /// The rows of a span, from the store.
    fn stored(
        self,
        span: Span,
        part: Option<Part>,
    ) -> impl futures::Stream<Item = Result<RecordBatch>> + Send {
        let wanted = self.limit.unwrap_or(usize::MAX);
        futures::stream::unfold((self, Some((span, wanted)), part), |state| async move {
            let (scan, next, mut part) = state;
            let (span, wanted) = next?;
            match scan.next_batch(span, wanted).await {
                Ok((batch, rest)) => {
                    if let Some(part) = &mut part {
                        part.push(&batch);
                        if rest.is_none() {
                            part.finish(&scan);
                        }
                    }
                    let left = wanted.saturating_sub(batch.num_rows());
                    let next = rest.filter(|_| left > 0).map(|rest| (rest, left));
                    Some((Ok(batch), (scan, next, part)))
                }
                Err(error) => Some((Err(external(error)), (scan, None, None))),
            }
        })
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scan: table={}", self.scan.table.name)?;
        match &self.source {
            Source::Store { bounded: true, .. } => write!(f, ", keys=bounded")?,
            Source::Store { .. } => {}
            Source::Memory { .. } => write!(f, ", from=memory")?,
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
        match (&self.source, partition) {
            (Source::Memory { statistics, .. }, None) => Ok(Arc::clone(statistics)),
            (
                Source::Memory {
                    partitions,
                    statistics,
                },
                Some(partition),
            ) => {
                let own = partitions.get(partition).map_or(&[][..], |list| list);
                let mut share = Statistics::clone(statistics);
                share.num_rows = Precision::Inexact(own.iter().map(RecordBatch::num_rows).sum());
                Ok(Arc::new(share))
            }
            (Source::Store { spans, rows, .. }, _) => {
                let mut guess = Statistics::new_unknown(&self.scan.schema);
                if let Some(rows) = *rows {
                    let share = match partition {
                        Some(_) => rows / spans.len().max(1) as u64,
                        None => rows,
                    };
                    let fields = self.scan.schema.fields().iter();
                    let width: usize = fields
                        .map(|f| f.data_type().primitive_width().unwrap_or(TEXT_WIDTH))
                        .sum();
                    guess.num_rows = Precision::Inexact(share as usize);
                    guess.total_byte_size = Precision::Inexact(share as usize * width.max(1));
                }
                Ok(Arc::new(guess))
            }
        }
    }

    fn execute(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let unknown = || DataFusionError::Internal("a scan without this partition".into());
        let schema = self.scan.schema.clone();
        match &self.source {
            Source::Store {
                spans, collector, ..
            } => {
                let span = spans.get(partition).cloned().ok_or_else(unknown)?;
                let part = collector.clone().map(|all| Part::new(all, partition));
                let batches = self.scan.clone().stored(span, part);
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
            }
            Source::Memory { partitions, .. } => {
                let list = partitions.get(partition).cloned().ok_or_else(unknown)?;
                let cancel = self.scan.context.cancel.clone();
                let mut wanted = self.scan.limit.unwrap_or(usize::MAX);
                let batches = (0..list.len()).map(move |place| {
                    cancel.check().map_err(external)?;
                    let batch = list[place].slice(0, list[place].num_rows().min(wanted));
                    wanted -= batch.num_rows();
                    Ok(batch)
                });
                let batches = futures::stream::iter(batches)
                    .take_while(|batch| {
                        let more = !matches!(batch, Ok(batch) if batch.num_rows() == 0);
                        futures::future::ready(more)
                    })
                    .boxed();
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
            }
        }
    }
}

/// A part's batches: rows and arrays of each.
type Portions = Vec<(usize, Vec<ArrayRef>)>;

/// Puts the columns of all partitions together, and into the cache once the last partition has been
/// read to its end. A partition that was not, or memory that does not suffice, and nothing is kept.
/// A plan may run more than once (the recursive part of a CTE does): the first run counts.
struct Collector {
    cache: Arc<ColumnCache>,
    /// `None` once they have gone to the cache.
    parts: Mutex<Option<Vec<Option<Portions>>>>,
}

impl Collector {
    fn new(cache: Arc<ColumnCache>, parts: usize) -> Self {
        Collector {
            cache,
            parts: Mutex::new(Some(vec![None; parts])),
        }
    }

    /// One partition is complete. Returns all in key order with the last one.
    fn complete(&self, partition: usize, portions: Portions) -> Option<Portions> {
        let mut parts = self.parts.lock();
        let part = parts.as_mut()?.get_mut(partition)?;
        *part = Some(portions);
        if parts.as_ref()?.iter().any(Option::is_none) {
            return None;
        }
        Some(parts.take()?.into_iter().flatten().flatten().collect())
    }
}

/// The share of one partition.
struct Part {
    collector: Arc<Collector>,
    partition: usize,
    portions: Portions,
    bytes: usize,
}

impl Part {
    fn new(collector: Arc<Collector>, partition: usize) -> Self {
        Part {
            collector,
            partition,
            portions: Vec::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, batch: &RecordBatch) {
        if self.is_too_large() || batch.num_rows() == 0 {
            return;
        }
        self.bytes += bytes_of(batch.columns());
        let arrays = batch.columns().to_vec();
        self.portions.push((batch.num_rows(), arrays));
        if self.is_too_large() {
            self.portions = Vec::new();
        }
    }

    fn is_too_large(&self) -> bool {
        self.bytes > self.collector.cache.limit_bytes()
    }

    fn finish(&mut self, scan: &Scan) {
        if self.is_too_large() {
            return;
        }
        let own = std::mem::take(&mut self.portions);
        if let Some(portions) = self.collector.complete(self.partition, own) {
            let cache = &self.collector.cache;
            cache.add(&scan.table, &scan.columns, &scan.context.view, portions);
        }
    }
}
