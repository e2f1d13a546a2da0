//! Statements whose locks are lost under them, as when a lease moves: whom the session spares the error, and whom not.

use crate::gateways::Client;
use sql::instance::{Instance, InstanceOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use txn::Coordinator;
use txn::kv::*;
use types::{Error, MaybeReady, Result, SqlState, Timestamp};

/// Shards of which some of the next calls find that the transaction's locks are gone.
struct Moving {
    shards: Arc<dyn Shards>,
    /// Commits and locks that will be refused yet.
    commits: AtomicU32,
    locks: AtomicU32,
    /// Commits that were refused.
    refused: AtomicU32,
    unknown: bool,
}

impl Moving {
    fn refuses(&self, left: &AtomicU32) -> Option<Error> {
        let less = |left: u32| left.checked_sub(1);
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .ok()?;
        let state = match self.unknown {
            true => SqlState::STATEMENT_COMPLETION_UNKNOWN,
            false => SqlState::SERIALIZATION_FAILURE,
        };
        Some(Error::new(state, "the lease has moved"))
    }
}

impl Shards for Moving {
    fn read_timestamp(&self, scope: ReadScope<'_>) -> MaybeReady<Result<Timestamp>> {
        self.shards.read_timestamp(scope)
    }

    fn catalog_changed(&self) -> Timestamp {
        self.shards.catalog_changed()
    }

    fn get(&self, key: &[u8], at: Timestamp) -> MaybeReady<Result<Option<(Value, Timestamp)>>> {
        self.shards.get(key, at)
    }

    fn newest_version(&self, key: &[u8]) -> MaybeReady<Result<Option<Timestamp>>> {
        self.shards.newest_version(key)
    }

    fn scan(&self, request: ScanRequest) -> MaybeReady<Result<ScanPage>> {
        self.shards.scan(request)
    }

    fn lock(
        &self,
        txn: TxnId,
        key: &[u8],
        mode: LockMode,
        policy: WaitPolicy,
    ) -> MaybeReady<Result<bool>> {
        match self.refuses(&self.locks) {
            Some(error) => MaybeReady::ready(Err(error)),
            None => self.shards.lock(txn, key, mode, policy),
        }
    }

    fn unlock(&self, txn: TxnId, keys: &[Key]) {
        self.shards.unlock(txn, keys);
    }

    fn unlock_all(&self, txn: TxnId) {
        self.shards.unlock_all(txn);
    }

    fn commit(&self, request: CommitRequest) -> MaybeReady<Result<Committed>> {
        match self.refuses(&self.commits) {
            Some(error) => {
                self.refused.fetch_add(1, Ordering::SeqCst);
                self.shards.unlock_all(request.txn);
                MaybeReady::ready(Err(error))
            }
            None => self.shards.commit(request),
        }
    }
}

struct World {
    store: Arc<node::Store>,
    moving: Arc<Moving>,
    client: Client,
}

impl World {
    /// One client, whose table `t` has the row `(1, 0)`.
    async fn new(unknown: bool) -> World {
        let store = node::testing::memory_store().expect("a store");
        let options = InstanceOptions::default();
        let whole = store.coordinator(options.transaction_limits());
        let moving = Arc::new(Moving {
            shards: Arc::clone(whole.shards()),
            commits: AtomicU32::new(0),
            locks: AtomicU32::new(0),
            refused: AtomicU32::new(0),
            unknown,
        });
        let env = node::testing::real_env();
        let shards = Arc::clone(&moving) as Arc<dyn Shards>;
        let coordinator = Coordinator::new(shards, env.clone(), options.transaction_limits());
        let instance = Instance::open(coordinator, env, options).await;
        let instance = instance.expect("a new catalog");
        let mut client = Client::new(&instance, "phantom").await.expect("a session");
        let table = "CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 0)";
        client.ok(table).await;
        World {
            store,
            moving,
            client,
        }
    }

    fn refuse_commits(&self, commits: u32) {
        self.moving.refused.store(0, Ordering::SeqCst);
        self.moving.commits.store(commits, Ordering::SeqCst);
    }

    fn refused(&self) -> u32 {
        self.moving.refused.load(Ordering::SeqCst)
    }

    async fn value(&mut self) -> Vec<String> {
        self.client.ok("SELECT a FROM t WHERE id = 1").await
    }

    async fn end(self) {
        drop(self.client);
        self.store.shutdown().await;
    }
}

#[tokio::test]
async fn a_statement_by_itself_is_tried_again_until_it_succeeds() {
    let mut world = World::new(false).await;
    world.refuse_commits(3);
    let add = "UPDATE t SET a = a + 1 WHERE id = 1 RETURNING a";
    assert_eq!(world.client.ok(add).await, ["1"]);
    assert_eq!(world.refused(), 3);
    world.moving.locks.store(2, Ordering::SeqCst);
    assert_eq!(world.client.ok(add).await, ["2"]);
    // A definition, too.
    world.refuse_commits(1);
    world.client.ok("CREATE TABLE u (id int)").await;
    assert_eq!(world.client.ok("SELECT count(*) FROM u").await, ["0"]);
    assert_eq!(world.value().await, ["2"]);
    world.end().await;
}

#[tokio::test]
async fn whoever_moves_on_and_on_is_given_up() {
    let mut world = World::new(false).await;
    world.refuse_commits(u32::MAX);
    let state = world.client.fails("UPDATE t SET a = 9").await;
    assert_eq!(state, "40001");
    assert_eq!(world.refused(), 11);
    world.refuse_commits(0);
    assert_eq!(world.value().await, ["0"]);
    world.end().await;
}

#[tokio::test]
async fn an_unknown_outcome_is_told_at_once() {
    let mut world = World::new(true).await;
    world.refuse_commits(1);
    assert_eq!(world.client.fails("UPDATE t SET a = 9").await, "40003");
    assert_eq!(world.refused(), 1);
    world.end().await;
}

#[tokio::test]
async fn blocks_and_strings_of_statements_fail_as_ever() {
    let mut world = World::new(false).await;
    world.refuse_commits(1);
    world.client.ok("BEGIN; UPDATE t SET a = 5").await;
    assert_eq!(world.client.fails("COMMIT").await, "40001");
    world.client.ok("BEGIN").await;
    world.moving.locks.store(1, Ordering::SeqCst);
    assert_eq!(world.client.fails("UPDATE t SET a = 6").await, "40001");
    assert_eq!(world.client.fails("SELECT 1").await, "25P02");
    world.client.ok("ROLLBACK").await;
    // The first has been answered when the second finds the lease moved.
    world.refuse_commits(1);
    let both = "UPDATE t SET a = 7; UPDATE t SET a = a + 1";
    assert_eq!(world.client.fails(both).await, "40001");
    assert_eq!(world.value().await, ["0"]);
    world.end().await;
}

#[tokio::test]
async fn with_the_extended_protocol_it_depends_on_sync() {
    let mut world = World::new(false).await;
    let session = &mut world.client.session;
    let add = "UPDATE t SET a = a + $1 RETURNING a";
    session.parse("add", add, &[]).await.expect("it is valid");
    for (last, shown) in [(true, "10"), (false, "20")] {
        world.refuse_commits(1);
        let session = &mut world.client.session;
        let ten = Some(bytes::Bytes::from_static(b"10"));
        session
            .bind("", "add", &[], &[ten], &[])
            .await
            .expect("an int");
        let execution = session.execute("", 0, last).await.expect("it runs");
        let rows = world.client.read(execution.response).await;
        assert_eq!(rows.expect("rows"), [shown]);
        let synced = world.client.session.sync().await;
        assert_eq!(world.refused(), 1);
        match last {
            true => synced.expect("it has ended already"),
            // The client has been told of a row that is not there now.
            false => assert_eq!(
                synced.expect_err("the lease has moved").state,
                SqlState::SERIALIZATION_FAILURE
            ),
        }
    }
    assert_eq!(world.value().await, ["10"]);
    world.end().await;
}
