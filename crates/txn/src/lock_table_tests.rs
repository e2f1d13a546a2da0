use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const MODES: [LockMode; 4] = [
    LockMode::KeyShare,
    LockMode::Share,
    LockMode::NoKeyUpdate,
    LockMode::Update,
];

fn t(n: u128) -> TxnId {
    TxnId(n)
}

fn wait(table: &mut LockTable, txn: u128, key: &str, mode: LockMode) -> Ticket {
    match table.acquire(t(txn), key.as_bytes(), mode) {
        Ok(Acquire::Wait(ticket)) => ticket,
        other => panic!("transaction {txn} should wait, got {other:?}"),
    }
}

fn take(table: &mut LockTable, txn: u128, key: &str, mode: LockMode) {
    assert_eq!(
        table.acquire(t(txn), key.as_bytes(), mode),
        Ok(Acquire::Granted)
    );
}

#[test]
fn the_matrix_is_postgresqls() {
    let conflicts: Vec<Vec<bool>> = MODES
        .iter()
        .map(|a| MODES.iter().map(|b| a.conflicts_with(*b)).collect())
        .collect();
    assert_eq!(
        conflicts,
        vec![
            vec![false, false, false, true],
            vec![false, false, true, true],
            vec![false, true, true, true],
            vec![true, true, true, true],
        ]
    );
}

#[test]
fn first_come_first_served() {
    let mut table = LockTable::default();
    take(&mut table, 1, "a", LockMode::Share);
    let writer = wait(&mut table, 2, "a", LockMode::Update);
    // Compatible with the holder, but not before the writer.
    let reader = wait(&mut table, 3, "a", LockMode::Share);
    assert_eq!(table.try_acquire(t(4), b"a", LockMode::KeyShare), Ok(false));
    assert_eq!(table.release_all(t(1)), vec![writer]);
    assert_eq!(table.release_all(t(2)), vec![reader]);
    assert_eq!(table.release_all(t(3)), vec![]);
    assert!(table.is_empty() && table.bytes == 0 && table.transactions.is_empty());
}

#[test]
fn strengthening_goes_first_and_a_held_lock_is_granted_again() {
    let mut table = LockTable::default();
    take(&mut table, 1, "a", LockMode::Share);
    take(&mut table, 2, "a", LockMode::Share);
    take(&mut table, 1, "a", LockMode::KeyShare);
    let stranger = wait(&mut table, 3, "a", LockMode::Update);
    let upgrade = wait(&mut table, 1, "a", LockMode::Update);
    assert_eq!(table.release_all(t(2)), vec![upgrade]);
    assert_eq!(table.held(t(1), b"a"), Some(LockMode::Update));
    assert_eq!(table.release_all(t(1)), vec![stranger]);
}

#[test]
fn a_cycle_is_refused_when_it_would_close() {
    let mut table = LockTable::default();
    take(&mut table, 1, "a", LockMode::Update);
    take(&mut table, 2, "b", LockMode::Update);
    take(&mut table, 3, "c", LockMode::Update);
    wait(&mut table, 1, "b", LockMode::Share);
    wait(&mut table, 2, "c", LockMode::Share);
    let error = table.acquire(t(3), b"a", LockMode::Share).unwrap_err();
    assert_eq!(error.state, SqlState::DEADLOCK_DETECTED);
    assert_eq!(error.message, "deadlock detected");
    assert_eq!(
        error.fields.detail.as_deref(),
        Some(
            "Transaction 0000000000000003 waits for SHARE lock on key a; blocked by transaction 0000000000000001.\n\
             Transaction 0000000000000001 waits for SHARE lock on key b; blocked by transaction 0000000000000002.\n\
             Transaction 0000000000000002 waits for SHARE lock on key c; blocked by transaction 0000000000000003."
        )
    );
    // The victim's locks are still its own until it ends; then the others go on.
    assert_eq!(table.release_all(t(3)).len(), 1);
}

#[test]
fn two_that_strengthen_the_same_lock_are_a_deadlock() {
    let mut table = LockTable::default();
    take(&mut table, 1, "a", LockMode::Share);
    take(&mut table, 2, "a", LockMode::Share);
    let first = wait(&mut table, 1, "a", LockMode::Update);
    let error = table.acquire(t(2), b"a", LockMode::Update).unwrap_err();
    assert_eq!(error.state, SqlState::DEADLOCK_DETECTED);
    assert_eq!(table.release_all(t(2)), vec![first]);
}

#[test]
fn a_cycle_through_the_order_of_a_queue_is_found() {
    let mut table = LockTable::default();
    take(&mut table, 1, "a", LockMode::Share);
    take(&mut table, 3, "b", LockMode::Update);
    wait(&mut table, 2, "a", LockMode::Update);
    // 3 does not conflict with the holder 1, only with the place of 2.
    wait(&mut table, 3, "a", LockMode::Share);
    assert!(table.acquire(t(1), b"b", LockMode::Share).is_err());
}

