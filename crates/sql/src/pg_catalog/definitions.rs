//! Which virtual tables there are, and their columns.
//!
//! `data/columns.txt` has a line for each relation of PostgreSQL 15's `pg_catalog` and
//! `information_schema`: schema, name, object id, kind, and its columns as `name!type` (not null) or
//! `name?type`. Types that are not here yet stand as the nearest one that is (`pg_node_tree` as text,
//! `xid` as oid, domains of the information schema as their base types). Relations that nothing is
//! said about in [`super`] have no rows. `data/*.tsv` are the rows of catalogs that never change, in COPY
//! text format.

use super::{VirtualTable, VirtualTables};
use crate::context::StatementContext;
use rustc_hash::FxHashMap;
use std::sync::{Arc, OnceLock};
use types::text::FormatContext;
use types::{Array, Datum, Error, Result, Row, SqlType};

const COLUMNS: &str = include_str!("data/columns.txt");

/// One relation's shape.
pub struct Definition {
    pub schema: &'static str,
    pub name: &'static str,
    pub oid: u32,
    /// `r` or `v`, as `pg_class.relkind`.
    pub kind: char,
    pub columns: Vec<ColumnDefinition>,
    places: FxHashMap<&'static str, usize>,
}

pub struct ColumnDefinition {
    pub name: &'static str,
    pub sql_type: SqlType,
    pub not_null: bool,
}

/// All of them, in the order of schema and name.
pub fn definitions() -> &'static [Definition] {
    static ALL: OnceLock<Vec<Definition>> = OnceLock::new();
    ALL.get_or_init(|| COLUMNS.lines().filter_map(parse_line).collect())
}

pub fn definition(schema: &str, name: &str) -> Option<&'static Definition> {
    let all = definitions();
    all.iter()
        .find(|found| found.name == name && found.schema == schema)
}

pub fn definition_by_oid(oid: u32) -> Option<&'static Definition> {
    definitions().iter().find(|found| found.oid == oid)
}

fn parse_line(line: &'static str) -> Option<Definition> {
    let mut words = line.split(' ');
    let schema = words.next()?;
    let name = words.next()?;
    let oid = words.next()?.parse().ok()?;
    let kind = words.next()?.chars().next()?;
    let mut columns = Vec::new();
    for word in words {
        let at = word.find(['!', '?'])?;
        columns.push(ColumnDefinition {
            name: &word[..at],
            sql_type: SqlType::parse(&word[at + 1..]).ok()?,
            not_null: word.as_bytes()[at] == b'!',
        });
    }
    let places = columns
        .iter()
        .enumerate()
        .map(|(place, column)| (column.name, place))
        .collect();
    Some(Definition {
        schema,
        name,
        oid,
        kind,
        columns,
        places,
    })
}

/// Makes rows of one relation from named values. What is not named is NULL, or the zero of a column
/// that is never NULL.
pub struct RowBuilder {
    definition: &'static Definition,
    blank: Row,
    pub rows: Vec<Row>,
}

impl RowBuilder {
    pub fn new(schema: &str, name: &str) -> Result<Self> {
        let definition = definition(schema, name)
            .ok_or_else(|| Error::internal(format!("no columns are known of {schema}.{name}")))?;
        let blank = definition.columns.iter().map(blank).collect();
        Ok(RowBuilder {
            definition,
            blank,
            rows: Vec::new(),
        })
    }

    pub fn push(&mut self, values: &[(&str, Datum)]) -> Result<()> {
        let mut row = self.blank.clone();
        for (name, value) in values {
            let place = self.definition.places.get(name).ok_or_else(|| {
                Error::internal(format!("{} has no column {name}", self.definition.name))
            })?;
            row[*place] = value.clone();
        }
        self.rows.push(row);
        Ok(())
    }
}

fn blank(column: &ColumnDefinition) -> Datum {
    if !column.not_null {
        return Datum::Null;
    }
    match &column.sql_type {
        SqlType::Bool => Datum::Bool(false),
        SqlType::Int2 => Datum::Int2(0),
        SqlType::Int4 => Datum::Int4(0),
        SqlType::Int8 => Datum::Int8(0),
        SqlType::Float4 => Datum::Float4(0.0),
        t if t.is_oid() => Datum::Oid(0),
        t if t.is_string() => Datum::Text("".into()),
        t => match t.element_type() {
            Some(element) => Datum::Array(Arc::new(Array::from_elements(element, Vec::new()))),
            None => Datum::Null,
        },
    }
}

