//! Three members of etcd on loopback, with their defaults (every write synced).

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::grpc::Channel;
use crate::peer::{stable_ports, tied_to_this_task};

const MEMBERS: usize = 3;
/// Longest wait for a leader.
const READY_LIMIT: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(100);
/// Lines of a member's log that are shown when it does not come up.
const LOG_TAIL_LINES: usize = 10;

struct Member {
    child: Child,
    endpoint: SocketAddr,
    log: PathBuf,
}

pub struct EtcdTrio {
    members: Vec<Member>,
}

impl EtcdTrio {
    pub async fn start(folder: &Path) -> Result<EtcdTrio> {
        let program = program()?;
        let ports = stable_ports(2 * MEMBERS as u16, &[])?;
        let (client_ports, peer_ports) = ports.split_at(MEMBERS);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let all: Vec<String> = peer_ports
            .iter()
            .enumerate()
            .map(|(number, port)| format!("e{number}={}", url(*port)))
            .collect();
        let mut trio = EtcdTrio {
            members: Vec::new(),
        };
        for (number, (client, peer)) in client_ports.iter().zip(peer_ports).enumerate() {
            let (client, peer) = (*client, url(*peer));
            let data = folder.join(format!("etcd{number}"));
            let log = data.with_extension("log");
            let mut command = tied_to_this_task(&program, "KILL");
            for (flag, value) in [
                ("--name", format!("e{number}")),
                ("--data-dir", data.to_string_lossy().into_owned()),
                ("--listen-client-urls", url(client)),
                ("--advertise-client-urls", url(client)),
                ("--listen-peer-urls", peer.clone()),
                ("--initial-advertise-peer-urls", peer.clone()),
                ("--initial-cluster", all.join(",")),
                ("--initial-cluster-state", "new".to_owned()),
            ] {
                command.args([flag, &value]);
            }
            let output = File::create(&log)?;
            let child = command
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output)
                .spawn()?;
            trio.members.push(Member {
                child,
                endpoint: SocketAddr::from(([127, 0, 0, 1], client)),
                log,
            });
        }
        trio.wait_ready().await?;
        Ok(trio)
    }

    /// Waits until every member takes a write.
    async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        for member in &mut self.members {
            loop {
                if let Some(status) = member.child.try_wait()? {
                    bail!("a member ended by itself ({status})\n{}", member.log_tail());
                }
                let attempt = async {
                    let channel = Channel::connect(member.endpoint).await?;
                    channel.put(b"ready", b"yes").await
                };
                let refused = match tokio::time::timeout(Duration::from_secs(5), attempt).await {
                    Ok(Ok(())) => break,
                    Ok(Err(error)) => format!("{error:#}"),
                    Err(_) => "no answer".to_owned(),
                };
                if Instant::now() > deadline {
                    bail!(
                        "no leader within {READY_LIMIT:?}: {refused}\n{}",
                        member.log_tail()
                    );
                }
                tokio::time::sleep(READY_POLL).await;
            }
        }
        Ok(())
    }

    pub fn endpoints(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.endpoint).collect()
    }

    pub fn pids(&self) -> Vec<u32> {
        self.members
            .iter()
            .map(|member| member.child.id())
            .collect()
    }
}

impl Member {
    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn version() -> Result<String> {
    let output = Command::new(program()?).arg("--version").output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(said.lines().next().unwrap_or("unknown").to_owned())
}

fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").context("no PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("etcd"))
        .find(|program| program.exists())
        .context("no etcd (apt-get install etcd-server)")
}
