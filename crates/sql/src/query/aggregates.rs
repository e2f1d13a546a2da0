//! Binding of aggregate calls, plain and over a window.

use super::aggregate_types::{AGGREGATES, Resolved, resolve};
use super::binder::Binder;
use super::calls::CallParts;
use super::casts::cast_expr;
use super::expressions::Site;
use super::overload::undefined_function;
use super::scope::Typed;
use super::windows::Window;
use datafusion::functions_aggregate as df;
use datafusion::logical_expr::expr::{
    AggregateFunction, Sort, WindowFunction, WindowFunctionParams,
};
use datafusion::logical_expr::{AggregateUDF, Expr, WindowFunctionDefinition};
use datafusion::scalar::ScalarValue;
use sqlparser::ast;
use std::sync::Arc;
use types::{Error, Result, SqlState, SqlType};

/// How the pieces of an aggregate call become an expression: plain, or over a window.
pub(crate) enum Form<'a> {
    Plain,
    Window(&'a Window),
}

impl Binder<'_> {
    pub fn is_aggregate(&self, name: &str) -> bool {
        AGGREGATES.contains(&name) || crate::functions::aggregates::is_own(name)
    }

    pub fn aggregate_call(
        &mut self,
        function: &ast::Function,
        call: &CallParts<'_>,
        site: &Site<'_>,
    ) -> Result<Typed> {
        if !site.aggregates {
            return Err(Error::new(
                SqlState::GROUPING_ERROR,
                match site.clause {
                    "aggregate" => "aggregate function calls cannot be nested".to_string(),
                    clause => format!("aggregate functions are not allowed in {clause}"),
                },
            ));
        }
        self.aggregate_in(function, call, site, &Form::Plain)
    }

    pub fn aggregate_in(
        &mut self,
        function: &ast::Function,
        call: &CallParts<'_>,
        site: &Site<'_>,
        form: &Form<'_>,
    ) -> Result<Typed> {
        let ordered_set = crate::functions::aggregates::is_ordered_set(&call.name);
        if ordered_set == function.within_group.is_empty() {
            return Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                if ordered_set {
                    format!(
                        "WITHIN GROUP is required for ordered-set aggregate {}",
                        call.name
                    )
                } else {
                    format!(
                        "{} is not an ordered-set aggregate, so it cannot have WITHIN GROUP",
                        call.name
                    )
                },
            ));
        }
        // Inside a plain aggregate no other may stand; inside a windowed one it may.
        let inner = match form {
            Form::Plain => Site {
                clause: "aggregate",
                aggregates: false,
                windows: false,
                sets: false,
                ..*site
            },
            Form::Window(_) => Site {
                windows: false,
                sets: false,
                ..*site
            },
        };
        let filter = match &function.filter {
            Some(filter) => {
                Some(self.condition(filter, &Site::plain(site.scope, "FILTER"), "FILTER")?)
            }
            None => None,
        };
        let mut arguments = Vec::new();
        for argument in &call.arguments {
            arguments.push(self.expr(argument, &inner)?);
        }
        for item in &function.within_group {
            arguments.push(self.expr(&item.expr, &inner)?);
        }
        let order_by = if ordered_set {
            self.sort_list(&function.within_group, &inner)?
        } else {
            self.sort_list(call.order_by, &inner)?
        };
        // Some arguments are first brought to another form.
        let preparation = crate::functions::aggregates::preparation(&call.name);
        if preparation.len() == arguments.len() {
            for (argument, function) in arguments.iter_mut().zip(preparation) {
                if let Some(function) = function {
                    *argument = self.call(function, vec![argument.clone()])?;
                }
            }
        }
        if call.star {
            if call.name != "count" || !arguments.is_empty() {
                return Err(undefined_function(&call.name, &[]));
            }
            let one = Expr::Literal(ScalarValue::Int64(Some(1)), None);
            let expr = make(
                df::count::count_udaf(),
                vec![one],
                false,
                filter,
                order_by,
                form,
            )?;
            return Ok(Typed::new(expr, SqlType::Int8));
        }
        if call.name == "count" && arguments.is_empty() {
            return Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                "count(*) must be used to call a parameterless aggregate function",
            ));
        }
        let types: Vec<SqlType> = arguments.iter().map(|a| a.ty.clone()).collect();
        if call.name == "avg"
            && let [
                SqlType::Int2
                | SqlType::Int4
                | SqlType::Int8
                | SqlType::Numeric(_)
                | SqlType::Interval,
            ] = types.as_slice()
        {
            return self.exact_average(arguments, call.distinct, filter, form);
        }
        if let ("sum", false, [argument]) = (call.name.as_str(), call.distinct, &arguments[..])
            && let Some(sum) = self.case_sum(argument, filter.as_ref(), form)?
        {
            return Ok(sum);
        }
        let resolved = resolve(&call.name, &types, call.distinct)?;
        let expr =
            self.aggregate_expr(resolved, arguments, call.distinct, filter, order_by, form)?;
        Ok(expr)
    }

    pub(super) fn aggregate_expr(
        &mut self,
        resolved: Resolved,
        arguments: Vec<Typed>,
        distinct: bool,
        filter: Option<Expr>,
        order_by: Vec<Sort>,
        form: &Form<'_>,
    ) -> Result<Typed> {
        let mut bound = Vec::with_capacity(arguments.len());
        for (argument, ty) in arguments.into_iter().zip(&resolved.arguments) {
            let argument = self.coerce(argument, ty, false)?;
            bound.push(cast_expr(argument.expr, &argument.ty, ty, false));
        }
        let distinct = distinct && !resolved.distinct_within;
        let expr = make(resolved.udaf, bound, distinct, filter, order_by, form)?;
        let expr = if resolved.produces == resolved.returns {
            expr
        } else {
            cast_expr(expr, &resolved.produces, &resolved.returns, false)
        };
        Ok(Typed::new(expr, resolved.returns))
    }

    /// The average of exact numbers and of intervals: `sum / count`, NULL over no rows because the sum is.
    fn exact_average(
        &mut self,
        arguments: Vec<Typed>,
        distinct: bool,
        filter: Option<Expr>,
        form: &Form<'_>,
    ) -> Result<Typed> {
        let argument = arguments
            .first()
            .cloned()
            .ok_or_else(|| Error::internal("avg of nothing"))?;
        let of_case = match distinct {
            true => None,
            false => self.case_sum(&argument, filter.as_ref(), form)?,
        };
        let sum = match of_case {
            Some(sum) => sum,
            None => {
                let sum = resolve("sum", std::slice::from_ref(&argument.ty), distinct)?;
                let (values, filter) = (arguments.clone(), filter.clone());
                self.aggregate_expr(sum, values, distinct, filter, Vec::new(), form)?
            }
        };
        let count = resolve("count", std::slice::from_ref(&argument.ty), distinct)?;
        let count = self.aggregate_expr(count, arguments, distinct, filter, Vec::new(), form)?;
        let divisor = match sum.ty {
            SqlType::Interval => SqlType::Float8,
            _ => SqlType::Numeric(None),
        };
        let sum = match sum.ty {
            SqlType::Interval => sum,
            _ => self.coerce(sum, &divisor, false)?,
        };
        let count = self.coerce(count, &divisor, false)?;
        self.operator("/", sum, count)
    }

    /// ORDER BY inside a call or a window: expressions only.
    pub fn sort_list(&mut self, items: &[ast::OrderByExpr], site: &Site<'_>) -> Result<Vec<Sort>> {
        let mut sorts = Vec::with_capacity(items.len());
        for item in items {
            let typed = self.settled_expr(&item.expr, site)?;
            sorts.push(sort(typed, &item.options)?);
        }
        Ok(sorts)
    }
}