#[test]
fn a_cancelled_wait_lets_the_next_pass() {
    let mut table = LockTable::default();
    take(&mut table, 1, "a", LockMode::Share);
    let writer = wait(&mut table, 2, "a", LockMode::Update);
    let reader = wait(&mut table, 3, "a", LockMode::Share);
    assert_eq!(table.cancel(writer), vec![reader]);
    assert_eq!(table.cancel(writer), vec![]);
}

#[test]
fn some_locks_can_be_released_alone() {
    let mut table = LockTable::default();
    for key in ["a", "b", "c", "d", "e", "f"] {
        take(&mut table, 1, key, LockMode::Update);
    }
    let waiter = wait(&mut table, 2, "b", LockMode::Update);
    assert_eq!(table.release(t(1), &["b", "zz"]), vec![waiter]);
    assert_eq!(table.release(t(1), &["a", "c", "d", "e", "x"]), vec![]);
    assert_eq!(table.held(t(1), b"f"), Some(LockMode::Update));
    assert_eq!(table.held(t(1), b"a"), None);
    assert_eq!(table.len(), 2);
}

#[test]
fn limits_refuse_without_a_trace() {
    let mut table = LockTable::new(LockLimits {
        locks_per_transaction: 2,
        table_bytes: 3 * (LOCK_OVERHEAD_BYTES + 1),
    });
    take(&mut table, 1, "a", LockMode::Share);
    take(&mut table, 1, "b", LockMode::Share);
    let error = table.acquire(t(1), b"c", LockMode::Share).unwrap_err();
    assert_eq!(error.state, SqlState::OUT_OF_MEMORY);
    take(&mut table, 2, "c", LockMode::Share);
    assert!(table.acquire(t(3), b"d", LockMode::Share).is_err());
    assert!(!table.transactions.contains_key(&t(3)));
}

#[derive(Clone, Debug)]
enum Step {
    Acquire(u128, u8, LockMode),
    Try(u128, u8, LockMode),
    Cancel(u128),
    Release(u128, u8),
    End(u128),
}

fn step() -> impl Strategy<Value = Step> {
    let mode = (0..4usize).prop_map(|at| MODES[at]);
    prop_oneof![
        6 => (0..6u128, 0..4u8, mode.clone()).prop_map(|(t, k, m)| Step::Acquire(t, k, m)),
        1 => (0..6u128, 0..4u8, mode).prop_map(|(t, k, m)| Step::Try(t, k, m)),
        1 => (0..6u128).prop_map(Step::Cancel),
        1 => (0..6u128, 0..4u8).prop_map(|(t, k)| Step::Release(t, k)),
        2 => (0..6u128).prop_map(Step::End),
    ]
}

/// Who waits with which ticket, as a session would know it: one wait at a time.
struct Sessions {
    table: LockTable,
    waiting: BTreeMap<TxnId, (Ticket, u8, LockMode)>,
}

impl Sessions {
    fn granted(&mut self, tickets: Vec<Ticket>) {
        for ticket in tickets {
            let txn = *self
                .waiting
                .iter()
                .find(|(_, (waiting, _, _))| *waiting == ticket)
                .expect("granted a ticket nobody waits with")
                .0;
            let (_, key, mode) = self.waiting.remove(&txn).expect("present");
            assert!(self.table.held(txn, &[key]) >= Some(mode));
        }
    }

    fn check(&self) {
        for (key, entry) in &self.table.keys {
            for (at, (a, mode)) in entry.holders.iter().enumerate() {
                for (b, other) in &entry.holders[at + 1..] {
                    assert!(a != b, "two holds of one transaction on {key:?}");
                    assert!(!mode.conflicts_with(*other), "conflicting holders");
                }
            }
            if let Some(first) = entry.queue.front() {
                assert!(!entry.compatible(first.txn, first.mode), "a lost wake-up");
            }
            let order: Vec<bool> = entry.queue.iter().map(|w| w.upgrade).collect();
            assert!(
                order.is_sorted_by(|a, b| a >= b),
                "strengthening goes first"
            );
        }
        // Somebody can always go on: following waits from anywhere ends at a running transaction.
        for start in self.waiting.keys() {
            assert!(
                self.table.find_cycle(*start).is_none(),
                "unnoticed deadlock"
            );
        }
    }
}

