//! From DataFusion's expressions to [`Scalar`]s.

use super::physical::PhysicalScalar;
use super::scalar::{Input, LikeKind, Scalar, Truth};
use crate::arrow_bridge;
use crate::functions::comparison::Comparison;
use crate::query::casts::CastUdf;
use crate::query::functions::FunctionUdf;
use datafusion::logical_expr::expr::{Case, InList, Like};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};
use std::sync::Arc;
use types::SqlType;

/// How deep an expression tree may be, in levels, so that walking it stays within a thread's stack.
const MAX_DEPTH: usize = 200;

impl Scalar {
    /// `None` if the expression is none of a single row: subqueries, aggregates, windows.
    pub fn compile(expr: &Expr, input: &Input<'_>) -> Option<Scalar> {
        Compiler { input }.compile(expr, MAX_DEPTH)
    }
}

struct Compiler<'a> {
    input: &'a Input<'a>,
}

impl Compiler<'_> {
    fn boxed(&self, expr: &Expr, depth: usize) -> Option<Box<Scalar>> {
        self.compile(expr, depth).map(Box::new)
    }

    fn all(&self, exprs: &[Expr], depth: usize) -> Option<Vec<Scalar>> {
        exprs.iter().map(|expr| self.compile(expr, depth)).collect()
    }

    fn sql_type(&self, expr: &Expr) -> Option<SqlType> {
        let (_, field) = expr.to_field(self.input.schema).ok()?;
        Some(arrow_bridge::sql_type_of(&field))
    }

    /// Whether a side of a comparison is `char(n)`.
    fn blank_padded(&self, expr: &Expr) -> bool {
        matches!(self.sql_type(expr), Some(SqlType::Char(_)))
    }

    fn compile(&self, expr: &Expr, depth: usize) -> Option<Scalar> {
        let depth = depth.checked_sub(1)?;
        Some(match expr {
            Expr::Alias(alias) => return self.compile(&alias.expr, depth),
            Expr::Column(column) => Scalar::Column(self.input.place(column)?),
            Expr::Literal(value, _) => {
                let sql_type = self.sql_type(expr)?;
                Scalar::Constant(arrow_bridge::datum_from_scalar(value, &sql_type).ok()?)
            }
            Expr::Placeholder(placeholder) => {
                let number: usize = placeholder.id.strip_prefix('$')?.parse().ok()?;
                Scalar::Parameter(number.checked_sub(1)?)
            }
            Expr::BinaryExpr(binary) => return self.binary(expr, binary, depth),
            Expr::Not(operand) => Scalar::Not(self.boxed(operand, depth)?),
            Expr::IsNull(operand) | Expr::IsUnknown(operand) => {
                self.is(operand, Truth::Null, false, depth)?
            }
            Expr::IsNotNull(operand) | Expr::IsNotUnknown(operand) => {
                self.is(operand, Truth::Null, true, depth)?
            }
            Expr::IsTrue(operand) => self.is(operand, Truth::True, false, depth)?,
            Expr::IsNotTrue(operand) => self.is(operand, Truth::True, true, depth)?,
            Expr::IsFalse(operand) => self.is(operand, Truth::False, false, depth)?,
            Expr::IsNotFalse(operand) => self.is(operand, Truth::False, true, depth)?,
            Expr::Between(between) => Scalar::Between {
                negated: between.negated,
                blank_padded: self.blank_padded(&between.expr),
                operand: self.boxed(&between.expr, depth)?,
                low: self.boxed(&between.low, depth)?,
                high: self.boxed(&between.high, depth)?,
            },
            Expr::InList(InList {
                expr,
                list,
                negated,
            }) => Scalar::InList {
                negated: *negated,
                blank_padded: self.blank_padded(expr),
                operand: self.boxed(expr, depth)?,
                list: self.all(list, depth)?,
            },
            Expr::Like(like) => self.like(like, depth)?,
            Expr::Case(case) => self.case(case, depth)?,
            Expr::Cast(cast) => {
                let from = self.sql_type(&cast.expr)?;
                let to = arrow_bridge::sql_type_of(&cast.field);
                Scalar::Cast {
                    operand: self.boxed(&cast.expr, depth)?,
                    cast: Arc::new(CastUdf::new(from, to, true)),
                }
            }
            Expr::ScalarFunction(call) => {
                if let Some(own) = FunctionUdf::of(&call.func) {
                    return Some(Scalar::Call {
                        function: own.function.clone(),
                        arguments: self.all(&call.args, depth)?,
                    });
                }
                if let Some(cast) = CastUdf::of(&call.func)
                    && let [operand] = call.args.as_slice()
                {
                    return Some(Scalar::Cast {
                        operand: self.boxed(operand, depth)?,
                        cast: Arc::new(cast.clone()),
                    });
                }
                match (call.func.name(), call.args.as_slice()) {
                    ("coalesce", args) => Scalar::Coalesce(self.all(args, depth)?),
                    ("nullif", [left, right]) if !self.blank_padded(left) => {
                        Scalar::NullIf(self.boxed(left, depth)?, self.boxed(right, depth)?)
                    }
                    _ => self.physical(expr)?,
                }
            }
            _ => self.physical(expr)?,
        })
    }

    fn is(&self, operand: &Expr, truth: Truth, negated: bool, depth: usize) -> Option<Scalar> {
        Some(Scalar::Is {
            truth,
            negated,
            operand: self.boxed(operand, depth)?,
        })
    }

    fn binary(&self, expr: &Expr, binary: &BinaryExpr, depth: usize) -> Option<Scalar> {
        let BinaryExpr { left, op, right } = binary;
        let comparison = match op {
            Operator::And | Operator::Or => {
                let mut parts = Vec::new();
                flatten(expr, *op, &mut parts);
                let parts = parts
                    .into_iter()
                    .map(|part| self.compile(part, depth))
                    .collect::<Option<Vec<_>>>()?;
                return Some(if *op == Operator::And {
                    Scalar::And(parts)
                } else {
                    Scalar::Or(parts)
                });
            }
            Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => {
                return Some(Scalar::Distinct {
                    distinct: *op == Operator::IsDistinctFrom,
                    blank_padded: self.blank_padded(left),
                    left: self.boxed(left, depth)?,
                    right: self.boxed(right, depth)?,
                });
            }
            Operator::Eq => Comparison::Eq,
            Operator::NotEq => Comparison::NotEq,
            Operator::Lt => Comparison::Lt,
            Operator::LtEq => Comparison::LtEq,
            Operator::Gt => Comparison::Gt,
            Operator::GtEq => Comparison::GtEq,
            _ => return self.physical(expr),
        };
        Some(Scalar::Compare {
            comparison,
            blank_padded: self.blank_padded(left),
            left: self.boxed(left, depth)?,
            right: self.boxed(right, depth)?,
        })
    }

    fn like(&self, like: &Like, depth: usize) -> Option<Scalar> {
        Some(Scalar::Like {
            kind: if like.case_insensitive {
                LikeKind::Insensitive
            } else {
                LikeKind::Sensitive
            },
            negated: like.negated,
            escape: Some(like.escape_char.unwrap_or('\\')),
            text: self.boxed(&like.expr, depth)?,
            pattern: self.boxed(&like.pattern, depth)?,
        })
    }

    fn case(&self, case: &Case, depth: usize) -> Option<Scalar> {
        let operand = match &case.expr {
            Some(operand) => Some(self.boxed(operand, depth)?),
            None => None,
        };
        let branches = case
            .when_then_expr
            .iter()
            .map(|(when, then)| Some((self.compile(when, depth)?, self.compile(then, depth)?)))
            .collect::<Option<Vec<_>>>()?;
        let otherwise = match &case.else_expr {
            Some(otherwise) => Some(self.boxed(otherwise, depth)?),
            None => None,
        };
        Some(Scalar::Case {
            operand,
            blank_padded: case
                .expr
                .as_ref()
                .is_some_and(|expr| self.blank_padded(expr)),
            branches,
            otherwise,
        })
    }

    fn physical(&self, expr: &Expr) -> Option<Scalar> {
        let places = self.input.places;
        PhysicalScalar::new(expr, self.input.schema, places)
            .map(|node| Scalar::Physical(Arc::new(node)))
    }
}

/// A place where a conjunction or disjunction continues.
fn flatten<'e>(expr: &'e Expr, operator: Operator, out: &mut Vec<&'e Expr>) {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if *op == operator => {
            flatten(left, operator, out);
            flatten(right, operator, out);
        }
        _ => out.push(expr),
    }
}
