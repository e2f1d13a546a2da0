//! Journals made by hand, then damaged.

use super::*;
use xxhash_rust::xxh3::xxh3_64;

const RAFT: u64 = 4;

fn item(keyspace: u64, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0];
    bytes.extend(keyspace.to_le_bytes());
    bytes.extend((key.len() as u16).to_le_bytes());
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend([key, value].concat());
    bytes
}

fn batch(number: u64) -> Vec<u8> {
    let items = [
        item(1, b"key", &[7; 50]),
        item(RAFT, MARK_KEY, &number.to_be_bytes()),
    ]
    .concat();
    let mut bytes = vec![1];
    bytes.extend(2u32.to_le_bytes());
    bytes.extend((3 * number).to_le_bytes());
    bytes.extend(&items);
    bytes.push(3);
    bytes.extend(xxh3_64(&items).to_le_bytes());
    bytes.extend(MAGIC);
    bytes
}

/// A store of two journals with batches 1 to 3 and 4 to 6, and zeros behind them.
fn store() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (journal, numbers) in [("8.jnl", 1..=3), ("9.jnl", 4..=6)] {
        let mut bytes: Vec<u8> = numbers.flat_map(batch).collect();
        bytes.resize(bytes.len() + 1000, 0);
        std::fs::write(folder.path().join(journal), bytes).unwrap();
    }
    folder
}

fn flip(folder: &Path, journal: &str, position: usize) {
    let path = folder.join(journal);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[position] ^= 0x40;
    std::fs::write(&path, bytes).unwrap();
}

fn corrupt(found: Result<Report>, file: &str) {
    assert!(
        matches!(&found, Err(Error::Corrupt(what)) if what.contains(file)),
        "{found:?}"
    );
}

#[test]
fn whole_journals_are_accepted() {
    let report = check(store().path(), RAFT, 6, Some((8, 9))).unwrap();
    assert_eq!(report.last_batch, Some(6));
    assert_eq!(
        (report.oldest_journal, report.newest_journal, report.cut),
        (8, 9, None)
    );
}

#[test]
fn damage_before_other_batches_is_corruption_wherever_it_is() {
    let length = batch(1).len();
    for position in (0..3 * length + 1000).step_by(3) {
        let folder = store();
        flip(folder.path(), "8.jnl", position);
        // Sequence numbers are not covered: then the order tells, or it makes no difference.
        let covered = !(5..13).contains(&(position % length)) || position >= 3 * length;
        match check(folder.path(), RAFT, 0, None) {
            Ok(_) if !covered => {}
            found => corrupt(found, ".jnl"),
        }
    }
}

#[test]
fn damage_at_the_end_is_cut_off_unless_it_was_synced() {
    let length = batch(1).len();
    for position in [length + 1, length + 40, 2 * length - 1] {
        let folder = store();
        flip(folder.path(), "9.jnl", position);
        corrupt(check(folder.path(), RAFT, 5, None), "9.jnl");
        let report = check(folder.path(), RAFT, 4, None).unwrap();
        assert!(report.last_batch == Some(4) && report.cut.is_some());
        assert_eq!(
            std::fs::metadata(folder.path().join("9.jnl"))
                .unwrap()
                .len(),
            length as u64
        );
        assert_eq!(check(folder.path(), RAFT, 4, None).unwrap().cut, None);
    }
}

#[test]
fn missing_files_are_noticed() {
    let folder = store();
    std::fs::remove_file(folder.path().join("8.jnl")).unwrap();
    corrupt(check(folder.path(), RAFT, 6, Some((8, 9))), "8.jnl");
    std::fs::write(folder.path().join("7.jnl"), batch(3)).unwrap();
    corrupt(check(folder.path(), RAFT, 6, None), "8.jnl");
    std::fs::remove_file(folder.path().join("7.jnl")).unwrap();
    std::fs::remove_file(folder.path().join("9.jnl")).unwrap();
    corrupt(
        check(folder.path(), RAFT, 6, None),
        "all journal files are missing",
    );
}
