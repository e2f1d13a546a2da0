//! Compiled expressions: what an analysed DataFusion expression means, on datums.

use super::physical::PhysicalScalar;
use crate::arrow_bridge;
use crate::context::StatementContext;
use crate::functions::ScalarFunction;
use crate::functions::comparison::{self, Comparison};
use crate::query::casts::CastUdf;
use crate::query::functions::FunctionUdf;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::{Case, InList, Like};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlType};

/// How deep an expression tree may be, in levels, so that walking it stays within a thread's stack.
const MAX_DEPTH: usize = 200;

/// What the columns of an expression refer to.
pub struct Input<'a> {
    pub schema: &'a DFSchema,
    /// Place in the executor's row of each column of the schema; `None`: the same place.
    pub places: Option<&'a [usize]>,
}

impl Input<'_> {
    fn place(&self, column: &Column) -> Option<usize> {
        let index = self.schema.maybe_index_of_column(column)?;
        match self.places {
            Some(places) => places.get(index).copied(),
            None => Some(index),
        }
    }
}

/// Three-valued truth tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    Null,
    True,
    False,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LikeKind {
    Sensitive,
    Insensitive,
}

/// A compiled expression.
#[derive(Clone)]
pub enum Scalar {
    Column(usize),
    Constant(Datum),
    /// A parameter, from zero.
    Parameter(usize),
    Compare {
        comparison: Comparison,
        blank_padded: bool,
        left: Box<Scalar>,
        right: Box<Scalar>,
    },
    /// `IS [NOT] DISTINCT FROM`.
    Distinct {
        distinct: bool,
        blank_padded: bool,
        left: Box<Scalar>,
        right: Box<Scalar>,
    },
    And(Vec<Scalar>),
    Or(Vec<Scalar>),
    Not(Box<Scalar>),
    /// `IS [NOT] NULL | TRUE | FALSE`.
    Is {
        truth: Truth,
        negated: bool,
        operand: Box<Scalar>,
    },
    InList {
        negated: bool,
        blank_padded: bool,
        operand: Box<Scalar>,
        list: Vec<Scalar>,
    },
    Between {
        negated: bool,
        blank_padded: bool,
        operand: Box<Scalar>,
        low: Box<Scalar>,
        high: Box<Scalar>,
    },
    Like {
        kind: LikeKind,
        negated: bool,
        escape: Option<char>,
        text: Box<Scalar>,
        pattern: Box<Scalar>,
    },
    Case {
        operand: Option<Box<Scalar>>,
        blank_padded: bool,
        branches: Vec<(Scalar, Scalar)>,
        otherwise: Option<Box<Scalar>>,
    },
    Coalesce(Vec<Scalar>),
    NullIf(Box<Scalar>, Box<Scalar>),
    Cast {
        operand: Box<Scalar>,
        cast: Arc<CastUdf>,
    },
    Call {
        function: Arc<ScalarFunction>,
        arguments: Vec<Scalar>,
    },
    /// By DataFusion, on a batch of one row.
    Physical(Arc<PhysicalScalar>),
}

impl Scalar {
    /// `None` if the expression is none of a single row: subqueries, aggregates, windows.
    pub fn compile(expr: &Expr, input: &Input<'_>) -> Option<Scalar> {
        Compiler { input }.compile(expr, MAX_DEPTH)
    }

    /// The value for one row.
    pub fn eval(&self, row: &[Datum], params: &[Datum], ctx: &StatementContext) -> Result<Datum> {
        self.eval_ref(row, params, ctx).map(Cow::into_owned)
    }

    /// A condition: only TRUE is true.
    pub fn holds(&self, row: &[Datum], params: &[Datum], ctx: &StatementContext) -> Result<bool> {
        Ok(self.truth(row, params, ctx)? == Some(true))
    }

    /// Whether the value is the same for all rows.
    pub fn is_row_independent(&self) -> bool {
        !self.any(&mut |node| matches!(node, Scalar::Column(_) | Scalar::Physical(_)))
    }

    /// Whether calls of the expression may give different values, or do more than give one.
    pub fn is_volatile(&self) -> bool {
        self.any(&mut |node| match node {
            Scalar::Call { function, .. } => {
                function.volatility == crate::functions::Volatility::Volatile
            }
            Scalar::Physical(physical) => physical.is_volatile(),
            _ => false,
        })
    }

    /// Places of the row that the expression reads.
    pub fn collect_columns(&self, out: &mut Vec<usize>) {
        self.any(&mut |node| {
            match node {
                Scalar::Column(place) => out.push(*place),
                Scalar::Physical(physical) => out.extend_from_slice(physical.places()),
                _ => {}
            }
            false
        });
    }

