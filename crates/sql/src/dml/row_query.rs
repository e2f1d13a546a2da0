//! Values of one row that take a query: subqueries in RETURNING and in ON CONFLICT DO UPDATE.
//!
//! The query has the row as a relation of parameters, numbered after the statement's own, and runs
//! once for each row at the statement's snapshot.

use super::adopt;
use super::insert::Rows;
use super::returning::select;
use crate::catalog::descriptor::Table;
use crate::context::StatementContext;
use crate::ddl::quote_ident;
use crate::query::Runtime;
use crate::query::planner::{AnalyzedQuery, Planner};
use sqlparser::ast;
use types::{Datum, Error, Result, Row, SqlType};

pub struct RowQuery {
    pub query: AnalyzedQuery,
    /// How many parameters of the statement's own it may use.
    own: usize,
    /// Positions of the values that are parameters, in order.
    places: Vec<usize>,
}

impl RowQuery {
    /// `items` over tables under their aliases; at run time their rows are one after the other, each
    /// by position.
    pub fn plan(
        planner: &Planner<'_>,
        items: Vec<ast::SelectItem>,
        tables: &[(&str, &Table)],
        declared: &mut Vec<Option<SqlType>>,
    ) -> Result<RowQuery> {
        let own = items.iter().map(highest_parameter).max().unwrap_or(0);
        let own = own.max(declared.len());
        let mut types = declared.clone();
        types.resize(own, None);
        let mut places = Vec::new();
        let mut relations = Vec::new();
        let mut offset = 0;
        for (alias, table) in tables {
            let mut columns = Vec::new();
            for (position, column) in table.live_columns() {
                places.push(offset + position);
                types.push(Some(column.sql_type.clone()));
                columns.push(format!("${} AS {}", types.len(), quote_ident(&column.name)));
            }
            let columns = columns.join(", ");
            relations.push(format!("(SELECT {columns}) AS {}", quote_ident(alias)));
            offset += table.columns.len();
        }
        let text = format!("SELECT 1 FROM {}", relations.join(", "));
        let from = crate::statement::parse_query(&text)?;
        let ast::SetExpr::Select(relations) = *from.body else {
            return Err(Error::internal("a SELECT that is none"));
        };
        let query = planner.query(&select(items, relations.from, None)?, &types)?;
        adopt(declared, &query.parameter_types[..own]);
        Ok(RowQuery { query, own, places })
    }

    /// The values for a row.
    pub async fn run(
        &self,
        row: &[Datum],
        params: &[Datum],
        ctx: &StatementContext,
        runtime: &Runtime,
    ) -> Result<Row> {
        let mut all = params[..self.own.min(params.len())].to_vec();
        all.resize(self.own, Datum::Null);
        for place in &self.places {
            all.push(row.get(*place).cloned().unwrap_or(Datum::Null));
        }
        let set = runtime.execute(&self.query, &all, ctx.clone()).await?;
        let found = Rows::new(set.rows, &self.query).next().await?;
        found.ok_or_else(|| Error::internal("a row's query gave no row"))
    }
}

/// The highest `$n` of an item; 0 if it has none.
fn highest_parameter(item: &ast::SelectItem) -> usize {
    let mut highest = 0;
    let _ = ast::visit_expressions(item, |expr| {
        if let ast::Expr::Value(value) = expr
            && let ast::Value::Placeholder(name) = &value.value
            && let Some(number) = name.strip_prefix('$').and_then(|n| n.parse().ok())
        {
            highest = highest.max(number);
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    highest
}
