//! The select list: items, stars, and where a plain column comes from.

use super::binder::{Binder, unnested};
use super::expressions::Site;
use super::names::{fold, object_name, output_name};
use super::scope::{Scope, Typed};
use datafusion::logical_expr::Expr;
use sqlparser::ast;
use types::{Error, Result, SqlState};

/// Most items of a select list: PostgreSQL's number (`MaxTupleAttributeNumber`). Work on a plan grows
/// faster than its columns.
const MAX_SELECT_ITEMS: usize = 1664;

/// One select item, bound.
pub(super) struct Item {
    pub value: Typed,
    pub name: String,
    pub table: u32,
    pub attribute: i16,
    pub declared_modifier: bool,
}

impl Binder<'_> {
    pub(super) fn items(
        &mut self,
        projection: &[ast::SelectItem],
        scope: &Scope<'_>,
    ) -> Result<Vec<Item>> {
        let site = Site {
            scope,
            clause: "SELECT",
            aggregates: true,
            windows: true,
            sets: true,
        };
        let mut items = Vec::new();
        for item in projection {
            match item {
                ast::SelectItem::UnnamedExpr(expr) => {
                    let name = output_name(expr);
                    items.push(self.item(expr, name, &site)?);
                }
                ast::SelectItem::ExprWithAlias { expr, alias } => {
                    items.push(self.item(expr, fold(alias), &site)?);
                }
                ast::SelectItem::Wildcard(options) => {
                    refuse_wildcard_options(options)?;
                    if scope.relations.is_empty() {
                        return Err(Error::syntax(
                            "SELECT * with no tables specified is not valid",
                        ));
                    }
                    items.extend(scope.visible.iter().map(item_of));
                }
                ast::SelectItem::QualifiedWildcard(kind, options) => {
                    refuse_wildcard_options(options)?;
                    let ast::SelectItemQualifiedWildcardKind::ObjectName(name) = kind else {
                        return Err(Error::unsupported("expansion of a composite value"));
                    };
                    let names = object_name(name);
                    let (schema, relation) = match names.as_slice() {
                        [relation] => (None, relation),
                        [schema, relation] => (Some(schema.as_str()), relation),
                        _ => return Err(Error::syntax("improper qualified name")),
                    };
                    let mut level = Some(scope);
                    let mut found = None;
                    if let Some(scope) = level.take() {
                        found = scope.find_relation(schema, relation);
                    }
                    let found = found.ok_or_else(|| {
                        Error::new(
                            SqlState::UNDEFINED_TABLE,
                            format!(
                                "missing FROM-clause entry for table \"{}\"",
                                names.join(".")
                            ),
                        )
                    })?;
                    items.extend(found.columns.iter().map(item_of));
                }
                other => return Err(Error::unsupported(format!("the select item {other}"))),
            }
            if items.len() > MAX_SELECT_ITEMS {
                return Err(Error::new(
                    SqlState::TOO_MANY_COLUMNS,
                    format!("target lists can have at most {MAX_SELECT_ITEMS} entries"),
                ));
            }
        }
        Ok(items)
    }

    fn item(&mut self, expr: &ast::Expr, name: String, site: &Site<'_>) -> Result<Item> {
        let value = self.expr(expr, site)?;
        // A plain column brings its origin along.
        let origin = match &value.expr {
            Expr::Column(_) => site
                .scope
                .relations
                .iter()
                .flat_map(|r| &r.columns)
                .find(|v| v.value.expr == value.expr)
                .map(|v| (v.table, v.attribute)),
            _ => None,
        };
        let declared_modifier = matches!(unnested(expr), ast::Expr::Cast { .. })
            || matches!(&value.expr, Expr::Column(_));
        let (table, attribute) = origin.unwrap_or((0, 0));
        Ok(Item {
            value,
            name,
            table,
            attribute,
            declared_modifier,
        })
    }
}

fn item_of(visible: &super::scope::Visible) -> Item {
    Item {
        value: visible.value.clone(),
        name: visible.name.clone(),
        table: visible.table,
        attribute: visible.attribute,
        declared_modifier: true,
    }
}

fn refuse_wildcard_options(options: &ast::WildcardAdditionalOptions) -> Result<()> {
    if options.opt_ilike.is_some()
        || options.opt_exclude.is_some()
        || options.opt_except.is_some()
        || options.opt_replace.is_some()
        || options.opt_rename.is_some()
    {
        return Err(Error::syntax("syntax error after \"*\""));
    }
    Ok(())
}
