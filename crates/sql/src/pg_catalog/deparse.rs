//! Definitions as SQL text: what `pg_get_indexdef`, `pg_get_constraintdef` and their like show.

use crate::catalog::Catalog;
use crate::catalog::descriptor::*;
use crate::context::ExprSettings;
use crate::ddl::quote_ident;
use sqlparser::ast::{Expr, Value};
use types::SqlType;

fn names(table: &Table, positions: &[usize]) -> String {
    let names: Vec<String> = positions
        .iter()
        .filter_map(|position| table.columns.get(*position))
        .map(|column| quote_ident(&column.name))
        .collect();
    names.join(", ")
}

/// An expression in parentheses where PostgreSQL shows them: around operators.
pub fn parenthesised(text: &str) -> String {
    match crate::ddl::parse_expression(text) {
        Ok(
            Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::Function(_)
            | Expr::Value(_)
            | Expr::Nested(_),
        )
        | Err(_) => text.to_string(),
        Ok(_) => format!("({text})"),
    }
}

/// A DEFAULT as `pg_get_expr` shows it: sequences by name, string constants with their type.
pub fn default_text(
    catalog: &Catalog,
    settings: &ExprSettings,
    text: &str,
    sql_type: &SqlType,
) -> String {
    match crate::ddl::parse_expression(text) {
        Ok(Expr::Value(value)) => match &value.value {
            Value::SingleQuotedString(_) => {
                format!("{text}::{}", sql_type.without_typmod().name())
            }
            Value::Boolean(flag) => flag.to_string(),
            _ => text.to_string(),
        },
        Ok(expression @ Expr::Function(_)) => name_sequences(catalog, settings, expression),
        Ok(Expr::BinaryOp { .. }) => format!("({text})"),
        _ => text.to_string(),
    }
}

/// `nextval('16400'::regclass)` with the sequence's name.
fn name_sequences(catalog: &Catalog, settings: &ExprSettings, mut expression: Expr) -> String {
    use sqlparser::ast::visit_expressions_mut;
    use std::ops::ControlFlow;
    let _ = visit_expressions_mut(&mut expression, |part| {
        if let Expr::Value(value) = part
            && let Value::SingleQuotedString(text) = &mut value.value
            && let Ok(oid) = text.parse::<ObjectId>()
            && let Some(sequence) = catalog.sequence(oid)
        {
            *text = shown_name(
                catalog,
                settings,
                sequence.database,
                sequence.schema,
                &sequence.name,
                oid,
            );
        }
        ControlFlow::<()>::Continue(())
    });
    let text = expression.to_string();
    text.replace("::REGCLASS", "::regclass")
}

/// A relation's name, with its schema if the search path does not find it.
pub fn shown_name(
    catalog: &Catalog,
    settings: &ExprSettings,
    database: ObjectId,
    schema: ObjectId,
    name: &str,
    oid: ObjectId,
) -> String {
    let visible = catalog
        .resolve(database, &settings.search_path, None, name)
        .is_some_and(|found| found.oid() == oid);
    if visible {
        return quote_ident(name);
    }
    match catalog.schema(schema) {
        Some(schema) => format!("{}.{}", quote_ident(&schema.name), quote_ident(name)),
        None => quote_ident(name),
    }
}

/// One key column of an index: its name, or its expression.
pub fn index_column(table: &Table, column: &IndexColumn) -> String {
    match &column.key {
        IndexKey::Column(position) => names(table, &[*position]),
        IndexKey::Expression(text, _) => parenthesised(text),
    }
}

fn index_order(column: &IndexColumn) -> &'static str {
    match (column.descending, column.nulls_first) {
        (false, false) => "",
        (false, true) => " NULLS FIRST",
        (true, true) => " DESC",
        (true, false) => " DESC NULLS LAST",
    }
}

