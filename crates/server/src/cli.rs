//! The command line.

use crate::config::{Address, Bytes, Period};
use crate::discovery::settings::ClusterArgs;
use crate::proxy::limits::MAX_SESSIONS;
use crate::proxy::node_tls::NodeTlsMode;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(
    name = "phantomdb",
    version,
    about = "A distributed SQL database that speaks PostgreSQL",
    arg_required_else_help = true,
    after_help = "Examples:
  phantomdb demo                          a node with sample data, and a SQL shell on it
  phantomdb start --data ./data           a node; connect with any PostgreSQL client
  phantomdb sql                           a SQL shell on the node of this machine
  phantomdb sql -e 'SELECT version()'     one statement, then exit
  phantomdb proxy --join db1              one address in front of a cluster"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node
    Start(Box<StartArgs>),
    /// Run nodes with sample data in temporary folders, and open a SQL shell on them
    Demo(DemoArgs),
    /// Open a SQL shell, or run statements
    Sql(SqlArgs),
    /// Make certificates for the nodes of a cluster and for clients
    #[command(subcommand)]
    Cert(CertCommand),
    /// Run a load balancer in front of a cluster
    Proxy(Box<ProxyArgs>),
    /// See the nodes of a cluster, drain them, remove them
    #[command(subcommand)]
    Node(NodeCommand),
    /// See how a cluster stands
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Print the version
    Version,
}

#[derive(Clone, Debug, Default, Args)]
#[command(after_help = "Examples:
  phantomdb start
  phantomdb start --data /var/lib/phantomdb --cache-size 1GiB
  phantomdb start --sql-addr 0.0.0.0:5450 --tls-cert server.crt --tls-key server.key
  phantomdb start --sql-addr 0.0.0.0:5450 --rpc-addr 0.0.0.0:5451 --certs-dir certs
  phantomdb start --config phantomdb.toml
  phantomdb start --join db1,db2:5451 --advertise-addr db3:5451

