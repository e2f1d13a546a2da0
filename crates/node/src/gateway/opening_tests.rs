//! Statements that begin with one exchange, and those that take the steps one by one.

use super::Gateway;
use super::fakes::Cluster;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use txn::kv::{
    Isolation, Key, LockMode, Opened, Opening, Point, ReadScope, Shards, Span, TxnId, WaitPolicy,
};
use txn::{Coordinator, Limits, LockedRow, Transaction};
use types::{MaybeReady, Result, SqlState, Timestamp};

const T1: TxnId = TxnId(1);
const T2: TxnId = TxnId(2);
const FOREVER: WaitPolicy = WaitPolicy::Wait {
    deadline_nanos: None,
};
const TABLE: &[u8] = b"a table";

/// A node without leases, whose calls travel as bytes.
struct Far {
    cluster: Arc<Cluster>,
    gateway: Arc<Gateway>,
    rows: [Span; 1],
}

impl Far {
    fn at(cluster: Arc<Cluster>, store: u64) -> Far {
        let far = Far {
            gateway: Arc::new(cluster.gateway_over_wire(store)),
            cluster,
            rows: [Span {
                start: Key::from_static(b"row"),
                end: Key::from_static(b"roy"),
            }],
        };
        // It knows the lease holders from now on.
        far.wait(far.gateway.read_timestamp(ReadScope::All))
            .expect("all shards answer");
        far.exchanges();
        far
    }

    fn wait<T: Unpin>(&self, answer: MaybeReady<T>) -> T {
        self.cluster.world.run(answer)
    }

    /// To the end, which comes without anybody else's doing.
    fn run<T>(&self, future: impl Future<Output = T> + Send) -> T {
        self.cluster.world.run(Box::pin(future))
    }

    /// How many there were since the last time.
    fn exchanges(&self) -> usize {
        std::mem::take(&mut self.cluster.state.lock().exchanges)
    }

    fn ask(
        &self,
        txn: TxnId,
        lock: Option<LockMode>,
        policy: WaitPolicy,
    ) -> Option<MaybeReady<Result<Opened>>> {
        self.gateway.open(&Opening {
            txn,
            tables: &[TABLE],
            scope: Some(ReadScope::Spans(&self.rows)),
            point: Some(Point { key: b"row", lock }),
            policy,
        })
    }

    fn open(&self, txn: TxnId, lock: Option<LockMode>) -> Result<Opened> {
        let answer = self.ask(txn, lock, WaitPolicy::NoWait);
        self.wait(answer.expect("one store answers for all of it"))
    }

    fn coordinator(&self) -> Coordinator {
        let shards = Arc::clone(&self.gateway);
        Coordinator::new(shards, self.cluster.world.env(), Limits::default())
    }

    /// The row has this value from now on, by a transaction of its own.
    fn put(&self, value: &'static str) -> Timestamp {
        let mut txn = self.coordinator().begin(Isolation::ReadCommitted, false);
        let locked = txn.lock(b"row", LockMode::Update, WaitPolicy::NoWait);
        assert_eq!(self.wait(locked), Ok(true));
        txn.put("row", value).expect("writable");
        self.wait(txn.commit()).expect("committed").at
    }

    fn begin(&self, txn: &mut Transaction, lock: Option<LockMode>) -> Result<Timestamp> {
        let (scope, point) = (ReadScope::Spans(&self.rows), Point { key: b"row", lock });
        self.run(txn.begin_with(&[TABLE], FOREVER, scope, Some(point)))
    }

    fn is_unlocked(&self) -> bool {
        self.cluster.world.settle();
        self.cluster.locked() == 0
    }
}

