//! A gateway among stores whose leases move, whose shards split and which fall silent.

use super::fakes::Cluster;
use super::search::PATIENCE;
use crate::gateway::Gateway;
use std::sync::Arc;
use txn::kv::{
    Changes, CommitRequest, Committed, Key, LockMode, ReadScope, ScanRequest, Shards, Span, TxnId,
    WaitPolicy,
};
use types::{MaybeReady, Result, SqlState, StoreId, Timestamp};

const T1: TxnId = TxnId(1);
const T2: TxnId = TxnId(2);
const FOREVER: WaitPolicy = WaitPolicy::Wait {
    deadline_nanos: None,
};

fn key(text: &str) -> Key {
    Key::copy_from_slice(text.as_bytes())
}

fn span(start: &str, end: &str) -> Span {
    Span {
        start: key(start),
        end: key(end),
    }
}

fn write(txn: TxnId, keys: &[&str]) -> CommitRequest {
    CommitRequest {
        txn,
        read_at: Timestamp::ZERO,
        read_spans: Vec::new(),
        writes: keys.iter().map(|k| (key(k), Some(key("new")))).collect(),
    }
}

/// One gateway and what it is asked, to the end.
struct Client {
    cluster: Arc<Cluster>,
    gateway: Gateway,
}

impl Client {
    fn at(cluster: &Arc<Cluster>, store: u64) -> Client {
        let client = Client {
            cluster: Arc::clone(cluster),
            gateway: cluster.gateway(store),
        };
        // It knows the lease holders from now on.
        client.snapshot();
        cluster.asked();
        client
    }

    fn wait<T>(&self, answer: MaybeReady<T>) -> T
    where
        T: Unpin,
    {
        self.cluster.world.run(answer)
    }

    fn snapshot(&self) -> Timestamp {
        self.wait(self.gateway.read_timestamp(ReadScope::All))
            .expect("all shards answer")
    }

    fn get(&self, k: &str) -> Option<Key> {
        let at = self.snapshot();
        let found = self.wait(self.gateway.get(k.as_bytes(), at));
        found.expect("readable").map(|(value, _)| value)
    }

    fn try_get(&self, k: &str) -> Result<()> {
        let found = self.wait(self.gateway.get(k.as_bytes(), Timestamp::MAX));
        found.map(|_| ())
    }

    fn lock(&self, txn: TxnId, k: &str, mode: LockMode) -> Result<bool> {
        self.wait(
            self.gateway
                .lock(txn, k.as_bytes(), mode, WaitPolicy::NoWait),
        )
    }

    fn commit(&self, request: CommitRequest) -> Result<Committed> {
        self.wait(self.gateway.commit(request))
    }

    fn put(&self, txn: TxnId, k: &str) {
        self.lock(txn, k, LockMode::Update).expect("free");
        self.commit(write(txn, &[k])).expect("committed");
    }
}

/// Three stores; shards [, g) on store 1, [g, p) on store 2, [p, ) on store 3.
fn three_shards() -> Arc<Cluster> {
    let cluster = Cluster::new(3);
    cluster.split("g", 2);
    cluster.split("p", 3);
    cluster.move_lease(2, Some(2));
    cluster.move_lease(3, Some(3));
    cluster
}

#[test]
fn what_is_here_is_answered_at_once() {
    let cluster = Cluster::new(3);
    let client = Client::at(&cluster, 1);
    client.put(T1, "a");
    cluster.asked();
    let at = client
        .gateway
        .read_timestamp(ReadScope::Spans(&[span("a", "b")]));
    let MaybeReady::Ready(Some(Ok(at))) = at else {
        panic!("the timestamp is pending");
    };
    let found = client.gateway.get(b"a", at);
    assert!(matches!(found, MaybeReady::Ready(Some(Ok(Some(_))))));
    let locked = client.gateway.lock(T2, b"a", LockMode::Share, FOREVER);
    assert!(matches!(locked, MaybeReady::Ready(Some(Ok(true)))));
    let page = client.gateway.scan(page(span("", "z"), at, false, 10));
    assert!(matches!(page, MaybeReady::Ready(Some(Ok(page))) if page.rows.len() == 1));
    assert!(cluster.asked().iter().all(|(store, _)| *store == 1));
}

