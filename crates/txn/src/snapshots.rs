//! The read timestamps of the transactions that are open at this gateway, so that garbage collection
//! keeps the history they can see.
//!
//! Entering and leaving happen with every statement, asking for the oldest about once a minute. So
//! a transaction writes into a slot of its own, without a lock, and the one who asks walks all slots.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use types::Timestamp;

/// Transactions that have a slot at once; those above it share a locked map.
const SLOTS: usize = 1024;
/// Slots tried before the map.
const PROBES: usize = 8;

const FREE: u64 = 0;
/// Holds back all garbage collection while its transaction fetches its timestamp.
const CHOOSING: u64 = 1;

#[derive(Debug)]
pub struct ActiveSnapshots {
    slots: Box<[AtomicU64]>,
    overflow: Mutex<BTreeMap<u64, Timestamp>>,
    next_overflow: AtomicU64,
}

#[derive(Debug)]
pub(crate) enum Slot {
    Own(usize),
    Overflow(u64),
}

impl Default for ActiveSnapshots {
    fn default() -> Self {
        ActiveSnapshots {
            slots: (0..SLOTS).map(|_| AtomicU64::new(FREE)).collect(),
            overflow: Mutex::default(),
            next_overflow: AtomicU64::new(0),
        }
    }
}

impl ActiveSnapshots {
    /// The oldest timestamp at which somebody may still read. Take the bound it is compared with
    /// *before* the call: who enters later reads at or above that bound.
    pub fn oldest(&self) -> Option<Timestamp> {
        let slots = self.slots.iter().map(|slot| slot.load(Ordering::SeqCst));
        let own = slots.filter(|at| *at != FREE).min().map(Timestamp);
        let overflow = self.overflow.lock().values().min().copied();
        own.into_iter().chain(overflow).min()
    }

    /// Transactions that hold a snapshot.
    pub fn len(&self) -> usize {
        let own = self.slots.iter();
        let own = own.filter(|slot| slot.load(Ordering::Relaxed) != FREE);
        own.count() + self.overflow.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a slot. `hint` spreads transactions over the slots.
    pub(crate) fn enter(&self, hint: u64) -> Slot {
        for probe in 0..PROBES {
            let at = (hint as usize).wrapping_add(probe) % SLOTS;
            let taken = self.slots[at].compare_exchange(
                FREE,
                CHOOSING,
                Ordering::SeqCst,
                Ordering::Relaxed,
            );
            if taken.is_ok() {
                return Slot::Own(at);
            }
        }
        let id = self.next_overflow.fetch_add(1, Ordering::Relaxed);
        self.overflow.lock().insert(id, Timestamp(CHOOSING));
        Slot::Overflow(id)
    }

    /// Holds back everything from here to [`ActiveSnapshots::choose`], so that the timestamp that is
    /// fetched meanwhile cannot be collected. A slot that was just entered does so already.
    pub(crate) fn begin_choice(&self, slot: &Slot) {
        match slot {
            Slot::Own(at) => self.slots[*at].store(CHOOSING, Ordering::SeqCst),
            Slot::Overflow(id) => {
                self.overflow.lock().insert(*id, Timestamp(CHOOSING));
            }
        }
    }

    /// Holds what is seen at this timestamp.
    pub(crate) fn choose(&self, slot: &Slot, chosen: Timestamp) {
        let chosen = chosen.0.max(CHOOSING);
        match slot {
            // Who still sees `CHOOSING` collects nothing, so this need not be seen at once.
            Slot::Own(at) => self.slots[*at].store(chosen, Ordering::Release),
            Slot::Overflow(id) => {
                self.overflow.lock().insert(*id, Timestamp(chosen));
            }
        }
    }

    pub(crate) fn leave(&self, slot: Slot) {
        match slot {
            Slot::Own(at) => self.slots[at].store(FREE, Ordering::Release),
            Slot::Overflow(id) => {
                self.overflow.lock().remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_oldest_also_beyond_its_slots() {
        let active = ActiveSnapshots::default();
        assert_eq!(active.oldest(), None);
        let mut slots: Vec<Slot> = (0..2000).map(|_| active.enter(7)).collect();
        assert!(slots.iter().any(|slot| matches!(slot, Slot::Overflow(_))));
        for (n, slot) in slots.iter().enumerate() {
            if n % 2 == 0 {
                active.begin_choice(slot);
                assert_eq!(active.oldest(), Some(Timestamp(CHOOSING)));
            }
            active.choose(slot, Timestamp(5000 - n as u64));
        }
        assert_eq!(active.oldest(), Some(Timestamp(3001)));
        assert_eq!(active.len(), 2000);
        if let Some(newest) = slots.pop() {
            active.leave(newest);
        }
        assert_eq!(active.oldest(), Some(Timestamp(3002)));
        for slot in slots {
            active.leave(slot);
        }
        assert!(active.is_empty());
    }
}
