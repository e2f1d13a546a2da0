//! Startup, simple queries, COPY, the ends of a connection.

use super::Node;
use super::client::{frame, packet, query};
use crate::phase::Phase;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn startup_tells_parameters_and_the_cancel_key() {
    let node = Node::new().await;
    let mut client = node.connect();
    client.startup("phantom", "phantom").await;
    let greeting = client.until_ready().await;
    assert_eq!(greeting[0], "R [0, 0, 0, 0]");
    assert!(
        greeting.contains(&"S client_encoding UTF8".to_string()),
        "{greeting:?}"
    );
    assert_eq!(greeting[greeting.len() - 2], "K");
}

#[tokio::test]
async fn encryption_requests_are_answered_and_startup_goes_on() {
    let node = Node::new().await;
    let mut client = node.connect();
    for code in [80_877_103, 80_877_104] {
        client.send(&[packet(code, &[])]).await;
        assert_eq!(client.stream.read_u8().await.ok(), Some(b'N'));
    }
    client.startup("phantom", "phantom").await;
    assert_eq!(client.until_ready().await.pop().as_deref(), Some("Z I"));
}

#[tokio::test]
async fn strangers_and_unknown_databases_are_refused() {
    let node = Node::new().await;
    for (user, database, state) in [("nobody", "phantom", "28000"), ("phantom", "none", "3D000")] {
        let mut client = node.connect();
        client.startup(user, database).await;
        let answers = client.until_ready().await;
        assert!(
            answers[0].starts_with(&format!("E FATAL {state}")),
            "{answers:?}"
        );
        assert_eq!(answers[1], "closed");
    }
}

#[tokio::test]
async fn a_full_node_says_so() {
    let node = Node::new().await;
    let mut guests = Vec::new();
    for _ in 0..super::SLOTS {
        guests.push(node.session().await);
    }
    let mut client = node.connect();
    client.startup("phantom", "phantom").await;
    assert_eq!(
        client.answer().await,
        "E FATAL 53300 sorry, too many clients already"
    );
    // One leaves, one may come.
    let mut leaving = guests.pop().expect("a guest");
    leaving.send(&[frame(b'X', &[])]).await;
    leaving.task.await.expect("no panic");
    node.session().await;
}

#[tokio::test]
async fn simple_queries() {
    let node = Node::new().await;
    let mut client = node.session().await;
    assert_eq!(
        client
            .ask(&[query(
                "SELECT 1 AS one, NULL::text AS nothing; SELECT 'b' AS b"
            )])
            .await,
        [
            "T one:23:0|nothing:25:0",
            "D 1|NULL",
            "C SELECT 1",
            "T b:25:0",
            "D b",
            "C SELECT 1",
            "Z I"
        ]
    );
    assert_eq!(client.ask(&[query(" ")]).await, ["I", "Z I"]);
    let failed = client.ask(&[query("BEGIN; SELECT 1/0; SELECT 2")]).await;
    assert_eq!(failed[0], "C BEGIN");
    assert!(
        failed[failed.len() - 2].starts_with("E ERROR 22012"),
        "{failed:?}"
    );
    assert_eq!(failed.last().map(String::as_str), Some("Z E"));
    let refused = client.ask(&[query("SELECT 1")]).await;
    assert!(refused[0].starts_with("E ERROR 25P02"), "{refused:?}");
    assert_eq!(
        client.ask(&[query("ROLLBACK")]).await,
        ["C ROLLBACK", "Z I"]
    );
}

#[tokio::test]
async fn changed_settings_are_reported() {
    let node = Node::new().await;
    let mut client = node.session().await;
    assert_eq!(
        client.ask(&[query("SET application_name = 'x'")]).await,
        ["C SET", "S application_name x", "Z I"]
    );
}

#[tokio::test]
async fn many_rows_come_through_a_narrow_pipe() {
    let node = Node::new().await;
    let mut client = node.session().await;
    let answers = client
        .ask(&[query(
            "SELECT g, repeat('x', 100) FROM generate_series(1, 5000) AS g",
        )])
        .await;
    assert_eq!(answers.len(), 5003, "{:?}", answers.last());
    assert_eq!(answers[5001], "C SELECT 5000");
}

