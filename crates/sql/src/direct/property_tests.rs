//! Two roads, one semantics: random queries give the same rows on both, however the rows are spread over shards.

use crate::catalog::descriptor::{Index, IndexColumn, IndexKey, Table};
use crate::catalog::sharding::{ShardGroup, Sharding};
use crate::test_world::World;
use proptest::prelude::*;
use std::cell::Cell;
use std::cmp::Ordering;
use types::{Datum, Result, Row, SqlType};

/// Queries tried in each run.
const CASES: u32 = 200;
/// Of those, how many must have had a direct form for the test to mean something.
const DIRECT_AT_LEAST: u32 = 100;

/// A small generator (splitmix64): one seed makes a whole case.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'t>(&mut self, choices: &[&'t str]) -> &'t str {
        choices[self.below(choices.len())]
    }
}

struct Case {
    dice: Dice,
    columns: Vec<(String, SqlType)>,
    key: usize,
}

/// How many of the types may be of key columns: the first ones.
const KEY_TYPES: usize = 8;

fn types() -> Vec<SqlType> {
    vec![
        SqlType::Int4,
        SqlType::Int8,
        SqlType::Int2,
        SqlType::Text,
        SqlType::Varchar(Some(8)),
        SqlType::Numeric(Some((8, 2))),
        SqlType::Numeric(None),
        SqlType::Interval,
        SqlType::Float8,
        SqlType::Bool,
        SqlType::Date,
        SqlType::Timestamp,
    ]
}

impl Case {
    fn new(seed: u64) -> Case {
        let mut dice = Dice(seed);
        let key = 1 + dice.below(2);
        let all = types();
        let mut columns = Vec::new();
        for number in 0..key + 2 + dice.below(4) {
            let sql_type = if number < key {
                all[dice.below(KEY_TYPES)].clone()
            } else {
                all[dice.below(all.len())].clone()
            };
            columns.push((format!("c{number}"), sql_type));
        }
        Case { dice, columns, key }
    }

    fn literal(&mut self, sql_type: &SqlType) -> String {
        let small = self.dice.below(12) as i64 - 4;
        match sql_type {
            SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => small.to_string(),
            SqlType::Numeric(None) if self.dice.one_in(6) => {
                let unusual = ["NaN", "Infinity", "-Infinity", "1e40", "0.000", "-7e-30"];
                format!("'{}'", self.dice.of(&unusual))
            }
            SqlType::Numeric(_) => format!("{small}.{}", self.dice.of(&["0", "25", "50", "5"])),
            SqlType::Interval => {
                let alike = ["1 day", "24:00", "1 mon", "30 days", "-1 day", "0", "25:00"];
                format!("'{}'", self.dice.of(&alike))
            }
            SqlType::Float8 => {
                let floats = ["-1.5", "0", "-0", "NaN", "2.5", "3", "1e3"];
                format!("'{}'", self.dice.of(&floats))
            }
            SqlType::Bool => self.dice.of(&["true", "false"]).to_string(),
            SqlType::Date => format!("'2024-02-{:02}'", 20 + self.dice.below(10)),
            SqlType::Timestamp => format!("'2024-02-28 {:02}:00:00'", self.dice.below(24)),
            _ => format!("'{}'", self.dice.of(&["a", "ab", "b", "ba", "", "a%", "ü"])),
        }
    }

    fn column(&mut self) -> (String, SqlType) {
        let number = self.dice.below(self.columns.len());
        self.columns[number].clone()
    }

