//! CREATE VIEW.
//!
//! A view keeps its query as text, in which every relation is qualified by its schema: later changes
//! of the search path do not change what it means. `*` stands there as the columns that the relations
//! have now, so that it does not take in later ones; only a join by USING keeps its `*`.

use super::context::{DdlContext, is_built_in_schema, wrong_kind};
use super::names::{ident, object_name, quote_ident};
use crate::catalog::Relation;
use crate::catalog::descriptor::*;
use crate::catalog::store::{self, NameKind};
use sqlparser::ast::{
    self, Ident, ObjectName, ObjectNamePart, Query, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, TableAlias, VisitMut, VisitorMut,
};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use types::{Error, Result, SqlState, SqlType};

pub(super) async fn create_view(
    d: &mut DdlContext<'_>,
    create: &ast::CreateView,
) -> Result<&'static str> {
    if create.materialized {
        return Err(Error::unsupported("CREATE MATERIALIZED VIEW"));
    }
    if create.temporary {
        return Err(Error::unsupported("CREATE TEMPORARY VIEW"));
    }
    let (schema, name) = object_name(d, &create.name)?;
    let schema = d.creation_schema(schema.as_deref()).await?;
    let (query, depends_on) = bind_relations(d, &create.query)?;
    let found = d.analyser.query(d.catalog, &query)?;
    if create.columns.len() > found.len() {
        return Err(Error::syntax(
            "CREATE VIEW specifies more column names than columns",
        ));
    }
    let mut columns: Vec<(String, SqlType)> = Vec::with_capacity(found.len());
    for (at, column) in found.into_iter().enumerate() {
        let name = match create.columns.get(at) {
            Some(given) => ident(&given.name),
            None => column.name,
        };
        let sql_type = match column.sql_type {
            SqlType::Unknown => SqlType::Text,
            known => known,
        };
        if columns.iter().any(|(other, _)| *other == name) {
            return Err(Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{name}\" specified more than once"),
            ));
        }
        columns.push((name, sql_type));
    }
    for oid in &depends_on {
        if d.catalog.table(*oid).is_some() {
            d.hold_table(*oid).await?;
        }
    }
    let old = match d.catalog.relation_in(schema.oid, &name) {
        None => None,
        Some(_) if create.if_not_exists => {
            d.notice_of(
                SqlState::DUPLICATE_TABLE,
                format!("relation \"{name}\" already exists, skipping"),
            );
            return Ok("CREATE VIEW");
        }
        Some(_) if !create.or_replace => {
            return Err(store::name_taken(NameKind::Relation, &name));
        }
        Some(Relation::View(old)) => Some(d.lock_view(old.oid).await?),
        Some(_) => return Err(wrong_kind(&name, "a view")),
    };
    let view = match old {
        Some(old) => {
            d.must_own(old.owner, "view", &name)?;
            check_replacement(&old, &columns)?;
            let mut changed = (*old).clone();
            changed.version += 1;
            changed.columns = columns;
            changed.query = query.to_string();
            changed.depends_on = depends_on;
            changed
        }
        None => {
            let oid = d.ids.object_id().await?;
            d.claim_name(NameKind::Relation, schema.oid, &name, oid)
                .await?;
            View {
                oid,
                database: d.database,
                schema: schema.oid,
                name,
                owner: d.owner(),
                version: 1,
                columns,
                query: query.to_string(),
                depends_on,
                comment: None,
            }
        }
    };
    d.put(Descriptor::View(view))?;
    Ok("CREATE VIEW")
}

/// A view may only grow at its end (42P16).
fn check_replacement(old: &View, columns: &[(String, SqlType)]) -> Result<()> {
    let refuse = |message: String| Err(Error::new(SqlState::INVALID_TABLE_DEFINITION, message));
    if columns.len() < old.columns.len() {
        return refuse("cannot drop columns from view".into());
    }
    for ((old_name, old_type), (name, sql_type)) in old.columns.iter().zip(columns) {
        if old_name != name {
            return refuse(format!(
                "cannot change name of view column \"{old_name}\" to \"{name}\""
            ));
        }
        if old_type != sql_type {
            return refuse(format!(
                "cannot change data type of view column \"{name}\" from {} to {}",
                old_type.name(),
                sql_type.name()
            ));
        }
    }
    Ok(())
}

/// Qualifies every relation by its schema, and tells which there are.
struct Binder<'a, 'b> {
    d: &'a DdlContext<'b>,
    /// Names of common table expressions: they hide relations.
    hidden: BTreeSet<String>,
    found: BTreeSet<ObjectId>,
}

