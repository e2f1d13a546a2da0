//! Clusters of real processes: started, hurt, healed and watched from outside.
//!
//! A [`Cluster`] is some nodes and maybe a proxy, each a process of its own with a data folder that it keeps over
//! restarts. The nodes stand on ports of loopback, or each in a network namespace with its own address on a
//! bridge, where packets between them can be dropped, lost and delayed while clients still reach every node:
//!
//! ```text
//!   this task, proxy ── bridge 10.x.y.254
//!                         ├── namespace 1: 10.x.y.1 ── node 1
//!                         ├── namespace 2: 10.x.y.2 ── node 2
//!                         └── namespace 3: 10.x.y.3 ── node 3
//! ```
//!
//! Everything a cluster has made goes with it: processes, namespaces, mounts, folders. What a killed task could
//! not remove is removed by the next one (names hold the process id of their task).
//!
//! Nodes must be started from the main thread: the kernel ends them with the thread that started them.

pub mod clock;
pub mod disk;
pub mod gaps;
mod http;
pub mod load;
mod namespaces;
mod node;
pub mod outcome;
mod proxy;
mod scratch;
pub mod view;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::peer::{Peer, Place, Program, connect, stable_ports};
pub use namespaces::Namespaces;
pub use node::{Node, State};
use proxy::Proxy;
pub use scratch::Scratch;

/// Longest wait for a new cluster to have formed.
const FORM_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two looks at a state that is waited for.
const POLL: Duration = Duration::from_millis(50);
/// More nodes than this are no test of this machine's database but of its scheduler.
const MOST_NODES: usize = 9;

/// The options by which a task's user chooses a cluster.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    pub nodes: usize,
    /// Where the nodes stand.
    #[arg(long, value_enum, default_value_t = Ground::Loopback)]
    pub network: Ground,
    /// A PhantomDB program to start instead of this workspace's release build.
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Which server to start; PostgreSQL only as one node without a proxy, to prove the task itself.
    #[arg(long, value_enum, default_value_t = Peer::Phantom)]
    pub peer: Peer,
    /// Let clients connect to the nodes themselves instead of a proxy.
    #[arg(long)]
    pub no_proxy: bool,
    /// Keep logs and data when something fails (else only the logs).
    #[arg(long)]
    pub keep: bool,
}

/// Where the nodes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ground {
    /// Ports on 127.0.0.1.
    Loopback,
    /// Network namespaces on a bridge (needs root, iproute2 and nftables).
    Namespaces,
}

/// What joins the nodes.
enum Network {
    Loopback,
    Namespaces(Namespaces),
}

/// Nodes, a proxy, and the network between them. Fields are dropped in this order.
pub struct Cluster {
    nodes: Vec<Node>,
    proxy: Option<Proxy>,
    network: Network,
    program: Program,
    options: Options,
    folder: PathBuf,
}

impl Cluster {
    /// Starts the nodes and the proxy, and waits until all of them serve.
    pub async fn start(options: &Options, scratch: &Scratch) -> Result<Cluster> {
        let mut cluster = Cluster::prepare(options, scratch)?;
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// A cluster whose nodes are not started yet, so that the caller can still change their surroundings.
    pub fn prepare(options: &Options, scratch: &Scratch) -> Result<Cluster> {
        ensure!(
            (1..=MOST_NODES).contains(&options.nodes),
            "--nodes must be 1 to {MOST_NODES}"
        );
        let program = options.peer.program(options.binary.as_deref())?;
        ensure!(
            options.peer == Peer::Phantom || options.nodes == 1,
            "PostgreSQL can stand in for one node only: --nodes 1"
        );
        let network = match options.network {
            Ground::Loopback => Network::Loopback,
            Ground::Namespaces => Network::Namespaces(Namespaces::open()?),
        };
        let mut cluster = Cluster {
            nodes: Vec::new(),
            proxy: None,
            network,
            program,
            options: options.clone(),
            folder: scratch.path().to_owned(),
        };
        for _ in 0..options.nodes {
            cluster.place_node()?;
        }
        Ok(cluster)
    }

    pub async fn start_all(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.spawn(&self.program)?;
        }
        for node in &mut self.nodes {
            node.wait_ready().await?;
        }
        if self.has_proxy() {
            self.start_proxy().await?;
        }
        self.wait_healthy(FORM_TIMEOUT)
            .await
            .context("the cluster did not form")?;
        Ok(())
    }

    fn has_proxy(&self) -> bool {
        self.options.peer == Peer::Phantom && !self.options.no_proxy
    }

