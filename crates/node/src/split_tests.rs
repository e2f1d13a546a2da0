//! Shards that are split, in real time: by one store, and by three over a network in memory.
#![expect(
    clippy::disallowed_methods,
    reason = "tests with real threads; those in virtual time are in `sim`"
)]

use crate::cluster_tests::{Cluster, FOREVER, get, options, set, set_at_last};
use crate::shard_server::{Failure, Refusal};
use crate::store::{Options, Store};
use crate::testing::{open_alone, real_env};
use bytes::Bytes;
use sharding::table_rule::rule_key;
use sharding::{ShardId, TableRule};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use storage::SimDisk;
use txn::kv::{Isolation, LockMode, ReadScope, Span, WaitPolicy};
use txn::{Coordinator, Limits};
use types::key::{FIRST_SEPARATE_TABLE_ID, table_prefix};
use types::{Result, SqlState, StoreId};

const DEADLINE: Duration = Duration::from_secs(30);

fn open(disk: &SimDisk) -> (Arc<Store>, Coordinator) {
    let store =
        open_alone(Arc::new(disk.clone()), real_env(), Options::default()).expect("it opens");
    let coordinator = store.coordinator(Limits::default());
    (store, coordinator)
}

async fn split(store: &Store, at: &str) -> ShardId {
    let split = store.split_at(Bytes::copy_from_slice(at.as_bytes()), "a test");
    let split = split.await.expect("a split");
    assert!(split.is_new, "{at} was a border already");
    split.shard
}

/// All rows from "a" on, read in pages of some rows.
async fn all(c: &Coordinator, reverse: bool) -> Result<Vec<String>> {
    let mut txn = c.begin(Isolation::RepeatableRead, true);
    txn.begin_statement(ReadScope::All).await?;
    let mut span = Span {
        start: Bytes::from_static(b"a"),
        end: Bytes::from_static(b"zz"),
    };
    let mut found = Vec::new();
    loop {
        let page = txn.scan(span.clone(), reverse, 7, 1 << 20).await?;
        let rows = page.rows.iter();
        found.extend(rows.map(|(key, value, _)| {
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            format!("{}={}", text(key), text(value))
        }));
        match page.resume {
            Some(resume) if reverse => span.end = resume,
            Some(resume) => span.start = resume,
            None => return Ok(found),
        }
    }
}

async fn shards(store: &Store) -> Vec<u64> {
    let replicas = store.report().await.replicas;
    replicas.iter().map(|r| r.descriptor.id.0).collect()
}

