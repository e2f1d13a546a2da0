//! INSERT … ON CONFLICT.

use super::assignment_cast;
use crate::catalog::descriptor::{IndexKey, Table};
use crate::direct::{Input, Scalar, convert};
use crate::dml::change;
use crate::dml::prepared::{Assigned, Prepared, assigned, parse_expression};
use crate::dml::row_query::RowQuery;
use crate::dml::writer::{Writer, found};
use crate::dml::{DmlPlan, target_column};
use crate::query::Runtime;
use crate::query::casts::CastUdf;
use crate::query::coerce::CastContext;
use crate::query::names;
use crate::query::planner::Planner;
use crate::statement::{MARK, grammar};
use datafusion::common::Column;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::split_conjunction_owned;
use sqlparser::ast;
use std::collections::BTreeSet;
use std::sync::Arc;
use txn::kv::{Key, LockMode};
use types::{Datum, Error, Result, Row, SqlState, SqlType};

/// What ON CONFLICT does.
enum Action {
    Nothing,
    /// On the stored row's columns by position, then the proposed row's.
    Update {
        sets: Vec<(usize, Replacement)>,
        condition: Option<Condition>,
        mode: LockMode,
    },
}

/// What a column of the row in the way gets.
enum Replacement {
    Default,
    Value(Assigned),
    /// For what has a subquery in it.
    Query(Box<RowQuery>, Option<Arc<CastUdf>>),
}

enum Condition {
    Scalar(Scalar),
    Query(Box<RowQuery>),
}

pub(super) struct Conflict {
    /// Unique indexes that are looked at; `None` is the primary key.
    arbiters: Vec<Option<usize>>,
    action: Action,
}

impl Conflict {
    /// Whether it may change the row in the way.
    pub(super) fn updates(&self) -> bool {
        matches!(self.action, Action::Update { .. })
    }
}

