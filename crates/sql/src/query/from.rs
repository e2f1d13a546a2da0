//! Binding of FROM: items side by side and their joins.

use super::binder::Binder;
use super::errors::from_datafusion;
use super::expressions::Site;
use super::from_functions::plain_arguments;
use super::names::{fold, object_name};
use super::scope::{Scope, Typed, Visible};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, LogicalPlanBuilder, Operator};
use sqlparser::ast;
use types::{Error, Result, SqlState};

/// A FROM item: its plan and the names it brings, with no enclosing scope.
pub(super) struct Factor {
    pub plan: LogicalPlan,
    pub names: Scope<'static>,
    /// Its plan already contains the items to its left (a set made from their columns).
    pub absorbed_left: bool,
}

/// What stands to the left of an item, for LATERAL.
pub(super) struct Left<'l> {
    pub plan: &'l LogicalPlan,
    pub scope: &'l Scope<'l>,
}

impl Binder<'_> {
    pub fn from<'s>(
        &mut self,
        items: &[ast::TableWithJoins],
        parent: Option<&'s Scope<'s>>,
    ) -> Result<(LogicalPlan, Scope<'s>)> {
        let mut current: Option<(LogicalPlan, Scope<'static>)> = None;
        for item in items {
            if is_lateral(&item.relation) || item.joins.is_empty() {
                current = Some(self.cross(current, &item.relation, parent)?);
                for join in &item.joins {
                    let left = current
                        .take()
                        .ok_or_else(|| Error::internal("an empty FROM"))?;
                    current = Some(self.join(left, join, parent)?);
                }
                continue;
            }
            let mut own = self.cross(None, &item.relation, parent)?;
            for join in &item.joins {
                own = self.join(own, join, parent)?;
            }
            current = Some(match current {
                None => own,
                Some((plan, mut scope)) => {
                    scope.append(own.1)?;
                    let plan = LogicalPlanBuilder::from(plan)
                        .cross_join(own.0)
                        .and_then(|b| b.build())
                        .map_err(from_datafusion)?;
                    (plan, scope)
                }
            });
        }
        Ok(match current {
            Some((plan, scope)) => (plan, enclosed(scope, parent)),
            None => {
                let plan = LogicalPlanBuilder::empty(true)
                    .build()
                    .map_err(from_datafusion)?;
                (plan, Scope::nested_in(parent))
            }
        })
    }

    fn cross(
        &mut self,
        left: Option<(LogicalPlan, Scope<'static>)>,
        factor: &ast::TableFactor,
        parent: Option<&Scope<'_>>,
    ) -> Result<(LogicalPlan, Scope<'static>)> {
        let Some((plan, mut names)) = left else {
            let factor = self.factor(factor, parent, None, JoinType::Inner)?;
            return Ok((factor.plan, factor.names));
        };
        let right = {
            let scope = enclosed(names.clone(), parent);
            let left = Left {
                plan: &plan,
                scope: &scope,
            };
            self.factor(factor, parent, Some(left), JoinType::Inner)?
        };
        let right = match needs_rows(&right.plan) {
            Some(_) => lateral_rows(&plan, right, false)?,
            None => right,
        };
        names.append(right.names)?;
        if right.absorbed_left {
            return Ok((right.plan, names));
        }
        let plan = LogicalPlanBuilder::from(plan)
            .cross_join(right.plan)
            .and_then(|b| b.build())
            .map_err(from_datafusion)?;
        Ok((plan, names))
    }

    fn join(
        &mut self,
        left: (LogicalPlan, Scope<'static>),
        join: &ast::Join,
        parent: Option<&Scope<'_>>,
    ) -> Result<(LogicalPlan, Scope<'static>)> {
        use ast::JoinOperator as J;
        let (kind, constraint) = match &join.join_operator {
            J::Join(c) | J::Inner(c) => (JoinType::Inner, c),
            J::CrossJoin(c) => (JoinType::Inner, c),
            J::Left(c) | J::LeftOuter(c) => (JoinType::Left, c),
            J::Right(c) | J::RightOuter(c) => (JoinType::Right, c),
            J::FullOuter(c) => (JoinType::Full, c),
            _ => return Err(Error::syntax("syntax error in the join")),
        };
        let cross = matches!(join.join_operator, J::CrossJoin(_));
        let (left_plan, left_names) = left;
        let right = {
            let scope = enclosed(left_names.clone(), parent);
            let lateral = matches!(kind, JoinType::Inner | JoinType::Left).then_some(Left {
                plan: &left_plan,
                scope: &scope,
            });
            self.factor(&join.relation, parent, lateral, kind)?
        };
        let right = match needs_rows(&right.plan) {
            Some(_) if matches!(kind, JoinType::Inner | JoinType::Left) => {
                lateral_rows(&left_plan, right, kind == JoinType::Left)?
            }
            _ => right,
        };
        let mut names = left_names.clone();
        names.append(right.names.clone())?;
        let (conditions, names) = match constraint {
            ast::JoinConstraint::None if cross => (Vec::new(), names),
            ast::JoinConstraint::None => {
                return Err(Error::syntax("syntax error: a join without a condition"));
            }
            ast::JoinConstraint::On(condition) => {
                let scope = enclosed(names.clone(), parent);
                let site = Site::plain(&scope, "JOIN conditions");
                let condition = self.condition(condition, &site, "JOIN/ON")?;
                (vec![condition], names)
            }
            ast::JoinConstraint::Using(columns) => {
                let mut shared = Vec::new();
                for column in columns {
                    shared.extend(object_name(column).pop());
                }
                self.using(&shared, kind, &left_names, &right.names, names)?
            }
            ast::JoinConstraint::Natural => {
                let mut shared = Vec::new();
                for visible in &left_names.visible {
                    let both = right.names.visible.iter().any(|v| v.name == visible.name);
                    if both && !shared.contains(&visible.name) {
                        shared.push(visible.name.clone());
                    }
                }
                self.using(&shared, kind, &left_names, &right.names, names)?
            }
        };
        if right.absorbed_left {
            let trivially = |e: &Expr| {
                matches!(
                    e,
                    Expr::Literal(datafusion::scalar::ScalarValue::Boolean(Some(true)), _)
                )
            };
            let rest: Vec<Expr> = conditions.into_iter().filter(|c| !trivially(c)).collect();
            if rest.is_empty() {
                return Ok((right.plan, names));
            }
            if kind != JoinType::Inner {
                return Err(Error::unsupported("LEFT JOIN LATERAL with a condition"));
            }
            let filter = super::expressions::balanced(rest, Operator::And);
            let plan = LogicalPlanBuilder::from(right.plan)
                .filter(filter)
                .and_then(|b| b.build())
                .map_err(from_datafusion)?;
            return Ok((plan, names));
        }
        let builder = LogicalPlanBuilder::from(left_plan);
        let plan = if conditions.is_empty() && kind == JoinType::Inner {
            builder.cross_join(right.plan)
        } else {
            builder.join_on(right.plan, kind, conditions)
        }
        .and_then(|b| b.build())
        .map_err(from_datafusion)?;
        Ok((plan, names))
    }

    /// USING and NATURAL: equal columns, each visible once.
    fn using(
        &mut self,
        shared: &[String],
        kind: JoinType,
        left: &Scope<'static>,
        right: &Scope<'static>,
        mut names: Scope<'static>,
    ) -> Result<(Vec<Expr>, Scope<'static>)> {
        let mut conditions = Vec::new();
        let mut merged = Vec::new();
        for name in shared {
            let find = |scope: &Scope<'static>, side: &str| {
                let mut found = scope.visible.iter().filter(|v| v.name == *name);
                let first = found.next().cloned().ok_or_else(|| {
                    Error::new(
                        SqlState::UNDEFINED_COLUMN,
                        format!(
                            "column \"{name}\" specified in USING clause does not exist in {side} table"
                        ),
                    )
                })?;
                if found.next().is_some() {
                    return Err(Error::new(
                        SqlState::AMBIGUOUS_COLUMN,
                        format!(
                            "common column name \"{name}\" appears more than once in {side} table"
                        ),
                    ));
                }
                Ok(first)
            };
            let (l, r) = (find(left, "left")?, find(right, "right")?);
            let equal = self.compare(l.value.clone(), Operator::Eq, r.value.clone())?;
            conditions.push(equal.expr);
            let common = super::coerce::common_type([&l.value.ty, &r.value.ty], "JOIN/USING")?;
            merged.push(match kind {
                JoinType::Right => Visible {
                    value: self.coerce(r.value.clone(), &common, false)?,
                    ..r
                },
                JoinType::Full => {
                    let lv = self.coerce(l.value.clone(), &common, false)?;
                    let rv = self.coerce(r.value.clone(), &common, false)?;
                    let case = Case::new(
                        None,
                        vec![(
                            Box::new(Expr::IsNotNull(Box::new(lv.expr.clone()))),
                            Box::new(lv.expr),
                        )],
                        Some(Box::new(rv.expr)),
                    );
                    Visible {
                        name: name.clone(),
                        value: Typed::new(Expr::Case(case), common),
                        table: 0,
                        attribute: 0,
                    }
                }
                _ => Visible {
                    value: self.coerce(l.value.clone(), &common, false)?,
                    ..l
                },
            });
        }
        let others = left
            .visible
            .iter()
            .chain(&right.visible)
            .filter(|v| !shared.contains(&v.name))
            .cloned();
        merged.extend(others);
        names.visible = merged;
        Ok((conditions, names))
    }

    fn factor(
        &mut self,
        factor: &ast::TableFactor,
        parent: Option<&Scope<'_>>,
        left: Option<Left<'_>>,
        kind: JoinType,
    ) -> Result<Factor> {
        match factor {
            ast::TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                sample: None,
                ..
            } if with_hints.is_empty() && partitions.is_empty() => self.table(name, alias.as_ref()),
            ast::TableFactor::Table {
                name,
                alias,
                args: Some(args),
                with_ordinality,
                ..
            } => {
                let arguments = plain_arguments(&args.args)?;
                let name = object_name(name).pop().unwrap_or_default();
                self.function_factor(
                    &name,
                    &arguments,
                    *with_ordinality,
                    alias.as_ref(),
                    parent,
                    left,
                    kind,
                )
            }
            ast::TableFactor::Function {
                name,
                args,
                with_ordinality,
                alias,
                ..
            } => {
                let arguments = plain_arguments(args)?;
                let name = object_name(name).pop().unwrap_or_default();
                self.function_factor(
                    &name,
                    &arguments,
                    *with_ordinality,
                    alias.as_ref(),
                    parent,
                    left,
                    kind,
                )
            }
            ast::TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset: false,
                with_ordinality,
                ..
            } => {
                let arrays: Vec<&ast::Expr> = array_exprs.iter().collect();
                self.function_factor(
                    "unnest",
                    &arrays,
                    *with_ordinality,
                    alias.as_ref(),
                    parent,
                    left,
                    kind,
                )
            }
            ast::TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample: None,
            } => {
                let outer = match (&left, lateral) {
                    (Some(left), true) => Some(left.scope),
                    _ => None,
                };
                let bound = match outer {
                    Some(scope) => self.deeper(|binder| binder.query(subquery, Some(scope)))?,
                    None => self.deeper(|binder| binder.query(subquery, parent))?,
                };
                let bound = self.settle_unknowns(bound)?;
                let name = alias
                    .as_ref()
                    .map_or_else(|| "unnamed_subquery".to_string(), |a| fold(&a.name));
                self.derived(bound, &name, alias.as_ref(), *lateral)
            }
            ast::TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => {
                let mut own = self.cross(None, &table_with_joins.relation, parent)?;
                for join in &table_with_joins.joins {
                    own = self.join(own, join, parent)?;
                }
                Ok(Factor {
                    plan: own.0,
                    names: own.1,
                    absorbed_left: false,
                })
            }
            other => Err(Error::unsupported(format!("the FROM item {other}"))),
        }
    }
}