#[test]
fn a_lease_that_moved_is_found_by_its_hint_and_remembered() {
    let cluster = Cluster::new(3);
    let client = Client::at(&cluster, 1);
    client.put(T1, "a");
    cluster.move_lease(1, Some(3));
    cluster.asked();
    client.try_get("a").expect("found");
    client.try_get("a").expect("found again");
    assert_eq!(cluster.asked(), [(1, "get"), (3, "get"), (3, "get")]);
    assert_eq!(client.get("a"), Some(key("new")));
}

#[test]
fn without_hints_everybody_is_asked() {
    let cluster = Cluster::new(3);
    cluster.state.lock().hints = false;
    let client = Client::at(&cluster, 2);
    cluster.move_lease(1, Some(3));
    client.try_get("a").expect("found");
    assert_eq!(cluster.asked(), [(1, "get"), (2, "get"), (3, "get")]);
}

#[test]
fn a_shard_without_lease_holder_answers_with_an_error_after_some_seconds() {
    let cluster = Cluster::new(3);
    let client = Client::at(&cluster, 2);
    cluster.move_lease(1, None);
    let began = cluster.world.now();
    let error = client.try_get("a").expect_err("nobody holds the lease");
    assert_eq!(error.state, SqlState::CANNOT_CONNECT_NOW);
    assert_eq!(error.message, "shard 1 has no lease holder");
    let hint = error.fields.hint.as_deref();
    assert!(hint.is_some_and(|hint| !hint.contains("cannot be reached")));
    let waited = cluster.world.now() - began;
    assert!(waited >= PATIENCE && waited < PATIENCE * 2, "{waited:?}");
    // Locks, timestamps and commits do not hang either.
    for error in [
        client.lock(T1, "a", LockMode::Update).expect_err("no lock"),
        client.commit(write(T2, &["a"])).expect_err("no commit"),
        client
            .wait(client.gateway.read_timestamp(ReadScope::All))
            .expect_err("no timestamp"),
    ] {
        assert_eq!(error.state, SqlState::CANNOT_CONNECT_NOW);
    }
    // Somebody is elected while a client waits.
    cluster.move_lease(1, Some(3));
    client.try_get("a").expect("found");
}

#[test]
fn an_old_map_learns_of_a_split_from_the_refusal() {
    let cluster = Cluster::new(3);
    let client = Client::at(&cluster, 1);
    client.put(T1, "x");
    cluster.split("m", 2);
    cluster.move_lease(2, Some(2));
    cluster.asked();
    let found = client.wait(client.gateway.get(b"x", Timestamp::MAX));
    assert!(found.expect("readable").is_some());
    assert_eq!(client.gateway.router().map().shards().len(), 2);
    // The old holder is where the keys were.
    assert_eq!(cluster.asked(), [(1, "get"), (1, "get"), (2, "get")]);
}

#[test]
fn a_store_out_of_reach_is_passed_over() {
    let cluster = Cluster::new(3);
    let client = Client::at(&cluster, 2);
    client.put(T1, "a");
    cluster.state.lock().down.insert(StoreId(1));
    cluster.move_lease(1, Some(3));
    assert_eq!(client.get("a"), Some(key("new")));
    assert!(client.lock(T2, "a", LockMode::Update).expect("granted"));
}

#[test]
fn a_commit_whose_answer_is_lost_has_an_unknown_outcome_and_is_sent_once() {
    let cluster = three_shards();
    let client = Client::at(&cluster, 1);
    client.lock(T1, "a", LockMode::KeyShare).expect("the table");
    client.lock(T1, "x", LockMode::Update).expect("the row");
    cluster.state.lock().mute.insert(StoreId(3));
    cluster.asked();
    let error = client.commit(write(T1, &["x"])).expect_err("unknown");
    assert_eq!(error.state, SqlState::STATEMENT_COMPLETION_UNKNOWN);
    let asked = cluster.asked();
    let commits = asked.iter().filter(|(_, what)| *what == "commit");
    assert_eq!(commits.count(), 1);
    // The other shard's lock is free; what the silent store does with its own is its business.
    assert!(asked.contains(&(1, "unlock_all")) && !asked.contains(&(3, "unlock_all")));
    assert!(client.gateway.shared.touched.is_empty());
}

