//! What DDL asks of the query analyser: the type, volatility and value of the expressions that
//! descriptors keep as text, and the columns of a view's query.

use crate::catalog::Catalog;
use crate::catalog::descriptor::Table;
use crate::context::StatementContext;
use crate::functions::Volatility;
use crate::response::ResultColumn;
use sqlparser::ast;
use std::sync::Arc;
use types::{Datum, Result, SqlType};

/// An expression over the columns of one table, ready to be evaluated on its rows.
pub trait RowExpression: Send + Sync {
    /// `row` holds every column of the table by position, dropped ones as NULL.
    fn evaluate(&self, row: &[Datum], ctx: &StatementContext) -> Result<Datum>;
}

pub struct Analysed {
    pub sql_type: SqlType,
    pub volatility: Volatility,
    pub expression: Box<dyn RowExpression>,
}

/// The analyser as DDL sees it.
pub trait Analyser: Send + Sync {
    /// Analyses `expr` over the columns of `table` (none: a constant expression), cast to `target`
    /// as an assignment would.
    fn expression(
        &self,
        catalog: &Arc<Catalog>,
        table: Option<&Arc<Table>>,
        expr: &ast::Expr,
        target: Option<&SqlType>,
    ) -> Result<Analysed>;

    /// The result columns of a query.
    fn query(&self, catalog: &Arc<Catalog>, query: &ast::Query) -> Result<Vec<ResultColumn>>;
}
