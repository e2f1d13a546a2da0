//! The order in which stores are asked for a shard until one of them holds its lease.
//!
//! Pure: time and dice are arguments.
//!
//! A *round* asks the store that is believed to hold the lease, those that
//! the refusing ones name, then all other replicas, each once. Between rounds there is a pause that grows.

use sharding::Route;
use smallvec::SmallVec;
use std::time::Duration;
use types::StoreId;

/// Pause after the first round without an answer.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// Longest pause between rounds: a new lease holder is found within it.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// Since the first refusal, unless the node is told otherwise. A shard without quorum answers with an error after
/// this time, because a client can do more with an error than with silence. An election takes less than a second.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Search {
    patience: Duration,
    /// When the refusals began that have not led to anything yet.
    since_nanos: Option<u64>,
    rounds: u32,
    tried: SmallVec<[StoreId; 5]>,
    hint: Option<StoreId>,
    /// Those that could not be reached when they were last asked.
    missing: SmallVec<[StoreId; 5]>,
    /// A store does not hold the keys and does not know who does.
    pub(super) lost: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Ask(StoreId),
    /// Then a new round begins.
    Pause(Duration),
    GiveUp,
}

impl Search {
    pub(super) fn new(patience: Duration) -> Self {
        Search {
            patience,
            since_nanos: None,
            rounds: 0,
            tried: SmallVec::new(),
            hint: None,
            lost: false,
            missing: SmallVec::new(),
        }
    }

    /// Stores that could not be reached.
    pub(super) fn missing(&self) -> &[StoreId] {
        &self.missing
    }

    /// Whether `store` could be reached just now.
    pub(super) fn reached(&mut self, store: StoreId, reached: bool) {
        self.missing.retain(|missing| *missing != store);
        if !reached {
            self.missing.push(store);
            self.missing.sort_unstable();
        }
    }

    pub(super) fn next(&mut self, route: &Route<'_>, now_nanos: u64, dice: u64) -> Next {
        let replicas = route.shard.replicas.iter().map(|replica| replica.store);
        let in_order = self.hint.take().into_iter().chain(route.holder);
        let untried = in_order
            .chain(replicas)
            .find(|store| !self.tried.contains(store));
        if let Some(store) = untried {
            return Next::Ask(store);
        }
        let since = *self.since_nanos.get_or_insert(now_nanos);
        if Duration::from_nanos(now_nanos.saturating_sub(since)) >= self.patience {
            return Next::GiveUp;
        }
        self.tried.clear();
        let pause = FIRST_PAUSE * (1 << self.rounds.min(10));
        self.rounds += 1;
        Next::Pause(jittered(pause.min(LONGEST_PAUSE), dice))
    }

    /// `store` does not hold the lease, or is out of reach.
    pub(super) fn failed(&mut self, store: StoreId, hint: Option<StoreId>, now_nanos: u64) {
        self.since_nanos.get_or_insert(now_nanos);
        self.tried.push(store);
        self.hint = hint;
    }

    /// How often all replicas that are known have been asked.
    pub(super) fn rounds(&self) -> u32 {
        self.rounds
    }

    /// The map has changed, so all begins anew.
    pub(super) fn learned(&mut self) {
        *self = Search::new(self.patience);
    }
}

/// Between one half and the whole, so that many who wait for one shard do not come all at once.
fn jittered(pause: Duration, dice: u64) -> Duration {
    let half = pause / 2;
    half + Duration::from_nanos(dice % (half.as_nanos() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sharding::{Replica, Router, ShardDescriptor, ShardId, ShardMap};

    fn router() -> Router {
        let replica = |store| Replica {
            store: StoreId(store),
            id: store,
        };
        let one = ShardMap::single(replica(1)).shards()[0].clone();
        let shard = ShardDescriptor {
            replicas: [1, 2, 3].map(replica).to_vec(),
            ..one
        };
        Router::new(ShardMap::new(vec![shard]).expect("all keys are covered"))
    }

    #[test]
    fn follows_hints_then_asks_everybody_then_pauses() {
        let router = router();
        router.believe(ShardId(1), StoreId(2));
        let mut search = Search::new(PATIENCE);
        let mut ask = |hint: Option<u64>| {
            let next = search.next(&router.route(b"k"), 0, 0);
            if let Next::Ask(store) = next {
                search.failed(store, hint.map(StoreId), 0);
            }
            next
        };
        assert_eq!(ask(Some(9)), Next::Ask(StoreId(2)));
        // No replica that is known here, but who knows.
        assert_eq!(ask(Some(2)), Next::Ask(StoreId(9)));
        assert_eq!(ask(None), Next::Ask(StoreId(1)));
        assert_eq!(ask(None), Next::Ask(StoreId(3)));
        assert_eq!(ask(None), Next::Pause(FIRST_PAUSE / 2));
        assert_eq!(ask(None), Next::Ask(StoreId(2)));
    }

    #[test]
    fn gives_up_after_some_seconds_of_growing_pauses() {
        let router = router();
        let mut search = Search::new(PATIENCE);
        let mut now = 7;
        let mut pauses = Vec::new();
        loop {
            match search.next(&router.route(b"k"), now, u64::MAX / 3) {
                Next::Ask(store) => search.failed(store, None, now),
                Next::Pause(pause) => {
                    pauses.push(pause);
                    now += pause.as_nanos() as u64;
                }
                Next::GiveUp => break,
            }
        }
        let waited = Duration::from_nanos(now - 7);
        assert!(waited >= PATIENCE && waited < PATIENCE + LONGEST_PAUSE);
        assert!(pauses[0] <= FIRST_PAUSE);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE));
        assert!(*pauses.last().expect("there were pauses") >= LONGEST_PAUSE / 2);

        search.learned();
        assert_eq!(
            search.next(&router.route(b"k"), now, 0),
            Next::Ask(StoreId(1))
        );
    }
}
