//! Damage to each file of a stopped store: right data or an error that names the file, nothing else.

use super::*;
use std::collections::BTreeMap;
use std::fs;

type Rows = BTreeMap<(Keyspace, Bytes), Bytes>;

const KEYSPACES: [Keyspace; 4] = [
    Keyspace::Data,
    Keyspace::History,
    Keyspace::Intents,
    Keyspace::Raft,
];
/// Positions per file at which a byte is flipped, beside its first and last ones.
const FLIPS_PER_FILE: u64 = 5;

/// A store with tables on disk and batches in its journal, and what it holds.
fn make_store(folder: &Path) -> Rows {
    let engine = FjallEngine::open(folder, small()).unwrap();
    let mut rows = Rows::new();
    for number in 0..600u32 {
        let mut batch = WriteBatch::default();
        for keyspace in KEYSPACES {
            let (key, value) = (
                format!("key {:03}", number % 300),
                format!("{number} {}", "v".repeat(20)),
            );
            batch.put(keyspace, key.clone(), value.clone());
            rows.insert((keyspace, Bytes::from(key)), Bytes::from(value));
        }
        engine.write(batch).unwrap();
        if number % 200 == 150 {
            let opened = engine.opened().unwrap();
            for keyspace in KEYSPACES {
                opened
                    .keyspace(keyspace)
                    .rotate_memtable_and_wait()
                    .unwrap();
            }
        }
    }
    engine.sync().unwrap();
    rows
}

/// Opens the store and reads all of it, each row twice: by scan and by get.
fn read_all(folder: &Path) -> Result<Rows> {
    let engine = FjallEngine::open(folder, small())?;
    let mut rows = Rows::new();
    for keyspace in KEYSPACES {
        for pair in engine.snapshot().scan(keyspace, ALL, false) {
            let (key, value) = pair?;
            assert_eq!(engine.get(keyspace, &key)?.as_ref(), Some(&value));
            rows.insert((keyspace, key), value);
        }
        assert_eq!(engine.get(keyspace, b"key absent")?, None);
    }
    Ok(rows)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Shortens journals to what they hold, so that copies are quick.
fn trim_journals(store: &Path) {
    for (_, path) in journal_check::journals(store).unwrap() {
        let bytes = fs::read(&path).unwrap();
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        fs::write(&path, &bytes[..end]).unwrap();
    }
}

/// Damages a copy of the store by `damage`, and reads it.
fn read_damaged(pristine: &Path, file: &Path, damage: impl FnOnce(&Path)) -> Result<Rows> {
    // Hundreds of copies are opened and synced: in memory where that is possible.
    let memory = Path::new("/dev/shm");
    let copied = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap();
    copy(pristine, copied.path());
    damage(&copied.path().join(file));
    read_all(copied.path())
}

fn check(found: Result<Rows>, expected: &Rows, file: &Path, what: &str) -> bool {
    match found {
        Ok(rows) => {
            assert!(
                rows == *expected,
                "wrong data after {what} of {}",
                file.display()
            );
            false
        }
        Err(Error::Corrupt(message) | Error::Io(message)) => {
            assert!(
                message.contains('/'),
                "{what} of {}: no file is named: {message}",
                file.display()
            );
            true
        }
        Err(other) => panic!("{what} of {}: {other}", file.display()),
    }
}

#[test]
fn flipped_bytes_and_missing_files_are_never_wrong_data() {
    let folder = tempfile::tempdir().unwrap();
    let expected = make_store(folder.path());
    trim_journals(&folder.path().join(STORE_FOLDER));
    assert!(read_damaged(folder.path(), Path::new("LOCK"), |_| {}).unwrap() == expected);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let (mut flips, mut noticed) = (0, 0);
    for path in files(folder.path()) {
        let file = path.strip_prefix(folder.path()).unwrap();
        let length = fs::metadata(&path).unwrap().len();
        let mut positions: Vec<u64> = (0..FLIPS_PER_FILE)
            .map(|_| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % length.max(1)
            })
            .collect();
        positions.extend([0, length.saturating_sub(1)]);
        for position in positions.into_iter().filter(|position| *position < length) {
            let found = read_damaged(folder.path(), file, |path| {
                let mut bytes = fs::read(path).unwrap();
                bytes[position as usize] ^= 1 << (position % 8);
                fs::write(path, bytes).unwrap();
            });
            flips += 1;
            noticed += u32::from(check(
                found,
                &expected,
                file,
                &format!("a flip at {position}"),
            ));
        }
        let found = read_damaged(folder.path(), file, |path| fs::remove_file(path).unwrap());
        check(found, &expected, file, "the removal");
        let found = read_damaged(folder.path(), file, |path| {
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(length / 2)
                .unwrap();
        });
        check(found, &expected, file, "the halving");
    }
    assert!(
        noticed * 2 > flips,
        "{noticed} of {flips} flips were noticed: the test hits nothing"
    );
}

