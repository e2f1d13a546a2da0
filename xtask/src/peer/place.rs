//! Where a server listens, and what surrounds its process.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::process::tied_to_this_task;

/// Ports that stay with a server over its restarts are taken from here: below the range that the kernel
/// gives to outgoing connections, so that none of those sits on the port of a server that is down.
const STABLE_PORTS: std::ops::Range<u16> = 15_000..30_000;

/// The addresses of one server and the surroundings of its process.
#[derive(Clone, Debug)]
pub struct Place {
    /// The IP address that all ports are opened at.
    pub host: String,
    pub sql_port: u16,
    pub rpc_port: u16,
    pub http_port: u16,
    /// The network namespace that the process lives in; nothing: the one of this task.
    pub namespace: Option<String>,
    pub environment: Vec<(String, String)>,
    /// Further arguments of the program.
    pub arguments: Vec<String>,
}

impl Place {
    /// Ports on loopback that were free a moment ago, for a server that is started once.
    pub fn loopback() -> Result<Place> {
        Ok(Place::on_loopback([
            free_port()?,
            free_port()?,
            free_port()?,
        ]))
    }

    /// Given ports on loopback: SQL, RPC, HTTP.
    pub fn on_loopback([sql_port, rpc_port, http_port]: [u16; 3]) -> Place {
        Place {
            host: "127.0.0.1".to_owned(),
            sql_port,
            rpc_port,
            http_port,
            namespace: None,
            environment: Vec::new(),
            arguments: Vec::new(),
        }
    }

    pub fn ports(&self) -> [u16; 3] {
        [self.sql_port, self.rpc_port, self.http_port]
    }

    /// What other nodes join.
    pub fn rpc_address(&self) -> String {
        format!("{}:{}", self.host, self.rpc_port)
    }

    /// A command that runs the program in these surroundings, and that the kernel ends with `signal` when
    /// this task ends.
    pub fn command(&self, program: &Path, signal: &str) -> Command {
        let mut command = match &self.namespace {
            // `ip netns exec` becomes the program, so the process id is the program's own.
            Some(namespace) => {
                let inner = tied_to_this_task(program, signal);
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]);
                command.arg(inner.get_program()).args(inner.get_args());
                command
            }
            None => tied_to_this_task(program, signal),
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The addresses as PhantomDB's `start` takes them.
    pub fn phantom_arguments(&self) -> Vec<String> {
        let flags = [
            ("--sql-addr", self.sql_port),
            ("--rpc-addr", self.rpc_port),
            ("--http-addr", self.http_port),
        ];
        let addresses = flags
            .into_iter()
            .flat_map(|(flag, port)| [flag.to_owned(), format!("{}:{port}", self.host)]);
        addresses.collect()
    }
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Free ports that no outgoing connection can take while their server is down; none of the taken ones, whose servers
/// may be down.
pub fn stable_ports(count: u16, taken: &[u16]) -> Result<Vec<u16>> {
    let first = SmallRng::from_os_rng().random_range(STABLE_PORTS.start..STABLE_PORTS.end - count);
    let free =
        |port: &u16| !taken.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports: Vec<u16> = (first..STABLE_PORTS.end)
        .chain(STABLE_PORTS.start..first)
        .filter(free)
        .take(count.into())
        .collect();
    ensure!(ports.len() == usize::from(count), "no {count} free ports");
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_namespace_is_entered_by_ip() {
        let mut place = Place::on_loopback([1, 2, 3]);
        place.namespace = Some("ns".to_owned());
        let command = place.command(Path::new("/bin/true"), "KILL");
        let words: Vec<_> = command
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        assert_eq!(command.get_program(), "ip");
        assert_eq!(words[..3], ["netns", "exec", "ns"]);
        assert_eq!(words.last().map(AsRef::as_ref), Some("/bin/true"));
    }

    #[test]
    fn stable_ports_are_distinct_and_not_the_kernels() {
        let ports = stable_ports(9, &[]).expect("nine free ports");
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 9);
        assert!(ports.iter().all(|port| STABLE_PORTS.contains(port)));
        let most: Vec<u16> = STABLE_PORTS.filter(|port| *port != ports[0]).collect();
        assert_eq!(stable_ports(1, &most).ok(), Some(vec![ports[0]]));
    }
}
