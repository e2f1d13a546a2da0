//! Commits and reads per second on a real disk, without SQL.
//!
//! `cargo run --release -p node --example commits [folder] [seconds]`
//!
//! Each commit locks one row and writes four small values. Prints one line per number of tasks.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement of real time on real threads"
)]

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, KeyName, Metadata, Recorder, SharedString, Unit,
};
use node::Options;
use node::testing::real_env;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use storage::{FjallEngine, FjallOptions};
use txn::kv::{Isolation, LockMode, ReadScope, WaitPolicy};
use txn::{Coordinator, Limits};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: u64 = 100_000;
const FOREVER: WaitPolicy = WaitPolicy::Wait {
    deadline_nanos: None,
};

/// Keeps count and sum of every histogram of the store.
#[derive(Default)]
struct Sums(Mutex<BTreeMap<String, Arc<Sum>>>);

#[derive(Default)]
struct Sum {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl HistogramFn for Sum {
    fn record(&self, value: f64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos
            .fetch_add((value * 1e9) as u64, Ordering::Relaxed);
    }
}

impl Recorder for &'static Sums {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, _: &metrics::Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }
    fn register_gauge(&self, _: &metrics::Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, key: &metrics::Key, _: &Metadata<'_>) -> Histogram {
        let sum = Arc::clone(self.0.lock().entry(key.name().to_owned()).or_default());
        Histogram::from_arc(sum)
    }
}

impl Sums {
    /// Means since the last call.
    fn print(&self) {
        for (name, sum) in &*self.0.lock() {
            let count = sum.count.swap(0, Ordering::Relaxed);
            let total = sum.nanos.swap(0, Ordering::Relaxed);
            if count == 0 {
                continue;
            }
            let mean = total as f64 / count as f64 / 1e9;
            if name.ends_with("_seconds") {
                println!(
                    "    {name:32} {count:>8} times, mean {:>9.1} us",
                    mean * 1e6
                );
            } else {
                println!("    {name:32} {count:>8} times, mean {mean:>9.1}");
            }
        }
    }
}

type AnyResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> AnyResult<()> {
    let sums: &'static Sums = Box::leak(Box::default());
    metrics::set_global_recorder(sums)?;
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next();
    let seconds: f64 = arguments.next().map_or(Ok(3.0), |text| text.parse())?;
    let temporary;
    let folder = match &folder {
        Some(folder) => std::path::Path::new(folder),
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path()
        }
    };
    let engine = Arc::new(FjallEngine::open(folder, FjallOptions::default())?);
    let store = node::testing::open_alone(engine, real_env(), Options::default())?;
    let coordinator = store.coordinator(Limits::default());
    load(&coordinator).await?;
    sums.print();
    for tasks in [1, 8, 32, 128] {
        let (count, latencies) = run(&coordinator, tasks, seconds, commits).await?;
        report("commits", tasks, count, seconds, latencies);
        sums.print();
    }
    for tasks in [1, 8, 32] {
        let (count, latencies) = run(&coordinator, tasks, seconds, reads).await?;
        report("reads", tasks, count * READS, seconds, latencies);
    }
    own_cost(&coordinator).await?;
    store.shutdown().await;
    Ok(())
}

fn key(table: u8, row: u64) -> Vec<u8> {
    let mut key = vec![table];
    key.extend_from_slice(&row.to_be_bytes());
    key
}

async fn load(coordinator: &Coordinator) -> AnyResult<()> {
    for chunk in 0..ROWS / 1000 {
        let mut txn = coordinator.begin(Isolation::ReadCommitted, false);
        for row in chunk * 1000..(chunk + 1) * 1000 {
            txn.put(key(1, row), vec![7; 100])?;
        }
        txn.commit().await?;
    }
    Ok(())
}

