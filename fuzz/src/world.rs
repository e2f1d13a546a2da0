//! A node in memory to run inputs on.

use node::Store;
use sql::instance::{Instance, InstanceOptions};
use std::future::Future;
use std::io;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Memory of queries and of transactions, in bytes each: far below what the worker is allowed, so
/// that what has a budget stops at it.
const BUDGET_BYTES: usize = 128 << 20;

/// A runtime whose threads are as those of a node.
pub fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(server::start::WORKER_STACK_BYTES)
        .enable_all()
        .build()
}

/// Runs on a worker, whose stack is a node's. A panic is among the complaints already.
pub fn on_worker<F>(runtime: &Runtime, work: F) -> Option<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    runtime.block_on(runtime.spawn(work)).ok()
}

pub struct World {
    pub instance: Arc<Instance>,
    store: Arc<Store>,
}

impl World {
    /// An empty node. Must be called inside a runtime.
    pub async fn new() -> types::Result<World> {
        let store = node::testing::memory_store()?;
        let options = InstanceOptions {
            query_memory_bytes: BUDGET_BYTES,
            transaction_memory_bytes: BUDGET_BYTES,
            ..InstanceOptions::default()
        };
        let coordinator = store.coordinator(options.transaction_limits());
        let instance = Instance::open(coordinator, node::testing::real_env(), options).await?;
        Ok(World { instance, store })
    }

    pub async fn end(self) {
        self.store.shutdown().await;
    }
}
