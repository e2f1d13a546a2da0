//! The binder: from syntax to a typed plan.
//!
//! It works bottom-up, as PostgreSQL's parse analysis does: every expression gets its SQL type when it
//! is bound, unknown literals and parameters take theirs from the context at once, and each operator
//! or function call is resolved to one overload with explicit conversions around its arguments. What
//! comes out needs no further coercion, so the direct road can compile it as it stands.

use super::casts::{cast_expr, format_context};
use super::coerce::{CastContext, can_cast};
use super::planner::{Locking, Planner};
use super::scope::{Scope, Typed};
use crate::arrow_bridge::{field, null_scalar, scalar_value};
use crate::catalog::descriptor::ObjectId;
use crate::cluster::actions::Action;
use crate::functions::Volatility;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;
use sqlparser::ast;
use std::collections::BTreeSet;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlState, SqlType};

/// Nesting of expressions and queries that analysis follows, in levels. Analysis of one level takes
/// a few kilobytes of stack, and worker threads have two megabytes.
const MAX_NESTING: usize = 160;
/// The highest parameter number, as in the wire protocol.
const MAX_PARAMETERS: usize = 65535;

/// A query's plan and the columns it shows.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub plan: LogicalPlan,
    pub columns: Vec<OutputColumn>,
}

#[derive(Clone, Debug)]
pub(crate) struct OutputColumn {
    /// As shown to the client; may repeat.
    pub name: String,
    /// In the plan; unique and unqualified.
    pub internal: String,
    pub ty: SqlType,
    /// The type's modifier was declared, not derived.
    pub declared_modifier: bool,
    pub table: u32,
    pub attribute: i16,
}

impl OutputColumn {
    /// The type without modifiers that only bound a computed value.
    pub fn shown_type(&self) -> SqlType {
        match &self.ty {
            SqlType::Numeric(Some(_)) if !self.declared_modifier => SqlType::Numeric(None),
            other => other.clone(),
        }
    }
}

/// A WITH query in reach.
#[derive(Clone)]
pub(crate) struct CommonTable {
    pub name: String,
    pub bound: Bound,
}

pub(crate) struct Binder<'p> {
    pub planner: &'p Planner<'p>,
    parameters: Vec<Option<SqlType>>,
    tables: Vec<(ObjectId, u64)>,
    pub volatility: Volatility,
    pub locking: Vec<Locking>,
    qualifiers: BTreeSet<String>,
    pub common_tables: Vec<CommonTable>,
    /// WINDOW clauses of the queries around, innermost last.
    pub windows: Vec<ast::NamedWindowDefinition>,
    /// The query being bound is a subquery of an expression: its outputs get names that no column
    /// has, because DataFusion mixes them with columns when it turns the subquery into a join.
    pub unique_outputs: bool,
    /// A function that acts on the cluster is called.
    pub acts: Option<&'static Action>,
    depth: usize,
}

pub(crate) struct Parts {
    pub parameter_types: Vec<SqlType>,
    pub tables: Vec<(ObjectId, u64)>,
    pub volatility: Volatility,
    pub locking: Vec<Locking>,
    pub acts: Option<&'static Action>,
}

impl<'p> Binder<'p> {
    pub fn new(planner: &'p Planner<'p>, parameters: Vec<Option<SqlType>>) -> Self {
        Binder {
            planner,
            parameters,
            tables: Vec::new(),
            volatility: Volatility::Immutable,
            locking: Vec::new(),
            qualifiers: BTreeSet::new(),
            common_tables: Vec::new(),
            windows: Vec::new(),
            unique_outputs: false,
            acts: None,
            depth: 0,
        }
    }

    /// What was found along the way. Parameters whose type nothing decided are text.
    pub fn finish(self) -> Parts {
        Parts {
            parameter_types: self
                .parameters
                .into_iter()
                .map(|t| t.unwrap_or(SqlType::Text))
                .collect(),
            tables: self.tables,
            volatility: self.volatility,
            locking: self.locking,
            acts: self.acts,
        }
    }

    pub fn into_declared(self) -> Vec<Option<SqlType>> {
        self.parameters
    }

    /// An expression outside a query, brought to `target` if that is allowed.
    pub fn scalar(
        &mut self,
        expr: &ast::Expr,
        scope: &Scope<'_>,
        target: Option<(&SqlType, CastContext)>,
    ) -> Result<Typed> {
        let typed = self.expr(
            expr,
            &super::expressions::Site::plain(scope, "this expression"),
        )?;
        match target {
            Some((to, context)) => {
                if typed.is_unknown() || can_cast(&typed.ty, to, context) {
                    self.coerce(typed, to, context == CastContext::Explicit)
                } else {
                    Ok(typed)
                }
            }
            None => self.settle(typed),
        }
    }

