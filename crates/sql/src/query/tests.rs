//! Queries end to end over a store in memory.

use super::{AnalyzedQuery, Planner, Runtime};
use crate::catalog::Catalog;
use crate::catalog::descriptor::{
    Column, Database, Descriptor, FIRST_USER_OBJECT_ID, PRIMARY_INDEX_ID, PrimaryKey, Schema, Table,
};
use crate::context::{CancelToken, ExprSettings, ReadView, SessionContext, StatementContext};
use crate::functions::Registry;
use crate::response::{RowChunk, RowSource};
use crate::test_effects::FixedEffects;
use bytes::Bytes;
use futures::StreamExt;
use futures::executor::block_on;
use std::collections::BTreeMap;
use std::sync::Arc;
use txn::kv::{Key, Value};
use txn::testing::{MapShards, still_env};
use types::{Datum, Error, Result, RowLayout, SqlType, Timestamp};

const DATABASE: u32 = 5;
const PUBLIC: u32 = 2200;
/// 2024-05-06 07:08:09 UTC.
const NOW: i64 = 1_714_979_289_000_000;

/// A database with a few tables.
pub(super) struct World {
    catalog: Arc<Catalog>,
    registry: Arc<Registry>,
    settings: Arc<ExprSettings>,
    memory: Arc<MapShards>,
    runtime: Runtime,
    tokio: tokio::runtime::Runtime,
    /// What did not hold; told together at the end.
    failures: parking_lot::Mutex<Vec<String>>,
}

impl Drop for World {
    fn drop(&mut self) {
        let failures = self.failures.lock();
        if !failures.is_empty() && !std::thread::panicking() {
            panic!("{}", failures.join("\n"));
        }
    }
}

fn column(name: &str, ty: SqlType) -> Column {
    Column {
        name: name.into(),
        sql_type: ty,
        not_null: false,
        default: None,
        identity: None,
        generated: None,
        missing: None,
        dropped: false,
        owned_sequence: None,
        comment: None,
    }
}

/// Name, columns as name and type, rows in text form.
pub type TestTable<'a> = (
    &'a str,
    &'a [(&'a str, &'a str)],
    &'a [&'a [Option<&'a str>]],
);

impl World {
    /// `tables`: name, columns with the primary key's first if `keyed`, rows in text form.
    pub fn new(tables: &[TestTable]) -> World {
        let mut catalog = Catalog::default();
        catalog.put(Descriptor::Database(Database {
            oid: DATABASE,
            name: "phantom".into(),
            owner: 10,
            comment: None,
            template: false,
            replication_factor: None,
        }));
        catalog.put(Descriptor::Schema(Schema {
            oid: PUBLIC,
            database: DATABASE,
            name: "public".into(),
            owner: 10,
            comment: None,
        }));
        let mut stored: BTreeMap<Key, Value> = BTreeMap::new();
        for (index, (name, columns, rows)) in tables.iter().enumerate() {
            let oid = FIRST_USER_OBJECT_ID + index as u32 * 10;
            let columns: Vec<Column> = columns
                .iter()
                .map(|(name, ty)| column(name, SqlType::parse(ty).expect("type")))
                .collect();
            let types: Vec<SqlType> = columns.iter().map(|c| c.sql_type.clone()).collect();
            let layout = RowLayout::new(&types);
            let prefix = types::key::index_prefix(oid, PRIMARY_INDEX_ID);
            for row in rows.iter() {
                let row: Vec<Datum> = row
                    .iter()
                    .zip(&types)
                    .map(|(text, ty)| match text {
                        Some(text) => {
                            Datum::parse_text(text, ty, &Default::default()).expect("value")
                        }
                        None => Datum::Null,
                    })
                    .collect();
                let mut key = prefix.to_vec();
                types::key::encode(&mut key, &row[0], false, false);
                let mut value = Vec::new();
                layout.encode(&row, &mut value).expect("row");
                stored.insert(key.into(), Bytes::from(value));
            }
            let mut table = Table {
                oid,
                database: DATABASE,
                schema: PUBLIC,
                name: (*name).into(),
                data_id: oid,
                columns,
                ..empty_table()
            };
            table.primary_key = Some(PrimaryKey {
                oid: oid + 1,
                constraint_oid: oid + 2,
                name: format!("{name}_pkey"),
                columns: vec![0],
            });
            catalog.put(Descriptor::Table(table));
        }
        let mut registry = Registry::with_all();
        stand_ins(&mut registry);
        World {
            catalog: Arc::new(catalog),
            registry: Arc::new(registry),
            settings: Arc::new(ExprSettings {
                time_zone: "UTC".into(),
                user: "phantom".into(),
                session_user: "phantom".into(),
                database: "phantom".into(),
                search_path: vec!["public".to_string()].into(),
                application_name: "".into(),
                backend_pid: 1,
                transaction_micros: NOW,
                statement_micros: NOW,
            }),
            memory: Arc::new(MapShards::with_rows(stored, Timestamp::from_millis(1))),
            runtime: Runtime::new(256 << 20, 64 << 20, 2).expect("runtime"),
            tokio: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("tokio"),
            failures: Default::default(),
        }
    }