#[test]
fn a_torn_tail_is_cut_off_and_synced_batches_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join(STORE_FOLDER);
    let (mut synced_end, mut copies) = (0, Vec::new());
    {
        let engine = FjallEngine::open(folder.path(), small()).unwrap();
        for number in 0..20 {
            engine
                .write(put(&format!("key {number:02}"), "value"))
                .unwrap();
            if number == 9 {
                engine.sync().unwrap();
                let copied = tempfile::tempdir().unwrap();
                copy(&store, &copied.path().join(STORE_FOLDER));
                trim_journals(&copied.path().join(STORE_FOLDER));
                synced_end = fs::metadata(copied.path().join(STORE_FOLDER).join("0.jnl"))
                    .unwrap()
                    .len();
            }
        }
        engine
            .opened()
            .unwrap()
            .database
            .persist(fjall::PersistMode::Buffer)
            .unwrap();
        copy(&store, &folder.path().join("crashed").join(STORE_FOLDER));
        trim_journals(&folder.path().join("crashed").join(STORE_FOLDER));
    }
    let crashed = folder.path().join("crashed");
    let journal = Path::new(STORE_FOLDER).join("0.jnl");
    let end = fs::metadata(crashed.join(&journal)).unwrap().len();
    for length in (0..=end).step_by(7) {
        let rows = read_damaged(&crashed, &journal, |path| {
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(length)
                .unwrap();
        });
        copies.push((length, rows.map(|rows| rows.len())));
    }
    for (length, rows) in copies {
        match rows {
            Ok(count) => assert!(
                length >= synced_end && count >= 10,
                "{count} rows of {length} bytes"
            ),
            Err(error) => {
                assert!(length < synced_end, "{length} bytes: {error}");
                assert!(
                    matches!(&error, Error::Corrupt(what) if what.contains("0.jnl") || what.contains("store"))
                );
            }
        }
    }
    // A hole in the unsynced part, as a power cut leaves it.
    let rows = read_damaged(&crashed, &journal, |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[synced_end as usize + 30] ^= 1;
        fs::write(path, bytes).unwrap();
    });
    assert_eq!(rows.unwrap().len(), 10);
}

#[test]
fn a_damaged_table_is_found_and_taken_out_of_use() {
    let folder = tempfile::tempdir().unwrap();
    let expected = make_store(folder.path());
    let engine = FjallEngine::open(folder.path(), small()).unwrap();
    let tables = engine.tables();
    assert!(tables.iter().all(|t| engine.check_table(*t) == Ok(None)));
    let table = *tables
        .iter()
        .find(|table| table.keyspace == Keyspace::Data)
        .unwrap();
    // Data is the first keyspace after the engine's own.
    let file = folder.path().join(format!(
        "{STORE_FOLDER}/keyspaces/1/tables/{}",
        table.number
    ));
    let mut bytes = fs::read(&file).unwrap();
    assert!(bytes.len() as u64 >= table.bytes);
    bytes[40] ^= 4;
    fs::write(&file, bytes).unwrap();

    let damage = engine.check_table(table).unwrap().unwrap();
    assert!(damage.what.contains(&format!("tables/{}", table.number)));
    assert!(damage.first <= damage.last);
    let ranges = expected.keys().filter(|(k, _)| *k == Keyspace::Data);
    let (first, last) = (&ranges.clone().min().unwrap().1, &ranges.max().unwrap().1);
    assert!(*first <= damage.first && damage.last <= *last);
    assert_eq!(engine.discard(&damage), Ok(true));
    assert!(!engine.tables().contains(&table));
    assert_eq!(engine.check_table(table), Ok(None));
    // Whatever is left of its keys can be read, removed and written anew, and stays so.
    let mut batch = WriteBatch::default();
    for pair in engine.snapshot().scan(Keyspace::Data, ALL, false) {
        batch.delete(Keyspace::Data, pair.unwrap().0);
    }
    for ((keyspace, key), value) in &expected {
        if *keyspace == Keyspace::Data {
            batch.put(Keyspace::Data, key.clone(), value.clone());
        }
    }
    engine.write(batch).unwrap();
    drop(engine);
    assert!(read_all(folder.path()).unwrap() == expected);
}
