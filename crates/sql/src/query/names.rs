//! The names PostgreSQL gives to output columns that have no alias, and identifiers.

use sqlparser::ast;

/// An identifier as the catalog knows it: folded to lower case unless quoted.
pub fn fold(identifier: &ast::Ident) -> String {
    match identifier.quote_style {
        Some(_) => identifier.value.clone(),
        None => identifier.value.to_lowercase(),
    }
}

/// The parts of a dotted name, folded.
pub fn object_name(name: &ast::ObjectName) -> Vec<String> {
    name.0
        .iter()
        .map(|part| match part {
            ast::ObjectNamePart::Identifier(identifier) => fold(identifier),
            other => other.to_string().to_lowercase(),
        })
        .collect()
}

const ANONYMOUS: &str = "?column?";

/// The name of an unaliased select item.
pub fn output_name(expr: &ast::Expr) -> String {
    figure(expr).0.unwrap_or_else(|| ANONYMOUS.into())
}

/// A name and how good it is: 0 none, 1 of a type, 2 of a column or function.
fn figure(expr: &ast::Expr) -> (Option<String>, u8) {
    use ast::Expr;
    let strong = |name: &str| (Some(name.to_string()), 2);
    match expr {
        Expr::Identifier(identifier) => (Some(fold(identifier)), 2),
        Expr::CompoundIdentifier(parts) => (parts.last().map(fold), 2),
        Expr::CompoundFieldAccess { root, access_chain } => {
            for access in access_chain.iter().rev() {
                if let ast::AccessExpr::Dot(Expr::Identifier(identifier)) = access {
                    return (Some(fold(identifier)), 2);
                }
            }
            figure(root)
        }
        Expr::Function(function) => (object_name(&function.name).pop(), 2),
        Expr::Nested(inner) => figure(inner),
        Expr::Collate { expr, .. } => figure(expr),
        Expr::Cast {
            expr, data_type, ..
        } => {
            let inner = figure(expr);
            if inner.1 < 2 {
                match super::type_names::sql_type(data_type) {
                    Ok(ty) => (Some(type_label(&ty)), 1),
                    Err(_) => inner,
                }
            } else {
                inner
            }
        }
        Expr::TypedString(typed) => match super::type_names::sql_type(&typed.data_type) {
            Ok(ty) => (Some(type_label(&ty)), 1),
            Err(_) => (None, 0),
        },
        Expr::Interval(_) => (Some("interval".into()), 1),
        Expr::Value(value) => match &value.value {
            ast::Value::Boolean(_) => (Some("bool".into()), 1),
            _ => (None, 0),
        },
        Expr::Case { else_result, .. } => {
            let inner = else_result
                .as_ref()
                .map_or((None, 0), |result| figure(result));
            if inner.1 < 2 {
                (Some("case".into()), 1)
            } else {
                inner
            }
        }
        Expr::Array(_) => strong("array"),
        Expr::Exists { negated: false, .. } => strong("exists"),
        Expr::Subquery(query) => subquery_name(query),
        Expr::Extract { .. } => strong("extract"),
        Expr::Substring { shorthand, .. } => {
            strong(if *shorthand { "substr" } else { "substring" })
        }
        Expr::Position { .. } => strong("position"),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        Expr::Tuple(_) => strong("row"),
        _ => (None, 0),
    }
}

fn type_label(ty: &types::SqlType) -> String {
    match ty {
        types::SqlType::Array(element) => type_label(element),
        other => other.internal_name(),
    }
}

fn subquery_name(query: &ast::Query) -> (Option<String>, u8) {
    if let ast::SetExpr::Select(select) = query.body.as_ref() {
        match select.projection.first() {
            Some(ast::SelectItem::ExprWithAlias { alias, .. }) => return (Some(fold(alias)), 2),
            Some(ast::SelectItem::UnnamedExpr(expr)) => return figure(expr),
            _ => {}
        }
    }
    (None, 0)
}