    /// Runs `step` one level deeper; 54001 when a statement nests too far.
    pub fn deeper<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_NESTING {
            return Err(Error::new(
                SqlState::STATEMENT_TOO_COMPLEX,
                "stack depth limit exceeded",
            )
            .hint("Expressions and subqueries are nested too deeply."));
        }
        self.depth += 1;
        let result = step(self);
        self.depth -= 1;
        result
    }

    /// A subquery of an expression.
    pub fn expression_query(&mut self, query: &ast::Query, scope: &Scope<'_>) -> Result<Bound> {
        let outside = std::mem::replace(&mut self.unique_outputs, true);
        let bound = self.deeper(|binder| binder.query(query, Some(scope)));
        self.unique_outputs = outside;
        bound
    }

    /// A relation name that no other relation of the statement has.
    pub fn qualifier(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_string();
        let mut suffix = 1;
        while !self.qualifiers.insert(name.clone()) {
            suffix += 1;
            name = format!("{wanted}#{suffix}");
        }
        name
    }

    pub fn depends_on(&mut self, oid: ObjectId, version: u64) {
        if !self.tables.iter().any(|(known, _)| *known == oid) {
            self.tables.push((oid, version));
        }
    }

    pub fn saw_volatility(&mut self, volatility: Volatility) {
        self.volatility = match (self.volatility, volatility) {
            (Volatility::Volatile, _) | (_, Volatility::Volatile) => Volatility::Volatile,
            (Volatility::Stable, _) | (_, Volatility::Stable) => Volatility::Stable,
            _ => Volatility::Immutable,
        };
    }

    // ---- parameters and literals ------------------------------------------------------------

    /// `$n` with its type as far as it is known.
    pub fn parameter(&mut self, text: &str) -> Result<Typed> {
        let number = text
            .strip_prefix('$')
            .and_then(|n| n.parse::<usize>().ok())
            .filter(|n| (1..=MAX_PARAMETERS).contains(n))
            .ok_or_else(|| {
                Error::new(
                    SqlState::UNDEFINED_PARAMETER,
                    format!("there is no parameter {text}"),
                )
            })?;
        if self.parameters.len() < number {
            self.parameters.resize(number, None);
        }
        let ty = match &self.parameters[number - 1] {
            Some(SqlType::Unknown) | None => SqlType::Unknown,
            Some(known) => known.clone(),
        };
        Ok(placeholder(number, ty))
    }

    /// The value converted to `to`, which the caller has found to be allowed. Unknown literals are
    /// read as `to`, with PostgreSQL's error if they do not look like one.
    pub fn coerce(&mut self, typed: Typed, to: &SqlType, explicit: bool) -> Result<Typed> {
        if !typed.is_unknown() {
            if matches!(to, SqlType::Numeric(None)) {
                // An unconstrained numeric keeps the scale of what it is made from.
                if let Some((precision, scale)) = super::coerce::numeric_shape(&typed.ty) {
                    let kept = super::coerce::numeric_of(precision, scale);
                    let expr = cast_expr(typed.expr, &typed.ty, &kept, explicit);
                    return Ok(Typed::new(expr, kept));
                }
            }
            if to.is_oid() || typed.ty.is_oid() {
                self.saw_volatility(Volatility::Stable);
            }
            let expr = match constant(&typed) {
                Some(value) if !reads_settings(&typed.ty, to) => {
                    match self.constant_cast(value, &typed.ty, to, explicit) {
                        Some(expr) => expr,
                        None => cast_expr(typed.expr, &typed.ty, to, explicit),
                    }
                }
                _ => cast_expr(typed.expr, &typed.ty, to, explicit),
            };
            return Ok(Typed::new(expr, to.clone()));
        }
        match &typed.expr {
            Expr::Placeholder(p) => {
                let number: usize =
                    p.id.trim_start_matches('$')
                        .parse()
                        .map_err(|_| Error::internal(format!("a parameter called {}", p.id)))?;
                match self.parameters.get(number - 1) {
                    Some(Some(known)) if *known != SqlType::Unknown => {
                        let known = placeholder(number, known.clone());
                        self.coerce(known, to, explicit)
                    }
                    _ => {
                        let base = to.without_typmod();
                        self.parameters[number - 1] = Some(base.clone());
                        let typed = placeholder(number, base);
                        if typed.ty == *to {
                            Ok(typed)
                        } else {
                            let expr = cast_expr(typed.expr, &typed.ty, to, explicit);
                            Ok(Typed::new(expr, to.clone()))
                        }
                    }
                }
            }
            Expr::Literal(scalar, _) => {
                let text = match scalar {
                    ScalarValue::Utf8(Some(text)) => text,
                    _ => {
                        return Ok(Typed::new(Expr::Literal(null_scalar(to), None), to.clone()));
                    }
                };
                let (value, to) = self.read_literal(text, to, explicit)?;
                Ok(Typed::new(literal(&value, &to)?, to))
            }
            // A column of unknown type, from a subquery's literal.
            _ => {
                let expr = cast_expr(typed.expr, &SqlType::Text, to, explicit);
                Ok(Typed::new(expr, to.clone()))
            }
        }
    }

    /// A string literal as a value of `to`; a numeric literal brings its own scale.
    fn read_literal(
        &mut self,
        text: &str,
        to: &SqlType,
        explicit: bool,
    ) -> Result<(Datum, SqlType)> {
        let settings = self.planner.settings;
        if to.is_oid() && *to != SqlType::Oid {
            let value = super::object_names::parse(text, to, self.planner.catalog, settings)?;
            return Ok((value, to.clone()));
        }
        let format = format_context(settings);
        let base = to.without_typmod();
        let value = Datum::parse_text(text, &base, &format)?;
        let value = if *to == base {
            value
        } else {
            let context = if explicit {
                CastContext::Explicit
            } else {
                CastContext::Assignment
            };
            types::cast::cast(value, &base, to, context, &format)?
        };
        if let (Datum::Numeric(number), SqlType::Numeric(None)) = (&value, to)
            && let Some(own) = numeric_literal_type(number)
        {
            return Ok((value, own));
        }
        Ok((value, to.clone()))
    }

    /// A constant converted at once; `None` leaves a failing conversion to the statement's run.
    fn constant_cast(
        &self,
        value: Datum,
        from: &SqlType,
        to: &SqlType,
        explicit: bool,
    ) -> Option<Expr> {
        let context = if explicit {
            CastContext::Explicit
        } else {
            CastContext::Assignment
        };
        let format = format_context(self.planner.settings);
        let value = types::cast::cast(value, from, to, context, &format).ok()?;
        literal(&value, to).ok()
    }

    /// What is still unknown becomes text.
    pub fn settle(&mut self, typed: Typed) -> Result<Typed> {
        if typed.is_unknown() {
            self.coerce(typed, &SqlType::Text, false)
        } else {
            Ok(typed)
        }
    }

    /// Converts where an implicit conversion is allowed; else the error that `mismatch` words.
    pub fn implicit(
        &mut self,
        typed: Typed,
        to: &SqlType,
        mismatch: impl FnOnce(&SqlType) -> Error,
    ) -> Result<Typed> {
        if can_cast(&typed.ty, to, CastContext::Implicit) {
            self.coerce(typed, to, false)
        } else {
            Err(mismatch(&typed.ty))
        }
    }
}

