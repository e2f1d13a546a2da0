//! Binding of expressions.

use super::binder::{Binder, literal, numeric_literal_type, unnested};
use super::coerce::{CastContext, can_cast, common_type};
use super::names::{fold, object_name};
use super::scope::{Scope, Typed};
use datafusion::logical_expr::expr::{
    Case, Exists, InList, InSubquery, Like, SetComparison, SetQuantifier,
};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, Subquery};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast;
use std::sync::Arc;
use types::{Datum, Error, Numeric, Result, SqlState, SqlType};

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

    fn column(&mut self, name: &str, site: &Site<'_>) -> Result<Typed> {
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
        if site.scope.find_relation(None, name).is_some() {
            return Err(Error::unsupported("a whole row as a value"));
        }
        Err(Error::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{name}\" does not exist"),
        ))
    }

    fn compound(&mut self, parts: &[ast::Ident], site: &Site<'_>) -> Result<Typed> {
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

    pub fn value(&mut self, value: &ast::Value) -> Result<Typed> {
        use ast::Value as V;
        Ok(match value {
            V::Number(text, _) => number(text)?,
            V::Boolean(v) => Typed::new(literal(&Datum::Bool(*v), &SqlType::Bool)?, SqlType::Bool),
            V::Null => Typed::new(Expr::Literal(ScalarValue::Null, None), SqlType::Unknown),
            V::Placeholder(text) => return self.parameter(text),
            V::HexStringLiteral(_) | V::SingleQuotedByteStringLiteral(_) => {
                return Err(Error::unsupported("bit string literal"));
            }
            other => match string_value(other) {
                Some(text) => unknown_text(text),
                None => return Err(Error::unsupported(format!("the literal {other}"))),
            },
        })
    }

    fn interval(&mut self, interval: &ast::Interval, site: &Site<'_>) -> Result<Typed> {
        let mut text = match unnested(&interval.value) {
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Number(text, _) => text.clone(),
                other => string_value(other)
                    .ok_or_else(|| Error::syntax("an interval literal was expected"))?
                    .to_string(),
            },
            other => {
                let value = self.expr(other, site)?;
                return self.coerce(value, &SqlType::Interval, true);
            }
        };
        if let Some(unit) = &interval.leading_field {
            if interval.last_field.is_some() {
                return Err(Error::unsupported(
                    "interval literal with a range of fields",
                ));
            }
            if text.trim().parse::<f64>().is_ok() {
                text = format!("{} {}", text.trim(), unit.to_string().to_lowercase());
            } else {
                return Err(Error::unsupported("interval literal with a field"));
            }
        }
        self.coerce(unknown_text(&text), &SqlType::Interval, true)
    }

    fn cast(&mut self, inner: &ast::Expr, to: &SqlType, site: &Site<'_>) -> Result<Typed> {
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

    fn explicit(&mut self, value: Typed, to: &SqlType) -> Result<Typed> {
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

    fn null_test(&mut self, inner: &ast::Expr, negated: bool, site: &Site<'_>) -> Result<Typed> {
        if let ast::Expr::Tuple(items) = unnested(inner) {
            let mut tests = Vec::new();
            for item in items {
                tests.push(self.null_test(item, negated, site)?.expr);
            }
            return Ok(Typed::new(balanced(tests, Operator::And), SqlType::Bool));
        }
        let value = self.settled_expr(inner, site)?.expr;
        let expr = if negated {
            Expr::IsNotNull(Box::new(value))
        } else {
            Expr::IsNull(Box::new(value))
        };
        Ok(Typed::new(expr, SqlType::Bool))
    }

    fn truth_test(
        &mut self,
        inner: &ast::Expr,
        site: &Site<'_>,
        test: fn(Box<Expr>) -> Expr,
    ) -> Result<Typed> {
        let value = self.condition(inner, site, "IS")?;
        Ok(Typed::new(test(Box::new(value)), SqlType::Bool))
    }

    fn between(
        &mut self,
        value: &ast::Expr,
        negated: bool,
        low: &ast::Expr,
        high: &ast::Expr,
        site: &Site<'_>,
    ) -> Result<Typed> {
        let value = self.expr(value, site)?;
        let (low, high) = (self.expr(low, site)?, self.expr(high, site)?);
        let from = self.compare(value.clone(), Operator::GtEq, low)?;
        let to = self.compare(value, Operator::LtEq, high)?;
        let inside = binary_expr(from.expr, Operator::And, to.expr);
        let expr = if negated {
            Expr::Not(Box::new(inside))
        } else {
            inside
        };
        Ok(Typed::new(expr, SqlType::Bool))
    }

    fn in_list(
        &mut self,
        value: &ast::Expr,
        list: &[ast::Expr],
        negated: bool,
        site: &Site<'_>,
    ) -> Result<Typed> {
        if let ast::Expr::Tuple(_) = unnested(value) {
            let mut tests = Vec::new();
            for item in list {
                tests.push(
                    self.row_or_scalar_comparison(value, Operator::Eq, item, site)?
                        .expr,
                );
            }
            let any = balanced(tests, Operator::Or);
            let expr = if negated {
                Expr::Not(Box::new(any))
            } else {
                any
            };
            return Ok(Typed::new(expr, SqlType::Bool));
        }
        let value = self.expr(value, site)?;
        let mut items = Vec::with_capacity(list.len());
        for item in list {
            items.push(self.expr(item, site)?);
        }
        let types = std::iter::once(&value.ty).chain(items.iter().map(|i| &i.ty));
        let common = match common_type(types, "IN") {
            Ok(common) if plain_comparison(&common) && !too_long(&common, &items) => common,
            // No one type: compare item by item, as PostgreSQL does.
            _ => {
                let mut tests = Vec::new();
                for item in items {
                    tests.push(self.compare(value.clone(), Operator::Eq, item)?.expr);
                }
                let any = balanced(tests, Operator::Or);
                let expr = if negated {
                    Expr::Not(Box::new(any))
                } else {
                    any
                };
                return Ok(Typed::new(expr, SqlType::Bool));
            }
        };
        let value = self.coerce(value, &common, false)?;
        let mut bound = Vec::with_capacity(items.len());
        for item in items {
            bound.push(self.coerce_exactly(item, &value.ty)?);
        }
        let expr = Expr::InList(InList {
            expr: Box::new(value.expr),
            list: bound,
            negated,
        });
        Ok(Typed::new(expr, SqlType::Bool))
    }

    /// Like `coerce`, but the result has the very Arrow type of `to`.
    fn coerce_exactly(&mut self, item: Typed, to: &SqlType) -> Result<Expr> {
        let item = self.coerce(item, to, false)?;
        Ok(super::casts::cast_expr(item.expr, &item.ty, to, false))
    }

    pub fn subquery(
        &mut self,
        query: &ast::Query,
        site: &Site<'_>,
    ) -> Result<(Subquery, Vec<SqlType>)> {
        let bound = self.expression_query(query, site.scope)?;
        let bound = self.settle_unknowns(bound)?;
        let types = bound.columns.iter().map(|c| c.ty.clone()).collect();
        Ok((subquery_of(bound.plan), types))
    }

    fn in_subquery(
        &mut self,
        value: &ast::Expr,
        query: &ast::Query,
        negated: bool,
        site: &Site<'_>,
    ) -> Result<Typed> {
        if let ast::Expr::Tuple(_) = unnested(value) {
            return Err(Error::unsupported("a row value IN a subquery"));
        }
        let value = self.expr(value, site)?;
        let bound = self.expression_query(query, site.scope)?;
        let [column] = bound.columns.as_slice() else {
            return Err(Error::syntax(if bound.columns.len() > 1 {
                "subquery has too many columns"
            } else {
                "subquery has too few columns"
            }));
        };
        let common = match comparison_type(&value.ty, &column.ty) {
            Some(common) => common,
            None => {
                return Err(super::overload::undefined_operator(
                    "=",
                    Some(&value.ty),
                    &column.ty,
                ));
            }
        };
        let bound = self.coerce_columns(bound, std::slice::from_ref(&common))?;
        let value = self.coerce_exactly(value, &common)?;
        let expr = Expr::InSubquery(InSubquery {
            expr: Box::new(value),
            subquery: subquery_of(bound.plan),
            negated,
        });
        Ok(Typed::new(expr, SqlType::Bool))
    }

    fn quantified(
        &mut self,
        left: &ast::Expr,
        op: &ast::BinaryOperator,
        right: &ast::Expr,
        all: bool,
        site: &Site<'_>,
    ) -> Result<Typed> {
        if let ast::Expr::Subquery(query) = unnested(right) {
            let Some(operator) = is_comparison(op) else {
                return Err(Error::unsupported(format!("{op} ANY or ALL of a subquery")));
            };
            match (operator, all) {
                (Operator::Eq, false) => return self.in_subquery(left, query, false, site),
                (Operator::NotEq, true) => return self.in_subquery(left, query, true, site),
                _ => {}
            }
            let value = self.expr(left, site)?;
            let bound = self.expression_query(query, site.scope)?;
            let [column] = bound.columns.as_slice() else {
                return Err(Error::syntax("subquery has too many columns"));
            };
            let common = comparison_type(&value.ty, &column.ty).ok_or_else(|| {
                super::overload::undefined_operator(&op.to_string(), Some(&value.ty), &column.ty)
            })?;
            let bound = self.coerce_columns(bound, std::slice::from_ref(&common))?;
            let value = self.coerce_exactly(value, &common)?;
            let expr = Expr::SetComparison(SetComparison {
                expr: Box::new(value),
                subquery: subquery_of(bound.plan),
                op: operator,
                quantifier: if all {
                    SetQuantifier::All
                } else {
                    SetQuantifier::Any
                },
            });
            return Ok(Typed::new(expr, SqlType::Bool));
        }
        let value = self.expr(left, site)?;
        let list = self.expr(right, site)?;
        let element = match list.ty.element_type() {
            Some(element) => element,
            None if list.is_unknown() && value.is_unknown() => SqlType::Text,
            None if list.is_unknown() => value.ty.clone(),
            None => {
                return Err(Error::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    "op ANY/ALL (array) requires array on right side",
                ));
            }
        };
        if let Some(operator) = is_comparison(op) {
            let common = comparison_type(&value.ty, &element).ok_or_else(|| {
                super::overload::undefined_operator(&op.to_string(), Some(&value.ty), &element)
            })?;
            let value = self.coerce(value, &common, false)?;
            let list_type = SqlType::Array(Box::new(value.ty.clone()));
            let list = self.coerce(list, &list_type, false)?;
            return self.array_comparison(value, operator, list, all);
        }
        Err(Error::unsupported(format!("{op} ANY or ALL of an array")))
    }

    fn array_comparison(
        &mut self,
        value: Typed,
        operator: Operator,
        list: Typed,
        all: bool,
    ) -> Result<Typed> {
        // A constant list is what IN means, which DataFusion can hash and push down.
        if let Some(Datum::Array(array)) = super::binder::constant(&list)
            && plain_comparison(&value.ty)
            && ((operator == Operator::Eq && !all) || (operator == Operator::NotEq && all))
        {
            let mut items = Vec::with_capacity(array.elements.len());
            for element in &array.elements {
                items.push(literal(element, &value.ty)?);
            }
            let expr = Expr::InList(InList {
                expr: Box::new(value.expr),
                list: items,
                negated: all,
            });
            return Ok(Typed::new(expr, SqlType::Bool));
        }
        let function = super::comparisons::array_comparison(operator, all);
        let call = super::functions::FunctionUdf::new(
            Arc::new(function),
            vec![value.ty, list.ty],
            SqlType::Bool,
        );
        Ok(Typed::new(
            call.call(vec![value.expr, list.expr]),
            SqlType::Bool,
        ))
    }

    fn like(
        &mut self,
        value: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::ValueWithSpan>,
        negated: bool,
        case_insensitive: bool,
        site: &Site<'_>,
    ) -> Result<Typed> {
        let value = self.expr(value, site)?;
        let pattern = self.expr(pattern, site)?;
        self.like_typed(value, pattern, escape, negated, case_insensitive)
    }

    pub fn like_typed(
        &mut self,
        value: Typed,
        mut pattern: Typed,
        escape: Option<&ast::ValueWithSpan>,
        negated: bool,
        case_insensitive: bool,
    ) -> Result<Typed> {
        let symbol = match (negated, case_insensitive) {
            (false, false) => "~~",
            (true, false) => "!~~",
            (false, true) => "~~*",
            (true, true) => "!~~*",
        };
        let mut default_escape = true;
        if let Some(escape) = escape {
            let escape = self.value(&escape.value)?;
            default_escape = matches!(&escape.expr,
                Expr::Literal(ScalarValue::Utf8(Some(text)), _) if text == "\\");
            if !default_escape {
                pattern = self.call("like_escape", vec![pattern, escape])?;
            }
        }
        let text = |t: &SqlType| t.is_string() || matches!(t, SqlType::Unknown);
        if default_escape && text(&value.ty) && text(&pattern.ty) {
            // LIKE sees the blanks of a char(n).
            let value = match value.ty {
                SqlType::Char(_) => value,
                _ => self.coerce(value, &SqlType::Text, false)?,
            };
            let pattern = self.coerce(pattern, &SqlType::Text, false)?;
            let expr = Expr::Like(Like {
                negated,
                expr: Box::new(value.expr),
                pattern: Box::new(pattern.expr),
                escape_char: None,
                case_insensitive,
            });
            return Ok(Typed::new(expr, SqlType::Bool));
        }
        self.operator(symbol, value, pattern)
    }

    fn case(
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

    fn array(&mut self, items: &[ast::Expr], site: &Site<'_>) -> Result<Typed> {
        let mut bound = Vec::with_capacity(items.len());
        for item in items {
            bound.push(self.expr(item, site)?);
        }
        if bound.is_empty() {
            return Err(Error::new(
                SqlState::INDETERMINATE_DATATYPE,
                "cannot determine type of empty array",
            )
            .hint("Explicitly cast to the desired type, for example ARRAY[]::integer[]."));
        }
        let element = common_type(bound.iter().map(|b| &b.ty), "ARRAY")?;
        self.make_array(bound, element)
    }

    fn make_array(&mut self, items: Vec<Typed>, element: SqlType) -> Result<Typed> {
        let mut arguments = Vec::with_capacity(items.len());
        for item in items {
            arguments.push(self.coerce_exactly(item, &element)?);
        }
        let ty = match element {
            nested @ SqlType::Array(_) => nested,
            element => SqlType::Array(Box::new(element)),
        };
        let constants: Option<Vec<Datum>> = arguments
            .iter()
            .map(|a| super::binder::constant(&Typed::new(a.clone(), ty.element_type()?)))
            .collect();
        if let (Some(elements), Some(element)) = (constants, ty.element_type())
            && !elements.iter().any(|e| matches!(e, Datum::Array(_)))
        {
            let value = Datum::Array(Arc::new(types::Array::from_elements(element, elements)));
            return Ok(Typed::new(literal(&value, &ty)?, ty));
        }
        let function = super::comparisons::array_constructor();
        let types = vec![ty.element_type().unwrap_or(SqlType::Text); arguments.len()];
        let call = super::functions::FunctionUdf::new(Arc::new(function), types, ty.clone());
        Ok(Typed::new(call.call(arguments), ty))
    }

    fn access(
        &mut self,
        root: &ast::Expr,
        chain: &[ast::AccessExpr],
        site: &Site<'_>,
    ) -> Result<Typed> {
        let mut names = Vec::new();
        let mut steps = chain.iter().peekable();
        if let ast::Expr::Identifier(identifier) = root {
            names.push(identifier.clone());
            while let Some(ast::AccessExpr::Dot(ast::Expr::Identifier(part))) = steps.peek() {
                names.push(part.clone());
                steps.next();
            }
        }
        let mut value = match names.as_slice() {
            [] => self.expr(root, site)?,
            [one] => self.column(&fold(one), site)?,
            many => self.compound(many, site)?,
        };
        for step in steps {
            value = match step {
                ast::AccessExpr::Subscript(ast::Subscript::Index { index }) => {
                    let index = self.expr(index, site)?;
                    if matches!(value.ty, SqlType::Jsonb) {
                        self.operator("->", value, index)?
                    } else {
                        self.subscript(value, index)?
                    }
                }
                ast::AccessExpr::Subscript(_) => {
                    return Err(Error::unsupported("array slice"));
                }
                ast::AccessExpr::Dot(_) => {
                    return Err(Error::unsupported("field of a composite value"));
                }
            };
        }
        Ok(value)
    }

    fn subscript(&mut self, value: Typed, index: Typed) -> Result<Typed> {
        let Some(element) = value.ty.element_type() else {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "cannot subscript type {} because it does not support subscripting",
                    value.ty.bare_name()
                ),
            ));
        };
        let index = self.implicit(index, &SqlType::Int4, |_| {
            Error::new(
                SqlState::DATATYPE_MISMATCH,
                "array subscript must have type integer",
            )
        })?;
        let call = super::functions::FunctionUdf::new(
            Arc::new(super::comparisons::subscript()),
            vec![value.ty, SqlType::Int4],
            element.clone(),
        );
        Ok(Typed::new(call.call(vec![value.expr, index.expr]), element))
    }
}