/// Reads the rows of a catalog that never changes.
pub fn read_rows(name: &str, text: &str) -> Result<Vec<Row>> {
    let definition = definition("pg_catalog", name)
        .ok_or_else(|| Error::internal(format!("no columns are known of {name}")))?;
    let format = FormatContext::default();
    let mut rows = Vec::new();
    for line in text.lines() {
        let mut row = Row::with_capacity(definition.columns.len());
        for (field, column) in line.split('\t').zip(&definition.columns) {
            row.push(match field {
                "\\N" => Datum::Null,
                text => Datum::parse_text(text, &column.sql_type, &format)?,
            });
        }
        if row.len() != definition.columns.len() {
            return Err(Error::internal(format!("a row of {name} is too short")));
        }
        rows.push(row);
    }
    Ok(rows)
}

macro_rules! fixed_tables {
    ($($name:ident)*) => {
        $(
            /// Rows that never change, read once.
            pub fn $name(_: &StatementContext) -> Result<Vec<Row>> {
                static ROWS: OnceLock<Result<Vec<Row>>> = OnceLock::new();
                ROWS.get_or_init(|| {
                    let text = include_str!(concat!("data/", stringify!($name), ".tsv"));
                    read_rows(stringify!($name), text)
                })
                .clone()
            }
        )*

        /// The tables whose rows never change.
        const FIXED: &[(&str, RowsFunction)] = &[$((stringify!($name), $name)),*];
    };
}

pub type RowsFunction = fn(&StatementContext) -> Result<Vec<Row>>;

fixed_tables! {
    pg_am pg_cast pg_collation pg_language pg_opclass pg_operator pg_opfamily pg_proc pg_tablespace
    pg_type
}

fn no_rows(_: &StatementContext) -> Result<Vec<Row>> {
    Ok(Vec::new())
}

/// Puts all relations together.
pub fn build(computed: &[(&str, &str, RowsFunction)]) -> VirtualTables {
    let mut tables = VirtualTables::default();
    for definition in definitions() {
        let fixed = FIXED
            .iter()
            .find(|(name, _)| definition.schema == "pg_catalog" && *name == definition.name)
            .map(|(_, rows)| *rows);
        let computed = computed
            .iter()
            .find(|(schema, name, _)| *schema == definition.schema && *name == definition.name)
            .map(|(_, _, rows)| *rows);
        tables.add(VirtualTable {
            oid: definition.oid,
            schema: definition.schema,
            name: definition.name,
            columns: definition
                .columns
                .iter()
                .map(|column| (column.name, column.sql_type.clone()))
                .collect(),
            rows: computed.or(fixed).unwrap_or(no_rows),
        });
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_and_row_is_readable() {
        assert_eq!(definitions().len(), COLUMNS.lines().count());
        for (name, text) in [
            ("pg_am", include_str!("data/pg_am.tsv")),
            ("pg_cast", include_str!("data/pg_cast.tsv")),
            ("pg_collation", include_str!("data/pg_collation.tsv")),
            ("pg_language", include_str!("data/pg_language.tsv")),
            ("pg_opclass", include_str!("data/pg_opclass.tsv")),
            ("pg_operator", include_str!("data/pg_operator.tsv")),
            ("pg_opfamily", include_str!("data/pg_opfamily.tsv")),
            ("pg_proc", include_str!("data/pg_proc.tsv")),
            ("pg_tablespace", include_str!("data/pg_tablespace.tsv")),
            ("pg_type", include_str!("data/pg_type.tsv")),
        ] {
            let rows = read_rows(name, text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(rows.len(), text.lines().count(), "{name}");
        }
    }

    #[test]
    fn the_types_agree_with_the_code() {
        let rows = read_rows("pg_type", include_str!("data/pg_type.tsv")).unwrap();
        for base in &types::sql_type::BASE_TYPES {
            let row = rows.iter().find(|row| row[0] == Datum::Oid(base.oid()));
            let row = row.unwrap_or_else(|| panic!("{base} is not in pg_type"));
            assert_eq!(row[1], Datum::Text(base.internal_name().into()));
        }
    }
}
