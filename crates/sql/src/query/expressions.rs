//! Binding of expressions.

use super::binder::{Binder, literal, unnested};
use super::coerce::{CastContext, can_cast};
use super::literals::{string_value, text_literal, unknown_text};
use super::names::{fold, object_name};
use super::scope::{Scope, Typed};
use datafusion::logical_expr::expr::Exists;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::scalar::ScalarValue;
use sqlparser::ast;
use types::{Datum, Error, Result, SqlState, SqlType};

/// Where an expression stands: the names it may use and what it may contain.
#[derive(Clone, Copy)]
pub(crate) struct Site<'s> {
    pub scope: &'s Scope<'s>,
    /// For errors: `WHERE`, `JOIN conditions` …
    pub clause: &'static str,
    pub aggregates: bool,
    pub windows: bool,
    /// Set-returning functions may stand here.
    pub sets: bool,
}

impl<'s> Site<'s> {
    /// A place without aggregates, windows and sets.
    pub fn plain(scope: &'s Scope<'s>, clause: &'static str) -> Self {
        Site {
            scope,
            clause,
            aggregates: false,
            windows: false,
            sets: false,
        }
    }
}

pub(crate) fn is_comparison(op: &ast::BinaryOperator) -> Option<Operator> {
    use ast::BinaryOperator as B;
    Some(match op {
        B::Eq => Operator::Eq,
        B::NotEq => Operator::NotEq,
        B::Lt => Operator::Lt,
        B::LtEq => Operator::LtEq,
        B::Gt => Operator::Gt,
        B::GtEq => Operator::GtEq,
        _ => return None,
    })
}