/// Whether an item of an IN list is longer than the `char(n)` it is compared with.
fn too_long(common: &SqlType, items: &[Typed]) -> bool {
    let SqlType::Char(n) = common else {
        return false;
    };
    items
        .iter()
        .any(|item| match super::binder::constant(item) {
            Some(Datum::Text(text)) => text.trim_end_matches(' ').chars().count() > *n as usize,
            Some(_) => false,
            None => true,
        })
}

/// A query as the subquery of an expression.
pub(crate) fn subquery_of(plan: datafusion::logical_expr::LogicalPlan) -> Subquery {
    let outer_ref_columns = plan.all_out_ref_exprs();
    Subquery {
        subquery: Arc::new(plan),
        outer_ref_columns,
        spans: Default::default(),
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

/// Types whose Arrow comparison is SQL's.
pub(crate) fn plain_comparison(ty: &SqlType) -> bool {
    !matches!(
        ty,
        SqlType::Interval | SqlType::Jsonb | SqlType::Json | SqlType::Record | SqlType::Void
    ) && !ty.is_array()
}

/// The type in which two types are compared, if they can be.
pub(crate) fn comparison_type(left: &SqlType, right: &SqlType) -> Option<SqlType> {
    use SqlType as T;
    let comparable = |t: &SqlType| t.is_orderable();
    let common = match (left, right) {
        (T::Unknown, T::Unknown) => T::Text,
        (T::Unknown, known) | (known, T::Unknown) => match known {
            T::Varchar(_) => T::Text,
            T::Numeric(_) => T::Numeric(None),
            other => other.without_typmod(),
        },
        (T::Numeric(_), T::Numeric(_)) => super::coerce::wider_numeric(left, right),
        _ if left.same_base(right) => match left {
            T::Varchar(_) => T::Text,
            other => other.without_typmod(),
        },
        // Mixed floats and exact numbers compare as float8.
        _ if left.is_numeric() && right.is_numeric() => {
            if left.is_float() || right.is_float() {
                T::Float8
            } else if left.is_integer() && right.is_integer() {
                if can_cast(left, right, CastContext::Implicit) {
                    right.clone()
                } else {
                    left.clone()
                }
            } else {
                super::coerce::wider_numeric(left, right)
            }
        }
        (T::Char(_), T::Varchar(_) | T::Text) | (T::Varchar(_) | T::Text, T::Char(_)) => T::Text,
        _ if left.is_string() && right.is_string() => T::Text,
        _ if left.is_oid() && (right.is_oid() || right.is_integer()) => {
            if matches!(right, T::Int8) {
                T::Int8
            } else {
                T::Oid
            }
        }
        _ if right.is_oid() && left.is_integer() => {
            if matches!(left, T::Int8) {
                T::Int8
            } else {
                T::Oid
            }
        }
        _ if can_cast(left, right, CastContext::Implicit)
            && left.category() == right.category() =>
        {
            right.without_typmod()
        }
        _ if can_cast(right, left, CastContext::Implicit)
            && left.category() == right.category() =>
        {
            left.without_typmod()
        }
        _ => return None,
    };
    comparable(&common).then_some(common)
}

pub(crate) fn unknown_text(text: &str) -> Typed {
    Typed::new(
        Expr::Literal(ScalarValue::Utf8(Some(text.to_string())), None),
        SqlType::Unknown,
    )
}

pub(crate) fn text_literal(text: &str) -> Typed {
    Typed::new(
        Expr::Literal(ScalarValue::Utf8(Some(text.to_string())), None),
        SqlType::Text,
    )
}

pub(crate) fn string_value(value: &ast::Value) -> Option<&str> {
    match value {
        ast::Value::SingleQuotedString(text)
        | ast::Value::EscapedStringLiteral(text)
        | ast::Value::UnicodeStringLiteral(text)
        | ast::Value::NationalStringLiteral(text) => Some(text),
        ast::Value::DollarQuotedString(quoted) => Some(&quoted.value),
        _ => None,
    }
}

/// A number as PostgreSQL types it: int4, int8, else numeric.
fn number(text: &str) -> Result<Typed> {
    let text: String = text.chars().filter(|c| *c != '_').collect();
    if text.bytes().all(|b| b.is_ascii_digit()) {
        if let Ok(v) = text.parse::<i32>() {
            return Ok(Typed::new(
                literal(&Datum::Int4(v), &SqlType::Int4)?,
                SqlType::Int4,
            ));
        }
        if let Ok(v) = text.parse::<i64>() {
            return Ok(Typed::new(
                literal(&Datum::Int8(v), &SqlType::Int8)?,
                SqlType::Int8,
            ));
        }
    }
    let value = Numeric::parse(&text)
        .ok_or_else(|| Error::syntax(format!("syntax error at or near \"{text}\"")))?;
    let ty = numeric_literal_type(&value).unwrap_or(SqlType::Numeric(None));
    Ok(Typed::new(literal(&Datum::Numeric(value), &ty)?, ty))
}