    fn condition(&mut self, depth: usize) -> String {
        if depth > 0 && self.dice.one_in(4) {
            let (left, right) = (self.condition(depth - 1), self.condition(depth - 1));
            let operator = self.dice.of(&["AND", "OR"]);
            return format!("({left} {operator} {right})");
        }
        if depth > 0 && self.dice.one_in(8) {
            return format!("NOT ({})", self.condition(depth - 1));
        }
        let (name, sql_type) = self.column();
        let (a, b) = (self.literal(&sql_type), self.literal(&sql_type));
        match self.dice.below(8) {
            0 => format!("{name} IS NULL"),
            1 => format!("{name} IS NOT NULL"),
            2 => format!("{name} BETWEEN {a} AND {b}"),
            3 => format!("{name} IN ({a}, {b})"),
            4 => format!("{name} IS DISTINCT FROM {a}"),
            5 if sql_type == SqlType::Text => format!("{name} LIKE 'a%'"),
            _ => {
                let operator = self.dice.of(&["=", "=", "<", "<=", ">", ">=", "<>"]);
                if self.dice.one_in(5) {
                    format!("{a} {operator} {name}")
                } else {
                    format!("{name} {operator} {a}")
                }
            }
        }
    }

    fn key_condition(&mut self) -> String {
        let mut terms = Vec::new();
        for number in 0..self.key {
            let (name, sql_type) = self.columns[number].clone();
            let (a, b) = (self.literal(&sql_type), self.literal(&sql_type));
            match self.dice.below(6) {
                0 | 1 => terms.push(format!("{name} = {a}")),
                2 => {
                    terms.push(format!("{name} BETWEEN {a} AND {b}"));
                    break;
                }
                3 => {
                    terms.push(format!("{name} > {a} AND {name} <= {b}"));
                    break;
                }
                4 => {
                    terms.push(format!("{name} IN ({a}, {b}, {a})"));
                    break;
                }
                _ => {
                    terms.push(format!("{name} >= {a}"));
                    break;
                }
            }
        }
        terms.join(" AND ")
    }

    fn item(&mut self) -> String {
        let (name, sql_type) = self.column();
        let literal = self.literal(&sql_type);
        match self.dice.below(8) {
            0 if sql_type.is_integer() => format!("{name} + 3"),
            1 if sql_type.is_integer() => format!("{name} * {name} - 1"),
            2 if sql_type.is_string() => format!("{name} || 'z'"),
            0 | 1 if matches!(sql_type, SqlType::Numeric(_)) => {
                let forms = [
                    "X + 1.5",
                    "X * X - 1",
                    "X / 3",
                    "-X",
                    "round(X, 1)",
                    "X % 2",
                ];
                self.dice.of(&forms).replace('X', &name)
            }
            0 | 1 if sql_type == SqlType::Interval => {
                let forms = ["X + '1 day'", "X * 2", "-X", "X - '24:00'"];
                self.dice.of(&forms).replace('X', &name)
            }
            3 => format!("{name} IS NULL"),
            4 => format!("COALESCE({name}, {literal})"),
            5 => {
                let condition = self.condition(1);
                format!("CASE WHEN {condition} THEN {name} ELSE {literal} END")
            }
            6 => format!("({})", self.condition(1)),
            _ => name,
        }
    }

    fn insert(&mut self, table: &str) -> String {
        let mut rows = Vec::new();
        for _ in 0..2 + self.dice.below(30) {
            let mut values = Vec::new();
            for number in 0..self.columns.len() {
                let sql_type = self.columns[number].1.clone();
                if number >= self.key && self.dice.one_in(4) {
                    values.push("NULL".to_string());
                } else {
                    values.push(self.literal(&sql_type));
                }
            }
            rows.push(format!("({})", values.join(", ")));
        }
        format!(
            "INSERT INTO {table} VALUES {} ON CONFLICT DO NOTHING",
            rows.join(", ")
        )
    }

    /// `min` or `max` of a column: the road by an index and the one over all rows.
    fn extreme(&mut self, table: &str) -> String {
        let function = self.dice.of(&["min", "max"]);
        let (name, sql_type) = self.column();
        let argument = match sql_type {
            SqlType::Bool => format!("CAST({name} AS int)"),
            _ => name,
        };
        let condition = match self.dice.below(3) {
            0 => String::new(),
            1 => format!(" WHERE {}", self.key_condition()),
            _ => format!(" WHERE {}", self.condition(1)),
        };
        format!("SELECT {function}({argument}) FROM {table}{condition}")
    }

