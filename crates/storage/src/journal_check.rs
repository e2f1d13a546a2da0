//! Reads the journals of a stopped store before the LSM engine does.
//!
//! The engine stops replaying a journal at the first record it cannot decode and cuts the file
//! there, wherever that is; a torn record at the very end, on the other hand, can make it refuse to
//! open. Neither may happen to us: a damaged middle must stop the node, a torn tail must not. Batches
//! carry consecutive numbers (an operation on [`MARK_KEY`]), so here
//!
//! - a batch that is missing between two others is found, also across files;
//! - damage with no batch after it is a torn tail if no synced batch is missing, and is cut off.
//!
//! A journal is a sequence of batches: start (tag 1, count u32, sequence u64), items (tag 2, type u8,
//! compression u8, keyspace u64, key length u16, value length u32, stored length u32, key, value), end
//! (tag 3, XXH3-64 of the items u64, magic). All numbers little-endian. Files are made 64 MiB long,
//! so what follows the last batch is zeros.

#[cfg(test)]
mod tests;

use crate::engine::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// Key in the raft keyspace whose value is the number of the last batch. No layer above uses it.
pub const MARK_KEY: &[u8] = b"\xff\xff\xff\xffbatch";

const BUFFER_BYTES: usize = 1 << 20;
const MAGIC: [u8; 4] = *b"FJL\x03";
const ITEM_HEADER_BYTES: usize = 1 + 1 + 8 + 2 + 4 + 4;
/// Values are copied through the hash in pieces, so a damaged length allocates nothing.
const PIECE_BYTES: usize = 64 << 10;
/// Sequence numbers are not covered by the checksum. The engine itself uses a few between two
/// batches, for flushes and compactions; a greater gap is a flipped bit.
const SEQUENCE_GAP_MAX: u64 = 1 << 16;

/// What the journals hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Number of the last batch, if there is any.
    pub last_batch: Option<u64>,
    /// What was cut off, and from which file.
    pub cut: Option<String>,
    pub oldest_journal: u64,
    pub newest_journal: u64,
}

/// The journals of the store, oldest first.
pub fn journals(store: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let failed = |error: std::io::Error| Error::Io(format!("{}: {error}", store.display()));
    let mut journals = Vec::new();
    for entry in std::fs::read_dir(store).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("jnl"))
        {
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .and_then(|stem| stem.parse().ok());
            let number = number
                .ok_or_else(|| Error::Corrupt(format!("{}: unexpected name", path.display())))?;
            journals.push((number, path));
        }
    }
    journals.sort();
    Ok(journals)
}

/// Checks all journals, and cuts off a torn tail. `durable` is the last batch known to be synced;
/// `expected` the oldest and newest file after a clean stop.
pub fn check(
    store: &Path,
    raft_keyspace: u64,
    durable: u64,
    expected: Option<(u64, u64)>,
) -> Result<Report> {
    let journals = journals(store)?;
    let (Some((oldest, _)), Some((newest, _))) = (journals.first(), journals.last()) else {
        return Err(Error::Corrupt(format!(
            "{}: all journal files are missing",
            store.display()
        )));
    };
    let mut report = Report {
        last_batch: None,
        cut: None,
        oldest_journal: *oldest,
        newest_journal: *newest,
    };
    let (first, last) = expected.unwrap_or((*oldest, *newest));
    for number in first..=last {
        if !journals.iter().any(|(found, _)| *found == number) {
            return Err(Error::Corrupt(format!(
                "{}: is missing",
                store.join(format!("{number}.jnl")).display()
            )));
        }
    }
    let mut damaged: Option<(PathBuf, u64, String)> = None;
    let mut last_sequence = None;
    for (_, path) in &journals {
        let mut scan = Scan::open(path, raft_keyspace)?;
        loop {
            let start = scan.position;
            match scan.batch() {
                Ok(Some(batch)) => {
                    if let Some((path, at, what)) = &damaged {
                        return Err(Error::Corrupt(format!(
                            "{}: {what} at byte {at}, and there are batches after it",
                            path.display()
                        )));
                    }
                    let follows = report
                        .last_batch
                        .is_none_or(|last| batch.number == last + 1);
                    let in_order = last_sequence.is_none_or(|last: u64| {
                        batch.sequence > last && batch.sequence - last <= SEQUENCE_GAP_MAX
                    });
                    if !(follows && in_order) {
                        return Err(Error::Corrupt(format!(
                            "{}: batch {} at byte {start} does not follow batch {}",
                            path.display(),
                            batch.number,
                            report.last_batch.unwrap_or(0)
                        )));
                    }
                    report.last_batch = Some(batch.number);
                    last_sequence = Some(batch.sequence);
                }
                Ok(None) => break,
                Err(Failure::Io(error)) => {
                    return Err(Error::Io(format!("{}: {error}", path.display())));
                }
                Err(Failure::Damaged(what)) => {
                    damaged.get_or_insert((path.clone(), start, what.to_owned()));
                    break;
                }
            }
        }
    }
    if let Some((path, at, what)) = damaged {
        if report.last_batch.is_some_and(|last| last < durable) {
            return Err(Error::Corrupt(format!(
                "{}: {what} at byte {at}, and batches up to {durable} were synced",
                path.display()
            )));
        }
        if report.last_batch.is_none() && durable > 0 {
            // Whether this was synced is known only once the tables are open. Keep the evidence.
            let copy = path.with_extension("jnl.damaged");
            std::fs::copy(&path, &copy)
                .map_err(|error| Error::Io(format!("{}: {error}", copy.display())))?;
        }
        cut(&path, at, &what)?;
        report.cut = Some(format!("{}: {what} at byte {at}", path.display()));
    }
    Ok(report)
}

