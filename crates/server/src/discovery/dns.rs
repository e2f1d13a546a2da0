//! Where a name leads.
//!
//! A name without a port is asked for SRV records (RFC 2782), which give hosts and ports: `dns:NAME` asks for
//! `_phantomdb._tcp.NAME`, a name that begins with `_` for itself. If there are none, and for a name with
//! a port, its addresses count. Nothing is cached, and the system's settings are read each time: who searches
//! wants to know what is there now.

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use membership::discovery::{DEFAULT_PORT, JoinAddress, host_port};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

/// For one name, with all its servers and search domains.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one name. A cluster is found by a few of its nodes.
const MAX_ADDRESSES: usize = 128;

/// The addresses of the nodes behind a name, sorted, or why there are none.
pub async fn resolve(name: &JoinAddress) -> Result<Vec<String>, String> {
    let found = match timeout(RESOLVE_TIMEOUT, lookup(name)).await {
        Ok(found) => found,
        Err(_) => Err("the name servers do not answer".to_owned()),
    };
    found.map(|mut addresses| {
        addresses.sort();
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        addresses
    })
}

async fn lookup(name: &JoinAddress) -> Result<Vec<String>, String> {
    match name {
        JoinAddress::Node { host, port } => Ok(vec![host_port(host, *port)]),
        JoinAddress::Dns {
            name,
            port: Some(port),
        } => addresses(name, *port).await,
        JoinAddress::Dns { name, port: None } if name.starts_with('_') => services(name).await,
        JoinAddress::Dns { name, port: None } => {
            // No records, or no server to ask: the name may be one of /etc/hosts.
            match services(&format!("_phantomdb._tcp.{name}")).await {
                Ok(found) if !found.is_empty() => Ok(found),
                _ => addresses(name, DEFAULT_PORT).await,
            }
        }
    }
}

/// Of one family only: a node has an address of each, and must not count twice.
async fn addresses(name: &str, port: u16) -> Result<Vec<String>, String> {
    let found = tokio::net::lookup_host((name, port)).await;
    let found: Vec<SocketAddr> = found.map_err(|error| error.to_string())?.collect();
    let has_v4 = found.iter().any(SocketAddr::is_ipv4);
    let of_family = found.iter().filter(|address| address.is_ipv4() == has_v4);
    Ok(of_family.map(ToString::to_string).collect())
}

/// Hosts and ports of SRV records.
async fn services(name: &str) -> Result<Vec<String>, String> {
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
    let resolver = resolver.map_err(|error| error.to_string())?;
    services_by(&resolver, name).await
}

pub(super) async fn services_by(
    resolver: &TokioResolver,
    name: &str,
) -> Result<Vec<String>, String> {
    let found = match resolver.srv_lookup(name).await {
        Ok(found) => found,
        Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let records = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(service) => Some(service),
            _ => None,
        });
    let hosts = records.map(|service| {
        let host = service.target.to_utf8();
        host_port(host.trim_end_matches('.'), service.port)
    });
    Ok(hosts.collect())
}
