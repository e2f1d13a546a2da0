//! Stores and shards as the cluster manager knows them.

use bytes::Bytes;
use sharding::ShardId;
use std::collections::BTreeMap;
use types::{Locality, StoreId};

/// What a store is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreState {
    Live,
    /// Its heartbeats are missing, but not for long enough to copy its data elsewhere.
    Suspect,
    /// Missing for `time_until_dead`: what it held is to be made good.
    Dead,
    /// It gives up its leases and keeps its replicas: it will be back.
    Draining,
    /// It gives up everything.
    Decommissioning,
}

impl StoreState {
    /// It may be given replicas.
    pub fn takes_replicas(self) -> bool {
        self == StoreState::Live
    }

    /// Replicas on it count as copies.
    pub fn holds_replicas(self) -> bool {
        !matches!(self, StoreState::Dead | StoreState::Decommissioning)
    }

    /// It can answer, and so lead.
    pub fn may_lead(self) -> bool {
        matches!(self, StoreState::Live)
    }
}

/// Why a store should not hold leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Its disk is slow of late.
    Slow,
    /// Its clock is off.
    ClockOff,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StoreView {
    pub id: StoreId,
    pub state: StoreState,
    pub locality: Locality,
    pub disk_bytes: u64,
    pub used_bytes: u64,
    /// Leases leave it, and it is given none and no replicas.
    pub unfit: Option<Unfit>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ShardView {
    pub id: ShardId,
    /// Stores of the voting replicas.
    pub replicas: Vec<StoreId>,
    /// Those of them whose copies are damaged: they vote, and cannot be read.
    pub damaged: Vec<StoreId>,
    /// The store that holds its lease, if any does.
    pub lease: Option<StoreId>,
    pub bytes: u64,
    /// Copies that it is to have; `None`: as the policy says.
    pub replication_factor: Option<usize>,
    /// By this key it ranks the stores for its replicas; `None`: any will do.
    pub ranked_by: Option<Bytes>,
    /// Changes of its members are under way: nothing else is planned for it.
    pub changing: bool,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    pub stores: BTreeMap<StoreId, StoreView>,
    pub shards: Vec<ShardView>,
}

impl ClusterView {
    pub(crate) fn state(&self, store: StoreId) -> StoreState {
        // A store that nobody knows any more has left.
        self.stores
            .get(&store)
            .map_or(StoreState::Dead, |store| store.state)
    }

    /// Sum of the distances between all pairs of these stores.
    pub fn spread(&self, stores: &[StoreId]) -> f64 {
        let places: Vec<&Locality> = stores
            .iter()
            .filter_map(|id| self.stores.get(id).map(|store| &store.locality))
            .collect();
        let pairs = places
            .iter()
            .enumerate()
            .flat_map(|(at, a)| places[at + 1..].iter().map(move |b| a.distance(b)));
        pairs.sum()
    }
}
