//! UPDATE and DELETE.

use super::insert::{Rows, assignment_cast};
use super::prepared::{Assigned, Prepared, PreparedSet, assigned};
use super::returning::{Returning, select};
use super::writer::{Writer, found};
use super::{
    DmlPlan, DmlResult, MAX_RESTARTS, Work, adopt, is_default, target_column, target_factor,
    target_table,
};
use crate::catalog::descriptor::{Identity, Table};
use crate::context::StatementContext;
use crate::direct::access::AccessPath;
use crate::direct::cursor::Reader;
use crate::direct::query::{decode_wanted, matches};
use crate::direct::{Input, Scalar, convert};
use crate::query::Runtime;
use crate::query::casts::CastUdf;
use crate::query::coerce::CastContext;
use crate::query::names;
use crate::query::planner::{AnalyzedQuery, Planner};
use datafusion::common::DFSchema;
use sqlparser::ast;
use std::collections::BTreeMap;
use std::sync::Arc;
use txn::LockedRow;
use txn::kv::{Key, LockMode};
use types::{Datum, Error, Result, Row, SqlState, SqlType};

/// What a column is set to.
enum SetValue {
    Default,
    /// From the row's own columns.
    Value(Assigned),
    /// From a column of the query that found the row.
    Joined {
        column: usize,
        cast: Option<Arc<CastUdf>>,
    },
}

/// How rows are found.
pub(super) enum Find {
    /// By the table's own columns.
    Direct {
        path: AccessPath,
        /// Positions that the condition reads.
        wanted: Vec<usize>,
    },
    /// By a query, whose first columns are the primary key.
    Query(AnalyzedQuery),
}

pub struct Change {
    pub(super) find: Find,
    /// Empty: the rows are deleted.
    sets: Vec<(usize, SetValue)>,
    pub(super) mode: LockMode,
}

/// What UPDATE and DELETE have in common.
struct Statement<'s> {
    name: &'s ast::ObjectName,
    alias: Option<&'s ast::Ident>,
    from: Vec<ast::TableWithJoins>,
    selection: Option<&'s ast::Expr>,
    returning: Option<&'s Vec<ast::SelectItem>>,
    assignments: &'s [ast::Assignment],
}

pub fn plan_update(
    planner: &Planner<'_>,
    update: &ast::Update,
    declared: &mut Vec<Option<SqlType>>,
) -> Result<DmlPlan> {
    if update.limit.is_some() || !update.order_by.is_empty() {
        return Err(Error::syntax("UPDATE takes no ORDER BY or LIMIT"));
    }
    let (name, alias) = target_relation(&update.table)?;
    let from = match &update.from {
        None => Vec::new(),
        Some(ast::UpdateTableFromKind::BeforeSet(from))
        | Some(ast::UpdateTableFromKind::AfterSet(from)) => from.clone(),
    };
    let statement = Statement {
        name,
        alias,
        from,
        selection: update.selection.as_ref(),
        returning: update.returning.as_ref(),
        assignments: &update.assignments,
    };
    plan(planner, statement, "UPDATE", declared)
}

pub fn plan_delete(
    planner: &Planner<'_>,
    delete: &ast::Delete,
    declared: &mut Vec<Option<SqlType>>,
) -> Result<DmlPlan> {
    if delete.limit.is_some() || !delete.order_by.is_empty() || !delete.tables.is_empty() {
        return Err(Error::syntax(
            "DELETE takes one table and no ORDER BY or LIMIT",
        ));
    }
    let (ast::FromTable::WithFromKeyword(tables) | ast::FromTable::WithoutKeyword(tables)) =
        &delete.from;
    let [table] = tables.as_slice() else {
        return Err(Error::syntax("DELETE takes one table"));
    };
    let (name, alias) = target_relation(table)?;
    let statement = Statement {
        name,
        alias,
        from: delete.using.clone().unwrap_or_default(),
        selection: delete.selection.as_ref(),
        returning: delete.returning.as_ref(),
        assignments: &[],
    };
    plan(planner, statement, "DELETE", declared)
}