async fn commits(coordinator: &Coordinator, next: u64) -> AnyResult<()> {
    let row = key(1, next.wrapping_mul(0x9e37_79b9_7f4a_7c15) % ROWS);
    let mut txn = coordinator.begin(Isolation::ReadCommitted, false);
    txn.begin_statement(ReadScope::All).await?;
    txn.lock_and_get(&row, LockMode::NoKeyUpdate, FOREVER)
        .await?;
    txn.put(row, vec![8; 100])?;
    for table in 2..5 {
        txn.put(key(table, next), vec![9; 40])?;
    }
    txn.commit().await?;
    Ok(())
}

/// Reads in one call, to keep the clock out of the measurement.
const READS: u64 = 100;

async fn reads(coordinator: &Coordinator, next: u64) -> AnyResult<()> {
    for n in 0..READS {
        let at = (next * READS + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) % ROWS;
        let mut txn = coordinator.begin(Isolation::ReadCommitted, true);
        txn.begin_statement(ReadScope::All).await?;
        if txn.get(&key(1, at)).await?.is_none() {
            return Err("a loaded row is missing".into());
        }
        txn.commit().await?;
    }
    // Nothing above ever waits, and the runtime's timer needs a thread now and then.
    tokio::task::yield_now().await;
    Ok(())
}

async fn run<F, R>(
    coordinator: &Coordinator,
    tasks: usize,
    seconds: f64,
    work: F,
) -> AnyResult<(u64, Vec<u64>)>
where
    F: Fn(&'static Coordinator, u64) -> R + Copy + Send + Sync + 'static,
    R: Future<Output = AnyResult<()>> + Send,
{
    // Leaked: a handful of bytes per run of an example.
    let coordinator: &'static Coordinator = Box::leak(Box::new(coordinator.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicU64::new(0));
    let handles: Vec<_> = (0..tasks)
        .map(|_| {
            let (stop, next) = (Arc::clone(&stop), Arc::clone(&next));
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    work(coordinator, next.fetch_add(1, Ordering::Relaxed)).await?;
                    latencies.push(start.elapsed().as_nanos() as u64);
                }
                AnyResult::Ok(latencies)
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for handle in handles {
        all.extend(handle.await??);
    }
    all.sort_unstable();
    Ok((all.len() as u64, all))
}

fn report(what: &str, tasks: usize, count: u64, seconds: f64, latencies: Vec<u64>) {
    let at = |part: f64| {
        let place = (latencies.len() as f64 * part) as usize;
        latencies.get(place).copied().unwrap_or(0) as f64 / 1000.0
    };
    println!(
        "{what:8} {tasks:4} tasks  {:>10.0}/s   p50 {:>8.1} us   p99 {:>8.1} us",
        count as f64 / seconds,
        at(0.5),
        at(0.99)
    );
}

/// What a transaction costs around one read of the shard.
async fn own_cost(coordinator: &Coordinator) -> AnyResult<()> {
    const TIMES: u64 = 1_000_000;
    let row = key(1, 5);
    let start = Instant::now();
    for _ in 0..TIMES {
        let at = coordinator.read_timestamp(ReadScope::All).await?;
        std::hint::black_box(coordinator.shards().get(&row, at).await?);
    }
    let shard = start.elapsed().as_nanos() as u64 / TIMES;
    let start = Instant::now();
    for _ in 0..TIMES {
        let mut txn = coordinator.begin(Isolation::ReadCommitted, true);
        txn.begin_statement(ReadScope::All).await?;
        std::hint::black_box(txn.get(&row).await?);
        txn.commit().await?;
    }
    let whole = start.elapsed().as_nanos() as u64 / TIMES;
    println!(
        "one read: shard {shard} ns, transaction around it {} ns",
        whole.saturating_sub(shard)
    );

    let mut table = txn::LockTable::default();
    let start = Instant::now();
    for n in 0..TIMES {
        let id = txn::TxnId(u128::from(n));
        std::hint::black_box(table.acquire(id, &row, LockMode::Update)?);
        std::hint::black_box(table.release_all(id));
    }
    let lock = start.elapsed().as_nanos() as u64 / TIMES;
    println!("lock table: uncontended acquire and release {lock} ns");
    Ok(())
}