#[test]
fn a_commit_without_locks_looks_for_the_lease_holder() {
    let cluster = Cluster::new(3);
    let client = Client::at(&cluster, 1);
    cluster.split("m", 2);
    cluster.move_lease(2, Some(3));
    client.commit(write(T1, &["x"])).expect("committed");
    assert_eq!(client.get("x"), Some(key("new")));
}

#[test]
fn locks_under_two_leases_are_worth_nothing() {
    let cluster = Cluster::new(3);
    let client = Client::at(&cluster, 1);
    client.lock(T1, "a", LockMode::Update).expect("granted");
    cluster.move_lease(1, Some(2));
    let error = client.lock(T1, "b", LockMode::Update).expect_err("moved");
    assert_eq!(error.state, SqlState::SERIALIZATION_FAILURE);
    client.gateway.unlock_all(T1);
    assert_eq!(cluster.locked(), 0);

    // The lease may move after the last lock, too, and even come back.
    for again in [Some(3), Some(3)] {
        client.lock(T2, "a", LockMode::Update).expect("granted");
        cluster.move_lease(1, again);
        let error = client.commit(write(T2, &["a"])).expect_err("moved");
        assert_eq!(error.state, SqlState::SERIALIZATION_FAILURE);
        assert!(client.gateway.shared.touched.is_empty());
        client.try_get("a").expect("the lease holder is found");
    }
    assert_eq!(client.get("a"), None);
}

#[test]
fn locks_go_along_with_a_split_under_the_same_lease_only() {
    let cluster = Cluster::new(3);
    let client = Client::at(&cluster, 1);
    client.lock(T1, "x", LockMode::Update).expect("granted");
    cluster.split("m", 2);
    // The gateway does not know, and neither does the store that it asks.
    let error = client.commit(write(T1, &["x"])).expect_err("moved");
    assert_eq!(error.state, SqlState::SERIALIZATION_FAILURE);
    assert_eq!(client.get("x"), None);

    client.lock(T2, "x", LockMode::Update).expect("granted");
    cluster.split("t", 3);
    client.try_get("x").expect("learned");
    client
        .commit(write(T2, &["x"]))
        .expect("it is the same lease");
    assert!(client.get("x").is_some());

    client.lock(T1, "x", LockMode::Update).expect("granted");
    cluster.split("v", 4);
    cluster.move_lease(4, Some(2));
    client.try_get("x").expect("learned");
    let error = client.commit(write(T1, &["x"])).expect_err("moved");
    assert_eq!(error.state, SqlState::SERIALIZATION_FAILURE);
    assert_eq!(cluster.locked(), 0);
}

#[test]
fn the_lock_of_a_table_in_another_shard_must_stand_at_the_commit() {
    let cluster = three_shards();
    let client = Client::at(&cluster, 2);
    for (moved, committed) in [(false, true), (true, false)] {
        client.lock(T1, "a", LockMode::KeyShare).expect("the table");
        client.lock(T1, "h", LockMode::Update).expect("the row");
        if moved {
            cluster.move_lease(1, Some(3));
        }
        cluster.asked();
        let outcome = client.commit(write(T1, &["h"]));
        let asked = cluster.asked();
        assert!(asked.contains(&(1, "still_locked")));
        assert_eq!(outcome.is_ok(), committed, "{outcome:?}");
        assert_eq!(asked.contains(&(2, "commit")), committed);
        assert_eq!(cluster.locked(), 0);
    }
}