#[test]
fn locks_snapshot_and_row_come_in_one_exchange() {
    let far = Far::at(Cluster::new(3), 2);
    let committed = far.put("old");
    far.exchanges();
    let mut txn = far.coordinator().begin(Isolation::ReadCommitted, false);
    let at = far
        .begin(&mut txn, Some(LockMode::NoKeyUpdate))
        .expect("free");
    assert!(at >= committed);
    let row = txn.lock_and_get(b"row", LockMode::NoKeyUpdate, FOREVER);
    let MaybeReady::Ready(Some(Ok(row))) = row else {
        panic!("the row is asked for again");
    };
    assert_eq!(row, LockedRow::Unchanged(Some("old".into())));
    assert!(matches!(
        txn.lock(TABLE, LockMode::KeyShare, FOREVER),
        MaybeReady::Ready(Some(Ok(true)))
    ));
    assert_eq!((far.exchanges(), far.cluster.locked()), (1, 2));
    txn.put("row", "new").expect("writable");
    far.wait(txn.commit()).expect("committed");
    assert!(far.is_unlocked());
    far.exchanges();

    // What is only read is read at the snapshot, and not kept for the next one.
    let mut txn = far.coordinator().begin(Isolation::ReadCommitted, true);
    far.begin(&mut txn, None).expect("a snapshot");
    let found = txn.get(b"row");
    assert!(matches!(found, MaybeReady::Ready(Some(Ok(Some(value)))) if value == "new"));
    assert_eq!(far.exchanges(), 1);
    far.begin(&mut txn, None).expect("a snapshot");
    far.put("newer");
    far.run(txn.restart_statement()).expect("a newer snapshot");
    assert_eq!(far.wait(txn.get(b"row")), Ok(Some("newer".into())));
}

#[test]
fn a_statement_about_an_own_write_asks_nobody() {
    let far = Far::at(Cluster::new(3), 2);
    let mut txn = far.coordinator().begin(Isolation::ReadCommitted, false);
    let lock = Some(LockMode::Update);
    let at = far.begin(&mut txn, lock).expect("free");
    txn.put("row", "own").expect("writable");
    far.exchanges();
    let row = [Span {
        start: Key::from_static(b"row"),
        end: Key::from_static(b"row\0"),
    }];
    let read = |txn: &mut Transaction, scope: &[Span]| {
        let key = b"row";
        let point = Some(Point { key, lock: None });
        far.run(txn.begin_with(&[], FOREVER, ReadScope::Spans(scope), point))
    };
    assert_eq!(read(&mut txn, &row), Ok(at));
    assert_eq!(far.wait(txn.get(b"row")), Ok(Some("own".into())));
    assert_eq!(far.exchanges(), 0);
    // One that may read more takes a snapshot of that.
    read(&mut txn, &far.rows).expect("a snapshot");
    assert_eq!(far.exchanges(), 1);
    txn.rollback();
    assert!(far.is_unlocked());
}

