//! Object ids, data ids and hidden row ids, never given twice by any gateway.
//!
//! A block of numbers is reserved durably in a transaction of its own, so that two transactions never wait
//! for each other's numbers; a crash skips what was left of the block.

use super::descriptor::{FIRST_USER_OBJECT_ID, ObjectId};
use super::store::{FIRST_USER_DATA_ID, counter_key};
use parking_lot::Mutex;
use txn::kv::{LockMode, WaitPolicy};
use txn::{Coordinator, Isolation, LockedRow};
use types::{Error, Result, SqlState};

/// Numbers reserved at once: one write per this many objects; what a crash may skip.
const BLOCK: u32 = 256;
/// Row ids reserved at once: one write in an instance's life, as good as always. There are 2³⁰ such blocks.
const ROW_ID_BLOCK: i64 = 1 << 32;
/// Above all ids that were ever made from the clock's milliseconds, as was done once.
const FIRST_ROW_ID: i64 = 1 << 62;

#[derive(Clone, Copy)]
enum Counter {
    Objects = 1,
    Data = 2,
    Rows = 3,
}

/// The numbers left of a reserved block.
#[derive(Clone, Copy, Debug, Default)]
struct Block<N> {
    next: N,
    end: N,
}

/// One per instance.
pub struct IdAllocator {
    coordinator: Coordinator,
    objects: tokio::sync::Mutex<Block<u32>>,
    data: tokio::sync::Mutex<Block<u32>>,
}

impl IdAllocator {
    pub fn new(coordinator: Coordinator) -> Self {
        IdAllocator {
            coordinator,
            objects: tokio::sync::Mutex::default(),
            data: tokio::sync::Mutex::default(),
        }
    }

    pub async fn object_id(&self) -> Result<ObjectId> {
        self.take(&self.objects, Counter::Objects).await
    }

    pub async fn data_id(&self) -> Result<u32> {
        self.take(&self.data, Counter::Data).await
    }

    async fn take(&self, block: &tokio::sync::Mutex<Block<u32>>, counter: Counter) -> Result<u32> {
        let mut block = block.lock().await;
        if block.next == block.end {
            *block = self.reserve(counter).await?;
        }
        let id = block.next;
        block.next += 1;
        Ok(id)
    }

    async fn reserve(&self, counter: Counter) -> Result<Block<u32>> {
        let first = match counter {
            Counter::Objects => FIRST_USER_OBJECT_ID,
            _ => FIRST_USER_DATA_ID,
        };
        let used_up = || Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "object ids are used up");
        let (next, end) = advance(&self.coordinator, counter, |found| {
            let next = found.map_or(first, u32::from_be_bytes);
            let end = next.checked_add(BLOCK).ok_or_else(used_up)?;
            Ok(((next, end), end.to_be_bytes()))
        })
        .await?;
        Ok(Block { next, end })
    }
}

fn unreadable() -> Error {
    Error::corrupt("a counter's row has a wrong length")
}

/// Replaces a counter's bytes, in a transaction of its own.
async fn advance<T, const BYTES: usize>(
    coordinator: &Coordinator,
    counter: Counter,
    step: impl FnOnce(Option<[u8; BYTES]>) -> Result<(T, [u8; BYTES])>,
) -> Result<T> {
    let policy = WaitPolicy::Wait {
        deadline_nanos: None,
    };
    let key = counter_key(counter as u8);
    let mut txn = coordinator.begin(Isolation::ReadCommitted, false);
    let found = match txn.lock_and_get(&key, LockMode::Update, policy).await? {
        LockedRow::Unchanged(found) | LockedRow::Changed(found) => found,
        LockedRow::Skipped => None,
    };
    let found = match found {
        Some(bytes) => Some(<[u8; BYTES]>::try_from(&bytes[..]).map_err(|_| unreadable())?),
        None => None,
    };
    let (taken, next) = step(found)?;
    txn.put(key, next.to_vec())?;
    txn.commit().await?;
    Ok(taken)
}

/// Hands out the hidden ids of rows without primary key, ascending. One per instance.
pub struct RowIds {
    /// `None`: all ids are this instance's, for tests of the layers above.
    coordinator: Option<Coordinator>,
    block: Mutex<Block<i64>>,
    /// Held while a block is reserved.
    reserving: tokio::sync::Mutex<()>,
}

impl Default for RowIds {
    fn default() -> Self {
        RowIds {
            coordinator: None,
            block: Mutex::new(Block {
                next: FIRST_ROW_ID,
                end: i64::MAX,
            }),
            reserving: tokio::sync::Mutex::default(),
        }
    }
}

impl RowIds {
    pub fn new(coordinator: Coordinator) -> Self {
        RowIds {
            coordinator: Some(coordinator),
            block: Mutex::default(),
            reserving: tokio::sync::Mutex::default(),
        }
    }

    /// The first of so many successive ids, which are the caller's. At most 2³².
    pub async fn take(&self, count: usize) -> Result<i64> {
        loop {
            if let Some(first) = self.block.lock().take(count as i64) {
                return Ok(first);
            }
            Box::pin(self.reserve(count as i64)).await?;
        }
    }

    async fn reserve(&self, count: i64) -> Result<()> {
        let _reserving = self.reserving.lock().await;
        if self.block.lock().holds(count) {
            return Ok(());
        }
        let used_up = || Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "row ids are used up");
        let coordinator = self.coordinator.as_ref().ok_or_else(used_up)?;
        let block = advance(coordinator, Counter::Rows, |found| {
            let next = found.map_or(FIRST_ROW_ID, i64::from_be_bytes);
            let end = next.checked_add(ROW_ID_BLOCK).ok_or_else(used_up)?;
            Ok((Block { next, end }, end.to_be_bytes()))
        });
        let block = block.await?;
        *self.block.lock() = block;
        Ok(())
    }
}

impl Block<i64> {
    fn holds(&self, count: i64) -> bool {
        count <= self.end - self.next
    }

    fn take(&mut self, count: i64) -> Option<i64> {
        self.holds(count).then(|| {
            self.next += count;
            self.next - count
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use txn::Limits;
    use txn::testing::{MapShards, still_env};

    #[tokio::test]
    async fn two_gateways_never_give_the_same_id() {
        let shards = Arc::new(MapShards::default());
        let coordinator = || Coordinator::new(shards.clone(), still_env(0, 7), Limits::default());
        let both = [RowIds::new(coordinator()), RowIds::new(coordinator())];
        let id = |blocks: i64, more: i64| Ok(FIRST_ROW_ID + blocks * ROW_ID_BLOCK + more);
        assert_eq!(both[0].take(10).await, id(0, 0));
        assert_eq!(both[1].take(10).await, id(1, 0));
        assert_eq!(both[0].take(ROW_ID_BLOCK as usize - 10).await, id(0, 10));
        assert_eq!(both[0].take(1).await, id(2, 0));
        assert_eq!(both[1].take(1).await, id(1, 10));
        let both = [coordinator(), coordinator()].map(IdAllocator::new);
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..3 * BLOCK as usize {
            assert!(seen.insert(both[n % 2].object_id().await.expect("an id")));
        }
    }
}
