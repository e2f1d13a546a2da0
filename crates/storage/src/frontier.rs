//! How far the store is known to be durable: the guard against a journal that lost its end.
//!
//! A journal whose last records cannot be read may have been torn by a crash, which is normal, or
//! damaged after a sync, which must stop the node. The bytes alone do not tell. So every batch is
//! numbered, and after each sync the number of the last synced batch is noted in this file: a store
//! that comes back with fewer batches has lost some that were promised.
//!
//! The note is written after the sync and not synced itself, except on a clean stop. A killed
//! process leaves it exact. A power cut may leave an older one, up to the kernel's write-back delay:
//! damage to the last half minute's journal in the same moment would then pass for a torn tail.
//!
//! Layout, 44 bytes, big-endian: magic (8) · durable (8) · clean (4) · oldest and newest journal (8,
//! 8) · unused (4) · CRC-32 of all before it (4). It lies within one sector, so it is never torn.

use crate::engine::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const FILE_NAME: &str = "frontier";
const MAGIC: [u8; 8] = *b"phantom1";
const BYTES: usize = 44;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Note {
    /// Number of the last batch known to be durable.
    pub durable: u64,
    /// After a clean stop: the oldest and the newest journal file.
    pub journals: Option<(u64, u64)>,
}

pub struct Frontier {
    file: File,
    path: PathBuf,
    note: Note,
}

impl Frontier {
    /// Made once, with the store.
    pub fn create(folder: &Path) -> Result<()> {
        let path = folder.join(FILE_NAME);
        let file = File::create_new(&path).map_err(|error| failed(&path, error))?;
        file.write_all_at(&encode(Note::default()), 0)
            .and_then(|()| file.sync_all())
            .map_err(|error| failed(&path, error))
    }

    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE_NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    Error::Corrupt(format!("{} is missing", path.display()))
                }
                _ => failed(&path, error),
            })?;
        let mut bytes = Vec::with_capacity(BYTES);
        file.read_to_end(&mut bytes)
            .map_err(|error| failed(&path, error))?;
        let note = decode(&bytes)
            .ok_or_else(|| Error::Corrupt(format!("{}: bad checksum", path.display())))?;
        Ok(Frontier { file, path, note })
    }

    pub fn note(&self) -> Note {
        self.note
    }

    /// Raises the durable number.
    pub fn advance(&mut self, durable: u64) -> Result<()> {
        if durable <= self.note.durable {
            return Ok(());
        }
        self.note.durable = durable;
        self.store()
    }

    /// Records a clean stop, or its end, and waits until that is durable.
    pub fn set_journals(&mut self, journals: Option<(u64, u64)>) -> Result<()> {
        self.note.journals = journals;
        self.store()?;
        self.file
            .sync_data()
            .map_err(|error| failed(&self.path, error))
    }

    fn store(&self) -> Result<()> {
        self.file
            .write_all_at(&encode(self.note), 0)
            .map_err(|error| failed(&self.path, error))
    }
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::Io(format!("{}: {error}", path.display()))
}

fn encode(note: Note) -> [u8; BYTES] {
    let (oldest, newest) = note.journals.unwrap_or_default();
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&note.durable.to_be_bytes());
    bytes[16..20].copy_from_slice(&u32::from(note.journals.is_some()).to_be_bytes());
    bytes[20..28].copy_from_slice(&oldest.to_be_bytes());
    bytes[28..36].copy_from_slice(&newest.to_be_bytes());
    let crc = crc32fast::hash(&bytes[..40]);
    bytes[40..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Note> {
    let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
    let number = |at: usize| {
        bytes[at..]
            .first_chunk::<8>()
            .map(|chunk| u64::from_be_bytes(*chunk))
    };
    let crc = crc32fast::hash(&bytes[..40]).to_be_bytes();
    if bytes[..8] != MAGIC || bytes[40..] != crc {
        return None;
    }
    let clean = bytes[19] == 1;
    Some(Note {
        durable: number(8)?,
        journals: if clean {
            Some((number(20)?, number(28)?))
        } else {
            None
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_survive_and_flipped_bits_are_found() {
        let folder = tempfile::tempdir().unwrap();
        Frontier::create(folder.path()).unwrap();
        let mut frontier = Frontier::open(folder.path()).unwrap();
        frontier.advance(7).unwrap();
        frontier.advance(5).unwrap();
        frontier.set_journals(Some((3, 4))).unwrap();
        let note = Frontier::open(folder.path()).unwrap().note();
        assert_eq!(
            note,
            Note {
                durable: 7,
                journals: Some((3, 4))
            }
        );
        let bytes = encode(note);
        for position in 0..BYTES {
            let mut flipped = bytes;
            flipped[position] ^= 0x10;
            assert_eq!(decode(&flipped), None);
        }
    }
}