#[tokio::test]
async fn copy_in_and_out() {
    let node = Node::new().await;
    let mut client = node.session().await;
    client
        .ask(&[query("CREATE TABLE t (a int PRIMARY KEY, b text)")])
        .await;
    client.send(&[query("COPY t FROM STDIN")]).await;
    assert_eq!(client.answer().await, "G [0, 0, 2, 0]");
    let done = client
        .ask(&[
            frame(b'd', b"1\tone\n2\t"),
            // Sync and Flush mean nothing in between.
            frame(b'H', &[]),
            frame(b'd', b"\\N\n"),
            frame(b'c', &[]),
        ])
        .await;
    assert_eq!(done, ["C COPY 2", "Z I"]);
    let out = client
        .ask(&[query("COPY (SELECT * FROM t ORDER BY a) TO STDOUT")])
        .await;
    assert_eq!(
        out,
        [
            "H [0, 0, 2, 0]",
            "d 1\tone\n",
            "d 2\t\\N\n",
            "c",
            "C COPY 2",
            "Z I"
        ]
    );
}

#[tokio::test]
async fn a_copy_that_fails_drops_what_is_left_of_it() {
    let node = Node::new().await;
    let mut client = node.session().await;
    client.ask(&[query("CREATE TABLE t (a int)")]).await;
    let failed = client
        .ask(&[
            query("COPY t FROM STDIN"),
            frame(b'd', b"nonsense\n"),
            frame(b'c', &[]),
        ])
        .await;
    assert!(failed[1].starts_with("E ERROR 22P02"), "{failed:?}");
    let aborted = client
        .ask(&[
            query("COPY t FROM STDIN"),
            frame(b'd', b"1\n"),
            frame(b'f', b"no more\0"),
        ])
        .await;
    assert_eq!(aborted[1], "E ERROR 57014 COPY from stdin failed: no more");
    let broken = client
        .ask(&[
            query("COPY t FROM STDIN"),
            query("SELECT 1"),
            frame(b'd', b"1\n"),
        ])
        .await;
    assert!(broken[1].starts_with("E ERROR 08P01"), "{broken:?}");
    assert_eq!(
        client.ask(&[query("SELECT count(*) AS n FROM t")]).await[1],
        "D 0"
    );
}

#[tokio::test]
async fn a_bad_body_is_an_error_and_a_bad_frame_is_the_end() {
    let node = Node::new().await;
    let mut client = node.session().await;
    let answers = client.ask(&[frame(b'Q', b"not terminated")]).await;
    assert!(answers[0].starts_with("E ERROR 08P01"), "{answers:?}");
    let answers = client.ask(&[frame(b'Q', b"SELECT '\xff'\0")]).await;
    assert!(answers[0].starts_with("E ERROR 22021"), "{answers:?}");
    let answers = client.ask(&[frame(b'F', &[0; 12])]).await;
    assert!(answers[0].starts_with("E ERROR 0A000"), "{answers:?}");
    let answers = client.ask(&[b"Q\0\0\0\x01".to_vec()]).await;
    assert!(answers[0].starts_with("E FATAL 08P01"), "{answers:?}");
    assert_eq!(answers[1], "closed");

    let mut client = node.session().await;
    let answers = client.ask(&[b"!".to_vec()]).await;
    assert_eq!(answers[0], "E FATAL 08P01 invalid frontend message type 33");
}

#[tokio::test]
async fn a_cancel_request_stops_the_statement() {
    let node = Node::new().await;
    let mut client = node.connect();
    client.startup("phantom", "phantom").await;
    let key = loop {
        let tag = client.stream.read_u8().await.expect("a message");
        let length = client.stream.read_u32().await.expect("a length") as usize;
        let mut body = vec![0; length - 4];
        client.stream.read_exact(&mut body).await.expect("a body");
        if tag == b'K' {
            break body;
        }
    };
    client.until_ready().await;
    client
        .send(&[query(
            "SELECT count(*) FROM generate_series(1, 3000000) a, generate_series(1, 3000000) b",
        )])
        .await;
    // The wire layer reads the request only once the statement waits or yields, so until it is
    // heeded it is repeated.
    let stop = async {
        loop {
            let mut canceler = node.connect();
            canceler.send(&[packet(80_877_102, &key)]).await;
            canceler.task.await.expect("no panic");
            tokio::task::yield_now().await;
        }
    };
    let answers = tokio::select! {
        answers = client.until_ready() => answers,
        () = stop => Vec::new(),
    };
    assert!(
        answers.iter().any(|a| a.starts_with("E ERROR 57014")),
        "{answers:?}"
    );
}

