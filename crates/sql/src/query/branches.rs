//! Binding of expressions whose branches share a type: CASE, COALESCE and their like.

use super::binder::{Binder, constant, literal};
use super::coerce::common_type;
use super::expressions::Site;
use super::scope::Typed;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{Expr, Operator};
use sqlparser::ast;
use types::{Datum, Result, SqlType};

impl Binder<'_> {
    pub fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
        site: &Site<'_>,
    ) -> Result<Typed> {
        let operand = operand.map(|o| self.expr(o, site)).transpose()?;
        let mut tests = Vec::new();
        let mut results = Vec::new();
        for when in conditions {
            let test = match &operand {
                Some(operand) => {
                    let value = self.expr(&when.condition, site)?;
                    self.compare(operand.clone(), Operator::Eq, value)?.expr
                }
                None => self.condition(&when.condition, site, "CASE/WHEN")?,
            };
            tests.push(test);
            results.push(self.expr(&when.result, site)?);
        }
        let otherwise = otherwise.map(|o| self.expr(o, site)).transpose()?;
        // PostgreSQL lets the ELSE branch speak first.
        let types = otherwise.iter().chain(results.iter()).map(|r| &r.ty);
        let common = common_type(types, "CASE")?;
        let mut branches = Vec::with_capacity(tests.len());
        for (test, result) in tests.into_iter().zip(results) {
            let result = self.coerce_exactly(result, &common)?;
            branches.push((Box::new(test), Box::new(result)));
        }
        let otherwise = match otherwise {
            Some(otherwise) => Some(Box::new(self.coerce_exactly(otherwise, &common)?)),
            None => None,
        };
        let expr = Expr::Case(Case::new(None, branches, otherwise));
        Ok(Typed::new(expr, common))
    }

    pub fn coalesce(&mut self, arguments: Vec<Typed>, name: &str) -> Result<Vec<Typed>> {
        let common = common_type(arguments.iter().map(|a| &a.ty), name)?;
        let mut bound = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let expr = self.coerce_exactly(argument, &common)?;
            bound.push(Typed::new(expr, common.clone()));
        }
        Ok(bound)
    }

    /// Like `coerce`, but the result has the very Arrow type of `to`.
    pub fn coerce_exactly(&mut self, item: Typed, to: &SqlType) -> Result<Expr> {
        let item = self.coerce(item, to, false)?;
        if item.ty != *to
            && let Some(value @ Datum::Numeric(_)) = constant(&item)
            && *to == SqlType::Numeric(None)
        {
            return literal(&value, to);
        }
        Ok(super::casts::cast_expr(item.expr, &item.ty, to, false))
    }
}