A configuration file has the same names:
  data = \"/var/lib/phantomdb\"
  sql-addr = \"127.0.0.1:5450\"
  cache-size = \"1GiB\"
  gc-ttl = \"4h\"
  join = [\"db1\", \"dns:db.example.com\"]

Who founds a cluster, when the data folder is empty:
  without --join and --discover    this node, at once; others join it
  with one of them                 never this node: it waits until somebody has a cluster, and joins
  with one of them and --bootstrap this node, once all addresses have answered and none has a cluster
A folder that is in use keeps its cluster. Two clusters never become one.

Clients on this machine need no password. Another listen address than a loopback one needs
TLS and a role with a password (CREATE ROLE ann LOGIN PASSWORD '…'), or --insecure.")]
pub struct StartArgs {
    /// Folder of the data; made if it is not there [default: ./phantomdb-data]
    #[arg(long, value_name = "DIR", env = "PHANTOMDB_DATA")]
    pub data: Option<PathBuf>,

    /// Address for PostgreSQL clients [default: 127.0.0.1:5450]
    #[arg(long, value_name = "ADDR", env = "PHANTOMDB_SQL_ADDR")]
    pub sql_addr: Option<Address>,

    /// Address for other nodes [default: 127.0.0.1:5451, or any free port if that is taken]
    #[arg(long, value_name = "ADDR", env = "PHANTOMDB_RPC_ADDR")]
    pub rpc_addr: Option<Address>,

    /// Address for /health, /ready and /metrics, or `none` [default: 127.0.0.1:5452]
    #[arg(long, value_name = "ADDR", env = "PHANTOMDB_HTTP_ADDR")]
    pub http_addr: Option<Address>,

    #[command(flatten)]
    pub cluster: ClusterArgs,

    /// Configuration file (TOML); the command line wins over it
    #[arg(long, value_name = "FILE", env = "PHANTOMDB_CONFIG")]
    pub config: Option<PathBuf>,

    /// Memory for blocks read from disk [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "PHANTOMDB_CACHE_SIZE")]
    pub cache_size: Option<Bytes>,

    /// Memory for columns of tables that queries have read, kept for the next query; it counts
    /// as memory of statements, which take it back when they need it; 0: keep none [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "PHANTOMDB_COLUMN_CACHE_SIZE")]
    pub column_cache_size: Option<Bytes>,

    /// Memory for running statements and buffered writes [default: 4GiB]
    #[arg(long, value_name = "SIZE", env = "PHANTOMDB_MEMORY_LIMIT")]
    pub memory_limit: Option<Bytes>,

    /// Most sessions at a time [default: 1000]
    #[arg(long, value_name = "N", env = "PHANTOMDB_MAX_CONNECTIONS")]
    pub max_connections: Option<usize>,

    /// How long old versions of rows are kept [default: 4h]
    #[arg(long, value_name = "TIME", env = "PHANTOMDB_GC_TTL")]
    pub gc_ttl: Option<Period>,

    /// A shard with more bytes of rows is split in its middle, in a cluster of several nodes; the same on all
    /// nodes. A transaction writes rows of one shard only: 0, so that none is split, keeps all rows writable together
    /// [default: 512MiB]
    #[arg(long, value_name = "SIZE", env = "PHANTOMDB_SHARD_MAX_BYTES")]
    pub shard_max_bytes: Option<Bytes>,

    /// How much of the data is read in a second to find damage before it matters; 0: none [default: 4MiB]
    #[arg(long, value_name = "SIZE", env = "PHANTOMDB_SCRUB_RATE")]
    pub scrub_rate: Option<Bytes>,

    /// If the store in the data folder is too damaged to be opened: set it aside and join the cluster as a
    /// new, empty node, which is given copies by the others
    #[arg(long)]
    pub replace_damaged_store: bool,

    /// Folder with ca.crt, node.crt and node.key (see `phantomdb cert`): TLS between nodes, and for SQL
    /// clients unless --tls-cert is given
    #[arg(long, value_name = "DIR", env = "PHANTOMDB_CERTS_DIR")]
    pub certs_dir: Option<PathBuf>,

    /// Certificate chain for TLS with SQL clients, a PEM file
    #[arg(long, value_name = "FILE", env = "PHANTOMDB_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,

    /// Private key for TLS with SQL clients, a PEM file
    #[arg(long, value_name = "FILE", env = "PHANTOMDB_TLS_KEY")]
    pub tls_key: Option<PathBuf>,

    /// Let everybody in without a password, from any machine
    #[arg(long)]
    pub insecure: bool,

    /// Stop when the standard input ends: a parent's node does not outlive it
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,

    /// What to log on stderr: error, warn, info, debug, or a filter like node=debug [default: warn]
    #[arg(long, value_name = "LEVEL", env = "PHANTOMDB_LOG")]
    pub log: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  phantomdb demo
  phantomdb demo --keep
  echo 'SELECT count(*) FROM orders;' | phantomdb demo
  phantomdb demo --nodes 1")]
pub struct DemoArgs {
    /// Number of nodes, each a process; with three, any one of them may die
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub nodes: u32,

    /// Leave the folder in place on exit
    #[arg(long)]
    pub keep: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  phantomdb sql
  phantomdb sql postgres://ann@db.example.com:5450/shop
  phantomdb sql -e 'SELECT 1' -e 'SELECT 2'
  phantomdb sql -f schema.sql
  cat schema.sql | phantomdb sql

With -e, -f or a pipe, the first error ends the run with exit code 1.")]
pub struct SqlArgs {
    /// Where to connect
    #[arg(
        value_name = "URL",
        env = "PHANTOMDB_URL",
        default_value = "postgres://phantom@127.0.0.1:5450/phantom"
    )]
    pub url: String,

    /// Run this statement and exit; may be given several times
    #[arg(short = 'e', long, value_name = "SQL")]
    pub execute: Vec<String>,

    /// Run the statements of this file and exit; may be given several times
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Vec<PathBuf>,
}

/// How an operator's command reaches the cluster.
#[derive(Clone, Debug, Args)]
pub struct Reach {
    /// Any node of the cluster, as a superuser
    #[arg(
        long,
        value_name = "URL",
        env = "PHANTOMDB_URL",
        default_value = "postgres://phantom@127.0.0.1:5450/phantom"
    )]
    pub url: String,
}

#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "Examples:
  phantomdb node ls
  phantomdb node status 2
  phantomdb node drain 2                  before its machine is restarted
  phantomdb node cancel 2                 it shall serve again
  phantomdb node decommission 2           it leaves for good
  phantomdb node decommission 2 --no-wait --url postgres://phantom@db1:5450/phantom

Exit codes: 0 it is done, or accepted with --no-wait; 1 it was refused, or no node answers; 2 wrong arguments.
Ctrl-C while a command waits does not stop what it began; cancel does.")]
pub enum NodeCommand {
    /// List the nodes and what each holds
    Ls {
        #[command(flatten)]
        reach: Reach,
    },
    /// Show one node, what moves to and from it, and what happened to it lately
    Status {
        #[command(flatten)]
        reach: Reach,
        /// The node's number
        #[arg(value_name = "NODE")]
        node: u64,
    },
    /// Have a node give its leases and sessions away; it keeps its replicas
    Drain(NodeAction),
    /// Have a node give away all it holds, and leave the cluster for good; a dead one too
    Decommission(NodeAction),
    /// Have a node serve again that drains or is being decommissioned
    Cancel {
        #[command(flatten)]
        reach: Reach,
        /// The node's number
        #[arg(value_name = "NODE")]
        node: u64,
    },
}