/// NULLs sort as if larger than all else, unless told.
pub(crate) fn sort(typed: Typed, options: &ast::OrderByOptions) -> Result<Sort> {
    if !typed.ty.is_orderable() {
        return Err(Error::new(
            SqlState::UNDEFINED_FUNCTION,
            format!(
                "could not identify an ordering operator for type {}",
                typed.ty.bare_name()
            ),
        )
        .hint("Use an explicit ordering operator or modify the query."));
    }
    let ascending = options.asc.unwrap_or(true);
    Ok(Sort {
        expr: typed.expr,
        asc: ascending,
        nulls_first: options.nulls_first.unwrap_or(!ascending),
    })
}

/// `array_agg(value ORDER BY order)`.
pub(crate) fn array_agg(value: Expr, order: Vec<Sort>) -> Expr {
    aggregate(
        df::array_agg::array_agg_udaf(),
        vec![value],
        false,
        None,
        order,
    )
}

fn aggregate(
    udaf: Arc<AggregateUDF>,
    arguments: Vec<Expr>,
    distinct: bool,
    filter: Option<Expr>,
    order_by: Vec<Sort>,
) -> Expr {
    Expr::AggregateFunction(AggregateFunction::new_udf(
        udaf,
        arguments,
        distinct,
        filter.map(Box::new),
        order_by,
        None,
    ))
}

fn make(
    udaf: Arc<AggregateUDF>,
    arguments: Vec<Expr>,
    distinct: bool,
    filter: Option<Expr>,
    order_by: Vec<Sort>,
    form: &Form<'_>,
) -> Result<Expr> {
    match form {
        Form::Plain => Ok(aggregate(udaf, arguments, distinct, filter, order_by)),
        Form::Window(window) => {
            if !order_by.is_empty() {
                return Err(Error::unsupported(
                    "aggregate ORDER BY is not implemented for window functions",
                ));
            }
            Ok(Expr::WindowFunction(Box::new(WindowFunction {
                fun: WindowFunctionDefinition::AggregateUDF(udaf),
                params: WindowFunctionParams {
                    args: arguments,
                    partition_by: window.partition_by.clone(),
                    order_by: window.order_by.clone(),
                    window_frame: window.frame.clone(),
                    filter: filter.map(Box::new),
                    null_treatment: None,
                    distinct,
                },
            })))
        }
    }
}
