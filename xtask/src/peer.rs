//! Servers under test: how to get their programs, start, kill and stop them.
//!
//! A [`Program`] is an installed server (a PhantomDB binary or a PostgreSQL bin folder). A [`Server`] is
//! one running process with its data folder. A server never outlives the task: dropping it ends the
//! process by its id, and where the `setpriv` program is there the kernel does so if the task itself dies.

mod connection;
mod locate;
mod place;
pub mod postgres;
mod process;
mod target;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

pub use connection::{Session, connect, describe, sqlstate, try_connect};
pub use locate::{
    Program, cache_folder, phantom_program, postgres_program, quietly, readable_by_all,
    target_folder, workspace_folder,
};
pub use place::{Place, stable_ports};
pub use process::{OUT_OF_TIME, children_of, cpu_seconds, runs, signal, tied_to_this_task, within};
pub use target::{Target, TargetArgs};

/// Longest wait for a started server to answer: a restart that replays a long log is still a restart.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two attempts to reach a server that starts; it bounds the error of a restart time.
const READY_POLL: Duration = Duration::from_millis(5);
/// Longest wait for a server to end by itself after the polite signal.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a server's log is shown when it does not start.
const LOG_TAIL_LINES: usize = 20;

/// Which database a task talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// The database of this workspace.
    Phantom,
    /// A real PostgreSQL, to prove the task itself.
    Postgres,
}

impl Peer {
    /// Finds or builds the program: `binary` overrides the release build of this workspace.
    pub fn program(self, binary: Option<&Path>) -> Result<Program> {
        match self {
            Peer::Phantom => phantom_program(binary),
            Peer::Postgres => postgres_program(),
        }
    }

    /// The superuser's name, which is also the database's.
    pub fn user(self) -> &'static str {
        match self {
            Peer::Phantom => "phantom",
            Peer::Postgres => "postgres",
        }
    }
}

/// One running server.
pub struct Server {
    child: Child,
    peer: Peer,
    host: String,
    port: u16,
    log: PathBuf,
}

impl Server {
    /// Starts the program on a data folder (made if missing) and waits until it answers a query.
    pub async fn start(program: &Program, data: &Path) -> Result<Server> {
        let mut server = Server::spawn(program, data)?;
        server.wait_ready().await?;
        Ok(server)
    }

    /// Starts the program and returns at once: the server may still be recovering.
    pub fn spawn(program: &Program, data: &Path) -> Result<Server> {
        Server::spawn_at(program, data, &Place::loopback()?)
    }

    /// As [`Server::spawn`], at addresses that the caller has chosen.
    pub fn spawn_at(program: &Program, data: &Path, place: &Place) -> Result<Server> {
        let log = data.with_extension("log");
        let mut command = match program {
            Program::Phantom { binary } => {
                fs::create_dir_all(data)?;
                let mut command = place.command(binary, "KILL");
                command.arg("start").arg("--data").arg(data);
                command.args(place.phantom_arguments());
                command
            }
            Program::Postgres { bin } => postgres::command(bin, data, place)?,
        };
        let output = File::options().create(true).append(true).open(&log)?;
        let child = command
            .args(&place.arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.path().display()))?;
        Ok(Server {
            child,
            peer: program.peer(),
            host: place.host.clone(),
            port: place.sql_port,
            log,
        })
    }

    /// Waits until the server answers a query.
    pub async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended by itself ({status})\n{}", self.log_tail());
            }
            let refused = match try_connect(&self.dsn()).await {
                Ok(session) => match session.simple_query("SELECT 1").await {
                    Ok(_) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if Instant::now() > deadline {
                bail!(
                    "the server did not answer within {READY_TIMEOUT:?}: {}\n{}",
                    describe(&refused),
                    self.log_tail()
                );
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The process id of the server (of the postmaster, for PostgreSQL).
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The superuser's name, which is also the database's.
    pub fn user(&self) -> &'static str {
        self.peer.user()
    }

    pub fn dsn(&self) -> String {
        self.dsn_of(self.peer.user())
    }

    /// The address of another database.
    pub fn dsn_of(&self, database: &str) -> String {
        format!(
            "postgres://{user}@{host}:{port}/{database}",
            user = self.peer.user(),
            host = self.host,
            port = self.port
        )
    }

    /// `kill -9`: the server and all its processes at once.
    pub fn kill(&mut self) -> Result<()> {
        let children = process::children_of(self.pid());
        self.child.kill()?;
        process::signal("KILL", &children);
        self.child.wait()?;
        // PostgreSQL refuses to start while one of its old processes is attached to its memory.
        process::wait_gone(&children, STOP_TIMEOUT);
        Ok(())
    }

    /// The polite end: SIGTERM (for PostgreSQL SIGINT, which does not wait for clients), then exit code 0.
    pub fn stop(&mut self) -> Result<()> {
        let signal = match self.peer {
            Peer::Phantom => "TERM",
            Peer::Postgres => "INT",
        };
        process::signal(signal, &[self.pid()]);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                if !status.success() {
                    bail!(
                        "the server ended with {status} after SIG{signal}\n{}",
                        self.log_tail()
                    );
                }
                return Ok(());
            }
            std::thread::sleep(READY_POLL);
        }
        self.kill()?;
        bail!(
            "the server did not end within {STOP_TIMEOUT:?} after SIG{signal}\n{}",
            self.log_tail()
        )
    }

    /// The last lines of what the server printed.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        format!("--- end of {}:\n{}", self.log.display(), shown.join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.kill();
        }
    }
}
