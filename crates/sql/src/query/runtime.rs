//! Execution of analysed queries by DataFusion.
//!
//! One [`Runtime`] per instance owns what queries share: the memory pool, the configuration, the
//! optimiser's rules. A query gets a session state of its own, whose options carry the statement's
//! context to all functions and scans.

use super::columns::ColumnCache;
use super::errors::from_datafusion;
use super::memory::QueryMemory;
use super::planner::AnalyzedQuery;
use super::statement::Statement;
use crate::arrow_bridge::scalar_value;
use crate::context::StatementContext;
use crate::response::{RowChunk, RowSet, RowSource};
use datafusion::common::ParamValues;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::Analyzer;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlType};

/// Rows in a batch: large enough to amortise a kernel's call, small enough for the cache.
const BATCH_ROWS: usize = 8192;

/// What all queries of an instance share.
pub struct Runtime {
    environment: Arc<RuntimeEnv>,
    columns: Arc<ColumnCache>,
    template: Arc<SessionState>,
}

impl Runtime {
    /// `memory_bytes` bounds what all queries together and the columns kept between them may hold, and
    /// `column_bytes` the columns alone; `partitions` is the number of cores that one query may use.
    pub fn new(memory_bytes: usize, column_bytes: usize, partitions: usize) -> Result<Self> {
        let columns = Arc::new(ColumnCache::new(column_bytes, memory_bytes));
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryMemory::new(memory_bytes, columns.clone()));
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(pool)
            .build_arc()
            .map_err(from_datafusion)?;
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions.max(1))
            .with_batch_size(BATCH_ROWS)
            .with_information_schema(false)
            .with_collect_statistics(true);
        let options = config.options_mut();
        options.sql_parser.parse_float_as_decimal = true;
        options.sql_parser.default_null_ordering = "nulls_max".into();
        options.execution.time_zone = Some("UTC".into());
        let mut rules = Analyzer::new().rules;
        rules.insert(0, Arc::new(super::equality::SqlEquality));
        let template = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(environment.clone())
            .with_default_features()
            .with_analyzer_rules(rules)
            .build();
        Ok(Runtime {
            environment,
            columns,
            template: Arc::new(template),
        })
    }

    /// Bytes that running queries hold now, and decoded columns.
    pub fn memory_used(&self) -> usize {
        self.environment.memory_pool.reserved() + self.columns.bytes()
    }

    /// What is kept between queries.
    pub fn columns(&self) -> &ColumnCache {
        &self.columns
    }

    /// A session state in the name of a statement.
    pub fn state(&self, context: &Arc<StatementContext>) -> SessionState {
        let mut config = self.template.config().clone();
        config
            .options_mut()
            .extensions
            .insert(Statement::new(context.clone(), Some(self.columns.clone())));
        config
            .options_mut()
            .extensions
            .insert(super::nested_function::Template(self.template.clone()));
        let mut state = SessionStateBuilder::new_from_existing(self.template.as_ref().clone())
            .with_config(config)
            .build();
        // Functions find the statement through the execution properties also while planning.
        state.mark_start_execution();
        state
    }

    /// The optimised physical plan of a query with its parameters filled in.
    pub async fn physical_plan(
        &self,
        query: &AnalyzedQuery,
        params: &[Datum],
        state: &SessionState,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = bind_parameters(&query.plan, &query.parameter_types, params)?;
        state
            .create_physical_plan(&plan)
            .await
            .map_err(from_datafusion)
    }

    /// Starts a query and streams its rows. The stream owns the snapshot.
    pub async fn execute(
        &self,
        query: &AnalyzedQuery,
        params: &[Datum],
        context: StatementContext,
    ) -> Result<RowSet> {
        let context = Arc::new(context);
        context.cancel.check()?;
        let state = self.state(&context);
        let plan = self.physical_plan(query, params, &state).await?;
        let batches = execute_stream(plan, state.task_ctx()).map_err(from_datafusion)?;
        let cancel = context.cancel.clone();
        let stop = cancel.clone();
        let rows = batches
            .take_until(async move { stop.canceled().await })
            .map(|batch| batch.map(RowChunk::Batch).map_err(from_datafusion))
            .chain(futures::stream::once(futures::future::lazy(move |_| {
                // The batches may have ended because of a cancel: then the rows are not all.
                cancel.check().map(|()| RowChunk::Rows(Vec::new()))
            })))
            .filter(|chunk| {
                let empty = matches!(chunk, Ok(RowChunk::Rows(rows)) if rows.is_empty());
                futures::future::ready(!empty)
            })
            .map(move |chunk| {
                let _snapshot = &context;
                chunk
            });
        Ok(RowSet {
            columns: query.columns.clone(),
            rows: RowSource::Stream(rows.boxed()),
        })
    }
}

/// Parameter values as DataFusion takes them.
fn parameter_values(types: &[SqlType], params: &[Datum]) -> Result<ParamValues> {
    if params.len() < types.len() {
        return Err(Error::new(
            types::SqlState::PROTOCOL_VIOLATION,
            format!(
                "bind message supplies {} parameters, but prepared statement requires {}",
                params.len(),
                types.len()
            ),
        ));
    }
    let mut values = Vec::with_capacity(types.len());
    for (ty, value) in types.iter().zip(params) {
        // A value of another type is for another part of the statement: this query has no use for
        // the parameter, so its type was never found.
        let unused = || crate::arrow_bridge::null_scalar(ty);
        values.push(scalar_value(value, ty).unwrap_or_else(|_| unused()));
    }
    Ok(ParamValues::from(values))
}

fn bind_parameters(plan: &LogicalPlan, types: &[SqlType], params: &[Datum]) -> Result<LogicalPlan> {
    if types.is_empty() {
        return Ok(plan.clone());
    }
    let values = parameter_values(types, params)?;
    plan.clone()
        .replace_params_with_values(&values)
        .map_err(from_datafusion)
}
