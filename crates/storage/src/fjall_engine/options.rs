//! What can be chosen about the real disk, and how each keyspace is laid out.

use crate::disk_space::FreeBytes;
use fjall::CompressionType;
use fjall::KeyspaceCreateOptions;
use fjall::config::{
    BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
    HashRatioPolicy, PinningPolicy, RestartIntervalPolicy,
};

const MIB: u64 = 1 << 20;

/// Decompressed blocks kept in memory unless the node is told otherwise. A point read that misses costs a
/// system call and a copy, twice one that hits. It fills with what is read, so an idle node stays far
/// below 150 MiB.
pub const CACHE_DEFAULT_BYTES: u64 = 64 * MIB;
/// Journals kept at most: what a restart replays. A keyspace that is seldom written is flushed once
/// they reach this, so that the oldest can go.
const JOURNALS_DEFAULT_BYTES: u64 = 128 * MIB;
/// One for flushes and two for compactions. With two in all, fjall's flushing worker spins on the
/// queue for as long as the other one compacts, which burns a core; with one, flushes wait for
/// compactions and memtables grow meanwhile. Idle workers sleep.
const WORKERS_DEFAULT: usize = 3;

/// Memtable sizes, in bytes, entry overhead included. An idle store keeps what is in the active ones.
/// Up to four full ones may wait for their flush beside each, so the worst case under load is five
/// times their sum. Measured: twice or four times as much makes loads and updates no faster.
const DATA_MEMTABLE_BYTES: u64 = 16 * MIB;
const HISTORY_MEMTABLE_BYTES: u64 = 8 * MIB;
const INTENTS_MEMTABLE_BYTES: u64 = 4 * MIB;
const RAFT_MEMTABLE_BYTES: u64 = 8 * MIB;

/// Point reads want small blocks.
const POINT_BLOCK_BYTES: u32 = 4 << 10;
/// Sequential reads and old versions want large ones: fewer index entries, better compression.
const SCAN_BLOCK_BYTES: u32 = 16 << 10;
/// About 1 % of lookups of absent keys read a block in vain.
const BLOOM_BITS_PER_KEY: f32 = 10.0;

/// Keys between two that are stored whole. A lookup walks through half of them; scans and size want
/// more.
const POINT_RESTART_INTERVAL: u8 = 8;

/// A hash index in each block of `data`. Measured: a get that misses the block cache takes a quarter
/// less time; the file grows by about a percent.
const HASH_BUCKETS_PER_KEY: f32 = 1.33;

#[derive(Clone)]
pub struct FjallOptions {
    /// Decompressed blocks kept in memory, in bytes.
    pub cache_bytes: u64,
    /// Size of all journals, in bytes; at least 64 MiB.
    pub journals_bytes: u64,
    /// Background threads; the reason for their number is at the default.
    pub workers: usize,
    /// Free bytes that writes leave; `None` is a sixteenth of the disk, at most 512 MiB.
    pub reserve_bytes: Option<u64>,
    /// Full size of the memtables in thousandths: tests that want many small tables lower it.
    pub memtable_permille: u64,
    /// Asked for free space instead of the disk, in tests.
    pub free_bytes: Option<FreeBytes>,
}

impl Default for FjallOptions {
    fn default() -> Self {
        FjallOptions {
            cache_bytes: CACHE_DEFAULT_BYTES,
            journals_bytes: JOURNALS_DEFAULT_BYTES,
            workers: WORKERS_DEFAULT,
            reserve_bytes: None,
            memtable_permille: 1000,
            free_bytes: None,
        }
    }
}

impl FjallOptions {
    /// Bytes of batches between two looks at the backlog: a fraction of the smallest memtable, so that
    /// at most one memtable fills up in between.
    pub(super) fn backlog_check_bytes(&self) -> u64 {
        INTENTS_MEMTABLE_BYTES * self.memtable_permille / 1000 / 8
    }

    fn common(&self, memtable_bytes: u64) -> KeyspaceCreateOptions {
        KeyspaceCreateOptions::default()
            .manual_journal_persist(true)
            .max_memtable_size(memtable_bytes * self.memtable_permille / 1000)
    }

    /// Point reads first: bloom filters on all levels (a new key is looked up before it is
    /// inserted), filters and indexes always in memory: looking them up in the cache costs a tenth of
    /// a get. They are about 2 % of the data, and from the third level down, which begins at some
    /// gigabytes, they are cut in pieces of which only the directory stays.
    pub(super) fn data(&self) -> KeyspaceCreateOptions {
        self.common(DATA_MEMTABLE_BYTES)
            .data_block_size_policy(BlockSizePolicy::all(POINT_BLOCK_BYTES))
            .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(
                BloomConstructionPolicy::BitsPerKey(BLOOM_BITS_PER_KEY),
            )))
            .data_block_hash_ratio_policy(HashRatioPolicy::all(HASH_BUCKETS_PER_KEY))
            .filter_block_pinning_policy(PinningPolicy::all(true))
            .index_block_pinning_policy(PinningPolicy::all(true))
            .data_block_restart_interval_policy(RestartIntervalPolicy::all(POINT_RESTART_INTERVAL))
    }

    /// Only ever read by range, so filters would be dead weight; compressed, since seldom read.
    pub(super) fn history(&self) -> KeyspaceCreateOptions {
        self.common(HISTORY_MEMTABLE_BYTES)
            .data_block_size_policy(BlockSizePolicy::all(SCAN_BLOCK_BYTES))
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
            .filter_policy(FilterPolicy::disabled())
    }

    pub(super) fn intents(&self) -> KeyspaceCreateOptions {
        self.common(INTENTS_MEMTABLE_BYTES)
    }

    /// Written once, read seldom, deleted soon: not worth compressing.
    pub(super) fn raft(&self) -> KeyspaceCreateOptions {
        self.common(RAFT_MEMTABLE_BYTES)
            .data_block_size_policy(BlockSizePolicy::all(SCAN_BLOCK_BYTES))
            .data_block_compression_policy(CompressionPolicy::disabled())
    }
}
