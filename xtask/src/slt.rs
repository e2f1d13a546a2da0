//! Runs the `.slt` files of `tests/slt` against a server, over the wire.
//!
//! The files state what PostgreSQL answers, so PostgreSQL itself is the default peer: a file that fails
//! there is wrong. Each file has a fresh database. Text is shown as the test of the same files shows it:
//! `NULL`, `(empty)`, else the value's own text. Lines for one server alone carry
//! `skipif`/`onlyif` with the label `postgres` or `phantomdb`.
//!
//! The runner's crate is behind the feature `slt`; without it this task calls cargo once more with it.

use std::path::PathBuf;

use anyhow::Result;

use crate::peer::Peer;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  cargo xtask slt\n  \
    cargo xtask slt --file joins\n  \
    cargo xtask slt --peer phantom --binary target/release/phantomdb")]
pub struct Args {
    /// The server that runs the files.
    #[arg(long, value_enum, default_value_t = Peer::Postgres)]
    peer: Peer,
    /// One file only, by its name without the ending.
    #[arg(long)]
    file: Option<String>,
    /// A PhantomDB binary instead of this workspace's release build.
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[cfg(not(feature = "slt"))]
pub async fn run(args: Args) -> Result<bool> {
    use anyhow::Context;
    use clap::ValueEnum;

    let mut cargo =
        std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--quiet", "--package", "xtask", "--features", "slt"]);
    cargo.args(["--", "slt", "--peer"]);
    if let Some(peer) = args.peer.to_possible_value() {
        cargo.arg(peer.get_name());
    }
    if let Some(file) = &args.file {
        cargo.args(["--file", file]);
    }
    if let Some(binary) = &args.binary {
        cargo.arg("--binary").arg(binary);
    }
    let status = cargo.status().context("cannot run cargo")?;
    Ok(status.success())
}

#[cfg(feature = "slt")]
pub async fn run(args: Args) -> Result<bool> {
    over_the_wire::run(args).await
}

#[cfg(feature = "slt")]
mod over_the_wire {
    use std::path::Path;

    use anyhow::{Context, Result, ensure};
    use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Record, Runner};
    use tokio_postgres::{Error, SimpleQueryMessage};

    use super::Args;
    use crate::peer::{Peer, Server, Session, connect, sqlstate, try_connect, workspace_folder};

    pub async fn run(args: Args) -> Result<bool> {
        let folder = workspace_folder().join("tests/slt");
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).context("no folder tests/slt")? {
            let path = entry?.path();
            let name = path.file_stem().map(|stem| stem.to_string_lossy());
            let chosen = args.file.is_none() || name.as_deref() == args.file.as_deref();
            if chosen && path.extension().is_some_and(|extension| extension == "slt") {
                files.push(path);
            }
        }
        ensure!(!files.is_empty(), "no .slt file is selected");
        files.sort();
        let scratch = tempfile::tempdir()?;
        crate::peer::readable_by_all(scratch.path())?;
        let program = args.peer.program(args.binary.as_deref())?;
        println!("{}", program.version()?);
        let mut server = Server::start(&program, &scratch.path().join("data")).await?;
        let mut good = true;
        for file in &files {
            let failures = run_file(&server, args.peer, file).await?;
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            println!(
                "{name}: {}",
                if failures.is_empty() { "ok" } else { "FAILED" }
            );
            for failure in &failures {
                println!("{failure}\n");
            }
            good &= failures.is_empty();
        }
        server.stop()?;
        Ok(good)
    }

    async fn run_file(server: &Server, peer: Peer, file: &Path) -> Result<Vec<String>> {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let database = format!("slt_{name}");
        let admin = connect(&server.dsn()).await?;
        admin
            .batch_execute(&format!("CREATE DATABASE {database}"))
            .await?;
        let dsn = server.dsn_of(&database);
        let mut runner = Runner::new(|| {
            let dsn = dsn.clone();
            async move { Ok(Client(try_connect(&dsn).await?)) }
        });
        runner.add_label(match peer {
            Peer::Postgres => "postgres",
            Peer::Phantom => "phantomdb",
        });
        let mut failures = Vec::new();
        for record in sqllogictest::parse_file::<DefaultColumnType>(file)? {
            if matches!(record, Record::Halt { .. }) {
                break;
            }
            if let Err(failure) = runner.run_async(record).await {
                failures.push(failure.to_string());
            }
        }
        Ok(failures)
    }

    struct Client(Session);

    #[async_trait::async_trait]
    impl AsyncDB for Client {
        type Error = Error;
        type ColumnType = DefaultColumnType;

        async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
            let mut columns = None;
            let mut rows = Vec::new();
            let mut count = 0;
            for message in self.0.simple_query(sql).await? {
                match message {
                    SimpleQueryMessage::RowDescription(described) => {
                        columns = Some(described.len());
                        rows.clear();
                    }
                    SimpleQueryMessage::Row(row) => {
                        let cells = (0..row.len()).map(|index| match row.get(index) {
                            None => "NULL".to_owned(),
                            Some("") => "(empty)".to_owned(),
                            Some(text) => text.to_owned(),
                        });
                        rows.push(cells.collect());
                    }
                    SimpleQueryMessage::CommandComplete(affected) => count = affected,
                    _ => {}
                }
            }
            Ok(match columns {
                Some(columns) => DBOutput::Rows {
                    types: vec![DefaultColumnType::Text; columns],
                    rows,
                },
                None => DBOutput::StatementComplete(count),
            })
        }

        async fn shutdown(&mut self) {}

        fn error_sql_state(error: &Error) -> Option<String> {
            sqlstate(error).map(str::to_owned)
        }
    }
}
