//! Stored tables inside plans: the table provider and its scan.
//!
//! A scan reads pages of rows at the statement's snapshot through [`crate::context::ReadView`] and
//! decodes the wanted columns straight into Arrow builders. Absent columns (added after a row was
//! written) get the value that the descriptor says.

use super::decode::ColumnDecoder;
use super::errors::external;
use super::statement::Statement;
use crate::arrow_bridge::field;
use crate::catalog::descriptor::{PRIMARY_INDEX_ID, Table};
use crate::context::StatementContext;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::DefaultTableSource;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableSource, TableType};
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
use types::RowLayout;

/// Rows in a page of a scan: as many as DataFusion's batches have.
const PAGE_ROWS: usize = 8192;
/// Bytes of keys and values in a page: what a few scans at once may hold in memory each.
const PAGE_BYTES: usize = 4 << 20;

/// A stored table as DataFusion scans it.
pub struct TableData {
    pub table: Arc<Table>,
    schema: SchemaRef,
    layout: Arc<RowLayout>,
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
        let types: Vec<_> = table.columns.iter().map(|c| c.sql_type.clone()).collect();
        TableData {
            schema: Arc::new(arrow_schema(&table)),
            layout: Arc::new(RowLayout::new(&types)),
            positions: table.live_columns().map(|(position, _)| position).collect(),
            table,
        }
    }

    fn whole_span(&self) -> Result<Span> {
        let start = types::key::index_prefix(self.table.data_id, PRIMARY_INDEX_ID);
        let end = types::key::prefix_end(&start)
            .ok_or_else(|| DataFusionError::Internal("a table without end".into()))?;
        Ok(Span {
            start: Bytes::copy_from_slice(&start),
            end: end.into(),
        })
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

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let context = Statement::of(state.config_options())?.clone();
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        let schema: SchemaRef = Arc::new(self.schema.project(wanted)?);
        let columns = wanted.iter().map(|i| self.positions[*i]).collect();
        Ok(Arc::new(ScanExec::new(
            self.table.clone(),
            self.layout.clone(),
            schema,
            columns,
            vec![self.whole_span()?],
            limit,
            context,
        )))
    }
}

/// A scan of key spans, one a partition.
#[derive(Clone)]
pub struct ScanExec {
    table: Arc<Table>,
    layout: Arc<RowLayout>,
    schema: SchemaRef,
    /// Positions of the wanted columns in the stored row.
    columns: Vec<usize>,
    spans: Vec<Span>,
    limit: Option<usize>,
    context: Arc<StatementContext>,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec({})", self.table.name)
    }
}

impl ScanExec {
    fn new(
        table: Arc<Table>,
        layout: Arc<RowLayout>,
        schema: SchemaRef,
        columns: Vec<usize>,
        spans: Vec<Span>,
        limit: Option<usize>,
        context: Arc<StatementContext>,
    ) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(spans.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        ScanExec {
            table,
            layout,
            schema,
            columns,
            spans,
            limit,
            context,
            properties,
        }
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
            let row = types::RowView::new(value, &self.layout)?;
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