pub(crate) fn placeholder(number: usize, ty: SqlType) -> Typed {
    let id = format!("${number}");
    let known = (!matches!(ty, SqlType::Unknown)).then(|| Arc::new(field(&id, &ty, true)));
    Typed::new(
        Expr::Placeholder(Placeholder::new_with_field(id, known)),
        ty,
    )
}

pub(crate) fn literal(value: &Datum, ty: &SqlType) -> Result<Expr> {
    Ok(Expr::Literal(scalar_value(value, ty)?, None))
}

/// The value of a typed literal.
pub(crate) fn constant(typed: &Typed) -> Option<Datum> {
    match &typed.expr {
        Expr::Literal(scalar, _) => crate::arrow_bridge::datum_from_scalar(scalar, &typed.ty).ok(),
        _ => None,
    }
}

/// Whether the conversion depends on more than the value.
fn reads_settings(from: &SqlType, to: &SqlType) -> bool {
    let stable = |t: &SqlType| matches!(t, SqlType::TimestampTz) || t.is_oid() || t.is_array();
    stable(from) || stable(to) || (from.is_string() && to.is_datetime())
}

/// A numeric constant's own precision and scale.
pub(crate) fn numeric_literal_type(number: &types::Numeric) -> Option<SqlType> {
    let (mantissa, scale) = number.to_bigint_parts()?;
    let digits = mantissa.magnitude().to_string().len() as i32;
    let scale = i32::from(scale);
    match super::coerce::numeric_of(digits.max(scale), scale) {
        SqlType::Numeric(None) => None,
        bounded => Some(bounded),
    }
}

/// Unwraps parentheses.
pub(crate) fn unnested(mut expr: &ast::Expr) -> &ast::Expr {
    while let ast::Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}
