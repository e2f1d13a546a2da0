//! Binding of function calls: special forms, registry functions, aggregates and window functions.

use super::binder::{Binder, constant};
use super::coerce::{CastContext, can_cast, numeric_of, numeric_shape};
use super::expressions::Site;
use super::functions::FunctionUdf;
use super::names::object_name;
use super::overload::{choose, undefined_function};
use super::scope::Typed;
use crate::cluster::actions::Action;
use crate::functions::ScalarFunction;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::Sort;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use sqlparser::ast;
use std::sync::Arc;
use types::extract::Field;
use types::{Datum, Error, Result, SqlState, SqlType};

/// The arguments of a call, as far as all kinds of functions share them.
pub(crate) struct CallParts<'a> {
    /// Empty: none was written.
    pub schema: String,
    pub name: String,
    pub arguments: Vec<&'a ast::Expr>,
    pub star: bool,
    pub distinct: bool,
    pub order_by: &'a [ast::OrderByExpr],
}

fn parts<'a>(function: &'a ast::Function) -> Result<CallParts<'a>> {
    let mut names = object_name(&function.name);
    let name = names.pop().unwrap_or_default();
    if let Some(schema) = names.first()
        && schema != "pg_catalog"
        && schema != "phantom"
        && schema != "information_schema"
    {
        return Err(Error::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("function {}.{name} does not exist", names.join(".")),
        ));
    }
    let mut found = CallParts {
        schema: names.pop().unwrap_or_default(),
        name,
        arguments: Vec::new(),
        star: false,
        distinct: false,
        order_by: &[],
    };
    match &function.args {
        ast::FunctionArguments::None => {}
        ast::FunctionArguments::Subquery(_) => {
            return Err(Error::unsupported(
                "a subquery as all arguments of a function",
            ));
        }
        ast::FunctionArguments::List(list) => {
            found.distinct = matches!(
                list.duplicate_treatment,
                Some(ast::DuplicateTreatment::Distinct)
            );
            for argument in &list.args {
                match argument {
                    ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => {
                        found.arguments.push(expr);
                    }
                    ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Wildcard) => found.star = true,
                    ast::FunctionArg::Unnamed(_) => {
                        return Err(Error::unsupported("a whole row as an argument"));
                    }
                    _ => return Err(Error::unsupported("named arguments")),
                }
            }
            if found.distinct && found.star {
                return Err(Error::syntax("syntax error at or near \"*\""));
            }
            for clause in &list.clauses {
                match clause {
                    ast::FunctionArgumentClause::OrderBy(order) => found.order_by = order,
                    other => return Err(Error::unsupported(format!("{other} in a call"))),
                }
            }
        }
    }
    Ok(found)
}

