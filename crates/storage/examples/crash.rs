//! Kills a writing process again and again and looks at what it left:
//! `cargo run --release -p storage --example crash FOLDER [rounds]`.
//!
//! The writer (`crash FOLDER write`) says on its standard output which batch it has synced. After
//! each `kill -9` all those batches must be whole, and of the later ones a prefix, each whole.
#![allow(clippy::disallowed_methods, reason = "it drives real processes")]
#![allow(clippy::unwrap_used, reason = "a failure ends the experiment")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use storage::{Engine, FjallEngine, FjallOptions, Keyspace, WriteBatch};

const ROUNDS_DEFAULT: u64 = 20;
const ROWS_PER_BATCH: u64 = 8;
const VALUE_BYTES: usize = 2000;
const SYNC_EVERY: u64 = 5;
/// Keys are used again, so that the store stays small while journals and tables come and go.
const BATCHES_KEPT: u64 = 2000;
const COUNT_KEY: &[u8] = b"count";

fn options() -> FjallOptions {
    FjallOptions {
        memtable_permille: 200,
        journals_bytes: 64 << 20,
        ..FjallOptions::default()
    }
}

fn count(engine: &FjallEngine) -> u64 {
    let count = engine.get(Keyspace::Raft, COUNT_KEY).unwrap();
    count.map_or(0, |count| u64::from_be_bytes(count[..].try_into().unwrap()))
}

fn key(batch: u64, row: u64) -> Vec<u8> {
    ((batch % BATCHES_KEPT) * ROWS_PER_BATCH + row)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .to_be_bytes()
        .to_vec()
}

fn write(folder: &str) {
    let engine = FjallEngine::open(folder, options()).unwrap();
    let mut out = std::io::stdout().lock();
    for number in count(&engine) + 1.. {
        let mut batch = WriteBatch::default();
        for row in 0..ROWS_PER_BATCH {
            batch.put(
                Keyspace::Data,
                key(number, row),
                number.to_be_bytes().repeat(VALUE_BYTES / 8),
            );
        }
        batch.put(Keyspace::Raft, COUNT_KEY, number.to_be_bytes().to_vec());
        engine.write(batch).unwrap();
        if number.is_multiple_of(SYNC_EVERY) {
            if let Err(error) = engine.sync() {
                eprintln!("sync {number}: {error}");
                eprintln!("then: {:?}", engine.sync().err());
                return;
            }
            writeln!(out, "{number}").unwrap();
        }
    }
}

fn check(folder: &str, synced: u64) -> u64 {
    let engine = FjallEngine::open(folder, options()).unwrap();
    let count = count(&engine);
    assert!(
        count >= synced,
        "{count} batches are left, {synced} were synced"
    );
    for number in count.saturating_sub(BATCHES_KEPT - 1).max(1)..=count {
        for row in 0..ROWS_PER_BATCH {
            let value = engine
                .get(Keyspace::Data, &key(number, row))
                .unwrap()
                .unwrap();
            assert!(
                value == number.to_be_bytes().repeat(VALUE_BYTES / 8),
                "batch {number} of {count} is not whole"
            );
        }
    }
    count
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let folder = &arguments[1];
    if arguments.get(2).is_some_and(|mode| mode == "write") {
        return write(folder);
    }
    let rounds = arguments
        .get(2)
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(ROUNDS_DEFAULT);
    for round in 1..=rounds {
        let mut writer = Command::new(&arguments[0])
            .args([folder, "write"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(writer.stdout.take().unwrap());
        let reader = std::thread::spawn(move || out.lines().map_while(Result::ok).last());
        std::thread::sleep(Duration::from_millis(300 + 137 * (round * round % 17)));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let synced = reader
            .join()
            .unwrap()
            .and_then(|line| line.parse().ok())
            .unwrap_or(0);
        let start = Instant::now();
        let count = check(folder, synced);
        println!(
            "round {round}: {synced} synced, {count} found, checked in {:?}",
            start.elapsed()
        );
    }
}