#[tokio::test]
async fn a_node_that_stops_ends_idle_sessions() {
    let node = Node::new().await;
    let mut client = node.session().await;
    node.phase.send(Phase::Stopping).expect("a listener");
    assert_eq!(
        client.until_ready().await,
        [
            "E FATAL 57P01 terminating connection due to administrator command",
            "closed"
        ]
    );
}

#[tokio::test]
async fn a_node_that_drains_ends_sessions_outside_of_transactions() {
    let node = Node::new().await;
    let (mut idle, mut busy) = (node.session().await, node.session().await);
    busy.ask(&[query("BEGIN")]).await;
    node.phase.send(Phase::Leaving).expect("a listener");
    let end = [
        "E FATAL 57P01 terminating connection due to administrator command",
        "closed",
    ];
    assert_eq!(idle.until_ready().await, end);
    let answers = busy.ask(&[query("SELECT 1")]).await;
    assert!(answers.iter().any(|a| a.starts_with("D")), "{answers:?}");
    busy.send(&[query("COMMIT")]).await;
    let answers = busy.until_ready().await;
    assert_eq!(answers, ["C COMMIT", "Z I"]);
    assert_eq!(busy.until_ready().await, end);
}

#[tokio::test]
async fn a_node_that_serves_again_keeps_the_sessions_that_are_left() {
    let node = Node::new().await;
    let mut client = node.session().await;
    client.ask(&[query("BEGIN")]).await;
    node.phase.send(Phase::Leaving).expect("a listener");
    client.ask(&[query("SELECT 1")]).await;
    node.phase.send(Phase::Serving).expect("a listener");
    client.ask(&[query("COMMIT")]).await;
    let answers = client.ask(&[query("SELECT 1")]).await;
    assert!(answers.iter().any(|a| a.starts_with("D")), "{answers:?}");
}

#[tokio::test]
async fn silence_in_a_transaction_is_ended() {
    let node = Node::new().await;
    let mut client = node.session().await;
    client
        .ask(&[query("SET idle_in_transaction_session_timeout = '10ms'")])
        .await;
    client.ask(&[query("BEGIN")]).await;
    let answers = client.until_ready().await;
    assert!(answers[0].starts_with("E FATAL 25P03"), "{answers:?}");
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_behind() {
    let node = Node::new().await;
    let mut client = node.session().await;
    client.ask(&[query("CREATE TABLE t (a int)")]).await;
    client.ask(&[query("BEGIN")]).await;
    client.ask(&[query("INSERT INTO t VALUES (1)")]).await;
    client.stream.shutdown().await.expect("the pipe closes");
    client.task.await.expect("no panic");
    let mut other = node.session().await;
    assert_eq!(
        other.ask(&[query("SELECT count(*) AS n FROM t")]).await[1],
        "D 0"
    );
    assert_eq!(node.server.instance.session_count(), 1);
}

#[tokio::test]
async fn a_statement_is_planned_once_for_each_catalog() {
    let node = Node::new().await;
    let mut client = node.session().await;
    let mut run = async |sql: &str| {
        let answers = client.ask(&[query(sql)]).await;
        assert_eq!(answers.last().map(String::as_str), Some("Z I"));
        let failed = answers.iter().any(|line| line.starts_with('E'));
        assert!(!failed, "{sql}: {answers:?}");
        node.server.instance.plans.made()
    };
    run("CREATE TABLE planned (id int PRIMARY KEY)").await;
    run("SELECT id FROM planned WHERE id = 1").await;
    let before = run("SELECT id FROM planned WHERE id = 2").await;
    assert_eq!(run("SELECT id FROM planned WHERE id = 3").await, before);
    let created = run("CREATE TABLE another (id int)").await;
    let again = run("SELECT id FROM planned WHERE id = 4").await;
    assert_eq!(
        again,
        created + 1,
        "the plan of before the change is replaced"
    );
    assert_eq!(run("SELECT id FROM planned WHERE id = 5").await, again);
}