proptest! {
    #[test]
    fn holders_never_conflict_and_every_waiter_is_granted(
        steps in proptest::collection::vec(step(), 1..200)
    ) {
        let mut s = Sessions { table: LockTable::default(), waiting: BTreeMap::new() };
        for step in steps {
            match step {
                Step::Acquire(txn, key, mode) if !s.waiting.contains_key(&t(txn)) => {
                    match s.table.acquire(t(txn), &[key], mode) {
                        Ok(Acquire::Granted) => {
                            prop_assert!(s.table.held(t(txn), &[key]) >= Some(mode));
                        }
                        Ok(Acquire::Wait(ticket)) => {
                            s.waiting.insert(t(txn), (ticket, key, mode));
                        }
                        Err(error) => {
                            prop_assert_eq!(error.state, SqlState::DEADLOCK_DETECTED);
                            let granted = s.table.release_all(t(txn));
                            s.granted(granted);
                        }
                    }
                }
                Step::Try(txn, key, mode) if !s.waiting.contains_key(&t(txn)) => {
                    s.table.try_acquire(t(txn), &[key], mode).expect("no limit reached");
                }
                Step::Cancel(txn) => {
                    if let Some((ticket, _, _)) = s.waiting.remove(&t(txn)) {
                        let granted = s.table.cancel(ticket);
                        s.granted(granted);
                    }
                }
                Step::Release(txn, key) if !s.waiting.contains_key(&t(txn)) => {
                    let granted = s.table.release(t(txn), &[[key]]);
                    s.granted(granted);
                }
                Step::End(txn) => {
                    s.waiting.remove(&t(txn));
                    let granted = s.table.release_all(t(txn));
                    s.granted(granted);
                }
                _ => {}
            }
            s.check();
        }
        // Let those who run end, one by one: everybody gets their turn and the table empties.
        for _ in 0..64 {
            let running: BTreeSet<TxnId> = s
                .table
                .transactions
                .keys()
                .copied()
                .filter(|txn| !s.waiting.contains_key(txn))
                .collect();
            for txn in running {
                let granted = s.table.release_all(txn);
                s.granted(granted);
            }
        }
        prop_assert!(s.waiting.is_empty());
        prop_assert!(s.table.is_empty() && s.table.bytes == 0);
        prop_assert!(s.table.waits.is_empty() && s.table.transactions.is_empty());
    }
}

fn batch(keys: &[&str]) -> Arc<[kv::Key]> {
    keys.iter()
        .map(|key| kv::Key::copy_from_slice(key.as_bytes()))
        .collect()
}

#[test]
fn a_key_of_a_batch_is_waited_for_like_any_other() {
    let mut table = LockTable::default();
    assert_eq!(
        table.acquire_fresh(t(1), &batch(&["a", "b", "c"])),
        Ok(true)
    );
    assert_eq!(table.held(t(1), b"b"), Some(LockMode::Update));
    assert_eq!(table.len(), 3);
    assert_eq!(table.try_acquire(t(2), b"b", LockMode::KeyShare), Ok(false));
    let waiter = wait(&mut table, 2, "b", LockMode::Update);
    // Its own holder has it already, and giving up what it took since a savepoint frees nothing.
    take(&mut table, 1, "b", LockMode::Update);
    assert_eq!(table.release(t(1), &["b"]), vec![]);
    take(&mut table, 3, "d", LockMode::Update);
    assert_eq!(table.release_all(t(1)), vec![waiter]);
    take(&mut table, 3, "c", LockMode::Update);
    table.release_all(t(2));
    table.release_all(t(3));
    assert!(table.is_empty() && table.bytes == 0 && table.transactions.is_empty());
}

#[test]
fn a_batch_takes_only_keys_that_nobody_holds_or_wants() {
    let mut table = LockTable::default();
    take(&mut table, 1, "b", LockMode::KeyShare);
    assert_eq!(table.acquire_fresh(t(2), &batch(&["a", "b"])), Ok(false));
    assert_eq!(table.acquire_fresh(t(2), &batch(&["a", "c"])), Ok(true));
    assert_eq!(table.acquire_fresh(t(3), &batch(&["c", "d"])), Ok(false));
    assert_eq!(table.acquire_fresh(t(3), &batch(&["b1", "d"])), Ok(true));
    for txn in 1..=3 {
        table.release_all(t(txn));
    }
    assert!(table.is_empty() && table.bytes == 0);
}

#[test]
fn batches_deadlock_like_single_locks() {
    let mut table = LockTable::default();
    assert_eq!(table.acquire_fresh(t(1), &batch(&["a"])), Ok(true));
    assert_eq!(table.acquire_fresh(t(2), &batch(&["b"])), Ok(true));
    wait(&mut table, 1, "b", LockMode::Update);
    let error = table.acquire(t(2), b"a", LockMode::Update);
    assert_eq!(
        error.map_err(|error| error.state),
        Err(SqlState::DEADLOCK_DETECTED)
    );
}

#[test]
fn batches_count_against_the_limits() {
    let mut table = LockTable::new(LockLimits {
        locks_per_transaction: 3,
        ..LockLimits::default()
    });
    assert_eq!(table.acquire_fresh(t(1), &batch(&["a", "b"])), Ok(true));
    assert!(table.acquire_fresh(t(1), &batch(&["c", "d"])).is_err());
    assert_eq!(table.acquire_fresh(t(2), &batch(&["c", "d"])), Ok(true));
}
