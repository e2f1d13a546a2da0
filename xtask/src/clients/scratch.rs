//! The folder that the drivers are installed into.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::peer::{cache_folder, quietly};

/// What is installed, with the versions that the tours were written against.
const PYTHON_PACKAGES: [&str; 1] = ["psycopg[binary]>=3.2,<4"];
const NODE_PACKAGES: [&str; 3] = ["pg@8", "pg-cursor@2", "pg-copy-streams@7"];

/// A scratch folder: removed at the end unless it is kept for the next run.
pub struct Scratch {
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl Scratch {
    pub fn open(keep: bool) -> Result<Scratch> {
        if keep {
            let folder = cache_folder()?.join("clients");
            fs::create_dir_all(&folder)?;
            return Ok(Scratch {
                folder,
                _temporary: None,
            });
        }
        let temporary = TempDir::new_in(cache_folder()?)?;
        Ok(Scratch {
            folder: temporary.path().to_owned(),
            _temporary: Some(temporary),
        })
    }

    /// The interpreter of a virtual environment that has psycopg.
    pub fn python_with_psycopg(&self) -> Result<PathBuf> {
        let environment = self.folder.join("python");
        let python = environment.join("bin/python");
        self.once("python", || {
            println!(
                "  installing {} into {}",
                PYTHON_PACKAGES.join(" "),
                environment.display()
            );
            quietly(
                Command::new("python3")
                    .args(["-m", "venv"])
                    .arg(&environment),
            )?;
            quietly(
                Command::new(&python)
                    .args([
                        "-m",
                        "pip",
                        "install",
                        "--quiet",
                        "--disable-pip-version-check",
                    ])
                    .args(PYTHON_PACKAGES),
            )
        })
        .context("installing psycopg (needs python3 with venv, and PyPI)")?;
        Ok(python)
    }

    /// A folder whose `node_modules` has node-postgres.
    pub fn folder_with_node_postgres(&self) -> Result<PathBuf> {
        let folder = self.folder.join("node");
        self.once("node", || {
            println!(
                "  installing {} into {}",
                NODE_PACKAGES.join(" "),
                folder.display()
            );
            fs::create_dir_all(&folder)?;
            quietly(
                Command::new("npm")
                    .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
                    .arg(&folder)
                    .args(NODE_PACKAGES),
            )
        })
        .context("installing node-postgres (needs npm)")?;
        Ok(folder)
    }

    /// Installs unless an earlier run did so to the end.
    fn once(&self, name: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
        let done: &Path = &self.folder.join(format!("{name}.installed"));
        if !done.exists() {
            install()?;
            fs::write(done, "")?;
        }
        Ok(())
    }
}
