//! Limits of the proxy. Each is a number with a unit and a reason.

use std::time::Duration;

/// Between two looks at a node. Clients meet a node that fails between two of them and are sent on.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// How long a node may take to answer a probe.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Shortest time between two looks when something asks for one at once.
pub const PROBE_GAP: Duration = Duration::from_millis(50);

/// As many probes in a row without any answer make a node dead, and its sessions are ended: three seconds.
/// One alone may be a busy machine, and a session is dear.
pub const PROBES_UNTIL_DEAD: u32 = 6;

/// Between two questions for the list of nodes.
pub const SOURCE_INTERVAL: Duration = Duration::from_secs(1);

/// How long one node may take to answer with the list before another is asked.
pub const SOURCE_TIMEOUT: Duration = Duration::from_secs(1);

/// A node that the list no longer names is kept this long while it still answers: who has just started may
/// not have heard of everybody.
pub const FORGET_AFTER: Duration = Duration::from_secs(30);

/// Longest list of nodes, in bytes: some ten thousand nodes.
pub const MAX_LIST_BYTES: usize = 4 << 20;

/// Most nodes; each has a task that looks after it.
pub const MAX_NODES: usize = 1024;

/// Longest answer to a probe, in bytes.
pub const MAX_PROBE_BYTES: usize = 64 << 10;

/// How long a TCP connection to a node may take, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a node may take for its first answer to a client's startup packet.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long nodes are tried for one client before it is told that there is none. Longer than a node needs to
/// be taken out, shorter than drivers wait for a connection (10 s and more).
pub const REACH_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two rounds through all nodes for one client.
pub const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Most bytes of a node's first answer that are held back to see whether it is a refusal.
pub const MAX_FIRST_ANSWER_BYTES: usize = 64 << 10;

/// Bytes that one direction of a session has in hand at most: some hundred rows, and little enough for
/// thousands of idle sessions.
pub const RELAY_BUFFER_BYTES: usize = 16 << 10;

/// Longest process id and secret of a session, in bytes: 4 and, since protocol 3.2, up to 256.
pub const MAX_CANCEL_KEY_BYTES: usize = 4 + 256;

/// How long a node may take for a cancel request.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// Most cancel requests under way: one that nobody knows goes to every node, so strangers could multiply
/// what they send.
pub const MAX_CANCELS: usize = 64;

/// Default for the most sessions at a time. Each holds two sockets.
pub const MAX_SESSIONS: usize = 5000;

/// Most sockets of clients beyond those of sessions: who is starting, cancel requests.
pub const SPARE_SOCKETS: usize = 256;

/// How long sessions may take to come to the end of their transactions once the proxy stops.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a node may still talk after its client has closed its side.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// While a draining node's sessions have nowhere to go, how often that is looked at again.
pub const DRAIN_RECHECK: Duration = Duration::from_millis(500);

/// After an accept failed for want of file descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection to a node that is silent is asked for a sign of life after this time, this often, this many
/// times: a machine that is gone without a word is noticed after five seconds.
pub const NODE_KEEPALIVE_IDLE: Duration = Duration::from_secs(2);
pub const NODE_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
pub const NODE_KEEPALIVE_COUNT: u32 = 3;

/// The same of a client. Idle clients are many and may sleep.
pub const CLIENT_KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
pub const CLIENT_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
pub const CLIENT_KEEPALIVE_COUNT: u32 = 6;

/// How far the proxy's clock may be off a node's: it only asks, so only nonsense is refused. Nodes judge by their own.
pub const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(10);
