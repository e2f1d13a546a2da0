//! The simple protocol: a string of statements, run one after the other in one implicit
//! transaction unless they say BEGIN (manual, section 55.2.2.1).

use super::Session;
use super::prepared::Prepared;
use super::retry::Place;
use crate::plan_cache::PlanKey;
use crate::response::Response;
use crate::statement::Statement;
use crate::text::{Literal, Normalised, located, normalise, split_statements};
use std::collections::VecDeque;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlType};

/// A query string on its way. Parsed as a whole before anything runs.
pub struct SimpleQuery<'q> {
    /// Until it is taken apart.
    text: Option<&'q str>,
    steps: VecDeque<Step>,
}

enum Step {
    Ready(Arc<Prepared>, Vec<Datum>),
    /// Planned when its turn comes: earlier statements may make what it needs.
    Parsed(Arc<str>, Statement),
}

impl Session {
    /// Begins a query string. Responses and errors come out of [`Session::next_simple`].
    pub fn simple<'q>(&self, sql: &'q str) -> SimpleQuery<'q> {
        SimpleQuery {
            text: Some(sql),
            steps: VecDeque::new(),
        }
    }

    /// The next response, or `None` at the end. An error is the last.
    pub async fn next_simple(&mut self, query: &mut SimpleQuery<'_>) -> Option<Result<Response>> {
        if let Some(sql) = query.text.take() {
            match self.simple_steps(sql).await {
                Ok(steps) if steps.is_empty() => return Some(Ok(Response::Empty)),
                Ok(steps) => query.steps = steps,
                Err(error) => {
                    self.fail();
                    return Some(Err(located(error, sql)));
                }
            }
        }
        let Some(step) = query.steps.pop_front() else {
            // Still open only after COPY FROM, whose data came between two calls.
            return self.end_implicit().await.err().map(Err);
        };
        let result = self.run_step(step, query.steps.is_empty()).await;
        if result.is_err() {
            query.steps.clear();
        }
        Some(result)
    }

    async fn run_step(&mut self, step: Step, last: bool) -> Result<Response> {
        let (prepared, params) = match step {
            Step::Ready(prepared, params) => (prepared, params),
            Step::Parsed(text, statement) => {
                match self.plan_newest(text, statement, Vec::new()).await {
                    Ok(prepared) => (Arc::new(prepared), Vec::new()),
                    Err(error) => {
                        self.fail();
                        return Err(error);
                    }
                }
            }
        };
        if !prepared.parameter_types.is_empty() && params.is_empty() {
            self.fail();
            return Err(Error::new(
                types::SqlState::UNDEFINED_PARAMETER,
                "there is no parameter $1",
            ));
        }
        let place = Place {
            last,
            described: false,
        };
        self.execute_prepared(prepared, &params, place).await
    }

    async fn simple_steps(&mut self, sql: &str) -> Result<VecDeque<Step>> {
        self.refresh_settings();
        if let Some(step) = self.cached_step(sql).await? {
            return Ok(VecDeque::from([step]));
        }
        Box::pin(self.planned_steps(sql)).await
    }

    async fn planned_steps(&mut self, sql: &str) -> Result<VecDeque<Step>> {
        let ranges = split_statements(sql)?;
        let single = ranges.len() == 1;
        let mut steps = VecDeque::with_capacity(ranges.len());
        for range in ranges {
            let text = &sql[range];
            let statement = Statement::parse(text)?;
            if single {
                let prepared = self.plan_cached(text, statement).await?;
                steps.push_back(Step::Ready(prepared, Vec::new()));
            } else {
                steps.push_back(Step::Parsed(text.into(), statement));
            }
        }
        Ok(steps)
    }

    /// Plans a statement without parameters, and keeps the plan if others can use it.
    async fn plan_cached(&mut self, text: &str, statement: Statement) -> Result<Arc<Prepared>> {
        let private = self.sees_own_catalog();
        let prepared = self.plan_newest(text.into(), statement, Vec::new()).await?;
        let prepared = Arc::new(prepared);
        if !private {
            let key = PlanKey {
                space: self.plan_space,
                text,
            };
            self.instance.plans.put(key, Arc::clone(&prepared));
        }
        Ok(prepared)
    }

    /// A step from the plan cache: by the text with its literals lifted out, or by the text itself.
    async fn cached_step(&mut self, sql: &str) -> Result<Option<Step>> {
        if self.sees_own_catalog() {
            return Ok(None);
        }
        let space = self.plan_space;
        let exact = sql.trim_end_matches([';', ' ', '\n']);
        if let Some(plan) = self.instance.plans.get(PlanKey { space, text: exact }) {
            let plan = self.cached(exact, plan).await?;
            return Ok(Some(Step::Ready(plan, Vec::new())));
        }
        let Some(normalised) = normalise(sql)? else {
            return Ok(None);
        };
        if normalised.literals.is_empty() {
            return Ok(None);
        }
        let key = PlanKey {
            space,
            text: &normalised.key,
        };
        let plan = match self.instance.plans.get(key) {
            Some(plan) => self.cached(&normalised.key, plan).await?,
            None => match self.plan_normalised(&normalised)? {
                Some(plan) => plan,
                None => return Ok(None),
            },
        };
        if !plan.is_direct() {
            return Ok(None);
        }
        match self.bind_literals(&plan, normalised.literals) {
            Ok(params) => Ok(Some(Step::Ready(plan, params))),
            // The literal is at fault, or its place: planning the text itself words the error.
            Err(_) => Ok(None),
        }
    }

    /// A plan from the cache, made anew there if the catalog has changed under it.
    pub(super) async fn cached(
        &mut self,
        text: &str,
        plan: Arc<Prepared>,
    ) -> Result<Arc<Prepared>> {
        if self.is_current(&plan) {
            return Ok(plan);
        }
        let plan = self.current(plan).await?;
        let key = PlanKey {
            space: self.plan_space,
            text,
        };
        self.instance.plans.put(key, Arc::clone(&plan));
        Ok(plan)
    }

    /// Plans normalised text. Kept also when it is not direct, so that the next of its kind knows.
    fn plan_normalised(&mut self, normalised: &Normalised) -> Result<Option<Arc<Prepared>>> {
        let Ok(statement) = Statement::parse(&normalised.key) else {
            return Ok(None);
        };
        let declared = normalised
            .literals
            .iter()
            .map(Literal::declared_type)
            .collect();
        let Ok(prepared) = self.plan(normalised.key.as_str().into(), statement, declared) else {
            return Ok(None);
        };
        let prepared = Arc::new(prepared);
        let key = PlanKey {
            space: self.plan_space,
            text: &normalised.key,
        };
        self.instance.plans.put(key, Arc::clone(&prepared));
        Ok(Some(prepared))
    }

    fn bind_literals(&self, plan: &Prepared, literals: Vec<Literal>) -> Result<Vec<Datum>> {
        if plan.parameter_types.len() != literals.len() {
            return Err(Error::internal("literals and parameters do not pair"));
        }
        let mut params = Vec::with_capacity(literals.len());
        for (literal, sql_type) in literals.into_iter().zip(&plan.parameter_types) {
            params.push(match literal {
                Literal::Number(value, own) if own == *sql_type => value,
                Literal::Number(..) => {
                    return Err(Error::internal("a number's type was not kept"));
                }
                Literal::Text(text) if *sql_type == SqlType::Text => Datum::Text(text.into()),
                Literal::Text(text) => self.read_text(&text, sql_type)?,
            });
        }
        Ok(params)
    }

    /// Inside of a transaction that has changed the catalog, plans are nobody else's.
    pub(super) fn sees_own_catalog(&self) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| active.working.is_some())
    }
}

impl Literal {
    fn declared_type(&self) -> Option<SqlType> {
        match self {
            Literal::Number(_, sql_type) => Some(sql_type.clone()),
            Literal::Text(_) => None,
        }
    }
}
