//! EXPLAIN.

use super::Session;
use super::prepared::{Plan, Prepared};
use super::utility::{rows, text_columns};
use crate::response::{Response, ResultColumn, RowsTag};
use crate::statement::Statement;
use datafusion::physical_plan::displayable;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlType};

impl Session {
    pub(super) async fn run_explain(
        &mut self,
        analyze: bool,
        verbose: bool,
        json: bool,
        statement: &Statement,
    ) -> Result<Response> {
        let inner = match statement {
            Statement::Declare { query, .. } => Statement::Query(query.clone()),
            Statement::CreateTableAs { query, .. } => Statement::Query(query.clone()),
            Statement::Execute { name, .. } => self.statement(name)?.statement.clone(),
            other => other.clone(),
        };
        let prepared = Arc::new(self.plan("".into(), inner, Vec::new())?);
        let started = self.instance.env.clock.monotonic_nanos();
        let mut lines = Vec::new();
        if analyze {
            let response = Box::pin(self.run_for_explain(Arc::clone(&prepared))).await?;
            lines = self.explain_lines(&prepared, verbose).await?;
            let nanos = self.instance.env.clock.monotonic_nanos() - started;
            lines.push(response);
            lines.push(format!("Execution Time: {:.3} ms", nanos as f64 / 1e6));
        } else {
            lines.extend(self.explain_lines(&prepared, verbose).await?);
        }
        let tag = RowsTag::Fixed("EXPLAIN");
        if json {
            let plan =
                serde_json::json!([{ "Plan": { "Node Type": lines.first(), "Lines": lines } }]);
            let text = serde_json::to_string_pretty(&plan)
                .map_err(|error| Error::internal(format!("plan as JSON: {error}")))?;
            let column = ResultColumn {
                sql_type: SqlType::Json,
                ..super::utility::text_column("QUERY PLAN")
            };
            return Ok(rows(
                Arc::new([column]),
                vec![vec![Datum::Json(text.into())]],
                tag,
            ));
        }
        let lines = lines
            .into_iter()
            .map(|line| vec![Datum::Text(line.into())])
            .collect();
        Ok(rows(text_columns(&["QUERY PLAN"]), lines, tag))
    }

    /// Runs the statement, and says how many rows it gave.
    async fn run_for_explain(&mut self, prepared: Arc<Prepared>) -> Result<String> {
        let response = match &prepared.plan {
            Plan::Query { .. } => self.run_query(prepared, &[]).await?,
            Plan::Change(_) | Plan::With(_) => self.run_change(prepared, &[]).await?,
            Plan::Other => return Err(Error::unsupported("EXPLAIN ANALYZE of this statement")),
        };
        Ok(match response {
            Response::Rows { set, .. } => format!("Rows: {}", set.collect().await?.len()),
            Response::Complete(tag) => format!("Result: {tag}"),
            _ => String::new(),
        })
    }

    async fn explain_lines(&mut self, prepared: &Prepared, verbose: bool) -> Result<Vec<String>> {
        match &prepared.plan {
            Plan::Query {
                direct: Some(direct),
                ..
            } => Ok(direct.explain()),
            Plan::Query {
                analyzed,
                direct: None,
            } => {
                self.ensure_active();
                self.begin_statement().await?;
                let ctx = Arc::new(self.statement_context(true)?);
                let params = vec![Datum::Null; analyzed.parameter_types.len()];
                let runtime = &self.instance.runtime;
                let plan = runtime
                    .physical_plan(analyzed, &params, &runtime.state(&ctx))
                    .await?;
                let text = displayable(plan.as_ref()).indent(verbose).to_string();
                Ok(text.lines().map(str::to_string).collect())
            }
            Plan::Change(plan) => Ok(plan.explain()),
            Plan::With(plan) => Ok(plan.explain()),
            Plan::Other => Err(Error::unsupported("EXPLAIN of this statement")),
        }
    }
}
