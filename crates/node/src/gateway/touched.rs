//! Where the transactions of this gateway have locks, and under which leases.
//!
//! Locks live in the memory of a lease holder: under the lease of another term they are gone. So for each transaction the
//! stores are remembered that were asked for locks (all must be told of its end), and the lease of each
//! shard that granted some (a commit is only as good as all of them).

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use sharding::ShardId;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use txn::kv::TxnId;
use types::StoreId;

use crate::shard_server::LeaseId;

/// Mutexes over which transactions are spread, so that sessions on different cores rarely meet.
const PARTS: usize = 64;

/// What one transaction has at one shard of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Touch {
    pub(super) store: StoreId,
    pub(super) shard: ShardId,
    /// See [`sharding::Route::span_since`], of the oldest lock that was granted.
    pub(super) span_since: u64,
    /// Nothing was granted yet, as far as is known, if `None`.
    pub(super) lease: Option<LeaseId>,
}

/// Two: the table's lock in the system shard, the rows' locks in theirs.
pub(super) type Touches = SmallVec<[Touch; 2]>;

/// Locks of the same shard were granted under different leases, so the earlier ones are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseMoved;

/// See the module.
pub(super) struct Touched {
    parts: Box<[Mutex<FxHashMap<TxnId, Touches>>]>,
}

impl Default for Touched {
    fn default() -> Self {
        Touched {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Touched {
    fn part(&self, txn: TxnId) -> &Mutex<FxHashMap<TxnId, Touches>> {
        // Transactions of a gateway are numbered.
        &self.parts[txn.0 as usize % PARTS]
    }

    pub(super) fn note(&self, txn: TxnId, touch: Touch) -> Result<(), LeaseMoved> {
        note(self.part(txn).lock().entry(txn).or_default(), touch)
    }

    /// The same of a transaction that has touches already. `None`: it has ended.
    pub(super) fn note_if_live(&self, txn: TxnId, touch: Touch) -> Option<Result<(), LeaseMoved>> {
        Some(note(self.part(txn).lock().get_mut(&txn)?, touch))
    }

    pub(super) fn of(&self, txn: TxnId) -> Touches {
        self.part(txn).lock().get(&txn).cloned().unwrap_or_default()
    }

    /// The transaction has ended.
    pub(super) fn take(&self, txn: TxnId) -> Touches {
        self.part(txn).lock().remove(&txn).unwrap_or_default()
    }

    /// All transactions with touches, by store.
    pub(super) fn live(&self) -> BTreeMap<StoreId, Vec<TxnId>> {
        let mut live: BTreeMap<StoreId, Vec<TxnId>> = BTreeMap::new();
        for part in &self.parts {
            for (txn, touches) in part.lock().iter() {
                for store in stores(touches) {
                    live.entry(store).or_default().push(*txn);
                }
            }
        }
        for transactions in live.values_mut() {
            transactions.sort_unstable();
        }
        live
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.lock().is_empty())
    }
}

fn note(touches: &mut Touches, touch: Touch) -> Result<(), LeaseMoved> {
    if let Some(lease) = touch.lease {
        let granted = touches.iter().filter(|known| known.shard == touch.shard);
        if granted
            .filter_map(|known| known.lease)
            .any(|known| !lease.keeps_locks_of(known))
        {
            return Err(LeaseMoved);
        }
    }
    let same = |known: &&mut Touch| known.store == touch.store && known.shard == touch.shard;
    match touches.iter_mut().find(same) {
        Some(known) => match (known.lease, touch.lease) {
            // Of what was refused the span says nothing.
            (None, Some(_)) => *known = touch,
            (Some(_), Some(_)) => known.span_since = known.span_since.min(touch.span_since),
            (_, None) => {}
        },
        None => touches.push(touch),
    }
    Ok(())
}

/// The stores of a transaction, each once.
pub(super) fn stores(touches: &Touches) -> SmallVec<[StoreId; 2]> {
    let mut stores: SmallVec<[StoreId; 2]> = touches.iter().map(|touch| touch.store).collect();
    stores.sort_unstable();
    stores.dedup();
    stores
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(store: u64, shard: u64, term: Option<u64>) -> Touch {
        Touch {
            store: StoreId(store),
            shard: ShardId(shard),
            span_since: 1,
            lease: term.map(|term| LeaseId { term, confirmed: 0 }),
        }
    }

    #[test]
    fn remembers_stores_and_leases_until_the_end() {
        let touched = Touched::default();
        let txn = TxnId(5);
        touched.note(txn, touch(1, 1, None)).expect("asked");
        touched.note(txn, touch(1, 1, Some(3))).expect("granted");
        touched.note(txn, touch(1, 1, None)).expect("asked again");
        touched
            .note(txn, touch(2, 8, Some(4)))
            .expect("another shard");
        touched
            .note(TxnId(6), touch(2, 8, None))
            .expect("another one");
        assert_eq!(
            touched.of(txn).to_vec(),
            [touch(1, 1, Some(3)), touch(2, 8, Some(4))]
        );
        let live = BTreeMap::from([(StoreId(1), vec![txn]), (StoreId(2), vec![txn, TxnId(6)])]);
        assert_eq!(touched.live(), live);

        assert_eq!(touched.take(txn).len(), 2);
        assert!(touched.take(TxnId(7)).is_empty());
        assert_eq!(touched.note_if_live(txn, touch(1, 1, Some(3))), None);
        touched.take(TxnId(6));
        assert!(touched.is_empty());
    }

    #[test]
    fn the_span_is_that_of_the_oldest_lock_that_was_granted() {
        let touched = Touched::default();
        let txn = TxnId(5);
        let note = |span_since, term| {
            let noted = touched.note(
                txn,
                Touch {
                    span_since,
                    ..touch(1, 1, term)
                },
            );
            noted.expect("one lease");
            touched.of(txn)[0].span_since
        };
        let spans = [
            (1, None),
            (2, Some(3)),
            (3, None),
            (3, Some(3)),
            (1, Some(3)),
        ];
        let known = spans.map(|(span_since, term)| note(span_since, term));
        assert_eq!(known, [1, 2, 2, 2, 1]);
    }

    #[test]
    fn two_leases_of_one_shard_do_not_go_together() {
        let touched = Touched::default();
        let txn = TxnId(5);
        touched.note(txn, touch(1, 1, Some(3))).expect("the first");
        assert_eq!(touched.note(txn, touch(2, 1, Some(4))), Err(LeaseMoved));
        assert_eq!(touched.note(txn, touch(1, 1, Some(5))), Err(LeaseMoved));
        touched.note(txn, touch(1, 1, Some(3))).expect("the same");
    }
}
