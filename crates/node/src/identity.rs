//! Who a store is: written once, on its first open.

use bytes::Bytes;
use storage::{Engine, Keyspace, WriteBatch};
use types::StoreId;
use types::env::Rng;

const KEY: &[u8] = b"sidentity";
const VERSION: u8 = 1;
const RECORD_BYTES: usize = 1 + 16 + 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the cluster that the store belongs to. A node refuses stores of another.
    pub cluster: u128,
    pub store: StoreId,
}

impl Identity {
    /// The first store of a new cluster.
    pub(crate) fn found(rng: &dyn Rng) -> Self {
        Identity {
            cluster: (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64()),
            store: StoreId(1),
        }
    }

    pub(crate) fn load(engine: &dyn Engine) -> storage::Result<Option<Self>> {
        let Some(record) = engine.get(Keyspace::Raft, KEY)? else {
            return Ok(None);
        };
        Self::decode(&record)
            .map(Some)
            .ok_or_else(|| storage::Error::Corrupt("the store's identity is damaged".to_owned()))
    }

    pub(crate) fn put(&self, batch: &mut WriteBatch) {
        let mut record = vec![VERSION];
        record.extend_from_slice(&self.cluster.to_le_bytes());
        record.extend_from_slice(&self.store.0.to_le_bytes());
        let sum = checksum(&record);
        record.extend_from_slice(&sum.to_le_bytes());
        batch.put(Keyspace::Raft, Bytes::from_static(KEY), record);
    }

    fn decode(record: &[u8]) -> Option<Self> {
        let (body, sum) = record.split_at_checked(RECORD_BYTES)?;
        if sum != checksum(body).to_le_bytes() || body[0] != VERSION {
            return None;
        }
        Some(Identity {
            cluster: u128::from_le_bytes(body[1..17].try_into().ok()?),
            store: StoreId(u64::from_le_bytes(body[17..].try_into().ok()?)),
        })
    }
}

/// FNV-1a, 64 bits: enough for 25 bytes that are read once.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
