//! A node of the demo: this program again, as a child, in a temporary folder.

use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long the node may take to be ready, and to stop.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// The ports of `phantomdb start`; any free ones if they are taken.
const SQL_ADDR: &str = "127.0.0.1:5450";
const RPC_ADDR: &str = "127.0.0.1:5451";
const HTTP_ADDR: &str = "127.0.0.1:5452";
const ANY_PORT: &str = "127.0.0.1:0";

pub struct DemoNode {
    child: Child,
    folder: Option<TempDir>,
    pub url: String,
    /// Where other nodes reach it.
    pub rpc: String,
}

impl DemoNode {
    /// The first node, or one that joins the node at `join`.
    pub async fn start(join: Option<&str>) -> Result<DemoNode, String> {
        let folder = tempfile::Builder::new()
            .prefix("phantomdb-demo-")
            .tempdir()
            .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        let cannot = |error: io::Error| format!("cannot start: {error}");
        let rpc = free(RPC_ADDR).map_err(cannot)?;
        let mut child = spawn(folder.path(), &rpc, join).map_err(cannot)?;
        let Some(stdout) = child.stdout.take() else {
            return Err("the node has no output".to_string());
        };
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START_TIMEOUT, lines.next_line())
            .await
            .map_err(|_| format!("the node was not ready after {START_TIMEOUT:?}"))?
            .map_err(|error| format!("the node's output: {error}"))?;
        let url = line
            .as_deref()
            .and_then(|line| {
                line.split_whitespace()
                    .find(|word| word.starts_with("postgres://"))
            })
            .ok_or("the node did not start; its message is above")?
            .to_string();
        // It says no more, but must never block on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(DemoNode {
            child,
            folder: Some(folder),
            url,
            rpc,
        })
    }

    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(TempDir::path)
    }

    /// Keeps the folder on exit.
    pub fn keep_folder(&mut self) {
        if let Some(folder) = &mut self.folder {
            folder.disable_cleanup(true);
        }
    }

    /// Stops the node, then removes its folder.
    pub async fn stop(&mut self) {
        // The node ends with its standard input.
        drop(self.child.stdin.take());
        let stopped = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await;
        if stopped.is_err() {
            let _ = self.child.kill().await;
        }
        if let Some(folder) = self.folder.take()
            && let Err(error) = folder.close()
        {
            eprintln!("the demo's folder could not be removed: {error}");
        }
    }
}

fn spawn(folder: &Path, rpc: &str, join: Option<&str>) -> io::Result<Child> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command
        .arg("start")
        .arg("--data")
        .arg(folder)
        .args(["--sql-addr", &free(SQL_ADDR)?])
        .args(["--http-addr", &free(HTTP_ADDR)?])
        .args(["--rpc-addr", rpc])
        .args(join.into_iter().flat_map(|join| ["--join", join]))
        .arg("--until-stdin-ends")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // A Ctrl-C at the terminal is for the shell, not for the node.
        .process_group(0);
    Command::from(command).kill_on_drop(true).spawn()
}

/// The address itself if nobody listens there, else one with a port that is free now.
fn free(address: &str) -> io::Result<String> {
    let listener = TcpListener::bind(address).or_else(|_| TcpListener::bind(ANY_PORT))?;
    Ok(listener.local_addr()?.to_string())
}
