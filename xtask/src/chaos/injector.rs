//! Carries faults out, and ends them.

use std::time::Duration;

use anyhow::{Context, Result};

use super::schedule::{Fault, Kind};
use crate::cluster::clock::Clock;
use crate::cluster::disk::SmallDisk;
use crate::cluster::{Cluster, State, view};
use crate::peer::connect;

/// Size of the disk that can be full, in MiB: room for the whole run's data, in memory.
const DISK_MIB: u32 = 1024;
/// Looking for the lease holder must not hold up the schedule.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// A cluster that can be hurt.
pub struct Injector {
    pub cluster: Cluster,
    clocks: Vec<Clock>,
    disk: Option<SmallDisk>,
}

impl Injector {
    /// Gives the nodes clocks and disks of their own where the kinds of fault need them; starts nothing.
    pub fn equip(mut cluster: Cluster, kinds: &[Kind]) -> Result<Injector> {
        let mut clocks = Vec::new();
        if kinds.iter().any(|kind| kind.needs_clocks()) {
            for number in cluster.numbers() {
                let node = cluster.node_mut(number);
                let file = node.data().with_extension("clock");
                clocks.push(Clock::install(&mut node.place, &file)?);
            }
        }
        let disk = match kinds.contains(&Kind::DiskFull) {
            true => Some(SmallDisk::mount(
                cluster.node(cluster.len()).data(),
                DISK_MIB,
            )?),
            false => None,
        };
        Ok(Injector {
            cluster,
            clocks,
            disk,
        })
    }

    pub async fn begin(&mut self, fault: &Fault) -> Result<()> {
        let all: Vec<usize> = self.cluster.numbers().collect();
        let others =
            |node: usize| -> Vec<usize> { all.iter().copied().filter(|n| *n != node).collect() };
        match fault {
            Fault::Kill(node) => self.cluster.node_mut(*node).kill()?,
            Fault::KillAll => {
                for node in &all {
                    self.cluster.node_mut(*node).kill()?;
                }
            }
            Fault::Stop(node) => self.cluster.node_mut(*node).stop()?,
            Fault::Pause(node) => self.cluster.node_mut(*node).pause(),
            Fault::CutOne(node) => self.network()?.part(&[*node], &others(*node))?,
            Fault::CutHolder => {
                let holder = self.lease_holder().await;
                self.network()?.part(&[holder], &others(holder))?;
            }
            Fault::CutHalves(group) => {
                let rest: Vec<usize> = all.iter().copied().filter(|n| !group.contains(n)).collect();
                self.network()?.part(group, &rest)?;
            }
            Fault::Mute(node) => {
                for other in others(*node) {
                    self.network()?.block(*node, other)?;
                }
            }
            Fault::Deaf(node) => {
                for other in others(*node) {
                    self.network()?.block(other, *node)?;
                }
            }
            Fault::Ring => self.ring(all.len())?,
            Fault::Loss(percent) => self.network()?.lose(*percent)?,
            Fault::Delay(millis) => self.network()?.delay(*millis, *millis)?,
            Fault::Slow(node) => self.network()?.slow(*node)?,
            Fault::DiskFull(_) => {
                self.disk.as_ref().context("no small disk")?.fill()?;
            }
            Fault::Clock { node, millis } => self.clocks[node - 1].set(*millis)?,
        }
        Ok(())
    }

    /// Ends everything that is wrong at the moment; nodes that are down are started, and may still be recovering.
    pub fn heal(&mut self) -> Result<()> {
        if let Some(network) = self.cluster.namespaces() {
            network.heal()?;
        }
        if let Some(disk) = &self.disk {
            disk.empty()?;
        }
        for clock in &self.clocks {
            clock.set(0)?;
        }
        for number in self.cluster.numbers() {
            self.cluster.node_mut(number).resume();
            if self.cluster.node(number).state() == State::Down {
                self.cluster.respawn(number)?;
            }
        }
        Ok(())
    }

    /// Each node loses the link to the one opposite of it.
    fn ring(&mut self, nodes: usize) -> Result<()> {
        let reach = (nodes - 1) / 2;
        let network = self.network()?;
        for a in 1..=nodes {
            for b in a + 1..=nodes {
                let apart = (b - a).min(nodes - (b - a));
                if apart > reach.div_ceil(2) {
                    network.part(&[a], &[b])?;
                }
            }
        }
        Ok(())
    }

    fn network(&mut self) -> Result<&mut crate::cluster::Namespaces> {
        self.cluster
            .namespaces()
            .context("the fault needs --network namespaces")
    }

    /// The node with most leases; the first one if nobody can be asked.
    async fn lease_holder(&self) -> usize {
        let asked = async {
            let session = connect(&self.cluster.client_dsns()[0]).await.ok()?;
            view::leases(&session).await.ok()?
        };
        let leases = tokio::time::timeout(LOOK_LIMIT, asked).await.ok().flatten();
        let held = |node: &usize| {
            let address = self.cluster.node(*node).place.rpc_address();
            let leases = leases.iter().flatten();
            leases.filter(|lease| lease.address == address).count()
        };
        self.cluster.numbers().max_by_key(held).unwrap_or(1)
    }
}
