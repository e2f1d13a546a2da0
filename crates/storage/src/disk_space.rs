//! Keeping some disk space back, so that the store itself never meets a full disk.
//!
//! The LSM engine cannot go on after a failed write: a flush or a compaction that finds no space
//! ends it until it is opened again. So batches are refused, with an error that a client can act on,
//! while there is still room for what the engine does in the background. Half of the reserve is open to
//! batches that only delete, which is how space comes back, and to those that keep a promise
//! ([`WriteBatch::keeps_promise`]): what is committed cannot be refused any more.

use crate::engine::{Error, Result, WriteBatch};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

// Free space is asked for before each batch, since others write to the disk, too: a `statvfs` costs a microsecond, a
// journal that meets the full disk the store.

/// The default reserve is a sixteenth of the disk, but not more than this: room for one compaction,
/// which writes its inputs (up to some 64 MiB tables of two levels) anew before it drops them.
const RESERVE_MAX_BYTES: u64 = 512 << 20;
const RESERVE_FRACTION: u64 = 16;

/// Free bytes as a test wants them.
pub type FreeBytes = Arc<dyn Fn() -> u64 + Send + Sync>;

pub struct DiskSpace {
    folder: PathBuf,
    reserve_bytes: u64,
    injected: Option<FreeBytes>,
    /// A batch was refused since the store was opened.
    refused: AtomicBool,
}

impl DiskSpace {
    pub fn new(
        folder: &Path,
        reserve_bytes: Option<u64>,
        injected: Option<FreeBytes>,
    ) -> Result<Self> {
        let space = DiskSpace {
            folder: folder.to_owned(),
            reserve_bytes: 0,
            injected,
            refused: AtomicBool::new(false),
        };
        let (_, total) = space.measure()?;
        let reserve_bytes =
            reserve_bytes.unwrap_or_else(|| (total / RESERVE_FRACTION).min(RESERVE_MAX_BYTES));
        Ok(DiskSpace {
            reserve_bytes,
            ..space
        })
    }

    /// Refuses `batch` when it would eat into the reserve.
    pub fn admit(&self, batch: &WriteBatch) -> Result<()> {
        // A batch is written twice: to the journal now and to a table later.
        let bytes = 2 * (batch.bytes() + batch.promised_bytes);
        let reclaims = batch.ops.iter().all(|(_, _, value)| value.is_none());
        let reserve = if reclaims || batch.keeps_promise {
            self.reserve_bytes / 2
        } else {
            self.reserve_bytes
        };
        let free = self.measure()?.0;
        if free < reserve.saturating_add(bytes) {
            self.refused.store(true, Ordering::Relaxed);
            return Err(self.full(free));
        }
        Ok(())
    }

    /// Whether the reserve is untouched now.
    pub fn has_reserve(&self) -> bool {
        self.measure()
            .is_ok_and(|(free, _)| free >= self.reserve_bytes)
    }

    /// Whether space is short, or was since the store was opened: then a failed background write is
    /// put down to that.
    pub fn was_short(&self) -> bool {
        self.refused.load(Ordering::Relaxed) || !self.has_reserve()
    }

    /// The store was opened again.
    pub fn forget(&self) {
        self.refused.store(false, Ordering::Relaxed);
    }

    fn full(&self, free: u64) -> Error {
        Error::DiskFull(format!(
            "{}: {free} bytes free, {} are kept in reserve",
            self.folder.display(),
            self.reserve_bytes
        ))
    }

    /// Free and total bytes.
    fn measure(&self) -> Result<(u64, u64)> {
        if let Some(free) = &self.injected {
            let free = free();
            return Ok((free, free));
        }
        let stat = rustix::fs::statvfs(&self.folder)
            .map_err(|error| Error::Io(format!("{}: {error}", self.folder.display())))?;
        Ok((
            stat.f_bavail.saturating_mul(stat.f_frsize),
            stat.f_blocks.saturating_mul(stat.f_frsize),
        ))
    }
}