/// `CREATE INDEX …` for any index of the table, the primary key's included.
pub fn index_definition(catalog: &Catalog, table: &Table, oid: ObjectId) -> Option<String> {
    let schema = catalog
        .schema(table.schema)
        .map(|schema| format!("{}.", quote_ident(&schema.name)))
        .unwrap_or_default();
    let on = format!("{schema}{}", quote_ident(&table.name));
    if let Some(key) = table.primary_key.as_ref().filter(|key| key.oid == oid) {
        return Some(format!(
            "CREATE UNIQUE INDEX {} ON {on} USING btree ({})",
            quote_ident(&key.name),
            names(table, &key.columns)
        ));
    }
    let index = table.indexes.iter().find(|index| index.oid == oid)?;
    let columns: Vec<String> = index
        .columns
        .iter()
        .map(|column| {
            let key = match &column.key {
                // An expression that is no function call stands in parentheses of its own.
                IndexKey::Expression(text, _) => match crate::ddl::parse_expression(text) {
                    Ok(Expr::Function(_)) => text.clone(),
                    _ => format!("({text})"),
                },
                IndexKey::Column(_) => index_column(table, column),
            };
            format!("{key}{}", index_order(column))
        })
        .collect();
    let mut out = format!(
        "CREATE {}INDEX {} ON {on} USING {} ({})",
        if index.unique { "UNIQUE " } else { "" },
        quote_ident(&index.name),
        index.method,
        columns.join(", ")
    );
    if !index.include.is_empty() {
        out.push_str(&format!(" INCLUDE ({})", names(table, &index.include)));
    }
    if index.nulls_not_distinct {
        out.push_str(" NULLS NOT DISTINCT");
    }
    if let Some(predicate) = &index.predicate {
        out.push_str(&format!(" WHERE {}", parenthesised(predicate)));
    }
    Some(out)
}

fn action(action: ReferentialAction) -> &'static str {
    match action {
        ReferentialAction::NoAction => "NO ACTION",
        ReferentialAction::Restrict => "RESTRICT",
        ReferentialAction::Cascade => "CASCADE",
        ReferentialAction::SetNull => "SET NULL",
        ReferentialAction::SetDefault => "SET DEFAULT",
    }
}

/// The constraint with this object id, as in `ALTER TABLE … ADD CONSTRAINT`.
pub fn constraint_definition(
    catalog: &Catalog,
    settings: &ExprSettings,
    table: &Table,
    oid: ObjectId,
) -> Option<String> {
    if let Some(key) = &table.primary_key
        && key.constraint_oid == oid
    {
        return Some(format!("PRIMARY KEY ({})", names(table, &key.columns)));
    }
    if let Some(index) = table
        .indexes
        .iter()
        .find(|index| index.constraint_oid == Some(oid))
    {
        let columns: Vec<String> = index
            .columns
            .iter()
            .map(|column| index_column(table, column))
            .collect();
        let distinct = if index.nulls_not_distinct {
            " NULLS NOT DISTINCT"
        } else {
            ""
        };
        return Some(format!("UNIQUE{distinct} ({})", columns.join(", ")));
    }
    if let Some(check) = table.checks.iter().find(|check| check.oid == oid) {
        return Some(format!(
            "CHECK ({}){}",
            parenthesised(&check.expression),
            if check.not_valid { " NOT VALID" } else { "" }
        ));
    }
    let key = table.foreign_keys.iter().find(|key| key.oid == oid)?;
    let referenced = catalog.table(key.referenced_table)?;
    let mut out = format!(
        "FOREIGN KEY ({}) REFERENCES {}({})",
        names(table, &key.columns),
        shown_name(
            catalog,
            settings,
            referenced.database,
            referenced.schema,
            &referenced.name,
            referenced.oid
        ),
        names(referenced, &key.referenced_columns)
    );
    if key.match_full {
        out.push_str(" MATCH FULL");
    }
    if key.on_update != ReferentialAction::NoAction {
        out.push_str(&format!(" ON UPDATE {}", action(key.on_update)));
    }
    if key.on_delete != ReferentialAction::NoAction {
        out.push_str(&format!(" ON DELETE {}", action(key.on_delete)));
    }
    if key.deferrable {
        out.push_str(" DEFERRABLE");
    }
    if key.initially_deferred {
        out.push_str(" INITIALLY DEFERRED");
    }
    if key.not_valid {
        out.push_str(" NOT VALID");
    }
    Some(out)
}

/// The table whose constraint has this object id.
pub fn table_of_constraint(
    catalog: &Catalog,
    database: ObjectId,
    oid: ObjectId,
) -> Option<&std::sync::Arc<Table>> {
    catalog.tables(database).find(|table| {
        table
            .primary_key
            .as_ref()
            .is_some_and(|key| key.constraint_oid == oid)
            || table
                .indexes
                .iter()
                .any(|index| index.constraint_oid == Some(oid))
            || table.checks.iter().any(|check| check.oid == oid)
            || table.foreign_keys.iter().any(|key| key.oid == oid)
    })
}
