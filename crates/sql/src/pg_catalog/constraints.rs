//! Constraints: pg_constraint.

use super::definitions::RowBuilder;
use super::deparse;
use super::relations::database;
use super::value::{bool, character, int2_array, oid, text};
use crate::catalog::Catalog;
use crate::catalog::descriptor::*;
use crate::context::StatementContext;
use types::{Datum, Result, Row};

fn action_code(action: ReferentialAction) -> Datum {
    character(match action {
        ReferentialAction::NoAction => 'a',
        ReferentialAction::Restrict => 'r',
        ReferentialAction::Cascade => 'c',
        ReferentialAction::SetNull => 'n',
        ReferentialAction::SetDefault => 'd',
    })
}

fn numbers(positions: &[usize]) -> Datum {
    int2_array(positions.iter().map(|position| (position + 1) as i16))
}

/// The index that makes a foreign key's referenced columns unique.
pub fn referenced_index(catalog: &Catalog, key: &ForeignKey) -> ObjectId {
    let Some(table) = catalog.table(key.referenced_table) else {
        return 0;
    };
    let same = |columns: &[usize]| {
        columns.len() == key.referenced_columns.len()
            && columns
                .iter()
                .all(|column| key.referenced_columns.contains(column))
    };
    if let Some(primary) = &table.primary_key
        && same(&primary.columns)
    {
        return primary.oid;
    }
    let found = table.indexes.iter().find(|index| {
        let columns: Option<Vec<usize>> = index
            .columns
            .iter()
            .map(|column| match column.key {
                IndexKey::Column(position) => Some(position),
                IndexKey::Expression(..) => None,
            })
            .collect();
        index.unique && index.predicate.is_none() && columns.is_some_and(|columns| same(&columns))
    });
    found.map_or(0, |index| index.oid)
}

pub fn pg_constraint(ctx: &StatementContext) -> Result<Vec<Row>> {
    let mut out = RowBuilder::new("pg_catalog", "pg_constraint")?;
    for table in ctx.catalog.tables(database(ctx)) {
        let mut add = |constraint: ObjectId,
                       name: &str,
                       kind: char,
                       more: &[(&'static str, Datum)]|
         -> Result<()> {
            let mut all = vec![
                ("oid", oid(constraint)),
                ("conname", text(name)),
                ("connamespace", oid(table.schema)),
                ("contype", character(kind)),
                ("conrelid", oid(table.oid)),
                ("convalidated", bool(true)),
                ("conislocal", bool(true)),
                ("connoinherit", bool(kind != 'c')),
                ("confupdtype", character(' ')),
                ("confdeltype", character(' ')),
                ("confmatchtype", character(' ')),
            ];
            all.extend_from_slice(more);
            out.push(&all)
        };
        if let Some(key) = &table.primary_key {
            add(
                key.constraint_oid,
                &key.name,
                'p',
                &[
                    ("conindid", oid(key.oid)),
                    ("conkey", numbers(&key.columns)),
                ],
            )?;
        }
        for index in &table.indexes {
            let Some(constraint) = index.constraint_oid else {
                continue;
            };
            let columns: Vec<usize> = index
                .columns
                .iter()
                .filter_map(|column| match column.key {
                    IndexKey::Column(position) => Some(position),
                    IndexKey::Expression(..) => None,
                })
                .collect();
            add(
                constraint,
                &index.name,
                'u',
                &[("conindid", oid(index.oid)), ("conkey", numbers(&columns))],
            )?;
        }
        for check in &table.checks {
            let used: Vec<usize> = match crate::ddl::parse_expression(&check.expression) {
                Ok(expression) => crate::ddl::columns_used(table, &expression)
                    .into_iter()
                    .collect(),
                Err(_) => Vec::new(),
            };
            add(
                check.oid,
                &check.name,
                'c',
                &[
                    ("convalidated", bool(!check.not_valid)),
                    ("conkey", numbers(&used)),
                    ("conbin", text(&deparse::parenthesised(&check.expression))),
                ],
            )?;
        }
        for key in &table.foreign_keys {
            add(
                key.oid,
                &key.name,
                'f',
                &[
                    ("condeferrable", bool(key.deferrable)),
                    ("condeferred", bool(key.initially_deferred)),
                    ("convalidated", bool(!key.not_valid)),
                    ("conindid", oid(referenced_index(&ctx.catalog, key))),
                    ("confrelid", oid(key.referenced_table)),
                    ("confupdtype", action_code(key.on_update)),
                    ("confdeltype", action_code(key.on_delete)),
                    (
                        "confmatchtype",
                        character(if key.match_full { 'f' } else { 's' }),
                    ),
                    ("conkey", numbers(&key.columns)),
                    ("confkey", numbers(&key.referenced_columns)),
                ],
            )?;
        }
    }
    Ok(out.rows)
}
