//! Three stores in one process, over a network in memory, in real time: what a user sees of a cluster. Faults
//! in virtual time are in `sim`.
#![expect(
    clippy::disallowed_methods,
    reason = "tests with real threads; those in virtual time are in `sim`"
)]

mod moves;
mod reading;
mod replaced;
mod unfit;

use crate::manager::{Addresses, Report, join};
use crate::store::{Options, Store};
use crate::testing::{MemoryNetwork, real_env};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::{Engine, Keyspace, SimDisk};
use txn::kv::{Isolation, LockMode, ReadScope, WaitPolicy};
use txn::{Coordinator, Limits};
use types::{Result, SqlState, StoreId};

const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const FOREVER: WaitPolicy = WaitPolicy::Wait {
    deadline_nanos: None,
};

pub(crate) struct Node {
    pub(crate) disk: SimDisk,
    pub(crate) store: Arc<Store>,
    pub(crate) coordinator: Coordinator,
    hurt: Arc<unfit::Hurt>,
}

pub(crate) struct Cluster {
    network: Arc<MemoryNetwork>,
    options: Options,
    pub(crate) nodes: Vec<Node>,
}

fn addresses(address: &str) -> Addresses {
    Addresses {
        rpc: address.to_owned(),
        ..Addresses::default()
    }
}

pub(crate) fn options() -> Options {
    let mut options = Options::default();
    options.manager.round = Duration::from_millis(100);
    options.manager.membership.join_millis = 0;
    // One process, one clock.
    options.max_clock_offset = Duration::from_millis(100);
    options
}

impl Cluster {
    /// The first founds it, the others join.
    pub(crate) async fn start(size: u64) -> Cluster {
        Self::start_with(size, options()).await
    }

    pub(crate) async fn start_with(size: u64, options: Options) -> Cluster {
        let mut cluster = Cluster {
            network: MemoryNetwork::new(),
            options,
            nodes: Vec::new(),
        };
        for _ in 0..size {
            cluster.add().await;
        }
        cluster
    }

    pub(crate) async fn add(&mut self) {
        let disk = SimDisk::new();
        let name = StoreId(self.nodes.len() as u64 + 1);
        if name != StoreId(1) {
            let transport = self.network.transport(name);
            let own = addresses(&format!("n{name}"));
            let joined = join(&*transport, &real_env(), &["n1".to_owned()], &own, &|_| {}).await;
            let identity = joined.expect("n1 lets it in");
            assert_eq!(identity.store, name);
            Store::join(&disk, identity).expect("a sound disk");
        }
        let node = self.open(name, disk).await;
        self.nodes.push(node);
    }

    pub(crate) async fn open(&self, name: StoreId, disk: SimDisk) -> Node {
        let hurt = Arc::new(unfit::Hurt::default());
        let engine = Arc::new(unfit::SlowDisk {
            disk: disk.clone(),
            hurt: Arc::clone(&hurt),
        });
        let transport = self.network.transport(name);
        let env = unfit::env(&hurt);
        let store = Store::open(engine, env, transport, self.options).expect("it opens");
        let address = format!("n{name}");
        self.network.add(name, &address, store.peer());
        store
            .find_cluster(&["n1".to_owned(), "n2".to_owned()])
            .await
            .expect("a sound disk");
        tokio::spawn(store.take_part(addresses(&address)));
        let coordinator = store.coordinator(Limits::default());
        Node {
            disk,
            store,
            coordinator,
            hurt,
        }
    }

    /// As a crash: what is not synced is lost.
    pub(crate) async fn kill(&mut self, at: usize) -> SimDisk {
        let node = self.nodes.remove(at);
        self.network.remove(node.store.identity().store);
        node.store.shutdown().await;
        node.disk
    }

    fn name(&self, at: usize) -> StoreId {
        self.nodes[at].store.identity().store
    }

