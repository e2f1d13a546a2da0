//! RETURNING.

use super::adopt;
use super::prepared::Prepared;
use super::row_query::RowQuery;
use crate::context::StatementContext;
use crate::direct::scalar::{Input, Scalar};
use crate::query::planner::{AnalyzedQuery, Planner};
use crate::query::{Runtime, names};
use crate::response::ResultColumn;
use crate::statement::grammar;
use datafusion::logical_expr::LogicalPlan;
use sqlparser::ast;
use types::{Datum, Error, Result, Row, SqlType};

/// Where a returned value comes from.
enum Value {
    /// The written row.
    Target(Scalar),
    /// A column of the query that found the row.
    Joined(usize),
    /// A column of one of the row's own queries.
    Query { query: usize, column: usize },
}

pub struct Returning {
    pub columns: Vec<ResultColumn>,
    values: Vec<Value>,
    /// For items with subqueries.
    queries: Vec<RowQuery>,
}

impl Returning {
    /// RETURNING over the target's columns alone.
    pub fn over_target(
        planner: &Planner<'_>,
        items: Option<&Vec<ast::SelectItem>>,
        target: &Prepared,
        relation: &ast::TableFactor,
        declared: &mut Vec<Option<SqlType>>,
    ) -> Result<Option<Returning>> {
        let Some(items) = items else {
            return Ok(None);
        };
        let mut returning = Returning {
            columns: Vec::new(),
            values: Vec::new(),
            queries: Vec::new(),
        };
        returning.add(planner, items.clone(), target, relation, declared)?;
        Ok(Some(returning))
    }

    /// RETURNING of a statement with other relations (`from`). An item of the target's columns is
    /// computed on the written row, an item of the others by the query; those go to `query_items`,
    /// whose first column will be column `first` of the query.
    #[expect(
        clippy::too_many_arguments,
        reason = "two in-out lists beside the statement's parts"
    )]
    pub fn over_join(
        planner: &Planner<'_>,
        items: Option<&Vec<ast::SelectItem>>,
        target: &Prepared,
        relation: &ast::TableFactor,
        from: &[ast::TableWithJoins],
        first: usize,
        query_items: &mut Vec<ast::SelectItem>,
        declared: &mut Vec<Option<SqlType>>,
    ) -> Result<Option<Returning>> {
        let Some(items) = items else {
            return Ok(None);
        };
        let mut returning = Returning {
            columns: Vec::new(),
            values: Vec::new(),
            queries: Vec::new(),
        };
        for item in items {
            if let ast::SelectItem::Wildcard(_) = item {
                returning.add(planner, vec![item.clone()], target, relation, declared)?;
                if !from.is_empty() {
                    returning.add_joined(planner, item, from, first, query_items, declared)?;
                }
                continue;
            }
            let tried = declared.clone();
            match returning.add(planner, vec![item.clone()], target, relation, declared) {
                Ok(()) => {}
                Err(error) => {
                    *declared = tried;
                    returning
                        .add_joined(planner, item, from, first, query_items, declared)
                        .map_err(|_| error)?;
                }
            }
        }
        Ok(Some(returning))
    }

    fn add(
        &mut self,
        planner: &Planner<'_>,
        items: Vec<ast::SelectItem>,
        target: &Prepared,
        relation: &ast::TableFactor,
        declared: &mut Vec<Option<SqlType>>,
    ) -> Result<()> {
        let from = ast::TableWithJoins {
            relation: relation.clone(),
            joins: Vec::new(),
        };
        let query = planner.query(&select(items.clone(), vec![from], None)?, declared)?;
        self.columns.extend(query.columns.iter().cloned());
        let Some(values) = projected(&query, target) else {
            let shown = match relation {
                ast::TableFactor::Table {
                    alias: Some(alias), ..
                } => names::fold(&alias.name),
                _ => target.table.name.clone(),
            };
            let tables = [(shown.as_str(), target.table.as_ref())];
            let row_query = RowQuery::plan(planner, items, &tables, declared)?;
            let number = self.queries.len();
            let columns = 0..row_query.query.columns.len();
            self.values.extend(columns.map(|column| Value::Query {
                query: number,
                column,
            }));
            self.queries.push(row_query);
            return Ok(());
        };
        adopt(declared, &query.parameter_types);
        self.values.extend(values.into_iter().map(Value::Target));
        Ok(())
    }

    fn add_joined(
        &mut self,
        planner: &Planner<'_>,
        item: &ast::SelectItem,
        from: &[ast::TableWithJoins],
        first: usize,
        query_items: &mut Vec<ast::SelectItem>,
        declared: &mut Vec<Option<SqlType>>,
    ) -> Result<()> {
        let query = planner.query(&select(vec![item.clone()], from.to_vec(), None)?, declared)?;
        adopt(declared, &query.parameter_types);
        match item {
            ast::SelectItem::Wildcard(_) | ast::SelectItem::QualifiedWildcard(..) => {
                // The query's own `*` would hold the target too; name the columns one by one.
                let bare = query.columns.iter().map(|column| {
                    ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(ast::Ident::with_quote(
                        '"',
                        &column.name,
                    )))
                });
                query_items.extend(bare);
            }
            item => query_items.push(item.clone()),
        }
        for column in query.columns.iter() {
            let before = self.joined_count();
            self.columns.push(column.clone());
            self.values.push(Value::Joined(first + before));
        }
        Ok(())
    }

    fn joined_count(&self) -> usize {
        let joined = self.values.iter().filter(|v| matches!(v, Value::Joined(_)));
        joined.count()
    }

    pub fn row(
        &self,
        row: &[Datum],
        joined: &[Datum],
        params: &[Datum],
        ctx: &StatementContext,
    ) -> Result<Row> {
        let mut out = Vec::with_capacity(self.values.len());
        for value in &self.values {
            out.push(match value {
                Value::Target(scalar) => scalar.eval(row, params, ctx)?,
                Value::Joined(column) => joined.get(*column).cloned().unwrap_or(Datum::Null),
                Value::Query { .. } => Datum::Null,
            });
        }
        Ok(out)
    }

    pub fn takes_queries(&self) -> bool {
        !self.queries.is_empty()
    }

    /// [`Returning::row`] with what takes queries.
    pub async fn queried_row(
        &self,
        row: &[Datum],
        joined: &[Datum],
        params: &[Datum],
        ctx: &StatementContext,
        runtime: &Runtime,
    ) -> Result<Row> {
        let mut out = self.row(row, joined, params, ctx)?;
        let mut found = Vec::with_capacity(self.queries.len());
        for query in &self.queries {
            found.push(query.run(row, params, ctx, runtime).await?);
        }
        for (place, value) in out.iter_mut().zip(&self.values) {
            if let Value::Query { query, column } = value {
                *place = found[*query].get(*column).cloned().unwrap_or(Datum::Null);
            }
        }
        Ok(out)
    }
}