impl Binder<'_> {
    pub fn expr(&mut self, expr: &ast::Expr, site: &Site<'_>) -> Result<Typed> {
        // Chains of AND and OR come left-deep and long; they are walked, not recursed into.
        if let ast::Expr::BinaryOp { op, .. } = expr
            && matches!(op, ast::BinaryOperator::And | ast::BinaryOperator::Or)
        {
            return self.logical_chain(expr, op, site);
        }
        self.deeper(|binder| binder.expr_at_level(expr, site))
    }

    /// An expression whose unknown type, if any, is settled as text.
    pub fn settled_expr(&mut self, expr: &ast::Expr, site: &Site<'_>) -> Result<Typed> {
        let typed = self.expr(expr, site)?;
        self.settle(typed)
    }

    /// A condition; 42804 if it is not boolean.
    pub fn condition(&mut self, expr: &ast::Expr, site: &Site<'_>, what: &str) -> Result<Expr> {
        if let ast::Expr::InSubquery {
            expr: row,
            subquery,
            negated: false,
        } = unnested(expr)
            && let ast::Expr::Tuple(row) = unnested(row)
        {
            // Here NULL is as good as false, and this DataFusion runs as a join.
            return Ok(self.row_in_subquery(row, subquery, site)?.equal);
        }
        if let ast::Expr::BinaryOp {
            left,
            op: ast::BinaryOperator::And,
            right,
        } = unnested(expr)
            && [left, right].iter().any(|side| {
                matches!(unnested(side), ast::Expr::InSubquery { expr, .. }
                    if matches!(unnested(expr), ast::Expr::Tuple(_)))
            })
        {
            let left = self.deeper(|binder| binder.condition(left, site, what))?;
            let right = self.deeper(|binder| binder.condition(right, site, what))?;
            return Ok(binary_expr(left, Operator::And, right));
        }
        let typed = self.expr(expr, site)?;
        self.boolean(typed, what)
    }

    fn boolean(&mut self, typed: Typed, what: &str) -> Result<Expr> {
        let typed = self.implicit(typed, &SqlType::Bool, |found| {
            Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "argument of {what} must be type boolean, not type {}",
                    found.bare_name()
                ),
            )
        })?;
        Ok(typed.expr)
    }

    fn logical_chain(
        &mut self,
        expr: &ast::Expr,
        op: &ast::BinaryOperator,
        site: &Site<'_>,
    ) -> Result<Typed> {
        let mut operands = Vec::new();
        let mut rest = expr;
        while let ast::Expr::BinaryOp {
            left,
            op: own,
            right,
        } = rest
            && own == op
        {
            operands.push(right.as_ref());
            rest = left;
        }
        operands.push(rest);
        let (what, operator) = match op {
            ast::BinaryOperator::And => ("AND", Operator::And),
            _ => ("OR", Operator::Or),
        };
        let mut bound = Vec::with_capacity(operands.len());
        for operand in operands.into_iter().rev() {
            let typed = self.deeper(|binder| binder.expr(operand, site))?;
            bound.push(self.boolean(typed, what)?);
        }
        Ok(Typed::new(balanced(bound, operator), SqlType::Bool))
    }

    fn expr_at_level(&mut self, expr: &ast::Expr, site: &Site<'_>) -> Result<Typed> {
        use ast::Expr as E;
        match expr {
            E::Nested(inner) => self.expr(inner, site),
            E::Identifier(identifier) => self.column(&fold(identifier), site),
            E::CompoundIdentifier(parts) => self.compound(parts, site),
            E::Value(value) => self.value(&value.value),
            E::TypedString(typed) => {
                let ty = super::type_names::sql_type(&typed.data_type)?;
                let text = string_value(&typed.value.value)
                    .ok_or_else(|| Error::syntax("a string literal was expected"))?;
                self.coerce(unknown_text(text), &ty, true)
            }
            E::Interval(interval) => self.interval(interval, site),
            E::Cast {
                expr,
                data_type,
                kind: ast::CastKind::Cast | ast::CastKind::DoubleColon,
                format: None,
                ..
            } => {
                let ty = super::type_names::sql_type(data_type)?;
                self.cast(expr, &ty, site)
            }
            E::BinaryOp { left, op, right } => self.binary(left, op, right, site),
            E::UnaryOp { op, expr } => self.unary(op, expr, site),
            E::IsNull(inner) => self.null_test(inner, false, site),
            E::IsNotNull(inner) => self.null_test(inner, true, site),
            E::IsTrue(inner) => self.truth_test(inner, site, Expr::IsTrue),
            E::IsNotTrue(inner) => self.truth_test(inner, site, Expr::IsNotTrue),
            E::IsFalse(inner) => self.truth_test(inner, site, Expr::IsFalse),
            E::IsNotFalse(inner) => self.truth_test(inner, site, Expr::IsNotFalse),
            E::IsUnknown(inner) => self.truth_test(inner, site, Expr::IsUnknown),
            E::IsNotUnknown(inner) => self.truth_test(inner, site, Expr::IsNotUnknown),
            E::IsDistinctFrom(left, right) => {
                let (left, right) = (self.expr(left, site)?, self.expr(right, site)?);
                self.compare(left, Operator::IsDistinctFrom, right)
            }
            E::IsNotDistinctFrom(left, right) => {
                let (left, right) = (self.expr(left, site)?, self.expr(right, site)?);
                self.compare(left, Operator::IsNotDistinctFrom, right)
            }
            E::Between {
                expr,
                negated,
                low,
                high,
            } => self.between(expr, *negated, low, high, site),
            E::InList {
                expr,
                list,
                negated,
            } => self.in_list(expr, list, *negated, site),
            E::InSubquery {
                expr,
                subquery,
                negated,
            } => self.in_subquery(expr, subquery, *negated, site),
            E::Exists { subquery, negated } => {
                let subquery = self.subquery(subquery, site)?.0;
                let expr = Expr::Exists(Exists {
                    subquery,
                    negated: *negated,
                });
                Ok(Typed::new(expr, SqlType::Bool))
            }
            E::Subquery(query) => {
                let (subquery, columns) = self.subquery(query, site)?;
                let [ty] = columns.as_slice() else {
                    return Err(Error::syntax("subquery must return only one column"));
                };
                let subquery = super::maybe_null::may_be_empty(subquery)?;
                Ok(Typed::new(Expr::ScalarSubquery(subquery), ty.clone()))
            }
            E::AnyOp {
                left,
                compare_op,
                right,
                ..
            } => self.quantified(left, compare_op, right, false, site),
            E::AllOp {
                left,
                compare_op,
                right,
            } => self.quantified(left, compare_op, right, true, site),
            E::Like {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(expr, pattern, escape_char.as_ref(), *negated, false, site),
            E::ILike {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self.like(expr, pattern, escape_char.as_ref(), *negated, true, site),
            E::SimilarTo {
                negated,
                expr,
                pattern,
                escape_char,
            } => {
                let value = self.settled_expr(expr, site)?;
                let pattern = self.settled_expr(pattern, site)?;
                let escape = match escape_char {
                    Some(escape) => self.value(&escape.value)?,
                    None => unknown_text("\\"),
                };
                let regex = self.call("similar_to_escape", vec![pattern, escape])?;
                let op = if *negated { "!~" } else { "~" };
                self.operator(op, value, regex)
            }
            E::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.case(operand.as_deref(), conditions, else_result.as_deref(), site),
            E::Function(function) => self.function(function, site),
            E::Array(array) => self.array(&array.elem, site),
            E::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain, site),
            E::Extract { field, expr, .. } => {
                let value = self.settled_expr(expr, site)?;
                let field = text_literal(&field.to_string().to_lowercase());
                self.call("extract", vec![field, value])
            }
            E::AtTimeZone {
                timestamp,
                time_zone,
            } => {
                let value = self.expr(timestamp, site)?;
                let zone = self.expr(time_zone, site)?;
                self.call("timezone", vec![zone, value])
            }
            E::Ceil { expr, .. } => {
                let value = self.expr(expr, site)?;
                self.call("ceil", vec![value])
            }
            E::Floor { expr, .. } => {
                let value = self.expr(expr, site)?;
                self.call("floor", vec![value])
            }
            E::Position { expr, r#in } => {
                let (needle, hay) = (self.expr(expr, site)?, self.expr(r#in, site)?);
                self.call("position", vec![hay, needle])
            }
            E::Substring {
                expr,
                substring_from,
                substring_for,
                shorthand,
                ..
            } => {
                let value = self.expr(expr, site)?;
                let mut arguments = vec![value];
                match (substring_from, substring_for) {
                    (Some(from), length) => {
                        arguments.push(self.expr(from, site)?);
                        if let Some(length) = length {
                            arguments.push(self.expr(length, site)?);
                        }
                    }
                    (None, Some(length)) => {
                        arguments.push(Typed::new(
                            literal(&Datum::Int4(1), &SqlType::Int4)?,
                            SqlType::Int4,
                        ));
                        arguments.push(self.expr(length, site)?);
                    }
                    (None, None) => {}
                }
                self.call(if *shorthand { "substr" } else { "substring" }, arguments)
            }
            E::Trim {
                trim_where,
                trim_what,
                expr,
                trim_characters,
            } => {
                let name = match trim_where {
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                    _ => "btrim",
                };
                let mut arguments = vec![self.expr(expr, site)?];
                if let Some(what) = trim_what {
                    arguments.push(self.expr(what, site)?);
                }
                for what in trim_characters.iter().flatten() {
                    arguments.push(self.expr(what, site)?);
                }
                self.call(name, arguments)
            }
            E::Overlay {
                expr,
                overlay_what,
                overlay_from,
                overlay_for,
            } => {
                let mut arguments = vec![
                    self.expr(expr, site)?,
                    self.expr(overlay_what, site)?,
                    self.expr(overlay_from, site)?,
                ];
                if let Some(length) = overlay_for {
                    arguments.push(self.expr(length, site)?);
                }
                self.call("overlay", arguments)
            }
            E::Collate { expr, collation } => {
                let name = object_name(collation).pop().unwrap_or_default();
                if !matches!(
                    name.as_str(),
                    "c" | "C" | "posix" | "POSIX" | "default" | "ucs_basic"
                ) {
                    return Err(Error::unsupported(format!("collation \"{name}\"")));
                }
                self.settled_expr(expr, site)
            }
            E::Tuple(_) => Err(Error::unsupported("a row value outside a comparison")),
            other => Err(Error::unsupported(format!("the expression {other}"))),
        }
    }

    pub fn column(&mut self, name: &str, site: &Site<'_>) -> Result<Typed> {
        if let Some(found) = site.scope.column(name)? {
            return Ok(found.value);
        }
        // Words that are functions without parentheses in PostgreSQL's grammar.
        if matches!(
            name,
            "current_date"
                | "current_time"
                | "current_timestamp"
                | "localtime"
                | "localtimestamp"
                | "current_user"
                | "session_user"
                | "user"
                | "current_role"
                | "current_catalog"
                | "current_schema"
        ) && !self.planner.registry.overloads(name).is_empty()
        {
            return self.call(name, Vec::new());
        }
        if let Some(found) = site.scope.scalar_row(name) {
            return Ok(found.value);
        }
        if site.scope.find_relation(None, name).is_some() {
            return Err(Error::unsupported("a whole row as a value"));
        }
        Err(Error::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{name}\" does not exist"),
        ))
    }

    pub fn compound(&mut self, parts: &[ast::Ident], site: &Site<'_>) -> Result<Typed> {
        let parts: Vec<String> = parts.iter().map(fold).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let found = match parts.as_slice() {
            [relation, column] => site.scope.qualified_column(None, relation, column)?,
            [schema, relation, column] => {
                site.scope
                    .qualified_column(Some(schema), relation, column)?
            }
            [database, schema, relation, column] => {
                if *database != self.planner.settings.database.as_ref() {
                    return Err(Error::unsupported(format!(
                        "cross-database references are not implemented: {}",
                        parts.join(".")
                    )));
                }
                site.scope
                    .qualified_column(Some(schema), relation, column)?
            }
            _ => return Err(Error::syntax("improper qualified name")),
        };
        Ok(found.value)
    }

    pub fn cast(&mut self, inner: &ast::Expr, to: &SqlType, site: &Site<'_>) -> Result<Typed> {
        // ARRAY[] has a type only through its cast.
        if let (ast::Expr::Array(array), Some(element)) = (unnested(inner), to.element_type()) {
            let mut bound = Vec::new();
            for item in &array.elem {
                if matches!(unnested(item), ast::Expr::Array(_)) {
                    bound.clear();
                    break;
                }
                let value = self.expr(item, site)?;
                bound.push(self.explicit(value, &element)?);
            }
            if bound.len() == array.elem.len() {
                return self.make_array(bound, element);
            }
        }
        let value = self.expr(inner, site)?;
        self.explicit(value, to)
    }

    pub fn explicit(&mut self, value: Typed, to: &SqlType) -> Result<Typed> {
        if !can_cast(&value.ty, to, CastContext::Explicit) {
            return Err(Error::new(
                SqlState::CANNOT_COERCE,
                format!(
                    "cannot cast type {} to {}",
                    value.ty.bare_name(),
                    to.bare_name()
                ),
            ));
        }
        self.coerce(value, to, true)
    }
}

pub(crate) fn binary_expr(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

/// Joins conditions by AND or OR into a tree of logarithmic depth, in order.
pub(crate) fn balanced(mut operands: Vec<Expr>, operator: Operator) -> Expr {
    // A short chain keeps its usual left-deep form.
    const LEFT_DEEP: usize = 32;
    if operands.len() <= LEFT_DEEP {
        let mut operands = operands.into_iter();
        let first = operands.next().unwrap_or_else(|| {
            Expr::Literal(ScalarValue::Boolean(Some(operator == Operator::And)), None)
        });
        return operands.fold(first, |left, right| binary_expr(left, operator, right));
    }
    let right = operands.split_off(operands.len() / 2);
    binary_expr(
        balanced(operands, operator),
        operator,
        balanced(right, operator),
    )
}
