use crate::catalog::descriptor::*;
use crate::test_world::World;
use txn::kv::Isolation;
use types::{Datum, SqlState, SqlType};

fn unique_index(oid: u32, id: u16, name: &str, column: usize, unique: bool) -> Index {
    Index {
        oid,
        id,
        name: name.into(),
        columns: vec![IndexColumn {
            key: IndexKey::Column(column),
            descending: false,
            nulls_first: false,
        }],
        unique,
        nulls_not_distinct: false,
        constraint_oid: None,
        predicate: None,
        method: "btree".into(),
        include: Vec::new(),
        comment: None,
    }
}

fn world() -> World {
    let mut world = World::new();
    world.table_with(
        "t",
        &[
            ("id", SqlType::Int4),
            ("a", SqlType::Int4),
            ("b", SqlType::Varchar(Some(5))),
            ("c", SqlType::Numeric(Some((8, 2)))),
        ],
        1,
        |table| {
            table
                .indexes
                .push(unique_index(90_001, 2, "t_b_key", 2, true));
            table
                .indexes
                .push(unique_index(90_002, 3, "t_a_idx", 1, false));
            table.columns[3].default = Some("1.5".into());
            table.checks.push(Check {
                oid: 90_003,
                name: "t_a_check".into(),
                expression: "a < 1000".into(),
                not_valid: false,
            });
        },
    );
    world.table("n", &[("x", SqlType::Int8), ("y", SqlType::Text)], 0);
    world
}