    pub fn analyze(&self, sql: &str) -> Result<AnalyzedQuery> {
        let virtual_tables = crate::pg_catalog::virtual_tables();
        let planner = Planner {
            catalog: &self.catalog,
            database: DATABASE,
            settings: &self.settings,
            registry: &self.registry,
            virtual_tables: &virtual_tables,
            surrounding: Default::default(),
        };
        planner.query(&super::select::parse_query(sql)?, &[])
    }

    pub fn context(&self) -> StatementContext {
        StatementContext {
            view: ReadView {
                shards: self.memory.clone(),
                at: Timestamp::from_millis(2),
                overlay: None,
                reads: None,
                guard: None,
            },
            settings: self.settings.clone(),
            session: Arc::new(SessionContext {
                catalog: self.catalog.clone(),
                cancel: CancelToken::default(),
                env: still_env(NOW, 4),
                effects: Arc::new(FixedEffects),
                lock_timeout_nanos: None,
                row_ids: Arc::default(),
            }),
            read_only: false,
            parts: None,
        }
    }

    /// Column names and rows in text form, columns separated by `|`, NULL as nothing.
    pub fn rows_with(&self, sql: &str, params: &[Datum]) -> Result<Vec<String>> {
        let query = self.analyze(sql)?;
        self.tokio.block_on(async {
            let set = self.runtime.execute(&query, params, self.context()).await?;
            let RowSource::Stream(mut stream) = set.rows else {
                return Err(Error::internal("rows at once"));
            };
            let mut lines = Vec::new();
            while let Some(chunk) = stream.next().await {
                let RowChunk::Batch(batch) = chunk? else {
                    continue;
                };
                for row in 0..batch.num_rows() {
                    let mut cells = Vec::new();
                    for (array, column) in batch.columns().iter().zip(set.columns.iter()) {
                        let datum = crate::arrow_bridge::datum_at(array, row, &column.sql_type)?;
                        cells.push(datum.to_text(&column.sql_type, &Default::default()));
                    }
                    lines.push(cells.join("|"));
                }
            }
            Ok(lines)
        })
    }

    pub fn rows(&self, sql: &str) -> Result<Vec<String>> {
        self.rows_with(sql, &[])
    }