/// Adds one to a counter under its lock.
async fn count(c: &Coordinator, key: &str) -> Result<()> {
    let mut txn = c.begin(Isolation::ReadCommitted, false);
    txn.begin_statement(ReadScope::All).await?;
    txn.lock(key.as_bytes(), LockMode::Update, FOREVER).await?;
    txn.restart_statement().await?;
    let before = txn.get(key.as_bytes()).await?;
    let before: u64 = before.map_or(0, |value| {
        String::from_utf8_lossy(&value).parse().expect("a number")
    });
    txn.put(key.as_bytes().to_vec(), (before + 1).to_string())?;
    txn.commit().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_one_shard_is_two_and_is_so_after_a_restart() {
    let disk = SimDisk::new();
    let (store, c) = open(&disk);
    let letters: Vec<String> = ('a'..='z').map(String::from).collect();
    for letter in &letters {
        set(&c, letter, "1".to_owned()).await.expect("a write");
    }
    let right = split(&store, "m").await;
    assert_eq!(shards(&store).await, [1, right.0]);
    for letter in ["a", "l", "m", "z"] {
        assert_eq!(get(&c, letter).await, Ok(Some("1".to_owned())), "{letter}");
        set(&c, letter, "2".to_owned()).await.expect("a write");
        assert_eq!(get(&c, letter).await, Ok(Some("2".to_owned())), "{letter}");
    }
    // There is a border now.
    let again = store
        .split_at(Bytes::from_static(b"m"), "a test")
        .await
        .expect("an answer");
    assert_eq!((again.shard, again.is_new), (right, false));
    let system = store
        .split_at(Bytes::from_static(&[0, 0, 0, 7]), "a test")
        .await;
    let state = system.expect_err("it is one shard").state;
    assert_eq!(state, SqlState::INVALID_PARAMETER_VALUE);

    let mut both = c.begin(Isolation::ReadCommitted, false);
    both.begin_statement(ReadScope::All)
        .await
        .expect("a statement");
    both.put("a", "3").expect("room");
    both.put("z", "3").expect("room");
    let error = both.commit().await.expect_err("two shards");
    assert_eq!(error.state, SqlState::FEATURE_NOT_SUPPORTED);
    assert!(error.fields.hint.is_some());

    // Who believes the first shard to be whole yet is told of both parts.
    let z = Bytes::from_static(b"z");
    let stale = store.manager().split_here(ShardId(1), z, ShardId(99)).await;
    let Err(Failure::Refused(Refusal::Mismatch { newer })) = stale else {
        panic!("split again: {stale:?}");
    };
    let told: Vec<ShardId> = newer.iter().map(|shard| shard.id).collect();
    assert_eq!(told, [ShardId(1), right]);

    split(&store, "f").await;
    split(&store, "t").await;
    let forward = all(&c, false).await.expect("a scan");
    let mut backward = all(&c, true).await.expect("a scan");
    backward.reverse();
    assert_eq!(forward.len(), letters.len());
    assert_eq!(forward, backward);

    let before = shards(&store).await;
    store.shutdown().await;
    drop((store, c));
    let (store, c) = open(&disk);
    assert_eq!(shards(&store).await, before);
    assert_eq!(all(&c, false).await, Ok(forward));
    set(&c, "z", "4".to_owned()).await.expect("a write");
    assert!(split(&store, "x").await > right, "a name is given once");
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_go_along_and_whoever_waits_for_one_gets_it() {
    let disk = SimDisk::new();
    let (store, c) = open(&disk);
    set(&c, "x", "0".to_owned()).await.expect("a write");
    let mut holder = c.begin(Isolation::ReadCommitted, false);
    holder
        .begin_statement(ReadScope::All)
        .await
        .expect("a statement");
    holder
        .lock(b"x", LockMode::Update, FOREVER)
        .await
        .expect("the lock");
    holder
        .lock(b"c", LockMode::Update, FOREVER)
        .await
        .expect("another, to the left");
    holder.put("x", "1").expect("room");

    let waiter = tokio::spawn({
        let c = c.clone();
        async move { count(&c, "x").await }
    });
    let began = Instant::now();
    while store.lock_counts().1 == 0 {
        assert!(began.elapsed() < DEADLINE, "nobody waits");
        tokio::task::yield_now().await;
    }
    split(&store, "m").await;
    // Who asks only now finds it locked all the same.
    let mut other = c.begin(Isolation::ReadCommitted, false);
    other
        .begin_statement(ReadScope::All)
        .await
        .expect("a statement");
    let refused = other.lock(b"x", LockMode::Update, WaitPolicy::NoWait).await;
    assert_eq!(
        refused.expect_err("it is locked").state,
        SqlState::LOCK_NOT_AVAILABLE
    );
    other.rollback();

    holder
        .commit()
        .await
        .expect("its locks are where they were");
    waiter.await.expect("no panic").expect("it was its turn");
    assert_eq!(get(&c, "x").await, Ok(Some("2".to_owned())));
    assert_eq!(store.lock_counts(), (0, 0));
}

/// Counters over the whole span, raised by clients of all these gateways until told to stop. They try again what they
/// are told to try again.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<Done>>,
}

#[derive(Debug, Default)]
struct Done {
    counted: BTreeMap<String, u64>,
    /// Transactions that had to be tried again.
    told: u64,
    longest: Duration,
}

impl Load {
    fn start(coordinators: &[Coordinator]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..8).map(|client| {
            let c = coordinators[client % coordinators.len()].clone();
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut done = Done::default();
                let mut number = client as u64;
                while !stop.load(Ordering::SeqCst) {
                    number = number
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    let key = char::from(b'a' + (number >> 33) as u8 % 26).to_string();
                    let began = Instant::now();
                    while let Err(error) = count(&c, &key).await {
                        assert!(error.is_retryable(), "{key}: {error:?}");
                        done.told += 1;
                    }
                    done.longest = done.longest.max(began.elapsed());
                    *done.counted.entry(key).or_default() += 1;
                    if client == 0 {
                        all(&c, number.is_multiple_of(2)).await.expect("a scan");
                    }
                }
                done
            })
        });
        Load {
            clients: clients.collect(),
            stop,
        }
    }

    /// What all of them have done together.
    async fn end(self) -> Done {
        self.stop.store(true, Ordering::SeqCst);
        let mut sum = Done::default();
        for client in self.clients {
            let done = client.await.expect("no other error");
            sum.longest = sum.longest.max(done.longest);
            sum.told += done.told;
            for (key, number) in done.counted {
                *sum.counted.entry(key).or_default() += number;
            }
        }
        println!("longest wait {:?}, told {}", sum.longest, sum.told);
        sum
    }
}

