//! INSERT.

mod conflict;

use super::prepared::{Assigned, PreparedSet, assigned, remaining_cast, type_mismatch};
use super::returning::Returning;
use super::writer::Writer;
use super::{
    DmlPlan, DmlResult, Work, adopt, defaulted, is_default, target_column, target_factor,
    target_table,
};
use crate::catalog::descriptor::{Identity, Table};
use crate::context::StatementContext;
use crate::direct::convert;
use crate::query::Runtime;
use crate::query::casts::CastUdf;
use crate::query::coerce::{CastContext, can_cast};
use crate::query::names;
use crate::query::planner::{AnalyzedQuery, Planner};
use crate::response::{RowChunk, RowSource};
use crate::statement::{OVERRIDING_SYSTEM, OVERRIDING_USER};
use conflict::Conflict;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, LogicalPlan};
use futures::StreamExt;
use sqlparser::ast;
use std::collections::BTreeSet;
use std::sync::Arc;
use txn::kv::Key;
use types::{Datum, Error, Result, Row, SqlState, SqlType};

/// A value of a VALUES list.
pub(super) enum Given {
    Default,
    Value(Assigned),
    /// The one column of a query's one row, for what has a subquery in it.
    Query(Box<Source>),
}

#[expect(clippy::large_enum_variant, reason = "one per plan")]
pub(super) enum Source {
    Values(Vec<Vec<Given>>),
    Query {
        query: AnalyzedQuery,
        /// What is to be done to each of its columns.
        casts: Vec<Option<Arc<CastUdf>>>,
    },
}

pub struct Insert {
    pub(super) source: Source,
    /// Positions of the columns given.
    columns: Vec<usize>,
    /// Positions that take their default.
    missing: Vec<usize>,
    conflict: Option<Conflict>,
}

impl Insert {
    /// Whether it may change rows that are there already.
    pub(super) fn updates(&self) -> bool {
        self.conflict.as_ref().is_some_and(Conflict::updates)
    }
}

pub fn plan(
    planner: &Planner<'_>,
    insert: &ast::Insert,
    declared: &mut Vec<Option<SqlType>>,
) -> Result<DmlPlan> {
    let ast::TableObject::TableName(name) = &insert.table else {
        return Err(Error::unsupported("INSERT into a function or query"));
    };
    let table = target_table(planner, name, "insert into")?;
    let set = PreparedSet::new(planner, &table)?;
    let target = set.get(table.oid)?.clone();
    let alias = insert.table_alias.as_ref().map(|alias| alias.alias.clone());
    let mut columns = Vec::new();
    let mut overriding = Overriding::No;
    for name in &insert.columns {
        match names::object_name(name).as_slice() {
            [name] if name == OVERRIDING_SYSTEM => overriding = Overriding::System,
            [name] if name == OVERRIDING_USER => overriding = Overriding::User,
            _ => {}
        }
        if overriding != Overriding::No {
            continue;
        }
        let position = target_column(&table, name)?;
        if columns.contains(&position) {
            return Err(Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!(
                    "column \"{}\" specified more than once",
                    table.columns[position].name
                ),
            ));
        }
        columns.push(position);
    }
    let explicit = !columns.is_empty();
    if !explicit {
        columns = target.live.clone();
    }
    let conflict = match &insert.on {
        None => None,
        Some(ast::OnInsert::OnConflict(on)) => {
            let shown = alias
                .as_ref()
                .map_or_else(|| table.name.clone(), names::fold);
            Some(conflict::plan(planner, on, &target, &shown, declared)?)
        }
        Some(_) => return Err(Error::syntax("ON DUPLICATE KEY UPDATE is not PostgreSQL")),
    };
    let mut tables = Vec::new();
    let source = match &insert.source {
        None => {
            columns.clear();
            Source::Values(vec![Vec::new()])
        }
        Some(query) => match values_of(query) {
            Some(rows) => {
                let width = rows.first().map_or(0, |row| row.len());
                check_width(&mut columns, width, explicit)?;
                let to = Destination {
                    table: &table,
                    columns: &columns,
                    overriding,
                };
                Source::Values(plan_values(planner, rows, to, declared, &mut tables)?)
            }
            None => {
                let analyzed = planner.query(query, declared)?;
                check_width(&mut columns, analyzed.columns.len(), explicit)?;
                let to = Destination {
                    table: &table,
                    columns: &columns,
                    overriding,
                };
                plan_query(analyzed, to, declared, &mut tables)?
            }
        },
    };
    let relation = target_factor(planner, &table, name, alias.as_ref());
    let returned = Returning::over_target(
        planner,
        insert.returning.as_ref(),
        &target,
        &relation,
        declared,
    )?;
    let mut missing = defaulted(&target, &columns);
    if overriding == Overriding::User {
        let given = columns.iter().copied();
        missing.extend(given.filter(|position| table.columns[*position].identity.is_some()));
    }
    let work = Work::Insert(Insert {
        source,
        columns,
        missing,
        conflict,
    });
    Ok(DmlPlan::new(
        "INSERT",
        declared.clone(),
        set,
        target,
        work,
        returned,
        tables,
    ))
}

