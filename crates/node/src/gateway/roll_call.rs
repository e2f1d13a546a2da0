//! Telling other stores, now and then, which transactions of this gateway live: see
//! [`ShardServer::roll_call`]. It makes up for releases of locks that the network has lost.
//!
//! [`ShardServer::roll_call`]: crate::shard_server::ShardServer::roll_call

use super::asking::Shared;
use futures::future::join_all;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use types::StoreId;

/// Between two roll calls. A lock whose release was lost stays for up to twice this time.
const INTERVAL: Duration = Duration::from_secs(2);
/// Roll calls after the last lock: the first makes a store look twice at what it has, the second makes it
/// let go.
const AFTER_LAST_LOCK: u8 = 2;

/// The stores that were asked for locks since they have last been told that there are none.
#[derive(Default)]
pub(super) struct Debts(Mutex<BTreeMap<StoreId, Debt>>);

struct Debt {
    roll_calls: u8,
    /// A lock was asked for since the present roll call began, which cannot count then.
    renewed: bool,
}

impl Debts {
    pub(super) fn owe(&self, store: StoreId) {
        let debt = Debt {
            roll_calls: AFTER_LAST_LOCK,
            renewed: true,
        };
        self.0.lock().insert(store, debt);
    }

    #[cfg(test)]
    pub(super) fn is_paid(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// A roll call begins: who is to be called.
    fn begin(&self) -> Vec<StoreId> {
        let mut debts = self.0.lock();
        for debt in debts.values_mut() {
            debt.renewed = false;
        }
        debts.keys().copied().collect()
    }

    fn pay(&self, store: StoreId) {
        let mut debts = self.0.lock();
        if let Some(debt) = debts.get_mut(&store)
            && !debt.renewed
        {
            debt.roll_calls -= 1;
            if debt.roll_calls == 0 {
                debts.remove(&store);
            }
        }
    }
}

impl Shared {
    /// One roll call at each store that may need it. Not two at a time.
    pub(super) async fn call_roll(&self) {
        // The debts first: whoever is asked for a lock after that owes anew.
        let stores = self.debts.begin();
        let mut live = self.touched.live();
        let calls = stores.into_iter().map(|store| {
            let live = live.remove(&store).unwrap_or_default();
            let server = self.server(store);
            async move {
                let answered = server.roll_call(self.store, &live).await.is_ok();
                if answered && live.is_empty() {
                    self.debts.pay(store);
                }
            }
        });
        join_all(calls.collect::<Vec<_>>()).await;
    }
}

/// Runs until the gateway is gone.
pub(super) async fn run(shared: Weak<Shared>) {
    loop {
        let Some(clock) = shared.upgrade().map(|shared| Arc::clone(&shared.env.clock)) else {
            return;
        };
        clock.sleep(INTERVAL).await;
        if let Some(shared) = shared.upgrade() {
            shared.call_roll().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_during_a_roll_call_is_owed_two_more() {
        let debts = Debts::default();
        let store = StoreId(7);
        debts.owe(store);
        assert_eq!(debts.begin(), [store]);
        debts.owe(store);
        debts.pay(store);
        for _ in 0..AFTER_LAST_LOCK {
            assert_eq!(debts.begin(), [store]);
            debts.pay(store);
        }
        assert!(debts.is_paid());
    }
}
