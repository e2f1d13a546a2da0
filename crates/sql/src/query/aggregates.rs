//! Aggregates and window functions: which implementation answers a name, and with which types.
//!
//! Our own aggregates come first, then DataFusion's where the two agree. `sum` and `avg` take their
//! exact types here: integers sum into wider integers and decimals, and an average of exact numbers is
//! a quotient of sum and count, divided with PostgreSQL's precision.

use super::binder::Binder;
use super::calls::CallParts;
use super::casts::cast_expr;
use super::coerce::{numeric_of, numeric_shape};
use super::expressions::{Site, string_value};
use super::names::fold;
use super::overload::undefined_function;
use super::scope::Typed;
use datafusion::functions_aggregate as df;
use datafusion::functions_window as dfw;
use datafusion::logical_expr::expr::{
    AggregateFunction, NullTreatment, Sort, WindowFunction, WindowFunctionParams,
};
use datafusion::logical_expr::{
    AggregateUDF, Expr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
    WindowUDF,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast;
use std::sync::Arc;
use types::{Error, Result, SqlState, SqlType};

/// Digits that a sum may have more than its summands: sums of 10^18 rows.
const SUM_DIGITS: i32 = 18;
/// Digits that DataFusion itself adds for a sum.
const DATAFUSION_SUM_DIGITS: i32 = 10;

/// An aggregate bound to its argument types.
struct Resolved {
    udaf: Arc<AggregateUDF>,
    /// What each argument is converted to.
    arguments: Vec<SqlType>,
    /// What DataFusion's function returns for them.
    produces: SqlType,
    /// What the call returns in SQL.
    returns: SqlType,
}

const AGGREGATES: [&str; 38] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "every",
    "string_agg",
    "array_agg",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "stddev",
    "stddev_samp",
    "stddev_pop",
    "variance",
    "var_samp",
    "var_pop",
    "corr",
    "covar_pop",
    "covar_samp",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "bit_and",
    "bit_or",
    "bit_xor",
    "percentile_cont",
    "percentile_disc",
    "mode",
];

fn window_udf(name: &str) -> Option<Arc<WindowUDF>> {
    Some(match name {
        "row_number" => dfw::row_number::row_number_udwf(),
        "rank" => dfw::rank::rank_udwf(),
        "dense_rank" => dfw::rank::dense_rank_udwf(),
        "percent_rank" => dfw::rank::percent_rank_udwf(),
        "cume_dist" => dfw::cume_dist::cume_dist_udwf(),
        "ntile" => dfw::ntile::ntile_udwf(),
        "lag" => dfw::lead_lag::lag_udwf(),
        "lead" => dfw::lead_lag::lead_udwf(),
        "first_value" => dfw::nth_value::first_value_udwf(),
        "last_value" => dfw::nth_value::last_value_udwf(),
        "nth_value" => dfw::nth_value::nth_value_udwf(),
        _ => return None,
    })
}

