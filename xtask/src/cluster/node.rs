//! One node: a process that comes and goes, at an address and on a folder that stay.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{http, view};
use crate::peer::{Peer, Place, Program, Server, signal, try_connect};

/// Longest wait for a started node to answer a query: it may have a long log to replay, and a quorum to find.
const READY_TIMEOUT: Duration = Duration::from_secs(90);
/// A node that is asked for its health answers within this, or is not healthy.
const ASK_LIMIT: Duration = Duration::from_secs(3);

/// Between two looks whether a process has ended.
const ENDED_POLL: Duration = Duration::from_millis(50);

/// ```text
///  Down ──spawn──► Running ──pause──► Paused
///    ▲                │  ◄──resume──────┘ │
///    └──kill, stop────┴───────kill────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Down,
    Running,
    Paused,
}

pub struct Node {
    /// From 1 in the order of joining; it is not the node's id in the cluster.
    pub number: usize,
    pub place: Place,
    data: PathBuf,
    peer: Peer,
    state: State,
    server: Option<Server>,
}

impl Node {
    pub fn new(number: usize, place: Place, data: PathBuf) -> Node {
        Node {
            number,
            place,
            data,
            peer: Peer::Phantom,
            state: State::Down,
            server: None,
        }
    }

    /// Starts the process and returns at once.
    pub fn spawn(&mut self, program: &Program) -> Result<()> {
        ensure!(self.state == State::Down, "node {} runs", self.number);
        self.peer = program.peer();
        self.server = Some(Server::spawn_at(program, &self.data, &self.place)?);
        self.state = State::Running;
        Ok(())
    }

    /// Waits until the node answers a query.
    pub async fn wait_ready(&mut self) -> Result<()> {
        let number = self.number;
        let server = self.server.as_mut().context("the node is down")?;
        tokio::time::timeout(READY_TIMEOUT, server.wait_ready())
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {READY_TIMEOUT:?}")))
            .with_context(|| format!("node {number}"))
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    pub fn dsn(&self) -> String {
        let user = self.peer.user();
        format!(
            "postgres://{user}@{}:{}/{user}",
            self.place.host, self.place.sql_port
        )
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.kill()?;
        }
        self.state = State::Down;
        Ok(())
    }

    /// SIGTERM, and the process must end well; one that is paused is let go on, for it could not.
    pub fn stop(&mut self) -> Result<()> {
        self.resume();
        self.state = State::Down;
        match self.server.take() {
            Some(mut server) => server
                .stop()
                .with_context(|| format!("node {}", self.number)),
            None => Ok(()),
        }
    }

    /// Waits until the process ends by itself.
    pub async fn wait_ended(&mut self, limit: Duration) -> Result<()> {
        let began = Instant::now();
        while self.server.as_mut().is_some_and(Server::is_running) {
            ensure!(
                began.elapsed() < limit,
                "node {} still runs after {limit:?}",
                self.number
            );
            tokio::time::sleep(ENDED_POLL).await;
        }
        self.server = None;
        self.state = State::Down;
        Ok(())
    }

    /// SIGSTOP: the process keeps its connections and does nothing.
    pub fn pause(&mut self) {
        if self.state == State::Running {
            signal("STOP", self.pid().as_slice());
            self.state = State::Paused;
        }
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        if self.state == State::Paused {
            signal("CONT", self.pid().as_slice());
            self.state = State::Running;
        }
    }

    /// Says so, once, if the process has ended although nobody asked it to.
    pub fn ended_by_itself(&mut self) -> Option<String> {
        let server = self.server.as_mut()?;
        if server.is_running() {
            return None;
        }
        let tail = server.log_tail();
        self.server = None;
        self.state = State::Down;
        Some(format!("node {} ended by itself\n{tail}", self.number))
    }

    /// What keeps the node from being healthy in a cluster of that many nodes.
    pub async fn complaint(&mut self, nodes: usize) -> Option<String> {
        if self.state != State::Running {
            return Some(format!("{:?}", self.state));
        }
        if let Some(end) = self.ended_by_itself() {
            return Some(end);
        }
        let asked = tokio::time::timeout(ASK_LIMIT, self.ask(nodes)).await;
        match asked {
            Ok(Ok(complaint)) => complaint,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some(format!("no answer within {ASK_LIMIT:?}")),
        }
    }

    async fn ask(&self, nodes: usize) -> Result<Option<String>> {
        let session = try_connect(&self.dsn())
            .await
            .map_err(|error| anyhow::anyhow!(crate::peer::describe(&error)))?;
        session.simple_query("SELECT 1").await?;
        if self.peer == Peer::Postgres {
            return Ok(None);
        }
        let (status, body) = http::get(&self.place.host, self.place.http_port, "/ready").await?;
        if status != 200 {
            return Ok(Some(format!("/ready answers {status}: {}", body.trim())));
        }
        view::complaint(&session, nodes).await
    }
}
