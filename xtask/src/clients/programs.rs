//! Programs that people run unmodified: psql with its backslash commands, pgbench and sysbench.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::{Step, note};
use crate::bench::agreeing_sums;
use crate::peer::{OUT_OF_TIME, connect, postgres_program, within};

/// How long each pgbench and sysbench run takes, in seconds: long enough to meet conflicts.
const LOAD_SECONDS: u32 = 3;
/// A program that takes longer has failed.
const PROGRAM_LIMIT: Duration = Duration::from_secs(60);

/// psql's side: (name, lines of input, what the output must contain).
const PSQL_STEPS: &[(&str, &[&str], &[&str])] = &[
    (
        "a table, an index, a sequence, comments in SQL",
        &[
            "DROP TABLE IF EXISTS tour_line, tour_psql; DROP SEQUENCE IF EXISTS tour_numbers",
            "CREATE TABLE tour_psql (id serial PRIMARY KEY, name varchar(20) NOT NULL DEFAULT 'x' /* inside */, price numeric(10,2) CHECK (price > 0)) -- at the end\n",
            "CREATE TABLE tour_line (id int GENERATED ALWAYS AS IDENTITY, tour_id int REFERENCES tour_psql ON DELETE CASCADE)",
            "CREATE UNIQUE INDEX tour_psql_name ON tour_psql (name DESC)",
            "CREATE SEQUENCE tour_numbers START 5",
        ],
        &["CREATE TABLE", "CREATE INDEX", "CREATE SEQUENCE"],
    ),
    ("\\l", &["\\l"], &["UTF8"]),
    (
        "\\d",
        &["\\d"],
        &["tour_psql", "tour_psql_id_seq", "sequence"],
    ),
    (
        "\\d of a table",
        &["\\d tour_psql"],
        &[
            "character varying(20)",
            "not null",
            "tour_psql_pkey",
            "PRIMARY KEY",
            "tour_psql_name",
            "Check constraints",
            "Referenced by",
        ],
    ),
    (
        "\\d+ of a table",
        &["\\d+ tour_line"],
        &[
            "generated always as identity",
            "Foreign-key constraints",
            "ON DELETE CASCADE",
        ],
    ),
    (
        "\\d of an index",
        &["\\d tour_psql_name"],
        &["name", "unique"],
    ),
    (
        "\\d of a sequence",
        &["\\d tour_numbers"],
        &["tour_numbers", "bigint"],
    ),
    ("\\dt+", &["\\dt+"], &["tour_psql"]),
    ("\\di+", &["\\di+"], &["tour_psql_pkey", "tour_psql_name"]),
    ("\\ds", &["\\ds"], &["tour_numbers"]),
    ("\\dv", &["\\dv pg_catalog.pg_tables"], &[]),
    ("\\df", &["\\df"], &[]),
    ("\\dn+", &["\\dn+"], &["public"]),
    ("\\du", &["\\du"], &["Superuser"]),
    ("\\dp", &["\\dp tour_psql"], &["tour_psql"]),
    ("\\dT+", &["\\dT+ int4"], &["integer"]),
    ("\\conninfo", &["\\conninfo"], &[]),
    ("\\timing", &["\\timing on", "SELECT 1"], &["Time:"]),
    (
        "\\gdesc",
        &["SELECT 1 AS a, 'x'::varchar(3) AS b \\gdesc"],
        &["integer", "character varying(3)"],
    ),
    (
        "\\gset",
        &["SELECT 41 + 1 AS answer \\gset", "\\echo it is :answer"],
        &["it is 42"],
    ),
    ("\\watch", &["SELECT 'again' \\watch i=0.1 c=2"], &["again"]),
    (
        "\\bind",
        &["SELECT $1::int + 1 AS n \\bind 41 \\g"],
        &["42"],
    ),
    (
        "SQLSTATE, constraint and hint in a verbose error",
        &[
            "\\set VERBOSITY verbose",
            "\\set ON_ERROR_STOP off",
            "INSERT INTO tour_psql (name, price) VALUES ('a', -1)",
        ],
        &["23514", "tour_psql_price_check"],
    ),
    (
        "an error's place in the text",
        &["\\set ON_ERROR_STOP off", "SELECT nothing FROM tour_psql"],
        &["column \"nothing\" does not exist", "LINE 1:"],
    ),
];

pub async fn run(dsn: &str) -> Result<Vec<Step>> {
    let tools = Tools {
        folder: postgres_program()?.path().to_owned(),
        dsn: dsn.to_owned(),
    };
    let mut steps = Vec::new();
    for (name, commands, expected) in PSQL_STEPS {
        steps.push(step(
            &format!("psql: {name}"),
            tools.psql(commands, expected),
        ));
    }
    steps.push(step("psql: \\copy in and out", tools.copy_there_and_back()));
    steps.push(step(
        "psql: a script that fails is left with code 3",
        tools.failing_script(),
    ));
    let clean = "DROP TABLE tour_line, tour_psql; DROP SEQUENCE tour_numbers";
    steps.push(step(
        "psql: clean up",
        tools.psql(&[clean], &["DROP SEQUENCE"]),
    ));

    steps.push(step(
        "pgbench: -i -s 1",
        tools.pgbench(&["-i", "-q", "-s1"]),
    ));
    for (script, mode) in [
        ("tpcb-like", "simple"),
        ("tpcb-like", "extended"),
        ("tpcb-like", "prepared"),
        ("simple-update", "prepared"),
        ("select-only", "simple"),
        ("select-only", "prepared"),
    ] {
        let (b, m, t) = (
            format!("-b{script}"),
            format!("-M{mode}"),
            format!("-T{LOAD_SECONDS}"),
        );
        steps.push(step(
            &format!("pgbench: {script}, {mode}"),
            tools.pgbench(&["-n", "-c4", &b, &m, &t]),
        ));
    }
    let sums = async { agreeing_sums(&connect(dsn).await?).await };
    steps.push(step("pgbench: the sums agree", sums.await.map(drop)));

    if Command::new("sysbench").arg("--version").output().is_ok() {
        for command in ["cleanup", "prepare", "run", "cleanup"] {
            steps.push(step(
                &format!("sysbench: oltp_read_write {command}"),
                tools.sysbench("oltp_read_write", command),
            ));
        }
    } else {
        println!("  sysbench is not installed (apt-get install sysbench): skipped");
    }
    Ok(steps)
}

