//! A node's part in its cluster: from the first question to a store that its peers can talk to.
//!
//! ```text
//!  RPC listens ─► the folder knows its cluster? ─ yes ─────────────────────────┐
//!                   │ no                                                      ▼
//!                   ├─ no --join, no --discover: a new cluster ─────────► store opens
//!                   └─ search ─► admitted by a member: a name ───────────► the others are found,
//!                                                                          the map is known, gossip
//! ```

use crate::config::Config;
use crate::discovery::lan::{Announcement, Lan};
use crate::discovery::{Outcome, Search, World, address};
use crate::metrics::NodeMetrics;
use crate::node_list::{self, NodeEntry, NodeList, NodeState};
use crate::rpc::{Identity, RpcServer, RpcTransport, Setup};
use crate::start::StartError;
use bytes::{Buf, Bytes};
use membership::discovery::{Beginning, JoinAddress, Member, Options, Question};
use membership::facts::{Directory, NodeFacts};
use membership::gossip::GossipDirectory;
use node::manager::join;
use node::rpc::Part;
use node::scrub::ScrubOptions;
use node::{Addresses, ManagerOptions, Store};
use parking_lot::Mutex;
use sql::instance::Instance;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use storage::Engine;
use tokio::net::TcpListener;
use tokio::sync::watch;
use types::StoreId;
use types::env::{BoxFuture, Env, Peer, Transport};

/// Between two looks at what a node tells of itself. Gossip takes half a second to pass it on, so more often
/// would be for nobody.
const FACTS_INTERVAL: Duration = Duration::from_secs(1);

/// The first byte of a question that finds a cluster.
const DISCOVERY: u8 = Part::Discovery as u8;

/// A node that takes part in a cluster.
pub struct ClusterNode {
    pub store: Arc<Store>,
    pub directory: Arc<GossipDirectory>,
    pub addresses: Addresses,
    ears: Arc<Ears>,
    /// As they were told first.
    facts: NodeFacts,
    /// Announces the node for as long as it lives.
    _lan: Option<Arc<Lan>>,
}

impl ClusterNode {
    /// The nodes as this one knows them, for proxies.
    pub fn list(&self) -> NodeList {
        let me = self.store.identity().store;
        node_list_of(me, Arc::clone(&self.directory), Arc::clone(&self.ears))
    }

    /// Tells the others how this node is doing for as long as it lives: every now and then, and at once that it
    /// drains.
    pub fn tell_facts(&self, instance: Weak<Instance>) {
        let (store, directory) = (Arc::downgrade(&self.store), Arc::clone(&self.directory));
        let (mut facts, mut intent) = (self.facts.clone(), self.store.intent());
        let metrics = NodeMetrics::default();
        tokio::spawn(async move {
            loop {
                let (Some(store), Some(instance)) = (store.upgrade(), instance.upgrade()) else {
                    return;
                };
                for left in store.gone() {
                    directory.forget(left);
                }
                let report = store.report().await;
                let leases = report.replicas.iter().filter(|r| r.holds_lease);
                facts.leases = leases.count() as u64;
                facts.replicas = report.replicas.len() as u64;
                facts.used_bytes = report.used_bytes;
                facts.draining = report.draining;
                facts.sessions = instance.session_count() as u64;
                directory.publish(facts.clone());
                metrics.tell(&facts, &report);
                drop((store, instance));
                tokio::select! {
                    () = tokio::time::sleep(FACTS_INTERVAL) => {}
                    changed = intent.changed() => if changed.is_err() {
                        return;
                    },
                }
            }
        });
    }
}

fn node_list_of(me: StoreId, directory: Arc<GossipDirectory>, ears: Arc<Ears>) -> NodeList {
    Arc::new(move || {
        let connected = ears.connected();
        let nodes = directory.nodes();
        let entries = nodes.values().map(|facts| NodeEntry {
            id: facts.store.0,
            sql: facts.sql_address.clone(),
            http: Some(facts.http_address.clone()).filter(|http| !http.is_empty()),
            rpc: Some(facts.rpc_address.clone()),
            state: match facts.store == me || connected.contains(&facts.store) {
                true => NodeState::Live,
                false => NodeState::Suspect,
            },
            draining: facts.draining,
            sessions: facts.sessions,
            weight: 1,
        });
        entries.collect()
    })
}

/// What the node listens on.
pub struct Listening {
    pub rpc: TcpListener,
    pub sql: SocketAddr,
    pub http: Option<SocketAddr>,
}