    fn any(&self, test: &mut dyn FnMut(&Scalar) -> bool) -> bool {
        if test(self) {
            return true;
        }
        match self {
            Scalar::Column(_)
            | Scalar::Constant(_)
            | Scalar::Parameter(_)
            | Scalar::Physical(_) => false,
            Scalar::Compare { left, right, .. } | Scalar::Distinct { left, right, .. } => {
                left.any(test) || right.any(test)
            }
            Scalar::NullIf(left, right) => left.any(test) || right.any(test),
            Scalar::And(list) | Scalar::Or(list) | Scalar::Coalesce(list) => {
                list.iter().any(|item| item.any(test))
            }
            Scalar::Not(operand) | Scalar::Is { operand, .. } | Scalar::Cast { operand, .. } => {
                operand.any(test)
            }
            Scalar::InList { operand, list, .. } => {
                operand.any(test) || list.iter().any(|item| item.any(test))
            }
            Scalar::Between {
                operand, low, high, ..
            } => operand.any(test) || low.any(test) || high.any(test),
            Scalar::Like { text, pattern, .. } => text.any(test) || pattern.any(test),
            Scalar::Case {
                operand,
                branches,
                otherwise,
                ..
            } => {
                operand.iter().any(|item| item.any(test))
                    || branches.iter().any(|(a, b)| a.any(test) || b.any(test))
                    || otherwise.iter().any(|item| item.any(test))
            }
            Scalar::Call { arguments, .. } => arguments.iter().any(|item| item.any(test)),
        }
    }

    fn truth(
        &self,
        row: &[Datum],
        params: &[Datum],
        ctx: &StatementContext,
    ) -> Result<Option<bool>> {
        match self {
            Scalar::Compare {
                comparison,
                blank_padded,
                left,
                right,
            } => {
                let left = left.eval_ref(row, params, ctx)?;
                let right = right.eval_ref(row, params, ctx)?;
                Ok(comparison::compare(&left, &right, *blank_padded)
                    .map(|ordering| comparison.holds(ordering)))
            }
            Scalar::Distinct {
                distinct,
                blank_padded,
                left,
                right,
            } => {
                let left = left.eval_ref(row, params, ctx)?;
                let right = right.eval_ref(row, params, ctx)?;
                Ok(Some(
                    comparison::same(&left, &right, *blank_padded) != *distinct,
                ))
            }
            Scalar::And(list) => {
                let mut result = Some(true);
                for item in list {
                    match item.truth(row, params, ctx)? {
                        Some(false) => return Ok(Some(false)),
                        None => result = None,
                        Some(true) => {}
                    }
                }
                Ok(result)
            }
            Scalar::Or(list) => {
                let mut result = Some(false);
                for item in list {
                    match item.truth(row, params, ctx)? {
                        Some(true) => return Ok(Some(true)),
                        None => result = None,
                        Some(false) => {}
                    }
                }
                Ok(result)
            }
            Scalar::Not(operand) => Ok(operand.truth(row, params, ctx)?.map(|truth| !truth)),
            Scalar::Is {
                truth,
                negated,
                operand,
            } => {
                let value = operand.eval_ref(row, params, ctx)?;
                let is = match truth {
                    Truth::Null => value.is_null(),
                    Truth::True => *value == Datum::Bool(true),
                    Truth::False => *value == Datum::Bool(false),
                };
                Ok(Some(is != *negated))
            }
            Scalar::InList {
                negated,
                blank_padded,
                operand,
                list,
            } => {
                let value = operand.eval_ref(row, params, ctx)?;
                let mut result = Some(false);
                for item in list {
                    let item = item.eval_ref(row, params, ctx)?;
                    match comparison::compare(&value, &item, *blank_padded) {
                        Some(Ordering::Equal) => {
                            result = Some(true);
                            break;
                        }
                        None => result = None,
                        Some(_) => {}
                    }
                }
                Ok(result.map(|found| found != *negated))
            }
            Scalar::Between {
                negated,
                blank_padded,
                operand,
                low,
                high,
            } => {
                let value = operand.eval_ref(row, params, ctx)?;
                let low = low.eval_ref(row, params, ctx)?;
                let high = high.eval_ref(row, params, ctx)?;
                let above = comparison::compare(&value, &low, *blank_padded).map(Ordering::is_ge);
                let below = comparison::compare(&value, &high, *blank_padded).map(Ordering::is_le);
                let within = match (above, below) {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                };
                Ok(within.map(|within| within != *negated))
            }
            Scalar::Like {
                kind,
                negated,
                escape,
                text,
                pattern,
            } => {
                let text = text.eval_ref(row, params, ctx)?;
                let pattern = pattern.eval_ref(row, params, ctx)?;
                match (text.as_ref(), pattern.as_ref()) {
                    (Datum::Null, _) | (_, Datum::Null) => Ok(None),
                    (Datum::Text(text), Datum::Text(pattern)) => {
                        let matched = match kind {
                            LikeKind::Sensitive => comparison::like(text, pattern, *escape)?,
                            LikeKind::Insensitive => comparison::ilike(text, pattern, *escape)?,
                        };
                        Ok(Some(matched != *negated))
                    }
                    _ => Err(Error::internal("LIKE on values that are not text")),
                }
            }
            _ => match self.eval_ref(row, params, ctx)?.as_ref() {
                Datum::Bool(value) => Ok(Some(*value)),
                Datum::Null => Ok(None),
                _ => Err(Error::internal("condition is not boolean")),
            },
        }
    }

