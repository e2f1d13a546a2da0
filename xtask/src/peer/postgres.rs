//! Starting PostgreSQL with its defaults: a fresh cluster, fsync on, loopback, no password.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::locate::quietly;
use super::place::Place;

/// The command that runs the server on a folder, which is initialised first if it is new.
pub fn command(bin: &Path, data: &Path, place: &Place) -> Result<Command> {
    let owner = Owner::of_servers()?;
    if !data.join("PG_VERSION").exists() {
        fs::create_dir_all(data)?;
        fs::set_permissions(data, fs::Permissions::from_mode(0o700))?;
        owner.give(data)?;
        let mut initdb = Command::new(bin.join("initdb"));
        initdb
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(data);
        owner.run_as(&mut initdb);
        quietly(&mut initdb).context("initdb")?;
    }
    let mut postgres = place.command(&bin.join("postgres"), "QUIT");
    postgres.arg("-D").arg(data).args([
        "-p",
        &place.sql_port.to_string(),
        "-c",
        &format!("listen_addresses={}", place.host),
    ]);
    // No socket in a shared folder: two servers of two tasks must not meet there.
    postgres.args(["-c", "unix_socket_directories="]);
    owner.run_as(&mut postgres);
    Ok(postgres)
}

/// Copies a running server into a new folder, as a standby that streams from it through the slot `name`.
pub fn base_backup(bin: &Path, primary: &Place, data: &Path, name: &str) -> Result<()> {
    let owner = Owner::of_servers()?;
    fs::create_dir_all(data)?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700))?;
    owner.give(data)?;
    let mut backup = Command::new(bin.join("pg_basebackup"));
    backup
        .args([
            "--write-recovery-conf",
            "--create-slot",
            "--checkpoint=fast",
        ])
        .args(["--wal-method=stream", &format!("--slot={name}")])
        .args(["--username=postgres", &format!("--host={}", primary.host)])
        .arg(format!("--port={}", primary.sql_port))
        .arg("-D")
        .arg(data);
    owner.run_as(&mut backup);
    quietly(&mut backup).context("pg_basebackup")
}

/// The user that the server runs as: PostgreSQL refuses to run as root.
struct Owner(Option<(u32, u32)>);

impl Owner {
    fn of_servers() -> Result<Owner> {
        if fs::metadata("/proc/self")?.uid() != 0 {
            return Ok(Owner(None));
        }
        let users = fs::read_to_string("/etc/passwd")?;
        let line = users.lines().find(|line| line.starts_with("postgres:")).context(
            "PostgreSQL does not run as root and there is no user postgres (useradd --system postgres)",
        )?;
        let mut fields = line.split(':').skip(2);
        let mut number = || -> Option<u32> { fields.next()?.parse().ok() };
        let ids = number()
            .zip(number())
            .context("unreadable line of user postgres")?;
        Ok(Owner(Some(ids)))
    }

    fn give(&self, folder: &Path) -> Result<()> {
        if let Some((user, group)) = self.0 {
            chown(folder, Some(user), Some(group))?;
        }
        Ok(())
    }

    fn run_as(&self, command: &mut Command) {
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group).current_dir("/");
        }
    }
}
