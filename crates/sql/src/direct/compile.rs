//! From an analysed plan to a direct query, if it has one.

use super::access::{AccessPath, OrderColumn};
use super::query::{DirectQuery, RowLock, Source};
use super::scalar::{Input, Scalar, Truth};
use super::steps::{Aggregate, AggregateKind, SortKey, Step, can_sum};
use crate::arrow_bridge::sql_type_of;
use crate::catalog::descriptor::Table;
use crate::query::planner::{AnalyzedQuery, LockStrength};
use crate::query::table_of;
use crate::table_codec::TableCodec;
use datafusion::logical_expr::{Distinct, Expr, ExprSchemable, LogicalPlan, TableScan};
use std::sync::Arc;
use txn::kv::LockMode;
use types::Datum;

/// The largest constant LIMIT for which a table is read in key order.
const MAX_LIMIT: i64 = 1000;

/// The direct form of a query, if it has one.
pub fn compile_query(query: &AnalyzedQuery) -> Option<DirectQuery> {
    let mut builder = Builder::default();
    builder.plan(&query.plan)?;
    let lock = match query.locking.as_slice() {
        [] => None,
        [one] => Some(RowLock {
            mode: match one.strength {
                LockStrength::KeyShare => LockMode::KeyShare,
                LockStrength::Share => LockMode::Share,
                LockStrength::NoKeyUpdate => LockMode::NoKeyUpdate,
                LockStrength::Update => LockMode::Update,
            },
            wait: one.wait,
        }),
        _ => return None,
    };
    builder.finish(lock)
}

#[derive(Default)]
struct Builder {
    table: Option<Arc<Table>>,
    steps: Vec<Step>,
}