#[derive(Clone, Debug, Args)]
pub struct NodeAction {
    #[command(flatten)]
    pub reach: Reach,

    /// The node's number
    #[arg(value_name = "NODE")]
    pub node: u64,

    /// Return once it has begun
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "Examples:
  phantomdb cluster status
  phantomdb cluster status --check        for scripts: exit code 3 if something is not as it should be")]
pub enum ClusterCommand {
    /// Show the nodes, shards that lack copies or a lease holder, what is being moved, and what happened lately
    Status {
        #[command(flatten)]
        reach: Reach,
        /// Exit with code 3 if a node is silent, or a shard lacks copies or a lease holder
        #[arg(long)]
        check: bool,
    },
}

/// The folder of `phantomdb cert` if none is given.
const DEFAULT_CERTS_DIR: &str = "certs";

#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "Examples:
  phantomdb cert create-ca
  phantomdb cert create-node --host db1.example.com --host 10.0.0.1 --out certs-db1
  phantomdb cert create-client ann

Make the authority once for a cluster, and keep ca.key off the nodes. A node is started with the folder
that holds its own node.crt and node.key, and ca.crt: phantomdb start --certs-dir certs-db1")]
pub enum CertCommand {
    /// Make a cluster's certificate authority: ca.crt and ca.key
    CreateCa(CreateCaArgs),
    /// Make a node's certificate: node.crt and node.key
    CreateNode(CreateNodeArgs),
    /// Make a SQL client's certificate: client.ROLE.crt and client.ROLE.key
    CreateClient(CreateClientArgs),
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  phantomdb cert create-ca
  phantomdb cert create-ca --certs-dir /secure/shop-cluster")]
pub struct CreateCaArgs {
    /// Folder to write to; made if it is not there
    #[arg(long, value_name = "DIR", env = "PHANTOMDB_CERTS_DIR", default_value = DEFAULT_CERTS_DIR)]
    pub certs_dir: PathBuf,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  phantomdb cert create-node --host localhost --host 127.0.0.1
  phantomdb cert create-node --host db1.example.com --host 10.0.0.1 --out certs-db1
  phantomdb cert create-node --host db1.example.com --valid-for 90d --overwrite

Nodes know each other by the authority, whatever their addresses. The hosts are for SQL clients that
verify whom they talk to (sslmode=verify-full).")]
pub struct CreateNodeArgs {
    /// Name or address that SQL clients use for this node; may be given several times
    #[arg(long, value_name = "HOST", required = true)]
    pub host: Vec<String>,

    /// Folder of ca.crt and ca.key
    #[arg(long, value_name = "DIR", env = "PHANTOMDB_CERTS_DIR", default_value = DEFAULT_CERTS_DIR)]
    pub certs_dir: PathBuf,

    /// Folder to write to, with a copy of ca.crt: all that the node needs [default: the one of --certs-dir]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// How long the certificate is good for [default: 1825d]
    #[arg(long, value_name = "TIME")]
    pub valid_for: Option<Period>,

    /// Replace a certificate that is there
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  phantomdb cert create-client ann
  phantomdb cert create-client report --valid-for 30d

The server does not ask clients for certificates yet: the role logs in with its password.")]
pub struct CreateClientArgs {
    /// The SQL role
    #[arg(value_name = "ROLE")]
    pub role: String,

    /// Folder of ca.crt and ca.key, and to write to
    #[arg(long, value_name = "DIR", env = "PHANTOMDB_CERTS_DIR", default_value = DEFAULT_CERTS_DIR)]
    pub certs_dir: PathBuf,

    /// How long the certificate is good for [default: 1825d]
    #[arg(long, value_name = "TIME")]
    pub valid_for: Option<Period>,

