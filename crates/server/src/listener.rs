//! Accepts SQL connections and, when the node stops, drains them.

use crate::phase::Phase;
use crate::wire::{WireServer, connection};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Most sockets in any state beyond those of sessions: clients that are starting, cancel requests.
/// One more is closed at once, so that strangers cannot exhaust the process's file descriptors.
const SPARE_SOCKETS: usize = 256;

/// How long running statements may take to finish once the node stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// After an accept failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the node stops, then lets running statements finish, within a bound. While the node leaves its
/// clients, new ones are told so.
pub async fn serve(
    listener: TcpListener,
    server: Arc<WireServer>,
    mut phase: watch::Receiver<Phase>,
) {
    let sockets = Arc::new(Semaphore::new(
        server.slots.available_permits() + SPARE_SOCKETS,
    ));
    let mut connections = JoinSet::new();
    let each = phase.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase == Phase::Stopping) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(socket) = Arc::clone(&sockets).try_acquire_owned() else {
            server.metrics.connection_refused();
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let (server, phase) = (Arc::clone(&server), each.clone());
        let now = *phase.borrow();
        connections.spawn(async move {
            match now {
                Phase::Serving => connection::serve(stream, Some(peer), server, phase).await,
                leaving => connection::turn_away(stream, &server, leaving).await,
            }
            drop(socket);
        });
    }
    let drained = async {
        // Who comes now is told so, as PostgreSQL does it, and not left to guess at a closed port.
        loop {
            tokio::select! {
                ended = connections.join_next() => if ended.is_none() {
                    break;
                },
                Ok((stream, _)) = listener.accept() => {
                    if let Ok(socket) = Arc::clone(&sockets).try_acquire_owned() {
                        let server = Arc::clone(&server);
                        tokio::spawn(async move {
                            connection::turn_away(stream, &server, Phase::Stopping).await;
                            drop(socket);
                        });
                    }
                }
            }
        }
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!(
            sessions = connections.len(),
            "statements still running after {DRAIN_TIMEOUT:?} are broken off"
        );
        connections.shutdown().await;
    }
}