fn step(name: &str, outcome: Result<()>) -> Step {
    let error = outcome.err().map(|error| format!("{error:#}"));
    note(Step {
        step: name.to_owned(),
        ok: error.is_none(),
        optional: false,
        error,
    })
}

struct Tools {
    folder: PathBuf,
    dsn: String,
}

impl Tools {
    fn psql_command(&self) -> Command {
        let mut command = within(PROGRAM_LIMIT, self.folder.join("psql"));
        command.args([
            "-X",
            "-v",
            "ON_ERROR_STOP=1",
            "-P",
            "pager=off",
            "-d",
            &self.dsn,
        ]);
        command
    }

    /// Gives psql the commands as lines of its input.
    fn psql(&self, commands: &[&str], expected: &[&str]) -> Result<()> {
        let mut script = tempfile::tempfile()?;
        for command in commands {
            // What holds a backslash command ends by itself.
            let end = if command.contains('\\') { "" } else { ";" };
            writeln!(script, "{command}{end}")?;
        }
        script.rewind()?;
        let said = all_output(&run_with(self.psql_command().stdin(script))?);
        for text in expected {
            ensure!(said.contains(text), "{text:?} is not in: {said}");
        }
        Ok(())
    }

    fn copy_there_and_back(&self) -> Result<()> {
        let folder = TempDir::new()?;
        let (sent, back) = (
            folder.path().join("sent.csv"),
            folder.path().join("back.csv"),
        );
        let rows: String = (1..=100)
            .map(|n| format!("{n},\"name, {n}\",{n}.50\n"))
            .collect();
        std::fs::write(&sent, &rows)?;
        self.psql(
            &[
                &format!(
                    "\\copy tour_psql from '{}' with (format csv)",
                    sent.display()
                ),
                &format!(
                    "\\copy (select * from tour_psql order by id) to '{}' with (format csv)",
                    back.display()
                ),
            ],
            &["COPY 100"],
        )?;
        ensure!(
            std::fs::read_to_string(back)? == rows,
            "what came out is not what went in"
        );
        Ok(())
    }

    fn failing_script(&self) -> Result<()> {
        let folder = TempDir::new()?;
        let script = folder.path().join("script.sql");
        std::fs::write(&script, "DELETE FROM tour_psql;\nSELECT 1 / 0;\n")?;
        let output = self
            .psql_command()
            .args(["-1", "-f"])
            .arg(&script)
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            output.status.code() == Some(3),
            "{}: {}",
            output.status,
            all_output(&output)
        );
        // -1 is one transaction: the DELETE before the error is undone.
        self.psql(&["SELECT count(*) FROM tour_psql"], &["100"])
    }

    fn pgbench(&self, arguments: &[&str]) -> Result<()> {
        let mut pgbench = within(PROGRAM_LIMIT, self.folder.join("pgbench"));
        pgbench.args(arguments).args(["-d", &self.dsn]);
        run_quietly(&mut pgbench).map(drop)
    }

    fn sysbench(&self, script: &str, command: &str) -> Result<()> {
        let config: Config = self.dsn.parse()?;
        let Some(Host::Tcp(host)) = config.get_hosts().first() else {
            bail!("the DSN has no host")
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let user = config.get_user().context("the DSN has no user")?;
        let mut sysbench = within(PROGRAM_LIMIT, "sysbench");
        sysbench.args([
            script,
            "--db-driver=pgsql",
            "--tables=2",
            "--table-size=1000",
            "--threads=4",
        ]);
        sysbench
            .arg(format!("--time={LOAD_SECONDS}"))
            .arg(format!("--pgsql-host={host}"));
        sysbench
            .arg(format!("--pgsql-port={port}"))
            .arg(format!("--pgsql-user={user}"));
        sysbench
            .arg(format!(
                "--pgsql-db={}",
                config.get_dbname().unwrap_or(user)
            ))
            .arg(command);
        let said = all_output(&run_quietly(&mut sysbench)?);
        ensure!(!said.contains("FATAL"), "{said}");
        Ok(())
    }
}

fn run_quietly(command: &mut Command) -> Result<Output> {
    run_with(command.stdin(Stdio::null()))
}

/// Runs with the input that the command has; a bad exit code is an error that holds what it said.
fn run_with(command: &mut Command) -> Result<Output> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.code() != Some(OUT_OF_TIME),
        "no end within {PROGRAM_LIMIT:?}: {}",
        all_output(&output)
    );
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        all_output(&output)
    );
    Ok(output)
}

fn all_output(output: &Output) -> String {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    format!(
        "{}{}",
        out.trim_end(),
        if err.is_empty() {
            String::new()
        } else {
            format!(" {}", err.trim_end())
        }
    )
}
