//! Definitions and changes at random from sessions of both gateways at once.

use super::{Client, World};
use std::sync::Arc;
use types::Error;

const SESSIONS: usize = 4;
const STATEMENTS: u64 = 150;
const TABLES: u64 = 3;
const ROWS: u64 = 20;

/// What a statement may meet when others define and change the same things: the table, column or index is
/// there already or not any more, a duplicate, a deadlock, a timeout, a retry.
const EXPECTED: [&str; 11] = [
    "42P01", "42P07", "42703", "42701", "42704", "23505", "40P01", "40001", "55P03", "42P16",
    "42804",
];

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn statement(&mut self) -> String {
        let t = self.below(TABLES);
        let (id, n) = (self.below(ROWS), self.below(5));
        match self.below(100) {
            0..4 => format!("CREATE TABLE IF NOT EXISTS t{t} (id int PRIMARY KEY, a int, b int)"),
            4..6 => format!("DROP TABLE IF EXISTS t{t}"),
            6..10 => format!("CREATE INDEX IF NOT EXISTS t{t}_a ON t{t} (a)"),
            10..13 => format!("DROP INDEX IF EXISTS t{t}_a"),
            13..15 => format!("CREATE UNIQUE INDEX IF NOT EXISTS t{t}_b ON t{t} (b)"),
            15..17 => format!("DROP INDEX IF EXISTS t{t}_b"),
            17..19 => format!("ALTER TABLE t{t} ADD COLUMN c int DEFAULT {n}"),
            19..21 => format!("ALTER TABLE t{t} DROP COLUMN c"),
            21 => format!("ALTER TABLE t{t} ALTER COLUMN a TYPE bigint"),
            22 => format!("TRUNCATE t{t}"),
            23..26 => format!("CREATE INDEX ON t{t} (a, b)"),
            26..50 => format!("INSERT INTO t{t} (id, a, b) VALUES ({id}, {n}, {id})"),
            50..55 => format!(
                "INSERT INTO t{t} (id, a) SELECT n, {n} FROM generate_series(100, 130) AS g(n)"
            ),
            55..65 => format!("UPDATE t{t} SET a = {n} WHERE id = {id}"),
            65..70 => format!("UPDATE t{t} SET a = a + 1 WHERE a = {n}"),
            70..80 => format!("DELETE FROM t{t} WHERE id = {id}"),
            80..84 => format!("DELETE FROM t{t} WHERE a = {n}"),
            _ => format!(
                "SELECT (SELECT count(*) FROM t{t} WHERE a = {n}) - (SELECT count(*) FROM t{t} WHERE a + 0 = {n})"
            ),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indexes_and_catalogs_agree_after_any_definitions_and_changes() {
    for seed in 0..4 {
        let world = World::new().await;
        let sessions: Vec<_> = (0..SESSIONS as u64)
            .map(|number| {
                let gateway = Arc::clone(&world.gateways[number as usize % 2]);
                let dice = Dice(seed * 1000 + number);
                tokio::spawn(async move {
                    let client = Client::new(&gateway, "phantom").await;
                    live(client.expect("the role exists"), dice).await
                })
            })
            .collect();
        let mut done = 0;
        for session in sessions {
            done += session.await.expect("it does not panic");
        }
        // The world is not empty.
        assert!(
            done > SESSIONS as u64 * STATEMENTS / 3,
            "seed {seed}: {done}"
        );
        world.end().await;
    }
}

/// Runs statements, some of them in blocks. Returns how many succeeded.
async fn live(mut client: Client, mut dice: Dice) -> u64 {
    let mut done = 0;
    client.ok("SET lock_timeout = '500ms'").await;
    for _ in 0..STATEMENTS {
        if dice.below(10) == 0 {
            let level = ["READ COMMITTED", "REPEATABLE READ"][dice.below(2) as usize];
            client.ok(&format!("BEGIN ISOLATION LEVEL {level}")).await;
            for _ in 0..1 + dice.below(4) {
                done += u64::from(step(&mut client, &mut dice).await);
            }
            let end = ["COMMIT", "ROLLBACK"][dice.below(2) as usize];
            expected(end, client.run(end).await);
        } else {
            done += u64::from(step(&mut client, &mut dice).await);
        }
    }
    done
}

async fn step(client: &mut Client, dice: &mut Dice) -> bool {
    let sql = dice.statement();
    let result = expected(&sql, client.run(&sql).await);
    if let Some(rows) = &result
        && sql.starts_with("SELECT")
    {
        // With and without the index.
        assert_eq!(rows, &["0"], "{sql}");
    }
    result.is_some()
}

fn expected(sql: &str, result: Result<Vec<String>, Error>) -> Option<Vec<String>> {
    match result {
        Ok(output) => Some(output),
        Err(error) if error.state.as_str() == "25P02" => None,
        Err(error) => {
            assert!(EXPECTED.contains(&error.state.as_str()), "{sql}: {error}");
            None
        }
    }
}
