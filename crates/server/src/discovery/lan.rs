//! Nodes on the local network, by multicast DNS (RFC 6762) and service discovery (RFC 6763).
//!
//! A node announces itself as a service `_phantomdb._tcp.local.` with a TXT record: `cluster` is the cluster's
//! name, `id` its number if the node has one, `store` its store then, `address` where other nodes reach it. The
//! address is the advertised one and not what the interfaces have, so that a node is one candidate.

use mdns_sd::{Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use membership::discovery::{DEFAULT_PORT, Sighting};
use types::StoreId;

/// What nodes are found by.
const SERVICE: &str = "_phantomdb._tcp.local.";

const CLUSTER_NAME: &str = "cluster";
const CLUSTER: &str = "id";
const STORE: &str = "store";
const ADDRESS: &str = "address";

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// A random number of the process.
    pub node: u64,
    pub cluster_name: String,
    /// Once the node has a cluster.
    pub member: Option<(u128, StoreId)>,
    /// Where other nodes reach it.
    pub address: String,
}

/// A thread that listens and answers. It ends with this.
pub struct Lan {
    daemon: ServiceDaemon,
}

/// Nodes, as they are seen. Ends when newer ones are asked for.
pub struct Sightings(Option<Receiver<ServiceEvent>>);

impl Lan {
    pub fn start() -> Result<Lan, String> {
        let daemon = ServiceDaemon::new().map_err(|error| error.to_string())?;
        Ok(Lan { daemon })
    }

    /// Says who this node is from now on; again when it has found its cluster.
    pub fn announce(&self, announcement: &Announcement) -> Result<(), String> {
        let service = announcement.service()?;
        let registered = self.daemon.register(service);
        registered.map_err(|error| error.to_string())
    }

    /// Asks the network who is there. All that are known are seen at once, others when they answer.
    pub fn sightings(&self) -> Sightings {
        let events = self.daemon.browse(SERVICE);
        if let Err(error) = &events {
            tracing::warn!(%error, "the local network cannot be asked for nodes");
        }
        Sightings(events.ok())
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // It says goodbye for this node. Nobody waits for it.
        if let Err(error) = self.daemon.shutdown() {
            tracing::debug!(%error, "multicast DNS was over already");
        }
    }
}

impl Sightings {
    /// `None`: there will be no more.
    pub async fn next(&self) -> Option<Sighting> {
        let events = self.0.as_ref()?;
        loop {
            if let ServiceEvent::ServiceResolved(service) = events.recv_async().await.ok()?
                && let Some(sighting) = sighting(&service)
            {
                return Some(sighting);
            }
        }
    }
}

/// `None` if the record is not one of ours.
fn sighting(service: &ResolvedService) -> Option<Sighting> {
    let value = |key| service.get_property_val_str(key);
    let cluster = match value(CLUSTER) {
        Some(number) => Some(u128::from_str_radix(number, 16).ok()?),
        None => None,
    };
    Some(Sighting {
        address: value(ADDRESS)?.to_owned(),
        cluster_name: value(CLUSTER_NAME)?.to_owned(),
        cluster,
    })
}

impl Announcement {
    fn service(&self) -> Result<ServiceInfo, String> {
        let instance = format!("{:016x}", self.node);
        let host = format!("phantomdb-{instance}.local.");
        let mut records = vec![
            (CLUSTER_NAME, self.cluster_name.clone()),
            (ADDRESS, self.address.clone()),
        ];
        if let Some((cluster, store)) = self.member {
            records.push((CLUSTER, format!("{cluster:032x}")));
            records.push((STORE, store.to_string()));
        }
        let port = self.address.rsplit(':').next();
        let port = port
            .and_then(|port| port.parse().ok())
            .unwrap_or(DEFAULT_PORT);
        ServiceInfo::new(SERVICE, &instance, &host, "", port, &records[..])
            .map(ServiceInfo::enable_addr_auto)
            .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_read_as_it_is_written() {
        for member in [None, Some((0xabc, StoreId(3)))] {
            let announcement = Announcement {
                node: 77,
                cluster_name: "shop".to_owned(),
                member,
                address: "[2001:db8::1]:7000".to_owned(),
            };
            let service = announcement.service().expect("a good record");
            assert_eq!(service.get_port(), 7000);
            let expected = Sighting {
                address: announcement.address.clone(),
                cluster_name: announcement.cluster_name.clone(),
                cluster: member.map(|(cluster, _)| cluster),
            };
            let seen = sighting(&service.as_resolved_service());
            assert_eq!(seen, Some(expected));
        }
    }

    #[test]
    fn a_name_that_does_not_fit_a_record_is_refused() {
        let announcement = Announcement {
            node: 77,
            cluster_name: "x".repeat(300),
            member: None,
            address: "a:1".to_owned(),
        };
        assert!(announcement.service().is_err());
    }
}
