//! A process of the demo: this program again, as a child that ends with the demo.

use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a process may take to be ready, and to stop.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

const ANY_PORT: &str = "127.0.0.1:0";

pub struct DemoChild {
    child: Child,
    /// Where clients connect.
    pub url: String,
}

impl DemoChild {
    /// Starts `phantomdb` with these arguments, and waits until it says where clients connect.
    pub async fn start(arguments: &[&str]) -> Result<DemoChild, String> {
        let mut child =
            spawn(arguments).map_err(|error: io::Error| format!("cannot start: {error}"))?;
        let Some(stdout) = child.stdout.take() else {
            return Err("the process has no output".to_string());
        };
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(START_TIMEOUT, lines.next_line())
            .await
            .map_err(|_| format!("{} was not ready after {START_TIMEOUT:?}", arguments[0]))?
            .map_err(|error| format!("the output of {}: {error}", arguments[0]))?;
        let url = line
            .as_deref()
            .and_then(|line| {
                line.split_whitespace()
                    .find(|word| word.starts_with("postgres://"))
            })
            .ok_or("it did not start; its message is above")?
            .to_string();
        // It says no more, but must never block on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(DemoChild { child, url })
    }

    /// For `kill -9`, by which a node's end can be tried.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub async fn stop(&mut self) {
        // It ends with its standard input.
        drop(self.child.stdin.take());
        let stopped = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await;
        if stopped.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

fn spawn(arguments: &[&str]) -> io::Result<Child> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command
        .args(arguments)
        .arg("--until-stdin-ends")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // A Ctrl-C at the terminal is for the shell, not for the node.
        .process_group(0);
    Command::from(command).kill_on_drop(true).spawn()
}

/// The address itself if nobody listens there, else one with a port that is free now.
pub fn free(address: &str) -> Result<String, String> {
    let listener = TcpListener::bind(address).or_else(|_| TcpListener::bind(ANY_PORT));
    let address = listener.and_then(|listener| listener.local_addr());
    let address = address.map_err(|error| format!("no port is free: {error}"))?;
    Ok(address.to_string())
}