    pub fn names(&self, sql: &str) -> Vec<String> {
        let query = self.analyze(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        query.columns.iter().map(|c| c.name.clone()).collect()
    }

    pub fn types(&self, sql: &str) -> Vec<String> {
        let query = self.analyze(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        query.columns.iter().map(|c| c.sql_type.name()).collect()
    }
}

/// The two functions that the TPC-H queries call, if the registry has none of that name.
fn stand_ins(registry: &mut Registry) {
    use crate::functions::{ArgType, ReturnType, ScalarFunction, Volatility};
    let function = |name, arguments: &[SqlType], returns, evaluate| ScalarFunction {
        name,
        arguments: arguments.iter().cloned().map(ArgType::Exact).collect(),
        variadic: false,
        returns: ReturnType::Exact(returns),
        volatility: Volatility::Immutable,
        strict: true,
        evaluate,
        kernel: None,
    };
    if registry.overloads("extract").is_empty() {
        registry.add(function(
            "extract",
            &[SqlType::Text, SqlType::Date],
            SqlType::Numeric(None),
            |_, arguments| match arguments {
                [Datum::Text(field), Datum::Date(days)] if field.as_ref() == "year" => {
                    let year = types::datetime::Civil::from_date(*days).year;
                    Ok(Datum::Numeric(types::Numeric::from(year)))
                }
                other => Err(Error::internal(format!("{other:?}"))),
            },
        ));
    }
    if registry.overloads("substring").is_empty() {
        registry.add(function(
            "substring",
            &[SqlType::Text, SqlType::Int4, SqlType::Int4],
            SqlType::Text,
            |_, arguments| match arguments {
                [Datum::Text(text), Datum::Int4(from), Datum::Int4(length)] => {
                    let taken = text.chars().skip(*from as usize - 1).take(*length as usize);
                    Ok(Datum::Text(taken.collect::<String>().into()))
                }
                other => Err(Error::internal(format!("{other:?}"))),
            },
        ));
    }
}

fn empty_table() -> Table {
    serde_json::from_value(serde_json::json!({
        "oid": 0, "database": 0, "schema": 0, "name": "", "owner": 10, "version": 1, "data_id": 0,
        "columns": [], "primary_key": null, "indexes": [], "checks": [], "foreign_keys": [],
        "next_index_id": 2, "comment": null, "options": []
    }))
    .expect("table")
}

fn shop() -> World {
    World::new(&[
        (
            "t",
            &[
                ("id", "int4"),
                ("a", "int4"),
                ("b", "text"),
                ("n", "numeric(10,2)"),
                ("d", "date"),
            ],
            &[
                &[
                    Some("1"),
                    Some("10"),
                    Some("one"),
                    Some("1.50"),
                    Some("2024-01-01"),
                ],
                &[
                    Some("2"),
                    Some("20"),
                    Some("two"),
                    Some("2.25"),
                    Some("2024-02-01"),
                ],
                &[Some("3"), None, None, None, None],
                &[
                    Some("4"),
                    Some("10"),
                    Some("four"),
                    Some("-4.00"),
                    Some("2023-12-31"),
                ],
            ],
        ),
        (
            "u",
            &[("id", "int8"), ("t_id", "int4"), ("x", "float8")],
            &[
                &[Some("1"), Some("1"), Some("0.5")],
                &[Some("2"), Some("1"), Some("1.5")],
                &[Some("3"), Some("2"), None],
                &[Some("4"), None, Some("9")],
            ],
        ),
    ])
}

fn check(world: &World, sql: &str, expected: &[&str]) {
    let problem = match world.rows(sql) {
        Ok(rows) if rows == expected => return,
        Ok(rows) => format!("{sql}\n    gave     {rows:?}\n    expected {expected:?}"),
        Err(error) => format!("{sql}\n    failed: {error}"),
    };
    world.failures.lock().push(problem);
}

fn fails(world: &World, sql: &str, state: &str, message: &str) {
    let problem = match world.rows(sql) {
        Ok(rows) => format!("{sql}\n    gave {rows:?}"),
        Err(error) if error.state.as_str() == state && error.message == message => return,
        Err(error) => format!("{sql}\n    failed: {error}\n    expected {state} {message}"),
    };
    world.failures.lock().push(problem);
}

#[test]
fn simple_selects() {
    let w = shop();
    check(&w, "SELECT 1", &["1"]);
    check(&w, "SELECT 1, 1", &["1|1"]);
    check(
        &w,
        "SELECT * FROM t WHERE id = 1",
        &["1|10|one|1.50|2024-01-01"],
    );
    check(
        &w,
        "SELECT id FROM t WHERE a = 10 ORDER BY id DESC",
        &["4", "1"],
    );
    check(
        &w,
        "SELECT b FROM t ORDER BY b",
        &["four", "one", "two", ""],
    );
    check(&w, "SELECT b FROM t ORDER BY b DESC LIMIT 1", &[""]);
    check(
        &w,
        "SELECT id FROM t ORDER BY 1 OFFSET 1 LIMIT 2",
        &["2", "3"],
    );
    check(
        &w,
        "SELECT id FROM t ORDER BY id FETCH FIRST 1 ROW ONLY",
        &["1"],
    );
    check(&w, "SELECT ID FROM T WHERE \"id\" = 2", &["2"]);
    check(
        &w,
        "SELECT t.id, u.id FROM t JOIN u ON u.t_id = t.id ORDER BY 2",
        &["1|1", "1|2", "2|3"],
    );
    check(&w, "SELECT count(*) FROM t, u", &["16"]);
    check(&w, "SELECT * FROM public.t x WHERE x.id = 3", &["3||||"]);
    check(&w, "VALUES (1, 'a'), (2, NULL)", &["1|a", "2|"]);
    check(&w, "SELECT DISTINCT a FROM t ORDER BY a", &["10", "20", ""]);
    check(
        &w,
        "SELECT DISTINCT ON (a) a, id FROM t ORDER BY a, id DESC",
        &["10|4", "20|2", "|3"],
    );
}

#[test]
fn output_names_and_types() {
    let w = shop();
    assert_eq!(
        w.names("SELECT 1, a, t.b, count(*), a + 1, CASE WHEN true THEN 1 END, '1'::int4, a::text, true, coalesce(a, 1), ARRAY[1], EXISTS (SELECT 1) FROM t GROUP BY a, b"),
        ["?column?", "a", "b", "count", "?column?", "case", "int4", "a", "bool", "coalesce", "array", "exists"]
    );
    assert_eq!(w.names("SELECT a.id, b.id FROM t a, t b"), ["id", "id"]);
    assert_eq!(
        w.types("SELECT 1, 2147483648, 1.5, 'x', NULL, a + id, n * 2, n / 2, sum(a) OVER (), d - d, d + 1, 1e3 FROM t"),
        ["integer", "bigint", "numeric", "text", "text", "integer", "numeric", "numeric", "bigint", "integer", "date", "numeric"]
    );
    assert_eq!(
        w.types("SELECT n, n::numeric(5,1) FROM t"),
        ["numeric(10,2)", "numeric(5,1)"]
    );
    assert_eq!(
        w.types("SELECT sum(id), avg(id), sum(n), count(*) FROM u, (SELECT n FROM t) t"),
        ["numeric", "numeric", "numeric", "bigint"]
    );
}

#[test]
fn arithmetic_is_postgresql_s() {
    let w = shop();
    check(&w, "SELECT 7 / 2, -7 / 2, 7 % 3, 2 * 3 + 1", &["3|-3|1|7"]);
    check(
        &w,
        "SELECT 7.0 / 2, 1.10 + 2.2, 1.5 * 1.5, 10 - 0.5",
        &["3.5000000000000000|3.30|2.25|9.5"],
    );
    check(&w, "SELECT 1::float8 / 4", &["0.25"]);
    fails(&w, "SELECT 1 / 0", "22012", "division by zero");
    fails(&w, "SELECT 1.0 / 0", "22012", "division by zero");
    fails(
        &w,
        "SELECT 1 / (id - 1) FROM t",
        "22012",
        "division by zero",
    );
    fails(&w, "SELECT 2147483647 + 1", "22003", "integer out of range");
    fails(
        &w,
        "SELECT 9223372036854775807 + id FROM u",
        "22003",
        "bigint out of range",
    );
    check(&w, "SELECT 2147483647 + 1::int8", &["2147483648"]);
    check(&w, "SELECT -2147483648", &["-2147483648"]);
    check(&w, "SELECT n * (1 - 0.05) FROM t WHERE id = 1", &["1.4250"]);
    check(
        &w,
        "SELECT a + id FROM t ORDER BY id",
        &["11", "22", "", "14"],
    );
    check(
        &w,
        "SELECT sum(a), avg(a), min(a), max(a), count(a) FROM t",
        &["40|13.3333333333333333|10|20|3"],
    );
    check(
        &w,
        "SELECT sum(n), avg(n) FROM t",
        &["-0.25|-0.08333333333333333333"],
    );
    check(
        &w,
        "SELECT sum(x), avg(x) FROM u",
        &["11|3.6666666666666665"],
    );
    check(&w, "SELECT sum(id) FROM u", &["10"]);
    check(&w, "SELECT sum(a), count(*) FROM t WHERE false", &["|0"]);
    check(&w, "SELECT 'a' || 'b', 1 || 'x'", &["ab|1x"]);
    check(
        &w,
        "SELECT date '2024-01-31' + interval '1 month'",
        &["2024-02-29 00:00:00"],
    );
    check(
        &w,
        "SELECT d + 1, d - date '2024-01-01' FROM t WHERE id = 2",
        &["2024-02-02|31"],
    );
}

#[test]
fn literals_take_their_context_s_type() {
    let w = shop();
    check(&w, "SELECT id FROM t WHERE id = '2'", &["2"]);
    check(&w, "SELECT id FROM t WHERE d > '2024-01-15'", &["2"]);
    check(
        &w,
        "SELECT id FROM t WHERE id IN ('1', '3') ORDER BY 1",
        &["1", "3"],
    );
    check(
        &w,
        "SELECT id FROM t WHERE d BETWEEN '2024-01-01' AND '2024-01-31'",
        &["1"],
    );
    fails(
        &w,
        "SELECT id FROM t WHERE id = 'x'",
        "22P02",
        "invalid input syntax for type integer: \"x\"",
    );
    check(&w, "SELECT CASE WHEN true THEN '1' ELSE 2 END", &["1"]);
    check(&w, "SELECT coalesce(NULL, '5', 6)", &["5"]);
    check(&w, "SELECT '1' UNION SELECT 2 ORDER BY 1", &["1", "2"]);
    check(
        &w,
        "SELECT 1 UNION ALL SELECT 1.5 ORDER BY 1",
        &["1", "1.5"],
    );
    check(
        &w,
        "SELECT n = 1.5, n > 2, n = 1.50::float8 FROM t WHERE id = 1",
        &["t|f|t"],
    );
    check(&w, "SELECT id FROM t WHERE n = '1.5'", &["1"]);
    check(&w, "SELECT id FROM u WHERE id = 1 AND x > 0", &["1"]);
    check(
        &w,
        "SELECT 1 = 1.0, 1 < 2.5::float8, '2024-01-01'::date < '2024-01-01 01:00'::timestamp",
        &["t|t|t"],
    );
}

#[test]
fn parameters_get_types() {
    let w = shop();
    let types = |sql: &str| w.analyze(sql).map(|q| q.parameter_types).expect("analysis");
    assert_eq!(types("SELECT * FROM t WHERE id = $1"), [SqlType::Int4]);
    assert_eq!(types("SELECT $1"), [SqlType::Text]);
    assert_eq!(
        types("SELECT $1::int8, $2 + 1"),
        [SqlType::Int8, SqlType::Int4]
    );
    assert_eq!(
        types("SELECT * FROM t WHERE d > $2 LIMIT $1"),
        [SqlType::Int8, SqlType::Date]
    );
    assert_eq!(
        types("SELECT * FROM t WHERE id IN ($1, $2)"),
        [SqlType::Int4, SqlType::Int4]
    );
    assert_eq!(
        types("SELECT * FROM t WHERE id = ANY($1)"),
        [SqlType::Array(Box::new(SqlType::Int4))]
    );
    assert_eq!(
        types("SELECT * FROM t WHERE n = $1"),
        [SqlType::Numeric(None)]
    );
    let rows = w.rows_with(
        "SELECT id FROM t WHERE a = $1 ORDER BY id LIMIT $2",
        &[Datum::Int4(10), Datum::Int8(1)],
    );
    assert_eq!(rows, Ok(vec!["1".to_string()]));
    let list = Datum::Array(Arc::new(types::Array::from_elements(
        SqlType::Int4,
        vec![Datum::Int4(2), Datum::Int4(3)],
    )));
    assert_eq!(
        w.rows_with("SELECT id FROM t WHERE id = ANY($1) ORDER BY 1", &[list]),
        Ok(vec!["2".into(), "3".into()])
    );
    let n = Datum::Numeric(types::Numeric::parse("1.5").expect("numeric"));
    assert_eq!(
        w.rows_with("SELECT id FROM t WHERE n = $1", &[n]),
        Ok(vec!["1".into()])
    );
}

#[test]
fn errors_are_postgresql_s() {
    let w = shop();
    fails(
        &w,
        "SELECT * FROM nosuch",
        "42P01",
        "relation \"nosuch\" does not exist",
    );
    fails(
        &w,
        "SELECT nosuch FROM t",
        "42703",
        "column \"nosuch\" does not exist",
    );
    fails(
        &w,
        "SELECT t.nosuch FROM t",
        "42703",
        "column t.nosuch does not exist",
    );
    fails(
        &w,
        "SELECT x.id FROM t",
        "42P01",
        "missing FROM-clause entry for table \"x\"",
    );
    fails(
        &w,
        "SELECT id FROM t, u",
        "42702",
        "column reference \"id\" is ambiguous",
    );
    fails(
        &w,
        "SELECT nosuch(1)",
        "42883",
        "function nosuch(integer) does not exist",
    );
    fails(
        &w,
        "SELECT 1 + true",
        "42883",
        "operator does not exist: integer + boolean",
    );
    fails(
        &w,
        "SELECT a, count(*) FROM t",
        "42803",
        "column \"t.a\" must appear in the GROUP BY clause or be used in an aggregate function",
    );
    fails(
        &w,
        "SELECT * FROM t WHERE count(*) > 1",
        "42803",
        "aggregate functions are not allowed in WHERE",
    );
    fails(
        &w,
        "SELECT sum(count(*)) FROM t",
        "42803",
        "aggregate function calls cannot be nested",
    );
    fails(
        &w,
        "SELECT * FROM t WHERE id",
        "42804",
        "argument of WHERE must be type boolean, not type integer",
    );
    fails(
        &w,
        "SELECT id FROM t ORDER BY 5",
        "42P10",
        "ORDER BY position 5 is not in select list",
    );
    fails(
        &w,
        "SELECT id FROM t UNION SELECT b FROM t",
        "42804",
        "UNION types integer and text cannot be matched",
    );
    fails(
        &w,
        "SELECT 1 UNION SELECT 1, 2",
        "42601",
        "each UNION query must have the same number of columns",
    );
    fails(
        &w,
        "SELECT id FROM t LIMIT -1",
        "2201W",
        "LIMIT must not be negative",
    );
    fails(
        &w,
        "SELECT (SELECT id FROM t)",
        "21000",
        "more than one row returned by a subquery used as an expression",
    );
    fails(
        &w,
        "SELECT (SELECT 1, 2)",
        "42601",
        "subquery must return only one column",
    );
    fails(
        &w,
        "SELECT true::date",
        "42846",
        "cannot cast type boolean to date",
    );
    fails(
        &w,
        "SELECT * FROM t, t",
        "42712",
        "table name \"t\" specified more than once",
    );
    fails(
        &w,
        "SELECT 1 WHERE 1 = 'a'::text",
        "42883",
        "operator does not exist: integer = text",
    );
    fails(
        &w,
        "SELECT CASE WHEN true THEN 1 ELSE 'a'::text END",
        "42804",
        "CASE types text and integer cannot be matched",
    );
}

#[test]
fn casts() {
    let w = shop();
    check(
        &w,
        "SELECT 2.5::int4, 3.5::int4, 2.5::float8::int4, '12'::int8, 1::text, 1::bool",
        &["3|4|2|12|1|t"],
    );
    check(
        &w,
        "SELECT 'abcdef'::varchar(3), 'ab'::char(4), true::text, 1.005::numeric(5,2)",
        &["abc|ab  |true|1.01"],
    );
    check(
        &w,
        "SELECT a::text || '!' , n::int4, a::float8, n::float8 FROM t WHERE id = 2",
        &["20!|2|20|2.25"],
    );
    fails(
        &w,
        "SELECT 'x'::int4",
        "22P02",
        "invalid input syntax for type integer: \"x\"",
    );
    fails(
        &w,
        "SELECT b::int4 FROM t",
        "22P02",
        "invalid input syntax for type integer: \"one\"",
    );
    fails(
        &w,
        "SELECT 3000000000::int4",
        "22003",
        "integer out of range",
    );
    check(
        &w,
        "SELECT 't'::regclass, 't'::regclass::oid, 16384::oid::regclass",
        &["16384|16384|16384"],
    );
    check(&w, "SELECT 't'::regclass::text", &["t"]);
    fails(
        &w,
        "SELECT 'nosuch'::regclass",
        "42P01",
        "relation \"nosuch\" does not exist",
    );
    check(
        &w,
        "SELECT '{1,2,3}'::int[], ARRAY[1,2]::text[], (ARRAY[5,6,7])[2]",
        &["{1,2,3}|{1,2}|6"],
    );
    check(
        &w,
        "SELECT d::timestamp, d::text FROM t WHERE id = 1",
        &["2024-01-01 00:00:00|2024-01-01"],
    );
}

#[test]
fn grouping_and_windows() {
    let w = shop();
    check(
        &w,
        "SELECT a, count(*) FROM t GROUP BY a ORDER BY a",
        &["10|2", "20|1", "|1"],
    );
    check(
        &w,
        "SELECT a AS k, sum(n) s FROM t GROUP BY k HAVING count(*) > 1",
        &["10|-2.50"],
    );
    check(
        &w,
        "SELECT a + 1, count(*) FROM t GROUP BY a + 1 ORDER BY 1 LIMIT 1",
        &["11|2"],
    );
    check(
        &w,
        "SELECT id, a, count(*) FROM t GROUP BY id ORDER BY id LIMIT 1",
        &["1|10|1"],
    );
    check(
        &w,
        "SELECT a, sum(count(*)) OVER () FROM t GROUP BY a ORDER BY a",
        &["10|4", "20|4", "|4"],
    );
    check(
        &w,
        "SELECT id, row_number() OVER (PARTITION BY a ORDER BY id DESC) FROM t ORDER BY id",
        &["1|2", "2|1", "3|1", "4|1"],
    );
    check(
        &w,
        "SELECT id, sum(id) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t ORDER BY id",
        &["1|1", "2|3", "3|5", "4|7"],
    );
    check(
        &w,
        "SELECT id, lag(b) OVER w, avg(a) OVER w FROM t WINDOW w AS (ORDER BY id) ORDER BY id LIMIT 2",
        &["1||10.0000000000000000", "2|one|15.0000000000000000"],
    );
    check(
        &w,
        "SELECT count(*) FILTER (WHERE a = 10), count(DISTINCT a) FROM t",
        &["2|2"],
    );
    check(
        &w,
        "SELECT string_agg(b, ',' ORDER BY b), array_agg(id ORDER BY id DESC) FROM t",
        &["four,one,two|{4,3,2,1}"],
    );
    check(
        &w,
        "SELECT a, b, count(*) FROM t WHERE id < 3 GROUP BY ROLLUP (a, b) ORDER BY a, b",
        &["10|one|1", "10||1", "20|two|1", "20||1", "||2"],
    );
    check(
        &w,
        "SELECT bool_and(a > 5), every(a > 10), bool_or(a > 10) FROM t",
        &["t|f|t"],
    );
    check(&w, "SELECT count(*) FROM t HAVING count(*) > 10", &[]);
}

#[test]
fn subqueries_and_ctes() {
    let w = shop();
    check(
        &w,
        "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.t_id = t.id) ORDER BY id",
        &["1", "2"],
    );
    check(
        &w,
        "SELECT id FROM t WHERE id NOT IN (SELECT t_id FROM u WHERE t_id IS NOT NULL) ORDER BY id",
        &["3", "4"],
    );
    check(
        &w,
        "SELECT id, (SELECT count(*) FROM u WHERE u.t_id = t.id) FROM t ORDER BY id",
        &["1|2", "2|1", "3|0", "4|0"],
    );
    check(
        &w,
        "SELECT id FROM t WHERE a > (SELECT avg(a) FROM t)",
        &["2"],
    );
    check(
        &w,
        "SELECT id FROM t WHERE id > ALL (SELECT t_id FROM u WHERE t_id IS NOT NULL) ORDER BY 1",
        &["3", "4"],
    );
    check(
        &w,
        "WITH c AS (SELECT a, count(*) AS k FROM t GROUP BY a) SELECT c.a, c.k FROM c JOIN c d ON c.a = d.a ORDER BY 1",
        &["10|2", "20|1"],
    );
    check(
        &w,
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT sum(n) FROM r",
        &["15"],
    );
    check(
        &w,
        "SELECT * FROM (SELECT id, a FROM t) s(x, y) WHERE x = 2",
        &["2|20"],
    );
    check(
        &w,
        "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) v(i, s) ORDER BY i DESC",
        &["2|b", "1|a"],
    );
    check(
        &w,
        "SELECT t.id, l.x FROM t, LATERAL (SELECT max(x) AS x FROM u WHERE u.t_id = t.id) l WHERE t.id < 3 ORDER BY 1",
        &["1|1.5", "2|"],
    );
    check(
        &w,
        "SELECT id FROM t INTERSECT SELECT t_id FROM u ORDER BY 1",
        &["1", "2"],
    );
    check(
        &w,
        "SELECT id FROM t EXCEPT SELECT t_id FROM u ORDER BY 1",
        &["3", "4"],
    );
    check(
        &w,
        "SELECT (1, 2) = (1, 2), (1, 2) < (1, 3), (1, 2) IN ((1, 2), (3, 4))",
        &["t|t|t"],
    );
    check(
        &w,
        "SELECT ARRAY(SELECT id FROM t ORDER BY id)",
        &["{1,2,3,4}"],
    );
}

#[test]
fn joins() {
    let w = shop();
    check(
        &w,
        "SELECT t.id, x FROM t LEFT JOIN u ON u.t_id = t.id ORDER BY 1, 2",
        &["1|0.5", "1|1.5", "2|", "3|", "4|"],
    );
    check(
        &w,
        "SELECT * FROM t a JOIN t b USING (id) WHERE id = 1",
        &["1|10|one|1.50|2024-01-01|10|one|1.50|2024-01-01"],
    );
    check(
        &w,
        "SELECT id FROM t a FULL JOIN (SELECT 9 AS id) b USING (id) ORDER BY id",
        &["1", "2", "3", "4", "9"],
    );
    check(&w, "SELECT count(*) FROM t NATURAL JOIN u", &["4"]);
    check(
        &w,
        "SELECT count(*) FROM t CROSS JOIN u CROSS JOIN t z",
        &["64"],
    );
    check(
        &w,
        "SELECT t.id FROM u RIGHT JOIN t ON t.id = u.t_id WHERE u.id IS NULL ORDER BY 1",
        &["3", "4"],
    );
}

#[test]
fn sets_from_functions() {
    let w = shop();
    check(&w, "SELECT * FROM generate_series(1, 3)", &["1", "2", "3"]);
    check(
        &w,
        "SELECT g FROM generate_series(5, 1, -2) g",
        &["5", "3", "1"],
    );
    check(
        &w,
        "SELECT * FROM generate_series('2024-01-01'::timestamp, '2024-03-01', '1 month') s(t)",
        &[
            "2024-01-01 00:00:00",
            "2024-02-01 00:00:00",
            "2024-03-01 00:00:00",
        ],
    );
    check(&w, "SELECT unnest(ARRAY[1, 2]), 7", &["1|7", "2|7"]);
    check(
        &w,
        "SELECT * FROM unnest(ARRAY['a', 'b']) WITH ORDINALITY AS u(v, n)",
        &["a|1", "b|2"],
    );
    check(
        &w,
        "SELECT t.id, g FROM t, generate_series(1, t.id) g WHERE t.id < 3 ORDER BY 1, 2",
        &["1|1", "2|1", "2|2"],
    );
    check(
        &w,
        "SELECT count(*) FROM generate_series(1, 100000)",
        &["100000"],
    );
}

#[test]
fn conditions() {
    let w = shop();
    check(
        &w,
        "SELECT id FROM t WHERE b LIKE '%o%' ORDER BY id",
        &["1", "2", "4"],
    );
    check(
        &w,
        "SELECT id FROM t WHERE b ILIKE 'ONE' OR b NOT LIKE '%o%'",
        &["1"],
    );
    check(&w, "SELECT id FROM t WHERE a IS NULL", &["3"]);
    check(
        &w,
        "SELECT NULL = NULL, NULL IS NULL, 1 IS DISTINCT FROM NULL, true IS NOT FALSE",
        &["|t|t|t"],
    );
    check(
        &w,
        "SELECT 3 = ANY(ARRAY[1,2,3]), 3 <> ALL('{1,2}'::int[]), 3 = ANY('{1,NULL}'::int[])",
        &["t|t|"],
    );
    check(
        &w,
        "SELECT greatest(1, 3, 2), least('b', 'a'), nullif(1, 1), nullif(2, 1)",
        &["3|a||2"],
    );
    check(
        &w,
        "SELECT interval '1 month' = interval '30 days', interval '1 day' > interval '23 hours'",
        &["t|t"],
    );
    check(
        &w,
        "SELECT CASE a WHEN 10 THEN 'ten' WHEN 20 THEN 'twenty' END FROM t ORDER BY id",
        &["ten", "twenty", "", "ten"],
    );
}

#[test]
fn cancel_stops_a_query() {
    let w = shop();
    let query = w.analyze("SELECT count(*) FROM t").expect("analysis");
    let context = w.context();
    context.cancel.cancel(false);
    let result = block_on(w.runtime.execute(&query, &[], context));
    assert_eq!(
        result.err().map(|e| e.state),
        Some(types::SqlState::QUERY_CANCELED)
    );
}

#[test]
fn deep_nesting_is_refused_and_long_chains_are_not() {
    let w = shop();
    let chain = (0..3000)
        .map(|i| format!("id = {i}"))
        .collect::<Vec<_>>()
        .join(" OR ");
    check(&w, &format!("SELECT count(*) FROM t WHERE {chain}"), &["4"]);
}

#[test]
fn blanks_of_char_do_not_count() {
    let w = World::new(&[(
        "c",
        &[("id", "int4"), ("k", "char(5)")],
        &[&[Some("1"), Some("ab")], &[Some("2"), Some("abc  ")]],
    )]);
    check(&w, "SELECT id FROM c WHERE k = 'ab'", &["1"]);
    check(&w, "SELECT id FROM c WHERE k = 'ab   '", &["1"]);
    check(
        &w,
        "SELECT id FROM c WHERE k IN ('abc', 'x') OR k = 'abcdefgh'",
        &["2"],
    );
    check(
        &w,
        "SELECT id FROM c WHERE k IN ('abc', 'abcdefgh')",
        &["2"],
    );
    check(&w, "SELECT id FROM c WHERE k = 'ab'::text", &["1"]);
    check(&w, "SELECT id FROM c WHERE k > 'ab'", &["2"]);
    check(
        &w,
        "SELECT id, k || '!' FROM c WHERE k LIKE 'ab%' ORDER BY id",
        &["1|ab!", "2|abc!"],
    );
}

#[test]
fn key_conditions_narrow_the_scan() {
    let w = shop();
    let plan = |sql: &str| {
        let query = w.analyze(sql).expect("analysis");
        let context = Arc::new(w.context());
        let state = w.runtime.state(&context);
        let plan = w
            .tokio
            .block_on(w.runtime.physical_plan(&query, &[], &state))
            .expect("plan");
        datafusion::physical_plan::displayable(plan.as_ref())
            .indent(false)
            .to_string()
    };
    let shown = plan("SELECT a FROM t WHERE id >= 2 AND id < 4");
    assert!(shown.contains("keys=bounded"), "{shown}");
    let shown = plan("SELECT a FROM t WHERE a = 2");
    assert!(!shown.contains("keys=bounded"), "{shown}");
    check(
        &w,
        "SELECT id FROM t WHERE id >= 2 AND id < 4 AND id <> 3",
        &["2"],
    );
    check(
        &w,
        "SELECT id FROM t WHERE id > 1 AND id > 3 AND id <= 9",
        &["4"],
    );
    check(&w, "SELECT id FROM t WHERE id = 2 AND id = 3", &[]);
}

#[test]
fn many_rows_in_parts() {
    let numbers: Vec<String> = (0..40_000).map(|i| i.to_string()).collect();
    let rows: Vec<Vec<Option<&str>>> = numbers
        .iter()
        .map(|n| vec![Some(n.as_str()), Some("7")])
        .collect();
    let rows: Vec<&[Option<&str>]> = rows.iter().map(Vec::as_slice).collect();
    let w = World::new(&[("big", &[("id", "int8"), ("v", "int4")], &rows)]);
    check(
        &w,
        "SELECT count(*), sum(id), sum(v), min(id), max(id) FROM big",
        &["40000|799980000|280000|0|39999"],
    );
    check(
        &w,
        "SELECT count(*) FROM big a JOIN big b ON a.id = b.id + 1",
        &["39999"],
    );
    check(
        &w,
        "SELECT id FROM big ORDER BY id DESC LIMIT 2",
        &["39999", "39998"],
    );
    check(
        &w,
        "SELECT id FROM big WHERE id BETWEEN 20000 AND 20001 ORDER BY id",
        &["20000", "20001"],
    );
}

#[test]
fn subqueries_without_a_join() {
    let w = shop();
    // Without aggregate: a join that checks for a second row.
    check(
        &w,
        "SELECT u.id, (SELECT b FROM t WHERE t.id = u.t_id) FROM u ORDER BY 1",
        &["1|one", "2|one", "3|two", "4|"],
    );
    check(
        &w,
        "SELECT id FROM u WHERE (SELECT a FROM t WHERE t.id = u.t_id) = 10 ORDER BY 1",
        &["1", "2"],
    );
    // The second row for t.id = 1 matters only where that row is asked for.
    check(
        &w,
        "SELECT (SELECT x FROM u WHERE u.t_id = t.id) FROM t WHERE id = 3",
        &[""],
    );
    fails(
        &w,
        "SELECT id, (SELECT x FROM u WHERE u.t_id = t.id) FROM t",
        "21000",
        "more than one row returned by a subquery used as an expression",
    );
    fails(
        &w,
        "SELECT id, (SELECT x FROM u WHERE u.t_id < t.id) FROM t",
        "21000",
        "more than one row returned by a subquery used as an expression",
    );
    // Conditions that are no equality, order and limit: row by row.
    check(
        &w,
        "SELECT id, (SELECT u.id FROM u WHERE u.t_id <= t.id ORDER BY u.id DESC LIMIT 1) FROM t ORDER BY 1",
        &["1|2", "2|3", "3|3", "4|3"],
    );
    check(
        &w,
        "SELECT id, ARRAY(SELECT u.id FROM u WHERE u.t_id = t.id ORDER BY u.id DESC) FROM t ORDER BY 1",
        &["1|{2,1}", "2|{3}", "3|{}", "4|{}"],
    );
    check(
        &w,
        "SELECT id, (SELECT b FROM u WHERE u.id = t.id AND t.a = 10) FROM t ORDER BY 1",
        &["1|one", "2|", "3|", "4|four"],
    );
    check(
        &w,
        "SELECT id, EXISTS (SELECT 1 FROM u WHERE u.t_id = t.id), NOT EXISTS (SELECT 1 FROM u WHERE u.t_id > t.id) FROM t ORDER BY 1",
        &["1|t|f", "2|t|t", "3|f|t", "4|f|t"],
    );
    check(
        &w,
        "SELECT EXISTS (SELECT 1 FROM u), EXISTS (SELECT 1 FROM u WHERE false)",
        &["t|f"],
    );
    check(
        &w,
        "SELECT id, id IN (SELECT t_id FROM u), id NOT IN (SELECT t_id FROM u WHERE u.t_id >= t.id) FROM t ORDER BY 1",
        &["1|t|f", "2|t|f", "3||t", "4||t"],
    );
    check(
        &w,
        "SELECT id, id > ALL (SELECT t_id FROM u WHERE t_id IS NOT NULL) FROM t ORDER BY 1",
        &["1|f", "2|f", "3|t", "4|t"],
    );
    // In a filter, in an aggregate, and two levels deep.
    check(
        &w,
        "SELECT id FROM t WHERE a = 10 AND (SELECT count(*) FROM u WHERE u.t_id <> t.id) > 1 ORDER BY 1",
        &["4"],
    );
    check(
        &w,
        "SELECT sum((SELECT count(*) FROM u WHERE u.t_id <= t.id)) FROM t",
        &["11"],
    );
    check(
        &w,
        "SELECT id, (SELECT (SELECT max(t2.b) FROM t t2 WHERE t2.id = u.t_id AND t2.id <= t.id) FROM u WHERE u.id = t.id) FROM t ORDER BY 1",
        &["1|one", "2|one", "3|two", "4|"],
    );
    check(
        &w,
        "SELECT t.id FROM t JOIN u ON EXISTS (SELECT 1 FROM u u2 WHERE u2.t_id < t.id AND u2.id = u.id) WHERE t.id = 2 ORDER BY 1",
        &["2", "2"],
    );
}
