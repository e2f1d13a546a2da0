//! Accepts clients and, when the proxy stops, lets them go.

use crate::proxy::limits::{ACCEPT_PAUSE, SPARE_SOCKETS, STOP_TIMEOUT};
use crate::proxy::{Proxy, session};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Serves until the proxy stops, then until the last session has left, within a bound.
pub async fn serve(listener: TcpListener, proxy: Arc<Proxy>, max_sessions: usize) {
    let sockets = Arc::new(Semaphore::new(max_sessions + SPARE_SOCKETS));
    let mut stopping = proxy.stopping.clone();
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => break,
            Some(_) = sessions.join_next() => {}
            Some(client) = accept(&listener, &sockets, &proxy) => {
                sessions.spawn(client);
            }
        }
    }
    let left = async {
        // Who comes now is told so. Cancel requests are still heard.
        loop {
            tokio::select! {
                ended = sessions.join_next() => if ended.is_none() {
                    break;
                },
                Some(client) = accept(&listener, &sockets, &proxy) => {
                    tokio::spawn(client);
                }
            }
        }
    };
    if tokio::time::timeout(STOP_TIMEOUT, left).await.is_err() {
        tracing::warn!(
            sessions = sessions.len(),
            "sessions still in a transaction after {STOP_TIMEOUT:?} are broken off"
        );
        sessions.shutdown().await;
    }
}

/// The next client's whole life, to be run. None: it could not be accepted.
async fn accept(
    listener: &TcpListener,
    sockets: &Arc<Semaphore>,
    proxy: &Arc<Proxy>,
) -> Option<impl Future<Output = ()> + Send + use<>> {
    let (stream, peer) = match listener.accept().await {
        Ok(accepted) => accepted,
        Err(error) => {
            tracing::warn!(%error, "a client could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            return None;
        }
    };
    // Too many sockets: it is closed at once, so that strangers cannot exhaust the file descriptors.
    let socket = Arc::clone(sockets).try_acquire_owned().ok()?;
    let proxy = Arc::clone(proxy);
    Some(async move {
        session::serve(stream, peer, proxy).await;
        drop(socket);
    })
}
