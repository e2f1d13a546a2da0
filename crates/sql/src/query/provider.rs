//! Stored tables inside plans: the table provider and its scan.
//!
//! A scan reads pages of rows at the statement's snapshot through [`crate::context::ReadView`] and
//! decodes the wanted columns straight into Arrow builders. Absent columns (added after a row was
//! written) get the value that the descriptor says.

use super::access::{key_condition, probe, span_of};
use super::decode::ColumnDecoder;
use super::errors::external;
use super::statement::Statement;
use crate::arrow_bridge::field;
use crate::catalog::descriptor::Table;
use crate::context::StatementContext;
use crate::table_codec::TableCodec;
use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::datasource::DefaultTableSource;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableSource, TableType};
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
use txn::kv::Span;

/// Rows in a page of a scan: as many as DataFusion's batches have.
const PAGE_ROWS: usize = 8192;
/// Bytes of keys and values in a page: what a few scans at once may hold in memory each.
const PAGE_BYTES: usize = 4 << 20;
/// Bytes guessed for a text value where sizes of tables are compared.
const TEXT_WIDTH: usize = 24;

/// A stored table as DataFusion scans it.
pub struct TableData {
    pub table: Arc<Table>,
    schema: SchemaRef,
    /// An error if the descriptor makes no sense; then its scans say so.
    codec: types::Result<Arc<TableCodec>>,
    /// Positions in the stored row of the schema's columns.
    positions: Vec<usize>,
}

impl fmt::Debug for TableData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableData({})", self.table.name)
    }
}

/// The Arrow schema of a table's live columns.
pub fn arrow_schema(table: &Table) -> Schema {
    Schema::new(
        table
            .live_columns()
            .map(|(_, c)| field(&c.name, &c.sql_type, !c.not_null))
            .collect::<Vec<_>>(),
    )
}

/// The stored table behind a scan's source, if it is one.
pub fn table_of(source: &Arc<dyn TableSource>) -> Option<&Arc<Table>> {
    let source = source.as_ref();
    let provider = source.downcast_ref::<DefaultTableSource>()?;
    let provider: &dyn std::any::Any = provider.table_provider.as_ref();
    provider.downcast_ref::<TableData>().map(|data| &data.table)
}

impl TableData {
    pub fn new(table: Arc<Table>) -> Self {
        TableData {
            schema: Arc::new(arrow_schema(&table)),
            codec: TableCodec::new(table.clone()).map(Arc::new),
            positions: table.live_columns().map(|(position, _)| position).collect(),
            table,
        }
    }

    fn codec(&self) -> Result<&Arc<TableCodec>> {
        self.codec.as_ref().map_err(|e| external(e.clone()))
    }
}

#[async_trait]
impl TableProvider for TableData {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let codec = self.codec()?;
        Ok(filters
            .iter()
            .map(|filter| match key_condition(codec, filter) {
                Some(_) => TableProviderFilterPushDown::Inexact,
                None => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let context = Statement::of(state.config_options())?.clone();
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        let schema: SchemaRef = Arc::new(self.schema.project(wanted)?);
        let columns = wanted.iter().map(|i| self.positions[*i]).collect();
        let codec = self.codec()?;
        let span = span_of(codec, filters);
        let bounded = filters.iter().any(|f| key_condition(codec, f).is_some());
        let (rows, spans) = match limit {
            Some(limit) if limit <= PAGE_ROWS => (None, vec![span]),
            _ => {
                let partitions = state.config().target_partitions();
                let facts = probe(&context.view, span, partitions)
                    .await
                    .map_err(external)?;
                (Some(facts.rows), facts.parts)
            }
        };
        Ok(Arc::new(ScanExec {
            properties: ScanExec::properties_of(&schema, spans.len()),
            table: self.table.clone(),
            codec: codec.clone(),
            schema,
            columns,
            spans,
            limit,
            rows,
            bounded,
            context,
        }))
    }
}

/// A scan of key spans, one a partition.
#[derive(Clone)]
pub struct ScanExec {
    table: Arc<Table>,
    codec: Arc<TableCodec>,
    schema: SchemaRef,
    /// Positions of the wanted columns in the stored row.
    columns: Vec<usize>,
    spans: Vec<Span>,
    limit: Option<usize>,
    /// Guessed from a probe.
    rows: Option<u64>,
    /// Conditions on the key narrow the spans.
    bounded: bool,
    context: Arc<StatementContext>,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec({})", self.table.name)
    }
}

impl ScanExec {
    fn properties_of(schema: &SchemaRef, partitions: usize) -> Arc<PlanProperties> {
        Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ))
    }

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
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scan: table={}", self.table.name)?;
        if self.bounded {
            write!(f, ", keys=bounded")?;
        }
        if let Some(limit) = self.limit {
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
        let mut statistics = Statistics::new_unknown(&self.schema);
        if let Some(rows) = self.rows {
            let share = match partition {
                Some(_) => rows / self.spans.len().max(1) as u64,
                None => rows,
            };
            statistics.num_rows = Precision::Inexact(share as usize);
            let width: usize = self
                .schema
                .fields()
                .iter()
                .map(|f| f.data_type().primitive_width().unwrap_or(TEXT_WIDTH))
                .sum();
            statistics.total_byte_size = Precision::Inexact(share as usize * width.max(1));
        }
        Ok(Arc::new(statistics))
    }

    fn execute(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let span = self
            .spans
            .get(partition)
            .cloned()
            .ok_or_else(|| DataFusionError::Internal("a scan without this partition".into()))?;
        let scan = self.clone();
        let wanted = self.limit.unwrap_or(usize::MAX);
        let batches = futures::stream::unfold(Some((span, wanted)), move |state| {
            let scan = scan.clone();
            async move {
                let (span, wanted) = state?;
                match scan.next_batch(span, wanted).await {
                    Ok((batch, rest)) => {
                        let left = wanted.saturating_sub(batch.num_rows());
                        let next = rest.filter(|_| left > 0).map(|rest| (rest, left));
                        Some((Ok(batch), next))
                    }
                    Err(error) => Some((Err(external(error)), None)),
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema.clone(),
            batches,
        )))
    }
}