/// The target as a FROM item.
pub fn table_factor(name: &ast::ObjectName, alias: Option<&ast::Ident>) -> ast::TableFactor {
    ast::TableFactor::Table {
        name: name.clone(),
        alias: alias.map(|alias| ast::TableAlias {
            explicit: true,
            name: alias.clone(),
            columns: Vec::new(),
            at: None,
        }),
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// The rows of a plain VALUES list.
fn values_of(query: &ast::Query) -> Option<Vec<&[ast::Expr]>> {
    let plain = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none();
    match query.body.as_ref() {
        ast::SetExpr::Values(values) if plain => Some(
            values
                .rows
                .iter()
                .map(|row| row.content.as_slice())
                .collect(),
        ),
        _ => None,
    }
}

fn check_width(columns: &mut Vec<usize>, width: usize, explicit: bool) -> Result<()> {
    if width > columns.len() {
        return Err(Error::syntax(
            "INSERT has more expressions than target columns",
        ));
    }
    if width < columns.len() {
        if explicit {
            return Err(Error::syntax(
                "INSERT has more target columns than expressions",
            ));
        }
        columns.truncate(width);
    }
    Ok(())
}

/// OVERRIDING … VALUE: whose values identity columns take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overriding {
    No,
    System,
    User,
}

/// Where an INSERT's values go.
#[derive(Clone, Copy)]
struct Destination<'t> {
    table: &'t Table,
    columns: &'t [usize],
    overriding: Overriding,
}

/// 428C9 for a column that computes its values itself.
fn refuse_given(to: Destination<'_>, position: usize) -> Result<()> {
    let column = &to.table.columns[position];
    let error = || {
        Error::new(
            SqlState::GENERATED_ALWAYS,
            format!(
                "cannot insert a non-DEFAULT value into column \"{}\"",
                column.name
            ),
        )
    };
    if column.generated.is_some() {
        return Err(error().detail(format!("Column \"{}\" is a generated column.", column.name)));
    }
    if column.identity == Some(Identity::Always) && to.overriding == Overriding::No {
        return Err(error()
            .detail(format!(
                "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
                column.name
            ))
            .hint("Use OVERRIDING SYSTEM VALUE to override."));
    }
    Ok(())
}

fn plan_values(
    planner: &Planner<'_>,
    rows: Vec<&[ast::Expr]>,
    to: Destination<'_>,
    declared: &mut Vec<Option<SqlType>>,
    tables: &mut Vec<(u32, u64)>,
) -> Result<Vec<Vec<Given>>> {
    let Destination { table, columns, .. } = to;
    let empty = DFSchema::empty();
    let mut planned = Vec::with_capacity(rows.len());
    for row in rows {
        if row.len() != columns.len() {
            return Err(Error::syntax("VALUES lists must all be the same length"));
        }
        let mut values = Vec::with_capacity(row.len());
        for (expr, position) in row.iter().zip(columns) {
            if is_default(expr) {
                values.push(Given::Default);
                continue;
            }
            refuse_given(to, *position)?;
            let column = &table.columns[*position];
            match assigned(planner, expr, column, &empty, &[], declared)? {
                Some(value) => values.push(Given::Value(value)),
                None => {
                    let query = crate::statement::parse_query(&format!("SELECT {expr}"))?;
                    let analyzed = planner.query(&query, declared)?;
                    let to = Destination {
                        columns: &[*position],
                        ..to
                    };
                    let source = plan_query(analyzed, to, declared, tables)?;
                    values.push(Given::Query(Box::new(source)));
                }
            }
        }
        planned.push(values);
    }
    Ok(planned)
}

