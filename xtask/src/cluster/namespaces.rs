//! Network namespaces on a bridge, and the faults between them.
//!
//! Packets between nodes are dropped by nftables where they arrive. Clients and the proxy stand on the bridge
//! itself and are never cut off: they see what a node does when it has lost its peers. A slow link is a token
//! bucket (`tc … tbf`); delay is `delay.py` (many kernels lack `netem`), which takes the routes between the nodes
//! over while it runs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::peer::{Place, quietly, runs, tied_to_this_task, workspace_folder};

/// All names begin with this and the process id of the task, in at most 15 characters (Linux, IFNAMSIZ).
const PREFIX: &str = "phx";
const SQL_PORT: u16 = 5450;
const RPC_PORT: u16 = 5451;
const HTTP_PORT: u16 = 5452;
/// A slow link: this many bits a second, so that a batch of log entries takes noticeably long …
const SLOW_RATE: &str = "2mbit";
/// … and at most this much waits for it.
const SLOW_LATENCY: &str = "500ms";
/// What passes a slow link at once; at least a few full packets.
const SLOW_BURST: &str = "16kb";

pub struct Namespaces {
    prefix: String,
    /// The first three numbers of all addresses: `10.x.y`.
    subnet: String,
    /// The numbers of the nodes, which are also the last numbers of their addresses.
    members: Vec<usize>,
    delay: Option<Child>,
}

