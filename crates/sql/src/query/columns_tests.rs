//! The cache of decoded columns against reads that go past it.

use super::Runtime;
use super::access::spans_of;
use super::columns::Found;
use crate::catalog::descriptor::{Column, Descriptor};
use crate::context::StatementContext;
use crate::response::{RowChunk, RowSource};
use crate::test_world::World;
use futures::StreamExt;
use proptest::prelude::*;
use std::sync::Arc;
use txn::Transaction;
use txn::kv::{Isolation, ReadScope};
use types::{Result, Row, SqlType};

fn world() -> World {
    let mut world = World::new();
    let columns = [
        ("id", SqlType::Int4),
        ("n", SqlType::Int8),
        ("t", SqlType::Text),
    ];
    world.table("a", &columns, 1);
    world.table("b", &columns, 1);
    world
}

async fn rows(world: &World, sql: &str, ctx: StatementContext) -> Result<Vec<String>> {
    rows_by(&world.runtime, world, sql, ctx).await
}

/// The rows of a query by DataFusion, in text, sorted.
async fn rows_by(
    runtime: &Runtime,
    world: &World,
    sql: &str,
    ctx: StatementContext,
) -> Result<Vec<String>> {
    let query = world.analyse(sql)?;
    let types: Vec<SqlType> = query.columns.iter().map(|c| c.sql_type.clone()).collect();
    let set = runtime.execute(&query, &[], ctx).await?;
    let RowSource::Stream(mut stream) = set.rows else {
        panic!("not streamed");
    };
    let mut rows: Vec<Row> = Vec::new();
    while let Some(chunk) = stream.next().await {
        match chunk? {
            RowChunk::Rows(more) => rows.extend(more),
            RowChunk::Batch(batch) => {
                for index in 0..batch.num_rows() {
                    let cells = batch.columns().iter().zip(&types);
                    let cells =
                        cells.map(|(array, t)| crate::arrow_bridge::datum_at(array, index, t));
                    rows.push(cells.collect::<Result<Row>>()?);
                }
            }
        }
    }
    let mut text = world.text(&rows, &types);
    text.sort();
    Ok(text)
}

/// A change of a table's definition.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// A new column `extra`, with this value in rows that are there.
    Add(i64),
    Drop,
    /// New keys, without rows.
    Truncate,
    /// New keys, with the old rows.
    Rewrite,
}

#[derive(Clone, Debug)]
enum Step {
    Define(bool, Change),
    /// Many rows in one commit.
    Load(bool, i32, i32),
    /// A cache that has no room, or has again.
    Lend(usize),
    Insert(bool, i32, i64),
    Update(bool, i32, i64),
    Delete(bool, i32),
    /// A transaction at one snapshot begins; at most three are open.
    Begin,
    /// A write in the nth open transaction, not committed.
    WriteIn(usize, bool, i32),
    End(usize, bool),
    /// A query, in the nth open transaction or in one of its own.
    Read(usize, usize),
}

const QUERIES: [&str; 9] = [
    "SELECT * FROM a",
    "SELECT * FROM a WHERE id > 5 AND id < 30",
    "SELECT n, t FROM b WHERE id >= 7",
    "SELECT count(*) FROM a",
    "SELECT sum(n), max(n), min(id) FROM a",
    "SELECT id, t FROM a WHERE n > 3",
    "SELECT t, count(*) FROM b GROUP BY t",
    "SELECT a.n, b.n FROM a JOIN b ON a.n = b.id",
    "SELECT id, n, t FROM b",
];

