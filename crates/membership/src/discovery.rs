//! Node discovery: how a node finds its cluster, and which node founds one.
//!
//! # The rule
//! A node founds a cluster at most once in its life, and joins at most one.
//!
//! | folder | started with | what it does |
//! | --- | --- | --- |
//! | in use | anything | opens the cluster that it belongs to; it never founds and never joins another |
//! | empty | no `--join`, no `--discover` | founds a cluster of one, at once; others join it |
//! | empty | `--join` or `--discover` | never founds: asks around until somebody has a cluster, and joins that |
//! | empty | the same and `--bootstrap` | joins a cluster if somebody has one; founds one if it is sure that nobody does |
//!
//! Sure means: every address of the list, and every address that its names lead to, has answered and has no
//! cluster either. A silent address may be the cluster, so it is waited for. If several searching nodes may
//! found, the one with the smallest advertised address does it: the same command line may be used on all.
//! To know each other they need not be on each other's lists: a node tells whoever asks which founders it has
//! heard of, and a founder waits for the answers of all it hears of, for a minute. On a local network, where
//! nobody knows how many nodes there are, a founder listens for [`LAN_LISTEN_MILLIS`] first.
//!
//! # What it guarantees
//! Two clusters never become one. A cluster has a random number of 128 bits; a store keeps the number it was
//! first given, and refuses whoever has another. So the worst of a mistake (two lists that have nothing in
//! common, founders on both) is two clusters that do not talk, and nodes that say so.
//!
//! Where it comes from: CockroachDB's `init`, Consul's `bootstrap-expect`, etcd's initial cluster and
//! Cassandra's seeds each keep a node from founding by itself. A count to expect says nothing about who
//! else counts; seeds that found alone split. An explicit word of the operator, checked against what
//! answers, needs neither.
//!
//! # How it works
//! [`Discovery`] is pure. Its driver asks [`Discovery::next`] what to do, does it, and says how it went; time
//! and dice are arguments. Addresses are tried again with growing delays, names are resolved again all the
//! time: a node may wait for hours for its cluster.

use types::StoreId;

mod candidate;
pub mod join_address;
pub mod messages;
mod search;
#[cfg(test)]
mod tests;

pub use join_address::{DEFAULT_PORT, JoinAddress, host_port};
pub use messages::{Answer, Member, Question};
pub use search::Discovery;

/// Addresses that are tried. More come only from a network full of nodes, of which a few are enough.
pub const MAX_CANDIDATES: usize = 256;
/// Questions that wait for an answer at a time.
pub const MAX_ASKED: usize = 16;
/// How long a node listens to the local network before it asks or founds, in milliseconds: multicast
/// answers come within half a second, and are sent twice.
pub const LAN_LISTEN_MILLIS: u64 = 3000;
/// Between two resolutions of a name that is known, in milliseconds: nodes come and go behind it.
pub const RESOLVE_MILLIS: u64 = 10_000;
/// A founder that was heard of and does not answer any more is forgotten after so many milliseconds, if it is
/// not on the list.
pub const FOUNDER_SILENT_MILLIS: u64 = 60_000;

/// What a node is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Addresses of other nodes, maybe its own among them. For a node that has been in a cluster, those
    /// of the peers it remembers, too.
    pub join: Vec<JoinAddress>,
    /// Look for nodes on the local network.
    pub lan: bool,
    /// It may found the cluster. See the module.
    pub bootstrap: bool,
    /// Nodes of another name are strangers.
    pub cluster_name: String,
    /// The cluster that the store belongs to, if it does: no other will do.
    pub cluster: Option<u128>,
    /// `host:port`, as others are told. Founders are compared by it.
    pub address: String,
    /// Other addresses of this node.
    pub own_addresses: Vec<String>,
    /// A random number by which a node knows itself when it has asked itself.
    pub node: u64,
    /// Of the program.
    pub version: String,
}

/// What a node begins with. See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It belongs to a cluster already.
    Reopen,
    /// It is the first of a new cluster.
    Found,
    /// [`Discovery`] says what comes.
    Search,
}

impl Options {
    pub fn beginning(&self) -> Beginning {
        if self.cluster.is_some() {
            return Beginning::Reopen;
        }
        match self.join.is_empty() && !self.lan {
            true => Beginning::Found,
            false => Beginning::Search,
        }
    }

    /// What to ask others.
    pub fn question(&self) -> Question {
        Question {
            node: self.node,
            address: self.address.clone(),
            bootstrap: self.bootstrap && self.cluster.is_none(),
            cluster: self.cluster,
            cluster_name: self.cluster_name.clone(),
            version: self.version.clone(),
        }
    }
}

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look the name up and call [`Discovery::resolved`].
    Resolve(JoinAddress),
    /// Ask who listens there, and call [`Discovery::answered`] or [`Discovery::failed`].
    Ask(String),
    /// Nothing, before this time in milliseconds or before something is heard.
    WaitUntil(u64),
    /// The end: join this cluster.
    Join(Found),
    /// The end: found a cluster.
    Found,
    /// The end: an operator must decide. The reason.
    Stop(String),
}

/// A cluster, and a node that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub cluster: u128,
    pub store: StoreId,
    /// Where the node was found.
    pub address: String,
    /// Addresses of other nodes of the cluster.
    pub peers: Vec<String>,
}

/// A node that the local network tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub address: String,
    pub cluster_name: String,
    /// `None`: it searches, too.
    pub cluster: Option<u128>,
}