#[test]
fn a_row_that_changed_while_its_lock_was_waited_for_is_changed() {
    let far = Far::at(Cluster::new(3), 2);
    far.put("old");
    let mut first = far.coordinator().begin(Isolation::ReadCommitted, false);
    far.begin(&mut first, Some(LockMode::Update)).expect("free");
    first.put("row", "new").expect("writable");
    let mut second = far.coordinator().begin(Isolation::ReadCommitted, false);
    {
        let (scope, point) = (
            ReadScope::Spans(&far.rows),
            Point {
                key: b"row",
                lock: Some(LockMode::Update),
            },
        );
        let mut begin = Box::pin(second.begin_with(&[TABLE], FOREVER, scope, Some(point)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(begin.as_mut().poll(&mut context).is_pending());
        assert_eq!(far.cluster.state.lock().waiting, 1);
        far.wait(first.commit()).expect("committed");
        far.run(begin).expect("granted");
    }
    let row = far.wait(second.lock_and_get(b"row", LockMode::Update, FOREVER));
    assert_eq!(row, Ok(LockedRow::Changed(Some("new".into()))));
    // Its own write comes before what was read ahead.
    far.begin(&mut second, Some(LockMode::Update))
        .expect("held");
    second.put("row", "own").expect("writable");
    let row = far.wait(second.lock_and_get(b"row", LockMode::Update, FOREVER));
    assert_eq!(row, Ok(LockedRow::Unchanged(Some("own".into()))));
    second.rollback();
    assert!(far.is_unlocked());
}

#[test]
fn who_stops_waiting_leaves_the_queue_and_holds_nothing() {
    let far = Far::at(Cluster::new(3), 2);
    let lock = Some(LockMode::Update);
    assert!(far.open(T1, lock).is_ok());
    let error = far.open(T2, lock).expect_err("held");
    assert_eq!(error.state, SqlState::LOCK_NOT_AVAILABLE);
    let skipped = far.ask(T2, lock, WaitPolicy::SkipLocked).expect("far");
    assert_eq!(far.wait(skipped).expect("skipped").point, None);

    let mut waiting = far.ask(T2, lock, FOREVER).expect("far");
    let mut context = Context::from_waker(Waker::noop());
    let polled = std::pin::Pin::new(&mut waiting).poll(&mut context);
    assert!(matches!(polled, Poll::Pending));
    assert_eq!(far.cluster.state.lock().waiting, 1);
    drop(waiting);
    assert_eq!(far.cluster.state.lock().waiting, 0);
    far.gateway.unlock_all(T2);
    far.gateway.unlock_all(T1);
    assert!(far.is_unlocked());
}

#[test]
fn the_steps_are_taken_one_by_one_where_the_store_does_not_answer_for_all() {
    let moved = |cluster: &Cluster| cluster.move_lease(1, Some(3));
    let lost = |cluster: &Cluster| {
        cluster.move_lease(1, Some(3));
        cluster.state.lock().down.insert(types::StoreId(1));
    };
    let split = |cluster: &Cluster| cluster.split("g", 2);
    let split_and_moved = |cluster: &Cluster| {
        cluster.split("g", 2);
        cluster.move_lease(2, Some(3));
    };
    let changes: [&dyn Fn(&Cluster); 4] = [&moved, &lost, &split, &split_and_moved];
    for change in changes {
        let far = Far::at(Cluster::new(3), 2);
        let committed = far.put("old");
        change(&far.cluster);
        let mut txn = far.coordinator().begin(Isolation::ReadCommitted, false);
        let at = far.begin(&mut txn, Some(LockMode::Update)).expect("free");
        assert!(at >= committed);
        let row = far.wait(txn.lock_and_get(b"row", LockMode::Update, FOREVER));
        assert_eq!(row, Ok(LockedRow::Unchanged(Some("old".into()))));
        assert_eq!(far.cluster.locked(), 2);
        txn.put("row", "new").expect("writable");
        far.wait(txn.commit()).expect("committed");
        assert!(far.is_unlocked());
    }
}

#[test]
fn a_lease_that_moves_after_the_locks_were_granted_ends_the_transaction() {
    let far = Far::at(Cluster::new(3), 2);
    let mut txn = far.coordinator().begin(Isolation::ReadCommitted, false);
    far.begin(&mut txn, Some(LockMode::Update)).expect("free");
    far.cluster.move_lease(1, Some(3));
    txn.put("row", "new").expect("writable");
    let error = far.wait(txn.commit()).expect_err("the locks are gone");
    assert_eq!(error.state, SqlState::SERIALIZATION_FAILURE);
}

#[test]
fn nothing_is_spared_where_this_store_or_several_others_answer() {
    let here = Far::at(Cluster::new(3), 1);
    assert!(here.ask(T1, None, FOREVER).is_none());
    let cluster = Cluster::new(3);
    cluster.split("g", 2);
    cluster.move_lease(2, Some(3));
    let far = Far::at(cluster, 2);
    assert!(far.ask(T1, None, FOREVER).is_none());
    let mut txn = far.coordinator().begin(Isolation::ReadCommitted, true);
    far.begin(&mut txn, None).expect("step by step");
    assert_eq!(far.wait(txn.get(b"row")), Ok(None));
}