fn cut(path: &Path, at: u64, what: &str) -> Result<()> {
    tracing::warn!(journal = %path.display(), at, what, "cutting off an unsynced, torn batch");
    let failed = |error: std::io::Error| Error::Io(format!("{}: {error}", path.display()));
    let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
    file.set_len(at)
        .and_then(|()| file.sync_all())
        .map_err(failed)
}

struct Batch {
    number: u64,
    sequence: u64,
}

enum Failure {
    Io(std::io::Error),
    Damaged(&'static str),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Failure::Damaged("the file ends inside a batch"),
            _ => Failure::Io(error),
        }
    }
}

struct Scan {
    reader: BufReader<File>,
    position: u64,
    raft_keyspace: u64,
}

impl Scan {
    fn open(path: &Path, raft_keyspace: u64) -> Result<Self> {
        let file =
            File::open(path).map_err(|error| Error::Io(format!("{}: {error}", path.display())))?;
        Ok(Scan {
            reader: BufReader::with_capacity(BUFFER_BYTES, file),
            position: 0,
            raft_keyspace,
        })
    }

    /// The next batch, or `None` at the end. After a failure the scan is over.
    fn batch(&mut self) -> Result<Option<Batch>, Failure> {
        match self.next_tag()? {
            None => return Ok(None),
            Some(0) => return self.zeros(),
            Some(1) => {}
            Some(_) => return Err(Failure::Damaged("unexpected record")),
        }
        let count = u32::from_le_bytes(self.array()?);
        let sequence = u64::from_le_bytes(self.array()?);
        let mut number = None;
        let mut hash = Xxh3::new();
        for _ in 0..count {
            match self.array()? {
                [2] => {}
                _ => return Err(Failure::Damaged("fewer items than announced")),
            }
            number = self.item(&mut hash)?.or(number);
        }
        match self.array()? {
            [3] => {}
            _ => return Err(Failure::Damaged("more items than announced")),
        }
        let checksum = u64::from_le_bytes(self.array()?);
        if self.array()? != MAGIC || checksum != hash.digest() {
            return Err(Failure::Damaged("bad checksum of a batch"));
        }
        match number {
            Some(number) => Ok(Some(Batch { number, sequence })),
            None => Err(Failure::Damaged("a batch without a number")),
        }
    }

    /// Reads past an item; returns the batch number if the item holds it.
    fn item(&mut self, hash: &mut Xxh3) -> Result<Option<u64>, Failure> {
        let header: [u8; ITEM_HEADER_BYTES] = self.array()?;
        hash.update(&[2]);
        hash.update(&header);
        let [
            _,
            _,
            k0,
            k1,
            k2,
            k3,
            k4,
            k5,
            k6,
            k7,
            l0,
            l1,
            _,
            _,
            _,
            _,
            v0,
            v1,
            v2,
            v3,
        ] = header;
        let keyspace = u64::from_le_bytes([k0, k1, k2, k3, k4, k5, k6, k7]);
        let key = self.hashed(u64::from(u16::from_le_bytes([l0, l1])), hash)?;
        let is_mark = keyspace == self.raft_keyspace && key.as_deref() == Some(MARK_KEY);
        let value = self.hashed(u64::from(u32::from_le_bytes([v0, v1, v2, v3])), hash)?;
        match value
            .as_deref()
            .and_then(|value| <[u8; 8]>::try_from(value).ok())
        {
            Some(number) if is_mark => Ok(Some(u64::from_be_bytes(number))),
            _ => Ok(None),
        }
    }

    /// Reads `length` bytes through the hash; returns them if they are few.
    fn hashed(&mut self, length: u64, hash: &mut Xxh3) -> Result<Option<Vec<u8>>, Failure> {
        let mut left = length;
        let mut piece = Vec::new();
        while left > 0 {
            piece.resize(left.min(PIECE_BYTES as u64) as usize, 0);
            self.reader.read_exact(&mut piece)?;
            hash.update(&piece);
            self.position += piece.len() as u64;
            left -= piece.len() as u64;
        }
        Ok((length <= PIECE_BYTES as u64).then_some(piece))
    }

    /// Reads zeros up to the end of the file.
    fn zeros(&mut self) -> Result<Option<Batch>, Failure> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = self.reader.read(&mut piece)?;
            if read == 0 {
                return Ok(None);
            }
            if piece[..read].iter().any(|byte| *byte != 0) {
                return Err(Failure::Damaged("unexpected bytes after the last batch"));
            }
        }
    }

    fn next_tag(&mut self) -> Result<Option<u8>, Failure> {
        let mut tag = [0];
        let read = self.reader.read(&mut tag)?;
        self.position += read as u64;
        Ok((read == 1).then_some(tag[0]))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        self.position += N as u64;
        Ok(bytes)
    }
}
