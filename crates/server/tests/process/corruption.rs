//! A damaged file is told by name, and its data is never served.

use crate::node::{Node, start, state};
use std::fs;
use std::path::{Path, PathBuf};

const ROWS: i64 = 20_000;

/// Places in a file that are damaged, as parts of its length.
const PLACES: [f64; 3] = [0.1, 0.5, 0.9];

/// A stopped node's folder with a table of known contents.
async fn prepared(folder: &Path) {
    let node = Node::start(folder);
    let client = node.connect().await;
    client
        .batch_execute(&format!(
            "CREATE TABLE t (id int8 PRIMARY KEY, v text NOT NULL);
             INSERT INTO t SELECT n, md5(n::text) || md5((n + 1)::text)
             FROM generate_series(1, {ROWS}) AS n"
        ))
        .await
        .expect("rows");
    node.stop();
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_under(&path));
        } else {
            files.push(path);
        }
    }
    files
}

fn flip(file: &Path, place: f64) {
    let mut bytes = fs::read(file).expect("a file");
    let at = (bytes.len() as f64 * place) as usize;
    bytes[at] ^= 0x20;
    fs::write(file, bytes).expect("a file");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Reads all there is. Whatever is answered must be right; `Err` is what the node said instead.
async fn read(node: &Node) -> Result<(), String> {
    let told = |error: tokio_postgres::Error| {
        assert_eq!(state(&error), "XX001", "{error}");
        error
            .as_db_error()
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    let (client, _) = node.try_connect().await.map_err(told)?;
    let rows = client.query("SELECT id, v FROM t ORDER BY id", &[]).await;
    let rows = rows.map_err(told)?;
    let right = client.query(
        "SELECT n, md5(n::text) || md5((n + 1)::text)
         FROM generate_series(1::int8, $1) AS n ORDER BY n",
        &[&ROWS],
    );
    let right = right.await.expect("no table is read");
    assert_eq!(rows.len(), right.len(), "no row is missing");
    for (row, right) in rows.iter().zip(&right) {
        assert_eq!(row.get::<_, i64>(0), right.get::<_, i64>(0));
        assert_eq!(row.get::<_, &str>(1), right.get::<_, &str>(1));
    }
    Ok(())
}

/// Damages a copy of the folder; the node that runs on it must name the file.
async fn damaged(original: &Path, file: &Path, place: f64) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    copy(&original.join("data"), &data);
    let file = data.join(
        file.strip_prefix(original.join("data"))
            .expect("a file of the folder"),
    );
    flip(&file, place);
    let said = match Node::run(start(folder.path()), folder.path()) {
        Err(ended) => {
            assert_eq!(ended.status.code(), Some(1), "{ended:?}");
            ended.stderr
        }
        Ok(node) => match read(&node).await {
            Ok(()) => return false,
            Err(said) => said,
        },
    };
    let name = file
        .strip_prefix(&data)
        .expect("a file of the folder")
        .display()
        .to_string();
    assert!(
        said.contains(&name),
        "{name} at {place} is not named: {said}"
    );
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    prepared(folder.path()).await;
    let mut files = files_under(&folder.path().join("data"));
    files.sort_by_key(|file| fs::metadata(file).map_or(0, |meta| meta.len()));
    let is_journal = |file: &&PathBuf| file.extension().is_some_and(|e| e == "jnl");
    let journal = files.iter().rfind(is_journal).expect("a journal");
    let table = files
        .iter()
        .rfind(|file| !is_journal(file))
        .expect("a table");
    for file in [journal, table] {
        let mut found = 0;
        for place in PLACES {
            found += usize::from(damaged(folder.path(), file, place).await);
        }
        // One place may lie where no data is; not all.
        assert!(found > 0, "{}: no damage was found", file.display());
    }
}
