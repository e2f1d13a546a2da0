//! Names in reach of an expression: the relations of a FROM clause, and those of enclosing queries.
//!
//! Every relation gets a qualifier that is unique in the statement, so a column of the plan means the
//! same thing wherever it stands and nothing is ever resolved by name again after binding.

use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::Case;
use std::sync::Arc;
use types::{Datum, Error, Result, SqlState, SqlType};

use crate::catalog::descriptor::Table;

/// An expression with its SQL type.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    pub expr: Expr,
    pub ty: SqlType,
}

impl Typed {
    pub fn new(expr: Expr, ty: SqlType) -> Self {
        Typed { expr, ty }
    }

    pub fn is_unknown(&self) -> bool {
        matches!(self.ty, SqlType::Unknown)
    }
}

/// A column that an expression can name.
#[derive(Clone, Debug)]
pub(crate) struct Visible {
    pub name: String,
    pub value: Typed,
    /// Table object id and attribute number when it is a stored column; else zeros.
    pub table: u32,
    pub attribute: i16,
}

/// One item of a FROM clause.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    /// The name that queries use.
    pub alias: String,
    /// The schema, when the relation was not given an alias.
    pub schema: Option<String>,
    pub columns: Vec<Visible>,
    pub source: Option<Arc<Table>>,
    /// A function that returns scalars: its name alone means its one column.
    pub scalar: bool,
}

/// The names of one query level, with those of the enclosing levels behind `parent`.
#[derive(Clone, Default)]
pub(crate) struct Scope<'p> {
    pub relations: Vec<Relation>,
    /// What `*` and unqualified names see, in order: USING columns once, then the others.
    pub visible: Vec<Visible>,
    pub parent: Option<&'p Scope<'p>>,
}

impl<'p> Scope<'p> {
    pub fn nested_in(parent: Option<&'p Scope<'p>>) -> Self {
        Scope {
            parent,
            ..Scope::default()
        }
    }

    pub fn add(&mut self, relation: Relation) -> Result<()> {
        if self
            .relations
            .iter()
            .any(|r| r.alias == relation.alias && r.schema == relation.schema)
        {
            return Err(Error::new(
                SqlState::DUPLICATE_ALIAS,
                format!("table name \"{}\" specified more than once", relation.alias),
            ));
        }
        self.visible.extend(relation.columns.iter().cloned());
        self.relations.push(relation);
        Ok(())
    }

    /// Puts another scope's names beside these, as a join without USING does.
    pub fn append(&mut self, other: Scope<'_>) -> Result<()> {
        for relation in &other.relations {
            if self
                .relations
                .iter()
                .any(|r| r.alias == relation.alias && r.schema == relation.schema)
            {
                return Err(Error::new(
                    SqlState::DUPLICATE_ALIAS,
                    format!("table name \"{}\" specified more than once", relation.alias),
                ));
            }
        }
        self.relations.extend(other.relations);
        self.visible.extend(other.visible);
        Ok(())
    }