impl Binder<'_> {
    pub fn function(&mut self, function: &ast::Function, site: &Site<'_>) -> Result<Typed> {
        if let ast::FunctionArguments::Subquery(query) = &function.args
            && object_name(&function.name).last().map(String::as_str) == Some("array")
        {
            return self.array_subquery(query, site);
        }
        let call = parts(function)?;
        if function.over.is_some() {
            return self.window_call(function, &call, site);
        }
        if self.is_aggregate(&call.name) {
            return self.aggregate_call(function, &call, site);
        }
        if super::windows::is_window_only(&call.name) {
            return Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("window function {} requires an OVER clause", call.name),
            ));
        }
        if call.distinct || function.filter.is_some() || !call.order_by.is_empty() {
            let what = if call.distinct {
                "DISTINCT"
            } else if function.filter.is_some() {
                "FILTER"
            } else {
                "ORDER BY"
            };
            return Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!(
                    "{what} specified, but {} is not an aggregate function",
                    call.name
                ),
            ));
        }
        let mut arguments = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            arguments.push(self.expr(argument, site)?);
        }
        if super::set_functions::is_set_returning(&call.name) {
            return self.set_returning(&call.name, arguments, site);
        }
        if let Some(action) = Action::named(&call.schema, &call.name) {
            return self.action(action, arguments);
        }
        self.special_or_call(&call.name, arguments)
    }

    /// Forms that look like functions and have rules of their own, then ordinary functions.
    fn special_or_call(&mut self, name: &str, arguments: Vec<Typed>) -> Result<Typed> {
        match name {
            "pg_sleep" if arguments.len() == 1 => {
                self.saw_volatility(crate::functions::Volatility::Volatile);
                let mut seconds = arguments;
                let seconds = seconds.remove(0);
                let seconds = self.implicit(seconds, &SqlType::Float8, |found| {
                    undefined_function(name, std::slice::from_ref(found))
                })?;
                let call = super::sleep::sleep(seconds.expr);
                Ok(Typed::new(call, SqlType::Void))
            }
            "coalesce" if !arguments.is_empty() => {
                let bound = self.coalesce(arguments, "COALESCE")?;
                let ty = bound[0].ty.clone();
                let mut branches: Vec<Expr> = bound.into_iter().map(|b| b.expr).collect();
                let last = branches.pop();
                if branches.is_empty() {
                    return match last {
                        Some(only) => Ok(Typed::new(only, ty)),
                        None => Err(Error::internal("COALESCE of nothing")),
                    };
                }
                let whens = branches
                    .into_iter()
                    .map(|b| (Box::new(Expr::IsNotNull(Box::new(b.clone()))), Box::new(b)))
                    .collect();
                let case =
                    datafusion::logical_expr::expr::Case::new(None, whens, last.map(Box::new));
                Ok(Typed::new(Expr::Case(case), ty))
            }
            "nullif" if arguments.len() == 2 => {
                let [left, right]: [Typed; 2] = arguments
                    .try_into()
                    .map_err(|_| Error::internal("NULLIF without two arguments"))?;
                let left = self.settle(left)?;
                let equal = self.compare(left.clone(), Operator::Eq, right)?;
                let null = Expr::Literal(crate::arrow_bridge::null_scalar(&left.ty), None);
                let case = datafusion::logical_expr::expr::Case::new(
                    None,
                    vec![(Box::new(equal.expr), Box::new(null))],
                    Some(Box::new(left.expr)),
                );
                Ok(Typed::new(Expr::Case(case), left.ty))
            }
            "greatest" | "least" if !arguments.is_empty() => {
                let greatest = name == "greatest";
                let bound =
                    self.coalesce(arguments, if greatest { "GREATEST" } else { "LEAST" })?;
                let ty = bound[0].ty.clone();
                let function = super::comparisons::extreme(greatest);
                let types = vec![ty.clone(); bound.len()];
                let call = FunctionUdf::new(Arc::new(function), types, ty.clone());
                let arguments = bound.into_iter().map(|b| b.expr).collect();
                Ok(Typed::new(call.call(arguments), ty))
            }
            // Only here is the declared type known.
            "pg_typeof" if arguments.len() == 1 => {
                let argument = &arguments[0];
                let oid = Datum::Oid(argument.ty.oid());
                let named = super::binder::literal(&oid, &SqlType::Regtype)?;
                // An aggregate still makes the query a grouped one.
                let expr = if counts_rows(&argument.expr) {
                    let types = vec![SqlType::Regtype, argument.ty.clone()];
                    let function = Arc::new(super::comparisons::first_argument());
                    FunctionUdf::new(function, types, SqlType::Regtype)
                        .call(vec![named, argument.expr.clone()])
                } else {
                    named
                };
                Ok(Typed::new(expr, SqlType::Regtype))
            }
            _ => self.call(name, arguments),
        }
    }

    /// A function of the registry.
    pub fn call(&mut self, name: &str, arguments: Vec<Typed>) -> Result<Typed> {
        let registry = self.planner.registry.clone();
        let types: Vec<SqlType> = arguments.iter().map(|a| a.ty.clone()).collect();
        let overloads = registry.overloads(name);
        // `int8(x)`, `text(x)`: a type's name called as a function is a cast.
        if overloads.is_empty()
            && let [argument] = arguments.as_slice()
            && let Ok(to) = SqlType::from_internal_name(name)
            && can_cast(&argument.ty, &to, CastContext::Explicit)
        {
            return self.coerce(argument.clone(), &to, true);
        }
        let chosen =
            choose(overloads, &types, false)?.ok_or_else(|| undefined_function(name, &types))?;
        let returns = match &chosen.returns {
            SqlType::Numeric(None) => rounded_type(name, &chosen.arguments, &arguments),
            other => other.clone(),
        };
        self.invoke(
            chosen.function,
            chosen.arguments.clone(),
            returns,
            arguments,
        )
    }

    /// The call of one overload, with its arguments converted.
    pub fn invoke(
        &mut self,
        function: &ScalarFunction,
        types: Vec<SqlType>,
        returns: SqlType,
        arguments: Vec<Typed>,
    ) -> Result<Typed> {
        self.saw_volatility(function.volatility);
        let (bound, bound_types) = self.arguments(arguments, types)?;
        let call = FunctionUdf::new(Arc::new(function.clone()), bound_types, returns.clone());
        Ok(Typed::new(call.call(bound), returns))
    }

    /// Arguments brought to the types that a chosen overload wants, and those types as they came out.
    pub(super) fn arguments(
        &mut self,
        arguments: Vec<Typed>,
        types: Vec<SqlType>,
    ) -> Result<(Vec<Expr>, Vec<SqlType>)> {
        let mut bound = Vec::with_capacity(arguments.len());
        let mut bound_types = Vec::with_capacity(arguments.len());
        for (argument, ty) in arguments.into_iter().zip(types) {
            let typed = self.coerce(argument, &ty, false)?;
            bound_types.push(typed.ty.clone());
            bound.push(typed.expr);
        }
        Ok((bound, bound_types))
    }

    fn array_subquery(&mut self, query: &ast::Query, site: &Site<'_>) -> Result<Typed> {
        let bound = self.expression_query(query, site.scope)?;
        let bound = self.settle_unknowns(bound)?;
        let [column] = bound.columns.as_slice() else {
            return Err(Error::syntax("subquery must return only one column"));
        };
        let ty = SqlType::Array(Box::new(column.ty.clone()));
        let value = Expr::Column(datafusion::common::Column::new_unqualified(
            &column.internal,
        ));
        let (input, order) = into_ordered(bound.plan);
        let aggregate = super::aggregates::array_agg(value, order);
        let plan = datafusion::logical_expr::LogicalPlanBuilder::from(input)
            .aggregate(Vec::<Expr>::new(), vec![aggregate])
            .and_then(|b| b.build())
            .map_err(super::errors::from_datafusion)?;
        let subquery = super::quantified::subquery_of(plan);
        // No rows make an empty array, where array_agg gives NULL.
        let empty = Datum::Array(Arc::new(types::Array::from_elements(
            column.ty.clone(),
            Vec::new(),
        )));
        let scalar = Expr::ScalarSubquery(subquery);
        let case = datafusion::logical_expr::expr::Case::new(
            None,
            vec![(
                Box::new(Expr::IsNotNull(Box::new(scalar.clone()))),
                Box::new(scalar),
            )],
            Some(Box::new(super::binder::literal(&empty, &ty)?)),
        );
        Ok(Typed::new(Expr::Case(case), ty))
    }
}

