//! `phantomdb proxy` as a process, and other commands of the program that speak to a cluster.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::peer::{Peer, Place, describe, stable_ports, tied_to_this_task, try_connect, within};

/// Longest wait for the proxy to let a client through.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(20);
/// How much of the log is shown when the proxy does not start.
const LOG_TAIL_LINES: usize = 20;
/// Longest run of a command: a node that is decommissioned hands all its replicas over first.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);

/// A running proxy; it is ended when this is dropped.
pub struct Proxy {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Proxy {
    /// Starts the proxy and waits until a client gets through it. It finds the nodes by the RPC addresses of some.
    pub async fn start(binary: &Path, rpc_addresses: &[String], log: PathBuf) -> Result<Proxy> {
        let port = stable_ports(1, &[])?[0];
        let mut command = tied_to_this_task(binary, "KILL");
        command.args(["proxy", "--join", &rpc_addresses.join(",")]);
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--http-addr", "none"]);
        let output = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start the proxy")?;
        let mut proxy = Proxy { child, port, log };
        proxy.wait_ready().await?;
        Ok(proxy)
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the proxy ended by itself ({status})\n{}", self.log_tail());
            }
            let refused = match try_connect(&self.dsn()).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if Instant::now() > deadline {
                bail!(
                    "the proxy let nobody through within {READY_TIMEOUT:?}: {}\n{}",
                    describe(&refused),
                    self.log_tail()
                );
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    pub fn dsn(&self) -> String {
        let user = Peer::Phantom.user();
        format!("postgres://{user}@127.0.0.1:{}/{user}", self.port)
    }

    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        format!("--- end of {}:\n{}", self.log.display(), shown.join("\n"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program with arguments and the address of a node; gives what it prints.
pub fn client_command(binary: &Path, place: &Place, arguments: &[&str]) -> Result<String> {
    let user = Peer::Phantom.user();
    let dsn = format!("postgres://{user}@{}:{}/{user}", place.host, place.sql_port);
    let output = within(COMMAND_LIMIT, binary)
        .args(arguments)
        .args(["--url", &dsn])
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "phantomdb {}: {}: {said}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(said)
}
