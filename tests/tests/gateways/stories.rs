//! What one client does at one gateway, and another sees at the other.

use super::{Client, World};
use std::time::Duration;

/// Longer than any of these stories takes.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn definitions_hold_at_the_other_gateway() {
    let world = World::new().await;
    let (mut a, mut b) = world.clients().await;
    // Both cache the plan of what does not exist yet, or any more, and of what has changed.
    for round in 0..3 {
        assert_eq!(b.fails("SELECT * FROM t").await, "42P01");
        a.ok("CREATE TABLE t (id int PRIMARY KEY, a int)").await;
        b.ok("INSERT INTO t VALUES (1, 10)").await;
        assert_eq!(a.ok("SELECT * FROM t").await, ["1|10"]);
        b.ok("ALTER TABLE t ADD COLUMN b text DEFAULT 'x'").await;
        assert_eq!(a.ok("SELECT * FROM t").await, ["1|10|x"]);
        a.ok("INSERT INTO t VALUES (2, 20, 'y')").await;
        b.ok("ALTER TABLE t DROP COLUMN a").await;
        assert_eq!(a.fails("SELECT a FROM t").await, "42703");
        assert_eq!(a.ok("SELECT * FROM t WHERE id = 2").await, ["2|y"]);
        a.ok("ALTER TABLE t RENAME TO u").await;
        assert_eq!(b.fails("INSERT INTO t VALUES (3)").await, "42P01");
        assert_eq!(b.ok("SELECT count(*) FROM u").await, ["2"]);
        b.ok("CREATE VIEW v AS SELECT b FROM u").await;
        assert_eq!(a.ok("SELECT * FROM v ORDER BY 1").await, ["x", "y"]);
        a.ok("DROP VIEW v; DROP TABLE u").await;
        assert_eq!(b.fails("SELECT * FROM u").await, "42P01", "round {round}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_made_while_others_insert_has_all_their_rows() {
    let world = World::new().await;
    let (mut a, mut b) = world.clients().await;
    a.ok("CREATE TABLE t (id int PRIMARY KEY, a int)").await;
    // B's plan knows of no index, and its row is not committed when A begins.
    b.ok("INSERT INTO t VALUES (1, 1)").await;
    b.ok("BEGIN").await;
    b.ok("INSERT INTO t VALUES (2, 2)").await;
    let making = tokio::spawn(async move {
        a.ok("CREATE INDEX t_a ON t (a)").await;
        a
    });
    // A third one waits behind A with the same plan as B's.
    let mut c = world.client(1).await;
    wait_for_waiters(&world, 1).await;
    let waiting = tokio::spawn(async move { c.ok("INSERT INTO t VALUES (3, 3)").await });
    wait_for_waiters(&world, 2).await;
    b.ok("COMMIT").await;
    let mut a = making.await.expect("the index is made");
    assert_eq!(waiting.await.expect("the row is inserted"), ["INSERT 0 1"]);
    b.ok("UPDATE t SET a = 4 WHERE id = 1").await;
    assert_eq!(a.ok("SELECT id FROM t WHERE a = 4").await, ["1"]);
    assert_eq!(a.ok("SELECT id FROM t WHERE a = 2").await, ["2"]);
    b.ok("DROP INDEX t_a").await;
    a.ok("INSERT INTO t VALUES (5, 5)").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_drop_an_index_one_finds_it_gone() {
    let world = World::new().await;
    let (mut a, mut b) = world.clients().await;
    a.ok("CREATE TABLE t (id int PRIMARY KEY, a int); CREATE INDEX t_a ON t (a)")
        .await;
    a.ok("BEGIN; DROP INDEX t_a").await;
    let waiting = tokio::spawn(async move { b.fails("DROP INDEX t_a").await });
    wait_for_waiters(&world, 1).await;
    a.ok("COMMIT").await;
    assert_eq!(waiting.await.expect("it does not panic"), "42P01");
    world.end().await;
}

async fn wait_for_waiters(world: &World, waiters: usize) {
    let waiting = async {
        while world.store.lock_counts().1 < waiters {
            tokio::task::yield_now().await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, waiting).await;
    done.unwrap_or_else(|_| panic!("nobody waits: {:?}", world.store.lock_counts()));
}

#[tokio::test]
async fn an_index_newer_than_a_fixed_snapshot_is_not_used() {
    let world = World::new().await;
    let (mut a, mut b) = world.clients().await;
    a.ok("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 1)")
        .await;
    b.ok("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    assert_eq!(b.ok("SELECT id FROM t WHERE a = 1").await, ["1"]);
    a.ok("ALTER TABLE t ADD COLUMN c int").await;
    assert_eq!(b.ok("SELECT id FROM t WHERE a = 1").await, ["1"]);
    a.ok("CREATE INDEX ON t (a)").await;
    assert_eq!(b.fails("SELECT id FROM t WHERE a = 1").await, "40001");
    b.ok("ROLLBACK").await;
    assert_eq!(b.ok("SELECT id FROM t WHERE a = 1").await, ["1"]);
    world.end().await;
}

#[tokio::test]
async fn a_transaction_with_definitions_of_its_own_sees_those_of_others() {
    let world = World::new().await;
    let (mut a, mut b) = world.clients().await;
    a.ok("CREATE TABLE t (id int PRIMARY KEY, a int)").await;
    b.ok("BEGIN; CREATE TABLE own (x int)").await;
    a.ok("CREATE INDEX t_a ON t (a); CREATE TABLE other (x int)")
        .await;
    b.ok("INSERT INTO t VALUES (1, 1); INSERT INTO other VALUES (2); INSERT INTO own VALUES (3)")
        .await;
    b.ok("COMMIT").await;
    assert_eq!(
        a.ok("SELECT x FROM own UNION SELECT x FROM other ORDER BY 1")
            .await,
        ["2", "3"]
    );
    assert_eq!(a.ok("SELECT id FROM t WHERE a = 1").await, ["1"]);
    world.end().await;
}

#[tokio::test]
async fn prepared_statements_follow_the_other_gateways_definitions() {
    let world = World::new().await;
    let (mut a, mut b) = world.clients().await;
    a.ok("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 5)")
        .await;
    let session = &mut b.session;
    session
        .parse("find", "SELECT id FROM t WHERE a = $1", &[])
        .await
        .expect("the table is there");
    session
        .parse("all", "SELECT * FROM t", &[])
        .await
        .expect("the table is there");
    a.ok("ALTER TABLE t ALTER COLUMN a TYPE text").await;
    // B has not heard of it: it reads the value as an integer.
    let session = &mut b.session;
    session
        .bind("", "find", &[], &[Some("5".into())], &[])
        .await
        .expect("an integer");
    let found = session
        .execute("", 0, false)
        .await
        .expect("the value is read again as text");
    assert_eq!(b.read(found.response).await.expect("rows"), ["1"]);
    let session = &mut b.session;
    session.sync().await.expect("nothing is left open");
    session
        .bind("", "all", &[], &[], &[])
        .await
        .expect("no parameters");
    a.ok("ALTER TABLE t ADD COLUMN b int").await;
    // The client may have asked for the columns already.
    let session = &mut b.session;
    let Err(error) = session.execute("", 0, false).await else {
        panic!("columns that were not described");
    };
    assert_eq!(error.message, "cached plan must not change result type");
    session.sync().await.expect("nothing is left open");
    session
        .bind("", "all", &[], &[], &[])
        .await
        .expect("planned again");
    let found = session.execute("", 0, false).await.expect("planned again");
    assert_eq!(b.read(found.response).await.expect("rows"), ["1|5|null"]);
    b.ok("PREPARE p AS INSERT INTO t (id) VALUES ($1)").await;
    a.ok("ALTER TABLE t ALTER COLUMN b SET DEFAULT 7").await;
    b.ok("EXECUTE p (2)").await;
    assert_eq!(a.ok("SELECT b FROM t WHERE id = 2").await, ["7"]);
    b.session.sync().await.expect("nothing is left open");
    world.end().await;
}

#[tokio::test]
async fn sequences_and_hidden_row_ids_are_given_once() {
    let world = World::new().await;
    let (mut a, mut b) = world.clients().await;
    a.ok("CREATE TABLE t (id bigserial PRIMARY KEY, a int); CREATE TABLE h (a int)")
        .await;
    for n in 0..100 {
        a.ok(&format!(
            "INSERT INTO t (a) VALUES ({n}); INSERT INTO h VALUES ({n})"
        ))
        .await;
        b.ok(&format!(
            "INSERT INTO t (a) VALUES ({n}); INSERT INTO h VALUES ({n})"
        ))
        .await;
    }
    assert_eq!(
        a.ok("SELECT count(*), count(DISTINCT id) FROM t").await,
        ["200|200"]
    );
    assert_eq!(b.ok("SELECT count(*) FROM h").await, ["200"]);
    a.ok("ALTER SEQUENCE t_id_seq RESTART WITH 10000").await;
    let first = b.ok("SELECT nextval('t_id_seq')").await;
    assert_eq!(first, ["10000"]);
    assert_ne!(a.ok("SELECT nextval('t_id_seq')").await, first);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_tables_of_one_name_one_is_made() {
    let world = World::new().await;
    for n in 0..20 {
        let tries = [0, 1].map(|gateway| {
            let gateway = std::sync::Arc::clone(&world.gateways[gateway]);
            tokio::spawn(async move {
                let mut client = Client::new(&gateway, "phantom")
                    .await
                    .expect("the role exists");
                let made = client.run(&format!("CREATE TABLE t{n} (a int)")).await;
                made.map_err(|error| error.state.as_str().to_string())
            })
        });
        let mut made = 0;
        for one in tries {
            match one.await.expect("it does not panic") {
                Ok(_) => made += 1,
                Err(state) => assert_eq!(state, "42P07"),
            }
        }
        assert_eq!(made, 1, "t{n}");
    }
    world.end().await;
}

#[tokio::test]
async fn roles_are_known_at_once_everywhere() {
    let world = World::new().await;
    let (mut a, mut b) = world.clients().await;
    let other = &world.gateways[1];
    a.ok("CREATE ROLE ann LOGIN PASSWORD 'first'").await;
    let first = other
        .role_password("ann")
        .await
        .expect("readable")
        .expect("known");
    assert!(first.can_login && first.verifier.is_some());
    let mut ann = Client::new(other, "ann").await.expect("she may log in");
    a.ok("ALTER ROLE ann PASSWORD 'second'").await;
    let second = other
        .role_password("ann")
        .await
        .expect("readable")
        .expect("known");
    assert_ne!(first.verifier, second.verifier);
    // What a superuser may is looked up with each statement.
    b.ok("CREATE TABLE t (a int)").await;
    assert_eq!(ann.fails("DROP TABLE t").await, "42501");
    a.ok("ALTER ROLE ann SUPERUSER").await;
    ann.ok("DROP TABLE t").await;
    a.ok("DROP ROLE ann").await;
    assert!(Client::new(other, "ann").await.is_err());
    a.ok("CREATE DATABASE d").await;
    assert_eq!(b.fails("CREATE DATABASE d").await, "42P04");
    b.ok("DROP DATABASE d").await;
    assert_eq!(a.fails("DROP DATABASE d").await, "3D000");
    world.end().await;
}

#[tokio::test]
async fn foreign_keys_made_at_one_gateway_hold_at_the_other() {
    let world = World::new().await;
    let (mut a, mut b) = world.clients().await;
    a.ok("CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1), (2)")
        .await;
    b.ok("DELETE FROM p WHERE id = 2").await;
    a.ok("CREATE TABLE c (id int REFERENCES p ON DELETE CASCADE, x int)")
        .await;
    a.ok("CREATE TABLE d (id int REFERENCES p); INSERT INTO d VALUES (1)")
        .await;
    assert_eq!(b.fails("DELETE FROM p WHERE id = 1").await, "23503");
    a.ok("DELETE FROM d; INSERT INTO c VALUES (1, 7); CREATE INDEX ON c (x)")
        .await;
    b.ok("DELETE FROM p WHERE id = 1").await;
    assert_eq!(a.ok("SELECT count(*) FROM c").await, ["0"]);
    world.end().await;
}

#[tokio::test]
async fn columns_kept_in_memory_are_never_stale() {
    let world = World::new().await;
    let (mut a, mut b) = world.clients().await;
    a.ok("CREATE TABLE t (id int PRIMARY KEY, a int)").await;
    a.ok("INSERT INTO t SELECT n, n FROM generate_series(1, 5000) AS g(n)")
        .await;
    let sum = "SELECT sum(a), count(*) FROM t";
    for gateway in [&mut a, &mut b] {
        for _ in 0..3 {
            assert_eq!(gateway.ok(sum).await, ["12502500|5000"]);
        }
    }
    b.ok("UPDATE t SET a = a + 1 WHERE id <= 100").await;
    assert_eq!(a.ok(sum).await, ["12502600|5000"]);
    a.ok("DELETE FROM t WHERE id > 4000").await;
    assert_eq!(b.ok(sum).await, ["8002100|4000"]);
    a.ok("TRUNCATE t").await;
    assert_eq!(b.ok(sum).await, ["null|0"]);
    world.end().await;
}