#[test]
fn the_end_of_a_transaction_is_told_where_it_has_locks() {
    let cluster = three_shards();
    let client = Client::at(&cluster, 1);
    client.lock(T1, "a", LockMode::Update).expect("granted");
    client.lock(T1, "x", LockMode::Update).expect("granted");
    client.lock(T1, "y", LockMode::Update).expect("granted");
    cluster.asked();
    client.gateway.unlock(T1, &[key("y")]);
    assert_eq!(cluster.asked(), [(3, "unlock")]);
    assert!(client.lock(T2, "y", LockMode::Update).expect("free again"));
    assert!(client.lock(T2, "x", LockMode::Update).is_err());
    cluster.asked();
    client.gateway.unlock_all(T1);
    assert_eq!(cluster.asked(), [(1, "unlock_all"), (3, "unlock_all")]);
    client.gateway.unlock_all(T1);
    assert_eq!(cluster.asked(), []);
}

#[test]
fn a_commit_goes_on_when_nobody_waits_for_it() {
    let cluster = three_shards();
    let client = Client::at(&cluster, 1);
    client.lock(T1, "a", LockMode::KeyShare).expect("the table");
    client.lock(T1, "x", LockMode::Update).expect("the row");
    drop(client.gateway.commit(write(T1, &["x"])));
    assert_eq!(cluster.locked(), 2);
    cluster.world.settle();
    assert_eq!(cluster.locked(), 0);
    assert_eq!(client.get("x"), Some(key("new")));
}

#[test]
fn writes_in_two_shards_are_refused_and_the_locks_are_free() {
    let cluster = three_shards();
    let client = Client::at(&cluster, 1);
    client.lock(T1, "a", LockMode::Update).expect("granted");
    client.lock(T1, "x", LockMode::Update).expect("granted");
    let error = client
        .commit(write(T1, &["a", "x"]))
        .expect_err("two shards");
    assert_eq!(error.state, SqlState::FEATURE_NOT_SUPPORTED);
    assert!(error.fields.hint.is_some());
    assert_eq!(cluster.locked(), 0);

    // What was read elsewhere cannot be validated.
    let request = CommitRequest {
        read_spans: vec![span("b", "c")],
        ..write(T1, &["x"])
    };
    let error = client.commit(request).expect_err("two shards");
    assert_eq!(error.state, SqlState::FEATURE_NOT_SUPPORTED);
}

#[test]
fn a_lock_that_nobody_waits_for_any_more_leaves_the_queue() {
    let cluster = three_shards();
    let client = Client::at(&cluster, 1);
    for k in ["a", "x"] {
        client.lock(T1, k, LockMode::Update).expect("granted");
        let mut waiting = client
            .gateway
            .lock(T2, k.as_bytes(), LockMode::Update, FOREVER);
        assert!(futures::executor::block_on(async { futures::poll!(&mut waiting) }).is_pending());
        assert_eq!(cluster.state.lock().waiting, 1);
        drop(waiting);
        assert_eq!(cluster.state.lock().waiting, 0);

        let waiting = client
            .gateway
            .lock(T2, k.as_bytes(), LockMode::Update, FOREVER);
        client.gateway.unlock_all(T1);
        assert!(client.wait(waiting).expect("granted"));
        client.gateway.unlock_all(T2);
    }
}

#[test]
fn a_lock_granted_after_the_end_is_released() {
    let cluster = three_shards();
    let client = Client::at(&cluster, 1);
    let late = client.gateway.lock(T1, b"x", LockMode::Update, FOREVER);
    client.gateway.unlock_all(T1);
    let error = client.wait(late).expect_err("the transaction has ended");
    assert_eq!(error.state, SqlState::QUERY_CANCELED);
    assert_eq!(cluster.locked(), 0);
}

