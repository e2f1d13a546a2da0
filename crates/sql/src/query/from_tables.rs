//! FROM items that name or hold rows: tables, views, common tables, derived tables.

use super::binder::{Binder, Bound};
use super::errors::from_datafusion;
use super::from::Factor;
use super::names::{fold, object_name};
use super::output_columns::rename;
use super::output_columns::unqualified;
use super::provider::TableData;
use super::scope::{Relation, Scope, Typed, Visible};
use super::select::parse_query;
use super::virtual_table::VirtualData;
use crate::catalog::Relation as CatalogRelation;
use crate::catalog::descriptor::{Table, View};
use crate::pg_catalog::VirtualTable;
use datafusion::common::{Column, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Subquery, TableSource};
use sqlparser::ast;
use std::sync::Arc;
use types::{Error, Result, SqlState, SqlType};

impl Binder<'_> {
    pub(super) fn table(
        &mut self,
        name: &ast::ObjectName,
        alias: Option<&ast::TableAlias>,
    ) -> Result<Factor> {
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
            self.must_return(relation)?;
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
            scalar: false,
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

    pub(super) fn derived(
        &mut self,
        bound: Bound,
        shown: &str,
        alias: Option<&ast::TableAlias>,
        lateral: bool,
    ) -> Result<Factor> {
        let qualifier = self.qualifier(shown);
        let reference = TableReference::bare(qualifier.clone());
        let plan = unqualified(bound.plan, &bound.columns)?;
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
            scalar: false,
        })?;
        Ok(Factor {
            plan,
            names,
            absorbed_left: false,
        })
    }
}

pub(super) fn column_aliases(
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
