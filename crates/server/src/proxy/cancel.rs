//! Cancel requests: which node a session's key belongs to.
//!
//! A client asks on a connection of its own that a session's statement be stopped, and names the session by
//! the process id and the secret that its node gave it. The proxy has seen both go by (`Watch::take_key`) and
//! sends the request to that node. A key it has not seen may be of a session that came through another proxy,
//! or one that it could not read: then all nodes are told, and the one that knows it acts.

use crate::proxy::fleet::Node;
use crate::proxy::limits::{CANCEL_TIMEOUT, MAX_CANCEL_KEY_BYTES, MAX_CANCELS};
use crate::proxy::node_tls::NodeTls;
use futures::future::join_all;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

type Key = Box<[u8]>;

/// The keys of the sessions that are open. See the module.
pub struct CancelKeys {
    nodes: Mutex<BTreeMap<Key, Arc<Node>>>,
    /// One permit per request under way.
    requests: Semaphore,
}

impl Default for CancelKeys {
    fn default() -> Self {
        CancelKeys {
            nodes: Mutex::default(),
            requests: Semaphore::new(MAX_CANCELS),
        }
    }
}

impl CancelKeys {
    /// Remembers whose key it is for as long as the answer lives.
    pub fn remember(self: &Arc<Self>, key: Key, node: Arc<Node>) -> KeyGuard {
        self.nodes.lock().insert(key.clone(), node);
        KeyGuard {
            keys: Arc::clone(self),
            key,
        }
    }

    fn owner(&self, key: &[u8]) -> Option<Arc<Node>> {
        self.nodes.lock().get(key).cloned()
    }

    /// Carries a request to the node that it is for, or to `everybody`. Returns once they have taken it, or
    /// have not within a bound. `packet` is a CancelRequest with its length.
    pub async fn request(&self, packet: &[u8], everybody: Vec<Arc<Node>>, tls: &NodeTls) {
        let Some(key) = packet
            .get(8..)
            .filter(|key| key.len() <= MAX_CANCEL_KEY_BYTES)
        else {
            return;
        };
        let Ok(_permit) = self.requests.try_acquire() else {
            tracing::warn!("a cancel request is dropped: {MAX_CANCELS} are under way");
            return;
        };
        let nodes = self.owner(key).map_or(everybody, |owner| vec![owner]);
        let told = nodes.iter().map(|node| tell(node, packet, tls));
        join_all(told).await;
    }
}

/// A node closes the connection when it has acted.
async fn tell(node: &Node, packet: &[u8], tls: &NodeTls) {
    let told = async {
        let mut stream = tls.dial(&node.sql).await?;
        stream.write_all(packet).await?;
        stream.flush().await?;
        let _ = stream.read_u8().await;
        std::io::Result::Ok(())
    };
    match tokio::time::timeout(CANCEL_TIMEOUT, told).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::info!(node = node.id, %error, "a cancel request is lost"),
        Err(_) => tracing::info!(node = node.id, "a cancel request has no answer"),
    }
}

/// Forgets the key when the session ends.
pub struct KeyGuard {
    keys: Arc<CancelKeys>,
    key: Key,
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        self.keys.nodes.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node_list::NodeEntry;
    use crate::proxy::fleet::Fleet;
    use sharding::Policy;
    use std::time::Instant;

    #[tokio::test]
    async fn keys_are_known_while_their_sessions_live() {
        let fleet = Fleet::new(Policy::Random, crate::env::real().rng);
        let entry = NodeEntry::at(4, "a:1".to_string(), 1);
        let nodes = fleet.update(&[entry], Instant::now());
        let keys = Arc::new(CancelKeys::default());
        // Protocol 3.2 has secrets of any length.
        let (short, long) = (vec![7; 8], vec![7; 36]);
        let guard = keys.remember(long.clone().into(), Arc::clone(&nodes[0]));
        assert_eq!(keys.owner(&long).map(|node| node.id), Some(4));
        assert!(keys.owner(&short).is_none());
        drop(guard);
        assert!(keys.owner(&long).is_none());
    }
}
