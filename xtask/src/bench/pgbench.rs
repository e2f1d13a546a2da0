//! pgbench, the same program against both servers.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::peer::{OUT_OF_TIME, Server, Session, cpu_seconds, describe, within};

pub const DATA: &str = "pgbench";
/// Ten branches, a million accounts: larger than the CPU's caches, smaller than memory.
const SCALE: u32 = 10;
/// pgbench's own threads: it must not starve the server of the cores they share.
const THREADS: u32 = 2;
/// Loading that takes longer has failed.
const PREPARE_LIMIT: Duration = Duration::from_secs(600);
/// How much longer than asked for a run may take: statements in flight at its end are waited for.
const RUN_GRACE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub enum Script {
    SelectOnly,
    SimpleUpdate,
    TpcB,
}

#[derive(Clone, Copy, Debug)]
pub enum Mode {
    Simple,
    Prepared,
}

#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub script: Script,
    pub mode: Mode,
    pub clients: u32,
}

impl Run {
    pub fn name(self) -> String {
        let script = match self.script {
            Script::SelectOnly => "select",
            Script::SimpleUpdate => "simple update",
            Script::TpcB => "tpc-b",
        };
        let mode = match self.mode {
            Mode::Simple => "simple",
            Mode::Prepared => "prepared",
        };
        let clients = if self.clients == 1 {
            "client"
        } else {
            "clients"
        };
        format!("{script} {mode}, {} {clients}", self.clients)
    }
}

pub struct Figures {
    pub tps: f64,
    pub latency_ms: f64,
    /// What the server (not pgbench) spent on one transaction.
    pub server_cpu_micros: f64,
}

/// Whom pgbench talks to.
pub struct At {
    /// May name several hosts.
    pub dsn: String,
    /// The processes whose CPU time is counted.
    pub pids: Vec<u32>,
}

impl At {
    pub fn of(server: &Server) -> At {
        At {
            dsn: server.dsn(),
            pids: vec![server.pid()],
        }
    }

    /// CPU seconds of all processes so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.pids.iter().map(|pid| cpu_seconds(*pid)).sum()
    }
}

/// Makes and fills pgbench's tables.
pub fn prepare(tools: &Path, dsn: &str) -> Result<()> {
    pgbench(
        tools,
        dsn,
        PREPARE_LIMIT,
        &["-i".to_owned(), "-q".to_owned(), format!("-s{SCALE}")],
    )?;
    Ok(())
}

/// Runs for some seconds. Autovacuum is the server's own affair (`-n`), and the history is kept so that the
/// sums can be checked at the end.
pub fn run(tools: &Path, at: &At, run: Run, seconds: u32) -> Result<Figures> {
    let script = match run.script {
        Script::SelectOnly => "select-only",
        Script::SimpleUpdate => "simple-update",
        Script::TpcB => "tpcb-like",
    };
    let mode = match run.mode {
        Mode::Simple => "simple",
        Mode::Prepared => "prepared",
    };
    let cpu_before = at.cpu_seconds()?;
    let output = pgbench(
        tools,
        &at.dsn,
        Duration::from_secs(seconds.into()) + RUN_GRACE,
        &[
            "-n".to_owned(),
            format!("-b{script}"),
            format!("-M{mode}"),
            format!("-c{}", run.clients),
            format!("-j{}", run.clients.min(THREADS)),
            format!("-T{seconds}"),
        ],
    )?;
    if let Some(failed) =
        figure(&output, "number of failed transactions: ").filter(|failed| *failed > 0.0)
    {
        bail!("{failed} transactions failed");
    }
    let cpu_seconds = at.cpu_seconds()? - cpu_before;
    let transactions = figure(&output, "number of transactions actually processed: ")
        .context("pgbench printed no number of transactions")?;
    Ok(Figures {
        server_cpu_micros: cpu_seconds * 1e6 / transactions,
        tps: figure(&output, "tps = ").context("pgbench printed no tps")?,
        latency_ms: figure(&output, "latency average = ").context("pgbench printed no latency")?,
    })
}

fn pgbench(tools: &Path, dsn: &str, limit: Duration, arguments: &[String]) -> Result<String> {
    let output = within(limit, tools.join("pgbench"))
        .args(arguments)
        .arg(dsn)
        .stdin(Stdio::null())
        .output()?;
    if output.status.code() == Some(OUT_OF_TIME) {
        bail!("pgbench did not end within {limit:?}");
    }
    if !output.status.success() {
        // The last lines say why; before them stands what pgbench was about to do.
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = said.lines().collect();
        bail!(
            "pgbench ({}): {}",
            output.status,
            lines[lines.len().saturating_sub(3)..].join(" | ")
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn figure(output: &str, label: &str) -> Option<f64> {
    let line = output.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fails unless accounts agree with the history and tellers with branches; says the sums.
pub async fn agreeing_sums(session: &Session) -> Result<String> {
    let mut sums = Vec::new();
    // The simple-update script changes accounts and history only; so tellers and branches are compared with
    // each other, and accounts with the history.
    for (table, column) in [
        ("pgbench_accounts", "abalance"),
        ("pgbench_history", "delta"),
        ("pgbench_tellers", "tbalance"),
        ("pgbench_branches", "bbalance"),
    ] {
        let sql = format!("SELECT coalesce(sum({column}), 0)::bigint FROM {table}");
        let row = session
            .query_one(&sql, &[])
            .await
            .map_err(|error| anyhow!("{}: {sql}", describe(&error)))?;
        sums.push(row.get::<_, i64>(0));
    }
    if sums[0] != sums[1] || sums[2] != sums[3] {
        bail!(
            "accounts {}, history {}, tellers {}, branches {}",
            sums[0],
            sums[1],
            sums[2],
            sums[3]
        );
    }
    Ok(format!(
        "accounts and history sum to {}, tellers and branches to {}",
        sums[0], sums[2]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_pgbench() {
        let output = "latency average = 0.123 ms\nnumber of failed transactions: 0 (0.000%)\n\
            tps = 65012.345678 (without initial connection time)\n";
        assert_eq!(figure(output, "tps = "), Some(65012.345678));
        assert_eq!(figure(output, "latency average = "), Some(0.123));
        assert_eq!(figure(output, "number of failed transactions: "), Some(0.0));
        assert_eq!(figure(output, "nothing of the kind"), None);
    }
}