    /// Which node holds the first shard's lease.
    async fn holder(&self) -> usize {
        let began = Instant::now();
        loop {
            let reports = self.reports().await;
            let holds = |report: &Report| report.replicas.iter().any(|r| r.holds_lease);
            if let Some(holder) = reports.iter().position(holds) {
                return holder;
            }
            assert!(began.elapsed() < DEADLINE, "no lease holder: {reports:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn reports(&self) -> Vec<Report> {
        let mut reports = Vec::new();
        for node in &self.nodes {
            reports.push(node.store.report().await);
        }
        reports
    }

    /// Waits until the first shard has voters on all of these nodes, all of which have applied the same.
    pub(crate) async fn until_settled(&self) {
        let began = Instant::now();
        loop {
            let reports = self.reports().await;
            let replicas: Vec<_> = reports.iter().flat_map(|r| &r.replicas).collect();
            let voters = replicas
                .iter()
                .find(|r| r.leads)
                .map_or(0, |r| r.voters.len());
            let same = replicas.iter().all(|r| r.applied == replicas[0].applied);
            if replicas.len() == self.nodes.len() && voters == self.nodes.len() && same {
                return;
            }
            assert!(began.elapsed() < DEADLINE, "not settled: {reports:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until each of so many shards has voters on all nodes, all of which have applied the same.
    pub(crate) async fn until_all_settled(&self, shards: usize) {
        let began = Instant::now();
        loop {
            let reports = self.reports().await;
            let replicas: Vec<_> = reports.iter().flat_map(|r| &r.replicas).collect();
            let leaders: Vec<_> = replicas.iter().filter(|r| r.leads).collect();
            let settled = leaders.len() == shards
                && leaders.iter().all(|leader| {
                    let same = |r: &&&crate::manager::ReplicaReport| {
                        r.descriptor == leader.descriptor && r.applied == leader.applied
                    };
                    leader.voters.len() == self.nodes.len()
                        && replicas.iter().filter(same).count() == self.nodes.len()
                });
            if settled {
                return;
            }
            assert!(began.elapsed() < DEADLINE, "not settled: {reports:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) async fn set(c: &Coordinator, key: &str, value: String) -> Result<()> {
    let mut txn = c.begin(Isolation::ReadCommitted, false);
    txn.begin_statement(ReadScope::All).await?;
    txn.lock(key.as_bytes(), LockMode::Update, FOREVER).await?;
    txn.put(key.as_bytes().to_vec(), value)?;
    txn.commit().await.map(|_| ())
}

pub(crate) async fn get(c: &Coordinator, key: &str) -> Result<Option<String>> {
    let mut txn = c.begin(Isolation::ReadCommitted, true);
    txn.begin_statement(ReadScope::All).await?;
    let value = txn.get(key.as_bytes()).await?;
    Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

/// As a client does that knows what may be tried again.
pub(crate) async fn set_at_last(c: &Coordinator, key: &str, value: &str) {
    let began = Instant::now();
    while let Err(error) = set(c, key, value.to_owned()).await {
        let states = [
            SqlState::SERIALIZATION_FAILURE,
            SqlState::STATEMENT_COMPLETION_UNKNOWN,
            SqlState::CANNOT_CONNECT_NOW,
        ];
        assert!(states.contains(&error.state), "{error}");
        assert!(began.elapsed() < DEADLINE, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_writes_all_nodes_read_and_each_may_die() {
    let mut cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    for (number, node) in cluster.nodes.iter().enumerate() {
        set(&node.coordinator, "key", number.to_string())
            .await
            .expect("a write");
        for other in &cluster.nodes {
            let found = get(&other.coordinator, "key").await.expect("a read");
            assert_eq!(found, Some(number.to_string()));
        }
    }

    // The first holds the lease: somebody else must take over.
    let disk = cluster.kill(0).await;
    let began = Instant::now();
    set_at_last(&cluster.nodes[0].coordinator, "key", "after").await;
    let gap = began.elapsed();
    assert!(gap < Duration::from_secs(10), "{gap:?}");
    let found = get(&cluster.nodes[1].coordinator, "key")
        .await
        .expect("a read");
    assert_eq!(found.as_deref(), Some("after"));

    // It returns and catches up.
    let returned = cluster.open(StoreId(1), disk).await;
    let found = get(&returned.coordinator, "key").await.expect("a read");
    assert_eq!(found.as_deref(), Some("after"));
    cluster.nodes.push(returned);
    cluster.until_settled().await;
}

impl Cluster {
    /// A byte of the row flips on this node's disk.
    fn damage(&self, at: usize, key: &str) {
        let key = bytes::Bytes::copy_from_slice(key.as_bytes());
        let bad = Some((Keyspace::Data, key));
        self.nodes[at].disk.set_faults(|faults| faults.bad = bad);
    }

    /// Waits until the node has another replica than before, and all have the same rows.
    async fn until_repaired(&self, at: usize, before: u64) {
        let began = Instant::now();
        loop {
            let reports = self.reports().await;
            let own = reports[at].replicas.iter();
            let own: Vec<_> = own.filter(|r| !r.damaged && r.replica > before).collect();
            let voters = reports.iter().flat_map(|report| &report.replicas);
            let voters = voters.filter(|r| r.leads).map(|r| r.voters.len()).max();
            if own.len() == 1 && voters == Some(3) {
                break;
            }
            assert!(began.elapsed() < DEADLINE, "not repaired: {reports:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.until_settled().await;
        let rows = |node: &Node| {
            let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
            let snapshot = node.disk.snapshot();
            let rows = snapshot.scan(Keyspace::Data, all, false);
            rows.collect::<Result<Vec<_>, _>>().expect("sound rows")
        };
        // Moves are written down once they have ended.
        let began = Instant::now();
        while self
            .nodes
            .iter()
            .any(|node| rows(node) != rows(&self.nodes[0]))
        {
            assert!(began.elapsed() < DEADLINE, "the copies differ");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn replica_on(&self, at: usize) -> u64 {
        self.nodes[at].store.report().await.replicas[0].replica
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_lease_holder_serves_nothing_wrong_and_is_repaired() {
    let cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    for number in 0..20 {
        let key = format!("key {number}");
        set(&cluster.nodes[0].coordinator, &key, number.to_string())
            .await
            .expect("a write");
    }
    let before = cluster.replica_on(0).await;
    cluster.damage(0, "key 7");
    // It holds the lease: the read moves on to another.
    for node in &cluster.nodes {
        let found = get(&node.coordinator, "key 7").await.expect("a read");
        assert_eq!(found.as_deref(), Some("7"));
    }
    cluster.until_repaired(0, before).await;
    assert!(cluster.nodes[0].store.failed().borrow().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_meets_damage_at_a_follower_is_committed_and_the_follower_repaired() {
    let cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    set(&cluster.nodes[0].coordinator, "key", "old".repeat(3000))
        .await
        .expect("a write");
    cluster.until_settled().await;
    let before = cluster.replica_on(2).await;
    cluster.damage(2, "key");
    // Whoever applies it must read what it replaces: that is too long to be told with it.
    set(&cluster.nodes[1].coordinator, "key", "new".to_owned())
        .await
        .expect("a write");
    cluster.until_repaired(2, before).await;
    let found = get(&cluster.nodes[2].coordinator, "key").await;
    assert_eq!(found.expect("a read").as_deref(), Some("new"));
    let events = cluster.nodes[0].store.events(0).await.expect("events");
    let detail = format!("replica {before} of shard 1");
    let told = |row: &&crate::manager::EventRow| row.event == "damaged" && row.detail == detail;
    assert_eq!(events.iter().filter(told).count(), 1, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_copy_is_not_served_when_damaged_and_the_store_stops() {
    let cluster = Cluster::start(1).await;
    set(&cluster.nodes[0].coordinator, "key", "value".to_owned())
        .await
        .expect("a write");
    cluster.damage(0, "key");
    let error = get(&cluster.nodes[0].coordinator, "key").await;
    assert_eq!(error.expect_err("damaged").state, SqlState::DATA_CORRUPTED);
    let error = set(&cluster.nodes[0].coordinator, "other", "1".to_owned()).await;
    assert_eq!(error.expect_err("refused").state, SqlState::IO_ERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scrub_finds_what_nobody_reads() {
    let mut cluster = Cluster::start(0).await;
    cluster.options.scrub.pause = Duration::from_millis(50);
    for _ in 0..3 {
        cluster.add().await;
    }
    cluster.until_settled().await;
    set(&cluster.nodes[0].coordinator, "key", "value".to_owned())
        .await
        .expect("a write");
    cluster.until_settled().await;
    let before = cluster.replica_on(1).await;
    cluster.nodes[1].store.pause_scrub(true);
    cluster.damage(1, "key");
    cluster.nodes[1].store.pause_scrub(false);
    cluster.until_repaired(1, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_differs_from_two_others_is_replaced() {
    let cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    for number in 0..50 {
        let key = format!("key {number}");
        set(&cluster.nodes[0].coordinator, &key, number.to_string())
            .await
            .expect("a write");
    }
    cluster.until_settled().await;
    let holder = cluster.holder().await;
    assert_eq!(cluster.nodes[holder].store.check_copies().await, 0);
    // Each checksum is right, and still the row is not what was committed.
    for wrong in [(holder + 1) % 3, holder] {
        let before = cluster.replica_on(wrong).await;
        let disk = &cluster.nodes[wrong].disk;
        let row = disk.get(Keyspace::Data, b"key 7").expect("a sound disk");
        let mut row = row.expect("a row").to_vec();
        let last = row.last_mut().expect("a value");
        *last ^= 1;
        let mut batch = storage::WriteBatch::default();
        batch.put(Keyspace::Data, "key 7", row);
        disk.write(batch).expect("a write");
        let now = cluster.holder().await;
        assert_eq!(cluster.nodes[now].store.check_copies().await, 1);
        cluster.until_repaired(wrong, before).await;
        cluster.until_settled().await;
    }
    for node in &cluster.nodes {
        let found = get(&node.coordinator, "key 7").await.expect("a read");
        assert_eq!(found.as_deref(), Some("7"));
    }
}

/// Writes this many rows of a MiB each in one transaction.
async fn set_large(c: &Coordinator, rows: u8, value: u8) -> Result<()> {
    let mut txn = c.begin(Isolation::ReadCommitted, false);
    txn.begin_statement(ReadScope::All).await?;
    for row in 0..rows {
        let key = [b"large", &[row][..]].concat();
        txn.lock(&key, LockMode::Update, FOREVER).await?;
        txn.put(key, vec![value; 1 << 20])?;
    }
    txn.commit().await.map(|_| ())
}

async fn set_large_at_last(c: &Coordinator, rows: u8, value: u8) {
    let began = Instant::now();
    while let Err(error) = set_large(c, rows, value).await {
        assert_eq!(error.state, SqlState::SERIALIZATION_FAILURE, "{error}");
        assert!(began.elapsed() < DEADLINE, "{error}");
    }
}

/// What these rows begin with, in the snapshot of one statement.
async fn get_large(c: &Coordinator, rows: u8) -> Result<Vec<Option<u8>>> {
    let mut txn = c.begin(Isolation::ReadCommitted, true);
    txn.begin_statement(ReadScope::All).await?;
    let mut found = Vec::new();
    for row in 0..rows {
        let value = txn.get(&[b"large", &[row][..]].concat()).await?;
        found.push(value.map(|value| value[0]));
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_commit_of_another_node_is_done_whole_or_not_at_all() {
    const ROWS: u8 = 60;
    let mut cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    let gateway = (cluster.holder().await + 1) % 3;
    set_large_at_last(&cluster.nodes[gateway].coordinator, ROWS, 1).await;
    for node in &cluster.nodes {
        let found = get_large(&node.coordinator, ROWS).await.expect("a read");
        assert_eq!(found, [Some(1); ROWS as usize]);
    }

    // The lease holder is lost in the middle of the pieces.
    cluster.until_settled().await;
    let holder = cluster.holder().await;
    let (from, to) = (cluster.name((holder + 1) % 3), cluster.name(holder));
    cluster.network.cut_after(from, to, 3, 1 << 20);
    let c = &cluster.nodes[(holder + 1) % 3].coordinator;
    let error = set_large(c, ROWS, 2).await.expect_err("cut off");
    assert_eq!(error.state, SqlState::SERIALIZATION_FAILURE, "{error}");
    cluster.kill(holder).await;
    set_at_last(&cluster.nodes[0].coordinator, "key", "after").await;
    for node in &cluster.nodes {
        let found = get_large(&node.coordinator, ROWS).await.expect("a read");
        assert_eq!(found, [Some(1); ROWS as usize]);
    }
    for node in &cluster.nodes {
        set_large_at_last(&node.coordinator, ROWS, 3).await;
    }
    let found = get_large(&cluster.nodes[1].coordinator, ROWS).await;
    assert_eq!(found, Ok(vec![Some(3); ROWS as usize]));
}

impl Node {
    fn has_parts(&self, range: &storage::engine::KeyRange) -> bool {
        let snapshot = self.disk.snapshot();
        let mut parts = snapshot.scan(Keyspace::Raft, range.clone(), false);
        parts.next().is_some()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_holder_lost_within_a_large_commit_leaves_nothing_behind() {
    const ROWS: u8 = 100;
    let mut cluster = Cluster::start(3).await;
    cluster.until_settled().await;
    let holder = cluster.holder().await;
    set_large_at_last(&cluster.nodes[holder].coordinator, ROWS, 1).await;
    cluster.until_settled().await;
    let holder = cluster.holder().await;
    let follower = (holder + 1) % 3;
    let parts = crate::parts::range(sharding::ShardId(1), None);
    let c = cluster.nodes[holder].coordinator.clone();
    let commit = tokio::spawn(async move { set_large(&c, ROWS, 2).await });
    let began = Instant::now();
    while !cluster.nodes[follower].has_parts(&parts) {
        assert!(began.elapsed() < DEADLINE, "no part has arrived");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.kill(holder).await;
    let outcome = commit.await.expect("no panic");
    let error = outcome.expect_err("its store is gone");
    let states = [
        SqlState::SERIALIZATION_FAILURE,
        SqlState::STATEMENT_COMPLETION_UNKNOWN,
        SqlState::CANNOT_CONNECT_NOW,
    ];
    assert!(states.contains(&error.state), "{error}");
    for node in &cluster.nodes {
        set_at_last(&node.coordinator, "key", "after").await;
        let found = get_large(&node.coordinator, ROWS).await.expect("a read");
        assert!(found.iter().all(|row| *row == found[0]), "{found:?}");
    }
    for node in &cluster.nodes {
        while node.has_parts(&parts) {
            assert!(began.elapsed() < DEADLINE, "parts stay behind");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Cluster {
    fn cut_off(&self, at: usize, cut: bool) {
        for other in (0..self.nodes.len()).filter(|other| *other != at) {
            let (one, other) = (self.name(at), self.name(other));
            self.network.cut(one, other, cut);
            self.network.cut(other, one, cut);
        }
    }

    /// A commit under a lock that begins when the lease is over, and its support is not.
    async fn commit_when_late(&self) -> Result<()> {
        let holder = self.holder().await;
        let node = &self.nodes[holder];
        let mut txn = node.coordinator.begin(Isolation::ReadCommitted, false);
        txn.begin_statement(ReadScope::All).await?;
        txn.lock(b"late", LockMode::Update, FOREVER).await?;
        txn.put(&b"late"[..], &b"1"[..])?;
        self.cut_off(holder, true);
        let lead = |report: Report| report.replicas.iter().any(|r| r.holds_lease);
        while lead(node.store.report().await) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let committed = txn.commit();
        self.cut_off(holder, false);
        committed.await.map(|_| ())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_over_for_a_moment_costs_no_lock() {
    let mut options = options();
    options.max_clock_offset = Duration::from_millis(500);
    let cluster = Cluster::start_with(3, options).await;
    cluster.until_settled().await;
    let began = Instant::now();
    // On a busy machine the support may end, too.
    while let Err(error) = cluster.commit_when_late().await {
        assert_eq!(error.state, SqlState::SERIALIZATION_FAILURE, "{error}");
        assert!(began.elapsed() < DEADLINE, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_calls_end_with_errors_that_name_what_is_missing() {
    let mut cluster = Cluster::start(0).await;
    cluster.options.unavailable_after = Duration::from_secs(2);
    for _ in 0..3 {
        cluster.add().await;
    }
    cluster.until_settled().await;
    let client = cluster.nodes[0].coordinator.clone();
    set(&client, "key", "1".to_owned()).await.expect("a write");
    // The lease holder alone goes on for as long as its lease lasts: this commit is in flight for good.
    for other in [2, 3] {
        let (one, other) = (StoreId(1), StoreId(other));
        cluster.network.cut(one, other, true);
        cluster.network.cut(other, one, true);
        cluster.nodes[0].store.peer().connected(other, false);
    }
    let limit = Duration::from_secs(10);
    let began = Instant::now();
    let (written, read) = tokio::join!(
        tokio::time::timeout(limit, set(&client, "key", "2".to_owned())),
        tokio::time::timeout(limit, async {
            // Once the commit is on its way.
            tokio::time::sleep(Duration::from_millis(50)).await;
            get(&client, "key").await
        })
    );
    let error = written.expect("no hanging").expect_err("no quorum");
    assert_eq!(
        error.state,
        SqlState::STATEMENT_COMPLETION_UNKNOWN,
        "{error}"
    );
    let detail = error.fields.detail.as_deref().unwrap_or_default();
    assert!(
        detail.contains("shard 1") && detail.contains("2, 3"),
        "{detail}"
    );
    // What was read under the lease was right; else it is the same error as of any later call.
    if let Err(error) = read.expect("no hanging") {
        assert_eq!(error.state, SqlState::CANNOT_CONNECT_NOW, "{error}");
    }
    let error = get(&client, "key").await.expect_err("no quorum");
    assert_eq!(error.state, SqlState::CANNOT_CONNECT_NOW, "{error}");
    assert!(error.message.contains("shard 1"), "{error}");
    let hint = error.fields.hint.as_deref().unwrap_or_default();
    assert!(hint.contains("2, 3"), "{hint}");
    assert!(began.elapsed() < DEADLINE);

    // With the others it goes on.
    for other in [2, 3] {
        let (one, other) = (StoreId(1), StoreId(other));
        cluster.network.cut(one, other, false);
        cluster.network.cut(other, one, false);
        cluster.nodes[0].store.peer().connected(other, true);
    }
    set_at_last(&client, "key", "3").await;
    let found = get(&cluster.nodes[1].coordinator, "key").await;
    assert_eq!(found.expect("a read").as_deref(), Some("3"));
}

#[path = "operator_tests.rs"]
mod operator;