async fn assert_counted(c: &Coordinator, sums: &BTreeMap<String, u64>) {
    let expected: Vec<String> = sums
        .iter()
        .map(|(key, sum)| format!("{key}={sum}"))
        .collect();
    assert_eq!(all(c, false).await, Ok(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_splits_under_load_and_no_client_is_told() {
    let disk = SimDisk::new();
    let (store, c) = open(&disk);
    let load = Load::start(std::slice::from_ref(&c));
    for at in ["m", "g", "t", "c", "x", "j", "q"] {
        tokio::time::sleep(Duration::from_millis(30)).await;
        split(&store, at).await;
    }
    let done = load.end().await;
    assert_eq!(done.told, 0, "nobody is told of a split");
    assert_counted(&c, &done.counted).await;
    assert_eq!(shards(&store).await.len(), 8);
    assert_eq!(store.lock_counts(), (0, 0));
    store.shutdown().await;
    drop((store, c));
    let (_store, c) = open(&disk);
    assert_counted(&c, &done.counted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_split_under_load_and_count_right() {
    let cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    let coordinators: Vec<_> = cluster
        .nodes
        .iter()
        .map(|n| n.coordinator.clone())
        .collect();
    let load = Load::start(&coordinators);
    for (number, at) in ["m", "g", "t", "c", "x"].into_iter().enumerate() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        split(&cluster.nodes[number % 3].store, at).await;
    }
    let done = load.end().await;
    cluster.until_all_settled(6).await;
    for c in &coordinators {
        assert_counted(c, &done.counted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_during_a_split_catches_up_by_its_log() {
    away_during_a_split(options()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_during_a_split_catches_up_by_copies() {
    let mut options = options();
    options.log.log_entries = 4;
    away_during_a_split(options).await;
}

async fn away_during_a_split(options: Options) {
    let mut cluster = Cluster::start_with(3, options).await;
    cluster.until_settled().await;
    let c = cluster.nodes[0].coordinator.clone();
    for letter in 'a'..='z' {
        set_at_last(&c, &letter.to_string(), "1").await;
    }
    let disk = cluster.kill(2).await;
    split(&cluster.nodes[0].store, "m").await;
    for letter in 'a'..='z' {
        set_at_last(&c, &letter.to_string(), "2").await;
    }
    split(&cluster.nodes[1].store, "t").await;
    for letter in 'a'..='z' {
        set_at_last(&c, &letter.to_string(), "3").await;
    }
    let returned = cluster.open(StoreId(3), disk).await;
    cluster.nodes.push(returned);
    cluster.until_all_settled(3).await;
    let expected: Vec<String> = ('a'..='z').map(|letter| format!("{letter}=3")).collect();
    // Also what the returned one has itself, once the other two are gone one after the other.
    assert_eq!(
        all(&cluster.nodes[2].coordinator, false).await,
        Ok(expected.clone())
    );
    let rows = |disk: &SimDisk| -> Vec<(Bytes, Bytes)> {
        use storage::{Engine, Keyspace};
        let range = (
            std::ops::Bound::Included(Bytes::from_static(b"a")),
            std::ops::Bound::Unbounded,
        );
        let snapshot = disk.snapshot();
        let rows = snapshot.scan(Keyspace::Data, range, false);
        rows.collect::<storage::Result<_>>().expect("a sound disk")
    };
    assert_eq!(rows(&cluster.nodes[2].disk), rows(&cluster.nodes[0].disk));

    // The right shards live on without the node that led the left one.
    let disk = cluster.kill(0).await;
    for letter in ["a", "n", "z"] {
        set_at_last(&cluster.nodes[1].coordinator, letter, "4").await;
    }
    let returned = cluster.open(StoreId(1), disk).await;
    for letter in ["a", "n", "z"] {
        assert_eq!(
            get(&returned.coordinator, letter).await,
            Ok(Some("4".to_owned()))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_of_a_shard_go_their_own_ways() {
    let mut cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    let c = cluster.nodes[0].coordinator.clone();
    for letter in 'a'..='z' {
        set_at_last(&c, &letter.to_string(), "1").await;
    }
    let right = split(&cluster.nodes[0].store, "m").await;
    // A fourth node takes a share of the replicas.
    cluster.add().await;
    for at in ["d", "h", "p", "t", "w"] {
        split(&cluster.nodes[3].store, at).await;
    }
    let began = Instant::now();
    loop {
        let reports = cluster.reports().await;
        let counts: Vec<usize> = reports.iter().map(|r| r.replicas.len()).collect();
        let leads = |report: &crate::manager::Report| report.replicas.iter().any(|r| r.leads);
        if counts.iter().sum::<usize>() == 7 * 3 && counts[3] >= 4 && reports.iter().all(leads) {
            break;
        }
        assert!(began.elapsed() < 2 * DEADLINE, "not balanced: {counts:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let expected: Vec<String> = ('a'..='z').map(|letter| format!("{letter}=1")).collect();
    for node in &cluster.nodes {
        assert_eq!(all(&node.coordinator, false).await, Ok(expected.clone()));
    }
    // The map says where they are.
    let rows = cluster.nodes[3].store.map().await.expect("rows");
    assert_eq!(rows.len(), 7);
    assert!(rows.iter().any(|row| row.id == right));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_is_split_where_half_of_its_bytes_are_on_each_side() {
    let disk = SimDisk::new();
    let (store, c) = open(&disk);
    for letter in 'a'..='z' {
        let long = match letter {
            'p' => 1000,
            _ => 10,
        };
        let value = "x".repeat(long);
        set(&c, &letter.to_string(), value).await.expect("a write");
    }
    let (a, z) = (Bytes::from_static(b"a"), Bytes::from_static(b"zz"));
    let split = store.split_middle(a.clone(), z.clone(), "a test").await;
    let right = split.expect("a split").shard;
    let router = store.router();
    // The long one is most of it all, so the border is beside it.
    let border = router.route(b"q").shard.start.clone();
    assert_eq!(router.route(b"q").shard.id, right);
    assert!([&b"p"[..], b"q"].contains(&&border[..]), "{border:?}");

    // Now of what is left of it; and in the end there is nothing to split.
    store
        .split_middle(a.clone(), border, "a test")
        .await
        .expect("a split");
    let one = store
        .split_middle(a, Bytes::from_static(b"b"), "a test")
        .await;
    let state = one.expect_err("one row").state;
    assert_eq!(state, SqlState::INVALID_PARAMETER_VALUE);
    assert_eq!(shards(&store).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_has_grown_too_large_is_split_where_there_are_several_nodes() {
    let mut options = options();
    options.manager.shard_max_bytes = 20_000;
    options.manager.size_round = Duration::from_millis(50);
    let cluster = Cluster::start_with(3, options).await;
    cluster.until_settled().await;
    for letter in 'a'..='z' {
        let value = "x".repeat(2000);
        set_at_last(&cluster.nodes[0].coordinator, &letter.to_string(), &value).await;
    }
    let began = Instant::now();
    loop {
        let reports = cluster.reports().await;
        let led = reports.iter().flat_map(|r| &r.replicas).filter(|r| r.leads);
        let sizes: Vec<Option<u64>> = led.map(|r| r.bytes).collect();
        if sizes.len() > 2 && sizes.iter().all(|bytes| bytes.is_some_and(|b| b <= 20_000)) {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "{sizes:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let state = cluster.nodes[0]
        .store
        .cluster_state()
        .await
        .expect("it answers");
    let reasons = state
        .moves
        .iter()
        .filter(|m| m.what.starts_with("split off"));
    assert!(reasons.clone().count() >= 2);
    assert!(reasons.into_iter().all(|m| m.reason.contains("MiB")));
    assert_eq!(
        all(&cluster.nodes[1].coordinator, false)
            .await
            .expect("a scan")
            .len(),
        26
    );
}

/// Waits until as many shards are led from the table on, each by as many voters.
async fn until_shards_of_table(cluster: &Cluster, table: u32, shards: usize, voters: usize) {
    let began = Instant::now();
    loop {
        let reports = cluster.reports().await;
        let led = reports.iter().flat_map(|r| &r.replicas).filter(|r| r.leads);
        let (start, end) = (table_prefix(table), table_prefix(table + 1));
        let own = led.filter(|r| start[..] <= r.descriptor.start && r.descriptor.start < end[..]);
        let found: Vec<usize> = own.map(|r| r.voters.len()).collect();
        if found == vec![voters; shards] {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_get_the_shards_and_copies_that_they_ask_for() {
    let cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    let c = &cluster.nodes[1].coordinator;
    let table = FIRST_SEPARATE_TABLE_ID;
    let ask = async |factor| {
        let rule = TableRule {
            buckets: 4,
            replication_factor: factor,
            ..TableRule::default()
        };
        let mut txn = c.begin(Isolation::ReadCommitted, false);
        txn.begin_statement(ReadScope::All).await?;
        txn.put(rule_key(table), rule.encode())?;
        txn.commit().await.map(drop)
    };
    ask(None).await.expect("a rule is a row");
    until_shards_of_table(&cluster, table, 4, 3).await;
    ask(Some(1)).await.expect("a rule is a row");
    until_shards_of_table(&cluster, table, 4, 1).await;
    ask(Some(5)).await.expect("a rule is a row");
    // There are three stores.
    until_shards_of_table(&cluster, table, 4, 3).await;
    let state = cluster.nodes[2].store.cluster_state().await;
    let state = state.expect("it answers");
    let replicas = state.reports.values().flat_map(|report| &report.replicas);
    for replica in replicas {
        let shard = &replica.descriptor;
        let of_table = shard.start[..] >= table_prefix(table)[..]
            && shard.start[..] < table_prefix(table + 1)[..];
        let wanted = if of_table { 5 } else { 3 };
        assert_eq!(state.wanted_replicas(shard), wanted, "{shard:?}");
    }
}
