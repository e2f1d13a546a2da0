//! A full disk: writes are refused with 53100, reads go on, and after space came back writes do too.
//!
//! The node gets a file system of its own, in memory and in a mount namespace of its own, which ends
//! with it. That takes root; elsewhere the test says so and proves nothing.

use crate::node::{DEADLINE, Node, arguments, program, state};
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tokio::time::timeout;
use tokio_postgres::Client;

/// Bytes of the file system, and of the ballast that is removed later.
const DISK_MIB: usize = 192;
const BALLAST_MIB: usize = 64;

/// A node whose folder is a small file system.
fn on_small_disk(folder: &Path) -> Option<Command> {
    let mounts = "mount -t tmpfs -o size=$1m tmpfs \"$2\" && shift 2";
    let shell = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &format!("{mounts} && {then}"), "sh"]);
        command.arg(DISK_MIB.to_string()).arg(folder.join("disk"));
        command
    };
    std::fs::create_dir(folder.join("disk")).expect("a folder");
    if !shell("true").status().is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = shell("exec \"$@\"");
    command
        .arg(program())
        .arg("start")
        .args(arguments(&folder.join("disk"), "127.0.0.1:0"));
    Some(command)
}

async fn insert(client: &Client, first: i64) -> Result<(), tokio_postgres::Error> {
    let sql = format!(
        "INSERT INTO t SELECT n, repeat(md5(n::text), 32) FROM generate_series({first}, {first} + 999) AS n"
    );
    let inserted = timeout(DEADLINE, client.batch_execute(&sql)).await;
    inserted.expect("a full disk refuses, it does not hang")
}

async fn count(client: &Client) -> i64 {
    let row = timeout(DEADLINE, client.query_one("SELECT count(v) FROM t", &[])).await;
    row.expect("reads do not hang").expect("reads go on").get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_survived() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(command) = on_small_disk(folder.path()) else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    let node = Node::run(command, folder.path()).unwrap_or_else(|ended| panic!("{ended:?}"));
    // The node's own view of the file system.
    let disk = format!(
        "/proc/{}/root{}",
        node.pid(),
        folder.path().join("disk").display()
    );
    let ballast = Path::new(&disk).join("ballast");
    std::fs::write(&ballast, vec![1; BALLAST_MIB << 20]).expect("there is space yet");

    let client = node.connect().await;
    client
        .batch_execute("CREATE TABLE t (id int8 PRIMARY KEY, v text)")
        .await
        .expect("a table");
    let mut written = 0;
    let refusal = loop {
        match insert(&client, written).await {
            Ok(()) => written += 1000,
            Err(error) => break error,
        }
        assert!(written < 1_000_000, "the disk is never full");
    };
    assert_eq!(state(&refusal), "53100", "{refusal}");
    assert_eq!(
        count(&client).await,
        written,
        "all that was acknowledged, no more"
    );

    std::fs::remove_file(&ballast).expect("the ballast");
    let began = Instant::now();
    while let Err(error) = insert(&client, written).await {
        assert_eq!(state(&error), "53100", "{error}");
        assert!(
            began.elapsed() < DEADLINE,
            "writes do not come back: {error}"
        );
    }
    assert_eq!(count(&client).await, written + 1000);
    node.stop();
}
