//! Speed of the real disk: `cargo run --release -p storage --example bench
//! [rows] [workers] [permille of the usual memtables]`.
//!
//! Prints one line per measurement; the last ones tell what an idle store costs.
#![allow(clippy::disallowed_methods, reason = "it measures real time")]
#![allow(clippy::unwrap_used, reason = "a failure ends the measurement")]

use bytes::Bytes;
use std::time::{Duration, Instant};
use storage::mvcc::{self, Applier, Rows};
use storage::{Engine, FjallEngine, FjallOptions, Keyspace, WriteBatch, gc};
use types::Timestamp;

const ROWS_DEFAULT: u64 = 1_000_000;
const VALUE_BYTES: usize = 100;
/// Rows in one commit, as COPY sends them.
const COMMIT_ROWS: u64 = 500;

fn key(number: u64) -> Bytes {
    let mut key = Vec::with_capacity(13);
    key.extend_from_slice(b"t\0\0\0\x01");
    key.extend_from_slice(&number.to_be_bytes());
    Bytes::from(key)
}

/// A cheap sequence that visits all of `0..rows` in no order.
fn shuffled(number: u64, rows: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % rows
}

fn report(what: &str, count: u64, start: (Instant, Duration)) {
    let wall = start.0.elapsed().as_secs_f64();
    let cpu = (cpu_time() - start.1).as_secs_f64();
    println!(
        "{what:<44} {:>12.0} /s   {wall:>7.2} s wall {cpu:>7.2} s cpu",
        count as f64 / wall
    );
}

