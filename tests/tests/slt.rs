//! Runs `slt/*.slt`, each on a fresh store in memory, through the session that the wire layer uses.

use sql::instance::{Instance, InstanceOptions, StartupParams};
use sql::response::{Response, ResultColumn};
use sql::session::Session;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::{Datum, Error, Row};

struct Client {
    session: Session,
}

impl Client {
    async fn new(instance: &Arc<Instance>) -> Result<Client, Error> {
        let user = "phantom".to_string();
        let parameters = StartupParams {
            user,
            ..StartupParams::default()
        };
        let session = instance.connect(parameters).await?;
        Ok(Client { session })
    }

    fn show(&self, columns: &[ResultColumn], row: &Row) -> Vec<String> {
        let context = self.session.format_context();
        let cells = row.iter().zip(columns);
        cells
            .map(|(datum, column)| match datum {
                Datum::Null => "NULL".to_string(),
                value => match value.to_text(&column.sql_type, context) {
                    text if text.is_empty() => "(empty)".to_string(),
                    text => text,
                },
            })
            .collect()
    }
}

#[async_trait::async_trait]
impl AsyncDB for Client {
    type Error = Error;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Error> {
        let mut query = self.session.simple(sql);
        let mut output = DBOutput::StatementComplete(0);
        while let Some(response) = self.session.next_simple(&mut query).await {
            output = match response? {
                Response::Rows { set, .. } => {
                    let columns = Arc::clone(&set.columns);
                    let rows = match set.collect().await {
                        Ok(rows) => rows,
                        Err(error) => {
                            self.session.fail();
                            return Err(error);
                        }
                    };
                    DBOutput::Rows {
                        types: vec![DefaultColumnType::Text; columns.len()],
                        rows: rows.iter().map(|row| self.show(&columns, row)).collect(),
                    }
                }
                Response::Complete(tag) => {
                    let count = tag.rsplit(' ').next().and_then(|n| n.parse().ok());
                    DBOutput::StatementComplete(count.unwrap_or(0))
                }
                _ => DBOutput::StatementComplete(0),
            };
        }
        Ok(output)
    }

    async fn shutdown(&mut self) {}

    fn error_sql_state(error: &Error) -> Option<String> {
        Some(error.state.as_str().to_string())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn features() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("slt");
    let only = std::env::var("SLT").ok();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the slt folder is part of the repository")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "slt"))
        .filter(|path| {
            only.as_ref()
                .is_none_or(|name| path.ends_with(format!("{name}.slt")))
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no .slt file is selected");
    let mut failures = Vec::new();
    for file in files {
        if let Err(failure) = run_file(&file).await {
            failures.push(format!("{}: {failure}", file.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

async fn run_file(file: &Path) -> Result<(), String> {
    let store = node::testing::memory_store().map_err(|error| error.to_string())?;
    let options = InstanceOptions::default();
    let coordinator = store.coordinator(options.transaction_limits());
    let instance = Instance::open(coordinator, node::testing::real_env(), options)
        .await
        .map_err(|error| error.to_string())?;
    let mut runner = Runner::new(|| {
        let instance = Arc::clone(&instance);
        async move { Client::new(&instance).await }
    });
    runner.add_label("phantomdb");
    // A failure does not end the file: one run shows all that differs.
    let mut failures = Vec::new();
    match sqllogictest::parse_file::<DefaultColumnType>(file) {
        Ok(records) => {
            for record in records {
                if matches!(record, sqllogictest::Record::Halt { .. }) {
                    break;
                }
                if let Err(failure) = runner.run_async(record).await {
                    failures.push(failure.to_string());
                }
            }
        }
        Err(error) => failures.push(error.to_string()),
    }
    drop(runner);
    store.shutdown().await;
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("\n"))
    }
}
