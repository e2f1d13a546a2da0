//! Binding of FROM: tables, views, common tables, derived tables, functions, and their joins.

use super::binder::{Binder, Bound};
use super::errors::from_datafusion;
use super::expressions::Site;
use super::functions::FunctionUdf;
use super::names::{fold, object_name};
use super::provider::TableData;
use super::scope::{Relation, Scope, Typed, Visible};
use super::select::{parse_query, rename};
use super::virtual_table::VirtualData;
use crate::catalog::Relation as CatalogRelation;
use crate::catalog::descriptor::{Table, View};
use crate::pg_catalog::VirtualTable;
use datafusion::common::TableReference;
use datafusion::common::{Column, UnnestOptions};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{
    Expr, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, TableSource,
};
use datafusion::sql::sqlparser::ast;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlState, SqlType};

/// A FROM item: its plan and the names it brings, with no enclosing scope.
struct Factor {
    plan: LogicalPlan,
    names: Scope<'static>,
    /// Its plan already contains the items to its left (a set made from their columns).
    absorbed_left: bool,
}

/// What stands to the left of an item, for LATERAL.
struct Left<'l> {
    plan: &'l LogicalPlan,
    scope: &'l Scope<'l>,
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
                return Err(Error::unsupported(
                    "LEFT JOIN LATERAL of a function with a condition",
                ));
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
                let [array] = array_exprs.as_slice() else {
                    return Err(Error::unsupported("unnest of several arrays"));
                };
                self.function_factor(
                    "unnest",
                    &[array],
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

    fn table(&mut self, name: &ast::ObjectName, alias: Option<&ast::TableAlias>) -> Result<Factor> {
        let names = object_name(name);
        let (schema, relation) = match names.as_slice() {
            [relation] => (None, relation.as_str()),
            [schema, relation] => (Some(schema.as_str()), relation.as_str()),
            [database, schema, relation] if *database == *self.planner.settings.database => {
                (Some(schema.as_str()), relation.as_str())
            }
            _ => {
                return Err(Error::unsupported(format!(
                    "cross-database references are not implemented: \"{}\"",
                    names.join(".")
                )));
            }
        };
        if schema.is_none()
            && let Some(found) = self
                .common_tables
                .iter()
                .rev()
                .find(|t| t.name == relation)
                .cloned()
        {
            let shown = alias.map_or_else(|| relation.to_string(), |a| fold(&a.name));
            return self.derived(found.bound, &shown, alias, false);
        }
        let virtual_tables = self.planner.virtual_tables.clone();
        let built_in = match schema {
            Some(schema) => virtual_tables.lookup(schema, relation),
            None => virtual_tables.lookup("pg_catalog", relation),
        };
        if let Some(table) = built_in {
            return self.virtual_table(table, alias);
        }
        let planner = self.planner;
        let search_path = self.search_path();
        match planner
            .catalog
            .require(planner.database, &search_path, schema, relation)?
        {
            CatalogRelation::Table(table) => self.stored_table(&table, schema, alias),
            CatalogRelation::View(view) => self.view(&view, alias),
            CatalogRelation::Sequence(sequence) => Err(Error::unsupported(format!(
                "SELECT from sequence \"{}\"",
                sequence.name
            ))),
            CatalogRelation::Index(..) => Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("cannot open relation \"{relation}\""),
            )
            .detail("This operation is not supported for indexes.")),
        }
    }

    fn search_path(&self) -> Vec<String> {
        let user = self.planner.settings.user.as_ref();
        self.planner
            .settings
            .search_path
            .iter()
            .map(|s| {
                if s == "$user" {
                    user.to_string()
                } else {
                    s.clone()
                }
            })
            .collect()
    }

    fn stored_table(
        &mut self,
        table: &Arc<Table>,
        schema: Option<&str>,
        alias: Option<&ast::TableAlias>,
    ) -> Result<Factor> {
        self.depends_on(table.oid, table.version);
        let source = provider_as_source(Arc::new(TableData::new(table.clone())));
        let columns = table
            .live_columns()
            .map(|(position, c)| {
                (
                    c.name.clone(),
                    c.sql_type.clone(),
                    table.oid,
                    (position + 1) as i16,
                )
            })
            .collect();
        let schema = match alias {
            Some(_) => None,
            None => self
                .planner
                .catalog
                .schema(table.schema)
                .map(|s| s.name.clone())
                .or_else(|| schema.map(str::to_string)),
        };
        self.scan(
            &table.name,
            schema,
            source,
            columns,
            alias,
            Some(table.clone()),
        )
    }

    fn virtual_table(
        &mut self,
        table: &Arc<VirtualTable>,
        alias: Option<&ast::TableAlias>,
    ) -> Result<Factor> {
        self.saw_volatility(crate::functions::Volatility::Stable);
        let source = provider_as_source(Arc::new(VirtualData::new(table.clone())));
        let columns = table
            .columns
            .iter()
            .enumerate()
            .map(|(i, (name, ty))| ((*name).to_string(), ty.clone(), table.oid, (i + 1) as i16))
            .collect();
        let schema = alias.is_none().then(|| table.schema.to_string());
        self.scan(table.name, schema, source, columns, alias, None)
    }

    fn scan(
        &mut self,
        name: &str,
        schema: Option<String>,
        source: Arc<dyn TableSource>,
        columns: Vec<(String, SqlType, u32, i16)>,
        alias: Option<&ast::TableAlias>,
        table: Option<Arc<Table>>,
    ) -> Result<Factor> {
        let shown = alias.map_or_else(|| name.to_string(), |a| fold(&a.name));
        let qualifier = self.qualifier(&shown);
        let reference = TableReference::bare(qualifier.clone());
        let plan = LogicalPlanBuilder::scan(reference.clone(), source, None)
            .and_then(|b| b.build())
            .map_err(from_datafusion)?;
        let aliases = column_aliases(alias, &shown, columns.len())?;
        let columns = columns
            .into_iter()
            .enumerate()
            .map(|(i, (name, ty, oid, attribute))| {
                let column = Column::new(Some(reference.clone()), &name);
                Visible {
                    name: aliases.get(i).cloned().unwrap_or(name),
                    value: Typed::new(Expr::Column(column), ty),
                    table: oid,
                    attribute,
                }
            })
            .collect();
        let mut names = Scope::default();
        names.add(Relation {
            alias: shown,
            schema,
            columns,
            source: table,
        })?;
        Ok(Factor {
            plan,
            names,
            absorbed_left: false,
        })
    }

    fn view(&mut self, view: &Arc<View>, alias: Option<&ast::TableAlias>) -> Result<Factor> {
        self.depends_on(view.oid, view.version);
        let query = parse_query(&view.query)?;
        // The view's text was written where none of this statement's WITH queries is known.
        let hidden = std::mem::take(&mut self.common_tables);
        let bound = self.deeper(|binder| binder.query(&query, None));
        self.common_tables = hidden;
        let bound = self.settle_unknowns(bound?)?;
        let mut bound = bound;
        let declared: Vec<String> = view.columns.iter().map(|(name, _)| name.clone()).collect();
        rename(&mut bound.columns, &declared, &view.name)?;
        let shown = alias.map_or_else(|| view.name.clone(), |a| fold(&a.name));
        self.derived(bound, &shown, alias, false)
    }

    fn derived(
        &mut self,
        bound: Bound,
        shown: &str,
        alias: Option<&ast::TableAlias>,
        lateral: bool,
    ) -> Result<Factor> {
        let qualifier = self.qualifier(shown);
        let reference = TableReference::bare(qualifier.clone());
        let plan = super::select::unqualified(bound.plan, &bound.columns)?;
        let outer_ref_columns = plan.all_out_ref_exprs();
        let plan = if lateral && !outer_ref_columns.is_empty() {
            LogicalPlan::Subquery(Subquery {
                subquery: Arc::new(plan),
                outer_ref_columns,
                spans: Default::default(),
            })
        } else {
            plan
        };
        let plan = LogicalPlanBuilder::from(plan)
            .alias(reference.clone())
            .and_then(|b| b.build())
            .map_err(from_datafusion)?;
        let aliases = column_aliases(alias, shown, bound.columns.len())?;
        let columns = bound
            .columns
            .into_iter()
            .enumerate()
            .map(|(i, column)| Visible {
                name: aliases.get(i).cloned().unwrap_or(column.name),
                value: Typed::new(
                    Expr::Column(Column::new(Some(reference.clone()), column.internal)),
                    column.ty,
                ),
                table: column.table,
                attribute: column.attribute,
            })
            .collect();
        let mut names = Scope::default();
        names.add(Relation {
            alias: shown.to_string(),
            schema: None,
            columns,
            source: None,
        })?;
        Ok(Factor {
            plan,
            names,
            absorbed_left: false,
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one FROM item")]
    fn function_factor(
        &mut self,
        name: &str,
        arguments: &[&ast::Expr],
        ordinality: bool,
        alias: Option<&ast::TableAlias>,
        parent: Option<&Scope<'_>>,
        left: Option<Left<'_>>,
        kind: JoinType,
    ) -> Result<Factor> {
        let empty = Scope::nested_in(parent);
        let scope = left.as_ref().map_or(&empty, |l| l.scope);
        let site = Site::plain(scope, "functions in FROM");
        let mut bound = Vec::new();
        for argument in arguments {
            bound.push(self.expr(argument, &site)?);
        }
        let returns_set = super::set_functions::is_set_returning(name);
        let value = if returns_set {
            self.set_array(name, bound)?
        } else {
            self.call(name, bound)?
        };
        let uses_left = value
            .expr
            .column_refs()
            .iter()
            .any(|c| left.as_ref().is_some_and(|l| l.plan.schema().has_column(c)));
        let shown = alias.map_or_else(|| name.to_string(), |a| fold(&a.name));
        let qualifier = self.qualifier(&shown);
        let element = if returns_set {
            value
                .ty
                .element_type()
                .ok_or_else(|| Error::internal("a set that is no array"))?
        } else {
            value.ty.clone()
        };
        // A function's only column is called like its alias.
        let mut columns = vec![(shown.clone(), element)];
        let internal = |n: usize| format!("{qualifier}.{n}");
        let mut exprs = vec![value.expr.clone().alias(internal(0))];
        if ordinality {
            let numbers = if returns_set {
                ordinals(&value)
            } else {
                super::binder::literal(&Datum::Int8(1), &SqlType::Int8)?
            };
            exprs.push(numbers.alias(internal(1)));
            columns.push(("ordinality".into(), SqlType::Int8));
        }
        let base = match (&left, uses_left) {
            (Some(left), true) => {
                let mut all: Vec<Expr> = left
                    .plan
                    .schema()
                    .columns()
                    .into_iter()
                    .map(Expr::Column)
                    .collect();
                all.append(&mut exprs);
                exprs = all;
                LogicalPlanBuilder::from(left.plan.clone())
            }
            _ => LogicalPlanBuilder::empty(true),
        };
        let mut builder = base.project(exprs).map_err(from_datafusion)?;
        if returns_set {
            let sets = (0..columns.len())
                .map(|n| Column::new_unqualified(internal(n)))
                .collect();
            let keep = uses_left && kind == JoinType::Left;
            builder = builder
                .unnest_columns_with_options(sets, UnnestOptions::new().with_preserve_nulls(keep))
                .map_err(from_datafusion)?;
        }
        let relation = TableReference::bare(qualifier.clone());
        if !uses_left {
            builder = builder.alias(relation.clone()).map_err(from_datafusion)?;
        }
        let plan = builder.build().map_err(from_datafusion)?;
        let aliases = column_aliases(alias, &shown, columns.len())?;
        let columns = columns
            .into_iter()
            .enumerate()
            .map(|(i, (name, ty))| {
                let column = if uses_left {
                    Column::new_unqualified(internal(i))
                } else {
                    Column::new(Some(relation.clone()), internal(i))
                };
                Visible {
                    name: aliases.get(i).cloned().unwrap_or(name),
                    value: Typed::new(Expr::Column(column), ty),
                    table: 0,
                    attribute: 0,
                }
            })
            .collect();
        let mut names = Scope::default();
        names.add(Relation {
            alias: shown,
            schema: None,
            columns,
            source: None,
        })?;
        Ok(Factor {
            plan,
            names,
            absorbed_left: uses_left,
        })
    }
}

/// `{1, …, n}` for an array of n elements.
fn ordinals(array: &Typed) -> Expr {
    use crate::functions::{ArgType, ReturnType, ScalarFunction, Volatility};
    let function = ScalarFunction {
        name: "ordinality",
        arguments: vec![ArgType::AnyArray],
        variadic: false,
        returns: ReturnType::Exact(SqlType::Array(Box::new(SqlType::Int8))),
        volatility: Volatility::Immutable,
        strict: true,
        evaluate: |_, arguments| match arguments {
            [Datum::Array(array)] => {
                let numbers = (1..=array.elements.len() as i64).map(Datum::Int8).collect();
                Ok(Datum::Array(Arc::new(types::Array::from_elements(
                    SqlType::Int8,
                    numbers,
                ))))
            }
            _ => Ok(Datum::Null),
        },
        kernel: None,
    };
    let ty = SqlType::Array(Box::new(SqlType::Int8));
    FunctionUdf::new(Arc::new(function), vec![array.ty.clone()], ty).call(vec![array.expr.clone()])
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

fn column_aliases(
    alias: Option<&ast::TableAlias>,
    table: &str,
    available: usize,
) -> Result<Vec<String>> {
    let aliases: Vec<String> = alias
        .map(|a| a.columns.iter().map(|c| fold(&c.name)).collect())
        .unwrap_or_default();
    if aliases.len() > available {
        return Err(Error::new(
            SqlState::INVALID_COLUMN_REFERENCE,
            format!(
                "table \"{table}\" has {available} columns available but {} columns specified",
                aliases.len()
            ),
        ));
    }
    Ok(aliases)
}

fn plain_arguments(arguments: &[ast::FunctionArg]) -> Result<Vec<&ast::Expr>> {
    arguments
        .iter()
        .map(|argument| match argument {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Ok(expr),
            _ => Err(Error::unsupported("named arguments")),
        })
        .collect()
}
