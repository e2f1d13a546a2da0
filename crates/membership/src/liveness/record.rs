//! What of the liveness protocol is on disk.

use super::{Epoch, Support};
use std::collections::BTreeMap;
use types::{StoreId, Timestamp};

/// A store's promises and requests. An empty one is that of a new store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The epoch in which this store asks for support.
    pub epoch: Epoch,
    /// The latest expiry that was ever asked for.
    pub requested: Timestamp,
    /// The latest clock reading at which support was withdrawn.
    pub withdrawn: Timestamp,
    /// What this store has promised to others. A withdrawn promise has expiry zero and the epoch from
    /// which on a new one may be given.
    pub given: BTreeMap<StoreId, Support>,
}

impl Record {
    /// Below this the clock of a restarted store must not run. It has acted at `withdrawn`; and until
    /// `requested` others may keep promises to its earlier life, on which that life may have served.
    pub fn clock_floor(&self) -> Timestamp {
        self.requested.max(self.withdrawn)
    }
}
