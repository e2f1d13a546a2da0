//! Parse, Bind, Describe, Execute, Sync and their errors.

use super::Node;
use super::client::{bind, close, describe, execute, flush, frame, parse, query, sync};

#[tokio::test]
async fn a_pipeline_is_answered_in_order() {
    let node = Node::new().await;
    let mut client = node.session().await;
    let answers = client
        .ask(&[
            parse("s", "SELECT $1::int + 1 AS n"),
            describe(b'S', "s"),
            bind("", "s", &[Some("41")], 0),
            describe(b'P', ""),
            execute("", 0),
            bind("", "s", &[None], 1),
            execute("", 0),
            bind("", "s", &[Some("1")], 1),
            execute("", 0),
            close(b'S', "s"),
            sync(),
        ])
        .await;
    assert_eq!(
        answers,
        [
            "1",
            "t 1 parameters",
            "T n:23:0",
            "2",
            "T n:23:0",
            "D 42",
            "C SELECT 1",
            "2",
            "D NULL",
            "C SELECT 1",
            "2",
            "D [0, 0, 0, 2]",
            "C SELECT 1",
            "3",
            "Z I"
        ]
    );
}

#[tokio::test]
async fn an_error_skips_to_sync() {
    let node = Node::new().await;
    let mut client = node.session().await;
    client
        .ask(&[query("CREATE TABLE t (a int PRIMARY KEY)")])
        .await;
    let answers = client
        .ask(&[
            parse("", "INSERT INTO t VALUES (1)"),
            bind("", "", &[], 0),
            execute("", 0),
            parse("", "SELECT * FROM missing"),
            bind("", "", &[], 0),
            execute("", 0),
            query("SELECT 'skipped'"),
            sync(),
        ])
        .await;
    assert_eq!(answers[..3], ["1", "2", "C INSERT 0 1"]);
    assert!(answers[3].starts_with("E ERROR 42P01"), "{answers:?}");
    assert_eq!(answers[4..], ["Z I"]);
    // The pipeline was one transaction.
    assert_eq!(
        client.ask(&[query("SELECT count(*) AS n FROM t")]).await[1],
        "D 0"
    );
}

#[tokio::test]
async fn portals_are_read_in_parts() {
    let node = Node::new().await;
    let mut client = node.session().await;
    let answers = client
        .ask(&[
            parse("", "SELECT g FROM generate_series(1, 5) AS g"),
            bind("p", "", &[], 0),
            execute("p", 2),
            execute("p", 2),
            execute("p", 2),
            close(b'P', "p"),
            sync(),
        ])
        .await;
    assert_eq!(
        answers,
        [
            "1",
            "2",
            "D 1",
            "D 2",
            "s",
            "D 3",
            "D 4",
            "s",
            "D 5",
            "C SELECT 1",
            "3",
            "Z I"
        ]
    );
}

#[tokio::test]
async fn flush_sends_without_sync() {
    let node = Node::new().await;
    let mut client = node.session().await;
    client
        .send(&[parse("s", "SELECT 1 AS one"), describe(b'S', "s"), flush()])
        .await;
    assert_eq!(
        client.answers(3).await,
        ["1", "t 0 parameters", "T one:23:0"]
    );
    assert_eq!(client.ask(&[sync()]).await, ["Z I"]);
}

#[tokio::test]
async fn commands_without_rows_describe_as_no_data() {
    let node = Node::new().await;
    let mut client = node.session().await;
    let answers = client
        .ask(&[
            parse("", "SET lock_timeout = 5"),
            describe(b'S', ""),
            bind("", "", &[], 0),
            describe(b'P', ""),
            execute("", 0),
            parse("", ""),
            bind("", "", &[], 0),
            execute("", 0),
            sync(),
        ])
        .await;
    assert_eq!(
        answers,
        [
            "1",
            "t 0 parameters",
            "n",
            "2",
            "n",
            "C SET",
            "1",
            "2",
            "I",
            "Z I"
        ]
    );
}

#[tokio::test]
async fn names_that_are_not_there() {
    let node = Node::new().await;
    let mut client = node.session().await;
    for (message, state) in [
        (bind("", "nope", &[], 0), "26000"),
        (execute("nope", 0), "34000"),
        (describe(b'S', "nope"), "26000"),
        (describe(b'P', "nope"), "34000"),
        (describe(b'X', "nope"), "08P01"),
        (frame(b'B', b"\0"), "08P01"),
    ] {
        let answers = client.ask(&[message, sync()]).await;
        assert!(
            answers[0].starts_with(&format!("E ERROR {state}")),
            "{answers:?}"
        );
        assert_eq!(answers.len(), 2);
    }
    // Closing what is not there is no error.
    assert_eq!(
        client.ask(&[close(b'P', "nope"), sync()]).await,
        ["3", "Z I"]
    );
}

#[tokio::test]
async fn wrong_numbers_of_parameters_and_formats() {
    let node = Node::new().await;
    let mut client = node.session().await;
    let answers = client
        .ask(&[parse("s", "SELECT $1::int"), bind("", "s", &[], 0), sync()])
        .await;
    assert!(answers[1].starts_with("E ERROR 08P01"), "{answers:?}");
    let answers = client
        .ask(&[bind("", "s", &[Some("1")], 7), execute("", 0), sync()])
        .await;
    assert!(
        answers.iter().any(|a| a.starts_with("E ERROR")),
        "{answers:?}"
    );
}

#[tokio::test]
async fn copy_in_the_extended_protocol() {
    let node = Node::new().await;
    let mut client = node.session().await;
    client.ask(&[query("CREATE TABLE t (a int)")]).await;
    // The Sync of the pipeline comes before the data, and counts for nothing there.
    client
        .send(&[
            parse("", "COPY t FROM STDIN"),
            bind("", "", &[], 0),
            execute("", 0),
            sync(),
        ])
        .await;
    assert_eq!(client.answers(3).await, ["1", "2", "G [0, 0, 1, 0]"]);
    let answers = client
        .ask(&[frame(b'd', b"1\n2\n"), frame(b'c', &[]), sync()])
        .await;
    assert_eq!(answers, ["C COPY 2", "Z I"]);
}

#[tokio::test]
async fn a_transaction_ends_with_execute_if_sync_is_known_to_follow() {
    let node = Node::new().await;
    let mut client = node.session().await;
    client
        .ask(&[query(
            "CREATE TABLE p (id int PRIMARY KEY); \
             CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
        )])
        .await;
    let insert = [
        parse("", "INSERT INTO c VALUES (1, 1)"),
        bind("", "", &[], 0),
        execute("", 0),
    ];
    // What is wrong is found at the end of the transaction: before its statement has answered …
    let answers = client.ask(&[&insert[..], &[sync()]].concat()).await;
    assert_eq!(answers[..2], ["1", "2"]);
    assert!(answers[2].starts_with("E ERROR 23503"), "{answers:?}");
    assert_eq!(answers[3..], ["Z I"]);
    // … or after it, where more might follow.
    let answers = client
        .ask(&[&insert[..], &[flush(), sync()]].concat())
        .await;
    assert_eq!(answers[..3], ["1", "2", "C INSERT 0 1"]);
    assert!(answers[3].starts_with("E ERROR 23503"), "{answers:?}");
    assert_eq!(answers[4..], ["Z I"]);
}
