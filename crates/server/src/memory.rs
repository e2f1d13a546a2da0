//! How the process takes its memory from the system, and gives it back.

use crate::metrics::ProcessStat;
use std::sync::Weak;
use std::time::Duration;
use storage::FjallEngine;

/// How often the node looks whether it has become idle. What a busy node frees, it needs again.
const IDLE_CHECK: Duration = Duration::from_secs(2);
/// CPU time between two looks that says work was done: ten times what an idle node may take.
const BUSY_CPU_SECONDS: f64 = 0.1;

/// Keeps transparent huge pages away from this process.
///
/// The allocator asks for them on all of its memory. A page of 2 MiB is cleared, and counted, as a
/// whole when its first byte is touched: measured, an idle node with the sample database held 60 MiB
/// more, and COPY of a million rows took twice as long, most of it in the kernel looking for and
/// clearing huge pages.
pub fn prefer_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        // An old kernel, or a sandbox: slower, but right.
        eprintln!("phantomdb: transparent huge pages stay on: {error}");
    }
}

/// Once after each time of work: what waits in the store's memtables goes to disk, and freed memory
/// back to the system. Ends with the store.
///
/// The allocator keeps what is freed for a second in case it is needed again, and looks at the time only
/// when somebody allocates: a node that falls silent after a load would hold it for good.
pub async fn give_back_when_idle(store: Weak<FjallEngine>) {
    let mut before = 0.0;
    let mut state = State::Rested;
    while store.strong_count() > 0
        && let Some(stat) = ProcessStat::read()
    {
        let busy = stat.cpu_seconds - before >= BUSY_CPU_SECONDS;
        before = stat.cpu_seconds;
        state = match state {
            _ if busy => State::Worked,
            State::Worked => {
                let Some(store) = store.upgrade() else { return };
                let flushed = tokio::task::spawn_blocking(move || store.flush()).await;
                if let Ok(Err(error)) = flushed {
                    tracing::warn!(%error, "the idle store could not be flushed");
                }
                State::Flushed
            }
            State::Flushed => {
                collect();
                State::Rested
            }
            State::Rested => State::Rested,
        };
        tokio::time::sleep(IDLE_CHECK).await;
    }
}

/// What the node did last.
enum State {
    Worked,
    Flushed,
    Rested,
}

#[expect(
    unsafe_code,
    reason = "a call of the allocator without arguments that could be wrong"
)]
fn collect() {
    // SAFETY: it may be called on any thread at any time, and frees nothing that is in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