#[test]
fn new_rows_are_locked_by_the_batch_within_one_shard() {
    for store in [1, 3] {
        let cluster = three_shards();
        let client = Client::at(&cluster, store);
        let fresh = |txn, keys: &[&str]| {
            let keys: Arc<[Key]> = keys.iter().map(|k| key(k)).collect();
            client.wait(client.gateway.lock_fresh(txn, &keys))
        };
        assert_eq!(fresh(T1, &["q", "r"]), Ok(true));
        assert_eq!(fresh(T1, &["h", "q"]), Ok(false));
        client.commit(write(T1, &["q", "r"])).expect("committed");
        // They are not new, and locked before that is known.
        assert_eq!(fresh(T2, &["q", "s"]), Ok(false));
        assert_eq!(cluster.locked(), 2);
        client.gateway.unlock_all(T2);
        assert_eq!(cluster.locked(), 0);
    }
}

fn page(span: Span, at: Timestamp, reverse: bool, limit: usize) -> ScanRequest {
    ScanRequest {
        span,
        at,
        reverse,
        limit,
        limit_bytes: usize::MAX,
    }
}

#[test]
fn scans_cross_shards_in_both_directions() {
    let cluster = three_shards();
    let client = Client::at(&cluster, 2);
    for (n, k) in ["b", "c", "h", "q", "r", "s"].into_iter().enumerate() {
        client.put(TxnId(n as u128), k);
    }
    let at = client.snapshot();
    let scan = |whole: Span, reverse: bool, limit: usize| {
        let mut rest = whole;
        let mut pages: Vec<String> = Vec::new();
        loop {
            let request = page(rest.clone(), at, reverse, limit);
            let page = client.wait(client.gateway.scan(request)).expect("readable");
            let keys = page.rows.iter().map(|(k, _, _)| k[0] as char);
            pages.push(keys.collect());
            match page.resume {
                Some(resume) if reverse => rest.end = resume,
                Some(resume) => rest.start = resume,
                None => return pages,
            }
        }
    };
    assert_eq!(scan(span("", "z"), false, 10), ["bc", "h", "qrs"]);
    assert_eq!(scan(span("", "z"), true, 10), ["srq", "h", "cb"]);
    assert_eq!(scan(span("", "z"), false, 2), ["bc", "h", "qr", "s"]);
    assert_eq!(scan(span("c", "r"), true, 1), ["q", "h", "c"]);
    // Shards without rows are passed over.
    assert_eq!(scan(span("d", "q"), false, 9), ["h", ""]);
    assert_eq!(scan(span("i", "q"), false, 9), [""]);
    assert_eq!(scan(span("i", "z"), false, 9), ["qrs"]);
    assert_eq!(scan(span("d", "h"), true, 9), [""]);
    assert_eq!(scan(span("x", "b"), false, 9), [""]);
}

#[test]
fn only_what_is_here_is_visited_and_its_changes_known() {
    let cluster = three_shards();
    let client = Client::at(&cluster, 2);
    client.put(T1, "h");
    let at = client.snapshot();
    let visit = |span: Span| {
        let mut seen = 0;
        let mut show = |_: &[u8], _: &[u8]| {
            seen += 1;
            Ok(())
        };
        let resume = client.gateway.visit(&page(span, at, false, 9), &mut show);
        (resume, seen)
    };
    assert_eq!(visit(span("g", "z")), (Some(Ok(Some(key("p")))), 1));
    assert_eq!(visit(span("g", "p")), (Some(Ok(None)), 1));
    assert_eq!(visit(span("a", "z")), (None, 0));
    assert_eq!(visit(span("z", "a")), (Some(Ok(None)), 0));
    let changes = |span| {
        client
            .gateway
            .changes(&span, Timestamp::ZERO, Timestamp::MAX)
    };
    assert!(matches!(changes(span("g", "p")), Changes::Keys(keys) if keys.len() == 1));
    assert_eq!(changes(span("g", "q")), Changes::Unknown);
    // Believed to be here, and is not any more.
    cluster.move_lease(2, Some(3));
    assert_eq!(visit(span("g", "p")), (None, 0));
    assert_eq!(changes(span("g", "p")), Changes::Unknown);
}

