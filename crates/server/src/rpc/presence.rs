//! Which peers are connected, as this node's core is told.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::StoreId;
use types::env::Peer;

/// Puts the two connections of a pair of nodes together: a peer is connected while both stand.
#[derive(Default)]
pub struct Presence(Mutex<State>);

#[derive(Default)]
struct State {
    /// Nobody listens before the server runs.
    listener: Option<Arc<dyn Peer>>,
    ways: BTreeMap<StoreId, Ways>,
}

#[derive(Clone, Copy, Default)]
struct Ways {
    there: bool,
    back: bool,
}

impl Ways {
    fn both(self) -> bool {
        self.there && self.back
    }
}

impl Presence {
    /// Tells `listener` of all that are connected, and of each change from now on.
    pub fn listen(&self, listener: Arc<dyn Peer>) {
        let mut state = self.0.lock();
        for (peer, _) in state.ways.iter().filter(|(_, ways)| ways.both()) {
            listener.connected(*peer, true);
        }
        state.listener = Some(listener);
    }

    /// The connection that this node made.
    pub fn there(&self, peer: StoreId, stands: bool) {
        self.change(peer, |ways| ways.there = stands);
    }

    /// The connection that the peer made.
    pub fn back(&self, peer: StoreId, stands: bool) {
        self.change(peer, |ways| ways.back = stands);
    }

    /// The listener is called under the lock, so that it hears of changes in their order.
    fn change(&self, peer: StoreId, change: impl FnOnce(&mut Ways)) {
        let mut state = self.0.lock();
        let ways = state.ways.entry(peer).or_default();
        let before = ways.both();
        change(ways);
        let after = ways.both();
        if before != after
            && let Some(listener) = &state.listener
        {
            listener.connected(peer, after);
        }
    }
}