    /// A scope over the columns of a plan's schema, for expressions outside queries.
    pub fn of_schema(schema: &DFSchema) -> Scope<'static> {
        let mut scope = Scope::default();
        for (qualifier, field) in schema.iter() {
            let visible = Visible {
                name: field.name().clone(),
                value: Typed::new(
                    Expr::Column(Column::new(qualifier.cloned(), field.name())),
                    crate::arrow_bridge::sql_type_of(field),
                ),
                table: 0,
                attribute: 0,
            };
            if let Some(qualifier) = qualifier {
                let alias = qualifier.table().to_string();
                match scope.relations.iter_mut().find(|r| r.alias == alias) {
                    Some(relation) => relation.columns.push(visible.clone()),
                    None => scope.relations.push(Relation {
                        alias,
                        schema: None,
                        columns: vec![visible.clone()],
                        source: None,
                        scalar: false,
                    }),
                }
            }
            scope.visible.push(visible);
        }
        scope
    }

    pub fn find_relation(&self, schema: Option<&str>, name: &str) -> Option<&Relation> {
        self.relations.iter().find(|r| {
            r.alias == name && schema.is_none_or(|schema| r.schema.as_deref() == Some(schema))
        })
    }

    /// The value of a scalar function in FROM by the name of the FROM item.
    pub fn scalar_row(&self, name: &str) -> Option<Visible> {
        let mut level = Some(self);
        let mut depth = 0;
        while let Some(scope) = level {
            if let Some(relation) = scope.find_relation(None, name) {
                let column = relation.columns.first().filter(|_| relation.scalar);
                return column.map(|column| at_depth(column, depth));
            }
            level = scope.parent;
            depth += 1;
        }
        None
    }

    /// Finds an unqualified column here or outside; outer ones come back as outer references.
    pub fn column(&self, name: &str) -> Result<Option<Visible>> {
        let mut level = Some(self);
        let mut depth = 0;
        while let Some(scope) = level {
            let mut found = scope.visible.iter().filter(|v| v.name == name);
            if let Some(first) = found.next() {
                if found.next().is_some() {
                    return Err(Error::new(
                        SqlState::AMBIGUOUS_COLUMN,
                        format!("column reference \"{name}\" is ambiguous"),
                    ));
                }
                return Ok(Some(at_depth(first, depth)));
            }
            level = scope.parent;
            depth += 1;
        }
        Ok(None)
    }

    /// Finds `relation.column`.
    pub fn qualified_column(
        &self,
        schema: Option<&str>,
        relation: &str,
        name: &str,
    ) -> Result<Visible> {
        let mut level = Some(self);
        let mut depth = 0;
        while let Some(scope) = level {
            if let Some(found) = scope.find_relation(schema, relation) {
                let mut columns = found.columns.iter().filter(|v| v.name == name);
                let Some(first) = columns.next() else {
                    if name == "tableoid"
                        && let Some(visible) = catalog_table_oid(found)
                    {
                        return Ok(at_depth(&visible, depth));
                    }
                    return Err(Error::new(
                        SqlState::UNDEFINED_COLUMN,
                        format!("column {relation}.{name} does not exist"),
                    ));
                };
                if columns.next().is_some() {
                    return Err(Error::new(
                        SqlState::AMBIGUOUS_COLUMN,
                        format!("column reference \"{name}\" is ambiguous"),
                    ));
                }
                return Ok(at_depth(first, depth));
            }
            level = scope.parent;
            depth += 1;
        }
        let shown = match schema {
            Some(schema) => format!("{schema}.{relation}"),
            None => relation.to_string(),
        };
        Err(Error::new(
            SqlState::UNDEFINED_TABLE,
            format!("missing FROM-clause entry for table \"{shown}\""),
        ))
    }
}

/// `tableoid` of a system catalog: the one object id, but NULL where an outer join found no row. The
/// first column of a catalog is never NULL.
fn catalog_table_oid(relation: &Relation) -> Option<Visible> {
    let first = relation.columns.first()?;
    if relation.source.is_some()
        || first.table == 0
        || first.table >= crate::catalog::descriptor::FIRST_USER_OBJECT_ID
    {
        return None;
    }
    let oid = super::binder::literal(&Datum::Oid(first.table), &SqlType::Oid).ok()?;
    let there = Expr::IsNotNull(Box::new(first.value.expr.clone()));
    let case = Case::new(None, vec![(Box::new(there), Box::new(oid))], None);
    Some(Visible {
        name: "tableoid".into(),
        value: Typed::new(Expr::Case(case), SqlType::Oid),
        table: 0,
        attribute: 0,
    })
}

fn at_depth(visible: &Visible, depth: usize) -> Visible {
    let mut visible = visible.clone();
    if depth > 0 {
        visible.value.expr = outer_reference(visible.value.expr, &visible.value.ty);
    }
    visible
}

/// The same value seen from a subquery.
fn outer_reference(expr: Expr, ty: &SqlType) -> Expr {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let changed = expr.clone().transform(|e| {
        Ok(match e {
            Expr::Column(column) => {
                let field = Arc::new(crate::arrow_bridge::field(&column.name, ty, true));
                Transformed::yes(Expr::OuterReferenceColumn(field, column))
            }
            other => Transformed::no(other),
        })
    });
    match changed {
        Ok(changed) => changed.data,
        Err(_) => expr,
    }
}
