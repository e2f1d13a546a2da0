//! What a full disk does to the real engine. On a small file system of its own, for example
//! `truncate -s 256M f; mkfs.ext4 -q f; mount -o loop f d`, run
//! `cargo run --release -p storage --example disk_full d [reserve MiB]`.
//!
//! It writes until the first `DiskFull`, reads all that was acknowledged, deletes `d/ballast` (made
//! at the start) to give space back, writes again, restarts and reads all once more.
#![allow(clippy::disallowed_methods, reason = "it waits in real time")]
#![allow(clippy::unwrap_used, reason = "a failure ends the experiment")]

use bytes::Bytes;
use std::path::Path;
use storage::{Engine, Error, FjallEngine, FjallOptions, Keyspace, WriteBatch};

const BALLAST_BYTES: usize = 48 << 20;
const VALUE_BYTES: usize = 1000;
const BATCH_ROWS: u64 = 20;
const SYNC_EVERY: u64 = 50;

fn value(number: u64) -> Bytes {
    let seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    Bytes::from(seed.repeat(VALUE_BYTES / 8))
}

fn write(engine: &FjallEngine, number: u64) -> storage::Result<()> {
    let mut batch = WriteBatch::default();
    for row in 0..BATCH_ROWS {
        let key = (number * BATCH_ROWS + row).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        batch.put(Keyspace::Data, key.to_be_bytes().to_vec(), value(number));
    }
    engine.write(batch)?;
    if number.is_multiple_of(SYNC_EVERY) {
        engine.sync()
    } else {
        Ok(())
    }
}

fn check(engine: &FjallEngine, numbers: u64) {
    for number in 0..numbers {
        for row in 0..BATCH_ROWS {
            let key = (number * BATCH_ROWS + row).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let found = engine.get(Keyspace::Data, &key.to_be_bytes()).unwrap();
            assert_eq!(found, Some(value(number)), "batch {number} of {numbers}");
        }
    }
}

fn fill(engine: &FjallEngine, mut number: u64) -> (u64, Error) {
    loop {
        match write(engine, number) {
            Ok(()) => number += 1,
            Err(error) => return (number, error),
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap();
    let folder = Path::new(&folder);
    let reserve_bytes = arguments
        .next()
        .and_then(|mib| mib.parse::<u64>().ok())
        .map(|mib| mib << 20);
    let options = FjallOptions {
        reserve_bytes,
        memtable_permille: 125,
        ..FjallOptions::default()
    };
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![1; BALLAST_BYTES]).unwrap();
    let engine = FjallEngine::open(folder.join("data"), options.clone()).unwrap();
    let (acknowledged, error) = fill(&engine, 0);
    println!(
        "{acknowledged} batches, {} MiB on disk, then: {error}",
        engine.disk_bytes() >> 20
    );
    println!("again: {:?}", write(&engine, acknowledged).err());
    println!("sync:  {:?}", engine.sync().err());
    // The failed batch may have been written and only its sync refused: it is not acknowledged.
    check(&engine, acknowledged);
    println!("all acknowledged batches are read");
    std::fs::remove_file(&ballast).unwrap();
    let mut tries = 0;
    while let Err(error) = write(&engine, acknowledged) {
        tries += 1;
        if tries == 200 {
            println!("still refused: {error}");
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    println!("after space returned, writes went on after {tries} more tries");
    let (more, error) = fill(&engine, acknowledged + 1);
    println!("{} more batches, then: {error}", more - acknowledged);
    check(&engine, more);
    drop(engine);
    let engine = FjallEngine::open(folder.join("data"), options).unwrap();
    check(&engine, more - more % SYNC_EVERY);
    println!("after a restart all synced batches are read");
    engine.verify().unwrap();
}