/// The projection on top of a query over one table, on rows of that table by position.
fn projected(query: &AnalyzedQuery, target: &Prepared) -> Option<Vec<Scalar>> {
    let LogicalPlan::Projection(projection) = &query.plan else {
        return None;
    };
    let schema = projection.input.schema();
    // Columns that are not stored have no place, and what reads one is not for this road.
    let places: Vec<usize> = schema
        .fields()
        .iter()
        .map(|field| {
            target
                .table
                .column_position(field.name())
                .unwrap_or(usize::MAX)
        })
        .collect();
    let input = Input {
        schema,
        places: Some(&places),
    };
    let stored = |scalar: &Scalar| {
        let mut read = Vec::new();
        scalar.collect_columns(&mut read);
        !read.contains(&usize::MAX)
    };
    let compiled = projection.expr.iter().map(|expr| {
        let scalar = Scalar::compile(expr, &input)?;
        stored(&scalar).then_some(scalar)
    });
    compiled.collect()
}

/// `SELECT items FROM from WHERE selection`.
pub fn select(
    items: Vec<ast::SelectItem>,
    from: Vec<ast::TableWithJoins>,
    selection: Option<ast::Expr>,
) -> Result<ast::Query> {
    let broken = || Error::internal("SELECT 1 does not parse");
    let mut query =
        grammar::parse("SELECT 1", |parser| parser.parse_query()).map_err(|_| broken())?;
    let ast::SetExpr::Select(select) = query.body.as_mut() else {
        return Err(broken());
    };
    select.projection = items;
    select.from = from;
    select.selection = selection;
    Ok(*query)
}