fn plan_query(
    analyzed: AnalyzedQuery,
    to: Destination<'_>,
    declared: &mut Vec<Option<SqlType>>,
    tables: &mut Vec<(u32, u64)>,
) -> Result<Source> {
    let Destination { table, columns, .. } = to;
    adopt(declared, &analyzed.parameter_types);
    let mut casts = Vec::with_capacity(columns.len());
    for (number, (found, position)) in analyzed.columns.iter().zip(columns).enumerate() {
        refuse_given(to, *position)?;
        let column = &table.columns[*position];
        casts.push(
            if found.sql_type == SqlType::Text && is_literal(&analyzed, number) {
                // A quoted literal has no type of its own: it is read as the column's.
                Some(Arc::new(CastUdf::new(
                    SqlType::Text,
                    column.sql_type.clone(),
                    !column.sql_type.is_string(),
                )))
            } else {
                assignment_cast(&found.sql_type, column)?
            },
        );
    }
    tables.extend(analyzed.tables.iter().copied());
    Ok(Source::Query {
        query: analyzed,
        casts,
    })
}

fn is_literal(query: &AnalyzedQuery, column: usize) -> bool {
    let LogicalPlan::Projection(projection) = &query.plan else {
        return false;
    };
    let mut expr = projection.expr.get(column);
    while let Some(Expr::Alias(alias)) = expr {
        expr = Some(&alias.expr);
    }
    matches!(expr, Some(Expr::Literal(..)))
}

/// How a query's column becomes a table's.
pub fn assignment_cast(
    from: &SqlType,
    column: &crate::catalog::descriptor::Column,
) -> Result<Option<Arc<CastUdf>>> {
    let to = &column.sql_type;
    if from.same_base(to) {
        return Ok(remaining_cast(from, to));
    }
    if !can_cast(from, to, CastContext::Assignment) {
        return Err(type_mismatch(&column.name, to, from));
    }
    Ok(Some(Arc::new(CastUdf::new(
        from.clone(),
        to.clone(),
        false,
    ))))
}

