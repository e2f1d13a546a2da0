//! How a node stands towards its clients.

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Serving,
    /// It drains: it takes no new sessions, and those it has end outside of transactions. It may serve again.
    Leaving,
    /// The process ends: sessions end as soon as they have an answer.
    Stopping,
}

/// Says that the node leaves its clients, or serves them again. One that stops goes on stopping.
pub fn leave(phase: &watch::Sender<Phase>, leaving: bool) {
    phase.send_if_modified(|phase| {
        let now = match leaving {
            _ if *phase == Phase::Stopping => Phase::Stopping,
            true => Phase::Leaving,
            false => Phase::Serving,
        };
        std::mem::replace(phase, now) != now
    });
}
