//! Binding of window functions and of OVER clauses.

use super::aggregates::Form;
use super::binder::Binder;
use super::calls::CallParts;
use super::casts::cast_expr;
use super::expressions::Site;
use super::literals::string_value;
use super::names::fold;
use super::overload::undefined_function;
use super::scope::Typed;
use datafusion::functions_window as dfw;
use datafusion::logical_expr::expr::{NullTreatment, Sort, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{
    Expr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition, WindowUDF,
};
use datafusion::scalar::ScalarValue;
use sqlparser::ast;
use std::sync::Arc;
use types::{Error, Result, SqlState, SqlType};

/// A bound OVER clause.
#[derive(Clone)]
pub(crate) struct Window {
    pub partition_by: Vec<Expr>,
    pub order_by: Vec<Sort>,
    pub frame: WindowFrame,
}

impl Binder<'_> {
    /// A call with OVER.
    pub fn window_call(
        &mut self,
        function: &ast::Function,
        call: &CallParts<'_>,
        site: &Site<'_>,
    ) -> Result<Typed> {
        if !site.windows {
            return Err(match site.clause {
                "aggregate" => Error::new(
                    SqlState::GROUPING_ERROR,
                    "aggregate function calls cannot contain window function calls",
                ),
                clause => Error::new(
                    SqlState::WINDOWING_ERROR,
                    format!("window functions are not allowed in {clause}"),
                ),
            });
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
        frame_in_order(&frame.start_bound, frame.end_bound.as_ref())?;
        Ok(WindowFrame::new_bounds(units, start, end))
    }
}

/// 42P20 if a frame ends before it starts, whatever its offsets.
fn frame_in_order(
    start: &ast::WindowFrameBound,
    end: Option<&ast::WindowFrameBound>,
) -> Result<()> {
    use ast::WindowFrameBound as B;
    let end = end.unwrap_or(&B::CurrentRow);
    let what = match (start, end) {
        (B::Following(None), _) => "frame start cannot be UNBOUNDED FOLLOWING",
        (_, B::Preceding(None)) => "frame end cannot be UNBOUNDED PRECEDING",
        (B::CurrentRow, B::Preceding(_)) => {
            "frame starting from current row cannot have preceding rows"
        }
        (B::Following(_), B::Preceding(_) | B::CurrentRow) => {
            "frame starting from following row cannot have preceding rows"
        }
        _ => return Ok(()),
    };
    Err(Error::new(SqlState::WINDOWING_ERROR, what))
}

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