impl Builder {
    fn plan(&mut self, plan: &LogicalPlan) -> Option<()> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => Some(()),
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => {
                self.plan(&projection.input)?;
                let columns = self.scalars(&projection.input, projection.expr.iter())?;
                self.steps.push(Step::Project(columns));
                Some(())
            }
            LogicalPlan::Filter(filter) => {
                self.plan(&filter.input)?;
                let condition = self.scalar(&filter.input, &filter.predicate)?;
                self.steps.push(Step::Filter(condition));
                Some(())
            }
            LogicalPlan::Sort(sort) => {
                self.plan(&sort.input)?;
                let mut keys = Vec::with_capacity(sort.expr.len());
                for key in &sort.expr {
                    let (_, field) = key.expr.to_field(sort.input.schema().as_ref()).ok()?;
                    keys.push(SortKey {
                        value: self.scalar(&sort.input, &key.expr)?,
                        sql_type: sql_type_of(&field),
                        ascending: key.asc,
                        nulls_first: key.nulls_first,
                    });
                }
                self.steps.push(Step::Sort(keys));
                if let Some(fetch) = sort.fetch {
                    self.steps.push(Step::Limit {
                        skip: None,
                        fetch: Some(Scalar::Constant(Datum::Int8(fetch as i64))),
                    });
                }
                Some(())
            }
            LogicalPlan::Limit(limit) => {
                self.plan(&limit.input)?;
                let part = |expr: &Option<Box<Expr>>| match expr {
                    None => Some(None),
                    Some(expr) => {
                        let scalar = self.scalar(&limit.input, expr)?;
                        scalar.is_row_independent().then_some(Some(scalar))
                    }
                };
                let (skip, fetch) = (part(&limit.skip)?, part(&limit.fetch)?);
                self.steps.push(Step::Limit { skip, fetch });
                Some(())
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                self.plan(input)?;
                let fields = input.schema().fields();
                let types = fields.iter().map(|field| sql_type_of(field)).collect();
                self.steps.push(Step::Distinct(types));
                Some(())
            }
            LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
                self.plan(&aggregate.input)?;
                let list = aggregate
                    .aggr_expr
                    .iter()
                    .map(|expr| self.aggregate(&aggregate.input, expr))
                    .collect::<Option<Vec<_>>>()?;
                self.steps.push(Step::Aggregate(list));
                Some(())
            }
            _ => None,
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Option<()> {
        let table = table_of(&scan.source)?;
        if !scan.filters.is_empty() || scan.fetch.is_some() {
            return None;
        }
        self.table = Some(table.clone());
        if let Some(projection) = &scan.projection {
            let live: Vec<usize> = table.live_columns().map(|(position, _)| position).collect();
            let columns = projection
                .iter()
                .map(|index| live.get(*index).map(|position| Scalar::Column(*position)))
                .collect::<Option<Vec<_>>>()?;
            self.steps.push(Step::Project(columns));
        }
        Some(())
    }

    /// Before the first projection a row has the table's columns by position.
    fn places(&self) -> Option<Vec<usize>> {
        let projected = self
            .steps
            .iter()
            .any(|step| matches!(step, Step::Project(_) | Step::Aggregate(_)));
        let table = self.table.as_ref().filter(|_| !projected)?;
        Some(table.live_columns().map(|(position, _)| position).collect())
    }

    fn scalar(&self, input: &LogicalPlan, expr: &Expr) -> Option<Scalar> {
        let places = self.places();
        Scalar::compile(
            expr,
            &Input {
                schema: input.schema(),
                places: places.as_deref(),
            },
        )
    }

    fn scalars<'e>(
        &self,
        input: &LogicalPlan,
        exprs: impl Iterator<Item = &'e Expr>,
    ) -> Option<Vec<Scalar>> {
        exprs.map(|expr| self.scalar(input, expr)).collect()
    }

    fn aggregate(&self, input: &LogicalPlan, expr: &Expr) -> Option<Aggregate> {
        let expr = match expr {
            Expr::Alias(alias) => &alias.expr,
            other => other,
        };
        let Expr::AggregateFunction(call) = expr else {
            return None;
        };
        let params = &call.params;
        if params.distinct || !params.order_by.is_empty() || params.null_treatment.is_some() {
            return None;
        }
        let kind = match call.func.name() {
            "count" => AggregateKind::Count,
            "sum" => AggregateKind::Sum,
            "min" => AggregateKind::Min,
            "max" => AggregateKind::Max,
            _ => return None,
        };
        let (argument, argument_type) = match params.args.as_slice() {
            [] if kind == AggregateKind::Count => (None, types::SqlType::Int8),
            // `count(*)` and `count(1)` alike.
            [Expr::Literal(value, _)] if kind == AggregateKind::Count && !value.is_null() => {
                (None, types::SqlType::Int8)
            }
            [argument] => {
                let (_, field) = argument.to_field(input.schema().as_ref()).ok()?;
                (Some(self.scalar(input, argument)?), sql_type_of(&field))
            }
            _ => return None,
        };
        if kind == AggregateKind::Sum && !can_sum(&argument_type) {
            return None;
        }
        let filter = match &params.filter {
            Some(filter) => Some(self.scalar(input, filter)?),
            None => None,
        };
        Some(Aggregate {
            kind,
            argument,
            filter,
            argument_type,
        })
    }

    fn finish(mut self, lock: Option<RowLock>) -> Option<DirectQuery> {
        let Some(table) = self.table.take() else {
            if lock.is_some() {
                return None;
            }
            let streaming = streaming_count(&self.steps);
            return Some(DirectQuery {
                source: Source::OneRow,
                steps: self.steps,
                streaming,
                plain: None,
                lock: None,
                may_leave: false,
            });
        };
        let blocks_lock = |step: &Step| matches!(step, Step::Aggregate(_) | Step::Distinct(_));
        if lock.is_some() && self.steps.iter().any(blocks_lock) {
            return None;
        }
        let codec = Arc::new(TableCodec::new(table.clone()).ok()?);
        let mut conditions = Vec::new();
        while let Some(Step::Filter(_)) = self.steps.first() {
            if let Step::Filter(condition) = self.steps.remove(0) {
                conditions.extend_from_slice(super::access::conjuncts(&condition));
            }
        }
        let condition = match conditions.len() {
            0 => None,
            1 => conditions.pop(),
            _ => Some(Scalar::And(conditions)),
        };
        let unordered = self.order_before_extreme();
        let sort = self.wanted_order();
        let order = sort.as_ref().map_or(&[][..], |(_, order)| order.as_slice());
        let path = AccessPath::choose(codec, condition, order);
        let ordered = sort.is_some() && path.gives_order(order);
        if let Some((step, _)) = sort
            && ordered
        {
            self.steps.remove(step);
        } else if let Some(steps) = unordered {
            self.steps = steps;
        }
        let streaming = streaming_count(&self.steps);
        let short = self.has_short_limit(streaming);
        let direct = if path.is_narrow() {
            true
        } else {
            // In order, or any rows at all, and only a few of them.
            short && (ordered || path.condition.is_none() || path.is_bounded())
        };
        // DataFusion cannot lock rows: a locking query stays here whatever it reads.
        if !direct && lock.is_none() {
            return None;
        }
        let volatile = self.steps.iter().any(Step::is_volatile)
            || path.condition.as_ref().is_some_and(Scalar::is_volatile);
        if volatile && !path.is_point() && !short {
            return None;
        }
        let mut wanted = Vec::new();
        if let Some(condition) = &path.condition {
            condition.collect_columns(&mut wanted);
        }
        let mut projected = false;
        for step in &self.steps {
            match step {
                Step::Project(columns) => {
                    columns.iter().for_each(|c| c.collect_columns(&mut wanted));
                    projected = true;
                }
                Step::Filter(condition) => condition.collect_columns(&mut wanted),
                Step::Sort(keys) => keys
                    .iter()
                    .for_each(|k| k.value.collect_columns(&mut wanted)),
                Step::Aggregate(list) => {
                    for one in list {
                        one.argument
                            .iter()
                            .chain(&one.filter)
                            .for_each(|s| s.collect_columns(&mut wanted));
                    }
                    projected = true;
                }
                Step::Limit { .. } | Step::Distinct(_) => {}
            }
            if projected {
                break;
            }
        }
        if !projected {
            // The plan ends without a projection: all live columns, as the schema has them.
            let live: Vec<usize> = table.live_columns().map(|(position, _)| position).collect();
            self.steps.push(Step::Project(
                live.iter().map(|p| Scalar::Column(*p)).collect(),
            ));
            wanted = live;
        }
        wanted.sort_unstable();
        wanted.dedup();
        let streaming_now = streaming_count(&self.steps);
        let plain = match self.steps.as_slice() {
            [Step::Project(columns)] if path.residual.is_none() => columns
                .iter()
                .map(|column| match column {
                    Scalar::Column(position) => Some(*position),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        Some(DirectQuery {
            may_leave: lock.is_none() && !volatile && !path.is_point() && (!short || !ordered),
            source: Source::Table { path, wanted },
            steps: self.steps,
            streaming: streaming_now,
            plain,
            lock,
        })
    }

    /// `min` and `max` of a column are in the first row of the column's order: puts that order before
    /// the aggregate, for an index that has it. Returns the steps as they were.
    fn order_before_extreme(&mut self) -> Option<Vec<Step>> {
        let index = streaming_count(&self.steps);
        let Some(Step::Aggregate(list)) = self.steps.get(index) else {
            return None;
        };
        let [one] = list.as_slice() else {
            return None;
        };
        let ascending = match one.kind {
            AggregateKind::Min => true,
            AggregateKind::Max => false,
            AggregateKind::Count | AggregateKind::Sum => return None,
        };
        let value = one.argument.clone().filter(|_| one.filter.is_none())?;
        let not_null = Scalar::Is {
            truth: Truth::Null,
            negated: true,
            operand: Box::new(value.clone()),
        };
        let order = SortKey {
            value,
            sql_type: one.argument_type.clone(),
            ascending,
            // As an index has them; there are none.
            nulls_first: !ascending,
        };
        let first = Step::Limit {
            skip: None,
            fetch: Some(Scalar::Constant(Datum::Int8(1))),
        };
        let unordered = self.steps.clone();
        let steps = [Step::Filter(not_null), Step::Sort(vec![order]), first];
        self.steps.splice(index..index, steps);
        Some(unordered)
    }

    /// The first sort, if only filters and projections stand before it and its keys are columns of the
    /// table: where it is, and the order it wants.
    fn wanted_order(&self) -> Option<(usize, Vec<OrderColumn>)> {
        let index = self.steps.iter().position(|step| !step.is_streaming())?;
        let Step::Sort(keys) = &self.steps[index] else {
            return None;
        };
        let mut order = Vec::with_capacity(keys.len());
        for key in keys {
            let mut scalar = &key.value;
            for step in self.steps[..index].iter().rev() {
                if let (Step::Project(columns), Scalar::Column(place)) = (step, scalar) {
                    scalar = columns.get(*place)?;
                }
            }
            let Scalar::Column(column) = scalar else {
                return None;
            };
            order.push(OrderColumn {
                column: *column,
                ascending: key.ascending,
                nulls_first: key.nulls_first,
            });
        }
        Some((index, order))
    }

    fn has_short_limit(&self, streaming: usize) -> bool {
        match self.steps.get(streaming) {
            Some(Step::Limit {
                fetch: Some(fetch), ..
            }) => match fetch {
                Scalar::Constant(Datum::Int8(rows)) => *rows <= MAX_LIMIT,
                Scalar::Constant(Datum::Int4(rows)) => i64::from(*rows) <= MAX_LIMIT,
                Scalar::Constant(_) => false,
                _ => true,
            },
            _ => false,
        }
    }
}

/// How many of the first steps work row by row.
fn streaming_count(steps: &[Step]) -> usize {
    steps.iter().take_while(|step| step.is_streaming()).count()
}