/// Opens the store, in the cluster that it belongs to, that it finds, or that it founds.
pub async fn open(
    config: &Config,
    engine: Arc<dyn Engine>,
    env: &Env,
    listening: Listening,
    stop: watch::Receiver<bool>,
) -> Result<ClusterNode, StartError> {
    let rpc_addr = listening.rpc.local_addr()?;
    let settings = &config.cluster;
    let addresses = Addresses {
        rpc: address::advertised(settings.advertise_addr.as_deref(), rpc_addr),
        sql: address::advertised(settings.advertise_sql_addr.as_deref(), listening.sql),
        http: listening
            .http
            .map_or_else(String::new, |http| address::advertised(None, http)),
        locality: settings.locality.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let known = Store::identity_in(&*engine).map_err(StartError::Open)?;
    let me = watch::Sender::new(Identity {
        cluster: known.map(|identity| identity.cluster),
        store: known.map(|identity| identity.store),
        address: addresses.rpc.clone(),
    });
    let tls = match &config.certs_dir {
        Some(folder) => Some(crate::rpc::RpcTls::load(folder)?),
        None => None,
    };
    let setup = Setup::new(me.subscribe(), tls, settings.max_clock_offset, env.clone());
    let transport = RpcTransport::new(setup);
    let ears = Arc::new(Ears::default());
    tokio::spawn(RpcServer::serve(
        listening.rpc,
        Arc::clone(&transport),
        Arc::clone(&ears) as Arc<dyn Peer>,
        stop,
    ));
    let transport = transport as Arc<dyn Transport>;

    let lan = match settings.lan {
        true => Some(Arc::new(Lan::start().map_err(StartError::Cluster)?)),
        false => None,
    };
    let number = env.rng.next_u64();
    let announce = |member: Option<(u128, StoreId)>| -> Result<(), StartError> {
        let Some(lan) = &lan else {
            return Ok(());
        };
        let announcement = Announcement {
            node: number,
            cluster_name: settings.cluster_name.clone(),
            member,
            address: addresses.rpc.clone(),
        };
        lan.announce(&announcement).map_err(StartError::Cluster)
    };
    let options = Options {
        join: settings.join.clone(),
        lan: settings.lan,
        bootstrap: settings.bootstrap,
        cluster_name: settings.cluster_name.clone(),
        cluster: known.map(|identity| identity.cluster),
        address: addresses.rpc.clone(),
        own_addresses: vec![rpc_addr.to_string()],
        node: number,
        version: addresses.version.clone(),
    };
    if options.beginning() == Beginning::Search {
        announce(None)?;
        let world = World {
            env: env.clone(),
            transport: Arc::clone(&transport),
            kind: DISCOVERY,
            say: Box::new(|text| eprintln!("{text}")),
        };
        let search = Search::new(options, world, lan.clone());
        ears.hear(Arc::new(Searching(Arc::clone(&search))));
        match search.run().await {
            Outcome::Join(found) => {
                let say = |text: &str| eprintln!("waiting to be let in: {text}");
                let targets = [found.address];
                let identity = join(&*transport, env, &targets, &addresses, &say)
                    .await
                    .map_err(|error| StartError::Cluster(error.to_string()))?;
                Store::join(&*engine, identity).map_err(StartError::Open)?;
            }
            Outcome::Found => {}
            Outcome::Stop(reason) => return Err(StartError::Cluster(reason)),
        }
    }

    let options = node::Options {
        gc_ttl: config.gc_ttl,
        max_clock_offset: settings.max_clock_offset,
        unavailable_after: settings.unavailable_after,
        scrub: ScrubOptions {
            bytes_a_second: config.scrub_bytes,
            ..ScrubOptions::default()
        },
        manager: ManagerOptions {
            membership: membership::service::Options {
                dead_millis: u64::try_from(settings.time_until_dead.as_millis())
                    .unwrap_or(u64::MAX),
                ..membership::service::Options::default()
            },
            shard_max_bytes: config.shard_max_bytes,
            ..ManagerOptions::default()
        },
        ..node::Options::default()
    };
    let store = Store::open(engine, env.clone(), Arc::clone(&transport), options)
        .map_err(StartError::Open)?;
    let identity = store.identity();
    me.send_modify(|me| {
        me.cluster = Some(identity.cluster);
        me.store = Some(identity.store);
    });
    announce(Some((identity.cluster, identity.store)))?;
    let directory = GossipDirectory::start(
        identity.cluster,
        identity.store,
        env,
        Arc::clone(&transport),
        Part::Gossip as u8,
    );
    // Before the others are found: a node that has moved may be found by them only through this.
    let facts = facts(identity.store, &addresses, config, env);
    directory.publish(facts.clone());
    ears.hear(Arc::new(Taking {
        member: Member {
            cluster: identity.cluster,
            cluster_name: settings.cluster_name.clone(),
            store: identity.store,
            peers: Vec::new(),
        },
        store: store.peer(),
        directory: Arc::clone(&directory),
        list: node_list_of(identity.store, Arc::clone(&directory), Arc::clone(&ears)),
    }));
    let targets = resolve(&settings.join).await;
    store
        .find_cluster(&targets)
        .await
        .map_err(StartError::Open)?;
    Ok(ClusterNode {
        store,
        directory,
        addresses,
        ears,
        facts,
        _lan: lan,
    })
}

/// The addresses behind what `--join` names, as far as they can be had now.
async fn resolve(join: &[JoinAddress]) -> Vec<String> {
    let mut targets = Vec::new();
    for address in join {
        if let Ok(found) = crate::discovery::dns::resolve(address).await {
            targets.extend(found);
        }
    }
    targets
}

fn facts(store: StoreId, addresses: &Addresses, config: &Config, env: &Env) -> NodeFacts {
    NodeFacts {
        store,
        incarnation: u64::try_from(env.clock.wall_micros()).unwrap_or(0),
        rpc_address: addresses.rpc.clone(),
        sql_address: addresses.sql.clone(),
        http_address: addresses.http.clone(),
        locality: config.cluster.locality.clone(),
        version: addresses.version.clone(),
        cores: std::thread::available_parallelism().map_or(1, usize::from) as u64,
        started_at_micros: env.clock.wall_micros(),
        ..NodeFacts::default()
    }
}

/// Hands what peers send to whatever the node is at the time.
#[derive(Default)]
struct Ears(Mutex<Hearing>);

#[derive(Default)]
struct Hearing {
    listener: Option<Arc<dyn Peer>>,
    connected: BTreeSet<StoreId>,
}

impl Ears {
    fn hear(&self, listener: Arc<dyn Peer>) {
        let mut hearing = self.0.lock();
        for peer in &hearing.connected {
            listener.connected(*peer, true);
        }
        hearing.listener = Some(listener);
    }

    fn connected(&self) -> BTreeSet<StoreId> {
        self.0.lock().connected.clone()
    }

    fn listener(&self) -> Option<Arc<dyn Peer>> {
        self.0.lock().listener.clone()
    }
}

impl Peer for Ears {
    fn message(&self, from: StoreId, message: Bytes) {
        if let Some(listener) = self.listener() {
            listener.message(from, message);
        }
    }

    fn call(&self, from: Option<StoreId>, request: Bytes) -> BoxFuture<Bytes> {
        match self.listener() {
            Some(listener) => listener.call(from, request),
            None => nothing(),
        }
    }

    fn connected(&self, peer: StoreId, connected: bool) {
        let mut hearing = self.0.lock();
        match connected {
            true => hearing.connected.insert(peer),
            false => hearing.connected.remove(&peer),
        };
        if let Some(listener) = &hearing.listener {
            listener.connected(peer, connected);
        }
    }
}

/// What is not understood is answered by nothing.
fn nothing() -> BoxFuture<Bytes> {
    Box::pin(std::future::ready(Bytes::new()))
}

/// The byte that says whom a call is for, and the rest.
fn split(mut request: Bytes) -> Option<(u8, Bytes)> {
    let kind = *request.first()?;
    request.advance(1);
    Some((kind, request))
}

/// A node that is in no cluster yet.
struct Searching(Arc<Search>);

impl Peer for Searching {
    fn message(&self, _from: StoreId, _message: Bytes) {}

    fn call(&self, _from: Option<StoreId>, request: Bytes) -> BoxFuture<Bytes> {
        match split(request) {
            Some((DISCOVERY, question)) => {
                let answer = self.0.answer(&question).unwrap_or_default();
                Box::pin(std::future::ready(answer))
            }
            _ => nothing(),
        }
    }

    fn connected(&self, _peer: StoreId, _connected: bool) {}
}

/// A member.
struct Taking {
    member: Member,
    store: Arc<dyn Peer>,
    directory: Arc<GossipDirectory>,
    list: NodeList,
}

impl Peer for Taking {
    fn message(&self, from: StoreId, message: Bytes) {
        if Part::of(&message) == Some(Part::Gossip) {
            self.directory.message(from, &message.slice(1..));
        } else {
            self.store.message(from, message);
        }
    }

    fn call(&self, from: Option<StoreId>, request: Bytes) -> BoxFuture<Bytes> {
        if Part::of(&request) != Some(Part::Discovery) {
            return self.store.call(from, request);
        }
        if request.first() == Some(&node_list::QUESTION) {
            return Box::pin(std::future::ready(node_list::answer(&(self.list)())));
        }
        let Some(question) = Question::decode(&request.slice(1..)) else {
            return nothing();
        };
        let nodes = self.directory.nodes();
        let peers = nodes.values().map(|facts| facts.rpc_address.clone());
        let member = Member {
            peers: peers.collect(),
            ..self.member.clone()
        };
        Box::pin(std::future::ready(member.answer(&question).encode()))
    }

    fn connected(&self, peer: StoreId, connected: bool) {
        self.directory.connected(peer, connected);
        self.store.connected(peer, connected);
    }
}