    /// Replace a certificate that is there
    #[arg(long)]
    pub overwrite: bool,
}

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  phantomdb proxy --join 127.0.0.1
  phantomdb proxy --join dns:db.example.com --certs-dir certs-proxy
  phantomdb proxy --nodes 10.0.0.1:5450,10.0.0.2:5450=3 --policy weighted
  phantomdb proxy --join db1,db2:5451 --listen 0.0.0.0:5440 --tls-cert p.crt --tls-key p.key

Clients connect to it as to a node. It sends each to a node that is well; when a node drains, its sessions
are ended outside of transactions, so that they come back on another. SIGUSR1 prints a table of the nodes,
as does the page /stats.

Who may come in:
  A node lets clients of its own machine in without a password, and the proxy is such a client if it runs
  there. So the proxy carries clients of other machines only to nodes with addresses that are not loopback
  ones: those ask for a password. Another listen address than a loopback one needs --tls-cert and --tls-key,
  --tls-passthrough, or --insecure, which lets everybody in.

TLS:
  With a certificate, clients' TLS ends at the proxy and begins anew to the nodes (--node-tls, --node-ca).
  Clients that bind their password to the certificate (channel_binding, the default of libpq) need a proxy
  with the nodes' own certificate, or channel_binding=disable. Without a certificate, clients get no TLS; with
  --tls-passthrough it ends at the nodes: such sessions are not moved when a node drains.")]
pub struct ProxyArgs {
    /// Some nodes, as `start --join` takes them: host, host:port, `[v6]:port`, or `dns:NAME[:PORT]`; the others
    /// are found by them. Or http://host:port, where nodes answer HTTP, for a proxy without a certificate
    #[arg(
        long,
        value_name = "ADDRS",
        value_delimiter = ',',
        env = "PHANTOMDB_PROXY_JOIN",
        required_unless_present = "nodes"
    )]
    pub join: Vec<String>,

    /// Folder with ca.crt, node.crt and node.key: to ask nodes that were started with --certs-dir
    #[arg(long, value_name = "DIR", env = "PHANTOMDB_CERTS_DIR")]
    pub certs_dir: Option<PathBuf>,

    /// SQL addresses of all nodes, each with a weight if wanted, instead of --join
    #[arg(
        long,
        value_name = "HOST:PORT[=WEIGHT]",
        value_delimiter = ',',
        env = "PHANTOMDB_PROXY_NODES",
        conflicts_with = "join"
    )]
    pub nodes: Vec<String>,

    /// Address for PostgreSQL clients
    #[arg(
        long,
        value_name = "ADDR",
        env = "PHANTOMDB_PROXY_LISTEN",
        default_value = "127.0.0.1:5440"
    )]
    pub listen: Address,

    /// Address for /health, /ready, /metrics and /stats, or `none`
    #[arg(
        long,
        value_name = "ADDR",
        env = "PHANTOMDB_PROXY_HTTP_ADDR",
        default_value = "127.0.0.1:5442"
    )]
    pub http_addr: Address,

    /// How a node is chosen for a new session
    #[arg(
        long,
        value_enum,
        env = "PHANTOMDB_PROXY_POLICY",
        default_value = "least-connections"
    )]
    pub policy: ProxyPolicy,

    /// Most sessions at a time
    #[arg(long, value_name = "N", default_value_t = MAX_SESSIONS)]
    pub max_connections: usize,

    /// Certificate chain for clients' TLS, a PEM file
    #[arg(
        long,
        value_name = "FILE",
        env = "PHANTOMDB_TLS_CERT",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,

    /// Private key for clients' TLS, a PEM file
    #[arg(
        long,
        value_name = "FILE",
        env = "PHANTOMDB_TLS_KEY",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,

    /// Clients' TLS ends at the nodes
    #[arg(long, conflicts_with = "tls_cert")]
    pub tls_passthrough: bool,

    /// When connections to the nodes are encrypted
    #[arg(long, value_enum, default_value = "auto")]
    pub node_tls: NodeTlsMode,

    /// Certificates, a PEM file, that nodes' certificates must be signed with; makes TLS a must
    #[arg(long, value_name = "FILE")]
    pub node_ca: Option<PathBuf>,

    /// Let everybody in without a password, from any machine
    #[arg(long)]
    pub insecure: bool,

    /// Stop when the standard input ends: a parent's proxy does not outlive it
    #[arg(long, hide = true)]
    pub until_stdin_ends: bool,

    /// What to log on stderr: error, warn, info, debug, or a filter
    #[arg(
        long,
        value_name = "LEVEL",
        env = "PHANTOMDB_LOG",
        default_value = "warn"
    )]
    pub log: String,
}

/// See `sharding::Policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProxyPolicy {
    /// The one with the fewest sessions
    LeastConnections,
    /// Each in turn
    RoundRobin,
    /// Any
    Random,
    /// In turn, each as often as its weight says
    Weighted,
    /// Of two drawn at random the one that answers sooner
    Latency,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn is_consistent() {
        Cli::command().debug_assert();
    }
}
