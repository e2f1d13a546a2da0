//! Virtual tables inside plans: rows computed when the plan runs, filters left to DataFusion.

use super::errors::external;
use super::statement::Statement;
use crate::arrow_bridge::{array_from_datums, field};
use crate::cluster::View;
use crate::pg_catalog::VirtualTable;
use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::fmt;
use std::sync::Arc;

/// A virtual table as DataFusion scans it.
pub struct VirtualData {
    table: Arc<VirtualTable>,
    schema: SchemaRef,
}

impl fmt::Debug for VirtualData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtualData({}.{})", self.table.schema, self.table.name)
    }
}

impl VirtualData {
    pub fn new(table: Arc<VirtualTable>) -> Self {
        let fields: Vec<_> = table
            .columns
            .iter()
            .map(|(name, ty)| field(name, ty, true))
            .collect();
        VirtualData {
            table,
            schema: Arc::new(Schema::new(fields)),
        }
    }
}

#[async_trait]
impl TableProvider for VirtualData {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let context = Statement::of(state.config_options())?;
        let rows = match (View::of(&self.table), context.effects.cluster()) {
            (Some(view), Some(cluster)) => cluster.rows(view).await,
            _ => (self.table.rows)(context),
        };
        let rows = rows.map_err(external)?;
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        let schema: SchemaRef = Arc::new(self.schema.project(wanted)?);
        let mut arrays = Vec::with_capacity(wanted.len());
        for index in wanted {
            let values = rows.iter().map(|row| &row[*index]);
            let ty = &self.table.columns[*index].1;
            arrays.push(array_from_datums(values, ty).map_err(external)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?;
        let plan = MemorySourceConfig::try_new_exec(&[vec![batch]], schema, None)?;
        Ok(plan)
    }
}