fn target_relation(table: &ast::TableWithJoins) -> Result<(&ast::ObjectName, Option<&ast::Ident>)> {
    match &table.relation {
        ast::TableFactor::Table { name, alias, .. } if table.joins.is_empty() => {
            Ok((name, alias.as_ref().map(|alias| &alias.name)))
        }
        other => Err(Error::syntax(format!("cannot change {other}"))),
    }
}

/// Calls `assign` with each column and its expression; `None` stands for DEFAULT.
pub fn each_assignment(
    assignments: &[ast::Assignment],
    table: &Table,
    mut assign: impl FnMut(usize, Option<&ast::Expr>) -> Result<()>,
) -> Result<()> {
    let mut seen = Vec::new();
    let mut one = |name: &ast::ObjectName, expr: &ast::Expr| -> Result<()> {
        let position = target_column(table, name)?;
        if seen.contains(&position) {
            return Err(Error::syntax(format!(
                "multiple assignments to same column \"{}\"",
                table.columns[position].name
            )));
        }
        seen.push(position);
        assign(position, Some(expr).filter(|expr| !is_default(expr)))
    };
    for assignment in assignments {
        match &assignment.target {
            ast::AssignmentTarget::ColumnName(name) => one(name, &assignment.value)?,
            ast::AssignmentTarget::Tuple(names) => {
                let values = sources(&assignment.value, names.len())?;
                if values.len() != names.len() {
                    return Err(Error::syntax(
                        "number of columns does not match number of values",
                    ));
                }
                for (name, value) in names.iter().zip(&values) {
                    one(name, value)?;
                }
            }
        }
    }
    Ok(())
}

/// The expressions behind `(a, b) = …`: of a row, or one for each column of a subquery.
fn sources(value: &ast::Expr, count: usize) -> Result<Vec<ast::Expr>> {
    let query = match value {
        ast::Expr::Tuple(values) => return Ok(values.clone()),
        ast::Expr::Nested(value) => return Ok(vec![value.as_ref().clone()]),
        ast::Expr::Function(call) if call.name.to_string().eq_ignore_ascii_case("row") => {
            let ast::FunctionArguments::List(list) = &call.args else {
                return Ok(Vec::new());
            };
            let values = list.args.iter().map(|argument| match argument {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(value)) => Ok(value.clone()),
                _ => Err(Error::syntax("syntax error in ROW")),
            });
            return values.collect();
        }
        ast::Expr::Subquery(query) => query,
        _ => {
            return Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "source for a multiple-column UPDATE item must be a sub-SELECT or ROW() expression",
            ));
        }
    };
    let names: Vec<String> = (1..=count).map(|n| format!("c{n}")).collect();
    let list = names.join(", ");
    let columns = names.iter().map(|name| {
        let text = format!("SELECT s.{name} FROM ({query}) AS s ({list})");
        Ok(ast::Expr::Subquery(crate::statement::parse_query(&text)?))
    });
    columns.collect()
}

/// 428C9 for a column that computes its values itself.
pub fn refuse_update(table: &Table, position: usize) -> Result<()> {
    let column = &table.columns[position];
    let error = || {
        Error::new(
            SqlState::GENERATED_ALWAYS,
            format!("column \"{}\" can only be updated to DEFAULT", column.name),
        )
    };
    if column.generated.is_some() {
        return Err(error().detail(format!("Column \"{}\" is a generated column.", column.name)));
    }
    if column.identity == Some(Identity::Always) {
        return Err(error().detail(format!(
            "Column \"{}\" is an identity column defined as GENERATED ALWAYS.",
            column.name
        )));
    }
    Ok(())
}

/// How strongly rows are locked whose columns at `changed` get new values.
pub fn lock_mode(target: &Prepared, changed: &[usize]) -> LockMode {
    if target.is_key_change(changed) {
        LockMode::Update
    } else {
        LockMode::NoKeyUpdate
    }
}