pub(super) fn plan(
    planner: &Planner<'_>,
    on: &ast::OnConflict,
    target: &Prepared,
    alias: &str,
    declared: &mut Vec<Option<SqlType>>,
) -> Result<Conflict> {
    let table = &target.table;
    let arbiters = match &on.conflict_target {
        None => {
            if let ast::OnConflictAction::DoUpdate(_) = on.action {
                return Err(Error::syntax(
                    "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                )
                .hint("For example, ON CONFLICT (column_name)."));
            }
            let primary = table.primary_key.iter().map(|_| None);
            let unique = table
                .indexes
                .iter()
                .enumerate()
                .filter(|(_, index)| index.unique);
            primary
                .chain(unique.map(|(number, _)| Some(number)))
                .collect()
        }
        Some(ast::ConflictTarget::Columns(names)) if matches!(names.as_slice(), [name] if name.value.starts_with(MARK)) => {
            infer_clause(planner, target, &names[0].value[MARK.len_utf8()..])?
        }
        Some(ast::ConflictTarget::Columns(names)) => {
            let mut positions = BTreeSet::new();
            for name in names {
                let name = ast::ObjectName::from(vec![name.clone()]);
                positions.insert(target_column(table, &name)?);
            }
            infer(table, &positions)?
        }
        Some(ast::ConflictTarget::OnConstraint(name)) => {
            let parts = names::object_name(name);
            let name = parts.last().map_or("", String::as_str);
            vec![named_constraint(table, name)?]
        }
    };
    let action = match &on.action {
        ast::OnConflictAction::DoNothing => Action::Nothing,
        ast::OnConflictAction::DoUpdate(update) => {
            let stored = Planner::table_schema(table, alias)?;
            let proposed = Planner::table_schema(table, "excluded")?;
            let schema = stored
                .join(&proposed)
                .map_err(crate::query::errors::from_datafusion)?;
            let width = table.columns.len();
            let mut places = target.live.clone();
            places.extend(target.live.iter().map(|position| width + position));
            let mut sets = Vec::new();
            change::each_assignment(&update.assignments, table, |position, value| {
                let column = &table.columns[position];
                let Some(expr) = value else {
                    sets.push((position, Replacement::Default));
                    return Ok(());
                };
                change::refuse_update(table, position)?;
                let value = match assigned(planner, expr, column, &schema, &places, declared)? {
                    Some(value) => Replacement::Value(value),
                    None => {
                        let query = both_rows(planner, expr, alias, table, declared)?;
                        let cast = assignment_cast(&query.query.columns[0].sql_type, column)?;
                        Replacement::Query(Box::new(query), cast)
                    }
                };
                sets.push((position, value));
                Ok(())
            })?;
            let condition = match &update.selection {
                None => None,
                Some(condition) => {
                    let expr = condition;
                    let target = Some((&SqlType::Bool, CastContext::Implicit));
                    let expr = planner.scalar(expr, &schema, target, declared)?;
                    let input = Input {
                        schema: &schema,
                        places: Some(&places),
                    };
                    Some(match Scalar::compile(&expr, &input) {
                        Some(scalar) => Condition::Scalar(scalar),
                        None => {
                            let query = both_rows(planner, condition, alias, table, declared)?;
                            Condition::Query(Box::new(query))
                        }
                    })
                }
            };
            let changed: Vec<usize> = sets.iter().map(|(position, _)| *position).collect();
            Action::Update {
                sets,
                condition,
                mode: change::lock_mode(target, &changed),
            }
        }
    };
    Ok(Conflict { arbiters, action })
}

/// An expression of the stored row and the proposed one that takes a query.
fn both_rows(
    planner: &Planner<'_>,
    expr: &ast::Expr,
    alias: &str,
    table: &Table,
    declared: &mut Vec<Option<SqlType>>,
) -> Result<RowQuery> {
    let items = vec![ast::SelectItem::UnnamedExpr(expr.clone())];
    RowQuery::plan(
        planner,
        items,
        &[(alias, table), ("excluded", table)],
        declared,
    )
}

/// The unique indexes that `(key, …) [WHERE condition]` means: over these keys, and whole or with a
/// predicate that the condition implies.
fn infer_clause(
    planner: &Planner<'_>,
    target: &Prepared,
    clause: &str,
) -> Result<Vec<Option<usize>>> {
    let table = &target.table;
    let text = format!("CREATE UNIQUE INDEX ON t {clause}");
    let parsed = grammar::parse(&text, |parser| parser.parse_statements());
    let parsed = parsed.map_err(|_| Error::syntax("syntax error in ON CONFLICT"))?;
    let Some(ast::Statement::CreateIndex(wanted)) = parsed.into_iter().next() else {
        return Err(Error::syntax("syntax error in ON CONFLICT"));
    };
    let schema = Planner::table_schema(table, &table.name)?;
    let bound = |expr: &ast::Expr| planner.scalar(expr, &schema, None, &mut Vec::new());
    let conjuncts =
        |expr: &ast::Expr| -> Result<Vec<Expr>> { Ok(split_conjunction_owned(bound(expr)?)) };
    let mut keys = Vec::new();
    for column in &wanted.columns {
        keys.push(bound(&column.column.expr)?);
    }
    let given = match &wanted.predicate {
        Some(condition) => conjuncts(condition)?,
        None => Vec::new(),
    };
    let column_key = |position: usize| {
        let name = Column::new(Some(table.name.as_str()), &table.columns[position].name);
        Expr::Column(name)
    };
    let same =
        |own: &[Expr]| own.iter().all(|k| keys.contains(k)) && keys.iter().all(|k| own.contains(k));
    let mut found = Vec::new();
    if let Some(primary) = &table.primary_key {
        let own: Vec<Expr> = primary.columns.iter().map(|p| column_key(*p)).collect();
        if same(&own) {
            found.push(None);
        }
    }
    for (number, index) in table.indexes.iter().enumerate().filter(|(_, i)| i.unique) {
        let mut own = Vec::new();
        for column in &index.columns {
            own.push(match &column.key {
                IndexKey::Column(position) => column_key(*position),
                IndexKey::Expression(text, _) => bound(&parse_expression(text)?)?,
            });
        }
        let implied = match &index.predicate {
            None => true,
            Some(text) => {
                let own = conjuncts(&parse_expression(text)?)?;
                own.iter().all(|c| given.contains(c))
            }
        };
        if implied && same(&own) {
            found.push(Some(number));
        }
    }
    some_arbiter(found)
}

fn some_arbiter(found: Vec<Option<usize>>) -> Result<Vec<Option<usize>>> {
    if found.is_empty() {
        return Err(Error::new(
            SqlState::INVALID_COLUMN_REFERENCE,
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        ));
    }
    Ok(found)
}

/// The unique indexes over just these columns.
fn infer(table: &Table, wanted: &BTreeSet<usize>) -> Result<Vec<Option<usize>>> {
    let mut found = Vec::new();
    if let Some(primary) = &table.primary_key
        && primary.columns.iter().copied().collect::<BTreeSet<_>>() == *wanted
    {
        found.push(None);
    }
    for (number, index) in table.indexes.iter().enumerate() {
        let columns = index.columns.iter().map(|column| match &column.key {
            IndexKey::Column(position) => Some(*position),
            IndexKey::Expression(..) => None,
        });
        let columns: Option<BTreeSet<usize>> = columns.collect();
        if index.unique && index.predicate.is_none() && columns.as_ref() == Some(wanted) {
            found.push(Some(number));
        }
    }
    some_arbiter(found)
}

fn named_constraint(table: &Table, name: &str) -> Result<Option<usize>> {
    if table
        .primary_key
        .as_ref()
        .is_some_and(|key| key.name == name)
    {
        return Ok(None);
    }
    let index = table
        .indexes
        .iter()
        .position(|index| index.name == name && index.unique && index.constraint_oid.is_some());
    index.map(Some).ok_or_else(|| {
        Error::new(
            SqlState::UNDEFINED_OBJECT,
            format!(
                "constraint \"{name}\" for table \"{}\" does not exist",
                table.name
            ),
        )
    })
}

/// The key of a row that has one of the proposed row's unique values. The locks keep other inserters of
/// these values out, but not those who only refer to a row that is there already.
pub(super) async fn find(
    target: &Prepared,
    writer: &mut Writer<'_>,
    conflict: &Conflict,
    row: &Row,
) -> Result<Option<Key>> {
    let ctx = writer.ctx;
    for arbiter in &conflict.arbiters {
        let key = match arbiter {
            None => target.codec.row_key(row),
            Some(index) => match target.index_entry(*index, row, &[], ctx)? {
                Some(entry) if entry.unique => entry.key,
                _ => continue,
            },
        };
        let policy = ctx.wait_policy();
        let locked = writer
            .txn
            .lock_and_get(&key, LockMode::NoKeyUpdate, policy)
            .await?;
        if let Some(value) = found(locked) {
            return Ok(Some(match arbiter {
                None => key.into(),
                Some(_) => target.codec.row_key_of_suffix(&value).into(),
            }));
        }
    }
    Ok(None)
}

/// Updates the row in the way; `None` if it is left alone.
#[expect(clippy::too_many_arguments, reason = "the parts of one step of a loop")]
pub(super) async fn act(
    plan: &DmlPlan,
    writer: &mut Writer<'_>,
    runtime: &Runtime,
    conflict: &Conflict,
    key: &Key,
    proposed: Row,
    params: &[Datum],
    touched: &BTreeSet<Key>,
) -> Result<Option<(Key, Row)>> {
    let Action::Update {
        sets,
        condition,
        mode,
    } = &conflict.action
    else {
        return Ok(None);
    };
    let ctx = writer.ctx;
    if touched.contains(key) {
        return Err(Error::new(
            SqlState::CARDINALITY_VIOLATION,
            "ON CONFLICT DO UPDATE command cannot affect row a second time",
        )
        .hint(
            "Ensure that no rows proposed for insertion within the same command have duplicate constrained values.",
        ));
    }
    let policy = ctx.wait_policy();
    let locked = writer.txn.lock_and_get(key, *mode, policy).await?;
    let Some(value) = found(locked) else {
        return Err(Error::new(
            SqlState::SERIALIZATION_FAILURE,
            "could not serialize access due to concurrent delete",
        ));
    };
    let old = plan.target.codec.decode_whole_row(&value)?;
    let mut both = old.clone();
    both.extend(proposed);
    let holds = match condition {
        None => true,
        Some(Condition::Scalar(scalar)) => scalar.holds(&both, params, ctx)?,
        Some(Condition::Query(query)) => {
            query.run(&both, params, ctx, runtime).await? == [Datum::Bool(true)]
        }
    };
    if !holds {
        return Ok(None);
    }
    let mut new = old.clone();
    for (position, value) in sets {
        new[*position] = match value {
            Replacement::Default => plan.target.default_value(*position, ctx).await?,
            Replacement::Value(value) => value.eval(&both, params, ctx)?,
            Replacement::Query(query, cast) => {
                let found = query.run(&both, params, ctx, runtime).await?;
                let value = found.into_iter().next().unwrap_or(Datum::Null);
                match cast {
                    Some(cast) => convert(value, cast, ctx)?,
                    None => value,
                }
            }
        };
    }
    writer.update(&plan.target, key, &old, new).await.map(Some)
}