    /// The value, borrowed where it stands already.
    pub fn eval_ref<'a>(
        &'a self,
        row: &'a [Datum],
        params: &'a [Datum],
        ctx: &StatementContext,
    ) -> Result<Cow<'a, Datum>> {
        let value = match self {
            Scalar::Column(place) => {
                return row
                    .get(*place)
                    .map(Cow::Borrowed)
                    .ok_or_else(|| Error::internal(format!("row has no column {place}")));
            }
            Scalar::Constant(datum) => return Ok(Cow::Borrowed(datum)),
            Scalar::Parameter(number) => {
                return params.get(*number).map(Cow::Borrowed).ok_or_else(|| {
                    Error::new(
                        types::SqlState::UNDEFINED_PARAMETER,
                        format!("there is no parameter ${}", number + 1),
                    )
                });
            }
            Scalar::Case {
                operand,
                blank_padded,
                branches,
                otherwise,
            } => {
                let subject = match operand {
                    Some(operand) => Some(operand.eval_ref(row, params, ctx)?),
                    None => None,
                };
                for (when, then) in branches {
                    let taken = match &subject {
                        Some(subject) => {
                            let candidate = when.eval_ref(row, params, ctx)?;
                            comparison::compare(subject, &candidate, *blank_padded)
                                == Some(Ordering::Equal)
                        }
                        None => when.holds(row, params, ctx)?,
                    };
                    if taken {
                        return then.eval_ref(row, params, ctx);
                    }
                }
                return match otherwise {
                    Some(otherwise) => otherwise.eval_ref(row, params, ctx),
                    None => Ok(Cow::Owned(Datum::Null)),
                };
            }
            Scalar::Coalesce(list) => {
                for item in list {
                    let value = item.eval_ref(row, params, ctx)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Datum::Null
            }
            Scalar::NullIf(left, right) => {
                let left = left.eval_ref(row, params, ctx)?;
                let right = right.eval_ref(row, params, ctx)?;
                if comparison::compare(&left, &right, false) == Some(Ordering::Equal) {
                    Datum::Null
                } else {
                    return Ok(left);
                }
            }
            Scalar::Cast { operand, cast } => {
                let value = operand.eval(row, params, ctx)?;
                convert(value, cast, ctx)?
            }
            Scalar::Call {
                function,
                arguments,
            } => {
                let mut values: SmallVec<[Datum; 4]> = SmallVec::new();
                for argument in arguments {
                    let value = argument.eval(row, params, ctx)?;
                    if function.strict && value.is_null() {
                        return Ok(Cow::Owned(Datum::Null));
                    }
                    values.push(value);
                }
                (function.evaluate)(ctx, &values)?
            }
            Scalar::Physical(physical) => physical.eval(row, params, ctx)?,
            _ => match self.truth(row, params, ctx)? {
                Some(value) => Datum::Bool(value),
                None => Datum::Null,
            },
        };
        Ok(Cow::Owned(value))
    }
}

/// A cast; NULL stays NULL. The ones that point statements make often go without the settings.
pub fn convert(value: Datum, cast: &CastUdf, ctx: &StatementContext) -> Result<Datum> {
    match (&value, &cast.to) {
        (Datum::Null, _) => Ok(value),
        (Datum::Int4(v), SqlType::Int8) => Ok(Datum::Int8(i64::from(*v))),
        (Datum::Int4(_), SqlType::Int4) | (Datum::Int8(_), SqlType::Int8) => Ok(value),
        (Datum::Text(_), SqlType::Text) if !matches!(cast.from, SqlType::Char(_)) => Ok(value),
        _ => cast.convert(&value, ctx),
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
                    if let [left, right] = call.args.as_slice()
                        && let Some(comparison) = Comparison::named(own.function.name)
                    {
                        return Some(Scalar::Compare {
                            comparison,
                            blank_padded: false,
                            left: self.boxed(left, depth)?,
                            right: self.boxed(right, depth)?,
                        });
                    }
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
