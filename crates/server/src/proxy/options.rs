//! What a proxy is started with.
//!
//! Who may reach it: on a loopback address, this machine, as with a node. On another address, only if
//! clients can be told apart from impostors: their TLS ends here (`--tls-cert`), or at the nodes
//! (`--tls-passthrough`), which ask clients of other machines for passwords. Or if everybody is to be let in
//! (`--insecure`).

use crate::cli::{ProxyArgs, ProxyPolicy};
use crate::proxy::node_tls::NodeTls;
use crate::proxy::source::{HttpNodes, NodeSource, RpcNodes, StaticNodes};
use crate::rpc::RpcTls;
use crate::tls::Tls;
use crate::wire::is_loopback;
use membership::discovery::JoinAddress;
use rustix::process::{Resource, getrlimit, setrlimit};
use sharding::Policy;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where clients' TLS ends.
pub enum ClientTls {
    None,
    Here(Box<Tls>),
    Nodes,
}

/// See the module.
pub struct Options {
    pub listen: SocketAddr,
    /// None: no HTTP.
    pub http_addr: Option<SocketAddr>,
    pub source: Arc<dyn NodeSource>,
    pub policy: Policy,
    pub client_tls: ClientTls,
    pub node_tls: NodeTls,
    pub insecure: bool,
    pub max_sessions: usize,
    pub until_stdin_ends: bool,
}

impl Options {
    pub fn new(args: &ProxyArgs) -> Result<Self, String> {
        let listen = args.listen.0.ok_or("--listen must be an address")?;
        let client_tls = match (&args.tls_cert, &args.tls_key) {
            (Some(certificate), Some(key)) => {
                let tls = Tls::load(certificate, key).map_err(|error| format!("TLS: {error}"))?;
                ClientTls::Here(Box::new(tls))
            }
            _ if args.tls_passthrough => ClientTls::Nodes,
            _ => ClientTls::None,
        };
        let exposed = [Some(listen), args.http_addr.0].into_iter().flatten();
        let mut exposed = exposed.filter(|address| !is_loopback(address.ip()));
        if let Some(address) = exposed.next()
            && matches!(client_tls, ClientTls::None)
            && !args.insecure
        {
            return Err(refused(address));
        }
        let node_tls = NodeTls::new(args.node_tls, args.node_ca.as_deref())
            .map_err(|error| format!("TLS to the nodes: {error}"))?;
        Ok(Options {
            listen,
            http_addr: args.http_addr.0,
            source: source(args)?,
            policy: args.policy.into(),
            client_tls,
            node_tls,
            insecure: args.insecure,
            max_sessions: args.max_connections,
            until_stdin_ends: args.until_stdin_ends,
        })
    }
}

fn source(args: &ProxyArgs) -> Result<Arc<dyn NodeSource>, String> {
    if !args.nodes.is_empty() {
        return Ok(Arc::new(StaticNodes::parse(&args.nodes)?));
    }
    let by_http = args
        .join
        .iter()
        .filter_map(|address| address.strip_prefix(HTTP));
    let by_http: Vec<String> = by_http.map(str::to_owned).collect();
    if by_http.len() == args.join.len() {
        return Ok(Arc::new(HttpNodes::new(&by_http)?));
    }
    if !by_http.is_empty() {
        return Err(
            "--join takes http:// addresses, or addresses without, and not both".to_owned(),
        );
    }
    let tls = args.certs_dir.as_deref().map(RpcTls::load).transpose();
    let tls = tls.map_err(|error| format!("TLS to the nodes: {error}"))?;
    let addresses = args.join.iter().map(|address| address.parse());
    let addresses = addresses.collect::<Result<Vec<JoinAddress>, _>>();
    let addresses = addresses.map_err(|error| format!("--join: {error}"))?;
    Ok(Arc::new(RpcNodes::new(addresses, tls)))
}

/// Before an address where nodes answer HTTP.
const HTTP: &str = "http://";

fn refused(address: SocketAddr) -> String {
    format!(
        "refusing to listen on {address}, which other machines can reach: TLS is not configured.\n\
         Hint: give --tls-cert and --tls-key, or --tls-passthrough if the nodes have certificates. Or give \
         --insecure to let everybody in without a password."
    )
}

impl From<ProxyPolicy> for Policy {
    fn from(policy: ProxyPolicy) -> Self {
        match policy {
            ProxyPolicy::LeastConnections => Policy::LeastConnections,
            ProxyPolicy::RoundRobin => Policy::RoundRobin,
            ProxyPolicy::Random => Policy::Random,
            ProxyPolicy::Weighted => Policy::Weighted,
            ProxyPolicy::Latency => Policy::Latency,
        }
    }
}

/// A session holds two sockets; the limit that a shell gives by default is good for five hundred.
pub fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
