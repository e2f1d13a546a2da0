//! The analyser that definitions use: the planner, and the direct executor's expressions.

use super::Session;
use crate::catalog::Catalog;
use crate::catalog::descriptor::{ObjectId, Table};
use crate::context::{ExprSettings, StatementContext};
use crate::ddl::analysis::{Analysed, Analyser, RowExpression};
use crate::direct::{Input, Scalar};
use crate::functions::Volatility;
use crate::instance::Instance;
use crate::query::{CastContext, Planner};
use crate::response::ResultColumn;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, Volatility as DfVolatility};
use sqlparser::ast;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlType};

pub(super) struct SessionAnalyser {
    instance: Arc<Instance>,
    database: ObjectId,
    settings: Arc<ExprSettings>,
}

impl Session {
    pub(super) fn analyser(&self) -> SessionAnalyser {
        SessionAnalyser {
            instance: Arc::clone(&self.instance),
            database: self.database_oid,
            settings: Arc::clone(&self.expr_settings),
        }
    }
}

struct Compiled(Scalar);

impl RowExpression for Compiled {
    fn evaluate(&self, row: &[Datum], ctx: &StatementContext) -> Result<Datum> {
        self.0.eval(row, &[], ctx)
    }
}

/// The most that any function in the expression can change.
fn volatility(expr: &Expr) -> Volatility {
    let mut found = Volatility::Immutable;
    let walked = expr.apply(|part| {
        if let Expr::ScalarFunction(call) = part {
            found = match (call.func.signature().volatility, found) {
                (_, Volatility::Volatile) | (DfVolatility::Volatile, _) => Volatility::Volatile,
                (_, Volatility::Stable) | (DfVolatility::Stable, _) => Volatility::Stable,
                _ => Volatility::Immutable,
            };
        }
        Ok(TreeNodeRecursion::Continue)
    });
    match walked {
        Ok(_) => found,
        Err(_) => Volatility::Volatile,
    }
}

impl SessionAnalyser {
    fn planner<'a>(&'a self, catalog: &'a Arc<Catalog>) -> Planner<'a> {
        Planner {
            catalog,
            database: self.database,
            settings: &self.settings,
            registry: &self.instance.registry,
            virtual_tables: &self.instance.virtual_tables,
            surrounding: Default::default(),
        }
    }
}

impl Analyser for SessionAnalyser {
    fn expression(
        &self,
        catalog: &Arc<Catalog>,
        table: Option<&Arc<Table>>,
        expr: &ast::Expr,
        target: Option<&SqlType>,
    ) -> Result<Analysed> {
        let planner = self.planner(catalog);
        let (schema, places) = match table {
            None => (DFSchema::empty(), Vec::new()),
            Some(table) => {
                let places = table.live_columns().map(|(place, _)| place).collect();
                (Planner::table_schema(table, &table.name)?, places)
            }
        };
        let target = target.map(|sql_type| (sql_type, CastContext::Assignment));
        let (analysed, sql_type) = planner.typed_scalar(expr, &schema, target, &mut Vec::new())?;
        let input = Input {
            schema: &schema,
            places: Some(&places),
        };
        let scalar = Scalar::compile(&analysed, &input)
            .ok_or_else(|| Error::unsupported("a subquery or aggregate in this expression"))?;
        let volatility = volatility(&analysed);
        Ok(Analysed {
            sql_type,
            volatility,
            expression: Box::new(Compiled(scalar)),
        })
    }

    fn query(&self, catalog: &Arc<Catalog>, query: &ast::Query) -> Result<Vec<ResultColumn>> {
        Ok(self.planner(catalog).query(query, &[])?.columns.to_vec())
    }
}
