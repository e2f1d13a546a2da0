//! Memory of buffered writes, locks and read sets: a limit per transaction and one per node.
//!
//! A transaction that reaches either gets 53200 and goes on; the process never runs out of memory
//! because of it. Transactions take from the node's budget in steps of [`STEP_BYTES`], so the shared
//! counter is touched rarely.

use std::sync::atomic::{AtomicUsize, Ordering};
use types::{Error, Result, SqlState};

/// What a transaction takes from the node's budget at a time. Small transactions touch the shared
/// counter twice in their life.
const STEP_BYTES: usize = 64 << 10;

/// Counts what all transactions of a node have taken.
#[derive(Debug)]
pub(crate) struct NodeBudget {
    used: AtomicUsize,
    limit: usize,
}

impl NodeBudget {
    pub(crate) fn new(limit: usize) -> Self {
        NodeBudget {
            used: AtomicUsize::new(0),
            limit,
        }
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.limit {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        true
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// One transaction's share.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    used: usize,
    reserved: usize,
}

impl Charge {
    /// Takes `bytes` more, or 53200 and nothing has changed.
    pub(crate) fn add(&mut self, node: &NodeBudget, limit: usize, bytes: usize) -> Result<()> {
        let used = self.used + bytes;
        if used > limit {
            return Err(Error::new(
                SqlState::OUT_OF_MEMORY,
                format!("the transaction needs more than {limit} bytes of memory"),
            )
            .hint("Commit in smaller steps, or raise the memory limit per transaction."));
        }
        if used > self.reserved {
            let more = (used - self.reserved).next_multiple_of(STEP_BYTES);
            if !node.take(more) {
                return Err(Error::new(
                    SqlState::OUT_OF_MEMORY,
                    "the transactions of this node need more memory than they are allowed",
                )
                .hint(
                    "Wait for others to commit, commit in smaller steps, or raise the memory \
                     limit for transactions.",
                ));
            }
            self.reserved += more;
        }
        self.used = used;
        Ok(())
    }

    pub(crate) fn remove(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.reserved > 0
    }

    pub(crate) fn clear(&mut self, node: &NodeBudget) {
        if self.reserved > 0 {
            node.give_back(self.reserved);
        }
        *self = Charge::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_everything_is_given_back() {
        let node = NodeBudget::new(3 * STEP_BYTES);
        let mut a = Charge::default();
        let mut b = Charge::default();
        assert!(a.add(&node, 2 * STEP_BYTES, STEP_BYTES + 1).is_ok());
        assert_eq!(node.used(), 2 * STEP_BYTES);
        assert!(a.add(&node, 2 * STEP_BYTES, STEP_BYTES).is_err());
        assert!(b.add(&node, usize::MAX, STEP_BYTES).is_ok());
        let error = b.add(&node, usize::MAX, 1).expect_err("the node is full");
        assert_eq!(error.state, SqlState::OUT_OF_MEMORY);
        a.clear(&node);
        assert!(b.add(&node, usize::MAX, 1).is_ok());
        b.clear(&node);
        assert_eq!(node.used(), 0);
    }
}