#[test]
fn a_snapshot_holds_what_was_acknowledged_in_its_scope() {
    let cluster = three_shards();
    let writer = Client::at(&cluster, 1);
    let reader = Client::at(&cluster, 2);
    writer.put(T1, "h");
    writer.put(T2, "x");
    reader.snapshot();
    let scope = [span("h", "i"), span("x", "y"), span("h", "j")];
    cluster.asked();
    let at = reader.gateway.read_timestamp(ReadScope::Spans(&scope));
    let at = reader.wait(at).expect("all answer");
    // Each store once, and the catalog's always.
    let mut asked = cluster.asked();
    asked.sort_unstable();
    let expected = [1, 2, 3].map(|store| (store, "read_timestamp"));
    assert_eq!(asked, expected);
    for k in ["h", "x"] {
        let found = reader.wait(reader.gateway.get(k.as_bytes(), at));
        assert!(found.expect("readable").is_some(), "{k}");
    }
    reader
        .wait(reader.gateway.read_timestamp(ReadScope::Spans(&[])))
        .expect("the catalog's shard answers");
    assert_eq!(cluster.asked().last(), Some(&(1, "read_timestamp")));
}

#[test]
fn a_snapshot_by_an_old_map_holds_what_was_written_after_a_split() {
    let cluster = Cluster::new(3);
    let reader = Client::at(&cluster, 2);
    cluster.split("m", 2);
    cluster.move_lease(2, Some(3));
    let writer = Client::at(&cluster, 3);
    for n in 0..10_000 {
        writer.commit(write(TxnId(n), &["x"])).expect("committed");
    }
    let at = reader
        .gateway
        .read_timestamp(ReadScope::Spans(&[span("a", "z")]));
    let at = reader.wait(at).expect("both answer");
    let newest = writer.wait(writer.gateway.newest_version(b"x"));
    assert!(Some(at) >= newest.expect("readable"));
}

#[test]
fn a_release_that_was_lost_is_made_up_for_by_roll_calls() {
    let cluster = three_shards();
    let client = Client {
        cluster: Arc::clone(&cluster),
        gateway: cluster.gateway_over_wire(1),
    };
    client.lock(T1, "x", LockMode::Update).expect("granted");
    client.lock(T2, "y", LockMode::Update).expect("granted");
    cluster.state.lock().deaf.insert(StoreId(3));
    client.gateway.unlock_all(T1);
    cluster.state.lock().deaf.clear();
    assert_eq!(cluster.locked(), 2);
    // The first one makes the store look twice.
    for left in [2, 1, 1, 1] {
        cluster.world.run(client.gateway.shared.call_roll());
        assert_eq!(cluster.locked(), left);
    }
    client.gateway.unlock_all(T2);
    assert_eq!(cluster.locked(), 0);

    // A release lost just before the last roll call is no exception.
    client.lock(T1, "x", LockMode::Update).expect("granted");
    cluster.state.lock().deaf.insert(StoreId(3));
    client.gateway.unlock_all(T1);
    for left in [1, 0] {
        cluster.world.run(client.gateway.shared.call_roll());
        assert_eq!(cluster.locked(), left);
    }
    assert!(client.gateway.shared.debts.is_paid());
}

#[test]
fn roll_calls_end_with_the_gateway() {
    let cluster = Cluster::new(1);
    let gateway = cluster.gateway(1);
    let shared = Arc::downgrade(&gateway.shared);
    drop(gateway);
    cluster.world.run(super::roll_call::run(shared));
}

#[test]
fn a_node_that_joined_when_there_was_one_replica_survives_its_loss() {
    let cluster = Cluster::new(3);
    let replicas = {
        let shard = &mut cluster.state.lock().shards[0];
        let all = shard.replicas.clone();
        shard.replicas.truncate(1);
        all
    };
    let client = Client::at(&cluster, 3);
    {
        // Its own store has a replica since, and the lease: nobody has told the gateway.
        let mut state = cluster.state.lock();
        state.shards[0].replicas = replicas;
        state.shards[0].generation += 1;
        state.down.insert(StoreId(1));
    }
    cluster.move_lease(1, Some(3));
    let before = cluster.world.now();
    client.snapshot();
    let took = cluster.world.now() - before;
    assert!(took < PATIENCE / 10, "{took:?}");
}