async fn fails(world: &World, sql: &str, state: SqlState, message: &str) -> types::Error {
    let error = world.exec(sql).await.unwrap_err();
    assert_eq!(
        (error.state, error.message.as_str()),
        (state, message),
        "{sql}"
    );
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn insert_select_update_delete() {
    let w = world();
    assert_eq!(
        w.exec("INSERT INTO t (id, a, b) VALUES (1, 10, 'x'), (2, 20, NULL), (3, 20, NULL) RETURNING id, c")
            .await
            .unwrap(),
        (3, vec!["1|1.50".into(), "2|1.50".into(), "3|1.50".into()])
    );
    assert_eq!(
        w.rows("SELECT * FROM t WHERE id = 1").await,
        ["1|10|x|1.50"]
    );
    assert_eq!(w.rows("SELECT id FROM t WHERE a = 20").await, ["2", "3"]);
    assert_eq!(w.rows("SELECT id + 1 FROM t WHERE b = 'x'").await, ["2"]);
    assert_eq!(
        w.rows("SELECT id FROM t WHERE id IN (3, 1, 7) ORDER BY id")
            .await,
        ["1", "3"]
    );
    assert_eq!(
        w.rows("SELECT id FROM t WHERE id BETWEEN 2 AND 9 ORDER BY id DESC")
            .await,
        ["3", "2"]
    );
    assert_eq!(
        w.rows("SELECT id FROM t ORDER BY id DESC LIMIT 2").await,
        ["3", "2"]
    );
    assert_eq!(
        w.rows("SELECT sum(a), count(*) FROM t WHERE id BETWEEN 1 AND 2")
            .await,
        ["30|2"]
    );
    assert_eq!(
        w.rows("SELECT DISTINCT a FROM t WHERE id BETWEEN 1 AND 3 ORDER BY a")
            .await,
        ["10", "20"]
    );
    assert_eq!(w.rows("SELECT 1 + 2, 'a' || 'b'").await, ["3|ab"]);
    assert_eq!(
        w.exec("UPDATE t SET a = a + 1, b = 'q' WHERE id = 2 RETURNING *")
            .await
            .unwrap(),
        (1, vec!["2|21|q|1.50".into()])
    );
    assert_eq!(
        w.exec("UPDATE t SET a = DEFAULT WHERE a >= 20")
            .await
            .unwrap()
            .0,
        2
    );
    assert_eq!(
        w.rows("SELECT id FROM t WHERE a IS NULL ORDER BY id").await,
        ["2", "3"]
    );
    assert_eq!(
        w.exec("UPDATE t SET id = id + 10 WHERE id = 3")
            .await
            .unwrap()
            .0,
        1
    );
    assert_eq!(
        w.rows("SELECT id, b FROM t WHERE id BETWEEN 0 AND 99")
            .await,
        ["1|x", "2|q", "13|null"]
    );
    assert_eq!(
        w.exec("DELETE FROM t WHERE b = 'q' RETURNING id")
            .await
            .unwrap(),
        (1, vec!["2".into()])
    );
    assert_eq!(
        w.rows("SELECT id FROM t WHERE b = 'q'").await,
        Vec::<String>::new()
    );
    assert_eq!(w.exec("DELETE FROM t").await.unwrap().0, 2);
    assert_eq!(
        w.exec("INSERT INTO n VALUES (1, 'a'), (2, 'b')")
            .await
            .unwrap()
            .0,
        2
    );
    assert_eq!(
        w.exec("UPDATE n SET y = y || '!' WHERE x = 2 RETURNING y")
            .await
            .unwrap()
            .1,
        ["b!"]
    );
    assert_eq!(w.exec("DELETE FROM n WHERE x = 1").await.unwrap().0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constraints_speak_as_postgres_does() {
    let w = world();
    w.exec("INSERT INTO t VALUES (1, 1, 'x')").await.unwrap();
    let error = fails(
        &w,
        "INSERT INTO t VALUES (1, 2, 'y')",
        SqlState::UNIQUE_VIOLATION,
        "duplicate key value violates unique constraint \"t_pkey\"",
    )
    .await;
    assert_eq!(
        error.fields.detail.as_deref(),
        Some("Key (id)=(1) already exists.")
    );
    let error = fails(
        &w,
        "INSERT INTO t VALUES (2, 2, 'x')",
        SqlState::UNIQUE_VIOLATION,
        "duplicate key value violates unique constraint \"t_b_key\"",
    )
    .await;
    assert_eq!(
        error.fields.detail.as_deref(),
        Some("Key (b)=(x) already exists.")
    );
    let error = fails(
        &w,
        "INSERT INTO t (a) VALUES (7)",
        SqlState::NOT_NULL_VIOLATION,
        "null value in column \"id\" of relation \"t\" violates not-null constraint",
    )
    .await;
    assert_eq!(
        error.fields.detail.as_deref(),
        Some("Failing row contains (null, 7, null, 1.50).")
    );
    fails(
        &w,
        "UPDATE t SET a = 1000",
        SqlState::CHECK_VIOLATION,
        "new row for relation \"t\" violates check constraint \"t_a_check\"",
    )
    .await;
    fails(
        &w,
        "INSERT INTO t VALUES (5, 1, 'toolong')",
        SqlState::STRING_DATA_RIGHT_TRUNCATION,
        "value too long for type character varying(5)",
    )
    .await;
    fails(
        &w,
        "UPDATE t SET a = a + 2147483647",
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        "integer out of range",
    )
    .await;
    let error = fails(
        &w,
        "UPDATE t SET a = b",
        SqlState::DATATYPE_MISMATCH,
        "column \"a\" is of type integer but expression is of type character varying",
    )
    .await;
    assert_eq!(
        error.fields.hint.as_deref(),
        Some("You will need to rewrite or cast the expression.")
    );
    // A statement that fails half-way leaves nothing behind.
    fails(
        &w,
        "INSERT INTO t VALUES (8, 1, 'p'), (1, 1, 'r')",
        SqlState::UNIQUE_VIOLATION,
        "duplicate key value violates unique constraint \"t_pkey\"",
    )
    .await;
    let mut txn = w.begin(Isolation::ReadCommitted);
    assert!(
        w.change(
            &mut txn,
            "INSERT INTO t VALUES (8, 1, 'p'), (1, 1, 'r')",
            &[]
        )
        .await
        .is_err()
    );
    assert!(!txn.has_writes());
    txn.rollback();
    assert_eq!(
        w.rows("SELECT id FROM t WHERE id BETWEEN 0 AND 99").await,
        ["1"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_conflict() {
    let w = world();
    w.exec("INSERT INTO t VALUES (1, 1, 'x')").await.unwrap();
    assert_eq!(
        w.exec("INSERT INTO t VALUES (1, 5, 'y') ON CONFLICT DO NOTHING")
            .await
            .unwrap()
            .0,
        0
    );
    assert_eq!(
        w.exec("INSERT INTO t VALUES (9, 5, 'x') ON CONFLICT (b) DO NOTHING")
            .await
            .unwrap()
            .0,
        0
    );
    assert_eq!(
        w.exec("INSERT INTO t VALUES (1, 5, 'y') ON CONFLICT (id) DO UPDATE SET a = t.a + excluded.a, b = excluded.b RETURNING *")
            .await
            .unwrap(),
        (1, vec!["1|6|y|1.50".into()])
    );
    assert_eq!(
        w.exec("INSERT INTO t VALUES (1, 5, 'y') ON CONFLICT ON CONSTRAINT t_pkey DO UPDATE SET a = 0 WHERE t.a > 100")
            .await
            .unwrap()
            .0,
        0
    );
    fails(
        &w,
        "INSERT INTO t VALUES (7, 1, 'm'), (7, 2, 'n') ON CONFLICT (id) DO UPDATE SET a = excluded.a",
        SqlState::CARDINALITY_VIOLATION,
        "ON CONFLICT DO UPDATE command cannot affect row a second time",
    )
    .await;
    fails(
        &w,
        "INSERT INTO t VALUES (7, 1, 'm') ON CONFLICT (a) DO NOTHING",
        SqlState::INVALID_COLUMN_REFERENCE,
        "there is no unique or exclusion constraint matching the ON CONFLICT specification",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_by_query() {
    let w = world();
    w.exec("INSERT INTO t VALUES (1, 1, 'x'), (2, 2, 'y'), (3, 3, 'z')")
        .await
        .unwrap();
    w.exec("INSERT INTO n SELECT id, b FROM t WHERE id > 1")
        .await
        .unwrap();
    assert_eq!(
        w.exec(
            "UPDATE t SET a = t.a + n.x, c = 7 FROM n WHERE n.y = t.b RETURNING t.id, a, c, n.y"
        )
        .await
        .unwrap(),
        (2, vec!["2|4|7.00|y".into(), "3|6|7.00|z".into()])
    );
    assert_eq!(
        w.exec("UPDATE t SET a = (SELECT max(x) FROM n) WHERE id = 1")
            .await
            .unwrap()
            .0,
        1
    );
    assert_eq!(w.rows("SELECT a FROM t WHERE id = 1").await, ["3"]);
    assert_eq!(
        w.exec("DELETE FROM t USING n WHERE n.x = t.id AND n.y = 'y'")
            .await
            .unwrap()
            .0,
        1
    );
    assert_eq!(
        w.exec("DELETE FROM t WHERE id IN (SELECT x FROM n)")
            .await
            .unwrap()
            .0,
        1
    );
    assert_eq!(
        w.rows("SELECT id FROM t WHERE id BETWEEN 0 AND 99").await,
        ["1"]
    );
}

fn family(on_delete: ReferentialAction, on_update: ReferentialAction, deferred: bool) -> World {
    let mut world = World::new();
    let parent = world.table("p", &[("id", SqlType::Int4)], 1);
    world.table_with(
        "c",
        &[("id", SqlType::Int4), ("p", SqlType::Int4)],
        1,
        |table| {
            table.foreign_keys.push(ForeignKey {
                oid: 90_010,
                name: "c_p_fkey".into(),
                columns: vec![1],
                referenced_table: parent,
                referenced_columns: vec![0],
                on_delete,
                on_update,
                deferrable: deferred,
                initially_deferred: deferred,
                match_full: false,
                not_valid: false,
            });
        },
    );
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_keys() {
    use ReferentialAction::*;
    let w = family(NoAction, NoAction, false);
    let error = fails(
        &w,
        "INSERT INTO c VALUES (1, 5)",
        SqlState::FOREIGN_KEY_VIOLATION,
        "insert or update on table \"c\" violates foreign key constraint \"c_p_fkey\"",
    )
    .await;
    assert_eq!(
        error.fields.detail.as_deref(),
        Some("Key (p)=(5) is not present in table \"p\".")
    );
    w.exec("INSERT INTO p VALUES (5), (6)").await.unwrap();
    w.exec("INSERT INTO c VALUES (1, 5), (2, NULL)")
        .await
        .unwrap();
    let error = fails(
        &w,
        "DELETE FROM p WHERE id = 5",
        SqlState::FOREIGN_KEY_VIOLATION,
        "update or delete on table \"p\" violates foreign key constraint \"c_p_fkey\" on table \"c\"",
    )
    .await;
    assert_eq!(
        error.fields.detail.as_deref(),
        Some("Key (id)=(5) is still referenced from table \"c\".")
    );
    w.exec("DELETE FROM p WHERE id = 6").await.unwrap();

    let w = family(Cascade, Cascade, false);
    w.exec("INSERT INTO p VALUES (5), (6)").await.unwrap();
    w.exec("INSERT INTO c VALUES (1, 5), (2, 6)").await.unwrap();
    w.exec("UPDATE p SET id = 50 WHERE id = 5").await.unwrap();
    assert_eq!(
        w.rows("SELECT * FROM c WHERE id BETWEEN 0 AND 9").await,
        ["1|50", "2|6"]
    );
    w.exec("DELETE FROM p WHERE id = 50").await.unwrap();
    assert_eq!(
        w.rows("SELECT * FROM c WHERE id BETWEEN 0 AND 9").await,
        ["2|6"]
    );

    let w = family(SetNull, Restrict, false);
    w.exec("INSERT INTO p VALUES (5)").await.unwrap();
    w.exec("INSERT INTO c VALUES (1, 5)").await.unwrap();
    assert!(w.exec("UPDATE p SET id = 6").await.is_err());
    w.exec("DELETE FROM p").await.unwrap();
    assert_eq!(w.rows("SELECT * FROM c WHERE id = 1").await, ["1|null"]);

    let w = family(NoAction, NoAction, true);
    let mut txn = w.begin(Isolation::ReadCommitted);
    let first = w
        .change(&mut txn, "INSERT INTO c VALUES (1, 5)", &[])
        .await
        .unwrap();
    let ctx = w.context(&mut txn);
    assert!(!first.deferred.is_empty());
    assert!(
        super::run_deferred_checks(first.deferred.clone(), &mut txn, &ctx)
            .await
            .is_err()
    );
    w.change(&mut txn, "INSERT INTO p VALUES (5)", &[])
        .await
        .unwrap();
    super::run_deferred_checks(first.deferred, &mut txn, &ctx)
        .await
        .unwrap();
    txn.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_updates_are_not_lost() {
    let w = world();
    w.exec("INSERT INTO t VALUES (1, 0, 'x')").await.unwrap();
    let mut first = w.begin(Isolation::ReadCommitted);
    let mut second = w.begin(Isolation::ReadCommitted);
    let update = "UPDATE t SET a = a + 1 WHERE id = 1 AND a < 2";
    w.change(&mut first, update, &[]).await.unwrap();
    {
        let waiting = w.change(&mut second, update, &[]);
        futures::pin_mut!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        first.commit().await.unwrap();
        assert_eq!(waiting.await.unwrap().affected, 1);
    }
    second.commit().await.unwrap();
    assert_eq!(w.rows("SELECT a FROM t WHERE id = 1").await, ["2"]);
    assert_eq!(w.exec(update).await.unwrap().0, 0);

    // A child may not slip in beside its parent's deletion.
    let w = family(
        ReferentialAction::NoAction,
        ReferentialAction::NoAction,
        false,
    );
    w.exec("INSERT INTO p VALUES (5)").await.unwrap();
    let mut child = w.begin(Isolation::ReadCommitted);
    let mut parent = w.begin(Isolation::ReadCommitted);
    w.change(&mut child, "INSERT INTO c VALUES (1, 5)", &[])
        .await
        .unwrap();
    let waiting = w.change(
        &mut parent,
        "DELETE FROM p WHERE id = $1",
        &[Datum::Int4(5)],
    );
    futures::pin_mut!(waiting);
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    child.commit().await.unwrap();
    assert_eq!(
        waiting.await.unwrap_err().state,
        SqlState::FOREIGN_KEY_VIOLATION
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_locks() {
    let w = world();
    w.exec("INSERT INTO t VALUES (1, 1, 'x'), (2, 1, 'y'), (3, 1, 'z')")
        .await
        .unwrap();
    let mut first = w.begin(Isolation::ReadCommitted);
    let mut second = w.begin(Isolation::ReadCommitted);
    let queue = "SELECT id FROM t WHERE a = 1 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED";
    assert_eq!(w.select_in(&mut first, queue).await.unwrap(), ["1"]);
    assert_eq!(w.select_in(&mut second, queue).await.unwrap(), ["2"]);
    let nowait = "SELECT a FROM t WHERE id = 1 FOR UPDATE NOWAIT";
    let error = w.select_in(&mut second, nowait).await.unwrap_err();
    assert_eq!(error.state, SqlState::LOCK_NOT_AVAILABLE);
    w.change(&mut first, "UPDATE t SET a = 5 WHERE id = 1", &[])
        .await
        .unwrap();
    assert_eq!(
        w.select_in(&mut first, "SELECT a FROM t WHERE id = 1")
            .await
            .unwrap(),
        ["5"]
    );
    {
        // The row that was waited for no longer meets the condition.
        let waiting = w.select_in(
            &mut second,
            "SELECT id FROM t WHERE a = 1 AND id = 1 FOR UPDATE",
        );
        futures::pin_mut!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        first.commit().await.unwrap();
        assert_eq!(waiting.await.unwrap(), Vec::<String>::new());
    }
    second.rollback();
    assert_eq!(
        w.rows("SELECT id FROM t WHERE id = ANY (ARRAY[3, 2, 9]) AND a = 1 ORDER BY id")
            .await,
        ["2", "3"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_columns_and_clever_indexes() {
    let mut w = World::new();
    w.table_with(
        "g",
        &[
            ("id", SqlType::Int4),
            ("a", SqlType::Int4),
            ("double", SqlType::Int4),
            ("name", SqlType::Text),
        ],
        1,
        |table| {
            table.columns[2].generated = Some("a * 2".into());
            let mut expression = unique_index(90_020, 2, "g_expr", 0, true);
            expression.columns[0].key = IndexKey::Expression("name || '!'".into(), SqlType::Text);
            let mut partial = unique_index(90_021, 3, "g_partial", 1, true);
            partial.predicate = Some("a > 10".into());
            table.indexes = vec![expression, partial];
        },
    );
    w.exec("INSERT INTO g (id, a, name) VALUES (1, 4, 'x'), (2, 4, 'y'), (3, 11, 'z')")
        .await
        .unwrap();
    assert_eq!(w.rows("SELECT double FROM g WHERE id = 3").await, ["22"]);
    assert_eq!(
        w.exec("UPDATE g SET a = 5 WHERE id = 1 RETURNING double")
            .await
            .unwrap()
            .1,
        ["10"]
    );
    fails(
        &w,
        "INSERT INTO g (id, a, name) VALUES (4, 4, 'x')",
        SqlState::UNIQUE_VIOLATION,
        "duplicate key value violates unique constraint \"g_expr\"",
    )
    .await;
    fails(
        &w,
        "UPDATE g SET a = 11 WHERE id = 2",
        SqlState::UNIQUE_VIOLATION,
        "duplicate key value violates unique constraint \"g_partial\"",
    )
    .await;
    fails(
        &w,
        "INSERT INTO g VALUES (5, 1, 2, 'q')",
        SqlState::GENERATED_ALWAYS,
        "cannot insert a non-DEFAULT value into column \"double\"",
    )
    .await;
    fails(
        &w,
        "UPDATE g SET double = 1",
        SqlState::GENERATED_ALWAYS,
        "column \"double\" can only be updated to DEFAULT",
    )
    .await;
}