pub(crate) fn is_window_only(name: &str) -> bool {
    window_udf(name).is_some()
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

/// Finds the aggregate of this name for these argument types.
fn resolve(name: &str, types: &[SqlType]) -> Result<Resolved> {
    use SqlType as T;
    let missing = || undefined_function(name, types);
    let same = |udaf, ty: &SqlType| Resolved {
        udaf,
        arguments: vec![ty.clone()],
        produces: ty.clone(),
        returns: ty.clone(),
    };
    let float = |udaf, count: usize, exact: bool| Resolved {
        udaf,
        arguments: vec![T::Float8; count],
        produces: T::Float8,
        returns: if exact { T::Numeric(None) } else { T::Float8 },
    };
    if let Some(own) = crate::functions::aggregates::resolve(name, types)? {
        return Ok(Resolved {
            udaf: own.udaf,
            arguments: own.arguments,
            produces: own.returns.clone(),
            returns: own.returns,
        });
    }
    Ok(match (name, types) {
        ("count", _) => Resolved {
            udaf: df::count::count_udaf(),
            arguments: types
                .iter()
                .map(|t| {
                    if matches!(t, T::Unknown) {
                        T::Text
                    } else {
                        t.clone()
                    }
                })
                .collect(),
            produces: T::Int8,
            returns: T::Int8,
        },
        ("sum", [ty]) => match ty {
            T::Int2 | T::Int4 => Resolved {
                udaf: df::sum::sum_udaf(),
                arguments: vec![T::Int8],
                produces: T::Int8,
                returns: T::Int8,
            },
            T::Float4 | T::Float8 => Resolved {
                udaf: df::sum::sum_udaf(),
                arguments: vec![T::Float8],
                produces: T::Float8,
                returns: ty.clone(),
            },
            T::Int8 | T::Numeric(_) => decimal_sum(ty),
            _ => return Err(missing()),
        },
        ("avg", [T::Float4 | T::Float8]) => float(df::average::avg_udaf(), 1, false),
        ("min", [ty]) if super::expressions::plain_comparison(ty) && *ty != T::Bool => {
            same(df::min_max::min_udaf(), &text_if_unknown(ty))
        }
        ("max", [ty]) if super::expressions::plain_comparison(ty) && *ty != T::Bool => {
            same(df::min_max::max_udaf(), &text_if_unknown(ty))
        }
        ("bool_and" | "every", [T::Bool]) => same(df::bool_and_or::bool_and_udaf(), &T::Bool),
        ("bool_or", [T::Bool]) => same(df::bool_and_or::bool_or_udaf(), &T::Bool),
        ("string_agg", [value, _]) if value.is_string() => Resolved {
            udaf: df::string_agg::string_agg_udaf(),
            arguments: vec![T::Text, T::Text],
            produces: T::Json,
            returns: T::Text,
        },
        ("array_agg", [ty]) if !ty.is_array() => {
            let ty = text_if_unknown(ty);
            Resolved {
                udaf: df::array_agg::array_agg_udaf(),
                arguments: vec![ty.clone()],
                produces: T::Array(Box::new(ty.clone())),
                returns: T::Array(Box::new(ty)),
            }
        }
        ("bit_and", [ty]) if ty.is_integer() => same(df::bit_and_or_xor::bit_and_udaf(), ty),
        ("bit_or", [ty]) if ty.is_integer() => same(df::bit_and_or_xor::bit_or_udaf(), ty),
        ("bit_xor", [ty]) if ty.is_integer() => same(df::bit_and_or_xor::bit_xor_udaf(), ty),
        (_, [ty]) if ty.is_numeric() => {
            let exact = !ty.is_float();
            match name {
                "stddev" | "stddev_samp" => float(df::stddev::stddev_udaf(), 1, exact),
                "stddev_pop" => float(df::stddev::stddev_pop_udaf(), 1, exact),
                "variance" | "var_samp" => float(df::variance::var_samp_udaf(), 1, exact),
                "var_pop" => float(df::variance::var_pop_udaf(), 1, exact),
                _ => return Err(missing()),
            }
        }
        (_, [a, b]) if a.is_numeric() && b.is_numeric() => match name {
            "corr" => float(df::correlation::corr_udaf(), 2, false),
            "covar_pop" => float(df::covariance::covar_pop_udaf(), 2, false),
            "covar_samp" => float(df::covariance::covar_samp_udaf(), 2, false),
            "regr_avgx" => float(df::regr::regr_avgx_udaf(), 2, false),
            "regr_avgy" => float(df::regr::regr_avgy_udaf(), 2, false),
            "regr_intercept" => float(df::regr::regr_intercept_udaf(), 2, false),
            "regr_r2" => float(df::regr::regr_r2_udaf(), 2, false),
            "regr_slope" => float(df::regr::regr_slope_udaf(), 2, false),
            "regr_sxx" => float(df::regr::regr_sxx_udaf(), 2, false),
            "regr_sxy" => float(df::regr::regr_sxy_udaf(), 2, false),
            "regr_syy" => float(df::regr::regr_syy_udaf(), 2, false),
            _ => return Err(missing()),
        },
        _ if matches!(
            name,
            "json_agg"
                | "jsonb_agg"
                | "json_object_agg"
                | "jsonb_object_agg"
                | "percentile_cont"
                | "percentile_disc"
                | "mode"
                | "array_agg"
                | "min"
                | "max"
        ) =>
        {
            return Err(Error::unsupported(format!(
                "aggregate {}",
                super::overload::call_text(name, types)
            )));
        }
        _ => return Err(missing()),
    })
}

fn text_if_unknown(ty: &SqlType) -> SqlType {
    match ty {
        SqlType::Unknown | SqlType::Varchar(_) => SqlType::Text,
        other => other.clone(),
    }
}

/// Sums of decimals, in a representation that cannot overflow.
fn decimal_sum(ty: &SqlType) -> Resolved {
    let udaf = df::sum::sum_udaf();
    let narrow = i32::from(crate::arrow_bridge::DECIMAL128_PRECISION);
    let wide = i32::from(crate::arrow_bridge::DECIMAL256_PRECISION);
    let (argument, produces) = match numeric_shape(ty) {
        Some((p, s)) if p + DATAFUSION_SUM_DIGITS <= narrow => {
            (numeric_of(p, s), numeric_of(p + DATAFUSION_SUM_DIGITS, s))
        }
        Some((p, s)) => {
            let digits = (p + SUM_DIGITS).max(narrow + 1).min(wide);
            match numeric_of(digits, s) {
                SqlType::Numeric(None) => (SqlType::Numeric(None), SqlType::Numeric(None)),
                bounded => {
                    let sum = numeric_of((digits + DATAFUSION_SUM_DIGITS).min(wide), s);
                    match sum {
                        // The precision is only a label; stay with the widest that has a name.
                        SqlType::Numeric(None) => (SqlType::Numeric(None), SqlType::Numeric(None)),
                        sum => (bounded, sum),
                    }
                }
            }
        }
        None => (SqlType::Numeric(None), SqlType::Numeric(None)),
    };
    Resolved {
        udaf,
        arguments: vec![argument],
        returns: produces.clone(),
        produces,
    }
}

/// How the pieces of an aggregate call become an expression: plain, or over a window.
enum Form<'a> {
    Plain,
    Window(&'a Window),
}

/// A bound OVER clause.
#[derive(Clone)]
struct Window {
    partition_by: Vec<Expr>,
    order_by: Vec<Sort>,
    frame: WindowFrame,
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

    fn aggregate_in(
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
            && let [SqlType::Int2 | SqlType::Int4 | SqlType::Int8 | SqlType::Numeric(_)] =
                types.as_slice()
        {
            return self.exact_average(arguments, call.distinct, filter, form);
        }
        let resolved = resolve(&call.name, &types)?;
        let expr =
            self.aggregate_expr(resolved, arguments, call.distinct, filter, order_by, form)?;
        Ok(expr)
    }

    fn aggregate_expr(
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
        let expr = make(resolved.udaf, bound, distinct, filter, order_by, form)?;
        let expr = if resolved.produces == resolved.returns {
            expr
        } else {
            cast_expr(expr, &resolved.produces, &resolved.returns, false)
        };
        Ok(Typed::new(expr, resolved.returns))
    }

    /// The average of exact numbers: `sum / count`, NULL over no rows because the sum is.
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
        let sum = resolve("sum", std::slice::from_ref(&argument.ty))?;
        let sum = self.aggregate_expr(
            sum,
            arguments.clone(),
            distinct,
            filter.clone(),
            Vec::new(),
            form,
        )?;
        let count = resolve("count", std::slice::from_ref(&argument.ty))?;
        let count = self.aggregate_expr(count, arguments, distinct, filter, Vec::new(), form)?;
        let sum = self.coerce(sum, &SqlType::Numeric(None), false)?;
        let count = self.coerce(count, &SqlType::Numeric(None), false)?;
        self.operator("/", sum, count)
    }

    /// A call with OVER.
    pub fn window_call(
        &mut self,
        function: &ast::Function,
        call: &CallParts<'_>,
        site: &Site<'_>,
    ) -> Result<Typed> {
        if !site.windows {
            return Err(Error::new(
                SqlState::WINDOWING_ERROR,
                match site.clause {
                    "aggregate" => {
                        "aggregate function calls cannot contain window function calls".into()
                    }
                    clause => format!("window functions are not allowed in {clause}"),
                },
            ));
        }
        let over = function
            .over
            .as_ref()
            .ok_or_else(|| Error::internal("a window call without a window"))?;
        let window = self.window(over, site)?;
        if self.is_aggregate(&call.name) {
            if call.distinct {
                return Err(Error::unsupported(
                    "DISTINCT is not implemented for window functions",
                ));
            }
            return self.aggregate_in(function, call, site, &Form::Window(&window));
        }
        let Some(udwf) = window_udf(&call.name) else {
            return Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!(
                    "OVER specified, but {} is not a window function nor an aggregate function",
                    call.name
                ),
            ));
        };
        let inner = Site {
            windows: false,
            sets: false,
            ..*site
        };
        let mut arguments = Vec::new();
        for argument in &call.arguments {
            arguments.push(self.expr(argument, &inner)?);
        }
        let (arguments, produces, returns) = self.window_types(&call.name, arguments)?;
        let null_treatment = match function.null_treatment {
            Some(ast::NullTreatment::IgnoreNulls) => Some(NullTreatment::IgnoreNulls),
            _ => None,
        };
        let expr = Expr::WindowFunction(Box::new(WindowFunction {
            fun: WindowFunctionDefinition::WindowUDF(udwf),
            params: WindowFunctionParams {
                args: arguments,
                partition_by: window.partition_by,
                order_by: window.order_by,
                window_frame: window.frame,
                filter: None,
                null_treatment,
                distinct: false,
            },
        }));
        let expr = match produces {
            Some(arrow) if arrow != crate::arrow_bridge::arrow_type(&returns) => {
                Expr::Cast(datafusion::logical_expr::expr::Cast::new_from_field(
                    Box::new(expr),
                    Arc::new(crate::arrow_bridge::field("", &returns, true)),
                ))
            }
            _ => expr,
        };
        Ok(Typed::new(expr, returns))
    }

    /// Arguments, the Arrow type that DataFusion's function gives, and the SQL type.
    fn window_types(
        &mut self,
        name: &str,
        arguments: Vec<Typed>,
    ) -> Result<(
        Vec<Expr>,
        Option<datafusion::arrow::datatypes::DataType>,
        SqlType,
    )> {
        use datafusion::arrow::datatypes::DataType;
        let types: Vec<SqlType> = arguments.iter().map(|a| a.ty.clone()).collect();
        let missing = || undefined_function(name, &types);
        Ok(match (name, arguments.len()) {
            ("row_number" | "rank" | "dense_rank", 0) => {
                (Vec::new(), Some(DataType::UInt64), SqlType::Int8)
            }
            ("percent_rank" | "cume_dist", 0) => (Vec::new(), None, SqlType::Float8),
            ("ntile", 1) => {
                let mut bound = Vec::new();
                for argument in arguments {
                    let typed = self.coerce(argument, &SqlType::Int8, false)?;
                    bound.push(typed.expr);
                }
                (bound, Some(DataType::UInt64), SqlType::Int4)
            }
            ("lag" | "lead", 1..=3) | ("first_value" | "last_value", 1) | ("nth_value", 2) => {
                let mut arguments = arguments.into_iter();
                let value = arguments.next().ok_or_else(missing)?;
                let value = self.settle(value)?;
                let ty = value.ty.clone();
                let mut bound = vec![value.expr];
                if let Some(offset) = arguments.next() {
                    bound.push(self.coerce(offset, &SqlType::Int8, false)?.expr);
                }
                if let Some(default) = arguments.next() {
                    let default = self.coerce(default, &ty, false)?;
                    bound.push(cast_expr(default.expr, &default.ty, &ty, false));
                }
                (bound, None, ty)
            }
            _ => return Err(missing()),
        })
    }

    fn window(&mut self, over: &ast::WindowType, site: &Site<'_>) -> Result<Window> {
        let spec = match over {
            ast::WindowType::WindowSpec(spec) => spec.clone(),
            ast::WindowType::NamedWindow(name) => self.named_window(&fold(name))?,
        };
        let spec = match &spec.window_name {
            Some(base) => {
                let base = self.named_window(&fold(base))?;
                ast::WindowSpec {
                    window_name: None,
                    partition_by: base.partition_by,
                    order_by: if spec.order_by.is_empty() {
                        base.order_by
                    } else {
                        spec.order_by
                    },
                    window_frame: spec.window_frame,
                }
            }
            None => spec,
        };
        let inner = Site {
            windows: false,
            sets: false,
            ..*site
        };
        let mut partition_by = Vec::new();
        for expr in &spec.partition_by {
            partition_by.push(self.settled_expr(expr, &inner)?.expr);
        }
        let mut order_by = self.sort_list(&spec.order_by, &inner)?;
        let frame = match &spec.window_frame {
            Some(frame) => self.frame(frame)?,
            None => WindowFrame::new((!order_by.is_empty()).then_some(false)),
        };
        frame
            .regularize_order_bys(&mut order_by)
            .map_err(super::errors::from_datafusion)?;
        Ok(Window {
            partition_by,
            order_by,
            frame,
        })
    }

    fn named_window(&self, name: &str) -> Result<ast::WindowSpec> {
        let mut wanted = name.to_string();
        // Names may refer to names; each step must find another one.
        for _ in 0..=self.windows.len() {
            let found = self
                .windows
                .iter()
                .rev()
                .find(|definition| fold(&definition.0) == wanted);
            match found.map(|definition| &definition.1) {
                Some(ast::NamedWindowExpr::WindowSpec(spec)) => return Ok(spec.clone()),
                Some(ast::NamedWindowExpr::NamedWindow(other)) => wanted = fold(other),
                None => break,
            }
        }
        Err(Error::new(
            SqlState::UNDEFINED_OBJECT,
            format!("window \"{name}\" does not exist"),
        ))
    }

    fn frame(&mut self, frame: &ast::WindowFrame) -> Result<WindowFrame> {
        let units = match frame.units {
            ast::WindowFrameUnits::Rows => WindowFrameUnits::Rows,
            ast::WindowFrameUnits::Range => WindowFrameUnits::Range,
            ast::WindowFrameUnits::Groups => WindowFrameUnits::Groups,
        };
        let start = frame_bound(&frame.start_bound, units)?;
        let end = match &frame.end_bound {
            Some(bound) => frame_bound(bound, units)?,
            None => WindowFrameBound::CurrentRow,
        };
        Ok(WindowFrame::new_bounds(units, start, end))
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

fn frame_bound(bound: &ast::WindowFrameBound, units: WindowFrameUnits) -> Result<WindowFrameBound> {
    let offset = |expr: &Option<Box<ast::Expr>>| -> Result<ScalarValue> {
        let text = match expr.as_deref() {
            None => None,
            Some(ast::Expr::Value(value)) => match &value.value {
                ast::Value::Number(text, _) => Some(text.clone()),
                other => Some(
                    string_value(other)
                        .ok_or_else(|| Error::unsupported("this kind of frame offset"))?
                        .to_string(),
                ),
            },
            Some(ast::Expr::Interval(interval)) => match interval.value.as_ref() {
                ast::Expr::Value(value) => string_value(&value.value).map(str::to_string),
                _ => return Err(Error::unsupported("this kind of frame offset")),
            },
            Some(_) => return Err(Error::unsupported("this kind of frame offset")),
        };
        Ok(match units {
            // DataFusion reads a RANGE offset as the ordering column's type later.
            WindowFrameUnits::Range => ScalarValue::Utf8(text),
            _ => ScalarValue::UInt64(
                text.map(|t| {
                    t.parse::<u64>().map_err(|_| {
                        Error::new(
                            SqlState::INVALID_PARAMETER_VALUE,
                            "frame starting offset must not be negative",
                        )
                    })
                })
                .transpose()?,
            ),
        })
    };
    Ok(match bound {
        ast::WindowFrameBound::CurrentRow => WindowFrameBound::CurrentRow,
        ast::WindowFrameBound::Preceding(expr) => WindowFrameBound::Preceding(offset(expr)?),
        ast::WindowFrameBound::Following(expr) => WindowFrameBound::Following(offset(expr)?),
    })
}