fn step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        3 => (0..3i64).prop_map(Change::Add),
        1 => Just(Change::Drop),
        1 => Just(Change::Truncate),
        1 => Just(Change::Rewrite),
    ];
    prop_oneof![
        1 => (any::<bool>(), change).prop_map(|(t, change)| Step::Define(t, change)),
        1 => (any::<bool>(), 0..60i32, 1..40i32).prop_map(|(t, k, n)| Step::Load(t, k, n)),
        1 => prop_oneof![Just(0usize), Just(255 << 20), Just((256 << 20) - 5000)].prop_map(Step::Lend),
        3 => (any::<bool>(), 0..40i32, 0..9i64).prop_map(|(t, k, n)| Step::Insert(t, k, n)),
        2 => (any::<bool>(), 0..40i32, 0..9i64).prop_map(|(t, k, n)| Step::Update(t, k, n)),
        1 => (any::<bool>(), 0..40i32).prop_map(|(t, k)| Step::Delete(t, k)),
        1 => Just(Step::Begin),
        1 => (0..3usize, any::<bool>(), 20..40i32).prop_map(|(x, t, k)| Step::WriteIn(x, t, k)),
        1 => (0..3usize, any::<bool>()).prop_map(|(x, commit)| Step::End(x, commit)),
        8 => (0..4usize, 0..QUERIES.len()).prop_map(|(x, q)| Step::Read(x, q)),
    ]
}

fn name(second: bool) -> &'static str {
    if second { "b" } else { "a" }
}

/// `without` is a runtime that keeps nothing.
async fn compare(world: &World, without: &Runtime, sql: &str, txn: &mut Transaction) {
    let mut ctx = world.context(txn);
    ctx.view.overlay = txn.overlay();
    let truth = rows_by(without, world, sql, ctx.clone()).await.unwrap();
    // Twice: the first may fill what the second uses.
    for _ in 0..2 {
        assert_eq!(rows(world, sql, ctx.clone()).await.unwrap(), truth, "{sql}");
    }
}

/// Puts a changed definition of a table into the catalog.
async fn define(world: &mut World, name: &str, change: Change) {
    let old = world.table_named(name);
    let mut table = (*old).clone();
    table.version += 1;
    match change {
        Change::Add(value) => {
            // The name is free only if an older one is dropped.
            table
                .columns
                .iter_mut()
                .for_each(|c| c.dropped |= c.name == "extra");
            let mut column = Column::new("extra", SqlType::Int8);
            column.missing = Some(value.to_string());
            table.columns.push(column);
        }
        Change::Drop => table
            .columns
            .iter_mut()
            .for_each(|c| c.dropped |= c.name == "extra"),
        Change::Truncate | Change::Rewrite => table.data_id = world.oid(),
    }
    if let Change::Rewrite = change {
        let (from, to) = (old.data_id, table.data_id);
        let span = crate::table_codec::TableCodec::new(old)
            .unwrap()
            .whole_span();
        let mut txn = world.begin(Isolation::RepeatableRead);
        let view = world.context(&mut txn).view;
        let page = view
            .scan(span, false, usize::MAX, usize::MAX)
            .await
            .unwrap();
        for (key, value, _) in page.rows {
            let tail = key.strip_prefix(&from.to_be_bytes()).unwrap();
            txn.put([&to.to_be_bytes(), tail].concat(), value).unwrap();
        }
        txn.commit().await.unwrap();
    }
    Arc::make_mut(&mut world.catalog).put(Descriptor::Table(table));
}