    /// Gives the next node its addresses and folder.
    fn place_node(&mut self) -> Result<usize> {
        let number = self.nodes.len() + 1;
        let mut place = match &mut self.network {
            Network::Loopback => {
                let taken: Vec<u16> = self.nodes.iter().flat_map(|n| n.place.ports()).collect();
                let ports = stable_ports(3, &taken)?;
                Place::on_loopback([ports[0], ports[1], ports[2]])
            }
            Network::Namespaces(namespaces) => namespaces.add(number)?,
        };
        let mut seeds: Vec<String> = self.nodes.iter().map(|n| n.place.rpc_address()).collect();
        if seeds.is_empty() && self.options.nodes > 1 {
            // The first node knows itself: whoever has no data and is named in its own list begins.
            seeds.push(place.rpc_address());
        }
        if self.options.peer == Peer::Phantom {
            place
                .arguments
                .extend(node_arguments(&seeds, self.options.network));
        }
        let data = self.folder.join(format!("node{number}"));
        self.nodes.push(Node::new(number, place, data));
        Ok(number)
    }

    /// Adds a node to the running cluster and waits until it serves; gives its number.
    pub async fn add_node(&mut self) -> Result<usize> {
        let number = self.place_node()?;
        self.restart(number).await?;
        Ok(number)
    }

    async fn start_proxy(&mut self) -> Result<()> {
        let nodes = self.nodes.iter();
        let addresses: Vec<String> = nodes.map(|node| node.place.rpc_address()).collect();
        let log = self.folder.join("proxy.log");
        self.proxy = Some(Proxy::start(self.program.path(), &addresses, log).await?);
        Ok(())
    }

    /// What the program says about its version.
    pub fn version(&self) -> Result<String> {
        self.program.version()
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The node of that number; numbers begin at 1.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    pub fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    pub fn numbers(&self) -> impl Iterator<Item = usize> + use<> {
        1..=self.nodes.len()
    }

    /// Starts a node that is down, and waits until it answers.
    pub async fn restart(&mut self, number: usize) -> Result<()> {
        self.respawn(number)?;
        self.node_mut(number).wait_ready().await
    }

    /// Starts a node that is down, and returns at once.
    pub fn respawn(&mut self, number: usize) -> Result<()> {
        let program = self.program.clone();
        self.node_mut(number).spawn(&program)
    }

    /// Where clients connect: the proxy, or all nodes where there is none.
    pub fn client_dsns(&self) -> Vec<String> {
        match &self.proxy {
            Some(proxy) => vec![proxy.dsn()],
            None => self.node_dsns(),
        }
    }

    pub fn node_dsns(&self) -> Vec<String> {
        self.nodes.iter().map(Node::dsn).collect()
    }

    /// Everything that answers clients: the nodes, and the proxy where there is one.
    pub fn all_dsns(&self) -> Vec<String> {
        let mut all = self.node_dsns();
        all.extend(self.proxy.iter().map(Proxy::dsn));
        all
    }

    /// The network's faults, where the nodes stand in namespaces.
    pub fn namespaces(&mut self) -> Option<&mut Namespaces> {
        match &mut self.network {
            Network::Loopback => None,
            Network::Namespaces(namespaces) => Some(namespaces),
        }
    }

    /// Runs `phantomdb` with arguments that name this cluster; gives what it prints.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        proxy::client_command(self.program.path(), &self.node(1).place, arguments)
    }

    /// Waits until every node serves, sees all others, and has caught up.
    pub async fn wait_healthy(&mut self, timeout: Duration) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let complaint = match self.complaint().await {
                None => return Ok(began.elapsed()),
                Some(complaint) => complaint,
            };
            if began.elapsed() > timeout {
                bail!("not healthy after {timeout:?}: {complaint}");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What keeps the cluster from being healthy.
    async fn complaint(&mut self) -> Option<String> {
        let nodes = self.nodes.len();
        for node in &mut self.nodes {
            if let Some(complaint) = node.complaint(nodes).await {
                return Some(format!("node {}: {complaint}", node.number));
            }
        }
        if let Some(proxy) = &mut self.proxy
            && let Err(error) = connect(&proxy.dsn()).await
        {
            return Some(format!("the proxy: {error:#}\n{}", proxy.log_tail()));
        }
        None
    }
}

/// What a node needs besides addresses and folder.
fn node_arguments(seeds: &[String], ground: Ground) -> Vec<String> {
    let mut arguments: Vec<String> = seeds
        .iter()
        .flat_map(|seed| ["--join".to_owned(), seed.clone()])
        .collect();
    if !seeds.is_empty() {
        // All are started alike: one of them founds the cluster.
        arguments.push("--bootstrap".to_owned());
    }
    if ground == Ground::Namespaces {
        // Other than loopback, a node asks for TLS and a password unless it is told not to.
        arguments.push("--insecure".to_owned());
    }
    arguments
}
