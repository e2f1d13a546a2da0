//! A node of the demo, in a temporary folder.

use super::child::{DemoChild, free};
use std::path::Path;
use tempfile::TempDir;

/// The ports of `phantomdb start`; any free ones if they are taken.
const SQL_ADDR: &str = "127.0.0.1:5450";
const RPC_ADDR: &str = "127.0.0.1:5451";
const HTTP_ADDR: &str = "127.0.0.1:5452";

pub struct DemoNode {
    pub process: DemoChild,
    folder: Option<TempDir>,
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
        let data = folder.path().to_string_lossy().into_owned();
        let (sql, rpc, http) = (free(SQL_ADDR)?, free(RPC_ADDR)?, free(HTTP_ADDR)?);
        let mut arguments = vec!["start", "--data", &data];
        arguments.extend(["--sql-addr", &sql, "--rpc-addr", &rpc, "--http-addr", &http]);
        arguments.extend(join.into_iter().flat_map(|join| ["--join", join]));
        Ok(DemoNode {
            process: DemoChild::start(&arguments).await?,
            folder: Some(folder),
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
        self.process.stop().await;
        if let Some(folder) = self.folder.take()
            && let Err(error) = folder.close()
        {
            eprintln!("the demo's folder could not be removed: {error}");
        }
    }
}