impl Insert {
    pub(super) async fn run(
        &self,
        plan: &DmlPlan,
        writer: &mut Writer<'_>,
        runtime: &Runtime,
        params: &[Datum],
    ) -> Result<DmlResult> {
        let mut result = DmlResult::default();
        let mut touched = BTreeSet::new();
        let ctx = writer.ctx;
        match &self.source {
            Source::Values(rows) => {
                let mut found = subquery_values(rows, runtime, params, ctx)
                    .await?
                    .into_iter();
                for values in rows {
                    let mut row = vec![Datum::Null; plan.target.table.columns.len()];
                    for (position, value) in self.columns.iter().zip(values) {
                        row[*position] = match value {
                            Given::Value(value) => value.eval(&[], params, ctx)?,
                            Given::Query(_) => found.next().unwrap_or(Datum::Null),
                            Given::Default => plan.target.default_value(*position, ctx).await?,
                        };
                    }
                    self.write(
                        plan,
                        writer,
                        runtime,
                        row,
                        params,
                        &mut touched,
                        &mut result,
                    )
                    .await?;
                }
            }
            Source::Query { query, casts } => {
                let set = runtime.execute(query, params, ctx.clone()).await?;
                let mut rows = Rows::new(set.rows, query);
                while let Some(values) = rows.next().await? {
                    ctx.cancel.check()?;
                    let mut row = vec![Datum::Null; plan.target.table.columns.len()];
                    for ((position, value), cast) in self.columns.iter().zip(values).zip(casts) {
                        row[*position] = match cast {
                            Some(cast) => convert(value, cast, ctx)?,
                            None => value,
                        };
                    }
                    self.write(
                        plan,
                        writer,
                        runtime,
                        row,
                        params,
                        &mut touched,
                        &mut result,
                    )
                    .await?;
                }
            }
        }
        Ok(result)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one step of a loop")]
    async fn write(
        &self,
        plan: &DmlPlan,
        writer: &mut Writer<'_>,
        runtime: &Runtime,
        mut row: Row,
        params: &[Datum],
        touched: &mut BTreeSet<Key>,
        result: &mut DmlResult,
    ) -> Result<()> {
        let ctx = writer.ctx;
        for position in &self.missing {
            row[*position] = plan.target.default_value(*position, ctx).await?;
        }
        if let Some(conflict) = &self.conflict {
            plan.target.complete(&mut row, ctx)?;
            let other = conflict::find(&plan.target, writer, conflict, &row).await?;
            if let Some(key) = other {
                let written =
                    conflict::act(plan, writer, runtime, conflict, &key, row, params, touched);
                if let Some((key, row)) = written.await? {
                    touched.insert(key);
                    plan.give(result, &row, &[], params, ctx)?;
                }
                return Ok(());
            }
        }
        let (key, row) = writer.insert(&plan.target, row).await?;
        if self.conflict.is_some() {
            touched.insert(key);
        }
        plan.give(result, &row, &[], params, ctx)
    }
}

/// The values of all [`Given::Query`]s in their order: found before the first row is written, so that
/// none sees what this statement does.
async fn subquery_values(
    rows: &[Vec<Given>],
    runtime: &Runtime,
    params: &[Datum],
    ctx: &StatementContext,
) -> Result<Vec<Datum>> {
    let mut found = Vec::new();
    for given in rows.iter().flatten() {
        let Given::Query(source) = given else {
            continue;
        };
        let Source::Query { query, casts } = source.as_ref() else {
            return Err(Error::internal("a value's query is no query"));
        };
        let set = runtime.execute(query, params, ctx.clone()).await?;
        let row = Rows::new(set.rows, query).next().await?;
        let value = row.and_then(|row| row.into_iter().next());
        let value = value.unwrap_or(Datum::Null);
        found.push(match casts.first() {
            Some(Some(cast)) => convert(value, cast, ctx)?,
            _ => value,
        });
    }
    Ok(found)
}

/// A query's rows as datums, however they come.
pub struct Rows {
    types: Vec<SqlType>,
    ready: std::collections::VecDeque<Row>,
    stream: Option<futures::stream::BoxStream<'static, Result<RowChunk>>>,
}

impl Rows {
    pub fn new(source: RowSource, query: &AnalyzedQuery) -> Rows {
        let types = query.columns.iter().map(|c| c.sql_type.clone()).collect();
        match source {
            RowSource::Ready(rows) => Rows {
                types,
                ready: rows.into(),
                stream: None,
            },
            RowSource::Stream(stream) => Rows {
                types,
                ready: Default::default(),
                stream: Some(stream),
            },
        }
    }

    pub async fn next(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some(row) = self.ready.pop_front() {
                return Ok(Some(row));
            }
            let Some(stream) = &mut self.stream else {
                return Ok(None);
            };
            match stream.next().await {
                None => return Ok(None),
                Some(chunk) => match chunk? {
                    RowChunk::Rows(rows) => self.ready.extend(rows),
                    RowChunk::Batch(batch) => {
                        for index in 0..batch.num_rows() {
                            let mut row = Vec::with_capacity(self.types.len());
                            for (array, sql_type) in batch.columns().iter().zip(&self.types) {
                                row.push(crate::arrow_bridge::datum_at(array, index, sql_type)?);
                            }
                            self.ready.push_back(row);
                        }
                    }
                },
            }
        }
    }
}