impl VisitorMut for Binder<'_, '_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        if let Some(with) = &query.with {
            for table in &with.cte_tables {
                self.hidden.insert(ident(&table.alias.name));
            }
        }
        if let SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) = &*query.body {
            return ControlFlow::Break(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "views must not contain data-modifying statements in WITH",
            ));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<Error> {
        // A table function is not a relation; a relation keeps the name it goes by.
        if let ast::TableFactor::Table {
            name, alias, args, ..
        } = factor
            && args.is_none()
            && alias.is_none()
            && let Some(ObjectNamePart::Identifier(last)) = name.0.last()
            && name.0.len() > 1
        {
            *alias = Some(TableAlias {
                explicit: true,
                name: last.clone(),
                columns: Vec::new(),
                at: None,
            });
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
        let star = |item: &SelectItem| {
            matches!(
                item,
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
            )
        };
        if select.projection.iter().any(star)
            && let Some(sources) = self.sources(&select.from)
        {
            select.projection = std::mem::take(&mut select.projection)
                .into_iter()
                .flat_map(|item| expanded(item, &sources))
                .collect();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Error> {
        let (schema, name) = match object_name(self.d, relation) {
            Ok(found) => found,
            Err(error) => return ControlFlow::Break(error),
        };
        if schema.is_none() && self.hidden.contains(&name) {
            return ControlFlow::Continue(());
        }
        if schema.as_deref().is_some_and(is_built_in_schema) {
            return ControlFlow::Continue(());
        }
        let Some(found) = self.d.resolve(schema.as_deref(), &name) else {
            // A built-in relation, or one that the analyser will miss.
            return ControlFlow::Continue(());
        };
        let in_schema = match &found {
            Relation::Table(table) => table.schema,
            Relation::View(view) => view.schema,
            Relation::Sequence(sequence) => sequence.schema,
            Relation::Index(table, _) => table.schema,
        };
        self.found.insert(found.oid());
        if let Some(schema) = self.d.catalog.schema(in_schema) {
            *relation = ObjectName(vec![quoted(&schema.name), quoted(&name)]);
        }
        ControlFlow::Continue(())
    }
}

fn quoted(name: &str) -> ObjectNamePart {
    ObjectNamePart::Identifier(quoted_ident(name))
}

fn quoted_ident(name: &str) -> Ident {
    if quote_ident(name) == name {
        Ident::new(name)
    } else {
        Ident::with_quote('"', name)
    }
}

/// An item of FROM: the name it goes by, and the columns of a relation that may grow.
struct FromSource {
    name: Ident,
    columns: Option<Vec<Ident>>,
}

impl Binder<'_, '_> {
    /// `None` if `*` means something else than the items' columns one after another.
    fn sources(&self, from: &[ast::TableWithJoins]) -> Option<Vec<FromSource>> {
        let mut sources = Vec::new();
        for item in from {
            sources.push(self.source(&item.relation)?);
            for join in &item.joins {
                if joins_by_name(&join.join_operator) {
                    return None;
                }
                sources.push(self.source(&join.relation)?);
            }
        }
        Some(sources)
    }

    fn source(&self, factor: &ast::TableFactor) -> Option<FromSource> {
        let (name, alias, columns) = match factor {
            ast::TableFactor::Table {
                name, alias, args, ..
            } => {
                let columns = match args {
                    None => self.columns(name),
                    Some(_) => None,
                };
                let last = match name.0.last() {
                    Some(ObjectNamePart::Identifier(last)) => Some(last.clone()),
                    _ => None,
                };
                (last, alias, columns)
            }
            ast::TableFactor::Derived { alias, .. } => (None, alias, None),
            _ => return None,
        };
        let Some(alias) = alias else {
            let name = name?;
            return Some(FromSource { name, columns });
        };
        let columns = columns.map(|mut columns| {
            for (column, given) in columns.iter_mut().zip(&alias.columns) {
                *column = given.name.clone();
            }
            columns
        });
        Some(FromSource {
            name: alias.name.clone(),
            columns,
        })
    }

    /// The columns of a table or view; those of other relations never change.
    fn columns(&self, name: &ObjectName) -> Option<Vec<Ident>> {
        let (schema, name) = object_name(self.d, name).ok()?;
        if schema.is_none() && self.hidden.contains(&name) {
            return None;
        }
        match self.d.resolve(schema.as_deref(), &name)? {
            Relation::Table(table) => Some(
                table
                    .live_columns()
                    .map(|(_, column)| quoted_ident(&column.name))
                    .collect(),
            ),
            Relation::View(view) => Some(
                view.columns
                    .iter()
                    .map(|(name, _)| quoted_ident(name))
                    .collect(),
            ),
            _ => None,
        }
    }
}

/// Joins that show a column of both sides once.
fn joins_by_name(operator: &ast::JoinOperator) -> bool {
    use ast::JoinOperator as J;
    let constraint = match operator {
        J::Join(on)
        | J::Inner(on)
        | J::Left(on)
        | J::LeftOuter(on)
        | J::Right(on)
        | J::RightOuter(on)
        | J::FullOuter(on)
        | J::CrossJoin(on) => on,
        _ => return true,
    };
    !matches!(
        constraint,
        ast::JoinConstraint::On(_) | ast::JoinConstraint::None
    )
}

fn expanded(item: SelectItem, sources: &[FromSource]) -> Vec<SelectItem> {
    match &item {
        SelectItem::Wildcard(_) => sources.iter().flat_map(all_columns).collect(),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            let wanted = match name.0.last() {
                Some(ObjectNamePart::Identifier(last)) => ident(last),
                _ => return vec![item],
            };
            match sources.iter().find(|source| ident(&source.name) == wanted) {
                Some(source) => all_columns(source),
                None => vec![item],
            }
        }
        _ => vec![item],
    }
}

fn all_columns(source: &FromSource) -> Vec<SelectItem> {
    let Some(columns) = &source.columns else {
        let name = ObjectName(vec![ObjectNamePart::Identifier(source.name.clone())]);
        return vec![SelectItem::QualifiedWildcard(
            SelectItemQualifiedWildcardKind::ObjectName(name),
            Default::default(),
        )];
    };
    columns
        .iter()
        .map(|column| {
            let path = vec![source.name.clone(), column.clone()];
            SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(path))
        })
        .collect()
}

fn bind_relations(d: &DdlContext<'_>, query: &Query) -> Result<(Query, Vec<ObjectId>)> {
    let mut bound = query.clone();
    let mut binder = Binder {
        d,
        hidden: BTreeSet::new(),
        found: BTreeSet::new(),
    };
    match VisitMut::visit(&mut bound, &mut binder) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok((bound, binder.found.into_iter().collect())),
    }
}
