//! Three stores in one process, over a network in memory, in real time: what a user sees of a cluster. Faults
//! in virtual time are in `sim`.
#![expect(
    clippy::disallowed_methods,
    reason = "tests with real threads; those in virtual time are in `sim`"
)]

use crate::manager::{Addresses, Report, join};
use crate::store::{Options, Store};
use crate::testing::{MemoryNetwork, real_env};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::SimDisk;
use txn::kv::{Isolation, LockMode, ReadScope, WaitPolicy};
use txn::{Coordinator, Limits};
use types::{Result, SqlState, StoreId};

const DEADLINE: Duration = Duration::from_secs(30);
const FOREVER: WaitPolicy = WaitPolicy::Wait {
    deadline_nanos: None,
};

struct Node {
    disk: SimDisk,
    store: Arc<Store>,
    coordinator: Coordinator,
}

struct Cluster {
    network: Arc<MemoryNetwork>,
    nodes: Vec<Node>,
}

fn addresses(address: &str) -> Addresses {
    Addresses {
        rpc: address.to_owned(),
        ..Addresses::default()
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.manager.round = Duration::from_millis(100);
    options.manager.membership.join_millis = 0;
    // One process, one clock.
    options.max_clock_offset = Duration::from_millis(100);
    options
}

impl Cluster {
    /// The first founds it, the others join.
    async fn start(size: u64) -> Cluster {
        let mut cluster = Cluster {
            network: MemoryNetwork::new(),
            nodes: Vec::new(),
        };
        for _ in 0..size {
            cluster.add().await;
        }
        cluster
    }

    async fn add(&mut self) {
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

    async fn open(&self, name: StoreId, disk: SimDisk) -> Node {
        let engine = Arc::new(disk.clone());
        let transport = self.network.transport(name);
        let store = Store::open(engine, real_env(), transport, options()).expect("it opens");
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
        }
    }

    /// As a crash: what is not synced is lost.
    async fn kill(&mut self, at: usize) -> SimDisk {
        let node = self.nodes.remove(at);
        self.network.remove(node.store.identity().store);
        node.store.shutdown().await;
        node.disk
    }

    async fn reports(&self) -> Vec<Report> {
        let mut reports = Vec::new();
        for node in &self.nodes {
            reports.push(node.store.report().await);
        }
        reports
    }

    /// Waits until the first shard has voters on all of these nodes, all of which have applied the same.
    async fn until_settled(&self) {
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
}

async fn set(c: &Coordinator, key: &str, value: String) -> Result<()> {
    let mut txn = c.begin(Isolation::ReadCommitted, false);
    txn.begin_statement(ReadScope::All).await?;
    txn.lock(key.as_bytes(), LockMode::Update, FOREVER).await?;
    txn.put(key.as_bytes().to_vec(), value)?;
    txn.commit().await.map(|_| ())
}

async fn get(c: &Coordinator, key: &str) -> Result<Option<String>> {
    let mut txn = c.begin(Isolation::ReadCommitted, true);
    txn.begin_statement(ReadScope::All).await?;
    let value = txn.get(key.as_bytes()).await?;
    Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
}

/// As a client does that knows what may be tried again.
async fn set_at_last(c: &Coordinator, key: &str, value: &str) {
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
