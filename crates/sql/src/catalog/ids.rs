//! Object ids and data ids, never given twice.
//!
//! A block of numbers is reserved durably in a transaction of its own, so that two DDL transactions
//! never wait for each other's numbers; a crash skips what was left of the block.

use super::descriptor::{FIRST_USER_OBJECT_ID, ObjectId};
use super::store::{FIRST_USER_DATA_ID, counter_key};
use txn::kv::{LockMode, WaitPolicy};
use txn::{Coordinator, Isolation, LockedRow};
use types::{Error, Result, SqlState};

/// Numbers reserved at once: one write per this many objects; what a crash may skip.
const BLOCK: u32 = 256;

#[derive(Clone, Copy)]
enum Counter {
    ObjectId = 1,
    DataId = 2,
}

/// The numbers left of a reserved block.
#[derive(Clone, Copy, Debug, Default)]
struct Block {
    next: u32,
    end: u32,
}

/// One per instance.
pub struct IdAllocator {
    coordinator: Coordinator,
    objects: tokio::sync::Mutex<Block>,
    data: tokio::sync::Mutex<Block>,
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
        self.take(&self.objects, Counter::ObjectId).await
    }

    pub async fn data_id(&self) -> Result<u32> {
        self.take(&self.data, Counter::DataId).await
    }

    async fn take(&self, block: &tokio::sync::Mutex<Block>, counter: Counter) -> Result<u32> {
        let mut block = block.lock().await;
        if block.next == block.end {
            *block = self.reserve(counter).await?;
        }
        let id = block.next;
        block.next += 1;
        Ok(id)
    }

    async fn reserve(&self, counter: Counter) -> Result<Block> {
        let first = match counter {
            Counter::ObjectId => FIRST_USER_OBJECT_ID,
            Counter::DataId => FIRST_USER_DATA_ID,
        };
        let policy = WaitPolicy::Wait {
            deadline_nanos: None,
        };
        let key = counter_key(counter as u8);
        let mut txn = self.coordinator.begin(Isolation::ReadCommitted, false);
        let next = match txn.lock_and_get(&key, LockMode::Update, policy).await? {
            LockedRow::Unchanged(Some(value)) | LockedRow::Changed(Some(value)) => {
                let bytes: [u8; 4] = value
                    .as_ref()
                    .try_into()
                    .map_err(|_| Error::corrupt("an id counter is not four bytes"))?;
                u32::from_be_bytes(bytes)
            }
            _ => first,
        };
        let end = next.checked_add(BLOCK).ok_or_else(|| {
            Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "object ids are used up")
        })?;
        txn.put(key, end.to_be_bytes().to_vec())?;
        txn.commit().await?;
        Ok(Block { next, end })
    }
}