fn enclosed<'a>(names: Scope<'static>, parent: Option<&'a Scope<'a>>) -> Scope<'a> {
    Scope {
        relations: names.relations,
        visible: names.visible,
        parent,
    }
}

fn is_lateral(factor: &ast::TableFactor) -> bool {
    match factor {
        ast::TableFactor::Derived { lateral, .. } => *lateral,
        ast::TableFactor::Function { .. } | ast::TableFactor::UNNEST { .. } => true,
        ast::TableFactor::Table { args, .. } => args.is_some(),
        _ => false,
    }
}

/// The lateral query of an item that DataFusion cannot turn into a join.
fn needs_rows(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    let LogicalPlan::SubqueryAlias(alias) = plan else {
        return None;
    };
    match alias.input.as_ref() {
        LogicalPlan::Subquery(subquery) if !super::nested::joins_laterally(&subquery.subquery) => {
            Some(&subquery.subquery)
        }
        _ => None,
    }
}

/// The item to the left and, for each of its rows, the rows of the lateral query.
fn lateral_rows(left: &LogicalPlan, right: Factor, keep: bool) -> Result<Factor> {
    let (LogicalPlan::SubqueryAlias(alias), Some(query)) = (&right.plan, needs_rows(&right.plan))
    else {
        return Ok(right);
    };
    let plan = super::nested::rows_beside(left.clone(), query, &alias.alias, keep);
    Ok(Factor {
        plan: plan.map_err(from_datafusion)?,
        names: right.names,
        absorbed_left: true,
    })
}