fn plan(
    planner: &Planner<'_>,
    statement: Statement<'_>,
    command: &'static str,
    declared: &mut Vec<Option<SqlType>>,
) -> Result<DmlPlan> {
    let verb = if command == "UPDATE" {
        "update"
    } else {
        "delete from"
    };
    let table = target_table(planner, statement.name, verb)?;
    let set = PreparedSet::new(planner, &table)?;
    let target = set.get(table.oid)?.clone();
    let shown = statement
        .alias
        .map_or_else(|| table.name.clone(), names::fold);
    let schema = Planner::table_schema(&table, &shown)?;
    let own = Own {
        planner,
        schema: &schema,
        places: &target.live,
    };
    let relation = target_factor(planner, &table, statement.name, statement.alias);
    let joined = !statement.from.is_empty();
    let identity = table
        .primary_key
        .as_ref()
        .map_or(0, |key| key.columns.len());

    // First the expressions of the row alone; what is left goes through the query.
    let mut items = identity_items(&table, &shown);
    let mut sets = Vec::new();
    let mut left: Vec<(usize, usize)> = Vec::new();
    each_assignment(statement.assignments, &table, |position, expr| {
        let Some(expr) = expr else {
            sets.push((position, SetValue::Default));
            return Ok(());
        };
        refuse_update(&table, position)?;
        let column = &table.columns[position];
        let tried = declared.clone();
        match assigned(planner, expr, column, &schema, &target.live, declared) {
            Ok(Some(value)) => {
                sets.push((position, SetValue::Value(value)));
                return Ok(());
            }
            Err(error) if !joined => return Err(error),
            _ => *declared = tried,
        }
        left.push((sets.len(), position));
        sets.push((
            position,
            SetValue::Joined {
                column: items.len(),
                cast: None,
            },
        ));
        items.push(ast::SelectItem::UnnamedExpr(expr.clone()));
        Ok(())
    })?;
    let mut condition = None;
    let mut needs_query = joined || !left.is_empty();
    if let Some(expr) = statement.selection
        && !needs_query
    {
        match own.condition(expr, declared)? {
            Some(compiled) => condition = Some(compiled),
            None => needs_query = true,
        }
    }
    let mut tables = Vec::new();
    let (find, returned) = if needs_query {
        if identity == 0 {
            return Err(Error::unsupported(format!(
                "{command} by a join or subquery of a table without primary key"
            )));
        }
        let returned = Returning::over_join(
            planner,
            statement.returning,
            &target,
            &relation,
            &statement.from,
            identity + left.len(),
            &mut items,
            declared,
        )?;
        let mut from = vec![ast::TableWithJoins {
            relation,
            joins: Vec::new(),
        }];
        from.extend(statement.from.iter().cloned());
        let query = planner.query(
            &select(items, from, statement.selection.cloned())?,
            declared,
        )?;
        adopt(declared, &query.parameter_types);
        tables.extend(query.tables.iter().copied());
        for (set, position) in left {
            if let SetValue::Joined { column, cast } = &mut sets[set].1 {
                let found = &query.columns[*column].sql_type;
                *cast = assignment_cast(found, &table.columns[position])?;
            }
        }
        (Find::Query(query), returned)
    } else {
        let returned =
            Returning::over_target(planner, statement.returning, &target, &relation, declared)?;
        let mut wanted = Vec::new();
        if let Some(condition) = &condition {
            condition.collect_columns(&mut wanted);
        }
        wanted.sort_unstable();
        wanted.dedup();
        let path = AccessPath::choose(target.codec.clone(), condition, &[]);
        (Find::Direct { path, wanted }, returned)
    };
    let changed: Vec<usize> = sets.iter().map(|(position, _)| *position).collect();
    let mode = if sets.is_empty() {
        LockMode::Update
    } else {
        lock_mode(&target, &changed)
    };
    let work = Work::Change(Change { find, sets, mode });
    Ok(DmlPlan::new(
        command,
        declared.clone(),
        set,
        target,
        work,
        returned,
        tables,
    ))
}