fn now() -> (Instant, Duration) {
    (Instant::now(), cpu_time())
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

/// Opens a store and does nothing.
fn open_only(folder: &str) {
    let start = Instant::now();
    let engine = FjallEngine::open(folder, FjallOptions::default()).unwrap();
    println!(
        "open {:?}, resident {} MiB",
        start.elapsed(),
        resident_mib()
    );
    std::thread::sleep(Duration::from_secs(3));
    let start = cpu_time();
    std::thread::sleep(Duration::from_secs(5));
    println!(
        "idle for 5 s: {:?} cpu, resident {} MiB",
        cpu_time() - start,
        resident_mib()
    );
    drop(engine);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, folder] = &arguments[..]
        && mode == "open"
    {
        return open_only(folder);
    }
    let mut arguments = arguments.into_iter();
    let rows: u64 = arguments
        .next()
        .and_then(|rows| rows.parse().ok())
        .unwrap_or(ROWS_DEFAULT);
    let workers = arguments.next().and_then(|workers| workers.parse().ok());
    let mut folder = tempfile::tempdir_in(std::env::temp_dir()).unwrap();
    let mut options = FjallOptions::default();
    options.workers = workers.unwrap_or(options.workers);
    println!(
        "{rows} rows of {VALUE_BYTES} bytes, {} workers",
        options.workers
    );
    let engine = FjallEngine::open(folder.path(), options).unwrap();
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);

    let start = now();
    let mut ts = 1;
    for first in (0..rows).step_by(COMMIT_ROWS as usize) {
        ts += 1;
        let mut batch = WriteBatch::default();
        let mut applier = Applier::new(&engine, &mut batch);
        for number in first..rows.min(first + COMMIT_ROWS) {
            applier
                .write(&key(number), Some(&value), Timestamp(ts))
                .unwrap();
        }
        engine.write(batch).unwrap();
    }
    engine.sync().unwrap();
    report("load in key order, puts", rows, start);
    let loaded = ts;

    let updates = rows / 4;
    let start = now();
    for number in 0..updates {
        ts += 1;
        let mut batch = WriteBatch::default();
        mvcc::apply(
            &engine,
            &mut batch,
            &[(key(shuffled(number, rows)), Some(value.clone()))],
            Timestamp(ts),
        )
        .unwrap();
        engine.write(batch).unwrap();
    }
    engine.sync().unwrap();
    report("single updates, unsynced, puts", updates, start);

    for group in [1u64, 8, 64] {
        let commits = 500 * group;
        let start = now();
        for number in 0..commits {
            ts += 1;
            let mut batch = WriteBatch::default();
            mvcc::apply(
                &engine,
                &mut batch,
                &[(key(shuffled(number, rows)), Some(value.clone()))],
                Timestamp(ts),
            )
            .unwrap();
            engine.write(batch).unwrap();
            if number % group == group - 1 {
                engine.sync().unwrap();
            }
        }
        report(&format!("commits, one sync for {group}"), commits, start);
    }

    let gets = 500_000;
    for round in ["cold", "warm"] {
        let start = now();
        for number in 0..gets {
            assert!(
                mvcc::get(&engine, &key(shuffled(number, rows)), Timestamp::MAX)
                    .unwrap()
                    .is_some()
            );
        }
        report(&format!("gets at now, {round}"), gets, start);
    }
    let start = now();
    for number in 0..gets {
        assert!(
            mvcc::get(&engine, &key(shuffled(number, 20_000)), Timestamp::MAX)
                .unwrap()
                .is_some()
        );
    }
    report("gets at now, 20,000 hot rows", gets, start);
    let start = now();
    for number in 0..gets {
        assert!(
            mvcc::get(&engine, &key(rows + number), Timestamp::MAX)
                .unwrap()
                .is_none()
        );
    }
    report("gets of absent keys", gets, start);
    let start = now();
    let past = 100_000;
    for number in 0..past {
        assert!(
            mvcc::get(&engine, &key(shuffled(number, rows)), Timestamp(loaded))
                .unwrap()
                .is_some()
        );
    }
    report("gets in the past", past, start);

    let snapshot = engine.snapshot();
    let (first, last) = (key(0), key(u64::MAX));
    let start = now();
    let raw = snapshot
        .scan(
            Keyspace::Data,
            (
                std::ops::Bound::Included(first.clone()),
                std::ops::Bound::Excluded(last.clone()),
            ),
            false,
        )
        .map(|pair| pair.unwrap().1.len() as u64)
        .sum::<u64>();
    report(&format!("raw scan ({} MiB), rows", raw >> 20), rows, start);
    for reverse in [false, true] {
        let start = now();
        let count = Rows::new(&*snapshot, &first, &last, Timestamp::MAX, reverse)
            .inspect(|row| assert!(row.is_ok()))
            .count();
        report(
            &format!("scan at now, reverse {reverse}, rows"),
            count as u64,
            start,
        );
    }
    let start = now();
    let count = Rows::new(&*snapshot, &first, &last, Timestamp(loaded), false)
        .inspect(|row| assert!(row.is_ok()))
        .count();
    report(
        "scan in the past (a quarter changed), rows",
        count as u64,
        start,
    );
    let start = now();
    let scans = 10_000;
    for number in 0..scans {
        let from = shuffled(number, rows - 100);
        let page = mvcc::scan(
            &*engine.snapshot(),
            &key(from),
            &last,
            Timestamp::MAX,
            false,
            100,
            usize::MAX,
        )
        .unwrap();
        assert_eq!(page.rows.len(), 100);
    }
    report("scans of 100 rows", scans, start);
    drop(snapshot);

    let start = now();
    let mut sweep = gc::Sweep::default();
    let mut removed = 0;
    loop {
        let step = sweep.step(&engine, Timestamp(ts), 10_000).unwrap();
        removed += step.progress.versions_removed;
        engine.write(step.batch).unwrap();
        if step.progress.done {
            break;
        }
    }
    report("sweep, versions removed", removed, start);

    println!(
        "disk {} MiB, resident {} MiB",
        engine.disk_bytes() >> 20,
        resident_mib()
    );
    let start = Instant::now();
    drop(engine);
    println!("close {:?}", start.elapsed());
    // What an idle store costs is measured in a process that has done nothing else.
    let this = std::env::current_exe().unwrap();
    if std::env::var_os("BENCH_KEEP").is_some() {
        println!("kept in {}", folder.path().display());
        folder.disable_cleanup(true);
    }
    std::process::Command::new(this)
        .arg("open")
        .arg(folder.path())
        .status()
        .unwrap();
}