async fn run(steps: Vec<Step>) {
    let mut world = world();
    // More than one partition.
    world.runtime = Runtime::new(256 << 20, 64 << 20, 3).unwrap();
    let without = Runtime::new(256 << 20, 0, 1).unwrap();
    let mut open: Vec<Transaction> = Vec::new();
    for step in steps {
        match step {
            Step::Define(t, change) => define(&mut world, name(t), change).await,
            Step::Load(t, from, rows) => {
                let values = (from..from + rows).map(|id| format!("({id}, {}, 'x')", id % 7));
                let values: Vec<String> = values.collect();
                let sql = format!(
                    "INSERT INTO {} (id, n, t) VALUES {} ON CONFLICT DO NOTHING",
                    name(t),
                    values.join(", ")
                );
                let _ = world.exec(&sql).await;
            }
            Step::Lend(bytes) => world.runtime.columns().lend(bytes),
            // Duplicate keys and locks that others hold refuse some of the changes: all the same.
            Step::Insert(t, id, n) => {
                let sql = format!(
                    "INSERT INTO {} (id, n, t) VALUES ({id}, {n}, 'x{n}')",
                    name(t)
                );
                let _ = world.exec(&sql).await;
            }
            Step::Update(t, id, n) => {
                let sql = format!("UPDATE {} SET n = {n} WHERE id = {id}", name(t));
                world.exec(&sql).await.unwrap();
            }
            Step::Delete(t, id) => {
                let sql = format!("DELETE FROM {} WHERE id = {id}", name(t));
                world.exec(&sql).await.unwrap();
            }
            Step::Begin if open.len() < 3 => {
                let mut txn = world.begin(Isolation::RepeatableRead);
                txn.begin_statement(ReadScope::All).await.unwrap();
                open.push(txn);
            }
            Step::Begin => {}
            Step::WriteIn(x, t, id) if x < open.len() => {
                // Keys that only this transaction writes, so that nobody waits for anybody.
                let id = id * 3 + x as i32 + 100;
                let sql = format!(
                    "INSERT INTO {} (id, n, t) VALUES ({id}, {x}, 'own')",
                    name(t)
                );
                let _ = world.change(&mut open[x], &sql, &[]).await;
            }
            Step::End(x, commit) if x < open.len() => {
                // The places of the others stay, so their keys do.
                let mut txn =
                    std::mem::replace(&mut open[x], world.begin(Isolation::RepeatableRead));
                match commit {
                    true => drop(txn.commit().await),
                    false => drop(txn),
                }
                open[x].begin_statement(ReadScope::All).await.unwrap();
            }
            Step::WriteIn(..) | Step::End(..) => {}
            Step::Read(x, q) => match open.get_mut(x) {
                Some(txn) => compare(&world, &without, QUERIES[q], txn).await,
                None => {
                    let mut txn = world.begin(Isolation::ReadCommitted);
                    compare(&world, &without, QUERIES[q], &mut txn).await;
                }
            },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn cached_columns_give_what_the_store_gives(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_stack_size(8 << 20)
            .build()
            .unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test]
async fn a_second_scan_reads_memory_until_somebody_writes() {
    let world = world();
    for id in 0..5 {
        let sql = format!("INSERT INTO a VALUES ({id}, {id}, 'x')");
        world.exec(&sql).await.unwrap();
    }
    let from_memory = async |sql: &str| {
        let query = world.analyse(sql).unwrap();
        let mut txn = world.begin(Isolation::ReadCommitted);
        let ctx = Arc::new(world.context(&mut txn));
        let state = world.runtime.state(&ctx);
        let plan = world.runtime.physical_plan(&query, &[], &state).await;
        let plan = plan.unwrap();
        let shown = datafusion::physical_plan::displayable(plan.as_ref());
        shown.indent(false).to_string().contains("from=memory")
    };
    let sql = "SELECT t, sum(n) FROM a GROUP BY t";
    assert!(!from_memory(sql).await);
    world.planned(sql, &[]).await.unwrap();
    assert!(from_memory(sql).await);
    assert!(!from_memory("SELECT t, sum(id) FROM a GROUP BY t").await);
    world
        .exec("INSERT INTO b VALUES (1, 1, 'y')")
        .await
        .unwrap();
    assert!(from_memory(sql).await);
    world.exec("UPDATE a SET n = 9 WHERE id = 3").await.unwrap();
    assert!(!from_memory(sql).await);
    world.planned(sql, &[]).await.unwrap();
    assert!(from_memory(sql).await);
    world.runtime.columns().lend(256 << 20);
    assert_eq!(world.runtime.columns().bytes(), 0);
    assert!(!from_memory(sql).await);
}

#[tokio::test]
async fn a_scan_that_runs_again_and_again_keeps_the_whole_table() {
    let world = world();
    for id in 0..5 {
        let sql = format!("INSERT INTO a VALUES ({id}, {}, 'x')", id - 1);
        world.exec(&sql).await.unwrap();
    }
    let sql = "WITH RECURSIVE r(id) AS (SELECT 0 UNION ALL SELECT a.id FROM a JOIN r ON a.n = r.id) \
        SELECT count(*) FROM r";
    for _ in 0..2 {
        let mut txn = world.begin(Isolation::ReadCommitted);
        let ctx = world.context(&mut txn);
        assert_eq!(rows(&world, sql, ctx).await.unwrap(), ["5"]);
    }
}

#[tokio::test]
async fn a_limit_counts_in_memory_too() {
    let world = world();
    for id in 0..5 {
        let sql = format!("INSERT INTO a VALUES ({id}, {id}, 'x')");
        world.exec(&sql).await.unwrap();
    }
    for (sql, answer) in [
        ("SELECT id FROM a", "0 1 2 3 4"),
        ("SELECT count(*) FROM (SELECT id FROM a LIMIT 2) q", "2"),
        (
            "SELECT max(id) FROM (SELECT id FROM a ORDER BY id LIMIT 2) q",
            "1",
        ),
        ("SELECT count(*) FROM (SELECT id FROM a OFFSET 4) q", "1"),
    ] {
        let mut txn = world.begin(Isolation::ReadCommitted);
        let ctx = world.context(&mut txn);
        assert_eq!(
            rows(&world, sql, ctx).await.unwrap().join(" "),
            answer,
            "{sql}"
        );
    }
}

#[tokio::test]
async fn a_write_costs_the_next_scan_its_page_alone() {
    let world = world();
    let values: Vec<String> = (0..40).map(|id| format!("({id}, {id}, 'x')")).collect();
    let sql = format!("INSERT INTO a VALUES {}", values.join(", "));
    world.exec(&sql).await.unwrap();
    let stored = async || {
        let table = world.table_named("a");
        let mut txn = world.begin(Isolation::ReadCommitted);
        let view = world.context(&mut txn).view;
        let codec = crate::table_codec::TableCodec::new(table.clone()).unwrap();
        let span = spans_of(&codec, &[]).remove(0);
        let found = world.runtime.columns().find(&table, &[0, 1], &span, &view);
        let parts = found.parts.iter().map(|part| match part {
            Found::Memory { .. } => 'm',
            Found::Store { .. } => 's',
            Found::Gap(_) => 'g',
        });
        parts.collect::<String>()
    };
    assert_eq!(stored().await, "g");
    world.planned("SELECT id, n FROM a", &[]).await.unwrap();
    assert_eq!(stored().await, "m".repeat(10));
    for sql in [
        "UPDATE a SET n = 7 WHERE id = 9",
        "INSERT INTO a VALUES (100, 1, 'y')",
    ] {
        world.exec(sql).await.unwrap();
    }
    assert_eq!(stored().await, "mmsmmmmmms");
    world
        .planned("SELECT sum(id + n) FROM a", &[])
        .await
        .unwrap();
    assert_eq!(stored().await, "m".repeat(10));
    // Portions whose rows are deleted become one.
    world.exec("DELETE FROM a WHERE id < 12").await.unwrap();
    assert_eq!(stored().await, format!("sss{}", "m".repeat(7)));
    world.planned("SELECT t FROM a", &[]).await.unwrap();
    assert_eq!(stored().await, "m".repeat(8));
    // Rows that come into the middle of a portion split it once there are too many.
    world.exec("DELETE FROM a WHERE id > 20").await.unwrap();
    world.planned("SELECT id, n FROM a", &[]).await.unwrap();
    let before = stored().await.len();
    let values: Vec<String> = (30..40).map(|id| format!("({id}, 0, 'z')")).collect();
    let sql = format!("INSERT INTO a VALUES {}", values.join(", "));
    world.exec(&sql).await.unwrap();
    world.planned("SELECT id, n FROM a", &[]).await.unwrap();
    assert_eq!(stored().await, "m".repeat(before + 1));
}