/// The target's own columns, as expressions see them.
struct Own<'a> {
    planner: &'a Planner<'a>,
    schema: &'a DFSchema,
    places: &'a [usize],
}

impl Own<'_> {
    /// `None` if the condition needs a query.
    fn condition(
        &self,
        expr: &ast::Expr,
        declared: &mut Vec<Option<SqlType>>,
    ) -> Result<Option<Scalar>> {
        let target = Some((&SqlType::Bool, CastContext::Implicit));
        let (expr, sql_type) = self
            .planner
            .typed_scalar(expr, self.schema, target, declared)?;
        if sql_type != SqlType::Bool {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "argument of WHERE must be type boolean, not type {}",
                    sql_type.bare_name()
                ),
            ));
        }
        let input = Input {
            schema: self.schema,
            places: Some(self.places),
        };
        Ok(Scalar::compile(&expr, &input))
    }
}

/// `alias.column` for each column of the primary key.
fn identity_items(table: &Table, alias: &str) -> Vec<ast::SelectItem> {
    let columns = table.primary_key.iter().flat_map(|key| &key.columns);
    columns
        .map(|position| {
            let quoted = |name: &str| ast::Ident::with_quote('"', name);
            let path = vec![quoted(alias), quoted(&table.columns[*position].name)];
            ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(path))
        })
        .collect()
}

impl Change {
    pub(super) async fn run(
        &self,
        plan: &DmlPlan,
        writer: &mut Writer<'_>,
        runtime: &Runtime,
        params: &[Datum],
    ) -> Result<DmlResult> {
        let mut result = DmlResult::default();
        match &self.find {
            Find::Direct { path, wanted } => {
                self.run_direct(plan, writer, path, wanted, params, &mut result)
                    .await?;
            }
            Find::Query(query) => {
                let rows = self
                    .lock_found(plan, writer, runtime, query, params)
                    .await?;
                for (key, joined) in rows {
                    writer.ctx.cancel.check()?;
                    if is_written(writer.ctx, &key) {
                        continue;
                    }
                    let policy = writer.ctx.wait_policy();
                    let locked = writer.txn.lock_and_get(&key, self.mode, policy).await?;
                    if let Some(value) = found(locked) {
                        let old = plan.target.codec.decode_whole_row(&value)?;
                        self.apply(plan, writer, &key, old, &joined, params, &mut result)
                            .await?;
                    }
                }
            }
        }
        Ok(result)
    }

    async fn run_direct(
        &self,
        plan: &DmlPlan,
        writer: &mut Writer<'_>,
        path: &AccessPath,
        wanted: &[usize],
        params: &[Datum],
        result: &mut DmlResult,
    ) -> Result<()> {
        let ctx = writer.ctx;
        if ctx.parts.is_none()
            && let Some(key) = path.primary_point(params, ctx)
        {
            let Some(key) = key? else {
                return Ok(());
            };
            let policy = ctx.wait_policy();
            let locked = writer.txn.lock_and_get(&key, self.mode, policy).await?;
            let Some(value) = found(locked) else {
                return Ok(());
            };
            let old = plan.target.codec.decode_whole_row(&value)?;
            if let Some(residual) = &path.residual
                && !residual.holds(&old, params, ctx)?
            {
                return Ok(());
            }
            let key = Key::from(key);
            return self
                .apply(plan, writer, &key, old, &[], params, result)
                .await;
        }
        // All rows first: a change may move a row to where the scan has not been yet.
        let mut keys = Vec::new();
        let mut cursor = path.open(params, ctx, None)?;
        loop {
            // What other parts of the statement have written is not seen.
            let mut reader = match ctx.parts {
                Some(_) => Reader::View(&ctx.view),
                None => Reader::Transaction(writer.txn),
            };
            let Some((key, value)) = cursor.next(&mut reader).await? else {
                break;
            };
            if let Some(residual) = &path.residual {
                let row = decode_wanted(&path.codec, &value, wanted)?;
                if !residual.holds(&row, params, ctx)? {
                    continue;
                }
            }
            keys.push(key);
            if keys.len() % 256 == 0 {
                ctx.cancel.check()?;
            }
        }
        for key in keys {
            ctx.cancel.check()?;
            if is_written(ctx, &key) {
                continue;
            }
            let policy = ctx.wait_policy();
            let value = match writer.txn.lock_and_get(&key, self.mode, policy).await? {
                LockedRow::Unchanged(Some(value)) => value,
                LockedRow::Changed(Some(value)) if matches(path, &value, params, ctx)? => value,
                _ => continue,
            };
            let old = plan.target.codec.decode_whole_row(&value)?;
            self.apply(plan, writer, &key, old, &[], params, result)
                .await?;
        }
        Ok(())
    }

