//! The cache of decoded columns against reads that go past it.

use crate::context::StatementContext;
use crate::response::{RowChunk, RowSource};
use crate::test_world::World;
use futures::StreamExt;
use proptest::prelude::*;
use std::sync::Arc;
use txn::Transaction;
use txn::kv::Isolation;
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

/// The rows of a query by DataFusion, in text, sorted.
async fn rows(world: &World, sql: &str, ctx: StatementContext) -> Result<Vec<String>> {
    let query = world.analyse(sql)?;
    let types: Vec<SqlType> = query.columns.iter().map(|c| c.sql_type.clone()).collect();
    let set = world.runtime.execute(&query, &[], ctx).await?;
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

/// The same on shards that say nothing of commits: then no column is kept or used.
fn past_the_cache(ctx: &StatementContext) -> StatementContext {
    let mut ctx = ctx.clone();
    ctx.view.shards = Arc::new(Silent(ctx.view.shards.clone()));
    ctx
}

struct Silent(Arc<dyn txn::Shards>);

impl txn::Shards for Silent {
    fn read_timestamp(&self) -> types::Timestamp {
        self.0.read_timestamp()
    }
    fn get(
        &self,
        key: &[u8],
        at: types::Timestamp,
    ) -> types::MaybeReady<Result<Option<(txn::kv::Value, types::Timestamp)>>> {
        self.0.get(key, at)
    }
    fn newest_version(&self, key: &[u8]) -> types::MaybeReady<Result<Option<types::Timestamp>>> {
        self.0.newest_version(key)
    }
    fn scan(&self, request: txn::kv::ScanRequest) -> types::MaybeReady<Result<txn::kv::ScanPage>> {
        self.0.scan(request)
    }
    fn lock(
        &self,
        txn: txn::kv::TxnId,
        key: &[u8],
        mode: txn::kv::LockMode,
        policy: txn::kv::WaitPolicy,
    ) -> types::MaybeReady<Result<bool>> {
        self.0.lock(txn, key, mode, policy)
    }
    fn unlock(&self, txn: txn::kv::TxnId, keys: &[txn::kv::Key]) {
        self.0.unlock(txn, keys);
    }
    fn unlock_all(&self, txn: txn::kv::TxnId) {
        self.0.unlock_all(txn);
    }
    fn commit(
        &self,
        request: txn::kv::CommitRequest,
    ) -> types::MaybeReady<Result<types::Timestamp>> {
        self.0.commit(request)
    }
}

#[derive(Clone, Debug)]
enum Step {
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

const QUERIES: [&str; 6] = [
    "SELECT count(*) FROM a",
    "SELECT sum(n), max(n), min(id) FROM a",
    "SELECT id, t FROM a WHERE n > 3",
    "SELECT t, count(*) FROM b GROUP BY t",
    "SELECT a.n, b.n FROM a JOIN b ON a.n = b.id",
    "SELECT id, n, t FROM b",
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<bool>(), 0..12i32, 0..9i64).prop_map(|(t, k, n)| Step::Insert(t, k, n)),
        2 => (any::<bool>(), 0..12i32, 0..9i64).prop_map(|(t, k, n)| Step::Update(t, k, n)),
        1 => (any::<bool>(), 0..12i32).prop_map(|(t, k)| Step::Delete(t, k)),
        1 => Just(Step::Begin),
        1 => (0..3usize, any::<bool>(), 20..40i32).prop_map(|(x, t, k)| Step::WriteIn(x, t, k)),
        1 => (0..3usize, any::<bool>()).prop_map(|(x, commit)| Step::End(x, commit)),
        8 => (0..4usize, 0..QUERIES.len()).prop_map(|(x, q)| Step::Read(x, q)),
    ]
}

fn name(second: bool) -> &'static str {
    if second { "b" } else { "a" }
}

async fn compare(world: &World, sql: &str, txn: &mut Transaction) {
    let mut ctx = world.context(txn);
    ctx.view.overlay = txn.overlay();
    let truth = rows(world, sql, past_the_cache(&ctx)).await.unwrap();
    // Twice: the first may fill what the second uses.
    for _ in 0..2 {
        assert_eq!(rows(world, sql, ctx.clone()).await.unwrap(), truth, "{sql}");
    }
}

async fn run(steps: Vec<Step>) {
    let world = world();
    let mut open: Vec<Transaction> = Vec::new();
    for step in steps {
        match step {
            // Duplicate keys and locks that others hold refuse some of the changes: all the same.
            Step::Insert(t, id, n) => {
                let sql = format!("INSERT INTO {} VALUES ({id}, {n}, 'x{n}')", name(t));
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
                txn.begin_statement();
                open.push(txn);
            }
            Step::Begin => {}
            Step::WriteIn(x, t, id) if x < open.len() => {
                // Keys that only this transaction writes, so that nobody waits for anybody.
                let id = id * 3 + x as i32 + 100;
                let sql = format!("INSERT INTO {} VALUES ({id}, {x}, 'own')", name(t));
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
                open[x].begin_statement();
            }
            Step::WriteIn(..) | Step::End(..) => {}
            Step::Read(x, q) => match open.get_mut(x) {
                Some(txn) => compare(&world, QUERIES[q], txn).await,
                None => {
                    let mut txn = world.begin(Isolation::ReadCommitted);
                    compare(&world, QUERIES[q], &mut txn).await;
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
