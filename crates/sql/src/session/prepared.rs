//! A statement with its plan, good for any number of executions.

use super::Session;
use crate::catalog::Catalog;
use crate::catalog::descriptor::ObjectId;
use crate::direct::{DirectQuery, compile_query};
use crate::dml::with::WithPlan;
use crate::dml::{self, DmlPlan};
use crate::query::{AnalyzedQuery, Planner};
use crate::response::ResultColumn;
use crate::statement::Statement;
use crate::table_codec::prefix_span;
use std::borrow::Cow;
use std::sync::Arc;
use txn::kv::Span;
use types::{Datum, Result, SqlType, key};

pub struct Prepared {
    pub text: Arc<str>,
    pub statement: Statement,
    pub plan: Plan,
    pub parameter_types: Vec<SqlType>,
    /// `None`: the statement returns no rows.
    pub columns: Option<Arc<[ResultColumn]>>,
    /// What the client declared, to plan again.
    pub declared: Vec<Option<SqlType>>,
    /// The catalog it was planned with. A statement is planned again when the catalog has changed;
    /// that takes a millisecond and disturbs nobody.
    catalog: Arc<Catalog>,
    space: u64,
    /// The keys of its tables.
    spans: Box<[Span]>,
}

pub enum Plan {
    Query {
        analyzed: AnalyzedQuery,
        /// Set when the direct executor takes it.
        direct: Option<DirectQuery>,
    },
    Change(DmlPlan),
    With(WithPlan),
    /// Session and definition statements are carried out from their syntax.
    Other,
}

impl Prepared {
    /// The catalog that it was planned with.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Tables and views that the plan depends on, with their versions.
    pub fn tables(&self) -> Vec<(ObjectId, u64)> {
        match &self.plan {
            Plan::Query { analyzed, .. } => analyzed.tables.clone(),
            Plan::Change(plan) => plan.tables.clone(),
            Plan::With(plan) => plan.tables().collect(),
            Plan::Other => Vec::new(),
        }
    }

    /// Where it reads at its snapshot: all keys of its tables.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Runs without DataFusion.
    pub fn is_direct(&self) -> bool {
        match &self.plan {
            Plan::Query { direct, .. } => direct.is_some(),
            Plan::Change(plan) => plan.is_direct(),
            Plan::With(_) | Plan::Other => false,
        }
    }
}

impl Session {
    /// Plans a statement against the newest catalog: definitions acknowledged before this call count,
    /// whichever gateway they were made at.
    pub(super) async fn plan_newest(
        &mut self,
        text: Arc<str>,
        statement: Statement,
        declared: Vec<Option<SqlType>>,
    ) -> Result<Prepared> {
        if statement.is_planned() {
            self.see_definitions().await?;
        }
        self.plan(text, statement, declared)
    }

    /// Plans a statement against the catalog as this session sees it.
    pub(super) fn plan(
        &mut self,
        text: Arc<str>,
        statement: Statement,
        declared: Vec<Option<SqlType>>,
    ) -> Result<Prepared> {
        self.refresh_settings();
        let catalog = self.catalog();
        let planner = Planner {
            catalog: &catalog,
            database: self.database_oid,
            settings: &self.expr_settings,
            registry: &self.instance.registry,
            virtual_tables: &self.instance.virtual_tables,
            surrounding: Default::default(),
        };
        let (plan, parameter_types, columns) = match &statement {
            Statement::Query(query) => {
                let analyzed = planner.query(query, &declared)?;
                let direct = compile_query(&analyzed);
                let columns = Arc::clone(&analyzed.columns);
                let types = analyzed.parameter_types.clone();
                (Plan::Query { analyzed, direct }, types, Some(columns))
            }
            Statement::Change(change) => {
                let plan = dml::plan(&planner, change, &declared)?;
                let types = plan.parameter_types.clone();
                let columns = plan.returning.clone();
                (Plan::Change(plan), types, columns)
            }
            Statement::ChangeWith(query) => {
                let plan = dml::with::plan(&planner, query, &declared)?;
                let types = plan.parameter_types.clone();
                let columns = plan.columns.clone();
                (Plan::With(plan), types, columns)
            }
            other => (Plan::Other, Vec::new(), self.columns_of(other)?),
        };
        let mut prepared = Prepared {
            text,
            statement,
            plan,
            parameter_types,
            columns,
            declared,
            catalog,
            space: self.plan_space,
            spans: Box::default(),
        };
        let tables = prepared.tables().into_iter();
        // A view among them has no keys; its tables are among them, too.
        let tables = tables.filter_map(|(oid, _)| prepared.catalog.table(oid));
        let spans = tables.map(|table| prefix_span(&key::table_prefix(table.data_id)));
        prepared.spans = spans.collect();
        Ok(prepared)
    }

    /// Whether the plan still means the same.
    pub(super) fn is_current(&self, prepared: &Prepared) -> bool {
        match prepared.plan {
            Plan::Other => true,
            _ => self.plan_space == prepared.space && self.sees_catalog(&prepared.catalog),
        }
    }

    /// The plan, made anew if the catalog or the search path has changed under it.
    pub(super) async fn current(&mut self, prepared: Arc<Prepared>) -> Result<Arc<Prepared>> {
        self.refresh_settings();
        if self.is_current(&prepared) {
            return Ok(prepared);
        }
        Box::pin(self.plan_again(&prepared)).await
    }

    async fn plan_again(&mut self, prepared: &Prepared) -> Result<Arc<Prepared>> {
        let text = Arc::clone(&prepared.text);
        let statement = prepared.statement.clone();
        let declared = prepared.declared.clone();
        let plan = self.plan_newest(text, statement, declared).await;
        plan.map(Arc::new)
    }

    /// The same with parameters that were read for the plan. A parameter whose type has changed with a
    /// column's is read again from its text, as if the client had sent it now.
    pub(super) async fn current_with<'p>(
        &mut self,
        prepared: Arc<Prepared>,
        params: Cow<'p, [Datum]>,
    ) -> Result<(Arc<Prepared>, Cow<'p, [Datum]>)> {
        self.refresh_settings();
        if self.is_current(&prepared) {
            return Ok((prepared, params));
        }
        let current = Box::pin(self.plan_again(&prepared)).await?;
        let (before, now) = (&prepared.parameter_types, &current.parameter_types);
        if before == now {
            return Ok((current, params));
        }
        let types = before.iter().zip(now);
        let params = params.iter().zip(types).map(|(param, (before, now))| {
            if before == now || param.is_null() {
                return Ok(param.clone());
            }
            self.read_text(&param.to_text(before, self.format_context()), now)
        });
        let params = params.collect::<Result<Vec<_>>>()?;
        Ok((current, Cow::Owned(params)))
    }
}