    /// Runs the query and locks its rows, again while they change meanwhile. Of several rows for one
    /// key the first counts, as in PostgreSQL.
    async fn lock_found(
        &self,
        plan: &DmlPlan,
        writer: &mut Writer<'_>,
        runtime: &Runtime,
        query: &AnalyzedQuery,
        params: &[Datum],
    ) -> Result<Vec<(Key, Row)>> {
        let identity = plan.target.table.primary_key.as_ref();
        let identity = identity.map_or(0, |key| key.columns.len());
        let mut ctx: StatementContext = writer.ctx.clone();
        for _ in 0..=MAX_RESTARTS {
            let set = runtime.execute(query, params, ctx.clone()).await?;
            let mut rows = Rows::new(set.rows, query);
            let mut ordered = Vec::new();
            let mut known: BTreeMap<Key, ()> = BTreeMap::new();
            let mut changed = false;
            while let Some(row) = rows.next().await? {
                ctx.cancel.check()?;
                let key = Key::from(plan.target.codec.row_key_of(&row[..identity]));
                if known.insert(key.clone(), ()).is_some() {
                    continue;
                }
                let policy = ctx.wait_policy();
                let locked = writer.txn.lock_and_get(&key, self.mode, policy).await?;
                changed |= matches!(locked, LockedRow::Changed(_));
                ordered.push((key, row));
            }
            if !changed {
                return Ok(ordered);
            }
            if !writer.txn.restart_statement().await? {
                break;
            }
            ctx.view.at = writer.txn.read_timestamp()?;
        }
        Err(Error::new(
            SqlState::SERIALIZATION_FAILURE,
            "could not serialize access due to concurrent update",
        ))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one step of a loop")]
    async fn apply(
        &self,
        plan: &DmlPlan,
        writer: &mut Writer<'_>,
        key: &Key,
        old: Row,
        joined: &[Datum],
        params: &[Datum],
        result: &mut DmlResult,
    ) -> Result<()> {
        let ctx = writer.ctx;
        if self.sets.is_empty() {
            plan.give(result, &old, joined, params, ctx)?;
            return writer.delete(&plan.target, key, old).await;
        }
        let mut new = old.clone();
        for (position, value) in &self.sets {
            new[*position] = match value {
                SetValue::Default => plan.target.default_value(*position, ctx).await?,
                SetValue::Value(value) => value.eval(&old, params, ctx)?,
                SetValue::Joined { column, cast } => {
                    let value = joined.get(*column).cloned().unwrap_or(Datum::Null);
                    match cast {
                        Some(cast) => convert(value, cast, ctx)?,
                        None => value,
                    }
                }
            };
        }
        let (_, row) = writer.update(&plan.target, key, &old, new).await?;
        plan.give(result, &row, joined, params, ctx)
    }
}

/// Whether another part of the same statement has written the row: then this one leaves it alone.
fn is_written(ctx: &StatementContext, key: &Key) -> bool {
    ctx.parts.as_ref().is_some_and(|parts| !parts.write(key))
}