    /// A query, and whether its order is total.
    fn query(&mut self, table: &str) -> (String, bool) {
        if self.dice.one_in(5) {
            return (self.extreme(table), true);
        }
        let mut items = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            items.push(self.item());
        }
        // One row of aggregates is in order however it is made.
        let aggregates = self.dice.one_in(6);
        if aggregates {
            let (name, sql_type) = self.column();
            items = vec![format!("count({name})"), "count(*)".to_string()];
            if matches!(sql_type, SqlType::Numeric(_)) || sql_type.is_integer() {
                items.push(format!("sum({name}), min({name}), max({name})"));
            }
        }
        let mut sql = format!("SELECT {} FROM {table}", items.join(", "));
        let mut terms = Vec::new();
        if !self.dice.one_in(4) {
            terms.push(self.key_condition());
        }
        if self.dice.one_in(2) || terms.is_empty() {
            terms.push(self.condition(2));
        }
        sql.push_str(&format!(" WHERE {}", terms.join(" AND ")));
        if aggregates {
            return (sql, true);
        }
        let ordered = self.dice.one_in(2);
        if ordered {
            let direction = self.dice.of(&["", " DESC"]);
            let mut keys: Vec<String> = (0..self.key).map(|n| format!("c{n}{direction}")).collect();
            if self.dice.one_in(3) {
                let direction = self
                    .dice
                    .of(&["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]);
                let (name, _) = self.column();
                keys.insert(0, format!("{name}{direction}"));
            }
            sql.push_str(&format!(" ORDER BY {}", keys.join(", ")));
            if self.dice.one_in(2) {
                sql.push_str(&format!(" LIMIT {}", self.dice.below(6)));
                if self.dice.one_in(3) {
                    sql.push_str(&format!(" OFFSET {}", self.dice.below(4)));
                }
            }
        }
        (sql, ordered)
    }
}

impl Case {
    /// Some way to put rows in buckets.
    fn sharding(&mut self) -> Sharding {
        let all: Vec<usize> = (0..self.key).collect();
        let columns = match self.dice.below(3) {
            0 => vec![self.dice.below(self.key)],
            _ => all,
        };
        let buckets = 1 + self.dice.below(6) as u16;
        match self.dice.below(3) {
            0 => Sharding::Hash { columns, buckets },
            1 => Sharding::Consistent { columns, buckets },
            _ => {
                let column = columns[0];
                let sql_type = self.columns[column].1.clone();
                let values = (0..3).map(|_| self.literal(&sql_type));
                let values = values.map(|text| text.trim_matches('\'').to_string());
                Sharding::Directory {
                    column,
                    groups: vec![ShardGroup {
                        name: "some".into(),
                        values: values.collect(),
                    }],
                }
            }
        }
    }
}

fn add_index(table: &mut Table, column: usize, descending: bool, nulls_first: bool) {
    table.indexes.push(Index {
        oid: table.oid + 500_000,
        id: 2,
        name: format!("{}_idx", table.name),
        columns: vec![IndexColumn {
            key: IndexKey::Column(column),
            descending,
            nulls_first,
        }],
        unique: false,
        nulls_not_distinct: false,
        constraint_oid: None,
        predicate: None,
        method: "btree".into(),
        include: Vec::new(),
        comment: None,
    });
}

fn compare_rows(a: &Row, b: &Row) -> Ordering {
    let mut pairs = a.iter().zip(b);
    let decided = pairs.find_map(|(a, b)| Some(a.compare(b)).filter(|o| *o != Ordering::Equal));
    decided.unwrap_or(Ordering::Equal)
}

/// A row as a client would see it: scales of numerics and units of intervals count.
fn shown(row: &Row) -> Vec<String> {
    row.iter()
        .map(|datum| match datum {
            Datum::Numeric(value) => value.to_string(),
            Datum::Interval(value) => value.to_string(),
            other => format!("{other:?}"),
        })
        .collect()
}

fn same_rows(sql: &str, mut a: Vec<Row>, mut b: Vec<Row>, ordered: bool) -> bool {
    if !ordered {
        let total = |a: &Row, b: &Row| compare_rows(a, b).then_with(|| shown(a).cmp(&shown(b)));
        a.sort_by(total);
        b.sort_by(total);
    }
    let kind = |datum: &Datum| std::mem::discriminant(datum);
    // Of several equal values an index and a scan may give different ones.
    let any_of_equals = sql.contains("min(") || sql.contains("max(");
    a.len() == b.len()
        && a.iter().zip(&b).all(|(a, b)| {
            let same = if any_of_equals {
                compare_rows(a, b) == Ordering::Equal
            } else {
                shown(a) == shown(b)
            };
            same && a.iter().zip(b).all(|(a, b)| kind(a) == kind(b))
        })
}

fn same(sql: &str, a: &Result<Vec<Row>>, b: &Result<Vec<Row>>, ordered: bool) -> bool {
    match (a, b) {
        (Ok(a), Ok(b)) => same_rows(sql, a.clone(), b.clone(), ordered),
        (Err(a), Err(b)) => a.state == b.state,
        _ => false,
    }
}

#[test]
fn both_roads_give_the_same_rows() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let world = {
        let _inside = runtime.enter();
        World::new()
    };
    let world = std::cell::RefCell::new(world);
    let (direct, number) = (Cell::new(0u32), Cell::new(0u32));
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(seed in any::<u64>())| {
        let mut case = Case::new(seed);
        let sharding = case.sharding();
        number.set(number.get() + 1);
        let (table, spread) = (format!("t{}", number.get()), format!("s{}", number.get()));
        let columns: Vec<(&str, SqlType)> = case
            .columns
            .iter()
            .map(|(name, sql_type)| (name.as_str(), sql_type.clone()))
            .collect();
        let indexed = case.key + case.dice.below(columns.len() - case.key);
        let (descending, nulls_first) = (case.dice.one_in(2), case.dice.one_in(2));
        let key = case.key;
        world.borrow_mut().table_with(&table, &columns, key, |table| {
            add_index(table, indexed, descending, nulls_first);
        });
        world.borrow_mut().table_with(&spread, &columns, key, |table| {
            add_index(table, indexed, descending, nulls_first);
            table.sharding = sharding.clone();
        });
        let insert = case.insert(&table);
        let queries: Vec<(String, bool)> = (0..4).map(|_| case.query(&table)).collect();
        let elsewhere = |sql: &str| sql.replacen(&table, &spread, 1);
        let world = world.borrow();
        let outcome = runtime.block_on(async {
            for sql in [insert.clone(), elsewhere(&insert)] {
                world.exec(&sql).await.map_err(|error| format!("{sql}: {error}"))?;
            }
            for (sql, ordered) in queries {
                let planned = world.planned(&sql, &[]).await;
                let mut others = vec![world.planned(&elsewhere(&sql), &[]).await];
                if let Some(rows) = world.direct(&elsewhere(&sql), &[]).await.transpose() {
                    others.push(rows);
                }
                for (road, other) in others.iter().enumerate() {
                    if !same(&sql, other, &planned, ordered) {
                        return Err(format!(
                            "{insert}\n{sql}\n{sharding:?}, road {road}: {other:?}\nplanned {planned:?}"
                        ));
                    }
                }
                let found = match world.direct(&sql, &[]).await {
                    Ok(None) => continue,
                    Ok(Some(rows)) => Ok(rows),
                    Err(error) => Err(error),
                };
                direct.set(direct.get() + 1);
                if !same(&sql, &found, &planned, ordered) {
                    return Err(format!("{insert}\n{sql}\ndirect {found:?}\nplanned {planned:?}"));
                }
            }
            Ok(())
        });
        prop_assert!(outcome.is_ok(), "columns {:?}\n{}", case.columns, outcome.unwrap_err());
    });
    assert!(
        direct.get() >= DIRECT_AT_LEAST,
        "only {} direct queries",
        direct.get()
    );
}