impl Namespaces {
    /// Makes the bridge.
    pub fn open() -> Result<Namespaces> {
        for program in ["ip", "nft", "tc"] {
            let there = Command::new(program)
                .arg("-V")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            ensure!(
                there.is_ok(),
                "no {program} (apt-get install iproute2 nftables)"
            );
        }
        remove_leftovers();
        let id = std::process::id();
        let namespaces = Namespaces {
            prefix: format!("{PREFIX}{id}"),
            subnet: free_subnet(id)?,
            members: Vec::new(),
            delay: None,
        };
        let bridge = namespaces.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"]).context("namespaces need root")?;
        let address = format!("{}.254/24", namespaces.subnet);
        ip(&["address", "add", &address, "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        Ok(namespaces)
    }

    /// Makes the namespace of a node and tells its addresses.
    pub fn add(&mut self, number: usize) -> Result<Place> {
        let (name, outer) = (self.name(number), format!("{}v{number}", self.prefix));
        ip(&["netns", "add", &name])?;
        self.members.push(number);
        ip(&[
            "link", "add", &outer, "type", "veth", "peer", "name", "eth0", "netns", &name,
        ])?;
        ip(&["link", "set", &outer, "master", &self.bridge(), "up"])?;
        let address = format!("{}/24", self.address(number));
        ip(&["-n", &name, "address", "add", &address, "dev", "eth0"])?;
        ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        self.nft(number, "add table inet phantom")?;
        self.nft(
            number,
            "add chain inet phantom in { type filter hook input priority 0 ; }",
        )?;
        Ok(Place {
            host: self.address(number),
            sql_port: SQL_PORT,
            rpc_port: RPC_PORT,
            http_port: HTTP_PORT,
            namespace: Some(name),
            environment: Vec::new(),
            arguments: Vec::new(),
        })
    }

    /// Nothing that `from` sends reaches `to` any more; the other direction stays.
    pub fn block(&self, from: usize, to: usize) -> Result<()> {
        let rule = format!(
            "add rule inet phantom in ip saddr {} drop",
            self.address(from)
        );
        self.nft(to, &rule)
    }

    /// Cuts every link between the two groups, in both directions.
    pub fn part(&self, one: &[usize], other: &[usize]) -> Result<()> {
        for a in one {
            for b in other {
                self.block(*a, *b)?;
                self.block(*b, *a)?;
            }
        }
        Ok(())
    }

    /// So many of a hundred packets between nodes are lost.
    pub fn lose(&self, percent: u32) -> Result<()> {
        for to in &self.members {
            let peers: Vec<String> = self.peers(*to).map(|peer| self.address(peer)).collect();
            if !peers.is_empty() {
                let rule = format!(
                    "add rule inet phantom in ip saddr {{ {} }} numgen random mod 100 < {percent} drop",
                    peers.join(", ")
                );
                self.nft(*to, &rule)?;
            }
        }
        Ok(())
    }

    /// What the node sends goes through a thin pipe.
    pub fn slow(&self, number: usize) -> Result<()> {
        quietly(Command::new("tc").args(["-n", &self.name(number)]).args([
            "qdisc",
            "replace",
            "dev",
            "eth0",
            "root",
            "tbf",
            "rate",
            SLOW_RATE,
            "burst",
            SLOW_BURST,
            "latency",
            SLOW_LATENCY,
        ]))
    }

    /// Packets between nodes arrive this much later, or up to `jitter_millis` more. The first call decides until
    /// [`Namespaces::heal`].
    pub fn delay(&mut self, millis: u32, jitter_millis: u32) -> Result<()> {
        if self.delay.is_some() {
            return Ok(());
        }
        let mut command = tied_to_this_task(Path::new("/usr/bin/env"), "KILL");
        command
            .arg("python3")
            .arg(workspace_folder().join("xtask/cluster/delay.py"));
        command.args([millis.to_string(), jitter_millis.to_string()]);
        for member in &self.members {
            command.arg(format!("{}={}", self.name(*member), self.address(*member)));
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("delay.py has no output")?;
        self.delay = Some(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() != "up" {
            bail!("delay.py did not start: {line}");
        }
        for member in &self.members {
            let name = self.name(*member);
            ip(&["-n", &name, "link", "set", "slow0", "up"])?;
            for peer in self.peers(*member) {
                let route = format!("{}/32", self.address(peer));
                let source = self.address(*member);
                ip(&[
                    "-n", &name, "route", "replace", &route, "dev", "slow0", "src", &source,
                ])?;
            }
        }
        Ok(())
    }

    /// Ends all faults.
    pub fn heal(&mut self) -> Result<()> {
        self.end_delay();
        for member in &self.members {
            self.nft(*member, "flush chain inet phantom in")?;
            // There is nothing to delete on a link that is not slow.
            let _ = quietly(
                Command::new("tc")
                    .args(["-n", &self.name(*member)])
                    .args(["qdisc", "del", "dev", "eth0", "root"]),
            );
        }
        Ok(())
    }

    /// The devices of the delay, and with them the routes, vanish with its process.
    fn end_delay(&mut self) {
        if let Some(mut child) = self.delay.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn peers(&self, of: usize) -> impl Iterator<Item = usize> {
        self.members.iter().copied().filter(move |peer| *peer != of)
    }

    fn name(&self, number: usize) -> String {
        format!("{}n{number}", self.prefix)
    }

    fn address(&self, number: usize) -> String {
        format!("{}.{number}", self.subnet)
    }

    fn bridge(&self) -> String {
        format!("{}b", self.prefix)
    }

    fn nft(&self, number: usize, rule: &str) -> Result<()> {
        quietly(Command::new("ip").args(["netns", "exec", &self.name(number), "nft", rule]))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.end_delay();
        for member in &self.members {
            // The pair of devices that leads into a namespace goes with it.
            let _ = ip(&["netns", "del", &self.name(*member)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    quietly(Command::new("ip").args(arguments))
}

/// A /24 below 10.0.0.0/8 that no device of this machine uses.
fn free_subnet(id: u32) -> Result<String> {
    let output = Command::new("ip").args(["-o", "-4", "address"]).output()?;
    let used = String::from_utf8_lossy(&output.stdout);
    (0..=255u32)
        .map(|step| format!("10.{}.{}", 64 + (id / 256) % 128, (id + step) % 256))
        .find(|subnet| !used.contains(&format!(" {subnet}.")))
        .context("no free subnet")
}

/// Removes what tasks have left that were killed.
fn remove_leftovers() {
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| owner_of(name).is_some_and(|pid| !runs(pid)))
            .collect()
    };
    for name in names("/run/netns") {
        let _ = ip(&["netns", "del", &name]);
    }
    for name in names("/sys/class/net") {
        let _ = ip(&["link", "del", &name]);
    }
}

/// The process id in a name that one of these tasks has given.
fn owner_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_task() {
        assert_eq!(owner_of("phx4194304n9"), Some(4194304));
        assert_eq!(owner_of("phx12b"), Some(12));
        assert_eq!(owner_of("phx"), None);
        assert_eq!(owner_of("eth0"), None);
        assert!("phx4194304v9".len() <= 15, "the kernel's limit");
    }
}
