//! A statement with its plan, good for any number of executions.

use super::Session;
use crate::catalog::Catalog;
use crate::direct::{DirectQuery, compile_query};
use crate::dml::with::WithPlan;
use crate::dml::{self, DmlPlan};
use crate::plan_cache::PlanKey;
use crate::query::{AnalyzedQuery, Planner};
use crate::response::ResultColumn;
use crate::statement::Statement;
use std::sync::Arc;
use types::{Result, SqlType};

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
        Ok(Prepared {
            text,
            statement,
            plan,
            parameter_types,
            columns,
            declared,
            catalog,
            space: self.plan_space,
        })
    }

    /// Whether the plan still means the same.
    pub(super) fn is_current(&self, prepared: &Prepared) -> bool {
        match prepared.plan {
            Plan::Other => true,
            _ => self.plan_space == prepared.space && self.sees_catalog(&prepared.catalog),
        }
    }

    /// The plan, made anew if the catalog or the search path has changed under it.
    pub(super) fn current(&mut self, prepared: Arc<Prepared>) -> Result<Arc<Prepared>> {
        self.refresh_settings();
        if self.is_current(&prepared) {
            return Ok(prepared);
        }
        let statement = prepared.statement.clone();
        let declared = prepared.declared.clone();
        self.plan(Arc::clone(&prepared.text), statement, declared)
            .map(Arc::new)
    }

    /// The plan that all sessions share. One from before the last change of the catalog is replaced, so
    /// that it is made anew once and not at every use. Only for a session without a catalog of its own.
    pub(super) fn shared_plan(&mut self, key: PlanKey<'_>) -> Result<Option<Arc<Prepared>>> {
        let Some(found) = self.instance.plans.get(key) else {
            return Ok(None);
        };
        let plan = self.current(Arc::clone(&found))?;
        if !Arc::ptr_eq(&plan, &found) && plan.space == key.space {
            self.instance.plans.put(key, Arc::clone(&plan));
        }
        Ok(Some(plan))
    }
}