/// Whether an aggregate or a window function stands in an expression.
fn counts_rows(expr: &Expr) -> bool {
    let counts = |e: &Expr| matches!(e, Expr::AggregateFunction(_) | Expr::WindowFunction(_));
    expr.exists(|e| Ok(counts(e))).unwrap_or(false)
}

/// A query without its last ORDER BY, and that: an aggregate above must say itself which order it
/// needs.
fn into_ordered(plan: LogicalPlan) -> (LogicalPlan, Vec<Sort>) {
    let sort = match &plan {
        LogicalPlan::Sort(sort) => sort,
        // The projection takes hidden sort keys away.
        LogicalPlan::Projection(projection)
            if projection.expr.iter().all(|e| matches!(e, Expr::Column(_))) =>
        {
            match projection.input.as_ref() {
                LogicalPlan::Sort(sort) => sort,
                _ => return (plan, Vec::new()),
            }
        }
        _ => return (plan, Vec::new()),
    };
    if sort.fetch.is_some() {
        return (plan, Vec::new());
    }
    (sort.input.as_ref().clone(), sort.expr.clone())
}

/// Digits of the largest year.
const EXTRACTED_DIGITS: i32 = 7;

/// The bounds of a numeric function's result where they follow from its arguments.
fn rounded_type(name: &str, types: &[SqlType], arguments: &[Typed]) -> SqlType {
    if name == "extract" {
        return extracted_type(types, arguments);
    }
    let Some((precision, scale)) = types.first().and_then(numeric_shape) else {
        return SqlType::Numeric(None);
    };
    let digits = match (name, arguments) {
        ("abs", _) => return numeric_of(precision, scale),
        ("round" | "trunc", [_]) | ("ceil" | "ceiling" | "floor", _) => 0,
        ("round" | "trunc", [_, digits]) => match constant(digits) {
            Some(Datum::Int4(n)) if n >= 0 => n,
            _ => return SqlType::Numeric(None),
        },
        _ => return SqlType::Numeric(None),
    };
    numeric_of(precision - scale + 1 + digits, digits)
}

/// `extract(year from …)` and its like are integers, whose decimals are fast to group by.
fn extracted_type(types: &[SqlType], arguments: &[Typed]) -> SqlType {
    let field = match arguments.first().and_then(constant) {
        Some(Datum::Text(name)) => Field::parse(&name),
        _ => None,
    };
    let of_date = matches!(
        types.get(1),
        Some(SqlType::Date | SqlType::Timestamp | SqlType::TimestampTz)
    );
    match field {
        Some(
            Field::Year | Field::Month | Field::Day | Field::Hour | Field::Minute | Field::Quarter,
        ) if of_date => numeric_of(EXTRACTED_DIGITS, 0),
        _ => SqlType::Numeric(None),
    }
}
