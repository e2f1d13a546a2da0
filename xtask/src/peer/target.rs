//! The server that a task talks to: one that runs already, or one started for the task.

use std::path::PathBuf;

use anyhow::Result;
use tempfile::TempDir;

use super::{Peer, Server, cache_folder, readable_by_all};

/// The options by which a task's user names the server.
#[derive(clap::Args)]
pub struct TargetArgs {
    /// Use a running server instead of starting one.
    #[arg(long)]
    dsn: Option<String>,
    /// Which server to start.
    #[arg(long, value_enum, default_value_t = Peer::Phantom)]
    peer: Peer,
    /// A PhantomDB program to start instead of this workspace's release build.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// A server to talk to. One that was started is ended, and its data removed, when this is dropped.
pub struct Target {
    dsn: String,
    _started: Option<(Server, TempDir)>,
}

impl Target {
    pub async fn open(args: &TargetArgs) -> Result<Target> {
        if let Some(dsn) = &args.dsn {
            return Ok(Target {
                dsn: dsn.clone(),
                _started: None,
            });
        }
        let folder = TempDir::new_in(cache_folder()?)?;
        readable_by_all(folder.path())?;
        let program = args.peer.program(args.binary.as_deref())?;
        let server = Server::start(&program, &folder.path().join("data")).await?;
        Ok(Target {
            dsn: server.dsn(),
            _started: Some((server, folder)),
        })
    }

    pub fn dsn(&self) -> &str {
        &self.dsn
    }
}
